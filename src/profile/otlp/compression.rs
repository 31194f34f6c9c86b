//! How a message is compressed on the wire.

use super::Unreadable;
use crate::profile::pprof;
use bytes::Bytes;
use std::io::{self, Read, Write};

/// How a message is compressed: gRPC's `grpc-encoding` and HTTP's
/// `Content-Encoding` share these names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// zstd's own default is 3; 1 is nearer to what gzip costs.
const ZSTD_LEVEL: i32 = 1;

/// A frame that asks for a larger window is refused, as a power of two: RFC 8878
/// asks decoders to bear 8 MiB.
const ZSTD_MAX_WINDOW: u32 = 23;

// === impl Compression ===

impl Compression {
    /// The name in headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// What a header names; `None` when it is not spoken here.
    pub fn parse(name: &str) -> Option<Self> {
        match name.trim() {
            "" | "identity" | "none" => Some(Self::None),
            "gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The plain bytes of `wire`. Never more than `max` bytes are allocated.
    pub fn inflate(self, wire: &Bytes, max: u64) -> Result<Bytes, Unreadable> {
        let too_large = Unreadable::TooLarge { max };
        match self {
            Self::None if wire.len() as u64 > max => Err(too_large),
            Self::None => Ok(wire.clone()),
            // No bytes at all are an empty request, compressed or not.
            _ if wire.is_empty() => Ok(Bytes::new()),
            Self::Gzip => gunzip(wire, max),
            Self::Zstd => unzstd(wire, max),
        }
    }

    /// `plain`, compressed.
    ///
    /// # Errors
    ///
    /// When zstd finds no memory.
    pub fn compress(self, plain: &Bytes) -> io::Result<Bytes> {
        match self {
            Self::None => Ok(plain.clone()),
            Self::Gzip => Ok(pprof::compress(plain)),
            Self::Zstd => zstd(plain).map(Bytes::from),
        }
    }
}

fn gunzip(wire: &Bytes, max: u64) -> Result<Bytes, Unreadable> {
    if !wire.starts_with(&[0x1f, 0x8b]) {
        return Err(Unreadable::Compressed(Compression::Gzip));
    }
    match pprof::inflate(wire, max) {
        Ok(plain) => Ok(plain),
        Err(pprof::Unreadable::TooLarge { max }) => Err(Unreadable::TooLarge { max }),
        Err(pprof::Unreadable::EmptyGzip) => Ok(Bytes::new()),
        Err(_) => Err(Unreadable::Compressed(Compression::Gzip)),
    }
}

fn unzstd(wire: &Bytes, max: u64) -> Result<Bytes, Unreadable> {
    let broken = |_| Unreadable::Compressed(Compression::Zstd);
    let mut decoder = zstd::stream::read::Decoder::new(&**wire).map_err(broken)?;
    decoder.window_log_max(ZSTD_MAX_WINDOW).map_err(broken)?;
    // The frame may lie about its size; beyond the limit nothing is read.
    let mut plain = Vec::new();
    let mut limited = decoder.take(max.saturating_add(1));
    limited.read_to_end(&mut plain).map_err(broken)?;
    if plain.len() as u64 > max {
        return Err(Unreadable::TooLarge { max });
    }
    Ok(plain.into())
}

fn zstd(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
    encoder.write_all(plain)?;
    encoder.finish()
}
