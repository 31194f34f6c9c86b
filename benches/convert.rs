//! What a conversion costs: a Go heap profile of 83 KB inflated, and one of 1 MB
//! whose samples have labels.
//!
//! Throughput is in inflated bytes of the pprof on the way to OTLP, and in bytes
//! of the request on the way back.
//!
//! And what parca-agent sends every 5 s from a busy machine, in both schemas: there,
//! throughput is in bytes as they arrive, decoding included. *Anew* is what a body costs
//! on its way to a Parca, as none goes out in the bytes in which it came.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use profile_relay::{
    r#gen::opentelemetry::proto::collector::profiles::v1development::ExportProfilesServiceRequest,
    profile::{
        Labels,
        arrow::{Arrow, SyntheticArrow, outline, stacks_request, write_v1, write_v2},
        convert::{OtlpOptions, PprofOptions, RequestBuilder, arrow_to_pprof, to_pprof},
        pprof::{Pprof, SyntheticProfile},
    },
};
use prost::Message;
use std::{hint::black_box, time::SystemTime};

const MAX: u64 = 1 << 28;

fn cases() -> Vec<(&'static str, Pprof)> {
    let large = SyntheticProfile {
        samples: 8_000,
        functions: 3_000,
        depth: 20,
        labels: vec![("tenant".to_owned(), 40), ("route".to_owned(), 100)],
        ..SyntheticProfile::heap(2)
    };
    let plain = |synthetic: SyntheticProfile| Pprof::new(synthetic.encode_plain().into());
    vec![
        ("heap", plain(SyntheticProfile::heap(1))),
        ("labels", plain(large)),
    ]
}

fn labels() -> Labels {
    let pairs = [("__name__", "memory"), ("job", "api"), ("instance", "a:1")];
    pairs.into_iter().collect()
}

fn request(pprof: &Pprof, times: usize) -> Bytes {
    let mut builder = RequestBuilder::new(OtlpOptions::default());
    for _ in 0..times {
        let added = builder.add(&labels(), SystemTime::now(), pprof, pprof.bytes());
        assert!(added.is_ok());
    }
    builder.finish()
}

fn to_otlp(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pprof to OTLP");
    for (name, pprof) in cases() {
        // A receiver has checked it.
        assert!(pprof.check(MAX).is_ok());
        let len = pprof.bytes().len() as u64;
        group.throughput(Throughput::Bytes(len));
        group.bench_function(BenchmarkId::new("one", name), |b| {
            b.iter(|| request(black_box(&pprof), 1));
        });
        group.throughput(Throughput::Bytes(len * 20));
        group.bench_function(BenchmarkId::new("20 in a request", name), |b| {
            b.iter(|| request(black_box(&pprof), 20));
        });
    }
    group.finish();
}

fn from_otlp(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("OTLP to pprof");
    for (name, pprof) in cases() {
        let encoded = request(&pprof, 1);
        group.throughput(Throughput::Bytes(encoded.len() as u64));
        for (what, gzip) in [("plain", false), ("gzip", true)] {
            let options = PprofOptions {
                received: SystemTime::now(),
                max_inflated: MAX,
                series_attributes: &[],
                max_series: 100,
                original_payload: false,
                gzip,
            };
            let convert = |request: &ExportProfilesServiceRequest| {
                let dictionary = request.dictionary.as_ref();
                let resource = &request.resource_profiles[0];
                dictionary.map(|d| to_pprof(&labels(), resource, d, &options).is_ok())
            };
            let decode = |encoded: Bytes| ExportProfilesServiceRequest::decode(encoded);
            let decoded = decode(encoded.clone()).unwrap_or_default();
            group.bench_function(BenchmarkId::new(what, name), |b| {
                b.iter(|| convert(black_box(&decoded)));
            });
            group.bench_function(BenchmarkId::new(format!("decode, {what}"), name), |b| {
                b.iter(|| decode(black_box(encoded.clone())).map(|decoded| convert(&decoded)));
            });
        }
    }
    group.finish();
}

/// As an exporter sends it to a Parca.
fn relabelled(body: &Arrow) -> Option<Arrow> {
    let mut table = body.decode(MAX).ok()?;
    table.overlay(&labels());
    if body.is_v1() {
        let (samples, stacks) = write_v1(&table, MAX).ok()?;
        Some(Arrow::v1(samples, stacks))
    } else {
        write_v2(&table, MAX).ok().map(Arrow::v2)
    }
}

fn from_arrow(criterion: &mut Criterion) {
    let synthetic = SyntheticArrow::busy(1);
    let (Ok(v1), Ok(v2)) = (synthetic.v1(), synthetic.v2()) else {
        return;
    };
    let mut group = criterion.benchmark_group("Arrow");
    for (name, body) in [("v1", &v1), ("v2", &v2)] {
        let samples = body.samples();
        group.throughput(Throughput::Bytes(samples.len() as u64));
        group.bench_function(BenchmarkId::new("outline", name), |b| {
            b.iter(|| outline(black_box(samples)));
        });
        group.throughput(Throughput::Bytes(body.byte_len() as u64));
        group.bench_function(BenchmarkId::new("decode", name), |b| {
            b.iter(|| black_box(body).decode(MAX));
        });
        group.bench_function(BenchmarkId::new("labels", name), |b| {
            b.iter(|| relabelled(black_box(body)));
        });
        group.bench_function(BenchmarkId::new("to OTLP", name), |b| {
            b.iter(|| arrow_to_otlp(black_box(body)));
        });
        group.bench_function(BenchmarkId::new("to pprof", name), |b| {
            b.iter(|| pprofs(black_box(body)));
        });
    }
    let decode = |body: &Arrow| black_box(body).decode(MAX);
    group.throughput(Throughput::Bytes(v1.byte_len() as u64));
    group.bench_function("v1 anew", |b| {
        b.iter(|| decode(&v1).map(|table| write_v1(&table, MAX)));
    });
    group.throughput(Throughput::Bytes(v2.byte_len() as u64));
    group.bench_function("v2 anew", |b| {
        b.iter(|| decode(&v2).map(|table| write_v2(&table, MAX)));
    });
    group.bench_function("v2 to v1", |b| {
        b.iter(|| decode(&v2).map(|table| write_v1(&table, MAX)));
    });
    group.throughput(Throughput::Bytes(v1.samples().len() as u64));
    group.bench_function("request for stacks", |b| {
        b.iter(|| stacks_request(black_box(v1.samples()), MAX));
    });
    group.finish();
}

fn arrow_to_otlp(body: &Arrow) -> Bytes {
    let mut builder = RequestBuilder::new(OtlpOptions::default());
    let added = body
        .decode(MAX)
        .map(|table| builder.add_arrow(&labels(), table));
    assert!(matches!(added, Ok(Ok(1..))));
    builder.finish()
}

fn pprofs(body: &Arrow) -> usize {
    let options = PprofOptions {
        received: SystemTime::now(),
        max_inflated: MAX,
        series_attributes: &[],
        max_series: 1,
        original_payload: false,
        gzip: true,
    };
    let Ok(table) = body.decode(MAX) else {
        return 0;
    };
    arrow_to_pprof(&labels(), table, &options).map_or(0, |pprofs| pprofs.len())
}

criterion_group!(benches, to_otlp, from_otlp, from_arrow);
criterion_main!(benches);
