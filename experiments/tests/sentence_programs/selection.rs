//! The encoder that is kept: the best of the development set, which alone chooses.

use std::path::Path;

use burn::tensor::Device;
use encoder::{LoadOptions, SentenceEncoder};
use metrics::spearman;
use serde_json::Value;

use crate::common::{Place, Program, RegressionSts, Simcse};

/// Spearman of a model directory on the development part, computed from its vectors.
fn dev_spearman(place: &Place, model: &Path) -> f64 {
    let encoder = SentenceEncoder::load(model, &LoadOptions::default(), &Device::flex()).unwrap();
    let (mut cosines, mut gold) = (Vec::new(), Vec::new());
    for line in place.read("sts/stsb.tsv").lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        if fields[0] != "dev" {
            continue;
        }
        gold.push(fields[2].parse().unwrap());
        let vectors = encoder.encode(&[fields[3], fields[4]], 2).unwrap();
        let dot = |a: usize, b: usize| -> f64 {
            let pairs = vectors.row(a).iter().zip(vectors.row(b));
            pairs.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        };
        cosines.push(dot(0, 1) / (dot(0, 0) * dot(1, 1)).sqrt());
    }
    spearman(&cosines, &gold).unwrap()
}

/// The first of the largest.
fn best(scores: &[f64]) -> (usize, f64) {
    let mut best = (0, f64::NEG_INFINITY);
    for (at, score) in scores.iter().enumerate() {
        if *score > best.1 {
            best = (at, *score);
        }
    }
    best
}

#[test]
fn the_best_step_of_the_development_set_is_kept() {
    for (program, lr) in [(Simcse, "lr=0.002"), (RegressionSts, "nli.lr=0.002")] {
        for seed in ["0", "1", "2"] {
            let place = Place::new(program);
            let stage = if program == Simcse { "train" } else { "nli" };
            let more = [
                "--set",
                lr,
                "--set",
                "selection.every=1",
                "--stages",
                stage,
                "--seeds",
                seed,
            ];
            let done = place.run_well(&more);
            let scores = place.series("out", "dev_spearman");
            let (at, score) = best(&scores);
            let said = format!("step {} has the best development score", at + 1);
            assert!(done.stderr.contains(&said), "{scores:?}: {}", done.stderr);
            let found = dev_spearman(&place, &place.at("out/model"));
            assert!((found - score).abs() < 1e-12, "{found}, {scores:?}");
        }
    }
}

#[test]
fn without_looks_the_last_encoder_is_kept() {
    for program in Program::ALL {
        let place = Place::new(program);
        let done = place.run_well(&["--set", "selection.every=0"]);
        assert!(done.stderr.contains("evaluating the last encoder"));
        assert_eq!(place.series("out", "dev_spearman"), [0.0; 0]);
    }
}

#[test]
fn a_stage_shorter_than_the_interval_looks_at_its_end() {
    for program in Program::ALL {
        let place = Place::new(program);
        place.run_well(&["--set", "selection.every=1000"]);
        for stage in &program.stages()[1..] {
            let steps = place.steps("out");
            let of: Vec<bool> = steps
                .iter()
                .filter(|line| line["stage"] == *stage)
                .map(|line| line.get("dev_spearman").is_some())
                .collect();
            let looks: Vec<usize> = (0..of.len()).filter(|at| of[*at]).collect();
            assert_eq!(looks, [of.len() - 1], "{stage}");
        }
    }
}

