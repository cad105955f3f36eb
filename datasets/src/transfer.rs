//! The seven transfer tasks of SentEval: classify a frozen embedding.
//!
//! | task | files | a row is | splits | classes |
//! |---|---|---|---|---|
//! | MR, CR, SUBJ, MPQA | `mr.tsv`, `cr.tsv`, `subj.tsv`, `mpqa.tsv` | `label text` | none: nested folds | 0, 1 |
//! | SST2 | `sst2_train.tsv`, `sst2_dev.tsv`, `sst2_test.tsv` | `label text` | train, dev, test | 0, 1 |
//! | TREC | `trec_train.tsv`, `trec_test.tsv` | `label text` | train, test | ABBR DESC ENTY HUM LOC NUM |
//! | MRPC | `mrpc_train.tsv`, `mrpc_test.tsv` | `label sentence1 sentence2` | train, test | 0, 1 |
//!
//! Tab-separated with a header and without quoting, perhaps with `.gz`. Runs of white space become
//! one space, as in SentEval. The order of the rows is kept: folds depend on it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::DatasetError;
use crate::records::{Layout, RowTally, bad_label, column, for_each_record};
use crate::report::RowsReport;
use crate::table::{Limits, TextFile, header_error, tidy};

/// A transfer task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TransferName {
    /// Film reviews: positive or negative.
    Mr,
    /// Product reviews: positive or negative.
    Cr,
    /// Subjective or objective.
    Subj,
    /// Polarity of an opinion.
    Mpqa,
    /// Stanford sentiment treebank, two classes.
    Sst2,
    /// Kind of question.
    Trec,
    /// Whether two sentences are paraphrases.
    Mrpc,
}

/// What a row of a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferKind {
    /// One text.
    Single,
    /// Two texts.
    Pair,
}

/// Which splits a task comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferSplits {
    /// One file; tested by nested cross-validation.
    Folds,
    /// Training and test file; options are chosen by cross-validation on the former.
    TrainTest,
    /// Training, development and test file.
    TrainDevTest,
}

impl TransferName {
    /// All tasks in the order of published tables.
    pub const ALL: [Self; 7] = [
        Self::Mr,
        Self::Cr,
        Self::Subj,
        Self::Mpqa,
        Self::Sst2,
        Self::Trec,
        Self::Mrpc,
    ];

    /// Name in result files: `MR`, `CR`, `SUBJ`, `MPQA`, `SST2`, `TREC`, `MRPC`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mr => "MR",
            Self::Cr => "CR",
            Self::Subj => "SUBJ",
            Self::Mpqa => "MPQA",
            Self::Sst2 => "SST2",
            Self::Trec => "TREC",
            Self::Mrpc => "MRPC",
        }
    }

    /// One text or two.
    pub fn kind(self) -> TransferKind {
        match self {
            Self::Mrpc => TransferKind::Pair,
            _ => TransferKind::Single,
        }
    }

    /// The splits it comes with.
    pub fn splits(self) -> TransferSplits {
        match self {
            Self::Sst2 => TransferSplits::TrainDevTest,
            Self::Trec | Self::Mrpc => TransferSplits::TrainTest,
            _ => TransferSplits::Folds,
        }
    }

    /// Class names; a class id is an index.
    pub fn classes(self) -> &'static [&'static str] {
        match self {
            Self::Trec => &["ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"],
            _ => &["0", "1"],
        }
    }

    /// Names of its files without ending, beside the split each holds.
    fn files(self) -> Vec<(&'static str, String)> {
        let name = self.name().to_lowercase();
        let splits: &[&'static str] = match self.splits() {
            TransferSplits::Folds => return vec![("all", name)],
            TransferSplits::TrainTest => &["train", "test"],
            TransferSplits::TrainDevTest => &["train", "dev", "test"],
        };
        splits
            .iter()
            .map(|split| (*split, format!("{name}_{split}")))
            .collect()
    }
}

/// Rows of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransferRows {
    /// Texts, `[rows]`.
    pub texts: Vec<String>,
    /// Second texts, `[rows]`, for pairs.
    pub second: Option<Vec<String>>,
    /// Class ids, `[rows]`.
    pub labels: Vec<usize>,
}

impl TransferRows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

/// The rows of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferData {
    /// [`TransferSplits::Folds`].
    Folds(TransferRows),
    /// [`TransferSplits::TrainTest`] and [`TransferSplits::TrainDevTest`].
    Fixed {
        /// For fitting.
        train: TransferRows,
        /// For choosing options, if the task has it.
        dev: Option<TransferRows>,
        /// For reporting.
        test: TransferRows,
    },
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferTask {
    /// Which one.
    pub name: TransferName,
    /// Its rows.
    pub data: TransferData,
    /// What the loader saw, one entry a file: all, or train, dev (if there is one), test.
    pub reports: Vec<RowsReport>,
}

impl TransferTask {
    /// Its parts by name: `all`, or `train`, `dev` (if there is one) and `test`.
    pub fn parts(&self) -> Vec<(&'static str, &TransferRows)> {
        match &self.data {
            TransferData::Folds(rows) => vec![("all", rows)],
            TransferData::Fixed { train, dev, test } => {
                let dev = dev.as_ref().map(|rows| ("dev", rows));
                [Some(("train", train)), dev, Some(("test", test))]
                    .into_iter()
                    .flatten()
                    .collect()
            }
        }
    }
}

