//! Neighbour policies: which samples are positives of a query, and with which weight.
//!
//! A policy is refreshed once an epoch from the bank and answers for batches in between; an objective
//! consumes the [`Targets`] and knows nothing else. Any policy composes with any objective.

mod dna;
mod down;
mod prototype;

pub use dna::{DnaParams, DnaPolicy};
pub use down::{DownParams, DownPolicy, NeighbourFilter};
pub use prototype::{PrototypeParams, PrototypePolicy};

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::error::{QueueError, Result};

/// What a policy may look at when it renews its lists.
#[derive(Debug, Clone)]
pub struct RefreshContext<'a> {
    /// The bank, `[n, dim]`, rows of unit length.
    pub bank: Tensor<2>,
    /// Coarse label of every sample, `[n]`; may be empty for policies that filter nothing.
    pub coarse: &'a [usize],
    /// How many refreshes came before in this training run: 0 for the very first. Given by the caller
    /// so that a resumed run does not start over.
    pub refresh: usize,
    /// Clusters of the bank rows, for policies that
    /// [need them](NeighbourPolicy::needs_clusters).
    pub clusters: Option<Clusters<'a>>,
}

/// A clustering of the bank rows, made by the caller.
#[derive(Debug, Clone, Copy)]
pub struct Clusters<'a> {
    /// Cluster of every sample, `[n]`.
    pub assignments: &'a [usize],
    /// Centroids, row-major `[k, dim]`; their length does not matter.
    pub centroids: &'a [f32],
}

/// Positives and weights of a batch of queries.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    /// Entries a row.
    pub width: usize,
    /// Bank ids, row-major `[batch, width]`. Padding repeats the query's own id.
    pub ids: Vec<u32>,
    /// Weights, `[batch, width]`, not normalised; 0 marks padding. Every row has a positive weight.
    pub weights: Vec<f32>,
}

impl Targets {
    /// Ids and weights as tensors, both `[batch, width]`.
    #[must_use]
    pub fn to_tensors(&self, device: &Device) -> (Tensor<2, Int>, Tensor<2>) {
        let shape = [self.ids.len() / self.width.max(1), self.width];
        let ids: Vec<i32> = self.ids.iter().map(|&id| id as i32).collect();
        (
            Tensor::from_data(TensorData::new(ids, shape), device),
            Tensor::from_data(TensorData::new(self.weights.clone(), shape), device),
        )
    }
}

/// A rule that picks positives for every sample.
pub trait NeighbourPolicy: Send {
    /// Name in configurations, reports and checkpoints.
    fn name(&self) -> &'static str;

    /// Whether [`refresh`](Self::refresh) needs [`RefreshContext::clusters`].
    fn needs_clusters(&self) -> bool {
        false
    }

    /// Renews the lists of all samples.
    ///
    /// # Errors
    /// Those of [`nearest_neighbours`](crate::nearest_neighbours), [`QueueError::Shape`] for labels
    /// or clusters that do not fit the bank, [`QueueError::MissingClusters`]. The lists in use stay
    /// when it fails.
    fn refresh(&mut self, context: &RefreshContext<'_>) -> Result<()>;

    /// Positives and weights of the samples `ids` in epoch `epoch`, counted from 0.
    ///
    /// # Errors
    /// [`QueueError::NotRefreshed`], [`QueueError::IdOutOfRange`], [`QueueError::Shape`] for an empty
    /// batch.
    fn targets(&self, ids: &[usize], epoch: usize) -> Result<Targets>;

    /// The lists in use, for a checkpoint inside an epoch; `None` before the first refresh.
    fn state(&self) -> Option<&PolicyState>;

    /// Continues with saved lists.
    ///
    /// # Errors
    /// [`QueueError::State`] if they belong to another policy or setting, or are damaged.
    fn restore(&mut self, state: PolicyState) -> Result<()>;
}

/// The lists of a policy: everything that [`targets`](NeighbourPolicy::targets) depends on beside the
/// configuration and the epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyState {
    /// Name of the policy that made the lists.
    pub policy: String,
    /// Entries a row.
    pub width: usize,
    /// Valid entries of each row, `[n]`, at least 1.
    pub counts: Vec<u32>,
    /// Bank ids, row-major `[n, width]`.
    pub ids: Vec<u32>,
    /// One weight an id, or empty where weights follow from rank and epoch.
    pub weights: Vec<f32>,
}

