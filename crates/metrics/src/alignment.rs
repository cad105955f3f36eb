//! Alignment of positive pairs on the unit sphere.

use crate::compensated_sum::compensated_sum;
use crate::error::{MetricsError, check_pair};
use crate::rows::{check_rows, normalised_rows};

/// Alignment with exponent 2: the mean squared distance of positive pairs.
///
/// `align(x, y) = mean_i || n(x_i) - n(y_i) ||^2 = mean_i (2 - 2 cos(x_i, y_i))`, in `[0, 4]`, with
/// `n(v) = v / max(||v||, 1e-12)`; smaller is better.
///
/// `x` and `y` are row-major `[pairs, dim]`; row `i` of one is a positive of row `i` of the other.
/// They need not be normalised. A zero row stays zero, at distance 1 from every unit vector. All
/// arithmetic is `f64`.
///
/// # Errors
/// [`MetricsError::Empty`], [`MetricsError::LengthMismatch`], [`MetricsError::Shape`] if the length
/// is no multiple of `dim`, [`MetricsError::Parameter`] for `dim = 0`,
/// [`MetricsError::NonFinite`].
///
/// Source: Wang and Isola 2020, arXiv 2005.10242.
///
/// ```
/// // The same direction, and a right angle: (0 + 2) / 2.
/// let value = metrics::alignment(&[1.0, 0.0, 1.0, 0.0], &[5.0, 0.0, 0.0, 3.0], 2)?;
/// assert_eq!(value, 1.0);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn alignment(x: &[f32], y: &[f32], dim: usize) -> Result<f64, MetricsError> {
    alignment_with(x, y, dim, 2.0)
}

/// [`alignment`] with any exponent: `mean_i || n(x_i) - n(y_i) ||^alpha`.
///
/// # Errors
/// As for [`alignment`], and [`MetricsError::Parameter`] unless `alpha` is finite and above 0.
pub fn alignment_with(x: &[f32], y: &[f32], dim: usize, alpha: f64) -> Result<f64, MetricsError> {
    let operation = "alignment";
    if !(alpha > 0.0 && alpha.is_finite()) {
        return Err(MetricsError::Parameter {
            operation,
            parameter: "alpha",
            expected: "a finite number above 0",
            found: alpha.to_string(),
        });
    }
    check_pair(operation, ("x", x.len()), ("y", y.len()))?;
    let pairs = check_rows(operation, "x", x, dim)?;
    check_rows(operation, "y", y, dim)?;
    let x = normalised_rows(x, dim);
    let y = normalised_rows(y, dim);
    let distances = x.chunks_exact(dim).zip(y.chunks_exact(dim)).map(|(x, y)| {
        let squared: f64 = x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum();
        if alpha == 2.0 {
            squared
        } else {
            squared.powf(alpha / 2.0)
        }
    });
    Ok(compensated_sum(distances) / pairs as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn worked_example() {
        // cos = 0.6 (3-4-5), -1, and a zero row: 2 - 1.2 = 0.8, 4, 1; mean 5.8 / 3.
        let x = [1.0, 0.0, 0.0, 2.0, 0.0, 0.0];
        let y = [3.0, 4.0, 0.0, -7.0, 1.0, 0.0];
        assert!((alignment(&x, &y, 2).unwrap() - 5.8 / 3.0).abs() < 1e-15);
        // alpha 1: sqrt(0.8) + 2 + 1.
        let found = alignment_with(&x, &y, 2, 1.0).unwrap();
        assert!((found - (0.8_f64.sqrt() + 3.0) / 3.0).abs() < 1e-15);
    }

    #[test]
    fn hostile_input_is_an_error() {
        assert!(matches!(
            alignment(&[], &[], 2),
            Err(MetricsError::Empty { .. })
        ));
        assert!(matches!(
            alignment(&[1.0, 2.0], &[1.0], 1),
            Err(MetricsError::LengthMismatch { .. })
        ));
        assert!(matches!(
            alignment(&[1.0], &[1.0], 2),
            Err(MetricsError::Shape { .. })
        ));
        assert!(matches!(
            alignment(&[1.0], &[1.0], 0),
            Err(MetricsError::Parameter { .. })
        ));
        assert!(matches!(
            alignment(&[1.0], &[f32::NAN], 1),
            Err(MetricsError::NonFinite { argument: "y", .. })
        ));
        for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                alignment_with(&[1.0], &[1.0], 1, alpha),
                Err(MetricsError::Parameter { .. })
            ));
        }
    }

    proptest! {
        #[test]
        fn properties(values in proptest::collection::vec((0.1_f32..1.0, -1.0_f32..1.0), 12), scale in 0.1_f32..50.0) {
            let (x, y): (Vec<f32>, Vec<f32>) = values.into_iter().unzip();
            let found = alignment(&x, &y, 3).unwrap();
            prop_assert!((0.0..=4.0 + 1e-12).contains(&found));
            prop_assert_eq!(found.to_bits(), alignment(&y, &x, 3).unwrap().to_bits());
            prop_assert_eq!(alignment(&x, &x, 3).unwrap(), 0.0);
            let longer: Vec<f32> = x.iter().map(|x| x * scale).collect();
            prop_assert!((alignment(&longer, &y, 3).unwrap() - found).abs() < 1e-5);

            let cosines: f64 = x
                .chunks(3)
                .zip(y.chunks(3))
                .map(|(x, y)| {
                    let dot = |a: &[f32], b: &[f32]| -> f64 {
                        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
                    };
                    dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
                })
                .sum();
            prop_assert!((found - (2.0 - 2.0 * cosines / 4.0)).abs() < 1e-9);
        }
    }
}
