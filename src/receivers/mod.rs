//! Components that take profiles from outside.

pub mod otlp;
pub mod pprof;
