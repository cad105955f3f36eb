//! Ranking of a query's document above the other texts of the batch, in up to four directions.

use burn::config::Config;
use burn::tensor::Tensor;

use crate::coarse_cross_entropy::cross_entropy;
use crate::cosent::check_scale;
use crate::error::{LossError, check_not_empty, check_parameter, check_shape};
use crate::in_batch::{own_ids, own_mask};
use crate::log_sum_exp::log_sum_exp;
use crate::similarity::{NORM_EPS, l2_normalize, paired_dot};

/// How several directions are put together.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Partition {
    /// One softmax over the candidates of all directions.
    Joint,
    /// One softmax for each direction, the mean of their losses.
    PerDirection,
}

/// Which negatives of a query weigh more the more similar they are, and how strongly.
#[derive(Config, Debug, Copy, PartialEq)]
pub enum Hardness {
    /// None.
    None,
    /// Documents of other queries, their hard negatives among them. Finite and not negative.
    InBatch(f64),
    /// The query's own hard negatives. Finite and not negative.
    Hard(f64),
    /// Both. Finite and not negative.
    All(f64),
}

impl Hardness {
    fn strength(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::InBatch(strength) | Self::Hard(strength) | Self::All(strength) => strength,
        }
    }
}

/// Configuration of [`MultipleNegatives`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::MultipleNegativesConfig;
///
/// # fn main() -> Result<(), losses::LossError> {
/// let loss = MultipleNegativesConfig::new()
///     .with_query_to_query(true)
///     .with_document_to_query(true)
///     .with_document_to_document(true)
///     .init()?;
/// let queries = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &Device::flex());
/// let documents = queries.clone();
/// let value: f32 = loss.forward(queries, documents, &[])?.into_scalar();
/// // The pair itself counts in both directions between queries and documents.
/// assert!((value - 2f32.ln()).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, Copy, PartialEq)]
pub struct MultipleNegativesConfig {
    /// Factor of the cosines, 1 / temperature. Finite and greater than 0. Default: 20
    #[config(default = 20.0)]
    pub scale: f64,
    /// Whether other queries are candidates of a query. Default: no
    #[config(default = false)]
    pub query_to_query: bool,
    /// Whether queries are candidates of a document. Default: no
    #[config(default = false)]
    pub document_to_query: bool,
    /// Whether documents of other queries are candidates of a document. Default: no
    #[config(default = false)]
    pub document_to_document: bool,
    /// One softmax over all directions or one each. Default: one
    #[config(default = "Partition::Joint")]
    pub partition: Partition,
    /// Weighting of similar negatives. Default: none
    #[config(default = "Hardness::None")]
    pub hardness: Hardness,
}

impl MultipleNegativesConfig {
    /// Checks the parameters and builds the loss.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] for a scale that is not finite or not greater than 0 or a strength
    /// that is negative or not finite, [`LossError::Options`] for a direction that never meets the
    /// positive with a softmax of its own.
    pub fn init(&self) -> Result<MultipleNegatives, LossError> {
        check_scale(OP, self.scale)?;
        let strength = self.hardness.strength();
        let expected = "a finite number that is not negative";
        check_parameter(OP, "hardness", strength, expected, |s| s >= 0.0)?;
        let same_side = self.query_to_query || self.document_to_document;
        if self.partition == Partition::PerDirection && same_side {
            return Err(LossError::Options {
                op: OP,
                expected: "one softmax over all directions, or directions that meet the positive",
                found: "a softmax of its own among queries or among documents",
            });
        }
        Ok(MultipleNegatives { config: *self })
    }
}

/// In-batch ranking with directions and hardness (multiple negatives ranking).
///
/// # Mathematical Definition
///
/// With unit vectors `q_i` (queries), `d_i` (their documents) and `n_j` (hard negatives of any
/// query), the candidates of row `i` and their logits are
///
/// ```text
/// query to document     scale q_i . d_j and scale q_i . n_j, all j, plus the hardness
/// query to query        scale q_i . q_j,                  j != i
/// document to query     scale d_i . q_j,                  all j
/// document to document  scale d_i . d_j and scale d_i . n_j,  texts of query i left out
/// hardness              strength sg(q_i . d_j) for the negatives of its kind, sg: a constant
///
/// joint:          L_i = ln sum over all directions exp(logit) - scale q_i . d_i
/// per direction:  L_i = mean over directions of ln sum exp(logit) - scale q_i . d_i
/// L = mean_i L_i
/// ```
///
/// # Notes
///
/// - With the default directions this is [`InfoNce`](crate::InfoNce) with any number of hard
///   negatives per query.
/// - The pair `(q_i, d_i)` stands in both directions between queries and documents; jointly it is
///   counted twice, and the smallest loss is `ln 2`.
/// - All directions jointly are the improved contrast of GTE; both directions between queries and
///   documents with a softmax each are the symmetric loss.
/// - The hardness multiplies the term of a negative in the sum by `exp(strength cos)`; no gradient
///   flows through that factor. It is not multiplied by the scale.
///
/// # Source
///
/// `MultipleNegativesRankingLoss` of sentence-transformers 6.2; Li et al., "Towards General Text
/// Embeddings with Multi-stage Contrastive Learning" (arXiv 2308.03281), for the directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MultipleNegatives {
    config: MultipleNegativesConfig,
}

