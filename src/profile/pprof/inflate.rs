//! gzip or plain, judged by content; inflating with a cap.
//!
//! The gzip frame is read here rather than by a decoder, because users need to
//! know which of the many broken bodies they have, and because the checks must
//! be those of Go's reader, through which Parca reads: several members are
//! fine, anything else behind the stream is not.

use super::wire::Damage;
use bytes::Bytes;
use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};
use std::cell::Cell;

/// Why a body cannot be read as a pprof: what it was, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// There are no bytes.
    #[error("the body is empty: check that the path serves a profile")]
    Empty,
    /// A gzip stream of no bytes.
    #[error("the body is the gzip of nothing: the profiler wrote no profile")]
    EmptyGzip,
    /// A gzip stream that was cut.
    #[error("the gzip body is cut short: the sender or a proxy gave up, try a longer timeout")]
    TruncatedGzip,
    /// A gzip stream that does not inflate.
    #[error("the gzip body is corrupt: it was damaged on the way or never was gzip")]
    CorruptGzip,
    /// A gzip stream that inflates to something else than was deflated.
    #[error("the gzip body does not match its checksum: it was damaged on the way")]
    Checksum,
    /// Something behind the gzip stream.
    #[error("{bytes} bytes follow the gzip body that are not gzip: remove what appends them")]
    TrailingGarbage {
        /// How many.
        bytes: usize,
    },
    /// Larger than allowed once inflated.
    #[error("the body inflates to more than {max} bytes: raise the limit if this is no bomb")]
    TooLarge {
        /// The bound, in bytes.
        max: u64,
    },
    /// gzip within gzip.
    #[error("the body is gzip within gzip: compress it once, or set no content encoding")]
    NestedGzip,
    /// Compressed in another way.
    #[error("the body is compressed with {0}: pprof knows gzip only")]
    Compressed(&'static str),
    /// A web page.
    #[error(
        "the body is HTML: the path is an index or an error page, ask for one profile such as /debug/pprof/allocs"
    )]
    Html,
    /// JSON.
    #[error("the body is JSON: the path is no pprof endpoint or answered with an error")]
    Json,
    /// A text that `debug=1` or `debug=2` asks for.
    #[error("the body is the text form of a {0} profile: drop debug=1 from the URL")]
    LegacyText(&'static str),
    /// Another kind of recording.
    #[error("the body is {0}, which is no pprof: ask for another profile")]
    Recording(&'static str),
    /// Other text.
    #[error("the body is text, no pprof: it begins with {0:?}")]
    Text(String),
    /// Not what a pprof is encoded as.
    #[error("the body is no pprof: {damage} (at byte {offset} of the inflated bytes)")]
    NotProtobuf {
        /// Where the field begins that cannot be read.
        offset: usize,
        /// What is wrong there.
        damage: Damage,
    },
    /// The walk and the decoder disagree, which no body is known to cause.
    #[error("the pprof cannot be decoded")]
    Undecodable,
}

const GZIP: &[u8] = &[0x1f, 0x8b];
/// Deflate cannot do better.
const MAX_RATIO: usize = 1_032;
/// Room beyond the expected size keeps the inflater in its fast path.
const SLACK: usize = 512;
/// A larger buffer is not kept for the next body.
const KEEP: usize = 256 * 1024;

/// What a thread keeps from one body to the next.
struct Scratch {
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
    scratch.buffer.clear();
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

/// Says what the bytes are that cannot be walked as a pprof.
pub(super) fn explain(inflated: &[u8], offset: usize, damage: Damage) -> Unreadable {
    const LEGACY: &[(&[u8], &str)] = &[
        (b"heap profile:", "heap"),
        (b"heapz ", "heap"),
        (b"goroutine profile:", "goroutine"),
        (b"threadcreate profile:", "threadcreate"),
        (b"--- contention", "contention"),
        (b"--- mutex", "mutex"),
        (b"--- threadz", "thread"),
        (b"goroutine ", "goroutine"),
        (b"# ", "legacy"),
    ];
    const RECORDINGS: &[(&[u8], &str)] = &[
        (b"go 1.", "a Go execution trace"),
        (b"FLR\0", "a Java flight recording"),
        (b"\x7fELF", "an ELF file"),
        (b"# HELP ", "a page of Prometheus metrics"),
        (b"# TYPE ", "a page of Prometheus metrics"),
    ];
    const COMPRESSED: &[(&[u8], &str)] = &[
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh", "bzip2"),
        (b"PK\x03\x04", "zip"),
        (b"\x78\x9c", "zlib"),
    ];
    let starts = |table: &[(&[u8], &'static str)], bytes: &[u8]| {
        let found = table.iter().find(|(magic, _)| bytes.starts_with(magic));
        found.map(|(_, name)| *name)
    };
    let bytes = inflated.strip_prefix(b"\xef\xbb\xbf").unwrap_or(inflated);
    let text = bytes.trim_ascii_start();
    if inflated.starts_with(GZIP) {
        return Unreadable::NestedGzip;
    }
    if let Some(name) = starts(RECORDINGS, bytes) {
        return Unreadable::Recording(name);
    }
    if let Some(name) = starts(LEGACY, text) {
        return Unreadable::LegacyText(name);
    }
    if let Some(name) = starts(COMPRESSED, bytes) {
        return Unreadable::Compressed(name);
    }
    let head = &text[..text.len().min(256)];
    let printable = |b: &u8| !b.is_ascii_control() || b.is_ascii_whitespace();
    if head.is_empty() || !head.iter().all(printable) {
        return Unreadable::NotProtobuf { offset, damage };
    }
    match head[0] {
        b'<' => Unreadable::Html,
        b'{' | b'[' => Unreadable::Json,
        _ => match std::str::from_utf8(&head[..head.len().min(64)]) {
            Err(error) if error.error_len().is_some() => Unreadable::NotProtobuf { offset, damage },
            _ => Unreadable::Text(first_line(head)),
        },
    }
}

/// The beginning of a text's first line.
fn first_line(text: &[u8]) -> String {
    let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(&line[..line.len().min(64)]);
    line.trim_end_matches(char::REPLACEMENT_CHARACTER)
        .trim()
        .to_owned()
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
            inflater: Decompress::new(false),
            buffer: Vec::new(),
        })
    }

    /// Inflates all members of `body` into the buffer.
    fn inflate(&mut self, body: &[u8], max_inflated: u64) -> Result<(), Unreadable> {
        let max = usize::try_from(max_inflated)
            .unwrap_or(usize::MAX)
            .min(isize::MAX as usize);
        let mut rest = body;
        self.buffer.clear();
        self.buffer.reserve_exact(expected(body).min(max + 1));
        while !rest.is_empty() {
            if !rest.starts_with(GZIP) {
                return Err(Unreadable::TrailingGarbage { bytes: rest.len() });
            }
            rest = self.member(rest, max)?;
        }
        if self.buffer.is_empty() {
            return Err(Unreadable::EmptyGzip);
        }
        if self.buffer.starts_with(GZIP) {
            return Err(Unreadable::NestedGzip);
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
            let status = self
                .inflater
                .decompress_vec(
                    &deflated[consumed as usize..],
                    &mut self.buffer,
                    FlushDecompress::None,
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
            .split_at_checked(8)
            .ok_or(Unreadable::TruncatedGzip)?;
        let inflated = &self.buffer[begin..];
        let mut crc = Crc::new();
        crc.update(inflated);
        if trailer[..4] != crc.sum().to_le_bytes()
            || trailer[4..] != (inflated.len() as u32).to_le_bytes()
        {
            return Err(Unreadable::Checksum);
        }
        Ok(rest)
    }
}

/// The buffer that the gzip trailer asks for, as far as it can be true.
fn expected(body: &[u8]) -> usize {
    let trailer = body.last_chunk::<4>().copied().unwrap_or_default();
    let claimed = u32::from_le_bytes(trailer) as usize;
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
