//! parca-agent's Arrow → pprof: the rows of a body as pprofs that every store takes.
//!
//! It goes by way of OTLP, so that a frame is the same pprof frame whichever way it
//! came: [`super::arrow_to_otlp`] says what becomes of labels and rows,
//! [`super::otlp_to_pprof`] what becomes of that. In short:
//!
//! | of a body | becomes |
//! |---|---|
//! | labels of a row except the three below | labels of the series |
//! | producer, or `__name__` of the profile | label `__name__` |
//! | labels `cpu`, `thread_id`, `thread_name` | labels of the sample |
//! | rows of one process and producer, with equal period type, period and duration | one pprof, with a sample type for each of theirs |
//! | values of equal stack and labels | added up |
//! | timestamps | the earliest is the pprof's time; duration 0: a pprof for each |
//! | duration | the time that the rows span, where that is longer |
//! | frame type | of a frame without a mapping: one that is called after it, `[cpython]` |
//! | build id, file, address, function, line | kept |
//!
//! Lost: the time of each sample, and what is lost on the way.

use super::{
    ConvertError, Converted, OtlpOptions, PprofOptions, RequestBuilder, otlp_to_pprof::to_pprof,
};
use crate::{
    r#gen::opentelemetry::proto::{common::v1::any_value::Value, resource::v1::Resource},
    profile::{Labels, arrow::Table},
};

/// The pprofs that the rows of a body are, under the labels that the profile has by
/// now. [`PprofOptions::max_inflated`] bounds the bytes of all of them before
/// compression, and those of the request between.
pub fn arrow_to_pprof(
    labels: &Labels,
    table: Table,
    options: &PprofOptions<'_>,
) -> Result<Vec<Converted>, ConvertError> {
    let mut builder = RequestBuilder::new(OtlpOptions {
        max_bytes: options.max_inflated,
        ..OtlpOptions::default()
    });
    builder.add_arrow(labels, table)?;
    let request = builder.finish_message();
    let dictionary = request.dictionary.unwrap_or_default();
    let mut options = options.clone();
    let mut all = Vec::new();
    for resource in &request.resource_profiles {
        let labels = of_resource(resource.resource.as_ref());
        let converted = to_pprof(&labels, resource, &dictionary, &options)?;
        for pprof in &converted {
            let size = pprof.pprof.claimed_size();
            options.max_inflated = options.max_inflated.saturating_sub(size);
        }
        all.extend(converted);
    }
    Ok(all)
}

/// The labels that a resource was made of.
fn of_resource(resource: Option<&Resource>) -> Labels {
    let attributes = resource
        .into_iter()
        .flat_map(|resource| &resource.attributes);
    let labels =
        attributes.filter_map(
            |attribute| match attribute.value.as_ref()?.value.as_ref()? {
                Value::StringValue(text) => Some((&attribute.key, text)),
                _ => None,
            },
        );
    labels.collect()
}
