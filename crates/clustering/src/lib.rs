//! Clustering of sentence vectors: k-means, centroid inference, choosing K, density and mixture
//! clusterers, t-SNE.
//!
//! Everything takes rows of `f32` (`ndarray::ArrayView2`), checks them, and returns a typed
//! [`ClusteringError`] that names operation, expected and found. No result depends on the order of
//! the rows or on the number of threads; the same seed gives the same bytes on the same machine.
//!
//! | question | item |
//! |---|---|
//! | K is known | [`KMeansParams`] |
//! | K is unknown | [`StableSilhouette`], [`SilhouetteSearch`], [`OverCluster`], or a [`Clusterer`] that needs none: [`Dbscan`], [`Optics`] |
//! | clusters are not round | [`GaussianMixture`] |
//! | assign one new text | [`Centroids`] |
//! | are the clusters any good | [`silhouette`](fn@silhouette) |
//! | show them | [`TsneParams`], [`Pca`] |
//!
//! Partition metrics against known labels (accuracy, ARI, NMI) live in the `metrics` crate.

mod centroids;
mod choose_k;
mod clusterer;
mod density;
mod error;
mod kmeans;
mod mixture;
mod pca;
mod points;
mod silhouette;
mod stability;
mod symmetric_eigen;
mod tsne;

pub use centroids::{Assignment, Centroids, majority};
pub use choose_k::{OverCluster, OverClusterEstimate, SilhouetteEstimate, SilhouetteSearch};
pub use clusterer::{Clusterer, Clustering};
pub use density::{Dbscan, Optics, radius_for_cosine};
pub use error::ClusteringError;
pub use kmeans::{CheckedKMeansParams, KMeans, KMeansParams};
pub use mixture::GaussianMixture;
pub use pca::Pca;
pub use points::{canonical_order, check_points};
pub use silhouette::{silhouette, silhouette_samples};
pub use stability::{SplitHalf, StableEstimate, StableSilhouette};
pub use tsne::{CheckedTsneParams, Tsne, TsneInit, TsneParams};
