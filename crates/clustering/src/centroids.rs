//! Centroid inference: one direction per category, a text goes to the nearest one by cosine.

use ndarray::{Array2, ArrayView2, s};
use rayon::prelude::*;

use crate::error::{ClusteringError, invalid};
use crate::points::{BLOCK_ROWS, canonical_order, check_points, from_rows};

/// Where a vector was assigned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assignment {
    /// Id of the centroid.
    pub id: usize,
    /// Cosine of the angle between vector and centroid, -1 to 1; 0 if either has no direction.
    pub cosine: f32,
}

/// Category centroids.
///
/// ```text
/// mean_k   = (1 / n_k) sum of x_i with label k
/// vector_k = mean_k / |mean_k|
/// id(x)    = argmax_k  x . vector_k / |x|          (lowest k on ties)
/// ```
///
/// The three ways of scoring centroid inference differ only in the labels given to
/// [`from_clusters`](Self::from_clusters) and in what the caller does with the ids:
///
/// | mode | labels | ids scored by |
/// |---|---|---|
/// | `cluster` | k-means on the training vectors | best one-to-one matching on the test labels |
/// | `mapped` | the same | a cluster-to-class map fitted on the training labels |
/// | `oracle` | true training classes | plain accuracy, an upper bound |
///
/// A cluster without members, or whose members cancel, has no direction: its vector is zero and it
/// is chosen only if no candidate has one.
///
/// # Example
/// ```
/// use clustering::Centroids;
/// use ndarray::array;
///
/// let train = array![[1.0_f32, 0.0], [0.8, 0.1], [0.0, 2.0]];
/// let centroids = Centroids::from_clusters(train.view(), &[0, 0, 1], 2)?
///     .with_names(vec!["refund".into(), "delivery".into()])?;
/// let found = centroids.assign(&[0.1, 3.0])?;
/// assert_eq!(centroids.names().map(|n| n[found.id].as_str()), Some("delivery"));
/// assert!(found.cosine > 0.99);
/// # Ok::<(), clustering::ClusteringError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Centroids {
    means: Array2<f32>,
    vectors: Array2<f32>,
    directed: Vec<bool>,
    names: Option<Vec<String>>,
    coarse: Vec<usize>,
}

impl Centroids {
    /// Centroids of labelled points.
    ///
    /// Sums run in double precision and canonical row order, so the order of the rows does not matter.
    ///
    /// # Shapes
    /// - `points`: `[n, dim]`; `labels`: `n` ids below `k`
    ///
    /// # Errors
    /// Empty or non-finite points, `k` of zero, a wrong number of labels, a label of `k` or more.
    pub fn from_clusters(
        points: ArrayView2<'_, f32>,
        labels: &[usize],
        k: usize,
    ) -> Result<Self, ClusteringError> {
        let operation = "centroids";
        check_points(operation, points)?;
        check_labels(operation, labels, points.nrows(), k)?;
        let dim = points.ncols();
        let mut sums = Array2::<f64>::zeros((k, dim));
        let mut counts = vec![0_usize; k];
        for row in canonical_order(points) {
            let label = labels[row];
            counts[label] += 1;
            sums.row_mut(label)
                .iter_mut()
                .zip(points.row(row))
                .for_each(|(s, &x)| *s += f64::from(x));
        }
        for (mut row, &count) in sums.outer_iter_mut().zip(&counts) {
            row /= count.max(1) as f64;
        }
        Ok(Self::from_sums(&sums))
    }

    /// Centroids from stored means or directions, for instance from a model directory.
    ///
    /// # Shapes
    /// - `means`: `[k, dim]`
    ///
    /// # Errors
    /// Empty or non-finite means.
    pub fn from_means(means: ArrayView2<'_, f32>) -> Result<Self, ClusteringError> {
        check_points("centroids", means)?;
        Ok(Self::from_sums(&means.mapv(f64::from)))
    }

    fn from_sums(means: &Array2<f64>) -> Self {
        let (k, dim) = means.dim();
        let mut vectors = Vec::with_capacity(k * dim);
        let mut directed = Vec::with_capacity(k);
        for row in means.outer_iter() {
            let unit = normalised(row.iter().copied());
            directed.push(unit.is_some());
            vectors.extend(unit.unwrap_or_else(|| vec![0.0; dim]));
        }
        Self {
            means: means.mapv(|x| x as f32),
            vectors: from_rows(k, dim, vectors),
            directed,
            names: None,
            coarse: vec![0; k],
        }
    }

    /// Names the categories.
    ///
    /// # Errors
    /// A number of names other than `k`.
    pub fn with_names(mut self, names: Vec<String>) -> Result<Self, ClusteringError> {
        self.check_count("names", names.len())?;
        self.names = Some(names);
        Ok(self)
    }

