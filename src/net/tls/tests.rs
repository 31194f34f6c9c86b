use super::*;
use crate::{
    net::testing::{Ca, Identity},
    settings::{FilePath, Secret},
};
use std::fs;

fn paths(problems: &[Problem]) -> Vec<&str> {
    problems
        .iter()
        .map(|problem| problem.path.as_str())
        .collect()
}

fn file(path: &Path) -> Option<FilePath> {
    Some(FilePath(path.into()))
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let config = TlsConfig {
        ca: Some("x".into()),
        ca_file: Some(FilePath("y".into())),
        ca_ref: Some("z".into()),
        cert_file: Some(FilePath("c".into())),
        min_version: Some("TLS14".into()),
        max_version: Some("TLS11".into()),
        ..TlsConfig::default()
    };
    let problems = config.problems();
    assert_eq!(
        paths(&problems),
        [
            "ca_ref",
            "ca_file",
            "cert_file",
            "min_version",
            "max_version"
        ]
    );
    assert!(problems[0].message.contains("use ca_file"), "{problems:?}");
}

#[test]
fn versions_have_two_spellings_and_old_minimums_are_raised() {
    for (min, max, wanted) in [
        (None, None, (Version::Tls12, Version::Tls13)),
        (Some("TLS10"), None, (Version::Tls12, Version::Tls13)),
        (Some("1.3"), None, (Version::Tls13, Version::Tls13)),
        (
            Some("TLS13"),
            Some("TLS13"),
            (Version::Tls13, Version::Tls13),
        ),
        (Some("1.0"), Some("1.2"), (Version::Tls12, Version::Tls12)),
    ] {
        let config = ClientTls {
            min_version: min.map(Into::into),
            max_version: max.map(Into::into),
            ..ClientTls::default()
        };
        let spec = config.spec().unwrap();
        assert_eq!((spec.min, spec.max), wanted, "{min:?} {max:?}");
    }
    let upside_down = ClientTls {
        min_version: Some("1.3".into()),
        max_version: Some("1.2".into()),
        ..ClientTls::default()
    };
    assert_eq!(paths(&upside_down.problems()), ["min_version"]);
}

#[test]
fn certificates_beside_insecure_are_refused() {
    let config = ClientTls {
        insecure: true,
        ca_file: Some(FilePath("ca.pem".into())),
        ..ClientTls::default()
    };
    assert_eq!(paths(&config.problems()), ["insecure"]);
}

#[test]
fn a_bad_file_is_a_problem_at_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("ca");
    let (one, two) = (ca.issue(&["a"]), ca.issue(&["b"]));
    let path = folder.path().join("ca.pem");
    let problem = |config: &TlsConfig| {
        let problems = LiveTls::new(config.spec().unwrap(), &[]).unwrap_err();
        assert_eq!(problems.len(), 1);
        problems[0].to_string()
    };
    let missing = TlsConfig {
        ca_file: file(&path),
        ..TlsConfig::default()
    };
    let text = problem(&missing);
    assert!(text.starts_with("ca_file: cannot read"), "{text}");
    fs::write(&path, "no pem").unwrap();
    assert!(problem(&missing).contains("holds no certificate"));
    let mixed = TlsConfig {
        cert: Some(one.cert.clone()),
        key: Some(Secret::from(two.key)),
        ..TlsConfig::default()
    };
    assert!(
        problem(&mixed).contains("does not belong"),
        "{}",
        problem(&mixed)
    );
    let keyless = TlsConfig {
        cert: Some(one.cert.clone()),
        key: Some(Secret::from(one.cert)),
        ..TlsConfig::default()
    };
    assert!(problem(&keyless).contains("no private key"));
}

#[test]
fn changed_files_are_loaded_and_bad_ones_leave_the_last_good() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("c"), folder.path().join("k"));
    let ca = Ca::new("ca");
    let write = |identity: &Identity| {
        fs::write(&cert, &identity.cert).unwrap();
        fs::write(&key, &identity.key).unwrap();
    };
    write(&ca.issue(&["one"]));
    let config = TlsConfig {
        cert_file: file(&cert),
        key_file: file(&key),
        ca: Some(ca.pem.clone()),
        ..TlsConfig::default()
    };
    let live = LiveTls::new(config.spec().unwrap(), &["h2"]).unwrap();
    let first = live.current().unwrap();
    assert!(Arc::ptr_eq(&first, &live.current().unwrap()));
    // The certificate arrives before its key.
    let next = ca.issue(&["two"]);
    fs::write(&cert, &next.cert).unwrap();
    assert!(Arc::ptr_eq(&first, &live.current().unwrap()));
    fs::write(&key, &next.key).unwrap();
    let second = live.current().unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    fs::remove_file(&cert).unwrap();
    assert!(Arc::ptr_eq(&second, &live.current().unwrap()));
}

#[test]
fn the_systems_authorities_wait_for_a_handshake() {
    let live = LiveTls::new(TlsConfig::default().spec().unwrap(), &[]).unwrap();
    assert!(!live.0.live.is_loaded());
}
