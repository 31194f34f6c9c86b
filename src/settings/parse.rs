//! YAML text to a [`Node`].
//!
//! Done from the parser's events, because only here both places of a duplicate
//! key, the quotes of a scalar and its text as written are known. Anchors and
//! aliases work, `<<` merges as in YAML 1.1, and what aliases may blow up to is
//! bounded.

use super::{
    Finding, Report,
    tree::{Entry, Node, Position, Scalar, Source, Value},
};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};
use std::{borrow::Cow, collections::HashMap, sync::Arc};

/// How deep values may be nested.
const MAX_DEPTH: usize = 100;
/// How many values one text may have, aliases written out.
const MAX_NODES: usize = 2_000_000;

/// A list or mapping that is still open.
struct Open {
    at: Position,
    anchor: usize,
    items: Vec<Node>,
    /// `None` for a list.
    entries: Option<Vec<Entry>>,
    /// The values of `<<`.
    merges: Vec<Node>,
    /// A key that waits for its value.
    key: Option<(String, Position, bool)>,
}

struct Builder<'a> {
    source: &'a Arc<Source>,
    stack: Vec<Open>,
    anchors: HashMap<usize, Node>,
    documents: usize,
    nodes: usize,
    root: Option<Node>,
    findings: Vec<Finding>,
}

/// Reads the one document of a text. An empty text is nothing (`null`).
pub(super) fn parse(source: &Arc<Source>) -> Result<Node, Report> {
    let mut builder = Builder {
        source,
        stack: Vec::new(),
        anchors: HashMap::new(),
        documents: 0,
        nodes: 0,
        root: None,
        findings: Vec::new(),
    };
    let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let goes_on = match event {
            Ok((event, span)) => builder.event(event, span.start),
            Err(error) => {
                builder.syntax(error.marker(), error.info());
                false
            }
        };
        if !goes_on {
            break;
        }
    }
    if builder.findings.is_empty() {
        let nothing = Node::new(Value::Scalar(Scalar::plain("")), builder.first());
        Ok(builder.root.unwrap_or(nothing))
    } else {
        Err(builder.findings.into())
    }
}

// === impl Builder ===

