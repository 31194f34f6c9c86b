//! The two text formats of `/metrics`, and which one a scraper asked for.
//!
//! prometheus-client writes OpenMetrics 1.0. Prometheus text 0.0.4 differs in
//! four ways: a counter's family carries the `_total` of its samples, an info's
//! the `_info`; the types `info` and `unknown` are called `gauge` and `untyped`;
//! there are no units and no exemplars; there is no `# EOF`.

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Text,
}

// === impl Format ===

impl Format {
    /// The format that a request's `Accept` asks for: the one of higher quality,
    /// OpenMetrics when both are equal, Prometheus text when it names neither.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let mut best = (Self::Text, 0.0);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let format = match parts.next() {
                Some("application/openmetrics-text") => Self::OpenMetrics,
                Some("text/plain" | "text/*") => Self::Text,
                _ => continue,
            };
            let mut quality = 1.0;
            let mut known = true;
            for parameter in parts {
                match parameter.split_once('=') {
                    Some(("q", value)) => quality = value.parse().unwrap_or(0.0),
                    Some(("version", version)) => known = format.has_version(version),
                    _ => {}
                }
            }
            let wins = quality > best.1 || (quality == best.1 && format == Self::OpenMetrics);
            if known && quality > 0.0 && wins {
                best = (format, quality);
            }
        }
        best.0
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    fn has_version(self, version: &str) -> bool {
        match self {
            Self::OpenMetrics => matches!(version, "1.0.0" | "0.0.1"),
            Self::Text => version == "0.0.4",
        }
    }
}

/// Rewrites OpenMetrics as prometheus-client writes it: each family's `HELP`
/// stands right before its `TYPE`.
pub(super) fn to_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = "";
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            push_family(&mut text, help, rest);
        } else if !line.starts_with("# ") {
            text.push_str(without_exemplar(line));
            text.push('\n');
        }
    }
    text
}

fn push_family(text: &mut String, help: &str, name_and_type: &str) {
    let (name, kind) = name_and_type.split_once(' ').unwrap_or((name_and_type, ""));
    let help = help.split_once(' ').map_or("", |(_, help)| help);
    let (suffix, kind) = match kind {
        "counter" => ("_total", "counter"),
        "info" => ("_info", "gauge"),
        "unknown" => ("", "untyped"),
        kind => ("", kind),
    };
    for part in ["# HELP ", name, suffix, " ", help, "\n"] {
        text.push_str(part);
    }
    for part in ["# TYPE ", name, suffix, " ", kind, "\n"] {
        text.push_str(part);
    }
}

/// The sample without the ` # {…} value` that may follow it.
fn without_exemplar(line: &str) -> &str {
    if !line.contains(" # {") {
        return line;
    }
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b' ' if !quoted && line[at..].starts_with(" # {") => return &line[..at],
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_header_chooses() {
        use Format::{OpenMetrics, Text};
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,\
             */*;q=0.2";
        for (accept, format) in [
            (None, Text),
            (Some(""), Text),
            (Some("*/*"), Text),
            (Some("text/html"), Text),
            (Some("text/plain"), Text),
            (Some("application/openmetrics-text"), OpenMetrics),
            (Some(prometheus_3), OpenMetrics),
            (
                Some("text/plain, application/openmetrics-text"),
                OpenMetrics,
            ),
            (
                Some("text/plain;q=0.9, application/openmetrics-text;q=0.5"),
                Text,
            ),
            (Some("application/openmetrics-text; q=0"), Text),
            (Some("application/openmetrics-text;version=9.0.0"), Text),
        ] {
            assert_eq!(Format::negotiate(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn content_types_are_those_of_the_specifications() {
        assert_eq!(
            Format::OpenMetrics.content_type(),
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        assert_eq!(
            Format::Text.content_type(),
            "text/plain; version=0.0.4; charset=utf-8"
        );
    }

    #[test]
    fn open_metrics_becomes_prometheus_text() {
        let open_metrics = "# HELP sent Sent things.\n# TYPE sent counter\n\
            sent_total{to=\"a # {b\"} 3 # {trace=\"x\"} 1\n\
            # HELP build What runs.\n# TYPE build info\nbuild_info{version=\"1\"} 1\n\
            # HELP odd Odd.\n# TYPE odd unknown\nodd 1\n\
            # HELP took_seconds Time.\n# TYPE took_seconds histogram\n# UNIT took_seconds seconds\n\
            took_seconds_sum 1.5\ntook_seconds_count 1\ntook_seconds_bucket{le=\"+Inf\"} 1\n# EOF\n";
        assert_eq!(
            to_text(open_metrics),
            "# HELP sent_total Sent things.\n# TYPE sent_total counter\n\
             sent_total{to=\"a # {b\"} 3\n\
             # HELP build_info What runs.\n# TYPE build_info gauge\nbuild_info{version=\"1\"} 1\n\
             # HELP odd Odd.\n# TYPE odd untyped\nodd 1\n\
             # HELP took_seconds Time.\n# TYPE took_seconds histogram\n\
             took_seconds_sum 1.5\ntook_seconds_count 1\ntook_seconds_bucket{le=\"+Inf\"} 1\n"
        );
    }
}
