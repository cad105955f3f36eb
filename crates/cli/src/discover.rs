//! `asterism discover`: from texts with broad labels to named fine categories.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::datagen::naming::{
    CategoryTexts, NamedCategory, Naming, NamingConfig, NamingError, name_by_keywords,
    name_by_model,
};
use experiments::discover::{
    Columns, Criterion, DiscoverConfig, Mode, Request, Step, Table, Texts, UpdateRequest, find,
    read_k, training_settings,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kernels::DeviceSpec;
use serde::Serialize;
use training::StopFlag;

use crate::datagen::DatagenError;
use crate::datagen::ask::AskArgs;
use crate::error::CliError;
use crate::output::Output;

/// How often a line of progress is written where there is no terminal.
const EVERY: Duration = Duration::from_secs(5);

/// Find fine categories in texts with broad labels.
///
/// Texts are turned into vectors, clustered inside each coarse class and named by the words that tell
/// a category from the others. RUN gets the categories with their evidence and history, the texts with
/// their categories, a model for `asterism predict`, and a report. It appears in the end, complete.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// .tsv (with a header, without quoting), .csv, .jsonl, .json, each also with .gz; .parquet or
    /// .arrow; a folder with train and test; or `pocket`, the bundled set.
    #[arg(value_name = "DATA", required = true)]
    data: Vec<PathBuf>,
    /// Directory to make.
    #[arg(long, short, value_name = "RUN", required_unless_present_any = ["update", "dry_run"])]
    out: Option<PathBuf>,
    /// Column or field of the text (default: text).
    #[arg(long, value_name = "COL")]
    text: Option<String>,
    /// Column or field of the coarse label (default: coarse, if there is one; without one all texts
    /// are one class).
    #[arg(long, value_name = "COL")]
    coarse: Option<String>,
    /// Column or field of the true fine label, for scores only (default: fine, if there is one).
    #[arg(long, value_name = "COL")]
    fine: Option<String>,
    /// Model directory, or `pocket`, the bundled encoder.
    #[arg(long, short, value_name = "DIR|pocket", default_value = "pocket")]
    model: PathBuf,
    /// Use the encoder as it is, or train it on the texts first (STAR-DOWN).
    #[arg(long, value_enum, default_value_t = ModeArg::Frozen)]
    mode: ModeArg,
    /// Number of categories: N in all (shared out by texts), or CLASS=N for single coarse classes,
    /// several times or separated by commas. The others are estimated.
    #[arg(long, value_name = "N|CLASS=N,...")]
    k: Vec<String>,
    /// How the number of categories is estimated where it is not given
    /// (default: stable-silhouette; with --update as the run was made).
    #[arg(long, value_enum)]
    estimate: Option<CriterionArg>,
    /// Largest number of categories of a class that an estimate looks at (default: the root of its
    /// number of texts, at most 30).
    #[arg(long, value_name = "N")]
    k_max: Option<usize>,
    /// Add the texts to this finished run: known ones join their categories, unknown ones found new
    /// ones. Ids, names given by people, merges and splits stay.
    #[arg(
        long,
        value_name = "RUN",
        conflicts_with_all = ["out", "model", "mode", "k", "k_max", "across", "n_init", "seed", "keep", "map_rows", "config", "set"]
    )]
    update: Option<PathBuf>,
    /// Fewest texts of a new category (default: 10).
    #[arg(long, value_name = "N", requires = "update")]
    min_size: Option<usize>,
    /// Cluster all texts together; a category belongs to the class most of its texts have.
    #[arg(long)]
    across: bool,
    /// Restarts of k-means.
    #[arg(long, value_name = "N", default_value_t = DiscoverConfig::default().n_init)]
    n_init: usize,
    /// Seed of everything that is drawn.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// flex, ndarray, wgpu, cuda or auto; `cuda:1` is the second GPU.
    #[arg(long, value_name = "D", default_value = "auto")]
    device: DeviceSpec,
    /// Share of the texts of known categories that the unknown threshold keeps.
    #[arg(long, value_name = "X", default_value_t = DiscoverConfig::default().keep)]
    keep: f64,
    /// Texts placed on the map by t-SNE, the others stand between their neighbours; 0: no map.
    #[arg(long, value_name = "N", default_value_t = DiscoverConfig::default().map_rows)]
    map_rows: usize,
    /// Settings of the training, a TOML file; see `asterism train star-down --help`.
    #[arg(long, value_name = "FILE", help_heading = "Training")]
    config: Option<PathBuf>,
    /// A setting of the training; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Training")]
    set: Vec<String>,
    #[command(flatten)]
    names: NameArgs,
    /// Read the data, print what was read and the settings (with --update: what it would do), and stop.
    #[arg(long)]
    dry_run: bool,
    /// Print nothing but errors.
    #[arg(long, short)]
    quiet: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// Who names the categories.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Names by a language model")]
