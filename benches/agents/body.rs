//! What agents send: ready-made messages with a hole.
//!
//! No two calls of an agent say the same, and the relay remembers each by its bytes.
//! So three bytes are another number in each: of an Arrow body the lowest of the first
//! row's time, of a pprof the lowest of the time in gzip's header, which no checksum
//! covers. A call costs its sender a copy.

use crate::{
    Result,
    args::{Call, Size, Work},
};
use bytes::{BufMut, Bytes, BytesMut};
use profile_relay::{
    r#gen::profilestore::{
        Label, LabelSet, RawProfileSeries, RawSample, WriteArrowRequest, WriteRawRequest,
        WriteRequest,
    },
    profile::{
        arrow::{Arrow, SyntheticArrow, select_stacks, stacks_request, write_v1},
        pprof::{SyntheticProfile, inflate},
    },
};
use prost::Message;
use std::ops::Range;

/// The messages of a call, each with gRPC's prefix.
pub(crate) struct Body {
    /// The only one, or the samples of `Write`.
    pub(crate) first: Bytes,
    /// Where the number is in it.
    hole: Range<usize>,
    /// The stacks of `Write`, in the order in which they are asked for.
    pub(crate) second: Option<Bytes>,
}

/// What stands before a message in gRPC.
const PREFIX: usize = 5;
/// Bytes of the number.
const HOLE: usize = 3;
/// The time in gzip's header.
const GZIP_TIME: usize = 4;
/// So much is inflated at most.
const MAX: u64 = 1 << 28;

// === impl Size ===

impl Size {
    /// Arrow of one report, every 5 s at 19 Hz a core.
    pub(crate) fn arrow(self) -> SyntheticArrow {
        let busy = SyntheticArrow::busy(7);
        match self {
            Self::Busy => busy,
            Self::Host => SyntheticArrow {
                rows: 200,
                stacks: 60,
                processes: 8,
                ..busy
            },
        }
    }

    /// A Go heap profile.
    fn pprof(self) -> Bytes {
        let busy = SyntheticProfile::heap(7);
        match self {
            Self::Busy => busy.encode(),
            Self::Host => SyntheticProfile {
                samples: 60,
                functions: 200,
                ..busy
            }
            .encode(),
        }
    }
}

// === impl Body ===

impl Body {
    /// What an agent sends for its work.
    pub(crate) fn new(work: Work) -> Result<Self> {
        let arrow = work.size.arrow();
        let time = arrow.time.to_le_bytes();
        Ok(match work.call {
            Call::Raw => {
                let pprof = work.size.pprof();
                let start = pprof.get(..2 * PREFIX).ok_or("an empty pprof")?.to_vec();
                let first = framed(&write_raw(pprof))?;
                let hole = place(&first, &start)? + GZIP_TIME;
                Self::with(first, hole, None)
            }
            Call::Arrow => {
                let ipc_buffer = arrow.v2()?.samples().clone();
                let first = framed(&WriteArrowRequest { ipc_buffer })?;
                let hole = place(&first, &time)?;
                Self::with(first, hole, None)
            }
            Call::Write => {
                let v1 = arrow.v1()?;
                let stacks = v1.stacks().ok_or("v1 without stacks")?;
                let asked = stacks_request(v1.samples(), MAX)?;
                let stacks = select_stacks(stacks, &asked, MAX)?;
                let message = |record: &Bytes| {
                    let record = record.clone();
                    framed(&WriteRequest { record })
                };
                let first = message(v1.samples())?;
                let hole = place(&first, &time)?;
                Self::with(first, hole, Some(message(&stacks)?))
            }
        })
    }

    fn with(first: Bytes, hole: usize, second: Option<Bytes>) -> Self {
        Self {
            first,
            hole: hole..hole + HOLE,
            second,
        }
    }

    /// Puts a number into a copy of the first message.
    pub(crate) fn stamp(&self, first: &mut [u8], number: u32) {
        first[self.hole.clone()].copy_from_slice(&number.to_le_bytes()[..HOLE]);
    }

    /// Bytes of all messages.
    pub(crate) fn len(&self) -> usize {
        let second = self.second.as_ref().map_or(0, |second| second.len());
        self.first.len() + second
    }

    /// Whether a stamped body says the same, but for the number.
    pub(crate) fn check(&self, work: Work) -> Result<()> {
        let mut stamped = BytesMut::from(&self.first[..]);
        self.stamp(&mut stamped, 0x00a5_5a3c);
        let stamped = stamped.freeze();
        let says = |first: &Bytes| said(work.call, first.slice(PREFIX..), self.second.as_ref());
        let (before, after) = (says(&self.first)?, says(&stamped)?);
        let other = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        let may_differ = match work.call {
            Call::Raw => 0,
            Call::Arrow | Call::Write => HOLE,
        };
        match before.len() == after.len() && other <= may_differ && stamped != self.first {
            true => Ok(()),
            false => Err(format!("a number in {work:?} changes what it says").into()),
        }
    }
}

fn write_raw(pprof: Bytes) -> WriteRawRequest {
    let labels = [
        ("__name__", "memory"),
        ("job", "checkout"),
        ("instance", "10.1.2.3:6060"),
        ("node", "worker-07"),
    ];
    let label = |(name, value): (&str, &str)| Label {
        name: name.into(),
        value: value.into(),
    };
    WriteRawRequest {
        series: vec![RawProfileSeries {
            labels: Some(LabelSet {
                labels: labels.map(label).to_vec(),
            }),
            samples: vec![RawSample {
                raw_profile: pprof,
                executable_info: Vec::new(),
            }],
        }],
        ..WriteRawRequest::default()
    }
}

/// A message with its prefix.
fn framed(message: &impl Message) -> Result<Bytes> {
    let mut framed = BytesMut::with_capacity(PREFIX + message.encoded_len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.encoded_len())?);
    message.encode(&mut framed)?;
    Ok(framed.freeze())
}

/// Where bytes are that are there once.
fn place(all: &[u8], wanted: &[u8]) -> Result<usize> {
    let places = all.windows(wanted.len()).enumerate();
    let mut places = places.filter(|(_, found)| *found == wanted);
    match (places.next(), places.next()) {
        (Some((at, _)), None) => Ok(at),
        _ => Err("what is to be replaced is not there once".into()),
    }
}

/// What messages say, in bytes that can be compared.
fn said(call: Call, first: Bytes, second: Option<&Bytes>) -> Result<Vec<u8>> {
    let arrow = match call {
        Call::Raw => {
            let request = WriteRawRequest::decode(first)?;
            let samples = request.series.into_iter().flat_map(|s| s.samples);
            let pprof = samples.last().ok_or("no sample")?.raw_profile;
            return Ok(inflate(&pprof, MAX)?.to_vec());
        }
        Call::Arrow => Arrow::v2(WriteArrowRequest::decode(first)?.ipc_buffer),
        Call::Write => {
            let second = second.ok_or("no stacks")?.slice(PREFIX..);
            let record = |message| WriteRequest::decode(message).map(|request| request.record);
            Arrow::v1(record(first)?, record(second)?)
        }
    };
    let (samples, stacks) = write_v1(&arrow.decode(MAX)?, MAX)?;
    Ok([samples, stacks].concat())
}
