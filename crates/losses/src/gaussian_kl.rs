//! Symmetric Kullback-Leibler divergence between diagonal Gaussians, and the two heads that turn an
//! embedding into one.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{LossError, check_parameter, check_shape};
use crate::similarity::check_same_dim;

/// Rows of diagonal Gaussians.
#[derive(Clone, Debug)]
pub struct DiagonalGaussian {
    /// Means, `[rows, dim]`.
    pub mean: Tensor<2>,
    /// Variances, all greater than 0, `[rows, dim]`.
    pub variance: Tensor<2>,
}

/// Two linear heads that map an embedding to a diagonal Gaussian.
///
/// # Mathematical Definition
///
/// ```text
/// mean(x)     = W_mu relu(x) + b_mu
/// variance(x) = elu(W_var relu(x) + b_var) + 1 + var_floor
/// ```
///
/// # Notes
///
/// - The variance is evaluated as `max(a, 0) + exp(min(a, 0))`: the same function, without the
///   cancellation that makes `elu(a) + 1` exactly 0 for `a < -17` in f32.
/// - The only guard of the released code is a floor of 1e-8. A larger one (1e-4) keeps `1 / v` and
///   its gradient small when variances collapse.
/// - A common shift of all means does not change any divergence, so the bias of `fc_mu` gets a
///   gradient of exactly 0 up to rounding.
///
/// # Source
///
/// Released code of STAR (`fc_mu`, `fc_var`).
#[derive(Module, Debug)]
pub struct GaussianHeads {
    /// Head of the means, weight `[hidden, dim]`.
    pub fc_mu: Linear,
    /// Head of the variances, weight `[hidden, dim]`.
    pub fc_var: Linear,
    /// Added to every variance.
    pub var_floor: f64,
}

impl GaussianHeads {
    /// Draws new heads as PyTorch draws a linear layer: weights and biases uniform in
    /// `[-1/sqrt(hidden), 1/sqrt(hidden))`. The same seed gives the same values on every device.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] if `hidden` or `dim` is 0 or `var_floor` is negative or not finite.
    pub fn new(
        hidden: usize,
        dim: usize,
        var_floor: f64,
        device: &Device,
        seed: u64,
    ) -> Result<Self, LossError> {
        check_size("hidden", hidden)?;
        check_size("dim", dim)?;
        check_floor(var_floor)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let bound = 1.0 / (hidden as f32).sqrt();
        let mut layer = || {
            let weight = uniform(&mut rng, bound, hidden * dim);
            let bias = uniform(&mut rng, bound, dim);
            Linear {
                weight: Param::from_data(TensorData::new(weight, [hidden, dim]), device),
                bias: Some(Param::from_data(TensorData::new(bias, [dim]), device)),
            }
        };
        Ok(Self {
            fc_mu: layer(),
            fc_var: layer(),
            var_floor,
        })
    }

    /// Takes heads with given values.
    ///
    /// # Shapes
    ///
    /// - `mu_weight`, `var_weight`: `[hidden, dim]` (the transpose of PyTorch's layout)
    /// - `mu_bias`, `var_bias`: `[dim]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if the shapes do not fit together, [`LossError::Parameter`] if
    /// `var_floor` is negative or not finite.
    pub fn from_tensors(
        mu_weight: Tensor<2>,
        mu_bias: Tensor<1>,
        var_weight: Tensor<2>,
        var_bias: Tensor<1>,
        var_floor: f64,
    ) -> Result<Self, LossError> {
        let [hidden, dim] = mu_weight.dims();
        check_size("hidden", hidden)?;
        check_size("dim", dim)?;
        check_floor(var_floor)?;
        check_shape(OP, "var_weight", &var_weight.dims(), &[hidden, dim])?;
        check_shape(OP, "mu_bias", &mu_bias.dims(), &[dim])?;
        check_shape(OP, "var_bias", &var_bias.dims(), &[dim])?;
        let layer = |weight, bias| Linear {
            weight: Param::from_tensor(weight),
            bias: Some(Param::from_tensor(bias)),
        };
        Ok(Self {
            fc_mu: layer(mu_weight, mu_bias),
            fc_var: layer(var_weight, var_bias),
            var_floor,
        })
    }

