//! Matrix products: in f32 through the `gemm` crate.

use burn_flex::FlexTensor;

use rayon::prelude::*;

use super::matmul_bf16::matmul_bf16_into;
use super::{Shared, overwritten, size, tensor};
use crate::precision::Precision;

/// A matrix inside a slice: element `(r, c)` is `data[r * row_stride + c * column_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major `[rows, columns]` whose rows are `stride` apart.
    pub(crate) fn rows(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        let matrix = Self {
            data,
            rows,
            columns,
            row_stride: stride,
            column_stride: 1,
        };
        assert!(matrix.end() <= data.len(), "matrix: slice too short");
        matrix
    }

    /// Row-major `[rows, columns]` without gaps.
    pub(crate) fn dense(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::rows(data, rows, columns, columns)
    }

    /// `count` rows from row `from` on.
    fn skip_rows(self, from: usize, count: usize) -> Self {
        assert!(from + count <= self.rows, "matrix: rows outside");
        let start = (from * self.row_stride).min(self.data.len());
        Self {
            data: &self.data[start..],
            rows: count,
            ..self
        }
    }

    /// The transpose, as a view.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    pub(super) fn get(&self, row: usize, column: usize) -> f32 {
        self.data[row * self.row_stride + column * self.column_stride]
    }

    /// One past the last element.
    fn end(&self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride + 1
    }
}

/// Products of at least this many multiplications run on all threads.
pub(super) const PARALLEL: usize = 96 * 96 * 96;

/// Up to this many threads each thread multiplies its own rows of the result: no waiting between the
/// blocks of a product, 3 to 7 % faster on two threads. Beyond it, packing the right-hand side once
/// for all is worth more. Both give the same bytes.
const OWN_ROWS: usize = 4;

/// Rows of the result in a register tile of the multiplication.
const REGISTER_ROWS: usize = 6;

/// `out = a b` or, with `accumulate`, `out += a b`, operands rounded to `precision`; `out` is row-major
/// with rows `stride` apart.
///
/// With `accumulate` false the old contents of `out` are not read.
pub(crate) fn matmul_into(
    out: &mut [f32],
    stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    accumulate: bool,
    precision: Precision,
) {
    match precision {
        Precision::F32 => matmul_f32_into(out, stride, a, b, accumulate),
        Precision::Bf16 => matmul_bf16_into(out, stride, a, b, accumulate),
    }
}

/// Rows and columns of a product and the inner size, with a check that the operands go together and that `out`
/// has room for every row; nothing where the product has no elements.
pub(super) fn sizes(
    out: &[f32],
    stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
) -> Option<[usize; 3]> {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "matmul: inner sizes differ");
    if m == 0 || n == 0 {
        return None;
    }
    assert!(
        n <= stride && (m - 1) * stride + n <= out.len(),
        "matmul: output slice too short"
    );
    Some([m, n, k])
}

/// [`matmul_into`] in [`Precision::F32`].
pub(super) fn matmul_f32_into(
    out: &mut [f32],
    stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    accumulate: bool,
) {
    let Some([m, n, k]) = sizes(out, stride, a, b) else {
        return;
    };
    let threads = rayon::current_num_threads();
    let parallel = m * n * k >= PARALLEL && threads > 1;
    let out = Shared::new(out);
    let rows = |from: usize, count: usize, parallelism: gemm::Parallelism| {
        // SAFETY: the output has room for every row (checked by `sizes`) and is borrowed exclusively, and
        // calls for different rows write different elements.
        unsafe {
            multiply(
                out.at(from * stride),
                stride,
                a.skip_rows(from, count),
                b,
                1.0,
                accumulate,
                parallelism,
            );
        }
    };
    if !parallel {
        rows(0, m, gemm::Parallelism::None);
    } else if threads <= OWN_ROWS {
        let share = m.div_ceil(threads).next_multiple_of(REGISTER_ROWS);
        (0..m.div_ceil(share)).into_par_iter().for_each(|at| {
            let from = at * share;
            rows(from, share.min(m - from), gemm::Parallelism::None);
        });
    } else {
        rows(0, m, gemm::Parallelism::Rayon(0));
    }
}

/// `out = scale a b` or, with `accumulate`, `out += scale a b`, row-major, on the calling thread: for
/// products that are one task among many.
pub(crate) fn serial_matmul_into(
    out: &mut [f32],
    a: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
    accumulate: bool,
) {
    assert!(a.rows * b.columns <= out.len(), "matmul: output too short");
    let none = gemm::Parallelism::None;
    // SAFETY: the output has room for the product and is borrowed exclusively, so it overlaps
    // neither operand.
    unsafe { multiply(out.as_mut_ptr(), b.columns, a, b, scale, accumulate, none) };
}

/// A new row-major `[a.rows, b.columns]` product, made on the calling thread.
pub(crate) fn serial_matmul(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    // SAFETY: without `accumulate` the product writes every element and reads none.
    unsafe {
        overwritten(a.rows * b.columns, |out| {
            serial_matmul_into(out, a, b, 1.0, false);
        })
    }
}

