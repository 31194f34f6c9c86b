//! All that is wrong with a configuration, for people.
//!
//! What is printed never holds a secret: source lines are cut where one starts.

use super::{
    Problem, redact,
    tree::{Position, Source},
};
use std::{fmt, path::Path, sync::Arc};

/// The widest source line that is shown.
const MAX_WIDTH: usize = 160;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub at: Position,
    /// The key path from the top of the configuration.
    pub path: String,
    /// The reason.
    pub message: String,
    /// The way out, where it is not part of the reason.
    pub hint: Option<String>,
}

/// Findings, printed in the order of file and line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    findings: Vec<Finding>,
    secrets: Vec<Position>,
}

/// A report for a terminal, with colours.
#[derive(Debug)]
pub struct Coloured<'a>(&'a Report);

// === impl Finding ===

impl Finding {
    /// Something that is wrong with a source as a whole.
    pub(super) fn whole(source: &Arc<Source>, message: impl Into<String>) -> Self {
        Self {
            at: source.whole(),
            path: String::new(),
            message: message.into(),
            hint: None,
        }
    }

    /// Message and hint, on one line.
    pub fn text(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}; {hint}", self.message),
            None => self.message.clone(),
        }
    }
}

// === impl Report ===

impl Report {
    /// Findings, and where secrets stand that must not be shown with them.
    pub(super) fn new(findings: Vec<Finding>, secrets: Vec<Position>) -> Self {
        Self { findings, secrets }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// All findings, in the order of file and line.
    pub fn findings(&self) -> Vec<&Finding> {
        let mut sorted: Vec<_> = self.findings.iter().collect();
        let key = |finding: &Finding| (finding.at.line, finding.at.column);
        sorted.sort_by(|a, b| {
            let names = a.at.source.name.cmp(&b.at.source.name);
            names.then_with(|| key(a).cmp(&key(b)))
        });
        sorted.dedup();
        sorted
    }

    /// Whether something is wrong at this place.
    pub(super) fn is_about(&self, at: &Position) -> bool {
        self.findings.iter().any(|finding| finding.at == *at)
    }

    /// Takes over the findings of another report.
    pub fn merge(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.secrets.extend(other.secrets);
    }

    /// Takes over the findings of another report at places where this one has none.
    pub(super) fn merge_elsewhere(&mut self, other: Self) {
        let (new, _): (Vec<_>, Vec<_>) = other
            .findings
            .into_iter()
            .partition(|finding| !self.is_about(&finding.at));
        self.findings.extend(new);
        self.secrets.extend(other.secrets);
    }

    /// Adds one finding.
    pub fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Remembers where secrets stand.
    pub(super) fn hide(&mut self, secrets: Vec<Position>) {
        self.secrets.extend(secrets);
    }

    /// The same text with colours.
    pub fn coloured(&self) -> Coloured<'_> {
        Coloured(self)
    }

    /// A report of problems that belong to no text, such as a missing argument.
    pub fn about(name: &str, problems: impl IntoIterator<Item = Problem>) -> Self {
        let source = Source::new(name, Path::new(""), "");
        let findings = problems.into_iter().map(|problem| Finding {
            path: problem.path,
            ..Finding::whole(&source, problem.message)
        });
        findings.collect::<Vec<_>>().into()
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, colour: bool) -> fmt::Result {
        let (bold, red, plain) = if colour {
            ("\x1b[1m", "\x1b[31m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        let findings = self.findings();
        for finding in &findings {
            write!(f, "{bold}{}:{plain} ", finding.at)?;
            if !finding.path.is_empty() {
                write!(f, "{}: ", finding.path)?;
            }
            writeln!(f, "{red}{}{plain}", finding.text())?;
            if let Some((line, caret)) = self.snippet(finding) {
                writeln!(f, "    {line}")?;
                if !caret.is_empty() {
                    writeln!(f, "    {caret}")?;
                }
            }
            writeln!(f)?;
        }
        match findings.len() {
            1 => writeln!(f, "1 problem in the configuration"),
            many => writeln!(f, "{many} problems in the configuration"),
        }
    }

    /// The line in question and a caret below the column, unless the line is cut
    /// in front of it.
    fn snippet(&self, finding: &Finding) -> Option<(String, String)> {
        let at = &finding.at;
        if at.line == 0 {
            return None;
        }
        let secrets = self
            .secrets
            .iter()
            .filter(|secret| secret.line == at.line && Arc::ptr_eq(&secret.source, &at.source));
        let columns = secrets.map(|secret| secret.column);
        let line = redact::line(&at.source.text, at.line, columns);
        let column = (at.column.saturating_sub(1)) as usize;
        if line.trim().is_empty() || column > MAX_WIDTH {
            return None;
        }
        let is_cut = line.chars().count() > MAX_WIDTH;
        let mut shown: String = line.chars().take(MAX_WIDTH).collect();
        if is_cut {
            shown.push('…');
        }
        if column > line.chars().count() {
            return Some((shown, String::new()));
        }
        // Tabs stay, so that the caret stands below what it means.
        let blank = line.chars().take(column);
        let mut caret: String = blank.map(|c| if c == '\t' { c } else { ' ' }).collect();
        caret.push('^');
        Some((shown, caret))
    }
}

impl From<Vec<Finding>> for Report {
    fn from(findings: Vec<Finding>) -> Self {
        Self::new(findings, Vec::new())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, false)
    }
}

impl fmt::Display for Coloured<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, true)
    }
}

impl std::error::Error for Report {}
