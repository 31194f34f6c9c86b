//! Routers: each profile reaches those it is for, and the other when one is away.

use crate::{
    config,
    harness::Relay,
    otlp_in::{PROTOBUF, address, post, request},
    support::sink::{Sink, Taken},
};
use std::{net::SocketAddr, time::Duration};

const LIMIT: Duration = Duration::from_secs(20);

/// A relay that takes OTLP over HTTP, with these exporters, of which `first` is in
/// the pipeline.
fn relay(exporters: &str, first: &str) -> Relay {
    Relay::run(&format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:0\", include_metadata: [x-scope-orgid]}}}}}}}}\n\
         exporters:\n{exporters}\n\
         service:\n  pipelines: {{profiles: {{receivers: [otlp], exporters: [{first}]}}}}\n"
    ))
}

fn to(name: &str, addr: SocketAddr) -> String {
    let delivery = config::delivery("");
    format!("  otlp/{name}: {{endpoint: \"http://{addr}\", {delivery}}}\n")
}

fn send(relay: &Relay, services: &[&str], headers: &str) {
    let headers = format!("{PROTOBUF}{headers}");
    let (status, told) = post(&address(relay, "http"), &headers, &request(services));
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&told));
}

/// The services whose profiles were taken, in order of their names.
fn services(taken: &[Taken]) -> Vec<String> {
    let resources = taken.iter().flat_map(|t| &t.request.resource_profiles);
    let mut names: Vec<_> = resources
        .map(|resource| {
            let resource = resource.resource.as_ref().expect("a resource");
            format!("{:?}", resource.attributes[0].value)
        })
        .collect();
    names.sort();
    names
}

fn wait(sink: &Sink, expected: &[&str]) {
    let all_there = |taken: &[Taken]| {
        let found = services(taken);
        let fits = |(found, name): (&String, &&str)| found.contains(&format!("\"{name}\""));
        found.len() == expected.len() && found.iter().zip(expected).all(fits)
    };
    let found = sink.wait(LIMIT, all_there);
    assert!(found, "{expected:?}: {:?}", services(&sink.taken()));
}

#[test]
fn a_table_tells_by_labels_and_by_who_sent_it() {
    let (prod, team, rest) = (Sink::start(), Sink::start(), Sink::start());
    let exporters = format!(
        "{}{}{}  routing:\n    table:\n    - {{labels: {{service.name: \"prod-.*\"}}, exporters: [otlp/prod]}}\n    \
         - {{metadata: {{x-scope-orgid: a}}, exporters: [otlp/team, otlp/prod]}}\n    default_exporters: [otlp/rest]\n",
        to("prod", prod.addr()),
        to("team", team.addr()),
        to("rest", rest.addr())
    );
    let relay = relay(&exporters, "routing");
    send(&relay, &["prod-1", "test-1"], "");
    send(&relay, &["prod-2", "test-2"], "x-scope-orgid: a\r\n");
    wait(&prod, &["prod-1", "prod-2", "test-2"]);
    wait(&team, &["test-2"]);
    wait(&rest, &["test-1"]);
    let metrics = relay.metrics();
    assert_eq!(metrics.accepted(), 4);
    for name in ["otlp/prod", "otlp/team", "otlp/rest"] {
        relay.books(name);
    }
}

#[test]
fn a_standby_takes_over_and_hands_back() {
    let (primary, standby) = (Sink::start(), Sink::start());
    let addr = primary.addr();
    let exporters = format!(
        "{}{}  failover: {{exporters: [otlp/primary, otlp/standby]}}\n",
        to("primary", addr),
        to("standby", standby.addr())
    );
    let relay = relay(&exporters, "failover");
    send(&relay, &["1"], "");
    wait(&primary, &["1"]);
    drop(primary);
    // Nobody knows yet: it waits for the primary.
    send(&relay, &["2"], "");
    relay.until("the primary fails", |metrics| {
        let labels = [("exporter", "otlp/primary"), ("outcome", "retry")];
        metrics.sum("exporter_attempts_total", &labels) > 0
    });
    send(&relay, &["3"], "");
    send(&relay, &["4"], "");
    wait(&standby, &["3", "4"]);
    let primary = Sink::at(addr);
    wait(&primary, &["2"]);
    relay.until("the primary has all", |metrics| {
        metrics.books("otlp/primary").queued == 0
    });
    send(&relay, &["5"], "");
    wait(&primary, &["2", "5"]);
    wait(&standby, &["3", "4"]);
}

#[test]
fn a_series_stays_on_its_backend() {
    let sinks = [Sink::start(), Sink::start()];
    let exporters = format!(
        "{}{}  load_balancing: {{exporters: [otlp/a, otlp/b]}}\n",
        to("a", sinks[0].addr()),
        to("b", sinks[1].addr())
    );
    let relay = relay(&exporters, "load_balancing");
    let names: Vec<_> = (0..40).map(|at| format!("service-{at:02}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    for _ in 0..3 {
        send(&relay, &names, "");
    }
    relay.until("all are delivered", |metrics| {
        let sent = |name| metrics.books(name).sent;
        sent("otlp/a") + sent("otlp/b") == 120
    });
    let [a, b] = sinks.map(|sink| services(&sink.taken()));
    assert_eq!(a.len() + b.len(), 120);
    assert!(
        a.len() >= 30 && b.len() >= 30,
        "{} and {}",
        a.len(),
        b.len()
    );
    assert!(a.chunks(3).all(|same| same[0] == same[2]), "{a:?}");
    assert!(a.iter().all(|name| !b.contains(name)), "{a:?} {b:?}");
}
