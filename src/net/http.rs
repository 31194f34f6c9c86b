//! The HTTP client of scraping (many targets, one request a target at a time)
//! and of exporters (one place, several requests at a time).
//!
//! Ten thousand kept connections must be cheap, so a connection that waits for
//! its next request is nothing but its socket (see [`pool`]); hyper's state and
//! buffers exist only while a request is under way. No `Accept-Encoding` is
//! sent, as Parca sends none: a profile is compressed by who made it.
//!
//! A GET that meets a connection which has ended meanwhile goes out again in
//! silence. A POST does not: the connection may have ended under it.
//!
//! Deadlines are the caller's: dropping the future, or the body, ends a request.

mod error;
mod exchange;
mod oauth2;
mod place;
mod pool;
mod put;
mod sender;
mod settings;

pub(super) use self::oauth2::Token;

pub use self::{
    error::HttpError,
    exchange::Answer,
    sender::HttpSenderSettings,
    settings::{Authorization, BasicAuth, HttpClientSettings, HttpHeader, OAuth2},
};

use self::{
    exchange::{ExchangeError, Outgoing, exchange},
    oauth2::TokenSource,
    place::{Place, is_redirect, is_same_place, join},
    pool::{Keep, Lease, Pool},
    settings::{file_of, secret_of, text_of},
};
use super::{
    connect::{Connector, Shared},
    credentials::{Credentials, LiveText, sensitive},
    proxy::ProxySettings,
    refusal::may_be_about_certificate,
    resolve::{Resolve, SystemResolver},
    tls::{LiveTls, settings::TlsSpec},
};
use crate::{
    settings::{Id, Problem},
    telemetry::Metrics,
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use http_body_util::Full;
use std::{fmt, sync::Arc, time::Duration};

/// As Go's `net/http`.
const MAX_REDIRECTS: usize = 10;

/// What scraping keeps, beside the number of its connections: a target whose
/// profiles are scraped one beside the other uses one of two nearly all the
/// time, and 300 s, prometheus/common's value, is above any sane interval.
const SCRAPES: Keep = Keep {
    streams: MAX_IDLE_CONNECTIONS,
    per_place: 2,
    idle: Duration::from_secs(300),
    pings: None,
};

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

/// A request; credentials and what goes with every request are added to it.
struct Asked<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: HeaderMap,
    body: Bytes,
    /// Whether it may have been read twice in the end.
    repeatable: bool,
}

/// What goes into `authorization`.
pub(super) enum Auth {
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
        let keep = Keep {
            streams: max_idle_connections,
            ..SCRAPES
        };
        Self::build(settings, Pool::new(keep), Arc::new(SystemResolver))
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
            live_tls("tls_config", settings.tls_config.spec(), alpn),
            &settings.proxy,
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

    /// Tells when the certificates that it uses for a component end.
    pub fn tell_ends(&self, metrics: &Metrics, component: &Id) {
        self.0.connector.tell_ends(metrics, component);
    }

