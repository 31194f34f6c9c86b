//! A look at Arrow messages: what they are, what is asked about them, and what labels
//! all rows share. No other column is decoded, and what that takes is charged first.

use crate::{
    net::serve::{Failure, Kind, Reading},
    pipeline::Permit,
    profile::{
        Body, Profile,
        arrow::{Arrow, Outline, Part, Unreadable, constant_labels, outline, stacks_request},
    },
    receivers::shared::no_memory,
};
use bytes::Bytes;
use std::time::SystemTime;

/// Who looks, and within what.
#[derive(Debug)]
pub(super) struct Look {
    /// What the messages take, and what looking takes while it does.
    pub(super) permit: Permit,
    pub(super) reading: Reading,
    /// The most that a message, or both of a profile, may inflate to, in bytes.
    pub(super) max: u64,
}

/// How the configuration calls `max`.
const MAX_KEY: &str = "body_size_limit_uncompressed";

// === impl Look ===

impl Look {
    /// The profile in the one message of schema v2; nothing when it has no rows.
    pub(super) fn whole(&mut self, buffer: Bytes) -> Result<Option<Profile>, Failure> {
        let outline = self.outline(&buffer)?;
        match outline.part {
            Part::V2 if outline.rows == 0 => Ok(None),
            Part::V2 => self.profile(Arrow::v2(buffer), outline).map(Some),
            Part::V1Samples | Part::V1Stacks => Err(invalid(
                "WriteArrow takes schema v2, and this is v1: send it by Write",
            )),
        }
    }

    /// What is asked about samples of schema v1; nothing when there are none.
    pub(super) fn question(&mut self, samples: &Bytes) -> Result<Option<Bytes>, Failure> {
        let outline = self.outline(samples)?;
        match outline.part {
            Part::V1Samples if outline.rows == 0 => Ok(None),
            Part::V1Samples => {
                let max = self.max;
                let ask = || stacks_request(samples, max);
                self.charged(outline, ask).map(Some)
            }
            Part::V2 => Err(invalid(
                "Write takes schema v1, and this is v2: send it by WriteArrow",
            )),
            Part::V1Stacks => Err(invalid(
                "the first message holds stacks: samples come first",
            )),
        }
    }

    /// The profile that samples and stacks of schema v1 are together.
    pub(super) fn both(&mut self, samples: Bytes, stacks: Bytes) -> Result<Profile, Failure> {
        let (first, second) = (self.outline(&samples)?, self.outline(&stacks)?);
        if second.part != Part::V1Stacks {
            return Err(invalid("the second message holds no stacks"));
        }
        self.within(first.inflated.saturating_add(second.inflated))?;
        self.profile(Arrow::v1(samples, stacks), first)
    }

    fn profile(&mut self, arrow: Arrow, samples: Outline) -> Result<Profile, Failure> {
        let max = self.max;
        let labels = self.charged(samples, || constant_labels(&arrow, max))?;
        Ok(Profile {
            labels,
            body: Body::ParcaArrow(arrow),
            received: SystemTime::now(),
        })
    }

    fn outline(&self, message: &Bytes) -> Result<Outline, Failure> {
        let outline = outline(message).map_err(|error| self.failure(&error))?;
        self.within(outline.inflated)?;
        Ok(outline)
    }

    fn within(&self, inflated: u64) -> Result<(), Failure> {
        let max = self.max;
        match inflated > max {
            true => Err(self.failure(&Unreadable::TooLarge { inflated, max })),
            false => Ok(()),
        }
    }

    /// Does what decodes columns, with the memory for all of them.
    fn charged<T>(
        &mut self,
        outline: Outline,
        work: impl FnOnce() -> Result<T, Unreadable>,
    ) -> Result<T, Failure> {
        let kept = self.permit.bytes();
        let needed = kept.saturating_add(outline.decoded);
        if !self.permit.set(needed) {
            return Err(no_memory(needed, &self.reading));
        }
        let worked = work();
        self.permit.shrink_to(kept);
        worked.map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &Unreadable) -> Failure {
        match error {
            Unreadable::TooLarge { .. } => {
                Failure::new(Kind::TooLarge, format!("{error} ({MAX_KEY})"))
            }
            error => invalid(error.to_string()),
        }
    }
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(Kind::Invalid, message)
}
