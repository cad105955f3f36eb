//! The memory bank: one slot a training sample.

use std::cmp::Ordering;
use std::ops::Range;

use burn::tensor::{DType, Device, FloatDType, IndexingUpdateOp, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::error::{QueueError, Result};

/// The smallest magnitude that rounds to infinity in f16: halfway between the largest f16, 65504,
/// and the next power of two.
const HALF_OVERFLOW: f32 = 65_520.0;

/// The element type in which a [`MemoryBank`] keeps its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowStorage {
    /// 4 bytes a value, bits kept.
    #[default]
    F32,
    /// 2 bytes a value: IEEE 754 binary16, rounded to nearest even when a row is written.
    ///
    /// A value x of at least 6.1e-5 in magnitude is stored with a relative error of at most
    /// 2^-11 = 4.9e-4, a smaller one with an absolute error of at most 2^-25 = 3.0e-8. For two unit
    /// rows the dot product moves by at most 9.8e-4 + sqrt(dim) * 6e-8; as the roundings of
    /// different coordinates are independent, by about 1e-5 in practice. Values of 65520 and more
    /// are refused.
    F16,
}

/// Settings of [`MemoryBank`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryBankConfig {
    /// Element type of the stored rows. Default [`RowStorage::F32`].
    pub row_storage: RowStorage,
}

/// A full-size memory bank, `[n, dim]`: row `j` is the stored vector of sample `j`.
///
/// Not a first-in-first-out queue: slots are addressed by sample id, [`refill`](Self::refill)ed
/// from the online encoder before an epoch and overwritten with momentum embeddings as the batches
/// pass (published code of DOWN and STAR, `down.py`; in the articles it is called a dynamic queue).
///
/// [`MemoryBankConfig::row_storage`] halves its memory: rows are rounded to f16 when they are written
/// and every computation with them is done in f32, by blocks where
/// [`nearest_neighbours`](crate::nearest_neighbours) gets [`stored`](Self::stored).
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
    rows: Tensor<2>,
    config: MemoryBankConfig,
}

impl MemoryBank {
    /// A bank over `vectors`, `[n, dim]`, that keeps them as they are.
    ///
    /// # Errors
    /// [`QueueError::Shape`] for an empty tensor, [`QueueError::NotFinite`] for a NaN or infinity.
    pub fn new(vectors: Tensor<2>) -> Result<Self> {
        Self::with_config(vectors, MemoryBankConfig::default())
    }

    /// A bank over `vectors`, `[n, dim]`.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use queue::{MemoryBank, MemoryBankConfig, RowStorage};
    ///
    /// let rows = Tensor::<2>::from_floats([[0.6, 0.8], [1.0, 0.1]], &Device::flex());
    /// let config = MemoryBankConfig { row_storage: RowStorage::F16 };
    /// let bank = MemoryBank::with_config(rows, config)?;
    /// assert_eq!(bank.bytes(), 8);
    /// let rows: Vec<f32> = bank.vectors().into_data().try_to_vec().unwrap_or_default();
    /// assert_eq!(rows, [0.60009766, 0.7998047, 1.0, 0.099975586]);
    /// # Ok::<(), queue::QueueError>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`QueueError::TooLargeForHalf`] for a value that f16 cannot hold.
    pub fn with_config(vectors: Tensor<2>, config: MemoryBankConfig) -> Result<Self> {
        Ok(Self {
            rows: checked_bank("MemoryBank::new", vectors, config)?,
            config,
        })
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> MemoryBankConfig {
        self.config
    }

    /// The stored vectors, `[n, dim]`, without gradient, ready to compute with. A handle, not a copy;
    /// with [`RowStorage::F16`] a new f32 tensor of n * dim * 4 bytes.
    ///
    /// While a handle (or a graph that recorded it) is alive, the next [`update`](Self::update) must
    /// copy the whole bank to leave the handle unchanged. Drop it first, that is: update after the
    /// backward pass, and the update writes only its own rows.
    #[must_use]
    pub fn vectors(&self) -> Tensor<2> {
        to_f32(self.rows.clone())
    }

    /// The stored vectors, `[n, dim]`, without gradient, in the element type of the storage. Always a
    /// handle; see [`vectors`](Self::vectors) for what it costs to keep one.
    #[must_use]
    pub fn stored(&self) -> Tensor<2> {
        self.rows.clone()
    }

    /// Bytes that the rows occupy on the device.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.len() * self.dim() * self.rows.dtype().size()
    }

