//! Checks the buffers of a message against the types of its columns.
//!
//! The decoder of the `arrow` crates takes for granted that a buffer of offsets or
//! of numbers holds a whole number of them, and ends the thread otherwise. So the
//! walk that it will do is done here before, without any data.

use super::Unreadable;
use arrow_ipc::{FieldNode, MetadataVersion, RecordBatch};
use arrow_schema::{DataType, Fields, IntervalUnit, UnionMode};
use std::collections::VecDeque;

/// The nodes and buffers of a message that were not looked at yet.
struct Rest<'a> {
    nodes: VecDeque<&'a FieldNode>,
    /// Their lengths when they are not compressed.
    buffers: VecDeque<u64>,
    /// The further buffers of each column of views.
    variadic: VecDeque<i64>,
    version: MetadataVersion,
}

const TOO_FEW: Unreadable = Unreadable::Shape("it has fewer buffers than its columns need");
const BROKEN: Unreadable = Unreadable::Shape("a buffer ends within a value");

/// Whether the buffers of a record, of which `plain_lens` are the lengths when they
/// are not compressed, are such as these columns have them.
pub(super) fn check(
    columns: &Fields,
    record: &RecordBatch<'_>,
    plain_lens: VecDeque<u64>,
    version: MetadataVersion,
) -> Result<(), Unreadable> {
    let mut rest = Rest {
        nodes: record.nodes().into_iter().flatten().collect(),
        buffers: plain_lens,
        variadic: record
            .variadicBufferCounts()
            .into_iter()
            .flatten()
            .collect(),
        version,
    };
    rest.fields(columns)
}

// === impl Rest ===

impl Rest<'_> {
    fn fields(&mut self, fields: &Fields) -> Result<(), Unreadable> {
        let mut fields = fields.iter();
        fields.try_for_each(|field| self.column(field.data_type()))
    }

    fn column(&mut self, data_type: &DataType) -> Result<(), Unreadable> {
        use DataType::*;
        let node = self.nodes.pop_front().ok_or(TOO_FEW)?;
        let len = u64::try_from(node.length()).map_err(|_| TOO_FEW)?;
        match data_type {
            Null => Ok(()),
            Boolean => self.bits().and_then(|()| self.bits()),
            Utf8 | Binary => self.text(4, len),
            LargeUtf8 | LargeBinary => self.text(8, len),
            Utf8View | BinaryView => self.views(len),
            List(item) | Map(item, _) => {
                self.offsets(4, len)?;
                self.column(item.data_type())
            }
            LargeList(item) => {
                self.offsets(8, len)?;
                self.column(item.data_type())
            }
            ListView(item) => {
                self.list_view(4, len)?;
                self.column(item.data_type())
            }
            LargeListView(item) => {
                self.list_view(8, len)?;
                self.column(item.data_type())
            }
            FixedSizeList(item, _) => {
                self.bits()?;
                self.column(item.data_type())
            }
            Struct(fields) => {
                self.bits()?;
                self.fields(fields)
            }
            RunEndEncoded(ends, values) => {
                self.column(ends.data_type())?;
                self.column(values.data_type())
            }
            Dictionary(keys, _) => self.numbers(width(keys), len),
            Union(fields, mode) => {
                if self.version < MetadataVersion::V5 {
                    self.bits()?;
                }
                self.bits()?;
                if *mode == UnionMode::Dense {
                    self.values(4, len)?;
                }
                let mut fields = fields.iter();
                fields.try_for_each(|(_, field)| self.column(field.data_type()))
            }
            other => self.numbers(width(other), len),
        }
    }

    /// A buffer of which any length will do, or is checked by the decoder.
    fn bits(&mut self) -> Result<(), Unreadable> {
        self.buffers.pop_front().map(|_| ()).ok_or(TOO_FEW)
    }

    /// A buffer of so many values of a width, in bytes, at least.
    fn values(&mut self, width: u64, len: u64) -> Result<(), Unreadable> {
        let bytes = self.buffers.pop_front().ok_or(TOO_FEW)?;
        match bytes.is_multiple_of(width) && bytes / width >= len {
            true => Ok(()),
            false => Err(BROKEN),
        }
    }

    fn numbers(&mut self, width: u64, len: u64) -> Result<(), Unreadable> {
        self.bits()?;
        self.values(width, len)
    }

    fn offsets(&mut self, width: u64, len: u64) -> Result<(), Unreadable> {
        self.bits()?;
        // Nothing may be said of nothing.
        let needed = if len == 0 { 0 } else { len + 1 };
        self.values(width, needed)
    }

    fn text(&mut self, width: u64, len: u64) -> Result<(), Unreadable> {
        self.offsets(width, len)?;
        self.bits()
    }

    fn list_view(&mut self, width: u64, len: u64) -> Result<(), Unreadable> {
        self.numbers(width, len)?;
        self.values(width, len)
    }

    fn views(&mut self, len: u64) -> Result<(), Unreadable> {
        self.numbers(16, len)?;
        let further = self.variadic.pop_front().ok_or(TOO_FEW)?;
        (0..further).try_for_each(|_| self.bits())
    }
}

/// The bytes of a value.
fn width(data_type: &DataType) -> u64 {
    use DataType::*;
    match data_type {
        FixedSizeBinary(width) => u64::try_from(*width).unwrap_or(1).max(1),
        Interval(IntervalUnit::DayTime) => 8,
        Interval(IntervalUnit::MonthDayNano) => 16,
        Interval(IntervalUnit::YearMonth) => 4,
        other => other.primitive_width().unwrap_or(1) as u64,
    }
}
