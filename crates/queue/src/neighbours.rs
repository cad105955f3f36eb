//! Exact nearest neighbours by dot product, in blocks of queries.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::{DType, Tensor, TensorData, f16};
use rayon::prelude::*;

use crate::bank::{
    blocks, first_at_least, host_block_rows, host_data, host_slice, index_tensor, to_f32,
};
use crate::error::{QueueError, Result};

/// Scores compared with the threshold at once; a multiple of every vector width.
const LANES: usize = 32;
/// Columns of a block whose lists one task renews.
const COLUMNS_PER_TASK: usize = 64;
/// Blocks of queries that share one conversion of a block of candidates from f16.
const QUERY_BLOCKS: usize = 4;
/// Rows of a block of [`nearest_rows`].
const BLOCK_ROWS: usize = 1024;

/// What to retrieve.
#[derive(Debug, Clone, PartialEq)]
pub struct NeighbourParams<'a> {
    /// Neighbours beside the sample itself: lists hold k + 1 ids.
    pub k: usize,
    /// Rows per block: block_rows^2 scores are held at a time. Default 512.
    pub block_rows: usize,
    /// The sample itself takes rank 0 even where a duplicate, or an un-normalised vector, scores as
    /// high or higher. Default true; the published code does not enforce it.
    pub self_first: bool,
    /// One label a sample; only samples with the label of the query are candidates. Lists of groups
    /// with fewer than k + 1 samples are shorter, see [`Neighbours::row`]. Default `None`: no filter,
    /// as in the published code of DOWN.
    pub coarse_filter: Option<&'a [usize]>,
}

impl NeighbourParams<'_> {
    /// k neighbours beside the sample itself, blocks of 512, self first, no filter.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self {
            k,
            block_rows: 512,
            self_first: true,
            coarse_filter: None,
        }
    }
}

/// Neighbour lists of all samples, best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbours {
    /// Row-major ids, `[n, width]`. Where a filter leaves fewer candidates, the rest of a row repeats
    /// the id of the row itself.
    pub ids: Vec<u32>,
    /// k + 1.
    pub width: usize,
    /// How many entries of each row are neighbours, `[n]`: `width` unless a filter was used.
    pub counts: Vec<u32>,
}

impl Neighbours {
    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there are no samples; never true for retrieved lists.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The neighbours of sample `i`, best first, without padding; `None` if there is no such sample.
    #[must_use]
    pub fn row(&self, i: usize) -> Option<&[u32]> {
        let count = *self.counts.get(i)? as usize;
        let start = i.checked_mul(self.width)?;
        self.ids.get(start..start.checked_add(count)?)
    }
}

/// The k + 1 samples with the largest dot product for every row of `bank`, `[n, dim]`:
///
/// ```text
/// s_ij = sum_d bank[i, d] * bank[j, d]
/// list(i) = ids j by descending s_ij, ties by ascending j, cut after k + 1
/// ```
///
/// With `self_first` the sample itself is put before all others. Exact: every pair of blocks of rows
/// is scored once, by one matrix product on the device of `bank`, and serves both sides, as
/// s_ij = s_ji. Only the selection runs on the host, in parallel over lists, by a running threshold
/// instead of a sort. Work n^2 dim FLOP (half of what the full product takes); memory about
/// 24 (k + 20) n bytes for the lists and their candidates plus block_rows^2 scores, so linear in n.
/// The result depends on `block_rows` at most through rounding and not on the number of threads, and
/// rows with equal bits have equal scores.
///
/// A bank in f16 ([`MemoryBank::stored`](crate::MemoryBank::stored) with
/// [`RowStorage::F16`](crate::RowStorage::F16)) is converted to f32 a block at a time: the lists are
/// those of the rounded rows, computed in f32.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use queue::{NeighbourParams, nearest_neighbours};
///
/// let bank = Tensor::<2>::from_floats(
///     [[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [1.0, 0.0]],
///     &Device::flex(),
/// );
/// let lists = nearest_neighbours(bank, &NeighbourParams::new(2))?;
/// assert_eq!(lists.row(0), Some(&[0, 3, 2][..]));
/// assert_eq!(lists.row(3), Some(&[3, 0, 2][..]));
/// # Ok::<(), queue::QueueError>(())
/// ```
///
/// # Errors
/// [`QueueError::TooFewRows`] if k + 1 > n, [`QueueError::InvalidParameter`] if `block_rows` is 0,
/// [`QueueError::Shape`] if the filter has not n labels or `dim` is 0, [`QueueError::NotFinite`] for
/// values that are not finite or so large that a dot product could overflow, [`QueueError::Device`].
pub fn nearest_neighbours(bank: Tensor<2>, params: &NeighbourParams<'_>) -> Result<Neighbours> {
    let bank = bank.without_autodiff();
    check(&bank, params)?;
    let [n, _] = bank.dims();
    let width = params.k + 1;
    let mut ids: Vec<u32> = (0..n as u32)
        .flat_map(|i| std::iter::repeat_n(i, width))
        .collect();
    let mut counts = vec![0_u32; n];

    match params.coarse_filter {
        None => {
            let lists = search(&bank, params)?.into_iter().enumerate();
            for ((own, list), (slots, count)) in
                lists.zip(ids.chunks_exact_mut(width).zip(&mut counts))
            {
                *count = list.write(params.self_first.then_some(own as u32), slots, |id| id);
            }
        }
        Some(labels) => {
            for members in groups(labels) {
                let index = index_tensor(&members, &bank.device());
                let group = bank.clone().select(0, index);
                for (list, &own) in search(&group, params)?.into_iter().zip(&members) {
                    let slots = &mut ids[own * width..(own + 1) * width];
                    let own_id = params.self_first.then_some(own as u32);
                    counts[own] = list.write(own_id, slots, |id| members[id as usize] as u32);
                }
            }
        }
    }
    Ok(Neighbours { ids, width, counts })
}

