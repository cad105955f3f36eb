//! The texts of all tasks, each once.

use std::collections::HashMap;

use encoder::{Embeddings, Prompt, SentenceEncoder};
use metrics::MetricsError;

use crate::error::RunError;

/// Distinct texts in the order of their first use. Tasks keep positions instead of texts, so that
/// equal texts, within a task or across tasks, are encoded once.
///
/// ```
/// use experiments::evaluate::TextPool;
/// let mut pool = TextPool::default();
/// assert_eq!([pool.add("a"), pool.add("b"), pool.add("a")], [0, 1, 0]);
/// assert_eq!(pool.texts(), ["a", "b"]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct TextPool<'a> {
    texts: Vec<&'a str>,
    positions: HashMap<&'a str, usize>,
}

impl<'a> TextPool<'a> {
    /// Position of a text; a new one goes to the end.
    pub fn add(&mut self, text: &'a str) -> usize {
        *self.positions.entry(text).or_insert_with(|| {
            self.texts.push(text);
            self.texts.len() - 1
        })
    }

    /// Positions of several texts.
    pub fn add_all(&mut self, texts: impl IntoIterator<Item = &'a String>) -> Vec<usize> {
        texts.into_iter().map(|text| self.add(text)).collect()
    }

    /// The distinct texts.
    pub fn texts(&self) -> &[&'a str] {
        &self.texts
    }

    /// One vector a text, by any function that turns texts into vectors in their order.
    ///
    /// # Errors
    /// What `embed` reports; [`MetricsError::Shape`] for a wrong number of vectors and
    /// [`MetricsError::NonFinite`] for one with NaN or infinity in it.
    pub fn embed(
        &self,
        embed: impl FnOnce(&[&'a str]) -> Result<Embeddings, RunError>,
    ) -> Result<Embeddings, RunError> {
        let (operation, argument) = ("evaluate", "vectors");
        let vectors = embed(&self.texts)?;
        let expected = self.texts.len() * vectors.dim;
        if vectors.values.len() != expected || vectors.dim == 0 {
            return Err(RunError::Metrics(MetricsError::Shape {
                operation,
                argument,
                expected: format!("{} of at least 1 number each", self.texts.len()),
                found: vectors.rows(),
            }));
        }
        match vectors.values.iter().position(|value| !value.is_finite()) {
            None => Ok(vectors),
            Some(index) => Err(RunError::Metrics(MetricsError::NonFinite {
                operation,
                argument,
                index,
                value: f64::from(vectors.values[index]),
            })),
        }
    }
}

/// Batches that are encoded between two calls of the progress function.
const BATCHES_BETWEEN: usize = 16;

/// Vectors of texts in their order, behind `prompt` and in the model's template; long texts first, so that a batch holds texts of similar length.
///
/// `progress` is told texts done and texts in all.
///
/// # Errors
/// [`RunError::Encoder`].
pub fn encode_texts(
    encoder: &SentenceEncoder,
    texts: &[&str],
    batch_size: usize,
    prompt: Prompt<'_>,
    mut progress: impl FnMut(usize, usize),
) -> Result<Embeddings, RunError> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(texts[at].len()));
    let mut vectors = Embeddings {
        values: Vec::new(),
        dim: 0,
    };
    let mut done = 0;
    for part in order.chunks(batch_size.max(1).saturating_mul(BATCHES_BETWEEN)) {
        let own: Vec<&str> = part.iter().map(|&at| texts[at]).collect();
        let encoded = encoder.encode_with(&own, batch_size.max(1), prompt)?;
        if vectors.dim == 0 {
            vectors.dim = encoded.dim;
            vectors.values = vec![0.0; texts.len() * encoded.dim];
        }
        for (row, &at) in part.iter().enumerate() {
            let place = at * encoded.dim..(at + 1) * encoded.dim;
            vectors.values[place].copy_from_slice(encoded.row(row));
        }
        done += part.len();
        progress(done, texts.len());
    }
    Ok(vectors)
}

/// Cosines of the pairs `(first[i], second[i])` of rows, in `f64`; 0 where a vector is zero, as
/// SentEval scores a cosine that is not a number.
pub(crate) fn cosines(vectors: &Embeddings, first: &[usize], second: &[usize]) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    };
    first
        .iter()
        .zip(second)
        .map(|(&first, &second)| {
            let (a, b) = (vectors.row(first), vectors.row(second));
            let norms = dot(a, a).sqrt() * dot(b, b).sqrt();
            if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn cosines_of_rows() {
        let vectors = Embeddings {
            values: vec![1.0, 0.0, 3.0, 4.0, 0.0, 0.0],
            dim: 2,
        };
        let found = cosines(&vectors, &[0, 1, 0], &[1, 1, 2]);
        for (found, expected) in found.iter().zip([0.6, 1.0, 0.0]) {
            assert!((found - expected).abs() < 1e-15);
        }
    }

    #[test]
    fn bad_vectors_are_errors() {
        let mut pool = TextPool::default();
        pool.add("a");
        pool.add("b");
        for values in [vec![1.0], vec![1.0, f32::NAN], vec![]] {
            let vectors = Embeddings { values, dim: 1 };
            assert!(matches!(
                pool.embed(|_| Ok(vectors.clone())),
                Err(RunError::Metrics(_))
            ));
        }
    }
}
