//! `src/gen` and `tests/gen` are what `proto/` gives, checked in so that no
//! build needs protoc.
//!
//! After a change in `proto/`, run `REGENERATE=1 cargo test --test codegen`.
#![allow(clippy::expect_used, reason = "a test says what it expected")]
use std::{fs, path::Path};

/// What the relay speaks, and what it keeps.
const PROTOS: &[&str] = &[
    "google/pprof/profile.proto",
    "google/rpc/status.proto",
    "opentelemetry/collector/profiles/v1development/profiles_service.proto",
    "parca/debuginfo/v1alpha1/debuginfo.proto",
    "parca/profilestore/v1alpha1/profilestore.proto",
    "parca/telemetry/v1alpha1/telemetry.proto",
    "profile_relay/queue/v1/record.proto",
];

/// What reflection tells about: the services that are served.
const SERVED: &[&str] = &[
    "opentelemetry/collector/profiles/v1development/profiles_service.proto",
    "parca/debuginfo/v1alpha1/debuginfo.proto",
    "parca/profilestore/v1alpha1/profilestore.proto",
    "parca/telemetry/v1alpha1/telemetry.proto",
];

/// What only tests speak: clients that read back.
const TEST_PROTOS: &[&str] = &["parca/query/v1alpha1/query.proto"];

#[test]
fn generated_code_is_current() {
    let builder = tonic_prost_build::configure();
    check(builder, PROTOS, "src/gen");
}

#[test]
fn generated_code_of_tests_is_current() {
    let builder = tonic_prost_build::configure().build_server(false);
    check(builder, TEST_PROTOS, "tests/gen");
}

#[test]
fn descriptors_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = tempfile::tempdir().expect("a folder for the output");
    let mut compiler = protox::Compiler::new([root.join("proto")]).expect("proto/ is there");
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files(SERVED).expect("proto/ compiles");
    let descriptors = compiler.encode_file_descriptor_set();
    fs::write(fresh.path().join("descriptors.bin"), descriptors).expect("a file");
    compare(fresh.path(), &root.join("src/gen"));
}

fn check(builder: tonic_prost_build::Builder, protos: &[&str], checked_in: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = tempfile::tempdir().expect("a folder for the output");
    let descriptors = protox::compile(protos, [root.join("proto")]).expect("proto/ compiles");
    builder
        .bytes(".")
        .out_dir(fresh.path())
        .compile_fds(descriptors)
        .expect("code is generated");
    compare(fresh.path(), &root.join(checked_in));
}

fn compare(fresh: &Path, checked_in: &Path) {
    for entry in fs::read_dir(fresh).expect("the output is readable") {
        let path = entry.expect("the output is readable").path();
        let target = checked_in.join(path.file_name().expect("a file has a name"));
        let new = fs::read(&path).expect("the output is readable");
        if std::env::var_os("REGENERATE").is_some() {
            fs::write(&target, &new).expect("the checked-in folder is writable");
        }
        let old = fs::read(&target).unwrap_or_default();
        assert!(
            old == new,
            "{} is stale: run REGENERATE=1 cargo test --test codegen",
            target.display()
        );
    }
}
