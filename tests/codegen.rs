//! `src/gen` is what `proto/` gives, checked in so that no build needs protoc.
//!
//! After a change in `proto/`, run `REGENERATE=1 cargo test --test codegen`.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

use std::{fs, path::Path};

const PROTOS: &[&str] = &[
    "google/pprof/profile.proto",
    "parca/profilestore/v1alpha1/profilestore.proto",
];

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = tempfile::tempdir().expect("a folder for the output");
    generate(&root.join("proto"), PROTOS, fresh.path());
    compare(fresh.path(), &root.join("src/gen"));
}

fn generate(include: &Path, protos: &[&str], out: &Path) {
    let descriptors = protox::compile(protos, [include]).expect("proto/ compiles");
    tonic_prost_build::configure()
        .bytes(".")
        .out_dir(out)
        .compile_fds(descriptors)
        .expect("code is generated");
}

fn compare(fresh: &Path, checked_in: &Path) {
    for entry in fs::read_dir(fresh).expect("the output is readable") {
        let path = entry.expect("the output is readable").path();
        let target = checked_in.join(path.file_name().expect("a file has a name"));
        let new = fs::read_to_string(&path).expect("the output is text");
        if std::env::var_os("REGENERATE").is_some() {
            fs::write(&target, &new).expect("src/gen is writable");
        }
        let old = fs::read_to_string(&target).unwrap_or_default();
        assert!(
            old == new,
            "{} is stale: run REGENERATE=1 cargo test --test codegen",
            target.display()
        );
    }
}
