//! Connections of the admin endpoint: HTTP/1.1, bounded in number and in time.

use crate::runtime::Tasks;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 256;

/// How long a connection may be idle, or take to send a request's head.
const IDLE: Duration = Duration::from_secs(60);

/// How long a connection is kept; longer than the longest profile.
const MAX_AGE: Duration = Duration::from_secs(600);

/// How long an answer may still take when its connection is too old.
const LAST_ANSWER: Duration = Duration::from_secs(30);

/// How long an answer may still take when the endpoint stops.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// The wait after a failure to accept, which is most often for want of file
/// descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves until `stop`, then lets answers under way end.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = Tasks::default();
    while let Some(accepted) = stop.run_until_cancelled(accept(&listener, &slots)).await {
        let Some((stream, slot)) = accepted else {
            sleep(ACCEPT_RETRY).await;
            continue;
        };
        let router = router.clone();
        let stop = stop.clone();
        connections.spawn("admin_connection", async move {
            connection(stream, router, stop).await;
            drop(slot);
        });
    }
    drop(listener);
    let _ = timeout(STOP_GRACE, connections.wait()).await;
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    let (stream, _) = listener.accept().await.ok()?;
    stream.set_nodelay(true).ok()?;
    Some((stream, slot))
}

/// A client that goes away while its request is handled ends the handling.
async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut serving = pin!(serving);
    let grace = tokio::select! {
        // Whatever went wrong with the connection, it is over.
        _ = serving.as_mut() => return,
        () = stop.cancelled() => STOP_GRACE,
        () = sleep(MAX_AGE) => LAST_ANSWER,
    };
    serving.as_mut().graceful_shutdown();
    let _ = timeout(grace, serving).await;
}
