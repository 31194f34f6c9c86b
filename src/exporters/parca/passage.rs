//! Whether an OTLP resource may go to a Parca as OTLP.
//!
//! Parca's OTLP intake, up to the newest release known (0.28), ends under
//! requests that the specification allows, and gives each frame the function
//! before its own in the table. So only what passes every check below goes out
//! as OTLP; all else is converted to pprof.
//!
//! | check | else |
//! |---|---|
//! | resource, scopes with a name that can be asked for, sample types and period types are set | the process ends, or the profile list breaks |
//! | no frame has a line | wrong names, and queries that end the process |
//! | one value a sample, or timestamps in its time | the process ends, or the request is refused |
//! | tables begin with their zero value, and no index points beyond them | the process ends, or the request is refused |
//! | attribute keys are unique and have values; ids have their lengths | the request is refused |

use crate::r#gen::opentelemetry::proto::{
    common::v1::KeyValue,
    profiles::v1development::{
        KeyValueAndUnit, Link, Location, Mapping, Profile, ProfilesDictionary, ResourceProfiles,
        Sample, ScopeProfiles, ValueType,
    },
};
use std::collections::HashSet;

/// Why a resource cannot go as OTLP.
pub(super) type Unfit = &'static str;

/// Whether a resource can be sent with these tables.
pub(super) fn check(
    resource: &ResourceProfiles,
    dictionary: &ProfilesDictionary,
) -> Result<(), Unfit> {
    // The resource first: it is smaller, and often at fault.
    check_resource(resource, dictionary)?;
    check_dictionary(dictionary)
}

fn check_dictionary(dictionary: &ProfilesDictionary) -> Result<(), Unfit> {
    let first = [
        dictionary.mapping_table.first() == Some(&Mapping::default()),
        dictionary.location_table.first() == Some(&Location::default()),
        dictionary.function_table.first() == Some(&Default::default()),
        // Ids of zeros, which the specification prefers, are refused.
        dictionary.link_table.first() == Some(&Link::default()),
        dictionary
            .string_table
            .first()
            .is_some_and(String::is_empty),
        dictionary.attribute_table.first() == Some(&KeyValueAndUnit::default()),
        dictionary.stack_table.first() == Some(&Default::default()),
    ];
    require(!first.contains(&false), "a table lacks its zero entry")?;
    let lines = dictionary
        .location_table
        .iter()
        .any(|l| !l.lines.is_empty());
    require(!lines, "frames have lines")?;
    let strings = dictionary.string_table.len();
    let attributes = dictionary.attribute_table.len();
    let mappings = dictionary.mapping_table.iter().all(|mapping| {
        within(mapping.filename_strindex, strings) && all(&mapping.attribute_indices, attributes)
    });
    let locations = dictionary.location_table.iter().all(|location| {
        within(location.mapping_index, dictionary.mapping_table.len())
            && all(&location.attribute_indices, attributes)
    });
    let functions = dictionary.function_table.iter().all(|function| {
        let texts = [
            function.name_strindex,
            function.system_name_strindex,
            function.filename_strindex,
        ];
        all(&texts, strings)
    });
    let keys = dictionary
        .attribute_table
        .iter()
        .all(|attribute| all(&[attribute.key_strindex, attribute.unit_strindex], strings));
    let stacks = dictionary
        .stack_table
        .iter()
        .all(|stack| all(&stack.location_indices, dictionary.location_table.len()));
    require(
        mappings && locations && functions && keys && stacks,
        "an index points beyond a table",
    )?;
    let links = dictionary.link_table.iter().skip(1);
    let sound = |link: &Link| link.trace_id.len() == 16 && link.span_id.len() == 8;
    require(links.into_iter().all(sound), "a link's ids have no length")
}

