//! Two-dimensional maps by Barnes-Hut t-SNE.

use ndarray::{Array2, ArrayView2, s};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::error::{ClusteringError, invalid};
use crate::pca::Pca;
use crate::points::{BLOCK_ROWS, Prepared, check_points, from_rows};

const OPERATION: &str = "t-SNE";
/// Standard deviation of the map at the start.
const START: f64 = 1e-4;
/// Below this size all pairs are cheaper than a tree.
const EXACT_ROWS: usize = 300;
/// Points of a leaf that is not split further.
const LEAF: usize = 8;
/// Neighbouring points that share one walk through the tree.
const GROUP: usize = 16;
/// Groups of one unit of work.
const GROUPS_PER_TASK: usize = 4;
/// Points of one unit of work where all pairs are looked at.
const EXACT_TASK: usize = 64;
/// Levels of the tree; the codes of the cells have twice as many bits.
const LEVELS: u32 = 16;
/// Independent partial sums, so that loops need no fixed order of additions.
const LANES: usize = 8;

/// Where the points start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TsneInit {
    /// The first two principal components, scaled to standard deviation 1e-4 along the first.
    #[default]
    Pca,
    /// Normal numbers of standard deviation 1e-4 drawn from the seed.
    Random,
}

/// Parameters of t-SNE, with the defaults of scikit-learn's `TSNE` but for the exaggeration.
///
/// scikit-learn drops the factor on the attraction from 12 to 1 after iteration 250. Here it stands for
/// 100 iterations and then falls by the same ratio in each of 300, while the automatic step size grows as
/// it falls. After the same 1000 iterations the divergence was 4 to 7 % lower than scikit-learn's, on
/// sentence vectors and on mixtures of 1031 and 2250 points.
///
/// | field | default | meaning |
/// |---|---|---|
/// | `perplexity` | 30 | effective number of neighbours, below n |
/// | `learning_rate` | none | step size; none: `max(n / factor / 4, 50)` with the present factor |
/// | `early_exaggeration` | 12 | factor on the attraction at first |
/// | `exaggeration_iter` | 100 | iterations with that factor, at momentum 0.5; later 0.8 |
/// | `release_iter` | 300 | iterations in which the factor then falls to 1 |
/// | `iterations` | 1000 | all iterations; fewer than the two above leave the map exaggerated |
/// | `theta` | 0.5 | a cell of width w at distance r counts as one point if `w < theta r`; 0: all pairs |
/// | `min_gradient` | 1e-7 | stop below this length of the gradient, looked at every 50 iterations |
/// | `init` | PCA | where the points start |
/// | `seed` | 0 | for the start |
///
/// # Example
/// ```
/// use clustering::TsneParams;
/// use ndarray::Array2;
///
/// let points = Array2::from_shape_fn((40, 5), |(i, j)| (i % 2) as f32 * 9.0 + ((i * 7 + j * 3) % 10) as f32 * 0.1);
/// let map = TsneParams::for_points(40).fit(points.view())?;
/// assert_eq!(map.embedding.dim(), (40, 2));
/// # Ok::<(), clustering::ClusteringError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TsneParams {
    /// Effective number of neighbours, at least 1 and below n.
    pub perplexity: f64,
    /// Step size, or none for the automatic one.
    pub learning_rate: Option<f64>,
    /// Factor on the attraction at first, at least 1.
    pub early_exaggeration: f64,
    /// Iterations with that factor.
    pub exaggeration_iter: usize,
    /// Iterations in which the factor then falls to 1, geometrically; 0 drops it at once.
    pub release_iter: usize,
    /// All iterations.
    pub iterations: usize,
    /// Accuracy of the repulsion, 0 (exact) to 0.7.
    pub theta: f64,
    /// Gradient length that counts as standing still.
    pub min_gradient: f64,
    /// Where the points start.
    pub init: TsneInit,
    /// Seed of the start.
    pub seed: u64,
}

impl Default for TsneParams {
    fn default() -> Self {
        Self {
            perplexity: 30.0,
            learning_rate: None,
            early_exaggeration: 12.0,
            exaggeration_iter: 100,
            release_iter: 300,
            iterations: 1000,
            theta: 0.5,
            min_gradient: 1e-7,
            init: TsneInit::Pca,
            seed: 0,
        }
    }
}

impl TsneParams {
    /// Defaults, with the perplexity lowered to `(n - 1) / 3` where 30 would be too much.
    pub fn for_points(n: usize) -> Self {
        Self {
            perplexity: (n.saturating_sub(1) as f64 / 3.0).clamp(1.0, 30.0),
            ..Self::default()
        }
    }

    /// Turns the parameters into a value that can run.
    ///
    /// # Errors
    /// [`ClusteringError::InvalidParameter`] naming the first field outside its range.
    pub fn check(self) -> Result<CheckedTsneParams, ClusteringError> {
        if !(self.perplexity.is_finite() && self.perplexity >= 1.0) {
            return Err(invalid(
                OPERATION,
                "perplexity",
                "finite and at least 1",
                self.perplexity,
            ));
        }
        if let Some(rate) = self.learning_rate.filter(|r| !(r.is_finite() && *r > 0.0)) {
            return Err(invalid(
                OPERATION,
                "learning_rate",
                "finite and positive",
                rate,
            ));
        }
        if !(self.early_exaggeration.is_finite() && self.early_exaggeration >= 1.0) {
            return Err(invalid(
                OPERATION,
                "early_exaggeration",
                "finite and at least 1",
                self.early_exaggeration,
            ));
        }
        // Above 1/sqrt(2) a cell could stand for a point inside itself.
        if !(0.0..=0.7).contains(&self.theta) {
            return Err(invalid(OPERATION, "theta", "between 0 and 0.7", self.theta));
        }
        if self.min_gradient.is_nan() || self.min_gradient < 0.0 {
            return Err(invalid(
                OPERATION,
                "min_gradient",
                "not negative",
                self.min_gradient,
            ));
        }
        Ok(CheckedTsneParams(self))
    }

