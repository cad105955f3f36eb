//! Order of the similarities of pairs by their graded labels.

use burn::config::Config;
use burn::tensor::{Tensor, TensorData};

use crate::error::{LossError, check_count, check_parameter, check_shape, read, read_finite};
use crate::known_gradient::with_gradient;
use crate::similarity::{check_pairs, paired_cosine};

/// Configuration of [`Cosent`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::CosentConfig;
///
/// # fn main() -> Result<(), losses::LossError> {
/// let loss = CosentConfig::new().init()?;
/// let device = Device::flex();
/// let x = Tensor::<2>::from_floats([[1.0, 0.0], [1.0, 0.0]], &device);
/// let y = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
/// let right = Tensor::<1>::from_floats([5.0, 1.0], &device);
/// let wrong = Tensor::<1>::from_floats([1.0, 5.0], &device);
/// let right: f32 = loss.forward(x.clone(), y.clone(), right)?.into_scalar();
/// let wrong: f32 = loss.forward(x, y, wrong)?.into_scalar();
/// assert!(right < 1e-6 && wrong > 19.9);
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, Copy, PartialEq)]
pub struct CosentConfig {
    /// Factor of the similarities. Finite and greater than 0. Default: 20
    #[config(default = 20.0)]
    pub scale: f64,
}

impl CosentConfig {
    /// Checks the parameters and builds the loss.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] if the scale is not finite or not greater than 0.
    pub fn init(&self) -> Result<Cosent, LossError> {
        check_scale(OP, self.scale)?;
        Ok(Cosent { config: *self })
    }
}

/// CoSENT: every pair of texts with a larger label shall have the larger cosine.
///
/// # Mathematical Definition
///
/// With the cosine `s_i` of pair `i` and its label `y_i`:
///
/// ```text
/// L = ln ( 1 + sum_{y_i > y_j} exp(scale (s_j - s_i)) )
/// ```
///
/// # Notes
///
/// - One number for the batch: a pair has no loss of its own.
/// - Equal labels form no term. Without any two different labels the loss is 0, gradient 0.
/// - Only the order of the labels counts.
/// - Time `O(batch ln batch)`: with the pairs sorted by label,
///   `ln sum_{y_i > y_j} exp(-scale s_i)` is one running log-sum-exp for all `j`. Both running sums
///   are taken on the host in f64 from the f32 similarities, value and gradient, so no scale
///   overflows; the similarities cross to the host once per call.
///
/// # Source
///
/// Huang et al., "CoSENT: Consistent Sentence Embedding via Similarity Ranking", 2024.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cosent {
    config: CosentConfig,
}

impl Cosent {
    /// The checked configuration.
    pub fn config(&self) -> &CosentConfig {
        &self.config
    }

    /// The loss of a batch of pairs of embeddings.
    ///
    /// # Shapes
    ///
    /// - `x`, `y`: `[batch, dim]`
    /// - `labels`: `[batch]`
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if the embeddings are empty or the shapes differ, [`LossError::Value`]
    /// for a label that is not finite, [`LossError::Read`] if values cannot be read.
    pub fn forward(
        &self,
        x: Tensor<2>,
        y: Tensor<2>,
        labels: Tensor<1>,
    ) -> Result<Tensor<1>, LossError> {
        check_pairs(OP, ("x", &x), ("y", &y))?;
        ordered_loss(OP, paired_cosine(x, y)?, labels, self.config.scale)
    }

    /// The loss of given similarities.
    ///
    /// # Shapes
    ///
    /// - `similarities`, `labels`: `[batch]`
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// As [`Cosent::forward`], and [`LossError::Count`] for an empty batch.
    pub fn forward_similarities(
        &self,
        similarities: Tensor<1>,
        labels: Tensor<1>,
    ) -> Result<Tensor<1>, LossError> {
        ordered_loss(OP, similarities, labels, self.config.scale)
    }
}

const OP: &str = "cosent";

/// Refuses a scale that is not finite or not greater than 0.
pub(crate) fn check_scale(op: &'static str, scale: f64) -> Result<(), LossError> {
    let expected = "a finite number greater than 0";
    check_parameter(op, "scale", scale, expected, |scale| scale > 0.0)
}

/// `ln (1 + sum_{y_i > y_j} exp(scale (s_j - s_i)))`, `[1]`, after the checks of the inputs.
pub(crate) fn ordered_loss(
    op: &'static str,
    similarities: Tensor<1>,
    labels: Tensor<1>,
    scale: f64,
) -> Result<Tensor<1>, LossError> {
    let [batch] = similarities.dims();
    check_count(op, "pairs", batch, 1)?;
    check_shape(op, "labels", &labels.dims(), &[batch])?;
    let labels = read_finite(op, "labels", &labels)?;
    let host = read(op, "similarities", &similarities)?;
    let (loss, gradient) = order(&host, &labels, scale);
    let device = similarities.clone().without_autodiff().device();
    let loss = Tensor::<1>::from_floats([loss as f32], &device);
    let gradient: Vec<f32> = gradient.iter().map(|g| *g as f32).collect();
    let gradient = Tensor::<1>::from_data(TensorData::new(gradient, [batch]), &device);
    Ok(with_gradient(loss, &similarities, gradient))
}

