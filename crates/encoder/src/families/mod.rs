//! What tells one family of encoders from another: names, sizes and arrangement, one file a family.
//!
//! The transformer itself ([`BertModel`](crate::BertModel)) is written once. A family says under
//! which names its checkpoints keep the parts ([`Description`]) and which of the arrangements it
//! uses ([`Architecture`]). A part that a family lacks (a table, a bias) is held as zeros that
//! never receive a gradient and are never written, so the sums of the fused operations stay the
//! same.

mod bert;
mod distilbert;
mod jina_bert;
mod modernbert;
mod mpnet;
mod nomic_bert;
mod roberta;

use std::fmt;

use kernels::Activation;
use serde_json::{Map, Value};

use crate::config::BertConfig;
use crate::error::EncoderError;

/// Encoder families that can be loaded, trained and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Devlin et al., arXiv 1810.04805.
    #[default]
    Bert,
    /// Liu et al., arXiv 1907.11692: BERT with positions counted from the padding id, one segment.
    Roberta,
    /// Sanh et al., arXiv 1910.01108: BERT without segments.
    DistilBert,
    /// Song et al., arXiv 2004.09297: BERT with a bias by relative distance.
    Mpnet,
    /// Nussbaum et al., arXiv 2402.01613: rotary positions, SwiGLU, no biases in the maps.
    NomicBert,
    /// Günther et al., arXiv 2310.19923 (Jina v2): slopes by distance (ALiBi), GEGLU.
    JinaBert,
    /// Warner et al., arXiv 2412.13663: pre-norm, rotary positions, GEGLU, windows in most layers.
    ModernBert,
}

/// Where positions enter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Positions {
    /// A learned table; token `t` reads row `t + offset`.
    Table { offset: usize },
    /// A learned table, and a learned bias of the scores by bucket of the distance.
    TableAndBuckets { offset: usize, buckets: usize },
    /// A bias of the scores that falls linearly with the distance, one slope a head.
    Slopes,
    /// Queries and keys are turned by their position; local layers see `window` tokens to each
    /// side.
    Rotary {
        theta: f64,
        local_theta: f64,
        window: usize,
    },
}

impl Positions {
    /// Row of the position table that the first token reads; `None` without a table.
    pub(crate) fn table_offset(self) -> Option<usize> {
        match self {
            Self::Table { offset } | Self::TableAndBuckets { offset, .. } => Some(offset),
            Self::Slopes | Self::Rotary { .. } => None,
        }
    }
}

/// Dropout rates of the places that differ between families.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rates {
    /// After the embeddings.
    pub(crate) embedding: f64,
    /// After the output map of the attention.
    pub(crate) attention_output: f64,
    /// On the inner units of the feed-forward block (gated blocks only).
    pub(crate) inner: f64,
    /// After the feed-forward block.
    pub(crate) output: f64,
}

/// The arrangement of a transformer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Architecture {
    pub(crate) positions: Positions,
    /// Whether there is a table of segments.
    pub(crate) segments: bool,
    /// Whether query, key, value and output maps have biases.
    pub(crate) attention_bias: bool,
    /// Whether the first feed-forward maps have biases.
    pub(crate) inner_bias: bool,
    /// Whether the second feed-forward map has a bias.
    pub(crate) outer_bias: bool,
    /// Whether layer norms have biases.
    pub(crate) norm_bias: bool,
    /// Function of a gated feed-forward block; `None` is the plain block with GELU.
    pub(crate) gate: Option<Activation>,
    /// Whether layer norms come before attention and feed-forward block, with one at the end,
    /// rather than after them.
    pub(crate) pre_norm: bool,
    /// Which layers see a window only; empty: none.
    pub(crate) local: Vec<bool>,
    pub(crate) rates: Rates,
}

impl Architecture {
    /// The original BERT, from which the others differ.
    pub(crate) fn bert(config: &BertConfig) -> Self {
        let rate = config.hidden_dropout_prob;
        Self {
            positions: Positions::Table { offset: 0 },
            segments: true,
            attention_bias: true,
            inner_bias: true,
            outer_bias: true,
            norm_bias: true,
            gate: None,
            pre_norm: false,
            local: Vec::new(),
            rates: Rates {
                embedding: rate,
                attention_output: rate,
                inner: 0.0,
                output: rate,
            },
        }
    }
}

