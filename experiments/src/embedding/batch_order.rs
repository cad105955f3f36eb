//! Which rows make up each step.

use datasets::batches::batches;
use datasets::{BatchOptions, RowKeys};
use training::{Streams, shuffle, stream};

use super::text_table::TextTable;
use crate::error::RunError;
use crate::session::Span;

/// How rows are put into batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchRules<'c> {
    /// Rows a batch; the last one of an epoch may be smaller.
    pub(crate) size: usize,
    /// Passes over the rows.
    pub(crate) epochs: u64,
    /// Steps at most; 0: no limit.
    pub(crate) max_steps: u64,
    /// The order of the first epoch in every epoch.
    pub(crate) same_order: bool,
    /// Sort by length within this many batches; 0: off.
    pub(crate) bucket_batches: usize,
    /// Texts of every row as keys: no two rows of a batch share one.
    pub(crate) no_duplicates: Option<&'c RowKeys>,
    /// JSON list of index lists that replaces all of the above; empty: none.
    pub(crate) file: &'c str,
    /// Key of the stage in the random streams.
    pub(crate) key: u64,
}

/// Rows of every step.
#[derive(Clone, Debug)]
pub(crate) struct BatchOrder {
    batches: Vec<Vec<usize>>,
    per_epoch: u64,
}

impl BatchOrder {
    /// The batches of rows whose texts are `columns` of `texts`.
    ///
    /// # Errors
    ///
    /// A batch file that cannot be read or does not fit.
    pub(crate) fn new(
        rules: &BatchRules<'_>,
        columns: &[Vec<usize>],
        texts: &TextTable,
        streams: &Streams,
    ) -> Result<Self, RunError> {
        let rows = columns.first().map_or(0, Vec::len);
        if let Some(batches) = crate::batch_file::read(rules.file, rows)? {
            let per_epoch = batches.len() as u64;
            return Ok(Self { batches, per_epoch });
        }
        let lengths: Option<Vec<usize>> = (rules.bucket_batches > 1).then(|| {
            (0..rows)
                .map(|row| columns.iter().map(|column| texts.tokens(column[row])).sum())
                .collect()
        });
        let mut all: Vec<Vec<usize>> = Vec::new();
        let mut per_epoch = 0;
        for epoch in 0..rules.epochs {
            let drawn = if rules.same_order { 0 } else { epoch };
            let mut rng = streams.rng(stream::SHUFFLE, &[rules.key, drawn]);
            let options = BatchOptions {
                batch_size: rules.size,
                seed: streams.seed(stream::SHUFFLE, &[rules.key]),
                bucket_window: rules.bucket_batches,
            };
            let order = shuffle(rows, &mut rng);
            let lengths = lengths.as_deref();
            let plan = batches(&order, rules.no_duplicates, lengths, drawn, &options)?;
            per_epoch = per_epoch.max(plan.batches.len() as u64);
            all.extend(plan.batches);
            if rules.max_steps > 0 && all.len() as u64 >= rules.max_steps {
                all.truncate(usize::try_from(rules.max_steps).unwrap_or(usize::MAX));
                break;
            }
        }
        let batches = all;
        Ok(Self { batches, per_epoch })
    }

    /// Rows of a step.
    pub(crate) fn rows(&self, step: u64) -> Result<&[usize], RunError> {
        usize::try_from(step)
            .ok()
            .and_then(|step| self.batches.get(step))
            .map(Vec::as_slice)
            .ok_or_else(|| RunError::Data(format!("step {step} has no batch")))
    }

    /// Steps in all.
    pub(crate) fn steps(&self) -> u64 {
        self.batches.len() as u64
    }

    /// The stage that goes through all batches.
    pub(crate) fn span(&self, checkpoint_every: u64) -> Span {
        Span {
            steps: self.steps(),
            per_epoch: self.per_epoch.max(1),
            checkpoint_every,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use encoder::TextTokenizer;

    use super::super::text_table::Column;
    use super::*;

    const RULES: BatchRules<'_> = BatchRules {
        size: 4,
        epochs: 2,
        max_steps: 0,
        same_order: false,
        bucket_batches: 0,
        no_duplicates: None,
        file: "",
        key: 1,
    };

    /// The order of ten rows of 1 to 10 words.
    fn order(rules: &BatchRules<'_>, seed: u64) -> BatchOrder {
        let pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"];
        let tokenizer = TextTokenizer::from_word_pieces(&pieces).unwrap();
        let texts: Vec<String> = (1..=10).map(|count| "a ".repeat(count)).collect();
        let (texts, columns) = TextTable::new(&[Column::plain(&texts)], &tokenizer, 16).unwrap();
        BatchOrder::new(rules, &columns, &texts, &Streams::new(seed)).unwrap()
    }

    fn rows(order: &BatchOrder, steps: std::ops::Range<u64>) -> Vec<usize> {
        steps
            .flat_map(|step| order.rows(step).unwrap().to_vec())
            .collect()
    }

    fn sorted(mut rows: Vec<usize>) -> Vec<usize> {
        rows.sort_unstable();
        rows
    }

    #[test]
    fn every_epoch_has_every_row_once() {
        let order = order(&RULES, 0);
        let span = Span {
            steps: 6,
            per_epoch: 3,
            checkpoint_every: 5,
        };
        assert_eq!((order.steps(), order.span(5)), (6, span));
        let all: Vec<usize> = (0..10).collect();
        let (first, second) = (rows(&order, 0..3), rows(&order, 3..6));
        assert_ne!(first, second);
        assert_eq!((sorted(first), sorted(second)), (all.clone(), all));
        assert_eq!(order.rows(2).unwrap().len(), 2);
        assert!(order.rows(6).is_err());
    }

    #[test]
    fn the_seed_and_the_stage_decide() {
        let plain = order(&RULES, 0);
        assert_eq!(plain.batches, order(&RULES, 0).batches);
        assert_ne!(plain.batches, order(&RULES, 1).batches);
        let other = BatchRules { key: 2, ..RULES };
        assert_ne!(plain.batches, order(&other, 0).batches);
    }

    #[test]
    fn one_order_for_all_epochs() {
        let same = BatchRules {
            same_order: true,
            ..RULES
        };
        let order = order(&same, 0);
        assert_eq!(rows(&order, 0..3), rows(&order, 3..6));
    }

    #[test]
    fn a_limit_cuts_and_changes_nothing_before() {
        let plain = order(&RULES, 0);
        for limit in [1, 3, 5, 6, 100] {
            let cut = order(
                &BatchRules {
                    max_steps: limit,
                    ..RULES
                },
                0,
            );
            assert_eq!(cut.steps(), limit.min(6));
            assert_eq!(rows(&cut, 0..cut.steps()), rows(&plain, 0..cut.steps()));
        }
    }

    #[test]
    fn buckets_bring_rows_of_like_length_together() {
        let bucketed = order(
            &BatchRules {
                bucket_batches: 3,
                ..RULES
            },
            0,
        );
        for step in 0..3 {
            let rows = sorted(bucketed.rows(step).unwrap().to_vec());
            assert!(
                rows.windows(2).all(|pair| pair[1] == pair[0] + 1),
                "{rows:?}"
            );
        }
    }
}
