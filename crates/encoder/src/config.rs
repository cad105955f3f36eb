//! Sizes and rates of an encoder, as `config.json` of a checkpoint states them.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::EncoderError;
use crate::families::{Architecture, Family};

/// Sizes and rates of an encoder.
///
/// Field names are those of BERT's `config.json` (Devlin et al., arXiv 1810.04805); other families
/// read and write their own keys. Keys this crate does not use are kept in `other` and written back
/// unchanged, in their original order.
///
/// ```
/// let config = encoder::BertConfig::tiny(1000);
/// assert!(config.check("example").is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BertConfig {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of every hidden state.
    pub hidden_size: usize,
    /// Transformer layers.
    pub num_hidden_layers: usize,
    /// Attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Feed-forward activation: the exact GELU, `"gelu"`, or what the family has in its place.
    #[serde(default = "default_activation")]
    pub hidden_act: String,
    /// Longest text in tokens, special tokens included. Position tables of RoBERTa and MPNet have
    /// more rows, and `config.json` counts those.
    pub max_position_embeddings: usize,
    /// Segment types.
    #[serde(default = "default_type_vocab")]
    pub type_vocab_size: usize,
    /// Added to the variance in layer normalisation.
    #[serde(default = "default_eps")]
    pub layer_norm_eps: f64,
    /// Standard deviation of random weights.
    #[serde(default = "default_range")]
    pub initializer_range: f64,
    /// Dropout after the embedding sum and after each sub-layer, in `[0, 1)`.
    #[serde(default = "default_dropout")]
    pub hidden_dropout_prob: f64,
    /// Dropout of the attention weights, in `[0, 1)`.
    #[serde(default = "default_dropout")]
    pub attention_probs_dropout_prob: f64,
    /// Id of the padding token.
    #[serde(default)]
    pub pad_token_id: u32,
    /// Which arrangement of the transformer; not a key of its own, but told from several.
    #[serde(skip)]
    pub family: Family,
    /// Everything else the file holds.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn default_activation() -> String {
    "gelu".to_owned()
}
fn default_type_vocab() -> usize {
    2
}
fn default_eps() -> f64 {
    1e-12
}
fn default_range() -> f64 {
    0.02
}
fn default_dropout() -> f64 {
    0.1
}

impl BertConfig {
    /// A small encoder for tests and for the bundled set: 2 layers, 128 wide, 2 heads.
    pub fn tiny(vocab_size: usize) -> Self {
        Self {
            vocab_size,
            hidden_size: 128,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            intermediate_size: 512,
            hidden_act: default_activation(),
            max_position_embeddings: 64,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            initializer_range: 0.02,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            pad_token_id: 0,
            family: Family::Bert,
            other: Map::from_iter([
                ("model_type".to_owned(), Value::from("bert")),
                ("architectures".to_owned(), Value::from(vec!["BertModel"])),
                (
                    "position_embedding_type".to_owned(),
                    Value::from("absolute"),
                ),
            ]),
        }
    }

    /// Reads and checks `config.json`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is not JSON of this form, or holds a value out of range.
    pub fn from_file(path: &Path) -> Result<Self, EncoderError> {
        let text = std::fs::read_to_string(path).map_err(EncoderError::io("read", path))?;
        let invalid = |error: serde_json::Error| EncoderError::Json {
            path: path.to_owned(),
            message: error.to_string(),
        };
        let origin = path.display().to_string();
        let map: Map<String, Value> = serde_json::from_str(&text).map_err(invalid)?;
        let config = match Family::detect(&map, &origin)? {
            // From the text, so that errors tell line and column.
            Family::Bert => serde_json::from_str(&text),
            family => family.read(map),
        }
        .map_err(invalid)?;
        config.check(&origin)?;
        Ok(config)
    }

