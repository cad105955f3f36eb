//! Clustering accuracy: the best one-to-one naming of clusters.

use std::collections::BTreeMap;

use crate::assignment::max_assignment;
use crate::contingency::Contingency;
use crate::error::{MetricsError, check_pair};

/// Largest dense block, in cells, that [`clustering_accuracy`] hands to the assignment solver
/// (1 GiB of counts).
const MAX_CELLS: u128 = 1 << 27;

/// The result of [`clustering_accuracy`].
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterAccuracy<A, B> {
    /// `matched / rows`, in `(0, 1]`.
    pub accuracy: f64,
    /// Rows whose label is the one that their cluster was matched with.
    pub matched: usize,
    /// The matching: `min(clusters, labels)` pairs, each cluster and each label at most once.
    /// It may hold pairs that share no row: see [`clustering_accuracy`].
    pub mapping: BTreeMap<A, B>,
}

/// The result of [`accuracy_with_mapping`].
#[derive(Debug, Clone, PartialEq)]
pub struct MappedAccuracy {
    /// `matched / rows`, in `[0, 1]`.
    pub accuracy: f64,
    /// Rows whose mapped cluster equals their label.
    pub matched: usize,
    /// Rows whose cluster has no entry in the mapping; they count as wrong.
    pub unmapped: usize,
}

/// Clustering accuracy (ACC).
///
/// `ACC = max over one-to-one matchings pi of sum_i |{rows in cluster i with label pi(i)}| / n`
///
/// `clusters` and `labels` are `[rows]`, of any id types; the numbers of distinct ids may differ,
/// and the surplus on the longer side stays unmatched. Unlike purity this measure does not reward
/// splitting: each label can be won by one cluster only.
///
/// The mapping depends on the counts and the order of the ids, never on the order of the rows.
/// Clusters and labels left without a common row are paired in ascending order, so that the
/// mapping is as large as the smaller side; such pairs add nothing to `matched`.
///
/// Time `O(n log m)` for the counts (`m` distinct pairs) plus `O(r^2 * c)` for the matching of each
/// connected part of the table, `r <= c` its numbers of clusters and labels.
///
/// # Errors
/// [`MetricsError::Empty`], [`MetricsError::LengthMismatch`], and [`MetricsError::TooLarge`] if a
/// connected part of the table has more than `2^27` cells.
///
/// Source: the evaluation of the DOWN and STAR code releases (Hungarian matching of a square
/// contingency table); the rectangular form gives the same optimum.
///
/// ```
/// let fit = metrics::clustering_accuracy(&[0, 0, 1, 1, 2], &["b", "b", "a", "a", "a"])?;
/// assert_eq!(fit.accuracy, 0.8);
/// assert_eq!(fit.mapping.get(&2), None);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn clustering_accuracy<A: Ord + Copy, B: Ord + Copy>(
    clusters: &[A],
    labels: &[B],
) -> Result<ClusterAccuracy<A, B>, MetricsError> {
    clustering_accuracy_of(&Contingency::new(clusters, labels)?)
}

/// [`clustering_accuracy`] of a table that has already been counted.
///
/// # Errors
/// [`MetricsError::TooLarge`] as for [`clustering_accuracy`].
pub fn clustering_accuracy_of<A: Ord + Copy, B: Ord + Copy>(
    table: &Contingency<A, B>,
) -> Result<ClusterAccuracy<A, B>, MetricsError> {
    let mut matched = 0;
    let mut mapping = BTreeMap::new();
    for part in connected_parts(table) {
        let cells = part.clusters.len() as u128 * part.labels.len() as u128;
        if cells > MAX_CELLS {
            return Err(MetricsError::TooLarge {
                operation: "clustering_accuracy",
                quantity: "number of cells of a connected part of the contingency table",
                found: cells,
                limit: MAX_CELLS,
            });
        }
        let mut counts = Vec::with_capacity(part.clusters.len() * part.labels.len());
        for &cluster in &part.clusters {
            // A slice holds at most isize::MAX ids, so every count fits an i64.
            counts.extend(
                part.labels
                    .iter()
                    .map(|&label| table.cell(cluster, label) as i64),
            );
        }
        let best = max_assignment(&counts, part.clusters.len(), part.labels.len())?;
        for (&cluster, column) in part.clusters.iter().zip(best.column_of_row) {
            let Some(&label) = column.and_then(|column| part.labels.get(column)) else {
                continue;
            };
            let shared = table.cell(cluster, label);
            if shared > 0 {
                matched += shared;
                mapping.insert(cluster, label);
            }
        }
    }

    let mut free_labels = table.labels().clone();
    for label in mapping.values() {
        free_labels.remove(label);
    }
    let free_clusters: Vec<A> = table
        .clusters()
        .keys()
        .filter(|cluster| !mapping.contains_key(cluster))
        .copied()
        .collect();
    mapping.extend(free_clusters.into_iter().zip(free_labels.into_keys()));

    Ok(ClusterAccuracy {
        accuracy: matched as f64 / table.rows() as f64,
        matched,
        mapping,
    })
}

