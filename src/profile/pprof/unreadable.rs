//! What a body is that cannot be read as a pprof.

use super::{inflate::GZIP, wire::Damage};

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
