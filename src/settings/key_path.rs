//! Key paths as messages, components and `--set` write them: `a.b[2].c`,
//! `exporters."otlp/eu.west".endpoint`, and `a::b::c` for `--set`.

use super::tree::{Node, Position};

/// One step down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list, from 0.
    Index(usize),
}

/// A path with one key more.
pub(super) fn key(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && !key.contains(['.', '[', '"', ' ', ':']);
    join(
        path,
        &if plain {
            key.to_owned()
        } else {
            format!("{key:?}")
        },
    )
}

/// A path with one index more.
pub(super) fn index(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// Two paths, one below the other.
pub(super) fn join(path: &str, below: &str) -> String {
    let dot = if path.is_empty() || below.is_empty() || below.starts_with('[') {
        ""
    } else {
        "."
    };
    format!("{path}{dot}{below}")
}

/// The place of the node at `path`, else of the nearest one above it. A key's
/// place is that of its value, unless the value is a mapping or list.
///
/// Components write keys with dots as they are, so the longest key that fits
/// is taken at every level.
pub(super) fn find<'a>(node: &'a Node, path: &str) -> &'a Position {
    let mut node = node;
    let mut at = &node.at;
    let mut rest = path;
    while !rest.is_empty() {
        let Some((below, key_at, tail)) = descend(node, rest) else {
            break;
        };
        at = match (below.text(), key_at) {
            (None, Some(key_at)) => key_at,
            _ => &below.at,
        };
        node = below;
        rest = tail.strip_prefix('.').unwrap_or(tail);
    }
    at
}

fn descend<'a, 'p>(
    node: &'a Node,
    path: &'p str,
) -> Option<(&'a Node, Option<&'a Position>, &'p str)> {
    if let Some(bracketed) = path.strip_prefix('[') {
        let (number, tail) = bracketed.split_once(']')?;
        let item = node.items().get(number.parse::<usize>().ok()?)?;
        return Some((item, None, tail));
    }
    let fits = |key: &str| -> Option<&'p str> {
        let quoted = format!("{key:?}");
        let tail = path
            .strip_prefix(key)
            .or_else(|| path.strip_prefix(quoted.as_str()))?;
        (tail.is_empty() || tail.starts_with(['.', '['])).then_some(tail)
    };
    node.entries()
        .iter()
        .filter_map(|entry| Some((entry, fits(&entry.key)?)))
        .min_by_key(|(_, tail)| tail.len())
        .map(|(entry, tail)| (&entry.node, Some(&entry.at), tail))
}

/// Reads the path of a `--set`. `None` when it is no path.
pub(super) fn parse(text: &str) -> Option<Vec<Step>> {
    if text.contains("::") {
        let steps = text.split("::").map(|key| Step::Key(key.to_owned()));
        return (!text.split("::").any(str::is_empty)).then(|| steps.collect());
    }
    let mut steps = Vec::new();
    let mut rest = text;
    loop {
        let tail = if let Some(bracketed) = rest.strip_prefix('[').filter(|_| !steps.is_empty()) {
            let (number, tail) = bracketed.split_once(']')?;
            steps.push(Step::Index(number.parse().ok()?));
            tail
        } else {
            let (key, tail) = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
            };
            if key.is_empty() {
                return None;
            }
            steps.push(Step::Key(key.to_owned()));
            tail
        };
        rest = match tail.strip_prefix('.') {
            Some(more) if !more.starts_with('[') => more,
            Some(_) => return None,
            None if tail.is_empty() => return Some(steps),
            None if tail.starts_with('[') => tail,
            None => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(steps: &[&str]) -> Option<Vec<Step>> {
        Some(steps.iter().map(|key| Step::Key((*key).into())).collect())
    }

    #[test]
    fn paths_of_set() {
        assert_eq!(parse("a.b"), keys(&["a", "b"]));
        assert_eq!(
            parse(r#"exporters."otlp/eu.west".endpoint"#),
            keys(&["exporters", "otlp/eu.west", "endpoint"])
        );
        assert_eq!(
            parse("exporters::otlp/eu.west::endpoint"),
            keys(&["exporters", "otlp/eu.west", "endpoint"])
        );
        assert_eq!(
            parse("a[2].b"),
            Some(vec![
                Step::Key("a".into()),
                Step::Index(2),
                Step::Key("b".into())
            ])
        );
        for wrong in [
            "", ".", "a.", ".a", "a..b", "a::", "[1]", "a[x]", "a[1", "\"a", "a.[1]",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_nearest_node_is_found() {
        let text = "a:\n  x.y: 1\n  list:\n    - b: 2\n    - c: 3\n";
        let node = Node::from_text("t", text).unwrap();
        for (path, line, column) in [
            ("a.x.y", 2, 8),
            ("a.\"x.y\"", 2, 8),
            ("a.list[1].c", 5, 10),
            ("a.list[1].absent", 5, 7),
            ("a.list[7].c", 3, 3),
            ("a.absent.deeper", 1, 1),
            ("", 1, 1),
        ] {
            let at = find(&node, path);
            assert_eq!((at.line, at.column), (line, column), "{path}");
        }
    }
}
