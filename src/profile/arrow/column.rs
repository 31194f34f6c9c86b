//! Columns read as texts, numbers and ids, however they are encoded: plain, by
//! dictionary, by runs, or by runs of a dictionary.

use super::{Unreadable, decode::short, texts::Texts};
use crate::profile::interned::Table;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, DictionaryArray, FixedSizeBinaryArray,
    Int64Array, LargeBinaryArray, LargeStringArray, PrimitiveArray, RecordBatch, RunArray,
    StringArray, StringViewArray, UInt64Array,
    types::{
        ArrowDictionaryKeyType, ArrowPrimitiveType, DurationNanosecondType, Int8Type, Int16Type,
        Int32Type, Int64Type, RunEndIndexType, TimestampNanosecondType, UInt8Type, UInt16Type,
        UInt32Type, UInt64Type,
    },
};
use arrow_buffer::ArrowNativeType;
use arrow_schema::DataType;

/// Stands for "null" where places are told.
pub(super) const NONE: u32 = u32::MAX;

/// A column by runs of equal values. Runs are never empty, and their ends rise.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::profile) struct Runs<T> {
    ends: Vec<u32>,
    values: Vec<T>,
}

/// What makes values of an array without runs.
type Read<'r, T> = &'r mut dyn FnMut(&dyn Array) -> Result<Vec<T>, Unreadable>;

// === impl Runs ===

impl<T> Runs<T> {
    /// No rows.
    pub(super) const EMPTY: Self = Self {
        ends: Vec::new(),
        values: Vec::new(),
    };
}

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<T: Copy + PartialEq> Runs<T> {
    /// One value for all rows.
    pub(super) fn constant(value: T, rows: u32) -> Self {
        let mut runs = Self::EMPTY;
        runs.push(value, rows);
        runs
    }

    /// Appends a value up to row `end`.
    pub(super) fn push(&mut self, value: T, end: u32) {
        if end <= self.ends.last().copied().unwrap_or(0) {
            return;
        }
        match (self.values.last(), self.ends.last_mut()) {
            (Some(last), Some(last_end)) if *last == value => *last_end = end,
            _ => {
                self.values.push(value);
                self.ends.push(end);
            }
        }
    }

    /// Each run: its first row, the one behind its last, and its value.
    pub(in crate::profile) fn iter(&self) -> impl Iterator<Item = (u32, u32, T)> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let runs = begins.zip(&self.ends).zip(&self.values);
        runs.map(|((begin, end), value)| (begin, *end, *value))
    }

    /// The value of each row.
    pub(in crate::profile) fn rows(&self) -> impl Iterator<Item = T> {
        self.iter()
            .flat_map(|(begin, end, value)| (begin..end).map(move |_| value))
    }

    /// The runs of some of the rows.
    pub(super) fn within(&self, rows: std::ops::Range<u32>) -> impl Iterator<Item = (u32, T)> {
        let first = self.ends.partition_point(|end| *end <= rows.start);
        let runs = self.ends.iter().zip(&self.values).skip(first);
        let mut is_over = false;
        runs.map_while(move |(end, value)| {
            let end = (*end).min(rows.end);
            let is_last = std::mem::replace(&mut is_over, end == rows.end);
            (!is_last && end > rows.start).then(|| (end - rows.start, *value))
        })
    }

    /// The one value that all rows have.
    pub(super) fn only(&self) -> Option<T> {
        match self.values.as_slice() {
            [value] => Some(*value),
            _ => None,
        }
    }
}

/// A column that there has to be.
pub(super) fn column<'b>(
    batch: &'b RecordBatch,
    version: &'static str,
    column: &'static str,
) -> Result<&'b ArrayRef, Unreadable> {
    let found = batch.column_by_name(column);
    found.ok_or(Unreadable::NoColumn { version, column })
}

/// That a column has a type that is not read there.
pub(super) fn unexpected(column: &str, array: &dyn Array) -> Unreadable {
    Unreadable::ColumnType {
        column: column.to_owned(),
        found: short(array.data_type()),
    }
}

