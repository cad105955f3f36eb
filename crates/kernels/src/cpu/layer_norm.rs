//! Residual, dropout and layer norm in one pass over the rows.

use rayon::prelude::*;

use super::column_sum::total;
use super::random_mask::MaskKey;
use super::{ROWS, overwritten};
use crate::simd::{Level, fma, level};

const LANES: usize = 16;

/// What the backward pass needs: the normalised rows `(z - mean) / sd` and `1 / sd` of each row.
pub(crate) struct Normalized {
    pub(crate) output: Vec<f32>,
    pub(crate) normalized: Vec<f32>,
    pub(crate) inverse: Vec<f32>,
}

/// Scale, shift and epsilon of a layer norm.
#[derive(Clone, Copy)]
pub(crate) struct Affine<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) eps: f32,
}

/// `y = LN(x + mask * (u + b))` over rows of `affine.weight.len()` columns; `u` may be absent.
///
/// With `keep` false the normalised rows and deviations are not stored.
pub(crate) fn forward(
    x: &[f32],
    u: Option<(&[f32], &[f32])>,
    affine: Affine<'_>,
    mask: Option<MaskKey>,
    keep: bool,
) -> Normalized {
    let columns = affine.weight.len();
    assert!(columns > 0 && x.len().is_multiple_of(columns));
    assert!(
        u.is_none_or(|(u, b)| u.len() == x.len() && b.len() == columns)
            && affine.bias.len() == columns
    );
    let level = level();
    let block = ROWS * columns;
    let run = |at: usize, output: &mut [f32], normalized: &mut [f32], inverse: &mut [f32]| {
        let range = at * block..at * block + output.len();
        let job = ForwardRows {
            x: &x[range.clone()],
            u: u.map(|(u, b)| (&u[range], b)),
            affine,
            mask,
            first: at * ROWS,
        };
        match level {
            Level::Portable => forward_rows::<false>(&job, output, normalized, inverse),
            // SAFETY: `level` has seen the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { forward_avx2(&job, output, normalized, inverse) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { forward_avx512(&job, output, normalized, inverse) },
        }
    };
    let mut normalized = Vec::new();
    let mut inverse = Vec::new();
    // SAFETY: the blocks cover both buffers and every row function writes each element it is given.
    let output = unsafe {
        overwritten(x.len(), |output| {
            if keep {
                inverse = vec![0.0; x.len() / columns];
                normalized = overwritten(x.len(), |normalized| {
                    output
                        .par_chunks_mut(block)
                        .zip(normalized.par_chunks_mut(block))
                        .zip(inverse.par_chunks_mut(ROWS))
                        .enumerate()
                        .for_each(|(at, ((output, normalized), inverse))| {
                            run(at, output, normalized, inverse);
                        });
                });
            } else {
                output
                    .par_chunks_mut(block)
                    .enumerate()
                    .for_each(|(at, output)| run(at, output, &mut [], &mut []));
            }
        })
    };
    Normalized {
        output,
        normalized,
        inverse,
    }
}

