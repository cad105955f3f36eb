//! Values that come with their gradient instead of a graph that could compute it.
//!
//! A loss whose gradient was formed in the forward pass becomes `value + (x - c) . g`, with `c` a
//! constant copy of `x`: the second term is exactly 0 and has the derivative `g` in `x`. Nothing of
//! what led to `value` and `g` has to be kept for the backward pass.

use burn::tensor::Tensor;

/// Adds the gradient of a scalar in `x` to it.
///
/// # Shapes
///
/// - `value`: `[1]`, without autodiff or the result of this function for other inputs
/// - `gradient`: the shape of `x`, without autodiff
/// - output: `[1]`
pub(crate) fn with_gradient<const D: usize>(
    value: Tensor<1>,
    x: &Tensor<D>,
    gradient: Tensor<D>,
) -> Tensor<1> {
    value + (exact_zero(x) * gradient).sum()
}

/// The same for one value per row, of which each depends on its own row of `x` alone.
///
/// # Shapes
///
/// - `values`: `[batch]`
/// - `x`, `gradient`: `[batch, columns]`
/// - output: `[batch]`
pub(crate) fn with_row_gradient(
    values: Tensor<1>,
    x: &Tensor<2>,
    gradient: Tensor<2>,
) -> Tensor<1> {
    values + (exact_zero(x) * gradient).sum_dim(1).squeeze_dim::<1>(1)
}

/// `x - x` with the derivative 1.
fn exact_zero<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    x.clone() - x.clone().without_autodiff()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn value_and_gradient_are_the_given_ones() {
        let device = Device::flex();
        let tracked = device.clone().autodiff();
        let x = Tensor::<2>::from_floats([[1.5, -2.0], [1e6, 0.1]], &tracked).require_grad();
        let gradient = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, -4.0]], &device);
        let value = Tensor::<1>::from_floats([7.25], &device);
        let loss = with_gradient(value, &x, gradient.clone());
        assert_eq!(loss.clone().into_scalar::<f32>(), 7.25);
        let grads = loss.mul_scalar(2.0).backward();
        let got = x.grad(&grads).unwrap().try_to_vec_as::<f32>().unwrap();
        assert_eq!(got, [2.0, 4.0, 6.0, -8.0]);

        let values = Tensor::<1>::from_floats([1.0, 2.0], &device);
        let items = with_row_gradient(values, &x, gradient);
        assert_eq!(items.clone().try_to_vec_as::<f32>().unwrap(), [1.0, 2.0]);
        let cotangent = Tensor::<1>::from_floats([1.0, -1.0], &device);
        let grads = (items * cotangent).sum().backward();
        let got = x.grad(&grads).unwrap().try_to_vec_as::<f32>().unwrap();
        assert_eq!(got, [1.0, 2.0, -3.0, 4.0]);
    }
}