struct NameArgs {
    /// Address of an OpenAI-compatible server up to /v1; without it names are made of keywords.
    #[arg(long, value_name = "URL", requires = "name_model")]
    name_url: Option<String>,
    /// Name of the language model.
    #[arg(long, value_name = "NAME", requires = "name_url")]
    name_model: Option<String>,
    /// Environment variable with the API key.
    #[arg(
        long,
        value_name = "VARIABLE",
        requires = "name_url",
        conflicts_with = "name_key_file"
    )]
    name_key_env: Option<String>,
    /// File with the API key, readable by its owner alone.
    #[arg(long, value_name = "FILE", requires = "name_url")]
    name_key_file: Option<PathBuf>,
    /// Allow servers at private addresses, and servers on other machines without a key.
    #[arg(long, requires = "name_url")]
    name_allow_private: bool,
    /// Most calls, those in the journal included.
    #[arg(long, value_name = "N", requires = "name_url")]
    name_max_calls: Option<u64>,
    /// Most tokens of prompts and answers together, those in the journal included.
    #[arg(long, value_name = "N", requires = "name_url")]
    name_max_tokens: Option<u64>,
    /// Journal of the answers, taken up again by the next run (default: RUN.names.jsonl).
    #[arg(long, value_name = "FILE", requires = "name_url")]
    name_journal: Option<PathBuf>,
    /// What the texts are, for the language model: "messages to a bank".
    #[arg(long, value_name = "TEXT", default_value = "", requires = "name_url")]
    name_about: String,
    /// Language of the names.
    #[arg(long, value_name = "NAME", default_value_t = NamingConfig::default().language)]
    name_language: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ModeArg {
    /// The encoder as it is.
    Frozen,
    /// The encoder after training on the texts and their coarse labels.
    Trained,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CriterionArg {
    /// As silhouette, among the numbers on which two halves of the texts agree.
    StableSilhouette,
    /// Smallest number whose mean silhouette is within one standard error of the best.
    Silhouette,
    /// Clusters of a fine clustering that are not small.
    OverCluster,
}

impl From<CriterionArg> for Criterion {
    fn from(criterion: CriterionArg) -> Self {
        match criterion {
            CriterionArg::StableSilhouette => Self::StableSilhouette,
            CriterionArg::Silhouette => Self::Silhouette,
            CriterionArg::OverCluster => Self::OverCluster,
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let mut config = DiscoverConfig {
        data: args
            .data
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
        model: args.model.display().to_string(),
        mode: match args.mode {
            ModeArg::Frozen => Mode::Frozen,
            ModeArg::Trained => Mode::Trained,
        },
        device: args.device.to_string(),
        seed: args.seed,
        across: args.across,
        estimate: args.estimate.map_or(Criterion::default(), Criterion::from),
        k_max: args.k_max.unwrap_or(0),
        n_init: args.n_init,
        keep: args.keep,
        map_rows: args.map_rows,
        ..DiscoverConfig::default()
    };
    read_k(&mut config, &args.k)?;
    let columns = columns(args, &mut config);
    let mut texts = Texts::default();
    for path in &args.data {
        read(&mut texts, path, &columns)?;
    }
    let mut face = Face::new(args.quiet);
    if let Some(run) = &args.update {
        return update(run, texts, args, &mut face);
    }
    if config.mode == Mode::Trained {
        let settings = training_settings(&config, args.config.as_deref(), &args.set)?;
        config.training = Some(settings);
    } else if args.config.is_some() || !args.set.is_empty() {
        return Err(CliError::Option {
            option: "--set, --config",
            problem: "settings of the training mean nothing to --mode frozen".to_owned(),
        });
    }
    let Some(out) = args.out.clone().filter(|_| !args.dry_run) else {
        return dry_run(&config, &texts);
    };
    let stop = match config.mode {
        // A signal ends the training after saving; elsewhere it ends the program at once.
        Mode::Trained => StopFlag::install().map_err(experiments::error::RunError::from)?,
        Mode::Frozen => StopFlag::new(),
    };
    let found = find(Request {
        config,
        texts,
        out: out.clone(),
        command: command(),
        quiet: args.quiet,
        stop: &stop,
        progress: &mut |step| face.show(step),
    })?;
    face.clear();
    let names = name(&found.to_name(), Vec::new(), args, &out)?;
    let summary = found.finish(&names, &mut |step| face.show(step))?;
    face.clear();
    show(&summary, args)
}

/// Adds texts to a finished run.
fn update(run: &Path, texts: Texts, args: &Args, face: &mut Face) -> Result<(), CliError> {
    let updating = experiments::discover::update(UpdateRequest {
        run: run.to_owned(),
        texts,
        min_size: args.min_size,
        estimate: args.estimate.map(Criterion::from),
        device: args.device,
        progress: &mut |step| face.show(step),
    })?;
    face.clear();
    if args.dry_run {
        return show(updating.summary(), args);
    }
    let names = name(&updating.to_name(), updating.taken(), args, run)?;
    show(&updating.finish(&names)?, args)
}

/// Prints settings and what was read.
fn dry_run(config: &DiscoverConfig, texts: &Texts) -> Result<(), CliError> {
    config.check()?;
    texts.check()?;
    for line in texts.describe() {
        say(&line);
    }
    let mut output = Output::stdout();
    output.text(experiments::config::to_toml(config)?)?;
    output.flush()
}

/// The command line, for the manifest.
fn command() -> Vec<String> {
    std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect()
}

/// A column that was named must be there, one that was not may be missing.
fn columns(args: &Args, config: &mut DiscoverConfig) -> Columns {
    for (given, setting) in [
        (&args.text, &mut config.text_column),
        (&args.coarse, &mut config.coarse_column),
        (&args.fine, &mut config.fine_column),
    ] {
        if let Some(name) = given {
            setting.clone_from(name);
        }
    }
    Columns {
        text: config.text_column.clone(),
        coarse: config.coarse_column.clone(),
        coarse_required: args.coarse.is_some(),
        fine: config.fine_column.clone(),
        fine_required: args.fine.is_some(),
    }
}

/// Reads a source; Parquet and Arrow files here, all others in the library.
fn read(texts: &mut Texts, path: &Path, columns: &Columns) -> Result<(), CliError> {
    let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
    let columnar = ["parquet", "arrow", "arrows", "feather", "ipc"];
    if !ending.is_some_and(|ending| columnar.iter().any(|known| ending == *known)) {
        return Ok(texts.read(path, columns)?);
    }
    let known = columnar::column_names(path)?;
    let find = |name: &str, required: bool| match known.iter().any(|other| other == name) {
        true => Ok(true),
        false if !required => Ok(false),
        false => Err(CliError::Option {
            option: "DATA",
            problem: format!(
                "{}: no column `{name}`; the columns are: {}",
                path.display(),
                known.join(", ")
            ),
        }),
    };
    find(&columns.text, true)?;
    let coarse = find(&columns.coarse, columns.coarse_required)?;
    let fine = find(&columns.fine, columns.fine_required)?;
    let mut wanted = vec![columns.text.as_str()];
    wanted.extend(
        [(coarse, &columns.coarse), (fine, &columns.fine)]
            .into_iter()
            .filter(|(there, _)| *there)
            .map(|(_, name)| name.as_str()),
    );
    let mut reader = columnar::Reader::open_columns(path, &wanted, 8192)?;
    let mut table = Table {
        coarse: coarse.then(Vec::new),
        fine: fine.then(Vec::new),
        ..Table::default()
    };
    while let Some(part) = reader.next_table()? {
        table.text.extend(part.optional_texts(&columns.text)?);
        for (values, name) in [
            (&mut table.coarse, &columns.coarse),
            (&mut table.fine, &columns.fine),
        ] {
            if let Some(values) = values {
                values.extend(part.optional_texts(name)?);
            }
        }
    }
    let (sha256, _) = datasets::hash::sha256_file(path).map_err(CliError::file("read", path))?;
    Ok(texts.add(path, sha256, table)?)
}

/// Names by a language model if one is given, of keywords otherwise.
fn name(
    categories: &[CategoryTexts],
    taken: Vec<String>,
    args: &Args,
    out: &Path,
) -> Result<Vec<NamedCategory>, CliError> {
    let given = &args.names;
    let config = NamingConfig {
        taken,
        about: given.name_about.clone(),
        language: given.name_language.clone(),
        ..NamingConfig::default()
    };
    let (Some(url), Some(model)) = (&given.name_url, &given.name_model) else {
        return Ok(name_by_keywords(categories, &config).map_err(DatagenError::from)?);
    };
    let mut journal = out.as_os_str().to_owned();
    journal.push(".names.jsonl");
    let ask = AskArgs {
        key_env: given.name_key_env.clone(),
        key_file: given.name_key_file.clone(),
        allow_private: given.name_allow_private,
        max_calls: given.name_max_calls,
        max_total_tokens: given.name_max_tokens,
        journal: Some(given.name_journal.clone().unwrap_or(PathBuf::from(journal))),
        quiet: args.quiet,
        ..AskArgs::server(url.clone(), model.clone())
    };
    let asking = ask.open(out, || {
        Err(CliError::Option {
            option: "--name-url",
            problem: "names of keywords need no source".to_owned(),
        })
    })?;
    let naming = name_by_model(
        categories,
        &config,
        asking.source.name(),
        |calls, checks| asking.job("names").checks(checks).run(calls),
    );
    match naming {
        Ok(Naming { categories, .. }) => Ok(categories),
        Err(NamingError::Job(error)) => Err(asking.failed(error)),
        Err(other) => Err(DatagenError::from(other).into()),
    }
}

/// Prints what was done.
fn show(summary: &(impl Serialize + std::fmt::Display), args: &Args) -> Result<(), CliError> {
    let mut output = Output::stdout();
    if args.json {
        output.json(summary)?;
    } else if !args.quiet {
        output.text(summary)?;
    }
    output.flush()
}

/// A bar on a terminal, or a line now and then.
struct Face {
    bar: ProgressBar,
    quiet: bool,
    terminal: bool,
    what: &'static str,
    began: Instant,
    shown: Instant,
}

impl Face {
    fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::hidden();
        if terminal && !quiet {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        // The template is fixed; if it were refused the default style would do.
        if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self {
            bar,
            quiet,
            terminal,
            what: "",
            began: Instant::now(),
            shown: Instant::now(),
        }
    }

    fn show(&mut self, step: Step<'_>) {
        if self.quiet {
            return;
        }
        match step {
            Step::Say(text) => self.bar.suspend(|| say(text)),
            Step::At { what, done, of } => self.at(what, done, of),
        }
    }

    fn at(&mut self, what: &'static str, done: usize, of: usize) {
        let now = Instant::now();
        if what != self.what {
            self.what = what;
            self.began = now;
            self.bar.set_prefix(what);
        }
        let left = match done {
            0 => String::new(),
            _ => {
                let left = self.began.elapsed().as_secs_f64() * (of - done) as f64 / done as f64;
                format!("{left:.0} s left")
            }
        };
        if self.terminal {
            self.bar.set_length(of as u64);
            self.bar.set_position(done as u64);
            self.bar.set_message(left);
        } else if now.duration_since(self.shown) >= EVERY {
            self.shown = now;
            say(&format!("{what} {done}/{of} {left}"));
        }
    }

    fn clear(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A line on standard error; a closed one must not end the work.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
