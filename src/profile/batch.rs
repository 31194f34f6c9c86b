//! A batch: what one call of a receiver hands over.

use super::{Labels, arrow::Arrow, otlp::Otlp, pprof::Pprof};
use std::{sync::Arc, time::SystemTime};

/// What one receiver call hands over.
///
/// The memory a batch stands for is charged by whoever received it; the charge
/// is returned when the last clone of `charge` is dropped.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What was measured; order is the sender's.
    pub profiles: Vec<Profile>,
    /// Where it came from.
    pub origin: Origin,
    /// Held for as long as any part of the batch is in memory.
    pub charge: Option<Arc<dyn Charge>>,
}

/// A share of a memory budget, returned when it is dropped.
pub trait Charge: std::fmt::Debug + Send + Sync {
    /// Says that it is returned because what it was charged for is kept on disk,
    /// and not because that was delivered.
    fn spilled(&self) {}
}

/// Who sent a batch, and what of its request is kept for routing and
/// re-emission. Batches of different origin metadata never share a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The receiver's id, `pprof` or `otlp/edge`.
    pub receiver: Arc<str>,
    /// How it came.
    pub transport: Transport,
    /// The other side's address or URL.
    pub peer: Option<Arc<str>>,
    /// Tenant and allow-listed headers, names in lower case.
    pub metadata: Labels,
}

/// How a batch came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Made inside this process.
    #[default]
    Internal,
    /// Fetched from a target.
    Scrape,
    /// Pushed over HTTP.
    Http,
    /// Pushed over gRPC.
    Grpc,
}

/// One body and the labels it belongs to.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Who was profiled; [`super::NAME`] is the profile's name.
    pub labels: Labels,
    /// What was measured, as it arrived.
    pub body: Body,
    /// When it arrived.
    pub received: SystemTime,
}

/// The measurement in the encoding in which it arrived.
#[derive(Clone, Debug)]
pub enum Body {
    /// A pprof, gzip or plain.
    Pprof(Pprof),
    /// One resource of an OTLP request.
    Otlp(Otlp),
    /// What parca-agent pushes.
    ParcaArrow(Arrow),
}

// === impl Batch ===

impl Batch {
    /// A batch without a memory charge.
    pub fn new(origin: Origin, profiles: Vec<Profile>) -> Self {
        Self {
            profiles,
            origin,
            charge: None,
        }
    }

    /// The same batch, holding `charge` for as long as it lives.
    pub fn charged(mut self, charge: Arc<dyn Charge>) -> Self {
        self.charge = Some(charge);
        self
    }

    /// The profiles that it counts for.
    pub fn count(&self) -> u64 {
        self.profiles.iter().map(|p| p.body.profiles()).sum()
    }

    /// The encoded bytes of all profiles and their labels.
    pub fn byte_len(&self) -> u64 {
        self.profiles.iter().map(Profile::byte_len).sum()
    }
}

// === impl Profile ===

impl Profile {
    /// The encoded bytes of body and labels: what queues and budgets count.
    pub fn byte_len(&self) -> u64 {
        (self.body.byte_len() + self.labels.byte_len()) as u64
    }
}

// === impl Body ===

impl Body {
    /// The encoded bytes.
    pub fn byte_len(&self) -> usize {
        match self {
            Self::Pprof(pprof) => pprof.bytes().len(),
            Self::Otlp(otlp) => otlp.byte_len(),
            Self::ParcaArrow(arrow) => arrow.byte_len(),
        }
    }

    /// The profiles that it counts for: one pprof, one Arrow profile, or each
    /// OTLP `Profile`.
    pub fn profiles(&self) -> u64 {
        match self {
            Self::Pprof(_) | Self::ParcaArrow(_) => 1,
            Self::Otlp(otlp) => otlp.profiles(),
        }
    }

    /// The pprof that it is, if it is one.
    pub fn as_pprof(&self) -> Option<&Pprof> {
        match self {
            Self::Pprof(pprof) => Some(pprof),
            Self::Otlp(_) | Self::ParcaArrow(_) => None,
        }
    }

    /// The OTLP resource that it is, if it is one.
    pub fn as_otlp(&self) -> Option<&Otlp> {
        match self {
            Self::Otlp(otlp) => Some(otlp),
            Self::Pprof(_) | Self::ParcaArrow(_) => None,
        }
    }

    /// What parca-agent pushed, if it is that.
    pub fn as_arrow(&self) -> Option<&Arrow> {
        match self {
            Self::ParcaArrow(arrow) => Some(arrow),
            Self::Pprof(_) | Self::Otlp(_) => None,
        }
    }

    /// Whether both can leave in one request: OTLP bodies share the dictionary of
    /// the request they came in, and an Arrow profile is a request.
    pub fn can_join(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pprof(_), Self::Pprof(_)) => true,
            (Self::Otlp(one), Self::Otlp(other)) => one.is_of(other),
            _ => false,
        }
    }
}
