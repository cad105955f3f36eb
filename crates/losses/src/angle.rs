//! Order of the angles of pairs by their graded labels.

use burn::config::Config;
use burn::tensor::Tensor;

use crate::cosent::{check_scale, ordered_loss};
use crate::error::LossError;
use crate::similarity::{NORM_EPS, check_pairs, l2_normalize, paired_dot};

/// Configuration of [`Angle`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::AngleConfig;
///
/// # fn main() -> Result<(), losses::LossError> {
/// let device = Device::flex();
/// let x = Tensor::<2>::from_floats([[1.0, 0.0], [1.0, 0.0]], &device);
/// let y = Tensor::<2>::from_floats([[1.0, 0.0], [0.6, 0.8]], &device);
/// let labels = Tensor::<1>::from_floats([1.0, 0.0], &device);
/// let loss = AngleConfig::new().init()?.forward(x, y, labels)?;
/// assert_eq!(loss.dims(), [1]);
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, Copy, PartialEq)]
pub struct AngleConfig {
    /// Factor of the similarities. Finite and greater than 0. Default: 20
    #[config(default = 20.0)]
    pub scale: f64,
}

impl AngleConfig {
    /// Checks the parameters and builds the loss.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] if the scale is not finite or not greater than 0.
    pub fn init(&self) -> Result<Angle, LossError> {
        check_scale(OP, self.scale)?;
        Ok(Angle { config: *self })
    }
}

/// AnglE: [`Cosent`](crate::Cosent) on a similarity in the complex plane.
///
/// # Mathematical Definition
///
/// A unit vector is read as `dim / 2` complex numbers, first half real, second half imaginary parts:
///
/// ```text
/// s_i = | x_i . y_i + sum_k ( x_im,k y_re,k - x_re,k y_im,k ) |
/// L   = ln ( 1 + sum_{y_i > y_j} exp(scale (s_j - s_i)) )
/// ```
///
/// # Notes
///
/// - An odd dimension is filled up with a 0.
/// - `s` is not symmetric in `x` and `y`, and lies in `[0, sqrt 2]`.
/// - The other notes of [`Cosent`](crate::Cosent) hold.
/// - Meant to be added to a contrast such as [`InfoNce`](crate::InfoNce).
///
/// # Source
///
/// Li, Li, "AnglE-optimized Text Embeddings" (arXiv 2309.12871), in the order of subtraction of its
/// released code, which is the opposite of the printed equation 3.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Angle {
    config: AngleConfig,
}

impl Angle {
    /// The checked configuration.
    pub fn config(&self) -> &AngleConfig {
        &self.config
    }

    /// The loss of a batch of pairs of embeddings.
    ///
    /// # Shapes
    ///
    /// - `x`, `y`: `[batch, dim]`
    /// - `labels`: `[batch]`
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if the embeddings are empty or the shapes differ, [`LossError::Value`]
    /// for a label that is not finite, [`LossError::Read`] if values cannot be read.
    pub fn forward(
        &self,
        x: Tensor<2>,
        y: Tensor<2>,
        labels: Tensor<1>,
    ) -> Result<Tensor<1>, LossError> {
        let similarities = self.similarities(x, y)?;
        ordered_loss(OP, similarities, labels, self.config.scale)
    }

    /// The similarity `s` of every pair.
    ///
    /// # Shapes
    ///
    /// - `x`, `y`: `[batch, dim]`
    /// - output: `[batch]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if the embeddings are empty or the shapes differ.
    pub fn similarities(&self, x: Tensor<2>, y: Tensor<2>) -> Result<Tensor<1>, LossError> {
        check_pairs(OP, ("x", &x), ("y", &y))?;
        let x = even(l2_normalize(x, NORM_EPS));
        let y = even(l2_normalize(y, NORM_EPS));
        let half = y.dims()[1] / 2;
        let real = y.clone().narrow(1, 0, half);
        let imaginary = y.clone().narrow(1, half, half);
        // x . [-y_im ; y_re] is the second sum.
        let turned = Tensor::cat(vec![imaginary.neg(), real], 1);
        Ok(paired_dot(x, y + turned).abs())
    }
}

