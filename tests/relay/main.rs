//! The relay as its users have it: the whole program, started with a
//! configuration, between real or made-up programs and a far end. One module a
//! promise; each would fail if the promise were broken.
#![allow(clippy::expect_used, reason = "a test says what it expected")]
#![allow(unreachable_pub, reason = "a test program is no library")]

#[path = "../support/agent.rs"]
mod agent;
#[path = "../far_end/mod.rs"]
mod far_end;
#[path = "../gen/mod.rs"]
mod r#gen;
#[path = "../support/requests.rs"]
mod requests;
#[path = "../support/mod.rs"]
mod support;

mod certificates;
mod config;
mod front;
mod harness;
mod link;
mod metrics;
mod models;
mod neighbours;
mod recorder;
mod schema;
mod target;

mod agents;
mod bad_targets;
mod commands;
mod crashes;
mod disk_queue;
mod exit_codes;
mod file_sd;
mod gate;
mod gateway;
mod killer;
mod memory;
mod namespaces;
mod nginx;
mod nginx_limits;
mod otlp_in;
mod otlp_out;
mod otlp_to_parca;
mod outage_on_disk;
mod outages;
mod proxy;
mod python_peers;
mod queue_bounds;
mod quickstart;
mod real_parca;
mod real_targets;
mod reload;
mod reload_disk;
mod routers;
mod tls;
mod two_models;
