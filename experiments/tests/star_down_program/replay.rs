//! Runs repeat, and what stops one loses nothing: signals, kills, full disks.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::common::{BINARY, Place, TRAIN_ROWS, arguments};
use crate::program::check_refusal;
use crate::traces::{RESUME, Scene, Traces, lines};

/// Every batch of two epochs: a fixed order that has nothing to do with the seed.
fn batch_order(step: usize) -> String {
    let rows: Vec<usize> = (0..2 * TRAIN_ROWS).map(|i| i * step % TRAIN_ROWS).collect();
    let batches: Vec<Vec<usize>> = rows
        .chunks(TRAIN_ROWS)
        .flat_map(|epoch| epoch.chunks(16).map(<[usize]>::to_vec))
        .collect();
    serde_json::to_string(&batches).unwrap()
}

/// No dropout, no replaced tokens, given batches.
const DETERMINED: [&str; 6] = [
    "--set",
    "dropout=0",
    "--set",
    "train.rtr=0",
    "--set",
    "batch_order_file=order.json",
];

fn scene(place: &Place) -> Scene<'_> {
    Scene {
        binary: BINARY,
        dir: place.path(),
    }
}

/// What a run of `out` left.
fn traces(place: &Place, run: &str) -> Traces {
    Traces::of(&place.at(run), &[])
}

/// The undisturbed run, with the files a run must have.
fn undisturbed(place: &Place, more: &[&str]) -> Traces {
    place.run_well(&[more, &["--out", "reference"]].concat());
    let needed = [
        "metrics.jsonl",
        "events/events.out.tfevents.0.asterism",
        "model/model.safetensors",
        "model/asterism.safetensors",
        "report_parts.json",
        "config.toml",
    ];
    Traces::of(&place.at("reference"), &needed)
}

/// Two seeds, all stages: about 110 log lines.
const TWO_SEEDS: [&str; 4] = ["--seeds", "0,1", "--set", "pretrain.epochs=2"];

/// Stops the run at growing numbers of log lines.
fn survives(more: &[&str], signal: &str, moments: &[usize], at_least: usize) {
    let place = Place::new();
    fs::write(place.at("order.json"), batch_order(5)).unwrap();
    let more = [&TWO_SEEDS, more].concat();
    let expected = undisturbed(&place, &more);
    scene(&place).survives(&arguments(&more), signal, moments, at_least, &expected);
}

#[test]
fn two_runs_with_the_same_batches_give_the_same_losses() {
    let place = Place::new();
    fs::write(place.at("order.json"), batch_order(5)).unwrap();
    let expected = undisturbed(&place, &DETERMINED);
    place.run_well(&DETERMINED);
    traces(&place, "out").check(&expected, "the same batches again");

    // The order counts: another one, and none, give other losses.
    let losses = |run: &str| -> Vec<f64> {
        let of_stage = |row: &Value| row["stage"] == "down" || row["stage"] == "star";
        let metrics = place.metrics(run);
        metrics
            .iter()
            .filter(|row| of_stage(row))
            .filter_map(|row| row["loss"].as_f64())
            .collect()
    };
    let given = losses("reference");
    assert_eq!(given.len(), 20);
    fs::write(place.at("order.json"), batch_order(7)).unwrap();
    place.run_well(&[&DETERMINED[..], &["--out", "other"]].concat());
    assert_ne!(losses("other"), given);
    place.run_well(&[&DETERMINED[..4], &["--out", "shuffled"]].concat());
    assert_ne!(losses("shuffled"), given);
}

#[test]
fn the_same_seed_gives_the_same_run_with_dropout_too() {
    let place = Place::new();
    let expected = undisturbed(&place, &[]);
    place.run_well(&[]);
    traces(&place, "out").check(&expected, "the same seed again");
    place.run_well(&["--seeds", "1", "--out", "other"]);
    assert!(traces(&place, "other") != expected);
}

#[test]
fn killed_and_resumed_with_given_batches() {
    survives(
        &DETERMINED,
        "KILL",
        &[1, 7, 14, 21, 28, 33, 45, 60, 75, 90, 100],
        4,
    );
}

#[test]
fn killed_and_resumed_with_dropout_and_replaced_tokens() {
    survives(&[], "KILL", &[3, 12, 21, 33, 50, 75, 95], 4);
}

#[test]
fn killed_and_resumed_within_an_epoch_with_a_bank_in_f16() {
    survives(
        &[
            "--set",
            "train.bank_storage=f16",
            "--set",
            "checkpoint_every=2",
        ],
        "KILL",
        &[5, 19, 31, 52, 77],
        3,
    );
}

