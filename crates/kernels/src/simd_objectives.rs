//! Slice kernels of the training objectives: Gaussian features, log-sum-exp, softmax gradients.
//!
//! Sums run over 16 lanes that are added in order, so a result depends on the data alone. `NaN` is
//! never lost: every comparison is written so that it falls through to the value itself.
#![allow(unsafe_code)]

use crate::simd::{Level, SMALLEST, exp_normal, fma, level, multiversioned};

const LANES: usize = 16;

/// exp(u) for u <= 0 (a rounding error above 0 is fine), relative error below 2e-7; 0 where the
/// result would not be a normal number, `NaN` for `NaN`.
#[inline(always)]
fn exp<const FUSED: bool>(u: f32) -> f32 {
    let tiny = u < SMALLEST;
    let value = exp_normal::<FUSED>(if tiny { SMALLEST } else { u });
    if tiny { 0.0 } else { value }
}

/// `max(x, 0)`, `NaN` for `NaN`.
#[inline(always)]
fn positive(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// `sum_k term(x_k, y_k)` over 16 lanes.
#[inline(always)]
fn lane_sum(x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (y, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in x.iter().zip(y) {
        for ((sum, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *sum += term(*x, *y);
        }
    }
    let tail: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| term(*x, *y)).sum();
    lanes.iter().sum::<f32>() + tail
}

/// Largest `term(x_k, y_k)` within the range of f32; `NaN` is passed over.
#[inline(always)]
fn lane_max(x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let take = |best: f32, x: f32| if x > best { x } else { best };
    let mut lanes = [f32::MIN; LANES];
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (y, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in x.iter().zip(y) {
        for ((best, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *best = take(*best, term(*x, *y));
        }
    }
    let rest = x_rest.iter().zip(y_rest).map(|(x, y)| term(*x, *y));
    let best = lanes.iter().copied().chain(rest).fold(f32::MIN, take);
    // An infinite maximum would give inf - inf.
    if best > f32::MAX { f32::MAX } else { best }
}

#[inline(always)]
fn relu_body<const FUSED: bool>(x: &[f32], y: &mut [f32]) {
    for (x, y) in x.iter().zip(y) {
        *y = positive(*x);
    }
}

multiversioned! {
    /// `y = max(x, 0)`.
    pub(crate) fn relu / relu_body(x: &[f32], y: &mut [f32])
}

#[inline(always)]
fn add_body<const FUSED: bool>(sum: &mut [f32], x: &[f32]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += x;
    }
}

multiversioned! {
    /// `sum += x`.
    pub(crate) fn add / add_body(sum: &mut [f32], x: &[f32])
}

#[inline(always)]
fn column_sums_body<const FUSED: bool>(x: &[f32], width: usize, sum: &mut [f32]) {
    for row in x.chunks_exact(width) {
        for (sum, x) in sum.iter_mut().zip(row) {
            *sum += x;
        }
    }
}

multiversioned! {
    /// Adds the first `sum.len()` columns of all rows of `x` (rows of `width`) to `sum`.
    pub(crate) fn column_sums / column_sums_body(x: &[f32], width: usize, sum: &mut [f32])
}

/// Which side of the divergence a row of features belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// `[e + m^2, g, -(4 m + 2 m g), -2 m] / 4`
    Query,
    /// `[g, e + m^2, m, m g]`
    Bank,
}

#[inline(always)]
fn gaussians_body<const FUSED: bool>(heads: &mut [f32], offsets: &[f32], floor: f32) {
    let dim = offsets.len() / 2;
    let (mean_offset, activation_offset) = offsets.split_at(dim);
    for heads in heads.chunks_exact_mut(2 * dim) {
        let (mean, activation) = heads.split_at_mut(dim);
        for (mean, offset) in mean.iter_mut().zip(mean_offset) {
            *mean += offset;
        }
        for (activation, offset) in activation.iter_mut().zip(activation_offset) {
            let a = *activation + offset;
            // exp never sees a positive argument, so it cannot overflow.
            let tail = exp::<FUSED>(if a > 0.0 { 0.0 } else { a });
            *activation = positive(a) + tail + floor;
        }
    }
}

multiversioned! {
    /// Turns the outputs of both heads `[rows, 2 dim]` into means and variances in place:
    /// `m + offset` and `elu(a + offset) + 1 + floor`.
    pub(crate) fn gaussians / gaussians_body(heads: &mut [f32], offsets: &[f32], floor: f32)
}

/// Row `[m | v]` of [`gaussians`] in its halves.
#[inline(always)]
fn halves(row: &[f32], dim: usize) -> (&[f32], &[f32]) {
    let (mean, variance) = row.split_at(dim);
    (mean, &variance[..dim])
}

/// `e = v - 1` and `g = 1 / v - 1 = -e / v`.
#[inline(always)]
fn excess(v: f32) -> (f32, f32) {
    let e = v - 1.0;
    (e, -e / v)
}

#[inline(always)]
fn features_body<const FUSED: bool>(
    side: Side,
    dim: usize,
    gaussians: &[f32],
    features: &mut [f32],
) {
    let rows = gaussians
        .chunks_exact(2 * dim)
        .zip(features.chunks_exact_mut(4 * dim));
    for (gaussian, features) in rows {
        let (mean, variance) = halves(gaussian, dim);
        let (first, rest) = features.split_at_mut(dim);
        let (second, rest) = rest.split_at_mut(dim);
        let (third, fourth) = rest.split_at_mut(dim);
        let (second, third, fourth) = (&mut second[..dim], &mut third[..dim], &mut fourth[..dim]);
        for k in 0..dim {
            let m = mean[k];
            let (e, g) = excess(variance[k]);
            let square = fma::<FUSED>(m, m, e);
            let mg = m * g;
            (first[k], second[k], third[k], fourth[k]) = match side {
                Side::Query => (0.25 * square, 0.25 * g, -fma::<FUSED>(0.5, mg, m), -0.5 * m),
                Side::Bank => (g, square, m, mg),
            };
        }
    }
}

multiversioned! {
    /// Features `[rows, 4 dim]` of rows of [`gaussians`]: the divergence of a query and a bank row
    /// is the product of their features and the sum of their [`gaussian_constants`].
    pub(crate) fn gaussian_features / features_body(
        side: Side,
        dim: usize,
        gaussians: &[f32],
        features: &mut [f32],
    )
}

#[inline(always)]
fn constants_body<const FUSED: bool>(dim: usize, gaussians: &[f32], constants: &mut [f32]) {
    for (gaussian, constant) in gaussians.chunks_exact(2 * dim).zip(constants) {
        let (mean, variance) = halves(gaussian, dim);
        // e + g + 2 m^2 + m^2 g
        *constant = 0.25
            * lane_sum(mean, variance, |m, v| {
                let (e, g) = excess(v);
                fma::<FUSED>(m * m, 2.0 + g, e + g)
            });
    }
}

multiversioned! {
    /// `1/4 sum_k ( e + g + 2 m^2 + m^2 g )` of rows of [`gaussians`].
    pub(crate) fn gaussian_constants / constants_body(
        dim: usize,
        gaussians: &[f32],
        constants: &mut [f32],
    )
}

#[inline(always)]
fn features_backward_body<const FUSED: bool>(
    side: Side,
    floor: f32,
    dim: usize,
    gaussians: &[f32],
    grad_features: &[f32],
    grad_constants: &[f32],
    grad_heads: &mut [f32],
) {
    let rows = gaussians
        .chunks_exact(2 * dim)
        .zip(grad_features.chunks_exact(4 * dim))
        .zip(grad_heads.chunks_exact_mut(2 * dim));
    for (((gaussian, grads), out), constant) in rows.zip(grad_constants) {
        let (mean, variance) = halves(gaussian, dim);
        let (first, rest) = grads.split_at(dim);
        let (second, rest) = rest.split_at(dim);
        let (third, fourth) = rest.split_at(dim);
        let (second, third, fourth) = (&second[..dim], &third[..dim], &fourth[..dim]);
        let (grad_mean, grad_activation) = out.split_at_mut(dim);
        let grad_activation = &mut grad_activation[..dim];
        let c = 0.25 * constant;
        for k in 0..dim {
            let (m, v) = (mean[k], variance[k]);
            let (_, g) = excess(v);
            // Gradients of e + m^2, g, m and m g.
            let (square, reciprocal, linear, product) = match side {
                Side::Query => (
                    0.25 * first[k],
                    0.25 * second[k],
                    -fma::<FUSED>(0.5, fourth[k], third[k]),
                    -0.5 * third[k],
                ),
                Side::Bank => (second[k], first[k], third[k], fourth[k]),
            };
            let grad_e = square + c;
            let grad_g = reciprocal + m * product + c * fma::<FUSED>(m, m, 1.0);
            let grad_m = 2.0 * m * (square + c * (2.0 + g)) + fma::<FUSED>(g, product, linear);
            grad_mean[k] = grad_m;
            // v - floor is exp(a) below 1 and 1 + a above it.
            let below = v - floor;
            let slope = if below > 1.0 { 1.0 } else { below };
            // dg / dv = -1 / v^2 = -(1 + g)^2
            let inverse = 1.0 + g;
            grad_activation[k] = slope * (grad_e - grad_g * inverse * inverse);
        }
    }
}

multiversioned! {
    /// Gradient of the outputs of both heads from those of features and constants, through
    /// [`gaussians`].
    pub(crate) fn gaussian_features_backward / features_backward_body(
        side: Side,
        floor: f32,
        dim: usize,
        gaussians: &[f32],
        grad_features: &[f32],
        grad_constants: &[f32],
        grad_heads: &mut [f32],
    )
}

#[inline(always)]
fn softmax_features_body<const FUSED: bool>(
    x: &[f32],
    inverse_temperature: f32,
    scale: f32,
    features: &mut [f32],
    constants: &mut [f32],
) {
    let dim = x.len() / constants.len();
    let log_dim = (dim as f32).ln();
    let rows = x
        .chunks_exact(dim)
        .zip(features.chunks_exact_mut(2 * dim))
        .zip(constants);
    for ((x, features), constant) in rows {
        let Partial { max, sum } = partial::<FUSED>(x, x, |x, _| x * inverse_temperature);
        let log_sum = max + sum.ln();
        let (probabilities, logarithms) = features.split_at_mut(dim);
        for ((x, p), l) in x.iter().zip(&mut *probabilities).zip(&mut *logarithms) {
            let logarithm = x * inverse_temperature - log_sum;
            *p = exp::<FUSED>(logarithm);
            *l = logarithm + log_dim;
        }
        *constant = scale * lane_sum(probabilities, logarithms, |p, l| p * l);
    }
}

multiversioned! {
    /// Features `[P | L]`, `[rows, 2 dim]`, of the rows of `x`: `P = softmax(x / T)` and
    /// `L = ln P + ln dim`, with the constants `scale P . L`. The symmetric divergence of two rows is
    /// the sum of their constants minus `scale (P_i . L_j + L_i . P_j)`.
    pub(crate) fn softmax_features / softmax_features_body(
        x: &[f32],
        inverse_temperature: f32,
        scale: f32,
        features: &mut [f32],
        constants: &mut [f32],
    )
}

#[inline(always)]
fn softmax_features_backward_body<const FUSED: bool>(
    features: &[f32],
    others: &[f32],
    totals: &[f32],
    inverse_temperature: f32,
    scale: f32,
    grad_x: &mut [f32],
) {
    let dim = grad_x.len() / totals.len();
    let rows = features
        .chunks_exact(2 * dim)
        .zip(others.chunks_exact(2 * dim))
        .zip(grad_x.chunks_exact_mut(dim))
        .zip(totals);
    for (((features, others), grad_x), total) in rows {
        let (p, l) = halves(features, dim);
        let (other_p, other_l) = halves(others, dim);
        for k in 0..dim {
            let grad_p = fma::<FUSED>(*total, l[k], -other_l[k]);
            let grad_l = fma::<FUSED>(*total, p[k], -other_p[k]);
            grad_x[k] = scale * fma::<FUSED>(grad_p, p[k], grad_l);
        }
        let along = lane_sum(grad_x, grad_x, |x, _| x);
        for (grad, p) in grad_x.iter_mut().zip(p) {
            *grad = inverse_temperature * fma::<FUSED>(-along, *p, *grad);
        }
    }
}

multiversioned! {
    /// Gradient of the rows behind [`softmax_features`], from the features of the other side summed
    /// with the gradients of the divergences, `others` `[rows, 2 dim]`, and the sums of these
    /// gradients, `totals`.
    pub(crate) fn softmax_features_backward / softmax_features_backward_body(
        features: &[f32],
        others: &[f32],
        totals: &[f32],
        inverse_temperature: f32,
        scale: f32,
        grad_x: &mut [f32],
    )
}

/// Maximum and sum of exponentials relative to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Partial {
    pub(crate) max: f32,
    pub(crate) sum: f32,
}

impl Partial {
    /// Logarithm of the sum of exponentials over all parts, added in order.
    pub(crate) fn log_sum_exp(parts: impl Iterator<Item = Self> + Clone) -> f32 {
        let max = parts.clone().map(|part| part.max).fold(f32::MIN, f32::max);
        let sum: f64 = parts
            .map(|part| f64::from(part.sum) * f64::from(part.max - max).exp())
            .sum();
        (f64::from(max) + sum.ln()) as f32
    }
}

/// [`Partial`]s of a block of the bank, an element a query.
#[derive(Clone, Debug)]
pub(crate) struct Partials {
    max: Vec<f32>,
    sum: Vec<f32>,
}

/// [`Partials`] to be filled; fresh ones hold the smallest number and 0.
pub(crate) struct PartialsMut<'a> {
    max: &'a mut [f32],
    sum: &'a mut [f32],
}

