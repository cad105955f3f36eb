//! Runs repeat, and what stops one loses nothing: signals, kills, full disks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use training::CheckpointStore;

use crate::common::{Done, Place, TRAIN_ROWS, arguments, check_refusal};

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
        let mut result = place.json(&format!("{run}/result.json"));
        for measured in ["timing", "total_s", "peak_rss_mb"] {
            assert!(
                result.as_object_mut().unwrap().remove(measured).is_some(),
                "{measured}"
            );
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

/// The undisturbed run, with the files a run must have.
fn undisturbed(place: &Place, more: &[&str]) -> Traces {
    place.run_well(&[more, &["--out", "reference"]].concat());
    let traces = Traces::of(place, "reference");
    for name in [
        "metrics.jsonl",
        "events/events.out.tfevents.0.asterism",
        "model/model.safetensors",
        "model/asterism.safetensors",
        "report_parts.json",
        "config.toml",
    ] {
        assert!(traces.files.contains_key(name), "{name}");
    }
    traces
}

fn lines(path: &Path) -> usize {
    fs::read(path).map_or(0, |bytes| {
        bytes.iter().filter(|byte| **byte == b'\n').count()
    })
}

fn spawn<S: AsRef<str>>(place: &Place, arguments: &[S]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_star_down"))
        .args(arguments.iter().map(AsRef::as_ref))
        .current_dir(place.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Sends a signal once `out/metrics.jsonl` has this many lines and the lock shows that the process
/// has begun (its handlers are in place then), and waits for the end.
fn signal_at(place: &Place, mut child: Child, signal: &str, at: usize) -> (ExitStatus, String) {
    let metrics = place.at("out/metrics.jsonl");
    let owner = format!("{}\n", child.id());
    let at_work = || fs::read_to_string(place.at("out/lock")).is_ok_and(|found| found == owner);
    while lines(&metrics) < at || !at_work() {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        sleep(Duration::from_millis(1));
    }
    let sent = Command::new("kill")
        .args([format!("-{signal}"), child.id().to_string()])
        .stderr(Stdio::null())
        .status();
    assert!(sent.is_ok(), "there is no kill command");
    let output = child.wait_with_output().unwrap();
    (output.status, String::from_utf8(output.stderr).unwrap())
}

/// Stops a run by `signal` at growing numbers of log lines, resumes it each time, and compares what
/// is left with `expected`. Returns how often a signal found the run at work.
fn stop_and_resume(
    place: &Place,
    more: &[&str],
    signal: &str,
    moments: &[usize],
    expected: &Traces,
) -> usize {
    let _ = fs::remove_dir_all(place.at("out"));
    let mut stopped = 0;
    let mut arguments = arguments(more);
    for at in moments {
        let (status, stderr) = signal_at(place, spawn(place, &arguments), signal, *at);
        match (status.code(), signal) {
            (Some(0), _) => {}
            (None, "KILL") => stopped += 1,
            (Some(130), "INT") | (Some(143), "TERM") => {
                assert!(stderr.contains("continue with --resume out"), "{stderr}");
                stopped += 1;
            }
            _ => panic!("{signal} at line {at}: {status}: {stderr}"),
        }
        arguments = vec!["--resume".into(), "out".into(), "--quiet".into()];
    }
    let done = place.program(&arguments);
    assert_eq!(done.code, 0, "{}", done.stderr);
    Traces::of(place, "out").check(expected, &format!("{signal} at {moments:?}"));
    stopped
}

/// Two seeds, all stages: about 110 log lines.
const TWO_SEEDS: [&str; 4] = ["--seeds", "0,1", "--set", "pretrain.epochs=2"];

/// How far a run gets before a signal depends on the machine; what must come out does not. Tries
/// again if a machine was too slow to send enough signals in time.
fn survives(more: &[&str], signal: &str, moments: &[usize], at_least: usize) {
    let place = Place::new();
    fs::write(place.at("order.json"), batch_order(5)).unwrap();
    let more = [&TWO_SEEDS, more].concat();
    let expected = undisturbed(&place, &more);
    let most =
        (0..5).any(|_| stop_and_resume(&place, &more, signal, moments, &expected) >= at_least);
    assert!(most, "no attempt was stopped {at_least} times");
}

#[test]
fn two_runs_with_the_same_batches_give_the_same_losses() {
    let place = Place::new();
    fs::write(place.at("order.json"), batch_order(5)).unwrap();
    let expected = undisturbed(&place, &DETERMINED);
    place.run_well(&DETERMINED);
    Traces::of(&place, "out").check(&expected, "the same batches again");

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
    Traces::of(&place, "out").check(&expected, "the same seed again");
    place.run_well(&["--seeds", "1", "--out", "other"]);
    assert!(Traces::of(&place, "other") != expected);
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
fn killed_again_and_again_while_starting() {
    // No line has to be there: the kill may come while the data are read or a directory is made.
    let place = Place::new();
    let expected = undisturbed(&place, &[]);
    for wait in [0, 3, 6, 10, 15, 25, 40] {
        let begun = place.at("out/manifest.json").exists();
        let mut child = if begun {
            spawn(&place, &["--resume", "out", "--quiet"])
        } else {
            spawn(&place, &arguments(&["--quiet"]))
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
    Traces::of(&place, "out").check(&expected, "killed while starting");
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
    let expected = Traces::of(&place, "reference");
    assert!((0..5).any(|_| stop_and_resume(&place, &more, "INT", &[1, 30, 60], &expected) > 0));
}

#[test]
fn a_run_at_work_is_not_resumed_by_another_process() {
    let place = Place::new();
    let seeds: Vec<String> = (0..40).map(|seed| seed.to_string()).collect();
    let mut child = spawn(&place, &arguments(&["--seeds", &seeds.join(",")]));
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

/// Runs the program with a limit on the size of every file it writes, in kilobytes: what a write
/// meets then is what it meets on a full disk, an error after a part of the bytes.
fn with_file_limit<S: AsRef<str>>(place: &Place, kilobytes: usize, arguments: &[S]) -> Done {
    let output = Command::new("sh")
        .args(["-c", "ulimit -f \"$0\" && exec \"$@\""])
        // The unit is 512 bytes.
        .arg((2 * kilobytes).to_string())
        .arg(env!("CARGO_BIN_EXE_star_down"))
        .args(arguments.iter().map(AsRef::as_ref))
        .current_dir(place.path())
        .output()
        .unwrap();
    Done {
        code: output.status.code().expect("an exit code, not a signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn full_disk_at_a_checkpoint() {
    let place = Place::new();
    let expected = undisturbed(&place, &[]);
    // Checkpoints between stages are small; the first with weights is the one of pre-training.
    let done = with_file_limit(&place, 64, &arguments(&[]));
    check_refusal(
        &done,
        &["cannot write", "checkpoints", "safetensors", "large"],
    );
    let store = CheckpointStore::new(place.at("out"));
    let kept = store
        .latest()
        .unwrap()
        .expect("the checkpoint before is still there");
    assert_eq!(kept.step, 0);
    assert!(
        fs::read_dir(place.at("out/checkpoints")).unwrap().count() == 1,
        "the unfinished checkpoint was not removed"
    );
    let done = place.program(&["--resume", "out"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    Traces::of(&place, "out").check(&expected, "full disk at the first checkpoint");
}

#[test]
fn full_disk_at_a_later_checkpoint() {
    let place = Place::new();
    let expected = undisturbed(&place, &[]);
    let mut attempts = 0;
    let kept = loop {
        attempts += 1;
        assert!(attempts <= 5, "never stopped with weights saved");
        let _ = fs::remove_dir_all(place.at("out"));
        signal_at(&place, spawn(&place, &arguments(&[])), "INT", 15);
        let kept = CheckpointStore::new(place.at("out"))
            .latest()
            .unwrap()
            .unwrap();
        let finished = place.at("out/result.json").exists();
        if kept.files.contains_key("optimizer.safetensors") && !finished {
            break kept;
        }
    };
    for _ in 0..2 {
        let done = with_file_limit(&place, 64, &["--resume", "out"]);
        check_refusal(&done, &["cannot write", "checkpoints", "safetensors"]);
        let now = CheckpointStore::new(place.at("out"))
            .latest()
            .unwrap()
            .unwrap();
        assert!(now == kept, "the checkpoint before has changed");
    }
    let done = place.program(&["--resume", "out"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    Traces::of(&place, "out").check(&expected, "full disk at a later checkpoint");
}

#[test]
fn full_disk_at_the_log() {
    let place = Place::new();
    let expected = undisturbed(&place, &[]);
    let done = with_file_limit(&place, 2, &arguments(&[]));
    check_refusal(&done, &["cannot write", "out/"]);
    let begun = place.at("out/manifest.json").exists();
    assert!(begun, "the limit leaves room for the manifest");
    let done = place.program(&["--resume", "out"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    Traces::of(&place, "out").check(&expected, "full disk at the log");
}

#[test]
fn full_disk_at_the_results() {
    let place = Place::new();
    place.run_well(&["--stages", "frozen"]);
    let (result, report) = (place.read("out/result.json"), place.read("out/report.html"));
    // Room for the lock and the logs, none for result.json.
    let done = with_file_limit(&place, 1, &["--resume", "out"]);
    check_refusal(&done, &["result.json"]);
    assert_eq!(place.read("out/result.json"), result);
    assert_eq!(place.read("out/report.html"), report);
    assert_eq!(place.program(&["--resume", "out"]).code, 0);
}
