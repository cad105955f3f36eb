use std::path::{Path, PathBuf};

use categories::{CategoryId, Edit, Event, NameSource, Store};
use columnar::{Column, Format, Table, Values, Writer};
use datasets::CategoryDataset;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{asterism, failure, json_lines, success};

/// Rows of the bundled set: text, coarse, fine.
type Row = (String, String, String);

/// The first `rows` training rows of each of the first `fine` fine categories of some coarse ones.
fn pocket(coarse: &[&str], fine: usize, rows: usize) -> Vec<Row> {
    let data: CategoryDataset = datasets::pocket().unwrap();
    let names = data.fine_names.as_ref().unwrap();
    let labels = data.train.fine.as_ref().unwrap();
    let mut found = Vec::new();
    for class in coarse {
        let class = data
            .coarse_names
            .iter()
            .position(|name| name == class)
            .unwrap();
        let own: Vec<usize> = (0..data.train.len())
            .filter(|row| data.train.coarse[*row] == class)
            .collect();
        let mut kinds: Vec<usize> = own.iter().map(|row| labels[*row]).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds.into_iter().take(fine) {
            let of_kind = own.iter().filter(|row| labels[**row] == kind);
            found.extend(of_kind.take(rows).map(|row| {
                let text = data.train.texts[*row].clone();
                (text, data.coarse_names[class].clone(), names[kind].clone())
            }));
        }
    }
    found
}

/// A folder with the rows as `data.tsv`.
fn folder(rows: &[Row]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("data.tsv"), rows);
    dir
}

fn write(path: &Path, rows: &[Row]) {
    let mut content = "text\tcoarse\tfine\n".to_owned();
    for (text, coarse, fine) in rows {
        content += &format!("{text}\t{coarse}\t{fine}\n");
    }
    std::fs::write(path, content).unwrap();
}

fn discover(data: &Path, out: &Path) -> assert_cmd::Command {
    let mut command = asterism();
    command.arg("discover").arg(data).arg("--out").arg(out);
    command
}

fn members(run: &Path) -> Vec<Value> {
    json_lines(&std::fs::read_to_string(run.join("members.jsonl")).unwrap())
}

#[test]
fn a_run_has_everything_and_its_model_predicts() {
    let rows = pocket(&["garden", "vet"], 4, 20);
    let dir = folder(&rows);
    let out = dir.path().join("run");
    let mut command = discover(&dir.path().join("data.tsv"), &out);
    let printed = success(command.args(["--k", "garden=4", "--k", "vet=4", "--json"]));
    let summary: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        (&summary["texts"], &summary["categories"]),
        (&160.into(), &8.into())
    );
    assert!(
        summary["scores"][0]["acc"].as_f64().unwrap() > 0.6,
        "{printed}"
    );
    for file in [
        "config.toml",
        "manifest.json",
        "result.json",
        "report.html",
        "categories.json",
        "categories.log.jsonl",
        "vectors.safetensors",
        "map.json",
        "estimates.json",
        "model/model.safetensors",
        "model/asterism.json",
    ] {
        assert!(out.join(file).is_file(), "{file}");
    }
    assert!(!dir.path().join("run.unfinished").exists());

    let catalogue = Store::read(&out).unwrap().catalogue;
    assert_eq!(catalogue.coarse_names, ["garden", "vet"]);
    assert_eq!(catalogue.active().count(), 8);
    assert!(catalogue.active().all(|category| {
        category.size > 0 && !category.keywords.is_empty() && !category.medoids.is_empty()
    }));
    assert_eq!(
        catalogue
            .active()
            .map(|category| category.size)
            .sum::<usize>(),
        160
    );
    let calibration = catalogue.calibration.as_ref().unwrap();
    assert_eq!(calibration.held_out, ["garden", "vet"]);
    assert_eq!((calibration.n_known, calibration.n_unknown), (16, 160));

    let members = members(&out);
    assert_eq!(members.len(), 160);
    for (row, (member, (text, coarse, _))) in members.iter().zip(&rows).enumerate() {
        assert_eq!(member["row"], row);
        assert_eq!(
            (&member["text"], &member["coarse"]),
            (&text.as_str().into(), &coarse.as_str().into())
        );
        let id = CategoryId(member["category"].as_u64().unwrap() as u32);
        assert_eq!(catalogue.get(id).unwrap().coarse.as_ref(), Some(coarse));
        assert_eq!(member["split"], "train");
    }
    let map: Value = serde_json::from_slice(&std::fs::read(out.join("map.json")).unwrap()).unwrap();
    assert_eq!(
        (map["rows"].as_u64(), map["x"].as_array().unwrap().len()),
        (Some(160), 160)
    );
    let manifest = std::fs::read_to_string(out.join("manifest.json")).unwrap();
    assert!(manifest.contains("\"experiment\": \"discover\"") && manifest.contains("data.tsv"));

    let predicted = success(
        asterism()
            .arg("predict")
            .arg("--model")
            .arg(out.join("model"))
            .args(["--json", &rows[0].0]),
    );
    let answer: Value = serde_json::from_str(predicted.lines().next().unwrap()).unwrap();
    let expected = catalogue
        .get(CategoryId(members[0]["category"].as_u64().unwrap() as u32))
        .unwrap();
    assert_eq!(answer["name"], expected.name.as_str());

    let error = failure(&mut discover(&dir.path().join("data.tsv"), &out), 2);
    assert!(
        error.contains("is not empty") && error.contains("--update"),
        "{error}"
    );
}

