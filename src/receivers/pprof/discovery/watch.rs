//! Reads targets files again when their folders change.
//!
//! What the watch of folders misses, the slow refresh finds; it also watches
//! anew.

use super::{Update, file::FileSource, send};
use crate::{net::FolderWatch, runtime::blocking};
use std::time::Duration;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Several changes in a row are one.
const SETTLE: Duration = Duration::from_millis(200);

/// Tells the targets of `sources` until `stop` fires.
pub(super) async fn run(
    mut sources: Vec<FileSource>,
    updates: mpsc::Sender<Update>,
    stop: CancellationToken,
) {
    let mut folders = FolderWatch::new("targets files");
    let mut next: Vec<Instant> = vec![Instant::now(); sources.len()];
    let mut all = true;
    folders.watch(sources.iter().flat_map(FileSource::folders));
    loop {
        let now = Instant::now();
        for (at, due) in next.iter_mut().enumerate() {
            if !all && *due > now {
                continue;
            }
            *due = now + sources[at].refresh_interval;
            if !tell(&mut sources, at, &updates).await {
                return;
            }
        }
        let Some(soonest) = next.iter().min() else {
            return;
        };
        all = tokio::select! {
            () = stop.cancelled() => return,
            () = sleep_until(*soonest) => false,
            () = folders.changed() => true,
        };
        if !all {
            folders.watch(sources.iter().flat_map(FileSource::folders));
        } else if stop.run_until_cancelled(sleep(SETTLE)).await.is_none() {
            return;
        }
    }
}

/// Reads one source and hands on what changed; `false` when it is time to end.
async fn tell(sources: &mut Vec<FileSource>, at: usize, updates: &mpsc::Sender<Update>) -> bool {
    let mut source = sources.swap_remove(at);
    let read = blocking(move || {
        let groups = source.refresh();
        (source, groups)
    })
    .await;
    let Some((source, groups)) = read else {
        return false;
    };
    let (job, job_at, place) = (source.job.clone(), source.at, source.source);
    sources.push(source);
    let last = sources.len() - 1;
    sources.swap(at, last);
    match groups {
        Some(groups) => send(updates, job, job_at, place, groups).await,
        None => true,
    }
}