    /// Factor on the attraction in an iteration, the first being number 0.
    fn exaggeration(&self, iteration: usize) -> f64 {
        let released = iteration.saturating_sub(self.exaggeration_iter);
        if iteration < self.exaggeration_iter {
            self.early_exaggeration
        } else if released >= self.release_iter {
            1.0
        } else {
            let share = released as f64 / self.release_iter as f64;
            self.early_exaggeration.powf(1.0 - share)
        }
    }

    /// Step size for `n` points at a factor on the attraction.
    ///
    /// The step that the pull of the neighbours allows falls with the factor (Belkina et al. 2019).
    fn rate(&self, n: usize, exaggeration: f64) -> f64 {
        self.learning_rate
            .unwrap_or((n as f64 / exaggeration / 4.0).max(50.0))
    }

    /// [`check`](Self::check) and [`fit`](CheckedTsneParams::fit) in one call.
    ///
    /// # Errors
    /// Those of both.
    pub fn fit(self, points: ArrayView2<'_, f32>) -> Result<Tsne, ClusteringError> {
        self.check()?.fit(points)
    }
}

/// Parameters that passed [`TsneParams::check`].
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedTsneParams(TsneParams);

/// A two-dimensional map.
///
/// t-SNE (van der Maaten and Hinton 2008) places points `y_i` so that their similarities `q` agree
/// with those `p` of the input:
///
/// ```text
/// p_j|i = exp(-|x_i - x_j|^2 b_i) / sum_k exp(-|x_i - x_k|^2 b_i)     entropy of p_.|i = ln perplexity
/// p_ij  = (p_j|i + p_i|j) / 2n
/// q_ij  = 1 / (1 + |y_i - y_j|^2) / Z                                Z: the sum over all pairs
/// KL    = sum p_ij ln(p_ij / q_ij)
/// ```
///
/// The repulsive part of the gradient is approximated with a quadtree (Barnes-Hut, van der Maaten
/// 2014); `p` is kept for the `3 perplexity + 1` nearest neighbours. Distances in the map between far
/// groups, and the sizes of groups, mean nothing.
///
/// The map depends neither on the order of the rows nor on the number of threads.
#[derive(Debug, Clone, PartialEq)]
pub struct Tsne {
    /// `[n, 2]`: coordinates, centred.
    pub embedding: Array2<f32>,
    /// Kullback-Leibler divergence of the map, natural logarithm, over the kept neighbours; `Z` is
    /// exact.
    pub kl: f64,
    /// Iterations done.
    pub iterations: usize,
}

impl CheckedTsneParams {
    /// The parameters.
    pub fn params(&self) -> &TsneParams {
        &self.0
    }

    /// Maps the points to the plane.
    ///
    /// # Shapes
    /// - `points`: `[n, dim]`
    ///
    /// # Errors
    /// Empty or non-finite points, fewer than two rows, a perplexity of n or more.
    pub fn fit(&self, points: ArrayView2<'_, f32>) -> Result<Tsne, ClusteringError> {
        let params = &self.0;
        check_points(OPERATION, points)?;
        let n = points.nrows();
        if n < 2 {
            return Err(ClusteringError::TooFewRows {
                operation: OPERATION,
                needed: 2,
                found: n,
            });
        }
        if params.perplexity >= n as f64 {
            return Err(invalid(
                OPERATION,
                "perplexity",
                "below the number of points",
                params.perplexity,
            ));
        }
        let prepared = Prepared::new(points);
        let exact = params.theta == 0.0 || n <= EXACT_ROWS;
        let neighbours = if exact {
            n - 1
        } else {
            (n - 1).min((3.0 * params.perplexity + 1.0) as usize)
        };
        let affinities = Affinities::new(prepared.data.view(), neighbours, params.perplexity);

        let mut map = start(&prepared, params);
        let mut speed = vec![[0.0_f32; 2]; n];
        let mut gains = vec![[1.0_f32; 2]; n];
        let mut repulsion = Repulsion::new(n, if exact { 0.0 } else { params.theta as f32 });
        let mut attraction = vec![[0.0_f32; 2]; n];
        let mut iterations = 0;
        while iterations < params.iterations {
            let factor = params.exaggeration(iterations);
            let (exaggeration, rate) = (factor as f32, params.rate(n, factor) as f32);
            let momentum = if iterations < params.exaggeration_iter {
                0.5
            } else {
                0.8
            };
            let z = repulsion.compute(&map).max(f64::MIN_POSITIVE);
            affinities.attract(&map, &mut attraction);
            let inverse = (1.0 / z) as f32;
            let mut squared = 0.0_f64;
            for i in 0..n {
                for axis in 0..2 {
                    let gradient = 4.0
                        * (exaggeration * attraction[i][axis]
                            - inverse * repulsion.forces[i][axis]);
                    squared += f64::from(gradient * gradient);
                    let gain = &mut gains[i][axis];
                    // Gradient and speed of opposite signs: still going downhill, so take longer steps.
                    *gain = if gradient * speed[i][axis] < 0.0 {
                        *gain + 0.2
                    } else {
                        (*gain * 0.8).max(0.01)
                    };
                    speed[i][axis] = momentum * speed[i][axis] - rate * *gain * gradient;
                    map[i][axis] += speed[i][axis];
                }
            }
            iterations += 1;
            if iterations % 10 == 0 {
                keep_from_collapsing(&mut map, &mut speed);
            }
            if iterations % 50 == 0 && factor == 1.0 && squared.sqrt() <= params.min_gradient {
                break;
            }
        }
        let z = exact_normaliser(&map);
        let kl = affinities.divergence(&map, z);
        centre(&mut map);
        let map = prepared.restore(&map);
        Ok(Tsne {
            embedding: from_rows(n, 2, map.into_iter().flatten().collect()),
            kl,
            iterations,
        })
    }
}

