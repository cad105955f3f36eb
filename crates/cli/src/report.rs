//! `asterism report`: the scores of a run.

use std::path::PathBuf;

use experiments::report::text_table;
use experiments::result::ResultFile;

use crate::error::CliError;
use crate::output::Output;

/// Print the scores of a run as a table.
///
/// Percent, mean and standard deviation over seeds, with the published figure where one is known.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run directory, or a result.json.
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
    /// Print result.json, checked.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let path = if args.run.is_dir() {
        args.run.join("result.json")
    } else {
        args.run.clone()
    };
    let result = ResultFile::read(&path)?;
    let mut output = Output::stdout();
    if args.json {
        output.text(result.to_json()?)?;
    } else {
        let data = &result.data;
        // Sentence embeddings have none.
        let categories = match (data.n_coarse, data.n_fine) {
            (0, 0) => String::new(),
            (coarse, fine) => format!(", {coarse} coarse and {fine} fine categories"),
        };
        output.line(format_args!(
            "{} on {}: {} training and {} test rows{categories}",
            result.experiment, data.name, data.train_rows, data.test_rows,
        ))?;
        output.line("")?;
        output.text(text_table(&result))?;
    }
    output.flush()
}
