//! The metadata of requests, on its way out.
//!
//! What a receiver was allowed to keep (`include_metadata`), and what an identity's
//! `metadata` says, goes out again as headers, unless the exporter sets the same
//! header itself or the header belongs to one connection or one message.

use crate::profile::Origin;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::collections::HashSet;

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
    "otlp-profiles-development-version",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Makes headers of metadata.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// What the client sets by its settings.
    taken: HashSet<HeaderName>,
}

// === impl Metadata ===

impl Metadata {
    /// Beside the headers `names` of the settings, and `authorization` with
    /// `credentials`.
    pub fn new<'a>(names: impl Iterator<Item = &'a String>, credentials: bool) -> Self {
        let names = names.filter_map(|name| HeaderName::try_from(name).ok());
        let credentials = credentials.then_some(http::header::AUTHORIZATION);
        Self {
            taken: names.chain(credentials).collect(),
        }
    }

    /// Adds the metadata of `origin`.
    pub fn add(&self, origin: &Origin, headers: &mut HeaderMap) {
        for label in &origin.metadata {
            let name = HeaderName::try_from(&*label.name);
            let value = HeaderValue::try_from(&*label.value);
            if let (Ok(name), Ok(value)) = (name, value)
                && !is_reserved(&name)
                && !self.sets(&name)
            {
                headers.insert(name, value);
            }
        }
    }

    /// Whether the client sets this header itself.
    pub fn sets(&self, name: &HeaderName) -> bool {
        self.taken.contains(name)
    }
}

fn is_reserved(name: &HeaderName) -> bool {
    name.as_str().starts_with("grpc-") || RESERVED.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_goes_out_unless_the_exporter_sets_it_or_it_belongs_to_a_connection() {
        let names = ["X-Region".to_owned()];
        let known = Metadata::new(names.iter(), true);
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
        let mut headers = HeaderMap::new();
        known.add(&origin, &mut headers);
        let sent: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v)).collect();
        let expected = ("x-scope-orgid", &HeaderValue::from_static("apps"));
        assert_eq!(sent, [expected]);
    }
}
