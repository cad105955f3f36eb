//! Multi-head attention of packed sequences from given queries, keys and values.
//!
//! ```text
//! P[i, j] = softmax over j of (Q_i K_j / sqrt(d) + b[j - i])    within a sequence, per head
//! y = dropout(P) V                                              heads side by side
//! ```
//!
//! [`self_attention`](crate::self_attention()) makes the three projections itself and is to be
//! preferred where nothing happens between them and the scores. This form serves position schemes
//! that turn queries and keys ([`rotary`](crate::rotary())) or add a bias `b` by the distance:
//! learned ones, slopes, windows.
//!
//! Source: Vaswani et al., arXiv 1706.03762, equation 1; the bias as in Raffel et al., arXiv
//! 1910.10683, section 2.1. Without a bias the kernel of `self_attention` runs; with one, padded
//! batches.

use burn::tensor::{Int, Tensor, TensorData, activation};

use crate::dropout::{composed_dropout, effective_rate};
use crate::sequences::Sequences;

/// `query`, `key`, `value` `[rows, hidden]` to `[rows, hidden]`, without the output map.
///
/// `bias` `[heads or 1, 2 longest - 1]` is added to the scores of every sequence, to that of query
/// `i` and key `j` the column `longest - 1 + j - i`. To keep a query from a key use a large finite
/// negative number, not infinity: a padded query may have no key left. Dropout of the weights acts
/// on autodiff devices only.
///
/// # Panics
///
/// If the tensors do not have the rows of `sequences`, or `hidden` is not a multiple of `heads`.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Tensor};
/// use kernels::{Sequences, attention};
/// let device = Device::flex();
/// let x = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &device);
/// // Each token kept from the other: everybody reads their own value.
/// let bias = Tensor::<2>::from_floats([[-1e30, 0.0, -1e30]], &device);
/// let y = attention(x.clone(), x.clone(), x.clone(), Some(bias), &Sequences::new(&[2]), 1, 0.0);
/// assert_eq!(x.into_data(), y.into_data());
/// # }
/// ```
pub fn attention(
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    bias: Option<Tensor<2>>,
    sequences: &Sequences,
    heads: usize,
    dropout: f64,
) -> Tensor<2> {
    let [rows, hidden] = query.dims();
    assert!(
        rows == sequences.rows() && key.dims() == [rows, hidden] && value.dims() == [rows, hidden],
        "attention: rows of another batch"
    );
    assert!(
        heads > 0 && hidden.is_multiple_of(heads),
        "attention: {hidden} columns do not split into {heads} heads"
    );
    if let Some([rows, distances]) = bias.as_ref().map(Tensor::dims) {
        assert!(
            (rows == 1 || rows == heads) && distances + 1 == 2 * sequences.longest(),
            "attention: a bias of {rows} x {distances}"
        );
    }
    let rate = effective_rate(&query, dropout);
    #[cfg(feature = "flex")]
    if bias.is_none() && crate::fused::on_flex(&query) {
        use burn::backend::Dispatch;
        let seed = if rate > 0.0 {
            crate::fused::draw_seed(&query.device())
        } else {
            0
        };
        let shape = fused::HeadsShape {
            bounds: sequences.shared_bounds(),
            heads,
            head: hidden / heads,
            dropout: crate::cpu::random_mask::MaskKey::new(rate, seed),
        };
        let joint = Tensor::cat(vec![query, key, value], 1);
        return Tensor::from_dispatch(<Dispatch as fused::HeadsBackend>::fused_heads(
            joint.into_dispatch(),
            shape,
        ));
    }
    composed(query, key, value, bias, sequences, heads, rate, SCORES)
}

/// Scores that are in memory at a time, unless one query alone has more.
const SCORES: usize = 1 << 24;

