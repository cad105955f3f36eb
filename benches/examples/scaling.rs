//! Time and peak memory of what grows with the memory bank.
//!
//! ```text
//! cargo run --release -p benches --example scaling -- search ROWS [RUNS] [f32|f16]
//! cargo run --release -p benches --example scaling -- lists  ROWS [RUNS] [f32|f16]
//! cargo run --release -p benches --example scaling -- approximate ROWS [RUNS] [f32|f16]
//! cargo run --release -p benches --example scaling -- star   ROWS [RUNS]
//! cargo run --release -p benches --example scaling -- down   ROWS [RUNS]
//! ```
//!
//! `search` finds the 121 nearest of `ROWS` vectors for 1,024 queries, `lists` for every row; both are
//! exact. `approximate` (feature `hnsw`) builds an index on all threads and answers the same queries with it; `recall` is
//! the share of the exact lists it found for the first 128. `star` and `down` are one objective, forward and backward, of 64 queries over the bank.
//! Vectors have 384 dimensions and lie around 256 random centres. One JSON line a run; run each size
//! in its own process, as the peak is that of the process. `benches/peers/scaling.py` runs all sizes
//! and draws them.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use burn::tensor::{Device, Element, Tensor, TensorData, f16};
use losses::{BankInfoNceConfig, NeighbourTargets, StarConfig};
#[cfg(feature = "hnsw")]
use queue::{HnswIndex, HnswParams};
use queue::{NeighbourParams, nearest_neighbours, nearest_rows};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde_json::json;

const DIM: usize = 384;
const CENTRES: usize = 256;
const QUERIES: usize = 1024;
/// Queries the recall of an index is measured on.
#[cfg(feature = "hnsw")]
const PROBES: usize = 128;
const BATCH: usize = 64;
const TOPK: usize = 120;
const USAGE: &str = "usage: scaling search|lists|approximate|star|down ROWS [RUNS] [f32|f16]";

fn main() -> Result<(), Box<dyn Error>> {
    kernels::tune_allocator();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, rows, rest @ ..] = args.as_slice() else {
        return Err(USAGE.into());
    };
    let rows: usize = rows.parse()?;
    let runs: usize = rest.first().map_or(Ok(3), |text| text.parse())?;
    let storage = rest.get(1).map_or("f32", String::as_str);
    let device = Device::flex();
    let half = match storage {
        "f32" => false,
        "f16" => true,
        _ => return Err(USAGE.into()),
    };
    let bank = vectors(rows, 1, half, &device);
    let more = json!({"rows": rows});
    match what.as_str() {
        "search" => {
            let queries = vectors(QUERIES, 2, half, &device);
            let name = format!("search exact {storage} {rows}x{DIM} queries{QUERIES}");
            repeat(&name, runs, &more, || {
                black_box(nearest_rows(queries.clone(), bank.clone(), TOPK + 1)?);
                Ok(())
            })
        }
        "lists" => {
            let name = format!("lists exact {storage} {rows}x{DIM}");
            repeat(&name, runs, &more, || {
                black_box(nearest_neighbours(
                    bank.clone(),
                    &NeighbourParams::new(TOPK),
                )?);
                Ok(())
            })
        }
        #[cfg(feature = "hnsw")]
        "approximate" => {
            let queries = vectors(QUERIES, 2, half, &device);
            let params = HnswParams {
                parallel_build: true,
                ..HnswParams::default()
            };
            let began = Instant::now();
            let index = HnswIndex::build(bank.clone(), &params)?;
            benches::line(
                &format!("build approximate {storage} {rows}x{DIM}"),
                began.elapsed().as_secs_f64() * 1e3,
                more.clone(),
            );
            let probes = queries.clone().narrow(0, 0, PROBES);
            let exact = nearest_rows(probes.clone(), bank, TOPK + 1)?;
            let found = index.nearest(probes, TOPK + 1)?;
            let hits: usize = (0..PROBES)
                .filter_map(|row| Some((exact.row(row)?, found.row(row)?)))
                .map(|(exact, found)| exact.iter().filter(|id| found.contains(id)).count())
                .sum();
            let recall = hits as f64 / (PROBES * (TOPK + 1)) as f64;
            let name = format!("search approximate {storage} {rows}x{DIM} queries{QUERIES}");
            repeat(
                &name,
                runs,
                &json!({"rows": rows, "recall": recall}),
                || {
                    black_box(index.nearest(queries.clone(), TOPK + 1)?);
                    Ok(())
                },
            )
        }
        "star" | "down" => {
            let device = device.autodiff();
            let bank = bank.autodiff();
            let queries = vectors(BATCH, 2, false, &device).require_grad();
            let targets = targets(rows, &device)?;
            let star = StarConfig::new(DIM).init(&device, 0)?;
            let down = BankInfoNceConfig::new().init()?;
            repeat(&format!("{what} {BATCH}x{rows}x{DIM}"), runs, &more, || {
                let loss = if what == "star" {
                    star.forward(queries.clone(), bank.clone(), &targets)?.loss
                } else {
                    down.forward(queries.clone(), bank.clone(), &targets)?
                };
                black_box(loss.backward());
                black_box(loss.into_scalar::<f32>());
                Ok(())
            })
        }
        _ => Err(USAGE.into()),
    }
}

