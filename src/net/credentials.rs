//! Secrets that are given or follow a file, and the headers made of them.

use super::{
    http::OAuth2,
    live_file::LiveFile,
    proxy::ProxySettings,
    tls::{ClientTls, settings as tls},
};
use crate::settings::{FilePath, Problem, Secret};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// Credentials of an exporter's requests, sent as `authorization`. At most one
/// kind.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct ClientAuth {
    /// A bearer token.
    pub bearer_token: Option<Secret>,
    /// A file with a bearer token, read again when it changes.
    pub bearer_token_file: Option<FilePath>,
    /// User and password.
    pub basic: Option<ClientBasicAuth>,
    /// Tokens from an OAuth 2.0 server.
    pub oauth2: Option<ClientOAuth2>,
}

/// Tokens from an OAuth 2.0 server, by client credentials, as the Collector's
/// oauth2client has it: fetched when first needed, again before they expire, when
/// the secret's file changes, or when the backend refuses one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct ClientOAuth2 {
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: Option<Secret>,
    /// A file with the client's secret, read again when it changes.
    pub client_secret_file: Option<FilePath>,
    /// Where tokens are fetched.
    pub token_url: String,
    /// The scopes to ask for.
    pub scopes: Vec<String>,
    /// Further parameters of token requests, such as `audience`.
    pub endpoint_params: BTreeMap<String, String>,
    /// TLS of `token_url`.
    pub tls: ClientTls,
    /// The proxy to `token_url`.
    #[serde(flatten)]
    pub proxy: ProxySettings,
}

/// User and password, each given or in a file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct ClientBasicAuth {
    /// The user.
    pub username: Option<String>,
    /// A file with the user, read again when it changes.
    pub username_file: Option<FilePath>,
    /// The password.
    pub password: Option<Secret>,
    /// A file with the password, read again when it changes.
    pub password_file: Option<FilePath>,
}

/// A text that is given, or that follows a file.
#[derive(Clone)]
pub(super) enum LiveText {
    /// Given in the configuration.
    Fixed(Arc<str>),
    /// In a file.
    File(LiveFile),
}

/// What goes into `authorization`.
#[derive(Clone)]
pub(super) enum Credentials {
    /// Scheme and what follows it.
    Scheme(String, LiveText),
    /// User and password.
    Basic(LiveText, LiveText),
}

// === impl ClientAuth ===

impl ClientAuth {
    /// Whether anything is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let kinds = [
            ("bearer_token", self.bearer_token.is_some()),
            ("bearer_token_file", self.bearer_token_file.is_some()),
            ("basic", self.basic.is_some()),
            ("oauth2", self.oauth2.is_some()),
        ];
        let set: Vec<_> = kinds
            .iter()
            .filter_map(|(name, set)| set.then_some(*name))
            .collect();
        if let [first, .., last] = set[..] {
            problems.push(Problem::new(
                last,
                format!("at most one kind of credentials may be set, and {first} is set too"),
            ));
        }
        let oauth2 = self.oauth2.iter().flat_map(ClientOAuth2::problems);
        problems.extend(oauth2.map(|problem| problem.below("oauth2")));
        if let Some(basic) = &self.basic {
            if basic.username.is_some() == basic.username_file.is_some() {
                problems.push(Problem::new(
                    "basic.username",
                    "set exactly one of username and username_file",
                ));
            }
            if basic.password.is_some() == basic.password_file.is_some() {
                problems.push(Problem::new(
                    "basic.password",
                    "set exactly one of password and password_file",
                ));
            }
        }
        problems
    }

    /// The credentials that are no `oauth2`, with their files read for the first
    /// time; problems are below `auth`.
    pub(super) fn load(&self) -> Result<Option<Credentials>, Problem> {
        if let Some(basic) = &self.basic {
            let user = LiveText::load(
                "basic.username_file",
                tls::text(&basic.username),
                tls::file(&basic.username_file),
            )?;
            let password = LiveText::load(
                "basic.password_file",
                tls::secret(&basic.password),
                tls::file(&basic.password_file),
            )?;
            return Ok(Some(Credentials::Basic(user, password)));
        }
        let text = tls::secret(&self.bearer_token);
        let file = tls::file(&self.bearer_token_file);
        if text.is_none() && file.is_none() {
            return Ok(None);
        }
        let token = LiveText::load("bearer_token_file", text, file)?;
        Ok(Some(Credentials::Scheme("Bearer".into(), token)))
    }
}

// === impl ClientOAuth2 ===

impl ClientOAuth2 {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.as_oauth2().problems();
        if tls::secret(&self.client_secret).is_none()
            && tls::file(&self.client_secret_file).is_none()
        {
            problems.push(Problem::new(
                "client_secret",
                "set client_secret_file or client_secret",
            ));
        }
        let tls = self.tls.problems().into_iter();
        problems.extend(tls.map(|problem| problem.below("tls")));
        problems
    }

    /// In the words of HTTP clients, but for `tls`.
    pub(super) fn as_oauth2(&self) -> OAuth2 {
        OAuth2 {
            client_id: self.client_id.clone(),
            client_secret: self.client_secret.clone(),
            client_secret_file: self.client_secret_file.clone(),
            token_url: self.token_url.clone(),
            scopes: self.scopes.clone(),
            endpoint_params: self.endpoint_params.clone(),
            proxy: self.proxy.clone(),
            ..OAuth2::default()
        }
    }
}

// === impl LiveText ===

impl LiveText {
    /// `file`, or else `text`. A file that cannot be read is a problem at
    /// `path`.
    pub(super) fn load(
        path: &str,
        text: Option<String>,
        file: Option<PathBuf>,
    ) -> Result<Self, Problem> {
        match file {
            None => Ok(Self::Fixed(text.unwrap_or_default().into())),
            Some(file) => LiveFile::open(&file).map(Self::File).map_err(|error| {
                Problem::new(path, format!("cannot read {}: {error}", file.display()))
            }),
        }
    }

    /// The text now.
    pub(super) fn current(&self) -> Arc<str> {
        match self {
            Self::Fixed(text) => text.clone(),
            Self::File(file) => file.current(),
        }
    }
}

// === impl Credentials ===

impl Credentials {
    /// The header's value now; an error when its text fits in no header.
    pub(super) fn header(&self) -> Result<HeaderValue, String> {
        let text = match self {
            Self::Scheme(scheme, text) => format!("{scheme} {}", text.current()),
            Self::Basic(user, password) => {
                let pair = format!("{}:{}", user.current(), password.current());
                format!("Basic {}", BASE64_STANDARD.encode(pair))
            }
        };
        sensitive(&text).ok_or_else(|| "the credentials hold characters that no header may".into())
    }
}

/// A header value that does not print.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
