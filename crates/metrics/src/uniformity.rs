//! Uniformity of embeddings on the unit sphere.

use crate::compensated_sum::CompensatedSum;
use crate::error::MetricsError;
use crate::rows::{check_rows, dot, normalised_rows};

/// Rows per block: two blocks of 768-dimensional rows fill 400 KB, a usual second-level cache.
const BLOCK: usize = 32;

/// Uniformity with temperature 2.
///
/// `uniform(x) = log mean_{i<j} exp(-2 || n(x_i) - n(x_j) ||^2)`, with
/// `n(v) = v / max(||v||, 1e-12)`; in `[-8, 0]`, smaller is better, 0 if all rows agree in
/// direction.
///
/// `x` is row-major `[rows, dim]` and need not be normalised. The pairs are visited in blocks and
/// never stored: memory `O(rows * dim)`, time `O(rows^2 * dim)`, all in `f64`, in an order that
/// depends on the number of rows only.
///
/// # Errors
/// [`MetricsError::Empty`]; [`MetricsError::TooFew`] for a single row, which has no pair;
/// [`MetricsError::Shape`] if the length is no multiple of `dim`; [`MetricsError::Parameter`] for
/// `dim = 0`; [`MetricsError::NonFinite`].
///
/// Source: Wang and Isola 2020, arXiv 2005.10242.
///
/// ```
/// // Two opposite points: squared distance 4, exponent -8.
/// let value = metrics::uniformity(&[1.0, 0.0, -3.0, 0.0], 2)?;
/// assert!((value + 8.0).abs() < 1e-12);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn uniformity(x: &[f32], dim: usize) -> Result<f64, MetricsError> {
    uniformity_with(x, dim, 2.0)
}

/// [`uniformity`] with any temperature: `log mean_{i<j} exp(-t || n(x_i) - n(x_j) ||^2)`.
///
/// A log-sum-exp keeps the result finite where every single term would be 0 in `f64`.
///
/// # Errors
/// As for [`uniformity`], and [`MetricsError::Parameter`] unless `t` is finite, above 0 and at
/// most 1e300.
pub fn uniformity_with(x: &[f32], dim: usize, t: f64) -> Result<f64, MetricsError> {
    let operation = "uniformity";
    if !(t > 0.0 && t <= 1e300) {
        return Err(MetricsError::Parameter {
            operation,
            parameter: "t",
            expected: "a number above 0 and at most 1e300",
            found: t.to_string(),
        });
    }
    let rows = check_rows(operation, "x", x, dim)?;
    if rows < 2 {
        return Err(MetricsError::TooFew {
            operation,
            argument: "x",
            expected: 2,
            found: rows,
        });
    }
    let x = normalised_rows(x, dim);
    let squares: Vec<f64> = x.chunks_exact(dim).map(|row| dot(row, row)).collect();
    let row = |index: usize| &x[index * dim..(index + 1) * dim];

    let mut total = LogSumExp::default();
    let mut exponents = Vec::with_capacity(BLOCK * BLOCK);
    for i_block in (0..rows).step_by(BLOCK) {
        for j_block in (i_block..rows).step_by(BLOCK) {
            exponents.clear();
            for i in i_block..rows.min(i_block + BLOCK) {
                for j in j_block.max(i + 1)..rows.min(j_block + BLOCK) {
                    // Rounding can put the square of a zero distance below 0.
                    let squared = (squares[i] + squares[j] - 2.0 * dot(row(i), row(j))).max(0.0);
                    exponents.push(-t * squared);
                }
            }
            total.add(&exponents);
        }
    }
    let pairs = rows as f64 * (rows - 1) as f64 / 2.0;
    // Rounding of the logarithms can end a hair above 0.
    Ok((total.value() - pairs.ln()).min(0.0))
}

/// `log sum exp(e)` over blocks of exponents, with the largest one factored out.
struct LogSumExp {
    largest: f64,
    sum: CompensatedSum,
}

impl Default for LogSumExp {
    fn default() -> Self {
        Self {
            largest: f64::NEG_INFINITY,
            sum: CompensatedSum::default(),
        }
    }
}

impl LogSumExp {
    fn add(&mut self, exponents: &[f64]) {
        let largest = exponents.iter().copied().fold(self.largest, f64::max);
        if largest > self.largest {
            // exp(-inf) = 0 covers the first block.
            let carried = self.sum.value() * (self.largest - largest).exp();
            self.sum = CompensatedSum::default();
            self.sum.add(carried);
            self.largest = largest;
        }
        for exponent in exponents {
            self.sum.add((exponent - self.largest).exp());
        }
    }

    fn value(&self) -> f64 {
        self.largest + self.sum.value().ln()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// The formula as it stands, without blocks and without log-sum-exp.
    fn plain(x: &[f32], dim: usize, t: f64) -> f64 {
        let unit: Vec<Vec<f64>> = x
            .chunks(dim)
            .map(|row| {
                let norm = row
                    .iter()
                    .map(|&v| f64::from(v).powi(2))
                    .sum::<f64>()
                    .sqrt();
                row.iter()
                    .map(|&v| f64::from(v) / norm.max(1e-12))
                    .collect()
            })
            .collect();
        let (mut sum, mut pairs) = (0.0, 0.0);
        for i in 0..unit.len() {
            for j in i + 1..unit.len() {
                let squared: f64 = unit[i]
                    .iter()
                    .zip(&unit[j])
                    .map(|(a, b)| (a - b).powi(2))
                    .sum();
                sum += (-t * squared).exp();
                pairs += 1.0;
            }
        }
        (sum / pairs).ln()
    }

    fn random(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..rows * dim)
            .map(|_| rng.random_range(-1.0..1.0))
            .collect()
    }

