//! Both terms of the STAR objective over Gaussian heads, as one operation with its own backward
//! pass.
//!
//! With queries `q_i`, bank rows `h_j`, heads `mean(x) = W_mu relu(x) + b_mu` and
//! `variance(x) = elu(W_var relu(x) + b_var) + 1 + floor`, symmetric divergences `d_ij` between the
//! Gaussians of `q_i` and `h_j`, scores `z_ij = q_i . h_j / tau`, neighbours `n(i, r)` with weights
//! `w_ir` and `W_i = sum_r w_ir`:
//!
//! ```text
//! KL_i = W_i ln sum_j exp(-d_ij / tau)         + (1 / tau) sum_r w_ir d_{i, n(i,r)}
//! EU_i = W_i ln sum_j exp(z_ij + d_ij ln B)    - sum_r w_ir z_{i, n(i,r)}
//! ```
//!
//! The bank is walked in blocks. Kept for the backward pass: means and variances
//! `[rows, 2 dim]`, divergences and scores `[rows, batch]` once each, and one logarithm a query and
//! term. The features of the closed form (four times `[rows, dim]`) exist for one block at a time.
//!
//! Gradients with `p = softmax_j(-d_i / tau)`, `r = softmax_j(z_i + d_i ln B)`:
//!
//! ```text
//! dKL_i / dd_ij = (w_ij - W_i p_ij) / tau       dEU_i / dd_ij = W_i r_ij ln B
//! dEU_i / dz_ij = W_i r_ij - w_ij               dEU_i / dln B = W_i sum_j r_ij d_ij
//! ```
//!
//! Source: "A Generic Method for Fine-grained Category Discovery in Natural Language Texts"
//! (arXiv 2406.13103); the closed form is documented with `losses::symmetric_gaussian_kl`.

use burn::tensor::{Int, Tensor};

/// Inputs of [`gaussian_star`].
#[derive(Clone, Debug)]
pub struct GaussianStar {
    /// Queries, `[batch, hidden]`.
    pub queries: Tensor<2>,
    /// Bank, `[rows, hidden]`; a constant of the gradient.
    pub bank: Tensor<2>,
    /// Weight of the means, `[hidden, dim]`.
    pub mu_weight: Tensor<2>,
    /// Bias of the means, `[dim]`.
    pub mu_bias: Tensor<1>,
    /// Weight of the variances, `[hidden, dim]`.
    pub var_weight: Tensor<2>,
    /// Bias of the variances, `[dim]`.
    pub var_bias: Tensor<1>,
    /// `ln B`, `[1]`; 0 leaves the contrast without guidance.
    pub ln_base: Tensor<1>,
    /// Neighbours as rows of the bank, `[batch, width]`.
    pub ids: Tensor<2, Int>,
    /// Weights of the neighbours, `[batch, width]`; constants of the gradient.
    pub weights: Tensor<2>,
    /// Numbers and switches.
    pub settings: StarSettings,
}

/// Numbers and switches of [`gaussian_star`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StarSettings {
    /// Temperature tau, greater than 0.
    pub temperature: f64,
    /// Added to every variance.
    pub var_floor: f64,
    /// Whether the heads learn from the bank side.
    pub bank_head_grad: bool,
}

