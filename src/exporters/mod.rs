//! What sends profiles away.

pub mod debug;
pub mod file;
pub mod parca;
