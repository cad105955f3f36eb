//! Sum of embeddings, layer norm and dropout as one operation.
//!
//! ```text
//! y[t] = dropout(LN(word[id_t] + position[p_t] + segment[0]))
//! ```
//!
//! Source: Devlin et al., arXiv 1810.04805, figure 2; the segment is always 0.

use burn::tensor::{Int, Tensor, module};

use crate::dropout::{composed_dropout, effective_rate};
use crate::residual_layer_norm::LayerNormParams;

/// Embedding tables, each with `hidden` columns.
#[derive(Clone, Debug)]
pub struct EmbeddingTables {
    /// `[vocab, hidden]`.
    pub word: Tensor<2>,
    /// `[positions, hidden]`.
    pub position: Tensor<2>,
    /// `[segments, hidden]`; row 0 is used.
    pub segment: Tensor<2>,
}

/// `[tokens, hidden]` for ids and positions `[tokens]`; dropout acts on autodiff devices only.
///
/// # Panics
///
/// If an id or a position is outside its table.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Int, Tensor};
/// use kernels::{EmbeddingTables, LayerNormParams, embedding_layer_norm};
/// let device = Device::flex();
/// let tables = EmbeddingTables {
///     word: Tensor::from_floats([[0.0, 0.0], [1.0, 3.0]], &device),
///     position: Tensor::zeros([4, 2], &device),
///     segment: Tensor::zeros([1, 2], &device),
/// };
/// let norm = LayerNormParams {
///     weight: Tensor::ones([2], &device),
///     bias: Tensor::zeros([2], &device),
///     eps: 0.0,
/// };
/// let ids = Tensor::<1, Int>::from_ints([1], &device);
/// let positions = Tensor::<1, Int>::from_ints([0], &device);
/// let y: Vec<f32> = embedding_layer_norm(tables, ids, positions, norm, 0.0)
///     .into_data().try_to_vec().unwrap();
/// assert_eq!(y, [-1.0, 1.0]);
/// # }
/// ```
pub fn embedding_layer_norm(
    tables: EmbeddingTables,
    ids: Tensor<1, Int>,
    positions: Tensor<1, Int>,
    norm: LayerNormParams,
    dropout: f64,
) -> Tensor<2> {
    let rate = effective_rate(&tables.word, dropout);
    #[cfg(feature = "flex")]
    if crate::fused::on_flex(&tables.word) {
        use burn::backend::Dispatch;
        let seed = if rate > 0.0 {
            crate::fused::draw_seed(&tables.word.device())
        } else {
            0
        };
        return Tensor::from_dispatch(<Dispatch as fused::EmbeddingBackend>::fused_embedding_norm(
            tables.word.into_dispatch(),
            tables.position.into_dispatch(),
            tables.segment.into_dispatch(),
            norm.weight.into_dispatch(),
            norm.bias.into_dispatch(),
            fused::EmbeddingInput {
                ids: host(ids),
                positions: host(positions),
                eps: norm.eps as f32,
                dropout: crate::cpu::random_mask::MaskKey::new(rate, seed),
            },
        ));
    }
    composed(tables, ids, positions, norm, rate)
}

/// The values of an integer tensor.
#[cfg(feature = "flex")]
fn host(ids: Tensor<1, Int>) -> std::sync::Arc<[i32]> {
    ids.into_data().iter::<i32>().collect()
}

/// Reference and fallback.
fn composed(
    tables: EmbeddingTables,
    ids: Tensor<1, Int>,
    positions: Tensor<1, Int>,
    norm: LayerNormParams,
    rate: f64,
) -> Tensor<2> {
    let [_, hidden] = tables.word.dims();
    let sum = tables.word.select(0, ids)
        + (tables.position.select(0, positions) + tables.segment.slice([0..1, 0..hidden]));
    composed_dropout(
        module::layer_norm(sum, norm.weight, Some(norm.bias), norm.eps),
        rate,
    )
}

#[cfg(feature = "flex")]
#[allow(missing_docs, unreachable_pub)]
mod fused {
    use std::sync::Arc;

    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::{Autodiff, Backend, Flex, backend_extension, tensor::FloatTensor};
    use burn_flex::FlexTensor;

    use crate::cpu::column_sum::column_sum;
    use crate::cpu::embedding::{gather, scatter};
    use crate::cpu::layer_norm::{self, Affine, mask_rows};
    use crate::cpu::random_mask::MaskKey;
    use crate::cpu::{contiguous, size, tensor};

