//! One life of the store's process: a thread, a runtime and a listener, which
//! all end together.

use super::{Shared, server};
use profile_relay::runtime::Tasks;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Notify,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// A running process.
pub(super) struct Life {
    control: Arc<Control>,
    thread: thread::JoinHandle<()>,
}

/// How a process is told to freeze and to end.
#[derive(Default)]
struct Control {
    stop: CancellationToken,
    frozen: Mutex<bool>,
    thawed: Condvar,
    freeze: Notify,
}

/// What the connections of one life share.
pub(super) struct Process {
    pub(super) shared: Arc<Shared>,
    /// Sockets are reset, not closed, when they are dropped.
    pub(super) reset: AtomicBool,
    pub(super) tasks: Tasks,
    crashed: Notify,
}

/// Why a life ended.
#[derive(PartialEq)]
enum Ending {
    Stopped,
    Crashed,
}

// === impl Life ===

impl Life {
    /// Starts a process; it listens on return.
    pub(super) fn start(addr: SocketAddr, shared: Arc<Shared>) -> Self {
        let control = Arc::new(Control::default());
        let (ready, listening) = mpsc::channel();
        let thread = {
            let control = control.clone();
            thread::spawn(move || live(addr, &shared, &control, &ready))
        };
        listening.recv().expect("the store listens");
        Self { control, thread }
    }

    pub(super) fn pause(&self) {
        *self.control.frozen() = true;
        self.control.freeze.notify_one();
    }

    pub(super) fn resume(&self) {
        *self.control.frozen() = false;
        self.control.thawed.notify_all();
    }

    pub(super) fn stop(self) {
        self.control.stop.cancel();
        self.resume();
        let _ = self.thread.join();
    }
}

// === impl Control ===

impl Control {
    fn frozen(&self) -> std::sync::MutexGuard<'_, bool> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks the process's only thread until it is thawed.
    fn hold(&self) {
        let frozen = self.frozen();
        drop(self.thawed.wait_while(frozen, |frozen| *frozen));
    }
}

// === impl Process ===

impl Process {
    /// Ends the process. Whoever calls this is dropped with it.
    pub(super) async fn crash<T>(&self, cause: &str) -> T {
        self.shared.record(|log| log.crashes.push(cause.to_owned()));
        self.end().await
    }

    /// Ends the process by no fault of a request's.
    pub(super) async fn end<T>(&self) -> T {
        self.reset.store(true, Ordering::Relaxed);
        self.crashed.notify_one();
        std::future::pending().await
    }
}

fn live(addr: SocketAddr, shared: &Arc<Shared>, control: &Control, ready: &mpsc::Sender<()>) {
    loop {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let ending = runtime.block_on(serve(addr, shared.clone(), control, ready));
        drop(runtime);
        let respawn = shared.behaviour().respawn;
        match respawn {
            Some(delay) if ending == Ending::Crashed => thread::sleep(delay),
            _ => return,
        }
    }
}

async fn serve(
    addr: SocketAddr,
    shared: Arc<Shared>,
    control: &Control,
    ready: &mpsc::Sender<()>,
) -> Ending {
    let listener = listen(addr).await;
    let _ = ready.send(());
    let process = Arc::new(Process {
        shared,
        reset: AtomicBool::new(false),
        tasks: Tasks::default(),
        crashed: Notify::new(),
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = control.stop.cancelled() => return Ending::Stopped,
            () = process.crashed.notified() => return Ending::Crashed,
            () = control.freeze.notified() => control.hold(),
            Some(_) = connections.join_next() => {}
            Ok((stream, _)) = listener.accept() => {
                process.shared.record(|log| log.connections += 1);
                connections.spawn(server::connection(stream, process.clone()));
            }
        }
    }
}

/// The port may still be closing from a life before.
async fn listen(addr: SocketAddr) -> TcpListener {
    for _ in 0..100 {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("a shared port");
        if let Ok(listener) = socket.bind(addr).and_then(|()| socket.listen(1024)) {
            return listener;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{addr} cannot be bound again");
}
