//! `asterism data leaks`: training rows that occur in an evaluation set.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use datasets::leakage::{
    LeakBy, LeakIndex, LeakReport, TextRows, TextRule, load_eval_sets, load_texts,
};
use datasets::{Limits, RowsReport, StsPart};
use serde::Serialize;

use crate::error::CliError;
use crate::output::Output;

/// Find training rows that occur in an evaluation set.
///
/// Compares every training file with every evaluation set, pairs in either order and single
/// sentences, and prints how many rows of each side the other one has.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Training files: .txt, .tsv, .csv, .jsonl or .json, also with .gz.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    train: Vec<PathBuf>,
    /// Folders of STS or transfer tasks, or single files of texts.
    #[arg(long, value_name = "DIR|FILE", num_args = 1.., required = true)]
    eval: Vec<PathBuf>,
    /// Only rows of the training files whose `split` column has this value.
    #[arg(long, value_name = "NAME")]
    train_split: Option<String>,
    /// Parts of the evaluation sets to compare with.
    #[arg(
        long,
        value_enum,
        value_name = "PART",
        value_delimiter = ',',
        default_value = "dev,test"
    )]
    eval_parts: Vec<Part>,
    /// When two texts are the same.
    #[arg(long, value_enum, default_value = "letters")]
    rule: Rule,
    /// Which training rows leak, for --clean.
    #[arg(long, value_enum, default_value = "pair")]
    by: By,
    /// Write the training files without the rows that leak into this folder.
    #[arg(long, value_name = "DIR")]
    clean: Option<PathBuf>,
    /// Write into a folder that is not empty.
    #[arg(long, requires = "clean")]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Part {
    Train,
    Dev,
    Test,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Rule {
    /// Equal in lower case without punctuation and spaces.
    Letters,
    /// Equal in lower case without punctuation.
    Words,
    /// Equal as written.
    Exact,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    /// Rows with a pair of an evaluation set (a row of one text: with its sentence).
    Pair,
    /// Rows with a sentence of an evaluation set.
    Sentence,
}

#[derive(Serialize)]
struct Entry {
    /// The training file; none for all together.
    file: Option<RowsReport>,
    leaks: LeakReport,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let entries = compare(args)?;
    let mut output = Output::stdout();
    if args.json {
        output.json(&entries)?;
    } else {
        for (at, entry) in entries.iter().enumerate() {
            if at > 0 {
                output.line("")?;
            }
            match &entry.file {
                Some(report) => output.text(report)?,
                None => output.line("all training files together")?,
            }
            output.text(&entry.leaks)?;
        }
    }
    output.flush()
}

/// One entry for each training file, and one for all together if there are several.
fn compare(args: &Args) -> Result<Vec<Entry>, CliError> {
    let limits = Limits::default();
    let parts: Vec<StsPart> = args
        .eval_parts
        .iter()
        .map(|part| match part {
            Part::Train => StsPart::Train,
            Part::Dev => StsPart::Dev,
            Part::Test => StsPart::Test,
        })
        .collect();
    let rule = match args.rule {
        Rule::Letters => TextRule::Letters,
        Rule::Words => TextRule::Words,
        Rule::Exact => TextRule::Exact,
    };
    let mut sets = Vec::new();
    for path in &args.eval {
        sets.extend(load_eval_sets(path, &parts, limits)?);
    }
    let index = LeakIndex::new(&sets, rule);
    let mut files = Vec::new();
    for path in &args.train {
        files.push(load_texts(path, args.train_split.as_deref(), limits)?);
    }
    if let Some(folder) = &args.clean {
        write_clean(folder, &files, &index, args)?;
    }
    let mut entries: Vec<Entry> = files
        .iter()
        .map(|file| Entry {
            file: Some(file.report.clone()),
            leaks: index.check(&file.rows),
        })
        .collect();
    if files.len() > 1 {
        let rows = files.iter().flat_map(|file| &file.rows);
        entries.push(Entry {
            file: None,
            leaks: index.check(rows),
        });
    }
    Ok(entries)
}

