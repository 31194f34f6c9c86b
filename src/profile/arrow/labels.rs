//! Labels, which are columns of a body.

use super::{
    Arrow, Part, Schema, Unreadable,
    decode::decode,
    outline::{is_labels, open},
    read, table,
    texts::Texts,
};
use crate::profile::Labels;

/// The labels that have one value in all rows: what of them can be a profile's.
/// `max` bounds inflated bytes.
pub fn constant_labels(arrow: &Arrow, max: u64) -> Result<Labels, Unreadable> {
    let part = match arrow.schema() {
        Schema::V1 => Part::V1Samples,
        Schema::V2 => Part::V2,
    };
    let stream = open(arrow.samples(), part, max)?;
    let columns = decode(arrow.samples(), &stream, is_labels)?;
    let mut texts = Texts::new();
    let labels = read::labels(&columns, &mut texts)?;
    Ok(table::constant_labels(&labels, &texts))
}
