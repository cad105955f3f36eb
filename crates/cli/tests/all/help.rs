use std::fs;

use crate::support::{asterism, failure, success};

#[test]
fn one_manual_page_or_one_a_command() {
    let page = success(asterism().arg("man"));
    assert!(page.contains(".TH asterism 1"), "{page}");
    for command in ["discover", "predict", "serve"] {
        assert!(page.contains(command), "{command}: {page}");
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("deep/man1");
    success(asterism().arg("man").arg("--out").arg(&out));
    for name in [
        "asterism.1",
        "asterism-predict.1",
        "asterism-train-star-down.1",
        "asterism-data-fetch.1",
    ] {
        let text = fs::read_to_string(out.join(name)).unwrap();
        assert!(text.contains(".SH NAME"), "{name}: {text}");
    }
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = failure(asterism().arg("man").arg("--out").arg(file.join("x")), 2);
    assert!(error.contains("cannot write manual pages into"), "{error}");
}

#[test]
fn a_healthy_program_says_so() {
    let text = success(asterism().arg("doctor"));
    assert!(text.contains("flex can be used"), "{text}");
    assert!(text.contains("vectors sound"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&success(asterism().args(["doctor", "--json"]))).unwrap();
    assert_eq!(json["healthy"], true);
    assert!(json["checks"].as_array().unwrap().len() > 5);
}

#[test]
fn a_sick_model_fails_the_check_after_all_lines_are_printed() {
    let mut command = asterism();
    command.args(["doctor", "--model", "no-such-model"]);
    let output = command.assert().code(1).get_output().clone();
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(
        lines.contains("FAIL  model") && lines.contains("ok    threads"),
        "{lines}"
    );
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("1 check failed"), "{error}");
}
