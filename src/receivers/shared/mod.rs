//! What receivers that are pushed to share.
//!
//! - [`gate`]: how many requests are served at a time
//! - [`memory`]: what is said when there is none
//! - [`pace`]: slows senders down to what leaves
//! - [`requests`]: counts requests by how they ended

mod gate;
mod memory;
mod pace;
mod requests;

pub use self::pace::Pacing;

pub(super) use self::{
    gate::Gate,
    memory::no_memory,
    pace::Held,
    requests::{Outcome, RequestMetrics, Requests},
};
