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
/// NaN if either side is constant, a single pair included. Time `O(pairs)` for values that spread over
/// their range, `O(pairs * log pairs)` at worst.
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
    let mean = x.len() as i64 + 1;
    let mut x_ranks = vec![0_i64; x.len()];
    let (mut product, mut x_squares, mut y_squares) = (0_i128, 0_i128, 0_i128);
    let mut buffers = Default::default();
    visit_ranks(x, &mut buffers, |place, rank| {
        let rank = rank - mean;
        x_ranks[place] = rank;
        x_squares += i128::from(rank) * i128::from(rank);
    });
    visit_ranks(y, &mut buffers, |place, rank| {
        let rank = rank - mean;
        product += i128::from(rank) * i128::from(x_ranks[place]);
        y_squares += i128::from(rank) * i128::from(rank);
    });
    // A constant side has only its mean rank: 0 / 0 is the documented NaN.
    let scale = (x_squares as f64 * y_squares as f64).sqrt();
    Ok((product as f64 / scale).clamp(-1.0, 1.0))
}

/// Ranks from 1 to `n` in ascending order of value; ties share the mean of the ranks they cover.
///
/// `values` and the result are `[n]`. `-0.0` and `0.0` are tied. Time as for
/// [`spearman`].
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
    let mut ranks = vec![0.0; values.len()];
    visit_ranks(values, &mut Default::default(), |place, rank| {
        ranks[place] = rank as f64 / 2.0
    });
    Ok(ranks)
}

/// From this many values on, counting digits is faster than comparing.
const RADIX_FROM: usize = 1000;
/// Bits of one digit of the radix sort.
const DIGIT: u32 = 11;
/// Digits that make up the sorted part of a key, 32 bits.
const DIGITS: usize = 3;

/// Calls `visit(place, rank)` for each place in `values`, in ascending order of value, with twice the
/// average rank: a tie over the ranks `first..=last` has `first + last`.
fn visit_ranks(values: &[f64], buffers: &mut [Vec<u64>; 2], visit: impl FnMut(usize, i64)) {
    if values.len() < RADIX_FROM || u32::try_from(values.len()).is_err() {
        visit_by_comparison(values, visit);
    } else {
        visit_by_radix(values, buffers, visit);
    }
}

/// Whole numbers in the order of the finite values; both zeros have the same.
fn key(value: f64) -> u64 {
    // Adding zero turns -0.0 into 0.0.
    let bits = (value + 0.0).to_bits();
    // Negative values in reverse order below, the others above.
    bits ^ ((bits as i64 >> 63) as u64 | 1 << 63)
}

fn visit_by_comparison(values: &[f64], mut visit: impl FnMut(usize, i64)) {
    let mut order: Vec<(u64, usize)> = values
        .iter()
        .enumerate()
        .map(|(place, &value)| (key(value), place))
        .collect();
    order.sort_unstable_by_key(|&(key, _)| key);
    visit_ties(&order, 0, &mut visit);
}

/// Visits `(key, place)` pairs sorted by key, `before` smaller ones not among them.
fn visit_ties(sorted: &[(u64, usize)], mut before: i64, visit: &mut impl FnMut(usize, i64)) {
    for tie in sorted.chunk_by(|a, b| a.0 == b.0) {
        let size = tie.len() as i64;
        for &(_, place) in tie {
            visit(place, 2 * before + size + 1);
        }
        before += size;
    }
}

/// Sorts by the 32 bits of the keys that follow their common beginning, least digit first; what these
/// bits leave undecided is compared. At most 2^32 values.
fn visit_by_radix(
    values: &[f64],
    [entries, sorted]: &mut [Vec<u64>; 2],
    mut visit: impl FnMut(usize, i64),
) {
    let first = values.first().map_or(0, |&value| key(value));
    let differing = values
        .iter()
        .fold(0, |bits, &value| bits | (key(value) ^ first));
    let shift = 32_u32.saturating_sub(differing.leading_zeros());
    let undecided = differing & ((1 << shift) - 1) != 0;

    let mut counts = [[0_u32; 1 << DIGIT]; DIGITS];
    // The part of the key in the upper half, the place in the lower half.
    entries.clear();
    entries.reserve_exact(values.len());
    for (place, &value) in values.iter().enumerate() {
        let part = (key(value) >> shift) << 32;
        for (digit, counts) in counts.iter_mut().enumerate() {
            counts[digit_of(part, digit)] += 1;
        }
        entries.push(part | place as u64);
    }
    sorted.resize(values.len(), 0);
    for (digit, counts) in counts.iter_mut().enumerate() {
        if counts.iter().any(|&count| count as usize == values.len()) {
            continue;
        }
        let mut start = 0;
        for count in counts.iter_mut() {
            start += std::mem::replace(count, start);
        }
        for &entry in entries.iter() {
            let next = &mut counts[digit_of(entry, digit)];
            sorted[*next as usize] = entry;
            *next += 1;
        }
        std::mem::swap(entries, sorted);
    }

    let mut before = 0_i64;
    let mut open: Vec<(u64, usize)> = Vec::new();
    for run in entries.chunk_by(|a, b| a >> 32 == b >> 32) {
        let size = run.len() as i64;
        let place = |entry: u64| entry as u32 as usize;
        // Reading the values back is a jump through memory each; most runs need none.
        let equal = |run: &[u64]| {
            let mut keys = run.iter().map(|&entry| key(values[place(entry)]));
            let first = keys.next();
            keys.all(|key| Some(key) == first)
        };
        if undecided && run.len() > 1 && !equal(run) {
            open.clear();
            open.extend(
                run.iter()
                    .map(|&entry| (key(values[place(entry)]), place(entry))),
            );
            open.sort_unstable_by_key(|&(key, _)| key);
            visit_ties(&open, before, &mut visit);
        } else {
            for &entry in run {
                visit(place(entry), 2 * before + size + 1);
            }
        }
        before += size;
    }
}

