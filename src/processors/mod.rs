//! What changes or drops profiles on their way.
//!
//! Processors are pure and synchronous. Their settings are checked by
//! `problems`, and `build` makes the processor.

pub mod filter;
pub mod labels;
pub mod relabel;

#[cfg(test)]
mod testing {
    //! A processor's surroundings, made of plain values.

    use crate::{
        pipeline::{Budget, Context, Processor, Reason, Verdict},
        profile::{Body, Labels, Origin, Profile, pprof::Pprof},
        telemetry::{Metrics, Status},
    };
    use std::time::UNIX_EPOCH;

    pub(super) fn context(id: &str) -> Context {
        Context {
            id: id.parse().unwrap(),
            metrics: Metrics::default(),
            status: Status::default(),
            memory: Budget::new(u64::MAX),
            sockets: Default::default(),
            ending: Default::default(),
        }
    }

    /// The labels with which a profile leaves the processor. Its body and its
    /// time must not change.
    pub(super) fn labels_after(
        processor: &dyn Processor,
        labels: &[(&str, &str)],
    ) -> Result<String, Reason> {
        let profile = Profile {
            labels: labels.iter().copied().collect::<Labels>(),
            body: Body::Pprof(Pprof::new("body".into())),
            received: UNIX_EPOCH,
        };
        match processor.process(profile, &Origin::default()) {
            Verdict::Keep(profile) => {
                let Some(pprof) = profile.body.as_pprof() else {
                    panic!("no pprof")
                };
                assert_eq!(&pprof.bytes()[..], b"body");
                assert_eq!(profile.received, UNIX_EPOCH);
                Ok(profile.labels.to_string())
            }
            Verdict::Drop(reason) => Err(reason),
        }
    }
}
