//! What parca-agent pushes, for exporters that send OTLP or pprofs: one OTLP request,
//! whose bodies are as if they had come so.
//!
//! Reading it takes a multiple of its inflated bytes, which is counted beforehand
//! and charged to the process's memory until the request is written; the request
//! itself is charged like any other that is read.

use super::pprofs::NoPprof;
use crate::{
    pipeline::{Budget, NoMemory},
    profile::{
        Body, Profile,
        arrow::Arrow,
        convert::{ConvertError, OtlpOptions, RequestBuilder},
        otlp::{Compression, Request},
    },
};
use std::sync::Arc;

/// The OTLP bodies of one request that `profile`, whose body is `arrow`, is; none
/// when it has no samples. `max_inflated` bounds what is read and what is written,
/// in bytes.
pub(crate) fn as_otlp(
    profile: &Profile,
    arrow: &Arrow,
    max_inflated: u64,
    memory: &Budget,
) -> Result<Result<Vec<Profile>, NoPprof>, NoMemory> {
    let needed = match arrow.decoded(max_inflated) {
        Ok(decoded) => decoded,
        Err(unreadable) => return Ok(Err(ConvertError::from(unreadable).into())),
    };
    let _taken = memory.try_take(needed).ok_or(NoMemory { needed })?;
    Ok(convert(profile, arrow, max_inflated))
}

fn convert(profile: &Profile, arrow: &Arrow, max: u64) -> Result<Vec<Profile>, NoPprof> {
    let table = arrow.decode(max).map_err(ConvertError::from)?;
    let mut builder = RequestBuilder::new(OtlpOptions {
        max_bytes: max,
        ..OtlpOptions::default()
    });
    builder.add_arrow(&profile.labels, table)?;
    let request = Request::read(builder.finish(), Compression::None, u64::MAX)?;
    let bodies = Arc::new(request).bodies().into_iter();
    let body = |(labels, otlp)| Profile {
        labels,
        body: Body::Otlp(otlp),
        received: profile.received,
    };
    Ok(bodies.map(body).collect())
}
