//! What the messages are made of: names, numbers and types of their fields.
//!
//! A test compares it, field by field, with `proto/`, so that none is forgotten
//! when the protocol grows.

/// A message and its fields, by number.
#[derive(Debug)]
pub(super) struct Message {
    /// In full, as in the `.proto` file.
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    /// In JSON.
    pub(super) name: &'static str,
    /// In protobuf.
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) label: Label,
}

/// How often a field may occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// Once; its default is left out.
    One,
    /// Once, and no other arm of the message's `oneof` beside it; its default is
    /// written.
    Arm,
    /// Any number of times.
    Many,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Fixed64,
    Double,
    String,
    /// base64 in JSON.
    Bytes,
    /// Bytes that are hex in JSON, and how many they are.
    Id(usize),
    Message(&'static Message),
    /// A `google.protobuf.Any` with one of the details of errors.
    Detail,
}

/// More fields than any message has.
pub(super) const MAX_FIELDS: usize = 16;

pub(super) static REQUEST: Message = Message {
    name: "opentelemetry.proto.collector.profiles.v1development.ExportProfilesServiceRequest",
    fields: &[
        many("resourceProfiles", 1, Kind::Message(&RESOURCE_PROFILES)),
        one("dictionary", 2, Kind::Message(&DICTIONARY)),
    ],
};

pub(super) static RESPONSE: Message = Message {
    name: "opentelemetry.proto.collector.profiles.v1development.ExportProfilesServiceResponse",
    fields: &[one("partialSuccess", 1, Kind::Message(&PARTIAL_SUCCESS))],
};

static PARTIAL_SUCCESS: Message = Message {
    name: "opentelemetry.proto.collector.profiles.v1development.ExportProfilesPartialSuccess",
    fields: &[
        one("rejectedProfiles", 1, Kind::Int64),
        one("errorMessage", 2, Kind::String),
    ],
};

pub(super) static STATUS: Message = Message {
    name: "google.rpc.Status",
    fields: &[
        one("code", 1, Kind::Int32),
        one("message", 2, Kind::String),
        many("details", 3, Kind::Detail),
    ],
};

static RESOURCE_PROFILES: Message = Message {
    name: "opentelemetry.proto.profiles.v1development.ResourceProfiles",
    fields: &[
        one("resource", 1, Kind::Message(&RESOURCE)),
        many("scopeProfiles", 2, Kind::Message(&SCOPE_PROFILES)),
        one("schemaUrl", 3, Kind::String),
    ],
};

static SCOPE_PROFILES: Message = Message {
    name: "opentelemetry.proto.profiles.v1development.ScopeProfiles",
    fields: &[
        one("scope", 1, Kind::Message(&SCOPE)),
        many("profiles", 2, Kind::Message(&PROFILE)),
        one("schemaUrl", 3, Kind::String),
    ],
};

static PROFILE: Message = Message {
    name: "opentelemetry.proto.profiles.v1development.Profile",
    fields: &[
        one("sampleType", 1, Kind::Message(&VALUE_TYPE)),
        many("samples", 2, Kind::Message(&SAMPLE)),
        one("timeUnixNano", 3, Kind::Fixed64),
        one("durationNano", 4, Kind::Uint64),
        one("periodType", 5, Kind::Message(&VALUE_TYPE)),
        one("period", 6, Kind::Int64),
        one("profileId", 7, Kind::Id(16)),
        one("droppedAttributesCount", 8, Kind::Uint32),
        one("originalPayloadFormat", 9, Kind::String),
        one("originalPayload", 10, Kind::Bytes),
        many("attributeIndices", 11, Kind::Int32),
    ],
};

static SAMPLE: Message = Message {
    name: "opentelemetry.proto.profiles.v1development.Sample",
    fields: &[
        one("stackIndex", 1, Kind::Int32),
        many("attributeIndices", 2, Kind::Int32),
        one("linkIndex", 3, Kind::Int32),
        many("values", 4, Kind::Int64),
        many("timestampsUnixNano", 5, Kind::Fixed64),
    ],
};

static VALUE_TYPE: Message = Message {
    name: "opentelemetry.proto.profiles.v1development.ValueType",
    fields: &[
        one("typeStrindex", 1, Kind::Int32),
        one("unitStrindex", 2, Kind::Int32),
    ],
};

static DICTIONARY: Message = Message {
    name: "opentelemetry.proto.profiles.v1development.ProfilesDictionary",
    fields: &[
        many("mappingTable", 1, Kind::Message(&MAPPING)),
        many("locationTable", 2, Kind::Message(&LOCATION)),
        many("functionTable", 3, Kind::Message(&FUNCTION)),
        many("linkTable", 4, Kind::Message(&LINK)),
        many("stringTable", 5, Kind::String),
        many("attributeTable", 6, Kind::Message(&KEY_VALUE_AND_UNIT)),
        many("stackTable", 7, Kind::Message(&STACK)),
    ],
};

static MAPPING: Message = Message {
    name: "opentelemetry.proto.profiles.v1development.Mapping",
    fields: &[
        one("memoryStart", 1, Kind::Uint64),
        one("memoryLimit", 2, Kind::Uint64),
        one("fileOffset", 3, Kind::Uint64),
        one("filenameStrindex", 4, Kind::Int32),
        many("attributeIndices", 5, Kind::Int32),
    ],
};

static LOCATION: Message = Message {
    name: "opentelemetry.proto.profiles.v1development.Location",
    fields: &[
        one("mappingIndex", 1, Kind::Int32),
        one("address", 2, Kind::Uint64),
        many("lines", 3, Kind::Message(&LINE)),
        many("attributeIndices", 4, Kind::Int32),
    ],
};

