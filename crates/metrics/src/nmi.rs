//! Normalised mutual information.

use crate::contingency::Contingency;
use crate::error::MetricsError;

/// Normalised mutual information (NMI), divided by the arithmetic mean of the entropies.
///
/// With cell counts `n_ij`, cluster sizes `a_i`, label sizes `b_j`, natural logarithms:
///
/// `MI = sum_ij n_ij / n * ln(n n_ij / (a_i b_j))`, `H(a) = -sum_i a_i / n * ln(a_i / n)`,
/// `NMI = MI / ((H(a) + H(b)) / 2)`, in `[0, 1]`.
///
/// The terms are added in an order that depends on the counts only, so the result has the same
/// bits for any row order, any ids, and swapped arguments.
///
/// Degenerate cases, as scikit-learn has them: equal partitions give 1, including one cluster on
/// both sides and a single row; one cluster on one side only gives 0. All singletons against a
/// coarser partition is above 0, since singletons determine every label: the measure does not
/// punish splitting as ARI does.
///
/// # Errors
/// [`MetricsError::Empty`] and [`MetricsError::LengthMismatch`].
///
/// ```
/// // Four singletons against two halves: MI = ln 2, mean entropy = (ln 4 + ln 2) / 2.
/// let nmi = metrics::normalized_mutual_information(&[0, 1, 2, 3], &["x", "x", "y", "y"])?;
/// assert!((nmi - 2.0 / 3.0).abs() < 1e-12);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn normalized_mutual_information<A: Ord + Copy, B: Ord + Copy>(
    clusters: &[A],
    labels: &[B],
) -> Result<f64, MetricsError> {
    Ok(normalized_mutual_information_of(&Contingency::new(
        clusters, labels,
    )?))
}

/// [`normalized_mutual_information`] of a table that has already been counted.
pub fn normalized_mutual_information_of<A: Ord + Copy, B: Ord + Copy>(
    table: &Contingency<A, B>,
) -> f64 {
    if table.is_same_partition() {
        return 1.0;
    }
    let information = mutual_information(table);
    let rows = table.rows();
    let mean = (entropy(table.clusters().values().copied(), rows)
        + entropy(table.labels().values().copied(), rows))
        / 2.0;
    // Rounding can leave an information of almost nothing below 0.
    (information / mean).clamp(0.0, 1.0)
}

/// `sum_ij n_ij / n * ln(n n_ij / (a_i b_j))`.
fn mutual_information<A: Ord + Copy, B: Ord + Copy>(table: &Contingency<A, B>) -> f64 {
    let rows = table.rows() as u128;
    let mut terms: Vec<(u128, u128)> = table
        .cells()
        .iter()
        .map(|((cluster, label), &count)| {
            let sizes = table.clusters()[cluster] as u128 * table.labels()[label] as u128;
            (count as u128, sizes)
        })
        .collect();
    terms.sort_unstable();
    // Products of counts are exact in u128, so an independent cell has ratio 1 and adds nothing.
    terms
        .into_iter()
        .map(|(count, sizes)| {
            let ratio = (rows * count) as f64 / sizes as f64;
            count as f64 / rows as f64 * ratio.ln()
        })
        .sum()
}

