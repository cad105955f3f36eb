//! Sequences of different lengths, one behind the other in the rows of a matrix.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

/// Where each sequence of a packed batch begins and ends.
///
/// A batch of `n` sequences with `l_1 ... l_n` tokens is a matrix of `l_1 + ... + l_n` rows: no row
/// stands for padding.
///
/// ```
/// let sequences = kernels::Sequences::new(&[3, 2]);
/// assert_eq!((sequences.len(), sequences.rows(), sequences.longest()), (2, 5, 3));
/// assert_eq!(sequences.bounds(), [0, 3, 5]);
/// ```
#[derive(Clone, Debug)]
pub struct Sequences {
    bounds: Arc<[usize]>,
    longest: usize,
    equal: bool,
    padding: OnceLock<Padding>,
}

/// Index tensors between the packed and the padded form, for back-ends that attend in batches.
#[derive(Clone, Debug)]
pub(crate) struct Padding {
    device: Device,
    /// Packed row of every padded one, `[len * longest]`; padding points at row 0.
    pub(crate) to_padded: Tensor<1, Int>,
    /// Padded row of every packed one, `[rows]`.
    pub(crate) to_packed: Tensor<1, Int>,
    /// `true` where a key is padding, `[len, 1, 1, longest]`.
    pub(crate) mask: Tensor<4, Bool>,
}

impl Sequences {
    /// Sequences of the given lengths, in order.
    pub fn new(lengths: &[usize]) -> Self {
        let mut bounds = Vec::with_capacity(lengths.len() + 1);
        bounds.push(0);
        for length in lengths {
            bounds.push(bounds[bounds.len() - 1] + length);
        }
        let longest = lengths.iter().copied().max().unwrap_or(0);
        Self {
            bounds: bounds.into(),
            longest,
            equal: lengths.iter().all(|length| *length == longest),
            padding: OnceLock::new(),
        }
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows in all.
    pub fn rows(&self) -> usize {
        self.bounds[self.len()]
    }

    /// Tokens of the longest sequence.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Whether all sequences have the same length.
    pub fn equal(&self) -> bool {
        self.equal
    }

    /// `bounds()[s]..bounds()[s + 1]` are the rows of sequence `s`.
    pub fn bounds(&self) -> &[usize] {
        &self.bounds
    }

    pub(crate) fn shared_bounds(&self) -> Arc<[usize]> {
        Arc::clone(&self.bounds)
    }

    /// The index tensors, made once for a device.
    pub(crate) fn padding(&self, device: &Device) -> Padding {
        // Off the tape: beside tensors of an autodiff device they count as constants.
        let device = device.clone().inner();
        let padding = self.padding.get_or_init(|| self.make_padding(&device));
        if padding.device == device {
            padding.clone()
        } else {
            self.make_padding(&device)
        }
    }

    fn make_padding(&self, device: &Device) -> Padding {
        let (count, width) = (self.len(), self.longest);
        let mut to_padded = Vec::with_capacity(count * width);
        let mut to_packed = Vec::with_capacity(self.rows());
        let mut mask = Vec::with_capacity(count * width);
        for (sequence, pair) in self.bounds.windows(2).enumerate() {
            for at in 0..width {
                let real = pair[0] + at < pair[1];
                to_padded.push(if real { (pair[0] + at) as i32 } else { 0 });
                mask.push(!real);
                if real {
                    to_packed.push((sequence * width + at) as i32);
                }
            }
        }
        Padding {
            device: device.clone(),
            to_padded: Tensor::from_data(TensorData::new(to_padded, [count * width]), device),
            to_packed: Tensor::from_data(TensorData::new(to_packed, [self.rows()]), device),
            mask: Tensor::from_data(TensorData::new(mask, [count, 1, 1, width]), device),
        }
    }
}
