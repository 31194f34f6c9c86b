//! The figures, as tables and as JSON.

use crate::{
    accept::Run,
    args::{Backend, Kind},
    backlog::{Backlog, Drain},
    figures::{mb, median, ms, pair, ratio},
    request,
};
use serde::Serialize;
use std::collections::BTreeSet;

/// Everything.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    pub(crate) accept: Vec<Run>,
    pub(crate) drain: Vec<Drain>,
    pub(crate) backlog: Option<Backlog>,
}

/// The runs of one kind in one case.
struct Row<'a> {
    all: &'a [Run],
    kind: Kind,
    backend: Backend,
    sources: usize,
}

// === impl Report ===

impl Report {
    pub(crate) fn print_accept(&self) {
        println!(
            "\n{:<8} {:<8} {:<20} {:>9} {:>15} {:>8} {:>22} {:>13} {:>8} {:>8} {:>15} {:>8} {:>7}",
            "sources",
            "backend",
            "",
            "accepted",
            "fewest/most",
            "MB/s",
            "CPU s/1,000 (user+sys)",
            "answer ms",
            "refused",
            "RSS MB",
            "of the disk",
            "others",
            "law",
        );
        println!(
            "{:<8} {:<8} {:<20} {:>9} {:>15} {:>8} {:>22} {:>13} {:>8} {:>8} {:>15} {:>8} {:>7}",
            "", "", "", "/s", "/s", "", "", "p50/p99", "", "", "append/prealloc", "cores", "",
        );
        let cases: BTreeSet<_> = self.accept.iter().map(|r| (r.sources, r.backend)).collect();
        for (sources, backend) in cases {
            let Some(backend) = backend else {
                continue;
            };
            let of = |kind| Row {
                all: &self.accept,
                kind,
                backend,
                sources,
            };
            let kinds = [
                Kind::Append,
                Kind::Preallocated,
                Kind::Direct,
                Kind::Relay,
                Kind::Otelcol,
            ];
            for kind in kinds {
                of(kind).print();
            }
            let (relay, peer) = (of(Kind::Relay), of(Kind::Otelcol));
            if peer.runs().count() > 0 && relay.runs().count() > 0 {
                println!(
                    "relay to otelcol: {:.1} times as many at {:.3} of the CPU for each",
                    relay.share_of(&peer, |run| run.rate),
                    relay.share_of(&peer, |run| run.user + run.system),
                );
            }
        }
    }

    pub(crate) fn print_drain(&self) {
        println!("\ndrain     profiles        /s   MB/s  CPU s/1,000  RSS high water MB");
        let of = |queue| self.drain.iter().filter(move |drain| drain.queue == queue);
        let middle =
            |queue, figure: fn(&Drain) -> f64| median(of(queue).map(figure)).unwrap_or(f64::NAN);
        for queue in ["memory", "disk"] {
            let rate = middle(queue, |drain| drain.rate);
            println!(
                "{queue:<9} {:>8.0} {rate:>9.0} {:>6.0} {:>12.3} {:>18}",
                middle(queue, |drain| drain.profiles as f64),
                rate * request::BYTES as f64 / 1e6,
                middle(queue, |drain| drain.cpu),
                mb(middle(queue, |drain| drain.high_water as f64) as u64),
            );
        }
        let rate = |queue| middle(queue, |drain| drain.rate);
        println!(
            "disk to memory: {:.2}; arrived in another size: {}, too many: {}",
            ratio(rate("disk"), rate("memory")),
            self.drain.iter().map(|drain| drain.odd).sum::<u64>(),
            self.drain.iter().map(|drain| drain.extra).sum::<u64>(),
        );
    }

