//! A batch as a record of a disk queue, and back.
//!
//! The format is in `proto/profile_relay/queue/v1/record.proto`. Bodies are written
//! as they arrived and never copied: a record is a list of pieces, and what is read
//! back are slices of what was read. The bodies of one OTLP request share one piece.

use crate::{
    r#gen::queue as proto,
    pipeline::Permit,
    profile::{
        Batch, Body, Label, Labels, Origin, Profile, Transport,
        arrow::{Arrow, Schema},
        otlp::{Compression, Otlp, Request, Unreadable},
        pprof::Pprof,
    },
};
use bytes::{Buf, Bytes};
use prost::Message;
use std::{
    iter,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A batch, ready to be written.
#[derive(Clone, Debug)]
pub(in crate::pipeline) struct Record {
    /// What is written, one after the other.
    pub(super) pieces: Vec<Bytes>,
    /// What it counts for.
    pub(super) profiles: u64,
    /// The sum of the pieces.
    pub(in crate::pipeline) bytes: u64,
}

/// Why a record does not become a batch again.
#[derive(Debug, thiserror::Error)]
pub(in crate::pipeline) enum NoBatch {
    /// It is damaged, or of a version that is not known.
    #[error("{0}")]
    Damaged(String),
    /// There is no memory for it now.
    #[error("there is no memory for it now")]
    NoMemory,
}

// === impl Record ===

impl Record {
    /// The record of a batch.
    pub(in crate::pipeline) fn of(batch: &Batch) -> Self {
        let mut pieces = Vec::with_capacity(batch.profiles.len() + 1);
        pieces.push(Bytes::new());
        let mut described = proto::Batch {
            origin: Some(origin(&batch.origin)),
            ..proto::Batch::default()
        };
        let mut last: Option<&Arc<Request>> = None;
        for profile in &batch.profiles {
            let resource = match &profile.body {
                Body::Pprof(pprof) => {
                    last = None;
                    pieces.push(pprof.bytes().clone());
                    described.pieces.push(piece(pprof.bytes()));
                    None
                }
                Body::ParcaArrow(arrow) => {
                    last = None;
                    for message in iter::once(arrow.samples()).chain(arrow.stacks()) {
                        pieces.push(message.clone());
                        described.pieces.push(piece(message));
                    }
                    None
                }
                Body::Otlp(otlp) => {
                    let request = otlp.request();
                    if !last.is_some_and(|last| Arc::ptr_eq(last, request)) {
                        last = Some(request);
                        pieces.push(request.wire().clone());
                        described.pieces.push(request_piece(request));
                    }
                    u32::try_from(otlp.at()).ok()
                }
            };
            let last_piece = described.pieces.len() as u32 - 1;
            let (arrow, piece, stacks) = match profile.body.as_arrow().map(Arrow::schema) {
                None => (proto::ArrowSchema::None, last_piece, 0),
                Some(Schema::V1) => (proto::ArrowSchema::V1, last_piece - 1, last_piece),
                Some(Schema::V2) => (proto::ArrowSchema::V2, last_piece, 0),
            };
            described.profiles.push(proto::Profile {
                labels: labels(&profile.labels),
                received_unix_nano: nanos(profile.received),
                piece,
                resource,
                profiles: profile.body.profiles(),
                arrow: arrow.into(),
                stacks,
            });
        }
        let described = described.encode_to_vec();
        let mut head = Vec::with_capacity(4 + described.len());
        head.extend((described.len() as u32).to_le_bytes());
        head.extend(described);
        pieces[0] = head.into();
        Self {
            bytes: pieces.iter().map(|piece| piece.len() as u64).sum(),
            profiles: batch.count(),
            pieces,
        }
    }
}

/// The batch that a record was made of. `permit` grows by what takes memory beside
/// the payload, and is held by the batch.
pub(in crate::pipeline) fn batch(payload: Bytes, mut permit: Permit) -> Result<Batch, NoBatch> {
    let (described, bodies) = split(payload)?;
    let mut sources = Vec::with_capacity(described.pieces.len().min(bodies.len()));
    let mut rest = bodies;
    for piece in &described.pieces {
        let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
        if length > rest.len() {
            return Err(damaged("a body is not all there"));
        }
        sources.push((piece, rest.split_to(length), None));
    }
    let mut profiles = Vec::with_capacity(described.profiles.len());
    for profile in &described.profiles {
        let missing = || damaged("a body is missing");
        let stacks = sources.get(profile.stacks as usize);
        let stacks = stacks.map(|(_, bytes, _)| bytes.clone());
        let source = sources.get_mut(profile.piece as usize);
        let (piece, bytes, opened) = source.ok_or_else(missing)?;
        let body = match (profile.arrow(), profile.resource) {
            (proto::ArrowSchema::V1, _) => {
                Body::ParcaArrow(Arrow::v1(bytes.clone(), stacks.ok_or_else(missing)?))
            }
            (proto::ArrowSchema::V2, _) => Body::ParcaArrow(Arrow::v2(bytes.clone())),
            (proto::ArrowSchema::None, None) => Body::Pprof(Pprof::new(bytes.clone())),
            (proto::ArrowSchema::None, Some(at)) => {
                if opened.is_none() {
                    *opened = Some(open(piece, bytes.clone(), &mut permit)?);
                }
                let found = opened.as_ref().and_then(|all| all.get(at as usize));
                Body::Otlp(
                    found
                        .ok_or_else(|| damaged("a resource is missing"))?
                        .clone(),
                )
            }
        };
        profiles.push(Profile {
            labels: as_labels(&profile.labels),
            body,
            received: UNIX_EPOCH + Duration::from_nanos(profile.received_unix_nano),
        });
    }
    let origin = as_origin(described.origin.unwrap_or_default());
    Ok(Batch::new(origin, profiles).charged(Arc::new(permit)))
}

/// The description of a record and the bytes behind it.
fn split(mut payload: Bytes) -> Result<(proto::Batch, Bytes), NoBatch> {
    if payload.len() < 4 {
        return Err(damaged("it is too short"));
    }
    let length = payload.get_u32_le() as usize;
    if length > payload.len() {
        return Err(damaged("its description is not all there"));
    }
    let described = payload.split_to(length);
    let described = proto::Batch::decode(described).map_err(|error| damaged(&error.to_string()))?;
    Ok((described, payload))
}

/// The bodies of an OTLP request.
fn open(piece: &proto::Piece, wire: Bytes, permit: &mut Permit) -> Result<Vec<Otlp>, NoBatch> {
    let compression = match piece.compression() {
        proto::Compression::None => Compression::None,
        proto::Compression::Gzip => Compression::Gzip,
        proto::Compression::Zstd => Compression::Zstd,
    };
    let before = permit.bytes();
    if compression != Compression::None && !permit.grow(piece.plain_length) {
        return Err(NoBatch::NoMemory);
    }
    let mut grant = |more| permit.grow(more);
    let request = Request::read_within(wire, compression, piece.plain_length, &mut grant);
    let request = request.map_err(|error| match error {
        Unreadable::NoMemory => NoBatch::NoMemory,
        other => damaged(&other.to_string()),
    })?;
    let kept = request.held() - request.wire().len() as u64;
    if !permit.set(before + kept) {
        return Err(NoBatch::NoMemory);
    }
    let bodies = Arc::new(request).bodies();
    Ok(bodies.into_iter().map(|(_, otlp)| otlp).collect())
}

fn damaged(what: &str) -> NoBatch {
    NoBatch::Damaged(what.to_owned())
}

fn piece(bytes: &Bytes) -> proto::Piece {
    proto::Piece {
        length: bytes.len() as u64,
        ..proto::Piece::default()
    }
}

fn request_piece(request: &Request) -> proto::Piece {
    let compression = match request.compression() {
        Compression::None => proto::Compression::None,
        Compression::Gzip => proto::Compression::Gzip,
        Compression::Zstd => proto::Compression::Zstd,
    };
    proto::Piece {
        length: request.wire().len() as u64,
        compression: compression.into(),
        plain_length: request.plain_len(),
    }
}

fn origin(origin: &Origin) -> proto::Origin {
    let transport = match origin.transport {
        Transport::Internal => proto::Transport::Internal,
        Transport::Scrape => proto::Transport::Scrape,
        Transport::Http => proto::Transport::Http,
        Transport::Grpc => proto::Transport::Grpc,
    };
    proto::Origin {
        receiver: origin.receiver.to_string(),
        transport: transport.into(),
        peer: origin.peer.as_deref().unwrap_or_default().to_owned(),
        metadata: labels(&origin.metadata),
    }
}

fn as_origin(origin: proto::Origin) -> Origin {
    let transport = match origin.transport() {
        proto::Transport::Internal => Transport::Internal,
        proto::Transport::Scrape => Transport::Scrape,
        proto::Transport::Http => Transport::Http,
        proto::Transport::Grpc => Transport::Grpc,
    };
    Origin {
        transport,
        metadata: as_labels(&origin.metadata),
        peer: Some(origin.peer)
            .filter(|peer| !peer.is_empty())
            .map(Arc::from),
        receiver: origin.receiver.into(),
    }
}

fn labels(labels: &Labels) -> Vec<proto::Label> {
    let label = |label: &Label| proto::Label {
        name: label.name.to_string(),
        value: label.value.to_string(),
    };
    labels.iter().map(label).collect()
}

fn as_labels(labels: &[proto::Label]) -> Labels {
    labels
        .iter()
        .map(|label| (&label.name, &label.value))
        .collect()
}

/// Nanoseconds since 1970, 0 before.
fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pipeline::Budget, profile::pprof::SyntheticProfile};
    use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;

    fn read(record: &Record, limit: u64) -> Result<Batch, NoBatch> {
        let permit = Budget::new(limit).try_take(0).unwrap();
        batch(record.pieces.concat().into(), permit)
    }

    fn origin() -> Origin {
        Origin {
            receiver: "pprof/edge".into(),
            transport: Transport::Scrape,
            peer: Some("http://127.0.0.1:6060".into()),
            metadata: [("x-tenant", "a")].into_iter().collect(),
        }
    }

    fn pprofs() -> Batch {
        let profiles = (0..3).map(|seed| Profile {
            labels: [("__name__", "memory"), ("seed", &seed.to_string())]
                .into_iter()
                .collect(),
            body: Body::Pprof(Pprof::new(SyntheticProfile::heap(seed).encode())),
            received: UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789 + seed),
        });
        Batch::new(origin(), profiles.collect())
    }

    /// A request of three resources, whose second was taken out and whose third was
    /// given a label.
    fn otlp(compression: Compression) -> Batch {
        let mut request = ExportProfilesServiceRequest::default();
        for name in ["a", "b", "c"] {
            request
                .resource_profiles
                .push(resource(name, &mut request.dictionary));
        }
        let wire = compression
            .compress(&request.encode_to_vec().into())
            .unwrap();
        let request = Request::read(wire, compression, 1 << 20).unwrap();
        let profiles = Arc::new(request).bodies().into_iter();
        let mut profiles: Vec<_> = profiles
            .map(|(labels, otlp)| Profile {
                labels,
                body: Body::Otlp(otlp),
                received: UNIX_EPOCH,
            })
            .collect();
        profiles.remove(1);
        let mut edited = profiles[1].labels.edit();
        edited.set("edited", "yes");
        profiles[1].labels = edited.build();
        Batch::new(origin(), profiles)
    }

    fn resource(
        name: &str,
        dictionary: &mut Option<
            opentelemetry_proto::tonic::profiles::v1development::ProfilesDictionary,
        >,
    ) -> opentelemetry_proto::tonic::profiles::v1development::ResourceProfiles {
        use opentelemetry_proto::tonic::{
            common::v1::{AnyValue, KeyValue, any_value::Value},
            profiles::v1development::{Profile, ResourceProfiles, ScopeProfiles},
            resource::v1::Resource,
        };
        dictionary.get_or_insert_default();
        let value = Some(AnyValue {
            value: Some(Value::StringValue(name.to_owned())),
        });
        ResourceProfiles {
            resource: Some(Resource {
                attributes: vec![KeyValue {
                    key: "service.name".to_owned(),
                    value,
                    ..KeyValue::default()
                }],
                ..Resource::default()
            }),
            scope_profiles: vec![ScopeProfiles {
                profiles: vec![Profile::default(); 2],
                ..ScopeProfiles::default()
            }],
            ..ResourceProfiles::default()
        }
    }

    #[test]
    fn pprofs_come_back_as_they_were() {
        let before = pprofs();
        let record = Record::of(&before);
        assert_eq!((record.profiles, record.pieces.len()), (3, 4));
        let after = read(&record, u64::MAX).unwrap();
        assert_eq!(after.origin, before.origin);
        for (before, after) in before.profiles.iter().zip(&after.profiles) {
            assert_eq!(before.labels, after.labels);
            assert_eq!(before.received, after.received);
            let bytes = |profile: &Profile| profile.body.as_pprof().unwrap().bytes().clone();
            assert_eq!(bytes(before), bytes(after));
        }
    }

    #[test]
    fn what_agents_push_comes_back_in_its_messages() {
        let bodies = [
            Arrow::v2("one".into()),
            Arrow::v1("samples".into(), "stacks".into()),
            Arrow::v2("last".into()),
        ];
        let profiles = bodies.iter().map(|body| Profile {
            labels: [("node", "a")].into_iter().collect(),
            body: Body::ParcaArrow(body.clone()),
            received: UNIX_EPOCH,
        });
        let mut before = Batch::new(origin(), profiles.collect());
        before.profiles.insert(1, pprofs().profiles.remove(0));
        let record = Record::of(&before);
        assert_eq!((record.profiles, record.pieces.len()), (4, 6));
        let mut after = read(&record, u64::MAX).unwrap();
        assert!(after.profiles.remove(1).body.as_pprof().is_some());
        for (before, after) in bodies.iter().zip(&after.profiles) {
            let after = after.body.as_arrow().unwrap();
            assert_eq!(after.schema(), before.schema());
            assert_eq!(after.samples(), before.samples());
            assert_eq!(after.stacks(), before.stacks());
        }
    }

    #[test]
    fn a_request_is_kept_once_and_its_bodies_find_each_other_again() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let before = otlp(compression);
            let record = Record::of(&before);
            assert_eq!((record.profiles, record.pieces.len()), (4, 2));
            let after = read(&record, u64::MAX).unwrap();
            let [one, other] = &after.profiles[..] else {
                panic!("two bodies: {after:?}")
            };
            assert!(one.body.can_join(&other.body));
            assert_eq!(one.labels.get("service.name"), Some("a"));
            assert_eq!(other.labels.get("edited"), Some("yes"));
            let (one, other) = (one.body.as_otlp().unwrap(), other.body.as_otlp().unwrap());
            assert_eq!((one.at(), other.at()), (0, 2));
            assert_eq!(other.labels().get("service.name"), Some("c"));
            let request = before.profiles[0].body.as_otlp().unwrap().request();
            assert_eq!(one.request().wire(), request.wire());
            assert_eq!(one.request().compression(), compression);
        }
    }

    #[test]
    fn what_is_read_takes_its_memory_first() {
        let record = Record::of(&otlp(Compression::Gzip));
        assert!(matches!(read(&record, 100), Err(NoBatch::NoMemory)));
        let batch = read(&record, 1 << 20).unwrap();
        assert!(batch.charge.is_some());
    }

    #[test]
    fn a_damaged_record_is_an_error_wherever_it_is_cut() {
        for record in [Record::of(&pprofs()), Record::of(&otlp(Compression::None))] {
            let whole = record.pieces.concat();
            for end in 0..whole.len() {
                let permit = Budget::new(1 << 20).try_take(0).unwrap();
                let cut = Bytes::copy_from_slice(&whole[..end]);
                assert!(
                    matches!(batch(cut, permit), Err(NoBatch::Damaged(_))),
                    "{end}"
                );
            }
        }
    }
}
