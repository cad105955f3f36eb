//! Semantic textual similarity: cosine against human scores.

use datasets::{ScoredPair, StsName, StsPart, StsTask};
use encoder::{Embeddings, Prompt, SentenceEncoder};
use metrics::{StsScores, StsSubset, sts_scores};

use super::text_pool::{TextPool, cosines, encode_texts};
use crate::error::RunError;

/// The pairs of a task as positions in a [`TextPool`].
#[derive(Clone, Debug)]
pub struct StsPairs {
    /// `STS12` ... `SICKR`, or the name of a file.
    pub task: String,
    /// Part the pairs are from.
    pub part: StsPart,
    subsets: Vec<Subset>,
}

#[derive(Clone, Debug)]
struct Subset {
    name: String,
    first: Vec<usize>,
    second: Vec<usize>,
    gold: Vec<f64>,
}

/// Scores of one part of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct StsResult {
    /// `STS12` ... `SICKR`, or the name of a file.
    pub task: String,
    /// Part that was scored.
    pub part: StsPart,
    /// Subsets in the order of the correlations of `scores`.
    pub subsets: Vec<String>,
    /// Spearman and Pearson; NaN where a side is constant, which is to be reported as missing.
    pub scores: StsScores,
}

impl StsPairs {
    /// One part of a task; `None` if the task does not have it.
    ///
    /// The years 2012 to 2016 keep their subsets. STS-B and SICK-R are one set, whatever the column
    /// `subset` says: their three aggregations are equal.
    pub fn of_task<'a>(task: &'a StsTask, part: StsPart, pool: &mut TextPool<'a>) -> Option<Self> {
        let split = task.split(part).filter(|split| !split.is_empty())?;
        let name = task.name.name();
        let subsets = match task.name {
            StsName::StsB | StsName::SickR => vec![Subset::new(name, split.pairs(), pool)],
            _ => split
                .subsets
                .iter()
                .map(|subset| Subset::new(&subset.name, &subset.pairs, pool))
                .collect(),
        };
        Some(Self {
            task: name.to_owned(),
            part,
            subsets,
        })
    }

    /// A user's own scored pairs, as one set.
    pub fn of_pairs<'a>(name: &str, pairs: &'a [ScoredPair], pool: &mut TextPool<'a>) -> Self {
        Self {
            task: name.to_owned(),
            part: StsPart::Test,
            subsets: vec![Subset::new(name, pairs, pool)],
        }
    }

    /// Texts of all pairs, equal ones counted each time.
    pub fn texts(&self) -> usize {
        self.subsets
            .iter()
            .map(|subset| 2 * subset.gold.len())
            .sum()
    }

    /// Scores the pairs with the vectors of the pool.
    ///
    /// # Errors
    /// [`RunError::Metrics`] for a subset without pairs or a gold score that is not finite.
    pub fn score(&self, vectors: &Embeddings) -> Result<StsResult, RunError> {
        let predicted: Vec<Vec<f64>> = self
            .subsets
            .iter()
            .map(|subset| cosines(vectors, &subset.first, &subset.second))
            .collect();
        let subsets: Vec<StsSubset<'_>> = self
            .subsets
            .iter()
            .zip(&predicted)
            .map(|(subset, predicted)| StsSubset {
                name: &subset.name,
                predicted,
                gold: &subset.gold,
            })
            .collect();
        Ok(StsResult {
            task: self.task.clone(),
            part: self.part,
            subsets: self.subsets.iter().map(|s| s.name.clone()).collect(),
            scores: sts_scores(&subsets)?,
        })
    }
}

impl Subset {
    fn new<'a>(
        name: &str,
        pairs: impl IntoIterator<Item = &'a ScoredPair>,
        pool: &mut TextPool<'a>,
    ) -> Self {
        let mut subset = Self {
            name: name.to_owned(),
            first: Vec::new(),
            second: Vec::new(),
            gold: Vec::new(),
        };
        for pair in pairs {
            subset.first.push(pool.add(&pair.first));
            subset.second.push(pool.add(&pair.second));
            subset.gold.push(pair.score);
        }
        subset
    }
}

/// Scores one part of every task that has it, each distinct text encoded once over all tasks.
///
/// # Errors
/// [`RunError::Encoder`], [`RunError::Metrics`].
pub fn evaluate_sts(
    encoder: &SentenceEncoder,
    tasks: &[StsTask],
    part: StsPart,
    batch_size: usize,
) -> Result<Vec<StsResult>, RunError> {
    let mut pool = TextPool::default();
    let pairs: Vec<StsPairs> = tasks
        .iter()
        .filter_map(|task| StsPairs::of_task(task, part, &mut pool))
        .collect();
    let vectors =
        pool.embed(|texts| encode_texts(encoder, texts, batch_size, Prompt::Default, |_, _| {}))?;
    pairs.iter().map(|pairs| pairs.score(&vectors)).collect()
}

