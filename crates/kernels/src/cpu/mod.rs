//! Slice-level kernels behind the fused operations on flex.
//!
//! Every function takes plain `f32` slices, splits its work into pieces whose size does not depend on
//! the number of threads, and adds partial sums in a fixed order: the result has the same bytes
//! whatever the thread count.
#![allow(unsafe_code)]

pub(crate) mod attention;
pub(crate) mod column_sum;
pub(crate) mod embedding;
pub(crate) mod layer_norm;
pub(crate) mod matmul;
mod matmul_bf16;
pub(crate) mod random_mask;
pub(crate) mod tile;
#[cfg(target_arch = "x86_64")]
mod vdpbf16;

use burn::backend::TensorMetadata;
use burn::tensor::{DType, TensorData};
use burn_flex::FlexTensor;

/// Rows per task of the row-wise kernels.
pub(crate) const ROWS: usize = 32;

/// A raw pointer that tasks may share.
///
/// Whoever makes one promises that the tasks write disjoint elements and that the buffer outlives
/// them.
#[derive(Clone, Copy)]
pub(crate) struct Shared(*mut f32);

// SAFETY: the pointer is only dereferenced inside tasks whose elements are disjoint, as the type
// demands of its makers.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn new(buffer: &mut [f32]) -> Self {
        Self(buffer.as_mut_ptr())
    }

    /// Pointer to element `at`.
    pub(crate) fn at(self, at: usize) -> *mut f32 {
        self.0.wrapping_add(at)
    }

    /// Elements `at..at + len` as a slice.
    ///
    /// # Safety
    ///
    /// The elements are inside the buffer, initialised, and no other task touches them meanwhile.
    pub(crate) unsafe fn slice<'a>(self, at: usize, len: usize) -> &'a mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(at), len) }
    }
}

/// A buffer of `len` elements that `fill` overwrites completely.
///
/// # Safety
///
/// `fill` writes every element and reads none before writing it.
pub(crate) unsafe fn overwritten(len: usize, fill: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut buffer: Vec<f32> = Vec::with_capacity(len);
    // SAFETY: any bit pattern is a valid f32 and the capacity is there; the caller promises that
    // nothing is read before it is written.
    #[allow(clippy::uninit_vec)]
    unsafe {
        buffer.set_len(len);
    }
    fill(&mut buffer);
    buffer
}

/// The elements of a flex tensor in row-major order, without a copy where it is contiguous.
pub(crate) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    debug_assert_eq!(tensor.dtype(), DType::F32);
    let whole = tensor.bytes().len() == 4 * tensor.layout().num_elements();
    if tensor.is_contiguous() && whole {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// Wraps a buffer as a flex tensor.
pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// Size of dimension `at` of a flex tensor.
pub(crate) fn size(tensor: &FlexTensor, at: usize) -> usize {
    tensor.shape().as_slice()[at]
}
