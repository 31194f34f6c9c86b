//! What agents push, in a real Parca: by `Write`, by `WriteArrow` where it is known,
//! rewritten where it is not, and as pprof.

use super::*;
use crate::r#gen::query::query_request::ReportType;
use bytes::Bytes;
use profile_relay::{
    exporters::parca::ArrowAs,
    profile::{
        Body, Labels, Profile,
        arrow::{Arrow, SyntheticArrow, constant_labels},
        convert::{PprofOptions, arrow_to_pprof},
    },
};
use std::{collections::BTreeMap, time::SystemTime};

/// The type of CPU samples of parca-agent.
const CPU: &str = "parca_agent:samples:count:cpu:nanoseconds:delta";

/// What the same samples are as each of the bodies that agents send.
fn bodies() -> [(&'static str, Arrow); 2] {
    let made = SyntheticArrow {
        rows: 300,
        stacks: 40,
        depth: 8,
        processes: 3,
        ..SyntheticArrow::busy(7)
    };
    [
        ("v1", made.v1().expect("a body")),
        ("v2", made.v2().expect("a body")),
    ]
}

/// A body with a label that only its case has.
fn pushed(case: &str, arrow: &Arrow) -> Profile {
    let mut labels = labels_of(arrow).edit();
    labels.set("case", case);
    Profile {
        labels: labels.build(),
        body: Body::ParcaArrow(arrow.clone()),
        received: SystemTime::now(),
    }
}

fn labels_of(arrow: &Arrow) -> Labels {
    constant_labels(arrow, 64 << 20).expect("labels")
}

/// The values by stack, leaf first.
fn by_stack(profile: &profile_relay::r#gen::pprof::Profile) -> BTreeMap<Vec<String>, i64> {
    let mut sums = BTreeMap::new();
    for sample in &profile.sample {
        let names = sample.location_id.iter().map(|id| {
            let one = profile_relay::r#gen::pprof::Sample {
                location_id: vec![*id],
                value: vec![1],
                ..Default::default()
            };
            let of_one = profile_relay::r#gen::pprof::Profile {
                sample: vec![one],
                ..profile.clone()
            };
            flat(&of_one).into_keys().next().unwrap_or_default()
        });
        *sums.entry(names.collect()).or_default() += sample.value[0];
    }
    sums
}

/// What a Parca has of a case: values by stack, points in time, and who was profiled.
async fn stored(
    parca: &RealParca,
    case: &str,
) -> (BTreeMap<Vec<String>, i64>, Vec<(i64, i64)>, Vec<String>) {
    let query = format!("{CPU}{{case={case:?}}}");
    let merged = parca.merged(&query, always(), &[]).await.expect("a report");
    let points = parca.points(&query, always()).await.expect("points");
    let mut comms = parca.values("comm").await.expect("values");
    comms.sort();
    for report in [
        ReportType::Top,
        ReportType::Callgraph,
        ReportType::FlamegraphTable,
    ] {
        let answer = parca.report(&query, always(), report).await;
        answer.unwrap_or_else(|error| panic!("{case}, {report:?}: {error}"));
    }
    (by_stack(&merged), points, comms)
}

#[tokio::test]
async fn what_agents_push_is_read_back_whatever_the_way() {
    let name = "what_agents_push_is_read_back_whatever_the_way";
    let Some(binary) = support::needs_env(name, "PARCA_BIN") else {
        return;
    };
    let knows_v2 = !RealParca::version(&binary).contains("0.27");
    let mut parca = RealParca::start(&binary).await;
    for (schema, arrow) in bodies() {
        for (way, sent_as) in [("auto", ArrowAs::Auto), ("v1", ArrowAs::V1)] {
            let subject = Subject::with(parca.addr(), |s| s.arrow_as = sent_as);
            let case = format!("{schema}-{way}");
            for part in subject.prepare(pushed(&case, &arrow)).expect("parts") {
                subject.export(vec![part]).await.expect("stored");
            }
        }
    }
    let first = stored(&parca, "v1-auto").await;
    let all: i64 = first.0.values().sum();
    // Parca gives CPU samples times their period.
    assert_eq!(all, 300 * 52_631_578);
    assert!(first.0.len() > 20, "{} stacks", first.0.len());
    let seconds: Vec<_> = first.1.iter().map(|(second, _)| *second).collect();
    assert_eq!(seconds, [1_780_000_000], "samples keep their times");
    for case in ["v1-v1", "v2-v1", "v2-auto"] {
        let got = stored(&parca, case).await;
        assert_eq!(got, first, "{case}");
    }
    assert!(parca.is_alive());
    // A Parca that does not know WriteArrow is not asked again at once.
    let subject = Subject::new(parca.addr());
    let [_, (_, v2)] = bodies();
    for _ in 0..3 {
        let parts = subject.prepare(pushed("again", &v2)).expect("parts");
        subject.export(parts).await.expect("stored");
    }
    let parts = subject.prepare(pushed("again", &v2)).expect("parts");
    let body = parts[0].profile.body.as_arrow().expect("Arrow");
    assert_eq!(body.stacks().is_none(), knows_v2);
}

