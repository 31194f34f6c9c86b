//! The keys that an issuer publishes (RFC 7517).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;

/// The keys that are kept, at most.
const MAX_KEYS: usize = 256;

/// A public key that verifies signatures.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) id: Option<String>,
    /// The only algorithm it is for.
    pub(super) algorithm: Option<String>,
    pub(super) material: Material,
}

/// Its numbers, as ring takes them.
#[derive(Debug)]
pub(super) enum Material {
    /// Modulus and exponent, big-endian.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// An uncompressed point.
    P256(Vec<u8>),
    /// An uncompressed point.
    P384(Vec<u8>),
    /// 32 bytes.
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The keys of a set that verify signatures; others are left out.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Key>, String> {
    let set: Set = serde_json::from_slice(text).map_err(|_| "its keys are no JWKS".to_owned())?;
    let keys = set.keys.into_iter().filter_map(key);
    Ok(keys.take(MAX_KEYS).collect())
}

fn key(value: serde_json::Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return None;
    }
    let number = |text: &Option<String>| {
        let text = text.as_deref()?.trim_end_matches('=');
        BASE64_URL_SAFE_NO_PAD.decode(text).ok()
    };
    let point = |size: usize| {
        let (x, y) = (number(&jwk.x)?, number(&jwk.y)?);
        let fits = x.len() == size && y.len() == size;
        fits.then(|| [&[4], &x[..], &y[..]].concat())
    };
    let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let unpadded = |bytes: Vec<u8>| bytes.into_iter().skip_while(|b| *b == 0).collect();
            Material::Rsa {
                n: number(&jwk.n).map(unpadded)?,
                e: number(&jwk.e).map(unpadded)?,
            }
        }
        ("EC", Some("P-256")) => Material::P256(point(32)?),
        ("EC", Some("P-384")) => Material::P384(point(48)?),
        ("OKP", Some("Ed25519")) => Material::Ed25519(number(&jwk.x)?),
        _ => return None,
    };
    Some(Key {
        id: jwk.kid,
        algorithm: jwk.alg,
        material,
    })
}