/// The `k` rows of `bank`, `[n, dim]`, with the largest dot product for every row of `queries`,
/// `[m, dim]`: descending, ties by ascending id, lists of exactly `k` ids.
///
/// Exact, and blocked like [`nearest_neighbours`], but without its symmetry: 2 m n dim FLOP, and
/// 1024^2 scores at a time at most. Both tensors may be in f16.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use queue::nearest_rows;
///
/// let device = Device::flex();
/// let bank = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]], &device);
/// let queries = Tensor::<2>::from_floats([[0.9, 0.1]], &device);
/// assert_eq!(nearest_rows(queries, bank, 2)?.row(0), Some(&[0, 2][..]));
/// # Ok::<(), queue::QueueError>(())
/// ```
///
/// # Errors
/// [`QueueError::InvalidParameter`] if `k` is 0, [`QueueError::TooFewRows`] if k > n,
/// [`QueueError::Shape`] if the sizes do not fit or a side is empty, [`QueueError::NotFinite`] and
/// [`QueueError::Device`] as [`nearest_neighbours`].
pub fn nearest_rows(queries: Tensor<2>, bank: Tensor<2>, k: usize) -> Result<Neighbours> {
    const OPERATION: &str = "nearest_rows";
    let (queries, bank) = (queries.without_autodiff(), bank.without_autodiff());
    let ([m, dim], [n, bank_dim]) = (queries.dims(), bank.dims());
    if dim != bank_dim || m == 0 {
        let expected = format!("[m >= 1, {bank_dim}]");
        return Err(QueueError::shape(OPERATION, "queries", expected, [m, dim]));
    }
    if k == 0 {
        return Err(QueueError::parameter("k", "at least 1", k));
    }
    check_size(OPERATION, n, dim, k)?;
    check_values(OPERATION, &queries)?;
    check_values(OPERATION, &bank)?;

    let (tall, wide) = (m.min(BLOCK_ROWS), n.min(BLOCK_ROWS));
    let query_blocks: Vec<_> = blocks(m, tall).collect();
    let queries: Vec<_> = query_blocks
        .iter()
        .map(|rows| full_block(&queries, rows.clone(), tall))
        .collect();
    let mut lists = Lists::new(m, k);
    for columns in blocks(n, wide) {
        let candidates = full_block(&bank, columns.clone(), wide).transpose();
        for (rows, queries) in query_blocks.iter().zip(&queries) {
            let data = scores(OPERATION, queries, &candidates)?;
            let scores = host_slice(OPERATION, &data)?;
            lists.take_rows(rows.clone(), scores, wide, columns.clone(), None);
        }
    }
    let mut ids = vec![0_u32; m * k];
    let mut counts = vec![0_u32; m];
    let slots = ids.chunks_exact_mut(k).zip(&mut counts);
    for (list, (slots, count)) in lists.finish().into_iter().zip(slots) {
        *count = list.write(None, slots, |id| id);
    }
    Ok(Neighbours {
        ids,
        width: k,
        counts,
    })
}

