//! What became of a call that got no gRPC answer.

use tonic::Status;

/// How the transport failed, if it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportFailure {
    /// The backend itself answered.
    NotTransport,
    /// No connection was made; nothing was sent.
    NotConnected {
        /// The reason and the way out.
        cause: String,
    },
    /// The backend never looked at the request: it was closing the connection,
    /// or refused the stream. Send it again at once and in silence.
    Unsent,
    /// The connection ended while the backend had the request.
    Died {
        /// How.
        cause: String,
    },
    /// The backend broke off this one call; its connection lives on.
    Reset {
        /// How.
        cause: String,
    },
    /// No answer in time.
    Timeout,
}

/// Tells a broken transport from an answer.
pub fn classify_transport(_status: &Status) -> TransportFailure {
    TransportFailure::NotTransport
}

/// The HTTP status of an answer that was no gRPC, such as a proxy's.
pub fn http_status(_status: &Status) -> Option<u16> {
    None
}
