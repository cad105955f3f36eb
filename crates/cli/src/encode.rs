//! `asterism encode`: texts to vectors.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use encoder::{Embeddings, Precision, Prompt, QuantizedValues, Ranges, SentenceEncoder, quantize};
use experiments::evaluate::program::which_prompt;
use serde::Serialize;

use crate::error::CliError;
use crate::inference::InferenceArgs;
use crate::input::Texts;
use crate::model::Overrides;
use crate::output::Output;

/// Batches that are read before the first is computed: texts of similar length share a batch.
const BATCHES_READ: usize = 16;

/// Turn texts into vectors.
///
/// Prints one row a text, in order: the numbers separated by tabs, or with --json an object
/// {"text", "vector"}. Blank lines count as texts.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    inference: InferenceArgs,
    #[command(flatten)]
    overrides: Overrides,
    /// Put in front of every text: a prompt of the model by name, or any text that is more than one
    /// plain word; empty for none (default: the model's default prompt).
    #[arg(long, value_name = "NAME|TEXT")]
    prompt: Option<String>,
    /// Keep the first N dimensions (Matryoshka); unit vectors are scaled to unit length again.
    #[arg(long, value_name = "N", value_parser = crate::model::positive)]
    truncate_dim: Option<usize>,
    /// f32; int8 or uint8, a byte a dimension, with --calibration; binary or ubinary, a bit a
    /// dimension, eight to a signed or unsigned byte.
    #[arg(long, value_name = "NAME", default_value = "f32", value_parser = precision)]
    precision: Precision,
    /// File with some thousands of typical texts, one a line; int8 and uint8 spread the range that
    /// each dimension has over them.
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// Texts computed at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = crate::model::positive)]
    batch_size: usize,
}

#[derive(Serialize)]
struct Row<'a, T> {
    text: &'a str,
    vector: &'a [T],
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    check_calibration(args.precision, args.calibration.is_some())?;
    let inference = args.inference;
    let json = inference.json;
    let mut model = args
        .overrides
        .load(&inference.model, false, inference.device)?;
    model
        .set_truncate_dim(args.truncate_dim)
        .map_err(CliError::option("--truncate-dim"))?;
    let prompt = prompt(args.prompt.as_deref(), &model)?;
    let group_size = args.batch_size.saturating_mul(BATCHES_READ);
    let encode =
        |texts: &[String]| Ok::<_, CliError>(model.encode_with(texts, args.batch_size, prompt)?);
    let ranges = match &args.calibration {
        Some(path) => Some(calibrate(path, group_size, encode)?),
        None => None,
    };
    inference.for_each_group(group_size, |texts, output| {
        let vectors = quantize(&encode(texts)?, args.precision, ranges.as_ref())?;
        match &vectors.values {
            QuantizedValues::Float32(values) => print(output, json, texts, values, vectors.width),
            QuantizedValues::Signed(values) => print(output, json, texts, values, vectors.width),
            QuantizedValues::Unsigned(values) => print(output, json, texts, values, vectors.width),
        }
    })
}

/// For clap: the names of the library, and `f32`.
fn precision(text: &str) -> Result<Precision, String> {
    match text {
        "f32" => Ok(Precision::Float32),
        _ => text
            .parse()
            .map_err(|_| "expected f32, int8, uint8, binary or ubinary".to_owned()),
    }
}

/// Ranges of the texts at hand would depend on how many of them are read at once, so bytes need
/// ranges from elsewhere; nothing else has a use for them.
fn check_calibration(precision: Precision, given: bool) -> Result<(), CliError> {
    let (option, problem) = match (precision, given) {
        (Precision::Int8 | Precision::Uint8, false) => (
            "--precision",
            format!("{precision} needs --calibration FILE, typical texts to take the ranges from"),
        ),
        (Precision::Float32 | Precision::Binary | Precision::Ubinary, true) => (
            "--calibration",
            "goes with --precision int8 or uint8 only".to_owned(),
        ),
        _ => return Ok(()),
    };
    Err(CliError::Option { option, problem })
}

/// The prompt asked for, if the model can use it.
fn prompt<'a>(asked: Option<&'a str>, model: &SentenceEncoder) -> Result<Prompt<'a>, CliError> {
    let Some(asked) = asked else {
        return Ok(Prompt::Default);
    };
    let refuse = |problem: String| CliError::Option {
        option: "--prompt",
        problem,
    };
    let prompt = which_prompt(asked, &model.prompts).map_err(refuse)?;
    // Without texts, this says whether the model takes a prompt at all.
    model
        .token_ids::<&str>(&[], prompt)
        .map_err(|error| refuse(error.to_string()))?;
    Ok(prompt)
}

