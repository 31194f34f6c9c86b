//! Components that take profiles from outside.

pub mod pprof;