/// The members of every label, by ascending label, each by ascending id.
pub(crate) fn groups(labels: &[usize]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, &label) in labels.iter().enumerate() {
        groups.entry(label).or_default().push(i);
    }
    groups.into_values().collect()
}

/// The best candidates of every row of `group` among its rows, best first, without the row itself
/// where it is put first anyway.
fn search(group: &Tensor<2>, params: &NeighbourParams<'_>) -> Result<Vec<List>> {
    const OPERATION: &str = "nearest_neighbours";
    let [n, _] = group.dims();
    let rows = params.block_rows.min(n);
    let ranges: Vec<_> = blocks(n, rows).collect();
    let mut lists = Lists::new(n, params.k + usize::from(!params.self_first));
    // Blocks (I, J) with I <= J. J ascends inside a group of I, so every list sees ids ascend: first
    // those of earlier blocks, from the column side, then those of its own block and of later ones.
    for (outer, queries) in ranges.chunks(QUERY_BLOCKS).enumerate() {
        let first = outer * QUERY_BLOCKS;
        let tensors: Vec<_> = queries
            .iter()
            .map(|range| full_block(group, range.clone(), rows))
            .collect();
        for (j, columns) in ranges.iter().enumerate().skip(first) {
            let candidates = match tensors.get(j - first) {
                Some(tensor) => tensor.clone(),
                None => full_block(group, columns.clone(), rows),
            };
            let candidates = candidates.transpose();
            for (i, (range, tensor)) in (first..=j).zip(queries.iter().zip(&tensors)) {
                let data = scores(OPERATION, tensor, &candidates)?;
                let scores = host_slice(OPERATION, &data)?;
                if i < j {
                    lists.take_columns(columns.clone(), scores, rows, range.clone());
                }
                let own = (i == j && params.self_first).then_some(range.start);
                lists.take_rows(range.clone(), scores, rows, columns.clone(), own);
            }
        }
    }
    Ok(lists.finish())
}

/// Rows `range` in f32, `[rows, dim]`; a shorter last block is filled up with zeros. Products of one
/// shape sum in one order, so that equal rows get equal scores wherever they stand.
fn full_block(bank: &Tensor<2>, range: Range<usize>, rows: usize) -> Tensor<2> {
    let [n, dim] = bank.dims();
    if range.len() == n && rows == n {
        return to_f32(bank.clone());
    }
    let missing = rows - range.len();
    let block = to_f32(bank.clone().slice(range));
    if missing == 0 {
        return block;
    }
    let zeros = Tensor::zeros([missing, dim], (&block.device(), block.dtype()));
    Tensor::cat(vec![block, zeros], 0)
}

/// All dot products of two blocks on the host, row-major.
fn scores(
    operation: &'static str,
    queries: &Tensor<2>,
    candidates: &Tensor<2>,
) -> Result<TensorData> {
    host_data(operation, queries.clone().matmul(candidates.clone()))
}

/// Candidates of one query.
///
/// They are kept in a buffer of more than the wanted length. When it is full, all but the best are
/// thrown away and the worst kept score becomes the threshold that later scores must exceed; as ids
/// ascend, an equal later score loses the tie anyway. After a few hundred entries almost every score
/// fails that one comparison, which is done for several scores at once.
#[derive(Default)]
struct List {
    candidates: Vec<(f32, u32)>,
}

impl List {
    /// Adds a candidate and returns the threshold that holds from now on.
    fn push(&mut self, wanted: usize, score: f32, id: u32, threshold: f32) -> f32 {
        let capacity = wanted + wanted.max(LANES);
        self.candidates.push((score, id));
        if self.candidates.len() < capacity {
            return threshold;
        }
        self.cut(wanted);
        self.candidates
            .last()
            .map_or(threshold, |&(score, _)| score)
    }

    /// Keeps the best `wanted`, the worst of them last.
    fn cut(&mut self, wanted: usize) {
        if wanted == 0 {
            self.candidates.clear();
        } else if self.candidates.len() > wanted {
            self.candidates
                .select_nth_unstable_by(wanted - 1, better_first);
            self.candidates.truncate(wanted);
        }
    }

