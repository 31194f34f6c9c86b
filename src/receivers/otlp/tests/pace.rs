//! Senders that are faster than what is behind the receiver.

use super::{
    super::intake::{Intake, Parcel},
    *,
};
use crate::{
    net::serve::{Coding, Encoding, Peer, Reading},
    profile::{Labels, Transport},
};
use tokio::time::Instant;

/// More than a third of what may be on its way before anybody waits.
fn large() -> Bytes {
    let mut request = request(&["api"]);
    let table = &mut request.dictionary.as_mut().unwrap().string_table;
    table.push("x".repeat(3 << 20));
    request.encode_to_vec().into()
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_those_on_their_way_but_not_for_long() {
    let (memory, metrics) = (Budget::new(256 << 20), Metrics::default());
    let context = Context {
        id: "otlp".parse::<Id>().unwrap(),
        metrics: metrics.clone(),
        status: Status::default(),
        memory: memory.clone(),
        sockets: crate::net::serve::Sockets::default(),
        ending: CancellationToken::new(),
    };
    let requests = metrics.set::<RequestMetrics>();
    let requests = requests.protocol(&context.id, "grpc");
    let entry = Entry::stuck_for_test(64 << 20);
    let intake = Intake::new(&context, entry, &Settings::default(), requests);
    let peer = Peer::new("test");
    let reading = Reading {
        max: 4 << 20,
        max_key: "max_recv_msg_size_mib",
        patience: Duration::ZERO,
        memory: memory.clone(),
    };
    let mut waited = Vec::new();
    for _ in 0..4 {
        let called = Instant::now();
        let serving = async {
            waited.push(called.elapsed());
            let bytes = large();
            let parcel = Parcel {
                received: crate::net::serve::Received {
                    permit: memory.try_take(bytes.len() as u64).unwrap(),
                    bytes,
                },
                coding: Coding::Identity,
                encoding: Encoding::Protobuf,
            };
            let origin = intake.origin(Transport::Grpc, &peer, Labels::default());
            intake
                .take(parcel, &reading, (&peer, origin), || false)
                .await
        };
        intake.serve(&peer, serving).await.unwrap();
    }
    let second = Duration::from_secs(1);
    assert_eq!(
        waited,
        [Duration::ZERO, Duration::ZERO, Duration::ZERO, second]
    );
}
