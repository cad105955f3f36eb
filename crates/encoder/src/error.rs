//! Everything that can go wrong between a directory on disk and a matrix of sentence vectors.

use std::path::PathBuf;

use thiserror::Error;

/// Error of this crate.
#[derive(Debug, Error)]
pub enum EncoderError {
    /// A file could not be read or written.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// `read`, `write`, `create`.
        operation: &'static str,
        /// File concerned.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A JSON file does not have the form its name promises.
    #[error("{}: {message}", path.display())]
    Json {
        /// File concerned.
        path: PathBuf,
        /// What was expected and found, with line and column where known.
        message: String,
    },
    /// A configuration value is out of range or not supported.
    #[error("{origin}: {field} = {found}, expected {expected}")]
    Config {
        /// File or caller the value came from.
        origin: String,
        /// Name of the field.
        field: &'static str,
        /// Value found.
        found: String,
        /// What is allowed.
        expected: String,
    },
    /// The tokenizer file was refused by the tokenizer library, or made it panic.
    #[error("{origin}: not a usable tokenizer: {message}")]
    Tokenizer {
        /// File or caller.
        origin: String,
        /// Cause as reported.
        message: String,
    },
    /// A text could not be tokenised.
    #[error("tokenize text {index}: {message}")]
    Tokenize {
        /// Position of the text in the input.
        index: usize,
        /// Cause as reported.
        message: String,
    },
    /// The weight file is not valid safetensors.
    #[error("{}: not a valid safetensors file: {message}", path.display())]
    Safetensors {
        /// File concerned.
        path: PathBuf,
        /// Cause as reported.
        message: String,
    },
    /// Names or shapes of the weights do not fit the configuration.
    #[error("{}: weights do not fit the configuration:{}", path.display(), list(problems))]
    Weights {
        /// File concerned.
        path: PathBuf,
        /// One line per tensor: missing, unexpected, or of another shape.
        problems: Vec<String>,
    },
    /// A weight is NaN or infinite.
    #[error(
        "{}: tensor {name} holds {count} values that are NaN or infinite (pass allow_non_finite to load it all the same)",
        path.display()
    )]
    NonFinite {
        /// File concerned.
        path: PathBuf,
        /// Tensor concerned.
        name: String,
        /// How many.
        count: usize,
    },
    /// A pooling needs weights that the model directory does not hold.
    #[error(
        "pooling {pooling} needs {head}, which the model directory lacks: choose another pooling, or train the head first"
    )]
    MissingHead {
        /// Pooling asked for.
        pooling: String,
        /// Weights or setting it needs.
        head: &'static str,
    },
    /// Shapes or sizes handed to an operation do not fit together.
    #[error("{operation}: expected {expected}, found {found}")]
    Shape {
        /// Operation.
        operation: &'static str,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
}

fn list(problems: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut text: String = problems
        .iter()
        .take(SHOWN)
        .map(|problem| format!("\n  {problem}"))
        .collect();
    if problems.len() > SHOWN {
        text.push_str(&format!("\n  and {} more", problems.len() - SHOWN));
    }
    text
}

impl EncoderError {
    pub(crate) fn io(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}
