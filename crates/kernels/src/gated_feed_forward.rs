//! The position-wise feed-forward block with a gate.
//!
//! ```text
//! y = dropout(f(x W_1 + b_1) * (x W_2 + b_2)) W_3         f = GELU, SiLU or ReLU
//! ```
//!
//! Source: Shazeer, "GLU variants improve transformer", arXiv 2002.05202, equation 6 (GEGLU,
//! SwiGLU, ReGLU).

use burn::tensor::{Tensor, activation};

use crate::dropout::dropout;
use crate::gelu::gelu;
use crate::linear::{linear, project};
use crate::precision::Precision;
use crate::self_attention::Affine;

/// The function on the activated half of a gated feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x Phi(x)`, exact.
    Gelu,
    /// `x sigmoid(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    /// Applies the function element by element.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => gelu(x),
            Self::Silu => activation::silu(x),
            Self::Relu => activation::relu(x),
        }
    }
}

/// `[rows, hidden]` to `[rows, hidden]`, without the outer bias, which is left to the operation
/// that follows; dropout of the inner units acts on autodiff devices only.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Tensor};
/// use kernels::{Activation, Affine, Precision, gated_feed_forward};
/// let device = Device::flex();
/// let map = |by: f32| Affine {
///     weight: Tensor::<2>::eye(2, &device).mul_scalar(by),
///     bias: Tensor::zeros([2], &device),
/// };
/// let x = Tensor::<2>::from_floats([[2.0, -3.0]], &device);
/// let outer = Tensor::eye(2, &device);
/// let y = gated_feed_forward(x, map(1.0), map(10.0), outer, Activation::Relu, 0.0, Precision::F32);
/// let y: Vec<f32> = y.into_data().try_to_vec().unwrap();
/// assert_eq!(y, [40.0, 0.0]);
/// # }
/// ```
pub fn gated_feed_forward(
    x: Tensor<2>,
    activated: Affine,
    gate: Affine,
    outer_weight: Tensor<2>,
    function: Activation,
    inner_dropout: f64,
    precision: Precision,
) -> Tensor<2> {
    let map = |x, affine: Affine| linear(x, affine.weight, affine.bias, precision);
    let inner = function.forward(map(x.clone(), activated)) * map(x, gate);
    project(dropout(inner, inner_dropout), outer_weight, precision)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::values;
    use burn::tensor::Device;

    /// Unit by unit in f64.
    #[test]
    fn the_gate_multiplies_the_activated_units() {
        let device = Device::flex();
        let (rows, hidden, inner) = (3, 4, 5);
        let data = [
            values([rows, hidden], 0.3),
            values([hidden, inner], 1.1),
            values([hidden, inner], 2.3),
            values([inner, hidden], 0.9),
            values([1, inner], 1.9),
        ];
        let [x, w1, w2, w3, b] = data
            .each_ref()
            .map(|data| -> Vec<f64> { data.iter::<f32>().map(f64::from).collect() });
        let tensor = |at: usize| Tensor::<2>::from_data(data[at].clone(), &device);
        let map = |at: usize| Affine {
            weight: tensor(at),
            bias: tensor(4).reshape([inner]),
        };
        for function in [Activation::Gelu, Activation::Silu, Activation::Relu] {
            let f = |x: f64| match function {
                // Phi(x) = 1/2 + phi(x) (x + x^3 / 3 + x^5 / (3 5) + ...)
                Activation::Gelu => {
                    let (mut term, mut sum) = (x, x);
                    for k in 1..60 {
                        term *= x * x / f64::from(2 * k + 1);
                        sum += term;
                    }
                    x * (0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt())
                }
                Activation::Silu => x / (1.0 + (-x).exp()),
                Activation::Relu => x.max(0.0),
            };
            let got: Vec<f32> = gated_feed_forward(
                tensor(0),
                map(1),
                map(2),
                tensor(3),
                function,
                0.0,
                Precision::F32,
            )
            .into_data()
            .try_to_vec()
            .unwrap();
            for r in 0..rows {
                let units: Vec<f64> = (0..inner)
                    .map(|u| {
                        let dot = |w: &[f64]| -> f64 {
                            (0..hidden)
                                .map(|h| x[r * hidden + h] * w[h * inner + u])
                                .sum()
                        };
                        f(dot(&w1) + b[u]) * (dot(&w2) + b[u])
                    })
                    .collect();
                for h in 0..hidden {
                    let want: f64 = (0..inner).map(|u| units[u] * w3[u * hidden + h]).sum();
                    assert!(
                        (f64::from(got[r * hidden + h]) - want).abs() < 1e-5,
                        "{function:?}"
                    );
                }
            }
        }
    }
}