#[test]
fn rows_in_another_order_give_the_same_categories() {
    let mut rows = pocket(&["rail", "gym"], 3, 12);
    rows.push(rows[5].clone());
    let dir = folder(&rows);
    rows.reverse();
    write(&dir.path().join("turned.tsv"), &rows);
    let run = |name: &str| {
        let out = dir.path().join(name).with_extension("run");
        success(discover(&dir.path().join(name), &out).arg("--quiet"));
        std::fs::read_to_string(out.join("categories.json")).unwrap()
    };
    assert_eq!(run("data.tsv"), run("turned.tsv"));
}

#[test]
fn data_without_coarse_labels_are_one_class() {
    let rows = pocket(&["library"], 3, 15);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("notes.jsonl");
    let lines: Vec<String> = rows
        .iter()
        .map(|(text, ..)| serde_json::json!({"note": text}).to_string())
        .chain(["{\"note\":\" \"}".to_owned()])
        .collect();
    std::fs::write(&data, lines.join("\n")).unwrap();
    let out = dir.path().join("run");
    let output = discover(&data, &out)
        .args(["--text", "note"])
        .assert()
        .success()
        .get_output()
        .clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("no coarse labels") && said.contains("without text 1 (line 46)"),
        "{said}"
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        printed.contains("all texts") && printed.contains("estimated"),
        "{printed}"
    );
    let catalogue = Store::read(&out).unwrap().catalogue;
    assert!(catalogue.coarse_names.is_empty());
    assert!(catalogue.active().all(|category| category.coarse.is_none()));
    assert!(
        members(&out)
            .iter()
            .all(|member| member.get("coarse").is_none())
    );
}

#[test]
fn parquet_is_read_like_a_table() {
    let rows = pocket(&["garden", "vet"], 2, 8);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data.parquet");
    let column = |name: &str, value: fn(&Row) -> &String| Column {
        name: name.to_owned(),
        values: Values::Text(rows.iter().map(|row| Some(value(row).clone())).collect()),
    };
    let table = Table::new(vec![
        column("body", |row| &row.0),
        column("area", |row| &row.1),
    ])
    .unwrap();
    let mut writer = Writer::new(Format::Parquet, Vec::new(), &table).unwrap();
    writer.write(&table).unwrap();
    std::fs::write(&data, writer.finish().unwrap()).unwrap();
    let out = dir.path().join("run");
    let mut command = discover(&data, &out);
    success(command.args([
        "--text",
        "body",
        "--coarse",
        "area",
        "--k",
        "4",
        "--map-rows",
        "0",
    ]));
    assert_eq!(members(&out).len(), 32);
    assert!(!out.join("map.json").exists());
    let other = dir.path().join("other");
    let error = failure(discover(&data, &other).args(["--text", "note"]), 2);
    assert!(
        error.contains("no column `note`") && error.contains("body, area"),
        "{error}"
    );
}

