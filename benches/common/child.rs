//! Processes that end with the one that started them.
//!
//! A helper reads its stdin to the end and exits; the kernel closes it however
//! the driver ends, a panic and a kill included. Programs that know nothing of
//! this (the relay, Parca) run under a guard that does it for them. All get a
//! process group of their own, so that a Ctrl-C reaches only the driver.

use super::Result;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

/// This executable in another role.
pub(crate) struct Helper {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// A foreign program under a guard.
pub(crate) struct Guarded {
    guard: Helper,
    /// The program's process id.
    pub(crate) pid: u32,
}

/// An order, and where to say what became of it.
pub(crate) type Ordered<T> = (T, mpsc::Sender<Value>);

/// Runs a command with as many file descriptors as it may have.
const UNLIMITED: &str = r#"ulimit -n "$(ulimit -Hn)"; exec "$0" "$@""#;
/// How often a guard looks.
const WATCH: Duration = Duration::from_millis(50);

// === impl Helper ===

impl Helper {
    /// Starts this executable with these arguments and reads what it says first.
    pub(crate) fn start<T: DeserializeOwned>(
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<(Self, T)> {
        let mut child = Command::new("sh")
            .args(["-c", UNLIMITED])
            .arg(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("a helper without stdout")?;
        let mut helper = Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        };
        let first = helper.hear()?;
        Ok((helper, first))
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it counted since it was last asked.
    pub(crate) fn take<T: DeserializeOwned>(&mut self) -> Result<T> {
        self.ask("take")
    }

    /// What it answers to a line.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, line: &str) -> Result<T> {
        self.tell(line)?;
        self.hear()
    }

    /// Says a line to it; the answer is to be heard later.
    pub(crate) fn tell(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().ok_or("the helper has ended")?;
        Ok(stdin.write_all(format!("{line}\n").as_bytes())?)
    }

    /// The next thing that it says.
    pub(crate) fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            return Err("a helper ended before its time".into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It is gone, or will be: nothing else can be done here.
        let _ = self.child.wait();
    }
}

// === impl Guarded ===

impl Guarded {
    /// Starts a program whose output goes to `log`.
    pub(crate) fn start(command: &[String], log: &Path) -> Result<Self> {
        let mut arguments = vec![OsStr::new("guard"), "--log".as_ref(), log.as_ref()];
        arguments.push("--".as_ref());
        arguments.extend(command.iter().map(OsStr::new));
        let (guard, pid) = Helper::start(arguments)?;
        Ok(Self { guard, pid })
    }

    /// Whether the program still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.guard.child.try_wait(), Ok(None))
    }
}

/// The role `guard`: runs `command` until it ends by itself or stdin does.
pub(crate) fn guard(log: &Path, command: &[String]) -> Result<()> {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let log = File::create(log)?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    println!("{}", child.id());
    let over = Arc::new(AtomicBool::new(false));
    let ended = over.clone();
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        ended.store(true, Relaxed);
    });
    while child.try_wait()?.is_none() {
        if over.load(Relaxed) {
            child.kill()?;
        }
        thread::sleep(WATCH);
    }
    Ok(())
}

/// Prints `first`, answers each line on stdin with what `answer` makes of it, and
/// ends the process when stdin ends.
pub(crate) fn obey(first: &Value, answer: impl Fn(&str) -> Value + Send + 'static) {
    println!("{first}");
    thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else {
                break;
            };
            println!("{}", answer(&line));
        }
        std::process::exit(0);
    });
}

/// Says that it is ready, and hands out the order of each line on stdin; ends the
/// process when stdin ends.
pub(crate) fn orders<T>() -> UnboundedReceiver<Ordered<T>>
where
    T: DeserializeOwned + Send + 'static,
{
    let (orders, ordered) = unbounded_channel::<Ordered<T>>();
    obey(&json!("ready"), move |line| {
        let (answer, answered) = mpsc::channel();
        match serde_json::from_str(line) {
            Ok(order) => drop(orders.send((order, answer))),
            Err(error) => return json!({ "error": error.to_string() }),
        }
        answered.recv().unwrap_or_default()
    });
    ordered
}

/// One thread, as all helpers have.
pub(crate) fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}
