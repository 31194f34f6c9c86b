//! What one profile costs: a Go heap profile of 30 KB gzip, 83 KB inflated.
//!
//! Throughput is in inflated bytes.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use profile_relay::profile::pprof::{
    Pprof, RuleSet, SyntheticProfile, check, inflate, repair, split_by_labels, split_by_samples,
    summarize, with_inflated,
};
use std::{hint::black_box, time::SystemTime};

const MAX: u64 = 1 << 26;

fn pprof(criterion: &mut Criterion) {
    let synthetic = SyntheticProfile {
        labels: vec![("tenant".to_owned(), 8)],
        ..SyntheticProfile::heap(1)
    };
    let labelled = synthetic.encode_plain();
    let (gzip, plain) = (
        SyntheticProfile::heap(1).encode(),
        SyntheticProfile::heap(1).encode_plain(),
    );
    let names = ["tenant".to_owned()];
    let now = SystemTime::now();
    let mut group = criterion.benchmark_group("pprof");
    group.throughput(Throughput::Bytes(plain.len() as u64));
    group.bench_function("inflate/new buffer", |b| {
        b.iter(|| inflate(black_box(&gzip), MAX));
    });
    group.bench_function("inflate/kept buffer", |b| {
        b.iter(|| with_inflated(black_box(&gzip), MAX, <[u8]>::len));
    });
    group.bench_function("check", |b| b.iter(|| check(black_box(&plain))));
    group.bench_function("inflate and check", |b| {
        b.iter(|| Pprof::new(black_box(gzip.clone())).check(MAX).is_ok());
    });
    group.bench_function("repair", |b| {
        b.iter(|| repair(black_box(&plain), RuleSet::EMPTY, now));
    });
    group.bench_function("split/by samples", |b| {
        b.iter(|| split_by_samples(black_box(&plain), 20_000));
    });
    group.bench_function("split/by labels", |b| {
        b.iter(|| split_by_labels(black_box(&labelled), &names, 100));
    });
    group.bench_function("split/by absent labels", |b| {
        b.iter(|| split_by_labels(black_box(&plain), &names, 100));
    });
    group.bench_function("summarize", |b| b.iter(|| summarize(black_box(&plain))));
    group.finish();
}

criterion_group!(benches, pprof);
criterion_main!(benches);