    /// Checks ranges; `origin` is named in the error.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Config`] names the field, the value and what is allowed.
    pub fn check(&self, origin: &str) -> Result<(), EncoderError> {
        let fail = |field: &'static str, found: String, expected: &str| {
            Err(EncoderError::Config {
                origin: origin.to_owned(),
                field,
                found,
                expected: expected.to_owned(),
            })
        };
        // Upper limits keep a hostile file from asking for terabytes before any weight is read.
        for (field, value, limit) in [
            ("vocab_size", self.vocab_size, 10_000_000),
            ("hidden_size", self.hidden_size, 65_536),
            ("num_hidden_layers", self.num_hidden_layers, 1_000),
            ("num_attention_heads", self.num_attention_heads, 65_536),
            ("intermediate_size", self.intermediate_size, 1_000_000),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                1_000_000,
            ),
            ("type_vocab_size", self.type_vocab_size, 1_000_000),
        ] {
            if value == 0 || value > limit {
                return fail(field, value.to_string(), &format!("1 to {limit}"));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return fail(
                "num_attention_heads",
                self.num_attention_heads.to_string(),
                &format!("a divisor of hidden_size {}", self.hidden_size),
            );
        }
        for (field, value) in [
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            (
                "attention_probs_dropout_prob",
                self.attention_probs_dropout_prob,
            ),
        ] {
            if !(0.0..1.0).contains(&value) {
                return fail(field, value.to_string(), "at least 0, below 1");
            }
        }
        for (field, value) in [
            ("layer_norm_eps", self.layer_norm_eps),
            ("initializer_range", self.initializer_range),
        ] {
            if !(value > 0.0 && value < 1.0) {
                return fail(field, value.to_string(), "above 0, below 1");
            }
        }
        if self.pad_token_id as usize >= self.vocab_size {
            return fail(
                "pad_token_id",
                self.pad_token_id.to_string(),
                "below vocab_size",
            );
        }
        if self.family == Family::Bert
            && let Some(kind) = self.other.get("model_type").and_then(Value::as_str)
            && kind != "bert"
        {
            return fail("model_type", kind.to_owned(), &Family::known());
        }
        self.architecture(origin).map(|_| ())
    }

    /// The arrangement of the transformer; `origin` is named in the error.
    pub(crate) fn architecture(&self, origin: &str) -> Result<Architecture, EncoderError> {
        self.family.architecture(self, origin)
    }

    /// Sets both dropout rates, and the separate rate of the embeddings where a family has one.
    #[must_use]
    pub fn with_dropout(mut self, rate: f64) -> Self {
        self.hidden_dropout_prob = rate;
        self.attention_probs_dropout_prob = rate;
        for field in ["embd_pdrop", "embedding_dropout"] {
            if let Some(value) = self.other.get_mut(field) {
                *value = Value::from(rate);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_bad_value_is_named() {
        let good = BertConfig::tiny(100);
        type Spoil = fn(&mut BertConfig);
        let cases: [(&str, Spoil); 8] = [
            ("vocab_size", |c| c.vocab_size = 0),
            ("hidden_size", |c| c.hidden_size = usize::MAX),
            ("num_attention_heads", |c| c.num_attention_heads = 3),
            ("hidden_act", |c| c.hidden_act = "relu".into()),
            ("hidden_dropout_prob", |c| c.hidden_dropout_prob = 1.0),
            ("attention_probs_dropout_prob", |c| {
                c.attention_probs_dropout_prob = f64::NAN
            }),
            ("layer_norm_eps", |c| c.layer_norm_eps = -1.0),
            ("pad_token_id", |c| c.pad_token_id = 100),
        ];
        for (field, spoil) in cases {
            let mut config = good.clone();
            spoil(&mut config);
            let error = config.check("test").unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn unknown_keys_survive_a_round_trip() {
        let text = r#"{"architectures":["BertModel"],"vocab_size":10,"hidden_size":4,"num_hidden_layers":1,
            "num_attention_heads":2,"intermediate_size":8,"max_position_embeddings":16,"use_cache":true}"#;
        let config: BertConfig = serde_json::from_str(text).unwrap();
        let again: BertConfig =
            serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(config, again);
        assert_eq!(again.other["use_cache"], Value::from(true));
    }
}
