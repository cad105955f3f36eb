//! Times the encoder as a whole: inference forward and a training step (forward, backward, AdamW).
//!
//! ```text
//! cargo run --release -p benches --example encoder_step -- MODEL_DIR [batch] [length] [runs] [dropout]
//! ```
//!
//! Prints one line a kind with min / median / max in milliseconds. `benches/peers/encoder_step.py`
//! does the same with PyTorch and transformers; `benches/peers/encoder_step.sh` runs both in turn.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use encoder::{LoadOptions, Pooling, SentenceEncoder, TokenBatch};
use training::{AdamW, AdamWConfig};

fn main() -> Result<(), Box<dyn Error>> {
    kernels::tune_allocator();
    let mut args = std::env::args().skip(1);
    let model = args
        .next()
        .ok_or("usage: encoder_step MODEL_DIR [batch] [length] [runs] [dropout]")?;
    let mut number = |default: f64| args.next().map_or(Ok(default), |text| text.parse::<f64>());
    let (batch, length, runs) = (
        number(64.0)? as usize,
        number(32.0)? as usize,
        number(7.0)? as usize,
    );
    let dropout = number(0.0)?;

    let device = Device::flex();
    let options = LoadOptions {
        dropout: Some(dropout),
        ..LoadOptions::default()
    };
    let encoder = SentenceEncoder::load(Path::new(&model), &options, &device)?;
    // The same ids as the PyTorch side: a fixed pattern over the ordinary vocabulary.
    let rows: Vec<Vec<u32>> = (0..batch)
        .map(|row| {
            (0..length)
                .map(|at| 1000 + ((row * 131 + at * 17) % 20_000) as u32)
                .collect()
        })
        .collect();

    let inference = encoder.bert.valid();
    let tokens = TokenBatch::new(&rows, 0, &device)?;
    let mut times = Vec::new();
    for run in 0..=runs {
        let began = Instant::now();
        let vectors = SentenceEncoder::pool(&inference, Pooling::Mean, &tokens)?;
        let checksum = vectors.sum().into_scalar::<f32>();
        if run > 0 {
            times.push(began.elapsed().as_secs_f64() * 1e3);
        } else {
            eprintln!("forward checksum {checksum}");
        }
    }
    report("forward", batch, length, dropout, &mut times);

    let device = device.autodiff();
    let mut model = encoder.bert.train();
    let mut optimizer = AdamW::new(AdamWConfig::default())?;
    let tokens = TokenBatch::new(&rows, 0, &device)?;
    let mut times = Vec::new();
    for run in 0..=runs {
        let began = Instant::now();
        let vectors = SentenceEncoder::pool(&model, Pooling::Mean, &tokens)?;
        let loss = vectors.powi_scalar(2).mean();
        let value = loss.clone().into_scalar::<f32>();
        let mut grads = loss.backward();
        model = optimizer.step(1e-5, model, &mut grads, 1.0)?;
        if run > 0 {
            times.push(began.elapsed().as_secs_f64() * 1e3);
        } else {
            eprintln!("training loss {value}");
        }
    }
    report("train", batch, length, dropout, &mut times);
    Ok(())
}

fn report(kind: &str, batch: usize, length: usize, dropout: f64, times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    println!(
        "asterism {kind} batch={batch} length={length} dropout={dropout} ms {:.1} {:.1} {:.1}",
        times[0],
        times[times.len() / 2],
        times[times.len() - 1]
    );
}
