//! Which tokens a masked language model has to guess.

use std::collections::BTreeSet;

use rand::{Rng, RngExt};
use training::below;

/// A masked text: its new ids, and `(position, original id)` of every selected token.
pub(crate) struct Masked {
    pub(crate) ids: Vec<u32>,
    pub(crate) selected: Vec<(usize, u32)>,
}

/// Masks for masked language modelling: selected with probability `p`, of those 80 % `[MASK]`, 10 %
/// a uniformly drawn id, 10 % unchanged. Special tokens are never selected.
///
/// Source: Devlin et al., arXiv 1810.04805, section 3.1.
pub(crate) fn mask_tokens(
    ids: &[u32],
    special: &BTreeSet<u32>,
    vocab: usize,
    mask: u32,
    p: f64,
    rng: &mut impl Rng,
) -> Masked {
    let mut masked = Masked {
        ids: ids.to_vec(),
        selected: Vec::new(),
    };
    for (position, id) in masked.ids.iter_mut().enumerate() {
        if special.contains(id) || rng.random::<f64>() >= p {
            continue;
        }
        masked.selected.push((position, *id));
        let fate = rng.random::<f64>();
        if fate < 0.8 {
            *id = mask;
        } else if fate < 0.9 {
            *id = below(vocab as u64, rng) as u32;
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn special() -> BTreeSet<u32> {
        (0..5).collect()
    }

    #[test]
    fn masking_keeps_originals_and_proportions() {
        let ids: Vec<u32> = (0..50_000).map(|i| 5 + i % 90).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let masked = mask_tokens(&ids, &special(), 100, 4, 0.25, &mut rng);
        assert!(masked.selected.iter().all(|(at, id)| ids[*at] == *id));
        let share = masked.selected.len() as f64 / 50_000.0;
        assert!((share - 0.25).abs() < 0.01, "{share}");
        let as_mask = masked
            .selected
            .iter()
            .filter(|(at, _)| masked.ids[*at] == 4)
            .count() as f64;
        assert!((as_mask / masked.selected.len() as f64 - 0.801).abs() < 0.02);
        let untouched: BTreeSet<usize> = masked.selected.iter().map(|(at, _)| *at).collect();
        assert!((0..ids.len()).all(|at| untouched.contains(&at) || masked.ids[at] == ids[at]));
    }
}