/// Reference, and the form with a bias: padded batches, one product for all heads, queries in
/// blocks of at most `most_scores`.
#[allow(clippy::too_many_arguments)]
fn composed(
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    bias: Option<Tensor<2>>,
    sequences: &Sequences,
    heads: usize,
    rate: f64,
    most_scores: usize,
) -> Tensor<2> {
    let [rows, hidden] = query.dims();
    let head = hidden / heads;
    let (count, width) = (sequences.len(), sequences.longest());
    let padding = (!sequences.equal()).then(|| sequences.padding(&query.device()));
    let split = |t: Tensor<2>| {
        let t = match &padding {
            Some(padding) => t.select(0, padding.to_padded.clone()),
            None => t,
        };
        t.reshape([count, width, heads, head]).swap_dims(1, 2) // [count, heads, width, head]
    };
    let query = split(query.mul_scalar(1.0 / (head as f64).sqrt()));
    let key = split(key).swap_dims(2, 3);
    let value = split(value);
    let block = (most_scores / (count * heads * width).max(1)).clamp(1, width.max(1));
    let blocks = (0..width).step_by(block).map(|start| {
        let queries = block.min(width - start);
        // [count, heads, queries, width]
        let mut scores = query.clone().narrow(2, start, queries).matmul(key.clone());
        if let Some(bias) = &bias {
            scores = scores + of_block(bias, start, queries, width);
        }
        if let Some(padding) = &padding {
            let dims = scores.dims();
            scores = scores.mask_fill(padding.mask.clone().expand(dims), f32::NEG_INFINITY);
        }
        composed_dropout(activation::softmax(scores, 3), rate).matmul(value.clone())
    });
    let joined = Tensor::cat(blocks.collect(), 2)
        .swap_dims(1, 2)
        .reshape([count * width, hidden]);
    match padding {
        Some(padding) => joined.select(0, padding.to_packed),
        None => joined.reshape([rows, hidden]),
    }
}

/// The bias of `queries` queries from `start` on, `[1, heads or 1, queries, width]`.
fn of_block(bias: &Tensor<2>, start: usize, queries: usize, width: usize) -> Tensor<4> {
    let [heads, _] = bias.dims();
    let columns: Vec<i32> = (start..start + queries)
        .flat_map(|query| (0..width).map(move |key| (width - 1 + key - query) as i32))
        .collect();
    let columns = Tensor::<1, Int>::from_data(
        TensorData::new(columns, [queries * width]),
        &bias.device().inner(),
    );
    bias.clone()
        .select(1, columns)
        .reshape([1, heads, queries, width])
}

