//! Times `SentenceEncoder::encode` on a file of texts, tokenisation included.
//!
//! ```text
//! cargo run --release -p benches --example encode_step -- MODEL_DIR TEXTS [batch] [runs]
//! ```
//!
//! `TEXTS` has one text a line. Prints one JSON line a run, after 64 texts that are not counted.
//! `check` is the mean absolute value of all vectors. `benches/peers/encode_step.py` does the same
//! with sentence-transformers.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use burn::tensor::Device;
use encoder::{LoadOptions, SentenceEncoder};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    kernels::tune_allocator();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, file, rest @ ..] = args.as_slice() else {
        return Err("usage: encode_step MODEL_DIR TEXTS [batch] [runs]".into());
    };
    let number = |at: usize, default: usize| {
        rest.get(at)
            .map_or(Ok(default), |text| text.parse::<usize>())
    };
    let (batch, runs) = (number(0, 64)?, number(1, 3)?);
    let text = std::fs::read_to_string(file)?;
    let texts: Vec<&str> = text.lines().collect();
    let name = Path::new(file)
        .file_stem()
        .map_or_else(|| file.clone(), |stem| stem.to_string_lossy().into_owned());
    let what = format!("encode {name} texts{} batch{batch}", texts.len());

    let encoder =
        SentenceEncoder::load(Path::new(model), &LoadOptions::default(), &Device::flex())?;
    encoder.encode(&texts[..texts.len().min(64)], batch)?;
    for _ in 0..runs {
        let began = Instant::now();
        let vectors = encoder.encode(&texts, batch)?;
        let seconds = began.elapsed().as_secs_f64();
        let sum: f64 = vectors.values.iter().map(|v| f64::from(v.abs())).sum();
        benches::line(
            &what,
            seconds * 1e3,
            json!({
                "sentences_per_s": texts.len() as f64 / seconds,
                "check": sum / vectors.values.len().max(1) as f64,
            }),
        );
    }
    Ok(())
}
