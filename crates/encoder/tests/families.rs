//! Tiny random checkpoints of every family beside BERT against what PyTorch computes with them in
//! f64.
//!
//! Fixtures: `python scripts/oracles/encoder_families.py crates/encoder/tests/fixtures`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use encoder::{
    Family, LoadOptions, MlmHead, Pooling, SentenceEncoder, TokenBatch, WeightTensor, encode_ids,
    read_safetensors,
};
use serde_json::Value;

/// Directory and family of every fixture.
const FAMILIES: [(&str, Family); 6] = [
    ("roberta", Family::Roberta),
    ("distilbert", Family::DistilBert),
    ("mpnet", Family::Mpnet),
    ("nomic_bert", Family::NomicBert),
    ("jina_bert", Family::JinaBert),
    ("modernbert", Family::ModernBert),
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/tiny_{name}"))
}

/// What PyTorch found.
struct Expected {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    length: usize,
    /// Rows of the word table whose gradients are kept.
    rows: Vec<usize>,
    loss: f64,
    masked: Vec<(usize, usize)>,
    tensors: BTreeMap<String, WeightTensor>,
}

impl Expected {
    fn read(name: &str) -> Self {
        let text = std::fs::read_to_string(fixture(name).join("expected.json")).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        let part = |key: &str| value[key].clone();
        Self {
            texts: serde_json::from_value(part("texts")).unwrap(),
            ids: serde_json::from_value(part("ids")).unwrap(),
            length: serde_json::from_value(part("length")).unwrap(),
            rows: serde_json::from_value(part("rows")).unwrap(),
            loss: part("loss").as_f64().unwrap(),
            masked: serde_json::from_value(part("masked")).unwrap(),
            tensors: read_safetensors(&fixture(name).join("expected.safetensors"), false).unwrap(),
        }
    }
}

fn load(name: &str) -> SentenceEncoder {
    let options = LoadOptions {
        dropout: Some(0.0),
        ..LoadOptions::default()
    };
    SentenceEncoder::load(&fixture(name), &options, &Device::flex()).unwrap()
}

fn worst(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter()
        .zip(want)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |worst, difference| {
            if difference.is_nan() {
                f32::INFINITY
            } else {
                worst.max(difference)
            }
        })
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

#[test]
fn families_are_recognised() {
    for (name, family) in FAMILIES {
        assert_eq!(load(name).config.family, family, "{name}");
    }
}

#[test]
fn token_ids_are_those_of_python() {
    for (name, _) in FAMILIES {
        let expected = Expected::read(name);
        let encoder = load(name);
        assert_eq!(encoder.max_len, expected.length, "{name}");
        let ids = encoder
            .tokenizer
            .encode(&expected.texts, expected.length)
            .unwrap();
        assert_eq!(ids, expected.ids, "{name}");
    }
}

#[test]
fn hidden_states_agree_within_1e_5() {
    for (name, _) in FAMILIES {
        let expected = Expected::read(name);
        let encoder = load(name);
        let batch = TokenBatch::new(&expected.ids, &Device::flex()).unwrap();
        let states = encoder.bert.forward(&batch).unwrap();
        for (key, state) in [
            ("hidden.first", &states.first),
            // Of two layers the first is the last but one.
            ("hidden.first", &states.penultimate),
            ("hidden.last", &states.last),
        ] {
            let difference = worst(&values(state.clone()), &expected.tensors[key].values);
            assert!(difference <= 1e-5, "{name} {key}: {difference}");
        }
    }
}

#[test]
fn texts_together_and_one_at_a_time_agree() {
    for (name, _) in FAMILIES {
        let expected = Expected::read(name);
        let encoder = load(name);
        let want = &expected.tensors["vectors.mean"].values;
        for batch in [1, 2, 64] {
            let got = encode_ids(
                &encoder.bert,
                Pooling::Mean,
                false,
                &expected.ids,
                batch,
                |_, _| {},
            )
            .unwrap();
            let difference = worst(&got.values, want);
            assert!(difference <= 1e-5, "{name}, batch {batch}: {difference}");
        }
    }
}

