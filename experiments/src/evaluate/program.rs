//! The command line: a model directory and data in, tables and a result file out.

use std::collections::BTreeMap;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use clap::Args;
use datasets::{
    DatasetError, LabelQuantize, Limits, RowsReport, ScoredOptions, StsName, TransferName,
    load_pairs, load_scored, load_sts_dir, load_sts_task, load_transfer_dir, load_transfer_task,
};
use encoder::{LoadOptions, Pooling, Prompt, Prompts, SentenceEncoder, Template};
use kernels::DeviceSpec;
use metrics::TaskAverage;
use serde_json::json;

use super::tables::text;
use super::{Advance, Evaluation, Mode, Suite, encode_texts, evaluate};
use crate::cli::PrecisionArgs;
use crate::embedding::bundled;
use crate::error::RunError;
use crate::result::{DataInfo, ResultFile, Row, Timing, summarise};

/// Options of `evaluate` and `asterism evaluate`.
#[derive(Args, Clone, Debug)]
pub struct EvaluateArgs {
    /// Model directory: sentence-transformers layout, or a plain Hugging Face checkpoint; or `pocket`,
    /// the bundled encoder.
    #[arg(long, value_name = "DIR|pocket", default_value = "pocket")]
    pub model: PathBuf,
    /// Similarity tasks: sts12.tsv ... sts16.tsv, stsb.tsv, sickr.tsv, or the SentEval folders.
    #[arg(long, value_name = "DIR")]
    pub sts: Option<PathBuf>,
    /// Transfer tasks: mr.tsv, cr.tsv, subj.tsv, mpqa.tsv, sst2_*.tsv, trec_*.tsv, mrpc_*.tsv.
    #[arg(long, value_name = "DIR")]
    pub transfer: Option<PathBuf>,
    /// Your own pairs: a table with a column `score`, or queries and documents. May be repeated.
    #[arg(long, value_name = "FILE")]
    pub pairs: Vec<PathBuf>,
    /// flex, ndarray, wgpu, cuda or auto; `cuda:1` is the second GPU.
    #[arg(long, value_name = "D", default_value = "auto")]
    pub device: DeviceSpec,
    /// Products in f32 or bfloat16.
    #[command(flatten)]
    pub products: PrecisionArgs,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// sts, transfer, full, or names such as STS12,STSB,MR,TREC (default: all that the data have).
    #[arg(long, value_name = "a,b", value_delimiter = ',')]
    pub tasks: Vec<String>,
    /// dev (development parts only), test, or fasttest (test with quick classifiers).
    #[arg(long, value_name = "MODE", default_value_t = Mode::Test)]
    pub mode: Mode,
    /// cls, cls_mlp, mean, avg_top2, avg_first_last, or mask with a template (default: the model's).
    #[arg(long, value_name = "NAME")]
    pub pooling: Option<Pooling>,
    /// Sentence around every text: `{s}` stands for the text, the mask token comes last, written
    /// `[MASK]`; the pooling becomes mask.
    #[arg(long, value_name = "TEXT")]
    pub template: Option<String>,
    /// Put in front of every text: a prompt of the model by name, or any text that is more than one
    /// plain word; empty for none (default: the model's default prompt).
    #[arg(long, value_name = "NAME|TEXT")]
    pub prompt: Option<String>,
    /// Longest text in tokens, special tokens included; longer ones are cut (default: as long as the
    /// model can take).
    #[arg(long, value_name = "N", value_parser = at_least::<3>)]
    pub max_len: Option<usize>,
    /// Texts computed at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least::<1>)]
    pub batch_size: usize,
    /// Let an improvement reset the patience of the transfer classifiers; SentEval never does.
    #[arg(long)]
    pub reset_patience: bool,
    /// Average the scores as they are; the papers round each to two decimals first.
    #[arg(long)]
    pub avg_unrounded: bool,
    /// Print nothing but the tables.
    #[arg(long, short)]
    pub quiet: bool,
}

fn at_least<const N: usize>(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|value| *value >= N)
        .ok_or_else(|| format!("expected a whole number from {N}"))
}

