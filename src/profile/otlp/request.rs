//! One request, shared by the bodies that came in it.

use super::{Compression, Otlp, Unreadable, outline::Outline, room::Room};
use crate::{
    r#gen::opentelemetry::proto::profiles::v1development::{ProfilesDictionary, ResourceProfiles},
    profile::{Labels, pprof::with_inflated},
};
use bytes::Bytes;
use prost::Message;
use std::{fmt, ops::Range, sync::Arc};

/// One `ExportProfilesServiceRequest`, in the bytes in which it arrived.
pub struct Request {
    wire: Bytes,
    compression: Compression,
    plain_len: u64,
    outline: Outline,
}

/// A request whose structure somebody asked for.
///
/// Making one takes [`Request::plain_len`] and then [`super::Census::decoded`]
/// bytes of memory; both are to be charged before.
#[derive(Debug)]
pub struct Opened {
    plain: Bytes,
    pub(super) dictionary: ProfilesDictionary,
}

// === impl Request ===

impl Request {
    /// Reads the outer fields of a request. It is inflated if need be, to no more
    /// than `max_inflated` bytes, and the plain bytes are forgotten again.
    ///
    /// # Errors
    ///
    /// When it is larger, no protobuf down to its profiles, or of an old layout.
    pub fn read(
        wire: Bytes,
        compression: Compression,
        max_inflated: u64,
    ) -> Result<Self, Unreadable> {
        Self::read_within(wire, compression, max_inflated, &mut |_| true)
    }

    /// The same in memory that is asked for first: a few bytes of a hostile
    /// request can become many labels. `grant` is told how many more bytes the
    /// outline is about to take, beside what inflating takes; on `false` nothing
    /// more is taken and the error is [`Unreadable::NoMemory`].
    pub fn read_within(
        wire: Bytes,
        compression: Compression,
        max_inflated: u64,
        grant: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Self, Unreadable> {
        let mut outlined = |plain: &[u8]| {
            let outline = Outline::read(plain, &mut Room::new(grant))?;
            Ok((plain.len() as u64, outline))
        };
        let (plain_len, outline) = match compression {
            // Into a buffer that the thread uses again.
            Compression::Gzip if wire.starts_with(&[0x1f, 0x8b]) => {
                match with_inflated(&wire, max_inflated, &mut outlined) {
                    Ok(outlined) => outlined?,
                    // The other way names what is wrong, or finds an empty request.
                    Err(_) => outlined(&compression.inflate(&wire, max_inflated)?)?,
                }
            }
            _ => outlined(&compression.inflate(&wire, max_inflated)?)?,
        };
        Ok(Self {
            wire,
            compression,
            plain_len,
            outline,
        })
    }

    /// The bytes that arrived.
    pub fn wire(&self) -> &Bytes {
        &self.wire
    }

    /// How they are compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// The size of the plain request, in bytes.
    pub fn plain_len(&self) -> u64 {
        self.plain_len
    }

    /// Messages of type `Profile`: what is counted.
    pub fn profiles(&self) -> u64 {
        self.outline.profiles
    }

    /// The memory that it and its bodies hold, in bytes: to be charged as long as
    /// they live.
    pub fn held(&self) -> u64 {
        self.wire.len() as u64 + self.outline.held()
    }

    /// A body and its labels for each resource that has profiles.
    pub fn bodies(self: Arc<Self>) -> Vec<(Labels, Otlp)> {
        let resources = self.outline.resources.iter().enumerate();
        let body = |at| Otlp::new(self.clone(), at);
        resources
            .map(|(at, resource)| (resource.labels.clone(), body(at)))
            .collect()
    }

    /// The plain bytes, [`Request::plain_len`] of them unless they arrived so.
    pub fn plain(&self) -> Result<Bytes, Unreadable> {
        self.compression.inflate(&self.wire, self.plain_len)
    }

    pub(super) fn outline(&self) -> &Outline {
        &self.outline
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("bytes", &self.wire.len())
            .field("compression", &self.compression)
            .field("profiles", &self.outline.profiles)
            .finish_non_exhaustive()
    }
}

// === impl Opened ===

impl Opened {
    /// Decodes the dictionary of `request`, whose plain bytes `plain` are.
    pub fn new(request: &Request, plain: Bytes) -> Result<Self, Unreadable> {
        let mut dictionary = ProfilesDictionary::default();
        for piece in &request.outline.dictionary {
            dictionary
                .merge(slice(&plain, piece)?)
                .map_err(|error| Unreadable::Undecodable(error.to_string()))?;
        }
        Ok(Self { plain, dictionary })
    }

    /// The tables that all resources of the request share.
    pub fn dictionary(&self) -> &ProfilesDictionary {
        &self.dictionary
    }

    /// Decodes the resource that `otlp`, a body of the same request, is.
    pub fn resource(&self, otlp: &Otlp) -> Result<ResourceProfiles, Unreadable> {
        let content = slice(&self.plain, &otlp.outlined().content)?;
        ResourceProfiles::decode(content)
            .map_err(|error| Unreadable::Undecodable(error.to_string()))
    }
}

fn slice(plain: &Bytes, at: &Range<usize>) -> Result<Bytes, Unreadable> {
    if at.end > plain.len() {
        return Err(Unreadable::Undecodable("it changed its size".to_owned()));
    }
    Ok(plain.slice(at.clone()))
}
