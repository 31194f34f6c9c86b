//! What the profiles of a pprof say beside their samples.

use super::{
    ConvertError,
    budget::Budget,
    conventions,
    group::Group,
    lookup::Lookup,
    series::{Promotion, text},
    value::{self, Plain, plain},
    writer::Writer,
};
use crate::r#gen::opentelemetry::proto::{
    common::v1::{AnyValue, any_value::Value},
    profiles::v1development::{ScopeProfiles, ValueType},
};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

/// An attribute that becomes labels of samples.
#[derive(Clone, Debug)]
pub(super) struct Extra<'d> {
    pub(super) key: &'d str,
    pub(super) values: Vec<Plain<'d>>,
    pub(super) unit: &'d str,
}

/// What a scope says.
pub(super) struct Scope<'d> {
    pub(super) name: &'d str,
    pub(super) default_sample_type: &'d str,
    pub(super) order: Vec<i64>,
    pub(super) extras: BTreeMap<&'d str, Extra<'d>>,
    /// The bytes that the extras are about.
    cost: usize,
}

/// What is the same for all samples of a group.
pub(super) struct Frame<'d> {
    /// As they came.
    pub(super) types: Vec<[&'d str; 2]>,
    pub(super) default_sample_type: &'d str,
    pub(super) period_type: [&'d str; 2],
    pub(super) period: i64,
    pub(super) time: i64,
    pub(super) duration: i64,
    pub(super) comments: Vec<Cow<'d, str>>,
    pub(super) drop_frames: &'d str,
    pub(super) keep_frames: &'d str,
    pub(super) doc_url: &'d str,
    /// Of profile and scope.
    pub(super) extras: BTreeMap<&'d str, Extra<'d>>,
}

// === impl Extra ===

impl Extra<'_> {
    /// About the bytes that it is.
    fn cost(&self) -> usize {
        let value = |value: &Plain<'_>| match value {
            Plain::Text(text) => 16 + text.len(),
            Plain::Int(_) => 16,
        };
        16 + self.key.len() + self.values.iter().map(value).sum::<usize>()
    }
}

// === impl Scope ===

impl<'d> Scope<'d> {
    pub(super) fn read(
        lookup: Lookup<'d>,
        profiles: &'d ScopeProfiles,
        budget: &mut Budget,
    ) -> Result<Self, ConvertError> {
        let mut read = Self {
            name: "",
            default_sample_type: "",
            order: Vec::new(),
            extras: BTreeMap::new(),
            cost: 0,
        };
        let Some(scope) = &profiles.scope else {
            return Ok(read);
        };
        read.name = &scope.name;
        for pair in &scope.attributes {
            let key = value::key(lookup, pair)?;
            match key {
                "" => {}
                conventions::DEFAULT_SAMPLE_TYPE => {
                    read.default_sample_type = lookup.string(&pair.value)?.unwrap_or_default();
                }
                conventions::SAMPLE_TYPE_ORDER => read.order = ints(&pair.value),
                key => {
                    let values = plain(lookup, &pair.value)?;
                    let extra = Extra {
                        key,
                        values,
                        unit: "",
                    };
                    budget.charge(extra.cost())?;
                    read.cost += extra.cost();
                    add(&mut read.extras, extra);
                }
            }
        }
        Ok(read)
    }
}

/// Adds an attribute that has a value; the last of a key counts.
fn add<'d>(extras: &mut BTreeMap<&'d str, Extra<'d>>, extra: Extra<'d>) {
    if !extra.values.is_empty() {
        extras.insert(extra.key, extra);
    }
}

fn ints(value: &Option<AnyValue>) -> Vec<i64> {
    let Some(Value::ArrayValue(array)) = value.as_ref().and_then(|v| v.value.as_ref()) else {
        return Vec::new();
    };
    let int = |value: &AnyValue| match value.value {
        Some(Value::IntValue(int)) => Some(int),
        _ => None,
    };
    array.values.iter().filter_map(int).collect()
}

// === impl Frame ===

impl<'d> Frame<'d> {
    pub(super) fn read(
        lookup: Lookup<'d>,
        scope: &Scope<'d>,
        group: &Group<'d>,
        received: SystemTime,
        budget: &mut Budget,
    ) -> Result<Self, ConvertError> {
        let value_type = |value_type: Option<ValueType>| {
            let value_type = value_type.unwrap_or_default();
            Ok([
                lookup.text(("value_type.type_strindex", value_type.type_strindex))?,
                lookup.text(("value_type.unit_strindex", value_type.unit_strindex))?,
            ])
        };
        let types = group.iter().map(|profile| value_type(profile.sample_type));
        // All have the same but for sample type and samples.
        let (_, first) = group.profiles[0];
        let mut frame = Self {
            types: types.collect::<Result<_, ConvertError>>()?,
            default_sample_type: scope.default_sample_type,
            period_type: value_type(first.period_type)?,
            period: first.period,
            time: time(group).unwrap_or_else(|| unix_nanos(received)),
            duration: i64::try_from(first.duration_nano).unwrap_or(i64::MAX),
            comments: Vec::new(),
            drop_frames: "",
            keep_frames: "",
            doc_url: "",
            extras: BTreeMap::new(),
        };
        for attribute in lookup.attributes("profile.attribute_indices", &first.attribute_indices) {
            let (key, attribute) = attribute?;
            let text = lookup.string(&attribute.value)?;
            match key {
                "" => {}
                conventions::COMMENT => {
                    frame.comments = texts(lookup, &attribute.value)?;
                    budget.charge(8 * frame.comments.len())?;
                }
                conventions::DROP_FRAMES => frame.drop_frames = text.unwrap_or_default(),
                conventions::KEEP_FRAMES => frame.keep_frames = text.unwrap_or_default(),
                conventions::DOC_URL => frame.doc_url = text.unwrap_or_default(),
                key => {
                    let values = plain(lookup, &attribute.value)?;
                    let unit = lookup.text(("attribute.unit_strindex", attribute.unit_strindex))?;
                    let extra = Extra { key, values, unit };
                    budget.charge(extra.cost())?;
                    add(&mut frame.extras, extra);
                }
            }
        }
        budget.charge(scope.cost)?;
        let of_scope = scope.extras.iter();
        frame
            .extras
            .extend(of_scope.map(|(key, extra)| (*key, extra.clone())));
        Ok(frame)
    }

