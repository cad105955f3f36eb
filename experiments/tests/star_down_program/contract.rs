//! Options, printed text and the files of a run directory.

use std::collections::BTreeSet;
use std::fs;

use burn::tensor::Device;
use encoder::{LoadOptions, SentenceEncoder};
use serde_json::Value;

use crate::common::{Place, TRAIN_ROWS, arguments};

#[test]
fn dry_run_prints_settings_that_resolve_to_themselves() {
    let place = Place::new();
    fs::write(place.at("my.toml"), "lr = 1\n[train]\ntau = 0.1\n").unwrap();
    for more in [
        vec![],
        vec!["--data", "data"],
        vec![
            "--model",
            "somewhere",
            "--seeds",
            "3, 4",
            "--stages",
            "frozen,train",
        ],
        vec![
            "--config",
            "my.toml",
            "--set",
            "train.base=7",
            "--device",
            "flex",
        ],
        vec![
            "--set",
            "train.decay_bases=[3, 2.5]",
            "--set",
            "pooling=cls",
        ],
    ] {
        let first = place.program(&[&more[..], &["--dry-run"]].concat());
        assert_eq!((first.code, first.stderr.as_str()), (0, ""));
        fs::write(place.at("printed.toml"), &first.stdout).unwrap();
        let again = place.program(&["--config", "printed.toml", "--dry-run"]);
        assert_eq!(again.code, 0, "{}", again.stderr);
        assert_eq!(again.stdout, first.stdout, "{more:?}");
    }
    assert_eq!(
        fs::read_dir(place.path()).unwrap().count(),
        3,
        "a dry run wrote something"
    );
}

fn dry(place: &Place, arguments: &[&str]) -> toml::Table {
    let done = place.program(&[arguments, &["--dry-run"]].concat());
    assert_eq!(done.code, 0, "{}", done.stderr);
    done.stdout.parse().unwrap()
}

#[test]
fn later_settings_win() {
    let place = Place::new();
    fs::write(place.at("my.toml"), "lr = 1\nbatch_size = 7\nseeds = [9]\n").unwrap();
    let got = dry(
        &place,
        &[
            "--config", "my.toml", "--set", "lr=0.5", "--set", "lr=0.25", "--seeds", "1,2",
        ],
    );
    assert_eq!(got["lr"].as_float(), Some(0.25));
    assert_eq!(got["batch_size"].as_integer(), Some(7));
    assert_eq!(got["seeds"].as_array().map(Vec::len), Some(2));
}

#[test]
fn without_arguments_the_bundled_set_with_its_settings() {
    let place = Place::new();
    let bundled = dry(&place, &[]);
    assert_eq!(
        (bundled["data"].as_str(), bundled["model"].as_str()),
        (Some("pocket"), Some("pocket"))
    );
    let own = dry(&place, &["--data", "data"]);
    assert_ne!(bundled["lr"], own["lr"]);
}

#[test]
fn names_arrive_as_they_were_given() {
    let place = Place::new();
    // Decomposed accents, quotes, backslashes, and what looks like a number or a date.
    for name in [
        "Me\u{301}lange",
        "a \"b\" 'c'",
        "back\\slash",
        "007",
        "1e3",
        "2024-05-01",
        "true",
        "[x]",
        "a=b",
    ] {
        assert_eq!(dry(&place, &["--data", name])["data"].as_str(), Some(name));
    }
    for name in ["007", "1e3", "2024-05-01", "true", "a=b"] {
        let set = format!("data={name}");
        assert_eq!(dry(&place, &["--set", &set])["data"].as_str(), Some(name));
    }
    let name = "Me\u{301}lange 'x'";
    fs::rename(place.at("data"), place.at(name)).unwrap();
    place.run_well(&["--data", name, "--stages", "tfidf"]);
}

