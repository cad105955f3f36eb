//! The memory bank: one slot a training sample.

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

use crate::error::{QueueError, Result};

/// A full-size memory bank, `[n, dim]`: row `j` is the stored vector of sample `j`.
///
/// Not a first-in-first-out queue: slots are addressed by sample id, [`refill`](Self::refill)ed
/// from the online encoder before an epoch and overwritten with momentum embeddings as the batches
/// pass (published code of DOWN and STAR, `down.py`; in the articles it is called a dynamic queue).
///
/// Rows are constants. The bank holds its tensor outside autodiff, so nothing it hands out carries a
/// graph, and combined with a tracked query it acts as a constant.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use queue::MemoryBank;
///
/// let device = Device::flex();
/// let mut bank = MemoryBank::new(Tensor::zeros([3, 2], &device))?;
/// bank.update(&[2, 0], Tensor::from_floats([[0.6, 0.8], [1.0, 0.0]], &device))?;
/// let rows: Vec<f32> = bank.vectors().into_data().try_to_vec().unwrap_or_default();
/// assert_eq!(rows, [1.0, 0.0, 0.0, 0.0, 0.6, 0.8]);
/// # Ok::<(), queue::QueueError>(())
/// ```
#[derive(Debug, Clone)]
pub struct MemoryBank {
    vectors: Tensor<2>,
}

impl MemoryBank {
    /// A bank over `vectors`, `[n, dim]`.
    ///
    /// # Errors
    /// [`QueueError::Shape`] for an empty tensor, [`QueueError::NotFinite`] for a NaN or infinity.
    pub fn new(vectors: Tensor<2>) -> Result<Self> {
        Ok(Self {
            vectors: checked_bank("MemoryBank::new", vectors)?,
        })
    }

    /// The stored vectors, `[n, dim]`, without gradient. A handle, not a copy.
    ///
    /// While a handle (or a graph that recorded it) is alive, the next [`update`](Self::update) must
    /// copy the whole bank to leave the handle unchanged. Drop it first, that is: update after the
    /// backward pass, and the update writes only its own rows.
    #[must_use]
    pub fn vectors(&self) -> Tensor<2> {
        self.vectors.clone()
    }

