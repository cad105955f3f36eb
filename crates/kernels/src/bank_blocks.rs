//! How the objectives over a bank cut it into blocks, and the neighbours of a batch.
//!
//! Scores are kept bank-major, `[rows, batch]`: a block of the bank is a slice, and a matrix product
//! reads its rows as they lie in memory. The cuts depend on the number of rows only, so results do
//! not depend on the number of threads.

use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::tensor::DType;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::cpu::size;
use crate::simd_objectives::add;

/// Bank rows per block of a large bank: its slices of most operands fit the second-level cache, and
/// the six columns that the matrix products make at a time leave no rest.
const BLOCK: usize = 252;

/// Bank rows that are not worth a task of their own.
const SMALL: usize = 66;

/// Largest number of partial sums in a backward pass.
const GROUPS: usize = 16;

/// Bank rows a partial sum should cover, to make its final addition cheap.
const ROWS_PER_GROUP: usize = 1024;

/// Partial sums wanted of a bank too small for that, so that it is not left to one thread.
const FEWEST: usize = 4;

/// Bank rows per block, the last one excepted.
pub(crate) fn block_len(rows: usize) -> usize {
    if rows <= 2 * SMALL {
        rows.max(1)
    } else if rows <= 4 * BLOCK {
        SMALL
    } else {
        BLOCK
    }
}

/// Consecutive ranges of blocks, one for each partial sum.
pub(crate) fn groups(rows: usize) -> Vec<Range<usize>> {
    let blocks = rows.div_ceil(block_len(rows));
    let groups = (rows / ROWS_PER_GROUP).clamp(FEWEST, GROUPS).min(blocks);
    (0..groups)
        .map(|at| at * blocks / groups..(at + 1) * blocks / groups)
        .collect()
}

/// Adds `parts` to `total` in order, element by element.
pub(crate) fn add_parts(total: &mut [f32], parts: &[&[f32]]) {
    const CHUNK: usize = 8 * 1024;
    let add_to = |(at, total): (usize, &mut [f32])| {
        for part in parts {
            add(total, &part[at * CHUNK..at * CHUNK + total.len()]);
        }
    };
    if total.len() <= CHUNK {
        add_to((0, total));
    } else {
        total.par_chunks_mut(CHUNK).enumerate().for_each(add_to);
    }
}

/// The transpose of a row-major matrix with `columns` columns, times `scale`.
pub(crate) fn transposed(x: &[f32], columns: usize, scale: f32) -> Vec<f32> {
    const PER_TASK: usize = 32;
    let rows = x.len() / columns.max(1);
    let mut out = vec![0.0f32; x.len()];
    out.par_chunks_mut((rows * PER_TASK).max(1))
        .enumerate()
        .for_each(|(task, out)| {
            for (at, out) in out.chunks_exact_mut(rows).enumerate() {
                let column = x.iter().skip(task * PER_TASK + at).step_by(columns);
                for (out, x) in out.iter_mut().zip(column) {
                    *out = scale * x;
                }
            }
        });
    out
}

/// Neighbours of a batch of queries and their weights.
#[derive(Clone, Debug)]
pub(crate) struct Neighbours {
    ids: Vec<u32>,
    weights: FlexTensor,
    width: usize,
    totals: Vec<f32>,
}

/// A neighbour seen from the block of the bank it lies in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Neighbour {
    pub(crate) query: u32,
    /// Row inside the block.
    pub(crate) offset: u32,
    pub(crate) weight: f32,
}

/// All neighbours, sorted by block.
pub(crate) struct ByBlock {
    entries: Vec<Neighbour>,
    starts: Vec<usize>,
}

impl ByBlock {
    pub(crate) fn of(&self, block: usize) -> &[Neighbour] {
        &self.entries[self.starts[block]..self.starts[block + 1]]
    }
}