impl MultipleNegatives {
    /// The checked configuration.
    pub fn config(&self) -> &MultipleNegativesConfig {
        &self.config
    }

    /// Mean of [`MultipleNegatives::forward_per_item`] over the batch.
    ///
    /// # Shapes
    ///
    /// - `queries`, `documents`, every one of `hard_negatives`: `[batch, dim]`
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// As [`MultipleNegatives::forward_per_item`].
    pub fn forward(
        &self,
        queries: Tensor<2>,
        documents: Tensor<2>,
        hard_negatives: &[Tensor<2>],
    ) -> Result<Tensor<1>, LossError> {
        Ok(self
            .forward_per_item(queries, documents, hard_negatives)?
            .mean())
    }

    /// The loss of every query.
    ///
    /// # Shapes
    ///
    /// - `queries`, `documents`, every one of `hard_negatives`: `[batch, dim]`
    /// - output: `[batch]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if the inputs are empty or differ in shape.
    pub fn forward_per_item(
        &self,
        queries: Tensor<2>,
        documents: Tensor<2>,
        hard_negatives: &[Tensor<2>],
    ) -> Result<Tensor<1>, LossError> {
        let [batch, dim] = queries.dims();
        check_not_empty(OP, "queries", [batch, dim])?;
        check_shape(OP, "documents", &documents.dims(), &[batch, dim])?;
        for negatives in hard_negatives {
            check_shape(OP, "hard_negatives", &negatives.dims(), &[batch, dim])?;
        }
        let config = &self.config;
        let unit = |x: Tensor<2>| l2_normalize(x, NORM_EPS);
        let (queries, documents) = (unit(queries), unit(documents));
        let mut texts = vec![documents.clone()];
        texts.extend(hard_negatives.iter().cloned().map(unit));
        let blocks = texts.len();
        let texts = Tensor::cat(texts, 0); // [blocks * batch, dim]
        let cosines = |rows: &Tensor<2>, candidates: &Tensor<2>| {
            rows.clone().matmul(candidates.clone().transpose())
        };

        let to_documents = self.with_hardness(cosines(&queries, &texts), blocks);
        let mut logits = vec![to_documents];
        let mut add = |cosines: Tensor<2>| logits.push(cosines.mul_scalar(config.scale));
        if config.query_to_query {
            add(without_own(cosines(&queries, &queries), 1));
        }
        if config.document_to_query {
            add(cosines(&documents, &queries));
        }
        if config.document_to_document {
            add(without_own(cosines(&documents, &texts), blocks));
        }
        if config.partition == Partition::Joint || logits.len() == 1 {
            let ids = own_ids(batch, &queries.device());
            return Ok(cross_entropy(Tensor::cat(logits, 1), ids));
        }
        let positive = paired_dot(queries, documents).mul_scalar(config.scale);
        let share = 1.0 / logits.len() as f64;
        let log_sums = logits.into_iter().map(log_sum_exp);
        Ok(log_sums.fold(positive.neg(), |sum, log_sum| {
            sum + log_sum.mul_scalar(share)
        }))
    }

    /// Scaled logits of the direction from queries to documents, `[batch, blocks * batch]`.
    fn with_hardness(&self, cosines: Tensor<2>, blocks: usize) -> Tensor<2> {
        let logits = cosines.clone().mul_scalar(self.config.scale);
        let strength = self.config.hardness.strength();
        if strength == 0.0 {
            return logits;
        }
        let cosines = cosines.without_autodiff();
        let batch = cosines.dims()[0];
        let own = own_mask(batch, 0, batch, &cosines.device()).float();
        let other = own.ones_like() - own.clone();
        let none = own.zeros_like();
        let all = own.ones_like();
        let (positives, negatives) = match self.config.hardness {
            Hardness::Hard(_) => (none, own),
            Hardness::All(_) => (other, all),
            Hardness::InBatch(_) | Hardness::None => (other.clone(), other),
        };
        let chosen = std::iter::once(positives).chain((1..blocks).map(|_| negatives.clone()));
        let chosen = Tensor::cat(chosen.collect(), 1);
        logits + (cosines * chosen).mul_scalar(strength)
    }
}