/// An array of a certain type.
pub(super) fn of<'a, A: 'static>(name: &str, array: &'a dyn Array) -> Result<&'a A, Unreadable> {
    let found = array.as_any().downcast_ref();
    found.ok_or_else(|| unexpected(name, array))
}

/// The places in `texts` of a column's values; 0 for none.
pub(super) fn text_runs(
    name: &str,
    array: &dyn Array,
    texts: &mut Texts,
) -> Result<Runs<u32>, Unreadable> {
    runs(name, array, &mut |values| {
        places(name, values, &mut |text| texts.intern(text))
    })
}

/// The places in `ids` of a column's values, taken as bytes; 0 for none.
pub(super) fn id_runs(
    name: &str,
    array: &dyn Array,
    ids: &mut Table,
) -> Result<Runs<u32>, Unreadable> {
    runs(name, array, &mut |values| {
        places(name, values, &mut |id| ids.intern(id))
    })
}

/// The numbers of a column; 0 for none.
pub(super) fn number_runs(name: &str, array: &dyn Array) -> Result<Runs<i64>, Unreadable> {
    runs(name, array, &mut |values| numbers(name, values))
}

/// The place of the text of each of `len` elements. Only for arrays that have a
/// plain sibling of this length: what is encoded by runs is written out.
pub(super) fn texts_of_each(
    name: &str,
    array: &dyn Array,
    len: usize,
    texts: &mut Texts,
) -> Result<Vec<u32>, Unreadable> {
    let mut found: Vec<u32> = match array.data_type() {
        DataType::RunEndEncoded(..) => text_runs(name, array, texts)?.rows().collect(),
        _ => places(name, array, &mut |text| texts.intern(text))?,
    };
    found.resize(len, 0);
    Ok(found)
}

/// The number of each element, with the same caution.
pub(super) fn numbers_of_each(
    name: &str,
    array: &dyn Array,
    len: usize,
) -> Result<Vec<i64>, Unreadable> {
    let mut numbers: Vec<i64> = match array.data_type() {
        DataType::RunEndEncoded(..) => number_runs(name, array)?.rows().collect(),
        _ => numbers(name, array)?,
    };
    numbers.resize(len, 0);
    Ok(numbers)
}

/// A column as runs, of the values that `read` makes of an array without runs.
fn runs<T: Copy + PartialEq>(
    name: &str,
    array: &dyn Array,
    read: Read<'_, T>,
) -> Result<Runs<T>, Unreadable> {
    let DataType::RunEndEncoded(ends, _) = array.data_type() else {
        let values = read(array)?;
        let mut runs = Runs::EMPTY;
        for (end, value) in (1..).zip(values) {
            runs.push(value, end);
        }
        return Ok(runs);
    };
    match ends.data_type() {
        DataType::Int16 => runs_of::<Int16Type, T>(name, array, read),
        DataType::Int64 => runs_of::<Int64Type, T>(name, array, read),
        _ => runs_of::<Int32Type, T>(name, array, read),
    }
}

fn runs_of<R: RunEndIndexType, T: Copy + PartialEq>(
    name: &str,
    array: &dyn Array,
    read: Read<'_, T>,
) -> Result<Runs<T>, Unreadable> {
    let array: &RunArray<R> = of(name, array)?;
    let rows = array.len();
    let values = read(array.values())?;
    let mut runs = Runs {
        ends: Vec::with_capacity(values.len()),
        values: Vec::with_capacity(values.len()),
    };
    for (end, value) in array.run_ends().values().iter().zip(values) {
        let end = end.as_usize().min(rows);
        runs.push(value, u32::try_from(end).unwrap_or(u32::MAX));
    }
    Ok(runs)
}

/// The places that `intern` gives the texts of an array without runs.
fn places(
    name: &str,
    array: &dyn Array,
    intern: &mut dyn FnMut(&[u8]) -> u32,
) -> Result<Vec<u32>, Unreadable> {
    if let Some((keys, values)) = dictionary(array) {
        // First, because it says that there are as many bytes as values.
        let texts = text_values(name, &values)?;
        let mut places = vec![NONE; values.len()];
        let place = |key: &u32| match places.get_mut(*key as usize) {
            Some(place) => {
                if *place == NONE {
                    *place = texts.get(*key as usize).map_or(0, &mut *intern);
                }
                *place
            }
            None => 0,
        };
        return Ok(keys.iter().map(place).collect());
    }
    let values = text_values(name, array)?;
    let place = |at| values.get(at).map_or(0, &mut *intern);
    Ok((0..array.len()).map(place).collect())
}

/// An array of texts.
pub(super) enum TextArray<'a> {
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
    Fixed(&'a FixedSizeBinaryArray),
}

// === impl TextArray ===

impl<'a> TextArray<'a> {
    fn bytes(&self, at: usize) -> &'a [u8] {
        match self {
            Self::Utf8(array) => array.value(at).as_bytes(),
            Self::LargeUtf8(array) => array.value(at).as_bytes(),
            Self::Utf8View(array) => array.value(at).as_bytes(),
            Self::Binary(array) => array.value(at),
            Self::LargeBinary(array) => array.value(at),
            Self::BinaryView(array) => array.value(at),
            Self::Fixed(array) => array.value(at),
        }
    }

    fn array(&self) -> &dyn Array {
        match self {
            Self::Utf8(array) => *array,
            Self::LargeUtf8(array) => *array,
            Self::Utf8View(array) => *array,
            Self::Binary(array) => *array,
            Self::LargeBinary(array) => *array,
            Self::BinaryView(array) => *array,
            Self::Fixed(array) => *array,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.array().len()
    }

    /// The bytes of an element; none for null and beyond the end.
    pub(super) fn get(&self, at: usize) -> Option<&'a [u8]> {
        let array = self.array();
        (at < array.len() && array.is_valid(at)).then(|| self.bytes(at))
    }
}

