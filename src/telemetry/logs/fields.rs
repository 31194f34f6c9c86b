//! What events and spans carry, and how a line writes it.

use serde_json::Value as Json;
use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};
use tracing::field::{Field, Visit};

/// The fields of a span or an event, in the order they were recorded.
#[derive(Default)]
pub(super) struct Fields(Vec<(Cow<'static, str>, Value)>);

/// A value, as text or as JSON writes it.
#[derive(Clone)]
pub(super) enum Value {
    Text(String),
    Raw(String),
}

// === impl Fields ===

impl Fields {
    pub(super) fn iter(&self) -> std::slice::Iter<'_, (Cow<'static, str>, Value)> {
        self.0.iter()
    }

    pub(super) fn replace(&mut self, newer: Self) {
        for (key, value) in newer.0 {
            self.set(key, value);
        }
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.0.iter().position(|(known, _)| known == key)
    }

    pub(super) fn set(&mut self, key: Cow<'static, str>, value: Value) {
        match self.position(&key) {
            Some(at) => self.0[at].1 = value,
            None => self.0.push((key, value)),
        }
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.position(key).map(|at| self.0.remove(at).1)
    }

    pub(super) fn rename(&mut self, from: &str, to: &'static str) {
        if let Some(at) = self.position(from) {
            self.0[at].0 = to.into();
        }
    }

    pub(super) fn put_first(&mut self, key: &str) {
        if let Some(at) = self.position(key) {
            self.0[..=at].rotate_right(1);
        }
    }

    pub(super) fn add_missing(&mut self, outer: &Self) {
        for (key, value) in &outer.0 {
            if self.position(key).is_none() {
                self.0.push((key.clone(), value.clone()));
            }
        }
    }

    fn record(&mut self, field: &Field, value: Value) {
        let key = match field.name() {
            // Taken by the line itself.
            "ts" | "level" | "msg" => format!("field_{}", field.name()).into(),
            name => name.strip_prefix("r#").unwrap_or(name).into(),
        };
        self.set(key, value);
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record(field, Value::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record(field, Value::Text(format!("{value:?}")));
    }

    fn record_error(&mut self, field: &Field, error: &(dyn std::error::Error + 'static)) {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        self.record(field, Value::Text(text));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.record(field, Value::Raw(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.record(field, Value::Raw(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.record(field, Value::Raw(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let text = value.to_string();
        let value = match value.is_finite() {
            true => Value::Raw(text),
            false => Value::Text(text),
        };
        self.record(field, value);
    }
}

// === impl Value ===

impl Value {
    pub(super) fn push_json(&self, key: &str, line: &mut String) {
        let _ = match self {
            Self::Text(text) => write!(line, ",{}:{}", Json::from(key), Json::from(text.as_str())),
            Self::Raw(text) => write!(line, ",{}:{text}", Json::from(key)),
        };
    }

    pub(super) fn push_logfmt(&self, key: &str, line: &mut String) {
        let (Self::Text(text) | Self::Raw(text)) = self;
        line.push(' ');
        line.push_str(key);
        line.push('=');
        let plain = |c: char| !c.is_control() && !matches!(c, ' ' | '"' | '=' | '\\');
        if !text.is_empty() && text.chars().all(plain) {
            line.push_str(text);
            return;
        }
        line.push('"');
        for c in text.chars() {
            let _ = match c {
                '"' | '\\' => write!(line, "\\{c}"),
                '\n' => line.write_str("\\n"),
                '\r' => line.write_str("\\r"),
                '\t' => line.write_str("\\t"),
                c if c.is_control() => write!(line, "\\u{:04x}", c as u32),
                c => line.write_char(c),
            };
        }
        line.push('"');
    }
}