struct ForwardRows<'a> {
    x: &'a [f32],
    u: Option<(&'a [f32], &'a [f32])>,
    affine: Affine<'a>,
    mask: Option<MaskKey>,
    first: usize,
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn forward_avx2(job: &ForwardRows<'_>, y: &mut [f32], n: &mut [f32], inverse: &mut [f32]) {
    forward_rows::<true>(job, y, n, inverse);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
fn forward_avx512(job: &ForwardRows<'_>, y: &mut [f32], n: &mut [f32], inverse: &mut [f32]) {
    forward_rows::<true>(job, y, n, inverse);
}

#[inline(always)]
fn forward_rows<const FUSED: bool>(
    job: &ForwardRows<'_>,
    output: &mut [f32],
    normalized: &mut [f32],
    inverse: &mut [f32],
) {
    let columns = job.affine.weight.len();
    for (row, y) in output.chunks_exact_mut(columns).enumerate() {
        let range = row * columns..(row + 1) * columns;
        let x = &job.x[range.clone()];
        match (job.u, job.mask) {
            (Some((u, b)), Some(mask)) => {
                let key = mask.row(job.first + row);
                let u = &u[range.clone()];
                for (at, (((y, x), u), b)) in y.iter_mut().zip(x).zip(u).zip(b).enumerate() {
                    *y = fma::<FUSED>(u + b, key.factor(at as u32), *x);
                }
            }
            (Some((u, b)), None) => {
                for (((y, x), u), b) in y.iter_mut().zip(x).zip(&u[range.clone()]).zip(b) {
                    *y = x + (u + b);
                }
            }
            (None, _) => y.copy_from_slice(x),
        }
        let count = columns as f32;
        let mean = lane_sum::<FUSED>(y, |sum, z| sum + z) / count;
        let variance = lane_sum::<FUSED>(y, |sum, z| {
            let off = z - mean;
            fma::<FUSED>(off, off, sum)
        }) / count;
        let scale = 1.0 / (variance + job.affine.eps).sqrt();
        if normalized.is_empty() {
            for ((y, weight), bias) in y.iter_mut().zip(job.affine.weight).zip(job.affine.bias) {
                *y = fma::<FUSED>((*y - mean) * scale, *weight, *bias);
            }
        } else {
            inverse[row] = scale;
            let normalized = &mut normalized[range];
            for (((y, n), weight), bias) in y
                .iter_mut()
                .zip(normalized)
                .zip(job.affine.weight)
                .zip(job.affine.bias)
            {
                *n = (*y - mean) * scale;
                *y = fma::<FUSED>(*n, *weight, *bias);
            }
        }
    }
}

/// Folds a row in 16 lanes, then the lanes in order, then the rest of the row.
#[inline(always)]
fn lane_sum<const FUSED: bool>(row: &[f32], step: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = step(*lane, *x);
        }
    }
    let mut tail = 0.0;
    for x in rest {
        tail = step(tail, *x);
    }
    lanes.iter().sum::<f32>() + tail
}

