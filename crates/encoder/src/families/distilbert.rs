//! DistilBERT (Sanh et al., arXiv 1910.01108): BERT's layers without segments, pooler, and the
//! dropout after the output map of the attention.

use serde_json::Value;

use super::{Architecture, Checker, Description, bert};
use crate::config::BertConfig;
use crate::error::EncoderError;

pub(super) const DESCRIPTION: Description = Description {
    model_type: "distilbert",
    keys: |_| {
        &[
            ("dim", "hidden_size"),
            ("n_layers", "num_hidden_layers"),
            ("n_heads", "num_attention_heads"),
            ("hidden_dim", "intermediate_size"),
            ("activation", "hidden_act"),
            ("dropout", "hidden_dropout_prob"),
            ("attention_dropout", "attention_probs_dropout_prob"),
        ]
    },
    no_key: &["type_vocab_size", "layer_norm_eps"],
    defaults: || vec![("max_position_embeddings", Value::from(512))],
    prefix: "distilbert.",
    // The family has no pooler; SimCSE's head is kept under the name other families use.
    names: &[
        bert::ENDS,
        &[
            ("embeddings.token_type_embeddings", ""),
            (
                "layers.*.attention.query",
                "transformer.layer.*.attention.q_lin",
            ),
            (
                "layers.*.attention.key",
                "transformer.layer.*.attention.k_lin",
            ),
            (
                "layers.*.attention.value",
                "transformer.layer.*.attention.v_lin",
            ),
            (
                "layers.*.attention.output",
                "transformer.layer.*.attention.out_lin",
            ),
            (
                "layers.*.attention.layer_norm",
                "transformer.layer.*.sa_layer_norm",
            ),
            ("layers.*.intermediate", "transformer.layer.*.ffn.lin1"),
            ("layers.*.output", "transformer.layer.*.ffn.lin2"),
            (
                "layers.*.layer_norm",
                "transformer.layer.*.output_layer_norm",
            ),
            // Not part of the published family; SimCSE's head is kept under the name other families
            // use.
            ("pooler", "pooler.dense"),
            ("transform", "vocab_transform"),
            ("layer_norm", "vocab_layer_norm"),
            ("bias", "vocab_projector.bias"),
        ],
    ],
    heads: &["vocab_"],
    ignored: &["embeddings.position_ids", "vocab_projector.weight"],
    head_biases: true,
    architecture,
};

fn architecture(config: &BertConfig, check: &Checker<'_>) -> Result<Architecture, EncoderError> {
    check.activation(&["gelu"])?;
    let mut architecture = Architecture::bert(config);
    architecture.segments = false;
    architecture.rates.attention_output = 0.0;
    Ok(architecture)
}
