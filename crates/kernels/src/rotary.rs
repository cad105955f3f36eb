//! Rotary position embedding.
//!
//! ```text
//! y[t] = x[t] * cos[t] + half(x[t]) * sin[t]       within each head of d columns
//! half(x) = [-x[d/2..d], x[0..d/2]]
//! cos[t], sin[t] of the angle p_t theta^(-2 i / d),  i = 0 .. d/2 - 1, repeated for the second half
//! ```
//!
//! Source: Su et al., arXiv 2104.09864, equation 34, with the halves of a head paired (GPT-NeoX)
//! instead of neighbouring columns.

use burn::tensor::{Device, Tensor, TensorData};

/// Cosine and sine of every row's angles, each `[rows, d]`.
#[derive(Clone, Debug)]
pub struct RotaryAngles {
    /// `[rows, d]`.
    pub cos: Tensor<2>,
    /// `[rows, d]`.
    pub sin: Tensor<2>,
}

impl RotaryAngles {
    /// Angles of rows at the given positions, for heads of `head` columns and the base `theta`.
    ///
    /// # Panics
    ///
    /// If `head` is odd.
    ///
    /// ```
    /// # #[cfg(feature = "flex")] {
    /// let device = burn::tensor::Device::flex();
    /// let angles = kernels::RotaryAngles::new(&[0, 1], 2, 10_000.0, &device);
    /// let cos: Vec<f32> = angles.cos.into_data().try_to_vec().unwrap();
    /// assert_eq!(cos, [1.0, 1.0, 1f32.cos(), 1f32.cos()]);
    /// # }
    /// ```
    pub fn new(positions: &[usize], head: usize, theta: f64, device: &Device) -> Self {
        assert!(head.is_multiple_of(2), "rotary: odd head of {head} columns");
        let half = head / 2;
        // In f32 as the reference does it, so that far positions are rounded alike.
        let frequencies: Vec<f32> = (0..half)
            .map(|i| 1.0 / (theta.powf(2.0 * i as f64 / head as f64) as f32))
            .collect();
        let mut cos = Vec::with_capacity(positions.len() * head);
        let mut sin = Vec::with_capacity(positions.len() * head);
        for position in positions {
            let start = cos.len();
            for frequency in &frequencies {
                let (s, c) = (*position as f32 * frequency).sin_cos();
                cos.push(c);
                sin.push(s);
            }
            cos.extend_from_within(start..);
            sin.extend_from_within(start..);
        }
        let device = device.clone().inner();
        let table =
            |values| Tensor::from_data(TensorData::new(values, [positions.len(), head]), &device);
        Self {
            cos: table(cos),
            sin: table(sin),
        }
    }
}

/// Turns the heads of `x` `[rows, heads d]` by the angles of their rows.
///
/// # Panics
///
/// If `x` does not have the rows of `angles`, or its columns are not a multiple of `d`.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Tensor};
/// let device = Device::flex();
/// let angles = kernels::RotaryAngles::new(&[0], 2, 10_000.0, &device);
/// // Position 0 is not turned.
/// let x = Tensor::<2>::from_floats([[3.0, 4.0]], &device);
/// assert_eq!(kernels::rotary(x.clone(), &angles).into_data(), x.into_data());
/// # }
/// ```
pub fn rotary(x: Tensor<2>, angles: &RotaryAngles) -> Tensor<2> {
    let [rows, columns] = x.dims();
    let [angle_rows, head] = angles.cos.dims();
    assert_eq!(rows, angle_rows, "rotary: rows of another batch");
    assert!(
        head > 0 && columns.is_multiple_of(head),
        "rotary: {columns} columns do not split into heads of {head}"
    );
    let heads = columns / head;
    let x = x.reshape([rows, heads, head]);
    let (first, second) = (
        x.clone().narrow(2, 0, head / 2),
        x.clone().narrow(2, head / 2, head / 2),
    );
    let half = Tensor::cat(vec![second.neg(), first], 2);
    let spread = |t: &Tensor<2>| t.clone().reshape([rows, 1, head]);
    (x * spread(&angles.cos) + half * spread(&angles.sin)).reshape([rows, columns])
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::values;

    /// Scalar products of turned heads depend on the difference of the positions alone.
    #[test]
    fn products_depend_on_the_distance_only() {
        let device = Device::flex();
        let q = values([1, 8], 0.3);
        let k = values([1, 8], 1.7);
        let product = |at_q: usize, at_k: usize| -> f32 {
            let turn = |x: &TensorData, at: usize| {
                let x = Tensor::<2>::from_data(x.clone(), &device);
                rotary(x, &RotaryAngles::new(&[at], 4, 100.0, &device))
            };
            (turn(&q, at_q) * turn(&k, at_k)).sum().into_scalar::<f32>()
        };
        let near = product(3, 1);
        assert!((near - product(9, 7)).abs() < 1e-5);
        assert!((near - product(3, 2)).abs() > 1e-3);
    }

    /// A quarter turn written out by hand: the first column pairs with the third.
    #[test]
    fn halves_of_a_head_are_paired() {
        let device = Device::flex();
        let angles = RotaryAngles {
            cos: Tensor::zeros([1, 4], &device),
            sin: Tensor::ones([1, 4], &device),
        };
        let x = Tensor::<2>::from_floats([[1.0, 2.0, 3.0, 4.0]], &device);
        let y: Vec<f32> = rotary(x, &angles).into_data().try_to_vec().unwrap();
        assert_eq!(y, [-3.0, -4.0, 1.0, 2.0]);
    }
}
