//! Makes several pprofs of one, or one with less in it.
//!
//! All work on inflated bytes, decode them, and encode anew: unknown fields are
//! lost, what is dangling in the tables is mended on the way (as
//! [`super::repair()`] does), and every result has only the tables it needs.

use super::{Unreadable, decode::decode, subset, walk::strings};
use crate::r#gen::pprof::{Label, Profile, Sample};
use bytes::Bytes;
use std::collections::HashMap;

/// How many times the whole the pieces of a split may take together, and what
/// they may take in any case, in bytes.
const MAX_GROWTH: u64 = 16;
const MIN_BUDGET: u64 = 1 << 20;
/// How many pieces are made of one at once.
const MAX_PARTS: u64 = 16;

/// Names and values of the sample labels that a series got.
pub type Promoted = Vec<(String, String)>;

/// The series that [`split_by_labels`] makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSplit {
    /// The promoted labels and the pprof (gzip level 1) of each series, in the order in which they first occur. Samples without any of
    /// the labels, and those beyond the cap, are the last, without labels.
    pub series: Vec<(Promoted, Bytes)>,
    /// Whether there were more value tuples than series allowed. The samples of
    /// the others keep their sample labels.
    pub capped: bool,
}

/// Why no sample type could be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    /// The body is no pprof.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// None of the listed types is in the profile.
    #[error("none of the sample types to keep ({listed}) is in the profile, which has {found}")]
    NoneLeft {
        /// What was to be kept, as `type/unit`.
        listed: String,
        /// What there is, as `type/unit`.
        found: String,
    },
}

/// Splits an inflated pprof by samples into pprofs (gzip level 1) of at most
/// `max_bytes` each, or of one sample each where even that is larger.
///
/// The values of each stack add up to the original's over all pieces, and the
/// samples keep their order. A profile that all but does not shrink, because its
/// samples share some huge text, is given up once the pieces together are many
/// times the whole; then pieces of several samples can be too large as well.
pub fn split_by_samples(inflated: &[u8], max_bytes: u64) -> Result<Vec<Bytes>, Unreadable> {
    let (profile, _) = decode(inflated)?;
    let whole = subset::encode(&profile, profile.sample.iter());
    let mut division = Division {
        source: &profile,
        max_bytes: max_bytes.max(1),
        budget: MIN_BUDGET.max(whole.len() as u64 * MAX_GROWTH),
        pieces: Vec::new(),
    };
    division.add(&profile.sample, whole);
    Ok(division.pieces)
}

/// Makes series of the sample labels `names`, string or numeric (as decimal
/// text): one pprof for each distinct tuple of their values, at most
/// `max_series` of them. `None` when no sample has any of the labels.
///
/// Of a label that a sample has twice the first value counts; a label with an
/// empty value counts as absent. Promoted labels are removed from the samples.
/// Fewer series are made when their comments and mappings alone would be many
/// times the profile.
pub fn split_by_labels(
    inflated: &[u8],
    names: &[String],
    max_series: usize,
) -> Result<Option<LabelSplit>, Unreadable> {
    if !strings(inflated).any(|string| names.iter().any(|name| name.as_bytes() == string)) {
        return Ok(None);
    }
    let (mut profile, _) = decode(inflated)?;
    let samples = std::mem::take(&mut profile.sample);
    // What every series has: comments and mappings.
    let shared = subset::encode(&profile, [].iter()).len() as u64;
    let affordable = MIN_BUDGET.max(inflated.len() as u64 * MAX_GROWTH) / shared;
    let max_series = max_series.min(usize::try_from(affordable).unwrap_or(usize::MAX));
    let promotion = Promotion::new(&profile, names);
    let mut places: HashMap<Vec<Option<String>>, usize> = HashMap::new();
    let mut series: Vec<(Promoted, Vec<Sample>)> = Vec::new();
    let mut rest = Vec::new();
    let mut capped = false;
    for mut sample in samples {
        let values = promotion.values(&sample);
        if values.iter().all(Option::is_none) {
            rest.push(sample);
            continue;
        }
        let place = match places.get(&values) {
            Some(place) => *place,
            None if series.len() < max_series => {
                series.push((promotion.labels(&values), Vec::new()));
                places.insert(values, series.len() - 1);
                series.len() - 1
            }
            None => {
                capped = true;
                rest.push(sample);
                continue;
            }
        };
        promotion.strip(&mut sample);
        series[place].1.push(sample);
    }
    if series.is_empty() && !capped {
        return Ok(None);
    }
    if !rest.is_empty() {
        series.push((Vec::new(), rest));
    }
    let encode = |samples: Vec<Sample>| subset::encode(&profile, samples.iter());
    let series = series
        .into_iter()
        .map(|(labels, samples)| (labels, encode(samples)))
        .collect();
    Ok(Some(LabelSplit { series, capped }))
}

