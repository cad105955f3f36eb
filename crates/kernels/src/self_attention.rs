//! Multi-head self-attention of packed sequences, from the input rows to the joined heads.
//!
//! ```text
//! Q = x W_q + b_q    K = x W_k + b_k    V = x W_v + b_v
//! P = softmax(Q K^T / sqrt(d))           within a sequence, per head of d columns
//! y = dropout(P) V                       heads side by side
//! ```
//!
//! Source: Vaswani et al., arXiv 1706.03762, equation 1. The backward pass recomputes `P` from the
//! log-sum-exp of each row, and the dropout mask from its seed; with `recompute`, or on a device made
//! with `gradient_checkpointing()`, it recomputes `Q`, `K`, `V` as well.

use burn::tensor::{Tensor, activation};

use crate::dropout::{composed_dropout, effective_rate};
use crate::linear::linear;
use crate::precision::Precision;
use crate::sequences::Sequences;

/// Weight `[in, out]` and bias `[out]` of a linear map.
#[derive(Clone, Debug)]
pub struct Affine {
    /// `[in, out]`.
    pub weight: Tensor<2>,
    /// `[out]`.
    pub bias: Tensor<1>,
}

/// Query, key and value maps, each `[hidden, hidden]`.
#[derive(Clone, Debug)]
pub struct AttentionMaps {
    /// Map of the queries.
    pub query: Affine,
    /// Map of the keys.
    pub key: Affine,
    /// Map of the values.
    pub value: Affine,
}

/// How an attention call works.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionSettings {
    /// Heads that the hidden size is split into.
    pub heads: usize,
    /// Dropout rate of the attention weights; it acts on autodiff devices only.
    pub dropout: f64,
    /// Whether the backward pass makes the projections anew instead of keeping them: a third more
    /// work on three of the products, `3 hidden` numbers a row less in memory. Same result.
    pub recompute: bool,
    /// Of the three projections; the products within attention are f32.
    pub precision: Precision,
}

/// `[rows, hidden]` to `[rows, hidden]`, without the output map.
///
/// # Panics
///
/// If `x` does not have the rows of `sequences`, or `hidden` is not a multiple of `heads`.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Tensor};
/// use kernels::{Affine, AttentionMaps, AttentionSettings, Precision, Sequences, self_attention};
/// let device = Device::flex();
/// let map = || Affine { weight: Tensor::eye(4, &device), bias: Tensor::zeros([4], &device) };
/// let maps = AttentionMaps { query: map(), key: map(), value: map() };
/// let settings = AttentionSettings { heads: 2, dropout: 0.0, recompute: false, precision: Precision::F32 };
/// // A sequence of one token attends to itself alone.
/// let x = Tensor::<2>::from_floats([[1.0, 2.0, 3.0, 4.0]], &device);
/// let y = self_attention(x.clone(), maps, &Sequences::new(&[1]), settings);
/// assert_eq!(x.into_data(), y.into_data());
/// # }
/// ```
pub fn self_attention(
    x: Tensor<2>,
    maps: AttentionMaps,
    sequences: &Sequences,
    settings: AttentionSettings,
) -> Tensor<2> {
    let [rows, hidden] = x.dims();
    let heads = settings.heads;
    assert_eq!(rows, sequences.rows(), "attention: rows of another batch");
    assert!(
        heads > 0 && hidden.is_multiple_of(heads),
        "attention: {hidden} columns do not split into {heads} heads"
    );
    let rate = effective_rate(&x, settings.dropout);
    #[cfg(feature = "flex")]
    if crate::fused::on_flex(&x) {
        use burn::backend::Dispatch;
        let seed = if rate > 0.0 {
            crate::fused::draw_seed(&x.device())
        } else {
            0
        };
        let shape = fused::AttentionShape {
            bounds: sequences.shared_bounds(),
            heads,
            head: hidden / heads,
            recompute: settings.recompute,
            precision: settings.precision,
            dropout: crate::cpu::random_mask::MaskKey::new(rate, seed),
        };
        return Tensor::from_dispatch(<Dispatch as fused::AttentionBackend>::fused_attention(
            x.into_dispatch(),
            maps.query.weight.into_dispatch(),
            maps.query.bias.into_dispatch(),
            maps.key.weight.into_dispatch(),
            maps.key.bias.into_dispatch(),
            maps.value.weight.into_dispatch(),
            maps.value.bias.into_dispatch(),
            shape,
        ));
    }
    composed(x, maps, sequences, rate, settings)
}

