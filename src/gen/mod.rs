//! The messages of `proto/`, generated and checked in; `tests/codegen.rs` says
//! when they are stale and how to make them anew.
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]

/// The services that are served, and all they refer to: an encoded
/// `google.protobuf.FileDescriptorSet`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("descriptors.bin");

/// pprof's profile.
pub mod pprof {
    include!("google.pprof.rs");
}

/// Debug information for Parca.
pub mod debuginfo {
    include!("parca.debuginfo.v1alpha1.rs");
}

/// Parca's profile store.
pub mod profilestore {
    include!("parca.profilestore.v1alpha1.rs");
}

/// What a disk queue keeps.
pub mod queue {
    include!("profile_relay.queue.v1.rs");
}

/// Details of gRPC errors.
pub mod rpc {
    include!("google.rpc.rs");
}

/// What agents of Parca tell of themselves.
pub mod telemetry {
    include!("parca.telemetry.v1alpha1.rs");
}

/// OTLP, in the folders that its packages ask for.
pub mod opentelemetry {
    /// The packages below `opentelemetry.proto`.
    pub mod proto {
        /// What all signals share.
        pub mod common {
            /// Version 1.
            pub mod v1 {
                include!("opentelemetry.proto.common.v1.rs");
            }
        }
        /// Who was observed.
        pub mod resource {
            /// Version 1.
            pub mod v1 {
                include!("opentelemetry.proto.resource.v1.rs");
            }
        }
        /// Profiles.
        pub mod profiles {
            /// The layout since 1.10.
            pub mod v1development {
                include!("opentelemetry.proto.profiles.v1development.rs");
            }
        }
        /// The services.
        pub mod collector {
            /// Of profiles.
            pub mod profiles {
                /// The layout since 1.10.
                pub mod v1development {
                    include!("opentelemetry.proto.collector.profiles.v1development.rs");
                }
            }
        }
    }
}
