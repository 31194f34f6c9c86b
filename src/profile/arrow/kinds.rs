//! What makes a profile type one that queries can name.

use super::{Table, table::Kind};

// === impl Table ===

impl Table {
    /// The first profile type that no query of Parca could name, if there is one: a
    /// part of it is empty, or has characters beside letters, digits and `_`. One
    /// that is empty breaks Parca's list of profile types for everybody.
    pub fn odd_profile_type(&self) -> Option<String> {
        let is_odd = |kind: &&Kind| {
            let parts = self.parts(kind);
            let starts_with_digit = parts[0].starts_with(|first: char| first.is_ascii_digit());
            starts_with_digit || !parts.into_iter().all(is_name)
        };
        let odd = self.kinds.iter().find(is_odd)?;
        Some(self.parts(odd).join(":"))
    }

    fn parts(&self, kind: &Kind) -> [&str; 5] {
        let [sample_type, sample_unit] = kind.sample;
        let [period_type, period_unit] = kind.period_type;
        [
            kind.producer,
            sample_type,
            sample_unit,
            period_type,
            period_unit,
        ]
        .map(|place| self.text(place))
    }
}

fn is_name(text: &str) -> bool {
    let is_classic = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && text.chars().all(is_classic)
}
