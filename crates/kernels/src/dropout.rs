//! Inverted dropout.
//!
//! ```text
//! y = x * m / (1 - rate),    m = 0 with probability rate, else 1
//! ```
//!
//! Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR
//! 15 (2014), with the scaling at training time.

use std::cell::Cell;

use burn::tensor::{Distribution, Tensor};

/// Zeroes each element with probability `rate` and divides the rest by `1 - rate`.
///
/// Acts on tensors of an autodiff device only, so a model moved to inference needs no switch; inside
/// [`with_dropout`] it acts on all.
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

thread_local! {
    /// Whether dropout also acts without autodiff.
    static ALWAYS: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with dropout on tensors without autodiff as well, on this thread.
///
/// With the same seed of the device's generator the masks are those of a pass with autodiff, so a
/// training pass can be had without what its backward pass would need.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Tensor};
/// let x = Tensor::<1>::ones([64], &Device::flex());
/// let dropped: f32 = kernels::with_dropout(|| kernels::dropout(x, 0.5)).min().into_scalar();
/// assert_eq!(dropped, 0.0);
/// # }
/// ```
pub fn with_dropout<T>(work: impl FnOnce() -> T) -> T {
    /// Puts the switch back where it was, also when `work` panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ALWAYS.set(self.0);
        }
    }
    let _restore = Restore(ALWAYS.replace(true));
    work()
}

/// Whether this thread is inside [`with_dropout`].
pub(crate) fn is_always_on() -> bool {
    ALWAYS.get()
}

/// Dropout rate that applies to a tensor: without autodiff nothing is trained.
pub(crate) fn effective_rate<const D: usize>(x: &Tensor<D>, rate: f64) -> f64 {
    if x.is_autodiff() || ALWAYS.get() {
        rate
    } else {
        0.0
    }
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
