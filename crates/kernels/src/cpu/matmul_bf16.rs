//! Matrix products of operands rounded to bfloat16, with f32 sums: by AVX512-BF16 instructions where the
//! processor has them, elsewhere by rounding and an f32 product.

use rayon::prelude::*;

use super::matmul::{Matrix, matmul_f32_into};
#[cfg(target_arch = "x86_64")]
use super::vdpbf16;

/// The nearest bfloat16, ties to even, in the upper half of the word. `NaN` stays `NaN`.
#[inline(always)]
pub(super) fn rounded_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    let kept = if x.is_nan() {
        bits | 0x0040_0000
    } else {
        nearest
    };
    kept & 0xffff_0000
}

/// `out = a b` or, with `accumulate`, `out += a b`, operands rounded to bfloat16; `out` is row-major with rows
/// `stride` apart.
///
/// With `accumulate` false the old contents of `out` are not read. Any number of threads gives the same bytes.
pub(crate) fn matmul_bf16_into(
    out: &mut [f32],
    stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    accumulate: bool,
) {
    #[cfg(target_arch = "x86_64")]
    if a.columns > 0 && vdpbf16::available() {
        return vdpbf16::matmul_into(out, stride, a, b, accumulate);
    }
    let (left, right) = (rounded(a), rounded(b));
    matmul_f32_into(
        out,
        stride,
        Matrix::dense(&left, a.rows, a.columns),
        Matrix::dense(&right, b.rows, b.columns),
        accumulate,
    );
}

/// The rounded elements, row-major.
fn rounded(matrix: Matrix<'_>) -> Vec<f32> {
    (0..matrix.rows * matrix.columns)
        .into_par_iter()
        .map(|at| {
            let (row, column) = (at / matrix.columns, at % matrix.columns);
            f32::from_bits(rounded_bits(matrix.get(row, column)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::nearest_bf16;

    #[test]
    fn rounding_is_to_the_nearest_with_ties_to_even() {
        for x in [
            0.0,
            1.0,
            -1.0,
            1.003_906_2,
            1.011_718_8,
            3.3e38,
            1e-30,
            0.1,
            -7.7e5,
            255.5,
        ] {
            let got = f64::from(f32::from_bits(rounded_bits(x)));
            if x < 3e38 {
                assert_eq!(got, nearest_bf16(x), "{x}");
            }
        }
        assert_eq!(rounded_bits(f32::INFINITY), f32::INFINITY.to_bits());
        // Beyond the largest bfloat16 the nearest is infinity.
        assert_eq!(rounded_bits(f32::MAX), f32::INFINITY.to_bits());
        // The payload of this NaN lies in the dropped half only.
        assert!(f32::from_bits(rounded_bits(f32::from_bits(0x7f80_0001))).is_nan());
    }

    /// Every orientation of the operands, edges of tiles, tasks and blocks, odd inner sizes.
    #[test]
    fn products_match_the_triple_loop_over_rounded_operands_and_any_thread_count_gives_the_same_bytes()
     {
        let sizes = [
            (1, 1, 1),
            (5, 7, 3),
            (12, 2, 32),
            (13, 33, 65),
            (97, 515, 40),
            (130, 1031, 801),
        ];
        // Miri takes a quarter of an hour for more.
        let few = if cfg!(miri) { 4 } else { sizes.len() };
        for (m, k, n) in sizes.into_iter().take(few) {
            for (a_turned, b_turned) in [(false, false), (true, false), (false, true), (true, true)]
            {
                let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
                let b: Vec<f32> = (0..k * n).map(|i| (i as f32 * 0.53).cos()).collect();
                let a = match a_turned {
                    false => Matrix::dense(&a, m, k),
                    true => Matrix::dense(&a, k, m).t(),
                };
                let b = match b_turned {
                    false => Matrix::dense(&b, k, n),
                    true => Matrix::dense(&b, n, k).t(),
                };
                let run = |threads: usize| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                    let work = || {
                        let mut out = vec![f32::NAN; m * (n + 3)];
                        matmul_bf16_into(&mut out, n + 3, a, b, false);
                        let first = out.clone();
                        matmul_bf16_into(&mut out, n + 3, a, b, true);
                        (first, out)
                    };
                    match pool {
                        Ok(pool) => pool.install(work),
                        Err(_) => work(),
                    }
                };
                let (one, three) = (run(1), run(3));
                for row in 0..m {
                    for column in 0..n {
                        let want: f64 = (0..k)
                            .map(|at| {
                                nearest_bf16(a.get(row, at)) * nearest_bf16(b.get(at, column))
                            })
                            .sum();
                        let at = row * (n + 3) + column;
                        assert!((f64::from(one.0[at]) - want).abs() <= 1e-4, "{m} {k} {n}");
                        assert!((f64::from(one.1[at]) - 2.0 * want).abs() <= 2e-4);
                        assert_eq!(one.0[at].to_bits(), three.0[at].to_bits());
                        assert_eq!(one.1[at].to_bits(), three.1[at].to_bits());
                    }
                    // What lies between the rows is left alone.
                    assert!(one.1[row * (n + 3) + n..][..3].iter().all(|x| x.is_nan()));
                }
            }
        }
    }

    #[test]
    fn the_emulation_and_the_instructions_agree_and_stay_within_the_stated_bound() {
        let (m, k, n) = (40, 301, 50);
        let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.7).sin()).collect();
        let b: Vec<f32> = (0..k * n).map(|i| (i as f32 * 0.9).cos()).collect();
        let (a, b) = (Matrix::dense(&a, m, k), Matrix::dense(&b, k, n));
        let mut out = vec![f32::NAN; m * n];
        matmul_bf16_into(&mut out, n, a, b, false);
        let (left, right) = (rounded(a), rounded(b));
        let mut emulated = vec![f32::NAN; m * n];
        let (left, right) = (Matrix::dense(&left, m, k), Matrix::dense(&right, k, n));
        matmul_f32_into(&mut emulated, n, left, right, false);
        for (at, (got, want)) in out.iter().zip(&emulated).enumerate() {
            assert!((got - want).abs() <= 2e-5);
            // Two operands, each with a relative error of at most 2^-8.
            let terms = (0..k).map(|i| f64::from(a.get(at / n, i)) * f64::from(b.get(i, at % n)));
            let (exact, size) = terms.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
            assert!((f64::from(*got) - exact).abs() <= 1.01 * size / 128.0);
        }
    }

    #[test]
    fn empty_products_are_zero_or_nothing() {
        let none: [f32; 0] = [];
        let mut out = vec![1.0f32; 6];
        matmul_bf16_into(
            &mut out,
            3,
            Matrix::dense(&none, 2, 0),
            Matrix::dense(&none, 0, 3),
            false,
        );
        assert_eq!(out, [0.0; 6]);
        matmul_bf16_into(
            &mut out,
            3,
            Matrix::dense(&none, 0, 4),
            Matrix::dense(&[0.0; 12], 4, 3),
            false,
        );
        assert_eq!(out, [0.0; 6]);
    }
}
