//! Jina embeddings v2 (Günther et al., arXiv 2310.19923): BERT's attention with slopes by distance
//! (ALiBi, Press et al., arXiv 2108.12409, applied to both sides) in place of positions, and a
//! gated feed-forward block. Its masked-word head is not read.

use kernels::Activation;
use serde_json::Value;

use super::{Architecture, Checker, Description, Positions, bert};
use crate::config::BertConfig;
use crate::error::EncoderError;

pub(super) const DESCRIPTION: Description = Description {
    model_type: "bert",
    keys: |_| &[],
    no_key: &[],
    defaults: Vec::new,
    prefix: "bert.",
    names: &[
        &[
            ("embeddings.position_embeddings", ""),
            ("layers.*.intermediate.bias", ""),
            ("layers.*.gate.bias", ""),
            (
                "layers.*.intermediate",
                "encoder.layer.*.mlp.gated_layers#0/2",
            ),
            ("layers.*.gate", "encoder.layer.*.mlp.gated_layers#1/2"),
            ("layers.*.output", "encoder.layer.*.mlp.wo"),
            ("layers.*.layer_norm", "encoder.layer.*.mlp.layernorm"),
        ],
        bert::ATTENTION,
        bert::ENDS,
    ],
    heads: &["cls."],
    ignored: &["cls.", "embeddings.position_ids"],
    head_biases: true,
    architecture,
};

fn architecture(config: &BertConfig, check: &Checker<'_>) -> Result<Architecture, EncoderError> {
    check.only("position_embedding_type", Value::from("alibi"))?;
    let kind = config
        .other
        .get("feed_forward_type")
        .and_then(Value::as_str);
    let gate = match kind {
        Some("geglu") => Activation::Gelu,
        Some("reglu") => Activation::Relu,
        other => {
            return check.fail(
                "feed_forward_type",
                other.unwrap_or("nothing"),
                "geglu or reglu",
            );
        }
    };
    let mut architecture = Architecture::bert(config);
    architecture.positions = Positions::Slopes;
    architecture.inner_bias = false;
    architecture.gate = Some(gate);
    // Dropout lies before the last map, none after it.
    architecture.rates.inner = config.hidden_dropout_prob;
    architecture.rates.output = 0.0;
    Ok(architecture)
}
