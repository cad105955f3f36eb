//! `result.json`: what a finished run found, as data.
//!
//! One envelope serves category discovery (rows with accuracy, adjusted Rand index and normalised
//! mutual information for every stage, way of inference and seed) and embedding evaluation (rows
//! with one value for every task). [`summarise`] turns rows into means and sample standard
//! deviations, [`Gain`] says whether a difference of two means is larger than the seeds explain.
//!
//! JSON has no NaN and no infinity. A number that is not finite is written as `null`; on reading,
//! `null` becomes `None` where the field is an `Option` and NaN elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use thiserror::Error;

/// Identifier of the layout, the value of the field `schema`.
pub const SCHEMA: &str = "asterism/result/1";

/// Largest rounding excess over the exact range that a score may have when it is read.
const SCORE_TOLERANCE: f64 = 1e-6;

// ---------------------------------------------------------------------------------------------
// Types

/// A whole `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct ResultFile {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Name of the experiment, for example `star_down`.
    pub experiment: String,
    /// Device the run computed on, as the user would name it.
    pub device: String,
    /// Worker threads of the run.
    pub threads: usize,
    /// The data set and the hashes of its files.
    pub data: DataInfo,
    /// Free-form description of the model (a string, or an object with `name`).
    pub model: Value,
    /// The fully resolved configuration.
    pub config: Value,
    /// One row per measured point, in the order of measuring.
    pub rows: Vec<Row>,
    /// [`summarise`] of `rows`.
    pub summary: Vec<Summary>,
    /// Time spent, one entry per stage.
    pub timing: Vec<Timing>,
    /// Steps left out because of a number that was not finite; not in the file if there are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub skipped_steps: u64,
    /// Largest resident memory of the process, in MiB.
    #[serde(serialize_with = "finite")]
    pub peak_rss_mb: f64,
    /// Wall time of the whole run, in seconds.
    #[serde(serialize_with = "finite")]
    pub total_s: f64,
}

/// The data a run used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct DataInfo {
    /// Name of the data set, for example `hwu64`.
    pub name: String,
    /// Rows of the training split.
    pub train_rows: usize,
    /// Rows of the test split.
    pub test_rows: usize,
    /// Number of coarse labels, 0 where the task has none.
    pub n_coarse: usize,
    /// Number of fine labels, 0 where they are not known.
    pub n_fine: usize,
    /// SHA-256 in hexadecimal of every file read, by file name.
    pub sha256: BTreeMap<String, String>,
}

/// One measured point: a category row has no `task`, an embedding row has one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, try_from = "Value")]
pub enum Row {
    /// Scores of a partition of texts into categories.
    Category(CategoryRow),
    /// Score of an embedding on one task.
    Embedding(EmbeddingRow),
}

/// Scores of a partition; all are fractions, not percentages.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CategoryRow {
    /// `frozen`, `pretrain`, `down`, `star`, or the name of a variant.
    pub stage: String,
    /// How categories were assigned: `cluster`, `centroid` or `centroid_mapped`.
    pub inference: String,
    /// Split that was scored, mostly `test`.
    pub split: String,
    /// Seed of the run.
    pub seed: u64,
    /// Accuracy under the best one-to-one assignment (or the fitted one for `centroid_mapped`),
    /// in 0..1.
    #[serde(serialize_with = "finite_or_null")]
    pub acc: Option<f64>,
    /// Adjusted Rand index, in -1..1; `None` where it is not defined for the inference.
    #[serde(serialize_with = "finite_or_null")]
    pub ari: Option<f64>,
    /// Normalised mutual information (arithmetic mean), in 0..1.
    #[serde(serialize_with = "finite_or_null")]
    pub nmi: Option<f64>,
    /// Further figures by name, for example `coarse_acc`; left out of the file when empty.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        serialize_with = "finite_map"
    )]
    pub extra: BTreeMap<String, f64>,
}

/// Score of an embedding on one task.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EmbeddingRow {
    /// Name of the training stage or model.
    pub stage: String,
    /// `STS12` ... `STS16`, `STSB`, `SICKR`, or a transfer task such as `MR`.
    pub task: String,
    /// Split that was scored.
    pub split: String,
    /// Seed of the run; `None`, and left out of the file, where nothing was drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// `spearman`, `pearson` or `accuracy`.
    pub metric: String,
    /// How subsets were joined: `all`, `mean` or `wmean`.
    pub aggregation: String,
    /// The score, a fraction (or a correlation in -1..1).
    #[serde(serialize_with = "finite")]
    pub value: f64,
}

/// Mean and spread over seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Summary {
    /// Stage of the rows.
    pub stage: String,
    /// Inference of category rows; the task of embedding rows.
    pub inference: String,
    /// `acc`, `ari`, `nmi` or the name of an extra figure; `metric/aggregation` for embedding
    /// rows, for example `spearman/all`.
    pub metric: String,
    /// Split of the rows; left out of the file when it is `test`.
    #[serde(skip_serializing_if = "is_test")]
    pub split: String,
    /// Arithmetic mean over the rows with a finite value.
    #[serde(serialize_with = "finite")]
    pub mean: f64,
    /// Sample standard deviation (divisor `n - 1`); `None`, written as `null`, when `n < 2`.
    #[serde(serialize_with = "finite_or_null")]
    pub std: Option<f64>,
    /// Number of values.
    pub n: usize,
}

