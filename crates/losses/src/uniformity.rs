//! Uniformity of embeddings on the unit sphere, as an objective.

use burn::config::Config;
use burn::tensor::Tensor;

use crate::error::{LossError, check_count, check_not_empty, check_parameter};
use crate::in_batch::{blocks, own_mask};
use crate::known_gradient::with_gradient;
use crate::log_sum_exp::log_sum_exp;
use crate::similarity::{NORM_EPS, l2_normalize, paired_dot};

/// Rows whose distances to all others are formed at a time.
const BLOCK: usize = 256;

/// Configuration of [`Uniformity`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::UniformityConfig;
///
/// # fn main() -> Result<(), losses::LossError> {
/// // Two opposite directions: squared distance 4, exponent -8.
/// let x = Tensor::<2>::from_floats([[2.0, 0.0], [-3.0, 0.0]], &Device::flex());
/// let value: f32 = UniformityConfig::new().init()?.forward(x)?.into_scalar();
/// assert!((value + 8.0).abs() < 1e-5);
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, Copy, PartialEq)]
pub struct UniformityConfig {
    /// Factor of the squared distance. Finite and greater than 0. Default: 2
    #[config(default = 2.0)]
    pub t: f64,
}

impl UniformityConfig {
    /// Checks the parameters and builds the objective.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] if `t` is not finite or not greater than 0.
    pub fn init(&self) -> Result<Uniformity, LossError> {
        let expected = "a finite number greater than 0";
        check_parameter(OP, "t", self.t, expected, |t| t > 0.0)?;
        Ok(Uniformity { config: *self })
    }
}

/// Logarithm of the mean Gaussian potential of all pairs of rows.
///
/// # Mathematical Definition
///
/// With unit vectors `u_i`:
///
/// ```text
/// L = ln mean_{i < j} exp( -t | u_i - u_j |^2 )
/// ```
///
/// # Notes
///
/// - One number for the batch, between `-4 t` and 0; smaller is more uniform.
/// - Memory `O(rows)` times a fixed number of rows, backward pass included: distances are formed in
///   blocks, twice, and never kept. With `w_ij = exp(-t |u_i - u_j|^2)` over its sum over `i < j` the
///   gradient is `dL/du_i = -2 t sum_j w_ij (u_i - u_j)`.
/// - The logarithm is taken of a log-sum-exp: no `t` lets all terms vanish.
/// - `metrics::uniformity` is the same number in f64 without gradient.
///
/// # Source
///
/// Wang, Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity
/// on the Hypersphere" (arXiv 2005.10242).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uniformity {
    config: UniformityConfig,
}

impl Uniformity {
    /// The checked configuration.
    pub fn config(&self) -> &UniformityConfig {
        &self.config
    }

    /// The objective of all pairs of rows.
    ///
    /// # Shapes
    ///
    /// - `x`: `[rows, dim]`
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if the input is empty, [`LossError::Count`] for a single row, which has
    /// no pair.
    pub fn forward(&self, x: Tensor<2>) -> Result<Tensor<1>, LossError> {
        let [rows, dim] = x.dims();
        check_not_empty(OP, "x", [rows, dim])?;
        check_count(OP, "rows", rows, 2)?;
        let unit = l2_normalize(x, NORM_EPS);
        let fixed = unit.clone().without_autodiff();
        // Unit rows have square 1, rows without direction 0.
        let squares = paired_dot(fixed.clone(), fixed.clone());
        let exponents = |start: usize, length: usize| {
            let own = squares
                .clone()
                .narrow(0, start, length)
                .reshape([length, 1]);
            let others = squares.clone().reshape([1, rows]);
            let block = fixed.clone().narrow(0, start, length);
            let dots = block.matmul(fixed.clone().transpose()); // [length, rows]
            let squared = dots.mul_scalar(-2.0) + own + others;
            let mask = own_mask(rows, start, length, &fixed.device()).transpose();
            squared
                .mul_scalar(-self.config.t)
                .mask_fill(mask, f32::NEG_INFINITY)
        };

        let sums = blocks(rows, BLOCK).map(|(start, length)| log_sum_exp(exponents(start, length)));
        let sums = Tensor::cat(sums.collect(), 0).reshape([1, rows]);
        // Every pair stands in both rows.
        let log_sum = log_sum_exp(sums);
        let pairs = rows as f64 * (rows - 1) as f64;
        let loss = log_sum.clone().sub_scalar(pairs.ln());
        if !unit.is_tracked() {
            return Ok(loss);
        }
        let gradient = blocks(rows, BLOCK).map(|(start, length)| {
            let log_sum = log_sum.clone().reshape([1, 1]);
            let share = (exponents(start, length) - log_sum).exp(); // w_ij / 2
            let block = fixed.clone().narrow(0, start, length);
            let pull = block * share.clone().sum_dim(1) - share.matmul(fixed.clone());
            pull.mul_scalar(-4.0 * self.config.t)
        });
        let gradient = Tensor::cat(gradient.collect(), 0);
        Ok(with_gradient(loss, &unit, gradient))
    }
}

