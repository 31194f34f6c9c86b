//! One scrape of one URL, told in full: `profile-relay scrape URL`.

use super::{explain, scrape};
use crate::{
    net::http::{HttpClient, HttpClientSettings},
    profile::pprof::{Checked, Pprof},
    runtime::computing,
    settings::{ByteSize, Problem},
};
use bytes::Bytes;
use http::{StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How one URL is scraped.
#[derive(Clone, Debug)]
pub struct OnceSettings {
    /// How it is reached.
    pub http: HttpClientSettings,
    /// The deadline, reading included.
    pub timeout: Duration,
    /// A larger answer is not read.
    pub body_size_limit: ByteSize,
    /// An answer that inflates to more is not looked at.
    pub body_size_limit_uncompressed: ByteSize,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct ScrapeOutcome {
    /// The status, if there was an answer.
    pub status: Option<StatusCode>,
    /// The answer's `content-type`.
    pub content_type: Option<String>,
    /// The body, whatever it is, if it could be read.
    pub body: Bytes,
    /// From the request to the end of the body.
    pub took: Duration,
    /// What is in the profile, or why there is none and what to do.
    pub result: Result<Checked, String>,
}

// === impl OnceSettings ===

impl Default for OnceSettings {
    fn default() -> Self {
        let job = super::settings::ScrapeConfig::default();
        Self {
            http: job.http,
            timeout: Duration::from_secs(60),
            body_size_limit: job.body_size_limit,
            body_size_limit_uncompressed: job.body_size_limit_uncompressed,
        }
    }
}

/// Scrapes `url` once. Only settings that cannot work are an error.
pub async fn scrape_once(
    settings: &OnceSettings,
    url: &str,
) -> Result<ScrapeOutcome, Vec<Problem>> {
    let client = HttpClient::new(&settings.http)?;
    let uri: Uri = url
        .parse()
        .ok()
        .filter(|uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")))
        .ok_or_else(|| {
            let message = format!("{url:?} is no URL: write http://host:port/debug/pprof/heap");
            vec![Problem::new("", message)]
        })?;
    let started = Instant::now();
    let mut outcome = ScrapeOutcome {
        status: None,
        content_type: None,
        body: Bytes::new(),
        took: Duration::ZERO,
        result: Err(String::new()),
    };
    outcome.result = outcome.fetch(settings, &client, &uri, started).await;
    outcome.took = started.elapsed();
    Ok(outcome)
}

// === impl ScrapeOutcome ===

impl ScrapeOutcome {
    async fn fetch(
        &mut self,
        settings: &OnceSettings,
        client: &HttpClient,
        uri: &Uri,
        started: Instant,
    ) -> Result<Checked, String> {
        let deadline = started + settings.timeout;
        let response = scrape::ask(client, uri, deadline, settings.timeout)
            .await
            .map_err(|failure| failure.to_string())?;
        let (parts, body) = response.into_parts();
        self.status = Some(parts.status);
        self.content_type = parts
            .headers
            .get(header::CONTENT_TYPE)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let limit = settings.body_size_limit.get();
        let limited = Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX));
        self.body = timeout_at(deadline, limited.collect())
            .await
            .map_err(|_| format!("the body did not end within {:?}", settings.timeout))?
            .map_err(|error| format!("the body cannot be read ({limit} bytes at most): {error}"))?
            .to_bytes();
        if parts.status != StatusCode::OK {
            let begin = self.body.get(..300).unwrap_or(&self.body);
            let quote = explain::one_line(&String::from_utf8_lossy(begin));
            return Err(explain::status(parts.status, &parts.headers, uri, &quote));
        }
        let pprof = Pprof::new(self.body.clone());
        let inflated = settings.body_size_limit_uncompressed.get();
        computing(move || pprof.check(inflated).cloned().map_err(ToString::to_string))
            .await
            .ok_or("stopped")?
    }
}

#[cfg(test)]
mod tests;