/// Keeps the listed sample types (type, unit) of an inflated pprof and returns
/// it as gzip level 1; `None` when it has no others.
///
/// Samples whose remaining values are all 0 go with the types. Where Parca's own
/// scraper sends an empty profile because nothing is left, this is an error.
pub fn keep_sample_types(
    inflated: &[u8],
    keep: &[(String, String)],
) -> Result<Option<Bytes>, KeepError> {
    let (mut profile, _) = decode(inflated)?;
    let types = type_names(&profile);
    let kept: Vec<bool> = types
        .iter()
        .map(|have| keep.iter().any(|(t, u)| (t.as_str(), u.as_str()) == *have))
        .collect();
    if kept.iter().all(|kept| *kept) && !kept.is_empty() {
        return Ok(None);
    }
    if !kept.contains(&true) {
        let listed = keep.iter().map(|(t, u)| (t.as_str(), u.as_str()));
        return Err(KeepError::NoneLeft {
            listed: join(listed),
            found: join(types.into_iter()),
        });
    }
    retain_places(&mut profile.sample_type, &kept);
    for sample in &mut profile.sample {
        retain_places(&mut sample.value, &kept);
    }
    let default = profile.default_sample_type;
    if !profile.sample_type.iter().any(|t| t.r#type == default) {
        profile.default_sample_type = 0;
    }
    let lasting = |sample: &&Sample| sample.value.iter().any(|value| *value != 0);
    let samples = profile.sample.iter().filter(lasting);
    Ok(Some(subset::encode(&profile, samples)))
}

fn type_names(profile: &Profile) -> Vec<(&str, &str)> {
    let text = |index: i64| {
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        profile.string_table.get(place).map_or("", String::as_str)
    };
    let types = profile.sample_type.iter();
    types.map(|t| (text(t.r#type), text(t.unit))).collect()
}

fn join<'t>(types: impl Iterator<Item = (&'t str, &'t str)>) -> String {
    let names: Vec<String> = types.map(|(t, u)| format!("{t}/{u}")).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

fn retain_places<T>(items: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    items.retain(|_| kept.next().copied().unwrap_or(false));
}

/// A profile on the way to its pieces.
struct Division<'a> {
    source: &'a Profile,
    max_bytes: u64,
    /// The bytes that may still be encoded.
    budget: u64,
    pieces: Vec<Bytes>,
}

/// Which labels become series.
struct Promotion<'a> {
    names: &'a [String],
    strings: &'a [String],
    /// Place in `names` by string index.
    places: HashMap<i64, usize>,
}

// === impl Division ===

impl Division<'_> {
    /// Adds `samples`, whose encoding is `whole`, in one or more pieces.
    fn add(&mut self, samples: &[Sample], whole: Bytes) {
        let bytes = whole.len() as u64;
        self.budget = self.budget.saturating_sub(bytes);
        if bytes <= self.max_bytes || samples.len() <= 1 || self.budget == 0 {
            self.pieces.push(whole);
            return;
        }
        // By the size that the whole has, so that few pieces are encoded twice; a
        // fifth more, because what samples share is in every piece.
        // Few at a time: what is left once the budget is used up is encoded, too.
        let parts = (bytes.saturating_mul(6) / 5).div_ceil(self.max_bytes);
        let parts = parts.clamp(2, MAX_PARTS) as usize;
        drop(whole);
        for samples in samples.chunks(samples.len().div_ceil(parts)) {
            let piece = subset::encode(self.source, samples.iter());
            self.add(samples, piece);
        }
    }
}

// === impl Promotion ===

impl<'a> Promotion<'a> {
    fn new(profile: &'a Profile, names: &'a [String]) -> Self {
        let strings = &profile.string_table;
        let place = |string: &String| names.iter().position(|name| name == string);
        let places = (0..).zip(strings);
        let places = places.filter_map(|(index, string)| Some((index, place(string)?)));
        Self {
            names,
            strings,
            places: places.filter(|(index, _)| *index != 0).collect(),
        }
    }

    /// The value of each name, if the sample has it.
    fn values(&self, sample: &Sample) -> Vec<Option<String>> {
        let mut values = vec![None; self.names.len()];
        for label in &sample.label {
            if let Some(place) = self.places.get(&label.key)
                && values[*place].is_none()
            {
                values[*place] = self.value(label);
            }
        }
        values
    }

    /// A label's value as google/pprof reads it: a string, else a number.
    fn value(&self, label: &Label) -> Option<String> {
        if label.str != 0 {
            let text = self.strings.get(usize::try_from(label.str).ok()?)?;
            return (!text.is_empty()).then(|| text.clone());
        }
        (label.num != 0 || label.num_unit != 0).then(|| label.num.to_string())
    }

    fn labels(&self, values: &[Option<String>]) -> Promoted {
        let pairs = self.names.iter().zip(values);
        pairs
            .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
            .collect()
    }

    /// Removes what was promoted; a second value of a key stays.
    fn strip(&self, sample: &mut Sample) {
        let mut seen = vec![false; self.names.len()];
        sample
            .label
            .retain(|label| match self.places.get(&label.key) {
                Some(place) => std::mem::replace(&mut seen[*place], true),
                None => true,
            });
    }
}
