//! Components that take profiles from outside.

pub mod otlp;
pub mod parca;
pub mod pprof;
mod shared;