/// Accuracy under a mapping that was fitted elsewhere.
///
/// Fit the mapping on labelled training rows with [`clustering_accuracy`], then score rows that
/// took no part in the fit: the number a deployed classifier would reach, since no test label
/// chooses the names.
///
/// # Errors
/// [`MetricsError::Empty`] and [`MetricsError::LengthMismatch`].
///
/// ```
/// let fit = metrics::clustering_accuracy(&[0, 0, 1], &["a", "a", "b"])?;
/// let test = metrics::accuracy_with_mapping(&fit.mapping, &[0, 1, 1, 9], &["a", "a", "b", "b"])?;
/// assert_eq!((test.matched, test.unmapped, test.accuracy), (2, 1, 0.5));
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn accuracy_with_mapping<A: Ord + Copy, B: Ord + Copy>(
    mapping: &BTreeMap<A, B>,
    clusters: &[A],
    labels: &[B],
) -> Result<MappedAccuracy, MetricsError> {
    check_pair(
        "accuracy_with_mapping",
        ("clusters", clusters.len()),
        ("labels", labels.len()),
    )?;
    let mut matched = 0;
    let mut unmapped = 0;
    for (cluster, label) in clusters.iter().zip(labels) {
        match mapping.get(cluster) {
            Some(mapped) if mapped == label => matched += 1,
            Some(_) => {}
            None => unmapped += 1,
        }
    }
    Ok(MappedAccuracy {
        accuracy: matched as f64 / clusters.len() as f64,
        matched,
        unmapped,
    })
}

/// Clusters and labels that are linked, directly or through others, by common rows.
struct Part<A, B> {
    clusters: Vec<A>,
    labels: Vec<B>,
}

