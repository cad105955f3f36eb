//! Objectives of sentence embeddings and their gradients.

use burn::tensor::{Int, Tensor};
use losses::{
    CoarseCrossEntropy, GeneratedRows, HierarchicalTripletConfig, L1Config, LeftClamp,
    LevelReduction, LossError, MseConfig, NgcseConfig, OrdinaryRows, SiameseHead, SmoothK2Config,
    TranslatedReluConfig, paired_cosine,
};

use super::probe::{CaseResult, Probe, refused};

/// Levels of similarity to an anchor, most similar first.
const LEVELS: [&str; 3] = ["pos", "mid", "neg"];

/// Losses of scores and labels, one for each pair.
type PairLoss = Box<dyn Fn(Tensor<1>, Tensor<1>) -> Result<Tensor<1>, LossError>>;

/// `left_clamp`: treatment of scores left of the smallest label.
fn left_clamp(probe: &Probe<'_>) -> CaseResult<LeftClamp> {
    match probe.word("left_clamp", "none")? {
        "none" => Ok(LeftClamp::None),
        "all" => Ok(LeftClamp::All),
        "label_min_only" => {
            let smallest = probe.opt_number("label_min")?.unwrap_or(0.0);
            Ok(LeftClamp::LabelMinOnly(smallest))
        }
        other => Err(probe.unknown("left_clamp", other)),
    }
}

/// The regression loss that `kind` names.
fn pair_loss(probe: &Probe<'_>, kind: &str) -> CaseResult<PairLoss> {
    let clamp = left_clamp(probe)?;
    match kind {
        "translated_relu" => {
            let (k, x0) = (probe.number("k")?, probe.number("x0")?);
            let config = TranslatedReluConfig::new().with_k(k).with_x0(x0);
            let loss = config.with_left_clamp(clamp).init().map_err(refused)?;
            Ok(Box::new(move |s, y| loss.forward_per_item(s, y)))
        }
        "smooth_k2" => {
            let (k, x0) = (probe.number("k")?, probe.number("x0")?);
            let config = SmoothK2Config::new().with_k(k).with_x0(x0);
            let loss = config.with_left_clamp(clamp).init().map_err(refused)?;
            Ok(Box::new(move |s, y| loss.forward_per_item(s, y)))
        }
        "l1" => {
            let loss = L1Config::new().with_left_clamp(clamp).init();
            let loss = loss.map_err(refused)?;
            Ok(Box::new(move |s, y| loss.forward_per_item(s, y)))
        }
        "mse" => {
            let loss = MseConfig::new().with_left_clamp(clamp).init();
            let loss = loss.map_err(refused)?;
            Ok(Box::new(move |s, y| loss.forward_per_item(s, y)))
        }
        other => Err(probe.unknown("kind", other)),
    }
}

/// `reduction` of the losses of the items.
fn reduce(probe: &Probe<'_>, items: Tensor<1>) -> CaseResult<Tensor<1>> {
    match probe.word("reduction", "mean")? {
        "mean" => Ok(items.mean()),
        "sum" => Ok(items.sum()),
        other => Err(probe.unknown("reduction", other)),
    }
}

/// `regression_losses`: inputs `pred`, `label`.
pub(super) fn regression(probe: &mut Probe<'_>) -> CaseResult {
    let loss = pair_loss(probe, probe.word("kind", "")?)?;
    let scores = probe.leaf::<1>("pred")?;
    let items = loss(scores.clone(), probe.tracked("label")?).map_err(refused)?;
    let value = reduce(probe, items.clone())?;
    let grads = value.backward();
    probe.put_tensor("per_item", items)?;
    probe.put_tensor("loss", value)?;
    probe.put_grad("pred", &scores, &grads)
}

/// `siamese_head`: inputs `u`, `v`, `weight`, `bias`, `label`.
pub(super) fn siamese_head(probe: &mut Probe<'_>) -> CaseResult {
    probe.require("features", "concat(u, v, |u-v|)")?;
    let (u, v) = (probe.leaf::<2>("u")?, probe.leaf::<2>("v")?);
    let weight = probe.tracked::<2>("weight")?;
    let outputs_first = match probe.word("weight_layout", "[out, 3*dim]")? {
        "[out, 3*dim]" => true,
        "[3*dim, out]" => false,
        other => return Err(probe.unknown("weight_layout", other)),
    };
    let transposed = |x: Tensor<2>| if outputs_first { x.transpose() } else { x };
    // `detach` makes the transpose a leaf of its own.
    let weight = transposed(weight).detach();
    let head = SiameseHead::from_tensors(weight, probe.tracked("bias")?).map_err(refused)?;
    let logits = head.forward(u.clone(), v.clone()).map_err(refused)?;
    let kind = probe.word("kind", "")?;
    let items = if kind == "cross_entropy" {
        let labels = probe.integers("label")?;
        let labels = Tensor::<1, Int>::from_data(labels.as_slice(), &logits.device());
        CoarseCrossEntropy.forward_per_item(logits.clone(), labels)
    } else {
        let loss = pair_loss(probe, kind)?;
        let scores = head.scores(u.clone(), v.clone()).map_err(refused)?;
        loss(scores, probe.tracked("label")?)
    };
    let value = reduce(probe, items.map_err(refused)?)?;
    let grads = value.backward();
    probe.put_tensor("loss", value)?;
    probe.put_tensor("logits", logits)?;
    probe.put_grad("u", &u, &grads)?;
    probe.put_grad("v", &v, &grads)?;
    let weight = head.linear.weight.val();
    let gradient = match weight.grad(&grads) {
        Some(gradient) => gradient,
        None => weight.without_autodiff().zeros_like(),
    };
    probe.put_tensor("grad.weight", transposed(gradient))?;
    match &head.linear.bias {
        Some(bias) => probe.put_grad("bias", &bias.val(), &grads),
        None => Ok(()),
    }
}

