//! `asterism predict`: texts to the nearest category of a run or of a trained model.

use std::path::{Path, PathBuf};

use categories::drift::Window;
use categories::{Assigned, CATALOGUE_FILE, Gate};
use columnar::{Column, Values};
use datasets::pocket::model_dir;
use encoder::{LoadOptions, SentenceEncoder};
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::drift::{DriftFile, Windows};
use self::known::Categories;
use self::pool::{Pool, Stranger};
use crate::error::CliError;
use crate::inference::InferenceArgs;
use crate::model::load;
use crate::output::{Output, field};
use crate::rows::form::OutForm;
use crate::rows::source::Chunk;
use crate::rows::{RowArgs, Task, distinct, model_digest};

mod drift;
mod known;
mod pool;

/// Texts of a file computed at once, unless another number is asked for.
const BATCH: usize = 64;

/// Endings of what is kept beside the parts.
const POOL: &str = "pool";
const WINDOWS: &str = "windows";

/// Assign texts to the categories of a run or of a trained model.
///
/// Each text goes to the category whose centroid has the largest cosine. Texts on the command line
/// and lines of standard input are answered at once, one row each: id, name, coarse category, cosine
/// and text separated by tabs (`-` where there is nothing to say), with --run or --unknown-below also
/// confidence and `known` or `unknown` before the text.
///
/// Files of any size are read with --in and written with --out. A command that was killed goes on
/// where it was when it is given again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    inference: InferenceArgs,
    /// Run directory of `asterism discover`: its categories as they are now, merged, split and renamed
    /// ones too, and its model.
    #[arg(long, value_name = "RUN", conflicts_with = "model")]
    run: Option<PathBuf>,
    /// Consider only the fine categories of this coarse category.
    #[arg(long, value_name = "NAME")]
    coarse_gate: Option<String>,
    /// Column of --in with the coarse category of each row; a row without one may go anywhere, one
    /// with a category that is not known is unknown.
    #[arg(
        long,
        value_name = "COLUMN",
        requires = "input",
        conflicts_with = "coarse_gate"
    )]
    coarse: Option<String>,
    /// A text whose largest cosine is below X is unknown (default: as calibrated in --run).
    #[arg(long, value_name = "X", value_parser = cosine, allow_negative_numbers = true)]
    unknown_below: Option<f32>,
    /// File for the unknown texts, JSON lines as `asterism discover --update` reads them.
    #[arg(long, value_name = "FILE")]
    pool: Option<PathBuf>,
    /// File for figures of drift: shares of the categories, cosines and unknown texts in windows of
    /// rows against the texts the categories were found in.
    #[arg(long, value_name = "FILE", requires = "run")]
    drift: Option<PathBuf>,
    /// Rows of a window of --drift.
    #[arg(long, value_name = "ROWS", default_value_t = 10_000, requires = "drift",
        value_parser = clap::value_parser!(u64).range(1..))]
    window: u64,
    /// Texts computed at once (default: 1 where each answer is waited for, 64 for files).
    #[arg(long, value_name = "N", value_parser = crate::model::positive)]
    batch_size: Option<usize>,
    #[command(flatten)]
    rows: RowArgs,
}

/// For clap: a cosine.
fn cosine(text: &str) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|number| (-1.0..=1.0).contains(number))
        .ok_or_else(|| "expected a number from -1 to 1".to_owned())
}

/// An answer to one text.
#[derive(Debug, Clone, Copy)]
struct Answer {
    assigned: Assigned,
    /// Whether the text belongs to no known category; `None` where nothing says so.
    unknown: Option<bool>,
}

#[derive(Serialize)]
struct JsonAnswer<'a> {
    text: &'a str,
    id: u32,
    name: Option<&'a str>,
    coarse: Option<&'a str>,
    cosine: f32,
    confidence: f32,
    unknown: Option<bool>,
    runner_up: Option<JsonRunnerUp<'a>>,
}

#[derive(Serialize)]
struct JsonRunnerUp<'a> {
    id: u32,
    name: Option<&'a str>,
    cosine: f32,
}