const OP: &str = "multiple_negatives";

/// Leaves the text of row `i` out of every one of `blocks` blocks of candidates.
fn without_own(cosines: Tensor<2>, blocks: usize) -> Tensor<2> {
    let batch = cosines.dims()[0];
    let own = own_mask(batch, 0, batch, &cosines.device()).repeat_dim(1, blocks);
    cosines.mask_fill(own, f32::NEG_INFINITY)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    fn axes() -> Tensor<2> {
        Tensor::eye(2, &Device::flex())
    }

    fn value(config: MultipleNegativesConfig, hard: &[Tensor<2>]) -> f32 {
        let loss = config.with_scale(1.0).init().unwrap();
        loss.forward(axes(), axes(), hard).unwrap().into_scalar()
    }

    #[test]
    fn directions_by_hand() {
        // Every side is the pair of axes: cosine 1 with the own text, 0 with the other one.
        let e = std::f32::consts::E;
        let config = MultipleNegativesConfig::new();
        let joint = |sum: f32| sum.ln() - 1.0;
        let close = |got: f32, want: f32| approx::assert_abs_diff_eq!(got, want, epsilon = 1e-6);
        close(value(config, &[]), joint(e + 1.0));
        close(value(config.with_query_to_query(true), &[]), joint(e + 2.0));
        let both = config.with_document_to_query(true);
        close(value(both, &[]), joint(2.0 * (e + 1.0)));
        close(
            value(both.with_partition(Partition::PerDirection), &[]),
            joint(e + 1.0),
        );
        let documents = config.with_document_to_document(true);
        close(value(documents, &[]), joint(e + 2.0));
        // With the axes as hard negatives once more: e + 1 for the query, 1 for the document.
        close(value(config, &[axes()]), joint(2.0 * (e + 1.0)));
        close(value(documents, &[axes()]), joint(2.0 * (e + 1.0) + 2.0));
    }

    #[test]
    fn hardness_by_hand() {
        // Queries on the axes, documents at cosine 0.8 with their query and 0.6 with the other.
        let device = Device::flex();
        let documents = Tensor::<2>::from_floats([[0.8, 0.6], [0.6, 0.8]], &device);
        let run = |hardness| {
            let config = MultipleNegativesConfig::new().with_scale(1.0);
            let loss = config.with_hardness(hardness).init().unwrap();
            let hard = [documents.clone()];
            let value = loss.forward(axes(), documents.clone(), &hard).unwrap();
            value.into_scalar::<f32>()
        };
        let want = |positive_block: f32, own_hard: f32, other_hard: f32| {
            (0.8f32.exp() + positive_block + own_hard + other_hard).ln() - 0.8
        };
        let (near, far) = (0.8f32, 0.6f32);
        let (more_near, more_far) = ((3.0 * near).exp(), (3.0 * far).exp());
        for (hardness, want) in [
            (Hardness::None, want(far.exp(), near.exp(), far.exp())),
            (Hardness::InBatch(2.0), want(more_far, near.exp(), more_far)),
            (Hardness::Hard(2.0), want(far.exp(), more_near, far.exp())),
            (Hardness::All(2.0), want(more_far, more_near, more_far)),
        ] {
            approx::assert_abs_diff_eq!(run(hardness), want, epsilon = 1e-6);
        }
    }

    #[test]
    fn bad_parameters_and_inputs_are_refused() {
        let config = MultipleNegativesConfig::new();
        assert!(config.with_scale(0.0).init().is_err());
        for strength in [-1.0, f64::NAN] {
            assert!(
                config
                    .with_hardness(Hardness::All(strength))
                    .init()
                    .is_err()
            );
        }
        let each = config.with_partition(Partition::PerDirection);
        assert!(each.with_document_to_query(true).init().is_ok());
        for config in [
            each.with_query_to_query(true),
            each.with_document_to_document(true),
        ] {
            assert!(matches!(config.init(), Err(LossError::Options { .. })));
        }
        let loss = config.init().unwrap();
        let ones = |rows, columns| Tensor::<2>::ones([rows, columns], &Device::flex());
        assert!(loss.forward(ones(2, 3), ones(1, 3), &[]).is_err());
        assert!(loss.forward(ones(0, 3), ones(0, 3), &[]).is_err());
        assert!(
            loss.forward(ones(2, 3), ones(2, 3), &[ones(2, 3), ones(3, 3)])
                .is_err()
        );
    }
}