/// Time spent in one stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Timing {
    /// Stage measured.
    pub stage: String,
    /// Optimiser steps taken.
    pub steps: u64,
    /// Wall time of a step, `None` where there were no steps.
    pub step_ms: Option<StepTime>,
    /// Wall time of every epoch, in seconds.
    #[serde(serialize_with = "finite_list")]
    pub epoch_s: Vec<f64>,
    /// Wall time of every refill of the memory bank, in seconds.
    #[serde(serialize_with = "finite_list")]
    pub refill_s: Vec<f64>,
    /// Wall time of evaluation, in seconds.
    #[serde(serialize_with = "finite_or_null")]
    pub evaluate_s: Option<f64>,
}

/// Spread of the wall time of a step, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct StepTime {
    /// Fastest step.
    #[serde(serialize_with = "finite")]
    pub min: f64,
    /// Median step.
    #[serde(serialize_with = "finite")]
    pub median: f64,
    /// Slowest step.
    #[serde(serialize_with = "finite")]
    pub max: f64,
}

/// Why a result could not be read or written.
#[derive(Debug, Error)]
pub enum ResultError {
    /// The file system refused.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was attempted, for example `read`.
        operation: &'static str,
        /// File concerned.
        path: PathBuf,
        /// Reason given by the system.
        source: io::Error,
    },
    /// The file could not be replaced.
    #[error(transparent)]
    Write(#[from] training::Error),
    /// The text is not JSON.
    #[error("not valid JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A field is missing or holds something else than it should.
    #[error("field `{field}`: expected {expected}, found {found}")]
    Field {
        /// Path of the field, for example `rows[3].seed`.
        field: String,
        /// What belongs there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// One of the above, with the name of the file.
    #[error("{}: {source}", path.display())]
    File {
        /// File concerned.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ResultError>,
    },
}

// ---------------------------------------------------------------------------------------------
// Reading and writing

impl ResultFile {
    /// An empty result of the current layout.
    pub fn new(experiment: impl Into<String>, data: DataInfo) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            experiment: experiment.into(),
            device: String::new(),
            threads: 0,
            data,
            model: Value::Null,
            config: Value::Null,
            rows: Vec::new(),
            summary: Vec::new(),
            timing: Vec::new(),
            skipped_steps: 0,
            peak_rss_mb: f64::NAN,
            total_s: f64::NAN,
        }
    }

    /// Reads a result from JSON text. Unknown fields are ignored.
    ///
    /// # Errors
    /// [`ResultError::Json`] for text that is not JSON, [`ResultError::Field`] with the path of the
    /// first field that is missing, of the wrong type or out of range.
    ///
    /// ```
    /// use experiments::result::ResultFile;
    /// let error = ResultFile::from_json(r#"{ "schema": 3 }"#).unwrap_err();
    /// assert_eq!(error.to_string(), "field `schema`: expected a string, found the number 3");
    /// ```
    pub fn from_json(text: &str) -> Result<Self, ResultError> {
        Self::try_from(serde_json::from_str::<Value>(text)?)
    }

    /// The result as indented JSON with a final line feed.
    ///
    /// # Errors
    /// [`ResultError::Json`] if `model` or `config` cannot be written.
    pub fn to_json(&self) -> Result<String, ResultError> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As [`Self::from_json`], with the name of the file.
    pub fn read(path: &Path) -> Result<Self, ResultError> {
        let text = fs::read_to_string(path).map_err(|source| ResultError::Io {
            operation: "read",
            path: path.to_owned(),
            source,
        })?;
        Self::from_json(&text).map_err(|source| ResultError::File {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Writes a file so that a reader sees the old content or the new, never a part.
    ///
    /// # Errors
    /// [`ResultError::Io`] naming the operation that failed; the old file is then untouched.
    pub fn write(&self, path: &Path) -> Result<(), ResultError> {
        write_atomic(path, self.to_json()?.as_bytes())
    }

    /// Seeds of the rows, ascending, each once.
    pub fn seeds(&self) -> Vec<u64> {
        let seeds: BTreeSet<u64> = self.rows.iter().filter_map(Row::seed).collect();
        seeds.into_iter().collect()
    }
}

impl Row {
    /// Seed of a row, if it has one.
    pub fn seed(&self) -> Option<u64> {
        match self {
            Self::Category(row) => Some(row.seed),
            Self::Embedding(row) => row.seed,
        }
    }
}

/// For leaving a count out.
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Writes `bytes` to `path` through `<path>.tmp` and one rename.
///
/// # Errors
/// [`ResultError::Write`] naming the operation and the file; the temporary file is removed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), ResultError> {
    if path.file_name().is_none() {
        return Err(ResultError::Io {
            operation: "write",
            path: path.to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"),
        });
    }
    Ok(training::write_atomically(
        &training::DiskLayer,
        path,
        bytes,
    )?)
}

impl TryFrom<Value> for ResultFile {
    type Error = ResultError;

    fn try_from(value: Value) -> Result<Self, ResultError> {
        let fields = Fields::new(&value, String::new())?;
        let schema = fields.string("schema")?;
        if schema != SCHEMA {
            return Err(ResultError::Field {
                field: "schema".to_owned(),
                expected: format!("\"{SCHEMA}\""),
                found: format!("\"{schema}\""),
            });
        }
        Ok(Self {
            schema,
            experiment: fields.string("experiment")?,
            device: fields.string("device")?,
            threads: fields.count("threads")?,
            data: read_data(&fields.object("data")?)?,
            model: fields.get("model")?.clone(),
            config: fields.get("config")?.clone(),
            rows: fields.each("rows", read_row)?,
            summary: fields.each("summary", read_summary)?,
            timing: fields.each("timing", read_timing)?,
            skipped_steps: match fields.map.get("skipped_steps") {
                None => 0,
                Some(_) => fields.integer("skipped_steps")?,
            },
            peak_rss_mb: fields.number("peak_rss_mb")?.unwrap_or(f64::NAN),
            total_s: fields.number("total_s")?.unwrap_or(f64::NAN),
        })
    }
}

impl TryFrom<Value> for DataInfo {
    type Error = ResultError;

    fn try_from(value: Value) -> Result<Self, ResultError> {
        read_data(&Fields::new(&value, String::new())?)
    }
}

impl TryFrom<Value> for Row {
    type Error = ResultError;

    fn try_from(value: Value) -> Result<Self, ResultError> {
        read_row(&Fields::new(&value, String::new())?)
    }
}

impl TryFrom<Value> for Summary {
    type Error = ResultError;

    fn try_from(value: Value) -> Result<Self, ResultError> {
        read_summary(&Fields::new(&value, String::new())?)
    }
}

impl TryFrom<Value> for Timing {
    type Error = ResultError;

    fn try_from(value: Value) -> Result<Self, ResultError> {
        read_timing(&Fields::new(&value, String::new())?)
    }
}

fn read_data(fields: &Fields<'_>) -> Result<DataInfo, ResultError> {
    let hashes = fields.object("sha256")?;
    let sha256 = hashes
        .map
        .keys()
        .map(|name| Ok((name.clone(), hashes.string(name)?)))
        .collect::<Result<_, ResultError>>()?;
    Ok(DataInfo {
        name: fields.string("name")?,
        train_rows: fields.count("train_rows")?,
        test_rows: fields.count("test_rows")?,
        n_coarse: fields.count("n_coarse")?,
        n_fine: fields.count("n_fine")?,
        sha256,
    })
}

fn read_row(fields: &Fields<'_>) -> Result<Row, ResultError> {
    if fields.map.contains_key("task") {
        return Ok(Row::Embedding(EmbeddingRow {
            stage: fields.string("stage")?,
            task: fields.string("task")?,
            split: fields.string("split")?,
            seed: match fields.map.get("seed") {
                None | Some(Value::Null) => None,
                Some(_) => Some(fields.integer("seed")?),
            },
            metric: fields.string("metric")?,
            aggregation: fields.string("aggregation")?,
            value: fields.number("value")?.unwrap_or(f64::NAN),
        }));
    }
    let mut extra = BTreeMap::new();
    if fields.map.contains_key("extra") {
        let further = fields.object("extra")?;
        for name in further.map.keys() {
            let value = further.number(name)?.unwrap_or(f64::NAN);
            extra.insert(name.clone(), value);
        }
    }
    Ok(Row::Category(CategoryRow {
        stage: fields.string("stage")?,
        inference: fields.string("inference")?,
        split: fields.string("split")?,
        seed: fields.integer("seed")?,
        acc: fields.score("acc", 0.0)?,
        ari: fields.score("ari", -1.0)?,
        nmi: fields.score("nmi", 0.0)?,
        extra,
    }))
}

fn read_summary(fields: &Fields<'_>) -> Result<Summary, ResultError> {
    let split = if fields.map.contains_key("split") {
        fields.string("split")?
    } else {
        "test".to_owned()
    };
    Ok(Summary {
        stage: fields.string("stage")?,
        inference: fields.string("inference")?,
        metric: fields.string("metric")?,
        split,
        mean: fields.number("mean")?.unwrap_or(f64::NAN),
        std: fields.number("std")?,
        n: fields.count("n")?,
    })
}

fn read_timing(fields: &Fields<'_>) -> Result<Timing, ResultError> {
    let step_ms = if fields.get("step_ms")?.is_null() {
        None
    } else {
        let step = fields.object("step_ms")?;
        Some(StepTime {
            min: step.number("min")?.unwrap_or(f64::NAN),
            median: step.number("median")?.unwrap_or(f64::NAN),
            max: step.number("max")?.unwrap_or(f64::NAN),
        })
    };
    Ok(Timing {
        stage: fields.string("stage")?,
        steps: fields.integer("steps")?,
        step_ms,
        epoch_s: fields.numbers("epoch_s")?,
        refill_s: fields.numbers("refill_s")?,
        evaluate_s: fields.number("evaluate_s")?,
    })
}

/// A JSON object together with its place in the file, so that errors can name the field.
struct Fields<'a> {
    map: &'a Map<String, Value>,
    at: String,
}