impl Neighbours {
    /// Takes `[batch, width]` ids and weights.
    ///
    /// # Panics
    ///
    /// If the shapes differ or an id is not below `rows`.
    pub(crate) fn new(ids: &FlexTensor, weights: &FlexTensor, rows: usize) -> Self {
        assert_eq!(ids.shape(), weights.shape(), "one weight per neighbour");
        let weights = weights.to_contiguous();
        let width = size(&weights, 1);
        let checked = |id: i64| {
            let inside = usize::try_from(id).is_ok_and(|id| id < rows);
            assert!(inside, "neighbour {id} of a bank of {rows} rows");
            id as u32
        };
        let ids = integers(ids).into_iter().map(checked).collect();
        let totals = weights
            .storage::<f32>()
            .chunks(width.max(1))
            .map(|row| row.iter().sum())
            .collect();
        Self {
            ids,
            weights,
            width,
            totals,
        }
    }

    /// Sum of the weights of a query.
    pub(crate) fn total(&self, query: usize) -> f32 {
        self.totals[query]
    }

    /// Ids and weights of a query.
    pub(crate) fn of(&self, query: usize) -> impl Iterator<Item = (usize, f32)> {
        let row = query * self.width..(query + 1) * self.width;
        let weights = &self.weights.storage::<f32>()[row.clone()];
        let ids = self.ids[row].iter().map(|id| *id as usize);
        ids.zip(weights.iter().copied())
    }

    /// The same neighbours by block; inside a block in the order of queries and ranks.
    pub(crate) fn by_block(&self, rows: usize) -> ByBlock {
        let block = block_len(rows);
        let blocks = rows.div_ceil(block);
        let mut starts = vec![0; blocks + 1];
        for id in &self.ids {
            starts[*id as usize / block + 1] += 1;
        }
        for at in 0..blocks {
            starts[at + 1] += starts[at];
        }
        let mut next = starts.clone();
        let none = Neighbour {
            query: 0,
            offset: 0,
            weight: 0.0,
        };
        let mut entries = vec![none; self.ids.len()];
        for query in 0..self.totals.len() {
            for (id, weight) in self.of(query) {
                let place = &mut next[id / block];
                entries[*place] = Neighbour {
                    query: query as u32,
                    offset: (id % block) as u32,
                    weight,
                };
                *place += 1;
            }
        }
        ByBlock { entries, starts }
    }
}

/// The elements of a tensor of 32 or 64 bit integers, in row-major order.
pub(crate) fn integers(x: &FlexTensor) -> Vec<i64> {
    let x = x.to_contiguous();
    match x.dtype() {
        DType::I32 => x.storage::<i32>().iter().copied().map(i64::from).collect(),
        _ => x.storage::<i64>().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::tensor;
    use burn::tensor::TensorData;

    #[test]
    fn groups_cover_all_blocks_in_order() {
        for rows in [1usize, 2, 255, 256, 257, 1024, 8954, 18_000, 1_000_000] {
            let blocks = rows.div_ceil(block_len(rows));
            let seen: Vec<usize> = groups(rows).into_iter().flatten().collect();
            assert_eq!(seen, (0..blocks).collect::<Vec<_>>(), "{rows} rows");
            assert!(groups(rows).iter().all(|group| !group.is_empty()));
        }
    }

    #[test]
    fn neighbours_by_block_are_the_neighbours_by_query() {
        // 600 rows are cut into blocks of 66.
        let ids = [300i64, 0, 299, 512, 1, 300];
        let ids = FlexTensor::from_data(TensorData::new(ids.to_vec(), [2, 3]));
        let weights = tensor(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3]);
        let neighbours = Neighbours::new(&ids, &weights, 600);
        assert_eq!((neighbours.total(0), neighbours.total(1)), (6.0, 15.0));
        let by_block = neighbours.by_block(600);
        let of = |block| -> Vec<(u32, u32, f32)> {
            let entries = by_block.of(block).iter();
            entries.map(|n| (n.query, n.offset, n.weight)).collect()
        };
        assert_eq!(of(0), [(0, 0, 2.0), (1, 1, 5.0)]);
        assert_eq!(of(4), [(0, 36, 1.0), (0, 35, 3.0), (1, 36, 6.0)]);
        assert_eq!(of(7), [(1, 50, 4.0)]);
        assert!(of(1).is_empty() && of(9).is_empty());
    }
}
