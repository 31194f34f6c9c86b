//! The relay as a child process: started, watched by its log and its admin
//! endpoint, ended by signals, and never left behind.

use crate::metrics::{Books, Metrics};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The longest that anything may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A running relay.
pub struct Relay {
    child: Child,
    admin: SocketAddr,
    log: Log,
    folder: TempDir,
    /// Memory right after the start, in bytes.
    base: u64,
}

/// How a relay ended.
pub struct Ended {
    pub code: Option<i32>,
    pub took: Duration,
    pub log: String,
}

/// The lines on stderr so far.
#[derive(Clone, Default)]
struct Log(Arc<(Mutex<LogState>, Condvar)>);

#[derive(Default)]
struct LogState {
    lines: Vec<String>,
    over: bool,
}

/// The program, for commands that end by themselves.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_profile-relay"));
    command
        .stdin(Stdio::null())
        .env("NO_COLOR", "1")
        .env_remove("PROFILE_RELAY_LOG_LEVEL");
    command
}

/// Runs a command to its end; also how long it took.
pub fn finish(mut command: Command) -> (Output, Duration) {
    let started = Instant::now();
    let output = command.output().expect("the program starts");
    (output, started.elapsed())
}

/// Asks again and again until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A GET by the plainest of clients: the status and the body.
pub fn get(addr: SocketAddr, path: &str) -> std::io::Result<(u16, Vec<u8>)> {
    ask(addr, "GET", path)
}

/// A request without a body by the plainest of clients: the status and the body.
fn ask(addr: SocketAddr, method: &str, path: &str) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&addr, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "{method} {path} HTTP/1.0\r\nhost: {addr}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n");
    let end = end.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or(std::io::ErrorKind::InvalidData)?;
    Ok((status, answer.split_off(end + 4)))
}

// === impl Relay ===

impl Relay {
    /// Runs a configuration and waits until the relay takes work.
    pub fn run(yaml: &str) -> Self {
        Self::run_in(tempfile::tempdir().expect("a folder"), yaml)
    }

    /// The same in a folder that has files already.
    pub fn run_in(folder: TempDir, yaml: &str) -> Self {
        fs::write(folder.path().join("relay.yaml"), yaml).expect("the configuration is written");
        let mut command = program();
        command.args(["run", "--config", "relay.yaml"]);
        command.args(["--set", "service::admin::endpoint=127.0.0.1:0"]);
        Self::start(folder, command)
    }

    /// Starts any command that goes on until it is told to end.
    pub fn start(folder: TempDir, mut command: Command) -> Self {
        let mut child = command
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = Log::default();
        log.collect(child.stderr.take().expect("its log"));
        let Some(line) = log.wait(|line| line.contains("profile-relay is running")) else {
            let _ = child.kill();
            panic!("the relay does not run:\n{}", log.text());
        };
        let admin = line
            .split_once("admin=")
            .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
            .expect("the line has the admin address");
        let mut relay = Self {
            child,
            admin,
            log,
            folder,
            base: 0,
        };
        relay.base = relay.peak_memory();
        relay
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits for a line of the log.
    pub fn logged(&self, text: &str) -> String {
        let line = self.log.wait(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("not logged: {text}\n{}", self.log.text()))
    }

    /// `/metrics`; the law of the books holds in it, for every exporter.
    pub fn metrics(&self) -> Metrics {
        let metrics = Metrics::parse(&self.page("/metrics"));
        metrics.assert_law();
        metrics
    }

    /// The books of an exporter.
    pub fn books(&self, exporter: &str) -> Books {
        self.metrics().books(exporter)
    }

    /// A page of the admin endpoint.
    pub fn page(&self, path: &str) -> String {
        let (status, body) = get(self.admin, path)
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log.text()));
        assert_eq!(status, 200, "{path}");
        String::from_utf8(body).expect("text")
    }

    /// What the admin endpoint answers to a POST: the status and the text.
    pub fn post(&self, path: &str) -> (u16, String) {
        let (status, body) = ask(self.admin, "POST", path)
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log.text()));
        (status, String::from_utf8(body).expect("text"))
    }

    /// The admin endpoint is there from now on.
    pub fn move_admin(&mut self, admin: SocketAddr) {
        self.admin = admin;
    }

    /// A page of the admin endpoint that is JSON.
    pub fn json(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.page(path)).expect("JSON")
    }

    /// Polls `/metrics` until `wish` is fulfilled; the law holds all the while.
    pub fn until(&self, what: &str, mut wish: impl FnMut(&Metrics) -> bool) -> Metrics {
        let deadline = Instant::now() + LIMIT;
        loop {
            let metrics = self.metrics();
            if wish(&metrics) {
                return metrics;
            }
            assert!(
                Instant::now() < deadline,
                "not within {LIMIT:?}: {what}\n{}\n{}",
                metrics.text(),
                self.log.text()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The most memory it ever had, in bytes, without the pages of its own file: a
    /// build for tests has a hundred megabytes of them.
    pub fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("it runs");
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|l| l.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            number.expect("kilobytes")
        };
        (kilobytes("VmHWM:") - kilobytes("RssFile:")) << 10
    }

    /// Asserts that it never had more than `limit` and a fifth above what it
    /// started with.
    pub fn assert_memory_within(&self, limit: u64) {
        let (peak, bound) = (self.peak_memory(), self.base + limit + limit / 5);
        assert!(peak <= bound, "{peak} bytes are more than {bound}");
    }

    /// Sends a signal, as `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(status.expect("kill runs").success(), "kill -{name}");
    }

    /// Asks it to end, and waits for it.
    pub fn stop(self) -> Ended {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        let started = Instant::now();
        let status = until("the relay ends", || self.exited());
        let took = started.elapsed();
        // The log is complete once its reader has seen the end.
        self.log.wait(|_| false);
        Ended {
            code: status.code(),
            took,
            log: self.log.text(),
        }
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === impl Log ===

impl Log {
    fn collect(&self, stderr: ChildStderr) {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                log.change(|state| state.lines.push(line));
            }
            log.change(|state| state.over = true);
        });
    }

    fn change(&self, change: impl FnOnce(&mut LogState)) {
        let (state, changed) = &*self.0;
        change(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }

    /// The first line that fulfils `wish`; nothing when the log ends before.
    fn wait(&self, wish: impl Fn(&str) -> bool) -> Option<String> {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = |state: &mut LogState| !state.over && !state.lines.iter().any(|l| wish(l));
        let (state, _) = changed
            .wait_timeout_while(state, LIMIT, missing)
            .unwrap_or_else(PoisonError::into_inner);
        state.lines.iter().find(|line| wish(line)).cloned()
    }

    fn text(&self) -> String {
        let state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.lines.join("\n")
    }
}
