//! The pprof that an OTLP profile was made of, where it came along.

use super::{conventions::PAYLOAD_PPROF, group::Group, source::Source};
use crate::profile::pprof::{Pprof, check};

/// The original of a group whose sample types (type, unit) are `types`.
///
/// There is none unless it is a pprof that breaks no rule and has exactly these
/// sample types: somebody may have dropped one on the way. Copies on several
/// profiles must be equal.
pub(super) fn original(group: &Group<'_>, types: &[[&str; 2]], max_inflated: u64) -> Option<Pprof> {
    let mut payloads = group
        .iter()
        .filter(|profile| !profile.original_payload.is_empty())
        .map(|profile| (&*profile.original_payload_format, &profile.original_payload));
    let (format, payload) = payloads.next()?;
    if format != PAYLOAD_PPROF || payloads.any(|other| other != (format, payload)) {
        return None;
    }
    let checked = Pprof::new(payload.clone()).read(max_inflated, |inflated| {
        let checked = check(inflated).ok().filter(|c| c.broken.is_empty())?;
        let source = Source::read(inflated).ok()?;
        has_types(&source, types).then_some(checked)
    });
    Some(Pprof::known(payload.clone(), checked.ok()??))
}

fn has_types(source: &Source<'_>, types: &[[&str; 2]]) -> bool {
    let text = |index| source.text(index);
    let mut have: Vec<[&[u8]; 2]> = source
        .sample_types
        .iter()
        .map(|t| [text(t.r#type), text(t.unit)])
        .collect();
    let mut want: Vec<[&[u8]; 2]> = types.iter().map(|t| t.map(str::as_bytes)).collect();
    have.sort_unstable();
    want.sort_unstable();
    have == want
}
