//! Density clusterers for runs without a known K: DBSCAN and OPTICS, on linfa.

use linfa::ParamGuard;
use linfa::traits::Transformer;
use linfa_clustering::{Dbscan as LinfaDbscan, Optics as LinfaOptics};
use ndarray::{Array2, ArrayView1, ArrayView2};

use crate::clusterer::{Clusterer, Clustering, reduced};
use crate::error::{ClusteringError, invalid};

/// Euclidean distance between unit vectors whose cosine is `cosine`: `sqrt(2 - 2 cosine)`.
///
/// # Example
/// ```
/// assert!((clustering::radius_for_cosine(0.5) - 1.0).abs() < 1e-12);
/// ```
pub fn radius_for_cosine(cosine: f64) -> f64 {
    (2.0 - 2.0 * cosine.clamp(-1.0, 1.0)).sqrt()
}

/// DBSCAN (Ester, Kriegel, Sander, Xu 1996): clusters are chains of points with at least `min_points`
/// points (themselves included) within `radius`.
///
/// A point within `radius` of two clusters goes to the one found first; points are visited in
/// canonical order, so the result does not depend on the order of the rows. Quadratic in n.
/// Distances between sentence vectors differ little; reduce them to some 10 components first, and
/// read [`radius_for_cosine`].
#[derive(Debug, Clone, PartialEq)]
pub struct Dbscan {
    /// Points that make a neighbourhood dense, at least 2.
    pub min_points: usize,
    /// Euclidean radius of a neighbourhood in the units of the points, positive.
    pub radius: f64,
    /// Principal components to keep; none: all dimensions.
    pub reduce_to: Option<usize>,
}

impl Dbscan {
    /// DBSCAN in all dimensions.
    pub fn new(min_points: usize, radius: f64) -> Self {
        Self {
            min_points,
            radius,
            reduce_to: None,
        }
    }
}

impl Clusterer for Dbscan {
    fn name(&self) -> &'static str {
        "DBSCAN"
    }

    fn cluster(&self, points: ArrayView2<'_, f32>) -> Result<Clustering, ClusteringError> {
        check(self.name(), self.min_points, self.radius)?;
        let (prepared, data, factor) = reduced(self.name(), points, self.reduce_to)?;
        let radius = radius_in_range(self.radius * factor, &data);
        let labels = LinfaDbscan::params::<f64>(self.min_points)
            .tolerance(radius)
            .check()
            .map_err(|error| no_result(self.name(), &data, error))?
            .transform(&data);
        Ok(Clustering::from_canonical(&prepared, &labels.to_vec()))
    }
}

/// OPTICS (Ankerst, Breunig, Kriegel, Sander 1999) with the clusters at one reachability threshold.
///
/// Points are listed so that neighbours in density follow one another, each with its reachability
/// distance. A new cluster begins where that distance exceeds `radius` at a point that is dense
/// itself. Quadratic in n and slower than [`Dbscan`]; unlike there a border point, within `radius` of
/// dense points but not dense itself, goes to the cluster that reaches it at the smallest distance.
/// Whatever no dense point reaches is noise.
#[derive(Debug, Clone, PartialEq)]
pub struct Optics {
    /// Points that make a neighbourhood dense, at least 2.
    pub min_points: usize,
    /// Reachability threshold in the units of the points, positive.
    pub radius: f64,
    /// Principal components to keep; none: all dimensions.
    pub reduce_to: Option<usize>,
}

impl Optics {
    /// OPTICS in all dimensions.
    pub fn new(min_points: usize, radius: f64) -> Self {
        Self {
            min_points,
            radius,
            reduce_to: None,
        }
    }
}

impl Clusterer for Optics {
    fn name(&self) -> &'static str {
        "OPTICS"
    }

    fn cluster(&self, points: ArrayView2<'_, f32>) -> Result<Clustering, ClusteringError> {
        check(self.name(), self.min_points, self.radius)?;
        let (prepared, data, factor) = reduced(self.name(), points, self.reduce_to)?;
        let radius = radius_in_range(self.radius * factor, &data);
        // linfa gives the first point of a separate component its core distance as reachability, which
        // would glue components together. A range that covers everything leaves one component.
        let analysis = LinfaOptics::params::<f64>(self.min_points)
            .tolerance(diameter(&data))
            .check()
            .map_err(|error| no_result(self.name(), &data, error))?
            .transform(data.view());
        // Core distance and cluster of the dense points, in the order of the rows.
        let mut dense = vec![None; data.nrows()];
        let mut clusters = 0_usize;
        for sample in analysis.iter() {
            let Some(core) = sample.core_distance().filter(|core| *core <= radius) else {
                continue;
            };
            let reached = sample.reachability_distance().is_some_and(|r| r <= radius);
            if !reached || clusters == 0 {
                clusters += 1;
            }
            if let Some(place) = dense.get_mut(sample.index()) {
                *place = Some((core, clusters - 1));
            }
        }
        let labels = reached_by_dense(&data, &dense, radius);
        Ok(Clustering::from_canonical(&prepared, &labels))
    }
}

