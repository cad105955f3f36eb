//! Slice kernels of the training objectives: Gaussian features, log-sum-exp, softmax gradients, and
//! a matrix product on the calling thread.
//!
//! Sums run over 16 lanes that are added in order, so a result depends on the data alone. `NaN` is
//! never lost: every comparison is written so that it falls through to the value itself.
#![allow(unsafe_code)]

use crate::simd::{Level, fma, level, multiversioned};

const LANES: usize = 16;

/// Smallest argument whose exponential is a normal number.
const SMALLEST: f32 = -87.3;

/// exp(u) for u <= 0 (a rounding error above 0 is fine), relative error below 2e-7; 0 where the
/// result would not be a normal number, `NaN` for `NaN`.
#[inline(always)]
fn exp<const FUSED: bool>(u: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let tiny = u < SMALLEST;
    let u = if tiny { SMALLEST } else { u };
    let shifted = fma::<FUSED>(u, core::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = fma::<FUSED>(n, -LN2_LOW, fma::<FUSED>(n, -LN2_HIGH, u));
    // Minimax fit of exp on [-ln 2 / 2, ln 2 / 2], relative error 2e-9 before rounding.
    let mut p = 0.001_383_684_4;
    p = fma::<FUSED>(p, r, 0.008_374_816);
    p = fma::<FUSED>(p, r, 0.041_668_225);
    p = fma::<FUSED>(p, r, 0.166_664_2);
    p = fma::<FUSED>(p, r, 0.499_999_9);
    p = fma::<FUSED>(p, r, 1.0);
    p = fma::<FUSED>(p, r, 1.0);
    let exponent = (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
    let value = p * f32::from_bits((exponent.wrapping_add(127) as u32) << 23);
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

/// `e = v - 1` and `g = 1 / v - 1` of the variance `v = elu(a) + 1 + floor`, and `dv / da`.
#[inline(always)]
fn variance<const FUSED: bool>(a: f32, floor: f32) -> (f32, f32, f32) {
    // exp never sees a positive argument, so it cannot overflow.
    let tail = exp::<FUSED>(if a > 0.0 { 0.0 } else { a });
    let v = positive(a) + tail + floor;
    let e = v - 1.0;
    let slope = if a > 0.0 { 1.0 } else { tail };
    (e, -e / v, slope)
}

#[inline(always)]
fn features_body<const FUSED: bool>(
    side: Side,
    heads: &[f32],
    centre: &[f32],
    floor: f32,
    features: &mut [f32],
    constants: &mut [f32],
) {
    let dim = centre.len();
    let rows = heads
        .chunks_exact(2 * dim)
        .zip(features.chunks_exact_mut(4 * dim));
    for ((heads, features), constant) in rows.zip(constants) {
        let (mean, activation) = heads.split_at(dim);
        let (first, rest) = features.split_at_mut(dim);
        let (second, rest) = rest.split_at_mut(dim);
        let (third, fourth) = rest.split_at_mut(dim);
        let (second, third, fourth) = (&mut second[..dim], &mut third[..dim], &mut fourth[..dim]);
        let activation = &activation[..dim];
        for k in 0..dim {
            let m = mean[k] - centre[k];
            let (e, g, _) = variance::<FUSED>(activation[k], floor);
            first[k] = g;
            second[k] = fma::<FUSED>(m, m, e);
            third[k] = m;
            fourth[k] = m * g;
        }
        // e + g + 2 m^2 + m^2 g
        *constant = 0.25
            * (lane_sum(first, second, |g, square| g + square)
                + lane_sum(third, fourth, |m, mg| m * (m + mg)));
        if side == Side::Query {
            for k in 0..dim {
                let (g, squared, m, mg) = (first[k], second[k], third[k], fourth[k]);
                first[k] = 0.25 * squared;
                second[k] = 0.25 * g;
                third[k] = -fma::<FUSED>(0.5, mg, m);
                fourth[k] = -0.5 * m;
            }
        }
    }
}

multiversioned! {
    /// Features `[rows, 4 dim]` and constants `[rows]` of Gaussians given as the outputs of both
    /// heads `[rows, 2 dim]` (means, activations of the variances), so that the divergence of a
    /// query and a bank row is the sum of both constants and the product of both features.
    pub(crate) fn gaussian_features / features_body(
        side: Side,
        heads: &[f32],
        centre: &[f32],
        floor: f32,
        features: &mut [f32],
        constants: &mut [f32],
    )
}

#[inline(always)]
fn features_backward_body<const FUSED: bool>(
    side: Side,
    heads: &[f32],
    centre: &[f32],
    floor: f32,
    grad_features: &[f32],
    grad_constants: &[f32],
    grad_heads: &mut [f32],
) {
    let dim = centre.len();
    let rows = heads
        .chunks_exact(2 * dim)
        .zip(grad_features.chunks_exact(4 * dim))
        .zip(grad_heads.chunks_exact_mut(2 * dim));
    for (((heads, grads), out), constant) in rows.zip(grad_constants) {
        let (mean, activation) = heads.split_at(dim);
        let activation = &activation[..dim];
        let (first, rest) = grads.split_at(dim);
        let (second, rest) = rest.split_at(dim);
        let (third, fourth) = rest.split_at(dim);
        let (second, third, fourth) = (&second[..dim], &third[..dim], &fourth[..dim]);
        let (grad_mean, grad_activation) = out.split_at_mut(dim);
        let grad_activation = &mut grad_activation[..dim];
        let c = 0.25 * constant;
        for k in 0..dim {
            let m = mean[k] - centre[k];
            let (_, g, slope) = variance::<FUSED>(activation[k], floor);
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
            // dg / dv = -1 / v^2 = -(1 + g)^2
            let inverse = 1.0 + g;
            grad_activation[k] = slope * (grad_e - grad_g * inverse * inverse);
        }
    }
}

multiversioned! {
    /// Gradient of the outputs of both heads from those of [`gaussian_features`]' results.
    pub(crate) fn gaussian_features_backward / features_backward_body(
        side: Side,
        heads: &[f32],
        centre: &[f32],
        floor: f32,
        grad_features: &[f32],
        grad_constants: &[f32],
        grad_heads: &mut [f32],
    )
}

/// Maximum and sum of exponentials relative to it, of a part of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Partial {
    pub(crate) max: f32,
    pub(crate) sum: f32,
}

impl Partial {
    /// Logarithm of the sum of exponentials over all parts of a row, added in order.
    pub(crate) fn log_sum_exp(parts: impl Iterator<Item = Self> + Clone) -> f32 {
        let max = parts.clone().map(|part| part.max).fold(f32::MIN, f32::max);
        let sum: f64 = parts
            .map(|part| f64::from(part.sum) * f64::from(part.max - max).exp())
            .sum();
        (f64::from(max) + sum.ln()) as f32
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
    shift: f32,
    constants: &[f32],
    scales: StarScales,
    out: &mut [Partial; 2],
) {
    for (d, constant) in d.iter_mut().zip(constants) {
        *d += shift + constant;
    }
    let scale = -scales.inverse_temperature;
    out[0] = partial::<FUSED>(d, d, |d, _| scale * positive(d));
    out[1] = partial::<FUSED>(d, z, |d, z| fma::<FUSED>(scales.ln_base, positive(d), z));
}

multiversioned! {
    /// Adds `shift + constants` to the products `d` of a query with a block of the bank, then takes
    /// the [`Partial`]s of `-max(d, 0) / tau` and of `z + max(d, 0) ln B`.
    pub(crate) fn star_partials / star_partials_body(
        d: &mut [f32],
        z: &[f32],
        shift: f32,
        constants: &[f32],
        scales: StarScales,
        out: &mut [Partial; 2],
    )
}

/// Gradient of one query's terms, and the logarithms of its two denominators.
#[derive(Clone, Copy)]
pub(crate) struct StarRow {
    /// Gradient of the divergence term times the sum of the neighbour weights.
    pub(crate) kl: f32,
    /// Gradient of the contrast times the sum of the neighbour weights.
    pub(crate) contrast: f32,
    pub(crate) kl_log_sum: f32,
    pub(crate) contrast_log_sum: f32,
}

#[inline(always)]
fn star_gradient_body<const FUSED: bool>(
    d: &[f32],
    z: &[f32],
    row: StarRow,
    scales: StarScales,
    grad_d: &mut [f32],
    grad_z: &mut [f32],
    grad_ln_base: &mut f64,
) {
    let len = d.len();
    let (z, grad_d, grad_z) = (&z[..len], &mut grad_d[..len], &mut grad_z[..len]);
    let kl = -row.kl * scales.inverse_temperature;
    for k in 0..len {
        let raw = d[k];
        let clamped = positive(raw);
        let p = exp::<FUSED>(-scales.inverse_temperature * clamped - row.kl_log_sum);
        let r = exp::<FUSED>(fma::<FUSED>(scales.ln_base, clamped, z[k]) - row.contrast_log_sum);
        let gz = row.contrast * r;
        let gd = fma::<FUSED>(kl, p, gz * scales.ln_base);
        grad_z[k] = gz;
        grad_d[k] = if raw < 0.0 { 0.0 } else { gd };
    }
    *grad_ln_base += f64::from(lane_sum(grad_z, d, |grad, d| grad * positive(d)));
}

multiversioned! {
    /// Gradients of the denominators of both terms in the divergences, scores and `ln B`.
    pub(crate) fn star_gradient / star_gradient_body(
        d: &[f32],
        z: &[f32],
        row: StarRow,
        scales: StarScales,
        grad_d: &mut [f32],
        grad_z: &mut [f32],
        grad_ln_base: &mut f64,
    )
}

#[inline(always)]
fn row_sum_body<const FUSED: bool>(x: &[f32], sum: &mut f32) {
    *sum += lane_sum(x, x, |x, _| x);
}

multiversioned! {
    /// Adds the sum of `x` to `sum`.
    pub(crate) fn row_sum / row_sum_body(x: &[f32], sum: &mut f32)
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

/// A matrix in a slice: element `(r, c)` is `data[r * strides.0 + c * strides.1]`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    strides: (usize, usize),
}

impl<'a> View<'a> {
    /// Row-major `[rows, columns]`.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert!(rows * columns <= data.len(), "view: slice too short");
        Self {
            data,
            rows,
            columns,
            strides: (columns, 1),
        }
    }

    /// The transpose.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            strides: (self.strides.1, self.strides.0),
            ..self
        }
    }
}

/// `out = scale a b` or, with `accumulate`, `out += scale a b` on the calling thread; `out` is
/// row-major `[a.rows, b.columns]`.
pub(crate) fn product(out: &mut [f32], a: View<'_>, b: View<'_>, scale: f32, accumulate: bool) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "product: inner sizes differ");
    assert!(m * n <= out.len(), "product: output too short");
    // SAFETY: `View::new` has checked that both operands lie inside their slices, the output was
    // checked above, and `out` is borrowed exclusively, so it overlaps neither of them.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            a.data.as_ptr(),
            a.strides.1 as isize,
            a.strides.0 as isize,
            b.data.as_ptr(),
            b.strides.1 as isize,
            b.strides.0 as isize,
            1.0f32,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
