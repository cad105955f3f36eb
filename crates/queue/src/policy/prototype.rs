//! Prototypes: the positives of a query are the core of its own cluster.

use std::collections::BTreeMap;

use super::{
    Clusters, NeighbourPolicy, PolicyState, RefreshContext, StateRule, Targets, assemble,
    check_labels, check_state,
};
use crate::bank::{host_data, host_slice};
use crate::error::{QueueError, Result};
use crate::neighbours::{NeighbourParams, nearest_neighbours};

const NAME: &str = "prototype";

/// Settings of [`PrototypePolicy`].
#[derive(Debug, Clone, PartialEq)]
pub struct PrototypeParams {
    /// Positives of a query at most, beside the query itself. Default 120.
    pub max_positives: usize,
    /// Temperature T of the weights; smaller means that only the core of the cluster counts.
    /// Default 0.1: of two members whose cosines with the prototype are 0.9 and 0.7, the second
    /// weighs exp(-2) = 0.14 of the first.
    pub temperature: f32,
    /// Drops members whose coarse label differs from the query's: they cannot share its fine
    /// category. Default true.
    pub coarse_filter: bool,
    /// See [`NeighbourParams::block_rows`]. Default 512.
    pub block_rows: usize,
}

impl Default for PrototypeParams {
    fn default() -> Self {
        Self {
            max_positives: 120,
            temperature: 0.1,
            coarse_filter: true,
            block_rows: 512,
        }
    }
}

/// Positives from the query's current k-means cluster, weighted by how typical they are.
///
/// With a(i) the cluster of sample i, c its centroid and h_j the bank row of sample j,
///
/// ```text
/// P(i) = i and the max_positives members j of cluster a(i) (with the coarse label of i)
///        that have the largest dot products h_i . h_j
/// s_j  = cos(h_j, c_a(i))
/// w_ij = exp( (s_j - max over l in P(i) of s_l) / T )
/// ```
///
/// which, after the losses divide by the row sum, is a softmax of the similarity to the prototype
/// over the positives. A softmax rather than max(0, s): members of one cluster have cosines close to
/// one another and well above zero, which a clamp would weigh almost alike, and a clamp can give a
/// row no weight at all. An outlier pulls on others little and is itself pulled to its core.
///
/// **This rule is our own.** A third host method of STAR is named in the literature without a public
/// definition; this is not a reproduction of it.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use queue::{Clusters, NeighbourPolicy, PrototypeParams, PrototypePolicy, RefreshContext};
///
/// let bank = Tensor::<2>::from_floats([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], &Device::flex());
/// let mut policy = PrototypePolicy::new(PrototypeParams { max_positives: 2, ..Default::default() })?;
/// policy.refresh(&RefreshContext {
///     bank,
///     coarse: &[0, 0, 0],
///     refresh: 0,
///     clusters: Some(Clusters { assignments: &[0, 0, 1], centroids: &[0.9, 0.3, 0.0, 1.0] }),
/// })?;
/// assert_eq!(policy.targets(&[1, 0], 0)?.ids, [1, 0, 0, 1]);
/// assert_eq!(policy.targets(&[2], 0)?.ids, [2]);
/// # Ok::<(), queue::QueueError>(())
/// ```
#[derive(Debug, Clone)]
pub struct PrototypePolicy {
    params: PrototypeParams,
    state: Option<PolicyState>,
}

impl PrototypePolicy {
    /// The policy without lists.
    ///
    /// # Errors
    /// [`QueueError::InvalidParameter`] if `max_positives` is 0 or the temperature is not a positive
    /// number.
    pub fn new(params: PrototypeParams) -> Result<Self> {
        if params.max_positives == 0 {
            return Err(QueueError::parameter("max_positives", "at least 1", 0));
        }
        if !(params.temperature.is_finite() && params.temperature > 0.0) {
            return Err(QueueError::parameter(
                "temperature",
                "a finite number > 0",
                params.temperature,
            ));
        }
        Ok(Self {
            params,
            state: None,
        })
    }
}

