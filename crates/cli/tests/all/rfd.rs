use serde_json::Value;

use crate::support::{asterism, failure, success};

const TRAIN: &str = "step,alignment,uniformity\n0,9,9\n10,0.5,-1\n20,1,-2\n";
const EVAL: &str = "step,alignment,uniformity,score\n0,0,0,\n10,0.25,-2,0.7\n20,0.25,-2,0.8\n";
const TRACES: &str = "\
setting,seed,step,train_alignment,train_uniformity,eval_alignment,eval_uniformity,dev_spearman
dropout,0,0,0.1,-1,0.2,-1,
dropout,0,10,0.1,-1,0.4,-2,0.7
sts_ht,3,10,0.5,-1,0.25,-2,0.8
sts_ht,3,15,,,,,0.9
";

#[test]
fn two_files_of_traces() {
    let dir = tempfile::tempdir().unwrap();
    let (train, eval) = (dir.path().join("train.csv"), dir.path().join("eval.csv"));
    std::fs::write(&train, TRAIN).unwrap();
    std::fs::write(&eval, EVAL).unwrap();
    let rfd = |more: &[&str]| success(asterism().arg("rfd").arg(&train).arg(&eval).args(more));
    let text = rfd(&[]);
    for part in ["+0.500000", "75.00", "80.00", "20"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json: Value = serde_json::from_str(&rfd(&["--json", "--start-step", "20"])).unwrap();
    assert_eq!(json[0]["rfd_a"], 0.75);
    assert_eq!(json[0]["rfd_u"], 0.0);
    assert_eq!(
        (&json[0]["steps"], &json[0]["setting"]),
        (&1.into(), &Value::Null)
    );
    let all: Value = serde_json::from_str(&rfd(&["--json", "--start-step", "0"])).unwrap();
    assert_eq!(all[0]["steps"], 3);

    let late = ["--start-step", "21"];
    let error = failure(asterism().arg("rfd").arg(&train).arg(&eval).args(late), 2);
    assert!(error.contains("start_step"), "{error}");
    std::fs::write(&eval, EVAL.replace("\n20", "\n30")).unwrap();
    let error = failure(asterism().arg("rfd").arg(&train).arg(&eval), 2);
    assert!(
        error.contains("step 20") && error.contains("step 30"),
        "{error}"
    );
    std::fs::write(&eval, "step,uniformity\n").unwrap();
    let error = failure(asterism().arg("rfd").arg(&train).arg(&eval), 2);
    assert!(
        error.contains("eval.csv") && error.contains("no alignment"),
        "{error}"
    );
}

#[test]
fn a_run_directory_or_its_traces() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("traces.csv");
    std::fs::write(&path, TRACES).unwrap();
    let text = success(asterism().arg("rfd").arg(dir.path()));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(
        lines[1].starts_with("dropout") && lines[1].contains("-0.300000"),
        "{text}"
    );
    assert!(
        lines[2].starts_with("sts_ht") && lines[2].contains("+0.250000"),
        "{text}"
    );
    assert_eq!(success(asterism().arg("rfd").arg(&path)), text);
    let json: Value = serde_json::from_str(&success(
        asterism().arg("rfd").arg(dir.path()).arg("--json"),
    ))
    .unwrap();
    assert_eq!(
        (&json[1]["seed"], &json[1]["best_step"]),
        (&3.into(), &15.into())
    );

    std::fs::write(&path, TRACES.replace("0.7", "seven")).unwrap();
    let error = failure(asterism().arg("rfd").arg(dir.path()), 2);
    assert!(
        error.contains("traces.csv") && error.contains("line 3"),
        "{error}"
    );
    let error = failure(asterism().args(["rfd", "no/such/run"]), 2);
    assert!(error.contains("no/such/run"), "{error}");
}
