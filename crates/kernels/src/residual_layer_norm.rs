//! Residual, dropout and layer norm as one operation.
//!
//! ```text
//! z = x + dropout(u + b)    y = (z - mean(z)) / sqrt(var(z) + eps) * weight + bias
//! ```
//!
//! over the last dimension, with the biased variance. The backward pass recomputes the dropout mask
//! from its seed.
//!
//! Source: Ba et al., arXiv 1607.06450, equation 4; post-layer-norm arrangement of Vaswani et al.

use burn::tensor::{Tensor, module};

use crate::dropout::{composed_dropout, effective_rate};

/// Scale, shift and epsilon of a layer norm.
#[derive(Clone, Debug)]
pub struct LayerNormParams {
    /// `[hidden]`.
    pub weight: Tensor<1>,
    /// `[hidden]`.
    pub bias: Tensor<1>,
    /// Added to the variance.
    pub eps: f64,
}

/// `LN(x + dropout(u + b))` with `x` and `u` `[rows, hidden]`, `b` `[hidden]` (the bias of the map that made
/// `u`); dropout acts on autodiff devices only.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Tensor};
/// use kernels::{LayerNormParams, residual_layer_norm};
/// let device = Device::flex();
/// let norm = LayerNormParams {
///     weight: Tensor::ones([2], &device),
///     bias: Tensor::zeros([2], &device),
///     eps: 0.0,
/// };
/// let x = Tensor::<2>::from_floats([[1.0, 2.0]], &device);
/// let y: Vec<f32> = residual_layer_norm(x.clone(), x, Tensor::zeros([2], &device), norm, 0.0)
///     .into_data().try_to_vec().unwrap();
/// assert_eq!(y, [-1.0, 1.0]);
/// # }
/// ```
pub fn residual_layer_norm(
    x: Tensor<2>,
    u: Tensor<2>,
    u_bias: Tensor<1>,
    norm: LayerNormParams,
    dropout: f64,
) -> Tensor<2> {
    let rate = effective_rate(&x, dropout);
    #[cfg(feature = "flex")]
    if crate::fused::on_flex(&x) {
        use burn::backend::Dispatch;
        let seed = if rate > 0.0 {
            crate::fused::draw_seed(&x.device())
        } else {
            0
        };
        return Tensor::from_dispatch(<Dispatch as fused::NormBackend>::fused_residual_norm(
            x.into_dispatch(),
            u.into_dispatch(),
            u_bias.into_dispatch(),
            norm.weight.into_dispatch(),
            norm.bias.into_dispatch(),
            fused::NormSettings {
                eps: norm.eps as f32,
                dropout: crate::cpu::random_mask::MaskKey::new(rate, seed),
            },
        ));
    }
    composed(x, u, u_bias, norm, rate)
}

/// Reference and fallback.
fn composed(
    x: Tensor<2>,
    u: Tensor<2>,
    u_bias: Tensor<1>,
    norm: LayerNormParams,
    rate: f64,
) -> Tensor<2> {
    module::layer_norm(
        x + composed_dropout(u + u_bias.unsqueeze(), rate),
        norm.weight,
        Some(norm.bias),
        norm.eps,
    )
}

#[cfg(feature = "flex")]
#[allow(missing_docs, unreachable_pub)]
pub(crate) mod fused {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::{Autodiff, Backend, Flex, backend_extension, tensor::FloatTensor};
    use burn_flex::FlexTensor;

    use crate::cpu::layer_norm::{self, Affine};
    use crate::cpu::random_mask::MaskKey;
    use crate::cpu::{contiguous, size, tensor};
    use crate::linear::fused::LinearGradients;

    /// What a call needs beside its tensors.
    #[derive(Clone, Debug)]
    pub struct NormSettings {
        pub(crate) eps: f32,
        pub(crate) dropout: Option<MaskKey>,
    }

    #[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
    pub trait NormBackend: Backend {
        fn fused_residual_norm(
            x: FloatTensor<Self>,
            u: FloatTensor<Self>,
            u_bias: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            settings: NormSettings,
        ) -> FloatTensor<Self>;
    }

