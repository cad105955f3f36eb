//! Estimating the number of clusters where nobody knows it.

use ndarray::ArrayView2;

use crate::error::{ClusteringError, invalid};
use crate::kmeans::KMeansParams;
use crate::points::check_points;
use crate::silhouette::{seeded_sample, silhouette_samples};

/// Tries a range of K and keeps the one with the highest mean silhouette.
///
/// Every K is fitted on all points; the silhouette is taken on one seeded sample of them. Costs one
/// k-means per K, and favours few, well separated clusters: of the two ways here it is the slower one
/// and the better one when K is small.
///
/// # Example
/// ```
/// use clustering::SilhouetteSearch;
/// use ndarray::Array2;
///
/// let points = Array2::from_shape_fn((30, 2), |(i, j)| ((i % 3) * (j + 1)) as f32 * 5.0 + (i / 3) as f32 * 0.1);
/// assert_eq!(SilhouetteSearch::new(2, 6).run(points.view())?.k, 3);
/// # Ok::<(), clustering::ClusteringError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SilhouetteSearch {
    /// Smallest K tried, at least 2.
    pub k_min: usize,
    /// Largest K tried; lowered to n - 1.
    pub k_max: usize,
    /// Distance between the K tried, at least 1.
    pub step: usize,
    /// Restarts of each k-means.
    pub n_init: usize,
    /// Points that the silhouette is taken on, at least 2.
    pub sample: usize,
    /// Seed of k-means and sample.
    pub seed: u64,
}

/// The K of [`SilhouetteSearch`] with all scores.
#[derive(Debug, Clone, PartialEq)]
pub struct SilhouetteEstimate {
    /// The K with the highest score; the smallest on ties.
    pub k: usize,
    /// Mean silhouette of each K tried, in the order of K.
    pub scores: Vec<(usize, f64)>,
    /// Standard error of each of these means: the standard deviation over the points of the sample,
    /// divided by the root of their number.
    pub errors: Vec<f64>,
}

impl SilhouetteEstimate {
    /// The smallest K whose score is within one standard error of the highest: among those that the
    /// sample cannot tell apart, the simplest (the rule of Breiman, Friedman, Olshen, Stone,
    /// "Classification and Regression Trees", 1984, for pruning).
    pub fn smallest_within_error(&self) -> usize {
        let best = self.scores.iter().position(|(k, _)| *k == self.k);
        let floor = best.and_then(|at| Some(self.scores.get(at)?.1 - self.errors.get(at)?));
        let near = |&&(_, score): &&(usize, f64)| floor.is_some_and(|floor| score >= floor);
        self.scores.iter().find(near).map_or(self.k, |(k, _)| *k)
    }
}

impl SilhouetteSearch {
    /// Every K of a range, 3 restarts, a sample of 2000 points.
    pub fn new(k_min: usize, k_max: usize) -> Self {
        Self {
            k_min,
            k_max,
            step: 1,
            n_init: 3,
            sample: 2000,
            seed: 0,
        }
    }

