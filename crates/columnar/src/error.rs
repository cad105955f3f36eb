//! Why columns could not be read or written.

use std::io;
use std::path::PathBuf;

use arrow::error::ArrowError;
use parquet::errors::ParquetError;
use thiserror::Error;

/// Error of this crate. `origin` is the file, or what the caller called the stream; rows count from 0
/// over the whole file or stream.
#[derive(Debug, Error)]
pub enum ColumnarError {
    /// A file that cannot be opened or read.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Reason given by the system.
        source: io::Error,
    },
    /// Bytes that are neither Parquet nor Arrow.
    #[error("{origin}: expected a Parquet file or Arrow IPC data, found a start of {found}")]
    Magic {
        /// File or stream.
        origin: String,
        /// The first bytes.
        found: String,
    },
    /// A file or stream that breaks its format, or uses a part of it that is not supported.
    #[error("{origin}: {problem}")]
    Broken {
        /// File or stream.
        origin: String,
        /// What the format's library says.
        problem: String,
    },
    /// A column that is not there.
    #[error("{origin}: no column `{column}`; there are: {found}")]
    MissingColumn {
        /// File or stream.
        origin: String,
        /// The name asked for.
        column: String,
        /// The names there are, separated by commas.
        found: String,
    },
    /// A column of something else than text.
    #[error("{origin}: column `{column}`: expected text, found {found}")]
    NotText {
        /// File or stream.
        origin: String,
        /// Name of the column.
        column: String,
        /// Its Arrow type.
        found: String,
    },
    /// A missing value where a text is needed.
    #[error("{origin}: column `{column}`, row {row} (the first is 0): expected text, found null")]
    Null {
        /// File or stream.
        origin: String,
        /// Name of the column.
        column: String,
        /// Row in the file or stream.
        row: u64,
    },
    /// Two columns of one name.
    #[error("two columns of the name `{column}`: rename the one in the input")]
    Clash {
        /// The name.
        column: String,
    },
    /// Columns that do not fit together.
    #[error("column `{column}`: expected {expected} rows, found {found}")]
    Length {
        /// Name of the column.
        column: String,
        /// Rows of the other columns.
        expected: usize,
        /// Values in this one.
        found: usize,
    },
    /// A table whose columns are not those that the output began with.
    #[error("the columns changed: expected {expected}, found {found}")]
    Schema {
        /// Columns at the start.
        expected: String,
        /// Columns of this table.
        found: String,
    },
    /// The output could not be written.
    #[error("cannot write: {0}")]
    Write(#[source] io::Error),
    /// The format has no way to hold the table.
    #[error("cannot write the table: {0}")]
    Encode(String),
}

impl ColumnarError {
    pub(crate) fn broken(origin: &str, error: impl ToString) -> Self {
        Self::Broken {
            origin: origin.to_owned(),
            problem: error.to_string(),
        }
    }

    /// For errors of a writer: those of the system stay what they are, so that a closed pipe can be
    /// told from a table that does not fit.
    pub(crate) fn write_arrow(error: ArrowError) -> Self {
        match error {
            ArrowError::IoError(_, source) => Self::Write(source),
            other => Self::Encode(other.to_string()),
        }
    }

    /// As [`write_arrow`](Self::write_arrow).
    pub(crate) fn write_parquet(error: ParquetError) -> Self {
        match error {
            ParquetError::External(source) => match source.downcast::<io::Error>() {
                Ok(source) => Self::Write(*source),
                Err(source) => Self::Encode(source.to_string()),
            },
            other => Self::Encode(other.to_string()),
        }
    }
}
