//! Components that send profiles away. They know the pipeline's traits and
//! never each other.

pub mod debug;
pub mod file;
pub mod otlp;
pub mod otlp_http;
pub mod parca;
pub mod shared;
