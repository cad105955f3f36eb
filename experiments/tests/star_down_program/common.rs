//! A data set and settings so small that a run takes a fraction of a second.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Done, call, check_refusal};

/// The program.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_star_down");

/// Fine categories with their coarse one and their words; most words are in the vocabulary of the
/// encoder fixture, too.
const TOPICS: [(&str, &str, [&str; 3]); 6] = [
    ("home", "light", ["light", "kitchen", "turn"]),
    ("home", "alarm", ["alarm", "set", "now"]),
    ("home", "lock", ["lock", "door", "key"]),
    ("media", "song", ["song", "play", "word"]),
    ("media", "weather", ["weather", "what", "is"]),
    ("media", "film", ["film", "actor", "screen"]),
];
const FILL: [&str; 7] = ["the", "a", "on", "off", "please", "b", "c"];

/// Training and test rows of every fine category.
pub(crate) const TRAIN: usize = 12;
pub(crate) const TEST: usize = 4;
/// Rows of the training file.
pub(crate) const TRAIN_ROWS: usize = TRAIN * TOPICS.len();

/// A folder with `data/train.tsv` and `data/test.tsv`, in which programs run.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.at("data")).unwrap();
        place.write_data(true);
        place
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// Objects of `metrics.jsonl` in the run directory `run`.
    pub(crate) fn metrics(&self, run: &str) -> Vec<Value> {
        self.read(&format!("{run}/metrics.jsonl"))
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub(crate) fn write_data(&self, fine: bool) {
        for (split, range) in [("train", 0..TRAIN), ("test", TRAIN..TRAIN + TEST)] {
            fs::write(self.at(&format!("data/{split}.tsv")), table(range, fine)).unwrap();
        }
    }

    /// Replaces text in a file.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "`{from}` is not in {name}");
        fs::write(self.at(name), text.replacen(from, to, 1)).unwrap();
    }

    /// Copies the encoder fixture to `model`.
    pub(crate) fn model(&self) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../crates/encoder/tests/fixtures/tiny_bert");
        fs::create_dir(self.at("model")).unwrap();
        for name in ["config.json", "model.safetensors", "tokenizer.json"] {
            fs::copy(from.join(name), self.at("model").join(name)).unwrap();
        }
    }

    /// Runs the program with exactly these arguments.
    pub(crate) fn program<S: AsRef<str>>(&self, arguments: &[S]) -> Done {
        call(BINARY, self.path(), arguments)
    }

    /// Runs on the small data with the small settings into `out`; later arguments win.
    pub(crate) fn run(&self, more: &[&str]) -> Done {
        self.program(&arguments(more))
    }

    /// As [`run`](Self::run), and it must succeed.
    pub(crate) fn run_well(&self, more: &[&str]) -> Done {
        let done = self.run(more);
        assert_eq!(done.code, 0, "{more:?}: {}", done.stderr);
        done
    }

    /// Bad input: exit code 2, all of `words` in the message, no panic, nothing on standard output,
    /// no run directory.
    pub(crate) fn refuses(&self, more: &[&str], words: &[&str]) {
        let done = self.run(more);
        check_refusal(&done, words);
        assert!(!self.at("out").exists(), "a run directory was made");
    }
}

fn table(range: std::ops::Range<usize>, fine: bool) -> String {
    let mut text = String::from(if fine {
        "text\tcoarse\tfine\n"
    } else {
        "text\tcoarse\n"
    });
    for row in range {
        for (coarse, label, words) in TOPICS {
            let fill = (FILL[row % 7], FILL[(row / 2 + 3) % 7]);
            text += &format!(
                "{} {} {} {}\t{coarse}",
                fill.0,
                words[row % 3],
                fill.1,
                words[(row + 1) % 3]
            );
            if fine {
                text += &format!("\t{label}");
            }
            text.push('\n');
        }
    }
    text
}

/// Small settings, then `more`. An option in `more` replaces the same one here.
pub(crate) fn arguments(more: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for (option, value) in [
        ("--data", "data"),
        ("--model", "random"),
        ("--out", "out"),
        ("--seeds", "0"),
    ] {
        if !more.contains(&option) {
            all.extend([option.to_owned(), value.to_owned()]);
        }
    }
    for set in [
        "random.hidden=16",
        "random.layers=2",
        "random.heads=2",
        "random.intermediate=16",
        "max_len=12",
        "batch_size=16",
        "lr=0.01",
        "pretrain.epochs=1",
        "pretrain.schedule_epochs=0",
        "train.epochs=2",
        "train.schedule_epochs=0",
        "train.topk=5",
        "train.gaussian_dim=4",
        "train.decay_every=1",
        "eval.n_init=2",
        "eval.tsne_points=20",
    ] {
        all.extend(["--set".to_owned(), set.to_owned()]);
    }
    all.extend(more.iter().map(|argument| (*argument).to_owned()));
    all
}
