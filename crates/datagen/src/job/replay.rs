//! A journal as a source: the answers of an earlier job, without asking anyone.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::checks::RejectReason;
use super::journal::{Journal, JournalError, Key};
use crate::chat::{Answer, AnswerSource, Call, ChatError, Usage};

/// A recording cannot be replayed.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// A journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The answers are of other sources than the one asked for, or of several.
    #[error("{}: recorded from {found}; {expected}", path.display())]
    Source {
        /// The first journal.
        path: PathBuf,
        /// Sources of its answers.
        found: String,
        /// What was expected.
        expected: String,
    },
}

/// Answers from journals alone.
///
/// It has the name of the source that was recorded, so that a job over it makes the same keys. A call
/// that was not recorded with exactly this kind, prompt, text, temperature, length and attempt is
/// [`ChatError::NoAnswer`]. Answers cost nothing.
#[derive(Debug)]
pub struct Replay {
    journal: Journal,
    name: String,
}

impl Replay {
    /// Opens journals. `name` chooses among recorded sources; `None` is for a recording of one.
    ///
    /// # Errors
    /// [`ReplayError`]: an unreadable journal, none or several sources, an unknown one.
    pub fn open(paths: &[impl AsRef<Path>], name: Option<&str>) -> Result<Self, ReplayError> {
        let mut journal = Journal::in_memory();
        for path in paths {
            journal.also_read(path.as_ref())?;
        }
        let sources = journal.sources();
        let name = match name {
            Some(name) => sources.get(name),
            None => sources.first().filter(|_| sources.len() == 1),
        };
        match name.cloned() {
            Some(name) => Ok(Self { journal, name }),
            None => Err(ReplayError::Source {
                path: paths
                    .first()
                    .map_or_else(PathBuf::new, |path| path.as_ref().into()),
                found: if sources.is_empty() {
                    "nothing".to_owned()
                } else {
                    Vec::from_iter(sources.iter().map(|name| format!("`{name}`"))).join(", ")
                },
                expected: "name one of its sources".to_owned(),
            }),
        }
    }
}

impl AnswerSource for Replay {
    fn name(&self) -> &str {
        &self.name
    }

    fn answer(&self, call: &Call, attempt: u32) -> Result<Answer, ChatError> {
        let none = |reason: String| ChatError::NoAnswer {
            answerer: format!("the recording of `{}`", self.name),
            reason,
        };
        let record = self
            .journal
            .get(&Key::new(&self.name, call, attempt))
            .map_err(|error| none(error.to_string()))?
            .ok_or_else(|| {
                none(format!(
                    "`{}`, attempt {attempt}, was not recorded with this prompt and these settings",
                    call.id
                ))
            })?;
        match record.problem {
            None => Ok(Answer {
                text: record.text,
                usage: Usage::default(),
            }),
            Some(reason) => Err(unusable(call, record.rejected, reason)),
        }
    }
}

/// An error that a job gives the recorded reason for.
fn unusable(call: &Call, rejected: Option<RejectReason>, reason: String) -> ChatError {
    let (model, usage) = ("recording".to_owned(), Usage::default());
    match rejected {
        Some(RejectReason::CutOff) => ChatError::CutOff {
            model,
            limit: call.request.max_tokens,
            start: reason,
            usage,
        },
        Some(RejectReason::Refusal) => ChatError::Declined {
            model,
            reason,
            usage,
        },
        Some(RejectReason::Empty) => ChatError::NoText {
            model,
            finish_reason: reason,
            usage,
        },
        _ => ChatError::Garbled {
            url: model,
            reason,
            usage,
        },
    }
}
