//! Listening sockets: TCP and unix.

use super::{Peer, server::Io};
use crate::net::listen::BindError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    fmt, fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};
use tokio::net::{TcpListener, UnixListener, UnixStream, lookup_host};

/// What a listener's endpoint is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// `host:port`, or a socket's path behind `unix:`.
    #[default]
    Tcp,
    /// A socket's path.
    Unix,
}

/// Where to listen, read from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// `host:port`; an empty host is every address.
    Tcp(String),
    /// The path of a socket.
    Unix(PathBuf),
}

/// A bound socket.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
    /// Connections within the process.
    #[cfg(fuzzing)]
    Memory(tokio::sync::Mutex<tokio::sync::mpsc::UnboundedReceiver<tokio::io::DuplexStream>>),
}

/// The file of a unix socket, removed with the listener.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Which file it was: somebody may have put another one there.
    inode: Option<u64>,
}

// === impl Endpoint ===

impl Endpoint {
    pub(super) fn parse(endpoint: &str, transport: Transport) -> Result<Self, String> {
        if let Some(path) = endpoint.strip_prefix("unix:") {
            // unix:///path, as URLs have it.
            return Self::unix(path.strip_prefix("//").unwrap_or(path));
        }
        if transport == Transport::Unix {
            return Self::unix(endpoint);
        }
        if endpoint.contains("://") {
            return Err("write host:port without a scheme; tls turns TLS on".to_owned());
        }
        let (_, port) = endpoint
            .rsplit_once(':')
            .ok_or("write host:port, as in 0.0.0.0:4317, or unix:/path")?;
        match port.parse::<u16>() {
            Ok(_) => Ok(Self::Tcp(endpoint.to_owned())),
            Err(_) => Err(format!(
                "{port:?} is no port: write host:port or unix:/path"
            )),
        }
    }

    fn unix(path: &str) -> Result<Self, String> {
        if path.is_empty() || path.starts_with('@') {
            return Err(
                "write the path of a socket, as in unix:/run/profile-relay.sock".to_owned(),
            );
        }
        Ok(Self::Unix(path.into()))
    }

    /// Whether each bind takes another port.
    pub(super) fn is_any_port(&self) -> bool {
        matches!(self, Self::Tcp(endpoint) if endpoint.ends_with(":0"))
    }

    pub(super) async fn bind(&self) -> Result<Listener, BindError> {
        let bound = match self {
            Self::Tcp(endpoint) => bind_tcp(endpoint).await.map(Listener::Tcp),
            Self::Unix(path) => bind_unix(path).await,
        };
        bound.map_err(|source| BindError {
            endpoint: self.to_string(),
            source,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(endpoint) => f.write_str(endpoint),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

async fn bind_tcp(endpoint: &str) -> io::Result<TcpListener> {
    if endpoint.starts_with(':') {
        return match TcpListener::bind(format!("[::]{endpoint}")).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind(format!("0.0.0.0{endpoint}")).await
            }
            bound => bound,
        };
    }
    // localhost is 127.0.0.1 to most of those who connect.
    let mut addresses: Vec<_> = lookup_host(endpoint).await?.collect();
    addresses.sort_by_key(std::net::SocketAddr::is_ipv6);
    TcpListener::bind(&*addresses).await
}

/// The socket file of somebody who is gone is replaced; one that answers is not.
async fn bind_unix(path: &Path) -> io::Result<Listener> {
    let bound = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path).await?;
            UnixListener::bind(path)
        }
        bound => bound,
    };
    let inode = fs::symlink_metadata(path).ok().map(|file| file.ino());
    let path = path.to_owned();
    Ok(Listener::Unix(bound?, SocketFile { path, inode }))
}

async fn remove_stale(path: &Path) -> io::Result<()> {
    let taken = |message: &str| io::Error::new(io::ErrorKind::AlreadyExists, message.to_owned());
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(taken("there is a file of that name which is no socket"));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(_) => Err(taken("another process listens on this socket")),
        Err(error) => Err(error),
    }
}

// === impl Listener ===

impl Listener {
    /// Where it listens, with the port that was taken.
    pub(super) fn address(&self) -> String {
        match self {
            Self::Tcp(tcp) => tcp.local_addr().map(|a| a.to_string()).unwrap_or_default(),
            Self::Unix(_, file) => format!("unix:{}", file.path.display()),
            #[cfg(fuzzing)]
            Self::Memory(_) => "memory".to_owned(),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Box<dyn Io>, Peer)> {
        match self {
            Self::Tcp(tcp) => {
                let (stream, peer) = tcp.accept().await?;
                // Small answers must not wait for acknowledgements.
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), Peer::new(&peer.to_string())))
            }
            Self::Unix(unix, file) => {
                let (stream, _) = unix.accept().await?;
                let peer = format!("unix:{}", file.path.display());
                Ok((Box::new(stream), Peer::new(&peer)))
            }
            #[cfg(fuzzing)]
            Self::Memory(connections) => match connections.lock().await.recv().await {
                Some(stream) => Ok((Box::new(stream), Peer::new("memory"))),
                None => std::future::pending().await,
            },
        }
    }
}

// === impl SocketFile ===

impl Drop for SocketFile {
    fn drop(&mut self) {
        let now = fs::symlink_metadata(&self.path).ok().map(|file| file.ino());
        if now.is_some() && now == self.inode {
            // Who finds it next replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(endpoint: &str) -> Result<Endpoint, String> {
        Endpoint::parse(endpoint, Transport::Tcp)
    }

    #[test]
    fn endpoints_are_read_as_the_collector_does() {
        assert_eq!(tcp(":4317"), Ok(Endpoint::Tcp(":4317".into())));
        assert_eq!(tcp("[::1]:4317"), Ok(Endpoint::Tcp("[::1]:4317".into())));
        let unix = Ok(Endpoint::Unix("/run/r.sock".into()));
        assert_eq!(tcp("unix:/run/r.sock"), unix);
        assert_eq!(tcp("unix:///run/r.sock"), unix);
        assert_eq!(Endpoint::parse("/run/r.sock", Transport::Unix), unix);
        for wrong in ["", "4317", "host", "host:http", "http://host:1", "unix:"] {
            assert!(tcp(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn localhost_is_its_ipv4_address() {
        let listener = tcp("localhost:0").unwrap().bind().await.unwrap();
        assert!(listener.address().starts_with("127.0.0.1:"));
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_removed_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        // What a killed process leaves.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let endpoint = Endpoint::Unix(path.clone());
        let listener = endpoint.bind().await.unwrap();
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_live_socket_and_a_file_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let endpoint = Endpoint::Unix(path.clone());
        let live = endpoint.bind().await.unwrap();
        let error = endpoint.bind().await.unwrap_err().to_string();
        assert!(error.contains("another process listens"), "{error}");
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(live);

        fs::write(&path, "a file").unwrap();
        let error = endpoint.bind().await.unwrap_err().to_string();
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"a file");
    }
}
