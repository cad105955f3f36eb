//! What the fused operations share.

#[cfg(feature = "flex")]
use std::any::TypeId;

#[cfg(feature = "flex")]
use burn::backend::autodiff::{
    checkpoint::strategy::{BalancedCheckpointing, CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, NodeGuard, Ops, OpsKind},
};
#[cfg(feature = "flex")]
use burn::backend::{Autodiff, Backend, tensor::FloatTensor};
use burn::tensor::{DType, Device, Tensor};
#[cfg(feature = "flex")]
use burn::tensor::{Distribution, Int};

/// Whether the fused form of an operation runs for a tensor: f32 on flex, with or without autodiff.
pub(crate) fn on_flex<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && is_flex(&x.device())
}

pub(crate) fn is_flex(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    return device.clone().inner() == Device::flex();
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
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

/// The output of a forward pass in the graph: with `step` and `state` for the backward pass if one of the
/// parents is tracked.
#[cfg(feature = "flex")]
pub(crate) fn in_graph<B, C, S, const N: usize>(
    step: S,
    parents: [NodeGuard; N],
    state: S::State,
    output: FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>>
where
    B: Backend,
    C: CheckpointStrategy,
    S: Backward<B, N>,
{
    match step.prepare::<C>(parents).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(state, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

/// A backward pass towards several parents: `gradients` gets state, gradient of the output and which
/// parents are tracked.
#[cfg(feature = "flex")]
pub(crate) fn backward_to<B: Backend, S, const N: usize>(
    ops: Ops<S, N>,
    grads: &mut Gradients,
    gradients: impl FnOnce(S, FloatTensor<B>, [bool; N]) -> [Option<FloatTensor<B>>; N],
) {
    let grad = grads.consume::<B>(&ops.node);
    let wanted = ops.parents.each_ref().map(Option::is_some);
    let gradients = gradients(ops.state, grad, wanted);
    for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
        if let (Some(parent), Some(gradient)) = (parent, gradient) {
            grads.register::<B>(parent.id, gradient);
        }
    }
}
