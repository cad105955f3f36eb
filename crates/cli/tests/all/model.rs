use std::path::Path;

use datasets::hash::sha256_file;
use serde_json::Value;

use crate::support::{PROTOTYPES, TestModel, asterism, failure, success};

fn info(dir: &Path) -> Value {
    let text = success(asterism().args(["model", "info", "--json"]).arg(dir));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn info_gives_sizes_parameters_hashes_and_extension() {
    let model = TestModel::with_categories();
    let found = info(model.path());
    let vocabulary = datasets::pocket::vocabulary().count();
    assert_eq!(
        (&found["layers"], &found["hidden"]),
        (&2.into(), &128.into())
    );
    assert_eq!(found["tokenizer_vocab"], vocabulary);
    assert_eq!(
        (&found["pooling"], &found["normalize"]),
        (&"mean".into(), &true.into())
    );
    // Tables for words, 64 positions and 2 segments; per layer four square maps, two between 128
    // and 512, two normalisations; one normalisation more after the embedding sum; the pooler.
    let embeddings = (vocabulary + 64 + 2) * 128 + 2 * 128;
    let layer = 4 * (128 * 128 + 128) + (128 * 512 + 512) + (512 * 128 + 128) + 2 * 2 * 128;
    let pooler = 128 * 128 + 128;
    assert_eq!(
        found["parameters"]["encoder"],
        embeddings + 2 * layer + pooler
    );
    let (sha256, bytes) = sha256_file(&model.path().join("model.safetensors")).unwrap();
    assert_eq!(found["files"]["model.safetensors"]["sha256"], sha256);
    assert_eq!(found["files"]["model.safetensors"]["bytes"], bytes);
    assert_eq!(found["extension"]["categories"], 3);
    assert_eq!(found["extension"]["tensors"]["centroids"][0], 3);

    let text = success(asterism().args(["model", "info"]).arg(model.path()));
    for part in [
        "mean pooling, unit length",
        "3 categories",
        "library, transport",
        sha256.as_str(),
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(info(TestModel::plain().path())["extension"].is_null());
}

#[test]
fn info_refuses_what_cannot_be_loaded() {
    let model = TestModel::plain();
    let error = failure(asterism().args(["model", "info", "no/such/dir"]), 2);
    assert!(error.contains("no/such/dir"), "{error}");
    let file = model.file("model.safetensors", b"not weights");
    let error = failure(asterism().args(["model", "info"]).arg(model.path()), 2);
    assert!(error.contains(&file.display().to_string()), "{error}");
    let error = failure(asterism().args(["model", "info"]).arg(file), 2);
    assert!(error.contains("it is a file"), "{error}");
}

#[test]
fn export_keeps_vectors_and_extension() {
    let model = TestModel::with_categories();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("copy");
    let export = || {
        let mut command = asterism();
        command
            .args(["model", "export"])
            .arg(model.path())
            .arg("--to")
            .arg(&target);
        command
    };
    success(&mut export());
    let (before, after) = (info(model.path()), info(&target));
    for key in ["parameters", "pooling", "normalize", "max_len", "extension"] {
        assert_eq!(before[key], after[key], "{key}");
    }
    for name in [
        "model.safetensors",
        "tokenizer.json",
        "asterism.safetensors",
    ] {
        assert_eq!(
            before["files"][name]["sha256"], after["files"][name]["sha256"],
            "{name}"
        );
    }
    let predict = |dir: &Path| {
        success(
            asterism()
                .args(["predict", "--json", "--model"])
                .arg(dir)
                .args(PROTOTYPES),
        )
    };
    assert_eq!(predict(model.path()), predict(&target));

    let error = failure(&mut export(), 2);
    assert!(
        error.contains("is not empty") && error.contains("--force"),
        "{error}"
    );
    let json = success(export().args([
        "--force",
        "--json",
        "--pooling",
        "cls",
        "--no-normalize",
        "--max-len",
        "16",
    ]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["pooling"], "cls");
    let changed = info(&target);
    assert_eq!(
        (
            &changed["pooling"],
            &changed["normalize"],
            &changed["max_len"]
        ),
        (&"cls".into(), &false.into(), &16.into())
    );
}

#[test]
fn export_refuses_poolings_without_a_form_in_the_layout() {
    let model = TestModel::plain();
    let dir = tempfile::tempdir().unwrap();
    let mut command = asterism();
    command.args(["model", "export"]).arg(model.path());
    command
        .arg("--to")
        .arg(dir.path())
        .args(["--pooling", "avg_top2"]);
    let error = failure(&mut command, 2);
    assert!(
        error.contains("avg_top2") && error.contains("cls or mean"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn export_keeps_a_template() {
    let model = TestModel::plain();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("copy");
    let template = ["--template", "the {s} train [MASK]"];
    success(
        asterism()
            .args(["model", "export"])
            .arg(model.path())
            .arg("--to")
            .arg(&target)
            .args(template),
    );
    assert_eq!(info(&target)["pooling"], "mask");
    let encode = |dir: &Path, arguments: &[&str]| {
        success(
            asterism()
                .args(["encode", "--model"])
                .arg(dir)
                .args(arguments)
                .args(PROTOTYPES),
        )
    };
    assert_eq!(encode(&target, &[]), encode(model.path(), &template));
}