impl NeighbourPolicy for PrototypePolicy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs_clusters(&self) -> bool {
        true
    }

    fn refresh(&mut self, context: &RefreshContext<'_>) -> Result<()> {
        let [n, dim] = context.bank.dims();
        let clusters = context
            .clusters
            .ok_or(QueueError::MissingClusters { policy: NAME })?;
        check_clusters(&clusters, n, dim)?;
        if self.params.coarse_filter {
            check_labels("coarse labels", context.coarse, n)?;
        }
        let groups = self.groups(context, &clusters);
        let lists = nearest_neighbours(
            context.bank.clone(),
            &NeighbourParams {
                k: self.params.max_positives.min(n.saturating_sub(1)),
                block_rows: self.params.block_rows,
                self_first: true,
                coarse_filter: Some(&groups),
            },
        )?;
        let data = host_data("refresh", context.bank.clone().without_autodiff())?;
        let host = host_slice("refresh", &data)?;
        let similarity = prototype_similarity(host, dim, &clusters);
        let temperature = f64::from(self.params.temperature);
        let mut weights = Vec::with_capacity(lists.ids.len());
        for i in 0..n {
            let row = lists.row(i).unwrap_or(&[]);
            let of = |j: &u32| similarity[*j as usize];
            let best = row.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
            // The floor keeps the weight of a far member positive at tiny temperatures.
            let weight = |s: f64| (((s - best) / temperature).exp() as f32).max(f32::MIN_POSITIVE);
            weights.extend(row.iter().map(|j| weight(of(j))));
            weights.extend(std::iter::repeat_n(0.0, lists.width - row.len()));
        }
        self.state = Some(PolicyState {
            policy: NAME.to_owned(),
            width: lists.width,
            counts: lists.counts,
            ids: lists.ids,
            weights,
        });
        Ok(())
    }

    fn targets(&self, ids: &[usize], _epoch: usize) -> Result<Targets> {
        assemble(NAME, self.state.as_ref(), ids, |state, id| {
            let weights = state.row_weights(id).iter().copied();
            state.row(id).iter().copied().zip(weights)
        })
    }

    fn state(&self) -> Option<&PolicyState> {
        self.state.as_ref()
    }

    fn restore(&mut self, state: PolicyState) -> Result<()> {
        let rule = StateRule {
            policy: NAME,
            width: [1, self.params.max_positives.saturating_add(1)],
            weighted: true,
        };
        check_state(&rule, &state)?;
        self.state = Some(state);
        Ok(())
    }
}

impl PrototypePolicy {
    /// One group number a sample: its cluster, split by coarse label if wanted.
    fn groups(&self, context: &RefreshContext<'_>, clusters: &Clusters<'_>) -> Vec<usize> {
        if !self.params.coarse_filter {
            return clusters.assignments.to_vec();
        }
        let mut numbers = BTreeMap::new();
        clusters
            .assignments
            .iter()
            .zip(context.coarse)
            .map(|pair| {
                let next = numbers.len();
                *numbers.entry(pair).or_insert(next)
            })
            .collect()
    }
}

/// Cosine of every sample with the centroid of its cluster, `[n]`.
fn prototype_similarity(values: &[f32], dim: usize, clusters: &Clusters<'_>) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(x, y)| f64::from(*x) * f64::from(*y))
            .sum()
    };
    values
        .chunks(dim)
        .zip(clusters.assignments)
        .map(|(row, &cluster)| {
            let centroid = &clusters.centroids[cluster * dim..(cluster + 1) * dim];
            let norms = dot(row, row).sqrt() * dot(centroid, centroid).sqrt();
            // A centroid of length zero has no direction: all members count alike.
            dot(row, centroid) / norms.max(1e-12)
        })
        .collect()
}

