//! From an address to a stream: names, proxies, TLS.
//!
//! One [`Connector`] serves HTTP and gRPC alike. Its errors name the phase and
//! the address and say what to try, since this is where most configurations go
//! wrong.

mod trouble;

pub(super) use self::trouble::late_alert;

use self::trouble::{connect_trouble, handshake_trouble};
use super::{
    proxy::{Proxies, ProxyServer, address, authorize, host_port},
    resolve::Resolve,
    stream::{Raw, Stream},
    tls::{CertificateMetrics, LiveTls},
};
use crate::{settings::Id, telemetry::Metrics};
use http::{HeaderMap, StatusCode, Uri};
use std::{
    fmt, io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The longest a TLS handshake or a proxy's answer may take.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest head of a proxy's answer.
const MAX_PROXY_HEAD: usize = 8 << 10;

/// Makes connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    shared: Arc<Shared>,
    place: Option<Place>,
}

/// What a [`Connector`] is made of.
#[derive(Debug)]
pub(super) struct Shared {
    /// For `https`; without it such addresses are refused.
    pub(super) tls: Option<LiveTls>,
    /// Which proxy to use.
    pub(super) proxies: Proxies,
    /// Tunnels plaintext too instead of asking the proxy to forward requests.
    pub(super) tunnel: bool,
    /// The longest that all addresses of a name may take together.
    pub(super) timeout: Duration,
    /// Who looks names up.
    pub(super) resolver: Arc<dyn Resolve>,
}

/// A fixed place to connect to, whatever the URI's host.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    /// One of the addresses of the host.
    Address(SocketAddr),
    /// A unix socket.
    Unix(Arc<Path>),
}

/// Where connecting stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The name has no address.
    Resolve,
    /// Nothing answers at the address.
    Connect,
    /// The proxy cannot be reached or refuses.
    Proxy,
    /// The TLS handshake.
    Tls,
    /// The first word of HTTP/2.
    Greeting,
}

/// No connection was made; nothing was sent to the target.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{phase} {address}: {cause}")]
pub struct ConnectError {
    /// Where it stopped.
    pub phase: Phase,
    /// `host:port`, or the proxy's, or a socket's path.
    pub address: String,
    /// The reason and the way out.
    pub cause: String,
}

// === impl Connector ===

impl Connector {
    /// Tells when the certificates that it uses end.
    pub(super) fn tell_ends(&self, metrics: &Metrics, component: &Id) {
        if let Some(tls) = &self.shared.tls {
            let ends: CertificateMetrics = metrics.set();
            ends.watch(component, tls.certificates());
        }
    }

