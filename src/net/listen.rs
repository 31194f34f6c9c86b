//! Listening sockets.

use std::io;
use tokio::net::TcpListener;

/// An endpoint cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {endpoint}: {source}{hint}", hint = hint(source))]
pub struct BindError {
    /// The configured endpoint.
    pub endpoint: String,
    /// The system's answer.
    pub source: io::Error,
}

// === impl BindError ===

impl BindError {
    /// The system's answer with what it most often means.
    pub fn into_source(self) -> io::Error {
        match hint(&self.source) {
            "" => self.source,
            hint => io::Error::new(self.source.kind(), format!("{}{hint}", self.source)),
        }
    }
}

/// Binds `endpoint`, `host:port`. Port 0 takes any free one.
pub async fn bind(endpoint: &str) -> Result<TcpListener, BindError> {
    TcpListener::bind(endpoint)
        .await
        .map_err(|source| BindError {
            endpoint: endpoint.to_owned(),
            source,
        })
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => ": another process (or another listener here) has this port",
        io::ErrorKind::AddrNotAvailable => ": this machine does not have that address",
        io::ErrorKind::PermissionDenied => ": ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::InvalidInput => ": write host:port, as in 127.0.0.1:13133",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_reason() {
        let first = bind("127.0.0.1:0").await.unwrap();
        let endpoint = first.local_addr().unwrap().to_string();
        let error = bind(&endpoint).await.unwrap_err().to_string();
        assert!(error.contains(&endpoint), "{error}");
        assert!(error.contains("another process"), "{error}");
    }

    #[tokio::test]
    async fn what_is_no_endpoint_says_what_to_write() {
        let error = bind("nonsense").await.unwrap_err().to_string();
        assert!(error.contains("write host:port"), "{error}");
    }
}