/// The clusters of the dense points, and for every other point that of the dense point with the smallest
/// reachability distance to it. The list does not serve for those: a border point may stand before the
/// points that reach it, depending on where the list began.
fn reached_by_dense(
    data: &Array2<f64>,
    dense: &[Option<(f64, usize)>],
    radius: f64,
) -> Vec<Option<usize>> {
    let nearest = |point: ArrayView1<'_, f64>| {
        let others = data.outer_iter().zip(dense);
        let reached = others.filter_map(|(other, dense)| {
            let (core, cluster) = (*dense)?;
            let squares = point.iter().zip(other).map(|(a, b)| (a - b) * (a - b));
            let reachability = squares.sum::<f64>().sqrt().max(core);
            (reachability <= radius).then_some((reachability, cluster))
        });
        reached.min_by(|a, b| a.0.total_cmp(&b.0))
    };
    let points = data.outer_iter().zip(dense);
    points
        .map(|(point, dense)| dense.or_else(|| nearest(point)).map(|(_, cluster)| cluster))
        .collect()
}

fn check(operation: &'static str, min_points: usize, radius: f64) -> Result<(), ClusteringError> {
    if min_points < 2 {
        return Err(invalid(operation, "min_points", "at least 2", min_points));
    }
    if !(radius.is_finite() && radius > 0.0) {
        return Err(invalid(operation, "radius", "finite and positive", radius));
    }
    Ok(())
}

/// More than any distance between two rows, and positive.
fn diameter(data: &Array2<f64>) -> f64 {
    let longest = data
        .outer_iter()
        .map(|row| row.dot(&row))
        .fold(0.0_f64, f64::max)
        .sqrt();
    2.1 * longest + 1.0
}

/// The radius, kept above zero and at most the diameter: linfa squares it.
fn radius_in_range(radius: f64, data: &Array2<f64>) -> f64 {
    radius.clamp(1e-150, diameter(data))
}

