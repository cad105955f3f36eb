//! Options, printed text and the files of a run directory.

use std::collections::BTreeSet;
use std::fs;

use burn::tensor::Device;
use datasets::{Limits, StsName, load_sts_task};
use encoder::{LoadOptions, Pooling, SentenceEncoder, Template};
use experiments::evaluate::sts_dev;
use serde_json::{Value, json};

use crate::common::{Place, Program, ROWS, RegressionSts, Simcse, sets};

#[test]
fn the_bundled_texts_and_encoder_go_through() {
    // What a run without arguments does, with fewer steps.
    for (program, settings) in [
        (Simcse, &["max_steps=3", "selection.every=2"][..]),
        (
            RegressionSts,
            &["nli.max_steps=2", "stage2.max_steps=2", "selection.every=2"],
        ),
    ] {
        let place = Place::new(program);
        let done = place.call(&sets(settings));
        assert_eq!(done.code, 0, "{}", done.stderr);
        let run = format!("runs/{}-001", program.name());
        check_files(&place, &run);
        let result = place.json(&format!("{run}/result.json"));
        assert_eq!(result["data"]["name"], "pocket");
        assert_eq!(result["model"]["name"], "pocket");
        check_stages(&result, program, &["POCKET"]);
    }
}

#[test]
fn dry_run_prints_settings_that_resolve_to_themselves() {
    for program in Program::ALL {
        let place = Place::new(program);
        let files = fs::read_dir(place.path()).unwrap().count();
        for more in [
            vec![],
            vec!["--data", "somewhere"],
            vec!["--model", "m", "--seeds", "3, 4", "--stages", "start"],
            vec!["--set", "optimizer.clip=0", "--set", "selection.every=7"],
        ] {
            let first = place.call(&[&more[..], &["--dry-run"]].concat());
            assert_eq!((first.code, first.stderr.as_str()), (0, ""));
            place.write("printed.toml", &first.stdout);
            let again = place.call(&["--config", "printed.toml", "--dry-run"]);
            assert_eq!(again.code, 0, "{}", again.stderr);
            assert_eq!(again.stdout, first.stdout, "{more:?}");
        }
        let left = fs::read_dir(place.path()).unwrap().count();
        assert_eq!(left, files + 1, "a dry run wrote something");
    }
}

#[test]
fn the_bundled_settings_serve_the_bundled_set_only() {
    for program in Program::ALL {
        let place = Place::new(program);
        let dry = |more: &[&str]| -> toml::Table {
            let done = place.call(&[more, &["--dry-run"]].concat());
            done.stdout.parse().unwrap()
        };
        let (bundled, own) = (dry(&[]), dry(&["--data", "mine.csv"]));
        for key in ["data", "model"] {
            assert_eq!(bundled[key].as_str(), Some("pocket"));
        }
        assert_ne!(bundled["selection"], own["selection"]);
    }
}

fn check_files(place: &Place, run: &str) {
    for name in [
        "config.toml",
        "manifest.json",
        "metrics.jsonl",
        "result.json",
        "report.html",
        "events/events.out.tfevents.0.asterism",
        "model/config.json",
        "model/model.safetensors",
        "model/tokenizer.json",
        "model/modules.json",
        "model/1_Pooling/config.json",
        "plots/loss-loss.svg",
        "plots/loss-dev-spearman.svg",
        "plots/alignment-uniformity.svg",
    ] {
        let path = place.at(&format!("{run}/{name}"));
        assert!(
            fs::metadata(path).is_ok_and(|file| file.len() > 0),
            "{name}"
        );
    }
    let checkpoints: Vec<_> = fs::read_dir(place.at(&format!("{run}/checkpoints")))
        .unwrap()
        .collect();
    assert_eq!(checkpoints.len(), 1);
    let report = place.read(&format!("{run}/report.html"));
    assert!(report.contains("<svg"));
    for outside in ["src=\"http", "href=\"http", "url(http", "<link", "@import"] {
        assert!(!report.contains(outside), "the report needs `{outside}`");
    }
}

