//! A reverse proxy in front of a real program that keeps every body it passes
//! on, so that it is known byte for byte what was served.

use crate::target::{read_request, write_whole};
use bytes::Bytes;
use std::{
    io::{self, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// A proxy that runs until it is dropped.
pub struct Recorder {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

/// One good answer.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Without its query.
    pub path: String,
    pub body: Bytes,
}

struct Shared {
    upstream: SocketAddr,
    recorded: Mutex<Vec<Recorded>>,
    over: AtomicBool,
}

// === impl Recorder ===

impl Recorder {
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            upstream,
            recorded: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = accepting.clone();
                thread::spawn(move || shared.pass(stream));
            }
        });
        Self { addr, shared }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn recorded(&self) -> Vec<Recorded> {
        let recorded = self.shared.recorded.lock();
        recorded.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.addr);
    }
}

// === impl Shared ===

impl Shared {
    fn pass(&self, client: TcpStream) -> io::Result<()> {
        let mut client = BufReader::new(client);
        let request = read_request(&mut client)?;
        let mut upstream = TcpStream::connect(self.upstream)?;
        // HTTP/1.0 gets a body as it is, in one piece, up to the end.
        write!(upstream, "GET {} HTTP/1.0\r\n", request.path)?;
        for (name, value) in &request.headers {
            if name != "connection" {
                write!(upstream, "{name}: {value}\r\n")?;
            }
        }
        upstream.write_all(b"\r\n")?;
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n");
        let body = Bytes::from(answer.split_off(end.ok_or(io::ErrorKind::InvalidData)? + 4));
        let head = String::from_utf8_lossy(&answer);
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.unwrap_or(502);
        if status == 200 {
            let path = request.path.split('?').next().unwrap_or_default();
            let recorded = Recorded {
                path: path.to_owned(),
                body: body.clone(),
            };
            let mut all = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(recorded);
        }
        write_whole(client.get_mut(), status, "application/octet-stream", &body)
    }
}
