//! Runs repeat, and a killed run loses nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::common::{Place, Program, RegressionSts, Simcse, check_refusal, sets};

/// Everything that must not depend on how often a run was stopped: files by name, and `result.json`
/// without its measurements.
#[derive(PartialEq)]
struct Traces {
    files: BTreeMap<String, Vec<u8>>,
    result: Value,
}

impl Traces {
    fn of(place: &Place, run: &str) -> Self {
        let mut files = BTreeMap::new();
        collect(&place.at(run), "", &mut files);
        // The lock holds a process number, manifest.json the command line, the others measured times.
        files.retain(|name, _| {
            let name = name.rsplit('/').next().unwrap();
            ![
                "lock",
                "manifest.json",
                "result.json",
                "run.json",
                "report.html",
            ]
            .contains(&name)
        });
        for name in [
            "metrics.jsonl",
            "events/events.out.tfevents.0.asterism",
            "model/model.safetensors",
            "config.toml",
        ] {
            assert!(files.contains_key(name), "{run}: {name}");
        }
        let mut result = place.json(&format!("{run}/result.json"));
        for measured in ["timing", "total_s", "peak_rss_mb"] {
            let found = result.as_object_mut().unwrap().remove(measured);
            assert!(found.is_some(), "{measured}");
        }
        Self { files, result }
    }

    /// Compares with names instead of a page of bytes.
    fn check(&self, expected: &Self, what: &str) {
        let names = |traces: &Self| traces.files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(self), names(expected), "{what}");
        for (name, bytes) in &self.files {
            assert!(*bytes == expected.files[name], "{what}: {name} differs");
        }
        assert_eq!(self.result, expected.result, "{what}");
    }
}

fn collect(dir: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

fn lines(path: &Path) -> usize {
    fs::read(path).map_or(0, |bytes| {
        bytes.iter().filter(|byte| **byte == b'\n').count()
    })
}

/// Starts the program, kills it once `out/metrics.jsonl` has `at` lines and the lock shows that it is
/// this process that is at work, and says whether that came before its end.
fn kill_at(place: &Place, arguments: &[String], at: usize) -> bool {
    let mut child = Command::new(place.program.binary())
        .args(arguments)
        .current_dir(place.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let owner = format!("{}\n", child.id());
    let at_work = || fs::read_to_string(place.at("out/lock")).is_ok_and(|found| found == owner);
    while lines(&place.at("out/metrics.jsonl")) < at || !at_work() {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        sleep(Duration::from_millis(1));
    }
    let _ = child.kill();
    let status = child.wait().unwrap();
    assert!(status.success() || status.code().is_none(), "{status}");
    !status.success()
}

/// Kills a run at growing numbers of log lines, resumes it each time, and compares what is left with
/// an undisturbed run. How far a run gets before a kill depends on the machine; what must come out
/// does not. Tries again if the machine was too slow to kill often enough in time.
fn survives(program: Program, settings: &[&str], moments: &[usize], at_least: usize) {
    let place = Place::new(program);
    let mut more = sets(settings);
    more.extend(["--seeds", "0,1"]);
    place.run_well(&[&more[..], &["--out", "reference"]].concat());
    let expected = Traces::of(&place, "reference");
    let most = (0..5).any(|_| {
        let _ = fs::remove_dir_all(place.at("out"));
        let mut arguments = program.arguments(&more);
        let mut killed = 0;
        for at in moments {
            killed += usize::from(kill_at(&place, &arguments, *at));
            arguments = vec!["--resume".into(), "out".into(), "--quiet".into()];
        }
        let done = place.call(&arguments);
        assert_eq!(done.code, 0, "{}", done.stderr);
        Traces::of(&place, "out").check(&expected, &format!("{settings:?} killed at {moments:?}"));
        killed >= at_least
    });
    assert!(most, "no attempt was killed {at_least} times");
}

// Two seeds of SimCSE log 64 lines: 12 of evaluation, 10 steps, 12 of evaluation, and again.
const SIMCSE: [usize; 5] = [1, 15, 21, 38, 53];
// Two seeds of regression STS log 102 lines, 15 of them steps in two stages for each seed.
const REGRESSION: [usize; 6] = [2, 15, 32, 37, 68, 85];

#[test]
fn simcse_killed_and_resumed() {
    survives(Simcse, &[], &SIMCSE, 3);
}

#[test]
fn simcse_killed_and_resumed_with_parts_and_masked_words() {
    let settings = ["micro_batch=5", "mlm=true", "no_duplicates=true"];
    survives(Simcse, &settings, &SIMCSE, 3);
}

#[test]
fn regression_killed_and_resumed() {
    survives(RegressionSts, &[], &REGRESSION, 4);
}

#[test]
fn regression_killed_and_resumed_with_parts() {
    survives(RegressionSts, &["micro_batch=5"], &REGRESSION, 4);
}

#[test]
fn regression_killed_and_resumed_with_a_frozen_encoder() {
    for cache in ["nli.cache_frozen=true", "nli.cache_frozen=false"] {
        survives(RegressionSts, &["nli.frozen=true", cache], &[14, 33, 70], 1);
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_another() {
    for program in Program::ALL {
        let place = Place::new(program);
        for (out, seed) in [("one", "3"), ("two", "3"), ("three", "4")] {
            place.run_well(&["--out", out, "--seeds", seed]);
        }
        let expected = Traces::of(&place, "one");
        let settings = |run: &str| place.read(&format!("{run}/config.toml"));
        assert_eq!(settings("one"), settings("two"));
        Traces::of(&place, "two").check(&expected, "the same seed again");
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
        let before = Traces::of(&place, "out");
        let done = place.call(&["--resume", "out"]);
        assert_eq!((done.code, done.stdout), (0, printed), "{}", done.stderr);
        Traces::of(&place, "out").check(&before, "resumed after its end");
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