/// Writes every file under its own name; a name that occurs again gets its position in front.
fn write_clean(
    folder: &Path,
    files: &[TextRows],
    index: &LeakIndex,
    args: &Args,
) -> Result<(), CliError> {
    std::fs::create_dir_all(folder).map_err(CliError::file("create", folder))?;
    let mut entries = std::fs::read_dir(folder).map_err(CliError::file("open", folder))?;
    if entries.next().is_some() && !args.force {
        return Err(CliError::NotEmpty {
            path: folder.to_owned(),
        });
    }
    let by = match args.by {
        By::Pair => LeakBy::Pair,
        By::Sentence => LeakBy::Sentence,
    };
    let mut names = BTreeSet::new();
    for (position, file) in (1_usize..).zip(files) {
        let mut name = file.report.path.file_name().unwrap_or_default().to_owned();
        if !names.insert(name.clone()) {
            let mut numbered = OsString::from(format!("{position}-"));
            numbered.push(&name);
            name = numbered;
        }
        let path = folder.join(name);
        let written = file.write_filtered(&path, |texts| !index.leaks(texts, by))?;
        eprintln!(
            "{}: {written} rows written, {} left out",
            path.display(),
            file.rows.len() - written
        );
    }
    Ok(())
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
    fn every_file_and_all_together_are_compared_and_cleaned() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        write(
            "sts/stsb.tsv",
            "split\tsubset\tscore\tsentence1\tsentence2\n\
             train\tx\t1\tA dog runs.\tA dog sits.\n\
             test\tx\t2\tIt rains.\tIt pours.\n",
        );
        let nli = write(
            "nli.csv",
            "sent0,sent1\n\"it pours!\",IT RAINS\na dog runs,a dog sits\nit rains,no\n",
        );
        let again = write("other/nli.csv", "sent0,sent1\nnew,text\n");
        let text = write("text.txt", "It rains\r\nsomething else\r\n");
        let clean = dir.path().join("clean");
        let line = |more: &[&str]| {
            let mut words = vec!["leaks".to_owned(), "--train".to_owned()];
            words.extend([&nli, &again, &text].map(|path| path.display().to_string()));
            words.extend([
                "--eval".to_owned(),
                dir.path().join("sts").display().to_string(),
            ]);
            words.extend(["--clean".to_owned(), clean.display().to_string()]);
            words.extend(more.iter().map(|word| (*word).to_owned()));
            compare(&Line::try_parse_from(words).unwrap().args)
        };
        let entries = line(&[]).unwrap();
        let counts = |entry: &Entry| (entry.leaks.train_with_pair, entry.leaks.train_with_sentence);
        assert_eq!(
            entries.iter().map(counts).collect::<Vec<_>>(),
            [(1, 2), (0, 0), (0, 1), (1, 3)]
        );
        assert_eq!(entries[3].leaks.sets.len(), 1);
        let read = |name: &str| std::fs::read_to_string(clean.join(name)).unwrap();
        assert_eq!(
            read("nli.csv"),
            "sent0,sent1\na dog runs,a dog sits\nit rains,no\n"
        );
        assert_eq!(read("2-nli.csv"), "sent0,sent1\nnew,text\n");
        assert_eq!(read("text.txt"), "something else\n");

        // The folder is not empty any more.
        assert!(matches!(line(&[]), Err(CliError::NotEmpty { .. })));
        let entries = line(&[
            "--force",
            "--by",
            "sentence",
            "--eval-parts",
            "train,dev,test",
        ])
        .unwrap();
        assert_eq!(counts(&entries[0]), (2, 3));
        assert_eq!(read("nli.csv"), "sent0,sent1\n");
        let entries = line(&["--force", "--rule", "exact"]).unwrap();
        assert_eq!(counts(&entries[0]), (0, 0));
    }
}