/// Pairs of names: in a file and here, or the other way round.
type Pairs = &'static [(&'static str, &'static str)];

/// Names in files.
pub(crate) struct Description {
    /// `model_type` in `config.json`.
    model_type: &'static str,
    /// Key in `config.json` and the field of [`BertConfig`] it stands for, where they differ; told
    /// from the keys that keep their names, since one family may have two styles.
    keys: fn(&Map<String, Value>) -> Pairs,
    /// Fields of [`BertConfig`] without a key.
    no_key: &'static [&'static str],
    /// Values of fields whose key is missing, where BERT's would be wrong.
    defaults: fn() -> Vec<(&'static str, Value)>,
    /// Prefix of the encoder's weights in checkpoints with a task head.
    pub(crate) prefix: &'static str,
    /// Path of a module or parameter here, `*` for a number, and its name in the checkpoint: empty
    /// if it has none, with `#i/n` if it is part `i` of a tensor of `n` parts, rows one behind the
    /// other. The first that fits counts.
    names: &'static [Pairs],
    /// Beginnings of the names of head tensors, which never carry the prefix.
    heads: &'static [&'static str],
    /// Beginnings of names that hold no weights of the encoder or are tied to others.
    pub(crate) ignored: &'static [&'static str],
    /// Whether the transform and the layer norm of the masked-word head have biases.
    pub(crate) head_biases: bool,
    architecture: fn(&BertConfig, &Checker<'_>) -> Result<Architecture, EncoderError>,
}

/// A parameter's place in the weights file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) name: String,
    /// Which part of how many.
    pub(crate) part: (usize, usize),
}

impl Family {
    /// All families.
    pub const ALL: [Self; 7] = [
        Self::Bert,
        Self::Roberta,
        Self::DistilBert,
        Self::Mpnet,
        Self::NomicBert,
        Self::JinaBert,
        Self::ModernBert,
    ];

    /// The family that a `config.json` describes: by `model_type`; Jina v2 calls itself `bert` and
    /// is told by `position_embedding_type` `alibi`. Without `model_type`, by `architectures` and
    /// `auto_map`, else BERT.
    pub(crate) fn detect(config: &Map<String, Value>, origin: &str) -> Result<Self, EncoderError> {
        let alibi = config
            .get("position_embedding_type")
            .and_then(Value::as_str)
            == Some("alibi");
        let named = |name: &str| {
            ["architectures", "auto_map"]
                .iter()
                .filter_map(|key| config.get(*key))
                .any(|value| value.to_string().contains(name))
        };
        match config.get("model_type").and_then(Value::as_str) {
            Some("bert") if alibi || named("JinaBert") => Ok(Self::JinaBert),
            Some(kind) => Self::ALL
                .into_iter()
                .find(|family| family.description().model_type == kind)
                .ok_or_else(|| EncoderError::Config {
                    origin: origin.to_owned(),
                    field: "model_type",
                    found: kind.to_owned(),
                    expected: Self::known(),
                }),
            None if alibi || named("JinaBert") => Ok(Self::JinaBert),
            None if named("NomicBert") => Ok(Self::NomicBert),
            None => Ok(Self::Bert),
        }
    }

    /// The known values of `model_type`, for messages.
    pub(crate) fn known() -> String {
        let mut names: Vec<&str> = Self::ALL
            .iter()
            .map(|family| family.description().model_type)
            .collect();
        names.dedup();
        format!("one of {} (bert with alibi is Jina v2)", names.join(", "))
    }

