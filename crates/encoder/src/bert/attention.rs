//! Multi-head self-attention.

use burn::module::Module;
use burn::tensor::Tensor;
use kernels::{
    AttentionMaps, AttentionSettings, Precision, attention, dropout, project, residual_layer_norm,
    rotary, self_attention,
};

use super::layer::{LayerNorm, Linear};
use super::positions::PositionTerms;
use crate::batch::TokenBatch;
use crate::config::BertConfig;
use crate::families::Architecture;
use crate::init::Init;

/// Scaled dot-product self-attention with output projection, residual and layer norm.
///
/// ```text
/// P = softmax(Q K^T / sqrt(d) + B) within a text,  A = LN(x + dropout(dropout(P) V W_o + b_o))
/// ```
///
/// `Q` and `K` are turned by their positions, and `B` is added, in families that place tokens in
/// this way; BERT does neither.
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
    /// Layer norm after the residual; in pre-norm layers before the attention.
    pub layer_norm: LayerNorm,
    heads: usize,
    dropout: f64,
    attention_dropout: f64,
    pub(crate) recompute: bool,
    /// Of the layer's products with its weights.
    #[module(skip)]
    pub(crate) precision: Precision,
    /// Whether the layer sees a window of the text only.
    pub(crate) local: bool,
    /// Whether a pre-norm layer leaves its input as it is: the first one, behind the norm of the
    /// embeddings.
    bare_input: bool,
}

impl SelfAttention {
    /// BERT's attention of the sizes in `config`.
    pub fn new(config: &BertConfig, init: &mut Init) -> Self {
        Self::build(config, &Architecture::bert(config), 0, init)
    }

    pub(crate) fn build(
        config: &BertConfig,
        architecture: &Architecture,
        index: usize,
        init: &mut Init,
    ) -> Self {
        let hidden = config.hidden_size;
        let bare_input = architecture.pre_norm && index == 0;
        let map =
            |init: &mut Init| Linear::with_bias(architecture.attention_bias, hidden, hidden, init);
        let (query, key, value, output) = (map(init), map(init), map(init), map(init));
        let mut layer_norm =
            LayerNorm::with_bias(architecture.norm_bias, hidden, config.layer_norm_eps, init);
        if bare_input {
            layer_norm.weight = init.absent([hidden]);
        }
        Self {
            query,
            key,
            value,
            output,
            layer_norm,
            heads: config.num_attention_heads,
            dropout: architecture.rates.attention_output,
            attention_dropout: config.attention_probs_dropout_prob,
            recompute: false,
            precision: Precision::F32,
            local: architecture.local.get(index).copied().unwrap_or(false),
            bare_input,
        }
    }

    /// `[tokens, hidden]` to the same shape, for families whose positions entered with the
    /// embeddings.
    pub fn forward(&self, x: Tensor<2>, batch: &TokenBatch) -> Tensor<2> {
        self.forward_at(x, batch, &PositionTerms::default())
    }

    /// `[tokens, hidden]` to the same shape.
    pub(crate) fn forward_at(
        &self,
        x: Tensor<2>,
        batch: &TokenBatch,
        terms: &PositionTerms,
    ) -> Tensor<2> {
        let context = self.context(x.clone(), batch, terms);
        let output = self.output.affine();
        residual_layer_norm(
            x,
            project(context, output.weight, self.precision),
            output.bias,
            self.layer_norm.params(),
            self.dropout,
        )
    }

    /// `x + dropout(Attention(LN(x)) W_o + b_o)`.
    pub(crate) fn forward_pre_norm(
        &self,
        x: Tensor<2>,
        batch: &TokenBatch,
        terms: &PositionTerms,
    ) -> Tensor<2> {
        let input = match self.bare_input {
            true => x.clone(),
            false => self.layer_norm.forward(x.clone()),
        };
        let context = self.context(input, batch, terms);
        x + dropout(
            self.output.forward_in(context, self.precision),
            self.dropout,
        )
    }

    /// The joined heads, `[tokens, hidden]`.
    fn context(&self, x: Tensor<2>, batch: &TokenBatch, terms: &PositionTerms) -> Tensor<2> {
        if terms.is_empty() {
            let maps = AttentionMaps {
                query: self.query.affine(),
                key: self.key.affine(),
                value: self.value.affine(),
            };
            return self_attention(
                x,
                maps,
                &batch.sequences,
                AttentionSettings {
                    heads: self.heads,
                    dropout: self.attention_dropout,
                    recompute: self.recompute,
                    precision: self.precision,
                },
            );
        }
        let mut query = self.query.forward_in(x.clone(), self.precision);
        let mut key = self.key.forward_in(x.clone(), self.precision);
        if let Some(angles) = &terms.rotary {
            query = rotary(query, angles);
            key = rotary(key, angles);
        }
        attention(
            query,
            key,
            self.value.forward_in(x, self.precision),
            terms.bias.clone(),
            &batch.sequences,
            self.heads,
            self.attention_dropout,
        )
    }
}
