//! Choosing K by whether the clusters come back when they are found anew in other data.

use ndarray::ArrayView2;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::choose_k::{SilhouetteEstimate, SilhouetteSearch};
use crate::error::{ClusteringError, invalid};
use crate::kmeans::KMeansParams;
use crate::points::{canonical_order, check_points, select_rows};

/// How well two halves of the points agree on a clustering into K.
///
/// The points are halved at random; both halves are clustered. The second half then has two
/// labellings, its own and that of the nearest centroid of the first, and
///
/// ```text
/// agreement(K) = mean over the splits of  ARI(own labels, labels by the other half)
/// ```
///
/// with the adjusted Rand index: 1 for the same partition, 0 on average for unrelated ones. Real
/// clusters are found again in the other half, pieces that k-means cut out of one cluster are not. The
/// scheme of Lange, Roth, Braun, Buhmann ("Stability-Based Validation of Clustering Solutions", Neural
/// Computation 16, 2004), with the adjusted Rand index in the place of their matched disagreement.
///
/// # Example
/// ```
/// use clustering::SplitHalf;
/// use ndarray::Array2;
///
/// let points = Array2::from_shape_fn((60, 2), |(i, j)| {
///     ((i % 3) * (2 * j + 1)) as f32 * 5.0 + (i * 7 % 11) as f32 * 0.1
/// });
/// assert_eq!(SplitHalf::default().agreement(points.view(), 3)?, 1.0);
/// # Ok::<(), clustering::ClusteringError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SplitHalf {
    /// Random halvings, at least 1.
    pub splits: usize,
    /// Restarts of each k-means.
    pub n_init: usize,
    /// Seed of halvings and k-means.
    pub seed: u64,
}

impl Default for SplitHalf {
    fn default() -> Self {
        Self {
            splits: 6,
            n_init: 2,
            seed: 0,
        }
    }
}

impl SplitHalf {
    /// The agreement for `k` clusters; 0 where a half has fewer points than clusters.
    ///
    /// # Shapes
    /// - `points`: `[n, dim]`
    ///
    /// # Errors
    /// Bad parameters; empty or non-finite points.
    pub fn agreement(&self, points: ArrayView2<'_, f32>, k: usize) -> Result<f64, ClusteringError> {
        let operation = "split-half agreement";
        check_points(operation, points)?;
        if self.splits == 0 {
            return Err(invalid(operation, "splits", "at least 1", self.splits));
        }
        if k < 2 {
            return Err(invalid(operation, "k", "at least 2", k));
        }
        if points.nrows() / 2 < k {
            return Ok(0.0);
        }
        let order = canonical_order(points);
        let one = |split: usize| -> Result<f64, ClusteringError> {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(split as u64);
            let mut drawn = order.clone();
            drawn.shuffle(&mut rng);
            let (first, second) = drawn.split_at(drawn.len() / 2);
            let fit = |rows: &[usize]| {
                let half = select_rows(points, rows);
                let params = KMeansParams::new(k).n_init(self.n_init).seed(self.seed);
                params.fit(half.view()).map(|model| (half, model))
            };
            let (_, other) = fit(first)?;
            let (half, own) = fit(second)?;
            Ok(adjusted_rand(&own.labels, &other.predict(half.view())?, k))
        };
        let values: Vec<f64> = (0..self.splits)
            .into_par_iter()
            .map(one)
            .collect::<Result<_, _>>()?;
        Ok(values.iter().sum::<f64>() / values.len() as f64)
    }
}

/// Adjusted Rand index of two labellings with ids below `k` (Hubert and Arabie 1985); 1 where both
/// put everything together.
fn adjusted_rand(a: &[usize], b: &[usize], k: usize) -> f64 {
    let mut table = vec![0_u64; k * k];
    let (mut rows, mut columns) = (vec![0_u64; k], vec![0_u64; k]);
    for (&a, &b) in a.iter().zip(b) {
        table[a * k + b] += 1;
        rows[a] += 1;
        columns[b] += 1;
    }
    let pairs = |counts: &[u64]| -> f64 {
        counts
            .iter()
            .map(|&n| (n * n.saturating_sub(1) / 2) as f64)
            .sum()
    };
    let (together, in_a, in_b) = (pairs(&table), pairs(&rows), pairs(&columns));
    let all = pairs(&[a.len() as u64]);
    let expected = if all > 0.0 { in_a * in_b / all } else { 0.0 };
    let most = f64::midpoint(in_a, in_b);
    if most - expected == 0.0 {
        1.0
    } else {
        (together - expected) / (most - expected)
    }
}

/// Silhouette among the K that are stable.
///
/// ```text
/// stable = { K : agreement(K) >= least }                       see `SplitHalf`
/// best   = the stable K with the highest mean silhouette
/// K      = smallest stable K with  silhouette(K) >= silhouette(best) - standard error(best)
/// K      = 1 where no K is stable
/// ```
///
/// The silhouette alone keeps rising with K where texts are near-duplicates in small groups, and knows no
/// K = 1; the agreement alone is flat over a wide range of K. Agreements are measured only where the
/// answer depends on them.
///
/// # Example
/// ```
/// use clustering::StableSilhouette;
/// use ndarray::Array2;
///
/// let points = Array2::from_shape_fn((90, 2), |(i, j)| {
///     ((i % 3) * (2 * j + 1)) as f32 * 5.0 + (i * 7 % 11) as f32 * 0.1
/// });
/// assert_eq!(StableSilhouette::new(2, 8).run(points.view())?.k, 3);
/// # Ok::<(), clustering::ClusteringError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct StableSilhouette {
    /// The K tried, and how their silhouettes are taken.
    pub search: SilhouetteSearch,
    /// How agreements are measured.
    pub halves: SplitHalf,
    /// Least agreement of a stable K, 0 to 1.
    pub least: f64,
}

