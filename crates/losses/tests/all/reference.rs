//! Slow implementations in f64, loop by loop from the definitions, sharing nothing with the crate.

/// Rows of numbers.
pub(crate) type Matrix = Vec<Vec<f64>>;

/// `(KL(p || r) + KL(r || p)) / 2` of two diagonal Gaussians, from the one-directional definition
/// with its logarithms.
pub(crate) fn gaussian_kl(mean_p: &[f64], var_p: &[f64], mean_r: &[f64], var_r: &[f64]) -> f64 {
    let one_way = |ma: &[f64], va: &[f64], mb: &[f64], vb: &[f64]| {
        let mut sum = 0.0;
        for k in 0..ma.len() {
            sum += 0.5
                * ((vb[k] / va[k]).ln() + va[k] / vb[k] + (ma[k] - mb[k]).powi(2) / vb[k] - 1.0);
        }
        sum
    };
    0.5 * (one_way(mean_p, var_p, mean_r, var_r) + one_way(mean_r, var_r, mean_p, var_p))
}

/// `KL(p || r) + KL(r || p)` of `softmax(x / t)` and `softmax(y / t)`.
pub(crate) fn softmax_kl(x: &[f64], y: &[f64], t: f64) -> f64 {
    let softmax = |x: &[f64]| {
        let max = x.iter().fold(f64::NEG_INFINITY, |m, v| m.max(*v));
        let e: Vec<f64> = x.iter().map(|v| ((v - max) / t).exp()).collect();
        let sum: f64 = e.iter().sum();
        e.iter().map(|v| v / sum).collect::<Vec<f64>>()
    };
    let (p, r) = (softmax(x), softmax(y));
    let mut sum = 0.0;
    for k in 0..p.len() {
        sum += p[k] * (p[k] / r[k]).ln() + r[k] * (r[k] / p[k]).ln();
    }
    sum
}

/// A linear layer, `weight[input][output]`.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) weight: Matrix,
    pub(crate) bias: Vec<f64>,
}

impl Layer {
    fn apply(&self, x: &[f64]) -> Vec<f64> {
        let mut out = self.bias.clone();
        for (value, row) in x.iter().zip(&self.weight) {
            for (o, w) in out.iter_mut().zip(row) {
                *o += value.max(0.0) * w;
            }
        }
        out
    }
}

/// Mean head, variance head and variance floor.
#[derive(Clone)]
pub(crate) struct Heads {
    pub(crate) mean: Layer,
    pub(crate) variance: Layer,
    pub(crate) floor: f64,
}

impl Heads {
    pub(crate) fn apply(&self, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let elu = |a: f64| if a > 0.0 { a } else { a.exp_m1() };
        let variance = self
            .variance
            .apply(x)
            .iter()
            .map(|a| elu(*a) + 1.0 + self.floor)
            .collect();
        (self.mean.apply(x), variance)
    }

    /// Divergence of every query from every bank row.
    pub(crate) fn divergence(&self, queries: &Matrix, bank: &Matrix) -> Matrix {
        let bank: Vec<_> = bank.iter().map(|h| self.apply(h)).collect();
        queries
            .iter()
            .map(|q| {
                let (mean, variance) = self.apply(q);
                bank.iter()
                    .map(|(m, v)| gaussian_kl(&mean, &variance, m, v))
                    .collect()
            })
            .collect()
    }
}

/// What a STAR evaluation needs besides the vectors.
#[derive(Clone)]
pub(crate) struct Star {
    pub(crate) tau: f64,
    pub(crate) gamma: f64,
    pub(crate) ln_base: f64,
    pub(crate) row_normalized: bool,
}

impl Star {
    /// `(gamma * KL_i, EU_i)` for every query; `neighbours` holds `(id, weight)`.
    pub(crate) fn terms(
        &self,
        queries: &Matrix,
        bank: &Matrix,
        divergence: &Matrix,
        neighbours: &[Vec<(usize, f32)>],
    ) -> Vec<(f64, f64)> {
        let mut out = Vec::new();
        for (i, q) in queries.iter().enumerate() {
            let s: Vec<f64> = bank
                .iter()
                .map(|h| q.iter().zip(h).map(|(a, b)| a * b).sum())
                .collect();
            let d = &divergence[i];
            let ln_sum = |exponent: &dyn Fn(usize) -> f64| {
                let largest = (0..bank.len()).map(exponent).fold(f64::MIN, f64::max);
                let sum: f64 = (0..bank.len()).map(|j| (exponent(j) - largest).exp()).sum();
                largest + sum.ln()
            };
            let total: f64 = neighbours[i].iter().map(|(_, w)| f64::from(*w)).sum();
            let (mut kl, mut eu) = (0.0, 0.0);
            for &(j, w) in &neighbours[i] {
                let mut w = f64::from(w);
                if self.row_normalized && total > 0.0 {
                    w /= total;
                }
                // -w ln of the share of j in the sum, once per term.
                kl -= w * (-d[j] / self.tau - ln_sum(&|k| -d[k] / self.tau));
                eu -= w * (s[j] / self.tau - ln_sum(&|k| s[k] / self.tau + d[k] * self.ln_base));
            }
            out.push((self.gamma * kl, eu));
        }
        out
    }

