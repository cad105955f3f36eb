//! `asterism datagen simulate`: companions of sentences for NGCSE.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use ::datagen::chat::Spent;
use ::datagen::job::{Checks, RejectReport, TextChecks, digest};
use ::datagen::rules::RuleBased;
use ::datagen::simulation::{
    Demonstrations, NliTriplet, Pattern, Prompts, RowCounts, RowWriter, Sampling, ScoredSentences,
    Simulation, SourceSentence, SourceSentences,
};
use datasets::hash::sha256_file;
use datasets::kind::{FileKind, file_kind};
use datasets::nli::{TripletRule, triplets};
use datasets::{
    DatasetError, LabelQuantize, Limits, NliOptions, RowNeed, ScoredOptions, SentenceOptions,
    load_nli, load_scored, load_sentences,
};
use serde::Serialize;

use super::ask::{AskArgs, Asking, Source};
use super::error::DatagenError;
use crate::error::CliError;
use crate::output::Output;

/// Format of the report.
const SCHEMA: &str = "asterism/simulation/1";

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum PatternName {
    /// Entailment and contradiction.
    Nli,
    /// The same, less, something else.
    Sts,
}

/// Write companions of sentences: training data for NGCSE.
///
/// For every sentence the source is asked once for each relation of the pattern; answers are checked
/// and, if refused, asked again. OUT gets one row for each sentence with an answer to every relation,
/// OUT.report.json everything needed to repeat the job. A job that is killed or interrupted goes on
/// with --resume and asks nothing twice.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Similarity pattern.
    #[arg(long, value_enum)]
    pattern: PatternName,
    /// Sentences: .txt with one a line, or the first column of .csv, .tsv, .jsonl; premises of an NLI
    /// file. Repeats and blank ones are left out.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// File to write, .jsonl.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace OUT.
    #[arg(long)]
    force: bool,
    /// Only N sentences, drawn with the seed; a larger N keeps those of a smaller one.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Also write N of the remaining sentences without companions, for training on both.
    #[arg(long, value_name = "N", requires = "limit", default_value_t = 0)]
    others: usize,
    /// Seed of the sentences drawn and of the demonstrations.
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Pattern source that three demonstrations of each relation are drawn from: NLI rows or triplets,
    /// scored pairs for sts (scores 0 to 5; rows of the split `train` where there is one). Without it
    /// the program has demonstrations of its own.
    #[arg(long, value_name = "FILE")]
    demos: Option<PathBuf>,
    /// Folder with prompts to use instead of the program's, see `asterism datagen prompts`.
    #[arg(long, value_name = "DIR")]
    prompts: Option<PathBuf>,
    /// Temperature of the model. At 0 a refused answer is likely to come again.
    #[arg(long, value_name = "X", default_value_t = Sampling::default().temperature, value_parser = temperature)]
    temperature: f64,
    /// Longest answer, in the model's tokens.
    #[arg(long, value_name = "N", default_value_t = Sampling::default().max_tokens, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    max_tokens: u32,
    /// Print one prompt of each relation, the number of calls and about what they cost; ask nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    ask: AskArgs,
}

