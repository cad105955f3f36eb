//! Named random streams: stateless, keyed by epoch and step.
//!
//! Every random decision of a run is drawn from a ChaCha8 generator whose 256-bit seed is
//!
//! ```text
//! SHA-256("asterism/stream/1" | seed | len(name) | name | len(keys) | keys)
//! ```
//!
//! with all integers as 8 little-endian bytes. Two streams that differ in the run's seed, the name
//! or any key are independent for practical purposes, and none of them depends on how many numbers
//! another one has handed out. A resumed run therefore needs no generator state: it asks for the
//! stream of (name, epoch, step) again. The lengths make the encoding injective: `("ab", [])` and
//! `("a", [98])` are different inputs.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// Names of the streams in use. A new purpose gets a new name, so that adding it leaves every other
/// stream as it was.
pub mod stream {
    /// Initial values of new parameters. Keys: none, or the index of the part.
    pub const INIT: &str = "init";
    /// Split of a file into train and validation rows. Keys: none.
    pub const SPLIT: &str = "split";
    /// Order of the rows in an epoch. Keys: `[epoch]`.
    pub const SHUFFLE: &str = "shuffle";
    /// Order of an independent second iterator (masked language modelling). Keys: `[epoch]`.
    pub const MLM_SHUFFLE: &str = "mlm-shuffle";
    /// Which tokens are masked, and by what. Keys: `[step]`.
    pub const MLM_MASK: &str = "mlm-mask";
    /// Random token replacement of the training view. Keys: `[step]`.
    pub const AUGMENT: &str = "augment";
    /// Seed of the tensor backend's own generator (dropout). Keys: `[step]`.
    pub const DROPOUT: &str = "dropout";
    /// Choice among neighbours or negatives. Keys: `[epoch]` or `[step]`.
    pub const NEIGHBOUR: &str = "neighbour";
    /// Random draws inside a loss. Keys: `[step]`.
    pub const LOSS: &str = "loss";
    /// Restarts of a clusterer. Keys: `[epoch]` or none.
    pub const CLUSTERING: &str = "clustering";
    /// Folds and samples of an evaluation. Keys: `[task]`.
    pub const EVALUATION: &str = "evaluation";
    /// Data generation. Keys: `[item]`.
    pub const DATAGEN: &str = "datagen";
    /// Two-dimensional projections for plots. Keys: none.
    pub const PROJECTION: &str = "projection";

    /// All names above.
    pub const ALL: [&str; 13] = [
        INIT,
        SPLIT,
        SHUFFLE,
        MLM_SHUFFLE,
        MLM_MASK,
        AUGMENT,
        DROPOUT,
        NEIGHBOUR,
        LOSS,
        CLUSTERING,
        EVALUATION,
        DATAGEN,
        PROJECTION,
    ];
}

/// The random streams of one run.
///
/// ```
/// use training::{Streams, shuffle, stream};
///
/// let streams = Streams::new(7);
/// let first = shuffle(5, &mut streams.rng(stream::SHUFFLE, &[0]));
/// let again = shuffle(5, &mut streams.rng(stream::SHUFFLE, &[0]));
/// assert_eq!(first, again);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    seed: u64,
}

impl Streams {
    /// Streams of the run with this seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The run's seed.
    pub const fn run_seed(&self) -> u64 {
        self.seed
    }

    /// Generator of the stream `name` at `keys` (epoch, step, item; in the order documented at the
    /// name).
    pub fn rng(&self, name: &str, keys: &[u64]) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.digest(name, keys))
    }

    /// A 64-bit seed for something that takes one, such as the tensor backend's generator.
    pub fn seed(&self, name: &str, keys: &[u64]) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.digest(name, keys);
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    fn digest(&self, name: &str, keys: &[u64]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"asterism/stream/1");
        hash.update(self.seed.to_le_bytes());
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update((keys.len() as u64).to_le_bytes());
        for key in keys {
            hash.update(key.to_le_bytes());
        }
        hash.finalize().into()
    }
}

