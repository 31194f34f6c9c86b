//! What browsers need: CORS (the Fetch standard), and headers of every response.
//!
//! Preflight requests are answered here; the others pass, and their answers say
//! whether the page may read them. Credentials are allowed to origins that are
//! named, and never to all.

use super::{Answer, Answering, Handler, Peer};
use crate::settings::{Problem, Secret};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// Which web pages may send, as the Collector has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Cors {
    /// Origins: `https://app.example`, `https://*.example` or `*`.
    pub allowed_origins: Vec<String>,
    /// Request headers beside `accept`, `content-type` and `x-requested-with`;
    /// `*` for all.
    pub allowed_headers: Vec<String>,
    /// Response headers that a page may read.
    pub exposed_headers: Vec<String>,
    /// How long browsers may remember the answer, in seconds.
    pub max_age: u64,
}

/// A handler whose responses have headers that the configuration asks for.
pub(super) struct WithHeaders {
    inner: Arc<dyn Handler>,
    cors: Option<Cors>,
    fixed: Vec<(HeaderName, HeaderValue)>,
}

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");

/// Always allowed.
const HEADERS: [&str; 3] = ["accept", "content-type", "x-requested-with"];

// === impl Cors ===

impl Cors {
    /// Everything that is wrong.
    pub fn problems(&self) -> Vec<Problem> {
        let many = |(_, origin): &(usize, &String)| origin.matches('*').count() > 1;
        let origins = self.allowed_origins.iter().enumerate().filter(many);
        let mut problems: Vec<_> = origins
            .map(|(at, _)| {
                Problem::new(format!("allowed_origins[{at}]"), "at most one * is allowed")
            })
            .collect();
        for (key, names) in [
            ("allowed_headers", &self.allowed_headers),
            ("exposed_headers", &self.exposed_headers),
        ] {
            for (at, name) in names.iter().enumerate() {
                if name != "*" && name.parse::<HeaderName>().is_err() {
                    problems.push(Problem::new(format!("{key}[{at}]"), "no header name"));
                }
            }
        }
        problems
    }

    fn allows_origin(&self, origin: &str) -> bool {
        self.allowed_origins
            .iter()
            .any(|allowed| match allowed.split_once('*') {
                None => allowed.eq_ignore_ascii_case(origin),
                Some((start, end)) => {
                    origin.len() >= start.len() + end.len()
                        && origin.starts_with(start)
                        && origin.ends_with(end)
                }
            })
    }

    fn allows_headers(&self, names: &str) -> bool {
        let allowed = |name: &str| {
            HEADERS.iter().any(|known| known.eq_ignore_ascii_case(name))
                || self
                    .allowed_headers
                    .iter()
                    .any(|known| known == "*" || known.eq_ignore_ascii_case(name))
        };
        names
            .split(',')
            .map(str::trim)
            .all(|name| name.is_empty() || allowed(name))
    }

    /// Adds what an answer to `origin` needs.
    fn admit(&self, origin: &HeaderValue, headers: &mut HeaderMap) -> bool {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        if !origin
            .to_str()
            .is_ok_and(|origin| self.allows_origin(origin))
        {
            return false;
        }
        if self.allowed_origins.iter().any(|allowed| allowed == "*") {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_ORIGIN,
                HeaderValue::from_static("*"),
            );
        } else {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        true
    }