    /// Mean over the queries of the sum of both terms.
    pub(crate) fn loss(
        &self,
        queries: &Matrix,
        bank: &Matrix,
        divergence: &Matrix,
        neighbours: &[Vec<(usize, f32)>],
    ) -> f64 {
        let terms = self.terms(queries, bank, divergence, neighbours);
        terms.iter().map(|(a, b)| a + b).sum::<f64>() / terms.len() as f64
    }
}

/// Slope of `f` at 0 by central differences with one step of extrapolation.
pub(crate) fn slope(f: impl Fn(f64) -> f64) -> f64 {
    let central = |h: f64| (f(h) - f(-h)) / (2.0 * h);
    let h = 1e-3;
    (4.0 * central(h / 2.0) - central(h)) / 3.0
}

fn unit(x: &[f64]) -> Vec<f64> {
    let norm = x.iter().map(|v| v * v).sum::<f64>().sqrt();
    x.iter().map(|v| v / norm).collect()
}

/// Cosine of two vectors.
pub(crate) fn cosine(x: &[f64], y: &[f64]) -> f64 {
    unit(x).iter().zip(unit(y)).map(|(x, y)| x * y).sum()
}

fn log_sum(exponents: &[f64]) -> f64 {
    let largest = exponents.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = exponents.iter().map(|e| (e - largest).exp()).sum();
    largest + sum.ln()
}

/// In-batch InfoNCE with all its options.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InfoNce {
    pub(crate) tau: f64,
    pub(crate) weight: f64,
    pub(crate) symmetric: bool,
    pub(crate) include_anchors: bool,
}

impl InfoNce {
    /// The loss of every row; `hard` may be empty.
    pub(crate) fn rows(&self, anchors: &Matrix, positives: &Matrix, hard: &Matrix) -> Vec<f64> {
        let one_way = |from: &Matrix, to: &Matrix, hard: &Matrix, i: usize| {
            let mut exponents = Vec::new();
            for (j, row) in to.iter().enumerate() {
                exponents.push(cosine(&from[i], row) / self.tau);
                if self.include_anchors && i != j {
                    exponents.push(cosine(&from[i], &from[j]) / self.tau);
                }
            }
            for (j, row) in hard.iter().enumerate() {
                let weight = if i == j { self.weight } else { 0.0 };
                exponents.push(cosine(&from[i], row) / self.tau + weight);
            }
            log_sum(&exponents) - cosine(&from[i], &to[i]) / self.tau
        };
        (0..anchors.len())
            .map(|i| {
                let forth = one_way(anchors, positives, hard, i);
                if self.symmetric {
                    (forth + one_way(positives, anchors, &Vec::new(), i)) / 2.0
                } else {
                    forth
                }
            })
            .collect()
    }
}

/// `ln (1 + sum_{y_i > y_j} exp(scale (s_j - s_i)))` and its gradient, pair of pairs by pair of pairs.
pub(crate) fn cosent(similarities: &[f64], labels: &[f64], scale: f64) -> (f64, Vec<f64>) {
    let n = similarities.len();
    let mut terms = vec![(0.0, None)];
    for i in 0..n {
        for j in 0..n {
            if labels[i] > labels[j] {
                terms.push((scale * (similarities[j] - similarities[i]), Some((i, j))));
            }
        }
    }
    let exponents: Vec<f64> = terms.iter().map(|(exponent, _)| *exponent).collect();
    let loss = log_sum(&exponents);
    let mut gradient = vec![0.0; n];
    for (exponent, pair) in terms {
        if let Some((i, j)) = pair {
            let share = (exponent - loss).exp();
            gradient[j] += scale * share;
            gradient[i] -= scale * share;
        }
    }
    (loss, gradient)
}

/// `ln mean_{i < j} exp(-t |u_i - u_j|^2)` of the unit rows.
pub(crate) fn uniformity(x: &Matrix, t: f64) -> f64 {
    let mut exponents = Vec::new();
    for i in 0..x.len() {
        for j in 0..i {
            let (a, b) = (unit(&x[i]), unit(&x[j]));
            let squared: f64 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
            exponents.push(-t * squared);
        }
    }
    log_sum(&exponents) - (exponents.len() as f64).ln()
}
