//! Where profiles go.

pub mod parca;
