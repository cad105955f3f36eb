//! Losses and their gradients.

use burn::module::Param;
use burn::tensor::Tensor;
use losses::{
    BankInfoNceConfig, BaseParameterization, DiagonalGaussian, Divergence, DnaConfig,
    GaussianHeads, InfoNceConfig, InputNormalization, KlForm, NeighbourTargets, StarConfig,
    WeightNormalization, symmetric_gaussian_kl, symmetric_softmax_kl,
};
use serde_json::Value;

use super::probe::{CaseResult, Probe, refused};

/// The two forms of the divergence that files know.
enum Kl {
    Softmax(KlForm),
    Gaussian,
}

fn kl(probe: &Probe<'_>) -> CaseResult<Kl> {
    let form = match probe.word("kl_form", "sum")? {
        "sum" => KlForm::Sum,
        "mean" => KlForm::Mean,
        other => return Err(probe.unknown("kl_form", other)),
    };
    match probe.word("kl", "softmax")? {
        "softmax" => Ok(Kl::Softmax(form)),
        // The divergence of Gaussians is half the sum by definition.
        "gaussian" if form == KlForm::Mean => Ok(Kl::Gaussian),
        "gaussian" => Err(probe.unknown("kl_form", "sum with kl = gaussian")),
        other => Err(probe.unknown("kl", other)),
    }
}

fn weight_normalization(probe: &Probe<'_>) -> CaseResult<WeightNormalization> {
    match probe.word("weight_norm", "none")? {
        "none" => Ok(WeightNormalization::None),
        "row" => Ok(WeightNormalization::Row),
        other => Err(probe.unknown("weight_norm", other)),
    }
}

/// `normalise_inputs`: a flag, or a text that says which side.
fn normalise_inputs(probe: &Probe<'_>) -> CaseResult<InputNormalization> {
    match probe.param("normalise_inputs") {
        None | Some(Value::Bool(false)) => Ok(InputNormalization::None),
        Some(Value::Bool(true)) => Ok(InputNormalization::Both),
        Some(Value::String(text)) if text.starts_with("q only") => Ok(InputNormalization::Queries),
        Some(other) => Err(probe.unknown("normalise_inputs", other)),
    }
}

/// `similarity` of the losses over a bank.
fn similarity(probe: &Probe<'_>) -> CaseResult<InputNormalization> {
    match probe.word("similarity", "cosine")? {
        "cosine" => Ok(InputNormalization::Both),
        "dot" => Ok(InputNormalization::None),
        other => Err(probe.unknown("similarity", other)),
    }
}

/// The floor in `elu(linear(relu(x))) + 1 + FLOOR, ...`.
fn variance_floor(probe: &Probe<'_>) -> CaseResult<f64> {
    const FORM: &str = "elu(linear(relu(x))) + 1";
    let text = probe.word("sigma", "elu(linear(relu(x))) + 1 + 1e-8")?;
    let formula = text.split(',').next().unwrap_or(text).trim();
    let floor = match formula.strip_prefix(FORM).map(str::trim) {
        Some("") => Some(0.0),
        Some(rest) => rest
            .strip_prefix('+')
            .and_then(|floor| floor.trim().parse().ok()),
        None => None,
    };
    floor.ok_or_else(|| probe.unknown("sigma", text))
}