/// A model and its categories at work.
struct Predictor {
    model: SentenceEncoder,
    categories: Categories,
    gate: Option<Gate>,
    gate_name: Option<String>,
    /// Instead of the calibration.
    unknown_below: Option<f32>,
    /// Whether plain rows say confidence and `unknown`.
    detailed: bool,
    batch_size: usize,
    /// Rows computed together where a batch of a stream has more.
    piece: usize,
    pool: Option<Pool>,
    drift: Option<DriftFile>,
    /// What the answers depend on.
    settings: Map<String, Value>,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let Args {
        inference, rows, ..
    } = args;
    let dir = match &args.run {
        Some(run) if !run.join(CATALOGUE_FILE).exists() => {
            return Err(CliError::NoRun {
                path: run.clone(),
                missing: CATALOGUE_FILE,
            });
        }
        Some(run) => run.join("model"),
        None => inference.model.clone(),
    };
    let options = LoadOptions {
        precision: inference.products.precision(),
        ..LoadOptions::default()
    };
    let model = load(&dir, &options, inference.device)?;
    let categories = match &args.run {
        Some(run) => Categories::of_run(run, &model)?,
        None => Categories::of_model(&model, &dir)?,
    };
    let gate = match &args.coarse_gate {
        Some(name) => Some(categories.gate(name)?),
        None => None,
    };
    if args.pool.is_some() && args.unknown_below.is_none() && categories.calibration.is_none() {
        return Err(CliError::Option {
            option: "--pool",
            problem: "nothing says which texts are unknown: give --unknown-below X, or a --run \
                      that was calibrated"
                .to_owned(),
        });
    }
    let interactive = rows.is_interactive();
    let batch_size = args
        .batch_size
        .unwrap_or(if interactive { 1 } else { BATCH });
    let settings = if rows.is_file() {
        let settings = json!({
            "command": "predict",
            "model_sha256": model_digest(&model_dir(&dir)?)?,
            "categories_sha256": categories.digest,
            "device": format!("{:?}", inference.device),
            "bf16": inference.products.bf16,
            "batch_size": batch_size,
            "coarse_gate": args.coarse_gate,
            "coarse": args.coarse,
            "unknown_below": args.unknown_below,
            "pool": args.pool.is_some(),
            "window": args.drift.as_ref().map(|_| args.window),
        });
        settings.as_object().cloned().unwrap_or_default()
    } else {
        Map::new()
    };
    let mut predictor = Predictor {
        detailed: args.run.is_some() || args.unknown_below.is_some(),
        pool: args.pool.map(|path| Pool::new(path, rows.is_file())),
        drift: args.drift.map(|path| DriftFile {
            path,
            size: args.window,
            revision: categories.revision,
            reference: categories.reference.clone(),
            windows: Windows::new(),
        }),
        model,
        categories,
        gate,
        gate_name: args.coarse_gate,
        unknown_below: args.unknown_below,
        batch_size,
        piece: rows.chunk(),
        settings,
    };
    rows.run(
        &mut predictor,
        inference.texts,
        inference.json,
        args.coarse.as_deref(),
        batch_size,
    )
}

impl Predictor {
    /// Answers to some texts, each with the coarse class that is known of it.
    fn answer_some(
        &self,
        texts: &[String],
        coarse: impl Fn(usize) -> Option<String>,
    ) -> Result<Vec<Answer>, CliError> {
        let (different, places) = distinct(texts.iter().map(String::as_str));
        let vectors = self.model.encode(&different, self.batch_size)?;
        let (questions, answers) =
            distinct(places.iter().copied().zip((0..texts.len()).map(coarse)));
        let mut gates = Vec::with_capacity(questions.len());
        let mut strange = Vec::with_capacity(questions.len());
        let mut values = Vec::with_capacity(questions.len() * vectors.dim);
        for (place, coarse) in &questions {
            let gate = match coarse {
                Some(name) => self.categories.gate_of(name),
                None => self.gate,
            };
            strange.push(coarse.is_some() && gate.is_none());
            gates.push(gate);
            values.extend_from_slice(vectors.row(*place));
        }
        let assigned = self.categories.assign(&values, &gates)?;
        let found: Vec<Answer> = assigned
            .into_iter()
            .zip(strange)
            .map(|(assigned, strange)| self.judge(assigned, strange))
            .collect();
        Ok(answers
            .into_iter()
            .filter_map(|at| found.get(at).copied())
            .collect())
    }

