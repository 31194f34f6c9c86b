//! From receivers to exporters: the traits of components, the entry that
//! receivers hand their batches to, the fan-out, and delivery with its queue.
//!
//! Knows `profile` and the traits, never a concrete component.

mod component;
mod entry;
mod memory;

pub use self::{
    component::{
        Context, ExportError, Exporter, Limits, Part, Processor, Reason, Receiver, ReceiverError,
        Refusal, RefusalKind, Verdict,
    },
    entry::Entry,
    memory::{Budget, Permit},
};
