use assert_cmd::Command;

use crate::support::{PROTOTYPES, TestModel, asterism, failure, json_lines, numbers, success};

fn encode(model: &TestModel) -> Command {
    let mut command = asterism();
    command.arg("encode").arg("--model").arg(model.path());
    command
}

/// Rows of tab-separated numbers.
fn rows(text: &str) -> Vec<Vec<f32>> {
    text.lines()
        .map(|line| line.split('\t').map(|n| n.parse().unwrap()).collect())
        .collect()
}

fn norm(row: &[f32]) -> f32 {
    row.iter().map(|x| x * x).sum::<f32>().sqrt()
}

fn assert_close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn arguments_file_and_standard_input_give_the_vectors_of_the_library() {
    let model = TestModel::plain();
    let expected = model.encoder.encode(&PROTOTYPES, 8).unwrap();
    let from_arguments = success(encode(&model).args(PROTOTYPES));
    let lines = PROTOTYPES.join("\n");
    let from_stdin = success(encode(&model).write_stdin(lines.clone()));
    let file = model.file(
        "texts.txt",
        format!("\u{feff}{}\r\n", PROTOTYPES.join("\r\n")).as_bytes(),
    );
    let from_file = success(encode(&model).arg("--file").arg(file));
    assert_eq!(from_arguments, from_stdin);
    assert_eq!(from_arguments, from_file);
    let found = rows(&from_arguments);
    assert_eq!(found.len(), 3);
    for (index, row) in found.iter().enumerate() {
        assert_close(row, expected.row(index));
    }
    let from_dash = success(encode(&model).args(["--file", "-"]).write_stdin(lines));
    assert_eq!(from_arguments, from_dash);
}

#[test]
fn json_lines_carry_text_and_vector_and_blank_lines_count() {
    let model = TestModel::plain();
    let found = json_lines(&success(
        encode(&model)
            .arg("--json")
            .write_stdin("a \"quoted\"\ttext\n\nlast"),
    ));
    let texts: Vec<&str> = found
        .iter()
        .map(|row| row["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["a \"quoted\"\ttext", "", "last"]);
    for row in &found {
        assert!((norm(&numbers(&row["vector"])) - 1.0).abs() < 1e-5);
    }
}

#[test]
fn options_change_length_pooling_and_cut_but_not_the_order() {
    let model = TestModel::plain();
    let text = PROTOTYPES[2];
    let of =
        |arguments: &[&str]| rows(&success(encode(&model).args(arguments).arg(text))).remove(0);
    let unit = of(&[]);
    let plain = of(&["--no-normalize"]);
    assert!((norm(&plain) - 1.0).abs() > 1e-3);
    let scaled: Vec<f32> = plain.iter().map(|x| x / norm(&plain)).collect();
    assert_close(&scaled, &unit);
    assert_eq!(
        of(&["--no-normalize", "--normalize"]),
        unit,
        "the last one counts"
    );
    assert_ne!(of(&["--pooling", "cls"]), unit);
    assert_ne!(of(&["--max-len", "4"]), unit);

    let many: Vec<String> = (0..9).map(|i| PROTOTYPES[..=i % 3].join(" ")).collect();
    let big = rows(&success(encode(&model).args(&many)));
    let small = rows(&success(
        encode(&model).args(["--batch-size", "2"]).args(&many),
    ));
    assert_eq!(big.len(), 9);
    for (a, b) in big.iter().zip(&small) {
        assert_close(a, b);
    }
}

#[test]
fn nothing_in_gives_nothing_out() {
    let model = TestModel::plain();
    assert_eq!(success(encode(&model).write_stdin("")), "");
    assert_eq!(success(encode(&model).arg("--json").write_stdin("")), "");
}

