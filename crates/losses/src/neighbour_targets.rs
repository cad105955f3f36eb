//! Who the neighbours of a query are and how much each of them counts.

use burn::config::Config;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::error::{LossError, check_shape};

/// What happens to the weights of a row before the loss is formed.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum WeightNormalization {
    /// Divide by the sum of the row: `w_ir / sum_s w_is`, what the released code of DOWN, DNA and
    /// STAR does. A row whose weights are all zero stays zero.
    Row,
    /// Use the weights as they are, what the printed formula of STAR says.
    None,
}

/// Neighbours of each query of a batch: positions in the bank and weights.
///
/// This is what a neighbour policy hands to an objective over a bank. Rows have one common width;
/// a shorter list is filled up with weight 0 and any valid id. An id that occurs twice in a row
/// counts with the sum of its weights. A row whose weights are all zero has no neighbours and
/// contributes 0 to every loss, value and gradient, by rule; it still counts in the batch mean.
///
/// Values are checked once, when the targets are built. [`NeighbourTargets::from_rows`] checks on
/// the host; [`NeighbourTargets::new`] has to copy both tensors to the host for it.
///
/// # Shapes
///
/// - ids: `[batch, width]`
/// - weights: `[batch, width]`
///
/// # Example
///
/// ```
/// use burn::tensor::Device;
/// use losses::NeighbourTargets;
///
/// # fn main() -> Result<(), losses::LossError> {
/// // The first query has two neighbours, the second has one.
/// let rows = [vec![(0, 1.0), (7, 0.5)], vec![(3, 1.0)]];
/// let targets = NeighbourTargets::from_rows(&rows, &Device::flex())?;
/// assert_eq!(targets.dims(), [2, 2]);
/// assert_eq!(targets.largest_id(), 7);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct NeighbourTargets {
    ids: Tensor<2, Int>,
    weights: Tensor<2>,
    largest_id: usize,
}

impl NeighbourTargets {
    /// Takes ids and weights that are already tensors.
    ///
    /// # Arguments
    ///
    /// - `ids`: positions in the bank, `[batch, width]`
    /// - `weights`: finite and not negative, `[batch, width]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if a tensor is empty or the shapes differ, [`LossError::Value`] for a
    /// negative id or a weight that is negative or not finite, [`LossError::Read`] if the values
    /// cannot be read.
    pub fn new(ids: Tensor<2, Int>, weights: Tensor<2>) -> Result<Self, LossError> {
        let dims = ids.dims();
        check_width(dims)?;
        check_shape(OP, "weights", &weights.dims(), &dims)?;
        let host_ids = ids
            .try_to_vec_as::<i64>()
            .map_err(|source| LossError::Read {
                op: OP,
                what: "ids",
                source,
            })?;
        let host_weights = weights
            .try_to_vec_as::<f32>()
            .map_err(|source| LossError::Read {
                op: OP,
                what: "weights",
                source,
            })?;
        let largest_id = check_ids(&host_ids, dims[1])?;
        check_weights(&host_weights, dims[1])?;
        Ok(Self {
            ids,
            weights,
            largest_id,
        })
    }

