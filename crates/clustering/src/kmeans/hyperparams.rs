//! Parameters of k-means: anything can be written down, only checked values can run.

use ndarray::ArrayView2;

use super::algorithm::{KMeans, Route, fit};
use crate::error::{ClusteringError, invalid};

/// Parameters of k-means with the defaults of the published evaluation.
///
/// | field | default | meaning |
/// |---|---|---|
/// | `n_init` | 20 | restarts; the one with the lowest inertia is kept |
/// | `max_iter` | 300 | Lloyd iterations of one restart |
/// | `tolerance` | 1e-4 | stop when the centroids move by at most this share of the mean feature variance (sum of squared moves) |
/// | `seed` | 0 | restart `r` draws from stream `r` of this seed |
///
/// # Example
/// ```
/// use clustering::KMeansParams;
/// use ndarray::array;
///
/// let points = array![[0.0_f32, 0.1], [0.1, 0.0], [5.0, 5.1], [5.1, 5.0], [5.0, 5.0]];
/// let model = KMeansParams::new(2).seed(7).fit(points.view())?;
/// assert_eq!(model.labels, vec![1, 1, 0, 0, 0]); // the largest cluster is number 0
/// # Ok::<(), clustering::ClusteringError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct KMeansParams {
    /// Number of clusters, 1 to n.
    pub k: usize,
    /// Number of restarts, at least 1.
    pub n_init: usize,
    /// Most Lloyd iterations per restart, at least 1.
    pub max_iter: usize,
    /// Relative tolerance, not negative; 0 waits until no label changes.
    pub tolerance: f64,
    /// Seed of the random streams.
    pub seed: u64,
}

impl KMeansParams {
    /// Default parameters for `k` clusters.
    pub fn new(k: usize) -> Self {
        Self {
            k,
            n_init: 20,
            max_iter: 300,
            tolerance: 1e-4,
            seed: 0,
        }
    }

    /// Sets the number of restarts.
    pub fn n_init(mut self, n_init: usize) -> Self {
        self.n_init = n_init;
        self
    }

    /// Sets the most Lloyd iterations per restart.
    pub fn max_iter(mut self, max_iter: usize) -> Self {
        self.max_iter = max_iter;
        self
    }

    /// Sets the relative tolerance.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Sets the seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Turns the parameters into a value that can run.
    ///
    /// # Errors
    /// [`ClusteringError::InvalidParameter`] naming the first field outside its range.
    pub fn check(self) -> Result<CheckedKMeansParams, ClusteringError> {
        let operation = "k-means";
        if self.k == 0 {
            return Err(invalid(operation, "k", "at least 1", self.k));
        }
        if u32::try_from(self.k).is_err() {
            return Err(invalid(operation, "k", "below 2^32", self.k));
        }
        if self.n_init == 0 {
            return Err(invalid(operation, "n_init", "at least 1", self.n_init));
        }
        if self.max_iter == 0 {
            return Err(invalid(operation, "max_iter", "at least 1", self.max_iter));
        }
        if !(self.tolerance.is_finite() && self.tolerance >= 0.0) {
            return Err(invalid(
                operation,
                "tolerance",
                "finite and not negative",
                self.tolerance,
            ));
        }
        Ok(CheckedKMeansParams(self))
    }

    /// [`check`](Self::check) and [`fit`](CheckedKMeansParams::fit) in one call.
    ///
    /// # Errors
    /// Those of both.
    pub fn fit(self, points: ArrayView2<'_, f32>) -> Result<KMeans, ClusteringError> {
        self.check()?.fit(points)
    }
}

/// Parameters that passed [`KMeansParams::check`].
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedKMeansParams(KMeansParams);

impl CheckedKMeansParams {
    /// The parameters.
    pub fn params(&self) -> &KMeansParams {
        &self.0
    }

    /// Clusters the points.
    ///
    /// # Shapes
    /// - `points`: `[n, dim]`
    ///
    /// # Errors
    /// Empty or non-finite points; more clusters than rows.
    pub fn fit(&self, points: ArrayView2<'_, f32>) -> Result<KMeans, ClusteringError> {
        fit(&self.0, points, Route::Auto)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn rejected(params: KMeansParams) -> &'static str {
        match params.check() {
            Err(ClusteringError::InvalidParameter { parameter, .. }) => parameter,
            other => panic!("accepted: {other:?}"),
        }
    }

    #[test]
    fn no_clusters() {
        assert_eq!(rejected(KMeansParams::new(0)), "k");
    }

    #[test]
    fn no_restarts() {
        assert_eq!(rejected(KMeansParams::new(2).n_init(0)), "n_init");
    }

    #[test]
    fn no_iterations() {
        assert_eq!(rejected(KMeansParams::new(2).max_iter(0)), "max_iter");
    }

    #[test]
    fn bad_tolerance() {
        for tolerance in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(
                rejected(KMeansParams::new(2).tolerance(tolerance)),
                "tolerance"
            );
        }
    }

    #[test]
    fn defaults_are_the_published_evaluation() {
        let p = KMeansParams::new(3);
        assert_eq!((p.n_init, p.max_iter, p.tolerance), (20, 300, 1e-4));
    }
}