/// `star_loss`: inputs `q`, `h`, `w`, `base`, for Gaussians also `w_mu`, `b_mu`, `w_sigma`, `b_sigma`.
pub(super) fn star(probe: &mut Probe<'_>) -> CaseResult {
    probe.require("batch_reduction", "mean")?;
    let queries = probe.leaf::<2>("q")?;
    let bank = probe.leaf::<2>("h")?;
    let base = probe.leaf::<1>("base")?;
    let [_, hidden] = queries.dims();
    let kl = kl(probe)?;
    let divergence = match kl {
        Kl::Softmax(form) => Divergence::Softmax {
            temperature: 1.0,
            form,
        },
        Kl::Gaussian => Divergence::Gaussian {
            dim: probe.dims("w_mu")?[0],
            var_floor: variance_floor(probe)?,
            bank_head_grad: true,
        },
    };
    let mut star = StarConfig::new(hidden)
        .with_temperature(probe.number("tau")?)
        .with_gamma(probe.number("gamma")?)
        .with_divergence(divergence)
        // Replaced below by the tensor of the file.
        .with_base(BaseParameterization::TrainableRaw(1.0))
        .with_weight_normalization(weight_normalization(probe)?)
        .with_normalize_inputs(normalise_inputs(probe)?)
        .init(&queries.device(), 0)
        .map_err(refused)?;
    star.base = Param::from_tensor(base);
    if let Divergence::Gaussian { var_floor, .. } = divergence {
        // Files hold weights as [dim, hidden], the heads as [hidden, dim].
        let heads = GaussianHeads::from_tensors(
            probe.tracked::<2>("w_mu")?.transpose().detach(),
            probe.tracked("b_mu")?,
            probe.tracked::<2>("w_sigma")?.transpose().detach(),
            probe.tracked("b_sigma")?,
            var_floor,
        );
        star.heads = Some(heads.map_err(refused)?);
    }
    let targets = NeighbourTargets::from_dense(probe.tracked("w")?).map_err(refused)?;

    let items = star
        .forward_per_item(queries.clone(), bank.clone(), &targets)
        .map_err(refused)?;
    let output = star
        .forward(queries.clone(), bank.clone(), &targets)
        .map_err(refused)?;
    let distances = star
        .divergence(queries.clone(), bank.clone())
        .map_err(refused)?;
    let grads = output.loss.backward();
    probe.put_tensor("loss", output.loss)?;
    probe.put_tensor("term1", output.kl_term)?;
    probe.put_tensor("term2", output.euclidean_term)?;
    probe.put_tensor("term1_rows", items.kl_term)?;
    probe.put_tensor("term2_rows", items.euclidean_term)?;
    probe.put_tensor("d_kl", distances)?;
    probe.put_grad("q", &queries, &grads)?;
    probe.put_grad("h", &bank, &grads)?;
    probe.put_grad("base", &star.base.val(), &grads)?;
    if let Some(heads) = &star.heads {
        for (name, layer) in [("mu", &heads.fc_mu), ("sigma", &heads.fc_var)] {
            let weight = layer.weight.val();
            let gradient = match weight.grad(&grads) {
                Some(gradient) => gradient,
                None => weight.without_autodiff().zeros_like(),
            };
            probe.put_tensor(format!("grad.w_{name}"), gradient.transpose())?;
            if let Some(bias) = &layer.bias {
                probe.put_grad(&format!("b_{name}"), &bias.val(), &grads)?;
            }
        }
    }
    Ok(())
}

/// `bidirectional_kl`: inputs `q`, `h`, or `mu_q`, `var_q`, `mu_h`, `var_h`; the loss is
/// `sum(cot * d)`.
pub(super) fn bidirectional_kl(probe: &mut Probe<'_>) -> CaseResult {
    probe.require("loss", "sum(cot * d)")?;
    let (names, form): (&[&str], _) = match kl(probe)? {
        Kl::Softmax(form) => (&["q", "h"], Some(form)),
        Kl::Gaussian => (&["mu_q", "var_q", "mu_h", "var_h"], None),
    };
    let leaves: Vec<Tensor<2>> = names
        .iter()
        .map(|name| probe.leaf(name))
        .collect::<CaseResult<_>>()?;
    let distances = match (leaves.as_slice(), form) {
        ([queries, bank], Some(form)) => {
            symmetric_softmax_kl(queries.clone(), bank.clone(), 1.0, form)
        }
        ([mean_q, variance_q, mean_h, variance_h], _) => {
            let gaussian = |mean: &Tensor<2>, variance: &Tensor<2>| DiagonalGaussian {
                mean: mean.clone(),
                variance: variance.clone(),
            };
            let queries = gaussian(mean_q, variance_q);
            symmetric_gaussian_kl(queries, gaussian(mean_h, variance_h))
        }
        // The names above come in twos or fours.
        _ => return Ok(()),
    };
    let distances = distances.map_err(refused)?;
    let cotangent = probe.tracked::<2>("cot")?;
    if cotangent.dims() != distances.dims() {
        let message = format!(
            "distances {:?}, cot {:?}",
            distances.dims(),
            cotangent.dims()
        );
        return Err(super::probe::CaseError::Refused(message.into()));
    }
    let loss = (distances.clone() * cotangent).sum();
    let grads = loss.backward();
    probe.put_tensor("d", distances)?;
    probe.put_tensor("loss", loss)?;
    for (name, leaf) in names.iter().zip(&leaves) {
        probe.put_grad(name, leaf, &grads)?;
    }
    Ok(())
}