    /// Sets the coarse class of each category; all are 0 at first.
    ///
    /// # Errors
    /// A number of classes other than `k`.
    pub fn with_coarse(mut self, coarse: Vec<usize>) -> Result<Self, ClusteringError> {
        self.check_count("coarse classes", coarse.len())?;
        self.coarse = coarse;
        Ok(self)
    }

    fn check_count(&self, what: &'static str, found: usize) -> Result<(), ClusteringError> {
        let expected = self.k();
        if found == expected {
            Ok(())
        } else {
            Err(ClusteringError::LengthMismatch {
                operation: "centroids",
                what,
                expected,
                found,
            })
        }
    }

    /// Number of categories.
    pub fn k(&self) -> usize {
        self.vectors.nrows()
    }

    /// Dimension of the vectors.
    pub fn dim(&self) -> usize {
        self.vectors.ncols()
    }

    /// `[k, dim]`: means of unit length; zero without direction.
    pub fn vectors(&self) -> ArrayView2<'_, f32> {
        self.vectors.view()
    }

    /// `[k, dim]`: plain means; zero for a category without members.
    pub fn means(&self) -> ArrayView2<'_, f32> {
        self.means.view()
    }

    /// Names, if given.
    pub fn names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    /// Coarse class of each category.
    pub fn coarse(&self) -> &[usize] {
        &self.coarse
    }

    /// Categories of one coarse class, for [`assign_within`](Self::assign_within).
    pub fn candidates(&self, coarse: usize) -> Vec<usize> {
        (0..self.k())
            .filter(|&id| self.coarse[id] == coarse)
            .collect()
    }

    /// The nearest centroid of one vector.
    ///
    /// # Shapes
    /// - `vector`: `[dim]`, of any length; zero goes to the first centroid with a direction, at cosine 0
    ///
    /// # Errors
    /// A wrong dimension or non-finite entries.
    pub fn assign(&self, vector: &[f32]) -> Result<Assignment, ClusteringError> {
        let cosines = self.cosines(vector)?;
        Ok(self.best(&cosines, 0..self.k()))
    }

    /// The nearest centroid among `candidates`.
    ///
    /// With the [`candidates`](Self::candidates) of a predicted coarse class this is the coarse gate,
    /// an extension that is not part of the published method.
    ///
    /// # Errors
    /// A wrong dimension, non-finite entries, no candidates, a candidate of `k` or more.
    pub fn assign_within(
        &self,
        vector: &[f32],
        candidates: &[usize],
    ) -> Result<Assignment, ClusteringError> {
        let operation = "assign within";
        if candidates.is_empty() {
            return Err(invalid(operation, "candidates", "at least one id", "none"));
        }
        if let Some((position, &id)) = candidates
            .iter()
            .enumerate()
            .find(|(_, id)| **id >= self.k())
        {
            return Err(ClusteringError::IdOutOfRange {
                operation,
                k: self.k(),
                id,
                position,
            });
        }
        let mut candidates = candidates.to_vec();
        candidates.sort_unstable();
        let cosines = self.cosines(vector)?;
        Ok(self.best(&cosines, candidates.into_iter()))
    }

    /// The nearest centroid of each row; the same as [`assign`](Self::assign) row by row.
    ///
    /// # Shapes
    /// - `points`: `[n, dim]`, result: `n` assignments
    ///
    /// # Errors
    /// Empty or non-finite points, a wrong dimension.
    pub fn assign_all(
        &self,
        points: ArrayView2<'_, f32>,
    ) -> Result<Vec<Assignment>, ClusteringError> {
        let operation = "assign";
        check_points(operation, points)?;
        self.check_dim(operation, points.ncols())?;
        let blocks: Vec<Vec<Assignment>> = (0..points.nrows().div_ceil(BLOCK_ROWS))
            .into_par_iter()
            .map(|block| {
                let start = block * BLOCK_ROWS;
                let end = (start + BLOCK_ROWS).min(points.nrows());
                let cosines = self.cosine_block(points.slice(s![start..end, ..]));
                cosines
                    .outer_iter()
                    .map(|row| self.best(&row.to_vec(), 0..self.k()))
                    .collect()
            })
            .collect();
        Ok(blocks.concat())
    }

    /// Cosines of one vector with all centroids, `[k]`; 0 where either has no direction.
    ///
    /// # Errors
    /// A wrong dimension or non-finite entries.
    pub fn cosines(&self, vector: &[f32]) -> Result<Vec<f32>, ClusteringError> {
        let operation = "assign";
        self.check_dim(operation, vector.len())?;
        let row = from_rows(1, vector.len(), vector.to_vec());
        check_points(operation, row.view())?;
        Ok(self.cosine_block(row.view()).into_iter().collect())
    }

    fn check_dim(&self, operation: &'static str, found: usize) -> Result<(), ClusteringError> {
        let expected = self.dim();
        if found == expected {
            Ok(())
        } else {
            Err(ClusteringError::DimensionMismatch {
                operation,
                expected,
                found,
            })
        }
    }

    /// `[rows, k]`
    fn cosine_block(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        let dim = self.dim();
        let units = rows
            .outer_iter()
            .flat_map(|row| {
                normalised(row.iter().map(|&x| f64::from(x))).unwrap_or_else(|| vec![0.0; dim])
            })
            .collect();
        let mut cosines = from_rows(rows.nrows(), dim, units).dot(&self.vectors.t());
        cosines.mapv_inplace(|c| c.clamp(-1.0, 1.0));
        cosines
    }

    /// The best of some candidates in ascending order.
    fn best(&self, cosines: &[f32], candidates: impl Iterator<Item = usize> + Clone) -> Assignment {
        let fallback = Assignment {
            id: candidates.clone().next().unwrap_or(0),
            cosine: 0.0,
        };
        let mut best: Option<Assignment> = None;
        for id in candidates.filter(|&id| self.directed[id]) {
            if best.is_none_or(|b| cosines[id] > b.cosine) {
                best = Some(Assignment {
                    id,
                    cosine: cosines[id],
                });
            }
        }
        best.unwrap_or(fallback)
    }
}

