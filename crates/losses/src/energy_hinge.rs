//! Hinge between the positive and the most similar negative.

use burn::config::Config;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use crate::error::{LossError, check_not_empty, check_parameter, check_shape};
use crate::in_batch::{check_batch, own_mask};
use crate::similarity::{NORM_EPS, l2_normalize, paired_dot};

/// Configuration of [`EnergyHinge`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::EnergyHingeConfig;
///
/// # fn main() -> Result<(), losses::LossError> {
/// let loss = EnergyHingeConfig::new().init()?;
/// let anchors = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &Device::flex());
/// let positives = anchors.clone();
/// // The only negative of an anchor has cosine 0, further below 1 than the margin.
/// let value: f32 = loss.forward(anchors, positives, None)?.into_scalar();
/// assert_eq!(value, 0.0);
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, Copy, PartialEq)]
pub struct EnergyHingeConfig {
    /// Margin between the cosines. Finite and not negative. Default: 0.2
    #[config(default = 0.2)]
    pub margin: f64,
    /// Factor of the loss. Finite and not negative. Default: 10
    #[config(default = 10.0)]
    pub weight: f64,
}

impl EnergyHingeConfig {
    /// Checks the parameters and builds the loss.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] if margin or weight is negative or not finite.
    pub fn init(&self) -> Result<EnergyHinge, LossError> {
        let expected = "a finite number that is not negative";
        check_parameter(OP, "margin", self.margin, expected, |m| m >= 0.0)?;
        check_parameter(OP, "weight", self.weight, expected, |w| w >= 0.0)?;
        Ok(EnergyHinge { config: *self })
    }
}

/// Energy-based hinge (PromCSE): the positive shall be more similar than the most similar negative
/// by a margin.
///
/// # Mathematical Definition
///
/// With unit vectors `a_i` (anchors), `p_j` (positives) and `n_j` (hard negatives):
///
/// ```text
/// h_i = max( max_{j != i} a_i . p_j ,  max_j a_i . n_j )
/// L_i = weight max(0, margin + h_i - a_i . p_i),   L = mean_i L_i
/// ```
///
/// Without hard negatives the second maximum is missing.
///
/// # Notes
///
/// - Added to [`InfoNce`](crate::InfoNce), whose softmax hardly feels a negative that is already
///   below the positive.
/// - The gradient reaches one negative of an anchor, the most similar one.
///
/// # Source
///
/// Jiang, Zhang, Wang, "Improved Universal Sentence Embeddings with Prompt-based Contrastive Learning
/// and Energy-based Learning" (arXiv 2203.06875), and the margin ranking loss of its released code.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EnergyHinge {
    config: EnergyHingeConfig,
}

impl EnergyHinge {
    /// The checked configuration.
    pub fn config(&self) -> &EnergyHingeConfig {
        &self.config
    }

    /// Mean of [`EnergyHinge::forward_per_item`] over the batch.
    ///
    /// # Shapes
    ///
    /// - `anchors`, `positives`, `hard_negatives`: `[batch, dim]`
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// As [`EnergyHinge::forward_per_item`].
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
    /// [`LossError::Shape`] if the inputs are empty or differ in shape, [`LossError::Count`] for a
    /// batch of one without hard negatives, which has no negative.
    pub fn forward_per_item(
        &self,
        anchors: Tensor<2>,
        positives: Tensor<2>,
        hard_negatives: Option<Tensor<2>>,
    ) -> Result<Tensor<1>, LossError> {
        let [batch, dim] = anchors.dims();
        check_not_empty(OP, "anchors", [batch, dim])?;
        check_shape(OP, "positives", &positives.dims(), &[batch, dim])?;
        if let Some(negatives) = &hard_negatives {
            check_shape(OP, "hard_negatives", &negatives.dims(), &[batch, dim])?;
        }
        check_batch(OP, batch, hard_negatives.is_some())?;
        let unit = |x: Tensor<2>| l2_normalize(x, NORM_EPS);
        let (anchors, positives) = (unit(anchors), unit(positives));
        let cosines = anchors.clone().matmul(positives.clone().transpose());
        let own = own_mask(batch, 0, batch, &cosines.device());
        let mut negatives = cosines.mask_fill(own, f32::NEG_INFINITY);
        if let Some(hard) = hard_negatives {
            let hard = anchors.clone().matmul(unit(hard).transpose());
            negatives = Tensor::cat(vec![negatives, hard], 1);
        }
        let hardest = negatives.max_dim(1).squeeze_dim::<1>(1); // [batch]
        let gap = hardest - paired_dot(anchors, positives);
        let hinge = relu(gap.add_scalar(self.config.margin));
        Ok(hinge.mul_scalar(self.config.weight))
    }
}

const OP: &str = "energy_hinge";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    fn rows(rows: &[[f32; 2]]) -> Tensor<2> {
        let flat: Vec<f32> = rows.iter().flatten().copied().collect();
        let data = burn::tensor::TensorData::new(flat, [rows.len(), 2]);
        Tensor::from_data(data, &Device::flex())
    }

    #[test]
    fn the_most_similar_negative_counts() {
        // Positives at cosine 0.8 and 1, in-batch negatives at 0 and 0.6, hard ones at 0.6 and 0.8
        // (anchor 0) and 0.8 and 0.6 (anchor 1).
        let anchors = rows(&[[1.0, 0.0], [0.0, 1.0]]);
        let positives = rows(&[[0.8, 0.6], [0.0, 1.0]]);
        let hard = rows(&[[0.6, 0.8], [0.8, 0.6]]);
        let loss = EnergyHingeConfig::new().with_margin(0.5).init().unwrap();
        for (hard, want) in [(None, [0.0, 1.0]), (Some(hard), [5.0, 3.0])] {
            let items = loss.forward_per_item(anchors.clone(), positives.clone(), hard);
            let items = items.unwrap().try_to_vec_as::<f32>().unwrap();
            for (got, want) in items.iter().zip(want) {
                approx::assert_abs_diff_eq!(*got, want, epsilon = 1e-5);
            }
        }
    }

    #[test]
    fn bad_parameters_and_inputs_are_refused() {
        assert!(EnergyHingeConfig::new().with_margin(-0.1).init().is_err());
        assert!(
            EnergyHingeConfig::new()
                .with_weight(f64::NAN)
                .init()
                .is_err()
        );
        let loss = EnergyHingeConfig::new().init().unwrap();
        let one = rows(&[[1.0, 0.0]]);
        let two = rows(&[[1.0, 0.0], [0.0, 1.0]]);
        let error = loss.forward(one.clone(), one.clone(), None).unwrap_err();
        assert!(
            matches!(
                error,
                LossError::Count {
                    op: "energy_hinge",
                    found: 1,
                    ..
                }
            ),
            "{error}"
        );
        assert!(
            loss.forward(one.clone(), one.clone(), Some(one.clone()))
                .is_ok()
        );
        assert!(loss.forward(two.clone(), one.clone(), None).is_err());
        assert!(loss.forward(two.clone(), two.clone(), Some(one)).is_err());
    }
}
