//! Data and settings so small that a run takes a fraction of a second.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Done, call, check_refusal};

/// Words of the vocabulary of the encoder fixture.
const WORDS: [&str; 14] = [
    "play", "song", "turn", "off", "on", "kitchen", "light", "now", "please", "what", "weather",
    "set", "alarm", "word",
];

/// Rows of the training files.
pub(crate) const ROWS: usize = 40;
/// Rows of each part of `sts/stsb.tsv`.
pub(crate) const STS_ROWS: usize = 18;

/// One of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Simcse,
    RegressionSts,
}

pub(crate) use Program::{RegressionSts, Simcse};

impl Program {
    pub(crate) const ALL: [Self; 2] = [Simcse, RegressionSts];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Simcse => "simcse",
            RegressionSts => "regression_sts",
        }
    }

    pub(crate) fn binary(self) -> &'static str {
        match self {
            Simcse => env!("CARGO_BIN_EXE_simcse"),
            RegressionSts => env!("CARGO_BIN_EXE_regression_sts"),
        }
    }

    /// Stages as they are named in the results.
    pub(crate) fn stages(self) -> &'static [&'static str] {
        match self {
            Simcse => &["start", "simcse"],
            RegressionSts => &["start", "nli", "sts"],
        }
    }

    fn settings(self) -> &'static [&'static str] {
        match self {
            Simcse => &[
                "sts=sts",
                "max_len=12",
                "pooling=mean",
                "batch_size=8",
                "lr=0.001",
                "epochs=2",
                "selection.every=4",
                "checkpoint_every=3",
            ],
            RegressionSts => &[
                "sts=sts",
                "scored=scored.tsv",
                "dedup_against_eval=none",
                "max_len=12",
                "schedule=textbook",
                // A head drawn at random may be below 0 everywhere, where `all` has no gradient.
                "left_clamp=none",
                "nli.batch_size=8",
                "nli.lr=0.001",
                "stage2.batch_size=8",
                "stage2.lr=0.001",
                "stage2.epochs=2",
                "selection.every=4",
                "checkpoint_every=3",
            ],
        }
    }

    /// Small settings, then `more`. An option in `more` replaces the same one here.
    pub(crate) fn arguments(self, more: &[&str]) -> Vec<String> {
        let data = match self {
            Simcse => "triplets.csv",
            RegressionSts => "pairs.tsv",
        };
        let mut all: Vec<String> = Vec::new();
        for (option, value) in [
            ("--data", data),
            ("--model", "model"),
            ("--out", "out"),
            ("--seeds", "0"),
            ("--device", "flex"),
        ] {
            if !more.contains(&option) {
                all.extend([option.to_owned(), value.to_owned()]);
            }
        }
        for set in self.settings() {
            all.extend(["--set".to_owned(), (*set).to_owned()]);
        }
        all.extend(more.iter().map(|argument| (*argument).to_owned()));
        all
    }
}

/// `--set` for each.
pub(crate) fn sets<'s>(settings: &[&'s str]) -> Vec<&'s str> {
    settings.iter().flat_map(|set| ["--set", *set]).collect()
}

/// A folder with data files, STS tasks and a model, in which a program runs.
pub(crate) struct Place {
    dir: TempDir,
    pub(crate) program: Program,
}

