//! The position-wise feed-forward block with its bias and GELU.
//!
//! ```text
//! u = x W_1              y = gelu(u + b_1) W_2
//! dh = g W_2^T           du = dh * gelu'(u + b_1)    dx = du W_1^T
//! ```
//!
//! The outer bias is left to the operation that follows, which reads every element anyway. The backward
//! pass keeps `u` and makes `gelu(u + b_1)` anew in the pass that applies `gelu'`; with `recompute`, or
//! on a device made with `gradient_checkpointing()`, it keeps only `x` and makes `u` anew as well.
//!
//! Source: Vaswani et al., arXiv 1706.03762, equation 2, with the exact GELU in place of ReLU.

use burn::tensor::Tensor;

use crate::gelu::gelu;
use crate::linear::linear;
use crate::precision::Precision;
use crate::self_attention::Affine;

/// `gelu(x W_1 + b_1) W_2`, `[rows, hidden]` to `[rows, hidden]`.
///
/// With `recompute` the backward pass makes the inner activation anew instead of keeping it: a sixth
/// more work, `inner` numbers a row less in memory, the same result.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Tensor};
/// use kernels::{Affine, Precision, feed_forward};
/// let device = Device::flex();
/// let inner = Affine { weight: Tensor::ones([2, 3], &device), bias: Tensor::zeros([3], &device) };
/// let x = Tensor::<2>::from_floats([[10.0, 0.0]], &device);
/// // gelu(10) = 10 up to rounding, over three inner units.
/// let y = feed_forward(x, inner, Tensor::ones([3, 2], &device), false, Precision::F32);
/// let y: Vec<f32> = y.into_data().try_to_vec().unwrap();
/// assert_eq!(y, [30.0, 30.0]);
/// # }
/// ```
pub fn feed_forward(
    x: Tensor<2>,
    inner: Affine,
    outer_weight: Tensor<2>,
    recompute: bool,
    precision: Precision,
) -> Tensor<2> {
    #[cfg(not(feature = "flex"))]
    let _ = recompute;
    #[cfg(feature = "flex")]
    if crate::fused::on_flex(&x) {
        use burn::backend::Dispatch;
        return Tensor::from_dispatch(<Dispatch as fused::FeedForwardBackend>::fused_feed_forward(
            x.into_dispatch(),
            inner.weight.into_dispatch(),
            inner.bias.into_dispatch(),
            outer_weight.into_dispatch(),
            recompute,
            precision,
        ));
    }
    composed(x, inner, outer_weight, precision)
}

/// Reference and fallback.
fn composed(
    x: Tensor<2>,
    inner: Affine,
    outer_weight: Tensor<2>,
    precision: Precision,
) -> Tensor<2> {
    let inner = gelu(linear(x, inner.weight, inner.bias, precision));
    precision.product(inner, outer_weight)
}

#[cfg(feature = "flex")]
#[allow(missing_docs, unreachable_pub)]
mod fused {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::{Autodiff, Backend, Flex, backend_extension, tensor::FloatTensor};
    use burn_flex::FlexTensor;
    use rayon::prelude::*;

    use crate::cpu::{ROWS, contiguous, overwritten, size, tensor};
    use crate::fused::recomputes;
    use crate::linear::fused::{LinearBackend, LinearGradients};
    use crate::precision::Precision;

    #[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
    pub trait FeedForwardBackend: Backend {
        fn fused_feed_forward(
            x: FloatTensor<Self>,
            inner_weight: FloatTensor<Self>,
            inner_bias: FloatTensor<Self>,
            outer_weight: FloatTensor<Self>,
            recompute: bool,
            precision: Precision,
        ) -> FloatTensor<Self>;
    }

    pub trait FeedForwardParts: FeedForwardBackend + LinearGradients {
        /// `gelu(u + bias)`, in the buffer of `u` where nothing else refers to it.
        fn activate(u: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;

        /// `gelu(u + bias)` and `grad * gelu'(u + bias)`.
        fn activate_backward(
            u: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            grad: FloatTensor<Self>,
        ) -> (FloatTensor<Self>, FloatTensor<Self>);
    }

    impl FeedForwardBackend for Flex {
        fn fused_feed_forward(
            x: FloatTensor<Self>,
            inner_weight: FloatTensor<Self>,
            inner_bias: FloatTensor<Self>,
            outer_weight: FloatTensor<Self>,
            _recompute: bool,
            precision: Precision,
        ) -> FloatTensor<Self> {
            let u = Self::fused_project(x, inner_weight, precision);
            Self::fused_project(Self::activate(u, inner_bias), outer_weight, precision)
        }
    }

    impl FeedForwardParts for Flex {
        #[allow(unsafe_code)]
        fn activate(u: FlexTensor, bias: FlexTensor) -> FlexTensor {
            let (mut u, bias) = (contiguous(u), contiguous(bias));
            let shape = [size(&u, 0), size(&u, 1)];
            let block = ROWS * shape[1];
            let bias: &[f32] = bias.storage();
            assert_eq!(bias.len(), shape[1], "feed-forward: bias of another size");
            if u.is_unique() {
                u.storage_mut::<f32>()
                    .par_chunks_mut(block)
                    .for_each(|u| crate::simd::bias_gelu_in_place(u, bias));
                return u;
            }
            let input: &[f32] = u.storage();
            // SAFETY: the chunks cover the buffer and the kernel assigns every element.
            let activated = unsafe {
                overwritten(input.len(), |h| {
                    h.par_chunks_mut(block)
                        .zip(input.par_chunks(block))
                        .for_each(|(h, u)| crate::simd::bias_gelu(u, bias, h));
                })
            };
            tensor(activated, shape)
        }

