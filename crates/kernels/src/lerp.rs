//! Linear interpolation of two tensors: the exponential moving average of a momentum encoder.
//!
//! ```text
//! a <- weight a + (1 - weight) b
//! ```

use burn::tensor::Tensor;

/// `weight * a + (1 - weight) * b`, element by element; both tensors have one shape and no autodiff.
///
/// On flex `a` is overwritten in place when nothing else refers to it.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Tensor};
/// let device = Device::flex();
/// let momentum = Tensor::<1>::from_floats([1.0], &device);
/// let online = Tensor::<1>::from_floats([3.0], &device);
/// assert_eq!(kernels::lerp(momentum, online, 0.75).into_scalar::<f32>(), 1.5);
/// # }
/// ```
pub fn lerp<const D: usize>(a: Tensor<D>, b: Tensor<D>, weight: f64) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if is_plain_flex(&a) && is_plain_flex(&b) && a.shape() == b.shape() {
        let (mut a, b) = (into_flex(a), into_flex(b));
        crate::simd::lerp_parallel(a.storage_mut(), b.storage(), weight as f32);
        return from_flex(a);
    }
    a.mul_scalar(weight as f32) + b.mul_scalar((1.0 - weight as f32) as f64)
}

/// Whether a tensor is f32 on flex and outside autodiff, so that its buffer may be used directly.
#[cfg(feature = "flex")]
pub(crate) fn is_plain_flex<const D: usize>(tensor: &Tensor<D>) -> bool {
    // Devices compare equal whether or not they track gradients.
    tensor.dtype() == burn::tensor::DType::F32
        && !tensor.is_autodiff()
        && tensor.device() == burn::tensor::Device::flex()
}

/// The contiguous flex primitive of a tensor that [`is_plain_flex`] accepted.
#[cfg(feature = "flex")]
pub(crate) fn into_flex<const D: usize>(tensor: Tensor<D>) -> burn_flex::FlexTensor {
    match tensor.try_into_primitive::<burn::backend::Flex>() {
        Ok(primitive) => {
            let whole = primitive.bytes().len() == 4 * primitive.layout().num_elements();
            if primitive.is_contiguous() && whole {
                primitive
            } else {
                primitive.to_contiguous()
            }
        }
        Err(error) => unreachable!("checked to be a flex tensor: {error:?}"),
    }
}

/// The inverse of [`into_flex`].
#[cfg(feature = "flex")]
pub(crate) fn from_flex<const D: usize>(primitive: burn_flex::FlexTensor) -> Tensor<D> {
    Tensor::from_primitive::<burn::backend::Flex>(primitive)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn strided_operands_and_shared_buffers_are_handled() {
        let device = Device::flex();
        let a = Tensor::<2>::from_data(
            TensorData::from([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]),
            &device,
        );
        let b = Tensor::<2>::from_data(
            TensorData::from([[0.0f32, 10.0], [20.0, 30.0], [40.0, 50.0]]),
            &device,
        );
        let kept = a.clone();
        let mixed: Vec<f32> = lerp(a.clone(), b.transpose(), 0.5)
            .into_data()
            .try_to_vec()
            .unwrap();
        assert_eq!(mixed, [0.5, 11.0, 21.5, 7.0, 17.5, 28.0]);
        let row: Vec<f32> = lerp(a.slice([1..2, 0..3]), kept.clone().slice([0..1, 0..3]), 0.0)
            .into_data()
            .try_to_vec()
            .unwrap();
        assert_eq!(row, [1.0, 2.0, 3.0]);
        let kept: Vec<f32> = kept.into_data().try_to_vec().unwrap();
        assert_eq!(kept, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }
}