impl<'a> Fields<'a> {
    fn new(value: &'a Value, at: String) -> Result<Self, ResultError> {
        match value {
            Value::Object(map) => Ok(Self { map, at }),
            other => Err(ResultError::Field {
                field: if at.is_empty() { "(top)".into() } else { at },
                expected: "an object".to_owned(),
                found: describe(other),
            }),
        }
    }

    fn path(&self, name: &str) -> String {
        if self.at.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.at)
        }
    }

    fn wrong(&self, name: &str, expected: &str, found: &Value) -> ResultError {
        ResultError::Field {
            field: self.path(name),
            expected: expected.to_owned(),
            found: describe(found),
        }
    }

    fn get(&self, name: &str) -> Result<&'a Value, ResultError> {
        self.map.get(name).ok_or_else(|| ResultError::Field {
            field: self.path(name),
            expected: "a value".to_owned(),
            found: "nothing (the field is missing)".to_owned(),
        })
    }

    fn string(&self, name: &str) -> Result<String, ResultError> {
        match self.get(name)? {
            Value::String(text) => Ok(text.clone()),
            other => Err(self.wrong(name, "a string", other)),
        }
    }

    fn integer(&self, name: &str) -> Result<u64, ResultError> {
        let value = self.get(name)?;
        value
            .as_u64()
            .ok_or_else(|| self.wrong(name, "a whole number from 0", value))
    }

    fn count(&self, name: &str) -> Result<usize, ResultError> {
        let value = self.integer(name)?;
        usize::try_from(value)
            .map_err(|_| self.wrong(name, "a smaller whole number", &Value::from(value)))
    }

    /// A number; `null` and a missing field are `None`.
    fn number(&self, name: &str) -> Result<Option<f64>, ResultError> {
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_f64()
                .map(Some)
                .ok_or_else(|| self.wrong(name, "a number or null", value)),
        }
    }

    /// A number in `lowest..=1`.
    fn score(&self, name: &str, lowest: f64) -> Result<Option<f64>, ResultError> {
        let value = self.number(name)?;
        match value {
            Some(x) if !(lowest - SCORE_TOLERANCE..=1.0 + SCORE_TOLERANCE).contains(&x) => Err(
                // The usual cause is a percentage, so the message says what the scale is.
                self.wrong(name, &format!("a fraction in {lowest}..1"), &Value::from(x)),
            ),
            other => Ok(other),
        }
    }

    fn object(&self, name: &str) -> Result<Fields<'a>, ResultError> {
        Fields::new(self.get(name)?, self.path(name))
    }

    fn list(&self, name: &str) -> Result<&'a [Value], ResultError> {
        match self.get(name)? {
            Value::Array(items) => Ok(items),
            other => Err(self.wrong(name, "a list", other)),
        }
    }

    fn each<T>(
        &self,
        name: &str,
        read: fn(&Fields<'_>) -> Result<T, ResultError>,
    ) -> Result<Vec<T>, ResultError> {
        self.list(name)?
            .iter()
            .enumerate()
            .map(|(i, item)| read(&Fields::new(item, format!("{}[{i}]", self.path(name)))?))
            .collect()
    }

    fn numbers(&self, name: &str) -> Result<Vec<f64>, ResultError> {
        self.list(name)?
            .iter()
            .enumerate()
            .map(|(i, item)| match item {
                Value::Null => Ok(f64::NAN),
                other => other
                    .as_f64()
                    .ok_or_else(|| self.wrong(&format!("{name}[{i}]"), "a number or null", other)),
            })
            .collect()
    }
}

