//! The messages of `proto/`, generated and checked in; `tests/codegen.rs` says
//! when they are stale and how to make them anew.
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]

/// pprof's profile.
pub mod pprof {
    include!("google.pprof.rs");
}

/// Parca's profile store.
pub mod profilestore {
    include!("parca.profilestore.v1alpha1.rs");
}
