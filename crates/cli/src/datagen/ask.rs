//! What commands that ask for texts share: who answers, at what price, and the journal.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ::datagen::chat::{
    AnswerSource, ApiKey, Budget, BudgetLimits, ChatClient, ChatConfig, ChatError, Spent,
};
use ::datagen::job::{Job, JobConfig, JobError, JobProgress, Journal, JournalError, Replay};
use experiments::error::RunError;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use training::StopFlag;

use super::error::DatagenError;
use crate::error::CliError;

/// How often a line of progress is written where there is no terminal.
const EVERY: Duration = Duration::from_secs(5);

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Source {
    /// Rules of this program; no network, no cost.
    Rules,
    /// A model server.
    Server,
    /// The answers of an earlier job, from its journal.
    Replay,
}

impl Source {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Server => "server",
            Self::Replay => "replay",
        }
    }
}

/// Options of the source, the budget and the journal.
#[derive(Debug, clap::Args)]
pub(crate) struct AskArgs {
    /// Who answers (default: server with --base-url, rules without).
    #[arg(long, value_enum, help_heading = "Source")]
    pub(crate) source: Option<Source>,
    /// Address of an OpenAI-compatible server up to /v1; https, or http on this machine.
    #[arg(long, value_name = "URL", help_heading = "Source")]
    pub(crate) base_url: Option<String>,
    /// Name of the model; for replay, which of the recorded models.
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    pub(crate) model: Option<String>,
    /// Environment variable with the API key. There is no option for the key itself: others could
    /// read it in the list of processes.
    #[arg(
        long,
        value_name = "VARIABLE",
        conflicts_with = "key_file",
        help_heading = "Source"
    )]
    pub(crate) key_env: Option<String>,
    /// File with the API key, readable by its owner alone (chmod 600).
    #[arg(long, value_name = "FILE", help_heading = "Source")]
    pub(crate) key_file: Option<PathBuf>,
    /// Allow servers at private addresses, and servers on other machines without a key.
    #[arg(long, help_heading = "Source")]
    pub(crate) allow_private: bool,
    /// Seconds that one try may take.
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600), help_heading = "Source")]
    pub(crate) timeout: u64,
    /// Calls under way at the same time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Source")]
    pub(crate) concurrency: u16,
    /// Further attempts after a refused answer.
    #[arg(long, value_name = "N", default_value_t = 2, help_heading = "Source")]
    pub(crate) retries: u32,

    /// Most calls, tries and the answers in the journal included.
    #[arg(long, value_name = "N", help_heading = "Budget")]
    pub(crate) max_calls: Option<u64>,
    /// Most tokens of prompts and answers together, those in the journal included.
    #[arg(long, value_name = "N", help_heading = "Budget")]
    pub(crate) max_total_tokens: Option<u64>,
    /// Count this run alone against the limits, not the answers in the journal.
    #[arg(long, help_heading = "Budget")]
    pub(crate) budget_per_run: bool,
    /// Price of a million prompt tokens.
    #[arg(long, value_name = "X", value_parser = price, help_heading = "Budget")]
    pub(crate) price_in: Option<f64>,
    /// Price of a million tokens of answers.
    #[arg(long, value_name = "X", value_parser = price, help_heading = "Budget")]
    pub(crate) price_out: Option<f64>,

    /// Journal of the answers (default: OUT.journal.jsonl; none for rules).
    #[arg(long, value_name = "FILE", help_heading = "Journal")]
    pub(crate) journal: Option<PathBuf>,
    /// Go on with the answers in the journal and replace the output.
    #[arg(long, help_heading = "Journal")]
    pub(crate) resume: bool,
    /// Also take answers from this journal, which is only read; may be repeated.
    #[arg(long, value_name = "FILE", help_heading = "Journal")]
    pub(crate) cache: Vec<PathBuf>,
    /// Print nothing but errors.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

fn price(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(price) if price.is_finite() && price >= 0.0 => Ok(price),
        _ => Err("a price is a number of at least 0".to_owned()),
    }
}

impl AskArgs {
    /// A model server; everything else as without options, but a journal is always gone on with.
    pub(crate) fn server(base_url: String, model: String) -> Self {
        Self {
            source: Some(Source::Server),
            base_url: Some(base_url),
            model: Some(model),
            key_env: None,
            key_file: None,
            allow_private: false,
            timeout: 60,
            concurrency: 8,
            retries: 2,
            max_calls: None,
            max_total_tokens: None,
            budget_per_run: false,
            price_in: None,
            price_out: None,
            journal: None,
            resume: true,
            cache: Vec::new(),
            quiet: false,
        }
    }

