//! MPNet (Song et al., arXiv 2004.09297): BERT's layers without segments, positions from 2, and a
//! bias of the attention scores by the bucket of the distance, shared by all layers.

use serde_json::Value;

use super::{Architecture, Checker, Description, Positions, bert, roberta};
use crate::config::BertConfig;
use crate::error::EncoderError;

/// The padding id of the position table is 1 whatever the tokenizer says; positions start behind
/// it.
pub(super) const OFFSET: usize = 2;

/// The reference counts in 32 buckets whatever `relative_attention_num_buckets` says.
const BUCKETS: usize = 32;

pub(super) const DESCRIPTION: Description = Description {
    model_type: "mpnet",
    keys: |_| &[],
    no_key: &["type_vocab_size"],
    defaults: || vec![("pad_token_id", Value::from(1))],
    prefix: "mpnet.",
    names: &[
        &[
            ("embeddings.token_type_embeddings", ""),
            (
                "layers.*.attention.query",
                "encoder.layer.*.attention.attn.q",
            ),
            ("layers.*.attention.key", "encoder.layer.*.attention.attn.k"),
            (
                "layers.*.attention.value",
                "encoder.layer.*.attention.attn.v",
            ),
            (
                "layers.*.attention.output",
                "encoder.layer.*.attention.attn.o",
            ),
            (
                "layers.*.attention.layer_norm",
                "encoder.layer.*.attention.LayerNorm",
            ),
            ("relative_attention_bias", "encoder.relative_attention_bias"),
        ],
        bert::FEED_FORWARD,
        bert::ENDS,
        roberta::HEAD,
    ],
    heads: &["lm_head."],
    ignored: &["embeddings.position_ids", "lm_head.decoder."],
    head_biases: true,
    architecture,
};

fn architecture(config: &BertConfig, check: &Checker<'_>) -> Result<Architecture, EncoderError> {
    check.activation(&["gelu"])?;
    check.only("relative_attention_num_buckets", Value::from(BUCKETS))?;
    let mut architecture = Architecture::bert(config);
    architecture.segments = false;
    architecture.positions = Positions::TableAndBuckets {
        offset: OFFSET,
        buckets: BUCKETS,
    };
    Ok(architecture)
}
