//! The `pprof` receiver.
