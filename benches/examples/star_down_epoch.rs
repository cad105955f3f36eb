//! Times one epoch of STAR-DOWN, exactly as the `star_down` program runs it.
//!
//! ```text
//! cargo run --release -p benches --example star_down_epoch -- DATA_DIR MODEL_DIR RUN_DIR [max_len] [star|info_nce]
//! ```
//!
//! The epoch is that of a run: refill of the bank, neighbour search, every step (token replacement,
//! query forward and backward, key forward, objective, clipping, AdamW, moving average, bank update,
//! the step's log line) and the checkpoint at its end. `RUN_DIR` must not exist.
//! Prints a JSON line each for the epoch, the median step and the refill with its search.
//! `benches/peers/star_down_epoch.py` is the same in PyTorch, without the checkpoint.

use std::error::Error;
use std::path::PathBuf;

use experiments::session::Request;
use experiments::star_down::{StarDownConfig, run};
use serde_json::json;
use training::{Quiet, StopFlag};

const USAGE: &str = "usage: star_down_epoch DATA_DIR MODEL_DIR RUN_DIR [max_len] [star|info_nce]";

fn main() -> Result<(), Box<dyn Error>> {
    kernels::tune_allocator();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [data, model, out, rest @ ..] = args.as_slice() else {
        return Err(USAGE.into());
    };
    let mut config = StarDownConfig {
        data: data.clone(),
        model: model.clone(),
        device: "flex".into(),
        seeds: vec![0],
        stages: vec!["train".into()],
        max_len: rest.first().map_or(Ok(32), |text| text.parse())?,
        pooling: "mean".into(),
        trace: false,
        ..StarDownConfig::default()
    };
    config.train.epochs = 1;
    config.train.objective = rest.get(1).cloned().unwrap_or_else(|| "star".into());
    config.eval.n_init = 1;
    config.eval.tsne_points = 0;
    let (length, objective) = (config.max_len, config.train.objective.clone());
    let stop = StopFlag::new();
    let result = run(Request {
        config,
        out: PathBuf::from(out),
        resume: false,
        progress: Box::new(Quiet),
        stop: &stop,
        command: args.clone(),
    })?;
    let timing = result.timing.last().ok_or("the run has no timing")?;
    let name = format!(
        "{objective} {} rows{} max_len{length}",
        result.data.name, result.data.train_rows
    );
    let peak = Some(result.peak_rss_mb);
    // The peak is that of the whole run, and stands with the epoch alone.
    for seconds in &timing.epoch_s {
        let more = json!({"steps": timing.steps});
        println!(
            "{}",
            benches::value(&format!("epoch {name}"), seconds * 1e3, peak, more)
        );
    }
    if let Some(step) = &timing.step_ms {
        let more = json!({"min": step.min, "max": step.max, "steps": timing.steps});
        println!(
            "{}",
            benches::value(&format!("step {name}"), step.median, None, more)
        );
    }
    for seconds in &timing.refill_s {
        println!(
            "{}",
            benches::value(&format!("refill {name}"), seconds * 1e3, None, json!({}))
        );
    }
    Ok(())
}
