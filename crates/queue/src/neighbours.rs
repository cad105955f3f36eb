//! Exact nearest neighbours by dot product, in blocks of queries.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::bank::{check_finite, host_data, host_slice, index_tensor};
use crate::error::{QueueError, Result};

/// What to retrieve.
#[derive(Debug, Clone, PartialEq)]
pub struct NeighbourParams<'a> {
    /// Neighbours beside the sample itself: lists hold k + 1 ids.
    pub k: usize,
    /// Queries per matrix product: block_rows * n scores are held at a time. Default 512.
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
/// With `self_first` the sample itself is put before all others. Exact: every pair is scored, by one
/// matrix product of block_rows queries with all candidates on the device of `bank`; only the
/// selection runs on the host, in parallel over rows, by a running threshold instead of a sort.
/// Work 2 n^2 dim FLOP, memory n * (k + 1) ids plus block_rows * n scores, so linear in n.
/// The result depends on `block_rows` at most through rounding and not on the number of threads.
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
            let mut start = 0;
            search(&bank, params, |block| {
                let rows = block.counts.len();
                ids[start * width..(start + rows) * width].copy_from_slice(&block.ids);
                counts[start..start + rows].copy_from_slice(&block.counts);
                start += rows;
            })?;
        }
        Some(labels) => {
            let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            for (i, &label) in labels.iter().enumerate() {
                groups.entry(label).or_default().push(i);
            }
            for members in groups.values() {
                let index = index_tensor(members, &bank.device());
                let group = bank.clone().select(0, index);
                let mut queries = members.iter();
                search(&group, params, |block| {
                    let rows = block.ids.chunks_exact(width).zip(&block.counts);
                    for ((list, &count), &query) in rows.zip(&mut queries) {
                        let target = &mut ids[query * width..query * width + count as usize];
                        for (slot, &local) in target.iter_mut().zip(list) {
                            *slot = members[local as usize] as u32;
                        }
                        counts[query] = count;
                    }
                })?;
            }
        }
    }
    Ok(Neighbours { ids, width, counts })
}

/// Lists of one block of consecutive queries; ids are positions inside the searched tensor.
struct Block {
    ids: Vec<u32>,
    counts: Vec<u32>,
}

/// Scores the rows of `group` against one another block by block and hands each block on in order.
fn search(
    group: &Tensor<2>,
    params: &NeighbourParams<'_>,
    mut accept: impl FnMut(Block),
) -> Result<()> {
    const OPERATION: &str = "nearest_neighbours";
    let [n, _] = group.dims();
    let width = params.k + 1;
    let columns = group.clone().transpose();
    for start in (0..n).step_by(params.block_rows) {
        let end = n.min(start.saturating_add(params.block_rows));
        let queries = group.clone().slice(start..end);
        let data = host_data(OPERATION, queries.matmul(columns.clone()))?;
        let scores = host_slice(OPERATION, &data)?;
        let mut ids = vec![0_u32; (end - start) * width];
        let mut counts = vec![0_u32; end - start];
        ids.par_chunks_mut(width)
            .zip(counts.par_iter_mut())
            .zip(scores.par_chunks(n))
            .enumerate()
            .for_each_init(Vec::new, |candidates, (row, ((list, count), scores))| {
                *count = select_row(scores, start + row, params.self_first, candidates, list);
            });
        accept(Block { ids, counts });
    }
    Ok(())
}

/// Writes the best candidates of one row to `list` and returns how many there are.
///
/// Candidates are kept in a buffer of twice the wanted length. When it is full, the worse half is
/// thrown away and the worst kept score becomes the threshold that later scores must exceed; as ids
/// ascend, an equal later score loses the tie anyway. After a few hundred entries almost every score
/// fails that one comparison, which is done for several scores at once.
fn select_row(
    scores: &[f32],
    own: usize,
    self_first: bool,
    candidates: &mut Vec<(f32, u32)>,
    list: &mut [u32],
) -> u32 {
    const LANES: usize = 32;
    let forced = usize::from(self_first);
    let wanted = list.len() - forced;
    candidates.clear();
    if wanted > 0 {
        let capacity = 2 * wanted + LANES;
        let mut threshold = f32::NEG_INFINITY;
        for (block, chunk) in scores.chunks(LANES).enumerate() {
            let any = chunk
                .iter()
                .fold(false, |any, &score| any | (score > threshold));
            if !any {
                continue;
            }
            for (lane, &score) in chunk.iter().enumerate() {
                let id = block * LANES + lane;
                if score > threshold && !(self_first && id == own) {
                    candidates.push((score, id as u32));
                }
            }
            if candidates.len() >= capacity {
                candidates.select_nth_unstable_by(wanted - 1, better_first);
                candidates.truncate(wanted);
                threshold = candidates[wanted - 1].0;
            }
        }
        if candidates.len() > wanted {
            candidates.select_nth_unstable_by(wanted - 1, better_first);
            candidates.truncate(wanted);
        }
        candidates.sort_unstable_by(better_first);
    }
    if self_first {
        list[0] = own as u32;
    }
    for (slot, candidate) in list[forced..].iter_mut().zip(candidates.iter()) {
        *slot = candidate.1;
    }
    (forced + candidates.len()) as u32
}

/// Descending score, then ascending id. Scores are finite here, so the order is total.
fn better_first(a: &(f32, u32), b: &(f32, u32)) -> Ordering {
    b.0.partial_cmp(&a.0)
        .unwrap_or(Ordering::Equal)
        .then(a.1.cmp(&b.1))
}

fn check(bank: &Tensor<2>, params: &NeighbourParams<'_>) -> Result<()> {
    const OPERATION: &str = "nearest_neighbours";
    let [n, dim] = bank.dims();
    if params.block_rows == 0 {
        return Err(QueueError::parameter("block_rows", "at least 1", 0));
    }
    if params.k >= n {
        return Err(QueueError::TooFewRows {
            wanted: params.k.saturating_add(1),
            rows: n,
        });
    }
    if dim == 0 || n > i32::MAX as usize {
        return Err(QueueError::shape(
            OPERATION,
            "vectors",
            "[n < 2^31, dim >= 1]",
            [n, dim],
        ));
    }
    if let Some(labels) = params.coarse_filter
        && labels.len() != n
    {
        return Err(QueueError::shape(OPERATION, "labels", n, labels.len()));
    }
    let data = host_data(OPERATION, bank.clone())?;
    let host = host_slice(OPERATION, &data)?;
    check_finite(OPERATION, host, dim)?;
    // |s_ij| <= dim * max^2. Beyond f32::MAX an infinite score, or infinity - infinity, would have no
    // place in the order.
    let limit = (f32::MAX / dim as f32).sqrt();
    match host.iter().position(|value| value.abs() >= limit) {
        None => Ok(()),
        Some(at) => Err(QueueError::NotFinite {
            operation: OPERATION,
            row: at / dim,
            column: at % dim,
            value: host[at],
        }),
    }
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
        #![proptest_config(ProptestConfig::with_cases(48))]

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
