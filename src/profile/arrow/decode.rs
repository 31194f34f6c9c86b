//! Columns of a stream as arrays of the `arrow` crates.
//!
//! parca-agent declares columns as never null that hold nulls (file and build id
//! of interpreted frames, names of functions that nobody knows). The decoder of
//! `arrow-ipc` takes a schema at its word, so it is given one in which everything
//! may be null. All its checks stay on, and it sees only types that are read.

use super::{
    Unreadable, layout,
    stream::{Stream, plain_lens},
};
use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::{
    convert::try_fb_to_schema,
    reader::{read_dictionary, read_record_batch},
};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use bytes::Bytes;
use std::{collections::HashMap, collections::HashSet, sync::Arc};

/// The longest value of a fixed size, in bytes.
const MAX_WIDTH: i32 = 4096;

/// Decodes the columns whose names are `wanted`; each may hold nulls. What that takes
/// is in the census of the stream, and the caller has charged it.
pub(super) fn decode(
    bytes: &Bytes,
    stream: &Stream<'_>,
    wanted: impl Fn(&str) -> bool,
) -> Result<RecordBatch, Unreadable> {
    let declared = try_fb_to_schema(stream.schema)?;
    let places: Vec<usize> = (0..)
        .zip(stream.columns())
        .filter_map(|(place, name)| wanted(name).then_some(place))
        .collect();
    for place in &places {
        let field = declared.field(*place);
        check(field.name(), field.data_type())?;
    }
    let lenient = Arc::new(Schema::new_with_metadata(
        relaxed(declared.fields()),
        declared.metadata().clone(),
    ));
    let used = dictionary_ids(stream, &places);
    let whole = Buffer::from(bytes.clone());
    let body = |range: &std::ops::Range<usize>| whole.slice_with_length(range.start, range.len());
    let mut dictionaries = HashMap::new();
    for part in &stream.dictionaries {
        if used.contains(&part.message.id()) {
            let body = body(&part.body);
            let values = values_of(&lenient, part.message.id());
            let (Some(fields), Some(data)) = (values, part.message.data()) else {
                continue;
            };
            // It may be that of another column, which was not asked for.
            for field in &fields {
                check("dictionary", field.data_type())?;
            }
            layout::check(&fields, &data, plain_lens(&body, &data), part.version)?;
            read_dictionary(
                &body,
                part.message,
                &lenient,
                &mut dictionaries,
                &part.version,
            )?;
        }
    }
    let record = &stream.record;
    let body = body(&record.body);
    let lens = plain_lens(&body, &record.message);
    layout::check(lenient.fields(), &record.message, lens, record.version)?;
    Ok(read_record_batch(
        &body,
        record.message,
        lenient,
        &dictionaries,
        Some(&places),
        &record.version,
    )?)
}

/// The values of a dictionary, as the only column that they are in its message.
fn values_of(schema: &Schema, id: i64) -> Option<Fields> {
    // The decoder finds them by the same means.
    #[expect(deprecated)]
    let fields = schema.fields_with_dict_id(id);
    match fields.first()?.data_type() {
        DataType::Dictionary(_, values) => {
            let values = Field::new("", DataType::clone(values), true);
            Some(Fields::from(vec![values]))
        }
        _ => None,
    }
}

/// The ids of the dictionaries of these columns.
fn dictionary_ids(stream: &Stream<'_>, places: &[usize]) -> HashSet<i64> {
    let mut ids = HashSet::new();
    let fields = stream.schema.fields().into_iter().flatten().enumerate();
    let mut open: Vec<_> = fields
        .filter_map(|(place, field)| places.contains(&place).then_some(field))
        .collect();
    while let Some(field) = open.pop() {
        ids.extend(field.dictionary().map(|dictionary| dictionary.id()));
        open.extend(field.children().into_iter().flatten());
    }
    ids
}

/// Refuses types that nothing here reads, because the decoder need not be trusted
/// with them.
fn check(column: &str, data_type: &DataType) -> Result<(), Unreadable> {
    use DataType::*;
    let all = |fields: &[&FieldRef]| {
        let mut fields = fields.iter();
        fields.try_for_each(|field| check(column, field.data_type()))
    };
    match data_type {
        Boolean | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float32
        | Float64 | Timestamp(..) | Duration(_) | Binary | LargeBinary | BinaryView | Utf8
        | LargeUtf8 | Utf8View => Ok(()),
        FixedSizeBinary(1..=MAX_WIDTH) => Ok(()),
        Struct(fields) => fields
            .iter()
            .try_for_each(|field| check(column, field.data_type())),
        List(item) | LargeList(item) | ListView(item) | LargeListView(item) => all(&[item]),
        Dictionary(_, values) => check(column, values),
        RunEndEncoded(ends, values) if matches!(ends.data_type(), Int16 | Int32 | Int64) => {
            all(&[values])
        }
        other => Err(Unreadable::ColumnType {
            column: column.to_owned(),
            found: short(other),
        }),
    }
}

/// A type's name, short enough for a log line.
pub(super) fn short(data_type: &DataType) -> String {
    let name = data_type.to_string();
    name.chars().take(64).collect()
}

/// The same fields, all of which may be null.
fn relaxed(fields: &Fields) -> Fields {
    fields.iter().map(relaxed_field).collect()
}

fn relaxed_field(field: &FieldRef) -> FieldRef {
    let field = Field::clone(field);
    let data_type = relaxed_type(field.data_type());
    Arc::new(field.with_data_type(data_type).with_nullable(true))
}

fn relaxed_type(data_type: &DataType) -> DataType {
    use DataType::*;
    match data_type {
        Struct(fields) => Struct(relaxed(fields)),
        List(item) => List(relaxed_field(item)),
        LargeList(item) => LargeList(relaxed_field(item)),
        ListView(item) => ListView(relaxed_field(item)),
        LargeListView(item) => LargeListView(relaxed_field(item)),
        Dictionary(keys, values) => Dictionary(keys.clone(), Box::new(relaxed_type(values))),
        RunEndEncoded(ends, values) => RunEndEncoded(ends.clone(), relaxed_field(values)),
        other => other.clone(),
    }
}
