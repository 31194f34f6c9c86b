//! What OTLP is over gRPC and over HTTP alike.
//!
//! | module | |
//! |---|---|
//! | [`settings`] | the keys that both exporters have beside those of their client |
//! | [`Bodies`] | what is sent for a profile: checked, weighed, divided |
//! | [`Encoder`] | one request of a batch, in the compression that the setting allows |
//! | [`Headers`] | headers of requests beside those of the client's settings |
//! | [`Observer`] | what is said about answers |
//! | [`verdict`] | what delivery must do about a refusal |

mod answer;
mod bodies;
mod encode;
mod headers;
mod observe;
pub mod settings;
#[cfg(test)]
pub(crate) mod testing;
pub mod verdict;

pub use self::{
    answer::{MAX_ANSWER, inflated, response, shortened},
    bodies::Bodies,
    encode::{Encoder, Form, Ready},
    headers::Headers,
    observe::Observer,
};
