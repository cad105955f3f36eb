//! What every program does with numbers that are not finite: a rate of 1e30 makes them.

use std::fs;
use std::path::Path;

use serde_json::Value;
use training::CheckpointStore;

use crate::program::{Done, call};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Lines of `metrics.jsonl`.
pub(crate) fn log(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// `done` is a run into `dir/out` that was to stop at the first such number: exit code 1, the step, the
/// tensor and the rows of the batch, everything before the step saved, and the same once more when it
/// is continued. With `skip` in its settings it leaves out as many steps as it may, and stops then.
pub(crate) fn check_stop(binary: &str, dir: &Path, done: &Done, kinds: &[&str]) {
    let out = dir.join("out");
    assert_eq!(done.code, 1, "{done:?}");
    let dump = json(&out.join("non-finite.json"));
    let step = dump["step"].as_u64().unwrap();
    let tensor = dump["tensor"].as_str().unwrap();
    let stage = dump["stage"].as_str().unwrap();
    for word in [
        &format!("stage {stage}: step {step}: "),
        tensor,
        "expected a finite number; batch: ",
        "out/non-finite.json",
    ] {
        assert!(done.stderr.contains(word), "{word}: {}", done.stderr);
    }
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    assert_eq!(dump["schema"], "asterism/non-finite/1");
    assert!(dump["value"].is_string() && dump["quantity"].is_string());
    let rows = dump["rows"].as_object().unwrap();
    assert_eq!(rows.keys().collect::<Vec<_>>(), kinds);
    assert!(
        rows.values()
            .any(|rows| !rows.as_array().unwrap().is_empty())
    );
    // A rate of 1e30 does not spoil the first step, and everything before the bad one is saved.
    assert!(step > 0);
    let kept = || CheckpointStore::new(&out).latest().unwrap().unwrap().step;
    assert_eq!(kept(), step);
    assert!(
        log(&out)
            .iter()
            .all(|line| line["step"].as_u64() < Some(step))
    );

    let resume = ["--resume", "out", "--quiet"];
    let again = call(binary, dir, &resume);
    assert_eq!((again.code, kept()), (1, step));
    assert_eq!(json(&out.join("non-finite.json")), dump);

    let config = fs::read_to_string(out.join("config.toml")).unwrap();
    let config = config
        .replace("non_finite = \"stop\"", "non_finite = \"skip\"")
        .replace("max_skips = 10", "max_skips = 2");
    fs::write(out.join("config.toml"), config).unwrap();
    let skipped = call(binary, dir, &resume);
    let dump = json(&out.join("non-finite.json"));
    // Weights of 1e30 are not to be saved by leaving out a batch, unless the stage is over before.
    let left_out: Vec<Value> = log(&out)
        .into_iter()
        .filter(|line| line["event"] == "skipped")
        .collect();
    assert!(!left_out.is_empty(), "{}", skipped.stderr);
    assert_eq!(left_out[0]["step"], step);
    assert_eq!(left_out[0]["tensor"], tensor);
    assert_eq!(left_out[0]["rows"].as_object().unwrap().len(), kinds.len());
    if skipped.code == 1 && dump["step"] != step {
        assert_eq!((&dump["skipped_before"], left_out.len()), (&2.into(), 2));
    }
}

/// The two runs differ in `guard.statistics_every` alone: the first logs no statistics, the second at
/// every `every`th step of a stage, and nothing else differs.
pub(crate) fn check_statistics(plain: &Path, with: &Path, every: u64) {
    let names = ["vector_mean", "vector_std", "vector_max"];
    let (plain_log, log) = (log(plain), log(with));
    assert_eq!(plain_log.len(), log.len());
    let mut first = std::collections::BTreeMap::new();
    let mut seen = 0;
    for (before, mut line) in plain_log.into_iter().zip(log) {
        if let Some(step) = line["step"]
            .as_u64()
            .filter(|_| line.get("event").is_none())
        {
            let key = (line["stage"].to_string(), line["seed"].to_string());
            let local = step - *first.entry(key).or_insert(step);
            let fields = line.as_object_mut().unwrap();
            let found = names.map(|name| fields.remove(name).and_then(|value| value.as_f64()));
            assert!(
                found
                    .iter()
                    .all(|value| value.is_some() == local.is_multiple_of(every))
            );
            if let [Some(mean), Some(std), Some(max)] = found {
                assert!(std > 0.0 && max >= mean.abs());
                assert!(fields["grad_norm"].as_f64().unwrap() >= 0.0);
                seen += 1;
            }
        }
        assert_eq!(line, before);
    }
    assert!(seen > 1);
    let weights = |run: &Path| fs::read(run.join("model/model.safetensors")).unwrap();
    assert!(weights(plain) == weights(with));
}
