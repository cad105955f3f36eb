//! What a loader saw: rows, skipped lines, hashes, duplicates, leakage and warnings.
//!
//! A report prints as a table and serialises with serde (for manifests and result files).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// How many line numbers a [`LineList`] keeps.
pub const FIRST_LINES: usize = 10;

/// The form a file was read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// `text<TAB>coarse[<TAB>fine]`, no quoting.
    TsvPlain,
    /// `text<TAB>label` or `text<TAB>category` with CSV quoting.
    TsvQuoted,
    /// Comma-separated with quoting.
    Csv,
    /// One JSON object a line.
    JsonLines,
    /// One JSON list of objects.
    Json,
    /// One text a line.
    Text,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::TsvPlain => "tsv",
            Self::TsvQuoted => "tsv, quoted",
            Self::Csv => "csv",
            Self::JsonLines => "json lines",
            Self::Json => "json",
            Self::Text => "text",
        })
    }
}

/// A count of lines and the first [`FIRST_LINES`] of their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LineList {
    /// How many.
    pub count: usize,
    /// The first line numbers, ascending, counted from 1 with the header.
    pub first: Vec<u64>,
}

impl LineList {
    /// Adds a line.
    pub fn push(&mut self, line: u64) {
        self.count += 1;
        if self.first.len() < FIRST_LINES {
            self.first.push(line);
        }
    }
}

impl fmt::Display for LineList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.first.iter().map(u64::to_string).collect();
        let more = if self.count > self.first.len() {
            ", ..."
        } else {
            ""
        };
        let word = if self.count == 1 { "line" } else { "lines" };
        write!(f, "{} ({word} {}{more})", self.count, lines.join(", "))
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// `train`, `valid` or `test`.
    pub split: String,
    /// Where it was read from.
    pub path: PathBuf,
    /// How it was read.
    pub form: Form,
    /// Size on disk (compressed if it is).
    pub bytes: u64,
    /// SHA-256 of the bytes on disk.
    pub sha256: String,
    /// Rows of the file, the header and blank lines apart: kept plus skipped.
    pub rows_read: usize,
    /// Rows kept.
    pub rows_kept: usize,
    /// Rows skipped for a wrong number of fields.
    pub ragged: LineList,
    /// Rows skipped for an empty text.
    pub empty_text: LineList,
    /// Rows skipped for a fine label that the training file does not have.
    pub unseen_fine: LineList,
    /// Blank lines.
    pub blank: LineList,
    /// Rows kept whose quoted fields span several lines.
    pub multiline: LineList,
    /// Coarse categories among the rows kept.
    pub n_coarse: usize,
    /// Fine categories among the rows kept, if the file has fine labels.
    pub n_fine: Option<usize>,
    /// Whether a byte order mark was removed.
    pub byte_order_mark: bool,
    /// Whether lines end in CR LF.
    pub crlf: bool,
}

impl FileReport {
    /// Rows skipped for any reason.
    pub fn rows_skipped(&self) -> usize {
        self.ragged.count + self.empty_text.count + self.unseen_fine.count
    }
}

/// Rows that were skipped or repaired, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowNote {
    /// What was done and why, in words.
    pub what: &'static str,
    /// Whether the rows were left out.
    pub skipped: bool,
    /// The rows.
    pub lines: LineList,
}

/// One file of sentences, pairs or triplets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowsReport {
    /// Where it was read from.
    pub path: PathBuf,
    /// How it was read.
    pub form: Form,
    /// Size on disk (compressed if it is).
    pub bytes: u64,
    /// SHA-256 of the bytes on disk.
    pub sha256: String,
    /// Rows of the file, the header and blank lines apart: kept plus skipped.
    pub rows_read: usize,
    /// Rows kept.
    pub rows_kept: usize,
    /// Rows skipped or repaired, by reason.
    pub notes: Vec<RowNote>,
    /// Blank lines.
    pub blank: LineList,
    /// Rows whose quoted fields span several lines.
    pub multiline: LineList,
    /// Rows kept that are equal to an earlier row in all texts (and label or score).
    pub duplicates: usize,
    /// Rows kept with two equal texts.
    pub self_pairs: usize,
    /// Whether a byte order mark was removed.
    pub byte_order_mark: bool,
    /// Whether lines end in CR LF.
    pub crlf: bool,
}

impl RowsReport {
    /// Rows skipped for any reason.
    pub fn rows_skipped(&self) -> usize {
        let skipped = self.notes.iter().filter(|note| note.skipped);
        skipped.map(|note| note.lines.count).sum()
    }

    /// How many rows carry the note `what`.
    pub fn noted(&self, what: &str) -> usize {
        let notes = self.notes.iter().filter(|note| note.what == what);
        notes.map(|note| note.lines.count).sum()
    }
}

