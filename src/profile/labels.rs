//! The labels that say who was profiled.
//!
//! Names are unique and sorted bytewise; a value is never empty, because to
//! Prometheus and Parca an empty value and an absent label are the same. The
//! set is shared: a clone copies a pointer.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// The label whose value is the profile's name, `memory` or `process_cpu`.
pub const NAME: &str = "__name__";

/// A name and its value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// Any non-empty text; made classic only by an exporter that needs it.
    pub name: Box<str>,
    /// Never empty.
    pub value: Box<str>,
}

/// A sorted set of labels with unique names, cheap to clone.
#[derive(Clone, Default, Eq, PartialOrd, Ord)]
pub struct Labels(Option<Arc<[Label]>>);

/// Labels being edited.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    labels: Vec<Label>,
}

// === impl Labels ===

impl Labels {
    /// The labels, sorted by name.
    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.as_slice().iter()
    }

    /// The labels as a slice, sorted by name.
    pub fn as_slice(&self) -> &[Label] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The value of `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<&str> {
        find(self.as_slice(), name)
            .ok()
            .map(|at| &*self.as_slice()[at].value)
    }

    /// The profile's name: the value of [`NAME`].
    pub fn name(&self) -> Option<&str> {
        self.get(NAME)
    }

    /// The number of labels.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// The bytes of all names and values: what memory budgets charge.
    pub fn byte_len(&self) -> usize {
        self.iter().map(|l| l.name.len() + l.value.len()).sum()
    }

    /// A copy to edit.
    pub fn edit(&self) -> LabelsBuilder {
        LabelsBuilder {
            labels: self.as_slice().to_vec(),
        }
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            // Clones, as most that are compared.
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
            (one, other) => one.is_none() == other.is_none(),
        }
    }
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Later pairs replace earlier ones of the same name.
impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }
}

/// Prometheus' notation: `{job="api", instance="127.0.0.1:6060"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, label) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}={:?}", label.name, label.value)?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl LabelsBuilder ===

impl LabelsBuilder {
    /// The value of `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<&str> {
        find(&self.labels, name)
            .ok()
            .map(|at| &*self.labels[at].value)
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match find(&self.labels, name) {
            Ok(at) if value.is_empty() => {
                self.labels.remove(at);
            }
            Ok(at) => self.labels[at].value = value.into(),
            Err(_) if value.is_empty() => {}
            Err(at) => self.labels.insert(
                at,
                Label {
                    name: name.into(),
                    value: value.into(),
                },
            ),
        }
        self
    }

    /// Removes a label.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.set(name, "")
    }

    /// Keeps the labels whose name `keep` accepts.
    pub fn retain(&mut self, mut keep: impl FnMut(&Label) -> bool) -> &mut Self {
        self.labels.retain(|label| keep(label));
        self
    }

    /// The labels as they stand, sorted by name.
    pub fn as_slice(&self) -> &[Label] {
        &self.labels
    }

    /// The finished set.
    pub fn build(self) -> Labels {
        if self.labels.is_empty() {
            return Labels::default();
        }
        Labels(Some(self.labels.into()))
    }
}

fn find(labels: &[Label], name: &str) -> Result<usize, usize> {
    labels.binary_search_by(|label| (*label.name).cmp(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_unique_and_never_empty() {
        let labels: Labels = [("b", "2"), ("a", "1"), ("b", "3"), ("c", "")]
            .into_iter()
            .collect();
        assert_eq!(labels.to_string(), r#"{a="1", b="3"}"#);
        assert_eq!(labels.get("c"), None);
    }

    #[test]
    fn an_edit_leaves_the_original_alone() {
        let labels: Labels = [(NAME, "memory"), ("job", "api")].into_iter().collect();
        let mut edit = labels.edit();
        edit.set("job", "web").remove(NAME);
        assert_eq!(edit.build().to_string(), r#"{job="web"}"#);
        assert_eq!(labels.name(), Some("memory"));
    }
}
