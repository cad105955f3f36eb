//! Kills small runs at random moments and checks that nothing is lost.
//!
//! ```text
//! cargo build --release -p experiments --bins
//! cargo build --release -p cli
//! cargo run --release -p experiments --example crash_harness -- --kills 200 --programs star_down
//! cargo run --release -p experiments --example crash_harness -- --kills 50 \
//!     --programs simcse,regression_sts,ngcse,distill,datagen
//! ```
//!
//! For each program: one undisturbed run gives the expected files. Then runs of the same settings are
//! killed with SIGKILL at random moments, from the first millisecond on, continued without help, killed
//! again, until they end. At the end every file that does not hold a measurement (weights, optimiser,
//! momentum encoder, bank, logs, model, `result.json` without its times) has to equal the undisturbed
//! run's byte for byte, and no temporary file may be left. After every kill the newest complete
//! checkpoint has to verify by its manifest and may not be older than the one after the kill before;
//! for generated data the journal has to open with at least as many answers.
//!
//! Exit codes: 0 all recovered, 1 a difference or a run that did not recover, 2 usage.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser;
use datagen::job::Journal;
use miette::{IntoDiagnostic, WrapErr, miette};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use training::CheckpointStore;

// Shared with tests that need more of it.
#[allow(dead_code)]
#[path = "../tests/support/run_files.rs"]
mod run_files;

use run_files::{RunFiles, read_folder, same_files};

/// Kills without an end after which a run is left to end.
const MOST_KILLS_A_RUN: usize = 12;
/// Share of the kills that come while a program starts.
const EARLY: f64 = 0.25;
/// How long starting takes at most, as a share of a whole run.
const START: f64 = 0.1;

/// Settings of an encoder of a few thousand weights.
const TINY: [&str; 6] = [
    "model=random",
    "random.hidden=16",
    "random.layers=2",
    "random.heads=2",
    "random.intermediate=16",
    "max_len=12",
];
/// Sentences that data are generated from.
const SENTENCES: usize = 300;

/// How a program is started and what it leaves.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// An experiment that starts from a drawn encoder.
    Tiny,
    /// An experiment that starts from the bundled encoder.
    Bundled,
    /// `asterism datagen simulate` with the rules of the program.
    Datagen,
}

/// A program and settings with which it takes about a second and saves often.
struct Subject {
    program: &'static str,
    form: Form,
    settings: &'static [&'static str],
}

const SUBJECTS: [Subject; 6] = [
    Subject {
        program: "star_down",
        form: Form::Tiny,
        settings: &[
            "batch_size=64",
            "checkpoint_every=3",
            "pretrain.epochs=1",
            "train.epochs=1",
            "train.topk=5",
            "train.gaussian_dim=4",
            "eval.n_init=1",
            "eval.tsne_points=20",
        ],
    },
    Subject {
        program: "simcse",
        form: Form::Bundled,
        settings: &["max_steps=12", "checkpoint_every=4", "batch_size=16"],
    },
    Subject {
        program: "regression_sts",
        form: Form::Bundled,
        settings: &[
            "nli.max_steps=6",
            "stage2.max_steps=6",
            "checkpoint_every=3",
            "nli.batch_size=16",
            "stage2.batch_size=16",
        ],
    },
    Subject {
        program: "ngcse",
        form: Form::Bundled,
        settings: &[
            "max_steps=12",
            "checkpoint_every=4",
            "batch_size=32",
            "rule_sentences=60",
            "rfd.rows=20",
            "selection.every=6",
        ],
    },
    Subject {
        program: "distill",
        form: Form::Bundled,
        settings: &[
            "model=pocket",
            "fragments=0",
            "utterances=300",
            "max_steps=8",
            "batch_size=32",
            "bucket_batches=2",
            "max_len=24",
            "eval_max_len=24",
            "student.vocab_size=400",
            "student.hidden_size=32",
            "student.heads=2",
            "student.intermediate_size=32",
            "student.positions=32",
            "checkpoint_every=2",
        ],
    },
    Subject {
        program: "datagen",
        form: Form::Datagen,
        settings: &[],
    },
];

