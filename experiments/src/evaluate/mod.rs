//! Evaluation of sentence embeddings as SentEval and SimCSE do it.
//!
//! * [`evaluate_sts`], [`sts_dev`]: similarity tasks with an encoder in hand, one call each;
//! * [`evaluate`]: everything at once ([`Suite`]), with any function that embeds texts;
//! * [`transfer_protocol`]: the classifiers of the transfer tasks;
//! * [`published`]: figures of the papers, to stand beside ours;
//! * [`program`]: the command line, shared by the `evaluate` binary and `asterism evaluate`.
//!
//! Equal texts, within a task and across tasks, are encoded once ([`TextPool`]), texts of similar
//! length together. Nothing here chooses anything by a test part.

pub mod program;
pub mod published;
mod retrieval;
mod space;
mod sts;
pub mod tables;
mod text_pool;
mod transfer;
pub mod transfer_protocol;

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use datasets::{RetrievalPairs, ScoredPair, StsName, StsPart, StsTask, TransferTask};
use encoder::Embeddings;
use metrics::Aggregation;

pub use retrieval::{DEPTHS, RetrievalResult, RetrievalTask};
pub use space::{POSITIVE_ABOVE, SpaceResult, SpaceSample};
pub use sts::{StsPairs, StsResult, evaluate_sts, sts_dev};
pub use text_pool::{TextPool, encode_texts};
pub use transfer::{TransferResult, TransferRowsAt};

use self::transfer_protocol::TransferSettings;
use crate::error::RunError;
use crate::result::EmbeddingRow;

/// What is scored, and how thoroughly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Development parts only: STS-B, SICK-R, and the selection accuracy of the transfer tasks with
    /// the fast settings. The test parts are not looked at.
    Dev,
    /// Test parts; transfer tasks with 10 folds and Adam.
    #[default]
    Test,
    /// Test parts; transfer tasks with 5 folds and RMSprop.
    FastTest,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::Dev, Self::Test, Self::FastTest];

    /// Part of the STS tasks that is scored.
    pub fn part(self) -> StsPart {
        match self {
            Self::Dev => StsPart::Dev,
            Self::Test | Self::FastTest => StsPart::Test,
        }
    }

    /// Settings of the transfer tasks.
    pub fn transfer(self) -> TransferSettings {
        match self {
            Self::Test => TransferSettings::thorough(),
            Self::Dev | Self::FastTest => TransferSettings::fast(),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dev => "dev",
            Self::Test => "test",
            Self::FastTest => "fasttest",
        })
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.to_string() == text)
            .ok_or_else(|| format!("unknown mode `{text}`; expected dev, test or fasttest"))
    }
}

/// The data of an evaluation; any part may be empty.
#[derive(Clone, Debug, Default)]
pub struct Suite {
    /// Similarity tasks. STS-B also serves for alignment, uniformity and isotropy.
    pub sts: Vec<StsTask>,
    /// Transfer tasks.
    pub transfer: Vec<TransferTask>,
    /// A user's scored pairs, by name.
    pub scored: Vec<(String, Vec<ScoredPair>)>,
    /// A user's queries and documents, by name.
    pub retrieval: Vec<(String, RetrievalPairs)>,
}

/// What an evaluation found. Tasks without the part that the mode scores are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// How it was done.
    pub mode: Mode,
    /// Similarity tasks, then scored pairs.
    pub sts: Vec<StsResult>,
    /// Transfer tasks.
    pub transfer: Vec<TransferResult>,
    /// Alignment, uniformity and isotropy, where there is an STS-B.
    pub space: Option<SpaceResult>,
    /// Queries and documents.
    pub retrieval: Vec<RetrievalResult>,
    /// Distinct texts encoded.
    pub texts: usize,
    /// Texts before equal ones were joined.
    pub occurrences: usize,
    /// Wall time of encoding, in seconds.
    pub encode_s: f64,
}

/// How far an evaluation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance<'a> {
    /// `classify` and the name of a transfer task.
    pub stage: &'a str,
    /// Trainings done.
    pub done: usize,
    /// Trainings in all.
    pub all: usize,
}

