//! Sum of squares of a tensor, the building block of a global gradient norm.
//!
//! ```text
//! s = sum_i x_i^2
//! ```

use burn::tensor::Tensor;

/// Elements whose squares are added in f32 before the sum goes on in f64.
const BLOCK: usize = 1024;

/// Sum of the squares of all elements. Squares are added in f32 within blocks of 1024 elements and in
/// f64 across blocks, in order, so the result does not depend on the number of threads.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Tensor};
/// let x = Tensor::<2>::from_floats([[3.0, 4.0]], &Device::flex());
/// assert_eq!(kernels::square_sum(x), 25.0);
/// # }
/// ```
pub fn square_sum<const D: usize>(x: Tensor<D>) -> f64 {
    #[cfg(feature = "flex")]
    if crate::lerp::is_plain_flex(&x) {
        let x = crate::lerp::into_flex(x);
        return crate::simd::square_blocks(x.storage(), BLOCK)
            .into_iter()
            .sum();
    }
    composed(x)
}

/// The sum in plain tensor operations: reference and fallback.
fn composed<const D: usize>(x: Tensor<D>) -> f64 {
    let n = x.shape().num_elements();
    let flat: Tensor<1> = x.reshape([n]);
    let (blocks, whole) = (n / BLOCK, n / BLOCK * BLOCK);
    let mut sum = 0.0;
    if blocks > 0 {
        let block = flat.clone().slice(0..whole).reshape([blocks, BLOCK]);
        sum += host_sum((block.clone() * block).sum_dim(1).reshape([blocks]));
    }
    if whole < n {
        let rest = flat.slice(whole..n);
        sum += host_sum((rest.clone() * rest).sum());
    }
    sum
}

fn host_sum(values: Tensor<1>) -> f64 {
    values.into_data().iter::<f64>().sum()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn fused_composed_and_f64_agree() {
        for n in [0usize, 1, 7, 1023, 1024, 1025, 50_001] {
            let values: Vec<f32> = (0..n)
                .map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.1)
                .collect();
            let want: f64 = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
            let x = Tensor::<1>::from_data(TensorData::new(values, [n]), &Device::flex());
            for got in [square_sum(x.clone()), composed(x)] {
                assert!(
                    (got - want).abs() <= 1e-6 * want.max(1.0),
                    "{n}: {got} {want}"
                );
            }
        }
    }

    #[test]
    fn not_a_number_and_overflow_stay_visible() {
        let x = |values: [f32; 2]| Tensor::<1>::from_floats(values, &Device::flex());
        assert!(square_sum(x([f32::NAN, 1.0])).is_nan());
        assert!(square_sum(x([1e30, 1.0])).is_infinite());
    }
}
