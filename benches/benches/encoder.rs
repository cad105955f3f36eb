//! The encoder at MiniLM's size with random weights: inference, and a training step with AdamW.
//!
//! Ids carry layers x width, batch x tokens, and for training the dropout rate.
//! `benches/peers/run.sh --only encoder` puts PyTorch beside it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use burn::module::Module;
use burn::tensor::Device;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use encoder::{BertConfig, BertModel, Pooling, SentenceEncoder, TokenBatch};
use training::{AdamW, AdamWConfig};

fn minilm() -> BertConfig {
    let [vocabulary, hidden, layers, heads, intermediate, positions] = benches::MINILM;
    let mut config = BertConfig::tiny(vocabulary).with_dropout(0.0);
    config.hidden_size = hidden;
    config.num_hidden_layers = layers;
    config.num_attention_heads = heads;
    config.intermediate_size = intermediate;
    config.max_position_embeddings = positions;
    config
}

fn encoder(c: &mut Criterion) {
    kernels::tune_allocator();
    let device = Device::flex();
    let model = BertModel::random(&minilm(), 0, &device).unwrap();
    let mut group = c.benchmark_group("bert_6x384");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    for (batch, length) in [(64, 16), (64, 32), (64, 128)] {
        let rows = benches::token_rows(batch, length);
        let tokens = TokenBatch::new(&rows, &device).unwrap();
        group.bench_function(
            BenchmarkId::new("forward", format!("{batch}x{length}")),
            |b| {
                b.iter(|| {
                    let pooled =
                        SentenceEncoder::pool(&model, Pooling::Mean, black_box(&tokens)).unwrap();
                    pooled.sum().into_scalar::<f32>()
                });
            },
        );
        let device = device.clone().autodiff();
        let tokens = TokenBatch::new(&rows, &device).unwrap();
        let mut optimizer = AdamW::new(AdamWConfig::default()).unwrap();
        let mut trained = Some(model.clone().train());
        group.bench_function(
            BenchmarkId::new("training_step", format!("{batch}x{length}/dropout=0")),
            |b| {
                b.iter(|| {
                    let model = trained.take().unwrap();
                    let pooled =
                        SentenceEncoder::pool(&model, Pooling::Mean, black_box(&tokens)).unwrap();
                    let mut grads = pooled.powi_scalar(2).mean().backward();
                    trained = Some(optimizer.step(1e-5, model, &mut grads, 1.0).unwrap());
                });
            },
        );
    }
    group.finish();
}

criterion_group!(benches, encoder);
criterion_main!(benches);
