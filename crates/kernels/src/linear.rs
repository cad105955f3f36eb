//! Affine map of rows.
//!
//! ```text
//! y = x W + b          x [rows, in], W [in, out], b [out]
//! dx = g W^T           dW = x^T g           db = sum over rows of g
//! ```
//!
//! The product is added onto rows that already hold the bias, and only the gradients that somebody
//! asked for are computed. The operands of all three products are rounded to the [`Precision`].

use burn::tensor::{Tensor, module};

use crate::precision::Precision;

/// `x W + b`, `[rows, in]` to `[rows, out]`.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Tensor};
/// use kernels::Precision;
/// let device = Device::flex();
/// let x = Tensor::<2>::from_floats([[1.0, 2.0]], &device);
/// let w = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 10.0]], &device);
/// let b = Tensor::<1>::from_floats([0.5, 0.5], &device);
/// let y: Vec<f32> = kernels::linear(x, w, b, Precision::F32).into_data().try_to_vec().unwrap();
/// assert_eq!(y, [1.5, 20.5]);
/// # }
/// ```
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, precision: Precision) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if crate::fused::on_flex(&x) {
        use burn::backend::Dispatch;
        return Tensor::from_dispatch(<Dispatch as fused::LinearBackend>::fused_linear(
            x.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
            precision,
        ));
    }
    composed(x, weight, bias, precision)
}

/// `x W` without a bias, for maps whose bias the next operation adds.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Tensor};
/// use kernels::Precision;
/// let device = Device::flex();
/// let x = Tensor::<2>::from_floats([[1.0, 2.0]], &device);
/// let w = Tensor::<2>::from_floats([[1.0], [10.0]], &device);
/// assert_eq!(kernels::project(x, w, Precision::F32).into_scalar::<f32>(), 21.0);
/// # }
/// ```
pub fn project(x: Tensor<2>, weight: Tensor<2>, precision: Precision) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if crate::fused::on_flex(&x) {
        use burn::backend::Dispatch;
        return Tensor::from_dispatch(<Dispatch as fused::LinearBackend>::fused_project(
            x.into_dispatch(),
            weight.into_dispatch(),
            precision,
        ));
    }
    precision.product(x, weight)
}

/// Reference and fallback.
fn composed(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, precision: Precision) -> Tensor<2> {
    match precision {
        Precision::F32 => module::linear(x, weight, Some(bias)),
        Precision::Bf16 => precision.product(x, weight) + bias.unsqueeze(),
    }
}

#[cfg(feature = "flex")]
#[allow(missing_docs, unreachable_pub)]
pub(crate) mod fused {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::{Autodiff, Backend, Flex, backend_extension, tensor::FloatTensor};

    use crate::cpu::column_sum::column_sum;
    use crate::cpu::matmul::{Matrix, affine_into, input_gradient, matmul, weight_gradient};
    use crate::cpu::{contiguous, overwritten, size, tensor};
    use crate::precision::Precision;

    #[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
    pub trait LinearBackend: Backend {
        fn fused_linear(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            precision: Precision,
        ) -> FloatTensor<Self>;

        fn fused_project(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            precision: Precision,
        ) -> FloatTensor<Self>;
    }

    /// Backward pass; outside the dispatched trait, since nothing differentiates it again.
    pub trait LinearGradients: LinearBackend {
        fn linear_input_gradient(
            weight: FloatTensor<Self>,
            grad: FloatTensor<Self>,
            precision: Precision,
        ) -> FloatTensor<Self>;

        fn linear_weight_gradient(
            x: FloatTensor<Self>,
            grad: FloatTensor<Self>,
            precision: Precision,
        ) -> FloatTensor<Self>;

        fn linear_bias_gradient(grad: FloatTensor<Self>) -> FloatTensor<Self>;
    }

    impl LinearBackend for Flex {
        #[allow(unsafe_code)]
        fn fused_linear(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            precision: Precision,
        ) -> FloatTensor<Self> {
            let (x, weight, bias) = (contiguous(x), contiguous(weight), contiguous(bias));
            let (rows, inputs) = (size(&x, 0), size(&x, 1));
            let outputs = size(&weight, 1);
            assert_eq!(size(&bias, 0), outputs, "linear: bias of another size");
            // SAFETY: every row is set to the bias first.
            let y = unsafe {
                overwritten(rows * outputs, |y| {
                    affine_into(
                        y,
                        outputs,
                        Matrix::rows(x.storage(), rows, inputs, inputs),
                        Matrix::rows(weight.storage(), size(&weight, 0), outputs, outputs),
                        bias.storage(),
                        precision,
                    );
                })
            };
            tensor(y, [rows, outputs])
        }

