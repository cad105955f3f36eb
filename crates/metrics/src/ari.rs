//! Adjusted Rand index.

use crate::contingency::Contingency;
use crate::error::MetricsError;

/// Adjusted Rand index (ARI, Hubert and Arabie 1985).
///
/// Over the `n (n - 1) / 2` pairs of rows let `tp` be the pairs together on both sides, `fp` those
/// together in `clusters` only, `fn` those together in `labels` only, `tn` the rest. Then
///
/// `ARI = 2 (tp * tn - fn * fp) / ((tp + fn)(fn + tn) + (tp + fp)(fp + tn))`
///
/// 1 for equal partitions, 0 on average for independent ones, down to -0.5. The counts and both
/// products are exact integers, so the result does not depend on row order or on the ids, and
/// swapping the arguments does not change it.
///
/// Degenerate cases, as scikit-learn has them: equal partitions give 1 (one cluster on both sides,
/// all singletons on both sides, a single row); one cluster or all singletons on one side only
/// gives 0.
///
/// # Errors
/// [`MetricsError::Empty`], [`MetricsError::LengthMismatch`], and [`MetricsError::TooLarge`] beyond
/// `2^32 - 1` rows, where the products would no longer fit 127 bits.
///
/// ```
/// let ari = metrics::adjusted_rand_index(&[0, 0, 1, 2], &[0, 0, 1, 1])?;
/// assert!((ari - 4.0 / 7.0).abs() < 1e-12);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn adjusted_rand_index<A: Ord + Copy, B: Ord + Copy>(
    clusters: &[A],
    labels: &[B],
) -> Result<f64, MetricsError> {
    adjusted_rand_index_of(&Contingency::new(clusters, labels)?)
}

