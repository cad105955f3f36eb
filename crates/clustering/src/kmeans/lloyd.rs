//! Lloyd iterations: what both ways of computing distances share, and the way by matrix products.

use ndarray::{Array2, ArrayView2, s};
use rayon::prelude::*;

use super::seeding::{InnerProducts, Seeds};
use crate::points::{BLOCK_ROWS, from_rows};

/// When to stop, in the units of the prepared points.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    /// Most iterations.
    pub(super) max_iter: usize,
    /// Largest sum of squared centroid moves that counts as standing still.
    pub(super) tolerance: f64,
}

/// The end of one restart.
#[derive(Debug, Clone)]
pub(super) struct Restart {
    /// `[n]`: nearest centroid of each row.
    pub(super) labels: Vec<u32>,
    /// `[n]`: the cluster whose centroid a row is part of; other than `labels` only if the restart
    /// ended before no label changed.
    pub(super) owner: Vec<u32>,
    /// `[k, dim]`; a row without members is NaN.
    pub(super) centroids: Array2<f64>,
    /// Iterations done.
    pub(super) iterations: usize,
    /// False if `max_iter` ended the restart.
    pub(super) converged: bool,
}

/// Centroids as sums of their members, updated by the rows that changed hands.
pub(super) struct Members<'a> {
    data: ArrayView2<'a, f32>,
    /// `[n]`: the cluster whose mean a row enters.
    pub(super) owner: Vec<u32>,
    /// `[k]`
    pub(super) counts: Vec<usize>,
    /// `[k, dim]`
    sums: Array2<f64>,
    /// `[k, dim]`
    pub(super) centroids: Array2<f64>,
    /// `[k]`: did the last update change the members?
    pub(super) changed: Vec<bool>,
    /// `[k]`: how far the last update moved the centroid.
    pub(super) shifts: Vec<f64>,
}

impl<'a> Members<'a> {
    /// Centroids at the seeds, without members.
    pub(super) fn new(data: ArrayView2<'a, f32>, seeds: &Seeds) -> Self {
        let k = seeds.rows.len();
        let dim = data.ncols();
        let start = seeds
            .rows
            .iter()
            .flat_map(|&row| data.row(row).into_iter().map(|&x| f64::from(x)))
            .collect();
        Self {
            data,
            owner: vec![u32::MAX; data.nrows()],
            counts: vec![0; k],
            sums: Array2::zeros((k, dim)),
            centroids: from_rows(k, dim, start),
            changed: vec![true; k],
            shifts: vec![0.0; k],
        }
    }

    /// Moves every row to its `labels` cluster, after giving clusters without members the rows that
    /// lie farthest from their centroid. Returns the sum of squared centroid moves.
    pub(super) fn update(&mut self, labels: &[u32]) -> f64 {
        let k = self.counts.len();
        let mut target = vec![0_usize; k];
        labels.iter().for_each(|&label| target[label as usize] += 1);
        let relocated = relocations(labels, &mut target, |row| {
            let centroid = self.centroids.row(labels[row] as usize);
            self.data
                .row(row)
                .iter()
                .zip(centroid)
                .map(|(&x, c)| (f64::from(x) - c).powi(2))
                .sum()
        });

        self.changed.iter_mut().for_each(|c| *c = false);
        let mut next = relocated.iter().peekable();
        for (row, &label) in labels.iter().enumerate() {
            let to = match next.peek() {
                Some(&&(relocated_row, to)) if relocated_row == row => {
                    next.next();
                    to
                }
                _ => label,
            };
            let from = self.owner[row];
            if from == to {
                continue;
            }
            let values = self.data.row(row);
            if let Some(changed) = self.changed.get_mut(from as usize) {
                *changed = true;
                self.sums
                    .row_mut(from as usize)
                    .iter_mut()
                    .zip(values)
                    .for_each(|(s, &x)| *s -= f64::from(x));
            }
            self.changed[to as usize] = true;
            self.sums
                .row_mut(to as usize)
                .iter_mut()
                .zip(values)
                .for_each(|(s, &x)| *s += f64::from(x));
            self.owner[row] = to;
        }
        self.counts = target;

        let mut total = 0.0;
        for cluster in 0..k {
            self.shifts[cluster] = 0.0;
            let count = self.counts[cluster];
            // A cluster that stays without members keeps its centroid.
            if !self.changed[cluster] || count == 0 {
                continue;
            }
            let mut squared = 0.0;
            let divisor = count as f64;
            for (c, sum) in self
                .centroids
                .row_mut(cluster)
                .iter_mut()
                .zip(self.sums.row(cluster))
            {
                let new = sum / divisor;
                squared += (new - *c) * (new - *c);
                *c = new;
            }
            self.shifts[cluster] = squared.sqrt();
            total += squared;
        }
        total
    }

