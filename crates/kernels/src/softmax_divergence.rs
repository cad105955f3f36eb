//! Symmetric Kullback-Leibler divergences between softmax distributions, as one operation with its
//! own backward pass.
//!
//! With `P = softmax(x / T)`, `L = ln P + ln dim` and `a = P . L` of every row of queries and bank:
//!
//! ```text
//! d_ij = max(0, c (a_i + a_j - P_i . L_j - L_i . P_j))
//! ```
//!
//! The bank is walked in blocks, and one product of inner size `2 dim` makes the divergences of a
//! block. Kept for the backward pass: inputs and result. Features `[P | L]` exist for one block of the
//! bank at a time and are made again.
//!
//! Gradient of a row `x_i`, with `g_ij = dF/dd_ij` where `d_ij > 0` and 0 elsewhere:
//!
//! ```text
//! G_i  = sum_j g_ij        A_i = sum_j g_ij P_j        B_i = sum_j g_ij L_j
//! u_i  = c ( G_i P_i - A_i + (G_i L_i - B_i) P_i )                     dF / d ln P_i
//! dF / dx_i = ( u_i - P_i sum_k u_ik ) / T
//! ```

use burn::tensor::Tensor;

/// Inputs of [`softmax_divergence`].
#[derive(Clone, Debug)]
pub struct SoftmaxDivergence {
    /// Queries, `[batch, dim]`.
    pub queries: Tensor<2>,
    /// Bank, `[rows, dim]`.
    pub bank: Tensor<2>,
    /// Temperature T inside the softmax, greater than 0.
    pub temperature: f64,
    /// Factor c of the divergence: 1 for the sum of both directions, 1/2 for their mean.
    pub scale: f64,
}

