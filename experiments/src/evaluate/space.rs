//! How embeddings lie in their space: alignment, uniformity and isotropy on STS-B.

use datasets::StsSplit;
use encoder::Embeddings;
use metrics::{alignment, average_cosine, iso_score, uniformity};

use super::text_pool::TextPool;
use crate::error::RunError;

/// Pairs scored above this are positives of the alignment, as in SimCSE.
pub const POSITIVE_ABOVE: f64 = 4.0;

/// Positive pairs and distinct sentences of one part of STS-B, as positions in a [`TextPool`].
#[derive(Clone, Debug)]
pub struct SpaceSample {
    first: Vec<usize>,
    second: Vec<usize>,
    sentences: Vec<usize>,
}

/// Figures of the space; `None` where one is not defined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpaceResult {
    /// `mean || n(x) - n(y) ||^2` over positive pairs; smaller is better.
    pub alignment: Option<f64>,
    /// `log mean exp(-2 || n(x) - n(y) ||^2)` over all pairs of distinct sentences; smaller is better.
    pub uniformity: Option<f64>,
    /// Mean cosine over the same pairs; nearer to 0 is more isotropic.
    pub average_cosine: Option<f64>,
    /// IsoScore of the same sentences; 1 is isotropic.
    pub iso_score: Option<f64>,
    /// Positive pairs.
    pub positives: usize,
    /// Distinct sentences.
    pub sentences: usize,
}

impl SpaceSample {
    /// The pairs scored above [`POSITIVE_ABOVE`] and all sentences of a part.
    pub fn new<'a>(split: &'a StsSplit, pool: &mut TextPool<'a>) -> Self {
        let (first, second) = split
            .pairs()
            .filter(|pair| pair.score > POSITIVE_ABOVE)
            .map(|pair| (pool.add(&pair.first), pool.add(&pair.second)))
            .unzip();
        let mut sentences: Vec<usize> = split
            .pairs()
            .flat_map(|pair| [&pair.first, &pair.second])
            .map(|text| pool.add(text))
            .collect();
        sentences.sort_unstable();
        sentences.dedup();
        Self {
            first,
            second,
            sentences,
        }
    }

    /// The figures for the vectors of the pool.
    ///
    /// # Errors
    /// [`RunError::Metrics`] for vectors that are not finite.
    pub fn measure(&self, vectors: &Embeddings) -> Result<SpaceResult, RunError> {
        let rows = |positions: &[usize]| -> Vec<f32> {
            let rows = positions.iter().flat_map(|&at| vectors.row(at));
            rows.copied().collect()
        };
        let finite = |value: f64| Some(value).filter(|value| value.is_finite());
        let dim = vectors.dim;
        let alignment = if self.first.is_empty() {
            None
        } else {
            finite(alignment(&rows(&self.first), &rows(&self.second), dim)?)
        };
        let all = rows(&self.sentences);
        let enough = self.sentences.len() >= 2;
        let measure = |value: fn(&[f32], usize) -> Result<f64, metrics::MetricsError>| {
            if enough {
                value(&all, dim).map(finite)
            } else {
                Ok(None)
            }
        };
        Ok(SpaceResult {
            alignment,
            uniformity: measure(uniformity)?,
            average_cosine: measure(average_cosine)?,
            iso_score: if dim >= 2 { measure(iso_score)? } else { None },
            positives: self.first.len(),
            sentences: self.sentences.len(),
        })
    }
}

impl SpaceResult {
    /// The figures by name.
    pub fn figures(&self) -> [(&'static str, Option<f64>); 4] {
        [
            ("alignment", self.alignment),
            ("uniformity", self.uniformity),
            ("average_cosine", self.average_cosine),
            ("iso_score", self.iso_score),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use datasets::{ScoredPair, StsPart, StsSubset};

    use super::*;

    fn split(pairs: &[(&str, &str, f64)]) -> StsSplit {
        StsSplit {
            part: StsPart::Test,
            subsets: vec![StsSubset {
                name: "all".to_owned(),
                pairs: pairs
                    .iter()
                    .map(|(first, second, score)| ScoredPair {
                        first: (*first).to_owned(),
                        second: (*second).to_owned(),
                        score: *score,
                    })
                    .collect(),
            }],
        }
    }

    #[test]
    fn positives_are_above_four_and_sentences_distinct() {
        let split = split(&[("a", "b", 4.0), ("a", "c", 4.2), ("b", "a", 1.0)]);
        let mut pool = TextPool::default();
        pool.add("elsewhere");
        let sample = SpaceSample::new(&split, &mut pool);
        let vectors = Embeddings {
            // elsewhere, then a and c of the positive pair, then b
            values: vec![9.0, 9.0, 1.0, 0.0, 0.0, 1.0, -1.0, 0.0],
            dim: 2,
        };
        let found = sample.measure(&vectors).unwrap();
        assert_eq!((found.positives, found.sentences), (1, 3));
        assert!((found.alignment.unwrap() - 2.0).abs() < 1e-12);
        // Squared distances 2, 4, 2; cosines 0, -1, 0.
        let expected = ((2.0 * (-4.0_f64).exp() + (-8.0_f64).exp()) / 3.0).ln();
        assert!((found.uniformity.unwrap() - expected).abs() < 1e-12);
        assert!((found.average_cosine.unwrap() + 1.0 / 3.0).abs() < 1e-12);
        assert!((0.0..=1.0).contains(&found.iso_score.unwrap()));
    }

    #[test]
    fn what_is_not_defined_is_missing() {
        let split = split(&[("a", "a", 2.0)]);
        let mut pool = TextPool::default();
        let sample = SpaceSample::new(&split, &mut pool);
        let vectors = Embeddings {
            values: vec![1.0, 2.0],
            dim: 2,
        };
        let found = sample.measure(&vectors).unwrap();
        assert_eq!((found.alignment, found.uniformity), (None, None));
        assert_eq!((found.average_cosine, found.iso_score), (None, None));
    }
}
