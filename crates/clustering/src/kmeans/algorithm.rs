//! Fitting: restarts, numbering of clusters, prediction.

use ndarray::{Array2, ArrayView2, s};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::hyperparams::KMeansParams;
use super::lloyd::{Products, Restart, Stop};
use super::seeding::greedy_plus_plus;
use super::table::Table;
use crate::error::ClusteringError;
use crate::points::{BLOCK_ROWS, Prepared, check_points, contiguous, from_rows, select_rows};

/// A fitted k-means model.
///
/// K-means looks for `k` centroids with a small inertia, the sum over the points of the squared
/// distance to the nearest centroid:
///
/// ```text
/// inertia = sum_i min_k |x_i - c_k|^2
/// ```
///
/// The algorithm is the one of scikit-learn's `KMeans`: greedy k-means++ seeding, Lloyd iterations on
/// centred data until no label changes or the centroids move by less than a tolerance relative to the
/// mean feature variance, farthest points for clusters that lose all members, the best of `n_init`
/// restarts. Random numbers differ, so single runs differ; inertia over many seeds does not.
///
/// # Guarantees
/// - Labels do not depend on the order of the rows, nor on the number of threads.
/// - Clusters are numbered by size, the largest first; equal sizes by the canonical position
///   ([`canonical_order`](crate::canonical_order)) of their first member.
/// - `inertia` follows from the public fields, and `predict` on the training points returns `labels`
///   but for points equally near two centroids to about seven digits.
/// - With fewer distinct points than clusters the last clusters have no members; their centroid is
///   a copy of centroid 0, to which ties go.
///
/// Last bits of matrix products depend on the instruction set of the machine, so runs on different
/// processors can differ where two restarts or two centroids tie to seven digits.
#[derive(Debug, Clone, PartialEq)]
pub struct KMeans {
    /// `[k, dim]`: means of the clusters.
    pub centroids: Array2<f32>,
    /// `[n]`: cluster of each training point.
    pub labels: Vec<usize>,
    /// Sum of squared distances of the training points to their centroids.
    pub inertia: f64,
    /// Lloyd iterations of the best restart.
    pub iterations: usize,
    /// False if the best restart was ended by `max_iter`.
    pub converged: bool,
}

impl KMeans {
    /// The nearest centroid of each point; the lowest index on ties.
    ///
    /// # Shapes
    /// - `points`: `[n, dim]`, result: `n` ids
    ///
    /// # Errors
    /// Empty or non-finite points; a dimension other than that of the centroids.
    pub fn predict(&self, points: ArrayView2<'_, f32>) -> Result<Vec<usize>, ClusteringError> {
        let operation = "k-means predict";
        check_points(operation, points)?;
        let expected = self.centroids.ncols();
        if points.ncols() != expected {
            return Err(ClusteringError::DimensionMismatch {
                operation,
                expected,
                found: points.ncols(),
            });
        }
        Ok(nearest(self.centroids.view(), points))
    }

    /// Number of training points in each cluster.
    pub fn sizes(&self) -> Vec<usize> {
        let mut sizes = vec![0; self.centroids.nrows()];
        self.labels.iter().for_each(|&label| sizes[label] += 1);
        sizes
    }
}

/// How distances are computed. The choice depends on shapes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// The cheaper one.
    Auto,
    /// A table of all inner products, see [`super::table`].
    Table,
    /// Matrix products of points and centroids, see [`super::lloyd`].
    Products,
}

/// Largest table of inner products, in bytes (about 10 000 points).
const LARGEST_TABLE: usize = 400 << 20;

/// Memory for the products of seed candidates, in bytes.
const SEEDING_BUFFER: usize = 64 << 20;