    /// Whether the text is unknown: by its coarse class, by the threshold asked for, by calibration.
    fn judge(&self, mut assigned: Assigned, strange: bool) -> Answer {
        let unknown = match self.unknown_below {
            _ if strange => Some(true),
            Some(threshold) => Some(assigned.cosine < threshold),
            None => self
                .categories
                .calibration
                .as_ref()
                .map(|_| assigned.unknown),
        };
        assigned.unknown = unknown.unwrap_or(false);
        Answer { assigned, unknown }
    }

    fn json<'a>(&'a self, text: &'a str, answer: &Answer) -> JsonAnswer<'a> {
        let found = &answer.assigned;
        JsonAnswer {
            text,
            id: found.id.0,
            name: self.categories.name(found.id),
            coarse: self.categories.coarse(found.id),
            cosine: found.cosine,
            confidence: found.confidence,
            unknown: answer.unknown,
            runner_up: found.runner_up.map(|near| JsonRunnerUp {
                id: near.id.0,
                name: self.categories.name(near.id),
                cosine: near.cosine,
            }),
        }
    }

    fn plain(&self, text: &str, answer: &Answer) -> String {
        let answer = self.json(text, answer);
        let mut row = format!(
            "{}\t{}\t{}\t{:.4}\t",
            answer.id,
            or_dash(answer.name),
            or_dash(answer.coarse),
            answer.cosine
        );
        if self.detailed {
            let known = match answer.unknown {
                None => "-",
                Some(true) => "unknown",
                Some(false) => "known",
            };
            row += &format!("{:.4}\t{known}\t", answer.confidence);
        }
        row + &field(text)
    }

    fn tabs(&self, text: &str, answer: &Answer) -> String {
        let answer = self.json(text, answer);
        let unknown = answer.unknown.map(|unknown| unknown.to_string());
        let (id, name, cosine) = match &answer.runner_up {
            None => (String::new(), None, String::new()),
            Some(near) => (near.id.to_string(), near.name, near.cosine.to_string()),
        };
        format!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{id}\t{}\t{cosine}\t{}",
            answer.id,
            answer.name.map_or_else(String::new, field),
            answer.coarse.map_or_else(String::new, field),
            answer.cosine,
            answer.confidence,
            unknown.unwrap_or_default(),
            name.map_or_else(String::new, field),
            field(text)
        )
    }
}

fn or_dash(name: Option<&str>) -> String {
    name.map_or_else(|| "-".to_owned(), field)
}

impl Task for Predictor {
    type Answers = Vec<Answer>;

    fn settings(&self) -> Map<String, Value> {
        self.settings.clone()
    }

    fn targets(&self) -> Vec<&Path> {
        let pool = self.pool.as_ref().map(Pool::path);
        let drift = self.drift.as_ref().map(|drift| drift.path.as_path());
        pool.into_iter().chain(drift).collect()
    }

    fn answer(&self, chunk: &Chunk) -> Result<Vec<Answer>, CliError> {
        let mut answers = Vec::with_capacity(chunk.texts.len());
        for (number, texts) in chunk.texts.chunks(self.piece).enumerate() {
            let start = number * self.piece;
            let coarse = |row: usize| chunk.coarse(start + row).map(str::to_owned);
            answers.extend(self.answer_some(texts, coarse)?);
        }
        Ok(answers)
    }

