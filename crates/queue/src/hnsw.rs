//! Approximate nearest neighbours by a hierarchical navigable small world graph.

use std::fmt;

use burn::tensor::Tensor;
use hnsw_rs::prelude::{Distance, Hnsw};
use rayon::prelude::*;

use crate::bank::{blocks, host_block_rows, host_data, host_slice, index_tensor};
use crate::error::{QueueError, Result};
use crate::neighbours::{NeighbourParams, Neighbours, check, groups, nearest_neighbours};

/// Layers of a graph; the library's own limit.
const LAYERS: usize = 16;
/// How far a row's length may be from 1. Rows rounded to f16 stay within 5e-4.
const UNIT_TOLERANCE: f32 = 1e-2;
/// Coarse groups below this size are searched exactly, which is faster than building a graph.
const EXACT_BELOW: usize = 4096;

/// Settings of [`HnswIndex`]. Recall and cost of a setting are measured by the example
/// `neighbour_search`; figures stand in the book's page on back-ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HnswParams {
    /// Edges of a row on the upper layers, twice as many on the lowest, M in the article; 2 to 255.
    /// Default 16.
    pub max_connections: usize,
    /// Candidates kept while a row is inserted, 1 to 65536. Default 100.
    pub ef_construction: usize,
    /// Candidates kept while a query is answered, 1 to 65536; lists longer than this raise it to
    /// their length. Default 200.
    pub ef_search: usize,
    /// Inserts rows on all threads: about as many times faster as there are cores, but then the
    /// graph, and with it the few neighbours that are missed, differs from run to run. Default false.
    pub parallel_build: bool,
}

impl Default for HnswParams {
    fn default() -> Self {
        Self {
            max_connections: 16,
            ef_construction: 100,
            ef_search: 200,
            parallel_build: false,
        }
    }
}

impl HnswParams {
    fn check(&self) -> Result<()> {
        for (parameter, value, least, most) in [
            ("max_connections", self.max_connections, 2, 255),
            ("ef_construction", self.ef_construction, 1, 1 << 16),
            ("ef_search", self.ef_search, 1, 1 << 16),
        ] {
            if !(least..=most).contains(&value) {
                let expected = format!("{least} to {most}");
                return Err(QueueError::parameter(parameter, expected, value));
            }
        }
        Ok(())
    }
}

/// An approximate index over unit rows (Malkov and Yashunin, arXiv 1603.09320): a hierarchical
/// navigable small world graph, from the library `hnsw_rs`.
///
/// For banks beyond about 1e5 rows, where the quadratic work of
/// [`nearest_neighbours`](crate::nearest_neighbours) hurts: building and querying grow about as
/// n log n. It finds most of the true neighbours, not all of them. The index holds its own f32 copy of
/// the rows beside the graph, about dim * 4 + 2000 bytes a row with the default settings, and does not
/// follow later changes of the bank: build it anew at each refresh.
///
/// # Determinism
///
/// The layer of a row is drawn from a generator with a seed that the library fixes, and rows are
/// inserted in their order, so the same rows and settings give the same graph and the same lists,
/// whatever the number of threads: queries run in parallel, but a query only reads. With
/// [`HnswParams::parallel_build`] this holds no longer. Order and ties: lists are sorted by descending
/// dot product, ties by ascending id.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use queue::{HnswIndex, HnswParams};
///
/// let device = Device::flex();
/// let bank = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]], &device);
/// let index = HnswIndex::build(bank, &HnswParams::default())?;
/// let queries = Tensor::<2>::from_floats([[0.96, 0.28]], &device);
/// assert_eq!(index.nearest(queries, 2)?.row(0), Some(&[0, 2][..]));
/// # Ok::<(), queue::QueueError>(())
/// ```
pub struct HnswIndex {
    graph: Hnsw<'static, f32, UnitDistance>,
    ef_search: usize,
    rows: usize,
    dim: usize,
}

