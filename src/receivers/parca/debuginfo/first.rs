//! The first message of an `Upload`, before anything of it is passed on.
//!
//! It says which upload it is. A Parca ends when it is anything else.

use crate::{
    r#gen::debuginfo::{UploadInfo, UploadRequest, upload_request::Data},
    net::serve::{Failure, Kind, Patience},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prost::Message;
use tokio::time::timeout;

/// The prefix of a gRPC message.
const PREFIX: usize = 5;

/// The longest first message, in bytes.
const MAX: usize = 4 << 10;

/// The beginning of an upload.
#[derive(Debug)]
pub(super) struct First {
    /// Which one it is.
    pub(super) info: UploadInfo,
    /// The message as it came, with its prefix.
    pub(super) framed: Bytes,
    /// What came behind it.
    pub(super) rest: Bytes,
}

// === impl First ===

impl First {
    /// Reads it off `body`, whose sender may be silent for `idle`.
    pub(super) async fn read(body: &mut Incoming, idle: &Patience) -> Result<Self, Failure> {
        let mut read = BytesMut::new();
        loop {
            if let Some(end) = end(&read)?
                && read.len() >= end
            {
                let framed = read.split_to(end).freeze();
                return Ok(Self {
                    info: info(framed.slice(PREFIX..))?,
                    framed,
                    rest: read.freeze(),
                });
            }
            match timeout(idle.limit, body.frame()).await {
                Err(_) => return Err(idle.failure("nothing came from the client")),
                Ok(None) => return Err(invalid("the upload has no message")),
                Ok(Some(Err(error))) => {
                    let message = format!("the upload ended before its end: {error}");
                    return Err(Failure::new(Kind::Broken, message));
                }
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        read.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// Where the first message ends, once that is known.
fn end(read: &[u8]) -> Result<Option<usize>, Failure> {
    let Some([flag, length @ ..]) = read.first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    if *flag != 0 {
        return Err(invalid("uploads must not be compressed by gRPC"));
    }
    let length = u32::from_be_bytes(*length) as usize;
    if length > MAX {
        return Err(invalid("the upload does not begin with its info"));
    }
    Ok(Some(PREFIX + length))
}

fn info(message: Bytes) -> Result<UploadInfo, Failure> {
    match UploadRequest::decode(message).map(|request| request.data) {
        Ok(Some(Data::Info(info))) => Ok(info),
        Ok(_) => Err(invalid("the upload does not begin with its info")),
        Err(error) => Err(invalid(&format!(
            "the first message is no UploadRequest: {error}"
        ))),
    }
}

fn invalid(message: &str) -> Failure {
    Failure::new(Kind::Invalid, message)
}
