//! The HTTP client of scraping: many targets, one request a target at a time.
//!
//! Ten thousand kept connections must be cheap, so a connection that waits for
//! its next request is nothing but its socket (see [`pool`]); hyper's state and
//! buffers exist only while a request is under way. No `Accept-Encoding` is
//! sent, as Parca sends none: a profile is compressed by who made it.
//!
//! Deadlines are the caller's: dropping the future, or the body, ends a request.

mod error;
mod exchange;
mod oauth2;
mod place;
mod pool;
mod settings;

pub use self::{
    error::HttpError,
    exchange::Answer,
    settings::{Authorization, BasicAuth, HttpClientSettings, HttpHeader, OAuth2},
};

use self::{
    exchange::{ExchangeError, Outgoing, exchange},
    oauth2::TokenSource,
    place::{Place, is_redirect, is_same_place, join},
    pool::{Lease, Pool},
    settings::{file_of, secret_of, text_of},
};
use super::{
    connect::{Connector, Shared},
    credentials::{Credentials, LiveText, sensitive},
    proxy::ProxySettings,
    resolve::{Resolve, SystemResolver},
    tls::{LiveTls, TlsConfig},
};
use crate::settings::Problem;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use http_body_util::Full;
use std::{fmt, sync::Arc, time::Duration};

/// As Go's `net/http`.
const MAX_REDIRECTS: usize = 10;

/// How long a connection waits for its next request; prometheus/common's value,
/// above any sane scrape interval.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// The longest that connecting may take; the caller's deadline is shorter as a
/// rule.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections kept for their next request, unless the caller says otherwise.
pub const MAX_IDLE_CONNECTIONS: usize = 20_000;

/// Who asks.
pub(super) const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("profile-relay/", env!("CARGO_PKG_VERSION")));

/// Asks targets. Cheap to clone; clones share connections and tokens.
#[derive(Clone)]
pub struct HttpClient(Arc<Inner>);

struct Inner {
    connector: Connector,
    pool: Pool,
    auth: Auth,
    headers: Vec<(HeaderName, LiveText)>,
    follow_redirects: bool,
}

enum Auth {
    None,
    Header(Credentials),
    OAuth2(Box<TokenSource>),
}

// === impl HttpClient ===

impl HttpClient {
    /// A client, with the files that the settings name read for the first time.
    pub fn new(settings: &HttpClientSettings) -> Result<Self, Vec<Problem>> {
        Self::bounded(settings, MAX_IDLE_CONNECTIONS)
    }

    /// A client that keeps at most `max_idle_connections` for later.
    pub fn bounded(
        settings: &HttpClientSettings,
        max_idle_connections: usize,
    ) -> Result<Self, Vec<Problem>> {
        let pool = Pool::new(max_idle_connections, IDLE_TIMEOUT);
        Self::build(settings, pool, Arc::new(SystemResolver))
    }

    fn build(
        settings: &HttpClientSettings,
        pool: Pool,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let alpn: &[&str] = if settings.enable_http2 {
            &["h2", "http/1.1"]
        } else {
            &["http/1.1"]
        };
        let connector = connector(
            &settings.tls_config,
            &settings.proxy,
            alpn,
            resolver.clone(),
        )
        .map_err(|found| problems.extend(found))
        .ok();
        let headers = headers(settings)
            .map_err(|found| problems.extend(found))
            .ok();
        let auth = Auth::load(settings, &resolver)
            .map_err(|found| problems.extend(found))
            .ok();
        match (connector, headers, auth) {
            (Some(connector), Some(headers), Some(auth)) => Ok(Self(Arc::new(Inner {
                connector,
                pool,
                auth,
                headers,
                follow_redirects: settings.follow_redirects,
            }))),
            _ => Err(problems),
        }
    }

    /// Asks for `uri` and follows redirects if the settings say so. An answer of
    /// any status is an answer.
    pub async fn get(&self, uri: &Uri) -> Result<Response<Answer>, HttpError> {
        let mut current = uri.clone();
        for _ in 0..=MAX_REDIRECTS {
            let trusted = is_same_place(uri, &current);
            let response = self.0.ask(&current, trusted).await?;
            let location = response
                .headers()
                .get(header::LOCATION)
                .filter(|_| self.0.follow_redirects && is_redirect(response.status()));
            let Some(location) = location else {
                return Ok(response);
            };
            current = join(&current, location)?;
        }
        Err(HttpError::TooManyRedirects(current.to_string()))
    }
}