impl PolicyState {
    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there are no samples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The valid ids of sample `i`, best first; empty if there is no such sample.
    #[must_use]
    pub fn row(&self, i: usize) -> &[u32] {
        self.slice(&self.ids, i)
    }

    /// The weights of [`row`](Self::row); empty where weights follow from rank and epoch.
    #[must_use]
    pub fn row_weights(&self, i: usize) -> &[f32] {
        self.slice(&self.weights, i)
    }

    fn slice<'a, T>(&self, values: &'a [T], i: usize) -> &'a [T] {
        let count = self.counts.get(i).map_or(0, |&count| count as usize);
        let start = i.saturating_mul(self.width);
        values
            .get(start..start.saturating_add(count))
            .unwrap_or(&[])
    }
}

/// Assembles the targets of a batch; `row` lists the positives of a query in order.
pub(crate) fn assemble<'s, I>(
    policy: &'static str,
    state: Option<&'s PolicyState>,
    ids: &[usize],
    mut row: impl FnMut(&'s PolicyState, usize) -> I,
) -> Result<Targets>
where
    I: Iterator<Item = (u32, f32)>,
{
    let state = state.ok_or(QueueError::NotRefreshed { policy })?;
    if ids.is_empty() {
        return Err(QueueError::shape("targets", "ids", "at least 1", 0));
    }
    if let Some(&id) = ids.iter().find(|&&id| id >= state.len()) {
        return Err(QueueError::IdOutOfRange {
            operation: "targets",
            id,
            rows: state.len(),
        });
    }
    let rows: Vec<Vec<(u32, f32)>> = ids.iter().map(|&id| row(state, id).collect()).collect();
    let width = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let mut targets = Targets {
        width,
        ids: Vec::with_capacity(ids.len() * width),
        weights: Vec::with_capacity(ids.len() * width),
    };
    for (row, &id) in rows.iter().zip(ids) {
        targets.ids.extend(row.iter().map(|entry| entry.0));
        targets.weights.extend(row.iter().map(|entry| entry.1));
        let padding = width - row.len();
        targets.ids.extend(std::iter::repeat_n(id as u32, padding));
        targets.weights.extend(std::iter::repeat_n(0.0, padding));
    }
    Ok(targets)
}

/// What a policy requires of saved lists.
pub(crate) struct StateRule {
    pub(crate) policy: &'static str,
    /// Smallest and largest width.
    pub(crate) width: [usize; 2],
    pub(crate) weighted: bool,
}

