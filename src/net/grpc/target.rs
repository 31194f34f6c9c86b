//! What an endpoint names.

use crate::{net::proxy::host_port, settings::Problem};
use http::Uri;
use std::path::PathBuf;

/// Where a gRPC backend is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    /// Scheme and authority of requests.
    pub(super) origin: Uri,
    /// TLS or plaintext.
    pub(super) tls: bool,
    /// Where to connect.
    pub(super) place: Place,
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    /// A name or an address, and a port.
    Host { host: String, port: u16 },
    /// A unix socket.
    Unix(PathBuf),
}

// === impl Target ===

impl Target {
    /// Reads an endpoint. `insecure`: plaintext unless it says `https://`.
    pub(super) fn parse(endpoint: &str, insecure: bool) -> Result<Self, Problem> {
        if endpoint.is_empty() {
            return Err(wrong("it must be set: write host:port"));
        }
        if let Some(path) = endpoint.strip_prefix("unix:") {
            return Self::unix(path, !insecure);
        }
        let (tls, rest) = if let Some(rest) = endpoint.strip_prefix("https://") {
            (true, rest)
        } else if let Some(rest) = endpoint.strip_prefix("http://") {
            (false, rest)
        } else if let Some(rest) = endpoint.strip_prefix("dns:") {
            (!insecure, dns(rest)?)
        } else {
            (!insecure, endpoint)
        };
        if rest.contains("://") {
            return Err(wrong(
                "unknown scheme: write host:port, http://, https://, dns:/// or unix:",
            ));
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(wrong("gRPC has no path: write host:port alone"));
        }
        if authority.contains('@') {
            return Err(wrong("it must hold no credentials: use auth"));
        }
        let scheme = if tls { "https" } else { "http" };
        let origin: Uri = format!("{scheme}://{authority}")
            .parse()
            .map_err(|_| wrong("no address: write host:port, an IPv6 address in brackets"))?;
        let (host, port) = host_port(&origin).ok_or_else(|| wrong("no host: write host:port"))?;
        let place = Place::Host {
            host: host.to_owned(),
            port,
        };
        Ok(Self { origin, tls, place })
    }

    fn unix(path: &str, tls: bool) -> Result<Self, Problem> {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(wrong("no path: write unix:/path/to/socket"));
        }
        let scheme = if tls { "https" } else { "http" };
        Ok(Self {
            origin: format!("{scheme}://localhost")
                .parse()
                .map_err(|_| wrong("no address"))?,
            tls,
            place: Place::Unix(path.into()),
        })
    }
}

/// `dns:///host:port` or `dns:host:port`; a DNS server of its own is not
/// supported.
fn dns(rest: &str) -> Result<&str, Problem> {
    match rest.strip_prefix("//") {
        None => Ok(rest),
        Some(rest) => rest.strip_prefix('/').ok_or_else(|| {
            wrong("a DNS server in the endpoint is not supported: write dns:///host:port")
        }),
    }
}

fn wrong(message: &str) -> Problem {
    Problem::new("endpoint", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_choose_tls_and_place() {
        for (endpoint, insecure, origin, tls, host, port) in [
            (
                "parca:7070",
                false,
                "https://parca:7070/",
                true,
                "parca",
                7070,
            ),
            (
                "parca:7070",
                true,
                "http://parca:7070/",
                false,
                "parca",
                7070,
            ),
            ("parca", false, "https://parca/", true, "parca", 443),
            (
                "http://parca:80",
                false,
                "http://parca:80/",
                false,
                "parca",
                80,
            ),
            (
                "https://parca:7993/",
                true,
                "https://parca:7993/",
                true,
                "parca",
                7993,
            ),
            ("dns:///a.b:1", true, "http://a.b:1/", false, "a.b", 1),
            ("[::1]:7070", true, "http://[::1]:7070/", false, "::1", 7070),
        ] {
            let target = Target::parse(endpoint, insecure).unwrap();
            assert_eq!(target.origin.to_string(), origin, "{endpoint}");
            assert_eq!(target.tls, tls, "{endpoint}");
            let host = host.to_owned();
            assert_eq!(target.place, Place::Host { host, port }, "{endpoint}");
        }
    }

    #[test]
    fn unix_sockets_have_two_spellings() {
        for endpoint in ["unix:/run/p.sock", "unix:///run/p.sock"] {
            let target = Target::parse(endpoint, true).unwrap();
            assert_eq!(target.place, Place::Unix("/run/p.sock".into()));
        }
    }

    #[test]
    fn what_is_no_endpoint_says_what_to_write() {
        for endpoint in [
            "",
            "ftp://x:1",
            "https://x:1/path",
            "x:99999",
            "dns://8.8.8.8/x:1",
            "unix:",
            "user:pw@host:1",
            ":7070",
        ] {
            let problem = Target::parse(endpoint, false).unwrap_err();
            assert_eq!(problem.path, "endpoint", "{endpoint}");
        }
    }
}