/// The divergence of every query from every bank row, `[batch, rows]`; gradients reach both.
///
/// # Errors
///
/// The inputs come back where there is no fused version: on a backend other than flex, for element
/// types other than f32 and for empty inputs. The caller then composes the divergence from plain
/// operations.
///
/// # Panics
///
/// If the dimensions of queries and bank differ.
pub fn softmax_divergence(inputs: SoftmaxDivergence) -> Result<Tensor<2>, Box<SoftmaxDivergence>> {
    #[cfg(feature = "flex")]
    if fused::applies(&inputs) {
        return Ok(fused::run(inputs));
    }
    Err(Box::new(inputs))
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
    use burn::tensor::Tensor;
    use burn_flex::FlexTensor;
    use rayon::prelude::*;

    use super::SoftmaxDivergence;
    use crate::bank_blocks::{add_parts, block_len, groups, transposed};
    use crate::cpu::matmul::{Matrix, serial_matmul, serial_matmul_into};
    use crate::cpu::{size, tensor};
    use crate::fused::{backward_to, in_graph, on_flex};
    use crate::simd_objectives::{
        column_sums, row_sums, softmax_features, softmax_features_backward,
    };

    pub(super) fn applies(inputs: &SoftmaxDivergence) -> bool {
        let full = |x: &Tensor<2>| !x.dims().contains(&0);
        on_flex(&inputs.queries)
            && on_flex(&inputs.bank)
            && full(&inputs.queries)
            && full(&inputs.bank)
    }

    pub(super) fn run(inputs: SoftmaxDivergence) -> Tensor<2> {
        let settings = Settings {
            inverse_temperature: (1.0 / inputs.temperature) as f32,
            scale: inputs.scale as f32,
        };
        Tensor::from_dispatch(<Dispatch as SoftmaxDivergenceBackend>::softmax_divergence(
            inputs.queries.into_dispatch(),
            inputs.bank.into_dispatch(),
            settings,
        ))
    }

    /// Numbers of the operation.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Settings {
        inverse_temperature: f32,
        scale: f32,
    }

    /// Routes the operation; only flex has it.
    #[backend_extension(Flex, Autodiff)]
    pub(super) trait SoftmaxDivergenceBackend: Backend {
        /// Divergences, `[batch, rows]`.
        fn softmax_divergence(
            queries: FloatTensor<Self>,
            bank: FloatTensor<Self>,
            settings: Settings,
        ) -> FloatTensor<Self>;
    }

    impl SoftmaxDivergenceBackend for Flex {
        fn softmax_divergence(
            queries: FlexTensor,
            bank: FlexTensor,
            settings: Settings,
        ) -> FlexTensor {
            forward(queries, bank, settings).0
        }
    }

    /// The two halves of the operation on one backend.
    pub(super) trait SoftmaxDivergenceSteps: Backend {
        /// What the backward pass needs.
        type Saved: Clone + Send + core::fmt::Debug + 'static;

        /// Divergences `[batch, rows]` and what the backward pass needs.
        fn divergence_forward(
            queries: FloatTensor<Self>,
            bank: FloatTensor<Self>,
            settings: Settings,
        ) -> (FloatTensor<Self>, Self::Saved);

        /// Gradients of queries and bank, each if asked for.
        fn divergence_backward(
            saved: Self::Saved,
            grad: FloatTensor<Self>,
            wanted: [bool; 2],
        ) -> [Option<FloatTensor<Self>>; 2];
    }

    impl SoftmaxDivergenceSteps for Flex {
        type Saved = Saved;

        fn divergence_forward(
            queries: FlexTensor,
            bank: FlexTensor,
            settings: Settings,
        ) -> (FlexTensor, Saved) {
            forward(queries, bank, settings)
        }

        fn divergence_backward(
            saved: Saved,
            grad: FlexTensor,
            wanted: [bool; 2],
        ) -> [Option<FlexTensor>; 2] {
            backward(&saved, &grad, wanted)
        }
    }

    #[derive(Debug)]
    struct DivergenceStep;

    impl<B: SoftmaxDivergenceSteps> Backward<B, 2> for DivergenceStep {
        type State = B::Saved;

        fn backward(
            self,
            ops: Ops<Self::State, 2>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            backward_to::<B, _, _>(ops, grads, B::divergence_backward);
        }
    }

    impl<B: SoftmaxDivergenceSteps, C: CheckpointStrategy> SoftmaxDivergenceBackend for Autodiff<B, C> {
        fn softmax_divergence(
            queries: FloatTensor<Self>,
            bank: FloatTensor<Self>,
            settings: Settings,
        ) -> FloatTensor<Self> {
            let (queries, query_node) = queries.into_parts();
            let (bank, bank_node) = bank.into_parts();
            let (divergences, saved) = B::divergence_forward(queries, bank, settings);
            let nodes = [query_node, bank_node];
            in_graph::<B, C, _, _>(DivergenceStep, nodes, saved, divergences)
        }
    }

    /// What the backward pass reads.
    #[derive(Clone, Debug)]
    pub(super) struct Saved {
        queries: FlexTensor,
        bank: FlexTensor,
        divergences: FlexTensor,
        settings: Settings,
    }

    /// `[P | L]` of some rows and their constants.
    #[derive(Default)]
    struct Features {
        values: Vec<f32>,
        constants: Vec<f32>,
    }

    impl Features {
        fn of(x: &[f32], dim: usize, settings: Settings) -> Self {
            let mut features = Self::default();
            features.fill(x, dim, settings);
            features
        }

        fn fill(&mut self, x: &[f32], dim: usize, settings: Settings) {
            self.values.resize(2 * x.len(), 0.0);
            self.constants.resize(x.len() / dim, 0.0);
            softmax_features(
                x,
                settings.inverse_temperature,
                settings.scale,
                &mut self.values,
                &mut self.constants,
            );
        }
    }

    fn forward(queries: FlexTensor, bank: FlexTensor, settings: Settings) -> (FlexTensor, Saved) {
        let (queries, bank) = (queries.to_contiguous(), bank.to_contiguous());
        let (batch, dim) = (size(&queries, 0), size(&queries, 1));
        let rows = size(&bank, 0);
        assert_eq!(dim, size(&bank, 1), "one dimension for queries and bank");
        let q = Features::of(queries.storage(), dim, settings);
        // -c [L | P], transposed: P_j meets L_i, and L_j meets P_i.
        let mut swapped = transposed(&q.values, 2 * dim, -settings.scale);
        swapped.rotate_left(dim * batch);
        let block = block_len(rows);
        let h: &[f32] = bank.storage();
        let blocks: Vec<Vec<f32>> = h
            .par_chunks(block * dim)
            .map_init(Features::default, |features, h| {
                features.fill(h, dim, settings);
                let y = Matrix::dense(&features.values, h.len() / dim, 2 * dim);
                let mut d = serial_matmul(y, Matrix::dense(&swapped, 2 * dim, batch));
                for (d, constant) in d.chunks_exact_mut(batch).zip(&features.constants) {
                    for (d, shift) in d.iter_mut().zip(&q.constants) {
                        let raw = *d + (shift + constant);
                        // `NaN` stays visible.
                        *d = if raw < 0.0 { 0.0 } else { raw };
                    }
                }
                d
            })
            .collect();
        let mut out = vec![0.0f32; batch * rows];
        out.par_chunks_mut(rows).enumerate().for_each(|(i, out)| {
            for (out, d) in out.chunks_mut(block).zip(&blocks) {
                for (out, d) in out.iter_mut().zip(d.chunks_exact(batch)) {
                    *out = d[i];
                }
            }
        });
        let divergences = tensor(out, [batch, rows]);
        let saved = Saved {
            queries,
            bank,
            divergences: divergences.clone(),
            settings,
        };
        (divergences, saved)
    }

    /// Sums over a group of blocks, and what it gives its rows of the bank.
    struct Sums {
        /// Features of the bank times the gradients, `[batch, 2 dim]`.
        others: Vec<f32>,
        /// Gradients, `[batch]`.
        totals: Vec<f32>,
        grad_bank: Vec<f32>,
    }

    fn backward(saved: &Saved, grad: &FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let Saved {
            queries,
            bank,
            divergences,
            settings,
        } = saved;
        let grad = grad.to_contiguous();
        let (grad, d): (&[f32], &[f32]) = (grad.storage(), divergences.storage());
        let (batch, dim) = (size(queries, 0), size(queries, 1));
        let rows = size(bank, 0);
        let h: &[f32] = bank.storage();
        let [want_queries, want_bank] = wanted;
        let q = Features::of(queries.storage(), dim, *settings);
        let block = block_len(rows);

        // One task a group of blocks: sums for the queries, rows of its own for the bank.
        let parts: Vec<Sums> = groups(rows)
            .into_par_iter()
            .map_init(Features::default, |features, group| {
                let of_queries = if want_queries { batch } else { 0 };
                let mut sums = Sums {
                    others: vec![0.0; of_queries * 2 * dim],
                    totals: vec![0.0; of_queries],
                    grad_bank: Vec::new(),
                };
                let (mut grad_d, mut others, mut totals) = (Vec::new(), Vec::new(), Vec::new());
                for at in group {
                    let first = at * block;
                    let length = block.min(rows - first);
                    features.fill(&h[first * dim..][..length * dim], dim, *settings);
                    grad_d.resize(length * batch, 0.0);
                    for i in 0..batch {
                        let row = i * rows + first..i * rows + first + length;
                        let entries = grad[row.clone()].iter().zip(&d[row]).enumerate();
                        for (j, (grad, d)) in entries {
                            grad_d[j * batch + i] = if *d <= 0.0 { 0.0 } else { *grad };
                        }
                    }
                    let grad_view = Matrix::dense(&grad_d, length, batch);
                    if want_queries {
                        let y = Matrix::dense(&features.values, length, 2 * dim);
                        serial_matmul_into(&mut sums.others, grad_view.t(), y, 1.0, true);
                        column_sums(&grad_d, batch, &mut sums.totals);
                    }
                    if want_bank {
                        others.resize(length * 2 * dim, 0.0);
                        totals.resize(length, 0.0);
                        let q = Matrix::dense(&q.values, batch, 2 * dim);
                        serial_matmul_into(&mut others, grad_view, q, 1.0, false);
                        row_sums(&grad_d, batch, &mut totals);
                        let start = sums.grad_bank.len();
                        sums.grad_bank.resize(start + length * dim, 0.0);
                        softmax_features_backward(
                            &features.values,
                            &others,
                            &totals,
                            settings.inverse_temperature,
                            settings.scale,
                            &mut sums.grad_bank[start..],
                        );
                    }
                }
                sums
            })
            .collect();
        let grad_queries = want_queries.then(|| {
            let (mut others, mut totals) = (vec![0.0; batch * 2 * dim], vec![0.0; batch]);
            let part = |of: fn(&Sums) -> &Vec<f32>| -> Vec<&[f32]> {
                parts.iter().map(|part| of(part).as_slice()).collect()
            };
            add_parts(&mut others, &part(|sums| &sums.others));
            add_parts(&mut totals, &part(|sums| &sums.totals));
            let mut grad_queries = vec![0.0f32; batch * dim];
            softmax_features_backward(
                &q.values,
                &others,
                &totals,
                settings.inverse_temperature,
                settings.scale,
                &mut grad_queries,
            );
            tensor(grad_queries, [batch, dim])
        });
        let grad_bank = want_bank.then(|| {
            let parts: Vec<&[f32]> = parts.iter().map(|part| part.grad_bank.as_slice()).collect();
            tensor(parts.concat(), [rows, dim])
        });
        [grad_queries, grad_bank]
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::wave;
    use burn::tensor::Device;

    /// Bits of divergences and gradients.
    fn step() -> Vec<Vec<u32>> {
        let device = Device::flex().autodiff();
        let queries = wave([7, 21], 1.3, &device).require_grad();
        let bank = wave([3000, 21], 0.11, &device).require_grad();
        let inputs = SoftmaxDivergence {
            queries: queries.clone(),
            bank: bank.clone(),
            temperature: 0.2,
            scale: 0.5,
        };
        let divergences = softmax_divergence(inputs).unwrap();
        assert_eq!(divergences.dims(), [7, 3000]);
        let weights = wave([7, 3000], 0.7, &device);
        let grads = (divergences.clone() * weights).sum().backward();
        [divergences]
            .into_iter()
            .chain([&queries, &bank].map(|x| x.grad(&grads).unwrap()))
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
}
