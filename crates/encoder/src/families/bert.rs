//! BERT (Devlin et al., arXiv 1810.04805): post-norm layers, learned positions, two segments.

use serde_json::Value;

use super::{Architecture, Checker, Description, Pairs};
use crate::config::BertConfig;
use crate::error::EncoderError;

/// Names of the attention.
pub(super) const ATTENTION: Pairs = &[
    (
        "layers.*.attention.query",
        "encoder.layer.*.attention.self.query",
    ),
    (
        "layers.*.attention.key",
        "encoder.layer.*.attention.self.key",
    ),
    (
        "layers.*.attention.value",
        "encoder.layer.*.attention.self.value",
    ),
    (
        "layers.*.attention.output",
        "encoder.layer.*.attention.output.dense",
    ),
    (
        "layers.*.attention.layer_norm",
        "encoder.layer.*.attention.output.LayerNorm",
    ),
];

/// Names of the feed-forward block.
pub(super) const FEED_FORWARD: Pairs = &[
    (
        "layers.*.intermediate",
        "encoder.layer.*.intermediate.dense",
    ),
    ("layers.*.output", "encoder.layer.*.output.dense"),
    ("layers.*.layer_norm", "encoder.layer.*.output.LayerNorm"),
];

/// Names in front of the layers and behind them.
pub(super) const ENDS: Pairs = &[
    ("embeddings.layer_norm", "embeddings.LayerNorm"),
    ("pooler", "pooler.dense"),
];

pub(super) const DESCRIPTION: Description = Description {
    model_type: "bert",
    keys: |_| &[],
    no_key: &[],
    defaults: Vec::new,
    prefix: "bert.",
    names: &[
        ATTENTION,
        FEED_FORWARD,
        ENDS,
        &[
            ("transform", "cls.predictions.transform.dense"),
            ("layer_norm", "cls.predictions.transform.LayerNorm"),
            ("bias", "cls.predictions.bias"),
        ],
    ],
    heads: &["cls."],
    ignored: &[
        "embeddings.position_ids",
        "embeddings.token_type_ids",
        "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
        "cls.seq_relationship.",
    ],
    head_biases: true,
    architecture,
};

fn architecture(config: &BertConfig, check: &Checker<'_>) -> Result<Architecture, EncoderError> {
    check.activation(&["gelu"])?;
    check.only("position_embedding_type", Value::from("absolute"))?;
    Ok(Architecture::bert(config))
}