#[test]
fn mistakes_are_named_before_anything_is_written() {
    let rows = pocket(&["garden", "vet"], 2, 5);
    let dir = folder(&rows);
    let data = dir.path().join("data.tsv");
    let out = dir.path().join("run");
    for (options, messages) in [
        (
            &["--text", "note"][..],
            &["a column `note`", "text, coarse, fine"][..],
        ),
        (&["--coarse", "area"], &["a column `area`"]),
        (
            &["--k", "vat=2"],
            &["no coarse class `vat`", "garden, vet", "did you mean `vet`"],
        ),
        (
            &["--k", "vet=11"],
            &["11 categories of 10 different texts in `vet`"],
        ),
        (&["--k", "21"], &["21 categories of 20 different texts"]),
        (&["--k", "1"], &["2 coarse classes"]),
        (&["--k", "many"], &["expected a number above 0 or CLASS=N"]),
        (&["--keep", "2"], &["--keep"]),
        (&["--set", "train.epochs=1"], &["--mode frozen"]),
        (
            &["--mode", "trained", "--set", "train.epoch=1"],
            &["train.epochs"],
        ),
        (&["--name-url", "http://localhost:1/v1"], &["--name-model"]),
    ] {
        let error = failure(discover(&data, &out).args(options), 2);
        for message in messages {
            assert!(error.contains(message), "{options:?}: {error}");
        }
        assert!(
            !out.exists() && !dir.path().join("run.unfinished").exists(),
            "{options:?}"
        );
    }
    for (name, content) in [
        ("empty.tsv", ""),
        ("blank.csv", "text,coarse\n ,a\n"),
        ("a.xlsx", "x"),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let error = failure(&mut discover(&path, &out), 2);
        assert!(error.contains(name), "{error}");
    }
    failure(&mut discover(&dir.path().join("absent.tsv"), &out), 2);
    failure(asterism().arg("discover").arg(&data), 2);
}

#[test]
fn a_dry_run_shows_settings_and_writes_nothing() {
    let dir = folder(&pocket(&["garden", "vet"], 2, 5));
    let out = dir.path().join("run");
    let mut command = discover(&dir.path().join("data.tsv"), &out);
    let printed = success(command.args(["--dry-run", "--k", "6"]));
    assert!(
        printed.contains("k = 6") && printed.contains("estimate = \"stable_silhouette\""),
        "{printed}"
    );
    assert!(!out.exists());
}

#[test]
fn clusters_across_classes_belong_to_the_class_of_most_texts() {
    let dir = folder(&pocket(&["garden", "vet"], 2, 8));
    let out = dir.path().join("run");
    success(discover(&dir.path().join("data.tsv"), &out).args(["--across", "--k", "4", "--quiet"]));
    let catalogue = Store::read(&out).unwrap().catalogue;
    assert_eq!(catalogue.active().count(), 4);
    let coarse: Vec<_> = catalogue
        .active()
        .map(|category| category.coarse.clone().unwrap())
        .collect();
    assert!(coarse.iter().any(|name| name == "garden") && coarse.iter().any(|name| name == "vet"));
}

/// A run of three kinds of garden texts, and rows of a fourth kind.
fn grown() -> (TempDir, PathBuf, Vec<Row>) {
    let all = pocket(&["garden", "vet"], 5, 25);
    let mut kinds: Vec<&String> = all.iter().map(|(.., fine)| fine).collect();
    kinds.dedup();
    let left_out = kinds[1].clone();
    let (new, mut old): (Vec<Row>, Vec<Row>) = all.into_iter().partition(|row| row.2 == left_out);
    let known: Vec<Row> = old.iter().step_by(9).cloned().collect();
    old.retain(|row| !known.contains(row));
    let dir = folder(&old);
    let out = dir.path().join("run");
    let mut command = discover(&dir.path().join("data.tsv"), &out);
    success(command.args(["--k", "garden=4,vet=5", "--quiet"]));
    (dir, out, known.into_iter().chain(new).collect())
}

