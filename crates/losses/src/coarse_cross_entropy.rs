//! Cross entropy of the coarse labels.

use burn::tensor::{Int, Tensor};

use crate::error::{LossError, check_not_empty, check_shape};
use crate::log_sum_exp::log_sum_exp;

/// Cross entropy between logits and the true coarse class of each text.
///
/// # Mathematical Definition
///
/// ```text
/// L_i = ln sum_c exp(z_ic) - z_{i, y_i},   L = mean_i L_i
/// ```
///
/// # Notes
///
/// - Labels are copied to the host for a range check: a label outside the classes would be read
///   from outside the logits.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use losses::CoarseCrossEntropy;
///
/// # fn main() -> Result<(), losses::LossError> {
/// let logits = Tensor::<2>::zeros([3, 4], &Device::flex());
/// let labels = Tensor::<1, Int>::from_ints([0, 3, 1], &Device::flex());
/// let loss: f32 = CoarseCrossEntropy.forward(logits, labels)?.into_scalar();
/// assert!((loss - 4f32.ln()).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoarseCrossEntropy;

impl CoarseCrossEntropy {
    /// Mean of [`CoarseCrossEntropy::forward_per_item`] over the batch.
    ///
    /// # Shapes
    ///
    /// - `logits`: `[batch, classes]`
    /// - `labels`: `[batch]`
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// As [`CoarseCrossEntropy::forward_per_item`].
    pub fn forward(
        &self,
        logits: Tensor<2>,
        labels: Tensor<1, Int>,
    ) -> Result<Tensor<1>, LossError> {
        Ok(self.forward_per_item(logits, labels)?.mean())
    }

    /// The loss of every item.
    ///
    /// # Shapes
    ///
    /// - `logits`: `[batch, classes]`
    /// - `labels`: `[batch]`
    /// - output: `[batch]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if the shapes do not fit together, [`LossError::Value`] for a label
    /// outside `0..classes`, [`LossError::Read`] if the labels cannot be read.
    pub fn forward_per_item(
        &self,
        logits: Tensor<2>,
        labels: Tensor<1, Int>,
    ) -> Result<Tensor<1>, LossError> {
        let [batch, classes] = logits.dims();
        check_not_empty(OP, "logits", [batch, classes])?;
        check_shape(OP, "labels", &labels.dims(), &[batch])?;
        for (row, label) in read_labels(OP, &labels)?.into_iter().enumerate() {
            check_label(OP, row, label, classes)?;
        }
        Ok(cross_entropy(logits, labels))
    }
}

const OP: &str = "coarse_cross_entropy";

/// `ln sum_c exp(z_ic) - z_{i, y_i}`, `[batch]`, for labels known to be below the number of classes;
/// 0 with gradient 0 where the label is negative.
pub(crate) fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    kernels::cross_entropy(logits, labels).unwrap_or_else(|inputs| {
        let (logits, labels) = *inputs;
        let left_out = labels.clone().lower_scalar(0);
        composed(logits, labels.clamp_min(0)).mask_fill(left_out, 0.0)
    })
}

/// The same from plain operations, for labels that are not negative.
fn composed(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let [batch, _] = logits.dims();
    let positive = logits
        .clone()
        .gather(1, labels.reshape([batch, 1])) // [batch, 1]
        .squeeze_dim::<1>(1);
    log_sum_exp(logits) - positive
}

/// Copies labels to the host.
pub(crate) fn read_labels(
    op: &'static str,
    labels: &Tensor<1, Int>,
) -> Result<Vec<i64>, LossError> {
    labels
        .try_to_vec_as::<i64>()
        .map_err(|source| LossError::Read {
            op,
            what: "labels",
            source,
        })
}

