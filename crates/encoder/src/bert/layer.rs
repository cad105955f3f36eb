//! One transformer layer and the small modules it is made of.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, module};
use kernels::{
    Activation, Affine, LayerNormParams, Precision, dropout, feed_forward, gated_feed_forward,
    residual_layer_norm,
};

use super::attention::SelfAttention;
use super::positions::PositionTerms;
use crate::batch::TokenBatch;
use crate::config::BertConfig;
use crate::families::Architecture;
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

    /// As [`new`](Self::new), or with a bias that stays zero.
    pub(crate) fn with_bias(bias: bool, input: usize, output: usize, init: &mut Init) -> Self {
        let mut map = Self::new(input, output, init);
        if !bias {
            map.bias = init.absent([output]);
        }
        map
    }

    /// `[rows, in]` to `[rows, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.forward_in(x, Precision::F32)
    }

    pub(crate) fn forward_in(&self, x: Tensor<2>, precision: Precision) -> Tensor<2> {
        kernels::linear(x, self.weight.val(), self.bias.val(), precision)
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

    /// As [`new`](Self::new), or with a shift that stays zero.
    pub(crate) fn with_bias(bias: bool, hidden: usize, eps: f64, init: &mut Init) -> Self {
        let mut norm = Self::new(hidden, eps, init);
        if !bias {
            norm.bias = init.absent([hidden]);
        }
        norm
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

/// One transformer layer.
///
/// ```text
/// a = LN(x + dropout(Attention(x) W_o + b_o))    y = LN(a + dropout(F(a)))    post-norm
/// a = x + dropout(Attention(LN(x)) W_o + b_o)    y = a + dropout(F(LN(a)))    pre-norm
/// F(a) = gelu(a W_1 + b_1) W_2 + b_2                                          plain
/// F(a) = dropout(f(a W_1 + b_1) * (a W_g + b_g)) W_2 + b_2                    gated
/// ```
#[derive(Module, Debug)]
pub struct EncoderLayer {
    /// Self-attention with its output projection and layer norm.
    pub attention: SelfAttention,
    /// First feed-forward map, `[hidden, intermediate]`.
    pub intermediate: Linear,
    /// Second feed-forward map, `[intermediate, hidden]`.
    pub output: Linear,
    /// Layer norm of the feed-forward residual.
    pub layer_norm: LayerNorm,
    /// Map of the gate, `[hidden, intermediate]`, where the feed-forward block has one.
    pub gate: Option<Linear>,
    /// Function on the inner units that the gate multiplies.
    #[module(skip)]
    function: Activation,
    inner_dropout: f64,
    dropout: f64,
    pre_norm: bool,
}

impl EncoderLayer {
    /// A layer of BERT of the sizes in `config`.
    pub fn new(config: &BertConfig, init: &mut Init) -> Self {
        Self::build(config, &Architecture::bert(config), 0, init)
    }

    pub(crate) fn build(
        config: &BertConfig,
        architecture: &Architecture,
        index: usize,
        init: &mut Init,
    ) -> Self {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let bias = architecture.inner_bias;
        let eps = config.layer_norm_eps;
        Self {
            attention: SelfAttention::build(config, architecture, index, init),
            intermediate: Linear::with_bias(bias, hidden, inner, init),
            output: Linear::with_bias(architecture.outer_bias, inner, hidden, init),
            layer_norm: LayerNorm::with_bias(architecture.norm_bias, hidden, eps, init),
            gate: architecture
                .gate
                .map(|_| Linear::with_bias(bias, hidden, inner, init)),
            function: architecture.gate.unwrap_or(Activation::Gelu),
            inner_dropout: architecture.rates.inner,
            dropout: architecture.rates.output,
            pre_norm: architecture.pre_norm,
        }
    }

    /// `[tokens, hidden]` to the same shape, for layers to which positions mean nothing (they
    /// entered with the embeddings).
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
        let output = self.output.affine();
        if self.pre_norm {
            let a = self.attention.forward_pre_norm(x, batch, terms);
            let y = self.feed_forward(self.layer_norm.forward(a.clone()), output.weight);
            return a + dropout(y + output.bias.unsqueeze(), self.dropout);
        }
        let a = self.attention.forward_at(x, batch, terms);
        let y = self.feed_forward(a.clone(), output.weight);
        residual_layer_norm(a, y, output.bias, self.layer_norm.params(), self.dropout)
    }

    /// `F` without its outer bias.
    fn feed_forward(&self, x: Tensor<2>, outer: Tensor<2>) -> Tensor<2> {
        let inner = self.intermediate.affine();
        let SelfAttention {
            recompute,
            precision,
            ..
        } = self.attention;
        match &self.gate {
            None => feed_forward(x, inner, outer, recompute, precision),
            Some(gate) => gated_feed_forward(
                x,
                inner,
                gate.affine(),
                outer,
                self.function,
                self.inner_dropout,
                precision,
            ),
        }
    }
}
