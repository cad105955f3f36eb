use serde_json::Value;

use crate::support::{TestModel, asterism, failure, success};

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

#[test]
fn every_system_has_its_own_settings() {
    for (system, arguments, parts) in [
        (
            "simcse",
            &["--set", "temperature=0.1"][..],
            &[
                "data = \"pocket\"",
                "temperature = 0.1",
                "hard_negative_weight",
            ][..],
        ),
        (
            "regression-sts",
            &["--set", "nli.epochs=3"],
            &["data = \"pocket\"", "epochs = 3", "left_clamp"],
        ),
        (
            "ngcse",
            &["--setting", "sts_ht, nli", "--sweep", "m1=0.1,0.2"],
            &[
                "settings = [\"sts_ht\", \"nli\"]",
                "key = \"m1\"",
                "values = [0.1, 0.2]",
                "sts_rows = \"rules\"",
            ],
        ),
        (
            "distill",
            &["--model", "teacher", "--set", "epochs=7"],
            &["model = \"teacher\"", "epochs = 7", "vocab_size"],
        ),
    ] {
        let text = success(
            asterism()
                .args(["train", system, "--dry-run", "--seeds", "5"])
                .args(arguments),
        );
        for part in ["seeds = [5]"].iter().chain(parts) {
            assert!(text.contains(part), "{system}: {part}: {text}");
        }
        let error = failure(
            asterism()
                .args(["train", system, "--dry-run", "--set", "seed=1"])
                .args(arguments),
            2,
        );
        assert!(error.contains("did you mean `seeds`"), "{system}: {error}");
    }
    let error = failure(asterism().args(["train", "distill", "--dry-run"]), 2);
    assert!(error.contains("directory of a teacher"), "{error}");
    let error = failure(
        asterism().args(["train", "simcse", "--dry-run", "--set", "batch_size=1"]),
        2,
    );
    assert!(error.contains("batch_size"), "{error}");
}

/// Few steps of a tiny encoder on three rows; what comes out is a model that `encode` takes.
#[test]
fn sentence_embeddings_are_trained_and_reported() {
    let model = TestModel::plain();
    let data = model.file(
        "pairs.csv",
        b"a,b\nrenew the book,extend my loan\nwhere is my parcel,it has not arrived\ngood morning,hello\n",
    );
    let run = model.path().join("run");
    let text = success(
        asterism()
            .args(["train", "simcse", "--model"])
            .arg(model.path())
            .arg("--data")
            .arg(&data)
            .arg("--out")
            .arg(&run)
            .args(["--stages", "train"])
            .args(["--set", "max_steps=2", "--set", "batch_size=2"])
            .args(["--set", "pooling=\"mean\""]),
    );
    let report = success(asterism().arg("report").arg(&run));
    let (head, table) = report.split_once("\n\n").unwrap();
    assert!(
        head.starts_with("simcse on ") && head.contains(": 3 training"),
        "{head}"
    );
    assert!(!head.contains("categories"), "{head}");
    assert!(
        table.contains("spearman/all") && text.starts_with(table),
        "{report}"
    );
    let vector = success(
        asterism()
            .args(["encode", "--model"])
            .arg(run.join("model"))
            .arg("hello"),
    );
    assert_eq!(vector.split('\t').count(), 128);
    let error = failure(
        asterism()
            .args(["train", "regression-sts", "--quiet", "--model"])
            .arg(model.path())
            .arg("--data")
            .arg(model.file("plain.txt", b"one\ntwo\n"))
            .args(["--set", "max_len=32", "--out"])
            .arg(model.path().join("other")),
        2,
    );
    assert!(error.contains("plain.txt"), "{error}");
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

/// Waits until a file of a running command has at least this many lines.
#[cfg(unix)]
fn wait_for_lines(path: &std::path::Path, lines: usize, child: &mut std::process::Child) {
    for _ in 0..6_000 {
        let found = std::fs::read_to_string(path).map_or(0, |text| text.lines().count());
        if found >= lines {
            return;
        }
        assert!(
            child.try_wait().unwrap().is_none(),
            "the command ended early"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{} never had {lines} lines", path.display());
}

/// Exit codes 130 and 143, each with a checkpoint that the next start continues from.
#[cfg(unix)]
#[test]
fn a_signal_ends_the_run_after_saving() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let metrics = run.join("metrics.jsonl");
    let newest = || {
        let mut names: Vec<_> = std::fs::read_dir(run.join("checkpoints"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names.pop().unwrap()
    };
    let small = [
        "random.hidden=32",
        "random.layers=1",
        "random.heads=2",
        "pretrain.epochs=10000",
        "pretrain.patience=10000",
    ];
    let interrupt = |arguments: &[String], signal: &str, lines: usize| {
        let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("asterism"))
            .args(["train", "star-down", "--quiet"])
            .args(arguments)
            .spawn()
            .unwrap();
        wait_for_lines(&metrics, lines, &mut child);
        let id = child.id().to_string();
        assert!(
            std::process::Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        child.wait().unwrap().code()
    };
    let out = run.display().to_string();
    let mut start = vec![
        "--out".to_owned(),
        out.clone(),
        "--stages".into(),
        "pretrain".into(),
    ];
    start.extend(
        small
            .iter()
            .flat_map(|set| ["--set".to_owned(), (*set).to_owned()]),
    );
    assert_eq!(interrupt(&start, "-INT", 3), Some(130));
    let first = newest();
    let lines = std::fs::read_to_string(&metrics).unwrap().lines().count();
    assert_eq!(
        interrupt(&["--resume".to_owned(), out], "-TERM", lines + 3),
        Some(143)
    );
    assert!(newest() > first, "{first}");
}
