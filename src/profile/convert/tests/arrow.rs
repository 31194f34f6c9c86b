//! What becomes of parca-agent's rows: by labels, type, time and stack, nothing is
//! lost on the way to OTLP, and nothing but the times on the way to pprof.

use super::{assert_healthy, decoded, finished, labels, options};
use crate::{
    r#gen::{
        opentelemetry::proto::{
            collector::profiles::v1development::ExportProfilesServiceRequest,
            common::v1::any_value::Value,
            profiles::v1development::{ProfilesDictionary, Sample},
        },
        pprof,
    },
    profile::{
        Labels, NAME,
        arrow::{Kind, SyntheticArrow, Table},
        convert::{
            ConvertError, Converted, OtlpOptions, PprofOptions, RequestBuilder,
            arrow_to_otlp::SAMPLE_LABELS, arrow_to_pprof,
        },
    },
};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Values by everything that is said of them.
type Totals = BTreeMap<String, i64>;

fn synthetic() -> SyntheticArrow {
    SyntheticArrow {
        rows: 300,
        stacks: 40,
        depth: 6,
        processes: 4,
        ..SyntheticArrow::busy(1)
    }
}

fn table() -> Table {
    synthetic().table()
}

/// A table whose rows are of three kinds: CPU, off-CPU and memory, which is no delta.
fn of_many_kinds() -> Table {
    let mut table = table();
    let mut text = |text: &str| table.texts_mut().intern(text.as_bytes());
    let [agent, memory] = ["parca_agent", "memory"].map(&mut text);
    let [samples, wall, space] = ["samples", "wallclock", "inuse_space"].map(&mut text);
    let [count, nanoseconds, bytes] = ["count", "nanoseconds", "bytes"].map(&mut text);
    let [cpu, heap] = ["cpu", "space"].map(&mut text);
    let delta = text("delta");
    let kinds = [
        Kind {
            producer: agent,
            sample: [samples, count],
            period_type: [cpu, nanoseconds],
            temporality: delta,
            period: 52_631_578,
            duration: 1_000_000_000,
        },
        Kind {
            producer: agent,
            sample: [wall, nanoseconds],
            period_type: [samples, count],
            temporality: delta,
            period: 0,
            duration: 1_000_000_000,
        },
        Kind {
            producer: memory,
            sample: [space, bytes],
            period_type: [heap, bytes],
            temporality: 0,
            period: 524_288,
            duration: 0,
        },
    ];
    table.set_kinds(kinds.to_vec(), |row| row % 7 / 3);
    table
}

fn request(of: &Labels, table: Table) -> ExportProfilesServiceRequest {
    let mut builder = RequestBuilder::new(OtlpOptions::default());
    let added = builder.add_arrow(of, table).unwrap();
    assert_eq!(added, builder.profiles());
    finished(builder)
}

fn pprofs(of: &Labels, table: Table) -> Vec<Converted> {
    let converted = arrow_to_pprof(of, table, &options()).unwrap();
    converted.iter().for_each(assert_healthy);
    converted
}

/// What the rows of a table say; times only when they are asked for.
fn said(table: &Table, times: bool, is_pprof: bool) -> Totals {
    let sets = table.label_sets(|_| true);
    let mut totals = Totals::new();
    for (row, kind) in table.kinds().enumerate() {
        let kind = table.kind(kind);
        let all: Vec<_> = table.labels_of(&sets, sets.of_row[row]).collect();
        let part = |of_sample: bool| {
            let part = all
                .iter()
                .filter(|(name, _)| SAMPLE_LABELS.contains(name) == of_sample);
            let part: Labels = part.copied().collect();
            part.to_string()
        };
        let [sample, unit] = kind.sample.map(|place| table.text(place));
        let frames: Vec<String> = table
            .frames(table.stack_of()[row])
            .map(|place| frame(table, place, is_pprof))
            .collect();
        // A state at a time has no time of its own.
        let time = if times {
            table.times()[row].to_string()
        } else {
            String::new()
        };
        let line = format!(
            "{} {} {sample}/{unit} {} {time} {} {frames:?}",
            part(false),
            table.text(kind.producer),
            kind.period,
            part(true),
        );
        *totals.entry(line).or_default() += table.values()[row];
    }
    totals
}

