//! InfoNCE with the other items of the batch as negatives, and optional hard negatives.

use burn::config::Config;
use burn::tensor::Tensor;

use crate::bank_info_nce::check_temperature;
use crate::error::{LossError, check_not_empty, check_parameter, check_shape};
use crate::in_batch::{
    self, Candidates, Own, candidate_cross_entropy, check_batch, chunked_cross_entropy, own_ids,
};
use crate::similarity::{NORM_EPS, l2_normalize};

/// Configuration of [`InfoNce`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::InfoNceConfig;
///
/// # fn main() -> Result<(), losses::LossError> {
/// let loss = InfoNceConfig::new().with_temperature(0.05).init()?;
/// let anchors = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &Device::flex());
/// let positives = anchors.clone();
/// let value: f32 = loss.forward(anchors, positives, None)?.into_scalar();
/// assert!(value < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, Copy, PartialEq)]
pub struct InfoNceConfig {
    /// Temperature tau that divides the cosine similarities. Finite and greater than 0.
    /// Default: 0.05
    #[config(default = 0.05)]
    pub temperature: f64,
    /// Added to the logit of an anchor's own hard negative; its term in the sum is multiplied by
    /// the exponential of this. Finite. Default: 0
    #[config(default = 0.0)]
    pub hard_negative_weight: f64,
    /// Whether the positives also choose among the anchors; the loss is the mean of both directions.
    /// Default: no
    #[config(default = false)]
    pub symmetric: bool,
    /// Whether the rows of the own side are negatives as well: other anchors for an anchor, other
    /// positives for a positive. Default: no
    #[config(default = false)]
    pub include_anchors: bool,
    /// Candidates that [`InfoNce::forward`] looks at at a time, at least 1; `None` for all of them
    /// at once. Default: all
    #[config(default = "None")]
    pub chunk: Option<usize>,
}

impl InfoNceConfig {
    /// Sets [`InfoNceConfig::hard_negative_weight`] from the factor `alpha` that multiplies the term
    /// of an anchor's own hard negative: the weight is `ln alpha`. An `alpha` that is not greater
    /// than 0 is refused by `init`.
    pub fn with_hard_negative_alpha(self, alpha: f64) -> Self {
        self.with_hard_negative_weight(alpha.ln())
    }

    /// Checks the parameters and builds the loss.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] if the temperature is not finite or not greater than 0, the weight
    /// is not finite, or the chunk is 0.
    pub fn init(&self) -> Result<InfoNce, LossError> {
        check_temperature(OP, self.temperature)?;
        check_parameter(
            OP,
            "hard_negative_weight",
            self.hard_negative_weight,
            "a finite number",
            |_| true,
        )?;
        if let Some(chunk) = self.chunk {
            check_parameter(OP, "chunk", chunk as f64, "at least 1", |v| v >= 1.0)?;
        }
        Ok(InfoNce { config: *self })
    }
}

/// In-batch InfoNCE with cosine similarity (SimCSE).
///
/// # Mathematical Definition
///
/// With unit vectors `a_i` (anchors), `p_j` (positives), `n_j` (hard negatives) and the weight `b`:
///
/// ```text
/// L_i = ln ( sum_j exp(a_i . p_j / tau) + sum_j exp(a_i . n_j / tau + b [i = j]) ) - a_i . p_i / tau
/// L   = mean_i L_i
/// ```
///
/// Without hard negatives the second sum is missing. `include_anchors` adds
/// `sum_{j != i} exp(a_i . a_j / tau)` to the sums. `symmetric` takes the mean with the same loss
/// after anchors and positives have changed places; hard negatives belong to the anchors and stay
/// with the first direction.
///
/// # Notes
///
/// - For a batch of one without hard negatives the loss is 0, and so is its gradient: nothing is
///   learned. A trainer refuses such batches with [`InfoNce::check_batch`].
/// - As tau goes to infinity `L_i` tends to the logarithm of the number of candidates.
/// - Unlike [`BankInfoNce`](crate::BankInfoNce), gradients flow into all inputs.
/// - Anchors have `N - 1` in-batch negatives; with `include_anchors` `2 (N - 1)`, and together with
///   `symmetric` this is the NT-Xent loss of SimCLR.
/// - A `chunk` bounds the memory of [`InfoNce::forward`], backward pass included, by
///   `O(batch (dim + chunk))`: blocks of logits are formed twice and never kept. Without it the
///   logits are kept, `[batch, candidates]`, on flex once and elsewhere a few times. It costs one
///   more matrix product (four in place of three) and pays where the logits are larger than the
///   embeddings, `candidates > dim` by far.
///
/// # Source
///
/// Gao, Yao, Chen, "SimCSE: Simple Contrastive Learning of Sentence Embeddings", equations 1 and 5;
/// blocks with recomputation: Cheng et al., "Breaking the Memory Barrier: Near Infinite Batch Size
/// Scaling for Contrastive Loss" (arXiv 2410.17243).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InfoNce {
    config: InfoNceConfig,
}

