//! Makes several pprofs of one, or one with less in it.

use super::Unreadable;
use bytes::Bytes;

/// The series that [`split_by_labels`] makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSplit {
    /// The promoted labels (name, value) and the pprof (gzip level 1) of each
    /// series.
    pub series: Vec<(Vec<(String, String)>, Bytes)>,
    /// Whether there were more value tuples than series allowed: the samples of
    /// the others are together in the series without labels.
    pub capped: bool,
}

/// Why no sample type could be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    /// The body is no pprof.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// None of the listed types is in the profile.
    #[error("none of the sample types to keep ({listed}) is in the profile, which has {found}")]
    NoneLeft {
        /// What was to be kept, as `type/unit`.
        listed: String,
        /// What there is, as `type/unit`.
        found: String,
    },
}

/// Splits an inflated pprof by samples into pprofs (gzip level 1) of at most
/// `max_bytes` each, or of one sample each where even that is larger. Their sum
/// is the original; unknown fields are lost.
pub fn split_by_samples(_inflated: &[u8], _max_bytes: u64) -> Result<Vec<Bytes>, Unreadable> {
    Err(Unreadable::Empty)
}

/// Makes series of the sample labels `names`: one pprof for each distinct tuple
/// of their values, at most `max_series` of them. `None` when no sample has any
/// of the labels.
pub fn split_by_labels(
    _inflated: &[u8],
    _names: &[String],
    _max_series: usize,
) -> Result<Option<LabelSplit>, Unreadable> {
    Ok(None)
}

/// Keeps the listed sample types (type, unit) of an inflated pprof and returns
/// it as gzip level 1; `None` when it has no others.
pub fn keep_sample_types(
    _inflated: &[u8],
    _keep: &[(String, String)],
) -> Result<Option<Bytes>, KeepError> {
    Ok(None)
}
