//! Pearson and Spearman correlation.

use crate::compensated_sum::compensated_sum;
use crate::error::{MetricsError, check_finite, check_pair};

/// Pearson's product-moment correlation.
///
/// `r = sum_i (x_i - mean x)(y_i - mean y) / sqrt(sum_i (x_i - mean x)^2 * sum_i (y_i - mean y)^2)`
///
/// `x` and `y` are `[pairs]`; the result lies in `[-1, 1]`. Both sides are scaled by a power of two
/// and centred before anything is squared, so neither the unit nor a large offset overflows.
///
/// The result is NaN if either side is constant, a single pair included: there is no correlation
/// to speak of, and a 0 would read as a bad score. Time `O(pairs)`.
///
/// # Errors
/// [`MetricsError::Empty`], [`MetricsError::LengthMismatch`], [`MetricsError::NonFinite`].
///
/// ```
/// let r = metrics::pearson(&[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0])?;
/// assert!((r - 0.5).abs() < 1e-12);
/// assert!(metrics::pearson(&[1.0, 1.0], &[0.0, 5.0])?.is_nan());
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn pearson(x: &[f64], y: &[f64]) -> Result<f64, MetricsError> {
    check_series("pearson", x, y)?;
    let (Some(x), Some(y)) = (centred(x), centred(y)) else {
        return Ok(f64::NAN);
    };
    let product = compensated_sum(x.iter().zip(&y).map(|(x, y)| x * y));
    let x_squares = compensated_sum(x.iter().map(|x| x * x));
    let y_squares = compensated_sum(y.iter().map(|y| y * y));
    Ok((product / (x_squares.sqrt() * y_squares.sqrt())).clamp(-1.0, 1.0))
}

/// Spearman's rank correlation: [`pearson`] of the [`average_ranks`].
///
/// Tied values share the mean of the ranks they cover. Ranks are handled as whole numbers of
/// halves, so all sums are exact: the result has the same bits for any row order, swapped
/// arguments, and any strictly increasing map of either side; it is exactly 1 or -1 for equal or
/// reversed orders.
///
/// NaN if either side is constant, a single pair included. Time `O(pairs * log pairs)`.
///
/// # Errors
/// [`MetricsError::Empty`], [`MetricsError::LengthMismatch`], [`MetricsError::NonFinite`].
///
/// ```
/// // Any increasing map leaves the ranks alone.
/// let rho = metrics::spearman(&[0.1, 0.5, 0.9, 3.0], &[1.0, 10.0, 100.0, 1e9])?;
/// assert_eq!(rho, 1.0);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn spearman(x: &[f64], y: &[f64]) -> Result<f64, MetricsError> {
    check_series("spearman", x, y)?;
    // Ranks run from 1 to n, so doubled ranks have the whole number n + 1 as their mean.
    let mean = x.len() as i128 + 1;
    let centre = |ranks: Vec<u64>| -> Vec<i128> {
        ranks
            .into_iter()
            .map(|rank| i128::from(rank) - mean)
            .collect()
    };
    let x = centre(doubled_ranks(x));
    let y = centre(doubled_ranks(y));
    let product: i128 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
    let x_squares: i128 = x.iter().map(|x| x * x).sum();
    let y_squares: i128 = y.iter().map(|y| y * y).sum();
    // A constant side has only its mean rank: 0 / 0 is the documented NaN.
    let scale = (x_squares as f64 * y_squares as f64).sqrt();
    Ok((product as f64 / scale).clamp(-1.0, 1.0))
}

/// Ranks from 1 to `n` in ascending order of value; ties share the mean of the ranks they cover.
///
/// `values` and the result are `[n]`. `-0.0` and `0.0` are tied. Time `O(n log n)`.
///
/// # Errors
/// [`MetricsError::Empty`] and [`MetricsError::NonFinite`].
///
/// ```
/// assert_eq!(metrics::average_ranks(&[20.0, 10.0, 20.0, 30.0])?, [2.5, 1.0, 2.5, 4.0]);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn average_ranks(values: &[f64]) -> Result<Vec<f64>, MetricsError> {
    let operation = "average_ranks";
    if values.is_empty() {
        return Err(MetricsError::Empty {
            operation,
            argument: "values",
        });
    }
    check_finite(operation, "values", values)?;
    Ok(doubled_ranks(values)
        .into_iter()
        .map(|rank| rank as f64 / 2.0)
        .collect())
}

