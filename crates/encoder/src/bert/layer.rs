//! One transformer layer and the small modules it is made of.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, module};
use kernels::{Affine, LayerNormParams, feed_forward, residual_layer_norm};

use super::attention::SelfAttention;
use crate::batch::TokenBatch;
use crate::config::BertConfig;
use crate::init::Init;

/// Affine map `y = x W + b` on rows; `W` is `[in, out]`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[in, out]`.
    pub weight: Param<Tensor<2>>,
    /// `[out]`.
    pub bias: Param<Tensor<1>>,
}

impl Linear {
    /// Weights from `init`, bias zero.
    pub fn new(input: usize, output: usize, init: &mut Init) -> Self {
        Self {
            weight: init.normal([input, output]),
            bias: init.constant([output], 0.0),
        }
    }

    /// `[rows, in]` to `[rows, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        kernels::linear(x, self.weight.val(), self.bias.val())
    }

    pub(crate) fn affine(&self) -> Affine {
        Affine {
            weight: self.weight.val(),
            bias: self.bias.val(),
        }
    }
}

/// Layer normalisation over the last dimension:
/// `y = (x - mean) / sqrt(var + eps) * weight + bias`, with the biased variance.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Scale, `[hidden]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[hidden]`.
    pub bias: Param<Tensor<1>>,
    eps: f64,
}

impl LayerNorm {
    /// Scale one, shift zero.
    pub fn new(hidden: usize, eps: f64, init: &mut Init) -> Self {
        Self {
            weight: init.constant([hidden], 1.0),
            bias: init.constant([hidden], 0.0),
            eps,
        }
    }

    /// `[rows, hidden]` to `[rows, hidden]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        module::layer_norm(x, self.weight.val(), Some(self.bias.val()), self.eps)
    }

    pub(crate) fn params(&self) -> LayerNormParams {
        LayerNormParams {
            weight: self.weight.val(),
            bias: self.bias.val(),
            eps: self.eps,
        }
    }
}

/// One post-layer-norm transformer layer.
///
/// ```text
/// a = LN(x + dropout(Attention(x) W_o + b_o))
/// y = LN(a + dropout(gelu(a W_1 + b_1) W_2 + b_2))
/// ```
#[derive(Module, Debug)]
pub struct EncoderLayer {
    /// Self-attention with its output projection and layer norm.
    pub attention: SelfAttention,
    /// First feed-forward map, `[hidden, intermediate]`.
    pub intermediate: Linear,
    /// Second feed-forward map, `[intermediate, hidden]`.
    pub output: Linear,
    /// Layer norm after the feed-forward residual.
    pub layer_norm: LayerNorm,
    dropout: f64,
}

impl EncoderLayer {
    /// A layer of the sizes in `config`.
    pub fn new(config: &BertConfig, init: &mut Init) -> Self {
        Self {
            attention: SelfAttention::new(config, init),
            intermediate: Linear::new(config.hidden_size, config.intermediate_size, init),
            output: Linear::new(config.intermediate_size, config.hidden_size, init),
            layer_norm: LayerNorm::new(config.hidden_size, config.layer_norm_eps, init),
            dropout: config.hidden_dropout_prob,
        }
    }

    /// `[tokens, hidden]` to the same shape.
    pub fn forward(&self, x: Tensor<2>, batch: &TokenBatch) -> Tensor<2> {
        let a = self.attention.forward(x, batch);
        let output = self.output.affine();
        let y = feed_forward(
            a.clone(),
            self.intermediate.affine(),
            output.weight,
            self.attention.recompute,
        );
        residual_layer_norm(a, y, output.bias, self.layer_norm.params(), self.dropout)
    }
}