    pub trait NormParts: NormBackend + LinearGradients {
        /// Output, normalised rows `[rows, hidden]`, inverse deviations `[rows]`.
        fn residual_norm(
            x: FloatTensor<Self>,
            u: FloatTensor<Self>,
            u_bias: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            settings: &NormSettings,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

        /// Gradients of `x`, `u` (if it differs from that of `x`), weight and bias.
        #[allow(clippy::type_complexity)]
        fn residual_norm_backward(
            normalized: FloatTensor<Self>,
            inverse: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            grad: FloatTensor<Self>,
            settings: &NormSettings,
        ) -> (
            FloatTensor<Self>,
            Option<FloatTensor<Self>>,
            FloatTensor<Self>,
            FloatTensor<Self>,
        );
    }

    fn run(
        x: FlexTensor,
        u: FlexTensor,
        u_bias: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        settings: &NormSettings,
        keep: bool,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (x, u, u_bias) = (contiguous(x), contiguous(u), contiguous(u_bias));
        let (weight, bias) = (contiguous(weight), contiguous(bias));
        let shape = [size(&x, 0), size(&x, 1)];
        let affine = Affine {
            weight: weight.storage(),
            bias: bias.storage(),
            eps: settings.eps,
        };
        let out = layer_norm::forward(
            x.storage(),
            Some((u.storage(), u_bias.storage())),
            affine,
            settings.dropout,
            keep,
        );
        let kept = if keep { shape } else { [0, shape[1]] };
        (
            tensor(out.output, shape),
            tensor(out.normalized, kept),
            tensor(out.inverse, [kept[0]]),
        )
    }

    impl NormBackend for Flex {
        fn fused_residual_norm(
            x: FloatTensor<Self>,
            u: FloatTensor<Self>,
            u_bias: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            settings: NormSettings,
        ) -> FloatTensor<Self> {
            run(x, u, u_bias, weight, bias, &settings, false).0
        }
    }

    impl NormParts for Flex {
        fn residual_norm(
            x: FlexTensor,
            u: FlexTensor,
            u_bias: FlexTensor,
            weight: FlexTensor,
            bias: FlexTensor,
            settings: &NormSettings,
        ) -> (FlexTensor, FlexTensor, FlexTensor) {
            run(x, u, u_bias, weight, bias, settings, true)
        }

        fn residual_norm_backward(
            normalized: FlexTensor,
            inverse: FlexTensor,
            weight: FlexTensor,
            grad: FlexTensor,
            settings: &NormSettings,
        ) -> (FlexTensor, Option<FlexTensor>, FlexTensor, FlexTensor) {
            let (weight, grad) = (contiguous(weight), contiguous(grad));
            let shape = [size(&grad, 0), size(&grad, 1)];
            let out = layer_norm::backward(
                normalized.storage(),
                inverse.storage(),
                weight.storage(),
                grad.storage(),
                settings.dropout,
            );
            (
                tensor(out.sum, shape),
                out.u.map(|u| tensor(u, shape)),
                tensor(out.weight, [shape[1]]),
                tensor(out.bias, [shape[1]]),
            )
        }
    }

    #[derive(Debug)]
    struct NormStep;

    #[derive(Clone, Debug)]
    pub struct NormState<T: Clone + std::fmt::Debug> {
        normalized: T,
        inverse: T,
        weight: T,
        settings: NormSettings,
    }

    impl<B: NormParts> Backward<B, 5> for NormStep {
        type State = NormState<B::FloatTensorPrimitive>;

        fn backward(
            self,
            ops: Ops<Self::State, 5>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            let state = ops.state;
            let grad = grads.consume::<B>(&ops.node);
            let (sum, of_u, of_weight, of_bias) = B::residual_norm_backward(
                state.normalized,
                state.inverse,
                state.weight,
                grad,
                &state.settings,
            );
            let [x, u, u_bias, weight, bias] = ops.parents;
            let of_u = of_u.unwrap_or_else(|| sum.clone());
            if let Some(node) = u_bias {
                grads.register::<B>(node.id, B::linear_bias_gradient(of_u.clone()));
            }
            if let Some(node) = u {
                grads.register::<B>(node.id, of_u);
            }
            if let Some(node) = weight {
                grads.register::<B>(node.id, of_weight);
            }
            if let Some(node) = bias {
                grads.register::<B>(node.id, of_bias);
            }
            if let Some(node) = x {
                grads.register::<B>(node.id, sum);
            }
        }
    }

