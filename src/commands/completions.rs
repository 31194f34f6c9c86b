//! `completions SHELL`: a completion script on standard output.

use super::{Exit, command_line, print};
use clap::Args;
use clap_complete::Shell;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// bash, elvish, fish, powershell or zsh
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut command_line(),
        "profile-relay",
        &mut script,
    );
    print(&String::from_utf8_lossy(&script))
}
