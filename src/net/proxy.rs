//! Which proxy a connection goes through, if any.
//!
//! The rules are Go's `httpproxy`, which Prometheus, Parca and grpc-go use:
//! `no_proxy` entries are hosts (with their subdomains), `.suffixes`, addresses,
//! CIDR ranges, each but the last with an optional port, or `*`; where rules are
//! consulted, `localhost` and loopback addresses are never proxied.

use crate::settings::{Problem, Secret};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};
use std::{borrow::Cow, collections::BTreeMap, fmt, net::IpAddr, sync::Arc};
use url::Url;

/// The proxy keys of prometheus/common v0.67.5, flattened into other settings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct ProxySettings {
    /// The proxy, `http://` or `https://`, user and password in it if it wants
    /// them. Plain HTTP requests are forwarded by it, all else goes through
    /// `CONNECT`.
    pub proxy_url: Option<ProxyUrl>,
    /// Comma-separated hosts, `.suffixes`, addresses and CIDR ranges that are
    /// reached directly, each with an optional port.
    pub no_proxy: Option<String>,
    /// Takes the proxy from `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, in upper
    /// or lower case, instead of from `proxy_url` and `no_proxy`.
    pub proxy_from_environment: bool,
    /// Headers of `CONNECT` requests.
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
}

/// A proxy's address, whose password is not printed.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct ProxyUrl(String);

/// One proxy to connect to.
#[derive(Clone, Debug)]
pub(crate) struct ProxyServer {
    /// Whether the connection to the proxy itself is TLS.
    pub(crate) tls: bool,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    /// Given, or the scheme's.
    pub(crate) port: u16,
    /// `proxy-authorization`, of the user and password in the address.
    pub(crate) authorization: Option<HeaderValue>,
}

/// The checked settings: who is asked which proxy to use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies(Option<Arc<Rules>>);

#[derive(Debug)]
struct Rules {
    http: Option<ProxyServer>,
    https: Option<ProxyServer>,
    /// `None`: everything is proxied, loopback too.
    except: Option<NoProxy>,
    connect_header: HeaderMap,
}

/// The parsed `no_proxy`.
#[derive(Debug, Default, PartialEq)]
struct NoProxy {
    all: bool,
    networks: Vec<IpNet>,
    addresses: Vec<(IpAddr, Option<u16>)>,
    /// Suffix with its leading dot, port, whether the bare name matches too.
    domains: Vec<(String, Option<u16>, bool)>,
}

// === impl ProxySettings ===

impl ProxySettings {
    /// Everything that is wrong, by prometheus/common's rules.
    pub fn problems(&self) -> Vec<Problem> {
        self.build(&|_| None).err().unwrap_or_default()
    }

    /// The proxies in force, the environment included.
    pub(crate) fn proxies(&self) -> Result<Proxies, Vec<Problem>> {
        self.build(&|name| std::env::var(name).ok())
    }

    fn build(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Proxies, Vec<Problem>> {
        let mut problems = Vec::new();
        let url = self.proxy_url.as_ref().filter(|url| !url.0.is_empty());
        let no_proxy = self.no_proxy.as_deref().filter(|list| !list.is_empty());
        let mut wrong = |path: &str, message: &str| problems.push(Problem::new(path, message));
        if !self.proxy_connect_header.is_empty() && !self.proxy_from_environment && url.is_none() {
            wrong(
                "proxy_connect_header",
                "it needs proxy_url or proxy_from_environment",
            );
        }
        if self.proxy_from_environment && url.is_some() {
            wrong(
                "proxy_url",
                "proxy_from_environment already says which proxy: remove one of the two",
            );
        }
        if self.proxy_from_environment && no_proxy.is_some() {
            wrong(
                "no_proxy",
                "with proxy_from_environment it is read from NO_PROXY: remove one of the two",
            );
        }
        if !self.proxy_from_environment && url.is_none() && no_proxy.is_some() {
            wrong("no_proxy", "it needs proxy_url");
        }
        let connect_header = self.connect_header(&mut problems);
        let rules = if self.proxy_from_environment {
            let any = |upper: &str| {
                env(upper)
                    .or_else(|| env(&upper.to_ascii_lowercase()))
                    .filter(|value| !value.is_empty())
            };
            let server = |name: &str, problems: &mut Vec<Problem>| {
                any(name).and_then(|url| {
                    ProxyServer::parse(&url)
                        .map_err(|message| {
                            problems.push(Problem::new(
                                "proxy_from_environment",
                                format!("{name} {message}"),
                            ));
                        })
                        .ok()
                })
            };
            Rules {
                http: server("HTTP_PROXY", &mut problems),
                https: server("HTTPS_PROXY", &mut problems),
                except: Some(NoProxy::parse(&any("NO_PROXY").unwrap_or_default())),
                connect_header,
            }
        } else {
            let server = url.and_then(|url| {
                ProxyServer::parse(&url.0)
                    .map_err(|message| problems.push(Problem::new("proxy_url", message)))
                    .ok()
            });
            Rules {
                http: server.clone(),
                https: server,
                except: no_proxy.map(NoProxy::parse),
                connect_header,
            }
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let used = rules.http.is_some() || rules.https.is_some();
        Ok(Proxies(used.then(|| Arc::new(rules))))
    }

    fn connect_header(&self, problems: &mut Vec<Problem>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, values) in &self.proxy_connect_header {
            let path = format!("proxy_connect_header.{name}");
            let Ok(parsed) = HeaderName::try_from(name.as_str()) else {
                problems.push(Problem::new(path, "no header name"));
                continue;
            };
            for value in values {
                match HeaderValue::try_from(value.expose()) {
                    Ok(mut value) => {
                        value.set_sensitive(true);
                        headers.append(parsed.clone(), value);
                    }
                    Err(_) => problems.push(Problem::new(&path, "no header value")),
                }
            }
        }
        headers
    }
}

// === impl Proxies ===

impl Proxies {
    /// The proxy for a connection to `host`, without brackets, and `port`.
    /// `secure`: as for `https`, which is also how gRPC chooses.
    pub(crate) fn choose(&self, secure: bool, host: &str, port: u16) -> Option<&ProxyServer> {
        let rules = self.0.as_deref()?;
        let server = if secure { &rules.https } else { &rules.http };
        server.as_ref().filter(|_| {
            rules
                .except
                .as_ref()
                .is_none_or(|except| !except.matches(host, port))
        })
    }

