//! What principal components, centroids, silhouettes and the other clusterers have in common for any
//! points: the order of the rows does not matter, and the definitions hold.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use clustering::{
    Centroids, Clusterer, Dbscan, GaussianMixture, KMeansParams, Optics, Pca, silhouette_samples,
};
use ndarray::{Array2, Axis};
use proptest::prelude::*;

/// Points on a coarse grid, so that equal points and equal distances are frequent.
fn points(rows: std::ops::Range<usize>) -> impl Strategy<Value = Array2<f32>> {
    (rows, 1usize..4).prop_flat_map(|(n, dim)| {
        prop::collection::vec((-9i8..=9).prop_map(f32::from), n * dim)
            .prop_map(move |values| Array2::from_shape_vec((n, dim), values).unwrap())
    })
}

fn rotated(points: &Array2<f32>, turn: usize) -> (Array2<f32>, Vec<usize>) {
    let n = points.nrows();
    let order: Vec<usize> = (0..n).map(|i| (i + turn) % n).collect();
    (points.select(Axis(0), &order), order)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_clusterer_sees_the_order_of_the_rows(points in points(4..24), k in 1usize..4, turn in 0usize..24) {
        let (moved, order) = rotated(&points, turn);
        let clusterers: [Box<dyn Clusterer>; 4] = [
            Box::new(KMeansParams::new(k).n_init(2).check().unwrap()),
            Box::new(Dbscan::new(2, 2.5)),
            Box::new(Optics::new(2, 2.5)),
            Box::new(GaussianMixture::new(k)),
        ];
        for clusterer in clusterers {
            let (before, after) = (clusterer.cluster(points.view()), clusterer.cluster(moved.view()));
            let (Ok(before), Ok(after)) = (&before, &after) else {
                prop_assert_eq!(before.is_err(), after.is_err(), "{}", clusterer.name());
                continue;
            };
            prop_assert_eq!(before.n_clusters, after.n_clusters, "{}", clusterer.name());
            for (position, row) in order.iter().enumerate() {
                prop_assert_eq!(after.labels[position], before.labels[*row], "{}", clusterer.name());
            }
            // Every number up to n_clusters has members.
            let mut used: Vec<usize> = before.labels.iter().flatten().copied().collect();
            used.sort_unstable();
            used.dedup();
            prop_assert_eq!(used, (0..before.n_clusters).collect::<Vec<_>>(), "{}", clusterer.name());
        }
    }

    #[test]
    fn components_are_orthonormal_and_explain_the_variance(points in points(2..24), moved in -50i8..50) {
        let (n, dim) = points.dim();
        let count = n.min(dim);
        let pca = Pca::fit(points.view(), count, 0).unwrap();
        for i in 0..count {
            for j in 0..=i {
                let product: f32 = pca.components.row(i).dot(&pca.components.row(j));
                prop_assert!((product - f32::from(u8::from(i == j))).abs() < 1e-5, "{i} {j}: {product}");
            }
        }
        prop_assert!(pca.explained_variance.windows(2).all(|pair| pair[1] <= pair[0] + 1e-9));
        // All components together have all the variance.
        let total: f64 = points
            .axis_iter(Axis(1))
            .map(|column| {
                let mean = column.iter().map(|x| f64::from(*x)).sum::<f64>() / n as f64;
                column.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / (n - 1) as f64
            })
            .sum();
        if count == dim {
            let explained: f64 = pca.explained_variance.iter().sum();
            prop_assert!((explained - total).abs() <= 1e-5 * (1.0 + total), "{explained} {total}");
        }
        // Where the points stand does not matter.
        let far = Pca::fit(points.mapv(|x| x + f32::from(moved)).view(), count, 0).unwrap();
        for (a, b) in far.explained_variance.iter().zip(&pca.explained_variance) {
            prop_assert!((a - b).abs() <= 1e-4 * (1.0 + total), "{a} {b}");
        }
    }

    #[test]
    fn a_point_goes_to_the_centroid_of_largest_cosine(points in points(3..16), k in 1usize..4) {
        let labels: Vec<usize> = (0..points.nrows()).map(|row| row % k).collect();
        let centroids = Centroids::from_clusters(points.view(), &labels, k).unwrap();
        for point in points.rows() {
            let point = point.to_vec();
            let found = centroids.assign(&point).unwrap();
            let cosines = centroids.cosines(&point).unwrap();
            prop_assert!(found.id < k);
            if point.iter().any(|x| *x != 0.0) {
                prop_assert!(cosines.iter().all(|cosine| (-1.001..=1.001).contains(cosine)));
                // A cluster without direction has the cosine 0 and is never chosen over one that has.
                let directed = (0..k).filter(|id| centroids.vectors().row(*id).iter().any(|x| *x != 0.0));
                for id in directed {
                    prop_assert!(cosines[id] <= found.cosine + 1e-6, "{id}: {cosines:?} {found:?}");
                }
            }
        }
    }

    #[test]
    fn silhouettes_follow_their_definition(points in points(3..16), k in 2usize..4) {
        let n = points.nrows();
        let labels: Vec<usize> = (0..n).map(|row| row % k).collect();
        let distance = |i: usize, j: usize| -> f64 {
            let squares = points.row(i).iter().zip(points.row(j)).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
            squares.sqrt()
        };
        let found = silhouette_samples(points.view(), &labels).unwrap();
        for i in 0..n {
            let mean = |cluster: usize| {
                let others = (0..n).filter(|j| *j != i && labels[*j] == cluster);
                let distances: Vec<f64> = others.map(|j| distance(i, j)).collect();
                distances.iter().sum::<f64>() / distances.len() as f64
            };
            let own = mean(labels[i]);
            let nearest = (0..k).filter(|c| *c != labels[i]).map(mean).fold(f64::INFINITY, f64::min);
            let largest = own.max(nearest);
            let expected = if own.is_nan() || largest == 0.0 { 0.0 } else { (nearest - own) / largest };
            prop_assert!((found[i] - expected).abs() < 2e-3, "{i}: {} {expected}", found[i]);
        }
    }
}
