//! Generated rows beside the small data of the other programs.

use experiments::ngcse::{Trace, read_traces};
use serde_json::json;

use crate::common::{Place, Simcse, sets};
use crate::program::{Done, call, check_refusal};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_ngcse");

/// Settings of every test, before its own.
const SETTINGS: [&str; 15] = [
    "sts=sts",
    "sts_rows=sts.jsonl",
    "nli_rows=nli.jsonl",
    "held_out=0.3",
    "max_len=12",
    "pooling=mean",
    "batch_size=8",
    "aigen_batch_size=4",
    "lr=0.001",
    "epochs=2",
    "head_dim=20",
    "head_std=0.2",
    "dropout=0.1",
    "selection.every=3",
    "checkpoint_every=2",
];

/// A folder in which `ngcse` runs.
pub(crate) struct NgcsePlace(pub(crate) Place);

impl NgcsePlace {
    pub(crate) fn new() -> Self {
        let place = Place::new(Simcse);
        let file = place.read("triplets.csv");
        let (mut sts, mut nli) = (String::new(), String::new());
        for (row, line) in file.lines().skip(1).enumerate().step_by(2) {
            let cells: Vec<&str> = line.split(',').collect();
            let [sentence, positive, negative] = cells[..] else {
                panic!("{line}");
            };
            let part = sentence.rsplit_once(' ').unwrap().0;
            let all = json!({
                "sentence": sentence, "5": positive, "4": part, "3": negative, "split": "aigen",
            });
            sts += &format!("{all}\n");
            // Not for all sentences that have STS rows.
            if row % 8 != 0 {
                let two = json!({
                    "sentence": sentence, "5": positive, "4": negative, "split": "aigen",
                });
                nli += &format!("{two}\n");
            }
        }
        place.write("sts.jsonl", &sts);
        place.write("nli.jsonl", &nli);
        Self(place)
    }

    /// The small settings, then `more`. An option in `more` replaces the same one here.
    pub(crate) fn arguments(more: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for (option, value) in [
            ("--data", "triplets.csv"),
            ("--model", "model"),
            ("--out", "out"),
            ("--seeds", "0"),
            ("--device", "flex"),
        ] {
            if !more.contains(&option) {
                all.extend([option.to_owned(), value.to_owned()]);
            }
        }
        all.extend(
            sets(&SETTINGS)
                .iter()
                .map(|argument| (*argument).to_owned()),
        );
        all.extend(more.iter().map(|argument| (*argument).to_owned()));
        all
    }

    pub(crate) fn call<S: AsRef<str>>(&self, arguments: &[S]) -> Done {
        call(BINARY, self.0.path(), arguments)
    }

    pub(crate) fn run_well(&self, more: &[&str]) -> Done {
        let done = self.call(&Self::arguments(more));
        assert_eq!(done.code, 0, "{more:?}: {}", done.stderr);
        done
    }

    /// Trains one or several settings into a directory of its own.
    pub(crate) fn train(&self, out: &str, setting: &str, settings: &[&str]) -> Done {
        let mut more = sets(settings);
        more.extend(["--setting", setting, "--out", out, "--stages", "train"]);
        self.run_well(&more)
    }

    /// Bad input is refused before there is a run directory.
    pub(crate) fn refuses(&self, more: &[&str], words: &[&str]) {
        let done = self.call(&Self::arguments(more));
        check_refusal(&done, words);
        assert!(!self.0.at("out").exists(), "a run directory was made");
    }

    pub(crate) fn traces(&self, run: &str) -> Vec<Trace> {
        read_traces(&self.0.at(&format!("{run}/traces.csv"))).unwrap()
    }

    /// A figure of the training steps of a stage.
    pub(crate) fn series(&self, run: &str, stage: &str, name: &str) -> Vec<f64> {
        let steps = self.0.steps(run);
        let of = steps.iter().filter(|line| line["stage"] == stage);
        of.filter_map(|line| line.get(name)?.as_f64()).collect()
    }
}