impl Partials {
    pub(crate) fn new(batch: usize) -> Self {
        Self {
            max: vec![f32::MIN; batch],
            sum: vec![0.0; batch],
        }
    }

    pub(crate) fn all(&mut self) -> PartialsMut<'_> {
        PartialsMut {
            max: &mut self.max,
            sum: &mut self.sum,
        }
    }

    /// Of one query.
    pub(crate) fn of(&self, query: usize) -> Partial {
        Partial {
            max: self.max[query],
            sum: self.sum[query],
        }
    }
}

#[inline(always)]
fn partial<const FUSED: bool>(x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32) -> Partial {
    let max = lane_max(x, y, &term);
    let sum = lane_sum(x, y, |x, y| exp::<FUSED>(term(x, y) - max));
    Partial { max, sum }
}

#[inline(always)]
fn log_sum_exp_body<const FUSED: bool>(x: &[f32], out: &mut Partial) {
    *out = partial::<FUSED>(x, x, |x, _| x);
}

multiversioned! {
    /// [`Partial`] of a slice.
    pub(crate) fn partial_log_sum_exp / log_sum_exp_body(x: &[f32], out: &mut Partial)
}

/// What the two softmax rows of a query share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StarScales {
    /// `1 / tau`
    pub(crate) inverse_temperature: f32,
    /// `ln B`, or 0 without guidance
    pub(crate) ln_base: f32,
}

