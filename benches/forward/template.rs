//! A request as the bytes that are sent, with a hole for an id.
//!
//! The id is the first profile's `profile_id`: 8 bytes of time, 8 of a number. In
//! a gzip body it lies in a stored deflate block between two deflated ones, and
//! the checksum is put together from those of the three parts. So a new request
//! costs a copy of 16 bytes, compressed or not, and whoever receives it unchanged
//! reads the id without inflating.

use crate::{
    Result,
    args::{Case, Coding},
    request::request,
};
use bytes::{BufMut, Bytes};
use flate2::{Compress, Compression, Crc, FlushCompress};
use prost::Message;
use std::ops::Range;

/// Time and number; see [`Id::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id([u8; ID]);

/// A request with a hole.
pub(crate) struct Template {
    /// The message, not compressed.
    pub(crate) plain: Bytes,
    /// The message as it is sent.
    pub(crate) wire: Bytes,
    /// Where the id is in `wire`.
    hole: Range<usize>,
    /// At the end of a gzip body.
    sum: Option<Sum>,
}

/// The checksums of what is before and after the id.
struct Sum {
    before: Crc,
    after: Crc,
}

/// The bytes of an OTLP profile id.
const ID: usize = 16;
/// What is in the hole of a template.
const PLACEHOLDER: [u8; ID] = *b"\xff\x9aA profile's id";
/// gzip's header: deflate, no name, no time, from Unix.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
/// The head of a stored deflate block of 16 bytes that is not the last.
const STORED: [u8; 5] = [0, 16, 0, !16, 0xff];
/// A gzip body ends in its checksum and its size.
const TRAILER: usize = 8;
/// So much at the start and the end is looked at when not everything is.
const GLANCE: usize = 256;

// === impl Id ===

impl Id {
    /// Of a request sent at this time, in nanoseconds since the epoch.
    pub(crate) fn new(time: u64, number: u64) -> Self {
        let mut id = [0; ID];
        id[..8].copy_from_slice(&time.to_be_bytes());
        id[8..].copy_from_slice(&number.to_be_bytes());
        Self(id)
    }

    /// From the bytes of a profile id.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// When the request was sent.
    pub(crate) fn time(self) -> u64 {
        let [time, _] = [0, 8].map(|at| self.0[at..at + 8].iter().fold(0, add));
        time
    }

    /// As the bytes of a profile id.
    pub(crate) fn bytes(self) -> [u8; ID] {
        self.0
    }
}

fn add(number: u64, byte: &u8) -> u64 {
    number << 8 | u64::from(*byte)
}

// === impl Template ===

impl Template {
    /// The request that a case sends.
    pub(crate) fn new(case: Case) -> Result<Self> {
        let plain = request(case.size, PLACEHOLDER)?.encode_to_vec();
        let holes = plain.windows(ID).enumerate();
        let mut holes = holes.filter(|(_, bytes)| *bytes == PLACEHOLDER);
        let (Some((hole, _)), None) = (holes.next(), holes.next()) else {
            return Err("the placeholder is not there once".into());
        };
        let (before, after) = (&plain[..hole], &plain[hole + ID..]);
        let (wire, hole, sum) = match case.input {
            Coding::None => (plain.clone().into(), hole, None),
            Coding::Gzip => {
                let (wire, hole) = gzip(before, after)?;
                let (before, after) = (crc(before), crc(after));
                (wire, hole, Some(Sum { before, after }))
            }
        };
        Ok(Self {
            plain: plain.into(),
            wire,
            hole: hole..hole + ID,
            sum,
        })
    }

    /// Puts an id into `wire`, a copy of the template's.
    pub(crate) fn stamp(&self, wire: &mut [u8], id: Id) {
        wire[self.hole.clone()].copy_from_slice(&id.bytes());
        if let Some(sum) = &self.sum {
            let at = wire.len() - TRAILER;
            wire[at..at + 4].copy_from_slice(&sum.with(id).to_le_bytes());
        }
    }

    /// The id of a body that is otherwise this one: looked at `whole`, or only
    /// its length, start and end.
    pub(crate) fn recognise(&self, body: &[u8], whole: bool) -> Option<Id> {
        if body.len() != self.wire.len() {
            return None;
        }
        let id = Id::read(&body[self.hole.clone()])?;
        let end = match self.sum {
            Some(_) => body.len() - TRAILER,
            None => body.len(),
        };
        let (before, after) = (0..self.hole.start, self.hole.end..end);
        let looked_at = match whole {
            true => [before, after],
            false => [
                0..before.end.min(GLANCE),
                after.end.saturating_sub(GLANCE).max(after.start)..after.end,
            ],
        };
        let mut same = looked_at.iter();
        let same = same.all(|at| body[at.clone()] == self.wire[at.clone()]);
        let sum_fits = self.sum.as_ref().is_none_or(|sum| {
            let end = &body[end..];
            let size = &self.wire[self.wire.len() - 4..];
            end[..4] == sum.with(id).to_le_bytes() && end[4..] == *size
        });
        (same && sum_fits).then_some(id)
    }
}

// === impl Sum ===

impl Sum {
    fn with(&self, id: Id) -> u32 {
        let mut sum = Crc::new();
        sum.combine(&self.before);
        sum.combine(&crc(&id.bytes()));
        sum.combine(&self.after);
        sum.sum()
    }
}

fn crc(bytes: &[u8]) -> Crc {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc
}

/// A gzip body and where the id is in it.
fn gzip(before: &[u8], after: &[u8]) -> Result<(Bytes, usize)> {
    let size = before.len() + ID + after.len();
    let mut out = Vec::with_capacity(size + 1024);
    out.put_slice(&HEADER);
    let raw = || Compress::new(Compression::default(), false);
    raw().compress_vec(before, &mut out, FlushCompress::Sync)?;
    out.put_slice(&STORED);
    let hole = out.len();
    out.put_slice(&PLACEHOLDER);
    raw().compress_vec(after, &mut out, FlushCompress::Finish)?;
    out.put_u32_le(0);
    out.put_u32_le(u32::try_from(size)?);
    Ok((out.into(), hole))
}
