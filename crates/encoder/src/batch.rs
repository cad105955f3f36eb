//! Padded batches of token ids.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::error::EncoderError;

/// Token ids of a batch, padded to its own longest sequence.
#[derive(Clone, Debug)]
pub struct TokenBatch {
    /// Ids, row-major `[batch * width]`.
    pub ids: Tensor<1, Int>,
    /// 1 on real tokens, 0 on padding, `[batch, width]`.
    pub mask: Tensor<2>,
    /// Whether any row is padded; without padding the attention mask is skipped.
    pub padded: bool,
    /// Rows.
    pub batch: usize,
    /// Tokens a row, special tokens and padding included.
    pub width: usize,
}

impl TokenBatch {
    /// Pads to the longest row.
    ///
    /// # Errors
    ///
    /// The batch, or one of its rows, is empty.
    ///
    /// ```
    /// # #[cfg(feature = "flex")] {
    /// let device = burn::tensor::Device::flex();
    /// let batch = encoder::TokenBatch::new(&[vec![2, 5, 3], vec![2, 3]], 0, &device).unwrap();
    /// assert_eq!((batch.batch, batch.width, batch.padded), (2, 3, true));
    /// # }
    /// ```
    pub fn new<R: AsRef<[u32]>>(
        rows: &[R],
        pad: u32,
        device: &Device,
    ) -> Result<Self, EncoderError> {
        let width = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
        if width == 0 || rows.iter().any(|row| row.as_ref().is_empty()) {
            return Err(EncoderError::Shape {
                operation: "token batch",
                expected: "at least one row and one token in every row".to_owned(),
                found: format!("{} rows, longest {width}", rows.len()),
            });
        }
        let mut ids = Vec::with_capacity(rows.len() * width);
        let mut mask = Vec::with_capacity(rows.len() * width);
        for row in rows {
            let row = row.as_ref();
            ids.extend(row.iter().map(|id| *id as i32));
            ids.extend(std::iter::repeat_n(pad as i32, width - row.len()));
            mask.extend(std::iter::repeat_n(1.0f32, row.len()));
            mask.extend(std::iter::repeat_n(0.0f32, width - row.len()));
        }
        let padded = mask.contains(&0.0);
        // Inputs never need gradients; keeping them off the tape also keeps the mask cheap.
        let plain = device.clone().inner();
        let mask = Tensor::<2>::from_data(TensorData::new(mask, [rows.len(), width]), &plain);
        Ok(Self {
            ids: Tensor::from_data(TensorData::new(ids, [rows.len() * width]), device),
            mask: if device.is_autodiff() {
                mask.autodiff()
            } else {
                mask
            },
            padded,
            batch: rows.len(),
            width,
        })
    }

    /// `true` where a key is padding, `[batch, 1, 1, width]`.
    pub fn padding_mask(&self) -> Tensor<4, Bool> {
        self.mask
            .clone()
            .equal_scalar(0.0)
            .reshape([self.batch, 1, 1, self.width])
    }
}
