//! Texts with coarse and, if known, fine categories.
//!
//! A data set is a training file, a test file and perhaps a validation file, each in one of these
//! forms, told apart by the file name and the header:
//!
//! | form | header or fields | quoting |
//! |---|---|---|
//! | `.tsv`, form 1 | `text<TAB>coarse` or `text<TAB>coarse<TAB>fine` | none: `"` is an ordinary character |
//! | `.tsv`, form 2 | `text<TAB>label` or `text<TAB>category` | CSV rules; rows that do not have 2 fields are skipped and reported |
//! | `.csv` | by column name, see [`LoadOptions`] | CSV rules |
//! | `.jsonl` | by field name, see [`LoadOptions`] | JSON |
//!
//! Each may be gzip-compressed (`.gz` appended). Form 2 is the one published with DOWN, DNA and
//! STAR: its single label is the fine one and the coarse one follows from it ([`CoarseSource`]).
//!
//! Label ids are positions in the sorted (byte order) list of the different strings of the
//! **training** file, separately for coarse and fine.
//!
//! Runs of white space in a text become one space and the ends are trimmed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::coarse_maps::{clinc_domain, prefix};
use crate::error::DatasetError;
use crate::report::{FileReport, Leakage, LineList, LoadReport, Warning, duplicates, leakage};
use crate::table::{ENDINGS, Row, Table, TextFile};

/// Distinct labels, all of them CLINC intents, from which [`CoarseSource::Auto`] takes the CLINC
/// table. Labels such as `calendar` occur elsewhere too, so a handful is not enough.
const CLINC_EVIDENCE: usize = 50;

/// Where coarse labels come from when a file has only one label column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CoarseSource {
    /// The first that applies: a `coarse_map.tsv` given or found beside the training file; the
    /// CLINC table if the training file has at least 50 different labels and all are CLINC intents;
    /// the part of the label before its first `_` or `.`.
    #[default]
    Auto,
    /// The part of the label before its first `_` or `.`.
    Prefix,
    /// [`clinc_domain`].
    Clinc,
    /// This map from fine to coarse labels.
    Map(BTreeMap<String, String>),
}

/// How to read files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Makes a ragged row of a form 2 file an error instead of skipping it. Ragged rows are always
    /// errors in the other forms.
    pub strict_tsv: bool,
    /// Skips (and reports) rows with an empty text instead of failing.
    pub skip_empty_text: bool,
    /// Skips (and reports) validation and test rows whose fine label the training file does not
    /// have, instead of failing. A coarse label unknown to the training file is always an error.
    pub skip_unseen_fine: bool,
    /// Column or field of the text in CSV and JSON lines.
    pub text_column: String,
    /// Column or field of the coarse label in CSV and JSON lines. Without it the file must have
    /// [`Self::fine_column`], `label` or `category`, and the coarse label follows from that.
    pub coarse_column: String,
    /// Column or field of the fine label in CSV and JSON lines; optional if there is a coarse one.
    pub fine_column: String,
    /// Where coarse labels come from when a file has only one label column.
    pub coarse: CoarseSource,
    /// Longest line, and longest quoted field, in bytes.
    pub max_line_bytes: usize,
    /// Largest file in bytes, after decompression.
    pub max_file_bytes: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            strict_tsv: false,
            skip_empty_text: false,
            skip_unseen_fine: false,
            text_column: "text".to_owned(),
            coarse_column: "coarse".to_owned(),
            fine_column: "fine".to_owned(),
            coarse: CoarseSource::Auto,
            max_line_bytes: 10_000_000,
            max_file_bytes: 2_000_000_000,
        }
    }
}

/// The files of a data set, for [`load_category_files`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CategoryFiles {
    /// Name of the data set in reports.
    pub name: String,
    /// Training file.
    pub train: PathBuf,
    /// Validation file.
    pub valid: Option<PathBuf>,
    /// Test file.
    pub test: PathBuf,
    /// A `fine<TAB>coarse` table for files with one label column. Without it
    /// [`CoarseSource::Auto`] looks for `coarse_map.tsv` beside the training file.
    pub coarse_map: Option<PathBuf>,
}

/// Rows of one split, in file order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Split {
    /// Texts, `[rows]`.
    pub texts: Vec<String>,
    /// Coarse label ids, `[rows]`.
    pub coarse: Vec<usize>,
    /// Fine label ids, `[rows]`, if the split and the training file have fine labels.
    pub fine: Option<Vec<usize>>,
}

