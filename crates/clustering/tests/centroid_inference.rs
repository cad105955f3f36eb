//! Golden values of centroid inference; `make_golden.py --seed 7`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clustering::Centroids;
use ndarray::Array2;
use serde_json::Value;

fn numbers(tensor: &Value) -> Vec<f64> {
    tensor["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect()
}

fn matrix(tensor: &Value) -> Array2<f32> {
    let columns = tensor["shape"][1].as_u64().unwrap() as usize;
    let data: Vec<f32> = numbers(tensor).into_iter().map(|x| x as f32).collect();
    Array2::from_shape_vec((data.len() / columns, columns), data).unwrap()
}

fn ids(tensor: &Value) -> Vec<usize> {
    numbers(tensor).into_iter().map(|x| x as usize).collect()
}

#[test]
fn golden_means_and_predictions() {
    let file: Value = serde_json::from_str(include_str!("golden/centroid_inference.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    for case in cases {
        let inputs = &case["inputs"];
        let k = case["params"]["k"].as_u64().unwrap() as usize;
        let train = matrix(&inputs["train"]);
        let centroids =
            Centroids::from_clusters(train.view(), &ids(&inputs["train_cluster"]), k).unwrap();

        let expected = numbers(&case["expected"]["centroids"]);
        let tolerance = &case["tol"]["centroids"];
        let largest = expected.iter().fold(0.0_f64, |a, x| a.max(x.abs()));
        let allowed =
            tolerance["atol"].as_f64().unwrap() + tolerance["rtol"].as_f64().unwrap() * largest;
        assert_eq!(expected.len(), centroids.means().len());
        for (&got, want) in centroids.means().iter().zip(expected) {
            assert!((f64::from(got) - want).abs() <= allowed, "{got} {want}");
        }

        let test = matrix(&inputs["test"]);
        let found: Vec<usize> = centroids
            .assign_all(test.view())
            .unwrap()
            .iter()
            .map(|a| a.id)
            .collect();
        assert_eq!(found, ids(&case["expected"]["pred"]), "{}", case["name"]);
        for (row, &id) in test.outer_iter().zip(&found) {
            assert_eq!(centroids.assign(&row.to_vec()).unwrap().id, id);
        }
    }
}
