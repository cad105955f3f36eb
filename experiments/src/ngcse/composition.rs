//! Which rows make up a batch: ordinary ones as they come, generated ones collected until there are
//! enough of them.

/// Rows of a step, as indices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MixedBatch {
    /// Rows of the ordinary corpus.
    pub(crate) ordinary: Vec<usize>,
    /// Generated rows.
    pub(crate) generated: Vec<usize>,
}

/// How rows are put into batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Composition {
    /// Rows that are looked at together; the last group of an epoch may be smaller.
    pub(crate) group: usize,
    /// Generated rows wait until there are this many; 0: they train with their group.
    pub(crate) wait_for: usize,
}

impl Composition {
    /// The batches of several epochs, one list an epoch, from the order of the rows in each.
    ///
    /// Rows come in groups. Generated rows go to a cache; once it holds `wait_for` rows, the batch is all
    /// of them and the ordinary rows of the group at hand, otherwise the ordinary rows alone. What is
    /// left in the cache after an epoch waits on in the next; what is left in the end is not trained on.
    /// A group without ordinary rows and without enough generated ones makes no batch, so that generated
    /// rows alone come `wait_for` or more at a time.
    ///
    /// Source: `combine_training` of the released code of NGCSE. There the cache belongs to the class and
    /// outlives a run; here every call starts with an empty one.
    pub(crate) fn batches(
        self,
        epochs: impl IntoIterator<Item = Vec<usize>>,
        is_generated: impl Fn(usize) -> bool,
    ) -> Vec<Vec<MixedBatch>> {
        let mut cache: Vec<usize> = Vec::new();
        epochs
            .into_iter()
            .map(|order| {
                let mut batches = Vec::new();
                for group in order.chunks(self.group.max(1)) {
                    let (waiting, ordinary): (Vec<usize>, Vec<usize>) =
                        group.iter().partition(|row| is_generated(**row));
                    cache.extend(waiting);
                    let generated = if cache.len() >= self.wait_for {
                        std::mem::take(&mut cache)
                    } else {
                        Vec::new()
                    };
                    if !(ordinary.is_empty() && generated.is_empty()) {
                        batches.push(MixedBatch {
                            ordinary,
                            generated,
                        });
                    }
                }
                batches
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use training::{Streams, shuffle};

    use super::*;

    fn batch(ordinary: &[usize], generated: &[usize]) -> MixedBatch {
        MixedBatch {
            ordinary: ordinary.to_vec(),
            generated: generated.to_vec(),
        }
    }

    /// Rows from 100 on are generated.
    fn compose(group: usize, wait_for: usize, epochs: &[&[usize]]) -> Vec<Vec<MixedBatch>> {
        let epochs = epochs.iter().map(|order| order.to_vec());
        Composition { group, wait_for }.batches(epochs, |row| row >= 100)
    }

    #[test]
    fn generated_rows_wait_for_company() {
        let order = [100, 1, 2, 101, 3, 4, 5, 102, 103, 6];
        assert_eq!(
            compose(3, 2, &[&order]),
            [vec![
                batch(&[1, 2], &[]),
                batch(&[3, 4], &[100, 101]),
                batch(&[5], &[102, 103]),
                batch(&[6], &[]),
            ]]
        );
    }

    #[test]
    fn what_waits_at_the_end_of_an_epoch_goes_on_in_the_next() {
        assert_eq!(
            compose(2, 2, &[&[1, 100, 2], &[3, 101, 100, 4]]),
            [
                vec![batch(&[1], &[]), batch(&[2], &[])],
                vec![batch(&[3], &[100, 101]), batch(&[4], &[])],
            ]
        );
    }

    #[test]
    fn without_waiting_rows_stay_in_their_group() {
        let order = [1, 100, 2, 3, 101, 102];
        let expected = [vec![
            batch(&[1], &[100]),
            batch(&[2, 3], &[]),
            batch(&[], &[101, 102]),
        ]];
        assert_eq!(compose(2, 0, &[&order]), expected);
        assert_eq!(compose(2, 1, &[&order]), expected);
    }

    #[test]
    fn generated_rows_alone_come_several_at_a_time() {
        let order: Vec<usize> = (100..110).collect();
        assert_eq!(
            compose(2, 5, &[&order]),
            [vec![batch(&[], &order[..6])]],
            "the last four wait in vain"
        );
        assert_eq!(
            compose(4, 3, &[&order]),
            [vec![batch(&[], &order[..4]), batch(&[], &order[4..8]),]]
        );
    }

    /// Row by row, with a queue and a counter instead of chunks.
    fn slow(
        group: usize,
        wait_for: usize,
        epochs: &[Vec<usize>],
        generated: impl Fn(usize) -> bool,
    ) -> Vec<Vec<MixedBatch>> {
        let mut queue = VecDeque::new();
        let mut all = Vec::new();
        for order in epochs {
            let mut batches = Vec::new();
            let mut ordinary = Vec::new();
            for (at, row) in order.iter().enumerate() {
                if generated(*row) {
                    queue.push_back(*row);
                } else {
                    ordinary.push(*row);
                }
                if (at + 1) % group != 0 && at + 1 != order.len() {
                    continue;
                }
                let mut batch = MixedBatch::default();
                batch.ordinary.append(&mut ordinary);
                if queue.len() >= wait_for {
                    while let Some(row) = queue.pop_front() {
                        batch.generated.push(row);
                    }
                }
                if batch.ordinary.len() + batch.generated.len() > 0 {
                    batches.push(batch);
                }
            }
            all.push(batches);
        }
        all
    }

    #[test]
    fn equal_to_a_row_by_row_implementation_and_complete() {
        for seed in 0..200_u64 {
            let streams = Streams::new(seed);
            let pick = |key: u64, n: u64| streams.seed("test", &[key]) % n;
            let (rows, group, wait_for) = (
                pick(0, 60) as usize,
                1 + pick(1, 12) as usize,
                pick(2, 20) as usize,
            );
            let share = pick(3, 4);
            let generated = |row: usize| streams.seed("generated", &[row as u64]) % 3 < share;
            let epochs: Vec<Vec<usize>> = (0..3)
                .map(|epoch| shuffle(rows, &mut streams.rng("order", &[epoch])))
                .collect();
            let found = Composition { group, wait_for }.batches(epochs.iter().cloned(), generated);
            assert_eq!(
                found,
                slow(group, wait_for, &epochs, generated),
                "seed {seed}"
            );

            let of = |part: fn(&MixedBatch) -> &Vec<usize>| -> Vec<usize> {
                let mut rows: Vec<usize> = found.iter().flatten().flat_map(part).copied().collect();
                rows.sort_unstable();
                rows
            };
            let times = |count: usize, wanted: bool| -> Vec<usize> {
                (0..rows)
                    .filter(|row| generated(*row) == wanted)
                    .flat_map(|row| vec![row; count])
                    .collect()
            };
            assert_eq!(of(|batch| &batch.ordinary), times(3, false));
            // All generated rows but those that wait in the end, fewer than are waited for.
            let left = times(3, true).len() - of(|batch| &batch.generated).len();
            assert!(left == 0 || left < wait_for, "seed {seed}: {left} left");
            for batch in found.iter().flatten() {
                assert!(batch.ordinary.len() <= group);
                let count = batch.generated.len();
                assert!(count == 0 || count >= wait_for);
            }
        }
    }
}