impl Split {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

/// A data set for fine-grained category discovery.
#[derive(Debug, Clone, PartialEq)]
pub struct CategoryDataset {
    /// Name of the data set.
    pub name: String,
    /// Training rows.
    pub train: Split,
    /// Validation rows, if there is such a file.
    pub valid: Option<Split>,
    /// Test rows.
    pub test: Split,
    /// Coarse category names; a coarse id is an index into this list.
    pub coarse_names: Vec<String>,
    /// Fine category names if the training file has fine labels; a fine id is an index.
    pub fine_names: Option<Vec<String>>,
    /// What the loader saw.
    pub report: LoadReport,
}

impl CategoryDataset {
    /// Number of coarse categories.
    pub fn n_coarse(&self) -> usize {
        self.coarse_names.len()
    }

    /// Number of fine categories, if known.
    pub fn n_fine(&self) -> Option<usize> {
        self.fine_names.as_ref().map(Vec::len)
    }
}

/// Loads `train`, `test` and, if it exists, `valid` from a folder; the file endings tried are
/// `tsv`, `csv`, `jsonl` and each with `.gz`. The data set is named after the folder.
///
/// # Errors
/// [`DatasetError`]: a split without a file or with several, or anything wrong inside a file.
///
/// ```
/// let dir = tempfile::tempdir()?;
/// std::fs::write(dir.path().join("train.tsv"), "text\tcoarse\nbuy milk\thome\nfly home\ttravel\n")?;
/// std::fs::write(dir.path().join("test.csv"), "coarse,text\ntravel,\"trains, please\"\n")?;
/// let data = datasets::load_category_dir(dir.path(), &datasets::LoadOptions::default())?;
/// assert_eq!(data.coarse_names, ["home", "travel"]);
/// assert_eq!(data.test.texts, ["trains, please"]);
/// assert_eq!(data.test.coarse, [1]);
/// assert_eq!(data.fine_names, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load_category_dir(
    path: &Path,
    options: &LoadOptions,
) -> Result<CategoryDataset, DatasetError> {
    std::fs::read_dir(path).map_err(|source| DatasetError::Io {
        operation: "open the folder",
        path: path.to_owned(),
        source,
    })?;
    let required = |split| {
        find_split(path, split)?.ok_or_else(|| DatasetError::MissingSplit {
            dir: path.to_owned(),
            split,
            looked_for: ENDINGS.map(|ending| format!("{split}.{ending}")).join(", "),
        })
    };
    // `.` and `..` have no name of their own.
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = full
        .file_name()
        .unwrap_or(full.as_os_str())
        .to_string_lossy()
        .into_owned();
    let files = CategoryFiles {
        name,
        train: required("train")?,
        valid: find_split(path, "valid")?,
        test: required("test")?,
        coarse_map: None,
    };
    load_category_files(&files, options)
}

/// Loads files of any name; their endings still say how they are read.
///
/// # Errors
/// [`DatasetError`] for anything wrong inside a file.
pub fn load_category_files(
    files: &CategoryFiles,
    options: &LoadOptions,
) -> Result<CategoryDataset, DatasetError> {
    let train = TextFile::read(&files.train, options)?;
    let valid = files
        .valid
        .as_ref()
        .map(|path| TextFile::read(path, options))
        .transpose()?;
    let test = TextFile::read(&files.test, options)?;
    let map = match &files.coarse_map {
        Some(path) => Some(path.clone()),
        None => {
            let beside = files.train.with_file_name("coarse_map.tsv");
            beside.is_file().then_some(beside)
        }
    };
    from_tables(&files.name, train, valid, test, map.as_deref(), options)
}

fn find_split(dir: &Path, split: &'static str) -> Result<Option<PathBuf>, DatasetError> {
    let found: Vec<PathBuf> = ENDINGS
        .iter()
        .map(|ending| dir.join(format!("{split}.{ending}")))
        .filter(|path| path.is_file())
        .collect();
    if found.len() > 1 {
        let names: Vec<_> = found
            .iter()
            .filter_map(|p| p.file_name())
            .map(|n| n.to_string_lossy())
            .collect();
        return Err(DatasetError::AmbiguousSplit {
            dir: dir.to_owned(),
            split,
            found: names.join(", "),
        });
    }
    Ok(found.into_iter().next())
}

/// A rule that gives the coarse label of a fine one.
enum CoarseRule {
    Prefix,
    Clinc,
    Map {
        name: String,
        map: BTreeMap<String, String>,
    },
}

