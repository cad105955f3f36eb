//! Linear head over two embeddings and their difference.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::error::{LossError, check_not_empty, check_parameter, check_shape};
use crate::gaussian_kl::uniform;

/// Configuration of [`SiameseHead`].
///
/// # Example
///
/// Cross entropy over three classes, the objective of Sentence-BERT:
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use losses::{CoarseCrossEntropy, SiameseHeadConfig};
///
/// # fn main() -> Result<(), losses::LossError> {
/// let device = Device::flex();
/// let head = SiameseHeadConfig::new(4).with_outputs(3).init(&device, 0)?;
/// let (u, v) = (Tensor::<2>::ones([2, 4], &device), Tensor::<2>::zeros([2, 4], &device));
/// let labels = Tensor::<1, Int>::from_ints([0, 2], &device);
/// let loss = CoarseCrossEntropy.forward(head.forward(u, v)?, labels)?;
/// assert_eq!(loss.dims(), [1]);
/// # Ok(())
/// # }
/// ```
///
/// One score for a regression:
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::{SiameseHeadConfig, SmoothK2Config};
///
/// # fn main() -> Result<(), losses::LossError> {
/// let device = Device::flex();
/// let head = SiameseHeadConfig::new(4).init(&device, 0)?;
/// let (u, v) = (Tensor::<2>::ones([2, 4], &device), Tensor::<2>::zeros([2, 4], &device));
/// let labels = Tensor::<1>::from_floats([0.0, 2.0], &device);
/// let loss = SmoothK2Config::new().init()?.forward(head.scores(u, v)?, labels)?;
/// assert_eq!(loss.dims(), [1]);
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub struct SiameseHeadConfig {
    /// Size of the embeddings, at least 1.
    pub dim: usize,
    /// Numbers per pair: 1 for a score, the number of classes for logits. At least 1. Default: 1
    #[config(default = 1)]
    pub outputs: usize,
}

impl SiameseHeadConfig {
    /// Draws a new head as PyTorch draws a linear layer: weights and biases uniform in
    /// `[-1/sqrt(3 dim), 1/sqrt(3 dim))`. The same seed gives the same values on every device.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] if `dim` or `outputs` is 0.
    pub fn init(&self, device: &Device, seed: u64) -> Result<SiameseHead, LossError> {
        let Self { dim, outputs } = *self;
        check_parameter(OP, "dim", dim as f64, "at least 1", |v| v >= 1.0)?;
        check_parameter(OP, "outputs", outputs as f64, "at least 1", |v| v >= 1.0)?;
        let features = 3 * dim;
        let bound = 1.0 / (features as f32).sqrt();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let weight = uniform(&mut rng, bound, features * outputs);
        let bias = uniform(&mut rng, bound, outputs);
        let linear = Linear {
            weight: Param::from_data(TensorData::new(weight, [features, outputs]), device),
            bias: Some(Param::from_data(TensorData::new(bias, [outputs]), device)),
        };
        Ok(SiameseHead { linear })
    }
}

/// Linear head over `[u ; v ; |u - v|]`.
///
/// # Mathematical Definition
///
/// ```text
/// s(u, v) = W^T [u ; v ; |u - v|] + b
/// ```
///
/// # Notes
///
/// - `s(u, v)` and `s(v, u)` differ in general.
/// - The head serves training alone; embeddings are compared by their cosine.
/// - With [`CoarseCrossEntropy`](crate::CoarseCrossEntropy) over its logits it is the classification
///   objective of Sentence-BERT; with one output and [`SmoothK2`](crate::SmoothK2) or
///   [`TranslatedRelu`](crate::TranslatedRelu) that of regression STS.
///
/// # Source
///
/// Reimers, Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", section 3.1;
/// regression STS (arXiv 2406.05326).
#[derive(Module, Debug)]
pub struct SiameseHead {
    /// Weight `[3 dim, outputs]`, bias `[outputs]`.
    pub linear: Linear,
}

impl SiameseHead {
    /// Takes a head with given values.
    ///
    /// # Shapes
    ///
    /// - `weight`: `[3 dim, outputs]` (the transpose of PyTorch's layout)
    /// - `bias`: `[outputs]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if the shapes do not fit together.
    pub fn from_tensors(weight: Tensor<2>, bias: Tensor<1>) -> Result<Self, LossError> {
        let [features, outputs] = weight.dims();
        check_not_empty(OP, "weight", [features, outputs])?;
        if !features.is_multiple_of(3) {
            return Err(LossError::Shape {
                op: OP,
                what: "weight",
                expected: "[3 * dim, outputs]".to_owned(),
                found: vec![features, outputs],
            });
        }
        check_shape(OP, "bias", &bias.dims(), &[outputs])?;
        let linear = Linear {
            weight: Param::from_tensor(weight),
            bias: Some(Param::from_tensor(bias)),
        };
        Ok(Self { linear })
    }

