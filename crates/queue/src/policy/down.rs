//! DOWN: rank-weighted nearest neighbours.

use super::{
    NeighbourPolicy, PolicyState, RefreshContext, StateRule, Targets, assemble, check_labels,
    check_state,
};
use crate::error::Result;
use crate::neighbours::{NeighbourParams, nearest_neighbours};
use crate::rank_weights::{PUBLISHED_BASES, RankWeights};

const NAME: &str = "down";

/// Which samples may be neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NeighbourFilter {
    /// All samples, as in the published code.
    #[default]
    None,
    /// Samples with the coarse label of the query. The filter comes before the cut: a list holds the
    /// topk + 1 best of its coarse class.
    Coarse,
}

/// Settings of [`DownPolicy`]. The defaults reproduce the published code.
#[derive(Debug, Clone, PartialEq)]
pub struct DownParams {
    /// Neighbours beside the sample itself. Published: 120 (CLINC, HWU64), 250 (WOS).
    pub topk: usize,
    /// Bases of the rank weights, see [`RankWeights`]. Default 150, 10, 5, 2, 2.
    pub decay_bases: Vec<f64>,
    /// Epochs for which one base holds. Default 5.
    pub decay_every: usize,
    /// Candidates. Default: no filter.
    pub neighbor_filter: NeighbourFilter,
    /// Drops the sample from its own positives; other ranks keep their weights. A sample whose list
    /// holds nothing else keeps itself, so that no row is empty. Default false: the published code
    /// gives the sample its own largest weight.
    pub exclude_self: bool,
    /// See [`NeighbourParams::self_first`]. Default true.
    pub force_self_first: bool,
    /// See [`NeighbourParams::block_rows`]. Default 512.
    pub block_rows: usize,
}

impl DownParams {
    /// The published settings for `topk` neighbours.
    #[must_use]
    pub fn new(topk: usize) -> Self {
        Self {
            topk,
            decay_bases: PUBLISHED_BASES.to_vec(),
            decay_every: 5,
            neighbor_filter: NeighbourFilter::None,
            exclude_self: false,
            force_self_first: true,
            block_rows: 512,
        }
    }
}

/// The neighbour rule of DOWN and STAR-DOWN:
///
/// ```text
/// positives(i) = the topk + 1 best dot products of bank row i, itself included
/// weight at rank r = b(epoch)^(-r / topk)          (RankWeights)
/// ```
///
/// Lists are fixed between refreshes while the weights follow the epoch.
/// Source: published code of DOWN (`down.py`, `utils/memory.py`).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use queue::{DownParams, DownPolicy, NeighbourPolicy, RefreshContext};
///
/// let bank = Tensor::<2>::from_floats([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], &Device::flex());
/// let mut policy = DownPolicy::new(DownParams::new(1))?;
/// policy.refresh(&RefreshContext { bank, coarse: &[], refresh: 0, clusters: None })?;
/// let targets = policy.targets(&[2], 0)?;
/// assert_eq!(targets.ids, [2, 1]);
/// assert_eq!(targets.weights, [1.0, 1.0 / 150.0]);
/// # Ok::<(), queue::QueueError>(())
/// ```
#[derive(Debug, Clone)]
pub struct DownPolicy {
    params: DownParams,
    weights: RankWeights,
    state: Option<PolicyState>,
}

impl DownPolicy {
    /// The policy without lists.
    ///
    /// # Errors
    /// [`InvalidParameter`](crate::QueueError::InvalidParameter) for impossible rank weights.
    pub fn new(params: DownParams) -> Result<Self> {
        let weights =
            RankWeights::new(params.topk, params.decay_bases.clone(), params.decay_every)?;
        Ok(Self {
            params,
            weights,
            state: None,
        })
    }
}

