//! The sentences that companions are written for.

use std::collections::HashSet;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// A sentence to write companions for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSentence {
    /// Row in the user's file, from 0; part of the ids of its calls.
    pub row: u64,
    /// The sentence.
    pub text: String,
}

/// The sentences of a file, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceSentences {
    /// In file order.
    pub sentences: Vec<SourceSentence>,
    /// Rows without a text.
    pub blank: u64,
    /// Rows with the text of an earlier one.
    pub repeated: u64,
}

impl SourceSentences {
    /// Takes the texts of a file in order. White space around them is removed; blank ones and repeats
    /// are left out and counted.
    pub fn new(texts: impl IntoIterator<Item = String>) -> Self {
        let mut all = Self::default();
        let mut seen: HashSet<String> = HashSet::new();
        for (row, text) in (0..).zip(texts) {
            let text = text.trim();
            if text.is_empty() {
                all.blank += 1;
            } else if seen.contains(text) {
                all.repeated += 1;
            } else {
                seen.insert(text.to_owned());
                all.sentences.push(SourceSentence {
                    row,
                    text: text.to_owned(),
                });
            }
        }
        all
    }

    /// Draws `limit` sentences and, from the rest, `others` more; both in file order. All sentences
    /// without a limit.
    ///
    /// With the same seed a larger limit adds to the sentences of a smaller one, so that their
    /// answers are used again.
    ///
    /// ```
    /// use datagen::simulation::SourceSentences;
    ///
    /// let texts = || (0..100).map(|n| format!("Sentence {n}."));
    /// let (few, rest) = SourceSentences::new(texts()).draw(Some(10), 5, 1);
    /// let (more, _) = SourceSentences::new(texts()).draw(Some(20), 0, 1);
    /// assert_eq!((few.len(), rest.len()), (10, 5));
    /// assert!(few.iter().all(|sentence| more.contains(sentence)));
    /// ```
    pub fn draw(
        self,
        limit: Option<usize>,
        others: usize,
        seed: u64,
    ) -> (Vec<SourceSentence>, Vec<SourceSentence>) {
        let mut all = self.sentences;
        let limit = limit.unwrap_or(all.len()).min(all.len());
        if limit < all.len() {
            all.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        }
        let mut rest = all.split_off(limit);
        rest.truncate(others);
        for part in [&mut all, &mut rest] {
            part.sort_unstable_by_key(|sentence| sentence.row);
        }
        (all, rest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn numbered(count: usize) -> SourceSentences {
        SourceSentences::new((0..count).map(|n| n.to_string()))
    }

    #[test]
    fn blank_and_repeated_rows_are_left_out_and_counted() {
        let texts = ["one", " ", "two", "one ", "", "three"].map(str::to_owned);
        let all = SourceSentences::new(texts);
        assert_eq!((all.blank, all.repeated), (2, 1));
        let rows: Vec<_> = all
            .sentences
            .iter()
            .map(|s| (s.row, s.text.as_str()))
            .collect();
        assert_eq!(rows, [(0, "one"), (2, "two"), (5, "three")]);
    }

    #[test]
    fn draws_follow_the_seed_and_do_not_overlap() {
        let (drawn, rest) = numbered(50).draw(Some(20), 100, 3);
        assert_eq!((drawn.len(), rest.len()), (20, 30));
        assert!(rest.iter().all(|sentence| !drawn.contains(sentence)));
        assert!(drawn.is_sorted_by_key(|s| s.row) && rest.is_sorted_by_key(|s| s.row));
        assert_eq!(numbered(50).draw(Some(20), 0, 3).0, drawn);
        assert_ne!(numbered(50).draw(Some(20), 0, 4).0, drawn);
        for limit in [None, Some(50), Some(51)] {
            let (all, rest) = numbered(50).draw(limit, 5, 3);
            assert_eq!((all, rest.len()), (numbered(50).sentences, 0));
        }
    }
}
