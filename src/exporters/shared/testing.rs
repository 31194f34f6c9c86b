//! Profiles for tests.

use crate::profile::{Body, Profile, pprof::Pprof};
use std::time::SystemTime;

/// A profile with these labels.
pub(in crate::exporters) fn profile_of(labels: &[(&str, &str)]) -> Profile {
    Profile {
        labels: labels.iter().copied().collect(),
        body: Body::Pprof(Pprof::new("body".into())),
        received: SystemTime::UNIX_EPOCH,
    }
}
