//! Cross-validation parts with the same mixture of labels in each.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::error::MetricsError;

/// Splits rows into `folds` parts in which every label is as frequent as overall.
///
/// The parts are disjoint, cover all rows, and hold ascending row numbers. How many rows of a label
/// each part receives follows scikit-learn's `StratifiedKFold`: with the rows sorted by label, part
/// `f` gets as many of a label as there are at places `f, f + folds, f + 2 folds, ...`; so sizes,
/// overall and of each label, differ by at most one. Which rows these are is drawn from `seed` with
/// ChaCha8, not with NumPy's generator: parts of equal make-up, not the same rows.
///
/// # Errors
/// [`MetricsError::Parameter`] for fewer than two folds; [`MetricsError::TooFew`] if no label has
/// `folds` rows.
///
/// ```
/// let folds = metrics::stratified_folds(&["a", "b", "a", "b"], 2, 0)?;
/// assert_eq!(folds.len(), 2);
/// // One row of each label in either part.
/// assert!(folds.iter().all(|fold| fold.len() == 2 && fold[0] % 2 != fold[1] % 2));
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn stratified_folds<L: Ord>(
    labels: &[L],
    folds: usize,
    seed: u64,
) -> Result<Vec<Vec<usize>>, MetricsError> {
    let operation = "stratified_folds";
    if folds < 2 {
        return Err(MetricsError::Parameter {
            operation,
            parameter: "folds",
            expected: "at least 2",
            found: folds.to_string(),
        });
    }
    let mut groups: BTreeMap<&L, Vec<usize>> = BTreeMap::new();
    for (row, label) in labels.iter().enumerate() {
        groups.entry(label).or_default().push(row);
    }
    let largest = groups.values().map(Vec::len).max().unwrap_or(0);
    if largest < folds {
        return Err(MetricsError::TooFew {
            operation,
            argument: "the most frequent label",
            expected: folds,
            found: largest,
        });
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut parts = vec![Vec::with_capacity(labels.len() / folds + 1); folds];
    let mut place = 0;
    for rows in groups.values_mut() {
        // Dealing out shuffled rows in turn, continuing where the last label ended, gives each part
        // the number that the sorted order assigns to it.
        rows.shuffle(&mut rng);
        for row in rows {
            parts[place % folds].push(*row);
            place += 1;
        }
    }
    for part in &mut parts {
        part.sort_unstable();
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_input_is_an_error() {
        for folds in [0, 1] {
            assert!(matches!(
                stratified_folds(&[1, 1], folds, 0),
                Err(MetricsError::Parameter { .. })
            ));
        }
        let none: [u8; 0] = [];
        for labels in [&none[..], &[1, 2, 3, 4, 5]] {
            assert!(matches!(
                stratified_folds(labels, 2, 0),
                Err(MetricsError::TooFew { expected: 2, .. })
            ));
        }
    }

    #[test]
    fn seeds_choose_the_rows() {
        let labels: Vec<u8> = (0..100).map(|row| row % 3).collect();
        let first = stratified_folds(&labels, 5, 1).unwrap();
        assert_eq!(first, stratified_folds(&labels, 5, 1).unwrap());
        assert_ne!(first, stratified_folds(&labels, 5, 2).unwrap());
    }

    proptest! {
        #[test]
        fn parts_are_stratified(labels in proptest::collection::vec(0_u8..4, 12..80), folds in 2_usize..6, seed in 0_u64..100) {
            let largest = (0..4).map(|l| labels.iter().filter(|x| **x == l).count()).max().unwrap();
            prop_assume!(largest >= folds);
            let parts = stratified_folds(&labels, folds, seed).unwrap();
            prop_assert_eq!(parts.len(), folds);
            let mut all = parts.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());

            let mut sorted = labels.clone();
            sorted.sort_unstable();
            for (at, part) in parts.iter().enumerate() {
                prop_assert!(part.is_sorted());
                for label in 0..4 {
                    let expected = sorted.iter().skip(at).step_by(folds).filter(|l| **l == label).count();
                    let found = part.iter().filter(|row| labels[**row] == label).count();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