/// Twice the average rank of each value: a tie over ranks `first..=last` has `first + last`.
fn doubled_ranks(values: &[f64]) -> Vec<u64> {
    let mut order: Vec<(f64, usize)> = values
        .iter()
        .enumerate()
        .map(|(place, &value)| (value, place))
        .collect();
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut ranks = vec![0; values.len()];
    let mut before = 0_u64;
    for tie in order.chunk_by(|a, b| a.0 == b.0) {
        let size = tie.len() as u64;
        for &(_, place) in tie {
            ranks[place] = 2 * before + size + 1;
        }
        before += size;
    }
    ranks
}

/// Scales by a power of two to a largest magnitude in `[1, 2)` and subtracts the mean.
/// `None` for a constant series.
fn centred(values: &[f64]) -> Option<Vec<f64>> {
    let first = values.first()?;
    if values.iter().all(|value| value == first) {
        return None;
    }
    let largest = values
        .iter()
        .fold(0.0_f64, |most, value| most.max(value.abs()));
    // Two factors: one alone could leave the exponent range.
    let exponent = largest.log2().floor() as i32;
    let (half, rest) = (-exponent / 2, -exponent - -exponent / 2);
    let (half, rest) = (2.0_f64.powi(half), 2.0_f64.powi(rest));
    let mut scaled: Vec<f64> = values.iter().map(|value| value * half * rest).collect();
    let n = values.len() as f64;
    // The second pass removes what the rounded mean of the first one left over.
    for _ in 0..2 {
        let mean = compensated_sum(scaled.iter().copied()) / n;
        for value in &mut scaled {
            *value -= mean;
        }
    }
    Some(scaled)
}

