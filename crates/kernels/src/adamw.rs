//! One AdamW step over one parameter tensor.
//!
//! ```text
//! g  <- grad_scale * g
//! m  <- beta1 m + (1 - beta1) g              v <- beta2 v + (1 - beta2) g^2
//! c1 = 1 - beta1^t                           c2 = 1 - beta2^t
//!
//! before: p <- (1 - lr wd) p;  p <- p - lr (m / c1) / (sqrt(v / c2) + eps)
//! after:  p <- p - lr sqrt(c2) / c1 * m / (sqrt(v) + eps);  p <- (1 - lr wd) p
//! ```
//!
//! `before` is Algorithm 2 of Loshchilov and Hutter, "Decoupled Weight Decay Regularization"
//! (arXiv 1711.05101), as PyTorch computes it. `after` is what version 4.15 of the transformers
//! package computes: decay last, and `eps` added to the uncorrected root.

use burn::tensor::Tensor;

/// When the decoupled weight decay is applied, and where `eps` enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DecayOrder {
    /// Decay, then step; `eps` outside the bias-corrected root (PyTorch).
    #[default]
    BeforeStep,
    /// Step, then decay; `eps` on the uncorrected root (transformers 4.15, used by DOWN and STAR).
    AfterStep,
}

/// Scalars of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWUpdate {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Order of decay and step.
    pub order: DecayOrder,
    /// Number of this step, from 1.
    pub step: u64,
    /// Multiplies the gradient first (clipping by global norm).
    pub grad_scale: f32,
}

impl AdamWUpdate {
    /// `1 - beta1` and `1 - beta2`. Taken in f64: in f32 `1 - 0.999` is off by 5e-5 of its value.
    fn complements(&self) -> (f32, f32) {
        ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32)
    }

    /// `(step, root_scale, keep_before, keep_after)` such that
    /// `p <- (keep_before p - step m / (root_scale sqrt(v) + eps)) keep_after`.
    fn scalars(&self) -> (f32, f32, f32, f32) {
        let exponent = i32::try_from(self.step).unwrap_or(i32::MAX);
        let c1 = 1.0 - self.beta1.powi(exponent);
        let c2 = 1.0 - self.beta2.powi(exponent);
        let keep = (1.0 - self.lr * self.weight_decay) as f32;
        match self.order {
            DecayOrder::BeforeStep => ((self.lr / c1) as f32, (1.0 / c2.sqrt()) as f32, keep, 1.0),
            DecayOrder::AfterStep => ((self.lr * c2.sqrt() / c1) as f32, 1.0, 1.0, keep),
        }
    }
}

/// One step for a parameter and its two moments, all of the same shape and without autodiff.
///
/// Returns the new parameter, first and second moment. On flex the three are overwritten in place
/// when nothing else refers to them; elsewhere plain tensor operations run.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Tensor};
/// use kernels::{AdamWUpdate, DecayOrder, adamw_update};
/// let device = Device::flex();
/// let zeros = Tensor::<1>::zeros([1], &device);
/// let update = AdamWUpdate {
///     lr: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0,
///     order: DecayOrder::BeforeStep, step: 1, grad_scale: 1.0,
/// };
/// // The first step of Adam has length lr whatever the gradient's size.
/// let (p, _, _) = adamw_update(zeros.clone(), zeros.clone() + 5.0, zeros.clone(), zeros, &update);
/// assert!((p.into_scalar::<f32>() + 0.1).abs() < 1e-6);
/// # }
/// ```
pub fn adamw_update<const D: usize>(
    param: Tensor<D>,
    grad: Tensor<D>,
    m: Tensor<D>,
    v: Tensor<D>,
    update: &AdamWUpdate,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    #[cfg(feature = "flex")]
    if [&param, &grad, &m, &v]
        .into_iter()
        .all(crate::lerp::is_plain_flex)
    {
        return fused(param, grad, m, v, update);
    }
    composed(param, grad, m, v, update)
}

/// The step in plain tensor operations: reference and fallback.
fn composed<const D: usize>(
    param: Tensor<D>,
    grad: Tensor<D>,
    m: Tensor<D>,
    v: Tensor<D>,
    update: &AdamWUpdate,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    let (step, root_scale, keep_before, keep_after) = update.scalars();
    let (beta1, beta2) = (update.beta1 as f32, update.beta2 as f32);
    let (take1, take2) = update.complements();
    let grad = grad.mul_scalar(update.grad_scale);
    let m = m.mul_scalar(beta1) + grad.clone().mul_scalar(take1);
    let v = v.mul_scalar(beta2) + (grad.clone() * grad).mul_scalar(take2);
    let root = v
        .clone()
        .sqrt()
        .mul_scalar(root_scale)
        .add_scalar(update.eps as f32);
    let delta = m.clone().mul_scalar(step) / root;
    let param = (param.mul_scalar(keep_before) - delta).mul_scalar(keep_after);
    (param, m, v)
}