/// Uniform integer in `0..n`, without bias (multiply and reject, Lemire 2019, "Fast random integer
/// generation in an interval"). `n = 0` gives 0.
///
/// Our own, so that results do not move with the version of the `rand` crate.
pub fn below(n: u64, rng: &mut impl Rng) -> u64 {
    if n == 0 {
        return 0;
    }
    // 2^64 mod n: products whose low half falls under it would favour some results.
    let threshold = n.wrapping_neg() % n;
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(n);
        if (product as u64) >= threshold {
            return (product >> 64) as u64;
        }
    }
}

/// A uniformly random order of `0..n` (Fisher-Yates, from the last position down).
pub fn shuffle(n: usize, rng: &mut impl Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        let j = below(i as u64 + 1, rng) as usize;
        order.swap(i, j);
    }
    order
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn streams_do_not_depend_on_history() {
        let streams = Streams::new(3);
        let expected = streams.rng(stream::AUGMENT, &[5]).next_u64();
        let mut other = streams.rng(stream::SHUFFLE, &[0]);
        for _ in 0..100 {
            other.next_u64();
        }
        assert_eq!(streams.rng(stream::AUGMENT, &[5]).next_u64(), expected);
    }

    // Fixed for good: a change here changes every published run. Recomputed with Python:
    //   s = b"asterism/stream/1" + (42).to_bytes(8,"little") + (7).to_bytes(8,"little") + b"shuffle"
    //       + (1).to_bytes(8,"little") + (3).to_bytes(8,"little")
    //   int.from_bytes(hashlib.sha256(s).digest()[:8], "little")
    #[test]
    fn derivation_is_fixed() {
        assert_eq!(
            Streams::new(42).seed(stream::SHUFFLE, &[3]),
            2_753_121_562_722_386_773
        );
    }

    #[test]
    fn names_keys_and_seeds_separate() {
        let mut seen = BTreeSet::new();
        for seed in 0..4 {
            for name in stream::ALL {
                for keys in [&[][..], &[0], &[1], &[0, 0], &[1, 0], &[0, 1]] {
                    assert!(seen.insert(Streams::new(seed).seed(name, keys)));
                }
            }
        }
        assert_eq!(seen.len(), 4 * stream::ALL.len() * 6);
        assert_ne!(
            Streams::new(0).seed("ab", &[]),
            Streams::new(0).seed("a", &[u64::from(b'b')])
        );
    }

    #[test]
    fn below_is_uniform() {
        // 60,000 draws in 6 cells: the statistic has 5 degrees of freedom, 99.99 % lie below 25.7.
        let mut rng = Streams::new(1).rng("test", &[]);
        let mut counts = [0f64; 6];
        for _ in 0..60_000 {
            counts[below(6, &mut rng) as usize] += 1.0;
        }
        let chi2: f64 = counts.iter().map(|c| (c - 1e4).powi(2) / 1e4).sum();
        assert!(chi2 < 25.7, "{chi2}");
    }

    #[test]
    fn every_order_of_three_appears() {
        let mut rng = Streams::new(2).rng("test", &[]);
        let seen: BTreeSet<Vec<usize>> = (0..200).map(|_| shuffle(3, &mut rng)).collect();
        assert_eq!(seen.len(), 6);
    }

    proptest! {
        #[test]
        fn shuffle_is_a_permutation(n in 0usize..200, seed: u64) {
            let mut order = shuffle(n, &mut Streams::new(seed).rng(stream::SHUFFLE, &[]));
            order.sort_unstable();
            prop_assert_eq!(order, (0..n).collect::<Vec<_>>());
        }

        #[test]
        fn below_stays_below(n in 1u64.., seed: u64) {
            prop_assert!(below(n, &mut Streams::new(seed).rng("test", &[])) < n);
        }
    }
}
