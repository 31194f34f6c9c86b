//! User and password. A password's hash takes long by design, so what was found
//! right or wrong is remembered, and only a few are worked on at a time: who
//! guesses passwords keeps no core from others.

use super::{
    Refused,
    htpasswd::Users,
    settings::ServerBasicAuth,
    tag::{Tag, Tagger},
};
use crate::{net::live_file::LiveFile, runtime::blocking, settings::Problem};
use arc_swap::ArcSwap;
use base64::{Engine, prelude::BASE64_STANDARD};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;
use tracing::warn;

/// The passwords that are worked on at a time.
const WORKING: usize = 2;

/// The requests that wait for that.
const WAITING: usize = 256;

/// The pairs of user and password that are remembered.
const MAX_KNOWN: usize = 4_096;

const WRONG: Refused = Refused::Wrong("user or password are wrong");

/// Users by a file, and by lines of the configuration.
pub(super) struct Basic {
    file: Option<LiveFile>,
    inline: Option<Box<str>>,
    tagger: Tagger,
    read: ArcSwap<Read>,
    places: Semaphore,
    waiting: AtomicUsize,
}

/// What the file said, and what was found out since.
struct Read {
    content: Option<Arc<str>>,
    users: Users,
    known: Mutex<HashMap<Tag, bool>>,
}

/// One that waits.
struct Waits<'a>(&'a AtomicUsize);

// === impl Basic ===

impl Basic {
    pub(super) fn load(settings: &ServerBasicAuth) -> Result<Self, Problem> {
        let path = settings.htpasswd.file.as_ref();
        let file = path.map(|path| LiveFile::open(&path.0)).transpose();
        let shown = path.map(|path| path.0.display().to_string());
        let shown = shown.unwrap_or_default();
        let file = file.map_err(|error| {
            Problem::new("htpasswd.file", format!("cannot read {shown}: {error}"))
        })?;
        let inline = settings.htpasswd.inline.as_ref();
        let inline: Option<Box<str>> = inline.map(|text| text.expose().into());
        let content = file.as_ref().map(LiveFile::current);
        let mut users = Users::default();
        let of_file = users.read(content.as_deref().unwrap_or_default());
        if let Some(first) = of_file.first() {
            return Err(Problem::new("htpasswd.file", format!("{shown}, {first}")));
        }
        let of_text = users.read(inline.as_deref().unwrap_or_default());
        if let Some(first) = of_text.into_iter().next() {
            return Err(Problem::new("htpasswd.inline", first));
        }
        let tagger = Tagger::new()
            .ok_or_else(|| Problem::new("htpasswd", "the system gives no random numbers"))?;
        Ok(Self {
            file,
            inline,
            tagger,
            read: ArcSwap::from_pointee(Read::new(content, users)),
            places: Semaphore::new(WORKING),
            waiting: AtomicUsize::new(0),
        })
    }

    /// The user, if the password is right: what follows `Basic`.
    pub(super) async fn user(&self, encoded: &str) -> Result<Arc<str>, Refused> {
        let decoded = BASE64_STANDARD.decode(encoded).ok();
        let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = pair.ok_or(WRONG)?;
        let (user, password) = pair.split_once(':').ok_or(WRONG)?;
        let read = self.refreshed();
        let (user, hash) = read.users.get(user).ok_or(WRONG)?;
        let tag = self.tagger.tag(&pair);
        let told = |right: bool| if right { Ok(user.clone()) } else { Err(WRONG) };
        if let Some(right) = read.knows(&tag) {
            return told(right);
        }
        let _waits = self.wait()?;
        let Ok(_place) = self.places.acquire().await else {
            return Err(busy());
        };
        if let Some(right) = read.knows(&tag) {
            return told(right);
        }
        let password = password.to_owned();
        let right = blocking(move || hash.verify(&password)).await;
        let right = right.ok_or_else(busy)?;
        read.remember(tag, right);
        told(right)
    }

    fn wait(&self) -> Result<Waits<'_>, Refused> {
        let waits = Waits(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= WAITING {
            return Err(busy());
        }
        Ok(waits)
    }

