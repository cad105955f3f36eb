//! Self-attention over packed sequences, forward and backward.
//!
//! One task is one head of one sequence. Queries are taken in blocks, so that the score matrix in
//! memory is `block x sequence` whatever the length; the backward pass recomputes the weights from
//! the stored log-sum-exp of every row (Dao et al., arXiv 2205.14135, Algorithms 1 and 4, without
//! their tiling over keys).

use std::cell::RefCell;

use rayon::prelude::*;

use super::random_mask::MaskKey;
use super::tile::{Left, TILE, product};
use super::{Shared, overwritten};
use crate::simd::{Level, exp_nonpositive, fma, level};

/// Queries per block.
const QUERIES: usize = 64;

/// Sizes of a packed batch of sequences.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a> {
    /// `bounds[s]..bounds[s + 1]` are the rows of sequence `s`.
    pub(crate) bounds: &'a [usize],
    /// Heads.
    pub(crate) heads: usize,
    /// Columns of one head.
    pub(crate) head: usize,
    /// Added to queries, keys and values, `[hidden]` each.
    pub(crate) bias: [&'a [f32]; 3],
    /// Factor on `q k^T`.
    pub(crate) scale: f32,
    /// Dropout of the attention weights.
    pub(crate) dropout: Option<MaskKey>,
}

