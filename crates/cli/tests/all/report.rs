use experiments::report::text_table;
use experiments::result::{CategoryRow, DataInfo, ResultFile, Row, summarise};
use serde_json::Value;

use crate::support::{asterism, failure, success};

fn result() -> ResultFile {
    let mut result = ResultFile::new("star_down", DataInfo::default());
    result.data.name = "demo".to_owned();
    result.data.test_rows = 600;
    for (seed, acc) in [(0, 0.5), (1, 0.7)] {
        result.rows.push(Row::Category(CategoryRow {
            stage: "down".into(),
            inference: "cluster".into(),
            split: "test".into(),
            seed,
            acc: Some(acc),
            ..CategoryRow::default()
        }));
    }
    result.summary = summarise(&result.rows);
    result.peak_rss_mb = 1.0;
    result.total_s = 2.0;
    result
}

#[test]
fn the_table_of_a_run_is_printed() {
    let run = tempfile::tempdir().unwrap();
    let path = run.path().join("result.json");
    result().write(&path).unwrap();
    let text = success(asterism().arg("report").arg(run.path()));
    assert!(text.ends_with(&text_table(&result())), "{text}");
    assert!(
        text.contains("60.00 ± 14.14") && text.contains("600 test rows"),
        "{text}"
    );
    assert_eq!(success(asterism().arg("report").arg(&path)), text);
    let json: Value = serde_json::from_str(&success(
        asterism().args(["report", "--json"]).arg(run.path()),
    ))
    .unwrap();
    assert_eq!(json["summary"][0]["n"], 2);
}

#[test]
fn missing_and_broken_results_are_named() {
    let run = tempfile::tempdir().unwrap();
    let path = run.path().join("result.json");
    let error = failure(asterism().arg("report").arg(run.path()), 2);
    assert!(
        error.contains(&format!("cannot read {}", path.display())),
        "{error}"
    );
    for (content, message) in [
        ("{", "not valid JSON"),
        ("{\"schema\": 3}", "field `schema`"),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = failure(asterism().arg("report").arg(run.path()), 2);
        assert!(
            error.contains(message) && error.contains(&path.display().to_string()),
            "{error}"
        );
    }
}
