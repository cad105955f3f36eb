//! Sparse contingency table of two partitions.

use std::collections::BTreeMap;

use crate::error::{MetricsError, check_pair};

/// How often each pair of ids occurs together.
///
/// With cluster ids `a_i` and label ids `b_j`: `cell(a_i, b_j)` is the number of rows in cluster
/// `a_i` with label `b_j`. Only cells above zero are stored, so two partitions into singletons
/// need `n` cells, not `n * n`.
///
/// ```
/// use metrics::Contingency;
///
/// let table = Contingency::new(&[0, 0, 1], &['x', 'y', 'y'])?;
/// assert_eq!(table.cell(0, 'y'), 1);
/// assert_eq!(table.labels()[&'y'], 2);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contingency<A, B> {
    cells: BTreeMap<(A, B), usize>,
    clusters: BTreeMap<A, usize>,
    labels: BTreeMap<B, usize>,
    rows: usize,
}

impl<A: Ord + Copy, B: Ord + Copy> Contingency<A, B> {
    /// Counts the pairs of `clusters[row]`, `labels[row]`, both `[rows]`.
    ///
    /// # Errors
    /// [`MetricsError::LengthMismatch`] and [`MetricsError::Empty`].
    pub fn new(clusters: &[A], labels: &[B]) -> Result<Self, MetricsError> {
        check_pair(
            "contingency table",
            ("clusters", clusters.len()),
            ("labels", labels.len()),
        )?;
        let mut cells: BTreeMap<(A, B), usize> = BTreeMap::new();
        for (&cluster, &label) in clusters.iter().zip(labels) {
            *cells.entry((cluster, label)).or_default() += 1;
        }
        let mut cluster_sizes: BTreeMap<A, usize> = BTreeMap::new();
        let mut label_sizes: BTreeMap<B, usize> = BTreeMap::new();
        for (&(cluster, label), &count) in &cells {
            *cluster_sizes.entry(cluster).or_default() += count;
            *label_sizes.entry(label).or_default() += count;
        }
        Ok(Self {
            cells,
            clusters: cluster_sizes,
            labels: label_sizes,
            rows: clusters.len(),
        })
    }

    /// Rows with this cluster and this label; 0 for ids that never occur.
    pub fn cell(&self, cluster: A, label: B) -> usize {
        self.cells.get(&(cluster, label)).copied().unwrap_or(0)
    }

    /// The cells above zero, in ascending order of (cluster, label).
    pub fn cells(&self) -> &BTreeMap<(A, B), usize> {
        &self.cells
    }

    /// Rows per cluster.
    pub fn clusters(&self) -> &BTreeMap<A, usize> {
        &self.clusters
    }

    /// Rows per label.
    pub fn labels(&self) -> &BTreeMap<B, usize> {
        &self.labels
    }

    /// Number of rows counted; at least 1.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether both sides group the rows in the same way, whatever the ids.
    pub fn is_same_partition(&self) -> bool {
        // Every cluster and every label owns at least one cell, so equal counts mean one each.
        self.cells.len() == self.clusters.len() && self.cells.len() == self.labels.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn counts_by_hand() {
        let table = Contingency::new(&[5, 5, 9, 9, 9], &["a", "b", "b", "b", "c"]).unwrap();
        assert_eq!(table.rows(), 5);
        assert_eq!(table.cells().len(), 4);
        assert_eq!(table.cell(9, "b"), 2);
        assert_eq!(table.cell(9, "a"), 0);
        assert_eq!(table.cell(1, "zzz"), 0);
        assert_eq!(table.clusters(), &BTreeMap::from([(5, 2), (9, 3)]));
        assert_eq!(
            table.labels(),
            &BTreeMap::from([("a", 1), ("b", 3), ("c", 1)])
        );
        assert!(!table.is_same_partition());
    }

    #[test]
    fn same_partition_ignores_ids() {
        let same = |a: &[u8], b: &[i64]| Contingency::new(a, b).unwrap().is_same_partition();
        assert!(same(&[0, 1, 0], &[-7, 4, -7]));
        assert!(same(&[3], &[0]));
        // One side merges, the other splits: as many cells as ids on one side only.
        assert!(!same(&[0, 0, 1], &[0, 1, 1]));
        assert!(!same(&[0, 0], &[0, 1]));
        assert!(!same(&[0, 1], &[0, 0]));
    }

    #[test]
    fn rejects_empty_and_unequal() {
        let none: [u8; 0] = [];
        assert!(matches!(
            Contingency::new(&none, &none),
            Err(MetricsError::Empty { .. })
        ));
        assert!(matches!(
            Contingency::new(&[1u8], &none),
            Err(MetricsError::LengthMismatch {
                left_len: 1,
                right_len: 0,
                ..
            })
        ));
    }
}
