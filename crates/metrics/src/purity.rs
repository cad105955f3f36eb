//! Cluster purity.

use std::collections::BTreeMap;

use crate::contingency::Contingency;
use crate::error::MetricsError;

/// Purity: the share of rows that carry the most frequent label of their cluster.
///
/// `purity = sum_i max_j n_ij / n`, in `(0, 1]`. Several clusters may share a majority label, so
/// purity is never below clustering accuracy, reaches 1 for all singletons, and is not symmetric:
/// `purity(labels, clusters)` is the inverse purity.
///
/// # Errors
/// [`MetricsError::Empty`] and [`MetricsError::LengthMismatch`].
///
/// ```
/// let purity = metrics::purity(&[0, 0, 0, 1], &["a", "a", "b", "a"])?;
/// assert_eq!(purity, 0.75);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn purity<A: Ord + Copy, B: Ord + Copy>(
    clusters: &[A],
    labels: &[B],
) -> Result<f64, MetricsError> {
    Ok(purity_of(&Contingency::new(clusters, labels)?))
}

/// [`purity`] of a table that has already been counted.
pub fn purity_of<A: Ord + Copy, B: Ord + Copy>(table: &Contingency<A, B>) -> f64 {
    let mut largest: BTreeMap<A, usize> = BTreeMap::new();
    for (&(cluster, _), &count) in table.cells() {
        let best = largest.entry(cluster).or_default();
        *best = (*best).max(count);
    }
    largest.values().sum::<usize>() as f64 / table.rows() as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;
    use crate::accuracy::clustering_accuracy;

    #[test]
    fn worked_example() {
        // Cluster 0: a a b (2 of 3), cluster 1: a c (1 of 2), cluster 2: c (1 of 1): 4 of 6.
        let clusters = [0, 0, 0, 1, 1, 2];
        let labels = ['a', 'a', 'b', 'a', 'c', 'c'];
        assert_eq!(purity(&clusters, &labels).unwrap(), 4.0 / 6.0);
        // Inverse: a: 0 0 1 (2 of 3), b: 0 (1), c: 1 2 (1): 4 of 6 as well; singletons differ.
        assert_eq!(purity(&[0, 1, 2], &['a', 'a', 'a']).unwrap(), 1.0);
        assert_eq!(purity(&['a', 'a', 'a'], &[0, 1, 2]).unwrap(), 1.0 / 3.0);
    }

    #[test]
    fn rejects_empty_and_unequal() {
        let none: [u8; 0] = [];
        assert!(matches!(
            purity(&none, &none),
            Err(MetricsError::Empty { .. })
        ));
        assert!(matches!(
            purity(&[0], &none),
            Err(MetricsError::LengthMismatch { .. })
        ));
    }

    proptest! {
        #[test]
        fn properties(rows in proptest::collection::vec((0_u8..6, 0_u8..6), 1..60)) {
            let (clusters, labels): (Vec<u8>, Vec<u8>) = rows.iter().copied().unzip();
            let found = purity(&clusters, &labels).unwrap();
            prop_assert!(found <= 1.0);
            prop_assert!(found >= clustering_accuracy(&clusters, &labels).unwrap().accuracy);
            let both = found == 1.0 && purity(&labels, &clusters).unwrap() == 1.0;
            prop_assert_eq!(both, Contingency::new(&clusters, &labels).unwrap().is_same_partition());
            // Splitting a cluster by an arbitrary second key never lowers purity.
            let split: Vec<(u8, usize)> =
                clusters.iter().enumerate().map(|(row, &id)| (id, row % 2)).collect();
            prop_assert!(purity(&split, &labels).unwrap() >= found);
        }
    }
}
