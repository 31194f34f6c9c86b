//! `schema`: the configuration as JSON Schema, for editors, or as the reference,
//! for people. Both come from the settings types and their doc comments.

use super::{
    Exit, print,
    run::{assemble, show},
};
use crate::{
    components,
    pipeline::{self, Reason},
    profile::pprof::{Action, Rule},
    settings::{self, Table},
    telemetry::metrics::Format as MetricsFormat,
};
use clap::{Args, ValueEnum};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// JSON Schema, draft 2020-12
    Json,
    /// The text of docs/reference.md
    Markdown,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    let catalogue = components::catalogue();
    match arguments.format {
        Format::Json => print(&format!("{:#}", settings::schema(&catalogue))),
        Format::Markdown => print(&reference()),
    }
}

/// The text of `docs/reference.md`.
pub(crate) fn reference() -> String {
    settings::reference(&components::catalogue(), &[metrics(), rules(), reasons()])
}

/// A configuration whose components have all metrics there are.
const EXAMPLE: &str = "
receivers: {pprof: }
exporters: {parca: {endpoint: parca.example}}
service: {pipelines: {profiles: {receivers: [pprof], exporters: [parca]}}}";

/// Metrics that the registry does not show before their first event.
const LABELLED: &[(&str, &str, &str)] = &[
    (
        "profile_relay_receiver_requests_total",
        "receiver,protocol,outcome",
        "Requests of a push receiver by how they ended (of a `parca` receiver the protocol is the \
         call): `ok`; `invalid`, `too_large`, \
         `unsupported` (not to be sent again); `busy` (max_concurrent_requests), `unavailable` \
         (memory, queues), `late` (deadlines), to be sent again after a wait; `broken` (the \
         client went away), `internal`; `unauthenticated`, `denied` (auth.identities)",
    ),
    (
        "profile_relay_receiver_turned_away_requests_total",
        "receiver,protocol,reason",
        "Requests refused for who sends them, before their bodies were read: `no_credentials`, \
         `wrong_credentials`, `certificate_revoked`, `not_listed` (not to be sent again); \
         `auth_unavailable` (the issuer's keys), `request_rate`, `bytes_in_flight`, to be sent \
         again after a wait",
    ),
    (
        "profile_relay_receiver_closed_connections_total",
        "receiver,protocol,reason",
        "Connections ended for what their clients did or did not do: `no_certificate`, \
         `wrong_certificate`, `handshake`, `handshake_timeout`; `silent` (no HTTP), `stranger` \
         (nothing let in), `made_room` (the same, while others wait), `certificate_revoked`, \
         `slow_headers`, `headers` (too large), `cancelled_requests`, `flood`, `protocol`",
    ),
    (
        "profile_relay_tls_certificate_expires_timestamp_seconds",
        "component,file",
        "When the certificate in a file (or key of the configuration) ends, in seconds since the \
         epoch: of a chain the first, of authorities the last",
    ),
    (
        "profile_relay_receiver_paced_requests_total",
        "receiver,protocol",
        "Requests that waited (`pacing`) for others to leave before their bodies were read",
    ),
    (
        "profile_relay_receiver_duplicate_profiles_total",
        "receiver",
        "Profiles of agents' retries that had been taken already, and went nowhere",
    ),
    (
        "profile_relay_receiver_arrow_profiles_total",
        "receiver,schema",
        "Arrow profiles that were taken, by the version of their schema: `v1` (`Write`), `v2` \
         (`WriteArrow`)",
    ),
    (
        "profile_relay_receiver_client_requests_total",
        "receiver,user_agent",
        "Calls of agents by what they call themselves; the seventeenth name and later ones are \
         `other`",
    ),
    (
        "profile_relay_receiver_debuginfo_cached_answers_total",
        "receiver",
        "Questions about debug symbols that were answered without asking the upstream",
    ),
    (
        "profile_relay_receiver_debuginfo_uploaded_bytes_total",
        "receiver,strategy",
        "Bytes of debug symbols that were passed on: by `grpc`, or to a `signed_url`",
    ),
    (
        "profile_relay_receiver_accepted_profiles_total",
        "receiver",
        "Profiles accepted from outside",
    ),
    (
        "profile_relay_receiver_accepted_bytes_total",
        "receiver",
        "Bytes of accepted profiles and their labels",
    ),
    (
        "profile_relay_receiver_refused_profiles_total",
        "receiver,reason",
        "Profiles refused to their sender",
    ),
    (
        "profile_relay_processor_dropped_profiles_total",
        "processor,reason",
        "Profiles taken out by a processor",
    ),
    (
        "profile_relay_scrapes_total",
        "job,outcome",
        "Scrapes by how they ended, and those that did not take place by the reason",
    ),
    (
        "profile_relay_scrape_duration_seconds",
        "job",
        "How long scrapes took, the seconds that a target collects included",
    ),
    (
        "profile_relay_targets",
        "job,health",
        "Targets by health; one target is one profile of one address",
    ),
    (
        "profile_relay_discovery_errors_total",
        "job",
        "Reads of a targets file that failed; the targets it last had are kept",
    ),
    (
        "profile_relay_exporter_repaired_profiles_total",
        "exporter,rule",
        "Profiles that broke a rule of the backend and were mended",
    ),
    (
        "profile_relay_exporter_unrepairable_profiles_total",
        "exporter,rule",
        "Profiles that broke a rule of the backend that nothing mends",
    ),
    (
        "profile_relay_exporter_divided_profiles_total",
        "exporter",
        "Profiles above max_request_bytes that were divided by their samples",
    ),
    (
        "profile_relay_exporter_sample_label_limited_profiles_total",
        "exporter",
        "Profiles with more combinations of sample_labels than sample_label_series_limit",
    ),
];

