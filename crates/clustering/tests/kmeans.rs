//! K-means through the public interface: golden values, a slow second implementation, invariances.
//!
//! The golden files come from `make_golden.py --seed 7` (own formulas, scikit-learn as the oracle).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clustering::{ClusteringError, KMeans, KMeansParams, canonical_order};
use ndarray::{Array2, ArrayView2, s};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

fn matrix(tensor: &Value) -> Array2<f32> {
    let shape: Vec<usize> = tensor["shape"]
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_u64().unwrap() as usize)
        .collect();
    let data = tensor["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap() as f32)
        .collect();
    Array2::from_shape_vec((shape[0], shape[1]), data).unwrap()
}

/// Rows around `groups` random centres; the noise is `noise` times as long as the distance of centres.
fn mixture(n: usize, dim: usize, groups: usize, noise: f32, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let centres = Array2::from_shape_fn((groups, dim), |_| rng.random::<f32>() - 0.5);
    Array2::from_shape_fn((n, dim), |(i, j)| {
        centres[[i % groups, j]] + noise * (rng.random::<f32>() - 0.5)
    })
}

/// Squared distance in double precision.
fn squared_distance(a: ArrayView2<'_, f32>, i: usize, b: ArrayView2<'_, f32>, j: usize) -> f64 {
    a.row(i)
        .iter()
        .zip(b.row(j))
        .map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2))
        .sum()
}

/// One iteration of Lloyd's algorithm, written down plainly: means of the labels, then nearest means.
fn plain_lloyd_step(points: ArrayView2<'_, f32>, labels: &[usize], k: usize) -> Vec<usize> {
    let dim = points.ncols();
    let mut means = vec![vec![0.0_f64; dim]; k];
    for (c, mean) in means.iter_mut().enumerate() {
        let members: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == c).collect();
        for &i in &members {
            for (m, &x) in mean.iter_mut().zip(points.row(i)) {
                *m += f64::from(x) / members.len() as f64;
            }
        }
    }
    (0..labels.len())
        .map(|i| {
            let distance = |c: &usize| -> f64 {
                points
                    .row(i)
                    .iter()
                    .zip(&means[*c])
                    .map(|(&x, m)| (f64::from(x) - m).powi(2))
                    .sum()
            };
            (0..k)
                .min_by(|a, b| distance(a).total_cmp(&distance(b)))
                .unwrap()
        })
        .collect()
}

/// Checks what every result must satisfy.
fn check_model(points: ArrayView2<'_, f32>, model: &KMeans) {
    let k = model.centroids.nrows();
    assert_eq!(model.labels.len(), points.nrows());
    assert!(model.labels.iter().all(|&label| label < k));
    assert!(model.centroids.iter().all(|x| x.is_finite()));
    let sizes = model.sizes();
    assert!(
        sizes.windows(2).all(|w| w[0] >= w[1]),
        "largest first: {sizes:?}"
    );
    for (i, (&predicted, &label)) in model
        .predict(points)
        .unwrap()
        .iter()
        .zip(&model.labels)
        .enumerate()
    {
        // Small whole numbers make exact ties common.
        let d = |c: usize| squared_distance(points, i, model.centroids.view(), c);
        assert!(
            predicted == label || (d(predicted) - d(label)).abs() <= 1e-5 * d(label),
            "row {i}: {predicted} {label}"
        );
    }
    let inertia: f64 = (0..points.nrows())
        .map(|i| squared_distance(points, i, model.centroids.view(), model.labels[i]))
        .sum();
    assert!(
        (inertia - model.inertia).abs() <= 1e-9 * inertia.max(1e-12),
        "{inertia} {}",
        model.inertia
    );
}

