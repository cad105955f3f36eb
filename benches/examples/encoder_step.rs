//! Times the encoder as a whole: inference forward and a training step (forward, backward, AdamW).
//!
//! ```text
//! cargo run --release -p benches --example encoder_step -- MODEL_DIR [batch] [length] [runs] [dropout] [kind] [precision]
//! ```
//!
//! The environment variable `DEVICE` chooses the device, flex without it.
//!
//! `kind` is `forward`, `train` or `both`; peak memory belongs to one kind only when it runs alone.
//! `precision` is `f32` or `bf16`, which goes behind the name of the results.
//! Prints one JSON line a run, after one run that is not counted. `check` is the checksum of the
//! forward pass, or the loss of the first training step without dropout, which PyTorch has to equal.
//! `benches/peers/encoder_step.py` does the same with PyTorch and transformers.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use encoder::{LoadOptions, Pooling, SentenceEncoder, TokenBatch};
use kernels::Precision;
use serde_json::json;
use training::{AdamW, AdamWConfig};

const USAGE: &str = "usage: encoder_step MODEL_DIR [batch] [length] [runs] [dropout] [forward|train|both] [f32|bf16]";

fn main() -> Result<(), Box<dyn Error>> {
    kernels::tune_allocator();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let model = args.first().ok_or(USAGE)?;
    let number = |at: usize, default: usize| {
        args.get(at)
            .map_or(Ok(default), |text| text.parse::<usize>())
    };
    let (batch, length, runs) = (number(1, 64)?, number(2, 32)?, number(3, 7)?);
    let dropout: f64 = args.get(4).map_or(Ok(0.0), |text| text.parse())?;
    let kind = args.get(5).map_or("both", String::as_str);
    if !["forward", "train", "both"].contains(&kind) {
        return Err(USAGE.into());
    }
    let precision: Precision = args
        .get(6)
        .map_or(Ok(Precision::F32), |name| name.parse())?;
    let (device, before) = benches::device()?;
    let options = LoadOptions {
        dropout: Some(dropout),
        precision,
        ..LoadOptions::default()
    };
    let encoder = SentenceEncoder::load(Path::new(model), &options, &device)?;
    let after = match precision {
        Precision::F32 => "",
        Precision::Bf16 => " bf16",
    };
    let rows = benches::token_rows(batch, length);
    let (hidden, layers) = (encoder.config.hidden_size, encoder.config.num_hidden_layers);
    let [_, of_minilm, ..] = benches::MINILM;
    let before = if hidden == of_minilm {
        before
    } else {
        format!("{before}{hidden}x{layers} ")
    };

    if kind != "train" {
        let inference = encoder.bert.valid();
        let what = format!("{before}forward batch{batch} length{length}{after}");
        for run in 0..=runs {
            let began = Instant::now();
            let tokens = TokenBatch::new(&rows, &device)?;
            let vectors = SentenceEncoder::pool(&inference, Pooling::Mean, &tokens)?;
            let checksum = vectors.sum().into_scalar::<f32>();
            if run > 0 {
                let ms = began.elapsed().as_secs_f64() * 1e3;
                benches::line(&what, ms, json!({"check": checksum}));
            }
        }
    }
    if kind != "forward" {
        let device = device.autodiff();
        let mut model = encoder.bert.train();
        let mut optimizer = AdamW::new(AdamWConfig::default())?;
        let what = format!("{before}train batch{batch} length{length} dropout{dropout}{after}");
        let mut first = None;
        for run in 0..=runs {
            let began = Instant::now();
            let tokens = TokenBatch::new(&rows, &device)?;
            let vectors = SentenceEncoder::pool(&model, Pooling::Mean, &tokens)?;
            let loss = vectors.powi_scalar(2).mean();
            let value = loss.clone().into_scalar::<f32>();
            let mut grads = loss.backward();
            model = optimizer.step(1e-5, model, &mut grads, 1.0)?;
            device.sync()?;
            let check = *first.get_or_insert(value);
            if run > 0 {
                let ms = began.elapsed().as_secs_f64() * 1e3;
                benches::line(
                    &what,
                    ms,
                    json!({"check": (dropout == 0.0).then_some(check)}),
                );
            }
        }
    }
    Ok(())
}
