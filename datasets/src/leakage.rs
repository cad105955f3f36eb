//! Which training rows occur in an evaluation set.
//!
//! Texts are compared after a [`TextRule`]; the default ignores case, punctuation and white space.
//! A training row and an evaluation row share a **pair** if two texts of the one are the two texts of
//! the other, in either order (of a triplet, any two of its three texts), and share a **sentence** if
//! they have a text in common. A text without letters and digits equals only itself.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use crate::error::DatasetError;
use crate::hash::StreamingSha256;
use crate::records::{Cell, Layout, PartFilter, RowTally, for_each_record, split_of};
use crate::report::{Form, RowsReport, normalised};
use crate::sts::{StsPart, StsTask, load_sts_task, sts_names};
use crate::table::{Limits, TextFile, plain_name};
use crate::transfer::{load_transfer_task, transfer_names};

/// Columns that hold no text. Any other column counts as text.
const NOT_TEXT: [&str; 21] = [
    "split",
    "subset",
    "score",
    "label",
    "gold_label",
    "coarse",
    "fine",
    "category",
    "id",
    "idx",
    "index",
    "pair_id",
    "pairid",
    "captionid",
    "genre",
    "file",
    "filename",
    "year",
    "relatedness_score",
    "entailment_judgment",
    "weight",
];

/// When two texts count as the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextRule {
    /// Equal in lower case, letters and digits only, without spaces. Tokenised and raw forms of a
    /// text agree, and so do `can not` and `cannot`.
    #[default]
    Letters,
    /// Equal in lower case, letters and digits only, with single spaces between: [`normalised`].
    Words,
    /// Equal but for white space at the ends.
    Exact,
}

impl fmt::Display for TextRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Letters => "lower case, letters and digits, no spaces",
            Self::Words => "lower case, letters and digits, single spaces",
            Self::Exact => "as written",
        })
    }
}

type Key = [u8; 16];

impl TextRule {
    /// Equal for texts that are the same, different (but for a chance below 1e-20) for others.
    pub(crate) fn key(self, text: &str) -> Key {
        let normal = match self {
            Self::Letters => normalised(text).replace(' ', ""),
            Self::Words => normalised(text),
            Self::Exact => String::new(),
        };
        let mut hash = StreamingSha256::default();
        if normal.is_empty() {
            // A space keeps it apart from every normalised text.
            hash.update(b" ");
            hash.update(text.trim().as_bytes());
        } else {
            hash.update(normal.as_bytes());
        }
        hash.first_bytes()
    }
}

/// Which training rows count as leaking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeakBy {
    /// Those that share a pair with an evaluation row; a row of one text leaks by that sentence.
    #[default]
    Pair,
    /// Those that share a sentence.
    Sentence,
}

/// Rows that a model is scored on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvalSet {
    /// Name in reports, such as `STS12 test`.
    pub name: String,
    /// Texts of every row.
    pub rows: Vec<Vec<String>>,
}

/// Training rows of any kind: the texts of a file, whatever they are used for.
#[derive(Debug)]
pub struct TextRows {
    /// Texts of every row.
    pub rows: Vec<Vec<String>>,
    /// What the loader saw.
    pub report: RowsReport,
    content: String,
    /// Bytes of every row, and where the first one of the file begins.
    spans: Vec<Range<usize>>,
    first: usize,
}

/// Loads the texts of a `.txt`, `.tsv`, `.csv`, `.jsonl` or `.json` file (also with `.gz`): all columns
/// but those whose names say otherwise (`split`, `subset`, `score`, `label`, `id` and the like); JSON
/// values other than strings are no texts.
/// `split` keeps only the rows whose `split` column has that value.
///
/// # Errors
/// [`DatasetError`]: an unreadable file, a ragged row, no text column, no row of the split.
pub fn load_texts(
    path: &Path,
    split: Option<&str>,
    limits: Limits,
) -> Result<TextRows, DatasetError> {
    let layout = Layout::of(path)?;
    let mut file = TextFile::read(path, limits)?;
    let mut tally = RowTally::default();
    let mut filter = PartFilter::new(split);
    let (mut rows, mut spans, mut first) = (Vec::new(), Vec::new(), None);
    let header = |names: &[String]| {
        if layout == Layout::Lines {
            return Ok((vec![0], None));
        }
        let named = names.iter().enumerate();
        let texts: Vec<usize> = named
            .filter(|(_, name)| !NOT_TEXT.contains(&name.to_lowercase().as_str()))
            .map(|(column, _)| column)
            .collect();
        if texts.is_empty() {
            return Err(DatasetError::ColumnCount {
                path: path.to_owned(),
                line: 1,
                found: 0,
                expected: "at least one column of texts",
            });
        }
        Ok((texts, split_of(names)))
    };
    let scan = for_each_record(&file, layout, limits, header, |columns, record| {
        let (columns, split) = columns;
        first.get_or_insert(record.span.start);
        if !filter.takes(record, *split)? {
            return Ok(());
        }
        let mut texts = Vec::with_capacity(columns.len());
        for &column in columns {
            // Numbers and lists are no texts, and an absent text is in no evaluation set.
            if let Some(Cell::Text(text)) = record.cells.get(column)
                && !text.trim().is_empty()
            {
                texts.push(text.clone().into_owned());
            }
        }
        let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
        tally.keep(&borrowed, "");
        rows.push(texts);
        spans.push(record.span.clone());
        Ok(())
    })?;
    filter.check(path)?;
    let content = std::mem::take(&mut file.text);
    Ok(TextRows {
        rows,
        report: tally.finish(file, filter.apply(scan))?,
        content,
        spans,
        first: first.unwrap_or(0),
    })
}

