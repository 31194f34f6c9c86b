//! `schema`: the configuration as JSON Schema, for editors, or as the reference,
//! for people. Both come from the settings types and their doc comments.

use super::{Exit, print};
use crate::{
    components,
    pipeline::Reason,
    profile::pprof::{Action, Rule},
    settings::{self, Table},
};
use clap::{Args, ValueEnum};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// JSON Schema, draft 2020-12
    Json,
    /// The text of docs/reference.md
    Markdown,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    let catalogue = components::catalogue();
    match arguments.format {
        Format::Json => print(&format!("{:#}", settings::schema(&catalogue))),
        Format::Markdown => print(&reference()),
    }
}

/// The text of `docs/reference.md`.
pub(crate) fn reference() -> String {
    settings::reference(&components::catalogue(), &[rules(), reasons()])
}

fn rules() -> Table {
    let row = |rule: &Rule| {
        let action = match rule.action() {
            Action::Repair => "repaired",
            Action::Drop => "dropped",
        };
        vec![
            format!("`{}`", rule.as_str()),
            action.to_owned(),
            rule.describe().to_owned(),
        ]
    };
    Table {
        title: "Rules of the parca exporter".into(),
        text: "Every pprof is checked before it is sent; one that breaks no rule leaves byte \
                for byte as it came. Each application is counted by rule in \
                `profile_relay_exporter_repaired_profiles_total` or \
                `profile_relay_exporter_unrepairable_profiles_total`."
            .into(),
        columns: vec![
            "rule".into(),
            "the profile is".into(),
            "what is wrong, and what is done".into(),
        ],
        rows: Rule::ALL.iter().map(row).collect(),
    }
}

fn reasons() -> Table {
    let row = |reason: &Reason| {
        vec![
            format!("`{}`", reason.as_str()),
            reason.describe().to_owned(),
        ]
    };
    Table {
        title: "Reasons".into(),
        text: "Why a profile was refused or dropped: the label `reason` of metrics, and the \
                word in logs and answers."
            .into(),
        columns: vec!["reason".into(), "meaning".into()],
        rows: Reason::ALL.iter().map(row).collect(),
    }
}