    /// Number of slots.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.dims()[0]
    }

    /// Always false: a bank has at least one slot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of a stored vector.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.rows.dims()[1]
    }

    /// The device the vectors live on, without autodiff.
    #[must_use]
    pub fn device(&self) -> Device {
        self.rows.device()
    }

    /// Overwrites slot `ids[r]` with row `r` of `rows`, `[ids.len(), dim]`; bits are kept, or rounded
    /// once to f16 with [`RowStorage::F16`].
    ///
    /// All or nothing: a refused update changes no slot. The gradient of `rows` is dropped.
    ///
    /// # Errors
    /// [`QueueError::Shape`] if the shape or element type does not fit, [`QueueError::IdOutOfRange`],
    /// [`QueueError::DuplicateId`] (the order of two writes to one slot is undefined on accelerators,
    /// so it is refused everywhere), [`QueueError::NotFinite`] (reads `rows` to the host),
    /// [`QueueError::TooLargeForHalf`].
    pub fn update(&mut self, ids: &[usize], rows: Tensor<2>) -> Result<()> {
        const OPERATION: &str = "MemoryBank::update";
        let [n, dim] = self.rows.dims();
        let expected = [ids.len(), dim];
        if rows.dims() != expected {
            return Err(QueueError::shape(OPERATION, "rows", expected, rows.dims()));
        }
        self.check_type(OPERATION, &rows)?;
        if ids.is_empty() {
            return Ok(());
        }
        check_ids(OPERATION, ids, n)?;
        let rows = checked_rows(OPERATION, rows, self.config)?;

        let device = self.rows.device();
        let rows = rows.to_device(&device);
        let index = index_tensor(ids, &device);
        // The bank gives its own handle away for the time of the write: a unique handle is written
        // in place. The placeholder is a handle to `rows` and costs nothing.
        let stored = std::mem::replace(&mut self.rows, rows.clone());
        self.rows = stored.select_assign(0, index, rows, IndexingUpdateOp::Assign);
        Ok(())
    }

    /// Replaces every slot by `vectors`, `[n, dim]`, on the device of `vectors`.
    ///
    /// # Errors
    /// [`QueueError::Shape`] if n, dim or the element type change, [`QueueError::NotFinite`],
    /// [`QueueError::TooLargeForHalf`].
    pub fn refill(&mut self, vectors: Tensor<2>) -> Result<()> {
        const OPERATION: &str = "MemoryBank::refill";
        if vectors.dims() != self.rows.dims() {
            return Err(QueueError::shape(
                OPERATION,
                "vectors",
                self.rows.dims(),
                vectors.dims(),
            ));
        }
        self.check_type(OPERATION, &vectors)?;
        self.rows = checked_bank(OPERATION, vectors, self.config)?;
        Ok(())
    }

    /// The stored vectors as f32 host data, `[n, dim]`, for a checkpoint. Every f16 is an f32, so
    /// nothing is lost.
    ///
    /// # Errors
    /// [`QueueError::Device`] if the device fails.
    pub fn to_data(&self) -> Result<TensorData> {
        self.vectors()
            .try_into_data()
            .map_err(|error| QueueError::device("MemoryBank::to_data", error))
    }

    /// The bank that [`to_data`](Self::to_data) described, bit for bit, in f32.
    ///
    /// # Errors
    /// [`QueueError::Shape`] if `data` is not a non-empty matrix of floats,
    /// [`QueueError::NotFinite`].
    pub fn from_data(data: TensorData, device: &Device) -> Result<Self> {
        Self::from_data_with_config(data, device, MemoryBankConfig::default())
    }

    /// As [`from_data`](Self::from_data) with settings. A bank in f16 comes back bit for bit too.
    ///
    /// # Errors
    /// As [`from_data`](Self::from_data), and [`QueueError::TooLargeForHalf`].
    pub fn from_data_with_config(
        data: TensorData,
        device: &Device,
        config: MemoryBankConfig,
    ) -> Result<Self> {
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
        let rows = Tensor::from_data(data, (&device, dtype));
        Ok(Self {
            rows: checked_bank(OPERATION, rows, config)?,
            config,
        })
    }

    /// Rows come in the type of the storage, or in f32 and are rounded.
    fn check_type(&self, operation: &'static str, rows: &Tensor<2>) -> Result<()> {
        let (stored, given) = (self.rows.dtype(), rows.dtype());
        let rounds = self.config.row_storage == RowStorage::F16 && given == DType::F32;
        if given == stored || rounds {
            return Ok(());
        }
        Err(QueueError::shape(operation, "element type", stored, given))
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

/// The tensor outside autodiff and in the type of the storage, refused if it is empty or not finite.
fn checked_bank(
    operation: &'static str,
    vectors: Tensor<2>,
    config: MemoryBankConfig,
) -> Result<Tensor<2>> {
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
    checked_rows(operation, vectors, config)
}

/// Finite rows outside autodiff, rounded to f16 where the storage is f16.
fn checked_rows(
    operation: &'static str,
    rows: Tensor<2>,
    config: MemoryBankConfig,
) -> Result<Tensor<2>> {
    let rows = rows.without_autodiff();
    let [n, dim] = rows.dims();
    let half = config.row_storage == RowStorage::F16;
    // By blocks: a copy of a bank that fills half of the memory would not fit beside it.
    for range in blocks(n, host_block_rows(dim)) {
        let start = range.start;
        let data = host_data(operation, rows.clone().slice(range))?;
        let values = host_slice(operation, &data)?;
        check_finite(operation, values, start, dim)?;
        if half && let Some(at) = first_at_least(values, HALF_OVERFLOW) {
            return Err(QueueError::TooLargeForHalf {
                operation,
                row: start + at / dim,
                column: at % dim,
                value: values[at],
            });
        }
    }
    Ok(match config.row_storage {
        RowStorage::F16 if rows.dtype() != DType::F16 => rows.cast(FloatDType::F16),
        RowStorage::F32 if rows.dtype() == DType::F16 => rows.cast(FloatDType::F32),
        _ => rows,
    })
}

/// Rows to compute with: f16 becomes f32, anything else stays the handle it is.
pub(crate) fn to_f32(rows: Tensor<2>) -> Tensor<2> {
    match rows.dtype() {
        DType::F16 => rows.cast(FloatDType::F32),
        _ => rows,
    }
}

/// Rows that make about 4 MiB of f32 on the host.
pub(crate) fn host_block_rows(dim: usize) -> usize {
    ((1 << 20) / dim.max(1)).max(1)
}

/// `0..n` cut into pieces of at most `rows`.
pub(crate) fn blocks(n: usize, rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n)
        .step_by(rows.max(1))
        .map(move |start| start..n.min(start.saturating_add(rows)))
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

/// Refuses the first NaN or infinity, naming its row and column; `values` begin with row `start`.
pub(crate) fn check_finite(
    operation: &'static str,
    values: &[f32],
    start: usize,
    dim: usize,
) -> Result<()> {
    match first_at_least(values, f32::INFINITY) {
        None => Ok(()),
        Some(at) => Err(QueueError::NotFinite {
            operation,
            row: start + at / dim.max(1),
            column: at % dim.max(1),
            value: values.get(at).copied().unwrap_or(f32::NAN),
        }),
    }
}

/// Where the first value stands whose magnitude is not below `limit`, NaN included.
pub(crate) fn first_at_least(values: &[f32], limit: f32) -> Option<usize> {
    // Pieces without an early exit are compared several values at once.
    const PIECE: usize = 1024;
    let beyond = |value: &f32| !matches!(value.abs().partial_cmp(&limit), Some(Ordering::Less));
    let within = |piece: &[f32]| {
        piece
            .iter()
            .fold(true, |all, value| all & (value.abs() < limit))
    };
    let piece = values.chunks(PIECE).position(|piece| !within(piece))?;
    let at = values[piece * PIECE..].iter().position(beyond)?;
    Some(piece * PIECE + at)
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

    const HALF: MemoryBankConfig = MemoryBankConfig {
        row_storage: RowStorage::F16,
    };

    #[test]
    fn half_rows_are_rounded_once_and_survive_a_checkpoint() {
        let values = [0.1, -0.3, 1.0, 65_504.0, 6.0e-8, 1.0e-9];
        let mut bank = MemoryBank::with_config(tensor(&values, 2), HALF).unwrap();
        assert_eq!((bank.len(), bank.dim(), bank.bytes()), (3, 2, 12));
        assert_eq!(bank.stored().dtype(), DType::F16);
        assert_eq!(bank.vectors().dtype(), DType::F32);
        let rounded = [
            0.099_975_586,
            -0.300_048_83,
            1.0,
            65_504.0,
            5.960_464_5e-8,
            0.0,
        ];
        assert_eq!(bits(bank.vectors()), rounded.map(f32::to_bits));

        let data = bank.to_data().unwrap();
        let device = Device::flex();
        let restored = MemoryBank::from_data_with_config(data, &device, HALF).unwrap();
        assert_eq!(restored.config(), HALF);
        assert_eq!(bits(restored.vectors()), bits(bank.vectors()));

        let handle = bank.vectors();
        bank.update(&[2, 0], tensor(&[0.5, 0.25, 2.0, 0.7], 2))
            .unwrap();
        let updated = [2.0, 0.700_195_3, 1.0, 65_504.0, 0.5, 0.25];
        assert_eq!(bits(bank.vectors()), updated.map(f32::to_bits));
        assert_eq!(bits(handle), rounded.map(f32::to_bits));
        // Rows that are in f16 already are taken as well.
        bank.update(&[1], tensor(&[3.0, 4.0], 2).cast(DType::F16))
            .unwrap();
        assert_eq!(
            bits(bank.vectors().slice(1..2)),
            [3.0_f32, 4.0].map(f32::to_bits)
        );
        bank.refill(tensor(&values, 2)).unwrap();
        assert_eq!(bits(bank.vectors()), rounded.map(f32::to_bits));
    }

    #[test]
    fn half_refuses_what_would_become_infinite() {
        let mut bank = MemoryBank::with_config(tensor(&[1.0, 65_519.0], 2), HALF).unwrap();
        let before = bits(bank.vectors());
        for bad in [65_520.0, -1e6] {
            let rows = tensor(&[0.0, bad], 2);
            let error = bank.update(&[0], rows.clone()).unwrap_err();
            assert!(
                matches!(error, QueueError::TooLargeForHalf { row: 0, column: 1, value, .. } if value == bad),
                "{error}"
            );
            assert!(bank.refill(rows.clone()).is_err());
            assert!(MemoryBank::with_config(rows, HALF).is_err());
        }
        assert!(bank.update(&[0], tensor(&[f32::NAN, 0.0], 2)).is_err());
        assert!(
            bank.update(&[0], tensor(&[0.0; 2], 2).cast(DType::F64))
                .is_err()
        );
        assert_eq!(bits(bank.vectors()), before);
        // A bank in f32 keeps all of these.
        assert!(MemoryBank::new(tensor(&[0.0, 1e6], 2)).is_ok());
    }

    #[test]
    fn the_config_reads_and_writes_words() {
        let config: MemoryBankConfig = serde_json::from_str(r#"{"row_storage":"f16"}"#).unwrap();
        assert_eq!(config, HALF);
        let default: MemoryBankConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(default.row_storage, RowStorage::F32);
    }

    #[test]
    fn a_fault_in_a_late_block_is_named_by_its_row() {
        let dim = 1 << 19; // two rows a block
        let mut values = vec![0.0; 5 * dim];
        values[4 * dim + 7] = f32::NAN;
        let error = MemoryBank::new(tensor(&values, dim)).unwrap_err();
        assert!(
            matches!(
                error,
                QueueError::NotFinite {
                    row: 4,
                    column: 7,
                    ..
                }
            ),
            "{error}"
        );
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
        #[test]
        fn half_keeps_its_stated_accuracy(values in prop::collection::vec(-2.0f32..2.0, 1..40), scale in -30i32..15) {
            let values: Vec<f32> = values.iter().map(|v| v * 2f32.powi(scale)).collect();
            let bank = MemoryBank::with_config(tensor(&values, 1), HALF).unwrap();
            let stored: Vec<f32> = bank.vectors().into_data().try_into_vec().unwrap();
            for (x, y) in values.iter().zip(stored) {
                let error = (f64::from(*x) - f64::from(y)).abs();
                let allowed = (f64::from(x.abs()) * 2f64.powi(-11)).max(2f64.powi(-25));
                prop_assert!(error <= allowed, "{x} {y}");
            }
        }

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
