//! Who sends, and what that allows: credentials of a listener's clients.
//!
//! ```text
//! authorization ─▶ Tokens, Basic, Oidc ─┐
//!                                       ├─▶ name, groups ─▶ Directory ─▶ Identity
//! client certificate ───────────────────┘                   identities   labels, rules, limits
//! ```
//!
//! - [`settings`]: the keys of `auth`
//! - [`tokens`], [`basic`] ([`htpasswd`]), [`oidc`] ([`jwt`], [`jwks`]): the methods;
//!   one that fits is enough
//! - [`directory`]: which rules hold for whom
//! - [`identity`]: what is stamped on what somebody sends, and what is refused
//! - [`meter`]: how much somebody may send
//!
//! Nothing here prints what a client sent as credentials, and nothing is let in
//! because something could not be asked: that is [`Refused::Unavailable`].

mod apr1;
mod basic;
mod directory;
mod htpasswd;
mod identity;
mod jwks;
mod jwt;
mod meter;
mod oidc;
mod settings;
mod tag;
mod template;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tokens;

pub use self::{
    identity::Identity,
    settings::{Allow, Htpasswd, IdentitySettings, OidcSettings, ServerAuth, ServerBasicAuth},
};

use self::{basic::Basic, directory::Directory, oidc::Oidc, tokens::Tokens};
use super::tls::CertificateNames;
use crate::settings::Problem;
use http::{HeaderMap, HeaderValue, header};
use std::{fmt, sync::Arc, time::Duration};

/// What certificates of clients are worth on a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::net) enum Certificates {
    /// None are asked for.
    #[default]
    None,
    /// Whoever has none is not connected; other credentials are wanted beside it.
    Required,
    /// One is as good as other credentials.
    Optional,
}

/// Tells who sends.
pub(in crate::net) struct Authenticator {
    tokens: Option<Tokens>,
    basic: Option<Basic>,
    oidc: Option<Oidc>,
    certificates: Certificates,
    directory: Directory,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::net) enum Refused {
    /// There are no credentials.
    Missing,
    /// There are, and they are wrong.
    Wrong(&'static str),
    /// It is known who it is, and nothing is allowed to them.
    NotListed,
    /// It cannot be told now.
    Unavailable {
        /// Why.
        message: String,
        /// When it may be known.
        after: Option<Duration>,
    },
}

// === impl Authenticator ===

impl Authenticator {
    /// Reads the files that `settings` name for the first time.
    pub(super) fn load(
        settings: &ServerAuth,
        certificates: Certificates,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = settings.problems(certificates);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut keep = |found: Vec<Problem>| problems.extend(found);
        let tokens = settings.bearer_token_file.as_ref();
        let tokens = tokens.map(|file| Tokens::open(&file.0)).transpose();
        let tokens = tokens.map_err(|problem| keep(vec![problem]));
        let basic = settings.basic.as_ref().map(Basic::load).transpose();
        let basic = basic.map_err(|problem| keep(vec![problem.below("basic")]));
        let oidc = settings.oidc.as_ref().map(Oidc::new).transpose();
        let oidc = oidc.map_err(|found| {
            keep(found.into_iter().map(|p| p.below("oidc")).collect());
        });
        let directory = Directory::new(settings).map_err(keep);
        match (tokens, basic, oidc, directory) {
            (Ok(tokens), Ok(basic), Ok(oidc), Ok(directory)) => Ok(Self {
                tokens,
                basic,
                oidc,
                certificates,
                directory,
            }),
            _ => Err(problems),
        }
    }

    /// Who sends a request with these headers over a connection with this
    /// certificate, which was verified.
    pub(super) async fn identify(
        &self,
        headers: &HeaderMap,
        certificate: Option<&CertificateNames>,
    ) -> Result<Arc<Identity>, Refused> {
        let asks = self.tokens.is_some() || self.basic.is_some() || self.oidc.is_some();
        if !asks {
            return match certificate {
                Some(names) => self.directory.certificate(names),
                None => self.directory.anonymous(),
            };
        }
        let refused = match self.by_header(headers).await {
            Ok(identity) => return Ok(identity),
            Err(refused) => refused,
        };
        match certificate {
            Some(names) if self.certificates == Certificates::Optional => {
                self.directory.certificate(names)
            }
            _ => Err(refused),
        }
    }

    async fn by_header(&self, headers: &HeaderMap) -> Result<Arc<Identity>, Refused> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Err(Refused::Missing);
        };
        let Some((scheme, rest)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
            return Err(Refused::Wrong("the header authorization cannot be read"));
        };
        let rest = rest.trim_start();
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.by_bearer(rest).await;
        }
        match &self.basic {
            Some(basic) if scheme.eq_ignore_ascii_case("basic") => {
                let user = basic.user(rest).await?;
                self.directory.named(&[&user], &[])
            }
            _ => Err(Refused::Wrong("this kind of credentials is not taken here")),
        }
    }

    async fn by_bearer(&self, token: &str) -> Result<Arc<Identity>, Refused> {
        if let Some(known) = self.tokens.as_ref().and_then(|tokens| tokens.name(token)) {
            return match &known {
                Some(name) => self.directory.named(&[name], &[]),
                None => self.directory.anonymous(),
            };
        }
        match &self.oidc {
            Some(oidc) => {
                let user = oidc.user(token).await?;
                self.directory.named(&[&user.name], &user.groups)
            }
            None if self.tokens.is_some() => Err(Refused::Wrong("the bearer token is not known")),
            None => Err(Refused::Wrong("this kind of credentials is not taken here")),
        }
    }

    /// What is told over HTTP to who brings no good credentials.
    pub(super) fn challenges(&self) -> impl Iterator<Item = HeaderValue> {
        let bearer = self.tokens.is_some() || self.oidc.is_some();
        let bearer = bearer.then(|| HeaderValue::from_static("Bearer realm=\"profile-relay\""));
        let basic = self
            .basic
            .is_some()
            .then(|| HeaderValue::from_static("Basic realm=\"profile-relay\", charset=\"UTF-8\""));
        bearer.into_iter().chain(basic)
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").finish_non_exhaustive()
    }
}

// === impl Refused ===

impl Refused {
    /// The label `reason` of what is counted.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "no_credentials",
            Self::Wrong(_) => "wrong_credentials",
            Self::NotListed => "not_listed",
            Self::Unavailable { .. } => "auth_unavailable",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there are no credentials: send the header authorization"),
            Self::Wrong(why) => f.write_str(why),
            Self::NotListed => {
                f.write_str("who sends this is not among auth.identities: nothing is taken")
            }
            Self::Unavailable { message, .. } => f.write_str(message),
        }
    }
}