#[tokio::test]
async fn what_agents_push_can_be_read_back_as_pprof() {
    let name = "what_agents_push_can_be_read_back_as_pprof";
    let Some(binary) = support::needs_env(name, "PARCA_BIN") else {
        return;
    };
    let parca = RealParca::start(&binary).await;
    let subject = Subject::new(parca.addr());
    for (schema, arrow) in bodies() {
        let profile = pushed(&format!("{schema}-arrow"), &arrow);
        let parts = subject.prepare(profile).expect("parts");
        subject.export(parts).await.expect("stored");
        let profile = pushed(&format!("{schema}-pprof"), &arrow);
        let table = arrow.decode(64 << 20).expect("a table");
        let options = PprofOptions {
            received: SystemTime::now(),
            max_inflated: 64 << 20,
            series_attributes: &[],
            max_series: 100,
            original_payload: false,
            gzip: true,
        };
        let pprofs = arrow_to_pprof(&profile.labels, table, &options).expect("pprofs");
        for converted in pprofs {
            let pprof = Profile {
                labels: converted.labels,
                body: Body::Pprof(converted.pprof),
                received: SystemTime::now(),
            };
            subject.send(pprof).await.expect("stored");
        }
        let sums = async |case: String| {
            let query = format!("{CPU}{{case={:?}}}", case);
            let merged = parca.merged(&query, always(), &[]).await;
            let stacks = by_stack(&merged.expect("a report"));
            (stacks.values().sum::<i64>(), stacks)
        };
        let (all, stacks) = sums(format!("{schema}-arrow")).await;
        let (pprof_all, pprof_stacks) = sums(format!("{schema}-pprof")).await;
        assert_eq!(all, pprof_all, "{schema}");
        assert_eq!(stacks, pprof_stacks, "{schema}");
    }
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    /// The same bytes with one to four of them changed.
    fn damage(&mut self, bytes: &Bytes) -> Bytes {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            bytes[at] = self.below(256) as u8;
        }
        bytes.into()
    }

    /// A body with damage in one of its messages.
    fn mutant(&mut self, arrow: &Arrow) -> Arrow {
        match arrow.stacks() {
            None => Arrow::v2(self.damage(arrow.samples())),
            Some(stacks) if self.below(2) == 0 => {
                Arrow::v1(arrow.samples().clone(), self.damage(stacks))
            }
            Some(stacks) => Arrow::v1(self.damage(arrow.samples()), stacks.clone()),
        }
    }
}

#[tokio::test]
async fn no_damaged_arrow_harms_a_real_parca() {
    let name = "no_damaged_arrow_harms_a_real_parca";
    let Some(binary) = support::needs_env(name, "PARCA_BIN") else {
        return;
    };
    let mut parca = RealParca::start(&binary).await;
    let subject = Subject::new(parca.addr());
    let small = SyntheticArrow {
        rows: 12,
        stacks: 3,
        depth: 4,
        processes: 2,
        ..SyntheticArrow::busy(1)
    };
    let bodies = [small.v1().expect("a body"), small.v2().expect("a body")];
    let (mut random, mut sent) = (Random(0x9e37_79b9_7f4a_7c15), 0);
    for at in 0..1_200 {
        let arrow = random.mutant(&bodies[at % 2]);
        let profile = Profile {
            labels: constant_labels(&arrow, 64 << 20).unwrap_or_default(),
            body: Body::ParcaArrow(arrow.clone()),
            received: SystemTime::now(),
        };
        let Ok(parts) = subject.prepare(profile) else {
            continue;
        };
        sent += parts.len();
        for part in parts {
            let result = subject.export(vec![part]).await;
            let died = matches!(
                result,
                Err(ExportError::Died { .. } | ExportError::Retry { .. })
            );
            assert!(
                !died && parca.is_alive(),
                "mutant {at}: {result:?}\n{}",
                parca.output()
            );
        }
    }
    assert!(sent > 50, "{sent} were sent");
    for kind in parca.profile_types().await.expect("a profile list") {
        for report in [
            ReportType::Top,
            ReportType::Callgraph,
            ReportType::FlamegraphTable,
        ] {
            let answer = parca.report(&format!("{kind}{{}}"), always(), report).await;
            answer.unwrap_or_else(|error| panic!("{kind}, {report:?}: {error}"));
        }
    }
    assert!(parca.is_alive());
}
