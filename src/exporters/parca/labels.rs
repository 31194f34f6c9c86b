//! Makes the labels of a series such that Parca takes them and queries find
//! them.
//!
//! | label | becomes |
//! |---|---|
//! | `__name__` absent | the profile's default sample type, else its first, else `profile` ([`LabelRule::MissingName`]) |
//! | `__name__` not `[a-zA-Z_][a-zA-Z0-9_]*` | each other character `_`, a leading digit gets `_` in front ([`LabelRule::ProfileName`]); a `:` would make a type that no query finds |
//! | other names that start with `__` | removed, as Prometheus removes them; not counted, for they are internal |
//! | a name not `[a-zA-Z_][a-zA-Z0-9_]*` | the same characters `_` ([`LabelRule::LabelName`]); others are found with the quoted form of selectors only |
//! | a name that becomes one that there is | gets `_2`, `_3`, … behind ([`LabelRule::LabelCollision`]); the label that had the name keeps it |

use crate::profile::{Labels, LabelsBuilder, NAME};
use std::{borrow::Cow, fmt};

/// A rule about labels that a series broke.
///
/// [`LabelRule::as_str`] is public: it is a value of the label `rule` of a
/// metric, beside those of [`crate::profile::pprof::Rule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LabelRule {
    /// There is no `__name__`.
    MissingName,
    /// `__name__` has characters outside the classic set.
    ProfileName,
    /// A label's name has characters outside the classic set.
    LabelName,
    /// Two labels would have the same name.
    LabelCollision,
}

/// Labels that Parca takes, and what was changed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mended {
    pub(super) labels: Labels,
    /// Each rule once.
    pub(super) applied: Vec<LabelRule>,
}

// === impl LabelRule ===

impl LabelRule {
    /// All rules, in the order of the reference.
    pub const ALL: &[Self] = &[
        Self::MissingName,
        Self::ProfileName,
        Self::LabelName,
        Self::LabelCollision,
    ];

    /// The value of the label `rule`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingName => "missing_name",
            Self::ProfileName => "profile_name",
            Self::LabelName => "label_name",
            Self::LabelCollision => "label_collision",
        }
    }

    /// What is wrong and what is done, for the reference.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::MissingName => {
                "there is no `__name__`: it becomes the default sample type, else the first, else `profile`"
            }
            Self::ProfileName => {
                "`__name__` is not `[a-zA-Z_][a-zA-Z0-9_]*`: other characters become `_`"
            }
            Self::LabelName => {
                "a label's name is not `[a-zA-Z_][a-zA-Z0-9_]*`: other characters become `_`"
            }
            Self::LabelCollision => {
                "two labels would have the same name: the one whose name was changed gets `_2`, `_3`, … behind"
            }
        }
    }
}

impl fmt::Display for LabelRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Mends the labels of a series; `fallback` names a profile without a name.
/// Labels that break no rule are returned as they are, without a copy.
pub(super) fn mend(labels: &Labels, fallback: impl FnOnce() -> String) -> Mended {
    if is_fine(labels) {
        return Mended {
            labels: labels.clone(),
            applied: Vec::new(),
        };
    }
    let mut applied = Vec::new();
    let mut edit = labels.edit();
    let mut odd = Vec::new();
    edit.retain(|label| {
        let keep = label.name.as_ref() == NAME || is_classic_label(&label.name);
        if !keep && !is_internal(&label.name) {
            odd.push(label.clone());
        }
        keep && (label.name.as_ref() == NAME || !is_internal(&label.name))
    });
    name_profile(&mut edit, fallback, &mut applied);
    for label in odd {
        note(&mut applied, LabelRule::LabelName);
        let wanted = classic(&label.name);
        let free = free_name(&edit, &wanted);
        if free != wanted {
            note(&mut applied, LabelRule::LabelCollision);
        }
        edit.set(&free, &label.value);
    }
    Mended {
        labels: edit.build(),
        applied,
    }
}

/// Adds the labels of samples to those of their series. The series' own labels
/// win: a name that is taken becomes `exported_<name>`, as in Prometheus.
pub(super) fn promote(labels: &Labels, promoted: &[(String, String)]) -> Labels {
    let mut edit = labels.edit();
    for (name, value) in promoted {
        let mut name = classic(name);
        while edit.get(&name).is_some() {
            name = Cow::Owned(format!("exported_{name}"));
        }
        edit.set(&name, value);
    }
    edit.build()
}

fn is_fine(labels: &Labels) -> bool {
    labels.name().is_some_and(is_classic_label)
        && labels.iter().all(|l| {
            l.name.as_ref() == NAME || (is_classic_label(&l.name) && !is_internal(&l.name))
        })
}

fn is_internal(name: &str) -> bool {
    name.starts_with("__")
}

