//! Headers of requests, beside those of the client's settings.
//!
//! The metadata that a receiver was allowed to keep (`include_metadata`) goes
//! out again, unless the exporter sets the same header itself.

use crate::profile::Origin;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::collections::HashSet;

/// The version of the development layout, proto PR 857: an integer that is
/// raised with each incompatible change; absent means 1.
const VERSION: HeaderName = HeaderName::from_static("otlp-profiles-development-version");

/// Headers that belong to a connection or to a message, or that a client sets.
const RESERVED: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Makes the headers of requests.
#[derive(Clone, Debug)]
pub struct Headers {
    /// What the client sets by its settings.
    taken: HashSet<HeaderName>,
}

// === impl Headers ===

impl Headers {
    /// Beside the headers `names` of the settings, and `authorization` with
    /// `credentials`.
    pub fn new<'a>(names: impl Iterator<Item = &'a String>, credentials: bool) -> Self {
        let names = names.filter_map(|name| HeaderName::try_from(name).ok());
        let credentials = credentials.then_some(http::header::AUTHORIZATION);
        Self {
            taken: names.chain(credentials).collect(),
        }
    }

    /// The headers of a request of profiles from `origin`.
    pub fn of(&self, origin: &Origin) -> HeaderMap {
        let mut headers = self.bare();
        for label in &origin.metadata {
            let name = HeaderName::try_from(&*label.name);
            let value = HeaderValue::try_from(&*label.value);
            if let (Ok(name), Ok(value)) = (name, value)
                && !is_reserved(&name)
                && !self.taken.contains(&name)
            {
                headers.insert(name, value);
            }
        }
        headers
    }

    /// The headers of a probe.
    pub fn bare(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        if !self.taken.contains(&VERSION) {
            headers.insert(VERSION, HeaderValue::from_static("1"));
        }
        headers
    }
}

fn is_reserved(name: &HeaderName) -> bool {
    name.as_str().starts_with("grpc-") || *name == VERSION || RESERVED.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_goes_out_unless_the_exporter_sets_it_or_it_belongs_to_a_connection() {
        let names = ["X-Region".to_owned()];
        let headers = Headers::new(names.iter(), true);
        let metadata = [
            ("authorization", "Bearer theirs"),
            ("content-encoding", "gzip"),
            ("grpc-timeout", "1S"),
            ("otlp-profiles-development-version", "9"),
            ("x-region", "theirs"),
            ("x-scope-orgid", "apps"),
            ("x-bad", "a\nb"),
        ];
        let origin = Origin {
            metadata: metadata.into_iter().collect(),
            ..Origin::default()
        };
        let sent = headers.of(&origin);
        let mut sent: Vec<_> = sent.iter().map(|(n, v)| (n.as_str(), v)).collect();
        sent.sort_unstable_by_key(|(name, _)| *name);
        assert_eq!(
            sent,
            [
                (
                    "otlp-profiles-development-version",
                    &HeaderValue::from_static("1")
                ),
                ("x-scope-orgid", &HeaderValue::from_static("apps")),
            ]
        );
    }
}
