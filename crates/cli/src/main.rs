//! The `asterism` command.
//!
//! ```text
//! asterism discover     texts with broad labels to named fine categories
//! asterism categories   rename, merge, split what was found, with undo
//! asterism encode       texts to vectors
//! asterism predict      texts to the nearest category of a trained model
//! asterism evaluate     similarity and transfer tasks, your own pairs
//! asterism explore      texts and categories on a map, as one page
//! asterism train        star-down, simcse, regression-sts, ngcse, distill
//! asterism data         list, fetch and check data sets
//! asterism model        fetch a model directory, look into one, write it anew
//! asterism datagen      generate the Pocket set, companions of sentences for NGCSE
//! asterism report       the scores of a run
//! asterism rfd          how hard training sets are to fit
//! asterism serve        vectors and categories over HTTP
//! asterism doctor       what this machine can do, what is missing
//! asterism completions  shell completions
//! asterism man          manual pages
//! ```
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed
//! run, 2 bad input or usage, 130 and 143 interrupted after saving. A reader that closes the pipe
//! (`asterism ... | head`) ends the program with code 0.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::error::CliError;

mod categories;
mod completions;
mod data;
mod datagen;
mod discover;
mod doctor;
mod encode;
mod error;
mod evaluate;
mod explore;
mod inference;
mod input;
mod man;
mod model;
mod model_categories;
mod output;
mod predict;
mod report;
mod rfd;
mod rows;
mod run_files;
mod serve;
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
    Explore(explore::Args),
    #[command(subcommand)]
    Train(train::Command),
    #[command(subcommand)]
    Data(data::Command),
    #[command(subcommand)]
    Model(model::Command),
    #[command(subcommand)]
    Datagen(datagen::Command),
    Discover(Box<discover::Args>),
    Doctor(doctor::Args),
    Report(report::Args),
    Rfd(rfd::Args),
    Serve(serve::Args),
    #[command(subcommand)]
    Categories(categories::Command),
    Completions(completions::Args),
    Man(man::Args),
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
        Command::Explore(args) => explore::run(args),
        Command::Train(command) => train::run(command),
        Command::Data(command) => data::run(command),
        Command::Model(command) => model::run(command),
        Command::Datagen(command) => datagen::run(command),
        Command::Discover(args) => discover::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Rfd(args) => rfd::run(&args),
        Command::Serve(args) => serve::run(args),
        Command::Categories(command) => categories::run(command),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Man(args) => man::run(&args, Cli::command()),
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