#[test]
fn golden_inertia() {
    let file: Value = serde_json::from_str(include_str!("golden/kmeans.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let points = matrix(&case["inputs"]["x"]);
        let k = case["params"]["k"].as_u64().unwrap() as usize;
        let best = case["expected"]["best_inertia"].as_f64().unwrap();
        let rtol = case["tol"]["best_inertia"]["rtol"].as_f64().unwrap();
        for seed in 0..10 {
            let model = KMeansParams::new(k).seed(seed).fit(points.view()).unwrap();
            check_model(points.view(), &model);
            let excess = model.inertia / best - 1.0;
            assert!(
                (-1e-4..rtol).contains(&excess),
                "{} seed {seed}: {} {best}",
                case["name"],
                model.inertia
            );
        }
    }
}

#[test]
fn converged_labels_are_a_fixed_point_of_the_plain_iteration() {
    for (n, dim, k, noise) in [(200, 3, 5, 0.4), (500, 40, 20, 1.0), (300, 2, 30, 2.0)] {
        let points = mixture(n, dim, k, noise, 9);
        let model = KMeansParams::new(k)
            .tolerance(0.0)
            .n_init(3)
            .fit(points.view())
            .unwrap();
        assert!(model.converged);
        check_model(points.view(), &model);
        assert_eq!(
            plain_lloyd_step(points.view(), &model.labels, k),
            model.labels
        );
        let means = clustering::Centroids::from_clusters(points.view(), &model.labels, k).unwrap();
        let largest = (&means.means() - &model.centroids)
            .iter()
            .fold(0.0_f32, |a, x| a.max(x.abs()));
        assert!(largest < 1e-6, "{largest}");
    }
}

#[test]
fn inertia_is_at_least_as_good_as_plain_k_means_plus_plus() {
    // Plain k-means++ with plain Lloyd iterations, best of as many restarts, mean over seeds.
    let points = mixture(240, 6, 24, 0.6, 2);
    let (k, n_init, seeds) = (24, 5, 6);
    let plain = |seed: u64| -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut best = f64::INFINITY;
        for _ in 0..n_init {
            let mut chosen = vec![rng.random_range(0..points.nrows())];
            while chosen.len() < k {
                let weights: Vec<f64> = (0..points.nrows())
                    .map(|i| {
                        let d = chosen
                            .iter()
                            .map(|&c| squared_distance(points.view(), i, points.view(), c));
                        d.fold(f64::INFINITY, f64::min)
                    })
                    .collect();
                let mut target = rng.random::<f64>() * weights.iter().sum::<f64>();
                let next = weights.iter().position(|w| {
                    target -= w;
                    target < 0.0
                });
                chosen.push(next.unwrap_or(0));
            }
            let mut labels: Vec<usize> = (0..points.nrows())
                .map(|i| {
                    let d =
                        |c: &usize| squared_distance(points.view(), i, points.view(), chosen[*c]);
                    (0..k).min_by(|a, b| d(a).total_cmp(&d(b))).unwrap()
                })
                .collect();
            for _ in 0..100 {
                labels = plain_lloyd_step(points.view(), &labels, k);
            }
            let means = clustering::Centroids::from_clusters(points.view(), &labels, k).unwrap();
            let inertia: f64 = (0..points.nrows())
                .map(|i| squared_distance(points.view(), i, means.means(), labels[i]))
                .sum();
            best = best.min(inertia);
        }
        best
    };
    let ours = |seed: u64| {
        KMeansParams::new(k)
            .n_init(n_init)
            .seed(seed)
            .fit(points.view())
            .unwrap()
            .inertia
    };
    let mean = |f: &dyn Fn(u64) -> f64| (0..seeds).map(f).sum::<f64>() / seeds as f64;
    let (ours, plain) = (mean(&ours), mean(&plain));
    assert!(ours <= plain * 1.001, "{ours} {plain}");
}

#[test]
fn threads_do_not_matter() {
    // Few restarts and many dimensions take the way by products, many restarts the way by a table.
    for (n_init, k) in [(1, 3), (20, 30)] {
        let points = mixture(700, 48, 30, 1.2, 4);
        let params = KMeansParams::new(k).n_init(n_init).seed(5).check().unwrap();
        let expected = params.fit(points.view()).unwrap();
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            assert_eq!(
                pool.install(|| params.fit(points.view())).unwrap(),
                expected,
                "{threads} threads"
            );
        }
    }
}

