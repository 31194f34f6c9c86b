//! The role `handshakes`: clients that connect, wait for the first that the server
//! has to say, and leave. With TLS each handshake is a full one.
//!
//! A client of TLS 1.3 is done before the server is. So it says that it speaks HTTP/2
//! and waits for the server's settings: by then the server has verified all.

use crate::{
    Result,
    args::Tls,
    child,
    client::{Io, connected},
    sent::{Reply, Tally},
};
use futures_util::stream::{FuturesUnordered, StreamExt};
use rustls::ClientConfig;
use serde_json::json;
use std::{
    cell::RefCell,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Connections at a time.
pub(crate) const AT_ONCE: u8 = 16;
/// What a client of HTTP/2 begins with, and its settings, which are empty.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The type of the frame with settings.
const SETTINGS: u8 = 4;
/// Before somebody tries again who could not connect.
const PAUSE: Duration = Duration::from_millis(2);

/// Connects for as long as each line on stdin says.
pub(crate) fn run(to: SocketAddr, tls: &Tls) -> Result<()> {
    child::runtime()?.block_on(async {
        let config = tls.client()?;
        let mut ordered = child::orders::<Duration>();
        while let Some((length, answer)) = ordered.recv().await {
            let until = Instant::now() + length;
            let tally = RefCell::new(Tally::default());
            let clients = (1..=AT_ONCE).map(|from| again(to, from, &config, until, &tally));
            let mut clients: FuturesUnordered<_> = clients.collect();
            while clients.next().await.is_some() {}
            // Whoever ordered it may have gone.
            let _ = answer.send(json!(tally.take().sum()));
        }
        Ok(())
    })
}

async fn again(
    to: SocketAddr,
    from: u8,
    config: &Option<Arc<ClientConfig>>,
    until: Instant,
    tally: &RefCell<Tally>,
) {
    while Instant::now() < until {
        let start = Instant::now();
        let greeted = async {
            let io = connected(to, from, config.clone()).await?;
            greeted(io).await
        };
        let reply = match greeted.await {
            Ok(()) => Reply::Accepted,
            Err(error) => Reply::Failed(error.to_string()),
        };
        let failed = matches!(reply, Reply::Failed(_));
        tally
            .borrow_mut()
            .add(reply, start.elapsed(), Duration::ZERO);
        if failed {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Waits for the server's settings.
async fn greeted(mut io: Box<dyn Io>) -> Result<()> {
    io.write_all(HELLO).await?;
    io.flush().await?;
    let mut frame = [0; 9];
    io.read_exact(&mut frame).await?;
    match frame[3] {
        SETTINGS => Ok(()),
        other => Err(format!("the server began with a frame of type {other}").into()),
    }
}
