//! What receivers that are pushed to share.
//!
//! - [`gate`]: how many requests are served at a time, and how each ended
//! - [`pace`]: slows senders down to what leaves
//! - [`requests`]: counts requests by how they ended

mod gate;
mod pace;
mod requests;

pub(super) use self::{
    gate::Gate,
    pace::Held,
    requests::{Outcome, RequestMetrics, Requests},
};
