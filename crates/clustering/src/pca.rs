//! Principal components: all eigenvectors, or subspace iteration for a few of a large matrix.

use ndarray::{Array1, Array2, ArrayView2, s};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{ClusteringError, invalid};
use crate::points::{Prepared, check_points, from_rows};
use crate::symmetric_eigen::symmetric_eigen;

/// Matrices up to this size are diagonalised whole.
const WHOLE_SIZE: usize = 48;
/// And larger ones when at least this part of their directions is wanted: all 384 of 384 take 0.4 s,
/// while the iteration takes 0.1 s for 2 of them, 0.8 s for 64 and a minute for 256.
const WHOLE_PART: usize = 8;
/// Extra directions carried by the iteration; they speed up its convergence.
const SPARE: usize = 8;
/// Most iterations.
const MAX_ITER: usize = 300;

/// Principal components of points.
///
/// With centred points `X` (`[n, dim]`) the components are the unit eigenvectors of `X^T X` with the
/// largest eigenvalues, computed in double precision; the entry of largest magnitude of each
/// component is positive. The result depends neither on the order of the rows nor on the number of
/// threads.
///
/// # Example
/// ```
/// use clustering::Pca;
/// use ndarray::array;
///
/// let points = array![[0.0_f32, 0.0], [3.0, 4.0], [6.0, 8.0]]; // on a line
/// let pca = Pca::fit(points.view(), 1, 0)?;
/// let mapped = pca.transform(points.view())?;
/// assert!((mapped[[2, 0]] - mapped[[0, 0]] - 10.0).abs() < 1e-5);
/// # Ok::<(), clustering::ClusteringError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    /// `[components, dim]`: orthonormal rows, largest variance first.
    pub components: Array2<f32>,
    /// `[dim]`: mean of the points.
    pub mean: Vec<f64>,
    /// `[components]`: sum of squares along each component divided by `n - 1`.
    pub explained_variance: Vec<f64>,
}

impl Pca {
    /// Finds the first components; `seed` starts the iteration.
    ///
    /// # Shapes
    /// - `points`: `[n, dim]`
    ///
    /// # Errors
    /// Empty or non-finite points, fewer than two rows, a number of components that is zero or above
    /// `min(n, dim)`.
    pub fn fit(
        points: ArrayView2<'_, f32>,
        components: usize,
        seed: u64,
    ) -> Result<Self, ClusteringError> {
        let operation = "pca";
        check_points(operation, points)?;
        let (n, dim) = points.dim();
        if n < 2 {
            return Err(ClusteringError::TooFewRows {
                operation,
                needed: 2,
                found: n,
            });
        }
        if components == 0 || components > n.min(dim) {
            return Err(invalid(
                operation,
                "components",
                "between 1 and the smaller side of the points",
                components,
            ));
        }
        Ok(Self::fit_prepared(&Prepared::new(points), components, seed))
    }

    /// The same for points that were prepared already.
    pub(crate) fn fit_prepared(prepared: &Prepared, components: usize, seed: u64) -> Self {
        let (n, dim) = prepared.data.dim();
        let wide = dim > n;
        let matrix = second_moments(prepared.data.view(), wide);
        let (values, vectors) = leading_eigenvectors(&matrix, components, seed);
        // The eigenvectors of X X^T are turned into those of X^T X by X^T u.
        let mut rows = Array2::<f64>::zeros((components, dim));
        for (mut row, vector) in rows.outer_iter_mut().zip(vectors.outer_iter()) {
            if wide {
                for (x, &u) in prepared.data.outer_iter().zip(vector) {
                    row.iter_mut()
                        .zip(x)
                        .for_each(|(r, &x)| *r += u * f64::from(x));
                }
            } else {
                row.assign(&vector);
            }
        }
        orthonormalise(&mut rows);
        for mut row in rows.outer_iter_mut() {
            let largest = row
                .iter()
                .copied()
                .fold(0.0_f64, |a, x| if x.abs() > a.abs() { x } else { a });
            if largest < 0.0 {
                row.mapv_inplace(|x| -x);
            }
        }
        let unit = prepared.scale * prepared.scale * (n.max(2) - 1) as f64;
        Self {
            components: rows.mapv(|x| x as f32),
            mean: prepared.mean.clone(),
            explained_variance: values.iter().map(|v| v.max(0.0) / unit).collect(),
        }
    }