impl TextRows {
    /// Writes the file again without the rows for which `keep` is false; rows of another split than
    /// the one loaded are left out as well. A name that ends in `.gz` is compressed. Gives the number
    /// of rows written.
    ///
    /// # Errors
    /// [`DatasetError`]: a JSON list, which has no rows to leave out; a file that cannot be written.
    pub fn write_filtered(
        &self,
        path: &Path,
        mut keep: impl FnMut(&[&str]) -> bool,
    ) -> Result<usize, DatasetError> {
        if self.report.form == Form::Json {
            return Err(DatasetError::JsonList {
                path: self.report.path.clone(),
            });
        }
        let mut out = self
            .content
            .get(..self.first)
            .unwrap_or_default()
            .to_owned();
        let mut written = 0;
        for (texts, span) in self.rows.iter().zip(&self.spans) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            if keep(&texts) {
                let row = self.content.get(span.clone()).unwrap_or_default();
                out.push_str(row.trim_end_matches(['\r', '\n']));
                out.push('\n');
                written += 1;
            }
        }
        let io = |source| DatasetError::Io {
            operation: "write",
            path: path.to_owned(),
            source,
        };
        if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("gz"))
        {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(out.as_bytes()).map_err(io)?;
            std::fs::write(path, encoder.finish().map_err(io)?).map_err(io)?;
        } else {
            std::fs::write(path, out).map_err(io)?;
        }
        Ok(written)
    }
}

/// Loads evaluation sets from a folder (STS and transfer tasks, see [`mod@crate::sts`] and
/// [`crate::transfer`]; one set for each of `parts` that a task has, transfer tasks without splits
/// count as test) or from a single file of texts.
///
/// # Errors
/// [`DatasetError`] of the loaders; [`DatasetError::MissingTask`] if a folder has no task or none of
/// its tasks has one of the parts.
pub fn load_eval_sets(
    path: &Path,
    parts: &[StsPart],
    limits: Limits,
) -> Result<Vec<EvalSet>, DatasetError> {
    if !path.is_dir() {
        let texts = load_texts(path, None, limits)?;
        return Ok(vec![EvalSet {
            name: plain_name(path),
            rows: texts.rows,
        }]);
    }
    let mut sets = Vec::new();
    for name in sts_names(path)? {
        let task = load_sts_task(path, name, limits)?;
        sets.extend(sts_eval_sets(&[task], parts));
    }
    sets.extend(transfer_eval_sets(path, parts, limits)?);
    if sets.is_empty() {
        let parts: Vec<&str> = parts.iter().map(|part| part.name()).collect();
        return Err(DatasetError::MissingTask {
            dir: path.to_owned(),
            task: format!("any STS or transfer task with the parts {}", parts.join(", ")),
            looked_for: "sts12.tsv to sts16.tsv, stsb.tsv, sickr.tsv, the SentEval folders, mr.tsv and so on"
                .to_owned(),
        });
    }
    Ok(sets)
}

/// One set for each of `parts` that an STS task has, see [`mod@crate::sts`].
pub fn sts_eval_sets(tasks: &[StsTask], parts: &[StsPart]) -> Vec<EvalSet> {
    let splits = tasks.iter().flat_map(|task| {
        let wanted = task
            .splits
            .iter()
            .filter(|split| parts.contains(&split.part));
        wanted.map(move |split| (task, split))
    });
    splits
        .map(|(task, split)| EvalSet {
            name: format!("{} {}", task.name.name(), split.part.name()),
            rows: split
                .pairs()
                .map(|pair| vec![pair.first.clone(), pair.second.clone()])
                .collect(),
        })
        .collect()
}

