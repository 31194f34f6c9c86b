//! Tells when the files of the configuration have other content.
//!
//! What counts is the content, and that it came to rest: a touch, a half-written
//! file, or a file that is gone for a moment while an editor or Kubernetes puts
//! another one in its place asks for nothing.

use crate::{
    net::FolderWatch,
    runtime::blocking,
    settings::{ReadFile, Reload},
};
use std::{
    future::pending,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// What has not changed for so long has come to rest.
const SETTLE: Duration = Duration::from_millis(200);

/// What changes all the time is loaded after so many rests.
const MAX_RESTS: usize = 15;

/// What is watched.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    /// The files, as they were when they were last loaded or refused.
    pub(super) files: Vec<ReadFile>,
    /// Whether, and how often they are read without a reason.
    pub(super) settings: Reload,
}

/// Tells `changed` whenever the content of a file differs from what was last
/// `watched`, until `stop` fires or nobody listens.
pub(super) async fn run(
    mut watched: watch::Receiver<Watched>,
    changed: mpsc::Sender<()>,
    stop: CancellationToken,
) {
    let telling = tell(&mut watched, &changed);
    stop.run_until_cancelled(telling).await;
}

async fn tell(watched: &mut watch::Receiver<Watched>, changed: &mpsc::Sender<()>) {
    let mut folders = FolderWatch::new("the configuration");
    loop {
        let Watched {
            mut files,
            settings,
        } = watched.borrow_and_update().clone();
        let is_on = settings.watch && !files.is_empty();
        folders.watch(files.iter().filter(|_| is_on).flat_map(folders_of));
        // What changed before the watch began is found at once.
        let mut look = is_on;
        loop {
            tokio::select! {
                biased;
                replaced = watched.changed() => match replaced {
                    Ok(()) => break,
                    Err(_) => return,
                },
                differing = differing(&files), if look => {
                    look = false;
                    if let Some(now) = differing {
                        files = now;
                        if changed.send(()).await.is_err() {
                            return;
                        }
                    }
                }
                () = folders.changed(), if is_on && !look => look = true,
                () = interval(&settings), if is_on && !look => {
                    folders.watch(files.iter().flat_map(folders_of));
                    look = true;
                }
            }
        }
    }
}

/// The files once they came to rest, if their content is another one. Takes a
/// while, so that a busy folder does not make the process busy.
async fn differing(files: &[ReadFile]) -> Option<Vec<ReadFile>> {
    sleep(SETTLE).await;
    let mut last = read(files).await?;
    for _ in 0..MAX_RESTS {
        if last == files {
            return None;
        }
        sleep(SETTLE).await;
        let now = read(files).await?;
        if now == last && now.iter().all(ReadFile::is_there) {
            break;
        }
        last = now;
    }
    (last != files).then_some(last)
}

async fn read(files: &[ReadFile]) -> Option<Vec<ReadFile>> {
    let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
    blocking(move || paths.iter().map(|path| ReadFile::read(path)).collect()).await
}

async fn interval(settings: &Reload) {
    if settings.interval.is_zero() {
        pending().await
    } else {
        sleep(settings.interval.get()).await;
    }
}

/// The folder in which a file is named, and the one in which it is, behind links.
fn folders_of(file: &ReadFile) -> impl Iterator<Item = PathBuf> {
    let real = std::fs::canonicalize(&file.path).ok();
    let real = real.and_then(|path| path.parent().map(Path::to_owned));
    let named = match file.path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    [Some(named), real].into_iter().flatten()
}

#[cfg(test)]
mod tests;
