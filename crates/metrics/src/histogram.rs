//! Counts of values between fixed edges.

use crate::error::{MetricsError, check_finite};

/// How many values fall between neighbouring edges.
///
/// With edges `e_0 < e_1 < ... < e_n`, bin `k` holds the values with `e_k <= x < e_{k+1}`; the last
/// bin also holds `e_n` itself, so that a cosine of 1 lands in the histogram of `[-1, 1]`. Fixed
/// edges make the histograms of several sets comparable bar by bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Edges, ascending, `[bins + 1]`.
    pub edges: Vec<f64>,
    /// Values of every bin, `[bins]`.
    pub counts: Vec<usize>,
    /// Values below the first edge.
    pub below: usize,
    /// Values above the last edge.
    pub above: usize,
}

impl Histogram {
    /// Counts `values` between `edges`.
    ///
    /// # Errors
    /// [`MetricsError::TooFew`] for fewer than two edges; [`MetricsError::Parameter`] if they do not
    /// ascend; [`MetricsError::NonFinite`] for a value or an edge that is NaN or infinite.
    ///
    /// ```
    /// let found = metrics::Histogram::of(&[-0.2, 0.0, 0.4, 0.5, 1.0], &[0.0, 0.5, 1.0])?;
    /// assert_eq!((found.counts, found.below), (vec![2, 2], 1));
    /// # Ok::<(), metrics::MetricsError>(())
    /// ```
    pub fn of(values: &[f64], edges: &[f64]) -> Result<Self, MetricsError> {
        let operation = "Histogram::of";
        if edges.len() < 2 {
            return Err(MetricsError::TooFew {
                operation,
                argument: "edges",
                expected: 2,
                found: edges.len(),
            });
        }
        check_finite(operation, "edges", edges)?;
        if let Some(pair) = edges.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(MetricsError::Parameter {
                operation,
                parameter: "edges",
                expected: "ascending numbers",
                found: format!("{} before {}", pair[0], pair[1]),
            });
        }
        check_finite(operation, "values", values)?;
        let mut found = Self {
            edges: edges.to_vec(),
            counts: vec![0; edges.len() - 1],
            below: 0,
            above: 0,
        };
        let last = edges.len() - 1;
        for value in values {
            // Edges that are not above the value; the last bin is closed.
            let passed = edges.partition_point(|edge| edge <= value);
            match passed {
                0 => found.below += 1,
                _ if passed <= last => found.counts[passed - 1] += 1,
                _ if *value == edges[last] => found.counts[last - 1] += 1,
                _ => found.above += 1,
            }
        }
        Ok(found)
    }

    /// The histogram of cosines over `[-1, 1]` in `bins` bins of equal width. Cosines may exceed the
    /// range by what rounding adds, at most `1e-6`; they count as 1 or -1.
    ///
    /// # Errors
    /// [`MetricsError::Parameter`] without bins or for a value that no cosine can have;
    /// [`MetricsError::NonFinite`].
    ///
    /// ```
    /// let found = metrics::Histogram::of_cosines(&[-1.0, 0.3, 0.9, 1.0], 4)?;
    /// assert_eq!(found.counts, [1, 0, 1, 2]);
    /// # Ok::<(), metrics::MetricsError>(())
    /// ```
    pub fn of_cosines(cosines: &[f64], bins: usize) -> Result<Self, MetricsError> {
        let operation = "Histogram::of_cosines";
        check_finite(operation, "cosines", cosines)?;
        if let Some(value) = cosines.iter().find(|value| value.abs() > 1.0 + 1e-6) {
            return Err(MetricsError::Parameter {
                operation,
                parameter: "cosines",
                expected: "numbers in -1..1",
                found: value.to_string(),
            });
        }
        let cosines: Vec<f64> = cosines.iter().map(|value| value.clamp(-1.0, 1.0)).collect();
        Self::of(&cosines, &equal_edges(-1.0, 1.0, bins)?)
    }

    /// Number of values, those outside of the edges included.
    pub fn total(&self) -> usize {
        self.counts.iter().sum::<usize>() + self.below + self.above
    }

    /// Share of all values in every bin, `[bins]`; NaN without values.
    pub fn shares(&self) -> Vec<f64> {
        let total = self.total() as f64;
        self.counts
            .iter()
            .map(|count| *count as f64 / total)
            .collect()
    }
}

