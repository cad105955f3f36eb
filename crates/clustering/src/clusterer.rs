//! One interface for all clusterers.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2};

use crate::error::{ClusteringError, invalid};
use crate::kmeans::{CheckedKMeansParams, KMeansParams};
use crate::pca::Pca;
use crate::points::{Prepared, check_points};

/// A partition of points, some of which may belong nowhere.
///
/// Clusters are numbered by size, the largest first; equal sizes by the canonical position
/// ([`canonical_order`](crate::canonical_order)) of their first member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clustering {
    /// Cluster of each point; `None` for noise.
    pub labels: Vec<Option<usize>>,
    /// Number of clusters; each has members.
    pub n_clusters: usize,
}

impl Clustering {
    /// Number of points in no cluster.
    pub fn noise(&self) -> usize {
        self.labels.iter().filter(|label| label.is_none()).count()
    }

    /// Labels without gaps: noise points become clusters of their own, numbered after the others.
    ///
    /// Partition metrics such as ARI need a label for every point.
    pub fn with_singletons(&self) -> Vec<usize> {
        let mut next = self.n_clusters;
        self.labels
            .iter()
            .map(|label| {
                label.unwrap_or_else(|| {
                    next += 1;
                    next - 1
                })
            })
            .collect()
    }

    /// Numbers clusters given at canonical positions and puts the labels back to the input rows.
    pub(crate) fn from_canonical(prepared: &Prepared, labels: &[Option<usize>]) -> Self {
        let mut clusters: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for (position, label) in labels.iter().enumerate() {
            if let Some(label) = label {
                clusters.entry(*label).or_insert((0, position)).0 += 1;
            }
        }
        let mut order: Vec<(Reverse<usize>, usize, usize)> = clusters
            .into_iter()
            .map(|(label, (size, first))| (Reverse(size), first, label))
            .collect();
        order.sort_unstable();
        let numbers: BTreeMap<usize, usize> = order
            .iter()
            .enumerate()
            .map(|(number, &(_, _, label))| (label, number))
            .collect();
        let labels: Vec<Option<usize>> = labels
            .iter()
            .map(|label| label.and_then(|label| numbers.get(&label).copied()))
            .collect();
        Self {
            labels: prepared.restore(&labels),
            n_clusters: order.len(),
        }
    }
}

/// Something that partitions points.
///
/// # Example
/// ```
/// use clustering::{Clusterer, Dbscan, GaussianMixture, KMeansParams, Optics};
/// use ndarray::Array2;
///
/// let points = Array2::from_shape_fn((40, 2), |(i, j)| (i % 2) as f32 * 9.0 + ((i * 7 + j * 5) % 11) as f32 * 0.1);
/// let clusterers: Vec<Box<dyn Clusterer>> = vec![
///     Box::new(KMeansParams::new(2)),
///     Box::new(Dbscan::new(3, 1.0)),
///     Box::new(Optics::new(3, 1.0)),
///     Box::new(GaussianMixture::new(2)),
/// ];
/// for clusterer in &clusterers {
///     assert_eq!(clusterer.cluster(points.view())?.n_clusters, 2, "{}", clusterer.name());
/// }
/// # Ok::<(), clustering::ClusteringError>(())
/// ```
pub trait Clusterer {
    /// Name of the algorithm, for reports.
    fn name(&self) -> &'static str;

    /// Partitions the points, independently of the order of the rows and the number of threads.
    ///
    /// # Shapes
    /// - `points`: `[n, dim]`
    ///
    /// # Errors
    /// Empty or non-finite points, bad parameters, or no result on these points.
    fn cluster(&self, points: ArrayView2<'_, f32>) -> Result<Clustering, ClusteringError>;
}

impl Clusterer for CheckedKMeansParams {
    fn name(&self) -> &'static str {
        "k-means"
    }

    fn cluster(&self, points: ArrayView2<'_, f32>) -> Result<Clustering, ClusteringError> {
        let model = self.fit(points)?;
        // Clusters without members are the last ones.
        let n_clusters = model.sizes().iter().filter(|size| **size > 0).count();
        Ok(Clustering {
            labels: model.labels.into_iter().map(Some).collect(),
            n_clusters,
        })
    }
}

impl Clusterer for KMeansParams {
    fn name(&self) -> &'static str {
        "k-means"
    }

    fn cluster(&self, points: ArrayView2<'_, f32>) -> Result<Clustering, ClusteringError> {
        self.clone().check()?.cluster(points)
    }
}

/// Checked points in canonical order and in double precision, reduced to principal components if
/// asked for; with the factor that turns input distances into distances between them.
pub(crate) fn reduced(
    operation: &'static str,
    points: ArrayView2<'_, f32>,
    reduce_to: Option<usize>,
) -> Result<(Prepared, Array2<f64>, f64), ClusteringError> {
    check_points(operation, points)?;
    if reduce_to == Some(0) {
        return Err(invalid(operation, "reduce_to", "at least 1", 0));
    }
    let (n, dim) = points.dim();
    let prepared = Prepared::new(points);
    let data = prepared.data.mapv(f64::from);
    let data = match reduce_to {
        // A rotation onto all dimensions would change nothing.
        Some(components) if components < dim && n >= 2 => {
            let pca = Pca::fit_prepared(&prepared, components.min(n), 0);
            data.dot(&pca.components.mapv(f64::from).t())
        }
        _ => data,
    };
    let factor = prepared.scale;
    Ok((prepared, data.as_standard_layout().into_owned(), factor))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use ndarray::array;

    use super::*;

    #[test]
    fn clusters_are_numbered_by_size_then_position() {
        let points = array![[5.0_f32], [4.0], [3.0], [2.0], [1.0], [0.0]];
        let prepared = Prepared::new(points.view());
        let canonical = [Some(9), None, Some(4), Some(9), Some(4), Some(7)];
        let clustering = Clustering::from_canonical(&prepared, &canonical);
        // Canonical order is the input backwards.
        assert_eq!(
            clustering.labels,
            vec![Some(2), Some(1), Some(0), Some(1), None, Some(0)]
        );
        assert_eq!((clustering.n_clusters, clustering.noise()), (3, 1));
        assert_eq!(clustering.with_singletons(), vec![2, 1, 0, 1, 3, 0]);
    }

    #[test]
    fn k_means_counts_only_clusters_with_members() {
        let points = array![[1.0_f32, 1.0], [1.0, 1.0], [2.0, 2.0]];
        let clustering = KMeansParams::new(3).cluster(points.view()).unwrap();
        assert_eq!(clustering.n_clusters, 2);
        assert_eq!(clustering.labels, vec![Some(0), Some(0), Some(1)]);
    }
}
