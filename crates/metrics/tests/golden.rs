//! Golden vectors, format `golden/1`, through the public functions.
//!
//! An item passes if `max |got - expected| <= atol + rtol * max |expected|`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metrics::{
    Aggregation, LabelledRows, LogisticRegression, Optimizer, StsCorrelation, StsSubset,
    TracePoint, Trainer, accuracy_with_mapping, adjusted_rand_index, alignment_with,
    clustering_accuracy, normalized_mutual_information, pearson, relative_fitting_difficulty,
    spearman, sts_scores, uniformity_with,
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

/// Twelve steps of `torch.optim.Adam` and `RMSprop` on a linear layer with cross entropy, regenerated,
/// from the repository root, by
///
/// ```text
/// python scripts/oracles/transfer_evaluation.py --golden > crates/metrics/tests/golden/logistic_regression.json
/// ```
#[test]
fn logistic_regression_follows_torch() {
    let file: Value =
        serde_json::from_str(include_str!("golden/logistic_regression.json")).unwrap();
    let numbers = |value: &Value| -> Vec<f32> {
        let items = value.as_array().unwrap().iter();
        items.map(|item| item.as_f64().unwrap() as f32).collect()
    };
    let places = |value: &Value| -> Vec<usize> {
        let items = value.as_array().unwrap().iter();
        items.map(|item| item.as_u64().unwrap() as usize).collect()
    };
    let features = numbers(&file["features"]);
    let labels: Vec<u32> = places(&file["labels"]).iter().map(|x| *x as u32).collect();
    let [dim, classes] = ["dim", "classes"].map(|name| file[name].as_u64().unwrap() as usize);
    let data = LabelledRows::new(&features, dim, &labels, classes).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    for case in cases {
        let model = |name: &str| LogisticRegression {
            weight: numbers(&case[name]["weight"]),
            bias: numbers(&case[name]["bias"]),
        };
        let optimizer = match case["optimizer"].as_str().unwrap() {
            "adam" => Optimizer::Adam,
            "rmsprop" => Optimizer::RmsProp,
            other => panic!("{other}"),
        };
        let (lr, l2) = (case["lr"].as_f64().unwrap(), case["l2"].as_f64().unwrap());
        let mut trainer = Trainer::new(model("first"), optimizer, lr, l2);
        for batch in file["batches"].as_array().unwrap() {
            trainer.step(&data, &places(batch)).unwrap();
        }
        let (expected, found) = (model("last"), &trainer.model);
        let pairs = expected.weight.iter().zip(&found.weight);
        for (expected, found) in pairs.chain(expected.bias.iter().zip(&found.bias)) {
            // The steps are 1e-2 each; f32 rounding differs in the last bits.
            assert!(
                (expected - found).abs() < 2e-6,
                "{optimizer:?} {expected} {found}"
            );
        }
    }
}

/// Values of the project's specification of sentence embeddings (its section 4.2).
#[test]
fn specified_values() {
    let x = [0.1, 0.4, 0.4, 0.9, 0.2, 0.7, 0.7, 0.3];
    let y = [0.0, 2.0, 3.0, 5.0, 1.0, 4.0, 4.0, 1.0];
    let near = |found: f64, expected: f64| {
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    };
    near(spearman(&x, &y).unwrap(), 0.987804878);
    near(pearson(&x, &y).unwrap(), 0.973060459);
    let subset = |predicted, gold| StsSubset {
        name: "subset",
        predicted,
        gold,
    };
    let scores = sts_scores(&[
        subset(&[0.9, 0.2, 0.5, 0.7], &[5.0, 1.0, 2.0, 4.0]),
        subset(&[0.3, 0.8, 0.6], &[2.0, 1.0, 3.0]),
    ])
    .unwrap()
    .spearman;
    near(scores.all, 0.545544726);
    near(scores.mean, 0.25);
    near(scores.wmean, 0.357142857);

    let matrix = |offset: f64| -> Vec<f32> {
        (0..4)
            .flat_map(|i| (0..6).map(move |j| (f64::from(i), f64::from(j))))
            .map(|(i, j)| ((0.7 * (i + 1.0) * (j + 1.0) + offset).sin() + 0.1 * (i - j)) as f32)
            .collect()
    };
    let (z1, z2) = (matrix(0.0), matrix(0.3));
    // The inputs are rounded to f32.
    assert!((alignment_with(&z1, &z2, 6, 2.0).unwrap() - 0.059245176749).abs() < 1e-7);
    let both = [z1, z2].concat();
    assert!((uniformity_with(&both, 6, 2.0).unwrap() + 1.864295816963).abs() < 1e-6);
}
