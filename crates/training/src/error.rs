//! The error of this crate: which operation, what was expected, what was found.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::guard::Fault;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error of an experiment, as handed through by the runner.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// File operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileOperation {
    /// Creating a directory.
    CreateDir,
    /// Writing a file.
    Write,
    /// Reading a file or its size.
    Read,
    /// Listing a directory.
    List,
    /// Flushing a file or directory to the disk.
    Sync,
    /// Renaming.
    Rename,
    /// Removing.
    Remove,
    /// Opening a file to be continued after a given length.
    Append,
    /// Taking the lock of a run directory.
    Lock,
}

impl fmt::Display for FileOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CreateDir => "create the directory",
            Self::Write => "write",
            Self::Read => "read",
            Self::List => "list",
            Self::Sync => "flush",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::Append => "continue",
            Self::Lock => "lock",
        })
    }
}

/// Why a directory is not a usable checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointDefect {
    /// `manifest.json` is absent: the write was interrupted or the file was removed.
    #[error("manifest.json is missing")]
    NoManifest,
    /// `manifest.json` does not parse.
    #[error("manifest.json is not valid: {reason}")]
    BadManifest {
        /// Message of the parser.
        reason: String,
    },
    /// Another format.
    #[error("manifest.json: field `schema`: expected `{expected}`, found `{found}`")]
    Schema {
        /// The schema this version reads.
        expected: String,
        /// The schema found.
        found: String,
    },
    /// Directory name and manifest disagree.
    #[error("manifest.json: field `step`: expected {expected} (directory name), found {found}")]
    Step {
        /// Step in the directory name.
        expected: u64,
        /// Step in the manifest.
        found: u64,
    },
    /// A listed name is not a plain file name.
    #[error("manifest.json: field `files`: `{name}` is not a plain file name")]
    FileName {
        /// The offending name.
        name: String,
    },
    /// A listed file is absent.
    #[error("{name} is listed in the manifest but missing")]
    MissingFile {
        /// File name.
        name: String,
    },
    /// A file is shorter or longer than recorded.
    #[error("{name}: expected {expected} bytes, found {found}")]
    Size {
        /// File name.
        name: String,
        /// Bytes in the manifest.
        expected: u64,
        /// Bytes on disk.
        found: u64,
    },
    /// The contents changed.
    #[error("{name}: expected SHA-256 {expected}, found {found}")]
    Hash {
        /// File name.
        name: String,
        /// Hash in the manifest.
        expected: String,
        /// Hash of the bytes on disk.
        found: String,
    },
}

/// A tensor whose kind or shape is not the one the module has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Parameter path.
    pub name: String,
    /// Kind and shape of the module's parameter, such as `float [2, 3]`.
    pub expected: String,
    /// Kind and shape of the tensor given.
    pub found: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: expected {}, found {}",
            self.name, self.expected, self.found
        )
    }
}

