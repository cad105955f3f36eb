//! `asterism data check`: loads a data set and prints what the loader saw.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use datasets::kind::{FileKind, file_kind};
use datasets::sts::sts_names;
use datasets::transfer::transfer_names;
use datasets::{
    Limits, LoadOptions, NgcseOptions, NliOptions, RowNeed, RowsReport, ScoredOptions,
    SentenceOptions, load_category_dir, load_ngcse, load_nli, load_pairs, load_scored,
    load_sentences, load_sts_dir, load_transfer_dir,
};
use serde::Serialize;

use crate::error::CliError;
use crate::output::Output;

/// Load a data set and print what is in it.
///
/// Rows, categories, skipped lines, duplicates, rows shared by training and test, SHA-256. Anything
/// that training would refuse is an error here, with file and line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with train and test files (.tsv, .csv or .jsonl, also with .gz), `pocket`, folder of
    /// STS or transfer tasks, or a file of sentences, pairs or triplets.
    #[arg(value_name = "DIR|FILE|pocket")]
    data: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// What the data is for, if its names do not tell.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Only rows of an NLI or scored file whose `split` column has this value.
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Accept NGCSE rows with other keys than the first row of their split.
    #[arg(long)]
    lenient_keys: bool,
    /// Refuse rows with a wrong number of fields where they would be skipped.
    #[arg(long)]
    strict_tsv: bool,
    /// Skip rows with an empty text instead of refusing them.
    #[arg(long)]
    skip_empty_text: bool,
    /// Skip test rows with a fine label that the training file does not have.
    #[arg(long)]
    skip_unseen_fine: bool,
    /// Column or field of the text in .csv and .jsonl.
    #[arg(long, value_name = "NAME", default_value = "text")]
    text_column: String,
    /// Column or field of the coarse label in .csv and .jsonl.
    #[arg(long, value_name = "NAME", default_value = "coarse")]
    coarse_column: String,
    /// Column or field of the fine label in .csv and .jsonl.
    #[arg(long, value_name = "NAME", default_value = "fine")]
    fine_column: String,
}

/// What data is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Texts with coarse and fine categories (folder).
    Categories,
    /// STS tasks (folder).
    Sts,
    /// Transfer tasks (folder).
    Transfer,
    /// Training sentences, pairs or triplets.
    Sentences,
    /// Training pairs or triplets.
    Pairs,
    /// Training triplets.
    Triplets,
    /// Sentences with graded companions.
    Ngcse,
    /// Premises, hypotheses and labels.
    Nli,
    /// Training pairs with scores.
    Scored,
    /// Queries and documents.
    Retrieval,
}

/// One part of a task.
#[derive(Serialize)]
struct Part {
    task: &'static str,
    part: &'static str,
    rows: usize,
    /// Subsets of an STS part with their numbers of pairs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subsets: Vec<(String, usize)>,
}

/// Tasks or files, as the loaders saw them.
#[derive(Serialize)]
struct Seen {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
    files: Vec<RowsReport>,
}

impl Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in &self.parts {
            writeln!(f, "{:<6} {:<6} {:>7} rows", part.task, part.part, part.rows)?;
            // The subsets of STS-B are as many as its sources; the years have a handful.
            if (2..=8).contains(&part.subsets.len()) {
                for (name, pairs) in &part.subsets {
                    writeln!(f, "       {name:<20} {pairs:>7}")?;
                }
            }
        }
        for report in &self.files {
            write!(f, "{report}")?;
        }
        Ok(())
    }
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    if args.data == "pocket" {
        return print(&datasets::pocket()?.report, args.json);
    }
    let path = PathBuf::from(&args.data);
    let kind = match args.kind {
        Some(kind) => kind,
        None if path.is_file() => match file_kind(&path, Limits::default())? {
            FileKind::Sentences => Kind::Sentences,
            FileKind::Ngcse => Kind::Ngcse,
            FileKind::Nli => Kind::Nli,
            FileKind::Scored => Kind::Scored,
            FileKind::Retrieval => Kind::Retrieval,
        },
        None => folder_kind(&path)?,
    };
    let json = args.json;
    if kind == Kind::Categories {
        let options = LoadOptions {
            strict_tsv: args.strict_tsv,
            skip_empty_text: args.skip_empty_text,
            skip_unseen_fine: args.skip_unseen_fine,
            text_column: args.text_column,
            coarse_column: args.coarse_column,
            fine_column: args.fine_column,
            ..LoadOptions::default()
        };
        return print(&load_category_dir(&path, &options)?.report, json);
    }
    print(&see(kind, path, args)?, json)
}

/// The kind of a folder: whatever is not a folder of tasks is one of categories, whose loader says
/// what is missing.
fn folder_kind(path: &Path) -> Result<Kind, CliError> {
    let train = ["tsv", "csv", "jsonl", "tsv.gz", "csv.gz", "jsonl.gz"]
        .map(|ending| path.join(format!("train.{ending}")));
    Ok(if train.iter().any(|file| file.is_file()) {
        Kind::Categories
    } else if !sts_names(path)?.is_empty() {
        Kind::Sts
    } else if !transfer_names(path).is_empty() {
        Kind::Transfer
    } else {
        Kind::Categories
    })
}

