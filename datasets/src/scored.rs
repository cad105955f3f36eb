//! Training pairs with a similarity score: the second stage of regression STS.
//!
//! `.tsv` and `.txt` (tabs, header, no quoting), `.csv`, `.jsonl` and `.json`, each also with `.gz`.
//! Columns are found by name: `score`, `gold_label` or `label`; `sentence1`, `text1`, `premise` or
//! `sent0`; `sentence2`, `text2`, `hypothesis` or `sent1`. Every pair needs a score within the range;
//! anything else is an error with file and line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::DatasetError;
use crate::records::{Layout, PartFilter, RowTally, column, for_each_record, split_of};
use crate::report::RowsReport;
use crate::sts::ScoredPair;
use crate::table::{Limits, TextFile, header_error};

/// How a score becomes a training label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelQuantize {
    /// Towards zero, as the released regression STS code does: 3.8 becomes 3.
    #[default]
    Truncate,
    /// To the nearest integer, halves to the even one (as Python's `round`).
    Round,
    /// As it is.
    None,
}

impl LabelQuantize {
    /// The label of a score.
    pub fn apply(self, score: f64) -> f64 {
        match self {
            Self::Truncate => score.trunc(),
            Self::Round => score.round_ties_even(),
            Self::None => score,
        }
    }
}

/// How to read scored pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredOptions {
    /// What becomes of the scores.
    pub quantize: LabelQuantize,
    /// Smallest and largest score allowed, before quantization. SICK goes from 1 to 5.
    pub range: (f64, f64),
    /// Only rows whose `split` column has this value.
    pub split: Option<String>,
    /// Memory limits.
    pub limits: Limits,
}

impl Default for ScoredOptions {
    fn default() -> Self {
        Self {
            quantize: LabelQuantize::default(),
            range: (0.0, 5.0),
            split: None,
            limits: Limits::default(),
        }
    }
}

/// Scored pairs of one or several files, in the order given.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredRows {
    /// The pairs, with quantized scores.
    pub pairs: Vec<ScoredPair>,
    /// What the loader saw, one entry a file.
    pub reports: Vec<RowsReport>,
}

/// Loads files of scored pairs one after the other.
///
/// # Errors
/// [`DatasetError`]: an unreadable file, a header without the columns, an empty text, a score that is
/// missing, no number, NaN or out of range, no row of the split asked for.
///
/// ```
/// use datasets::{LabelQuantize, ScoredOptions, load_scored};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("train.jsonl");
/// std::fs::write(&path, "{\"gold_label\": 3.8, \"sentence1\": \"a\", \"sentence2\": \"b\"}\n")?;
/// let rows = load_scored(&[path.clone()], &ScoredOptions::default())?;
/// assert_eq!(rows.pairs[0].score, 3.0);
/// let options = ScoredOptions { quantize: LabelQuantize::Round, ..Default::default() };
/// assert_eq!(load_scored(&[path], &options)?.pairs[0].score, 4.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load_scored(paths: &[PathBuf], options: &ScoredOptions) -> Result<ScoredRows, DatasetError> {
    let mut rows = ScoredRows {
        pairs: Vec::new(),
        reports: Vec::new(),
    };
    for path in paths {
        let layout = Layout::of_table(path)?;
        let file = TextFile::read(path, options.limits)?;
        let mut tally = RowTally::default();
        let mut filter = PartFilter::new(options.split.as_deref());
        let header = |names: &[String]| {
            let find = |accepted: &[&str]| {
                column(names, accepted).ok_or_else(|| {
                    let expected = "columns `score` or `gold_label`, `sentence1`, `sentence2`";
                    header_error(&file, expected, &names.join(" "))
                })
            };
            let columns = [
                find(&["score", "gold_label", "label"])?,
                find(&["sentence1", "text1", "premise", "sent0"])?,
                find(&["sentence2", "text2", "hypothesis", "sent1"])?,
            ];
            Ok((columns, split_of(names)))
        };
        let scan = for_each_record(&file, layout, options.limits, header, |columns, record| {
            let ([score, first, second], split) = *columns;
            if !filter.takes(record, split)? {
                return Ok(());
            }
            let score = record.score(score, options.range)?;
            let pair = ScoredPair {
                first: record.required_text(first)?.to_owned(),
                second: record.required_text(second)?.to_owned(),
                score: options
                    .quantize
                    .apply(score.ok_or_else(|| DatasetError::MissingScore {
                        path: path.clone(),
                        line: record.line,
                    })?),
            };
            tally.keep(&[&pair.first, &pair.second], &pair.score.to_string());
            rows.pairs.push(pair);
            Ok(())
        })?;
        filter.check(path)?;
        rows.reports.push(tally.finish(file, filter.apply(scan))?);
    }
    Ok(rows)
}
