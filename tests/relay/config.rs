//! Configurations, composed of parts in YAML's flow style.

use std::net::SocketAddr;

/// A relay that scrapes `jobs` and sends to a `parca` exporter.
pub fn relay(jobs: &[String], exporter: &str, service: &str) -> String {
    let jobs = jobs.join(", ");
    format!(
        "receivers: {{pprof: {{scrape_configs: [{jobs}]}}}}\n\
         exporters: {{parca: {{{exporter}}}}}\n\
         service:\n  pipelines: {{profiles: {{receivers: [pprof], exporters: [parca]}}}}\n\
         {service}\n"
    )
}

/// Where to send, quickly and again soon, with the queue's other settings.
pub fn to(far_end: SocketAddr, queue: &str) -> String {
    format!("endpoint: \"http://{far_end}\", {}", delivery(queue))
}

/// How to send: quickly, and again soon.
pub fn delivery(queue: &str) -> String {
    let comma = if queue.is_empty() { "" } else { ", " };
    format!(
        "sending_queue: {{flush_timeout: 100ms{comma}{queue}}}, \
         retry_on_failure: {{initial_interval: 100ms, max_interval: 500ms}}"
    )
}

/// A job that scrapes one profile of each target every second.
pub fn job(name: &str, targets: &[SocketAddr], more: &str) -> String {
    let groups = format!("static_configs: [{{targets: [{}]}}]", list(targets));
    job_of(name, &groups, more)
}

/// A job with one target for each of `count` replicas of the same program.
pub fn replicas(name: &str, target: SocketAddr, count: usize) -> String {
    let group = |at| format!("{{targets: [\"{target}\"], labels: {{replica: \"{at}\"}}}}");
    let groups: Vec<_> = (0..count).map(group).collect();
    job_of(
        name,
        &format!("static_configs: [{}]", groups.join(", ")),
        "",
    )
}

/// A job with any discovery, for one profile every second.
pub fn job_of(name: &str, discovery: &str, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { ", " };
    format!("{{job_name: {name}, scrape_interval: 1s, {ONLY_MEMORY}, {discovery}{comma}{more}}}")
}

/// One of the five default profiles.
const ONLY_MEMORY: &str = "profiling_config: {pprof_config: {block: {enabled: false}, \
     goroutine: {enabled: false}, mutex: {enabled: false}, process_cpu: {enabled: false}}}";

fn list(targets: &[SocketAddr]) -> String {
    let quoted: Vec<_> = targets.iter().map(|t| format!("\"{t}\"")).collect();
    quoted.join(", ")
}