    /// Who answers.
    ///
    /// # Errors
    /// [`CliError::Option`] for options of a server where there is none.
    pub(crate) fn source(&self) -> Result<Source, CliError> {
        let source = self.source.unwrap_or(match self.base_url {
            Some(_) => Source::Server,
            None => Source::Rules,
        });
        let given = [
            ("--base-url", self.base_url.is_some()),
            ("--key-env", self.key_env.is_some()),
            ("--key-file", self.key_file.is_some()),
            ("--allow-private", self.allow_private),
            ("--model", self.model.is_some() && source == Source::Rules),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((option, _)) if source != Source::Server => Err(CliError::Option {
                option,
                problem: format!("means nothing to --source {}", source.name()),
            }),
            _ => Ok(source),
        }
    }

    /// What tokens cost; `None` without prices.
    pub(crate) fn cost(&self, spent: Spent) -> Option<f64> {
        if self.price_in.is_none() && self.price_out.is_none() {
            return None;
        }
        let of = |tokens: u64, price: Option<f64>| tokens as f64 * price.unwrap_or(0.0) / 1e6;
        Some(of(spent.prompt_tokens, self.price_in) + of(spent.completion_tokens, self.price_out))
    }

    /// Opens source and journal and installs the handlers for signals. `rules` answers for
    /// --source rules; `out` names the journal where nothing else does.
    pub(crate) fn open(
        &self,
        out: &Path,
        rules: impl FnOnce() -> Result<Box<dyn AnswerSource>, CliError>,
    ) -> Result<Asking<'_>, CliError> {
        let kind = self.source()?;
        if kind == Source::Server {
            // Mistakes show before a journal is made.
            self.client(Arc::new(Budget::unlimited()))?;
        }
        let path = self.journal.clone().unwrap_or_else(|| {
            let mut name = out.as_os_str().to_owned();
            name.push(".journal.jsonl");
            PathBuf::from(name)
        });
        let mut journal = match kind {
            Source::Rules if self.journal.is_none() => Journal::nowhere(),
            Source::Replay => Journal::nowhere(),
            Source::Rules | Source::Server => self.open_journal(&path)?,
        };
        if kind != Source::Replay {
            for cache in &self.cache {
                journal.also_read(cache).map_err(DatagenError::from)?;
            }
        }
        let stop = StopFlag::install().map_err(RunError::from)?;
        let raised = Arc::new(AtomicBool::new(false));
        for (signal, name) in [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM")] {
            signal_hook::flag::register(signal, raised.clone()).map_err(|source| {
                RunError::from(training::Error::Signal {
                    signal: name,
                    source,
                })
            })?;
        }
        let mut budget = None;
        let source: Box<dyn AnswerSource> = match kind {
            Source::Rules => rules()?,
            Source::Replay => {
                let paths: Vec<&PathBuf> = [&path].into_iter().chain(&self.cache).collect();
                let replay = Replay::open(&paths, self.model.as_deref());
                Box::new(replay.map_err(DatagenError::from)?)
            }
            Source::Server => {
                let spent = if self.budget_per_run {
                    Spent::default()
                } else {
                    journal.spent()
                };
                let limits = BudgetLimits {
                    max_calls: self.max_calls,
                    max_tokens: self.max_total_tokens,
                };
                let counted = Arc::new(Budget::starting_from(limits, spent));
                budget = Some(counted.clone());
                let client = self.client(counted)?;
                Box::new(client.stopped_by(raised.clone()))
            }
        };
        Ok(Asking {
            args: self,
            kind,
            source,
            journal,
            journal_path: path,
            budget,
            stop,
            raised,
        })
    }

    fn open_journal(&self, path: &Path) -> Result<Journal, CliError> {
        let journal = Journal::open(path).map_err(DatagenError::from)?;
        let found = journal.opened();
        if found.answers > 0 && !self.resume {
            let path = path.to_owned();
            return Err(DatagenError::JournalExists {
                path,
                answers: found.answers,
            }
            .into());
        }
        if !self.quiet && self.resume {
            eprintln!("{}: {} answers", path.display(), found.answers);
        }
        if !self.quiet && found.cut_off > 0 {
            eprintln!(
                "{}: an unfinished last line of {} bytes was cut off",
                path.display(),
                found.cut_off
            );
        }
        Ok(journal)
    }

    fn client(&self, budget: Arc<Budget>) -> Result<ChatClient, DatagenError> {
        let needed = |field, value: &Option<String>, expected| {
            value.clone().ok_or_else(|| ChatError::Config {
                field,
                found: String::new(),
                expected,
            })
        };
        let mut config = ChatConfig::new(
            needed("--base-url", &self.base_url, "the address of a server")?,
            needed("--model", &self.model, "the name of a model")?,
        );
        config.allow_private = self.allow_private;
        config.total_timeout = Duration::from_secs(self.timeout);
        let key = match (&self.key_env, &self.key_file) {
            (Some(variable), _) => Some(ApiKey::from_env(variable)?),
            (None, Some(path)) => Some(ApiKey::from_file(path)?),
            (None, None) => None,
        };
        Ok(ChatClient::new(config, key, budget)?)
    }
}