impl HnswIndex {
    /// The index over the rows of `bank`, `[n, dim]`, of unit length (within 1e-2), in f32 or f16.
    ///
    /// # Errors
    /// [`QueueError::InvalidParameter`], [`QueueError::Shape`] for an empty bank,
    /// [`QueueError::NotUnit`] and [`QueueError::Device`].
    pub fn build(bank: Tensor<2>, params: &HnswParams) -> Result<Self> {
        const OPERATION: &str = "HnswIndex::build";
        params.check()?;
        let bank = bank.without_autodiff();
        let [n, dim] = bank.dims();
        if n == 0 || dim == 0 || n > i32::MAX as usize {
            let expected = "[1 <= n < 2^31, dim >= 1]";
            return Err(QueueError::shape(OPERATION, "vectors", expected, [n, dim]));
        }
        let graph = Hnsw::new(
            params.max_connections,
            n,
            LAYERS,
            params.ef_construction,
            UnitDistance,
        );
        each_block(OPERATION, &bank, |start, rows| {
            let numbered = rows.chunks_exact(dim).zip(start..);
            if params.parallel_build {
                graph.parallel_insert_slice(&numbered.collect());
            } else {
                numbered.for_each(|row| graph.insert_slice(row));
            }
        })?;
        Ok(Self {
            graph,
            ef_search: params.ef_search,
            rows: n,
            dim,
        })
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Always false: an index has at least one row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Length of a row.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// About the `k` rows with the largest dot product for each of `queries`, `[m, dim]`, best first.
    ///
    /// A list is shorter than `k` where the graph does not lead to as many rows, which duplicates in
    /// large numbers can cause; the rest of its row in [`Neighbours::ids`] repeats its last id, or 0.
    ///
    /// # Errors
    /// [`QueueError::InvalidParameter`] if `k` is 0, [`QueueError::TooFewRows`] if k > n,
    /// [`QueueError::Shape`] for queries of another length, [`QueueError::NotUnit`] and
    /// [`QueueError::Device`].
    pub fn nearest(&self, queries: Tensor<2>, k: usize) -> Result<Neighbours> {
        const OPERATION: &str = "HnswIndex::nearest";
        let queries = queries.without_autodiff();
        let [m, dim] = queries.dims();
        if dim != self.dim {
            let expected = format!("[m, {}]", self.dim);
            return Err(QueueError::shape(OPERATION, "queries", expected, [m, dim]));
        }
        if k == 0 {
            return Err(QueueError::parameter("k", "at least 1", k));
        }
        if k > self.rows {
            return Err(QueueError::TooFewRows {
                wanted: k,
                rows: self.rows,
            });
        }
        let mut ids = vec![0_u32; m * k];
        let mut counts = vec![0_u32; m];
        each_block(OPERATION, &queries, |start, rows| {
            let slots = ids[start * k..].par_chunks_mut(k);
            rows.par_chunks_exact(dim)
                .zip(slots.zip(counts[start..].par_iter_mut()))
                .for_each(|(query, (slots, count))| {
                    let found = self.search(query, k);
                    *count = found.len() as u32;
                    slots.fill(found.last().copied().unwrap_or(0));
                    slots
                        .iter_mut()
                        .zip(found)
                        .for_each(|(slot, id)| *slot = id);
                });
        })?;
        Ok(Neighbours {
            ids,
            width: k,
            counts,
        })
    }

    /// Up to `k` ids, best first.
    fn search(&self, query: &[f32], k: usize) -> Vec<u32> {
        // Ties at the end of a list are cut by id among what the graph delivers.
        let mut found: Vec<(f32, u32)> = self
            .graph
            .search(query, self.ef_search.max(k), self.ef_search.max(k))
            .iter()
            .map(|found| (found.distance, found.d_id as u32))
            .collect();
        found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        found.truncate(k);
        found.into_iter().map(|(_, id)| id).collect()
    }
}

impl fmt::Debug for HnswIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HnswIndex")
            .field("rows", &self.rows)
            .field("dim", &self.dim)
            .field("ef_search", &self.ef_search)
            .finish()
    }
}

