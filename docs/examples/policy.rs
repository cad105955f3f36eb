//! The policy of the recipe "add your own neighbour policy": mutual nearest neighbours.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use burn::tensor::{Device, Tensor};
use queue::{
    NeighbourParams, NeighbourPolicy, PolicyState, QueueError, RefreshContext, Targets,
    nearest_neighbours,
};

const NAME: &str = "mutual";

// ANCHOR: policy
/// `j` is a positive of `i` if each is among the `k` nearest of the other; all weigh 1. The sample
/// itself is always the first.
struct MutualPolicy {
    k: usize,
    state: Option<PolicyState>,
}

impl NeighbourPolicy for MutualPolicy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn refresh(&mut self, context: &RefreshContext<'_>) -> Result<(), QueueError> {
        let lists = nearest_neighbours(context.bank.clone(), &NeighbourParams::new(self.k))?;
        let row = |i: usize| lists.row(i).unwrap_or(&[]);
        let mut ids = Vec::with_capacity(lists.len() * lists.width);
        let mut counts = Vec::with_capacity(lists.len());
        for i in 0..lists.len() {
            let kept: Vec<u32> = row(i)
                .iter()
                .copied()
                .filter(|&j| row(j as usize).contains(&(i as u32)))
                .collect();
            counts.push(kept.len() as u32);
            let padding = lists.width - kept.len();
            ids.extend(kept);
            ids.extend(std::iter::repeat_n(i as u32, padding));
        }
        self.state = Some(PolicyState {
            policy: NAME.to_owned(),
            width: lists.width,
            counts,
            ids,
            weights: Vec::new(),
        });
        Ok(())
    }

    fn targets(&self, ids: &[usize], _epoch: usize) -> Result<Targets, QueueError> {
        let state = self
            .state
            .as_ref()
            .ok_or(QueueError::NotRefreshed { policy: NAME })?;
        let mut targets = Targets {
            width: state.width,
            ids: Vec::with_capacity(ids.len() * state.width),
            weights: Vec::with_capacity(ids.len() * state.width),
        };
        for &id in ids {
            if id >= state.len() {
                return Err(QueueError::IdOutOfRange {
                    operation: "targets",
                    id,
                    rows: state.len(),
                });
            }
            let row = state.row(id);
            let padding = state.width - row.len();
            targets.ids.extend(row);
            targets.ids.extend(std::iter::repeat_n(id as u32, padding));
            targets.weights.extend(std::iter::repeat_n(1.0, row.len()));
            targets.weights.extend(std::iter::repeat_n(0.0, padding));
        }
        Ok(targets)
    }

    fn state(&self) -> Option<&PolicyState> {
        self.state.as_ref()
    }

    fn restore(&mut self, state: PolicyState) -> Result<(), QueueError> {
        let rows_fit = state.ids.len() == state.len().saturating_mul(state.width)
            && state
                .counts
                .iter()
                .all(|&count| count >= 1 && count as usize <= state.width)
            && state.ids.iter().all(|&id| (id as usize) < state.len());
        if state.policy != NAME || state.width != self.k + 1 || !rows_fit {
            return Err(QueueError::State {
                policy: NAME,
                what: "lists of width",
                expected: (self.k + 1).to_string(),
                found: format!("{} of `{}`", state.width, state.policy),
            });
        }
        self.state = Some(state);
        Ok(())
    }
}
// ANCHOR_END: policy

// ANCHOR: test
#[test]
fn one_sided_neighbours_are_dropped_and_a_restored_policy_is_the_same() {
    // 0 and 1 are close to one another; 2 lists 1, but 1 does not list 2.
    let bank = Tensor::<2>::from_floats([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], &Device::flex());
    let mut policy = MutualPolicy { k: 1, state: None };
    assert!(policy.targets(&[0], 0).is_err());
    policy
        .refresh(&RefreshContext {
            bank,
            coarse: &[],
            refresh: 0,
            clusters: None,
        })
        .unwrap();
    let targets = policy.targets(&[0, 2], 0).unwrap();
    assert_eq!(targets.ids, [0, 1, 2, 2]);
    assert_eq!(targets.weights, [1.0, 1.0, 1.0, 0.0]);

    let mut resumed = MutualPolicy { k: 1, state: None };
    resumed.restore(policy.state().unwrap().clone()).unwrap();
    assert_eq!(resumed.targets(&[0, 2], 3).unwrap(), targets);
    let mut other = MutualPolicy { k: 2, state: None };
    assert!(other.restore(policy.state().unwrap().clone()).is_err());
}
// ANCHOR_END: test
