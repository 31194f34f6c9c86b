//! `process_*`, read from `/proc` when somebody scrapes.
//!
//! What cannot be read is left out; a scrape never fails because of it.

use super::gauge;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::counter::ConstCounter,
};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// Linux shows times to programs in hundredths of a second on every
/// architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// The usual metrics of a process.
#[derive(Debug)]
pub struct ProcessMetrics {
    proc: PathBuf,
}

/// What `stat` says.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    started_after_boot: f64,
}

/// The resident memory of this process, in bytes; `None` without `/proc`.
pub fn resident_bytes() -> Option<u64> {
    field(&read("/proc/self/status".into())?, "VmRSS:").map(|kib| kib * 1024)
}

// === impl ProcessMetrics ===

impl Default for ProcessMetrics {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
        }
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let own = self.proc.join("self");
        if let Some(stat) = read(own.join("stat")).and_then(|text| Stat::parse(&text)) {
            let cpu = ConstCounter::new(stat.cpu_seconds);
            let help = "Processor time spent in user and system mode.";
            let kind = cpu.metric_type();
            cpu.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, kind)?)?;
            if let Some(boot) = self.boot_time() {
                let start = boot + stat.started_after_boot;
                let help = "When the process started, in seconds since the epoch.";
                gauge(&mut encoder, "process_start_time_seconds", help, start)?;
            }
        }
        self.encode_status(&mut encoder, &own)?;
        self.encode_files(&mut encoder, &own)
    }
}

impl ProcessMetrics {
    fn encode_status(&self, encoder: &mut DescriptorEncoder<'_>, own: &Path) -> fmt::Result {
        let status = read(own.join("status")).unwrap_or_default();
        for (key, scale, name, help) in [
            (
                "VmRSS:",
                1024,
                "process_resident_memory_bytes",
                "Memory that is in use and resident.",
            ),
            (
                "VmSize:",
                1024,
                "process_virtual_memory_bytes",
                "The size of the address space in use.",
            ),
            (
                "Threads:",
                1,
                "process_threads",
                "Threads of the operating system.",
            ),
        ] {
            if let Some(value) = field(&status, key) {
                gauge(encoder, name, help, value * scale)?;
            }
        }
        Ok(())
    }

    fn encode_files(&self, encoder: &mut DescriptorEncoder<'_>, own: &Path) -> fmt::Result {
        if let Ok(files) = fs::read_dir(own.join("fd")) {
            // Reading the folder has opened one more.
            let open = (files.count() as u64).saturating_sub(1);
            gauge(encoder, "process_open_fds", "Open file descriptors.", open)?;
        }
        let limits = read(own.join("limits")).unwrap_or_default();
        match field(&limits, "Max open files") {
            Some(max) => gauge(
                encoder,
                "process_max_fds",
                "The most file descriptors that may be open.",
                max,
            ),
            None => Ok(()),
        }
    }

    fn boot_time(&self) -> Option<f64> {
        field(&read(self.proc.join("stat"))?, "btime").map(|seconds| seconds as f64)
    }
}

// === impl Stat ===

impl Stat {
    /// proc_pid_stat(5). The second field, the name, may hold anything, so
    /// counting starts after its bracket.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND,
            started_after_boot: ticks(22)? / TICKS_PER_SECOND,
        })
    }
}

/// The first number behind `key` at the start of a line.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key))?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

fn read(path: PathBuf) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{Format, Metrics};

    fn samples(proc: &Path) -> Vec<String> {
        let metrics = Metrics::default();
        metrics.collect(ProcessMetrics { proc: proc.into() });
        let text = metrics.encode_as(Format::Text).unwrap();
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_files_of_proc_become_the_usual_names() {
        let proc = tempfile::tempdir().unwrap();
        let own = proc.path().join("self");
        fs::create_dir_all(own.join("fd")).unwrap();
        for fd in ["0", "1", "2", "3"] {
            fs::write(own.join("fd").join(fd), "").unwrap();
        }
        fs::write(proc.path().join("stat"), "cpu 1 2\nbtime 1700000000\n").unwrap();
        fs::write(
            own.join("stat"),
            "7 (a) b (c) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 4 0 12345 1 2 3\n",
        )
        .unwrap();
        fs::write(
            own.join("status"),
            "Name:\tx\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t4\n",
        )
        .unwrap();
        fs::write(
            own.join("limits"),
            "Limit  Soft Limit  Hard Limit  Units\n\
             Max processes             96478   96478   processes\n\
             Max open files            1024    524288  files\n",
        )
        .unwrap();
        assert_eq!(
            samples(proc.path()),
            [
                "process_cpu_seconds_total 2.0",
                "process_start_time_seconds 1700000123.45",
                "process_resident_memory_bytes 1048576",
                "process_virtual_memory_bytes 2097152",
                "process_threads 4",
                "process_open_fds 3",
                "process_max_fds 1024",
            ]
        );
    }

    #[test]
    fn without_proc_there_is_nothing_and_no_error() {
        let empty = tempfile::tempdir().unwrap();
        assert!(samples(empty.path()).is_empty());
    }

    #[test]
    fn this_process_is_described_by_the_real_proc() {
        let samples = samples(Path::new("/proc"));
        assert_eq!(samples.len(), 7, "{samples:?}");
        for sample in &samples {
            let (_, value) = sample.split_once(' ').unwrap();
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{sample}");
        }
    }
}