/// [`nearest_neighbours`](crate::nearest_neighbours) by an [`HnswIndex`] over unit rows: the same
/// lists but for the neighbours that the graph misses.
///
/// With a coarse filter every group gets an index of its own; groups below 4096 rows are searched
/// exactly. [`NeighbourParams::block_rows`] matters for those alone. Where the graph yields fewer than
/// k neighbours, a list is shorter, see [`Neighbours::row`].
///
/// # Errors
/// As [`nearest_neighbours`](crate::nearest_neighbours) and [`HnswIndex::build`].
pub fn approximate_neighbours(
    bank: Tensor<2>,
    params: &NeighbourParams<'_>,
    hnsw: &HnswParams,
) -> Result<Neighbours> {
    let bank = bank.without_autodiff();
    check(&bank, params)?;
    hnsw.check()?;
    let [n, _] = bank.dims();
    let width = params.k + 1;
    let mut ids: Vec<u32> = (0..n as u32)
        .flat_map(|i| std::iter::repeat_n(i, width))
        .collect();
    let mut counts = vec![0_u32; n];
    let everything = || vec![(0..n).collect::<Vec<_>>()];
    for members in params.coarse_filter.map_or_else(everything, groups) {
        let group = if members.len() == n {
            bank.clone()
        } else {
            bank.clone()
                .select(0, index_tensor(&members, &bank.device()))
        };
        let found = group_lists(group, params, hnsw, members.len())?;
        for (local, &own) in members.iter().enumerate() {
            let slots = &mut ids[own * width..(own + 1) * width];
            let list = found.row(local).unwrap_or_default().iter();
            // The graph may list the row itself anywhere, or miss it among duplicates.
            let others = list.filter(|&&id| !(params.self_first && id as usize == local));
            let others = others.map(|&id| members[id as usize] as u32);
            let own = params.self_first.then_some(own as u32);
            for (slot, id) in slots.iter_mut().zip(own.into_iter().chain(others)) {
                *slot = id;
                counts[members[local]] += 1;
            }
        }
    }
    Ok(Neighbours { ids, width, counts })
}

/// Lists of one group of `n` rows by local id, the row itself among them.
fn group_lists(
    group: Tensor<2>,
    params: &NeighbourParams<'_>,
    hnsw: &HnswParams,
    n: usize,
) -> Result<Neighbours> {
    if n < EXACT_BELOW {
        let exact = NeighbourParams {
            k: params.k.min(n - 1),
            coarse_filter: None,
            ..params.clone()
        };
        return nearest_neighbours(group, &exact);
    }
    let index = HnswIndex::build(group.clone(), hnsw)?;
    // One more than wanted: the row itself need not be among the first k + 1.
    index.nearest(group, (params.k + 2).min(n))
}

/// Hands the rows of `bank` on in f32, block by block, after checking that they are unit vectors.
fn each_block(
    operation: &'static str,
    bank: &Tensor<2>,
    mut take: impl FnMut(usize, &[f32]),
) -> Result<()> {
    let [n, dim] = bank.dims();
    for range in blocks(n, host_block_rows(dim)) {
        let start = range.start;
        let data = host_data(operation, bank.clone().slice(range))?;
        let rows = host_slice(operation, &data)?;
        for (row, values) in (start..).zip(rows.chunks_exact(dim)) {
            let norm = dot(values, values).sqrt();
            let unit = (1.0 - UNIT_TOLERANCE..=1.0 + UNIT_TOLERANCE).contains(&norm);
            if !unit {
                return Err(QueueError::NotUnit {
                    operation,
                    row,
                    norm,
                });
            }
        }
        take(start, rows);
    }
    Ok(())
}

/// 1 - a . b, for unit vectors half their squared distance.
struct UnitDistance;

impl Distance<f32> for UnitDistance {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        // The library asserts that no distance is negative.
        (1.0 - dot(a, b)).max(0.0)
    }
}

