//! Learning rate and optimiser.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use training::{AdamW, AdamWConfig, DecayOrder, LinearSchedule, PathPredicate, clip};

use super::probe::{CaseResult, Probe, refused};

/// `schedule`: input `step`.
pub(super) fn schedule(probe: &mut Probe<'_>) -> CaseResult {
    let schedule = LinearSchedule {
        peak: probe.number("lr")?,
        warmup_steps: probe.count("warmup_steps")? as u64,
        total_steps: probe.count("total_steps")? as u64,
    };
    let steps = probe.ids("step")?;
    let rates = steps.iter().map(|&step| schedule.lr(step as u64)).collect();
    probe.put_numbers("lr", rates);
    Ok(())
}

/// Least squares, `mean((Xw + b - y)^2)`.
#[derive(Module, Debug)]
struct Regression {
    w: Param<Tensor<1>>,
    b: Param<Tensor<1>>,
}

impl Regression {
    /// `x` is `[rows, dim]`, `y` is `[rows]`.
    fn loss(&self, x: Tensor<2>, y: Tensor<1>) -> Tensor<1> {
        let [_, dim] = x.dims();
        let product = x.matmul(self.w.val().reshape([dim, 1])); // [rows, 1]
        let error = product.squeeze_dim::<1>(1) + self.b.val() - y;
        error.clone().mul(error).mean()
    }
}

/// `adamw`: inputs `X`, `y`, `w0`, `b0`; `steps` decays before, `steps_alt` after the update.
pub(super) fn adamw(probe: &mut Probe<'_>) -> CaseResult {
    probe.require("loss", "mean((Xw+b-y)^2)")?;
    let decay_w = probe.number("weight_decay_w")?;
    let decay_b = probe.opt_number("weight_decay_b")?.unwrap_or(0.0);
    // The optimiser knows one strength of decay and parameters without any.
    let (weight_decay, without) = match (decay_w, decay_b) {
        (w, b) if w == b => (w, PathPredicate::none()),
        (w, 0.0) => (w, PathPredicate::below("b")),
        (0.0, b) => (b, PathPredicate::below("w")),
        (_, b) => return Err(probe.unknown("weight_decay_b", b)),
    };
    let (x, y) = (probe.tracked::<2>("X")?, probe.tracked::<1>("y")?);
    let lr = probe.number("lr")?;
    let max_norm = probe.opt_number("clip_norm")?;
    for (item, decay_order) in [
        ("steps", DecayOrder::BeforeStep),
        ("steps_alt", DecayOrder::AfterStep),
    ] {
        let config = AdamWConfig {
            beta1: probe.number("beta1")?,
            beta2: probe.number("beta2")?,
            eps: probe.number("eps")?,
            weight_decay,
            decay_order,
            no_decay: without.clone(),
            ..AdamWConfig::default()
        };
        let mut optimiser = AdamW::new(config).map_err(refused)?;
        let mut model = Regression {
            w: Param::from_tensor(probe.tracked("w0")?),
            b: Param::from_tensor(probe.tracked("b0")?),
        };
        for step in 0..probe.expected_length(item) {
            let loss = model.loss(x.clone(), y.clone());
            let mut grads = loss.backward();
            let clipped = clip(&model, &grads, max_norm, step as u64).map_err(refused)?;
            model = optimiser
                .step(lr, model, &mut grads, clipped.scale)
                .map_err(refused)?;
            let path = |name: &str| format!("{item}[{step}].{name}");
            probe.put_tensor(path("loss"), loss)?;
            probe.put_number(path("grad_norm"), clipped.norm);
            probe.put_tensor(path("w"), model.w.val())?;
            probe.put_tensor(path("b"), model.b.val())?;
        }
    }
    Ok(())
}
