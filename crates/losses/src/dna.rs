//! Neighbourhood InfoNCE with binary weights, the objective of DNA.

use burn::config::Config;
use burn::tensor::Tensor;

use crate::bank_info_nce::{BankInfoNce, BankInfoNceConfig};
use crate::error::LossError;
use crate::neighbour_targets::{NeighbourTargets, WeightNormalization};
use crate::similarity::InputNormalization;

/// Configuration of [`Dna`].
///
/// # Example
///
/// ```
/// use losses::DnaConfig;
///
/// assert!(DnaConfig::new().init().is_ok());
/// assert!(DnaConfig::new().with_temperature(0.0).init().is_err());
/// ```
#[derive(Config, Debug, Copy, PartialEq)]
pub struct DnaConfig {
    /// Temperature tau that divides the similarities. Finite and greater than 0. Default: 0.07
    #[config(default = 0.07)]
    pub temperature: f64,
    /// Which inputs are brought to unit length first. Default: the queries
    #[config(default = "InputNormalization::Queries")]
    pub normalize_inputs: InputNormalization,
}

impl DnaConfig {
    /// Checks the parameters and builds the loss.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] if the temperature is not finite or not greater than 0.
    pub fn init(&self) -> Result<Dna, LossError> {
        let core = BankInfoNceConfig::new()
            .with_temperature(self.temperature)
            .with_weight_normalization(WeightNormalization::Row)
            .with_normalize_inputs(self.normalize_inputs)
            .init()?;
        Ok(Dna { core })
    }
}

/// Mean log-probability over a set of neighbours (DNA).
///
/// # Mathematical Definition
///
/// With `z_ij = q_i . h_j / tau` and the set `P_i` of neighbours of query `i`:
///
/// ```text
/// L_i = -(1 / |P_i|) sum_{j in P_i} ln ( exp(z_ij) / sum_k exp(z_ik) )
/// L   = mean_i L_i
/// ```
///
/// # Notes
///
/// - This is [`BankInfoNce`] after every positive weight became 1; `P_i` holds the neighbours with
///   a positive weight, so a policy drops a neighbour by giving it weight 0.
/// - The released code stores a dropped neighbour as index -1, which makes the last row of the bank
///   a positive of nearly every query. That is not reproduced here.
/// - A query without neighbours contributes 0.
///
/// # Source
///
/// An et al., "Fine-grained Category Discovery under Coarse-grained supervision with Hierarchical
/// Weighted Self-contrastive Learning" started the task; "DNA: Denoised Neighborhood Aggregation
/// for Fine-grained Category Discovery" is this loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dna {
    core: BankInfoNce,
}

impl Dna {
    /// Mean of [`Dna::forward_per_item`] over the batch.
    ///
    /// # Shapes
    ///
    /// - `queries`: `[batch, dim]`
    /// - `bank`: `[rows, dim]`, normally without gradient
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// As [`BankInfoNce::forward_per_item`].
    pub fn forward(
        &self,
        queries: Tensor<2>,
        bank: Tensor<2>,
        targets: &NeighbourTargets,
    ) -> Result<Tensor<1>, LossError> {
        self.core.forward(queries, bank, &targets.binary())
    }

    /// The loss of every query.
    ///
    /// # Shapes
    ///
    /// - `queries`: `[batch, dim]`
    /// - `bank`: `[rows, dim]`
    /// - `targets`: `[batch, width]`
    /// - output: `[batch]`
    ///
    /// # Errors
    ///
    /// As [`BankInfoNce::forward_per_item`].
    pub fn forward_per_item(
        &self,
        queries: Tensor<2>,
        bank: Tensor<2>,
        targets: &NeighbourTargets,
    ) -> Result<Tensor<1>, LossError> {
        self.core.forward_per_item(queries, bank, &targets.binary())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn every_neighbour_counts_the_same_whatever_its_weight() {
        // z = (1, 0, 0): ln(e + 2) = 1.551445; neighbours 0 and 1 -> mean z = 0.5.
        let device = Device::flex();
        let queries = Tensor::from_floats([[1.0, 0.0, 0.0]], &device);
        let bank =
            Tensor::from_floats([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], &device);
        let rows = [vec![(0, 0.9), (1, 0.1), (2, 0.0)]];
        let targets = NeighbourTargets::from_rows(&rows, &device).unwrap();
        let dna = DnaConfig::new().with_temperature(1.0).init().unwrap();
        let loss: f32 = dna.forward(queries, bank, &targets).unwrap().into_scalar();
        approx::assert_abs_diff_eq!(loss, 1.051_444_7, epsilon = 1e-6);
    }

    #[test]
    fn bad_temperatures_are_refused() {
        for temperature in [0.0, -1.0, f64::NAN] {
            assert!(
                DnaConfig::new()
                    .with_temperature(temperature)
                    .init()
                    .is_err()
            );
        }
    }
}