    /// Size of the embeddings that the heads accept.
    pub fn hidden(&self) -> usize {
        self.fc_mu.weight.dims()[0]
    }

    /// Maps every row of `x` to a Gaussian.
    ///
    /// # Shapes
    ///
    /// - `x`: `[rows, hidden]`
    /// - output: mean and variance `[rows, dim]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if the rows of `x` have another size.
    pub fn forward(&self, x: Tensor<2>) -> Result<DiagonalGaussian, LossError> {
        self.forward_with(x, true)
    }

    /// As [`GaussianHeads::forward`], but the heads count as constants: gradients still reach `x`
    /// where it requires them, never the parameters.
    ///
    /// # Errors
    ///
    /// As [`GaussianHeads::forward`].
    pub fn forward_frozen(&self, x: Tensor<2>) -> Result<DiagonalGaussian, LossError> {
        self.forward_with(x, false)
    }

    fn forward_with(&self, x: Tensor<2>, head_grad: bool) -> Result<DiagonalGaussian, LossError> {
        let [rows, _] = x.dims();
        check_shape(OP, "embeddings", &x.dims(), &[rows, self.hidden()])?;
        let apply = |layer: &Linear, x: Tensor<2>| {
            let weight = layer.weight.val();
            let bias = layer.bias.as_ref().map(|bias| bias.val());
            if head_grad {
                linear(x, weight, bias)
            } else {
                // `detach` would make a new leaf that still asks for a gradient, and the whole
                // backward pass with it.
                linear(
                    x,
                    weight.without_autodiff(),
                    bias.map(Tensor::without_autodiff),
                )
            }
        };
        let positive = relu(x); // [rows, hidden], shared by both heads
        let mean = apply(&self.fc_mu, positive.clone());
        let activation = apply(&self.fc_var, positive);
        // exp never sees a positive argument, so neither it nor its gradient can overflow.
        let tail = activation.clone().clamp_max(0.0).exp();
        let variance = relu(activation) + tail;
        let variance = if self.var_floor > 0.0 {
            variance.add_scalar(self.var_floor)
        } else {
            variance
        };
        Ok(DiagonalGaussian { mean, variance })
    }
}

