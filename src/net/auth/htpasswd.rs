//! Lines of `htpasswd`: `user:hash`.

use super::apr1;
use base64::{Engine, prelude::BASE64_STANDARD};
use ring::digest;
use std::{collections::HashMap, sync::Arc};

/// The most work that a hash may ask for, as bcrypt counts it: each more doubles
/// it, and this takes some seconds.
const MAX_COST: u32 = 16;

/// The users and how their passwords are hashed.
#[derive(Default)]
pub(super) struct Users(HashMap<Arc<str>, Hash>);

/// A hashed password.
#[derive(Clone)]
pub(super) enum Hash {
    Bcrypt(Arc<str>),
    Apr1(Arc<str>),
    Sha1(Arc<str>),
}

// === impl Users ===

impl Users {
    /// Adds lines, which go over those before. Says which cannot be read, by
    /// number, and why.
    pub(super) fn read(&mut self, text: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line
                .split_once(':')
                .ok_or("it is no user:hash")
                .and_then(|(user, hash)| Ok((user, Hash::parse(hash)?)))
            {
                Ok((user, hash)) => {
                    self.0.insert(user.into(), hash);
                }
                Err(why) => wrong.push(format!("line {}: {why}", number + 1)),
            }
        }
        wrong
    }

    /// The user and the hash of the password.
    pub(super) fn get(&self, user: &str) -> Option<(Arc<str>, Hash)> {
        let (user, hash) = self.0.get_key_value(user)?;
        Some((user.clone(), hash.clone()))
    }
}

// === impl Hash ===

impl Hash {
    fn parse(text: &str) -> Result<Self, &'static str> {
        // What other programs add after another colon is no part of it.
        let text = text.split(':').next().unwrap_or_default();
        if text.starts_with("$apr1$") {
            return Ok(Self::Apr1(text.into()));
        }
        if let Some(rest) = text.strip_prefix("{SHA}") {
            return Ok(Self::Sha1(rest.into()));
        }
        let mut parts = text.split('$');
        let (first, version, cost) = (parts.next(), parts.next(), parts.next());
        let is_bcrypt = first == Some("") && version.is_some_and(|v| v.starts_with('2'));
        match cost.and_then(|cost| cost.parse::<u32>().ok()) {
            Some(cost) if is_bcrypt && cost <= MAX_COST => Ok(Self::Bcrypt(text.into())),
            Some(_) if is_bcrypt => Err("its cost is above 16, which takes too long"),
            _ => Err("it is no hash that is known: write it with htpasswd -B"),
        }
    }

    /// Whether it is that of `password`. Takes long.
    pub(super) fn verify(&self, password: &str) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Apr1(hash) => apr1::verify(password.as_bytes(), hash).unwrap_or(false),
            Self::Sha1(hash) => {
                let sha1 = &digest::SHA1_FOR_LEGACY_USE_ONLY;
                let made = digest::digest(sha1, password.as_bytes());
                BASE64_STANDARD.encode(made) == **hash
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_htpasswd_writes_is_verified() {
        let mut users = Users::default();
        let bcrypt = bcrypt::hash("hunter2", 4).unwrap();
        let text = format!(
            "# users\nblow:{bcrypt}\nblowy:{}\n\
             apr:$apr1$r31mCLtS$FxI5ngylpYYCORMd8wFM3.\n\
             sha:{{SHA}}87vfo/Bm+PaQZbxmTKkFQzVCZhE=\n",
            bcrypt.replacen("$2b$", "$2y$", 1)
        );
        let sha = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, b"hunter2");
        let text = text.replace("87vfo/Bm+PaQZbxmTKkFQzVCZhE=", &BASE64_STANDARD.encode(sha));
        assert_eq!(users.read(&text), Vec::<String>::new());
        for user in ["blow", "blowy", "apr", "sha"] {
            let (_, hash) = users.get(user).unwrap();
            assert!(hash.verify("hunter2"), "{user}");
            assert!(!hash.verify("hunter3"), "{user}");
        }
        assert!(users.get("nobody").is_none());
    }

    #[test]
    fn what_is_not_known_is_named_by_its_line_without_what_it_says() {
        let mut users = Users::default();
        let wrong = users.read("a\nb:plainhunter\nc:$6$salt$hunter\nd:$2y$31$hunter");
        assert_eq!(wrong.len(), 4);
        assert!(wrong[1].starts_with("line 2: "), "{wrong:?}");
        assert!(!wrong.concat().contains("hunter"), "{wrong:?}");
    }
}