static LINE: Message = Message {
    name: "opentelemetry.proto.profiles.v1development.Line",
    fields: &[
        one("functionIndex", 1, Kind::Int32),
        one("line", 2, Kind::Int64),
        one("column", 3, Kind::Int64),
    ],
};

static FUNCTION: Message = Message {
    name: "opentelemetry.proto.profiles.v1development.Function",
    fields: &[
        one("nameStrindex", 1, Kind::Int32),
        one("systemNameStrindex", 2, Kind::Int32),
        one("filenameStrindex", 3, Kind::Int32),
        one("startLine", 4, Kind::Int64),
    ],
};

static LINK: Message = Message {
    name: "opentelemetry.proto.profiles.v1development.Link",
    fields: &[
        one("traceId", 1, Kind::Id(16)),
        one("spanId", 2, Kind::Id(8)),
    ],
};

static KEY_VALUE_AND_UNIT: Message = Message {
    name: "opentelemetry.proto.profiles.v1development.KeyValueAndUnit",
    fields: &[
        one("keyStrindex", 1, Kind::Int32),
        one("value", 2, Kind::Message(&ANY_VALUE)),
        one("unitStrindex", 3, Kind::Int32),
    ],
};

static STACK: Message = Message {
    name: "opentelemetry.proto.profiles.v1development.Stack",
    fields: &[many("locationIndices", 1, Kind::Int32)],
};

static RESOURCE: Message = Message {
    name: "opentelemetry.proto.resource.v1.Resource",
    fields: &[
        many("attributes", 1, Kind::Message(&KEY_VALUE)),
        one("droppedAttributesCount", 2, Kind::Uint32),
        many("entityRefs", 3, Kind::Message(&ENTITY_REF)),
    ],
};

static SCOPE: Message = Message {
    name: "opentelemetry.proto.common.v1.InstrumentationScope",
    fields: &[
        one("name", 1, Kind::String),
        one("version", 2, Kind::String),
        many("attributes", 3, Kind::Message(&KEY_VALUE)),
        one("droppedAttributesCount", 4, Kind::Uint32),
    ],
};

static ENTITY_REF: Message = Message {
    name: "opentelemetry.proto.common.v1.EntityRef",
    fields: &[
        one("schemaUrl", 1, Kind::String),
        one("type", 2, Kind::String),
        many("idKeys", 3, Kind::String),
        many("descriptionKeys", 4, Kind::String),
    ],
};

static KEY_VALUE: Message = Message {
    name: "opentelemetry.proto.common.v1.KeyValue",
    fields: &[
        one("key", 1, Kind::String),
        one("value", 2, Kind::Message(&ANY_VALUE)),
        one("keyStrindex", 3, Kind::Int32),
    ],
};

static ANY_VALUE: Message = Message {
    name: "opentelemetry.proto.common.v1.AnyValue",
    fields: &[
        arm("stringValue", 1, Kind::String),
        arm("boolValue", 2, Kind::Bool),
        arm("intValue", 3, Kind::Int64),
        arm("doubleValue", 4, Kind::Double),
        arm("arrayValue", 5, Kind::Message(&ARRAY_VALUE)),
        arm("kvlistValue", 6, Kind::Message(&KEY_VALUE_LIST)),
        arm("bytesValue", 7, Kind::Bytes),
        arm("stringValueStrindex", 8, Kind::Int32),
    ],
};

static ARRAY_VALUE: Message = Message {
    name: "opentelemetry.proto.common.v1.ArrayValue",
    fields: &[many("values", 1, Kind::Message(&ANY_VALUE))],
};

static KEY_VALUE_LIST: Message = Message {
    name: "opentelemetry.proto.common.v1.KeyValueList",
    fields: &[many("values", 1, Kind::Message(&KEY_VALUE))],
};

const fn one(name: &'static str, number: u32, kind: Kind) -> Field {
    field(name, number, kind, Label::One)
}

const fn arm(name: &'static str, number: u32, kind: Kind) -> Field {
    field(name, number, kind, Label::Arm)
}

const fn many(name: &'static str, number: u32, kind: Kind) -> Field {
    field(name, number, kind, Label::Many)
}

const fn field(name: &'static str, number: u32, kind: Kind, label: Label) -> Field {
    Field {
        name,
        number,
        kind,
        label,
    }
}

// === impl Message ===

impl Message {
    /// Its name without the package.
    pub(super) fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// Where in `fields` the field of this number is.
    pub(super) fn by_number(&self, number: u32) -> Option<usize> {
        // All messages of today count from 1 without a gap.
        let guess = (number as usize).wrapping_sub(1);
        match self.fields.get(guess) {
            Some(field) if field.number == number => Some(guess),
            _ => self.fields.iter().position(|field| field.number == number),
        }
    }

    /// Where in `fields` the field of this name is.
    pub(super) fn by_name(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }
}

// === impl Kind ===

impl Kind {
    /// Whether several are written one after the other in one field.
    pub(super) fn is_packed(self) -> bool {
        !matches!(
            self,
            Self::String | Self::Bytes | Self::Id(_) | Self::Message(_) | Self::Detail
        )
    }

    /// The wire type of one of them.
    pub(super) fn wire_type(self) -> u32 {
        match self {
            Self::Fixed64 | Self::Double => FIXED64,
            _ if self.is_packed() => VARINT,
            _ => LEN,
        }
    }
}

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
/// Strings, bytes, messages, and what is packed.
pub(super) const LEN: u32 = 2;