    /// Squared length of a centroid; infinite without members, so that no row is assigned to it.
    pub(super) fn centroid_norm(&self, cluster: usize) -> f64 {
        if self.counts[cluster] == 0 {
            f64::INFINITY
        } else {
            self.centroids.row(cluster).iter().map(|c| c * c).sum()
        }
    }

    /// Ends the restart.
    pub(super) fn finish(
        mut self,
        labels: Vec<u32>,
        iterations: usize,
        converged: bool,
    ) -> Restart {
        for (cluster, &count) in self.counts.iter().enumerate() {
            if count == 0 {
                self.centroids.row_mut(cluster).fill(f64::NAN);
            }
        }
        Restart {
            labels,
            owner: self.owner,
            centroids: self.centroids,
            iterations,
            converged,
        }
    }
}

/// Rows to hand to clusters without members: `(row, cluster)` sorted by row; `counts` is updated.
///
/// As in scikit-learn the farthest rows go to the empty clusters in turn. A row at distance zero or
/// the only member of its cluster stays: moving it would help nothing.
fn relocations(
    labels: &[u32],
    counts: &mut [usize],
    distances: impl Fn(usize) -> f64,
) -> Vec<(usize, u32)> {
    let empty: Vec<usize> = (0..counts.len()).filter(|&k| counts[k] == 0).collect();
    if empty.is_empty() {
        return Vec::new();
    }
    let mut far: Vec<(f64, usize)> = (0..labels.len())
        .map(|row| (distances(row), row))
        .filter(|(d, _)| *d > 0.0)
        .collect();
    far.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut far = far.into_iter();
    let mut moves = Vec::new();
    for cluster in empty {
        let Some((_, row)) = far
            .by_ref()
            .find(|&(_, row)| counts[labels[row] as usize] > 1)
        else {
            break;
        };
        counts[labels[row] as usize] -= 1;
        counts[cluster] = 1;
        moves.push((row, cluster as u32));
    }
    moves.sort_unstable();
    moves
}

/// Points with their squared lengths, for distances by matrix products.
pub(super) struct Products<'a> {
    /// `[n, dim]`
    pub(super) data: ArrayView2<'a, f32>,
    norms: Vec<f32>,
}

/// Rows per product when only its diagonal is wanted.
const DIAGONAL_ROWS: usize = 32;

impl<'a> Products<'a> {
    /// Computes the squared lengths.
    ///
    /// They are taken from the diagonal of a matrix product, since only that kernel adds in the same
    /// order as the products used for distances.
    pub(super) fn new(data: ArrayView2<'a, f32>) -> Self {
        let n = data.nrows();
        let mut norms = vec![0.0_f32; n];
        norms
            .par_chunks_mut(DIAGONAL_ROWS)
            .enumerate()
            .for_each(|(block, norms)| {
                let start = block * DIAGONAL_ROWS;
                let rows = data.slice(s![start..start + norms.len(), ..]);
                let product = rows.dot(&rows.t());
                norms
                    .iter_mut()
                    .zip(product.diag())
                    .for_each(|(norm, &x)| *norm = x);
            });
        Self { data, norms }
    }