fn join<T: fmt::Display>(items: &[T]) -> String {
    let mut out = String::new();
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        out.push_str(&item.to_string());
    }
    out
}

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed; a full disk arrives here as [`io::ErrorKind::StorageFull`].
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: FileOperation,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// One checkpoint directory is not usable.
    #[error("checkpoint {}: {defect}", path.display())]
    Checkpoint {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        defect: CheckpointDefect,
    },
    /// There are checkpoint directories, but none of them verifies.
    #[error("no usable checkpoint in {}: {count} found, the newest is refused: {newest}", path.display())]
    NoUsableCheckpoint {
        /// The directory holding the checkpoints.
        path: PathBuf,
        /// How many were looked at.
        count: usize,
        /// Why the newest was refused.
        newest: Box<Error>,
    },
    /// A checkpoint lacks a file that its reader needs.
    #[error("checkpoint of step {step}: expected a file `{name}`, found none")]
    CheckpointFile {
        /// Step of the checkpoint.
        step: u64,
        /// Name of the file.
        name: String,
    },
    /// A file name that cannot be stored in a checkpoint.
    #[error("checkpoint: `{name}` is not a plain file name")]
    CheckpointFileName {
        /// The offending name.
        name: String,
    },
    /// Tensors and module do not fit together.
    #[error(
        "{operation}: missing [{}], unexpected [{}], wrong kind or shape [{}]",
        join(missing),
        join(unexpected),
        join(mismatched)
    )]
    Tensors {
        /// What was tried.
        operation: &'static str,
        /// Parameters without a tensor.
        missing: Vec<String>,
        /// Tensors without a parameter.
        unexpected: Vec<String>,
        /// Tensors of another kind or shape.
        mismatched: Vec<Mismatch>,
    },
    /// Bytes that are not a safetensors file.
    #[error("{operation}: {reason}")]
    SafeTensors {
        /// What was tried.
        operation: &'static str,
        /// Message of the safetensors reader.
        reason: String,
    },
    /// An element type outside f32, i64, i32, u8.
    #[error("tensor `{name}`: expected f32, i64, i32 or u8, found {found}")]
    ElementType {
        /// Tensor name.
        name: String,
        /// The type found.
        found: String,
    },
    /// A weight is NaN or infinite and that was not allowed.
    #[error("tensor `{name}`: element {index} is {value}, expected a finite number")]
    NotFiniteTensor {
        /// Tensor name.
        name: String,
        /// Row-major position of the first such element.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// The global gradient norm is NaN or infinite.
    #[error("step {step}: the gradient norm is {norm}, expected a finite number")]
    NotFiniteGradient {
        /// Step index.
        step: u64,
        /// The norm found.
        norm: f64,
    },
    /// The loss is NaN or infinite.
    #[error("step {step}: `{name}` is {value}, expected a finite number")]
    NotFiniteLoss {
        /// Step index.
        step: u64,
        /// Which value of the report.
        name: String,
        /// Its value.
        value: f64,
    },
    /// A number of a step was not finite; everything before the step is saved.
    #[error("step {step}: {fault}")]
    Faulty {
        /// Step index.
        step: u64,
        /// Which number, and the rows of the batch.
        fault: Box<Fault>,
    },
    /// A setting outside its range.
    #[error("{operation}: `{field}`: expected {expected}, found {found}")]
    Setting {
        /// Where it is used.
        operation: &'static str,
        /// Name of the setting.
        field: String,
        /// The range.
        expected: String,
        /// The value.
        found: String,
    },
    /// The directory holds something that is not a run of ours.
    #[error("{} is not empty and not a run directory (it holds `{entry}`); nothing was changed", path.display())]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
        /// One of its entries.
        entry: String,
    },
    /// The directory already holds a run.
    #[error("{} already holds a run; resume it or choose another directory", path.display())]
    RunExists {
        /// The directory.
        path: PathBuf,
    },
    /// The directory is not a run directory.
    #[error("{} is not a run directory: {reason}", path.display())]
    NotARun {
        /// The directory.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// Another process works in the run directory.
    #[error("{} is in use by another run ({holder})", path.display())]
    Locked {
        /// The run directory.
        path: PathBuf,
        /// Program and process number, as far as known.
        holder: String,
    },
    /// The metrics file is shorter than the checkpoint says.
    #[error("{}: expected at least {expected} complete lines, found {found}", path.display())]
    MetricsTooShort {
        /// `metrics.jsonl`.
        path: PathBuf,
        /// Lines recorded in the checkpoint.
        expected: u64,
        /// Complete lines in the file.
        found: u64,
    },
    /// The event file is shorter than the checkpoint says.
    #[error("{}: expected at least {expected} bytes, found {found}", path.display())]
    EventsTooShort {
        /// The event file.
        path: PathBuf,
        /// Bytes recorded in the checkpoint.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// A value could not be turned into JSON, or JSON into a value.
    #[error("{operation}: {source}")]
    Json {
        /// What was tried.
        operation: &'static str,
        /// Message of the JSON library.
        source: serde_json::Error,
    },
    /// The signal handlers could not be installed.
    #[error("cannot install the handler of {signal}: {source}")]
    Signal {
        /// Name of the signal.
        signal: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start the thread to {purpose}: {source}")]
    Thread {
        /// What it is for.
        purpose: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// An experiment failed.
    #[error("step {step}: {source}")]
    Step {
        /// Step index.
        step: u64,
        /// The experiment's own error.
        source: BoxError,
    },
}

impl Error {
    /// Whether the cause is a full disk or quota.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::File { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// Wraps an [`io::Error`] with operation and path.
pub(crate) fn file_error(
    operation: FileOperation,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::File {
        operation,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_operation_expected_and_found() {
        let error = Error::Tensors {
            operation: "load the encoder",
            missing: vec!["a".into(), "b".into()],
            unexpected: vec![],
            mismatched: vec![Mismatch {
                name: "w".into(),
                expected: "float [2]".into(),
                found: "float [3]".into(),
            }],
        };
        assert_eq!(
            error.to_string(),
            "load the encoder: missing [a, b], unexpected [], wrong kind or shape [w: expected float [2], found float [3]]"
        );
    }

    #[test]
    fn disk_full_is_recognised() {
        let full =
            file_error(FileOperation::Write, "x")(io::Error::from(io::ErrorKind::StorageFull));
        assert!(full.is_disk_full());
        let other = file_error(FileOperation::Write, "x")(io::Error::from(io::ErrorKind::NotFound));
        assert!(!other.is_disk_full());
    }

    #[test]
    fn errors_cross_threads() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Error>();
    }
}