impl Route {
    fn resolve(self, n: usize, dim: usize, params: &KMeansParams) -> Self {
        if self != Self::Auto {
            return self;
        }
        if n.saturating_mul(n).saturating_mul(size_of::<f32>()) > LARGEST_TABLE {
            return Self::Products;
        }
        // Multiply-adds per point: half a table and one pass over it per restart, against the seeding
        // and a handful of iterations per restart.
        let (n, dim, k, restarts) = (n as f64, dim as f64, params.k as f64, params.n_init as f64);
        let table = n * (dim / 2.0 + 2.0 * restarts);
        let products = restarts * k * dim * (2.0 + k.ln() + 8.0);
        if table < products {
            Self::Table
        } else {
            Self::Products
        }
    }
}

/// Clusters the points by the given route.
pub(super) fn fit(
    params: &KMeansParams,
    points: ArrayView2<'_, f32>,
    route: Route,
) -> Result<KMeans, ClusteringError> {
    let operation = "k-means";
    check_points(operation, points)?;
    let (n, dim) = points.dim();
    if params.k > n {
        return Err(ClusteringError::TooManyClusters {
            operation,
            k: params.k,
            rows: n,
        });
    }
    let prepared = Prepared::new(points);
    let data = prepared.data.view();
    let stop = Stop {
        max_iter: params.max_iter,
        tolerance: params.tolerance * prepared.mean_variance(),
    };
    let rng = |restart: usize| {
        let mut rng = ChaCha8Rng::seed_from_u64(params.seed);
        rng.set_stream(restart as u64);
        rng
    };
    let score = |restart: Restart| (inertia(data, &restart), restart);
    let best = match route.resolve(n, dim, params) {
        Route::Table => {
            let table = Table::new(data);
            (0..params.n_init)
                .into_par_iter()
                .filter_map(|r| {
                    let seeds = greedy_plus_plus(&table, params.k, &mut [rng(r)]).pop()?;
                    Some((r, score(table.run(&seeds, stop))))
                })
                .reduce_with(better)
        }
        _ => {
            let products = Products::new(data);
            // The products of all candidates of a step are kept at once; bound their memory.
            let candidates = n * (2 + (params.k as f64).ln() as usize);
            let together =
                (SEEDING_BUFFER / (candidates * size_of::<f32>())).clamp(1, params.n_init);
            (0..params.n_init)
                .step_by(together)
                .filter_map(|first| {
                    let last = (first + together).min(params.n_init);
                    let mut rngs: Vec<ChaCha8Rng> = (first..last).map(rng).collect();
                    greedy_plus_plus(&products, params.k, &mut rngs)
                        .into_par_iter()
                        .enumerate()
                        .map(|(r, seeds)| (first + r, score(products.run(&seeds, stop))))
                        .reduce_with(better)
                })
                .reduce(better)
        }
    };
    match best {
        Some((_, (_, restart))) => Ok(finish(points, &prepared, restart)),
        None => Err(ClusteringError::NoResult {
            operation,
            rows: n,
            dim,
            reason: "no restart ran".to_owned(),
        }),
    }
}

type Scored = (usize, (f64, Restart));

/// The lower inertia; the earlier restart on ties, so the order of comparison does not matter.
fn better(a: Scored, b: Scored) -> Scored {
    if (b.1.0, b.0) < (a.1.0, a.0) { b } else { a }
}

/// Inertia of a restart in double precision, rows in canonical order.
fn inertia(data: ArrayView2<'_, f32>, restart: &Restart) -> f64 {
    data.outer_iter()
        .zip(&restart.labels)
        .map(|(row, &label)| {
            squared_distance(
                row.iter().copied(),
                restart.centroids.row(label as usize).iter().copied(),
            )
        })
        .sum()
}

fn squared_distance(x: impl Iterator<Item = f32>, c: impl Iterator<Item = f64>) -> f64 {
    x.zip(c)
        .map(|(x, c)| (f64::from(x) - c) * (f64::from(x) - c))
        .sum()
}