#[test]
fn killed_again_and_again_while_starting() {
    // No line has to be there: the kill may come while the data are read or a directory is made.
    let place = Place::new();
    let expected = undisturbed(&place, &[]);
    let scene = scene(&place);
    for wait in [0, 3, 6, 10, 15, 25, 40] {
        let begun = place.at("out/manifest.json").exists();
        let mut child = if begun {
            scene.spawn(&["--resume", "out", "--quiet"])
        } else {
            scene.spawn(&arguments(&["--quiet"]))
        };
        sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() || status.code().is_none(), "{status}");
    }
    let done = if place.at("out/manifest.json").exists() {
        place.program(&["--resume", "out"])
    } else {
        place.run(&[])
    };
    assert_eq!(done.code, 0, "{}", done.stderr);
    // The progress lines differ, the command line with them; both are left out of the comparison.
    traces(&place, "out").check(&expected, "killed while starting");
}

#[test]
fn ctrl_c_saves_and_exits_with_130() {
    survives(&[], "INT", &[1, 8, 20, 44, 70], 3);
}

#[test]
fn sigterm_saves_and_exits_with_143() {
    survives(&[], "TERM", &[6, 28, 55], 2);
}

#[test]
fn ctrl_c_between_stages_without_steps() {
    let seeds: Vec<String> = (0..40).map(|seed| seed.to_string()).collect();
    let seeds = seeds.join(",");
    let more = [
        "--stages",
        "tfidf,frozen",
        "--seeds",
        &seeds,
        "--set",
        "eval.n_init=20",
    ];
    let place = Place::new();
    place.run_well(&[&more[..], &["--out", "reference"]].concat());
    let expected = traces(&place, "reference");
    let moments = [1, 30, 60];
    scene(&place).survives(&arguments(&more), "INT", &moments, 1, &expected);
}

/// Restarts of k-means that would take hours.
const ENDLESS: [&str; 4] = ["--stages", "frozen", "--set", "eval.n_init=1000000000"];

#[test]
fn a_signal_in_a_long_evaluation_does_not_wait_for_its_end() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let place = Place::new();
        let scene = scene(&place);
        let (status, stderr) = scene.signal_at(scene.spawn(&arguments(&ENDLESS)), signal, 0);
        assert_eq!(status.code(), Some(code), "{stderr}");
        assert!(stderr.contains("continue with --resume out"), "{stderr}");
        // It goes on where it was.
        let (status, stderr) = scene.signal_at(scene.spawn(&RESUME), signal, 0);
        assert_eq!(status.code(), Some(code), "{stderr}");
    }
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    // The first signal may still come before the evaluation, where the run saves and ends in order.
    let at_once = [0, 500, 2000, 5000].into_iter().any(|wait| {
        let (code, said) = two_signals(Duration::from_millis(wait));
        // Two signals that are pending together may arrive in either order.
        assert!(matches!(code, Some(130 | 143)), "{code:?}: {said}");
        // The handler says nothing, because it cannot; a run that has saved does.
        said.is_empty()
    });
    assert!(at_once, "every run ended in order");
}

/// Interrupts an evaluation that takes for ever, terminates it 50 ms later; exit code and messages.
fn two_signals(wait: Duration) -> (Option<i32>, String) {
    let place = Place::new();
    let scene = scene(&place);
    let mut child = scene.spawn(&arguments(&[&ENDLESS[..], &["--quiet"]].concat()));
    while !scene.is_at_work(&child) {
        assert!(child.try_wait().unwrap().is_none(), "ended too early");
        sleep(Duration::from_millis(1));
    }
    sleep(wait);
    for signal in ["-INT", "-TERM"] {
        // The process may have ended by itself.
        let _ = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .stderr(Stdio::null())
            .status();
        sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_run_at_work_is_not_resumed_by_another_process() {
    let place = Place::new();
    let seeds: Vec<String> = (0..40).map(|seed| seed.to_string()).collect();
    let mut child = scene(&place).spawn(&arguments(&["--seeds", &seeds.join(",")]));
    while lines(&place.at("out/metrics.jsonl")) < 2 {
        assert!(child.try_wait().unwrap().is_none(), "ended too early");
        sleep(Duration::from_millis(1));
    }
    let done = place.program(&["--resume", "out"]);
    let owner = child.id().to_string();
    child.kill().unwrap();
    child.wait().unwrap();
    check_refusal(&done, &["out is in use", &owner]);
}

#[test]
fn full_disk_at_a_checkpoint() {
    let place = Place::new();
    let expected = undisturbed(&place, &[]);
    scene(&place).full_disk_at_a_checkpoint(&arguments(&[]), &expected);
}

#[test]
fn full_disk_at_a_later_checkpoint() {
    let place = Place::new();
    let expected = undisturbed(&place, &[]);
    scene(&place).full_disk_at_a_later_checkpoint(&arguments(&[]), 15, &expected);
}

#[test]
fn full_disk_at_the_log() {
    let place = Place::new();
    let expected = undisturbed(&place, &[]);
    scene(&place).full_disk_at_the_log(&arguments(&[]), 2, &expected);
}

#[test]
fn full_disk_at_the_results() {
    let place = Place::new();
    place.run_well(&["--stages", "frozen"]);
    scene(&place).full_disk_at_the_results(1);
}
