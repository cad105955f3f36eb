//! Squared difference between score and label.

use burn::config::Config;
use burn::tensor::Tensor;

use crate::error::LossError;
use crate::left_clamp::LeftClamp;

/// Configuration of [`Mse`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::MseConfig;
///
/// # fn main() -> Result<(), losses::LossError> {
/// let loss = MseConfig::new().init()?;
/// let scores = Tensor::<1>::from_floats([0.0, 2.25], &Device::flex());
/// let labels = Tensor::<1>::from_floats([0.0, 1.0], &Device::flex());
/// let value: f32 = loss.forward(scores, labels)?.into_scalar();
/// assert!((value - 0.78125).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, Copy, PartialEq)]
pub struct MseConfig {
    /// Treatment of scores left of the smallest label. Default: set to 0 in every row
    #[config(default = "LeftClamp::All")]
    pub left_clamp: LeftClamp,
}

impl MseConfig {
    /// Checks the parameters and builds the loss.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] if the smallest label is not finite.
    pub fn init(&self) -> Result<Mse, LossError> {
        self.left_clamp.check(OP)?;
        Ok(Mse { config: *self })
    }
}

/// Squared difference between score and label, a baseline of regression STS.
///
/// # Mathematical Definition
///
/// ```text
/// L_i = ( s'_i - y_i )^2,   L = mean_i L_i
/// ```
///
/// with `s'` the score after the left clamp.
///
/// # Notes
///
/// - [`SmoothK2`](crate::SmoothK2) with `k = 1` and `x0 = 0`.
///
/// # Source
///
/// Baseline in regression STS (arXiv 2406.05326).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mse {
    config: MseConfig,
}

impl Mse {
    /// The checked configuration.
    pub fn config(&self) -> &MseConfig {
        &self.config
    }

    /// Mean of [`Mse::forward_per_item`] over the batch.
    ///
    /// # Shapes
    ///
    /// - `scores`, `labels`: `[batch]`
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// As [`Mse::forward_per_item`].
    pub fn forward(&self, scores: Tensor<1>, labels: Tensor<1>) -> Result<Tensor<1>, LossError> {
        Ok(self.forward_per_item(scores, labels)?.mean())
    }

    /// The loss of every pair.
    ///
    /// # Shapes
    ///
    /// - `scores`, `labels`: `[batch]`
    /// - output: `[batch]`
    ///
    /// # Errors
    ///
    /// [`LossError::Count`] for an empty batch, [`LossError::Shape`] if the shapes differ,
    /// [`LossError::Value`] for a label that is not finite, [`LossError::Read`] if the labels cannot
    /// be read.
    pub fn forward_per_item(
        &self,
        scores: Tensor<1>,
        labels: Tensor<1>,
    ) -> Result<Tensor<1>, LossError> {
        let distance = self.config.left_clamp.distance(OP, scores, labels)?;
        Ok(distance.square())
    }
}

const OP: &str = "mse";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    /// Losses of scores at the distances 0, 0.25, 1.25 and 2.25 from their labels, and the gradient
    /// of their sum.
    fn items(config: MseConfig) -> [Vec<f32>; 2] {
        let device = Device::flex().autodiff();
        let scores = Tensor::<1>::from_floats([3.0, 3.25, 1.75, 5.25], &device).require_grad();
        let labels = Tensor::<1>::from_floats([3.0; 4], &device);
        let items = config
            .init()
            .unwrap()
            .forward_per_item(scores.clone(), labels);
        let items = items.unwrap();
        let grads = items.clone().sum().backward();
        let gradient = scores.grad(&grads).unwrap();
        [items, gradient].map(|x| x.try_into_vec_as::<f32>().unwrap())
    }

    #[test]
    fn value_and_gradient_by_hand() {
        let [items, gradient] = items(MseConfig::new());
        assert_eq!(items, [0.0, 0.0625, 1.5625, 5.0625]);
        assert_eq!(gradient, [0.0, 0.5, -2.5, 4.5]);
    }
}