    /// Coordinates of points along the components.
    ///
    /// # Shapes
    /// - `points`: `[n, dim]`, result: `[n, components]`
    ///
    /// # Errors
    /// Empty or non-finite points, a wrong dimension.
    pub fn transform(&self, points: ArrayView2<'_, f32>) -> Result<Array2<f32>, ClusteringError> {
        let operation = "pca transform";
        check_points(operation, points)?;
        let expected = self.components.ncols();
        if points.ncols() != expected {
            return Err(ClusteringError::DimensionMismatch {
                operation,
                expected,
                found: points.ncols(),
            });
        }
        let mut out = Vec::with_capacity(points.nrows() * self.components.nrows());
        for row in points.outer_iter() {
            for component in self.components.outer_iter() {
                let products = row.iter().zip(&self.mean).zip(component);
                out.push(
                    products
                        .map(|((&x, m), &c)| (f64::from(x) - m) * f64::from(c))
                        .sum::<f64>() as f32,
                );
            }
        }
        Ok(from_rows(points.nrows(), self.components.nrows(), out))
    }
}

/// `X^T X`, or `X X^T` if that is smaller, in double precision.
fn second_moments(data: ArrayView2<'_, f32>, wide: bool) -> Array2<f64> {
    if wide {
        let x = data.mapv(f64::from);
        return x.dot(&x.t());
    }
    // Blocks bound the memory of the double-precision copy; they are added in order.
    let (n, dim) = data.dim();
    let mut sum = Array2::<f64>::zeros((dim, dim));
    for start in (0..n).step_by(1024) {
        let x = data
            .slice(s![start..(start + 1024).min(n), ..])
            .mapv(f64::from);
        sum += &x.t().dot(&x);
    }
    sum
}

