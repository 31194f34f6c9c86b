use super::*;
use serde_json::Value as Json;
use std::sync::{Arc, Mutex};
use tracing::{debug, error_span, info, info_span, warn};

/// The lines that `work` logs, each without its time.
fn logged(format: Format, level: &str, work: impl FnOnce()) -> Vec<String> {
    let written = Arc::new(Mutex::new(Vec::new()));
    let lines = Lines {
        format: LiveFormat::new(format),
        colour: false,
        sink: Box::new({
            let written = written.clone();
            move |line| written.lock().unwrap().extend_from_slice(line)
        }),
    };
    let subscriber = tracing_subscriber::registry()
        .with(filter(level).unwrap())
        .with(lines);
    tracing::subscriber::with_default(subscriber, work);
    let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    text.lines().map(without_time).collect()
}

fn without_time(line: &str) -> String {
    let at = line.find("level").unwrap();
    let time = line[..at]
        .trim_start_matches("ts=")
        .trim_start_matches("{\"ts\":\"")
        .trim_end_matches(['"', ',', ' ']);
    assert!(humantime::parse_rfc3339(time).is_ok(), "{line}");
    line[at..].to_owned()
}

#[test]
fn a_line_is_logfmt() {
    let lines = logged(Format::Logfmt, "", || {
        info!(
            job = "api",
            failures = 3,
            ratio = 0.5,
            ok = false,
            component = "pprof",
            "target is up again"
        );
        warn!(empty = "", equals = "a=b", path = r"C:\x", "plain");
    });
    assert_eq!(
        lines,
        [
            "level=info msg=\"target is up again\" component=pprof job=api failures=3 ratio=0.5 \
             ok=false target=profile_relay::telemetry::logs::tests"
                .replace(" target=profile_relay::telemetry::logs::tests", ""),
            r#"level=warn msg=plain empty="" equals="a=b" path="C:\\x""#.to_owned(),
        ]
    );
}

#[test]
fn nothing_breaks_out_of_its_line() {
    let evil = "a\nlevel=error msg=\"forged\"\r\t\x1b[31mred\u{7f}";
    let lines = logged(Format::Logfmt, "", || info!(evil, "x\ny"));
    assert_eq!(
        lines,
        [r#"level=info msg="x\ny" evil="a\nlevel=error msg=\"forged\"\r\t\u001b[31mred\u007f""#]
    );
    let lines = logged(Format::Json, "", || info!(evil, "x\ny"));
    assert_eq!(lines.len(), 1);
    let json: Json = serde_json::from_str(&format!("{{\"{}", lines[0])).unwrap();
    assert_eq!(json["evil"], evil);
}

#[test]
fn spans_are_written_once_and_the_inside_wins() {
    let lines = logged(Format::Logfmt, "", || {
        let outer = error_span!("task", name = "scrape", job = "outer");
        let _outer = outer.enter();
        let inner = info_span!("inner", job = "inner", size = tracing::field::Empty);
        let _inner = inner.enter();
        inner.record("size", 7);
        inner.record("size", 8);
        info!(component = "pprof", "first");
        info!(job = "own", name = "n", "second");
    });
    assert_eq!(
        lines,
        [
            "level=info msg=first component=pprof job=inner size=8 task=scrape",
            "level=info msg=second job=own name=n size=8 task=scrape",
        ]
    );
}

#[test]
fn json_keeps_types() {
    let lines = logged(Format::Json, "", || {
        info!(
            n = 3,
            f = 1.5,
            nan = f64::NAN,
            yes = true,
            text = "3",
            "said \"so\""
        );
    });
    let json: Json = serde_json::from_str(&format!("{{\"{}", lines[0])).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "level": "info", "msg": "said \"so\"", "n": 3, "f": 1.5, "nan": "NaN", "yes": true,
            "text": "3",
        })
    );
}

#[test]
fn levels_are_chosen_by_module() {
    let work = || {
        debug!("own");
        debug!(target: "profile_relay::net", "net");
        info!(target: "h2", "foreign");
    };
    let lines = logged(Format::Logfmt, "profile_relay::net=debug", work);
    assert_eq!(
        lines,
        [
            "level=debug msg=net target=profile_relay::net",
            "level=info msg=foreign target=h2"
        ]
    );
    assert_eq!(logged(Format::Logfmt, "error", work).len(), 0);
    assert_eq!(logged(Format::Logfmt, "debug", work).len(), 3);
}

#[test]
fn a_wrong_level_says_what_to_write() {
    let error = filter("profile_relay=loud").unwrap_err().to_string();
    assert!(error.contains("write error, warn, info"), "{error}");
}

#[test]
fn an_error_is_written_with_its_causes() {
    let cause = std::io::Error::other("no route");
    let error = crate::pipeline::ReceiverError::Bind {
        endpoint: ":1".to_owned(),
        source: std::io::Error::other(cause),
    };
    let lines = logged(Format::Logfmt, "", || {
        let error: &dyn std::error::Error = &error;
        info!(error, ts = 1, "failed");
    });
    assert_eq!(
        lines,
        [r#"level=info msg=failed error="cannot listen on :1: no route" field_ts=1"#]
    );
}

#[test]
fn colour_is_only_in_the_level() {
    let lines = Lines {
        format: LiveFormat::new(Format::Logfmt),
        colour: true,
        sink: Box::new(|_| {}),
    };
    let line = lines.line(
        SystemTime::UNIX_EPOCH,
        Level::WARN,
        None,
        &Fields::default(),
    );
    assert_eq!(
        line,
        "ts=1970-01-01T00:00:00.000Z level=\x1b[33mwarn\x1b[0m\n"
    );
}