/// Once uncounted where more than one run is asked for, then `runs` times.
fn repeat(
    what: &str,
    runs: usize,
    more: &serde_json::Value,
    mut work: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    if runs > 1 {
        work()?;
    }
    for _ in 0..runs {
        let began = Instant::now();
        work()?;
        benches::line(what, began.elapsed().as_secs_f64() * 1e3, more.clone());
    }
    Ok(())
}

/// Unit vectors `[rows, DIM]` around shared centres; `stream` tells sets apart. Made in their final
/// precision, so that the peak of memory is not that of a conversion.
fn vectors(rows: usize, stream: u64, half: bool, device: &Device) -> Tensor<2> {
    if half {
        from_rows(rows, stream, f16::from_f32, device)
    } else {
        from_rows(rows, stream, |value| value, device)
    }
}

fn from_rows<E: Element>(
    rows: usize,
    stream: u64,
    convert: impl Fn(f32) -> E + Sync,
    device: &Device,
) -> Tensor<2> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let centres: Vec<f32> = (0..CENTRES * DIM)
        .map(|_| rng.random::<f32>() - 0.5)
        .collect();
    let mut values = vec![convert(0.0); rows * DIM];
    values
        .par_chunks_mut(DIM)
        .enumerate()
        .for_each(|(row, target)| {
            let mut rng = ChaCha8Rng::seed_from_u64(stream);
            rng.set_stream(row as u64);
            let centre = &centres[rng.random_range(0..CENTRES) * DIM..][..DIM];
            let vector: Vec<f32> = centre
                .iter()
                .map(|centre| centre + 1.2 * (rng.random::<f32>() - 0.5))
                .collect();
            let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
            for (target, value) in target.iter_mut().zip(&vector) {
                *target = convert(value / norm);
            }
        });
    // In the element's own type; without it `from_data` converts to the default one.
    Tensor::from_data(TensorData::new(values, [rows, DIM]), (device, E::dtype()))
}

/// Random neighbours with falling weights.
fn targets(rows: usize, device: &Device) -> Result<NeighbourTargets, Box<dyn Error>> {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let lists: Vec<Vec<(usize, f32)>> = (0..BATCH)
        .map(|_| {
            (0..=TOPK)
                .map(|rank| {
                    let weight = 150f32.powf(-(rank as f32) / TOPK as f32);
                    (rng.random_range(0..rows), weight)
                })
                .collect()
        })
        .collect();
    Ok(NeighbourTargets::from_rows(&lists, device)?)
}
