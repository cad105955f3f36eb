//! Texts with coarse labels from files of any form.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use datasets::{
    CategoryDataset, LineList, LoadOptions, Split, WantedColumn, load_category_dir,
    load_text_columns,
};

use super::error::DiscoverError;

/// Splits of members.
pub(crate) const TRAIN: &str = "train";
pub(crate) const TEST: &str = "test";

/// Which columns to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// Column of the text.
    pub text: String,
    /// Column of the coarse label.
    pub coarse: String,
    /// Whether a file without it is an error.
    pub coarse_required: bool,
    /// Column of the true fine label.
    pub fine: String,
    /// Whether a file without it is an error.
    pub fine_required: bool,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            text: "text".to_owned(),
            coarse: "coarse".to_owned(),
            coarse_required: false,
            fine: "fine".to_owned(),
            fine_required: false,
        }
    }
}

/// A text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The text, white space tidied.
    pub text: String,
    /// Its coarse label; `None` where the data have none at all.
    pub coarse: Option<String>,
    /// Its true fine label, if known.
    pub fine: Option<String>,
    /// `train`, or `test` for texts that categories are not made of.
    pub split: &'static str,
}

/// What was read of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Rows kept.
    pub kept: usize,
    /// Rows left out because their text is empty.
    pub no_text: LineList,
    /// Rows left out because they have no coarse label where others have one.
    pub no_coarse: LineList,
}

/// Columns of a table as they were read, for [`Texts::add`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Line (or row) of each row in its file; empty: rows count from 1.
    pub lines: Vec<u64>,
    /// Texts.
    pub text: Vec<Option<String>>,
    /// Coarse labels; `None` without such a column.
    pub coarse: Option<Vec<Option<String>>>,
    /// True fine labels; `None` without such a column.
    pub fine: Option<Vec<Option<String>>>,
}

/// All texts of a discovery in input order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// The texts.
    pub rows: Vec<Text>,
    /// What was read.
    pub files: Vec<InputFile>,
    /// Whether there are coarse labels; decided by the first file.
    pub has_coarse: bool,
}

impl Texts {
    /// Reads a `.tsv`, `.csv`, `.jsonl` or `.json` file (`.gz` too), a directory with `train` and
    /// `test`, or the bundled set `pocket`.
    ///
    /// # Errors
    /// A file that cannot be read or lacks a column; coarse labels in some files only.
    pub fn read(&mut self, source: &Path, columns: &Columns) -> Result<(), DiscoverError> {
        if source.as_os_str() == "pocket" {
            return self.dataset(&datasets::pocket()?);
        }
        if source.is_dir() {
            let options = LoadOptions {
                skip_empty_text: true,
                text_column: columns.text.clone(),
                coarse_column: columns.coarse.clone(),
                fine_column: columns.fine.clone(),
                ..LoadOptions::default()
            };
            return self.dataset(&load_category_dir(source, &options)?);
        }
        let wanted = [
            (&columns.text, true),
            (&columns.coarse, columns.coarse_required),
            (&columns.fine, columns.fine_required),
        ]
        .map(|(name, required)| WantedColumn { name, required });
        let mut read = load_text_columns(source, &wanted, datasets::Limits::default())?;
        let fine = read.columns.pop().flatten();
        let coarse = read.columns.pop().flatten();
        let table = Table {
            lines: read.lines,
            text: read.columns.pop().flatten().unwrap_or_default(),
            coarse,
            fine,
        };
        self.add(source, read.sha256, table)
    }

