//! `asterism evaluate`: how good are a model's vectors?

use datasets::pocket::model_dir;
use experiments::evaluate::program::{EvaluateArgs, main_with};

use crate::error::CliError;
use crate::model::check_dir;

/// Score a model on similarity tasks, transfer tasks and your own pairs.
///
/// Prints the table of the papers, both correlations in all aggregations, accuracies, alignment,
/// uniformity and isotropy; --json writes them to a file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    evaluate: EvaluateArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    check_dir(&model_dir(&args.evaluate.model)?)?;
    Ok(main_with(&args.evaluate)?)
}
