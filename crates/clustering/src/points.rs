//! Points as every algorithm of this crate wants them: checked, in canonical order, centred, scaled.
//!
//! **Canonical order.** Rows are sorted by content before anything is computed, so that no result
//! depends on the order in which a caller happened to list the points. Rows that compare equal are
//! identical, so their mutual order cannot matter.

use std::cmp::Ordering;

use ndarray::{Array2, ArrayView2, CowArray, Ix2};
use rayon::prelude::*;

use crate::error::ClusteringError;

/// Rows of one unit of work in matrix products.
///
/// Fixed, so that what is added to what never depends on the number of threads.
pub(crate) const BLOCK_ROWS: usize = 256;

/// Checks that `points` has rows and columns and holds only finite numbers.
///
/// # Shapes
/// - `points`: `[n, dim]`
///
/// # Errors
/// [`ClusteringError::Empty`] or [`ClusteringError::NonFinite`] with the first bad position.
///
/// # Example
/// ```
/// use clustering::{check_points, ClusteringError};
/// use ndarray::array;
///
/// assert!(check_points("example", array![[1.0_f32, 2.0]].view()).is_ok());
/// let bad = check_points("example", array![[1.0_f32, f32::NAN]].view());
/// assert!(matches!(bad, Err(ClusteringError::NonFinite { row: 0, column: 1, .. })));
/// ```
pub fn check_points(
    operation: &'static str,
    points: ArrayView2<'_, f32>,
) -> Result<(), ClusteringError> {
    let (rows, dim) = points.dim();
    if rows == 0 || dim == 0 {
        return Err(ClusteringError::Empty {
            operation,
            rows,
            dim,
        });
    }
    for ((row, column), &value) in points.indexed_iter() {
        if !value.is_finite() {
            return Err(ClusteringError::NonFinite {
                operation,
                row,
                column,
                value,
            });
        }
    }
    Ok(())
}

/// The order that sorts rows by content: entry by entry, first column first.
///
/// `order[position]` is the input row at a canonical position. Two inputs that hold the same rows in
/// any order give the same sequence of rows. The comparison is the total order of IEEE 754, which is
/// defined for every bit pattern.
///
/// # Shapes
/// - `points`: `[n, dim]`, result: `n` row numbers
///
/// # Example
/// ```
/// use clustering::canonical_order;
/// use ndarray::array;
///
/// assert_eq!(canonical_order(array![[2.0_f32, 0.0], [1.0, 9.0], [1.0, 3.0]].view()), vec![2, 1, 0]);
/// ```
pub fn canonical_order(points: ArrayView2<'_, f32>) -> Vec<usize> {
    let points = contiguous(points);
    let mut order: Vec<usize> = (0..points.nrows()).collect();
    order.sort_by(|&a, &b| {
        points
            .row(a)
            .iter()
            .zip(points.row(b))
            .map(|(x, y)| x.total_cmp(y))
            .find(|&o| o != Ordering::Equal)
            .unwrap_or(Ordering::Equal)
            .then(a.cmp(&b))
    });
    order
}

/// The same points in row-major memory, copied only if they are not.
pub(crate) fn contiguous<'a>(points: ArrayView2<'a, f32>) -> CowArray<'a, f32, Ix2> {
    if points.is_standard_layout() {
        CowArray::from(points)
    } else {
        CowArray::from(points.as_standard_layout().into_owned())
    }
}

/// Rows `order` of `points`, in that order.
pub(crate) fn select_rows(points: ArrayView2<'_, f32>, order: &[usize]) -> Array2<f32> {
    let dim = points.ncols();
    let mut data = Vec::with_capacity(order.len() * dim);
    for &row in order {
        data.extend(points.row(row).iter().copied());
    }
    from_rows(order.len(), dim, data)
}

/// A row-major matrix from its entries; missing entries are zero, surplus ones dropped.
pub(crate) fn from_rows<T: Clone + Default>(
    rows: usize,
    dim: usize,
    mut data: Vec<T>,
) -> Array2<T> {
    data.resize(rows * dim, T::default());
    // The length is right by construction, so the fallback is never taken.
    Array2::from_shape_vec((rows, dim), data).unwrap_or_else(|_| Array2::default((rows, dim)))
}