    /// Adds the rows of a table that somebody else has read.
    ///
    /// # Errors
    /// [`DiscoverError::Data`] for coarse labels where earlier files have none, or the other way
    /// round.
    pub fn add(&mut self, path: &Path, sha256: String, table: Table) -> Result<(), DiscoverError> {
        let has_coarse = table.coarse.is_some();
        if !self.files.is_empty() && has_coarse != self.has_coarse {
            let (this, others) = if has_coarse {
                ("coarse labels", "none")
            } else {
                ("no coarse labels", "some")
            };
            return Err(DiscoverError::Data {
                path: path.to_owned(),
                problem: format!("has {this} where the files before have {others}"),
            });
        }
        self.has_coarse = has_coarse;
        let mut file = InputFile {
            path: path.to_owned(),
            sha256,
            kept: 0,
            no_text: LineList::default(),
            no_coarse: LineList::default(),
        };
        let at = |values: &Option<Vec<Option<String>>>, row: usize| {
            let value = values.as_ref()?.get(row)?.as_deref()?;
            Some(tidy(value)).filter(|value| !value.is_empty())
        };
        for (row, text) in table.text.iter().enumerate() {
            let line = table.lines.get(row).copied().unwrap_or(row as u64 + 1);
            let text = tidy(text.as_deref().unwrap_or_default());
            let coarse = at(&table.coarse, row);
            if text.is_empty() {
                file.no_text.push(line);
            } else if has_coarse && coarse.is_none() {
                file.no_coarse.push(line);
            } else {
                file.kept += 1;
                self.rows.push(Text {
                    text,
                    coarse,
                    fine: at(&table.fine, row),
                    split: TRAIN,
                });
            }
        }
        self.files.push(file);
        Ok(())
    }

    fn dataset(&mut self, data: &CategoryDataset) -> Result<(), DiscoverError> {
        let first = data.report.files.first();
        if !self.files.is_empty() && !self.has_coarse {
            return Err(DiscoverError::Data {
                path: first.map(|file| file.path.clone()).unwrap_or_default(),
                problem: "has coarse labels where the files before have none".to_owned(),
            });
        }
        self.has_coarse = true;
        for file in &data.report.files {
            self.files.push(InputFile {
                path: file.path.clone(),
                sha256: file.sha256.clone(),
                kept: match file.split.as_str() {
                    TRAIN => data.train.len(),
                    TEST => data.test.len(),
                    _ => 0,
                },
                no_text: file.empty_text.clone(),
                no_coarse: LineList::default(),
            });
        }
        for (split, rows) in [(TRAIN, &data.train), (TEST, &data.test)] {
            self.rows.extend(texts_of(data, rows, split));
        }
        Ok(())
    }

    /// Coarse labels there are, in byte order.
    pub fn coarse_names(&self) -> Vec<String> {
        let names: BTreeSet<&String> = self
            .rows
            .iter()
            .filter_map(|row| row.coarse.as_ref())
            .collect();
        names.into_iter().cloned().collect()
    }

    /// Rows whose text occurred before with the same coarse label.
    pub fn duplicates(&self) -> usize {
        let different: BTreeSet<_> = self
            .rows
            .iter()
            .map(|row| (&row.text, &row.coarse))
            .collect();
        self.rows.len() - different.len()
    }

    /// What a person should know of the data, line by line.
    pub fn describe(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.files.iter().map(ToString::to_string).collect();
        let repeats = self.duplicates();
        if repeats > 0 {
            lines.push(format!(
                "{repeats} texts repeat an earlier one with the same coarse label"
            ));
        }
        if !self.has_coarse {
            lines.push("no coarse labels: all texts are one class".to_owned());
        }
        lines
    }

    /// An error if nothing was kept.
    ///
    /// # Errors
    /// [`DiscoverError::NoTexts`] that says why.
    pub fn check(&self) -> Result<(), DiscoverError> {
        if self.rows.iter().any(|row| row.split == TRAIN) {
            return Ok(());
        }
        let files: Vec<String> = self.files.iter().map(ToString::to_string).collect();
        Err(DiscoverError::NoTexts {
            problem: if files.is_empty() {
                "no file was given".to_owned()
            } else {
                files.join("; ")
            },
        })
    }
}