        #[allow(unsafe_code)]
        fn activate_backward(
            u: FlexTensor,
            bias: FlexTensor,
            grad: FlexTensor,
        ) -> (FlexTensor, FlexTensor) {
            let (u, bias, mut grad) = (contiguous(u), contiguous(bias), contiguous(grad));
            let shape = [size(&u, 0), size(&u, 1)];
            let block = ROWS * shape[1];
            let (input, bias): (&[f32], &[f32]) = (u.storage(), bias.storage());
            let slope: &mut [f32] = grad.storage_mut();
            assert_eq!(
                input.len(),
                slope.len(),
                "feed-forward: gradient of another size"
            );
            // SAFETY: the chunks cover the buffer and the kernel assigns every element.
            let activated = unsafe {
                overwritten(input.len(), |h| {
                    h.par_chunks_mut(block)
                        .zip(slope.par_chunks_mut(block))
                        .zip(input.par_chunks(block))
                        .for_each(|((h, slope), u)| crate::simd::bias_gelu_both(u, bias, h, slope));
                })
            };
            (tensor(activated, shape), grad)
        }
    }

    #[derive(Debug)]
    struct FeedForwardStep;

    #[derive(Clone, Debug)]
    pub struct FeedForwardState<T: Clone + std::fmt::Debug> {
        x: T,
        inner_weight: T,
        outer_weight: T,
        inner_bias: T,
        /// Absent where it is recomputed.
        u: Option<T>,
        precision: Precision,
    }

    impl<B: FeedForwardParts> Backward<B, 4> for FeedForwardStep {
        type State = FeedForwardState<B::FloatTensorPrimitive>;

        fn backward(
            self,
            ops: Ops<Self::State, 4>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            let state = ops.state;
            let grad = grads.consume::<B>(&ops.node);
            let [x, inner_weight, inner_bias, outer_weight] = ops.parents;
            let precision = state.precision;
            let u = state.u.unwrap_or_else(|| {
                B::fused_project(state.x.clone(), state.inner_weight.clone(), precision)
            });
            let dh = B::linear_input_gradient(state.outer_weight, grad.clone(), precision);
            let (h, du) = B::activate_backward(u, state.inner_bias, dh);
            if let Some(node) = outer_weight {
                grads.register::<B>(node.id, B::linear_weight_gradient(h, grad, precision));
            }
            if let Some(node) = inner_bias {
                grads.register::<B>(node.id, B::linear_bias_gradient(du.clone()));
            }
            if let Some(node) = inner_weight {
                let product = B::linear_weight_gradient(state.x, du.clone(), precision);
                grads.register::<B>(node.id, product);
            }
            if let Some(node) = x {
                let product = B::linear_input_gradient(state.inner_weight, du, precision);
                grads.register::<B>(node.id, product);
            }
        }
    }

    impl<B: FeedForwardParts, C: CheckpointStrategy> FeedForwardBackend for Autodiff<B, C> {
        fn fused_feed_forward(
            x: FloatTensor<Self>,
            inner_weight: FloatTensor<Self>,
            inner_bias: FloatTensor<Self>,
            outer_weight: FloatTensor<Self>,
            recompute: bool,
            precision: Precision,
        ) -> FloatTensor<Self> {
            let (x, nx) = x.into_parts();
            let (w1, nw1) = inner_weight.into_parts();
            let (b1, nb1) = inner_bias.into_parts();
            let (w2, nw2) = outer_weight.into_parts();
            match FeedForwardStep
                .prepare::<C>([nx, nw1, nb1, nw2])
                .compute_bound()
                .stateful()
            {
                OpsKind::Tracked(prep) => {
                    let u = B::fused_project(x.clone(), w1.clone(), precision);
                    let kept = (!recompute && !recomputes::<C>()).then(|| u.clone());
                    let y = B::fused_project(B::activate(u, b1.clone()), w2.clone(), precision);
                    let state = FeedForwardState {
                        x,
                        inner_weight: w1,
                        outer_weight: w2,
                        inner_bias: b1,
                        u: kept,
                        precision,
                    };
                    prep.finish(state, y)
                }
                OpsKind::UnTracked(prep) => {
                    prep.finish(B::fused_feed_forward(x, w1, b1, w2, recompute, precision))
                }
            }
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{assert_same_gradients, values};

    #[test]
    fn fused_and_composed_forms_agree_in_value_and_gradient() {
        for (rows, hidden, inner) in [(1, 3, 5), (9, 12, 48), (130, 96, 384)] {
            let form = |t: &[Tensor<2>]| {
                (
                    t[0].clone(),
                    Affine {
                        weight: t[1].clone(),
                        bias: t[2].clone().squeeze_dim(0),
                    },
                    t[3].clone(),
                )
            };
            assert_same_gradients(
                &[
                    values([rows, hidden], 0.1),
                    values([hidden, inner], 0.2),
                    values([1, inner], 0.3),
                    values([inner, hidden], 0.4),
                ],
                |t| {
                    let (x, a, b) = form(t);
                    feed_forward(x, a, b, false, Precision::F32)
                },
                |t| {
                    let (x, a, b) = form(t);
                    composed(x, a, b, Precision::F32)
                },
            );
        }
    }
}
