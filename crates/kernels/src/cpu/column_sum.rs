//! Sums over the rows of a matrix: gradients of biases, scales and shifts.

use rayon::prelude::*;

/// Rows per partial sum.
const BLOCK: usize = 64;

/// `sum over r of x[r, c]` for a row-major `[rows, columns]`.
///
/// Partial sums of 64 rows, then the partial sums in order.
pub(crate) fn column_sum(x: &[f32], columns: usize) -> Vec<f32> {
    if columns == 0 {
        return Vec::new();
    }
    let partial: Vec<Vec<f32>> = x
        .par_chunks(BLOCK * columns)
        .map(|rows| {
            let mut sum = vec![0.0f32; columns];
            for row in rows.chunks_exact(columns) {
                for (sum, x) in sum.iter_mut().zip(row) {
                    *sum += x;
                }
            }
            sum
        })
        .collect();
    total(partial, columns)
}

/// Adds partial sums in order.
pub(crate) fn total(partial: Vec<Vec<f32>>, columns: usize) -> Vec<f32> {
    let mut sum = vec![0.0f32; columns];
    for part in partial {
        for (sum, x) in sum.iter_mut().zip(part) {
            *sum += x;
        }
    }
    sum
}