/// [`adjusted_rand_index`] of a table that has already been counted.
///
/// # Errors
/// [`MetricsError::TooLarge`] as for [`adjusted_rand_index`].
pub fn adjusted_rand_index_of<A: Ord + Copy, B: Ord + Copy>(
    table: &Contingency<A, B>,
) -> Result<f64, MetricsError> {
    let rows = table.rows() as u128;
    let limit = u128::from(u32::MAX);
    if rows > limit {
        return Err(MetricsError::TooLarge {
            operation: "adjusted_rand_index",
            quantity: "number of rows",
            found: rows,
            limit,
        });
    }
    let pairs = |size: usize| {
        let size = size as i128;
        size * (size - 1) / 2
    };
    let both: i128 = table.cells().values().map(|&size| pairs(size)).sum();
    let in_clusters: i128 = table.clusters().values().map(|&size| pairs(size)).sum();
    let in_labels: i128 = table.labels().values().map(|&size| pairs(size)).sum();
    let only_clusters = in_clusters - both;
    let only_labels = in_labels - both;
    let neither = pairs(table.rows()) - both - only_clusters - only_labels;
    if only_clusters == 0 && only_labels == 0 {
        return Ok(1.0);
    }
    // With only_labels > 0 the first product is at least only_labels squared, and likewise the
    // second, so the divisor is above zero.
    let agreement = both * neither - only_labels * only_clusters;
    let spread = (both + only_labels) * (only_labels + neither)
        + (both + only_clusters) * (only_clusters + neither);
    Ok(2.0 * agreement as f64 / spread as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    /// Second implementation: looks at every pair of rows and uses the textbook form
    /// (index - expected index) / (maximal index - expected index).
    fn by_pairs(clusters: &[u8], labels: &[u8]) -> f64 {
        let (mut both, mut a, mut b, mut all) = (0.0, 0.0, 0.0, 0.0);
        for i in 0..clusters.len() {
            for j in 0..i {
                let (c, l) = (clusters[i] == clusters[j], labels[i] == labels[j]);
                all += 1.0;
                both += f64::from(u8::from(c && l));
                a += f64::from(u8::from(c));
                b += f64::from(u8::from(l));
            }
        }
        if both == a && both == b {
            return 1.0;
        }
        let expected = a * b / all;
        (both - expected) / ((a + b) / 2.0 - expected)
    }

    #[test]
    fn worked_example() {
        // clusters {1,2,3} {4,5,6}, labels {1,2} {3,4} {5,6}: cells 2, 1, 1, 2.
        // tp = 1 + 1 = 2; pairs in clusters 3 + 3 = 6, in labels 1 + 1 + 1 = 3, of 15.
        // fp = 4, fn = 1, tn = 15 - 2 - 4 - 1 = 8.
        // 2 (2*8 - 1*4) / (3*9 + 6*12) = 24 / 99.
        let ari = adjusted_rand_index(&[0, 0, 0, 1, 1, 1], &[0, 0, 1, 1, 2, 2]).unwrap();
        assert_eq!(ari, 24.0 / 99.0);
    }

    #[test]
    fn crossed_halves_reach_the_lower_bound() {
        // Four rows, cut once each way: tp = 0, fp = fn = 2, tn = 2.
        // 2 (0 - 4) / (2*4 + 2*4) = -0.5.
        assert_eq!(
            adjusted_rand_index(&[0, 0, 1, 1], &[0, 1, 0, 1]).unwrap(),
            -0.5
        );
    }

    #[test]
    fn large_counts_stay_exact() {
        // 2^20 rows in two halves against quarters: the products need more than 64 bits.
        // tp = 4 C(q,2), in clusters 2 C(2q,2), in labels 4 C(q,2), q = 2^18: fn = 0.
        let n = 1_u32 << 20;
        let halves: Vec<u32> = (0..n).map(|row| row / (n / 2)).collect();
        let quarters: Vec<u32> = (0..n).map(|row| row / (n / 4)).collect();
        let c2 = |m: f64| m * (m - 1.0) / 2.0;
        let (m, q) = (f64::from(n), f64::from(n / 4));
        let (tp, fp) = (4.0 * c2(q), 2.0 * c2(2.0 * q) - 4.0 * c2(q));
        let tn = c2(m) - tp - fp;
        let expected = 2.0 * tp * tn / (tp * tn + (tp + fp) * (fp + tn));
        let found = adjusted_rand_index(&halves, &quarters).unwrap();
        assert!((found - expected).abs() < 1e-14, "{found} {expected}");
    }

    #[test]
    fn rejects_empty_and_unequal() {
        let none: [u8; 0] = [];
        assert!(matches!(
            adjusted_rand_index(&none, &none),
            Err(MetricsError::Empty { .. })
        ));
        assert!(matches!(
            adjusted_rand_index(&[0, 1], &[0]),
            Err(MetricsError::LengthMismatch { .. })
        ));
    }

    proptest! {
        #[test]
        fn equals_the_pairwise_definition(rows in proptest::collection::vec((0_u8..5, 0_u8..5), 1..40)) {
            let (clusters, labels): (Vec<u8>, Vec<u8>) = rows.into_iter().unzip();
            let found = adjusted_rand_index(&clusters, &labels).unwrap();
            prop_assert!((found - by_pairs(&clusters, &labels)).abs() < 1e-12);
        }

        #[test]
        fn properties(rows in proptest::collection::vec((0_u8..6, 0_u8..6), 1..60)) {
            let (clusters, labels): (Vec<u8>, Vec<u8>) = rows.iter().copied().unzip();
            let ari = adjusted_rand_index(&clusters, &labels).unwrap();
            prop_assert!((-0.5..=1.0).contains(&ari));
            prop_assert_eq!(ari.to_bits(), adjusted_rand_index(&labels, &clusters).unwrap().to_bits());

            let renamed: Vec<i32> = clusters.iter().map(|&id| 7 - 3 * i32::from(id)).collect();
            prop_assert_eq!(ari.to_bits(), adjusted_rand_index(&renamed, &labels).unwrap().to_bits());

            let (back_c, back_l): (Vec<u8>, Vec<u8>) = rows.iter().rev().copied().unzip();
            prop_assert_eq!(ari.to_bits(), adjusted_rand_index(&back_c, &back_l).unwrap().to_bits());

            let same = Contingency::new(&clusters, &labels).unwrap().is_same_partition();
            prop_assert_eq!(ari == 1.0, same);
        }
    }
}
