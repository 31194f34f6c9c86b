//! What connections may send before anybody asks for it.
//!
//! HTTP/2 keeps what a peer sent within its windows, and a frame that is not all
//! there, before a body is read and charged. Large windows make large requests
//! fast, and many connections with large windows are memory that nobody counts. So
//! a connection gets a share of what is left for it when it comes: the first few get
//! large windows, all others the least that HTTP/2 has. What that may come to is
//! charged to the memory budget while a request of the connection is in flight;
//! without memory for it the request is refused.

use crate::pipeline::{Budget, Permit};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// HTTP/2's initial window.
const LEAST_WINDOW: u32 = 65_535;

/// The smallest bound on frames that HTTP/2 has.
const LEAST_FRAME: u32 = 16 << 10;

/// Beyond this larger windows make nothing faster.
const MOST_WINDOW: u32 = 8 << 20;

/// With the default of 16 KiB a request of 1 MiB takes two to three times as long.
const MOST_FRAME: u32 = 1 << 20;

/// The listener's part of the memory.
const PART: u64 = 16;

/// The connection's share of what is left of that.
const SHARE: u64 = 4;

/// The windows of all connections of a listener; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    memory: Budget,
    taken: Arc<AtomicU64>,
}

/// What one connection may send unread.
#[derive(Debug)]
pub(super) struct Window {
    /// All streams together, in bytes.
    pub(super) connection: u32,
    /// One stream, in bytes.
    pub(super) stream: u32,
    /// The largest frame, in bytes.
    pub(super) frame: u32,
    windows: Windows,
    /// Its share beyond the least.
    share: u64,
}

// === impl Windows ===

impl Windows {
    pub(super) fn new(memory: &Budget) -> Self {
        Self {
            memory: memory.for_intake(),
            taken: Arc::default(),
        }
    }

    /// The window of a connection that has come.
    pub(super) fn open(&self) -> Window {
        let part = self.memory.limit() / PART;
        let left = part.saturating_sub(self.taken.load(Ordering::Relaxed));
        let share = u32::try_from(left / SHARE).unwrap_or(u32::MAX);
        let connection = share.clamp(LEAST_WINDOW, MOST_WINDOW);
        let frame = (connection / 4).clamp(LEAST_FRAME, MOST_FRAME);
        let share = u64::from(connection - LEAST_WINDOW) + u64::from(frame - LEAST_FRAME);
        self.taken.fetch_add(share, Ordering::Relaxed);
        Window {
            connection,
            stream: (connection / 2).max(LEAST_WINDOW),
            frame,
            windows: self.clone(),
            share,
        }
    }
}

// === impl Window ===

impl Window {
    /// The memory for what may come, unless there is none.
    pub(super) fn charge(&self) -> Option<Permit> {
        let bytes = u64::from(self.connection) + u64::from(self.frame);
        self.windows.memory.try_take(bytes)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.windows.taken.fetch_sub(self.share, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_first_connections_get_large_windows_and_no_more_than_their_part() {
        let memory = Budget::new(256 * MIB);
        let windows = Windows::new(&memory);
        let open: Vec<_> = (0..1_000).map(|_| windows.open()).collect();
        assert_eq!(open[0].connection, 4 << 20);
        assert_eq!(open[0].frame, 1 << 20);
        assert!(open[1].connection < open[0].connection);
        assert_eq!(open[999].connection, LEAST_WINDOW);
        let all: u64 = open.iter().map(|window| u64::from(window.connection)).sum();
        assert!(all <= 256 * MIB / PART + 1_000 * u64::from(LEAST_WINDOW));
        drop(open);
        assert_eq!(windows.open().connection, 4 << 20);
    }

    #[test]
    fn windows_have_an_end_where_there_is_no_want_of_memory() {
        let window = Windows::new(&Budget::new(u64::MAX)).open();
        assert_eq!(
            (window.connection, window.stream, window.frame),
            (8 << 20, 4 << 20, 1 << 20)
        );
    }

    #[test]
    fn what_may_come_is_charged_or_there_is_none() {
        let memory = Budget::new(64 * MIB);
        let windows = Windows::new(&memory);
        let window = windows.open();
        let charge = window.charge().unwrap();
        assert_eq!(charge.bytes(), MIB + MIB / 4);
        drop(charge);
        let _all = memory.for_intake().try_take(48 * MIB).unwrap();
        assert!(window.charge().is_none());
    }
}
