//! When settings count as the same.

use super::{around, catalogue::catalogue, loaded};
use crate::settings::{Fingerprint, Kind};

/// Of the exporter `send` with these settings; also the hash of the whole.
fn fingerprint(exporter: &str) -> (Fingerprint, String) {
    let loaded = loaded(&around(exporter)).unwrap_or_else(|report| panic!("{report}"));
    let node = &loaded.settings.exporters[&"send".parse().unwrap()];
    let catalogue = catalogue();
    let ty = catalogue.find(Kind::Exporter, "send").unwrap();
    ((ty.fingerprint)(node).unwrap(), loaded.hash)
}

#[test]
fn what_means_the_same_is_the_same() {
    let (plain, _) = fingerprint("    endpoint: a:1\n    queue: {max_bytes: 64MiB}\n");
    for same in [
        "    endpoint: \"a:1\" # a comment\n",
        "    queue: {max_bytes: 67108864, on_full: refuse}\n    endpoint: ${env:NO_SUCH:-a:1}\n",
        "    endpoint: a:1\n    level: low\n    headers: {}\n    client:\n",
    ] {
        assert_eq!(fingerprint(same).0, plain, "{same}");
    }
    for other in [
        "",
        "    endpoint: a:2\n",
        "    endpoint: a:1\n    level: high\n",
    ] {
        assert_ne!(fingerprint(other).0, plain, "{other}");
    }
}

#[test]
fn another_secret_is_another_setting_and_does_not_show_in_the_hash() {
    for [one, two] in [
        [
            "    client: {bearer_token: one}\n",
            "    client: {bearer_token: two}\n",
        ],
        ["    headers: {a: one}\n", "    headers: {a: two}\n"],
        [
            "    headers: {a: one, b: two}\n",
            "    headers: {a: two, b: one}\n",
        ],
    ] {
        let (before, hash) = fingerprint(one);
        let (after, same_hash) = fingerprint(two);
        assert_ne!(before, after, "{two}");
        assert_eq!(hash, same_hash);
        assert_eq!(fingerprint(one).0, before);
    }
}
