//! Components that send profiles away. They know the pipeline's traits and
//! never each other. `routing`, `failover` and `load_balancing` hand them on to
//! others, whose ids they know.

pub mod debug;
pub mod failover;
pub mod file;
pub mod load_balancing;
pub mod otlp;
pub mod otlp_http;
pub mod parca;
pub mod routing;
pub mod shared;