impl NeighbourPolicy for DownPolicy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn refresh(&mut self, context: &RefreshContext<'_>) -> Result<()> {
        let coarse_filter = match self.params.neighbor_filter {
            NeighbourFilter::None => None,
            NeighbourFilter::Coarse => {
                check_labels("coarse labels", context.coarse, context.bank.dims()[0])?;
                Some(context.coarse)
            }
        };
        let lists = nearest_neighbours(
            context.bank.clone(),
            &NeighbourParams {
                k: self.params.topk,
                block_rows: self.params.block_rows,
                self_first: self.params.force_self_first,
                coarse_filter,
            },
        )?;
        self.state = Some(PolicyState {
            policy: NAME.to_owned(),
            width: lists.width,
            counts: lists.counts,
            ids: lists.ids,
            weights: Vec::new(),
        });
        Ok(())
    }

    fn targets(&self, ids: &[usize], epoch: usize) -> Result<Targets> {
        // Lists exist only where topk + 1 samples do, which bounds the weights.
        let weights = match self.state {
            Some(_) => self.weights.weights(epoch),
            None => Vec::new(),
        };
        let exclude_self = self.params.exclude_self;
        assemble(NAME, self.state.as_ref(), ids, |state, id| {
            let row = state.row(id);
            let others = row.iter().any(|&j| j as usize != id);
            row.iter()
                .copied()
                .zip(weights.iter().copied())
                .filter(move |&(j, _)| !(exclude_self && others && j as usize == id))
        })
    }

    fn state(&self) -> Option<&PolicyState> {
        self.state.as_ref()
    }

    fn restore(&mut self, state: PolicyState) -> Result<()> {
        let rule = StateRule {
            policy: NAME,
            width: [self.params.topk.saturating_add(1); 2],
            weighted: false,
        };
        check_state(&rule, &state)?;
        self.state = Some(state);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::tests::{bank, grouped, positives};
    use super::*;
    use crate::error::QueueError;

    fn context<'a>(bank: &burn::tensor::Tensor<2>, coarse: &'a [usize]) -> RefreshContext<'a> {
        RefreshContext {
            bank: bank.clone(),
            coarse,
            refresh: 0,
            clusters: None,
        }
    }

    #[test]
    fn targets_are_the_lists_with_rank_weights() {
        let (bank, labels) = grouped(50, 10, 5, 9);
        let mut policy = DownPolicy::new(DownParams::new(7)).unwrap();
        policy.refresh(&context(&bank, &labels)).unwrap();
        let lists = nearest_neighbours(bank, &NeighbourParams::new(7)).unwrap();
        for epoch in [0, 4, 5, 12, 19, 24] {
            let base = [150.0_f64, 10.0, 5.0, 2.0, 2.0][epoch / 5];
            let targets = policy.targets(&[11, 42], epoch).unwrap();
            assert_eq!(targets.width, 8);
            for (row, id) in [11, 42].into_iter().enumerate() {
                let expected: Vec<(u32, f32)> = lists
                    .row(id)
                    .unwrap()
                    .iter()
                    .enumerate()
                    .map(|(rank, &j)| (j, base.powf(-(rank as f64) / 7.0) as f32))
                    .collect();
                assert_eq!(positives(&targets, row), expected);
            }
        }
    }

    #[test]
    fn the_coarse_filter_keeps_neighbours_in_their_class() {
        let (bank, _) = grouped(30, 6, 3, 21);
        let coarse: Vec<usize> = (0..30).map(|i| usize::from(i >= 27) * 4 + i % 2).collect();
        let mut policy = DownPolicy::new(DownParams {
            neighbor_filter: NeighbourFilter::Coarse,
            ..DownParams::new(5)
        })
        .unwrap();
        policy.refresh(&context(&bank, &coarse)).unwrap();
        let all: Vec<usize> = (0..30).collect();
        let targets = policy.targets(&all, 0).unwrap();
        for i in 0..30 {
            let list = positives(&targets, i);
            let class = coarse.iter().filter(|&&c| c == coarse[i]).count();
            assert_eq!(list.len(), class.min(6));
            assert!(list.iter().all(|&(j, _)| coarse[j as usize] == coarse[i]));
        }
        // A batch of small classes alone is not padded to topk + 1.
        assert_eq!(policy.targets(&[28], 0).unwrap().width, 1);
        assert!(matches!(
            policy.refresh(&context(&bank, &coarse[1..])),
            Err(QueueError::Shape { .. })
        ));
    }

    #[test]
    fn exclude_self_keeps_the_weights_of_the_other_ranks() {
        let (bank, _) = grouped(20, 6, 2, 33);
        let coarse: Vec<usize> = (0..20).map(|i| usize::from(i == 19)).collect();
        let params = DownParams {
            neighbor_filter: NeighbourFilter::Coarse,
            ..DownParams::new(4)
        };
        let mut with = DownPolicy::new(params.clone()).unwrap();
        let mut without = DownPolicy::new(DownParams {
            exclude_self: true,
            ..params
        })
        .unwrap();
        with.refresh(&context(&bank, &coarse)).unwrap();
        without.refresh(&context(&bank, &coarse)).unwrap();
        let ids: Vec<usize> = (0..19).collect();
        let (a, b) = (
            with.targets(&ids, 0).unwrap(),
            without.targets(&ids, 0).unwrap(),
        );
        assert_eq!((a.width, b.width), (5, 4));
        for i in 0..19 {
            assert_eq!(positives(&a, i)[1..], positives(&b, i)[..]);
        }
        // Alone in its class: itself, so the row is not empty.
        assert_eq!(
            positives(&without.targets(&[19], 0).unwrap(), 0),
            [(19, 1.0)]
        );
    }

    #[test]
    fn duplicates_may_precede_self_only_without_the_force() {
        let bank = bank(vec![1.0, 0.0, 1.0, 0.0, 0.0, 1.0], 2);
        for (force_self_first, expected) in [(true, [1, 0]), (false, [0, 1])] {
            let mut policy = DownPolicy::new(DownParams {
                force_self_first,
                ..DownParams::new(1)
            })
            .unwrap();
            policy.refresh(&context(&bank, &[])).unwrap();
            assert_eq!(policy.targets(&[1], 0).unwrap().ids, expected);
        }
    }

    #[test]
    fn a_failed_refresh_keeps_the_lists() {
        let (good, _) = grouped(10, 4, 2, 1);
        let mut policy = DownPolicy::new(DownParams::new(3)).unwrap();
        policy.refresh(&context(&good, &[])).unwrap();
        let before = policy.targets(&[0], 0).unwrap();
        assert!(
            policy
                .refresh(&context(&bank(vec![1.0, f32::NAN], 1), &[]))
                .is_err()
        );
        assert_eq!(policy.targets(&[0], 0).unwrap(), before);
        assert!(DownPolicy::new(DownParams::new(0)).is_err());
    }
}