fn texts_of<'a>(
    data: &'a CategoryDataset,
    rows: &'a Split,
    split: &'static str,
) -> impl Iterator<Item = Text> + 'a {
    rows.texts.iter().enumerate().map(move |(at, text)| {
        let coarse = rows
            .coarse
            .get(at)
            .and_then(|id| data.coarse_names.get(*id));
        let fine = rows.fine.as_ref().and_then(|fine| fine.get(at));
        let names = data.fine_names.as_ref();
        Text {
            text: tidy(text),
            coarse: coarse.cloned(),
            fine: fine.and_then(|id| names?.get(*id)).cloned(),
            split,
        }
    })
}

/// Runs of white space as one space, ends trimmed.
fn tidy(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl fmt::Display for InputFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} texts", self.path.display(), self.kept)?;
        if self.no_text.count > 0 {
            write!(f, ", without text {}", self.no_text)?;
        }
        if self.no_coarse.count > 0 {
            write!(f, ", without coarse label {}", self.no_coarse)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn read(name: &str, content: &str) -> Result<Texts, DiscoverError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let mut texts = Texts::default();
        texts.read(&path, &Columns::default())?;
        texts.check()?;
        Ok(texts)
    }

    #[test]
    fn rows_without_text_or_coarse_label_are_counted_with_their_lines() {
        let texts = read(
            "a.tsv",
            "coarse\ttext\nx\ta  b\n\tc\nx\t \nx\ta b\ny\tA B\n",
        )
        .unwrap();
        assert_eq!(texts.rows.len(), 3);
        assert_eq!(texts.rows[0].text, "a b");
        assert_eq!(texts.files[0].no_coarse.first, [3]);
        assert_eq!(texts.files[0].no_text.first, [4]);
        assert_eq!(texts.duplicates(), 1);
        assert_eq!(texts.coarse_names(), ["x", "y"]);
        let shown = texts.files[0].to_string();
        assert!(
            shown.ends_with("3 texts, without text 1 (line 4), without coarse label 1 (line 3)"),
            "{shown}"
        );
    }

    #[test]
    fn a_file_without_coarse_column_is_one_class() {
        let texts = read("a.csv", "text,fine\na,f\n").unwrap();
        assert!(!texts.has_coarse && texts.coarse_names().is_empty());
        assert_eq!(texts.rows[0].fine.as_deref(), Some("f"));
    }

    #[test]
    fn nothing_left_is_an_error_that_says_why() {
        let error = read("a.csv", "text,coarse\na,\n").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("without coarse label 1 (line 2)"),
            "{error}"
        );
        assert_eq!(error.exit_code(), 2);
        assert!(
            Texts::default()
                .check()
                .unwrap_err()
                .to_string()
                .contains("no file")
        );
        let error = read("a.csv", "note,coarse\na,b\n").unwrap_err();
        assert!(error.to_string().contains("note, coarse"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn files_with_and_without_coarse_labels_do_not_mix() {
        let mut texts = Texts::default();
        let table = |coarse| Table {
            text: vec![Some("a".to_owned())],
            coarse,
            ..Table::default()
        };
        texts
            .add(Path::new("a"), String::new(), table(None))
            .unwrap();
        let labelled = table(Some(vec![Some("x".to_owned())]));
        let error = texts
            .add(Path::new("b"), String::new(), labelled.clone())
            .unwrap_err();
        assert!(
            error.to_string().contains("files before have none"),
            "{error}"
        );
        assert!(
            texts
                .read(Path::new("pocket"), &Columns::default())
                .is_err()
        );
        texts
            .add(Path::new("c"), String::new(), table(None))
            .unwrap();
        assert_eq!(texts.rows.len(), 2);
    }

    #[test]
    fn the_bundled_set_has_both_splits() {
        let mut texts = Texts::default();
        texts
            .read(Path::new("pocket"), &Columns::default())
            .unwrap();
        let of = |split| texts.rows.iter().filter(|row| row.split == split).count();
        assert_eq!((of(TRAIN), of(TEST)), (2400, 600));
        assert_eq!(texts.coarse_names().len(), 8);
        assert!(texts.rows.iter().all(|row| row.fine.is_some()));
        assert_eq!(texts.files.len(), 2);
    }
}