/// Gradients of a layer norm.
pub(crate) struct Gradients {
    /// Of the sum `x + mask * u`, hence of `x`.
    pub(crate) sum: Vec<f32>,
    /// Of `u`, where a mask makes it differ from `sum`.
    pub(crate) u: Option<Vec<f32>>,
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// ```text
/// g = grad * weight
/// dz = inverse * (g - mean(g) - n * mean(g * n))      dweight = sum grad * n      dbias = sum grad
/// ```
pub(crate) fn backward(
    normalized: &[f32],
    inverse: &[f32],
    weight: &[f32],
    grad: &[f32],
    mask: Option<MaskKey>,
) -> Gradients {
    let columns = weight.len();
    assert!(columns > 0 && normalized.len() == grad.len());
    assert_eq!(inverse.len() * columns, grad.len());
    let level = level();
    let block = 2 * ROWS * columns;
    let mut partial = Vec::new();
    let mut u = None;
    let run = |at: usize, sum: &mut [f32], u: &mut [f32]| {
        let range = at * block..at * block + sum.len();
        let job = BackwardRows {
            normalized: &normalized[range.clone()],
            inverse: &inverse[2 * at * ROWS..],
            weight,
            grad: &grad[range],
            mask,
            first: 2 * at * ROWS,
        };
        let mut sums = vec![0.0; 2 * columns];
        match level {
            Level::Portable => backward_rows::<false>(&job, sum, u, &mut sums),
            // SAFETY: `level` has seen the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { backward_avx2(&job, sum, u, &mut sums) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { backward_avx512(&job, sum, u, &mut sums) },
        }
        sums
    };
    // SAFETY: the blocks cover both buffers and every row function writes each element it is given.
    let sum = unsafe {
        overwritten(grad.len(), |sum| {
            if mask.is_some() {
                u = Some(overwritten(grad.len(), |u| {
                    partial = sum
                        .par_chunks_mut(block)
                        .zip(u.par_chunks_mut(block))
                        .enumerate()
                        .map(|(at, (sum, u))| run(at, sum, u))
                        .collect();
                }));
            } else {
                partial = sum
                    .par_chunks_mut(block)
                    .enumerate()
                    .map(|(at, sum)| run(at, sum, &mut []))
                    .collect();
            }
        })
    };
    let mut weight = total(partial, 2 * columns);
    let bias = weight.split_off(columns);
    Gradients {
        sum,
        u,
        weight,
        bias,
    }
}

struct BackwardRows<'a> {
    normalized: &'a [f32],
    inverse: &'a [f32],
    weight: &'a [f32],
    grad: &'a [f32],
    mask: Option<MaskKey>,
    first: usize,
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn backward_avx2(job: &BackwardRows<'_>, sum: &mut [f32], u: &mut [f32], sums: &mut [f32]) {
    backward_rows::<true>(job, sum, u, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
fn backward_avx512(job: &BackwardRows<'_>, sum: &mut [f32], u: &mut [f32], sums: &mut [f32]) {
    backward_rows::<true>(job, sum, u, sums);
}

#[inline(always)]
fn backward_rows<const FUSED: bool>(
    job: &BackwardRows<'_>,
    sum: &mut [f32],
    u: &mut [f32],
    sums: &mut [f32],
) {
    let columns = job.weight.len();
    let (sum_weight, sum_bias) = sums.split_at_mut(columns);
    for (row, dz) in sum.chunks_exact_mut(columns).enumerate() {
        let range = row * columns..(row + 1) * columns;
        let n = &job.normalized[range.clone()];
        let grad = &job.grad[range.clone()];
        for ((((dz, g), w), sw), (sb, n)) in dz
            .iter_mut()
            .zip(grad)
            .zip(job.weight)
            .zip(sum_weight.iter_mut())
            .zip(sum_bias.iter_mut().zip(n))
        {
            *dz = g * w;
            *sw = fma::<FUSED>(*g, *n, *sw);
            *sb += g;
        }
        let mut mean = [0.0f32; LANES];
        let mut along = [0.0f32; LANES];
        let (whole, rest) = dz.as_chunks::<LANES>();
        let (n_whole, n_rest) = n.as_chunks::<LANES>();
        for (g, n) in whole.iter().zip(n_whole) {
            for (((mean, along), g), n) in mean.iter_mut().zip(&mut along).zip(g).zip(n) {
                *mean += g;
                *along = fma::<FUSED>(*g, *n, *along);
            }
        }
        let mut mean = mean.iter().sum::<f32>();
        let mut along = along.iter().sum::<f32>();
        for (g, n) in rest.iter().zip(n_rest) {
            mean += g;
            along += g * n;
        }
        let (mean, along) = (mean / columns as f32, along / columns as f32);
        let inverse = job.inverse[row];
        for (dz, n) in dz.iter_mut().zip(n) {
            *dz = inverse * (*dz - mean - n * along);
        }
        if let Some(mask) = job.mask {
            let key = mask.row(job.first + row);
            for (at, (u, dz)) in u[range].iter_mut().zip(dz.iter()).enumerate() {
                *u = dz * key.factor(at as u32);
            }
        }
    }
}

/// `x * mask` by rows of `columns`, in place.
pub(crate) fn mask_rows(x: &mut [f32], columns: usize, mask: MaskKey) {
    x.par_chunks_mut(ROWS * columns)
        .enumerate()
        .for_each(|(at, rows)| {
            for (row, x) in rows.chunks_mut(columns).enumerate() {
                let key = mask.row(at * ROWS + row);
                for (at, x) in x.iter_mut().enumerate() {
                    *x *= key.factor(at as u32);
                }
            }
        });
}