/// Reference and fallback: padded batches, one product for all heads.
fn composed(
    x: Tensor<2>,
    maps: AttentionMaps,
    sequences: &Sequences,
    rate: f64,
    settings: AttentionSettings,
) -> Tensor<2> {
    let [rows, hidden] = x.dims();
    let heads = settings.heads;
    let head = hidden / heads;
    let (count, width) = (sequences.len(), sequences.longest());
    let padding = (!sequences.equal()).then(|| sequences.padding(&x.device()));
    let split = |map: Affine, scale: f64| {
        let t = linear(x.clone(), map.weight, map.bias, settings.precision).mul_scalar(scale);
        let t = match &padding {
            Some(padding) => t.select(0, padding.to_padded.clone()),
            None => t,
        };
        t.reshape([count, width, heads, head]).swap_dims(1, 2) // [count, heads, width, head]
    };
    let query = split(maps.query, 1.0 / (head as f64).sqrt());
    let key = split(maps.key, 1.0);
    let value = split(maps.value, 1.0);
    let mut scores = query.matmul(key.swap_dims(2, 3)); // [count, heads, width, width]
    if let Some(padding) = &padding {
        let dims = scores.dims();
        scores = scores.mask_fill(padding.mask.clone().expand(dims), f32::NEG_INFINITY);
    }
    let weights = composed_dropout(activation::softmax(scores, 3), rate);
    let joined = weights
        .matmul(value)
        .swap_dims(1, 2)
        .reshape([count * width, hidden]);
    match padding {
        Some(padding) => joined.select(0, padding.to_packed),
        None => joined.reshape([rows, hidden]),
    }
}

#[cfg(feature = "flex")]
#[allow(missing_docs, unreachable_pub, clippy::too_many_arguments)]
mod fused {
    use std::sync::Arc;

    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::{Autodiff, Backend, Flex, backend_extension, tensor::FloatTensor};
    use burn_flex::FlexTensor;

    use crate::cpu::attention::{self, Packed};
    use crate::cpu::column_sum::column_sum;
    use crate::cpu::matmul::{Matrix, matmul, matmul_into};
    use crate::cpu::random_mask::MaskKey;
    use crate::cpu::{contiguous, overwritten, size, tensor};
    use crate::fused::recomputes;
    use crate::precision::Precision;

    /// What an attention call needs beside its tensors.
    #[derive(Clone, Debug)]
    pub struct AttentionShape {
        pub(crate) bounds: Arc<[usize]>,
        pub(crate) heads: usize,
        pub(crate) head: usize,
        pub(crate) recompute: bool,
        pub(crate) precision: Precision,
        pub(crate) dropout: Option<MaskKey>,
    }

    impl AttentionShape {
        fn packed<'a>(&'a self, biases: &'a [FlexTensor; 3]) -> Packed<'a> {
            Packed {
                bias: biases.each_ref().map(FlexTensor::storage),
                bounds: &self.bounds,
                heads: self.heads,
                head: self.head,
                scale: 1.0 / (self.head as f32).sqrt(),
                dropout: self.dropout,
            }
        }
    }

    #[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
    pub trait AttentionBackend: Backend {
        fn fused_attention(
            x: FloatTensor<Self>,
            query_weight: FloatTensor<Self>,
            query_bias: FloatTensor<Self>,
            key_weight: FloatTensor<Self>,
            key_bias: FloatTensor<Self>,
            value_weight: FloatTensor<Self>,
            value_bias: FloatTensor<Self>,
            shape: AttentionShape,
        ) -> FloatTensor<Self>;
    }