impl fmt::Display for RowsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} rows ({} skipped), {}, {} bytes, SHA-256 {}",
            self.path.display(),
            self.rows_kept,
            self.rows_skipped(),
            self.form,
            self.bytes,
            self.sha256
        )?;
        writeln!(
            f,
            "  {} rows repeat an earlier one, {} have two equal texts",
            self.duplicates, self.self_pairs
        )?;
        for note in &self.notes {
            writeln!(f, "  {}: {}", note.what, note.lines)?;
        }
        if self.blank.count > 0 {
            writeln!(f, "  blank lines: {}", self.blank)?;
        }
        if self.multiline.count > 0 {
            writeln!(
                f,
                "  quoted fields over several lines (a stray quote?): {}",
                self.multiline
            )?;
        }
        if self.byte_order_mark {
            writeln!(f, "  byte order mark removed")?;
        }
        if self.crlf {
            writeln!(f, "  CR LF line ends")?;
        }
        Ok(())
    }
}

/// Texts that occur more than once in the training file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// Different texts that occur more than once.
    pub texts: usize,
    /// Rows beyond the first of each such text.
    pub extra_rows: usize,
    /// Such texts that carry different labels.
    pub conflicting: usize,
}

/// Rows of another split whose text is also in the training file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leakage {
    /// `valid` or `test`.
    pub split: String,
    /// Same text.
    pub exact: usize,
    /// Same text after [`normalised`] (includes the exact ones).
    pub normalised: usize,
}

/// Something worth knowing that is not an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Warning {
    /// A fine category with a single training row: no other row can be its neighbour.
    SingleRowFine {
        /// The category.
        label: String,
    },
    /// A training category without a row in another split.
    AbsentLabel {
        /// `valid` or `test`.
        split: String,
        /// `coarse` or `fine`.
        level: String,
        /// The category.
        label: String,
    },
    /// A fine category that occurs under several coarse categories of the training file.
    SharedFine {
        /// The fine category.
        label: String,
        /// Its coarse categories.
        coarse: Vec<String>,
    },
    /// Fine labels of a split are not used because the training file has none.
    FineIgnored {
        /// The split.
        split: String,
    },
    /// A split without fine labels although the training file has them.
    FineMissing {
        /// The split.
        split: String,
    },
    /// Quoted fields that span lines, often the trace of a stray quote.
    MultilineFields {
        /// The split.
        split: String,
        /// How many rows.
        rows: usize,
        /// The first of them.
        first_line: u64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SingleRowFine { label } => {
                write!(f, "fine category `{label}` has a single training row")
            }
            Self::AbsentLabel {
                split,
                level,
                label,
            } => {
                write!(f, "{level} category `{label}` has no row in {split}")
            }
            Self::SharedFine { label, coarse } => {
                write!(
                    f,
                    "fine category `{label}` is under several coarse ones: {}",
                    coarse.join(", ")
                )
            }
            Self::FineIgnored { split } => {
                write!(
                    f,
                    "fine labels of {split} are ignored: the training file has none"
                )
            }
            Self::FineMissing { split } => write!(f, "{split} has no fine labels"),
            Self::MultilineFields {
                split,
                rows,
                first_line,
            } => write!(
                f,
                "{split}: {rows} rows with a quoted field over several lines, the first at line {first_line}; a stray quote?"
            ),
        }
    }
}

/// The whole report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// Name of the data set.
    pub name: String,
    /// Where the coarse labels come from, in words.
    pub coarse_rule: String,
    /// Coarse categories of the training file.
    pub n_coarse: usize,
    /// Fine categories of the training file, if it has fine labels.
    pub n_fine: Option<usize>,
    /// One entry a file: train, valid (if there is one), test.
    pub files: Vec<FileReport>,
    /// Repeats inside the training file.
    pub duplicates: Duplicates,
    /// Texts shared with the training file: valid (if there is one), test.
    pub leakage: Vec<Leakage>,
    /// Everything else worth knowing.
    pub warnings: Vec<Warning>,
}

