//! The conformance program: golden files of the crates pass, and nothing passes by accident.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use burn::tensor::Device;
use encoder::{BertConfig, Pooling, SentenceEncoder, TextTokenizer};
use experiments::conformance::{Options, Report, Status, run};
use kernels::DeviceSpec;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The golden files that the crates keep for their own tests.
const FILES: [&str; 18] = [
    "clustering/tests/golden/centroid_inference.json",
    "clustering/tests/golden/kmeans.json",
    "losses/tests/golden/bidirectional_kl.json",
    "losses/tests/golden/dna_loss.json",
    "losses/tests/golden/down_loss.json",
    "losses/tests/golden/hierarchical_triplet.json",
    "losses/tests/golden/info_nce.json",
    "losses/tests/golden/info_nce_large.json",
    "losses/tests/golden/regression_losses.json",
    "losses/tests/golden/siamese_head.json",
    "losses/tests/golden/star_loss.json",
    "metrics/tests/golden/alignment_uniformity.json",
    "metrics/tests/golden/clustering_metrics.json",
    "metrics/tests/golden/correlations.json",
    "queue/tests/golden/neighbour_weights.json",
    "queue/tests/golden/queue.json",
    "training/tests/golden/adamw.json",
    "training/tests/golden/schedule.json",
];

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../crates")
        .join(file)
}

fn run_on(paths: Vec<PathBuf>) -> Report {
    run_with(DeviceSpec::Flex, paths)
}

fn run_with(device: DeviceSpec, paths: Vec<PathBuf>) -> Report {
    let options = Options {
        paths,
        device,
        ..Options::default()
    };
    run(&options, |_| {}).unwrap()
}

