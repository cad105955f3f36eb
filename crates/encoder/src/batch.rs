//! Batches of token ids without padding.

use burn::tensor::{Device, Int, Tensor, TensorData};
use kernels::Sequences;

use crate::error::EncoderError;

/// Token ids of a batch, one text behind the other.
///
/// Hidden states of the batch are `[tokens, hidden]` with `tokens` the sum of the lengths: no layer
/// works on padding, whatever the lengths.
#[derive(Clone, Debug)]
pub struct TokenBatch {
    /// Ids, `[tokens]`.
    pub ids: Tensor<1, Int>,
    /// Place of each token in its text, from 0, `[tokens]`.
    pub positions: Tensor<1, Int>,
    /// Which rows belong to which text.
    pub sequences: Sequences,
    /// Largest id.
    pub(crate) largest_id: u32,
}

impl TokenBatch {
    /// Puts the rows one behind the other.
    ///
    /// # Errors
    ///
    /// The batch, or one of its rows, is empty.
    ///
    /// ```
    /// # #[cfg(feature = "flex")] {
    /// let device = burn::tensor::Device::flex();
    /// let batch = encoder::TokenBatch::new(&[vec![2, 5, 3], vec![2, 3]], &device).unwrap();
    /// assert_eq!((batch.texts(), batch.tokens(), batch.row(1, 0)), (2, 5, 3));
    /// # }
    /// ```
    pub fn new<R: AsRef<[u32]>>(rows: &[R], device: &Device) -> Result<Self, EncoderError> {
        let lengths: Vec<usize> = rows.iter().map(|row| row.as_ref().len()).collect();
        if lengths.is_empty() || lengths.contains(&0) {
            return Err(EncoderError::Shape {
                operation: "token batch",
                expected: "at least one row and one token in every row".to_owned(),
                found: format!(
                    "{} rows, longest {}",
                    rows.len(),
                    lengths.iter().max().copied().unwrap_or(0)
                ),
            });
        }
        let sequences = Sequences::new(&lengths);
        let tokens = sequences.rows();
        let mut ids = Vec::with_capacity(tokens);
        let mut positions = Vec::with_capacity(tokens);
        let mut largest_id = 0;
        for row in rows {
            for (at, id) in row.as_ref().iter().enumerate() {
                largest_id = largest_id.max(*id);
                ids.push(*id as i32);
                positions.push(at as i32);
            }
        }
        // Inputs never need gradients: off the tape they count as constants.
        let device = device.clone().inner();
        Ok(Self {
            ids: Tensor::from_data(TensorData::new(ids, [tokens]), &device),
            positions: Tensor::from_data(TensorData::new(positions, [tokens]), &device),
            sequences,
            largest_id,
        })
    }

    /// Number of texts.
    pub fn texts(&self) -> usize {
        self.sequences.len()
    }

    /// Number of tokens in all.
    pub fn tokens(&self) -> usize {
        self.sequences.rows()
    }

    /// Row of the hidden states that belongs to token `at` of text `text`.
    ///
    /// # Panics
    ///
    /// If there is no such text.
    pub fn row(&self, text: usize, at: usize) -> usize {
        self.sequences.bounds()[text] + at
    }

    /// Rows of the first tokens, `[texts]`.
    pub fn first_rows(&self) -> Tensor<1, Int> {
        let rows: Vec<i32> = self.sequences.bounds()[..self.texts()]
            .iter()
            .map(|row| *row as i32)
            .collect();
        Tensor::from_data(TensorData::new(rows, [self.texts()]), &self.ids.device())
    }

    /// Rows of the tokens before the last ones, `[texts]`.
    ///
    /// # Errors
    ///
    /// A text of one token.
    pub fn rows_before_last(&self) -> Result<Tensor<1, Int>, EncoderError> {
        let mut rows = Vec::with_capacity(self.texts());
        for pair in self.sequences.bounds().windows(2) {
            if pair[1] - pair[0] < 2 {
                return Err(EncoderError::Shape {
                    operation: "mask pooling",
                    expected: "at least two tokens a text".to_owned(),
                    found: (pair[1] - pair[0]).to_string(),
                });
            }
            rows.push(pair[1] as i32 - 2);
        }
        Ok(Tensor::from_data(
            TensorData::new(rows, [self.texts()]),
            &self.ids.device(),
        ))
    }
}
