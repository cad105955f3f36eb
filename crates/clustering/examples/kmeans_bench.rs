//! Times k-means on a file of raw little-endian f32 rows, or writes such a file.
//!
//! ```text
//! kmeans_bench write FILE ROWS DIM GROUPS SEED
//! kmeans_bench run   FILE ROWS DIM K N_INIT SEED...
//! kmeans_bench tsne  FILE ROWS DIM OUT
//! ```
//!
//! `write` makes a mixture of normal distributions on the unit sphere. `run` prints one JSON line per
//! seed. `tsne` writes the `[rows, 2]` map as raw f32. Peer: `scripts/oracles/clustering.py`.

use std::error::Error;
use std::fs;
use std::time::Instant;

use clustering::{KMeansParams, TsneParams};
use ndarray::Array2;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mode, file, rows, dim, rest @ ..] = args.as_slice() else {
        return Err("usage: kmeans_bench write|run|tsne FILE ROWS DIM ...".into());
    };
    let (rows, dim): (usize, usize) = (rows.parse()?, dim.parse()?);
    match (mode.as_str(), rest) {
        ("write", [groups, seed]) => {
            let points = unit_mixture(rows, dim, groups.parse()?, seed.parse()?);
            fs::write(file, points.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        ("run", [k, n_init, seeds @ ..]) => {
            let points = read(file, rows, dim)?;
            for seed in seeds {
                let params = KMeansParams::new(k.parse()?).n_init(n_init.parse()?).seed(seed.parse()?).check()?;
                let start = Instant::now();
                let model = params.fit(points.view())?;
                println!(
                    "{{\"seed\": {seed}, \"seconds\": {:.4}, \"inertia\": {:.6}, \"iterations\": {}}}",
                    start.elapsed().as_secs_f64(),
                    model.inertia,
                    model.iterations
                );
            }
        }
        ("tsne", [out]) => {
            let points = read(file, rows, dim)?;
            let start = Instant::now();
            let map = TsneParams::default().fit(points.view())?;
            println!(
                "{{\"seconds\": {:.4}, \"kl\": {:.6}, \"iterations\": {}}}",
                start.elapsed().as_secs_f64(),
                map.kl,
                map.iterations
            );
            fs::write(out, map.embedding.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        _ => return Err("usage: kmeans_bench write FILE ROWS DIM GROUPS SEED | run FILE ROWS DIM K N_INIT SEED... | tsne FILE ROWS DIM OUT".into()),
    }
    Ok(())
}

fn read(file: &str, rows: usize, dim: usize) -> Result<Array2<f32>, Box<dyn Error>> {
    let bytes = fs::read(file)?;
    let values = bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    Ok(Array2::from_shape_vec((rows, dim), values)?)
}

/// Unit vectors around random unit centres; the noise is about as long as the centre, as it is for
/// sentences of one intent.
fn unit_mixture(rows: usize, dim: usize, groups: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let centres = Array2::from_shape_fn((groups, dim), |_| normal(&mut rng));
    let mut points = Array2::from_shape_fn((rows, dim), |(i, j)| {
        centres[[i % groups, j]] + normal(&mut rng)
    });
    for mut row in points.rows_mut() {
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    points
}

fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}
