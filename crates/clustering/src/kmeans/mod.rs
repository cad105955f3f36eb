//! K-means: greedy k-means++ seeding, Lloyd iterations, restarts.

mod algorithm;
mod hyperparams;
mod lloyd;
mod seeding;
mod table;

pub use algorithm::KMeans;
pub use hyperparams::{CheckedKMeansParams, KMeansParams};