/// An open source with its journal.
pub(crate) struct Asking<'a> {
    args: &'a AskArgs,
    pub(crate) kind: Source,
    pub(crate) source: Box<dyn AnswerSource>,
    journal: Journal,
    journal_path: PathBuf,
    budget: Option<Arc<Budget>>,
    stop: StopFlag,
    raised: Arc<AtomicBool>,
}

impl Asking<'_> {
    /// A job without checks that shows its progress under this title.
    pub(crate) fn job(&self, title: &str) -> Job<'_> {
        let config = JobConfig {
            concurrency: usize::from(self.args.concurrency),
            retries: self.args.retries,
            ..JobConfig::default()
        };
        let mut face = Face::new(title, self.args.quiet);
        Job::new(self.source.as_ref(), &self.journal)
            .config(config)
            .stop_on(&self.raised)
            .progress(move |progress| face.show(progress, |progress| self.line(progress)))
    }

    /// Calls and tokens of failed tries are in the budget, not in the journal.
    fn line(&self, progress: &JobProgress) -> String {
        let spent = match &self.budget {
            Some(budget) => budget.spent(),
            None => progress.spent,
        };
        let mut line = format!(
            "{}/{}  {:.1}/s  refused {}  failed {}",
            progress.done,
            progress.total.unwrap_or(progress.done),
            progress.rate(),
            progress.rejected,
            progress.failed,
        );
        if self.kind == Source::Server {
            line.push_str(&format!(
                "  calls {}  tokens {}",
                spent.calls,
                spent.tokens()
            ));
            if let Some(cost) = self.args.cost(spent) {
                line.push_str(&format!("  cost {cost:.2}"));
            }
        }
        if let Some(left) = progress.remaining() {
            line.push_str(&format!("  left {}", duration(left)));
        }
        line
    }

    /// Adds what to do next.
    pub(crate) fn failed(&self, error: JobError) -> CliError {
        let kept = format!(
            "the answers are in {}; run the same command with --resume",
            self.journal_path.display()
        );
        let journaled = self.kind == Source::Server || self.args.journal.is_some();
        let (interruption, help) = match &error {
            JobError::Interrupted { .. } => (self.stop.requested(), Some(kept)),
            JobError::Fatal {
                error: ChatError::Budget { unit, .. },
                ..
            } => {
                let option = match *unit {
                    "calls" => "--max-calls",
                    _ => "--max-total-tokens",
                };
                (None, Some(format!("raise {option}; {kept}")))
            }
            JobError::Journal(JournalError::Locked { .. } | JournalError::Corrupt { .. })
            | JobError::Config { .. } => (None, None),
            _ => (None, Some(kept)),
        };
        DatagenError::Job {
            error,
            interruption,
            help: help.filter(|_| journaled),
        }
        .into()
    }
}

/// A line that is written over and over on a terminal, or a new one now and then.
struct Face {
    bar: ProgressBar,
    title: String,
    terminal: bool,
    quiet: bool,
    shown: Instant,
}

impl Face {
    fn new(title: &str, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::hidden();
        if terminal && !quiet {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        // The template is fixed; if it were refused the default style would do.
        if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:20}] {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(title.to_owned());
        Self {
            bar,
            title: title.to_owned(),
            terminal,
            quiet,
            shown: Instant::now(),
        }
    }

    fn show(&mut self, progress: &JobProgress, line: impl FnOnce(&JobProgress) -> String) {
        let last = progress.total == Some(progress.done);
        if self.quiet || (self.shown.elapsed() < self.every() && !last) {
            return;
        }
        self.shown = Instant::now();
        if self.terminal {
            self.bar.set_length(progress.total.unwrap_or(progress.done));
            self.bar.set_position(progress.done);
            self.bar.set_message(line(progress));
        } else {
            // A closed standard error must not end a job.
            let _ = writeln!(std::io::stderr(), "{} {}", self.title, line(progress));
        }
    }

    fn every(&self) -> Duration {
        if self.terminal {
            Duration::from_millis(100)
        } else {
            EVERY
        }
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn duration(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=99 => format!("{seconds} s"),
        seconds @ 100..=5999 => format!("{} min", seconds / 60),
        seconds => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}
