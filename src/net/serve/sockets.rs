//! Listening sockets that outlive who listens.
//!
//! When a receiver takes another one's place at the same address, both accept
//! from the same socket until the former stops: no connection is refused, and
//! those that wait to be accepted are not lost.

use super::listener::{Endpoint, Listener};
use crate::net::listen::BindError;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// The listening sockets of the process; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Sockets(Arc<Mutex<BTreeMap<String, Weak<Listener>>>>);

// === impl Sockets ===

impl Sockets {
    /// The socket at `endpoint`: bound, or shared with who has it in this
    /// process. With port 0 it is shared with who has the name of `owner` only.
    pub(super) async fn bind(
        &self,
        owner: &str,
        endpoint: &Endpoint,
    ) -> Result<Arc<Listener>, BindError> {
        let key = if endpoint.is_any_port() {
            format!("{owner} {endpoint}")
        } else {
            endpoint.to_string()
        };
        let open = self.all().get(&key).and_then(Weak::upgrade);
        if let Some(listener) = open {
            return Ok(listener);
        }
        let listener = Arc::new(endpoint.bind().await?);
        let mut all = self.all();
        all.retain(|_, listener| listener.strong_count() > 0);
        all.insert(key, Arc::downgrade(&listener));
        Ok(listener)
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Weak<Listener>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(fuzzing)]
mod memory {
    use super::*;
    use std::io;
    use tokio::{
        io::{DuplexStream, duplex},
        sync::{Mutex, mpsc},
    };

    /// What is between the two ends of a connection, in bytes.
    const BUFFER: usize = 64 << 10;

    /// Connects to who binds an endpoint, without the system.
    #[derive(Debug)]
    pub struct Door {
        connections: mpsc::UnboundedSender<DuplexStream>,
        /// Until it is bound.
        _listener: Arc<Listener>,
    }

    // === impl Sockets ===

    impl Sockets {
        /// Takes `endpoint`, `host:port`, for connections within the process: who
        /// binds it gets those of the door. For fuzz targets, in whose paused time no
        /// socket of the system works.
        pub fn door(&self, endpoint: &str) -> Door {
            let (connections, accepted) = mpsc::unbounded_channel();
            let listener = Arc::new(Listener::Memory(Mutex::new(accepted)));
            let endpoint = Endpoint::Tcp(endpoint.to_owned());
            self.all()
                .insert(endpoint.to_string(), Arc::downgrade(&listener));
            Door {
                connections,
                _listener: listener,
            }
        }
    }

    // === impl Door ===

    impl Door {
        /// A new connection.
        pub fn connect(&self) -> io::Result<DuplexStream> {
            let (near, far) = duplex(BUFFER);
            self.connections.send(far).map_err(io::Error::other)?;
            Ok(near)
        }
    }
}

#[cfg(fuzzing)]
pub use self::memory::Door;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::serve::Transport;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::parse(text, Transport::Tcp).unwrap()
    }

    #[tokio::test]
    async fn a_socket_is_shared_while_somebody_has_it() {
        let sockets = Sockets::default();
        let any = sockets.bind("a", &endpoint("127.0.0.1:0")).await.unwrap();
        let fixed = endpoint(&any.address());
        drop(any);
        let one = sockets.bind("a", &fixed).await.unwrap();
        let two = sockets.bind("b", &fixed).await.unwrap();
        assert!(Arc::ptr_eq(&one, &two));
        drop((one, two));
        assert!(endpoint(&fixed.to_string()).bind().await.is_ok());
    }

    #[tokio::test]
    async fn any_port_is_another_one_for_each_owner() {
        let sockets = Sockets::default();
        let any = endpoint("127.0.0.1:0");
        let one = sockets.bind("a", &any).await.unwrap();
        let two = sockets.bind("b", &any).await.unwrap();
        assert_ne!(one.address(), two.address());
        let again = sockets.bind("a", &any).await.unwrap();
        assert_eq!(one.address(), again.address());
    }

    #[tokio::test]
    async fn a_unix_socket_keeps_its_file_until_the_last_one_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let endpoint = endpoint(&format!("unix:{}", path.display()));
        let sockets = Sockets::default();
        let one = sockets.bind("a", &endpoint).await.unwrap();
        let two = sockets.bind("b", &endpoint).await.unwrap();
        drop(one);
        assert!(path.exists());
        drop(two);
        assert!(!path.exists());
    }
}
