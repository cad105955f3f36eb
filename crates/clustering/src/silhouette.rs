//! Silhouette: how much nearer points are to their own cluster than to the next one.

use ndarray::{Array2, ArrayView2, s};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::centroids::check_labels;
use crate::error::{ClusteringError, invalid};
use crate::points::{BLOCK_ROWS, Prepared, canonical_order, check_points, select_rows};

/// Silhouette of every point (Rousseeuw 1987), Euclidean distance.
///
/// ```text
/// a_i = mean distance to the other points of the own cluster
/// b_i = smallest mean distance to the points of another cluster
/// s_i = (b_i - a_i) / max(a_i, b_i)      in -1..1;  0 for the only member of a cluster
/// ```
///
/// # Shapes
/// - `points`: `[n, dim]`; `labels`: `n` ids in any numbering; result: `n` values
///
/// # Errors
/// Empty or non-finite points, a wrong number of labels, fewer than two clusters.
///
/// # Example
/// ```
/// use ndarray::array;
/// // On a line at 0, 1, 10: a = 1 and b = 10 for the first point.
/// let s = clustering::silhouette_samples(array![[0.0_f32], [1.0], [10.0]].view(), &[0, 0, 5])?;
/// assert!((s[0] - 0.9).abs() < 1e-5 && s[2] == 0.0);
/// # Ok::<(), clustering::ClusteringError>(())
/// ```
pub fn silhouette_samples(
    points: ArrayView2<'_, f32>,
    labels: &[usize],
) -> Result<Vec<f64>, ClusteringError> {
    let operation = "silhouette";
    check_points(operation, points)?;
    check_labels(operation, labels, points.nrows(), usize::MAX)?;
    let mut ids = labels.to_vec();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() < 2 {
        return Err(invalid(
            operation,
            "labels",
            "of at least two clusters",
            ids.len(),
        ));
    }
    let prepared = Prepared::new(points);
    let compact: Vec<usize> = prepared
        .order
        .iter()
        .map(|&row| ids.partition_point(|&id| id < labels[row]))
        .collect();
    Ok(prepared.restore(&samples(prepared.data.view(), &compact, ids.len())))
}

/// Mean silhouette, over all points or over a seeded sample of them.
///
/// A `sample` of n or more means all points. Which points are drawn depends on their content and the
/// seed, not on the order of the rows.
///
/// # Errors
/// Those of [`silhouette_samples`] for the points drawn; a sample of fewer than two points.
pub fn silhouette(
    points: ArrayView2<'_, f32>,
    labels: &[usize],
    sample: usize,
    seed: u64,
) -> Result<f64, ClusteringError> {
    let operation = "silhouette";
    check_points(operation, points)?;
    check_labels(operation, labels, points.nrows(), usize::MAX)?;
    if sample < 2 {
        return Err(invalid(operation, "sample", "at least 2", sample));
    }
    let (rows, drawn) = seeded_sample(points, sample, seed);
    let labels: Vec<usize> = rows.iter().map(|&row| labels[row]).collect();
    let values = silhouette_samples(drawn.view(), &labels)?;
    // Summed in sorted order: identical points may carry their values in any order.
    let mut sorted = values;
    sorted.sort_by(f64::total_cmp);
    Ok(sorted.iter().sum::<f64>() / sorted.len() as f64)
}

/// Silhouettes for prepared points and labels `0..k`.
fn samples(data: ArrayView2<'_, f32>, labels: &[usize], k: usize) -> Vec<f64> {
    let n = data.nrows();
    let mut counts = vec![0_usize; k];
    labels.iter().for_each(|&label| counts[label] += 1);
    let norms: Vec<f64> = data
        .outer_iter()
        .map(|r| r.iter().map(|&x| f64::from(x).powi(2)).sum())
        .collect();
    let blocks: Vec<Vec<f64>> = (0..n.div_ceil(BLOCK_ROWS))
        .into_par_iter()
        .map(|block| {
            let start = block * BLOCK_ROWS;
            let end = (start + BLOCK_ROWS).min(n);
            let products: Array2<f32> = data.slice(s![start..end, ..]).dot(&data.t());
            let mut sums = vec![0.0_f64; k];
            (start..end)
                .zip(products.outer_iter())
                .map(|(i, products)| {
                    sums.fill(0.0);
                    for (j, &p) in products.iter().enumerate() {
                        let squared = norms[i] + norms[j] - 2.0 * f64::from(p);
                        // Near zero the products have no digits left; look at the rows themselves.
                        let squared = if squared < 1e-3 * (norms[i] + norms[j]) {
                            let pairs = data.row(i).into_iter().zip(data.row(j));
                            pairs
                                .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
                                .sum()
                        } else {
                            squared
                        };
                        sums[labels[j]] += squared.sqrt();
                    }
                    let own = labels[i];
                    if counts[own] < 2 {
                        return 0.0;
                    }
                    let a = sums[own] / (counts[own] - 1) as f64;
                    let b = (0..k)
                        .filter(|&c| c != own && counts[c] > 0)
                        .map(|c| sums[c] / counts[c] as f64)
                        .fold(f64::INFINITY, f64::min);
                    let larger = a.max(b);
                    if larger > 0.0 { (b - a) / larger } else { 0.0 }
                })
                .collect()
        })
        .collect();
    blocks.concat()
}

