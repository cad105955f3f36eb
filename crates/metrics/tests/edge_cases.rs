//! Edge cases against numpy, scipy and scikit-learn.
//!
//! The table is regenerated, from the repository root, by
//!
//! ```text
//! python scripts/oracles/metrics.py > crates/metrics/tests/golden/edge_cases.json
//! ```
//!
//! with `numpy`, `scipy` and `scikit-learn` installed; the file names the versions it came from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metrics::{
    adjusted_rand_index, alignment_with, average_ranks, clustering_accuracy, max_assignment,
    min_assignment, normalized_mutual_information, pearson, purity, spearman, uniformity_with,
};
use serde_json::Value;

fn cases(part: &str, count: usize) -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("golden/edge_cases.json")).unwrap();
    let cases = file[part].as_array().unwrap().clone();
    assert_eq!(cases.len(), count);
    cases
}

fn floats(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item.as_f64().unwrap())
        .collect()
}

fn singles(value: &Value) -> Vec<f32> {
    floats(value).into_iter().map(|item| item as f32).collect()
}

fn ids(value: &Value) -> Vec<i64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item.as_i64().unwrap())
        .collect()
}

/// Compares with the field `item`; null stands for NaN.
fn check(case: &Value, item: &str, got: f64, tolerance: f64) {
    let same = match &case[item] {
        Value::Null => case.get(item).is_some() && got.is_nan(),
        expected => (got - expected.as_f64().unwrap()).abs() <= tolerance,
    };
    assert!(
        same,
        "{} {item}: got {got}, expected {}",
        case["name"], case[item]
    );
}

#[test]
fn partitions() {
    for case in cases("partitions", 23) {
        let (clusters, labels) = (ids(&case["clusters"]), ids(&case["labels"]));
        let fit = clustering_accuracy(&clusters, &labels).unwrap();
        check(&case, "matched", fit.matched as f64, 0.0);
        check(&case, "acc", fit.accuracy, 0.0);
        check(&case, "purity", purity(&clusters, &labels).unwrap(), 0.0);
        check(
            &case,
            "ari",
            adjusted_rand_index(&clusters, &labels).unwrap(),
            1e-15,
        );
        check(
            &case,
            "nmi",
            normalized_mutual_information(&clusters, &labels).unwrap(),
            1e-13,
        );
    }
}

#[test]
fn degenerate_partitions_are_exact() {
    // The values that scikit-learn defines rather than computes: no rounding is allowed here.
    let exact = |name: &str, ari: f64, nmi: f64| {
        let cases = cases("partitions", 23);
        let case = cases.iter().find(|case| case["name"] == name).unwrap();
        let (clusters, labels) = (ids(&case["clusters"]), ids(&case["labels"]));
        assert_eq!(
            adjusted_rand_index(&clusters, &labels).unwrap(),
            ari,
            "{name}"
        );
        assert_eq!(
            normalized_mutual_information(&clusters, &labels).unwrap(),
            nmi,
            "{name}"
        );
    };
    exact("one_row", 1.0, 1.0);
    exact("two_rows_together", 1.0, 1.0);
    exact("two_rows_apart", 1.0, 1.0);
    exact("two_rows_joined_by_one_side", 0.0, 0.0);
    exact("one_cluster_both", 1.0, 1.0);
    exact("one_cluster_left", 0.0, 0.0);
    exact("one_cluster_right", 0.0, 0.0);
    exact("singletons_both", 1.0, 1.0);
    exact("singletons_against_one", 0.0, 0.0);
    exact("relabelled", 1.0, 1.0);
    exact("crossed_pairs", -0.5, 0.0);
}

#[test]
fn correlations() {
    for case in cases("correlations", 11) {
        let (x, y) = (floats(&case["x"]), floats(&case["y"]));
        check(&case, "pearson", pearson(&x, &y).unwrap(), 1e-14);
        check(&case, "spearman", spearman(&x, &y).unwrap(), 1e-14);
        assert_eq!(
            average_ranks(&x).unwrap(),
            floats(&case["ranks_x"]),
            "{}",
            case["name"]
        );
    }
}

#[test]
fn assignments() {
    for case in cases("assignments", 7) {
        let side = |name: &str| case[name].as_u64().unwrap() as usize;
        let (rows, columns, costs) = (side("rows"), side("columns"), floats(&case["costs"]));
        check(
            &case,
            "min",
            min_assignment(&costs, rows, columns).unwrap().total,
            1e-12,
        );
        check(
            &case,
            "max",
            max_assignment(&costs, rows, columns).unwrap().total,
            1e-12,
        );
    }
}

#[test]
fn spheres() {
    for case in cases("spheres", 4) {
        let number = |name: &str| case[name].as_f64().unwrap();
        let dim = case["dim"].as_u64().unwrap() as usize;
        let (x, y) = (singles(&case["x"]), singles(&case["y"]));
        let alignment = alignment_with(&x, &y, dim, number("alpha")).unwrap();
        let uniformity = uniformity_with(&x, dim, number("t")).unwrap();
        check(&case, "alignment", alignment, 1e-12);
        check(&case, "uniformity", uniformity, 1e-9);
    }
}