    /// Asks for `uri` and follows redirects if the settings say so. An answer of
    /// any status is an answer.
    pub async fn get(&self, uri: &Uri) -> Result<Response<Answer>, HttpError> {
        let mut current = uri.clone();
        for _ in 0..=MAX_REDIRECTS {
            let trusted = is_same_place(uri, &current);
            let request = Asked {
                method: &Method::GET,
                uri: &current,
                headers: HeaderMap::with_capacity(4),
                body: Bytes::new(),
                repeatable: true,
            };
            let response = self.0.ask(request, trusted).await?;
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

    /// Sends `body` to `uri`, with `headers` beside those of the settings, and
    /// follows no redirect. An answer of any status is an answer, also one that
    /// comes before the body is out.
    pub async fn post(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Answer>, HttpError> {
        let request = Asked {
            method: &Method::POST,
            uri,
            headers,
            body,
            repeatable: false,
        };
        self.0.ask(request, true).await
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

/// TLS by checked settings; problems are below `key`.
fn live_tls(
    key: &'static str,
    spec: Result<TlsSpec, Vec<Problem>>,
    alpn: &[&str],
) -> Result<LiveTls, Vec<Problem>> {
    let below = |found: Vec<Problem>| found.into_iter().map(|p| p.below(key)).collect();
    spec.and_then(|spec| LiveTls::new(spec, alpn))
        .map_err(below)
}

/// What connects to `https` and `http` addresses.
fn connector(
    tls: Result<LiveTls, Vec<Problem>>,
    proxy: &ProxySettings,
    resolver: Arc<dyn Resolve>,
) -> Result<Connector, Vec<Problem>> {
    match (tls, proxy.proxies()) {
        (Ok(tls), Ok(proxies)) => Ok(Connector::new(Shared {
            tls: Some(tls),
            proxies,
            tunnel: false,
            timeout: CONNECT_TIMEOUT,
            resolver,
        })),
        (tls, proxies) => {
            let mut problems = tls.err().unwrap_or_default();
            problems.extend(proxies.err().unwrap_or_default());
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
    /// One answer to `request`. `trusted`: with credentials.
    async fn ask(
        &self,
        mut request: Asked<'_>,
        trusted: bool,
    ) -> Result<Response<Answer>, HttpError> {
        let headers = &mut request.headers;
        headers.insert(header::USER_AGENT, USER_AGENT);
        if !trusted {
            return self.send(&request).await;
        }
        for (name, text) in &self.headers {
            let value = sensitive(&text.current())
                .ok_or_else(|| HttpError::Auth(format!("{name} holds what no header may")))?;
            headers.append(name.clone(), value);
        }
        match &self.auth {
            Auth::None => self.send(&request).await,
            Auth::Header(credentials) => {
                let value = credentials.header().map_err(HttpError::Auth)?;
                headers.insert(header::AUTHORIZATION, value);
                self.send(&request).await
            }
            Auth::OAuth2(source) => self.ask_with_token(request, source).await,
        }
    }

    /// Asks with a token, and once more with a new one if it is refused.
    async fn ask_with_token(
        &self,
        mut request: Asked<'_>,
        source: &TokenSource,
    ) -> Result<Response<Answer>, HttpError> {
        let token = source.token().await.map_err(HttpError::Auth)?;
        let headers = &mut request.headers;
        headers.insert(header::AUTHORIZATION, token.header.clone());
        let response = self.send(&request).await?;
        if response.status() != StatusCode::UNAUTHORIZED || token.is_new {
            return Ok(response);
        }
        let token = source.replace(&token).await.map_err(HttpError::Auth)?;
        let headers = &mut request.headers;
        headers.insert(header::AUTHORIZATION, token.header);
        self.send(&request).await
    }

    /// One request, on a kept connection if there is one. A kept connection that
    /// turns out to have taken nothing is replaced in silence, once; so is one
    /// that ended under a request which may be repeated.
    async fn send(&self, request: &Asked<'_>) -> Result<Response<Answer>, HttpError> {
        let place = Place::of(request.uri)?;
        if let Some(lease) = self.pool.take(&place.key) {
            match self.send_on(lease, &place, request).await {
                Err(error) if error.may_be_stale(request.repeatable) => {}
                answer => return self.heard(&place, request, answer),
            }
        }
        // Connecting holds much more than waiting for the answer does.
        let stream = Box::pin(self.connector.connect(request.uri)).await?;
        let opened = Box::pin(self.pool.open(&place.key, stream)).await;
        let lease =
            opened.map_err(|error| HttpError::of(request.uri, ExchangeError::Http(error)))?;
        let answer = self.send_on(lease, &place, request).await;
        self.heard(&place, request, answer)
    }

    /// A certificate is shown while connecting, so after a refusal that may be about
    /// it the next request connects anew.
    fn heard(
        &self,
        place: &Place,
        request: &Asked<'_>,
        answer: Result<Response<Answer>, ExchangeError>,
    ) -> Result<Response<Answer>, HttpError> {
        let mut response = answer.map_err(|error| HttpError::of(request.uri, error))?;
        let refused = may_be_about_certificate(response.status(), response.headers());
        if refused && self.connector.shows_certificate() {
            response.body_mut().leave();
            self.pool.leave(&place.key);
        }
        Ok(response)
    }

    async fn send_on(
        &self,
        lease: Lease,
        place: &Place,
        request: &Asked<'_>,
    ) -> Result<Response<Answer>, ExchangeError> {
        let (uri, headers) = (request.uri, &request.headers);
        let stream = match lease {
            Lease::Http1(stream) => stream,
            Lease::Http2(mut sender) => {
                let mut outgoing = Request::new(Full::new(request.body.clone()));
                *outgoing.method_mut() = request.method.clone();
                *outgoing.uri_mut() = uri.clone();
                *outgoing.headers_mut() = headers.clone();
                let sent = sender.send_request(outgoing).await;
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
        let outgoing = Outgoing {
            method: request.method,
            target: &target,
            host: &place.host,
            headers,
            body: &request.body,
        };
        exchange(stream, outgoing, self.pool.home(&place.key)).await
    }
}

#[cfg(test)]
mod tests;
