//! What can be wrong with a catalogue, an edit, a vector or a file.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::category::CategoryId;

/// Error of a catalogue and of what is computed with it.
#[derive(Debug, Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum CategoryError {
    /// A field that breaks a rule.
    #[error("{field}: expected {expected}, found {found}")]
    Invalid {
        /// The field, as `categories[3].centroid`, or an argument.
        field: String,
        /// What belongs there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// No category has this id.
    #[error("there is no category {id}; ids go up to {last}")]
    UnknownId {
        /// What was asked for.
        id: CategoryId,
        /// The highest id given so far.
        last: CategoryId,
    },
    /// No active category has this name.
    #[error("there is no category `{name}`{}", nearest.as_ref().map_or_else(String::new, |near| format!("; did you mean `{near}`?")))]
    UnknownName {
        /// What was asked for.
        name: String,
        /// The most similar name.
        nearest: Option<String>,
    },
    /// No coarse class has this name.
    #[error("there is no coarse class `{name}`{}", nearest.as_ref().map_or_else(String::new, |near| format!("; did you mean `{near}`?")))]
    UnknownCoarse {
        /// What was asked for.
        name: String,
        /// The most similar name.
        nearest: Option<String>,
    },
    /// The category is not in use any more.
    #[error("category {id} is retired: {became}")]
    Retired {
        /// The category.
        id: CategoryId,
        /// What became of it.
        became: String,
    },
    /// Another active category has the name.
    #[error("the name `{name}` belongs to category {owner}")]
    NameTaken {
        /// The name.
        name: String,
        /// The active category with this name.
        owner: CategoryId,
    },
    /// A program may not replace what a person chose.
    #[error("category {id} is called `{name}` by a person; only a person renames it")]
    HumanName {
        /// The category.
        id: CategoryId,
        /// Its name.
        name: String,
    },
    /// The edit would change nothing.
    #[error("category {id} is called `{name}` already")]
    Unchanged {
        /// The category.
        id: CategoryId,
        /// Its name.
        name: String,
    },
    /// No edit is left to undo.
    #[error("nothing to undo")]
    NothingToUndo,
    /// No undo is left to take back.
    #[error("nothing to redo: only an undo that no edit followed can be taken back")]
    NothingToRedo,
}

/// Short form for [`CategoryError::Invalid`].
pub(crate) fn invalid(
    field: impl Into<String>,
    expected: impl Into<String>,
    found: impl ToString,
) -> CategoryError {
    CategoryError::Invalid {
        field: field.into(),
        expected: expected.into(),
        found: found.to_string(),
    }
}

/// Error of the files of a catalogue.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The system refused.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        operation: &'static str,
        /// File concerned.
        path: PathBuf,
        /// Reason given by the system.
        source: io::Error,
    },
    /// The directory holds no catalogue.
    #[error("{}: there are no categories: {} is missing", dir.display(), file)]
    Missing {
        /// The run directory.
        dir: PathBuf,
        /// The file that is missing.
        file: &'static str,
    },
    /// The directory holds a catalogue already.
    #[error("{} exists already; nothing was changed", path.display())]
    Exists {
        /// The log.
        path: PathBuf,
    },
    /// Another process may write.
    #[error("{} is locked by {holder}", dir.display())]
    Locked {
        /// The run directory.
        dir: PathBuf,
        /// Program and process number, as far as known.
        holder: String,
    },
    /// A file that is not the JSON it should be.
    #[error("{}:{line}:{column}: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: usize,
        /// What the parser says.
        problem: String,
    },
    /// Another format, or a newer one.
    #[error("{}: schema: expected `{expected}`, found `{found}`", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The schema this version reads.
        expected: &'static str,
        /// The schema found.
        found: String,
    },
    /// A catalogue that breaks a rule.
    #[error("{}: {source}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The rule.
        source: CategoryError,
    },
    /// A line of the log that cannot follow the lines before it.
    #[error("{}:{line}: {problem}", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The log lost lines.
    #[error("{} stands at revision {catalogue}, but its log ends at {log}", path.display())]
    Ahead {
        /// `categories.json`.
        path: PathBuf,
        /// Its revision.
        catalogue: u64,
        /// The last revision of the log.
        log: u64,
    },
    /// `categories.json` was changed by something else.
    #[error("{} is not what its log gives at revision {revision}", path.display())]
    Diverged {
        /// `categories.json`.
        path: PathBuf,
        /// Its revision.
        revision: u64,
    },
    /// The edit is safe in the log, but `categories.json` still shows the catalogue before it.
    #[error("revision {revision} is in the log, but {} could not be replaced: {source}; the next edit or opening the run again does it", path.display())]
    Unpublished {
        /// `categories.json`.
        path: PathBuf,
        /// The new revision.
        revision: u64,
        /// Reason given by the system.
        source: io::Error,
    },
    /// An earlier failure left the log in an unknown state.
    #[error("{}: a line could neither be written ({problem}) nor taken back", path.display())]
    Poisoned {
        /// The log.
        path: PathBuf,
        /// Reason given by the system.
        problem: String,
    },
    /// An edit that cannot be made.
    #[error(transparent)]
    Edit(#[from] CategoryError),
    /// One of several edits that cannot be made.
    #[error("edit {number}: {source}")]
    EditAt {
        /// Which, from 1.
        number: usize,
        /// Why.
        source: CategoryError,
    },
}

impl StoreError {
    /// Whether the system let nothing be written: a file system that is mounted for reading, or the
    /// rights of the user. [`Store::read`](crate::Store::read) may still work.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        let refused = [
            io::ErrorKind::ReadOnlyFilesystem,
            io::ErrorKind::PermissionDenied,
        ];
        matches!(self, Self::File { source, .. } if refused.contains(&source.kind()))
    }

    /// An error of the JSON parser; `line` of a file in which every line is a document.
    pub(crate) fn json(path: &Path, line: Option<u64>, error: &serde_json::Error) -> Self {
        let problem = error.to_string();
        // The parser ends its message with the place, which for lines is that within the line.
        let place = format!(" at line {} column {}", error.line(), error.column());
        Self::Json {
            path: path.to_owned(),
            line: line.unwrap_or(error.line() as u64),
            column: error.column(),
            problem: problem.strip_suffix(&place).unwrap_or(&problem).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_told_from_what_is_broken() {
        let file = |kind: io::ErrorKind| StoreError::File {
            operation: "open",
            path: PathBuf::from("categories.lock"),
            source: kind.into(),
        };
        assert!(file(io::ErrorKind::ReadOnlyFilesystem).is_read_only());
        assert!(file(io::ErrorKind::PermissionDenied).is_read_only());
        assert!(!file(io::ErrorKind::NotFound).is_read_only());
        assert!(!file(io::ErrorKind::StorageFull).is_read_only());
    }
}
