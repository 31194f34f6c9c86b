//! What is run, in which order: in each round all cases of a part in an order of
//! chance, each with new processes.
//!
//! - *push*: 16 agents whose next call follows the answer, for each way and size
//! - *agents*: as many as are asked for, each with a call now and then
//! - *tls*: connections without TLS, with it, and with certificates of clients; then
//!   pprofs of 28 KB at a fixed rate, without TLS, with it on the way in, and both
//!   ways

use crate::{
    Result,
    agents::Load,
    args::{Args, Call, Part, Size, Tls, Way, Work, name},
    body::Body,
    certificates,
    figures::shuffle,
    handshakes,
    measure::Case,
    report::{Report, Run, Table},
    subject::Around,
};
use std::{path::Path, time::Duration};

/// Agents that push as fast as they can, and those of a fixed rate.
const CALLS: usize = 16;

/// Runs what is asked for, and prints what it showed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let folder = tempfile::tempdir()?;
    certificates::make(folder.path())?;
    print_bodies(args)?;
    let mut report = Report::default();
    for part in &args.parts {
        match part {
            Part::Push => rounds(args, &mut report, Table::Push, push(args), Case::perform)?,
            Part::Agents => rounds(
                args,
                &mut report,
                Table::Agents,
                agents(args),
                Case::perform,
            )?,
            Part::Tls => {
                let shaking = shaking(args, folder.path());
                let handshakes = Case::perform_handshakes;
                rounds(args, &mut report, Table::Handshakes, shaking, handshakes)?;
                let passing = passing(args, folder.path());
                rounds(args, &mut report, Table::Tls, passing, Case::perform)?;
            }
        }
    }
    args.common.write(&report)
}

fn rounds(
    args: &Args,
    report: &mut Report,
    table: Table,
    cases: Vec<Case>,
    perform: impl Fn(&Case, &Args) -> Result<Run>,
) -> Result<()> {
    let mut runs = Vec::new();
    for round in 0..args.rounds {
        let mut order: Vec<usize> = (0..cases.len()).collect();
        shuffle(&mut order);
        for place in order {
            let case = &cases[place];
            let run = perform(case, args);
            let run = run.map_err(|error| format!("{}: {error}", case.name))?;
            runs.push(Run {
                case: case.name.clone(),
                size: case.size,
                place,
                round,
                ..run
            });
        }
    }
    report.add(table, runs, args.max_foreign);
    Ok(())
}

/// What agents send, and whether it is what they are to send.
fn print_bodies(args: &Args) -> Result<()> {
    let mut sizes = args.sizes.clone();
    if args.parts.contains(&Part::Tls) && !sizes.contains(&Size::Busy) {
        sizes.push(Size::Busy);
    }
    for size in sizes {
        let arrow = size.arrow();
        let mut bytes = Vec::new();
        for call in [Call::Raw, Call::Arrow, Call::Write] {
            let work = Work { call, size };
            let body = Body::new(work)?;
            body.check(work)?;
            bytes.push(format!("{} {} bytes", call.way(), body.len()));
        }
        println!(
            "{}: {} rows of {} stacks of {} frames; {}",
            name(&size),
            arrow.rows,
            arrow.stacks,
            arrow.depth,
            bytes.join(", "),
        );
    }
    Ok(())
}

fn push(args: &Args) -> Vec<Case> {
    let mut cases = Vec::new();
    for &way in &args.ways {
        for &size in &args.sizes {
            cases.push(Case {
                name: way.to_string(),
                way,
                size,
                load: Load::Closed,
                around: plain(way, CALLS),
                warm: args.warm,
                window: args.window,
            });
        }
    }
    cases
}

fn agents(args: &Args) -> Vec<Case> {
    let mut cases = Vec::new();
    for &count in &args.agents {
        for &call in &args.protocol {
            for &size in &args.sizes {
                let way = call.way();
                cases.push(Case {
                    name: format!("{count} agents, {way}"),
                    way,
                    size,
                    load: Load::Every(args.interval),
                    around: plain(way, count),
                    warm: args.warm.max(args.interval),
                    window: args.window.max(2 * args.interval),
                });
            }
        }
    }
    cases
}

fn plain(way: Way, connections: usize) -> Around {
    Around {
        far: way.far(),
        connections,
        inward: Tls::default(),
        outward: Tls::default(),
    }
}

fn secured(folder: &Path, mutual: bool) -> Tls {
    Tls {
        folder: Some(folder.to_owned()),
        mutual,
    }
}

fn shaking(args: &Args, folder: &Path) -> Vec<Case> {
    let case = |name: &str, inward: Tls| Case {
        name: name.to_owned(),
        way: Way::Raw,
        size: Size::Busy,
        load: Load::Closed,
        around: Around {
            inward,
            ..plain(Way::Raw, handshakes::AT_ONCE.into())
        },
        warm: args.warm,
        window: args.window,
    };
    vec![
        case("connections, plaintext", Tls::default()),
        case("TLS 1.3", secured(folder, false)),
        case("TLS 1.3, mutual", secured(folder, true)),
    ]
}

fn passing(args: &Args, folder: &Path) -> Vec<Case> {
    let (none, tls) = (Tls::default(), secured(folder, false));
    let case = |name: &str, inward: &Tls, outward: &Tls| Case {
        name: name.to_owned(),
        way: Way::Raw,
        size: Size::Busy,
        load: Load::Every(Duration::from_secs_f64(CALLS as f64 / args.rate.max(1.0))),
        around: Around {
            inward: inward.clone(),
            outward: outward.clone(),
            ..plain(Way::Raw, CALLS)
        },
        warm: args.warm,
        window: args.window,
    };
    vec![
        case("plaintext", &none, &none),
        case("TLS in", &tls, &none),
        case("TLS in and out", &tls, &tls),
    ]
}