    /// Builds targets from one list of `(id, weight)` per query and fills up the shorter lists.
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] without any row, [`LossError::Value`] for a weight that is negative or
    /// not finite or an id that does not fit the index type of the device (32 bits).
    pub fn from_rows(rows: &[Vec<(usize, f32)>], device: &Device) -> Result<Self, LossError> {
        let width = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
        check_width([rows.len(), width])?;
        let mut ids = Vec::with_capacity(rows.len() * width);
        let mut weights = Vec::with_capacity(rows.len() * width);
        for row in rows {
            let filler = row.first().map_or(0, |&(id, _)| id);
            let padded = row
                .iter()
                .copied()
                .chain(std::iter::repeat((filler, 0.0)))
                .take(width);
            for (id, weight) in padded {
                // An id beyond i64 is caught as out of range below.
                ids.push(i64::try_from(id).unwrap_or(i64::MAX));
                weights.push(weight);
            }
        }
        let largest_id = check_ids(&ids, width)?;
        check_weights(&weights, width)?;
        let shape = [rows.len(), width];
        Ok(Self {
            ids: Tensor::from_data(TensorData::new(ids, shape), device),
            weights: Tensor::from_data(TensorData::new(weights, shape), device),
            largest_id,
        })
    }

    /// Reads targets off a dense matrix of weights, where 0 means "no neighbour".
    ///
    /// Meant for tests and small cases; the matrix is copied to the host.
    ///
    /// # Arguments
    ///
    /// - `weights`: finite and not negative, `[batch, rows of the bank]`
    ///
    /// # Errors
    ///
    /// As [`NeighbourTargets::new`].
    pub fn from_dense(weights: Tensor<2>) -> Result<Self, LossError> {
        let [batch, columns] = weights.dims();
        check_width([batch, columns])?;
        let device = weights.device();
        let values = weights
            .try_into_vec_as::<f32>()
            .map_err(|source| LossError::Read {
                op: OP,
                what: "weights",
                source,
            })?;
        // Before the zeros are dropped, so that the message names the true column.
        check_weights(&values, columns)?;
        let rows: Vec<Vec<(usize, f32)>> = values
            .chunks(columns)
            .map(|row| {
                row.iter()
                    .copied()
                    .enumerate()
                    .filter(|&(_, weight)| weight != 0.0)
                    .collect()
            })
            .collect();
        Self::from_rows(&rows, &device)
    }

    /// The same neighbours, each with weight 1 where it had a positive weight.
    pub fn binary(&self) -> Self {
        let zero = self.weights.clone().lower_equal_scalar(0.0);
        Self {
            ids: self.ids.clone(),
            weights: self.weights.ones_like().mask_fill(zero, 0.0),
            largest_id: self.largest_id,
        }
    }

    /// Positions in the bank, `[batch, width]`.
    pub fn ids(&self) -> Tensor<2, Int> {
        self.ids.clone()
    }

    /// Weights as given, `[batch, width]`.
    pub fn weights(&self) -> Tensor<2> {
        self.weights.clone()
    }

    /// Weights after `normalization`, `[batch, width]`.
    pub fn weights_with(&self, normalization: WeightNormalization) -> Tensor<2> {
        match normalization {
            WeightNormalization::None => self.weights.clone(),
            WeightNormalization::Row => {
                let sum = self.weights.clone().sum_dim(1); // [batch, 1]
                let empty = sum.clone().lower_equal_scalar(0.0);
                self.weights.clone() / sum.mask_fill(empty, 1.0)
            }
        }
    }

    /// `[batch, width]`.
    pub fn dims(&self) -> [usize; 2] {
        self.ids.dims()
    }

    /// Largest id of all rows; a bank needs more rows than this.
    pub fn largest_id(&self) -> usize {
        self.largest_id
    }

    /// Refuses a batch of another size and a bank that is too short.
    pub(crate) fn check_against(
        &self,
        op: &'static str,
        batch: usize,
        bank_rows: usize,
    ) -> Result<(), LossError> {
        let [rows, width] = self.dims();
        check_shape(op, "targets", &[rows, width], &[batch, width])?;
        if self.largest_id < bank_rows {
            Ok(())
        } else {
            Err(LossError::NeighbourOutOfBank {
                op,
                rows: bank_rows,
                found: self.largest_id,
            })
        }
    }
}

const OP: &str = "neighbour_targets";

fn check_width(found: [usize; 2]) -> Result<(), LossError> {
    crate::error::check_not_empty(OP, "ids", found)
}

/// Returns the largest id. Devices index with 32 bits by default, hence the upper end.
fn check_ids(ids: &[i64], width: usize) -> Result<usize, LossError> {
    let mut largest = 0;
    for (position, &id) in ids.iter().enumerate() {
        match usize::try_from(id) {
            Ok(id) if i32::try_from(id).is_ok() => largest = largest.max(id),
            _ => {
                return Err(LossError::Value {
                    op: OP,
                    what: "id",
                    row: position / width,
                    column: position % width,
                    expected: format!("0 to {}", i32::MAX),
                    found: id as f64,
                });
            }
        }
    }
    Ok(largest)
}

