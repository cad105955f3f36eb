//! Precision of the matrix products inside layers.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{DType, Device, FloatDType, Tensor};

/// What the operands of a layer's matrix products are rounded to; sums are always f32.
///
/// Only products of a layer's input with its weights, and those of their backward pass, take part. Norms,
/// softmax, GELU, the products within attention, losses and the optimiser stay in f32, and so do the
/// weights themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Operands as they are.
    #[default]
    F32,
    /// Operands rounded to the nearest bfloat16 (8 significant bits, ties to even), products added up in f32.
    ///
    /// On flex with the processor's AVX512-BF16 instructions this is up to twice as fast as f32. Processors
    /// without them round and multiply in f32: the same meaning, but slower than f32. A component then
    /// differs from the f32 product by at most about `2^-7 sum_i |a_i b_i|`, in practice far less.
    Bf16,
}

impl Precision {
    /// Every precision.
    pub const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// Whether layers on the device round to this precision; where they do not, they compute in f32.
    pub fn works_on(self, device: &Device) -> bool {
        match self {
            Self::F32 => true,
            Self::Bf16 => crate::fused::is_flex(device) || device.supports_dtype(DType::BF16),
        }
    }

    /// `x W` as burn composes it; a device that multiplies in bfloat16 rounds the result as well.
    pub(crate) fn product(self, x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
        if self == Self::Bf16 && x.device().supports_dtype(DType::BF16) {
            let narrow = |t: Tensor<2>| t.cast(FloatDType::BF16);
            return narrow(x).matmul(narrow(weight)).cast(FloatDType::F32);
        }
        x.matmul(weight)
    }

    /// `f32` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A precision that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("precision: expected f32 or bf16, found {0:?}")]
pub struct PrecisionError(String);

impl FromStr for Precision {
    type Err = PrecisionError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|precision| precision.name() == name)
            .ok_or_else(|| PrecisionError(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        let error = "fp16".parse::<Precision>().map_err(|e| e.to_string());
        assert_eq!(
            error,
            Err("precision: expected f32 or bf16, found \"fp16\"".to_owned())
        );
    }
}
