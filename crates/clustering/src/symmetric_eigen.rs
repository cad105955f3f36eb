//! Eigenvalues and eigenvectors of symmetric matrices.

use ndarray::{Array1, Array2, Axis, s};

use crate::points::from_rows;

/// Most steps for one eigenvalue; two or three are usual.
const MAX_STEPS: usize = 60;

/// All eigenvalues of a symmetric matrix, largest first, and unit eigenvectors as rows.
///
/// Householder reflections to a tridiagonal matrix, then QL steps with Wilkinson's shift (Golub and Van
/// Loan, Matrix Computations, sections 8.3.1 and 8.3.3): about `6 n^3` operations, whatever the
/// eigenvalues are. Errors are those of double precision relative to the largest eigenvalue.
pub(crate) fn symmetric_eigen(matrix: Array2<f64>) -> (Vec<f64>, Array2<f64>) {
    let n = matrix.nrows();
    let (mut diagonal, mut beside, mut rows) = tridiagonal(matrix);
    diagonalise(&mut diagonal, &mut beside, &mut rows);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| diagonal[j].total_cmp(&diagonal[i]).then(i.cmp(&j)));
    let values = order.iter().map(|&i| diagonal[i]).collect();
    let vectors = order.iter().flat_map(|&i| rows.row(i).to_vec()).collect();
    (values, from_rows(n, n, vectors))
}

/// `Q^T A Q = T`: diagonal of `T`, the entries beside it, and `Q^T`.
fn tridiagonal(mut a: Array2<f64>) -> (Vec<f64>, Vec<f64>, Array2<f64>) {
    let n = a.nrows();
    let mut beside = Vec::with_capacity(n);
    let mut reflections: Vec<(Array1<f64>, f64)> = Vec::new();
    for k in 0..n.saturating_sub(2) {
        let column = a.slice(s![k + 1.., k]).to_owned();
        let (v, factor, length) = reflection(column);
        beside.push(length);
        if factor != 0.0 {
            // With p = factor B v and w = p - (factor p.v / 2) v, H B H = B - v w^T - w v^T.
            let mut rest = a.slice_mut(s![k + 1.., k + 1..]);
            let mut w = rest.dot(&v) * factor;
            let part = factor * w.dot(&v) / 2.0;
            w.scaled_add(-part, &v);
            for ((mut row, &vi), &wi) in rest.axis_iter_mut(Axis(0)).zip(&v).zip(&w) {
                row.scaled_add(-vi, &w);
                row.scaled_add(-wi, &v);
            }
        }
        reflections.push((v, factor));
    }
    if n > 1 {
        beside.push(a[[n - 1, n - 2]]);
    }
    let mut q = Array2::<f64>::eye(n);
    for (k, (v, factor)) in reflections.iter().enumerate().rev() {
        let mut part = q.slice_mut(s![k + 1.., k + 1..]);
        let along = v.dot(&part);
        for (mut row, &vi) in part.axis_iter_mut(Axis(0)).zip(v) {
            row.scaled_add(-factor * vi, &along);
        }
    }
    let rows = q.t().as_standard_layout().into_owned();
    (a.diag().to_vec(), beside, rows)
}

/// `v` and `f` so that `I - f v v^T` maps `x` to `(length, 0, ...)`; `f` is 0 if it is there already.
fn reflection(mut x: Array1<f64>) -> (Array1<f64>, f64, f64) {
    // Scaled, so that squares neither vanish nor overflow.
    let scale = x.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    let first = x[0];
    if scale == 0.0 || x.iter().skip(1).all(|x| *x == 0.0) {
        return (x, 0.0, first);
    }
    x /= scale;
    // The sign that does not cancel.
    let length = -x.dot(&x).sqrt().copysign(first);
    x[0] -= length;
    let factor = 2.0 / x.dot(&x);
    (x, factor, length * scale)
}

