//! What a request must be: the rules of OTLP's dictionary and samples, those of
//! sig-profiling's `profcheck`, and what receivers insist on. It judges by
//! another implementation's messages.

use opentelemetry_proto::tonic::{
    collector::profiles::v1development::ExportProfilesServiceRequest,
    common::v1::{KeyValue, any_value},
    profiles::v1development::{Profile, ProfilesDictionary, Sample, ValueType},
};
use prost::Message;
use std::collections::BTreeSet;

/// What a request breaks.
pub(crate) fn broken(request: &ExportProfilesServiceRequest) -> Vec<String> {
    let Some(dictionary) = &request.dictionary else {
        return vec!["there is no dictionary".to_owned()];
    };
    let mut judge = Judge {
        dictionary,
        used: Default::default(),
        broken: Vec::new(),
    };
    judge.tables();
    let mut resources = BTreeSet::new();
    for resource in &request.resource_profiles {
        judge.resource(resource.resource.as_ref().map(|r| r.attributes.as_slice()));
        let encoded = resource.resource.as_ref().map(Message::encode_to_vec);
        judge.expect(resources.insert(encoded), "two resources are equal");
        for scope in &resource.scope_profiles {
            judge.expect(scope.scope.is_some(), "a scope is not set");
            for profile in &scope.profiles {
                judge.profile(profile);
            }
        }
    }
    judge.orphans();
    judge.broken
}

struct Judge<'a> {
    dictionary: &'a ProfilesDictionary,
    /// Which entries something refers to, by table.
    used: [BTreeSet<i32>; 8],
    broken: Vec<String>,
}

// The numbers of the tables' fields.
const MAPPING: usize = 1;
const LOCATION: usize = 2;
const FUNCTION: usize = 3;
const LINK: usize = 4;
const STRING: usize = 5;
const ATTRIBUTE: usize = 6;
const STACK: usize = 7;
const NAMES: [&str; 8] = [
    "",
    "mapping",
    "location",
    "function",
    "link",
    "string",
    "attribute",
    "stack",
];

