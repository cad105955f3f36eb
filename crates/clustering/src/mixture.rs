//! Gaussian mixture with full covariances, on linfa.

use linfa::DatasetBase;
use linfa::ParamGuard;
use linfa::traits::Fit;
use linfa_clustering::GaussianMixtureModel;
use ndarray::{Array2, ArrayView1, ArrayView2};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::ThreadPoolBuilder;

use crate::clusterer::{Clusterer, Clustering, reduced};
use crate::error::{ClusteringError, invalid};

/// Gaussian mixture, fitted by expectation maximisation:
///
/// ```text
/// p(x) = sum_k w_k N(x; mu_k, Sigma_k)        label(x) = argmax_k w_k N(x; mu_k, Sigma_k)
/// ```
///
/// A full covariance needs more points per component than dimensions, so points are reduced to
/// `reduce_to` principal components first and brought to unit mean variance. The best of `restarts`
/// by likelihood is kept; a restart that fails is passed over.
///
/// linfa always starts from the same random numbers and its start depends on the number of threads.
/// Here each restart shuffles the rows by its own seeded stream and runs on one thread.
#[derive(Debug, Clone, PartialEq)]
pub struct GaussianMixture {
    /// Number of components, 1 to n.
    pub components: usize,
    /// Restarts, at least 1.
    pub restarts: usize,
    /// Most iterations of a restart, at least 1.
    pub max_iter: u64,
    /// Gain in mean log-likelihood below which a restart ends, positive.
    pub tolerance: f64,
    /// Added to the diagonal of each covariance; the mean variance is 1. Positive.
    pub regularisation: f64,
    /// Principal components to keep; none: all dimensions.
    pub reduce_to: Option<usize>,
    /// Seed of the shuffles.
    pub seed: u64,
}

impl GaussianMixture {
    /// Three restarts in 8 dimensions.
    pub fn new(components: usize) -> Self {
        Self {
            components,
            restarts: 3,
            max_iter: 300,
            tolerance: 1e-3,
            regularisation: 1e-3,
            reduce_to: Some(8),
            seed: 0,
        }
    }

    fn check(&self, rows: usize) -> Result<(), ClusteringError> {
        let operation = self.name();
        if self.components == 0 {
            return Err(invalid(
                operation,
                "components",
                "at least 1",
                self.components,
            ));
        }
        if self.components > rows {
            return Err(ClusteringError::TooManyClusters {
                operation,
                k: self.components,
                rows,
            });
        }
        if self.restarts == 0 {
            return Err(invalid(operation, "restarts", "at least 1", self.restarts));
        }
        if self.max_iter == 0 {
            return Err(invalid(operation, "max_iter", "at least 1", self.max_iter));
        }
        for (name, value) in [
            ("tolerance", self.tolerance),
            ("regularisation", self.regularisation),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(invalid(operation, name, "finite and positive", value));
            }
        }
        Ok(())
    }
}

impl Clusterer for GaussianMixture {
    fn name(&self) -> &'static str {
        "Gaussian mixture"
    }

    fn cluster(&self, points: ArrayView2<'_, f32>) -> Result<Clustering, ClusteringError> {
        let operation = self.name();
        let (prepared, mut data, _) = reduced(operation, points, self.reduce_to)?;
        self.check(data.nrows())?;
        let (rows, dim) = data.dim();
        let variance = data.iter().map(|x| x * x).sum::<f64>() / data.len() as f64;
        if variance == 0.0 {
            // All points are equal: one cluster, which no covariance could describe.
            return Ok(Clustering::from_canonical(&prepared, &vec![Some(0); rows]));
        }
        data /= variance.sqrt();
        let no_result = |reason: String| ClusteringError::NoResult {
            operation,
            rows,
            dim,
            reason,
        };
        let pool = ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .map_err(|error| no_result(error.to_string()))?;
        let mut best: Option<(f64, Vec<usize>)> = None;
        let mut reason = String::new();
        for restart in 0..self.restarts {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(restart as u64);
            let mut order: Vec<usize> = (0..rows).collect();
            order.shuffle(&mut rng);
            let shuffled = data.select(ndarray::Axis(0), &order);
            match pool.install(|| self.fit(shuffled)) {
                Ok(components) => {
                    let (likelihood, labels) = label(&components, &data);
                    if likelihood.is_finite() && best.as_ref().is_none_or(|(l, _)| likelihood > *l)
                    {
                        best = Some((likelihood, labels));
                    }
                }
                Err(error) => reason = error,
            }
        }
        let (_, labels) = best.ok_or_else(|| no_result(reason))?;
        Ok(Clustering::from_canonical(
            &prepared,
            &labels.into_iter().map(Some).collect::<Vec<_>>(),
        ))
    }
}

