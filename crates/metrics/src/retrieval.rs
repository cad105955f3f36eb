//! Search quality: where the right documents stand in the list of each query.

use std::collections::BTreeMap;

use crate::compensated_sum::compensated_sum;
use crate::error::MetricsError;
use crate::rows::{check_rows, dot, normalised_rows};

/// Documents at the top of the list that [`RetrievalScores::ndcg_at_10`] looks at.
const NDCG_DEPTH: usize = 10;

/// Means over queries; all lie in `[0, 1]`, larger is better.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrievalScores {
    /// `recall@k = mean_q |relevant of q among its first k| / |relevant of q|`, by `k`.
    pub recall_at: BTreeMap<usize, f64>,
    /// Mean reciprocal rank: `mean_q 1 / (rank of the first relevant document)`, over whole lists.
    pub mrr: f64,
    /// `mean_q DCG_q / IDCG_q` over the first ten, with gain 1 for a relevant document:
    /// `DCG = sum_{relevant of rank r <= 10} 1 / log2(r + 1)`, `IDCG` the same with the relevant
    /// documents in front.
    pub ndcg_at_10: f64,
    /// Number of queries.
    pub queries: usize,
}

/// Ranks, from 1, of the relevant documents of each query, ascending.
///
/// `queries` is row-major `[q, dim]`, `documents` `[d, dim]`; rows need not be normalised, the list
/// of a query is ordered by cosine. `relevant[q]` holds indices into the documents, each once.
/// Documents with the same cosine stand in the worst order for the score: irrelevant ones first. An
/// encoder that maps everything to one point earns nothing by the order of the file.
///
/// Time `O(q * d * dim)`, memory `O(d)` beside the inputs.
///
/// # Errors
/// [`MetricsError::Empty`], [`MetricsError::Shape`], [`MetricsError::Parameter`],
/// [`MetricsError::NonFinite`] for either matrix; [`MetricsError::LengthMismatch`] unless there is
/// one list a query; [`MetricsError::TooFew`] for a query without a relevant document;
/// [`MetricsError::OutOfRange`] for an index past the documents or a repeated one.
///
/// ```
/// let documents = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0];
/// // Cosines of the query (1, 0.1) with the three: 0.995, 0.0995, 0.774.
/// let ranks = metrics::relevant_ranks(&[1.0, 0.1], &documents, 2, &[vec![1, 2]])?;
/// assert_eq!(ranks, [[2, 3]]);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn relevant_ranks(
    queries: &[f32],
    documents: &[f32],
    dim: usize,
    relevant: &[Vec<usize>],
) -> Result<Vec<Vec<usize>>, MetricsError> {
    let operation = "relevant_ranks";
    let query_rows = check_rows(operation, "queries", queries, dim)?;
    let document_rows = check_rows(operation, "documents", documents, dim)?;
    if relevant.len() != query_rows {
        return Err(MetricsError::LengthMismatch {
            operation,
            left: "queries",
            left_len: query_rows,
            right: "relevant",
            right_len: relevant.len(),
        });
    }
    let queries = normalised_rows(queries, dim);
    let documents = normalised_rows(documents, dim);
    let mut wanted = vec![false; document_rows];
    let mut cosines = Vec::with_capacity(document_rows);
    let mut ranks = Vec::with_capacity(query_rows);
    for (query, relevant) in queries.chunks_exact(dim).zip(relevant) {
        if relevant.is_empty() {
            return Err(MetricsError::TooFew {
                operation,
                argument: "relevant documents of a query",
                expected: 1,
                found: 0,
            });
        }
        wanted.fill(false);
        for (index, &document) in relevant.iter().enumerate() {
            // `get_mut` also refuses a document that was named before.
            match wanted.get_mut(document).filter(|wanted| !**wanted) {
                Some(wanted) => *wanted = true,
                None => {
                    return Err(MetricsError::OutOfRange {
                        operation,
                        argument: "relevant",
                        index,
                        found: document as u64,
                        limit: document_rows as u64,
                    });
                }
            }
        }
        cosines.clear();
        cosines.extend(documents.chunks_exact(dim).map(|row| dot(query, row)));
        let mut own: Vec<f64> = relevant.iter().map(|&at| cosines[at]).collect();
        own.sort_unstable_by(|a, b| b.total_cmp(a));
        let others = |threshold: f64| {
            cosines
                .iter()
                .zip(&wanted)
                .filter(|(cosine, wanted)| !**wanted && **cosine >= threshold)
                .count()
        };
        ranks.push(
            own.iter()
                .enumerate()
                .map(|(before, &cosine)| before + others(cosine) + 1)
                .collect(),
        );
    }
    Ok(ranks)
}

