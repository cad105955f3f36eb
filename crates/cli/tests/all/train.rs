use serde_json::Value;

use crate::support::{asterism, failure, success};

#[test]
fn a_dry_run_prints_the_settings_in_force() {
    let text = success(asterism().args([
        "train",
        "star-down",
        "--dry-run",
        "--seeds",
        "3,4",
        "--stages",
        "tfidf",
        "--set",
        "train.epochs=7",
    ]));
    for part in ["seeds = [3, 4]", "stages = [\"tfidf\"]", "epochs = 7"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn bad_settings_are_refused_with_a_suggestion() {
    let error = failure(
        asterism().args(["train", "star-down", "--dry-run", "--set", "train.epoch=1"]),
        2,
    );
    assert!(error.contains("train.epochs"), "{error}");
    let error = failure(
        asterism().args(["train", "star-down", "--device", "gpu", "--quiet"]),
        2,
    );
    assert!(error.contains("unknown device `gpu`"), "{error}");
    let error = failure(
        asterism().args(["train", "star-down", "--resume", "no/such/run"]),
        2,
    );
    assert!(error.contains("no/such/run"), "{error}");
    failure(asterism().args(["train"]), 2);
}

/// The stage without an encoder, from training to the table of `report`.
#[test]
fn a_run_leaves_a_result_that_report_reads() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let train = || {
        let mut command = asterism();
        command.args([
            "train",
            "star-down",
            "--stages",
            "tfidf",
            "--set",
            "eval.n_init=1",
        ]);
        command.arg("--out").arg(&run);
        command
    };
    let printed = success(&mut train());
    let table = success(asterism().arg("report").arg(&run));
    let row = |text: &str| {
        text.lines()
            .find(|line| line.starts_with("tfidf"))
            .map(str::to_owned)
    };
    assert!(row(&printed).is_some(), "{printed}");
    assert_eq!(row(&printed), row(&table));
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(run.join("manifest.json")).unwrap()).unwrap();
    let command: Vec<&str> = manifest["command"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(command.contains(&"star-down"), "{command:?}");
    let error = failure(&mut train(), 2);
    assert!(error.contains("already holds a run"), "{error}");
}