        fn fused_project(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            precision: Precision,
        ) -> FloatTensor<Self> {
            let (x, weight) = (contiguous(x), contiguous(weight));
            let (rows, inputs, outputs) = (size(&x, 0), size(&x, 1), size(&weight, 1));
            let y = matmul(
                Matrix::rows(x.storage(), rows, inputs, inputs),
                Matrix::rows(weight.storage(), size(&weight, 0), outputs, outputs),
                precision,
            );
            tensor(y, [rows, outputs])
        }
    }

    impl LinearGradients for Flex {
        fn linear_input_gradient(
            weight: FloatTensor<Self>,
            grad: FloatTensor<Self>,
            precision: Precision,
        ) -> FloatTensor<Self> {
            input_gradient(&contiguous(grad), &contiguous(weight), precision)
        }

        fn linear_weight_gradient(
            x: FloatTensor<Self>,
            grad: FloatTensor<Self>,
            precision: Precision,
        ) -> FloatTensor<Self> {
            weight_gradient(&contiguous(x), &contiguous(grad), precision)
        }

        fn linear_bias_gradient(grad: FloatTensor<Self>) -> FloatTensor<Self> {
            let grad = contiguous(grad);
            let outputs = size(&grad, 1);
            tensor(column_sum(grad.storage(), outputs), [outputs])
        }
    }

    #[derive(Debug)]
    struct LinearStep;

    impl<B: LinearGradients> Backward<B, 3> for LinearStep {
        type State = (B::FloatTensorPrimitive, B::FloatTensorPrimitive, Precision);

        fn backward(
            self,
            ops: Ops<Self::State, 3>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            let (x, weight, precision) = ops.state;
            let grad = grads.consume::<B>(&ops.node);
            let [for_x, for_weight, for_bias] = ops.parents;
            if let Some(node) = for_bias {
                grads.register::<B>(node.id, B::linear_bias_gradient(grad.clone()));
            }
            if let Some(node) = for_weight {
                grads.register::<B>(
                    node.id,
                    B::linear_weight_gradient(x, grad.clone(), precision),
                );
            }
            if let Some(node) = for_x {
                grads.register::<B>(node.id, B::linear_input_gradient(weight, grad, precision));
            }
        }
    }

    #[derive(Debug)]
    struct ProjectStep;

    impl<B: LinearGradients> Backward<B, 2> for ProjectStep {
        type State = (B::FloatTensorPrimitive, B::FloatTensorPrimitive, Precision);

        fn backward(
            self,
            ops: Ops<Self::State, 2>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            let (x, weight, precision) = ops.state;
            let grad = grads.consume::<B>(&ops.node);
            let [for_x, for_weight] = ops.parents;
            if let Some(node) = for_weight {
                grads.register::<B>(
                    node.id,
                    B::linear_weight_gradient(x, grad.clone(), precision),
                );
            }
            if let Some(node) = for_x {
                grads.register::<B>(node.id, B::linear_input_gradient(weight, grad, precision));
            }
        }
    }

    impl<B: LinearGradients, C: CheckpointStrategy> LinearBackend for Autodiff<B, C> {
        fn fused_linear(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            precision: Precision,
        ) -> FloatTensor<Self> {
            let (x, x_node) = x.into_parts();
            let (weight, weight_node) = weight.into_parts();
            let (bias, bias_node) = bias.into_parts();
            match LinearStep
                .prepare::<C>([x_node, weight_node, bias_node])
                .compute_bound()
                .stateful()
            {
                OpsKind::Tracked(prep) => prep.finish(
                    (x.clone(), weight.clone(), precision),
                    B::fused_linear(x, weight, bias, precision),
                ),
                OpsKind::UnTracked(prep) => {
                    prep.finish(B::fused_linear(x, weight, bias, precision))
                }
            }
        }

