//! Training rows and scored pairs made from the bundled category set, for runs without a download.
//!
//! Two texts of one fine category count as similar (score 4, label 2 of 2), two of one coarse label as
//! related (2, 1), others as unrelated (0, 0). That is enough to see every part work; it is no
//! substitute for human scores, and figures on it compare with nothing published.

use std::collections::BTreeMap;

use datasets::{CategoryDataset, ScoredPair, Split};
use training::{Streams, below, stream};

use crate::error::RunError;

/// Scores of similar, related and unrelated texts on the scale of STS tasks.
const STS_SCORES: [f64; 3] = [4.0, 2.0, 0.0];
/// Labels of the same as classes.
const NLI_LABELS: [f64; 3] = [2.0, 1.0, 0.0];

/// Rows of the set by fine and by coarse label.
struct Groups<'d> {
    data: &'d CategoryDataset,
    split: &'d Split,
    fine: Vec<usize>,
    by_fine: BTreeMap<usize, Vec<usize>>,
    by_coarse: BTreeMap<usize, Vec<usize>>,
}

impl<'d> Groups<'d> {
    fn new(data: &'d CategoryDataset, split: &'d Split) -> Result<Self, RunError> {
        let fine = split
            .fine
            .clone()
            .ok_or_else(|| RunError::Data("the bundled set has no fine labels".to_owned()))?;
        let mut by_fine: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut by_coarse: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (row, (fine, coarse)) in fine.iter().zip(&split.coarse).enumerate() {
            by_fine.entry(*fine).or_default().push(row);
            by_coarse.entry(*coarse).or_default().push(row);
        }
        Ok(Self {
            data,
            split,
            fine,
            by_fine,
            by_coarse,
        })
    }

    /// A partner of `row` for each degree of similarity, drawn from a stream of its own.
    fn partners(&self, row: usize, streams: &Streams) -> [Option<usize>; 3] {
        let mut rng = streams.rng(stream::DATAGEN, &[row as u64]);
        let mut draw = |rows: Vec<usize>| -> Option<usize> {
            let at = below(rows.len() as u64, &mut rng);
            rows.get(at as usize).copied()
        };
        let (fine, coarse) = (self.fine[row], self.split.coarse[row]);
        let same_fine = self.by_fine.get(&fine).into_iter().flatten();
        let same_coarse = self.by_coarse.get(&coarse).into_iter().flatten();
        let similar = same_fine.copied().filter(|other| *other != row).collect();
        let related = same_coarse
            .copied()
            .filter(|other| self.fine[*other] != fine)
            .collect();
        let other = (1..self.data.coarse_names.len())
            .map(|step| (coarse + step) % self.data.coarse_names.len())
            .filter_map(|coarse| self.by_coarse.get(&coarse))
            .flatten()
            .copied()
            .collect();
        [draw(similar), draw(related), draw(other)]
    }

    fn pairs(
        &self,
        rows: impl Iterator<Item = usize>,
        scores: [f64; 3],
        streams: &Streams,
    ) -> Vec<ScoredPair> {
        rows.flat_map(|row| {
            self.partners(row, streams)
                .into_iter()
                .zip(scores)
                .filter_map(move |(partner, score)| {
                    Some(ScoredPair {
                        first: self.split.texts[row].clone(),
                        second: self.split.texts[partner?].clone(),
                        score,
                    })
                })
        })
        .collect()
    }
}

/// Sentences of the training split, one column.
pub(crate) fn sentences() -> Result<Vec<Vec<String>>, RunError> {
    Ok(vec![datasets::pocket()?.train.texts])
}

/// Labelled pairs of the training split: 2 similar, 1 related, 0 unrelated.
pub(crate) fn labelled_pairs() -> Result<Vec<ScoredPair>, RunError> {
    let data = datasets::pocket()?;
    let groups = Groups::new(&data, &data.train)?;
    Ok(groups.pairs(0..data.train.len(), NLI_LABELS, &Streams::new(1)))
}

/// Scored pairs of the training split.
pub(crate) fn scored_pairs() -> Result<Vec<ScoredPair>, RunError> {
    let data = datasets::pocket()?;
    let groups = Groups::new(&data, &data.train)?;
    Ok(groups.pairs(0..data.train.len(), STS_SCORES, &Streams::new(2)))
}

/// Scored pairs for choosing a checkpoint (rows of the first half of the test split) and for
/// reporting (the second half).
pub(crate) fn evaluation_pairs() -> Result<(Vec<ScoredPair>, Vec<ScoredPair>), RunError> {
    let data = datasets::pocket()?;
    let groups = Groups::new(&data, &data.test)?;
    let streams = Streams::new(3);
    let (even, odd): (Vec<usize>, Vec<usize>) =
        (0..data.test.len()).partition(|row| row.is_multiple_of(2));
    Ok((
        groups.pairs(even.into_iter(), STS_SCORES, &streams),
        groups.pairs(odd.into_iter(), STS_SCORES, &streams),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pairs_are_what_they_say() {
        let data = datasets::pocket().unwrap();
        let of: BTreeMap<&str, (usize, usize)> = data
            .test
            .texts
            .iter()
            .enumerate()
            .map(|(row, text)| {
                let fine = data.test.fine.as_ref().unwrap()[row];
                (text.as_str(), (data.test.coarse[row], fine))
            })
            .collect();
        let (dev, test) = evaluation_pairs().unwrap();
        for pairs in [&dev, &test] {
            assert!(pairs.len() > 100);
            for pair in pairs.iter() {
                let (a, b) = (of[pair.first.as_str()], of[pair.second.as_str()]);
                let want = match (a.1 == b.1, a.0 == b.0) {
                    (true, _) => 4.0,
                    (false, true) => 2.0,
                    (false, false) => 0.0,
                };
                assert_eq!(pair.score, want);
            }
        }
        let firsts: Vec<&str> = test.iter().map(|pair| pair.first.as_str()).collect();
        assert!(
            dev.iter()
                .all(|pair| !firsts.contains(&pair.first.as_str()))
        );
    }
}