/// Refuses a label outside `0..classes`.
pub(crate) fn check_label(
    op: &'static str,
    row: usize,
    label: i64,
    classes: usize,
) -> Result<(), LossError> {
    match usize::try_from(label) {
        Ok(label) if label < classes => Ok(()),
        _ => Err(LossError::Value {
            op,
            what: "label",
            row,
            column: 0,
            expected: format!("0 to {}", classes.saturating_sub(1)),
            found: label as f64,
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn two_items_by_hand() {
        // ln(e + 1) - 1 = 0.313262 and ln(e + 1) - 0 = 1.313262, mean 0.813262
        let device = Device::flex();
        let logits = Tensor::<2>::from_floats([[1.0, 0.0], [1.0, 0.0]], &device);
        let labels = Tensor::<1, Int>::from_ints([0, 1], &device);
        let items = CoarseCrossEntropy
            .forward_per_item(logits.clone(), labels.clone())
            .unwrap()
            .try_to_vec_as::<f32>()
            .unwrap();
        approx::assert_abs_diff_eq!(items[0], 0.313_261_7, epsilon = 1e-6);
        approx::assert_abs_diff_eq!(items[1], 1.313_261_7, epsilon = 1e-6);
        let mean: f32 = CoarseCrossEntropy
            .forward(logits, labels)
            .unwrap()
            .into_scalar();
        approx::assert_abs_diff_eq!(mean, 0.813_261_7, epsilon = 1e-6);
    }

    #[test]
    fn gradient_is_probability_minus_one_hot_over_the_batch() {
        let device = Device::flex().autodiff();
        let logits =
            Tensor::<2>::from_floats([[0.0, 3f32.ln()], [0.0, 0.0]], &device).require_grad();
        let labels = Tensor::<1, Int>::from_ints([0, 1], &device);
        let grads = CoarseCrossEntropy
            .forward(logits.clone(), labels)
            .unwrap()
            .backward();
        let gradient = logits.grad(&grads).unwrap().try_to_vec_as::<f32>().unwrap();
        // ((1/4, 3/4) - (1, 0)) / 2 and ((1/2, 1/2) - (0, 1)) / 2
        for (got, want) in gradient.iter().zip([-0.375, 0.375, 0.25, -0.25]) {
            approx::assert_abs_diff_eq!(*got, want, epsilon = 1e-6);
        }
    }

    #[test]
    fn labels_and_shapes_out_of_range_are_refused() {
        let device = Device::flex();
        let logits = Tensor::<2>::zeros([2, 3], &device);
        for (bad, row) in [([0, 3], 1), ([-1, 0], 0)] {
            let labels = Tensor::<1, Int>::from_ints(bad, &device);
            match CoarseCrossEntropy.forward(logits.clone(), labels) {
                Err(LossError::Value { row: found, .. }) => assert_eq!(found, row),
                other => panic!("{other:?}"),
            }
        }
        let labels = Tensor::<1, Int>::from_ints([0, 1, 2], &device);
        assert!(CoarseCrossEntropy.forward(logits, labels).is_err());
    }

    /// The operation with its own backward pass against the composition of plain operations.
    #[test]
    fn fused_and_composed_forms_agree_in_value_and_gradient() {
        let device = Device::flex().autodiff();
        for (rows, classes) in [(1, 1), (5, 3), (64, 18), (70, 301), (3, 30_522)] {
            let values: Vec<f32> = (0..rows * classes)
                .map(|i| 9.0 * (1.7 * i as f32).sin())
                .collect();
            let data = burn::tensor::TensorData::new(values, [rows, classes]);
            let logits = Tensor::<2>::from_data(data, &device).require_grad();
            let labels: Vec<i64> = (0..rows).map(|i| (i * 7 % classes) as i64).collect();
            let labels = Tensor::<1, Int>::from_data(labels.as_slice(), &device);
            let evaluate = |items: Tensor<1>| {
                let grads = (items.clone() * items.clone().detach().add_scalar(0.5))
                    .sum()
                    .backward();
                let gradient = logits.grad(&grads).unwrap();
                [
                    items.try_into_vec_as::<f32>().unwrap(),
                    gradient.try_into_vec_as::<f32>().unwrap(),
                ]
            };
            let fused = evaluate(kernels::cross_entropy(logits.clone(), labels.clone()).unwrap());
            let composed = evaluate(composed(logits.clone(), labels));
            for (fused, composed) in fused.iter().zip(&composed) {
                let largest = composed.iter().fold(0f32, |most, x| most.max(x.abs()));
                for (fused, composed) in fused.iter().zip(composed) {
                    assert!(
                        (fused - composed).abs() <= 1e-5 * largest + 1e-6,
                        "{rows} x {classes}: {fused} against {composed}"
                    );
                }
            }
        }
    }

    #[test]
    fn negative_labels_give_nothing() {
        let device = Device::flex().autodiff();
        let logits = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 5.0]], &device).require_grad();
        let labels = Tensor::<1, Int>::from_ints([-7, 1], &device);
        let items = cross_entropy(logits.clone(), labels);
        let gradient = logits.grad(&items.clone().sum().backward()).unwrap();
        let gradient = gradient.try_into_vec_as::<f32>().unwrap();
        assert_eq!(items.try_into_vec_as::<f32>().unwrap()[0], 0.0);
        assert_eq!(gradient[..2], [0.0, 0.0]);
        assert!(gradient[2] > 0.0 && gradient[3] < 0.0);
    }
}