/// The rows that choose, and what they choose from; the first set holds the positives.
type Direction = (Tensor<2>, Vec<Candidates>);

impl InfoNce {
    /// The checked configuration.
    pub fn config(&self) -> &InfoNceConfig {
        &self.config
    }

    /// Refuses a batch from which nothing can be learned: one row alone has no negative unless it
    /// brings a hard one.
    ///
    /// For a trainer, which knows that such a batch is a mistake; the loss itself is defined for it.
    ///
    /// # Errors
    ///
    /// [`LossError::Count`] for fewer than 2 rows, with hard negatives for none.
    pub fn check_batch(rows: usize, has_negatives: bool) -> Result<(), LossError> {
        check_batch(OP, rows, has_negatives)
    }

    /// Mean of [`InfoNce::forward_per_item`] over the batch.
    ///
    /// # Shapes
    ///
    /// - `anchors`, `positives`, `hard_negatives`: `[batch, dim]`
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// As [`InfoNce::logits`].
    pub fn forward(
        &self,
        anchors: Tensor<2>,
        positives: Tensor<2>,
        hard_negatives: Option<Tensor<2>>,
    ) -> Result<Tensor<1>, LossError> {
        let Some(chunk) = self.config.chunk else {
            return Ok(self
                .forward_per_item(anchors, positives, hard_negatives)?
                .mean());
        };
        let temperature = self.config.temperature;
        self.mean_of_directions(anchors, positives, hard_negatives, |(rows, sets)| {
            chunked_cross_entropy(rows, &sets, temperature, chunk)
        })
    }

    /// The loss of every anchor, with `symmetric` the mean of the losses of anchor and positive.
    /// Always in one piece: a chunk does not apply.
    ///
    /// # Shapes
    ///
    /// - `anchors`, `positives`, `hard_negatives`: `[batch, dim]`
    /// - output: `[batch]`
    ///
    /// # Errors
    ///
    /// As [`InfoNce::logits`].
    pub fn forward_per_item(
        &self,
        anchors: Tensor<2>,
        positives: Tensor<2>,
        hard_negatives: Option<Tensor<2>>,
    ) -> Result<Tensor<1>, LossError> {
        let temperature = self.config.temperature;
        self.mean_of_directions(anchors, positives, hard_negatives, |(rows, sets)| {
            candidate_cross_entropy(rows, sets, temperature)
        })
    }

    /// Share of anchors whose own positive has the largest logit, a number in 0..1 without
    /// gradient.
    ///
    /// # Shapes
    ///
    /// - `anchors`, `positives`, `hard_negatives`: `[batch, dim]`
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// As [`InfoNce::logits`].
    pub fn accuracy(
        &self,
        anchors: Tensor<2>,
        positives: Tensor<2>,
        hard_negatives: Option<Tensor<2>>,
    ) -> Result<Tensor<1>, LossError> {
        let logits = self
            .logits(anchors, positives, hard_negatives)?
            .without_autodiff();
        let labels = own_ids(logits.dims()[0], &logits.device());
        let best = logits.argmax(1).squeeze_dim::<1>(1); // [batch]
        Ok(best.equal(labels).float().mean())
    }

