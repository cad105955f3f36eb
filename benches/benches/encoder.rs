//! The encoder at MiniLM's size with random weights: inference, and a training step with AdamW.
//!
//! Ids carry layers x width, batch x tokens. `benches/peers/encoder_step.sh` puts PyTorch beside it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use burn::module::Module;
use burn::tensor::Device;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use encoder::{BertConfig, BertModel, Pooling, SentenceEncoder, TokenBatch};
use training::{AdamW, AdamWConfig};

fn minilm() -> BertConfig {
    let mut config = BertConfig::tiny(30_522).with_dropout(0.0);
    config.hidden_size = 384;
    config.num_hidden_layers = 6;
    config.num_attention_heads = 12;
    config.intermediate_size = 1536;
    config.max_position_embeddings = 512;
    config
}

fn rows(batch: usize, length: usize) -> Vec<Vec<u32>> {
    (0..batch)
        .map(|row| {
            (0..length)
                .map(|at| 1000 + ((row * 131 + at * 17) % 20_000) as u32)
                .collect()
        })
        .collect()
}

fn encoder(c: &mut Criterion) {
    kernels::tune_allocator();
    let device = Device::flex();
    let model = BertModel::random(&minilm(), 0, &device).unwrap();
    let mut group = c.benchmark_group("bert_6x384");
    group.sample_size(10);
    for (batch, length) in [(64, 16), (64, 32)] {
        let tokens = TokenBatch::new(&rows(batch, length), 0, &device).unwrap();
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
        let tokens = TokenBatch::new(&rows(batch, length), 0, &device).unwrap();
        let mut optimizer = AdamW::new(AdamWConfig::default()).unwrap();
        let mut trained = Some(model.clone().train());
        group.bench_function(
            BenchmarkId::new("training_step", format!("{batch}x{length}")),
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
