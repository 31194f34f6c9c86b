//! The body: one resource of a request.

use super::{Opened, Request, Unreadable, outline::Resource};
use crate::{
    r#gen::opentelemetry::proto::profiles::v1development::{ProfilesDictionary, ResourceProfiles},
    profile::Labels,
};
use std::{fmt, sync::Arc};

/// One `ResourceProfiles` of a request, which it shares with the others.
#[derive(Clone)]
pub struct Otlp {
    request: Arc<Request>,
    at: usize,
}

// === impl Otlp ===

impl Otlp {
    /// Resource `at` of the outline.
    pub(super) fn new(request: Arc<Request>, at: usize) -> Self {
        Self { request, at }
    }

    /// The request it came in.
    pub fn request(&self) -> &Arc<Request> {
        &self.request
    }

    /// Whether `other` came in the same request, and so shares the dictionary.
    pub fn is_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.request, &other.request)
    }

    /// The labels it arrived with.
    pub fn labels(&self) -> &Labels {
        &self.outlined().labels
    }

    /// Whether it gives an attribute of its resource more than once, or its
    /// resource: others may take it for something else than its labels say.
    pub fn is_ambiguous(&self) -> bool {
        self.outlined().repeated
    }

    /// Messages of type `Profile`.
    pub fn profiles(&self) -> u64 {
        self.outlined().profiles
    }

    /// Its share of the bytes that arrived, so that all bodies of a request
    /// together have its size.
    pub fn byte_len(&self) -> usize {
        let all = self.request.outline().content_len.max(1) as u128;
        let share = self.request.wire().len() as u128 * self.outlined().content.len() as u128;
        (share / all) as usize
    }

    /// The resource and the tables it points into. For several bodies of one
    /// request, [`Opened`] decodes the tables once.
    pub fn decode(&self) -> Result<(ResourceProfiles, Arc<ProfilesDictionary>), Unreadable> {
        let plain = self.request.plain()?;
        let opened = Opened::new(&self.request, plain)?;
        let resource = opened.resource(self)?;
        Ok((resource, Arc::new(opened.dictionary)))
    }

    pub(super) fn outlined(&self) -> &Resource {
        &self.request.outline().resources[self.at]
    }

    /// Which of its request's bodies it is, as [`Request::bodies`] counts them.
    pub fn at(&self) -> usize {
        self.at
    }
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Otlp({} of {:?})", self.at, self.request)
    }
}
