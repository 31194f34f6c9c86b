//! Sources to settings.

use super::{
    Catalogue, Environment, Finding, Node, Position, Problem, ReadFile, Report, Settings, Source,
    expand::{Expanded, expand},
    graph,
    merge::{merge, set},
    print,
    tree::Value,
};
use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

/// One `--config`.
#[derive(Clone, Debug)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// Standard input, read once, so that a reload finds it again.
    Stdin(OnceLock<String>),
    /// A text that is part of the program.
    Text {
        /// What messages call it.
        name: String,
        /// The YAML.
        text: String,
    },
}

/// Everything that a configuration is made of.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Later ones merge over earlier ones: maps deep, lists and scalars replace.
    pub inputs: Vec<Input>,
    /// `a.b=c`, over all inputs, in this order.
    pub set: Vec<String>,
    /// Where `${env:X}` looks.
    pub environment: Environment,
}

/// A configuration without a fault.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// The merged tree, expanded: it holds secrets.
    pub tree: Node,
    /// With all defaults filled in, secrets as `[REDACTED]`.
    pub effective: serde_json::Value,
    /// Twelve hex digits that change when `effective` changes. No secret goes
    /// into it, because it is shown in `/metrics`.
    pub hash: String,
    /// The files that were read, of `--config` and `${file:…}`, to be watched.
    pub files: Vec<ReadFile>,
}

// === impl Sources ===

impl Sources {
    /// Sources as given on the command line, where `-` is standard input.
    pub fn new(configs: impl IntoIterator<Item = String>, set: Vec<String>) -> Self {
        let input = |config: String| {
            if config == "-" {
                Input::Stdin(OnceLock::new())
            } else {
                Input::File(config.into())
            }
        };
        Self {
            inputs: configs.into_iter().map(input).collect(),
            set,
            environment: Environment::Process,
        }
    }

    /// One text that is part of the program.
    pub fn text(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            inputs: vec![Input::Text {
                name: name.into(),
                text: text.into(),
            }],
            ..Self::default()
        }
    }
}

/// A merged tree, and what was wrong with parts of it.
struct Merged {
    tree: Node,
    files: Vec<ReadFile>,
    report: Report,
}

/// Reads, merges, expands and checks a configuration. On error the report holds
/// everything that is wrong. Blocks on files and standard input.
pub fn load(sources: &Sources, catalogue: &Catalogue) -> Result<Loaded, Report> {
    let Merged {
        tree,
        files,
        mut report,
    } = read(sources)?;
    match graph::assemble(&tree, catalogue) {
        Ok((settings, effective)) if report.is_empty() => Ok(Loaded {
            settings,
            tree,
            hash: print::hash(&effective),
            effective,
            files,
        }),
        Ok(_) => Err(report),
        Err(wrong) => {
            report.merge_elsewhere(wrong);
            Err(report)
        }
    }
}

/// Fails when a text cannot be read; what is wrong with a variable or a `--set`
/// does not hide what else is wrong.
fn read(sources: &Sources) -> Result<Merged, Report> {
    let mut report = Report::default();
    let mut files = Vec::new();
    let mut trees = Vec::new();
    for input in &sources.inputs {
        match read_input(input, &mut files) {
            Ok(tree) => trees.push(tree),
            Err(wrong) => report.merge(wrong),
        }
    }
    let mut trees = trees.into_iter();
    let Some(mut tree) = trees.next().filter(|_| report.is_empty()) else {
        if report.is_empty() {
            let message = "no configuration is given: add --config FILE, or - for standard input";
            report.merge(Report::about("profile-relay", [Problem::new("", message)]));
        }
        return Err(report);
    };
    for over in trees {
        merge(&mut tree, over);
    }
    for argument in &sources.set {
        if let Err(wrong) = set(&mut tree, argument) {
            report.merge(wrong);
        }
    }
    let mut expanded = Expanded::default();
    expand(&mut tree, "", &sources.environment, &mut expanded);
    report.merge(expanded.findings.into());
    files.extend(expanded.files);
    Ok(Merged {
        tree,
        files,
        report,
    })
}

fn read_input(input: &Input, files: &mut Vec<ReadFile>) -> Result<Node, Report> {
    let source = match input {
        Input::File(path) => {
            let source = read_file(path)?;
            files.push(ReadFile::new(path, source.text.as_bytes()));
            source
        }
        Input::Stdin(read) => Source::new("stdin", "", read_stdin(read)?),
        Input::Text { name, text } => Source::new(name, "", text),
    };
    let tree = Node::parse(&source)?;
    as_mapping(tree, &source)
}

fn as_mapping(tree: Node, source: &Arc<Source>) -> Result<Node, Report> {
    match tree.value {
        Value::Mapping(_) => Ok(tree),
        Value::Scalar(_) if tree.is_null() => {
            let start = Position {
                source: source.clone(),
                line: 1,
                column: 1,
            };
            Ok(Node::new(Value::Mapping(Vec::new()), start))
        }
        Value::Scalar(_) | Value::Sequence(_) => {
            let message = format!(
                "expected a mapping with receivers, exporters and service, found {}",
                tree.describe()
            );
            // The text is not shown: it may be a token file given by mistake.
            Err(vec![Finding::whole(source, message)].into())
        }
    }
}

fn read_file(path: &Path) -> Result<Arc<Source>, Report> {
    let name = path.display().to_string();
    let folder = path.parent().unwrap_or(Path::new(""));
    match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => Ok(Source::new(name, folder, text)),
        Ok(Err(_)) => Err(unreadable(&name, "is no UTF-8 text")),
        Err(error) => Err(unreadable(&name, &format!("cannot be read: {error}"))),
    }
}

fn read_stdin(read: &OnceLock<String>) -> Result<String, Report> {
    if let Some(text) = read.get() {
        return Ok(text.clone());
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| unreadable("stdin", &format!("cannot be read: {error}")))?;
    Ok(read.get_or_init(|| text).clone())
}

fn unreadable(name: &str, message: &str) -> Report {
    vec![Finding::whole(&Source::new(name, "", ""), message)].into()
}
