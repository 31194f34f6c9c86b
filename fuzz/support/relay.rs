//! Receivers within the process, before a pipeline that takes everything, in time
//! that passes when nothing else happens.

use crate::support::peak;
use async_trait::async_trait;
use profile_relay::{
    net::serve::{Sockets, sockets::Door},
    pipeline::{
        Blueprint, Budget, Context, DeliverySettings, ExportError, Exporter, Inventory,
        PipelineBlueprint, Planned, Receiver, Running,
    },
    profile::Batch,
    receivers::parca,
    settings::{ComponentType, Duration as Setting, Fingerprint, Id, Kind, Node},
    telemetry::{Metrics, Status},
};
use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::DuplexStream,
    runtime::{Builder, Runtime},
    time::{sleep, timeout},
};

/// The memory of the relay, in bytes.
const MEMORY: u64 = 8 << 20;
/// What both ends of a connection take, and what the client sends.
const SLACK: u64 = 6 << 20;
/// What the relay may go on holding, in bytes: a few writes that it has taken.
const REMEMBERED: u64 = 1_000;
/// The longest that anything of the relay's takes: its own bounds are a minute.
pub const PATIENCE: Duration = Duration::from_secs(200);

/// Receivers that run.
pub struct Relay {
    runtime: Runtime,
    memory: Budget,
    doors: Vec<Door>,
    _running: Running,
}

/// An exporter to nowhere.
struct Sink;

#[async_trait]
impl Exporter for Sink {
    async fn export(&self, _: &Batch) -> Result<(), ExportError> {
        Ok(())
    }
}

/// What a receiver of this id is built with.
pub type InContext<'c> = &'c dyn Fn(&str) -> Context;

// === impl Relay ===

impl Relay {
    /// Runs what is built, which binds all of `endpoints`, `host:port`.
    pub fn start(
        endpoints: &[&str],
        build: impl FnOnce(InContext<'_>) -> Vec<Box<dyn Receiver>>,
    ) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let (sockets, memory) = (Sockets::default(), Budget::new(MEMORY));
        let (metrics, status) = (Metrics::default(), Status::default());
        let context = |id: &str| Context {
            id: id.parse().expect("an id"),
            metrics: metrics.clone(),
            status: status.clone(),
            memory: memory.for_intake(),
            sockets: sockets.clone(),
            ending: Default::default(),
        };
        let doors = endpoints.iter().map(|endpoint| sockets.door(endpoint));
        let doors = doors.collect();
        let mut running = Running::new(&metrics, &status, &memory);
        runtime.block_on(async {
            let mut blueprint = blueprint(build(&context));
            let bound = blueprint.bind(&Inventory::default(), &memory).await;
            bound.expect("all doors are free");
            running.apply(blueprint, Duration::ZERO).await;
        });
        Self {
            runtime,
            memory,
            doors,
            _running: running,
        }
    }

    /// A client connects and does something. When it is gone nothing is left of it.
    pub fn visit<F: Future<Output = ()>>(
        &self,
        door: usize,
        visit: impl FnOnce(DuplexStream) -> F,
    ) {
        let began = Instant::now();
        let door = &self.doors[door % self.doors.len()];
        let ((), taken) = peak(|| {
            self.runtime.block_on(async {
                visit(door.connect().expect("somebody listens")).await;
                let free = async {
                    while self.memory.used() > REMEMBERED {
                        sleep(Duration::from_millis(1)).await;
                    }
                };
                let free = timeout(PATIENCE, free).await;
                assert!(free.is_ok(), "{} bytes are held", self.memory.used());
            });
        });
        let took = began.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?} of real time");
        assert!(taken as u64 <= MEMORY + SLACK, "{taken} bytes were taken");
    }
}

fn blueprint(receivers: Vec<Box<dyn Receiver>>) -> Blueprint {
    let mut delivery = DeliverySettings::default();
    delivery.sending_queue.flush_timeout = Setting::default();
    let sink: Arc<dyn Exporter> = Arc::new(Sink);
    let ids: Vec<Id> = (0..receivers.len())
        .map(|place| format!("parca/{place}").parse().expect("an id"))
        .collect();
    let receivers = receivers.into_iter().zip(&ids);
    Blueprint {
        receivers: receivers.map(|(one, id)| planned(id, one)).collect(),
        exporters: vec![planned(&id("sink"), (sink, delivery))],
        pipelines: vec![PipelineBlueprint {
            id: id("profiles"),
            receivers: ids,
            processors: Vec::new(),
            exporters: vec![id("sink")],
        }],
        ..Blueprint::default()
    }
}

fn id(text: &str) -> Id {
    text.parse().expect("an id")
}

fn planned<C>(id: &Id, component: C) -> Planned<C> {
    Planned {
        id: id.clone(),
        settings: fingerprint(),
        component: Some(component),
    }
}

/// Of settings that never change.
fn fingerprint() -> Fingerprint {
    let ty = ComponentType::new::<parca::Settings>(Kind::Receiver, "parca", "any");
    let node = Node::from_text("none", "{}").expect("a map");
    (ty.fingerprint)(&node).expect("settings")
}