fn program(arguments: &[&str]) -> (i32, String, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn write(dir: &TempDir, name: &str, value: &Value) -> String {
    let path = dir.path().join(format!("{name}.json"));
    fs::write(&path, value.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A file of one case of the kind `schedule` that passes.
fn schedule() -> Value {
    json!({
        "schema": "golden/1",
        "name": "schedule",
        "cases": [{
            "name": "short",
            "params": {"lr": 0.1, "warmup_steps": 2, "total_steps": 4},
            "inputs": {"step": {"shape": [4], "dtype": "i64", "data": [0, 1, 2, 3]}},
            "expected": {"lr": {"shape": [4], "dtype": "f64", "data": [0.0, 0.05, 0.1, 0.05]}},
            "tol": {"lr": {"rtol": 1e-6, "atol": 1e-12}}
        }]
    })
}

#[test]
fn golden_files_of_the_crates_pass() {
    golden_files_pass(DeviceSpec::Flex);
}

/// The second opinion of another backend; CI compiles it for this test alone.
#[cfg(feature = "ndarray")]
#[test]
fn golden_files_of_the_crates_pass_on_ndarray() {
    golden_files_pass(DeviceSpec::NdArray);
}

fn golden_files_pass(device: DeviceSpec) {
    let report = run_with(device, FILES.map(golden).to_vec());
    let failed: Vec<String> = report
        .lines
        .iter()
        .filter(|line| line.status == Status::Fail)
        .map(ToString::to_string)
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(report.bad_input.is_empty(), "{:?}", report.bad_input);
    assert_eq!(report.count(Status::NoModel), 0);
    let gaps = report.lines.iter();
    let gaps = gaps.filter(|line| line.status == Status::NotCovered);
    let gaps: Vec<String> = gaps.map(ToString::to_string).collect();
    assert!(gaps.is_empty(), "{gaps:#?}");
    let stems = FILES.map(|file| Path::new(file).file_stem().unwrap().to_owned());
    let names: Vec<_> = report.files(Status::Pass).into_iter().collect();
    for stem in &stems {
        assert!(names.iter().any(|name| **name == **stem), "{stem:?}");
    }
}

/// Moves one number of every tensor, list and number below `value` well out of tolerance.
fn spoil(value: &mut Value, tolerance: &Value) {
    let by = |largest: f64| {
        let field = |name: &str| tolerance[name].as_f64().unwrap_or(0.0);
        10.0 * (field("atol") + field("rtol") * largest).max(0.1)
    };
    let largest = |list: &[Value]| {
        let sizes = list.iter().filter_map(Value::as_f64).map(f64::abs);
        sizes.fold(0.0, f64::max)
    };
    match value {
        Value::Object(object) if object.contains_key("data") => {
            spoil(object.get_mut("data").unwrap(), tolerance);
        }
        Value::Object(object) => object.values_mut().for_each(|v| spoil(v, tolerance)),
        Value::Array(list) if list.iter().all(Value::is_number) => {
            let by = by(largest(list));
            if let Some(last) = list.last_mut() {
                *last = json!(last.as_f64().unwrap() + by);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|v| spoil(v, tolerance)),
        Value::Number(number) => {
            let number = number.as_f64().unwrap();
            *value = json!(number + by(number.abs()));
        }
        _ => {}
    }
}

#[test]
fn every_item_fails_when_its_expected_value_is_moved() {
    let dir = TempDir::new().unwrap();
    let mut compared = 0;
    for file in FILES {
        let original = run_on(vec![golden(file)]);
        let mut value: Value = serde_json::from_slice(&fs::read(golden(file)).unwrap()).unwrap();
        for case in value["cases"].as_array_mut().unwrap() {
            // A gradient without a defined position would be moved where nobody looks.
            case.as_object_mut().unwrap().remove("grad_any");
            let tolerances = case["tol"].clone();
            for (item, expected) in case["expected"].as_object_mut().unwrap() {
                let tolerance = tolerances.get(item).or(tolerances.get("*"));
                spoil(expected, tolerance.unwrap_or(&Value::Null));
            }
        }
        let path = write(&dir, "spoiled", &value);
        let spoiled = run_on(vec![path.into()]);
        assert_eq!(original.lines.len(), spoiled.lines.len(), "{file}");
        for (before, after) in original.lines.iter().zip(&spoiled.lines) {
            if before.status == Status::Pass {
                assert_eq!(after.status, Status::Fail, "{after}");
                compared += 1;
            }
        }
    }
    assert!(compared > 200, "{compared}");
}

#[test]
fn exit_code_0_and_json_rows() {
    let dir = TempDir::new().unwrap();
    let file = write(&dir, "any_name", &schedule());
    let rows = dir.path().join("out/rows.json");
    let rows_text = rows.to_str().unwrap();
    // A directory that is not there is bad usage.
    assert_eq!(program(&[&file, "--json", rows_text]).0, 2);
    fs::create_dir(dir.path().join("out")).unwrap();
    let (code, out, err) = program(&[&file, "--json", rows_text, "--device", "flex"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.starts_with("pass        schedule/short"), "{out}");
    let rows: Value = serde_json::from_slice(&fs::read(rows).unwrap()).unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["file"], "schedule");
    assert_eq!(rows[0]["case"], "short");
    assert_eq!(rows[0]["item"], "lr");
    assert_eq!(rows[0]["pass"], true);
    assert!(rows[0]["worst"].as_f64().unwrap() <= rows[0]["tolerance"].as_f64().unwrap());
}

#[test]
fn exit_code_1_for_a_perturbed_value() {
    let dir = TempDir::new().unwrap();
    let mut file = schedule();
    file["cases"][0]["expected"]["lr"]["data"][3] = json!(0.050_001);
    let path = write(&dir, "x", &file);
    let (code, out, _) = program(&[&path]);
    assert_eq!(code, 1, "{out}");
    assert!(
        out.contains("FAIL") && out.contains("lr[3]: got 0.05"),
        "{out}"
    );
}

#[test]
fn exit_code_1_for_inputs_that_a_crate_refuses() {
    let dir = TempDir::new().unwrap();
    let file = json!({
        "schema": "golden/1", "name": "kmeans", "cases": [{
            "name": "too_many", "params": {"k": 9, "n_init": 1},
            "inputs": {"x": {"shape": [2, 1], "dtype": "f32", "data": [0, 1]}},
            "expected": {"best_inertia": 0}, "tol": {"*": {"rtol": 0, "atol": 1}}
        }]
    });
    let (code, out, _) = program(&[&write(&dir, "x", &file)]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("k-means"), "{out}");
}

#[test]
fn exit_code_2_names_file_and_field() {
    let dir = TempDir::new().unwrap();
    let good = write(&dir, "good", &schedule());

    let broken = dir.path().join("broken.json");
    fs::write(&broken, &schedule().to_string()[..100]).unwrap();
    let (code, out, err) = program(&[broken.to_str().unwrap(), &good]);
    assert_eq!(code, 2);
    assert!(err.contains("broken.json: not JSON"), "{err}");
    // The rest of the run is not lost.
    assert!(out.contains("pass        schedule/short"), "{out}");

    for (pointer, field) in [
        ("/cases/0/params/lr", "cases[0] (short).params.lr"),
        ("/cases/0/inputs/step/shape", "cases[0] (short).inputs.step"),
        ("/cases/0/tol/lr/atol", "cases[0] (short).tol.lr.atol"),
        ("/schema", "schema"),
    ] {
        let mut file = schedule();
        *file.pointer_mut(pointer).unwrap() = json!(["not", "this"]);
        let path = write(&dir, "unfit", &file);
        let (code, _, err) = program(&[&path]);
        assert_eq!(code, 2, "{pointer}: {err}");
        assert!(err.contains("unfit.json") && err.contains(field), "{err}");
    }
    // A number cannot ask for terabytes.
    let file = json!({
        "schema": "golden/1", "name": "neighbour_weights", "cases": [{
            "name": "huge", "params": {"topk": 1e15 as u64, "bases": [2], "epochs_per_base": 1},
            "inputs": {"epoch": {"shape": [1], "dtype": "i64", "data": [0]}},
            "expected": {"weights": [1]}, "tol": {"*": {"rtol": 0, "atol": 1}}
        }]
    });
    let (code, _, err) = program(&[&write(&dir, "huge", &file)]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("cases[0] (huge).params.topk"), "{err}");

    let mut file = schedule();
    file["cases"][0]["tol"] = json!({});
    let (code, _, err) = program(&[&write(&dir, "untold", &file)]);
    assert_eq!(code, 2);
    assert!(err.contains("cases[0] (short).tol.lr"), "{err}");
}

#[test]
fn exit_code_2_for_bad_usage() {
    let dir = TempDir::new().unwrap();
    let good = write(&dir, "good", &schedule());
    let empty = TempDir::new().unwrap();
    let nowhere = dir.path().join("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    for arguments in [
        &[][..],
        &[nowhere],
        &[empty.path().to_str().unwrap()],
        &[&good, "--device", "abacus"],
        &[&good, "--model", nowhere],
        &[&good, "--filter", "no such case"],
        &[&good, "--no-such-flag"],
    ] {
        let (code, out, err) = program(arguments);
        assert_eq!(code, 2, "{arguments:?}: {out}{err}");
        assert!(!err.is_empty(), "{arguments:?}");
    }
}

#[test]
fn exit_code_3_lists_what_is_not_covered() {
    let dir = TempDir::new().unwrap();
    let mut kind = schedule();
    kind["name"] = json!("phase_of_the_moon");
    let mut item = schedule();
    item["cases"][0]["expected"]["momentum"] = json!(0.9);
    let mut variant: Value =
        serde_json::from_slice(&fs::read(golden("losses/tests/golden/dna_loss.json")).unwrap())
            .unwrap();
    for case in variant["cases"].as_array_mut().unwrap() {
        case["params"]["similarity"] = json!("manhattan");
    }
    for (file, listed) in [
        (kind, "not covered: phase_of_the_moon (1 of 1 items)"),
        (item, "not covered: schedule (1 of 2 items)"),
        (variant, "params.similarity = manhattan"),
    ] {
        let (code, out, _) = program(&[&write(&dir, "x", &file)]);
        assert_eq!(code, 3, "{out}");
        assert!(out.contains(listed), "{out}");
    }
}

#[test]
fn encoder_files_need_a_model_and_compare_against_it() {
    let dir = TempDir::new().unwrap();
    let pieces = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "##s", "nan",
    ];
    let tokenizer = TextTokenizer::from_word_pieces(&pieces).unwrap();
    let config = BertConfig::tiny(pieces.len());
    let device = Device::flex();
    let encoder = SentenceEncoder::random(config, tokenizer, Pooling::Mean, 3, &device).unwrap();
    let model = dir.path().join("model");
    encoder.save(&model).unwrap();
    let model = model.to_str().unwrap();

    let texts = ["Hello worlds", "nan", "hello hello hello hello hello"];
    let vectors = encoder.encode(&texts, 2).unwrap();
    let cosine = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let cosines: Vec<f32> = (0..9)
        .map(|pair| cosine(vectors.row(pair / 3), vectors.row(pair % 3)))
        .collect();
    let golden = |name: &str, expected: Value| {
        json!({"schema": "golden/1", "name": name, "cases": [{
            "name": "c", "params": {"max_len": 64}, "inputs": {"text": texts},
            "expected": expected, "tol": {"*": {"rtol": 0, "atol": 1e-5}}
        }]})
    };
    let ids = json!([[2, 5, 6, 7, 3], [2, 8, 3], [2, 5, 5, 5, 5, 5, 3]]);
    let decoded = json!([["[CLS]", "hello"], ["[CLS]", "nan"], ["[CLS]", "hello"]]);
    let files = [
        golden(
            "bert_tokens",
            json!({"ids": ids, "decoded_tokens_first2": decoded}),
        ),
        golden(
            "bert_mean_norm_64",
            json!({"mean_norm": {"shape": [3, vectors.dim], "dtype": "f32", "data": vectors.values}}),
        ),
        golden(
            "bert_cosine",
            json!({"cos": {"shape": [3, 3], "dtype": "f64", "data": cosines}}),
        ),
    ];
    for file in &files {
        let path = write(&dir, "x", file);
        let (code, out, _) = program(&[&path]);
        assert_eq!(code, 3, "{out}");
        assert!(out.contains("no model: bert"), "{out}");
        let (code, out, err) = program(&[&path, "--model", model]);
        assert_eq!(code, 0, "{out}{err}");
    }
    let gap = golden("bert_max_64", json!({"max_norm": [1.0]}));
    let (code, out, _) = program(&[&write(&dir, "x", &gap), "--model", model]);
    assert_eq!(code, 3, "{out}");

    let mut wrong = files[0].clone();
    wrong["cases"][0]["expected"]["ids"][2][6] = json!(4);
    wrong["cases"][0]["expected"]["decoded_tokens_first2"][1][1] = json!("inf");
    let (code, out, _) = program(&[&write(&dir, "x", &wrong), "--model", model]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("FAIL: bert_tokens (2 of 2 items)"), "{out}");
}