/// One set for each of `parts` that a transfer task in a folder has, see [`crate::transfer`]; tasks
/// without splits count as test. No sets if the folder has no such task.
///
/// # Errors
/// [`DatasetError`] of the loader.
pub fn transfer_eval_sets(
    dir: &Path,
    parts: &[StsPart],
    limits: Limits,
) -> Result<Vec<EvalSet>, DatasetError> {
    let mut sets = Vec::new();
    for name in transfer_names(dir) {
        let task = load_transfer_task(dir, name, limits)?;
        for (part, rows) in task.parts() {
            let wanted = StsPart::parse(part).unwrap_or(StsPart::Test);
            if !parts.contains(&wanted) {
                continue;
            }
            let second = rows.second.as_deref().unwrap_or_default();
            let texts = rows.texts.iter().enumerate();
            sets.push(EvalSet {
                name: format!("{} {part}", task.name.name()),
                rows: texts
                    .map(|(row, text)| {
                        let second = second.get(row).cloned();
                        [Some(text.clone()), second].into_iter().flatten().collect()
                    })
                    .collect(),
            });
        }
    }
    Ok(sets)
}

/// Evaluation sets, ready to be compared with training rows.
#[derive(Debug, Clone)]
pub struct LeakIndex {
    rule: TextRule,
    sets: Vec<IndexedSet>,
    /// Ids of the sets that have a sentence or a pair.
    sentences: HashMap<Key, BTreeSet<usize>>,
    pairs: HashMap<[Key; 2], BTreeSet<usize>>,
}

#[derive(Debug, Clone)]
struct IndexedSet {
    name: String,
    /// Keys of the texts of every row.
    rows: Vec<Vec<Key>>,
}

/// Rows with the same texts as an earlier one, in any order.
fn repeats(rows: &[Vec<Key>]) -> usize {
    let mut seen = HashSet::new();
    let sorted = rows.iter().map(|keys| {
        let mut keys = keys.clone();
        keys.sort_unstable();
        keys
    });
    sorted.filter(|keys| !seen.insert(keys.clone())).count()
}

/// All pairs of texts of a row, each with its smaller key first.
fn pairs(keys: &[Key]) -> impl Iterator<Item = [Key; 2]> {
    keys.iter().enumerate().flat_map(move |(i, a)| {
        keys.iter()
            .skip(i + 1)
            .map(move |b| if a <= b { [*a, *b] } else { [*b, *a] })
    })
}

impl LeakIndex {
    /// Indexes evaluation sets.
    pub fn new(sets: &[EvalSet], rule: TextRule) -> Self {
        let mut index = Self {
            rule,
            sets: Vec::new(),
            sentences: HashMap::new(),
            pairs: HashMap::new(),
        };
        for (id, set) in sets.iter().enumerate() {
            let mut rows = Vec::with_capacity(set.rows.len());
            for texts in &set.rows {
                let keys: Vec<Key> = texts.iter().map(|text| rule.key(text)).collect();
                for key in &keys {
                    index.sentences.entry(*key).or_default().insert(id);
                }
                for pair in pairs(&keys) {
                    index.pairs.entry(pair).or_default().insert(id);
                }
                rows.push(keys);
            }
            index.sets.push(IndexedSet {
                name: set.name.clone(),
                rows,
            });
        }
        index
    }

    /// Whether a training row with these texts leaks.
    ///
    /// ```
    /// use datasets::leakage::{EvalSet, LeakBy, LeakIndex, TextRule};
    ///
    /// let set = EvalSet {
    ///     name: "test".to_owned(),
    ///     rows: vec![vec!["A man runs.".to_owned(), "It rains!".to_owned()]],
    /// };
    /// let index = LeakIndex::new(&[set], TextRule::default());
    /// assert!(index.leaks(&["it rains", "a man runs"], LeakBy::Pair));
    /// assert!(!index.leaks(&["it rains", "a dog runs"], LeakBy::Pair));
    /// assert!(index.leaks(&["it rains", "a dog runs"], LeakBy::Sentence));
    /// ```
    pub fn leaks(&self, texts: &[impl AsRef<str>], by: LeakBy) -> bool {
        let keys = self.keys(texts);
        if by == LeakBy::Sentence || keys.len() == 1 {
            keys.iter().any(|key| self.sentences.contains_key(key))
        } else {
            pairs(&keys).any(|pair| self.pairs.contains_key(&pair))
        }
    }

