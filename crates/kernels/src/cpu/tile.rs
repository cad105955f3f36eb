//! Small matrix products from register tiles, for operands that fit in the first cache levels.
//!
//! The `gemm` crate packs its operands and plans its blocks anew for each call, which costs more than
//! the product of one attention head.

/// Columns of a tile; right-hand sides are padded to a multiple of it.
pub(crate) const TILE: usize = 16;
/// Rows of a tile.
const TILE_ROWS: usize = 6;

/// A left-hand side: element `(i, p)` is `data[i * row + p * column]`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row: usize,
    pub(crate) column: usize,
}

/// `c [m, n] = a b`, or `+=` with `accumulate`; `b [k, n]` and `c` are row-major with rows `ldb` and
/// `ldc` apart, `n` is a multiple of 16. `FUSED` may be set only where AVX2 and FMA were seen.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn product<const FUSED: bool>(
    c: &mut [f32],
    ldc: usize,
    [m, n, k]: [usize; 3],
    a: Left<'_>,
    b: &[f32],
    ldb: usize,
    accumulate: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(n.is_multiple_of(TILE));
    assert!((m - 1) * ldc + n <= c.len());
    assert!(k == 0 || (k - 1) * ldb + n <= b.len());
    assert!(k == 0 || (m - 1) * a.row + (k - 1) * a.column < a.data.len());
    let mut i = 0;
    while i < m {
        let rows = (m - i).min(TILE_ROWS);
        for j in (0..n).step_by(TILE) {
            let tile = Tile {
                k,
                a: a.data.as_ptr().wrapping_add(i * a.row),
                row: a.row,
                column: a.column,
                b: b.as_ptr().wrapping_add(j),
                ldb,
                c: c.as_mut_ptr().wrapping_add(i * ldc + j),
                ldc,
                accumulate,
            };
            // SAFETY: rows i .. i + rows and columns j .. j + 16 of c, the same rows of a and columns
            // of b are inside the slices by the assertions above. The caller of a `FUSED` body has
            // seen AVX2 and FMA.
            unsafe {
                match rows {
                    6 => tile.multiply::<FUSED, 6>(),
                    5 => tile.multiply::<FUSED, 5>(),
                    4 => tile.multiply::<FUSED, 4>(),
                    3 => tile.multiply::<FUSED, 3>(),
                    2 => tile.multiply::<FUSED, 2>(),
                    _ => tile.multiply::<FUSED, 1>(),
                }
            }
        }
        i += rows;
    }
}

/// A block of at most 6 x 16 elements of a product: twelve registers of sums, two of `b`.
struct Tile {
    k: usize,
    a: *const f32,
    row: usize,
    column: usize,
    b: *const f32,
    ldb: usize,
    c: *mut f32,
    ldc: usize,
    accumulate: bool,
}

impl Tile {
    /// # Safety
    ///
    /// `R` rows and `k` columns of `a`, `k` rows and 16 columns of `b`, and `R` rows and 16 columns of
    /// `c` are readable, those of `c` writable; with `FUSED`, the processor has AVX2 and FMA.
    #[inline(always)]
    unsafe fn multiply<const FUSED: bool, const R: usize>(&self) {
        #[cfg(target_arch = "x86_64")]
        if FUSED {
            // SAFETY: the caller's promise.
            unsafe { self.multiply_avx2::<R>() };
            return;
        }
        let mut sums = [[0.0f32; TILE]; R];
        // SAFETY: every index is inside the ranges of the caller's promise.
        unsafe {
            for at in 0..self.k {
                let line = &*self.b.add(at * self.ldb).cast::<[f32; TILE]>();
                for (r, sums) in sums.iter_mut().enumerate() {
                    let factor = *self.a.add(r * self.row + at * self.column);
                    for (sum, x) in sums.iter_mut().zip(line) {
                        *sum += factor * x;
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                let out = &mut *self.c.add(r * self.ldc).cast::<[f32; TILE]>();
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = if self.accumulate { *out + sum } else { *sum };
                }
            }
        }
    }

    /// # Safety
    ///
    /// As [`Tile::multiply`].
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn multiply_avx2<const R: usize>(&self) {
        use std::arch::x86_64::{
            _mm256_add_ps, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps,
            _mm256_setzero_ps, _mm256_storeu_ps,
        };
        let mut low = [_mm256_setzero_ps(); R];
        let mut high = [_mm256_setzero_ps(); R];
        let (mut a, mut b) = (self.a, self.b);
        // SAFETY: every access is inside the ranges of the caller's promise.
        unsafe {
            for _ in 0..self.k {
                let (x, y) = (_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8)));
                for r in 0..R {
                    let factor = _mm256_broadcast_ss(&*a.add(r * self.row));
                    low[r] = _mm256_fmadd_ps(factor, x, low[r]);
                    high[r] = _mm256_fmadd_ps(factor, y, high[r]);
                }
                a = a.wrapping_add(self.column);
                b = b.wrapping_add(self.ldb);
            }
            for r in 0..R {
                let out = self.c.add(r * self.ldc);
                let (mut x, mut y) = (low[r], high[r]);
                if self.accumulate {
                    x = _mm256_add_ps(_mm256_loadu_ps(out), x);
                    y = _mm256_add_ps(_mm256_loadu_ps(out.add(8)), y);
                }
                _mm256_storeu_ps(out, x);
                _mm256_storeu_ps(out.add(8), y);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Level, level};

    fn check<const FUSED: bool>(m: usize, n: usize, k: usize, transposed: bool, accumulate: bool) {
        let (ldb, ldc) = (n + 3, n + 5);
        let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.7).sin()).collect();
        let b: Vec<f32> = (0..k * ldb).map(|i| (i as f32 * 0.3).cos()).collect();
        let before: Vec<f32> = (0..m * ldc).map(|i| i as f32 * 0.01).collect();
        let (row, column) = if transposed { (1, m) } else { (k, 1) };
        let left = Left {
            data: &a,
            row,
            column,
        };
        let mut c = before.clone();
        product::<FUSED>(&mut c, ldc, [m, n, k], left, &b, ldb, accumulate);
        for i in 0..m {
            for j in 0..ldc {
                let at = i * ldc + j;
                if j >= n {
                    assert_eq!(c[at], before[at], "outside the product");
                    continue;
                }
                let sum: f64 = (0..k)
                    .map(|p| f64::from(a[i * row + p * column]) * f64::from(b[p * ldb + j]))
                    .sum();
                let start = if accumulate {
                    f64::from(before[at])
                } else {
                    0.0
                };
                assert!((f64::from(c[at]) - sum - start).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn every_row_count_and_layout_matches_the_triple_loop() {
        // Miri takes a quarter of an hour for all of them.
        for m in (1..=13).step_by(if cfg!(miri) { 4 } else { 1 }) {
            for (n, k) in [(16, 1), (32, 7), (48, 33), (16, 0)] {
                for (transposed, accumulate) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    check::<false>(m, n, k, transposed, accumulate);
                    if level() != Level::Portable {
                        check::<true>(m, n, k, transposed, accumulate);
                    }
                }
            }
        }
    }
}