/// In place on flex; the caller has checked that all four are plain f32 tensors there.
#[cfg(feature = "flex")]
fn fused<const D: usize>(
    param: Tensor<D>,
    grad: Tensor<D>,
    m: Tensor<D>,
    v: Tensor<D>,
    update: &AdamWUpdate,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    use crate::lerp::{from_flex, into_flex};
    let (step, root_scale, keep_before, keep_after) = update.scalars();
    let (take1, take2) = update.complements();
    let scalars = crate::simd::AdamWScalars {
        grad_scale: update.grad_scale,
        beta1: update.beta1 as f32,
        beta2: update.beta2 as f32,
        take1,
        take2,
        step,
        root_scale,
        eps: update.eps as f32,
        keep_before,
        keep_after,
    };
    let grad = into_flex(grad);
    let (mut param, mut m, mut v) = (into_flex(param), into_flex(m), into_flex(v));
    crate::simd::adamw_parallel(
        param.storage_mut(),
        grad.storage(),
        m.storage_mut(),
        v.storage_mut(),
        scalars,
    );
    (from_flex(param), from_flex(m), from_flex(v))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn tensor(values: &[f32]) -> Tensor<2> {
        Tensor::from_data(
            TensorData::new(values.to_vec(), [values.len() / 2, 2]),
            &Device::flex(),
        )
    }

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    fn update(order: DecayOrder, step: u64) -> AdamWUpdate {
        AdamWUpdate {
            lr: 0.03,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-6,
            weight_decay: 0.1,
            order,
            step,
            grad_scale: 0.5,
        }
    }

    /// The formula of the module in f64, one element.
    fn reference(p: f64, g: f64, m: f64, v: f64, u: &AdamWUpdate) -> [f64; 3] {
        let g = g * f64::from(u.grad_scale);
        let (m, v) = (
            u.beta1 * m + (1.0 - u.beta1) * g,
            u.beta2 * v + (1.0 - u.beta2) * g * g,
        );
        let (c1, c2) = (
            1.0 - u.beta1.powf(u.step as f64),
            1.0 - u.beta2.powf(u.step as f64),
        );
        let decay = 1.0 - u.lr * u.weight_decay;
        let p = match u.order {
            DecayOrder::BeforeStep => p * decay - u.lr * (m / c1) / ((v / c2).sqrt() + u.eps),
            DecayOrder::AfterStep => (p - u.lr * c2.sqrt() / c1 * m / (v.sqrt() + u.eps)) * decay,
        };
        [p, m, v]
    }

    #[test]
    fn the_first_step_has_the_length_of_the_rate() {
        // From empty moments the factors 1 - beta cancel, if they are rounded once.
        let u = AdamWUpdate {
            eps: 0.0,
            weight_decay: 0.0,
            ..update(DecayOrder::BeforeStep, 1)
        };
        let zero = || tensor(&[0.0, 0.0]);
        for step in [adamw_update::<2>, composed::<2>] {
            let (p, _, _) = step(zero(), tensor(&[3.0, -0.02]), zero(), zero(), &u);
            for (got, want) in values(p).into_iter().zip([-0.03, 0.03]) {
                assert!((got - want).abs() < 1e-8, "{got}");
            }
        }
    }

    #[test]
    fn in_place_composed_and_formula_agree() {
        // 40,002 elements: three chunks, the last one short.
        let n = 40_002;
        let make = |scale: f32, shift: f32| -> Vec<f32> {
            (0..n)
                .map(|i| ((i * 7919 % 1000) as f32 / 500.0 - 1.0) * scale + shift)
                .collect()
        };
        let (p, g, m, v) = (
            make(1.0, 0.0),
            make(2.0, 0.1),
            make(0.1, 0.0),
            make(0.1, 0.2),
        );
        for order in [DecayOrder::BeforeStep, DecayOrder::AfterStep] {
            for step in [1, 2, 1000] {
                let u = update(order, step);
                let fast = adamw_update(tensor(&p), tensor(&g), tensor(&m), tensor(&v), &u);
                let slow = composed(tensor(&p), tensor(&g), tensor(&m), tensor(&v), &u);
                let fast = [values(fast.0), values(fast.1), values(fast.2)];
                let slow = [values(slow.0), values(slow.1), values(slow.2)];
                for i in 0..n {
                    let want = reference(p[i].into(), g[i].into(), m[i].into(), v[i].into(), &u);
                    for k in 0..3 {
                        for got in [fast[k][i], slow[k][i]] {
                            let error = (f64::from(got) - want[k]).abs();
                            assert!(
                                error <= 1e-6 * want[k].abs().max(1.0),
                                "{order:?} {step} {i} {k}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_tensor_that_is_still_referred_to_is_not_overwritten() {
        let p = tensor(&[1.0, 2.0]);
        let kept = p.clone();
        let zeros = tensor(&[0.0, 0.0]);
        let u = update(DecayOrder::BeforeStep, 1);
        let _ = adamw_update(p, tensor(&[3.0, 3.0]), zeros.clone(), zeros.clone(), &u);
        assert_eq!(values(kept), [1.0, 2.0]);
        assert_eq!(values(zeros), [0.0, 0.0]);
    }
}