/// Scores a function from texts to vectors on a suite.
///
/// `embed` is called once, with the distinct texts of all tasks; [`encode_texts`] is one that wraps
/// an encoder. `settings` replaces the mode's settings of the transfer tasks. `progress` is called
/// during their trainings, from several threads.
///
/// # Errors
/// [`RunError::Data`] for a task that cannot be scored, [`RunError::Metrics`] for vectors that are
/// not finite, what `embed` reports.
pub fn evaluate<'a>(
    suite: &'a Suite,
    mode: Mode,
    settings: &TransferSettings,
    embed: impl FnOnce(&[&'a str]) -> Result<Embeddings, RunError>,
    progress: &(dyn Fn(Advance<'_>) + Sync),
) -> Result<Evaluation, RunError> {
    let mut pool = TextPool::default();
    let part = mode.part();
    let mut pairs: Vec<StsPairs> = suite
        .sts
        .iter()
        .filter_map(|task| StsPairs::of_task(task, part, &mut pool))
        .collect();
    pairs.extend(
        suite
            .scored
            .iter()
            .map(|(name, scored)| StsPairs::of_pairs(name, scored, &mut pool)),
    );
    let space = suite
        .sts
        .iter()
        .find(|task| task.name == StsName::StsB)
        .and_then(|task| task.split(part))
        .map(|split| SpaceSample::new(split, &mut pool));
    let retrieval: Vec<RetrievalTask> = suite
        .retrieval
        .iter()
        .map(|(name, pairs)| RetrievalTask::new(name, pairs, &mut pool))
        .collect();
    let transfer: Vec<TransferRowsAt> = suite
        .transfer
        .iter()
        .map(|task| TransferRowsAt::of_task(task, &mut pool))
        .collect::<Result<_, _>>()?;
    if pool.texts().is_empty() {
        return Err(RunError::Data(format!(
            "no task has anything for the mode {mode}"
        )));
    }
    let occurrences = pairs.iter().map(StsPairs::texts).sum::<usize>()
        + transfer.iter().map(TransferRowsAt::texts).sum::<usize>()
        + retrieval.iter().map(RetrievalTask::texts).sum::<usize>();
    let began = Instant::now();
    let vectors = pool.embed(embed)?;
    let encode_s = began.elapsed().as_secs_f64();
    let score = |rows: &TransferRowsAt| {
        let stage = format!("classify {}", rows.task.name());
        let told = |done, all| {
            progress(Advance {
                stage: &stage,
                done,
                all,
            })
        };
        rows.score(&vectors, settings, mode != Mode::Dev, &told)
    };
    Ok(Evaluation {
        mode,
        sts: pairs
            .iter()
            .map(|pairs| pairs.score(&vectors))
            .collect::<Result<_, _>>()?,
        space: space.map(|sample| sample.measure(&vectors)).transpose()?,
        retrieval: retrieval
            .iter()
            .map(|task| task.score(&vectors))
            .collect::<Result<_, _>>()?,
        transfer: transfer.iter().map(score).collect::<Result<_, _>>()?,
        texts: pool.texts().len(),
        occurrences,
        encode_s,
    })
}

impl Evaluation {
    /// The figures as rows of a result file, all fractions (or plain numbers, for the figures of the
    /// space); NaN where one is not defined, which the file holds as `null`.
    ///
    /// STS rows have the metrics `spearman` and `pearson` under each aggregation. The selection
    /// accuracy of a transfer task has the split `dev`. Everything else has the aggregation `all`.
    pub fn rows(&self, stage: &str) -> Vec<EmbeddingRow> {
        let row = |task: &str, split: &str, metric: &str, value: f64| EmbeddingRow {
            stage: stage.to_owned(),
            task: task.to_owned(),
            split: split.to_owned(),
            metric: metric.to_owned(),
            aggregation: Aggregation::All.name().to_owned(),
            value,
            ..EmbeddingRow::default()
        };
        let mut rows = Vec::new();
        for result in &self.sts {
            for (metric, correlation) in [
                ("spearman", &result.scores.spearman),
                ("pearson", &result.scores.pearson),
            ] {
                for aggregation in Aggregation::ALL {
                    let value = correlation.get(aggregation);
                    rows.push(EmbeddingRow {
                        aggregation: aggregation.name().to_owned(),
                        ..row(&result.task, result.part.name(), metric, value)
                    });
                }
            }
        }
        for result in &self.transfer {
            let task = result.task.name();
            rows.push(row(task, "dev", "accuracy", result.score.dev_accuracy));
            if let Some(test) = &result.score.test {
                rows.push(row(task, "test", "accuracy", test.accuracy));
                if let Some(f1) = test.f1 {
                    rows.push(row(task, "test", "f1", f1));
                }
            }
        }
        if let Some(space) = &self.space {
            for (metric, value) in space.figures() {
                let value = value.unwrap_or(f64::NAN);
                let task = StsName::StsB.name();
                rows.push(row(task, self.mode.part().name(), metric, value));
            }
        }
        for result in &self.retrieval {
            for (metric, value) in result.figures() {
                rows.push(row(&result.task, "test", &metric, value));
            }
        }
        rows
    }
}