/// Rows of every stage in order, for every task.
fn check_stages(result: &Value, program: Program, tasks: &[&str]) {
    let rows = result["rows"].as_array().unwrap();
    let mut stages: Vec<&str> = rows
        .iter()
        .map(|row| row["stage"].as_str().unwrap())
        .collect();
    stages.dedup();
    assert_eq!(stages, program.stages());
    for stage in stages {
        let of: Vec<&Value> = rows.iter().filter(|row| row["stage"] == stage).collect();
        let named: BTreeSet<&str> = of.iter().map(|row| row["task"].as_str().unwrap()).collect();
        assert_eq!(named, tasks.iter().copied().collect(), "{stage}");
        for task in tasks {
            let all = of.iter().filter(|row| row["task"] == *task);
            let kinds: BTreeSet<(&str, &str)> = all
                .map(|row| {
                    let part = |key: &str| row[key].as_str().unwrap();
                    assert_eq!(row["split"], "test");
                    assert!(row["value"].is_number(), "{row}");
                    (part("metric"), part("aggregation"))
                })
                .collect();
            for metric in ["spearman", "pearson"] {
                for aggregation in ["all", "mean", "wmean"] {
                    assert!(
                        kinds.contains(&(metric, aggregation)),
                        "{stage} {task}: {kinds:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_run_directory_is_complete() {
    for program in Program::ALL {
        let place = Place::new(program);
        let done = place.run_well(&[]);
        for word in ["stage", "STSB", "SICKR", "model/", "out"] {
            assert!(
                done.stdout.contains(word),
                "`{word}` is not in {}",
                done.stdout
            );
        }
        check_files(&place, "out");

        let manifest = place.json("out/manifest.json");
        assert_eq!(manifest["schema"], "asterism/run/1");
        assert_eq!(manifest["seed"], 0);
        assert!(manifest["device"].is_string());
        let result = place.json("out/result.json");
        assert_eq!(result["schema"], "asterism/result/1");
        assert_eq!(result["experiment"], program.name());
        let (files, rows): (&[&str], usize) = match program {
            Simcse => (&["triplets.csv", "stsb.tsv", "sickr.tsv"], ROWS),
            RegressionSts => (
                &["pairs.tsv", "scored.tsv", "stsb.tsv", "sickr.tsv"],
                2 * ROWS,
            ),
        };
        for file in files {
            let hash = result["data"]["sha256"][file].as_str();
            assert_eq!(hash.map(str::len), Some(64), "{file}");
        }
        assert_eq!(manifest["data"], result["data"]["sha256"]);
        assert_eq!(manifest["model"], result["model"]["sha256"]);
        assert_eq!(result["data"]["train_rows"], rows);
        assert_eq!(result["model"]["pooling"], "mean");
        assert_eq!(result["config"]["max_len"], 12);
        check_stages(&result, program, &["STSB", "SICKR"]);

        let steps: Vec<(&str, u64)> = result["timing"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| {
                let stage = entry["stage"].as_str().unwrap();
                (stage, entry["steps"].as_u64().unwrap())
            })
            .collect();
        let expected: &[(&str, u64)] = match program {
            Simcse => &[("start", 0), ("simcse", 10)],
            RegressionSts => &[("start", 0), ("nli", 5), ("sts", 10)],
        };
        assert_eq!(steps, expected);
        assert!(result["peak_rss_mb"].as_f64().unwrap() > 0.0);
        for entry in result["summary"].as_array().unwrap() {
            assert_eq!(entry["n"], 1, "{entry}");
        }
    }
}

#[test]
fn every_step_is_logged_and_every_fourth_looks_at_the_development_set() {
    for program in Program::ALL {
        let place = Place::new(program);
        place.run_well(&[]);
        let steps = place.steps("out");
        let training: Vec<&str> = program.stages()[1..].to_vec();
        let mut global = 0;
        for stage in training {
            let of: Vec<&Value> = steps.iter().filter(|line| line["stage"] == stage).collect();
            for (local, line) in of.iter().enumerate() {
                assert_eq!(line["step"], global, "{line}");
                global += 1;
                assert_eq!(line["seed"], json!(0.0));
                for key in ["loss", "grad_norm", "lr"] {
                    assert!(
                        line[key].as_f64().is_some_and(f64::is_finite),
                        "{key}: {line}"
                    );
                }
                let looked = (local + 1) % 4 == 0;
                for key in ["dev_spearman", "dev_alignment", "dev_uniformity"] {
                    assert_eq!(line.get(key).is_some(), looked, "{key}: {line}");
                }
            }
        }
        assert_eq!(global, steps.len());
    }
}

#[test]
fn quiet_prints_nothing() {
    for program in Program::ALL {
        let place = Place::new(program);
        let done = place.run_well(&["--quiet"]);
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    }
}

#[test]
fn seeds_and_stages() {
    for program in Program::ALL {
        let place = Place::new(program);
        place.run_well(&["--stages", "start", "--out", "start"]);
        assert!(!place.at("start/model").exists());
        let stage = program.stages()[1];
        let name = if program == Simcse { "train" } else { stage };
        place.run_well(&["--stages", name, "--seeds", "3,5", "--out", "both"]);
        for entry in place.json("both/result.json")["summary"]
            .as_array()
            .unwrap()
        {
            assert_eq!((&entry["stage"], &entry["n"]), (&json!(stage), &json!(2)));
            assert!(
                entry["mean"].is_number() && entry["std"].is_number(),
                "{entry}"
            );
        }
        // A seed alone gives what it gives in company; the model is that of the first one.
        place.run_well(&["--stages", name, "--seeds", "3", "--out", "alone"]);
        place.run_well(&["--stages", name, "--seeds", "5", "--out", "other"]);
        let rows = |run: &str| place.rows(run, stage);
        assert_eq!(rows("both"), [rows("alone"), rows("other")].concat());
        for (run, seed) in [("alone", 3), ("other", 5)] {
            assert!(rows(run).iter().all(|row| row["seed"] == seed), "{run}");
        }
        let weights = |run: &str| place.bytes(&format!("{run}/model/model.safetensors"));
        assert!(weights("both") == weights("alone"));
        assert!(weights("both") != weights("other"));
    }
}

#[test]
fn the_model_directory_is_the_encoder_that_was_scored() {
    for program in Program::ALL {
        let place = Place::new(program);
        place.run_well(&[]);
        let model = SentenceEncoder::load(
            &place.at("out/model"),
            &LoadOptions::default(),
            &Device::flex(),
        )
        .unwrap();
        let vectors = model
            .encode(&["please turn the light off", "song"], 8)
            .unwrap();
        assert_eq!((vectors.rows(), vectors.dim), (2, 24));
        place.run_well(&[
            "--model",
            "out/model",
            "--stages",
            "start",
            "--out",
            "again",
        ]);
        let last = program.stages().last().unwrap();
        assert_eq!(place.rows("again", "start"), place.rows("out", last));
    }
}

#[test]
fn a_template_is_trained_scored_and_saved() {
    for program in Program::ALL {
        let place = Place::new(program);
        let settings = ["pooling=mask", "max_len=9", "eval_max_len=9", "dropout=0"];
        // Regression STS has one length for all.
        let settings = settings
            .iter()
            .filter(|set| program == Simcse || !set.starts_with("eval"));
        let settings: Vec<&str> = settings.copied().collect();
        place.run_into("out", &settings);
        let result = place.json("out/result.json");
        assert_eq!(result["model"]["pooling"], "mask");
        assert_eq!(result["model"]["template"], Template::NGCSE);
        let options = LoadOptions::default();
        let device = Device::flex();
        let model = SentenceEncoder::load(&place.at("out/model"), &options, &device).unwrap();
        assert_eq!(model.pooling, Pooling::Mask);
        assert_eq!(model.template.as_ref().unwrap().text(), Template::NGCSE);
        // Used as it was scored; and what it was chosen by is what the development set says of it.
        let start = [
            "--model",
            "out/model",
            "--stages",
            "start",
            "--out",
            "again",
        ];
        place.run_well(&[&sets(&settings)[..], &start].concat());
        let last = *program.stages().last().unwrap();
        assert_eq!(place.rows("again", "start"), place.rows("out", last));
        let task = load_sts_task(&place.at("sts"), StsName::StsB, Limits::default()).unwrap();
        let found = sts_dev(&model, &task, 4).unwrap().unwrap();
        let best = |stage: &str| {
            let steps = place.steps("out");
            let of = steps.iter().filter(|line| line["stage"] == stage);
            of.filter_map(|line| line["dev_spearman"].as_f64())
                .fold(f64::MIN, f64::max)
        };
        let stages = &program.stages()[1..];
        let chosen = stages.iter().map(|stage| best(stage));
        let chosen = chosen.fold(f64::MIN, f64::max);
        assert!(
            (found - chosen).abs() < 1e-6,
            "{program:?}: {found} {chosen}"
        );
    }
}

#[test]
fn a_run_that_diverges_fails_with_code_1() {
    for (program, set) in [(Simcse, "lr=1e30"), (RegressionSts, "nli.lr=1e30")] {
        let place = Place::new(program);
        let done = place.run(&["--set", set]);
        assert_eq!(done.code, 1, "{done:?}");
        assert!(done.stderr.contains("step"), "{}", done.stderr);
    }
}