    pub(super) fn new(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
            place: None,
        }
    }

    /// The same, always connecting to `place`, without a proxy.
    pub(super) fn at(&self, place: Place) -> Self {
        Self {
            shared: self.shared.clone(),
            place: Some(place),
        }
    }

    /// Connects to the host and port of `uri`, with TLS if it is `https`.
    pub async fn connect(&self, uri: &Uri) -> Result<Stream, ConnectError> {
        let secure = uri.scheme_str() == Some("https");
        let Some((host, port)) = host_port(uri) else {
            return Err(ConnectError::new(Phase::Resolve, uri, "it names no host"));
        };
        let (raw, forwarded) = match &self.place {
            Some(place) => (self.raw_at(place).await?, false),
            None => self.raw_to(host, port, secure).await?,
        };
        if secure {
            self.secure(raw, host, port).await
        } else {
            Ok(Stream::plain(raw, forwarded))
        }
    }

    /// Whether it shows a certificate of its own to those that ask for one.
    pub(super) fn shows_certificate(&self) -> bool {
        let tls = self.shared.tls.as_ref();
        tls.is_some_and(LiveTls::shows_certificate)
    }

    /// The credentials of the proxy that forwards plaintext requests to `uri`.
    pub(super) fn forward_headers(&self, uri: &Uri, headers: &mut HeaderMap) {
        let proxy =
            host_port(uri).and_then(|(host, port)| self.shared.proxies.choose(false, host, port));
        if let Some(proxy) = proxy {
            authorize(proxy, headers);
        }
    }

    /// Whether connections to `host` go through a proxy.
    pub(super) fn is_proxied(&self, host: &str, port: u16) -> bool {
        self.proxy(host, port, false).is_some()
    }

    fn proxy(&self, host: &str, port: u16, secure: bool) -> Option<&ProxyServer> {
        let secure = secure || self.shared.tunnel;
        self.shared.proxies.choose(secure, host, port)
    }

    async fn raw_at(&self, place: &Place) -> Result<Raw, ConnectError> {
        match place {
            Place::Address(address) => {
                let stream = tcp(*address, self.shared.timeout).await.map_err(|error| {
                    ConnectError::new(Phase::Connect, address, connect_trouble(&error))
                })?;
                Ok(Raw::Tcp(stream))
            }
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| {
                    let cause = connect_trouble(&error);
                    ConnectError::new(Phase::Connect, path.display(), cause)
                })?;
                Ok(Raw::Unix(stream))
            }
        }
    }

    /// The stream below TLS, and whether a proxy will forward what it carries.
    async fn raw_to(
        &self,
        host: &str,
        port: u16,
        secure: bool,
    ) -> Result<(Raw, bool), ConnectError> {
        let Some(proxy) = self.proxy(host, port, secure) else {
            return Ok((Raw::Tcp(self.dial(host, port).await?), false));
        };
        let stream = self.dial(&proxy.host, proxy.port).await.map_err(|error| {
            let cause = format!("cannot be reached: {}", error.cause);
            ConnectError::new(Phase::Proxy, proxy.address(), cause)
        })?;
        let mut raw = if proxy.tls {
            Raw::Proxied(Box::new(self.secure_proxy(stream, proxy).await?))
        } else {
            Raw::Tcp(stream)
        };
        if !secure && !self.shared.tunnel {
            return Ok((raw, true));
        }
        let mut headers = self
            .shared
            .proxies
            .connect_header()
            .cloned()
            .unwrap_or_default();
        authorize(proxy, &mut headers);
        let target = address(host, port);
        timeout(HANDSHAKE_TIMEOUT, tunnel(&mut raw, &target, &headers))
            .await
            .unwrap_or_else(|_| Err("no answer to CONNECT within 10s".into()))
            .map_err(|cause| {
                let cause = format!("no tunnel to {target}: {cause}");
                ConnectError::new(Phase::Proxy, proxy.address(), cause)
            })?;
        Ok((raw, false))
    }

    /// A TCP connection to the first address of `host` that takes one.
    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let begin = Instant::now();
        let budget = self.shared.timeout;
        let addresses = timeout(budget, self.shared.resolver.resolve(host, port))
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the resolver does not answer")))
            .map_err(|error| {
                let cause = format!("{error}: check the name and this machine's DNS");
                ConnectError::new(Phase::Resolve, host, cause)
            })?;
        let mut left = addresses.len();
        let mut last = None;
        for candidate in addresses {
            let share = budget.saturating_sub(begin.elapsed()) / left.max(1) as u32;
            left -= 1;
            match tcp(candidate, share).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some((candidate, error)),
            }
        }
        let (at, cause) = match last {
            Some((candidate, error)) => (candidate.to_string(), connect_trouble(&error)),
            None => (address(host, port), "the name has no address".into()),
        };
        let named = if at == address(host, port) {
            at
        } else {
            format!("{} ({at})", address(host, port))
        };
        Err(ConnectError::new(Phase::Connect, named, cause))
    }

    async fn secure(&self, raw: Raw, host: &str, port: u16) -> Result<Stream, ConnectError> {
        let at = address(host, port);
        let failed = |cause: String| ConnectError::new(Phase::Tls, &at, cause);
        let Some(tls) = &self.shared.tls else {
            return Err(failed("TLS is not configured here".into()));
        };
        let config = tls.current().map_err(|error| failed(error.to_string()))?;
        let name = tls
            .server_name(host)
            .map_err(|error| failed(error.to_string()))?;
        let handshake = TlsConnector::from(config).connect(name, raw);
        match timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Ok(Stream::tls(stream)),
            Ok(Err(error)) => Err(failed(handshake_trouble(&error, tls.server_name_key()))),
            Err(_) => Err(failed(
                "no answer within 10s: does the server speak TLS on this port?".into(),
            )),
        }
    }

    async fn secure_proxy(
        &self,
        stream: TcpStream,
        proxy: &ProxyServer,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let failed = |cause: String| ConnectError::new(Phase::Proxy, proxy.address(), cause);
        let Some(tls) = &self.shared.tls else {
            return Err(failed(
                "an https proxy needs TLS, which is turned off here: use an http proxy".into(),
            ));
        };
        let mut config = tls
            .current()
            .map_err(|error| failed(error.to_string()))?
            .as_ref()
            .clone();
        config.alpn_protocols.clear();
        let name = rustls_pki_types::ServerName::try_from(proxy.host.clone())
            .map_err(|_| failed("it is no server name".into()))?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| {
                let trouble = handshake_trouble(&error, tls.server_name_key());
                failed(format!("TLS failed: {trouble}"))
            })
    }
}

async fn tcp(address: SocketAddr, longest: Duration) -> io::Result<TcpStream> {
    let stream = timeout(longest, TcpStream::connect(address))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks a proxy for a tunnel. Reads byte by byte: what follows the answer is
/// the target's, and an HTTP/2 server speaks at once.
async fn tunnel<S>(stream: &mut S, target: &str, headers: &HeaderMap) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n").into_bytes();
    for (name, value) in headers {
        request.extend_from_slice(name.as_str().as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let broken = |error: io::Error| format!("the proxy closed the connection: {error}");
    stream.write_all(&request).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_PROXY_HEAD {
            return Err("the proxy's answer is too long".into());
        }
        head.push(stream.read_u8().await.map_err(broken)?);
    }
    let line = String::from_utf8_lossy(&head);
    let line = line.lines().next().unwrap_or_default();
    let mut words = line.split_ascii_whitespace();
    let status = match (words.next(), words.next()) {
        (Some(version), Some(code)) if version.starts_with("HTTP/1.") => code
            .parse::<u16>()
            .ok()
            .and_then(|code| StatusCode::from_u16(code).ok()),
        _ => None,
    };
    match status {
        None => Err("the answer is no HTTP: is it an HTTP proxy?".into()),
        Some(status) if status.is_success() => Ok(()),
        Some(StatusCode::PROXY_AUTHENTICATION_REQUIRED) => Err(
            "the proxy wants credentials (407): put user and password into proxy_url or set proxy_connect_header"
                .into(),
        ),
        Some(status) => Err(format!("the proxy answered {status}")),
    }
}

// === impl Phase ===

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "cannot resolve",
            Self::Connect => "cannot connect to",
            Self::Proxy => "cannot go through the proxy",
            Self::Tls => "no TLS with",
            Self::Greeting => "no HTTP/2 with",
        })
    }
}

// === impl ConnectError ===

impl ConnectError {
    pub(super) fn new(phase: Phase, address: impl fmt::Display, cause: impl Into<String>) -> Self {
        Self {
            phase,
            address: address.to_string(),
            cause: cause.into(),
        }
    }
}

#[cfg(test)]
mod tests;
