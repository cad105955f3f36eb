use std::path::{Path, PathBuf};

use datasets::hash::{sha256_file, sha256_hex};
use serde_json::{Value, json};

use crate::simulate::fault_server::{FaultServer, Reply};
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

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Relative names of all files of a directory.
fn names(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                names.push(path.strip_prefix(dir).unwrap().display().to_string());
            }
        }
    }
    names.sort();
    names
}

/// A hub with the model of a directory, and a pickle file beside it.
fn hub(dir: PathBuf) -> FaultServer {
    let mut siblings = vec![json!({"rfilename": "pytorch_model.bin", "size": 9})];
    for name in names(&dir) {
        let (sha256, size) = sha256_file(&dir.join(&name)).unwrap();
        siblings.push(match name.ends_with(".safetensors") {
            true => {
                json!({"rfilename": name, "size": size, "lfs": {"sha256": sha256, "size": size}})
            }
            false => json!({"rfilename": name, "size": size}),
        });
    }
    let listing = json!({"sha": COMMIT, "siblings": siblings}).to_string();
    FaultServer::start(move |seen| {
        if seen.header("authorization") != Some("Bearer planted-token") {
            return Reply::new(401, &[], "{\"error\": \"who are you?\"}");
        }
        let prefix = format!("/owner/tiny/resolve/{COMMIT}/");
        match seen.path.strip_prefix(&prefix) {
            Some(name) => match std::fs::read(dir.join(name)) {
                Ok(body) => Reply::new(200, &[("X-Repo-Commit", COMMIT)], body),
                Err(_) => Reply::new(404, &[], ""),
            },
            None if seen.path == "/api/models/owner/tiny/revision/main?blobs=true" => {
                Reply::ok(&listing)
            }
            None => Reply::new(404, &[], ""),
        }
    })
}

#[test]
fn a_model_is_fetched_from_a_hub_and_used() {
    let model = TestModel::plain();
    let server = hub(model.path().to_owned());
    let place = tempfile::tempdir().unwrap();
    let fetch = |more: &[&str]| {
        let mut command = asterism();
        command
            .current_dir(place.path())
            .env("TEST_HUB_TOKEN", "planted-token")
            .args(["model", "fetch", "owner/tiny", "--hub", &server.url("")])
            .args(more);
        command
    };
    let with_token = |more: &[&str]| {
        let mut command = fetch(&["--token-env", "TEST_HUB_TOKEN"]);
        command.args(more);
        command
    };
    let dir = place.path().join("models/tiny");

    let error = failure(&mut fetch(&[]), 1);
    assert!(error.contains("--token-env"), "{error}");
    let error = failure(&mut fetch(&["--token-env", "TEST_NO_SUCH_TOKEN"]), 2);
    assert!(error.contains("TEST_NO_SUCH_TOKEN"), "{error}");
    let plan = success(&mut with_token(&["--dry-run"]));
    assert!(plan.contains("model.safetensors"), "{plan}");
    assert!(!plan.contains("pytorch_model.bin"), "{plan}");
    assert!(!place.path().join("models").exists());

    let sums = place.path().join("sums.txt");
    let good = sha256_file(&model.path().join("model.safetensors"))
        .unwrap()
        .0;
    std::fs::write(&sums, format!("{}  model.safetensors\n", sha256_hex(b"x"))).unwrap();
    let error = failure(&mut with_token(&["--sha256", "sums.txt"]), 1);
    assert!(error.contains("SHA-256"), "{error}");
    std::fs::write(&sums, "x\n").unwrap();
    let error = failure(&mut with_token(&["--sha256", "sums.txt"]), 2);
    assert!(error.contains("sums.txt:1:"), "{error}");
    std::fs::write(&sums, format!("{good}  model.safetensors\n")).unwrap();

    let text = success(&mut with_token(&["--sha256", "sums.txt"]));
    assert!(
        text.lines().all(|line| line.ends_with("\tdownloaded")),
        "{text}"
    );
    let mut expected = names(model.path());
    expected.push("asterism-source.json".to_owned());
    expected.sort();
    assert_eq!(names(&dir), expected);
    let found = info(&dir);
    assert_eq!(found["files"]["model.safetensors"]["sha256"], good);
    let vectors = |dir: &Path| {
        let mut encode = asterism();
        success(encode.args(["encode", "a text", "--model"]).arg(dir))
    };
    assert_eq!(vectors(&dir), vectors(model.path()));

    // Pinned: nothing is asked, and what changes is an error.
    let asked = server.hits();
    let again: Value =
        serde_json::from_str(&success(&mut fetch(&["--offline", "--json"]))).unwrap();
    assert_eq!(
        (&again["commit"], &again["files"][0]["status"]),
        (&json!(COMMIT), &json!("already there"))
    );
    std::fs::write(dir.join("config.json"), "{}").unwrap();
    let error = failure(&mut fetch(&[]), 1);
    assert!(error.contains("config.json has changed"), "{error}");
    assert_eq!(server.hits(), asked);
    std::fs::remove_file(dir.join("config.json")).unwrap();
    let error = failure(&mut fetch(&["--offline"]), 2);
    assert!(error.contains("offline"), "{error}");
    let text = success(&mut with_token(&[]));
    assert_eq!(text.matches("\tdownloaded").count(), 1, "{text}");
    info(&dir);

    let error = failure(
        &mut with_token(&["--revision", "v9", "--out", "elsewhere"]),
        1,
    );
    assert!(
        error.contains("404") && error.contains("--revision"),
        "{error}"
    );
    assert!(!error.contains("planted-token"), "{error}");
    for bad in [
        &["--hub", "http://192.168.0.1"][..],
        &["--revision", "../x"],
        &["--offline", "--dry-run"],
    ] {
        let mut command = asterism();
        command
            .current_dir(place.path())
            .args(["model", "fetch", "owner/other"]);
        failure(command.args(bad), 2);
    }
}
