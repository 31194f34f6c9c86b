//! Keeps secrets out of what people see.
//!
//! A schema says which values are secrets, but a misspelt key has no schema, and
//! a text that is no YAML has no values. So names count too, and when in doubt a
//! line is not shown.

use super::nearest::nearest;
use serde_json::Value;
use std::borrow::Cow;

/// What stands for a secret.
pub(super) const REDACTED: &str = "[REDACTED]";

const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "api_key",
    "apikey",
    "access_key",
    "private_key",
    "authorization",
];

/// Endings of keys that say where a secret is, not what it is.
const HARMLESS_ENDINGS: &[&str] = &[
    "_file",
    "_files",
    "_path",
    "_url",
    "_ref",
    "_dir",
    "_name",
    "_type",
    "_id",
    "_interval",
];

/// Whether the value of a key with this name is probably a secret.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    SECRET_WORDS.iter().any(|word| key.contains(word))
        && !HARMLESS_ENDINGS.iter().any(|ending| key.ends_with(ending))
}

/// Whether a misspelt key was probably meant to be a secret's.
pub(super) fn resembles_secret_key(key: &str) -> bool {
    let words = || SECRET_WORDS.iter().copied();
    is_secret_key(key)
        || key
            .split(['_', '-', '.'])
            .any(|part| part.len() > 3 && nearest(part, words()).is_some())
            && !HARMLESS_ENDINGS.iter().any(|ending| key.ends_with(ending))
}

/// `http://user:password@host` without the password.
pub(super) fn url_passwords(text: &str) -> Cow<'_, str> {
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        result.push_str(before);
        let end = after
            .find(|c: char| matches!(c, '/' | '?' | '#' | '"' | '\'') || c.is_whitespace())
            .unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => result.extend([REDACTED, "@", host]),
            None => result.push_str(authority),
        }
        rest = tail;
    }
    if result.is_empty() {
        return Cow::Borrowed(text);
    }
    result.push_str(rest);
    Cow::Owned(result)
}

/// Settings as they may be shown. Secrets are hidden by their type already; this
/// finds those that a component holds as plain text.
pub(super) fn value(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let shown = map.into_iter().map(|(key, below)| {
                let below = if is_secret_key(&key) {
                    hidden(below)
                } else {
                    below
                };
                (key, self::value(below))
            });
            Value::Object(shown.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(self::value).collect()),
        Value::String(text) => Value::String(url_passwords(&text).into_owned()),
        other => other,
    }
}

fn hidden(value: Value) -> Value {
    match value {
        Value::String(text) if !text.is_empty() => REDACTED.into(),
        Value::Array(items) => Value::Array(items.into_iter().map(hidden).collect()),
        other => other,
    }
}

/// A line of a source as it may be shown. `secrets` are the columns, from 1, at
/// which secrets are known to start on this line.
pub(super) fn line(text: &str, number: u32, secrets: impl Iterator<Item = u32>) -> String {
    let lines: Vec<&str> = text.lines().take(number as usize).collect();
    let Some(line) = lines.last() else {
        return String::new();
    };
    if is_below_secret(&lines) || line.contains("-----") {
        return REDACTED.to_owned();
    }
    let known = secrets
        .map(|column| column.saturating_sub(1) as usize)
        .min();
    let known = known.map(|chars| {
        let place = line.char_indices().nth(chars);
        place.map_or(line.len(), |(byte, _)| byte)
    });
    let cut = known.into_iter().chain(named_secret(line)).min();
    let shown = match cut {
        Some(cut) => format!("{}{REDACTED}", line.get(..cut).unwrap_or_default()),
        None => (*line).to_owned(),
    };
    url_passwords(&shown).into_owned()
}

/// Where the first value starts whose key looks like a secret's.
fn named_secret(line: &str) -> Option<usize> {
    line.match_indices([':', '=']).find_map(|(colon, _)| {
        let before = line.get(..colon)?.trim_end_matches(['"', '\'', ' ']);
        let word = before
            .rfind(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-'))
            .map_or(before, |end| before.get(end + 1..).unwrap_or_default());
        let value = line.get(colon + 1..)?;
        let start = colon + 1 + (value.len() - value.trim_start().len());
        let opens = value.trim_start().is_empty() || value.trim_start().starts_with('#');
        ((resembles_secret_key(word) || is_headers(word)) && !opens).then_some(start)
    })
}

/// Headers of requests often carry credentials, under names of all kinds.
fn is_headers(key: &str) -> bool {
    key.ends_with("headers")
}

/// Whether the last line is part of a block or list under a key that looks like
/// a secret's.
fn is_below_secret(lines: &[&str]) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let Some((last, above)) = lines.split_last() else {
        return false;
    };
    let mut inner = indent(last) + usize::from(last.trim_start().starts_with("- "));
    for line in above.iter().rev().filter(|line| !line.trim().is_empty()) {
        if indent(line) >= inner {
            continue;
        }
        inner = indent(line);
        let line = line.trim().trim_start_matches("- ");
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        let key = key.trim_matches(['"', '\'', ' ']);
        let is_block = value.trim_start().starts_with(['|', '>']);
        if (is_secret_key(key) && key != "authorization")
            || is_headers(key)
            || (is_block && key == "key")
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets() {
        for key in [
            "password",
            "bearer_token",
            "X-Api-Key",
            "client_secret",
            "credentials",
        ] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in [
            "password_file",
            "token_url",
            "key",
            "endpoint",
            "bearer_token_file",
        ] {
            assert!(!is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn lines_lose_their_secrets() {
        let shown = |text: &str| line(text, text.lines().count() as u32, std::iter::empty());
        for (text, expected) in [
            ("password: hunter2", "password: [REDACTED]"),
            (
                "a: {user: x, \"password\": hunter2}",
                "a: {user: x, \"password\": [REDACTED]",
            ),
            ("--set a.password=hunter2", "--set a.password=[REDACTED]"),
            ("password_file: /x", "password_file: /x"),
            (
                "proxy: http://a:hunter2@h:1/x",
                "proxy: http://[REDACTED]@h:1/x",
            ),
            ("headers: {X-Scope: hunter2}", "headers: [REDACTED]"),
            ("headers:\n  X-Scope: hunter2", "[REDACTED]"),
            ("key: |\n  hunter2", "[REDACTED]"),
            ("x:\n  secrets:\n    - hunter2", "[REDACTED]"),
            ("x:\n  secrets:\n  - hunter2", "[REDACTED]"),
            ("authorization:\n  type: Bearer", "  type: Bearer"),
            ("a: 1\nb: 2", "b: 2"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert_eq!(
            line("- {pw: hunter2}", 1, [8].into_iter()),
            "- {pw: [REDACTED]"
        );
    }
}
