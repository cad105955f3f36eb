//! Runs repeat, and a stopped run loses nothing.

use crate::common::sets;
use crate::non_finite::check_stop;
use crate::place::{BINARY, NgcsePlace};
use crate::program::check_refusal;
use crate::traces::{Scene, Traces};

const NEEDED: [&str; 4] = [
    "metrics.jsonl",
    "traces.csv",
    "model/model.safetensors",
    "config.toml",
];

fn traces(place: &NgcsePlace, run: &str) -> Traces {
    Traces::of(&place.0.at(run), &NEEDED)
}

/// Stops a run of two settings and two seeds at growing numbers of log lines.
fn survives(settings: &[&str], signal: &str, moments: &[usize], at_least: usize) {
    let place = NgcsePlace::new();
    let mut more = sets(settings);
    more.extend(["--seeds", "0,1", "--setting", "token_shuffle,sts_ht"]);
    place.run_well(&[&more[..], &["--out", "reference"]].concat());
    let expected = traces(&place, "reference");
    let scene = Scene {
        binary: BINARY,
        dir: place.0.path(),
    };
    let arguments = NgcsePlace::arguments(&more);
    scene.survives(&arguments, signal, moments, at_least, &expected);
}

// A seed logs 12 lines of evaluation of the start, then 8 steps and 12 lines of evaluation for each
// setting: 52 in all.
const MOMENTS: [usize; 6] = [2, 15, 18, 37, 67, 90];

#[test]
fn killed_and_resumed() {
    survives(&[], "KILL", &MOMENTS, 3);
}

#[test]
fn killed_and_resumed_with_templates_parts_and_an_anchor() {
    let settings = [
        "pooling=mask",
        "max_len=9",
        "micro_batch=5",
        "l2_to_initial=0.1",
    ];
    survives(&settings, "KILL", &MOMENTS, 3);
}

#[test]
fn ctrl_c_saves_and_goes_on() {
    survives(&[], "INT", &MOMENTS, 3);
}

#[test]
fn a_finished_run_resumes_to_itself() {
    let place = NgcsePlace::new();
    let printed = place.run_well(&["--setting", "nli"]).stdout;
    let before = traces(&place, "out");
    let done = place.call(&["--resume", "out"]);
    assert_eq!((done.code, done.stdout), (0, printed), "{}", done.stderr);
    traces(&place, "out").check(&before, "resumed after its end");
    place.0.edit("nli.jsonl", "the", "a");
    check_refusal(&place.call(&["--resume", "out"]), &["data files differ"]);
}

#[test]
fn training_that_diverges_stops_with_its_rows() {
    let place = NgcsePlace::new();
    let mut more = sets(&["lr=1e30"]);
    more.extend(["--setting", "nli", "--stages", "train"]);
    let done = place.call(&NgcsePlace::arguments(&more));
    check_stop(BINARY, place.0.path(), &done, &["generated", "ordinary"]);
}

#[test]
fn sigterm_saves_and_goes_on() {
    survives(&[], "TERM", &MOMENTS, 3);
}