    /// Size of the embeddings that the head accepts.
    pub fn dim(&self) -> usize {
        self.linear.weight.dims()[0] / 3
    }

    /// Numbers per pair.
    pub fn outputs(&self) -> usize {
        self.linear.weight.dims()[1]
    }

    /// Scores or logits of every pair.
    ///
    /// # Shapes
    ///
    /// - `u`, `v`: `[batch, dim]`
    /// - output: `[batch, outputs]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if the inputs are empty, differ in shape or have rows of another size.
    pub fn forward(&self, u: Tensor<2>, v: Tensor<2>) -> Result<Tensor<2>, LossError> {
        let [batch, dim] = u.dims();
        check_not_empty(OP, "u", [batch, dim])?;
        check_shape(OP, "u", &[batch, dim], &[batch, self.dim()])?;
        check_shape(OP, "v", &v.dims(), &[batch, dim])?;
        let difference = (u.clone() - v.clone()).abs();
        let features = Tensor::cat(vec![u, v, difference], 1); // [batch, 3 dim]
        Ok(self.linear.forward(features))
    }

    /// The score of every pair, for a head with one output.
    ///
    /// # Shapes
    ///
    /// - `u`, `v`: `[batch, dim]`
    /// - output: `[batch]`
    ///
    /// # Errors
    ///
    /// As [`SiameseHead::forward`], and [`LossError::Count`] for a head with several outputs.
    pub fn scores(&self, u: Tensor<2>, v: Tensor<2>) -> Result<Tensor<1>, LossError> {
        match self.outputs() {
            1 => Ok(self.forward(u, v)?.squeeze_dim::<1>(1)),
            found => Err(LossError::Count {
                op: OP,
                what: "outputs",
                expected: "1 for a score".to_owned(),
                found,
            }),
        }
    }
}

const OP: &str = "siamese_head";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn features_by_hand() {
        // u = 2, v = 5, |u - v| = 3 with weights 1, 10, 100 and 0, 0, 1, biases 0.5 and -0.5.
        let device = Device::flex();
        let weight = [[1.0, 0.0], [10.0, 0.0], [100.0, 1.0]];
        let head = SiameseHead::from_tensors(
            Tensor::from_floats(weight, &device),
            Tensor::from_floats([0.5, -0.5], &device),
        )
        .unwrap();
        let (u, v) = (
            Tensor::<2>::from_floats([[2.0]], &device),
            Tensor::<2>::from_floats([[5.0]], &device),
        );
        let out = |u: &Tensor<2>, v: &Tensor<2>| {
            let out = head.forward(u.clone(), v.clone()).unwrap();
            out.try_to_vec_as::<f32>().unwrap()
        };
        assert_eq!(out(&u, &v), [352.5, 2.5]);
        // The order of the two counts.
        assert_eq!(out(&v, &u), [325.5, 2.5]);
        assert_eq!((head.dim(), head.outputs()), (1, 2));
    }

    #[test]
    fn the_seed_decides_the_head_and_the_bound_holds() {
        let device = Device::flex();
        let config = SiameseHeadConfig::new(16).with_outputs(3);
        let draw = |seed| {
            let head = config.init(&device, seed).unwrap();
            let mut values = head.linear.weight.val().try_to_vec_as::<f32>().unwrap();
            let bias = head.linear.bias.unwrap().val();
            values.extend(bias.try_to_vec_as::<f32>().unwrap());
            values
        };
        let values = draw(3);
        assert_eq!(values.len(), 3 * 48 + 3);
        assert_eq!(values, draw(3));
        assert_ne!(values, draw(4));
        let bound = 1.0 / 48f32.sqrt();
        assert!(values.iter().all(|v| v.abs() <= bound));
        assert!(values.iter().any(|v| v.abs() > 0.9 * bound));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let device = Device::flex();
        assert!(SiameseHeadConfig::new(0).init(&device, 0).is_err());
        let none = SiameseHeadConfig::new(2).with_outputs(0);
        assert!(none.init(&device, 0).is_err());
        let ones = |rows, columns| Tensor::<2>::ones([rows, columns], &device);
        let bias = || Tensor::<1>::ones([1], &device);
        assert!(SiameseHead::from_tensors(ones(4, 1), bias()).is_err());
        assert!(SiameseHead::from_tensors(ones(6, 2), bias()).is_err());
        let head = SiameseHead::from_tensors(ones(6, 1), bias()).unwrap();
        assert!(head.forward(ones(3, 2), ones(3, 2)).is_ok());
        assert!(head.forward(ones(3, 2), ones(2, 2)).is_err());
        assert!(head.forward(ones(3, 3), ones(3, 3)).is_err());
        assert!(head.forward(ones(0, 2), ones(0, 2)).is_err());
        let two = SiameseHeadConfig::new(2).with_outputs(2);
        let two = two.init(&device, 0).unwrap();
        let error = two.scores(ones(1, 2), ones(1, 2)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "siamese_head: outputs: found 2, expected 1 for a score"
        );
    }
}
