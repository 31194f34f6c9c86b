//! Through nginx as it stands before a charmed Parca: it refuses bodies above
//! 1 MiB.

use crate::{
    config,
    far_end::{Behaviour, FarEnd, pprof::Profile, rules},
    harness::Relay,
    neighbours::{self, Neighbour},
    outages::settle,
    target::{Answer, Target},
};
use bytes::Bytes;
use profile_relay::profile::pprof::SyntheticProfile;
use prost::Message;
use std::collections::BTreeMap;

/// More than 1 MiB even as gzip.
fn large() -> Bytes {
    let mut profile = SyntheticProfile::heap(1);
    profile.functions = 4_000;
    profile.samples = 20_000;
    loop {
        let body = profile.encode();
        if body.len() > 1_200_000 {
            return body;
        }
        profile.samples += profile.samples / 2;
    }
}

/// The sum of each sample type's values, and the number of samples.
fn sums<'a>(bodies: impl IntoIterator<Item = &'a Bytes>) -> (usize, BTreeMap<Bytes, i64>) {
    let mut samples = 0;
    let mut sums = BTreeMap::new();
    for body in bodies {
        let plain = rules::inflate(body).expect("gzip or plain");
        let profile = Profile::decode(plain).expect("a pprof");
        samples += profile.sample.len();
        for sample in &profile.sample {
            for (kind, value) in profile.sample_type.iter().zip(&sample.value) {
                let name = profile.string_table[kind.kind as usize].clone();
                *sums.entry(name).or_default() += value;
            }
        }
    }
    (samples, sums)
}

/// Sends one large profile through nginx, in requests of at most `limit`.
fn send_large(test: &str, limit: &str) {
    let Some(nginx) = neighbours::find(test, "nginx") else {
        return;
    };
    let body = large();
    let store = FarEnd::start(Behaviour::default());
    let nginx = Neighbour::nginx(&nginx, store.addr());
    let target = Target::good();
    let (once, served) = (std::sync::Once::new(), body.clone());
    let large = Target::start(move |_| {
        let mut answer = Answer::Nothing;
        once.call_once(|| answer = Answer::Profile(served.clone()));
        answer
    });
    let jobs = [
        config::job("small", &[target.addr()], ""),
        config::job("large", &[large.addr()], ""),
    ];
    let exporter = format!(
        "max_request_bytes: {limit}, {}",
        config::to(nginx.addr(), "")
    );
    let relay = Relay::run(&config::relay(&jobs, &exporter, ""));
    relay.until("both kinds are sent", |metrics| {
        let labels = [("job", "large"), ("outcome", "ok")];
        metrics.sum("scrapes_total", &labels) == 1 && metrics.books("parca").sent >= 3
    });
    settle(&relay, &target);
    let stored = store.stored();
    let pieces: Vec<_> = stored
        .iter()
        .filter(|s| s.labels["job"] == "large")
        .collect();
    assert!(pieces.len() > 1, "{} pieces", pieces.len());
    assert!(pieces.iter().all(|p| p.labels == pieces[0].labels));
    let pieces = pieces.iter().map(|piece| &piece.body);
    assert_eq!(sums(pieces), sums([&body]), "{}", relay.log());
    assert!(store.requests().iter().all(|r| r.bytes <= 1 << 20));
    let books = relay.books("parca");
    assert_eq!((books.dropped, books.queued), (0, 0));
    assert_eq!(store.harms(), [""; 0]);
}

#[test]
fn a_large_profile_is_divided_before_it_is_sent() {
    send_large("a_large_profile_is_divided_before_it_is_sent", "1MB");
}

#[test]
fn a_large_profile_is_divided_when_the_proxy_refuses_it() {
    send_large(
        "a_large_profile_is_divided_when_the_proxy_refuses_it",
        "16MiB",
    );
}
