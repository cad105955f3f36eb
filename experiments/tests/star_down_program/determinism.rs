//! Whole runs: any number of threads, any order of the rows.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::common::{BINARY, Place, arguments};

/// Model, categories and map of a run.
const LEFT: [&str; 4] = [
    "model/model.safetensors",
    "model/asterism.safetensors",
    "model/asterism.json",
    "report_parts.json",
];

fn left(place: &Place, run: &str) -> Vec<Vec<u8>> {
    let read = |name: &str| fs::read(place.at(&format!("{run}/{name}"))).unwrap();
    LEFT.map(read).to_vec()
}

/// Rows of `result.json`, with all their scores.
fn scores(place: &Place, run: &str) -> Value {
    place.json(&format!("{run}/result.json"))["rows"].clone()
}

#[test]
fn a_run_is_the_same_at_any_number_of_threads() {
    let place = Place::new();
    for threads in ["1", "2"] {
        let out = format!("at{threads}");
        let done = Command::new(BINARY)
            .args(arguments(&["--out", &out]))
            .env("RAYON_NUM_THREADS", threads)
            .current_dir(place.path())
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }
    let logs = ["at1", "at2"].map(|run| place.read(&format!("{run}/metrics.jsonl")));
    assert_eq!(logs[0], logs[1]);
    assert!(left(&place, "at1") == left(&place, "at2"));
    assert_eq!(scores(&place, "at1"), scores(&place, "at2"));
}

/// Reverses the rows of both files, and turns them by a third.
fn shuffle(place: &Place) {
    for split in ["train", "test"] {
        let name = format!("data/{split}.tsv");
        let text = place.read(&name);
        let (head, rows) = text.split_once('\n').unwrap();
        let mut rows: Vec<&str> = rows.lines().rev().collect();
        let third = rows.len() / 3;
        rows.rotate_left(third);
        fs::write(place.at(&name), format!("{head}\n{}\n", rows.join("\n"))).unwrap();
    }
}

#[test]
fn any_row_order_gives_the_same_partition_with_rows_by_content() {
    let place = Place::new();
    let by_content = ["--set", "row_order=content"];
    let run = |out: &str, more: &[&str]| place.run_well(&[more, &["--out", out]].concat());
    run("first", &by_content);
    run("first_by_file", &[]);
    shuffle(&place);
    run("second", &by_content);
    run("second_by_file", &[]);
    assert!(left(&place, "first") == left(&place, "second"));
    assert_eq!(scores(&place, "first"), scores(&place, "second"));
    let losses = |run: &str| place.read(&format!("{run}/metrics.jsonl"));
    assert_eq!(losses("first"), losses("second"));
    // By default the order of the file decides which rows meet in a batch.
    assert_ne!(losses("first_by_file"), losses("second_by_file"));
}

#[test]
fn given_batches_need_the_rows_of_the_file() {
    let place = Place::new();
    fs::write(place.at("order.json"), "[[0, 1]]").unwrap();
    let both = [
        "--set",
        "row_order=content",
        "--set",
        "batch_order_file=order.json",
    ];
    place.refuses(&both, &["row_order", "batch_order_file"]);
    place.refuses(
        &["--set", "row_order=name"],
        &["row_order", "file, content"],
    );
}