    /// What a call needs beside its tensors.
    #[derive(Clone, Debug)]
    pub struct EmbeddingInput {
        pub(crate) ids: Arc<[i32]>,
        pub(crate) positions: Arc<[i32]>,
        pub(crate) eps: f32,
        pub(crate) dropout: Option<MaskKey>,
    }

    #[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
    pub trait EmbeddingBackend: Backend {
        fn fused_embedding_norm(
            word: FloatTensor<Self>,
            position: FloatTensor<Self>,
            segment: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            input: EmbeddingInput,
        ) -> FloatTensor<Self>;
    }

    /// Sizes of the tables: rows of word, position, segment.
    type TableRows = [usize; 3];

    pub trait EmbeddingParts: EmbeddingBackend {
        /// Output, normalised rows, inverse deviations; the latter two empty unless `keep`.
        #[allow(clippy::too_many_arguments)]
        fn embedding_norm(
            word: FloatTensor<Self>,
            position: FloatTensor<Self>,
            segment: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            input: &EmbeddingInput,
            keep: bool,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

        /// Gradients of the rows before the norm, of its weight and of its bias.
        fn embedding_norm_backward(
            normalized: FloatTensor<Self>,
            inverse: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            grad: FloatTensor<Self>,
            input: &EmbeddingInput,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

        /// A table of `rows` rows that collects the rows of `grad`.
        fn collect(grad: &FloatTensor<Self>, ids: &[i32], rows: usize) -> FloatTensor<Self>;

        /// A table of `rows` rows whose row 0 is the sum of all rows of `grad`.
        fn collect_first(grad: &FloatTensor<Self>, rows: usize) -> FloatTensor<Self>;
    }

    impl EmbeddingBackend for Flex {
        fn fused_embedding_norm(
            word: FloatTensor<Self>,
            position: FloatTensor<Self>,
            segment: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            input: EmbeddingInput,
        ) -> FloatTensor<Self> {
            Self::embedding_norm(word, position, segment, weight, bias, &input, false).0
        }
    }

    impl EmbeddingParts for Flex {
        fn embedding_norm(
            word: FlexTensor,
            position: FlexTensor,
            segment: FlexTensor,
            weight: FlexTensor,
            bias: FlexTensor,
            input: &EmbeddingInput,
            keep: bool,
        ) -> (FlexTensor, FlexTensor, FlexTensor) {
            let [word, position, segment, weight, bias] =
                [word, position, segment, weight, bias].map(contiguous);
            let columns = size(&word, 1);
            let sum = gather(
                word.storage(),
                position.storage(),
                segment.storage(),
                &input.ids,
                &input.positions,
                columns,
            );
            let affine = Affine {
                weight: weight.storage(),
                bias: bias.storage(),
                eps: input.eps,
            };
            let mut out = layer_norm::forward(&sum, None, affine, None, keep);
            if let Some(mask) = input.dropout {
                mask_rows(&mut out.output, columns, mask);
            }
            let rows = input.ids.len();
            let kept = if keep { rows } else { 0 };
            (
                tensor(out.output, [rows, columns]),
                tensor(out.normalized, [kept, columns]),
                tensor(out.inverse, [kept]),
            )
        }

        fn embedding_norm_backward(
            normalized: FlexTensor,
            inverse: FlexTensor,
            weight: FlexTensor,
            grad: FlexTensor,
            input: &EmbeddingInput,
        ) -> (FlexTensor, FlexTensor, FlexTensor) {
            let (weight, mut grad) = (contiguous(weight), contiguous(grad));
            let shape = [size(&grad, 0), size(&grad, 1)];
            if let Some(mask) = input.dropout {
                mask_rows(grad.storage_mut(), shape[1], mask);
            }
            let out = layer_norm::backward(
                normalized.storage(),
                inverse.storage(),
                weight.storage(),
                grad.storage(),
                None,
            );
            (
                tensor(out.sum, shape),
                tensor(out.weight, [shape[1]]),
                tensor(out.bias, [shape[1]]),
            )
        }

        fn collect(grad: &FlexTensor, ids: &[i32], rows: usize) -> FlexTensor {
            let columns = size(grad, 1);
            tensor(scatter(grad.storage(), ids, rows, columns), [rows, columns])
        }

        fn collect_first(grad: &FlexTensor, rows: usize) -> FlexTensor {
            let columns = size(grad, 1);
            let mut table = column_sum(grad.storage(), columns);
            table.resize(rows * columns, 0.0);
            tensor(table, [rows, columns])
        }
    }

    #[derive(Debug)]
    struct EmbeddingStep;

    #[derive(Clone, Debug)]
    pub struct EmbeddingState<T: Clone + std::fmt::Debug> {
        normalized: T,
        inverse: T,
        weight: T,
        input: EmbeddingInput,
        rows: TableRows,
    }

    impl<B: EmbeddingParts> Backward<B, 5> for EmbeddingStep {
        type State = EmbeddingState<B::FloatTensorPrimitive>;

        fn backward(
            self,
            ops: Ops<Self::State, 5>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            let state = ops.state;
            let grad = grads.consume::<B>(&ops.node);
            let (sum, of_weight, of_bias) = B::embedding_norm_backward(
                state.normalized,
                state.inverse,
                state.weight,
                grad,
                &state.input,
            );
            let [word, position, segment, weight, bias] = ops.parents;
            let [words, positions, segments] = state.rows;
            if let Some(node) = weight {
                grads.register::<B>(node.id, of_weight);
            }
            if let Some(node) = bias {
                grads.register::<B>(node.id, of_bias);
            }
            if let Some(node) = word {
                grads.register::<B>(node.id, B::collect(&sum, &state.input.ids, words));
            }
            if let Some(node) = position {
                let table = B::collect(&sum, &state.input.positions, positions);
                grads.register::<B>(node.id, table);
            }
            if let Some(node) = segment {
                grads.register::<B>(node.id, B::collect_first(&sum, segments));
            }
        }
    }

    impl<B: EmbeddingParts, C: CheckpointStrategy> EmbeddingBackend for Autodiff<B, C> {
        fn fused_embedding_norm(
            word: FloatTensor<Self>,
            position: FloatTensor<Self>,
            segment: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            input: EmbeddingInput,
        ) -> FloatTensor<Self> {
            use burn::backend::TensorMetadata;
            let (word, nword) = word.into_parts();
            let (position, nposition) = position.into_parts();
            let (segment, nsegment) = segment.into_parts();
            let (weight, nweight) = weight.into_parts();
            let (bias, nbias) = bias.into_parts();
            let rows = [&word, &position, &segment].map(|table| table.shape()[0]);
            match EmbeddingStep
                .prepare::<C>([nword, nposition, nsegment, nweight, nbias])
                .compute_bound()
                .stateful()
            {
                OpsKind::Tracked(prep) => {
                    let (y, normalized, inverse) = B::embedding_norm(
                        word,
                        position,
                        segment,
                        weight.clone(),
                        bias,
                        &input,
                        true,
                    );
                    let state = EmbeddingState {
                        normalized,
                        inverse,
                        weight,
                        input,
                        rows,
                    };
                    prep.finish(state, y)
                }
                OpsKind::UnTracked(prep) => {
                    let y = B::embedding_norm(word, position, segment, weight, bias, &input, false);
                    prep.finish(y.0)
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
        let ids = [3, 0, 3, 6, 1, 3, 3];
        let positions = [0, 1, 2, 0, 1, 2, 3];
        let run = |t: &[Tensor<2>], fused: bool| {
            let device = t[0].device();
            let tables = EmbeddingTables {
                word: t[0].clone(),
                position: t[1].clone(),
                segment: t[2].clone(),
            };
            let norm = LayerNormParams {
                weight: t[3].clone().squeeze_dim(0),
                bias: t[4].clone().squeeze_dim(0),
                eps: 1e-12,
            };
            let ids = Tensor::<1, Int>::from_ints(ids, &device);
            let positions = Tensor::<1, Int>::from_ints(positions, &device);
            if fused {
                embedding_layer_norm(tables, ids, positions, norm, 0.0)
            } else {
                composed(tables, ids, positions, norm, 0.0)
            }
        };
        assert_same_gradients(
            &[
                values([7, 12], 0.1),
                values([5, 12], 0.2),
                values([2, 12], 0.3),
                values([1, 12], 0.4),
                values([1, 12], 0.5),
            ],
            |t| run(t, true),
            |t| run(t, false),
        );
    }
}
