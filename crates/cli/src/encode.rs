//! `asterism encode`: texts to vectors.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use columnar::{Column, Values};
use datasets::hash::sha256_file;
use datasets::pocket::model_dir;
use encoder::{
    Embeddings, Precision, Prompt, QuantizedEmbeddings, QuantizedValues, Ranges, SentenceEncoder,
    quantize,
};
use experiments::evaluate::program::asked_prompt;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::CliError;
use crate::inference::InferenceArgs;
use crate::input::Texts;
use crate::model::Overrides;
use crate::output::Output;
use crate::rows::form::OutForm;
use crate::rows::source::Chunk;
use crate::rows::{RowArgs, Task, distinct, model_digest};

/// Batches that are read before the first is computed: texts of similar length share a batch.
const BATCHES_READ: usize = 16;

/// Turn texts into vectors.
///
/// Prints one row a text, in order: the numbers separated by tabs, or with --json an object
/// {"text", "vector"}. Blank lines count as texts. Files of any size are read with --in and written
/// with --out; in Parquet files and Arrow streams the vectors are the column `vector`.
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
    #[command(flatten)]
    rows: RowArgs,
}

#[derive(Serialize)]
struct Row<'a, T> {
    text: &'a str,
    vector: &'a [T],
}

/// A model at work.
struct Encoder<'a> {
    model: &'a SentenceEncoder,
    prompt: Prompt<'a>,
    precision: Precision,
    ranges: Option<Ranges>,
    batch_size: usize,
    /// What the vectors depend on.
    settings: Map<String, Value>,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    check_calibration(args.precision, args.calibration.is_some())?;
    let inference = args.inference;
    let mut model = args.overrides.load(
        &inference.model,
        false,
        inference.products.precision(),
        inference.device,
    )?;
    model
        .set_truncate_dim(args.truncate_dim)
        .map_err(CliError::option("--truncate-dim"))?;
    let prompt =
        asked_prompt(args.prompt.as_deref(), &model).map_err(|problem| CliError::Option {
            option: "--prompt",
            problem,
        })?;
    let settings = if args.rows.is_file() {
        let calibration = args.calibration.as_deref();
        let digest = |path| sha256_file(path).map_err(CliError::file("read", path));
        let settings = json!({
            "command": "encode",
            "model_sha256": model_digest(&model_dir(&inference.model)?)?,
            "device": format!("{:?}", inference.device),
            "bf16": inference.products.bf16,
            "batch_size": args.batch_size,
            "overrides": format!("{:?}", args.overrides),
            "prompt": args.prompt,
            "truncate_dim": args.truncate_dim,
            "precision": args.precision.to_string(),
            "calibration_sha256": calibration.map(digest).transpose()?.map(|(sha256, _)| sha256),
        });
        settings.as_object().cloned().unwrap_or_default()
    } else {
        Map::new()
    };
    let mut encoder = Encoder {
        model: &model,
        prompt,
        precision: args.precision,
        ranges: None,
        batch_size: args.batch_size,
        settings,
    };
    let group = args.batch_size.saturating_mul(BATCHES_READ);
    if let Some(path) = &args.calibration {
        encoder.ranges = Some(calibrate(path, group, |texts| encoder.vectors(texts))?);
    }
    let json = inference.json;
    args.rows
        .run(&mut encoder, inference.texts, json, None, group)
}

impl Encoder<'_> {
    fn vectors(&self, texts: &[String]) -> Result<Embeddings, CliError> {
        let (different, places) = distinct(texts.iter().map(String::as_str));
        let vectors = self
            .model
            .encode_with(&different, self.batch_size, self.prompt)?;
        if different.len() == texts.len() {
            return Ok(vectors);
        }
        let rows = places.iter().flat_map(|place| vectors.row(*place));
        Ok(Embeddings {
            values: rows.copied().collect(),
            dim: vectors.dim,
        })
    }
}

impl Task for Encoder<'_> {
    type Answers = QuantizedEmbeddings;

    fn settings(&self) -> Map<String, Value> {
        self.settings.clone()
    }

    fn answer(&self, chunk: &Chunk) -> Result<QuantizedEmbeddings, CliError> {
        let vectors = self.vectors(&chunk.texts)?;
        Ok(quantize(&vectors, self.precision, self.ranges.as_ref())?)
    }

    fn lines(
        &self,
        chunk: &Chunk,
        answers: &QuantizedEmbeddings,
        form: OutForm,
        out: &mut Output<Vec<u8>>,
    ) -> Result<(), CliError> {
        let (texts, json, width) = (&chunk.texts, form == OutForm::Jsonl, answers.width);
        match &answers.values {
            QuantizedValues::Float32(values) => print(out, json, texts, values, width),
            QuantizedValues::Signed(values) => print(out, json, texts, values, width),
            QuantizedValues::Unsigned(values) => print(out, json, texts, values, width),
        }
    }

    fn columns(&self, answers: QuantizedEmbeddings) -> Vec<Column> {
        let width = answers.width;
        let values = match answers.values {
            QuantizedValues::Float32(values) => Values::Vectors { values, width },
            QuantizedValues::Signed(values) => Values::SignedBytes { values, width },
            QuantizedValues::Unsigned(values) => Values::UnsignedBytes { values, width },
        };
        vec![Column {
            name: "vector".to_owned(),
            values,
        }]
    }
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
    output: &mut Output<Vec<u8>>,
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