/// Loads every transfer task that a folder has, in the order of [`TransferName::ALL`]. A task of which
/// only some files are there is an error.
///
/// # Errors
/// [`DatasetError::MissingTask`] if there is none; else as [`load_transfer_task`].
///
/// ```
/// use datasets::{TransferName, load_transfer_dir};
///
/// let dir = tempfile::tempdir()?;
/// std::fs::write(dir.path().join("cr.tsv"), "label\ttext\n1\tgood\n0\tbad\n")?;
/// let tasks = load_transfer_dir(dir.path(), Default::default())?;
/// assert_eq!(tasks[0].name, TransferName::Cr);
/// assert_eq!(tasks[0].parts()[0].1.labels, [1, 0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load_transfer_dir(dir: &Path, limits: Limits) -> Result<Vec<TransferTask>, DatasetError> {
    let names = transfer_names(dir);
    if names.is_empty() {
        return Err(DatasetError::MissingTask {
            dir: dir.to_owned(),
            task: "any transfer task".to_owned(),
            looked_for: "mr.tsv, cr.tsv, subj.tsv, mpqa.tsv, sst2_*.tsv, trec_*.tsv, mrpc_*.tsv"
                .to_owned(),
        });
    }
    names
        .into_iter()
        .map(|name| load_transfer_task(dir, name, limits))
        .collect()
}

/// The tasks of which a folder has any file, in the order of [`TransferName::ALL`].
pub fn transfer_names(dir: &Path) -> Vec<TransferName> {
    let has = |name: &TransferName| {
        let mut files = name.files().into_iter();
        files.any(|(_, stem)| !candidates(dir, &stem).is_empty())
    };
    TransferName::ALL.into_iter().filter(has).collect()
}

/// Loads one task from a folder.
///
/// # Errors
/// [`DatasetError`]: a file that is missing or there twice, a wrong header or number of columns, an
/// empty text, an unknown label.
pub fn load_transfer_task(
    dir: &Path,
    name: TransferName,
    limits: Limits,
) -> Result<TransferTask, DatasetError> {
    let mut reports = Vec::new();
    let mut parts = Vec::new();
    for (split, stem) in name.files() {
        let path = match &candidates(dir, &stem)[..] {
            [path] => path.clone(),
            [] => {
                return Err(DatasetError::MissingTask {
                    dir: dir.to_owned(),
                    task: name.name().to_owned(),
                    looked_for: format!("{stem}.tsv, {stem}.tsv.gz"),
                });
            }
            _ => {
                return Err(DatasetError::AmbiguousSplit {
                    dir: dir.to_owned(),
                    split,
                    found: format!("{stem}.tsv, {stem}.tsv.gz"),
                });
            }
        };
        let (rows, report) = read(&path, name, limits)?;
        reports.push(report);
        parts.push((split, rows));
    }
    let mut take = |split: &str| {
        let at = parts.iter().position(|(name, _)| *name == split)?;
        Some(parts.swap_remove(at).1)
    };
    let data = match name.splits() {
        TransferSplits::Folds => TransferData::Folds(take("all").unwrap_or_default()),
        TransferSplits::TrainTest | TransferSplits::TrainDevTest => TransferData::Fixed {
            train: take("train").unwrap_or_default(),
            dev: take("dev"),
            test: take("test").unwrap_or_default(),
        },
    };
    Ok(TransferTask {
        name,
        data,
        reports,
    })
}

fn candidates(dir: &Path, stem: &str) -> Vec<PathBuf> {
    ["tsv", "tsv.gz"]
        .map(|ending| dir.join(format!("{stem}.{ending}")))
        .into_iter()
        .filter(|path| path.is_file())
        .collect()
}

fn read(
    path: &Path,
    name: TransferName,
    limits: Limits,
) -> Result<(TransferRows, RowsReport), DatasetError> {
    let file = TextFile::read(path, limits)?;
    let pair = name.kind() == TransferKind::Pair;
    let mut tally = RowTally::default();
    let mut rows = TransferRows {
        second: pair.then(Vec::new),
        ..TransferRows::default()
    };
    let header = |names: &[String]| {
        let find = |name: &str| {
            column(names, &[name]).ok_or_else(|| {
                let expected = if pair {
                    "label sentence1 sentence2"
                } else {
                    "label text"
                };
                header_error(&file, expected, &names.join(" "))
            })
        };
        let (first, second) = if pair {
            (find("sentence1")?, Some(find("sentence2")?))
        } else {
            (find("text")?, None)
        };
        Ok((find("label")?, first, second))
    };
    let layout = Layout::Tabs { header: true };
    let scan = for_each_record(&file, layout, limits, header, |columns, record| {
        let (label, first, second) = *columns;
        let written = record.value(label)?.unwrap_or_default();
        // TREC as published has finer labels behind a colon.
        let coarse = written.split(':').next().unwrap_or_default();
        let class = name.classes().iter().position(|class| *class == coarse);
        let Some(class) = class else {
            let expected = name.classes().join(", ");
            return Err(bad_label(path, record.line, written, &expected));
        };
        let text = tidy(record.required_text(first)?);
        match (second, rows.second.as_mut()) {
            (Some(second), Some(texts)) => {
                let other = tidy(record.required_text(second)?);
                tally.keep(&[&text, &other], coarse);
                texts.push(other);
            }
            _ => tally.keep(&[&text], coarse),
        }
        rows.texts.push(text);
        rows.labels.push(class);
        Ok(())
    })?;
    Ok((rows, tally.finish(file, scan)?))
}