/// Ranges of the vectors of all texts in a file, read group by group.
fn calibrate(
    path: &Path,
    group_size: usize,
    encode: impl Fn(&[String]) -> Result<Embeddings, CliError>,
) -> Result<Ranges, CliError> {
    let mut texts = Texts::from_file(path)?;
    let mut count = 0;
    let mut ranges: Option<Ranges> = None;
    loop {
        let group = texts.take(group_size)?;
        count += group.len();
        let too_few = || CliError::Option {
            option: "--calibration",
            problem: format!(
                "{}: expected at least 2 texts, found {count}",
                path.display()
            ),
        };
        if group.is_empty() {
            return ranges.ok_or_else(too_few);
        }
        let mut vectors = encode(&group)?;
        if let Some(bounds) = ranges.take() {
            // Two rows with the extremes so far stand for all vectors before.
            vectors.values.extend(bounds.lowest);
            vectors.values.extend(bounds.highest);
        }
        ranges = Some(Ranges::of(&vectors).map_err(|_| too_few())?);
    }
}

fn print<T: Display + Serialize>(
    output: &mut Output,
    json: bool,
    texts: &[String],
    values: &[T],
    width: usize,
) -> Result<(), CliError> {
    for (text, vector) in texts.iter().zip(values.chunks(width)) {
        if json {
            output.json_line(&Row { text, vector })?;
        } else {
            output.line(tabs(vector))?;
        }
    }
    Ok(())
}

/// Numbers in the shortest form that reads back unchanged.
fn tabs<T: Display>(vector: &[T]) -> String {
    let numbers: Vec<String> = vector.iter().map(T::to_string).collect();
    numbers.join("\t")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use encoder::Prompts;

    #[test]
    fn numbers_read_back_unchanged() {
        let vector = [0.1_f32, -1.0e-30, 3.0, f32::MIN_POSITIVE, 16_777_216.0];
        let again: Vec<f32> = tabs(&vector)
            .split('\t')
            .map(|n| n.parse().unwrap())
            .collect();
        assert_eq!(again, vector);
        assert_eq!(tabs(&[-128_i8, 127]), "-128\t127");
    }

    #[test]
    fn precisions_have_their_names() {
        assert_eq!(precision("f32"), Ok(Precision::Float32));
        for known in Precision::ALL {
            assert_eq!(precision(&known.to_string()), Ok(known));
        }
        assert!(precision("int4").is_err());
    }

    #[test]
    fn bytes_need_calibration_and_nothing_else_does() {
        for known in Precision::ALL {
            let bytes = matches!(known, Precision::Int8 | Precision::Uint8);
            assert_eq!(check_calibration(known, true).is_ok(), bytes, "{known}");
            assert_eq!(check_calibration(known, false).is_ok(), !bytes, "{known}");
        }
    }

    #[test]
    fn one_plain_word_is_a_name_and_everything_else_a_text() {
        let mut prompts = Prompts::default();
        for name in ["query", "two words"] {
            prompts.texts.insert(name.to_owned(), "x".to_owned());
        }
        for (asked, want) in [
            ("", Prompt::None),
            ("query", Prompt::Named("query")),
            ("two words", Prompt::Named("two words")),
            ("query: ", Prompt::Text("query: ")),
            ("检索", Prompt::Text("检索")),
        ] {
            assert_eq!(which_prompt(asked, &prompts), Ok(want));
        }
        let error = which_prompt("quer", &prompts).unwrap_err();
        assert!(error.contains("no prompt `quer`; this model has: query, two words;"));
        let error = which_prompt("query", &Prompts::default()).unwrap_err();
        assert!(error.contains("this model has: none"));
    }

    #[test]
    fn ranges_are_those_of_all_texts_whatever_the_groups() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("texts.txt");
        let write = |lines: &str| std::fs::write(&path, lines).unwrap();
        let encode = |texts: &[String]| {
            let values = texts.iter().map(|text| text.parse().unwrap()).collect();
            Ok(Embeddings { values, dim: 1 })
        };
        write("3\n-1\n0.5\n7\n2\n");
        for group_size in 2..7 {
            let ranges = calibrate(&path, group_size, encode).unwrap();
            assert_eq!((ranges.lowest, ranges.highest), (vec![-1.0], vec![7.0]));
        }
        for (lines, count) in [("", "found 0"), ("1\n", "found 1")] {
            write(lines);
            let error = calibrate(&path, 16, encode).unwrap_err();
            assert!(error.to_string().contains(count), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
