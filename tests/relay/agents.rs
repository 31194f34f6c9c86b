//! parca-agent before the whole program.

use crate::{
    agent::{Agent, File, Habit, Mark},
    config,
    far_end::{
        Behaviour, FarEnd, Fault,
        generation::{Asked, Generation, StoredArrow},
    },
    harness::{LIMIT, Relay, until},
    metrics::Metrics,
    otlp_in::address,
};
use bytes::Bytes;
use futures_util::future::join_all;
use profile_relay::{
    r#gen::profilestore::{WriteRequest, profile_store_service_client::ProfileStoreServiceClient},
    net::{ClientTls, GrpcChannel, GrpcClientSettings},
    profile::arrow::{Part, SyntheticArrow, outline},
};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tokio::{runtime::Runtime, sync::mpsc};
use tonic::Code;

/// An agent's minute is a second.
const PACE: f64 = 60.0;

const SAMPLES: &[u8] = include_bytes!("../data/arrow/v1_samples.arrows");
const STACKS: &[u8] = include_bytes!("../data/arrow/v1_stacks.arrows");
const V2: &[u8] = include_bytes!("../data/arrow/v2.arrows");

/// A relay that takes what agents push and sends it on.
fn config(receiver: &str, exporter: &str, service: &str) -> String {
    format!(
        "receivers: {{parca: {{endpoint: \"127.0.0.1:0\"{receiver}}}}}\n\
         exporters: {{parca: {{{exporter}}}}}\n\
         service:\n  pipelines: {{profiles: {{receivers: [parca], exporters: [parca]}}}}\n\
         {service}\n"
    )
}

fn upstream(far_end: &FarEnd) -> String {
    let address = far_end.addr();
    format!(
        ", upstream: {{endpoint: \"http://{address}\", timeout: 2s, \
         auth: {{bearer_token: of-the-relay}}}}"
    )
}

fn listening(relay: &Relay) -> SocketAddr {
    address(relay, "grpc").parse().expect("an address")
}

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime")
}

fn all() -> [Bytes; 3] {
    [SAMPLES, STACKS, V2].map(Bytes::from_static)
}

fn accepted(relay: &Relay) -> u64 {
    let labels = [("receiver", "parca")];
    relay
        .metrics()
        .sum("receiver_accepted_profiles_total", &labels)
}

fn requests(relay: &Relay, call: &str, outcome: &str) -> u64 {
    let labels = [("protocol", call), ("outcome", outcome)];
    relay.metrics().sum("receiver_requests_total", &labels)
}

#[test]
fn agents_of_all_ages_hear_success_while_the_store_is_away() {
    let far_end = FarEnd::start(Behaviour::default());
    far_end.stop();
    let relay = Relay::run(&config("", &config::to(far_end.addr(), ""), ""));
    let [samples, stacks, v2] = all();
    // Until all is taken: an agent goes on living behind its call.
    let runtime = runtime();
    runtime.block_on(async {
        let agent = Agent::dial(listening(&relay), PACE).await;
        agent.write_arrow(&v2).await.expect("a success");
        for habit in [Habit::ReadsOn, Habit::Leaves] {
            let asked = agent.write(&samples, &stacks, habit).await;
            let asked = asked.expect("a success").expect("a question");
            // Both stacks of the samples, by their ids.
            for id in [[1; 16], [2; 16]] {
                assert!(asked.windows(16).any(|found| found == id));
            }
        }
        agent.report_panic().await.expect("a success");
    });
    until("all are taken", || (accepted(&relay) == 3).then_some(()));
    drop(runtime);
    assert_eq!(requests(&relay, "write", "ok"), 2);
    relay.logged("an agent has ended in a panic");
    // The streams that nobody reads do not hold up the end.
    let ended = relay.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
}

