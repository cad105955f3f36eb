//! Kills small runs at random moments and checks that nothing is lost.
//!
//! ```text
//! cargo build --release -p experiments --bins
//! cargo run --release -p experiments --example crash_harness -- --kills 200 --programs star_down
//! ```
//!
//! For each program: one undisturbed run gives the expected files. Then runs of the same settings are
//! killed with SIGKILL at random moments, continued without help, killed again, until they end; every
//! file that does not hold a measurement (weights, optimiser, momentum encoder, bank, logs, model,
//! `result.json` without its times) has to equal the undisturbed run's byte for byte, the newest
//! checkpoint has to verify after every kill, and no temporary file may be left at the end.
//!
//! Exit codes: 0 all recovered, 1 a difference or a run that did not recover, 2 usage.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser;
use miette::{IntoDiagnostic, WrapErr, miette};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use training::CheckpointStore;

/// Files with process numbers, command lines and measured times.
const MEASURED: [&str; 5] = [
    "lock",
    "manifest.json",
    "result.json",
    "run.json",
    "report.html",
];
/// Fields of `result.json` that hold measurements.
const MEASURED_FIELDS: [&str; 3] = ["timing", "total_s", "peak_rss_mb"];
/// Kills without an end after which a run counts as stuck.
const MOST_KILLS_A_RUN: usize = 40;

/// Settings of an encoder of a few thousand weights.
const TINY: [&str; 6] = [
    "model=random",
    "random.hidden=16",
    "random.layers=2",
    "random.heads=2",
    "random.intermediate=16",
    "max_len=12",
];

/// A program and settings with which it takes about a second and saves often.
struct Subject {
    program: &'static str,
    /// Starts from a drawn encoder instead of the bundled one.
    tiny: bool,
    settings: &'static [&'static str],
}

const SUBJECTS: [Subject; 4] = [
    Subject {
        program: "star_down",
        tiny: true,
        settings: &[
            "batch_size=64",
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
        tiny: false,
        settings: &["max_steps=12", "checkpoint_every=4", "batch_size=16"],
    },
    Subject {
        program: "regression_sts",
        tiny: false,
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
        tiny: false,
        settings: &[
            "max_steps=12",
            "checkpoint_every=4",
            "batch_size=32",
            "rule_sentences=60",
            "rfd.rows=20",
            "selection.every=6",
        ],
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
        default_value = "star_down,simcse,regression_sts,ngcse"
    )]
    programs: Vec<String>,
    /// Folder of the programs [default: the one above this program's].
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Seed of the moments.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Write the counts to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What the kills of one program came to.
#[derive(serde::Serialize)]
struct Outcome {
    program: &'static str,
    kills: usize,
    runs: usize,
    recovered: usize,
    undisturbed_s: f64,
    kills_while_starting: usize,
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
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let (mut outcomes, mut well) = (Vec::new(), true);
    for name in &args.programs {
        let subject = SUBJECTS
            .iter()
            .find(|subject| subject.program == name)
            .ok_or_else(|| miette!("no program `{name}`: expected one of {}", names()))?;
        match subject.torment(&bin_dir, args.kills, &mut rng) {
            Ok(outcome) => {
                println!(
                    "{name}: {} kills in {} runs ({} while starting), {} of {} runs recovered byte for byte; \
                     undisturbed {:.2} s",
                    outcome.kills,
                    outcome.runs,
                    outcome.kills_while_starting,
                    outcome.recovered,
                    outcome.runs,
                    outcome.undisturbed_s
                );
                outcomes.push(outcome);
            }
            Err(error) => {
                well = false;
                println!("{name}: FAILED: {error:?}");
            }
        }
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&outcomes).into_diagnostic()?;
        fs::write(path, text).into_diagnostic()?;
    }
    Ok(well)
}

fn names() -> String {
    SUBJECTS.map(|subject| subject.program).join(", ")
}

