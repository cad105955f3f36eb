//! `asterism datagen`: data made from templates, rules or with a language model.

use std::path::{Path, PathBuf};

use ::datagen::pocket;
use ::datagen::simulation::Prompts;

use crate::error::CliError;
use crate::output::Output;

pub(crate) mod ask;
mod corpus;
mod error;
mod name;
mod simulate;

pub(crate) use error::DatagenError;

/// Generate data.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Write the Pocket set: train.tsv, test.tsv and vocab.txt.
    Pocket {
        /// Folder to write into; made if it does not exist.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Seed of the generator; the bundled files use the default.
        #[arg(long, value_name = "N", default_value_t = pocket::SEED)]
        seed: u64,
    },
    Simulate(Box<simulate::Args>),
    Corpus(Box<corpus::Args>),
    Name(Box<name::Args>),
    /// Write the prompts of `simulate` as files to edit, for its --prompts.
    Prompts {
        /// Folder to write into; made if it does not exist. No file is replaced.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Pocket { out, seed } => write_pocket(&out, seed),
        Command::Simulate(args) => simulate::run(&args),
        Command::Corpus(args) => corpus::run(&args),
        Command::Name(args) => name::run(&args),
        Command::Prompts { out } => {
            let paths = Prompts::shipped().write(&out).map_err(DatagenError::from)?;
            print_paths(&paths)
        }
    }
}

fn write_pocket(out: &Path, seed: u64) -> Result<(), CliError> {
    let set = pocket::generate(seed)?;
    std::fs::create_dir_all(out).map_err(CliError::file("make the folder", out))?;
    let mut paths = Vec::new();
    for (name, content) in [
        ("train.tsv", set.train_tsv()),
        ("test.tsv", set.test_tsv()),
        ("vocab.txt", set.vocab_txt()),
    ] {
        let path = out.join(name);
        std::fs::write(&path, content).map_err(CliError::file("write", &path))?;
        paths.push(path);
    }
    print_paths(&paths)
}

/// Files written, one a line.
fn print_paths(paths: &[PathBuf]) -> Result<(), CliError> {
    let mut output = Output::stdout();
    for path in paths {
        output.line(path.display())?;
    }
    output.flush()
}