/// Recall, mean reciprocal rank and nDCG from the [`relevant_ranks`] of every query.
///
/// `depths` are the `k` of recall; ranks start at 1 and ascend within a query.
///
/// # Errors
/// [`MetricsError::Empty`] without queries; [`MetricsError::TooFew`] for a query without ranks;
/// [`MetricsError::Parameter`] for a `k` of 0 or ranks that do not ascend from 1.
///
/// ```
/// // Two queries with one relevant document each, found first and third.
/// let scores = metrics::retrieval_scores(&[vec![1], vec![3]], &[1, 5])?;
/// assert_eq!(scores.recall_at[&1], 0.5);
/// assert_eq!(scores.recall_at[&5], 1.0);
/// assert!((scores.mrr - (1.0 + 1.0 / 3.0) / 2.0).abs() < 1e-12);
/// assert!((scores.ndcg_at_10 - (1.0 + 0.5) / 2.0).abs() < 1e-12);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn retrieval_scores(
    ranks: &[Vec<usize>],
    depths: &[usize],
) -> Result<RetrievalScores, MetricsError> {
    let operation = "retrieval_scores";
    if ranks.is_empty() {
        return Err(MetricsError::Empty {
            operation,
            argument: "ranks",
        });
    }
    if depths.contains(&0) {
        return Err(MetricsError::Parameter {
            operation,
            parameter: "depths",
            expected: "at least 1",
            found: "0".to_owned(),
        });
    }
    for list in ranks {
        match list.first() {
            None => {
                return Err(MetricsError::TooFew {
                    operation,
                    argument: "ranks of a query",
                    expected: 1,
                    found: 0,
                });
            }
            Some(&first) if first == 0 || list.windows(2).any(|pair| pair[0] >= pair[1]) => {
                return Err(MetricsError::Parameter {
                    operation,
                    parameter: "ranks of a query",
                    expected: "ranks that ascend from 1",
                    found: format!("{list:?}"),
                });
            }
            Some(_) => {}
        }
    }
    let mean = |score: &dyn Fn(&[usize]) -> f64| {
        compensated_sum(ranks.iter().map(|list| score(list))) / ranks.len() as f64
    };
    let gain = |rank: usize| 1.0 / ((rank + 1) as f64).log2();
    Ok(RetrievalScores {
        recall_at: depths
            .iter()
            .map(|&depth| {
                let recall = mean(&|list| {
                    let found = list.iter().filter(|rank| **rank <= depth).count();
                    found as f64 / list.len() as f64
                });
                (depth, recall)
            })
            .collect(),
        mrr: mean(&|list| 1.0 / list[0] as f64),
        ndcg_at_10: mean(&|list| {
            let reached = list.iter().take_while(|rank| **rank <= NDCG_DEPTH);
            let ideal: f64 = (1..=list.len().min(NDCG_DEPTH)).map(gain).sum();
            reached.map(|&rank| gain(rank)).sum::<f64>() / ideal
        }),
        queries: ranks.len(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn worked_example() {
        // Relevant at 1, 4 and 12: recall@3 1/3, recall@10 2/3, first at 1,
        // DCG 1 + 1/log2(5), ideal 1 + 1/log2(3) + 1/2.
        let scores = retrieval_scores(&[vec![1, 4, 12]], &[3, 10]).unwrap();
        assert!((scores.recall_at[&3] - 1.0 / 3.0).abs() < 1e-15);
        assert!((scores.recall_at[&10] - 2.0 / 3.0).abs() < 1e-15);
        assert_eq!(scores.mrr, 1.0);
        let expected = (1.0 + 1.0 / 5.0_f64.log2()) / (1.0 + 1.0 / 3.0_f64.log2() + 0.5);
        assert!((scores.ndcg_at_10 - expected).abs() < 1e-15);
    }

    #[test]
    fn ties_count_against_the_encoder() {
        // Four equal documents; the relevant one is the first in the file and still ranks last.
        let ranks = relevant_ranks(&[1.0], &[2.0, 2.0, 5.0, 1.0], 1, &[vec![0]]).unwrap();
        assert_eq!(ranks, [[4]]);
        // Two relevant ones of four share the last places.
        let ranks = relevant_ranks(&[1.0], &[2.0, 2.0, 5.0, 1.0], 1, &[vec![2, 0]]).unwrap();
        assert_eq!(ranks, [[3, 4]]);
    }

    #[test]
    fn hostile_input_is_an_error() {
        let ranks = |relevant: &[Vec<usize>]| relevant_ranks(&[1.0], &[1.0, 2.0], 1, relevant);
        assert!(matches!(
            ranks(&[]),
            Err(MetricsError::LengthMismatch { .. })
        ));
        assert!(matches!(ranks(&[vec![]]), Err(MetricsError::TooFew { .. })));
        for wrong in [vec![2], vec![0, 0]] {
            assert!(matches!(
                ranks(&[wrong]),
                Err(MetricsError::OutOfRange { .. })
            ));
        }
        assert!(matches!(
            relevant_ranks(&[f32::NAN], &[1.0], 1, &[vec![0]]),
            Err(MetricsError::NonFinite { .. })
        ));
        assert!(matches!(
            retrieval_scores(&[], &[1]),
            Err(MetricsError::Empty { .. })
        ));
        assert!(matches!(
            retrieval_scores(&[vec![1]], &[0]),
            Err(MetricsError::Parameter { .. })
        ));
        assert!(matches!(
            retrieval_scores(&[vec![]], &[1]),
            Err(MetricsError::TooFew { .. })
        ));
        for wrong in [vec![0], vec![2, 2], vec![3, 1]] {
            assert!(matches!(
                retrieval_scores(&[wrong], &[1]),
                Err(MetricsError::Parameter { .. })
            ));
        }
    }

    proptest! {
        #[test]
        fn ranks_agree_with_a_sorted_list(
            values in proptest::collection::vec(-5_i8..5, 4..40),
            wanted in 1_usize..4,
        ) {
            // Small whole numbers, so that equal cosines are common.
            let documents: Vec<f32> = values[2..].iter().map(|v| f32::from(*v)).collect();
            let documents = &documents[..documents.len() / 2 * 2];
            let query = [f32::from(values[0]), f32::from(values[1])];
            let count = documents.len() / 2;
            let relevant: Vec<usize> = (0..wanted.min(count)).collect();
            let found = relevant_ranks(&query, documents, 2, std::slice::from_ref(&relevant)).unwrap();

            let unit = |row: &[f32]| -> Vec<f64> { normalised_rows(row, 2) };
            let q = unit(&query);
            let mut list: Vec<(f64, bool)> = documents
                .chunks(2)
                .enumerate()
                .map(|(at, row)| {
                    let row = unit(row);
                    (dot(&q, &row), relevant.contains(&at))
                })
                .collect();
            list.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            // The sort tells -0 from 0 where the ranks do not.
            prop_assume!(list.iter().all(|(cosine, _)| *cosine != 0.0));
            let expected: Vec<usize> = (1..=count).filter(|rank| list[rank - 1].1).collect();
            prop_assert_eq!(&found[0], &expected);

            let scores = retrieval_scores(&found, &[1, 3, count]).unwrap();
            prop_assert_eq!(scores.recall_at[&count], 1.0);
            prop_assert!(scores.recall_at[&1] <= scores.recall_at[&3]);
            prop_assert!(scores.mrr > 0.0 && scores.mrr <= 1.0);
            prop_assert!((0.0..=1.0 + 1e-12).contains(&scores.ndcg_at_10));
        }
    }
}
