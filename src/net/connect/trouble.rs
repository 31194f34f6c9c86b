//! What a failed connection means, in words that say what to try.

use rustls::{AlertDescription, CertificateError};
use std::{error::Error, io};

/// Why TCP failed, and what to try.
pub(super) fn connect_trouble(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "connection refused: is it running, and on this port?".into()
        }
        io::ErrorKind::TimedOut => "no answer: is a firewall or network policy in between?".into(),
        io::ErrorKind::NotFound => "no such socket: is it running?".into(),
        _ => error.to_string(),
    }
}

/// Why a TLS handshake failed, and what to try.
pub(super) fn handshake_trouble(error: &io::Error, server_name_key: &str) -> String {
    let Some(tls) = rustls_error(error) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => {
                "the server closed the connection: does it speak TLS on this port, and does it want a client certificate?".into()
            }
            io::ErrorKind::TimedOut => "no answer within 10s".into(),
            _ => error.to_string(),
        };
    };
    match tls {
        rustls::Error::InvalidCertificate(trouble) => certificate_trouble(trouble, server_name_key),
        rustls::Error::InvalidMessage(_) => {
            "the server does not speak TLS on this port: use plaintext (http://, or insecure: true for gRPC) if that is meant".into()
        }
        rustls::Error::AlertReceived(_) => alert_trouble(tls),
        rustls::Error::PeerIncompatible(_) => {
            format!("no TLS version or cipher in common: {tls}: look at min_version and max_version")
        }
        other => other.to_string(),
    }
}

fn certificate_trouble(trouble: &CertificateError, server_name_key: &str) -> String {
    match trouble {
        CertificateError::UnknownIssuer => {
            "the server's certificate is signed by an unknown authority: set ca_file to its CA".into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired: renew it, or set this machine's clock".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet: look at this machine's clock".into()
        }
        CertificateError::NotValidForName => {
            format!("the server's certificate is for another name: set {server_name_key}")
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "the server's certificate is for {}, not for {}: set {server_name_key}",
            if presented.is_empty() { "no name".into() } else { presented.join(", ") },
            expected.to_str(),
        ),
        CertificateError::BadSignature => {
            "the server's certificate is signed by another authority of the same name: set ca_file to the current CA".into()
        }
        CertificateError::Other(reason) if reason.to_string().contains("CaUsedAsEndEntity") => {
            "the server presents a CA's certificate as its own: put that certificate into ca_file".into()
        }
        other => format!("the server's certificate is not taken: {other}"),
    }
}

fn alert_trouble(error: &rustls::Error) -> String {
    let rustls::Error::AlertReceived(alert) = error else {
        return error.to_string();
    };
    match alert {
        AlertDescription::CertificateRequired => {
            "the server wants a client certificate: set cert_file and key_file".into()
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnknownCA
        | AlertDescription::CertificateUnknown
        | AlertDescription::DecryptError => format!(
            "the server does not take the client certificate ({alert:?}): check cert_file and key_file"
        ),
        AlertDescription::CertificateExpired => {
            "the server finds the client certificate expired: renew cert_file".into()
        }
        AlertDescription::HandshakeFailure => {
            "the server refuses the handshake: it may want a client certificate (cert_file, key_file) or other TLS versions".into()
        }
        AlertDescription::ProtocolVersion => {
            "the server refuses the TLS version: look at min_version and max_version".into()
        }
        AlertDescription::NoApplicationProtocol => {
            "the server offers no HTTP/2 here, which gRPC needs: is it the right port?".into()
        }
        AlertDescription::UnrecognisedName => {
            "the server does not know the name it is asked for: set the server name".into()
        }
        other => format!("the server refuses the handshake: {other:?}"),
    }
}

fn rustls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An `io::Error` hides its inner error from `source`.
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|inner| inner as &(dyn Error + 'static));
        next = inner.or_else(|| error.source());
    }
    None
}

/// What a server's alert after the handshake means: with TLS 1.3 it refuses a
/// client certificate only then. `None` when `error` holds none.
pub(in crate::net) fn late_alert(error: &(dyn Error + 'static)) -> Option<String> {
    rustls_error(error)
        .filter(|error| matches!(error, rustls::Error::AlertReceived(_)))
        .map(alert_trouble)
}
