//! A tiny random checkpoint against what transformers computes with it in f64.
//!
//! Fixture and expectations: `python scripts/oracles/encoder.py crates/encoder/tests/fixtures/tiny_bert`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use encoder::{BertModel, LoadOptions, Pooling, SentenceEncoder, TokenBatch, encode_ids};
use kernels::Precision;
use serde_json::Value;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_bert")
}

fn expected() -> Value {
    let text = std::fs::read_to_string(fixture().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    value["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap() as f32)
        .collect()
}

fn load(device: &Device) -> SentenceEncoder {
    let options = LoadOptions {
        dropout: Some(0.0),
        ..LoadOptions::default()
    };
    SentenceEncoder::load(&fixture(), &options, device).unwrap()
}

fn texts(expected: &Value) -> Vec<String> {
    expected["texts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t.as_str().unwrap().to_owned())
        .collect()
}

fn worst(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter()
        .zip(want)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[test]
fn token_ids_are_those_of_python() {
    let expected = expected();
    let encoder = load(&Device::flex());
    let ids = encoder.tokenizer.encode(&texts(&expected), 16).unwrap();
    let want: Vec<Vec<u32>> = serde_json::from_value(expected["ids"].clone()).unwrap();
    assert_eq!(ids, want);
}

#[test]
fn every_pooling_agrees_within_1e_5_whatever_the_batching() {
    let expected = expected();
    let encoder = load(&Device::flex());
    let ids = encoder.tokenizer.encode(&texts(&expected), 16).unwrap();
    for (name, want) in expected["vectors"].as_object().unwrap() {
        let pooling: Pooling = name.parse().unwrap();
        let want = floats(want);
        for batch in [1, 2, 3, 64] {
            let got = encode_ids(&encoder.bert, pooling, false, &ids, batch, |_, _| {}).unwrap();
            let difference = worst(&got.values, &want);
            assert!(difference <= 1e-5, "{name}, batch {batch}: {difference}");
        }
    }
}

/// Collects gradients under the path of their parameter.
struct Find<'a> {
    grads: &'a Gradients,
    path: Vec<String>,
    found: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl ModuleVisitor for Find<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = param.val().grad(self.grads) {
            let shape = grad.dims().to_vec();
            self.found.push((
                self.path.join("."),
                shape,
                grad.into_data().iter::<f32>().collect(),
            ));
        }
    }
}

#[test]
fn mlm_logits_and_gradients_agree() {
    let expected = expected();
    let device = Device::flex().autodiff();
    let encoder = load(&Device::flex());
    let bert = encoder.bert.clone().train();
    let head = encoder.mlm_head.clone().unwrap().train();
    let ids = encoder.tokenizer.encode(&texts(&expected), 16).unwrap();
    let batch = TokenBatch::new(&ids, &device).unwrap();
    let states = bert.forward(&batch).unwrap();
    let pooled = Pooling::Mean.forward(&states, &batch, None).unwrap();
    let positions: Vec<(usize, usize)> =
        serde_json::from_value(expected["mlm_positions"].clone()).unwrap();
    let flat: Vec<i32> = positions
        .iter()
        .map(|(row, at)| batch.row(*row, *at) as i32)
        .collect();
    let selected = Tensor::<1, Int>::from_data(TensorData::new(flat, [positions.len()]), &device);
    let logits = head.forward(
        states.last,
        selected,
        bert.embeddings.word_embeddings.weight.val(),
    );
    let got: Vec<f32> = logits.clone().into_data().try_to_vec().unwrap();
    assert!(worst(&got, &floats(&expected["mlm_logits"])) <= 1e-5);

    let weights: Vec<f32> = (1..=24).map(|i| i as f32 / 24.0).collect();
    let weights = Tensor::<2>::from_data(TensorData::new(weights, [1, 24]), &device);
    let loss = (pooled * weights).powi_scalar(2).sum() + logits.exp().sum_dim(1).log().sum();
    let value = loss.clone().into_scalar::<f32>();
    let want = expected["loss"].as_f64().unwrap() as f32;
    assert!((value - want).abs() <= 1e-5 * want.abs(), "{value} {want}");

    let grads = loss.backward();
    let mut find = Find {
        grads: &grads,
        path: Vec::new(),
        found: Vec::new(),
    };
    bert.visit(&mut find);
    head.visit(&mut find);
    let names = [
        (
            "bert.embeddings.word_embeddings.weight",
            "embeddings.word_embeddings.weight",
            false,
        ),
        (
            "bert.embeddings.position_embeddings.weight",
            "embeddings.position_embeddings.weight",
            false,
        ),
        (
            "bert.embeddings.LayerNorm.weight",
            "embeddings.layer_norm.weight",
            false,
        ),
        (
            "bert.encoder.layer.0.attention.self.query.weight",
            "layers.0.attention.query.weight",
            true,
        ),
        (
            "bert.encoder.layer.1.attention.self.value.bias",
            "layers.1.attention.value.bias",
            false,
        ),
        (
            "bert.encoder.layer.2.attention.output.dense.weight",
            "layers.2.attention.output.weight",
            true,
        ),
        (
            "bert.encoder.layer.0.attention.output.LayerNorm.bias",
            "layers.0.attention.layer_norm.bias",
            false,
        ),
        (
            "bert.encoder.layer.1.intermediate.dense.weight",
            "layers.1.intermediate.weight",
            true,
        ),
        (
            "bert.encoder.layer.2.output.LayerNorm.weight",
            "layers.2.layer_norm.weight",
            false,
        ),
        (
            "cls.predictions.transform.dense.weight",
            "transform.weight",
            true,
        ),
        ("cls.predictions.bias", "bias", false),
    ];
    assert_eq!(
        names.len(),
        expected["gradients"].as_object().unwrap().len()
    );
    for (theirs, ours, transposed) in names {
        let want = floats(&expected["gradients"][theirs]);
        let (_, shape, got) = find
            .found
            .iter()
            .find(|(path, _, _)| path == ours)
            .unwrap_or_else(|| panic!("{ours}"));
        let got = if transposed {
            let (rows, columns) = (shape[0], shape[1]);
            (0..columns)
                .flat_map(|c| (0..rows).map(move |r| got[r * columns + c]))
                .collect()
        } else {
            got.clone()
        };
        let scale = want.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        let difference = worst(&got, &want);
        assert!(
            difference <= 1e-4 * scale,
            "{theirs}: {difference} of {scale}"
        );
    }
}

#[test]
fn saving_reproduces_the_weights_byte_for_byte() {
    let encoder =
        SentenceEncoder::load(&fixture(), &LoadOptions::default(), &Device::flex()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    encoder.save(dir.path()).unwrap();
    for name in ["model.safetensors", "tokenizer.json", "config.json"] {
        let (ours, theirs) = (
            std::fs::read(dir.path().join(name)).unwrap(),
            std::fs::read(fixture().join(name)).unwrap(),
        );
        assert!(ours == theirs, "{name} differs");
    }
    let again =
        SentenceEncoder::load(dir.path(), &LoadOptions::default(), &Device::flex()).unwrap();
    let texts = ["play the song", ""];
    assert_eq!(encoder.encode(&texts, 8).unwrap().rows(), 2);
    assert_eq!(again.encode(&texts, 8).unwrap(), {
        let mut encoder = encoder;
        encoder.normalize = again.normalize;
        encoder.encode(&texts, 8).unwrap()
    });
}

#[test]
fn a_text_longer_than_the_position_table_is_refused_by_the_model() {
    let encoder = load(&Device::flex());
    let batch = TokenBatch::new(&[vec![2u32; 17]], &Device::flex()).unwrap();
    let error = encoder.bert.forward(&batch).unwrap_err().to_string();
    assert!(error.contains("16") && error.contains("17"), "{error}");
}

/// Pooled vectors of two texts, and the gradients of a loss over them towards weights of the table and of every
/// map of a layer, after `configure`.
fn vectors_and_gradients(configure: impl Fn(&mut BertModel)) -> Vec<Vec<f32>> {
    let encoder = load(&Device::flex());
    let ids = vec![vec![2u32, 6, 7, 8, 3], vec![2, 9, 3]];
    let batch = TokenBatch::new(&ids, &Device::flex()).unwrap();
    let mut bert = encoder.bert.train();
    configure(&mut bert);
    let vectors = SentenceEncoder::pool(&bert, Pooling::Mean, &batch).unwrap();
    let grads = vectors.clone().powi_scalar(3).sum().backward();
    let layer = &bert.layers[0];
    let mut all = vec![vectors.into_data().try_to_vec().unwrap()];
    for weight in [
        &layer.attention.value.weight,
        &layer.attention.output.weight,
        &layer.intermediate.weight,
        &layer.output.weight,
        &layer.attention.key.weight,
        &bert.embeddings.word_embeddings.weight,
    ] {
        let grad = weight.val().grad(&grads).unwrap();
        all.push(grad.into_data().try_to_vec().unwrap());
    }
    all
}

#[test]
fn gradient_checkpointing_changes_no_bit() {
    let run = |on| vectors_and_gradients(|bert| bert.set_gradient_checkpointing(on));
    assert_eq!(run(false), run(true));
}

#[test]
fn bf16_is_near_f32_in_value_and_gradient_and_recomputes_to_the_same_bits() {
    let run = |precision, recompute| {
        vectors_and_gradients(|bert| {
            bert.set_precision(precision);
            bert.set_gradient_checkpointing(recompute);
        })
    };
    let (f32, bf16) = (run(Precision::F32, false), run(Precision::Bf16, false));
    // Vectors and the gradients of four maps; those of keys and table are compared bit for bit only, below.
    for (at, (a, b)) in f32.iter().zip(&bf16).enumerate().take(5) {
        let dot = |x: &[f32], y: &[f32]| -> f64 {
            x.iter()
                .zip(y)
                .map(|(x, y)| f64::from(*x) * f64::from(*y))
                .sum()
        };
        let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        assert!(
            cosine > 0.999 && cosine < 1.0 - 1e-9,
            "{at}: cosine {cosine}"
        );
    }
    assert_eq!(bf16, run(Precision::Bf16, true));
}

#[test]
fn dropout_changes_training_and_never_inference() {
    let options = LoadOptions {
        dropout: Some(0.5),
        ..LoadOptions::default()
    };
    let encoder = SentenceEncoder::load(&fixture(), &options, &Device::flex()).unwrap();
    let ids = vec![vec![2u32, 6, 7, 8, 3]; 2];
    let device = Device::flex().autodiff();
    let batch = TokenBatch::new(&ids, &device).unwrap();
    let train = encoder.bert.clone().train();
    let run = |seed: u64| -> Vec<f32> {
        device.seed(seed);
        let vectors = SentenceEncoder::pool(&train, Pooling::Mean, &batch).unwrap();
        vectors.inner().into_data().try_to_vec().unwrap()
    };
    let first = run(1);
    assert_ne!(
        first[..24],
        first[24..],
        "two equal rows draw different masks"
    );
    let plain = encoder.encode(&["a", "a"], 2).unwrap();
    assert_eq!(plain.row(0), plain.row(1));
}
