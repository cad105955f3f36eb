//! ModernBERT (Warner et al., arXiv 2412.13663): pre-norm layers without biases, rotary positions,
//! GEGLU; all layers but every third see a window of the text only. The first layer has no norm
//! before its attention.

use kernels::Activation;
use serde_json::Value;

use super::{Architecture, Checker, Description, Positions, Rates};
use crate::config::BertConfig;
use crate::error::EncoderError;

pub(super) const DESCRIPTION: Description = Description {
    model_type: "modernbert",
    keys: |_| {
        &[
            ("hidden_activation", "hidden_act"),
            ("norm_eps", "layer_norm_eps"),
            ("mlp_dropout", "hidden_dropout_prob"),
            ("attention_dropout", "attention_probs_dropout_prob"),
        ]
    },
    no_key: &["type_vocab_size"],
    defaults: || {
        vec![
            ("layer_norm_eps", Value::from(1e-5)),
            ("hidden_dropout_prob", Value::from(0.0)),
            ("attention_probs_dropout_prob", Value::from(0.0)),
            ("pad_token_id", Value::from(50283)),
        ]
    },
    prefix: "model.",
    names: &[&[
        ("embeddings.position_embeddings", ""),
        ("embeddings.token_type_embeddings", ""),
        ("embeddings.layer_norm.bias", ""),
        ("layers.0.attention.layer_norm", ""),
        ("layers.*.attention.layer_norm.bias", ""),
        ("layers.*.layer_norm.bias", ""),
        ("layers.*.attention.query.bias", ""),
        ("layers.*.attention.key.bias", ""),
        ("layers.*.attention.value.bias", ""),
        ("layers.*.attention.output.bias", ""),
        ("layers.*.intermediate.bias", ""),
        ("layers.*.gate.bias", ""),
        ("layers.*.output.bias", ""),
        ("final_norm.bias", ""),
        ("transform.bias", ""),
        ("layer_norm.bias", ""),
        ("embeddings.word_embeddings", "embeddings.tok_embeddings"),
        ("embeddings.layer_norm", "embeddings.norm"),
        ("layers.*.attention.query", "layers.*.attn.Wqkv#0/3"),
        ("layers.*.attention.key", "layers.*.attn.Wqkv#1/3"),
        ("layers.*.attention.value", "layers.*.attn.Wqkv#2/3"),
        ("layers.*.attention.output", "layers.*.attn.Wo"),
        ("layers.*.attention.layer_norm", "layers.*.attn_norm"),
        ("layers.*.intermediate", "layers.*.mlp.Wi#0/2"),
        ("layers.*.gate", "layers.*.mlp.Wi#1/2"),
        ("layers.*.output", "layers.*.mlp.Wo"),
        ("layers.*.layer_norm", "layers.*.mlp_norm"),
        ("final_norm", "final_norm"),
        ("pooler", "pooler.dense"),
        ("transform", "head.dense"),
        ("layer_norm", "head.norm"),
        ("bias", "decoder.bias"),
    ]],
    heads: &["head.", "decoder."],
    ignored: &["decoder.weight"],
    head_biases: false,
    architecture,
};

fn architecture(config: &BertConfig, check: &Checker<'_>) -> Result<Architecture, EncoderError> {
    check.activation(&["gelu"])?;
    check.even_heads()?;
    for field in ["norm_bias", "attention_bias", "mlp_bias", "classifier_bias"] {
        check.only(field, Value::from(false))?;
    }
    check.only("decoder_bias", Value::from(true))?;
    check.only("classifier_activation", Value::from("gelu"))?;
    let rope = config.other.get("rope_parameters");
    let theta = check.theta(
        rope.and_then(|rope| rope.get("full_attention")),
        check.positive("global_rope_theta", 160_000.0)?,
    )?;
    let local_theta = check.theta(
        rope.and_then(|rope| rope.get("sliding_attention")),
        check.positive("local_rope_theta", 10_000.0)?,
    )?;
    let window = check.positive("local_attention", 128.0)? as usize / 2;
    let attention = config.attention_probs_dropout_prob;
    Ok(Architecture {
        positions: Positions::Rotary {
            theta,
            local_theta,
            window,
        },
        segments: false,
        attention_bias: false,
        inner_bias: false,
        outer_bias: false,
        norm_bias: false,
        gate: Some(Activation::Gelu),
        pre_norm: true,
        local: local_layers(config, check)?,
        rates: Rates {
            embedding: check.rate("embedding_dropout", 0.0)?,
            attention_output: attention,
            inner: config.hidden_dropout_prob,
            output: 0.0,
        },
    })
}

/// `layer_types` where it is given, else every `global_attn_every_n_layers`-th layer from the first
/// is global.
fn local_layers(config: &BertConfig, check: &Checker<'_>) -> Result<Vec<bool>, EncoderError> {
    let layers = config.num_hidden_layers;
    let Some(types) = config.other.get("layer_types").filter(|t| !t.is_null()) else {
        let every = check.positive("global_attn_every_n_layers", 3.0)?.max(1.0) as usize;
        return Ok((0..layers).map(|layer| layer % every != 0).collect());
    };
    let local: Option<Vec<bool>> = types.as_array().and_then(|types| {
        types
            .iter()
            .map(|kind| match kind.as_str() {
                Some("full_attention") => Some(false),
                Some("sliding_attention") => Some(true),
                _ => None,
            })
            .collect()
    });
    match local {
        Some(local) if local.len() == layers => Ok(local),
        _ => check.fail(
            "layer_types",
            types,
            format!("{layers} of full_attention or sliding_attention"),
        ),
    }
}
