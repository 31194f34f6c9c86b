//! The conversation about stacks of schema v1: which ones the server wants, and
//! those that it is sent.

use super::{
    Arrow, Part, Schema, Unreadable,
    column::{column, id_runs, text_values},
    decode::decode,
    outline::{VERSION_KEY, open, within},
    read,
    stream::Stream,
    write,
};
use crate::profile::interned;
use arrow_array::{Array, BinaryArray};
use arrow_schema::{DataType, Field};
use bytes::Bytes;
use std::{collections::HashMap, sync::Arc};

const ID: &str = "stacktrace_id";

/// The answer to the samples of schema v1: a record that asks for all of their
/// stacks, each once, as Parca asks. `max` bounds inflated bytes.
pub fn stacks_request(samples: &Bytes, max: u64) -> Result<Bytes, Unreadable> {
    let stream = open(samples, Part::V1Samples, max)?;
    let columns = decode(samples, &stream, |name| name == ID)?;
    let mut ids = interned::Table::new(b"");
    id_runs(ID, column(&columns, "v1", ID)?, &mut ids)?;
    let wanted = (1..ids.len() as u32).map(|place| ids.get(place));
    let wanted = BinaryArray::from_iter_values(wanted);
    let field = Field::new(ID, DataType::Binary, false);
    let metadata = HashMap::from([(VERSION_KEY.to_owned(), "v1".to_owned())]);
    let declared = arrow_schema::Schema::new_with_metadata(vec![field], metadata);
    let rows = wanted.len();
    let batch = write::batch(vec![Arc::new(wanted)], rows)?;
    write::stream(&declared, &batch, false)
}

/// The stacks of `stacks` that a server's `request` asks for, in its order: as they
/// are, when it asks for all in the order in which they are there. What is asked
/// for and not there is sent as parca-agent does, a frame that says so. `max`
/// bounds the inflated bytes of each.
pub fn select_stacks(stacks: &Bytes, request: &Bytes, max: u64) -> Result<Bytes, Unreadable> {
    let wanted = Stream::walk(request)?;
    within(&wanted, max)?;
    let wanted = decode(request, &wanted, |name| name == ID)?;
    let wanted = text_values(ID, column(&wanted, "v1", ID)?)?;
    let stream = open(stacks, Part::V1Stacks, max)?;
    let ids = decode(stacks, &stream, |name| name == ID)?;
    let ids = text_values(ID, column(&ids, "v1", ID)?)?;
    if wanted.len() == ids.len() && (0..ids.len()).all(|at| wanted.get(at) == ids.get(at)) {
        return Ok(stacks.clone());
    }
    let columns = decode(stacks, &stream, |_| true)?;
    let (table, ids) = read::stacks(&columns)?;
    let of_id: HashMap<&[u8], u32> = (1..)
        .zip(&ids)
        .map(|(place, id): (u32, &Vec<u8>)| (id.as_slice(), place))
        .collect();
    let places = (0..wanted.len()).filter_map(|at| {
        let id = wanted.get(at)?;
        Some((id, of_id.get(id).copied()))
    });
    write::v1_stacks(&table, places, max)
}

// === impl Arrow ===

impl Arrow {
    /// Whether it came by `Write`, in two messages.
    pub fn is_v1(&self) -> bool {
        self.schema() == Schema::V1
    }
}