/// What a value is, short enough for one line.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => format!("{flag}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => {
            let start: String = text.chars().take(40).collect();
            let dots = if start.len() < text.len() { "..." } else { "" };
            format!("the string {start:?}{dots}")
        }
        Value::Array(items) => format!("a list of {} items", items.len()),
        Value::Object(map) => format!("an object of {} fields", map.len()),
    }
}

fn is_test(split: &str) -> bool {
    split == "test"
}

fn finite<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    value.is_finite().then_some(*value).serialize(serializer)
}

fn finite_or_null<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    value.filter(|x| x.is_finite()).serialize(serializer)
}

fn finite_list<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(|x| x.is_finite().then_some(*x)))
}

fn finite_map<S: Serializer>(
    values: &BTreeMap<String, f64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        values
            .iter()
            .map(|(name, x)| (name, x.is_finite().then_some(*x))),
    )
}

// ---------------------------------------------------------------------------------------------
// Summaries

/// Mean and sample standard deviation of every metric, per stage and inference (or task) and split.
///
/// mean = sum x / n, std = sqrt(sum (x - mean)^2 / (n - 1)).
///
/// Stages keep the order of their first row, and so do the inferences within a stage; metrics come
/// as `acc`, `ari`, `nmi`, then extra figures by name. A row that repeats stage, inference (or task
/// and metric), split and seed replaces the earlier one (a resumed run measures again; counting both
/// would understate the spread). Values that are missing or not finite are left out of mean and `n`.
///
/// ```
/// use experiments::result::{CategoryRow, Row, summarise};
/// let rows: Vec<Row> = [0.5, 0.7]
///     .iter()
///     .enumerate()
///     .map(|(seed, acc)| {
///         Row::Category(CategoryRow {
///             stage: "down".into(),
///             inference: "cluster".into(),
///             split: "test".into(),
///             seed: seed as u64,
///             acc: Some(*acc),
///             ..CategoryRow::default()
///         })
///     })
///     .collect();
/// let summary = summarise(&rows);
/// assert!((summary[0].mean - 0.6).abs() < 1e-12);
/// assert!((summary[0].std.unwrap() - 0.02_f64.sqrt()).abs() < 1e-12);
/// ```
pub fn summarise(rows: &[Row]) -> Vec<Summary> {
    // Position of first appearance decides the order; sorting by it keeps the rest stable.
    let mut stages: BTreeMap<&str, usize> = BTreeMap::new();
    let mut inferences: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    let mut latest: BTreeMap<([&str; 5], u64), usize> = BTreeMap::new();
    for (i, row) in rows.iter().enumerate() {
        let (stage, inference, split) = row_key(row);
        stages.entry(stage).or_insert(i);
        inferences.entry((stage, inference, split)).or_insert(i);
        if let Some(seed) = row.seed() {
            latest.insert((measured(row), seed), i);
        }
    }
    let mut groups: BTreeMap<GroupKey<'_>, Vec<f64>> = BTreeMap::new();
    for (i, row) in rows.iter().enumerate() {
        let repeated = |seed| latest.get(&(measured(row), seed)) != Some(&i);
        if row.seed().is_some_and(repeated) {
            continue;
        }
        let (stage, inference, split) = row_key(row);
        let order = (
            stages.get(stage).copied().unwrap_or(i),
            inferences
                .get(&(stage, inference, split))
                .copied()
                .unwrap_or(i),
        );
        let mut add = |rank: usize, metric: String, value: f64| {
            let key = GroupKey {
                order,
                rank,
                metric,
                stage,
                inference,
                split,
            };
            let values = groups.entry(key).or_default();
            if value.is_finite() {
                values.push(value);
            }
        };
        match row {
            Row::Category(row) => {
                for (rank, (name, value)) in [("acc", row.acc), ("ari", row.ari), ("nmi", row.nmi)]
                    .into_iter()
                    .enumerate()
                {
                    if let Some(value) = value {
                        add(rank, name.to_owned(), value);
                    }
                }
                for (name, value) in &row.extra {
                    add(3, name.clone(), *value);
                }
            }
            Row::Embedding(row) => add(0, format!("{}/{}", row.metric, row.aggregation), row.value),
        }
    }
    groups
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(key, values)| {
            let (mean, std) = mean_and_std(&values);
            Summary {
                stage: key.stage.to_owned(),
                inference: key.inference.to_owned(),
                metric: key.metric,
                split: key.split.to_owned(),
                mean,
                std,
                n: values.len(),
            }
        })
        .collect()
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey<'a> {
    order: (usize, usize),
    rank: usize,
    metric: String,
    stage: &'a str,
    inference: &'a str,
    split: &'a str,
}

