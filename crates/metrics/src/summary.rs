//! Mean, spread and order statistics of a few runs.

use crate::compensated_sum::compensated_sum;
use crate::error::MetricsError;

/// What a result table prints about the values of several seeds, or a timer about several steps.
///
/// A NaN among the values makes every field but `n` NaN: a failed run must stay visible. With an
/// infinity `min`, `median` and `max` are right and `mean` and `std` are what floating-point
/// arithmetic gives (infinite or NaN).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Number of values; at least 1.
    pub n: usize,
    /// `sum x / n`.
    pub mean: f64,
    /// Sample standard deviation, `sqrt(sum (x - mean)^2 / (n - 1))`; 0 for a single value.
    pub std: f64,
    /// Smallest value.
    pub min: f64,
    /// Middle value; the mean of the two middle ones for even `n`.
    pub median: f64,
    /// Largest value.
    pub max: f64,
}

impl Summary {
    /// Summarises `values`, in any order: the result has the same bits for every order.
    ///
    /// # Errors
    /// [`MetricsError::Empty`].
    ///
    /// ```
    /// let summary = metrics::Summary::of(&[1.0, 2.0, 6.0])?;
    /// assert_eq!((summary.mean, summary.std, summary.median), (3.0, 7.0_f64.sqrt(), 2.0));
    /// # Ok::<(), metrics::MetricsError>(())
    /// ```
    pub fn of(values: &[f64]) -> Result<Self, MetricsError> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len();
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else {
            return Err(MetricsError::Empty {
                operation: "Summary::of",
                argument: "values",
            });
        };
        if values.iter().any(|value| value.is_nan()) {
            let nan = f64::NAN;
            return Ok(Self {
                n,
                mean: nan,
                std: nan,
                min: nan,
                median: nan,
                max: nan,
            });
        }
        let median = if n % 2 == 1 {
            sorted[n / 2]
        } else {
            // Halved before the addition, which could overflow.
            sorted[n / 2 - 1] / 2.0 + sorted[n / 2] / 2.0
        };
        if min.is_infinite() || max.is_infinite() {
            let mean = sorted.iter().sum::<f64>() / n as f64;
            let std = if n == 1 { 0.0 } else { f64::NAN };
            return Ok(Self {
                n,
                mean,
                std,
                min,
                median,
                max,
            });
        }
        // Deviations from the first value: equal values give that value and a spread of exactly 0.
        let offset = compensated_sum(sorted.iter().map(|value| (value - min) / n as f64));
        let mean = (min + offset).clamp(min, max);
        let std = if n == 1 {
            0.0
        } else {
            let squares = compensated_sum(sorted.iter().map(|value| (value - mean).powi(2)));
            (squares / (n - 1) as f64).sqrt()
        };
        Ok(Self {
            n,
            mean,
            std,
            min,
            median,
            max,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn worked_example() {
        // Mean 5, deviations -3 -1 -1 -1 0 0 2 4: squares 9+1+1+1+0+0+4+16 = 32, / 7.
        let summary = Summary::of(&[9.0, 2.0, 5.0, 4.0, 4.0, 4.0, 7.0, 5.0]).unwrap();
        assert_eq!(summary.n, 8);
        assert_eq!(summary.mean, 5.0);
        assert!((summary.std - (32.0_f64 / 7.0).sqrt()).abs() < 1e-15);
        assert_eq!((summary.min, summary.median, summary.max), (2.0, 4.5, 9.0));
    }

    #[test]
    fn single_and_equal_values_have_no_spread() {
        let one = Summary::of(&[0.3]).unwrap();
        assert_eq!(
            one,
            Summary {
                n: 1,
                mean: 0.3,
                std: 0.0,
                min: 0.3,
                median: 0.3,
                max: 0.3
            }
        );
        let same = Summary::of(&[0.1; 7]).unwrap();
        assert_eq!((same.mean, same.std), (0.1, 0.0));
    }

    #[test]
    fn bad_runs_stay_visible() {
        let summary = Summary::of(&[1.0, f64::NAN, 3.0]).unwrap();
        assert_eq!(summary.n, 3);
        for value in [
            summary.mean,
            summary.std,
            summary.min,
            summary.median,
            summary.max,
        ] {
            assert!(value.is_nan());
        }
        let summary = Summary::of(&[1.0, f64::INFINITY, 3.0]).unwrap();
        assert_eq!(
            (summary.mean, summary.max, summary.median),
            (f64::INFINITY, f64::INFINITY, 3.0)
        );
        assert!(summary.std.is_nan());
        assert_eq!(
            Summary::of(&[f64::NEG_INFINITY]).unwrap().mean,
            f64::NEG_INFINITY
        );
        assert!(matches!(Summary::of(&[]), Err(MetricsError::Empty { .. })));
    }

    #[test]
    fn a_large_offset_costs_no_digits() {
        // 1e9 + {0, 1, 2}: variance 1; the one-pass formula would lose it in 1e18.
        let summary = Summary::of(&[1e9, 1e9 + 1.0, 1e9 + 2.0]).unwrap();
        assert_eq!((summary.mean, summary.std), (1e9 + 1.0, 1.0));
    }

    proptest! {
        #[test]
        fn properties(values in proptest::collection::vec(-1e3_f64..1e3, 1..30), shift in -1e3_f64..1e3) {
            let summary = Summary::of(&values).unwrap();
            prop_assert!(summary.min <= summary.median && summary.median <= summary.max);
            prop_assert!(summary.min <= summary.mean && summary.mean <= summary.max);
            prop_assert!(summary.std >= 0.0 && summary.std <= summary.max - summary.min + 1e-9);
            let back: Vec<f64> = values.iter().rev().copied().collect();
            prop_assert_eq!(summary, Summary::of(&back).unwrap());

            let naive = values.iter().sum::<f64>() / values.len() as f64;
            prop_assert!((summary.mean - naive).abs() < 1e-9);
            let moved: Vec<f64> = values.iter().map(|value| -2.0 * value + shift).collect();
            let moved = Summary::of(&moved).unwrap();
            prop_assert!((moved.mean - (-2.0 * summary.mean + shift)).abs() < 1e-9);
            prop_assert!((moved.std - 2.0 * summary.std).abs() < 1e-9);
            prop_assert!((moved.median - (-2.0 * summary.median + shift)).abs() < 1e-9);
        }
    }
}
