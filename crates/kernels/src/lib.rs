//! Backend selection, allocator set-up, and fused tensor operations with their own backward pass.
//!
//! Everything above this crate is written once against burn tensors. What differs between
//! processors lives here:
//!
//! * [`device`]: `--device flex|ndarray|wgpu[:i]|cuda[:i]|auto` to a burn [`Device`](burn::tensor::Device).
//! * [`allocator`]: keeps large buffers mapped between training steps.
//! * [`gelu()`]: the exact (erf) GELU as one operation, forward and backward.
//! * [`linear()`], [`self_attention()`], [`feed_forward()`], [`residual_layer_norm()`],
//!   [`embedding_layer_norm()`]: the parts of a transformer layer, over packed [`Sequences`].
//! * [`precision`]: products of layers with operands rounded to bfloat16.
//! * [`attention()`], [`rotary()`], [`gated_feed_forward()`]: for other encoders than
//!   BERT.
//! * [`gaussian_star()`], [`softmax_divergence()`], [`bank_cross_entropy()`], [`cross_entropy()`],
//!   [`normalize_rows()`]: the objectives, without intermediate matrices.
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
pub mod attention;
pub mod bank_cross_entropy;
pub mod cross_entropy;
pub mod device;
pub mod dropout;
pub mod embedding_layer_norm;
pub mod feed_forward;
pub mod gated_feed_forward;
pub mod gaussian_star;
pub mod gelu;
pub mod lerp;
pub mod linear;
pub mod normalize_rows;
pub mod precision;
pub mod residual_layer_norm;
pub mod rotary;
pub mod self_attention;
pub mod sequence_mean;
pub mod sequences;
pub mod softmax_divergence;
pub mod square_sum;

mod fused;

#[cfg(feature = "flex")]
mod bank_blocks;
#[cfg(feature = "flex")]
mod simd;
#[cfg(feature = "flex")]
mod simd_objectives;

#[cfg(feature = "flex")]
mod cpu;

#[cfg(all(test, feature = "flex"))]
mod testing;

pub use adamw::{AdamWUpdate, DecayOrder, adamw_update};
pub use allocator::tune_allocator;
pub use attention::attention;
pub use bank_cross_entropy::{BankCrossEntropy, bank_cross_entropy};
pub use cross_entropy::cross_entropy;
pub use device::{DeviceError, DeviceSpec, concurrent_passes};
pub use dropout::{dropout, with_dropout};
pub use embedding_layer_norm::{EmbeddingTables, embedding_layer_norm};
pub use feed_forward::feed_forward;
pub use gated_feed_forward::{Activation, gated_feed_forward};
pub use gaussian_star::{GaussianStar, StarSettings, gaussian_star};
pub use gelu::gelu;
pub use lerp::lerp;
pub use linear::{linear, project};
pub use normalize_rows::normalize_rows;
pub use precision::{Precision, PrecisionError};
pub use residual_layer_norm::{LayerNormParams, residual_layer_norm};
pub use rotary::{RotaryAngles, rotary};
pub use self_attention::{Affine, AttentionMaps, AttentionSettings, self_attention};
pub use sequence_mean::sequence_mean;
pub use sequences::Sequences;
pub use softmax_divergence::{SoftmaxDivergence, softmax_divergence};
pub use square_sum::square_sum;
