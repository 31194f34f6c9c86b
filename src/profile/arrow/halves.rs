//! A body in two, for a backend or a proxy that says it is too large.

use super::{Arrow, Schema, Unreadable, write};

/// The first and the second half of the rows, each with the stacks it needs, in the
/// schema in which the body is; nothing when there is nothing to halve. Columns that
/// the relay does not know are lost. `max` bounds inflated bytes, read and
/// written.
pub fn halves(arrow: &Arrow, max: u64) -> Result<Option<[Arrow; 2]>, Unreadable> {
    let table = arrow.decode(max)?;
    let rows = table.rows() as u32;
    if rows < 2 {
        return Ok(None);
    }
    let half = |rows| {
        Ok::<_, Unreadable>(match arrow.schema() {
            Schema::V1 => {
                let (samples, stacks) = write::v1(&table, rows, max)?;
                Arrow::v1(samples, stacks)
            }
            Schema::V2 => Arrow::v2(write::v2(&table, rows, max)?),
        })
    };
    Ok(Some([half(0..rows / 2)?, half(rows / 2..rows)?]))
}
