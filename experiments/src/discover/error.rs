//! Why there are no categories, and the exit code that says so.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;
use training::Interrupted;

use crate::error::RunError;

/// Error of a discovery or an update.
#[derive(Debug, Error, Diagnostic)]
pub enum DiscoverError {
    /// The data have no row that can be used.
    #[error("no texts: {problem}")]
    NoTexts {
        /// What was read and why nothing of it is left.
        problem: String,
    },
    /// Files that do not belong together.
    #[error("{}: {problem}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An option that cannot be.
    #[error("{option}: {problem}")]
    Option {
        /// The option.
        option: &'static str,
        /// What was expected and found.
        problem: String,
    },
    /// `--k` names a coarse class that the data do not have.
    #[error("--k: no coarse class `{name}`; the data have: {known}")]
    #[diagnostic(help("did you mean `{nearest}`?"))]
    UnknownCoarse {
        /// The name given.
        name: String,
        /// Names there are.
        known: String,
        /// The most similar one.
        nearest: String,
    },
    /// More categories than different texts.
    #[error("--k: {k} categories of {texts} different texts in {place}")]
    #[diagnostic(help("a category needs a text; give at most {texts}, or leave --k out"))]
    TooManyCategories {
        /// Categories asked for.
        k: usize,
        /// Different texts.
        texts: usize,
        /// Coarse class, or all data.
        place: String,
    },
    /// The target holds something.
    #[error("{} is not empty; nothing was changed", path.display())]
    #[diagnostic(help(
        "choose another --out; `asterism discover --update {} DATA` adds texts to a finished run", path.display()
    ))]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// An unfinished run with other settings stands where this one would be prepared.
    #[error("{} holds an unfinished run with {what}", path.display())]
    #[diagnostic(help("remove that directory, or choose another --out"))]
    Unfinished {
        /// The directory of the unfinished run.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// A directory that is no finished discovery.
    #[error("{}: not a run of `asterism discover`: {problem}", path.display())]
    #[diagnostic(help("the directory that was given as --out of `asterism discover`"))]
    NoRun {
        /// The directory or file.
        path: PathBuf,
        /// What is missing or wrong.
        problem: String,
    },
    /// The vectors of the run were made by another model.
    #[error("{}: the model is not the one that made the categories: expected SHA-256 {expected}, found {found}", path.display())]
    OtherModel {
        /// The model directory.
        path: PathBuf,
        /// Hash in the catalogue.
        expected: String,
        /// Hash of the file.
        found: String,
    },
    /// Stopped by a signal during the training, after saving.
    #[error("{interrupted}; what is done is in {}", path.display())]
    #[diagnostic(help("run the same command again to go on"))]
    Interrupted {
        /// Which signal, and the steps done.
        interrupted: Interrupted,
        /// Directory of the unfinished run.
        path: PathBuf,
    },
    /// A file of the run.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Reason given by the system.
        source: std::io::Error,
    },
    /// Categories that cannot be.
    #[error(transparent)]
    Category(#[from] categories::CategoryError),
    /// Catalogue and log.
    #[error(transparent)]
    Store(#[from] categories::StoreError),
    /// Names.
    #[error(transparent)]
    Naming(#[from] datagen::naming::NamingError),
    /// Everything that other experiments can report too.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Run(Box<RunError>),
}

impl From<RunError> for DiscoverError {
    fn from(error: RunError) -> Self {
        Self::Run(Box::new(error))
    }
}

/// For errors that [`RunError`] has a variant for.
macro_rules! through_run_error {
    ($($source:ty),+ $(,)?) => {
        $(impl From<$source> for DiscoverError {
            fn from(error: $source) -> Self {
                RunError::from(error).into()
            }
        })+
    };
}

through_run_error!(
    datasets::DatasetError,
    kernels::DeviceError,
    encoder::EncoderError,
    clustering::ClusteringError,
    metrics::MetricsError,
    training::Error,
    crate::result::ResultError,
    crate::report::ReportError,
);

impl DiscoverError {
    /// For `map_err`: names the operation and the file.
    pub(crate) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            operation,
            path,
            source,
        }
    }

    /// 1 failed run, 2 bad input or usage, 130 or 143 interrupted after saving.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Run(error) => error.exit_code(),
            Self::Interrupted { interrupted, .. } => interrupted.exit_code() as u8,
            Self::Category(_) | Self::Naming(_) => 1,
            _ => 2,
        }
    }
}
