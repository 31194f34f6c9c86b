//! Text with groups of an expression, in the notation of Go's `Regexp.Expand`.
//!
//! `$name` takes the longest run of letters, digits and `_`, so that `$1x` is
//! the group named `1x`, which no expression has, and hence empty; `${1}x` is
//! what was meant. `$$` is a dollar sign, and a `$` that begins no name is
//! itself. A group that does not exist or did not take part is empty.

use super::pattern::{Groups, Pattern};
use std::borrow::Cow;

/// A text and the groups within it, found once.
#[derive(Clone, Debug)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Group(usize),
}

// === impl Template ===

impl Template {
    /// Reads `text` for the groups of `pattern`.
    pub(super) fn new(text: &str, pattern: &Pattern) -> Self {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                literal.push('$');
                rest = after;
            } else if let Some((name, after)) = reference(after) {
                if let Some(group) = pattern.group(name) {
                    if !literal.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
                    }
                    pieces.push(Piece::Group(group));
                }
                rest = after;
            } else {
                literal.push('$');
                rest = after;
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal.into()));
        }
        Self(pieces)
    }

    /// The text with the groups that a match found.
    pub(super) fn expand<'a>(&'a self, groups: &'a Groups<'_>) -> Cow<'a, str> {
        match &*self.0 {
            [] => Cow::Borrowed(""),
            [only] => Cow::Borrowed(only.expand(groups)),
            many => many.iter().map(|piece| piece.expand(groups)).collect(),
        }
    }
}

// === impl Piece ===

impl Piece {
    fn expand<'a>(&'a self, groups: &'a Groups<'_>) -> &'a str {
        match self {
            Self::Text(text) => text,
            Self::Group(group) => groups.get(*group),
        }
    }
}

/// The name behind a `$`, braced or not, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let braced = text.strip_prefix('{');
    let body = braced.unwrap_or(text);
    let end = body
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(body.len());
    let (name, rest) = body.split_at(end);
    let rest = match braced {
        Some(_) => rest.strip_prefix('}')?,
        None => rest,
    };
    (!name.is_empty()).then_some((name, rest))
}
