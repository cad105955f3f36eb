//! Weighted InfoNCE of a batch of queries over a memory bank, the objective of DOWN.

use burn::config::Config;
use burn::tensor::{Int, Tensor};
use kernels::BankCrossEntropy;

use crate::error::{LossError, check_parameter};
use crate::log_sum_exp::log_sum_exp;
use crate::neighbour_targets::{NeighbourTargets, WeightNormalization};
use crate::similarity::{InputNormalization, check_same_dim};

/// Configuration of [`BankInfoNce`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::{BankInfoNceConfig, NeighbourTargets};
///
/// # fn main() -> Result<(), losses::LossError> {
/// let device = Device::flex();
/// let loss = BankInfoNceConfig::new().with_temperature(0.07).init()?;
/// let bank = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
/// let queries = Tensor::<2>::from_floats([[1.0, 0.0]], &device);
/// let near = NeighbourTargets::from_rows(&[vec![(0, 1.0)]], &device)?;
/// let far = NeighbourTargets::from_rows(&[vec![(1, 1.0)]], &device)?;
/// let near: f32 = loss.forward(queries.clone(), bank.clone(), &near)?.into_scalar();
/// let far: f32 = loss.forward(queries, bank, &far)?.into_scalar();
/// assert!(near < far);
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, Copy, PartialEq)]
pub struct BankInfoNceConfig {
    /// Temperature tau that divides the similarities. Finite and greater than 0. Default: 0.07
    #[config(default = 0.07)]
    pub temperature: f64,
    /// Treatment of the neighbour weights. Default: divided by their row sum
    #[config(default = "WeightNormalization::Row")]
    pub weight_normalization: WeightNormalization,
    /// Which inputs are brought to unit length first. Default: the queries
    #[config(default = "InputNormalization::Queries")]
    pub normalize_inputs: InputNormalization,
}

impl BankInfoNceConfig {
    /// Checks the parameters and builds the loss.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] if the temperature is not finite or not greater than 0.
    pub fn init(&self) -> Result<BankInfoNce, LossError> {
        check_temperature("bank_info_nce", self.temperature)?;
        Ok(BankInfoNce { config: *self })
    }
}

/// Weighted InfoNCE over a memory bank (DOWN).
///
/// # Mathematical Definition
///
/// With queries `q_i`, bank rows `h_j`, `z_ij = q_i . h_j / tau`, neighbours `n(i, r)` and weights
/// `w_ir`:
///
/// ```text
/// L_i = (sum_r w_ir) * ln sum_j exp(z_ij) - sum_r w_ir z_{i, n(i,r)}
/// L   = mean_i L_i
/// ```
///
/// which is `-sum_r w_ir ln softmax_j(z_i)[n(i,r)]`. The sum over `j` runs over the whole bank,
/// neighbours and the query's own row included.
///
/// # Notes
///
/// - Weights divided by their row sum (the default) make the first factor 1.
/// - As tau goes to infinity, `L_i` tends to `ln(rows)` for normalised weights.
/// - A query without neighbours contributes 0.
/// - Largest tensor: `[batch, rows]`. No mask of that size is formed.
/// - [`Dna`](crate::Dna) is this loss with binary weights; [`Star`](crate::Star) with base 1 and
///   gamma 0 equals it.
///
/// # Source
///
/// An et al., "DOWN: Dynamic Order Weighted Network for Fine-grained Category Discovery";
/// normalisation as in the released code.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BankInfoNce {
    config: BankInfoNceConfig,
}

impl BankInfoNce {
    /// The checked configuration.
    pub fn config(&self) -> &BankInfoNceConfig {
        &self.config
    }

    /// Mean of [`BankInfoNce::forward_per_item`] over the batch.
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
        Ok(self.forward_per_item(queries, bank, targets)?.mean())
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
    /// [`LossError::Shape`] if the shapes do not fit together, [`LossError::NeighbourOutOfBank`] if
    /// a neighbour id is not a row of the bank.
    pub fn forward_per_item(
        &self,
        queries: Tensor<2>,
        bank: Tensor<2>,
        targets: &NeighbourTargets,
    ) -> Result<Tensor<1>, LossError> {
        check_bank_inputs("bank_info_nce", &queries, &bank, targets)?;
        let (queries, bank) = self.config.normalize_inputs.apply(queries, bank);
        let weights = targets.weights_with(self.config.weight_normalization);
        let temperature = self.config.temperature;
        Ok(bank_cross_entropy(
            queries,
            bank,
            targets.ids(),
            weights,
            temperature,
        ))
    }
}

