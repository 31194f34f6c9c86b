//! The HTTP client of scraping.

mod settings;

pub use self::settings::{Authorization, BasicAuth, HttpClientSettings, HttpHeader, OAuth2};

use super::connect::{ConnectError, Phase};
use crate::settings::Problem;
use http::{Response, Uri};
use hyper::body::Incoming;
use std::sync::Arc;

/// Asks targets. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct HttpClient(Arc<Inner>);

#[derive(Debug)]
struct Inner;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The name has no address, or nothing answers there.
    #[error("{0}")]
    Connect(ConnectError),
    /// The TLS handshake failed.
    #[error("{0}")]
    Tls(ConnectError),
    /// The proxy cannot be reached or refuses.
    #[error("{0}")]
    Proxy(ConnectError),
    /// No credentials: the token server refuses, or a file holds what no header
    /// may.
    #[error("no credentials: {0}")]
    Auth(String),
    /// More than 10 redirects.
    #[error("more than 10 redirects, the last to {0}")]
    TooManyRedirects(String),
    /// The connection broke, or what came back is no HTTP.
    #[error("{cause}")]
    Io {
        /// The reason.
        cause: String,
    },
    /// The address cannot be asked.
    #[error("{0}")]
    Address(String),
}

// === impl HttpClient ===

impl HttpClient {
    /// A client, with the files that the settings name read for the first time.
    pub fn new(settings: &HttpClientSettings) -> Result<Self, Vec<Problem>> {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self(Arc::new(Inner)))
    }

    /// Asks for `uri`. Dropping the future ends the request; deadlines are the
    /// caller's.
    pub async fn get(&self, uri: &Uri) -> Result<Response<Incoming>, HttpError> {
        Err(HttpError::Address(format!("{uri} cannot be asked")))
    }
}

// === impl HttpError ===

impl From<ConnectError> for HttpError {
    fn from(error: ConnectError) -> Self {
        match error.phase {
            Phase::Resolve | Phase::Connect => Self::Connect(error),
            Phase::Proxy => Self::Proxy(error),
            Phase::Tls => Self::Tls(error),
        }
    }
}

#[cfg(test)]
mod tests;
