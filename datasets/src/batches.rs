//! The rows of an epoch as batches of row ids.
//!
//! The plain plan cuts a random order into batches and keeps the last, short one. Two options change
//! which rows meet, so both are off in faithful runs:
//!
//! * **no duplicates**: no two rows of a batch share a text, in any column. For in-batch negatives a
//!   shared text is a false negative (NLI repeats its premises about three times);
//! * **length buckets**: inside windows of some batches rows are sorted by length, so that a batch
//!   carries little padding.
//!
//! Everything follows from the options, the seed and the epoch; no plan loses or repeats a row.

use std::collections::HashMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::leakage::TextRule;

/// A plan that cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BatchError {
    /// Batches of nothing.
    #[error("batches: batch_size: expected at least 1, found 0")]
    EmptyBatch,
    /// Per-row data for fewer rows than the order names.
    #[error("batches: {what}: expected one for each of {expected} rows, found {found}")]
    Rows {
        /// `keys` or `lengths`.
        what: &'static str,
        /// Number of rows.
        expected: usize,
        /// Number given.
        found: usize,
    },
}

/// How rows become batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    /// Rows in a batch.
    pub batch_size: usize,
    /// Seed of all orders.
    pub seed: u64,
    /// Batches in a window inside which rows are sorted by length; 0 and 1 leave the order as it is.
    pub bucket_window: usize,
}

/// The texts of every row as keys, for the no-duplicates plan. Two texts are the same if they are
/// equal by [`TextRule::Letters`]; a text without letters and digits equals only itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowKeys {
    rows: Vec<Vec<u64>>,
}

impl RowKeys {
    /// Adds a row with its texts. A row may hold the same text twice, as unsupervised pairs do.
    pub fn push<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) {
        let mut keys: Vec<u64> = texts.into_iter().map(text_key).collect();
        keys.sort_unstable();
        keys.dedup();
        self.rows.push(keys);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The different keys of a row; none beyond the last row. Equal texts have equal keys; different
    /// ones may share a key with a probability of 2^-64, which at worst delays a row.
    pub fn row(&self, row: usize) -> &[u64] {
        self.rows.get(row).map(Vec::as_slice).unwrap_or_default()
    }
}

fn text_key(text: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = TextRule::Letters.key(text);
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The batches of one epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EpochBatches {
    /// Row ids, batch by batch. Full batches come before short ones.
    pub batches: Vec<Vec<usize>>,
    /// Batches with fewer rows than asked for: at most one in the plain plan.
    pub short: usize,
    /// Rows that a shared text moved to a later batch than the order alone would have given.
    pub delayed: usize,
}

/// A random order of `0..rows`, a function of the seed and the epoch. `training::shuffle` gives one
/// from a run's own streams; both can be passed to [`batches`].
///
/// ```
/// let order = datasets::batches::epoch_order(5, 42, 0);
/// assert_eq!(order, datasets::batches::epoch_order(5, 42, 0));
/// assert_ne!(order, datasets::batches::epoch_order(5, 42, 1));
/// ```
pub fn epoch_order(rows: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    order.shuffle(&mut epoch_rng(seed, epoch, Purpose::Order));
    order
}

/// What numbers are drawn for; each purpose has its own stream.
#[derive(Clone, Copy)]
enum Purpose {
    Order,
    Buckets,
    Mixing,
}

fn epoch_rng(seed: u64, epoch: u64, purpose: Purpose) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch.wrapping_mul(3).wrapping_add(purpose as u64));
    rng
}