/// `down_loss`: inputs `q`, `h`, `w`.
pub(super) fn down(probe: &mut Probe<'_>) -> CaseResult {
    let loss = BankInfoNceConfig::new()
        .with_temperature(probe.number("tau")?)
        .with_weight_normalization(weight_normalization(probe)?)
        .with_normalize_inputs(similarity(probe)?)
        .init()
        .map_err(refused)?;
    over_bank(probe, |queries, bank, targets| {
        let rows = loss.forward_per_item(queries.clone(), bank.clone(), targets)?;
        Ok((rows, loss.forward(queries, bank, targets)?))
    })
}

/// `dna_loss`: inputs `q`, `h`, `w` (0 or 1).
pub(super) fn dna(probe: &mut Probe<'_>) -> CaseResult {
    probe.require("weight_norm", "row")?;
    let loss = DnaConfig::new()
        .with_temperature(probe.number("tau")?)
        .with_normalize_inputs(similarity(probe)?)
        .init()
        .map_err(refused)?;
    over_bank(probe, |queries, bank, targets| {
        let rows = loss.forward_per_item(queries.clone(), bank.clone(), targets)?;
        Ok((rows, loss.forward(queries, bank, targets)?))
    })
}

/// Loss of every row and batch mean of an objective over a bank.
fn over_bank(
    probe: &mut Probe<'_>,
    objective: impl Fn(
        Tensor<2>,
        Tensor<2>,
        &NeighbourTargets,
    ) -> Result<(Tensor<1>, Tensor<1>), losses::LossError>,
) -> CaseResult {
    let (queries, bank) = (probe.leaf::<2>("q")?, probe.leaf::<2>("h")?);
    let targets = NeighbourTargets::from_dense(probe.tracked("w")?).map_err(refused)?;
    let (rows, mean) = objective(queries.clone(), bank.clone(), &targets).map_err(refused)?;
    let grads = mean.backward();
    probe.put_tensor("rows", rows)?;
    probe.put_tensor("loss", mean)?;
    probe.put_grad("q", &queries, &grads)?;
    probe.put_grad("h", &bank, &grads)
}

/// `info_nce`: inputs `z1`, `z2`, with hard negatives also `z3`.
pub(super) fn info_nce(probe: &mut Probe<'_>) -> CaseResult {
    let weight = probe.opt_number("hard_negative_weight")?.unwrap_or(0.0);
    let loss = InfoNceConfig::new()
        .with_temperature(probe.number("tau")?)
        .with_hard_negative_weight(weight)
        .init()
        .map_err(refused)?;
    let (anchors, positives) = (probe.leaf::<2>("z1")?, probe.leaf::<2>("z2")?);
    let negatives = match probe.has("z3") {
        true => Some(probe.leaf::<2>("z3")?),
        false => None,
    };
    let inputs = || (anchors.clone(), positives.clone(), negatives.clone());
    let (a, p, n) = inputs();
    let rows = loss.forward_per_item(a, p, n).map_err(refused)?;
    let (a, p, n) = inputs();
    let accuracy = loss.accuracy(a, p, n).map_err(refused)?;
    let (a, p, n) = inputs();
    let mean = loss.forward(a, p, n).map_err(refused)?;
    let grads = mean.backward();
    probe.put_tensor("rows", rows)?;
    probe.put_tensor("accuracy", accuracy)?;
    probe.put_tensor("loss", mean)?;
    probe.put_grad("z1", &anchors, &grads)?;
    probe.put_grad("z2", &positives, &grads)?;
    if let Some(negatives) = &negatives {
        probe.put_grad("z3", negatives, &grads)?;
    }
    Ok(())
}