impl Judge<'_> {
    fn expect(&mut self, holds: bool, what: &str) {
        if !holds {
            self.broken.push(what.to_owned());
        }
    }

    fn len(&self, table: usize) -> usize {
        let d = self.dictionary;
        [
            0,
            d.mapping_table.len(),
            d.location_table.len(),
            d.function_table.len(),
            d.link_table.len(),
            d.string_table.len(),
            d.attribute_table.len(),
            d.stack_table.len(),
        ][table]
    }

    fn refer(&mut self, table: usize, index: i32) {
        let inside = usize::try_from(index).is_ok_and(|index| index < self.len(table));
        let what = format!("{} {index} does not exist", NAMES[table]);
        self.expect(inside, &what);
        self.used[table].insert(index);
    }

    fn tables(&mut self) {
        let d = self.dictionary;
        fn encoded<M: Message>(table: &[M]) -> Vec<Vec<u8>> {
            table.iter().map(Message::encode_to_vec).collect()
        }
        let strings = d.string_table.iter().map(|s| s.clone().into_bytes());
        for (table, entries) in [
            (MAPPING, encoded(&d.mapping_table)),
            (LOCATION, encoded(&d.location_table)),
            (FUNCTION, encoded(&d.function_table)),
            (LINK, encoded(&d.link_table)),
            (STRING, strings.collect()),
            (ATTRIBUTE, encoded(&d.attribute_table)),
            (STACK, encoded(&d.stack_table)),
        ] {
            let name = NAMES[table];
            let zero = entries.first().map(Vec::as_slice);
            let is_zero = table == LINK || zero == Some(&[]);
            self.expect(is_zero, &format!("{name} 0 is not zero but {zero:?}"));
            let distinct: BTreeSet<_> = entries.iter().collect();
            let what = format!("a {name} is there twice");
            self.expect(distinct.len() == entries.len(), &what);
        }
        for link in &d.link_table {
            let sizes = (link.trace_id.len(), link.span_id.len());
            self.expect(sizes == (16, 8), "a link's ids are not 16 and 8 bytes");
        }
        let is_zero = |id: &[u8]| id.iter().all(|byte| *byte == 0);
        let first = d.link_table.first();
        let is_zero = first.is_some_and(|l| is_zero(&l.trace_id) && is_zero(&l.span_id));
        self.expect(is_zero, "link 0 is not zero");
        self.entries();
    }

    fn entries(&mut self) {
        let d = self.dictionary;
        for mapping in &d.mapping_table {
            self.refer(STRING, mapping.filename_strindex);
            self.attributes(&mapping.attribute_indices);
        }
        for location in &d.location_table {
            self.refer(MAPPING, location.mapping_index);
            self.attributes(&location.attribute_indices);
            for line in &location.lines {
                self.refer(FUNCTION, line.function_index);
            }
        }
        for function in &d.function_table {
            self.refer(STRING, function.name_strindex);
            self.refer(STRING, function.system_name_strindex);
            self.refer(STRING, function.filename_strindex);
        }
        for (place, attribute) in d.attribute_table.iter().enumerate() {
            self.refer(STRING, attribute.key_strindex);
            self.refer(STRING, attribute.unit_strindex);
            let value = attribute.value.as_ref().and_then(|v| v.value.as_ref());
            if let Some(any_value::Value::StringValueStrindex(index)) = value {
                self.refer(STRING, *index);
            }
            let is_set = attribute.key_strindex != 0 && value.is_some();
            self.expect(is_set == (place > 0), "an attribute lacks a key or a value");
        }
        for stack in &d.stack_table {
            for location in &stack.location_indices {
                self.refer(LOCATION, *location);
            }
        }
    }

    fn orphans(&mut self) {
        for (table, name) in NAMES.iter().enumerate().skip(1) {
            for index in 1..self.len(table) as i32 {
                let is_used = self.used[table].contains(&index);
                self.expect(is_used, &format!("nothing refers to {name} {index}"));
            }
        }
    }

    fn resource(&mut self, attributes: Option<&[KeyValue]>) {
        self.expect(attributes.is_some(), "a resource is not set");
        let mut keys = BTreeSet::new();
        for attribute in attributes.unwrap_or_default() {
            let is_new = !attribute.key.is_empty() && keys.insert(&attribute.key);
            self.expect(is_new, "a resource attribute's key is empty or there twice");
            let value = attribute.value.as_ref().and_then(|v| v.value.as_ref());
            let is_inline = matches!(value, Some(any_value::Value::StringValue(_)));
            let is_inline = is_inline && attribute.key_strindex == 0;
            self.expect(is_inline, "a resource attribute is no inline string");
        }
    }

    fn attributes(&mut self, indices: &[i32]) {
        let mut keys = BTreeSet::new();
        for index in indices {
            self.refer(ATTRIBUTE, *index);
            self.expect(*index > 0, "an attribute is unset");
            let attribute = self.dictionary.attribute_table.get(*index as usize);
            let is_new = attribute.is_none_or(|a| keys.insert(a.key_strindex));
            self.expect(is_new, "a key is there twice");
        }
    }

    fn value_type(&mut self, value_type: Option<ValueType>) {
        self.expect(value_type.is_some(), "a type is not set");
        let value_type = value_type.unwrap_or_default();
        self.refer(STRING, value_type.type_strindex);
        self.refer(STRING, value_type.unit_strindex);
    }

    fn profile(&mut self, profile: &Profile) {
        self.value_type(profile.sample_type);
        self.value_type(profile.period_type);
        self.attributes(&profile.attribute_indices);
        let id = &profile.profile_id;
        let is_id = id.is_empty() || (id.len() == 16 && id.iter().any(|byte| *byte != 0));
        self.expect(is_id, "a profile id is not 16 bytes");
        self.expect(profile.period >= 0, "the period is negative");
        self.expect(profile.time_unix_nano > 0, "there is no time");
        self.expect(!profile.samples.is_empty(), "there are no samples");
        let format = profile.original_payload_format.is_empty();
        let together = format == profile.original_payload.is_empty();
        self.expect(together, "a payload without format, or a format without");
        let (mut shapes, mut identities) = (BTreeSet::new(), BTreeSet::new());
        for sample in &profile.samples {
            self.sample(profile, sample);
            let is_set = |empty: bool| u8::from(!empty);
            let values = is_set(sample.values.is_empty());
            shapes.insert((values, is_set(sample.timestamps_unix_nano.is_empty())));
            let attributes: BTreeSet<i32> = sample.attribute_indices.iter().copied().collect();
            let identity = (sample.stack_index, attributes, sample.link_index);
            let is_new = identities.insert(identity);
            self.expect(is_new, "two samples are the same");
        }
        self.expect(shapes.len() <= 1, "samples have different shapes");
    }

    fn sample(&mut self, profile: &Profile, sample: &Sample) {
        self.refer(STACK, sample.stack_index);
        self.refer(LINK, sample.link_index);
        self.attributes(&sample.attribute_indices);
        let counts = (sample.values.len(), sample.timestamps_unix_nano.len());
        match counts {
            (0, 0) => self.expect(false, "a sample has neither values nor timestamps"),
            (1, 0) | (0, _) => {}
            (_, 0) => self.expect(false, "a sample has several values without timestamps"),
            (values, times) => self.expect(values == times, "values and timestamps differ"),
        }
        let end = profile.time_unix_nano.saturating_add(profile.duration_nano);
        for time in &sample.timestamps_unix_nano {
            let inside = (profile.time_unix_nano..end).contains(time);
            self.expect(inside, "a timestamp is outside the profile");
        }
    }
}
