//! What a store bears of a pprof, as a closed list of rules.
//!
//! Each rule was measured against Parca: breaking it costs the request, the
//! profile, a later query or the whole server. [`super::check()`] finds what is
//! broken, [`super::repair()`] mends it or says which rule cannot be mended.

use std::fmt;

/// A rule that a pprof breaks.
///
/// [`Rule::as_str`] is public: it is the label `rule` of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Rule {
    /// There is no string table.
    NoStrings,
    /// Samples without any sample type.
    NoSampleTypes,
    /// The first string is not empty.
    FirstString,
    /// A string is not UTF-8.
    InvalidUtf8,
    /// A string index is negative or beyond the table.
    StringIndex,
    /// Ids of mappings, functions or locations do not count up from 1.
    Ids,
    /// A location refers to a mapping that does not exist.
    MappingReference,
    /// A line refers to a function that does not exist.
    FunctionReference,
    /// A sample refers to a location that does not exist.
    LocationReference,
    /// A line without a function.
    LineWithoutFunction,
    /// A function without name, system name, file and line.
    EmptyFunction,
    /// A sample whose number of values is not that of the sample types.
    ValueCount,
    /// A sample's label without a key.
    LabelWithoutKey,
    /// There is no period type.
    NoPeriodType,
    /// The type or the unit of a sample type or of the period type is empty.
    EmptyTypeName,
    /// Such a type or unit cannot be part of a PromQL metric name.
    UnsafeTypeName,
    /// The time is 0.
    ZeroTime,
    /// The time is before 1970.
    NegativeTime,
    /// The duration is negative.
    NegativeDuration,
}

/// What is done about a broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The profile is mended and sent.
    Repair,
    /// The profile cannot be sent.
    Drop,
}

/// A set of rules.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleSet(u32);

// === impl Rule ===

impl Rule {
    /// All rules, in the order of the reference.
    pub const ALL: &[Self] = &[
        Self::NoStrings,
        Self::NoSampleTypes,
        Self::FirstString,
        Self::InvalidUtf8,
        Self::StringIndex,
        Self::Ids,
        Self::MappingReference,
        Self::FunctionReference,
        Self::LocationReference,
        Self::LineWithoutFunction,
        Self::EmptyFunction,
        Self::ValueCount,
        Self::LabelWithoutKey,
        Self::NoPeriodType,
        Self::EmptyTypeName,
        Self::UnsafeTypeName,
        Self::ZeroTime,
        Self::NegativeTime,
        Self::NegativeDuration,
    ];

    /// The value of the label `rule`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoStrings => "no_strings",
            Self::NoSampleTypes => "no_sample_types",
            Self::FirstString => "first_string",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::StringIndex => "string_index",
            Self::Ids => "ids",
            Self::MappingReference => "mapping_reference",
            Self::FunctionReference => "function_reference",
            Self::LocationReference => "location_reference",
            Self::LineWithoutFunction => "line_without_function",
            Self::EmptyFunction => "empty_function",
            Self::ValueCount => "value_count",
            Self::LabelWithoutKey => "label_without_key",
            Self::NoPeriodType => "no_period_type",
            Self::EmptyTypeName => "empty_type_name",
            Self::UnsafeTypeName => "unsafe_type_name",
            Self::ZeroTime => "zero_time",
            Self::NegativeTime => "negative_time",
            Self::NegativeDuration => "negative_duration",
        }
    }

    /// What is wrong and what is done, for the reference.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::NoStrings => {
                "there is no string table, so nothing has a name: the profile is dropped"
            }
            Self::NoSampleTypes => {
                "samples without any sample type, so no value has a meaning: the profile is dropped"
            }
            Self::FirstString => {
                "the first string is not empty: it becomes empty, and what referred to it reads as absent"
            }
            Self::InvalidUtf8 => "a string is not UTF-8: the invalid bytes become U+FFFD",
            Self::StringIndex => {
                "a string index is negative or beyond the string table: it becomes the empty string"
            }
            Self::Ids => {
                "ids of mappings, functions or locations do not count up from 1: they are renumbered (of equal ids the first counts)"
            }
            Self::MappingReference => {
                "a location refers to a mapping that does not exist: the location keeps its address without a mapping"
            }
            Self::FunctionReference => {
                "a line refers to a function that does not exist: the line is removed"
            }
            Self::LocationReference => {
                "a sample refers to location 0 or to one that does not exist: that frame is removed from the stack"
            }
            Self::LineWithoutFunction => "a line has no function: the line is removed",
            Self::EmptyFunction => {
                "a function has neither name, system name, file nor line: it is named [unknown]"
            }
            Self::ValueCount => {
                "a sample has more or fewer values than there are sample types: the sample is removed"
            }
            Self::LabelWithoutKey => "a sample's label has no key: the label is removed",
            Self::NoPeriodType => {
                "there is no period type: it becomes the default sample type, or the first"
            }
            Self::EmptyTypeName => {
                "a type or unit of the sample types or of the period type is empty: a type becomes `unknown`, a unit `count`, and an empty period type the default sample type"
            }
            Self::UnsafeTypeName => {
                "a type or unit has characters outside [a-zA-Z0-9_], which PromQL refuses: each becomes `_`"
            }
            Self::ZeroTime => "the time is 0: it becomes the time of receipt",
            Self::NegativeTime => "the time is before 1970: it becomes the time of receipt",
            Self::NegativeDuration => {
                "the duration is negative, which no query finds: it becomes 0, that is, not a delta profile"
            }
        }
    }

    /// What is done about it.
    pub const fn action(self) -> Action {
        match self {
            Self::NoStrings | Self::NoSampleTypes => Action::Drop,
            _ => Action::Repair,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl RuleSet ===

impl RuleSet {
    /// No rule.
    pub const EMPTY: Self = Self(0);

    /// Whether no rule is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The number of rules in it.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether `rule` is in it.
    pub const fn contains(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u8) != 0
    }

    /// Adds `rule`.
    pub const fn insert(&mut self, rule: Rule) {
        self.0 |= 1 << rule as u8;
    }

    /// Adds `rule` when `broken`.
    pub const fn insert_if(&mut self, rule: Rule, broken: bool) {
        self.0 |= (broken as u32) << rule as u8;
    }

    /// Its rules, in the order of the reference.
    pub fn iter(self) -> impl Iterator<Item = Rule> {
        Rule::ALL
            .iter()
            .copied()
            .filter(move |rule| self.contains(*rule))
    }

    /// The first of its rules that no repair mends.
    pub fn fatal(self) -> Option<Rule> {
        self.iter().find(|rule| rule.action() == Action::Drop)
    }
}

impl FromIterator<Rule> for RuleSet {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        let mut set = Self::EMPTY;
        rules.into_iter().for_each(|rule| set.insert(rule));
        set
    }
}

impl fmt::Display for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, rule) in self.iter().enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            f.write_str(rule.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