impl Packed<'_> {
    fn hidden(&self) -> usize {
        self.heads * self.head
    }

    fn rows(&self) -> usize {
        self.bounds.last().copied().unwrap_or(0)
    }

    fn sequences(&self) -> usize {
        self.bounds.len().saturating_sub(1)
    }

    /// Every index that a task may form is inside buffers of the checked lengths.
    fn check(&self, qkv: usize) {
        assert!(
            self.bounds.first() == Some(&0) && self.bounds.is_sorted(),
            "attention: bounds must start at 0 and ascend"
        );
        assert!(self.head > 0, "attention: empty heads");
        assert_eq!(
            qkv,
            self.rows() * 3 * self.hidden(),
            "attention: qkv of another size"
        );
        assert!(
            self.bias.iter().all(|bias| bias.len() == self.hidden()),
            "attention: bias of another size"
        );
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Runs `task(sequence, head, scratch)` for all heads of all sequences, one instruction set chosen.
fn for_each_head(
    packed: &Packed<'_>,
    scratch: impl Fn(usize) -> usize + Sync,
    task: &(dyn Fn(usize, usize, &mut [f32]) + Sync),
) {
    (0..packed.sequences() * packed.heads)
        .into_par_iter()
        .with_max_len(packed.heads)
        .for_each(|index| {
            let (sequence, head) = (index / packed.heads, index % packed.heads);
            let length = packed.bounds[sequence + 1] - packed.bounds[sequence];
            if length == 0 {
                return;
            }
            SCRATCH.with_borrow_mut(|buffer| {
                let needed = scratch(length);
                if buffer.len() < needed {
                    buffer.resize(needed, 0.0);
                }
                task(sequence, head, &mut buffer[..needed]);
            });
        });
}

fn round_up(n: usize, to: usize) -> usize {
    n.div_ceil(to) * to
}

/// `context [rows, hidden]` and the log-sum-exp of the scaled scores, `[rows, heads]`.
///
/// `qkv` is `[rows, 3 hidden]`: queries, keys, values, each split into heads.
pub(crate) fn forward(qkv: &[f32], packed: &Packed<'_>) -> (Vec<f32>, Vec<f32>) {
    packed.check(qkv.len());
    let (rows, hidden, heads) = (packed.rows(), packed.hidden(), packed.heads);
    let mut lse = vec![0.0f32; rows * heads];
    let shared_lse = Shared::new(&mut lse);
    let head = packed.head;
    let need = move |length: usize| {
        let (t, d) = (round_up(length, TILE), round_up(head, TILE));
        t * head + length * d + QUERIES * (head + t + d)
    };
    let level = level();
    // SAFETY: the tasks cover all rows and all heads, so every element of the context is written.
    let context = unsafe {
        overwritten(rows * hidden, |out| {
            let out = Shared::new(out);
            for_each_head(packed, need, &|sequence, head, scratch| {
                let job = ForwardJob {
                    qkv,
                    packed,
                    sequence,
                    head,
                    out,
                    lse: shared_lse,
                };
                match level {
                    Level::Portable => forward_head::<false>(&job, scratch),
                    // SAFETY: `level` has seen the features.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => forward_avx2(&job, scratch),
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => forward_avx512(&job, scratch),
                }
            });
        })
    };
    (context, lse)
}

struct ForwardJob<'a> {
    qkv: &'a [f32],
    packed: &'a Packed<'a>,
    sequence: usize,
    head: usize,
    out: Shared,
    lse: Shared,
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn forward_avx2(job: &ForwardJob<'_>, scratch: &mut [f32]) {
    forward_head::<true>(job, scratch);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
fn forward_avx512(job: &ForwardJob<'_>, scratch: &mut [f32]) {
    forward_head::<true>(job, scratch);
}

#[inline(always)]
fn forward_head<const FUSED: bool>(job: &ForwardJob<'_>, scratch: &mut [f32]) {
    let p = job.packed;
    let (begin, end) = (p.bounds[job.sequence], p.bounds[job.sequence + 1]);
    let (length, d, hidden) = (end - begin, p.head, p.hidden());
    let (t, dp, stride) = (round_up(length, TILE), round_up(d, TILE), 3 * hidden);
    let column = job.head * d;
    let (keys, rest) = scratch.split_at_mut(d * t);
    let (values, rest) = rest.split_at_mut(length * dp);
    let (queries, rest) = rest.split_at_mut(QUERIES * d);
    let (scores, context) = rest.split_at_mut(QUERIES * t);
    let part = |which: usize, row: usize| {
        let at = (begin + row) * stride + which * hidden + column;
        &job.qkv[at..at + d]
    };
    let bias = p.bias.map(|bias| &bias[column..column + d]);
    transpose::<FUSED>(keys, t, length, bias[1], |row| part(1, row));
    copy_rows(values, dp, length, bias[2], 1.0, |row| part(2, row));
    let mut first = 0;
    while first < length {
        let count = QUERIES.min(length - first);
        copy_rows(queries, d, count, bias[0], p.scale, |row| {
            part(0, first + row)
        });
        product::<FUSED>(
            scores,
            t,
            [count, t, d],
            Left {
                data: queries,
                row: d,
                column: 1,
            },
            keys,
            t,
            false,
        );
        for row in 0..count {
            let scores = &mut scores[row * t..(row + 1) * t];
            let (max, sum) = softmax::<FUSED>(scores, length);
            let token = begin + first + row;
            // SAFETY: this task alone writes (token, head), and token < rows.
            unsafe { *job.lse.at(token * p.heads + job.head) = max + sum.ln() };
            if let Some(key) = p.dropout {
                let key = key.row(token * p.heads + job.head);
                for (at, score) in scores.iter_mut().enumerate() {
                    *score *= key.factor(at as u32);
                }
            }
        }
        product::<FUSED>(
            context,
            dp,
            [count, dp, length],
            Left {
                data: scores,
                row: t,
                column: 1,
            },
            values,
            dp,
            false,
        );
        for row in 0..count {
            let at = (begin + first + row) * hidden + column;
            // SAFETY: rows of this sequence and columns of this head belong to this task alone.
            let out = unsafe { job.out.slice(at, d) };
            out.copy_from_slice(&context[row * dp..row * dp + d]);
        }
        first += count;
    }
}

/// Softmax of the first `length` elements in place, zeros behind; returns the maximum and the sum of
/// the shifted exponentials. A NaN stays one.
#[inline(always)]
fn softmax<const FUSED: bool>(scores: &mut [f32], length: usize) -> (f32, f32) {
    scores[length..].fill(f32::NEG_INFINITY);
    let mut lanes = [f32::NEG_INFINITY; TILE];
    let (whole, _) = scores.as_chunks::<TILE>();
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    let max = lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores[length..].fill(max);
    for x in scores.iter_mut() {
        let u = *x - max;
        // exp_nonpositive clamps, which would turn NaN into a number: u * 0 brings it back.
        *x = fma::<FUSED>(u, 0.0, exp_nonpositive::<FUSED>(u));
    }
    scores[length..].fill(0.0);
    let mut lanes = [0.0f32; TILE];
    let (whole, _) = scores.as_chunks::<TILE>();
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += *x;
        }
    }
    let sum = lanes.iter().sum::<f32>();
    let inverse = 1.0 / sum;
    for x in scores.iter_mut() {
        *x *= inverse;
    }
    (max, sum)
}