/// Turns a tridiagonal matrix into a diagonal one, and `rows` by the same rotations.
fn diagonalise(d: &mut [f64], beside: &mut Vec<f64>, rows: &mut Array2<f64>) {
    let n = d.len();
    beside.push(0.0);
    let e = beside;
    for l in 0..n {
        for _ in 0..MAX_STEPS {
            // The block that begins at l ends where the entry beside the diagonal is rounding.
            let small = |i: usize| {
                let size = f64::EPSILON * (d[i].abs() + d[i + 1].abs());
                e[i].abs() <= size.max(f64::MIN_POSITIVE)
            };
            let end = (l..n.saturating_sub(1)).find(|&i| small(i));
            let m = end.unwrap_or(n - 1);
            if m == l {
                break;
            }
            let slope = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let shift = d[l] - e[l] / (slope + slope.hypot(1.0).copysign(slope));
            let (mut sine, mut cosine, mut taken) = (1.0, 1.0, 0.0);
            let mut bulge = d[m] - shift;
            let mut whole = true;
            for i in (l..m).rev() {
                let (f, b) = (sine * e[i], cosine * e[i]);
                let r = f.hypot(bulge);
                e[i + 1] = r;
                if r == 0.0 {
                    // The matrix has come apart in the middle of a step.
                    d[i + 1] -= taken;
                    e[m] = 0.0;
                    whole = false;
                    break;
                }
                (sine, cosine) = (f / r, bulge / r);
                let g = d[i + 1] - taken;
                let r = (d[i] - g) * sine + 2.0 * cosine * b;
                taken = sine * r;
                d[i + 1] = g + taken;
                bulge = cosine * r - b;
                let (upper, lower) = rows.multi_slice_mut((s![i, ..], s![i + 1, ..]));
                for (x, y) in upper.into_iter().zip(lower) {
                    (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
                }
            }
            if whole {
                d[l] -= taken;
                e[l] = bulge;
                e[m] = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    fn check(matrix: &Array2<f64>) {
        let n = matrix.nrows();
        let (values, vectors) = symmetric_eigen(matrix.clone());
        let largest = matrix.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        let close = 1e-13 * (n.max(1) * n.max(1)) as f64;
        assert!(values.windows(2).all(|pair| pair[0] >= pair[1]));
        let gram = vectors.dot(&vectors.t());
        let worst = (gram - Array2::<f64>::eye(n)).mapv(f64::abs);
        assert!(worst.iter().all(|x| *x < close), "{worst:?}");
        for (value, vector) in values.iter().zip(vectors.outer_iter()) {
            let left = matrix.dot(&vector) - &vector * *value;
            assert!(left.iter().all(|x| x.abs() <= close * largest), "{left:?}");
        }
    }

    #[test]
    fn small_matrices_by_hand() {
        // Eigenvalues of [[2, 1], [1, 2]] are 3 and 1.
        let (values, vectors) = symmetric_eigen(array![[2.0, 1.0], [1.0, 2.0]]);
        assert!((values[0] - 3.0).abs() < 1e-15 && (values[1] - 1.0).abs() < 1e-15);
        assert!((vectors[[0, 0]] - vectors[[0, 1]]).abs() < 1e-15);
        assert_eq!(symmetric_eigen(array![[-4.0]]), (vec![-4.0], array![[1.0]]));
        let none = symmetric_eigen(Array2::zeros((0, 0)));
        assert!(none.0.is_empty());
    }

    #[test]
    fn second_differences_have_known_eigenvalues() {
        // 2 - 2 cos(pi k / (n + 1)).
        let n = 40;
        let matrix = Array2::from_shape_fn((n, n), |(i, j)| match i.abs_diff(j) {
            0 => 2.0,
            1 => -1.0,
            _ => 0.0,
        });
        let (values, _) = symmetric_eigen(matrix.clone());
        check(&matrix);
        for (k, value) in values.iter().rev().enumerate() {
            let angle = std::f64::consts::PI * (k + 1) as f64 / (n + 1) as f64;
            assert!((value - (2.0 - 2.0 * angle.cos())).abs() < 1e-13);
        }
    }

    #[test]
    fn matrices_that_are_special() {
        check(&Array2::zeros((7, 7)));
        check(&Array2::eye(7));
        check(&Array2::from_elem((30, 30), 1.0));
        check(&Array2::from_diag(&array![1.0, 1e-300, 3.0, 1e300, 0.0]));
        check(&Array2::from_shape_fn((12, 12), |(i, j)| {
            1.0 / (i + j + 1) as f64
        }));
        for scale in [1e-150, 1e150] {
            check(&Array2::from_shape_fn((9, 9), |(i, j)| {
                scale * ((i * j) as f64).sin()
            }));
        }
    }

    proptest! {
        #[test]
        fn eigenvectors_are_those_of_the_definition(
            n in 1_usize..24,
            rank in 1_usize..24,
            numbers in prop::collection::vec(-1.0_f64..1.0, 24 * 24),
        ) {
            let factor = Array2::from_shape_fn((n, rank), |(i, j)| numbers[i * 24 + j]);
            check(&factor.dot(&factor.t()));
            let half = Array2::from_shape_fn((n, n), |(i, j)| numbers[i * 24 + j]);
            check(&(&half + &half.t()));
        }
    }
}
