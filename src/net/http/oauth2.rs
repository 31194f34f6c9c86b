//! Tokens from an OAuth 2.0 server: by the client's secret (RFC 6749 4.4) or by
//! a signed assertion (RFC 7523 2.1), as prometheus/common v0.67.5 asks for
//! them.
//!
//! One fetch at a time, however many requests wait for it. After a failed one
//! the next is made a few seconds later, so that ten thousand targets do not
//! storm a token server that is down.

use super::{
    Asked, HttpClient, Keep, OAuth2, connector, live_tls,
    pool::Pool,
    settings::{JWT_BEARER, file_of, secret_of},
};
use crate::{
    net::{
        credentials::{ClientOAuth2, LiveText, sensitive},
        resolve::Resolve,
        tls::LiveTls,
    },
    settings::Problem,
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair},
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::Mutex;
use tracing::{debug, warn};
use url::{Url, form_urlencoded};

/// How long before its end a token is replaced, as in Go's oauth2.
const EARLY: Duration = Duration::from_secs(10);

/// How long a failure answers for the next fetch.
const PAUSE: Duration = Duration::from_secs(5);

/// The longest a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest answer of a token server.
const MAX_ANSWER: usize = 1 << 20;

/// How long an assertion is valid.
const ASSERTION_LIFE: u64 = 600;

/// Where tokens come from.
pub(in crate::net) struct TokenSource {
    settings: OAuth2,
    url: Uri,
    /// The client's secret, or the key that signs.
    secret: LiveText,
    client: HttpClient,
    state: Mutex<State>,
}

/// A token for one request.
#[derive(Clone)]
pub(in crate::net) struct Token {
    /// The value of `authorization`.
    pub(in crate::net) header: HeaderValue,
    /// Fetched for this very request.
    pub(super) is_new: bool,
}

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    failed: Option<(Instant, String)>,
    /// The server wants the client's id and secret in the form, not as a header.
    in_form: bool,
}

struct Kept {
    header: HeaderValue,
    until: Option<Instant>,
    /// The secret that it was fetched with.
    secret: Arc<str>,
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    token_type: Option<String>,
    /// A number, or (PayPal) a number as text.
    expires_in: Option<Value>,
}

// === impl TokenSource ===