/// The points of a sample as a matrix, for callers that evaluate several clusterings of it.
pub(crate) fn seeded_sample(
    points: ArrayView2<'_, f32>,
    sample: usize,
    seed: u64,
) -> (Vec<usize>, Array2<f32>) {
    let mut rows = canonical_order(points);
    if sample < rows.len() {
        rows.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        rows.truncate(sample);
    }
    let drawn = select_rows(points, &rows);
    (rows, drawn)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn four_points_by_hand() {
        // On a line at 0, 2, 10, 14 with clusters {0, 2} and {10, 14}:
        // a = 2, 2, 4, 4; b = 12, 10, 9, 13.
        let points = array![[0.0_f32], [2.0], [10.0], [14.0]];
        let s = silhouette_samples(points.view(), &[3, 3, 1, 1]).unwrap();
        for (got, want) in s
            .iter()
            .zip([10.0 / 12.0, 8.0 / 10.0, 5.0 / 9.0, 9.0 / 13.0])
        {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
        let mean = silhouette(points.view(), &[3, 3, 1, 1], 100, 0).unwrap();
        assert!((mean - s.iter().sum::<f64>() / 4.0).abs() < 1e-12);
    }

    #[test]
    fn equal_points_in_two_clusters_are_undecided() {
        let points = Array2::<f32>::from_elem((4, 3), 0.3);
        assert_eq!(
            silhouette_samples(points.view(), &[0, 0, 1, 1]).unwrap(),
            vec![0.0; 4]
        );
    }

    #[test]
    fn bad_input_is_refused() {
        let points = array![[0.0_f32], [2.0]];
        assert!(silhouette_samples(points.view(), &[0, 0]).is_err());
        assert!(silhouette_samples(points.view(), &[0]).is_err());
        assert!(silhouette(points.view(), &[0, 1], 1, 0).is_err());
        assert!(silhouette_samples(array![[f32::NAN], [0.0]].view(), &[0, 1]).is_err());
    }

    proptest! {
        #[test]
        fn equals_plain_loops_in_any_row_order(
            values in proptest::collection::vec(-4_i8..5, 24), labels in proptest::collection::vec(0_usize..3, 12),
            turn in 0_usize..12,
        ) {
            prop_assume!(labels.iter().any(|l| *l != labels[0]));
            let points = Array2::from_shape_fn((12, 2), |(i, j)| f32::from(values[2 * i + j]) * 0.37);
            let got = silhouette_samples(points.view(), &labels).unwrap();
            let distance = |i: usize, j: usize| {
                (0..2).map(|c| (f64::from(points[[i, c]]) - f64::from(points[[j, c]])).powi(2)).sum::<f64>().sqrt()
            };
            for i in 0..12 {
                let mean = |c: usize| {
                    let others: Vec<usize> = (0..12).filter(|&j| j != i && labels[j] == c).collect();
                    (!others.is_empty()).then(|| others.iter().map(|&j| distance(i, j)).sum::<f64>() / others.len() as f64)
                };
                let want = match mean(labels[i]) {
                    None => 0.0,
                    Some(a) => {
                        let b = (0..3).filter(|&c| c != labels[i]).filter_map(mean).fold(f64::INFINITY, f64::min);
                        if a.max(b) > 0.0 { (b - a) / a.max(b) } else { 0.0 }
                    }
                };
                prop_assert!((got[i] - want).abs() < 1e-5, "{} {}", got[i], want);
            }
            let turned = Array2::from_shape_fn((12, 2), |(i, j)| points[[(i + turn) % 12, j]]);
            let turned_labels: Vec<usize> = (0..12).map(|i| labels[(i + turn) % 12]).collect();
            let again = silhouette_samples(turned.view(), &turned_labels).unwrap();
            for i in 0..12 {
                prop_assert!((again[i] - got[(i + turn) % 12]).abs() < 1e-12);
            }
        }
    }
}