    /// Number of slots.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vectors.dims()[0]
    }

    /// Always false: a bank has at least one slot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of a stored vector.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.vectors.dims()[1]
    }

    /// The device the vectors live on, without autodiff.
    #[must_use]
    pub fn device(&self) -> Device {
        self.vectors.device()
    }

    /// Overwrites slot `ids[r]` with row `r` of `rows`, `[ids.len(), dim]`; bits are kept.
    ///
    /// All or nothing: a refused update changes no slot. The gradient of `rows` is dropped.
    ///
    /// # Errors
    /// [`QueueError::Shape`] if the shape or element type does not fit, [`QueueError::IdOutOfRange`],
    /// [`QueueError::DuplicateId`] (the order of two writes to one slot is undefined on accelerators,
    /// so it is refused everywhere), [`QueueError::NotFinite`] (reads `rows` to the host).
    pub fn update(&mut self, ids: &[usize], rows: Tensor<2>) -> Result<()> {
        const OPERATION: &str = "MemoryBank::update";
        let [n, dim] = self.vectors.dims();
        let expected = [ids.len(), dim];
        if rows.dims() != expected {
            return Err(QueueError::shape(OPERATION, "rows", expected, rows.dims()));
        }
        if rows.dtype() != self.vectors.dtype() {
            return Err(QueueError::shape(
                OPERATION,
                "element type",
                self.vectors.dtype(),
                rows.dtype(),
            ));
        }
        if ids.is_empty() {
            return Ok(());
        }
        check_ids(OPERATION, ids, n)?;
        let rows = rows.without_autodiff();
        check_finite_tensor(OPERATION, &rows)?;

        let device = self.vectors.device();
        let rows = rows.to_device(&device);
        let index = index_tensor(ids, &device);
        // The bank gives its own handle away for the time of the write: a unique handle is written
        // in place. The placeholder is a handle to `rows` and costs nothing.
        let vectors = std::mem::replace(&mut self.vectors, rows.clone());
        self.vectors = vectors.select_assign(0, index, rows, IndexingUpdateOp::Assign);
        Ok(())
    }

    /// Replaces every slot by `vectors`, `[n, dim]`, on the device of `vectors`.
    ///
    /// # Errors
    /// [`QueueError::Shape`] if n, dim or the element type change, [`QueueError::NotFinite`].
    pub fn refill(&mut self, vectors: Tensor<2>) -> Result<()> {
        const OPERATION: &str = "MemoryBank::refill";
        if vectors.dims() != self.vectors.dims() {
            return Err(QueueError::shape(
                OPERATION,
                "vectors",
                self.vectors.dims(),
                vectors.dims(),
            ));
        }
        if vectors.dtype() != self.vectors.dtype() {
            return Err(QueueError::shape(
                OPERATION,
                "element type",
                self.vectors.dtype(),
                vectors.dtype(),
            ));
        }
        self.vectors = checked_bank(OPERATION, vectors)?;
        Ok(())
    }

    /// The stored vectors as host data, `[n, dim]`, for a checkpoint.
    ///
    /// # Errors
    /// [`QueueError::Device`] if the device fails.
    pub fn to_data(&self) -> Result<TensorData> {
        self.vectors
            .clone()
            .try_into_data()
            .map_err(|error| QueueError::device("MemoryBank::to_data", error))
    }

    /// The bank that [`to_data`](Self::to_data) described, bit for bit.
    ///
    /// # Errors
    /// [`QueueError::Shape`] if `data` is not a non-empty matrix of floats,
    /// [`QueueError::NotFinite`].
    pub fn from_data(data: TensorData, device: &Device) -> Result<Self> {
        const OPERATION: &str = "MemoryBank::from_data";
        if data.shape().num_dims() != 2 {
            return Err(QueueError::shape(
                OPERATION,
                "number of dimensions",
                2,
                data.shape().num_dims(),
            ));
        }
        if !data.dtype().is_float() {
            return Err(QueueError::shape(
                OPERATION,
                "element type",
                "a float type",
                data.dtype(),
            ));
        }
        let dtype = data.dtype();
        let device = device.clone().without_autodiff();
        let vectors = checked_bank(OPERATION, Tensor::from_data(data, (&device, dtype)))?;
        Ok(Self { vectors })
    }
}

/// Ids as an index tensor, `[ids.len()]`.
pub(crate) fn index_tensor(ids: &[usize], device: &Device) -> Tensor<1, Int> {
    // Ids were checked against a row count before; banks beyond 2^31 rows do not fit a device.
    let index: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    Tensor::from_data(TensorData::new(index, [ids.len()]), device)
}

/// Refuses ids outside `0..rows` and repeated ids.
fn check_ids(operation: &'static str, ids: &[usize], rows: usize) -> Result<()> {
    if let Some(&id) = ids.iter().find(|&&id| id >= rows) {
        return Err(QueueError::IdOutOfRange {
            operation,
            id,
            rows,
        });
    }
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(QueueError::DuplicateId {
            operation,
            id: pair[0],
        }),
        None => Ok(()),
    }
}

/// The tensor outside autodiff, refused if it is empty or not finite.
fn checked_bank(operation: &'static str, vectors: Tensor<2>) -> Result<Tensor<2>> {
    let [n, dim] = vectors.dims();
    if n == 0 || dim == 0 {
        return Err(QueueError::shape(
            operation,
            "vectors",
            "[n >= 1, dim >= 1]",
            [n, dim],
        ));
    }
    if n > i32::MAX as usize {
        return Err(QueueError::shape(operation, "rows", "at most 2^31 - 1", n));
    }
    let vectors = vectors.without_autodiff();
    check_finite_tensor(operation, &vectors)?;
    Ok(vectors)
}

fn check_finite_tensor(operation: &'static str, rows: &Tensor<2>) -> Result<()> {
    let [_, dim] = rows.dims();
    let data = host_data(operation, rows.clone())?;
    check_finite(operation, host_slice(operation, &data)?, dim)
}