    impl<B: NormParts, C: CheckpointStrategy> NormBackend for Autodiff<B, C> {
        fn fused_residual_norm(
            x: FloatTensor<Self>,
            u: FloatTensor<Self>,
            u_bias: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            settings: NormSettings,
        ) -> FloatTensor<Self> {
            let (x, nx) = x.into_parts();
            let (u, nu) = u.into_parts();
            let (u_bias, nub) = u_bias.into_parts();
            let (weight, nw) = weight.into_parts();
            let (bias, nb) = bias.into_parts();
            match NormStep
                .prepare::<C>([nx, nu, nub, nw, nb])
                .compute_bound()
                .stateful()
            {
                OpsKind::Tracked(prep) => {
                    let (y, normalized, inverse) =
                        B::residual_norm(x, u, u_bias, weight.clone(), bias, &settings);
                    let state = NormState {
                        normalized,
                        inverse,
                        weight,
                        settings,
                    };
                    prep.finish(state, y)
                }
                OpsKind::UnTracked(prep) => {
                    prep.finish(B::fused_residual_norm(x, u, u_bias, weight, bias, settings))
                }
            }
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{assert_same_gradients, values, with_seed};
    use burn::tensor::Device;

    fn norm(t: &[Tensor<2>]) -> LayerNormParams {
        LayerNormParams {
            weight: t[2].clone().squeeze_dim(0),
            bias: t[3].clone().squeeze_dim(0),
            eps: 1e-5,
        }
    }

    fn u_bias(t: &[Tensor<2>]) -> Tensor<1> {
        t[4].clone().squeeze_dim(0)
    }

    #[test]
    fn fused_and_composed_forms_agree_in_value_and_gradient() {
        for (rows, hidden) in [(1, 5), (3, 7), (33, 16), (150, 40), (70, 384)] {
            assert_same_gradients(
                &[
                    values([rows, hidden], 0.1),
                    values([rows, hidden], 0.9),
                    values([1, hidden], 0.3),
                    values([1, hidden], 0.4),
                    values([1, hidden], 0.6),
                ],
                |t| residual_layer_norm(t[0].clone(), t[1].clone(), u_bias(t), norm(t), 0.0),
                |t| composed(t[0].clone(), t[1].clone(), u_bias(t), norm(t), 0.0),
            );
        }
    }

    /// With weight 1, bias 0 and x = 0 the zeros of the mask are visible in the output: all dropped
    /// positions of a row share one value.
    #[test]
    fn the_backward_pass_replays_the_mask() {
        let device = Device::flex().autodiff();
        let (rows, hidden) = (40, 24);
        let tensors = with_seed(&device, 5, || {
            let x = Tensor::<2>::zeros([rows, hidden], &device).require_grad();
            let u =
                (Tensor::<2>::from_data(values([rows, hidden], 0.2), &device) + 3.0).require_grad();
            let norm = LayerNormParams {
                weight: Tensor::ones([hidden], &device),
                bias: Tensor::zeros([hidden], &device),
                eps: 1e-5,
            };
            let y = residual_layer_norm(
                x.clone(),
                u.clone(),
                Tensor::zeros([hidden], &device),
                norm,
                0.5,
            );
            (x, u, y)
        });
        let (x, u, y) = tensors;
        let weights = Tensor::<2>::from_data(values([rows, hidden], 0.8), &device);
        let grads = (y.clone() * weights).sum().backward();
        let y: Vec<f32> = y.into_data().try_to_vec().unwrap();
        let gx: Vec<f32> = x.grad(&grads).unwrap().into_data().try_to_vec().unwrap();
        let gu: Vec<f32> = u.grad(&grads).unwrap().into_data().try_to_vec().unwrap();
        let mut dropped = 0;
        for row in 0..rows {
            let range = row * hidden..(row + 1) * hidden;
            // Kept values are above 3, dropped ones 0: the smallest output is that of a zero.
            let low = y[range.clone()].iter().copied().fold(f32::MAX, f32::min);
            for at in range {
                let gone = (y[at] - low).abs() < 1e-6;
                dropped += usize::from(gone);
                let want = if gone { 0.0 } else { 2.0 * gx[at] };
                assert!(
                    (gu[at] - want).abs() <= 1e-6,
                    "row {row}: {} {want}",
                    gu[at]
                );
            }
        }
        let share = dropped as f64 / (rows * hidden) as f64;
        assert!((share - 0.5).abs() < 0.1, "{share}");
    }
}
