//! Expressions as Prometheus anchors and Go writes them.
//!
//! Go's regexp package and the regex crate both descend from RE2: the same
//! engine guarantees (linear time), the same preference among matches, nearly
//! the same syntax. [`from_go`] rewrites the rest, so that an expression copied
//! from a Prometheus configuration means the same here.

use regex::{Captures, Regex};
use std::fmt::Write;

/// An expression that a whole text must match; a dot also matches a line feed.
///
/// Go's syntax, with these differences from Go: octal escapes (`\012`) are
/// refused, `\B` asks about Unicode letters, a group's name must not begin with
/// a digit, the compiled expression may take 10 MiB at most, and some things
/// that Go refuses (`a**`, `(?x)`, more than 1,000 repetitions) are accepted.
#[derive(Clone, Debug)]
pub struct Pattern(Kind);

/// Why an expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no regular expression: {reason}")]
pub struct InvalidPattern {
    text: String,
    reason: String,
}

/// What a match found.
#[derive(Debug)]
pub(super) enum Groups<'a> {
    Whole(&'a str),
    Captured(Captures<'a>),
}

#[derive(Clone, Debug)]
enum Kind {
    /// `.*` and `(.*)`, by far the most frequent ones, need no engine.
    Anything {
        groups: usize,
    },
    Regex(Regex),
}

// === impl Pattern ===

impl Pattern {
    /// Compiles `text`, anchored at both ends.
    pub fn new(text: &str) -> Result<Self, InvalidPattern> {
        let kind = match text {
            ".*" => Kind::Anything { groups: 0 },
            "(.*)" => Kind::Anything { groups: 1 },
            _ => Regex::new(&format!("^(?s:{})$", from_go(text)))
                .map(Kind::Regex)
                .map_err(|error| InvalidPattern {
                    text: text.into(),
                    reason: reason(&error),
                })?,
        };
        Ok(Self(kind))
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        match &self.0 {
            Kind::Anything { .. } => true,
            Kind::Regex(regex) => regex.is_match(text),
        }
    }

    /// The groups of a match.
    pub(super) fn groups<'a>(&self, text: &'a str) -> Option<Groups<'a>> {
        match &self.0 {
            Kind::Anything { .. } => Some(Groups::Whole(text)),
            Kind::Regex(regex) => regex.captures(text).map(Groups::Captured),
        }
    }

    /// The group that a template calls `name`, if there is one.
    pub(super) fn group(&self, name: &str) -> Option<usize> {
        let digits = name.bytes().all(|byte| byte.is_ascii_digit());
        let count = match &self.0 {
            Kind::Anything { groups } => groups + 1,
            Kind::Regex(regex) => regex.captures_len(),
        };
        if digits && (name == "0" || !name.starts_with('0')) {
            return name.parse().ok().filter(|group| *group < count);
        }
        match &self.0 {
            Kind::Anything { .. } => None,
            Kind::Regex(regex) => regex.capture_names().position(|known| known == Some(name)),
        }
    }
}

// === impl Groups ===

impl Groups<'_> {
    pub(super) fn get(&self, group: usize) -> &str {
        match self {
            Self::Whole(text) => text,
            Self::Captured(captures) => captures.get(group).map_or("", |found| found.as_str()),
        }
    }
}

/// The last line of the engine's drawing is the reason.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    let last = last.strip_prefix("error: ").unwrap_or(last);
    last.trim_end_matches('.').to_owned()
}

/// Rewrites what the regex crate reads differently: `\d`, `\s`, `\w` and `\b`
/// are ASCII in Go; `\Q…\E` quotes; `\<` is a character; a brace that begins no
/// repetition is one; in a class `[`, `&&`, `~~` and `--` have no meaning.
fn from_go(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '\\' if rest.starts_with("\\Q") => quoted(rest, &mut out),
            '\\' => escaped(rest, false, &mut out),
            '[' => class(rest, &mut out),
            '{' if repetition(rest) == 0 => push(r"\{", 1, &mut out),
            _ => push(&rest[..first.len_utf8()], first.len_utf8(), &mut out),
        };
        rest = &rest[taken..];
    }
    out
}

fn push(text: &str, taken: usize, out: &mut String) -> usize {
    out.push_str(text);
    taken
}

/// `\Q` up to `\E` or the end.
fn quoted(text: &str, out: &mut String) -> usize {
    let body = &text[2..];
    let end = body.find("\\E").unwrap_or(body.len());
    out.push_str(&regex::escape(&body[..end]));
    (2 + end + 2).min(text.len())
}

/// A backslash and what it escapes.
fn escaped(text: &str, in_class: bool, out: &mut String) -> usize {
    let Some(what) = text[1..].chars().next() else {
        return push(text, text.len(), out);
    };
    let rewritten = match what {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => r"[\t\n\f\r ]",
        'S' => r"[^\t\n\f\r ]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        'b' if !in_class => r"(?-u:\b)",
        '<' => "<",
        '>' => ">",
        'p' | 'P' | 'x' if text[2..].starts_with('{') => {
            let end = text.find('}').map_or(text.len(), |end| end + 1);
            return push(&text[..end], end, out);
        }
        _ => {
            let taken = 1 + what.len_utf8();
            return push(&text[..taken], taken, out);
        }
    };
    push(rewritten, 2, out)
}

/// The length of a `{2}`, `{2,}` or `{2,5}` at the start of `text`, else 0.
fn repetition(text: &str) -> usize {
    let Some(end) = text.find('}') else { return 0 };
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let body = &text[1..end];
    let valid = match body.split_once(',') {
        Some((from, to)) => number(from) && (to.is_empty() || number(to)),
        None => number(body),
    };
    if valid { end + 1 } else { 0 }
}

/// A bracketed class, up to and with its closing bracket.
fn class(text: &str, out: &mut String) -> usize {
    let mut at = 1;
    out.push('[');
    if text[at..].starts_with('^') {
        at += push("^", 1, out);
    }
    if text[at..].starts_with(']') {
        at += push(r"\]", 1, out);
    }
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        at += match first {
            ']' => return at + push("]", 1, out),
            '\\' => escaped(rest, true, out),
            '[' => match rest.find(":]") {
                Some(end) if rest.starts_with("[:") => push(&rest[..end + 2], end + 2, out),
                _ => push(r"\[", 1, out),
            },
            '-' if rest.starts_with("--") => push(r"-\-", 2, out),
            '&' | '~' => {
                // Writing to a String cannot fail.
                let _ = write!(out, r"\{first}");
                1
            }
            _ => push(&rest[..first.len_utf8()], first.len_utf8(), out),
        };
    }
    at
}