/// # Safety
///
/// `out` has room for `a.rows` rows of `b.columns` elements, `stride` apart, that nothing else refers
/// to; with `accumulate` they are initialised.
unsafe fn multiply(
    out: *mut f32,
    stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
    accumulate: bool,
    parallelism: gemm::Parallelism,
) {
    assert_eq!(a.columns, b.rows, "matmul: inner sizes differ");
    // SAFETY: `Matrix::rows` has checked that both operands lie inside their slices; the output is the
    // caller's promise.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out,
            1,
            stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0f32,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// A new row-major `[a.rows, b.columns]` product.
pub(crate) fn matmul(a: Matrix<'_>, b: Matrix<'_>, precision: Precision) -> Vec<f32> {
    let columns = b.columns;
    // SAFETY: without `accumulate` the product writes every element and reads none.
    unsafe {
        overwritten(a.rows * columns, |out| {
            matmul_into(out, columns, a, b, false, precision);
        })
    }
}

/// Sets every row of `out` (rows `stride` apart) to `bias`, then adds `a b`.
pub(crate) fn affine_into(
    out: &mut [f32],
    stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    bias: &[f32],
    precision: Precision,
) {
    out.par_chunks_mut(super::ROWS * stride).for_each(|rows| {
        for row in rows.chunks_mut(stride) {
            row[..bias.len()].copy_from_slice(bias);
        }
    });
    matmul_into(out, stride, a, b, true, precision);
}

/// `grad weight^T`: gradient of the input of a linear layer.
pub(crate) fn input_gradient(
    grad: &FlexTensor,
    weight: &FlexTensor,
    precision: Precision,
) -> FlexTensor {
    let (rows, outputs) = (size(grad, 0), size(grad, 1));
    let inputs = size(weight, 0);
    let product = matmul(
        Matrix::rows(grad.storage(), rows, outputs, outputs),
        Matrix::rows(weight.storage(), inputs, outputs, outputs).t(),
        precision,
    );
    tensor(product, [rows, inputs])
}

/// `x^T grad`: gradient of the weight of a linear layer.
pub(crate) fn weight_gradient(
    x: &FlexTensor,
    grad: &FlexTensor,
    precision: Precision,
) -> FlexTensor {
    let (rows, inputs) = (size(x, 0), size(x, 1));
    let outputs = size(grad, 1);
    let product = matmul(
        Matrix::rows(x.storage(), rows, inputs, inputs).t(),
        Matrix::rows(grad.storage(), rows, outputs, outputs),
        precision,
    );
    tensor(product, [inputs, outputs])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_operands_match_the_triple_loop_and_any_thread_count_gives_the_same_bytes() {
        for (m, k, n) in [(1, 1, 1), (5, 7, 3), (130, 65, 97), (384, 1100, 96)] {
            let a: Vec<f32> = (0..m * (k + 2)).map(|i| (i as f32 * 0.37).sin()).collect();
            let b: Vec<f32> = (0..k * (n + 1)).map(|i| (i as f32 * 0.53).cos()).collect();
            let run = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .ok();
                let work = || {
                    let mut out = vec![f32::NAN; m * (n + 3)];
                    let (a, b) = (Matrix::rows(&a, m, k, k + 2), Matrix::rows(&b, k, n, n + 1));
                    matmul_f32_into(&mut out, n + 3, a, b, false);
                    out
                };
                pool.map_or_else(work, |pool| pool.install(work))
            };
            let (one, others) = (run(1), [run(2), run(3), run(7)]);
            for row in 0..m {
                for column in 0..n {
                    let want: f64 = (0..k)
                        .map(|at| {
                            f64::from(a[row * (k + 2) + at]) * f64::from(b[at * (n + 1) + column])
                        })
                        .sum();
                    let at = row * (n + 3) + column;
                    assert!((f64::from(one[at]) - want).abs() <= 1e-3);
                    for other in &others {
                        assert_eq!(one[at].to_bits(), other[at].to_bits());
                    }
                }
            }
        }
    }

    #[test]
    fn serial_products_match_the_triple_loop() {
        for (m, k, n) in [
            (1, 1, 1),
            (1, 40, 7),
            (9, 3, 1),
            (33, 20, 50),
            // Miri takes a quarter of an hour for more.
            if cfg!(miri) {
                (14, 30, 17)
            } else {
                (130, 300, 65)
            },
            (4, 0, 3),
        ] {
            let a: Vec<f32> = (0..m * k).map(|i| (0.7 * i as f32).sin()).collect();
            let b: Vec<f32> = (0..k * n).map(|i| (1.3 * i as f32).cos()).collect();
            let (a, b) = (Matrix::dense(&a, m, k), Matrix::dense(&b, n, k).t());
            let fresh = serial_matmul(a, b);
            let mut sum = vec![1.0f32; m * n];
            serial_matmul_into(&mut sum, a, b, 2.0, true);
            assert_eq!(fresh.len(), m * n);
            for row in 0..m {
                for column in 0..n {
                    let terms = (0..k).map(|at| {
                        f64::from(a.data[row * k + at]) * f64::from(b.data[column * k + at])
                    });
                    let want = terms.sum::<f64>();
                    let at = row * n + column;
                    assert!((f64::from(fresh[at]) - want).abs() <= 1e-4);
                    assert!((f64::from(sum[at]) - 1.0 - 2.0 * want).abs() <= 1e-4);
                }
            }
        }
    }
}