#[test]
fn test_scores_have_no_say() {
    for program in Program::ALL {
        let place = Place::new(program);
        place.run_well(&["--set", "selection.every=1", "--out", "one"]);
        // The same texts with all scores turned round.
        let turned: String = place
            .read("sts/stsb.tsv")
            .lines()
            .map(|line| match line.strip_prefix("test\tx\t") {
                Some(rest) => {
                    let score: f64 = rest[..1].parse().unwrap();
                    format!("test\tx\t{}{}\n", 6.0 - score, &rest[1..])
                }
                None => format!("{line}\n"),
            })
            .collect();
        place.write("sts/stsb.tsv", &turned);
        place.run_well(&["--set", "selection.every=1", "--out", "two"]);
        let last = program.stages().last().unwrap();
        assert_ne!(place.rows("one", last), place.rows("two", last));
        let weights = |run: &str| place.bytes(&format!("{run}/model/model.safetensors"));
        assert!(weights("one") == weights("two"), "{program:?}");
        assert_eq!(
            place.series("one", "dev_spearman"),
            place.series("two", "dev_spearman")
        );
    }
}

#[test]
fn constant_development_scores_are_missing_and_the_run_ends() {
    for program in Program::ALL {
        let place = Place::new(program);
        let constant: String = place
            .read("sts/stsb.tsv")
            .lines()
            .map(|line| match line.strip_prefix("dev\tx\t") {
                Some(rest) => format!("dev\tx\t3{}\n", &rest[1..]),
                None => format!("{line}\n"),
            })
            .collect();
        place.write("sts/stsb.tsv", &constant);
        let done = place.run_well(&[]);
        assert!(
            done.stderr.contains("no development score"),
            "{}",
            done.stderr
        );
        assert_eq!(place.series("out", "dev_spearman"), [0.0; 0]);
        assert!(!place.series("out", "dev_uniformity").is_empty());
        assert!(place.at("out/model/model.safetensors").exists());
    }
}

#[test]
fn constant_test_scores_are_missing() {
    for program in Program::ALL {
        let place = Place::new(program);
        let constant: String = place
            .read("sts/sickr.tsv")
            .lines()
            .map(|line| match line.strip_prefix("test\tx\t") {
                Some(rest) => format!("test\tx\t3{}\n", &rest[1..]),
                None => format!("{line}\n"),
            })
            .collect();
        place.write("sts/sickr.tsv", &constant);
        place.run_well(&[]);
        for stage in program.stages() {
            let rows = place.rows("out", stage);
            let of = |task: &str| {
                let correlation =
                    |row: &&Value| row["metric"] == "spearman" || row["metric"] == "pearson";
                let all = rows.iter().filter(|row| row["task"] == task);
                all.filter(correlation)
                    .filter(|row| row["value"].is_number())
                    .count()
            };
            assert_eq!((of("STSB"), of("SICKR")), (6, 0), "{rows:?}");
        }
    }
}

/// Stage 2 over many passes, looked at once, at its end.
const LONG: [&str; 4] = ["--set", "stage2.epochs=8", "--set", "selection.every=1000"];

#[test]
fn stage_2_has_to_beat_stage_1() {
    // Above an encoder that stage 1 left alone, a stage 2 that moves nothing gets the same score.
    for (frozen, rate) in [
        ("nli.frozen=false", "stage2.lr=0.001"),
        ("nli.frozen=true", "stage2.lr=1e-20"),
    ] {
        let place = Place::new(RegressionSts);
        // Scores the wrong way round make the encoder worse.
        let turned = place.read("scored.tsv").replace("\n5\t", "\n-\t");
        let turned = turned.replace("\n0\t", "\n5\t").replace("\n-\t", "\n0\t");
        place.write("scored.tsv", &turned);
        let more = [&LONG[..], &["--set", frozen, "--set", rate]].concat();
        let done = place.run_well(&more);
        assert!(
            done.stderr.contains("whose encoder stays"),
            "{}",
            done.stderr
        );
        assert_eq!(place.rows("out", "sts"), place.rows("out", "nli"));

        let faithful = ["--set", "faithful_select=true", "--out", "faithful"];
        let done = place.run_well(&[&more[..], &faithful].concat());
        assert!(done.stderr.contains("sts: step"), "{}", done.stderr);
        assert_eq!(place.rows("faithful", "nli"), place.rows("out", "nli"));
        let same = place.rows("faithful", "sts") == place.rows("faithful", "nli");
        assert_eq!(same, frozen == "nli.frozen=true");
    }
}
