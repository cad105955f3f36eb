//! Degenerate points and impossible requests: every clusterer gives the answer that scikit-learn gives,
//! or a typed error that names what was asked and what was found.
//!
//! Expected values are those of scikit-learn 1.9.1, with `Z = np.zeros((6, 3))`,
//! `E = np.full((6, 3), 0.7)`, `R = [[0, 0], [2, 0], [4, 6]]`:
//!
//! ```text
//! >>> KMeans(3).fit(Z).labels_, .inertia_                # [0 0 0 0 0 0] 0.0, and the same for E
//! >>> KMeans(1).fit(R).cluster_centers_, .inertia_       # [[2. 2.]] 32.0
//! >>> KMeans(3).fit(R).inertia_                          # 0.0
//! >>> KMeans(1).fit(E[:1]).labels_, .inertia_            # [0] 0.0
//! >>> KMeans(4).fit(Z[:3])                               # ValueError: n_samples=3 should be >= n_clusters=4
//! >>> KMeans(0).fit(Z)                                   # InvalidParameterError
//! >>> KMeans(1).fit(np.zeros((0, 2)))                    # ValueError: 0 sample(s)
//! >>> KMeans(1).fit([[nan, 0]])                          # ValueError: Input X contains NaN
//! >>> DBSCAN(eps=.5, min_samples=3).fit(E).labels_       # [0 0 0 0 0 0]; OPTICS the same
//! >>> DBSCAN(eps=.5, min_samples=2).fit(E[:1]).labels_   # [-1]
//! >>> GaussianMixture(2).fit(E).predict(E)               # [0 0 0 0 0 0]
//! >>> GaussianMixture(3).fit(E[:2])                      # ValueError
//! >>> PCA(2).fit(E).explained_variance_                  # [4e-32 4e-64]
//! >>> PCA(4).fit(R)                                      # ValueError
//! >>> silhouette_score(E, [0, 0, 0, 1, 1, 1])            # 0.0
//! >>> silhouette_score(R, [0, 0, 0])                     # ValueError: Number of labels is 1
//! >>> silhouette_samples(R, [0, 0, 1])                   # [0.7226499 0.68377223 0.]
//! ```
//!
//! One difference: `silhouette_score(R, [0, 1, 2])`, every point alone, is a ValueError there and 0
//! here, the value its own definition gives a point that is alone in its cluster.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use clustering::{
    Centroids, Clusterer, ClusteringError, Dbscan, GaussianMixture, KMeansParams, Optics,
    OverCluster, Pca, SilhouetteSearch, TsneParams, silhouette, silhouette_samples,
};
use ndarray::{Array2, array, s};

fn triangle() -> Array2<f32> {
    array![[0.0, 0.0], [2.0, 0.0], [4.0, 6.0]]
}

fn equal(rows: usize) -> Array2<f32> {
    Array2::from_elem((rows, 3), 0.7)
}

fn clusterers(k: usize) -> Vec<Box<dyn Clusterer>> {
    vec![
        Box::new(KMeansParams::new(k).check().unwrap()),
        Box::new(Dbscan::new(2, 0.5)),
        Box::new(Optics::new(2, 0.5)),
        Box::new(GaussianMixture::new(k)),
    ]
}

#[test]
fn one_cluster_is_the_mean() {
    let model = KMeansParams::new(1).fit(triangle().view()).unwrap();
    assert_eq!(model.centroids, array![[2.0, 2.0]]);
    assert_eq!((model.inertia, model.labels), (32.0, vec![0; 3]));
}

#[test]
fn as_many_clusters_as_points_leave_no_inertia() {
    let model = KMeansParams::new(3).fit(triangle().view()).unwrap();
    assert_eq!((model.inertia, model.sizes()), (0.0, vec![1; 3]));
}

#[test]
fn more_clusters_than_points_are_refused() {
    let points = triangle();
    let error = KMeansParams::new(4).fit(points.view()).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("4 clusters for 3 rows"), "{said}");
    assert!(GaussianMixture::new(4).cluster(points.view()).is_err());
    // A range of K ends where the points end; one that begins there is refused.
    let found = SilhouetteSearch::new(2, 9).run(points.view()).unwrap();
    assert_eq!((found.k, found.scores.len()), (2, 1));
    assert!(SilhouetteSearch::new(3, 9).run(points.view()).is_err());
    assert_eq!(
        OverCluster::new(9).run(points.view()).unwrap().sizes,
        [1; 3]
    );
    assert!(KMeansParams::new(0).fit(points.view()).is_err());
}