    /// The headers of `CONNECT` requests.
    pub(crate) fn connect_header(&self) -> Option<&HeaderMap> {
        self.0.as_deref().map(|rules| &rules.connect_header)
    }
}

// === impl ProxyServer ===

impl ProxyServer {
    fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(&with_scheme(text))
            .map_err(|error| format!("is no proxy address: {error}"))?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            other => {
                return Err(format!(
                    "names a {other} proxy, which is not supported: use an http or https proxy"
                ));
            }
        };
        let host = url
            .host_str()
            .ok_or_else(|| "names no proxy host".to_owned())?;
        Ok(Self {
            tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(if tls { 443 } else { 80 }),
            authorization: basic(&url),
        })
    }

    /// `host:port`, for messages.
    pub(crate) fn address(&self) -> String {
        address(&self.host, self.port)
    }
}

/// `host:port` alone means an HTTP proxy, as in Go.
fn with_scheme(text: &str) -> Cow<'_, str> {
    if text.contains("://") {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("http://{text}"))
    }
}

/// `host:port`, an IPv6 address in brackets.
pub(crate) fn address(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Host, without brackets, and port of a URI, the scheme's port if none is given.
/// `None` when there is no host, or a port that is none.
pub(crate) fn host_port(uri: &Uri) -> Option<(&str, u16)> {
    let authority = uri.authority()?;
    let host = authority.host();
    let (_, tail) = authority.as_str().rsplit_once(host)?;
    let port = match tail.strip_prefix(':') {
        None | Some("") if uri.scheme_str() == Some("https") => 443,
        None | Some("") => 80,
        Some(port) => port.parse().ok()?,
    };
    let bare = host.trim_matches(['[', ']']);
    (!bare.is_empty()).then_some((bare, port))
}

fn basic(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let user = percent_decode_str(url.username()).decode_utf8_lossy();
    let password = percent_decode_str(url.password().unwrap_or_default()).decode_utf8_lossy();
    let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Adds the proxy's credentials, unless the settings set their own.
pub(crate) fn authorize(server: &ProxyServer, headers: &mut HeaderMap) {
    if let Some(value) = &server.authorization {
        headers
            .entry(header::PROXY_AUTHORIZATION)
            .or_insert_with(|| value.clone());
    }
}

// === impl NoProxy ===

impl NoProxy {
    fn parse(list: &str) -> Self {
        let mut parsed = Self::default();
        for entry in list.split(',') {
            parsed.add(&entry.trim().to_ascii_lowercase());
        }
        parsed
    }

    fn add(&mut self, entry: &str) {
        if entry == "*" {
            self.all = true;
            return;
        }
        if let Ok(network) = entry.parse::<IpNet>() {
            self.networks.push(network);
            return;
        }
        let (host, port) = split_port(entry);
        if let Ok(address) = host.parse::<IpAddr>() {
            self.addresses.push((address, port));
        } else if let Some(suffix) = host.strip_prefix('*').unwrap_or(host).strip_prefix('.') {
            self.domains.push((format!(".{suffix}"), port, false));
        } else if !host.is_empty() {
            self.domains.push((format!(".{host}"), port, true));
        }
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        let host = host.to_ascii_lowercase();
        let host = host.trim_end_matches('.');
        if self.all || host == "localhost" {
            return true;
        }
        let on_port = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        if let Ok(address) = host.parse::<IpAddr>() {
            return address.is_loopback()
                || self
                    .networks
                    .iter()
                    .any(|network| network.contains(&address))
                || self
                    .addresses
                    .iter()
                    .any(|(known, port)| *known == address && on_port(port));
        }
        self.domains.iter().any(|(suffix, port, bare)| {
            (host.ends_with(suffix) || (*bare && host == &suffix[1..])) && on_port(port)
        })
    }
}

fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some(inner) = entry.strip_prefix('[') {
        let (host, rest) = inner.split_once(']').unwrap_or((inner, ""));
        return (
            host,
            rest.strip_prefix(':').and_then(|port| port.parse().ok()),
        );
    }
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

// === impl ProxyUrl ===

impl From<&str> for ProxyUrl {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl ProxyUrl {
    fn redacted(&self) -> Cow<'_, str> {
        if !self.0.contains('@') {
            return Cow::Borrowed(&self.0);
        }
        let hidden = Url::parse(&with_scheme(&self.0)).ok().and_then(|mut url| {
            url.set_password(Some("REDACTED")).ok()?;
            Some(String::from(url))
        });
        Cow::Owned(hidden.unwrap_or_else(|| "[REDACTED]".into()))
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl Serialize for ProxyUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.redacted())
    }
}

impl JsonSchema for ProxyUrl {
    fn schema_name() -> Cow<'static, str> {
        "ProxyUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "uri"})
    }
}

#[cfg(test)]
mod tests;