#[test]
fn text_that_is_not_utf8_is_named_by_line() {
    let model = TestModel::plain();
    let error = failure(encode(&model).write_stdin(&b"fine\nbro\xffken\n"[..]), 2);
    assert!(
        error.contains("standard input:2: invalid UTF-8 at byte 3"),
        "{error}"
    );
    let file = model.file("latin1.txt", b"\xe9t\xe9\n");
    let error = failure(encode(&model).arg("-f").arg(&file), 2);
    assert!(
        error.contains(&format!("{}:1: invalid UTF-8", file.display())),
        "{error}"
    );
}

#[test]
fn control_characters_and_long_texts_are_encoded() {
    let model = TestModel::plain();
    let long = "parcel ".repeat(10_000);
    let found = rows(&success(
        encode(&model).write_stdin(format!("\0\u{1b}[31m\u{202e}\n{long}\n")),
    ));
    assert_eq!(found.len(), 2);
    assert!(found.iter().flatten().all(|number| number.is_finite()));
}

#[test]
fn missing_models_and_files_are_named() {
    let model = TestModel::plain();
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    let error = failure(
        asterism()
            .arg("encode")
            .arg("--model")
            .arg(&absent)
            .arg("x"),
        2,
    );
    assert!(
        error.contains(&format!(
            "{}: not a model directory: it does not exist",
            absent.display()
        )),
        "{error}"
    );
    let error = failure(
        asterism()
            .arg("encode")
            .arg("--model")
            .arg(dir.path())
            .arg("x"),
        2,
    );
    assert!(error.contains("config.json is missing"), "{error}");
    let error = failure(encode(&model).arg("--file").arg(&absent), 2);
    assert!(
        error.contains(&format!("cannot open {}", absent.display())),
        "{error}"
    );
    let error = failure(encode(&model).arg("--file").arg(dir.path()), 2);
    assert!(
        error.contains(&format!("cannot read {}", dir.path().display())),
        "{error}"
    );

    std::fs::remove_file(model.path().join("model.safetensors")).unwrap();
    let error = failure(encode(&model).arg("x"), 2);
    assert!(error.contains("model.safetensors"), "{error}");
}

#[test]
fn a_run_directory_leads_to_its_model() {
    let run = tempfile::tempdir().unwrap();
    let model = TestModel::plain();
    model.encoder.save(&run.path().join("model")).unwrap();
    let error = failure(
        asterism()
            .arg("encode")
            .arg("--model")
            .arg(run.path())
            .arg("x"),
        2,
    );
    let inner = run.path().join("model").display().to_string();
    assert!(
        error.contains("run directory") && error.contains(&inner),
        "{error}"
    );
}

#[test]
fn bad_options_are_usage_errors() {
    let model = TestModel::plain();
    for (arguments, message) in [
        (&["--device", "gpu"][..], "unknown device `gpu`"),
        (&["--pooling", "max"], "cls, cls_mlp, mean"),
        (&["--batch-size", "0"], "at least 1"),
        (&["--max-len", "2"], "at least 3"),
        (&["--max-len", "65"], "64 positions"),
        (&["--file", "a", "b"], "cannot be used with"),
        (&["--unknown"], "unexpected argument"),
    ] {
        let error = failure(encode(&model).args(arguments).arg("x"), 2);
        assert!(error.contains(message), "{error}");
    }
    let error = failure(asterism().arg("encode").arg("x"), 2);
    assert!(error.contains("--model"), "{error}");
    failure(asterism().arg("no-such-command"), 2);
    failure(&mut asterism(), 2);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_left_out_of_the_build_names_its_feature() {
    let model = TestModel::plain();
    let error = failure(encode(&model).args(["--device", "cuda", "x"]), 2);
    assert!(error.contains("--features cuda"), "{error}");
}

/// As in `asterism encode ... | head -1`, with more output than a pipe holds.
#[cfg(unix)]
#[test]
fn a_reader_that_leaves_early_is_no_error() {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    let model = TestModel::plain();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("asterism"))
        .arg("encode")
        .arg("--model")
        .arg(model.path())
        .args(["--batch-size", "8"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        // The command stops reading at some point.
        let _ = input.write_all("renew the book\n".repeat(2_000).as_bytes());
    });
    let mut first = [0; 16];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
