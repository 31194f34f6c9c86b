//! The role `targets`: an HTTP/1.1 server for each target, on addresses and
//! ports of their own, as cheap as can be.

use crate::{
    Result,
    args::Answer,
    body::{END, Stamped},
    child,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use profile_relay::runtime::Tasks;
use serde_json::json;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// An answer but for the end of its body.
struct Prepared {
    body: Stamped,
    /// Head and start of the body.
    start: Bytes,
    framing: Answer,
}

/// What a process of targets counts.
struct Counts {
    answers: Vec<AtomicU64>,
    connections: AtomicU64,
    refused: AtomicU64,
}

/// Go's response writer gathers this much before it writes a chunk, in bytes.
const CHUNK: usize = 2048;
/// A longer request head is refused, in bytes.
const MAX_HEAD: usize = 8192;
const PATHS: [&[u8]; 2] = [b"/debug/pprof/allocs", b"/debug/pprof/goroutine"];

/// Serves `count` targets until stdin ends. Prints their addresses, as one line
/// of JSON, then an answer for each line on stdin: what happened since the last.
pub(crate) fn run(count: usize, framing: Answer) -> Result<()> {
    child::runtime()?.block_on(async {
        let counts = Arc::new(Counts {
            answers: (0..count).map(|_| AtomicU64::new(0)).collect(),
            connections: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        let prepared = Arc::new(Prepared::new(Stamped::new()?, framing));
        let tasks = Tasks::default();
        let mut addresses = Vec::with_capacity(count);
        for target in 0..count {
            let listener = TcpListener::bind(address(target)).await?;
            addresses.push(listener.local_addr()?.to_string());
            let (counts, prepared, conns) = (counts.clone(), prepared.clone(), tasks.clone());
            tasks.spawn("target", async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (counts, prepared) = (counts.clone(), prepared.clone());
                    conns.spawn("connection", async move {
                        counts.connections.fetch_add(1, Relaxed);
                        // Whoever closes a connection has no further question.
                        let _ = prepared.serve(stream, target, &counts).await;
                        counts.connections.fetch_sub(1, Relaxed);
                    });
                }
            });
        }
        child::obey(&json!(addresses), move |_| counts.take());
        tasks.wait().await;
        Ok(())
    })
}

/// Spread over 127.1.0.0/16, so that ports do not run out.
fn address(target: usize) -> SocketAddr {
    let [.., high, low] = target.to_be_bytes();
    (Ipv4Addr::new(127, 1, high, low.max(1)), 0).into()
}

// === impl Counts ===

impl Counts {
    fn take(&self) -> serde_json::Value {
        let answers: Vec<u64> = self.answers.iter().map(|n| n.swap(0, Relaxed)).collect();
        json!({
            "answers": answers.iter().sum::<u64>(),
            "least": answers.iter().min(),
            "most": answers.iter().max(),
            "connections": self.connections.load(Relaxed),
            "refused": self.refused.swap(0, Relaxed),
        })
    }
}

// === impl Prepared ===

impl Prepared {
    fn new(body: Stamped, framing: Answer) -> Self {
        let mut start = BytesMut::from(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\
             X-Content-Type-Options: nosniff\r\n",
        );
        match framing {
            Answer::Chunked => {
                start.put_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in body.start.chunks(CHUNK) {
                    start.put_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    start.put_slice(chunk);
                    start.put_slice(b"\r\n");
                }
                start.put_slice(format!("{END:x}\r\n").as_bytes());
            }
            Answer::Length => {
                let length = body.start.len() + END;
                start.put_slice(format!("Content-Length: {length}\r\n\r\n").as_bytes());
                start.put_slice(&body.start);
            }
        }
        Self {
            body,
            start: start.freeze(),
            framing,
        }
    }

    /// Answers requests without bodies until the client closes.
    async fn serve(&self, mut stream: TcpStream, target: usize, counts: &Counts) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut heard = Vec::with_capacity(512);
        loop {
            let Some(head) = heard.windows(4).position(|end| end == b"\r\n\r\n") else {
                if heard.len() > MAX_HEAD || stream.read_buf(&mut heard).await? == 0 {
                    return Ok(());
                }
                continue;
            };
            let path = heard.strip_prefix(b"GET ").unwrap_or_default();
            let path = path.split(|b| matches!(b, b' ' | b'?')).next();
            if path.is_some_and(|path| PATHS.contains(&path)) {
                counts.answers[target].fetch_add(1, Relaxed);
                self.answer(&mut stream).await?;
            } else {
                counts.refused.fetch_add(1, Relaxed);
                let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(answer).await?;
            }
            heard.drain(..head + 4);
        }
    }

    async fn answer(&self, stream: &mut TcpStream) -> io::Result<()> {
        let end = self.body.end(SystemTime::now());
        let close: &[u8] = match self.framing {
            Answer::Chunked => b"\r\n0\r\n\r\n",
            Answer::Length => b"",
        };
        let body = Buf::chain(&self.start[..], &end[..]);
        let mut answer = Buf::chain(body, close);
        stream.write_all_buf(&mut answer).await
    }
}
