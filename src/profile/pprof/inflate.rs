//! gzip or plain, judged by content; inflating with a cap.
//!
//! The gzip frame is read here rather than by a decoder, because users need to
//! know which of the many broken bodies they have, and because the checks must
//! be those of Go's reader, through which Parca reads: several members are
//! fine, anything else behind the stream is not.
//!
//! libdeflate is nearly twice as fast as any decoder that works piece by piece, but wants
//! room for all and does not say where the stream ends. So it gets what is certainly
//! one member ([`Scratch::alone`]). Whatever it does not take is read again, member
//! by member, which also finds out what is wrong.

use super::Unreadable;
use bytes::Bytes;
use flate2::{
    Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status,
    bufread::MultiGzDecoder,
};
use libdeflater::Decompressor;
use memchr::memmem;
use std::{
    cell::Cell,
    io::{self, Read},
};

/// How gzip begins.
pub(super) const GZIP: &[u8] = &[0x1f, 0x8b];
/// How each member begins that Go's reader takes: gzip, deflated.
const MEMBER: &[u8] = &[0x1f, 0x8b, 8];
/// The length of what follows a member's stream: checksum and size.
const TRAILER: usize = 8;
/// Deflate cannot do better.
const MAX_RATIO: usize = 1_032;
/// Room beyond the expected size keeps the inflater in its fast path.
const SLACK: usize = 512;
/// A larger buffer is not kept for the next body.
const KEEP: usize = 256 * 1024;

/// What a thread keeps from one body to the next.
struct Scratch {
    quick: Decompressor,
    inflater: Decompress,
    buffer: Vec<u8>,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Calls `work` with the inflated bytes of `body`, which live in a buffer that
/// this thread uses again. A plain body is passed as it is.
///
/// `max_inflated` bounds the inflated size, in bytes; nothing above it is ever
/// allocated.
pub fn with_inflated<T>(
    body: &[u8],
    max_inflated: u64,
    work: impl FnOnce(&[u8]) -> T,
) -> Result<T, Unreadable> {
    if !body.starts_with(GZIP) {
        return plain(body, max_inflated).map(work);
    }
    // Taken, not borrowed: `work` may come here again.
    let mut scratch = SCRATCH.take().unwrap_or_else(Scratch::new);
    let result = scratch.inflate(body, max_inflated);
    let result = result.map(|()| work(&scratch.buffer));
    scratch.buffer.truncate(KEEP);
    scratch.buffer.shrink_to(KEEP);
    SCRATCH.set(Some(scratch));
    result
}

/// The inflated bytes of `body`, at most `max_inflated`; a plain body is
/// returned as it is.
pub fn inflate(body: &Bytes, max_inflated: u64) -> Result<Bytes, Unreadable> {
    if !body.starts_with(GZIP) {
        return plain(body, max_inflated).map(|_| body.clone());
    }
    with_inflated(body, max_inflated, Bytes::copy_from_slice)
}

/// The inflated size of `body` in bytes, found without keeping what is inflated.
pub fn measure(body: &[u8], max_inflated: u64) -> Result<u64, Unreadable> {
    if !body.starts_with(GZIP) {
        return plain(body, max_inflated).map(|plain| plain.len() as u64);
    }
    let mut inflated = MultiGzDecoder::new(body).take(max_inflated.saturating_add(1));
    match io::copy(&mut inflated, &mut io::sink()) {
        Ok(size) if size > max_inflated => Err(Unreadable::TooLarge { max: max_inflated }),
        Ok(size) => Ok(size),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Unreadable::TruncatedGzip)
        }
        Err(_) => Err(Unreadable::CorruptGzip),
    }
}

/// `plain` as gzip, level 1.
pub fn compress(plain: &[u8]) -> Bytes {
    compress_at(Compression::fast(), plain)
}

/// `plain` as gzip of any level.
pub(super) fn compress_at(level: Compression, plain: &[u8]) -> Bytes {
    // Not kept from one body to the next: it is 300 KB, and rarely needed.
    let mut deflater = Compress::new(level, false);
    let mut out = Vec::with_capacity(plain.len() / 2 + 64);
    // Deflate, no flags, no time, no hint, unknown system.
    out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    loop {
        let consumed = deflater.total_in() as usize;
        let status = deflater.compress_vec(&plain[consumed..], &mut out, FlushCompress::Finish);
        if matches!(status, Ok(Status::StreamEnd)) {
            break;
        }
        out.reserve(out.len());
    }
    let mut crc = Crc::new();
    crc.update(plain);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    Bytes::from(out)
}

fn plain(body: &[u8], max_inflated: u64) -> Result<&[u8], Unreadable> {
    match body.len() as u64 {
        0 => Err(Unreadable::Empty),
        len if len > max_inflated => Err(Unreadable::TooLarge { max: max_inflated }),
        _ => Ok(body),
    }
}

// === impl Scratch ===

impl Scratch {
    fn new() -> Box<Self> {
        Box::new(Self {
            quick: Decompressor::new(),
            inflater: Decompress::new(false),
            buffer: Vec::new(),
        })
    }

    /// Inflates all members of `body` into the buffer.
    fn inflate(&mut self, body: &[u8], max_inflated: u64) -> Result<(), Unreadable> {
        let max = usize::try_from(max_inflated)
            .unwrap_or(usize::MAX)
            .min(isize::MAX as usize);
        if self.alone(body, max).is_none() {
            self.members(body, max)?;
        }
        if self.buffer.is_empty() {
            return Err(Unreadable::EmptyGzip);
        }
        if self.buffer.starts_with(GZIP) {
            return Err(Unreadable::NestedGzip);
        }
        Ok(())
    }