#[test]
fn what_agents_push_arrives_at_each_generation_of_parca() {
    let [samples, stacks, v2] = all();
    for generation in [Generation::V0_25, Generation::V0_27, Generation::V0_28] {
        let far_end = FarEnd::start(Behaviour {
            generation,
            ..Behaviour::default()
        });
        let relay = Relay::run(&config("", &config::to(far_end.addr(), ""), ""));
        // An agent that does not read on lives on.
        let runtime = runtime();
        runtime.block_on(async {
            let agent = Agent::dial(listening(&relay), PACE).await;
            agent.write_arrow(&v2).await.expect("a success");
            let asked = agent.write(&samples, &stacks, Habit::Leaves).await;
            asked.expect("a success").expect("a question");
        });
        let arrived = far_end.wait(LIMIT, |log| log.arrow.len() >= 2);
        assert!(arrived, "{generation:?}\n{}", relay.log());
        // By the call of its schema, or rewritten for the one that there is.
        let whole = |stored: &&StoredArrow| stored.stacks.is_none();
        let stored = far_end.log().arrow;
        let expected = usize::from(generation == Generation::V0_28);
        assert_eq!(
            stored.iter().filter(whole).count(),
            expected,
            "{generation:?}"
        );
        for StoredArrow { samples, stacks } in &stored {
            let part = match stacks {
                Some(_) => Part::V1Samples,
                None => Part::V2,
            };
            assert_eq!(outline_of(Some(samples)), (part, 3), "{generation:?}");
            if stacks.is_some() {
                let table = outline_of(stacks.as_ref());
                assert_eq!(table, (Part::V1Stacks, 2), "{generation:?}");
            }
        }
        let books = |metrics: &Metrics| metrics.books("parca");
        let metrics = relay.until("both are sent", |metrics| books(metrics).sent == 2);
        assert_eq!(books(&metrics).dropped, 0, "{generation:?}");
    }
}

/// What a message is, and its rows.
fn outline_of(message: Option<&Bytes>) -> (Part, u64) {
    let outline = outline(message.expect("a message")).expect("Arrow");
    (outline.part, outline.rows)
}

#[test]
fn a_store_is_sent_the_stacks_it_asks_for() {
    let [samples, stacks, _] = all();
    let second = include_bytes!("../data/arrow/v1_second_id.arrows");
    for (asked, rows) in [
        (Asked::These(Bytes::from_static(second)), Some(1)),
        (Asked::Nothing, None),
        (Asked::All, Some(2)),
    ] {
        let far_end = FarEnd::start(Behaviour {
            asked,
            ..Behaviour::default()
        });
        let relay = Relay::run(&config("", &config::to(far_end.addr(), ""), ""));
        runtime().block_on(async {
            let agent = Agent::dial(listening(&relay), PACE).await;
            let asked = agent.write(&samples, &stacks, Habit::ReadsOn).await;
            asked.expect("a success").expect("a question");
        });
        relay.until("it is sent", |metrics| metrics.books("parca").sent == 1);
        let stored = far_end.log().arrow;
        assert_eq!(stored.len() as u64, u64::from(rows.is_some()));
        if let Some(rows) = rows {
            let table = outline_of(stored[0].stacks.as_ref());
            assert_eq!(table, (Part::V1Stacks, rows));
        }
    }
}

#[test]
fn an_agent_rides_out_a_full_queue_by_its_retries() {
    let far_end = FarEnd::start(Behaviour::default());
    far_end.pause();
    let size = V2.len() + 2_000;
    let queue = format!("max_bytes: {size}");
    let relay = Relay::run(&config("", &config::to(far_end.addr(), &queue), ""));
    let [_, _, v2] = all();
    runtime().block_on(async {
        let agent = Agent::dial(listening(&relay), PACE).await;
        agent.write_arrow(&v2).await.expect("a success");
        let again = agent.clone();
        let other: Bytes = v2.to_vec().into();
        let writing = async move { again.write_arrow(&other).await };
        let freeing = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            far_end.resume();
        };
        let (written, ()) = tokio::join!(writing, freeing);
        let log = agent.log.lock().expect("a lock").clone();
        assert!(written.is_ok(), "{log:?}");
        let refused = log
            .iter()
            .filter(|(_, code)| *code == Code::ResourceExhausted);
        assert!(refused.count() > 0, "{log:?}");
    });
}

