//! Cross entropy of masked language modelling.

use burn::tensor::{Int, Tensor};

use crate::coarse_cross_entropy::{check_label, cross_entropy, read_labels};
use crate::error::{LossError, check_shape};

/// Label of a position that takes no part in the loss. Every negative label means the same.
pub const NOT_SELECTED: i64 = -100;

/// Cross entropy over the selected token positions only.
///
/// # Mathematical Definition
///
/// With `S` the rows whose label is not negative:
///
/// ```text
/// L = (1 / |S|) sum_{i in S} ( ln sum_v exp(z_iv) - z_{i, y_i} ),   L = 0 if S is empty
/// ```
///
/// # Notes
///
/// - The vocabulary product is the expensive part: pick the selected hidden states with
///   [`MaskedLm::select`] first and compute logits for those rows alone.
/// - Negative labels are for callers with a fixed number of rows; they cost a logit row each.
/// - Labels are copied to the host for a range check.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use losses::{MaskedLm, NOT_SELECTED};
///
/// # fn main() -> Result<(), losses::LossError> {
/// let device = Device::flex();
/// let logits = Tensor::<2>::zeros([2, 8], &device);
/// let labels = Tensor::<1, Int>::from_ints([5, NOT_SELECTED as i32], &device);
/// let loss: f32 = MaskedLm.forward(logits, labels)?.into_scalar();
/// assert!((loss - 8f32.ln()).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaskedLm;

impl MaskedLm {
    /// Picks the rows of `hidden` that the head has to look at.
    ///
    /// # Shapes
    ///
    /// - `hidden`: `[tokens, dim]`, the activations of a batch one below the other
    /// - `positions`: rows of `hidden`, at least one
    /// - output: `[positions, dim]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] without any position, [`LossError::Value`] for a position outside
    /// `hidden`.
    pub fn select(&self, hidden: Tensor<2>, positions: &[usize]) -> Result<Tensor<2>, LossError> {
        let [tokens, _] = hidden.dims();
        if positions.is_empty() {
            return Err(LossError::Shape {
                op: OP,
                what: "positions",
                expected: "at least one position".to_owned(),
                found: vec![0],
            });
        }
        let mut ids = Vec::with_capacity(positions.len());
        for (row, &position) in positions.iter().enumerate() {
            let label = i64::try_from(position).unwrap_or(i64::MAX);
            check_label(OP, row, label, tokens)?;
            ids.push(label);
        }
        let ids = Tensor::<1, Int>::from_data(ids.as_slice(), &hidden.device());
        Ok(hidden.select(0, ids))
    }

    /// Mean over the selected rows, 0 if there are none.
    ///
    /// # Shapes
    ///
    /// - `logits`: `[rows, vocabulary]`
    /// - `labels`: `[rows]`, negative where a row is not selected
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// As [`MaskedLm::forward_per_item`].
    pub fn forward(
        &self,
        logits: Tensor<2>,
        labels: Tensor<1, Int>,
    ) -> Result<Tensor<1>, LossError> {
        if logits.dims()[0] == 0 {
            check_shape(OP, "labels", &labels.dims(), &[0])?;
            return Ok(Tensor::zeros([1], &logits.device()));
        }
        let (items, selected) = self.items(logits, labels)?;
        Ok(items.sum().div_scalar(selected.max(1) as f64))
    }

    /// The loss of every row, 0 where a row is not selected.
    ///
    /// # Shapes
    ///
    /// - `logits`: `[rows, vocabulary]`
    /// - `labels`: `[rows]`, negative where a row is not selected
    /// - output: `[rows]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if the shapes do not fit together, [`LossError::Value`] for a label
    /// behind the end of the vocabulary, [`LossError::Read`] if the labels cannot be read.
    pub fn forward_per_item(
        &self,
        logits: Tensor<2>,
        labels: Tensor<1, Int>,
    ) -> Result<Tensor<1>, LossError> {
        if logits.dims()[0] == 0 {
            check_shape(OP, "labels", &labels.dims(), &[0])?;
            return Ok(Tensor::zeros([0], &logits.device()));
        }
        Ok(self.items(logits, labels)?.0)
    }