const OP: &str = "uniformity";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn uniformity(t: f64, x: Tensor<2>) -> Tensor<1> {
        let objective = UniformityConfig::new().with_t(t).init().unwrap();
        objective.forward(x).unwrap()
    }

    #[test]
    fn worked_example() {
        // East, north, west: squared distances 2, 4, 2.
        let x = [[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]];
        let x = Tensor::<2>::from_floats(x, &Device::flex());
        let want = ((2.0 * (-4.0f32).exp() + (-8.0f32).exp()) / 3.0).ln();
        let got = uniformity(2.0, x).into_scalar::<f32>();
        approx::assert_abs_diff_eq!(got, want, epsilon = 1e-6);
        // A zero row is at squared distance 1 from a unit row.
        let x = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 0.0]], &Device::flex());
        let got = uniformity(2.0, x).into_scalar::<f32>();
        approx::assert_abs_diff_eq!(got, -2.0, epsilon = 1e-6);
    }

    #[test]
    fn the_same_direction_everywhere_is_0_and_any_t_stays_finite() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_floats([[1.0, 2.0], [2.0, 4.0], [0.5, 1.0]], &device);
        let got = uniformity(2.0, x).into_scalar::<f32>();
        approx::assert_abs_diff_eq!(got, 0.0, epsilon = 1e-5);
        // Every term exp(-1000 * 4) is 0 in f32.
        let x = Tensor::<2>::from_floats([[1.0, 0.0], [-1.0, 0.0]], &device).require_grad();
        let value = uniformity(1000.0, x.clone());
        let gradient = x.grad(&value.backward()).unwrap();
        approx::assert_abs_diff_eq!(value.into_scalar::<f32>(), -4000.0, epsilon = 1e-2);
        let gradient = gradient.try_to_vec_as::<f32>().unwrap();
        assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
    }

    #[test]
    fn blocks_give_what_all_rows_at_once_give() {
        let device = Device::flex().autodiff();
        for rows in [2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3] {
            let values: Vec<f32> = (0..rows * 3).map(|i| (1.3 * i as f32).sin()).collect();
            let x = Tensor::<2>::from_data(TensorData::new(values, [rows, 3]), &device);
            let x = x.require_grad();
            let dense = |x: Tensor<2>| {
                let u = l2_normalize(x, NORM_EPS);
                let exponents = u
                    .clone()
                    .matmul(u.transpose())
                    .sub_scalar(1.0)
                    .mul_scalar(4.0);
                let mask = own_mask(rows, 0, rows, &device);
                let sums = log_sum_exp(exponents.mask_fill(mask, f32::NEG_INFINITY));
                let pairs = rows as f64 * (rows - 1) as f64;
                log_sum_exp(sums.reshape([1, rows])).sub_scalar(pairs.ln())
            };
            let evaluate = |loss: Tensor<1>| {
                let gradient = x.grad(&loss.backward()).unwrap();
                let gradient = gradient.try_into_vec_as::<f32>().unwrap();
                (loss.into_scalar::<f32>(), gradient)
            };
            let (got, gradient) = evaluate(uniformity(2.0, x.clone()));
            let (want, wanted) = evaluate(dense(x.clone()));
            approx::assert_abs_diff_eq!(got, want, epsilon = 1e-5);
            let largest = wanted.iter().fold(0f32, |most, g| most.max(g.abs()));
            for (got, want) in gradient.iter().zip(&wanted) {
                let difference = (got - want).abs();
                assert!(
                    difference <= 1e-5 * largest + 1e-7,
                    "{rows}: {got} against {want}"
                );
            }
        }
    }

    #[test]
    fn bad_parameters_and_inputs_are_refused() {
        for t in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(UniformityConfig::new().with_t(t).init().is_err());
        }
        let objective = UniformityConfig::new().init().unwrap();
        let ones = |rows, columns| Tensor::<2>::ones([rows, columns], &Device::flex());
        assert!(matches!(
            objective.forward(ones(1, 3)),
            Err(LossError::Count {
                what: "rows",
                found: 1,
                ..
            })
        ));
        assert!(objective.forward(ones(0, 3)).is_err());
        assert!(objective.forward(ones(3, 0)).is_err());
    }
}