fn temperature(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=2.0).contains(&value) => Ok(value),
        _ => Err("a temperature is a number from 0 to 2".to_owned()),
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let source = args.ask.source()?;
    let pattern = match args.pattern {
        PatternName::Nli => Pattern::Nli,
        PatternName::Sts => Pattern::Sts,
    };
    let demonstrations = match &args.demos {
        Some(path) => demonstrations(path, pattern, args.seed)?,
        None => Demonstrations::bundled(pattern),
    };
    let prompts = match &args.prompts {
        Some(folder) => Prompts::from_folder(folder).map_err(DatagenError::from)?,
        None => Prompts::shipped(),
    };
    let sampling = Sampling {
        temperature: args.temperature,
        max_tokens: args.max_tokens,
    };
    let simulation =
        Simulation::new(&prompts, &demonstrations, sampling).map_err(DatagenError::from)?;
    let all = SourceSentences::new(texts(&args.input)?);
    let (blank, repeated) = (all.blank, all.repeated);
    let corpus = match source {
        Source::Rules => texts_of(&all.sentences),
        Source::Server | Source::Replay => Vec::new(),
    };
    let (sentences, others) = all.draw(args.limit, args.others, args.seed);
    if args.dry_run {
        return dry_run(args, &simulation, &sentences);
    }
    if args.out.exists() && !args.force && !args.ask.resume {
        let path = args.out.clone();
        return Err(DatagenError::Exists { path }.into());
    }
    let asking = args.ask.open(&args.out, || {
        Ok(Box::new(RuleBased::new(args.seed, corpus)))
    })?;
    let checks = TextChecks::default();
    let part = beside(&args.out, ".part");
    let written = write_rows(&asking, &simulation, &sentences, &others, &checks, &part);
    let (rows, rejects, spent) = match written {
        Ok(written) => written,
        Err(error) => {
            // Half a file would only be mistaken for a whole one; the answers are in the journal.
            let _ = std::fs::remove_file(&part);
            return Err(error);
        }
    };
    let hash = |path: &Path| sha256_file(path).map_err(CliError::file("read", path));
    let file = |path: &Path| -> Result<FileEntry, CliError> {
        Ok(FileEntry {
            file: path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned()),
            sha256: hash(path)?.0,
        })
    };
    let mut output = file(&part)?;
    std::fs::rename(&part, &args.out).map_err(CliError::file("write", &args.out))?;
    output.file = args
        .out
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let report = Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        pattern: pattern.name(),
        source: source.name(),
        model: asking.source.name(),
        temperature: args.temperature,
        max_tokens: args.max_tokens,
        retries: args.ask.retries,
        seed: args.seed,
        limit: args.limit,
        prompts: simulation
            .systems()
            .iter()
            .map(|(relation, system)| (relation.kind(), digest(system)))
            .collect(),
        demonstrations: &demonstrations,
        pattern_source: args.demos.as_deref().map(file).transpose()?,
        input: file(&args.input)?,
        blank,
        repeated,
        checks: &checks,
        output,
        rows,
        spent,
        cost: args.ask.cost(spent),
        rejects: &rejects,
    };
    let path = beside(&args.out, ".report.json");
    let mut json = serde_json::to_vec_pretty(&report)
        .map_err(io::Error::from)
        .map_err(CliError::file("write", &path))?;
    json.push(b'\n');
    std::fs::write(&path, json).map_err(CliError::file("write", &path))?;
    if !args.ask.quiet {
        summary(&rows, &rejects);
    }
    super::print_paths(&[args.out.clone(), path])
}

fn texts_of(sentences: &[SourceSentence]) -> Vec<String> {
    sentences
        .iter()
        .map(|sentence| sentence.text.clone())
        .collect()
}

/// What a reader needs to repeat the job. Nothing in it depends on interruptions or on time.
#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    version: &'static str,
    pattern: &'static str,
    source: &'static str,
    model: &'a str,
    temperature: f64,
    max_tokens: u32,
    retries: u32,
    seed: u64,
    limit: Option<usize>,
    /// SHA-256 of the system text of each relation.
    prompts: BTreeMap<&'static str, String>,
    demonstrations: &'a Demonstrations,
    pattern_source: Option<FileEntry>,
    input: FileEntry,
    /// Rows of the input without a text, and with the text of an earlier one.
    blank: u64,
    repeated: u64,
    checks: &'a TextChecks,
    output: FileEntry,
    rows: RowCounts,
    /// Of all answers in the journal.
    spent: Spent,
    cost: Option<f64>,
    rejects: &'a RejectReport,
}

#[derive(Serialize)]
struct FileEntry {
    file: Option<String>,
    sha256: String,
}

/// A file beside another one.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn write_rows(
    asking: &Asking<'_>,
    simulation: &Simulation,
    sentences: &[SourceSentence],
    others: &[SourceSentence],
    checks: &TextChecks,
    path: &Path,
) -> Result<(RowCounts, RejectReport, Spent), CliError> {
    let file = File::create(path).map_err(CliError::file("make", path))?;
    let mut out = BufWriter::new(file);
    let mut rows = RowWriter::new(&mut out, simulation.pattern());
    let summary = asking
        .job(simulation.pattern().name())
        .checks(Checks::Text(checks))
        .run_each(simulation.calls(sentences), |call, answer| {
            rows.push(call, answer)
        })
        .map_err(|error| asking.failed(error))?;
    let written = others
        .iter()
        .try_for_each(|sentence| rows.other(&sentence.text))
        .and_then(|()| rows.finish())
        .and_then(|counts| {
            out.flush()?;
            out.get_ref().sync_all()?;
            Ok(counts)
        });
    let counts = written.map_err(CliError::file("write", path))?;
    Ok((counts, summary.report, summary.spent))
}

fn summary(rows: &RowCounts, rejects: &RejectReport) {
    eprint!("{rejects}");
    eprintln!(
        "{} rows, {} sentences left out for want of a companion, {} without companions",
        rows.generated, rows.incomplete, rows.other
    );
    if rejects.failed > 0 {
        eprintln!("--resume asks the failed calls again");
    }
}

