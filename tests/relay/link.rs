//! The way to a far end as a thin line: so many bytes a second for all connections
//! together.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// What is passed on in one piece, in bytes.
const PIECE: usize = 4 << 10;

/// A line that is there until it is dropped.
pub struct Link {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    far_end: SocketAddr,
    /// Bytes a second towards the far end; 0 is as fast as it goes.
    rate: AtomicU64,
    over: AtomicBool,
    carried: AtomicU64,
    /// When the next piece may pass.
    next: Mutex<Instant>,
    open: Mutex<Vec<TcpStream>>,
}

// === impl Link ===

impl Link {
    /// A line that carries everything.
    pub fn to(far_end: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            far_end,
            rate: AtomicU64::new(0),
            over: AtomicBool::new(false),
            carried: AtomicU64::new(0),
            next: Mutex::new(Instant::now()),
            open: Mutex::default(),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if accepting.over.load(Ordering::Relaxed) {
                    return;
                }
                let _ = accepting.open(near);
            }
        });
        Self { addr, shared }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Carries so many bytes a second from now on; 0 is as many as there are.
    pub fn set_rate(&self, rate: u64) {
        self.shared.rate.store(rate, Ordering::Relaxed);
    }

    /// The bytes that went to the far end.
    pub fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.shared.close();
        let _ = TcpStream::connect(self.addr);
    }
}

// === impl Shared ===

impl Shared {
    fn open(self: &Arc<Self>, near: TcpStream) -> io::Result<()> {
        let far = TcpStream::connect(self.far_end)?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        self.streams().push(near.try_clone()?);
        for (from, to, counts) in [
            (near.try_clone()?, far.try_clone()?, true),
            (far, near, false),
        ] {
            let shared = self.clone();
            thread::spawn(move || {
                let _ = shared.carry(&from, &to, counts);
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
        Ok(())
    }

    fn carry(&self, mut from: &TcpStream, mut to: &TcpStream, counts: bool) -> io::Result<()> {
        let mut piece = [0; PIECE];
        loop {
            let length = from.read(&mut piece)?;
            if length == 0 {
                return Ok(());
            }
            if counts {
                self.pace(length);
                self.carried.fetch_add(length as u64, Ordering::Relaxed);
            }
            to.write_all(&piece[..length])?;
        }
    }

    /// Waits until so many bytes may pass.
    fn pace(&self, length: usize) {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return;
        }
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (*next).max(Instant::now());
            *next = at + Duration::from_secs_f64(length as f64 / rate as f64);
            at
        };
        thread::sleep(at.saturating_duration_since(Instant::now()));
    }

    fn close(&self) {
        for stream in self.streams().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn streams(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