impl Builder<'_> {
    fn position(&self, marker: &Marker) -> Position {
        Position {
            source: self.source.clone(),
            line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
            column: u32::try_from(marker.col() + 1).unwrap_or(u32::MAX),
        }
    }

    fn first(&self) -> Position {
        Position {
            source: self.source.clone(),
            line: 1,
            column: 1,
        }
    }

    fn wrong(&mut self, at: Position, message: impl Into<String>, hint: Option<String>) {
        self.findings.push(Finding {
            at,
            path: String::new(),
            message: message.into(),
            hint,
        });
    }

    fn syntax(&mut self, marker: &Marker, info: &str) {
        let at = self.position(marker);
        let line = self
            .source
            .text
            .lines()
            .nth(marker.line().saturating_sub(1));
        let hint = match line {
            Some(line) if line.contains("${") && line.contains(['{', '[']) => {
                Some("inside { } and [ ], put ${…} in quotes".to_owned())
            }
            Some(line) if line.trim_start_matches(' ').starts_with('\t') => {
                Some("indent with spaces".to_owned())
            }
            _ => None,
        };
        self.wrong(at, format!("this is no YAML: {info}"), hint);
    }

    /// Returns whether to go on.
    fn event(&mut self, event: Event<'_>, start: Marker) -> bool {
        let at = self.position(&start);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let hint = "write the parts into files of their own and give --config for each";
                    self.wrong(
                        at,
                        "a second document starts here, and only one is read",
                        Some(hint.into()),
                    );
                    return false;
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = self.scalar(&text, style, tag.as_ref(), &at);
                self.value(Node::new(Value::Scalar(scalar), at), anchor);
            }
            Event::Alias(id) => {
                let copy = self.anchors.get(&id).cloned();
                match copy {
                    Some(node) if self.stack.len() + depth(&node) > MAX_DEPTH => {
                        self.too_deep(at);
                        return false;
                    }
                    Some(node) => {
                        self.nodes += count(&node);
                        self.value(node, 0);
                    }
                    None => self.wrong(at, "an alias cannot stand inside its own anchor", None),
                }
            }
            Event::SequenceStart(anchor, tag) => self.open(at, anchor, None, tag.as_ref()),
            Event::MappingStart(anchor, tag) => {
                self.open(at, anchor, Some(Vec::new()), tag.as_ref());
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        self.within_bounds()
    }

    fn within_bounds(&mut self) -> bool {
        let place = self.stack.last().map(|open| open.at.clone());
        let at = place.unwrap_or_else(|| self.first());
        if self.stack.len() > MAX_DEPTH {
            self.too_deep(at);
        } else if self.nodes > MAX_NODES {
            let message =
                format!("there are more than {MAX_NODES} values, those of aliases counted");
            self.wrong(at, message, None);
        } else {
            return true;
        }
        false
    }

    fn too_deep(&mut self, at: Position) {
        let message = format!("values are nested deeper than {MAX_DEPTH} levels");
        self.wrong(at, message, None);
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Cow<'_, Tag>>,
        at: &Position,
    ) -> Scalar {
        self.check_tag(tag, at);
        let text_tag = tag.is_some_and(|tag| tag.suffix == "str");
        if style == ScalarStyle::Plain && !text_tag {
            Scalar::plain(text)
        } else {
            Scalar::quoted(text)
        }
    }

    fn check_tag(&mut self, tag: Option<&Cow<'_, Tag>>, at: &Position) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema() && !tag.suffix.is_empty()) {
            let message = format!("the tag {}{} has no meaning here", tag.handle, tag.suffix);
            self.wrong(at.clone(), message, None);
        }
    }

    fn open(
        &mut self,
        at: Position,
        anchor: usize,
        entries: Option<Vec<Entry>>,
        tag: Option<&Cow<'_, Tag>>,
    ) {
        self.check_tag(tag, &at);
        self.stack.push(Open {
            at,
            anchor,
            items: Vec::new(),
            entries,
            merges: Vec::new(),
            key: None,
        });
    }

    fn close(&mut self) {
        let Some(open) = self.stack.pop() else { return };
        let value = match open.entries {
            None => Value::Sequence(open.items),
            Some(entries) => Value::Mapping(self.merge_keys(entries, open.merges)),
        };
        self.value(Node::new(value, open.at), open.anchor);
    }

    /// Puts a finished value where it belongs.
    fn value(&mut self, node: Node, anchor: usize) {
        self.nodes += 1;
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(node);
            return;
        };
        let Some(entries) = &mut open.entries else {
            open.items.push(node);
            return;
        };
        if let Some((key, at, is_merge)) = open.key.take() {
            let first = entries.iter().find(|entry| entry.key == key);
            let first = first.map(|entry| entry.at.clone());
            match first {
                _ if is_merge => open.merges.push(node),
                None => entries.push(Entry { key, at, node }),
                Some(first) => self.wrong(
                    at,
                    format!("the key {key} is given twice, first at {first}"),
                    Some("keep one of them".into()),
                ),
            }
            return;
        }
        match node.value {
            Value::Scalar(scalar) => {
                let merge = scalar.text == "<<" && !scalar.quoted;
                open.key = Some((scalar.text, node.at, merge));
            }
            Value::Sequence(_) | Value::Mapping(_) => {
                open.key = Some((String::new(), node.at.clone(), false));
                self.wrong(
                    node.at,
                    "a key must be a string, not a list or a mapping",
                    None,
                );
            }
        }
    }

    /// `<<: *anchor` and `<<: [*a, *b]`: keys that the mapping does not have.
    fn merge_keys(&mut self, mut own: Vec<Entry>, merges: Vec<Node>) -> Vec<Entry> {
        for merge in merges {
            let sources = match merge.value {
                Value::Sequence(items) => items,
                Value::Scalar(_) | Value::Mapping(_) => vec![merge],
            };
            for source in sources {
                let Value::Mapping(inherited) = source.value else {
                    self.wrong(source.at, "<< needs a mapping or a list of mappings", None);
                    continue;
                };
                for entry in inherited {
                    if own.iter().all(|known| known.key != entry.key) {
                        own.push(entry);
                    }
                }
            }
        }
        own
    }
}

fn depth(node: &Node) -> usize {
    let items = node.items().iter().map(depth);
    let entries = node.entries().iter().map(|entry| depth(&entry.node));
    1 + items.chain(entries).max().unwrap_or(0)
}

fn count(node: &Node) -> usize {
    let items = node.items().iter().map(count).sum::<usize>();
    let entries = node.entries().iter().map(|entry| count(&entry.node));
    1 + items + entries.sum::<usize>()
}
