//! `asterism train`: the training systems.

use experiments::cli::Common;

use crate::error::CliError;

/// Train a system.
///
/// Without --data and --model, everything but distill runs on what is bundled. The same as the
/// programs of the same names, with the same options.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Fine categories from coarse labels: floors, coarse pre-training, DOWN and STAR from one start.
    StarDown(Common),
    /// Contrastive sentence embeddings from plain sentences, pairs or triplets (SimCSE).
    Simcse(Common),
    /// Siamese regression on labelled pairs, then on scored pairs.
    RegressionSts(Common),
    /// Training on generated sentences, and how hard training sets are to fit (NGCSE).
    Ngcse(experiments::ngcse::NgcseArgs),
    /// A small encoder taught by a large one, which --model names.
    Distill(Common),
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<(), CliError> {
    Ok(match command {
        Command::StarDown(common) => experiments::star_down::main_with(common),
        Command::Simcse(common) => experiments::simcse::main_with(common),
        Command::RegressionSts(common) => experiments::regression_sts::main_with(common),
        Command::Ngcse(args) => experiments::ngcse::main_with(args),
        Command::Distill(common) => experiments::distill::main_with(common),
    }?)
}
