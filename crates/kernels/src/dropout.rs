//! Inverted dropout.
//!
//! ```text
//! y = x * m / (1 - rate),    m = 0 with probability rate, else 1
//! ```
//!
//! Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR
//! 15 (2014), with the scaling at training time.

use burn::tensor::{Distribution, Tensor};

/// Zeroes each element with probability `rate` and divides the rest by `1 - rate`.
///
/// Acts on tensors of an autodiff device only, so a model moved to inference needs no switch.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Tensor};
/// let x = Tensor::<1>::ones([8], &Device::flex());
/// assert_eq!(kernels::dropout(x.clone(), 0.5).into_data(), x.into_data());
/// # }
/// ```
pub fn dropout<const D: usize>(x: Tensor<D>, rate: f64) -> Tensor<D> {
    let rate = effective_rate(&x, rate);
    composed_dropout(x, rate)
}

/// Dropout rate that applies to a tensor: training happens on autodiff devices only.
pub(crate) fn effective_rate<const D: usize>(x: &Tensor<D>, rate: f64) -> f64 {
    if x.is_autodiff() { rate } else { 0.0 }
}

/// Inverted dropout from plain operations: reference and fallback.
pub(crate) fn composed_dropout<const D: usize>(x: Tensor<D>, rate: f64) -> Tensor<D> {
    if rate == 0.0 {
        return x;
    }
    let keep = 1.0 - rate;
    let mask = x
        .random_like(Distribution::Bernoulli(keep))
        .mul_scalar(1.0 / keep);
    x * mask
}