/// `grad_qkv [rows, 3 hidden]` from the gradient of the context.
pub(crate) fn backward(qkv: &[f32], lse: &[f32], grad: &[f32], packed: &Packed<'_>) -> Vec<f32> {
    packed.check(qkv.len());
    let (rows, hidden, head) = (packed.rows(), packed.hidden(), packed.head);
    assert_eq!(
        grad.len(),
        rows * hidden,
        "attention: gradient of another size"
    );
    assert_eq!(
        lse.len(),
        rows * packed.heads,
        "attention: statistics of another size"
    );
    let need = move |length: usize| {
        let (t, d) = (round_up(length, TILE), round_up(head, TILE));
        2 * head * t + 3 * t * d + QUERIES * (head + 3 * d + 2 * t)
    };
    let level = level();
    // SAFETY: the tasks cover all rows and, with three parts each, all columns.
    unsafe {
        overwritten(rows * 3 * hidden, |out| {
            let out = Shared::new(out);
            for_each_head(packed, need, &|sequence, head, scratch| {
                let job = BackwardJob {
                    qkv,
                    lse,
                    grad,
                    packed,
                    sequence,
                    head,
                    out,
                };
                match level {
                    Level::Portable => backward_head::<false>(&job, scratch),
                    // SAFETY: `level` has seen the features.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => backward_avx2(&job, scratch),
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => backward_avx512(&job, scratch),
                }
            });
        })
    }
}

