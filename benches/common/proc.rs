//! What the kernel says about a process, from `/proc`.

use super::Result;
use serde::Serialize;
use std::{fs, time::Duration};

/// CPU time of a process and its threads, dead ones included.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) anonymous: u64,
    /// The most that was ever resident.
    pub(crate) high_water: u64,
}

/// Linux counts in hundredths of a second towards programs, on every machine.
const TICKS_PER_SECOND: u64 = 100;

// === impl Cpu ===

impl Cpu {
    /// What the process used until now.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in brackets, may hold anything.
        let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/PID/stat")?;
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || -> Result<Duration> {
            let ticks: u64 = fields.next().ok_or("a short /proc/PID/stat")?.parse()?;
            Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
        };
        Ok(Self {
            user: ticks()?,
            system: ticks()?,
        })
    }

    /// What all CPUs did but idle, in any process, the hypervisor's theft included.
    pub(crate) fn of_machine() -> Result<Duration> {
        let stat = fs::read_to_string("/proc/stat")?;
        let fields = stat.lines().next().unwrap_or_default().split_whitespace();
        let ticks: Vec<u64> = fields.skip(1).filter_map(|n| n.parse().ok()).collect();
        // user, nice, system, (idle, iowait,) irq, softirq, steal; the rest is in these.
        let busy = [0, 1, 2, 5, 6, 7].map(|at| ticks.get(at).copied().unwrap_or_default());
        let busy: u64 = busy.iter().sum();
        Ok(Duration::from_millis(busy * 1_000 / TICKS_PER_SECOND))
    }

    /// User and system time.
    pub(crate) fn sum(self) -> Duration {
        self.user + self.system
    }

    /// Of two processes together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            user: self.user + other.user,
            system: self.system + other.system,
        }
    }

    /// What it used since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

// === impl Memory ===

impl Memory {
    /// What the process has now.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let size = line.ok_or("a field is missing in /proc/PID/status")?;
            let kib: u64 = size.trim_end_matches("kB").trim().parse()?;
            Ok(kib * 1024)
        };
        Ok(Self {
            resident: field("VmRSS:")?,
            anonymous: field("RssAnon:")?,
            high_water: field("VmHWM:")?,
        })
    }
}

/// Open file descriptors.
pub(crate) fn open_files(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}