#[test]
fn agents_of_busy_machines_stay_within_the_limit_of_memory() {
    const MEMORY: u64 = 48 << 20;
    let far_end = FarEnd::start(Behaviour {
        generation: Generation::V0_27,
        ..Behaviour::default()
    });
    let memory = format!("  memory: {{limit: {MEMORY}B}}");
    let relay = Relay::run(&config("", &config::to(far_end.addr(), ""), &memory));
    let (busy, address) = (SyntheticArrow::busy(1), listening(&relay));
    let (v1, v2) = (busy.v1().expect("a body"), busy.v2().expect("a body"));
    let stacks = v1.stacks().expect("of schema v1");
    let pushing = |number: usize| {
        let (samples, stacks, v2) = (v1.samples(), stacks, v2.samples());
        async move {
            let agent = Agent::dial(address, PACE).await;
            for _ in 0..3 {
                // What there is no memory for is refused, and not tried again.
                let _ = agent.write(samples, stacks, Habit::ReadsOn).await;
                if number.is_multiple_of(2) {
                    let _ = agent.write_arrow(v2).await;
                }
            }
        }
    };
    runtime().block_on(join_all((0..16).map(pushing)));
    let accepted = accepted(&relay);
    assert!(accepted > 16, "{accepted}");
    until("all that was accepted arrives", || {
        (far_end.log().arrow.len() as u64 == accepted).then_some(())
    });
    relay.assert_memory_within(MEMORY);
    relay.until("all memory came back", |metrics| {
        metrics.sum("memory_used_bytes", &[]) < 1 << 20
    });
}

#[test]
fn half_a_profile_is_nowhere_after_a_restart_between_the_two_messages() {
    let far_end = FarEnd::start(Behaviour::default());
    far_end.stop();
    let folder = tempfile::tempdir().expect("a folder");
    let exporter = config::to(far_end.addr(), "storage: file_storage");
    let yaml = format!(
        "extensions: {{file_storage: {{directory: {}}}}}\n{}",
        folder.path().display(),
        config("", &exporter, "  extensions: [file_storage]")
    );
    let relay = Relay::run(&yaml);
    let [samples, stacks, v2] = all();
    let runtime = runtime();
    let (say, mut answers) = runtime.block_on(async {
        let agent = Agent::dial(listening(&relay), PACE).await;
        agent.write_arrow(&v2).await.expect("a success");
        let channel = GrpcChannel::new(&GrpcClientSettings {
            endpoint: format!("http://{}", listening(&relay)),
            tls: ClientTls {
                insecure: true,
                ..ClientTls::default()
            },
            ..GrpcClientSettings::default()
        });
        let channel = channel.expect("good settings");
        let (say, said) = mpsc::channel(2);
        let said = futures_util::stream::unfold(said, async |mut said| {
            let record: Bytes = said.recv().await?;
            Some((WriteRequest { record }, said))
        });
        say.send(samples.clone()).await.expect("a stream");
        let answers = ProfileStoreServiceClient::new(channel).write(said).await;
        let mut answers = answers.expect("a stream").into_inner();
        answers.message().await.expect("a question");
        (say, answers)
    });
    // `kill -9`.
    drop(relay);
    runtime.block_on(async {
        let _ = say.send(stacks.clone()).await;
        // The agent has lost it, and knows.
        answers.message().await.expect_err("no success");
    });
    let relay = Relay::run(&yaml);
    let books = relay.books("parca");
    assert_eq!(
        (books.recovered, books.queued),
        (1, 1),
        "only what was whole"
    );
}

