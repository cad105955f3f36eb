//! Mean over the rows of each sequence.
//!
//! ```text
//! y[s] = (1 / l_s) sum over the rows t of s of x[t]
//! ```

use burn::tensor::{Tensor, TensorData};

use crate::sequences::Sequences;

/// `[rows, hidden]` to `[sequences, hidden]`; an empty sequence has mean 0.
///
/// # Panics
///
/// If `x` does not have the rows of `sequences`.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Tensor};
/// use kernels::{Sequences, sequence_mean};
/// let x = Tensor::<2>::from_floats([[1.0], [3.0], [5.0]], &Device::flex());
/// let y: Vec<f32> = sequence_mean(x, &Sequences::new(&[2, 1])).into_data().try_to_vec().unwrap();
/// assert_eq!(y, [2.0, 5.0]);
/// # }
/// ```
pub fn sequence_mean(x: Tensor<2>, sequences: &Sequences) -> Tensor<2> {
    assert_eq!(x.dims()[0], sequences.rows(), "mean: rows of another batch");
    #[cfg(feature = "flex")]
    if crate::fused::on_flex(&x) {
        use burn::backend::Dispatch;
        return Tensor::from_dispatch(<Dispatch as fused::MeanBackend>::fused_sequence_mean(
            x.into_dispatch(),
            sequences.shared_bounds(),
        ));
    }
    composed(x, sequences)
}

/// Reference and fallback: a product with the `[sequences, rows]` matrix of weights.
fn composed(x: Tensor<2>, sequences: &Sequences) -> Tensor<2> {
    let rows = sequences.rows();
    let mut weights = vec![0.0f32; sequences.len() * rows];
    for (sequence, pair) in sequences.bounds().windows(2).enumerate() {
        let weight = 1.0 / (pair[1] - pair[0]) as f32;
        weights[sequence * rows + pair[0]..sequence * rows + pair[1]].fill(weight);
    }
    let weights = TensorData::new(weights, [sequences.len(), rows]);
    Tensor::<2>::from_data(weights, &x.device().inner()).matmul(x)
}

#[cfg(feature = "flex")]
#[allow(missing_docs, unreachable_pub)]
mod fused {
    use std::sync::Arc;

    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, unary};
    use burn::backend::{Autodiff, Backend, Flex, backend_extension, tensor::FloatTensor};
    use rayon::prelude::*;

    use crate::cpu::{contiguous, size, tensor};
    use crate::fused::in_graph;

    #[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
    pub trait MeanBackend: Backend {
        fn fused_sequence_mean(x: FloatTensor<Self>, bounds: Arc<[usize]>) -> FloatTensor<Self>;
    }

    pub trait MeanGradient: MeanBackend {
        fn sequence_mean_gradient(
            grad: FloatTensor<Self>,
            bounds: &Arc<[usize]>,
        ) -> FloatTensor<Self>;
    }

    impl MeanBackend for Flex {
        fn fused_sequence_mean(x: FloatTensor<Self>, bounds: Arc<[usize]>) -> FloatTensor<Self> {
            let x = contiguous(x);
            let hidden = size(&x, 1);
            let values: &[f32] = x.storage();
            let mut mean = vec![0.0f32; (bounds.len() - 1) * hidden];
            mean.par_chunks_mut(hidden.max(1))
                .zip(bounds.par_windows(2))
                .for_each(|(mean, pair)| {
                    let weight = 1.0 / (pair[1] - pair[0]).max(1) as f32;
                    for row in values[pair[0] * hidden..pair[1] * hidden].chunks_exact(hidden) {
                        for (mean, x) in mean.iter_mut().zip(row) {
                            *mean += x * weight;
                        }
                    }
                });
            tensor(mean, [bounds.len() - 1, hidden])
        }
    }

    impl MeanGradient for Flex {
        fn sequence_mean_gradient(
            grad: FloatTensor<Self>,
            bounds: &Arc<[usize]>,
        ) -> FloatTensor<Self> {
            let grad = contiguous(grad);
            let hidden = size(&grad, 1);
            let rows = bounds[bounds.len() - 1];
            let mut out = Vec::with_capacity(rows * hidden);
            let values: &[f32] = grad.storage();
            for (pair, g) in bounds.windows(2).zip(values.chunks(hidden.max(1))) {
                let weight = 1.0 / (pair[1] - pair[0]).max(1) as f32;
                for _ in pair[0]..pair[1] {
                    out.extend(g.iter().map(|g| g * weight));
                }
            }
            tensor(out, [rows, hidden])
        }
    }

    #[derive(Debug)]
    struct MeanStep;

    impl<B: MeanGradient> Backward<B, 1> for MeanStep {
        type State = Arc<[usize]>;

        fn backward(
            self,
            ops: Ops<Self::State, 1>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            let bounds = ops.state;
            unary::<B, _>(ops.parents, ops.node, grads, |grad| {
                B::sequence_mean_gradient(grad, &bounds)
            });
        }
    }

    impl<B: MeanGradient, C: CheckpointStrategy> MeanBackend for Autodiff<B, C> {
        fn fused_sequence_mean(x: FloatTensor<Self>, bounds: Arc<[usize]>) -> FloatTensor<Self> {
            let (x, node) = x.into_parts();
            let mean = B::fused_sequence_mean(x, Arc::clone(&bounds));
            in_graph::<B, C, _, _>(MeanStep, [node], bounds, mean)
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{assert_same_gradients, values};

    #[test]
    fn fused_and_composed_forms_agree_in_value_and_gradient() {
        for lengths in [vec![1], vec![4, 4, 4], vec![3, 1, 17, 2]] {
            let sequences = Sequences::new(&lengths);
            assert_same_gradients(
                &[values([sequences.rows(), 11], 0.4)],
                |t| sequence_mean(t[0].clone(), &sequences),
                |t| composed(t[0].clone(), &sequences),
            );
        }
    }
}