    fn header(&self) -> Option<&'static str> {
        Some(
            "id\tname\tcoarse\tcosine\tconfidence\tunknown\trunner_up_id\trunner_up\t\
             runner_up_cosine\ttext",
        )
    }

    fn lines(
        &self,
        chunk: &Chunk,
        answers: &Vec<Answer>,
        form: OutForm,
        out: &mut Output<Vec<u8>>,
    ) -> Result<(), CliError> {
        for (text, answer) in chunk.texts.iter().zip(answers) {
            match form {
                OutForm::Jsonl => out.json_line(&self.json(text, answer))?,
                OutForm::Tsv => out.line(self.tabs(text, answer))?,
                _ => out.line(self.plain(text, answer))?,
            }
        }
        Ok(())
    }

    fn columns(&self, answers: Vec<Answer>) -> Vec<Column> {
        let column = |name: &str, values| Column {
            name: name.to_owned(),
            values,
        };
        let found = || answers.iter().map(|answer| &answer.assigned);
        let text = |text: Option<&str>| text.map(str::to_owned);
        let near = || found().map(|found| found.runner_up);
        vec![
            column(
                "category_id",
                Values::Whole(found().map(|found| Some(i64::from(found.id.0))).collect()),
            ),
            column(
                "category",
                Values::Text(
                    found()
                        .map(|found| text(self.categories.name(found.id)))
                        .collect(),
                ),
            ),
            column(
                "category_coarse",
                Values::Text(
                    found()
                        .map(|found| text(self.categories.coarse(found.id)))
                        .collect(),
                ),
            ),
            column(
                "cosine",
                Values::Real(found().map(|found| Some(found.cosine)).collect()),
            ),
            column(
                "confidence",
                Values::Real(found().map(|found| Some(found.confidence)).collect()),
            ),
            column(
                "unknown",
                Values::Truth(answers.iter().map(|answer| answer.unknown).collect()),
            ),
            column(
                "runner_up_id",
                Values::Whole(near().map(|near| Some(i64::from(near?.id.0))).collect()),
            ),
            column(
                "runner_up",
                Values::Text(
                    near()
                        .map(|near| text(self.categories.name(near?.id)))
                        .collect(),
                ),
            ),
            column(
                "runner_up_cosine",
                Values::Real(near().map(|near| Some(near?.cosine)).collect()),
            ),
        ]
    }

    fn endings(&self) -> Vec<&'static str> {
        let pool = self.pool.as_ref().map(|_| POOL);
        let drift = self.drift.as_ref().map(|_| WINDOWS);
        pool.into_iter().chain(drift).collect()
    }

    fn beside(
        &self,
        chunk: &Chunk,
        answers: &Vec<Answer>,
    ) -> Result<Vec<(&'static str, Vec<u8>)>, CliError> {
        let mut beside = Vec::new();
        if self.pool.is_some() {
            let mut lines = Output::new(Vec::new());
            let rows = chunk.texts.iter().zip(answers).enumerate();
            for (row, (text, answer)) in rows.filter(|(_, (_, answer))| answer.assigned.unknown) {
                lines.json_line(&Stranger {
                    text,
                    coarse: chunk.coarse(row).or(self.gate_name.as_deref()),
                    cosine: answer.assigned.cosine,
                })?;
            }
            beside.push((POOL, lines.into_inner()?));
        }
        if let Some(drift) = &self.drift {
            let mut windows = Windows::new();
            for (row, answer) in (chunk.first_row..).zip(answers) {
                let window: &mut Window = windows.entry(row / drift.size).or_default();
                window.add(&answer.assigned);
            }
            let mut bytes = Output::new(Vec::new());
            bytes.json_line(&windows)?;
            beside.push((WINDOWS, bytes.into_inner()?));
        }
        Ok(beside)
    }

    fn collect(&mut self, ending: &'static str, bytes: Vec<u8>) -> Result<(), CliError> {
        match (ending, &mut self.pool, &mut self.drift) {
            (POOL, Some(pool), _) => pool.add(&bytes),
            (WINDOWS, _, Some(drift)) => {
                let windows: Windows =
                    serde_json::from_slice(&bytes).map_err(|error| CliError::Extension {
                        path: drift.path.clone(),
                        field: "windows of a part".to_owned(),
                        expected: "counts as they were written".to_owned(),
                        found: error.to_string(),
                    })?;
                drift.add(&windows);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), CliError> {
        if let Some(pool) = &mut self.pool {
            pool.finish()?;
        }
        match &self.drift {
            Some(drift) => drift.write(),
            None => Ok(()),
        }
    }
}
