//! Memory bank, momentum update, neighbours, weights by rank.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use queue::{
    MemoryBank, NeighbourParams, RankWeights, momentum_copy, nearest_neighbours, update_momentum,
};

use super::probe::{CaseError, CaseResult, Probe, refused};

#[derive(Module, Debug)]
struct Theta {
    theta: Param<Tensor<1>>,
}

/// `queue`: `queue0`, `theta_m0`, and for every round a row of `index`, `values`, `theta`. Items named
/// `topN` are the N nearest rows of every row at the end, itself first.
pub(super) fn queue(probe: &mut Probe<'_>) -> CaseResult {
    let device = probe.device();
    let [_, dim] = probe.dims("queue0")?;
    let mut bank = MemoryBank::new(probe.constant("queue0")?).map_err(refused)?;
    let module = |values: &[f32]| {
        let data = TensorData::new(values.to_vec(), [values.len()]);
        let tensor = Tensor::from_data(data, &device.clone().autodiff());
        Theta {
            theta: Param::from_tensor(tensor),
        }
    };
    let mut slow = momentum_copy(&module(&probe.floats("theta_m0")?));
    let momentum = probe.number("momentum")?;

    let [rounds, batch] = probe.dims("index")?;
    let (index, values) = (probe.ids("index")?, probe.floats("values")?);
    let theta = probe.floats("theta")?;
    let [_, theta_dim] = probe.dims("theta")?;
    let fits = values.len() == rounds * batch * dim && theta.len() == rounds * theta_dim;
    if !fits || batch * dim == 0 || theta_dim == 0 {
        let message = format!(
            "{rounds} rounds of {batch} rows of {dim} and theta of {theta_dim}: got {} values and {} of theta",
            values.len(),
            theta.len()
        );
        return Err(CaseError::Refused(message.into()));
    }
    let rows = values.chunks(batch * dim);
    let rounds = index.chunks(batch).zip(rows).zip(theta.chunks(theta_dim));
    for ((ids, rows), theta) in rounds {
        let data = TensorData::new(rows.to_vec(), [batch, dim]);
        let rows = Tensor::from_data(data, device);
        bank.update(ids, rows).map_err(refused)?;
        slow = update_momentum(slow, &module(theta), momentum).map_err(refused)?;
    }
    probe.put_tensor("queue", bank.vectors())?;
    probe.put_tensor("theta_m", slow.theta.val())?;

    let items: Vec<&str> = probe.expected_items().collect();
    for item in items {
        let width = item
            .strip_prefix("top")
            .and_then(|n| n.parse::<usize>().ok());
        // Fewer rows than asked for are listed all.
        let width = width.map(|width| width.min(bank.len()));
        let Some(neighbours) = width.and_then(|width| width.checked_sub(1)) else {
            continue;
        };
        let params = NeighbourParams::new(neighbours);
        let found = nearest_neighbours(bank.vectors(), &params).map_err(refused)?;
        probe.put_numbers(item, found.ids.iter().map(|&id| f64::from(id)).collect());
    }
    Ok(())
}

/// `neighbour_weights`: input `epoch`.
pub(super) fn neighbour_weights(probe: &mut Probe<'_>) -> CaseResult {
    let topk = probe.size("topk")?;
    let weights = RankWeights::new(topk, probe.list("bases")?, probe.count("epochs_per_base")?);
    let weights = weights.map_err(refused)?;
    let epochs = probe.ids("epoch")?;
    let all: Vec<f32> = epochs.iter().flat_map(|&e| weights.weights(e)).collect();
    probe.put_floats("weights", all);
    Ok(())
}