    /// Runs the search.
    ///
    /// # Shapes
    /// - `points`: `[n, dim]`
    ///
    /// # Errors
    /// Bad parameters; fewer than three points; empty or non-finite points.
    pub fn run(&self, points: ArrayView2<'_, f32>) -> Result<SilhouetteEstimate, ClusteringError> {
        let operation = "silhouette search";
        check_points(operation, points)?;
        let n = points.nrows();
        if n < 3 {
            return Err(ClusteringError::TooFewRows {
                operation,
                needed: 3,
                found: n,
            });
        }
        if self.k_min < 2 || self.k_min >= n {
            return Err(invalid(
                operation,
                "k_min",
                "at least 2 and below the number of points",
                self.k_min,
            ));
        }
        if self.k_max < self.k_min {
            return Err(invalid(operation, "k_max", "at least k_min", self.k_max));
        }
        if self.step == 0 {
            return Err(invalid(operation, "step", "at least 1", self.step));
        }
        if self.sample < 2 {
            return Err(invalid(operation, "sample", "at least 2", self.sample));
        }
        let (rows, drawn) = seeded_sample(points, self.sample, self.seed);
        let (mut scores, mut errors) = (Vec::new(), Vec::new());
        for k in (self.k_min..=self.k_max.min(n - 1)).step_by(self.step) {
            let model = KMeansParams::new(k)
                .n_init(self.n_init)
                .seed(self.seed)
                .fit(points)?;
            let labels: Vec<usize> = rows.iter().map(|&row| model.labels[row]).collect();
            // A sample inside one cluster says nothing about separation.
            let (score, error) = if labels.iter().any(|label| *label != labels[0]) {
                mean_and_error(&silhouette_samples(drawn.view(), &labels)?)
            } else {
                (-1.0, 0.0)
            };
            scores.push((k, score));
            errors.push(error);
        }
        let best = scores
            .iter()
            .copied()
            .fold((self.k_min, f64::NEG_INFINITY), |a, b| {
                if b.1 > a.1 { b } else { a }
            });
        Ok(SilhouetteEstimate {
            k: best.0,
            scores,
            errors,
        })
    }
}

/// Mean and its standard error.
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0).max(1.0) / n).sqrt())
}

/// Clusters into too many clusters and counts those that are not small.
///
/// The rule of DeepAligned (Zhang, Xu, Lin, Lyu: Discovering New Intents with Deep Aligned Clustering,
/// AAAI 2021): with an upper bound `K'` and `n` points,
///
/// ```text
/// K = number of clusters of at least share * n / K' points          share = 1 in the paper
/// ```
///
/// One k-means; the estimate lies below `K'` and grows with it, so it is only as good as the bound.
///
/// # Example
/// ```
/// use clustering::OverCluster;
/// use ndarray::Array2;
///
/// let points = Array2::from_shape_fn((40, 2), |(i, _)| (i % 4) as f32 * 9.0);
/// assert_eq!(OverCluster::new(8).run(points.view())?.k, 4);
/// # Ok::<(), clustering::ClusteringError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct OverCluster {
    /// Upper bound on K, at least 1; lowered to n.
    pub k_upper: usize,
    /// Share of the mean size below which a cluster is small, positive.
    pub share: f64,
    /// Restarts of k-means.
    pub n_init: usize,
    /// Seed of k-means.
    pub seed: u64,
}

/// The K of [`OverCluster`] with what it was counted from.
#[derive(Debug, Clone, PartialEq)]
pub struct OverClusterEstimate {
    /// Number of clusters that are not small, at least 1.
    pub k: usize,
    /// Smallest size that counts.
    pub threshold: f64,
    /// Sizes of all clusters, largest first.
    pub sizes: Vec<usize>,
}

impl OverCluster {
    /// The rule of the paper with 10 restarts.
    pub fn new(k_upper: usize) -> Self {
        Self {
            k_upper,
            share: 1.0,
            n_init: 10,
            seed: 0,
        }
    }