/// The K of [`StableSilhouette`] with what it was chosen from.
#[derive(Debug, Clone, PartialEq)]
pub struct StableEstimate {
    /// The K chosen; 1 where no K is stable.
    pub k: usize,
    /// Silhouette of each K tried.
    pub silhouette: SilhouetteEstimate,
    /// Agreement of each K that was looked at, in the order of K.
    pub agreements: Vec<(usize, f64)>,
}

impl StableSilhouette {
    /// Every K of a range, six halvings, a least agreement of 0.6.
    pub fn new(k_min: usize, k_max: usize) -> Self {
        Self {
            search: SilhouetteSearch::new(k_min, k_max),
            halves: SplitHalf::default(),
            least: 0.6,
        }
    }

    /// Sets the seed of all parts.
    pub fn seed(mut self, seed: u64) -> Self {
        self.search.seed = seed;
        self.halves.seed = seed;
        self
    }

    /// Runs the search.
    ///
    /// # Shapes
    /// - `points`: `[n, dim]`
    ///
    /// # Errors
    /// Those of [`SilhouetteSearch::run`] and [`SplitHalf::agreement`].
    pub fn run(&self, points: ArrayView2<'_, f32>) -> Result<StableEstimate, ClusteringError> {
        let operation = "stable silhouette";
        if !(0.0..=1.0).contains(&self.least) {
            return Err(invalid(operation, "least", "0 to 1", self.least));
        }
        let silhouette = self.search.run(points)?;
        let mut agreements: Vec<(usize, f64)> = Vec::new();
        let mut is_stable = |k: usize| -> Result<bool, ClusteringError> {
            let known = agreements.iter().find(|(other, _)| *other == k);
            let agreement = match known {
                Some((_, agreement)) => *agreement,
                None => {
                    let agreement = self.halves.agreement(points, k)?;
                    agreements.push((k, agreement));
                    agreement
                }
            };
            Ok(agreement >= self.least)
        };
        let mut falling: Vec<usize> = (0..silhouette.scores.len()).collect();
        falling.sort_by(|&a, &b| {
            let (one, other) = (silhouette.scores[a], silhouette.scores[b]);
            other.1.total_cmp(&one.1).then(one.0.cmp(&other.0))
        });
        let mut best = None;
        for at in falling {
            if is_stable(silhouette.scores[at].0)? {
                best = Some(at);
                break;
            }
        }
        let mut chosen = 1;
        if let Some(best) = best {
            let floor = silhouette.scores[best].1 - silhouette.errors[best];
            chosen = silhouette.scores[best].0;
            for &(k, score) in &silhouette.scores[..best] {
                if score >= floor && is_stable(k)? {
                    chosen = k;
                    break;
                }
            }
        }
        agreements.sort_by_key(|(k, _)| *k);
        Ok(StableEstimate {
            k: chosen,
            silhouette,
            agreements,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use ndarray::Array2;
    use proptest::prelude::*;
    use rand::RngExt;

    use super::*;
    use crate::choose_k::tests::boxes;

    #[test]
    fn real_groups_come_back_and_pieces_do_not() {
        let points = boxes(4, 40);
        let halves = SplitHalf::default();
        assert_eq!(halves.agreement(points.view(), 4).unwrap(), 1.0);
        let pieces = halves.agreement(points.view(), 9).unwrap();
        assert!(pieces < 0.8, "{pieces}");
        assert_eq!(halves.agreement(points.view(), 81).unwrap(), 0.0);
    }

    #[test]
    fn separated_groups_are_counted() {
        let found = StableSilhouette::new(2, 12)
            .run(boxes(6, 40).view())
            .unwrap();
        assert_eq!(found.k, 6);
        assert_eq!(found.silhouette.scores.len(), 11);
        assert!(found.agreements.contains(&(6, 1.0)));
    }

    #[test]
    fn one_cloud_is_one_category() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        // In many dimensions no direction stands out, so every cut is another one.
        let cloud = Array2::from_shape_fn((120, 40), |_| rng.random::<f32>() - 0.5);
        let found = StableSilhouette::new(2, 8).run(cloud.view()).unwrap();
        assert_eq!(found.k, 1);
        assert_eq!(found.agreements.len(), 7);
    }

    #[test]
    fn rows_in_another_order_give_the_same_answer() {
        let points = boxes(3, 20);
        let turned: Vec<usize> = (0..60).rev().collect();
        let search = StableSilhouette::new(2, 6).seed(4);
        let found = search.run(points.view()).unwrap();
        assert_eq!(
            search
                .run(select_rows(points.view(), &turned).view())
                .unwrap(),
            found
        );
    }

    #[test]
    fn bad_parameters_are_named() {
        let points = boxes(2, 5);
        let none = SplitHalf {
            splits: 0,
            ..SplitHalf::default()
        };
        assert!(none.agreement(points.view(), 2).is_err());
        assert!(SplitHalf::default().agreement(points.view(), 1).is_err());
        let mut search = StableSilhouette::new(2, 4);
        search.least = f64::NAN;
        assert!(search.run(points.view()).is_err());
    }

    proptest! {
        #[test]
        fn the_index_is_that_of_the_metrics_crate(
            labels in prop::collection::vec((0_usize..4, 0_usize..4), 2..40)
        ) {
            let (a, b): (Vec<usize>, Vec<usize>) = labels.into_iter().unzip();
            let expected = metrics::adjusted_rand_index(&a, &b).unwrap();
            prop_assert!((adjusted_rand(&a, &b, 4) - expected).abs() < 1e-12);
        }
    }
}