fn row_key(row: &Row) -> (&str, &str, &str) {
    match row {
        Row::Category(row) => (&row.stage, &row.inference, &row.split),
        Row::Embedding(row) => (&row.stage, &row.task, &row.split),
    }
}

/// What a row measures, whatever the seed.
fn measured(row: &Row) -> [&str; 5] {
    let (stage, inference, split) = row_key(row);
    let (metric, aggregation) = match row {
        Row::Category(_) => ("", ""),
        Row::Embedding(row) => (row.metric.as_str(), row.aggregation.as_str()),
    };
    [stage, inference, split, metric, aggregation]
}

/// Arithmetic mean and sample standard deviation (`None` below two values); NaN for no value.
pub fn mean_and_std(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return (mean, None);
    }
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    (mean, Some((squares / (n - 1.0)).sqrt()))
}

// ---------------------------------------------------------------------------------------------
// Differences

/// What a difference of two means amounts to beside the spread over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The 95 % interval of the difference excludes 0.
    AboveSpread,
    /// The 95 % interval of the difference includes 0: seeds alone explain it.
    WithinSpread,
    /// One of the two has fewer than two seeds, so there is no spread to compare with.
    TooFewSeeds,
}

/// Difference of the means of two stages with its uncertainty (Welch's unequal-variance t test).
///
/// gain = mean_b - mean_a
/// se^2 = std_a^2 / n_a + std_b^2 / n_b
/// df   = se^4 / ((std_a^2 / n_a)^2 / (n_a - 1) + (std_b^2 / n_b)^2 / (n_b - 1))
/// half = t(0.975, floor(df)) * se
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain {
    /// Difference of the means, in the unit of the summaries.
    pub gain: f64,
    /// Half width of the 95 % interval; `None` with fewer than two seeds on a side.
    pub half: Option<f64>,
    /// The statement that follows.
    pub verdict: Verdict,
}