/// Symmetric Kullback-Leibler divergence of every pair of diagonal Gaussians.
///
/// # Mathematical Definition
///
/// With means `m`, variances `v` and `dim` dimensions:
///
/// ```text
/// d_ij = ( KL(i || j) + KL(j || i) ) / 2
///      = 1/4 sum_k [ v_ik / v_jk + v_jk / v_ik - 2 + (m_ik - m_jk)^2 (1 / v_ik + 1 / v_jk) ]
/// ```
///
/// # Notes
///
/// - Evaluated as matrix products. With `e = v - 1`, `g = 1 / v - 1 = -e / v` and all means shifted
///   by the mean of the bank (a constant that changes neither value nor gradient):
///   ```text
///   4 d_ij = R_i + C_j + (e_i + m_i^2) . g_j + g_i . (e_j + m_j^2)
///                      - (4 m_i + 2 m_i g_i) . m_j - 2 m_i . (m_j g_j)
///   R_i = sum_k ( e_i + g_i + 2 m_i^2 + m_i^2 g_i ),  C_j the same for j
///   ```
///   The form in `e` and `g` does not cancel `2 dim` against `2 dim` as the plain expansion does.
/// - Rounding can leave a pair of equal rows slightly below 0; the result is clamped at 0.
/// - `d_ii = 0`, `d` is symmetric, and a common shift of all means does not change it.
/// - Largest tensors: `[rows, dim]` and `[batch, rows]`; never `[batch, rows, dim]`.
///
/// # Shapes
///
/// - `queries`: mean and variance `[batch, dim]`
/// - `bank`: mean and variance `[rows, dim]`
/// - output: `[batch, rows]`
///
/// # Errors
///
/// [`LossError::Shape`] if a matrix is empty or the shapes do not fit together. Variances are not
/// read back for a check: a variance that is not positive gives a meaningless or `NaN` divergence.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::{DiagonalGaussian, symmetric_gaussian_kl};
///
/// # fn main() -> Result<(), losses::LossError> {
/// let gaussian = |mean: f32| DiagonalGaussian {
///     mean: Tensor::from_floats([[mean]], &Device::flex()),
///     variance: Tensor::ones([1, 1], &Device::flex()),
/// };
/// // Unit variances: d = (m_i - m_j)^2 / 2
/// let d: f32 = symmetric_gaussian_kl(gaussian(0.0), gaussian(2.0))?.into_scalar();
/// assert!((d - 2.0).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
pub fn symmetric_gaussian_kl(
    queries: DiagonalGaussian,
    bank: DiagonalGaussian,
) -> Result<Tensor<2>, LossError> {
    const OP: &str = "symmetric_gaussian_kl";
    check_same_dim(OP, &queries.mean, &bank.mean)?;
    check_shape(
        OP,
        "query variances",
        &queries.variance.dims(),
        &queries.mean.dims(),
    )?;
    check_shape(
        OP,
        "bank variances",
        &bank.variance.dims(),
        &bank.mean.dims(),
    )?;

    let centre = bank.mean.clone().without_autodiff().mean_dim(0); // [1, dim]
    // The query side carries the factor 1/4 of every product: it is the small one.
    let q = Terms::new(queries, centre.clone(), 0.25);
    let h = Terms::new(bank, centre, 0.25);

    let scaled_mean = q.mean.clone().mul_scalar(-0.5); // -2 m_i / 4
    let cross_mean = scaled_mean.clone() * (q.reciprocal.clone().add_scalar(2.0)); // -(4 m_i + 2 m_i g_i) / 4
    let distance = q.variance.mul_scalar(0.25).matmul(h.reciprocal.transpose())
        + q.reciprocal.mul_scalar(0.25).matmul(h.variance.transpose())
        + cross_mean.matmul(h.mean.transpose())
        + scaled_mean.matmul(h.mean_reciprocal.transpose()); // [batch, rows]
    let distance = distance + q.constant + h.constant.transpose();
    Ok(distance.clamp_min(0.0))
}

/// The per-row pieces of the closed form.
struct Terms {
    /// `m`, centred, `[rows, dim]`
    mean: Tensor<2>,
    /// `e + m^2`, `[rows, dim]`
    variance: Tensor<2>,
    /// `g`, `[rows, dim]`
    reciprocal: Tensor<2>,
    /// `m g`, `[rows, dim]`
    mean_reciprocal: Tensor<2>,
    /// `scale * sum_k (e + g + 2 m^2 + m^2 g)`, `[rows, 1]`
    constant: Tensor<2>,
}

impl Terms {
    fn new(gaussian: DiagonalGaussian, centre: Tensor<2>, scale: f64) -> Self {
        let mean = gaussian.mean - centre;
        let excess = gaussian.variance.clone().sub_scalar(1.0); // e
        let reciprocal = (excess.clone() / gaussian.variance).neg(); // g
        let mean_reciprocal = mean.clone() * reciprocal.clone();
        let squared = mean.clone().square();
        let variance = excess + squared.clone();
        let constant = (variance.clone()
            + reciprocal.clone()
            + squared
            + mean.clone() * mean_reciprocal.clone())
        .sum_dim(1)
        .mul_scalar(scale);
        Self {
            mean,
            variance,
            reciprocal,
            mean_reciprocal,
            constant,
        }
    }
}

