//! InfoNCE with the other items of the batch as negatives, and optional hard negatives.

use burn::config::Config;
use burn::tensor::{Int, Tensor};

use crate::bank_info_nce::{bank_cross_entropy, check_temperature, scaled_scores};
use crate::coarse_cross_entropy::cross_entropy;
use crate::error::{LossError, check_not_empty, check_parameter, check_shape};
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
}

impl InfoNceConfig {
    /// Checks the parameters and builds the loss.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] if the temperature is not finite or not greater than 0, or the
    /// weight is not finite.
    pub fn init(&self) -> Result<InfoNce, LossError> {
        check_temperature(OP, self.temperature)?;
        check_parameter(
            OP,
            "hard_negative_weight",
            self.hard_negative_weight,
            "a finite number",
            |_| true,
        )?;
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
/// Without hard negatives the second sum is missing.
///
/// # Notes
///
/// - For a batch of one without hard negatives the loss is 0.
/// - As tau goes to infinity `L_i` tends to the logarithm of the number of candidates.
/// - Unlike [`BankInfoNce`](crate::BankInfoNce), gradients flow into all inputs.
///
/// # Source
///
/// Gao, Yao, Chen, "SimCSE: Simple Contrastive Learning of Sentence Embeddings", equations 1 and 5.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InfoNce {
    config: InfoNceConfig,
}

impl InfoNce {
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
        Ok(self
            .forward_per_item(anchors, positives, hard_negatives)?
            .mean())
    }

    /// The loss of every anchor.
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
        if self.config.hard_negative_weight != 0.0 && hard_negatives.is_some() {
            let logits = self.logits(anchors, positives, hard_negatives)?;
            let labels = diagonal(&logits);
            return Ok(cross_entropy(logits, labels));
        }
        // Without a shift of single logits, the candidates are a bank whose row `i` is the only
        // neighbour of anchor `i`: no matrix of logits is kept twice.
        check_inputs(&anchors, &positives, hard_negatives.as_ref())?;
        let candidates = match hard_negatives {
            Some(negatives) => Tensor::cat(vec![positives, negatives], 0),
            None => positives,
        };
        let [batch, _] = anchors.dims();
        let ids = diagonal(&anchors).reshape([batch, 1]);
        let weights = Tensor::ones([batch, 1], &anchors.device());
        Ok(bank_cross_entropy(
            l2_normalize(anchors, NORM_EPS),
            l2_normalize(candidates, NORM_EPS),
            ids,
            weights,
            self.config.temperature,
        ))
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
        let labels = diagonal(&logits);
        let best = logits.argmax(1).squeeze_dim::<1>(1); // [batch]
        Ok(best.equal(labels).float().mean())
    }

    /// Similarities over temperature; the positive of anchor `i` stands in column `i`.
    ///
    /// # Shapes
    ///
    /// - `anchors`, `positives`, `hard_negatives`: `[batch, dim]`
    /// - output: `[batch, batch]`, with hard negatives `[batch, 2 * batch]`
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
        let [batch, _] = anchors.dims();
        let temperature = self.config.temperature;
        let anchors = l2_normalize(anchors, NORM_EPS);
        let scores =
            |others| scaled_scores(anchors.clone(), l2_normalize(others, NORM_EPS), temperature);
        let logits = scores(positives); // [batch, batch]
        let Some(negatives) = hard_negatives else {
            return Ok(logits);
        };
        let negatives = scores(negatives); // [batch, batch]
        let weight = self.config.hard_negative_weight;
        let negatives = if weight == 0.0 {
            negatives
        } else {
            let own = Tensor::<2>::eye(batch, &negatives.device()).mul_scalar(weight);
            negatives + own
        };
        Ok(Tensor::cat(vec![logits, negatives], 1))
    }
}

const OP: &str = "info_nce";

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

/// `0, 1, ..., batch - 1`, `[batch]`.
fn diagonal(x: &Tensor<2>) -> Tensor<1, Int> {
    let [batch, _] = x.dims();
    let end = i64::try_from(batch).unwrap_or(i64::MAX);
    Tensor::arange(0..end, &x.device())
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
        let loss = config.with_hard_negative_weight(2f64.ln()).init().unwrap();
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
}
