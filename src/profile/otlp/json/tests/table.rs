use crate::profile::otlp::json::table::{self, Field, Kind, Label, MAX_FIELDS, Message};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{self, Type},
};
use std::{collections::BTreeSet, path::Path};

/// Bytes that JSON writes as hex: those the specification names, and `profileId`,
/// which the Collector writes so too.
const IDS: &[(&str, usize)] = &[("traceId", 16), ("spanId", 8), ("profileId", 16)];

#[test]
fn the_table_has_every_field_of_the_protocol() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let files = [
        "opentelemetry/collector/profiles/v1development/profiles_service.proto",
        "google/rpc/status.proto",
    ];
    let protocol = protox::compile(files, [root]).unwrap();
    let mut compared = BTreeSet::new();
    for message in [&table::REQUEST, &table::RESPONSE, &table::STATUS] {
        compare(message, &protocol, &mut compared);
    }
    assert!(compared.len() >= 20, "only {compared:?}");
}

fn compare(
    message: &'static Message,
    protocol: &FileDescriptorSet,
    compared: &mut BTreeSet<&'static str>,
) {
    if !compared.insert(message.name) {
        return;
    }
    let described = described(message.name, protocol);
    assert!(message.fields.len() < MAX_FIELDS, "{}", message.name);
    let ours: Vec<_> = message.fields.iter().map(in_words).collect();
    let theirs: Vec<_> = described.field.iter().map(described_in_words).collect();
    assert_eq!(ours, theirs, "{}", message.name);
    assert!(
        described.oneof_decl.len() <= 1,
        "{}: a second oneof is not told apart",
        message.name
    );
    for field in message.fields {
        let index = message.by_number(field.number).unwrap();
        assert_eq!(message.fields[index].name, field.name);
        if let Kind::Message(inner) = field.kind {
            compare(inner, protocol, compared);
        }
    }
}

fn described<'p>(name: &str, protocol: &'p FileDescriptorSet) -> &'p DescriptorProto {
    let (package, short) = name.rsplit_once('.').unwrap();
    let files = protocol.file.iter().filter(|f| f.package() == package);
    let mut messages = files.flat_map(|file| &file.message_type);
    messages
        .find(|message| message.name() == short)
        .unwrap_or_else(|| panic!("{name} is not in proto/"))
}

fn in_words(field: &Field) -> String {
    let kind = match field.kind {
        Kind::Bool => "TYPE_BOOL".to_owned(),
        Kind::Int32 => "TYPE_INT32".to_owned(),
        Kind::Int64 => "TYPE_INT64".to_owned(),
        Kind::Uint32 => "TYPE_UINT32".to_owned(),
        Kind::Uint64 => "TYPE_UINT64".to_owned(),
        Kind::Fixed64 => "TYPE_FIXED64".to_owned(),
        Kind::Double => "TYPE_DOUBLE".to_owned(),
        Kind::String => "TYPE_STRING".to_owned(),
        Kind::Bytes => "TYPE_BYTES".to_owned(),
        Kind::Id(size) => format!("id of {size}"),
        Kind::Message(message) => format!(".{}", message.name),
        Kind::Detail => ".google.protobuf.Any".to_owned(),
    };
    let label = field.label;
    format!("{} {} {label:?} {kind}", field.number, field.name)
}

fn described_in_words(field: &FieldDescriptorProto) -> String {
    let name = field.json_name();
    let id = IDS.iter().find(|(id, _)| *id == name);
    let kind = match (field.r#type(), id) {
        (Type::Message, _) => field.type_name().to_owned(),
        (Type::Bytes, Some((_, size))) => format!("id of {size}"),
        (other, _) => other.as_str_name().to_owned(),
    };
    let label = match field.label() {
        field_descriptor_proto::Label::Repeated => Label::Many,
        _ if field.proto3_optional() => panic!("{name}: optional fields are not known here"),
        _ if field.oneof_index.is_some() => Label::Arm,
        _ => Label::One,
    };
    format!("{} {name} {label:?} {kind}", field.number())
}
