//! Several trees to one: maps merge, lists and scalars replace.

use super::{
    Finding, Report,
    key_path::{self, Step},
    tree::{Entry, Node, Position, Scalar, Source, Value},
};

/// Lays `over` over `base`.
pub(super) fn merge(base: &mut Node, over: Node) {
    match (&mut base.value, over.value) {
        (Value::Mapping(below), Value::Mapping(above)) => {
            for entry in above {
                match below.iter_mut().find(|known| known.key == entry.key) {
                    Some(known) => {
                        let both_mappings = matches!(
                            (&known.node.value, &entry.node.value),
                            (Value::Mapping(_), Value::Mapping(_))
                        );
                        if !both_mappings {
                            known.at = entry.at;
                        }
                        merge(&mut known.node, entry.node);
                    }
                    None => below.push(entry),
                }
            }
        }
        (_, value) => *base = Node::new(value, over.at),
    }
}

/// Lays one `--set a.b=c` over a tree.
pub(super) fn set(base: &mut Node, argument: &str) -> Result<(), Report> {
    let source = Source::new("--set", "", argument);
    let wrong = |message: String| Report::from(vec![Finding::whole(&source, message)]);
    let Some((path, text)) = argument.split_once('=') else {
        // Not repeated: it may be a secret in the wrong place.
        return Err(wrong(
            "a value is missing: write --set key.path=value".into(),
        ));
    };
    let steps = key_path::parse(path.trim()).ok_or_else(|| {
        wrong(format!(
            "{path} is no key path: write a.b.c, a.\"b.c\".d or a::b.c::d"
        ))
    })?;
    let start = Position {
        source: source.clone(),
        line: 1,
        column: 1,
    };
    let offset = u32::try_from(path.chars().count()).unwrap_or(0) + 1;
    let value = Node::parse(&Source::new("--set", "", text))
        .map_err(|report| moved_report(&report, &start, offset))?;
    let value = moved(value, &start, offset);
    place(base, &steps, value, &start).map_err(wrong)
}

fn place(base: &mut Node, steps: &[Step], value: Node, at: &Position) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else {
        merge(base, value);
        return Ok(());
    };
    match step {
        Step::Index(index) => {
            let Value::Sequence(items) = &mut base.value else {
                return Err(format!("[{index}] needs a list in the configuration"));
            };
            let length = items.len();
            let Some(item) = items.get_mut(*index) else {
                return Err(format!("[{index}] is behind the end of a list of {length}"));
            };
            place(item, rest, value, at)
        }
        Step::Key(key) => {
            if !matches!(base.value, Value::Mapping(_)) {
                *base = Node::new(Value::Mapping(Vec::new()), at.clone());
            }
            let Value::Mapping(entries) = &mut base.value else {
                return Ok(());
            };
            if let Some(known) = entries.iter_mut().find(|entry| entry.key == *key) {
                if rest.is_empty() {
                    known.at = at.clone();
                }
                return place(&mut known.node, rest, value, at);
            }
            let mut node = Node::new(Value::Scalar(Scalar::plain("")), at.clone());
            place(&mut node, rest, value, at)?;
            entries.push(Entry {
                key: key.clone(),
                at: at.clone(),
                node,
            });
            Ok(())
        }
    }
}

/// A value that was parsed alone, at its place in the argument.
fn moved(mut node: Node, start: &Position, offset: u32) -> Node {
    node.at = moved_position(&node.at, start, offset);
    match &mut node.value {
        Value::Scalar(_) => {}
        Value::Sequence(items) => {
            for item in items {
                *item = moved(item.clone(), start, offset);
            }
        }
        Value::Mapping(entries) => {
            for entry in entries {
                entry.at = moved_position(&entry.at, start, offset);
                entry.node = moved(entry.node.clone(), start, offset);
            }
        }
    }
    node
}

fn moved_position(at: &Position, start: &Position, offset: u32) -> Position {
    Position {
        source: start.source.clone(),
        line: at.line,
        column: at.column + if at.line == 1 { offset } else { 0 },
    }
}

fn moved_report(report: &Report, start: &Position, offset: u32) -> Report {
    let findings = report.findings().into_iter().map(|finding| Finding {
        at: moved_position(&finding.at, start, offset),
        ..finding.clone()
    });
    findings.collect::<Vec<_>>().into()
}