    pub(crate) fn description(self) -> &'static Description {
        match self {
            Self::Bert => &bert::DESCRIPTION,
            Self::Roberta => &roberta::DESCRIPTION,
            Self::DistilBert => &distilbert::DESCRIPTION,
            Self::Mpnet => &mpnet::DESCRIPTION,
            Self::NomicBert => &nomic_bert::DESCRIPTION,
            Self::JinaBert => &jina_bert::DESCRIPTION,
            Self::ModernBert => &modernbert::DESCRIPTION,
        }
    }

    /// Rows of the position table in front of the first token's.
    pub(crate) fn position_offset(self, pad_token_id: u32) -> usize {
        match self {
            Self::Roberta => pad_token_id as usize + 1,
            Self::Mpnet => mpnet::OFFSET,
            _ => 0,
        }
    }

    /// Place of a parameter such as `layers.0.attention.query.weight` in the weights file, if it
    /// has one.
    pub(crate) fn slot(self, path: &str) -> Option<Slot> {
        let segments: Vec<&str> = path.split('.').collect();
        for (ours, theirs) in self.description().names.iter().copied().flatten() {
            let pattern: Vec<&str> = ours.split('.').collect();
            let rest = match segments.len().checked_sub(pattern.len()) {
                Some(0) => None,
                Some(1) => segments.last(),
                _ => continue,
            };
            let mut star = "";
            let fits = pattern.iter().zip(&segments).all(|(pattern, segment)| {
                if *pattern == "*" {
                    star = segment;
                    true
                } else {
                    pattern == segment
                }
            });
            if !fits {
                continue;
            }
            if theirs.is_empty() {
                return None;
            }
            let (name, part) = match theirs.split_once('#') {
                Some((name, part)) => (name, parse_part(part)),
                None => (*theirs, (0, 1)),
            };
            let mut name = name.replace('*', star);
            if let Some(rest) = rest {
                name = format!("{name}.{rest}");
            }
            return Some(Slot { name, part });
        }
        Some(Slot {
            name: path.to_owned(),
            part: (0, 1),
        })
    }

    /// Most tokens a text may have.
    fn longest(self, config: &BertConfig) -> usize {
        match self {
            Self::NomicBert => nomic_bert::longest(config),
            _ => config
                .max_position_embeddings
                .saturating_sub(self.position_offset(config.pad_token_id)),
        }
    }

    /// Whether a tensor belongs to a head rather than to the encoder.
    pub(crate) fn is_head(self, name: &str) -> bool {
        let heads = self.description().heads;
        heads.iter().any(|beginning| name.starts_with(beginning))
    }

    /// Reads what `config.json` holds.
    pub(crate) fn read(self, config: Map<String, Value>) -> serde_json::Result<BertConfig> {
        let mut config: BertConfig = serde_json::from_value(Value::Object(self.rename_in(config)))?;
        config.family = self;
        // A padding id outside the vocabulary is left for the check to name.
        if (config.pad_token_id as usize) < config.vocab_size {
            config.max_position_embeddings = self.longest(&config);
        }
        Ok(config)
    }

    /// What `config.json` should hold.
    pub(crate) fn write(self, config: &BertConfig) -> serde_json::Result<Value> {
        let mut config = config.clone();
        config.max_position_embeddings += self.position_offset(config.pad_token_id);
        match serde_json::to_value(&config)? {
            Value::Object(map) => Ok(Value::Object(self.rename_out(map))),
            other => Ok(other),
        }
    }

    /// `config.json` with the keys of this family under the names of [`BertConfig`]'s fields.
    fn rename_in(self, mut config: Map<String, Value>) -> Map<String, Value> {
        let description = self.description();
        for (theirs, ours) in (description.keys)(&config) {
            if let Some(value) = config.remove(*theirs) {
                config.insert((*ours).to_owned(), value);
            }
        }
        for (ours, value) in (description.defaults)() {
            if config.get(ours).is_none_or(Value::is_null) {
                config.insert(ours.to_owned(), value);
            }
        }
        config
    }

    /// The way back from [`rename_in`](Self::rename_in), for configurations that changed since they
    /// were read.
    fn rename_out(self, mut config: Map<String, Value>) -> Map<String, Value> {
        let description = self.description();
        for field in description.no_key {
            config.remove(*field);
        }
        for (theirs, ours) in (description.keys)(&config) {
            if let Some(value) = config.remove(*ours) {
                config.insert((*theirs).to_owned(), value);
            }
        }
        config.insert("model_type".to_owned(), Value::from(description.model_type));
        config
    }

    /// The arrangement for a configuration, or what about it is not supported.
    pub(crate) fn architecture(
        self,
        config: &BertConfig,
        origin: &str,
    ) -> Result<Architecture, EncoderError> {
        (self.description().architecture)(config, &Checker { config, origin })
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::JinaBert => "jina_bert",
            other => other.description().model_type,
        })
    }
}

