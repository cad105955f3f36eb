//! How evenly embeddings use the directions of their space.

use crate::compensated_sum::compensated_sum;
use crate::error::MetricsError;
use crate::rows::{check_rows, dot, normalised_rows};

/// Rows per block of the covariance: a block of 384-dimensional columns fills 768 KiB.
const BLOCK: usize = 256;

/// Mean cosine over all pairs of rows.
///
/// `average_cosine(x) = mean_{i<j} n(x_i) . n(x_j)`, with `n(v) = v / max(||v||, 1e-12)`; in
/// `[-1 / (rows - 1), 1]`. Near 0 for embeddings that point everywhere, near 1 for a narrow cone.
///
/// `x` is row-major `[rows, dim]`. All pairs are counted, not a sample, at the cost of one pass:
/// `sum_{i<j} n_i . n_j = (|| sum_i n_i ||^2 - sum_i || n_i ||^2) / 2`, in `f64`.
///
/// # Errors
/// [`MetricsError::Empty`]; [`MetricsError::TooFew`] for a single row; [`MetricsError::Shape`];
/// [`MetricsError::Parameter`] for `dim = 0`; [`MetricsError::NonFinite`].
///
/// Source: Ethayarajh 2019, arXiv 1909.00512 (there estimated from random pairs).
///
/// ```
/// // Cosines of the three pairs: 0, -1, 0.
/// let value = metrics::average_cosine(&[1.0, 0.0, 0.0, 2.0, -3.0, 0.0], 2)?;
/// assert!((value + 1.0 / 3.0).abs() < 1e-12);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn average_cosine(x: &[f32], dim: usize) -> Result<f64, MetricsError> {
    let rows = at_least_two_rows("average_cosine", x, dim)?;
    let unit = normalised_rows(x, dim);
    let mut sum = vec![0.0; dim];
    for row in unit.chunks_exact(dim) {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += value;
        }
    }
    let own = compensated_sum(unit.chunks_exact(dim).map(|row| dot(row, row)));
    let pairs = rows as f64 * (rows - 1) as f64;
    Ok(((dot(&sum, &sum) - own) / pairs).clamp(-1.0, 1.0))
}

/// IsoScore: the share of the dimensions that the variance uses evenly.
///
/// With `C` the covariance of the rows, `[dim, dim]`:
/// `iso_score(x) = (tr(C)^2 / ||C||_F^2 - 1) / (dim - 1)`, in `[0, 1]`: 1 if the variance is the
/// same in every direction, 0 if it all lies on one line.
///
/// The paper defines the score through the principal components: with `l` the vector of their
/// variances, `s = sqrt(dim) l / ||l||`, defect `e = ||s - 1|| / sqrt(2 (dim - sqrt(dim)))`,
/// `phi = (dim - e^2 (dim - sqrt(dim)))^2 / dim^2`, score `(dim phi - 1) / (dim - 1)`. Since
/// `||s||^2 = dim`, `e^2 (dim - sqrt(dim)) = dim - sqrt(dim) sum(l) / ||l||`; `sum(l)` is the trace
/// and `||l||` the Frobenius norm of `C`, which leaves the form above and needs no eigenvectors.
///
/// `x` is row-major `[rows, dim]`, taken as it is (not normalised). NaN if all rows are equal: no
/// variance, no direction. Time `O(rows * dim^2)`, all in `f64`.
///
/// # Errors
/// As for [`average_cosine`], and [`MetricsError::Parameter`] for `dim` below 2.
///
/// Source: Rudman, Gillman, Rayne and Eickhoff 2022, arXiv 2108.07344.
///
/// ```
/// let even = metrics::iso_score(&[1.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, -1.0], 2)?;
/// assert!((even - 1.0).abs() < 1e-12);
/// let line = metrics::iso_score(&[1.0, 1.0, 2.0, 2.0, 5.0, 5.0], 2)?;
/// assert!(line.abs() < 1e-12);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn iso_score(x: &[f32], dim: usize) -> Result<f64, MetricsError> {
    let operation = "iso_score";
    let rows = at_least_two_rows(operation, x, dim)?;
    if dim < 2 {
        return Err(MetricsError::Parameter {
            operation,
            parameter: "dim",
            expected: "at least 2",
            found: dim.to_string(),
        });
    }
    let mut mean = vec![0.0; dim];
    for row in x.chunks_exact(dim) {
        for (mean, &value) in mean.iter_mut().zip(row) {
            *mean += f64::from(value);
        }
    }
    for mean in &mut mean {
        *mean /= rows as f64;
    }
    // Upper triangle of rows * C. The factor cancels.
    let mut covariance = vec![0.0; dim * dim];
    let mut columns = vec![0.0; dim * BLOCK];
    for block in x.chunks(BLOCK * dim) {
        let count = block.len() / dim;
        for (place, row) in block.chunks_exact(dim).enumerate() {
            for (column, (&value, mean)) in row.iter().zip(&mean).enumerate() {
                columns[column * BLOCK + place] = f64::from(value) - mean;
            }
        }
        let column = |index: usize| &columns[index * BLOCK..index * BLOCK + count];
        for i in 0..dim {
            for j in i..dim {
                covariance[i * dim + j] += dot(column(i), column(j));
            }
        }
    }
    let trace = compensated_sum((0..dim).map(|i| covariance[i * dim + i]));
    if trace == 0.0 {
        return Ok(f64::NAN);
    }
    // Scaled by the trace before squaring, so that neither tiny nor huge variances leave f64.
    let squares = compensated_sum((0..dim).flat_map(|i| {
        let covariance = &covariance;
        (i..dim).map(move |j| {
            let share = covariance[i * dim + j] / trace;
            let times = if i == j { 1.0 } else { 2.0 };
            times * share * share
        })
    }));
    Ok(((1.0 / squares - 1.0) / (dim - 1) as f64).clamp(0.0, 1.0))
}

