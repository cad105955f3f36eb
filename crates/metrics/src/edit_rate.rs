//! How much of one sentence has to be changed to get the other.

/// An alignment of two word sequences with as few edits as possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EditAlignment {
    /// Words of the second sequence without a partner.
    pub insertions: usize,
    /// Words of the first sequence without a partner.
    pub deletions: usize,
    /// Pairs of different words.
    pub substitutions: usize,
    /// Pairs of equal words.
    pub retained: usize,
}

impl EditAlignment {
    /// Aligns two sequences, `[n]` and `[m]`, in `O(n m)` time and `O(m)` memory.
    ///
    /// Insertions, deletions and substitutions cost one edit each. Alignments with the fewest edits
    /// may differ in how many words they retain (`a b` and `b a` are one deletion and one insertion
    /// around a retained word, or two substitutions): the one that retains the most is taken. The four
    /// counts then follow from the sequences alone, and exchanging the sequences exchanges insertions
    /// and deletions.
    ///
    /// ```
    /// use metrics::EditAlignment;
    ///
    /// let found = EditAlignment::of(&["a", "b"], &["b", "a"]);
    /// assert_eq!((found.insertions, found.deletions), (1, 1));
    /// assert_eq!((found.substitutions, found.retained), (0, 1));
    /// ```
    pub fn of<T: PartialEq>(first: &[T], second: &[T]) -> Self {
        // Fewest edits of a prefix of `first` and every prefix of `second`, then the most retained.
        let better = |a: (usize, usize), b: (usize, usize)| {
            if (a.0, std::cmp::Reverse(a.1)) <= (b.0, std::cmp::Reverse(b.1)) {
                a
            } else {
                b
            }
        };
        let mut row: Vec<(usize, usize)> = (0..=second.len()).map(|edits| (edits, 0)).collect();
        for (i, left) in first.iter().enumerate() {
            let mut next = Vec::with_capacity(row.len());
            let mut beside = (i + 1, 0);
            next.push(beside);
            for (right, above) in second.iter().zip(row.windows(2)) {
                let &[diagonal, above] = above else { continue };
                let paired = if left == right {
                    (diagonal.0, diagonal.1 + 1)
                } else {
                    (diagonal.0 + 1, diagonal.1)
                };
                let single = better((above.0 + 1, above.1), (beside.0 + 1, beside.1));
                beside = better(paired, single);
                next.push(beside);
            }
            row = next;
        }
        let (edits, retained) = row.last().copied().unwrap_or_default();
        // n = R + S + D, m = R + S + I and edits = S + I + D.
        let substitutions = first.len() + second.len() - edits - 2 * retained;
        Self {
            insertions: second.len() - retained - substitutions,
            deletions: first.len() - retained - substitutions,
            substitutions,
            retained,
        }
    }

    /// `MER = (I + D + S) / (I + D + S + R)`, in `[0, 1]`; NaN for two empty sequences.
    pub fn rate(&self) -> f64 {
        let edits = self.insertions + self.deletions + self.substitutions;
        edits as f64 / (edits + self.retained) as f64
    }
}