/// [`neighbour_cross_entropy`] of the scaled scores, as one operation where the backend has it.
pub(crate) fn bank_cross_entropy(
    queries: Tensor<2>,
    bank: Tensor<2>,
    ids: Tensor<2, Int>,
    weights: Tensor<2>,
    temperature: f64,
) -> Tensor<1> {
    let inputs = BankCrossEntropy {
        queries,
        bank,
        ids,
        weights,
        scale: 1.0 / temperature,
    };
    kernels::bank_cross_entropy(inputs).unwrap_or_else(|inputs| {
        let BankCrossEntropy {
            queries,
            bank,
            ids,
            weights,
            ..
        } = *inputs;
        let logits = scaled_scores(queries, bank, temperature); // [batch, rows]
        neighbour_cross_entropy(logits.clone(), logits, ids, weights)
    })
}

/// `q_i . h_j / tau`, `[batch, rows]`. The temperature goes into the smaller factor.
pub(crate) fn scaled_scores(queries: Tensor<2>, bank: Tensor<2>, temperature: f64) -> Tensor<2> {
    queries
        .mul_scalar(1.0 / temperature)
        .matmul(bank.transpose())
}

/// Cross entropy of a weighted set of bank rows, the core of all objectives over a bank:
/// `(sum_r w_ir) ln sum_j exp(denominator_ij) - sum_r w_ir numerator_{i, n(i,r)}`, `[batch]`.
pub(crate) fn neighbour_cross_entropy(
    denominator: Tensor<2>,
    numerator: Tensor<2>,
    ids: Tensor<2, Int>,
    weights: Tensor<2>,
) -> Tensor<1> {
    let total = weights.clone().sum_dim(1).squeeze_dim::<1>(1); // [batch]
    let positive = (numerator.gather(1, ids) * weights) // [batch, width]
        .sum_dim(1)
        .squeeze_dim::<1>(1);
    total * log_sum_exp(denominator) - positive
}

/// Refuses inputs of a bank objective that do not fit together.
pub(crate) fn check_bank_inputs(
    op: &'static str,
    queries: &Tensor<2>,
    bank: &Tensor<2>,
    targets: &NeighbourTargets,
) -> Result<(), LossError> {
    check_same_dim(op, queries, bank)?;
    targets.check_against(op, queries.dims()[0], bank.dims()[0])
}

