//! Why a command did not finish, how that is shown, and the exit code that says so.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use datasets::FetchError;
use encoder::EncoderError;
use experiments::discover::DiscoverError;
use experiments::error::RunError;
use miette::Diagnostic;
use server::StartError;
use thiserror::Error;

use crate::categories::CategoriesError;
use crate::datagen::DatagenError;
use crate::model::ModelFetchError;

/// Error of a command.
#[derive(Debug, Error, Diagnostic)]
pub(crate) enum CliError {
    /// A file or folder named on the command line.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        operation: &'static str,
        /// File concerned.
        path: PathBuf,
        /// Reason given by the system.
        source: io::Error,
    },
    /// Results could not be written to standard output.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// A line of text that cannot be used.
    #[error("{origin}:{line}: {problem}")]
    Line {
        /// File, or `standard input`.
        origin: String,
        /// Number of the line, from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// `--model` does not lead to a model.
    #[error("{}: not a model directory: {problem}", path.display())]
    #[diagnostic(help("{help}"))]
    NoModel {
        /// What was given.
        path: PathBuf,
        /// What is missing.
        problem: &'static str,
        /// What to try.
        help: String,
    },
    /// A folder that `discover` did not write.
    #[error("{}: not a run of `asterism discover`: it has no {missing}", path.display())]
    #[diagnostic(help("make one: asterism discover --help"))]
    NoRun {
        /// What was given.
        path: PathBuf,
        /// The file that is missing.
        missing: &'static str,
    },
    /// A model without categories.
    #[error("{}: the model has no centroids", path.display())]
    #[diagnostic(help(
        "`predict` needs the model/ folder of a run: asterism train star-down --out RUN_DIR"
    ))]
    NoCentroids {
        /// The model directory.
        path: PathBuf,
    },
    /// `asterism.json` or `asterism.safetensors` contradict themselves or the encoder.
    #[error("{}: {field}: expected {expected}, found {found}", path.display())]
    Extension {
        /// File concerned.
        path: PathBuf,
        /// Field or tensor.
        field: String,
        /// What belongs there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// `--coarse-gate` names no coarse category with centroids.
    #[error("--coarse-gate: {problem}; this model has: {known}")]
    #[diagnostic(help("did you mean `{nearest}`?"))]
    CoarseGate {
        /// What is wrong with the name.
        problem: String,
        /// Names there are, separated by commas.
        known: String,
        /// The most similar one.
        nearest: String,
    },
    /// An option that fits neither the model nor the other options.
    #[error("{option}: {problem}")]
    Option {
        /// The option.
        option: &'static str,
        /// What was expected and found.
        problem: String,
    },
    /// A target folder with something in it.
    #[error("{} is not empty; nothing was changed", path.display())]
    #[diagnostic(help("choose another folder, or replace its files with --force"))]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// `doctor` found something that does not work.
    #[error("{failed} check{} failed", if *failed == 1 { "" } else { "s" })]
    #[diagnostic(help("do what stands behind the arrows above"))]
    Unhealthy {
        /// Number of failed checks.
        failed: usize,
    },
    /// Finding categories.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Discover(Box<DiscoverError>),
    /// Training.
    #[error(transparent)]
    Run(Box<RunError>),
    /// Choosing a device.
    #[error(transparent)]
    Device(#[from] kernels::DeviceError),
    /// Model directory, tokenizer or encoder.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// Assigning to centroids.
    #[error(transparent)]
    Clustering(#[from] clustering::ClusteringError),
    /// Loading data.
    #[error(transparent)]
    Dataset(#[from] datasets::DatasetError),
    /// Downloading data.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Downloading a model.
    #[error(transparent)]
    #[diagnostic(transparent)]
    ModelFetch(Box<ModelFetchError>),
    /// The token of a hub.
    #[error(transparent)]
    Key(#[from] ::datagen::chat::KeyError),
    /// Generating data.
    #[error(transparent)]
    Pocket(#[from] ::datagen::PocketError),
    /// Generating data with rules or a model.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Datagen(Box<DatagenError>),
    /// Making the page of a run.
    #[error(transparent)]
    Explorer(#[from] explorer::ExplorerError),
    /// Reading a result.
    #[error(transparent)]
    Result(#[from] experiments::result::ResultError),
    /// A file of results that would be replaced.
    #[error("{} exists; nothing was changed", path.display())]
    #[diagnostic(help("choose another file, or replace it with --force"))]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Parts of an earlier run that cannot be gone on with.
    #[error("{}: {problem}", path.display())]
    #[diagnostic(help("{help}"))]
    Parts {
        /// The folder of the parts.
        path: PathBuf,
        /// Why.
        problem: String,
        /// What to do.
        help: String,
    },
    /// Stopped by a signal after a whole chunk of rows.
    #[error("{interruption} after {rows} rows; everything up to there is saved")]
    #[diagnostic(help("{help}"))]
    Interrupted {
        /// Which signal.
        interruption: training::Interruption,
        /// Rows done.
        rows: u64,
        /// How to go on.
        help: String,
    },
    /// Parquet files and Arrow streams.
    #[error(transparent)]
    Columnar(columnar::ColumnarError),
    /// Looking at the categories of a run and editing them.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Categories(Box<CategoriesError>),
    /// Assigning to the categories of a run.
    #[error(transparent)]
    Category(#[from] categories::CategoryError),
    /// The categories of a run.
    #[error(transparent)]
    Store(Box<categories::StoreError>),
    /// A list for or from an annotation tool.
    #[error("{}: {error}", path.display())]
    #[diagnostic(help("nothing was changed"))]
    Annotation {
        /// The list, or the run it would be made of.
        path: PathBuf,
        /// What is wrong.
        error: categories::annotation::AnnotationError,
    },
    /// A server that does not start.
    #[error(transparent)]
    Server(Box<StartError>),
    /// A server that was told to stop and left requests without an answer.
    #[error("stopped before the last answer: {outcome:?}")]
    Stopped {
        /// How it stopped.
        outcome: server::Outcome,
    },
}

impl From<DiscoverError> for CliError {
    fn from(error: DiscoverError) -> Self {
        Self::Discover(Box::new(error))
    }
}

impl From<ModelFetchError> for CliError {
    fn from(error: ModelFetchError) -> Self {
        Self::ModelFetch(Box::new(error))
    }
}

impl From<DatagenError> for CliError {
    fn from(error: DatagenError) -> Self {
        Self::Datagen(Box::new(error))
    }
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        Self::Run(Box::new(error))
    }
}

impl From<CategoriesError> for CliError {
    fn from(error: CategoriesError) -> Self {
        Self::Categories(Box::new(error))
    }
}

impl From<categories::StoreError> for CliError {
    fn from(error: categories::StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl From<columnar::ColumnarError> for CliError {
    fn from(error: columnar::ColumnarError) -> Self {
        match error {
            // Where the reader has seen enough, this is no error.
            columnar::ColumnarError::Write(source) => Self::Output(source),
            other => Self::Columnar(other),
        }
    }
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> Self {
        Self::Server(Box::new(error))
    }
}

impl CliError {
    /// For `map_err`: names the operation and the file.
    pub(crate) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            operation,
            path,
            source,
        }
    }

    /// For `map_err`: names the option whose value the encoder refused.
    pub(crate) fn option(option: &'static str) -> impl FnOnce(EncoderError) -> Self {
        move |error| match error {
            EncoderError::Config {
                expected, found, ..
            } => Self::Option {
                option,
                problem: format!("expected {expected}, found `{found}`"),
            },
            error => Self::Encoder(error),
        }
    }

    /// 1 failed run, 2 bad input or usage, 130 or 143 interrupted after saving.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Discover(error) => error.exit_code(),
            Self::Run(error) => error.exit_code(),
            Self::Categories(error) => error.exit_code(),
            Self::Datagen(error) => error.exit_code(),
            Self::Interrupted { interruption, .. } => interruption.exit_code() as u8,
            Self::Stopped { outcome } => outcome.exit_code(),
            Self::Server(error) => match **error {
                StartError::Listen { .. } | StartError::System { .. } | StartError::Engine(_) => 1,
                _ => 2,
            },
            Self::ModelFetch(error) => error.exit_code(),
            Self::Fetch(error) => fetch_exit_code(error),
            // The request was fine, the work was not.
            Self::Clustering(_) | Self::Pocket(_) | Self::Unhealthy { .. } | Self::Output(_) => 1,
            _ => 2,
        }
    }
}

/// 1 if a download failed, 2 if it could not be asked for.
pub(crate) fn fetch_exit_code(error: &FetchError) -> u8 {
    match error {
        FetchError::TooManyRedirects { .. }
        | FetchError::Status { .. }
        | FetchError::Transport { .. }
        | FetchError::Truncated { .. }
        | FetchError::WrongSize { .. }
        | FetchError::TooLarge { .. }
        | FetchError::Header { .. }
        | FetchError::WrongHash { .. }
        | FetchError::GaveUp { .. } => 1,
        _ => 2,
    }
}

/// Shows an error the way a person can use it and turns the outcome into the exit code.
pub(crate) fn conclude(outcome: Result<(), CliError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = error.exit_code();
            experiments::cli::show_plainly();
            eprintln!("{:?}", miette::Report::new(error));
            ExitCode::from(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_bad_input_from_failed_work() {
        let status = FetchError::Status {
            url: "https://localhost/a".to_owned(),
            status: 404,
            retry_after: None,
        };
        let unknown = FetchError::UnknownManifest {
            name: "a".to_owned(),
            known: "b".to_owned(),
        };
        for (error, code) in [
            (CliError::from(status), 1),
            (CliError::from(unknown), 2),
            (CliError::from(RunError::Config("x".to_owned())), 2),
            (CliError::Output(io::Error::other("disk full")), 1),
            (CliError::NoCentroids { path: "m".into() }, 2),
        ] {
            assert_eq!(error.exit_code(), code, "{error}");
        }
    }
}