#[inline(always)]
fn star_partials_body<const FUSED: bool>(
    d: &mut [f32],
    z: &[f32],
    shifts: &[f32],
    constants: &[f32],
    scales: StarScales,
    kl: PartialsMut<'_>,
    contrast: PartialsMut<'_>,
) {
    let batch = shifts.len();
    let scale = -scales.inverse_temperature;
    let take = |best: &mut f32, x: f32| *best = if x > *best { x } else { *best };
    let rows = d.chunks_exact_mut(batch).zip(z.chunks_exact(batch));
    for ((d, z), constant) in rows.zip(constants) {
        let best = kl.max.iter_mut().zip(&mut *contrast.max);
        for (((d, z), shift), (kl, contrast)) in d.iter_mut().zip(z).zip(shifts).zip(best) {
            *d += shift + constant;
            let clamped = positive(*d);
            take(kl, scale * clamped);
            take(contrast, fma::<FUSED>(scales.ln_base, clamped, *z));
        }
    }
    // An infinite maximum would give inf - inf.
    for max in kl.max.iter_mut().chain(&mut *contrast.max) {
        *max = max.min(f32::MAX);
    }
    for (d, z) in d.chunks_exact(batch).zip(z.chunks_exact(batch)) {
        let kl = kl.max.iter().zip(&mut *kl.sum);
        let contrast = contrast.max.iter().zip(&mut *contrast.sum);
        for (((d, z), (kl, kl_sum)), (best, sum)) in d.iter().zip(z).zip(kl).zip(contrast) {
            let clamped = positive(*d);
            *kl_sum += exp::<FUSED>(scale * clamped - kl);
            *sum += exp::<FUSED>(fma::<FUSED>(scales.ln_base, clamped, *z) - best);
        }
    }
}