/// Points in canonical order, centred on their mean and scaled by a power of two.
///
/// Centring keeps `|c|^2 - 2 x.c` free of cancellation, as scikit-learn does. The scale brings the
/// largest entry into `[1, 2)`: multiplication by a power of two is exact, so results are the same
/// at every magnitude, and squares neither overflow nor vanish.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    /// `[n, dim]`: `(x - mean) * scale`, rows in canonical order.
    pub(crate) data: Array2<f32>,
    /// Input row at each canonical position.
    pub(crate) order: Vec<usize>,
    /// `[dim]`: the mean of the input.
    pub(crate) mean: Vec<f64>,
    /// The power of two.
    pub(crate) scale: f64,
}

impl Prepared {
    /// Prepares checked points.
    pub(crate) fn new(points: ArrayView2<'_, f32>) -> Self {
        let (n, dim) = points.dim();
        let order = canonical_order(points);
        let sorted = select_rows(points, &order);
        let mean = column_means(sorted.view());
        let largest = sorted
            .outer_iter()
            .flat_map(|row| {
                row.into_iter()
                    .zip(&mean)
                    .map(|(&x, m)| (f64::from(x) - m).abs())
                    .collect::<Vec<_>>()
            })
            .fold(0.0_f64, f64::max);
        let scale = power_of_two_scale(largest);
        let mut data = Vec::with_capacity(n * dim);
        for row in sorted.outer_iter() {
            data.extend(
                row.iter()
                    .zip(&mean)
                    .map(|(&x, m)| ((f64::from(x) - m) * scale) as f32),
            );
        }
        Self {
            data: from_rows(n, dim, data),
            order,
            mean,
            scale,
        }
    }

    /// Values at canonical positions put back to the places of the input rows.
    pub(crate) fn restore<T: Copy + Default>(&self, values: &[T]) -> Vec<T> {
        let mut out = vec![T::default(); self.order.len()];
        for (&row, &value) in self.order.iter().zip(values) {
            out[row] = value;
        }
        out
    }

    /// Mean over the columns of the population variance of the scaled data.
    pub(crate) fn mean_variance(&self) -> f64 {
        let (n, dim) = self.data.dim();
        let means = column_means(self.data.view());
        let mut sums = vec![0.0_f64; dim];
        for row in self.data.outer_iter() {
            for ((sum, &x), mean) in sums.iter_mut().zip(row).zip(&means) {
                let d = f64::from(x) - mean;
                *sum += d * d;
            }
        }
        sums.iter().sum::<f64>() / (n * dim) as f64
    }
}

/// Column means in double precision.
pub(crate) fn column_means(points: ArrayView2<'_, f32>) -> Vec<f64> {
    let mut sums = vec![0.0_f64; points.ncols()];
    for row in points.outer_iter() {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum += f64::from(x);
        }
    }
    let n = points.nrows().max(1) as f64;
    sums.iter_mut().for_each(|s| *s /= n);
    sums
}

