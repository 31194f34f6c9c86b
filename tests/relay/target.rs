//! A program to scrape that answers as it is told, well or badly, and keeps
//! what it served.

use crate::far_end::damage;
use bytes::Bytes;
use prost::Message;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::{
    collections::{BTreeMap, HashSet},
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A program that answers until it is dropped.
pub struct Target {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

/// What came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: SystemTime,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// What goes out.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A profile.
    Profile(Bytes),
    /// Anything else.
    Other(u16, &'static str, Bytes),
    /// The head of an answer, then one byte now and then.
    Dribble,
    /// Nothing, on an open connection.
    Nothing,
    /// A body of this many zeros, whose length is not announced.
    Zeros(usize),
}

type Behaviour = Box<dyn Fn(&Request) -> Answer + Send + Sync>;

struct Shared {
    answer: Mutex<Arc<Behaviour>>,
    requests: Mutex<Vec<Request>>,
    served: Mutex<HashSet<Bytes>>,
    tls: Option<Arc<ServerConfig>>,
    over: AtomicBool,
}

/// A port of the loopback at which nobody listens, kept from others.
pub struct ClosedPort(tokio::net::TcpSocket);

/// A profile like no other.
pub fn profile() -> Bytes {
    profile_with("main.main")
}

/// A profile like no other, in which a function has this name.
pub fn profile_with(function: &str) -> Bytes {
    static AGE: AtomicI64 = AtomicI64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut profile = damage::base();
    profile.time_nanos = now.expect("a time").as_nanos() as i64;
    profile.duration_nanos = 1_000_000_000 + AGE.fetch_add(1, Ordering::Relaxed);
    profile.string_table[5] = Bytes::copy_from_slice(function.as_bytes());
    damage::gzip(&profile.encode_to_vec())
}

/// The answer of a program without such a page.
pub fn not_found() -> Answer {
    Answer::Other(
        404,
        "text/plain",
        Bytes::from_static(b"404 page not found\n"),
    )
}

// === impl Target ===

impl Target {
    /// A program that answers well.
    pub fn good() -> Self {
        Self::start(|_| Answer::Profile(profile()))
    }

    /// A program that answers as told.
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(None, Box::new(answer))
    }

    /// The same behind TLS.
    pub fn tls(
        config: Arc<ServerConfig>,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(config), Box::new(answer))
    }

    fn listen(tls: Option<Arc<ServerConfig>>, answer: Behaviour) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            answer: Mutex::new(Arc::new(answer)),
            requests: Mutex::default(),
            served: Mutex::default(),
            tls,
            over: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.over() {
                    return;
                }
                let shared = accepting.clone();
                // A client that went away is no concern of a program's.
                thread::spawn(move || shared.connection(stream));
            }
        });
        Self { addr, shared }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers otherwise from now on.
    pub fn set(&self, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) {
        *lock(&self.shared.answer) = Arc::new(Box::new(answer));
    }

    /// What came in so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// The profiles that went out.
    pub fn served(&self) -> HashSet<Bytes> {
        lock(&self.shared.served).clone()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.addr);
    }
}

// === impl Shared ===

impl Shared {
    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn connection(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        match &self.tls {
            None => self.serve(stream),
            Some(config) => {
                let connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                self.serve(StreamOwned::new(connection, stream))
            }
        }
    }

    /// One request a connection.
    fn serve(&self, stream: impl Read + Write) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let request = read_request(&mut stream)?;
        let answer = lock(&self.answer).clone();
        let answer = answer(&request);
        lock(&self.requests).push(request);
        let out = stream.get_mut();
        match answer {
            Answer::Profile(body) => {
                lock(&self.served).insert(body.clone());
                write_whole(out, 200, "application/octet-stream", &body)
            }
            Answer::Other(status, kind, body) => write_whole(out, status, kind, &body),
            Answer::Nothing => self.until_over(|| Ok(())),
            Answer::Dribble => {
                write_head(out, 200, "application/octet-stream", Some(1_000))?;
                self.until_over(|| out.write_all(&[0x1f]).and_then(|()| out.flush()))
            }
            Answer::Zeros(count) => {
                write_head(out, 200, "application/octet-stream", None)?;
                io::copy(&mut io::repeat(0).take(count as u64), out)?;
                out.flush()
            }
        }
    }

    fn until_over(&self, mut each: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        while !self.over() {
            each()?;
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

/// Reads a request's head.
pub fn read_request(stream: &mut impl BufRead) -> io::Result<Request> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let path = line.split(' ').nth(1).ok_or(io::ErrorKind::InvalidData)?;
    let path = path.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(Request {
        at: SystemTime::now(),
        path,
        headers,
    })
}

/// Writes an answer whose length is known.
pub fn write_whole(out: &mut impl Write, status: u16, kind: &str, body: &[u8]) -> io::Result<()> {
    write_head(out, status, kind, Some(body.len()))?;
    out.write_all(body)?;
    out.flush()
}

fn write_head(
    out: &mut impl Write,
    status: u16,
    kind: &str,
    length: Option<usize>,
) -> io::Result<()> {
    let length = length.map_or(String::new(), |n| format!("content-length: {n}\r\n"));
    write!(
        out,
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{length}connection: close\r\n\r\n"
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl ClosedPort ===

impl ClosedPort {
    pub fn new() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket
            .bind((Ipv4Addr::LOCALHOST, 0).into())
            .expect("a free port");
        Self(socket)
    }

    pub fn addr(&self) -> SocketAddr {
        self.0.local_addr().expect("an address")
    }
}