/// One weighted normal distribution: `ln w - ln |Sigma| / 2`, mean, and the lower Cholesky factor.
struct Component {
    constant: f64,
    mean: Vec<f64>,
    factor: Array2<f64>,
}

impl GaussianMixture {
    fn fit(&self, data: Array2<f64>) -> Result<Vec<Component>, String> {
        let model = GaussianMixtureModel::params(self.components)
            .n_runs(1)
            .max_n_iterations(self.max_iter)
            .tolerance(self.tolerance)
            .reg_covariance(self.regularisation)
            .check()
            .map_err(|error| error.to_string())?
            .fit(&DatasetBase::from(data))
            .map_err(|error| error.to_string())?;
        let mut components = Vec::with_capacity(self.components);
        for ((covariance, mean), &weight) in model
            .covariances()
            .outer_iter()
            .zip(model.means().outer_iter())
            .zip(model.weights())
        {
            let factor = cholesky(covariance).ok_or("a covariance is not positive definite")?;
            let log_root: f64 = factor.diag().iter().map(|x| x.ln()).sum();
            components.push(Component {
                constant: weight.ln() - log_root,
                mean: mean.to_vec(),
                factor,
            });
        }
        Ok(components)
    }
}

/// Mean log-likelihood up to a constant, and the component with the highest density for each row.
///
/// Done here in logarithms, because linfa's own prediction sums densities that can all be zero.
fn label(components: &[Component], data: &Array2<f64>) -> (f64, Vec<usize>) {
    let mut labels = Vec::with_capacity(data.nrows());
    let mut total = 0.0;
    let mut logs = vec![0.0; components.len()];
    for row in data.outer_iter() {
        let mut best = 0;
        for (k, component) in components.iter().enumerate() {
            logs[k] = component.constant - 0.5 * mahalanobis(component, row);
            if logs[k] > logs[best] {
                best = k;
            }
        }
        labels.push(best);
        total += logs[best]
            + logs
                .iter()
                .map(|l| (l - logs[best]).exp())
                .sum::<f64>()
                .ln();
    }
    (total / data.nrows() as f64, labels)
}

/// `(x - mu)^T Sigma^-1 (x - mu)` by forward substitution.
fn mahalanobis(component: &Component, row: ArrayView1<'_, f64>) -> f64 {
    let mut solved: Vec<f64> = Vec::with_capacity(row.len());
    for (i, (x, mean)) in row.iter().zip(&component.mean).enumerate() {
        let known: f64 = component
            .factor
            .row(i)
            .iter()
            .zip(&solved)
            .map(|(l, s)| l * s)
            .sum();
        solved.push((x - mean - known) / component.factor[[i, i]]);
    }
    solved.iter().map(|s| s * s).sum()
}

