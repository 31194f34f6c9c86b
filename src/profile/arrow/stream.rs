//! An Arrow IPC stream, walked message by message before anything is decoded.
//!
//! The walk counts what decoding would take: a few kilobytes can declare
//! gigabytes, by the lengths before LZ4 buffers, by buffers that lie on top of
//! each other, and by tables of the schema that are referred to again and again.
//! It allocates nothing but two short lists, and checks what the decoder of the
//! `arrow-ipc` crate relies on: all ranges are within their bodies, all lengths
//! are sane, each dictionary comes once and is one of the schema.

use super::{
    Unreadable,
    read::{LABEL_PREFIX, LABELS},
};
use arrow_ipc::{
    DictionaryBatch, Field, KeyValue, Message, MessageHeader, MetadataVersion, RecordBatch, Schema,
    root_as_message,
};
use std::{collections::VecDeque, ops::Range};

/// The messages of a stream that holds one record.
#[derive(Clone, Debug)]
pub(super) struct Stream<'a> {
    pub(super) schema: Schema<'a>,
    pub(super) dictionaries: Vec<Part<DictionaryBatch<'a>>>,
    pub(super) record: Part<RecordBatch<'a>>,
    /// What there is to decode.
    pub(super) census: Census,
}

/// A message, and where its buffers are in the stream.
#[derive(Clone, Debug)]
pub(super) struct Part<M> {
    pub(super) message: M,
    pub(super) body: Range<usize>,
    pub(super) version: MetadataVersion,
}

/// What decoding takes, by what the messages declare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// Bytes of the schema, as it stands in memory.
    schema: u64,
    /// Bytes of all buffers, not compressed.
    buffers: u64,
    /// Arrays.
    nodes: u64,
    /// The largest block of an LZ4 buffer.
    block: u64,
    /// Columns that hold labels.
    labels: u64,
    /// Rows of the record.
    pub(super) rows: u64,
}

/// Fields that a schema may have, and how deep they may be nested.
const MAX_FIELDS: usize = 4096;
const MAX_DEPTH: usize = 16;
/// Arrays of all messages: a nested type has one for each of its fields, in the
/// record or in a dictionary.
const MAX_NODES: u64 = 16 * MAX_FIELDS as u64;
/// What a field takes in memory beside its texts: in the schema as declared, in
/// the one that is lenient, and in the types of arrays.
const FIELD: u64 = 1024;
/// What an array takes beside its buffers.
const NODE: u64 = 1024;
/// What a model of the columns takes for each byte of theirs: locations of
/// schema v1 are the worst.
const MODEL: u64 = 4;

const CONTINUATION: [u8; 4] = [0xff; 4];

// === impl Stream ===

impl<'a> Stream<'a> {
    /// Walks a stream.
    pub(super) fn walk(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let mut frames = Frames { bytes, at: 0 };
        let mut census = Census::default();
        let schema = frames.next()?.ok_or(Unreadable::Shape("it is empty"))?;
        let schema = schema
            .message
            .header_as_schema()
            .ok_or(Unreadable::Shape("it does not begin with a schema"))?;
        let mut fields = Fields::default();
        fields.schema(&schema)?;
        census.schema = fields.bytes;
        census.labels = label_columns(&schema);
        let mut dictionaries = Vec::new();
        let mut record = None;
        while let Some(frame) = frames.next()? {
            match frame.message.header_type() {
                MessageHeader::DictionaryBatch => {
                    let part = dictionary(&frame, &mut fields, &mut census)?;
                    dictionaries.push(part);
                }
                MessageHeader::RecordBatch if record.is_none() => {
                    let message = frame.message.header_as_record_batch();
                    let message = message.ok_or(NO_HEADER)?;
                    census.batch(&frame, &message, bytes)?;
                    census.rows = length(message.length())?;
                    record = Some(frame.part(message));
                }
                MessageHeader::RecordBatch => {
                    return Err(Unreadable::Shape("it has more than one record"));
                }
                _ => return Err(Unreadable::Shape("it has messages of other kinds")),
            }
        }
        Ok(Self {
            schema,
            dictionaries,
            record: record.ok_or(Unreadable::Shape("it has no record"))?,
            census,
        })
    }

    /// The value of a key of the schema's metadata.
    pub(super) fn metadata(&self, key: &str) -> Option<&'a str> {
        let pairs = self.schema.custom_metadata()?;
        let mut pairs = pairs.iter();
        pairs.find_map(|pair| (pair.key() == Some(key)).then(|| pair.value())?)
    }

    /// The names of the columns.
    pub(super) fn columns(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let fields = self.schema.fields();
        let fields = fields.into_iter().flat_map(|fields| fields.iter());
        fields.map(|field| field.name().unwrap_or_default())
    }
}

