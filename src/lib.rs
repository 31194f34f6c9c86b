//! profile-relay: collects continuous profiles next to the workloads and
//! forwards them to a remote Parca.
//!
//! Data flows one way, receiver → pipeline → exporter, and the answer travels
//! back as a return value:
//!
//! - [`profile`]: what travels, and the codecs of bodies
//! - [`pipeline`]: traits of components, entry, fan-out, delivery, queue, memory
//! - [`receivers`], [`processors`], [`exporters`]: the components; they never
//!   import each other, and [`components`] alone knows them all
//! - [`settings`]: YAML to typed settings
//! - [`net`]: listeners, TLS with live certificates, client connections, auth
//! - [`telemetry`]: logs, metrics, admin endpoint, self-profiling
//! - [`commands`]: what the binary can do, one file each
//! - [`runtime`]: tasks with names and owners
//! - [`gen`](mod@gen): the messages of `proto/`

pub mod commands;
pub mod components;
pub mod exporters;
pub mod r#gen;
pub mod net;
pub mod pipeline;
pub mod processors;
pub mod profile;
pub mod receivers;
pub mod runtime;
pub mod settings;
pub mod telemetry;