fn see(kind: Kind, path: PathBuf, args: Args) -> Result<Seen, CliError> {
    let limits = Limits::default();
    let sentences = |need| {
        let options = SentenceOptions { need, limits };
        load_sentences(&path, &options).map(|rows| vec![rows.report])
    };
    let mut parts = Vec::new();
    let files = match kind {
        // Handled by the caller; a folder of categories has no report of this kind.
        Kind::Categories => Vec::new(),
        Kind::Sts => {
            let mut reports = Vec::new();
            for task in load_sts_dir(&path, limits)? {
                parts.extend(task.splits.iter().map(|split| {
                    Part {
                        task: task.name.name(),
                        part: split.part.name(),
                        rows: split.len(),
                        subsets: split
                            .subsets
                            .iter()
                            .map(|subset| (subset.name.clone(), subset.pairs.len()))
                            .collect(),
                    }
                }));
                reports.extend(task.reports);
            }
            reports
        }
        Kind::Transfer => {
            let mut reports = Vec::new();
            for task in load_transfer_dir(&path, limits)? {
                parts.extend(task.parts().into_iter().map(|(part, rows)| Part {
                    task: task.name.name(),
                    part,
                    rows: rows.len(),
                    subsets: Vec::new(),
                }));
                reports.extend(task.reports);
            }
            reports
        }
        Kind::Sentences => sentences(RowNeed::Sentences)?,
        Kind::Pairs => sentences(RowNeed::Pairs)?,
        Kind::Triplets => sentences(RowNeed::Triplets)?,
        Kind::Ngcse => {
            let options = NgcseOptions {
                lenient_keys: args.lenient_keys,
                limits,
            };
            vec![load_ngcse(&path, &options)?.report]
        }
        Kind::Nli => {
            let options = NliOptions {
                split: args.split,
                ..NliOptions::default()
            };
            load_nli(&[path], &options)?.reports
        }
        Kind::Scored => {
            let options = ScoredOptions {
                split: args.split,
                ..ScoredOptions::default()
            };
            load_scored(&[path], &options)?.reports
        }
        Kind::Retrieval => {
            let pairs = load_pairs(&path, limits)?;
            parts.push(Part {
                task: "pairs",
                part: "all",
                rows: pairs.report.rows_kept,
                subsets: vec![
                    ("queries".to_owned(), pairs.queries.len()),
                    ("documents".to_owned(), pairs.documents.len()),
                ],
            });
            vec![pairs.report]
        }
    };
    Ok(Seen { parts, files })
}

fn print(report: &(impl Display + Serialize), json: bool) -> Result<(), CliError> {
    let mut output = Output::stdout();
    if json {
        output.json(report)?;
    } else {
        output.text(report)?;
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn tasks_and_files_are_seen_as_their_loaders_see_them() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        let see = |kind, path: &Path| {
            let args = Line::try_parse_from(["check", "x"]).unwrap().args;
            see(kind, path.to_owned(), args)
        };
        write(
            "sts/sts12.tsv",
            "split\tsubset\tscore\tsentence1\tsentence2\ntest\ta\t1\tb\tc\ntest\td\t\te\tf\ntest\td\t2\te\tf\n",
        );
        write("transfer/cr.tsv", "label\ttext\n1\tgood\n");
        write("own/train.tsv", "text\tcoarse\n");
        for (folder, kind) in [
            ("sts", Kind::Sts),
            ("transfer", Kind::Transfer),
            ("own", Kind::Categories),
            ("nothing", Kind::Categories),
        ] {
            assert_eq!(folder_kind(&dir.path().join(folder)).unwrap(), kind);
        }
        let seen = see(Kind::Sts, &dir.path().join("sts")).unwrap();
        let shown = seen.to_string();
        for part in [
            "STS12  test         2 rows",
            "pairs without a score, skipped: 1 (line 3)",
        ] {
            assert!(shown.contains(part), "{shown}");
        }
        let seen = see(Kind::Transfer, &dir.path().join("transfer")).unwrap();
        assert_eq!((seen.parts[0].task, seen.parts[0].rows), ("CR", 1));

        let text = write("a.txt", "one\ntwo\n");
        let seen = see(Kind::Sentences, &text).unwrap();
        assert_eq!(seen.files[0].rows_kept, 2);
        for kind in [Kind::Pairs, Kind::Triplets, Kind::Retrieval] {
            let error = see(kind, &text).err().unwrap();
            assert!(
                matches!(
                    &error,
                    CliError::Dataset(datasets::DatasetError::PairsNeeded { .. })
                ),
                "{error:?}"
            );
        }
        let pairs = write("pairs.tsv", "q\td\nq\te\n");
        let seen = see(Kind::Retrieval, &pairs).unwrap();
        assert!(seen.to_string().contains("queries                    1"));
    }
}
