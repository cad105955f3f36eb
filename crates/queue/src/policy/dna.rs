//! DNA: unweighted neighbours that pass three filters.

use rayon::prelude::*;

use super::{
    NeighbourPolicy, PolicyState, RefreshContext, StateRule, Targets, assemble, check_labels,
    check_state,
};
use crate::bank::{host_data, host_slice};
use crate::error::{QueueError, Result};
use crate::neighbours::{NeighbourParams, Neighbours, nearest_neighbours};

const NAME: &str = "dna";

/// Settings of [`DnaPolicy`].
#[derive(Debug, Clone, PartialEq)]
pub struct DnaParams {
    /// Neighbours beside the sample itself before filtering. Published: 120 (CLINC, HWU64), 250 (WOS).
    pub topk: usize,
    /// Coordinates compared by the rank statistics, m. Published: 5.
    pub rank_statistics: usize,
    /// Reproduces the published code, which stores a dropped neighbour as -1 and then uses it as an
    /// index: every sample with at least one dropped neighbour gets the **last** sample of the data
    /// as a positive. Default false: dropped neighbours are dropped.
    pub compat_negative_index: bool,
    /// See [`NeighbourParams::self_first`]. Default true.
    pub force_self_first: bool,
    /// See [`NeighbourParams::block_rows`]. Default 512.
    pub block_rows: usize,
}

impl DnaParams {
    /// The published settings for `topk` neighbours, with the filters doing what they are meant to.
    #[must_use]
    pub fn new(topk: usize) -> Self {
        Self {
            topk,
            rank_statistics: 5,
            compat_negative_index: false,
            force_self_first: true,
            block_rows: 512,
        }
    }
}

/// The neighbour rule of DNA. With L(i) the unfiltered list of the topk + 1 best dot products of
/// sample i, itself included, and T(i) the set of the m coordinates of its vector with the largest
/// signed values (ties to the lower coordinate), j in L(i) is a positive of i if
///
/// ```text
/// (a) coarse(i) = coarse(j)
/// (b) i in L(j)                     (reciprocal)
/// (c) T(i) = T(j)                   (only at the very first refresh)
/// ```
///
/// All positives weigh 1; the loss divides by their number. The filters come after the cut, so lists
/// get shorter. The sample itself passes all three. Source: published code of DNA (`dna.py`,
/// `utils/memory.py`), fixed as described at [`DnaParams::compat_negative_index`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use queue::{DnaParams, DnaPolicy, NeighbourPolicy, RefreshContext};
///
/// let bank = Tensor::<2>::from_floats([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]], &Device::flex());
/// let mut policy = DnaPolicy::new(DnaParams::new(1))?;
/// policy.refresh(&RefreshContext { bank, coarse: &[0, 0, 0], refresh: 1, clusters: None })?;
/// // 0 lists 1, but 1 lists 2: not reciprocal, so 0 keeps only itself.
/// assert_eq!(policy.targets(&[0], 0)?.ids, [0]);
/// assert_eq!(policy.targets(&[1], 0)?.ids, [1, 2]);
/// # Ok::<(), queue::QueueError>(())
/// ```
#[derive(Debug, Clone)]
pub struct DnaPolicy {
    params: DnaParams,
    state: Option<PolicyState>,
}

impl DnaPolicy {
    /// The policy without lists.
    ///
    /// # Errors
    /// [`QueueError::InvalidParameter`] if `topk` or `rank_statistics` is 0.
    pub fn new(params: DnaParams) -> Result<Self> {
        if params.topk == 0 {
            return Err(QueueError::parameter("topk", "at least 1", 0));
        }
        if params.rank_statistics == 0 {
            return Err(QueueError::parameter("rank_statistics", "at least 1", 0));
        }
        Ok(Self {
            params,
            state: None,
        })
    }
}

