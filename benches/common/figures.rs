//! Quantiles, medians, ratios, and how they are printed.

use std::time::{SystemTime, UNIX_EPOCH};

/// The value below which the share `q` of `sorted` values lies.
pub(crate) fn quantile<T: Copy>(sorted: &[T], q: f64) -> Option<T> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(last as f64 * q).round() as usize])
}

/// The middle of what is known; of two, the mean.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some((values[last / 2] + values[last.div_ceil(2)]) / 2.0)
}

/// `a / b`, which is not a number where that says nothing.
pub(crate) fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { f64::NAN }
}

/// Puts items into an order of chance.
pub(crate) fn shuffle<T>(items: &mut [T]) {
    use rand::seq::SliceRandom;
    items.shuffle(&mut rand::rng());
}

/// Seconds as milliseconds with one decimal.
pub(crate) fn ms(seconds: Option<f64>) -> String {
    seconds.map_or("-".into(), |seconds| format!("{:.1}", seconds * 1e3))
}

/// Bytes as megabytes (10^6) with one decimal.
pub(crate) fn mb(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

/// `a/b`.
pub(crate) fn pair(a: impl AsRef<str>, b: impl AsRef<str>) -> String {
    format!("{}/{}", a.as_ref(), b.as_ref())
}

/// Nanoseconds since the epoch.
pub(crate) fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