/// The largest eigenvalues of a symmetric positive matrix and their eigenvectors as rows.
fn leading_eigenvectors(matrix: &Array2<f64>, count: usize, seed: u64) -> (Vec<f64>, Array2<f64>) {
    let size = matrix.nrows();
    let width = (count + SPARE).min(size);
    if size <= WHOLE_SIZE || WHOLE_PART * width >= size {
        let (values, vectors) = symmetric_eigen(matrix.clone());
        return (
            values[..count].to_vec(),
            vectors.slice(s![..count, ..]).to_owned(),
        );
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut basis = Array2::from_shape_fn((width, size), |_| rng.random::<f64>() - 0.5);
    orthonormalise(&mut basis);
    let mut values = vec![0.0; width];
    for _ in 0..MAX_ITER {
        let image = basis.dot(matrix);
        // Rayleigh-Ritz: the best approximations inside the current subspace.
        let (ritz, rotation) = symmetric_eigen(image.dot(&basis.t()));
        let moved = ritz
            .iter()
            .zip(&values)
            .take(count)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        values = ritz;
        let still = moved <= 1e-12 * values[0].abs();
        if still {
            basis = rotation.dot(&basis);
            break;
        }
        basis = rotation.dot(&image);
        orthonormalise(&mut basis);
    }
    (
        values[..count].to_vec(),
        basis.slice(s![..count, ..]).to_owned(),
    )
}

/// Makes the rows orthonormal in order; a row without a part of its own becomes a coordinate axis.
fn orthonormalise(rows: &mut Array2<f64>) {
    let (count, dim) = rows.dim();
    for i in 0..count {
        let before = rows.row(i).dot(&rows.row(i)).sqrt();
        let mut row = rows.row(i).to_owned();
        remove_parts(&mut row, rows.slice(s![..i, ..]));
        let mut length = row.dot(&row).sqrt();
        let mut axis = 0;
        while length <= 1e-10 * before && axis < dim {
            row.fill(0.0);
            row[axis] = 1.0;
            remove_parts(&mut row, rows.slice(s![..i, ..]));
            length = row.dot(&row).sqrt();
            // An axis almost inside the span of the rows before it would lose too many digits.
            if length < 1.0 / (2.0 * dim as f64).sqrt() {
                length = 0.0;
            }
            axis += 1;
        }
        rows.row_mut(i)
            .assign(&(row / length.max(f64::MIN_POSITIVE)));
    }
}

/// Removes from `row` its parts along orthonormal `basis` rows; twice, for full accuracy.
fn remove_parts(row: &mut Array1<f64>, basis: ArrayView2<'_, f64>) {
    for _ in 0..2 {
        for other in basis.outer_iter() {
            let part = row.dot(&other);
            row.scaled_add(-part, &other);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// Points with variance `1 / (1 + axis)^2` along random-looking orthonormal axes.
    fn anisotropic(n: usize, dim: usize) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut axes = Array2::from_shape_fn((dim, dim), |_| rng.random::<f64>() - 0.5);
        orthonormalise(&mut axes);
        let weights = Array2::from_shape_fn((n, dim), |(_, j)| {
            (rng.random::<f64>() - 0.5) / (1.0 + j as f64)
        });
        weights.dot(&axes).mapv(|x| x as f32 + 3.0)
    }

    fn check_against_definition(points: &Array2<f32>, pca: &Pca) {
        let (n, dim) = points.dim();
        let centred =
            Array2::from_shape_fn((n, dim), |(i, j)| f64::from(points[[i, j]]) - pca.mean[j]);
        let covariance = centred.t().dot(&centred) / (n as f64 - 1.0);
        let c = pca.components.mapv(f64::from);
        for (i, &value) in pca.explained_variance.iter().enumerate() {
            let row = c.row(i);
            let error = covariance.dot(&row) - &(&row * value);
            assert!(
                error.dot(&error).sqrt() < 2e-5 * pca.explained_variance[0],
                "component {i}"
            );
            for j in 0..=i {
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((row.dot(&c.row(j)) - expected).abs() < 1e-6);
            }
        }
        assert!(pca.explained_variance.windows(2).all(|w| w[0] >= w[1]));
        let trace = covariance.diag().sum();
        assert!(pca.explained_variance.iter().sum::<f64>() <= trace * (1.0 + 1e-6));
    }

    #[test]
    fn components_are_eigenvectors_in_every_regime() {
        for (n, dim) in [(300, 10), (300, 80), (300, 120), (60, 200), (20, 100)] {
            let points = anisotropic(n, dim);
            let pca = Pca::fit(points.view(), 4, 0).unwrap();
            check_against_definition(&points, &pca);
        }
    }

    #[test]
    fn row_order_does_not_matter() {
        let points = anisotropic(90, 70);
        let reversed = points.slice(s![..;-1, ..]);
        assert_eq!(
            Pca::fit(points.view(), 3, 1).unwrap(),
            Pca::fit(reversed, 3, 1).unwrap()
        );
    }

    #[test]
    fn equal_points_still_give_orthonormal_components() {
        let points = Array2::<f32>::from_elem((5, 3), 2.0);
        let pca = Pca::fit(points.view(), 3, 0).unwrap();
        assert_eq!(pca.explained_variance, vec![0.0; 3]);
        let gram = pca.components.dot(&pca.components.t());
        assert!(
            (gram - Array2::<f32>::eye(3))
                .iter()
                .all(|x| x.abs() < 1e-6)
        );
        assert!(
            pca.transform(points.view())
                .unwrap()
                .iter()
                .all(|x| *x == 0.0)
        );
    }

    #[test]
    fn bad_requests_are_refused() {
        let points = anisotropic(5, 3);
        assert!(Pca::fit(points.view(), 0, 0).is_err());
        assert!(Pca::fit(points.view(), 4, 0).is_err());
        assert!(matches!(
            Pca::fit(points.slice(s![..1, ..]), 1, 0),
            Err(ClusteringError::TooFewRows {
                needed: 2,
                found: 1,
                ..
            })
        ));
        let pca = Pca::fit(points.view(), 2, 0).unwrap();
        assert!(pca.transform(Array2::<f32>::zeros((2, 4)).view()).is_err());
    }
}
