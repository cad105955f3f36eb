//! The teacher's vectors in the student's dimensions.

use burn::tensor::{Device, Tensor, TensorData};
use clustering::Pca;
use encoder::Embeddings;
use ndarray::{Array2, ArrayView2, s};

use crate::error::RunError;

/// Dimensions of the student that its target leaves empty: the sinks of its word table.
pub(crate) const SINKS: usize = 2;
/// Rows multiplied in double precision at a time.
const BLOCK: usize = 1024;
/// Share of the mean eigenvalue added to all of them, which moves no eigenvector and keeps the
/// factorisation from dividing by zero.
const RIDGE: f64 = 1e-6;

/// The linear map `t -> [0, 0, t U]` with the `k = min(width - 2, dim)` eigenvectors `U` of
/// `T^T T / n` with the largest eigenvalues; the mean is not subtracted, because cosines count from
/// the origin. With fewer teacher dimensions than places the last places stay 0 as well.
pub(crate) struct Projection {
    /// `[dim, width]`, row-major.
    matrix: Vec<f32>,
    dim: usize,
    width: usize,
    /// Share of the squared length of the vectors that remains.
    pub(crate) energy: f64,
}

impl Projection {
    /// Fits the map to vectors.
    ///
    /// # Errors
    ///
    /// No vectors, or values that are not finite.
    pub(crate) fn fit(vectors: &Embeddings, width: usize) -> Result<Self, RunError> {
        let dim = vectors.dim;
        let moments = second_moments(vectors)?;
        let trace = moments.diag().sum();
        if !(trace.is_finite() && trace > 0.0) {
            return Err(RunError::Data(format!(
                "vectors of the teacher: expected finite values that are not all 0, found the mean \
                 squared length {trace}"
            )));
        }
        let ridge = RIDGE * trace / dim as f64;
        // Any points with these second moments have these principal components: the rows of a square
        // root and their opposites, whose mean is 0.
        let root = cholesky(moments, ridge);
        let points = Array2::from_shape_fn((2 * dim, dim), |(row, column)| match row < dim {
            true => root[[column, row]] as f32,
            false => -root[[column, row - dim]] as f32,
        });
        let pca = Pca::fit(points.view(), dim, 0)?;
        let kept = (width - SINKS).min(dim);
        let mut matrix = vec![0.0; dim * width];
        for (at, component) in pca.components.outer_iter().take(kept).enumerate() {
            for (row, value) in component.iter().enumerate() {
                matrix[row * width + SINKS + at] = *value;
            }
        }
        let energy: f64 = pca.explained_variance.iter().take(kept).sum();
        Ok(Self {
            matrix,
            dim,
            width,
            energy: energy / pca.explained_variance.iter().sum::<f64>(),
        })
    }

    /// `[dim, width]`.
    pub(crate) fn tensor(&self, device: &Device) -> Tensor<2> {
        Tensor::from_data(
            TensorData::new(self.matrix.clone(), [self.dim, self.width]),
            device,
        )
    }

    /// Rows mapped and scaled to unit length.
    pub(crate) fn apply(&self, vectors: &Embeddings) -> Result<Embeddings, RunError> {
        let product = view(vectors)?.dot(&view(&Embeddings {
            values: self.matrix.clone(),
            dim: self.width,
        })?);
        let mut mapped = Embeddings {
            values: product.iter().copied().collect(),
            dim: self.width,
        };
        super::teacher::normalise(&mut mapped);
        Ok(mapped)
    }
}

fn view(vectors: &Embeddings) -> Result<ArrayView2<'_, f32>, RunError> {
    ArrayView2::from_shape((vectors.rows(), vectors.dim), &vectors.values)
        .map_err(|error| RunError::Data(format!("vectors: {error}")))
}

/// `T^T T / n` in double precision; blocks are added in order.
fn second_moments(vectors: &Embeddings) -> Result<Array2<f64>, RunError> {
    let rows = view(vectors)?;
    let (n, dim) = rows.dim();
    let mut sum = Array2::<f64>::zeros((dim, dim));
    for start in (0..n).step_by(BLOCK) {
        let block = rows
            .slice(s![start..(start + BLOCK).min(n), ..])
            .mapv(f64::from);
        sum += &block.t().dot(&block);
    }
    Ok(sum / n.max(1) as f64)
}

/// Lower triangular `L` with `L L^T = A + ridge I`, for a symmetric positive semidefinite `A`.
fn cholesky(mut a: Array2<f64>, ridge: f64) -> Array2<f64> {
    let size = a.nrows();
    for j in 0..size {
        let before = a.slice(s![j, ..j]).to_owned();
        // Rounding may take a little from what the ridge gives.
        let pivot = (a[[j, j]] + ridge - before.dot(&before))
            .max(ridge * 1e-3)
            .sqrt();
        a[[j, j]] = pivot;
        for i in j + 1..size {
            let sum = a.slice(s![i, ..j]).dot(&before);
            a[[i, j]] = (a[[i, j]] - sum) / pivot;
        }
        a.slice_mut(s![j, j + 1..]).fill(0.0);
    }
    a
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Unit vectors off the origin, with less and less along each axis.
    fn vectors(rows: usize, dim: usize) -> Embeddings {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let values = (0..rows * dim)
            .map(|at| (rng.random::<f32>() - 0.3) / (1.0 + (at % dim) as f32))
            .collect();
        let mut vectors = Embeddings { values, dim };
        super::super::teacher::normalise(&mut vectors);
        vectors
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    }

    #[test]
    fn directions_are_eigenvectors_of_the_uncentred_moments() {
        let (dim, width) = (60, 32);
        let vectors = vectors(500, dim);
        let projection = Projection::fit(&vectors, width).unwrap();
        let moments = second_moments(&vectors).unwrap();
        let column = |at: usize| -> Vec<f64> {
            (0..dim)
                .map(|row| f64::from(projection.matrix[row * width + at]))
                .collect()
        };
        let mut values = Vec::new();
        for at in SINKS..width {
            let u = ndarray::Array1::from(column(at));
            let image = moments.dot(&u);
            let value = image.dot(&u);
            let error = (&image - &(&u * value)).mapv(|x| x * x).sum().sqrt();
            assert!(error < 1e-5, "direction {at}: {error}");
            assert!((u.dot(&u) - 1.0).abs() < 1e-5);
            values.push(value);
        }
        assert!(values.windows(2).all(|two| two[0] >= two[1] - 1e-6));
        let energy = values.iter().sum::<f64>() / moments.diag().sum();
        assert!((projection.energy - energy).abs() < 1e-4);
        assert!(column(0).iter().chain(&column(1)).all(|x| *x == 0.0));
    }

    #[test]
    fn with_room_for_all_dimensions_no_cosine_changes() {
        let vectors = vectors(20, 7);
        let projection = Projection::fit(&vectors, 12).unwrap();
        assert!((projection.energy - 1.0).abs() < 1e-9);
        let mapped = projection.apply(&vectors).unwrap();
        for i in 0..20 {
            for j in 0..20 {
                let (a, b) = (
                    dot(vectors.row(i), vectors.row(j)),
                    dot(mapped.row(i), mapped.row(j)),
                );
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }

    #[test]
    fn fewer_vectors_than_dimensions_and_bad_ones() {
        let projection = Projection::fit(&vectors(3, 60), 10).unwrap();
        assert!(projection.energy > 0.99);
        for values in [vec![0.0; 8], vec![f32::NAN; 8], Vec::new()] {
            assert!(Projection::fit(&Embeddings { values, dim: 4 }, 6).is_err());
        }
    }
}