/// Refuses lists of another policy or width, and lists that are damaged.
pub(crate) fn check_state(rule: &StateRule, state: &PolicyState) -> Result<()> {
    let policy = rule.policy;
    let fail = |what: &'static str, expected: String, found: String| {
        Err(QueueError::State {
            policy,
            what,
            expected,
            found,
        })
    };
    if state.policy != policy {
        return fail("lists of policy", policy.to_owned(), state.policy.clone());
    }
    let (n, width) = (state.len(), state.width);
    if n == 0 || n > i32::MAX as usize {
        return fail("rows", "between 1 and 2^31 - 1".to_owned(), n.to_string());
    }
    if width < rule.width[0] || width > rule.width[1] {
        let expected = format!("between {} and {}", rule.width[0], rule.width[1]);
        return fail("width", expected, width.to_string());
    }
    if n.checked_mul(width) != Some(state.ids.len()) {
        let expected = format!("{n} x {width}");
        return fail("ids", expected, state.ids.len().to_string());
    }
    let weights = if rule.weighted { state.ids.len() } else { 0 };
    if state.weights.len() != weights {
        return fail(
            "weights",
            weights.to_string(),
            state.weights.len().to_string(),
        );
    }
    if let Some(count) = state.counts.iter().find(|&&c| c == 0 || c as usize > width) {
        return fail(
            "counts",
            format!("between 1 and {width}"),
            count.to_string(),
        );
    }
    if let Some(id) = state.ids.iter().find(|&&id| id as usize >= n) {
        return fail("ids", format!("below {n}"), id.to_string());
    }
    if let Some(weight) = state
        .weights
        .iter()
        .find(|w| !(w.is_finite() && **w >= 0.0))
    {
        return fail("weights", "finite and >= 0".to_owned(), weight.to_string());
    }
    Ok(())
}

