//! How the body of a request is compressed, in the words of HTTP and gRPC.

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Not compressed.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

// === impl Coding ===

impl Coding {
    /// The value of `grpc-accept-encoding` and `accept-encoding`.
    pub const ALL: &'static str = "identity,gzip,zstd";

    /// What a header says; `None` for what is not understood. HTTP's names are
    /// the same in any case.
    pub fn parse(name: &str) -> Option<Self> {
        let known = [
            ("identity", Self::Identity),
            ("gzip", Self::Gzip),
            ("x-gzip", Self::Gzip),
            ("zstd", Self::Zstd),
        ];
        let name = name.trim();
        if name.is_empty() {
            return Some(Self::Identity);
        }
        let mut known = known.into_iter();
        known.find_map(|(known, coding)| known.eq_ignore_ascii_case(name).then_some(coding))
    }
}