#[test]
fn seeds_and_stages() {
    let place = Place::new();
    place.run_well(&["--seeds", "3,5", "--stages", "frozen,star"]);
    let result = place.json("out/result.json");
    let rows = result["rows"].as_array().unwrap();
    let of = |key: &str| {
        rows.iter()
            .map(|row| row[key].to_string())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(of("seed"), BTreeSet::from(["3".into(), "5".into()]));
    assert_eq!(
        of("stage"),
        BTreeSet::from(["\"frozen\"".into(), "\"star\"".into()])
    );
    for entry in result["summary"].as_array().unwrap() {
        assert_eq!(entry["n"], 2, "{entry}");
    }
    let steps = |seed: u64| {
        place
            .metrics("out")
            .iter()
            .filter(|row| row["loss"].is_number() && row["seed"].as_f64() == Some(seed as f64))
            .count()
    };
    assert_eq!((steps(3), steps(5)), (10, 10));
    // A seed alone gives what it gives in company.
    place.run_well(&["--seeds", "5", "--stages", "frozen,star", "--out", "alone"]);
    let alone = place.json("alone/result.json");
    let company: Vec<&Value> = rows.iter().filter(|row| row["seed"] == 5).collect();
    assert_eq!(
        alone["rows"].as_array().unwrap().iter().collect::<Vec<_>>(),
        company
    );
}

#[test]
fn quiet_prints_nothing() {
    let place = Place::new();
    let done = place.run_well(&["--quiet"]);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    let done = place.run_well(&["--out", "loud"]);
    for word in [
        "stage",
        "ACC",
        "pretrain",
        "down",
        "star",
        "centroid_mapped",
        "report.html",
        "loud",
    ] {
        assert!(
            done.stdout.contains(word),
            "`{word}` is not in: {}",
            done.stdout
        );
    }
    assert!(
        done.stderr.contains("train") && done.stderr.contains("72"),
        "no data report: {}",
        done.stderr
    );
}

#[test]
fn run_directories_are_numbered() {
    let place = Place::new();
    let mut arguments = arguments(&["--stages", "tfidf", "--quiet"]);
    let out = arguments
        .iter()
        .position(|argument| argument == "--out")
        .unwrap();
    arguments.drain(out..out + 2);
    for number in ["001", "002"] {
        let done = place.program(&arguments);
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert!(
            place
                .at(&format!("runs/star_down-{number}/result.json"))
                .is_file()
        );
    }
}

#[test]
fn the_run_directory_is_complete() {
    let place = Place::new();
    place.run_well(&[]);

    let settings: toml::Table = place.read("out/config.toml").parse().unwrap();
    let printed = dry(
        &place,
        &arguments(&[])
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
    );
    assert_eq!(settings, printed);

    let manifest = place.json("out/manifest.json");
    assert_eq!(manifest["schema"], "asterism/run/1");
    assert_eq!(manifest["seed"], 0);
    assert_eq!(manifest["data"].as_object().unwrap().len(), 2);
    assert!(manifest["versions"]["burn"].is_string());
    assert!(manifest["device"].is_string());
    assert!(manifest["command"].as_array().unwrap().len() > 10);

    let mut checkpoints: Vec<String> = fs::read_dir(place.at("out/checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    checkpoints.sort();
    assert_eq!(checkpoints.len(), 2, "{checkpoints:?}");
    assert_eq!(checkpoints[1], "step-00000024");
    assert!(
        fs::metadata(place.at("out/events/events.out.tfevents.0.asterism"))
            .unwrap()
            .len()
            > 1000
    );

    let report = place.read("out/report.html");
    assert!(
        report.contains("<svg") && report.contains("centroid_mapped"),
        "no plots or no table"
    );
    for outside in [
        "src=\"http",
        "href=\"http",
        "url(http",
        "<link",
        "@import",
        "src=\"/",
    ] {
        assert!(!report.contains(outside), "the report needs `{outside}`");
    }
    let plots: Vec<_> = fs::read_dir(place.at("out/plots"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(plots.len() >= 5, "{plots:?}");
    for plot in plots {
        assert!(
            plot.extension().is_some_and(|kind| kind == "svg"),
            "{plot:?}"
        );
        let text = fs::read_to_string(&plot).unwrap();
        assert!(
            text.contains("<svg") && text.trim_end().ends_with("</svg>"),
            "{plot:?}"
        );
    }
    // Nothing half-written stays.
    let names: Vec<String> = fs::read_dir(place.at("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        !names
            .iter()
            .any(|name| name.contains("tmp") || name.contains("partial")),
        "{names:?}"
    );
}

#[test]
fn result_json_has_its_schema() {
    let place = Place::new();
    place.run_well(&[]);
    let result = place.json("out/result.json");
    let keys: Vec<&str> = result
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    for key in [
        "schema",
        "experiment",
        "device",
        "threads",
        "data",
        "model",
        "config",
        "rows",
        "summary",
        "timing",
        "peak_rss_mb",
        "total_s",
    ] {
        assert!(keys.contains(&key), "{key} is not in {keys:?}");
    }
    assert_eq!(
        (&result["schema"], &result["experiment"]),
        (&Value::from("asterism/result/1"), &Value::from("star_down"))
    );
    let data = &result["data"];
    assert_eq!(
        (data["train_rows"].as_u64(), data["test_rows"].as_u64()),
        (Some(TRAIN_ROWS as u64), Some(24))
    );
    assert_eq!(
        (data["n_coarse"].as_u64(), data["n_fine"].as_u64()),
        (Some(2), Some(6))
    );
    for file in ["train.tsv", "test.tsv"] {
        assert_eq!(
            data["sha256"][file].as_str().map(str::len),
            Some(64),
            "{data}"
        );
    }
    assert_eq!(result["config"]["train"]["topk"], 5);

    let rows = result["rows"].as_array().unwrap();
    let mut expected = vec![("tfidf", "cluster")];
    for stage in ["frozen", "pretrain", "down", "star"] {
        expected.extend(
            ["cluster", "centroid", "centroid_mapped", "centroid_oracle"]
                .map(|inference| (stage, inference)),
        );
    }
    let found: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| {
            (
                row["stage"].as_str().unwrap(),
                row["inference"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(found, expected);
    for row in rows {
        assert_eq!(
            (&row["split"], &row["seed"]),
            (&Value::from("test"), &Value::from(0))
        );
        let acc = row["acc"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&acc), "{row}");
        if ["cluster", "centroid"].contains(&row["inference"].as_str().unwrap()) {
            assert!(
                (-1.0..=1.0).contains(&row["ari"].as_f64().unwrap()),
                "{row}"
            );
            assert!((0.0..=1.0).contains(&row["nmi"].as_f64().unwrap()), "{row}");
        }
    }
    for entry in result["summary"].as_array().unwrap() {
        for key in ["stage", "inference", "metric", "mean", "std", "n"] {
            assert!(entry.get(key).is_some(), "{key} is not in {entry}");
        }
    }
    let timing = result["timing"].as_array().unwrap();
    let steps: Vec<(&str, u64)> = timing
        .iter()
        .map(|entry| {
            (
                entry["stage"].as_str().unwrap(),
                entry["steps"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        steps,
        [
            ("tfidf", 0),
            ("frozen", 0),
            ("pretrain", 4),
            ("down", 10),
            ("star", 10)
        ]
    );
    for entry in &timing[2..] {
        assert!(
            entry["step_ms"]["median"].as_f64().unwrap() > 0.0,
            "{entry}"
        );
        let epochs = if entry["stage"] == "pretrain" { 1 } else { 2 };
        assert_eq!(
            entry["epoch_s"].as_array().unwrap().len(),
            epochs,
            "{entry}"
        );
    }
    assert!(
        result["peak_rss_mb"].as_f64().unwrap() > 0.0 && result["total_s"].as_f64().unwrap() > 0.0
    );
}

#[test]
fn the_model_directory_loads_and_holds_centroids() {
    let place = Place::new();
    place.run_well(&["--stages", "star"]);
    let device = Device::flex();
    let model =
        SentenceEncoder::load(&place.at("out/model"), &LoadOptions::default(), &device).unwrap();
    let tensors = &model.extension.tensors;
    let centroids = &tensors["centroids"];
    assert_eq!(centroids.shape, [6, 16]);
    for row in centroids.values.chunks(16) {
        let norm: f32 = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((norm - 1.0).abs() < 1e-4, "centroid of length {norm}");
    }
    for part in ["coarse.", "star."] {
        assert!(
            tensors.keys().any(|name| name.starts_with(part)),
            "{part} is not in {:?}",
            tensors.keys()
        );
    }
    let json = &model.extension.json;
    assert_eq!(json["coarse_names"], serde_json::json!(["home", "media"]));
    assert_eq!(json["categories"].as_array().map(Vec::len), Some(6));
    let vectors = model
        .encode(&["please turn the light off", "play the song"], 8)
        .unwrap();
    assert_eq!((vectors.rows(), vectors.dim), (2, 16));
    let norm: f32 = vectors.row(0).iter().map(|x| x * x).sum::<f32>().sqrt();
    assert!((norm - 1.0).abs() < 1e-5, "{norm}");

    // The directory is a model for another run: its vectors as they come are those the last stage
    // was scored on.
    place.run_well(&[
        "--model",
        "out/model",
        "--stages",
        "frozen",
        "--out",
        "again",
    ]);
    let rows = |run: &str| -> Vec<Value> {
        let mut rows = place.json(&format!("{run}/result.json"))["rows"]
            .as_array()
            .unwrap()
            .clone();
        rows.iter_mut().for_each(|row| row["stage"] = Value::Null);
        rows
    };
    assert_eq!(rows("again"), rows("out"));
}

#[test]
fn a_checkpoint_of_transformers_as_model() {
    let place = Place::new();
    place.model();
    place.run_well(&["--model", "model"]);
    let result = place.json("out/result.json");
    assert_eq!(
        result["model"]["sha256"]["model.safetensors"]
            .as_str()
            .map(str::len),
        Some(64)
    );
    let manifest = place.json("out/manifest.json");
    assert_eq!(manifest["model"], result["model"]["sha256"]);
    let model = SentenceEncoder::load(
        &place.at("out/model"),
        &LoadOptions::default(),
        &Device::flex(),
    )
    .unwrap();
    assert_eq!(model.extension.tensors["centroids"].shape, [6, 24]);
    // Without a length of one's own the model's positions are the limit.
    let long = "please turn the kitchen light off now ".repeat(5);
    place.edit("data/train.tsv", "the light", &long);
    place.run_well(&[
        "--model",
        "model",
        "--stages",
        "frozen",
        "--out",
        "long",
        "--set",
        "max_len=0",
    ]);
    assert_eq!(place.json("long/result.json")["model"]["max_len"], 16);
}

#[test]
fn data_without_fine_labels() {
    let place = Place::new();
    place.write_data(false);
    place.refuses(&[], &["n_fine"]);
    let done = place.run_well(&["--set", "n_fine=4"]);
    for text in [&done.stdout, &done.stderr] {
        for metric in ["ACC", "ARI", "NMI", "neighbour_precision"] {
            let scored = text
                .lines()
                .any(|line| line.contains(metric) && line.contains(|c: char| c.is_ascii_digit()));
            assert!(!scored, "{metric} without fine labels: {text}");
        }
    }
    let result = place.json("out/result.json");
    assert_eq!(result["rows"], serde_json::json!([]));
    assert_eq!(result["data"]["n_fine"], 4);
    assert!(
        place
            .metrics("out")
            .iter()
            .all(|row| row.get("acc").is_none())
    );
    let model = SentenceEncoder::load(
        &place.at("out/model"),
        &LoadOptions::default(),
        &Device::flex(),
    )
    .unwrap();
    assert_eq!(model.extension.tensors["centroids"].shape, [4, 16]);
    assert!(place.read("out/report.html").contains("<svg"));
}

#[test]
fn trace_writes_loss_and_gradient_norm_of_every_step() {
    let place = Place::new();
    for (out, trace) in [("with", "trace=true"), ("without", "trace=false")] {
        place.run_well(&["--out", out, "--set", trace]);
        let metrics = place.metrics(out);
        let steps: Vec<&Value> = metrics
            .iter()
            .filter(|row| row.get("step").is_some())
            .collect();
        let stages: Vec<&str> = steps
            .iter()
            .map(|row| row["stage"].as_str().unwrap())
            .collect();
        let count = |stage: &str| stages.iter().filter(|found| **found == stage).count();
        assert_eq!(
            (count("pretrain"), count("down"), count("star")),
            (4, 10, 10)
        );
        for (index, row) in steps.iter().enumerate() {
            assert_eq!(row["step"], index, "{row}");
            assert!(row["loss"].as_f64().is_some_and(f64::is_finite), "{row}");
            let norm = row.get("grad_norm").and_then(Value::as_f64);
            assert_eq!(
                norm.is_some_and(|norm| norm > 0.0),
                trace == "trace=true",
                "{row}"
            );
        }
    }
}

#[test]
fn resuming_a_finished_run_changes_no_result() {
    let place = Place::new();
    let printed = place.run_well(&[]).stdout;
    let before = place.json("out/result.json");
    let done = place.program(&["--resume", "out"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(done.stdout, printed);
    let after = place.json("out/result.json");
    assert_eq!(
        (&after["rows"], &after["timing"]),
        (&before["rows"], &before["timing"])
    );
}

#[test]
fn a_run_that_diverges_fails_with_code_1() {
    let place = Place::new();
    let done = place.run(&["--set", "lr=1e30", "--stages", "down"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(
        done.stderr.contains("step") && done.stderr.contains("finite"),
        "{}",
        done.stderr
    );
}