/// Puts the gradient of every parameter in its place; parameters without one become zero.
struct ToGradients<'a>(&'a Gradients);

impl ModuleMapper for ToGradients<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let gradient = param.val().grad(self.0);
        param.map(|value| {
            let value = value.inner();
            gradient.unwrap_or_else(|| value.zeros_like())
        })
    }
}

#[test]
fn one_step_gives_the_gradients_of_every_parameter() {
    for (name, _) in FAMILIES {
        let expected = Expected::read(name);
        let device = Device::flex().autodiff();
        let mut encoder = load(name);
        let bert = encoder.bert.clone().train();
        let head = encoder.mlm_head.clone().map(Module::train);
        assert_eq!(head.is_some(), !expected.masked.is_empty(), "{name}");
        let batch = TokenBatch::new(&expected.ids, &device).unwrap();
        let states = bert.forward(&batch).unwrap();
        let mean = Pooling::Mean.forward(&states, &batch, None).unwrap();
        let cls = Pooling::Cls.forward(&states, &batch, None).unwrap();
        let hidden = bert.hidden_size();
        let ramp = |reversed: bool| {
            let mut weights: Vec<f32> = (1..=hidden).map(|i| i as f32 / hidden as f32).collect();
            if reversed {
                weights.reverse();
            }
            Tensor::<2>::from_data(TensorData::new(weights, [1, hidden]), &Device::flex())
        };
        let mut loss = (mean * ramp(false)).powi_scalar(2).sum() + (cls * ramp(true)).sin().sum();
        if let Some(head) = &head {
            let rows: Vec<i32> = expected
                .masked
                .iter()
                .map(|(text, at)| batch.row(*text, *at) as i32)
                .collect();
            let rows = Tensor::<1, Int>::from_data(
                TensorData::new(rows, [expected.masked.len()]),
                &Device::flex(),
            );
            let table = bert.embeddings.word_embeddings.weight.val();
            let logits = head.forward(states.last.clone(), rows, table);
            let difference = worst(&values(logits.clone()), &expected.tensors["logits"].values);
            assert!(difference <= 1e-5, "{name} logits: {difference}");
            loss = loss + logits.exp().sum_dim(1).log().sum();
        }
        let value = f64::from(loss.clone().into_scalar::<f32>());
        assert!(
            (value - expected.loss).abs() <= 1e-5 * expected.loss.abs(),
            "{name}: {value} {}",
            expected.loss
        );

        // Written as weights, the gradients have the names and the layout of the checkpoint.
        let grads = loss.backward();
        encoder.bert = bert.map(&mut ToGradients(&grads));
        encoder.mlm_head = head.map(|head: MlmHead| head.map(&mut ToGradients(&grads)));
        let dir = tempfile::tempdir().unwrap();
        encoder.save(dir.path()).unwrap();
        let mut got = read_safetensors(&dir.path().join("model.safetensors"), false).unwrap();
        let largest = got
            .values()
            .flat_map(|t| &t.values)
            .fold(0f32, |a, b| a.max(b.abs()));
        let mut checked = 0;
        for (key, want) in &expected.tensors {
            let Some(key) = key.strip_prefix("gradient.") else {
                continue;
            };
            let mut found = got
                .remove(key)
                .unwrap_or_else(|| panic!("{name}: no {key}"));
            if key.ends_with("word_embeddings.weight") || key.ends_with("tok_embeddings.weight") {
                let width = found.shape[1];
                found.values = expected
                    .rows
                    .iter()
                    .flat_map(|row| found.values[row * width..][..width].to_vec())
                    .collect();
                found.shape[0] = expected.rows.len();
            }
            assert_eq!(found.shape, want.shape, "{name} {key}");
            // Key biases have no gradient but rounding.
            let scale = want
                .values
                .iter()
                .fold(1e-2 * largest, |a, b| a.max(b.abs()));
            let difference = worst(&found.values, &want.values);
            assert!(
                difference <= 1e-4 * scale,
                "{name} {key}: {difference} of {scale}"
            );
            checked += 1;
        }
        let all = read_safetensors(&fixture(name).join("model.safetensors"), false).unwrap();
        assert_eq!(checked, all.len(), "{name}");
        assert!(
            got.is_empty(),
            "{name}: without expectation {:?}",
            got.keys()
        );
    }
}