    /// Writes the list, behind `own` where it is put first, and returns its length.
    fn write(&self, own: Option<u32>, slots: &mut [u32], name: impl Fn(u32) -> u32) -> u32 {
        let others = self.candidates.iter().map(|&(_, id)| name(id));
        let mut count = 0;
        for (slot, id) in slots.iter_mut().zip(own.into_iter().chain(others)) {
            *slot = id;
            count += 1;
        }
        count
    }
}

/// The lists of consecutive queries while blocks of scores pass.
struct Lists {
    lists: Vec<List>,
    thresholds: Vec<f32>,
    wanted: usize,
}

impl Lists {
    fn new(n: usize, wanted: usize) -> Self {
        // With nothing wanted no score may pass.
        let threshold = if wanted == 0 {
            f32::INFINITY
        } else {
            f32::NEG_INFINITY
        };
        Self {
            lists: std::iter::repeat_with(List::default).take(n).collect(),
            thresholds: vec![threshold; n],
            wanted,
        }
    }

    /// `scores[r][c]` belongs to query `queries.start + r` and candidate `candidates.start + c`; rows
    /// are `stride` long. `own` is the first query where the candidates are the queries themselves
    /// and none shall list itself.
    fn take_rows(
        &mut self,
        queries: Range<usize>,
        scores: &[f32],
        stride: usize,
        candidates: Range<usize>,
        own: Option<usize>,
    ) {
        let wanted = self.wanted;
        let start = candidates.start;
        self.lists[queries.clone()]
            .par_iter_mut()
            .zip(self.thresholds[queries].par_iter_mut())
            .zip(scores.par_chunks(stride))
            .enumerate()
            .for_each(|(row, ((list, threshold), scores))| {
                let own = own.map(|first| first + row);
                let mut limit = *threshold;
                let scores = &scores[..candidates.len()];
                for (block, chunk) in scores.chunks(LANES).enumerate() {
                    let any = chunk
                        .iter()
                        .fold(false, |any, &score| any | (score > limit));
                    if !any {
                        continue;
                    }
                    for (lane, &score) in chunk.iter().enumerate() {
                        let id = start + block * LANES + lane;
                        if score > limit && own != Some(id) {
                            limit = list.push(wanted, score, id as u32, limit);
                        }
                    }
                }
                *threshold = limit;
            });
    }

    /// As [`take_rows`](Self::take_rows) with the queries along the columns of `scores`.
    fn take_columns(
        &mut self,
        queries: Range<usize>,
        scores: &[f32],
        stride: usize,
        candidates: Range<usize>,
    ) {
        let wanted = self.wanted;
        let start = candidates.start;
        self.lists[queries.clone()]
            .par_chunks_mut(COLUMNS_PER_TASK)
            .zip(self.thresholds[queries].par_chunks_mut(COLUMNS_PER_TASK))
            .enumerate()
            .for_each(|(task, (lists, limits))| {
                let first = task * COLUMNS_PER_TASK;
                for (row, scores) in scores
                    .chunks_exact(stride)
                    .take(candidates.len())
                    .enumerate()
                {
                    let scores = &scores[first..first + limits.len()];
                    let parts = scores.chunks(LANES).zip(limits.chunks_mut(LANES));
                    for ((scores, limits), lists) in parts.zip(lists.chunks_mut(LANES)) {
                        let any = scores
                            .iter()
                            .zip(limits.iter())
                            .fold(false, |any, (score, limit)| any | (score > limit));
                        if !any {
                            continue;
                        }
                        for ((&score, limit), list) in scores.iter().zip(limits).zip(lists) {
                            if score > *limit {
                                *limit = list.push(wanted, score, (start + row) as u32, *limit);
                            }
                        }
                    }
                }
            });
    }

    /// The lists, cut and sorted.
    fn finish(mut self) -> Vec<List> {
        let wanted = self.wanted;
        self.lists.par_iter_mut().for_each(|list| {
            list.cut(wanted);
            list.candidates.sort_unstable_by(better_first);
        });
        self.lists
    }
}

/// Descending score, then ascending id. Scores are finite here, so the order is total.
fn better_first(a: &(f32, u32), b: &(f32, u32)) -> Ordering {
    b.0.partial_cmp(&a.0)
        .unwrap_or(Ordering::Equal)
        .then(a.1.cmp(&b.1))
}