#[test]
fn equal_points_and_zero_vectors_are_one_cluster() {
    for points in [equal(6), Array2::zeros((6, 3))] {
        for clusterer in clusterers(2) {
            let found = clusterer.cluster(points.view()).unwrap();
            let name = clusterer.name();
            assert_eq!((found.n_clusters, found.noise()), (1, 0), "{name}");
            assert_eq!(found.labels, vec![Some(0); 6], "{name}");
        }
        let model = KMeansParams::new(3).fit(points.view()).unwrap();
        assert_eq!((model.labels, model.inertia), (vec![0; 6], 0.0));
        let pca = Pca::fit(points.view(), 2, 0).unwrap();
        assert!(pca.explained_variance.iter().all(|v| v.abs() < 1e-12));
        assert_eq!(
            silhouette(points.view(), &[0, 0, 0, 1, 1, 1], 6, 0),
            Ok(0.0)
        );
    }
}

#[test]
fn a_single_point_is_a_cluster_or_noise() {
    let one = equal(1);
    let labels = |clusterer: &dyn Clusterer| clusterer.cluster(one.view()).unwrap().labels;
    assert_eq!(labels(&KMeansParams::new(1).check().unwrap()), [Some(0)]);
    assert_eq!(labels(&GaussianMixture::new(1)), [Some(0)]);
    assert_eq!(labels(&Dbscan::new(2, 0.5)), [None]);
    assert_eq!(labels(&Optics::new(2, 0.5)), [None]);
    assert!(matches!(
        Pca::fit(one.view(), 1, 0),
        Err(ClusteringError::TooFewRows {
            needed: 2,
            found: 1,
            ..
        })
    ));
    assert!(silhouette_samples(one.view(), &[0]).is_err());
    let map = TsneParams {
        iterations: 10,
        ..TsneParams::for_points(1)
    }
    .fit(one.view());
    assert!(map.is_err() || map.is_ok_and(|map| map.embedding.iter().all(|x| x.is_finite())));
}

#[test]
fn no_points_no_columns_and_bad_numbers_are_refused_by_everyone() {
    let points = triangle();
    let mut bad = points.clone();
    bad[[2, 1]] = f32::INFINITY;
    for clusterer in clusterers(1) {
        let name = clusterer.name();
        let error = clusterer.cluster(points.slice(s![..0, ..])).unwrap_err();
        assert!(
            matches!(error, ClusteringError::Empty { rows: 0, .. }),
            "{name}: {error}"
        );
        let error = clusterer.cluster(points.slice(s![.., ..0])).unwrap_err();
        assert!(
            matches!(error, ClusteringError::Empty { dim: 0, .. }),
            "{name}: {error}"
        );
        let error = clusterer.cluster(bad.view()).unwrap_err().to_string();
        assert!(error.contains("row 2, column 1"), "{name}: {error}");
    }
}

#[test]
fn the_silhouette_of_one_cluster_does_not_exist() {
    let points = triangle();
    assert!(silhouette_samples(points.view(), &[0, 0, 0]).is_err());
    let found = silhouette_samples(points.view(), &[0, 0, 1]).unwrap();
    for (found, expected) in found.iter().zip([0.722_649_9, 0.683_772_23, 0.0]) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
    assert_eq!(
        silhouette_samples(points.view(), &[0, 1, 2]).unwrap(),
        [0.0; 3]
    );
}

#[test]
fn more_components_than_the_points_have_are_refused() {
    assert!(Pca::fit(triangle().view(), 4, 0).is_err());
    assert!(Pca::fit(triangle().view(), 0, 0).is_err());
}

#[test]
fn zero_vectors_have_no_direction() {
    let points = array![[0.0_f32, 0.0], [1.0, 0.0], [0.0, 2.0]];
    let centroids = Centroids::from_clusters(points.view(), &[0, 1, 2], 3).unwrap();
    // A cluster without direction is nobody's nearest; a vector without direction goes to the lowest id.
    assert_eq!(centroids.assign(&[0.0, 3.0]).unwrap().id, 2);
    assert_eq!(centroids.assign(&[-1.0, 0.1]).unwrap().id, 2);
    assert_eq!(centroids.cosines(&[0.0, 0.0]).unwrap(), [0.0; 3]);
    assert!(centroids.assign(&[f32::NAN, 0.0]).is_err());
    assert!(Centroids::from_clusters(points.view(), &[0, 1, 3], 3).is_err());
}

#[test]
fn magnitudes_at_both_ends_stay_finite() {
    for scale in [1e-38_f32, 1e-30, 1e30, 1e38] {
        let points = triangle().mapv(|x| x / 6.0 * scale);
        let model = KMeansParams::new(2).fit(points.view()).unwrap();
        assert_eq!(model.sizes(), [2, 1], "{scale}");
        assert!(model.inertia.is_finite(), "{scale}");
        assert!(model.centroids.iter().all(|x| x.is_finite()), "{scale}");
    }
}