struct BackwardJob<'a> {
    qkv: &'a [f32],
    lse: &'a [f32],
    grad: &'a [f32],
    packed: &'a Packed<'a>,
    sequence: usize,
    head: usize,
    out: Shared,
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn backward_avx2(job: &BackwardJob<'_>, scratch: &mut [f32]) {
    backward_head::<true>(job, scratch);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
fn backward_avx512(job: &BackwardJob<'_>, scratch: &mut [f32]) {
    backward_head::<true>(job, scratch);
}

/// With `P` the weights, `M` the dropout factors and `G` the gradient of the context:
///
/// ```text
/// dV = (P * M)^T G          dP = (G V^T) * M        D_i = sum_j P_ij dP_ij
/// dS = P * (dP - D) scale   dQ = dS K               dK = dS^T Q
/// ```
#[inline(always)]
fn backward_head<const FUSED: bool>(job: &BackwardJob<'_>, scratch: &mut [f32]) {
    let p = job.packed;
    let (begin, end) = (p.bounds[job.sequence], p.bounds[job.sequence + 1]);
    let (length, d, hidden) = (end - begin, p.head, p.hidden());
    let (t, dp, stride) = (round_up(length, TILE), round_up(d, TILE), 3 * hidden);
    let column = job.head * d;
    let (keys, rest) = scratch.split_at_mut(d * t); // K^T
    let (values, rest) = rest.split_at_mut(d * t); // V^T
    let (key_rows, rest) = rest.split_at_mut(t * dp);
    let (grad_keys, rest) = rest.split_at_mut(t * dp);
    let (grad_values, rest) = rest.split_at_mut(t * dp);
    let (scaled, rest) = rest.split_at_mut(QUERIES * d);
    let (queries, rest) = rest.split_at_mut(QUERIES * dp);
    let (grads, rest) = rest.split_at_mut(QUERIES * dp);
    let (grad_queries, rest) = rest.split_at_mut(QUERIES * dp);
    let (weights, grad_scores) = rest.split_at_mut(QUERIES * t);
    let part = |which: usize, row: usize| {
        let at = (begin + row) * stride + which * hidden + column;
        &job.qkv[at..at + d]
    };
    let bias = p.bias.map(|bias| &bias[column..column + d]);
    transpose::<FUSED>(keys, t, length, bias[1], |row| part(1, row));
    transpose::<FUSED>(values, t, length, bias[2], |row| part(2, row));
    copy_rows(key_rows, dp, length, bias[1], 1.0, |row| part(1, row));
    let mut first = 0;
    while first < length {
        let count = QUERIES.min(length - first);
        copy_rows(scaled, d, count, bias[0], p.scale, |row| {
            part(0, first + row)
        });
        copy_rows(queries, dp, count, bias[0], 1.0, |row| part(0, first + row));
        for row in 0..count {
            let at = (begin + first + row) * hidden + column;
            let grads = &mut grads[row * dp..(row + 1) * dp];
            grads[..d].copy_from_slice(&job.grad[at..at + d]);
            grads[d..].fill(0.0);
        }
        product::<FUSED>(
            weights,
            t,
            [count, t, d],
            Left {
                data: scaled,
                row: d,
                column: 1,
            },
            keys,
            t,
            false,
        );
        product::<FUSED>(
            grad_scores,
            t,
            [count, t, d],
            Left {
                data: grads,
                row: dp,
                column: 1,
            },
            values,
            t,
            false,
        );
        for row in 0..count {
            let token = begin + first + row;
            let lse = job.lse[token * p.heads + job.head];
            let weights = &mut weights[row * t..(row + 1) * t];
            let grad_scores = &mut grad_scores[row * t..(row + 1) * t];
            for w in weights.iter_mut() {
                let u = *w - lse;
                *w = fma::<FUSED>(u, 0.0, exp_nonpositive::<FUSED>(u));
            }
            weights[length..].fill(0.0);
            if let Some(key) = p.dropout {
                let key = key.row(token * p.heads + job.head);
                for (at, g) in grad_scores.iter_mut().enumerate() {
                    *g *= key.factor(at as u32);
                }
            }
            let mut lanes = [0.0f32; TILE];
            let (w, _) = weights.as_chunks::<TILE>();
            let (g, _) = grad_scores.as_chunks::<TILE>();
            for (w, g) in w.iter().zip(g) {
                for ((lane, w), g) in lanes.iter_mut().zip(w).zip(g) {
                    *lane = fma::<FUSED>(*w, *g, *lane);
                }
            }
            let dot = lanes.iter().sum::<f32>();
            for (g, w) in grad_scores.iter_mut().zip(weights.iter()) {
                *g = w * (*g - dot) * p.scale;
            }
            if let Some(key) = p.dropout {
                let key = key.row(token * p.heads + job.head);
                for (at, w) in weights.iter_mut().enumerate() {
                    *w *= key.factor(at as u32);
                }
            }
        }
        let keep = first > 0;
        product::<FUSED>(
            grad_values,
            dp,
            [length, dp, count],
            Left {
                data: weights,
                row: 1,
                column: t,
            },
            grads,
            dp,
            keep,
        );
        product::<FUSED>(
            grad_keys,
            dp,
            [length, dp, count],
            Left {
                data: grad_scores,
                row: 1,
                column: t,
            },
            queries,
            dp,
            keep,
        );
        product::<FUSED>(
            grad_queries,
            dp,
            [count, dp, length],
            Left {
                data: grad_scores,
                row: t,
                column: 1,
            },
            key_rows,
            dp,
            false,
        );
        for row in 0..count {
            let at = (begin + first + row) * stride + column;
            // SAFETY: rows of this sequence and columns of this head belong to this task alone.
            let out = unsafe { job.out.slice(at, d) };
            out.copy_from_slice(&grad_queries[row * dp..row * dp + d]);
        }
        first += count;
    }
    for (which, source) in [(1, &*grad_keys), (2, &*grad_values)] {
        for row in 0..length {
            let at = (begin + row) * stride + which * hidden + column;
            // SAFETY: as above.
            let out = unsafe { job.out.slice(at, d) };
            out.copy_from_slice(&source[row * dp..row * dp + d]);
        }
    }
}

/// `out[c, r] = row(r)[c] + bias[c]`; columns of `out` behind `rows` are zero.
#[inline(always)]
fn transpose<'a, const FUSED: bool>(
    out: &mut [f32],
    stride: usize,
    rows: usize,
    bias: &[f32],
    row: impl Fn(usize) -> &'a [f32],
) {
    const SIDE: usize = 8;
    let d = bias.len();
    let (whole_rows, whole_columns) = (rows / SIDE * SIDE, d / SIDE * SIDE);
    for r in (0..whole_rows).step_by(SIDE) {
        for c in (0..whole_columns).step_by(SIDE) {
            let mut block = [[0.0f32; SIDE]; SIDE];
            for (i, block) in block.iter_mut().enumerate() {
                let source = &row(r + i)[c..c + SIDE];
                for ((to, x), bias) in block.iter_mut().zip(source).zip(&bias[c..c + SIDE]) {
                    *to = x + bias;
                }
            }
            let block = transposed::<FUSED>(block);
            for (i, block) in block.iter().enumerate() {
                let at = (c + i) * stride + r;
                out[at..at + SIDE].copy_from_slice(block);
            }
        }
    }
    for r in 0..rows {
        let from = if r < whole_rows { whole_columns } else { 0 };
        for (c, (x, bias)) in row(r).iter().zip(bias).enumerate().skip(from) {
            out[c * stride + r] = x + bias;
        }
    }
    for c in 0..d {
        out[c * stride + rows..(c + 1) * stride].fill(0.0);
    }
}