/// Splits the table so that no cell above zero lies between two parts.
///
/// The best matching never gains from a pair across parts, so each can be solved alone. Two fine
/// partitions then cost the sum of many small problems instead of one that is `n * n`.
fn connected_parts<A: Ord + Copy, B: Ord + Copy>(table: &Contingency<A, B>) -> Vec<Part<A, B>> {
    fn root(parent: &mut [usize], mut node: usize) -> usize {
        while parent[node] != node {
            parent[node] = parent[parent[node]];
            node = parent[node];
        }
        node
    }
    let clusters: BTreeMap<A, usize> = table.clusters().keys().copied().zip(0..).collect();
    let labels: BTreeMap<B, usize> = table
        .labels()
        .keys()
        .copied()
        .zip(clusters.len()..)
        .collect();
    let mut parent: Vec<usize> = (0..clusters.len() + labels.len()).collect();
    for (cluster, label) in table.cells().keys() {
        let (a, b) = (
            root(&mut parent, clusters[cluster]),
            root(&mut parent, labels[label]),
        );
        // The smaller node stays the root, so parts come out in the order of their first cluster.
        parent[a.max(b)] = a.min(b);
    }
    let mut parts: BTreeMap<usize, Part<A, B>> = BTreeMap::new();
    let empty = || Part {
        clusters: Vec::new(),
        labels: Vec::new(),
    };
    for (&cluster, &node) in &clusters {
        parts
            .entry(root(&mut parent, node))
            .or_insert_with(empty)
            .clusters
            .push(cluster);
    }
    for (&label, &node) in &labels {
        parts
            .entry(root(&mut parent, node))
            .or_insert_with(empty)
            .labels
            .push(label);
    }
    parts.into_values().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    /// Slow second implementation: tries every injective naming of the smaller side.
    fn brute_force(clusters: &[u8], labels: &[u8]) -> usize {
        fn search(
            names: &[u8],
            others: &[u8],
            used: u32,
            count: &dyn Fn(u8, u8) -> usize,
        ) -> usize {
            let Some((&name, rest)) = names.split_first() else {
                return 0;
            };
            others
                .iter()
                .enumerate()
                .filter(|(bit, _)| used & (1 << bit) == 0)
                .map(|(bit, &other)| {
                    count(name, other) + search(rest, others, used | (1 << bit), count)
                })
                .max()
                .unwrap()
        }
        let distinct = |ids: &[u8]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let pairs = |c: u8, l: u8| {
            clusters
                .iter()
                .zip(labels)
                .filter(|&(&a, &b)| a == c && b == l)
                .count()
        };
        let (cs, ls) = (distinct(clusters), distinct(labels));
        if cs.len() <= ls.len() {
            search(&cs, &ls, 0, &pairs)
        } else {
            search(&ls, &cs, 0, &|l, c| pairs(c, l))
        }
    }

    /// Largest cell first, its row and column struck out: a lower bound.
    fn greedy(clusters: &[u8], labels: &[u8]) -> usize {
        let table = Contingency::new(clusters, labels).unwrap();
        let mut cells: Vec<_> = table
            .cells()
            .iter()
            .map(|(&pair, &count)| (count, pair))
            .collect();
        cells.sort_unstable_by(|a, b| b.cmp(a));
        let (mut rows, mut columns, mut total) = (vec![], vec![], 0);
        for (count, (row, column)) in cells {
            if !rows.contains(&row) && !columns.contains(&column) {
                rows.push(row);
                columns.push(column);
                total += count;
            }
        }
        total
    }

    #[test]
    fn worked_example() {
        // clusters x labels:   a  b
        //                  0   3  2
        //                  1   3  0
        // 0->a, 1->b: 3 + 0 = 3;  0->b, 1->a: 2 + 3 = 5 of 8 rows.
        let clusters = [0, 0, 0, 0, 0, 1, 1, 1];
        let labels = ["a", "a", "a", "b", "b", "a", "a", "a"];
        let fit = clustering_accuracy(&clusters, &labels).unwrap();
        assert_eq!(fit.matched, 5);
        assert_eq!(fit.accuracy, 0.625);
        assert_eq!(fit.mapping, BTreeMap::from([(0, "b"), (1, "a")]));
    }

    #[test]
    fn surplus_clusters_stay_unmatched() {
        let fit = clustering_accuracy(&[10, 20, 20, 30], &[1, 1, 1, 1]).unwrap();
        assert_eq!((fit.matched, fit.accuracy), (2, 0.5));
        assert_eq!(fit.mapping, BTreeMap::from([(20, 1)]));
    }

    #[test]
    fn leftovers_pair_in_ascending_order() {
        // Both clusters hold label 1 only; label 0 and 2 share cluster 7.
        // Table: 5: {1: 2}, 6: {1: 1}, 7: {0: 1, 2: 2}. Best: 5->1, 7->2; left: cluster 6, label 0.
        let fit = clustering_accuracy(&[5, 5, 6, 7, 7, 7], &[1, 1, 1, 0, 2, 2]).unwrap();
        assert_eq!(fit.mapping, BTreeMap::from([(5, 1), (6, 0), (7, 2)]));
        assert_eq!(fit.matched, 4);
    }

    #[test]
    fn many_singletons_need_no_square_table() {
        // 40 000 x 40 000 cells would be 12.8 GB; as parts they are 40 000 single cells.
        let clusters: Vec<u32> = (0..40_000).collect();
        let labels: Vec<i64> = (0..40_000).map(|row| -row).collect();
        let fit = clustering_accuracy(&clusters, &labels).unwrap();
        assert_eq!(fit.accuracy, 1.0);
        assert_eq!(fit.mapping.len(), 40_000);
    }

    #[test]
    fn a_giant_connected_table_is_refused() {
        // A chain links 12 000 clusters with 12 001 labels: 144 012 000 cells in one part.
        let clusters: Vec<u32> = (0..24_000).map(|row| row / 2).collect();
        let labels: Vec<u32> = (0..24_000_u32).map(|row| row.div_ceil(2)).collect();
        let error = clustering_accuracy(&clusters, &labels).unwrap_err();
        assert!(
            matches!(
                error,
                MetricsError::TooLarge {
                    found: 144_012_000,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn mapping_is_scored_on_other_rows() {
        let mapping = BTreeMap::from([(0, 'x'), (1, 'y')]);
        let score = accuracy_with_mapping(&mapping, &[0, 0, 1, 2], &['x', 'y', 'y', 'x']).unwrap();
        assert_eq!(
            score,
            MappedAccuracy {
                accuracy: 0.5,
                matched: 2,
                unmapped: 1
            }
        );
        let score = accuracy_with_mapping(&BTreeMap::new(), &[0], &['x']).unwrap();
        assert_eq!(
            score,
            MappedAccuracy {
                accuracy: 0.0,
                matched: 0,
                unmapped: 1
            }
        );
    }

    #[test]
    fn rejects_empty_and_unequal() {
        let none: [u8; 0] = [];
        let mapping: BTreeMap<u8, u8> = BTreeMap::new();
        assert!(matches!(
            clustering_accuracy(&none, &none),
            Err(MetricsError::Empty { .. })
        ));
        assert!(matches!(
            clustering_accuracy(&[1], &none),
            Err(MetricsError::LengthMismatch { .. })
        ));
        assert!(matches!(
            accuracy_with_mapping(&mapping, &none, &none),
            Err(MetricsError::Empty { .. })
        ));
        assert!(matches!(
            accuracy_with_mapping(&mapping, &none, &[1]),
            Err(MetricsError::LengthMismatch { .. })
        ));
    }

    fn partitions(rows: usize) -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        (1..=rows, 1_u8..7, 1_u8..7).prop_flat_map(|(rows, clusters, labels)| {
            (
                proptest::collection::vec(0..clusters, rows),
                proptest::collection::vec(0..labels, rows),
            )
        })
    }

    proptest! {
        #[test]
        fn equals_brute_force((clusters, labels) in partitions(30)) {
            let fit = clustering_accuracy(&clusters, &labels).unwrap();
            prop_assert_eq!(fit.matched, brute_force(&clusters, &labels));
        }

        #[test]
        fn invariants((clusters, labels) in partitions(60)) {
            let table = Contingency::new(&clusters, &labels).unwrap();
            let fit = clustering_accuracy_of(&table).unwrap();
            prop_assert_eq!(&fit, &clustering_accuracy(&clusters, &labels).unwrap());
            prop_assert!(fit.accuracy > 0.0 && fit.accuracy <= 1.0);
            prop_assert!(fit.matched >= greedy(&clusters, &labels));
            prop_assert_eq!(fit.accuracy == 1.0, table.is_same_partition());

            // The mapping is one-to-one, complete on the smaller side, and earns what is claimed.
            prop_assert_eq!(fit.mapping.len(), table.clusters().len().min(table.labels().len()));
            let mut images: Vec<u8> = fit.mapping.values().copied().collect();
            images.sort_unstable();
            images.dedup();
            prop_assert_eq!(images.len(), fit.mapping.len());
            let replay = accuracy_with_mapping(&fit.mapping, &clusters, &labels).unwrap();
            prop_assert_eq!(replay.matched, fit.matched);
            prop_assert_eq!(replay.accuracy, fit.accuracy);
        }

        #[test]
        fn symmetric_and_blind_to_names_and_order((clusters, labels) in partitions(60)) {
            let fit = clustering_accuracy(&clusters, &labels).unwrap();
            prop_assert_eq!(fit.matched, clustering_accuracy(&labels, &clusters).unwrap().matched);

            let renamed: Vec<i64> = clusters.iter().map(|&id| 1000 - 13 * i64::from(id)).collect();
            prop_assert_eq!(fit.matched, clustering_accuracy(&renamed, &labels).unwrap().matched);

            let back = |ids: &[u8]| ids.iter().rev().copied().collect::<Vec<u8>>();
            let turned = clustering_accuracy(&back(&clusters), &back(&labels)).unwrap();
            prop_assert_eq!(fit, turned);
        }
    }
}