    /// Inflates a body of one member that is as it should be; nothing for any other.
    ///
    /// Where no second member begins, the trailer that this one must have is at the
    /// end of the body. Who hides garbage in front of a copy of it is not found out
    /// here, but by the backend.
    fn alone(&mut self, body: &[u8], max: usize) -> Option<()> {
        let (claimed, room) = (claimed_size(body) as usize, expected(body).min(max));
        if claimed > room || memmem::find(body.get(1..)?, MEMBER).is_some() {
            return None;
        }
        let (deflated, trailer) = body[header(body).ok()?..].split_last_chunk::<TRAILER>()?;
        if self.buffer.capacity() < room {
            // As zeros from the system, which nobody needs to write.
            self.buffer = vec![0; room];
        }
        self.buffer.resize(room, 0);
        let length = self.quick.deflate_decompress(deflated, &mut self.buffer);
        self.buffer.truncate(length.ok()?);
        fits(trailer, &self.buffer).then_some(())
    }

    /// Inflates member by member.
    fn members(&mut self, body: &[u8], max: usize) -> Result<(), Unreadable> {
        let mut rest = body;
        self.buffer.clear();
        self.buffer.reserve_exact(expected(body).min(max + 1));
        while !rest.is_empty() {
            if !rest.starts_with(GZIP) {
                return Err(Unreadable::TrailingGarbage { bytes: rest.len() });
            }
            rest = self.member(rest, max)?;
        }
        Ok(())
    }

    /// Inflates one member and returns what follows it.
    fn member<'a>(&mut self, member: &'a [u8], max: usize) -> Result<&'a [u8], Unreadable> {
        let deflated = &member[header(member)?..];
        let begin = self.buffer.len();
        self.inflater.reset(false);
        loop {
            let (consumed, produced) = (self.inflater.total_in(), self.inflater.total_out());
            // Finish: most streams fit the buffer, and need no window kept.
            let status = self
                .inflater
                .decompress_vec(
                    &deflated[consumed as usize..],
                    &mut self.buffer,
                    FlushDecompress::Finish,
                )
                .map_err(|_| Unreadable::CorruptGzip)?;
            if self.buffer.len() > max {
                return Err(Unreadable::TooLarge { max: max as u64 });
            }
            if status == Status::StreamEnd {
                break;
            }
            let full = self.buffer.len() == self.buffer.capacity();
            if full {
                let room = self
                    .buffer
                    .len()
                    .max(4_096)
                    .min(max + 1 - self.buffer.len());
                self.buffer.reserve_exact(room);
            } else if (consumed, produced) == (self.inflater.total_in(), self.inflater.total_out())
            {
                return Err(Unreadable::TruncatedGzip);
            }
        }
        let trailer = &deflated[self.inflater.total_in() as usize..];
        let (trailer, rest) = trailer
            .split_first_chunk::<TRAILER>()
            .ok_or(Unreadable::TruncatedGzip)?;
        match fits(trailer, &self.buffer[begin..]) {
            true => Ok(rest),
            false => Err(Unreadable::Checksum),
        }
    }
}

/// Whether a member's trailer is that of what it inflated to.
fn fits(trailer: &[u8; TRAILER], inflated: &[u8]) -> bool {
    let (crc, size) = trailer.split_at(4);
    size == (inflated.len() as u32).to_le_bytes()
        && crc == libdeflater::crc32(inflated).to_le_bytes()
}

/// What the end of a gzip says that it inflates to, in bytes (RFC 1952, 2.3.1). It
/// may lie, and of several members it is the last one's.
pub fn claimed_size(gzip: &[u8]) -> u32 {
    let trailer = gzip.last_chunk::<4>().copied().unwrap_or_default();
    u32::from_le_bytes(trailer)
}

/// The buffer that the gzip trailer asks for, as far as it can be true.
fn expected(body: &[u8]) -> usize {
    let claimed = claimed_size(body) as usize;
    claimed.min(body.len().saturating_mul(MAX_RATIO)) + SLACK
}

/// The length of a gzip member's header (RFC 1952, 2.3), checked as Go checks.
fn header(member: &[u8]) -> Result<usize, Unreadable> {
    const HEADER_CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const GO_MAX_TEXT: usize = 512;
    let fixed = member.get(..10).ok_or(Unreadable::TruncatedGzip)?;
    let (method, flags) = (fixed[2], fixed[3]);
    if method != 8 {
        return Err(Unreadable::CorruptGzip);
    }
    let mut length = 10;
    if flags & EXTRA != 0 {
        let size = member
            .get(length..length + 2)
            .ok_or(Unreadable::TruncatedGzip)?;
        length += 2 + usize::from(u16::from_le_bytes([size[0], size[1]]));
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let text = member.get(length..).ok_or(Unreadable::TruncatedGzip)?;
            let end = text.iter().take(GO_MAX_TEXT).position(|b| *b == 0);
            length += 1 + match end {
                Some(end) => end,
                None if text.len() < GO_MAX_TEXT => return Err(Unreadable::TruncatedGzip),
                None => return Err(Unreadable::CorruptGzip),
            };
        }
    }
    if flags & HEADER_CRC != 0 {
        let stored = member
            .get(length..length + 2)
            .ok_or(Unreadable::TruncatedGzip)?;
        let mut crc = Crc::new();
        crc.update(&member[..length]);
        if *stored != (crc.sum() as u16).to_le_bytes() {
            return Err(Unreadable::CorruptGzip);
        }
        length += 2;
    }
    match length <= member.len() {
        true => Ok(length),
        false => Err(Unreadable::TruncatedGzip),
    }
}