multiversioned! {
    /// Adds `shifts` (a query each) and `constants` (a bank row each) to the products `d`
    /// `[rows, batch]`, then takes the maxima and sums of exponentials over the rows of
    /// `-max(d, 0) / tau` and of `z + max(d, 0) ln B`.
    pub(crate) fn star_partials / star_partials_body(
        d: &mut [f32],
        z: &[f32],
        shifts: &[f32],
        constants: &[f32],
        scales: StarScales,
        kl: PartialsMut<'_>,
        contrast: PartialsMut<'_>,
    )
}

/// What the gradient of a query's terms needs, an element a query.
pub(crate) struct StarRows {
    /// Gradient of the divergence term times the sum of the neighbour weights.
    pub(crate) kl: Vec<f32>,
    /// Gradient of the contrast times the sum of the neighbour weights.
    pub(crate) contrast: Vec<f32>,
    /// Logarithms of both denominators.
    pub(crate) kl_log_sum: Vec<f32>,
    pub(crate) contrast_log_sum: Vec<f32>,
}

#[inline(always)]
fn star_gradient_body<const FUSED: bool>(
    d: &[f32],
    z: &[f32],
    rows: &StarRows,
    scales: StarScales,
    grad_d: &mut [f32],
    grad_z: &mut [f32],
    grad_ln_base: &mut [f32],
) {
    let batch = grad_ln_base.len();
    let scale = -scales.inverse_temperature;
    let (kl, contrast) = (&rows.kl[..batch], &rows.contrast[..batch]);
    let (kl_log_sum, log_sum) = (&rows.kl_log_sum[..batch], &rows.contrast_log_sum[..batch]);
    let inputs = d.chunks_exact(batch).zip(z.chunks_exact(batch));
    let outputs = grad_d
        .chunks_exact_mut(batch)
        .zip(grad_z.chunks_exact_mut(batch));
    for ((d, z), (grad_d, grad_z)) in inputs.zip(outputs) {
        for i in 0..batch {
            let raw = d[i];
            let clamped = positive(raw);
            let p = exp::<FUSED>(fma::<FUSED>(scale, clamped, -kl_log_sum[i]));
            let r = exp::<FUSED>(fma::<FUSED>(scales.ln_base, clamped, z[i]) - log_sum[i]);
            let gz = contrast[i] * r;
            let gd = fma::<FUSED>(kl[i] * scale, p, gz * scales.ln_base);
            grad_z[i] = gz;
            grad_d[i] = if raw < 0.0 { 0.0 } else { gd };
            grad_ln_base[i] += gz * clamped;
        }
    }
}

