//! Elementwise kernels for the CPU, compiled once per instruction set and chosen at run time.
//!
//! The bodies are plain branch-free Rust; each is instantiated with AVX-512, with AVX2 + FMA and
//! without either, and the compiler vectorises it. Work is cut into fixed chunks for rayon, so the
//! result does not depend on the number of threads.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::sync::OnceLock;

use burn::backend::TensorMetadata;
use burn::tensor::TensorData;
use burn_flex::FlexTensor;
use rayon::prelude::*;

/// Elements per task: 64 KiB of f32, which stays in the second-level cache.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Instruction sets with a version of their own, best last.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
            {
                return Level::Avx512;
            }
            if avx2 {
                return Level::Avx2;
            }
        }
        Level::Portable
    })
}

/// Writes one kernel in three versions: `$name` picks the best the processor has.
macro_rules! multiversioned {
    ($(#[$doc:meta])* $vis:vis fn $name:ident / $body:ident ($($arg:ident : $ty:ty),* $(,)?)) => {
        $(#[$doc])*
        $vis fn $name($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
            fn avx512($($arg: $ty),*) {
                $body::<true>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) {
                $body::<true>($($arg),*)
            }
            match level() {
                Level::Portable => $body::<false>($($arg),*),
                // SAFETY: the only requirement of these calls is that the processor has the
                // features they were compiled with, which `level` has checked.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(crate) use multiversioned;

/// `a * b + c`, fused where the instruction exists (elsewhere `mul_add` would be a library call).
#[inline(always)]
pub(crate) fn fma<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// exp(u) for u <= 0, relative error below 2e-7; values under the smallest normal number give it.
#[inline(always)]
pub(crate) fn exp_nonpositive<const FUSED: bool>(u: f32) -> f32 {
    exp_normal::<FUSED>(u.max(SMALLEST))
}

/// Smallest argument whose exponential is a normal number.
pub(crate) const SMALLEST: f32 = -87.3;

/// exp(u) for [`SMALLEST`] <= u <= 0, relative error below 2e-7; `NaN` for `NaN`.
#[inline(always)]
pub(crate) fn exp_normal<const FUSED: bool>(u: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
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
    p * f32::from_bits((exponent.wrapping_add(127) as u32) << 23)
}

/// Phi(x) and exp(-x^2 / 2), sharing the one exponential that both need.
///
/// Phi(-|x|) = erfc(z) / 2 with z = |x| / sqrt 2, and erfc(z) = exp(-z^2) t g(t), t = 1 / (1 + 0.4 z),
/// where g is a polynomial fitted to 6e-8 relative error for all z >= 0.
#[inline(always)]
pub(crate) fn normal_cdf<const FUSED: bool>(x: f32) -> (f32, f32) {
    let z = x.abs() * core::f32::consts::FRAC_1_SQRT_2;
    let gauss = exp_nonpositive::<FUSED>(-0.5 * x * x);
    let t = 1.0 / fma::<FUSED>(0.4, z, 1.0);
    let mut g = 0.041_253_157;
    g = fma::<FUSED>(g, t, -0.140_319_81);
    g = fma::<FUSED>(g, t, 0.083_988_43);
    g = fma::<FUSED>(g, t, 0.087_963_07);
    g = fma::<FUSED>(g, t, 0.079_757_35);
    g = fma::<FUSED>(g, t, 0.193_392_86);
    g = fma::<FUSED>(g, t, 0.201_887_68);
    g = fma::<FUSED>(g, t, 0.226_443_1);
    g = fma::<FUSED>(g, t, 0.225_634_23);
    let tail = 0.5 * gauss * (t * g);
    let cdf = if x >= 0.0 { 1.0 - tail } else { tail };
    (cdf, gauss)
}

#[inline(always)]
fn gelu_forward_body<const FUSED: bool>(x: &[f32], y: &mut [MaybeUninit<f32>]) {
    for (x, y) in x.iter().zip(y) {
        let (cdf, _) = normal_cdf::<FUSED>(*x);
        y.write(x * cdf);
    }
}

#[inline(always)]
fn gelu_backward_body<const FUSED: bool>(x: &[f32], grad: &[f32], dx: &mut [MaybeUninit<f32>]) {
    const INV_SQRT_2PI: f32 = 0.398_942_3;
    for ((x, grad), dx) in x.iter().zip(grad).zip(dx) {
        let (cdf, gauss) = normal_cdf::<FUSED>(*x);
        dx.write(grad * fma::<FUSED>(x * INV_SQRT_2PI, gauss, cdf));
    }
}

#[inline(always)]
fn bias_gelu_body<const FUSED: bool>(x: &[f32], bias: &[f32], y: &mut [f32]) {
    for (x, y) in x
        .chunks_exact(bias.len())
        .zip(y.chunks_exact_mut(bias.len()))
    {
        for ((x, bias), y) in x.iter().zip(bias).zip(y) {
            let x = x + bias;
            let (cdf, _) = normal_cdf::<FUSED>(x);
            *y = x * cdf;
        }
    }
}

multiversioned! {
    /// `y = gelu(x + bias)` for whole rows.
    pub(crate) fn bias_gelu / bias_gelu_body(x: &[f32], bias: &[f32], y: &mut [f32])
}

#[inline(always)]
fn bias_gelu_in_place_body<const FUSED: bool>(x: &mut [f32], bias: &[f32]) {
    for x in x.chunks_exact_mut(bias.len()) {
        for (x, bias) in x.iter_mut().zip(bias) {
            let shifted = *x + bias;
            let (cdf, _) = normal_cdf::<FUSED>(shifted);
            *x = shifted * cdf;
        }
    }
}

multiversioned! {
    /// `x = gelu(x + bias)` for whole rows.
    pub(crate) fn bias_gelu_in_place / bias_gelu_in_place_body(x: &mut [f32], bias: &[f32])
}

#[inline(always)]
fn bias_gelu_both_body<const FUSED: bool>(
    x: &[f32],
    bias: &[f32],
    y: &mut [f32],
    grad: &mut [f32],
) {
    const INV_SQRT_2PI: f32 = 0.398_942_3;
    let columns = bias.len();
    for ((x, y), grad) in x
        .chunks_exact(columns)
        .zip(y.chunks_exact_mut(columns))
        .zip(grad.chunks_exact_mut(columns))
    {
        for (((x, bias), y), grad) in x.iter().zip(bias).zip(y).zip(grad) {
            let x = x + bias;
            let (cdf, gauss) = normal_cdf::<FUSED>(x);
            *y = x * cdf;
            *grad *= fma::<FUSED>(x * INV_SQRT_2PI, gauss, cdf);
        }
    }
}

multiversioned! {
    /// `y = gelu(x + bias)` and `grad = grad * gelu'(x + bias)` for whole rows.
    pub(crate) fn bias_gelu_both / bias_gelu_both_body(x: &[f32], bias: &[f32], y: &mut [f32], grad: &mut [f32])
}

multiversioned! {
    /// `y = x * Phi(x)`.
    pub(crate) fn gelu_forward / gelu_forward_body(x: &[f32], y: &mut [MaybeUninit<f32>])
}

multiversioned! {
    /// `dx = grad * (Phi(x) + x * phi(x))`.
    pub(crate) fn gelu_backward / gelu_backward_body(x: &[f32], grad: &[f32], dx: &mut [MaybeUninit<f32>])
}

/// What one AdamW step needs beside the four arrays; see [`crate::adamw`].
#[derive(Clone, Copy)]
pub(crate) struct AdamWScalars {
    pub(crate) grad_scale: f32,
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    /// `1 - beta1` and `1 - beta2`, taken before rounding to f32.
    pub(crate) take1: f32,
    pub(crate) take2: f32,
    /// Multiplies `m`.
    pub(crate) step: f32,
    /// Multiplies `sqrt(v)` before `eps` is added.
    pub(crate) root_scale: f32,
    pub(crate) eps: f32,
    /// Multiplies the parameter before the step.
    pub(crate) keep_before: f32,
    /// Multiplies the parameter after the step.
    pub(crate) keep_after: f32,
}

#[inline(always)]
fn adamw_body<const FUSED: bool>(
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    s: AdamWScalars,
) {
    for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        let g = g * s.grad_scale;
        let m1 = fma::<FUSED>(s.beta1, *m, s.take1 * g);
        let v1 = fma::<FUSED>(s.beta2, *v, s.take2 * g * g);
        *m = m1;
        *v = v1;
        let update = s.step * m1 / fma::<FUSED>(v1.sqrt(), s.root_scale, s.eps);
        *p = (*p * s.keep_before - update) * s.keep_after;
    }
}

multiversioned! {
    /// One AdamW step in place.
    pub(crate) fn adamw / adamw_body(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], s: AdamWScalars)
}

#[inline(always)]
fn lerp_body<const FUSED: bool>(a: &mut [f32], b: &[f32], weight: f32) {
    let keep = 1.0 - weight;
    for (a, b) in a.iter_mut().zip(b) {
        *a = fma::<FUSED>(weight, *a, keep * b);
    }
}

multiversioned! {
    /// `a = weight * a + (1 - weight) * b` in place.
    pub(crate) fn lerp / lerp_body(a: &mut [f32], b: &[f32], weight: f32)
}

#[inline(always)]
fn square_blocks_body<const FUSED: bool>(x: &[f32], block: usize, sums: &mut [f64]) {
    const LANES: usize = 16;
    for (x, sum) in x.chunks(block).zip(sums) {
        let mut lanes = [0.0f32; LANES];
        let (whole, rest) = x.as_chunks::<LANES>();
        for chunk in whole {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane = fma::<FUSED>(*x, *x, *lane);
            }
        }
        let tail: f32 = rest.iter().map(|x| x * x).sum();
        *sum = f64::from(lanes.iter().sum::<f32>() + tail);
    }
}

multiversioned! {
    /// Sum of squares of every block of `block` elements.
    fn square_blocks_into / square_blocks_body(x: &[f32], block: usize, sums: &mut [f64])
}

/// Sums of squares of the blocks of `x`, in order.
pub(crate) fn square_blocks(x: &[f32], block: usize) -> Vec<f64> {
    let per_task = CHUNK / block;
    let mut sums = vec![0.0; x.len().div_ceil(block)];
    x.par_chunks(per_task * block)
        .zip(sums.par_chunks_mut(per_task))
        .for_each(|(x, sums)| square_blocks_into(x, block, sums));
    sums
}

/// Runs `kernel` over matching chunks of `x` and a new buffer of the same shape.
///
/// `kernel` must write every element of the output slice it is given.
pub(crate) fn map1(
    x: FlexTensor,
    kernel: impl Fn(&[f32], &mut [MaybeUninit<f32>]) + Sync,
) -> FlexTensor {
    let x = x.to_contiguous();
    let shape = x.shape();
    let input: &[f32] = x.storage();
    let output = filled(input.len(), |start, out| {
        kernel(&input[start..start + out.len()], out);
    });
    FlexTensor::from_data(TensorData::new(output, shape))
}

/// As [`map1`] with two inputs of one shape.
pub(crate) fn map2(
    a: FlexTensor,
    b: FlexTensor,
    kernel: impl Fn(&[f32], &[f32], &mut [MaybeUninit<f32>]) + Sync,
) -> FlexTensor {
    let (a, b) = (a.to_contiguous(), b.to_contiguous());
    let shape = a.shape();
    let (left, right): (&[f32], &[f32]) = (a.storage(), b.storage());
    assert_eq!(left.len(), right.len(), "map2: operands of different sizes");
    let output = filled(left.len(), |start, out| {
        let end = start + out.len();
        kernel(&left[start..end], &right[start..end], out);
    });
    FlexTensor::from_data(TensorData::new(output, shape))
}

/// A vector of `len` elements filled in parallel by `fill(start, chunk)`.
fn filled(len: usize, fill: impl Fn(usize, &mut [MaybeUninit<f32>]) + Sync) -> Vec<f32> {
    let mut output: Vec<f32> = Vec::with_capacity(len);
    output.spare_capacity_mut()[..len]
        .par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(index, chunk)| fill(index * CHUNK, chunk));
    // SAFETY: the chunks cover the first `len` elements of the spare capacity, and every kernel
    // passed in writes each element of the slice it receives (a zip over equal lengths).
    unsafe { output.set_len(len) };
    output
}

/// Splits three mutable arrays and one shared one into matching chunks for [`adamw`].
pub(crate) fn adamw_parallel(
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    scalars: AdamWScalars,
) {
    p.par_chunks_mut(CHUNK)
        .zip(g.par_chunks(CHUNK))
        .zip(m.par_chunks_mut(CHUNK))
        .zip(v.par_chunks_mut(CHUNK))
        .for_each(|(((p, g), m), v)| adamw(p, g, m, v, scalars));
}

/// Chunked [`lerp`].
pub(crate) fn lerp_parallel(a: &mut [f32], b: &[f32], weight: f32) {
    a.par_chunks_mut(CHUNK)
        .zip(b.par_chunks(CHUNK))
        .for_each(|(a, b)| lerp(a, b, weight));
}
