//! A pprof that is too large even alone.

use crate::profile::pprof::{Pprof, split_by_samples};
use bytes::Bytes;

/// The pprof in halves by samples, or in more pieces where halves cannot be had;
/// `None` when it cannot be divided.
pub fn halves(pprof: &Pprof, max_inflated: u64) -> Option<Vec<Bytes>> {
    if pprof.check(max_inflated).ok()?.samples < 2 {
        return None;
    }
    let mut target = pprof.bytes().len() as u64 * 5 / 8;
    loop {
        let pieces = pprof
            .read(max_inflated, |plain| split_by_samples(plain, target))
            .and_then(|pieces| pieces)
            .ok()?;
        if pieces.len() > 1 {
            return Some(pieces);
        }
        if target < 2 {
            return None;
        }
        target /= 2;
    }
}