/// The sentences of a file.
fn texts(path: &Path) -> Result<Vec<String>, CliError> {
    match file_kind(path, Limits::default())? {
        FileKind::Sentences => {
            let rows = load_sentences(path, &SentenceOptions::default())?;
            Ok(rows.columns().first().cloned().unwrap_or_default())
        }
        FileKind::Nli => {
            let rows = load_nli(&[path.to_owned()], &NliOptions::default())?;
            Ok(rows.pairs.into_iter().map(|pair| pair.premise).collect())
        }
        FileKind::Scored | FileKind::Ngcse | FileKind::Retrieval => Err(CliError::Option {
            option: "--input",
            problem: format!(
                "{}: expected sentences or NLI rows, found another kind of file",
                path.display()
            ),
        }),
    }
}

/// Draws demonstrations from a pattern source.
fn demonstrations(path: &Path, pattern: Pattern, seed: u64) -> Result<Demonstrations, CliError> {
    let paths = [path.to_owned()];
    let kind = file_kind(path, Limits::default())?;
    let drawn = match (pattern, kind) {
        (Pattern::Nli, FileKind::Nli) => {
            let rows = load_nli(&paths, &NliOptions::default())?;
            let triplets = triplets(&rows.pairs, TripletRule::FirstOfEach);
            let triplets: Vec<NliTriplet> = triplets
                .into_iter()
                .map(|row| NliTriplet {
                    premise: row.anchor,
                    entailment: row.positive,
                    contradiction: row.hard_negative,
                })
                .collect();
            Demonstrations::draw_nli(&triplets, seed)
        }
        (Pattern::Nli, FileKind::Sentences) => {
            let options = SentenceOptions {
                need: RowNeed::Triplets,
                ..SentenceOptions::default()
            };
            let rows = load_sentences(path, &options)?;
            let triplets: Vec<NliTriplet> = (0..rows.len())
                .filter_map(|row| match rows.texts(row)?[..] {
                    [premise, entailment, contradiction] => Some(NliTriplet {
                        premise: premise.to_owned(),
                        entailment: entailment.to_owned(),
                        contradiction: contradiction.to_owned(),
                    }),
                    _ => None,
                })
                .collect();
            Demonstrations::draw_nli(&triplets, seed)
        }
        (Pattern::Sts, FileKind::Scored) => {
            let options = |split: Option<&str>| ScoredOptions {
                quantize: LabelQuantize::None,
                split: split.map(str::to_owned),
                ..ScoredOptions::default()
            };
            // Pairs of a test split do not belong into prompts.
            let rows = match load_scored(&paths, &options(Some("train"))) {
                Err(DatasetError::NoSuchSplit { .. }) => load_scored(&paths, &options(None))?,
                rows => rows?,
            };
            let pairs: Vec<ScoredSentences> = rows
                .pairs
                .into_iter()
                .map(|pair| ScoredSentences {
                    first: pair.first,
                    second: pair.second,
                    score: pair.score,
                })
                .collect();
            Demonstrations::draw_sts(&pairs, seed)
        }
        _ => {
            let expected = match pattern {
                Pattern::Nli => "NLI rows (label, premise, hypothesis) or triplets",
                Pattern::Sts => "scored pairs (score, sentence1, sentence2)",
            };
            return Err(CliError::Option {
                option: "--demos",
                problem: format!(
                    "{}: expected {expected} for the pattern {}",
                    path.display(),
                    pattern.name()
                ),
            });
        }
    };
    Ok(drawn.map_err(DatagenError::from)?)
}

fn dry_run(
    args: &Args,
    simulation: &Simulation,
    sentences: &[SourceSentence],
) -> Result<(), CliError> {
    let mut output = Output::stdout();
    let first = sentences.get(..1).unwrap_or_default();
    for call in simulation.calls(first) {
        output.line(format_args!("--- {}, system", call.kind))?;
        output.line(&call.request.system)?;
        output.line(format_args!("--- {}, user", call.kind))?;
        output.line(&call.request.user)?;
    }
    let spent = simulation.estimate(sentences);
    output.line("---")?;
    output.line(format_args!(
        "{} calls for {} sentences; at most {} with every answer refused",
        spent.calls,
        sentences.len(),
        spent.calls.saturating_mul(u64::from(args.ask.retries) + 1)
    ))?;
    output.line(format_args!(
        "about {} prompt tokens and {} tokens of answers, at 4 bytes a token and answers as long as \
         the sentences",
        spent.prompt_tokens, spent.completion_tokens
    ))?;
    if let Some(cost) = args.ask.cost(spent) {
        output.line(format_args!("about {cost:.2} at these prices"))?;
    }
    output.flush()
}
