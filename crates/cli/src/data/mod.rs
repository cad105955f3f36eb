//! `asterism data`: data sets.

use crate::error::CliError;

mod check;
mod fetch;
mod leaks;
mod list;

pub(crate) use fetch::{DownloadBar, status};

/// List, fetch and check data sets.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Check(check::Args),
    Fetch(fetch::Args),
    Leaks(leaks::Args),
    List(list::Args),
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Check(args) => check::run(args),
        Command::Fetch(args) => fetch::run(&args),
        Command::Leaks(args) => leaks::run(&args),
        Command::List(args) => list::run(&args),
    }
}
