//! Which profiles of a scope were one pprof.
//!
//! A pprof has several sample types, an OTLP profile one: whoever translates
//! splits. Profiles of one scope belong together when time, duration, period,
//! period type and attributes are the same, and no sample type comes twice; the
//! second one of a type begins another pprof. To a store the two forms are the
//! same, because it takes each sample type for itself.

use crate::r#gen::opentelemetry::proto::profiles::v1development::{Profile, ScopeProfiles};
use std::collections::HashMap;

/// No pprof that is known has as many sample types; each costs a value in every
/// sample.
const MAX_TYPES: usize = 32;

/// What profiles of one pprof have in common.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    time: u64,
    duration: u64,
    period: i64,
    period_type: (i32, i32),
    attributes: Vec<i32>,
}

/// The profiles of one pprof, by their place in the scope.
#[derive(Debug)]
pub(super) struct Group<'p> {
    pub(super) profiles: Vec<(usize, &'p Profile)>,
}

/// The profiles of a scope, each in one group; groups in the order of their first.
pub(super) fn groups(scope: &ScopeProfiles) -> Vec<Group<'_>> {
    let mut keys: HashMap<Key, usize> = HashMap::new();
    // By key: how often each type came, and in what order the types came first.
    let mut types: HashMap<(usize, (i32, i32)), (usize, usize)> = HashMap::new();
    let mut counts: Vec<usize> = Vec::new();
    let mut places: HashMap<[usize; 3], usize> = HashMap::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (at, profile) in scope.profiles.iter().enumerate() {
        let next = keys.len();
        let key = *keys.entry(Key::of(profile)).or_insert(next);
        if key == counts.len() {
            counts.push(0);
        }
        let sample_type = profile.sample_type.unwrap_or_default();
        let sample_type = (sample_type.type_strindex, sample_type.unit_strindex);
        let (seen, ordinal) = types.entry((key, sample_type)).or_insert_with(|| {
            counts[key] += 1;
            (0, counts[key] - 1)
        });
        let place = [key, *ordinal / MAX_TYPES, *seen];
        *seen += 1;
        let group = *places.entry(place).or_insert_with(|| {
            groups.push(Group {
                profiles: Vec::new(),
            });
            groups.len() - 1
        });
        groups[group].profiles.push((at, profile));
    }
    groups
}

// === impl Key ===

impl Key {
    fn of(profile: &Profile) -> Self {
        let period_type = profile.period_type.unwrap_or_default();
        let mut attributes = profile.attribute_indices.clone();
        attributes.sort_unstable();
        Self {
            time: profile.time_unix_nano,
            duration: profile.duration_nano,
            period: profile.period,
            period_type: (period_type.type_strindex, period_type.unit_strindex),
            attributes,
        }
    }
}

// === impl Group ===

impl Group<'_> {
    /// Puts the profiles into the order that their scope remembers: the place of
    /// each of its profiles in the pprof. One that is of no use is ignored.
    pub(super) fn restore_order(&mut self, order: &[i64], profiles: usize) {
        if order.len() == profiles {
            self.profiles.sort_by_key(|(at, _)| order.get(*at).copied());
        }
    }

    /// The profiles alone.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.profiles.iter().map(|(_, profile)| *profile)
    }
}
