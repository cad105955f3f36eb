//! The left critical point of regression losses on graded labels.

use burn::config::Config;
use burn::tensor::Tensor;

use crate::error::{LossError, check_count, check_parameter, check_shape, read_finite};

/// What happens to scores left of the smallest label.
///
/// # Notes
///
/// - A score below the smallest label is as right as the label itself when scores are read by their
///   order. Clamping takes value and gradient from it.
/// - [`LeftClamp::All`] clamps whatever the label is: a row with a negative score and a label above 0
///   keeps a loss and gets no gradient, and stays there. [`LeftClamp::LabelMinOnly`] keeps the intent
///   without such rows.
///
/// # Source
///
/// Released code of regression STS (arXiv 2406.05326) for [`LeftClamp::All`].
#[derive(Config, Debug, Copy, PartialEq)]
pub enum LeftClamp {
    /// `s' = max(s, 0)` in every row.
    All,
    /// `s' = max(s, m)` in the rows whose label is `m`, the smallest label there is. Finite.
    LabelMinOnly(f64),
    /// `s' = s`.
    None,
}

impl LeftClamp {
    /// Refuses a smallest label that is not finite.
    pub(crate) fn check(self, op: &'static str) -> Result<(), LossError> {
        match self {
            Self::LabelMinOnly(smallest) => {
                let name = "left_clamp.label_min_only";
                check_parameter(op, name, smallest, "a finite number", |_| true)
            }
            Self::All | Self::None => Ok(()),
        }
    }

    /// Applies the rule to `scores` with `labels`, both `[batch]`. The gradient is 0 where a score
    /// is replaced; a score that is exactly on the border keeps it.
    fn apply(self, scores: Tensor<1>, labels: &Tensor<1>) -> Tensor<1> {
        match self {
            Self::None => scores,
            Self::All => {
                let left = scores.clone().without_autodiff().lower_scalar(0.0);
                scores.mask_fill(left, 0.0)
            }
            Self::LabelMinOnly(smallest) => {
                let left = scores.clone().without_autodiff().lower_scalar(smallest);
                let label = labels.clone().without_autodiff();
                scores.mask_fill(left.bool_and(label.equal_scalar(smallest as f32)), smallest)
            }
        }
    }

    /// `|s' - y|`, `[batch]`, after the checks that all regression losses share.
    pub(crate) fn distance(
        self,
        op: &'static str,
        scores: Tensor<1>,
        labels: Tensor<1>,
    ) -> Result<Tensor<1>, LossError> {
        let [batch] = scores.dims();
        check_count(op, "scores", batch, 1)?;
        check_shape(op, "labels", &labels.dims(), &[batch])?;
        read_finite(op, "labels", &labels)?;
        Ok((self.apply(scores, &labels) - labels).abs())
    }
}

/// Refuses a factor that is not above 0 and a buffer below 0.
pub(crate) fn check_buffer(op: &'static str, k: f64, x0: f64) -> Result<(), LossError> {
    check_parameter(op, "k", k, "a finite number greater than 0", |k| k > 0.0)?;
    let expected = "a finite number that is not negative";
    check_parameter(op, "x0", x0, expected, |x0| x0 >= 0.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    /// Distances and the gradient of their sum.
    fn distances(clamp: LeftClamp, scores: [f32; 5], labels: [f32; 5]) -> [Vec<f32>; 2] {
        let device = Device::flex().autodiff();
        let scores = Tensor::<1>::from_floats(scores, &device).require_grad();
        let labels = Tensor::<1>::from_floats(labels, &device);
        let items = clamp.distance("op", scores.clone(), labels).unwrap();
        let grads = items.clone().sum().backward();
        let gradient = scores.grad(&grads).unwrap();
        [items, gradient].map(|x| x.try_into_vec_as::<f32>().unwrap())
    }

    #[test]
    fn each_rule_by_hand() {
        let (scores, labels) = ([-0.5, -0.5, 0.5, 0.0, 1.5], [0.0, 1.0, 1.0, 1.0, 1.0]);
        let [items, gradient] = distances(LeftClamp::All, scores, labels);
        assert_eq!(items, [0.0, 1.0, 0.5, 1.0, 0.5]);
        assert_eq!(gradient, [0.0, 0.0, -1.0, -1.0, 1.0]);
        let [items, gradient] = distances(LeftClamp::LabelMinOnly(0.0), scores, labels);
        assert_eq!(items, [0.0, 1.5, 0.5, 1.0, 0.5]);
        assert_eq!(gradient, [0.0, -1.0, -1.0, -1.0, 1.0]);
        let [items, gradient] = distances(LeftClamp::None, scores, labels);
        assert_eq!(items, [0.5, 1.5, 0.5, 1.0, 0.5]);
        assert_eq!(gradient, [-1.0, -1.0, -1.0, -1.0, 1.0]);
    }

    #[test]
    fn the_smallest_label_need_not_be_zero() {
        let (scores, labels) = ([0.5, 0.5, 1.0, 2.0, -3.0], [1.0, 2.0, 1.0, 1.0, 1.0]);
        let [items, _] = distances(LeftClamp::LabelMinOnly(1.0), scores, labels);
        assert_eq!(items, [0.0, 1.5, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn bad_labels_and_shapes_are_refused_and_bad_scores_stay_visible() {
        let device = Device::flex();
        let vector = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
        let distance = |scores: &[f32], labels: &[f32]| {
            LeftClamp::All.distance("op", vector(scores), vector(labels))
        };
        for label in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = distance(&[1.0, 2.0], &[0.0, label]).unwrap_err();
            assert!(
                matches!(
                    error,
                    LossError::Value {
                        what: "labels",
                        row: 1,
                        ..
                    }
                ),
                "{error}"
            );
        }
        assert!(matches!(
            distance(&[1.0, 2.0], &[0.0]),
            Err(LossError::Shape { what: "labels", .. })
        ));
        let none = Tensor::<1>::zeros([0], &device);
        assert!(matches!(
            LeftClamp::None.distance("op", none.clone(), none),
            Err(LossError::Count { what: "scores", .. })
        ));
        let items = distance(&[f32::NAN], &[0.0]).unwrap();
        assert!(items.into_scalar::<f32>().is_nan());
        assert!(LeftClamp::LabelMinOnly(f64::NAN).check("op").is_err());
    }
}
