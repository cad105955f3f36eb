//! `asterism train`: the training systems.

use experiments::cli::Common;

use crate::error::CliError;

/// Train a system.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Fine categories from coarse labels: floors, coarse pre-training, DOWN and STAR from one start.
    ///
    /// Without options it runs on the bundled Pocket set with a small encoder drawn from the seed.
    StarDown(Common),
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::StarDown(common) => Ok(experiments::star_down::main_with(common)?),
    }
}