impl Subject {
    fn command(&self, bin_dir: &Path, place: &Path, out: &str) -> Command {
        let mut command = Command::new(bin_dir.join(self.program));
        command.current_dir(place).args(["--quiet"]);
        if place.join(out).join("manifest.json").exists() {
            command.args(["--resume", out]);
        } else {
            command.args(["--out", out, "--seeds", "0"]);
            let tiny: &[&str] = if self.tiny { &TINY } else { &[] };
            for setting in tiny.iter().chain(self.settings) {
                command.args(["--set", setting]);
            }
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Runs to the end.
    fn finish(&self, bin_dir: &Path, place: &Path, out: &str) -> miette::Result<()> {
        let output = self
            .command(bin_dir, place, out)
            .output()
            .into_diagnostic()
            .wrap_err_with(|| {
                format!(
                    "{} cannot be started; build the programs first",
                    self.program
                )
            })?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(miette!("{out}: {}: {stderr}", output.status));
        }
        Ok(())
    }

    fn torment(
        &self,
        bin_dir: &Path,
        kills: usize,
        rng: &mut ChaCha8Rng,
    ) -> miette::Result<Outcome> {
        let place = tempfile::tempdir().into_diagnostic()?;
        let began = Instant::now();
        self.finish(bin_dir, place.path(), "reference")?;
        let whole = began.elapsed();
        let expected = Traces::of(&place.path().join("reference"))?;
        let mut outcome = Outcome {
            program: self.program,
            kills: 0,
            runs: 0,
            recovered: 0,
            undisturbed_s: whole.as_secs_f64(),
            kills_while_starting: 0,
        };
        while outcome.kills < kills {
            let out = format!("run-{}", outcome.runs);
            let folder = place.path().join(&out);
            outcome.runs += 1;
            let mut here = 0;
            while outcome.kills < kills && here < MOST_KILLS_A_RUN {
                let wait = whole.mul_f64(rng.random_range(0.0..0.8));
                let begun = folder.join("manifest.json").exists();
                let mut child = self
                    .command(bin_dir, place.path(), &out)
                    .spawn()
                    .into_diagnostic()?;
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
                        outcome.kills += 1;
                        outcome.kills_while_starting += usize::from(!begun);
                        // Reads and verifies whatever is the newest complete checkpoint.
                        CheckpointStore::new(&folder).latest().into_diagnostic()?;
                    }
                    Some(code) => {
                        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
                        return Err(miette!("{out}: continued with exit code {code}: {stderr}"));
                    }
                }
            }
            self.finish(bin_dir, place.path(), &out)?;
            Traces::of(&folder)?
                .compare(&expected)
                .wrap_err_with(|| format!("{out} after {here} kills"))?;
            outcome.recovered += 1;
            fs::remove_dir_all(&folder).into_diagnostic()?;
        }
        Ok(outcome)
    }
}

/// What must not depend on how often a run was stopped.
struct Traces {
    files: BTreeMap<String, Vec<u8>>,
    result: Value,
}

impl Traces {
    fn of(run: &Path) -> miette::Result<Self> {
        let mut files = BTreeMap::new();
        collect(run, "", &mut files)?;
        let result = files
            .get("result.json")
            .ok_or_else(|| miette!("{} has no result.json", run.display()))?;
        let mut result: Value = serde_json::from_slice(result).into_diagnostic()?;
        if let Some(fields) = result.as_object_mut() {
            for name in MEASURED_FIELDS {
                fields.remove(name);
            }
        }
        files.retain(|name, _| {
            let name = name.rsplit('/').next().unwrap_or(name);
            !MEASURED.contains(&name)
        });
        Ok(Self { files, result })
    }

    fn compare(&self, expected: &Self) -> miette::Result<()> {
        let names = |traces: &Self| traces.files.keys().cloned().collect::<Vec<_>>();
        if names(self) != names(expected) {
            return Err(miette!(
                "expected the files {:?}, found {:?}",
                names(expected),
                names(self)
            ));
        }
        for (name, bytes) in &self.files {
            if expected.files.get(name) != Some(bytes) {
                return Err(miette!("{name} differs from the undisturbed run's"));
            }
        }
        if self.result != expected.result {
            return Err(miette!("result.json differs from the undisturbed run's"));
        }
        Ok(())
    }
}

fn collect(dir: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) -> miette::Result<()> {
    for entry in fs::read_dir(dir).into_diagnostic()? {
        let entry = entry.into_diagnostic()?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().into_diagnostic()?.is_dir() {
            collect(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.insert(name, fs::read(entry.path()).into_diagnostic()?);
        }
    }
    Ok(())
}