    fn keys(&self, texts: &[impl AsRef<str>]) -> Vec<Key> {
        let keys = texts.iter().map(|text| self.rule.key(text.as_ref()));
        keys.collect()
    }

    /// Compares training rows with every set.
    pub fn check<R, T>(&self, rows: impl IntoIterator<Item = R>) -> LeakReport
    where
        R: AsRef<[T]>,
        T: AsRef<str>,
    {
        let mut report = LeakReport {
            rule: self.rule,
            train_rows: 0,
            train_with_pair: 0,
            train_with_sentence: 0,
            sets: self
                .sets
                .iter()
                .map(|set| SetLeak {
                    name: set.name.clone(),
                    rows: set.rows.len(),
                    repeats: repeats(&set.rows),
                    ..SetLeak::default()
                })
                .collect(),
        };
        let mut seen_sentences: HashSet<Key> = HashSet::new();
        let mut seen_pairs: HashSet<[Key; 2]> = HashSet::new();
        for texts in rows {
            report.train_rows += 1;
            let keys = self.keys(texts.as_ref());
            let mut by_sentence: BTreeSet<usize> = BTreeSet::new();
            let mut by_pair: BTreeSet<usize> = BTreeSet::new();
            for key in &keys {
                if let Some(sets) = self.sentences.get(key) {
                    seen_sentences.insert(*key);
                    by_sentence.extend(sets);
                }
            }
            for pair in pairs(&keys) {
                if let Some(sets) = self.pairs.get(&pair) {
                    seen_pairs.insert(pair);
                    by_pair.extend(sets);
                }
            }
            report.train_with_sentence += usize::from(!by_sentence.is_empty());
            report.train_with_pair += usize::from(!by_pair.is_empty());
            for (id, set) in report.sets.iter_mut().enumerate() {
                set.train_with_sentence += usize::from(by_sentence.contains(&id));
                set.train_with_pair += usize::from(by_pair.contains(&id));
            }
        }
        for (set, leak) in self.sets.iter().zip(&mut report.sets) {
            for keys in &set.rows {
                let sentence = keys.iter().any(|key| seen_sentences.contains(key));
                let pair = pairs(keys).any(|pair| seen_pairs.contains(&pair));
                leak.rows_with_sentence += usize::from(sentence);
                leak.rows_with_pair += usize::from(pair);
            }
        }
        report
    }
}

/// Overlap of training rows with one evaluation set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SetLeak {
    /// Name of the set.
    pub name: String,
    /// Its rows.
    pub rows: usize,
    /// Its rows that repeat an earlier one: the same text or the same pair in either order.
    pub repeats: usize,
    /// Its rows whose pair of texts occurs in a training row.
    pub rows_with_pair: usize,
    /// Its rows of which at least one text occurs in a training row.
    pub rows_with_sentence: usize,
    /// Training rows that share a pair with it.
    pub train_with_pair: usize,
    /// Training rows that share a sentence with it.
    pub train_with_sentence: usize,
}

/// Overlap of training rows with every evaluation set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeakReport {
    /// When two texts count as the same.
    pub rule: TextRule,
    /// Training rows compared.
    pub train_rows: usize,
    /// Training rows that share a pair with any set.
    pub train_with_pair: usize,
    /// Training rows that share a sentence with any set.
    pub train_with_sentence: usize,
    /// One entry a set.
    pub sets: Vec<SetLeak>,
}

impl LeakReport {
    /// Whether any training row leaks.
    pub fn leaks(&self, by: LeakBy) -> bool {
        self.train_with_pair > 0 || (by == LeakBy::Sentence && self.train_with_sentence > 0)
    }
}

impl fmt::Display for LeakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "texts are compared in {}", self.rule)?;
        writeln!(
            f,
            "{:<14} {:>8} {:>8} {:>14} {:>18} {:>17} {:>9}",
            "evaluation set",
            "rows",
            "repeats",
            "pair in train",
            "sentence in train",
            "train rows: pair",
            "sentence"
        )?;
        for set in &self.sets {
            writeln!(
                f,
                "{:<14} {:>8} {:>8} {:>14} {:>18} {:>17} {:>9}",
                set.name,
                set.rows,
                set.repeats,
                set.rows_with_pair,
                set.rows_with_sentence,
                set.train_with_pair,
                set.train_with_sentence
            )?;
        }
        writeln!(
            f,
            "{} training rows: {} share a pair with a set, {} a sentence",
            self.train_rows, self.train_with_pair, self.train_with_sentence
        )
    }
}
