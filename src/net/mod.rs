//! Sockets: client connections with TLS, proxies and credentials; listeners.
//!
//! Knows no component.
