//! The settings of the `otlp` exporter; those of delivery stand beside them.

use crate::{
    exporters::shared::otlp::settings::BodySettings,
    net::GrpcClientSettings,
    settings::{ByteSize, ComponentSettings, Problem},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What gRPC servers take unless they are told otherwise, in bytes.
const GRPC_DEFAULT: u64 = 4 << 20;

/// Sends OTLP over gRPC.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// Where and how to connect.
    #[serde(flatten)]
    pub client: GrpcClientSettings,
    /// What is done with profiles.
    #[serde(flatten)]
    pub bodies: BodySettings,
    /// The largest request before compression. The default is what gRPC servers
    /// take unless they are told otherwise, Collectors (`max_recv_msg_size_mib`)
    /// among them. Larger ones are divided: between resources, then between
    /// profiles, pprofs by samples.
    pub max_request_bytes: ByteSize,
    /// Whether a backend that is not there yet is waited for, as it always is:
    /// what finds no connection stays in the queue and is tried again.
    pub wait_for_ready: bool,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            client: GrpcClientSettings::default(),
            bodies: BodySettings::default(),
            max_request_bytes: ByteSize::new(GRPC_DEFAULT),
            wait_for_ready: true,
        }
    }
}

impl ComponentSettings for Settings {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.client.problems();
        problems.extend(self.bodies.problems(self.max_request_bytes));
        if !self.wait_for_ready {
            problems.push(Problem::new(
                "wait_for_ready",
                "it cannot be turned off: what finds no connection is kept and tried again, bounded by sending_queue.max_age and retry_on_failure",
            ));
        }
        problems
    }
}