#[test]
fn symbols_of_25_at_once_pass_through_and_stay_out_of_memory() {
    const MEMORY: u64 = 64 << 20;
    let far_end = FarEnd::start(Behaviour {
        authorization: Some("Bearer of-the-relay".to_owned()),
        ..Behaviour::default()
    });
    let limit = "  memory: {limit: 64MiB}";
    let exporter = config::to(far_end.addr(), "");
    let relay = Relay::run(&config(&upstream(&far_end), &exporter, limit));
    let bytes: Bytes = (0..9_u32 << 20).map(|at| (at % 251) as u8).collect();
    let files: Vec<_> = (0..26)
        .map(|at| File {
            build_id: format!("build-{at}"),
            bytes: bytes.clone(),
        })
        .collect();
    let marks = runtime().block_on(async {
        let agent = Agent::dial(listening(&relay), PACE).await;
        let agent = agent.with_token("of-the-agent");
        let first = agent.upload_all(&files).await;
        // The next agent asks about the same files.
        let other = Agent::dial(listening(&relay), PACE).await;
        assert_eq!(other.upload_all(&files).await, first);
        first
    });
    assert!(
        marks.values().all(|mark| *mark == Mark::ForGood),
        "{marks:?}"
    );
    let log = far_end.log();
    let crc = crc32fast::hash(&bytes);
    let stored: BTreeMap<_, _> = log
        .files
        .iter()
        .map(|file| (&file.build_id, file))
        .collect();
    assert_eq!((stored.len(), log.finished.len()), (26, 26));
    assert!(stored.values().all(|file| file.crc == crc));
    // It was told that they are new, so it asked the second time as well.
    assert_eq!(log.asked.len(), 52);
    relay.assert_memory_within(MEMORY);
}

#[test]
fn an_outage_of_the_store_never_makes_an_agent_give_a_file_up() {
    let far_end = FarEnd::start(Behaviour::default());
    let exporter = config::to(far_end.addr(), "");
    let relay = Relay::run(&config(&upstream(&far_end), &exporter, ""));
    let file = File {
        build_id: "abcd".to_owned(),
        bytes: vec![7; 9 << 20].into(),
    };
    runtime().block_on(async {
        let agent = Agent::dial(listening(&relay), PACE).await;
        // Reset in the middle of the upload.
        far_end.set(|behaviour| behaviour.faults = [Fault::Reset].into());
        assert_eq!(agent.upload(&file).await, Mark::None);
        far_end.stop();
        assert_eq!(agent.upload(&file).await, Mark::None);
        let codes: Vec<_> = {
            let log = agent.log.lock().expect("a lock");
            log.iter().map(|(_, code)| *code).collect()
        };
        let others = codes
            .iter()
            .filter(|code| ![Code::Ok, Code::Unavailable].contains(code));
        assert_eq!(others.count(), 0, "{codes:?}");
        far_end.restart();
        assert_eq!(agent.upload(&file).await, Mark::ForGood);
    });
    assert_eq!(far_end.log().files.len(), 1);
}

#[test]
fn a_relay_without_an_upstream_puts_agents_off() {
    let far_end = FarEnd::start(Behaviour::default());
    let relay = Relay::run(&config("", &config::to(far_end.addr(), ""), ""));
    let file = File {
        build_id: "abcd".to_owned(),
        bytes: vec![7; 100].into(),
    };
    runtime().block_on(async {
        let agent = Agent::dial(listening(&relay), PACE).await;
        assert_eq!(agent.upload(&file).await, Mark::FiveMinutes);
    });
    assert!(far_end.log().asked.is_empty());
}

#[test]
fn a_silent_agent_is_told_within_its_time() {
    let far_end = FarEnd::start(Behaviour::default());
    let hasty = ", write: {idle_timeout: 300ms}";
    let relay = Relay::run(&config(hasty, &config::to(far_end.addr(), ""), ""));
    runtime().block_on(async {
        let agent = Agent::dial(listening(&relay), PACE).await;
        let samples = Bytes::from_static(SAMPLES);
        let silent = tokio::time::timeout(LIMIT, agent.write_half(&samples));
        let status = silent.await.expect("an end");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    });
    assert_eq!(requests(&relay, "write", "late"), 1);
    assert_eq!(accepted(&relay), 0);
}