    pub(crate) fn print_backlog(&self) {
        let Some(backlog) = &self.backlog else {
            return;
        };
        println!(
            "\nbacklog: {} profiles in {} segments, {} MB, filled with {:.0}/s without syncs",
            backlog.profiles,
            backlog.segments,
            mb(backlog.bytes),
            backlog.fill_rate,
        );
        println!(
            "start until all is on the books: {} ms, {} ms from files that are cached, {} ms with \
             an empty queue",
            ms(Some(backlog.up_cold)),
            ms(Some(backlog.up_warm)),
            ms(Some(backlog.up_empty)),
        );
        println!(
            "RSS {} MB, with an empty queue {} MB; anonymous {} MB, {} MB",
            mb(backlog.rss),
            mb(backlog.rss_empty),
            mb(backlog.anonymous),
            mb(backlog.anonymous_empty),
        );
        println!(
            "drain {:.0}/s, {:.3} CPU s/1,000, RSS high water {} MB, arrived in another size: {}, too many: {}",
            backlog.drain.rate,
            backlog.drain.cpu,
            mb(backlog.drain.high_water),
            backlog.drain.odd,
            backlog.drain.extra,
        );
    }
}

// === impl Row ===

impl<'a> Row<'a> {
    fn runs(&self) -> impl Iterator<Item = &'a Run> {
        let (kind, backend, sources) = (self.kind, self.backend, self.sources);
        self.all.iter().filter(move |run| {
            run.kind == Some(kind) && run.backend == Some(backend) && run.sources == sources
        })
    }

    fn median(&self, figure: impl Fn(&Run) -> f64) -> f64 {
        median(self.runs().map(figure)).unwrap_or(f64::NAN)
    }

    /// The median over rounds of this one's figure to another's.
    fn share_of(&self, other: &Self, figure: impl Fn(&Run) -> f64) -> f64 {
        let shares = self.runs().filter_map(|run| {
            let same = other.runs().find(|other| other.round == run.round)?;
            Some(ratio(figure(run), figure(same)))
        });
        median(shares).unwrap_or(f64::NAN)
    }

    fn print(&self) {
        let rates = || self.runs().map(|run| run.rate);
        let Some(fewest) = rates().min_by(f64::total_cmp) else {
            return;
        };
        let most = rates().fold(0.0, f64::max);
        let rate = self.median(|run| run.rate);
        let cpu = self.median(|run| run.user + run.system);
        let time = |figure: fn(&Run) -> Option<f64>| {
            let time = self.median(|run| figure(run).unwrap_or(f64::NAN));
            ms(time.is_finite().then_some(time))
        };
        let is_disk = matches!(self.kind, Kind::Append | Kind::Preallocated | Kind::Direct);
        let unless_disk = |text: String| if is_disk { "-".to_owned() } else { text };
        let share = |kind| {
            let share = self.share_of(&Row { kind, ..*self }, |run| run.rate);
            match share.is_finite() {
                true => format!("{:.0} %", 100.0 * share),
                false => "-".to_owned(),
            }
        };
        let law = match self.runs().filter_map(|run| run.balanced).min() {
            None => "-",
            Some(true) => "holds",
            Some(false) => "BROKEN",
        };
        println!(
            "{:<8} {:<8} {:<20} {:>9.0} {:>15} {:>8.1} {:>22} {:>13} {:>8} {:>8} {:>15} {:>8.2} {:>7}",
            self.sources,
            self.backend.name(),
            self.kind.name(),
            rate,
            pair(format!("{fewest:.0}"), format!("{most:.0}")),
            rate * request::BYTES as f64 / 1e6,
            unless_disk(format!(
                "{cpu:.3} ({:.3}+{:.3})",
                self.median(|run| run.user),
                self.median(|run| run.system)
            )),
            pair(time(|run| run.answer_p50), time(|run| run.answer_p99)),
            self.runs().map(|run| run.refused).sum::<u64>(),
            unless_disk(mb(self.median(|run| run.rss as f64) as u64)),
            pair(share(Kind::Append), share(Kind::Preallocated)),
            self.median(|run| run.others),
            law,
        );
    }
}