    fn items(
        &self,
        logits: Tensor<2>,
        labels: Tensor<1, Int>,
    ) -> Result<(Tensor<1>, usize), LossError> {
        let [rows, vocabulary] = logits.dims();
        crate::error::check_not_empty(OP, "logits", [rows, vocabulary])?;
        check_shape(OP, "labels", &labels.dims(), &[rows])?;
        let mut selected = 0;
        for (row, label) in read_labels(OP, &labels)?.into_iter().enumerate() {
            if label >= 0 {
                check_label(OP, row, label, vocabulary)?;
                selected += 1;
            }
        }
        Ok((cross_entropy(logits, labels), selected))
    }
}

const OP: &str = "masked_lm";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn only_selected_rows_count() {
        // Row 0: ln(e + 2) - 1 = 0.551445; row 2: ln(e + 2) - 0 = 1.551445; mean 1.051445
        let device = Device::flex().autodiff();
        let logits =
            Tensor::<2>::from_floats([[1.0, 0.0, 0.0], [7.0, 8.0, 9.0], [1.0, 0.0, 0.0]], &device)
                .require_grad();
        let labels = Tensor::<1, Int>::from_ints([0, -100, 2], &device);
        let loss = MaskedLm.forward(logits.clone(), labels.clone()).unwrap();
        let grads = loss.backward();
        approx::assert_abs_diff_eq!(loss.into_scalar::<f32>(), 1.051_444_7, epsilon = 1e-6);
        let gradient = logits.grad(&grads).unwrap().try_to_vec_as::<f32>().unwrap();
        assert_eq!(gradient[3..6], [0.0, 0.0, 0.0]);
        assert!(gradient[..3].iter().all(|g| *g != 0.0));
        let items = MaskedLm.forward_per_item(logits, labels).unwrap();
        assert_eq!(items.try_to_vec_as::<f32>().unwrap()[1], 0.0);
    }

    #[test]
    fn an_empty_selection_is_zero_with_zero_gradient() {
        let device = Device::flex().autodiff();
        let logits = Tensor::<2>::from_floats([[1.0, 2.0]], &device).require_grad();
        let labels = Tensor::<1, Int>::from_ints([-100], &device);
        let loss = MaskedLm.forward(logits.clone(), labels).unwrap();
        let grads = loss.backward();
        assert_eq!(loss.into_scalar::<f32>(), 0.0);
        let gradient = logits.grad(&grads).unwrap().try_to_vec_as::<f32>().unwrap();
        assert_eq!(gradient, [0.0, 0.0]);
        let none = Tensor::<2>::zeros([0, 5], &device);
        let labels = Tensor::<1, Int>::zeros([0], &device);
        let loss = MaskedLm.forward(none, labels).unwrap();
        assert_eq!(loss.into_scalar::<f32>(), 0.0);
    }

    #[test]
    fn select_picks_rows_in_order() {
        let device = Device::flex();
        let hidden = Tensor::<2>::from_floats([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], &device);
        let picked = MaskedLm.select(hidden.clone(), &[2, 0]).unwrap();
        assert_eq!(picked.try_to_vec_as::<f32>().unwrap(), [4.0, 5.0, 0.0, 1.0]);
        assert!(MaskedLm.select(hidden.clone(), &[3]).is_err());
        assert!(MaskedLm.select(hidden, &[]).is_err());
    }

    #[test]
    fn labels_and_shapes_out_of_range_are_refused() {
        let device = Device::flex();
        let logits = Tensor::<2>::zeros([2, 3], &device);
        let labels = Tensor::<1, Int>::from_ints([0, 3], &device);
        let error = MaskedLm.forward(logits.clone(), labels).unwrap_err();
        assert!(matches!(error, LossError::Value { row: 1, .. }), "{error}");
        let labels = Tensor::<1, Int>::from_ints([0], &device);
        assert!(MaskedLm.forward(logits, labels).is_err());
    }
}
