//! Alignment of positive pairs on the unit sphere, as an objective.

use burn::config::Config;
use burn::tensor::Tensor;

use crate::error::{LossError, check_parameter};
use crate::similarity::{NORM_EPS, check_pairs, l2_normalize};

/// Configuration of [`Alignment`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::AlignmentConfig;
///
/// # fn main() -> Result<(), losses::LossError> {
/// let x = Tensor::<2>::from_floats([[2.0, 0.0]], &Device::flex());
/// let y = Tensor::<2>::from_floats([[0.0, 3.0]], &Device::flex());
/// let value: f32 = AlignmentConfig::new().init()?.forward(x, y)?.into_scalar();
/// // A right angle: squared distance 2.
/// assert!((value - 2.0).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, Copy, PartialEq)]
pub struct AlignmentConfig {
    /// Exponent of the distance. Finite and greater than 0. Default: 2
    #[config(default = 2.0)]
    pub alpha: f64,
}

impl AlignmentConfig {
    /// Checks the parameters and builds the objective.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] if `alpha` is not finite or not greater than 0.
    pub fn init(&self) -> Result<Alignment, LossError> {
        let expected = "a finite number greater than 0";
        check_parameter(OP, "alpha", self.alpha, expected, |a| a > 0.0)?;
        Ok(Alignment { config: *self })
    }
}

/// Distance of positive pairs on the unit sphere.
///
/// # Mathematical Definition
///
/// With unit vectors `u_i` and `v_i` of the pair `i`:
///
/// ```text
/// L_i = | u_i - v_i |^alpha,   L = mean_i L_i
/// ```
///
/// # Notes
///
/// - For `alpha = 2` this is `2 - 2 cos`.
/// - Two rows in the same direction have value 0 and gradient 0, also for `alpha < 1`, where the
///   derivative has no limit.
/// - `metrics::alignment` is the same number in f64 without gradient.
///
/// # Source
///
/// Wang, Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity
/// on the Hypersphere" (arXiv 2005.10242).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alignment {
    config: AlignmentConfig,
}

impl Alignment {
    /// The checked configuration.
    pub fn config(&self) -> &AlignmentConfig {
        &self.config
    }

    /// Mean of [`Alignment::forward_per_item`] over the pairs.
    ///
    /// # Shapes
    ///
    /// - `x`, `y`: `[batch, dim]`
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// As [`Alignment::forward_per_item`].
    pub fn forward(&self, x: Tensor<2>, y: Tensor<2>) -> Result<Tensor<1>, LossError> {
        Ok(self.forward_per_item(x, y)?.mean())
    }

    /// The distance of every pair to the power of alpha.
    ///
    /// # Shapes
    ///
    /// - `x`, `y`: `[batch, dim]`
    /// - output: `[batch]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if the inputs are empty or differ in shape.
    pub fn forward_per_item(&self, x: Tensor<2>, y: Tensor<2>) -> Result<Tensor<1>, LossError> {
        check_pairs(OP, ("x", &x), ("y", &y))?;
        let difference = l2_normalize(x, NORM_EPS) - l2_normalize(y, NORM_EPS);
        let squared = difference.square().sum_dim(1).squeeze_dim::<1>(1);
        if self.config.alpha == 2.0 {
            return Ok(squared);
        }
        // The power of 0 is 0; its derivative, which may be infinite, is never formed.
        let zero = squared.clone().without_autodiff().equal_scalar(0.0);
        let power = squared.mask_fill(zero.clone(), 1.0);
        Ok(power
            .powf_scalar(self.config.alpha / 2.0)
            .mask_fill(zero, 0.0))
    }
}

const OP: &str = "alignment";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn worked_example() {
        // Cosines 0.6, -1 and a zero row: squared distances 0.8, 4 and 1.
        let device = Device::flex();
        let x = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]], &device);
        let y = Tensor::<2>::from_floats([[3.0, 4.0], [0.0, -7.0], [1.0, 0.0]], &device);
        for (alpha, want) in [(2.0, [0.8, 4.0, 1.0]), (1.0, [0.8f32.sqrt(), 2.0, 1.0])] {
            let loss = AlignmentConfig::new().with_alpha(alpha).init().unwrap();
            let items = loss.forward_per_item(x.clone(), y.clone()).unwrap();
            for (got, want) in items.try_to_vec_as::<f32>().unwrap().iter().zip(want) {
                approx::assert_abs_diff_eq!(*got, want, epsilon = 1e-6);
            }
        }
    }

    #[test]
    fn the_same_direction_has_no_gradient() {
        let device = Device::flex().autodiff();
        for alpha in [0.5, 1.0, 2.0, 3.0] {
            let x = Tensor::<2>::from_floats([[3.0, 4.0]], &device).require_grad();
            let loss = AlignmentConfig::new().with_alpha(alpha).init().unwrap();
            let value = loss.forward(x.clone(), x.clone().detach()).unwrap();
            let gradient = x.grad(&value.backward()).unwrap();
            assert_eq!(gradient.try_to_vec_as::<f32>().unwrap(), [0.0, 0.0]);
        }
    }

    #[test]
    fn bad_parameters_and_inputs_are_refused() {
        for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(AlignmentConfig::new().with_alpha(alpha).init().is_err());
        }
        let loss = AlignmentConfig::new().init().unwrap();
        let ones = |rows, columns| Tensor::<2>::ones([rows, columns], &Device::flex());
        assert!(loss.forward(ones(2, 3), ones(2, 2)).is_err());
        assert!(loss.forward(ones(0, 3), ones(0, 3)).is_err());
    }
}
