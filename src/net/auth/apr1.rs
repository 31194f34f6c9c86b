//! `$apr1$`, Apache's MD5 of passwords (apr_md5.c), which `htpasswd` writes unless
//! told otherwise.

use md5::{Digest, Md5};

const MAGIC: &str = "$apr1$";
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The longest password whose digest is made; what takes long is refused.
const MAX_PASSWORD: usize = 1_024;

/// Whether `hash`, which begins with `$apr1$`, is that of `password`; nothing
/// when it is none.
pub(super) fn verify(password: &[u8], hash: &str) -> Option<bool> {
    let (salt, digest) = hash.strip_prefix(MAGIC)?.split_once('$')?;
    if password.len() > MAX_PASSWORD {
        return Some(false);
    }
    let salt = &salt.as_bytes()[..salt.len().min(8)];
    let made = encode(&digest_of(password, salt));
    let same = made.len() == digest.len()
        && made
            .bytes()
            .zip(digest.bytes())
            .fold(0, |sum, (a, b)| sum | (a ^ b))
            == 0;
    Some(same)
}

fn digest_of(password: &[u8], salt: &[u8]) -> [u8; 16] {
    let mut inner = Md5::new();
    inner.update(password);
    inner.update(salt);
    inner.update(password);
    let inner: [u8; 16] = inner.finalize().into();

    let mut first = Md5::new();
    first.update(password);
    first.update(MAGIC);
    first.update(salt);
    for at in (0..password.len()).step_by(16) {
        first.update(&inner[..(password.len() - at).min(16)]);
    }
    let mut length = password.len();
    while length > 0 {
        if length & 1 == 1 {
            first.update([0]);
        } else {
            first.update(&password[..1]);
        }
        length >>= 1;
    }
    let mut digest: [u8; 16] = first.finalize().into();
    for round in 0..1_000 {
        let mut next = Md5::new();
        if round % 2 == 1 {
            next.update(password);
        } else {
            next.update(digest);
        }
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        if round % 2 == 1 {
            next.update(digest);
        } else {
            next.update(password);
        }
        digest = next.finalize().into();
    }
    digest
}

fn encode(digest: &[u8; 16]) -> String {
    let mut out = String::with_capacity(22);
    let mut put = |mut number: u32, characters: usize| {
        for _ in 0..characters {
            out.push(char::from(ALPHABET[(number & 0x3f) as usize]));
            number >>= 6;
        }
    };
    for (a, b, c) in [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)] {
        let [a, b, c] = [a, b, c].map(|at: usize| u32::from(digest[at]));
        put(a << 16 | b << 8 | c, 4);
    }
    put(digest[11].into(), 2);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_openssl_are_known() {
        for (password, hash) in [
            ("hunter2", "$apr1$r31mCLtS$FxI5ngylpYYCORMd8wFM3."),
            ("", "$apr1$r31mCLtS$4fxBRj/GGW9t7RIqLGaTC1"),
            ("a", "$apr1$r31mCLtS$6KK4ImEpn2oYvilmBEKuY/"),
            (
                "a password of more than sixteen bytes, and then some",
                "$apr1$r31mCLtS$zjo3QD//SOja6ki5d42Je.",
            ),
            ("ü b", "$apr1$x9$st8U6sLKcH3m3a1JN07cv/"),
        ] {
            assert_eq!(verify(password.as_bytes(), hash), Some(true), "{password}");
            assert_eq!(verify(b"other", hash), Some(false), "{password}");
        }
        assert_eq!(verify(b"x", "$apr1$nothing"), None);
    }
}