fn no_result(operation: &'static str, data: &Array2<f64>, error: impl ToString) -> ClusteringError {
    ClusteringError::NoResult {
        operation,
        rows: data.nrows(),
        dim: data.ncols(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    /// DBSCAN by its definition: connected components of dense points; returns the component of each
    /// dense point and for every other point the set of components it may belong to.
    fn components(
        points: &Array2<f32>,
        min_points: usize,
        radius: f64,
    ) -> (Vec<Option<usize>>, Vec<Vec<usize>>) {
        let n = points.nrows();
        let near = |i: usize, j: usize| {
            let d: f64 = points
                .row(i)
                .iter()
                .zip(points.row(j))
                .map(|(a, b)| f64::from(a - b).powi(2))
                .sum();
            d.sqrt() <= radius
        };
        let dense: Vec<bool> = (0..n)
            .map(|i| (0..n).filter(|&j| near(i, j)).count() >= min_points)
            .collect();
        let mut component = vec![None; n];
        for start in 0..n {
            if !dense[start] || component[start].is_some() {
                continue;
            }
            let mut stack = vec![start];
            while let Some(i) = stack.pop() {
                if component[i].is_none() {
                    component[i] = Some(start);
                    stack.extend((0..n).filter(|&j| dense[j] && near(i, j)));
                }
            }
        }
        let options = (0..n)
            .map(|i| {
                (0..n)
                    .filter(|&j| near(i, j))
                    .filter_map(|j| component[j])
                    .collect()
            })
            .collect();
        (component, options)
    }

    fn two_groups_and_an_outlier() -> Array2<f32> {
        array![
            [0.0, 0.0],
            [0.1, 0.0],
            [0.0, 0.1],
            [50.0, 0.0],
            [5.0, 5.0],
            [5.1, 5.0],
            [5.0, 5.1],
            [5.1, 5.1]
        ]
    }

    #[test]
    fn groups_and_noise_are_told_apart() {
        let points = two_groups_and_an_outlier();
        for clusterer in [&Dbscan::new(3, 0.5) as &dyn Clusterer, &Optics::new(3, 0.5)] {
            let found = clusterer.cluster(points.view()).unwrap();
            let want = [1, 1, 1, 9, 0, 0, 0, 0].map(|c| (c < 9).then_some(c));
            assert_eq!(found.labels, want, "{}", clusterer.name());
            assert_eq!(found.n_clusters, 2);
        }
    }

    #[test]
    fn equal_points_are_one_cluster_and_few_points_are_noise() {
        let points = Array2::<f32>::from_elem((30, 4), 0.25);
        for clusterer in [
            &Dbscan::new(3, 1e-9) as &dyn Clusterer,
            &Optics::new(3, 1e-9),
        ] {
            let found = clusterer.cluster(points.view()).unwrap();
            assert_eq!(
                (found.n_clusters, found.noise()),
                (1, 0),
                "{}",
                clusterer.name()
            );
        }
        for clusterer in [
            &Dbscan::new(40, 1.0) as &dyn Clusterer,
            &Optics::new(40, 1.0),
        ] {
            let found = clusterer.cluster(points.view()).unwrap();
            assert_eq!(
                (found.n_clusters, found.noise()),
                (0, 30),
                "{}",
                clusterer.name()
            );
        }
        let one = Array2::<f32>::zeros((1, 3));
        assert_eq!(Dbscan::new(2, 1.0).cluster(one.view()).unwrap().noise(), 1);
        assert_eq!(Optics::new(2, 1.0).cluster(one.view()).unwrap().noise(), 1);
    }

    #[test]
    fn reduction_keeps_groups_that_lie_in_a_plane() {
        let plane = two_groups_and_an_outlier();
        let points = Array2::from_shape_fn((8, 30), |(i, j)| plane[[i, j % 2]] / 15.0_f32.sqrt());
        let direct = Dbscan::new(3, 0.5).cluster(points.view()).unwrap();
        let reduced = Dbscan {
            reduce_to: Some(2),
            ..Dbscan::new(3, 0.5)
        }
        .cluster(points.view())
        .unwrap();
        assert_eq!(direct, reduced);
        assert_eq!(direct.n_clusters, 2);
    }

    #[test]
    fn bad_input_is_refused() {
        let points = array![[0.0_f32, 1.0]];
        for radius in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Dbscan::new(2, radius).cluster(points.view()).is_err());
            assert!(Optics::new(2, radius).cluster(points.view()).is_err());
        }
        assert!(Dbscan::new(1, 1.0).cluster(points.view()).is_err());
        assert!(Optics::new(1, 1.0).cluster(points.view()).is_err());
        assert!(
            Dbscan {
                reduce_to: Some(0),
                ..Dbscan::new(2, 1.0)
            }
            .cluster(points.view())
            .is_err()
        );
        assert!(
            Optics::new(2, 1.0)
                .cluster(array![[f32::NAN]].view())
                .is_err()
        );
        assert!(
            Dbscan::new(2, 1.0)
                .cluster(Array2::<f32>::zeros((0, 2)).view())
                .is_err()
        );
    }

    #[test]
    fn extreme_radii_and_magnitudes_do_not_overflow() {
        for factor in [1e-30_f32, 1e30] {
            let points = two_groups_and_an_outlier().mapv(|x| x * factor);
            let found = Dbscan::new(3, 0.5 * f64::from(factor))
                .cluster(points.view())
                .unwrap();
            assert_eq!(found.n_clusters, 2);
            assert_eq!(
                Dbscan::new(3, 1e300)
                    .cluster(points.view())
                    .unwrap()
                    .n_clusters,
                1
            );
            assert_eq!(
                Dbscan::new(3, 1e-300)
                    .cluster(points.view())
                    .unwrap()
                    .n_clusters,
                0
            );
            let found = Optics::new(3, 0.5 * f64::from(factor))
                .cluster(points.view())
                .unwrap();
            assert_eq!(found.n_clusters, 2);
        }
    }

    #[test]
    fn equal_border_points_share_a_label() {
        // A dense group, a bridge of two equal points, a lone pair.
        let points = array![
            [0.0, 0.0],
            [0.0, 0.0],
            [0.0, 0.0],
            [0.0, 0.0],
            [1.0, 0.0],
            [1.0, 0.0],
            [2.5, 0.0],
            [2.5, 0.0]
        ];
        for turn in 0..8 {
            let turned = Array2::from_shape_fn((8, 2), |(i, j)| points[[(i + turn) % 8, j]]);
            for clusterer in [&Dbscan::new(4, 1.1) as &dyn Clusterer, &Optics::new(4, 1.1)] {
                let found = clusterer.cluster(turned.view()).unwrap();
                for i in 0..8 {
                    let expected = ((i + turn) % 8 < 6).then_some(0);
                    assert_eq!(found.labels[i], expected, "{} {turn}", clusterer.name());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn dense_points_follow_the_definition(
            values in proptest::collection::vec(-20_i16..20, 40), min_points in 2_usize..5, turn in 0_usize..20,
        ) {
            // Distances are multiples of a quarter at the axes and irrational elsewhere; the radius
            // meets none of them.
            let points = Array2::from_shape_fn((20, 2), |(i, j)| f32::from(values[2 * i + j]) * 0.25);
            let radius = 1.1301;
            let (component, options) = components(&points, min_points, radius);
            let turned = Array2::from_shape_fn((20, 2), |(i, j)| points[[(i + turn) % 20, j]]);
            for clusterer in [&Dbscan::new(min_points, radius) as &dyn Clusterer, &Optics::new(min_points, radius)] {
                let found = clusterer.cluster(points.view()).unwrap();
                for i in 0..20 {
                    for j in 0..20 {
                        if component[i].is_some() && component[j].is_some() {
                            prop_assert_eq!(component[i] == component[j], found.labels[i] == found.labels[j]);
                        }
                    }
                    if component[i].is_some() {
                        prop_assert!(found.labels[i].is_some());
                    } else {
                        prop_assert_eq!(found.labels[i].is_none(), options[i].is_empty());
                    }
                }
                let again = clusterer.cluster(turned.view()).unwrap();
                for i in 0..20 {
                    prop_assert_eq!(again.labels[i], found.labels[(i + turn) % 20]);
                }
            }
        }
    }
}
