//! The keys of `auth` of a listener, in the names of the Collector's
//! authentication extensions.

use super::{Certificates, directory::compile};
use crate::settings::{ByteSize, FilePath, Problem, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who may send, and as whom. Of `bearer_token_file`, `basic` and `oidc` one that
/// fits is enough; with `tls.client_auth: optional` a client certificate is as
/// good, with `required` it is wanted beside them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct ServerAuth {
    /// A file of bearer tokens, read again when it changes: a line each, `token`
    /// or `name token`; `#` begins a comment.
    pub bearer_token_file: Option<FilePath>,
    /// User and password, over HTTP and gRPC.
    pub basic: Option<ServerBasicAuth>,
    /// Tokens of an OpenID Connect issuer.
    pub oidc: Option<OidcSettings>,
    /// What holds for whom: by the name of a token or user, a name in a client
    /// certificate, `group:<name>` for a group of `oidc.groups_claim`, or `*` for
    /// everybody. What a name says goes over what its group says, and that over
    /// `*`, key by key.
    pub identities: BTreeMap<String, IdentitySettings>,
    /// Refuses who is not in `identities` by a name or a group.
    pub only_listed: bool,
}

/// Users and passwords.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct ServerBasicAuth {
    /// Where they are.
    pub htpasswd: Htpasswd,
}

/// Users and their hashed passwords, as Apache's `htpasswd` writes them: bcrypt
/// (`-B`), apr1 (`-m`) or SHA-1 (`-s`, unsafe).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Htpasswd {
    /// A file, read again when it changes.
    pub file: Option<FilePath>,
    /// Lines beside those of the file, which go over them.
    pub inline: Option<Secret>,
}

/// Tokens of an OpenID Connect issuer, signed by one of the keys that it
/// publishes (RS, PS and ES with 256 or 384, RS and PS with 512, EdDSA). The keys
/// are kept for an hour, and fetched anew for a key that is not known. While they
/// cannot be fetched, senders are told to try again.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct OidcSettings {
    /// The issuer, as tokens name it (`iss`); its keys are found by
    /// `/.well-known/openid-configuration` below.
    pub issuer_url: String,
    /// Whom tokens must be meant for (`aud`).
    pub audience: String,
    /// A PEM file with the issuer's CA. Replaces the system's authorities.
    pub issuer_ca_path: Option<FilePath>,
    /// The claim that is the name. Default: `sub`.
    pub username_claim: Option<String>,
    /// The claim that has the groups, a text or a list of texts. Default: none.
    pub groups_claim: Option<String>,
}

/// What holds for who has a name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct IdentitySettings {
    /// Labels of all that is sent, in place of those that arrived. In a value
    /// `{name}` stands for the name, and `{common_name}`, `{dns_name}`, `{uri}` and
    /// `{email}` for the first such name of the client certificate; one that comes
    /// out empty takes the label away.
    pub labels: BTreeMap<String, String>,
    /// What may be sent, `labels` already in place; anything unless given.
    pub allow: Allow,
    /// Headers (metadata in gRPC) for exporters, in place of those that
    /// `include_metadata` lets through, as in `x-scope-orgid: "{name}"`; values are
    /// as in `labels`.
    pub metadata: BTreeMap<String, String>,
    /// Requests in a second, on average; more are refused with a wait. `0` for no
    /// limit. Default: none.
    pub max_requests_per_second: Option<u32>,
    /// The bytes of all requests under way, until they are answered; more are
    /// refused with a wait. `0` for no limit. Default: none.
    pub max_bytes_in_flight: Option<ByteSize>,
}

/// What may be sent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Allow {
    /// Labels that profiles must have, and expressions of which one must match
    /// the whole value. A request with any other profile is refused
    /// (`not_allowed`), and so is one in which a resource says something twice.
    pub labels: BTreeMap<String, Vec<String>>,
}

// === impl ServerAuth ===

impl ServerAuth {
    /// Everything that is wrong. Reads no file.
    pub(in crate::net) fn problems(&self, certificates: Certificates) -> Vec<Problem> {
        let mut problems = Vec::new();
        let asks = self.bearer_token_file.is_some() || self.basic.is_some() || self.oidc.is_some();
        if !asks && certificates == Certificates::None {
            if self.identities.is_empty() {
                problems.push(Problem::new(
                    "",
                    "it lets everybody in: set bearer_token_file, basic, oidc or \
                     tls.client_ca_file, or remove it",
                ));
            }
            let names = self.identities.keys().filter(|name| *name != "*");
            problems.extend(names.map(|name| {
                Problem::new(
                    format!("identities.{name}"),
                    "nobody is called so: set bearer_token_file, basic, oidc or tls.client_ca_file",
                )
            }));
        }
        if let Some(basic) = &self.basic
            && basic.htpasswd.file.is_none()
            && basic.htpasswd.inline.is_none()
        {
            problems.push(Problem::new(
                "basic.htpasswd",
                "there are no users: set file or inline",
            ));
        }
        let oidc = self.oidc.iter().flat_map(OidcSettings::problems);
        problems.extend(oidc.map(|problem| problem.below("oidc")));
        for (name, settings) in &self.identities {
            if name.is_empty() {
                problems.push(Problem::new("identities", "a name is empty"));
            }
            let found = compile(settings).err().unwrap_or_default();
            let path = format!("identities.{name}");
            problems.extend(found.into_iter().map(|problem| problem.below(&path)));
        }
        problems
    }
}

// === impl OidcSettings ===

impl OidcSettings {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let issuer = self.issuer_url.parse::<http::Uri>();
        match issuer {
            Ok(url) if matches!(url.scheme_str(), Some("http" | "https")) => {}
            _ => problems.push(Problem::new(
                "issuer_url",
                "no address: write https://host/path, exactly as the tokens' iss has it",
            )),
        }
        if self.audience.is_empty() {
            problems.push(Problem::new(
                "audience",
                "it must be set: without it tokens for any other service would do",
            ));
        }
        problems
    }
}