impl CoarseRule {
    fn choose(
        train: &Table,
        map: Option<&Path>,
        options: &LoadOptions,
    ) -> Result<Self, DatasetError> {
        match &options.coarse {
            CoarseSource::Prefix => Ok(Self::Prefix),
            CoarseSource::Clinc => Ok(Self::Clinc),
            CoarseSource::Map(map) => Ok(Self::Map {
                name: "the map given".to_owned(),
                map: map.clone(),
            }),
            CoarseSource::Auto => {
                if let Some(path) = map {
                    let map = read_coarse_map(path, options)?;
                    return Ok(Self::Map {
                        name: path.display().to_string(),
                        map,
                    });
                }
                let labels: BTreeSet<&str> = train
                    .rows
                    .iter()
                    .filter_map(|row| row.fine.as_deref())
                    .collect();
                let clinc = labels.len() >= CLINC_EVIDENCE
                    && labels.iter().all(|label| clinc_domain(label).is_some());
                Ok(if clinc { Self::Clinc } else { Self::Prefix })
            }
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Prefix => "part of the fine label before `_` or `.`".to_owned(),
            Self::Clinc => "CLINC domain table".to_owned(),
            Self::Map { name, .. } => name.clone(),
        }
    }

    fn coarse<'a>(&'a self, fine: &'a str) -> Option<&'a str> {
        match self {
            Self::Prefix => Some(prefix(fine)),
            Self::Clinc => clinc_domain(fine),
            Self::Map { map, .. } => map.get(fine).map(String::as_str),
        }
    }
}

/// Reads a table whose first two columns are `fine` and `coarse`; further columns are allowed.
fn read_coarse_map(
    path: &Path,
    options: &LoadOptions,
) -> Result<BTreeMap<String, String>, DatasetError> {
    let file = TextFile::read(path, options)?;
    let header: Vec<&str> = file
        .text
        .lines()
        .next()
        .unwrap_or_default()
        .split('\t')
        .collect();
    if header.first() != Some(&"fine") || header.get(1) != Some(&"coarse") {
        return Err(DatasetError::Header {
            path: path.to_owned(),
            expected: "`fine<TAB>coarse`".to_owned(),
            found: header.join(" ").chars().take(80).collect(),
        });
    }
    let mut map: BTreeMap<String, String> = BTreeMap::new();
    for (line, content) in (2_u64..).zip(file.text.lines().skip(1)) {
        if content.trim().is_empty() {
            continue;
        }
        let fields: Vec<&str> = content.split('\t').map(str::trim).collect();
        let (Some(fine), Some(coarse), true) =
            (fields.first(), fields.get(1), fields.len() == header.len())
        else {
            return Err(DatasetError::RaggedRow {
                path: path.to_owned(),
                line,
                expected: header.len(),
                found: fields.len(),
            });
        };
        for (value, level) in [(fine, "fine"), (coarse, "coarse")] {
            if value.is_empty() {
                return Err(DatasetError::EmptyLabel {
                    path: path.to_owned(),
                    line,
                    level,
                });
            }
        }
        if let Some(earlier) = map.insert((*fine).to_owned(), (*coarse).to_owned())
            && earlier != *coarse
        {
            return Err(DatasetError::ConflictingMap {
                path: path.to_owned(),
                line,
                label: (*fine).to_owned(),
                expected: earlier,
                found: (*coarse).to_owned(),
            });
        }
    }
    Ok(map)
}

/// The sorted different strings, which are the label ids.
fn label_names<'a>(labels: impl Iterator<Item = &'a str>) -> Vec<String> {
    labels
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

fn id_of(names: &[String], label: &str) -> Option<usize> {
    names.binary_search_by(|name| name.as_str().cmp(label)).ok()
}

/// Fills in coarse labels that follow from fine ones.
fn fill_coarse(file: &TextFile, rows: &mut [Row], rule: &CoarseRule) -> Result<(), DatasetError> {
    for row in rows.iter_mut().filter(|row| row.coarse.is_none()) {
        let fine = row.fine.as_deref().unwrap_or_default();
        let coarse = rule
            .coarse(fine)
            .ok_or_else(|| DatasetError::UnmappedLabel {
                path: file.path.clone(),
                line: row.line,
                label: fine.to_owned(),
                map: rule.describe(),
            })?;
        if coarse.is_empty() {
            return Err(DatasetError::EmptyLabel {
                path: file.path.clone(),
                line: row.line,
                level: "coarse",
            });
        }
        row.coarse = Some(coarse.to_owned());
    }
    Ok(())
}

/// Turns parsed rows into ids.
struct Labels<'a> {
    coarse: &'a [String],
    fine: Option<&'a [String]>,
}

