//! Retrieval on a user's pairs: does a query find its documents?

use datasets::RetrievalPairs;
use encoder::Embeddings;
use metrics::{RetrievalScores, relevant_ranks, retrieval_scores};

use super::text_pool::TextPool;
use crate::error::RunError;

/// Depths of the recall.
pub const DEPTHS: [usize; 3] = [1, 5, 10];

/// Queries and documents as positions in a [`TextPool`].
#[derive(Clone, Debug)]
pub struct RetrievalTask {
    /// Name of the file.
    pub task: String,
    queries: Vec<usize>,
    documents: Vec<usize>,
    relevant: Vec<Vec<usize>>,
}

/// Scores of one file of pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrievalResult {
    /// Name of the file.
    pub task: String,
    /// Number of documents that a query chooses from.
    pub documents: usize,
    /// Recall at [`DEPTHS`], mean reciprocal rank, nDCG.
    pub scores: RetrievalScores,
}

impl RetrievalTask {
    /// The queries search all documents of the file.
    pub fn new<'a>(name: &str, pairs: &'a RetrievalPairs, pool: &mut TextPool<'a>) -> Self {
        Self {
            task: name.to_owned(),
            queries: pool.add_all(&pairs.queries),
            documents: pool.add_all(&pairs.documents),
            relevant: pairs.relevant.clone(),
        }
    }

    /// Number of different queries and documents.
    pub fn texts(&self) -> usize {
        self.queries.len() + self.documents.len()
    }

    /// Scores with the vectors of the pool, ordered by cosine.
    ///
    /// # Errors
    /// [`RunError::Metrics`] for a query without a document.
    pub fn score(&self, vectors: &Embeddings) -> Result<RetrievalResult, RunError> {
        let rows = |positions: &[usize]| -> Vec<f32> {
            let rows = positions.iter().flat_map(|&at| vectors.row(at));
            rows.copied().collect()
        };
        let ranks = relevant_ranks(
            &rows(&self.queries),
            &rows(&self.documents),
            vectors.dim,
            &self.relevant,
        )?;
        Ok(RetrievalResult {
            task: self.task.clone(),
            documents: self.documents.len(),
            scores: retrieval_scores(&ranks, &DEPTHS)?,
        })
    }
}

impl RetrievalResult {
    /// The scores by name: `recall@1`, `recall@5`, `recall@10`, `mrr`, `ndcg@10`.
    pub fn figures(&self) -> Vec<(String, f64)> {
        let recall = self.scores.recall_at.iter();
        recall
            .map(|(depth, value)| (format!("recall@{depth}"), *value))
            .chain([
                ("mrr".to_owned(), self.scores.mrr),
                ("ndcg@10".to_owned(), self.scores.ndcg_at_10),
            ])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn queries_search_all_documents() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("faq.tsv");
        std::fs::write(&path, "q1\td1\nq2\td2\nq2\tq1\n").unwrap();
        let pairs = datasets::load_pairs(&path, Default::default()).unwrap();
        let mut pool = TextPool::default();
        let task = RetrievalTask::new("faq", &pairs, &mut pool);
        assert_eq!(pool.texts(), ["q1", "q2", "d1", "d2"]);
        let vectors = Embeddings {
            values: vec![1.0, 0.0, 0.0, 1.0, 0.9, 0.1, 0.8, 0.2],
            dim: 2,
        };
        let result = task.score(&vectors).unwrap();
        // q1 finds itself, then d1 (its answer); q2 finds d2, d1, q1: its own are first and last.
        assert_eq!(result.documents, 3);
        assert_eq!(result.scores.mrr, 0.75);
        let figures = result.figures();
        assert_eq!(figures[0], ("recall@1".to_owned(), 0.25));
        assert_eq!(figures.len(), DEPTHS.len() + 2);
    }
}
