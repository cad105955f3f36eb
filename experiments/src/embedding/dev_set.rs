//! The development set that chooses the checkpoint: scored pairs, each distinct text encoded once.

use datasets::ScoredPair;
use encoder::{BertModel, Embeddings, Pooling, SentenceEncoder, Template, try_encode_ids};
use metrics::{alignment, spearman, uniformity};

use super::text_table::{Column, TextTable};
use crate::error::RunError;

/// Scored pairs of texts.
#[derive(Clone, Debug)]
pub(crate) struct DevSet {
    texts: TextTable,
    first: Vec<usize>,
    second: Vec<usize>,
    gold: Vec<f64>,
    /// Pairs with at least this score count as positives of the alignment.
    positive_from: f64,
}

/// What a look at the development set says; nothing where a figure is not defined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DevScore {
    /// Spearman correlation of cosine and gold score; `None` if one of them is constant.
    pub(crate) spearman: Option<f64>,
    /// Mean squared distance of positive pairs.
    pub(crate) alignment: Option<f64>,
    /// Logarithm of the mean Gaussian potential over all distinct texts.
    pub(crate) uniformity: Option<f64>,
}

impl DevSet {
    /// Tokenises the pairs as the encoder does, template included; texts are cut at `max_len` tokens.
    pub(crate) fn new(
        pairs: &[ScoredPair],
        positive_from: f64,
        encoder: &SentenceEncoder,
        max_len: usize,
    ) -> Result<Self, RunError> {
        let first: Vec<String> = pairs.iter().map(|pair| pair.first.clone()).collect();
        let second: Vec<String> = pairs.iter().map(|pair| pair.second.clone()).collect();
        let [left, right] = [&first, &second].map(|texts| Column {
            texts,
            template: encoder.template.as_ref(),
        });
        let added = encoder.template.as_ref().map_or(0, Template::added);
        let room = encoder.config.max_position_embeddings.saturating_sub(added);
        let (texts, mut columns) =
            TextTable::new(&[left, right], &encoder.tokenizer, max_len.min(room))?;
        let second = columns.pop().unwrap_or_default();
        let first = columns.pop().unwrap_or_default();
        let gold = pairs.iter().map(|pair| pair.score).collect();
        Ok(Self {
            texts,
            first,
            second,
            gold,
            positive_from,
        })
    }

    /// Scores the inference form of an encoder. `between` is called after every batch; an error of it
    /// ends the scoring.
    pub(crate) fn score(
        &self,
        backbone: &BertModel,
        pooling: Pooling,
        batch_size: usize,
        between: &dyn Fn() -> Result<(), RunError>,
    ) -> Result<DevScore, RunError> {
        let vectors = try_encode_ids(
            backbone,
            pooling,
            true,
            self.texts.all(),
            batch_size,
            |_, _| between(),
        )?;
        let pairs = || self.first.iter().zip(&self.second);
        let cosine: Vec<f64> = pairs()
            .map(|(a, b)| dot(vectors.row(*a), vectors.row(*b)))
            .collect();
        let spearman = spearman(&cosine, &self.gold)?;
        let positives: Vec<(usize, usize)> = pairs()
            .zip(&self.gold)
            .filter(|(_, gold)| **gold >= self.positive_from)
            .map(|((a, b), _)| (*a, *b))
            .collect();
        let rows = |pick: &dyn Fn(&(usize, usize)) -> usize| -> Vec<f32> {
            positives
                .iter()
                .flat_map(|pair| vectors.row(pick(pair)).to_vec())
                .collect()
        };
        let aligned = if positives.is_empty() {
            None
        } else {
            Some(alignment(
                &rows(&|pair| pair.0),
                &rows(&|pair| pair.1),
                vectors.dim,
            )?)
        };
        Ok(DevScore {
            spearman: spearman.is_finite().then_some(spearman),
            alignment: aligned,
            uniformity: spread_of(&vectors)?,
        })
    }
}

fn spread_of(vectors: &Embeddings) -> Result<Option<f64>, RunError> {
    if vectors.rows() < 2 {
        return Ok(None);
    }
    Ok(Some(uniformity(&vectors.values, vectors.dim)?))
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use burn::tensor::Device;
    use encoder::{BertConfig, TextTokenizer};

    use super::*;

    const TEXTS: [(&str, &str, f64); 4] = [
        ("a b", "a b", 5.0),
        ("a c", "b", 1.0),
        ("c c b", "a b", 2.0),
        ("b", "c a a", 4.0),
    ];

    fn encoder() -> SentenceEncoder {
        let pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"];
        let tokenizer = TextTokenizer::from_word_pieces(&pieces).unwrap();
        let config = BertConfig::tiny(pieces.len());
        SentenceEncoder::random(config, tokenizer, Pooling::Mean, 1, &Device::flex()).unwrap()
    }

    fn score(encoder: &SentenceEncoder, gold: impl Fn(f64) -> f64, positive_from: f64) -> DevScore {
        let pairs = TEXTS.map(|(first, second, score)| ScoredPair {
            first: first.to_owned(),
            second: second.to_owned(),
            score: gold(score),
        });
        let dev = DevSet::new(&pairs, positive_from, encoder, 8).unwrap();
        dev.score(&encoder.bert, Pooling::Mean, 2, &|| Ok(()))
            .unwrap()
    }

    #[test]
    fn figures_are_those_of_the_vectors() {
        let encoder = encoder();
        let unit = |text: &str| -> Vec<f64> {
            let vectors = encoder.encode(&[text], 1).unwrap();
            let values: Vec<f64> = vectors.row(0).iter().map(|x| f64::from(*x)).collect();
            let norm = values.iter().map(|x| x * x).sum::<f64>().sqrt();
            values.iter().map(|x| x / norm).collect()
        };
        let cosine =
            |a: &str, b: &str| -> f64 { unit(a).iter().zip(&unit(b)).map(|(x, y)| x * y).sum() };
        let cosines = TEXTS.map(|(a, b, _)| cosine(a, b));
        let found = score(&encoder, |score| score, 4.0);
        let expected = spearman(&cosines, &TEXTS.map(|(_, _, score)| score)).unwrap();
        assert!((found.spearman.unwrap() - expected).abs() < 1e-12);
        // The pairs scored 5 and 4: the mean of 2 - 2 cos.
        let aligned = 2.0 - cosines[0] - cosines[3];
        assert!((found.alignment.unwrap() - aligned).abs() < 1e-5);
        // Five distinct texts, each once.
        let distinct = ["a b", "a c", "b", "c c b", "c a a"];
        let mut potentials = Vec::new();
        for (at, a) in distinct.iter().enumerate() {
            for b in &distinct[..at] {
                potentials.push((-2.0 * (2.0 - 2.0 * cosine(a, b))).exp());
            }
        }
        let mean = potentials.iter().sum::<f64>() / potentials.len() as f64;
        assert!((found.uniformity.unwrap() - mean.ln()).abs() < 1e-5);
    }

    #[test]
    fn what_is_not_defined_is_missing() {
        let encoder = encoder();
        let constant = score(&encoder, |_| 3.0, 4.0);
        assert_eq!((constant.spearman, constant.alignment), (None, None));
        assert!(constant.uniformity.is_some());
    }
}
