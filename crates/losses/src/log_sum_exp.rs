//! Logarithm of a sum of exponentials that cannot overflow.

use burn::tensor::Tensor;

/// Logarithm of the sum of the exponentials of every row.
///
/// `y_i = ln sum_j exp(x_ij) = m_i + ln sum_j exp(x_ij - m_i)` with `m_i = max_j x_ij`.
///
/// # Notes
///
/// - The row maximum is a constant of the gradient; the result does not depend on it, so
///   `dy_i / dx_ij = exp(x_ij - y_i)` is exact.
/// - Every finite row gives a finite value. A row of negative infinities gives negative infinity;
///   `NaN` stays visible.
///
/// # Shapes
///
/// - `x`: `[batch, columns]`, at least one column
/// - output: `[batch]`
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::log_sum_exp;
///
/// let x = Tensor::<2>::from_floats([[1000.0, 1000.0]], &Device::flex());
/// let y: f32 = log_sum_exp(x).into_scalar();
/// assert!((y - 1000.6931).abs() < 1e-3);
/// ```
pub fn log_sum_exp(x: Tensor<2>) -> Tensor<1> {
    // An infinite maximum would give inf - inf in the next line.
    let max = x
        .clone()
        .without_autodiff()
        .max_dim(1)
        .clamp(f32::MIN, f32::MAX); // [batch, 1]
    let sum = (x - max.clone()).exp().sum_dim(1); // [batch, 1]
    (sum.log() + max).squeeze_dim::<1>(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    fn value(row: &[f32]) -> f32 {
        let data = burn::tensor::TensorData::new(row.to_vec(), [1, row.len()]);
        log_sum_exp(Tensor::<2>::from_data(data, &Device::flex())).into_scalar()
    }

    #[test]
    fn equal_entries_give_their_value_plus_the_log_of_their_number() {
        // ln(3 e^2) = 2 + ln 3
        approx::assert_abs_diff_eq!(value(&[2.0, 2.0, 2.0]), 3.098_612_3, epsilon = 1e-6);
    }

    #[test]
    fn far_apart_and_far_out_entries_do_not_overflow() {
        approx::assert_abs_diff_eq!(value(&[-3000.0, 2500.0]), 2500.0, epsilon = 1e-3);
        approx::assert_abs_diff_eq!(value(&[-7000.0, -7000.0]), -6999.307, epsilon = 1e-2);
    }

    #[test]
    fn infinities_and_nan_follow_the_definition() {
        assert_eq!(
            value(&[f32::NEG_INFINITY, f32::NEG_INFINITY]),
            f32::NEG_INFINITY
        );
        assert_eq!(value(&[f32::NEG_INFINITY, 1.0]), 1.0);
        assert_eq!(value(&[f32::INFINITY, 1.0]), f32::INFINITY);
        assert!(value(&[f32::NAN, 1.0]).is_nan());
    }

    #[test]
    fn gradient_is_the_softmax() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_floats([[0.0, 3f32.ln(), -1000.0]], &device).require_grad();
        let grads = log_sum_exp(x.clone()).backward();
        let g = x.grad(&grads).unwrap().try_to_vec_as::<f32>().unwrap();
        for (got, want) in g.iter().zip([0.25, 0.75, 0.0]) {
            approx::assert_abs_diff_eq!(*got, want, epsilon = 1e-6);
        }
    }
}