/// Kills small runs with SIGKILL at random moments, continues them and compares what they leave.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Kills a program that found it at work.
    #[arg(long, default_value_t = 50, value_name = "N")]
    kills: usize,
    /// The programs, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "star_down,simcse,regression_sts,ngcse,distill,datagen"
    )]
    programs: Vec<String>,
    /// Folder of the programs [default: the one above this program's].
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// The program `asterism`, for datagen [default: in the folder of the programs].
    #[arg(long, value_name = "FILE")]
    asterism: Option<PathBuf>,
    /// Runs at a time, each on one thread [default: one for each core].
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Seed of the moments.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Write the counts to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What the kills of one program came to.
#[derive(Clone, Default, serde::Serialize)]
struct Outcome {
    program: &'static str,
    /// Kills that found the program at work.
    kills: usize,
    /// How many of them hit which part: `starting`, or the stage and what it was at.
    hits: BTreeMap<String, usize>,
    runs: usize,
    /// Runs that ended with the same bytes.
    recovered: usize,
    most_kills_a_run: usize,
    undisturbed_s: f64,
    wall_s: f64,
    /// Why the rest did not.
    failure: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> miette::Result<bool> {
    let bin_dir = match &args.bin_dir {
        Some(dir) => dir.clone(),
        None => std::env::current_exe()
            .into_diagnostic()?
            .parent()
            .and_then(Path::parent)
            .map(Path::to_owned)
            .ok_or_else(|| miette!("this program lies in no folder"))?,
    };
    let asterism = args.asterism.clone();
    let asterism = asterism.unwrap_or_else(|| bin_dir.join("asterism"));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut outcomes = Vec::new();
    for name in &args.programs {
        let subject = SUBJECTS
            .iter()
            .find(|subject| subject.program == name)
            .ok_or_else(|| miette!("no program `{name}`: expected one of {}", names()))?;
        let binary = match subject.form {
            Form::Datagen => asterism.clone(),
            _ => bin_dir.join(subject.program),
        };
        let binary = binary
            .canonicalize()
            .into_diagnostic()
            .wrap_err_with(|| format!("{}: build the programs first", binary.display()))?;
        let torment = Torment {
            subject,
            binary,
            place: tempfile::tempdir().into_diagnostic()?,
            kills: args.kills,
            seed: args.seed,
        };
        let outcome = torment.all(args.jobs.unwrap_or(cores).max(1))?;
        println!("{outcome}");
        outcomes.push(outcome);
        if let Some(path) = &args.json {
            let text = serde_json::to_string_pretty(&outcomes).into_diagnostic()?;
            fs::write(path, text + "\n").into_diagnostic()?;
        }
    }
    Ok(outcomes.iter().all(|outcome| outcome.failure.is_none()))
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {} kills in {} runs (at most {} a run), {} of {} runs recovered byte for byte; \
             undisturbed {:.2} s, all in {:.0} s; hits:",
            self.program,
            self.kills,
            self.runs,
            self.most_kills_a_run,
            self.recovered,
            self.runs,
            self.undisturbed_s,
            self.wall_s
        )?;
        for (part, count) in &self.hits {
            write!(f, " {part} {count}")?;
        }
        match &self.failure {
            Some(failure) => write!(f, "; FAILED: {failure}"),
            None => Ok(()),
        }
    }
}

fn names() -> String {
    SUBJECTS.map(|subject| subject.program).join(", ")
}

/// What a run has to leave.
enum Expected {
    Run(RunFiles),
    Files(BTreeMap<String, Vec<u8>>),
}

impl Expected {
    fn of(form: Form, folder: &Path) -> Result<Self, String> {
        match form {
            Form::Datagen => {
                let mut files = read_folder(folder)?;
                files.retain(|name, _| !name.ends_with(".lock"));
                // The journal holds answers in the order in which they came, which is another one in
                // every run; what counts is that each is there, once.
                if let Some(journal) = files.get_mut("answers.jsonl") {
                    let mut lines: Vec<&[u8]> = journal.split_inclusive(|b| *b == b'\n').collect();
                    lines.sort_unstable();
                    *journal = lines.concat();
                }
                Ok(Self::Files(files))
            }
            _ => RunFiles::of(folder).map(Self::Run),
        }
    }

