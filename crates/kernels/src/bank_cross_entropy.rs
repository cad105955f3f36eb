//! Weighted cross entropy of queries over a bank, as one operation with its own backward pass.
//!
//! With `z_ij = scale q_i . h_j`, neighbours `n(i, r)` with weights `w_ir` and
//! `W_i = sum_r w_ir`:
//!
//! ```text
//! L_i = W_i ln sum_j exp(z_ij) - sum_r w_ir z_{i, n(i,r)}
//! dL_i / dz_ij = W_i softmax_j(z_i) - w_ij
//! ```
//!
//! The scores `[rows, batch]` are held once, for the backward pass; their gradient exists for one
//! block of the bank at a time. No mask of that size is formed.
//!
//! Source: the InfoNCE bound of van den Oord, Li, Vinyals, "Representation Learning with Contrastive
//! Predictive Coding", arXiv 1807.03748, equation 4, with weighted positives.

use burn::tensor::{Int, Tensor};

/// Inputs of [`bank_cross_entropy`].
#[derive(Clone, Debug)]
pub struct BankCrossEntropy {
    /// Queries, `[batch, dim]`.
    pub queries: Tensor<2>,
    /// Bank, `[rows, dim]`.
    pub bank: Tensor<2>,
    /// Neighbours as rows of the bank, `[batch, width]`.
    pub ids: Tensor<2, Int>,
    /// Weights of the neighbours, `[batch, width]`; constants of the gradient.
    pub weights: Tensor<2>,
    /// Factor of the scores, `1 / tau`.
    pub scale: f64,
}

/// The loss of every query, `[batch]`; gradients reach queries and bank.
///
/// # Errors
///
/// The inputs come back where there is no fused version: on a backend other than flex, for element
/// types other than f32, and where the weights take part in a gradient. The caller then composes
/// the loss from plain operations.
///
/// # Panics
///
/// If shapes do not fit together or an id is not a row of the bank.
pub fn bank_cross_entropy(inputs: BankCrossEntropy) -> Result<Tensor<1>, Box<BankCrossEntropy>> {
    #[cfg(feature = "flex")]
    if fused::applies(&inputs) {
        return Ok(fused::run(inputs));
    }
    Err(Box::new(inputs))
}