/// The power of two that brings `largest` into `[1, 2)`; 1 for zero.
fn power_of_two_scale(largest: f64) -> f64 {
    // Differences of two f32 are far above the subnormal range of f64, so the exponent field is enough.
    let exponent = ((largest.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    if largest == 0.0 {
        1.0
    } else {
        2.0_f64.powi(-exponent)
    }
}

/// All inner products of rows, `[n, n]`, row-major.
///
/// Only the upper half is computed; the lower half is copied, so the table is exactly symmetric.
pub(crate) fn gram_table(points: ArrayView2<'_, f32>) -> Vec<f32> {
    let n = points.nrows();
    let starts: Vec<usize> = (0..n).step_by(BLOCK_ROWS).collect();
    let upper: Vec<Array2<f32>> = starts
        .par_iter()
        .map(|&start| {
            let end = (start + BLOCK_ROWS).min(n);
            let rows = points.slice(ndarray::s![start..end, ..]);
            let columns = points.slice(ndarray::s![start.., ..]);
            rows.dot(&columns.t())
        })
        .collect();
    let mut table = vec![0.0_f32; n * n];
    table
        .par_chunks_mut(BLOCK_ROWS * n)
        .enumerate()
        .for_each(|(block, rows)| {
            let start = block * BLOCK_ROWS;
            for (local, row) in rows.chunks_exact_mut(n).enumerate() {
                for (other, part) in upper.iter().enumerate().take(block) {
                    let from = other * BLOCK_ROWS;
                    let width = part.nrows();
                    let column = part.column(start - from + local);
                    for (to, &value) in row[from..from + width].iter_mut().zip(column) {
                        *to = value;
                    }
                }
                for (to, &value) in row[start..].iter_mut().zip(upper[block].row(local)) {
                    *to = value;
                }
                // Inside the diagonal block both halves were computed; take the upper one.
                for j in 0..local {
                    row[start + j] = upper[block][[j, local]];
                }
            }
        });
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use ndarray::{Array2, array};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn empty_shapes_are_errors() {
        for shape in [(0, 3), (3, 0), (0, 0)] {
            let points = Array2::<f32>::zeros(shape);
            assert!(matches!(
                check_points("t", points.view()),
                Err(ClusteringError::Empty { .. })
            ));
        }
    }

    #[test]
    fn the_first_bad_entry_is_named() {
        let points = array![[0.0_f32, 1.0], [f32::NEG_INFINITY, f32::NAN]];
        let error = check_points("t", points.view()).unwrap_err();
        assert!(
            matches!(
                error,
                ClusteringError::NonFinite {
                    row: 1,
                    column: 0,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn prepared_points_are_centred_and_of_unit_magnitude() {
        for factor in [1e-30_f32, 1.0, 3e37] {
            let points = array![[1.0_f32, 5.0], [3.0, -1.0], [-4.0, 2.0]].mapv(|x| x * factor);
            let prepared = Prepared::new(points.view());
            let largest = prepared.data.iter().fold(0.0_f32, |a, x| a.max(x.abs()));
            assert!((1.0..2.0).contains(&largest), "{largest}");
            for column in prepared.data.columns() {
                assert!(column.sum().abs() < 1e-6);
            }
            for (position, &row) in prepared.order.iter().enumerate() {
                for c in 0..2 {
                    let back =
                        f64::from(prepared.data[[position, c]]) / prepared.scale + prepared.mean[c];
                    assert!(
                        (back - f64::from(points[[row, c]])).abs()
                            <= 1e-6 * 5.0 * f64::from(factor)
                    );
                }
            }
        }
    }

    #[test]
    fn gram_table_equals_plain_loops_and_is_symmetric() {
        let n = 2 * BLOCK_ROWS + 37;
        let points = Array2::from_shape_fn((n, 5), |(i, j)| {
            ((i * 31 + j * 17) % 23) as f32 / 23.0 - 0.4
        });
        let table = gram_table(points.view());
        for i in 0..n {
            for j in 0..n {
                assert_eq!(table[i * n + j], table[j * n + i]);
                let plain: f32 = (0..5).map(|c| points[[i, c]] * points[[j, c]]).sum();
                assert!((table[i * n + j] - plain).abs() < 1e-5);
            }
        }
    }

    proptest! {
        #[test]
        fn canonical_rows_do_not_depend_on_the_input_order(
            values in proptest::collection::vec(-2_i8..3, 1..60), turn in 0_usize..60,
        ) {
            let n = values.len() / 2;
            prop_assume!(n > 0);
            let points = Array2::from_shape_fn((n, 2), |(i, j)| f32::from(values[2 * i + j]));
            let rotated = Array2::from_shape_fn((n, 2), |(i, j)| points[[(i + turn) % n, j]]);
            let a = select_rows(points.view(), &canonical_order(points.view()));
            let b = select_rows(rotated.view(), &canonical_order(rotated.view()));
            prop_assert_eq!(a, b);
        }
    }
}