impl HttpClient {
    /// A client without credentials, headers or redirects.
    fn plain(connector: Connector, pool: Pool) -> Self {
        Self(Arc::new(Inner {
            connector,
            pool,
            auth: Auth::None,
            headers: Vec::new(),
            follow_redirects: false,
        }))
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

/// What connects to `https` and `http` addresses by these settings; problems
/// are below `tls_config` or at the proxy's keys.
fn connector(
    tls: &TlsConfig,
    proxy: &ProxySettings,
    alpn: &[&str],
    resolver: Arc<dyn Resolve>,
) -> Result<Connector, Vec<Problem>> {
    let mut problems = Vec::new();
    let tls = tls
        .spec()
        .and_then(|spec| LiveTls::new(spec, alpn))
        .map_err(|found| {
            problems.extend(found.into_iter().map(|problem| problem.below("tls_config")));
        })
        .ok();
    match proxy.proxies() {
        Ok(proxies) if problems.is_empty() => Ok(Connector::new(Shared {
            tls,
            proxies,
            tunnel: false,
            timeout: CONNECT_TIMEOUT,
            resolver,
        })),
        Ok(_) => Err(problems),
        Err(found) => {
            problems.extend(found);
            Err(problems)
        }
    }
}

fn headers(settings: &HttpClientSettings) -> Result<Vec<(HeaderName, LiveText)>, Vec<Problem>> {
    let mut headers = Vec::new();
    let mut problems = Vec::new();
    for (name, header) in &settings.http_headers {
        let path = format!("http_headers.{name}");
        let Ok(parsed) = HeaderName::try_from(name.as_str()) else {
            problems.push(Problem::new(path, "no header name"));
            continue;
        };
        let given = header.values.iter().map(String::as_str);
        let secret = header.secrets.iter().map(crate::settings::Secret::expose);
        for value in given.chain(secret) {
            headers.push((parsed.clone(), LiveText::Fixed(value.into())));
        }
        for file in &header.files {
            match LiveText::load(&path, None, Some(file.0.clone())) {
                Ok(text) => headers.push((parsed.clone(), text)),
                Err(problem) => problems.push(problem),
            }
        }
    }
    if problems.is_empty() {
        Ok(headers)
    } else {
        Err(problems)
    }
}

// === impl Auth ===

impl Auth {
    fn load(
        settings: &HttpClientSettings,
        resolver: &Arc<dyn Resolve>,
    ) -> Result<Self, Vec<Problem>> {
        let one = |problem| vec![problem];
        if let Some(oauth2) = &settings.oauth2 {
            return TokenSource::load(oauth2, resolver.clone())
                .map(|source| Self::OAuth2(Box::new(source)))
                .map_err(|problems| {
                    let below = |problem: Problem| problem.below("oauth2");
                    problems.into_iter().map(below).collect()
                });
        }
        if let Some(basic) = &settings.basic_auth {
            let user = LiveText::load(
                "basic_auth.username_file",
                text_of(&basic.username),
                file_of(&basic.username_file),
            );
            let password = LiveText::load(
                "basic_auth.password_file",
                secret_of(&basic.password),
                file_of(&basic.password_file),
            );
            return match (user, password) {
                (Ok(user), Ok(password)) => Ok(Self::Header(Credentials::Basic(user, password))),
                (user, password) => Err(user.err().into_iter().chain(password.err()).collect()),
            };
        }
        let (scheme, path, text, file) = match &settings.authorization {
            Some(given) => (
                given.scheme(),
                "authorization.credentials_file",
                secret_of(&given.credentials),
                file_of(&given.credentials_file),
            ),
            None => (
                "Bearer",
                "bearer_token_file",
                secret_of(&settings.bearer_token),
                file_of(&settings.bearer_token_file),
            ),
        };
        if settings.authorization.is_none() && text.is_none() && file.is_none() {
            return Ok(Self::None);
        }
        let text = LiveText::load(path, text, file).map_err(one)?;
        Ok(Self::Header(Credentials::Scheme(scheme.to_owned(), text)))
    }
}

// === impl Inner ===

impl Inner {
    /// One answer of `uri`. `trusted`: with credentials.
    async fn ask(&self, uri: &Uri, trusted: bool) -> Result<Response<Answer>, HttpError> {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(header::USER_AGENT, USER_AGENT);
        if !trusted {
            return self.send(&Method::GET, uri, &headers, Bytes::new()).await;
        }
        for (name, text) in &self.headers {
            let value = sensitive(&text.current())
                .ok_or_else(|| HttpError::Auth(format!("{name} holds what no header may")))?;
            headers.append(name.clone(), value);
        }
        match &self.auth {
            Auth::None => self.send(&Method::GET, uri, &headers, Bytes::new()).await,
            Auth::Header(credentials) => {
                let value = credentials.header().map_err(HttpError::Auth)?;
                headers.insert(header::AUTHORIZATION, value);
                self.send(&Method::GET, uri, &headers, Bytes::new()).await
            }
            Auth::OAuth2(source) => self.ask_with_token(uri, headers, source).await,
        }
    }

    /// Asks with a token, and once more with a new one if it is refused.
    async fn ask_with_token(
        &self,
        uri: &Uri,
        mut headers: HeaderMap,
        source: &TokenSource,
    ) -> Result<Response<Answer>, HttpError> {
        let token = source.token().await.map_err(HttpError::Auth)?;
        headers.insert(header::AUTHORIZATION, token.header.clone());
        let response = self.send(&Method::GET, uri, &headers, Bytes::new()).await?;
        if response.status() != StatusCode::UNAUTHORIZED || token.is_new {
            return Ok(response);
        }
        let token = source.replace(&token).await.map_err(HttpError::Auth)?;
        headers.insert(header::AUTHORIZATION, token.header);
        self.send(&Method::GET, uri, &headers, Bytes::new()).await
    }

    /// One request, on a kept connection if there is one. A kept connection that
    /// turns out to be closed is replaced in silence, once.
    async fn send(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Answer>, HttpError> {
        let place = Place::of(uri)?;
        if let Some(lease) = self.pool.take(&place.key) {
            let sent = self.send_on(lease, &place, method, uri, headers, body.clone());
            match sent.await {
                Err(error) if error.may_be_stale() => {}
                answer => return answer.map_err(|error| HttpError::of(uri, error)),
            }
        }
        // Connecting holds much more than waiting for the answer does.
        let stream = Box::pin(self.connector.connect(uri)).await?;
        let opened = Box::pin(self.pool.open(&place.key, stream)).await;
        let lease = opened.map_err(|error| HttpError::of(uri, ExchangeError::Http(error)))?;
        self.send_on(lease, &place, method, uri, headers, body)
            .await
            .map_err(|error| HttpError::of(uri, error))
    }

    async fn send_on(
        &self,
        lease: Lease,
        place: &Place,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Answer>, ExchangeError> {
        let stream = match lease {
            Lease::Http1(stream) => stream,
            Lease::Http2(mut sender) => {
                let mut request = Request::new(Full::new(body));
                *request.method_mut() = method.clone();
                *request.uri_mut() = uri.clone();
                *request.headers_mut() = headers.clone();
                let sent = sender.send_request(request).await;
                let sent = sent.map_err(ExchangeError::Http)?;
                return Ok(sent.map(Answer::from));
            }
        };
        let mut forwarded = None;
        let (target, headers) = if stream.is_forwarded() {
            let mut with_proxy = headers.clone();
            self.connector.forward_headers(uri, &mut with_proxy);
            (uri.to_string(), &*forwarded.insert(with_proxy))
        } else {
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            (path.to_owned(), headers)
        };
        let request = Outgoing {
            method,
            target: &target,
            host: &place.host,
            headers,
            body: &body,
        };
        exchange(stream, request, self.pool.home(&place.key)).await
    }
}

#[cfg(test)]
mod tests;