    /// The three products and the attention proper, forward and backward.
    pub trait AttentionParts: AttentionBackend {
        /// `x [W_q | W_k | W_v]`, `[rows, 3 hidden]`.
        fn joint_projection(
            x: FloatTensor<Self>,
            weights: [FloatTensor<Self>; 3],
            precision: Precision,
        ) -> FloatTensor<Self>;

        /// Context `[rows, hidden]` and log-sum-exp `[rows, heads]`; the biases are added to the
        /// projections as they are read.
        fn attend(
            qkv: FloatTensor<Self>,
            biases: [FloatTensor<Self>; 3],
            shape: &AttentionShape,
        ) -> (FloatTensor<Self>, FloatTensor<Self>);

        /// Gradient of the projections, `[rows, 3 hidden]`.
        fn attend_backward(
            qkv: FloatTensor<Self>,
            biases: [FloatTensor<Self>; 3],
            lse: FloatTensor<Self>,
            grad: FloatTensor<Self>,
            shape: &AttentionShape,
        ) -> FloatTensor<Self>;

        /// `sum over the three of g_i W_i^T`.
        fn joint_input_gradient(
            grad: &FloatTensor<Self>,
            weights: [FloatTensor<Self>; 3],
            precision: Precision,
        ) -> FloatTensor<Self>;

        /// `x^T g_part`.
        fn joint_weight_gradient(
            x: &FloatTensor<Self>,
            grad: &FloatTensor<Self>,
            part: usize,
            precision: Precision,
        ) -> FloatTensor<Self>;

        /// Column sums of the three parts.
        fn joint_bias_gradient(grad: &FloatTensor<Self>) -> [FloatTensor<Self>; 3];
    }

    impl AttentionBackend for Flex {
        fn fused_attention(
            x: FloatTensor<Self>,
            query_weight: FloatTensor<Self>,
            query_bias: FloatTensor<Self>,
            key_weight: FloatTensor<Self>,
            key_bias: FloatTensor<Self>,
            value_weight: FloatTensor<Self>,
            value_bias: FloatTensor<Self>,
            shape: AttentionShape,
        ) -> FloatTensor<Self> {
            let weights = [query_weight, key_weight, value_weight];
            let qkv = Self::joint_projection(x, weights, shape.precision);
            Self::attend(qkv, [query_bias, key_bias, value_bias], &shape).0
        }
    }

    impl AttentionParts for Flex {
        #[allow(unsafe_code)]
        fn joint_projection(
            x: FlexTensor,
            weights: [FlexTensor; 3],
            precision: Precision,
        ) -> FlexTensor {
            let x = contiguous(x);
            let (rows, inputs) = (size(&x, 0), size(&x, 1));
            let outputs = size(&weights[0], 1);
            let stride = 3 * outputs;
            // SAFETY: the three products cover every column and write without reading.
            let qkv = unsafe {
                overwritten(rows * stride, |qkv| {
                    for (part, weight) in weights.into_iter().enumerate() {
                        let weight = contiguous(weight);
                        assert_eq!(
                            (size(&weight, 0), size(&weight, 1)),
                            (inputs, outputs),
                            "attention: maps of different sizes"
                        );
                        matmul_into(
                            qkv.get_mut(part * outputs..).unwrap_or_default(),
                            stride,
                            Matrix::rows(x.storage(), rows, inputs, inputs),
                            Matrix::rows(weight.storage(), inputs, outputs, outputs),
                            false,
                            precision,
                        );
                    }
                })
            };
            tensor(qkv, [rows, stride])
        }

        fn attend(
            qkv: FlexTensor,
            biases: [FlexTensor; 3],
            shape: &AttentionShape,
        ) -> (FlexTensor, FlexTensor) {
            let (qkv, biases) = (contiguous(qkv), biases.map(contiguous));
            let (context, lse) = attention::forward(qkv.storage(), &shape.packed(&biases));
            let rows = size(&qkv, 0);
            (
                tensor(context, [rows, shape.heads * shape.head]),
                tensor(lse, [rows, shape.heads]),
            )
        }

