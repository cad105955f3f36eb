//! Positives made from the word pieces of a sentence itself.

use rand::Rng;
use training::shuffle;

/// What happens to the word pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Corruption {
    /// A twentieth is left out.
    Cutoff,
    /// All change places.
    Shuffle,
}

impl Corruption {
    /// Word pieces (without special tokens) after the corruption.
    ///
    /// Cutoff removes `round(0.05 n)` of `n` pieces, halves rounded to the even number, drawn without
    /// replacement, and keeps the order of the rest; 10 pieces or fewer stay as they are. Shuffle draws
    /// one of all orders.
    pub(crate) fn apply(self, pieces: &[u32], rng: &mut impl Rng) -> Vec<u32> {
        let order = shuffle(pieces.len(), rng);
        match self {
            Self::Shuffle => order.iter().map(|at| pieces[*at]).collect(),
            Self::Cutoff => {
                let mut removed = vec![false; pieces.len()];
                for at in order.iter().take(cut(pieces.len())) {
                    removed[*at] = true;
                }
                let kept = pieces
                    .iter()
                    .zip(&removed)
                    .filter(|(_, removed)| !**removed);
                kept.map(|(piece, _)| *piece).collect()
            }
        }
    }

    /// Key in the random streams.
    pub(crate) fn key(self) -> u64 {
        match self {
            Self::Cutoff => 0,
            Self::Shuffle => 1,
        }
    }
}

/// A twentieth of `pieces`, halves to the even number, in whole numbers.
fn cut(pieces: usize) -> usize {
    let (whole, rest) = (pieces / 20, pieces % 20);
    match rest.cmp(&10) {
        std::cmp::Ordering::Less => whole,
        std::cmp::Ordering::Equal => whole + whole % 2,
        std::cmp::Ordering::Greater => whole + 1,
    }
}

#[cfg(test)]
mod tests {
    use training::Streams;

    use super::*;

    #[test]
    fn a_twentieth_with_halves_to_the_even_number() {
        for (pieces, expected) in [
            (0, 0),
            (9, 0),
            (10, 0),
            (11, 1),
            (29, 1),
            (30, 2),
            (31, 2),
            (49, 2),
            (50, 2),
            (51, 3),
            (70, 4),
        ] {
            assert_eq!(cut(pieces), expected, "{pieces}");
        }
        for pieces in 0..500_usize {
            let expected = (0.05 * pieces as f64).round_ties_even() as usize;
            // 0.05 has no exact binary form, so that halves may be rounded either way in floats.
            assert!(cut(pieces) == expected || pieces % 20 == 10, "{pieces}");
        }
    }

    fn sorted(mut pieces: Vec<u32>) -> Vec<u32> {
        pieces.sort_unstable();
        pieces
    }

    #[test]
    fn cutoff_keeps_the_order_and_shuffle_the_pieces() {
        for length in [0_u32, 1, 10, 11, 33, 200] {
            let pieces: Vec<u32> = (0..length).collect();
            for seed in 0..20 {
                let mut rng = Streams::new(seed).rng("test", &[]);
                let shorter = Corruption::Cutoff.apply(&pieces, &mut rng);
                assert_eq!(shorter.len(), pieces.len() - cut(pieces.len()));
                assert!(shorter.windows(2).all(|pair| pair[0] < pair[1]));
                let other = Corruption::Shuffle.apply(&pieces, &mut rng);
                assert_eq!(sorted(other), pieces);
            }
        }
    }

    #[test]
    fn every_piece_is_removed_and_every_order_drawn_about_as_often() {
        let pieces: Vec<u32> = (0..20).collect();
        let mut removed = [0; 20];
        let mut orders = std::collections::BTreeMap::new();
        for seed in 0..6000 {
            let mut rng = Streams::new(seed).rng("test", &[]);
            let kept = Corruption::Cutoff.apply(&pieces, &mut rng);
            let gone = pieces.iter().position(|piece| !kept.contains(piece));
            removed[gone.unwrap_or(0)] += 1;
            let order = Corruption::Shuffle.apply(&pieces[..3], &mut rng);
            *orders.entry(order).or_insert(0) += 1;
        }
        // 300 expected, standard deviation 17; 1000 expected, standard deviation 29.
        assert!(
            removed.iter().all(|count| (200..400).contains(count)),
            "{removed:?}"
        );
        assert_eq!(orders.len(), 6);
        assert!(
            orders.values().all(|count| (850..1150).contains(count)),
            "{orders:?}"
        );
    }
}