#[test]
fn an_update_keeps_ids_and_names_and_adds_what_is_new() {
    let (dir, run, rows) = grown();
    let mut store = Store::open(&run).unwrap();
    let name = "named by a person".to_owned();
    let id = CategoryId(1);
    store
        .apply(Edit::Rename {
            id,
            name: name.clone(),
            source: NameSource::Human,
        })
        .unwrap();
    drop(store);
    let before = Store::read(&run).unwrap().catalogue;
    let old_members = members(&run);

    let more = dir.path().join("more.tsv");
    let mut with_old = rows.clone();
    with_old.push((
        old_members[0]["text"].as_str().unwrap().to_owned(),
        "garden".to_owned(),
        String::new(),
    ));
    write(&more, &with_old);
    // A class that the run has never seen.
    let other = pocket(&["rail"], 1, 14);
    write(&dir.path().join("rail.tsv"), &other);
    let update = || {
        let mut command = asterism();
        command
            .arg("discover")
            .arg("--update")
            .arg(&run)
            .arg(&more)
            .arg(dir.path().join("rail.tsv"));
        command.args(["--json", "--min-size", "8"]);
        command
    };
    let dry: Value = serde_json::from_str(&success(update().arg("--dry-run"))).unwrap();
    assert_eq!(members(&run), old_members);
    let done: Value = serde_json::from_str(&success(&mut update())).unwrap();
    assert_eq!(
        (&done["joined"], &done["founding"]),
        (&dry["joined"], &dry["founding"])
    );
    assert_eq!(done["seen"], 1);
    assert!(done["joined"].as_u64().unwrap() >= 10, "{done}");
    let born = done["born"].as_array().unwrap();
    assert!(!born.is_empty(), "{done}");

    let snapshot = Store::read(&run).unwrap();
    let after = &snapshot.catalogue;
    assert_eq!(after.get(id).unwrap().name, name);
    for old in &before.categories {
        let now = after.get(old.id).unwrap();
        assert_eq!(
            (&now.name, &now.coarse, now.born),
            (&old.name, &old.coarse, old.born)
        );
        assert!(now.size >= old.size);
    }
    assert!(
        matches!(&snapshot.log.last().unwrap().event, Event::Updated { changed, .. } if !changed.is_empty())
    );
    assert!(after.coarse_names.iter().any(|name| name == "rail"));
    let rail: Vec<_> = after
        .active()
        .filter(|c| c.coarse.as_deref() == Some("rail"))
        .collect();
    assert!(!rail.is_empty());
    let now = members(&run);
    assert_eq!(now[..old_members.len()], old_members[..]);
    let count = |key: &str| done[key].as_u64().unwrap() as usize;
    assert_eq!(
        now.len(),
        old_members.len() + count("joined") + count("founding")
    );
    for member in &now[old_members.len()..] {
        assert_eq!(member["split"], "update-3");
        let id = CategoryId(member["category"].as_u64().unwrap() as u32);
        assert!(after.get(id).unwrap().is_active());
    }
    let map: Value = serde_json::from_slice(&std::fs::read(run.join("map.json")).unwrap()).unwrap();
    assert_eq!(map["x"].as_array().unwrap().len(), now.len());

    let again: Value = serde_json::from_str(&success(&mut update())).unwrap();
    assert_eq!(
        (&again["joined"], &again["founding"]),
        (&0.into(), &0.into())
    );
    assert_eq!(
        again["seen"].as_u64().unwrap() as usize,
        with_old.len() + other.len()
    );
    assert_eq!(
        Store::read(&run).unwrap().catalogue.revision,
        after.revision
    );
    assert_eq!(members(&run), now);
}

#[test]
fn only_finished_runs_are_updated() {
    let dir = folder(&pocket(&["garden"], 1, 3));
    let data = dir.path().join("data.tsv");
    let update = |run: &Path| {
        let mut command = asterism();
        command.arg("discover").arg("--update").arg(run).arg(&data);
        command
    };
    let error = failure(&mut update(dir.path()), 2);
    assert!(
        error.contains("not a run of `asterism discover`"),
        "{error}"
    );
    failure(update(dir.path()).arg("--out").arg("x"), 2);
}

#[test]
fn a_short_training_ends_in_a_run() {
    let dir = folder(&pocket(&["garden", "vet"], 2, 10));
    let out = dir.path().join("run");
    let mut command = discover(&dir.path().join("data.tsv"), &out);
    let settings = [
        "stages=[\"pretrain\",\"train\"]",
        "pretrain.epochs=1",
        "train.epochs=1",
        "batch_size=16",
        "pretrain.mlm=false",
    ];
    command.args(["--mode", "trained", "--k", "4", "--quiet"]);
    success(command.args(settings.iter().flat_map(|setting| ["--set", setting])));
    assert!(out.join("training/run/result.json").is_file());
    let catalogue = Store::read(&out).unwrap().catalogue;
    assert_eq!(catalogue.active().count(), 4);
    let config = std::fs::read_to_string(out.join("config.toml")).unwrap();
    assert!(
        config.contains("mode = \"trained\"") && config.contains("[training"),
        "{config}"
    );
}