/// Edges of `bins` bins of equal width from `low` to `high`, both exact, `[bins + 1]`.
///
/// # Errors
/// [`MetricsError::Parameter`] for `bins = 0`, or if `low` and `high` are not finite numbers with
/// `low < high`.
///
/// ```
/// assert_eq!(metrics::equal_edges(0.0, 1.0, 4)?, [0.0, 0.25, 0.5, 0.75, 1.0]);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn equal_edges(low: f64, high: f64, bins: usize) -> Result<Vec<f64>, MetricsError> {
    let operation = "equal_edges";
    let refuse = |parameter, expected, found| MetricsError::Parameter {
        operation,
        parameter,
        expected,
        found,
    };
    if bins == 0 {
        return Err(refuse("bins", "at least 1", bins.to_string()));
    }
    if !(low.is_finite() && high.is_finite() && low < high) {
        let found = format!("{low} and {high}");
        return Err(refuse(
            "low and high",
            "finite numbers, low below high",
            found,
        ));
    }
    let edges = (0..=bins).map(|k| {
        let share = k as f64 / bins as f64;
        // The weighted sum is exact at both ends and cannot overflow between them.
        low * (1.0 - share) + high * share
    });
    Ok(edges.collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bins_are_half_open_but_for_the_last() {
        let edges = [-1.0, 0.0, 2.0];
        let found = Histogram::of(&[-1.5, -1.0, -0.5, 0.0, 1.9, 2.0, 2.5, 9.0], &edges).unwrap();
        assert_eq!(found.counts, [2, 3]);
        assert_eq!((found.below, found.above, found.total()), (1, 2, 8));
        assert_eq!(found.shares(), [0.25, 0.375]);
        let none = Histogram::of(&[], &edges).unwrap();
        assert_eq!(none.total(), 0);
        assert!(none.shares().iter().all(|share| share.is_nan()));
    }

    #[test]
    fn rounded_cosines_count_as_the_ends() {
        let found = Histogram::of_cosines(&[1.0 + 5e-7, -1.0 - 5e-7, 0.0], 2).unwrap();
        assert_eq!((found.counts, found.below, found.above), (vec![1, 2], 0, 0));
        let error = Histogram::of_cosines(&[0.2, 1.1], 2)
            .unwrap_err()
            .to_string();
        assert!(error.contains("1.1") && error.contains("-1..1"), "{error}");
    }

    #[test]
    fn hostile_input_is_an_error() {
        for edges in [&[][..], &[0.0]] {
            assert!(matches!(
                Histogram::of(&[], edges),
                Err(MetricsError::TooFew { .. })
            ));
        }
        for edges in [[0.0, 0.0], [1.0, 0.0]] {
            assert!(matches!(
                Histogram::of(&[], &edges),
                Err(MetricsError::Parameter { .. })
            ));
        }
        for bad in [f64::NAN, f64::INFINITY] {
            assert!(matches!(
                Histogram::of(&[0.0, bad], &[0.0, 1.0]),
                Err(MetricsError::NonFinite { index: 1, .. })
            ));
            assert!(Histogram::of(&[], &[0.0, bad]).is_err());
            assert!(Histogram::of_cosines(&[bad], 4).is_err());
            assert!(equal_edges(0.0, bad, 3).is_err());
        }
        assert!(equal_edges(0.0, 1.0, 0).is_err());
        assert!(equal_edges(1.0, 1.0, 2).is_err());
        assert!(Histogram::of_cosines(&[0.0], 0).is_err());
    }

    /// One question per value and bin.
    fn plain(values: &[f64], edges: &[f64]) -> Vec<usize> {
        (0..edges.len() - 1)
            .map(|bin| {
                let last = bin + 2 == edges.len();
                values
                    .iter()
                    .filter(|value| **value >= edges[bin])
                    .filter(|value| **value < edges[bin + 1] || last && **value == edges[bin + 1])
                    .count()
            })
            .collect()
    }

    proptest! {
        #[test]
        fn counts_are_those_of_a_plain_loop(
            values in proptest::collection::vec(-12_i32..12, 0..60),
            edges in proptest::collection::btree_set(-10_i32..10, 2..9),
        ) {
            // Quarters, so that values meet edges.
            let values: Vec<f64> = values.into_iter().map(|x| f64::from(x) / 4.0).collect();
            let edges: Vec<f64> = edges.into_iter().map(|x| f64::from(x) / 4.0).collect();
            let found = Histogram::of(&values, &edges).unwrap();
            prop_assert_eq!(&found.counts, &plain(&values, &edges));
            prop_assert_eq!(found.total(), values.len());
            prop_assert_eq!(found.below, values.iter().filter(|x| **x < edges[0]).count());
        }

        #[test]
        fn edges_ascend_to_the_end(low in -1e3_f64..1e3, width in 1e-3_f64..1e3, bins in 1_usize..50) {
            let high = low + width;
            let edges = equal_edges(low, high, bins).unwrap();
            prop_assert_eq!(edges.len(), bins + 1);
            prop_assert_eq!((edges[0], edges[bins]), (low, high));
            prop_assert!(edges.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
