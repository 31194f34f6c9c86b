//! What a table says, in words, so that two can be compared whatever their schema
//! and the order of their dictionaries.

use crate::profile::arrow::{Location, Table};
use std::fmt::Write;

/// A line for each row: labels, kind, time, value and stack.
pub(super) fn meaning(table: &Table) -> Vec<String> {
    let sets = table.label_sets(|_| true);
    (0..table.rows())
        .map(|row| {
            let mut labels: Vec<_> = table.labels_of(&sets, sets.of_row[row]).collect();
            labels.sort_unstable();
            let kind = table.kinds().nth(row).unwrap();
            let kind = &table.kinds[kind as usize];
            let [sample, unit] = kind.sample.map(|place| table.text(place));
            let [period_type, period_unit] = kind.period_type.map(|place| table.text(place));
            let producer = table.text(kind.producer);
            let temporality = table.text(kind.temporality);
            format!(
                "{labels:?} {producer} {sample}/{unit} {period_type}/{period_unit} {} {} \
                 {temporality:?} at {}: {} {}",
                kind.period,
                kind.duration,
                table.times[row],
                table.values[row],
                stack(table, table.stack_of[row])
            )
        })
        .collect()
}

/// A stack: its id and its frames, leaf first.
pub(super) fn stack(table: &Table, place: u32) -> String {
    let stack = table.stacks[place as usize];
    let mut out = String::new();
    for byte in stack.id {
        write!(out, "{byte:02x}").unwrap();
    }
    for place in table.frames(place) {
        write!(
            out,
            " <- {}",
            location(table, &table.locations[place as usize])
        )
        .unwrap();
    }
    out
}

fn location(table: &Table, location: &Location) -> String {
    let mapping = table.mappings[location.mapping as usize];
    let lines = table.lines(location).map(|lines| {
        let lines = lines.iter().map(|line| {
            let function = table.function(line).copied().unwrap_or_default();
            format!(
                "{}({}):{}:{}+{}",
                table.text(function.name),
                table.text(function.filename),
                line.line,
                line.column,
                function.start_line
            )
        });
        lines.collect::<Vec<_>>()
    });
    format!(
        "{:#x} {} {:?} {} {lines:?}",
        location.address,
        table.text(location.frame_type),
        table.text(mapping.file),
        table.text(mapping.build_id)
    )
}