/// Loss and gradient in the similarities. Similarities that are not finite make both `NaN`.
fn order(similarities: &[f32], labels: &[f32], scale: f64) -> (f64, Vec<f64>) {
    let mut pairs: Vec<(usize, f64, f32)> = similarities
        .iter()
        .zip(labels)
        .enumerate()
        .map(|(at, (s, label))| (at, scale * f64::from(*s), *label))
        .collect();
    if similarities.iter().any(|s| !s.is_finite()) {
        return (f64::NAN, vec![f64::NAN; pairs.len()]);
    }
    // Labels are finite, so the order is total; equal ones, 0 and -0 among them, form one group.
    pairs.sort_by(|(_, _, a), (_, _, b)| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let groups: Vec<&[(usize, f64, f32)]> = pairs.chunk_by(|(_, _, a), (_, _, b)| a == b).collect();

    // below_i = s_i + ln sum_{y_k > y_i} exp(-s_k): how far pair i stands above what should exceed it.
    let mut below = vec![f64::NEG_INFINITY; pairs.len()];
    let mut higher = f64::NEG_INFINITY;
    let mut loss = 0.0;
    for group in groups.iter().rev() {
        for (at, s, _) in *group {
            below[*at] = s + higher;
            loss = log_add(loss, below[*at]);
        }
        higher = group.iter().fold(higher, |sum, (_, s, _)| log_add(sum, -s));
    }
    // The same from the other side: -s_i + ln sum_{y_j < y_i} exp(s_j).
    let mut gradient = vec![0.0; pairs.len()];
    let mut lower = f64::NEG_INFINITY;
    for group in &groups {
        for (at, s, _) in *group {
            gradient[*at] = scale * ((below[*at] - loss).exp() - (lower - s - loss).exp());
        }
        lower = group.iter().fold(lower, |sum, (_, s, _)| log_add(sum, *s));
    }
    (loss, gradient)
}

/// `ln (exp(a) + exp(b))` of numbers that are not `NaN` or positive infinity.
pub(crate) fn log_add(a: f64, b: f64) -> f64 {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    if small == f64::NEG_INFINITY {
        large
    } else {
        large + (small - large).exp().ln_1p()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    fn vector(values: &[f32]) -> Tensor<1> {
        Tensor::from_floats(values, &Device::flex())
    }

    #[test]
    fn one_pair_of_pairs_by_hand() {
        // ln(1 + exp(2 (0.5 - 0.25))) = ln(1 + e^0.5); gradient 2 / (1 + e^-0.5) with both signs.
        let device = Device::flex().autodiff();
        let s = Tensor::<1>::from_floats([0.25, 0.5], &device).require_grad();
        let loss = CosentConfig::new().with_scale(2.0).init().unwrap();
        let value = loss
            .forward_similarities(s.clone(), vector(&[1.0, 0.0]))
            .unwrap();
        let gradient = s.grad(&value.backward()).unwrap();
        let gradient = gradient.try_to_vec_as::<f32>().unwrap();
        approx::assert_abs_diff_eq!(
            value.into_scalar::<f32>(),
            (1.0 + 0.5f32.exp()).ln(),
            epsilon = 1e-6
        );
        let want = 2.0 / (1.0 + (-0.5f32).exp());
        approx::assert_abs_diff_eq!(gradient[0], -want, epsilon = 1e-6);
        approx::assert_abs_diff_eq!(gradient[1], want, epsilon = 1e-6);
    }

    #[test]
    fn equal_labels_form_no_term() {
        let device = Device::flex().autodiff();
        let loss = CosentConfig::new().init().unwrap();
        for (similarities, labels) in [
            (&[0.3f32][..], &[2.0f32][..]),
            (&[0.3, -0.9, 0.1], &[2.0, 2.0, 2.0]),
            (&[0.3, -0.9], &[0.0, -0.0]),
        ] {
            let s = Tensor::<1>::from_floats(similarities, &device).require_grad();
            let value = loss
                .forward_similarities(s.clone(), vector(labels))
                .unwrap();
            let gradient = s.grad(&value.backward()).unwrap();
            assert_eq!(value.into_scalar::<f32>(), 0.0);
            let gradient = gradient.try_to_vec_as::<f32>().unwrap();
            assert!(gradient.iter().all(|g| *g == 0.0), "{gradient:?}");
        }
    }

    #[test]
    fn not_a_number_stays_visible_and_bad_labels_are_refused() {
        let loss = CosentConfig::new().init().unwrap();
        for bad in [f32::NAN, f32::INFINITY] {
            let value = loss.forward_similarities(vector(&[bad, 0.0]), vector(&[1.0, 1.0]));
            assert!(value.unwrap().into_scalar::<f32>().is_nan());
            let error = loss.forward_similarities(vector(&[0.0, 0.0]), vector(&[1.0, bad]));
            assert!(matches!(
                error,
                Err(LossError::Value {
                    what: "labels",
                    row: 1,
                    ..
                })
            ));
        }
        assert!(
            loss.forward_similarities(vector(&[0.0]), vector(&[1.0, 2.0]))
                .is_err()
        );
        let none = Tensor::<1>::zeros([0], &Device::flex());
        assert!(loss.forward_similarities(none.clone(), none).is_err());
        let ones = |rows| Tensor::<2>::ones([rows, 2], &Device::flex());
        assert!(loss.forward(ones(2), ones(1), vector(&[1.0, 2.0])).is_err());
        for scale in [0.0, -1.0, f64::NAN] {
            assert!(CosentConfig::new().with_scale(scale).init().is_err());
        }
    }
}
