//! Secrets that are looked up without telling how much of one was right.
//!
//! What is compared and hashed is a keyed digest, whose key is made anew in each
//! process: how long a look-up takes depends on nothing that a client could
//! learn from.

use ring::{hmac, rand::SystemRandom};

/// Makes digests of secrets.
pub(super) struct Tagger(hmac::Key);

/// The digest of a secret.
pub(super) type Tag = [u8; 32];

// === impl Tagger ===

impl Tagger {
    /// With a new key; nothing when the system gives no random numbers.
    pub(super) fn new() -> Option<Self> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .ok()
            .map(Self)
    }

    /// The digest.
    pub(super) fn tag(&self, secret: &str) -> Tag {
        let tag = hmac::sign(&self.0, secret.as_bytes());
        let mut bytes = Tag::default();
        let length = bytes.len().min(tag.as_ref().len());
        bytes[..length].copy_from_slice(&tag.as_ref()[..length]);
        bytes
    }
}
