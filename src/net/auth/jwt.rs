//! Signed tokens (RFC 7515, 7519): read, checked against a key, and against what
//! is wanted of them.

use super::jwks::Key;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// How far clocks may be apart, in seconds.
const LEEWAY: f64 = 60.0;

/// A token whose signature nobody has looked at yet.
pub(super) struct Jwt<'a> {
    head: Head,
    signed: &'a str,
    signature: Vec<u8>,
    claims: Vec<u8>,
}

/// What its claims say, once its signature is known to be good.
#[derive(Debug)]
pub(super) struct Claims(Map<String, Value>);

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; none is.
    crit: Option<Value>,
}

/// What claims must say.
pub(super) struct Wanted<'a> {
    pub(super) issuer: &'a str,
    pub(super) audience: &'a str,
    /// Seconds since the epoch.
    pub(super) now: f64,
}

// === impl Jwt ===

impl<'a> Jwt<'a> {
    /// Takes a token apart.
    pub(super) fn parse(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (head, claims) = signed.split_once('.')?;
        let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let head: Head = serde_json::from_slice(&decode(head)?).ok()?;
        if head.crit.is_some() {
            return None;
        }
        Some(Self {
            head,
            signed,
            signature: decode(signature)?,
            claims: decode(claims)?,
        })
    }

    /// The key that it names.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.head.kid.as_deref()
    }

    /// Whether it is signed by `key`, in a way that suits the key.
    pub(super) fn is_signed_by(&self, key: &Key) -> bool {
        if key
            .algorithm
            .as_ref()
            .is_some_and(|known| *known != self.head.alg)
        {
            return false;
        }
        let message = self.signed.as_bytes();
        let rsa = |parameters: &'static signature::RsaParameters| match &key.material {
            super::jwks::Material::Rsa { n, e } => {
                let key = signature::RsaPublicKeyComponents { n, e };
                key.verify(parameters, message, &self.signature).is_ok()
            }
            _ => false,
        };
        let point = |algorithm: &'static dyn signature::VerificationAlgorithm, point: &[u8]| {
            UnparsedPublicKey::new(algorithm, point)
                .verify(message, &self.signature)
                .is_ok()
        };
        use super::jwks::Material::{Ed25519, P256, P384};
        match (self.head.alg.as_str(), &key.material) {
            ("RS256", _) => rsa(&RSA_PKCS1_2048_8192_SHA256),
            ("RS384", _) => rsa(&RSA_PKCS1_2048_8192_SHA384),
            ("RS512", _) => rsa(&RSA_PKCS1_2048_8192_SHA512),
            ("PS256", _) => rsa(&RSA_PSS_2048_8192_SHA256),
            ("PS384", _) => rsa(&RSA_PSS_2048_8192_SHA384),
            ("PS512", _) => rsa(&RSA_PSS_2048_8192_SHA512),
            ("ES256", P256(key)) => point(&ECDSA_P256_SHA256_FIXED, key),
            ("ES384", P384(key)) => point(&ECDSA_P384_SHA384_FIXED, key),
            ("EdDSA", Ed25519(key)) => point(&ED25519, key),
            // `none` and HS256 among them, whose key would be public.
            _ => false,
        }
    }

    /// What it says. Only after [`Jwt::is_signed_by`].
    pub(super) fn claims(&self) -> Option<Claims> {
        serde_json::from_slice(&self.claims).ok().map(Claims)
    }
}

// === impl Claims ===

impl Claims {
    /// What is wrong with them.
    pub(super) fn check(&self, wanted: &Wanted<'_>) -> Result<(), &'static str> {
        let seconds = |name: &str| self.0.get(name).and_then(Value::as_f64);
        if self.0.get("iss").and_then(Value::as_str) != Some(wanted.issuer) {
            return Err("the token is of another issuer");
        }
        if !self.texts("aud").iter().any(|aud| aud == wanted.audience) {
            return Err("the token is for another audience");
        }
        match seconds("exp") {
            Some(end) if wanted.now <= end + LEEWAY => {}
            Some(_) => return Err("the token is expired"),
            None => return Err("the token does not say when it ends"),
        }
        if seconds("nbf").is_some_and(|begin| wanted.now + LEEWAY < begin) {
            return Err("the token is not valid yet");
        }
        Ok(())
    }

    /// A claim that is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// A claim that is a text or a list of texts.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        match self.0.get(name) {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(texts)) => {
                let texts = texts.iter().filter_map(Value::as_str);
                texts.map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verdict(change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), &'static str> {
        let good =
            json!({"iss": "https://issuer", "aud": ["x", "relay"], "exp": 1_000, "nbf": 900});
        let Value::Object(mut claims) = good else {
            unreachable!();
        };
        change(&mut claims);
        Claims(claims).check(&Wanted {
            issuer: "https://issuer",
            audience: "relay",
            now: 950.0,
        })
    }

    #[test]
    fn only_what_is_of_the_issuer_for_us_and_in_time_is_good() {
        assert_eq!(verdict(|_| {}), Ok(()));
        assert_eq!(
            verdict(|c| drop(c.insert("aud".into(), "relay".into()))),
            Ok(())
        );
        // Clocks are not the same everywhere.
        assert_eq!(
            verdict(|c| drop(c.insert("exp".into(), 891.into()))),
            Ok(())
        );
        assert_eq!(
            verdict(|c| drop(c.insert("nbf".into(), 1_009.into()))),
            Ok(())
        );
        for (claim, value) in [
            ("iss", json!("https://issuer/")),
            ("iss", json!(null)),
            ("aud", json!("relay2")),
            ("aud", json!([])),
            ("exp", json!(889)),
            ("exp", json!("1000")),
            ("exp", json!(null)),
            ("nbf", json!(1_011)),
        ] {
            let shown = format!("{claim} {value}");
            assert!(
                verdict(|c| drop(c.insert(claim.into(), value))).is_err(),
                "{shown}"
            );
        }
    }
}
