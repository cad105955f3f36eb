//! Forms of input and output, by name or by the ending of a file.

use std::path::Path;

use columnar::Format;

use crate::error::CliError;

/// How rows come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum InForm {
    /// One text a line.
    Txt,
    /// Fields between tabs without quoting, the first line names them.
    Tsv,
    /// Fields between commas with quoting, the first record names them.
    Csv,
    /// A JSON object a line.
    Jsonl,
    /// A Parquet file.
    Parquet,
    /// An Arrow IPC file or stream.
    Arrow,
}

/// How answers go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OutForm {
    /// The short rows for people.
    Plain,
    /// All fields between tabs, the first line names them.
    Tsv,
    /// A JSON object a line.
    Jsonl,
    /// A Parquet file.
    Parquet,
    /// An Arrow IPC stream.
    Arrow,
}

/// The ending of a file name in lower case.
fn ending(path: &Path) -> String {
    path.extension()
        .map(|ending| ending.to_string_lossy().to_lowercase())
        .unwrap_or_default()
}

impl InForm {
    /// The form of `--in`.
    pub(crate) fn of(path: &Path) -> Result<Self, CliError> {
        if path == Path::new("-") {
            return Ok(Self::Txt);
        }
        match ending(path).as_str() {
            "txt" => Ok(Self::Txt),
            "tsv" => Ok(Self::Tsv),
            "csv" => Ok(Self::Csv),
            "jsonl" | "ndjson" => Ok(Self::Jsonl),
            "parquet" => Ok(Self::Parquet),
            "arrow" | "arrows" | "feather" | "ipc" => Ok(Self::Arrow),
            _ => Err(CliError::Option {
                option: "--in",
                problem: format!(
                    "{}: the name does not say what the file holds: expected .txt, .tsv, .csv, \
                     .jsonl, .parquet or .arrow, or --in-format",
                    path.display()
                ),
            }),
        }
    }
}

impl OutForm {
    /// The form of `--out`.
    pub(crate) fn of(path: &Path) -> Result<Self, CliError> {
        match ending(path).as_str() {
            "tsv" => Ok(Self::Tsv),
            "jsonl" | "ndjson" => Ok(Self::Jsonl),
            "parquet" => Ok(Self::Parquet),
            "arrow" | "arrows" => Ok(Self::Arrow),
            _ => Err(CliError::Option {
                option: "--out",
                problem: format!(
                    "{}: the name does not say what to write: expected .tsv, .jsonl, .parquet or \
                     .arrow, or --format",
                    path.display()
                ),
            }),
        }
    }

    /// Ending of the files of parts.
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Self::Plain => "txt",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }

    /// The columnar format, if it is one.
    pub(crate) fn columnar(self) -> Option<Format> {
        match self {
            Self::Parquet => Some(Format::Parquet),
            Self::Arrow => Some(Format::Arrow),
            Self::Plain | Self::Tsv | Self::Jsonl => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_say_what_files_hold() {
        for (name, form) in [
            ("-", InForm::Txt),
            ("a.b/x.TXT", InForm::Txt),
            ("x.csv", InForm::Csv),
            ("x.ndjson", InForm::Jsonl),
            ("x.tsv.parquet", InForm::Parquet),
            ("x.feather", InForm::Arrow),
        ] {
            assert_eq!(InForm::of(Path::new(name)).unwrap(), form);
        }
        for name in ["x", "x.gz", ".csv", "x.xlsx"] {
            let error = InForm::of(Path::new(name)).unwrap_err().to_string();
            assert!(error.contains("or --in-format"), "{error}");
        }
        assert_eq!(OutForm::of(Path::new("y.jsonl")).unwrap(), OutForm::Jsonl);
        for name in ["y", "y.csv", "y.txt"] {
            let error = OutForm::of(Path::new(name)).unwrap_err().to_string();
            assert!(error.contains("or --format"), "{error}");
        }
    }
}
