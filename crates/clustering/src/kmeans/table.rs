//! Lloyd iterations on a table of inner products.
//!
//! With `G = X X^T` computed once for all restarts, the seeding only reads rows of `G`, and an
//! iteration needs no matrix product at all: with `T_k(i)` the sum of `G[j, i]` over the members `j`
//! of cluster `k`,
//!
//! ```text
//! x_i . c_k = T_k(i) / n_k        |x_i - c_k|^2 = |x_i|^2 + |c_k|^2 - 2 T_k(i) / n_k
//! ```
//!
//! and a row `j` that changes from cluster `a` to `b` changes `T` by `T_a -= G[j]`, `T_b += G[j]`.
//! The labels are those of the plain iteration; only the cost changes, from `n k dim` per iteration
//! to `n k` plus `n` per row that moved.

use super::lloyd::{Members, Restart, Stop};
use super::seeding::{InnerProducts, Seeds};
use crate::points::gram_table;
use ndarray::ArrayView2;

/// The table with the points that it came from.
pub(super) struct Table<'a> {
    data: ArrayView2<'a, f32>,
    /// `[n, n]`, symmetric
    products: Vec<f32>,
    /// `[n]`, the diagonal
    norms: Vec<f32>,
}

impl<'a> Table<'a> {
    /// Computes the table.
    pub(super) fn new(data: ArrayView2<'a, f32>) -> Self {
        let products = gram_table(data);
        let norms = products.iter().step_by(data.nrows() + 1).copied().collect();
        Self {
            data,
            products,
            norms,
        }
    }

    fn row(&self, row: usize) -> &[f32] {
        let n = self.norms.len();
        &self.products[row * n..(row + 1) * n]
    }

    /// Runs Lloyd iterations from the seeds.
    pub(super) fn run(&self, seeds: &Seeds, stop: Stop) -> Restart {
        let n = self.norms.len();
        let k = seeds.rows.len();
        let mut members = Members::new(self.data, seeds);
        let mut sums = Sums {
            values: vec![0.0; k * n],
            n,
        };
        let mut scan = Scan {
            labels: seeds.nearest.iter().map(|&l| u64::from(l)).collect(),
            values: Vec::new(),
            constants: vec![f64::INFINITY; k],
            factors: vec![0.0; k],
        };
        let mut labels = seeds.nearest.clone();
        let mut previous: Vec<u32> = Vec::new();
        let mut owner = members.owner.clone();
        let mut iterations = 0;
        let mut total = members.update(&labels);
        let converged = loop {
            iterations += 1;
            if labels == previous {
                break true;
            }
            let still = total <= stop.tolerance;
            let last = still || iterations == stop.max_iter;
            sums.follow(self, &owner, &members.owner);
            owner.copy_from_slice(&members.owner);
            scan.assign(&members, &sums);
            previous = labels;
            labels = scan.labels.iter().map(|&l| l as u32).collect();
            if last {
                break still;
            }
            total = members.update(&labels);
        };
        members.finish(labels, iterations, converged)
    }
}

impl InnerProducts for Table<'_> {
    fn norms(&self) -> &[f32] {
        &self.norms
    }

    fn products<'b>(&'b self, rows: &[usize], _: &'b mut Vec<f32>) -> Vec<&'b [f32]> {
        rows.iter().map(|&row| self.row(row)).collect()
    }
}

/// `T`, `[k, n]`: for each cluster the sum of the table rows of its members.
struct Sums {
    values: Vec<f64>,
    n: usize,
}

impl Sums {
    /// Brings the sums from the members `old` to the members `new`.
    fn follow(&mut self, table: &Table<'_>, old: &[u32], new: &[u32]) {
        let moved = old.iter().zip(new).filter(|(a, b)| a != b).count();
        let rebuild = moved * 2 >= self.n;
        if rebuild {
            self.values.fill(0.0);
        }
        for (row, (&from, &to)) in old.iter().zip(new).enumerate() {
            if rebuild {
                self.row_mut(to)
                    .iter_mut()
                    .zip(table.row(row))
                    .for_each(|(t, &g)| *t += f64::from(g));
            } else if from != to {
                self.row_mut(from)
                    .iter_mut()
                    .zip(table.row(row))
                    .for_each(|(t, &g)| *t -= f64::from(g));
                self.row_mut(to)
                    .iter_mut()
                    .zip(table.row(row))
                    .for_each(|(t, &g)| *t += f64::from(g));
            }
        }
    }

    fn row(&self, cluster: usize) -> &[f64] {
        &self.values[cluster * self.n..(cluster + 1) * self.n]
    }

    fn row_mut(&mut self, cluster: u32) -> &mut [f64] {
        let start = cluster as usize * self.n;
        &mut self.values[start..start + self.n]
    }
}

/// The nearest centroid of each row, kept from one iteration to the next.
struct Scan {
    /// `[n]`; as wide as `values`, so that both are selected by one comparison.
    labels: Vec<u64>,
    /// `[n]`: `|c|^2 - 2 x.c` of the nearest centroid.
    values: Vec<f64>,
    /// `[k]`: `|c_k|^2`, infinite without members.
    constants: Vec<f64>,
    /// `[k]`: `2 / n_k`.
    factors: Vec<f64>,
}

impl Scan {
    /// Finds the nearest centroid of every row; the lowest index on ties.
    ///
    /// Only clusters whose members changed are compared, against the value kept for the row. That is
    /// enough unless the row's own centroid changed for the worse; those rows look at all clusters.
    fn assign(&mut self, members: &Members<'_>, sums: &Sums) {
        let k = self.constants.len();
        for cluster in (0..k).filter(|&c| members.changed[c]) {
            self.constants[cluster] = members.centroid_norm(cluster);
            // Without members the sum is zero, so any finite factor will do.
            self.factors[cluster] = 2.0 / members.counts[cluster].max(1) as f64;
        }
        if self.values.is_empty() {
            self.values = vec![f64::INFINITY; self.labels.len()];
            self.compare(0..k, sums);
            return;
        }
        let mut open = Vec::new();
        for (row, (&label, value)) in self.labels.iter().zip(&mut self.values).enumerate() {
            let own = label as usize;
            if members.changed[own] {
                let new = self.constants[own] - self.factors[own] * sums.row(own)[row];
                // Written so that a cluster that lost its last member (infinite value) is reopened.
                if new > *value {
                    open.push(row);
                }
                *value = new;
            }
        }
        if open.len() * 4 > self.labels.len() {
            self.values.fill(f64::INFINITY);
            self.compare(0..k, sums);
            return;
        }
        self.compare((0..k).filter(|&c| members.changed[c]), sums);
        for row in open {
            let mut best = (f64::INFINITY, 0);
            for cluster in 0..k {
                let value =
                    self.constants[cluster] - self.factors[cluster] * sums.row(cluster)[row];
                if value < best.0 {
                    best = (value, cluster as u64);
                }
            }
            (self.values[row], self.labels[row]) = best;
        }
    }

    /// Takes each of the clusters for the rows that are nearer to it than to the one they have.
    fn compare(&mut self, clusters: impl Iterator<Item = usize>, sums: &Sums) {
        for cluster in clusters {
            let constant = self.constants[cluster];
            let factor = self.factors[cluster];
            let index = cluster as u64;
            for ((best, label), &t) in self
                .values
                .iter_mut()
                .zip(&mut self.labels)
                .zip(sums.row(cluster))
            {
                let value = constant - factor * t;
                let nearer = (value < *best) | ((value == *best) & (index < *label));
                *best = if nearer { value } else { *best };
                *label = if nearer { index } else { *label };
            }
        }
    }
}
