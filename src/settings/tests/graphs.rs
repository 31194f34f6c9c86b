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
    insta::assert_snapshot!(faults(text).join("\n"), @r###"
    relay.yaml:1:1 recievers: unknown key; did you mean receivers?
    relay.yaml:4:24 receivers.listen/b.endpoint: 0.0.0.0:7070 is already taken by receivers.listen/a.endpoint (relay.yaml:3:24); give one of them another port
    relay.yaml:8:3 receivers.send: there is no receiver of type send; send is an exporter: move it to exporters
    relay.yaml:9:3 receivers.lisen: there is no receiver of type lisen; did you mean listen?
    relay.yaml:10:3 receivers.listen/: "listen/" is no component id: write type or type/name, of letters, digits, _, - and .
    relay.yaml:12:3 exporters.send/eu: the exporter is defined but not used; list it under exporters of a pipeline, or remove it
    relay.yaml:13:3 exporters.send/us: the exporter is defined but not used; list it under exporters of a pipeline, or remove it
    relay.yaml:15:13 processors: expected a mapping of ids, found a list
    relay.yaml:17:3 extensions.storage: the extension is defined but not used; list it under service.extensions, or remove it
    relay.yaml:19:3 service.admin.endpoint: 127.0.0.1:13133 is already taken by receivers.listen/c.endpoint (relay.yaml:5:24); give one of them another port
    relay.yaml:19:16 service.extensions[0]: extension storag is not defined; did you mean storage?
    relay.yaml:22:69 service.pipelines.profiles.receivers[5]: listen/a is listed twice; keep one of them
    relay.yaml:23:20 service.pipelines.profiles.processors[0]: processor pass is not defined; define it under processors
    relay.yaml:24:19 service.pipelines.profiles.exporters[0]: exporter send/uk is not defined; did you mean send/us?
    relay.yaml:24:35 service.pipelines.profiles.exporters[2]: exporter kafka is not defined; define it under exporters
    relay.yaml:25:5 service.pipelines.profiles/empty.receivers: the pipeline has no receivers; list at least one receiver
    relay.yaml:25:5 service.pipelines.profiles/empty.exporters: the pipeline has no exporters; list at least one exporter
    relay.yaml:26:5 service.pipelines.traces: a pipeline carries profiles only; other signals need another program
    relay.yaml:29:5 service.pipelines.cpu/x: a pipeline carries profiles only; name it profiles, or profiles/cpu-x
    relay.yaml:29:5 service.pipelines.cpu/x.receivers: the pipeline has no receivers; list at least one receiver
    "###);
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
    insta::assert_snapshot!(faults(&service(text)).join("\n"), @r###"
    relay.yaml:7:12 service.memory.limt: unknown key; did you mean limit?
    relay.yaml:8:29 service.telemetry.logs.level: "warning" is not valid here; valid are trace, debug, info, warn, error
    "###);
    assert_eq!(
        faults(&service("  admin: {endpoint: 13133}\n")),
        [
            "relay.yaml:6:21 service.admin.endpoint: \"13133\" is no address to listen on: write host:port, as in 127.0.0.1:13133"
        ]
    );
}

#[test]
fn exporters_behind_routers_exist_are_used_and_lead_nowhere_back() {
    let text = "receivers: {listen: {endpoint: '127.0.0.1:7070'}}
exporters:
  send/a: {endpoint: 'a:1'}
  send/b: {endpoint: 'b:1'}
  send/c: {endpoint: 'c:1'}
  spread: {to: [send/a, spread/inner]}
  spread/inner: {to: [send/b, send/d, spread]}
service: {pipelines: {profiles: {receivers: [listen], exporters: [spread]}}}
";
    insta::assert_snapshot!(faults(text).join("\n"), @r"
    relay.yaml:5:3 exporters.send/c: the exporter is defined but not used; list it under exporters of a pipeline, or remove it
    relay.yaml:6:25 exporters.spread.to[1]: spread/inner leads back to spread, so profiles would never leave; take it out of one of them
    relay.yaml:7:31 exporters.spread/inner.to[1]: exporter send/d is not defined; did you mean send/a?
    relay.yaml:7:39 exporters.spread/inner.to[2]: spread leads back to spread/inner, so profiles would never leave; take it out of one of them
    ");
}

#[test]
fn routers_may_lead_to_routers() {
    let loaded = loaded(
        "receivers: {listen: {endpoint: '127.0.0.1:7070'}}
exporters:
  send/a: {endpoint: 'a:1'}
  send/b: {endpoint: 'b:1'}
  spread: {to: [send/a, spread/inner]}
  spread/inner: {to: [send/b]}
service: {pipelines: {profiles: {receivers: [listen], exporters: [spread]}}}
",
    );
    assert!(loaded.is_ok());
}