    fn refreshed(&self) -> Arc<Read> {
        let read = self.read.load_full();
        let Some(file) = &self.file else {
            return read;
        };
        let content = file.current();
        if read
            .content
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, &content))
        {
            return read;
        }
        let mut users = Users::default();
        let wrong = users.read(&content);
        if !wrong.is_empty() {
            warn!(path = %file.path().display(), ?wrong, "lines that cannot be read are left out");
        }
        users.read(self.inline.as_deref().unwrap_or_default());
        let read = Arc::new(Read::new(Some(content), users));
        self.read.store(read.clone());
        read
    }
}

fn busy() -> Refused {
    Refused::Unavailable {
        message: "too many passwords are being looked at: try again later".to_owned(),
        after: Some(Duration::from_secs(1)),
    }
}

// === impl Read ===

impl Read {
    fn new(content: Option<Arc<str>>, users: Users) -> Self {
        Self {
            content,
            users,
            known: Mutex::default(),
        }
    }

    fn knows(&self, tag: &Tag) -> Option<bool> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(tag).copied()
    }

    /// What is right is never forgotten for what is wrong.
    fn remember(&self, tag: Tag, right: bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.retain(|_, right| *right);
        }
        if known.len() < MAX_KNOWN {
            known.insert(tag, right);
        }
    }
}

// === impl Waits ===

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        net::auth::settings::Htpasswd,
        settings::{FilePath, Secret},
    };
    use std::fs;

    fn encoded(pair: &str) -> String {
        BASE64_STANDARD.encode(pair)
    }

    #[tokio::test]
    async fn a_user_with_the_right_password_passes_until_the_file_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let line =
            |user: &str, password: &str| format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap());
        fs::write(&path, line("alice", "one")).unwrap();
        let basic = Basic::load(&ServerBasicAuth {
            htpasswd: Htpasswd {
                file: Some(FilePath(path.clone())),
                inline: Some(Secret::from(line("bob", "b:ob"))),
            },
        })
        .unwrap();
        for _ in 0..2 {
            assert_eq!(&*basic.user(&encoded("alice:one")).await.unwrap(), "alice");
            assert_eq!(&*basic.user(&encoded("bob:b:ob")).await.unwrap(), "bob");
            for wrong in ["alice:two", "alice", "alice:", ":", "carol:one"] {
                assert_eq!(basic.user(&encoded(wrong)).await, Err(WRONG), "{wrong}");
            }
        }
        assert_eq!(basic.user("no base64!").await, Err(WRONG));
        fs::write(&path, line("alice", "two")).unwrap();
        assert_eq!(basic.user(&encoded("alice:one")).await, Err(WRONG));
        assert!(basic.user(&encoded("alice:two")).await.is_ok());
        assert!(basic.user(&encoded("bob:b:ob")).await.is_ok());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_guesses_is_bounded_and_keeps_nobody_waiting_who_is_known() {
        // Slow enough for those who come meanwhile.
        let hash = bcrypt::hash("right", 9).unwrap();
        let basic = Arc::new(
            Basic::load(&ServerBasicAuth {
                htpasswd: Htpasswd {
                    file: None,
                    inline: Some(Secret::from(format!("alice:{hash}"))),
                },
            })
            .unwrap(),
        );
        basic.user(&encoded("alice:right")).await.unwrap();
        let tasks = crate::runtime::Tasks::default();
        let guesses: Vec<_> = (0..WAITING + 50)
            .map(|number| {
                let basic = basic.clone();
                tasks.spawn("guess", async move {
                    basic.user(&encoded(&format!("alice:{number}"))).await
                })
            })
            .collect();
        while basic.waiting.load(Ordering::Relaxed) < WAITING {
            tokio::task::yield_now().await;
        }
        let known = encoded("alice:right");
        let known = tokio::time::timeout(Duration::from_millis(50), basic.user(&known)).await;
        assert!(known.unwrap().is_ok());
        let more = basic.user(&encoded("alice:more")).await;
        assert!(matches!(more, Err(Refused::Unavailable { .. })), "{more:?}");
        guesses.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