/// `m1`, `m2`, ...: the margins between levels.
fn margins(probe: &Probe<'_>) -> CaseResult<HierarchicalTripletConfig> {
    let mut margins = vec![probe.number("m1")?];
    while let Some(margin) = probe.opt_number(&format!("m{}", margins.len() + 1))? {
        margins.push(margin);
    }
    Ok(HierarchicalTripletConfig::new().with_margins(margins))
}

/// Names and leaves of the levels that the case has, after a prefix.
fn levels(probe: &Probe<'_>, prefix: &str) -> CaseResult<(Vec<&'static str>, Vec<Tensor<2>>)> {
    let present = |level: &&str| probe.has(&format!("{prefix}{level}"));
    let names: Vec<&'static str> = LEVELS.into_iter().filter(present).collect();
    let leaves = names
        .iter()
        .map(|level| probe.leaf(&format!("{prefix}{level}")))
        .collect::<CaseResult<_>>()?;
    Ok((names, leaves))
}

/// `hierarchical_triplet`: inputs `anchor`, `pos`, `mid`, `neg`, or the columns of the joint objective
/// with `o_` for ordinary and `g_` for generated rows.
pub(super) fn hierarchical_triplet(probe: &mut Probe<'_>) -> CaseResult {
    if probe.has("o_anchor") || probe.has("g_anchor") {
        return joint(probe);
    }
    const MEAN: &str = "batch mean of each hinge, then mean over the two level pairs";
    match probe.word("reduction", MEAN)? {
        word if word == "mean" || word.starts_with(MEAN) => {}
        other => return Err(probe.unknown("reduction", other)),
    }
    let anchors = probe.leaf::<2>("anchor")?;
    let (names, levels) = levels(probe, "")?;
    let config = margins(probe)?;
    let sum = config.clone().with_reduction(LevelReduction::Sum);
    let (loss, sum) = (
        config.init().map_err(refused)?,
        sum.init().map_err(refused)?,
    );
    let hinges = loss.hinges(anchors.clone(), &levels).map_err(refused)?;
    let value = loss.forward(anchors.clone(), &levels).map_err(refused)?;
    let sum = sum.forward(anchors.clone(), &levels).map_err(refused)?;
    let cosines = levels
        .iter()
        .map(|level| paired_cosine(anchors.clone(), level.clone()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(refused)?;
    let grads = value.backward();
    probe.put_tensor("loss", value)?;
    probe.put_tensor("loss_sum", sum)?;
    for (pair, names) in names.windows(2).enumerate() {
        let hinge = hinges.clone().narrow(1, pair, 1).mean();
        probe.put_tensor(format!("term_{}", names.join("_")), hinge)?;
    }
    probe.put_tensor("cos", Tensor::cat(cosines, 0))?;
    probe.put_grad("anchor", &anchors, &grads)?;
    for (name, level) in names.iter().zip(&levels) {
        probe.put_grad(name, level, &grads)?;
    }
    Ok(())
}

/// The contrast over ordinary and generated rows with the margins between generated levels.
fn joint(probe: &mut Probe<'_>) -> CaseResult {
    let loss = NgcseConfig::new()
        .with_temperature(probe.number("tau")?)
        .with_beta(probe.number("beta")?)
        .with_triplet(Some(margins(probe)?))
        .init()
        .map_err(refused)?;
    let mut leaves = Vec::new();
    let ordinary = if probe.has("o_anchor") {
        let (anchors, positives) = (probe.leaf::<2>("o_anchor")?, probe.leaf::<2>("o_pos")?);
        leaves.push(("o_anchor".to_owned(), anchors.clone()));
        leaves.push(("o_pos".to_owned(), positives.clone()));
        let hard_negatives = match probe.has("o_neg") {
            true => Some(probe.leaf::<2>("o_neg")?),
            false => None,
        };
        leaves.extend(
            hard_negatives
                .clone()
                .map(|leaf| ("o_neg".to_owned(), leaf)),
        );
        Some(OrdinaryRows {
            anchors,
            positives,
            hard_negatives,
        })
    } else {
        None
    };
    let generated = if probe.has("g_anchor") {
        let anchors = probe.leaf::<2>("g_anchor")?;
        leaves.push(("g_anchor".to_owned(), anchors.clone()));
        let (names, levels) = levels(probe, "g_")?;
        let named = names.iter().map(|name| format!("g_{name}"));
        leaves.extend(named.zip(levels.iter().cloned()));
        Some(GeneratedRows { anchors, levels })
    } else {
        None
    };
    let output = loss.forward(ordinary, generated).map_err(refused)?;
    let grads = output.loss.backward();
    probe.put_tensor("loss", output.loss)?;
    probe.put_tensor("nce", output.contrast)?;
    probe.put_tensor("ht", output.triplet)?;
    for (name, leaf) in &leaves {
        probe.put_grad(name, leaf, &grads)?;
    }
    Ok(())
}