const OP: &str = "gaussian_heads";

/// Uniform in `[-bound, bound)` on a grid of 2^24 points, the resolution of an f32 in `[0, 1)`.
pub(crate) fn uniform(rng: &mut impl Rng, bound: f32, len: usize) -> Vec<f32> {
    (0..len)
        .map(|_| {
            let unit = (rng.next_u32() >> 8) as f32 / (1 << 24) as f32;
            bound * (2.0 * unit - 1.0)
        })
        .collect()
}

fn check_size(name: &'static str, size: usize) -> Result<(), LossError> {
    check_parameter(OP, name, size as f64, "at least 1", |v| v >= 1.0)
}

fn check_floor(floor: f64) -> Result<(), LossError> {
    check_parameter(
        OP,
        "var_floor",
        floor,
        "a finite number that is not negative",
        |v| v >= 0.0,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn floats<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.try_to_vec_as::<f32>().unwrap()
    }

    #[test]
    fn two_dimensional_pair_by_hand() {
        // v_i = (1, 2), v_j = (2, 1), m_i = (0, 0), m_j = (1, 0)
        // k = 1: 1/2 + 2 - 2 + 1 * (1 + 1/2) = 2;  k = 2: 2 + 1/2 - 2 + 0 = 1/2;  d = 2.5 / 4
        let device = Device::flex();
        let q = DiagonalGaussian {
            mean: Tensor::from_floats([[0.0, 0.0]], &device),
            variance: Tensor::from_floats([[1.0, 2.0]], &device),
        };
        let h = DiagonalGaussian {
            mean: Tensor::from_floats([[1.0, 0.0], [0.0, 0.0]], &device),
            variance: Tensor::from_floats([[2.0, 1.0], [1.0, 2.0]], &device),
        };
        let d = floats(symmetric_gaussian_kl(q, h).unwrap());
        approx::assert_abs_diff_eq!(d[0], 0.625, epsilon = 1e-6);
        approx::assert_abs_diff_eq!(d[1], 0.0, epsilon = 1e-6);
    }

    #[test]
    fn heads_follow_the_formula_on_both_sides_of_zero() {
        // relu(x) = (1, 0); activation of the variance = (2, -1) -> (3, e^-1)
        let device = Device::flex();
        let heads = GaussianHeads::from_tensors(
            Tensor::from_floats([[0.5, -0.25], [9.0, 9.0]], &device),
            Tensor::from_floats([1.0, 0.0], &device),
            Tensor::from_floats([[2.0, -1.0], [9.0, 9.0]], &device),
            Tensor::from_floats([0.0, 0.0], &device),
            0.0,
        )
        .unwrap();
        let x = Tensor::from_floats([[1.0, -1.0]], &device);
        let out = heads.forward(x).unwrap();
        assert_eq!(floats(out.mean), [1.5, -0.25]);
        let variance = floats(out.variance);
        assert_eq!(variance[0], 3.0);
        approx::assert_abs_diff_eq!(variance[1], (-1f32).exp(), epsilon = 1e-7);
    }

    #[test]
    fn extreme_activations_keep_value_and_gradient_finite() {
        let device = Device::flex().autodiff();
        let heads = GaussianHeads::from_tensors(
            Tensor::from_floats([[0.0, 0.0, 0.0]], &device),
            Tensor::from_floats([0.0, 0.0, 0.0], &device),
            Tensor::from_floats([[-40.0, 0.0, 500.0]], &device),
            Tensor::from_floats([0.0, 0.0, 0.0], &device),
            0.0,
        )
        .unwrap();
        let x = Tensor::<2>::from_floats([[1.0]], &device);
        let variance = heads.forward(x).unwrap().variance;
        let values = floats(variance.clone());
        assert!(
            values[0] > 0.0,
            "e^-40 is representable, elu + 1 would be 0"
        );
        assert_eq!(values[1..], [1.0, 501.0]);
        let grads = variance.sum().backward();
        let bias = heads.fc_var.bias.as_ref().unwrap().val();
        let gradient = floats(bias.grad(&grads).unwrap());
        approx::assert_abs_diff_eq!(gradient[0], (-40f32).exp(), epsilon = 1e-20);
        // One-sided slopes agree at 0: exp'(0) = 1 = slope of the linear branch.
        assert_eq!(gradient[1..], [1.0, 1.0]);
    }

    #[test]
    fn the_seed_alone_decides_the_heads() {
        let device = Device::flex();
        let draw = |seed| GaussianHeads::new(48, 16, 1e-8, &device, seed).unwrap();
        let (a, b, c) = (draw(3), draw(3), draw(4));
        let weight = |heads: &GaussianHeads| floats(heads.fc_mu.weight.val());
        assert_eq!(weight(&a), weight(&b));
        assert_ne!(weight(&a), weight(&c));
        assert_ne!(weight(&a), floats(a.fc_var.weight.val()));
        let bound = 1.0 / 48f32.sqrt();
        let values = weight(&a);
        assert!(values.iter().all(|w| w.abs() <= bound));
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|w| w * w).sum::<f32>() / values.len() as f32;
        // Uniform: mean 0, variance bound^2 / 3; 768 draws.
        assert!(mean.abs() < 0.1 * bound, "{mean}");
        approx::assert_relative_eq!(variance, bound * bound / 3.0, max_relative = 0.15);
    }

    #[test]
    fn frozen_heads_pass_gradients_to_the_embedding_only() {
        let device = Device::flex().autodiff();
        let heads = GaussianHeads::new(3, 2, 1e-8, &device, 0).unwrap();
        let x = Tensor::<2>::from_floats([[0.3, 0.2, 0.9]], &device).require_grad();
        let out = heads.forward_frozen(x.clone()).unwrap();
        let grads = (out.mean.sum() + out.variance.sum()).backward();
        assert!(x.grad(&grads).is_some());
        assert!(heads.fc_mu.weight.val().grad(&grads).is_none());
        assert!(heads.fc_var.weight.val().grad(&grads).is_none());
        // Constant embeddings give a constant: nothing is recorded for the backward pass.
        let constant = heads.forward_frozen(Tensor::ones([2, 3], &device)).unwrap();
        assert!(!constant.mean.is_tracked() && !constant.variance.is_tracked());
    }

    #[test]
    fn bad_parameters_and_shapes_are_refused() {
        let device = Device::flex();
        assert!(GaussianHeads::new(0, 2, 0.0, &device, 0).is_err());
        assert!(GaussianHeads::new(2, 0, 0.0, &device, 0).is_err());
        assert!(GaussianHeads::new(2, 2, -1e-8, &device, 0).is_err());
        assert!(GaussianHeads::new(2, 2, f64::NAN, &device, 0).is_err());
        let heads = GaussianHeads::new(3, 2, 0.0, &device, 0).unwrap();
        let error = heads.forward(Tensor::ones([5, 4], &device)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "gaussian_heads: embeddings has shape [5, 4], expected [5, 3]"
        );
        let gaussian = |rows, dim, var_dim| DiagonalGaussian {
            mean: Tensor::ones([rows, dim], &device),
            variance: Tensor::ones([rows, var_dim], &device),
        };
        assert!(symmetric_gaussian_kl(gaussian(2, 3, 3), gaussian(4, 5, 5)).is_err());
        assert!(symmetric_gaussian_kl(gaussian(2, 3, 1), gaussian(4, 3, 3)).is_err());
        assert!(symmetric_gaussian_kl(gaussian(2, 3, 3), gaussian(4, 3, 1)).is_err());
        assert!(symmetric_gaussian_kl(gaussian(2, 3, 3), gaussian(4, 3, 3)).is_ok());
    }
}
