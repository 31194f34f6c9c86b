//! The schemas as parca-agent declares them (`reporter/arrow.go` and
//! `arrow_v2.go`), nullability included.

use crate::profile::arrow::outline::VERSION_KEY;
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use std::{collections::HashMap, sync::Arc};

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

fn nullable(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn runs(values: DataType) -> DataType {
    let ends = Field::new("run_ends", DataType::Int32, false);
    let values = Field::new("values", values, true);
    DataType::RunEndEncoded(Arc::new(ends), Arc::new(values))
}

fn dictionary(values: DataType) -> DataType {
    DataType::Dictionary(Box::new(DataType::UInt32), Box::new(values))
}

fn item(data_type: DataType) -> FieldRef {
    Arc::new(nullable("item", data_type))
}

fn structure(fields: Vec<Field>) -> DataType {
    DataType::Struct(Fields::from(fields))
}

fn schema(fields: Vec<Field>, version: &str) -> Schema {
    let metadata = HashMap::from([(VERSION_KEY.to_owned(), version.to_owned())]);
    Schema::new_with_metadata(fields, metadata)
}

/// Samples of schema v1 with these labels.
pub(super) fn v1_samples<'l>(labels: impl Iterator<Item = &'l str>) -> Schema {
    let text = || runs(dictionary(DataType::Binary));
    let labels = labels.map(|name| nullable(&format!("labels.{name}"), text()));
    let mut fields: Vec<Field> = labels.collect();
    fields.extend([
        field("stacktrace_id", text()),
        field("value", DataType::Int64),
        field("producer", text()),
        field("sample_type", text()),
        field("sample_unit", text()),
        field("period_type", text()),
        field("period_unit", text()),
        field("temporality", text()),
        field("period", runs(DataType::Int64)),
        field("duration", runs(DataType::Int64)),
        field("timestamp", runs(DataType::Int64)),
    ]);
    schema(fields, "v1")
}

/// The table of stacks of schema v1.
pub(super) fn v1_stacks() -> Schema {
    let text = || runs(dictionary(DataType::Binary));
    let line = structure(vec![
        field("line", DataType::Int64),
        field("column", DataType::UInt64),
        field("function_name", dictionary(DataType::Binary)),
        field("function_system_name", dictionary(DataType::Binary)),
        field("function_filename", text()),
        field("function_start_line", DataType::Int64),
    ]);
    let location = structure(vec![
        field("address", DataType::UInt64),
        field("frame_type", text()),
        field("mapping_start", runs(DataType::UInt64)),
        field("mapping_limit", runs(DataType::UInt64)),
        field("mapping_offset", runs(DataType::UInt64)),
        field("mapping_file", text()),
        field("mapping_build_id", text()),
        field("lines", DataType::List(item(line))),
    ]);
    let fields = vec![
        field("stacktrace_id", DataType::Binary),
        field("is_complete", DataType::Boolean),
        field("locations", DataType::List(item(location))),
    ];
    schema(fields, "v1")
}

/// Schema v2 with these labels.
pub(super) fn v2<'l>(labels: impl Iterator<Item = &'l str>) -> Schema {
    let text = || dictionary(DataType::Utf8);
    let labels = labels.map(|name| nullable(name, runs(text())));
    let function = structure(vec![
        nullable("system_name", DataType::Utf8View),
        nullable("filename", text()),
        field("start_line", DataType::UInt64),
    ]);
    let line = structure(vec![
        field("line", DataType::UInt64),
        field("column", DataType::UInt64),
        field("function", dictionary(function)),
    ]);
    let location = structure(vec![
        field("address", DataType::UInt64),
        nullable("frame_type", text()),
        nullable("mapping_file", text()),
        nullable("mapping_build_id", text()),
        nullable("lines", DataType::ListView(item(line))),
    ]);
    let uuid = HashMap::from([
        ("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned()),
        ("ARROW:extension:metadata".to_owned(), String::new()),
    ]);
    let stacktrace = DataType::ListView(item(dictionary(location)));
    let utc = Some(Arc::from("UTC"));
    let fields = vec![
        field("labels", structure(labels.collect())),
        nullable("stacktrace", stacktrace),
        field("stacktrace_id", DataType::FixedSizeBinary(16)).with_metadata(uuid),
        field("value", DataType::Int64),
        field("producer", runs(DataType::Utf8)),
        field("sample_type", runs(DataType::Utf8)),
        field("sample_unit", runs(DataType::Utf8)),
        field("period_type", runs(DataType::Utf8)),
        field("period_unit", runs(DataType::Utf8)),
        nullable("temporality", runs(DataType::Utf8)),
        field("period", runs(DataType::Int64)),
        field("duration", runs(DataType::UInt64)),
        field("timestamp", DataType::Timestamp(TimeUnit::Nanosecond, utc)),
    ];
    schema(fields, "v2")
}