/// The values of a matrix as f32 data on the host, row by row; no copy where the device is the host
/// and the handle is unique.
pub(crate) fn host_data(operation: &'static str, rows: Tensor<2>) -> Result<TensorData> {
    rows.try_into_data_as::<f32>()
        .map_err(|error| QueueError::device(operation, error))
}

/// The values of [`host_data`] as a slice.
pub(crate) fn host_slice<'a>(operation: &'static str, data: &'a TensorData) -> Result<&'a [f32]> {
    data.as_slice::<f32>()
        .map_err(|error| QueueError::device(operation, error))
}

/// Refuses the first NaN or infinity, naming its row and column.
pub(crate) fn check_finite(operation: &'static str, values: &[f32], dim: usize) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(QueueError::NotFinite {
            operation,
            row: at / dim.max(1),
            column: at % dim.max(1),
            value: values.get(at).copied().unwrap_or(f32::NAN),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn tensor(values: &[f32], dim: usize) -> Tensor<2> {
        let data = TensorData::new(values.to_vec(), [values.len() / dim, dim]);
        Tensor::from_data(data, &Device::flex())
    }

    fn bits(tensor: Tensor<2>) -> Vec<u32> {
        let values: Vec<f32> = tensor.into_data().try_into_vec().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn awkward_bits_survive() {
        let mut bank = MemoryBank::new(tensor(&[1.0; 6], 2)).unwrap();
        let rows = [-0.0, f32::MIN_POSITIVE / 8.0, f32::MAX, 0.1 + 0.2];
        bank.update(&[2, 0], tensor(&rows, 2)).unwrap();
        let expected = [f32::MAX, 0.1 + 0.2, 1.0, 1.0, -0.0, f32::MIN_POSITIVE / 8.0];
        assert_eq!(bits(bank.vectors()), expected.map(f32::to_bits));
    }

    #[test]
    fn a_handle_taken_before_an_update_keeps_its_values() {
        let mut bank = MemoryBank::new(tensor(&[1.0, 2.0, 3.0, 4.0], 2)).unwrap();
        let before = bank.vectors();
        bank.update(&[1], tensor(&[9.0, 9.0], 2)).unwrap();
        assert_eq!(bits(before), [1.0, 2.0, 3.0, 4.0].map(f32::to_bits));
        assert_eq!(
            bits(bank.vectors()),
            [1.0_f32, 2.0, 9.0, 9.0].map(f32::to_bits)
        );
    }

    #[test]
    fn is_a_constant_beside_a_tracked_query() {
        let device = Device::flex().autodiff();
        let source = Tensor::<2>::from_floats([[1.0, 0.0], [0.6, 0.8]], &device).require_grad();
        let mut bank = MemoryBank::new(source.clone() * 1.0).unwrap();
        let query = Tensor::<2>::from_floats([[0.3, 0.4]], &device).require_grad();
        assert!(!bank.vectors().is_autodiff());
        let loss = query.clone().matmul(bank.vectors().transpose()).sum();
        // Written between forward and backward: the graph must keep what it saw.
        bank.update(&[0], Tensor::from_floats([[5.0, 5.0]], &device))
            .unwrap();
        let gradients = loss.backward();
        let gradient = query.grad(&gradients).unwrap();
        assert_eq!(bits(gradient), [1.6_f32, 0.8].map(f32::to_bits));
        assert!(source.grad(&gradients).is_none());
        // Rows that carry a graph are stored without it.
        bank.update(&[1], query * 2.0).unwrap();
        assert!(!bank.vectors().is_autodiff());
    }

    #[test]
    fn refill_and_round_trip_through_host_data() {
        let mut bank = MemoryBank::new(tensor(&[0.0; 6], 3)).unwrap();
        let values = [0.1, -0.2, 0.3, 0.4, 0.5, -0.6];
        bank.refill(tensor(&values, 3)).unwrap();
        let data = bank.to_data().unwrap();
        let restored = MemoryBank::from_data(data, &Device::flex().autodiff()).unwrap();
        assert_eq!((restored.len(), restored.dim()), (2, 3));
        assert!(!restored.is_empty());
        assert!(!restored.device().is_autodiff());
        assert_eq!(bits(restored.vectors()), values.map(f32::to_bits));
    }

    #[test]
    fn a_refused_update_changes_nothing() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut bank = MemoryBank::new(tensor(&values, 2)).unwrap();
        let row = || tensor(&[0.0, 0.0], 2);
        let two = || tensor(&[0.0; 4], 2);
        assert_eq!(
            bank.update(&[3], row()).unwrap_err(),
            QueueError::IdOutOfRange {
                operation: "MemoryBank::update",
                id: 3,
                rows: 3
            }
        );
        assert!(bank.update(&[usize::MAX], row()).is_err());
        assert!(matches!(
            bank.update(&[1, 1], two()),
            Err(QueueError::DuplicateId { id: 1, .. })
        ));
        assert!(bank.update(&[0], two()).is_err());
        assert!(bank.update(&[0, 1], row()).is_err());
        assert!(bank.update(&[0], tensor(&[0.0; 3], 3)).is_err());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = bank
                .update(&[0, 2], tensor(&[0.0, 0.0, 0.0, bad], 2))
                .unwrap_err();
            assert!(
                matches!(
                    error,
                    QueueError::NotFinite {
                        row: 1,
                        column: 1,
                        ..
                    }
                ),
                "{error}"
            );
        }
        assert!(bank.refill(two()).is_err());
        assert!(
            bank.refill(tensor(&[0.0, 0.0, 0.0, f32::NAN, 0.0, 0.0], 2))
                .is_err()
        );
        let double = tensor(&[0.0, 0.0], 2).cast(burn::tensor::DType::F64);
        assert!(bank.update(&[0], double).is_err());
        assert_eq!(bits(bank.vectors()), values.map(f32::to_bits));
    }

    #[test]
    fn unusable_banks_are_refused() {
        let device = Device::flex();
        assert!(MemoryBank::new(Tensor::zeros([0, 3], &device)).is_err());
        assert!(MemoryBank::new(tensor(&[f32::NAN], 1)).is_err());
        let flat = TensorData::new(vec![1.0_f32, 2.0], [2]);
        assert!(MemoryBank::from_data(flat, &device).is_err());
        let integers = TensorData::new(vec![1_i32, 2], [1, 2]);
        assert!(MemoryBank::from_data(integers, &device).is_err());
        let nan = TensorData::new(vec![1.0_f32, f32::NAN], [1, 2]);
        assert!(MemoryBank::from_data(nan, &device).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn equals_a_plain_table(
            n in 1usize..20, dim in 1usize..6,
            writes in prop::collection::vec((any::<u64>(), any::<u8>()), 0..6),
        ) {
            let mut table: Vec<Vec<f32>> = (0..n).map(|i| (0..dim).map(|d| (i * dim + d) as f32).collect()).collect();
            let mut bank = MemoryBank::new(tensor(&table.concat(), dim)).unwrap();
            for (seed, size) in writes {
                // Distinct ids: consecutive ones around the table.
                let ids: Vec<usize> = (0..usize::from(size) % (n + 1))
                    .map(|i| (i + (seed % n as u64) as usize) % n)
                    .collect();
                let rows: Vec<f32> = (0..ids.len() * dim)
                    .map(|i| f32::from_bits(((seed.rotate_left(i as u32) as u32) & 0x3fff_ffff) | 1))
                    .collect();
                if ids.is_empty() {
                    bank.update(&ids, Tensor::zeros([0, dim], &Device::flex())).unwrap();
                } else {
                    bank.update(&ids, tensor(&rows, dim)).unwrap();
                }
                for (r, &id) in ids.iter().enumerate() {
                    table[id] = rows[r * dim..(r + 1) * dim].to_vec();
                }
                let expected: Vec<u32> = table.concat().into_iter().map(f32::to_bits).collect();
                prop_assert_eq!(bits(bank.vectors()), expected);
            }
        }
    }
}
