//! Correlations, aggregation over subsets, alignment and uniformity, relative fitting difficulty.

use losses::{AlignmentConfig, UniformityConfig};
use metrics::{
    Aggregation, StsCorrelation, StsSubset, TracePoint, alignment_with, pearson,
    relative_fitting_difficulty, spearman, sts_scores, uniformity_with,
};

use super::probe::{CaseError, CaseResult, Probe, refused};

/// `correlations`: inputs `x`, `y`, or subsets `sys_0`, `gold_0`, `sys_1`, ...
pub(super) fn correlations(probe: &mut Probe<'_>) -> CaseResult {
    if probe.has("x") {
        let (x, y) = (probe.doubles("x")?, probe.doubles("y")?);
        probe.put_number("pearson", pearson(x, y).map_err(refused)?);
        probe.put_number("spearman", spearman(x, y).map_err(refused)?);
        return Ok(());
    }
    let mut sets = Vec::new();
    for set in 0..probe.list("sizes")?.len() {
        let predicted = probe.doubles(&format!("sys_{set}"))?;
        let gold = probe.doubles(&format!("gold_{set}"))?;
        sets.push((format!("set {set}"), predicted, gold));
    }
    let subsets: Vec<StsSubset<'_>> = sets
        .iter()
        .map(|(name, predicted, gold)| StsSubset {
            name,
            predicted,
            gold,
        })
        .collect();
    let scores = sts_scores(&subsets).map_err(refused)?;
    let mut put = |measure: &str, found: &StsCorrelation| {
        for aggregation in Aggregation::ALL {
            let path = format!("{measure}.{}", aggregation.name());
            probe.put_number(path, found.get(aggregation));
        }
        probe.put_numbers(format!("{measure}.per_set"), found.per_subset.clone());
    };
    put("pearson", &scores.pearson);
    put("spearman", &scores.spearman);
    Ok(())
}

/// `alignment_uniformity`: inputs `x`, `y`, or the traces of a run. Values are computed twice, as
/// metrics in f64 and as objectives, which also have the gradients.
pub(super) fn alignment_uniformity(probe: &mut Probe<'_>) -> CaseResult {
    if !probe.has("x") {
        return fitting_difficulty(probe);
    }
    probe.require("pairs", "i<j")?;
    let (alpha, t) = (probe.number("alpha")?, probe.number("t")?);
    let on_y = match probe.word("uniformity_on", "x")? {
        "x" => false,
        "y" => true,
        other => return Err(probe.unknown("uniformity_on", other)),
    };
    let [_, dim] = probe.dims("x")?;
    let (x, y) = (probe.floats("x")?, probe.floats("y")?);
    let alignment = alignment_with(&x, &y, dim, alpha).map_err(refused)?;
    let rows = if on_y { &y } else { &x };
    let uniformity = uniformity_with(rows, dim, t).map_err(refused)?;
    probe.put_number("alignment", alignment);
    probe.put_number("uniformity", uniformity);
    probe.put_number("loss", alignment + uniformity);

    let (x, y) = (probe.leaf::<2>("x")?, probe.leaf::<2>("y")?);
    let alignment = AlignmentConfig::new().with_alpha(alpha).init();
    let uniformity = UniformityConfig::new().with_t(t).init();
    let rows = if on_y { &y } else { &x };
    let uniformity = uniformity.and_then(|objective| objective.forward(rows.clone()));
    let alignment = alignment.and_then(|objective| objective.forward(x.clone(), y.clone()));
    let (alignment, uniformity) = (alignment.map_err(refused)?, uniformity.map_err(refused)?);
    let loss = alignment.clone() + uniformity.clone();
    let grads = loss.backward();
    probe.put_tensor("alignment", alignment)?;
    probe.put_tensor("uniformity", uniformity)?;
    probe.put_tensor("loss", loss)?;
    probe.put_grad("x", &x, &grads)?;
    probe.put_grad("y", &y, &grads)
}

/// Inputs `step` and alignment and uniformity of `train` and `eval` at each of the steps.
fn fitting_difficulty(probe: &mut Probe<'_>) -> CaseResult {
    let steps = probe.ids("step")?;
    let trace = |side: &str| -> CaseResult<Vec<TracePoint>> {
        let alignment = probe.doubles(&format!("{side}_alignment"))?;
        let uniformity = probe.doubles(&format!("{side}_uniformity"))?;
        if alignment.len() != steps.len() || uniformity.len() != steps.len() {
            let message = format!("{side}: expected {} values for as many steps", steps.len());
            return Err(CaseError::Refused(message.into()));
        }
        let values = alignment.iter().zip(uniformity);
        Ok(steps
            .iter()
            .zip(values)
            .map(|(&step, (&alignment, &uniformity))| TracePoint {
                step: step as u64,
                alignment,
                uniformity,
            })
            .collect())
    };
    let (train, eval) = (trace("train")?, trace("eval")?);
    let start = probe.count("start_step")? as u64;
    let found = relative_fitting_difficulty(&train, &eval, start).map_err(refused)?;
    probe.put_number("rfd_a", found.alignment);
    probe.put_number("rfd_u", found.uniformity);
    Ok(())
}
