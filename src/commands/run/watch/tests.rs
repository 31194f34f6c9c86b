use super::*;
use crate::runtime::Tasks;
use std::{fs, os::unix::fs::symlink};
use tokio::time::timeout;

/// A watch of one file in a folder.
struct Subject {
    watched: watch::Sender<Watched>,
    changed: mpsc::Receiver<()>,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Subject {
    fn start(settings: Reload, fill: impl FnOnce(&Path) -> PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = fill(folder.path());
        let (watched, watching) = watch::channel(Watched {
            files: vec![ReadFile::read(&path)],
            settings,
        });
        let (tell, changed) = mpsc::channel(1);
        Tasks::default().spawn("watch", run(watching, tell, CancellationToken::new()));
        Self {
            watched,
            changed,
            path,
            _folder: folder,
        }
    }

    fn of_file(settings: Reload) -> Self {
        Self::start(settings, |folder| {
            let path = folder.join("relay.yaml");
            fs::write(&path, "one").unwrap();
            path
        })
    }

    async fn told(&mut self) {
        let told = timeout(Duration::from_secs(20), self.changed.recv()).await;
        told.expect("it is told").unwrap();
    }

    /// Nothing is told for a while.
    async fn silent(&mut self, millis: u64) {
        let told = timeout(Duration::from_millis(millis), self.changed.recv()).await;
        assert!(told.is_err(), "it was told of nothing new");
    }

    /// Whoever loads the files says so.
    fn loaded(&self) {
        let files = vec![ReadFile::read(&self.path)];
        self.watched.send_modify(|watched| watched.files = files);
    }
}

fn unseen(interval: crate::settings::Duration) -> Reload {
    Reload {
        watch: true,
        interval,
    }
}

#[tokio::test]
async fn other_content_is_told_once_and_a_touch_is_not() {
    let mut subject = Subject::of_file(Reload::default());
    sleep(Duration::from_millis(100)).await;
    fs::write(&subject.path, "one").unwrap();
    subject.silent(600).await;
    fs::write(&subject.path, "two").unwrap();
    subject.told().await;
    subject.loaded();
    subject.silent(600).await;
    fs::write(&subject.path, "three").unwrap();
    subject.told().await;
}

#[tokio::test]
async fn a_file_that_is_still_written_is_waited_for() {
    let mut subject = Subject::of_file(Reload::default());
    let path = subject.path.clone();
    let writing = Tasks::default().spawn("writer", async move {
        for at in 0..40 {
            fs::write(&path, format!("part {at}")).unwrap();
            sleep(Duration::from_millis(25)).await;
        }
    });
    subject.told().await;
    let mut times = 1;
    while timeout(Duration::from_secs(1), subject.changed.recv())
        .await
        .is_ok()
    {
        times += 1;
    }
    writing.await.unwrap();
    // A busy machine may seem to rest.
    assert!(times < 8, "it was told {times} times");
}

#[tokio::test]
async fn a_swapped_link_is_seen() {
    let mut subject = Subject::start(Reload::default(), |folder| {
        for version in ["v1", "v2"] {
            fs::create_dir(folder.join(version)).unwrap();
            fs::write(folder.join(version).join("relay.yaml"), version).unwrap();
        }
        symlink("v1", folder.join("..data")).unwrap();
        symlink("..data/relay.yaml", folder.join("relay.yaml")).unwrap();
        folder.join("relay.yaml")
    });
    let folder = subject.path.parent().unwrap().to_owned();
    sleep(Duration::from_millis(100)).await;
    symlink("v2", folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    subject.told().await;
}

#[tokio::test]
async fn what_the_watch_misses_is_found_in_the_interval() {
    let settings = unseen(crate::settings::Duration::from_millis(300));
    let mut subject = Subject::start(settings, |folder| folder.join("later/relay.yaml"));
    // The folder was not there to be watched.
    fs::create_dir(subject.path.parent().unwrap()).unwrap();
    fs::write(&subject.path, "one").unwrap();
    subject.told().await;
}

#[tokio::test]
async fn a_change_before_the_watch_began_is_told() {
    let mut subject = Subject::of_file(Reload::default());
    let files = vec![ReadFile::read(Path::new("/nonexistent"))];
    let old = ReadFile::read(&subject.path);
    fs::write(&subject.path, "two").unwrap();
    subject.told().await;
    subject.watched.send_modify(|watched| watched.files = files);
    subject
        .watched
        .send_modify(|watched| watched.files = vec![old]);
    subject.told().await;
}

#[tokio::test]
async fn nothing_is_told_when_it_is_off_until_it_is_on() {
    let mut subject = Subject::of_file(Reload {
        watch: false,
        ..unseen(crate::settings::Duration::from_millis(50))
    });
    fs::write(&subject.path, "two").unwrap();
    subject.silent(500).await;
    let on = |watched: &mut Watched| watched.settings.watch = true;
    subject.watched.send_modify(on);
    subject.told().await;
}