/// The metrics as the registry itself describes them.
fn metrics() -> Table {
    let described = describe_metrics().unwrap_or_default();
    let labelled = LABELLED
        .iter()
        .map(|(name, labels, help)| vec![format!("`{name}{{{labels}}}`"), (*help).to_owned()]);
    let rows = described
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '))
        .map(|(name, help)| vec![format!("`{name}`"), help.trim_end_matches('.').to_owned()]);
    Table {
        title: "Metrics".into(),
        text: "On `/metrics`, in OpenMetrics and in Prometheus text. For each exporter \
               `queue_recovered + enqueued = sent + dropped + queue_profiles`, at every moment. \
               Each target's own figures are on `/metrics/targets`."
            .into(),
        columns: vec!["metric".into(), "meaning".into()],
        rows: labelled.chain(rows).collect(),
    }
}

fn describe_metrics() -> Option<String> {
    let sources = settings::Sources::text("reference", EXAMPLE);
    let loaded = settings::load(&sources, &components::catalogue()).ok()?;
    let assembled = assemble(loaded).ok()?;
    let metrics = &assembled.shared.metrics;
    pipeline::register_metrics(metrics);
    show::process(&assembled.shared);
    show::configuration(&assembled.shared, &assembled.loaded);
    metrics.encode_as(MetricsFormat::Text).ok()
}

fn rules() -> Table {
    let row = |rule: &Rule| {
        let action = match rule.action() {
            Action::Repair => "repaired",
            Action::Drop => "dropped",
        };
        vec![
            format!("`{}`", rule.as_str()),
            action.to_owned(),
            rule.describe().to_owned(),
        ]
    };
    Table {
        title: "Rules of the parca exporter".into(),
        text: "Every pprof is checked before it is sent; one that breaks no rule leaves byte \
                for byte as it came. Each application is counted by rule in \
                `profile_relay_exporter_repaired_profiles_total` or \
                `profile_relay_exporter_unrepairable_profiles_total`, which also counts other \
                bodies that are dropped: `unconvertible` (OTLP that gives no pprof), \
                `unreadable_arrow` (parca-agent's Arrow that cannot be decoded), \
                `arrow_profile_type` (a part of its profile type is empty, or has characters \
                that no query can name)."
            .into(),
        columns: vec![
            "rule".into(),
            "the profile is".into(),
            "what is wrong, and what is done".into(),
        ],
        rows: Rule::ALL.iter().map(row).collect(),
    }
}

fn reasons() -> Table {
    let row = |reason: &Reason| {
        vec![
            format!("`{}`", reason.as_str()),
            reason.describe().to_owned(),
        ]
    };
    Table {
        title: "Reasons".into(),
        text: "Why a profile was refused or dropped: the label `reason` of metrics, and the \
                word in logs and answers."
            .into(),
        columns: vec!["reason".into(), "meaning".into()],
        rows: Reason::ALL.iter().map(row).collect(),
    }
}