fn check_series(operation: &'static str, x: &[f64], y: &[f64]) -> Result<(), MetricsError> {
    check_pair(operation, ("x", x.len()), ("y", y.len()))?;
    check_finite(operation, "x", x)?;
    check_finite(operation, "y", y)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;
    use crate::summary::Summary;

    /// Ranks from their definition: the number of smaller values plus half the ties around it.
    fn ranks_by_counting(values: &[f64]) -> Vec<f64> {
        values
            .iter()
            .map(|value| {
                let below = values.iter().filter(|&other| other < value).count() as f64;
                let equal = values.iter().filter(|&other| other == value).count() as f64;
                below + (equal + 1.0) / 2.0
            })
            .collect()
    }

    /// Pearson from the raw moments, one pass and no care.
    fn pearson_by_moments(x: &[f64], y: &[f64]) -> f64 {
        let n = x.len() as f64;
        let sum = |f: &dyn Fn(usize) -> f64| (0..x.len()).map(f).sum::<f64>();
        let (sx, sy) = (sum(&|i| x[i]), sum(&|i| y[i]));
        let (sxx, syy) = (sum(&|i| x[i] * x[i]), sum(&|i| y[i] * y[i]));
        let sxy = sum(&|i| x[i] * y[i]);
        (n * sxy - sx * sy) / ((n * sxx - sx * sx) * (n * syy - sy * sy)).sqrt()
    }

    #[test]
    fn worked_example() {
        // x 1 2 3 4 5, centred -2 -1 0 1 2; y 2 1 4 3 5, mean 3, centred -1 -2 1 0 2.
        // Products 2 + 2 + 0 + 0 + 4 = 8; squares 10 and 10; r = 0.8. y is its own rank list.
        let (x, y) = ([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0]);
        assert!((pearson(&x, &y).unwrap() - 0.8).abs() < 1e-15);
        assert!((spearman(&x, &y).unwrap() - 0.8).abs() < 1e-15);
    }

    #[test]
    fn ties_share_their_mean_rank() {
        // Sorted: 1 2 2 2 9 -> ranks 1, (2+3+4)/3 = 3 three times, 5.
        assert_eq!(
            average_ranks(&[2.0, 9.0, 2.0, 1.0, 2.0]).unwrap(),
            [3.0, 5.0, 3.0, 1.0, 3.0]
        );
        assert_eq!(average_ranks(&[-0.0, 0.0]).unwrap(), [1.5, 1.5]);
        // x ranks 1.5 1.5 3 (centred -.5 -.5 1), y ranks 1 2 3 (centred -1 0 1):
        // (0.5 + 0 + 1) / sqrt(1.5 * 2) = sqrt(3) / 2.
        let rho = spearman(&[4.0, 4.0, 7.0], &[1.0, 2.0, 3.0]).unwrap();
        assert!((rho - 0.75_f64.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn constant_sides_are_nan() {
        for f in [pearson, spearman] {
            assert!(f(&[0.1; 3], &[1.0, 2.0, 3.0]).unwrap().is_nan());
            assert!(f(&[1.0, 2.0, 3.0], &[0.1; 3]).unwrap().is_nan());
            assert!(f(&[1.0], &[2.0]).unwrap().is_nan());
            assert!(f(&[0.0, -0.0], &[2.0, 3.0]).unwrap().is_nan());
        }
    }

    #[test]
    fn extreme_units_change_nothing() {
        let (x, y) = ([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0]);
        // 3e-323 keeps the whole numbers 6, 12, 18, 24 and 30 of the smallest subnormal.
        for unit in [1e-300, 1e300, 3e307, 3e-323] {
            let scaled: Vec<f64> = x.iter().map(|x| x * unit).collect();
            let r = pearson(&scaled, &y).unwrap();
            assert!((r - 0.8).abs() < 1e-14, "{unit}: {r}");
        }
        // Opposite ends of the range: differences alone would overflow.
        let r = pearson(&[f64::MAX, -f64::MAX, 0.0], &[1.0, -1.0, 0.0]).unwrap();
        assert!((r - 1.0).abs() < 1e-15);
        // Values one step of the last place apart: the mean itself must be rounded.
        let pair = pearson(&[1.0, 1.0 + f64::EPSILON], &[0.0, 1.0]).unwrap();
        assert!((pair - 1.0).abs() < 1e-15, "{pair}");
        let fine = [1e9, 1e9 + 2.0_f64.powi(-23), 1e9 + 2.0_f64.powi(-22)];
        assert!((pearson(&fine, &[0.0, 1.0, 2.0]).unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_million_pairs_keep_their_digits() {
        // y = 3 x - 1 on an offset grid, with every tenth pair swapped in sign around the mean;
        // the exact value follows from whole-number sums: with c = x - mean,
        // r = (S - 2 T) / S, T the sum of c^2 over the flipped rows.
        let n = 1_000_000_i64;
        let c = |row: i64| 2 * row - (n - 1);
        let flip = |row: i64| row % 10 == 0;
        let x: Vec<f64> = (0..n).map(|row| 1e6 + c(row) as f64 / 2.0).collect();
        let y: Vec<f64> = (0..n)
            .map(|row| 3.0 * (if flip(row) { -c(row) } else { c(row) }) as f64 - 1.0)
            .collect();
        let squares = |rows: &dyn Fn(i64) -> bool| -> i128 {
            (0..n)
                .filter(|&row| rows(row))
                .map(|row| i128::from(c(row)).pow(2))
                .sum()
        };
        let (all, flipped) = (squares(&|_| true), squares(&flip));
        // The flipped rows shift the mean of y as well.
        let product = all - 2 * flipped;
        let shift: i128 = (0..n)
            .filter(|&row| flip(row))
            .map(|row| -2 * i128::from(c(row)))
            .sum();
        let y_spread = all as f64 - (shift as f64).powi(2) / n as f64;
        let expected = product as f64 / ((all as f64).sqrt() * y_spread.sqrt());
        let found = pearson(&x, &y).unwrap();
        assert!((found - expected).abs() < 1e-14, "{found} {expected}");
        assert_eq!(spearman(&x, &x).unwrap(), 1.0);
    }

    #[test]
    fn hostile_input_is_an_error() {
        for f in [pearson, spearman] {
            assert!(matches!(f(&[], &[]), Err(MetricsError::Empty { .. })));
            assert!(matches!(
                f(&[1.0], &[]),
                Err(MetricsError::LengthMismatch { .. })
            ));
            assert!(matches!(
                f(&[1.0, f64::NAN], &[1.0, 2.0]),
                Err(MetricsError::NonFinite {
                    argument: "x",
                    index: 1,
                    ..
                })
            ));
            assert!(matches!(
                f(&[1.0, 2.0], &[f64::INFINITY, 2.0]),
                Err(MetricsError::NonFinite {
                    argument: "y",
                    index: 0,
                    ..
                })
            ));
        }
        assert!(matches!(
            average_ranks(&[]),
            Err(MetricsError::Empty { .. })
        ));
        assert!(matches!(
            average_ranks(&[f64::NAN]),
            Err(MetricsError::NonFinite { .. })
        ));
    }

    fn pairs() -> impl Strategy<Value = Vec<(f64, f64)>> {
        // Whole numbers make ties frequent; the second form makes them rare.
        let tied = (-4_i8..4, -4_i8..4).prop_map(|(x, y)| (f64::from(x), f64::from(y)));
        prop_oneof![
            proptest::collection::vec(tied, 1..40),
            proptest::collection::vec((-1.0_f64..1.0, -1.0_f64..1.0), 1..40),
        ]
    }

    proptest! {
        #[test]
        fn equals_the_definition(pairs in pairs()) {
            let (x, y): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let (rx, ry) = (ranks_by_counting(&x), ranks_by_counting(&y));
            prop_assert_eq!(&average_ranks(&x).unwrap(), &rx);
            let (r, rho) = (pearson(&x, &y).unwrap(), spearman(&x, &y).unwrap());
            prop_assert_eq!(r.is_nan(), rho.is_nan());
            if !rho.is_nan() {
                prop_assert!((rho - pearson_by_moments(&rx, &ry)).abs() < 1e-12);
                prop_assert!((rho - pearson(&rx, &ry).unwrap()).abs() < 1e-12);
                // The one-pass form needs a spread that is not tiny against the values.
                let spread = Summary::of(&x).unwrap().std.min(Summary::of(&y).unwrap().std);
                if spread > 1e-2 {
                    prop_assert!((r - pearson_by_moments(&x, &y)).abs() < 1e-9);
                }
            }
        }

        #[test]
        fn properties(pairs in pairs(), scale in 0.01_f64..100.0, shift in -100.0_f64..100.0) {
            let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
            let (r, rho) = (pearson(&x, &y).unwrap(), spearman(&x, &y).unwrap());
            prop_assume!(!rho.is_nan());
            prop_assert!(r.abs() <= 1.0 && rho.abs() <= 1.0);
            prop_assert!((pearson(&y, &x).unwrap() - r).abs() < 1e-15);
            prop_assert_eq!(spearman(&y, &x).unwrap().to_bits(), rho.to_bits());
            prop_assert_eq!(spearman(&x, &x).unwrap(), 1.0);

            let (bx, by): (Vec<f64>, Vec<f64>) = pairs.iter().rev().copied().unzip();
            prop_assert_eq!(spearman(&bx, &by).unwrap().to_bits(), rho.to_bits());
            prop_assert!((pearson(&bx, &by).unwrap() - r).abs() < 1e-12);

            let minus: Vec<f64> = x.iter().map(|x| -x).collect();
            prop_assert_eq!(spearman(&minus, &y).unwrap(), -rho);
            prop_assert_eq!(spearman(&minus, &x).unwrap(), -1.0);
            let spread = Summary::of(&x).unwrap().std;
            prop_assume!(spread > 1e-3);
            let moved: Vec<f64> = x.iter().map(|x| scale * x + shift).collect();
            prop_assert!((pearson(&moved, &y).unwrap() - r).abs() < 1e-8);
        }
    }
}
