//! The encoder as a whole.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::embeddings::Embeddings;
use super::layer::{EncoderLayer, Linear};
use crate::batch::TokenBatch;
use crate::config::BertConfig;
use crate::error::EncoderError;
use crate::init::Init;

/// BERT without task heads. The pooler map is kept when the checkpoint has one.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use encoder::{BertConfig, BertModel, TokenBatch};
/// let device = burn::tensor::Device::flex();
/// let model = BertModel::random(&BertConfig::tiny(100), 0, &device).unwrap();
/// let batch = TokenBatch::new(&[vec![2, 7, 3]], &device).unwrap();
/// assert_eq!(model.forward(&batch).unwrap().last.dims(), [3, 128]);
/// # }
/// ```
#[derive(Module, Debug)]
pub struct BertModel {
    /// Input embeddings.
    pub embeddings: Embeddings,
    /// Transformer layers, first to last.
    pub layers: Vec<EncoderLayer>,
    /// `tanh(W [CLS] + b)` of the original pre-training, if present.
    pub pooler: Option<Linear>,
}

/// What poolings need of a forward pass; each `[tokens, hidden]`.
#[derive(Clone, Debug)]
pub struct HiddenStates {
    /// Output of the first layer.
    pub first: Tensor<2>,
    /// Output of the last layer but one (the embedding output if there is one layer only).
    pub penultimate: Tensor<2>,
    /// Output of the last layer.
    pub last: Tensor<2>,
}

impl BertModel {
    /// Random weights: normal with `initializer_range`, biases zero, layer norms at identity.
    ///
    /// # Errors
    ///
    /// The configuration is out of range.
    pub fn random(config: &BertConfig, seed: u64, device: &Device) -> Result<Self, EncoderError> {
        config.check("configuration")?;
        Ok(Self::build(
            config,
            true,
            &mut Init::seeded(seed, config.initializer_range, device),
        ))
    }

    pub(crate) fn build(config: &BertConfig, pooler: bool, init: &mut Init) -> Self {
        Self {
            embeddings: Embeddings::new(config, init),
            layers: (0..config.num_hidden_layers)
                .map(|_| EncoderLayer::new(config, init))
                .collect(),
            pooler: pooler.then(|| Linear::new(config.hidden_size, config.hidden_size, init)),
        }
    }

    /// Runs the encoder over a batch.
    ///
    /// # Errors
    ///
    /// A text is longer than the position table, or an id lies outside the word table.
    pub fn forward(&self, batch: &TokenBatch) -> Result<HiddenStates, EncoderError> {
        let [positions, _] = self.embeddings.position_embeddings.weight.val().dims();
        let [words, _] = self.embeddings.word_embeddings.weight.val().dims();
        if batch.largest_id as usize >= words {
            return Err(EncoderError::Shape {
                operation: "encoder forward",
                expected: format!("token ids below {words} (vocab_size)"),
                found: batch.largest_id.to_string(),
            });
        }
        let longest = batch.sequences.longest();
        if longest > positions {
            return Err(EncoderError::Shape {
                operation: "encoder forward",
                expected: format!("at most {positions} tokens a text (max_position_embeddings)"),
                found: longest.to_string(),
            });
        }
        let mut last = self.embeddings.forward(batch);
        let mut penultimate = last.clone();
        let mut first = last.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            penultimate = last.clone();
            last = layer.forward(last, batch);
            if index == 0 {
                first = last.clone();
            }
        }
        Ok(HiddenStates {
            first,
            penultimate,
            last,
        })
    }

    /// Gradient checkpointing: with `true` the backward pass of every layer makes its projections and
    /// its inner activation anew instead of keeping them. Same gradients, less memory, more work;
    /// flex only, elsewhere the switch is without effect.
    pub fn set_gradient_checkpointing(&mut self, on: bool) {
        for layer in &mut self.layers {
            layer.attention.recompute = on;
        }
    }

    /// Width of the hidden states.
    pub fn hidden_size(&self) -> usize {
        self.embeddings.layer_norm.weight.val().dims()[0]
    }
}
