//! Semantic textual similarity: sentence pairs with a human score.
//!
//! Seven tasks: STS12 to STS16 (each year is several subsets), STS-B and SICK-R, in two layouts that
//! [`load_sts_dir`] tells apart:
//!
//! | layout | files |
//! |---|---|
//! | tables | `sts12.tsv` ... `sts16.tsv`, `stsb.tsv`, `sickr.tsv` (also `.gz`), header `split subset score sentence1 sentence2`, no quoting |
//! | SentEval | `STS/STS12-en-test/STS.input.<subset>.txt` with `STS.gs.<subset>.txt`, `STS/STSBenchmark/sts-{train,dev,test}.csv`, `SICK/SICK_{train,trial,test_annotated}.txt` |
//!
//! The SentEval folders may lie in the given folder or in its `downstream` or `data/downstream`, with
//! or without the level `STS`. STS13 is taken without its SMT subset, as is customary.
//!
//! Runs of white space in a sentence become one space, as in SentEval. Pairs without a score are
//! left out and counted in STS12 to STS16 (SentEval's rule) and an error in STS-B and SICK-R. Scores
//! go from 0 to 5, those of SICK-R from 1 to 5.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::DatasetError;
use crate::records::{
    Layout, RowTally, Scan, bad_label, column, for_each_record, lines, parse_score,
};
use crate::report::{Form, RowsReport};
use crate::table::{Limits, TextFile, header_error, ragged, tidy};

/// The note on pairs left out for want of a score.
pub const UNSCORED_NOTE: &str = "pairs without a score, skipped";

/// An STS task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StsName {
    /// SemEval 2012 task 6.
    #[serde(rename = "STS12")]
    Sts12,
    /// *SEM 2013 shared task, without SMT.
    #[serde(rename = "STS13")]
    Sts13,
    /// SemEval 2014 task 10.
    #[serde(rename = "STS14")]
    Sts14,
    /// SemEval 2015 task 2.
    #[serde(rename = "STS15")]
    Sts15,
    /// SemEval 2016 task 1.
    #[serde(rename = "STS16")]
    Sts16,
    /// The STS benchmark.
    #[serde(rename = "STSB")]
    StsB,
    /// Relatedness of SICK.
    #[serde(rename = "SICKR")]
    SickR,
}

impl StsName {
    /// All tasks in the order of published tables.
    pub const ALL: [Self; 7] = [
        Self::Sts12,
        Self::Sts13,
        Self::Sts14,
        Self::Sts15,
        Self::Sts16,
        Self::StsB,
        Self::SickR,
    ];

    /// Name in result files: `STS12` ... `STS16`, `STSB`, `SICKR`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sts12 => "STS12",
            Self::Sts13 => "STS13",
            Self::Sts14 => "STS14",
            Self::Sts15 => "STS15",
            Self::Sts16 => "STS16",
            Self::StsB => "STSB",
            Self::SickR => "SICKR",
        }
    }

    /// Smallest and largest score.
    pub fn range(self) -> (f64, f64) {
        match self {
            Self::SickR => (1.0, 5.0),
            _ => (0.0, 5.0),
        }
    }

    /// Whether a pair may lack its score.
    fn may_lack_scores(self) -> bool {
        !matches!(self, Self::StsB | Self::SickR)
    }

    /// The folder of a year in the SentEval layout.
    fn year_folder(self) -> String {
        format!("{}-en-test", self.name())
    }
}

/// A part of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StsPart {
    /// For training.
    Train,
    /// For choosing a checkpoint; SICK calls it trial.
    Dev,
    /// For reporting.
    Test,
}

impl StsPart {
    /// `train`, `dev` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
        }
    }

    /// The part that a name stands for.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "train" => Some(Self::Train),
            "dev" | "trial" | "valid" | "validation" => Some(Self::Dev),
            "test" => Some(Self::Test),
            _ => None,
        }
    }
}

