//! pprof ⇄ OTLP, and parca-agent's Arrow to both: pure functions, without I/O and
//! without a clock.
//!
//! | | from | to |
//! |---|---|---|
//! | [`RequestBuilder`] | pprofs or Arrow, and their labels | one request, one dictionary |
//! | [`to_pprof`] | one resource of a request | pprofs and their labels |
//! | [`arrow_to_pprof()`] | what parca-agent wrote | pprofs and their labels |
//!
//! Each says in its module's documentation what it keeps and what it loses. The
//! names of attributes are those of OpenTelemetry's semantic conventions for
//! pprof, for frames and for executables (2026, status: development).
//!
//! Invariants:
//! - What leaves is valid: a pprof breaks no [`crate::profile::pprof::Rule`]; the
//!   tables of a dictionary begin with the zero value and have no entry twice,
//!   and none that nothing refers to.
//! - What comes in may be anything: no index is trusted, and nothing grows above
//!   a limit that the caller sets.

pub mod arrow_to_otlp;
pub mod arrow_to_pprof;
mod attributes;
mod budget;
mod conventions;
mod dictionary;
mod error;
mod frame;
mod group;
mod lookup;
pub mod otlp_to_pprof;
mod payload;
pub mod pprof_to_otlp;
mod put;
mod remap;
mod rows;
mod series;
mod source;
mod translation;
mod value;
mod writer;

pub use self::{
    arrow_to_pprof::arrow_to_pprof,
    error::ConvertError,
    otlp_to_pprof::{Converted, PprofOptions, to_pprof},
    pprof_to_otlp::{OriginalPayload, OtlpOptions, RequestBuilder},
};

#[cfg(test)]
mod tests;
