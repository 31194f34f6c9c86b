//! Secrets that are given or follow a file, and the headers made of them.

use super::live_file::LiveFile;
use crate::settings::Problem;
use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderValue;
use std::{path::PathBuf, sync::Arc};

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