        fn fused_project(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            precision: Precision,
        ) -> FloatTensor<Self> {
            let (x, x_node) = x.into_parts();
            let (weight, weight_node) = weight.into_parts();
            match ProjectStep
                .prepare::<C>([x_node, weight_node])
                .compute_bound()
                .stateful()
            {
                OpsKind::Tracked(prep) => prep.finish(
                    (x.clone(), weight.clone(), precision),
                    B::fused_project(x, weight, precision),
                ),
                OpsKind::UnTracked(prep) => prep.finish(B::fused_project(x, weight, precision)),
            }
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{assert_same_gradients, nearest_bf16, relative_difference, values};

    type Map = fn(Tensor<2>, Tensor<2>, Tensor<1>, Precision) -> Tensor<2>;

    fn affine(t: &[Tensor<2>], map: Map) -> Tensor<2> {
        let bias = t[2].clone().squeeze_dim(0);
        map(t[0].clone(), t[1].clone(), bias, Precision::F32)
    }

    #[test]
    fn fused_and_composed_forms_agree_in_value_and_gradient() {
        for (seed, (rows, inputs, outputs)) in [(1, 1, 1), (7, 5, 3), (70, 48, 33), (200, 128, 96)]
            .into_iter()
            .enumerate()
        {
            let seed = seed as f32;
            assert_same_gradients(
                &[
                    values([rows, inputs], seed),
                    values([inputs, outputs], seed + 0.3),
                    values([1, outputs], seed + 0.6),
                ],
                |t| affine(t, linear),
                |t| affine(t, composed),
            );
        }
    }

    #[test]
    fn products_without_bias_agree_with_burn() {
        for (rows, inputs, outputs) in [(1, 2, 3), (65, 40, 70)] {
            assert_same_gradients(
                &[values([rows, inputs], 0.2), values([inputs, outputs], 0.3)],
                |t| project(t[0].clone(), t[1].clone(), Precision::F32),
                |t| t[0].clone().matmul(t[1].clone()),
            );
        }
    }

    #[test]
    fn strided_input_is_read_in_logical_order() {
        let turned = |t: &[Tensor<2>]| [t[0].clone().transpose(), t[1].clone(), t[2].clone()];
        assert_same_gradients(
            &[
                values([5, 7], 0.1),
                values([5, 3], 0.2),
                values([1, 3], 0.4),
            ],
            |t| affine(&turned(t), linear),
            |t| affine(&turned(t), composed),
        );
    }

    /// Products of all three kinds against f32 products of operands that were rounded before.
    #[test]
    fn bf16_rounds_the_operands_of_forward_and_backward_products() {
        use burn::tensor::{Device, TensorData};
        let device = Device::flex();
        let nearest = |data: &TensorData, [rows, columns]: [usize; 2]| {
            let values: Vec<f32> = data.iter::<f32>().map(|x| nearest_bf16(x) as f32).collect();
            Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), &device)
        };
        let read = |t: Tensor<2>| -> Vec<f32> { t.into_data().iter::<f32>().collect() };
        for (rows, inputs, outputs) in [(3, 5, 2), (70, 48, 33), (130, 96, 128)] {
            let shapes = [[rows, inputs], [inputs, outputs], [rows, outputs]];
            let [x, w, g] = [0.1, 0.5, 0.8]
                .into_iter()
                .zip(shapes)
                .map(|(phase, shape)| values(shape, phase))
                .collect::<Vec<_>>()
                .try_into()
                .unwrap();
            let b = values([1, outputs], 0.3);
            let autodiff = device.clone().autodiff();
            let tracked =
                |data: &TensorData| Tensor::<2>::from_data(data.clone(), &autodiff).require_grad();
            let (tx, tw) = (tracked(&x), tracked(&w));
            let bias = Tensor::<2>::from_data(b.clone(), &autodiff).squeeze_dim(0);
            let y = linear(tx.clone(), tw.clone(), bias, Precision::Bf16);
            let loss = (y.clone() * Tensor::from_data(g.clone(), &autodiff)).sum();
            let grads = loss.backward();

            let [rx, rw, rg] = [(&x, shapes[0]), (&w, shapes[1]), (&g, shapes[2])]
                .map(|(data, shape)| nearest(data, shape));
            let bias = Tensor::<2>::from_data(b, &device).squeeze_dim(0);
            let product = |a, b| project(a, b, Precision::F32);
            for (got, want) in [
                (
                    y.inner(),
                    linear(rx.clone(), rw.clone(), bias, Precision::F32),
                ),
                (
                    tx.grad(&grads).unwrap(),
                    product(rg.clone(), rw.transpose()),
                ),
                (tw.grad(&grads).unwrap(), product(rx.transpose(), rg)),
            ] {
                let difference = relative_difference(&read(got), &read(want), 0.0);
                assert!(difference <= 1e-6, "{rows}: {difference:e}");
            }
        }
    }

    #[test]
    fn frozen_weights_get_no_gradient_and_do_not_disturb_the_input() {
        use burn::tensor::{Device, Tensor};
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_data(values([4, 3], 0.5), &device).require_grad();
        let w = Tensor::<2>::from_data(values([3, 2], 0.6), &Device::flex()).autodiff();
        let b = Tensor::<1>::zeros([2], &Device::flex()).autodiff();
        let y = linear(x.clone(), w.clone(), b, Precision::F32);
        let grads = y.sum().backward();
        assert!(x.grad(&grads).is_some() && w.grad(&grads).is_none());
    }
}
