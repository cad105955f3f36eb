//! Clustering of sentence vectors: k-means, centroid inference, choosing K, density and mixture clusterers, t-SNE.

mod error;
mod kmeans;
mod points;

pub use error::ClusteringError;
pub use kmeans::{CheckedKMeansParams, KMeans, KMeansParams};
pub use points::{canonical_order, check_points};
