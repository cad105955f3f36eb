//! Symmetric Kullback-Leibler divergence between softmax distributions.

use burn::config::Config;
use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use kernels::{SoftmaxDivergence, softmax_divergence};

use crate::bank_info_nce::check_temperature;
use crate::error::LossError;
use crate::similarity::check_same_dim;

/// How the two directions of the divergence are put together.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum KlForm {
    /// `KL(p || r) + KL(r || p)`.
    Sum,
    /// Half of the sum.
    Mean,
}

/// Symmetric Kullback-Leibler divergence of every pair of softmax distributions.
///
/// # Mathematical Definition
///
/// With `p_i = softmax(q_i / T)` and `r_j = softmax(h_j / T)`:
///
/// ```text
/// d_ij = c ( KL(p_i || r_j) + KL(r_j || p_i) ) = c sum_k (p_ik - r_jk) (ln p_ik - ln r_jk)
/// ```
///
/// with `c = 1` for [`KlForm::Sum`] and `c = 1/2` for [`KlForm::Mean`].
///
/// # Notes
///
/// - Evaluated as `c (a_i + a_j - P_i . L_j - L_i . P_j)` with `P` the probabilities, `L = ln P +
///   ln dim` and `a = sum_k P L`. The shift makes the uniform distribution `L = 0`; it cancels in
///   the result and takes the large common part out of the products.
/// - For rows of unit length and `T = 1`, `d` (mean form) is close to `(1 - cos) / dim`: about 0.001
///   for 768 dimensions, so it guides nothing. `T` between 0.02 and 0.05 gives a visible effect.
/// - Rounding can leave a pair of equal rows slightly below 0; the result is clamped at 0.
/// - Largest tensors: `[batch, rows]` and, where the operation is composed of plain ones, `[rows, dim]`.
///
/// # Shapes
///
/// - `queries`: `[batch, dim]`
/// - `bank`: `[rows, dim]`
/// - output: `[batch, rows]`
///
/// # Errors
///
/// [`LossError::Shape`] if a matrix is empty or the dimensions differ, [`LossError::Parameter`] if
/// the temperature is not finite or not greater than 0.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::{KlForm, symmetric_softmax_kl};
///
/// # fn main() -> Result<(), losses::LossError> {
/// let x = Tensor::<2>::from_floats([[1.0, 2.0], [2.0, 1.0]], &Device::flex());
/// let d = symmetric_softmax_kl(x.clone(), x, 1.0, KlForm::Sum)?.into_data();
/// // p = (0.269, 0.731), r = (0.731, 0.269): 2 * 0.4621 * 1
/// let d = d.as_slice::<f32>().unwrap_or(&[]);
/// assert!(d[0].abs() < 1e-6 && (d[1] - 0.9242).abs() < 1e-4);
/// # Ok(())
/// # }
/// ```
pub fn symmetric_softmax_kl(
    queries: Tensor<2>,
    bank: Tensor<2>,
    temperature: f64,
    form: KlForm,
) -> Result<Tensor<2>, LossError> {
    const OP: &str = "symmetric_softmax_kl";
    check_temperature(OP, temperature)?;
    check_same_dim(OP, &queries, &bank)?;
    let scale = match form {
        KlForm::Sum => 1.0,
        KlForm::Mean => 0.5,
    };
    let inputs = SoftmaxDivergence {
        queries,
        bank,
        temperature,
        scale,
    };
    Ok(softmax_divergence(inputs).unwrap_or_else(|inputs| composed(*inputs)))
}

/// The same from plain operations.
fn composed(inputs: SoftmaxDivergence) -> Tensor<2> {
    let (temperature, scale) = (inputs.temperature, inputs.scale);
    let q = Terms::new(inputs.queries, temperature, scale);
    let h = Terms::new(inputs.bank, temperature, scale);
    let scale = -scale;
    let distance = q
        .probability
        .mul_scalar(scale)
        .matmul(h.logarithm.transpose())
        + q.logarithm
            .mul_scalar(scale)
            .matmul(h.probability.transpose()); // [batch, rows]
    let distance = distance + q.constant + h.constant.transpose();
    distance.clamp_min(0.0)
}

/// The per-row pieces of the closed form.
struct Terms {
    /// `P`, `[rows, dim]`
    probability: Tensor<2>,
    /// `L = ln P + ln dim`, `[rows, dim]`
    logarithm: Tensor<2>,
    /// `scale * sum_k P L`, `[rows, 1]`
    constant: Tensor<2>,
}

