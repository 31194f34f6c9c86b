//! Messages that only tests speak, generated and checked in; `tests/codegen.rs`
//! says when they are stale and how to make them anew.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all
)]

/// Parca's query service.
pub mod query {
    include!("parca.query.v1alpha1.rs");
}
