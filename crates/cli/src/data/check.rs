//! `asterism data check`: loads a data set and prints what the loader saw.

use std::path::Path;

use datasets::{LoadOptions, load_category_dir};

use crate::error::CliError;
use crate::output::Output;

/// Load a data set and print what is in it.
///
/// Rows, categories, skipped lines, duplicates, rows shared by training and test, SHA-256. Anything
/// that training would refuse is an error here, with file and line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with train and test files (.tsv, .csv or .jsonl, also with .gz), or `pocket`.
    #[arg(value_name = "DIR|pocket")]
    data: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Refuse rows with a wrong number of fields where they would be skipped.
    #[arg(long)]
    strict_tsv: bool,
    /// Skip rows with an empty text instead of refusing them.
    #[arg(long)]
    skip_empty_text: bool,
    /// Skip test rows with a fine label that the training file does not have.
    #[arg(long)]
    skip_unseen_fine: bool,
    /// Column or field of the text in .csv and .jsonl.
    #[arg(long, value_name = "NAME", default_value = "text")]
    text_column: String,
    /// Column or field of the coarse label in .csv and .jsonl.
    #[arg(long, value_name = "NAME", default_value = "coarse")]
    coarse_column: String,
    /// Column or field of the fine label in .csv and .jsonl.
    #[arg(long, value_name = "NAME", default_value = "fine")]
    fine_column: String,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let data = if args.data == "pocket" {
        datasets::pocket()?
    } else {
        let options = LoadOptions {
            strict_tsv: args.strict_tsv,
            skip_empty_text: args.skip_empty_text,
            skip_unseen_fine: args.skip_unseen_fine,
            text_column: args.text_column,
            coarse_column: args.coarse_column,
            fine_column: args.fine_column,
            ..LoadOptions::default()
        };
        load_category_dir(Path::new(&args.data), &options)?
    };
    let mut output = Output::stdout();
    if args.json {
        output.json(&data.report)?;
    } else {
        output.text(&data.report)?;
    }
    output.flush()
}
