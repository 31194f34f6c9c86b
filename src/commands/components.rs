//! `components`: which component types this program has.

use super::{Exit, print};
use crate::{components, settings::Kind};
use clap::Args;
use std::fmt::Write;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    if arguments.json {
        print(&as_json())
    } else {
        print(&as_text())
    }
}

fn as_text() -> String {
    let catalogue = components::catalogue();
    let mut text = String::new();
    for kind in Kind::ALL {
        let mut types = catalogue.of(kind).peekable();
        if types.peek().is_none() {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}:", kind.section());
        for ty in types {
            let _ = writeln!(text, "  {:<10} {}", ty.name, ty.summary);
        }
    }
    text
}

fn as_json() -> String {
    let catalogue = components::catalogue();
    let section = |kind: Kind| {
        let types = catalogue
            .of(kind)
            .map(|ty| serde_json::json!({"name": ty.name, "summary": ty.summary}));
        (kind.section().to_owned(), types.collect())
    };
    let sections: serde_json::Map<_, _> = Kind::ALL.into_iter().map(section).collect();
    format!("{:#}", serde_json::Value::Object(sections))
}
