use super::*;
use crate::profile::Body;
use crate::{exporters::shared::pprofs::tests::as_otlp, profile::otlp::Compression};
use crate::{
    pipeline::Budget,
    profile::{
        NAME, Origin,
        pprof::{Pprof, synthetic::SyntheticProfile},
    },
    telemetry::{Metrics, Status},
};
use bytes::Bytes;
use std::{
    io,
    sync::{Arc, Mutex},
};
use tracing::subscriber;
use tracing_subscriber::fmt::MakeWriter;

/// What a subscriber wrote.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The lines written for these bodies.
async fn lines(settings: DebugSettings, bodies: Vec<Bytes>) -> Vec<String> {
    let profile = |body| Profile {
        labels: [("job", "api"), (NAME, "memory")].into_iter().collect(),
        body: Body::Pprof(Pprof::new(body)),
        received: UNIX_EPOCH,
    };
    written(settings, bodies.into_iter().map(profile).collect()).await
}

async fn written(settings: DebugSettings, profiles: Vec<Profile>) -> Vec<String> {
    let context = Context {
        id: "debug".parse().unwrap(),
        metrics: Metrics::default(),
        status: Status::default(),
        memory: Budget::new(u64::MAX),
        sockets: Default::default(),
        ending: Default::default(),
    };
    let exporter = settings.build(&context).unwrap();
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_ansi(false)
        .without_time()
        .finish();
    {
        let _guard = subscriber::set_default(subscriber);
        let batch = Batch::new(Origin::default(), profiles);
        exporter.export(&batch).await.unwrap();
    }
    let written = log.0.lock().unwrap().clone();
    String::from_utf8(written)
        .unwrap()
        .lines()
        .map(String::from)
        .collect()
}

fn verbosity(verbosity: Verbosity) -> DebugSettings {
    DebugSettings {
        verbosity,
        ..DebugSettings::default()
    }
}

#[tokio::test]
async fn an_otlp_body_is_shown_as_the_pprof_that_it_stands_for() {
    let pprof = Pprof::new(SyntheticProfile::heap(1).encode());
    let profiles = || as_otlp(&[("api", pprof.clone())], Compression::None);
    let basic = written(verbosity(Verbosity::Basic), profiles()).await;
    assert_eq!(basic.len(), 1);
    assert!(basic[0].contains(r#"labels={job="api"}"#), "{basic:?}");
    assert!(basic[0].contains("profiles=4"), "{basic:?}");
    let detailed = written(verbosity(Verbosity::Detailed), profiles()).await;
    let own = lines(verbosity(Verbosity::Detailed), vec![pprof.bytes().clone()]).await;
    let types = |line: &str| {
        let from = line.find("types=").unwrap();
        line[from..line.find(" samples=").unwrap()].to_owned()
    };
    assert_eq!(types(&detailed[0]), types(&own[0]));
    assert!(detailed[0].contains("top="), "{detailed:?}");
}

#[tokio::test]
async fn a_line_says_more_with_each_verbosity() {
    let body = SyntheticProfile::heap(1).encode();
    let bytes = format!("bytes={}", body.len());
    let basic = [
        r#"labels={__name__="memory", job="api"}"#,
        &bytes,
        "received=1970-01-01T00:00:00.000Z",
    ];
    let normal = ["samples=564", "types=", "time="];
    let detailed = ["functions=", "mappings=", "top="];
    for (level, has, lacks) in [
        (Verbosity::Basic, vec![&basic], vec![&normal, &detailed]),
        (Verbosity::Normal, vec![&basic, &normal], vec![&detailed]),
        (
            Verbosity::Detailed,
            vec![&basic, &normal, &detailed],
            vec![],
        ),
    ] {
        let lines = lines(verbosity(level), vec![body.clone()]).await;
        assert_eq!(lines.len(), 1, "{lines:?}");
        for field in has.into_iter().flatten() {
            assert!(lines[0].contains(field), "{level:?} {field}: {}", lines[0]);
        }
        for field in lacks.into_iter().flatten() {
            assert!(!lines[0].contains(field), "{level:?} {field}: {}", lines[0]);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_said() {
    let lines = lines(verbosity(Verbosity::Normal), vec!["<html>".into()]).await;
    assert!(
        lines[0].contains("bytes=6") && lines[0].contains("error="),
        "{lines:?}"
    );
}

#[tokio::test]
async fn lines_are_sampled() {
    let settings = DebugSettings {
        sampling_initial: 1,
        sampling_thereafter: 0,
        ..DebugSettings::default()
    };
    let bodies = vec![Bytes::from_static(b"x"); 50];
    // Less than 50, whatever the machine's pace, and never none.
    let written = lines(settings, bodies).await.len();
    assert!((1..10).contains(&written), "{written}");
}

#[test]
fn odd_times_are_left_out() {
    assert!(start(0).is_none() && start(-1).is_none());
    assert_eq!(
        start(1_500_000_000).unwrap().to_string(),
        "1970-01-01T00:00:01.500Z"
    );
    let _ = start(i64::MAX).map(|time| time.to_string());
    assert!(duration(0).is_none() && duration(i64::MIN).is_none());
    assert_eq!(duration(10_000_000_000).unwrap().to_string(), "10s");
}

#[test]
fn a_silent_exporter_is_a_problem() {
    let silent = DebugSettings {
        sampling_initial: 0,
        sampling_thereafter: 0,
        ..DebugSettings::default()
    };
    assert_eq!(silent.problems()[0].path, "sampling_thereafter");
    assert!(DebugSettings::default().problems().is_empty());
}