impl TokenSource {
    /// A source, with the files that the settings name read for the first time.
    pub(super) fn load(
        settings: &OAuth2,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, Vec<Problem>> {
        let tls = live_tls("tls_config", settings.tls_config.spec(), &["http/1.1"]);
        Self::over(settings, tls, resolver)
    }

    /// The same for an exporter; problems are below `oauth2`.
    pub(in crate::net) fn of_client(
        settings: &ClientOAuth2,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, Vec<Problem>> {
        let tls = live_tls("tls", settings.tls.spec(), &["http/1.1"]);
        Self::over(&settings.as_oauth2(), tls, resolver)
    }

    fn over(
        settings: &OAuth2,
        tls: Result<LiveTls, Vec<Problem>>,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, Vec<Problem>> {
        let one = |problem| vec![problem];
        let secret = if settings.signs() {
            LiveText::load(
                "client_certificate_key_file",
                secret_of(&settings.client_certificate_key),
                file_of(&settings.client_certificate_key_file),
            )
        } else {
            LiveText::load(
                "client_secret_file",
                secret_of(&settings.client_secret),
                file_of(&settings.client_secret_file),
            )
        }
        .map_err(one)?;
        if settings.signs() {
            private_key(&secret.current())
                .map_err(|cause| one(Problem::new("client_certificate_key", cause)))?;
        }
        let connector = connector(tls, &settings.proxy, resolver)?;
        // It is asked rarely: keeping its connection is worth little.
        let pool = Pool::new(Keep {
            streams: 1,
            per_place: 1,
            idle: EARLY,
            pings: None,
        });
        Ok(Self {
            url: token_url(&settings.token_url).map_err(one)?,
            settings: settings.clone(),
            secret,
            client: HttpClient::plain(connector, pool),
            state: Mutex::default(),
        })
    }

    /// The token now, fetched if there is none that is good.
    pub(in crate::net) async fn token(&self) -> Result<Token, String> {
        let mut state = self.state.lock().await;
        let secret = self.secret.current();
        match &state.kept {
            Some(kept) if kept.secret == secret && kept.is_fresh() => Ok(kept.token(false)),
            // Apart, so that requests that find a token stay small.
            _ => Box::pin(self.fetch(&mut state, secret)).await,
        }
    }

    /// A token in place of `refused`.
    pub(super) async fn replace(&self, refused: &Token) -> Result<Token, String> {
        let mut state = self.state.lock().await;
        if let Some(kept) = &state.kept
            && kept.header != refused.header
        {
            // Another request has replaced it meanwhile.
            return Ok(kept.token(true));
        }
        state.kept = None;
        self.fetch(&mut state, self.secret.current()).await
    }

    /// The next token is another one than `refused`.
    pub(in crate::net) async fn refused(&self, refused: &Token) {
        let mut state = self.state.lock().await;
        state.kept.take_if(|kept| kept.header == refused.header);
    }

    async fn fetch(&self, state: &mut State, secret: Arc<str>) -> Result<Token, String> {
        if let Some((at, cause)) = &state.failed
            && at.elapsed() < PAUSE
        {
            return Err(cause.clone());
        }
        let asked = self.ask(&mut state.in_form, &secret);
        let answer = tokio::time::timeout(FETCH_TIMEOUT, asked)
            .await
            .unwrap_or_else(|_| Err("no answer within 30s".into()))
            .and_then(|answer| Kept::of(answer, secret));
        match answer {
            Ok(kept) => {
                debug!(url = %self.url, "token fetched");
                let token = kept.token(true);
                state.kept = Some(kept);
                state.failed = None;
                Ok(token)
            }
            Err(cause) => {
                let cause = format!("the token server {} gives no token: {cause}", self.url);
                warn!("{cause}");
                state.failed = Some((Instant::now(), cause.clone()));
                Err(cause)
            }
        }
    }

    /// Asks as the server is known to want it, else with a header and then, if
    /// refused, with a form; Go's oauth2 finds out in the same way.
    async fn ask(&self, in_form: &mut bool, secret: &str) -> Result<Answer, String> {
        if self.settings.signs() {
            let form = self.assertion_form(secret)?;
            return self
                .post(HeaderMap::new(), form)
                .await
                .map_err(|(_, cause)| cause);
        }
        if !*in_form {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, self.basic(secret)?);
            match self.post(headers, self.secret_form(None)).await {
                Ok(answer) => return Ok(answer),
                Err((Some(_), _)) => {}
                Err((None, cause)) => return Err(cause),
            }
        }
        let answer = self
            .post(HeaderMap::new(), self.secret_form(Some(secret)))
            .await
            .map_err(|(_, cause)| cause)?;
        *in_form = true;
        Ok(answer)
    }

    /// An error comes with the server's status if it answered.
    async fn post(
        &self,
        mut headers: HeaderMap,
        form: String,
    ) -> Result<Answer, (Option<StatusCode>, String)> {
        headers.insert(header::USER_AGENT, super::USER_AGENT);
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        let response = self
            .client
            .0
            .send(&Asked {
                method: &Method::POST,
                uri: &self.url,
                headers,
                body: Bytes::from(form),
                repeatable: true,
            })
            .await
            .map_err(|error| (None, error.to_string()))?;
        let status = response.status();
        let is_form = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| {
                kind.as_bytes()
                    .starts_with(b"application/x-www-form-urlencoded")
            });
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| (None, error.to_string()))?
            .to_bytes();
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            return Err((Some(status), format!("{status}: {}", text.trim())));
        }
        Answer::parse(&body, is_form).map_err(|cause| (None, cause))
    }

    fn basic(&self, secret: &str) -> Result<HeaderValue, String> {
        let encode =
            |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encode(&self.settings.client_id), encode(secret));
        sensitive(&format!("Basic {}", BASE64_STANDARD.encode(pair)))
            .ok_or_else(|| "client_id or client_secret fit in no header".into())
    }

    /// `secret`: with the client's id and secret.
    fn secret_form(&self, secret: Option<&str>) -> String {
        let mut form = vec![("grant_type", "client_credentials".to_owned())];
        if let Some(secret) = secret {
            form.push(("client_id", self.settings.client_id.clone()));
            form.push(("client_secret", secret.to_owned()));
        }
        self.finish_form(form)
    }

    fn assertion_form(&self, key: &str) -> Result<String, String> {
        let assertion = self.assertion(key)?;
        let form = vec![
            ("grant_type", JWT_BEARER.to_owned()),
            ("assertion", assertion),
        ];
        Ok(self.finish_form(form))
    }

    fn finish_form(&self, mut form: Vec<(&str, String)>) -> String {
        if !self.settings.scopes.is_empty() {
            form.push(("scope", self.settings.scopes.join(" ")));
        }
        // `endpoint_params` may replace `grant_type`, for servers with their own.
        let params = &self.settings.endpoint_params;
        form.retain(|(name, _)| !params.contains_key(*name));
        let mut encoder = form_urlencoded::Serializer::new(String::new());
        encoder.extend_pairs(&form).extend_pairs(params);
        encoder.finish()
    }

    fn assertion(&self, key: &str) -> Result<String, String> {
        let settings = &self.settings;
        let (name, algorithm): (_, &'static dyn RsaEncoding) =
            match settings.signature_algorithm.as_deref() {
                Some("RS384") => ("RS384", &RSA_PKCS1_SHA384),
                Some("RS512") => ("RS512", &RSA_PKCS1_SHA512),
                _ => ("RS256", &RSA_PKCS1_SHA256),
            };
        let mut head = json!({"alg": name, "typ": "JWT"});
        if let Some(id) = settings
            .client_certificate_key_id
            .as_deref()
            .filter(|id| !id.is_empty())
        {
            head["kid"] = id.into();
        }
        let claims = Value::Object(self.claims());
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&head), encode(&claims));
        let key = private_key(key)?;
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(
            algorithm,
            &SystemRandom::new(),
            signed.as_bytes(),
            &mut signature,
        )
        .map_err(|_| "the key cannot sign".to_owned())?;
        Ok(format!(
            "{signed}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(signature)
        ))
    }

    fn claims(&self) -> Map<String, Value> {
        let settings = &self.settings;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let or = |value: &Option<String>, other: &str| match value.as_deref() {
            None | Some("") => other.to_owned(),
            Some(value) => value.to_owned(),
        };
        let mut claims = Map::new();
        claims.insert("iss".into(), or(&settings.iss, &settings.client_id).into());
        claims.insert("sub".into(), settings.client_id.clone().into());
        claims.insert(
            "jti".into(),
            format!("{:032x}", rand::random::<u128>()).into(),
        );
        claims.insert(
            "aud".into(),
            or(&settings.audience, &settings.token_url).into(),
        );
        claims.insert("iat".into(), now.into());
        claims.insert("exp".into(), (now + ASSERTION_LIFE).into());
        if !settings.scopes.is_empty() {
            claims.insert("scope".into(), settings.scopes.join(" ").into());
        }
        claims.extend(settings.claims.clone());
        claims
    }
}