    fn check(&self, expected: &Self) -> Result<(), String> {
        match (self, expected) {
            (Self::Run(found), Self::Run(expected)) => found.check(expected),
            (Self::Files(found), Self::Files(expected)) => same_files(found, expected),
            _ => Err("another kind of run".to_owned()),
        }
    }
}

/// One program under kills.
struct Torment<'s> {
    subject: &'s Subject,
    binary: PathBuf,
    place: tempfile::TempDir,
    kills: usize,
    seed: u64,
}

impl Torment<'_> {
    fn folder(&self, out: &str) -> PathBuf {
        self.place.path().join(out)
    }

    fn command(&self, out: &str) -> miette::Result<Command> {
        let mut command = Command::new(&self.binary);
        command.current_dir(self.place.path());
        command.env("RAYON_NUM_THREADS", "1");
        let set = |command: &mut Command, settings: &[&str]| {
            for setting in settings {
                command.args(["--set", setting]);
            }
        };
        match self.subject.form {
            Form::Datagen => {
                fs::create_dir_all(self.folder(out)).into_diagnostic()?;
                command.args(["datagen", "simulate", "--pattern", "sts"]);
                command.args(["--input", "sentences.txt", "--source", "rules"]);
                command.args(["--out", &format!("{out}/rows.jsonl")]);
                command.args(["--journal", &format!("{out}/answers.jsonl")]);
                // One worker, so that the journal has one order.
                command.args(["--concurrency", "1", "--resume"]);
            }
            _ if self.folder(out).join("manifest.json").exists() => {
                command.args(["--resume", out]);
            }
            form => {
                command.args(["--out", out, "--seeds", "0"]);
                if form == Form::Tiny {
                    set(&mut command, &TINY);
                }
                set(&mut command, self.subject.settings);
            }
        }
        command.arg("--quiet");
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(command)
    }

    /// Runs to the end.
    fn finish(&self, out: &str) -> miette::Result<()> {
        let output = self.command(out)?.output().into_diagnostic()?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(miette!("{out}: {}: {stderr}", output.status));
        }
        Ok(())
    }

    fn files(&self, out: &str) -> miette::Result<Expected> {
        Expected::of(self.subject.form, &self.folder(out)).map_err(|error| miette!("{error}"))
    }

    fn all(&self, jobs: usize) -> miette::Result<Outcome> {
        let began = Instant::now();
        if self.subject.form == Form::Datagen {
            let sentences = datagen::utterances(SENTENCES, 1).into_diagnostic()?;
            let path = self.place.path().join("sentences.txt");
            fs::write(path, sentences.join("\n") + "\n").into_diagnostic()?;
        }
        let first = Instant::now();
        self.finish("reference")?;
        let whole = first.elapsed();
        let expected = self.files("reference")?;
        let outcome = Mutex::new(Outcome {
            program: self.subject.program,
            undisturbed_s: whole.as_secs_f64(),
            ..Outcome::default()
        });
        let numbers = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for job in 0..jobs {
                let (outcome, numbers, expected) = (&outcome, &numbers, &expected);
                scope.spawn(move || {
                    let seed = self.seed.wrapping_add((job as u64) << 32);
                    let mut rng = ChaCha8Rng::seed_from_u64(seed);
                    loop {
                        let (kills, failed) = {
                            let so_far = locked(outcome);
                            (so_far.kills, so_far.failure.is_some())
                        };
                        if kills >= self.kills || failed {
                            return;
                        }
                        let number = numbers.fetch_add(1, Ordering::SeqCst);
                        let ended = self.torment(number, whole, expected, outcome, &mut rng);
                        let mut outcome = locked(outcome);
                        outcome.runs += 1;
                        match ended {
                            Ok(kills) => {
                                outcome.recovered += 1;
                                outcome.most_kills_a_run = outcome.most_kills_a_run.max(kills);
                            }
                            Err(error) => outcome.failure = Some(format!("{error:?}")),
                        }
                    }
                });
            }
        });
        let mut outcome = locked(&outcome).clone();
        outcome.wall_s = began.elapsed().as_secs_f64();
        Ok(outcome)
    }

    /// One run, killed again and again; how often.
    fn torment(
        &self,
        number: usize,
        whole: Duration,
        expected: &Expected,
        outcome: &Mutex<Outcome>,
        rng: &mut ChaCha8Rng,
    ) -> miette::Result<usize> {
        let out = format!("run-{number}");
        let folder = self.folder(&out);
        let (mut here, mut kept) = (0, 0);
        while here < MOST_KILLS_A_RUN && locked(outcome).kills < self.kills {
            let latest = if rng.random_bool(EARLY) { START } else { 0.9 };
            let wait = whole.mul_f64(rng.random_range(0.0..latest));
            let mut child = self.command(&out)?.spawn().into_diagnostic()?;
            let until = Instant::now() + wait;
            while Instant::now() < until && child.try_wait().into_diagnostic()?.is_none() {
                sleep(Duration::from_millis(1));
            }
            child.kill().into_diagnostic()?;
            let output = child.wait_with_output().into_diagnostic()?;
            match output.status.code() {
                Some(0) => break,
                None => {
                    here += 1;
                    let part = self.part(&folder);
                    let mut outcome = locked(outcome);
                    outcome.kills += 1;
                    *outcome.hits.entry(part).or_default() += 1;
                }
                Some(code) => {
                    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
                    return Err(miette!("{out}: continued with exit code {code}: {stderr}"));
                }
            }
            let now = self.kept(&folder)?;
            if now < kept {
                return Err(miette!(
                    "{out}: {kept} was saved, {now} is left after a kill"
                ));
            }
            kept = now;
        }
        self.finish(&out)?;
        self.files(&out)?
            .check(expected)
            .map_err(|error| miette!("{out} after {here} kills: {error}"))?;
        fs::remove_dir_all(&folder).into_diagnostic()?;
        Ok(here)
    }

    /// Verifies what a run would go on from: the steps of the newest complete checkpoint, the answers
    /// of a journal. Looks at a copy, because looking clears up, which is the program's to do.
    fn kept(&self, folder: &Path) -> miette::Result<u64> {
        let copy = folder.with_extension("copy");
        let kept = if self.subject.form == Form::Datagen {
            let path = folder.join("answers.jsonl");
            if !path.exists() {
                return Ok(0);
            }
            fs::create_dir(&copy).into_diagnostic()?;
            let journal = copy.join("answers.jsonl");
            fs::copy(path, &journal).into_diagnostic()?;
            Journal::open(&journal).into_diagnostic()?.opened().answers
        } else {
            let checkpoints = folder.join("checkpoints");
            if !checkpoints.exists() {
                return Ok(0);
            }
            link(&checkpoints, &copy.join("checkpoints")).into_diagnostic()?;
            let newest = CheckpointStore::new(&copy).latest().into_diagnostic()?;
            newest.map_or(0, |checkpoint| checkpoint.step)
        };
        fs::remove_dir_all(&copy).into_diagnostic()?;
        Ok(kept)
    }

    /// What a kill hit, from the files that it left.
    fn part(&self, folder: &Path) -> String {
        if self.subject.form == Form::Datagen {
            let lines = fs::read(folder.join("answers.jsonl")).unwrap_or_default();
            let lines = lines.iter().filter(|byte| **byte == b'\n').count();
            return match (lines, folder.join("rows.jsonl").exists()) {
                (0, _) => "starting".to_owned(),
                (_, true) => "finishing".to_owned(),
                (lines, false) => format!("answers {:04}..", lines / 200 * 200),
            };
        }
        if folder.join("result.json").exists() {
            return "finishing".to_owned();
        }
        let log = fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
        let last = log
            .rsplit_terminator('\n')
            .find_map(|line| serde_json::from_str::<Value>(line).ok());
        let Some(last) = last else {
            return "starting".to_owned();
        };
        let text = |key: &str| last.get(key).and_then(Value::as_str);
        let stage = text("stage").unwrap_or("unknown");
        match (text("event"), last.get("step").and_then(Value::as_u64)) {
            (None, Some(step)) => format!("{stage}/step {step}"),
            _ => format!("{stage}/evaluated"),
        }
    }
}

/// A folder with links to the files of another one.
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link(&entry.path(), &target)?;
        } else {
            fs::hard_link(entry.path(), target)?;
        }
    }
    Ok(())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
