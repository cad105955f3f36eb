//! Training texts of contrastive learning: sentences, pairs, triplets, in SimCSE's file formats.
//!
//! | file | columns |
//! |---|---|
//! | `.txt` | one sentence a line, no header |
//! | `.csv` | header, commas, CSV quoting; tabs if the file name contains `tsv` |
//! | `.tsv` | header, tabs, no quoting: `"` is an ordinary character |
//! | `.jsonl`, `.json` | one object a line, or a list of objects |
//!
//! Each may be gzip-compressed (`.gz` appended). Columns count by position, their names mean nothing:
//! one column gives the pair (x, x), two give (anchor, positive), three give (anchor, positive, hard
//! negative). A missing value (empty, `null`, absent) becomes a single space, as in the released
//! SimCSE code. Blank lines are no rows; they are counted. Texts stay as they are written.

use std::path::Path;

use crate::error::DatasetError;
use crate::records::{Layout, RowTally, for_each_record};
use crate::report::RowsReport;
use crate::table::{Limits, TextFile};

/// What stands for a missing value.
const MISSING: &str = " ";

/// The note on rows with a missing value.
pub const MISSING_NOTE: &str = "rows with a missing text, read as one space";

/// How many texts a row must have at least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowNeed {
    /// One; a row of one text is paired with itself.
    #[default]
    Sentences,
    /// Two: a positive beside the anchor.
    Pairs,
    /// Three: also a hard negative.
    Triplets,
}

impl RowNeed {
    fn columns(self) -> usize {
        match self {
            Self::Sentences => 1,
            Self::Pairs => 2,
            Self::Triplets => 3,
        }
    }
}

/// How to read a file of training texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SentenceOptions {
    /// What a row must have at least.
    pub need: RowNeed,
    /// Memory limits.
    pub limits: Limits,
}

/// Training texts in file order.
#[derive(Debug, Clone, PartialEq)]
pub struct SentenceRows {
    columns: Vec<Vec<String>>,
    /// What the loader saw.
    pub report: RowsReport,
}

impl SentenceRows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    /// Whether there are no rows (never, for a file that loaded).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Columns of the file, `[1..=3]` of `[rows]`.
    pub fn columns(&self) -> &[Vec<String>] {
        &self.columns
    }

    /// Texts of a row as training uses them: 2 or 3; `None` beyond the last row.
    ///
    /// ```
    /// let dir = tempfile::tempdir()?;
    /// let path = dir.path().join("train.txt");
    /// std::fs::write(&path, "one sentence\nanother one\n")?;
    /// let rows = datasets::load_sentences(&path, &datasets::SentenceOptions::default())?;
    /// assert_eq!(rows.texts(1), Some(vec!["another one", "another one"]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn texts(&self, row: usize) -> Option<Vec<&str>> {
        let mut texts = self
            .columns
            .iter()
            .map(|column| column.get(row).map(String::as_str))
            .collect::<Option<Vec<_>>>()?;
        if let [only] = texts[..] {
            texts.push(only);
        }
        Some(texts)
    }

    /// Leaves out the rows for which `keep` is false, given the texts of the file's columns; the
    /// report keeps describing the file. Gives the number of rows removed.
    pub fn retain(&mut self, mut keep: impl FnMut(&[&str]) -> bool) -> usize {
        let before = self.len();
        let kept: Vec<bool> = (0..before)
            .map(|row| {
                let texts: Vec<&str> = self
                    .columns
                    .iter()
                    .filter_map(|column| column.get(row).map(String::as_str))
                    .collect();
                keep(&texts)
            })
            .collect();
        for column in &mut self.columns {
            let mut flags = kept.iter();
            column.retain(|_| flags.next().copied().unwrap_or(false));
        }
        before - self.len()
    }
}

/// Loads a file of training texts.
///
/// # Errors
/// [`DatasetError`]: a file that cannot be read or is not UTF-8 text, more than three columns, a
/// ragged row, fewer columns than [`SentenceOptions::need`] asks for.
///
/// ```
/// use datasets::{RowNeed, SentenceOptions, load_sentences};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("nli.csv");
/// std::fs::write(&path, "sent0,sent1,hard_neg\na man,\"a person, male\",a dog\n")?;
/// let options = SentenceOptions { need: RowNeed::Triplets, ..Default::default() };
/// let rows = load_sentences(&path, &options)?;
/// assert_eq!(rows.texts(0), Some(vec!["a man", "a person, male", "a dog"]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load_sentences(
    path: &Path,
    options: &SentenceOptions,
) -> Result<SentenceRows, DatasetError> {
    let layout = Layout::of(path)?;
    let file = TextFile::read(path, options.limits)?;
    let mut columns: Vec<Vec<String>> = Vec::new();
    let mut tally = RowTally::default();
    let header = |names: &[String]| {
        let found = if layout == Layout::Lines {
            1
        } else {
            names.len()
        };
        check_width(path, found, options.need)
    };
    let scan = for_each_record(&file, layout, options.limits, header, |(), record| {
        columns.resize(record.cells.len(), Vec::new());
        let mut texts = Vec::with_capacity(columns.len());
        let mut missing = false;
        for column in 0..columns.len() {
            let text = record.text(column)?;
            missing |= text.is_none();
            texts.push(text.unwrap_or(MISSING));
        }
        if missing {
            tally.note(MISSING_NOTE, false, record.line);
        }
        tally.keep(&texts, "");
        for (column, text) in columns.iter_mut().zip(texts) {
            column.push(text.to_owned());
        }
        Ok(())
    })?;
    Ok(SentenceRows {
        columns,
        report: tally.finish(file, scan)?,
    })
}

fn check_width(path: &Path, found: usize, need: RowNeed) -> Result<(), DatasetError> {
    if found > 3 || found == 0 {
        return Err(DatasetError::ColumnCount {
            path: path.to_owned(),
            line: 1,
            found,
            expected: "1 (sentence), 2 (anchor, positive) or 3 (anchor, positive, hard negative)",
        });
    }
    if found < need.columns() {
        let (pairs, triplets) = (
            "pairs (anchor, positive)",
            "triplets (anchor, positive, hard negative)",
        );
        let needed = if need == RowNeed::Triplets {
            triplets
        } else {
            pairs
        };
        return Err(if found == 1 {
            DatasetError::PairsNeeded {
                path: path.to_owned(),
                line: 1,
                found,
                needed,
            }
        } else {
            DatasetError::ColumnCount {
                path: path.to_owned(),
                line: 1,
                found,
                expected: triplets,
            }
        });
    }
    Ok(())
}
