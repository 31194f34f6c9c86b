//! Two network namespaces as two models, and a link between them.
//!
//! A test runs itself again inside of each, told by [`ROLE`] what to be there. Both
//! see the same files.

use crate::harness::{LIMIT, until};
use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// What this process is; it is the test itself where this is not set.
const ROLE: &str = "NAMESPACE_ROLE";
/// The folder of both sides.
const FOLDER: &str = "NAMESPACE_FOLDER";

/// Where the programs are.
const APPS: Ipv4Addr = Ipv4Addr::new(10, 213, 7, 1);
/// Where the backend is.
pub const BACKEND: Ipv4Addr = Ipv4Addr::new(10, 213, 7, 2);
/// The link, as it is seen from either side.
const UPLINK: &str = "uplink";
const DOWNLINK: &str = "downlink";

/// Two namespaces with a link between them, gone when dropped.
pub struct Models {
    /// The path of the test.
    test: &'static str,
    pub apps: String,
    pub backend: String,
    folder: tempfile::TempDir,
}

/// A process in a namespace, which ends when it is dropped.
pub struct Inside(Child);

/// Runs `ip` or `tc`; what it said when it failed.
pub fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    let output = command.args(words).output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// The same, where it must not fail.
pub fn must(command: &str) {
    run(command).unwrap_or_else(|told| panic!("{command}: {told}"));
}

/// What this process is to be, and the folder of both sides; nothing when it is the
/// test itself.
pub fn role() -> Option<(String, PathBuf)> {
    let role = std::env::var(ROLE).ok()?;
    Some((role, std::env::var_os(FOLDER)?.into()))
}

/// Tells whether the test that began this process is over: then this ends too, in
/// good order, as the processes that it has started would outlive it.
pub fn test_is_over() -> impl Fn() -> bool {
    let over = Arc::new(AtomicBool::new(false));
    let told = over.clone();
    thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        told.store(true, Ordering::Relaxed);
    });
    move || over.load(Ordering::Relaxed)
}

/// Replaces a file at once.
pub fn publish(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("a file");
    fs::rename(new, path).expect("the file is replaced");
}

// === impl Models ===

impl Models {
    /// The models of a test, which is named by its path.
    pub fn new(test: &'static str) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let models = Self {
            test,
            apps: format!("relay-apps-{pid}-{number}"),
            backend: format!("relay-backend-{pid}-{number}"),
            folder: tempfile::tempdir().expect("a folder"),
        };
        let Self { apps, backend, .. } = &models;
        run(&format!("ip netns add {apps}"))?;
        run(&format!("ip netns add {backend}"))?;
        run(&format!(
            "ip -n {apps} link add {UPLINK} type veth peer name {DOWNLINK} netns {backend}"
        ))?;
        run(&format!("ip -n {apps} address add {APPS}/30 dev {UPLINK}"))?;
        run(&format!(
            "ip -n {backend} address add {BACKEND}/30 dev {DOWNLINK}"
        ))?;
        for (model, link) in [(apps, UPLINK), (backend, DOWNLINK)] {
            run(&format!("ip -n {model} link set lo up"))?;
            run(&format!("ip -n {model} link set {link} up"))?;
        }
        Ok(models)
    }

    /// The folder of both sides.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Begins a role in a namespace.
    pub fn begin(&self, model: &str, role: &str) -> Inside {
        let mut command = self.inside(model, role);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        Inside(child.expect("ip runs"))
    }

    /// Plays a role in a namespace to its end, which is a good one.
    #[allow(clippy::print_stderr, reason = "what was skipped is counted there")]
    pub fn play(&self, model: &str, role: &str) {
        let output = self.inside(model, role).output().expect("ip runs");
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        assert!(output.status.success(), "{told}");
        // What that process skipped is seen as if this one had.
        for line in told.lines().filter(|line| line.starts_with("skipped: ")) {
            eprintln!("{line}");
        }
    }

    fn inside(&self, model: &str, role: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", model]);
        command.arg(std::env::current_exe().expect("this program"));
        command.args([self.test, "--exact", "--nocapture"]);
        command.env(ROLE, role).env(FOLDER, self.folder());
        command
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        for model in [&self.apps, &self.backend] {
            // The link goes with it.
            let _ = run(&format!("ip netns delete {model}"));
        }
    }
}

// === impl Inside ===

impl Inside {
    /// Waits for a file that the role writes.
    pub fn until_written(&mut self, path: &Path) {
        until("the role has begun", || {
            let ended = self.0.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "it ended: {ended:?}");
            path.exists().then_some(())
        });
    }

    /// The connections that anybody in its namespace began, to anywhere.
    pub fn active_opens(&self) -> u64 {
        let page = fs::read_to_string(format!("/proc/{}/net/snmp", self.0.id()));
        let page = page.expect("it runs");
        let mut lines = page.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
        let mut pairs = names.split(' ').zip(values.split(' '));
        let found = pairs.find(|(name, _)| *name == "ActiveOpens");
        found.expect("it is counted").1.parse().expect("a number")
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let began = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && began.elapsed() < LIMIT {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
