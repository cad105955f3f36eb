//! `asterism datagen corpus`: a data set of coarse and fine categories from a taxonomy file.

use std::path::{Path, PathBuf};

use ::datagen::chat::{Call, Spent};
use ::datagen::job::{JobOutcome, RejectReport};
use ::datagen::taxonomy::{
    CategoryCount, CorpusConfig, CorpusError, CorpusReport, Taxonomy, TaxonomyRules, write_corpus,
};

use super::ask::AskArgs;
use super::error::DatagenError;
use crate::error::CliError;
use crate::output::Output;

/// Write a data set of coarse and fine categories from a taxonomy file.
///
/// The taxonomy (TOML) has coarse categories with fine ones: a name and a description each, perhaps
/// keywords and examples. OUT gets train.tsv, test.tsv and report.json, as `asterism data check` and
/// training read them. Without a server the texts come from rules that put the words of the taxonomy
/// into a few dozen English frames: enough to try everything, too easy to measure a method on.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Taxonomy file.
    #[arg(long, value_name = "FILE")]
    taxonomy: PathBuf,
    /// Folder to write into; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace the files in OUT.
    #[arg(long)]
    force: bool,
    /// Seed of the split into two files, and of the rules.
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Share of each fine category that goes to test.tsv, above 0 and below 1.
    #[arg(long, value_name = "X", default_value_t = CorpusConfig::default().test_share)]
    test_share: f64,
    /// Texts that one call asks for, 1 to 100.
    #[arg(long, value_name = "N", default_value_t = CorpusConfig::default().per_call)]
    per_call: usize,
    /// Longest text in characters.
    #[arg(long, value_name = "N", default_value_t = CorpusConfig::default().max_characters)]
    max_characters: usize,
    /// Further rounds for texts that the checks refused.
    #[arg(long, value_name = "N", default_value_t = CorpusConfig::default().more_rounds)]
    more_rounds: u32,
    /// Temperature of the model, 0 to 2.
    #[arg(long, value_name = "X", default_value_t = CorpusConfig::default().temperature)]
    temperature: f64,
    /// File with a prompt to use instead of the program's; it may use about, language and
    /// max_characters. --dry-run shows the program's.
    #[arg(long, value_name = "FILE")]
    prompt: Option<PathBuf>,
    /// Print the prompt, one question and the number of calls of the first round; ask nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// Files of a corpus.
const FILES: [&str; 3] = ["train.tsv", "test.tsv", "report.json"];

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let taxonomy = Taxonomy::read(&args.taxonomy).map_err(DatagenError::from)?;
    let mut config = CorpusConfig {
        per_call: args.per_call,
        more_rounds: args.more_rounds,
        max_characters: args.max_characters,
        test_share: args.test_share,
        seed: args.seed,
        temperature: args.temperature,
        ..CorpusConfig::default()
    };
    if let Some(prompt) = prompt(args.prompt.as_deref())? {
        config.prompt = prompt;
    }
    config.check(&taxonomy).map_err(DatagenError::from)?;
    if args.dry_run {
        config.more_rounds = 0;
        let mut shown = Ok(());
        write_corpus(&taxonomy, &config, "", |calls, _| {
            shown = show(&calls);
            Ok(unanswered(&calls))
        })
        .map_err(DatagenError::from)?;
        return shown;
    }
    let existing = FILES.map(|name| args.out.join(name));
    if let Some(path) = existing.into_iter().find(|path| path.exists())
        && !args.force
        && !args.ask.resume
    {
        return Err(DatagenError::Exists { path }.into());
    }
    let asking = args.ask.open(&args.out, || {
        let rules = TaxonomyRules::new(&taxonomy, args.seed, args.per_call);
        Ok(Box::new(rules.map_err(DatagenError::from)?))
    })?;
    std::fs::create_dir_all(&args.out).map_err(CliError::file("make the folder", &args.out))?;
    let corpus = write_corpus(&taxonomy, &config, asking.source.name(), |calls, checks| {
        asking.job("texts").checks(checks).run(calls)
    })
    .map_err(|error| match error {
        CorpusError::Job(error) => asking.failed(error),
        other => DatagenError::from(other).into(),
    })?;
    if !args.ask.quiet {
        summary(&corpus.report);
        if taxonomy.coarse.len() < 2 {
            eprintln!("the taxonomy has one coarse category; training on OUT needs two");
        }
    }
    let paths = corpus.write(&args.out).map_err(DatagenError::from)?;
    super::print_paths(&paths)
}

fn summary(report: &CorpusReport) {
    for round in &report.rounds {
        eprint!("{round}");
    }
    let count =
        |of: fn(&CategoryCount) -> usize| -> usize { report.categories.iter().map(of).sum() };
    eprintln!(
        "{} texts for training and {} for testing in {} fine categories",
        count(|category| category.train),
        count(|category| category.test),
        report.categories.len()
    );
    let refused = report.rejected();
    if !refused.is_empty() {
        let refused: Vec<String> = refused
            .iter()
            .map(|(why, n)| format!("{why} {n}"))
            .collect();
        eprintln!("texts refused: {}", refused.join(", "));
    }
    for category in report.short() {
        eprintln!(
            "{}: {} of {} texts",
            category.fine,
            category.train + category.test,
            category.asked
        );
    }
}

/// The text of a prompt file.
pub(super) fn prompt(path: Option<&Path>) -> Result<Option<String>, CliError> {
    path.map(|path| std::fs::read_to_string(path).map_err(CliError::file("read", path)))
        .transpose()
}

/// One call and how many there are.
pub(super) fn show(calls: &[Call]) -> Result<(), CliError> {
    let mut output = Output::stdout();
    if let Some(call) = calls.first() {
        output.line("--- system")?;
        output.line(&call.request.system)?;
        output.line(format_args!("--- user, {}", call.source))?;
        output.line(&call.request.user)?;
    }
    output.line("---")?;
    output.line(format_args!("{} calls in the first round", calls.len()))?;
    output.flush()
}

/// What comes of calls that nobody is asked.
pub(super) fn unanswered(calls: &[Call]) -> JobOutcome {
    JobOutcome {
        answers: vec![None; calls.len()],
        report: RejectReport::default(),
        spent: Spent::default(),
    }
}
