//! Serving requests: what every push receiver listens with.
//!
//! ```text
//! Plan ──bind──▶ Server ──connection──▶ Handler ──▶ Response<Answer>
//! settings       TCP, unix, TLS         GrpcHandler: unary calls, health, reflection
//!                bounds, deadlines      Cors: what browsers need
//! ```
//!
//! - [`settings`]: the Collector's server keys; they become a [`Plan`], which
//!   binds nothing, so that whatever is wrong is said before anything starts
//! - [`server`]: connections, bounded in number, in silence and in age; the end
//! - [`activity`]: what a connection does; [`requests`]: its requests; [`peer`]: its other end
//! - [`listener`]: TCP and unix sockets; [`sockets`]: handing them over
//! - `windows`: what connections may send before it is asked for
//! - [`body`]: bodies, read into memory that was charged to the budget first
//! - [`coding`]: how bodies are compressed
//! - [`grpc`]: calls over HTTP/2, whose messages stay compressed
//! - [`cors`], [`metadata`]: headers that browsers and tenants need
//! - [`gate`]: who is let in, told before any body is read; [`doors`]: who was not;
//!   [`frames`]: what a client opens and takes back;
//!   [`limits`]: what [`strangers`] may do; [`in_flight`]: bytes that count for a sender
//! - [`failure`]: one error, said to gRPC and to HTTP in their own words
//!
//! The response to a request is made by one [`Handler`] behind `dyn`: the HTTP
//! machinery is compiled once, however many receivers there are.

mod activity;
pub mod answer;
pub mod body;
pub mod coding;
pub mod cors;
mod doors;
pub mod failure;
mod frames;
mod gate;
pub mod grpc;
mod heard;
mod in_flight;
pub mod limits;
pub mod listener;
pub mod metadata;
mod peer;
mod requests;
pub mod server;
pub mod settings;
pub mod sockets;
mod strangers;
#[cfg(test)]
mod tests;
mod windows;

pub use self::{
    answer::Answer,
    body::{Patience, Reading, Received, discard},
    coding::Coding,
    cors::Cors,
    failure::{Encoding, Failure, Kind},
    in_flight::InFlight,
    limits::LimitsSettings,
    listener::Transport,
    metadata::{IncludeMetadata, Picked},
    peer::Peer,
    server::{Answering, Handler, Plan, Server},
    settings::{GrpcServerSettings, HttpServerSettings},
    sockets::Sockets,
};

pub(crate) use self::metadata::wrong as metadata_problem;
