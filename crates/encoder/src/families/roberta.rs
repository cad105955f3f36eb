//! RoBERTa (Liu et al., arXiv 1907.11692): BERT's layers, positions counted from the padding id,
//! byte-level BPE.

use serde_json::Value;

use super::{Architecture, Checker, Description, Family, Pairs, Positions, bert};
use crate::config::BertConfig;
use crate::error::EncoderError;

/// Names of the masked-word head.
pub(super) const HEAD: Pairs = &[
    ("transform", "lm_head.dense"),
    ("layer_norm", "lm_head.layer_norm"),
    ("bias", "lm_head.bias"),
];

pub(super) const DESCRIPTION: Description = Description {
    model_type: "roberta",
    keys: |_| &[],
    no_key: &[],
    defaults: || vec![("pad_token_id", Value::from(1))],
    prefix: "roberta.",
    names: &[bert::ATTENTION, bert::FEED_FORWARD, bert::ENDS, HEAD],
    heads: &["lm_head."],
    ignored: &[
        "embeddings.position_ids",
        "embeddings.token_type_ids",
        "lm_head.decoder.",
    ],
    head_biases: true,
    architecture,
};

fn architecture(config: &BertConfig, check: &Checker<'_>) -> Result<Architecture, EncoderError> {
    check.activation(&["gelu"])?;
    check.only("position_embedding_type", Value::from("absolute"))?;
    let mut architecture = Architecture::bert(config);
    architecture.positions = Positions::Table {
        offset: Family::Roberta.position_offset(config.pad_token_id),
    };
    Ok(architecture)
}
