//! Neighbour weights by rank.

use crate::error::{QueueError, Result};

/// Bases of the published schedule, one for every five epochs. DOWN lists the first four; STAR trains
/// 25 epochs and appends the fifth.
pub(crate) const PUBLISHED_BASES: [f64; 5] = [150.0, 10.0, 5.0, 2.0, 2.0];

/// Weights that fall exponentially with the neighbour rank and flatten as training goes on.
///
/// For epoch e (from 0) and rank r = 0..topk, where rank 0 is normally the sample itself:
///
/// ```text
/// b(e) = bases[ min( floor(e / epochs_per_base), len(bases) - 1 ) ]
/// omega_r = b(e) ^ (-r / topk)
/// ```
///
/// so omega_0 = 1 and omega_topk = 1 / b(e). The last base is kept for all later epochs (the
/// published code fails with an index error there). The weights are not normalised; the losses divide
/// by their sum. Source: published code of DOWN, `down.py`.
///
/// ```
/// use queue::RankWeights;
///
/// let weights = RankWeights::published(120)?;
/// let first = weights.weights(0);
/// assert_eq!(first.len(), 121);
/// assert_eq!(first[0], 1.0);
/// assert!((first[120] - 1.0 / 150.0).abs() < 1e-8);
/// assert_eq!(weights.weights(24), weights.weights(1000));
/// # Ok::<(), queue::QueueError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RankWeights {
    topk: usize,
    bases: Vec<f64>,
    epochs_per_base: usize,
}

impl RankWeights {
    /// A schedule with own bases.
    ///
    /// # Errors
    /// [`QueueError::InvalidParameter`] if `topk` or `epochs_per_base` is 0, if `bases` is empty, or
    /// if a base is not a finite number of at least 1 (below 1 far neighbours would weigh more).
    pub fn new(topk: usize, bases: Vec<f64>, epochs_per_base: usize) -> Result<Self> {
        if topk == 0 {
            return Err(QueueError::parameter("topk", "at least 1", topk));
        }
        if epochs_per_base == 0 {
            return Err(QueueError::parameter(
                "epochs_per_base",
                "at least 1",
                epochs_per_base,
            ));
        }
        if bases.is_empty() {
            return Err(QueueError::parameter(
                "bases",
                "at least one base",
                "an empty list",
            ));
        }
        if let Some(base) = bases
            .iter()
            .find(|base| !(base.is_finite() && **base >= 1.0))
        {
            return Err(QueueError::parameter("bases", "finite numbers >= 1", base));
        }
        Ok(Self {
            topk,
            bases,
            epochs_per_base,
        })
    }

    /// The published schedule: bases 150, 10, 5, 2, 2, each for five epochs.
    ///
    /// # Errors
    /// [`QueueError::InvalidParameter`] if `topk` is 0.
    pub fn published(topk: usize) -> Result<Self> {
        Self::new(topk, PUBLISHED_BASES.to_vec(), 5)
    }

    /// Neighbours beside the sample itself.
    #[must_use]
    pub fn topk(&self) -> usize {
        self.topk
    }

    /// The base b(e) of epoch `epoch`, counted from 0.
    #[must_use]
    pub fn base(&self, epoch: usize) -> f64 {
        self.bases
            .get(epoch / self.epochs_per_base)
            .or(self.bases.last())
            .copied()
            .unwrap_or(1.0)
    }

    /// omega_0 .. omega_topk of epoch `epoch`, counted from 0; length topk + 1.
    #[must_use]
    pub fn weights(&self, epoch: usize) -> Vec<f32> {
        let base = self.base(epoch);
        (0..=self.topk)
            .map(|rank| base.powf(-(rank as f64) / self.topk as f64) as f32)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ends_at_one_over_base_and_keeps_the_last_base() {
        let weights = RankWeights::published(250).unwrap();
        for (epoch, base) in [
            (0, 150.0),
            (5, 10.0),
            (10, 5.0),
            (15, 2.0),
            (20, 2.0),
            (999, 2.0),
        ] {
            let got = weights.weights(epoch);
            assert_eq!(got.len(), 251);
            assert_eq!(got[0], 1.0);
            assert!((got[250] - (1.0 / base) as f32).abs() < 1e-7);
        }
        assert_eq!(weights.base(usize::MAX), 2.0);
    }

    #[test]
    fn refuses_impossible_settings() {
        assert!(RankWeights::new(0, vec![2.0], 5).is_err());
        assert!(RankWeights::new(3, vec![], 5).is_err());
        assert!(RankWeights::new(3, vec![2.0], 0).is_err());
        for base in [0.5, 0.0, -2.0, f64::NAN, f64::INFINITY] {
            let error = RankWeights::new(3, vec![2.0, base], 5).unwrap_err();
            assert!(error.to_string().contains("bases"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn falls_with_the_rank(topk in 1usize..400, base in 1.0f64..1000.0, epoch in 0usize..50) {
            let weights = RankWeights::new(topk, vec![base], 5).unwrap().weights(epoch);
            prop_assert!(weights.windows(2).all(|pair| pair[1] <= pair[0]));
            prop_assert!(weights.iter().all(|w| *w > 0.0 && *w <= 1.0));
            // Geometric: equal rank distance, equal ratio.
            if topk >= 2 {
                let (first, last) = (weights[1] / weights[0], weights[topk] / weights[topk - 1]);
                prop_assert!((first - last).abs() < 1e-5);
            }
        }
    }
}
