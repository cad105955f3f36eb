//! Rows brought to unit length, as one operation with its own backward pass.
//!
//! ```text
//! y_i = x_i / |x_i|         dx_i = ( g_i - (g_i . y_i) y_i ) / |x_i|
//! ```
//!
//! A row with `|x_i| <= eps` has no direction: value and gradient are 0.

use burn::tensor::Tensor;

/// Divides every row of `x` `[batch, dim]` by its Euclidean norm.
///
/// # Errors
///
/// The input comes back where there is no fused version: on a backend other than flex, for element
/// types other than f32 and for an empty matrix. The caller then composes the result from plain
/// operations.
pub fn normalize_rows(x: Tensor<2>, eps: f64) -> Result<Tensor<2>, Box<Tensor<2>>> {
    #[cfg(feature = "flex")]
    if crate::fused::on_flex(&x) && !x.dims().contains(&0) {
        return Ok(fused::run(x, eps));
    }
    let _ = eps;
    Err(Box::new(x))
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, unary};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
    use burn::tensor::Tensor;
    use burn_flex::FlexTensor;
    use rayon::prelude::*;

    use crate::cpu::{size, tensor};
    use crate::fused::in_graph;
    use crate::simd_objectives;

    /// Elements per task.
    const CHUNK: usize = 32 * 1024;

    pub(super) fn run(x: Tensor<2>, eps: f64) -> Tensor<2> {
        let x = x.into_dispatch();
        Tensor::from_dispatch(<Dispatch as NormalizeRowsBackend>::unit_rows(x, eps))
    }

    /// Routes the operation; only flex has it.
    #[backend_extension(Flex, Autodiff)]
    pub(super) trait NormalizeRowsBackend: Backend {
        /// Rows of unit length.
        fn unit_rows(x: FloatTensor<Self>, eps: f64) -> FloatTensor<Self>;
    }

    impl NormalizeRowsBackend for Flex {
        fn unit_rows(x: FlexTensor, eps: f64) -> FlexTensor {
            forward(&x, eps).0
        }
    }

    /// The two halves of the operation on one backend.
    pub(super) trait NormalizeRowsSteps: Backend {
        /// Rows of unit length and the norms.
        fn unit_rows_forward(x: FloatTensor<Self>, eps: f64) -> (FloatTensor<Self>, Vec<f32>);

        /// Gradient of the input, from the output, the norms and the output's gradient.
        fn unit_rows_backward(
            y: FloatTensor<Self>,
            norms: Vec<f32>,
            grad: FloatTensor<Self>,
        ) -> FloatTensor<Self>;
    }

    impl NormalizeRowsSteps for Flex {
        fn unit_rows_forward(x: FlexTensor, eps: f64) -> (FlexTensor, Vec<f32>) {
            forward(&x, eps)
        }

        fn unit_rows_backward(y: FlexTensor, norms: Vec<f32>, grad: FlexTensor) -> FlexTensor {
            backward(&y, &norms, &grad)
        }
    }

    #[derive(Debug)]
    struct NormalizeStep;

    impl<B: NormalizeRowsSteps> Backward<B, 1> for NormalizeStep {
        type State = (B::FloatTensorPrimitive, Vec<f32>);

        fn backward(
            self,
            ops: Ops<Self::State, 1>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            let (y, norms) = ops.state;
            unary::<B, _>(ops.parents, ops.node, grads, |grad| {
                B::unit_rows_backward(y, norms, grad)
            });
        }
    }

    impl<B: NormalizeRowsSteps, C: CheckpointStrategy> NormalizeRowsBackend for Autodiff<B, C> {
        fn unit_rows(x: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
            let (x, node) = x.into_parts();
            let (y, norms) = B::unit_rows_forward(x, eps);
            in_graph::<B, C, _, _>(NormalizeStep, [node], (y.clone(), norms), y)
        }
    }

    fn forward(x: &FlexTensor, eps: f64) -> (FlexTensor, Vec<f32>) {
        let x = x.to_contiguous();
        let (rows, width) = (size(&x, 0), size(&x, 1));
        let values: &[f32] = x.storage();
        let smallest = (eps * eps) as f32;
        let mut y = vec![0.0f32; rows * width];
        let mut norms = vec![0.0f32; rows];
        let per_task = (CHUNK / width).max(1);
        if per_task >= rows {
            simd_objectives::normalize_rows(values, smallest, &mut norms, &mut y);
        } else {
            y.par_chunks_mut(per_task * width)
                .zip(values.par_chunks(per_task * width))
                .zip(norms.par_chunks_mut(per_task))
                .for_each(|((y, x), norms)| {
                    simd_objectives::normalize_rows(x, smallest, norms, y);
                });
        }
        (tensor(y, [rows, width]), norms)
    }

    fn backward(y: &FlexTensor, norms: &[f32], grad: &FlexTensor) -> FlexTensor {
        let grad = grad.to_contiguous();
        let (rows, width) = (size(y, 0), size(y, 1));
        let (y, grad): (&[f32], &[f32]) = (y.storage(), grad.storage());
        let mut grad_x = vec![0.0f32; rows * width];
        let per_task = (CHUNK / width).max(1);
        if per_task >= rows {
            simd_objectives::normalize_rows_backward(y, norms, grad, &mut grad_x);
        } else {
            grad_x
                .par_chunks_mut(per_task * width)
                .zip(y.par_chunks(per_task * width))
                .zip(grad.par_chunks(per_task * width))
                .zip(norms.par_chunks(per_task))
                .for_each(|(((grad_x, y), grad), norms)| {
                    simd_objectives::normalize_rows_backward(y, norms, grad, grad_x);
                });
        }
        tensor(grad_x, [rows, width])
    }
}