impl Gain {
    /// Gain from `base` to `other`. Only the spread over seeds enters; the size of the test set
    /// (the same for both) does not.
    pub fn between(base: &Summary, other: &Summary) -> Self {
        let gain = other.mean - base.mean;
        let half = match (base.std, other.std) {
            (Some(a), Some(b)) if base.n > 1 && other.n > 1 => {
                let (na, nb) = (base.n as f64, other.n as f64);
                let (va, vb) = (a * a / na, b * b / nb);
                let variance = va + vb;
                let spread = va * va / (na - 1.0) + vb * vb / (nb - 1.0);
                // Two constant sides have no spread at all; any degrees of freedom give half = 0.
                let freedom = if spread > 0.0 {
                    variance * variance / spread
                } else {
                    1.0
                };
                Some(t_quantile(freedom) * variance.sqrt())
            }
            _ => None,
        };
        let verdict = match half {
            None => Verdict::TooFewSeeds,
            Some(half) if gain.abs() > half => Verdict::AboveSpread,
            Some(_) => Verdict::WithinSpread,
        };
        Self {
            gain,
            half,
            verdict,
        }
    }
}

/// 97.5 % quantile of Student's t, for degrees of freedom rounded down (never too small).
fn t_quantile(freedom: f64) -> f64 {
    /// Tabulated for 1 to 30 degrees of freedom (any statistics handbook).
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042,
    ];
    let whole = freedom.max(1.0).floor();
    // Beyond the table 1.96 + 2.5 / df lies within 0.003 above the exact value.
    TABLE
        .get(whole as usize - 1)
        .copied()
        .unwrap_or(1.96 + 2.5 / whole)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    fn category(stage: &str, inference: &str, seed: u64, acc: f64) -> Row {
        Row::Category(CategoryRow {
            stage: stage.into(),
            inference: inference.into(),
            split: "test".into(),
            seed,
            acc: Some(acc),
            ..CategoryRow::default()
        })
    }

    fn example() -> ResultFile {
        let data = DataInfo {
            name: "hwu64".into(),
            train_rows: 8954,
            test_rows: 1031,
            n_coarse: 18,
            n_fine: 64,
            sha256: BTreeMap::from([("train.tsv".to_owned(), "ab".repeat(32))]),
        };
        let mut file = ResultFile::new("star_down", data);
        file.rows = vec![
            category("down", "cluster", 0, 0.5),
            category("down", "cluster", u64::MAX, 0.6),
            Row::Embedding(EmbeddingRow {
                stage: "down".into(),
                task: "STSB".into(),
                split: "test".into(),
                metric: "spearman".into(),
                aggregation: "all".into(),
                value: -0.25,
                seed: None,
            }),
            Row::Embedding(EmbeddingRow {
                stage: "down".into(),
                task: "STSB".into(),
                split: "test".into(),
                seed: Some(7),
                metric: "spearman".into(),
                aggregation: "all".into(),
                value: 0.5,
            }),
        ];
        if let Some(Row::Category(row)) = file.rows.first_mut() {
            row.ari = Some(-0.125);
            row.extra.insert("coarse_acc".into(), 0.97);
        }
        file.summary = summarise(&file.rows);
        file.timing = vec![Timing {
            stage: "down".into(),
            steps: 12,
            step_ms: Some(StepTime {
                min: 1.0,
                median: 2.0,
                max: 3.5,
            }),
            epoch_s: vec![0.5, 0.25],
            refill_s: vec![],
            evaluate_s: None,
        }];
        file.config = json!({"train": {"tau": 0.07}});
        file.peak_rss_mb = 512.0;
        file.total_s = 3.5;
        file
    }

    #[test]
    fn a_file_survives_writing_and_reading() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        let file = example();
        file.write(&path).unwrap();
        file.write(&path).unwrap();
        assert_eq!(ResultFile::read(&path).unwrap(), file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // The derived form goes through the same reader.
        let again: ResultFile = serde_json::from_str(&file.to_json().unwrap()).unwrap();
        assert_eq!(again, file);
    }

    #[test]
    fn the_written_fields_are_the_documented_ones() {
        let value: Value = serde_json::from_str(&example().to_json().unwrap()).unwrap();
        let names: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(
            names,
            [
                "schema",
                "experiment",
                "device",
                "threads",
                "data",
                "model",
                "config",
                "rows",
                "summary",
                "timing",
                "peak_rss_mb",
                "total_s"
            ]
        );
        assert_eq!(
            value["rows"][1],
            json!({"stage": "down", "inference": "cluster", "split": "test", "seed": u64::MAX,
                   "acc": 0.6, "ari": null, "nmi": null})
        );
        assert_eq!(value["rows"][2]["task"], "STSB");
        assert_eq!(value["summary"][0]["n"], 2);
        assert!(value["summary"][0].get("split").is_none());
    }

    #[test]
    fn numbers_that_are_not_finite_become_null() {
        let mut file = example();
        file.total_s = f64::INFINITY;
        file.rows = vec![category("down", "cluster", 0, f64::NAN)];
        if let Some(Row::Category(row)) = file.rows.first_mut() {
            row.extra.insert("loss".into(), f64::NEG_INFINITY);
        }
        file.timing
            .iter_mut()
            .for_each(|t| t.epoch_s.push(f64::NAN));
        let text = file.to_json().unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["total_s"], Value::Null);
        assert_eq!(value["rows"][0]["acc"], Value::Null);
        assert_eq!(value["rows"][0]["extra"]["loss"], Value::Null);
        assert_eq!(value["timing"][0]["epoch_s"][2], Value::Null);
        let back = ResultFile::from_json(&text).unwrap();
        assert!(back.total_s.is_nan());
        match &back.rows[0] {
            Row::Category(row) => {
                assert_eq!(row.acc, None);
                assert!(row.extra["loss"].is_nan());
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn errors_name_the_field() {
        let damaged = |pointer: &str, value: Value| {
            let mut json = serde_json::to_value(example()).unwrap();
            *json.pointer_mut(pointer).unwrap() = value;
            ResultFile::try_from(json).unwrap_err().to_string()
        };
        assert_eq!(
            damaged("/rows/1/seed", json!("zero")),
            "field `rows[1].seed`: expected a whole number from 0, found the string \"zero\""
        );
        assert_eq!(
            damaged("/rows/1/acc", json!(78.9)),
            "field `rows[1].acc`: expected a fraction in 0..1, found the number 78.9"
        );
        assert_eq!(
            damaged("/rows/0/extra/coarse_acc", json!([1])),
            "field `rows[0].extra.coarse_acc`: expected a number or null, found a list of 1 items"
        );
        assert_eq!(
            damaged("/data/train_rows", json!(-1)),
            "field `data.train_rows`: expected a whole number from 0, found the number -1"
        );
        assert_eq!(
            damaged("/data/sha256/train.tsv", json!(null)),
            "field `data.sha256.train.tsv`: expected a string, found null"
        );
        assert_eq!(
            damaged("/timing/0/epoch_s/1", json!(true)),
            "field `timing[0].epoch_s[1]`: expected a number or null, found true"
        );
        assert_eq!(
            damaged("/rows/2", json!(3)),
            "field `rows[2]`: expected an object, found the number 3"
        );
        assert!(damaged("/schema", json!("other/9")).contains("asterism/result/1"));
        let mut json = serde_json::to_value(example()).unwrap();
        json["rows"][0].as_object_mut().unwrap().remove("stage");
        assert_eq!(
            ResultFile::try_from(json).unwrap_err().to_string(),
            "field `rows[0].stage`: expected a value, found nothing (the field is missing)"
        );
    }

    #[test]
    fn a_truncated_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        let text = example().to_json().unwrap();
        for length in (0..text.trim_end().len()).step_by(37) {
            fs::write(&path, &text.as_bytes()[..length]).unwrap();
            let message = ResultFile::read(&path).unwrap_err().to_string();
            assert!(message.contains("result.json"), "{message}");
        }
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(ResultFile::read(&path).is_err());
        assert!(ResultFile::read(&folder.path().join("none.json")).is_err());
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        // The target is a folder that holds something, so the rename must fail.
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("old"), "kept").unwrap();
        assert!(example().write(&path).is_err());
        assert_eq!(fs::read_to_string(path.join("old")).unwrap(), "kept");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_atomic(Path::new(".."), b"x").is_err());
        assert!(write_atomic(&folder.path().join("no/such/file"), b"x").is_err());
    }

    #[test]
    fn stages_keep_their_order_and_repeats_count_once() {
        let mut rows = vec![
            category("star", "cluster", 0, 0.1),
            category("down", "cluster", 0, 0.5),
            category("star", "centroid", 0, 0.9),
            category("star", "cluster", 1, 0.4),
            category("star", "cluster", 0, 0.2),
        ];
        rows.push(Row::Category(CategoryRow {
            split: "train".into(),
            ..match category("star", "cluster", 0, 0.99) {
                Row::Category(row) => row,
                other => panic!("{other:?}"),
            }
        }));
        let summary = summarise(&rows);
        let keys: Vec<(&str, &str, &str)> = summary
            .iter()
            .map(|s| (s.stage.as_str(), s.inference.as_str(), s.split.as_str()))
            .collect();
        assert_eq!(
            keys,
            [
                ("star", "cluster", "test"),
                ("star", "centroid", "test"),
                ("star", "cluster", "train"),
                ("down", "cluster", "test"),
            ]
        );
        assert_eq!(summary[0].n, 2);
        assert!((summary[0].mean - 0.3).abs() < 1e-12);
        assert_eq!(summary[1].std, None);
    }

    #[test]
    fn metrics_that_are_missing_are_not_summarised() {
        let rows = [
            category("a", "centroid_mapped", 0, f64::NAN),
            category("a", "centroid_mapped", 1, 0.5),
        ];
        let summary = summarise(&rows);
        assert_eq!(summary.len(), 1);
        assert_eq!((summary[0].metric.as_str(), summary[0].n), ("acc", 1));
        assert!(summarise(&[]).is_empty());
    }

    #[test]
    fn embedding_rows_are_grouped_by_task_and_metric() {
        let row = |task: &str, aggregation: &str, value| {
            Row::Embedding(EmbeddingRow {
                stage: "simcse".into(),
                task: task.into(),
                split: "test".into(),
                metric: "spearman".into(),
                aggregation: aggregation.into(),
                value,
                seed: None,
            })
        };
        let rows = [
            row("STSB", "all", 0.8),
            row("STS12", "all", 0.6),
            row("STSB", "all", 0.82),
            row("STS12", "mean", 0.5),
        ];
        let got: Vec<(String, String, usize)> = summarise(&rows)
            .into_iter()
            .map(|s| (s.inference, s.metric, s.n))
            .collect();
        let want = [
            ("STSB", "spearman/all", 2),
            ("STS12", "spearman/all", 1),
            ("STS12", "spearman/mean", 1),
        ];
        assert_eq!(
            got,
            want.map(|(a, b, n)| (a.to_owned(), b.to_owned(), n))
                .to_vec()
        );
    }

    #[test]
    fn embedding_rows_have_a_spread_over_seeds_and_repeats_count_once() {
        let row = |seed, task: &str, metric: &str, value| {
            Row::Embedding(EmbeddingRow {
                stage: "simcse".into(),
                task: task.into(),
                split: "test".into(),
                metric: metric.into(),
                aggregation: "all".into(),
                value,
                seed,
            })
        };
        let rows = [
            row(Some(0), "STSB", "spearman", 0.1),
            row(Some(0), "STSB", "pearson", 0.7),
            row(Some(1), "STSB", "spearman", 0.8),
            row(Some(1), "SICKR", "spearman", 0.6),
            // Measured again after a stop.
            row(Some(0), "STSB", "spearman", 0.4),
            // Without a seed nothing says that it is the same measurement.
            row(None, "STSB", "pearson", 0.5),
            row(None, "STSB", "pearson", 0.6),
        ];
        let got = summarise(&rows);
        let keys: Vec<(&str, &str, usize)> = got
            .iter()
            .map(|s| (s.inference.as_str(), s.metric.as_str(), s.n))
            .collect();
        let want = [
            ("STSB", "pearson/all", 3),
            ("STSB", "spearman/all", 2),
            ("SICKR", "spearman/all", 1),
        ];
        assert_eq!(keys, want);
        assert!((got[0].mean - 0.6).abs() < 1e-12);
        assert!((got[1].mean - 0.6).abs() < 1e-12);
        assert!((got[1].std.unwrap() - 0.08_f64.sqrt()).abs() < 1e-12);
        assert_eq!(got[2].std, None);
        let mut file = ResultFile::new("simcse", DataInfo::default());
        file.rows = rows.to_vec();
        assert_eq!(file.seeds(), [0, 1]);
    }

    fn summary(mean: f64, std: Option<f64>, n: usize) -> Summary {
        Summary {
            stage: String::new(),
            inference: String::new(),
            metric: "acc".into(),
            split: "test".into(),
            mean,
            std,
            n,
        }
    }

    #[test]
    fn gain_agrees_with_a_case_worked_by_hand() {
        // Equal n and equal std: df = 2 (n - 1) = 8, se = std * sqrt(2 / n) = 1, t = 2.306.
        let std = (2.5_f64).sqrt();
        let gain = Gain::between(&summary(10.0, Some(std), 5), &summary(12.0, Some(std), 5));
        assert!((gain.half.unwrap() - 2.306).abs() < 1e-9);
        assert_eq!(gain.verdict, Verdict::WithinSpread);
        let gain = Gain::between(&summary(10.0, Some(std), 5), &summary(12.4, Some(std), 5));
        assert_eq!(gain.verdict, Verdict::AboveSpread);
        let loss = Gain::between(&summary(12.4, Some(std), 5), &summary(10.0, Some(std), 5));
        assert_eq!(loss.verdict, Verdict::AboveSpread);
        assert!(loss.gain < 0.0);
    }

    #[test]
    fn gain_needs_two_seeds_and_accepts_no_spread() {
        let one = summary(0.5, None, 1);
        let two = summary(0.9, Some(0.0), 2);
        assert_eq!(Gain::between(&one, &two).verdict, Verdict::TooFewSeeds);
        assert_eq!(Gain::between(&two, &two).verdict, Verdict::WithinSpread);
        let other = summary(0.8, Some(0.0), 2);
        assert_eq!(Gain::between(&two, &other).verdict, Verdict::AboveSpread);
    }

    #[test]
    fn t_quantiles_fall_towards_the_normal_one() {
        let mut last = f64::INFINITY;
        for freedom in 1..400 {
            let t = t_quantile(f64::from(freedom));
            assert!(t < last && t > 1.96, "{freedom}");
            last = t;
        }
        assert_eq!(t_quantile(0.3), 12.706);
        assert_eq!(t_quantile(1.99), 12.706);
    }
}