impl Terms {
    fn new(x: Tensor<2>, temperature: f64, scale: f64) -> Self {
        let [_, dim] = x.dims();
        let x = if temperature == 1.0 {
            x
        } else {
            x.mul_scalar(1.0 / temperature)
        };
        let log_probability = log_softmax(x, 1);
        let probability = log_probability.clone().exp();
        let logarithm = log_probability.add_scalar((dim as f64).ln());
        let constant = (probability.clone() * logarithm.clone())
            .sum_dim(1)
            .mul_scalar(scale);
        Self {
            probability,
            logarithm,
            constant,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::{Device, TensorData};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn divergence(q: [[f32; 2]; 1], h: [[f32; 2]; 1], temperature: f64, form: KlForm) -> f32 {
        let device = Device::flex();
        let q = Tensor::<2>::from_floats(q, &device);
        let h = Tensor::<2>::from_floats(h, &device);
        symmetric_softmax_kl(q, h, temperature, form)
            .unwrap()
            .into_scalar()
    }

    #[test]
    fn two_classes_by_hand() {
        // p = (3/4, 1/4), r = (1/2, 1/2): sum (p - r)(ln p - ln r)
        //   = 1/4 ln(3/2) - 1/4 ln(1/2) = 1/4 ln 3 = 0.2746531
        let q = [[3f32.ln(), 0.0]];
        let h = [[1.0, 1.0]];
        let sum = divergence(q, h, 1.0, KlForm::Sum);
        approx::assert_abs_diff_eq!(sum, 0.274_653_1, epsilon = 1e-6);
        let mean = divergence(q, h, 1.0, KlForm::Mean);
        approx::assert_abs_diff_eq!(mean, 0.137_326_54, epsilon = 1e-6);
    }

    #[test]
    fn temperature_divides_the_inputs() {
        let q = [[3f32.ln(), 0.0]];
        let double = [[2.0 * 3f32.ln(), 0.0]];
        let h = [[0.5, 0.5]];
        let plain = divergence(q, h, 1.0, KlForm::Sum);
        let scaled = divergence(double, h, 2.0, KlForm::Sum);
        approx::assert_abs_diff_eq!(plain, scaled, epsilon = 1e-6);
    }

    fn random(rng: &mut ChaCha8Rng, rows: usize, dim: usize, device: &Device) -> Tensor<2> {
        let values: Vec<f32> = (0..rows * dim)
            .map(|_| rng.next_u32() as f32 / u32::MAX as f32 - 0.5)
            .collect();
        Tensor::from_data(TensorData::new(values, [rows, dim]), device)
    }

    /// The operation with its own backward pass against the composition of plain operations.
    #[test]
    fn fused_and_composed_divergences_agree_in_value_and_gradient() {
        let device = Device::flex().autodiff();
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        // Batch, bank rows, dimension.
        let sizes = [
            (1, 1, 2),
            (3, 1, 8),
            (1, 300, 1),
            (5, 255, 24),
            (17, 1100, 48),
        ];
        for (batch, rows, dim) in sizes {
            for (temperature, scale) in [(1.0, 1.0), (0.03, 0.5)] {
                let queries = random(&mut rng, batch, dim, &device).require_grad();
                let bank = random(&mut rng, rows, dim, &device).require_grad();
                let weights = random(&mut rng, batch, rows, &device);
                let inputs = SoftmaxDivergence {
                    queries: queries.clone(),
                    bank: bank.clone(),
                    temperature,
                    scale,
                };
                let fused = softmax_divergence(inputs.clone()).unwrap();
                let results = [fused, composed(inputs)].map(|divergence| {
                    let grads = (divergence.clone() * weights.clone()).sum().backward();
                    let all = [Some(divergence), queries.grad(&grads), bank.grad(&grads)];
                    all.map(|x| x.unwrap().into_data().try_to_vec::<f32>().unwrap())
                });
                let [fused, composed] = results;
                for (what, (fused, composed)) in fused.iter().zip(&composed).enumerate() {
                    assert_eq!(fused.len(), composed.len());
                    let largest = composed.iter().fold(0f32, |most, x| most.max(x.abs()));
                    for (fused, composed) in fused.iter().zip(composed) {
                        assert!(
                            (fused - composed).abs() <= 1e-5 * largest + 1e-6,
                            "result {what} of {batch} x {rows} x {dim} at {temperature}: \
                             {fused} against {composed}, largest {largest}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn equal_rows_have_no_divergence_and_not_a_number_is_seen() {
        let device = Device::flex();
        let x = Tensor::<2>::from_floats([[0.3, -0.2, 0.9], [f32::NAN, 0.0, 1.0]], &device);
        let d = symmetric_softmax_kl(x.clone(), x, 0.05, KlForm::Sum).unwrap();
        let d: Vec<f32> = d.into_data().try_to_vec().unwrap();
        assert!((0.0..1e-5).contains(&d[0]), "{}", d[0]);
        assert!(d[1..].iter().all(|d| d.is_nan()), "{d:?}");
    }

    #[test]
    fn bad_parameters_and_shapes_are_refused() {
        let device = Device::flex();
        let ones = |rows, columns| Tensor::<2>::ones([rows, columns], &device);
        for temperature in [0.0, -1.0, f64::NAN] {
            let result = symmetric_softmax_kl(ones(1, 2), ones(1, 2), temperature, KlForm::Sum);
            assert!(result.is_err());
        }
        assert!(symmetric_softmax_kl(ones(1, 2), ones(1, 3), 1.0, KlForm::Sum).is_err());
    }
}
