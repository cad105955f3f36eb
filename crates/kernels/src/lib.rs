//! Backend selection, allocator set-up, and fused tensor operations with their own backward pass.
//!
//! Everything above this crate is written once against burn tensors. What differs between
//! processors lives here:
//!
//! * [`device`]: `--device flex|ndarray|wgpu[:i]|cuda[:i]|auto` to a burn [`Device`](burn::tensor::Device).
//! * [`allocator`]: keeps large buffers mapped between training steps.
//! * [`gelu()`]: the exact (erf) GELU as one operation, forward and backward.
//! * [`adamw`]: one pass of AdamW over a parameter, in place where the backend allows it.
//! * [`lerp()`]: the exponential moving average update, in place where the backend allows it.
//! * [`square_sum()`]: the building block of gradient norms, without a temporary.
//!
//! Each operation has a body composed of plain burn operations. That body is the reference the
//! tests compare against, and it is what every backend without a specialised version runs.
//!
//! This is the only crate of the workspace in which `unsafe` may appear. Each block states the
//! contract it relies on.

pub mod adamw;
pub mod allocator;
pub mod device;
pub mod gelu;
pub mod lerp;
pub mod square_sum;

#[cfg(feature = "flex")]
mod simd;

pub use adamw::{AdamWUpdate, DecayOrder, adamw_update};
pub use allocator::tune_allocator;
pub use device::{DeviceError, DeviceSpec};
pub use gelu::gelu;
pub use lerp::lerp;
pub use square_sum::square_sum;