#[test]
fn saving_reproduces_every_file_byte_for_byte() {
    for (name, _) in FAMILIES {
        let encoder =
            SentenceEncoder::load(&fixture(name), &LoadOptions::default(), &Device::flex())
                .unwrap();
        let dir = tempfile::tempdir().unwrap();
        encoder.save(dir.path()).unwrap();
        for file in ["model.safetensors", "tokenizer.json", "config.json"] {
            let ours = std::fs::read(dir.path().join(file)).unwrap();
            let theirs = std::fs::read(fixture(name).join(file)).unwrap();
            assert!(ours == theirs, "{name}: {file} differs");
        }
        let again =
            SentenceEncoder::load(dir.path(), &LoadOptions::default(), &Device::flex()).unwrap();
        assert_eq!(again.config, encoder.config, "{name}");
    }
}

/// A configuration that changed since it was read is written under the family's own keys.
#[test]
fn a_changed_configuration_is_read_back() {
    for (name, _) in FAMILIES {
        let encoder = load(name);
        let dir = tempfile::tempdir().unwrap();
        encoder.save(dir.path()).unwrap();
        let again =
            SentenceEncoder::load(dir.path(), &LoadOptions::default(), &Device::flex()).unwrap();
        assert_eq!(again.config, encoder.config, "{name}");
        let written: Value =
            serde_json::from_slice(&std::fs::read(dir.path().join("config.json")).unwrap())
                .unwrap();
        let original: Value =
            serde_json::from_slice(&std::fs::read(fixture(name).join("config.json")).unwrap())
                .unwrap();
        for key in original.as_object().unwrap().keys() {
            assert!(written.get(key).is_some(), "{name}: {key} is lost");
        }
        for key in [
            "max_position_embeddings",
            "model_type",
            "vocab_size",
            "n_heads",
            "norm_eps",
        ] {
            assert_eq!(written.get(key), original.get(key), "{name}: {key}");
        }
    }
}

#[test]
fn parts_that_a_family_lacks_are_never_trained() {
    for (name, _) in FAMILIES {
        let encoder = load(name);
        let count = |encoder: &SentenceEncoder| {
            let dir = tempfile::tempdir().unwrap();
            encoder.save(dir.path()).unwrap();
            let file = read_safetensors(&dir.path().join("model.safetensors"), false).unwrap();
            file.values()
                .map(|tensor| tensor.values.len())
                .sum::<usize>()
        };
        let trained = |encoder: &SentenceEncoder| {
            struct Count(usize);
            impl burn::module::ModuleVisitor for Count {
                fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                    if param.is_require_grad() {
                        self.0 += param.val().shape().num_elements();
                    }
                }
            }
            let mut count = Count(0);
            // There and back, as training with evaluations in between does.
            let bert = encoder.bert.clone().train().valid().train();
            bert.visit(&mut count);
            if let Some(head) = encoder.mlm_head.clone() {
                head.train().visit(&mut count);
            }
            count.0
        };
        assert_eq!(trained(&encoder), count(&encoder), "{name}");
    }
}

