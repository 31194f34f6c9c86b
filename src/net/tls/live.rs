//! A TLS configuration that follows its files, of a client or a server.

use super::{TlsError, TlsSpec};
use crate::net::live_file::{CHECK_EVERY, FileStamp};
use arc_swap::ArcSwapOption;
use std::{
    sync::{Arc, Mutex, TryLockError},
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// The last good configuration that was made of a [`TlsSpec`].
pub(super) struct Live<C> {
    spec: TlsSpec,
    every: Duration,
    config: ArcSwapOption<C>,
    check: Mutex<Check>,
}

struct Check {
    at: Instant,
    stamps: Vec<Option<FileStamp>>,
}

// === impl Live ===

impl<C> Live<C> {
    /// Loads nothing yet.
    pub(super) fn new(spec: TlsSpec) -> Self {
        Self {
            every: spec.reload_interval.unwrap_or(CHECK_EVERY).max(CHECK_EVERY),
            check: Mutex::new(Check {
                at: Instant::now(),
                stamps: spec.stamps(),
            }),
            config: ArcSwapOption::empty(),
            spec,
        }
    }

    pub(super) fn spec(&self) -> &TlsSpec {
        &self.spec
    }

    /// Whether it was loaded already.
    pub(super) fn is_loaded(&self) -> bool {
        self.config.load().is_some()
    }

    /// Loads it now.
    pub(super) fn load(
        &self,
        build: impl FnOnce(&TlsSpec) -> Result<C, TlsError>,
    ) -> Result<Arc<C>, TlsError> {
        let config = Arc::new(build(&self.spec)?);
        self.config.store(Some(config.clone()));
        Ok(config)
    }

    /// The configuration for a handshake now.
    pub(super) fn current(
        &self,
        build: impl Fn(&TlsSpec) -> Result<C, TlsError>,
    ) -> Result<Arc<C>, TlsError> {
        self.refresh(&build);
        match self.config.load_full() {
            Some(config) => Ok(config),
            None => self.load(build),
        }
    }

    fn refresh(&self, build: impl FnOnce(&TlsSpec) -> Result<C, TlsError>) {
        let mut check = match self.check.try_lock() {
            Ok(check) => check,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if check.stamps.is_empty() || check.at.elapsed() < self.every {
            return;
        }
        check.at = Instant::now();
        let stamps = self.spec.stamps();
        if stamps == check.stamps {
            return;
        }
        check.stamps = stamps;
        match self.load(build) {
            Ok(_) => info!(files = %self.spec.files(), "certificates read again"),
            Err(error) => warn!(
                files = %self.spec.files(),
                %error,
                "cannot read certificates again, the last ones stay in use"
            ),
        }
    }
}
