//! The pprof that an OTLP profile was made of, where it came along.

use super::{budget::Budget, conventions::PAYLOAD_PPROF, group::Group, source::Source};
use crate::profile::pprof::{Checked, Pprof, check};
use bytes::Bytes;

/// The original of a group whose sample types (type, unit) are `types`.
///
/// There is none unless it is a pprof that breaks no rule and has exactly these
/// sample types: somebody may have dropped one on the way. Copies on several
/// profiles must be equal. After one that cannot be inflated within the budget
/// no other is tried: `usable` says so.
pub(super) fn original(
    group: &Group<'_>,
    types: &[[&str; 2]],
    budget: &mut Budget,
    usable: &mut bool,
) -> Option<Pprof> {
    let payload = payload(group).filter(|_| *usable)?;
    let found = Pprof::new(payload.clone()).read(budget.left(), |inflated| {
        (inflated.len(), read(inflated, types))
    });
    let Ok((inflated, checked)) = found else {
        *usable = false;
        return None;
    };
    budget.charge(inflated).ok()?;
    Some(Pprof::known(payload.clone(), checked?))
}

/// The one payload of a group.
fn payload<'g>(group: &'g Group<'_>) -> Option<&'g Bytes> {
    let mut payloads = group
        .iter()
        .filter(|profile| !profile.original_payload.is_empty())
        .map(|profile| (&*profile.original_payload_format, &profile.original_payload));
    let (format, payload) = payloads.next()?;
    let is_one = format == PAYLOAD_PPROF && payloads.all(|other| other == (format, payload));
    is_one.then_some(payload)
}

fn read(inflated: &[u8], types: &[[&str; 2]]) -> Option<Checked> {
    let checked = check(inflated).ok().filter(|c| c.broken.is_empty())?;
    let source = Source::read(inflated).ok()?;
    let text = |index| source.text(index);
    let mut have: Vec<[&[u8]; 2]> = source
        .sample_types
        .iter()
        .map(|t| [text(t.r#type), text(t.unit)])
        .collect();
    let mut want: Vec<[&[u8]; 2]> = types.iter().map(|t| t.map(str::as_bytes)).collect();
    have.sort_unstable();
    want.sort_unstable();
    (have == want).then_some(checked)
}
