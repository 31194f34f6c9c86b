//! An issuer of signed tokens, for tests.

use crate::{
    net::{
        auth::OidcSettings,
        testing::{Ca, Server, text},
    },
    settings::FilePath,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::StatusCode;
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

const RSA: &str = include_str!("../http/testdata/jwt_test_only.pem");

/// An issuer that answers on loopback.
pub(crate) struct Issuer {
    pub(crate) url: String,
    pub(crate) ca: Ca,
    /// Answers 503.
    pub(crate) is_away: Arc<AtomicBool>,
    /// How often its keys were fetched.
    pub(crate) fetches: Arc<AtomicUsize>,
    published: Arc<Mutex<Vec<Value>>>,
    _server: Server,
}

/// A key that signs.
pub(crate) enum Signer {
    Rsa(&'static str, RsaKeyPair),
    P256(&'static str, EcdsaKeyPair),
}

// === impl Issuer ===

impl Issuer {
    pub(crate) async fn start() -> Self {
        let ca = Ca::new("issuer");
        let (is_away, fetches) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let published: Arc<Mutex<Vec<Value>>> = Arc::default();
        let url = Arc::new(Mutex::new(String::new()));
        let (away, count) = (is_away.clone(), Arc::<AtomicUsize>::clone(&fetches));
        let (keys, own) = (published.clone(), url.clone());
        let tls = ca.issue(&["127.0.0.1"]).server(None, &["http/1.1"]);
        let server = Server::start(Some(tls), move |request| {
            let url = own.lock().unwrap().clone();
            let mut response = match request.uri().path() {
                "/realm/.well-known/openid-configuration" => {
                    text(json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string())
                }
                "/realm/keys" => {
                    count.fetch_add(1, Ordering::SeqCst);
                    text(json!({"keys": *keys.lock().unwrap()}).to_string())
                }
                _ => text(""),
            };
            if away.load(Ordering::SeqCst) {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        })
        .await;
        *url.lock().unwrap() = format!("https://{}/realm", server.address);
        let url = url.lock().unwrap().clone();
        Self {
            url,
            ca,
            is_away,
            fetches,
            published,
            _server: server,
        }
    }

    pub(crate) fn publish(&self, signer: &Signer) {
        self.published.lock().unwrap().push(signer.jwk());
    }

    pub(crate) fn withdraw_all(&self) {
        self.published.lock().unwrap().clear();
    }

    /// How it is trusted; its CA is written into `folder`.
    pub(crate) fn settings(&self, folder: &Path) -> OidcSettings {
        let path = folder.join("issuer.pem");
        std::fs::write(&path, &self.ca.pem).unwrap();
        OidcSettings {
            issuer_url: self.url.clone(),
            audience: "relay".into(),
            issuer_ca_path: Some(FilePath(path)),
            username_claim: None,
            groups_claim: Some("groups".into()),
        }
    }

    /// The claims of a good token for an hour.
    pub(crate) fn claims(&self, user: &str) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let end = now.as_secs() + 3_600;
        json!({"iss": self.url, "aud": "relay", "sub": user, "exp": end})
    }
}

// === impl Signer ===

impl Signer {
    pub(crate) fn rsa(id: &'static str) -> Self {
        let key = PrivateKeyDer::from_pem_slice(RSA.as_bytes()).unwrap();
        let PrivateKeyDer::Pkcs8(key) = key else {
            panic!("another form");
        };
        Self::Rsa(id, RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap())
    }

    pub(crate) fn p256(id: &'static str) -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap();
        Self::P256(id, key)
    }

    fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Rsa(id, key) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public());
                let (n, e) = (encode(&public.n), encode(&public.e));
                json!({"kty": "RSA", "use": "sig", "kid": id, "alg": "RS256", "n": n, "e": e})
            }
            Self::P256(id, key) => {
                let point = key.public_key().as_ref();
                let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "kid": id, "x": x, "y": y})
            }
        }
    }

    /// A signed token.
    pub(crate) fn token(&self, claims: &Value) -> String {
        let (alg, id) = match self {
            Self::Rsa(id, _) => ("RS256", id),
            Self::P256(id, _) => ("ES256", id),
        };
        self.token_with(&json!({"alg": alg, "typ": "JWT", "kid": id}), claims)
    }

    /// The same with any head.
    pub(crate) fn token_with(&self, head: &Value, claims: &Value) -> String {
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(head), encode(claims));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(_, key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    signed.as_bytes(),
                    &mut signature,
                )
                .unwrap();
                signature
            }
            Self::P256(_, key) => key
                .sign(&random, signed.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
        };
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}