/// Cuts an order (different row ids, all rows or some) into batches.
///
/// With `lengths` (one for each row, in tokens or characters) and a `bucket_window` over 1, rows are sorted by
/// length inside windows of that many batches. With `keys`, no two rows of a batch share a text: a
/// row goes to the first batch with room that comes after the last batch with one of its texts.
/// Short batches are then put last. If rows were sorted, the full batches of each window are put
/// into a random order, since otherwise every window would begin with its shortest texts.
///
/// # Errors
/// [`BatchError`]: a batch size of 0, keys or lengths for too few rows.
///
/// ```
/// use datasets::{BatchOptions, RowKeys, batches::{batches, epoch_order}};
///
/// let mut keys = RowKeys::default();
/// keys.push(["A man runs.", "Someone moves."]);
/// keys.push(["a man runs", "He sits."]); // shares a text with the first row
/// keys.push(["It rains.", "Water falls."]);
/// let options = BatchOptions { batch_size: 2, seed: 1, bucket_window: 0 };
/// let plan = batches(&[0, 1, 2], Some(&keys), None, 0, &options)?;
/// assert_eq!(plan.batches, [vec![0, 2], vec![1]]);
/// assert_eq!((plan.short, plan.delayed), (1, 1));
/// # Ok::<(), datasets::BatchError>(())
/// ```
pub fn batches(
    order: &[usize],
    keys: Option<&RowKeys>,
    lengths: Option<&[usize]>,
    epoch: u64,
    options: &BatchOptions,
) -> Result<EpochBatches, BatchError> {
    let size = options.batch_size;
    if size == 0 {
        return Err(BatchError::EmptyBatch);
    }
    let rows = order.iter().max().map_or(0, |last| last + 1);
    let check = |what, found| {
        if found >= rows {
            return Ok(());
        }
        Err(BatchError::Rows {
            what,
            expected: rows,
            found,
        })
    };
    let mut order = order.to_vec();
    let window = size.saturating_mul(options.bucket_window);
    let bucketed = lengths.filter(|_| options.bucket_window > 1);
    if let Some(lengths) = lengths {
        check("lengths", lengths.len())?;
    }
    if let Some(lengths) = bucketed {
        for window in order.chunks_mut(window) {
            window.sort_by_key(|row| lengths.get(*row).copied().unwrap_or_default());
        }
    }
    let mut plan = match keys {
        Some(keys) => {
            check("keys", keys.len())?;
            no_duplicates(&order, keys, size)
        }
        None => EpochBatches {
            batches: order.chunks(size).map(<[usize]>::to_vec).collect(),
            short: usize::from(!order.len().is_multiple_of(size)),
            delayed: 0,
        },
    };
    if bucketed.is_some() {
        let mut rng = epoch_rng(options.seed, epoch, Purpose::Buckets);
        let full = plan.batches.len() - plan.short;
        if let Some(full) = plan.batches.get_mut(..full) {
            for window in full.chunks_mut(options.bucket_window) {
                window.shuffle(&mut rng);
            }
        }
    }
    Ok(plan)
}

/// First-fit in the given order. For every key the batch after the last one that has it is known, so
/// a row needs no comparison with others; batches that are full are skipped by path halving.
fn no_duplicates(order: &[usize], keys: &RowKeys, size: usize) -> EpochBatches {
    let mut filled: Vec<Vec<usize>> = Vec::new();
    // next_open[b] is b for a batch with room, else some later batch on the way to one.
    let mut next_open: Vec<usize> = Vec::new();
    let mut after: HashMap<u64, usize> = HashMap::new();
    let mut delayed = 0;
    for &row in order {
        let earliest = keys.row(row).iter().filter_map(|key| after.get(key));
        let earliest = earliest.copied().max().unwrap_or(0);
        let at = open_batch(&mut next_open, earliest);
        delayed += usize::from(at > open_batch(&mut next_open, 0));
        if filled.len() < next_open.len() {
            filled.resize(next_open.len(), Vec::new());
        }
        if let Some(batch) = filled.get_mut(at) {
            batch.push(row);
            if batch.len() == size
                && let Some(next) = next_open.get_mut(at)
            {
                *next = at + 1;
            }
        }
        for key in keys.row(row) {
            after.insert(*key, at + 1);
        }
    }
    let (mut batches, short): (Vec<_>, Vec<_>) =
        filled.into_iter().partition(|batch| batch.len() == size);
    let count = short.len();
    batches.extend(short);
    EpochBatches {
        batches,
        short: count,
        delayed,
    }
}

/// The first batch with room at or after `from`; the list grows by an empty one if there is none.
fn open_batch(next_open: &mut Vec<usize>, from: usize) -> usize {
    let mut at = from;
    loop {
        let Some(&next) = next_open.get(at) else {
            next_open.extend(next_open.len()..=at);
            return at;
        };
        if next == at {
            return at;
        }
        let beyond = next_open.get(next).copied().unwrap_or(next);
        if let Some(slot) = next_open.get_mut(at) {
            *slot = beyond;
        }
        at = beyond;
    }
}

/// In which order the batches of several data sets are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mixing {
    /// At random, each set as often as it has batches.
    #[default]
    Proportional,
    /// In turn; a set that has run out is left out of the turn.
    RoundRobin,
    /// In turn until one of them has run out; what is left of the others is not used.
    RoundRobinShortest,
}

