//! Multi-head self-attention.

use burn::module::Module;
use burn::tensor::Tensor;
use kernels::{AttentionMaps, AttentionSettings, project, residual_layer_norm, self_attention};

use super::layer::{LayerNorm, Linear};
use crate::batch::TokenBatch;
use crate::config::BertConfig;
use crate::init::Init;

/// Scaled dot-product self-attention with output projection, residual and layer norm.
///
/// ```text
/// P = softmax(Q K^T / sqrt(d)) within a text,  A = LN(x + dropout(dropout(P) V W_o + b_o))
/// ```
///
/// Source: Vaswani et al., arXiv 1706.03762, equation 1; post-layer-norm arrangement of BERT.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// Query map, `[hidden, hidden]`.
    pub query: Linear,
    /// Key map.
    pub key: Linear,
    /// Value map.
    pub value: Linear,
    /// Output map.
    pub output: Linear,
    /// Layer norm after the residual.
    pub layer_norm: LayerNorm,
    heads: usize,
    dropout: f64,
    attention_dropout: f64,
    pub(crate) recompute: bool,
}

impl SelfAttention {
    /// Attention of the sizes in `config`.
    pub fn new(config: &BertConfig, init: &mut Init) -> Self {
        let hidden = config.hidden_size;
        Self {
            query: Linear::new(hidden, hidden, init),
            key: Linear::new(hidden, hidden, init),
            value: Linear::new(hidden, hidden, init),
            output: Linear::new(hidden, hidden, init),
            layer_norm: LayerNorm::new(hidden, config.layer_norm_eps, init),
            heads: config.num_attention_heads,
            dropout: config.hidden_dropout_prob,
            attention_dropout: config.attention_probs_dropout_prob,
            recompute: false,
        }
    }

    /// `[tokens, hidden]` to the same shape.
    pub fn forward(&self, x: Tensor<2>, batch: &TokenBatch) -> Tensor<2> {
        let maps = AttentionMaps {
            query: self.query.affine(),
            key: self.key.affine(),
            value: self.value.affine(),
        };
        let context = self_attention(
            x.clone(),
            maps,
            &batch.sequences,
            AttentionSettings {
                heads: self.heads,
                dropout: self.attention_dropout,
                recompute: self.recompute,
            },
        );
        let output = self.output.affine();
        residual_layer_norm(
            x,
            project(context, output.weight),
            output.bias,
            self.layer_norm.params(),
            self.dropout,
        )
    }
}
