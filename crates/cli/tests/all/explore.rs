use std::collections::BTreeMap;
use std::path::Path;

use categories::{Catalogue, Category, CategoryId, Edit, NameSource, Status, Store};
use encoder::{WeightTensor, write_safetensors};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{asterism, failure, success};

/// A run with two categories and this many texts in each, without a map.
fn run(each: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    let mut values = Vec::new();
    for row in 0..2 * each {
        let category = row % 2;
        let line = json!({
            "row": row,
            "text": format!("text {row} </script><script>x</script>"),
            "coarse": "home",
            "category": category,
            "cosine": 0.9,
            "fine": if category == 0 { "lamp" } else { "door" },
            "split": "train",
        });
        lines.push_str(&format!("{line}\n"));
        let turn = 0.002 * row as f32;
        let (near, far) = (turn.cos(), turn.sin());
        values.extend(if category == 0 {
            [near, far]
        } else {
            [-far, near]
        });
    }
    std::fs::write(dir.path().join("members.jsonl"), lines).unwrap();
    let shape = vec![2 * each, 2];
    let tensors = BTreeMap::from([("vectors".to_owned(), WeightTensor { shape, values })]);
    write_safetensors(&dir.path().join("vectors.safetensors"), &tensors, None).unwrap();
    let category = |id: u32, name: &str, centroid: [f32; 2]| Category {
        id: CategoryId(id),
        name: name.to_owned(),
        name_source: NameSource::Keywords,
        coarse: Some("home".to_owned()),
        keywords: Vec::new(),
        medoids: vec![format!("a text of {name}")],
        size: each,
        coherence: 0.9,
        nearest: Vec::new(),
        born: 1,
        status: Status::Active,
        centroid: centroid.to_vec(),
    };
    let categories = vec![
        category(0, "lights", [1.0, 0.0]),
        category(1, "doors", [0.0, 1.0]),
    ];
    let names = vec!["home".to_owned()];
    let catalogue = Catalogue::new(2, String::new(), names, categories, None).unwrap();
    Store::create(dir.path(), catalogue).unwrap();
    dir
}

fn page_of(dir: &Path, options: &[&str]) -> (String, Value) {
    let printed = success(asterism().arg("explore").arg(dir).args(options));
    let page = std::fs::read_to_string(printed.trim_end()).unwrap();
    let (_, rest) = page.split_once("id=\"data\">").unwrap();
    let data = serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap();
    (page, data)
}

#[test]
fn a_run_becomes_one_page() {
    let run = run(30);
    let (page, data) = page_of(run.path(), &[]);
    assert!(run.path().join("explorer.html").is_file());
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(data["texts"].as_array().unwrap().len(), 60);
    assert_eq!(data["fine_names"], json!(["door", "lamp"]));
    assert_eq!(data["categories"][1]["name"], "doors");
    assert_eq!(data["categories"][1]["nearest"][0][0], 0);
    // Once more: the same bytes.
    assert_eq!(page_of(run.path(), &[]).0, page);
    // Another seed draws another sample.
    let out = run.path().join("other.html");
    let out = out.to_str().unwrap();
    let (_, few) = page_of(run.path(), &["--rows", "20", "--out", out]);
    assert_eq!(
        (few["texts"].as_array().unwrap().len(), &few["total"]),
        (20, &60.into())
    );
    let (_, others) = page_of(run.path(), &["--rows", "20", "--seed", "1", "--out", out]);
    assert_ne!(few["texts"], others["texts"]);
}

#[test]
fn a_map_that_fits_is_taken() {
    let run = run(2);
    let map = run.path().join("map.json");
    let mut content = json!({"schema": "asterism/map/1", "rows": 4, "x": [1, 2, 3, 4], "y": [0, 0, 0, 9], "seed": 0});
    std::fs::write(&map, content.to_string()).unwrap();
    let (_, fits) = page_of(run.path(), &[]);
    content["x"][3] = 7.into();
    std::fs::write(&map, content.to_string()).unwrap();
    assert_ne!(page_of(run.path(), &[]).1["x"], fits["x"]);
    std::fs::write(
        &map,
        r#"{"schema":"asterism/map/1","rows":1,"x":[1],"y":[1],"seed":0}"#,
    )
    .unwrap();
    let output = asterism()
        .arg("explore")
        .arg(run.path())
        .assert()
        .success()
        .get_output()
        .clone();
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("has not one place for each")
    );
    std::fs::write(&map, "{}").unwrap();
    let error = failure(asterism().arg("explore").arg(run.path()), 2);
    assert!(error.contains("map.json"), "{error}");
}

#[test]
fn edits_are_followed_and_runs_compared() {
    let (run, other) = (run(10), run(10));
    let mut store = Store::open(other.path()).unwrap();
    let ids = vec![CategoryId(0), CategoryId(1)];
    store
        .apply(Edit::Merge {
            ids,
            name: Some("all".to_owned()),
        })
        .unwrap();
    drop(store);
    let (_, merged) = page_of(other.path(), &[]);
    assert_eq!(merged["categories"].as_array().unwrap().len(), 1);
    assert_eq!(merged["categories"][0]["name"], "all");
    let (_, data) = page_of(run.path(), &["--compare", other.path().to_str().unwrap()]);
    let comparison = &data["comparison"];
    assert_eq!(
        comparison["categories"],
        json!([{"id": 2, "name": "all", "coarse": "home"}])
    );
    assert_eq!(data["categories"].as_array().unwrap().len(), 2);

    let members = other.path().join("members.jsonl");
    let changed = std::fs::read_to_string(&members)
        .unwrap()
        .replace("text ", "other ");
    std::fs::write(&members, changed).unwrap();
    let mut command = asterism();
    let error = failure(
        command
            .arg("explore")
            .arg(run.path())
            .arg("--compare")
            .arg(other.path()),
        2,
    );
    assert!(
        error.contains("expected a run with the same texts"),
        "{error}"
    );
}

#[test]
fn missing_and_contradicting_files_are_named() {
    for name in ["members.jsonl", "vectors.safetensors", "categories.json"] {
        let run = run(2);
        std::fs::remove_file(run.path().join(name)).unwrap();
        let error = failure(asterism().arg("explore").arg(run.path()), 2);
        assert!(error.contains(&format!("it has no {name}")), "{error}");
        assert!(!run.path().join("explorer.html").exists());
    }
    let run = run(2);
    let members = run.path().join("members.jsonl");
    let good = std::fs::read_to_string(&members).unwrap();
    for (from, to, message) in [
        (
            "\"category\":0",
            "\"category\":8",
            "expected an id of categories.json, found 8",
        ),
        ("\"row\":1", "\"row\":5", "row: expected 1, found 5"),
        ("\"cosine\":0.9", "\"cosine\":\"high\"", "invalid type"),
    ] {
        std::fs::write(&members, good.replace(from, to)).unwrap();
        let error = failure(asterism().arg("explore").arg(run.path()), 2);
        let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(error.contains(message), "{error}");
    }
    let all_but_one: String = good.lines().skip(1).collect();
    std::fs::write(&members, all_but_one).unwrap();
    assert!(failure(asterism().arg("explore").arg(run.path()), 2).contains("members.jsonl"));
}
