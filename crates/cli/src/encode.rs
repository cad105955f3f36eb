//! `asterism encode`: texts to vectors.

use std::path::PathBuf;

use encoder::{LoadOptions, Pooling};
use kernels::DeviceSpec;
use serde::Serialize;

use crate::error::CliError;
use crate::input::TextArgs;
use crate::model::load;
use crate::output::Output;

/// Batches that are read before the first is computed: texts of similar length share a batch.
const BATCHES_READ: usize = 16;

/// Turn texts into vectors.
///
/// Prints one row a text, in order: the numbers separated by tabs, or with --json an object
/// {"text", "vector"}. Blank lines count as texts.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model directory: sentence-transformers layout, or a plain Hugging Face checkpoint.
    #[arg(long, short, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    texts: TextArgs,
    /// Print JSON lines.
    #[arg(long)]
    json: bool,
    /// Scale vectors to unit length, whatever the model says.
    #[arg(long, overrides_with = "no_normalize")]
    normalize: bool,
    /// Leave vectors as long as they are, whatever the model says.
    #[arg(long, overrides_with = "normalize")]
    no_normalize: bool,
    /// Texts computed at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = crate::model::positive)]
    batch_size: usize,
    /// Longest text in tokens, special tokens included; longer ones are cut (default: the model's).
    #[arg(long, value_name = "N", value_parser = crate::model::length)]
    max_len: Option<usize>,
    /// cls, cls_mlp, mean, avg_top2 or avg_first_last (default: the model's).
    #[arg(long, value_name = "NAME")]
    pooling: Option<Pooling>,
    /// flex, ndarray, wgpu, cuda or auto; `cuda:1` is the second GPU.
    #[arg(long, value_name = "D", default_value = "auto")]
    device: DeviceSpec,
}

#[derive(Serialize)]
struct Row<'a> {
    text: &'a str,
    vector: &'a [f32],
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let options = LoadOptions {
        pooling: args.pooling,
        max_len: args.max_len,
        ..LoadOptions::default()
    };
    let mut model = load(&args.model, &options, args.device)?;
    if args.normalize || args.no_normalize {
        model.normalize = args.normalize;
    }
    let mut texts = args.texts.open()?;
    let mut output = Output::stdout();
    loop {
        let group = texts.take(args.batch_size.saturating_mul(BATCHES_READ))?;
        if group.is_empty() {
            return output.flush();
        }
        let vectors = model.encode(&group, args.batch_size)?;
        for (index, text) in group.iter().enumerate() {
            let vector = vectors.row(index);
            if args.json {
                output.json_line(&Row { text, vector })?;
            } else {
                output.line(tabs(vector))?;
            }
        }
        output.flush()?;
    }
}

/// Numbers in the shortest form that reads back as the same `f32`.
fn tabs(vector: &[f32]) -> String {
    let numbers: Vec<String> = vector.iter().map(f32::to_string).collect();
    numbers.join("\t")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_read_back_unchanged() {
        let vector = [0.1_f32, -1.0e-30, 3.0, f32::MIN_POSITIVE, 16_777_216.0];
        let again: Vec<f32> = tabs(&vector)
            .split('\t')
            .map(|n| n.parse().unwrap())
            .collect();
        assert_eq!(again, vector);
    }
}