/// Loads model and data, evaluates, prints the tables, writes the result file.
///
/// # Errors
/// [`RunError::Config`] for options that do not fit together, what loading and [`evaluate`] report.
pub fn main_with(args: &EvaluateArgs) -> Result<(), RunError> {
    let began = Instant::now();
    let model_dir = datasets::pocket::model_dir(&args.model)?;
    if let Some(path) = &args.json {
        check_folder(path)?;
    }
    let (suite, reports) = load_data(args)?;
    let encoder = load_model(args, &model_dir)?;
    let prompt = asked_prompt(args.prompt.as_deref(), &encoder)
        .map_err(|problem| RunError::Config(format!("--prompt: {problem}")))?;
    let name = name_of(&args.model);
    let mut settings = args.mode.transfer();
    settings.classifier.reset_patience = args.reset_patience;
    let line = ProgressLine::new(args.quiet);
    let evaluation = evaluate(
        &suite,
        args.mode,
        &settings,
        |texts| {
            encode_texts(&encoder, texts, args.batch_size, prompt, |done, all| {
                line.show("encode", done, all)
            })
        },
        &|Advance { stage, done, all }| line.show(stage, done, all),
    )?;
    let average = if args.avg_unrounded {
        TaskAverage::Unrounded
    } else {
        TaskAverage::Rounded
    };
    print(&format!(
        "{}\n{} texts, {} distinct, encoded in {:.1} s\n",
        text(&name, &evaluation, average)?,
        evaluation.occurrences,
        evaluation.texts,
        evaluation.encode_s
    ))?;
    if let Some(path) = &args.json {
        let mut result = result_file(args, &encoder, prompt, &name, &evaluation, &reports)?;
        result.total_s = began.elapsed().as_secs_f64();
        result.write(path)?;
    }
    Ok(())
}

/// A result that cannot be written should not take an hour to find out.
fn check_folder(path: &Path) -> Result<(), RunError> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => Err(RunError::File {
            path: path.to_owned(),
            message: format!("--json: there is no folder {}", folder.display()),
        }),
        _ => Ok(()),
    }
}

fn load_model(args: &EvaluateArgs, dir: &Path) -> Result<SentenceEncoder, RunError> {
    if !dir.is_dir() {
        return Err(RunError::File {
            path: dir.to_owned(),
            message: "not a model directory; expected a folder with config.json, \
                      model.safetensors and tokenizer.json"
                .to_owned(),
        });
    }
    let pooling = mask_for_template(args.pooling, args.template.as_deref())
        .map_err(|problem| RunError::Config(format!("--template: {problem}")))?;
    let options = LoadOptions {
        pooling,
        // The loader takes what fits, so this is all positions that the model has.
        max_len: Some(args.max_len.unwrap_or(usize::MAX)),
        precision: args.products.precision(),
        ..LoadOptions::default()
    };
    let mut encoder = SentenceEncoder::load(dir, &options, &args.device.open()?)?;
    if let Some(template) = &args.template {
        encoder.set_template(template)?;
    }
    encoder.check_pooling()?;
    let added = encoder.template.as_ref().map_or(0, Template::added);
    let positions = encoder.config.max_position_embeddings;
    let room = encoder.max_len.min(positions.saturating_sub(added));
    match args.max_len {
        Some(asked) if asked > room => Err(RunError::Config(format!(
            "--max-len: expected at most the {room} tokens that {} can take, found {asked}",
            dir.display()
        ))),
        _ => Ok(encoder),
    }
}

/// The pooling that a pooling and a template ask for together: a template needs `mask`.
///
/// # Errors
///
/// What is wrong with another pooling, for the option `--template`.
pub fn mask_for_template(
    pooling: Option<Pooling>,
    template: Option<&str>,
) -> Result<Option<Pooling>, String> {
    match (template, pooling) {
        (None, pooling) => Ok(pooling),
        (Some(_), None | Some(Pooling::Mask)) => Ok(Some(Pooling::Mask)),
        (Some(_), Some(other)) => Err(format!("goes with --pooling mask, found --pooling {other}")),
    }
}

