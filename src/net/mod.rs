//! Sockets: client connections with TLS, proxies and credentials; listeners.
//!
//! - [`http`]: the HTTP client of scraping and of exporters
//! - [`grpc`]: the gRPC channel of exporters
//! - [`connect`]: from an address to a stream: names, proxies, TLS
//! - [`tls`], [`live_file`]: certificates and secrets that follow their files
//! - [`listen`](mod@listen): binding
//! - [`serve`]: what every push receiver listens with; [`auth`]: who may send
//!
//! Knows no component.

pub mod auth;
pub mod connect;
mod credentials;
pub mod folder_watch;
mod gathered;
pub mod grpc;
pub mod http;
pub mod listen;
pub mod live_file;
pub mod proxy;
mod refusal;
pub mod resolve;
pub mod serve;
mod spawn;
mod stream;
mod streams;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls;
mod transport;
mod wish;

pub use self::{
    connect::{ConnectError, Connector, Phase},
    credentials::{ClientAuth, ClientBasicAuth, ClientOAuth2},
    folder_watch::FolderWatch,
    grpc::{GrpcChannel, GrpcClientSettings},
    http::{HttpClient, HttpClientSettings, HttpError, HttpSenderSettings},
    listen::bind,
    live_file::LiveFile,
    proxy::ProxySettings,
    refusal::{is_about_certificate, words},
    resolve::{Resolve, SystemResolver},
    stream::Stream,
    tls::{ClientTls, LiveTls, TlsConfig},
    transport::TransportFailure,
    wish::{retry_after, retry_info},
};
