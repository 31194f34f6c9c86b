//! Logs on stderr, one line an event: logfmt, or JSON by choice.
//!
//! ```text
//! ts=2026-11-22T19:12:00.123Z level=info msg="target is up again" component=pprof job=api failures=3 task=scrape
//! ```
//!
//! The order is time, level, message, component, the event's own fields, then
//! those of the spans around it from the inside out. A key is written once: the
//! event's value wins over a span's, an inner span's over an outer one's. A span
//! field called `name` is written under the span's own name, so that
//! [`crate::runtime::Tasks`]' span reads `task=scrape`. `target` is added to
//! lines of level debug and below, and to those of other crates: it is what
//! `--log-level` filters by. No value can break out of its line.

use serde_json::Value as Json;
use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    io::{IsTerminal, Write as _},
    time::SystemTime,
};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

/// How logs look and which are written.
#[derive(Clone, Debug)]
pub struct Options {
    /// logfmt or JSON.
    pub format: Format,
    /// `info`, or levels by module: `warn,profile_relay::net=debug`. What it
    /// does not name is at `info`.
    pub level: String,
    /// Whether the level is coloured: see [`colour_wanted`].
    pub colour: bool,
}

/// The format of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `key=value`, quoted where needed.
    #[default]
    Logfmt,
    /// One JSON object.
    Json,
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is wrong: tell the user.
    #[error(
        "{level:?} is no log level: {source}; write error, warn, info, debug or trace, \
         or levels by module as in info,profile_relay::net=debug"
    )]
    Level {
        /// The filter.
        level: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody called [`init`] before.
    #[error("logging has already been started")]
    Started,
}

/// Writes events as lines.
struct Lines {
    format: Format,
    colour: bool,
    sink: Box<dyn Fn(&[u8]) + Send + Sync>,
}

/// The fields of a span or an event, in the order they were recorded.
#[derive(Default)]
struct Fields(Vec<(Cow<'static, str>, Value)>);

/// A value, as text or as JSON writes it.
enum Value {
    Text(String),
    Raw(String),
}

/// Starts logging to stderr, of panics too.
pub fn init(options: &Options) -> Result<(), LogError> {
    let filter = filter(&options.level)?;
    let lines = Lines {
        format: options.format,
        colour: options.colour,
        // There is nobody to tell that stderr is closed.
        sink: Box::new(|line| drop(std::io::stderr().write_all(line))),
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Started)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Whether a line on stderr may be coloured: stderr is a terminal, and
/// `NO_COLOR` is not set.
pub fn colour_wanted() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    // A later directive replaces an earlier one for the same modules.
    EnvFilter::builder()
        .parse(format!("info,{level}"))
        .map_err(|source| LogError::Level {
            level: level.to_owned(),
            source,
        })
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let payload = panic.payload();
    let reason = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason given");
    let place = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    tracing::error!(reason, place, thread, "panicked");
}

// === impl Lines ===

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        fields.rename("name", span.name());
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        let mut extensions = span.extensions_mut();
        if let Some(fields) = extensions.get_mut::<Fields>() {
            let mut new = Fields::default();
            values.record(&mut new);
            new.rename("name", span.name());
            new.0
                .into_iter()
                .for_each(|(key, value)| fields.set(key, value));
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in ctx.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.add_missing(outer);
            }
        }
        let metadata = event.metadata();
        let target = metadata.target();
        let own = target == "profile_relay" || target.starts_with("profile_relay::");
        if !own || *metadata.level() > Level::INFO {
            fields.set("target".into(), Value::Text(target.to_owned()));
        }
        let message = fields.take("message");
        fields.to_front("component");
        let now = SystemTime::now();
        (self.sink)(
            self.line(now, *metadata.level(), message, &fields)
                .as_bytes(),
        );
    }
}

impl Lines {
    fn line(&self, now: SystemTime, level: Level, msg: Option<Value>, fields: &Fields) -> String {
        let ts = humantime::format_rfc3339_millis(now);
        let (name, paint) = match level {
            Level::ERROR => ("error", "31"),
            Level::WARN => ("warn", "33"),
            Level::INFO => ("info", "32"),
            Level::DEBUG => ("debug", "34"),
            Level::TRACE => ("trace", "35"),
        };
        let msg = msg.map(|msg| (Cow::Borrowed("msg"), msg));
        let fields = msg.iter().chain(&fields.0);
        let mut line = String::with_capacity(192);
        // Writing to a String cannot fail.
        let _ = match self.format {
            Format::Logfmt if self.colour => {
                write!(line, "ts={ts} level=\x1b[{paint}m{name}\x1b[0m")
            }
            Format::Logfmt => write!(line, "ts={ts} level={name}"),
            Format::Json => write!(line, "{{\"ts\":\"{ts}\",\"level\":\"{name}\""),
        };
        for (key, value) in fields {
            match self.format {
                Format::Logfmt => value.push_logfmt(key, &mut line),
                Format::Json => value.push_json(key, &mut line),
            }
        }
        line.push_str(match self.format {
            Format::Logfmt => "\n",
            Format::Json => "}\n",
        });
        line
    }
}

// === impl Fields ===

impl Fields {
    fn position(&self, key: &str) -> Option<usize> {
        self.0.iter().position(|(known, _)| known == key)
    }

    fn set(&mut self, key: Cow<'static, str>, value: Value) {
        match self.position(&key) {
            Some(at) => self.0[at].1 = value,
            None => self.0.push((key, value)),
        }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.position(key).map(|at| self.0.remove(at).1)
    }

    fn rename(&mut self, from: &str, to: &'static str) {
        if let Some(at) = self.position(from) {
            self.0[at].0 = to.into();
        }
    }

    fn to_front(&mut self, key: &str) {
        if let Some(at) = self.position(key) {
            self.0[..=at].rotate_right(1);
        }
    }

    fn add_missing(&mut self, outer: &Self) {
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

impl Clone for Value {
    fn clone(&self) -> Self {
        match self {
            Self::Text(text) => Self::Text(text.clone()),
            Self::Raw(text) => Self::Raw(text.clone()),
        }
    }
}

impl Value {
    fn push_json(&self, key: &str, line: &mut String) {
        let _ = match self {
            Self::Text(text) => write!(line, ",{}:{}", Json::from(key), Json::from(text.as_str())),
            Self::Raw(text) => write!(line, ",{}:{text}", Json::from(key)),
        };
    }

    fn push_logfmt(&self, key: &str, line: &mut String) {
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

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