/// `i/n` of a part; the tables hold nothing else.
fn parse_part(part: &str) -> (usize, usize) {
    part.split_once('/')
        .and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)))
        .unwrap_or((0, 1))
}

/// Whether `1` and `1.0` are meant.
fn same_number(a: &Value, b: &Value) -> bool {
    a.as_f64().is_some() && a.as_f64() == b.as_f64()
}

/// Reads the keys that only one family has, and names those it refuses.
pub(crate) struct Checker<'a> {
    config: &'a BertConfig,
    origin: &'a str,
}

impl Checker<'_> {
    fn fail<T>(
        &self,
        field: &'static str,
        found: impl fmt::Display,
        expected: impl Into<String>,
    ) -> Result<T, EncoderError> {
        Err(EncoderError::Config {
            origin: self.origin.to_owned(),
            field,
            found: found.to_string(),
            expected: expected.into(),
        })
    }

    /// A number, or `default` where the key is missing or null.
    fn number(&self, field: &'static str, default: f64) -> Result<f64, EncoderError> {
        match self.config.other.get(field) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(number),
                None => self.fail(field, value, "a number"),
            },
        }
    }

    /// A positive number.
    fn positive(&self, field: &'static str, default: f64) -> Result<f64, EncoderError> {
        let number = self.number(field, default)?;
        if number > 0.0 && number.is_finite() {
            Ok(number)
        } else {
            self.fail(field, number, "above 0")
        }
    }

    /// A dropout rate.
    fn rate(&self, field: &'static str, default: f64) -> Result<f64, EncoderError> {
        let number = self.number(field, default)?;
        if (0.0..1.0).contains(&number) {
            Ok(number)
        } else {
            self.fail(field, number, "at least 0, below 1")
        }
    }

    /// Refuses a key unless it is missing, null or has the one value that is supported.
    fn only(&self, field: &'static str, value: Value) -> Result<(), EncoderError> {
        match self.config.other.get(field) {
            None | Some(Value::Null) => Ok(()),
            Some(found) if *found == value || same_number(found, &value) => Ok(()),
            Some(found) => self.fail(field, found, value.to_string()),
        }
    }

    /// `hidden_act` is one of the given.
    fn activation(&self, allowed: &[&str]) -> Result<(), EncoderError> {
        let found = self.config.hidden_act.as_str();
        if allowed.contains(&found) {
            return Ok(());
        }
        let exact = if allowed == ["gelu"] {
            " (exact form)"
        } else {
            ""
        };
        self.fail("hidden_act", found, allowed.join(" or ") + exact)
    }

    /// Rotary heads have an even number of columns.
    fn even_heads(&self) -> Result<(), EncoderError> {
        let config = self.config;
        let head = config.hidden_size / config.num_attention_heads.max(1);
        if head.is_multiple_of(2) {
            Ok(())
        } else {
            self.fail(
                "num_attention_heads",
                config.num_attention_heads,
                format!("heads of an even width for rotary positions, not of {head}"),
            )
        }
    }

    /// `rope_theta` of a block of rotary parameters, which may only ask for the plain form.
    fn theta(&self, parameters: Option<&Value>, default: f64) -> Result<f64, EncoderError> {
        let Some(parameters) = parameters.filter(|value| !value.is_null()) else {
            return Ok(default);
        };
        let kind = parameters.get("rope_type").and_then(Value::as_str);
        if kind.is_some_and(|kind| kind != "default") {
            return self.fail("rope_parameters", parameters, "rope_type default");
        }
        match parameters.get("rope_theta") {
            None | Some(Value::Null) => Ok(default),
            Some(value) => match value.as_f64().filter(|theta| *theta > 0.0) {
                Some(theta) => Ok(theta),
                None => self.fail("rope_parameters", value, "rope_theta above 0"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn names_map_to_the_checkpoint() {
        for (family, ours, theirs) in [
            (
                Family::Bert,
                "layers.3.attention.query.weight",
                "encoder.layer.3.attention.self.query.weight",
            ),
            (
                Family::Bert,
                "layers.0.attention.output.bias",
                "encoder.layer.0.attention.output.dense.bias",
            ),
            (
                Family::Bert,
                "layers.11.attention.layer_norm.weight",
                "encoder.layer.11.attention.output.LayerNorm.weight",
            ),
            (
                Family::Bert,
                "layers.1.output.weight",
                "encoder.layer.1.output.dense.weight",
            ),
            (
                Family::Bert,
                "layers.1.layer_norm.bias",
                "encoder.layer.1.output.LayerNorm.bias",
            ),
            (
                Family::Bert,
                "embeddings.word_embeddings.weight",
                "embeddings.word_embeddings.weight",
            ),
            (
                Family::Bert,
                "embeddings.layer_norm.weight",
                "embeddings.LayerNorm.weight",
            ),
            (Family::Bert, "pooler.weight", "pooler.dense.weight"),
            (
                Family::Bert,
                "transform.weight",
                "cls.predictions.transform.dense.weight",
            ),
            (
                Family::Bert,
                "layer_norm.bias",
                "cls.predictions.transform.LayerNorm.bias",
            ),
            (Family::Bert, "bias", "cls.predictions.bias"),
            (Family::Roberta, "bias", "lm_head.bias"),
            (
                Family::DistilBert,
                "layers.1.attention.value.bias",
                "transformer.layer.1.attention.v_lin.bias",
            ),
            (
                Family::Mpnet,
                "relative_attention_bias.weight",
                "encoder.relative_attention_bias.weight",
            ),
        ] {
            let slot = family.slot(ours).unwrap();
            assert_eq!((slot.name.as_str(), slot.part), (theirs, (0, 1)));
        }
        let slot = Family::NomicBert.slot("layers.7.attention.value.weight");
        let want = Slot {
            name: "encoder.layers.7.attn.Wqkv.weight".to_owned(),
            part: (2, 3),
        };
        assert_eq!(slot, Some(want));
        for (family, absent) in [
            (
                Family::DistilBert,
                "embeddings.token_type_embeddings.weight",
            ),
            (Family::NomicBert, "layers.0.output.bias"),
            (Family::ModernBert, "layers.0.attention.layer_norm.weight"),
            (Family::ModernBert, "layers.1.layer_norm.bias"),
            (Family::JinaBert, "layers.1.gate.bias"),
        ] {
            assert_eq!(family.slot(absent), None, "{family} {absent}");
        }
    }

    #[test]
    fn families_are_told_apart() {
        for (config, want) in [
            (json!({"model_type": "bert"}), Family::Bert),
            (json!({}), Family::Bert),
            (
                json!({"model_type": "bert", "position_embedding_type": "alibi"}),
                Family::JinaBert,
            ),
            (
                json!({"auto_map": {"AutoModel": "x--modeling_bert.JinaBertModel"}}),
                Family::JinaBert,
            ),
            (
                json!({"architectures": ["NomicBertModel"]}),
                Family::NomicBert,
            ),
            (json!({"model_type": "modernbert"}), Family::ModernBert),
        ] {
            let found = Family::detect(config.as_object().unwrap(), "test").unwrap();
            assert_eq!(found, want, "{config}");
        }
        let unknown = json!({"model_type": "t5"});
        let error = Family::detect(unknown.as_object().unwrap(), "test").unwrap_err();
        for family in Family::ALL {
            let known = family.description().model_type;
            assert!(error.to_string().contains(known), "{error}");
        }
    }
}