/// The number of columns that hold labels.
fn label_columns(schema: &Schema<'_>) -> u64 {
    let fields = schema.fields().into_iter().flatten();
    let counts = fields.map(|field| match field.name().unwrap_or_default() {
        LABELS => field.children().map_or(0, |children| children.len()),
        name => usize::from(name.starts_with(LABEL_PREFIX)),
    });
    counts.sum::<usize>() as u64
}

const NO_HEADER: Unreadable = Unreadable::Shape("a message is not of the kind that it says");

fn dictionary<'a>(
    frame: &Frame<'a>,
    fields: &mut Fields,
    census: &mut Census,
) -> Result<Part<DictionaryBatch<'a>>, Unreadable> {
    let message = frame.message.header_as_dictionary_batch();
    let message = message.ok_or(NO_HEADER)?;
    // A later one would replace it, or be added: parca-agent writes each once.
    let place = fields
        .dictionaries
        .iter()
        .position(|id| *id == message.id());
    let Some(place) = place.filter(|_| !message.isDelta()) else {
        return Err(Unreadable::Shape(
            "it has a dictionary twice, or one that no column refers to",
        ));
    };
    fields.dictionaries.swap_remove(place);
    let data = message.data().ok_or(NO_HEADER)?;
    census.batch(frame, &data, frame.bytes)?;
    Ok(frame.part(message))
}

/// The lengths of the buffers of a message when they are not compressed.
pub(super) fn plain_lens(body: &[u8], batch: &RecordBatch<'_>) -> VecDeque<u64> {
    let is_compressed = batch.compression().is_some();
    let buffers = batch.buffers().into_iter().flatten();
    let plain = buffers.map(|buffer| {
        let content = slice(body, buffer.offset(), buffer.length()).unwrap_or_default();
        match (is_compressed, content.split_first_chunk()) {
            (true, Some((size, content))) => match i64::from_le_bytes(*size) {
                -1 => content.len() as u64,
                size => u64::try_from(size).unwrap_or(0),
            },
            _ => content.len() as u64,
        }
    });
    plain.collect()
}

// === impl Census ===

impl Census {
    /// The bytes that decoding takes, the bytes that arrived not included.
    pub(super) fn decoded(&self) -> u64 {
        let nodes = self.nodes * NODE;
        self.buffers
            .saturating_mul(1 + MODEL)
            .saturating_add(self.schema)
            .saturating_add(nodes)
            .saturating_add(self.block)
    }

    /// The bytes of schema and columns, not compressed, and something for the labels
    /// of each row, which take next to no room in runs.
    pub(super) fn inflated(&self) -> u64 {
        let cells = self.rows.saturating_mul(self.labels) / 8;
        self.buffers
            .saturating_add(self.schema)
            .saturating_add(cells)
    }

    fn batch(
        &mut self,
        frame: &Frame<'_>,
        batch: &RecordBatch<'_>,
        bytes: &[u8],
    ) -> Result<(), Unreadable> {
        let body = bytes.get(frame.body.clone()).unwrap_or_default();
        let is_compressed = batch.compression().is_some();
        length(batch.length())?;
        for node in batch.nodes().into_iter().flatten() {
            if length(node.null_count())? > length(node.length())? {
                return Err(Unreadable::Shape("an array has more nulls than values"));
            }
            self.nodes += 1;
        }
        if self.nodes > MAX_NODES {
            return Err(Unreadable::Shape("it has too many arrays"));
        }
        for buffer in batch.buffers().into_iter().flatten() {
            let content = slice(body, buffer.offset(), buffer.length())?;
            let size = match is_compressed && !content.is_empty() {
                true => self.compressed(content)?,
                false => content.len() as u64,
            };
            // Kept at their own width, if they are moved.
            self.buffers = self.buffers.saturating_add(size.next_multiple_of(64));
        }
        let counts = batch.variadicBufferCounts().into_iter().flatten();
        for count in counts {
            length(count)?;
        }
        Ok(())
    }

    /// The size that a compressed buffer declares.
    fn compressed(&mut self, content: &[u8]) -> Result<u64, Unreadable> {
        let Some((size, content)) = content.split_first_chunk() else {
            return Err(Unreadable::Shape("a compressed buffer has no length"));
        };
        match i64::from_le_bytes(*size) {
            -1 => Ok(content.len() as u64),
            size => {
                self.block = self.block.max(lz4_block(content));
                length(size)
            }
        }
    }
}

