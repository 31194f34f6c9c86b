//! Where requests go, and who may see credentials.

use super::HttpError;
use crate::net::proxy::{address, host_port};
use http::{HeaderValue, StatusCode, Uri};
use std::sync::Arc;
use url::Url;

/// Where a request goes.
pub(super) struct Place {
    /// What connections are kept under.
    pub(super) key: Arc<str>,
    /// The `host` header.
    pub(super) host: HeaderValue,
}

// === impl Place ===

impl Place {
    pub(super) fn of(uri: &Uri) -> Result<Self, HttpError> {
        let wrong = || HttpError::Address(uri.to_string());
        let scheme = uri
            .scheme_str()
            .filter(|scheme| matches!(*scheme, "http" | "https"))
            .ok_or_else(wrong)?;
        let (host, port) = host_port(uri).ok_or_else(wrong)?;
        let authority = match uri.port_u16() {
            None if host.contains(':') => format!("[{host}]"),
            None => host.to_owned(),
            Some(_) => address(host, port),
        };
        Ok(Self {
            key: format!("{scheme}://{}", address(host, port)).into(),
            host: HeaderValue::try_from(authority).map_err(|_| wrong())?,
        })
    }
}

/// Whether an answer of this status names another address.
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Whether `next` may see the credentials of `first`: the same scheme, host and
/// port, or the same host by `https` on its own port after `http` on its own.
pub(super) fn is_same_place(first: &Uri, next: &Uri) -> bool {
    let places = (host_port(first), host_port(next));
    let (Some((host, port)), Some((next_host, next_port))) = places else {
        return false;
    };
    let same_scheme = first.scheme() == next.scheme() && port == next_port;
    let upgraded = next.scheme_str() == Some("https") && port == 80 && next_port == 443;
    host.eq_ignore_ascii_case(next_host) && (same_scheme || upgraded)
}

/// The address that `location` names, seen from `base`.
pub(super) fn join(base: &Uri, location: &HeaderValue) -> Result<Uri, HttpError> {
    let text = String::from_utf8_lossy(location.as_bytes());
    let wrong = || HttpError::Redirect(text.clone().into_owned());
    let mut url = Url::parse(&base.to_string())
        .and_then(|base| base.join(&text))
        .map_err(|_| wrong())?;
    url.set_fragment(None);
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong());
    }
    url.as_str().parse().map_err(|_| wrong())
}
