//! Training objectives of category discovery and sentence representation learning, one file each.
//!
//! Every objective is a function of tensors: embeddings, the contents of a memory bank and
//! [`NeighbourTargets`] in, a scalar or one number per item out. Nothing here knows about texts,
//! encoders, queues or optimisers.
//!
//! | objective | file | inputs | gradient to |
//! |---|---|---|---|
//! | [`BankInfoNce`] (DOWN) | `bank_info_nce.rs` | queries, bank, targets | queries, bank |
//! | [`Dna`] | `dna.rs` | queries, bank, targets | queries, bank |
//! | [`Star`] | `star.rs` | queries, bank, targets | queries, bank, heads, base |
//! | [`InfoNce`] | `info_nce.rs` | anchors, positives, hard negatives | all inputs |
//! | [`CoarseCrossEntropy`] | `coarse_cross_entropy.rs` | logits, labels | logits |
//! | [`MaskedLm`] | `masked_lm.rs` | logits of selected positions, labels | logits |
//!
//! Building blocks: [`symmetric_gaussian_kl`] with [`GaussianHeads`], [`symmetric_softmax_kl`],
//! [`log_sum_exp`], [`l2_normalize`], [`cosine_scores`].
//!
//! A neighbour policy (who is a neighbour, with what weight) and an objective over a bank compose
//! freely: any [`NeighbourTargets`] goes into any of them. A bank or targets without autodiff may be
//! combined with queries that have it; they count as constants.
//!
//! Configurations are checked once, by `init`; inputs are checked by every forward. Both report a
//! [`LossError`] and never panic on shapes or values that a caller can produce.

mod bank_info_nce;
mod coarse_cross_entropy;
mod dna;
mod error;
mod gaussian_kl;
mod info_nce;
mod log_sum_exp;
mod masked_lm;
mod neighbour_targets;
mod similarity;
mod softmax_kl;
mod star;

pub use bank_info_nce::{BankInfoNce, BankInfoNceConfig};
pub use coarse_cross_entropy::CoarseCrossEntropy;
pub use dna::{Dna, DnaConfig};
pub use error::LossError;
pub use gaussian_kl::{DiagonalGaussian, GaussianHeads, symmetric_gaussian_kl};
pub use info_nce::{InfoNce, InfoNceConfig};
pub use log_sum_exp::log_sum_exp;
pub use masked_lm::{MaskedLm, NOT_SELECTED};
pub use neighbour_targets::{NeighbourTargets, WeightNormalization};
pub use similarity::{InputNormalization, NORM_EPS, cosine_scores, l2_normalize};
pub use softmax_kl::{KlForm, symmetric_softmax_kl};
pub use star::{BaseParameterization, Divergence, Star, StarConfig, StarOutput};
