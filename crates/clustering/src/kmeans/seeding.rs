//! Greedy k-means++ (Arthur and Vassilvitskii 2007; the greedy variant with `2 + ln k` candidates is
//! the one scikit-learn runs).
//!
//! The first seed is a uniformly drawn row. Each further seed is the best of `2 + floor(ln k)` rows
//! drawn with probability proportional to `D(x)^2`, the squared distance to the nearest seed so far;
//! best means that the sum of `D(x)^2` becomes smallest.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Rows summed into one partial potential.
const PART: usize = 256;
/// Independent partial sums inside a part, so that the loop needs no fixed order of additions.
const LANES: usize = 8;

/// Inner products between rows, from whatever the caller has at hand.
pub(super) trait InnerProducts {
    /// Squared length of each row, computed by the rule that also gives `products`, so that the
    /// distance of a row to itself is exactly zero.
    fn norms(&self) -> &[f32];

    /// For each of `rows` its inner products with all rows.
    fn products<'a>(&'a self, rows: &[usize], buffer: &'a mut Vec<f32>) -> Vec<&'a [f32]>;
}

/// Seeds and the nearest seed of every row.
pub(super) struct Seeds {
    /// `k` row positions.
    pub(super) rows: Vec<usize>,
    /// `[n]`: index into `rows` of the nearest seed, the lowest on ties.
    pub(super) nearest: Vec<u32>,
    /// `[n]`: squared distance to it.
    pub(super) closest: Vec<f32>,
}

/// A restart on its way to `k` seeds.
struct Draft {
    seeds: Seeds,
    /// Sums of `closest` over parts of the rows.
    parts: Vec<f64>,
    candidates: Vec<usize>,
}

/// Draws `k` seeds for each random stream.
///
/// All restarts advance together, so that the candidates of all of them are compared with the rows in
/// one matrix product; a restart draws the same seeds alone or in company.
pub(super) fn greedy_plus_plus(
    source: &(impl InnerProducts + Sync),
    k: usize,
    rngs: &mut [ChaCha8Rng],
) -> Vec<Seeds> {
    let norms = source.norms();
    let n = norms.len();
    let trials = 2 + (k as f64).ln() as usize;
    let mut buffer = Vec::new();
    let mut drafts: Vec<Draft> = rngs
        .iter_mut()
        .map(|rng| Draft {
            seeds: Seeds {
                rows: Vec::with_capacity(k),
                nearest: vec![0; n],
                closest: vec![f32::INFINITY; n],
            },
            parts: vec![0.0; n.div_ceil(PART)],
            candidates: vec![rng.random_range(0..n)],
        })
        .collect();
    for index in 0..k {
        if index > 0 {
            for (draft, rng) in drafts.iter_mut().zip(rngs.iter_mut()) {
                draft.draw_candidates(trials, rng);
            }
        }
        let rows: Vec<usize> = drafts
            .iter()
            .flat_map(|draft| draft.candidates.iter().copied())
            .collect();
        let mut products = source.products(&rows, &mut buffer).into_iter();
        let shares: Vec<Vec<&[f32]>> = drafts
            .iter()
            .map(|draft| products.by_ref().take(draft.candidates.len()).collect())
            .collect();
        drafts
            .par_iter_mut()
            .zip(shares)
            .for_each(|(draft, products)| draft.take_best(index as u32, norms, &products));
    }
    drafts.into_iter().map(|draft| draft.seeds).collect()
}

impl Draft {
    fn draw_candidates(&mut self, trials: usize, rng: &mut ChaCha8Rng) {
        let potential: f64 = self.parts.iter().sum();
        self.candidates.clear();
        for _ in 0..trials {
            let target = rng.random::<f64>() * potential;
            let row = draw(&self.seeds.closest, &self.parts, target);
            // A row drawn twice would only be evaluated twice.
            if !self.candidates.contains(&row) {
                self.candidates.push(row);
            }
        }
    }

    /// Makes the candidate that leaves the smallest potential the seed number `index`.
    fn take_best(&mut self, index: u32, norms: &[f32], products: &[&[f32]]) {
        let mut best = (f64::INFINITY, 0);
        if self.candidates.len() > 1 {
            for (position, (&row, products)) in self.candidates.iter().zip(products).enumerate() {
                let sum = potential_with(&self.seeds.closest, norms, norms[row], products);
                if sum < best.0 {
                    best = (sum, position);
                }
            }
        }
        let row = self.candidates[best.1];
        take_seed(
            &mut self.seeds,
            index,
            norms,
            norms[row],
            products[best.1],
            &mut self.parts,
        );
        self.seeds.rows.push(row);
    }
}

/// Squared distance from the two squared lengths and the inner product, never negative.
#[inline(always)]
fn squared_distance(norm: f32, norm_seed: f32, product: f32) -> f32 {
    let d = norm + norm_seed - 2.0 * product;
    if d > 0.0 { d } else { 0.0 }
}