impl Labels<'_> {
    fn split(
        &self,
        name: &str,
        file: TextFile,
        table: Table,
        options: &LoadOptions,
    ) -> Result<(Split, FileReport), DatasetError> {
        let has_fine = table.rows.iter().all(|row| row.fine.is_some());
        let fine_names = self.fine.filter(|_| has_fine);
        let mut split = Split {
            fine: fine_names.map(|_| Vec::new()),
            ..Split::default()
        };
        let mut unseen_fine = LineList::default();
        let mut fine_strings = BTreeSet::new();
        let unknown = |line, level, label: &str| DatasetError::UnknownLabel {
            path: file.path.clone(),
            line,
            level,
            label: label.to_owned(),
        };
        for row in table.rows {
            let coarse = row.coarse.unwrap_or_default();
            let coarse_id =
                id_of(self.coarse, &coarse).ok_or_else(|| unknown(row.line, "coarse", &coarse))?;
            let fine = row.fine.unwrap_or_default();
            if let (Some(names), Some(ids)) = (fine_names, split.fine.as_mut()) {
                match id_of(names, &fine) {
                    Some(id) => ids.push(id),
                    None if options.skip_unseen_fine => {
                        unseen_fine.push(row.line);
                        continue;
                    }
                    None => return Err(unknown(row.line, "fine", &fine)),
                }
            }
            fine_strings.insert(fine);
            split.texts.push(row.text);
            split.coarse.push(coarse_id);
        }
        let report = FileReport {
            split: name.to_owned(),
            path: file.path,
            form: table.form,
            bytes: file.bytes,
            sha256: file.sha256,
            rows_read: table.rows_read,
            rows_kept: split.len(),
            ragged: table.ragged,
            empty_text: table.empty_text,
            unseen_fine,
            blank: table.blank,
            multiline: table.multiline,
            n_coarse: split.coarse.iter().collect::<BTreeSet<_>>().len(),
            n_fine: has_fine.then_some(fine_strings.len()),
            byte_order_mark: file.byte_order_mark,
            crlf: file.crlf,
        };
        if split.is_empty() {
            return Err(DatasetError::NoRows {
                path: report.path,
                skipped: report.unseen_fine.count,
            });
        }
        Ok((split, report))
    }
}

/// The part of loading that does not touch files, except for the coarse map.
pub(crate) fn from_tables(
    name: &str,
    train: TextFile,
    valid: Option<TextFile>,
    test: TextFile,
    map: Option<&Path>,
    options: &LoadOptions,
) -> Result<CategoryDataset, DatasetError> {
    let mut train_table = Table::parse(&train, options)?;
    let mut others = Vec::new();
    if let Some(valid) = valid {
        let table = Table::parse(&valid, options)?;
        others.push(("valid", valid, table));
    }
    let test_table = Table::parse(&test, options)?;
    others.push(("test", test, test_table));

    let missing = |table: &Table| table.rows.iter().any(|row| row.coarse.is_none());
    let mut coarse_rule = "coarse column".to_owned();
    if missing(&train_table) || others.iter().any(|(_, _, table)| missing(table)) {
        let rule = CoarseRule::choose(&train_table, map, options)?;
        coarse_rule = rule.describe();
        fill_coarse(&train, &mut train_table.rows, &rule)?;
        for (_, file, table) in &mut others {
            fill_coarse(file, &mut table.rows, &rule)?;
        }
    }

    let coarse_names = label_names(train_table.rows.iter().filter_map(|r| r.coarse.as_deref()));
    if coarse_names.len() < 2 {
        return Err(DatasetError::TooFewCoarse {
            path: train.path,
            found: coarse_names.len(),
        });
    }
    let with_fine = train_table.rows.iter().all(|row| row.fine.is_some());
    let fine_names = with_fine.then(|| {
        label_names(
            train_table
                .rows
                .iter()
                .filter_map(|row| row.fine.as_deref()),
        )
    });
    let labels = Labels {
        coarse: &coarse_names,
        fine: fine_names.as_deref(),
    };

    let (train_split, train_report) = labels.split("train", train, train_table, options)?;
    let mut files = vec![train_report];
    let mut splits = Vec::new();
    for (split, file, table) in others {
        let (rows, report) = labels.split(split, file, table, options)?;
        files.push(report);
        splits.push((split, rows));
    }

    let warnings = warnings(
        &coarse_names,
        fine_names.as_deref(),
        &train_split,
        &splits,
        &files,
    );
    let ids = |i: usize| {
        let fine = train_split.fine.as_ref().and_then(|fine| fine.get(i));
        (train_split.coarse.get(i).copied(), fine.copied())
    };
    let rows = train_split
        .texts
        .iter()
        .enumerate()
        .map(|(i, text)| (text.as_str(), ids(i)));
    let leaks: Vec<Leakage> = splits
        .iter()
        .map(|(name, rows)| leakage(name, &train_split.texts, &rows.texts))
        .collect();
    let report = LoadReport {
        name: name.to_owned(),
        coarse_rule,
        n_coarse: coarse_names.len(),
        n_fine: fine_names.as_ref().map(Vec::len),
        files,
        duplicates: duplicates(rows),
        leakage: leaks,
        warnings,
    };
    let mut valid = None;
    let mut test = Split::default();
    for (split, rows) in splits {
        match split {
            "valid" => valid = Some(rows),
            _ => test = rows,
        }
    }
    Ok(CategoryDataset {
        name: name.to_owned(),
        train: train_split,
        valid,
        test,
        coarse_names,
        fine_names,
        report,
    })
}

