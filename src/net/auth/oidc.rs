//! Tokens of an OpenID Connect issuer.
//!
//! The issuer's keys are fetched when they are first needed, and kept. They are
//! fetched anew when a token names a key that is not among them, and once an hour,
//! so that a key that was withdrawn is not taken for ever; never more often than
//! every [`PAUSE`], whatever clients send. Who cannot be judged for that is told
//! to try again. Keys that cannot be renewed stay in use, which is logged.

use super::{
    Refused,
    jwks::{self, Key},
    jwt::{Jwt, Wanted},
    settings::OidcSettings,
};
use crate::{
    net::{HttpClient, HttpClientSettings, TlsConfig},
    settings::Problem,
};
use arc_swap::ArcSwapOption;
use http::Uri;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tracing::{info, warn};

/// The shortest time between two fetches.
const PAUSE: Duration = Duration::from_secs(10);

/// How old keys may become before they are fetched anew.
const MAX_AGE: Duration = Duration::from_secs(3_600);

/// The longest that a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer of an issuer.
const MAX_ANSWER: usize = 1 << 20;

/// The longest token.
const MAX_TOKEN: usize = 16 << 10;

/// An issuer.
pub(super) struct Oidc {
    settings: OidcSettings,
    discovery: Uri,
    client: HttpClient,
    keys: ArcSwapOption<Keys>,
    fetching: Mutex<Attempt>,
}

/// Who a token is of.
#[derive(Debug)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
}

struct Keys {
    all: Vec<Key>,
    fetched: Instant,
}

/// The last fetch.
#[derive(Default)]
struct Attempt {
    at: Option<Instant>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

// === impl Oidc ===

impl Oidc {
    /// Asks the issuer nothing yet.
    pub(super) fn new(settings: &OidcSettings) -> Result<Self, Vec<Problem>> {
        let base = settings.issuer_url.trim_end_matches('/');
        let discovery = format!("{base}/.well-known/openid-configuration").parse();
        let discovery =
            discovery.map_err(|_| vec![Problem::new("issuer_url", "it is no address")])?;
        let client = HttpClient::bounded(
            &HttpClientSettings {
                tls_config: TlsConfig {
                    ca_file: settings.issuer_ca_path.clone(),
                    ..TlsConfig::default()
                },
                follow_redirects: true,
                ..HttpClientSettings::default()
            },
            1,
        );
        let client = client.map_err(|problems| {
            let messages = problems.into_iter().map(|problem| problem.message);
            messages
                .map(|message| Problem::new("issuer_ca_path", message))
                .collect::<Vec<_>>()
        })?;
        if settings.issuer_url.starts_with("http://") {
            warn!(
                issuer = settings.issuer_url,
                "its keys come without TLS: whoever sits between can let anybody in"
            );
        }
        Ok(Self {
            settings: settings.clone(),
            discovery,
            client,
            keys: ArcSwapOption::empty(),
            fetching: Mutex::default(),
        })
    }

