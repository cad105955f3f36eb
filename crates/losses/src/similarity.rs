//! Row normalisation and cosine similarity.

use burn::config::Config;
use burn::tensor::Tensor;

use crate::error::{LossError, check_not_empty, check_shape};

/// Smallest Euclidean norm that still has a direction.
pub const NORM_EPS: f64 = 1e-12;

/// Which inputs of a bank objective are brought to unit length first.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum InputNormalization {
    /// Neither: queries and bank rows are used as they come.
    None,
    /// The queries only; the bank is trusted to hold unit rows, which saves two passes over it.
    Queries,
    /// Queries and bank rows.
    Both,
}

impl InputNormalization {
    /// Applies the choice to `queries` (`[batch, dim]`) and `bank` (`[rows, dim]`).
    pub(crate) fn apply(self, queries: Tensor<2>, bank: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        match self {
            Self::None => (queries, bank),
            Self::Queries => (l2_normalize(queries, NORM_EPS), bank),
            Self::Both => (
                l2_normalize(queries, NORM_EPS),
                l2_normalize(bank, NORM_EPS),
            ),
        }
    }
}

/// Divides every row by its Euclidean norm.
///
/// `y_i = x_i / |x_i|`, and `y_i = 0` where `|x_i| <= eps`.
///
/// # Notes
///
/// - A row without direction (`|x_i| <= eps`, the zero row above all) gives a zero row with a zero
///   gradient. Dividing by the clamped norm instead would give the same value at zero but a
///   gradient of `1 / eps`, which one gradient clipping turns into a lost step, and the derivative
///   of the plain square root at zero is infinite.
/// - `NaN` and infinite inputs stay visible as `NaN`.
/// - Squares are formed in the precision of `x`: in f32 components have to stay below about 1e18.
///
/// # Shapes
///
/// - `x`: `[batch, dim]`
/// - output: `[batch, dim]`
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::l2_normalize;
///
/// let x = Tensor::<2>::from_floats([[3.0, 4.0], [0.0, 0.0]], &Device::flex());
/// let y = l2_normalize(x, 1e-12).into_data();
/// assert_eq!(y.as_slice::<f32>(), Ok(&[0.6, 0.8, 0.0, 0.0][..]));
/// ```
pub fn l2_normalize(x: Tensor<2>, eps: f64) -> Tensor<2> {
    kernels::normalize_rows(x, eps).unwrap_or_else(|x| composed_l2_normalize(*x, eps))
}

/// [`l2_normalize`] from plain operations.
fn composed_l2_normalize(x: Tensor<2>, eps: f64) -> Tensor<2> {
    let squared = x.clone().square().sum_dim(1); // [batch, 1]
    let flat = squared.clone().lower_equal_scalar(eps * eps);
    // Replacing the norm of a flat row by infinity makes value and gradient exactly zero.
    let norm = squared.mask_fill(flat, f32::INFINITY).sqrt();
    x / norm
}

/// Cosine of the angle between every query and every row of the bank.
///
/// `s_ij = q_i . h_j / (|q_i| |h_j|)`; a zero row has cosine 0 with everything.
///
/// # Shapes
///
/// - `queries`: `[batch, dim]`
/// - `bank`: `[rows, dim]`
/// - output: `[batch, rows]`
///
/// # Errors
///
/// [`LossError::Shape`] if a matrix is empty or the dimensions differ.
pub fn cosine_scores(queries: Tensor<2>, bank: Tensor<2>) -> Result<Tensor<2>, LossError> {
    check_same_dim("cosine_scores", &queries, &bank)?;
    let (queries, bank) = InputNormalization::Both.apply(queries, bank);
    Ok(queries.matmul(bank.transpose()))
}

/// Cosine of the angle between row `i` of `x` and row `i` of `y`.
///
/// `s_i = x_i . y_i / (|x_i| |y_i|)`; a zero row has cosine 0 with everything.
///
/// # Shapes
///
/// - `x`, `y`: `[batch, dim]`
/// - output: `[batch]`
///
/// # Errors
///
/// [`LossError::Shape`] if the matrices are empty or differ in shape.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::paired_cosine;
///
/// # fn main() -> Result<(), losses::LossError> {
/// let x = Tensor::<2>::from_floats([[2.0, 0.0], [0.0, 1.0]], &Device::flex());
/// let y = Tensor::<2>::from_floats([[3.0, 4.0], [0.0, -7.0]], &Device::flex());
/// let cosines = paired_cosine(x, y)?.into_data();
/// assert_eq!(cosines.as_slice::<f32>(), Ok(&[0.6, -1.0][..]));
/// # Ok(())
/// # }
/// ```
pub fn paired_cosine(x: Tensor<2>, y: Tensor<2>) -> Result<Tensor<1>, LossError> {
    check_pairs("paired_cosine", ("x", &x), ("y", &y))?;
    Ok(paired_dot(
        l2_normalize(x, NORM_EPS),
        l2_normalize(y, NORM_EPS),
    ))
}

