//! Cross entropy of logits, as one operation with its own backward pass.
//!
//! ```text
//! L_i = ln sum_c exp(z_ic) - z_{i, y_i}      dL_i / dz_ic = softmax_c(z_i) - [c = y_i]
//! ```
//!
//! Nothing but one number a row is kept beside the logits; the gradient is written in one pass.

use burn::tensor::{Int, Tensor};

/// The loss of every row, `[batch]`; a row with a negative label gives 0 with gradient 0.
///
/// # Shapes
///
/// - `logits`: `[batch, classes]`
/// - `labels`: `[batch]`, below `classes`
///
/// # Errors
///
/// The inputs come back where there is no fused version: on a backend other than flex and for
/// element types other than f32. The caller then composes the loss from plain operations.
///
/// # Panics
///
/// If shapes do not fit together or a label is not a class.
pub fn cross_entropy(
    logits: Tensor<2>,
    labels: Tensor<1, Int>,
) -> Result<Tensor<1>, Box<(Tensor<2>, Tensor<1, Int>)>> {
    #[cfg(feature = "flex")]
    if fused::applies(&logits, &labels) {
        return Ok(fused::run(logits, labels));
    }
    Err(Box::new((logits, labels)))
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, unary};
    use burn::backend::tensor::{FloatTensor, IntTensor};
    use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
    use burn::tensor::{DType, Int, Tensor};
    use burn_flex::FlexTensor;
    use rayon::prelude::*;

    use crate::bank_blocks::integers;
    use crate::cpu::{size, tensor};
    use crate::fused::{in_graph, on_flex};
    use crate::simd_objectives::{Partial, partial_log_sum_exp, softmax_gradient};

    /// Logits per task, 64 KiB of them.
    const CHUNK: usize = 16 * 1024;

    pub(super) fn applies(logits: &Tensor<2>, labels: &Tensor<1, Int>) -> bool {
        on_flex(logits) && matches!(labels.dtype(), DType::I64 | DType::I32)
    }

    pub(super) fn run(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
        Tensor::from_dispatch(<Dispatch as CrossEntropyBackend>::row_cross_entropy(
            logits.into_dispatch(),
            labels.into_dispatch(),
        ))
    }

    /// Routes the operation; only flex has it.
    #[backend_extension(Flex, Autodiff)]
    pub(super) trait CrossEntropyBackend: Backend {
        /// The loss of every row, `[batch]`.
        fn row_cross_entropy(
            logits: FloatTensor<Self>,
            labels: IntTensor<Self>,
        ) -> FloatTensor<Self>;
    }

    impl CrossEntropyBackend for Flex {
        fn row_cross_entropy(logits: FlexTensor, labels: FlexTensor) -> FlexTensor {
            forward(logits, labels).0
        }
    }

    /// The two halves of the operation on one backend.
    pub(super) trait CrossEntropySteps: Backend {
        /// What the backward pass needs.
        type Saved: Clone + Send + core::fmt::Debug + 'static;

        /// Losses `[batch]` and what the backward pass needs.
        fn cross_entropy_forward(
            logits: FloatTensor<Self>,
            labels: IntTensor<Self>,
        ) -> (FloatTensor<Self>, Self::Saved);

        /// Gradient of the logits.
        fn cross_entropy_backward(saved: Self::Saved, grad: FloatTensor<Self>)
        -> FloatTensor<Self>;
    }

    impl CrossEntropySteps for Flex {
        type Saved = Saved;

        fn cross_entropy_forward(logits: FlexTensor, labels: FlexTensor) -> (FlexTensor, Saved) {
            forward(logits, labels)
        }

        fn cross_entropy_backward(saved: Saved, grad: FlexTensor) -> FlexTensor {
            backward(&saved, &grad)
        }
    }

    #[derive(Debug)]
    struct CrossEntropyStep;

    impl<B: CrossEntropySteps> Backward<B, 1> for CrossEntropyStep {
        type State = B::Saved;

        fn backward(
            self,
            ops: Ops<Self::State, 1>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            let saved = ops.state;
            unary::<B, _>(ops.parents, ops.node, grads, |grad| {
                B::cross_entropy_backward(saved, grad)
            });
        }
    }

    impl<B: CrossEntropySteps, C: CheckpointStrategy> CrossEntropyBackend for Autodiff<B, C> {
        fn row_cross_entropy(
            logits: FloatTensor<Self>,
            labels: IntTensor<Self>,
        ) -> FloatTensor<Self> {
            let (logits, node) = logits.into_parts();
            let (losses, saved) = B::cross_entropy_forward(logits, labels);
            in_graph::<B, C, _, _>(CrossEntropyStep, [node], saved, losses)
        }
    }

    /// Inputs and intermediate results that the backward pass reads.
    #[derive(Clone, Debug)]
    pub(super) struct Saved {
        logits: FlexTensor,
        /// Negative where a row takes no part.
        labels: Vec<i64>,
        log_sums: Vec<f32>,
    }

    fn forward(logits: FlexTensor, labels: FlexTensor) -> (FlexTensor, Saved) {
        let logits = logits.to_contiguous();
        let (batch, classes) = (size(&logits, 0), size(&logits, 1));
        let labels = integers(&labels);
        assert_eq!(labels.len(), batch, "one label per row");
        let z: &[f32] = logits.storage();
        let rows = (CHUNK / classes.max(1)).max(1);
        let mut log_sums = vec![0.0f32; batch];
        let fill = |first: usize, sums: &mut [f32]| {
            for (at, sum) in sums.iter_mut().enumerate() {
                let row = first + at;
                if labels[row] >= 0 {
                    let mut partial = Partial { max: 0.0, sum: 0.0 };
                    partial_log_sum_exp(&z[row * classes..(row + 1) * classes], &mut partial);
                    *sum = Partial::log_sum_exp(std::iter::once(partial));
                }
            }
        };
        if rows >= batch {
            fill(0, &mut log_sums);
        } else {
            let chunks = log_sums.par_chunks_mut(rows).enumerate();
            chunks.for_each(|(at, sums)| fill(at * rows, sums));
        }
        let losses = labels
            .iter()
            .enumerate()
            .map(|(row, label)| match usize::try_from(*label) {
                Ok(label) => {
                    assert!(label < classes, "label {label} of {classes} classes");
                    log_sums[row] - z[row * classes + label]
                }
                Err(_) => 0.0,
            })
            .collect();
        let saved = Saved {
            logits,
            labels,
            log_sums,
        };
        (tensor(losses, [batch]), saved)
    }

    fn backward(saved: &Saved, grad: &FlexTensor) -> FlexTensor {
        let grad = grad.to_contiguous();
        let grad: &[f32] = grad.storage();
        let (batch, classes) = (size(&saved.logits, 0), size(&saved.logits, 1));
        let z: &[f32] = saved.logits.storage();
        let rows = (CHUNK / classes.max(1)).max(1);
        let mut out = vec![0.0f32; batch * classes];
        let fill = |first: usize, out: &mut [f32]| {
            for (at, out) in out.chunks_exact_mut(classes).enumerate() {
                let row = first + at;
                if let Ok(label) = usize::try_from(saved.labels[row]) {
                    let z = &z[row * classes..(row + 1) * classes];
                    softmax_gradient(z, saved.log_sums[row], grad[row], out);
                    out[label] -= grad[row];
                }
            }
        };
        if rows >= batch {
            fill(0, &mut out);
        } else {
            let chunks = out.par_chunks_mut(rows * classes).enumerate();
            chunks.for_each(|(at, out)| fill(at * rows, out));
        }
        tensor(out, [batch, classes])
    }
}
