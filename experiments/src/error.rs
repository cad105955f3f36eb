//! Why an experiment did not finish, and the exit code that says so.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;
use training::Interrupted;

/// Error of an experiment program.
#[derive(Debug, Error, Diagnostic)]
pub enum RunError {
    /// A configuration key or value.
    #[error("configuration: {0}")]
    Config(String),
    /// A file named on the command line.
    #[error("{}: {message}", path.display())]
    File {
        /// File concerned.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Data that fit no run: one class, too few rows, labels missing.
    #[error("data: {0}")]
    Data(String),
    /// Loading a dataset.
    #[error(transparent)]
    Dataset(#[from] datasets::DatasetError),
    /// Putting rows into batches.
    #[error(transparent)]
    Batches(#[from] datasets::BatchError),
    /// Downloading a published dataset.
    #[error(transparent)]
    Fetch(#[from] datasets::FetchError),
    /// Choosing a device.
    #[error(transparent)]
    Device(#[from] kernels::DeviceError),
    /// Model directory, tokenizer or encoder.
    #[error(transparent)]
    Encoder(#[from] encoder::EncoderError),
    /// Objective.
    #[error(transparent)]
    Loss(#[from] losses::LossError),
    /// Bank and neighbours.
    #[error(transparent)]
    Queue(#[from] queue::QueueError),
    /// Clustering.
    #[error(transparent)]
    Clustering(#[from] clustering::ClusteringError),
    /// Metrics.
    #[error(transparent)]
    Metrics(#[from] metrics::MetricsError),
    /// Training loop, checkpoints, run directory.
    #[error(transparent)]
    Training(#[from] training::Error),
    /// A number of a step is not finite.
    #[error("stage {stage}: {error}; all rows are in {}, and everything before the step is saved", dump.display())]
    NotFinite {
        /// Which number, in which step.
        error: Box<training::Error>,
        /// Stage of the run.
        stage: String,
        /// File with the rows of the batch.
        dump: PathBuf,
    },
    /// result.json.
    #[error(transparent)]
    Result(#[from] crate::result::ResultError),
    /// report.html.
    #[error(transparent)]
    Report(#[from] crate::report::ReportError),
    /// Work that can be done again was left because a signal asked the run to stop. The run then ends
    /// as [`Interrupted`](Self::Interrupted); this error does not leave it.
    #[error("left because a signal asked the run to stop")]
    LetGo,
    /// Stopped by a signal, after saving.
    #[error("{interrupted}; continue with --resume {}", run_dir.display())]
    Interrupted {
        /// Which signal, and the steps done.
        interrupted: Interrupted,
        /// Directory of the run.
        run_dir: PathBuf,
    },
}

impl RunError {
    /// 1 failed run, 2 bad input or usage, 130 or 143 interrupted after saving.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted { interrupted, .. } => interrupted.exit_code() as u8,
            Self::Training(error) if !is_file_problem(error) => match error {
                training::Error::Step { source, .. } => {
                    source.downcast_ref::<Self>().map_or(1, Self::exit_code)
                }
                training::Error::Faulty { .. }
                | training::Error::NotFiniteLoss { .. }
                | training::Error::NotFiniteGradient { .. } => 1,
                _ => 2,
            },
            Self::NotFinite { .. } => 1,
            Self::Loss(_) | Self::Queue(_) | Self::Clustering(_) | Self::Metrics(_) => 1,
            _ => 2,
        }
    }
}

/// A full disk or a missing permission is the machine's state, not a failed method: code 2.
fn is_file_problem(error: &training::Error) -> bool {
    matches!(error, training::Error::File { .. })
}
