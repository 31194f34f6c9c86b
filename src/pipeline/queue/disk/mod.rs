//! A queue on disk.

pub mod log;