/// The digit of the upper half of an entry.
fn digit_of(entry: u64, digit: usize) -> usize {
    (entry >> (32 + DIGIT * digit as u32)) as usize & ((1 << DIGIT) - 1)
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

    fn visited(values: &[f64], by: impl Fn(&[f64], &mut dyn FnMut(usize, i64))) -> Vec<i64> {
        let (mut ranks, mut last) = (vec![0; values.len()], f64::NEG_INFINITY);
        by(values, &mut |place, rank| {
            assert_eq!(ranks[place], 0, "visited twice");
            assert!(values[place] >= last, "not in ascending order");
            (ranks[place], last) = (rank, values[place]);
        });
        ranks
    }

    /// Values that stress the radix sort: what differs lies anywhere in the 64 bits.
    fn hard_series() -> Vec<(&'static str, Vec<f64>)> {
        let n = 3 * RADIX_FROM;
        let series = |f: &dyn Fn(usize) -> f64| -> Vec<f64> {
            // Multiplication by a number coprime to n visits every row once.
            (0..n).map(|i| f(i * 1237 % n)).collect()
        };
        let half = n as f64 / 2.0;
        vec![
            ("whole numbers", series(&|i| (i % 7) as f64 - 3.0)),
            ("all bits", series(&|i| ((i as f64) - half) * 1.1e-3)),
            (
                "last bits",
                series(&|i| f64::from_bits(1.0_f64.to_bits() + i as u64 / 3)),
            ),
            ("subnormal", series(&|i| f64::from_bits(i as u64 / 2))),
            (
                "whole range",
                series(&|i| {
                    let size = 10.0_f64.powi((i % 600) as i32 - 300);
                    if i % 2 == 0 { size } else { -size }
                }),
            ),
            (
                "long ties of long fractions",
                series(&|i| (i % 5) as f64 / 7.0),
            ),
            (
                "both zeros",
                series(&|i| [-0.0, 0.0, 1e-300, -1e-300][i % 4]),
            ),
            ("one value", vec![f64::MIN; n]),
            (
                "one outlier",
                series(&|i| {
                    if i == 5 {
                        f64::MAX
                    } else {
                        1.0 + i as f64 * 1e-16
                    }
                }),
            ),
            (
                "single precision",
                series(&|i| f64::from((i as f32 * 0.37).sin())),
            ),
        ]
    }

    #[test]
    fn both_sorts_give_the_ranks_of_the_definition() {
        for (name, values) in hard_series() {
            let radix = visited(&values, |v, f| {
                visit_by_radix(v, &mut Default::default(), f)
            });
            let compared = visited(&values, |v, f| visit_by_comparison(v, f));
            let doubled: Vec<i64> = ranks_by_counting(&values)
                .iter()
                .map(|rank| (rank * 2.0) as i64)
                .collect();
            assert_eq!(radix, doubled, "{name}");
            assert_eq!(compared, doubled, "{name}");
        }
    }

    #[test]
    fn long_series_keep_the_properties_of_short_ones() {
        for (name, x) in hard_series() {
            for (_, y) in hard_series() {
                let rho = spearman(&x, &y).unwrap();
                if name == "one value" {
                    assert!(rho.is_nan());
                    continue;
                }
                assert_eq!(spearman(&y, &x).unwrap().to_bits(), rho.to_bits());
                let (bx, by): (Vec<f64>, Vec<f64>) = x.iter().zip(&y).rev().unzip();
                assert_eq!(spearman(&bx, &by).unwrap().to_bits(), rho.to_bits());
                let ranks = [&x, &y].map(|v| average_ranks(v).unwrap());
                let r = pearson(&ranks[0], &ranks[1]).unwrap();
                assert!(
                    r.is_nan() == rho.is_nan() && (r.is_nan() || (r - rho).abs() < 1e-12),
                    "{name}"
                );
            }
            if name != "one value" {
                assert_eq!(spearman(&x, &x).unwrap(), 1.0);
                let minus: Vec<f64> = x.iter().map(|x| -x).collect();
                assert_eq!(spearman(&x, &minus).unwrap(), -1.0);
            }
        }
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
        fn the_radix_sort_takes_any_bits(bits in proptest::collection::vec(any::<u64>(), 1..60), mask in any::<u64>()) {
            let values: Vec<f64> = bits
                .iter()
                .map(|bits| f64::from_bits(bits & mask))
                .filter(|value| value.is_finite())
                .collect();
            let ranks: Vec<f64> = visited(&values, |v, f| visit_by_radix(v, &mut Default::default(), f))
                .iter()
                .map(|&rank| rank as f64 / 2.0)
                .collect();
            prop_assert_eq!(ranks, ranks_by_counting(&values));
        }

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