fn frame(table: &Table, place: u32, is_pprof: bool) -> String {
    let location = table.location(place).unwrap();
    let mapping = table.mapping(location.mapping);
    let kind = table.text(location.frame_type);
    let (kind, file) = match (is_pprof, mapping.file) {
        (true, 0) => (String::new(), format!("[{kind}]")),
        (true, file) => (String::new(), table.text(file).to_owned()),
        (false, file) => (kind.to_owned(), table.text(file).to_owned()),
    };
    let lines = table
        .lines(location)
        .unwrap_or_default()
        .iter()
        .map(|line| {
            let function = table.function(line).unwrap();
            let (name, file) = (table.text(function.name), table.text(function.filename));
            format!("{name} {file}:{}", line.line)
        });
    let build_id = table.text(mapping.build_id);
    let lines: Vec<String> = lines.collect();
    format!("{kind} {file} {build_id} {:#x} {lines:?}", location.address)
}

/// What a request says.
fn read(request: &ExportProfilesServiceRequest) -> Totals {
    let dictionary = request.dictionary.as_ref().unwrap();
    let text = |at: i32| dictionary.string_table[at as usize].as_str();
    let mut totals = Totals::new();
    for resource in &request.resource_profiles {
        let of: Labels = resource
            .resource
            .iter()
            .flat_map(|resource| &resource.attributes)
            .map(|a| {
                (
                    a.key.clone(),
                    super::string(a.value.as_ref().unwrap()).unwrap(),
                )
            })
            .collect();
        for scope in &resource.scope_profiles {
            let name = &scope.scope.as_ref().unwrap().name;
            for profile in &scope.profiles {
                let sample_type = profile.sample_type.unwrap();
                let [kind, unit] = [sample_type.type_strindex, sample_type.unit_strindex].map(text);
                let end = profile.time_unix_nano + profile.duration_nano;
                for sample in &profile.samples {
                    let (labels, frames) = sample_of(dictionary, sample);
                    let times = match sample.timestamps_unix_nano.as_slice() {
                        [] => &[profile.time_unix_nano][..],
                        times => times,
                    };
                    assert_eq!(times.len(), sample.values.len());
                    for (time, value) in times.iter().zip(&sample.values) {
                        assert!((profile.time_unix_nano..=end).contains(time));
                        let line = format!(
                            "{of} {name} {kind}/{unit} {} {time} {labels} {frames:?}",
                            profile.period
                        );
                        *totals.entry(line).or_default() += value;
                    }
                }
            }
        }
    }
    totals
}

fn sample_of(dictionary: &ProfilesDictionary, sample: &Sample) -> (Labels, Vec<String>) {
    let text = |at: i32| dictionary.string_table[at as usize].as_str();
    let attribute = |at: &i32| {
        let attribute = &dictionary.attribute_table[*at as usize];
        let value = attribute.value.as_ref().unwrap();
        let value = match value.value.as_ref().unwrap() {
            Value::StringValue(text) => text.as_str(),
            Value::StringValueStrindex(at) => text(*at),
            other => panic!("{other:?}"),
        };
        (text(attribute.key_strindex), value)
    };
    let stack = &dictionary.stack_table[sample.stack_index as usize];
    let frames = stack.location_indices.iter().map(|at| {
        let location = &dictionary.location_table[*at as usize];
        let mapping = &dictionary.mapping_table[location.mapping_index as usize];
        let one = |attributes: &[i32], name: &str| {
            let mut all = attributes.iter().map(attribute);
            all.find(|(key, _)| *key == name)
                .map_or(String::new(), |(_, value)| value.to_owned())
        };
        let kind = one(&location.attribute_indices, "profile.frame.type");
        let build_id = one(
            &mapping.attribute_indices,
            "process.executable.build_id.gnu",
        );
        let lines = location.lines.iter().map(|line| {
            let function = &dictionary.function_table[line.function_index as usize];
            let (name, file) = (
                text(function.name_strindex),
                text(function.filename_strindex),
            );
            format!("{name} {file}:{}", line.line)
        });
        let lines: Vec<String> = lines.collect();
        let file = text(mapping.filename_strindex);
        format!("{kind} {file} {build_id} {:#x} {lines:?}", location.address)
    });
    let labels = sample.attribute_indices.iter().map(attribute).collect();
    (labels, frames.collect())
}