impl LoadReport {
    /// The report of a split's file.
    pub fn file(&self, split: &str) -> Option<&FileReport> {
        self.files.iter().find(|file| file.split == split)
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fine = self
            .n_fine
            .map_or_else(|| "no".to_owned(), |n| n.to_string());
        writeln!(
            f,
            "{}: {} coarse and {fine} fine categories (coarse: {})",
            self.name, self.n_coarse, self.coarse_rule
        )?;
        writeln!(
            f,
            "split     rows  skipped  coarse   fine       bytes  form         sha256"
        )?;
        for file in &self.files {
            let fine = file
                .n_fine
                .map_or_else(|| "-".to_owned(), |n| n.to_string());
            writeln!(
                f,
                "{:<6} {:>7} {:>8} {:>7} {fine:>6} {:>11}  {:<11}  {}",
                file.split,
                file.rows_kept,
                file.rows_skipped(),
                file.n_coarse,
                file.bytes,
                file.form,
                file.sha256
            )?;
        }
        for file in &self.files {
            let lists = [
                (&file.ragged, "rows with a wrong number of fields, skipped"),
                (&file.empty_text, "rows with an empty text, skipped"),
                (
                    &file.unseen_fine,
                    "rows with a fine label not in the training file, skipped",
                ),
                (&file.blank, "blank lines"),
            ];
            for (list, what) in lists.into_iter().filter(|(list, _)| list.count > 0) {
                writeln!(f, "{}: {what}: {list}", file.split)?;
            }
            if file.byte_order_mark {
                writeln!(f, "{}: byte order mark removed", file.split)?;
            }
            if file.crlf {
                writeln!(f, "{}: CR LF line ends", file.split)?;
            }
        }
        writeln!(
            f,
            "repeated training texts: {} ({} extra rows), {} with different labels",
            self.duplicates.texts, self.duplicates.extra_rows, self.duplicates.conflicting
        )?;
        for leak in &self.leakage {
            writeln!(
                f,
                "{} rows also in train: {} exactly, {} without case and punctuation",
                leak.split, leak.exact, leak.normalised
            )?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

/// Lower case, letters and digits only, single spaces.
///
/// ```
/// assert_eq!(datasets::report::normalised("Don't  STOP, now!"), "don t stop now");
/// ```
pub fn normalised(text: &str) -> String {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

/// Counts repeats among `(text, label ids)` rows.
pub(crate) fn duplicates<'a, L: Ord + Copy>(
    rows: impl Iterator<Item = (&'a str, L)>,
) -> Duplicates {
    let mut seen: BTreeMap<&str, (usize, BTreeSet<L>)> = BTreeMap::new();
    for (text, label) in rows {
        let entry = seen.entry(text).or_default();
        entry.0 += 1;
        entry.1.insert(label);
    }
    let mut out = Duplicates::default();
    for (count, labels) in seen.values().filter(|(count, _)| *count > 1) {
        out.texts += 1;
        out.extra_rows += count - 1;
        out.conflicting += usize::from(labels.len() > 1);
    }
    out
}

/// Counts rows of `other` that are also in `train`.
pub(crate) fn leakage(split: &str, train: &[String], other: &[String]) -> Leakage {
    let exact: BTreeSet<&str> = train.iter().map(String::as_str).collect();
    let normal: BTreeSet<String> = train.iter().map(|text| normalised(text)).collect();
    let same = |text: &&String| {
        let key = normalised(text);
        // A text without letters or digits normalises to nothing and matches only itself.
        exact.contains(text.as_str()) || (!key.is_empty() && normal.contains(&key))
    };
    Leakage {
        split: split.to_owned(),
        exact: other
            .iter()
            .filter(|text| exact.contains(text.as_str()))
            .count(),
        normalised: other.iter().filter(same).count(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|t| (*t).to_owned()).collect()
    }

    #[test]
    fn repeats_and_conflicts_are_counted() {
        let rows = [("a", 0), ("b", 0), ("a", 0), ("b", 1), ("b", 0), ("c", 1)];
        assert_eq!(
            duplicates(rows.into_iter()),
            Duplicates {
                texts: 2,
                extra_rows: 3,
                conflicting: 1
            }
        );
    }

    #[test]
    fn leakage_is_counted_exactly_and_normalised() {
        let train = strings(&["Turn it off!", "hello", "??"]);
        let test = strings(&["turn it off", "hello", "hello", "new", "!!", "??"]);
        let leak = leakage("test", &train, &test);
        assert_eq!((leak.exact, leak.normalised), (3, 4));
    }

    #[test]
    fn line_lists_keep_the_first_numbers() {
        let mut list = LineList::default();
        (1..=12).for_each(|line| list.push(line));
        assert_eq!(list.count, 12);
        assert_eq!(
            list.to_string(),
            "12 (lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...)"
        );
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in "[a-zA-Z0-9 ,.'!?-]{0,40}") {
            prop_assert_eq!(normalised(&normalised(&text)), normalised(&text));
        }

        #[test]
        fn extra_rows_is_rows_minus_distinct(texts in prop::collection::vec("[ab]{0,2}", 0..20)) {
            let found = duplicates(texts.iter().map(|t| (t.as_str(), 0)));
            let distinct: BTreeSet<&String> = texts.iter().collect();
            prop_assert_eq!(found.extra_rows, texts.len() - distinct.len());
            prop_assert_eq!(found.conflicting, 0);
        }
    }
}