/// The prompt asked for by the option `--prompt`, if the model can use it.
///
/// # Errors
///
/// Those of [`which_prompt`], and a prompt that leaves no room for a text, in words for the option.
pub fn asked_prompt<'a>(
    asked: Option<&'a str>,
    encoder: &SentenceEncoder,
) -> Result<Prompt<'a>, String> {
    let Some(asked) = asked else {
        return Ok(Prompt::Default);
    };
    let prompt = which_prompt(asked, &encoder.prompts)?;
    // Without texts, this says whether the model takes a prompt at all.
    encoder
        .token_ids::<&str>(&[], prompt)
        .map_err(|error| error.to_string())?;
    Ok(prompt)
}

/// The prompt that a word or text on the command line stands for. A misspelt name must not end up in
/// front of every text, so one plain word is always a name.
///
/// # Errors
///
/// There is no prompt of that name, in words for the option `--prompt`.
///
/// ```
/// use encoder::{Prompt, Prompts};
/// use experiments::evaluate::program::which_prompt;
///
/// let none = Prompts::default();
/// assert_eq!(which_prompt("query: ", &none), Ok(Prompt::Text("query: ")));
/// assert_eq!(which_prompt("", &none), Ok(Prompt::None));
/// assert!(which_prompt("query", &none).is_err());
/// ```
pub fn which_prompt<'a>(asked: &'a str, prompts: &Prompts) -> Result<Prompt<'a>, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if asked.is_empty() {
        return Ok(Prompt::None);
    }
    if prompts.texts.contains_key(asked) {
        return Ok(Prompt::Named(asked));
    }
    if !asked.chars().all(plain) {
        return Ok(Prompt::Text(asked));
    }
    let names: Vec<&str> = prompts.texts.keys().map(String::as_str).collect();
    let known = match names.as_slice() {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    Err(format!(
        "no prompt `{asked}`; this model has: {known}; a text of your own is more than one plain \
         word, such as `{asked}: `"
    ))
}