        fn attend_backward(
            qkv: FlexTensor,
            biases: [FlexTensor; 3],
            lse: FlexTensor,
            grad: FlexTensor,
            shape: &AttentionShape,
        ) -> FlexTensor {
            let biases = biases.map(contiguous);
            let (qkv, lse, grad) = (contiguous(qkv), contiguous(lse), contiguous(grad));
            let rows = size(&qkv, 0);
            let out = attention::backward(
                qkv.storage(),
                lse.storage(),
                grad.storage(),
                &shape.packed(&biases),
            );
            tensor(out, [rows, 3 * shape.heads * shape.head])
        }

        #[allow(unsafe_code)]
        fn joint_input_gradient(
            grad: &FlexTensor,
            weights: [FlexTensor; 3],
            precision: Precision,
        ) -> FlexTensor {
            let (rows, stride) = (size(grad, 0), size(grad, 1));
            let outputs = stride / 3;
            let inputs = size(&weights[0], 0);
            let g: &[f32] = grad.storage();
            // SAFETY: the first product writes every element without reading any.
            let dx = unsafe {
                overwritten(rows * inputs, |dx| {
                    for (part, weight) in weights.into_iter().enumerate() {
                        let weight = contiguous(weight);
                        matmul_into(
                            dx,
                            inputs,
                            Matrix::rows(
                                g.get(part * outputs..).unwrap_or_default(),
                                rows,
                                outputs,
                                stride,
                            ),
                            Matrix::rows(weight.storage(), inputs, outputs, outputs).t(),
                            part > 0,
                            precision,
                        );
                    }
                })
            };
            tensor(dx, [rows, inputs])
        }

        fn joint_weight_gradient(
            x: &FlexTensor,
            grad: &FlexTensor,
            part: usize,
            precision: Precision,
        ) -> FlexTensor {
            let x = contiguous(x.clone());
            let (rows, inputs) = (size(&x, 0), size(&x, 1));
            let stride = size(grad, 1);
            let outputs = stride / 3;
            let g: &[f32] = grad.storage();
            let product = matmul(
                Matrix::rows(x.storage(), rows, inputs, inputs).t(),
                Matrix::rows(
                    g.get(part * outputs..).unwrap_or_default(),
                    rows,
                    outputs,
                    stride,
                ),
                precision,
            );
            tensor(product, [inputs, outputs])
        }

        fn joint_bias_gradient(grad: &FlexTensor) -> [FlexTensor; 3] {
            let stride = size(grad, 1);
            let outputs = stride / 3;
            let sum = column_sum(grad.storage(), stride);
            [0, 1, 2].map(|part| {
                let range = part * outputs..(part + 1) * outputs;
                tensor(sum[range].to_vec(), [outputs])
            })
        }
    }

    #[derive(Debug)]
    struct AttentionStep;

    #[derive(Clone, Debug)]
    pub struct AttentionState<T: Clone + std::fmt::Debug> {
        x: T,
        weights: [T; 3],
        biases: [T; 3],
        /// Absent where it is recomputed.
        qkv: Option<T>,
        lse: T,
        shape: AttentionShape,
    }

    impl<B: AttentionParts> Backward<B, 7> for AttentionStep {
        type State = AttentionState<B::FloatTensorPrimitive>;

        fn backward(
            self,
            ops: Ops<Self::State, 7>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            let state = ops.state;
            let grad = grads.consume::<B>(&ops.node);
            let precision = state.shape.precision;
            let qkv = state.qkv.unwrap_or_else(|| {
                B::joint_projection(state.x.clone(), state.weights.clone(), precision)
            });
            let grad = B::attend_backward(qkv, state.biases, state.lse, grad, &state.shape);
            let [x, wq, bq, wk, bk, wv, bv] = ops.parents;
            let biases = [bq, bk, bv];
            if biases.iter().any(Option::is_some) {
                for (node, sum) in biases.into_iter().zip(B::joint_bias_gradient(&grad)) {
                    if let Some(node) = node {
                        grads.register::<B>(node.id, sum);
                    }
                }
            }
            for (part, node) in [wq, wk, wv].into_iter().enumerate() {
                if let Some(node) = node {
                    let product = B::joint_weight_gradient(&state.x, &grad, part, precision);
                    grads.register::<B>(node.id, product);
                }
            }
            if let Some(node) = x {
                let product = B::joint_input_gradient(&grad, state.weights, precision);
                grads.register::<B>(node.id, product);
            }
        }
    }

