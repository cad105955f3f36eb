use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use assert_cmd::Command;

use crate::support::{PROTOTYPES, TestModel, asterism, failure, json_lines, success};

fn predict(model: &TestModel) -> Command {
    let mut command = asterism();
    command.arg("predict").arg("--model").arg(model.path());
    command
}

#[test]
fn each_prototype_finds_its_own_category() {
    let model = TestModel::with_categories();
    let found = success(predict(&model).write_stdin(PROTOTYPES.join("\n")));
    let expected: String = [
        "0\tloan\tlibrary\t1.0000\t",
        "1\tlost\ttransport\t1.0000\t",
        "2\t-\ttransport\t1.0000\t",
    ]
    .iter()
    .zip(PROTOTYPES)
    .map(|(answer, text)| format!("{answer}{text}\n"))
    .collect();
    assert_eq!(found, expected);
    let batched = success(
        predict(&model)
            .args(["--batch-size", "3"])
            .write_stdin(PROTOTYPES.join("\n")),
    );
    assert_eq!(batched, expected);
}

#[test]
fn json_has_null_where_there_is_no_name() {
    let model = TestModel::with_categories();
    let found = json_lines(&success(predict(&model).arg("--json").args(PROTOTYPES)));
    assert_eq!(found.len(), 3);
    for (id, (row, text)) in found.iter().zip(PROTOTYPES).enumerate() {
        assert_eq!(row["id"], id);
        assert_eq!(row["text"], text);
        assert!((row["cosine"].as_f64().unwrap() - 1.0).abs() < 1e-5);
    }
    assert_eq!(found[0]["name"], "loan");
    assert!(found[2]["name"].is_null());
    assert_eq!(found[2]["coarse"], "transport");
}

#[test]
fn the_coarse_gate_restricts_the_answers() {
    let model = TestModel::with_categories();
    let gated = json_lines(&success(predict(&model).args([
        "--json",
        "--coarse-gate",
        "transport",
        PROTOTYPES[0],
    ])));
    assert_ne!(gated[0]["id"], 0);
    assert_eq!(gated[0]["coarse"], "transport");
    let error = failure(predict(&model).args(["--coarse-gate", "libary", "x"]), 2);
    assert!(error.contains("no coarse category `libary`"), "{error}");
    assert!(
        error.contains("library, transport") && error.contains("did you mean `library`"),
        "{error}"
    );
}

/// The next question is asked only after the answer to the last one has arrived.
#[test]
fn answers_come_before_the_next_question() {
    let model = TestModel::with_categories();
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("asterism"))
        .arg("predict")
        .arg("--model")
        .arg(model.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for (id, text) in PROTOTYPES.iter().enumerate() {
        writeln!(input, "{text}").unwrap();
        let answer = answers.next().unwrap().unwrap();
        assert!(answer.starts_with(&format!("{id}\t")), "{answer}");
    }
    drop(input);
    assert!(answers.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn answers_before_a_bad_line_are_kept() {
    let model = TestModel::with_categories();
    let mut command = predict(&model);
    let assert = command
        .write_stdin(&b"first\n\xc3\x28\nthird\n"[..])
        .assert()
        .code(2);
    let output = assert.get_output();
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("standard input:2: invalid UTF-8 at byte 0"),
        "{error}"
    );
}

#[test]
fn nothing_in_gives_nothing_out() {
    let model = TestModel::with_categories();
    assert_eq!(success(predict(&model).write_stdin("")), "");
}

#[test]
fn a_model_without_centroids_is_refused() {
    let model = TestModel::plain();
    let error = failure(predict(&model).arg("x"), 2);
    assert!(error.contains("the model has no centroids"), "{error}");
    assert!(error.contains("train star-down"), "{error}");
}

#[test]
fn a_broken_extension_is_refused_by_file_and_field() {
    let model = TestModel::with_categories();
    model.file(
        "asterism.json",
        br#"{"coarse_names": ["a"], "categories": []}"#,
    );
    let error = failure(predict(&model).arg("x"), 2);
    assert!(
        error.contains("asterism.json: categories: expected 3 entries"),
        "{error}"
    );
    model.file("asterism.json", b"[");
    let error = failure(predict(&model).arg("x"), 2);
    assert!(error.contains("asterism.json"), "{error}");
    model.file("asterism.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\xff");
    model.file("asterism.json", b"{}");
    let error = failure(predict(&model).arg("x"), 2);
    assert!(error.contains("asterism.safetensors"), "{error}");
}

#[test]
fn a_missing_model_and_an_unknown_device_are_refused() {
    let model = TestModel::with_categories();
    let error = failure(predict(&model).args(["--device", "tpu", "x"]), 2);
    assert!(error.contains("unknown device `tpu`"), "{error}");
    let error = failure(
        asterism().args(["predict", "--model", "no/such/dir", "x"]),
        2,
    );
    assert!(
        error.contains("no/such/dir: not a model directory"),
        "{error}"
    );
}