pub(crate) fn check(bank: &Tensor<2>, params: &NeighbourParams<'_>) -> Result<()> {
    const OPERATION: &str = "nearest_neighbours";
    let [n, dim] = bank.dims();
    if params.block_rows == 0 {
        return Err(QueueError::parameter("block_rows", "at least 1", 0));
    }
    check_size(OPERATION, n, dim, params.k.saturating_add(1))?;
    if let Some(labels) = params.coarse_filter
        && labels.len() != n
    {
        return Err(QueueError::shape(OPERATION, "labels", n, labels.len()));
    }
    check_values(OPERATION, bank)
}

/// Refuses a bank that is empty, has more rows than ids or fewer than a list wants.
fn check_size(operation: &'static str, n: usize, dim: usize, wanted: usize) -> Result<()> {
    if wanted > n {
        return Err(QueueError::TooFewRows { wanted, rows: n });
    }
    if dim == 0 || n > i32::MAX as usize {
        return Err(QueueError::shape(
            operation,
            "vectors",
            "[n < 2^31, dim >= 1]",
            [n, dim],
        ));
    }
    Ok(())
}

/// Refuses values that are not finite or whose dot products might not be.
fn check_values(operation: &'static str, bank: &Tensor<2>) -> Result<()> {
    let [n, dim] = bank.dims();
    // |s_ij| <= dim * max^2. Beyond f32::MAX an infinite score, or infinity - infinity, would have no
    // place in the order.
    let limit = (f32::MAX / dim as f32).sqrt();
    for range in blocks(n, host_block_rows(dim)) {
        let start = range.start;
        let block = bank.clone().slice(range);
        let refuse = |at: usize, value: f32| QueueError::NotFinite {
            operation,
            row: start + at / dim,
            column: at % dim,
            value,
        };
        if block.dtype() == DType::F16 {
            // Without converting: an f16 is at most 65504, so only infinity and NaN are in the way,
            // whose exponents are all ones.
            let data = block.try_into_data();
            let data = data.map_err(|error| QueueError::device(operation, error))?;
            let host = data.as_slice::<f16>();
            let host = host.map_err(|error| QueueError::device(operation, error))?;
            if let Some(at) = host.iter().position(|x| x.to_bits() & 0x7c00 == 0x7c00) {
                return Err(refuse(at, host[at].to_f32()));
            }
        } else {
            let data = host_data(operation, block)?;
            let host = host_slice(operation, &data)?;
            if let Some(at) = first_at_least(host, limit) {
                return Err(refuse(at, host[at]));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::{Device, TensorData};
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn tensor(values: &[f32], dim: usize) -> Tensor<2> {
        let data = TensorData::new(values.to_vec(), [values.len() / dim, dim]);
        Tensor::from_data(data, &Device::flex())
    }

    /// All pairs in f64, one full sort a row.
    fn brute_force(values: &[f32], dim: usize, params: &NeighbourParams<'_>) -> Vec<Vec<u32>> {
        let rows: Vec<&[f32]> = values.chunks(dim).collect();
        let dot = |i: usize, j: usize| -> f64 {
            rows[i]
                .iter()
                .zip(rows[j])
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum()
        };
        (0..rows.len())
            .map(|i| {
                let mut list: Vec<usize> = (0..rows.len())
                    .filter(|&j| params.coarse_filter.is_none_or(|c| c[i] == c[j]))
                    .collect();
                list.sort_by(|&a, &b| {
                    let forced = (params.self_first && b == i).cmp(&(params.self_first && a == i));
                    forced
                        .then(dot(i, b).partial_cmp(&dot(i, a)).unwrap())
                        .then(a.cmp(&b))
                });
                list.truncate(params.k + 1);
                list.into_iter().map(|j| j as u32).collect()
            })
            .collect()
    }

    fn lists(found: &Neighbours) -> Vec<Vec<u32>> {
        (0..found.len())
            .map(|i| found.row(i).unwrap().to_vec())
            .collect()
    }

    fn unit_rows(n: usize, dim: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut values: Vec<f32> = (0..n * dim).map(|_| rng.random_range(-1.0..1.0)).collect();
        for row in values.chunks_mut(dim) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x /= norm);
        }
        values
    }

    #[test]
    fn duplicates_keep_self_first_only_when_asked() {
        let values = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0];
        let mut params = NeighbourParams::new(2);
        let found = nearest_neighbours(tensor(&values, 2), &params).unwrap();
        assert_eq!(lists(&found), [[0, 1, 3], [1, 0, 3], [2, 0, 1], [3, 0, 1]]);
        params.self_first = false;
        let found = nearest_neighbours(tensor(&values, 2), &params).unwrap();
        assert_eq!(lists(&found), [[0, 1, 3], [0, 1, 3], [2, 0, 1], [0, 1, 3]]);
    }

    #[test]
    fn signed_zero_scores_are_ties() {
        // Row 0 scores -0.0 with row 1 and +0.0 with row 2: equal numbers, so the lower id wins.
        let values = [1.0, 0.0, -0.0, 1.0, 0.0, 1.0];
        let found = nearest_neighbours(tensor(&values, 2), &NeighbourParams::new(2)).unwrap();
        assert_eq!(found.row(0), Some(&[0, 1, 2][..]));
    }

    #[test]
    fn whole_bank_and_self_only() {
        let values = unit_rows(9, 4, 3);
        for k in [0, 8] {
            let params = NeighbourParams::new(k);
            let found = nearest_neighbours(tensor(&values, 4), &params).unwrap();
            assert_eq!(found.counts, vec![k as u32 + 1; 9]);
            assert_eq!(lists(&found), brute_force(&values, 4, &params));
        }
    }

    #[test]
    fn small_groups_give_short_lists_padded_with_self() {
        let values = unit_rows(6, 3, 5);
        let labels = [7, 7, 2, 7, 2, usize::MAX];
        let params = NeighbourParams {
            coarse_filter: Some(&labels),
            ..NeighbourParams::new(3)
        };
        let found = nearest_neighbours(tensor(&values, 3), &params).unwrap();
        assert_eq!(found.counts, [3, 3, 2, 3, 2, 1]);
        assert_eq!(lists(&found), brute_force(&values, 3, &params));
        assert_eq!(found.ids[5 * 4..], [5, 5, 5, 5]);
        assert_eq!(found.ids[4 * 4..5 * 4], [4, 2, 4, 4]);
    }

    #[test]
    fn a_long_row_with_a_rising_score_replaces_its_candidates_often() {
        // Scores of row 0 ascend with the id, the worst case for the threshold.
        let n = 700;
        let values: Vec<f32> = (0..n).flat_map(|i| [1.0, i as f32]).collect();
        for self_first in [true, false] {
            let params = NeighbourParams {
                self_first,
                ..NeighbourParams::new(5)
            };
            let found = nearest_neighbours(tensor(&values, 2), &params).unwrap();
            assert_eq!(lists(&found), brute_force(&values, 2, &params));
        }
    }

    #[test]
    fn does_not_depend_on_the_number_of_threads() {
        let values = unit_rows(420, 160, 11); // large enough for a threaded product
        let params = NeighbourParams {
            block_rows: 128,
            ..NeighbourParams::new(30)
        };
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| nearest_neighbours(tensor(&values, 160), &params).unwrap())
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
    }

    #[test]
    fn equal_rows_tie_across_blocks() {
        // Three copies of every row, far apart, and a short last block: equal scores must be equal
        // numbers wherever they are computed, or the order inside a triple would be by chance.
        let (unique, dim) = (101, 48);
        let values = unit_rows(unique, dim, 17).repeat(3);
        for block_rows in [64, 100, 512] {
            let params = NeighbourParams {
                block_rows,
                self_first: false,
                ..NeighbourParams::new(29)
            };
            let found = nearest_neighbours(tensor(&values, dim), &params).unwrap();
            for i in 0..found.len() {
                for triple in found.row(i).unwrap().chunks(3) {
                    let [a, b, c] = [triple[0], triple[1], triple[2]].map(|id| id as usize);
                    assert!(b == a + unique && c == b + unique, "{i}: {triple:?}");
                }
            }
        }
    }

    #[test]
    fn a_half_bank_gives_the_lists_of_its_rounded_rows() {
        let values = unit_rows(230, 24, 6);
        let half = tensor(&values, 24).cast(burn::tensor::DType::F16);
        let labels: Vec<usize> = (0..230).map(|i| i % 3).collect();
        for coarse_filter in [None, Some(labels.as_slice())] {
            let params = NeighbourParams {
                block_rows: 33,
                coarse_filter,
                ..NeighbourParams::new(12)
            };
            let rounded = half.clone().cast(burn::tensor::DType::F32);
            let found = nearest_neighbours(half.clone(), &params).unwrap();
            assert_eq!(found, nearest_neighbours(rounded.clone(), &params).unwrap());
            let rounded: Vec<f32> = rounded.into_data().try_into_vec().unwrap();
            assert_eq!(lists(&found), brute_force(&rounded, 24, &params));
        }
    }

    #[test]
    fn rows_for_queries_of_their_own() {
        // More rows than one block and a short last one; queries of another number.
        let (values, dim) = (unit_rows(2_500, 12, 21), 12);
        let queries = unit_rows(1_030, dim, 22);
        let found = nearest_rows(tensor(&queries, dim), tensor(&values, dim), 7).unwrap();
        assert_eq!((found.len(), found.width), (1_030, 7));
        for (i, query) in queries.chunks(dim).enumerate() {
            let score = |j: u32| -> f64 {
                let row = &values[j as usize * dim..][..dim];
                query
                    .iter()
                    .zip(row)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum()
            };
            let mut all: Vec<u32> = (0..2_500).collect();
            all.sort_by(|a, b| score(*b).total_cmp(&score(*a)).then(a.cmp(b)));
            for (&got, &expected) in found.row(i).unwrap().iter().zip(&all) {
                assert!(got == expected || (score(got) - score(expected)).abs() < 1e-6);
            }
        }
        let one =
            nearest_rows(tensor(&[1.0, 0.0], 2), tensor(&[0.0, 1.0, 0.0, 1.0], 2), 2).unwrap();
        assert_eq!(one.row(0), Some(&[0, 1][..]));
    }

    #[test]
    fn unusable_queries_are_refused() {
        let bank = || tensor(&[1.0, 0.0, 0.0, 1.0], 2);
        assert!(nearest_rows(bank(), bank(), 0).is_err());
        assert_eq!(
            nearest_rows(bank(), bank(), 3).unwrap_err(),
            QueueError::TooFewRows { wanted: 3, rows: 2 }
        );
        assert!(nearest_rows(tensor(&[1.0; 3], 3), bank(), 1).is_err());
        assert!(nearest_rows(Tensor::zeros([0, 2], &Device::flex()), bank(), 1).is_err());
        assert!(nearest_rows(tensor(&[f32::NAN, 0.0], 2), bank(), 1).is_err());
        assert!(nearest_rows(bank(), tensor(&[1e30, 0.0], 2), 1).is_err());
        for bad in [f32::NAN, 1e6] {
            let half = tensor(&[0.0, 1.0, bad, 0.0], 2).cast(DType::F16);
            let error = nearest_rows(bank(), half, 1).unwrap_err();
            assert!(
                matches!(
                    error,
                    QueueError::NotFinite {
                        row: 1,
                        column: 0,
                        ..
                    }
                ),
                "{error}"
            );
        }
    }

    #[test]
    fn a_tracked_bank_gives_the_same_lists() {
        let values = unit_rows(20, 6, 2);
        let params = NeighbourParams::new(4);
        let plain = nearest_neighbours(tensor(&values, 6), &params).unwrap();
        let tracked = tensor(&values, 6).autodiff().require_grad();
        assert_eq!(plain, nearest_neighbours(tracked, &params).unwrap());
    }

    #[test]
    fn hostile_input_is_refused() {
        let bank = tensor(&[1.0, 0.0, 0.0, 1.0], 2);
        let too_many = nearest_neighbours(bank.clone(), &NeighbourParams::new(2)).unwrap_err();
        assert_eq!(too_many, QueueError::TooFewRows { wanted: 3, rows: 2 });
        assert!(nearest_neighbours(bank.clone(), &NeighbourParams::new(usize::MAX)).is_err());
        let no_block = NeighbourParams {
            block_rows: 0,
            ..NeighbourParams::new(1)
        };
        assert!(nearest_neighbours(bank.clone(), &no_block).is_err());
        let labels = NeighbourParams {
            coarse_filter: Some(&[0]),
            ..NeighbourParams::new(1)
        };
        assert!(matches!(
            nearest_neighbours(bank, &labels),
            Err(QueueError::Shape { what: "labels", .. })
        ));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
            let error =
                nearest_neighbours(tensor(&[1.0, 0.0, bad, 1.0], 2), &NeighbourParams::new(1))
                    .unwrap_err();
            assert!(
                matches!(
                    error,
                    QueueError::NotFinite {
                        row: 1,
                        column: 0,
                        ..
                    }
                ),
                "{error}"
            );
        }
    }

    #[test]
    fn a_huge_block_is_cut_to_the_bank() {
        let values = unit_rows(10, 3, 8);
        let params = NeighbourParams {
            block_rows: usize::MAX,
            ..NeighbourParams::new(3)
        };
        let found = nearest_neighbours(tensor(&values, 3), &params).unwrap();
        assert_eq!(lists(&found), brute_force(&values, 3, &params));
    }

    /// Small integers: dot products are exact in f32, and ties are frequent.
    fn integer_bank() -> impl Strategy<Value = (Vec<f32>, usize)> {
        (1usize..5, 2usize..60).prop_flat_map(|(dim, n)| {
            prop::collection::vec((-3i8..=3).prop_map(f32::from), n * dim)
                .prop_map(move |values| (values, dim))
        })
    }

    proptest! {
        #[test]
        fn equals_brute_force_with_ties(
            (values, dim) in integer_bank(), k in 0usize..20, block_rows in 1usize..70,
            self_first: bool, groups in prop::option::of(1usize..5),
        ) {
            let n = values.len() / dim;
            let labels: Option<Vec<usize>> = groups.map(|g| (0..n).map(|i| (i * 7 + i / 3) % g).collect());
            let params = NeighbourParams {
                k: k.min(n - 1), block_rows, self_first, coarse_filter: labels.as_deref(),
            };
            let found = nearest_neighbours(tensor(&values, dim), &params).unwrap();
            prop_assert_eq!(lists(&found), brute_force(&values, dim, &params));
        }

        #[test]
        fn lists_are_sorted_distinct_and_complete(n in 2usize..50, dim in 1usize..12, k in 1usize..20, seed: u64) {
            let values = unit_rows(n, dim, seed);
            let k = k.min(n - 1);
            let found = nearest_neighbours(tensor(&values, dim), &NeighbourParams::new(k)).unwrap();
            for i in 0..n {
                let list = found.row(i).unwrap();
                prop_assert_eq!(list.len(), k + 1);
                prop_assert_eq!(list[0] as usize, i);
                let score = |j: usize| -> f64 {
                    (0..dim).map(|d| f64::from(values[i * dim + d]) * f64::from(values[j * dim + d])).sum()
                };
                let scores: Vec<f64> = list.iter().map(|&j| score(j as usize)).collect();
                prop_assert!(scores.windows(2).all(|s| s[1] <= s[0] + 1e-6));
                let worst = scores[k];
                for j in (0..n).filter(|j| !list.contains(&(*j as u32))) {
                    prop_assert!(score(j) <= worst + 1e-6);
                }
            }
        }

        #[test]
        fn permuting_the_bank_permutes_the_lists(n in 3usize..40, k in 1usize..10, seed: u64) {
            // Distinct scores (angles on a circle are all different), so no tie is broken by id.
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let k = k.min(n - 1);
            let angles: Vec<f32> = (0..n).map(|i| (i * i) as f32 * 1.5 / (n * n) as f32 + i as f32 * 1e-3).collect();
            let values: Vec<f32> = angles.iter().flat_map(|a| [a.cos(), a.sin()]).collect();
            let mut order: Vec<usize> = (0..n).collect();
            for i in (1..n).rev() {
                order.swap(i, rng.random_range(0..=i));
            }
            let moved: Vec<f32> = order.iter().flat_map(|&i| [values[2 * i], values[2 * i + 1]]).collect();
            let dot = |i: usize, j: usize| (f64::from(angles[i]) - f64::from(angles[j])).cos();
            let plain = nearest_neighbours(tensor(&values, 2), &NeighbourParams::new(k)).unwrap();
            let permuted = nearest_neighbours(tensor(&moved, 2), &NeighbourParams::new(k)).unwrap();
            for (new, &old) in order.iter().enumerate() {
                let back: Vec<usize> = permuted.row(new).unwrap().iter().map(|&j| order[j as usize]).collect();
                for (a, &b) in back.iter().zip(plain.row(old).unwrap()) {
                    // Equal, or indistinguishable in f32.
                    prop_assert!(*a == b as usize || (dot(old, *a) - dot(old, b as usize)).abs() < 1e-6);
                }
            }
        }
    }
}