/// Spearman on the development part of a task, for choosing a checkpoint; `None` where it is not
/// defined (constant scores or constant cosines).
///
/// Only the development part is encoded: scoring the test parts as well, as the released SimCSE code
/// does, multiplies the work by twelve and tempts to choose by them.
///
/// # Errors
/// [`RunError::Data`] if the task has no development part; as [`evaluate_sts`].
pub fn sts_dev(
    encoder: &SentenceEncoder,
    task: &StsTask,
    batch_size: usize,
) -> Result<Option<f64>, RunError> {
    let results = evaluate_sts(
        encoder,
        std::slice::from_ref(task),
        StsPart::Dev,
        batch_size,
    )?;
    let result = results
        .first()
        .ok_or_else(|| RunError::Data(format!("{} has no development part", task.name.name())))?;
    Ok(Some(result.scores.spearman.all).filter(|value| value.is_finite()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use datasets::StsSplit;

    use super::*;

    /// Unit vectors whose cosine with the first axis is the given number.
    fn at(cosines: &[f64]) -> Embeddings {
        let mut values = vec![1.0, 0.0];
        for cosine in cosines {
            values.extend([*cosine as f32, (1.0 - cosine * cosine).sqrt() as f32]);
        }
        Embeddings { values, dim: 2 }
    }

    fn pairs(scores: &[f64], from: usize) -> Vec<ScoredPair> {
        (from..)
            .zip(scores)
            .map(|(at, score)| ScoredPair {
                first: "anchor".to_owned(),
                second: format!("text {at}"),
                score: *score,
            })
            .collect()
    }

    fn task(name: StsName, subsets: Vec<(&str, Vec<ScoredPair>)>) -> StsTask {
        StsTask {
            name,
            splits: vec![StsSplit {
                part: StsPart::Test,
                subsets: subsets
                    .into_iter()
                    .map(|(name, pairs)| datasets::StsSubset {
                        name: name.to_owned(),
                        pairs,
                    })
                    .collect(),
            }],
            reports: Vec::new(),
        }
    }

    /// The specification's example of two subsets.
    const COSINES: [f64; 7] = [0.9, 0.2, 0.5, 0.7, 0.3, 0.8, 0.6];

    fn two_subsets(name: StsName) -> StsTask {
        let (a, b) = (pairs(&[5.0, 1.0, 2.0, 4.0], 0), pairs(&[2.0, 1.0, 3.0], 4));
        task(name, vec![("a", a), ("b", b)])
    }

    #[test]
    fn subsets_are_aggregated_in_three_ways() {
        let task = two_subsets(StsName::Sts13);
        let mut pool = TextPool::default();
        let pairs = StsPairs::of_task(&task, StsPart::Test, &mut pool).unwrap();
        // One anchor for seven pairs.
        assert_eq!(pool.texts().len(), 8);
        let result = pairs.score(&at(&COSINES)).unwrap();
        let spearman = &result.scores.spearman;
        for (found, expected) in [
            (spearman.all, 0.545544726),
            (spearman.mean, 0.25),
            (spearman.wmean, 0.357142857),
        ] {
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        }
        assert_eq!(result.subsets, ["a", "b"]);
        assert!(StsPairs::of_task(&task, StsPart::Dev, &mut pool).is_none());
    }

    #[test]
    fn the_benchmark_is_one_set() {
        let task = two_subsets(StsName::StsB);
        let mut pool = TextPool::default();
        let pairs = StsPairs::of_task(&task, StsPart::Test, &mut pool).unwrap();
        let spearman = pairs.score(&at(&COSINES)).unwrap().scores.spearman;
        assert!((spearman.all - 0.545544726).abs() < 1e-9);
        assert_eq!([spearman.mean, spearman.wmean], [spearman.all; 2]);
    }

    #[test]
    fn constant_gold_scores_are_missing() {
        let task = task(StsName::SickR, vec![("all", pairs(&[3.0, 3.0], 0))]);
        let mut pool = TextPool::default();
        let pairs = StsPairs::of_task(&task, StsPart::Test, &mut pool).unwrap();
        let scores = pairs.score(&at(&[0.1, 0.9])).unwrap().scores;
        assert!(scores.spearman.all.is_nan() && scores.pearson.all.is_nan());
    }
}