/// An 8 x 8 block transposed.
#[inline(always)]
fn transposed<const FUSED: bool>(block: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
    #[cfg(target_arch = "x86_64")]
    if FUSED {
        // SAFETY: `FUSED` bodies run only where AVX2 was seen.
        return unsafe { transposed_avx(block) };
    }
    let mut out = [[0.0; 8]; 8];
    for (r, row) in block.iter().enumerate() {
        for (c, x) in row.iter().enumerate() {
            out[c][r] = *x;
        }
    }
    out
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
#[inline]
fn transposed_avx(block: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
    use std::arch::x86_64::{
        _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
        _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };
    // SAFETY: each row holds the eight floats that are read.
    let r = block
        .each_ref()
        .map(|row| unsafe { _mm256_loadu_ps(row.as_ptr()) });
    let pairs = [0, 2, 4, 6].map(|i| {
        (
            _mm256_unpacklo_ps(r[i], r[i + 1]),
            _mm256_unpackhi_ps(r[i], r[i + 1]),
        )
    });
    let quads = [0, 2].map(|i| {
        let ((a, b), (c, d)) = (pairs[i], pairs[i + 1]);
        [
            _mm256_shuffle_ps::<0x44>(a, c),
            _mm256_shuffle_ps::<0xEE>(a, c),
            _mm256_shuffle_ps::<0x44>(b, d),
            _mm256_shuffle_ps::<0xEE>(b, d),
        ]
    });
    let mut out = [[0.0f32; 8]; 8];
    for i in 0..4 {
        let low = _mm256_permute2f128_ps::<0x20>(quads[0][i], quads[1][i]);
        let high = _mm256_permute2f128_ps::<0x31>(quads[0][i], quads[1][i]);
        // SAFETY: each row holds the eight floats that are written.
        unsafe {
            _mm256_storeu_ps(out[i].as_mut_ptr(), low);
            _mm256_storeu_ps(out[i + 4].as_mut_ptr(), high);
        }
    }
    out
}

/// `(row(r) + bias) * factor` for `rows` rows; columns behind the bias are zero.
#[inline(always)]
fn copy_rows<'a>(
    out: &mut [f32],
    stride: usize,
    rows: usize,
    bias: &[f32],
    factor: f32,
    row: impl Fn(usize) -> &'a [f32],
) {
    for r in 0..rows {
        let out = &mut out[r * stride..(r + 1) * stride];
        for ((out, x), bias) in out.iter_mut().zip(row(r)).zip(bias) {
            *out = (x + bias) * factor;
        }
        out[bias.len()..].fill(0.0);
    }
}