fn check_clusters(clusters: &Clusters<'_>, n: usize, dim: usize) -> Result<()> {
    check_labels("cluster assignments", clusters.assignments, n)?;
    if dim == 0 || !clusters.centroids.len().is_multiple_of(dim) {
        return Err(QueueError::shape(
            "refresh",
            "centroid values",
            format!("a multiple of {dim}"),
            clusters.centroids.len(),
        ));
    }
    let k = clusters.centroids.len() / dim;
    if let Some(&id) = clusters.assignments.iter().find(|&&cluster| cluster >= k) {
        return Err(QueueError::IdOutOfRange {
            operation: "refresh: cluster assignments",
            id,
            rows: k,
        });
    }
    crate::bank::check_finite("refresh: centroids", clusters.centroids, 0, dim)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::tests::{bank, grouped, positives};
    use super::*;

    fn centroids(values: &[f32], dim: usize, labels: &[usize], k: usize) -> Vec<f32> {
        let mut sums = vec![0.0; k * dim];
        for (row, &label) in values.chunks(dim).zip(labels) {
            for (sum, value) in sums[label * dim..].iter_mut().zip(row) {
                *sum += value;
            }
        }
        sums
    }

    #[test]
    fn equals_a_direct_computation() {
        let (bank, labels) = grouped(60, 5, 4, 17);
        let values: Vec<f32> = bank.to_data().try_to_vec().unwrap();
        let centroids = centroids(&values, 5, &labels, 4);
        let coarse: Vec<usize> = (0..60).map(|i| i % 2 + 5).collect();
        for (coarse_filter, max_positives) in [(true, 4), (false, 9), (true, 500)] {
            let mut policy = PrototypePolicy::new(PrototypeParams {
                max_positives,
                temperature: 0.2,
                coarse_filter,
                block_rows: 7,
            })
            .unwrap();
            policy
                .refresh(&RefreshContext {
                    bank: bank.clone(),
                    coarse: &coarse,
                    refresh: 3,
                    clusters: Some(Clusters {
                        assignments: &labels,
                        centroids: &centroids,
                    }),
                })
                .unwrap();
            let all: Vec<usize> = (0..60).collect();
            let targets = policy.targets(&all, 0).unwrap();
            let row = |i: usize| &values[i * 5..(i + 1) * 5];
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter()
                    .zip(b)
                    .map(|(x, y)| f64::from(*x) * f64::from(*y))
                    .sum()
            };
            for i in 0..60 {
                let mut members: Vec<usize> = (0..60)
                    .filter(|&j| j != i && labels[j] == labels[i])
                    .filter(|&j| !coarse_filter || coarse[j] == coarse[i])
                    .collect();
                members.sort_by(|&a, &b| dot(row(i), row(b)).total_cmp(&dot(row(i), row(a))));
                members.truncate(max_positives);
                members.insert(0, i);
                let centroid = &centroids[labels[i] * 5..(labels[i] + 1) * 5];
                let raw: Vec<f64> = members
                    .iter()
                    .map(|&j| {
                        let lengths = (dot(row(j), row(j)) * dot(centroid, centroid)).sqrt();
                        (dot(row(j), centroid) / lengths / 0.2).exp()
                    })
                    .collect();
                let got = positives(&targets, i);
                let ids: Vec<usize> = got.iter().map(|entry| entry.0 as usize).collect();
                assert_eq!(ids, members);
                // Equal after normalisation, and the largest raw weight is 1.
                let (sum, total): (f64, f64) =
                    (got.iter().map(|e| f64::from(e.1)).sum(), raw.iter().sum());
                for (entry, raw) in got.iter().zip(&raw) {
                    assert!((f64::from(entry.1) / sum - raw / total).abs() < 1e-6);
                }
                assert_eq!(got.iter().map(|e| e.1).fold(0.0, f32::max), 1.0);
            }
        }
    }

    #[test]
    fn tiny_temperatures_and_zero_centroids_leave_positive_weights() {
        let bank = bank(vec![1.0, 0.0, 0.0, 1.0, 0.6, 0.8], 2);
        for centroids in [[1.0, 0.0], [0.0, 0.0]] {
            let mut policy = PrototypePolicy::new(PrototypeParams {
                temperature: 1e-6,
                coarse_filter: false,
                ..PrototypeParams::default()
            })
            .unwrap();
            policy
                .refresh(&RefreshContext {
                    bank: bank.clone(),
                    coarse: &[],
                    refresh: 0,
                    clusters: Some(Clusters {
                        assignments: &[0, 0, 0],
                        centroids: &centroids,
                    }),
                })
                .unwrap();
            let targets = policy.targets(&[0, 1, 2], 0).unwrap();
            assert!(targets.weights.iter().all(|w| w.is_finite() && *w > 0.0));
        }
    }

    #[test]
    fn hostile_input_is_refused() {
        for params in [
            PrototypeParams {
                max_positives: 0,
                ..PrototypeParams::default()
            },
            PrototypeParams {
                temperature: 0.0,
                ..PrototypeParams::default()
            },
            PrototypeParams {
                temperature: f32::NAN,
                ..PrototypeParams::default()
            },
        ] {
            assert!(PrototypePolicy::new(params).is_err());
        }
        let mut policy = PrototypePolicy::new(PrototypeParams::default()).unwrap();
        assert!(policy.needs_clusters());
        let tensor = bank(vec![1.0, 0.0, 0.0, 1.0], 2);
        let mut refresh = |assignments: &[usize], centroids: &[f32], coarse: &[usize]| {
            policy.refresh(&RefreshContext {
                bank: tensor.clone(),
                coarse,
                refresh: 0,
                clusters: Some(Clusters {
                    assignments,
                    centroids,
                }),
            })
        };
        assert!(refresh(&[0], &[1.0, 0.0], &[0, 0]).is_err());
        assert!(refresh(&[0, 1], &[1.0, 0.0], &[0, 0]).is_err());
        assert!(refresh(&[0, 0], &[1.0, 0.0, 3.0], &[0, 0]).is_err());
        assert!(refresh(&[0, 0], &[1.0, f32::NAN], &[0, 0]).is_err());
        assert!(refresh(&[0, 0], &[1.0, 0.0], &[0]).is_err());
        refresh(&[0, 0], &[1.0, 0.0], &[0, 0]).unwrap();
        let none = policy.refresh(&RefreshContext {
            bank: tensor.clone(),
            coarse: &[0, 0],
            refresh: 0,
            clusters: None,
        });
        assert_eq!(
            none.unwrap_err(),
            QueueError::MissingClusters { policy: NAME }
        );
    }
}