    impl<B: AttentionParts, C: CheckpointStrategy> AttentionBackend for Autodiff<B, C> {
        fn fused_attention(
            x: FloatTensor<Self>,
            query_weight: FloatTensor<Self>,
            query_bias: FloatTensor<Self>,
            key_weight: FloatTensor<Self>,
            key_bias: FloatTensor<Self>,
            value_weight: FloatTensor<Self>,
            value_bias: FloatTensor<Self>,
            shape: AttentionShape,
        ) -> FloatTensor<Self> {
            let (x, nx) = x.into_parts();
            let (wq, nwq) = query_weight.into_parts();
            let (bq, nbq) = query_bias.into_parts();
            let (wk, nwk) = key_weight.into_parts();
            let (bk, nbk) = key_bias.into_parts();
            let (wv, nwv) = value_weight.into_parts();
            let (bv, nbv) = value_bias.into_parts();
            let (weights, biases) = ([wq, wk, wv], [bq, bk, bv]);
            match AttentionStep
                .prepare::<C>([nx, nwq, nbq, nwk, nbk, nwv, nbv])
                .compute_bound()
                .stateful()
            {
                OpsKind::Tracked(prep) => {
                    let qkv = B::joint_projection(x.clone(), weights.clone(), shape.precision);
                    let (context, lse) = B::attend(qkv.clone(), biases.clone(), &shape);
                    let state = AttentionState {
                        x,
                        weights,
                        biases,
                        qkv: (!shape.recompute && !recomputes::<C>()).then_some(qkv),
                        lse,
                        shape,
                    };
                    prep.finish(state, context)
                }
                OpsKind::UnTracked(prep) => {
                    let qkv = B::joint_projection(x, weights, shape.precision);
                    prep.finish(B::attend(qkv, biases, &shape).0)
                }
            }
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{assert_same_gradients, relative_difference, values};
    use burn::tensor::{Device, TensorData};

    fn inputs(rows: usize, hidden: usize) -> Vec<TensorData> {
        let mut all = vec![values([rows, hidden], 0.0)];
        for part in 0..3 {
            all.push(values([hidden, hidden], part as f32 + 0.5));
            all.push(values([1, hidden], part as f32 + 0.7));
        }
        all
    }

    fn settings(heads: usize, dropout: f64) -> AttentionSettings {
        AttentionSettings {
            heads,
            dropout,
            recompute: false,
            precision: Precision::F32,
        }
    }

    fn maps(t: &[Tensor<2>]) -> AttentionMaps {
        let map = |at: usize| Affine {
            weight: t[at].clone(),
            bias: t[at + 1].clone().squeeze_dim(0),
        };
        AttentionMaps {
            query: map(1),
            key: map(3),
            value: map(5),
        }
    }

    #[test]
    fn fused_and_composed_forms_agree_in_value_and_gradient() {
        // Lengths around the tile and query-block sizes, odd heads, a single token.
        for (lengths, hidden, heads) in [
            (vec![1], 4, 2),
            (vec![5, 1, 9, 3], 12, 3),
            (vec![16, 17, 15], 20, 2),
            (vec![64, 65, 130], 16, 1),
            (vec![7, 7, 7], 24, 4),
        ] {
            let sequences = Sequences::new(&lengths);
            assert_same_gradients(
                &inputs(sequences.rows(), hidden),
                |t| self_attention(t[0].clone(), maps(t), &sequences, settings(heads, 0.0)),
                |t| composed(t[0].clone(), maps(t), &sequences, 0.0, settings(heads, 0.0)),
            );
        }
    }

    /// Dropout has no composed twin with the same mask, so its gradient is compared with finite
    /// differences of its own value at a fixed seed.
    #[test]
    fn dropout_is_replayed_in_the_backward_pass() {
        let device = Device::flex().autodiff();
        let sequences = Sequences::new(&[6, 3]);
        let data = inputs(9, 8);
        let value = |data: &[TensorData]| {
            crate::testing::with_seed(&device, 11, || {
                let t: Vec<Tensor<2>> = data
                    .iter()
                    .map(|d| Tensor::from_data(d.clone(), &device).require_grad())
                    .collect();
                let y = self_attention(t[0].clone(), maps(&t), &sequences, settings(2, 0.4));
                let weights = Tensor::<2>::from_data(values(y.dims(), 3.3), &device);
                ((y * weights).sum(), t)
            })
        };
        let (loss, tensors) = value(&data);
        let grads = loss.clone().backward();
        for (index, tensor) in tensors.iter().enumerate() {
            let got: Vec<f32> = tensor
                .grad(&grads)
                .unwrap()
                .into_data()
                .try_to_vec()
                .unwrap();
            let base: Vec<f32> = data[index].clone().try_to_vec().unwrap();
            let shape: Vec<usize> = data[index].shape().to_vec();
            let want: Vec<f32> = (0..base.len())
                .map(|at| {
                    let moved = |step: f32| {
                        let mut values = base.clone();
                        values[at] += step;
                        let mut data = data.clone();
                        data[index] = TensorData::new(values, shape.clone());
                        value(&data).0.into_scalar::<f32>()
                    };
                    (moved(1e-2) - moved(-1e-2)) / 2e-2
                })
                .collect();
            let difference = relative_difference(&got, &want, 0.1);
            assert!(difference < 2e-2, "input {index}: {difference}");
        }
        let (again, _) = value(&data);
        assert_eq!(loss.into_data(), again.into_data());
    }

    #[test]
    fn dropout_keeps_the_mean_and_is_off_without_autodiff() {
        let sequences = Sequences::new(&[12; 40]);
        let data = inputs(480, 16);
        let run = |device: &Device, rate: f64| -> Vec<f32> {
            let t: Vec<Tensor<2>> = data
                .iter()
                .map(|d| Tensor::from_data(d.clone(), device))
                .collect();
            self_attention(t[0].clone(), maps(&t), &sequences, settings(4, rate))
                .into_data()
                .try_to_vec()
                .unwrap()
        };
        let plain = run(&Device::flex(), 0.5);
        assert_eq!(plain, run(&Device::flex().autodiff(), 0.0));
        let device = Device::flex().autodiff();
        let dropped = crate::testing::with_seed(&device, 3, || run(&device, 0.5));
        let mean = |x: &[f32]| x.iter().map(|x| f64::from(*x)).sum::<f64>() / x.len() as f64;
        assert!(plain != dropped && (mean(&plain) - mean(&dropped)).abs() < 0.05);
    }

    #[test]
    fn not_a_number_stays_visible() {
        let device = Device::flex();
        let mut t: Vec<Tensor<2>> = inputs(4, 8)
            .into_iter()
            .map(|d| Tensor::from_data(d, &device))
            .collect();
        t[1] = t[1].clone() * f32::NAN;
        let y: Vec<f32> = self_attention(
            t[0].clone(),
            maps(&t),
            &Sequences::new(&[4]),
            settings(2, 0.0),
        )
        .into_data()
        .try_to_vec()
        .unwrap();
        assert!(y.iter().all(|y| y.is_nan()));
    }

    #[test]
    fn a_sequence_does_not_see_its_neighbours() {
        let device = Device::flex();
        let run = |lengths: &[usize], skip: usize| -> Vec<f32> {
            let rows: usize = lengths.iter().sum();
            let mut t: Vec<Tensor<2>> = inputs(40, 12)
                .into_iter()
                .map(|d| Tensor::from_data(d, &device))
                .collect();
            t[0] = t[0].clone().slice([skip..skip + rows, 0..12]);
            self_attention(
                t[0].clone(),
                maps(&t),
                &Sequences::new(lengths),
                settings(3, 0.0),
            )
            .into_data()
            .try_to_vec()
            .unwrap()
        };
        let together = run(&[13, 27], 0);
        let alone = run(&[27], 13);
        assert!(relative_difference(&together[13 * 12..], &alone, 0.0) < 1e-6);
    }
}