const OP: &str = "angle";

/// Fills up an odd dimension with a 0.
fn even(x: Tensor<2>) -> Tensor<2> {
    let [batch, dim] = x.dims();
    if dim.is_multiple_of(2) {
        return x;
    }
    let zero = Tensor::zeros([batch, 1], &x.device());
    Tensor::cat(vec![x, zero], 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    fn rows<const N: usize>(rows: [[f32; N]; 1]) -> Tensor<2> {
        Tensor::from_floats(rows, &Device::flex())
    }

    fn similarity(x: Tensor<2>, y: Tensor<2>) -> f32 {
        let angle = AngleConfig::new().init().unwrap();
        angle.similarities(x, y).unwrap().into_scalar()
    }

    #[test]
    fn similarity_by_hand() {
        // x = 0.6 + 0.8 i, y = 0.8 - 0.6 i: dot 0, second sum 0.8 * 0.8 + 0.6 * 0.6 = 1.
        let (x, y) = ([[3.0, 4.0]], [[8.0, -6.0]]);
        approx::assert_abs_diff_eq!(similarity(rows(x), rows(y)), 1.0, epsilon = 1e-6);
        // The other way round the second sum is -1, its absolute value the same.
        approx::assert_abs_diff_eq!(similarity(rows(y), rows(x)), 1.0, epsilon = 1e-6);
        // x = 1, y = (1 - i) / sqrt 2: both sums are 1 / sqrt 2, the largest value there is.
        let (x, y) = ([[1.0, 0.0]], [[1.0, -1.0]]);
        approx::assert_abs_diff_eq!(similarity(rows(x), rows(y)), 2f32.sqrt(), epsilon = 1e-6);
        approx::assert_abs_diff_eq!(similarity(rows(y), rows(x)), 0.0, epsilon = 1e-6);
    }

    #[test]
    fn an_odd_dimension_is_filled_up() {
        let (x, y) = ([[1.0, 2.0, -0.5]], [[0.3, -1.0, 0.7]]);
        let (x4, y4) = ([[1.0, 2.0, -0.5, 0.0]], [[0.3, -1.0, 0.7, 0.0]]);
        let (odd, even) = (similarity(rows(x), rows(y)), similarity(rows(x4), rows(y4)));
        assert_eq!(odd, even);
        // Two complex numbers (1 - 0.5 i, 2) and (0.3 + 0.7 i, -1) before normalisation.
        let norms = (5.25f32 * 1.58).sqrt();
        let want = (0.3 - 2.0 - 0.35) + (-0.5 * 0.3 - 0.7);
        approx::assert_abs_diff_eq!(odd, (want / norms).abs(), epsilon = 1e-6);
    }

    #[test]
    fn bad_parameters_and_inputs_are_refused() {
        assert!(AngleConfig::new().with_scale(f64::NAN).init().is_err());
        let angle = AngleConfig::new().init().unwrap();
        let ones = |rows, columns| Tensor::<2>::ones([rows, columns], &Device::flex());
        let labels = |values: &[f32]| Tensor::<1>::from_floats(values, &Device::flex());
        assert!(
            angle
                .forward(ones(2, 3), ones(2, 3), labels(&[0.0, 1.0]))
                .is_ok()
        );
        assert!(
            angle
                .forward(ones(2, 3), ones(2, 2), labels(&[0.0, 1.0]))
                .is_err()
        );
        assert!(
            angle
                .forward(ones(2, 3), ones(2, 3), labels(&[0.0]))
                .is_err()
        );
        let error = angle.forward(ones(2, 3), ones(2, 3), labels(&[0.0, f32::NAN]));
        assert!(matches!(error, Err(LossError::Value { op: "angle", .. })));
    }
}