    /// Runs Lloyd iterations from the seeds.
    ///
    /// Rows whose distance bounds prove that their label stands are skipped (Hamerly 2010): `upper`
    /// bounds the distance to the own centroid, `lower` that to every other one.
    pub(super) fn run(&self, seeds: &Seeds, stop: Stop) -> Restart {
        let n = self.data.nrows();
        let k = seeds.rows.len();
        let mut members = Members::new(self.data, seeds);
        let mut rows = vec![RowState::default(); n];
        for (row, (&label, &d)) in rows
            .iter_mut()
            .zip(seeds.nearest.iter().zip(&seeds.closest))
        {
            // The seeding knows no second-nearest seed; a lower bound of zero asks for a full look.
            *row = RowState {
                label,
                upper: d.sqrt(),
                lower: 0.0,
            };
        }
        let mut labels = seeds.nearest.clone();
        let mut previous: Vec<u32> = Vec::new();
        let mut iterations = 0;
        let mut total = members.update(&labels);
        let converged = loop {
            iterations += 1;
            if labels == previous {
                break true;
            }
            let still = total <= stop.tolerance;
            let last = still || iterations == stop.max_iter;
            self.assign(&members, &mut rows, k);
            previous = labels;
            labels = rows.iter().map(|r| r.label).collect();
            if last {
                break still;
            }
            total = members.update(&labels);
        };
        members.finish(labels, iterations, converged)
    }

    /// Finds the nearest centroid of each row whose label may have changed.
    fn assign(&self, members: &Members<'_>, rows: &mut [RowState], k: usize) {
        let centroids = members.centroids.mapv(|c| c as f32);
        let norms: Vec<f32> = (0..k).map(|c| members.centroid_norm(c) as f32).collect();
        let longest = norms
            .iter()
            .filter(|x| x.is_finite())
            .fold(0.0_f32, |a, &x| a.max(x))
            .sqrt();
        let (first, second) = two_largest(&members.shifts);
        rows.par_chunks_mut(BLOCK_ROWS)
            .enumerate()
            .for_each(|(block, rows)| {
                let start = block * BLOCK_ROWS;
                let mut open = Vec::with_capacity(rows.len());
                for (offset, row) in rows.iter_mut().enumerate() {
                    let own = row.label as usize;
                    row.upper += members.shifts[own] as f32;
                    row.lower -= if own == first.0 { second } else { first.1 } as f32;
                    // Distances from f32 products are off by up to about a thousandth of the lengths
                    // involved when they are tiny; inside that margin the products decide.
                    let margin = 1e-3 * (self.norms[start + offset].sqrt() + longest);
                    if row.upper + margin >= row.lower {
                        open.push(offset);
                    }
                }
                if open.is_empty() {
                    return;
                }
                let products = if open.len() * 4 > rows.len() * 3 {
                    open = (0..rows.len()).collect();
                    self.data
                        .slice(s![start..start + rows.len(), ..])
                        .dot(&centroids.t())
                } else {
                    let dim = self.data.ncols();
                    let mut gathered = Vec::with_capacity(open.len() * dim);
                    for &offset in &open {
                        gathered.extend(self.data.row(start + offset).iter().copied());
                    }
                    from_rows(open.len(), dim, gathered).dot(&centroids.t())
                };
                for (&offset, products) in open.iter().zip(products.outer_iter()) {
                    rows[offset] =
                        nearest_two(self.norms[start + offset], &norms, products.iter().copied());
                }
            });
    }
}

