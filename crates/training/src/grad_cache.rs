//! Gradient caching: an in-batch objective at any batch size in the memory of a small batch.
//!
//! ```text
//! 1. z_i = embed(part i) for every part, without keeping what a backward pass needs
//! 2. L = loss([z_0; z_1; ...]);  g_i = dL/dz_i
//! 3. for every part: embed it again, gradients += d <embed(part i), g_i>
//! ```
//!
//! By the chain rule the sum of step 3 is the gradient of `L`, for any loss of the vectors. It costs
//! one more forward pass. Plain accumulation over small batches is something else wherever the items
//! of a batch are compared with each other: each would see only the negatives of its own part.
//!
//! Source: Gao, Zhang, Han, Callan, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
//! Setup", RepL4NLP 2021.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

/// Value and gradients of a batch.
#[allow(missing_debug_implementations)]
pub struct CachedBackward {
    /// The loss, `[1]`, without gradient.
    pub loss: Tensor<1>,
    /// Gradients of every parameter of the module, and of parameters that only the loss uses.
    pub gradients: Gradients,
}

/// Value and gradients of `loss` over the vectors of all `parts`, holding the activations of one part
/// at a time.
///
/// `embed` gives the vectors of a part, `[rows, dim]`; it is called twice for each and must return the
/// same both times, so it has to seed the device's generator by the index before anything random
/// happens. The first time it gets the module without autodiff, with dropout all the same: a graph
/// that no backward pass consumes would be kept until the next one. `loss` receives the vectors of all
/// parts, one part behind the other, with autodiff.
///
/// # Errors
///
/// Those of `embed` and `loss`.
///
/// # Example
///
/// ```
/// use burn::module::{Module, Param};
/// use burn::tensor::{Device, Tensor};
/// use training::cached_backward;
///
/// #[derive(Module, Debug)]
/// struct Scale { w: Param<Tensor<2>> }
///
/// # fn main() -> Result<(), String> {
/// let device = Device::flex().autodiff();
/// let module = Scale { w: Param::from_tensor(Tensor::from_floats([[2.0]], &device)) };
/// let parts = [Tensor::<2>::from_floats([[1.0]], &device), Tensor::from_floats([[3.0]], &device)];
/// // L = (2 + 6)^2, dL/dw = 2 * 8 * (1 + 3)
/// let cached = cached_backward(
///     &module,
///     &parts,
///     |module, _, part| Ok::<_, String>(part.clone().matmul(module.w.val())),
///     |vectors| Ok(vectors.sum().powi_scalar(2)),
/// )?;
/// let gradient = module.w.val().grad(&cached.gradients).ok_or("no gradient")?;
/// assert_eq!(gradient.into_scalar::<f32>(), 64.0);
/// # Ok(())
/// # }
/// ```
pub fn cached_backward<M: Module, P, E>(
    module: &M,
    parts: &[P],
    mut embed: impl FnMut(&M, usize, &P) -> Result<Tensor<2>, E>,
    loss: impl FnOnce(Tensor<2>) -> Result<Tensor<1>, E>,
) -> Result<CachedBackward, E> {
    let plain = module.valid();
    let vectors = parts
        .iter()
        .enumerate()
        .map(|(index, part)| {
            let vectors = kernels::with_dropout(|| embed(&plain, index, part))?;
            Ok(vectors.without_autodiff())
        })
        .collect::<Result<Vec<_>, E>>()?;
    drop(plain);
    let rows: Vec<usize> = vectors.iter().map(|part| part.dims()[0]).collect();
    let leaf = Tensor::cat(vectors, 0).autodiff().require_grad();
    let loss = loss(leaf.clone())?;
    let mut gradients = loss.backward();
    let loss = loss.without_autodiff();
    let Some(of_vectors) = leaf.grad_remove(&mut gradients) else {
        // A constant loss asks nothing of the module.
        return Ok(CachedBackward { loss, gradients });
    };
    drop(leaf);
    let mut start = 0;
    for ((index, part), rows) in parts.iter().enumerate().zip(rows) {
        let direction = of_vectors.clone().narrow(0, start, rows).autodiff();
        start += rows;
        let inner_product = (embed(module, index, part)? * direction).sum();
        add_gradients(module, &mut gradients, inner_product.backward());
    }
    Ok(CachedBackward { loss, gradients })
}

/// Adds the gradients of a module's parameters in `more` to those in `total`.
pub fn add_gradients<M: Module>(module: &M, total: &mut Gradients, mut more: Gradients) {
    module.visit(&mut Accumulate {
        total,
        more: &mut more,
    });
}

struct Accumulate<'g> {
    total: &'g mut Gradients,
    more: &'g mut Gradients,
}

impl ModuleVisitor for Accumulate<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.base();
        if let Some(more) = tensor.grad_remove(self.more) {
            add_gradient(&tensor, self.total, more);
        }
    }
}