    /// Similarities over temperature of the direction from the anchors; the positive of anchor `i`
    /// stands in column `i`.
    ///
    /// # Shapes
    ///
    /// - `anchors`, `positives`, `hard_negatives`: `[batch, dim]`
    /// - output: `[batch, batch]`, with hard negatives `batch` columns more, with `include_anchors`
    ///   another `batch` columns, negative infinity where an anchor meets itself
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if the inputs are empty or differ in shape.
    pub fn logits(
        &self,
        anchors: Tensor<2>,
        positives: Tensor<2>,
        hard_negatives: Option<Tensor<2>>,
    ) -> Result<Tensor<2>, LossError> {
        check_inputs(&anchors, &positives, hard_negatives.as_ref())?;
        let (anchors, sets) = self.forth(unit(anchors), unit(positives), hard_negatives.map(unit));
        Ok(in_batch::logits(&anchors, &sets, self.config.temperature))
    }

    /// `loss` of the direction from the anchors, or its mean with the one from the positives.
    fn mean_of_directions(
        &self,
        anchors: Tensor<2>,
        positives: Tensor<2>,
        hard_negatives: Option<Tensor<2>>,
        loss: impl Fn(Direction) -> Tensor<1>,
    ) -> Result<Tensor<1>, LossError> {
        check_inputs(&anchors, &positives, hard_negatives.as_ref())?;
        let (anchors, positives) = (unit(anchors), unit(positives));
        let negatives = hard_negatives.map(unit);
        if !self.config.symmetric {
            return Ok(loss(self.forth(anchors, positives, negatives)));
        }
        let forth = loss(self.forth(anchors.clone(), positives.clone(), negatives));
        let back = loss(self.forth(positives, anchors, None));
        Ok((forth + back).div_scalar(2.0))
    }

    /// The direction from `anchors`; all rows are unit rows.
    fn forth(
        &self,
        anchors: Tensor<2>,
        positives: Tensor<2>,
        hard_negatives: Option<Tensor<2>>,
    ) -> Direction {
        let mut sets = vec![Candidates::all(positives)];
        if let Some(rows) = hard_negatives {
            let own = match self.config.hard_negative_weight {
                0.0 => Own::Candidate,
                weight => Own::Shifted(weight),
            };
            sets.push(Candidates { rows, own });
        }
        if self.config.include_anchors {
            sets.push(Candidates {
                rows: anchors.clone(),
                own: Own::LeftOut,
            });
        }
        (anchors, sets)
    }
}

const OP: &str = "info_nce";

fn unit(x: Tensor<2>) -> Tensor<2> {
    l2_normalize(x, NORM_EPS)
}