impl NeighbourPolicy for DnaPolicy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn refresh(&mut self, context: &RefreshContext<'_>) -> Result<()> {
        let [n, dim] = context.bank.dims();
        check_labels("coarse labels", context.coarse, n)?;
        let m = self.params.rank_statistics;
        if context.refresh == 0 && m > dim {
            return Err(QueueError::parameter(
                "rank_statistics",
                format!("at most the vector length {dim}"),
                m,
            ));
        }
        let lists = nearest_neighbours(
            context.bank.clone(),
            &NeighbourParams {
                k: self.params.topk,
                block_rows: self.params.block_rows,
                self_first: self.params.force_self_first,
                coarse_filter: None,
            },
        )?;
        let top = if context.refresh == 0 {
            let data = host_data("refresh", context.bank.clone().without_autodiff())?;
            let host = host_slice("refresh", &data)?;
            Some(top_coordinates(host, dim, m))
        } else {
            None
        };
        self.state = Some(self.filter(&lists, context.coarse, top.as_deref()));
        Ok(())
    }

    fn targets(&self, ids: &[usize], _epoch: usize) -> Result<Targets> {
        assemble(NAME, self.state.as_ref(), ids, |state, id| {
            state.row(id).iter().map(|&j| (j, 1.0))
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

impl DnaPolicy {
    /// Applies the filters to the lists of all samples.
    fn filter(&self, lists: &Neighbours, coarse: &[usize], top: Option<&[u32]>) -> PolicyState {
        let (n, width, m) = (lists.len(), lists.width, self.params.rank_statistics);
        // Sorted copies answer "is i in L(j)" by bisection.
        let mut sorted = lists.ids.clone();
        sorted
            .par_chunks_mut(width)
            .for_each(<[u32]>::sort_unstable);
        let same_top = |i: usize, j: usize| {
            top.is_none_or(|top| top[i * m..(i + 1) * m] == top[j * m..(j + 1) * m])
        };
        let last = n - 1;
        let mut ids: Vec<u32> = (0..n as u32)
            .flat_map(|i| std::iter::repeat_n(i, width))
            .collect();
        let mut counts = vec![0_u32; n];
        ids.par_chunks_mut(width)
            .zip(counts.par_iter_mut())
            .enumerate()
            .for_each(|(i, (row, count))| {
                let mut kept = 0;
                let mut has_last = false;
                let mut keep = |id: u32| {
                    row[kept] = id;
                    kept += 1;
                };
                let list = &lists.ids[i * width..(i + 1) * width];
                let mut dropped = false;
                for &neighbour in list {
                    let j = neighbour as usize;
                    let reciprocal = || {
                        sorted[j * width..(j + 1) * width]
                            .binary_search(&(i as u32))
                            .is_ok()
                    };
                    // The sample itself always stays, also where duplicates crowd it out of its list.
                    if j == i || (coarse[i] == coarse[j] && reciprocal() && same_top(i, j)) {
                        keep(neighbour);
                        has_last |= j == last;
                    } else {
                        dropped = true;
                    }
                }
                // At least one place is free when something was dropped.
                if self.params.compat_negative_index && dropped && !has_last {
                    keep(last as u32);
                }
                *count = kept as u32;
            });
        // A row can only be empty if more than topk duplicates precede the sample.
        for (i, count) in counts.iter_mut().enumerate() {
            if *count == 0 {
                ids[i * width] = i as u32;
                *count = 1;
            }
        }
        PolicyState {
            policy: NAME.to_owned(),
            width,
            counts,
            ids,
            weights: Vec::new(),
        }
    }
}

/// The `m` coordinates with the largest signed values of every row, as ascending indices, `[n, m]`.
fn top_coordinates(values: &[f32], dim: usize, m: usize) -> Vec<u32> {
    let n = values.len() / dim;
    let mut top = vec![0_u32; n * m];
    top.par_chunks_mut(m)
        .zip(values.par_chunks(dim))
        .for_each_init(Vec::new, |order, (top, row)| {
            order.clear();
            order.extend(0..dim as u32);
            let by_value = |a: &u32, b: &u32| {
                let (x, y) = (row[*a as usize], row[*b as usize]);
                y.partial_cmp(&x)
                    .unwrap_or(std::cmp::Ordering::Equal)
                    .then(a.cmp(b))
            };
            order.select_nth_unstable_by(m - 1, by_value);
            top.copy_from_slice(&order[..m]);
            top.sort_unstable();
        });
    top
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::BTreeSet;

    use super::super::tests::{bank, grouped, positives};
    use super::*;
    use proptest::prelude::*;

    fn context<'a>(
        bank: &burn::tensor::Tensor<2>,
        coarse: &'a [usize],
        refresh: usize,
    ) -> RefreshContext<'a> {
        RefreshContext {
            bank: bank.clone(),
            coarse,
            refresh,
            clusters: None,
        }
    }

    /// The rule as sets, from scratch: lists by a full sort in f64.
    fn by_sets(
        values: &[f32],
        dim: usize,
        coarse: &[usize],
        topk: usize,
        statistics: Option<usize>,
        compat: bool,
    ) -> Vec<BTreeSet<u32>> {
        let rows: Vec<&[f32]> = values.chunks(dim).collect();
        let n = rows.len();
        let lists: Vec<BTreeSet<usize>> = (0..n)
            .map(|i| {
                let score = |j: usize| -> f64 {
                    rows[i]
                        .iter()
                        .zip(rows[j])
                        .map(|(a, b)| f64::from(*a) * f64::from(*b))
                        .sum()
                };
                let mut order: Vec<usize> = (0..n).filter(|&j| j != i).collect();
                order.sort_by(|&a, &b| score(b).partial_cmp(&score(a)).unwrap().then(a.cmp(&b)));
                order.into_iter().take(topk).chain([i]).collect()
            })
            .collect();
        let top: Vec<BTreeSet<usize>> = rows
            .iter()
            .map(|row| {
                let mut order: Vec<usize> = (0..dim).collect();
                order.sort_by(|&a, &b| row[b].partial_cmp(&row[a]).unwrap().then(a.cmp(&b)));
                order.into_iter().take(statistics.unwrap_or(0)).collect()
            })
            .collect();
        (0..n)
            .map(|i| {
                let kept: BTreeSet<usize> = lists[i]
                    .iter()
                    .copied()
                    .filter(|&j| {
                        coarse[i] == coarse[j] && lists[j].contains(&i) && top[i] == top[j]
                    })
                    .collect();
                let extra = (compat && kept.len() < lists[i].len()).then_some(n - 1);
                kept.into_iter().chain(extra).map(|j| j as u32).collect()
            })
            .collect()
    }

    #[test]
    fn rank_statistics_count_only_at_the_first_refresh() {
        // Same direction up to the order of two coordinates: close, but another top coordinate.
        let bank = bank(vec![0.72, 0.69, 0.69, 0.72, 0.73, 0.68], 2);
        let mut policy = DnaPolicy::new(DnaParams {
            rank_statistics: 1,
            ..DnaParams::new(2)
        })
        .unwrap();
        policy.refresh(&context(&bank, &[0, 0, 0], 0)).unwrap();
        assert_eq!(policy.targets(&[0, 1], 0).unwrap().ids, [0, 2, 1, 1]);
        assert_eq!(
            policy.targets(&[0, 1], 0).unwrap().weights,
            [1.0, 1.0, 1.0, 0.0]
        );
        policy.refresh(&context(&bank, &[0, 0, 0], 1)).unwrap();
        assert_eq!(positives(&policy.targets(&[1], 0).unwrap(), 0).len(), 3);
    }

    #[test]
    fn the_published_index_error_adds_the_last_sample() {
        let (bank, _) = grouped(25, 6, 3, 2);
        let coarse: Vec<usize> = (0..25).map(|i| i % 3).collect();
        let fixed = {
            let mut policy = DnaPolicy::new(DnaParams::new(6)).unwrap();
            policy.refresh(&context(&bank, &coarse, 1)).unwrap();
            policy.state().unwrap().clone()
        };
        let mut compat = DnaPolicy::new(DnaParams {
            compat_negative_index: true,
            ..DnaParams::new(6)
        })
        .unwrap();
        compat.refresh(&context(&bank, &coarse, 1)).unwrap();
        let compat = compat.state().unwrap();
        let mut added = 0;
        for i in 0..25 {
            let mut expected = fixed.row(i).to_vec();
            if expected.len() < 7 && !expected.contains(&24) {
                expected.push(24);
                added += 1;
            }
            assert_eq!(compat.row(i), expected);
        }
        assert!(added > 10, "the case must exercise the option");
    }

    #[test]
    fn hostile_input_is_refused() {
        let (bank, coarse) = grouped(10, 4, 2, 2);
        assert!(DnaPolicy::new(DnaParams::new(0)).is_err());
        assert!(
            DnaPolicy::new(DnaParams {
                rank_statistics: 0,
                ..DnaParams::new(3)
            })
            .is_err()
        );
        let mut policy = DnaPolicy::new(DnaParams::new(3)).unwrap();
        // Five coordinates of vectors of four.
        assert!(matches!(
            policy.refresh(&context(&bank, &coarse, 0)),
            Err(QueueError::InvalidParameter {
                parameter: "rank_statistics",
                ..
            })
        ));
        policy.refresh(&context(&bank, &coarse, 1)).unwrap();
        assert!(policy.refresh(&context(&bank, &coarse[..9], 1)).is_err());
        assert!(policy.refresh(&context(&bank, &[], 1)).is_err());
    }

    #[test]
    fn rows_crowded_out_by_duplicates_keep_themselves() {
        let bank = bank([0.6, 0.8].repeat(6), 2);
        let coarse = [0, 0, 0, 0, 0, 1];
        let mut policy = DnaPolicy::new(DnaParams {
            force_self_first: false,
            ..DnaParams::new(2)
        })
        .unwrap();
        policy.refresh(&context(&bank, &coarse, 1)).unwrap();
        // Sample 5 lists 0, 1, 2 and shares its class with none of them.
        assert_eq!(policy.targets(&[5], 0).unwrap().ids, [5]);
    }

    proptest! {
        #[test]
        fn equals_the_rule_on_sets(
            (dim, values) in (2usize..6, 4usize..40).prop_flat_map(|(dim, n)| (
                Just(dim),
                // Small integers: exact products, many ties, many equal top sets.
                prop::collection::vec((-2i8..=2).prop_map(f32::from), n * dim),
            )),
            topk in 1usize..12, m in 1usize..3, groups in 1usize..4, refresh in 0usize..2, compat: bool,
        ) {
            let n = values.len() / dim;
            let topk = topk.min(n - 1);
            let coarse: Vec<usize> = (0..n).map(|i| (i * 5 + i / 2) % groups).collect();
            let mut policy = DnaPolicy::new(DnaParams {
                rank_statistics: m, compat_negative_index: compat, ..DnaParams::new(topk)
            }).unwrap();
            policy.refresh(&context(&bank(values.clone(), dim), &coarse, refresh)).unwrap();
            let statistics = (refresh == 0).then_some(m);
            let expected = by_sets(&values, dim, &coarse, topk, statistics, compat);
            let all: Vec<usize> = (0..n).collect();
            let targets = policy.targets(&all, 3).unwrap();
            for (i, expected) in expected.iter().enumerate() {
                let list = positives(&targets, i);
                prop_assert!(list.iter().all(|&(_, weight)| weight == 1.0));
                let ids: BTreeSet<u32> = list.iter().map(|entry| entry.0).collect();
                prop_assert_eq!(ids.len(), list.len());
                prop_assert!(ids.contains(&(i as u32)));
                prop_assert_eq!(&ids, expected);
            }
        }
    }
}