#[test]
fn the_seed_decides() {
    let points = mixture(150, 4, 30, 2.0, 6);
    let fit = |seed| {
        KMeansParams::new(12)
            .n_init(1)
            .seed(seed)
            .fit(points.view())
            .unwrap()
    };
    assert_eq!(fit(1), fit(1));
    assert!((0..10).any(|seed| fit(seed).labels != fit(10).labels));
}

#[test]
fn one_cluster_and_as_many_clusters_as_points() {
    let points = mixture(40, 3, 4, 1.0, 1);
    let model = KMeansParams::new(1).fit(points.view()).unwrap();
    check_model(points.view(), &model);
    let mean = points.mean_axis(ndarray::Axis(0)).unwrap();
    assert!(
        model
            .centroids
            .row(0)
            .iter()
            .zip(&mean)
            .all(|(a, b)| (a - b).abs() < 1e-6)
    );

    let model = KMeansParams::new(40).fit(points.view()).unwrap();
    check_model(points.view(), &model);
    assert_eq!(model.sizes(), vec![1; 40]);
    // Of equal size, so numbered in canonical order.
    for (number, row) in canonical_order(points.view()).into_iter().enumerate() {
        assert_eq!(model.labels[row], number);
    }
    assert_eq!(model.inertia, 0.0);
}

#[test]
fn bad_input_is_refused() {
    let points = mixture(5, 3, 2, 1.0, 1);
    let fit = |points: ArrayView2<'_, f32>, k| KMeansParams::new(k).fit(points).unwrap_err();
    assert!(matches!(
        fit(points.view(), 6),
        ClusteringError::TooManyClusters { k: 6, rows: 5, .. }
    ));
    assert!(matches!(
        fit(points.slice(s![..0, ..]), 1),
        ClusteringError::Empty { rows: 0, .. }
    ));
    assert!(matches!(
        fit(points.slice(s![.., ..0]), 1),
        ClusteringError::Empty { dim: 0, .. }
    ));
    let mut bad = points.clone();
    bad[[3, 1]] = f32::NAN;
    assert!(matches!(
        fit(bad.view(), 2),
        ClusteringError::NonFinite {
            row: 3,
            column: 1,
            ..
        }
    ));
    let model = KMeansParams::new(2).fit(points.view()).unwrap();
    let narrow = points.slice(s![.., ..2]);
    assert!(matches!(
        model.predict(narrow),
        Err(ClusteringError::DimensionMismatch {
            expected: 3,
            found: 2,
            ..
        })
    ));
    assert!(model.predict(bad.view()).is_err());
    let single = KMeansParams::new(1).fit(points.slice(s![..1, ..])).unwrap();
    assert_eq!((single.labels, single.inertia), (vec![0], 0.0));
}

#[test]
fn fewer_distinct_points_than_clusters() {
    let distinct = mixture(3, 4, 3, 1.0, 8);
    let points = Array2::from_shape_fn((60, 4), |(i, j)| {
        distinct[[if i < 30 { 0 } else { 1 + i % 2 }, j]]
    });
    for k in [3, 5, 60] {
        let model = KMeansParams::new(k).n_init(3).fit(points.view()).unwrap();
        check_model(points.view(), &model);
        assert_eq!(model.sizes()[..3], [30, 15, 15]);
        assert!(model.inertia < 1e-10);
        for empty in 3..k {
            assert_eq!(model.centroids.row(empty), model.centroids.row(0));
        }
    }
    let equal = Array2::<f32>::from_elem((20, 3), -0.7);
    let model = KMeansParams::new(4).fit(equal.view()).unwrap();
    check_model(equal.view(), &model);
    assert_eq!(model.sizes(), vec![20, 0, 0, 0]);
    let zero = Array2::<f32>::zeros((6, 3));
    assert_eq!(
        KMeansParams::new(2).fit(zero.view()).unwrap().sizes(),
        vec![6, 0]
    );
}

