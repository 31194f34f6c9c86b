//! How pipelines join components.

use super::{faults, loaded};
use crate::settings::{ByteSize, LogFormat, LogLevel};

#[test]
fn everything_wrong_with_a_graph_is_reported_at_once() {
    let text = "recievers: {}
receivers:
  listen/a: {endpoint: '127.0.0.1:7070'}
  listen/b: {endpoint: '0.0.0.0:7070'}
  listen/c: {endpoint: 'localhost:13133'}
  listen/d: {endpoint: '127.0.0.1:0'}
  listen/e: {endpoint: '127.0.0.1:0'}
  send:
  lisen:
  'listen/':
exporters:
  send/eu:
  send/us:
  debug:
processors: [pass]
extensions:
  storage:
service:
  extensions: [storag]
  pipelines:
    profiles:
      receivers: [listen/a, listen/b, listen/c, listen/d, listen/e, listen/a]
      processors: [pass]
      exporters: [send/uk, debug, kafka]
    profiles/empty:
    traces:
      receivers: [listen/a]
      exporters: [debug]
    cpu/x: {receivers: [], exporters: [debug]}
";
    insta::assert_snapshot!(faults(text).join("\n"), @"");
}

#[test]
fn something_must_run() {
    for text in [
        "",
        "# nothing\n",
        "exporters: {send: }",
        "service: {pipelines: }",
        "service:",
    ] {
        let faults = faults(text);
        assert_eq!(faults.len(), 1, "{text}: {faults:?}");
        assert!(
            faults[0].contains("service.pipelines: there is no pipeline"),
            "{faults:?}"
        );
    }
}

#[test]
fn settings_of_the_service() {
    let service = |service: &str| {
        format!(
            "receivers: {{listen: }}\nexporters: {{debug: }}\nservice:\n  pipelines:\n    \
             profiles: {{receivers: [listen], exporters: [debug]}}\n{service}"
        )
    };
    let defaults = loaded(&service("")).unwrap().settings.service;
    assert_eq!(defaults.admin.endpoint, "127.0.0.1:13133");
    assert_eq!(defaults.shutdown_timeout.get().as_secs(), 20);
    assert_eq!(defaults.memory.limit, None);
    let text = "  memory: {limit: 256MiB}\n  shutdown_timeout: 1m\n  \
                telemetry: {logs: {level: debug, format: json}}\n";
    let given = loaded(&service(text)).unwrap().settings.service;
    assert_eq!(given.memory.limit, Some(ByteSize::new(256 << 20)));
    assert_eq!(given.telemetry.logs.level, LogLevel::Debug);
    assert_eq!(given.telemetry.logs.format, LogFormat::Json);
    let text =
        "  admin: {endpoint: 13133}\n  memory: {limt: 1}\n  telemetry: {logs: {level: warning}}\n";
    insta::assert_snapshot!(faults(&service(text)).join("\n"), @"");
    assert_eq!(
        faults(&service("  admin: {endpoint: 13133}\n")),
        [
            "relay.yaml:6:21 service.admin.endpoint: \"13133\" is no address to listen on: write host:port, as in 127.0.0.1:13133"
        ]
    );
}