/// The divergence term and the guided contrast of every query, `[2, batch]`.
///
/// The inputs come back where there is no fused version: on a backend other than flex, for element types other
/// than f32, and where the bank or the weights take part in a gradient. The caller then composes the
/// terms from plain operations.
///
/// # Panics
///
/// If shapes do not fit together or an id is not a row of the bank.
pub fn gaussian_star(inputs: GaussianStar) -> Result<Tensor<2>, Box<GaussianStar>> {
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

    use super::{GaussianStar, StarSettings};
    use crate::bank_blocks::{Neighbours, add_parts, block_len, groups, transposed};
    use crate::cpu::matmul::{Matrix, serial_matmul, serial_matmul_into};
    use crate::cpu::{size, tensor};
    use crate::fused::{backward_to, in_graph, on_flex};
    use crate::simd_objectives::{
        Partial, Partials, Side, StarRows, StarScales, column_sums, gaussian_constants,
        gaussian_features, gaussian_features_backward, gaussians, relu, row_sums, star_gradient,
        star_partials,
    };

    pub(super) fn applies(inputs: &GaussianStar) -> bool {
        let constant = !inputs.bank.is_tracked() && !inputs.weights.is_tracked();
        constant
            && on_flex(&inputs.queries)
            && on_flex(&inputs.bank)
            && on_flex(&inputs.weights)
            && on_flex(&inputs.mu_weight)
            && on_flex(&inputs.var_weight)
            && on_flex(&inputs.mu_bias)
            && on_flex(&inputs.var_bias)
            && on_flex(&inputs.ln_base)
            && matches!(inputs.ids.dtype(), DType::I64 | DType::I32)
    }

    pub(super) fn run(inputs: GaussianStar) -> Tensor<2> {
        Tensor::from_dispatch(<Dispatch as GaussianStarBackend>::gaussian_star_terms(
            inputs.queries.into_dispatch(),
            inputs.bank.into_dispatch(),
            inputs.mu_weight.into_dispatch(),
            inputs.mu_bias.into_dispatch(),
            inputs.var_weight.into_dispatch(),
            inputs.var_bias.into_dispatch(),
            inputs.ln_base.into_dispatch(),
            inputs.ids.into_dispatch(),
            inputs.weights.into_dispatch(),
            inputs.settings,
        ))
    }

    /// Routes the operation; only flex has it.
    #[backend_extension(Flex, Autodiff)]
    pub(super) trait GaussianStarBackend: Backend {
        /// Both terms of every query, `[2, batch]`.
        #[allow(clippy::too_many_arguments)]
        fn gaussian_star_terms(
            queries: FloatTensor<Self>,
            bank: FloatTensor<Self>,
            mu_weight: FloatTensor<Self>,
            mu_bias: FloatTensor<Self>,
            var_weight: FloatTensor<Self>,
            var_bias: FloatTensor<Self>,
            ln_base: FloatTensor<Self>,
            ids: IntTensor<Self>,
            weights: FloatTensor<Self>,
            settings: StarSettings,
        ) -> FloatTensor<Self>;
    }

    impl GaussianStarBackend for Flex {
        fn gaussian_star_terms(
            queries: FlexTensor,
            bank: FlexTensor,
            mu_weight: FlexTensor,
            mu_bias: FlexTensor,
            var_weight: FlexTensor,
            var_bias: FlexTensor,
            ln_base: FlexTensor,
            ids: FlexTensor,
            weights: FlexTensor,
            settings: StarSettings,
        ) -> FlexTensor {
            let heads = [mu_weight, mu_bias, var_weight, var_bias];
            forward(queries, bank, heads, ln_base, ids, weights, settings).0
        }
    }

    /// The two halves of the operation on one backend.
    pub(super) trait GaussianStarSteps: Backend {
        /// What the backward pass needs.
        type Saved: Clone + Send + core::fmt::Debug + 'static;

        /// Terms `[2, batch]` and what the backward pass needs.
        fn star_forward(
            queries: FloatTensor<Self>,
            bank: FloatTensor<Self>,
            heads: [FloatTensor<Self>; 4],
            ln_base: FloatTensor<Self>,
            ids: IntTensor<Self>,
            weights: FloatTensor<Self>,
            settings: StarSettings,
        ) -> (FloatTensor<Self>, Self::Saved);

        /// Gradients of queries, the four head parameters and `ln B`; the heads' only if
        /// `head_grad`.
        fn star_backward(
            saved: Self::Saved,
            grad: FloatTensor<Self>,
            head_grad: bool,
        ) -> [Option<FloatTensor<Self>>; 6];
    }

    impl GaussianStarSteps for Flex {
        type Saved = Saved;

        fn star_forward(
            queries: FlexTensor,
            bank: FlexTensor,
            heads: [FlexTensor; 4],
            ln_base: FlexTensor,
            ids: FlexTensor,
            weights: FlexTensor,
            settings: StarSettings,
        ) -> (FlexTensor, Saved) {
            forward(queries, bank, heads, ln_base, ids, weights, settings)
        }

        fn star_backward(
            saved: Saved,
            grad: FlexTensor,
            head_grad: bool,
        ) -> [Option<FlexTensor>; 6] {
            backward(&saved, &grad, head_grad)
        }
    }

    #[derive(Debug)]
    struct StarStep;

    impl<B: GaussianStarSteps> Backward<B, 6> for StarStep {
        type State = B::Saved;

        fn backward(
            self,
            ops: Ops<Self::State, 6>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            backward_to::<B, _, _>(ops, grads, |saved, grad, wanted| {
                let head_grad = wanted[1..5].contains(&true);
                B::star_backward(saved, grad, head_grad)
            });
        }
    }

    impl<B: GaussianStarSteps, C: CheckpointStrategy> GaussianStarBackend for Autodiff<B, C> {
        fn gaussian_star_terms(
            queries: FloatTensor<Self>,
            bank: FloatTensor<Self>,
            mu_weight: FloatTensor<Self>,
            mu_bias: FloatTensor<Self>,
            var_weight: FloatTensor<Self>,
            var_bias: FloatTensor<Self>,
            ln_base: FloatTensor<Self>,
            ids: IntTensor<Self>,
            weights: FloatTensor<Self>,
            settings: StarSettings,
        ) -> FloatTensor<Self> {
            let (queries, query_node) = queries.into_parts();
            let (mu_weight, mu_weight_node) = mu_weight.into_parts();
            let (mu_bias, mu_bias_node) = mu_bias.into_parts();
            let (var_weight, var_weight_node) = var_weight.into_parts();
            let (var_bias, var_bias_node) = var_bias.into_parts();
            let (ln_base, base_node) = ln_base.into_parts();
            let (bank, _) = bank.into_parts();
            let (weights, _) = weights.into_parts();
            let heads = [mu_weight, mu_bias, var_weight, var_bias];
            let nodes = [
                query_node,
                mu_weight_node,
                mu_bias_node,
                var_weight_node,
                var_bias_node,
                base_node,
            ];
            let (terms, saved) =
                B::star_forward(queries, bank, heads, ln_base, ids, weights, settings);
            in_graph::<B, C, _, _>(StarStep, nodes, saved, terms)
        }
    }

    /// Inputs and intermediate results that the backward pass reads.
    #[derive(Clone, Debug)]
    pub(super) struct Saved {
        queries: FlexTensor,
        bank: FlexTensor,
        shared: Arc<Shared>,
    }

    #[derive(Debug)]
    struct Shared {
        /// Both weights side by side, `[hidden, 2 dim]`.
        weight: Vec<f32>,
        /// Shifted means and variances of the queries, `[batch, 2 dim]`.
        query_gaussians: Vec<f32>,
        blocks: Vec<Block>,
        /// Logarithms of the denominators, `[batch]` each.
        log_sums: [Vec<f32>; 2],
        neighbours: Neighbours,
        scales: StarScales,
        settings: StarSettings,
    }

    /// What is kept of a block of the bank.
    #[derive(Debug)]
    struct Block {
        /// Shifted means and variances, `[block, 2 dim]`.
        gaussians: Vec<f32>,
        /// Divergences before the clamp, `[block, batch]`.
        divergences: Vec<f32>,
        /// Scores, `[block, batch]`.
        scores: Vec<f32>,
    }

    /// Row-major `[left | right]` of two matrices with `columns` columns each.
    fn side_by_side(left: &[f32], right: &[f32], columns: usize) -> Vec<f32> {
        let mut both = Vec::with_capacity(2 * left.len());
        for (left, right) in left.chunks_exact(columns).zip(right.chunks_exact(columns)) {
            both.extend_from_slice(left);
            both.extend_from_slice(right);
        }
        both
    }

    /// `relu(x) weight` for some rows; `positive` is scratch for `relu(x)`.
    fn apply_heads(x: &[f32], hidden: usize, weight: &[f32], positive: &mut Vec<f32>) -> Vec<f32> {
        positive.resize(x.len(), 0.0);
        relu(x, positive);
        let (rows, width) = (x.len() / hidden, weight.len() / hidden);
        let positive = Matrix::dense(positive, rows, hidden);
        serial_matmul(positive, Matrix::dense(weight, hidden, width))
    }

    fn forward(
        queries: FlexTensor,
        bank: FlexTensor,
        heads: [FlexTensor; 4],
        ln_base: FlexTensor,
        ids: FlexTensor,
        weights: FlexTensor,
        settings: StarSettings,
    ) -> (FlexTensor, Saved) {
        let (queries, bank) = (queries.to_contiguous(), bank.to_contiguous());
        let [mu_weight, mu_bias, var_weight, var_bias] = heads.map(|x| x.to_contiguous());
        let (batch, hidden) = (size(&queries, 0), size(&queries, 1));
        let (rows, dim) = (size(&bank, 0), size(&mu_weight, 1));
        let (q, h): (&[f32], &[f32]) = (queries.storage(), bank.storage());
        let weight = side_by_side(mu_weight.storage(), var_weight.storage(), dim);
        let neighbours = Neighbours::new(&ids, &weights, rows);
        let ln_base = ln_base.to_contiguous().storage::<f32>()[0];
        let scales = StarScales {
            inverse_temperature: (1.0 / settings.temperature) as f32,
            ln_base,
        };
        let floor = settings.var_floor as f32;

        // Heads of the bank, and the mean of its means: a common shift of all means changes no
        // divergence but keeps the products of the closed form from cancelling.
        let block = block_len(rows);
        let (mut blocks, sums): (Vec<Block>, Vec<Vec<f32>>) = h
            .par_chunks(block * hidden)
            .map_init(Vec::new, |positive, x| {
                let gaussians = apply_heads(x, hidden, &weight, positive);
                let mut sum = vec![0.0f32; dim];
                column_sums(&gaussians, 2 * dim, &mut sum);
                let block = Block {
                    gaussians,
                    divergences: Vec::new(),
                    scores: Vec::new(),
                };
                (block, sum)
            })
            .unzip();
        let centre = |k: usize| sums.iter().map(|sum| f64::from(sum[k])).sum::<f64>() / rows as f64;
        let mu_bias: &[f32] = mu_bias.storage();
        // The bias of the means is such a shift as well: nothing of it stays but its not being
        // finite.
        let offsets: Vec<f32> = (0..dim)
            .map(|k| 0.0 * mu_bias[k] - centre(k) as f32)
            .chain(var_bias.storage::<f32>().iter().copied())
            .collect();

        let mut query_gaussians = apply_heads(q, hidden, &weight, &mut Vec::new());
        gaussians(&mut query_gaussians, &offsets, floor);
        let mut x = vec![0.0f32; batch * 4 * dim];
        gaussian_features(Side::Query, dim, &query_gaussians, &mut x);
        let mut shifts = vec![0.0f32; batch];
        gaussian_constants(dim, &query_gaussians, &mut shifts);
        let x = transposed(&x, 4 * dim, 1.0);
        let q = transposed(q, hidden, scales.inverse_temperature);

        let partials: Vec<[Partials; 2]> = blocks
            .par_iter_mut()
            .zip(h.par_chunks(block * hidden))
            .map_init(
                || (Vec::new(), Vec::new()),
                |(y, constants), (block, h)| {
                    let length = h.len() / hidden;
                    y.resize(length * 4 * dim, 0.0);
                    constants.resize(length, 0.0);
                    gaussians(&mut block.gaussians, &offsets, floor);
                    gaussian_features(Side::Bank, dim, &block.gaussians, y);
                    gaussian_constants(dim, &block.gaussians, constants);
                    let y = Matrix::dense(y, length, 4 * dim);
                    block.divergences = serial_matmul(y, Matrix::dense(&x, 4 * dim, batch));
                    let h = Matrix::dense(h, length, hidden);
                    block.scores = serial_matmul(h, Matrix::dense(&q, hidden, batch));
                    let [mut kl, mut contrast] = [Partials::new(batch), Partials::new(batch)];
                    star_partials(
                        &mut block.divergences,
                        &block.scores,
                        &shifts,
                        constants,
                        scales,
                        kl.all(),
                        contrast.all(),
                    );
                    [kl, contrast]
                },
            )
            .collect();
        let log_sums = [0, 1].map(|term| -> Vec<f32> {
            let of = |i: usize| partials.iter().map(move |pair| pair[term].of(i));
            (0..batch).map(|i| Partial::log_sum_exp(of(i))).collect()
        });

        let mut terms = vec![0.0f32; 2 * batch];
        let (kl, contrast) = terms.split_at_mut(batch);
        for i in 0..batch {
            let (mut near, mut scored) = (0.0f64, 0.0f64);
            for (id, weight) in neighbours.of(i) {
                let (block, at) = (&blocks[id / block], id % block * batch + i);
                let d = block.divergences[at];
                near += f64::from(weight) * f64::from(if d < 0.0 { 0.0 } else { d });
                scored += f64::from(weight) * f64::from(block.scores[at]);
            }
            let total = neighbours.total(i);
            let near = near * f64::from(scales.inverse_temperature);
            kl[i] = (f64::from(total) * f64::from(log_sums[0][i]) + near) as f32;
            contrast[i] = (f64::from(total) * f64::from(log_sums[1][i]) - scored) as f32;
        }
        let shared = Shared {
            weight,
            query_gaussians,
            blocks,
            log_sums,
            neighbours,
            scales,
            settings,
        };
        let saved = Saved {
            queries,
            bank,
            shared: Arc::new(shared),
        };
        (tensor(terms, [2, batch]), saved)
    }

    /// Sums over a group of blocks.
    struct Sums {
        queries: Vec<f32>,
        features: Vec<f32>,
        constants: Vec<f32>,
        /// Of both weights, transposed: `[2 dim, hidden]`.
        weight: Vec<f32>,
        bias: Vec<f32>,
        ln_base: f64,
    }

    impl Sums {
        fn zeros(batch: usize, hidden: usize, dim: usize, head_grad: bool) -> Self {
            let heads = if head_grad { dim } else { 0 };
            Self {
                queries: vec![0.0; batch * hidden],
                features: vec![0.0; batch * 4 * dim],
                constants: vec![0.0; batch],
                weight: vec![0.0; hidden * 2 * heads],
                bias: vec![0.0; 2 * heads],
                ln_base: 0.0,
            }
        }

        /// Sums of all groups, added in order.
        fn total(mut parts: Vec<Self>) -> Self {
            let rest = parts.split_off(1);
            let mut total = parts.swap_remove(0);
            let part = |of: fn(&Self) -> &Vec<f32>| -> Vec<&[f32]> {
                rest.iter().map(|part| of(part).as_slice()).collect()
            };
            add_parts(&mut total.queries, &part(|sums| &sums.queries));
            add_parts(&mut total.features, &part(|sums| &sums.features));
            add_parts(&mut total.constants, &part(|sums| &sums.constants));
            add_parts(&mut total.weight, &part(|sums| &sums.weight));
            add_parts(&mut total.bias, &part(|sums| &sums.bias));
            total.ln_base += rest.iter().map(|sums| sums.ln_base).sum::<f64>();
            total
        }
    }

    /// Buffers of one block.
    #[derive(Default)]
    struct Scratch {
        grad_d: Vec<f32>,
        grad_z: Vec<f32>,
        grad_constants: Vec<f32>,
        grad_base: Vec<f32>,
        features: Vec<f32>,
        grad_features: Vec<f32>,
        grad_heads: Vec<f32>,
        positive: Vec<f32>,
    }

    fn backward(saved: &Saved, grad: &FlexTensor, head_grad: bool) -> [Option<FlexTensor>; 6] {
        let Shared {
            weight,
            query_gaussians,
            blocks,
            log_sums,
            neighbours,
            scales,
            settings,
        } = &*saved.shared;
        let grad = grad.to_contiguous();
        let grad: &[f32] = grad.storage();
        let (batch, hidden) = (size(&saved.queries, 0), size(&saved.queries, 1));
        let (rows, dim) = (size(&saved.bank, 0), weight.len() / hidden / 2);
        let (q, h): (&[f32], &[f32]) = (saved.queries.storage(), saved.bank.storage());
        let floor = settings.var_floor as f32;
        let bank_head_grad = head_grad && settings.bank_head_grad;

        let mut x = vec![0.0f32; batch * 4 * dim];
        gaussian_features(Side::Query, dim, query_gaussians, &mut x);
        let (grad_kl, grad_contrast) = grad.split_at(batch);
        let weighted = |grad: &[f32]| -> Vec<f32> {
            let grad = grad.iter().enumerate();
            grad.map(|(i, grad)| grad * neighbours.total(i)).collect()
        };
        let query_rows = StarRows {
            kl: weighted(grad_kl),
            contrast: weighted(grad_contrast),
            kl_log_sum: log_sums[0].clone(),
            contrast_log_sum: log_sums[1].clone(),
        };
        let block_rows = block_len(rows);
        let by_block = neighbours.by_block(rows);
        let one_block = |at: usize, sums: &mut Sums, scratch: &mut Scratch| {
            let Block {
                gaussians,
                divergences,
                scores,
            } = &blocks[at];
            let length = gaussians.len() / (2 * dim);
            let h = &h[at * block_rows * hidden..][..length * hidden];
            let Scratch {
                grad_d,
                grad_z,
                grad_constants,
                grad_base,
                features,
                grad_features,
                grad_heads,
                positive,
            } = scratch;
            grad_d.resize(length * batch, 0.0);
            grad_z.resize(length * batch, 0.0);
            grad_base.clear();
            grad_base.resize(batch, 0.0);
            star_gradient(
                divergences,
                scores,
                &query_rows,
                *scales,
                grad_d,
                grad_z,
                grad_base,
            );
            sums.ln_base += grad_base.iter().copied().map(f64::from).sum::<f64>();
            for neighbour in by_block.of(at) {
                let i = neighbour.query as usize;
                let place = neighbour.offset as usize * batch + i;
                grad_z[place] -= grad_contrast[i] * neighbour.weight;
                // As the clamp: no gradient below 0, and `NaN` stays visible.
                let clamped = divergences[place] < 0.0;
                if !clamped {
                    grad_d[place] += grad_kl[i] * neighbour.weight * scales.inverse_temperature;
                }
            }
            column_sums(grad_d, batch, &mut sums.constants);
            grad_constants.resize(length, 0.0);
            row_sums(grad_d, batch, grad_constants);
            let grad_d = Matrix::dense(grad_d, length, batch);
            let grad_z = Matrix::dense(grad_z, length, batch);

            features.resize(length * 4 * dim, 0.0);
            gaussian_features(Side::Bank, dim, gaussians, features);
            let y = Matrix::dense(features, length, 4 * dim);
            serial_matmul_into(&mut sums.features, grad_d.t(), y, 1.0, true);
            let h_view = Matrix::dense(h, length, hidden);
            let scale = scales.inverse_temperature;
            serial_matmul_into(&mut sums.queries, grad_z.t(), h_view, scale, true);
            if !bank_head_grad {
                return;
            }
            grad_features.resize(length * 4 * dim, 0.0);
            serial_matmul_into(
                grad_features,
                grad_d,
                Matrix::dense(&x, batch, 4 * dim),
                1.0,
                false,
            );
            grad_heads.resize(length * 2 * dim, 0.0);
            gaussian_features_backward(
                Side::Bank,
                floor,
                dim,
                gaussians,
                grad_features,
                grad_constants,
                grad_heads,
            );
            column_sums(grad_heads, 2 * dim, &mut sums.bias);
            positive.resize(h.len(), 0.0);
            relu(h, positive);
            let positive = Matrix::dense(positive, length, hidden);
            let grad_heads = Matrix::dense(grad_heads, length, 2 * dim).t();
            serial_matmul_into(&mut sums.weight, grad_heads, positive, 1.0, true);
        };
        let parts: Vec<Sums> = groups(rows)
            .into_par_iter()
            .map_init(Scratch::default, |scratch, group| {
                let mut sums = Sums::zeros(batch, hidden, dim, bank_head_grad);
                for at in group {
                    one_block(at, &mut sums, scratch);
                }
                sums
            })
            .collect();
        let mut sums = Sums::total(parts);

        // The query side of the heads.
        let mut grad_heads = vec![0.0f32; batch * 2 * dim];
        gaussian_features_backward(
            Side::Query,
            floor,
            dim,
            query_gaussians,
            &sums.features,
            &sums.constants,
            &mut grad_heads,
        );
        let grad_heads_view = Matrix::dense(&grad_heads, batch, 2 * dim);
        let mut through = vec![0.0f32; batch * hidden];
        let weight = Matrix::dense(weight, hidden, 2 * dim);
        serial_matmul_into(&mut through, grad_heads_view, weight.t(), 1.0, false);
        for ((sum, through), q) in sums.queries.iter_mut().zip(&through).zip(q) {
            if *q > 0.0 {
                *sum += through;
            }
        }
        let grad_queries = tensor(sums.queries, [batch, hidden]);
        let grad_base = tensor(vec![sums.ln_base as f32], [1]);
        if !head_grad {
            return [Some(grad_queries), None, None, None, None, Some(grad_base)];
        }
        sums.weight.resize(hidden * 2 * dim, 0.0);
        sums.bias.resize(2 * dim, 0.0);
        let mut positive = vec![0.0f32; batch * hidden];
        relu(q, &mut positive);
        let positive = Matrix::dense(&positive, batch, hidden);
        serial_matmul_into(&mut sums.weight, grad_heads_view.t(), positive, 1.0, true);
        column_sums(&grad_heads, 2 * dim, &mut sums.bias);
        let (mu_weight, var_weight) = sums.weight.split_at(dim * hidden);
        let [mu_weight, var_weight] =
            [mu_weight, var_weight].map(|weight| transposed(weight, hidden, 1.0));
        let (mu_bias, var_bias) = sums.bias.split_at(dim);
        [
            Some(grad_queries),
            Some(tensor(mu_weight, [hidden, dim])),
            Some(tensor(mu_bias.to_vec(), [dim])),
            Some(tensor(var_weight, [hidden, dim])),
            Some(tensor(var_bias.to_vec(), [dim])),
            Some(grad_base),
        ]
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::wave;
    use burn::tensor::{Device, TensorData};

    /// Bits of terms and gradients.
    fn step() -> Vec<Vec<u32>> {
        let device = Device::flex().autodiff();
        let (batch, rows, hidden, dim, width) = (7, 3000, 20, 9, 5);
        let ids: Vec<i64> = (0..batch * width)
            .map(|i| (i * 977 % rows) as i64)
            .collect();
        let ids = Tensor::from_data(TensorData::new(ids, [batch, width]), &device);
        let leaf = |x: Tensor<2>| x.require_grad();
        let queries = leaf(wave([batch, hidden], 1.3, &device));
        let mu_weight = leaf(wave([hidden, dim], 0.7, &device));
        let var_weight = leaf(wave([hidden, dim], 2.3, &device));
        let inputs = GaussianStar {
            queries: queries.clone(),
            bank: wave([rows, hidden], 0.11, &device),
            mu_weight: mu_weight.clone(),
            mu_bias: wave([dim], 0.3, &device),
            var_weight: var_weight.clone(),
            var_bias: wave([dim], 0.9, &device),
            ln_base: Tensor::from_floats([2.3], &device),
            ids,
            weights: Tensor::ones([batch, width], &device),
            settings: StarSettings {
                temperature: 0.5,
                var_floor: 1e-8,
                bank_head_grad: true,
            },
        };
        let terms = gaussian_star(inputs).unwrap();
        let grads = terms.clone().sum().backward();
        [terms]
            .into_iter()
            .chain([&queries, &mu_weight, &var_weight].map(|x| x.grad(&grads).unwrap()))
            .map(|x| {
                let values: Vec<f32> = x.into_data().try_to_vec().unwrap();
                assert!(values.iter().all(|x| x.is_finite()));
                values.into_iter().map(f32::to_bits).collect()
            })
            .collect()
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(step)
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
    }

    #[test]
    fn a_bank_with_gradient_is_handed_back() {
        let device = Device::flex().autodiff();
        let inputs = GaussianStar {
            queries: wave([2, 3], 1.0, &device),
            bank: wave([4, 3], 1.0, &device).require_grad(),
            mu_weight: wave([3, 2], 1.0, &device),
            mu_bias: wave([2], 1.0, &device),
            var_weight: wave([3, 2], 1.0, &device),
            var_bias: wave([2], 1.0, &device),
            ln_base: Tensor::from_floats([0.0], &device),
            ids: Tensor::from_ints([[0], [1]], &device),
            weights: Tensor::ones([2, 1], &device),
            settings: StarSettings {
                temperature: 1.0,
                var_floor: 0.0,
                bank_head_grad: true,
            },
        };
        assert!(gaussian_star(inputs).is_err());
    }
}