/// Numbers the clusters, moves the centroids back to the place and size of the input, labels the rows.
fn finish(points: ArrayView2<'_, f32>, prepared: &Prepared, restart: Restart) -> KMeans {
    let (k, dim) = restart.centroids.dim();
    let mut clusters: Vec<(usize, usize, usize)> =
        (0..k).map(|cluster| (0, usize::MAX, cluster)).collect();
    for (position, &label) in restart.labels.iter().enumerate() {
        let (size, first, _) = &mut clusters[label as usize];
        *size += 1;
        *first = (*first).min(position);
    }
    clusters.sort_by_key(|&(size, first, cluster)| (std::cmp::Reverse(size), first, cluster));
    // Means of the input itself: the prepared points were rounded once more.
    let sorted = select_rows(points, &prepared.order);
    let mut means = Array2::<f64>::zeros((k, dim));
    let mut counts = vec![0_usize; k];
    for (row, &owner) in sorted.outer_iter().zip(&restart.owner) {
        counts[owner as usize] += 1;
        means
            .row_mut(owner as usize)
            .iter_mut()
            .zip(row)
            .for_each(|(m, &x)| *m += f64::from(x));
    }
    let largest = clusters[0].2;
    let mut centroids = Vec::with_capacity(k * dim);
    for &(size, _, cluster) in &clusters {
        let cluster = if size == 0 { largest } else { cluster };
        let count = counts[cluster].max(1) as f64;
        centroids.extend(means.row(cluster).iter().map(|m| (m / count) as f32));
    }
    let centroids = from_rows(k, dim, centroids);

    let mut numbers = vec![0_usize; k];
    for (number, &(_, _, cluster)) in clusters.iter().enumerate() {
        numbers[cluster] = number;
    }
    let labels: Vec<usize> = restart
        .labels
        .iter()
        .map(|&label| numbers[label as usize])
        .collect();
    let inertia = sorted
        .outer_iter()
        .zip(&labels)
        .map(|(row, &label)| {
            squared_distance(
                row.iter().copied(),
                centroids.row(label).iter().map(|&c| f64::from(c)),
            )
        })
        .sum();
    KMeans {
        centroids,
        labels: prepared.restore(&labels),
        inertia,
        iterations: restart.iterations,
        converged: restart.converged,
    }
}