fn check_resource(
    resource: &ResourceProfiles,
    dictionary: &ProfilesDictionary,
) -> Result<(), Unfit> {
    let attributes = resource.resource.as_ref().ok_or("it has no resource")?;
    check_attributes(&attributes.attributes)?;
    require(
        !resource.scope_profiles.is_empty(),
        "it has no scope_profiles",
    )?;
    let scopes = &mut resource.scope_profiles.iter();
    scopes.try_for_each(|scope| check_scope(scope, dictionary))
}

fn check_scope(scope: &ScopeProfiles, dictionary: &ProfilesDictionary) -> Result<(), Unfit> {
    let name = scope.scope.as_ref().map(|scope| scope.name.as_str());
    let name = name.ok_or("a scope is unset")?;
    let digit = name.starts_with(|first: char| first.is_ascii_digit());
    require(
        !digit,
        "a scope's name makes a profile's name that no query can ask for",
    )?;
    let profiles = &mut scope.profiles.iter();
    profiles.try_for_each(|profile| check_profile(profile, dictionary))
}

fn check_attributes(attributes: &[KeyValue]) -> Result<(), Unfit> {
    let mut keys = HashSet::with_capacity(attributes.len());
    let sound = attributes
        .iter()
        .all(|a| !a.key.is_empty() && a.value.is_some() && keys.insert(&a.key));
    require(
        sound,
        "a resource attribute has no key or no value, or is there twice",
    )
}

fn check_profile(profile: &Profile, dictionary: &ProfilesDictionary) -> Result<(), Unfit> {
    check_type(profile.sample_type.as_ref(), dictionary)?;
    check_type(profile.period_type.as_ref(), dictionary)?;
    require(profile.period >= 0, "a period is negative")?;
    require(!profile.samples.is_empty(), "a profile has no samples")?;
    let id = &profile.profile_id;
    let known = id.len() == 16 && id.iter().any(|byte| *byte != 0);
    require(id.is_empty() || known, "a profile's id is no id")?;
    require(
        all(&profile.attribute_indices, dictionary.attribute_table.len()),
        "an index points beyond a table",
    )?;
    let samples = &mut profile.samples.iter();
    samples.try_for_each(|sample| check_sample(sample, profile, dictionary))
}

fn check_type(
    value_type: Option<&ValueType>,
    dictionary: &ProfilesDictionary,
) -> Result<(), Unfit> {
    const UNSET: Unfit = "a sample type or a period type is unset or has no PromQL name";
    let value_type = value_type.ok_or(UNSET)?;
    for index in [value_type.type_strindex, value_type.unit_strindex] {
        let index = usize::try_from(index).map_err(|_| UNSET)?;
        let text = dictionary.string_table.get(index).ok_or(UNSET)?;
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        require(!text.is_empty() && text.bytes().all(is_word), UNSET)?;
    }
    Ok(())
}

fn check_sample(
    sample: &Sample,
    profile: &Profile,
    dictionary: &ProfilesDictionary,
) -> Result<(), Unfit> {
    let indices = within(sample.stack_index, dictionary.stack_table.len())
        && within(sample.link_index, dictionary.link_table.len())
        && all(&sample.attribute_indices, dictionary.attribute_table.len());
    require(indices, "an index points beyond a table")?;
    let times = &sample.timestamps_unix_nano;
    if times.is_empty() {
        return require(sample.values.len() == 1, "a sample has not one value");
    }
    let end = profile.time_unix_nano.saturating_add(profile.duration_nano);
    let in_time = times
        .iter()
        .all(|time| (profile.time_unix_nano..=end).contains(time));
    let paired = sample.values.is_empty() || sample.values.len() == times.len();
    require(in_time && paired, "a sample's timestamps do not fit")
}

fn require(holds: bool, otherwise: Unfit) -> Result<(), Unfit> {
    if holds { Ok(()) } else { Err(otherwise) }
}

fn within(index: i32, len: usize) -> bool {
    usize::try_from(index).is_ok_and(|index| index < len)
}

fn all(indices: &[i32], len: usize) -> bool {
    indices.iter().all(|index| within(*index, len))
}

#[cfg(test)]
mod tests;