#[test]
fn distance_from_the_origin_costs_no_accuracy() {
    let points = mixture(200, 5, 4, 0.3, 3);
    let near = KMeansParams::new(4).fit(points.view()).unwrap();
    let far = points.mapv(|x| x + 1000.0);
    let moved = KMeansParams::new(4).fit(far.view()).unwrap();
    check_model(far.view(), &moved);
    let partition = |m: &KMeans| -> Vec<Vec<bool>> {
        (0..200)
            .map(|i| (0..200).map(|j| m.labels[i] == m.labels[j]).collect())
            .collect()
    };
    assert_eq!(partition(&near), partition(&moved));
}

#[test]
fn max_iter_is_reported() {
    let points = mixture(400, 3, 50, 3.0, 7);
    let model = KMeansParams::new(20)
        .n_init(1)
        .max_iter(1)
        .fit(points.view())
        .unwrap();
    assert_eq!((model.iterations, model.converged), (1, false));
    check_model(points.view(), &model);
}

#[test]
fn models_cross_threads() {
    fn check<T: Send + Sync + Unpin + 'static>() {}
    check::<KMeans>();
    check::<KMeansParams>();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn row_order_does_not_matter(
        values in proptest::collection::vec(-6_i8..7, 4..160), dim in 1_usize..4, k in 1_usize..7,
        shuffle in any::<u64>(), n_init in 1_usize..4,
    ) {
        use rand::seq::SliceRandom;
        let n = values.len() / dim;
        prop_assume!(n >= k);
        let points = Array2::from_shape_fn((n, dim), |(i, j)| f32::from(values[i * dim + j]) * 0.3);
        let mut order: Vec<usize> = (0..n).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(shuffle));
        let shuffled = points.select(ndarray::Axis(0), &order);
        let params = KMeansParams::new(k).n_init(n_init).seed(shuffle).check().unwrap();
        let a = params.fit(points.view()).unwrap();
        let b = params.fit(shuffled.view()).unwrap();
        check_model(points.view(), &a);
        prop_assert_eq!(&a.centroids, &b.centroids);
        prop_assert_eq!(a.inertia, b.inertia);
        for (position, &row) in order.iter().enumerate() {
            prop_assert_eq!(b.labels[position], a.labels[row]);
        }
        // Identical rows are never torn apart.
        for i in 0..n {
            for j in 0..i {
                if points.row(i) == points.row(j) {
                    prop_assert_eq!(a.labels[i], a.labels[j]);
                }
            }
        }
    }

    #[test]
    fn scaling_by_a_power_of_two_changes_nothing(
        seed in any::<u64>(), exponent in -60_i32..60, k in 1_usize..9,
    ) {
        let points = mixture(60, 5, 8, 1.0, seed);
        let factor = 2.0_f32.powi(exponent);
        let scaled = points.mapv(|x| x * factor);
        let a = KMeansParams::new(k).n_init(2).seed(seed).fit(points.view()).unwrap();
        let b = KMeansParams::new(k).n_init(2).seed(seed).fit(scaled.view()).unwrap();
        check_model(scaled.view(), &b);
        prop_assert_eq!(&a.labels, &b.labels);
        prop_assert_eq!(a.centroids.mapv(|x| x * factor), b.centroids);
        prop_assert_eq!(a.inertia * f64::from(factor).powi(2), b.inertia);
    }

    #[test]
    fn doubling_every_point_doubles_the_best_inertia(seed in any::<u64>()) {
        // Separated groups: both runs find the one best partition.
        let points = mixture(40, 8, 4, 0.1, seed);
        let twice = Array2::from_shape_fn((80, 8), |(i, j)| points[[i / 2, j]]);
        let a = KMeansParams::new(4).seed(seed).fit(points.view()).unwrap();
        let b = KMeansParams::new(4).seed(seed).fit(twice.view()).unwrap();
        prop_assert!((2.0 * a.inertia / b.inertia - 1.0).abs() < 1e-5);
        for i in 0..80 {
            for j in 0..i {
                prop_assert_eq!(b.labels[i] == b.labels[j], a.labels[i / 2] == a.labels[j / 2]);
            }
        }
    }
}
