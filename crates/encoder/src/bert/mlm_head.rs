//! Masked-language-model head.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};

use super::layer::{LayerNorm, Linear};
use crate::config::BertConfig;
use crate::init::Init;

/// Vocabulary logits at chosen positions only.
///
/// ```text
/// logits = LN(gelu(h W + b)) E^T + c,   E = word embedding table (tied)
/// ```
///
/// Running it on the masked positions (a quarter of the tokens in coarse pre-training) instead of
/// all of them saves most of the vocabulary product, the largest of the step for small encoders.
#[derive(Module, Debug)]
pub struct MlmHead {
    /// `[hidden, hidden]`.
    pub transform: Linear,
    /// Layer norm after the activation.
    pub layer_norm: LayerNorm,
    /// Bias of the vocabulary logits, `[vocab]`.
    pub bias: Param<Tensor<1>>,
}

impl MlmHead {
    /// A newly initialised head, for checkpoints without one.
    pub fn random(config: &BertConfig, seed: u64, device: &Device) -> Self {
        Self::build(
            config,
            &mut Init::seeded(seed, config.initializer_range, device),
        )
    }

    pub(crate) fn build(config: &BertConfig, init: &mut Init) -> Self {
        let (hidden, eps) = (config.hidden_size, config.layer_norm_eps);
        let biases = config.family.description().head_biases;
        Self {
            transform: Linear::with_bias(biases, hidden, hidden, init),
            layer_norm: LayerNorm::with_bias(biases, hidden, eps, init),
            bias: init.constant([config.vocab_size], 0.0),
        }
    }

    /// Logits `[selected, vocab]` for the rows `selected` of `hidden` `[tokens, hidden]`;
    /// `word_embeddings` is the encoder's own table `[vocab, hidden]`.
    pub fn forward(
        &self,
        hidden: Tensor<2>,
        selected: Tensor<1, Int>,
        word_embeddings: Tensor<2>,
    ) -> Tensor<2> {
        let rows = hidden.select(0, selected);
        let rows = self
            .layer_norm
            .forward(kernels::gelu(self.transform.forward(rows)));
        rows.matmul(word_embeddings.transpose()) + self.bias.val().unsqueeze::<2>()
    }
}