/// For each cluster the value most of its members carry; the smallest on ties, 0 without members.
///
/// Gives the coarse class of each cluster from the coarse labels of the training rows.
///
/// # Errors
/// Different lengths, `k` of zero, a label of `k` or more.
///
/// # Example
/// ```
/// let coarse = clustering::majority(&[0, 0, 0, 1], &[7, 3, 7, 3], 2)?;
/// assert_eq!(coarse, vec![7, 3]);
/// # Ok::<(), clustering::ClusteringError>(())
/// ```
pub fn majority(
    labels: &[usize],
    values: &[usize],
    k: usize,
) -> Result<Vec<usize>, ClusteringError> {
    check_labels("majority", labels, values.len(), k)?;
    let mut counts = vec![std::collections::BTreeMap::<usize, usize>::new(); k];
    for (&label, &value) in labels.iter().zip(values) {
        *counts[label].entry(value).or_default() += 1;
    }
    Ok(counts
        .iter()
        .map(|c| {
            c.iter()
                .max_by_key(|&(&value, &count)| (count, std::cmp::Reverse(value)))
                .map_or(0, |(&v, _)| v)
        })
        .collect())
}

/// Checks that there is one label below `k` per row.
pub(crate) fn check_labels(
    operation: &'static str,
    labels: &[usize],
    rows: usize,
    k: usize,
) -> Result<(), ClusteringError> {
    if k == 0 {
        return Err(invalid(operation, "k", "at least 1", k));
    }
    if labels.len() != rows {
        return Err(ClusteringError::LengthMismatch {
            operation,
            what: "labels",
            expected: rows,
            found: labels.len(),
        });
    }
    match labels.iter().position(|&label| label >= k) {
        Some(position) => Err(ClusteringError::IdOutOfRange {
            operation,
            k,
            id: labels[position],
            position,
        }),
        None => Ok(()),
    }
}

