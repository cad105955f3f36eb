//! One loss on the first components of the embeddings, for several lengths at once.

use burn::config::Config;
use burn::tensor::Tensor;

use crate::error::{LossError, check_count, check_not_empty, check_parameter};

/// Configuration of [`Matryoshka`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::{InfoNceConfig, LossError, MatryoshkaConfig};
///
/// # fn main() -> Result<(), LossError> {
/// let inner = InfoNceConfig::new().init()?;
/// let loss = MatryoshkaConfig::new(vec![4, 2]).with_weights(Some(vec![1.0, 0.5])).init()?;
/// let anchors = Tensor::<2>::eye(4, &Device::flex());
/// let positives = anchors.clone();
/// let value = loss.forward([anchors, positives], |[anchors, positives]| {
///     inner.forward(anchors, positives, None)
/// })?;
/// assert_eq!(value.dims(), [1]);
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct MatryoshkaConfig {
    /// Lengths of the embeddings, at least one, each at least 1.
    pub dims: Vec<usize>,
    /// Weight of each length, finite and not negative; `None` for 1 each. Default: 1 each
    #[config(default = "None")]
    pub weights: Option<Vec<f64>>,
}

impl MatryoshkaConfig {
    /// Checks the parameters and builds the wrapper.
    ///
    /// # Errors
    ///
    /// [`LossError::Count`] without any length or with another number of weights,
    /// [`LossError::Parameter`] for a length of 0 or a weight that is negative or not finite.
    pub fn init(&self) -> Result<Matryoshka, LossError> {
        check_count(OP, "dims", self.dims.len(), 1)?;
        for dim in &self.dims {
            check_parameter(OP, "dims", *dim as f64, "at least 1", |d| d >= 1.0)?;
        }
        let weights = match &self.weights {
            None => vec![1.0; self.dims.len()],
            Some(weights) if weights.len() == self.dims.len() => weights.clone(),
            Some(weights) => {
                return Err(LossError::Count {
                    op: OP,
                    what: "weights",
                    expected: format!("{}, one for each length", self.dims.len()),
                    found: weights.len(),
                });
            }
        };
        for weight in &weights {
            let expected = "a finite number that is not negative";
            check_parameter(OP, "weights", *weight, expected, |w| w >= 0.0)?;
        }
        let levels = self.dims.iter().copied().zip(weights).collect();
        Ok(Matryoshka { levels })
    }
}

/// Matryoshka representation learning around any loss of embeddings.
///
/// # Mathematical Definition
///
/// With `x[..d]` the first `d` components of every row:
///
/// ```text
/// L(x, y, ...) = sum_d w_d L_inner(x[..d], y[..d], ...)
/// ```
///
/// # Notes
///
/// - Truncated rows are not brought back to unit length here. Losses that compare by cosine do that
///   themselves.
/// - A training whose lengths leave out the full one does not train the components behind the
///   largest.
/// - Everything but embeddings (labels, teachers) belongs to the closure.
///
/// # Source
///
/// Kusupati et al., "Matryoshka Representation Learning" (arXiv 2205.13147).
#[derive(Clone, Debug, PartialEq)]
pub struct Matryoshka {
    levels: Vec<(usize, f64)>,
}

impl Matryoshka {
    /// The lengths and their weights.
    pub fn levels(&self) -> &[(usize, f64)] {
        &self.levels
    }

    /// Weighted sum of `loss` over the lengths.
    ///
    /// # Shapes
    ///
    /// - `embeddings`: `[rows, dim]` each, any number of rows
    /// - result of `loss`: `[1]`
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if an embedding is empty or shorter than one of the lengths, and what
    /// `loss` returns.
    pub fn forward<const N: usize, E: From<LossError>>(
        &self,
        embeddings: [Tensor<2>; N],
        mut loss: impl FnMut([Tensor<2>; N]) -> Result<Tensor<1>, E>,
    ) -> Result<Tensor<1>, E> {
        let mut sum: Option<Tensor<1>> = None;
        for (dim, weight) in &self.levels {
            for x in &embeddings {
                check_length(x, *dim)?;
            }
            let truncated = embeddings.each_ref().map(|x| x.clone().narrow(1, 0, *dim));
            let term = loss(truncated)?.mul_scalar(*weight);
            sum = Some(match sum {
                Some(sum) => sum + term,
                None => term,
            });
        }
        // `init` has seen that there is a length.
        sum.ok_or_else(|| {
            E::from(LossError::Count {
                op: OP,
                what: "dims",
                expected: "at least 1".to_owned(),
                found: 0,
            })
        })
    }
}

const OP: &str = "matryoshka";

/// Refuses rows shorter than `dim`.
fn check_length(x: &Tensor<2>, dim: usize) -> Result<(), LossError> {
    let dims = x.dims();
    check_not_empty(OP, "embeddings", dims)?;
    if dim <= dims[1] {
        return Ok(());
    }
    Err(LossError::Shape {
        op: OP,
        what: "embeddings",
        expected: format!("at least {dim} columns"),
        found: dims.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_weighted_sum_over_the_lengths() {
        // The sum of the elements as the loss: 1 * (1 + 2 + 3) + 10 * 1, gradient 11, 1, 1.
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_floats([[1.0, 2.0, 3.0]], &device).require_grad();
        let config = MatryoshkaConfig::new(vec![3, 1]).with_weights(Some(vec![1.0, 10.0]));
        let loss = config.init().unwrap();
        let sum = |[x]: [Tensor<2>; 1]| Ok::<_, LossError>(x.sum());
        let value = loss.forward([x.clone()], sum).unwrap();
        let gradient = x.grad(&value.backward()).unwrap();
        assert_eq!(value.into_scalar::<f32>(), 16.0);
        assert_eq!(gradient.try_to_vec_as::<f32>().unwrap(), [11.0, 1.0, 1.0]);
        let ones = MatryoshkaConfig::new(vec![3, 1]).init().unwrap();
        assert_eq!(ones.forward([x], sum).unwrap().into_scalar::<f32>(), 7.0);
        assert_eq!(ones.levels(), [(3, 1.0), (1, 1.0)]);
    }

    #[test]
    fn bad_parameters_and_inputs_are_refused() {
        for (dims, weights) in [
            (vec![], None),
            (vec![0], None),
            (vec![2], Some(vec![])),
            (vec![2, 1], Some(vec![1.0])),
            (vec![2], Some(vec![-1.0])),
            (vec![2], Some(vec![f64::NAN])),
        ] {
            let config = MatryoshkaConfig::new(dims).with_weights(weights);
            assert!(config.init().is_err(), "{config}");
        }
        let loss = MatryoshkaConfig::new(vec![2, 4]).init().unwrap();
        let ones = |rows, columns| Tensor::<2>::ones([rows, columns], &Device::flex());
        let sum = |[x, _]: [Tensor<2>; 2]| Ok::<_, LossError>(x.sum());
        assert!(loss.forward([ones(1, 4), ones(3, 4)], sum).is_ok());
        let error = loss.forward([ones(1, 4), ones(3, 3)], sum).unwrap_err();
        assert_eq!(
            error.to_string(),
            "matryoshka: embeddings has shape [3, 3], expected at least 4 columns"
        );
        // An error of the loss comes through.
        let refuse = |_: [Tensor<2>; 1]| Err(check_count("inner", "x", 0, 1).unwrap_err());
        let error = loss.forward([ones(1, 4)], refuse).unwrap_err();
        assert!(matches!(error, LossError::Count { op: "inner", .. }));
    }
}
