//! Golden vectors, format `golden/1`, through the public functions.
//!
//! An item passes if `max |got - expected| <= atol + rtol * max |expected|`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metrics::{
    Aggregation, StsCorrelation, StsSubset, TracePoint, accuracy_with_mapping, adjusted_rand_index,
    alignment_with, clustering_accuracy, normalized_mutual_information, pearson,
    relative_fitting_difficulty, spearman, sts_scores, uniformity_with,
};
use serde_json::Value;

/// Parses a file and checks that it holds exactly the cases this test knows about, in number.
fn cases(text: &str, count: usize) -> Vec<Value> {
    let file: Value = serde_json::from_str(text).unwrap();
    assert_eq!(file["schema"], "golden/1");
    let cases = file["cases"].as_array().unwrap().clone();
    assert_eq!(cases.len(), count);
    cases
}

fn floats(value: &Value) -> Vec<f64> {
    let data = if value.is_array() {
        value
    } else {
        &value["data"]
    };
    data.as_array()
        .unwrap()
        .iter()
        .map(|item| item.as_f64().unwrap())
        .collect()
}

fn singles(value: &Value) -> Vec<f32> {
    floats(value).into_iter().map(|item| item as f32).collect()
}

fn ids(value: &Value) -> Vec<i64> {
    value["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item.as_i64().unwrap())
        .collect()
}

/// Compares one expected item, given as a number or a list.
fn check(case: &Value, item: &str, expected: &Value, got: &[f64]) {
    let name = case["name"].as_str().unwrap();
    let tolerance = match &case["tol"][item] {
        Value::Null => &case["tol"]["*"],
        found => found,
    };
    let (atol, rtol) = (
        tolerance["atol"].as_f64().unwrap(),
        tolerance["rtol"].as_f64().unwrap(),
    );
    let expected = match expected {
        Value::Number(number) => vec![number.as_f64().unwrap()],
        list => floats(list),
    };
    assert_eq!(expected.len(), got.len(), "{name} {item}");
    let largest = expected
        .iter()
        .fold(0.0_f64, |most, value| most.max(value.abs()));
    let worst = expected.iter().zip(got).map(|(e, g)| (e - g).abs());
    for difference in worst {
        // Written so that a NaN fails.
        assert!(
            difference <= atol + rtol * largest,
            "{name} {item}: off by {difference:e}"
        );
    }
}

#[test]
fn clustering_metrics() {
    for case in cases(include_str!("golden/clustering_metrics.json"), 9) {
        let labels = ids(&case["inputs"]["y_true"]);
        let clusters = ids(&case["inputs"]["y_pred"]);
        let fit = clustering_accuracy(&clusters, &labels).unwrap();
        let ari = adjusted_rand_index(&clusters, &labels).unwrap();
        let nmi = normalized_mutual_information(&clusters, &labels).unwrap();
        let expected = &case["expected"];
        assert_eq!(expected.as_object().unwrap().len(), 4);
        check(&case, "acc", &expected["acc"], &[fit.accuracy]);
        check(
            &case,
            "matched",
            &expected["matched"],
            &[fit.matched as f64],
        );
        check(&case, "ari", &expected["ari"], &[ari]);
        check(&case, "nmi", &expected["nmi"], &[nmi]);
        let replay = accuracy_with_mapping(&fit.mapping, &clusters, &labels).unwrap();
        check(&case, "acc", &expected["acc"], &[replay.accuracy]);
    }
}

#[test]
fn correlations() {
    let mut kinds = (0, 0);
    for case in cases(include_str!("golden/correlations.json"), 7) {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        if inputs["x"].is_object() {
            kinds.0 += 1;
            let (x, y) = (floats(&inputs["x"]), floats(&inputs["y"]));
            check(
                &case,
                "pearson",
                &expected["pearson"],
                &[pearson(&x, &y).unwrap()],
            );
            check(
                &case,
                "spearman",
                &expected["spearman"],
                &[spearman(&x, &y).unwrap()],
            );
            continue;
        }
        kinds.1 += 1;
        let sizes = case["params"]["sizes"].as_array().unwrap().len();
        let sets: Vec<(String, Vec<f64>, Vec<f64>)> = (0..sizes)
            .map(|set| {
                let side = |side: &str| floats(&inputs[format!("{side}_{set}")]);
                (format!("set {set}"), side("sys"), side("gold"))
            })
            .collect();
        let subsets: Vec<StsSubset<'_>> = sets
            .iter()
            .map(|(name, predicted, gold)| StsSubset {
                name,
                predicted,
                gold,
            })
            .collect();
        let scores = sts_scores(&subsets).unwrap();
        let check_kind = |kind: &str, found: &StsCorrelation| {
            for aggregation in Aggregation::ALL {
                let expected = &expected[kind][aggregation.name()];
                check(&case, kind, expected, &[found.get(aggregation)]);
            }
            check(&case, kind, &expected[kind]["per_set"], &found.per_subset);
        };
        check_kind("spearman", &scores.spearman);
        check_kind("pearson", &scores.pearson);
    }
    assert_eq!(kinds, (5, 2));
}

#[test]
fn alignment_uniformity() {
    let mut kinds = (0, 0);
    for case in cases(include_str!("golden/alignment_uniformity.json"), 4) {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        if inputs["x"].is_object() {
            kinds.0 += 1;
            let (x, y) = (singles(&inputs["x"]), singles(&inputs["y"]));
            let dim = inputs["x"]["shape"][1].as_u64().unwrap() as usize;
            let param = |name: &str| case["params"][name].as_f64().unwrap();
            let alignment = alignment_with(&x, &y, dim, param("alpha")).unwrap();
            let uniformity = uniformity_with(&x, dim, param("t")).unwrap();
            check(&case, "alignment", &expected["alignment"], &[alignment]);
            check(&case, "uniformity", &expected["uniformity"], &[uniformity]);
            check(&case, "loss", &expected["loss"], &[alignment + uniformity]);
            continue;
        }
        kinds.1 += 1;
        let steps = ids(&inputs["step"]);
        let side = |side: &str| -> Vec<TracePoint> {
            let alignment = floats(&inputs[format!("{side}_alignment")]);
            let uniformity = floats(&inputs[format!("{side}_uniformity")]);
            steps
                .iter()
                .zip(alignment.into_iter().zip(uniformity))
                .map(|(&step, (alignment, uniformity))| TracePoint {
                    step: u64::try_from(step).unwrap(),
                    alignment,
                    uniformity,
                })
                .collect()
        };
        let start = case["params"]["start_step"].as_u64().unwrap();
        let rfd = relative_fitting_difficulty(&side("train"), &side("eval"), start).unwrap();
        check(&case, "rfd_a", &expected["rfd_a"], &[rfd.alignment]);
        check(&case, "rfd_u", &expected["rfd_u"], &[rfd.uniformity]);
    }
    assert_eq!(kinds, (2, 2));
}
