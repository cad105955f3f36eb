//! Neighbour search and k-means on synthetic sentence vectors: unit vectors around class centres.
//!
//! Ids carry rows x dimensions and the setting.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use burn::tensor::{Device, Tensor, TensorData};
use clustering::KMeansParams;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ndarray::ArrayView2;
use queue::{NeighbourParams, nearest_neighbours};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `rows` unit vectors around `classes` random centres.
fn vectors(rows: usize, dim: usize, classes: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut draw = || rng.random::<f32>() * 2.0 - 1.0;
    let centres: Vec<f32> = (0..classes * dim).map(|_| draw()).collect();
    let mut out = Vec::with_capacity(rows * dim);
    for row in 0..rows {
        let centre = &centres[row % classes * dim..][..dim];
        let values: Vec<f32> = centre.iter().map(|c| c + 1.2 * draw()).collect();
        let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
        out.extend(values.iter().map(|v| v / norm));
    }
    out
}

fn neighbours(c: &mut Criterion) {
    let mut group = c.benchmark_group("nearest_neighbours");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    // All pairs of 1e5 rows are 7.7 TFLOP: there the search is within 50 coarse classes, and the whole
    // of it is left to the example `scaling`.
    for (rows, dim, k, classes) in [
        (2_400, 128, 40, None),
        (8_954, 384, 120, None),
        (10_000, 384, 120, None),
        (100_000, 384, 120, Some(50)),
    ] {
        let data = TensorData::new(vectors(rows, dim, 64), [rows, dim]);
        let bank = Tensor::<2>::from_data(data, &Device::flex());
        let labels: Option<Vec<usize>> =
            classes.map(|classes| (0..rows).map(|row| row % classes).collect());
        let params = NeighbourParams {
            coarse_filter: labels.as_deref(),
            ..NeighbourParams::new(k)
        };
        let filter = classes.map_or(String::new(), |classes| format!("/coarse={classes}"));
        group.bench_function(
            BenchmarkId::from_parameter(format!("{rows}x{dim}/k={k}{filter}")),
            |b| b.iter(|| nearest_neighbours(black_box(bank.clone()), &params).unwrap()),
        );
    }
    group.finish();
}

fn kmeans(c: &mut Criterion) {
    let mut group = c.benchmark_group("kmeans");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    for (rows, dim, k) in [(1_031, 384, 64), (2_250, 384, 150)] {
        let data = vectors(rows, dim, k);
        let points = ArrayView2::from_shape((rows, dim), &data).unwrap();
        group.bench_function(
            BenchmarkId::from_parameter(format!("{rows}x{dim}/k={k}/n_init=20")),
            |b| {
                b.iter(|| {
                    KMeansParams::new(k)
                        .n_init(20)
                        .seed(0)
                        .fit(black_box(points))
                        .unwrap()
                });
            },
        );
    }
    group.finish();
}

criterion_group!(benches, neighbours, kmeans);
criterion_main!(benches);
