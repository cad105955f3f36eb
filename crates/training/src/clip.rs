//! Clipping by the global gradient norm.
//!
//! ```text
//! norm  = sqrt(sum over all parameters and elements of g^2)
//! scale = max_norm / (norm + 1e-6)   if norm > max_norm, else 1
//! ```
//!
//! as `torch.nn.utils.clip_grad_norm_` computes it. The gradients themselves are not touched:
//! [`AdamW::step`](crate::AdamW::step) takes the scale, which saves a pass over all of them.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

use crate::error::{Error, Result};

/// Outcome of [`clip()`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clip {
    /// Global L2 norm before clipping.
    pub norm: f64,
    /// Factor to apply to every gradient, at most 1.
    pub scale: f32,
}

/// Norm and scale of the gradients of `module` at 0-based index `step`. `max_norm = None` measures
/// without clipping.
///
/// # Errors
/// [`Error::NotFiniteGradient`] if the norm is NaN or infinite (an element above about 1.8e19
/// overflows its square and counts as infinite); [`Error::Setting`] if `max_norm` is not positive.
pub fn clip<M: Module>(
    module: &M,
    grads: &Gradients,
    max_norm: Option<f64>,
    step: u64,
) -> Result<Clip> {
    if let Some(max) = max_norm
        && !(max.is_finite() && max > 0.0)
    {
        return Err(Error::Setting {
            operation: "clip gradients",
            field: "max_norm".into(),
            expected: "a finite number above 0".into(),
            found: max.to_string(),
        });
    }
    let norm = global_norm(module, grads);
    if !norm.is_finite() {
        return Err(Error::NotFiniteGradient { step, norm });
    }
    let scale = max_norm.map_or(1.0, |max| clip_scale(norm, max));
    Ok(Clip { norm, scale })
}

/// Global L2 norm over the gradients of all parameters of `module`; 0 without gradients.
///
/// Squares are added in f32 within blocks of 1024 elements on the device and in f64 across blocks
/// and parameters, in the order of the parameters.
pub fn global_norm<M: Module>(module: &M, grads: &Gradients) -> f64 {
    let mut visitor = SquareSum { grads, sum: 0.0 };
    module.visit(&mut visitor);
    visitor.sum.sqrt()
}

/// `max_norm / (norm + 1e-6)` where `norm` exceeds `max_norm`, else 1.
pub fn clip_scale(norm: f64, max_norm: f64) -> f32 {
    if norm > max_norm {
        (max_norm / (norm + 1e-6)) as f32
    } else {
        1.0
    }
}

struct SquareSum<'a> {
    grads: &'a Gradients,
    sum: f64,
}

impl ModuleVisitor for SquareSum<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = param.base().grad(self.grads) {
            self.sum += kernels::square_sum(grad);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use burn::tensor::{Device, TensorData};
    use proptest::prelude::*;
    use rand::Rng;

    use super::*;
    use crate::Streams;

    #[derive(Module, Debug)]
    struct Two {
        a: Param<Tensor<2>>,
        b: Param<Tensor<1>>,
        unused: Param<Tensor<1>>,
    }

    /// A module and gradients equal to `a` and `b`: d/dw sum(w * c) = c.
    fn with_gradients(a: &[f32], b: &[f32], rows: usize) -> (Two, Gradients) {
        let device = Device::flex().autodiff();
        let module = Two {
            a: Param::from_tensor(Tensor::zeros([rows, a.len() / rows], &device)),
            b: Param::from_tensor(Tensor::zeros([b.len()], &device)),
            unused: Param::from_tensor(Tensor::zeros([3], &device)),
        };
        let ca =
            Tensor::<2>::from_data(TensorData::new(a.to_vec(), [rows, a.len() / rows]), &device);
        let cb = Tensor::<1>::from_data(TensorData::new(b.to_vec(), [b.len()]), &device);
        let loss = (module.a.val() * ca).sum() + (module.b.val() * cb).sum();
        let grads = loss.backward();
        (module, grads)
    }

    #[test]
    fn three_four_five() {
        // sqrt(3^2 + 4^2) over two parameters = 5; scale = 1 / (5 + 1e-6)
        let (module, grads) = with_gradients(&[3.0], &[4.0], 1);
        let clipped = clip(&module, &grads, Some(1.0), 0).unwrap();
        assert_eq!(clipped.norm, 5.0);
        assert_eq!(clipped.scale, (1.0f64 / 5.000001) as f32);
        assert_eq!(clip(&module, &grads, Some(5.0), 0).unwrap().scale, 1.0);
        assert_eq!(clip(&module, &grads, None, 0).unwrap().scale, 1.0);
    }

    #[test]
    fn long_gradients_agree_with_a_plain_loop() {
        let mut rng = Streams::new(5).rng("test", &[]);
        let mut draw = |n: usize| -> Vec<f32> {
            (0..n)
                .map(|_| (rng.next_u32() as f32 / u32::MAX as f32 - 0.5) * 3.0)
                .collect()
        };
        for n in [1023, 1024, 1025, 40 * 333] {
            let (a, b) = (draw(40 * 333), draw(n));
            let (module, grads) = with_gradients(&a, &b, 40);
            let expected: f64 = a
                .iter()
                .chain(&b)
                .map(|&x| f64::from(x).powi(2))
                .sum::<f64>()
                .sqrt();
            let got = global_norm(&module, &grads);
            assert!((got - expected).abs() < 1e-6 * expected, "{got} {expected}");
            assert_eq!(got, global_norm(&module, &grads));
        }
    }

    #[test]
    fn non_finite_norm_names_the_step() {
        for bad in [f32::NAN, f32::INFINITY, 3e38] {
            let (module, grads) = with_gradients(&[1.0], &[bad], 1);
            let refused = clip(&module, &grads, Some(1.0), 17);
            assert!(
                matches!(refused, Err(Error::NotFiniteGradient { step: 17, .. })),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn max_norm_must_be_positive() {
        let (module, grads) = with_gradients(&[1.0], &[1.0], 1);
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let refused = clip(&module, &grads, Some(bad), 0);
            assert!(matches!(refused, Err(Error::Setting { .. })), "{refused:?}");
        }
    }

    proptest! {
        #[test]
        fn clipped_norm_never_exceeds_the_bound(norm in 0f64..1e6, max in 1e-3f64..1e3) {
            let scale = f64::from(clip_scale(norm, max));
            prop_assert!(scale <= 1.0);
            prop_assert!(norm * scale <= max * (1.0 + 1e-6));
            if norm <= max { prop_assert_eq!(scale, 1.0); }
        }
    }
}