impl Place {
    pub(crate) fn new(program: Program) -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
            program,
        };
        for dir in ["sts", "model"] {
            fs::create_dir(place.at(dir)).unwrap();
        }
        place.write("triplets.csv", &triplets());
        place.write("sentences.txt", &sentences());
        place.write(
            "pairs.tsv",
            &labelled("label\tpremise\thypothesis\n", LABELS),
        );
        place.write(
            "scored.tsv",
            &labelled("score\tsentence1\tsentence2\n", SCORES),
        );
        place.write("sts/stsb.tsv", &tasks());
        place.write("sts/sickr.tsv", &tasks().replace("\tx\t5", "\tx\t4"));
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../crates/encoder/tests/fixtures/tiny_bert");
        for name in ["config.json", "model.safetensors", "tokenizer.json"] {
            fs::copy(from.join(name), place.at("model").join(name)).unwrap();
        }
        place
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.at(name)).unwrap()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// Replaces text in a file, once.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "`{from}` is not in {name}");
        self.write(name, &text.replacen(from, to, 1));
    }

    /// Lines of training steps of the run `run`.
    pub(crate) fn steps(&self, run: &str) -> Vec<Value> {
        self.read(&format!("{run}/metrics.jsonl"))
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|line: &Value| line.get("step").is_some())
            .collect()
    }

    /// A figure of every training step that has it.
    pub(crate) fn series(&self, run: &str, name: &str) -> Vec<f64> {
        self.steps(run)
            .iter()
            .filter_map(|line| line.get(name)?.as_f64())
            .collect()
    }

    /// Result rows of a stage, without its name.
    pub(crate) fn rows(&self, run: &str, stage: &str) -> Vec<Value> {
        let result = self.json(&format!("{run}/result.json"));
        let rows = result["rows"].as_array().unwrap();
        rows.iter()
            .filter(|row| row["stage"] == stage)
            .cloned()
            .map(|mut row| {
                row["stage"] = Value::Null;
                row
            })
            .collect()
    }

    /// Runs the program with exactly these arguments.
    pub(crate) fn call<S: AsRef<str>>(&self, arguments: &[S]) -> Done {
        call(self.program.binary(), self.path(), arguments)
    }

    /// Runs on the small data with the small settings into `out`; later arguments win.
    pub(crate) fn run(&self, more: &[&str]) -> Done {
        self.call(&self.program.arguments(more))
    }

    /// As [`run`](Self::run), and it must succeed.
    pub(crate) fn run_well(&self, more: &[&str]) -> Done {
        let done = self.run(more);
        assert_eq!(done.code, 0, "{more:?}: {}", done.stderr);
        done
    }

    /// [`run_well`](Self::run_well) with settings, into a directory of its own.
    pub(crate) fn run_into(&self, out: &str, settings: &[&str]) -> Done {
        let mut more = sets(settings);
        more.extend(["--out", out]);
        self.run_well(&more)
    }

    /// Bad input: exit code 2, all of `words` in the message, no panic, nothing on standard output,
    /// no run directory.
    pub(crate) fn refuses(&self, more: &[&str], words: &[&str]) {
        let done = self.run(more);
        check_refusal(&done, words);
        assert!(!self.at("out").exists(), "a run directory was made");
    }
}

/// Both series have the same length and agree within `tolerance` of their size.
pub(crate) fn check_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (step, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * b.abs().max(1e-3),
            "step {step}: {a}, expected {b}"
        );
    }
}

/// Three words that depend on the row, from a part of the vocabulary that depends on the topic.
fn words(topic: usize, row: usize) -> String {
    let word = |at: usize| WORDS[(topic * 4 + at) % WORDS.len()];
    format!(
        "{} {} {}",
        word(row % 4),
        word(row / 2 % 4),
        word(row / 3 % 4)
    )
}

/// A text that no other topic and salt has.
fn text(topic: usize, row: usize, salt: usize) -> String {
    let fill = ["the", "a", "b", "c", "is"];
    format!(
        "{} {} {}",
        fill[(row + salt) % 5],
        words(topic, row + salt),
        fill[(row / 5 + 2 * salt) % 5]
    )
}

fn triplets() -> String {
    let mut file = String::from("sent0,sent1,hard_neg\n");
    for row in 0..ROWS {
        let topic = row % 3;
        file += &format!(
            "{},{},{}\n",
            text(topic, row, 0),
            text(topic, row, 1),
            text(topic + 1, row, 2)
        );
    }
    file
}

fn sentences() -> String {
    (0..ROWS).map(|row| text(row % 3, row, 0) + "\n").collect()
}

const LABELS: [&str; 3] = ["entailment", "neutral", "contradiction"];
const SCORES: [&str; 3] = ["5", "2", "0"];

fn labelled(header: &str, labels: [&str; 3]) -> String {
    let mut file = header.to_owned();
    for row in 0..ROWS {
        let degree = row % 3;
        let second = match degree {
            0 => text(0, row, 1),
            1 => format!("{} {}", words(0, row), words(1, row)),
            _ => text(2, row, 1),
        };
        file += &format!("{}\t{}\t{second}\n", labels[degree], text(0, row, 0));
    }
    file
}

/// A task with all three parts; scores 5, 3 and 1 of pairs that share more or fewer words.
fn tasks() -> String {
    let mut file = String::from("split\tsubset\tscore\tsentence1\tsentence2\n");
    for (part, salt) in [("train", 3), ("dev", 4), ("test", 5)] {
        for row in 0..STS_ROWS {
            let degree = row % 3;
            let first = text(row % 2, row, salt);
            let second = match degree {
                0 => format!("please {}", words(row % 2, row + salt)),
                1 => format!("{} {}", words(row % 2, row), words(2, row + salt)),
                _ => text(row % 2 + 1, row + 2, salt),
            };
            file += &format!("{part}\tx\t{}\t{first}\t{second}\n", 5 - 2 * degree);
        }
    }
    file
}