impl InnerProducts for Products<'_> {
    fn norms(&self) -> &[f32] {
        &self.norms
    }

    fn products<'b>(&'b self, rows: &[usize], buffer: &'b mut Vec<f32>) -> Vec<&'b [f32]> {
        let n = self.data.nrows();
        let dim = self.data.ncols();
        let mut chosen = Vec::with_capacity(rows.len() * dim);
        for &row in rows {
            chosen.extend(self.data.row(row).iter().copied());
        }
        let chosen = from_rows(rows.len(), dim, chosen);
        let blocks: Vec<Array2<f32>> = (0..n.div_ceil(BLOCK_ROWS))
            .into_par_iter()
            .map(|block| {
                let start = block * BLOCK_ROWS;
                let end = (start + BLOCK_ROWS).min(n);
                chosen.dot(&self.data.slice(s![start..end, ..]).t())
            })
            .collect();
        buffer.resize(rows.len() * n, 0.0);
        buffer
            .par_chunks_exact_mut(n)
            .enumerate()
            .for_each(|(row, out)| {
                for (out, block) in out.chunks_mut(BLOCK_ROWS).zip(&blocks) {
                    out.iter_mut()
                        .zip(block.row(row))
                        .for_each(|(to, &x)| *to = x);
                }
            });
        buffer.chunks_exact(n).collect()
    }
}

/// Label and distance bounds of a row.
#[derive(Debug, Clone, Copy, Default)]
struct RowState {
    label: u32,
    upper: f32,
    lower: f32,
}

/// Nearest and second-nearest centroid; the lowest index on ties.
fn nearest_two(norm: f32, centroid_norms: &[f32], products: impl Iterator<Item = f32>) -> RowState {
    let mut best = (f32::INFINITY, 0);
    let mut second = f32::INFINITY;
    for (cluster, (&c, p)) in centroid_norms.iter().zip(products).enumerate() {
        let value = c - 2.0 * p;
        if value < best.0 {
            second = best.0;
            best = (value, cluster as u32);
        } else if value < second {
            second = value;
        }
    }
    RowState {
        label: best.1,
        upper: (norm + best.0).max(0.0).sqrt(),
        lower: (norm + second).max(0.0).sqrt(),
    }
}

/// The largest value with its index, and the second-largest value.
fn two_largest(values: &[f64]) -> ((usize, f64), f64) {
    let mut first = (usize::MAX, 0.0);
    let mut second = 0.0;
    for (i, &v) in values.iter().enumerate() {
        if v > first.1 {
            second = first.1;
            first = (i, v);
        } else if v > second {
            second = v;
        }
    }
    (first, second)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn two_largest_finds_index_and_runner_up() {
        assert_eq!(two_largest(&[0.5, 2.0, 1.0]), ((1, 2.0), 1.0));
        assert_eq!(two_largest(&[2.0, 2.0]), ((0, 2.0), 2.0));
    }

    #[test]
    fn nearest_two_takes_the_lowest_index_on_ties() {
        let state = nearest_two(1.0, &[1.0, 1.0, 4.0], [0.5, 0.5, 0.0].into_iter());
        assert_eq!(state.label, 0);
        assert_eq!(state.upper, state.lower);
    }

    #[test]
    fn relocation_takes_the_farthest_row_of_a_cluster_that_can_spare_it() {
        let labels = [0, 0, 2, 2, 3];
        let distances = [1.0, 4.0, 2.0, 3.0, 9.0];
        let mut counts = [2, 0, 2, 1, 0];
        let moves = relocations(&labels, &mut counts, |row| distances[row]);
        // Row 4 is farthest but alone; row 1 goes to cluster 1, row 3 to cluster 4.
        assert_eq!(moves, vec![(1, 1), (3, 4)]);
        assert_eq!(counts, [1, 1, 1, 1, 1]);
    }

    #[test]
    fn relocation_is_pointless_when_every_row_sits_on_its_centroid() {
        let mut counts = [3, 0];
        assert!(relocations(&[0, 0, 0], &mut counts, |_| 0.0).is_empty());
        assert_eq!(counts, [3, 0]);
    }
}