/// What pprofs say.
fn read_pprofs(converted: &[Converted]) -> Totals {
    let mut totals = Totals::new();
    for converted in converted {
        let profile = decoded(converted);
        let text = |at: i64| profile.string_table[at as usize].as_str();
        let mut of = converted.labels.edit();
        of.remove(NAME);
        let (of, name) = (of.build(), converted.labels.name().unwrap());
        for sample in &profile.sample {
            let labels = sample
                .label
                .iter()
                .map(|label| (text(label.key), text(label.str)));
            let labels: Labels = labels.collect();
            let frames: Vec<String> = sample
                .location_id
                .iter()
                .map(|id| pprof_frame(&profile, *id))
                .collect();
            for (value, sample_type) in sample.value.iter().zip(&profile.sample_type) {
                let [kind, unit] = [sample_type.r#type, sample_type.unit].map(text);
                let line = format!(
                    "{of} {name} {kind}/{unit} {}  {labels} {frames:?}",
                    profile.period
                );
                if *value != 0 {
                    *totals.entry(line).or_default() += value;
                }
            }
        }
    }
    totals
}

fn pprof_frame(profile: &pprof::Profile, id: u64) -> String {
    let text = |at: i64| profile.string_table[at as usize].as_str();
    let location = profile.location.iter().find(|l| l.id == id).unwrap();
    let mapping = profile.mapping.iter().find(|m| m.id == location.mapping_id);
    let mapping = mapping.copied().unwrap_or_default();
    let lines = location.line.iter().map(|line| {
        let function = profile.function.iter().find(|f| f.id == line.function_id);
        let function = function.unwrap();
        format!(
            "{} {}:{}",
            text(function.name),
            text(function.filename),
            line.line
        )
    });
    let lines: Vec<String> = lines.collect();
    let (file, build_id) = (text(mapping.filename), text(mapping.build_id));
    format!(" {file} {build_id} {:#x} {lines:?}", location.address)
}

#[test]
fn every_value_keeps_its_labels_type_time_and_stack() {
    for table in [table, of_many_kinds] {
        let has = table().constant_labels();
        assert_eq!(read(&request(&has, table())), said(&table(), true, false));
    }
}

#[test]
fn totals_keep_labels_type_and_stack_as_pprof() {
    for table in [table, of_many_kinds] {
        let has = table().constant_labels();
        let found = read_pprofs(&pprofs(&has, table()));
        assert_eq!(found, said(&table(), false, true));
    }
}

#[test]
fn a_process_is_a_resource_and_a_type_is_a_profile() {
    let request = request(&table().constant_labels(), table());
    assert_eq!(request.resource_profiles.len(), 4);
    for resource in &request.resource_profiles {
        let keys = resource.resource.iter().flat_map(|r| &r.attributes);
        let keys: Vec<&str> = keys.map(|a| a.key.as_str()).collect();
        assert_eq!(keys, ["comm", "node"]);
        assert_eq!(resource.scope_profiles.len(), 1);
        assert_eq!(resource.scope_profiles[0].profiles.len(), 1);
    }
    let many = of_many_kinds();
    let pprofs = pprofs(&many.constant_labels(), many);
    // The two delta types of a process have different periods.
    let names = pprofs.iter().map(|p| p.labels.name().unwrap());
    assert!(names.clone().any(|name| name == "memory"));
    assert!(names.clone().any(|name| name == "parca_agent"));
    for converted in pprofs {
        let profile = decoded(&converted);
        let is_memory = converted.labels.name() == Some("memory");
        assert_eq!(profile.duration_nanos == 0, is_memory);
    }
}

#[test]
fn what_a_processor_did_to_labels_is_done_to_rows() {
    let of = labels(&[("model", "apps"), ("comm", "all"), (NAME, "agents")]);
    let mut expected = table();
    expected.overlay(&of);
    let request = request(&of, table());
    // Nothing is left to tell processes apart by, and `node` is gone.
    assert_eq!(request.resource_profiles.len(), 1);
    assert_eq!(read(&request), said(&expected, true, false));
    let pprofs = pprofs(&of, table());
    assert_eq!(pprofs.len(), 1);
    assert_eq!(pprofs[0].labels, of);
}

#[test]
fn bodies_and_pprofs_share_a_dictionary() {
    let mut builder = RequestBuilder::new(OtlpOptions::default());
    let one = builder
        .add_arrow(&table().constant_labels(), table())
        .unwrap();
    let len = builder.encoded_len();
    let other = builder
        .add_arrow(&table().constant_labels(), table())
        .unwrap();
    assert_eq!(one, other);
    let grown = builder.encoded_len() - len;
    assert!(grown < len, "{grown} of {len}");
    let doubled = read(&finished(builder));
    let expected = said(&table(), true, false);
    let expected = expected.into_iter().map(|(line, value)| (line, 2 * value));
    assert_eq!(doubled, expected.collect());
}

#[test]
fn what_is_too_large_leaves_the_request_as_it_was() {
    let of = table().constant_labels();
    let whole = {
        let mut builder = RequestBuilder::new(OtlpOptions::default());
        builder.add_arrow(&of, table()).unwrap();
        builder.encoded_len() as u64
    };
    for max in [0, 1_000, whole / 2, whole - 1] {
        let mut builder = RequestBuilder::new(OtlpOptions {
            max_bytes: max,
            ..OtlpOptions::default()
        });
        let before = builder.encoded_len();
        let error = builder.add_arrow(&of, table()).unwrap_err();
        assert_eq!(error, ConvertError::TooLarge { max });
        assert_eq!((builder.encoded_len(), builder.profiles()), (before, 0));
    }
    let too_small = PprofOptions {
        max_inflated: whole / 2,
        ..options()
    };
    let error = arrow_to_pprof(&of, table(), &too_small).unwrap_err();
    assert!(matches!(error, ConvertError::TooLarge { .. }));
}

#[test]
fn a_body_without_rows_is_no_profile() {
    let none = SyntheticArrow {
        rows: 0,
        ..synthetic()
    };
    let mut builder = RequestBuilder::new(OtlpOptions::default());
    assert_eq!(
        builder.add_arrow(&Labels::default(), none.table()).unwrap(),
        0
    );
    assert!(finished(builder).resource_profiles.is_empty());
    assert!(pprofs(&Labels::default(), none.table()).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_is_measured_arrives(
        seed: u64,
        rows in 1u32..120,
        stacks in 1u32..30,
        depth in 0u32..12,
        processes in 1u32..6,
    ) {
        let synthetic = SyntheticArrow { seed, rows, stacks, depth, processes, time: 7 };
        let has = synthetic.table().constant_labels();
        let request = request(&has, synthetic.table());
        prop_assert_eq!(read(&request), said(&synthetic.table(), true, false));
        let pprofs = pprofs(&has, synthetic.table());
        prop_assert_eq!(read_pprofs(&pprofs), said(&synthetic.table(), false, true));
    }
}