fn warnings(
    coarse_names: &[String],
    fine_names: Option<&[String]>,
    train: &Split,
    splits: &[(&str, Split)],
    files: &[FileReport],
) -> Vec<Warning> {
    let mut out = Vec::new();
    if let (Some(names), Some(fine)) = (fine_names, &train.fine) {
        let mut rows = vec![0_usize; names.len()];
        let mut parents = vec![BTreeSet::new(); names.len()];
        for (&fine, &coarse) in fine.iter().zip(&train.coarse) {
            if let (Some(count), Some(set)) = (rows.get_mut(fine), parents.get_mut(fine)) {
                *count += 1;
                set.insert(coarse);
            }
        }
        for ((label, count), parents) in names.iter().zip(rows).zip(parents) {
            if count == 1 {
                out.push(Warning::SingleRowFine {
                    label: label.clone(),
                });
            }
            if parents.len() > 1 {
                let coarse = parents
                    .iter()
                    .filter_map(|&id| coarse_names.get(id))
                    .cloned();
                out.push(Warning::SharedFine {
                    label: label.clone(),
                    coarse: coarse.collect(),
                });
            }
        }
    }
    for (split, rows) in splits {
        let mut absent = |level: &str, names: &[String], ids: &[usize]| {
            let present: BTreeSet<usize> = ids.iter().copied().collect();
            for (_, label) in names
                .iter()
                .enumerate()
                .filter(|(id, _)| !present.contains(id))
            {
                out.push(Warning::AbsentLabel {
                    split: (*split).to_owned(),
                    level: level.to_owned(),
                    label: label.clone(),
                });
            }
        };
        absent("coarse", coarse_names, &rows.coarse);
        if let (Some(names), Some(fine)) = (fine_names, &rows.fine) {
            absent("fine", names, fine);
        }
    }
    for file in files {
        let split = file.split.clone();
        match (fine_names.is_some(), file.n_fine.is_some()) {
            (true, false) => out.push(Warning::FineMissing { split }),
            (false, true) => out.push(Warning::FineIgnored { split }),
            _ => {}
        }
        if let Some(&first_line) = file.multiline.first.first() {
            out.push(Warning::MultilineFields {
                split: file.split.clone(),
                rows: file.multiline.count,
                first_line,
            });
        }
    }
    out
}

/// Writes a split in form 1 (`text<TAB>coarse[<TAB>fine]`), the inverse of loading it.
///
/// Fine labels are written if the split has them. Ids without a name are written as the number. Texts
/// with tabs or line ends, which quoted fields and JSON can hold, have no form without quotes: they are
/// written as they are and do not load again.
///
/// ```
/// let data = datasets::pocket()?;
/// let text = datasets::category::to_tsv(&data, &data.test);
/// assert_eq!(text, datasets::pocket::TEST);
/// # Ok::<(), datasets::DatasetError>(())
/// ```
pub fn to_tsv(data: &CategoryDataset, split: &Split) -> String {
    let name =
        |names: &[String], id: usize| names.get(id).cloned().unwrap_or_else(|| id.to_string());
    let fine_names = data.fine_names.as_deref().unwrap_or_default();
    let mut out = String::from(if split.fine.is_some() {
        "text\tcoarse\tfine\n"
    } else {
        "text\tcoarse\n"
    });
    for (i, (text, &coarse)) in split.texts.iter().zip(&split.coarse).enumerate() {
        out.push_str(text);
        out.push('\t');
        out.push_str(&name(&data.coarse_names, coarse));
        if let Some(&fine) = split.fine.as_ref().and_then(|fine| fine.get(i)) {
            out.push('\t');
            out.push_str(&name(fine_names, fine));
        }
        out.push('\n');
    }
    out
}