/// The sequence of `(data set, batch)` for sets with these numbers of batches. The batches of a set
/// keep their order.
///
/// ```
/// use datasets::{Mixing, batches::mix};
///
/// assert_eq!(mix(&[2, 1], Mixing::RoundRobin, 0, 0), [(0, 0), (1, 0), (0, 1)]);
/// assert_eq!(mix(&[2, 1], Mixing::RoundRobinShortest, 0, 0), [(0, 0), (1, 0)]);
/// assert_eq!(mix(&[2, 1], Mixing::Proportional, 0, 0).len(), 3);
/// ```
pub fn mix(counts: &[usize], mixing: Mixing, seed: u64, epoch: u64) -> Vec<(usize, usize)> {
    let rounds = match mixing {
        Mixing::RoundRobinShortest => counts.iter().min(),
        _ => counts.iter().max(),
    };
    let in_turn = (0..rounds.copied().unwrap_or(0)).flat_map(|batch| {
        let sets = counts.iter().enumerate();
        let left = sets.filter(move |(_, count)| batch < **count);
        left.map(move |(set, _)| (set, batch))
    });
    if mixing != Mixing::Proportional {
        return in_turn.collect();
    }
    let mut sets: Vec<usize> = in_turn.map(|(set, _)| set).collect();
    sets.shuffle(&mut epoch_rng(seed, epoch, Purpose::Mixing));
    let mut taken = vec![0; counts.len()];
    sets.into_iter()
        .filter_map(|set| {
            let next = taken.get_mut(set)?;
            *next += 1;
            Some((set, *next - 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn options(batch_size: usize, bucket_window: usize) -> BatchOptions {
        BatchOptions {
            batch_size,
            seed: 3,
            bucket_window,
        }
    }

    fn keys(rows: &[Vec<String>]) -> RowKeys {
        let mut keys = RowKeys::default();
        for row in rows {
            keys.push(row.iter().map(String::as_str));
        }
        keys
    }

    fn sorted(plan: &EpochBatches) -> Vec<usize> {
        let mut rows: Vec<usize> = plan.batches.iter().flatten().copied().collect();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn the_plain_plan_is_the_order_cut_into_pieces() {
        let order = [4, 2, 0, 1, 3];
        let plan = batches(&order, None, None, 0, &options(2, 0)).unwrap();
        assert_eq!(plan.batches, [vec![4, 2], vec![0, 1], vec![3]]);
        assert_eq!((plan.short, plan.delayed), (1, 0));
        let plan = batches(&[0, 1], None, None, 0, &options(2, 0)).unwrap();
        assert_eq!(plan.short, 0);
        let plan = batches(&[], None, None, 0, &options(2, 0)).unwrap();
        assert_eq!(plan, EpochBatches::default());
    }

    #[test]
    fn bad_plans_are_refused() {
        assert_eq!(
            batches(&[0], None, None, 0, &options(0, 0)),
            Err(BatchError::EmptyBatch)
        );
        let few = BatchError::Rows {
            what: "keys",
            expected: 3,
            found: 0,
        };
        let none = RowKeys::default();
        assert_eq!(
            batches(&[2, 0], Some(&none), None, 0, &options(1, 0)),
            Err(few)
        );
        let lengths = batches(&[2, 0], None, Some(&[1, 1]), 0, &options(1, 0));
        assert!(lengths.unwrap_err().to_string().contains("lengths"));
    }

    #[test]
    fn keys_ignore_case_and_punctuation_but_not_all_there_is() {
        let mut keys = RowKeys::default();
        keys.push(["It rains.", "it  RAINS"]);
        keys.push(["?!"]);
        keys.push(["..."]);
        assert_eq!(keys.row(0).len(), 1);
        assert_ne!(keys.row(1), keys.row(2));
        assert_eq!(keys.row(9), [0_u64; 0]);
    }

    #[test]
    fn equal_rows_each_get_a_batch() {
        let rows = vec![vec!["same".to_owned()]; 2000];
        let order: Vec<usize> = (0..rows.len()).collect();
        let plan = batches(&order, Some(&keys(&rows)), None, 0, &options(64, 0)).unwrap();
        assert_eq!(plan.batches.len(), 2000);
        assert_eq!((plan.short, plan.delayed), (2000, 1999));
    }

    #[test]
    fn a_delayed_row_fills_the_next_batch_first() {
        let rows: Vec<Vec<String>> = ["a", "a", "b", "c", "d"]
            .map(|text| vec![text.to_owned()])
            .to_vec();
        let plan = batches(
            &[0, 1, 2, 3, 4],
            Some(&keys(&rows)),
            None,
            0,
            &options(2, 0),
        )
        .unwrap();
        assert_eq!(plan.batches, [vec![0, 2], vec![1, 3], vec![4]]);
        assert_eq!((plan.short, plan.delayed), (1, 1));
    }

    #[test]
    fn buckets_bring_rows_of_a_length_together() {
        let lengths = [9, 1, 8, 2, 9, 1, 8, 2];
        let order: Vec<usize> = (0..8).collect();
        let plan = batches(&order, None, Some(&lengths), 0, &options(2, 2)).unwrap();
        for batch in &plan.batches {
            let spread: Vec<usize> = batch.iter().map(|row| lengths[*row]).collect();
            assert!(spread[0].abs_diff(spread[1]) <= 1, "{plan:?}");
        }
        // A window never takes a row from another one.
        let first: BTreeSet<usize> = plan.batches[..2].iter().flatten().copied().collect();
        assert_eq!(first, (0..4).collect());
        // A window of one batch changes nothing.
        let plain = batches(&order, None, None, 0, &options(2, 0)).unwrap();
        let one = batches(&order, None, Some(&lengths), 0, &options(2, 1)).unwrap();
        assert_eq!(one, plain);
    }

    #[test]
    fn the_full_batches_of_a_window_come_in_a_random_order() {
        let lengths: Vec<usize> = (0..64).collect();
        let plan = |epoch| batches(&lengths, None, Some(&lengths), epoch, &options(2, 32)).unwrap();
        assert_ne!(plan(0).batches, plan(1).batches);
        let rising = plan(0).batches.windows(2).filter(|w| w[0] < w[1]).count();
        assert!(rising < 31, "still sorted");
    }

    #[test]
    fn mixing_keeps_the_order_within_a_set() {
        assert_eq!(
            mix(&[1, 3, 0], Mixing::RoundRobin, 0, 0),
            [(0, 0), (1, 0), (1, 1), (1, 2)]
        );
        assert_eq!(mix(&[1, 3, 0], Mixing::RoundRobinShortest, 0, 0), []);
        assert_eq!(mix(&[], Mixing::Proportional, 0, 0), []);
    }

    proptest! {
        #[test]
        fn every_row_once_no_duplicates_and_the_same_again(
            rows in prop::collection::vec(prop::collection::vec("[a-e]{1,2}", 1..4), 0..60),
            lengths in prop::collection::vec(0_usize..20, 60),
            size in 1_usize..9,
            window in 0_usize..4,
            seed in any::<u64>(),
            epoch in any::<u64>(),
        ) {
            let options = BatchOptions { batch_size: size, seed, bucket_window: window };
            let order = epoch_order(rows.len(), seed, epoch);
            let keys = keys(&rows);
            let all: Vec<usize> = (0..rows.len()).collect();
            for keys in [None, Some(&keys)] {
                let plan = batches(&order, keys, Some(&lengths), epoch, &options).unwrap();
                prop_assert_eq!(&plan, &batches(&order, keys, Some(&lengths), epoch, &options).unwrap());
                prop_assert_eq!(sorted(&plan), all.clone());
                let short = plan.batches.iter().filter(|batch| batch.len() < size).count();
                prop_assert_eq!(plan.short, short);
                for (at, batch) in plan.batches.iter().enumerate() {
                    prop_assert!((1..=size).contains(&batch.len()));
                    prop_assert!(batch.len() == size || at >= plan.batches.len() - short);
                    if keys.is_some() {
                        // Compared as texts, not as keys.
                        let mut seen = BTreeSet::new();
                        for row in batch {
                            let texts: BTreeSet<&String> = rows[*row].iter().collect();
                            for text in texts {
                                prop_assert!(seen.insert(text), "{} twice", text);
                            }
                        }
                    }
                }
                if keys.is_none() {
                    prop_assert!(short <= 1);
                }
            }
        }

        #[test]
        fn without_shared_texts_the_plans_agree(n in 0_usize..50, size in 1_usize..9, seed in any::<u64>()) {
            let rows: Vec<Vec<String>> = (0..n).map(|i| vec![i.to_string()]).collect();
            let order = epoch_order(n, seed, 0);
            let options = options(size, 0);
            prop_assert_eq!(
                batches(&order, Some(&keys(&rows)), None, 0, &options).unwrap(),
                batches(&order, None, None, 0, &options).unwrap()
            );
        }

        #[test]
        fn mixing_loses_nothing(counts in prop::collection::vec(0_usize..8, 0..5), seed in any::<u64>()) {
            let wanted: BTreeSet<(usize, usize)> = counts
                .iter()
                .enumerate()
                .flat_map(|(set, count)| (0..*count).map(move |batch| (set, batch)))
                .collect();
            for mixing in [Mixing::Proportional, Mixing::RoundRobin] {
                let sequence = mix(&counts, mixing, seed, 1);
                prop_assert_eq!(&sequence, &mix(&counts, mixing, seed, 1));
                prop_assert_eq!(sequence.len(), wanted.len());
                prop_assert_eq!(&sequence.iter().copied().collect::<BTreeSet<_>>(), &wanted);
                for (set, count) in counts.iter().enumerate() {
                    let own = sequence.iter().filter(|(s, _)| *s == set).map(|(_, b)| *b);
                    prop_assert_eq!(own.collect::<Vec<_>>(), (0..*count).collect::<Vec<_>>());
                }
            }
        }
    }
}
