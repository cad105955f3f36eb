//! Transfer tasks: features from frozen vectors, scored by [`score_features`].

use datasets::transfer::{TransferKind, TransferRows, TransferSplits};
use datasets::{TransferName, TransferTask};
use encoder::Embeddings;
use metrics::{LabelledRows, MetricsError};

use super::text_pool::TextPool;
use super::transfer_protocol::{Division, TransferScore, TransferSettings, score_features};
use crate::error::RunError;

/// The rows of a task as positions in a [`TextPool`].
#[derive(Clone, Debug)]
pub struct TransferRowsAt {
    /// Which task.
    pub task: TransferName,
    first: Vec<usize>,
    /// Empty for single texts.
    second: Vec<usize>,
    labels: Vec<u32>,
    division: Division,
}

/// Scores of one task.
#[derive(Clone, Debug, PartialEq)]
pub struct TransferResult {
    /// Which task.
    pub task: TransferName,
    /// What the protocol found.
    pub score: TransferScore,
    /// Wall time of the trainings, in seconds.
    pub seconds: f64,
}

impl TransferRowsAt {
    /// The rows of a task, its parts one after the other.
    ///
    /// # Errors
    /// [`RunError::Data`] if the parts are not those that the task should have.
    pub fn of_task<'a>(task: &'a TransferTask, pool: &mut TextPool<'a>) -> Result<Self, RunError> {
        let parts = task.parts();
        let mut rows = Self {
            task: task.name,
            first: Vec::new(),
            second: Vec::new(),
            labels: Vec::new(),
            division: Division::Nested,
        };
        let mut ranges = Vec::with_capacity(parts.len());
        for (_, part) in &parts {
            let start = rows.labels.len();
            rows.push(part, pool);
            ranges.push(start..rows.labels.len());
        }
        rows.division = match (task.name.splits(), ranges.as_slice()) {
            (TransferSplits::Folds, [_]) => Division::Nested,
            (TransferSplits::TrainTest, [train, test]) => Division::TrainTest {
                train: train.clone(),
                test: test.clone(),
            },
            (TransferSplits::TrainDevTest, [train, dev, test]) => Division::TrainDevTest {
                train: train.clone(),
                dev: dev.clone(),
                test: test.clone(),
            },
            _ => {
                let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
                return Err(RunError::Data(format!(
                    "{} has the parts {}, which is not how the task is divided",
                    task.name.name(),
                    names.join(", ")
                )));
            }
        };
        let pairs = match task.name.kind() {
            TransferKind::Single => 0,
            TransferKind::Pair => rows.first.len(),
        };
        if rows.second.len() != pairs || rows.labels.len() != rows.first.len() {
            return Err(RunError::Data(format!(
                "{}: {} texts, {} second texts and {} labels do not belong together",
                task.name.name(),
                rows.first.len(),
                rows.second.len(),
                rows.labels.len()
            )));
        }
        Ok(rows)
    }

    fn push<'a>(&mut self, rows: &'a TransferRows, pool: &mut TextPool<'a>) {
        self.first.extend(pool.add_all(&rows.texts));
        self.second
            .extend(pool.add_all(rows.second.iter().flatten()));
        // A label past u32 is past the classes as well, which the protocol reports.
        let labels = rows.labels.iter();
        self.labels
            .extend(labels.map(|&label| u32::try_from(label).unwrap_or(u32::MAX)));
    }

    /// Texts of all rows, equal ones counted each time.
    pub fn texts(&self) -> usize {
        self.first.len() + self.second.len()
    }

    /// Features of all rows, row-major, and their width: the vector of a text, `[dim]`, or
    /// `[|u - v|, u * v]`, `[2 dim]`, of a pair.
    pub fn features(&self, vectors: &Embeddings) -> (Vec<f32>, usize) {
        if self.second.is_empty() {
            let rows = self.first.iter();
            let values = rows.flat_map(|&at| vectors.row(at)).copied().collect();
            return (values, vectors.dim);
        }
        let mut values = Vec::with_capacity(self.first.len() * 2 * vectors.dim);
        for (&u, &v) in self.first.iter().zip(&self.second) {
            let (u, v) = (vectors.row(u), vectors.row(v));
            values.extend(u.iter().zip(v).map(|(u, v)| (u - v).abs()));
            values.extend(u.iter().zip(v).map(|(u, v)| u * v));
        }
        (values, 2 * vectors.dim)
    }

    /// Trains and scores classifiers on the vectors of the pool; see [`score_features`].
    ///
    /// # Errors
    /// [`RunError::Metrics`] for too few rows of a label or features that overflow.
    pub fn score(
        &self,
        vectors: &Embeddings,
        settings: &TransferSettings,
        test: bool,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<TransferResult, RunError> {
        let started = std::time::Instant::now();
        let (features, dim) = self.features(vectors);
        let classes = self.task.classes().len();
        let score = LabelledRows::new(&features, dim, &self.labels, classes)
            .and_then(|rows| score_features(&rows, &self.division, settings, test, progress))
            .map_err(|source| self.named(source))?;
        Ok(TransferResult {
            task: self.task,
            score,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    fn named(&self, source: MetricsError) -> RunError {
        match source {
            // The data's doing; anything else is the model's or a setting's.
            MetricsError::TooFew { .. } | MetricsError::Empty { .. } => {
                RunError::Data(format!("{}: {source}", self.task.name()))
            }
            other => RunError::Metrics(other),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use datasets::transfer::TransferData;

    use super::*;

    fn rows(texts: &[&str], second: Option<&[&str]>, labels: &[usize]) -> TransferRows {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        TransferRows {
            texts: own(texts),
            second: second.map(own),
            labels: labels.to_vec(),
        }
    }

    fn task(name: TransferName, data: TransferData) -> TransferTask {
        TransferTask {
            name,
            data,
            reports: Vec::new(),
        }
    }

    #[test]
    fn pairs_become_differences_and_products() {
        let task = task(
            TransferName::Mrpc,
            TransferData::Fixed {
                train: rows(&["a"], Some(&["b"]), &[1]),
                dev: None,
                test: rows(&["b"], Some(&["b"]), &[0]),
            },
        );
        let mut pool = TextPool::default();
        let rows = TransferRowsAt::of_task(&task, &mut pool).unwrap();
        assert_eq!(pool.texts(), ["a", "b"]);
        let vectors = Embeddings {
            values: vec![1.0, -2.0, 3.0, 4.0],
            dim: 2,
        };
        let (features, dim) = rows.features(&vectors);
        assert_eq!(dim, 4);
        assert_eq!(features, [2.0, 6.0, 3.0, -8.0, 0.0, 0.0, 9.0, 16.0]);
        assert_eq!(
            rows.division,
            Division::TrainTest {
                train: 0..1,
                test: 1..2
            }
        );
    }

    #[test]
    fn parts_that_do_not_fit_are_errors() {
        let single = rows(&["a"], None, &[0]);
        let mut pool = TextPool::default();
        let folds = task(TransferName::Trec, TransferData::Folds(single.clone()));
        assert!(TransferRowsAt::of_task(&folds, &mut pool).is_err());
        let fixed = TransferData::Fixed {
            train: single.clone(),
            dev: None,
            test: single,
        };
        let no_pairs = task(TransferName::Mrpc, fixed);
        assert!(TransferRowsAt::of_task(&no_pairs, &mut pool).is_err());
    }

    #[test]
    fn too_few_rows_of_a_label_are_named() {
        let task = task(
            TransferName::Cr,
            TransferData::Folds(rows(&["a", "b", "c"], None, &[0, 1, 0])),
        );
        let mut pool = TextPool::default();
        let rows = TransferRowsAt::of_task(&task, &mut pool).unwrap();
        let vectors = Embeddings {
            values: vec![1.0, 2.0, 3.0],
            dim: 1,
        };
        let error = rows
            .score(&vectors, &TransferSettings::fast(), true, &|_, _| {})
            .unwrap_err();
        assert!(
            error.to_string().contains("CR: stratified_folds"),
            "{error}"
        );
        assert_eq!(error.exit_code(), 2);
    }
}