    #[test]
    fn worked_example() {
        // East, north, west: squared distances 2, 4, 2: log((2 e^-4 + e^-8) / 3).
        let x = [1.0, 0.0, 0.0, 2.0, -3.0, 0.0];
        let expected = ((2.0 * (-4.0_f64).exp() + (-8.0_f64).exp()) / 3.0).ln();
        assert!((uniformity(&x, 2).unwrap() - expected).abs() < 1e-14);
        // A zero row is at squared distance 1 from a unit row.
        assert!((uniformity(&[1.0, 0.0, 0.0, 0.0], 2).unwrap() + 2.0).abs() < 1e-15);
    }

    #[test]
    fn block_borders_lose_no_pair() {
        for rows in [
            2,
            3,
            BLOCK - 1,
            BLOCK,
            BLOCK + 1,
            2 * BLOCK,
            2 * BLOCK + 1,
            100,
        ] {
            let x = random(rows, 5, rows as u64);
            let found = uniformity(&x, 5).unwrap();
            let expected = plain(&x, 5, 2.0);
            assert!(
                (found - expected).abs() < 1e-12,
                "{rows}: {found} {expected}"
            );
        }
        for dim in [1, 7, 8, 9, 16, 23] {
            let x = random(20, dim, dim as u64);
            assert!((uniformity(&x, dim).unwrap() - plain(&x, dim, 2.0)).abs() < 1e-12);
        }
    }

    #[test]
    fn temperatures_beyond_the_exponential_stay_finite() {
        // exp(-4e4) is 0 in f64; the logarithm of the mean is -4e4 all the same.
        let found = uniformity_with(&[1.0, 0.0, -1.0, 0.0], 2, 1e4).unwrap();
        assert_eq!(found, -4e4);
        // Three pairs, the nearest at 2t: -2t + log(2 / 3) up to terms below the last digit.
        let found = uniformity_with(&[1.0, 0.0, 0.0, 1.0, -1.0, 0.0], 2, 1e4).unwrap();
        assert!((found - (-2e4 + (2.0_f64 / 3.0).ln())).abs() < 1e-9);
        // A later block holds the largest exponent: 40 alternating poles, then two equal rows.
        let mut x: Vec<f32> = (0..40)
            .flat_map(|row| [(row as f32 + 1.0).cos(), (row as f32 + 1.0).sin()])
            .collect();
        x.extend([0.3, -0.4, 0.3, -0.4]);
        let found = uniformity_with(&x, 2, 1e4).unwrap();
        let pairs = 42.0 * 41.0 / 2.0;
        assert!(found >= -f64::ln(pairs) - 1e-9 && found < 0.0, "{found}");
        assert!((found - plain(&x, 2, 1e4)).abs() < 1e-9);
    }

    #[test]
    fn parallel_rows_are_never_below_distance_zero() {
        // Forty multiples of one row and forty rows far from everything. At this temperature a
        // squared distance of -1e-16 would add e^10 where 1 is the most that a pair can add.
        // Whole numbers, so that the multiples are exact and only the unit vectors are rounded.
        let base: Vec<f32> = random(1, 33, 1)
            .iter()
            .map(|value| (value * 50.0).round())
            .collect();
        let mut x: Vec<f32> = (1..=40_u8)
            .flat_map(|scale| {
                base.iter()
                    .map(move |value| value * f32::from(scale))
                    .collect::<Vec<_>>()
            })
            .collect();
        x.extend(random(40, 33, 3));
        let found = uniformity_with(&x, 33, 1e17).unwrap();
        let (near, all) = (40.0 * 39.0 / 2.0, 80.0 * 79.0 / 2.0);
        assert!(found <= f64::ln(near / all) + 1e-12, "{found}");
    }

    #[test]
    fn hostile_input_is_an_error() {
        assert!(matches!(
            uniformity(&[], 2),
            Err(MetricsError::Empty { .. })
        ));
        assert!(matches!(
            uniformity(&[1.0, 2.0], 2),
            Err(MetricsError::TooFew { found: 1, .. })
        ));
        assert!(matches!(
            uniformity(&[1.0; 3], 2),
            Err(MetricsError::Shape { .. })
        ));
        assert!(matches!(
            uniformity(&[1.0; 3], 0),
            Err(MetricsError::Parameter { .. })
        ));
        assert!(matches!(
            uniformity(&[1.0, f32::INFINITY], 1),
            Err(MetricsError::NonFinite { index: 1, .. })
        ));
        for t in [0.0, -2.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                uniformity_with(&[1.0, 2.0], 1, t),
                Err(MetricsError::Parameter { .. })
            ));
        }
    }

    proptest! {
        #[test]
        fn properties(x in proptest::collection::vec(-1.0_f32..1.0, 4..30), scale in 0.5_f32..20.0) {
            let x = &x[..x.len() / 2 * 2];
            let found = uniformity(x, 2).unwrap();
            prop_assert!((-8.0 - 1e-9..=1e-12).contains(&found));
            prop_assert!((found - plain(x, 2, 2.0)).abs() < 1e-12);
            let back: Vec<f32> = x.chunks(2).rev().flatten().copied().collect();
            prop_assert!((uniformity(&back, 2).unwrap() - found).abs() < 1e-12);
            let turned: Vec<f32> = x.chunks(2).flat_map(|row| [-row[1], row[0]]).collect();
            prop_assert!((uniformity(&turned, 2).unwrap() - found).abs() < 1e-12);
            let longer: Vec<f32> = x.iter().map(|x| x * scale).collect();
            prop_assert!((uniformity(&longer, 2).unwrap() - found).abs() < 1e-4);
            let same: Vec<f32> = x[..2].repeat(5);
            prop_assert!(uniformity(&same, 2).unwrap().abs() < 1e-12);
        }
    }
}
