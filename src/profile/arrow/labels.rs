//! Labels, which are columns of a body.

use super::{
    Arrow, Part, Schema, Unreadable,
    decode::{Columns, decode},
    outline::{is_labels, open},
    read,
    read::{LABEL_PREFIX, LABELS},
    table,
    texts::Texts,
    write::{self, DictionaryOf},
};
use crate::profile::{Labels, NAME};
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray};
use arrow_schema::{DataType, Field, FieldRef};
use std::sync::Arc;

/// The labels that have one value in all rows: what of them can be a profile's.
/// `max` bounds inflated bytes.
pub fn constant_labels(arrow: &Arrow, max: u64) -> Result<Labels, Unreadable> {
    let stream = open(arrow.samples(), part(arrow), max)?;
    let columns = decode(arrow.samples(), &stream, is_labels)?;
    constant(&columns)
}

fn constant(columns: &Columns) -> Result<Labels, Unreadable> {
    let mut texts = Texts::new();
    let labels = read::labels(&columns.batch, &mut texts)?;
    Ok(table::constant_labels(&labels, &texts))
}

fn part(arrow: &Arrow) -> Part {
    match arrow.schema() {
        Schema::V1 => Part::V1Samples,
        Schema::V2 => Part::V2,
    }
}

/// The same body with the labels that a profile is to have: those that differ from
/// [`constant_labels`] stand in every row, over what a row says, and constant ones
/// that are gone are taken out. `__name__` becomes the producer. All else is as it
/// was, columns that the relay does not know included.
///
/// Nothing is decoded any further than that it can be written again. `max` bounds
/// inflated bytes.
pub fn overlay(arrow: &Arrow, wanted: &Labels, max: u64) -> Result<Arrow, Unreadable> {
    let stream = open(arrow.samples(), part(arrow), max)?;
    let has = constant(&decode(arrow.samples(), &stream, is_labels)?)?;
    let changes = Changes::between(&has, wanted);
    if changes.is_empty() {
        return Ok(arrow.clone());
    }
    let columns = decode(arrow.samples(), &stream, |_| true)?;
    let is_compressed = stream.record.message.compression().is_some();
    let samples = match part(arrow) {
        Part::V2 => changes.in_v2(columns)?,
        _ => changes.in_v1(columns)?,
    };
    let samples = write::stream(&samples.declared, &samples.batch, is_compressed)?;
    Ok(match arrow.stacks() {
        Some(stacks) => Arrow::v1(samples, stacks.clone()),
        None => Arrow::v2(samples),
    })
}

/// What is to be done with label columns, sorted by name.
struct Changes<'l> {
    /// A value, or nothing when the label goes.
    labels: Vec<(&'l str, Option<&'l str>)>,
    producer: Option<&'l str>,
}

// === impl Changes ===

impl<'l> Changes<'l> {
    fn between(has: &'l Labels, wanted: &'l Labels) -> Self {
        let set = wanted.iter().filter_map(|label| {
            let differs = has.get(&label.name) != Some(&*label.value) && &*label.name != NAME;
            differs.then_some((&*label.name, Some(&*label.value)))
        });
        let gone = has.iter().filter_map(|label| {
            let is_gone = wanted.get(&label.name).is_none();
            is_gone.then_some((&*label.name, None))
        });
        let mut labels: Vec<_> = set.chain(gone).collect();
        labels.sort_unstable();
        Self {
            labels,
            producer: wanted.name(),
        }
    }

    fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.producer.is_none()
    }

    /// With schema v1 each label is a column of its own, `labels.` and its name;
    /// they come first.
    fn in_v1(&self, columns: Columns) -> Result<Columns, Unreadable> {
        let rows = columns.batch.num_rows();
        let declared = columns.declared.fields().iter();
        let all = declared
            .cloned()
            .zip(columns.batch.columns().iter().cloned());
        let (labels, others): (Vec<_>, Vec<_>) =
            all.partition(|(field, _)| field.name().starts_with(LABEL_PREFIX));
        let name = |name: &str| format!("{LABEL_PREFIX}{name}");
        let mut fields = self.applied(labels, rows, DictionaryOf::Binary, name)?;
        for (field, array) in others {
            fields.push(self.with_producer(field, array, rows)?);
        }
        rebuilt(&columns, fields)
    }

    /// With schema v2 labels are children of one struct.
    fn in_v2(&self, columns: Columns) -> Result<Columns, Unreadable> {
        let rows = columns.batch.num_rows();
        let mut fields = Vec::new();
        let declared = columns.declared.fields().iter();
        for (field, array) in declared.zip(columns.batch.columns()) {
            let (field, array) = match field.name().as_str() {
                LABELS => self.in_struct(field, array, rows)?,
                _ => self.with_producer(field.clone(), array.clone(), rows)?,
            };
            fields.push((field, array));
        }
        rebuilt(&columns, fields)
    }

    fn in_struct(
        &self,
        field: &FieldRef,
        array: &ArrayRef,
        rows: usize,
    ) -> Result<(FieldRef, ArrayRef), Unreadable> {
        let all: &StructArray = super::column::of(LABELS, array)?;
        let DataType::Struct(declared) = field.data_type() else {
            return Err(super::column::unexpected(LABELS, array));
        };
        let children = declared.iter().cloned().zip(all.columns().iter().cloned());
        let children = self.applied(children.collect(), rows, DictionaryOf::Utf8, str::to_owned)?;
        let (declared, arrays): (Vec<_>, Vec<_>) = children.into_iter().unzip();
        let data_type = DataType::Struct(declared.into());
        let field = Field::clone(field).with_data_type(data_type);
        let nulls = all.nulls().cloned();
        Ok((Arc::new(field), write::structure(arrays, rows, nulls)?))
    }

    /// The columns of labels with the changes among them, sorted by name.
    fn applied(
        &self,
        columns: Vec<(FieldRef, ArrayRef)>,
        rows: usize,
        values: DictionaryOf,
        name: impl Fn(&str) -> String,
    ) -> Result<Vec<(FieldRef, ArrayRef)>, Unreadable> {
        let mut columns = columns;
        for (label, value) in &self.labels {
            let name = name(label);
            columns.retain(|(field, _)| *field.name() != name);
            if let Some(value) = value {
                let array = write::constant_dictionary(value, rows, values)?;
                let field = Field::new(name, array.data_type().clone(), true);
                let at = columns.partition_point(|(other, _)| other.name() < field.name());
                columns.insert(at, (Arc::new(field), array));
            }
        }
        Ok(columns)
    }

    fn with_producer(
        &self,
        field: FieldRef,
        array: ArrayRef,
        rows: usize,
    ) -> Result<(FieldRef, ArrayRef), Unreadable> {
        match self.producer.filter(|_| field.name() == "producer") {
            Some(producer) => {
                let array = write::constant_like(&array, producer, rows)?;
                Ok((field, array))
            }
            None => Ok((field, array)),
        }
    }
}

/// The same columns with others in their place.
fn rebuilt(columns: &Columns, fields: Vec<(FieldRef, ArrayRef)>) -> Result<Columns, Unreadable> {
    let rows = columns.batch.num_rows();
    let (declared, arrays): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    let metadata = columns.declared.metadata().clone();
    let declared = arrow_schema::Schema::new_with_metadata(declared, metadata);
    let batch: RecordBatch = write::batch(arrays, rows)?;
    Ok(Columns { batch, declared })
}