/// The vector at unit length; `None` for a zero vector.
fn normalised(values: impl Iterator<Item = f64> + Clone) -> Option<Vec<f32>> {
    // The squares of f32 numbers stay inside the range of f64.
    let length = values.clone().map(|x| x * x).sum::<f64>().sqrt();
    (length > 0.0).then(|| values.map(|x| (x / length) as f32).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn means_are_plain_and_vectors_are_normalised() {
        let points = array![[2.0_f32, 0.0], [4.0, 0.0], [0.0, -3.0]];
        let c = Centroids::from_clusters(points.view(), &[0, 0, 1], 2).unwrap();
        assert_eq!(c.means(), array![[3.0, 0.0], [0.0, -3.0]]);
        assert_eq!(c.vectors(), array![[1.0, 0.0], [0.0, -1.0]]);
        assert_eq!((c.k(), c.dim(), c.coarse()), (2, 2, &[0, 0][..]));
    }

    #[test]
    fn clusters_without_direction_are_never_chosen_over_others() {
        // Cluster 0 has no members, the members of cluster 1 cancel.
        let points = array![[1.0_f32, 0.0], [-1.0, 0.0], [0.0, 1.0]];
        let c = Centroids::from_clusters(points.view(), &[1, 1, 2], 3).unwrap();
        let found = c.assign(&[0.1, -5.0]).unwrap();
        assert_eq!(found.id, 2);
        assert!(found.cosine < -0.9);
        assert_eq!(
            c.assign_within(&[1.0, 1.0], &[1, 0]).unwrap(),
            Assignment { id: 0, cosine: 0.0 }
        );
    }

    #[test]
    fn zero_vectors_and_ties_go_to_the_lowest_id() {
        let c =
            Centroids::from_means(array![[0.0_f32, 2.0], [0.0, 5.0], [1.0, 0.0]].view()).unwrap();
        assert_eq!(
            c.assign(&[0.0, 0.0]).unwrap(),
            Assignment { id: 0, cosine: 0.0 }
        );
        assert_eq!(c.assign(&[0.0, 9.0]).unwrap().id, 0);
        assert_eq!(c.assign_within(&[0.0, 9.0], &[2, 1]).unwrap().id, 1);
    }

    #[test]
    fn the_coarse_gate_restricts_the_candidates() {
        let c = Centroids::from_means(array![[1.0_f32, 0.0], [0.9, 0.1], [0.0, 1.0]].view())
            .unwrap()
            .with_coarse(vec![0, 1, 1])
            .unwrap();
        assert_eq!(c.assign(&[1.0, 0.0]).unwrap().id, 0);
        assert_eq!(
            c.assign_within(&[1.0, 0.0], &c.candidates(1)).unwrap().id,
            1
        );
        assert!(c.candidates(9).is_empty());
    }

    #[test]
    fn bad_input_is_refused() {
        let points = array![[1.0_f32, 0.0], [0.0, 1.0]];
        let wrong =
            |labels: &[usize], k| Centroids::from_clusters(points.view(), labels, k).unwrap_err();
        assert!(matches!(
            wrong(&[0], 1),
            ClusteringError::LengthMismatch {
                expected: 2,
                found: 1,
                ..
            }
        ));
        assert!(matches!(
            wrong(&[0, 2], 2),
            ClusteringError::IdOutOfRange {
                id: 2,
                position: 1,
                ..
            }
        ));
        assert!(matches!(
            wrong(&[0, 0], 0),
            ClusteringError::InvalidParameter { .. }
        ));
        let c = Centroids::from_means(points.view()).unwrap();
        assert!(matches!(
            c.assign(&[1.0]),
            Err(ClusteringError::DimensionMismatch {
                expected: 2,
                found: 1,
                ..
            })
        ));
        assert!(matches!(
            c.assign(&[1.0, f32::NAN]),
            Err(ClusteringError::NonFinite { .. })
        ));
        assert!(c.assign_within(&[1.0, 0.0], &[]).is_err());
        assert!(matches!(
            c.assign_within(&[1.0, 0.0], &[5]),
            Err(ClusteringError::IdOutOfRange { id: 5, .. })
        ));
        assert!(c.clone().with_names(vec!["a".into()]).is_err());
        assert!(c.with_coarse(vec![0, 0, 0]).is_err());
    }

    #[test]
    fn majority_takes_the_smallest_value_on_ties() {
        assert_eq!(
            majority(&[0, 0, 2, 2, 2], &[5, 4, 1, 9, 9], 3).unwrap(),
            vec![4, 0, 9]
        );
        assert!(majority(&[0], &[], 1).is_err());
    }

    proptest! {
        #[test]
        fn assignment_equals_plain_cosines(
            means in proptest::collection::vec(-1.0_f32..1.0, 15),
            queries in proptest::collection::vec(-100.0_f32..100.0, 30),
            scale in 1e-3_f32..1e3,
        ) {
            let means = from_rows(5, 3, means);
            let queries = from_rows(10, 3, queries);
            let c = Centroids::from_means(means.view()).unwrap();
            let all = c.assign_all(queries.view()).unwrap();
            for (query, found) in queries.outer_iter().zip(&all) {
                let query = query.to_vec();
                prop_assert_eq!(c.assign(&query).unwrap(), *found);
                let cosine = |m: usize| {
                    let m: Vec<f64> = means.row(m).iter().map(|&x| f64::from(x)).collect();
                    let dot: f64 = m.iter().zip(&query).map(|(a, &b)| a * f64::from(b)).sum();
                    let norms = m.iter().map(|a| a * a).sum::<f64>() * query.iter().map(|&b| f64::from(b).powi(2)).sum::<f64>();
                    if norms > 0.0 { dot / norms.sqrt() } else { 0.0 }
                };
                let best = (0..5).map(cosine).fold(f64::NEG_INFINITY, f64::max);
                prop_assert!((f64::from(found.cosine) - best).abs() < 1e-5);
                prop_assert!((cosine(found.id) - best).abs() < 1e-5);
                // Only the direction of a query counts.
                let scaled: Vec<f32> = query.iter().map(|x| x * scale).collect();
                prop_assert!((c.assign(&scaled).unwrap().cosine - found.cosine).abs() < 1e-5);
            }
        }
    }
}
