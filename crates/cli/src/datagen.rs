//! `asterism datagen`: data made from templates.

use std::path::PathBuf;

use ::datagen::pocket;

use crate::error::CliError;
use crate::output::Output;

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
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<(), CliError> {
    let Command::Pocket { out, seed } = command;
    let set = pocket::generate(seed)?;
    std::fs::create_dir_all(&out).map_err(CliError::file("make the folder", &out))?;
    let mut output = Output::stdout();
    for (name, content) in [
        ("train.tsv", set.train_tsv()),
        ("test.tsv", set.test_tsv()),
        ("vocab.txt", set.vocab_txt()),
    ] {
        let path = out.join(name);
        std::fs::write(&path, content).map_err(CliError::file("write", &path))?;
        output.line(path.display())?;
    }
    output.flush()
}