    /// Who `token` is of, if it is good.
    pub(super) async fn user(&self, token: &str) -> Result<User, Refused> {
        if token.len() > MAX_TOKEN {
            return Err(Refused::Wrong("the token is too long"));
        }
        let jwt = Jwt::parse(token).ok_or(Refused::Wrong(
            "the bearer token is none that is known, and no signed one",
        ))?;
        if !self.is_signed(&jwt).await? {
            return Err(Refused::Wrong("the token's signature is not good"));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let wanted = Wanted {
            issuer: &self.settings.issuer_url,
            audience: &self.settings.audience,
            now: now.map_or(0.0, |now| now.as_secs_f64()),
        };
        let claims = jwt.claims();
        let claims = claims.ok_or(Refused::Wrong("the token's claims cannot be read"))?;
        claims.check(&wanted).map_err(Refused::Wrong)?;
        let name = claims.text(self.settings.username_claim.as_deref().unwrap_or("sub"));
        let name = name.ok_or(Refused::Wrong("the token names nobody: see username_claim"))?;
        let groups = self.settings.groups_claim.as_deref();
        Ok(User {
            name: name.to_owned(),
            groups: groups.map(|claim| claims.texts(claim)).unwrap_or_default(),
        })
    }

    async fn is_signed(&self, jwt: &Jwt<'_>) -> Result<bool, Refused> {
        if let Some(keys) = self.keys.load_full() {
            let known = keys.fitting(jwt).next().is_some();
            if known && keys.is_fresh() {
                return Ok(keys.fitting(jwt).any(|key| jwt.is_signed_by(key)));
            }
        }
        // Apart, so that requests whose key is known stay small.
        let keys = Box::pin(self.renewed(jwt)).await?;
        Ok(keys.fitting(jwt).any(|key| jwt.is_signed_by(key)))
    }

    /// Keys that are as new as can be had, and have one that fits `jwt` unless
    /// there is none.
    async fn renewed(&self, jwt: &Jwt<'_>) -> Result<Arc<Keys>, Refused> {
        let fitting = || {
            let kept = self.keys.load_full();
            kept.filter(|keys| keys.fitting(jwt).next().is_some())
        };
        let mut attempt = match (self.fetching.try_lock(), fitting()) {
            (Ok(attempt), _) => attempt,
            // Old ones do while somebody else asks for new ones.
            (Err(_), Some(keys)) => return Ok(keys),
            (Err(_), None) => self.fetching.lock().await,
        };
        let fits = fitting();
        // Somebody else may have fetched them meanwhile.
        if let Some(keys) = fits.as_ref().filter(|keys| keys.is_fresh()) {
            return Ok(keys.clone());
        }
        let pause = attempt.at.map(|at| PAUSE.saturating_sub(at.elapsed()));
        if let Some(rest) = pause.filter(|rest| !rest.is_zero()) {
            if let Some(keys) = fits {
                return Ok(keys);
            }
            let why = attempt.error.clone();
            return Err(Refused::Unavailable {
                message: why.unwrap_or_else(|| {
                    "the token's key is not known, and the issuer was just asked".to_owned()
                }),
                after: Some(rest),
            });
        }
        self.ask(&mut attempt, fits).await
    }

    /// Asks the issuer; without its answer `kept` stay in use.
    async fn ask(
        &self,
        attempt: &mut Attempt,
        kept: Option<Arc<Keys>>,
    ) -> Result<Arc<Keys>, Refused> {
        let fetched = timeout(FETCH_TIMEOUT, self.fetch()).await;
        let fetched = fetched.unwrap_or_else(|_| Err("it does not answer".to_owned()));
        attempt.at = Some(Instant::now());
        match fetched {
            Ok(all) => {
                info!(
                    issuer = self.settings.issuer_url,
                    keys = all.len(),
                    "keys fetched"
                );
                attempt.error = None;
                let fetched = Instant::now();
                let keys = Arc::new(Keys { all, fetched });
                self.keys.store(Some(keys.clone()));
                Ok(keys)
            }
            Err(error) => {
                let issuer = &self.settings.issuer_url;
                let message = format!("the keys of {issuer} cannot be fetched: {error}");
                warn!(issuer, %error, kept = kept.is_some(), "cannot fetch the issuer's keys");
                attempt.error = Some(message.clone());
                let after = Some(PAUSE);
                kept.ok_or(Refused::Unavailable { message, after })
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>, String> {
        let discovery: Discovery = serde_json::from_slice(&self.get(&self.discovery).await?)
            .map_err(|_| "its configuration has no issuer and jwks_uri".to_owned())?;
        if discovery.issuer != self.settings.issuer_url {
            return Err(format!(
                "it calls itself {:?}: write that as issuer_url",
                discovery.issuer
            ));
        }
        let uri = discovery.jwks_uri.parse::<Uri>();
        let uri = uri.map_err(|_| "its jwks_uri is no address".to_owned())?;
        if self.discovery.scheme_str() == Some("https") && uri.scheme_str() != Some("https") {
            return Err("its jwks_uri is without TLS".to_owned());
        }
        jwks::parse(&self.get(&uri).await?)
    }

    async fn get(&self, uri: &Uri) -> Result<bytes::Bytes, String> {
        let response = self
            .client
            .get(uri)
            .await
            .map_err(|error| error.to_string())?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("{uri} answers {status}"));
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        Ok(body.map_err(|error| error.to_string())?.to_bytes())
    }
}

// === impl Keys ===

impl Keys {
    fn is_fresh(&self) -> bool {
        self.fetched.elapsed() < MAX_AGE
    }

    /// The keys that a token may be signed by: the one that it names, or all when
    /// it names none.
    fn fitting<'k>(&'k self, jwt: &'k Jwt<'_>) -> impl Iterator<Item = &'k Key> {
        let wanted = jwt.key_id();
        self.all
            .iter()
            .filter(move |key| wanted.is_none_or(|id| key.id.as_deref() == Some(id)))
    }
}