/// Two sentences and their similarity.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredPair {
    /// One sentence.
    pub first: String,
    /// The other.
    pub second: String,
    /// Human score, on the scale of the task.
    pub score: f64,
}

/// Pairs of one origin.
#[derive(Debug, Clone, PartialEq)]
pub struct StsSubset {
    /// Name, such as `MSRpar`.
    pub name: String,
    /// Its pairs in file order.
    pub pairs: Vec<ScoredPair>,
}

impl StsSubset {
    /// Whether all pairs have the same score: no correlation is defined then.
    pub fn is_constant(&self) -> bool {
        let mut scores = self.pairs.iter().map(|pair| pair.score);
        let first = scores.next();
        scores.all(|score| Some(score) == first)
    }
}

/// One part of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct StsSplit {
    /// Which part.
    pub part: StsPart,
    /// Its subsets in the order of their first pair (tables) or of their names (SentEval).
    pub subsets: Vec<StsSubset>,
}

impl StsSplit {
    /// All pairs, subset by subset.
    pub fn pairs(&self) -> impl Iterator<Item = &ScoredPair> {
        self.subsets.iter().flat_map(|subset| &subset.pairs)
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.subsets.iter().map(|subset| subset.pairs.len()).sum()
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A task.
#[derive(Debug, Clone, PartialEq)]
pub struct StsTask {
    /// Which one.
    pub name: StsName,
    /// The parts that its files have, in the order train, dev, test.
    pub splits: Vec<StsSplit>,
    /// What the loader saw, one entry a file.
    pub reports: Vec<RowsReport>,
}

impl StsTask {
    /// A part, if the files have it.
    pub fn split(&self, part: StsPart) -> Option<&StsSplit> {
        self.splits.iter().find(|split| split.part == part)
    }

    fn add(&mut self, part: StsPart, subset: &str, pair: ScoredPair) {
        let at = match self.splits.binary_search_by_key(&part, |split| split.part) {
            Ok(at) => at,
            Err(at) => {
                let subsets = Vec::new();
                self.splits.insert(at, StsSplit { part, subsets });
                at
            }
        };
        let Some(split) = self.splits.get_mut(at) else {
            return;
        };
        // Rows of a subset stand together: the last one is nearly always the right one.
        let found = split.subsets.iter().rposition(|known| known.name == subset);
        match found.and_then(|at| split.subsets.get_mut(at)) {
            Some(subset) => subset.pairs.push(pair),
            None => split.subsets.push(StsSubset {
                name: subset.to_owned(),
                pairs: vec![pair],
            }),
        }
    }
}

/// Loads every STS task that a folder has, in the order of [`StsName::ALL`].
///
/// # Errors
/// [`DatasetError::MissingTask`] if there is none; else as [`load_sts_task`].
///
/// ```
/// use datasets::{StsName, StsPart, load_sts_dir};
///
/// let dir = tempfile::tempdir()?;
/// let header = "split\tsubset\tscore\tsentence1\tsentence2\n";
/// std::fs::write(
///     dir.path().join("sts13.tsv"),
///     format!("{header}test\tFNWN\t2.5\ta b\tc d\ntest\tFNWN\t\te f\tg h\n"),
/// )?;
/// let tasks = load_sts_dir(dir.path(), Default::default())?;
/// assert_eq!(tasks.len(), 1);
/// assert_eq!(tasks[0].name, StsName::Sts13);
/// // The pair without a score is left out and counted.
/// assert_eq!(tasks[0].split(StsPart::Test).map(|test| test.len()), Some(1));
/// assert_eq!(tasks[0].reports[0].noted(datasets::sts::UNSCORED_NOTE), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load_sts_dir(dir: &Path, limits: Limits) -> Result<Vec<StsTask>, DatasetError> {
    let names = sts_names(dir)?;
    if names.is_empty() {
        return Err(DatasetError::MissingTask {
            dir: dir.to_owned(),
            task: "any STS task".to_owned(),
            looked_for:
                "sts12.tsv to sts16.tsv, stsb.tsv, sickr.tsv and the SentEval folders STS and SICK"
                    .to_owned(),
        });
    }
    names
        .into_iter()
        .map(|name| load_sts_task(dir, name, limits))
        .collect()
}

/// The tasks that a folder has, in the order of [`StsName::ALL`].
///
/// # Errors
/// [`DatasetError`]: a folder that cannot be listed, a table that is there twice.
pub fn sts_names(dir: &Path) -> Result<Vec<StsName>, DatasetError> {
    let mut names = Vec::new();
    for name in StsName::ALL {
        if find(dir, name)?.is_some() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Loads one task from a folder.
///
/// # Errors
/// [`DatasetError::MissingTask`] if the folder does not have it; otherwise what is wrong with its
/// files, with file and line: a wrong header or number of columns, an empty sentence, a score that
/// is missing where it must not be, no number, NaN or out of range, files of different lengths.
pub fn load_sts_task(dir: &Path, name: StsName, limits: Limits) -> Result<StsTask, DatasetError> {
    let source = find(dir, name)?.ok_or_else(|| DatasetError::MissingTask {
        dir: dir.to_owned(),
        task: name.name().to_owned(),
        looked_for: match name {
            StsName::StsB => "stsb.tsv, stsb.tsv.gz, STSBenchmark/sts-test.csv".to_owned(),
            StsName::SickR => "sickr.tsv, sickr.tsv.gz, SICK/SICK_test_annotated.txt".to_owned(),
            year => format!(
                "{0}.tsv, {0}.tsv.gz, {1}/STS.input.*.txt",
                year.name().to_lowercase(),
                year.year_folder()
            ),
        },
    })?;
    source.load(name, limits)
}

/// Where the files of a task are.
enum Source {
    /// One table.
    Table(PathBuf),
    /// Input file, score file and name of every subset.
    Year(Vec<(PathBuf, PathBuf, String)>),
    /// The file of every part.
    Parts(Vec<(StsPart, PathBuf)>),
}

fn find(dir: &Path, name: StsName) -> Result<Option<Source>, DatasetError> {
    let stem = name.name().to_lowercase();
    let tables: Vec<PathBuf> = ["tsv", "tsv.gz"]
        .map(|ending| dir.join(format!("{stem}.{ending}")))
        .into_iter()
        .filter(|path| path.is_file())
        .collect();
    if let [_, _, ..] = tables[..] {
        return Err(DatasetError::AmbiguousSplit {
            dir: dir.to_owned(),
            split: name.name(),
            found: format!("{stem}.tsv, {stem}.tsv.gz"),
        });
    }
    if let Some(table) = tables.into_iter().next() {
        return Ok(Some(Source::Table(table)));
    }
    for base in [
        "",
        "STS",
        "downstream",
        "downstream/STS",
        "data/downstream",
        "data/downstream/STS",
    ] {
        let base = dir.join(base);
        let parts = |files: [(StsPart, &str); 3]| {
            let files: Vec<(StsPart, PathBuf)> = files
                .into_iter()
                .map(|(part, file)| (part, base.join(file)))
                .filter(|(_, path)| path.is_file())
                .collect();
            (!files.is_empty()).then_some(Source::Parts(files))
        };
        let found = match name {
            StsName::StsB => parts([
                (StsPart::Train, "STSBenchmark/sts-train.csv"),
                (StsPart::Dev, "STSBenchmark/sts-dev.csv"),
                (StsPart::Test, "STSBenchmark/sts-test.csv"),
            ]),
            StsName::SickR => parts([
                (StsPart::Train, "SICK/SICK_train.txt"),
                (StsPart::Dev, "SICK/SICK_trial.txt"),
                (StsPart::Test, "SICK/SICK_test_annotated.txt"),
            ]),
            year => year_files(&base.join(year.year_folder()), year)?,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The subsets of a year, by name.
fn year_files(dir: &Path, name: StsName) -> Result<Option<Source>, DatasetError> {
    if !dir.is_dir() {
        return Ok(None);
    }
    let io = |source| DatasetError::Io {
        operation: "open the folder",
        path: dir.to_owned(),
        source,
    };
    let mut subsets = BTreeSet::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let file = entry.map_err(io)?.file_name();
        let file = file.to_string_lossy();
        let subset = file
            .strip_prefix("STS.input.")
            .and_then(|rest| rest.strip_suffix(".txt"));
        if let Some(subset) = subset.filter(|s| name != StsName::Sts13 || *s != "SMT") {
            subsets.insert(subset.to_owned());
        }
    }
    let files: Vec<_> = subsets
        .into_iter()
        .map(|subset| {
            let file = |kind: &str| dir.join(format!("STS.{kind}.{subset}.txt"));
            (file("input"), file("gs"), subset.clone())
        })
        .collect();
    Ok((!files.is_empty()).then_some(Source::Year(files)))
}

impl Source {
    fn load(self, name: StsName, limits: Limits) -> Result<StsTask, DatasetError> {
        let mut task = StsTask {
            name,
            splits: Vec::new(),
            reports: Vec::new(),
        };
        match self {
            Self::Table(path) => read_table(&mut task, &path, limits)?,
            Self::Year(files) => {
                for (input, scores, subset) in files {
                    read_year_subset(&mut task, &input, &scores, &subset, limits)?;
                }
            }
            Self::Parts(files) => {
                for (part, path) in files {
                    if name == StsName::StsB {
                        read_benchmark(&mut task, part, &path, limits)?;
                    } else {
                        read_sick(&mut task, part, &path, limits)?;
                    }
                }
            }
        }
        Ok(task)
    }
}

/// What a row becomes part of.
struct Place<'a> {
    part: StsPart,
    subset: &'a str,
    path: &'a Path,
    line: u64,
}

/// Checks a row and adds it to the task.
fn push(
    task: &mut StsTask,
    tally: &mut RowTally,
    place: &Place<'_>,
    score: Option<&str>,
    [first, second]: [&str; 2],
) -> Result<(), DatasetError> {
    let score = score.map(str::trim).filter(|score| !score.is_empty());
    let Some(score) = score else {
        if !task.name.may_lack_scores() {
            return Err(DatasetError::MissingScore {
                path: place.path.to_owned(),
                line: place.line,
            });
        }
        tally.note(UNSCORED_NOTE, true, place.line);
        return Ok(());
    };
    let value = parse_score(place.path, place.line, score, task.name.range())?;
    let (first, second) = (tidy(first), tidy(second));
    if first.is_empty() || second.is_empty() {
        return Err(DatasetError::EmptyText {
            path: place.path.to_owned(),
            line: place.line,
        });
    }
    tally.keep(&[&first, &second], score);
    let pair = ScoredPair {
        first,
        second,
        score: value,
    };
    task.add(place.part, place.subset, pair);
    Ok(())
}

fn read_table(task: &mut StsTask, path: &Path, limits: Limits) -> Result<(), DatasetError> {
    const NAMES: [&str; 5] = ["split", "subset", "score", "sentence1", "sentence2"];
    let file = TextFile::read(path, limits)?;
    let mut tally = RowTally::default();
    let header = |names: &[String]| {
        let mut at = [0; 5];
        for (at, name) in at.iter_mut().zip(NAMES) {
            *at = column(names, &[name])
                .ok_or_else(|| header_error(&file, &NAMES.join(" "), &names.join(" ")))?;
        }
        Ok(at)
    };
    let layout = Layout::Tabs { header: true };
    let scan = for_each_record(&file, layout, limits, header, |columns, record| {
        let [split, subset, score, first, second] = *columns;
        let name = record.value(split)?.unwrap_or_default();
        let place = Place {
            part: StsPart::parse(name)
                .ok_or_else(|| bad_label(path, record.line, name, "train, dev, trial or test"))?,
            subset: record.value(subset)?.unwrap_or_default(),
            path,
            line: record.line,
        };
        let texts = [record.required_text(first)?, record.required_text(second)?];
        push(task, &mut tally, &place, record.value(score)?, texts)
    })?;
    task.reports.push(tally.finish(file, scan)?);
    Ok(())
}

/// One subset of a year: a file of pairs and a file of scores, line by line.
fn read_year_subset(
    task: &mut StsTask,
    input: &Path,
    scores: &Path,
    subset: &str,
    limits: Limits,
) -> Result<(), DatasetError> {
    let file = TextFile::read(input, limits)?;
    let gold = TextFile::read(scores, limits)?;
    let (found, expected) = (gold.text.lines().count(), file.text.lines().count());
    if found != expected {
        return Err(DatasetError::LineCount {
            path: scores.to_owned(),
            found,
            other: input.to_owned(),
            expected,
        });
    }
    let mut tally = RowTally::default();
    let mut scan = Scan::new(Form::TsvPlain);
    for ((line, content), score) in (1_u64..).zip(file.text.lines()).zip(gold.text.lines()) {
        scan.rows_read += 1;
        let fields: Vec<&str> = content.split('\t').collect();
        let [first, second] = fields[..] else {
            return Err(ragged(&file, line, 2, fields.len()));
        };
        // A bad score is in the other file, on the same line.
        let place = Place {
            part: StsPart::Test,
            subset,
            path: scores,
            line,
        };
        push(task, &mut tally, &place, Some(score), [first, second])?;
    }
    task.reports.push(tally.finish(file, scan)?);
    Ok(())
}

/// STS-B as published: tabs, no header, genre, file, year, id, score, two sentences and perhaps
/// their sources.
fn read_benchmark(
    task: &mut StsTask,
    part: StsPart,
    path: &Path,
    limits: Limits,
) -> Result<(), DatasetError> {
    let file = TextFile::read(path, limits)?;
    let mut tally = RowTally::default();
    let mut scan = Scan::new(Form::TsvPlain);
    for (line, _, content) in lines(&file.text) {
        if content.trim().is_empty() {
            scan.blank.push(line);
            continue;
        }
        scan.rows_read += 1;
        let fields: Vec<&str> = content.split('\t').collect();
        let [genre, origin, year, _, score, first, second, ..] = fields[..] else {
            return Err(ragged(&file, line, 7, fields.len()));
        };
        let place = Place {
            part,
            subset: &format!("{genre}:{origin}:{year}"),
            path,
            line,
        };
        push(task, &mut tally, &place, Some(score), [first, second])?;
    }
    task.reports.push(tally.finish(file, scan)?);
    Ok(())
}

/// SICK as published: header, pair number, two sentences, relatedness and entailment.
fn read_sick(
    task: &mut StsTask,
    part: StsPart,
    path: &Path,
    limits: Limits,
) -> Result<(), DatasetError> {
    let file = TextFile::read(path, limits)?;
    let mut tally = RowTally::default();
    let header = |names: &[String]| {
        let find = |name: &str| {
            column(names, &[name]).ok_or_else(|| {
                let expected = "pair_ID sentence_A sentence_B relatedness_score ...";
                header_error(&file, expected, &names.join(" "))
            })
        };
        Ok([
            find("sentence_A")?,
            find("sentence_B")?,
            find("relatedness_score")?,
        ])
    };
    let layout = Layout::Tabs { header: true };
    let scan = for_each_record(&file, layout, limits, header, |columns, record| {
        let [first, second, score] = *columns;
        let place = Place {
            part,
            subset: "sick",
            path,
            line: record.line,
        };
        let texts = [record.required_text(first)?, record.required_text(second)?];
        push(task, &mut tally, &place, record.value(score)?, texts)
    })?;
    task.reports.push(tally.finish(file, scan)?);
    Ok(())
}