/// An array of texts or bytes.
pub(super) fn text_values<'a>(
    name: &str,
    array: &'a dyn Array,
) -> Result<TextArray<'a>, Unreadable> {
    Ok(match array.data_type() {
        DataType::Utf8 => TextArray::Utf8(of(name, array)?),
        DataType::LargeUtf8 => TextArray::LargeUtf8(of(name, array)?),
        DataType::Utf8View => TextArray::Utf8View(of(name, array)?),
        DataType::Binary => TextArray::Binary(of(name, array)?),
        DataType::LargeBinary => TextArray::LargeBinary(of(name, array)?),
        DataType::BinaryView => TextArray::BinaryView(of(name, array)?),
        DataType::FixedSizeBinary(_) => TextArray::Fixed(of(name, array)?),
        _ => return Err(unexpected(name, array)),
    })
}

fn numbers(name: &str, array: &dyn Array) -> Result<Vec<i64>, Unreadable> {
    match array.data_type() {
        DataType::Int64 => Ok(values::<Int64Type>(of(name, array)?, |value| value)),
        DataType::UInt64 => Ok(values::<UInt64Type>(of(name, array)?, |value| {
            i64::try_from(value).unwrap_or(i64::MAX)
        })),
        DataType::Timestamp(arrow_schema::TimeUnit::Nanosecond, _) => {
            Ok(values::<TimestampNanosecondType>(
                of(name, array)?,
                |value| value,
            ))
        }
        DataType::Duration(arrow_schema::TimeUnit::Nanosecond) => {
            Ok(values::<DurationNanosecondType>(
                of(name, array)?,
                |value| value,
            ))
        }
        DataType::Int32 => Ok(values::<Int32Type>(of(name, array)?, i64::from)),
        DataType::UInt32 => Ok(values::<UInt32Type>(of(name, array)?, i64::from)),
        _ => Err(unexpected(name, array)),
    }
}

fn values<P: ArrowPrimitiveType>(
    array: &PrimitiveArray<P>,
    number: impl Fn(P::Native) -> i64,
) -> Vec<i64> {
    match array.null_count() {
        0 => array.values().iter().map(|value| number(*value)).collect(),
        _ => array.iter().map(|value| value.map_or(0, &number)).collect(),
    }
}

/// 64 bits of each element as they are, 0 for none. Not of runs: others rely on
/// there being as many bytes as elements.
pub(super) fn words(name: &str, array: &dyn Array) -> Result<Vec<u64>, Unreadable> {
    if let Some(array) = array.as_any().downcast_ref::<UInt64Array>() {
        return Ok(array.iter().map(|value| value.unwrap_or(0)).collect());
    }
    let array: &Int64Array = of(name, array)?;
    Ok(array
        .iter()
        .map(|value| value.unwrap_or(0) as u64)
        .collect())
}

/// The keys of a dictionary's rows and its values, if that is what it is.
pub(super) fn dictionary(array: &dyn Array) -> Option<(Vec<u32>, ArrayRef)> {
    let DataType::Dictionary(keys, _) = array.data_type() else {
        return None;
    };
    match **keys {
        DataType::UInt32 => keys_of::<UInt32Type>(array),
        DataType::Int32 => keys_of::<Int32Type>(array),
        DataType::UInt64 => keys_of::<UInt64Type>(array),
        DataType::Int64 => keys_of::<Int64Type>(array),
        DataType::UInt16 => keys_of::<UInt16Type>(array),
        DataType::Int16 => keys_of::<Int16Type>(array),
        DataType::UInt8 => keys_of::<UInt8Type>(array),
        DataType::Int8 => keys_of::<Int8Type>(array),
        _ => None,
    }
}

fn keys_of<K: ArrowDictionaryKeyType>(array: &dyn Array) -> Option<(Vec<u32>, ArrayRef)> {
    let array: &DictionaryArray<K> = array.as_any().downcast_ref()?;
    let key = |key: Option<K::Native>| {
        let key = key.and_then(|key| key.to_usize());
        key.and_then(|key| u32::try_from(key).ok()).unwrap_or(NONE)
    };
    let keys = array.keys().iter().map(key).collect();
    Some((keys, array.values().clone()))
}
