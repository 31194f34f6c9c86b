//! The profile that all targets answer with.
//!
//! It is deflated once. What changes from answer to answer is its end: a stored
//! deflate block, not compressed, with the pprof field `time_nanos` (a protobuf
//! message may repeat a field, the last one counts), then the checksum and the
//! size. So every answer is a valid gzip of one member with the time at which it
//! was given, for the price of a checksum of ten bytes, and whoever receives it
//! unchanged reads that time without inflating.

use crate::{Result, figures};
use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Crc, FlushCompress};
use profile_relay::profile::pprof::SyntheticProfile;
use std::time::{Duration, SystemTime};

/// A gzip body but for its end.
pub(crate) struct Stamped {
    /// Header and the deflated profile, up to a byte boundary.
    pub(crate) start: Bytes,
    crc: Crc,
    plain: u32,
}

/// gzip's header: deflate, no name, no time, from Unix.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
/// The last deflate block, stored, 10 bytes: pprof's field 9, a varint of 9 bytes.
const BLOCK: [u8; 6] = [1, 10, 0, 0xf5, 0xff, 9 << 3];
/// A time of today takes 9 bytes of 7 bits.
const VARINT: usize = 9;
/// The end of a body: the block, the checksum and the size.
pub(crate) const END: usize = BLOCK.len() + VARINT + 8;

// === impl Stamped ===

impl Stamped {
    /// A Go heap profile of about 31 KB gzip, 80 KB inflated, 564 samples of 4 types.
    pub(crate) fn new() -> Result<Self> {
        let profile = SyntheticProfile {
            functions: 600,
            depth: 30,
            time: Duration::ZERO,
            ..SyntheticProfile::heap(7)
        };
        let plain = profile.encode_plain();
        let mut start = Vec::with_capacity(plain.len() + 1024);
        start.extend_from_slice(&HEADER);
        Compress::new(Compression::default(), false).compress_vec(
            &plain,
            &mut start,
            FlushCompress::Sync,
        )?;
        let mut crc = Crc::new();
        crc.update(&plain);
        Ok(Self {
            start: start.into(),
            crc,
            plain: u32::try_from(plain.len())?,
        })
    }

    /// The end of an answer given at `time`.
    pub(crate) fn end(&self, time: SystemTime) -> [u8; END] {
        let mut field = [0; 1 + VARINT];
        field[0] = BLOCK[5];
        let mut nanos = figures::nanos(time);
        for (place, byte) in field[1..].iter_mut().enumerate() {
            let more = if place + 1 < VARINT { 0x80 } else { 0 };
            *byte = (nanos & 0x7f) as u8 | more;
            nanos >>= 7;
        }
        let mut added = Crc::new();
        added.update(&field);
        let mut crc = Crc::new();
        crc.combine(&self.crc);
        crc.combine(&added);
        let mut end = [0; END];
        let mut out = &mut end[..];
        out.put_slice(&BLOCK[..5]);
        out.put_slice(&field);
        out.put_u32_le(crc.sum());
        out.put_u32_le(self.plain + field.len() as u32);
        end
    }

    /// A whole body.
    pub(crate) fn whole(&self, time: SystemTime) -> Bytes {
        let mut body = BytesMut::from(&self.start[..]);
        body.put_slice(&self.end(time));
        body.freeze()
    }
}

/// When the answer was given that this body was; `None` when the body is no
/// longer the one that was given.
pub(crate) fn stamp(body: &[u8]) -> Option<u64> {
    let end = body.len().checked_sub(END).map(|start| &body[start..])?;
    let varint = end.strip_prefix(&BLOCK)?.get(..VARINT)?;
    let bits = varint.iter().rev();
    Some(bits.fold(0, |nanos, byte| nanos << 7 | u64::from(byte & 0x7f)))
}
