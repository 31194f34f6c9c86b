//! A target whose manners a test decides.

use crate::{
    pipeline::{Budget, Context},
    runtime::Tasks,
    telemetry::{Metrics, Status},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// A server on a port of its own; it ends with the test.
#[derive(Clone)]
pub(super) struct Server(Arc<Inner>);

struct Inner {
    address: String,
    requests: Mutex<Vec<String>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

/// What a request gets.
#[derive(Clone)]
pub(super) enum Answer {
    /// A whole answer after a while.
    Full(u16, String, Vec<u8>, Duration),
    /// Nothing, for ever.
    Never,
    /// A head that announces much, then a byte now and then.
    Dribble,
    /// A body of this many bytes of zero, whose length is not announced.
    Endless(u64),
    /// Less than is announced.
    Cut(Vec<u8>),
}

// === impl Answer ===

impl Answer {
    pub(super) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::Full(200, String::new(), body.into(), Duration::ZERO)
    }

    pub(super) fn status(status: u16, headers: &str, body: &str) -> Self {
        Self::Full(status, headers.into(), body.into(), Duration::ZERO)
    }

    pub(super) fn late(body: impl Into<Vec<u8>>, after: Duration) -> Self {
        Self::Full(200, String::new(), body.into(), after)
    }
}

// === impl Server ===

impl Server {
    pub(super) async fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self(Arc::new(Inner {
            address: listener.local_addr().unwrap().to_string(),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
        }));
        let (tasks, this) = (Tasks::default(), server.clone());
        let answer = Arc::new(answer);
        tasks.clone().spawn("server", async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                this.0.connections.fetch_add(1, Ordering::SeqCst);
                tasks.spawn("connection", this.clone().serve(stream, answer.clone()));
            }
        });
        server
    }

    /// `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.0.address
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0.address)
    }

    /// Path and query of each request so far.
    pub(super) fn requests(&self) -> Vec<String> {
        self.0.requests.lock().unwrap().clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.0.connections.load(Ordering::SeqCst)
    }

    /// The most requests that were open at the same time.
    pub(super) fn most_open(&self) -> usize {
        self.0.most_open.load(Ordering::SeqCst)
    }

    async fn serve<F>(self, mut stream: TcpStream, answer: Arc<F>)
    where
        F: Fn(&str) -> Answer + Send + Sync,
    {
        let mut head = Vec::new();
        while let Ok(byte) = stream.read_u8().await {
            head.push(byte);
            if !head.ends_with(b"\r\n\r\n") {
                continue;
            }
            let text = String::from_utf8(std::mem::take(&mut head)).unwrap();
            let path = text.split(' ').nth(1).unwrap().to_owned();
            self.0.requests.lock().unwrap().push(path.clone());
            let open = self.0.open.fetch_add(1, Ordering::SeqCst) + 1;
            self.0.most_open.fetch_max(open, Ordering::SeqCst);
            let going_on = answer(&path).send(&mut stream).await;
            self.0.open.fetch_sub(1, Ordering::SeqCst);
            if going_on.is_none() {
                return;
            }
        }
    }
}

impl Answer {
    /// `None` when the connection ends here.
    async fn send(self, stream: &mut TcpStream) -> Option<()> {
        match self {
            Self::Full(status, headers, body, after) => {
                sleep(after).await;
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.ok()?;
                stream.write_all(&body).await.ok()
            }
            Self::Never => {
                stream.read_u8().await.ok()?;
                None
            }
            Self::Dribble => {
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
                stream.write_all(head).await.ok()?;
                while stream.write_all(b"x").await.is_ok() {
                    sleep(Duration::from_millis(20)).await;
                }
                None
            }
            Self::Endless(bytes) => {
                let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
                stream.write_all(head).await.ok()?;
                for _ in 0..bytes / 65_536 {
                    stream.write_all(&[0; 65_536]).await.ok()?;
                }
                None
            }
            Self::Cut(body) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
                    body.len() + 1
                );
                stream.write_all(head.as_bytes()).await.ok()?;
                stream.write_all(&body).await.ok()?;
                None
            }
        }
    }
}

/// A context with this much memory.
pub(super) fn context(memory: u64) -> Context {
    Context {
        id: "pprof".parse().unwrap(),
        metrics: Metrics::default(),
        status: Status::default(),
        memory: Budget::new(memory),
        sockets: Default::default(),
        ending: Default::default(),
    }
}