/// What the decoder takes for the blocks of an LZ4 frame: its header says how
/// large they are.
fn lz4_block(content: &[u8]) -> u64 {
    const LEGACY: u64 = 8 << 20;
    let block = match (content, content.get(5)) {
        ([0x04, 0x22, 0x4d, 0x18, ..], Some(descriptor)) => match descriptor >> 4 & 7 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            _ => 4 << 20,
        },
        _ => LEGACY,
    };
    // One compressed, one or two with what they refer back to.
    3 * block + (256 << 10)
}

/// A length that is one.
fn length(value: i64) -> Result<u64, Unreadable> {
    match u64::try_from(value) {
        Ok(value) if value <= i32::MAX as u64 => Ok(value),
        _ => Err(Unreadable::Shape("a length is negative or beyond 2 GiB")),
    }
}

fn slice(body: &[u8], offset: i64, len: i64) -> Result<&[u8], Unreadable> {
    let begin = length(offset)? as usize;
    let end = begin + length(len)? as usize;
    let outside = Unreadable::Shape("a buffer is not within its message");
    body.get(begin..end).ok_or(outside)
}

/// The fields of a schema, counted.
#[derive(Debug, Default)]
struct Fields {
    count: usize,
    bytes: u64,
    /// Ids.
    dictionaries: Vec<i64>,
}

// === impl Fields ===

impl Fields {
    fn schema(&mut self, schema: &Schema<'_>) -> Result<(), Unreadable> {
        for pair in schema.custom_metadata().into_iter().flatten() {
            self.pair(&pair);
        }
        for field in schema.fields().into_iter().flatten() {
            self.field(&field, 0)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &Field<'_>, depth: usize) -> Result<(), Unreadable> {
        self.count += 1;
        if self.count > MAX_FIELDS || depth > MAX_DEPTH {
            return Err(Unreadable::Shape("it has too many columns"));
        }
        self.bytes += FIELD + 8 * field.name().unwrap_or_default().len() as u64;
        if let Some(zone) = field.type_as_timestamp().and_then(|t| t.timezone()) {
            self.bytes += 8 * zone.len() as u64;
        }
        if let Some(ids) = field.type_as_union().and_then(|union| union.typeIds()) {
            self.bytes += FIELD * ids.len() as u64;
        }
        for pair in field.custom_metadata().into_iter().flatten() {
            self.pair(&pair);
        }
        if let Some(dictionary) = field.dictionary()
            && !self.dictionaries.contains(&dictionary.id())
        {
            self.dictionaries.push(dictionary.id());
        }
        for child in field.children().into_iter().flatten() {
            self.field(&child, depth + 1)?;
        }
        Ok(())
    }

    fn pair(&mut self, pair: &KeyValue<'_>) {
        let texts = pair.key().unwrap_or_default().len() + pair.value().unwrap_or_default().len();
        self.bytes += FIELD + 8 * texts as u64;
    }
}

/// The messages of a stream, one after the other.
struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A message, and where its buffers are.
struct Frame<'a> {
    bytes: &'a [u8],
    message: Message<'a>,
    body: Range<usize>,
}

// === impl Frames ===

impl<'a> Frames<'a> {
    /// The next message; nothing at the end, said or not.
    fn next(&mut self) -> Result<Option<Frame<'a>>, Unreadable> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let Some((head, rest)) = rest.split_first_chunk::<8>() else {
            return Err(self.broken("it ends within the frame of a message"));
        };
        let [mark @ .., a, b, c, d] = *head;
        if mark != CONTINUATION {
            return Err(self.broken("there is no message"));
        }
        let metadata = i32::from_le_bytes([a, b, c, d]);
        if metadata == 0 {
            return Ok(None);
        }
        let metadata = usize::try_from(metadata).ok();
        let Some((metadata, rest)) = metadata.and_then(|len| rest.split_at_checked(len)) else {
            return Err(self.broken("a message does not end"));
        };
        let message = root_as_message(metadata)
            .map_err(|_| self.broken("the metadata of a message is broken"))?;
        let body = usize::try_from(message.bodyLength()).ok();
        let Some(body) = body.filter(|body| *body <= rest.len()) else {
            return Err(self.broken("the body of a message does not end"));
        };
        let begin = self.bytes.len() - rest.len();
        self.at = begin + body;
        Ok(Some(Frame {
            bytes: self.bytes,
            message,
            body: begin..self.at,
        }))
    }

    fn broken(&self, what: &'static str) -> Unreadable {
        Unreadable::NotArrow {
            what,
            offset: self.at,
        }
    }
}

// === impl Frame ===

impl Frame<'_> {
    fn part<M>(&self, message: M) -> Part<M> {
        Part {
            message,
            body: self.body.clone(),
            version: self.message.version(),
        }
    }
}