fn token_url(text: &str) -> Result<Uri, Problem> {
    let wrong = || Problem::new("token_url", "no address: write https://host/path");
    let mut url = Url::parse(text).map_err(|_| wrong())?;
    url.set_fragment(None);
    url.as_str().parse().map_err(|_| wrong())
}

fn private_key(pem: &str) -> Result<RsaKeyPair, String> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| "no private key: unencrypted PEM is wanted".to_owned())?;
    match &key {
        PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
        _ => return Err("no RSA key, which RS256, RS384 and RS512 need".into()),
    }
    .map_err(|error| format!("no usable RSA key: {error}"))
}

// === impl Answer ===

impl Answer {
    fn parse(body: &[u8], is_form: bool) -> Result<Self, String> {
        if !is_form {
            return serde_json::from_slice(body)
                .map_err(|error| format!("its answer is no JSON: {error}"));
        }
        let field = |name: &str| {
            form_urlencoded::parse(body)
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        Ok(Self {
            access_token: field("access_token"),
            token_type: field("token_type"),
            expires_in: field("expires_in").map(Value::from),
        })
    }

    fn life(&self) -> Option<Duration> {
        let seconds = match self.expires_in.as_ref()? {
            Value::String(text) => text.parse().ok()?,
            value => value.as_f64()?,
        };
        Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|life| !life.is_zero())
    }
}

// === impl Kept ===

impl Kept {
    fn of(answer: Answer, secret: Arc<str>) -> Result<Self, String> {
        let token = answer
            .access_token
            .as_deref()
            .filter(|token| !token.is_empty())
            .ok_or("its answer holds no access_token")?;
        let scheme = match answer.token_type.as_deref() {
            None | Some("") => "Bearer",
            Some(kind) if kind.eq_ignore_ascii_case("bearer") => "Bearer",
            Some(kind) => kind,
        };
        Ok(Self {
            header: sensitive(&format!("{scheme} {token}")).ok_or("its token fits in no header")?,
            until: answer.life().map(|life| Instant::now() + life),
            secret,
        })
    }

    fn is_fresh(&self) -> bool {
        self.until
            .is_none_or(|until| Instant::now() + EARLY < until)
    }

    fn token(&self, is_new: bool) -> Token {
        Token {
            header: self.header.clone(),
            is_new,
        }
    }
}