#[test]
fn a_random_encoder_of_every_family_is_read_back() {
    for (name, _) in FAMILIES {
        let given = load(name);
        let (config, tokenizer) = (given.config, given.tokenizer);
        let random = |seed: u64| {
            let device = Device::flex();
            SentenceEncoder::random(
                config.clone(),
                tokenizer.clone(),
                Pooling::Mean,
                seed,
                &device,
            )
            .unwrap()
        };
        let encoder = random(3);
        let dir = tempfile::tempdir().unwrap();
        encoder.save(dir.path()).unwrap();
        let again =
            SentenceEncoder::load(dir.path(), &LoadOptions::default(), &Device::flex()).unwrap();
        let texts = ["play the song", ""];
        let vectors = encoder.encode(&texts, 2).unwrap();
        assert_eq!(again.encode(&texts, 2).unwrap(), vectors, "{name}");
        assert_ne!(random(4).encode(&texts, 2).unwrap(), vectors, "{name}");
    }
}

#[test]
fn dropout_changes_training_and_never_inference() {
    for (name, _) in FAMILIES {
        let options = LoadOptions {
            dropout: Some(0.5),
            ..LoadOptions::default()
        };
        let encoder = SentenceEncoder::load(&fixture(name), &options, &Device::flex()).unwrap();
        let ids = vec![vec![2u32, 6, 7, 8, 3]; 2];
        let batch = TokenBatch::new(&ids, &Device::flex()).unwrap();
        let train = encoder.bert.clone().train();
        let vectors = values(
            SentenceEncoder::pool(&train, Pooling::Mean, &batch)
                .unwrap()
                .inner(),
        );
        assert_ne!(
            vectors[..24],
            vectors[24..],
            "{name}: two equal rows draw different masks"
        );
        let plain = encoder.encode(&["a", "a"], 2).unwrap();
        assert_eq!(plain.row(0), plain.row(1), "{name}");
    }
}

#[test]
fn a_text_beyond_the_positions_is_refused_by_the_model() {
    for (name, _) in FAMILIES {
        let encoder = load(name);
        let batch = TokenBatch::new(&[vec![2u32; 29]], &Device::flex()).unwrap();
        let error = encoder.bert.forward(&batch).unwrap_err().to_string();
        assert!(
            error.contains("28") && error.contains("29"),
            "{name}: {error}"
        );
    }
}

/// Published NomicBERT checkpoints state their sizes under the keys of GPT-2.
#[test]
fn nomic_sizes_are_read_under_their_published_keys() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["model.safetensors", "tokenizer.json"] {
        std::fs::copy(fixture("nomic_bert").join(file), dir.path().join(file)).unwrap();
    }
    let config = r#"{"model_type": "nomic_bert", "n_embd": 24, "n_layer": 2, "n_head": 4, "n_inner": 28,
        "n_positions": 64, "max_trained_positions": 28, "rotary_scaling_factor": 2, "activation_function": "swiglu",
        "layer_norm_epsilon": 1e-12, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "prenorm": false,
        "qkv_proj_bias": false, "mlp_fc1_bias": false, "mlp_fc2_bias": false, "rotary_emb_base": 1000,
        "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": false, "type_vocab_size": 2, "vocab_size": 39}"#;
    std::fs::write(dir.path().join("config.json"), config).unwrap();
    let ours = SentenceEncoder::load(dir.path(), &LoadOptions::default(), &Device::flex()).unwrap();
    assert_eq!(ours.config.max_position_embeddings, 28);
    let texts = ["play the song", "what is the weather"];
    assert_eq!(ours.encode(&texts, 2).unwrap().values, {
        let mut other = load("nomic_bert");
        other.normalize = ours.normalize;
        other.encode(&texts, 2).unwrap().values
    });
    let changed = config.replace(
        "\"rotary_emb_fraction\": 1.0",
        "\"rotary_emb_fraction\": 0.5",
    );
    std::fs::write(dir.path().join("config.json"), changed).unwrap();
    let error = SentenceEncoder::load(dir.path(), &LoadOptions::default(), &Device::flex());
    assert!(
        error
            .err()
            .unwrap()
            .to_string()
            .contains("rotary_emb_fraction")
    );
}
