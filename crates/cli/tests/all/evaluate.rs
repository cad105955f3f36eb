use assert_cmd::Command;
use serde_json::Value;

use crate::support::{PROTOTYPES, TestModel, asterism, failure, success};

fn evaluate(model: &TestModel) -> Command {
    let mut command = asterism();
    command
        .args(["evaluate", "--quiet", "--model"])
        .arg(model.path());
    command
}

const SCORES: [f64; 3] = [5.0, 1.0, 2.0];

/// Cosines of the pairs in [`scored`].
fn cosines(model: &TestModel) -> [f64; 3] {
    let vectors = model.encoder.encode(&PROTOTYPES, 8).unwrap();
    [(0, 0), (0, 1), (1, 2)].map(|(a, b)| {
        let products = vectors.row(a).iter().zip(vectors.row(b));
        products.map(|(a, b)| f64::from(a * b)).sum()
    })
}

/// Pearson's.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| f(a - mean_a, b - mean_b)).sum()
    };
    sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
}

/// Three pairs, the first of equal texts and with the highest score.
fn scored(model: &TestModel) -> std::path::PathBuf {
    let [book, parcel, train] = PROTOTYPES;
    model.file(
        "own.tsv",
        format!(
            "score\tsentence1\tsentence2\n5\t{book}\t{book}\n1\t{book}\t{parcel}\n2\t{parcel}\t{train}\n"
        )
        .as_bytes(),
    )
}

#[test]
fn tasks_and_pairs_are_scored() {
    let model = TestModel::plain();
    let sts = tempfile::tempdir().unwrap();
    let [book, parcel, train] = PROTOTYPES;
    std::fs::write(
        sts.path().join("stsb.tsv"),
        format!(
            "split\tsubset\tscore\tsentence1\tsentence2\n\
             test\ta\t5\t{book}\t{book}\n\
             test\ta\t1\t{book}\t{parcel}\n\
             test\ta\t2\t{parcel}\t{train}\n"
        ),
    )
    .unwrap();
    let retrieval = model.file(
        "search.tsv",
        format!("{book}\t{book}\n{parcel}\t{parcel}\n").as_bytes(),
    );
    let json = model.path().join("result.json");
    let text = success(
        evaluate(&model)
            .arg("--sts")
            .arg(sts.path())
            .arg("--pairs")
            .arg(scored(&model))
            .arg("--pairs")
            .arg(retrieval)
            .arg("--json")
            .arg(&json),
    );
    for part in ["STS-B", "own: 3 pairs", "search: 2 queries"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let result: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let rows = result["rows"].as_array().unwrap();
    assert_eq!(result["experiment"], "evaluate");
    let pearson = |task: &str| {
        let row = rows.iter().find(|row| {
            row["task"] == task && row["metric"] == "pearson" && row["aggregation"] == "all"
        });
        row.unwrap()["value"].as_f64().unwrap()
    };
    // The same pairs as a task and as somebody's own.
    let expected = correlation(&cosines(&model), &SCORES);
    for task in ["STSB", "own"] {
        let found = pearson(task);
        assert!(
            (found - expected).abs() < 1e-5,
            "{task}: {found} {expected}"
        );
    }
    // `report` reads what `evaluate` wrote.
    let report = success(asterism().arg("report").arg(&json));
    assert!(report.contains("STSB"), "{report}");
}

#[test]
fn what_cannot_be_evaluated_is_named() {
    let model = TestModel::plain();
    let run = tempfile::tempdir().unwrap();
    model.encoder.save(&run.path().join("model")).unwrap();
    let pairs = scored(&model);
    let error = failure(
        asterism()
            .args(["evaluate", "--model"])
            .arg(run.path())
            .arg("--pairs")
            .arg(&pairs),
        2,
    );
    assert!(error.contains("run directory"), "{error}");
    let error = failure(evaluate(&model).args(["--tasks", "STS12"]), 2);
    assert!(error.contains("--sts DIR"), "{error}");
    for (arguments, message) in [
        (&["--tasks", "STS99"][..], "unknown task `STS99`"),
        (&["--tasks", "MR"], "needs --transfer DIR"),
        (&["--mode", "quick"], "--mode"),
        (&["--pooling", "mask"], "pooling mask needs a template"),
        (&["--max-len", "65"], "--max-len"),
        (&["--json", "no/such/folder/a.json"], "no/such/folder"),
    ] {
        let error = failure(
            evaluate(&model).args(arguments).arg("--pairs").arg(&pairs),
            2,
        );
        assert!(error.contains(message), "{error}");
    }
    let texts = model.file("texts.txt", b"one\ntwo\n");
    let error = failure(evaluate(&model).arg("--pairs").arg(texts), 2);
    assert!(error.contains("texts.txt"), "{error}");
}