/// Adds `more` to the gradient of a parameter in `total`.
pub(crate) fn add_gradient<const D: usize>(
    tensor: &Tensor<D>,
    total: &mut Gradients,
    more: Tensor<D>,
) {
    let sum = match tensor.grad_remove(total) {
        Some(before) => before + more,
        None => more,
    };
    tensor.grad_replace(total, sum);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::convert::Infallible;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use burn::tensor::{Device, TensorData, activation};
    use proptest::prelude::*;

    use super::*;

    #[derive(Module, Debug)]
    struct Two {
        first: Param<Tensor<2>>,
        second: Param<Tensor<2>>,
        unused: Param<Tensor<1>>,
    }

    fn waves(rows: usize, columns: usize, offset: f64) -> TensorData {
        let values: Vec<f32> = (0..rows * columns)
            .map(|at| (0.7 * at as f64 + offset).sin() as f32)
            .collect();
        TensorData::new(values, [rows, columns])
    }

    fn module(device: &Device) -> Two {
        Two {
            first: Param::from_tensor(Tensor::from_data(waves(3, 8, 0.1), device)),
            second: Param::from_tensor(Tensor::from_data(waves(8, 4, 0.9), device)),
            unused: Param::from_tensor(Tensor::zeros([2], device)),
        }
    }

    /// The generator that dropout draws from belongs to the process: one test at a time.
    fn alone() -> MutexGuard<'static, ()> {
        static GENERATOR: Mutex<()> = Mutex::new(());
        GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Two layers with dropout between, masks drawn from the seed of the part.
    fn embed(module: &Two, index: usize, part: &Tensor<2>) -> Result<Tensor<2>, Infallible> {
        let part = if module.first.val().is_autodiff() {
            part.clone().autodiff()
        } else {
            part.clone()
        };
        part.device().autodiff().seed(100 + index as u64);
        let inner = part.clone().matmul(module.first.val()).tanh();
        Ok(kernels::dropout(inner, 0.3).matmul(module.second.val()))
    }

    /// Softmax over all other rows: every row meets every other one.
    fn contrast(vectors: Tensor<2>) -> Tensor<1> {
        let scores = vectors.clone().matmul(vectors.transpose());
        activation::log_softmax(scores, 1).powi_scalar(2).mean()
    }

    fn parts(sizes: &[usize]) -> Vec<Tensor<2>> {
        sizes
            .iter()
            .enumerate()
            .map(|(at, rows)| Tensor::from_data(waves(*rows, 3, at as f64), &Device::flex()))
            .collect()
    }

    fn worst(a: &Tensor<2>, b: &Tensor<2>) -> f32 {
        (a.clone() - b.clone()).abs().max().into_scalar()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// The same value and gradients as one graph over all parts with the same masks.
        #[test]
        fn equals_the_whole_batch(sizes in proptest::collection::vec(1usize..5, 1..5)) {
        let _alone = alone();
            let device = Device::flex().autodiff();
            let module = module(&device);
            let parts = parts(&sizes);
            let whole: Vec<Tensor<2>> = parts
                .iter()
                .enumerate()
                .map(|(at, part)| embed(&module, at, part).unwrap())
                .collect();
            let loss = contrast(Tensor::cat(whole, 0));
            let want = loss.backward();
            let got = cached_backward(&module, &parts, embed, |z| Ok(contrast(z))).unwrap();
            let (a, b): (f32, f32) = (loss.into_scalar(), got.loss.into_scalar());
            prop_assert!((a - b).abs() <= 1e-5 * a.abs());
            for param in [&module.first, &module.second] {
                let want = param.val().grad(&want).unwrap();
                let got = param.val().grad(&got.gradients).unwrap();
                let largest: f32 = want.clone().abs().max().into_scalar();
                prop_assert!(worst(&got, &want) <= 1e-5 * largest.max(1e-3));
            }
            prop_assert!(module.unused.val().grad(&got.gradients).is_none());
        }
    }

    #[test]
    fn dropout_is_replayed() {
        let _alone = alone();
        // Without replaying, the second pass would see other masks and the gradient would be off.
        let device = Device::flex().autodiff();
        let module = module(&device);
        let parts = parts(&[6, 6]);
        let gradient = |seeded: bool| {
            let mut call = 0;
            let cached = cached_backward(
                &module,
                &parts,
                |module, index, part| {
                    call += 1;
                    embed(module, if seeded { index } else { call }, part)
                },
                |z| Ok(contrast(z)),
            )
            .unwrap();
            module.first.val().grad(&cached.gradients).unwrap()
        };
        assert_eq!(worst(&gradient(true), &gradient(true)), 0.0);
        assert!(worst(&gradient(true), &gradient(false)) > 1e-4);
    }

    #[test]
    fn parameters_of_the_loss_and_errors_are_kept() {
        let _alone = alone();
        let device = Device::flex().autodiff();
        let module = module(&device);
        let parts = parts(&[2, 3]);
        let scale = Tensor::<1>::ones([1], &device).require_grad();
        let cached =
            cached_backward(&module, &parts, embed, |z| Ok(contrast(z) * scale.clone())).unwrap();
        let of_scale: f32 = scale.grad(&cached.gradients).unwrap().into_scalar();
        assert!((of_scale - cached.loss.into_scalar::<f32>()).abs() < 1e-6);
        let error = cached_backward(
            &module,
            &parts,
            |_, index, part| {
                if index == 1 {
                    Err("second")
                } else {
                    Ok(part.clone())
                }
            },
            |z| Ok(contrast(z)),
        );
        assert_eq!(error.err(), Some("second"));
    }
}
