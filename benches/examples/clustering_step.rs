//! Times k-means and t-SNE on a file of vectors.
//!
//! ```text
//! clustering_step mixture DATA ROWS DIM GROUPS [SEED] [NOISE]
//! clustering_step kmeans  DATA DIM K [RUNS] [SEED]
//! clustering_step tsne    DATA DIM [RUNS] [SEED] [MAP] [INIT]
//! ```
//!
//! `DATA` is a file of little-endian f32 rows of length `DIM`. `mixture` writes one: unit vectors
//! around random directions, with normal noise of standard deviation `NOISE` (0.08) in each entry.
//! `MAP` is where the last t-SNE map goes, f32 rows of length 2; `INIT` is `pca` or `random`. Run `r`
//! uses seed `SEED + r`. `RAYON_NUM_THREADS` sets the threads.
//!
//! Prints one JSON line a run: milliseconds, inertia or divergence, peak memory of the process so far.
//! `benches/peers/clustering_peer.py` does the same with scikit-learn; its `score` gives the divergence
//! of any map over all pairs.

use std::error::Error;
use std::time::Instant;

use clustering::{KMeansParams, TsneInit, TsneParams};
use ndarray::Array2;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const USAGE: &str = "usage: clustering_step mixture DATA ROWS DIM GROUPS [SEED] [NOISE]
       clustering_step kmeans DATA DIM K [RUNS] [SEED]
       clustering_step tsne DATA DIM [RUNS] [SEED] [MAP] [INIT]";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["mixture", path, rows, dim, groups, rest @ ..] => {
            let (rows, dim, groups) = (rows.parse()?, dim.parse()?, groups.parse()?);
            let seed = number(rest.first(), 0)?;
            let noise = rest.get(1).map_or(Ok(0.08), |text| text.parse())?;
            write(path, &mixture(rows, dim, groups, seed, noise))
        }
        ["kmeans", path, dim, k, rest @ ..] => {
            let points = read(path, dim.parse()?)?;
            let k = k.parse()?;
            let (runs, seed) = (number(rest.first(), 1)?, number(rest.get(1), 0)?);
            for run in 0..runs {
                let params = KMeansParams::new(k).n_init(20).seed(seed + run);
                let began = Instant::now();
                let model = params.fit(points.view())?;
                let ms = began.elapsed().as_secs_f64() * 1e3;
                let (n, dim) = points.dim();
                let what = format!("kmeans {n}x{dim} K{k} n_init20");
                report(&what, ms, model.inertia, seed + run);
            }
            Ok(())
        }
        ["tsne", path, dim, rest @ ..] => {
            let points = read(path, dim.parse()?)?;
            let (runs, seed) = (number(rest.first(), 1)?, number(rest.get(1), 0)?);
            let init = match rest.get(3) {
                None | Some(&"pca") => TsneInit::Pca,
                Some(&"random") => TsneInit::Random,
                Some(other) => return Err(format!("INIT {other} is neither pca nor random").into()),
            };
            for run in 0..runs {
                let params = TsneParams {
                    seed: seed + run,
                    init,
                    ..TsneParams::default()
                };
                let began = Instant::now();
                let map = params.fit(points.view())?;
                let ms = began.elapsed().as_secs_f64() * 1e3;
                let (n, dim) = points.dim();
                report(&format!("tsne {n}x{dim}"), ms, map.kl, seed + run);
                if let Some(out) = rest.get(2) {
                    write(out, &map.embedding)?;
                }
            }
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

fn number(text: Option<&&str>, default: u64) -> Result<u64, std::num::ParseIntError> {
    text.map_or(Ok(default), |text| text.parse())
}

fn mixture(rows: usize, dim: usize, groups: usize, seed: u64, noise: f32) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Marsaglia and Bray's polar method, one number a pair.
    let mut normal = || loop {
        let (u, v) = (
            2.0 * rng.random::<f32>() - 1.0,
            2.0 * rng.random::<f32>() - 1.0,
        );
        let square = u * u + v * v;
        if square > 0.0 && square < 1.0 {
            return u * (-2.0 * square.ln() / square).sqrt();
        }
    };
    let mut centres = Array2::from_shape_simple_fn((groups, dim), &mut normal);
    normalise(&mut centres);
    let groups = groups.max(1);
    let mut points = Array2::from_shape_fn((rows, dim), |(i, j)| {
        centres[[i % groups, j]] + noise * normal()
    });
    normalise(&mut points);
    points
}

fn normalise(points: &mut Array2<f32>) {
    for mut row in points.outer_iter_mut() {
        let length = row.dot(&row).sqrt().max(f32::MIN_POSITIVE);
        row /= length;
    }
}

fn read(path: &str, dim: usize) -> Result<Array2<f32>, Box<dyn Error>> {
    let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    if dim == 0 || bytes.len() % (4 * dim) != 0 {
        return Err(format!("{path}: {} bytes are no rows of {dim} f32", bytes.len()).into());
    }
    let values: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    Ok(Array2::from_shape_vec((values.len() / dim, dim), values)?)
}

fn write(path: &str, points: &Array2<f32>) -> Result<(), Box<dyn Error>> {
    let bytes: Vec<u8> = points.iter().flat_map(|x| x.to_le_bytes()).collect();
    Ok(std::fs::write(path, bytes).map_err(|error| format!("{path}: {error}"))?)
}

fn report(what: &str, ms: f64, quality: f64, seed: u64) {
    benches::line(what, ms, json!({"quality": quality, "seed": seed}));
}
