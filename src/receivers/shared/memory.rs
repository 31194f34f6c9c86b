//! What a sender hears when there is no memory for its request.

use crate::net::serve::{Failure, Kind, Reading};

/// What is said when memory is missing: it may pass later, unless it needs more
/// than there ever is.
pub(in crate::receivers) fn no_memory(needed: u64, reading: &Reading) -> Failure {
    if needed <= reading.memory.largest() {
        return reading.no_memory();
    }
    let message = format!(
        "the request needs {needed} bytes of memory or more to be read, and service.memory.limit \
         leaves {} for requests: send less at a time or raise it",
        reading.memory.largest()
    );
    Failure::new(Kind::TooLarge, message)
}