    /// Runs k-means and counts.
    ///
    /// # Shapes
    /// - `points`: `[n, dim]`
    ///
    /// # Errors
    /// Bad parameters; empty or non-finite points.
    pub fn run(&self, points: ArrayView2<'_, f32>) -> Result<OverClusterEstimate, ClusteringError> {
        let operation = "over-clustering";
        check_points(operation, points)?;
        if !(self.share.is_finite() && self.share > 0.0) {
            return Err(invalid(
                operation,
                "share",
                "finite and positive",
                self.share,
            ));
        }
        if self.k_upper == 0 {
            return Err(invalid(operation, "k_upper", "at least 1", self.k_upper));
        }
        let n = points.nrows();
        let k = self.k_upper.min(n);
        let sizes = KMeansParams::new(k)
            .n_init(self.n_init)
            .seed(self.seed)
            .fit(points)?
            .sizes();
        let threshold = self.share * n as f64 / k as f64;
        let kept = sizes
            .iter()
            .filter(|&&size| size as f64 >= threshold)
            .count();
        Ok(OverClusterEstimate {
            k: kept.max(1),
            threshold,
            sizes,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use ndarray::Array2;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// `groups` boxes of side 1 on the axes, 10 apart.
    pub(crate) fn boxes(groups: usize, per_group: usize) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        Array2::from_shape_fn((groups * per_group, groups), |(i, j)| {
            rng.random::<f32>() + if i % groups == j { 10.0 } else { 0.0 }
        })
    }

    #[test]
    fn both_rules_find_separated_groups() {
        let points = boxes(6, 40);
        let found = SilhouetteSearch::new(2, 12).run(points.view()).unwrap();
        assert_eq!(found.k, 6);
        assert_eq!(found.scores.len(), 11);
        // Twice the truth: six groups are cut into pieces, about half of them above the mean size.
        let found = OverCluster::new(12).run(points.view()).unwrap();
        assert_eq!(found.sizes.iter().sum::<usize>(), 240);
        assert_eq!(found.k, found.sizes.iter().filter(|s| **s >= 20).count());
        assert!((3..=9).contains(&found.k), "{}", found.k);
    }

    #[test]
    fn the_simplest_within_the_error_is_preferred() {
        let estimate = |errors: [f64; 3]| SilhouetteEstimate {
            k: 4,
            scores: vec![(2, 0.30), (3, 0.38), (4, 0.40)],
            errors: errors.to_vec(),
        };
        assert_eq!(estimate([0.0, 0.0, 0.01]).smallest_within_error(), 4);
        assert_eq!(estimate([0.9, 0.9, 0.03]).smallest_within_error(), 3);
        assert_eq!(estimate([0.0, 0.0, 0.2]).smallest_within_error(), 2);
        let (mean, error) = mean_and_error(&[1.0, 2.0, 3.0, 6.0]);
        assert_eq!(mean, 3.0);
        assert!((error - (14.0_f64 / 3.0 / 4.0).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn a_sample_finds_them_too() {
        let points = boxes(4, 60);
        let search = SilhouetteSearch {
            sample: 50,
            ..SilhouetteSearch::new(2, 8)
        };
        assert_eq!(search.run(points.view()).unwrap().k, 4);
    }

    #[test]
    fn bad_parameters_are_named() {
        let points = boxes(2, 5);
        let name = |search: SilhouetteSearch| match search.run(points.view()) {
            Err(ClusteringError::InvalidParameter { parameter, .. }) => parameter,
            other => panic!("accepted: {other:?}"),
        };
        assert_eq!(name(SilhouetteSearch::new(1, 3)), "k_min");
        assert_eq!(name(SilhouetteSearch::new(10, 11)), "k_min");
        assert_eq!(name(SilhouetteSearch::new(3, 2)), "k_max");
        assert_eq!(
            name(SilhouetteSearch {
                step: 0,
                ..SilhouetteSearch::new(2, 3)
            }),
            "step"
        );
        assert_eq!(
            name(SilhouetteSearch {
                sample: 1,
                ..SilhouetteSearch::new(2, 3)
            }),
            "sample"
        );
        assert!(OverCluster::new(0).run(points.view()).is_err());
        assert!(
            OverCluster {
                share: f64::NAN,
                ..OverCluster::new(3)
            }
            .run(points.view())
            .is_err()
        );
        let one = Array2::<f32>::zeros((1, 2));
        assert!(matches!(
            SilhouetteSearch::new(2, 3).run(one.view()),
            Err(ClusteringError::TooFewRows {
                needed: 3,
                found: 1,
                ..
            })
        ));
        assert_eq!(OverCluster::new(5).run(one.view()).unwrap().k, 1);
    }
}
