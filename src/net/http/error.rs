//! Why a target gave no answer.

use super::exchange::ExchangeError;
use crate::net::{
    connect::{ConnectError, Phase, late_alert},
    transport::{TransportFailure, of_error, of_io},
};
use http::Uri;
use std::{error::Error, fmt};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The name has no address, or nothing answers there.
    #[error("{0}")]
    Connect(ConnectError),
    /// The TLS handshake failed.
    #[error("{0}")]
    Tls(ConnectError),
    /// The proxy cannot be reached or refuses.
    #[error("{0}")]
    Proxy(ConnectError),
    /// No credentials: the token server refuses, or a file holds what no header
    /// may.
    #[error("no credentials: {0}")]
    Auth(String),
    /// More than 10 redirects.
    #[error("more than 10 redirects, the last to {0}")]
    TooManyRedirects(String),
    /// A redirect leads to no address.
    #[error("a redirect to {0:?}, which is no http address")]
    Redirect(String),
    /// The connection broke before the answer's head, or what came back is no
    /// HTTP.
    #[error("{cause}")]
    Io {
        /// The reason.
        cause: String,
        /// What it means for the request.
        failure: TransportFailure,
    },
    /// The address cannot be asked.
    #[error("{0:?} cannot be asked: write http://host:port/path or https://host:port/path")]
    Address(String),
}

// === impl HttpError ===

impl HttpError {
    pub(super) fn of(uri: &Uri, error: ExchangeError) -> Self {
        let place = uri.authority().map_or("", |authority| authority.as_str());
        let broke =
            |reason: &dyn fmt::Display| format!("the connection to {place} broke: {reason}");
        let failure = error.failure();
        let cause = match error {
            ExchangeError::Closed => format!("{place} closed the connection without an answer"),
            ExchangeError::Io(error) => match late_alert(&error) {
                Some(alert) => format!("no TLS with {place}: {alert}"),
                None => broke(&error),
            },
            ExchangeError::Http(error) if error.is_parse() || error.is_parse_too_large() => {
                format!("{place} does not answer in HTTP: is it the right port, and https or http?")
            }
            ExchangeError::Http(error) if error.is_incomplete_message() => {
                format!("{place} closed the connection within its answer")
            }
            ExchangeError::Http(error) => match error.source() {
                Some(reason) => broke(&reason),
                None => broke(&error),
            },
        };
        Self::Io { cause, failure }
    }

    /// What it means for the request. What comes before a request is sent, such
    /// as missing credentials, counts as not connected.
    pub fn failure(&self) -> TransportFailure {
        let failure = match self {
            Self::Io { failure, .. } => failure.clone(),
            _ => TransportFailure::NotConnected {
                cause: String::new(),
            },
        };
        // Its text says more.
        let cause = self.to_string();
        match failure {
            TransportFailure::NotConnected { .. } => TransportFailure::NotConnected { cause },
            TransportFailure::Died { .. } => TransportFailure::Died { cause },
            TransportFailure::Reset { .. } => TransportFailure::Reset { cause },
            other => other,
        }
    }
}

impl ExchangeError {
    fn failure(&self) -> TransportFailure {
        let died = |cause: String| TransportFailure::Died { cause };
        match self {
            Self::Closed => died("the connection was closed without an answer".into()),
            Self::Io(error) => of_io(error),
            Self::Http(error) if error.is_canceled() || error.is_closed() => {
                TransportFailure::Unsent
            }
            Self::Http(error) if error.is_parse() || error.is_parse_too_large() => {
                TransportFailure::NotConnected {
                    cause: error.to_string(),
                }
            }
            Self::Http(error) => of_error(error).unwrap_or_else(|| died(error.to_string())),
        }
    }
}

impl From<ConnectError> for HttpError {
    fn from(error: ConnectError) -> Self {
        match error.phase {
            Phase::Resolve | Phase::Connect | Phase::Greeting => Self::Connect(error),
            Phase::Proxy => Self::Proxy(error),
            Phase::Tls => Self::Tls(error),
        }
    }
}