fn is_classic_label(name: &str) -> bool {
    let letter = |c: u8| c.is_ascii_alphabetic() || c == b'_';
    name.bytes().next().is_some_and(letter) && name.bytes().all(|c| letter(c) || c.is_ascii_digit())
}

fn classic(name: &str) -> Cow<'_, str> {
    if is_classic_label(name) {
        return Cow::Borrowed(name);
    }
    let replace = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let replaced: String = name.chars().map(replace).collect();
    if replaced.starts_with(|c: char| c.is_ascii_digit()) || replaced.is_empty() {
        return Cow::Owned(format!("_{replaced}"));
    }
    Cow::Owned(replaced)
}

fn name_profile(
    edit: &mut LabelsBuilder,
    fallback: impl FnOnce() -> String,
    applied: &mut Vec<LabelRule>,
) {
    let name = match edit.get(NAME) {
        Some(name) if is_classic_label(name) => return,
        Some(name) => {
            note(applied, LabelRule::ProfileName);
            classic(name).into_owned()
        }
        None => {
            note(applied, LabelRule::MissingName);
            let name = fallback();
            let name = if name.is_empty() { "profile" } else { &name };
            classic(name).into_owned()
        }
    };
    edit.set(NAME, &name);
}

fn free_name<'a>(edit: &LabelsBuilder, wanted: &'a str) -> Cow<'a, str> {
    let mut free = Cow::Borrowed(wanted);
    let mut count = 2;
    while edit.get(&free).is_some() {
        free = Cow::Owned(format!("{wanted}_{count}"));
        count += 1;
    }
    free
}

fn note(applied: &mut Vec<LabelRule>, rule: LabelRule) {
    if !applied.contains(&rule) {
        applied.push(rule);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    fn mended(pairs: &[(&str, &str)]) -> (String, Vec<LabelRule>) {
        let mended = mend(&labels(pairs), || "alloc-space".into());
        (mended.labels.to_string(), mended.applied)
    }

    #[test]
    fn good_labels_stay_the_same_allocation() {
        let before = labels(&[(NAME, "memory"), ("job", "api"), ("_x9", "ü \u{1f}")]);
        let after = mend(&before, || unreachable!("there is a name"));
        assert!(after.applied.is_empty());
        assert!(std::ptr::eq(before.as_slice(), after.labels.as_slice()));
    }

    #[test]
    fn a_profile_always_has_a_name() {
        let (text, applied) = mended(&[("job", "api")]);
        assert_eq!(text, r#"{__name__="alloc_space", job="api"}"#);
        assert_eq!(applied, [LabelRule::MissingName]);
        assert_eq!(
            mend(&Labels::default(), String::new).labels.name(),
            Some("profile")
        );
    }

    #[test]
    fn names_become_what_queries_can_say() {
        for (name, safe) in [
            ("a:b", "a_b"),
            ("9x", "_9x"),
            ("go-heap.µs", "go_heap__s"),
            ("🔥", "_"),
        ] {
            let (text, applied) = mended(&[(NAME, name)]);
            assert_eq!(text, format!(r#"{{__name__="{safe}"}}"#));
            assert_eq!(applied, [LabelRule::ProfileName]);
        }
        let (text, applied) = mended(&[(NAME, "m"), ("k8s.pod/name", "p"), ("1st", "x")]);
        assert_eq!(text, r#"{_1st="x", __name__="m", k8s_pod_name="p"}"#);
        assert_eq!(applied, [LabelRule::LabelName]);
    }

    #[test]
    fn internal_labels_are_left_out_without_a_word() {
        let (text, applied) = mended(&[(NAME, "m"), ("__address__", "a:1"), ("__meta-x", "y")]);
        assert_eq!(text, r#"{__name__="m"}"#);
        assert!(applied.is_empty());
    }

    #[test]
    fn who_had_a_name_keeps_it_and_nothing_is_lost() {
        let (text, applied) = mended(&[
            (NAME, "m"),
            ("a-b", "1"),
            ("a.b", "2"),
            ("a_b", "3"),
            ("a_b_2", "4"),
        ]);
        assert_eq!(
            text,
            r#"{__name__="m", a_b="3", a_b_2="4", a_b_3="1", a_b_4="2"}"#
        );
        assert_eq!(applied, [LabelRule::LabelName, LabelRule::LabelCollision]);
        let (text, _) = mended(&[(NAME, "m"), ("--name--", "x")]);
        assert_eq!(
            text, r#"{__name__="m", __name___2="x"}"#,
            "Parca takes the last of two names"
        );
    }

    #[test]
    fn labels_of_samples_never_replace_those_of_the_series() {
        let series = labels(&[(NAME, "m"), ("pod", "a"), ("exported_pod", "b")]);
        let pairs = [("pod", "c"), ("trace.id", "1")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(
            promote(&series, &pairs).to_string(),
            r#"{__name__="m", exported_exported_pod="c", exported_pod="b", pod="a", trace_id="1"}"#
        );
    }
}
