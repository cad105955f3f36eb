//! Why data could not be generated.

use std::path::PathBuf;

use ::datagen::chat::{ChatError, KeyError};
use ::datagen::job::{JobError, JournalError, ReplayError};
use ::datagen::naming::NamingError;
use ::datagen::simulation::{DemonstrationError, PromptError};
use ::datagen::taxonomy::{CorpusError, TaxonomyError, TaxonomyRulesError};
use miette::Diagnostic;
use thiserror::Error;
use training::Interruption;

/// Error of `asterism datagen`.
#[derive(Debug, Error, Diagnostic)]
pub(crate) enum DatagenError {
    /// A job that did not finish.
    #[error("{error}")]
    Job {
        /// Why.
        error: JobError,
        /// The signal, if one ended it.
        interruption: Option<Interruption>,
        /// What to do next.
        #[help]
        help: Option<String>,
    },
    /// Settings of the model server.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The key of the model server.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A recording.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// Prompts.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// Demonstrations.
    #[error(transparent)]
    #[diagnostic(help("without --demos the demonstrations of this program are used"))]
    Demonstrations(#[from] DemonstrationError),
    /// A taxonomy file.
    #[error(transparent)]
    Taxonomy(#[from] TaxonomyError),
    /// A taxonomy that the rules cannot write.
    #[error(transparent)]
    #[diagnostic(help("ask a model server: --base-url URL --model NAME"))]
    TaxonomyRules(#[from] TaxonomyRulesError),
    /// A corpus.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// Names of categories.
    #[error(transparent)]
    Naming(#[from] NamingError),
    /// A journal with answers, and nobody said that they are to be used.
    #[error("journal {}: holds {answers} answers already", path.display())]
    #[diagnostic(help("go on with them with --resume, or choose another --journal"))]
    JournalExists {
        /// The journal.
        path: PathBuf,
        /// Answers in it.
        answers: u64,
    },
    /// A file that would be replaced.
    #[error("{} exists; nothing was changed", path.display())]
    #[diagnostic(help("choose another --out, or replace it with --force"))]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

impl DatagenError {
    /// 1 failed work, 2 bad input or usage, 130 or 143 interrupted after saving.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Job {
                interruption: Some(interruption),
                ..
            } => interruption.exit_code() as u8,
            Self::Job { error, .. } => match error {
                JobError::Config { .. } | JobError::Journal(_) | JobError::Sink(_) => 2,
                _ => 1,
            },
            Self::Corpus(CorpusError::TooFew { .. }) => 1,
            _ => 2,
        }
    }
}