fn at_least_two_rows(
    operation: &'static str,
    x: &[f32],
    dim: usize,
) -> Result<usize, MetricsError> {
    let rows = check_rows(operation, "x", x, dim)?;
    if rows < 2 {
        return Err(MetricsError::TooFew {
            operation,
            argument: "x",
            expected: 2,
            found: rows,
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn random(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..rows * dim)
            .map(|_| rng.random_range(-1.0..1.0))
            .collect()
    }

    /// The steps of the paper for two dimensions, with the eigenvalues of a 2 x 2 matrix.
    fn by_principal_components(x: &[f32]) -> f64 {
        let rows = (x.len() / 2) as f64;
        let side = |at: usize| -> Vec<f64> {
            let values: Vec<f64> = x.chunks(2).map(|row| f64::from(row[at])).collect();
            let mean = values.iter().sum::<f64>() / rows;
            values.iter().map(|value| value - mean).collect()
        };
        let (u, v) = (side(0), side(1));
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (a, b, c) = (product(&u, &u), product(&u, &v), product(&v, &v));
        let root = ((a - c).powi(2) + 4.0 * b * b).sqrt();
        let eigenvalues = [(a + c + root) / 2.0, (a + c - root) / 2.0];
        let dim = 2.0_f64;
        let norm = eigenvalues.iter().map(|l| l * l).sum::<f64>().sqrt();
        let distance = eigenvalues
            .iter()
            .map(|l| (dim.sqrt() * l / norm - 1.0).powi(2))
            .sum::<f64>()
            .sqrt();
        let defect = distance / (2.0 * (dim - dim.sqrt())).sqrt();
        let phi = (dim - defect.powi(2) * (dim - dim.sqrt())).powi(2) / (dim * dim);
        (dim * phi - 1.0) / (dim - 1.0)
    }

    #[test]
    fn worked_examples() {
        // Variances 8 and 2 along the axes: (10^2 / 68 - 1) / 1.
        let x = [2.0, 0.0, -2.0, 0.0, 0.0, 1.0, 0.0, -1.0];
        assert!((iso_score(&x, 2).unwrap() - (100.0 / 68.0 - 1.0)).abs() < 1e-14);
        // The position of the cloud does not matter.
        let moved: Vec<f32> = x.iter().map(|x| x + 100.0).collect();
        assert!((iso_score(&moved, 2).unwrap() - (100.0 / 68.0 - 1.0)).abs() < 1e-12);
        // One used dimension of three; then all rows equal.
        assert_eq!(iso_score(&[0.0, 1.0, 0.0, 0.0, 2.0, 0.0], 3).unwrap(), 0.0);
        assert!(iso_score(&[1.0, 2.0, 1.0, 2.0], 2).unwrap().is_nan());
        // Two rows one way, one the other: cosines 1, -1, -1.
        let value = average_cosine(&[1.0, 3.0, -5.0], 1).unwrap();
        assert!((value + 1.0 / 3.0).abs() < 1e-15);
        let value = average_cosine(&[0.5, 0.5, 2.0, 2.0], 2).unwrap();
        assert!((value - 1.0).abs() < 1e-15);
    }

    #[test]
    fn many_blocks_agree_with_the_plain_sum() {
        for (rows, dim) in [(BLOCK - 1, 3), (BLOCK, 4), (2 * BLOCK + 5, 9)] {
            let x = random(rows, dim, 7);
            let mean: Vec<f64> = (0..dim)
                .map(|j| x.chunks(dim).map(|row| f64::from(row[j])).sum::<f64>() / rows as f64)
                .collect();
            let (mut trace, mut squares) = (0.0, 0.0);
            for i in 0..dim {
                for j in 0..dim {
                    let entry: f64 = x
                        .chunks(dim)
                        .map(|row| (f64::from(row[i]) - mean[i]) * (f64::from(row[j]) - mean[j]))
                        .sum();
                    squares += entry * entry;
                    if i == j {
                        trace += entry;
                    }
                }
            }
            let expected = (trace * trace / squares - 1.0) / (dim - 1) as f64;
            let found = iso_score(&x, dim).unwrap();
            assert!(
                (found - expected).abs() < 1e-10,
                "{rows} {dim}: {found} {expected}"
            );
        }
    }

    #[test]
    fn hostile_input_is_an_error() {
        for measure in [average_cosine, iso_score] {
            assert!(matches!(measure(&[], 2), Err(MetricsError::Empty { .. })));
            assert!(matches!(
                measure(&[1.0, 2.0], 2),
                Err(MetricsError::TooFew { found: 1, .. })
            ));
            assert!(matches!(
                measure(&[1.0; 3], 2),
                Err(MetricsError::Shape { .. })
            ));
            assert!(matches!(
                measure(&[1.0, f32::NAN, 1.0, 1.0], 2),
                Err(MetricsError::NonFinite { index: 1, .. })
            ));
        }
        assert!(matches!(
            iso_score(&[1.0, 2.0], 1),
            Err(MetricsError::Parameter { .. })
        ));
        // Variances beyond f32 are no reason for infinities.
        let found = iso_score(&[f32::MAX, 0.0, -f32::MAX, 0.0, 0.0, 1e-30], 2).unwrap();
        assert!((0.0..1e-9).contains(&found));
    }

    proptest! {
        #[test]
        fn properties(x in proptest::collection::vec(-1.0_f32..1.0, 6..40), scale in 0.5_f32..20.0) {
            let x = &x[..x.len() / 2 * 2];
            let score = iso_score(x, 2).unwrap();
            prop_assume!(score.is_finite());
            prop_assert!((0.0..=1.0).contains(&score));
            prop_assert!((score - by_principal_components(x)).abs() < 1e-9);
            let turned: Vec<f32> = x.chunks(2).flat_map(|row| [-row[1] * scale, row[0] * scale]).collect();
            prop_assert!((iso_score(&turned, 2).unwrap() - score).abs() < 1e-3);

            let found = average_cosine(x, 2).unwrap();
            let rows: Vec<&[f32]> = x.chunks(2).collect();
            let (mut sum, mut pairs) = (0.0, 0.0);
            for i in 0..rows.len() {
                for j in i + 1..rows.len() {
                    let dot = |a: &[f32], b: &[f32]| f64::from(a[0]) * f64::from(b[0]) + f64::from(a[1]) * f64::from(b[1]);
                    let norms = dot(rows[i], rows[i]).sqrt() * dot(rows[j], rows[j]).sqrt();
                    sum += if norms > 0.0 { dot(rows[i], rows[j]) / norms } else { 0.0 };
                    pairs += 1.0;
                }
            }
            prop_assert!((found - sum / pairs).abs() < 1e-9);
        }
    }
}
