//! Times Spearman's correlation of seeded pairs.
//!
//! ```text
//! spearman_step [PAIRS] [RUNS] [SEED]
//! ```
//!
//! Two series: long fractions without ties, and sums of the same pairs rounded to 1 / 5 as graded
//! scores are, nearly all tied. Prints one JSON line a run: milliseconds, correlation, peak memory of
//! the process so far. `benches/peers/spearman_peer.py` does the same with SciPy on the same numbers.

use std::error::Error;
use std::time::Instant;

use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut number = |default: u64| args.next().map_or(Ok(default), |text| text.parse::<u64>());
    let (pairs, runs, seed) = (number(1_000_000)?, number(1)?, number(0)?);
    let uniform = |series: u64| -> Vec<f64> { (0..pairs).map(|i| draw(seed, series, i)).collect() };
    let (a, b) = (uniform(0), uniform(1));
    let x = a.clone();
    let y: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    let round = |v: &[f64]| -> Vec<f64> { v.iter().map(|v| (v * 25.0).floor() / 5.0).collect() };
    let (tied_x, tied_y) = (round(&x), round(&y));
    for (what, x, y) in [("no ties", &x, &y), ("ties", &tied_x, &tied_y)] {
        for _ in 0..runs {
            let began = Instant::now();
            let rho = metrics::spearman(x, y)?;
            let ms = began.elapsed().as_secs_f64() * 1e3;
            let what = format!("spearman {pairs} pairs {what}");
            benches::line(&what, ms, json!({"quality": rho}));
        }
    }
    Ok(())
}

/// A number in [0, 1) from a counter: the mixing function of splitmix64 (Steele, Lea and Flood 2014),
/// which the other side can repeat.
fn draw(seed: u64, series: u64, index: u64) -> f64 {
    let mut z = (index * 4 + 2 * seed + series + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}
