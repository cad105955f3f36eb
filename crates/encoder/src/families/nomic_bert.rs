//! NomicBERT (Nussbaum et al., arXiv 2402.01613): post-norm layers with rotary positions, SwiGLU,
//! and no biases in the linear maps. The masked-word head of its pre-training checkpoints is not
//! read.

use kernels::Activation;
use serde_json::Value;

use super::{Architecture, Checker, Description, Positions};
use crate::config::BertConfig;
use crate::error::EncoderError;

pub(super) const DESCRIPTION: Description = Description {
    model_type: "nomic_bert",
    // Published checkpoints use the keys of GPT-2, transformers those of BERT.
    keys: |config| match config.contains_key("rotary_emb_fraction") {
        true => &GPT2_KEYS,
        false => &[],
    },
    no_key: &[],
    defaults: || {
        vec![
            ("hidden_act", Value::from("silu")),
            ("hidden_dropout_prob", Value::from(0.0)),
            ("attention_probs_dropout_prob", Value::from(0.0)),
            ("max_position_embeddings", Value::from(2048)),
        ]
    },
    prefix: "bert.",
    names: &[&[
        ("embeddings.position_embeddings", ""),
        ("embeddings.layer_norm", "emb_ln"),
        ("layers.*.attention.query.bias", ""),
        ("layers.*.attention.key.bias", ""),
        ("layers.*.attention.value.bias", ""),
        ("layers.*.attention.output.bias", ""),
        ("layers.*.intermediate.bias", ""),
        ("layers.*.gate.bias", ""),
        ("layers.*.output.bias", ""),
        ("layers.*.attention.query", "encoder.layers.*.attn.Wqkv#0/3"),
        ("layers.*.attention.key", "encoder.layers.*.attn.Wqkv#1/3"),
        ("layers.*.attention.value", "encoder.layers.*.attn.Wqkv#2/3"),
        (
            "layers.*.attention.output",
            "encoder.layers.*.attn.out_proj",
        ),
        ("layers.*.attention.layer_norm", "encoder.layers.*.norm1"),
        // The second map is the one under the activation.
        ("layers.*.intermediate", "encoder.layers.*.mlp.fc12"),
        ("layers.*.gate", "encoder.layers.*.mlp.fc11"),
        ("layers.*.output", "encoder.layers.*.mlp.fc2"),
        ("layers.*.layer_norm", "encoder.layers.*.norm2"),
        ("pooler", "pooler.dense"),
    ]],
    heads: &["cls."],
    ignored: &["cls.", "embeddings.position_ids"],
    head_biases: true,
    architecture,
};

/// Keys of published checkpoints and the fields they stand for.
const GPT2_KEYS: [(&str, &str); 9] = [
    ("n_embd", "hidden_size"),
    ("n_layer", "num_hidden_layers"),
    ("n_head", "num_attention_heads"),
    ("n_inner", "intermediate_size"),
    ("n_positions", "max_position_embeddings"),
    ("activation_function", "hidden_act"),
    ("layer_norm_epsilon", "layer_norm_eps"),
    ("resid_pdrop", "hidden_dropout_prob"),
    ("attn_pdrop", "attention_probs_dropout_prob"),
];

fn architecture(config: &BertConfig, check: &Checker<'_>) -> Result<Architecture, EncoderError> {
    check.activation(&["silu", "swiglu"])?;
    check.even_heads()?;
    for field in ["prenorm", "use_rms_norm", "qkv_proj_bias"] {
        check.only(field, Value::from(false))?;
    }
    for field in ["mlp_fc1_bias", "mlp_fc2_bias", "rotary_emb_interleaved"] {
        check.only(field, Value::from(false))?;
    }
    check.only("rotary_emb_fraction", Value::from(1.0))?;
    let head = config.hidden_size / config.num_attention_heads.max(1);
    check.only("head_dim", Value::from(head))?;
    let theta = check.theta(
        config.other.get("rope_parameters"),
        check.positive("rotary_emb_base", 1000.0)?,
    )?;
    let mut architecture = Architecture::bert(config);
    architecture.positions = Positions::Rotary {
        theta,
        local_theta: theta,
        window: usize::MAX,
    };
    architecture.attention_bias = false;
    architecture.inner_bias = false;
    architecture.outer_bias = false;
    architecture.gate = Some(Activation::Silu);
    architecture.rates.embedding = check.rate("embd_pdrop", config.hidden_dropout_prob)?;
    Ok(architecture)
}

/// Texts beyond the trained length would need frequencies scaled by the length, which is not done:
/// the limit is the trained length then.
pub(super) fn longest(config: &BertConfig) -> usize {
    let trained = config
        .other
        .get("max_trained_positions")
        .and_then(Value::as_u64)
        .map_or(usize::MAX, |positions| positions as usize);
    let scaled = config
        .other
        .get("rotary_scaling_factor")
        .is_some_and(|factor| !factor.is_null());
    if scaled {
        config.max_position_embeddings.min(trained)
    } else {
        config.max_position_embeddings
    }
}
