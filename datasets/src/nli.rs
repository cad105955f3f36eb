//! Natural language inference: premise, hypothesis and one of three labels.
//!
//! `.tsv` (and `.txt`, as SNLI calls it: tabs, header, no quoting), `.csv`, `.jsonl` and `.json`, each also with `.gz`. Columns are found by
//! name: `gold_label` or `label`; `premise` or `sentence1`; `hypothesis` or `sentence2`; others are
//! ignored. A label is a name or a number, see [`NliNumbers`]. Rows whose annotators did not agree
//! (`-`, an empty label or -1) are left out and counted.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::DatasetError;
use crate::records::{Layout, PartFilter, RowTally, bad_label, column, for_each_record, split_of};
use crate::report::RowsReport;
use crate::table::{Limits, TextFile, header_error};

/// The note on rows without a gold label.
pub const UNLABELLED_NOTE: &str = "rows without a gold label, skipped";

/// Relation of a hypothesis to its premise, in the order of regression STS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NliLabel {
    /// Cannot be true if the premise is: 0.
    Contradiction,
    /// Neither: 1.
    Neutral,
    /// Follows from the premise: 2.
    Entailment,
}

impl NliLabel {
    /// The name in data files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Contradiction => "contradiction",
            Self::Neutral => "neutral",
            Self::Entailment => "entailment",
        }
    }

    /// The regression target: 0, 1 or 2.
    pub fn value(self) -> u8 {
        self as u8
    }
}

/// What a number in the label column means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NliNumbers {
    /// 0 contradiction, 1 neutral, 2 entailment (regression STS).
    #[default]
    Ascending,
    /// 0 entailment, 1 neutral, 2 contradiction (SNLI and MNLI as distributed for `datasets` in
    /// Python).
    Descending,
}

/// How to read NLI files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NliOptions {
    /// What numbers mean.
    pub numbers: NliNumbers,
    /// Only rows whose `split` column has this value.
    pub split: Option<String>,
    /// Memory limits.
    pub limits: Limits,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NliPair {
    /// The relation.
    pub label: NliLabel,
    /// What is taken as true.
    pub premise: String,
    /// What is judged.
    pub hypothesis: String,
}

/// Rows of one or several files, in the order given.
#[derive(Debug, Clone, PartialEq)]
pub struct NliRows {
    /// The rows.
    pub pairs: Vec<NliPair>,
    /// What the loader saw, one entry a file.
    pub reports: Vec<RowsReport>,
}

impl NliRows {
    /// Rows of each label: contradiction, neutral, entailment.
    pub fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for pair in &self.pairs {
            if let Some(count) = counts.get_mut(usize::from(pair.label.value())) {
                *count += 1;
            }
        }
        counts
    }
}

/// Loads NLI files one after the other.
///
/// # Errors
/// [`DatasetError`]: an unreadable file, a header without the columns, an empty text, an unknown
/// label, no row of the split asked for.
///
/// ```
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("dev.csv");
/// std::fs::write(&path, "gold_label,sentence1,sentence2\nneutral,A dog.,A brown dog.\n-,A.,B.\n")?;
/// let rows = datasets::load_nli(&[path], &datasets::NliOptions::default())?;
/// assert_eq!(rows.counts(), [0, 1, 0]);
/// assert_eq!(rows.reports[0].rows_skipped(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load_nli(paths: &[PathBuf], options: &NliOptions) -> Result<NliRows, DatasetError> {
    let mut rows = NliRows {
        pairs: Vec::new(),
        reports: Vec::new(),
    };
    for path in paths {
        let report = load_file(path, options, &mut rows.pairs)?;
        rows.reports.push(report);
    }
    Ok(rows)
}

fn load_file(
    path: &Path,
    options: &NliOptions,
    pairs: &mut Vec<NliPair>,
) -> Result<RowsReport, DatasetError> {
    let layout = Layout::of_table(path)?;
    let file = TextFile::read(path, options.limits)?;
    let mut tally = RowTally::default();
    let mut filter = PartFilter::new(options.split.as_deref());
    let header = |names: &[String]| {
        let find = |accepted: &[&str]| {
            column(names, accepted).ok_or_else(|| {
                let expected = "columns `gold_label` or `label`, `premise` or `sentence1`, `hypothesis` or `sentence2`";
                header_error(&file, expected, &names.join(" "))
            })
        };
        let columns = [
            find(&["gold_label", "label"])?,
            find(&["premise", "sentence1"])?,
            find(&["hypothesis", "sentence2"])?,
        ];
        Ok((columns, split_of(names)))
    };
    let scan = for_each_record(&file, layout, options.limits, header, |columns, record| {
        let ([label, premise, hypothesis], split) = *columns;
        if !filter.takes(record, split)? {
            return Ok(());
        }
        let written = record.value(label)?.unwrap_or("-");
        let Some(label) = parse_label(path, record.line, written, options.numbers)? else {
            tally.note(UNLABELLED_NOTE, true, record.line);
            return Ok(());
        };
        let pair = NliPair {
            label,
            premise: record.required_text(premise)?.to_owned(),
            hypothesis: record.required_text(hypothesis)?.to_owned(),
        };
        tally.keep(&[&pair.premise, &pair.hypothesis], label.name());
        pairs.push(pair);
        Ok(())
    })?;
    filter.check(path)?;
    tally.finish(file, filter.apply(scan))
}

