//! Products of bfloat16 pairs with AVX512-BF16.
//!
//! Both operands are packed as pairs of neighbouring `k`, two bfloat16 in 32 bits, which is what
//! `VDPBF16PS` multiplies: `c += a_{2p} b_{2p} + a_{2p+1} b_{2p+1}` in 16 lanes. A panel holds `[pairs, W]` of
//! them, `W` rows of the left or columns of the right operand; a register tile is `12 x 32`.
//!
//! The right operand is packed once; every task packs the rows of the left one that it needs, a block of `k`
//! at a time, so that the block stays in the second-level cache and a panel's share of it in the first.

use std::arch::x86_64::{__m512bh, __m512i};

use rayon::prelude::*;

use super::Shared;
use super::matmul::{Matrix, PARALLEL, sizes};
use super::matmul_bf16::rounded_bits;

/// Rows and columns of a register tile: 24 accumulators, two vectors of the right operand and one of the
/// left fit the 32 registers.
const TILE_ROWS: usize = 12;
const TILE_COLUMNS: usize = 32;

/// Rows and columns of a task.
const TASK_ROWS: usize = 8 * TILE_ROWS;
const TASK_COLUMNS: usize = 24 * TILE_COLUMNS;

/// Pairs of `k` per block: a panel of the right operand then takes 32 KiB.
const BLOCK_PAIRS: usize = 256;

/// `low` in the lower half, `high` in the upper.
#[inline(always)]
fn pair(low: f32, high: f32) -> u32 {
    (rounded_bits(low) >> 16) | rounded_bits(high)
}

/// Whether the processor has the instructions.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
}

/// As [`matmul_bf16_into`](super::matmul_bf16::matmul_bf16_into), on a processor with the instructions.
pub(super) fn matmul_into(
    out: &mut [f32],
    stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    accumulate: bool,
) {
    assert!(available(), "matmul: instructions missing");
    let Some([m, n, k]) = sizes(out, stride, a, b) else {
        return;
    };
    let pairs = k.div_ceil(2);
    let parallel = m * n * k >= PARALLEL && rayon::current_num_threads() > 1;

    let panel = pairs * TILE_COLUMNS;
    let mut right = vec![0u32; n.div_ceil(TILE_COLUMNS) * panel];
    let columns = b.t();
    let pack_right = |(at, panel): (usize, &mut [u32])| {
        pack::<TILE_COLUMNS>(panel, columns, at * TILE_COLUMNS, 0, pairs);
    };
    if parallel {
        right.par_chunks_mut(panel).enumerate().for_each(pack_right);
    } else {
        right.chunks_mut(panel).enumerate().for_each(pack_right);
    }

    let out = Shared::new(out);
    let across = n.div_ceil(TASK_COLUMNS);
    let task = |left: &mut Vec<u32>, at: usize| {
        let (row, column) = (at / across * TASK_ROWS, at % across * TASK_COLUMNS);
        let rows = TASK_ROWS.min(m - row);
        let end = (column + TASK_COLUMNS).min(n);
        left.resize(TASK_ROWS * BLOCK_PAIRS, 0);
        for from in (0..pairs).step_by(BLOCK_PAIRS) {
            let count = BLOCK_PAIRS.min(pairs - from);
            for (tile, panel) in
                (0..rows.div_ceil(TILE_ROWS)).zip(left.chunks_mut(TILE_ROWS * count))
            {
                pack::<TILE_ROWS>(panel, a, row + tile * TILE_ROWS, from, count);
            }
            for column in (column..end).step_by(TILE_COLUMNS) {
                let start = column / TILE_COLUMNS * panel + from * TILE_COLUMNS;
                let right = &right[start..start + count * TILE_COLUMNS];
                for (tile, left) in
                    (0..rows.div_ceil(TILE_ROWS)).zip(left.chunks(TILE_ROWS * count))
                {
                    let row = row + tile * TILE_ROWS;
                    // SAFETY: the processor has the instructions; both panels hold `count` pairs of
                    // their width; the tile lies inside the output (checked by `sizes`), which is borrowed
                    // exclusively, and no two tasks share one.
                    unsafe {
                        multiply_tile(
                            out.at(row * stride + column),
                            stride,
                            [TILE_ROWS.min(m - row), TILE_COLUMNS.min(n - column)],
                            left,
                            right,
                            accumulate || from > 0,
                        );
                    }
                }
            }
        }
    };
    let tasks = m.div_ceil(TASK_ROWS) * across;
    if parallel {
        (0..tasks).into_par_iter().for_each_init(Vec::new, task);
    } else {
        let mut left = Vec::new();
        (0..tasks).for_each(|at| task(&mut left, at));
    }
}