/// Match error rate (MER) of two sentences: the share of their aligned words that differ.
///
/// `MER = (I + D + S) / (I + D + S + R)` with the insertions, deletions, substitutions and retained
/// words of [`EditAlignment::of`]. Words are what white space separates, compared as they are
/// written. 0 for the same words in the same order, 1 for sentences without a common word, NaN for
/// two sentences without any word; symmetric.
///
/// Source: the appendix of NGCSE ("Narrowing the Gap between Supervised and
/// Unsupervised Sentence Representation Learning with Large Language Model", AAAI 2024), which
/// measures with it how alike the sentences of positive and negative pairs look.
///
/// ```
/// // `red` is left out, `walks` stands for `runs`; `a`, `dog` are retained.
/// let found = metrics::match_error_rate("a red dog runs", "a dog walks");
/// assert_eq!(found, 2.0 / 4.0);
/// ```
pub fn match_error_rate(first: &str, second: &str) -> f64 {
    let words = |text: &'_ str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    EditAlignment::of(&words(first), &words(second)).rate()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    /// Every alignment there is, one by one.
    fn all(first: &[u8], second: &[u8]) -> Vec<EditAlignment> {
        const NONE: EditAlignment = EditAlignment {
            insertions: 0,
            deletions: 0,
            substitutions: 0,
            retained: 0,
        };
        let mut found = Vec::new();
        if first.is_empty() && second.is_empty() {
            return vec![NONE];
        }
        if let [_, rest @ ..] = first {
            found.extend(all(rest, second).into_iter().map(|mut after| {
                after.deletions += 1;
                after
            }));
        }
        if let [_, rest @ ..] = second {
            found.extend(all(first, rest).into_iter().map(|mut after| {
                after.insertions += 1;
                after
            }));
        }
        if let ([a, first @ ..], [b, second @ ..]) = (first, second) {
            found.extend(all(first, second).into_iter().map(|mut after| {
                if a == b {
                    after.retained += 1;
                } else {
                    after.substitutions += 1;
                }
                after
            }));
        }
        found
    }

    fn edits(alignment: &EditAlignment) -> usize {
        alignment.insertions + alignment.deletions + alignment.substitutions
    }

    #[test]
    fn worked_examples() {
        for (first, second, [insertions, deletions, substitutions, retained]) in [
            ("", "", [0, 0, 0, 0]),
            ("", "a b", [2, 0, 0, 0]),
            ("a b c", "", [0, 3, 0, 0]),
            ("a b c", "a b c", [0, 0, 0, 3]),
            ("a b c", "d e f", [0, 0, 3, 0]),
            ("a b c d", "a c d e", [1, 1, 0, 3]),
            ("the cat sat", "the cats sat down", [1, 0, 1, 2]),
        ] {
            let words = |text: &'static str| text.split(' ').filter(|word| !word.is_empty());
            let first: Vec<&str> = words(first).collect();
            let second: Vec<&str> = words(second).collect();
            let expected = EditAlignment {
                insertions,
                deletions,
                substitutions,
                retained,
            };
            assert_eq!(
                EditAlignment::of(&first, &second),
                expected,
                "{first:?} {second:?}"
            );
        }
        assert_eq!(match_error_rate("A b", " A\tb\n"), 0.0);
        assert_eq!(match_error_rate("a", "A"), 1.0);
        assert_eq!(match_error_rate("a b", "a"), 0.5);
        assert!(match_error_rate("", "  ").is_nan());
    }

    proptest! {
        #[test]
        fn the_best_of_all_alignments(
            first in proptest::collection::vec(0_u8..3, 0..6),
            second in proptest::collection::vec(0_u8..3, 0..6),
        ) {
            let found = EditAlignment::of(&first, &second);
            let best = all(&first, &second)
                .into_iter()
                .min_by_key(|one| (edits(one), std::cmp::Reverse(one.retained)))
                .unwrap();
            prop_assert_eq!(found, best);
            let back = EditAlignment::of(&second, &first);
            prop_assert_eq!((back.insertions, back.deletions), (found.deletions, found.insertions));
            prop_assert_eq!(back.retained, found.retained);
        }

        #[test]
        fn properties(
            first in proptest::collection::vec(0_u8..5, 1..40),
            second in proptest::collection::vec(0_u8..5, 0..40),
            end in proptest::collection::vec(0_u8..5, 0..9),
        ) {
            let found = EditAlignment::of(&first, &second);
            prop_assert!((0.0..=1.0).contains(&found.rate()));
            prop_assert_eq!(found.retained + found.substitutions + found.deletions, first.len());
            prop_assert_eq!(found.retained + found.substitutions + found.insertions, second.len());
            prop_assert_eq!(EditAlignment::of(&first, &first).rate(), 0.0);
            prop_assert_eq!(found.rate() == 0.0, first == second);
            // A common end adds retained words and no edits.
            let longer = EditAlignment::of(&[&first[..], &end].concat(), &[&second[..], &end].concat());
            prop_assert_eq!(edits(&longer), edits(&found));
            // Words that the other side does not have keep nothing.
            let other: Vec<u8> = second.iter().map(|word| word + 5).collect();
            prop_assert_eq!(EditAlignment::of(&first, &other).rate(), 1.0);
        }
    }
}
