//! Translated ReLU: distance from the label beyond a buffer.

use burn::config::Config;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use crate::error::LossError;
use crate::left_clamp::{LeftClamp, check_buffer};

/// Configuration of [`TranslatedRelu`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::TranslatedReluConfig;
///
/// # fn main() -> Result<(), losses::LossError> {
/// let loss = TranslatedReluConfig::new().init()?;
/// let scores = Tensor::<1>::from_floats([0.0, 2.25], &Device::flex());
/// let labels = Tensor::<1>::from_floats([0.0, 1.0], &Device::flex());
/// let value: f32 = loss.forward(scores, labels)?.into_scalar();
/// // The distance 1.25 lies 1.0 beyond the buffer, times 2.5, over two pairs.
/// assert!((value - 1.25).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, Copy, PartialEq)]
pub struct TranslatedReluConfig {
    /// Slope `k` beyond the buffer. Finite and greater than 0. Default: 2.5
    #[config(default = 2.5)]
    pub k: f64,
    /// Distance `x0` from the label up to which a score costs nothing. Finite and not negative.
    /// Default: 0.25
    #[config(default = 0.25)]
    pub x0: f64,
    /// Treatment of scores left of the smallest label. Default: set to 0 in every row
    #[config(default = "LeftClamp::All")]
    pub left_clamp: LeftClamp,
}

impl TranslatedReluConfig {
    /// Checks the parameters and builds the loss.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] if `k` is not finite or not greater than 0, `x0` is not finite or negative,
    /// or the smallest label is not finite.
    pub fn init(&self) -> Result<TranslatedRelu, LossError> {
        check_buffer(OP, self.k, self.x0)?;
        self.left_clamp.check(OP)?;
        Ok(TranslatedRelu { config: *self })
    }
}

/// Translated ReLU of the distance between score and label.
///
/// # Mathematical Definition
///
/// ```text
/// x_i = | s'_i - y_i |
/// L_i = k max(0, x_i - x0),   L = mean_i L_i
/// ```
///
/// with `s'` the score after the left clamp.
///
/// # Notes
///
/// - With neighbouring labels at distance `d`, `x0 <= d / 2` keeps rounding to the nearest label
///   right inside the buffer.
/// - The gradient jumps from 0 to `k` at the end of the buffer; [`SmoothK2`](crate::SmoothK2) has no
///   such corner.
/// - Labels are copied to the host for a check: one `NaN` would end a training.
///
/// # Source
///
/// Regression STS (arXiv 2406.05326) and its released code.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TranslatedRelu {
    config: TranslatedReluConfig,
}

impl TranslatedRelu {
    /// The checked configuration.
    pub fn config(&self) -> &TranslatedReluConfig {
        &self.config
    }

    /// Mean of [`TranslatedRelu::forward_per_item`] over the batch.
    ///
    /// # Shapes
    ///
    /// - `scores`, `labels`: `[batch]`
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// As [`TranslatedRelu::forward_per_item`].
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
        let config = &self.config;
        Ok(relu(distance.sub_scalar(config.x0)).mul_scalar(config.k))
    }
}

const OP: &str = "translated_relu";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    /// Losses of scores at the distances 0, 0.25, 1.25 and 2.25 from their labels, and the gradient
    /// of their sum.
    fn items(config: TranslatedReluConfig) -> [Vec<f32>; 2] {
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
        let [items, gradient] = items(TranslatedReluConfig::new().with_k(2.0).with_x0(0.25));
        assert_eq!(items, [0.0, 0.0, 2.0, 4.0]);
        assert_eq!(gradient, [0.0, 0.0, -2.0, 2.0]);
    }

    #[test]
    fn bad_parameters_are_refused() {
        for k in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(TranslatedReluConfig::new().with_k(k).init().is_err(), "{k}");
        }
        for x0 in [-0.1, f64::NAN, f64::INFINITY] {
            assert!(
                TranslatedReluConfig::new().with_x0(x0).init().is_err(),
                "{x0}"
            );
        }
        let clamp = LeftClamp::LabelMinOnly(f64::INFINITY);
        assert!(
            TranslatedReluConfig::new()
                .with_left_clamp(clamp)
                .init()
                .is_err()
        );
    }
}
