//! What parca-agent pushed, on its way to a Parca.
//!
//! | a body | leaves by |
//! |---|---|
//! | schema v2 | `WriteArrow`; where that is Unimplemented (Parca before 0.28), or with `arrow_as: v1`, `Write` |
//! | schema v1 | `Write`: both messages in one conversation |
//!
//! Parca reads Arrow without a look at what it says of itself: a damaged body in
//! twenty ends it. So none leaves in the bytes in which it came. Each is decoded, in
//! memory that is charged, and written anew in the schema of an agent, with the
//! labels that the profile has by now in its rows. None leaves whose profile types
//! would break Parca's profile list for everybody. One that is too large for a
//! request is divided by rows.

use super::settings::ArrowAs;
use crate::{
    exporters::shared::RuleObserver,
    pipeline::{Budget, NoMemory, Part, Prepared, Reason},
    profile::{
        Body, Profile,
        arrow::{self, Arrow, Schema, Table, Unreadable},
    },
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The rule of a body that cannot be decoded.
const UNREADABLE: &str = "unreadable_arrow";

/// The rule of a body one of whose profile types no query could name.
const PROFILE_TYPE: &str = "arrow_profile_type";

/// For how long a backend that does not know `WriteArrow` is not asked again.
const ASK_AGAIN: Duration = Duration::from_secs(600);

/// By which call a backend takes schema v2; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// When it last said that it does not know `WriteArrow`.
    unknown: Arc<Mutex<Option<Instant>>>,
}

/// Makes of an Arrow body what can be sent.
#[derive(Clone, Debug)]
pub(super) struct ArrowPreparer {
    pub(super) sent_as: ArrowAs,
    pub(super) known: Known,
    pub(super) max_bytes: u64,
    pub(super) max_inflated: u64,
}

// === impl Known ===

impl Known {
    /// The backend does not know `WriteArrow`; whether that is news.
    pub(super) fn unimplemented(&self) -> bool {
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        unknown.replace(Instant::now()).is_none()
    }

    /// The backend took schema v2.
    pub(super) fn works(&self) {
        *self.unknown.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether schema v2 is not worth a try.
    fn is_unimplemented(&self) -> bool {
        let unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        unknown.is_some_and(|since| since.elapsed() < ASK_AGAIN)
    }
}

// === impl ArrowPreparer ===

impl ArrowPreparer {
    /// The parts to send for a body, in memory that is taken first.
    pub(super) fn prepare(
        &self,
        profile: &Profile,
        arrow: &Arrow,
        rules: &RuleObserver,
        memory: &Budget,
    ) -> Result<Prepared, NoMemory> {
        let dropped = |error: &Unreadable| {
            rules.dropped(&profile.labels, UNREADABLE, &error.to_string());
            match error {
                Unreadable::TooLarge { .. } => Reason::TooLarge,
                _ => Reason::InvalidProfile,
            }
        };
        let needed = match arrow.decoded(self.max_inflated) {
            // What is written is no larger than what was decoded.
            Ok(decoded) => decoded.saturating_mul(2),
            Err(error) => return Ok(Err(dropped(&error))),
        };
        let _taken = memory.try_take(needed).ok_or(NoMemory { needed })?;
        let mut table = match arrow.decode(self.max_inflated) {
            Ok(table) => table,
            Err(error) => return Ok(Err(dropped(&error))),
        };
        table.overlay(&profile.labels);
        if let Some(odd) = table.odd_profile_type() {
            rules.dropped(&profile.labels, PROFILE_TYPE, &odd);
            return Ok(Err(Reason::InvalidProfile));
        }
        let parts = self.parts(profile, arrow.schema(), &table);
        Ok(parts.map_err(|error| dropped(&error)))
    }

    fn parts(
        &self,
        profile: &Profile,
        schema: Schema,
        table: &Table,
    ) -> Result<Vec<Part>, Unreadable> {
        let as_v1 = self.sent_as == ArrowAs::V1 || self.known.is_unimplemented();
        let arrow = match schema {
            Schema::V2 if !as_v1 => Arrow::v2(arrow::write_v2(table, self.max_inflated)?),
            _ => v1(table, self.max_inflated)?,
        };
        let mut parts = Vec::with_capacity(1);
        self.fit(profile, arrow, table.rows() as u64, &mut parts)?;
        Ok(parts)
    }

    /// Schema v2 as schema v1; schema v1 as it is.
    pub(super) fn as_v1(&self, arrow: &Arrow) -> Result<Arrow, Unreadable> {
        match arrow.schema() {
            Schema::V1 => Ok(arrow.clone()),
            Schema::V2 => v1(&arrow.decode(self.max_inflated)?, self.max_inflated),
        }
    }

    /// Adds one part, or several where one request cannot hold the body.
    fn fit(
        &self,
        profile: &Profile,
        arrow: Arrow,
        rows: u64,
        parts: &mut Vec<Part>,
    ) -> Result<(), Unreadable> {
        if arrow.byte_len() as u64 > self.max_bytes
            && let Some([one, other]) = arrow::halves(&arrow, self.max_inflated)?
        {
            self.fit(profile, one, rows / 2, parts)?;
            return self.fit(profile, other, rows - rows / 2, parts);
        }
        parts.push(part(profile, arrow, rows));
        Ok(())
    }

    /// A body in halves by rows.
    pub(super) fn divide(&self, profile: &Profile, arrow: &Arrow) -> Option<Vec<Part>> {
        let rows = arrow::outline(arrow.samples()).ok()?.rows;
        let [one, other] = arrow::halves(arrow, self.max_inflated).ok()??;
        Some(vec![
            part(profile, one, rows / 2),
            part(profile, other, rows - rows / 2),
        ])
    }
}

fn v1(table: &Table, max: u64) -> Result<Arrow, Unreadable> {
    let (samples, stacks) = arrow::write_v1(table, max)?;
    Ok(Arrow::v1(samples, stacks))
}

fn part(profile: &Profile, arrow: Arrow, rows: u64) -> Part {
    Part {
        bytes: arrow.byte_len() as u64,
        rows,
        charge: None,
        profile: Profile {
            labels: profile.labels.clone(),
            body: Body::ParcaArrow(arrow),
            received: profile.received,
        },
    }
}
