//! Bearer tokens in a file: a line each, `token` or `name token`.
//!
//! The file is looked at on use. A line that cannot be read then is left out with
//! a warning, which names its number and not what it says. As everywhere an empty
//! file is taken for one that is just being written: a comment alone takes all
//! tokens away.

use super::tag::{Tag, Tagger};
use crate::{net::live_file::LiveFile, settings::Problem};
use arc_swap::ArcSwap;
use std::{collections::HashMap, path::Path, sync::Arc};
use tracing::warn;

const KEY: &str = "bearer_token_file";

/// The tokens of a file.
pub(super) struct Tokens {
    file: LiveFile,
    tagger: Tagger,
    read: ArcSwap<Read>,
}

/// What a content of the file says.
struct Read {
    content: Arc<str>,
    names: HashMap<Tag, Option<Arc<str>>>,
}

// === impl Tokens ===

impl Tokens {
    pub(super) fn open(path: &Path) -> Result<Self, Problem> {
        let problem = |why: String| Problem::new(KEY, why);
        let file = LiveFile::open(path)
            .map_err(|error| problem(format!("cannot read {}: {error}", path.display())))?;
        let tagger = Tagger::new()
            .ok_or_else(|| problem("the system gives no random numbers".to_owned()))?;
        let content = file.current();
        let (read, wrong) = Read::of(content, &tagger);
        if let Some(line) = wrong.first() {
            return Err(problem(format!(
                "line {line} of {} has more than two words: write token or name token",
                path.display()
            )));
        }
        Ok(Self {
            file,
            tagger,
            read: ArcSwap::from_pointee(read),
        })
    }

    /// The name of a token that is known; some have none.
    pub(super) fn name(&self, token: &str) -> Option<Option<Arc<str>>> {
        self.refresh();
        let tag = self.tagger.tag(token);
        self.read.load().names.get(&tag).cloned()
    }

    fn refresh(&self) {
        let content = self.file.current();
        if Arc::ptr_eq(&content, &self.read.load().content) {
            return;
        }
        let (read, wrong) = Read::of(content, &self.tagger);
        if !wrong.is_empty() {
            warn!(
                path = %self.file.path().display(),
                lines = ?wrong,
                "lines with more than two words are left out: write token or name token"
            );
        }
        self.read.store(Arc::new(read));
    }
}

// === impl Read ===

impl Read {
    /// Also the numbers of lines that cannot be read.
    fn of(content: Arc<str>, tagger: &Tagger) -> (Self, Vec<usize>) {
        let mut names = HashMap::new();
        let mut wrong = Vec::new();
        for (number, line) in content.lines().enumerate() {
            let words = line.split_whitespace();
            let mut words = words.take_while(|word| !word.starts_with('#'));
            match (words.next(), words.next(), words.next()) {
                (None, ..) => {}
                (Some(token), None, _) => {
                    names.insert(tagger.tag(token), None);
                }
                (Some(name), Some(token), None) => {
                    names.insert(tagger.tag(token), Some(name.into()));
                }
                _ => wrong.push(number + 1),
            }
        }
        (Self { content, names }, wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn tokens_follow_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        fs::write(
            &path,
            "# ours\n\nbare # of nobody\nalice  one\r\nalice two\n",
        )
        .unwrap();
        let tokens = Tokens::open(&path).unwrap();
        let name = |token: &str| tokens.name(token).map(|name| name.map(|n| n.to_string()));
        let alice = Some(Some("alice".to_owned()));
        assert_eq!(name("bare"), Some(None));
        assert_eq!((name("one"), name("two")), (alice.clone(), alice.clone()));
        for unknown in ["", "on", "one ", "alice", "alice one", "#", "ours"] {
            assert_eq!(name(unknown), None, "{unknown}");
        }
        fs::write(&path, "alice two\nno such line\n").unwrap();
        assert_eq!((name("one"), name("two")), (None, alice));
        fs::write(&path, "# nobody\n").unwrap();
        assert_eq!(name("two"), None);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        fs::write(&path, "good\nalice hunter2 hunter3\n").unwrap();
        let problem = Tokens::open(&path).err().unwrap().to_string();
        assert!(problem.contains("line 2"), "{problem}");
        assert!(!problem.contains("hunter"), "{problem}");
    }
}
