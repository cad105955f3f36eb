//! Multi-head self-attention.

use burn::module::Module;
use burn::tensor::{Tensor, activation};

use super::layer::{LayerNorm, Linear, dropout};
use crate::batch::TokenBatch;
use crate::config::BertConfig;
use crate::init::Init;

/// Scaled dot-product self-attention with output projection, residual and layer norm.
///
/// ```text
/// P = softmax(Q K^T / sqrt(d) + padding),  A = LN(x + dropout(dropout(P) V W_o + b_o))
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
        }
    }

    /// `[batch * width, hidden]` to the same shape.
    pub fn forward(&self, x: Tensor<2>, batch: &TokenBatch) -> Tensor<2> {
        let [rows, hidden] = x.dims();
        let head = hidden / self.heads;
        let split = |t: Tensor<2>| {
            t.reshape([batch.batch, batch.width, self.heads, head])
                .swap_dims(1, 2) // [batch, heads, width, head]
        };
        // Scaling the queries costs rows * hidden products instead of batch * heads * width^2.
        let scale = 1.0 / (head as f64).sqrt();
        let query = split(self.query.forward(x.clone()).mul_scalar(scale));
        let key = split(self.key.forward(x.clone()));
        let value = split(self.value.forward(x.clone()));
        let mut scores = query.matmul(key.swap_dims(2, 3)); // [batch, heads, width, width]
        if batch.padded {
            let dims = scores.dims();
            scores = scores.mask_fill(batch.padding_mask().expand(dims), f32::NEG_INFINITY);
        }
        let weights = dropout(activation::softmax(scores, 3), self.attention_dropout);
        let context = weights
            .matmul(value) // [batch, heads, width, head]
            .swap_dims(1, 2)
            .reshape([rows, hidden]);
        let y = dropout(self.output.forward(context), self.dropout);
        self.layer_norm.forward(x + y)
    }
}
