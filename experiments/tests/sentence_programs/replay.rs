//! Runs repeat, and a killed run loses nothing.

use std::process::Command;

use crate::common::{Place, Program, RegressionSts, Simcse, sets};
use crate::program::check_refusal;
use crate::traces::{Scene, Traces};

/// Files that every run must have.
const NEEDED: [&str; 4] = [
    "metrics.jsonl",
    "events/events.out.tfevents.0.asterism",
    "model/model.safetensors",
    "config.toml",
];

fn scene(place: &Place) -> Scene<'_> {
    Scene {
        binary: place.program.binary(),
        dir: place.path(),
    }
}

fn traces(place: &Place, run: &str) -> Traces {
    Traces::of(&place.at(run), &NEEDED)
}

/// The undisturbed run.
fn undisturbed(place: &Place, more: &[&str]) -> Traces {
    place.run_well(&[more, &["--out", "reference"]].concat());
    traces(place, "reference")
}

/// Stops a run of two seeds at growing numbers of log lines.
fn survives(program: Program, settings: &[&str], signal: &str, moments: &[usize], at_least: usize) {
    let place = Place::new(program);
    let mut more = sets(settings);
    more.extend(["--seeds", "0,1"]);
    let expected = undisturbed(&place, &more);
    let arguments = program.arguments(&more);
    scene(&place).survives(&arguments, signal, moments, at_least, &expected);
}

// Two seeds of SimCSE log 84 lines: 16 of evaluation, 10 steps, 16 of evaluation, and again.
const SIMCSE: [usize; 5] = [1, 17, 22, 38, 61];
// Two seeds of regression STS log 126 lines: 16 of evaluation, 5 steps, 16 of evaluation, 10 steps, 16
// of evaluation, and again.
const REGRESSION: [usize; 6] = [2, 18, 32, 40, 82, 104];

#[test]
fn simcse_killed_and_resumed() {
    survives(Simcse, &[], "KILL", &SIMCSE, 3);
}

#[test]
fn simcse_killed_and_resumed_with_parts_and_masked_words() {
    let settings = ["micro_batch=5", "mlm=true", "no_duplicates=true"];
    survives(Simcse, &settings, "KILL", &SIMCSE, 3);
}

#[test]
fn regression_killed_and_resumed() {
    survives(RegressionSts, &[], "KILL", &REGRESSION, 4);
}

#[test]
fn regression_killed_and_resumed_with_parts() {
    survives(RegressionSts, &["micro_batch=5"], "KILL", &REGRESSION, 4);
}

#[test]
fn regression_killed_and_resumed_with_accumulation_and_replicas() {
    let settings = ["accumulate=2", r#"devices=["flex", "flex"]"#];
    survives(RegressionSts, &settings, "KILL", &REGRESSION, 4);
}

#[test]
fn regression_killed_and_resumed_with_a_frozen_encoder() {
    for cache in ["nli.cache_frozen=true", "nli.cache_frozen=false"] {
        let settings = ["nli.frozen=true", cache];
        survives(RegressionSts, &settings, "KILL", &[18, 40, 82], 1);
    }
}

#[test]
fn simcse_killed_and_resumed_with_a_template() {
    let settings = ["pooling=mask", "max_len=9"];
    survives(Simcse, &settings, "KILL", &SIMCSE, 3);
}

#[test]
fn ctrl_c_saves_and_exits_with_130() {
    survives(Simcse, &[], "INT", &SIMCSE, 3);
    survives(RegressionSts, &[], "INT", &REGRESSION, 4);
}

#[test]
fn sigterm_saves_and_exits_with_143() {
    survives(Simcse, &[], "TERM", &[18, 61], 1);
    survives(RegressionSts, &[], "TERM", &[18, 40, 104], 2);
}

#[test]
fn full_disk_at_a_checkpoint() {
    for program in Program::ALL {
        let place = Place::new(program);
        let expected = undisturbed(&place, &[]);
        scene(&place).full_disk_at_a_checkpoint(&program.arguments(&[]), &expected);
    }
}

#[test]
fn full_disk_at_a_later_checkpoint() {
    // Long enough for a signal to find it at work.
    for (program, long) in [(Simcse, "epochs=20"), (RegressionSts, "nli.epochs=20")] {
        let place = Place::new(program);
        let more = ["--set", long];
        let expected = undisturbed(&place, &more);
        // After 16 lines of evaluation come the steps.
        scene(&place).full_disk_at_a_later_checkpoint(&program.arguments(&more), 18, &expected);
    }
}

#[test]
fn full_disk_at_the_log() {
    for program in Program::ALL {
        let place = Place::new(program);
        let expected = undisturbed(&place, &[]);
        scene(&place).full_disk_at_the_log(&program.arguments(&[]), 3, &expected);
    }
}

#[test]
fn full_disk_at_the_results() {
    for program in Program::ALL {
        let place = Place::new(program);
        place.run_well(&["--stages", "start"]);
        scene(&place).full_disk_at_the_results(2);
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_another() {
    for program in Program::ALL {
        let place = Place::new(program);
        for (out, seed) in [("one", "3"), ("two", "3"), ("three", "4")] {
            place.run_well(&["--out", out, "--seeds", seed]);
        }
        let expected = traces(&place, "one");
        let settings = |run: &str| place.read(&format!("{run}/config.toml"));
        assert_eq!(settings("one"), settings("two"));
        traces(&place, "two").check(&expected, "the same seed again");
        assert_ne!(place.series("one", "loss"), place.series("three", "loss"));
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    for program in Program::ALL {
        let place = Place::new(program);
        let mut found = Vec::new();
        for threads in ["1", "3"] {
            let out = format!("out{threads}");
            let done = Command::new(program.binary())
                .args(program.arguments(&["--out", &out]))
                .env("RAYON_NUM_THREADS", threads)
                .current_dir(place.path())
                .output()
                .unwrap();
            assert!(done.status.success());
            let metrics = place.bytes(&format!("{out}/metrics.jsonl"));
            found.push((
                metrics,
                place.bytes(&format!("{out}/model/model.safetensors")),
            ));
        }
        assert!(found[0] == found[1], "{program:?}");
    }
}

#[test]
fn a_finished_run_resumes_to_itself() {
    for program in Program::ALL {
        let place = Place::new(program);
        let printed = place.run_well(&[]).stdout;
        let before = traces(&place, "out");
        let done = place.call(&["--resume", "out"]);
        assert_eq!((done.code, done.stdout), (0, printed), "{}", done.stderr);
        traces(&place, "out").check(&before, "resumed after its end");
    }
}

#[test]
fn resuming_with_other_data_is_refused() {
    for (program, file) in [(Simcse, "triplets.csv"), (RegressionSts, "scored.tsv")] {
        let place = Place::new(program);
        place.run_well(&[]);
        place.edit(file, "the", "a");
        let done = place.call(&["--resume", "out"]);
        check_refusal(&done, &["data files differ"]);
    }
}
