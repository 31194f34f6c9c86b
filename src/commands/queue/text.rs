//! Tables for people.

use crate::settings::ByteSize;
use std::{fmt, time::SystemTime};

/// Columns as wide as what is in them; numbers are not set apart.
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
    notes: Vec<String>,
}

/// How long ago, to the second.
pub(super) fn age(time: SystemTime) -> String {
    let age = time.elapsed().unwrap_or_default();
    let seconds = std::time::Duration::from_secs(age.as_secs());
    humantime::format_duration(seconds).to_string()
}

/// Bytes with the largest unit that keeps two digits.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = UNITS.iter().find(|(_, shift)| bytes >> shift >= 1);
    match unit {
        Some((name, shift)) => format!("{:.1}{name}", bytes as f64 / (1u64 << shift) as f64),
        None => ByteSize::new(bytes).to_string(),
    }
}

// === impl Table ===

impl<const N: usize> Table<N> {
    pub(super) fn new(head: [&str; N]) -> Self {
        Self {
            rows: vec![head.map(str::to_owned)],
            notes: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// A line below the table.
    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        };
        let widths: [usize; N] = std::array::from_fn(width);
        for row in &self.rows {
            let cells = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(f, "{}", line.trim_end())?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}
