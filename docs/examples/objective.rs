//! The objective of the recipe "add your own objective": a logistic loss over the bank.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use burn::tensor::activation::softplus;
use burn::tensor::{Device, Tensor};
use losses::{LossError, NeighbourTargets, WeightNormalization};

// ANCHOR: objective
/// Every bank row is a yes-or-no question: is it a neighbour of the query?
///
/// With `z_ij = q_i . h_j / tau`, neighbours `n(i, r)` and weights `w_ir` that sum to 1 in a row:
///
/// ```text
/// L_i = (1 / rows) sum_j ln(1 + exp(z_ij)) + sum_r w_ir ln(1 + exp(-z_{i, n(i,r)}))
/// L   = mean_i L_i
/// ```
struct BankLogistic {
    temperature: f64,
}

impl BankLogistic {
    /// Refuses a temperature that is not finite or not greater than 0.
    fn new(temperature: f64) -> Result<Self, LossError> {
        if temperature.is_finite() && temperature > 0.0 {
            Ok(Self { temperature })
        } else {
            Err(LossError::Parameter {
                op: "bank_logistic",
                name: "temperature",
                expected: "a finite number greater than 0",
                found: temperature,
            })
        }
    }

    /// Queries `[batch, dim]`, bank `[rows, dim]`, both of unit length; one number a query, `[batch]`.
    fn forward_per_item(
        &self,
        queries: Tensor<2>,
        bank: Tensor<2>,
        targets: &NeighbourTargets,
    ) -> Result<Tensor<1>, LossError> {
        let [batch, dim] = queries.dims();
        let [rows, width] = bank.dims();
        if dim != width || targets.dims()[0] != batch {
            return Err(LossError::Shape {
                op: "bank_logistic",
                what: "bank or targets",
                expected: format!("[rows, {dim}] and [{batch}, width]"),
                found: vec![rows, width, targets.dims()[0]],
            });
        }
        if targets.largest_id() >= rows {
            return Err(LossError::NeighbourOutOfBank {
                op: "bank_logistic",
                rows,
                found: targets.largest_id(),
            });
        }
        let logits = queries
            .mul_scalar(1.0 / self.temperature)
            .matmul(bank.transpose()); // [batch, rows]
        let weights = targets.weights_with(WeightNormalization::Row); // [batch, width]
        let away = softplus(logits.clone(), 1.0)
            .mean_dim(1)
            .squeeze_dim::<1>(1); // [batch]
        let positive = logits.gather(1, targets.ids()); // [batch, width]
        let towards = (softplus(positive.mul_scalar(-1.0), 1.0) * weights)
            .sum_dim(1)
            .squeeze_dim::<1>(1); // [batch]
        Ok(away + towards)
    }

    /// Mean over the batch, `[1]`.
    fn forward(
        &self,
        queries: Tensor<2>,
        bank: Tensor<2>,
        targets: &NeighbourTargets,
    ) -> Result<Tensor<1>, LossError> {
        Ok(self.forward_per_item(queries, bank, targets)?.mean())
    }
}
// ANCHOR_END: objective

// ANCHOR: test
const BANK: [[f32; 2]; 3] = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]];

/// The formula again, in f64 and by plain loops.
fn reference(query: [f32; 2], neighbours: &[(usize, f32)], temperature: f64) -> f64 {
    let z = |j: usize| {
        let dot: f64 = query
            .iter()
            .zip(BANK[j])
            .map(|(q, h)| f64::from(*q) * f64::from(h))
            .sum();
        dot / temperature
    };
    let total: f64 = neighbours.iter().map(|(_, w)| f64::from(*w)).sum();
    let away: f64 = (0..BANK.len()).map(|j| z(j).exp().ln_1p()).sum::<f64>() / BANK.len() as f64;
    let towards: f64 = neighbours
        .iter()
        .map(|(j, w)| f64::from(*w) / total * (-z(*j)).exp().ln_1p())
        .sum();
    away + towards
}

#[test]
fn value_equals_the_formula_and_the_gradient_a_finite_difference() {
    let device = Device::flex().autodiff();
    let neighbours = vec![(0, 1.0), (1, 0.5)];
    let loss = BankLogistic::new(0.5).unwrap();
    let bank = Tensor::<2>::from_floats(BANK, &device);
    let targets = NeighbourTargets::from_rows(std::slice::from_ref(&neighbours), &device).unwrap();

    let query = [0.8_f32, 0.6];
    let queries = Tensor::<2>::from_floats([query], &device).require_grad();
    let value = loss.forward(queries.clone(), bank, &targets).unwrap();
    let grads = value.backward();
    let got = f64::from(value.into_scalar::<f32>());
    assert!((got - reference(query, &neighbours, 0.5)).abs() < 1e-5);

    let gradient = queries
        .grad(&grads)
        .unwrap()
        .try_to_vec_as::<f32>()
        .unwrap();
    for (k, slope) in gradient.iter().enumerate() {
        let (mut up, mut down) = (query, query);
        up[k] += 1e-3;
        down[k] -= 1e-3;
        let step = f64::from(up[k]) - f64::from(down[k]);
        let wanted = (reference(up, &neighbours, 0.5) - reference(down, &neighbours, 0.5)) / step;
        assert!(
            (f64::from(*slope) - wanted).abs() < 1e-3,
            "coordinate {k}: {slope} and {wanted}"
        );
    }
}

#[test]
fn bad_input_is_refused() {
    let device = Device::flex();
    assert!(BankLogistic::new(0.0).is_err());
    let loss = BankLogistic::new(1.0).unwrap();
    let targets = NeighbourTargets::from_rows(&[vec![(3, 1.0)]], &device).unwrap();
    let queries = Tensor::<2>::ones([1, 2], &device);
    let error = loss
        .forward(queries, Tensor::from_floats(BANK, &device), &targets)
        .unwrap_err();
    assert!(matches!(
        error,
        LossError::NeighbourOutOfBank {
            rows: 3,
            found: 3,
            ..
        }
    ));
}
// ANCHOR_END: test