/// Sum over the rows of the squared distance to the nearest seed if one more seed were taken.
fn potential_with(closest: &[f32], norms: &[f32], norm_seed: f32, products: &[f32]) -> f64 {
    let mut total = 0.0_f64;
    for ((closest, norms), products) in closest
        .chunks(PART)
        .zip(norms.chunks(PART))
        .zip(products.chunks(PART))
    {
        let mut lanes = [0.0_f32; LANES];
        let mut c = closest.chunks_exact(LANES);
        let mut m = norms.chunks_exact(LANES);
        let mut p = products.chunks_exact(LANES);
        for ((c, m), p) in (&mut c).zip(&mut m).zip(&mut p) {
            for lane in 0..LANES {
                let d = squared_distance(m[lane], norm_seed, p[lane]);
                lanes[lane] += if d < c[lane] { d } else { c[lane] };
            }
        }
        for ((&c, &m), &p) in c.remainder().iter().zip(m.remainder()).zip(p.remainder()) {
            lanes[0] += squared_distance(m, norm_seed, p).min(c);
        }
        total += lanes.iter().map(|&x| f64::from(x)).sum::<f64>();
    }
    total
}

/// Makes a row the seed number `index`: updates nearest seeds, distances and partial potentials.
fn take_seed(
    seeds: &mut Seeds,
    index: u32,
    norms: &[f32],
    norm_seed: f32,
    products: &[f32],
    parts: &mut [f64],
) {
    let rows = seeds
        .closest
        .chunks_mut(PART)
        .zip(seeds.nearest.chunks_mut(PART));
    let inputs = norms.chunks(PART).zip(products.chunks(PART));
    for (part, ((closest, nearest), (norms, products))) in parts.iter_mut().zip(rows.zip(inputs)) {
        for ((c, s), (&m, &p)) in closest
            .iter_mut()
            .zip(nearest.iter_mut())
            .zip(norms.iter().zip(products))
        {
            let d = squared_distance(m, norm_seed, p);
            let nearer = d < *c;
            *s = if nearer { index } else { *s };
            *c = if nearer { d } else { *c };
        }
        *part = closest.iter().map(|&c| f64::from(c)).sum();
    }
}

/// The row where the running sum of `closest` passes `target`; never a row of weight zero unless all
/// weights are.
fn draw(closest: &[f32], parts: &[f64], target: f64) -> usize {
    let mut before = 0.0_f64;
    let mut last = 0;
    for (part, &sum) in parts.iter().enumerate() {
        if sum <= 0.0 {
            continue;
        }
        let start = part * PART;
        let reached = before + sum > target;
        let mut running = before;
        let end = (start + PART).min(closest.len());
        if reached {
            for (offset, &c) in closest[start..end].iter().enumerate() {
                if c > 0.0 {
                    last = start + offset;
                    running += f64::from(c);
                    if running > target {
                        return last;
                    }
                }
            }
        } else if let Some(offset) = closest[start..end].iter().rposition(|&c| c > 0.0) {
            last = start + offset;
        }
        before += sum;
    }
    last
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn draw_inverts_the_running_sum() {
        let closest = [0.0, 1.0, 0.0, 2.0, 0.5];
        let parts = [3.5];
        for (target, row) in [
            (0.0, 1),
            (0.99, 1),
            (1.0, 3),
            (2.9, 3),
            (3.0, 4),
            (3.49, 4),
            (3.5, 4),
            (99.0, 4),
        ] {
            assert_eq!(draw(&closest, &parts, target), row, "{target}");
        }
        assert_eq!(draw(&[0.0, 0.0], &[0.0], 0.0), 0);
    }

    #[test]
    fn draw_steps_over_whole_parts() {
        let n = 3 * PART + 5;
        let closest: Vec<f32> = (0..n).map(|i| if i % 3 == 0 { 0.0 } else { 1.0 }).collect();
        let parts: Vec<f64> = closest
            .chunks(PART)
            .map(|c| c.iter().map(|&x| f64::from(x)).sum())
            .collect();
        let positive: Vec<usize> = (0..n).filter(|i| i % 3 != 0).collect();
        for (rank, &row) in positive.iter().enumerate() {
            assert_eq!(draw(&closest, &parts, rank as f64 + 0.5), row);
        }
    }

    #[test]
    fn potential_is_the_sum_of_the_smaller_distances() {
        let n = 2 * PART + 13;
        let closest: Vec<f32> = (0..n).map(|i| (i % 7) as f32 * 0.3).collect();
        let norms: Vec<f32> = (0..n).map(|i| 1.0 + (i % 5) as f32 * 0.1).collect();
        let products: Vec<f32> = (0..n).map(|i| ((i % 11) as f32 - 5.0) * 0.2).collect();
        let plain: f64 = (0..n)
            .map(|i| {
                f64::from(
                    (norms[i] + 1.5 - 2.0 * products[i])
                        .max(0.0)
                        .min(closest[i]),
                )
            })
            .sum();
        assert!((potential_with(&closest, &norms, 1.5, &products) - plain).abs() < 1e-3);
    }
}
