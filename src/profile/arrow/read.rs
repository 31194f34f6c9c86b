//! From columns to the model.

use super::{
    Unreadable,
    column::{Runs, column, number_runs, text_runs, words},
    table::{Kind, LabelColumn},
    texts::Texts,
};
use arrow_array::{Array, RecordBatch, StructArray};
use std::collections::HashMap;

mod locations;
mod v1;
mod v2;

pub(super) use self::{
    v1::{stacks, v1},
    v2::v2,
};

/// What label columns of schema v1 begin with.
pub(super) const LABEL_PREFIX: &str = "labels.";
/// The column of schema v2 that holds all labels.
pub(super) const LABELS: &str = "labels";

/// The rows of a record, whatever its schema.
struct Rows {
    values: Vec<i64>,
    times: Vec<i64>,
    kinds: Vec<Kind>,
    kind_of: Runs<u32>,
}

// === impl Rows ===

impl Rows {
    fn read(
        batch: &RecordBatch,
        version: &'static str,
        texts: &mut Texts,
    ) -> Result<Self, Unreadable> {
        let value = column(batch, version, "value")?;
        // Plain, so that there are no more rows than bytes.
        let values = words("value", value)?;
        let time = column(batch, version, "timestamp")?;
        let times = number_runs("timestamp", time)?;
        let mut times: Vec<i64> = times.rows().collect();
        times.resize(values.len(), 0);
        let (kinds, kind_of) = kinds(batch, version, texts)?;
        Ok(Self {
            values: values.into_iter().map(|value| value as i64).collect(),
            times,
            kinds,
            kind_of,
        })
    }
}

/// The kinds of rows, and which each row has.
fn kinds(
    batch: &RecordBatch,
    version: &'static str,
    texts: &mut Texts,
) -> Result<(Vec<Kind>, Runs<u32>), Unreadable> {
    const TEXTS: [&str; 5] = [
        "producer",
        "sample_type",
        "sample_unit",
        "period_type",
        "period_unit",
    ];
    let rows = batch.num_rows() as u32;
    let mut merged = Runs::constant(0, rows);
    let mut kinds = vec![Kind::default()];
    for (place, name) in TEXTS.into_iter().enumerate() {
        let values = text_runs(name, column(batch, version, name)?, texts)?;
        refine(
            &mut kinds,
            &mut merged,
            &values,
            |kind, value| match place {
                0 => kind.producer = value,
                1 | 2 => kind.sample[place - 1] = value,
                _ => kind.period_type[place - 3] = value,
            },
        );
    }
    if let Some(array) = batch.column_by_name("temporality") {
        let values = text_runs("temporality", array, texts)?;
        refine(&mut kinds, &mut merged, &values, |kind, value| {
            kind.temporality = value;
        });
    }
    let period = number_runs("period", column(batch, version, "period")?)?;
    refine(&mut kinds, &mut merged, &period, |kind, value| {
        kind.period = value;
    });
    let duration = number_runs("duration", column(batch, version, "duration")?)?;
    refine(&mut kinds, &mut merged, &duration, |kind, value| {
        kind.duration = value;
    });
    Ok((kinds, merged))
}

/// Divides kinds by the values of a further column.
fn refine<T: Copy + PartialEq>(
    kinds: &mut Vec<Kind>,
    kind_of: &mut Runs<u32>,
    values: &Runs<T>,
    set: impl Fn(&mut Kind, T),
) {
    let mut refined = Runs::EMPTY;
    let mut found = Vec::new();
    let mut known: HashMap<Kind, u32> = HashMap::new();
    let (mut old, mut new) = (kind_of.iter(), values.iter());
    let (mut left, mut right) = (old.next(), new.next());
    while let (Some((_, left_end, kind)), Some((_, right_end, value))) = (left, right) {
        let mut kind = kinds.get(kind as usize).copied().unwrap_or_default();
        set(&mut kind, value);
        let place = *known.entry(kind).or_insert_with(|| {
            found.push(kind);
            found.len() as u32 - 1
        });
        refined.push(place, left_end.min(right_end));
        if left_end <= right_end {
            left = old.next();
        }
        if right_end <= left_end {
            right = new.next();
        }
    }
    drop(old);
    *kinds = found;
    *kind_of = refined;
}

/// The label columns of a record of either schema, sorted by name.
pub(super) fn labels(
    batch: &RecordBatch,
    texts: &mut Texts,
) -> Result<Vec<LabelColumn>, Unreadable> {
    let mut labels = Vec::new();
    let mut read = |name: &str, array: &dyn Array| {
        let values = text_runs(name, array, texts)?;
        labels.push(LabelColumn {
            name: name.into(),
            values,
        });
        Ok::<_, Unreadable>(())
    };
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if let Some(name) = field.name().strip_prefix(LABEL_PREFIX) {
            read(name, array)?;
        } else if field.name() == LABELS {
            let all: &StructArray = super::column::of(LABELS, array)?;
            for (field, array) in all.fields().iter().zip(all.columns()) {
                read(field.name(), array)?;
            }
        }
    }
    labels.retain(|label: &LabelColumn| !label.name.is_empty());
    labels.sort_by(|one, other| one.name.cmp(&other.name));
    // Which of the two counts is the reader's choice, and so who it is of.
    if labels.windows(2).any(|pair| pair[0].name == pair[1].name) {
        return Err(Unreadable::Shape("it has a label twice"));
    }
    Ok(labels)
}