/// Packs `W` rows of a matrix from row `first` on, `count` pairs of columns from pair `from` on, as
/// `[count, W]`; rows and the column beyond the matrix are zero.
fn pack<const W: usize>(
    panel: &mut [u32],
    matrix: Matrix<'_>,
    first: usize,
    from: usize,
    count: usize,
) {
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx2")]
    fn wide<const W: usize>(
        panel: &mut [u32],
        matrix: Matrix<'_>,
        first: usize,
        from: usize,
        count: usize,
    ) {
        pack_body::<W>(panel, matrix, first, from, count);
    }
    if is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512bw") {
        // SAFETY: the processor has the features.
        unsafe { wide::<W>(panel, matrix, first, from, count) }
    } else {
        pack_body::<W>(panel, matrix, first, from, count);
    }
}

#[inline(always)]
fn pack_body<const W: usize>(
    panel: &mut [u32],
    matrix: Matrix<'_>,
    first: usize,
    from: usize,
    count: usize,
) {
    let width = W.min(matrix.rows - first);
    let (panel, _) = panel[..count * W].as_chunks_mut::<W>();
    if width < W {
        panel.fill([0; W]);
    }
    let whole = (matrix.columns / 2).saturating_sub(from).min(count);
    let odd = (whole < count).then_some(2 * (from + whole));
    if matrix.column_stride == 1 {
        for lane in 0..width {
            let row = &matrix.data[(first + lane) * matrix.row_stride..];
            let (pairs, _) = row[2 * from..2 * (from + whole)].as_chunks::<2>();
            for (packed, [low, high]) in panel.iter_mut().zip(pairs) {
                packed[lane] = pair(*low, *high);
            }
            if let Some(column) = odd {
                panel[whole][lane] = pair(row[column], 0.0);
            }
        }
    } else if matrix.row_stride == 1 && width == W {
        let at = |column: usize| -> &[f32; W] {
            let column = &matrix.data[column * matrix.column_stride + first..];
            // `W` rows from `first` on are inside the matrix.
            column.first_chunk().unwrap_or(&[0.0; W])
        };
        for (index, packed) in panel[..whole].iter_mut().enumerate() {
            let column = 2 * (from + index);
            let (low, high) = (at(column), at(column + 1));
            for lane in 0..W {
                packed[lane] = pair(low[lane], high[lane]);
            }
        }
        if let Some(column) = odd {
            panel[whole] = at(column).map(|low| pair(low, 0.0));
        }
    } else {
        for (index, packed) in panel.iter_mut().enumerate() {
            let column = 2 * (from + index);
            for (lane, packed) in packed[..width].iter_mut().enumerate() {
                let high = if column + 1 < matrix.columns {
                    matrix.get(first + lane, column + 1)
                } else {
                    0.0
                };
                *packed = pair(matrix.get(first + lane, column), high);
            }
        }
    }
}

/// The same bits as 32 bfloat16.
#[target_feature(enable = "avx512f,avx512bf16")]
fn bf16_pairs(bits: __m512i) -> __m512bh {
    // SAFETY: both types are 64 bytes in which any bits are valid.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(bits) }
}

/// A tile of the result, `[rows, columns]` of it.
///
/// # Safety
///
/// The processor has AVX-512F and AVX512-BF16. `left` and `right` hold equally many pairs of `TILE_ROWS` and
/// `TILE_COLUMNS`. The tile at `out`, rows `stride` apart, may be written by nobody else meanwhile; with
/// `add` it is initialised.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn multiply_tile(
    out: *mut f32,
    stride: usize,
    [rows, columns]: [usize; 2],
    left: &[u32],
    right: &[u32],
    add: bool,
) {
    use std::arch::x86_64::{
        _mm512_add_ps, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_mask_storeu_ps,
        _mm512_maskz_loadu_ps, _mm512_set1_epi32, _mm512_setzero_ps,
    };
    let mut sums = [[_mm512_setzero_ps(); 2]; TILE_ROWS];
    let (left, _) = left.as_chunks::<TILE_ROWS>();
    let (right, _) = right.as_chunks::<TILE_COLUMNS>();
    for (left, right) in left.iter().zip(right) {
        // SAFETY: the 32 pairs are two vectors.
        let right = unsafe {
            let start = right.as_ptr();
            [
                bf16_pairs(_mm512_loadu_si512(start.cast())),
                bf16_pairs(_mm512_loadu_si512(start.add(16).cast())),
            ]
        };
        for (sum, left) in sums.iter_mut().zip(left) {
            let left = bf16_pairs(_mm512_set1_epi32(left.cast_signed()));
            sum[0] = _mm512_dpbf16_ps(sum[0], left, right[0]);
            sum[1] = _mm512_dpbf16_ps(sum[1], left, right[1]);
        }
    }
    let wanted = if columns == TILE_COLUMNS {
        u32::MAX
    } else {
        (1u32 << columns) - 1
    };
    let masks = [wanted as u16, (wanted >> 16) as u16];
    for (row, sum) in sums.into_iter().enumerate().take(rows) {
        for (half, (sum, mask)) in sum.into_iter().zip(masks).enumerate() {
            let at = out.wrapping_add(row * stride + 16 * half);
            // SAFETY: the mask leaves only elements of the tile, which is the caller's promise.
            unsafe {
                let sum = if add {
                    _mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), sum)
                } else {
                    sum
                };
                _mm512_mask_storeu_ps(at, mask, sum);
            }
        }
    }
}