/// Lower factor `L` with `L L^T = matrix`.
fn cholesky(matrix: ArrayView2<'_, f64>) -> Option<Array2<f64>> {
    let n = matrix.nrows();
    let mut factor = Array2::<f64>::zeros((n, n));
    for i in 0..n {
        for j in 0..=i {
            let known: f64 = (0..j).map(|c| factor[[i, c]] * factor[[j, c]]).sum();
            let rest = matrix[[i, j]] - known;
            if i != j {
                factor[[i, j]] = rest / factor[[j, j]];
            } else if rest > 0.0 {
                factor[[i, i]] = rest.sqrt();
            } else {
                return None;
            }
        }
    }
    Some(factor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use ndarray::array;
    use rand::RngExt;

    use super::*;

    /// Two parallel stripes, longer than they are apart.
    fn stripes() -> (Array2<f32>, Vec<usize>) {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let truth: Vec<usize> = (0..300).map(|i| i % 2).collect();
        let points = Array2::from_shape_fn((300, 2), |(i, j)| {
            let spread: f32 = (0..6).map(|_| rng.random::<f32>() - 0.5).sum();
            if j == 0 {
                spread * 2.0
            } else {
                spread * 0.2 + truth[i] as f32 * 3.0
            }
        });
        (points, truth)
    }

    #[test]
    fn stripes_stay_whole() {
        let (points, truth) = stripes();
        let found = GaussianMixture::new(2).cluster(points.view()).unwrap();
        assert_eq!(found.n_clusters, 2);
        let agree = found
            .labels
            .iter()
            .zip(&truth)
            .filter(|(l, t)| **l == Some(**t))
            .count();
        assert!(agree.max(300 - agree) >= 299, "{agree}");
    }

    #[test]
    fn row_order_and_threads_do_not_matter() {
        let (points, _) = stripes();
        let mixture = GaussianMixture {
            seed: 4,
            ..GaussianMixture::new(3)
        };
        let forward = mixture.cluster(points.view()).unwrap();
        let backward = mixture
            .cluster(points.slice(ndarray::s![..;-1, ..]))
            .unwrap();
        let mut reversed = backward.labels;
        reversed.reverse();
        assert_eq!(forward.labels, reversed);
        let pool = ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(
            pool.install(|| mixture.cluster(points.view())).unwrap(),
            forward
        );
    }

    #[test]
    fn cholesky_of_a_known_matrix() {
        // [[4, 2], [2, 5]] = L L^T with L = [[2, 0], [1, 2]]; inverse [[5, -2], [-2, 4]] / 16.
        let factor = cholesky(array![[4.0, 2.0], [2.0, 5.0]].view()).unwrap();
        assert_eq!(factor, array![[2.0, 0.0], [1.0, 2.0]]);
        let component = Component {
            constant: 0.0,
            mean: vec![1.0, 0.0],
            factor,
        };
        let d = mahalanobis(&component, array![2.0, 1.0].view());
        assert!((d - (5.0 - 4.0 + 4.0) / 16.0).abs() < 1e-12, "{d}");
        assert!(cholesky(array![[1.0, 2.0], [2.0, 1.0]].view()).is_none());
    }

    #[test]
    fn hopeless_data_give_an_error_or_a_partition_but_no_panic() {
        let equal = Array2::<f32>::from_elem((10, 3), 7.0);
        assert_eq!(
            GaussianMixture::new(2)
                .cluster(equal.view())
                .unwrap()
                .n_clusters,
            1
        );
        let mut two = Array2::<f32>::zeros((10, 3));
        two.row_mut(0).fill(1.0);
        for components in 1..=10 {
            match GaussianMixture::new(components).cluster(two.view()) {
                Ok(found) => assert!(found.n_clusters >= 1 && found.noise() == 0),
                Err(error) => assert!(matches!(error, ClusteringError::NoResult { .. }), "{error}"),
            }
        }
        let one = Array2::<f32>::zeros((1, 3));
        assert_eq!(
            GaussianMixture::new(1)
                .cluster(one.view())
                .unwrap()
                .n_clusters,
            1
        );
    }

    #[test]
    fn bad_parameters_are_refused() {
        let points = array![[0.0_f32, 1.0], [1.0, 0.0]];
        let good = GaussianMixture::new(1);
        for bad in [
            GaussianMixture::new(0),
            GaussianMixture::new(3),
            GaussianMixture {
                restarts: 0,
                ..good.clone()
            },
            GaussianMixture {
                max_iter: 0,
                ..good.clone()
            },
            GaussianMixture {
                tolerance: 0.0,
                ..good.clone()
            },
            GaussianMixture {
                regularisation: f64::NAN,
                ..good.clone()
            },
            GaussianMixture {
                reduce_to: Some(0),
                ..good
            },
        ] {
            assert!(
                bad.cluster(points.view()).unwrap_err().is_parameter(),
                "{bad:?}"
            );
        }
    }
}