#[cfg(feature = "flex")]
mod fused {
    use std::sync::Arc;

    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops};
    use burn::backend::tensor::{FloatTensor, IntTensor};
    use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
    use burn::tensor::{DType, Tensor};
    use burn_flex::FlexTensor;
    use rayon::prelude::*;

    use super::BankCrossEntropy;
    use crate::bank_blocks::{Neighbours, add_parts, block_len, groups, transposed};
    use crate::cpu::matmul::{Matrix, serial_matmul, serial_matmul_into};
    use crate::cpu::{size, tensor};
    use crate::fused::{backward_to, in_graph, on_flex};
    use crate::simd_objectives::{Partial, Partials, score_gradient, score_partials};

    pub(super) fn applies(inputs: &BankCrossEntropy) -> bool {
        on_flex(&inputs.queries)
            && on_flex(&inputs.bank)
            && on_flex(&inputs.weights)
            && !inputs.weights.is_tracked()
            && matches!(inputs.ids.dtype(), DType::I64 | DType::I32)
    }

    pub(super) fn run(inputs: BankCrossEntropy) -> Tensor<1> {
        Tensor::from_dispatch(<Dispatch as BankCrossEntropyBackend>::bank_cross_entropy(
            inputs.queries.into_dispatch(),
            inputs.bank.into_dispatch(),
            inputs.ids.into_dispatch(),
            inputs.weights.into_dispatch(),
            inputs.scale,
        ))
    }

    /// Routes the operation; only flex has it.
    #[backend_extension(Flex, Autodiff)]
    pub(super) trait BankCrossEntropyBackend: Backend {
        /// The loss of every query, `[batch]`.
        fn bank_cross_entropy(
            queries: FloatTensor<Self>,
            bank: FloatTensor<Self>,
            ids: IntTensor<Self>,
            weights: FloatTensor<Self>,
            scale: f64,
        ) -> FloatTensor<Self>;
    }

    impl BankCrossEntropyBackend for Flex {
        fn bank_cross_entropy(
            queries: FlexTensor,
            bank: FlexTensor,
            ids: FlexTensor,
            weights: FlexTensor,
            scale: f64,
        ) -> FlexTensor {
            forward(queries, bank, ids, weights, scale).0
        }
    }

    /// The two halves of the operation on one backend.
    pub(super) trait BankCrossEntropySteps: Backend {
        /// What the backward pass needs.
        type Saved: Clone + Send + core::fmt::Debug + 'static;

        /// Losses `[batch]` and what the backward pass needs.
        fn bank_forward(
            queries: FloatTensor<Self>,
            bank: FloatTensor<Self>,
            ids: IntTensor<Self>,
            weights: FloatTensor<Self>,
            scale: f64,
        ) -> (FloatTensor<Self>, Self::Saved);

        /// Gradients of queries and bank, each if asked for.
        fn bank_backward(
            saved: Self::Saved,
            grad: FloatTensor<Self>,
            wanted: [bool; 2],
        ) -> [Option<FloatTensor<Self>>; 2];
    }

    impl BankCrossEntropySteps for Flex {
        type Saved = Saved;

        fn bank_forward(
            queries: FlexTensor,
            bank: FlexTensor,
            ids: FlexTensor,
            weights: FlexTensor,
            scale: f64,
        ) -> (FlexTensor, Saved) {
            forward(queries, bank, ids, weights, scale)
        }

        fn bank_backward(
            saved: Saved,
            grad: FlexTensor,
            wanted: [bool; 2],
        ) -> [Option<FlexTensor>; 2] {
            backward(&saved, &grad, wanted)
        }
    }

    #[derive(Debug)]
    struct BankStep;

    impl<B: BankCrossEntropySteps> Backward<B, 2> for BankStep {
        type State = B::Saved;

        fn backward(
            self,
            ops: Ops<Self::State, 2>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            backward_to::<B, _, _>(ops, grads, B::bank_backward);
        }
    }

    impl<B: BankCrossEntropySteps, C: CheckpointStrategy> BankCrossEntropyBackend for Autodiff<B, C> {
        fn bank_cross_entropy(
            queries: FloatTensor<Self>,
            bank: FloatTensor<Self>,
            ids: IntTensor<Self>,
            weights: FloatTensor<Self>,
            scale: f64,
        ) -> FloatTensor<Self> {
            let (queries, query_node) = queries.into_parts();
            let (bank, bank_node) = bank.into_parts();
            let (weights, _) = weights.into_parts();
            let (losses, saved) = B::bank_forward(queries, bank, ids, weights, scale);
            let nodes = [query_node, bank_node];
            in_graph::<B, C, _, _>(BankStep, nodes, saved, losses)
        }
    }

    /// Inputs and intermediate results that the backward pass reads.
    #[derive(Clone, Debug)]
    pub(super) struct Saved {
        queries: FlexTensor,
        bank: FlexTensor,
        /// Scores of every block, `[block, batch]` each.
        scores: Arc<Vec<Vec<f32>>>,
        log_sums: Vec<f32>,
        neighbours: Neighbours,
        scale: f32,
    }

    fn forward(
        queries: FlexTensor,
        bank: FlexTensor,
        ids: FlexTensor,
        weights: FlexTensor,
        scale: f64,
    ) -> (FlexTensor, Saved) {
        let (queries, bank) = (queries.to_contiguous(), bank.to_contiguous());
        let (batch, dim) = (size(&queries, 0), size(&queries, 1));
        let rows = size(&bank, 0);
        let neighbours = Neighbours::new(&ids, &weights, rows);
        let h: &[f32] = bank.storage();
        let scale = scale as f32;
        let q = transposed(queries.storage(), dim, scale);
        let block = block_len(rows);
        let (scores, partials): (Vec<Vec<f32>>, Vec<Partials>) = h
            .par_chunks(block * dim)
            .map(|h| {
                let length = h.len() / dim;
                let h = Matrix::dense(h, length, dim);
                let z = serial_matmul(h, Matrix::dense(&q, dim, batch));
                let mut partials = Partials::new(batch);
                score_partials(&z, partials.all());
                (z, partials)
            })
            .unzip();
        let parts = |i: usize| partials.iter().map(move |part| part.of(i));
        let log_sums: Vec<f32> = (0..batch).map(|i| Partial::log_sum_exp(parts(i))).collect();
        let losses = (0..batch)
            .map(|i| {
                let near: f64 = neighbours
                    .of(i)
                    .map(|(id, weight)| {
                        f64::from(weight) * f64::from(scores[id / block][id % block * batch + i])
                    })
                    .sum();
                (f64::from(neighbours.total(i)) * f64::from(log_sums[i]) - near) as f32
            })
            .collect();
        let saved = Saved {
            scores: Arc::new(scores),
            queries,
            bank,
            log_sums,
            neighbours,
            scale,
        };
        (tensor(losses, [batch]), saved)
    }

    fn backward(saved: &Saved, grad: &FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let grad = grad.to_contiguous();
        let grad: &[f32] = grad.storage();
        let (batch, dim) = (size(&saved.queries, 0), size(&saved.queries, 1));
        let rows = size(&saved.bank, 0);
        let (q, h): (&[f32], &[f32]) = (saved.queries.storage(), saved.bank.storage());
        let [want_queries, want_bank] = wanted;
        let neighbours = &saved.neighbours;
        let factors = grad.iter().enumerate();
        let factors: Vec<f32> = factors
            .map(|(i, grad)| grad * neighbours.total(i))
            .collect();
        let by_block = neighbours.by_block(rows);

        // One task a group of blocks: a sum for the queries, rows of its own for the bank.
        let parts: Vec<(Vec<f32>, Vec<f32>)> = groups(rows)
            .into_par_iter()
            .map(|group| {
                let mut sum = vec![0.0f32; if want_queries { batch * dim } else { 0 }];
                let mut grad_bank = Vec::new();
                let mut grad_z = Vec::new();
                for at in group {
                    let z = &saved.scores[at];
                    let length = z.len() / batch;
                    grad_z.resize(z.len(), 0.0);
                    score_gradient(z, &factors, &saved.log_sums, &mut grad_z);
                    for neighbour in by_block.of(at) {
                        let i = neighbour.query as usize;
                        let place = neighbour.offset as usize * batch + i;
                        grad_z[place] -= grad[i] * neighbour.weight;
                    }
                    let grad_z = Matrix::dense(&grad_z, length, batch);
                    if want_queries {
                        let h = &h[at * block_len(rows) * dim..];
                        let h = Matrix::dense(h, length, dim);
                        serial_matmul_into(&mut sum, grad_z.t(), h, saved.scale, true);
                    }
                    if want_bank {
                        let start = grad_bank.len();
                        grad_bank.resize(start + length * dim, 0.0);
                        let q = Matrix::dense(q, batch, dim);
                        serial_matmul_into(&mut grad_bank[start..], grad_z, q, saved.scale, false);
                    }
                }
                (sum, grad_bank)
            })
            .collect();
        let grad_queries = want_queries.then(|| {
            let mut sum = vec![0.0f32; batch * dim];
            let parts: Vec<&[f32]> = parts.iter().map(|(part, _)| part.as_slice()).collect();
            add_parts(&mut sum, &parts);
            tensor(sum, [batch, dim])
        });
        let grad_bank = want_bank.then(|| {
            let parts: Vec<&[f32]> = parts.iter().map(|(_, part)| part.as_slice()).collect();
            tensor(parts.concat(), [rows, dim])
        });
        [grad_queries, grad_bank]
    }
}
