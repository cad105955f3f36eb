//! Training objectives of category discovery and sentence representation learning, one file each.
//!
//! Every objective is a function of tensors: embeddings, the contents of a memory bank and
//! [`NeighbourTargets`] in, a scalar or one number per item out. Nothing here knows about texts,
//! encoders, queues or optimisers.
//!
//! Over a memory bank:
//!
//! | objective | file | inputs | gradient to |
//! |---|---|---|---|
//! | [`BankInfoNce`] (DOWN) | `bank_info_nce.rs` | queries, bank, targets | queries, bank |
//! | [`Dna`] | `dna.rs` | queries, bank, targets | queries, bank |
//! | [`Star`] | `star.rs` | queries, bank, targets | queries, bank, heads, base |
//!
//! Over a batch of positive pairs:
//!
//! | objective | file | inputs | gradient to |
//! |---|---|---|---|
//! | [`InfoNce`] (SimCSE) | `info_nce.rs` | anchors, positives, hard negatives | all inputs |
//! | [`MultipleNegatives`] | `multiple_negatives.rs` | queries, documents, hard negatives | all inputs |
//! | [`Gist`] | `gist.rs` | columns of model and guide | columns of the model |
//! | [`EnergyHinge`] (PromCSE) | `energy_hinge.rs` | anchors, positives, hard negatives | all inputs |
//! | [`HierarchicalTriplet`] | `hierarchical_triplet.rs` | anchors, levels | all inputs |
//! | [`Ngcse`] | `ngcse.rs` | ordinary and generated rows | all inputs |
//! | [`Alignment`], [`Uniformity`] | `alignment.rs`, `uniformity.rs` | pairs, rows | all inputs |
//!
//! Over pairs with graded labels:
//!
//! | objective | file | inputs | gradient to |
//! |---|---|---|---|
//! | [`TranslatedRelu`], [`SmoothK2`], [`L1`], [`Mse`] | `translated_relu.rs`, `smooth_k2.rs`, `l1.rs`, `mse.rs` | scores, labels | scores |
//! | [`Cosent`], [`Angle`] | `cosent.rs`, `angle.rs` | pairs, labels | pairs |
//!
//! The others:
//!
//! | objective | file | inputs | gradient to |
//! |---|---|---|---|
//! | [`CoarseCrossEntropy`] | `coarse_cross_entropy.rs` | logits, labels | logits |
//! | [`MaskedLm`] | `masked_lm.rs` | logits of selected positions, labels | logits |
//! | [`EmbeddingDistillation`], [`RankingDistillation`] | `distillation.rs` | student, teacher | student |
//! | [`Matryoshka`] | `matryoshka.rs` | embeddings and another loss | embeddings |
//!
//! Building blocks: [`SiameseHead`] (scores and logits of pairs), [`symmetric_gaussian_kl`] with
//! [`GaussianHeads`], [`symmetric_softmax_kl`], [`log_sum_exp`], [`l2_normalize`], [`cosine_scores`],
//! [`paired_cosine`].
//!
//! A neighbour policy (who is a neighbour, with what weight) and an objective over a bank compose
//! freely: any [`NeighbourTargets`] goes into any of them. A bank or targets without autodiff may be
//! combined with queries that have it; they count as constants.
//!
//! Configurations are checked once, by `init`; inputs are checked by every forward. Both report a
//! [`LossError`] and never panic on shapes or values that a caller can produce.

mod alignment;
mod angle;
mod bank_info_nce;
mod coarse_cross_entropy;
mod cosent;
mod distillation;
mod dna;
mod energy_hinge;
mod error;
mod gaussian_kl;
mod gist;
mod hierarchical_triplet;
mod in_batch;
mod info_nce;
mod known_gradient;
mod l1;
mod left_clamp;
mod log_sum_exp;
mod masked_lm;
mod matryoshka;
mod mse;
mod multiple_negatives;
mod neighbour_targets;
mod ngcse;
mod siamese_head;
mod similarity;
mod smooth_k2;
mod softmax_kl;
mod star;
mod translated_relu;
mod uniformity;

pub use alignment::{Alignment, AlignmentConfig};
pub use angle::{Angle, AngleConfig};
pub use bank_info_nce::{BankInfoNce, BankInfoNceConfig};
pub use coarse_cross_entropy::CoarseCrossEntropy;
pub use cosent::{Cosent, CosentConfig};
pub use distillation::{
    EmbeddingDistance, EmbeddingDistillation, EmbeddingDistillationConfig, RankingDistillation,
    RankingDistillationConfig, RankingObjective,
};
pub use dna::{Dna, DnaConfig};
pub use energy_hinge::{EnergyHinge, EnergyHingeConfig};
pub use error::LossError;
pub use gaussian_kl::{DiagonalGaussian, GaussianHeads, symmetric_gaussian_kl};
pub use gist::{Gist, GistColumns, GistConfig, GistMargin};
pub use hierarchical_triplet::{HierarchicalTriplet, HierarchicalTripletConfig, LevelReduction};
pub use info_nce::{InfoNce, InfoNceConfig};
pub use l1::{L1, L1Config};
pub use left_clamp::LeftClamp;
pub use log_sum_exp::log_sum_exp;
pub use masked_lm::{MaskedLm, NOT_SELECTED};
pub use matryoshka::{Matryoshka, MatryoshkaConfig};
pub use mse::{Mse, MseConfig};
pub use multiple_negatives::{Hardness, MultipleNegatives, MultipleNegativesConfig, Partition};
pub use neighbour_targets::{NeighbourTargets, WeightNormalization};
pub use ngcse::{GeneratedPositive, GeneratedRows, Ngcse, NgcseConfig, NgcseOutput, OrdinaryRows};
pub use siamese_head::{SiameseHead, SiameseHeadConfig};
pub use similarity::{InputNormalization, NORM_EPS, cosine_scores, l2_normalize, paired_cosine};
pub use smooth_k2::{SmoothK2, SmoothK2Config};
pub use softmax_kl::{KlForm, symmetric_softmax_kl};
pub use star::{BaseParameterization, Divergence, Star, StarConfig, StarOutput};
pub use translated_relu::{TranslatedRelu, TranslatedReluConfig};
pub use uniformity::{Uniformity, UniformityConfig};
