//! Logs on stderr, one line an event: logfmt, or JSON by choice.
//!
//! ```text
//! ts=2026-11-22T19:12:00.123Z level=info msg="target is up again" component=pprof job=api failures=3
//! ```
//!
//! The order is time, level, message, component, the event's own fields, then
//! those of the spans around it from the inside out. A key is written once: the
//! event's value wins over a span's, an inner span's over an outer one's. A span
//! field called `name` is written under the span's own name. `target` is added to
//! lines of level debug and below, and to those of other crates: it is what
//! `--log-level` filters by. No value can break out of its line.

mod fields;

use fields::{Fields, Value};
use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
    reload,
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

/// Changes how logs look and which are written.
#[derive(Clone, Debug)]
pub struct Live {
    filter: reload::Handle<EnvFilter, Registry>,
    format: LiveFormat,
}

/// The format of the lines to come.
#[derive(Clone, Debug)]
struct LiveFormat(Arc<AtomicBool>);

/// Writes events as lines.
struct Lines {
    format: LiveFormat,
    colour: bool,
    sink: Sink,
}

/// Where a line goes.
type Sink = Box<dyn Fn(&[u8]) + Send + Sync>;

/// Starts logging to stderr, of panics too.
pub fn init(options: &Options) -> Result<Live, LogError> {
    let (filter, live) = reload::Layer::new(filter(&options.level)?);
    let format = LiveFormat::new(options.format);
    let live = Live {
        filter: live,
        format: format.clone(),
    };
    let lines = Lines {
        format,
        colour: options.colour,
        // There is nobody to tell that stderr is closed.
        sink: Box::new(|line| drop(std::io::stderr().write_all(line))),
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Started)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(live)
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

// === impl Live ===

impl Live {
    /// Logs so from now on; colours stay as they are.
    pub fn set(&self, format: Format, level: &str) -> Result<(), LogError> {
        let filter = filter(level)?;
        // There is nothing to change once nobody logs any more.
        let _ = self.filter.reload(filter);
        self.format.set(format);
        Ok(())
    }
}

// === impl LiveFormat ===

impl LiveFormat {
    fn new(format: Format) -> Self {
        let live = Self(Arc::default());
        live.set(format);
        live
    }

    fn set(&self, format: Format) {
        self.0.store(format == Format::Json, Ordering::Relaxed);
    }

    fn get(&self) -> Format {
        if self.0.load(Ordering::Relaxed) {
            Format::Json
        } else {
            Format::Logfmt
        }
    }
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
            fields.replace(new);
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
        fields.put_first("component");
        let now = SystemTime::now();
        (self.sink)(
            self.line(now, *metadata.level(), message, &fields)
                .as_bytes(),
        );
    }
}

impl Lines {
    fn line(&self, now: SystemTime, level: Level, msg: Option<Value>, fields: &Fields) -> String {
        let format = self.format.get();
        let ts = humantime::format_rfc3339_millis(now);
        let (name, paint) = match level {
            Level::ERROR => ("error", "31"),
            Level::WARN => ("warn", "33"),
            Level::INFO => ("info", "32"),
            Level::DEBUG => ("debug", "34"),
            Level::TRACE => ("trace", "35"),
        };
        let msg = msg.map(|msg| (Cow::Borrowed("msg"), msg));
        let fields = msg.iter().chain(fields.iter());
        let mut line = String::with_capacity(192);
        // Writing to a String cannot fail.
        let _ = match format {
            Format::Logfmt if self.colour => {
                write!(line, "ts={ts} level=\x1b[{paint}m{name}\x1b[0m")
            }
            Format::Logfmt => write!(line, "ts={ts} level={name}"),
            Format::Json => write!(line, "{{\"ts\":\"{ts}\",\"level\":\"{name}\""),
        };
        for (key, value) in fields {
            match format {
                Format::Logfmt => value.push_logfmt(key, &mut line),
                Format::Json => value.push_json(key, &mut line),
            }
        }
        line.push_str(match format {
            Format::Logfmt => "\n",
            Format::Json => "}\n",
        });
        line
    }
}

#[cfg(test)]
mod tests;