/// Starting positions, canonical order.
fn start(prepared: &Prepared, params: &TsneParams) -> Vec<[f32; 2]> {
    let (n, dim) = prepared.data.dim();
    if params.init == TsneInit::Pca {
        let axes = n.min(dim).min(2);
        let pca = Pca::fit_prepared(prepared, axes, params.seed);
        let mut map = vec![[0.0_f32; 2]; n];
        for (axis, component) in pca.components.outer_iter().enumerate() {
            for (position, row) in map.iter_mut().zip(prepared.data.outer_iter()) {
                position[axis] = row
                    .iter()
                    .zip(component)
                    .map(|(&x, &c)| f64::from(x) * f64::from(c))
                    .sum::<f64>() as f32;
            }
        }
        let variance = map.iter().map(|p| f64::from(p[0]).powi(2)).sum::<f64>() / n as f64;
        if variance > 0.0 {
            let factor = (START / variance.sqrt()) as f32;
            map.iter_mut().flatten().for_each(|x| *x *= factor);
            return map;
        }
        // Points that are all equal have no components; they start at random.
    }
    let mut rng = ChaCha8Rng::seed_from_u64(params.seed);
    (0..n)
        .map(|_| {
            let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * START;
            let angle = std::f64::consts::TAU * rng.random::<f64>();
            [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
        })
        .collect()
}

/// Blows a map that has shrunk below a tenth of its first size up to that size again.
///
/// Where neighbourhoods overlap much, the exaggerated attraction pulls all points together until
/// nothing but rounding is left. At that size the forces are linear in the positions: the scale means
/// nothing, the slowest directions survive. Both axes tend to the same one, so the second is made
/// orthogonal to the first, as in subspace iteration.
fn keep_from_collapsing(map: &mut [[f32; 2]], speed: &mut [[f32; 2]]) {
    centre(map);
    let sum = |a: usize, b: usize, map: &[[f32; 2]]| -> f64 {
        map.iter().map(|p| f64::from(p[a]) * f64::from(p[b])).sum()
    };
    let first = sum(0, 0, map);
    let smallest = 0.01 * START * START * map.len() as f64;
    if first == 0.0 || first + sum(1, 1, map) >= smallest {
        return;
    }
    let share = (sum(0, 1, map) / first) as f32;
    map.iter_mut()
        .chain(speed.iter_mut())
        .for_each(|p| p[1] -= share * p[0]);
    for axis in 0..2 {
        let size = (sum(axis, axis, map) / map.len() as f64).sqrt();
        if size > 0.0 {
            let factor = (START / size) as f32;
            map.iter_mut()
                .chain(speed.iter_mut())
                .for_each(|p| p[axis] *= factor);
        }
    }
}

fn centre(map: &mut [[f32; 2]]) {
    let n = map.len() as f64;
    let mean = [0, 1].map(|axis| map.iter().map(|p| f64::from(p[axis])).sum::<f64>() / n);
    for position in map {
        for axis in 0..2 {
            position[axis] = (f64::from(position[axis]) - mean[axis]) as f32;
        }
    }
}

/// Symmetric similarities `p`, summing to one, as rows of (column, value) pairs.
#[derive(Debug, Clone)]
struct Affinities {
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl Affinities {
    /// Similarities over the nearest neighbours of each row.
    fn new(data: ArrayView2<'_, f32>, neighbours: usize, perplexity: f64) -> Self {
        let n = data.nrows();
        let conditional: Vec<Vec<(u32, f64)>> = nearest_neighbours(data, neighbours)
            .into_par_iter()
            .map(|row| {
                let distances: Vec<f64> = row.iter().map(|&(d, _)| f64::from(d)).collect();
                let p = conditional_similarities(&distances, perplexity);
                row.into_iter().zip(p).map(|((_, j), p)| (j, p)).collect()
            })
            .collect();
        let mut rows: Vec<Vec<(u32, f64)>> = conditional.clone();
        for (i, row) in conditional.iter().enumerate() {
            for &(j, p) in row {
                rows[j as usize].push((i as u32, p));
            }
        }
        let mut out = Self {
            starts: vec![0],
            columns: Vec::new(),
            values: Vec::new(),
        };
        for row in &mut rows {
            row.sort_by_key(|&(j, _)| j);
            let mut merged: Vec<(u32, f64)> = Vec::with_capacity(row.len());
            for &(j, p) in row.iter() {
                match merged.last_mut() {
                    Some(last) if last.0 == j => last.1 += p,
                    _ => merged.push((j, p)),
                }
            }
            out.columns.extend(merged.iter().map(|&(j, _)| j));
            out.values
                .extend(merged.iter().map(|&(_, p)| (p / (2.0 * n as f64)) as f32));
            out.starts.push(out.columns.len());
        }
        out
    }

    /// `sum_j p_ij (y_i - y_j) / (1 + |y_i - y_j|^2)` for each point.
    fn attract(&self, map: &[[f32; 2]], out: &mut [[f32; 2]]) {
        out.par_chunks_mut(BLOCK_ROWS)
            .enumerate()
            .for_each(|(block, out)| {
                for (offset, force) in out.iter_mut().enumerate() {
                    let i = block * BLOCK_ROWS + offset;
                    let [x, y] = map[i];
                    let range = self.starts[i]..self.starts[i + 1];
                    let mut sums = [[0.0_f32; LANES]; 2];
                    let columns = self.columns[range.clone()].chunks(LANES);
                    for (columns, values) in columns.zip(self.values[range].chunks(LANES)) {
                        let mut dx = [0.0_f32; LANES];
                        let mut dy = [0.0_f32; LANES];
                        let mut p = [0.0_f32; LANES];
                        for (lane, (&j, &value)) in columns.iter().zip(values).enumerate() {
                            let [a, b] = map[j as usize];
                            dx[lane] = x - a;
                            dy[lane] = y - b;
                            p[lane] = value;
                        }
                        for lane in 0..LANES {
                            let w = p[lane] / (1.0 + dx[lane] * dx[lane] + dy[lane] * dy[lane]);
                            sums[0][lane] += w * dx[lane];
                            sums[1][lane] += w * dy[lane];
                        }
                    }
                    *force = [sums[0].iter().sum(), sums[1].iter().sum()];
                }
            });
    }

    /// `sum p ln(p / q)` with the normaliser `z` of `q`.
    fn divergence(&self, map: &[[f32; 2]], z: f64) -> f64 {
        let rows: Vec<f64> = (0..map.len())
            .into_par_iter()
            .map(|i| {
                let range = self.starts[i]..self.starts[i + 1];
                self.columns[range.clone()]
                    .iter()
                    .zip(&self.values[range])
                    .filter(|(_, p)| **p > 0.0)
                    .map(|(&j, &p)| {
                        let q = similarity(map[i], map[j as usize]) / z;
                        f64::from(p) * (f64::from(p) / q.max(f64::MIN_POSITIVE)).ln()
                    })
                    .sum()
            })
            .collect();
        rows.iter().sum()
    }
}

/// `1 / (1 + |a - b|^2)`
fn similarity(a: [f32; 2], b: [f32; 2]) -> f64 {
    let (dx, dy) = (
        f64::from(a[0]) - f64::from(b[0]),
        f64::from(a[1]) - f64::from(b[1]),
    );
    1.0 / (1.0 + dx * dx + dy * dy)
}

/// Sum of the similarities over all ordered pairs of different points.
fn exact_normaliser(map: &[[f32; 2]]) -> f64 {
    let rows: Vec<f64> = map
        .par_iter()
        .map(|&a| map.iter().map(|&b| similarity(a, b)).sum::<f64>() - 1.0)
        .collect();
    rows.iter().sum()
}

/// For each row its nearest other rows as (squared distance, row), nearest first.
fn nearest_neighbours(data: ArrayView2<'_, f32>, count: usize) -> Vec<Vec<(f32, u32)>> {
    let n = data.nrows();
    let norms: Vec<f32> = data.outer_iter().map(|row| row.dot(&row)).collect();
    let blocks: Vec<Vec<Vec<(f32, u32)>>> = (0..n.div_ceil(BLOCK_ROWS))
        .into_par_iter()
        .map(|block| {
            let start = block * BLOCK_ROWS;
            let end = (start + BLOCK_ROWS).min(n);
            let products = data.slice(s![start..end, ..]).dot(&data.t());
            let mut pairs: Vec<(f32, u32)> = Vec::with_capacity(n);
            products
                .outer_iter()
                .enumerate()
                .map(|(offset, products)| {
                    let i = start + offset;
                    pairs.clear();
                    pairs.extend(
                        products
                            .iter()
                            .zip(&norms)
                            .enumerate()
                            .filter(|(j, _)| *j != i)
                            .map(|(j, (&p, &norm))| {
                                ((norms[i] + norm - 2.0 * p).max(0.0), j as u32)
                            }),
                    );
                    let order =
                        |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
                    if count < pairs.len() {
                        pairs.select_nth_unstable_by(count, order);
                        pairs.truncate(count);
                    }
                    pairs.sort_unstable_by(order);
                    pairs.clone()
                })
                .collect()
        })
        .collect();
    blocks.into_iter().flatten().collect()
}

/// `p_j = exp(-d_j b) / sum` with `b` such that the entropy is `ln perplexity`; `d` ascending.
fn conditional_similarities(distances: &[f64], perplexity: f64) -> Vec<f64> {
    let target = perplexity.ln();
    let nearest = distances.first().copied().unwrap_or(0.0);
    let mean = distances.iter().map(|d| d - nearest).sum::<f64>() / distances.len().max(1) as f64;
    let mut beta = if mean > 0.0 { 1.0 / mean } else { 1.0 };
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut p = vec![0.0; distances.len()];
    for _ in 0..100 {
        let mut sum = 0.0;
        let mut weighted = 0.0;
        for (p, &d) in p.iter_mut().zip(distances) {
            // Shifting by the nearest distance leaves p as it is and keeps the sum at 1 or more.
            *p = (-(d - nearest) * beta).exp();
            sum += *p;
            weighted += *p * (d - nearest);
        }
        p.iter_mut().for_each(|p| *p /= sum);
        let entropy = sum.ln() + beta * weighted / sum;
        if (entropy - target).abs() <= 1e-5 {
            break;
        }
        if entropy > target {
            low = beta;
            beta = if high.is_finite() {
                0.5 * (beta + high)
            } else {
                beta * 2.0
            };
        } else {
            high = beta;
            beta = 0.5 * (beta + low);
        }
    }
    p
}

/// Repulsive forces `sum_j (y_i - y_j) / (1 + |y_i - y_j|^2)^2`, with buffers kept between calls.
struct Repulsion {
    theta: f32,
    /// Forces in the order of the map.
    forces: Vec<[f32; 2]>,
    tree: Quadtree,
    /// Forces and normaliser in the order of the tree.
    sorted: Vec<[f32; 3]>,
}

impl Repulsion {
    fn new(n: usize, theta: f32) -> Self {
        Self {
            theta,
            forces: vec![[0.0; 2]; n],
            tree: Quadtree::default(),
            sorted: vec![[0.0; 3]; n],
        }
    }

    /// Computes the forces; returns the sum of the similarities over ordered pairs.
    fn compute(&mut self, map: &[[f32; 2]]) -> f64 {
        if self.theta == 0.0 {
            let (x, y): (Vec<f32>, Vec<f32>) = map.iter().map(|p| (p[0], p[1])).unzip();
            self.sorted
                .par_chunks_mut(EXACT_TASK)
                .enumerate()
                .for_each(|(task, out)| {
                    let mut list = List::default();
                    list.push_points(&x, &y);
                    list.pad();
                    for (offset, out) in out.iter_mut().enumerate() {
                        let i = task * EXACT_TASK + offset;
                        // A point does not repel itself.
                        list.mass[i] = 0.0;
                        *out = list.interact(map[i]);
                        list.mass[i] = 1.0;
                    }
                });
            for (force, sorted) in self.forces.iter_mut().zip(&self.sorted) {
                *force = [sorted[0], sorted[1]];
            }
        } else {
            self.tree.build(map);
            let tree = &self.tree;
            let theta_squared = self.theta * self.theta;
            let task = GROUP * GROUPS_PER_TASK;
            self.sorted
                .par_chunks_mut(task)
                .enumerate()
                .for_each(|(index, out)| {
                    let mut list = List::default();
                    for (group, out) in out.chunks_mut(GROUP).enumerate() {
                        let start = index * task + group * GROUP;
                        list.clear();
                        tree.collect(start..start + out.len(), theta_squared, &mut list);
                        list.pad();
                        for (offset, out) in out.iter_mut().enumerate() {
                            *out = list.interact([tree.x[start + offset], tree.y[start + offset]]);
                            // Every point met itself, at distance zero.
                            out[2] -= 1.0;
                        }
                    }
                });
            for (&i, sorted) in self.tree.order.iter().zip(&self.sorted) {
                self.forces[i as usize] = [sorted[0], sorted[1]];
            }
        }
        self.sorted.iter().map(|s| f64::from(s[2])).sum()
    }
}

/// Points and cells that a group of points interacts with.
#[derive(Default)]
struct List {
    x: Vec<f32>,
    y: Vec<f32>,
    mass: Vec<f32>,
}

impl List {
    fn clear(&mut self) {
        self.x.clear();
        self.y.clear();
        self.mass.clear();
    }

    fn push_points(&mut self, x: &[f32], y: &[f32]) {
        self.x.extend_from_slice(x);
        self.y.extend_from_slice(y);
        self.mass.resize(self.x.len(), 1.0);
    }

    fn push_cell(&mut self, node: &Node) {
        self.x.push(node.x);
        self.y.push(node.y);
        self.mass.push(node.mass);
    }

    /// Fills up to a multiple of the lanes with entries without mass.
    fn pad(&mut self) {
        let length = self.x.len().next_multiple_of(LANES);
        self.x.resize(length, 0.0);
        self.y.resize(length, 0.0);
        self.mass.resize(length, 0.0);
    }

    /// Force on a point, and its sum of similarities.
    fn interact(&self, [px, py]: [f32; 2]) -> [f32; 3] {
        let mut fx = [0.0_f32; LANES];
        let mut fy = [0.0_f32; LANES];
        let mut z = [0.0_f32; LANES];
        let entries = self
            .x
            .chunks_exact(LANES)
            .zip(self.y.chunks_exact(LANES))
            .zip(self.mass.chunks_exact(LANES));
        for ((x, y), mass) in entries {
            for lane in 0..LANES {
                let dx = px - x[lane];
                let dy = py - y[lane];
                let q = 1.0 / (1.0 + dx * dx + dy * dy);
                let mq = mass[lane] * q;
                let w = mq * q;
                fx[lane] += w * dx;
                fy[lane] += w * dy;
                z[lane] += mq;
            }
        }
        [fx.iter().sum(), fy.iter().sum(), z.iter().sum()]
    }
}

/// A cell of the quadtree with its centre of mass.
#[derive(Debug, Clone, Copy)]
struct Node {
    x: f32,
    y: f32,
    mass: f32,
    width_squared: f32,
    /// Node after the whole cell.
    next: u32,
    /// First point of a leaf; `u32::MAX` for an inner cell, whose children follow it.
    leaf: u32,
}

/// A quadtree over points sorted along the Z-curve, stored in depth-first order.
#[derive(Debug, Default)]
struct Quadtree {
    /// Code of the cell in the upper half, number of the point in the lower half.
    keys: Vec<u64>,
    order: Vec<u32>,
    x: Vec<f32>,
    y: Vec<f32>,
    nodes: Vec<Node>,
}

impl Quadtree {
    fn build(&mut self, map: &[[f32; 2]]) {
        let mut low = [f32::INFINITY; 2];
        let mut high = [f32::NEG_INFINITY; 2];
        for p in map {
            for axis in 0..2 {
                low[axis] = low[axis].min(p[axis]);
                high[axis] = high[axis].max(p[axis]);
            }
        }
        let width = (high[0] - low[0]).max(high[1] - low[1]);
        let cells = (1_u32 << LEVELS) as f32;
        let factor = if width > 0.0 { cells / width } else { 0.0 };
        // The conversion saturates, so the far edge falls into the last cell after `min`.
        let cell = |v: f32, axis: usize| (((v - low[axis]) * factor) as u32).min((1 << LEVELS) - 1);
        self.keys.clear();
        self.keys.extend(map.iter().enumerate().map(|(i, p)| {
            (u64::from(spread(cell(p[0], 0)) | (spread(cell(p[1], 1)) << 1)) << 32) | i as u64
        }));
        self.keys.sort_unstable();
        self.order.clear();
        self.order.extend(self.keys.iter().map(|&key| key as u32));
        self.x.clear();
        self.y.clear();
        for &i in &self.order {
            self.x.push(map[i as usize][0]);
            self.y.push(map[i as usize][1]);
        }
        self.nodes.clear();
        self.split(0, self.keys.len(), 0, width);
    }

    /// Appends the cell that holds the points `from..to`, and its children; returns the sums of the
    /// coordinates.
    fn split(&mut self, from: usize, to: usize, level: u32, width: f32) -> [f64; 2] {
        let index = self.nodes.len();
        let count = to - from;
        let is_leaf = count <= LEAF || level == LEVELS;
        let leaf = if is_leaf { from as u32 } else { u32::MAX };
        self.nodes.push(Node {
            x: 0.0,
            y: 0.0,
            mass: count as f32,
            width_squared: width * width,
            next: 0,
            leaf,
        });
        let mut sum = [0.0_f64; 2];
        if is_leaf {
            for i in from..to {
                sum[0] += f64::from(self.x[i]);
                sum[1] += f64::from(self.y[i]);
            }
        } else {
            let shift = 32 + 2 * (LEVELS - 1 - level);
            let mut start = from;
            for quarter in 0..4 {
                let end = start
                    + self.keys[start..to].partition_point(|key| (key >> shift) & 3 <= quarter);
                if end > start {
                    let part = self.split(start, end, level + 1, width * 0.5);
                    sum[0] += part[0];
                    sum[1] += part[1];
                }
                start = end;
            }
        }
        let next = self.nodes.len() as u32;
        let node = &mut self.nodes[index];
        node.x = (sum[0] / count as f64) as f32;
        node.y = (sum[1] / count as f64) as f32;
        node.next = next;
        sum
    }

    /// Collects what the points of `group` (positions in tree order) interact with.
    ///
    /// A cell is taken whole if it is far enough from every point of the group.
    fn collect(&self, group: std::ops::Range<usize>, theta_squared: f32, list: &mut List) {
        let bounds = |values: &[f32]| {
            values
                .iter()
                .fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &v| {
                    (a.min(v), b.max(v))
                })
        };
        let (left, right) = bounds(&self.x[group.clone()]);
        let (bottom, top) = bounds(&self.y[group]);
        let mut index = 0;
        while let Some(node) = self.nodes.get(index) {
            let dx = (left - node.x).max(node.x - right).max(0.0);
            let dy = (bottom - node.y).max(node.y - top).max(0.0);
            if node.width_squared < theta_squared * (dx * dx + dy * dy) {
                list.push_cell(node);
                index = node.next as usize;
            } else if node.leaf != u32::MAX {
                let range = node.leaf as usize..node.leaf as usize + node.mass as usize;
                list.push_points(&self.x[range.clone()], &self.y[range]);
                index = node.next as usize;
            } else {
                index += 1;
            }
        }
    }
}

/// Puts a zero bit before each of the lower 16 bits.
fn spread(value: u32) -> u32 {
    let mut v = value & 0xffff;
    v = (v | (v << 8)) & 0x00ff_00ff;
    v = (v | (v << 4)) & 0x0f0f_0f0f;
    v = (v | (v << 2)) & 0x3333_3333;
    (v | (v << 1)) & 0x5555_5555
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    /// `groups` groups of points around far apart centres in `dim` dimensions.
    fn blobs(n: usize, dim: usize, groups: usize) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        Array2::from_shape_fn((n, dim), |(i, j)| {
            rng.random::<f32>() - 0.5 + if i % groups == j % groups { 4.0 } else { 0.0 }
        })
    }

    fn purity(map: &Array2<f32>, groups: usize) -> f64 {
        let n = map.nrows();
        let same = (0..n).filter(|&i| {
            let distance = |j: usize| {
                (map[[i, 0]] - map[[j, 0]]).powi(2) + (map[[i, 1]] - map[[j, 1]]).powi(2)
            };
            let nearest = (0..n)
                .filter(|&j| j != i)
                .min_by(|&a, &b| distance(a).total_cmp(&distance(b)));
            nearest.is_some_and(|j| j % groups == i % groups)
        });
        same.count() as f64 / n as f64
    }

    fn random_map(n: usize, spread: f32, seed: u64) -> Vec<[f32; 2]> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n)
            .map(|_| [0, 1].map(|_| (rng.random::<f32>() - 0.5).powi(3) * 8.0 * spread))
            .collect()
    }

    /// Forces and normaliser by their definition in double precision.
    fn plain_repulsion(map: &[[f32; 2]]) -> (Vec<[f64; 2]>, f64) {
        let mut z = 0.0;
        let forces = (0..map.len())
            .map(|i| {
                let mut force = [0.0; 2];
                for j in (0..map.len()).filter(|&j| j != i) {
                    let q = similarity(map[i], map[j]);
                    z += q;
                    for axis in 0..2 {
                        force[axis] += q * q * (f64::from(map[i][axis]) - f64::from(map[j][axis]));
                    }
                }
                force
            })
            .collect();
        (forces, z)
    }

    #[test]
    fn repulsion_approaches_the_definition_as_theta_falls() {
        for (n, spread) in [(1, 1.0), (2, 1.0), (40, 1e-4), (700, 1.0), (700, 60.0)] {
            let map = random_map(n, spread, n as u64);
            let (want, z) = plain_repulsion(&map);
            let scale = want.iter().flatten().fold(1e-9_f64, |a, f| a.max(f.abs()));
            for (theta, allowed) in [(0.0, 1e-5), (0.05, 1e-4), (0.5, 3e-2)] {
                let mut repulsion = Repulsion::new(n, theta);
                let got = repulsion.compute(&map);
                assert!(
                    (got - z).abs() <= allowed * z.max(1e-3),
                    "{n} {spread} {theta}: {got} {z}"
                );
                for (a, b) in repulsion.forces.iter().zip(&want) {
                    for axis in 0..2 {
                        assert!(
                            (f64::from(a[axis]) - b[axis]).abs() <= allowed * scale,
                            "{n} {spread} {theta}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_collapsed_map_is_blown_up_and_a_healthy_one_is_left_alone() {
        let mut map = random_map(200, 1e-9, 3);
        // The second axis follows the first but for a tenth.
        map.iter_mut().for_each(|p| p[1] = 2.0 * p[0] + 0.1 * p[1]);
        let mut speed = map.clone();
        keep_from_collapsing(&mut map, &mut speed);
        let mean =
            |f: &dyn Fn(&[f32; 2]) -> f32| map.iter().map(|p| f64::from(f(p))).sum::<f64>() / 200.0;
        assert!((mean(&|p| p[0] * p[0]).sqrt() / START - 1.0).abs() < 1e-3);
        assert!((mean(&|p| p[1] * p[1]).sqrt() / START - 1.0).abs() < 1e-3);
        assert!(mean(&|p| p[0] * p[1]).abs() < 1e-3 * START * START);
        assert!(mean(&|p| p[0]).abs() < 1e-3 * START);

        let mut healthy = random_map(200, 1.0, 3);
        centre(&mut healthy);
        let mut kept = healthy.clone();
        keep_from_collapsing(&mut kept, &mut speed);
        for (a, b) in kept.iter().zip(&healthy) {
            assert!((a[0] - b[0]).abs() < 1e-6 && (a[1] - b[1]).abs() < 1e-6);
        }
    }

    #[test]
    fn attraction_equals_the_definition() {
        let points = blobs(300, 5, 3);
        let a = Affinities::new(points.view(), 40, 10.0);
        let map = random_map(300, 5.0, 1);
        let mut got = vec![[0.0; 2]; 300];
        a.attract(&map, &mut got);
        for i in 0..300 {
            for axis in 0..2 {
                let want: f64 = (a.starts[i]..a.starts[i + 1])
                    .map(|e| (f64::from(a.values[e]), map[a.columns[e] as usize]))
                    .map(|(p, other)| {
                        p * similarity(map[i], other) * f64::from(map[i][axis] - other[axis])
                    })
                    .sum();
                assert!(
                    (f64::from(got[i][axis]) - want).abs() < 1e-8,
                    "{} {want}",
                    got[i][axis]
                );
            }
        }
    }

    #[test]
    fn coinciding_points_do_not_break_the_tree() {
        let mut repulsion = Repulsion::new(500, 0.5);
        let z = repulsion.compute(&vec![[0.3, -2.0]; 500]);
        assert!((z - 500.0 * 499.0).abs() < 1.0);
        assert!(repulsion.forces.iter().flatten().all(|f| *f == 0.0));
    }

    #[test]
    fn affinities_are_symmetric_sum_to_one_and_have_the_perplexity() {
        let points = blobs(120, 6, 3);
        let a = Affinities::new(points.view(), 91, 30.0);
        assert!((a.values.iter().map(|&p| f64::from(p)).sum::<f64>() - 1.0).abs() < 1e-5);
        let get = |i: usize, j: u32| {
            let range = a.starts[i]..a.starts[i + 1];
            a.columns[range.clone()]
                .iter()
                .zip(&a.values[range])
                .find(|(c, _)| **c == j)
                .map(|(_, p)| *p)
        };
        for i in 0..120 {
            for &j in &a.columns[a.starts[i]..a.starts[i + 1]] {
                assert_ne!(j as usize, i);
                assert_eq!(get(i, j), get(j as usize, i as u32));
            }
        }
        let distances: Vec<f64> = (0..90).map(|i| 0.1 + 0.01 * f64::from(i * i)).collect();
        let p = conditional_similarities(&distances, 12.0);
        let entropy: f64 = p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        assert!((entropy - 12.0_f64.ln()).abs() < 1e-4);
    }

    #[test]
    fn separated_groups_stay_separated() {
        // Exact for 200 points, with the tree for 600.
        for n in [200, 600] {
            let points = blobs(n, 20, 5);
            let map = TsneParams::default().fit(points.view()).unwrap();
            assert!(purity(&map.embedding, 5) > 0.99);
            assert!(map.kl > 0.0 && map.kl < 1.5, "{}", map.kl);
        }
    }

    /// The whole method once more, slowly: dense p over all pairs, exact forces, double precision.
    fn slow_kl(points: &Array2<f32>, params: &TsneParams) -> f64 {
        let n = points.nrows();
        let prepared = Prepared::new(points.view());
        let distance = |i: usize, j: usize| -> f64 {
            prepared
                .data
                .row(i)
                .iter()
                .zip(prepared.data.row(j))
                .map(|(a, b)| f64::from(a - b).powi(2))
                .sum()
        };
        let mut p = vec![vec![0.0; n]; n];
        for i in 0..n {
            let (mut low, mut high) = (0.0_f64, 1e6_f64);
            for _ in 0..200 {
                let beta = 0.5 * (low + high);
                let weights: Vec<f64> = (0..n)
                    .map(|j| {
                        if j == i {
                            0.0
                        } else {
                            (-beta * distance(i, j)).exp()
                        }
                    })
                    .collect();
                let sum: f64 = weights.iter().sum::<f64>().max(1e-300);
                p[i] = weights.iter().map(|w| w / sum).collect();
                let entropy: f64 = p[i].iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
                if entropy > params.perplexity.ln() {
                    low = beta
                } else {
                    high = beta
                }
            }
        }
        let joint: Vec<Vec<f64>> = (0..n)
            .map(|i| {
                (0..n)
                    .map(|j| (p[i][j] + p[j][i]) / (2.0 * n as f64))
                    .collect()
            })
            .collect();
        let mut y: Vec<[f64; 2]> = start(&prepared, params)
            .iter()
            .map(|p| p.map(f64::from))
            .collect();
        let mut speed = vec![[0.0; 2]; n];
        let mut gains = vec![[1.0; 2]; n];
        let rate = params.learning_rate.unwrap();
        let ratio = params.early_exaggeration.powf(-1.0 / 300.0);
        let q = |y: &[[f64; 2]], i: usize, j: usize| {
            1.0 / (1.0 + (y[i][0] - y[j][0]).powi(2) + (y[i][1] - y[j][1]).powi(2))
        };
        let normaliser = |y: &[[f64; 2]]| -> f64 {
            (0..n)
                .map(|i| (0..n).filter(|&j| j != i).map(|j| q(y, i, j)).sum::<f64>())
                .sum()
        };
        for iteration in 0..params.iterations {
            // 100 iterations held, then 300 of an equal ratio each.
            let factor = match iteration {
                0..100 => params.early_exaggeration,
                100..400 => params.early_exaggeration * ratio.powi(iteration as i32 - 100),
                _ => 1.0,
            };
            let momentum = if iteration < 100 { 0.5 } else { 0.8 };
            let z = normaliser(&y);
            let before = y.clone();
            for i in 0..n {
                for axis in 0..2 {
                    let gradient: f64 = (0..n)
                        .filter(|&j| j != i)
                        .map(|j| {
                            let w = q(&before, i, j);
                            4.0 * (factor * joint[i][j] - w / z)
                                * w
                                * (before[i][axis] - before[j][axis])
                        })
                        .sum();
                    let gain: &mut f64 = &mut gains[i][axis];
                    *gain = if gradient * speed[i][axis] < 0.0 {
                        *gain + 0.2
                    } else {
                        (*gain * 0.8_f64).max(0.01)
                    };
                    speed[i][axis] = momentum * speed[i][axis] - rate * *gain * gradient;
                    y[i][axis] += speed[i][axis];
                }
            }
        }
        let z = normaliser(&y);
        let mut kl = 0.0;
        for (i, row) in joint.iter().enumerate() {
            for (j, &p) in row.iter().enumerate().filter(|&(j, &p)| j != i && p > 0.0) {
                kl += p * (p / (q(&y, i, j) / z)).ln();
            }
        }
        kl
    }

    #[test]
    fn divergence_equals_the_slow_method() {
        // A sheet bent into four dimensions, a short step and little exaggeration: the start decides
        // where the points end, not rounding.
        let points = Array2::from_shape_fn((60, 4), |(i, j)| {
            let (u, v) = ((i % 10) as f32, (i / 10) as f32);
            [u, 1.3 * v, 0.1 * u * u, 0.05 * u * v][j]
        });
        for early_exaggeration in [1.0, 2.0] {
            let params = TsneParams {
                iterations: 500,
                perplexity: 10.0,
                learning_rate: Some(5.0),
                early_exaggeration,
                ..TsneParams::default()
            };
            let slow = slow_kl(&points, &params);
            let fast = params.fit(points.view()).unwrap();
            assert!((fast.kl - slow).abs() < 0.01 * slow, "{} {slow}", fast.kl);
        }
    }

    #[test]
    fn the_factor_stands_then_falls_by_equal_ratios() {
        let params = TsneParams {
            early_exaggeration: 16.0,
            exaggeration_iter: 3,
            release_iter: 4,
            ..TsneParams::default()
        };
        let factors: Vec<f64> = (0..9).map(|i| params.exaggeration(i)).collect();
        let want = [16.0, 16.0, 16.0, 16.0, 8.0, 4.0, 2.0, 1.0, 1.0];
        assert!(factors.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12));
        let at_once = TsneParams {
            release_iter: 0,
            ..params.clone()
        };
        assert_eq!([2, 3].map(|i| at_once.exaggeration(i)), [16.0, 1.0]);
        // The automatic step follows the factor down to 50; a given one stays.
        assert_eq!([16.0, 1.0].map(|f| params.rate(6400, f)), [100.0, 1600.0]);
        assert_eq!(params.rate(100, 1.0), 50.0);
        let given = TsneParams {
            learning_rate: Some(7.0),
            ..params
        };
        assert_eq!(given.rate(6400, 16.0), 7.0);
    }

    #[test]
    fn the_slow_release_ends_lower_than_a_sudden_one() {
        // Groups as near to each other as to their own members: the map has many local minima.
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let centres = Array2::from_shape_fn((25, 30), |_| rng.random::<f32>() - 0.5);
        for seed in 0..3 {
            let points = Array2::from_shape_fn((500, 30), |(i, j)| {
                centres[[i % 25, j]] + rng.random::<f32>() - 0.5
            });
            let slow = TsneParams {
                init: TsneInit::Random,
                seed,
                ..TsneParams::default()
            };
            let sudden = TsneParams {
                exaggeration_iter: 250,
                release_iter: 0,
                ..slow.clone()
            };
            let (slow, sudden) = (slow.fit(points.view()), sudden.fit(points.view()));
            let (slow, sudden) = (slow.unwrap().kl, sudden.unwrap().kl);
            assert!(slow < sudden, "{slow} {sudden}");
        }
    }

    #[test]
    fn the_tree_costs_little_quality() {
        let points = blobs(400, 10, 4);
        let params = TsneParams {
            iterations: 500,
            ..TsneParams::default()
        };
        let exact = TsneParams {
            theta: 0.0,
            ..params.clone()
        }
        .fit(points.view())
        .unwrap();
        let tree = params.fit(points.view()).unwrap();
        assert!(
            (exact.kl - tree.kl).abs() < 0.1 * exact.kl,
            "{} {}",
            exact.kl,
            tree.kl
        );
    }

    #[test]
    fn row_order_and_threads_do_not_matter() {
        for n in [90, 400] {
            let points = blobs(n, 7, 3);
            let params = TsneParams {
                iterations: 120,
                ..TsneParams::for_points(n)
            };
            let map = params.clone().fit(points.view()).unwrap();
            let reversed = params.clone().fit(points.slice(s![..;-1, ..])).unwrap();
            assert_eq!(map.embedding, reversed.embedding.slice(s![..;-1, ..]));
            for threads in [1, 2, 3] {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                assert_eq!(
                    pool.install(|| params.clone().fit(points.view())).unwrap(),
                    map
                );
            }
        }
    }

    #[test]
    fn degenerate_points_give_finite_maps() {
        let two = Array2::<f32>::from_shape_fn((2, 1), |(i, _)| i as f32);
        let equal = Array2::<f32>::from_elem((50, 3), 1.0);
        let mut outlier = Array2::<f32>::zeros((50, 3));
        outlier[[7, 1]] = 1e30;
        for points in [two, equal, outlier] {
            let params = TsneParams::for_points(points.nrows());
            for init in [TsneInit::Pca, TsneInit::Random] {
                let map = TsneParams {
                    init,
                    iterations: 300,
                    ..params.clone()
                }
                .fit(points.view())
                .unwrap();
                assert!(map.embedding.iter().all(|x| x.is_finite()) && map.kl.is_finite());
            }
        }
    }

    #[test]
    fn bad_parameters_are_named() {
        let good = TsneParams::default;
        for (params, name) in [
            (
                TsneParams {
                    perplexity: 0.5,
                    ..good()
                },
                "perplexity",
            ),
            (
                TsneParams {
                    perplexity: f64::NAN,
                    ..good()
                },
                "perplexity",
            ),
            (
                TsneParams {
                    learning_rate: Some(0.0),
                    ..good()
                },
                "learning_rate",
            ),
            (
                TsneParams {
                    early_exaggeration: 0.9,
                    ..good()
                },
                "early_exaggeration",
            ),
            (
                TsneParams {
                    theta: 0.8,
                    ..good()
                },
                "theta",
            ),
            (
                TsneParams {
                    min_gradient: -1.0,
                    ..good()
                },
                "min_gradient",
            ),
        ] {
            match params.check() {
                Err(ClusteringError::InvalidParameter { parameter, .. }) => {
                    assert_eq!(parameter, name)
                }
                other => panic!("accepted: {other:?}"),
            }
        }
        let points = blobs(20, 3, 2);
        assert!(good().fit(points.view()).is_err());
        assert!(matches!(
            TsneParams::for_points(1).fit(points.slice(s![..1, ..])),
            Err(ClusteringError::TooFewRows { .. })
        ));
    }

    proptest! {
        #[test]
        fn neighbours_equal_a_full_sort(values in proptest::collection::vec(-9_i8..10, 60), count in 1_usize..19) {
            let points = Array2::from_shape_fn((20, 3), |(i, j)| f32::from(values[3 * i + j]));
            for (i, row) in nearest_neighbours(points.view(), count).iter().enumerate() {
                let mut all: Vec<(f32, u32)> = (0..20_u32)
                    .filter(|&j| j as usize != i)
                    .map(|j| {
                        let pairs = points.row(i).into_iter().zip(points.row(j as usize));
                        (pairs.map(|(a, b)| (a - b) * (a - b)).sum(), j)
                    })
                    .collect();
                all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                // Small whole numbers: products are exact.
                prop_assert_eq!(row, &all[..count]);
            }
        }
    }
}