/// Refuses a temperature that is not finite or not greater than 0.
pub(crate) fn check_temperature(op: &'static str, temperature: f64) -> Result<(), LossError> {
    check_parameter(
        op,
        "temperature",
        temperature,
        "a finite number greater than 0",
        |t| t > 0.0,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn unit_loss() -> BankInfoNce {
        BankInfoNceConfig::new()
            .with_temperature(1.0)
            .init()
            .unwrap()
    }

    #[test]
    fn hand_computed_value() {
        // One query along the first axis, bank along the axes: z = (1, 0).
        // ln(e + 1) = 1.313262; neighbours 0 and 1 with weights 3 and 1 -> 3/4, 1/4.
        // L = 1.313262 - (0.75 * 1 + 0.25 * 0) = 0.563262
        let device = Device::flex();
        let queries = Tensor::from_floats([[4.0, 0.0]], &device);
        let bank = Tensor::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
        let targets = NeighbourTargets::from_rows(&[vec![(0, 3.0), (1, 1.0)]], &device).unwrap();
        let loss: f32 = unit_loss()
            .forward(queries, bank, &targets)
            .unwrap()
            .into_scalar();
        approx::assert_abs_diff_eq!(loss, 0.563_261_7, epsilon = 1e-6);
    }

    #[test]
    fn a_query_without_neighbours_contributes_nothing() {
        let device = Device::flex().autodiff();
        let queries = Tensor::<2>::from_floats([[1.0, 0.5], [0.2, 1.0]], &device).require_grad();
        let bank = Tensor::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
        let rows = [vec![], vec![(1, 1.0)]];
        let targets = NeighbourTargets::from_rows(&rows, &device).unwrap();
        let loss = unit_loss();
        let items = loss
            .forward_per_item(queries.clone(), bank, &targets)
            .unwrap();
        let values = items.clone().try_to_vec_as::<f32>().unwrap();
        assert_eq!(values[0], 0.0);
        assert!(values[1] > 0.0);
        let grads = items.mean().backward();
        let gradient = queries
            .grad(&grads)
            .unwrap()
            .try_to_vec_as::<f32>()
            .unwrap();
        assert_eq!(gradient[..2], [0.0, 0.0]);
        assert!(gradient[2..].iter().all(|g| *g != 0.0));
    }

    #[test]
    fn bad_temperatures_are_refused() {
        for temperature in [0.0, -0.1, f64::NAN, f64::INFINITY] {
            let config = BankInfoNceConfig::new().with_temperature(temperature);
            assert!(matches!(
                config.init(),
                Err(LossError::Parameter {
                    name: "temperature",
                    ..
                })
            ));
        }
    }

    #[test]
    fn inputs_that_do_not_fit_are_refused() {
        let device = Device::flex();
        let ones = |rows, columns| Tensor::<2>::ones([rows, columns], &device);
        let targets = NeighbourTargets::from_rows(&[vec![(3, 1.0)], vec![(0, 1.0)]], &device);
        let targets = targets.unwrap();
        let loss = unit_loss();
        assert!(loss.forward(ones(2, 4), ones(5, 4), &targets).is_ok());
        assert!(loss.forward(ones(2, 4), ones(5, 3), &targets).is_err());
        assert!(loss.forward(ones(3, 4), ones(5, 4), &targets).is_err());
        let error = loss.forward(ones(2, 4), ones(3, 4), &targets).unwrap_err();
        assert_eq!(
            error.to_string(),
            "bank_info_nce: neighbour id 3 does not exist, the bank has 3 rows"
        );
    }

    /// The operation with its own backward pass against the composition of plain operations.
    #[test]
    fn fused_and_composed_forms_agree_in_value_and_gradient() {
        let device = Device::flex().autodiff();
        let wave = |rows: usize, columns: usize, speed: f32| {
            let values: Vec<f32> = (0..rows * columns)
                .map(|i| (speed * i as f32).sin() + (0.013 * i as f32).cos())
                .collect();
            let data = TensorData::new(values, [rows, columns]);
            Tensor::<2>::from_data(data, &device).require_grad()
        };
        for (batch, rows, dim, width, temperature) in [
            (1, 1, 1, 1, 1.0),
            (1, 513, 7, 3, 0.5),
            (4, 1, 3, 2, 0.1),
            (9, 256, 31, 5, 0.3),
            (33, 1300, 40, 12, 0.7),
        ] {
            let (queries, bank) = (wave(batch, dim, 1.37), wave(rows, dim, 2.11));
            let neighbours: Vec<Vec<(usize, f32)>> = (0..batch)
                .map(|i| {
                    let near = |r: usize| ((31 * i + 7 * r * r) % rows, 1.0 / (1.0 + r as f32));
                    // Every third query has a shorter list, the last one none.
                    let length = if i % 3 == 2 { width / 2 } else { width };
                    (0..if i + 1 == batch && i > 0 { 0 } else { length })
                        .map(near)
                        .collect()
                })
                .collect();
            let targets = NeighbourTargets::from_rows(&neighbours, &device).unwrap();
            for normalization in [WeightNormalization::Row, WeightNormalization::None] {
                let weights = targets.weights_with(normalization);
                let evaluate = |items: Tensor<1>| {
                    let cotangent: Vec<f32> = (0..batch).map(|i| (i as f32).cos()).collect();
                    let cotangent = Tensor::<1>::from_floats(cotangent.as_slice(), &device);
                    let grads = (items.clone() * cotangent).sum().backward();
                    let floats = |x: Tensor<2>| x.try_into_vec_as::<f32>().unwrap();
                    [
                        items.try_into_vec_as::<f32>().unwrap(),
                        floats(queries.grad(&grads).unwrap()),
                        floats(bank.grad(&grads).unwrap()),
                    ]
                };
                let inputs = BankCrossEntropy {
                    queries: queries.clone(),
                    bank: bank.clone(),
                    ids: targets.ids(),
                    weights: weights.clone(),
                    scale: 1.0 / temperature,
                };
                let fused = evaluate(kernels::bank_cross_entropy(inputs).unwrap());
                let logits = scaled_scores(queries.clone(), bank.clone(), temperature);
                let composed =
                    neighbour_cross_entropy(logits.clone(), logits, targets.ids(), weights);
                let composed = evaluate(composed);
                for (fused, composed) in fused.iter().zip(&composed) {
                    let largest = composed.iter().fold(0f32, |most, x| most.max(x.abs()));
                    // With one bank row the gradient is `W - sum w`: rounding and nothing else.
                    let floor = 1e-6 / temperature as f32;
                    for (fused, composed) in fused.iter().zip(composed) {
                        assert!(
                            (fused - composed).abs() <= 1e-5 * largest + floor,
                            "{batch} x {rows}: {fused} against {composed}"
                        );
                    }
                }
            }
        }
    }
}