fn load_data(args: &EvaluateArgs) -> Result<(Suite, Vec<RowsReport>), RunError> {
    if args.sts.is_none() && args.transfer.is_none() && args.pairs.is_empty() {
        if !args.tasks.is_empty() {
            return Err(RunError::Config(
                "--tasks: nothing to choose from: give --sts DIR or --transfer DIR".to_owned(),
            ));
        }
        // Without a download there are the pairs made from the bundled set.
        let (_, pairs) = bundled::evaluation_pairs()?;
        let suite = Suite {
            scored: vec![("POCKET".to_owned(), pairs)],
            ..Suite::default()
        };
        return Ok((suite, Vec::new()));
    }
    let wanted = Wanted::parse(args)?;
    let limits = Limits::default();
    let mut suite = Suite::default();
    let mut reports = Vec::new();
    if let Some(dir) = &args.sts {
        suite.sts = load_sts_dir(dir, limits)?;
        suite.sts.retain(|task| wanted.sts.contains(&task.name));
        for name in &wanted.named_sts {
            if !suite.sts.iter().any(|task| task.name == *name) {
                // For its message, which says what was looked for.
                load_sts_task(dir, *name, limits)?;
            }
        }
        reports.extend(suite.sts.iter().flat_map(|task| task.reports.clone()));
    }
    if let Some(dir) = &args.transfer {
        // One by one: a big file that nobody asked for is not read.
        for name in TransferName::ALL {
            if wanted.transfer.contains(&name) {
                match load_transfer_task(dir, name, limits) {
                    Ok(task) => suite.transfer.push(task),
                    Err(DatasetError::MissingTask { .. })
                        if !wanted.named_transfer.contains(&name) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if suite.transfer.is_empty() && !wanted.transfer.is_empty() {
            load_transfer_dir(dir, limits)?;
        }
        reports.extend(suite.transfer.iter().flat_map(|task| task.reports.clone()));
    }
    for path in &args.pairs {
        let name = name_of(path);
        let options = ScoredOptions {
            quantize: LabelQuantize::None,
            // Any unit will do for a correlation; NaN and infinities are outside every range.
            range: (f64::MIN, f64::MAX),
            ..ScoredOptions::default()
        };
        match load_scored(std::slice::from_ref(path), &options) {
            Ok(scored) => {
                reports.extend(scored.reports);
                suite.scored.push((name, scored.pairs));
            }
            // No column of scores: queries and documents.
            Err(DatasetError::Header { .. }) => {
                let pairs = load_pairs(path, limits)?;
                reports.push(pairs.report.clone());
                suite.retrieval.push((name, pairs));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((suite, reports))
}

/// Tasks asked for.
struct Wanted {
    sts: Vec<StsName>,
    transfer: Vec<TransferName>,
    /// Those that were named themselves, not as part of a group: a missing one is an error.
    named_sts: Vec<StsName>,
    named_transfer: Vec<TransferName>,
}

impl Wanted {
    fn parse(args: &EvaluateArgs) -> Result<Self, RunError> {
        let mut wanted = Self {
            sts: Vec::new(),
            transfer: Vec::new(),
            named_sts: Vec::new(),
            named_transfer: Vec::new(),
        };
        if args.tasks.is_empty() {
            wanted.sts = StsName::ALL.to_vec();
            wanted.transfer = TransferName::ALL.to_vec();
            return Ok(wanted);
        }
        for task in &args.tasks {
            let plain: String = task
                .chars()
                .filter(char::is_ascii_alphanumeric)
                .map(|c| c.to_ascii_uppercase())
                .collect();
            let sts = StsName::ALL.into_iter().find(|name| name.name() == plain);
            let transfer = TransferName::ALL
                .into_iter()
                .find(|name| name.name() == plain);
            match (plain.as_str(), sts, transfer) {
                ("STS", ..) => wanted.sts.extend(StsName::ALL),
                ("TRANSFER", ..) => wanted.transfer.extend(TransferName::ALL),
                ("FULL", ..) => {
                    wanted.sts.extend(StsName::ALL);
                    wanted.transfer.extend(TransferName::ALL);
                }
                (_, Some(name), _) => {
                    wanted.sts.push(name);
                    wanted.named_sts.push(name);
                }
                (_, _, Some(name)) => {
                    wanted.transfer.push(name);
                    wanted.named_transfer.push(name);
                }
                _ => return Err(unknown_task(task, &plain)),
            }
        }
        for (option, given, needed) in [
            ("--sts", args.sts.is_some(), !wanted.sts.is_empty()),
            (
                "--transfer",
                args.transfer.is_some(),
                !wanted.transfer.is_empty(),
            ),
        ] {
            if needed && !given {
                return Err(RunError::Config(format!(
                    "--tasks {} needs {option} DIR",
                    args.tasks.join(",")
                )));
            }
        }
        Ok(wanted)
    }
}

fn unknown_task(task: &str, plain: &str) -> RunError {
    let known = StsName::ALL
        .map(StsName::name)
        .into_iter()
        .chain(TransferName::ALL.map(TransferName::name))
        .chain(["STS", "TRANSFER", "FULL"]);
    let nearest = known
        .max_by(|a, b| strsim::jaro_winkler(a, plain).total_cmp(&strsim::jaro_winkler(b, plain)));
    RunError::Config(format!(
        "--tasks: unknown task `{task}`; did you mean `{}`? Known are sts, transfer, full, \
         STS12 to STS16, STSB, SICKR, MR, CR, SUBJ, MPQA, SST2, TREC, MRPC",
        nearest.unwrap_or("full")
    ))
}

fn result_file(
    args: &EvaluateArgs,
    encoder: &SentenceEncoder,
    prompt: Prompt<'_>,
    name: &str,
    evaluation: &Evaluation,
    reports: &[RowsReport],
) -> Result<ResultFile, RunError> {
    let sha256: BTreeMap<String, String> = reports
        .iter()
        .map(|report| {
            let file = report.path.file_name().unwrap_or_default();
            (file.to_string_lossy().into_owned(), report.sha256.clone())
        })
        .collect();
    let mut result = ResultFile::new(
        "evaluate",
        DataInfo {
            name: "sentence embeddings".to_owned(),
            test_rows: reports.iter().map(|report| report.rows_kept).sum(),
            sha256,
            ..DataInfo::default()
        },
    );
    result.device = args.device.resolve().to_string();
    result.threads = rayon::current_num_threads();
    result.model = json!({
        "name": name,
        "pooling": encoder.pooling.to_string(),
        "normalize": encoder.normalize,
        "max_len": encoder.max_len,
        "bf16": args.products.bf16,
    });
    if let Some(template) = &encoder.template {
        result.model["template"] = json!(template.text());
    }
    let prompt = encoder.prompts.text(prompt)?;
    if !prompt.is_empty() {
        result.model["prompt"] = json!(prompt);
    }
    result.config = json!({
        "mode": args.mode.to_string(),
        "tasks": args.tasks,
        "batch_size": args.batch_size,
        "reset_patience": args.reset_patience,
        "avg_unrounded": args.avg_unrounded,
    });
    let rows = evaluation.rows(name);
    result.rows = rows.into_iter().map(Row::Embedding).collect();
    result.summary = summarise(&result.rows);
    let timing = |stage: &str, seconds| Timing {
        stage: stage.to_owned(),
        evaluate_s: Some(seconds),
        ..Timing::default()
    };
    result.timing.push(timing("encode", evaluation.encode_s));
    for transfer in &evaluation.transfer {
        let stage = format!("classify {}", transfer.task.name());
        result.timing.push(timing(&stage, transfer.seconds));
    }
    result.peak_rss_mb = training::peak_rss_mb().unwrap_or(f64::NAN);
    Ok(result)
}

/// Last part of a path without its endings; the path itself where it has none.
fn name_of(path: &Path) -> String {
    // Of `.` and `..` the folder's real name is meant.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    let known = [".tsv", ".txt", ".csv", ".jsonl", ".json"];
    let stem = known.iter().find_map(|ending| plain.strip_suffix(ending));
    stem.unwrap_or(plain).to_owned()
}

/// One line on standard error that says how far the work is: rewritten on a terminal, one line for
/// each tenth elsewhere.
struct ProgressLine {
    quiet: bool,
    terminal: bool,
    /// Stage and tenth shown last.
    shown: Mutex<(String, usize)>,
}

impl ProgressLine {
    fn new(quiet: bool) -> Self {
        Self {
            quiet,
            terminal: std::io::stderr().is_terminal(),
            shown: Mutex::default(),
        }
    }

    fn show(&self, stage: &str, done: usize, all: usize) {
        if self.quiet {
            return;
        }
        // A poisoned lock costs a line of progress at most.
        let Ok(mut shown) = self.shown.lock() else {
            return;
        };
        let tenth = done.saturating_mul(10).checked_div(all).unwrap_or(10);
        let news = shown.0 != stage || shown.1 < tenth;
        let mut out = std::io::stderr().lock();
        // Nobody is told that nobody can be told.
        if self.terminal {
            let end = if done >= all { "\n" } else { "" };
            let _ = write!(out, "\r{stage} {done}/{all}{end}");
            let _ = out.flush();
        } else if news {
            let _ = writeln!(out, "{stage} {done}/{all}");
        }
        // Threads may come here out of order.
        if news {
            *shown = (stage.to_owned(), tenth);
        }
    }
}

/// Prints text; a reader that closed the pipe has seen enough.
fn print(text: &str) -> Result<(), RunError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(RunError::File {
            path: Path::new("standard output").to_owned(),
            message: error.to_string(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_plain_word_is_a_name_and_everything_else_a_text() {
        let mut prompts = Prompts::default();
        for name in ["query", "two words"] {
            prompts.texts.insert(name.to_owned(), "x".to_owned());
        }
        for (asked, want) in [
            ("", Prompt::None),
            ("query", Prompt::Named("query")),
            ("two words", Prompt::Named("two words")),
            ("query: ", Prompt::Text("query: ")),
            ("检索", Prompt::Text("检索")),
        ] {
            assert_eq!(which_prompt(asked, &prompts), Ok(want));
        }
        let error = which_prompt("quer", &prompts).unwrap_err();
        assert!(error.contains("no prompt `quer`; this model has: query, two words;"));
        let error = which_prompt("query", &Prompts::default()).unwrap_err();
        assert!(error.contains("this model has: none"));
    }
}