fn parse_label(
    path: &Path,
    line: u64,
    written: &str,
    numbers: NliNumbers,
) -> Result<Option<NliLabel>, DatasetError> {
    use NliLabel::{Contradiction, Entailment, Neutral};
    let unknown = || {
        bad_label(
            path,
            line,
            written,
            "contradiction, neutral, entailment, 0, 1, 2, or `-` for none",
        )
    };
    match written {
        "-" => return Ok(None),
        "contradiction" => return Ok(Some(Contradiction)),
        "neutral" => return Ok(Some(Neutral)),
        "entailment" => return Ok(Some(Entailment)),
        _ => {}
    }
    let number: f64 = written.parse().map_err(|_| unknown())?;
    let ascending = match number {
        -1.0 => return Ok(None),
        0.0 => Contradiction,
        1.0 => Neutral,
        2.0 => Entailment,
        _ => return Err(unknown()),
    };
    Ok(Some(match (numbers, ascending) {
        (NliNumbers::Ascending, label) => label,
        (NliNumbers::Descending, Contradiction) => Entailment,
        (NliNumbers::Descending, Neutral) => Neutral,
        (NliNumbers::Descending, Entailment) => Contradiction,
    }))
}

/// A premise with a hypothesis that follows and one that cannot be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NliTriplet {
    /// The premise.
    pub anchor: String,
    /// An entailed hypothesis.
    pub positive: String,
    /// A contradicted hypothesis.
    pub hard_negative: String,
}

/// Which triplets a premise gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TripletRule {
    /// One: its first entailed and its first contradicted hypothesis.
    FirstOfEach,
    /// One for each entailed hypothesis, with a contradicted one drawn at random (SimCSE, section 4).
    EveryEntailment {
        /// Seed of the draws.
        seed: u64,
    },
}

/// Triplets of the premises that have both an entailed and a contradicted hypothesis, in the order in
/// which the premises first occur. Premises are the same if they are equal as strings.
///
/// ```
/// use datasets::nli::{NliLabel, NliPair, TripletRule, triplets};
///
/// let pair = |label, hypothesis: &str| NliPair {
///     label,
///     premise: "A man sleeps.".to_owned(),
///     hypothesis: hypothesis.to_owned(),
/// };
/// let pairs = [
///     pair(NliLabel::Contradiction, "He runs."),
///     pair(NliLabel::Entailment, "Someone sleeps."),
/// ];
/// let found = triplets(&pairs, TripletRule::FirstOfEach);
/// assert_eq!(found[0].positive, "Someone sleeps.");
/// assert_eq!(found[0].hard_negative, "He runs.");
/// ```
pub fn triplets(pairs: &[NliPair], rule: TripletRule) -> Vec<NliTriplet> {
    /// Hypotheses of a premise.
    struct Group<'a> {
        premise: &'a str,
        entailed: Vec<&'a str>,
        contradicted: Vec<&'a str>,
    }
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut index: HashMap<&str, usize> = HashMap::new();
    for pair in pairs {
        let at = *index.entry(&pair.premise).or_insert_with(|| {
            groups.push(Group {
                premise: &pair.premise,
                entailed: Vec::new(),
                contradicted: Vec::new(),
            });
            groups.len() - 1
        });
        let Some(group) = groups.get_mut(at) else {
            continue;
        };
        match pair.label {
            NliLabel::Entailment => group.entailed.push(&pair.hypothesis),
            NliLabel::Contradiction => group.contradicted.push(&pair.hypothesis),
            NliLabel::Neutral => {}
        }
    }
    let triplet = |group: &Group<'_>, positive: &str, hard_negative: &str| NliTriplet {
        anchor: group.premise.to_owned(),
        positive: positive.to_owned(),
        hard_negative: hard_negative.to_owned(),
    };
    let mut out = Vec::new();
    match rule {
        TripletRule::FirstOfEach => {
            for group in &groups {
                if let (Some(positive), Some(negative)) =
                    (group.entailed.first(), group.contradicted.first())
                {
                    out.push(triplet(group, positive, negative));
                }
            }
        }
        TripletRule::EveryEntailment { seed } => {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            for group in &groups {
                for positive in &group.entailed {
                    if let Some(negative) = draw(&group.contradicted, &mut rng) {
                        out.push(triplet(group, positive, negative));
                    }
                }
            }
        }
    }
    out
}

fn draw<'a>(texts: &[&'a str], rng: &mut impl Rng) -> Option<&'a str> {
    texts.choose(rng).copied()
}
