//! The same bytes at one and at two threads, and the same partition in any order of the rows: for
//! k-means, centroid inference, neighbour lists, and in `star_down_program/determinism.rs` for whole
//! runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(feature = "flex")]

use burn::tensor::{Device, Tensor, TensorData};
use clustering::{Assignment, Centroids, KMeans, KMeansParams};
use ndarray::{Array2, Axis};
use queue::{NeighbourParams, nearest_neighbours};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ROWS: usize = 600;
const DIM: usize = 48;
const K: usize = 12;

/// Unit vectors around twelve directions.
fn points() -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let centres = Array2::from_shape_fn((K, DIM), |_| rng.random_range(-1.0..1.0_f32));
    let mut points = Array2::from_shape_fn((ROWS, DIM), |(row, column)| {
        centres[[row % K, column]] + rng.random_range(-0.8..0.8_f32)
    });
    for mut row in points.rows_mut() {
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    points
}

/// An order of the rows.
fn order(seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..ROWS).collect();
    for at in (1..ROWS).rev() {
        order.swap(at, rng.random_range(0..=at));
    }
    order
}

fn at_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build().unwrap().install(work)
}

fn kmeans(points: &Array2<f32>) -> KMeans {
    let params = KMeansParams::new(K).n_init(3).seed(5);
    params.fit(points.view()).unwrap()
}

/// Centroids of a clustering, and what they make of the points.
fn centroid_inference(points: &Array2<f32>) -> (Vec<u32>, Vec<Assignment>) {
    let labels = kmeans(points).labels;
    let centroids = Centroids::from_clusters(points.view(), &labels, K).unwrap();
    let bits = centroids.vectors().iter().map(|x| x.to_bits()).collect();
    (bits, centroids.assign_all(points.view()).unwrap())
}

fn neighbours(points: &Array2<f32>) -> Vec<Vec<u32>> {
    let data = TensorData::new(points.iter().copied().collect::<Vec<_>>(), [ROWS, DIM]);
    let bank = Tensor::<2>::from_data(data, &Device::flex());
    let lists = nearest_neighbours(bank, &NeighbourParams::new(9)).unwrap();
    let rows = (0..lists.len()).map(|row| lists.row(row).unwrap().to_vec());
    rows.collect()
}

#[test]
fn kmeans_gives_the_same_bytes_at_any_number_of_threads() {
    let points = points();
    let one = at_threads(1, || kmeans(&points));
    assert_eq!(one, at_threads(2, || kmeans(&points)));
}

#[test]
fn kmeans_gives_the_same_partition_in_any_row_order() {
    let points = points();
    let expected = kmeans(&points);
    for seed in 0..3 {
        let order = order(seed);
        let found = kmeans(&points.select(Axis(0), &order));
        for (at, row) in order.iter().enumerate() {
            assert_eq!(found.labels[at], expected.labels[*row]);
        }
        assert_eq!(found.centroids, expected.centroids);
    }
}

#[test]
fn centroid_inference_gives_the_same_bytes_at_any_number_of_threads() {
    let points = points();
    let one = at_threads(1, || centroid_inference(&points));
    assert!(one == at_threads(2, || centroid_inference(&points)));
}

#[test]
fn centroid_inference_gives_the_same_partition_in_any_row_order() {
    let points = points();
    let (_, expected) = centroid_inference(&points);
    for seed in 0..3 {
        let order = order(seed);
        let (_, found) = centroid_inference(&points.select(Axis(0), &order));
        for (at, row) in order.iter().enumerate() {
            assert_eq!(found[at].id, expected[*row].id);
            // Sums of other orders may differ in the last digits.
            assert!((found[at].cosine - expected[*row].cosine).abs() < 1e-6);
        }
    }
}

#[test]
fn neighbour_lists_are_the_same_at_any_number_of_threads() {
    let points = points();
    let one = at_threads(1, || neighbours(&points));
    assert_eq!(one, at_threads(2, || neighbours(&points)));
}

#[test]
fn neighbour_lists_are_the_same_in_any_row_order() {
    let points = points();
    let expected = neighbours(&points);
    for seed in 0..3 {
        let order = order(seed);
        let found = neighbours(&points.select(Axis(0), &order));
        for (at, row) in order.iter().enumerate() {
            let back: Vec<u32> = found[at]
                .iter()
                .map(|id| order[*id as usize] as u32)
                .collect();
            assert_eq!(back, expected[*row], "row {row}");
        }
    }
}