/// The nearest centroid of each row; the lowest index on ties.
///
/// Both sides are centred on the mean of the centroids first, because `|c|^2 - 2 x.c` loses digits
/// when the data lie far from the origin.
fn nearest(centroids: ArrayView2<'_, f32>, points: ArrayView2<'_, f32>) -> Vec<usize> {
    let points = contiguous(points);
    let dim = centroids.ncols();
    let mean = crate::points::column_means(centroids);
    let largest = centroids
        .iter()
        .chain(points.iter())
        .fold(0.0_f32, |a, x| a.max(x.abs()));
    // Dividing keeps squares of very large numbers finite; a power of two changes no digit.
    let scale = if largest > 1e15 {
        2.0_f64.powi(-64)
    } else if largest < 1e-15 {
        2.0_f64.powi(64)
    } else {
        1.0
    };
    let centre = |row: ndarray::ArrayView1<'_, f32>| -> Vec<f32> {
        row.iter()
            .zip(&mean)
            .map(|(&x, m)| ((f64::from(x) - m) * scale) as f32)
            .collect()
    };
    let centred: Vec<f32> = centroids.outer_iter().flat_map(centre).collect();
    let centred = from_rows(centroids.nrows(), dim, centred);
    let norms: Vec<f64> = centred
        .outer_iter()
        .map(|row| row.iter().map(|&c| f64::from(c) * f64::from(c)).sum())
        .collect();
    let blocks: Vec<Vec<usize>> = (0..points.nrows().div_ceil(BLOCK_ROWS))
        .into_par_iter()
        .map(|block| {
            let start = block * BLOCK_ROWS;
            let end = (start + BLOCK_ROWS).min(points.nrows());
            let rows: Vec<f32> = points
                .slice(s![start..end, ..])
                .outer_iter()
                .flat_map(centre)
                .collect();
            let products = from_rows(end - start, dim, rows).dot(&centred.t());
            products
                .outer_iter()
                .map(|row| {
                    let mut best = (f64::INFINITY, 0);
                    for (cluster, (norm, &p)) in norms.iter().zip(row).enumerate() {
                        let value = norm - 2.0 * f64::from(p);
                        if value < best.0 {
                            best = (value, cluster);
                        }
                    }
                    best.1
                })
                .collect()
        })
        .collect();
    blocks.concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;
    use rand::RngExt;

    use super::*;

    fn mixture(n: usize, dim: usize, groups: usize, noise: f32, seed: u64) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let centres = Array2::from_shape_fn((groups, dim), |_| rng.random::<f32>() - 0.5);
        Array2::from_shape_fn((n, dim), |(i, j)| {
            centres[[i % groups, j]] + noise * (rng.random::<f32>() - 0.5)
        })
    }

    #[test]
    fn both_routes_give_the_same_clusters() {
        // Several blocks of rows, and enough iterations for bounds, moves and rebuilt sums to matter.
        for (n, dim, groups, noise, k) in [
            (900, 6, 40, 1.5, 25),
            (600, 80, 30, 2.0, 30),
            (300, 2, 4, 0.1, 4),
        ] {
            let points = mixture(n, dim, groups, noise, 12);
            let params = KMeansParams::new(k).n_init(3).seed(1);
            let table = fit(&params, points.view(), Route::Table).unwrap();
            let products = fit(&params, points.view(), Route::Products).unwrap();
            assert_eq!(table.labels, products.labels);
            assert_eq!(table.iterations, products.iterations);
            assert!((table.inertia / products.inertia - 1.0).abs() < 1e-12);
            assert!(table.iterations > 1);
        }
    }

    #[test]
    fn the_route_follows_from_the_shapes() {
        let resolve =
            |n, dim, k, n_init| Route::Auto.resolve(n, dim, &KMeansParams::new(k).n_init(n_init));
        assert_eq!(resolve(2250, 384, 150, 20), Route::Table);
        assert_eq!(resolve(8954, 384, 64, 20), Route::Table);
        assert_eq!(
            resolve(18000, 384, 150, 20),
            Route::Products,
            "too large a table"
        );
        assert_eq!(resolve(9000, 2, 4, 20), Route::Products, "cheaper");
        assert_eq!(
            Route::Table.resolve(18000, 2, &KMeansParams::new(2)),
            Route::Table
        );
    }

    proptest! {
        #[test]
        fn every_route_ignores_row_order_and_survives_duplicates(
            values in proptest::collection::vec(-3_i8..4, 6..120), k in 1_usize..9, turn in 0_usize..60,
        ) {
            let n = values.len() / 2;
            prop_assume!(k <= n);
            let points = Array2::from_shape_fn((n, 2), |(i, j)| f32::from(values[2 * i + j]) * 0.1);
            let turned = Array2::from_shape_fn((n, 2), |(i, j)| points[[(i + turn) % n, j]]);
            let params = KMeansParams::new(k).n_init(2).seed(turn as u64);
            for route in [Route::Table, Route::Products] {
                let a = fit(&params, points.view(), route).unwrap();
                let b = fit(&params, turned.view(), route).unwrap();
                prop_assert_eq!(&a.centroids, &b.centroids);
                prop_assert_eq!(a.inertia, b.inertia);
                for i in 0..n {
                    prop_assert_eq!(b.labels[i], a.labels[(i + turn) % n]);
                    for j in 0..i {
                        if points.row(i) == points.row(j) {
                            prop_assert_eq!(a.labels[i], a.labels[j]);
                        }
                    }
                }
                // Every distinct point can have its own cluster, so none is left empty in vain.
                let mut distinct: Vec<Vec<i8>> = (0..n).map(|i| values[2 * i..2 * i + 2].to_vec()).collect();
                distinct.sort_unstable();
                distinct.dedup();
                let used = a.sizes().iter().filter(|s| **s > 0).count();
                prop_assert_eq!(used, k.min(distinct.len()));
            }
        }
    }
}