fn check_weights(weights: &[f32], width: usize) -> Result<(), LossError> {
    match weights
        .iter()
        .position(|weight| !weight.is_finite() || *weight < 0.0)
    {
        None => Ok(()),
        Some(position) => Err(LossError::Value {
            op: OP,
            what: "weight",
            row: position / width,
            column: position % width,
            expected: "a finite number that is not negative".to_owned(),
            found: f64::from(weights.get(position).copied().unwrap_or(f32::NAN)),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn floats(x: Tensor<2>) -> Vec<f32> {
        x.try_to_vec_as::<f32>().unwrap()
    }

    #[test]
    fn short_rows_are_filled_with_weight_zero_and_a_valid_id() {
        let rows = [vec![(4, 1.0), (2, 0.5), (1, 0.25)], vec![(9, 1.0)], vec![]];
        let targets = NeighbourTargets::from_rows(&rows, &Device::flex()).unwrap();
        let ids = targets.ids().try_to_vec_as::<i64>().unwrap();
        assert_eq!(ids, [4, 2, 1, 9, 9, 9, 0, 0, 0]);
        let weights = floats(targets.weights());
        assert_eq!(weights, [1.0, 0.5, 0.25, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(targets.largest_id(), 9);
    }

    #[test]
    fn dense_weights_keep_only_what_is_not_zero() {
        let dense = Tensor::from_floats([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]], &Device::flex());
        let targets = NeighbourTargets::from_dense(dense).unwrap();
        assert_eq!(targets.ids().try_to_vec_as::<i64>().unwrap(), [1, 1, 0, 2]);
        assert_eq!(floats(targets.weights()), [2.0, 0.0, 1.0, 3.0]);
    }

    #[test]
    fn row_normalisation_leaves_an_empty_row_at_zero() {
        let rows = [vec![(0, 3.0), (1, 1.0)], vec![(0, 0.0)]];
        let targets = NeighbourTargets::from_rows(&rows, &Device::flex()).unwrap();
        let row = floats(targets.weights_with(WeightNormalization::Row));
        assert_eq!(row, [0.75, 0.25, 0.0, 0.0]);
        let raw = floats(targets.weights_with(WeightNormalization::None));
        assert_eq!(raw, [3.0, 1.0, 0.0, 0.0]);
        assert_eq!(floats(targets.binary().weights()), [1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn bad_values_are_refused_with_their_place() {
        let device = Device::flex();
        let ids = Tensor::<2, Int>::from_ints([[0, 1], [2, -1]], &device);
        let weights = Tensor::<2>::ones([2, 2], &device);
        let message = NeighbourTargets::new(ids, weights).unwrap_err().to_string();
        assert!(
            message.starts_with("neighbour_targets: id at row 1, column 1 is -1"),
            "{message}"
        );
        for bad in [-0.5, f32::NAN, f32::INFINITY] {
            let rows = [vec![(0, 1.0)], vec![(0, 1.0), (1, bad)]];
            let error = NeighbourTargets::from_rows(&rows, &device).unwrap_err();
            assert!(
                matches!(
                    error,
                    LossError::Value {
                        row: 1,
                        column: 1,
                        ..
                    }
                ),
                "{error}"
            );
        }
        let huge = [vec![(usize::MAX, 1.0)]];
        assert!(NeighbourTargets::from_rows(&huge, &device).is_err());
    }

    #[test]
    fn bad_shapes_are_refused() {
        let device = Device::flex();
        assert!(NeighbourTargets::from_rows(&[], &device).is_err());
        let ids = Tensor::<2, Int>::zeros([2, 3], &device);
        let weights = Tensor::<2>::ones([2, 2], &device);
        assert!(matches!(
            NeighbourTargets::new(ids, weights).unwrap_err(),
            LossError::Shape { .. }
        ));
    }

    #[test]
    fn a_bank_that_is_too_short_is_refused() {
        let rows = [vec![(5, 1.0)]];
        let targets = NeighbourTargets::from_rows(&rows, &Device::flex()).unwrap();
        assert!(targets.check_against("op", 1, 6).is_ok());
        let error = targets.check_against("op", 1, 5).unwrap_err().to_string();
        assert_eq!(
            error,
            "op: neighbour id 5 does not exist, the bank has 5 rows"
        );
        assert!(targets.check_against("op", 2, 6).is_err());
    }
}
