//! What the fused operations share.

use std::any::TypeId;

use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, CheckpointStrategy};
use burn::tensor::{DType, Device, Distribution, Int, Tensor};

/// Whether the fused form of an operation runs for a tensor: f32 on flex, with or without autodiff.
pub(crate) fn on_flex<const D: usize>(x: &Tensor<D>) -> bool {
    #[cfg(feature = "flex")]
    return x.dtype() == DType::F32 && x.device().inner() == Device::flex();
    #[cfg(not(feature = "flex"))]
    {
        let _ = (x, DType::F32, Device::default);
        false
    }
}

/// A seed for one operation, drawn from the device's generator, which `Device::seed` sets.
#[cfg(feature = "flex")]
pub(crate) fn draw_seed(device: &Device) -> u64 {
    let words = Tensor::<1, Int>::random(
        [2],
        Distribution::Uniform(0.0, f64::from(i32::MAX)),
        &device.clone().inner(),
    );
    words
        .into_data()
        .iter::<i64>()
        .fold(0u64, |seed, word| (seed << 31) ^ word as u64)
}

/// Whether the device was made with `gradient_checkpointing()`.
#[cfg(feature = "flex")]
pub(crate) fn recomputes<C: CheckpointStrategy>() -> bool {
    TypeId::of::<C>() == TypeId::of::<BalancedCheckpointing>()
}
