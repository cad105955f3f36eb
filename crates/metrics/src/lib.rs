//! Measures of partitions, rankings and embedding spaces: plain slices in, numbers out.
//!
//! Nothing here knows about tensors, files or models; every function can be called from any
//! program that holds its data in slices.
//!
//! | question | function |
//! |---|---|
//! | do clusters match known labels? | [`clustering_accuracy`], [`adjusted_rand_index`], [`normalized_mutual_information`], [`purity`] |
//! | how good are mapped labels on unseen rows? | [`accuracy_with_mapping`] |
//! | do retrieved neighbours share their query's label? | [`neighbour_precision`] |
//! | do two score lists agree? | [`pearson`], [`spearman`] |
//! | how good is an encoder on a similarity task of several subsets? | [`sts_scores`], [`average_of_tasks`], [`TaskTable`] |
//! | how is an embedding space spread out? | [`alignment`], [`uniformity`], [`average_cosine`], [`iso_score`] |
//! | do queries find their documents? | [`relevant_ranks`], [`retrieval_scores`] |
//! | can a linear classifier read labels off embeddings? | [`LogisticRegression`], [`stratified_folds`], [`label_accuracy`], [`f1_score`] |
//! | is training data harder to fit than evaluation data? | [`relative_fitting_difficulty`] |
//! | how alike do the sentences of a pair look, and how are scores spread? | [`match_error_rate`], [`Histogram`] |
//! | how much do seeds differ? | [`Summary`] |
//!
//! # Conventions
//! - Cluster and label ids are any `Ord + Copy` type, need not be contiguous, and the two sides
//!   may use different types and different numbers of ids.
//! - Partition measures, [`spearman`] and [`Summary`] depend on the multiset of their rows only:
//!   any row order gives the same bits. None of the functions uses threads or hash order.
//! - Bad input (empty, unequal lengths, NaN where a number is needed) is a [`MetricsError`];
//!   a quantity that is mathematically undefined on good input is NaN, and says so in its page.
//!
//! ```
//! let clusters = [7, 7, 3, 3, 3];
//! let labels = ["pay", "pay", "card", "card", "pay"];
//! let fit = metrics::clustering_accuracy(&clusters, &labels)?;
//! assert_eq!(fit.matched, 4);
//! assert_eq!(fit.mapping[&3], "card");
//! # Ok::<(), metrics::MetricsError>(())
//! ```

mod accuracy;
mod alignment;
mod ari;
mod assignment;
mod classification;
mod compensated_sum;
mod contingency;
mod correlation;
mod edit_rate;
mod error;
mod histogram;
mod isotropy;
mod logistic_regression;
mod neighbour_precision;
mod nmi;
mod purity;
mod retrieval;
mod rfd;
mod rows;
mod stratified_folds;
mod sts;
mod summary;
mod task_table;
mod uniformity;

pub use accuracy::{
    ClusterAccuracy, MappedAccuracy, accuracy_with_mapping, clustering_accuracy,
    clustering_accuracy_of,
};
pub use alignment::{alignment, alignment_with};
pub use ari::{adjusted_rand_index, adjusted_rand_index_of};
pub use assignment::{Assignment, Cost, max_assignment, min_assignment};
pub use classification::{f1_score, label_accuracy};
pub use contingency::Contingency;
pub use correlation::{average_ranks, pearson, spearman};
pub use edit_rate::{EditAlignment, match_error_rate};
pub use error::MetricsError;
pub use histogram::{Histogram, equal_edges};
pub use isotropy::{average_cosine, iso_score};
pub use logistic_regression::{
    Fit, LabelledRows, LogisticRegression, LogisticRegressionConfig, Optimizer, Trainer,
};
pub use neighbour_precision::{NeighbourPrecision, SelfNeighbour, neighbour_precision};
pub use nmi::{normalized_mutual_information, normalized_mutual_information_of};
pub use purity::{purity, purity_of};
pub use retrieval::{RetrievalScores, relevant_ranks, retrieval_scores};
pub use rfd::{
    RFD_START_STEP, RelativeFittingDifficulty, TracePoint, mean_of_best,
    relative_fitting_difficulty,
};
pub use stratified_folds::stratified_folds;
pub use sts::{
    Aggregation, StsCorrelation, StsScores, StsSubset, TaskAverage, average_of_tasks,
    average_of_tasks_by, percent_rounded, sts_scores,
};
pub use summary::Summary;
pub use task_table::TaskTable;
pub use uniformity::{uniformity, uniformity_with};