/// Refuses a label list that does not have one label a bank row.
pub(crate) fn check_labels(what: &'static str, labels: &[usize], n: usize) -> Result<()> {
    if labels.len() == n {
        Ok(())
    } else {
        Err(QueueError::shape("refresh", what, n, labels.len()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Unit rows around `groups` random directions, `[n, dim]`, and the direction of each.
    pub(crate) fn grouped(
        n: usize,
        dim: usize,
        groups: usize,
        seed: u64,
    ) -> (Tensor<2>, Vec<usize>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let centres: Vec<f32> = (0..groups * dim)
            .map(|_| rng.random_range(-1.0..1.0))
            .collect();
        let labels: Vec<usize> = (0..n).map(|_| rng.random_range(0..groups)).collect();
        let mut values = Vec::with_capacity(n * dim);
        for &label in &labels {
            let centre = &centres[label * dim..(label + 1) * dim];
            let row: Vec<f32> = centre
                .iter()
                .map(|c| c + rng.random_range(-0.6..0.6))
                .collect();
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-6);
            values.extend(row.iter().map(|x| x / norm));
        }
        (bank(values, dim), labels)
    }

    pub(crate) fn bank(values: Vec<f32>, dim: usize) -> Tensor<2> {
        let n = values.len() / dim;
        Tensor::from_data(TensorData::new(values, [n, dim]), &Device::flex())
    }

    /// The positives of one query as a list, padding removed.
    pub(crate) fn positives(targets: &Targets, row: usize) -> Vec<(u32, f32)> {
        let range = row * targets.width..(row + 1) * targets.width;
        targets.ids[range.clone()]
            .iter()
            .zip(&targets.weights[range])
            .filter(|(_, weight)| **weight > 0.0)
            .map(|(id, weight)| (*id, *weight))
            .collect()
    }

    fn policies() -> Vec<Box<dyn NeighbourPolicy>> {
        vec![
            Box::new(DownPolicy::new(DownParams::new(6)).unwrap()),
            Box::new(DnaPolicy::new(DnaParams::new(6)).unwrap()),
            Box::new(
                PrototypePolicy::new(PrototypeParams {
                    max_positives: 6,
                    ..PrototypeParams::default()
                })
                .unwrap(),
            ),
        ]
    }

    #[test]
    fn every_policy_resumes_with_the_same_lists() {
        let (bank, labels) = grouped(40, 8, 4, 1);
        let centroids = vec![0.5; 4 * 8];
        let context = RefreshContext {
            bank,
            coarse: &labels,
            refresh: 0,
            clusters: Some(Clusters {
                assignments: &labels,
                centroids: &centroids,
            }),
        };
        let ids = [3, 39, 0, 3];
        for (mut policy, mut fresh) in policies().into_iter().zip(policies()) {
            assert_eq!(
                policy.targets(&ids, 0).unwrap_err(),
                QueueError::NotRefreshed {
                    policy: policy.name()
                }
            );
            assert!(policy.state().is_none());
            policy.refresh(&context).unwrap();
            let saved = serde_json::to_string(policy.state().unwrap()).unwrap();
            fresh
                .restore(serde_json::from_str(&saved).unwrap())
                .unwrap();
            for epoch in [0, 7, 30] {
                let expected = policy.targets(&ids, epoch).unwrap();
                assert_eq!(expected, fresh.targets(&ids, epoch).unwrap());
                assert_eq!(expected.ids.len(), ids.len() * expected.width);
                assert_eq!(expected.weights.len(), expected.ids.len());
                for (row, &id) in ids.iter().enumerate() {
                    let list = positives(&expected, row);
                    assert_eq!(list[0].0 as usize, id, "{}", policy.name());
                }
            }
            assert!(matches!(
                policy.targets(&[40], 0),
                Err(QueueError::IdOutOfRange {
                    id: 40,
                    rows: 40,
                    ..
                })
            ));
            assert!(policy.targets(&[], 0).is_err());
        }
    }

    #[test]
    fn damaged_or_foreign_lists_are_refused() {
        let (bank, labels) = grouped(12, 6, 2, 4);
        let centroids = vec![1.0; 12];
        let context = RefreshContext {
            bank,
            coarse: &labels,
            refresh: 0,
            clusters: Some(Clusters {
                assignments: &labels,
                centroids: &centroids,
            }),
        };
        for mut policy in policies() {
            policy.refresh(&context).unwrap();
            let good = policy.state().unwrap().clone();
            let before = policy.targets(&[1], 0).unwrap();
            let damage: Vec<fn(&mut PolicyState)> = vec![
                |s| s.policy.push('x'),
                |s| s.width = 0,
                |s| s.width = usize::MAX,
                |s| s.ids.truncate(3),
                |s| s.ids[0] = 12,
                |s| s.counts[0] = 0,
                |s| s.counts[1] = 99,
                |s| s.counts.clear(),
                |s| s.weights.push(1.0),
            ];
            for spoil in damage {
                let mut bad = good.clone();
                spoil(&mut bad);
                let error = policy.restore(bad).unwrap_err();
                assert!(matches!(error, QueueError::State { .. }), "{error}");
                assert_eq!(policy.targets(&[1], 0).unwrap(), before);
            }
            policy.restore(good).unwrap();
        }
    }

    #[test]
    fn lists_of_another_topk_are_refused() {
        let (bank, labels) = grouped(12, 6, 2, 4);
        let context = RefreshContext {
            bank,
            coarse: &labels,
            refresh: 1,
            clusters: None,
        };
        let mut down = DownPolicy::new(DownParams::new(4)).unwrap();
        let mut dna = DnaPolicy::new(DnaParams::new(4)).unwrap();
        down.refresh(&context).unwrap();
        dna.refresh(&context).unwrap();
        for topk in [3, 5, usize::MAX] {
            let mut other = DownPolicy::new(DownParams::new(topk)).unwrap();
            assert!(other.restore(down.state().unwrap().clone()).is_err());
            assert!(other.targets(&[0], 0).is_err());
            let mut other = DnaPolicy::new(DnaParams::new(topk)).unwrap();
            assert!(other.restore(dna.state().unwrap().clone()).is_err());
        }
    }

    #[test]
    fn tensors_carry_ids_and_weights() {
        let targets = Targets {
            width: 2,
            ids: vec![4, 1, 0, 0],
            weights: vec![1.0, 0.5, 1.0, 0.0],
        };
        let (ids, weights) = targets.to_tensors(&Device::flex());
        assert_eq!(ids.dims(), [2, 2]);
        let ids: Vec<i32> = ids.into_data().iter::<i32>().collect();
        assert_eq!(ids, [4, 1, 0, 0]);
        assert_eq!(
            weights.into_data().try_to_vec::<f32>().unwrap(),
            targets.weights
        );
    }
}