    /// Takes out the attributes that become labels of all series.
    pub(super) fn promote(&mut self, promotion: &Promotion<'_>) -> Vec<(&'d str, String)> {
        let mut promoted = Vec::new();
        self.extras.retain(|key, extra| {
            let value = promotion.place(key).and_then(|_| text(&extra.values));
            match value {
                Some(value) => promoted.push((*key, value)),
                None => return true,
            }
            false
        });
        promoted
    }

    /// What the default sample type is called, else the first.
    pub(super) fn name(&self) -> Cow<'d, str> {
        safe_type(self.preferred()[0], UNKNOWN_TYPE)
    }

    /// The default sample type, else the first.
    fn preferred(&self) -> [&'d str; 2] {
        let default = self.default_sample_type;
        let is_default = |t: &&[&str; 2]| !default.is_empty() && t[0] == default;
        let types = &self.types;
        let preferred = types.iter().find(is_default).or(types.first());
        preferred.copied().unwrap_or_default()
    }

    /// Writes everything but samples and their tables.
    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        const SAMPLE_TYPE: u32 = 1;
        const PERIOD_TYPE: u32 = 11;
        for value_type in &self.types {
            write_type(writer, SAMPLE_TYPE, *value_type);
        }
        let period_type = match self.period_type {
            ["", ""] => self.preferred(),
            period_type => period_type,
        };
        write_type(writer, PERIOD_TYPE, period_type);
        writer.int(9, self.time as u64);
        writer.int(10, self.duration as u64);
        writer.int(12, self.period as u64);
        for (number, text) in [
            (7, self.drop_frames),
            (8, self.keep_frames),
            (15, self.doc_url),
        ] {
            let place = writer.text(text);
            writer.int(number, place);
        }
        let comments = self.comments.iter().map(|comment| writer.text(comment));
        let comments: Vec<u64> = comments.collect();
        writer.ints(13, &comments);
        let default = self.default_sample_type;
        if !default.is_empty() && self.types.iter().any(|t| t[0] == default) {
            let place = writer.text(&safe_type(default, UNKNOWN_TYPE));
            writer.int(14, place);
        }
    }
}

/// The time that profiles tell, else the earliest that their samples do.
fn time(group: &Group<'_>) -> Option<i64> {
    let valid = |time: u64| i64::try_from(time).ok().filter(|time| *time > 0);
    let (_, first) = group.profiles[0];
    valid(first.time_unix_nano).or_else(|| {
        let samples = group.iter().flat_map(|profile| &profile.samples);
        let times = samples.flat_map(|sample| &sample.timestamps_unix_nano);
        times.filter_map(|time| valid(*time)).min()
    })
}

fn unix_nanos(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    // 0 would be no time at all.
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX).max(1)
}

/// The strings of a value, empty ones too.
fn texts<'d>(
    lookup: Lookup<'d>,
    value: &'d Option<AnyValue>,
) -> Result<Vec<Cow<'d, str>>, ConvertError> {
    let Some(Value::ArrayValue(array)) = value.as_ref().and_then(|v| v.value.as_ref()) else {
        return Ok(lookup.string(value)?.map(Cow::from).into_iter().collect());
    };
    let texts = array.values.iter().map(|value| value::text(lookup, value));
    texts.collect()
}

const UNKNOWN_TYPE: &str = "unknown";
const UNKNOWN_UNIT: &str = "count";

fn write_type(writer: &mut Writer<'_>, number: u32, [kind, unit]: [&str; 2]) {
    let kind = safe_type(kind, UNKNOWN_TYPE);
    let unit = safe_type(unit, UNKNOWN_UNIT);
    writer.value_type(number, [&kind, &unit]);
}

/// The same text with characters that can be part of a PromQL name.
pub(super) fn safe(text: &str) -> Cow<'_, str> {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match text.chars().all(is_safe) {
        true => text.into(),
        false => text.replace(|c| !is_safe(c), "_").into(),
    }
}

fn safe_type<'t>(text: &'t str, otherwise: &'t str) -> Cow<'t, str> {
    match text {
        "" => otherwise.into(),
        text => safe(text),
    }
}