multiversioned! {
    /// Gradients of the denominators of both terms in the divergences and scores `[rows, batch]`,
    /// and, added to what is there, in `ln B` by query.
    pub(crate) fn star_gradient / star_gradient_body(
        d: &[f32],
        z: &[f32],
        rows: &StarRows,
        scales: StarScales,
        grad_d: &mut [f32],
        grad_z: &mut [f32],
        grad_ln_base: &mut [f32],
    )
}

#[inline(always)]
fn score_partials_body<const FUSED: bool>(z: &[f32], out: PartialsMut<'_>) {
    let batch = out.max.len();
    for z in z.chunks_exact(batch) {
        for (z, best) in z.iter().zip(&mut *out.max) {
            *best = if *z > *best { *z } else { *best };
        }
    }
    for max in &mut *out.max {
        *max = max.min(f32::MAX);
    }
    for z in z.chunks_exact(batch) {
        for ((z, best), sum) in z.iter().zip(&*out.max).zip(&mut *out.sum) {
            *sum += exp::<FUSED>(z - best);
        }
    }
}

multiversioned! {
    /// Maxima and sums of exponentials over the rows of `z` `[rows, batch]`.
    pub(crate) fn score_partials / score_partials_body(z: &[f32], out: PartialsMut<'_>)
}

#[inline(always)]
fn score_gradient_body<const FUSED: bool>(
    z: &[f32],
    factors: &[f32],
    log_sums: &[f32],
    grad_z: &mut [f32],
) {
    let batch = factors.len();
    for (z, grad_z) in z.chunks_exact(batch).zip(grad_z.chunks_exact_mut(batch)) {
        for (((z, grad), factor), log_sum) in z.iter().zip(grad_z).zip(factors).zip(log_sums) {
            *grad = factor * exp::<FUSED>(z - log_sum);
        }
    }
}

multiversioned! {
    /// `grad_z = factors exp(z - log_sums)` for `z` `[rows, batch]`.
    pub(crate) fn score_gradient / score_gradient_body(
        z: &[f32],
        factors: &[f32],
        log_sums: &[f32],
        grad_z: &mut [f32],
    )
}

#[inline(always)]
fn row_sums_body<const FUSED: bool>(x: &[f32], width: usize, sums: &mut [f32]) {
    for (x, sum) in x.chunks_exact(width).zip(sums) {
        *sum = lane_sum(x, x, |x, _| x);
    }
}

multiversioned! {
    /// Sum of every row of `width` elements.
    pub(crate) fn row_sums / row_sums_body(x: &[f32], width: usize, sums: &mut [f32])
}

#[inline(always)]
fn normalize_rows_body<const FUSED: bool>(
    x: &[f32],
    smallest_square: f32,
    norms: &mut [f32],
    y: &mut [f32],
) {
    let width = x.len() / norms.len();
    let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
    for ((x, y), norm) in rows.zip(norms) {
        let square = lane_sum(x, x, |x, _| x * x);
        // An infinite norm makes value and gradient of a row without direction exactly 0.
        *norm = if square <= smallest_square {
            f32::INFINITY
        } else {
            square.sqrt()
        };
        for (x, y) in x.iter().zip(y) {
            *y = x / *norm;
        }
    }
}

multiversioned! {
    /// `y = x / norms`, row by row, with the Euclidean norm or, where its square is not above
    /// `smallest_square`, infinity.
    pub(crate) fn normalize_rows / normalize_rows_body(
        x: &[f32],
        smallest_square: f32,
        norms: &mut [f32],
        y: &mut [f32],
    )
}

#[inline(always)]
fn normalize_rows_backward_body<const FUSED: bool>(
    y: &[f32],
    norms: &[f32],
    grad: &[f32],
    grad_x: &mut [f32],
) {
    let width = y.len() / norms.len();
    let rows = y
        .chunks_exact(width)
        .zip(grad.chunks_exact(width))
        .zip(grad_x.chunks_exact_mut(width));
    for (((y, grad), grad_x), norm) in rows.zip(norms) {
        let along = lane_sum(y, grad, |y, grad| y * grad);
        for ((y, grad), grad_x) in y.iter().zip(grad).zip(grad_x) {
            *grad_x = fma::<FUSED>(-along, *y, *grad) / norm;
        }
    }
}

multiversioned! {
    /// `grad_x = (grad - (grad . y) y) / norms`, row by row.
    pub(crate) fn normalize_rows_backward / normalize_rows_backward_body(
        y: &[f32],
        norms: &[f32],
        grad: &[f32],
        grad_x: &mut [f32],
    )
}

#[inline(always)]
fn softmax_gradient_body<const FUSED: bool>(x: &[f32], log_sum: f32, scale: f32, grad: &mut [f32]) {
    for (x, grad) in x.iter().zip(grad) {
        *grad = scale * exp::<FUSED>(x - log_sum);
    }
}

multiversioned! {
    /// `grad = scale * exp(x - log_sum)`.
    pub(crate) fn softmax_gradient / softmax_gradient_body(
        x: &[f32],
        log_sum: f32,
        scale: f32,
        grad: &mut [f32],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_agree_with_the_library_over_the_whole_range() {
        for step in 0..=90_000 {
            let u = -0.001 * step as f32;
            let (got, want) = (f64::from(exp::<true>(u)), f64::from(u).exp());
            let tiny = u < SMALLEST;
            assert!(
                if tiny {
                    got == 0.0
                } else {
                    (got / want - 1.0).abs() <= 3e-7
                },
                "{u}"
            );
        }
        assert!(exp::<true>(f32::NAN).is_nan());
        assert_eq!(exp::<true>(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp::<false>(0.0), 1.0);
    }
}
