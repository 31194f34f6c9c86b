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
