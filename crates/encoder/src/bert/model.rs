//! The encoder as a whole.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kernels::Precision;

use super::embeddings::{Embedding, Embeddings};
use super::layer::{EncoderLayer, LayerNorm, Linear};
use super::positions::PositionTerms;
use crate::batch::TokenBatch;
use crate::config::BertConfig;
use crate::error::EncoderError;
use crate::families::{Architecture, Positions};
use crate::init::Init;

/// An encoder without task heads: BERT, or one of the other families ([`Family`](crate::Family)) as
/// the configuration says. The pooler map is kept when the checkpoint has one.
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
    /// Layer norm behind the last layer, where layers have theirs in front.
    pub final_norm: Option<LayerNorm>,
    /// Bias of the attention scores by bucket of the distance, `[buckets, heads]`, in families that
    /// have one.
    pub relative_attention_bias: Option<Embedding>,
    #[module(skip)]
    positions: Positions,
    heads: usize,
    /// Most tokens a text may have where no table of positions says so.
    longest: usize,
}

/// What poolings need of a forward pass; each `[tokens, hidden]`.
#[derive(Clone, Debug)]
pub struct HiddenStates {
    /// Output of the first layer.
    pub first: Tensor<2>,
    /// Output of the last layer but one (the embedding output if there is one layer only).
    pub penultimate: Tensor<2>,
    /// Output of the last layer, behind the final norm where there is one.
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
            &config.architecture("configuration")?,
            true,
            &mut Init::seeded(seed, config.initializer_range, device),
        ))
    }

    pub(crate) fn build(
        config: &BertConfig,
        architecture: &Architecture,
        pooler: bool,
        init: &mut Init,
    ) -> Self {
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        let eps = config.layer_norm_eps;
        Self {
            embeddings: Embeddings::build(config, architecture, init),
            layers: (0..config.num_hidden_layers)
                .map(|index| EncoderLayer::build(config, architecture, index, init))
                .collect(),
            pooler: pooler.then(|| Linear::new(hidden, hidden, init)),
            final_norm: architecture
                .pre_norm
                .then(|| LayerNorm::with_bias(architecture.norm_bias, hidden, eps, init)),
            relative_attention_bias: match architecture.positions {
                Positions::TableAndBuckets { buckets, .. } => Some(Embedding {
                    weight: init.normal([buckets, heads]),
                }),
                _ => None,
            },
            positions: architecture.positions,
            heads,
            longest: config.max_position_embeddings,
        }
    }

    /// Runs the encoder over a batch.
    ///
    /// # Errors
    ///
    /// A text is longer than the position table, or an id lies outside the word table.
    pub fn forward(&self, batch: &TokenBatch) -> Result<HiddenStates, EncoderError> {
        let positions = self.embeddings.longest().unwrap_or(self.longest);
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
        let (terms, local_terms) = self.terms(batch);
        let mut last = self.embeddings.forward(batch);
        let mut penultimate = last.clone();
        let mut first = last.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            penultimate = last.clone();
            let terms = match layer.attention.local {
                true => &local_terms,
                false => &terms,
            };
            last = layer.forward_at(last, batch, terms);
            if index == 0 {
                first = last.clone();
            }
        }
        if let Some(norm) = &self.final_norm {
            last = norm.forward(last);
        }
        Ok(HiddenStates {
            first,
            penultimate,
            last,
        })
    }

    /// What positions do in layers that see all of a text, and in those that see a window.
    fn terms(&self, batch: &TokenBatch) -> (PositionTerms, PositionTerms) {
        let everywhere = |terms: PositionTerms| (terms, PositionTerms::default());
        match (self.positions, &self.relative_attention_bias) {
            (Positions::TableAndBuckets { .. }, Some(table)) => {
                everywhere(PositionTerms::buckets(batch, table))
            }
            (Positions::Slopes, _) => everywhere(PositionTerms::slopes(batch, self.heads)),
            (
                Positions::Rotary {
                    theta,
                    local_theta,
                    window,
                },
                _,
            ) => {
                let head = self.hidden_size() / self.heads;
                let local = self.layers.iter().any(|layer| layer.attention.local);
                let terms = PositionTerms::rotary(batch, head, theta, usize::MAX);
                match local {
                    true => (
                        terms,
                        PositionTerms::rotary(batch, head, local_theta, window),
                    ),
                    false => everywhere(terms),
                }
            }
            _ => everywhere(PositionTerms::default()),
        }
    }

    /// Gradient checkpointing: with `true` the backward pass of every layer makes its projections
    /// and its inner activation anew instead of keeping them. Same gradients, less memory, more
    /// work; flex only, elsewhere the switch is without effect, as it is in the parts that only
    /// other families than BERT have: attention with rotary positions or a bias, gated feed-forward
    /// blocks.
    pub fn set_gradient_checkpointing(&mut self, on: bool) {
        for layer in &mut self.layers {
            layer.attention.recompute = on;
        }
    }

    /// What the operands of the products with the layers' weights are rounded to, forward and backward; heads
    /// on top of the layers stay in f32. Not stored with the weights: a loaded model computes in f32.
    pub fn set_precision(&mut self, precision: Precision) {
        for layer in &mut self.layers {
            layer.attention.precision = precision;
        }
    }

    /// Width of the hidden states.
    pub fn hidden_size(&self) -> usize {
        self.embeddings.layer_norm.weight.val().dims()[0]
    }
}