    /// The answer to a preflight request.
    fn preflight(&self, asked: &HeaderMap) -> Response<Answer> {
        let mut response = Response::new(Answer::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        let Some(origin) = asked.get(header::ORIGIN) else {
            return response;
        };
        let names = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        let good = names.is_none_or(|names| names.to_str().is_ok_and(|n| self.allows_headers(n)));
        if !good || !self.admit(origin, headers) {
            return response;
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        if let Some(names) = names {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        if self.max_age > 0 {
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.into());
        }
        response
    }
}

// === impl WithHeaders ===

impl WithHeaders {
    /// Wraps `inner`, if there is anything to add. What is no header is left
    /// out; the settings have said so.
    pub(super) fn around(
        inner: Arc<dyn Handler>,
        cors: Option<Cors>,
        fixed: &BTreeMap<String, Secret>,
    ) -> Arc<dyn Handler> {
        let fixed: Vec<_> = (fixed.iter())
            .filter_map(|(name, value)| {
                let name = HeaderName::try_from(name).ok()?;
                Some((name, HeaderValue::try_from(value.expose()).ok()?))
            })
            .collect();
        let cors = cors.filter(|cors| !cors.allowed_origins.is_empty());
        if cors.is_none() && fixed.is_empty() {
            return inner;
        }
        Arc::new(Self { inner, cors, fixed })
    }

    fn dress(&self, origin: Option<&HeaderValue>, response: &mut Response<Answer>) {
        let headers = response.headers_mut();
        for (name, value) in &self.fixed {
            headers.insert(name.clone(), value.clone());
        }
        let (Some(cors), Some(origin)) = (&self.cors, origin) else {
            return;
        };
        if cors.admit(origin, headers) && !cors.exposed_headers.is_empty() {
            let exposed = HeaderValue::try_from(cors.exposed_headers.join(", "));
            if let Ok(exposed) = exposed {
                headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
            }
        }
    }
}

impl Handler for WithHeaders {
    fn handle(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Answering {
        let asked = request.headers();
        let preflight = request.method() == Method::OPTIONS
            && asked.contains_key(header::ORIGIN)
            && asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        Box::pin(async move {
            if let (true, Some(cors)) = (preflight, &self.cors) {
                let mut response = cors.preflight(request.headers());
                self.dress(None, &mut response);
                return response;
            }
            let origin = request.headers().get(header::ORIGIN).cloned();
            let mut response = self.inner.clone().handle(request, peer).await;
            self.dress(origin.as_ref(), &mut response);
            response
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str]) -> Cors {
        Cors {
            allowed_origins: origins.iter().map(|o| (*o).to_owned()).collect(),
            allowed_headers: vec!["Authorization".to_owned()],
            max_age: 600,
            ..Cors::default()
        }
    }

    fn asked(origin: &'static str, headers: &'static str) -> HeaderMap {
        let mut map = HeaderMap::new();
        map.insert(header::ORIGIN, HeaderValue::from_static(origin));
        let names = HeaderValue::from_static(headers);
        map.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, names);
        map
    }

    fn allowed(cors: &Cors, origin: &'static str, headers: &'static str) -> Option<String> {
        let response = cors.preflight(&asked(origin, headers));
        let value = response
            .headers()
            .get(header::ACCESS_CONTROL_ALLOW_ORIGIN)?;
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn only_configured_origins_and_headers_pass() {
        let cors = cors(&["https://*.example", "http://localhost:3000"]);
        let good = allowed(&cors, "https://app.example", "content-type, authorization");
        assert_eq!(good.unwrap(), "https://app.example");
        assert!(allowed(&cors, "http://localhost:3000", "").is_some());
        assert_eq!(allowed(&cors, "https://evil.test", "content-type"), None);
        assert_eq!(allowed(&cors, "https://app.example", "x-other"), None);
    }

    #[test]
    fn all_origins_get_no_credentials() {
        let response = cors(&["*"]).preflight(&asked("https://any.test", "content-type"));
        let headers = response.headers();
        assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
        assert_eq!(headers[header::ACCESS_CONTROL_MAX_AGE], "600");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let mut wrong = cors(&["https://*.*.example"]);
        wrong.exposed_headers = vec!["no name".to_owned()];
        let problems = wrong.problems();
        let paths: Vec<_> = problems.iter().map(|p| p.path.as_str()).collect();
        assert_eq!(paths, ["allowed_origins[0]", "exposed_headers[0]"]);
    }
}
