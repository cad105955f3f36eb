//! Weights in half precision: half the bytes on disk, rounded once.

use std::collections::HashMap;
use std::path::Path;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::EncoderError;
use crate::sentence_encoder::SentenceEncoder;

/// Smallest magnitude that rounds to infinity in IEEE 754 binary16.
const TOO_LARGE: f32 = 65_520.0;

impl SentenceEncoder {
    /// Rounds every weight to the nearest value of IEEE 754 binary16; computation stays in `f32`. What is measured
    /// afterwards is what [`save_half`](Self::save_half) writes.
    #[must_use]
    pub fn rounded_to_half(mut self) -> Self {
        self.bert = self.bert.map(&mut Rounding);
        self.mlm_head = self.mlm_head.map(|head| head.map(&mut Rounding));
        self
    }

    /// As [`save`](Self::save) with the weights of `model.safetensors` in `f16`. [`load`](Self::load) and Python
    /// readers widen them again.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save); a weight beyond the range of `f16`.
    pub fn save_half(&self, dir: &Path) -> Result<(), EncoderError> {
        self.save(dir)?;
        halve(&dir.join("model.safetensors"))
    }
}

/// Rounds the parameters of a module.
struct Rounding;

impl ModuleMapper for Rounding {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|old| {
            let (shape, learns) = (old.dims(), old.is_require_grad());
            let values: Vec<f32> = old
                .to_data()
                .iter::<f32>()
                .map(|value| f16::from_f32(value).to_f32())
                .collect();
            let new = Tensor::<D>::from_data(TensorData::new(values, shape), &old.device());
            new.set_require_grad(learns)
        })
    }
}

/// Rewrites a safetensors file with its `f32` tensors in `f16`; others stay as they are.
fn halve(path: &Path) -> Result<(), EncoderError> {
    let invalid = |message: String| EncoderError::Safetensors {
        path: path.to_owned(),
        message,
    };
    let bytes = std::fs::read(path).map_err(EncoderError::io("read", path))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| invalid(error.to_string()))?;
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        let (dtype, data) = match view.dtype() {
            Dtype::F32 => (
                Dtype::F16,
                half_bytes(view.data()).ok_or_else(|| {
                    invalid(format!(
                        "tensor {name} holds values beyond the range of half precision (65504)"
                    ))
                })?,
            ),
            other => (other, view.data().to_vec()),
        };
        tensors.push((name.to_owned(), dtype, view.shape().to_vec(), data));
    }
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| {
            TensorView::new(*dtype, shape.clone(), data).map(|view| (name.as_str(), view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| invalid(error.to_string()))?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(views, Some(metadata))
        .map_err(|error| invalid(error.to_string()))?;
    crate::model_dir::write_file(path, &bytes)
}

/// Little-endian `f32` values as `f16`; `None` if one would become infinite.
fn half_bytes(data: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(data.len() / 2);
    for chunk in data.chunks_exact(4) {
        let value = f32::from_le_bytes(chunk.try_into().ok()?);
        if value.is_finite() && value.abs() >= TOO_LARGE {
            return None;
        }
        out.extend(f16::from_f32(value).to_le_bytes());
    }
    Some(out)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use burn::tensor::Device;

    use super::*;
    use crate::{BertConfig, LoadOptions, Pooling, TextTokenizer};

    fn encoder() -> SentenceEncoder {
        let pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"];
        let tokenizer = TextTokenizer::from_word_pieces(&pieces).unwrap();
        let config = BertConfig::tiny(pieces.len());
        SentenceEncoder::random(config, tokenizer, Pooling::Mean, 1, &Device::flex()).unwrap()
    }

    #[test]
    fn a_rounded_encoder_comes_back_bit_for_bit_in_half_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let plain = encoder();
        plain.save(&dir.path().join("full")).unwrap();
        let rounded = plain.clone().rounded_to_half();
        rounded.save_half(&dir.path().join("half")).unwrap();
        let size = |name: &str| {
            let path = dir.path().join(name).join("model.safetensors");
            std::fs::metadata(path).unwrap().len()
        };
        assert!(size("half") < size("full") * 6 / 10);
        let load = |name: &str| {
            let dir = dir.path().join(name);
            SentenceEncoder::load(&dir, &LoadOptions::default(), &Device::flex()).unwrap()
        };
        let texts = ["a b b", "b"];
        let got = load("half").encode(&texts, 2).unwrap();
        assert_eq!(got, rounded.encode(&texts, 2).unwrap());
        // Rounding does something, and little.
        let before = load("full").encode(&texts, 2).unwrap();
        assert_ne!(got, before);
        for (a, b) in got.values.iter().zip(&before.values) {
            assert!((a - b).abs() < 1e-3);
        }
    }

    #[test]
    fn values_beyond_the_range_are_refused() {
        let bytes = |value: f32| half_bytes(&value.to_le_bytes());
        assert_eq!(bytes(65_504.0), Some(vec![0xff, 0x7b]));
        assert_eq!(bytes(65_519.0), Some(vec![0xff, 0x7b]));
        assert_eq!(bytes(65_520.0), None);
        assert_eq!(bytes(-1e9), None);
        assert_eq!(bytes(f32::INFINITY), Some(vec![0x00, 0x7c]));
    }
}