/// Refuses inputs that are empty or differ in shape.
fn check_inputs(
    anchors: &Tensor<2>,
    positives: &Tensor<2>,
    hard_negatives: Option<&Tensor<2>>,
) -> Result<(), LossError> {
    let [batch, dim] = anchors.dims();
    check_not_empty(OP, "anchors", [batch, dim])?;
    check_shape(OP, "positives", &positives.dims(), &[batch, dim])?;
    match hard_negatives {
        Some(negatives) => check_shape(OP, "hard_negatives", &negatives.dims(), &[batch, dim]),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn orthogonal_batch_by_hand() {
        // z = identity: ln(e + 1) - 1 = 0.313262. With the positives as hard negatives and weight
        // ln 2 on the own one: ln(e + 1 + 2e + 1) - 1 = ln(3e + 2) - 1.
        let device = Device::flex();
        let x = Tensor::<2>::from_floats([[2.0, 0.0], [0.0, 5.0]], &device);
        let config = InfoNceConfig::new().with_temperature(1.0);
        let loss = config.init().unwrap();
        let value: f32 = loss
            .forward(x.clone(), x.clone(), None)
            .unwrap()
            .into_scalar();
        approx::assert_abs_diff_eq!(value, 0.313_261_7, epsilon = 1e-6);
        let loss = config.with_hard_negative_alpha(2.0).init().unwrap();
        let value: f32 = loss
            .forward(x.clone(), x.clone(), Some(x))
            .unwrap()
            .into_scalar();
        let want = (3.0 * std::f32::consts::E + 2.0).ln() - 1.0;
        approx::assert_abs_diff_eq!(value, want, epsilon = 1e-6);
    }

    #[test]
    fn accuracy_counts_anchors_that_find_their_positive() {
        let device = Device::flex();
        let anchors = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], &device);
        let positives = Tensor::<2>::from_floats([[1.0, 0.1], [0.9, 0.1], [1.0, 1.0]], &device);
        let loss = InfoNceConfig::new().init().unwrap();
        let accuracy: f32 = loss
            .accuracy(anchors, positives, None)
            .unwrap()
            .into_scalar();
        approx::assert_abs_diff_eq!(accuracy, 2.0 / 3.0, epsilon = 1e-6);
    }

    #[test]
    fn one_item_without_negatives_costs_nothing() {
        let x = Tensor::<2>::from_floats([[0.3, 0.4]], &Device::flex());
        let loss = InfoNceConfig::new().init().unwrap();
        let value: f32 = loss.forward(x.clone(), x, None).unwrap().into_scalar();
        assert_eq!(value, 0.0);
    }

    #[test]
    fn bad_parameters_and_shapes_are_refused() {
        assert!(InfoNceConfig::new().with_temperature(0.0).init().is_err());
        let weight = InfoNceConfig::new().with_hard_negative_weight(f64::NAN);
        assert!(weight.init().is_err());
        for alpha in [0.0, -1.0, f64::INFINITY] {
            let config = InfoNceConfig::new().with_hard_negative_alpha(alpha);
            assert!(config.init().is_err(), "{alpha}");
        }
        let device = Device::flex();
        let ones = |rows, columns| Tensor::<2>::ones([rows, columns], &device);
        let loss = InfoNceConfig::new().init().unwrap();
        assert!(loss.forward(ones(2, 3), ones(3, 3), None).is_err());
        assert!(
            loss.forward(ones(2, 3), ones(2, 3), Some(ones(2, 2)))
                .is_err()
        );
        assert!(loss.forward(ones(0, 3), ones(0, 3), None).is_err());
    }

    #[test]
    fn both_directions_and_both_sides_by_hand() {
        // Unit vectors: a0 = p0 = (1, 0), a1 = (0, 1), p1 = (-1, 0), temperature 1.
        // a0: ln(e + e^-1) - 1, a1: ln(1 + 1) - 0; p0: ln(e + 1) - 1, p1: ln(e^-1 + 1) - 0.
        let device = Device::flex();
        let anchors = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
        let positives = Tensor::<2>::from_floats([[1.0, 0.0], [-1.0, 0.0]], &device);
        let config = InfoNceConfig::new().with_temperature(1.0);
        let items = |config: InfoNceConfig| {
            let loss = config.init().unwrap();
            let items = loss.forward_per_item(anchors.clone(), positives.clone(), None);
            items.unwrap().try_to_vec_as::<f32>().unwrap()
        };
        let e = std::f32::consts::E;
        let forth = [(e + 1.0 / e).ln() - 1.0, 2f32.ln()];
        let back = [(e + 1.0).ln() - 1.0, (1.0 / e + 1.0).ln()];
        let got = items(config.with_symmetric(true));
        for i in 0..2 {
            approx::assert_abs_diff_eq!(got[i], (forth[i] + back[i]) / 2.0, epsilon = 1e-6);
        }
        // The other anchor has cosine 0 for both: one more term of 1.
        let got = items(config.with_include_anchors(true));
        approx::assert_abs_diff_eq!(got[0], (e + 1.0 / e + 1.0).ln() - 1.0, epsilon = 1e-6);
        approx::assert_abs_diff_eq!(got[1], 3f32.ln(), epsilon = 1e-6);
    }

    #[test]
    fn a_trainer_can_refuse_a_batch_without_negatives() {
        assert!(InfoNce::check_batch(2, false).is_ok());
        assert!(InfoNce::check_batch(1, true).is_ok());
        assert!(InfoNce::check_batch(0, true).is_err());
        let message = InfoNce::check_batch(1, false).unwrap_err().to_string();
        assert!(
            message.starts_with("info_nce: rows of the batch: found 1, expected at least 2"),
            "{message}"
        );
    }

    #[test]
    fn a_chunk_of_nothing_is_refused() {
        let error = InfoNceConfig::new().with_chunk(Some(0)).init().unwrap_err();
        assert!(matches!(error, LossError::Parameter { name: "chunk", .. }));
    }
}