#[cfg(feature = "flex")]
#[allow(missing_docs, unreachable_pub)]
mod fused {
    use std::sync::Arc;

    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, unary};
    use burn::backend::{Autodiff, Backend, Flex, backend_extension, tensor::FloatTensor};

    use crate::cpu::attention::{self, Packed};
    use crate::cpu::random_mask::MaskKey;
    use crate::cpu::{contiguous, size, tensor};
    use crate::fused::in_graph;

    /// What the operation needs beside its tensor.
    #[derive(Clone, Debug)]
    pub struct HeadsShape {
        pub(crate) bounds: Arc<[usize]>,
        pub(crate) heads: usize,
        pub(crate) head: usize,
        pub(crate) dropout: Option<MaskKey>,
    }

    impl HeadsShape {
        /// Queries, keys and values come with their biases added: `zeros`, `[hidden]`, stands for
        /// them.
        fn packed<'a>(&'a self, zeros: &'a [f32]) -> Packed<'a> {
            Packed {
                bias: [zeros; 3],
                bounds: &self.bounds,
                heads: self.heads,
                head: self.head,
                scale: 1.0 / (self.head as f32).sqrt(),
                dropout: self.dropout,
            }
        }

        fn zeros(&self) -> Vec<f32> {
            vec![0.0; self.heads * self.head]
        }
    }

    #[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
    pub trait HeadsBackend: Backend {
        /// `[rows, 3 hidden]` to `[rows, hidden]`.
        fn fused_heads(qkv: FloatTensor<Self>, shape: HeadsShape) -> FloatTensor<Self>;
    }

    /// The attention with its log-sum-exp, and the way back.
    pub trait HeadsParts: HeadsBackend {
        /// Context `[rows, hidden]` and log-sum-exp `[rows, heads]`.
        fn heads_forward(
            qkv: FloatTensor<Self>,
            shape: &HeadsShape,
        ) -> (FloatTensor<Self>, FloatTensor<Self>);

        /// Gradient of `qkv`.
        fn heads_backward(
            qkv: FloatTensor<Self>,
            lse: FloatTensor<Self>,
            grad: FloatTensor<Self>,
            shape: &HeadsShape,
        ) -> FloatTensor<Self>;
    }

    impl HeadsBackend for Flex {
        fn fused_heads(qkv: FloatTensor<Self>, shape: HeadsShape) -> FloatTensor<Self> {
            Self::heads_forward(qkv, &shape).0
        }
    }

    impl HeadsParts for Flex {
        fn heads_forward(
            qkv: FloatTensor<Self>,
            shape: &HeadsShape,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            let qkv = contiguous(qkv);
            let rows = size(&qkv, 0);
            let (context, lse) = attention::forward(qkv.storage(), &shape.packed(&shape.zeros()));
            (
                tensor(context, [rows, shape.heads * shape.head]),
                tensor(lse, [rows, shape.heads]),
            )
        }

        fn heads_backward(
            qkv: FloatTensor<Self>,
            lse: FloatTensor<Self>,
            grad: FloatTensor<Self>,
            shape: &HeadsShape,
        ) -> FloatTensor<Self> {
            let (qkv, lse, grad) = (contiguous(qkv), contiguous(lse), contiguous(grad));
            let rows = size(&qkv, 0);
            let out = attention::backward(
                qkv.storage(),
                lse.storage(),
                grad.storage(),
                &shape.packed(&shape.zeros()),
            );
            tensor(out, [rows, 3 * shape.heads * shape.head])
        }
    }

    #[derive(Debug)]
    struct HeadsStep;

    impl<B: HeadsParts> Backward<B, 1> for HeadsStep {
        type State = (B::FloatTensorPrimitive, B::FloatTensorPrimitive, HeadsShape);

        fn backward(
            self,
            ops: Ops<Self::State, 1>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            let (qkv, lse, shape) = ops.state;
            unary::<B, _>(ops.parents, ops.node, grads, |grad| {
                B::heads_backward(qkv, lse, grad, &shape)
            });
        }
    }

    impl<B: HeadsParts, C: CheckpointStrategy> HeadsBackend for Autodiff<B, C> {
        fn fused_heads(qkv: FloatTensor<Self>, shape: HeadsShape) -> FloatTensor<Self> {
            let (qkv, node) = qkv.into_parts();
            let (context, lse) = B::heads_forward(qkv.clone(), &shape);
            in_graph::<B, C, _, _>(HeadsStep, [node], (qkv, lse, shape), context)
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{assert_same_gradients, values};
    use burn::tensor::Device;

    #[test]
    fn fused_and_composed_forms_agree_in_value_and_gradient() {
        for lengths in [vec![1], vec![4, 4, 4], vec![3, 1, 17, 2]] {
            let sequences = Sequences::new(&lengths);
            let inputs = [0.4, 1.1, 2.9].map(|phase| values([sequences.rows(), 12], phase));
            let three = |t: &[Tensor<2>]| [0, 1, 2].map(|i| t[i].clone());
            assert_same_gradients(
                &inputs,
                |t| {
                    let [q, k, v] = three(t);
                    attention(q, k, v, None, &sequences, 3, 0.0)
                },
                |t| {
                    let [q, k, v] = three(t);
                    composed(q, k, v, None, &sequences, 3, 0.0, SCORES)
                },
            );
        }
    }

    /// Score by score in f64, with a bias for each head and sequences of different lengths.
    #[test]
    fn a_bias_is_added_by_the_positions_in_each_sequence() {
        let (heads, head, width) = (2, 3, 4);
        let lengths = [4, 1, 3];
        let sequences = Sequences::new(&lengths);
        let rows = sequences.rows();
        let inputs = [0.2, 1.3, 2.1].map(|phase| values([rows, heads * head], phase));
        let distances = 2 * width - 1;
        let bias: Vec<f32> = (0..heads * distances)
            .map(|i| (i as f32 * 0.9).sin())
            .collect();
        let device = Device::flex();
        let [q, k, v] = inputs
            .clone()
            .map(|data| Tensor::<2>::from_data(data, &device));
        let b = Tensor::<2>::from_data(TensorData::new(bias.clone(), [heads, distances]), &device);
        let got: Vec<f32> = attention(q, k, v, Some(b), &sequences, heads, 0.0)
            .into_data()
            .try_to_vec()
            .unwrap();
        let [q, k, v]: [Vec<f32>; 3] = inputs.map(|data| data.iter::<f32>().collect());
        let at = |x: &[f32], row: usize, h: usize, d: usize| {
            f64::from(x[row * heads * head + h * head + d])
        };
        for (s, length) in lengths.iter().enumerate() {
            let start = sequences.bounds()[s];
            for i in 0..*length {
                for h in 0..heads {
                    let scores: Vec<f64> = (0..*length)
                        .map(|j| {
                            let dot: f64 = (0..head)
                                .map(|d| at(&q, start + i, h, d) * at(&k, start + j, h, d))
                                .sum();
                            let bias = f64::from(bias[h * distances + width - 1 + j - i]);
                            (dot / (head as f64).sqrt() + bias).exp()
                        })
                        .collect();
                    let total: f64 = scores.iter().sum();
                    for d in 0..head {
                        let want: f64 = (0..*length)
                            .map(|j| scores[j] / total * at(&v, start + j, h, d))
                            .sum();
                        assert!((at(&got, start + i, h, d) - want).abs() < 1e-6);
                    }
                }
            }
        }
    }

    #[test]
    fn queries_in_blocks_change_nothing() {
        let sequences = Sequences::new(&[7, 2, 5]);
        let run = |t: &[Tensor<2>], most_scores: usize| {
            let [q, k, v, bias] = [0, 1, 2, 3].map(|i| t[i].clone());
            composed(q, k, v, Some(bias), &sequences, 2, 0.0, most_scores)
        };
        let inputs = [0.4, 1.1, 2.9].map(|phase| values([14, 4], phase));
        let [q, k, v] = inputs;
        // 3 x 2 x 7 scores a query: blocks of one, and of three with a shorter last one.
        for most_scores in [1, 3 * 3 * 2 * 7] {
            assert_same_gradients(
                &[q.clone(), k.clone(), v.clone(), values([2, 13], 0.8)],
                |t| run(t, most_scores),
                |t| run(t, SCORES),
            );
        }
    }

    /// A short text beside a long one: padded queries far from every real key stay finite, and so
    /// do gradients.
    #[test]
    fn a_window_leaves_no_gradient_undefined() {
        let sequences = Sequences::new(&[9, 2]);
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_data(values([11, 4], 0.7), &device).require_grad();
        let window: Vec<f32> = (-8_i32..=8)
            .map(|distance| if distance.abs() <= 2 { 0.0 } else { -1e30 })
            .collect();
        let window = Tensor::<2>::from_data(TensorData::new(window, [1, 17]), &Device::flex());
        let y = attention(
            x.clone(),
            x.clone(),
            x.clone(),
            Some(window),
            &sequences,
            2,
            0.0,
        );
        let grads = y.powi_scalar(2).sum().backward();
        let grad: Vec<f32> = x.grad(&grads).unwrap().into_data().try_to_vec().unwrap();
        assert!(grad.iter().all(|g| g.is_finite()) && grad.iter().any(|g| *g != 0.0));
    }
}