/// `x_i . y_i`, `[batch]`.
pub(crate) fn paired_dot(x: Tensor<2>, y: Tensor<2>) -> Tensor<1> {
    (x * y).sum_dim(1).squeeze_dim::<1>(1)
}

/// Refuses matrices that are empty or differ in shape.
pub(crate) fn check_pairs(
    op: &'static str,
    x: (&'static str, &Tensor<2>),
    y: (&'static str, &Tensor<2>),
) -> Result<(), LossError> {
    check_not_empty(op, x.0, x.1.dims())?;
    check_shape(op, y.0, &y.1.dims(), &x.1.dims())
}

/// Refuses empty matrices and matrices of different row length.
pub(crate) fn check_same_dim(
    op: &'static str,
    queries: &Tensor<2>,
    bank: &Tensor<2>,
) -> Result<(), LossError> {
    let [batch, dim] = queries.dims();
    let [rows, bank_dim] = bank.dims();
    check_not_empty(op, "queries", [batch, dim])?;
    check_not_empty(op, "bank", [rows, bank_dim])?;
    if dim == bank_dim {
        Ok(())
    } else {
        Err(LossError::Shape {
            op,
            what: "bank",
            expected: format!("[rows, {dim}] like the queries"),
            found: vec![rows, bank_dim],
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    fn values(x: Tensor<2>) -> Vec<f32> {
        x.try_to_vec_as::<f32>().unwrap()
    }

    #[test]
    fn zero_row_has_zero_value_and_zero_gradient() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_floats([[0.0, 0.0], [3.0, 4.0]], &device).require_grad();
        let y = l2_normalize(x.clone(), NORM_EPS);
        assert_eq!(values(y.clone()), [0.0, 0.0, 0.6, 0.8]);
        let weight = Tensor::<2>::from_floats([[1.0, 2.0], [1.0, 0.0]], &device);
        let grads = (y * weight).sum().backward();
        let g = values(x.grad(&grads).unwrap());
        // Second row: (c - (c.y) y) / |x| with c = (1, 0): (1 - 0.36, -0.48) / 5.
        assert_eq!(g[..2], [0.0, 0.0]);
        approx::assert_abs_diff_eq!(g[2], 0.128, epsilon = 1e-6);
        approx::assert_abs_diff_eq!(g[3], -0.096, epsilon = 1e-6);
    }

    #[test]
    fn not_a_number_stays_visible() {
        let x = Tensor::<2>::from_floats([[f32::NAN, 1.0]], &Device::flex());
        assert!(values(l2_normalize(x, NORM_EPS)).iter().all(|v| v.is_nan()));
    }

    /// The operation with its own backward pass against the composition of plain operations.
    #[test]
    fn fused_and_composed_forms_agree_in_value_and_gradient() {
        let device = Device::flex().autodiff();
        for (rows, columns) in [(1, 1), (3, 17), (64, 384), (300, 129)] {
            let mut data: Vec<f32> = (0..rows * columns)
                .map(|i| (0.9 * i as f32).sin() * (1.0 + (i / columns) as f32))
                .collect();
            // One row without direction.
            if rows > 1 {
                data[columns..2 * columns].fill(0.0);
            }
            let data = burn::tensor::TensorData::new(data, [rows, columns]);
            let x = Tensor::<2>::from_data(data, &device).require_grad();
            let evaluate = |y: Tensor<2>| {
                let weight = y.clone().detach().add_scalar(0.7).square();
                let grads = (y.clone() * weight).sum().backward();
                [values(y), values(x.grad(&grads).unwrap())]
            };
            let fused = evaluate(kernels::normalize_rows(x.clone(), NORM_EPS).unwrap());
            let composed = evaluate(composed_l2_normalize(x.clone(), NORM_EPS));
            for (fused, composed) in fused.iter().zip(&composed) {
                let largest = composed.iter().fold(0f32, |most, v| most.max(v.abs()));
                for (fused, composed) in fused.iter().zip(composed) {
                    let difference = (fused - composed).abs();
                    assert!(
                        difference <= 1e-5 * largest + 1e-6,
                        "{rows} x {columns}: {fused} against {composed}"
                    );
                }
            }
        }
    }

    #[test]
    fn cosine_of_known_angles() {
        let q = Tensor::<2>::from_floats([[2.0, 0.0]], &Device::flex());
        let h = Tensor::<2>::from_floats([[5.0, 0.0], [0.0, 1.0], [-3.0, 0.0]], &Device::flex());
        assert_eq!(values(cosine_scores(q, h).unwrap()), [1.0, 0.0, -1.0]);
    }

    #[test]
    fn different_dimensions_are_refused() {
        let q = Tensor::<2>::ones([2, 3], &Device::flex());
        let h = Tensor::<2>::ones([4, 5], &Device::flex());
        let message = cosine_scores(q, h).unwrap_err().to_string();
        assert_eq!(
            message,
            "cosine_scores: bank has shape [4, 5], expected [rows, 3] like the queries"
        );
    }
}
