//! Token-level augmentation on the host, from explicit random streams.

use std::collections::BTreeSet;

use rand::{Rng, RngExt};
use training::below;

/// Random token replacement, the training view of DOWN and STAR.
///
/// Each ordinary token is selected with probability `p`. Of the selected, 80 % become `[MASK]`, 10 %
/// a uniformly drawn id and 10 % stay; then every `[MASK]` becomes a uniformly drawn id. The net
/// effect, computed here directly: each ordinary token is replaced with probability `0.9 p` by a
/// uniformly drawn id of the whole vocabulary, special ids included.
///
/// Source: `RandomTokenReplace` path of the released DOWN code.
pub(crate) fn replace_tokens(
    ids: &[u32],
    special: &BTreeSet<u32>,
    vocab: usize,
    p: f64,
    rng: &mut impl Rng,
) -> Vec<u32> {
    ids.iter()
        .map(|&id| {
            if p > 0.0 && !special.contains(&id) && rng.random::<f64>() < 0.9 * p {
                below(vocab as u64, rng) as u32
            } else {
                id
            }
        })
        .collect()
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
    fn replacement_rate_is_nine_tenths_of_p() {
        let ids: Vec<u32> = (0..40_000)
            .map(|i| if i % 10 == 0 { 2 } else { 7 })
            .collect();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let out = replace_tokens(&ids, &special(), 1000, 0.25, &mut rng);
        assert!(
            ids.iter().zip(&out).all(|(a, b)| *a != 2 || *b == 2),
            "special tokens stay"
        );
        // 36,000 ordinary tokens; changed ones: 0.225 * 999 / 1000. Five standard deviations.
        let changed = ids.iter().zip(&out).filter(|(a, b)| a != b).count() as f64;
        let (n, q) = (36_000.0, 0.225 * 0.999);
        assert!(
            (changed - n * q).abs() < 5.0 * (n * q * (1.0 - q)).sqrt(),
            "{changed}"
        );
        assert_eq!(replace_tokens(&ids, &special(), 1000, 0.0, &mut rng), ids);
    }
}
