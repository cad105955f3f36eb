//! The `asterism` command.
//!
//! ```text
//! asterism encode       texts to vectors
//! asterism predict      texts to the nearest category of a trained model
//! asterism evaluate     similarity and transfer tasks, your own pairs
//! asterism train        star-down, simcse, regression-sts, ngcse, distill
//! asterism data         list, fetch and check data sets
//! asterism model        look into a model directory, write it anew
//! asterism datagen      generate the Pocket set, companions of sentences for NGCSE
//! asterism report       the scores of a run
//! asterism rfd          how hard training sets are to fit
//! asterism completions  shell completions
//! ```
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed
//! run, 2 bad input or usage, 130 and 143 interrupted after saving. A reader that closes the pipe
//! (`asterism ... | head`) ends the program with code 0.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::error::CliError;

mod completions;
mod data;
mod datagen;
mod encode;
mod error;
mod evaluate;
mod inference;
mod input;
mod model;
mod output;
mod predict;
mod report;
mod rfd;
mod train;

/// Category discovery and sentence embeddings.
///
/// Results go to standard output, messages to standard error. Exit codes: 0 done, 1 failed run,
/// 2 bad input or usage, 130 and 143 interrupted after saving.
#[derive(Debug, Parser)]
#[command(name = "asterism", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Encode(encode::Args),
    Predict(predict::Args),
    Evaluate(evaluate::Args),
    #[command(subcommand)]
    Train(train::Command),
    #[command(subcommand)]
    Data(data::Command),
    #[command(subcommand)]
    Model(model::Command),
    #[command(subcommand)]
    Datagen(datagen::Command),
    Report(report::Args),
    Rfd(rfd::Args),
    Completions(completions::Args),
}

fn main() -> ExitCode {
    kernels::tune_allocator();
    error::conclude(run(Cli::parse().command))
}

fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Encode(args) => encode::run(args),
        Command::Predict(args) => predict::run(args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Train(command) => train::run(command),
        Command::Data(command) => data::run(command),
        Command::Model(command) => model::run(command),
        Command::Datagen(command) => datagen::run(command),
        Command::Report(args) => report::run(&args),
        Command::Rfd(args) => rfd::run(&args),
        Command::Completions(args) => completions::run(&args, Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