/// `-sum_i a_i / n * ln(a_i / n)`.
fn entropy(sizes: impl Iterator<Item = usize>, rows: usize) -> f64 {
    let mut sizes: Vec<usize> = sizes.collect();
    sizes.sort_unstable();
    sizes
        .into_iter()
        .map(|size| {
            let share = size as f64 / rows as f64;
            -share * share.ln()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    /// Second implementation through joint entropy: MI = H(a) + H(b) - H(a, b), dense and plain.
    fn by_entropies(rows: &[(u8, u8)]) -> f64 {
        let n = rows.len() as f64;
        let h = |key: &dyn Fn(&(u8, u8)) -> usize| {
            let mut counts = [0.0_f64; 256];
            for row in rows {
                counts[key(row)] += 1.0;
            }
            counts
                .iter()
                .filter(|&&c| c > 0.0)
                .map(|c| -c / n * (c / n).ln())
                .sum::<f64>()
        };
        let a = h(&|row| usize::from(row.0));
        let b = h(&|row| usize::from(row.1));
        let joint = h(&|row| usize::from(row.0) * 16 + usize::from(row.1));
        if a + b == 0.0 {
            1.0
        } else {
            (a + b - joint) / ((a + b) / 2.0)
        }
    }

    #[test]
    fn worked_example() {
        // clusters {1,2,3} {4,5,6}, labels {1,2} {3,4} {5,6}, n = 6: cells 2, 1, 1, 2.
        // MI = 2 * 2/6 ln(6*2 / (3*2)) + 2 * 1/6 ln(6*1 / (3*2)) = 2/3 ln 2 + 0.
        // H(clusters) = ln 2, H(labels) = ln 3.
        let nmi = normalized_mutual_information(&[0, 0, 0, 1, 1, 1], &[0, 0, 1, 1, 2, 2]).unwrap();
        let (ln2, ln3) = (2.0_f64.ln(), 3.0_f64.ln());
        assert!((nmi - (2.0 / 3.0 * ln2) / ((ln2 + ln3) / 2.0)).abs() < 1e-15);
    }

    #[test]
    fn independent_partitions_give_exactly_zero() {
        // Every cell is a_i b_j / n, so every logarithm is ln 1.
        let clusters: Vec<u32> = (0..105).map(|row| row % 3).collect();
        let labels: Vec<u32> = (0..105).map(|row| row % 35).collect();
        assert_eq!(
            normalized_mutual_information(&clusters, &labels).unwrap(),
            0.0
        );
    }

    #[test]
    fn ids_do_not_choose_the_last_bit() {
        // Products of coprime numbers spread the rows irregularly; 400 rows in 17 x 23 ids.
        for step in 1..60_u32 {
            let rows = (0..400).map(|row: u32| row * row * step);
            let clusters: Vec<u32> = rows.clone().map(|row| row % 101 % 17).collect();
            let labels: Vec<u32> = rows.map(|row| row % 103 % 23).collect();
            let renamed: Vec<u32> = labels.iter().map(|label| label * 7 % 23).collect();
            let bits =
                |a: &[u32], b: &[u32]| normalized_mutual_information(a, b).unwrap().to_bits();
            assert_eq!(
                bits(&clusters, &labels),
                bits(&clusters, &renamed),
                "{step}"
            );
            assert_eq!(
                bits(&clusters, &labels),
                bits(&renamed, &clusters),
                "{step}"
            );
        }
    }

    #[test]
    fn rejects_empty_and_unequal() {
        let none: [u8; 0] = [];
        assert!(matches!(
            normalized_mutual_information(&none, &none),
            Err(MetricsError::Empty { .. })
        ));
        assert!(matches!(
            normalized_mutual_information(&none, &[0]),
            Err(MetricsError::LengthMismatch { .. })
        ));
    }

    proptest! {
        #[test]
        fn equals_the_joint_entropy_form(rows in proptest::collection::vec((0_u8..6, 0_u8..6), 1..60)) {
            let (clusters, labels): (Vec<u8>, Vec<u8>) = rows.iter().copied().unzip();
            let found = normalized_mutual_information(&clusters, &labels).unwrap();
            prop_assert!((found - by_entropies(&rows)).abs() < 1e-12);
        }

        #[test]
        fn properties(rows in proptest::collection::vec((0_u8..6, 0_u8..6), 1..60)) {
            let (clusters, labels): (Vec<u8>, Vec<u8>) = rows.iter().copied().unzip();
            let nmi = normalized_mutual_information(&clusters, &labels).unwrap();
            prop_assert!((0.0..=1.0).contains(&nmi));
            let bits = |a: &[u8], b: &[u8]| normalized_mutual_information(a, b).unwrap().to_bits();
            prop_assert_eq!(nmi.to_bits(), bits(&labels, &clusters));

            let renamed: Vec<u8> = clusters.iter().map(|&id| 250 - 11 * id).collect();
            prop_assert_eq!(nmi.to_bits(), bits(&renamed, &labels));

            let (back_c, back_l): (Vec<u8>, Vec<u8>) = rows.iter().rev().copied().unzip();
            prop_assert_eq!(nmi.to_bits(), bits(&back_c, &back_l));

            let same = Contingency::new(&clusters, &labels).unwrap().is_same_partition();
            prop_assert_eq!(nmi == 1.0, same);
        }
    }
}
