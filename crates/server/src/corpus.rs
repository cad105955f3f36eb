//! The texts of a run with their vectors: exact search by cosine.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use categories::CategoryId;

use crate::error::StartError;

/// A text of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorpusText {
    /// The text.
    pub text: String,
    /// Its broad label.
    pub coarse: Option<String>,
    /// Its category when it was found; merges and splits since then are followed.
    pub category: CategoryId,
}

/// Texts and vectors of unit length.
#[derive(Debug)]
pub struct Corpus {
    texts: Vec<CorpusText>,
    /// `[texts * dim]`.
    vectors: Vec<f32>,
    dim: usize,
}

/// A text found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hit {
    pub(crate) row: usize,
    pub(crate) cosine: f32,
}

impl Eq for Hit {}

impl PartialOrd for Hit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Hit {
    /// The worse hit is greater: smaller cosine, then later row.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .cosine
            .total_cmp(&self.cosine)
            .then(self.row.cmp(&other.row))
    }
}

impl Corpus {
    /// Takes texts and their vectors `[texts * dim]`, row after row, of unit length.
    ///
    /// # Errors
    ///
    /// [`StartError::Corpus`] if the sizes do not fit or a number is not finite.
    pub fn new(texts: Vec<CorpusText>, vectors: Vec<f32>, dim: usize) -> Result<Self, StartError> {
        if dim == 0 || Some(vectors.len()) != texts.len().checked_mul(dim) {
            return Err(StartError::Corpus(format!(
                "expected {} vectors of {dim} dimensions, found {} numbers",
                texts.len(),
                vectors.len()
            )));
        }
        if let Some(at) = vectors.iter().position(|number| !number.is_finite()) {
            let row = at / dim;
            return Err(StartError::Corpus(format!(
                "the vector of row {row} has a number that is not finite"
            )));
        }
        Ok(Self {
            texts,
            vectors,
            dim,
        })
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are no texts.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Dimensions of the vectors.
    pub fn dim(&self) -> usize {
        self.dim
    }

    pub(crate) fn row(&self, row: usize) -> Option<(&CorpusText, &[f32])> {
        let from = row.checked_mul(self.dim)?;
        let vector = self.vectors.get(from..from.checked_add(self.dim)?)?;
        Some((self.texts.get(row)?, vector))
    }

    /// The `k` texts with the largest cosine to a vector of unit length, best first; equal cosines
    /// by row. Looks at every text.
    pub(crate) fn nearest(&self, query: &[f32], k: usize) -> Vec<Hit> {
        // The worst of the best so far is on top.
        let mut best = BinaryHeap::with_capacity(k + 1);
        for (row, vector) in self.vectors.chunks_exact(self.dim).enumerate() {
            let cosine = dot(vector, query);
            best.push(Hit { row, cosine });
            if best.len() > k {
                best.pop();
            }
        }
        best.into_sorted_vec()
    }
}

/// Eight sums side by side, which compilers turn into vector instructions.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (a_blocks, b_blocks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_blocks
        .remainder()
        .iter()
        .zip(b_blocks.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in a_blocks.zip(b_blocks) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Scales to unit length; a zero vector stays.
pub(crate) fn to_unit(vector: &mut [f32]) {
    let norm = dot(vector, vector).sqrt();
    if norm > 0.0 {
        for value in vector {
            *value /= norm;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn corpus(rows: usize, dim: usize) -> Corpus {
        let text = |row| CorpusText {
            text: format!("text {row}"),
            coarse: None,
            category: CategoryId(0),
        };
        let number = |at: usize| ((at * 7919 + 13) % 1009) as f32 / 504.5 - 1.0;
        let mut vectors: Vec<f32> = (0..rows * dim).map(number).collect();
        vectors.chunks_exact_mut(dim).for_each(to_unit);
        Corpus::new((0..rows).map(text).collect(), vectors, dim).unwrap()
    }

    #[test]
    fn the_nearest_are_those_of_a_full_sort() {
        let corpus = corpus(200, 11);
        for row in [0, 77, 199] {
            let query = corpus.row(row).unwrap().1.to_vec();
            let mut all: Vec<(f32, usize)> = (0..corpus.len())
                .map(|row| {
                    let vector = corpus.row(row).unwrap().1;
                    (vector.iter().zip(&query).map(|(a, b)| a * b).sum(), row)
                })
                .collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            let hits = corpus.nearest(&query, 9);
            assert_eq!(hits.len(), 9);
            assert_eq!(hits[0].row, row);
            for (hit, want) in hits.iter().zip(&all) {
                assert!((hit.cosine - want.0).abs() < 1e-5, "{hit:?} {want:?}");
            }
        }
        assert_eq!(corpus.nearest(&[0.0; 11], 500).len(), 200);
        assert!(corpus.nearest(&[0.0; 11], 0).is_empty());
    }

    #[test]
    fn equal_cosines_keep_the_order_of_the_rows() {
        let hits = corpus(6, 4).nearest(&[0.0; 4], 3);
        assert_eq!(
            hits.iter().map(|hit| hit.row).collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }

    #[test]
    fn sizes_and_numbers_are_checked() {
        let text = CorpusText {
            text: "x".to_owned(),
            coarse: None,
            category: CategoryId(0),
        };
        for (vectors, dim) in [(vec![1.0], 2), (vec![], 0), (vec![f32::NAN, 0.0], 2)] {
            assert!(Corpus::new(vec![text.clone()], vectors, dim).is_err());
        }
    }
}
