//! Headers of OTLP requests, beside those of the client's settings.

use crate::{exporters::shared::Metadata, profile::Origin};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The version of the development layout, proto PR 857: an integer that is
/// raised with each incompatible change; absent means 1.
const VERSION: HeaderName = HeaderName::from_static("otlp-profiles-development-version");

/// Makes the headers of requests.
#[derive(Clone, Debug)]
pub struct Headers {
    metadata: Metadata,
}

// === impl Headers ===

impl Headers {
    /// Beside the headers `names` of the settings, and `authorization` with
    /// `credentials`.
    pub fn new<'a>(names: impl Iterator<Item = &'a String>, credentials: bool) -> Self {
        Self {
            metadata: Metadata::new(names, credentials),
        }
    }

    /// The headers of a request of profiles from `origin`.
    pub fn of(&self, origin: &Origin) -> HeaderMap {
        let mut headers = self.bare();
        self.metadata.add(origin, &mut headers);
        headers
    }

    /// The headers of a probe.
    pub fn bare(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        if !self.metadata.sets(&VERSION) {
            headers.insert(VERSION, HeaderValue::from_static("1"));
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_said_unless_the_exporter_says_another() {
        let said = |names: &[String]| {
            let headers = Headers::new(names.iter(), false).of(&Origin::default());
            headers.get(VERSION).cloned()
        };
        assert_eq!(said(&[]), Some(HeaderValue::from_static("1")));
        assert_eq!(said(&[VERSION.to_string()]), None);
    }
}