/// The dot product, in a fixed order of 32 partial sums.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 32;
    let mut sums = [0.0_f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((sum, x), y) in sums.iter_mut().zip(a).zip(b) {
            *sum += x * y;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::{DType, Device, TensorData};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// `n` unit rows around `clusters` centres.
    fn rows(n: usize, dim: usize, clusters: usize, seed: u64) -> Tensor<2> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = || rng.random_range(-1.0..1.0f32);
        let centres: Vec<f32> = (0..clusters * dim).map(|_| draw()).collect();
        let mut values: Vec<f32> = (0..n * dim)
            .map(|at| centres[(at / dim % clusters) * dim + at % dim] + 0.6 * draw())
            .collect();
        for row in values.chunks_mut(dim) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x /= norm);
        }
        Tensor::from_data(TensorData::new(values, [n, dim]), &Device::flex())
    }

    fn recall(exact: &Neighbours, found: &Neighbours) -> f64 {
        let (mut hit, mut all) = (0, 0);
        for i in 0..exact.len() {
            let list = found.row(i).unwrap();
            let wanted = exact.row(i).unwrap();
            hit += wanted.iter().filter(|id| list.contains(id)).count();
            all += wanted.len();
        }
        f64::from(hit as u32) / f64::from(all as u32)
    }

    #[test]
    fn finds_nearly_all_neighbours_and_repeats_itself() {
        let bank = rows(5000, 40, 60, 1);
        let params = NeighbourParams::new(20);
        let hnsw = HnswParams::default();
        let exact = nearest_neighbours(bank.clone(), &params).unwrap();
        let found = approximate_neighbours(bank.clone(), &params, &hnsw).unwrap();
        assert!(recall(&exact, &found) > 0.97, "{}", recall(&exact, &found));
        for i in 0..found.len() {
            let mut list = found.row(i).unwrap().to_vec();
            assert_eq!((list[0] as usize, list.len()), (i, 21));
            list.sort_unstable();
            list.dedup();
            assert_eq!(list.len(), 21);
        }
        // The same whatever the number of threads, and again.
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let again = pool
                .build()
                .unwrap()
                .install(|| approximate_neighbours(bank.clone(), &params, &hnsw).unwrap());
            assert_eq!(again, found);
        }
        let parallel = HnswParams {
            parallel_build: true,
            ..hnsw
        };
        let found = approximate_neighbours(bank, &params, &parallel).unwrap();
        assert!(recall(&exact, &found) > 0.97);
    }

    #[test]
    fn answers_queries_from_a_half_bank() {
        let bank = rows(600, 33, 20, 4);
        let queries = rows(50, 33, 20, 4);
        let index = HnswIndex::build(bank.clone().cast(DType::F16), &HnswParams::default());
        let index = index.unwrap();
        assert_eq!(
            (index.len(), index.dim(), index.is_empty()),
            (600, 33, false)
        );
        let found = index.nearest(queries.clone(), 10).unwrap();
        let exact = crate::nearest_rows(queries.clone(), bank.clone(), 10).unwrap();
        assert!(recall(&exact, &found) > 0.95);
        // More than ef_search are wanted: the search widens.
        let narrow = HnswParams {
            ef_search: 1,
            ..HnswParams::default()
        };
        let index = HnswIndex::build(bank, &narrow).unwrap();
        assert_eq!(index.nearest(queries, 40).unwrap().counts, [40; 50]);
    }

    #[test]
    fn small_groups_are_exact() {
        let bank = rows(300, 8, 10, 2);
        let labels: Vec<usize> = (0..300).map(|i| i * i % 7).collect();
        for self_first in [true, false] {
            let params = NeighbourParams {
                coarse_filter: Some(&labels),
                self_first,
                ..NeighbourParams::new(9)
            };
            let exact = nearest_neighbours(bank.clone(), &params).unwrap();
            let found = approximate_neighbours(bank.clone(), &params, &HnswParams::default());
            assert_eq!(found.unwrap(), exact);
        }
    }

    #[test]
    fn duplicates_do_not_break_the_graph() {
        let bank = Tensor::<2>::from_floats([[0.6, 0.8]], &Device::flex()).repeat_dim(0, 5000);
        let found =
            approximate_neighbours(bank, &NeighbourParams::new(5), &HnswParams::default()).unwrap();
        for i in 0..5000 {
            let list = found.row(i).unwrap();
            assert_eq!(list[0] as usize, i);
        }
    }

    #[test]
    fn hostile_input_is_refused() {
        let device = Device::flex();
        let params = HnswParams::default();
        assert!(HnswIndex::build(Tensor::zeros([0, 3], &device), &params).is_err());
        for bad in [0.0, f32::NAN, f32::INFINITY, 2.0] {
            let bank = Tensor::<2>::from_floats([[1.0, 0.0], [bad, 0.0]], &device);
            let error = HnswIndex::build(bank, &params).unwrap_err();
            assert!(
                matches!(error, QueueError::NotUnit { row: 1, .. }),
                "{error}"
            );
        }
        let spoilt = [
            HnswParams {
                max_connections: 1,
                ..params
            },
            HnswParams {
                max_connections: 256,
                ..params
            },
            HnswParams {
                ef_construction: 0,
                ..params
            },
            HnswParams {
                ef_search: usize::MAX,
                ..params
            },
        ];
        let bank = || Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
        for params in spoilt {
            let error = HnswIndex::build(bank(), &params).unwrap_err();
            assert!(
                matches!(error, QueueError::InvalidParameter { .. }),
                "{error}"
            );
        }
        let index = HnswIndex::build(bank(), &params).unwrap();
        assert!(index.nearest(bank(), 0).is_err());
        assert!(index.nearest(bank(), 3).is_err());
        assert!(index.nearest(Tensor::zeros([1, 3], &device), 1).is_err());
        assert!(index.nearest(Tensor::zeros([1, 2], &device), 1).is_err());
        assert!(approximate_neighbours(bank(), &NeighbourParams::new(2), &params).is_err());
    }
}
