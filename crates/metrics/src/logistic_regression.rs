//! Softmax regression as SentEval trains it on frozen embeddings.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::MetricsError;
use crate::rows::{check_rows, dot_f32};

/// How [`LogisticRegression::fit`] trains.
///
/// One round is `epoch_size` passes over the shuffled training rows, then the accuracy on the
/// development rows. The weights of the best round so far are kept (strictly better only). Training
/// stops once more than `tenacity` rounds did not improve, or before a round that would start after
/// more than `max_epochs` passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogisticRegressionConfig {
    /// Update rule.
    pub optimizer: Optimizer,
    /// Learning rate.
    pub learning_rate: f64,
    /// Coefficient of the coupled L2 penalty: `l2 * w` is added to the gradient of every weight,
    /// biases included.
    pub l2: f64,
    /// Rows of a step; the last of a pass may have fewer.
    pub batch_size: usize,
    /// Rounds without improvement that are tolerated.
    pub tenacity: usize,
    /// Passes of one round.
    pub epoch_size: usize,
    /// A round starts only if at most this many passes are done. With rounds of 4 passes and 200,
    /// as in SentEval, the last round ends after 204.
    pub max_epochs: usize,
    /// Whether an improvement resets the count of rounds without one. SentEval never resets it.
    pub reset_patience: bool,
    /// Seed of the first weights and of every shuffle.
    pub seed: u64,
}

impl LogisticRegressionConfig {
    /// SentEval's setting for figures to report: Adam at 1e-3, batches of 64, tenacity 5, rounds of
    /// 4 passes, seed 1111; `l2 = 1e-5`, the first of its grid.
    pub fn thorough() -> Self {
        Self {
            optimizer: Optimizer::Adam,
            learning_rate: 1e-3,
            l2: 1e-5,
            batch_size: 64,
            tenacity: 5,
            epoch_size: 4,
            max_epochs: 200,
            reset_patience: false,
            seed: 1111,
        }
    }

    /// SentEval's prototyping setting: RMSprop at 1e-2, batches of 128, tenacity 3, rounds of 2
    /// passes; otherwise as [`Self::thorough`].
    pub fn fast() -> Self {
        Self {
            optimizer: Optimizer::RmsProp,
            learning_rate: 1e-2,
            batch_size: 128,
            tenacity: 3,
            epoch_size: 2,
            ..Self::thorough()
        }
    }

    fn check(&self) -> Result<(), MetricsError> {
        let refuse = |parameter, expected, found: String| {
            Err(MetricsError::Parameter {
                operation: FIT,
                parameter,
                expected,
                found,
            })
        };
        for (parameter, value) in [
            ("batch_size", self.batch_size),
            ("epoch_size", self.epoch_size),
        ] {
            if value == 0 {
                return refuse(parameter, "at least 1", value.to_string());
            }
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return refuse(
                "learning_rate",
                "a finite number above 0",
                self.learning_rate.to_string(),
            );
        }
        if !(self.l2 >= 0.0 && self.l2.is_finite()) {
            return refuse("l2", "a finite number from 0", self.l2.to_string());
        }
        Ok(())
    }
}

/// Update rules, as PyTorch defines them. `g` is the mean gradient of a batch with `l2 * w` added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Optimizer {
    /// `m = 0.9 m + 0.1 g`, `v = 0.999 v + 0.001 g^2`,
    /// `w -= lr / (1 - 0.9^t) * m / (sqrt(v) / sqrt(1 - 0.999^t) + 1e-8)`.
    Adam,
    /// `v = 0.99 v + 0.01 g^2`, `w -= lr * g / (sqrt(v) + 1e-8)`.
    RmsProp,
}

/// Features with a label each, checked once and then shared by any number of trainings.
#[derive(Debug, Clone, Copy)]
pub struct LabelledRows<'a> {
    features: &'a [f32],
    dim: usize,
    labels: &'a [u32],
    classes: usize,
}

impl<'a> LabelledRows<'a> {
    /// Takes row-major `features`, `[rows, dim]`, and `labels`, `[rows]`, each below `classes`.
    ///
    /// # Errors
    /// [`MetricsError::Empty`], [`MetricsError::Shape`], [`MetricsError::NonFinite`],
    /// [`MetricsError::LengthMismatch`]; [`MetricsError::Parameter`] for fewer than two classes or
    /// `dim = 0`; [`MetricsError::OutOfRange`] for a label.
    pub fn new(
        features: &'a [f32],
        dim: usize,
        labels: &'a [u32],
        classes: usize,
    ) -> Result<Self, MetricsError> {
        let operation = "LabelledRows::new";
        let rows = check_rows(operation, "features", features, dim)?;
        if rows != labels.len() {
            return Err(MetricsError::LengthMismatch {
                operation,
                left: "features",
                left_len: rows,
                right: "labels",
                right_len: labels.len(),
            });
        }
        if classes < 2 {
            return Err(MetricsError::Parameter {
                operation,
                parameter: "classes",
                expected: "at least 2",
                found: classes.to_string(),
            });
        }
        if let Some(index) = labels.iter().position(|&label| label as usize >= classes) {
            return Err(MetricsError::OutOfRange {
                operation,
                argument: "labels",
                index,
                found: u64::from(labels[index]),
                limit: classes as u64,
            });
        }
        Ok(Self {
            features,
            dim,
            labels,
            classes,
        })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// Width of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The label of each row.
    pub fn labels(&self) -> &'a [u32] {
        self.labels
    }

    fn row(&self, index: usize) -> &'a [f32] {
        &self.features[index * self.dim..(index + 1) * self.dim]
    }

    fn check_subset(
        &self,
        operation: &'static str,
        argument: &'static str,
        rows: &[usize],
    ) -> Result<(), MetricsError> {
        if rows.is_empty() {
            return Err(MetricsError::Empty {
                operation,
                argument,
            });
        }
        match rows.iter().position(|&row| row >= self.rows()) {
            None => Ok(()),
            Some(index) => Err(MetricsError::OutOfRange {
                operation,
                argument,
                index,
                found: rows[index] as u64,
                limit: self.rows() as u64,
            }),
        }
    }
}

/// One linear layer and a softmax: `p(c | x) = softmax_c(W x + b)`, in `f32`.
#[derive(Debug, Clone, PartialEq)]
pub struct LogisticRegression {
    /// Row-major `[classes, dim]`.
    pub weight: Vec<f32>,
    /// `[classes]`.
    pub bias: Vec<f32>,
}

/// What [`LogisticRegression::fit`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The weights of the best round.
    pub model: LogisticRegression,
    /// Its accuracy on the development rows.
    pub dev_accuracy: f64,
    /// Rounds trained.
    pub rounds: usize,
}

const FIT: &str = "LogisticRegression::fit";

impl LogisticRegression {
    /// First weights as PyTorch draws them for a linear layer: every weight and bias uniform in
    /// `+-1 / sqrt(dim)`. Drawn with ChaCha8: the same distribution, other numbers than PyTorch's.
    pub fn random(classes: usize, dim: usize, rng: &mut ChaCha8Rng) -> Self {
        let bound = 1.0 / (dim.max(1) as f32).sqrt();
        let mut draw = |count: usize| -> Vec<f32> {
            (0..count)
                .map(|_| rng.random_range(-bound..=bound))
                .collect()
        };
        Self {
            weight: draw(classes * dim),
            bias: draw(classes),
        }
    }

    /// Trains on the rows `train` of `data`, watching the rows `dev`.
    ///
    /// Uses one thread; trainings with different settings or rows can run side by side, and the
    /// same arguments give the same bits.
    ///
    /// # Errors
    /// [`MetricsError::Empty`] or [`MetricsError::OutOfRange`] for either list of rows;
    /// [`MetricsError::Parameter`] for a setting; [`MetricsError::NonFinite`] if features of
    /// extreme size made the weights overflow.
    ///
    /// Source: protocol of SentEval (Conneau and Kiela 2018, arXiv 1803.05449), released code.
    ///
    /// ```
    /// use metrics::{LabelledRows, LogisticRegression, LogisticRegressionConfig};
    /// let features = [-2.0, -1.0, 1.0, 2.0];
    /// let data = LabelledRows::new(&features, 1, &[0, 0, 1, 1], 2)?;
    /// let rows = [0, 1, 2, 3];
    /// let fit = LogisticRegression::fit(&LogisticRegressionConfig::fast(), &data, &rows, &rows)?;
    /// assert_eq!(fit.dev_accuracy, 1.0);
    /// # Ok::<(), metrics::MetricsError>(())
    /// ```
    pub fn fit(
        config: &LogisticRegressionConfig,
        data: &LabelledRows<'_>,
        train: &[usize],
        dev: &[usize],
    ) -> Result<Fit, MetricsError> {
        config.check()?;
        data.check_subset(FIT, "train", train)?;
        data.check_subset(FIT, "dev", dev)?;
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        let model = Self::random(data.classes, data.dim, &mut rng);
        let mut best = (f64::NAN, model.clone());
        let mut trainer = Trainer::new(model, config.optimizer, config.learning_rate, config.l2);
        let mut order = train.to_vec();
        let (mut epochs, mut rounds) = (0, 0);
        let mut patience = Patience::new(config);
        while epochs <= config.max_epochs && !patience.is_exhausted() {
            for _ in 0..config.epoch_size {
                order.shuffle(&mut rng);
                for batch in order.chunks(config.batch_size) {
                    trainer.advance(data, batch);
                }
            }
            epochs += config.epoch_size;
            rounds += 1;
            trainer.model.check_finite()?;
            let accuracy = trainer.model.share_correct(data, dev);
            if patience.is_improvement(accuracy) {
                best = (accuracy, trainer.model.clone());
            }
        }
        let (dev_accuracy, model) = best;
        Ok(Fit {
            model,
            dev_accuracy,
            rounds,
        })
    }

    /// Most probable class of each of the rows; the first of equals.
    ///
    /// # Errors
    /// [`MetricsError::OutOfRange`] for a row; [`MetricsError::Empty`] for none;
    /// [`MetricsError::Shape`] if the model was made for another width or number of classes.
    pub fn predict(
        &self,
        data: &LabelledRows<'_>,
        rows: &[usize],
    ) -> Result<Vec<u32>, MetricsError> {
        let operation = "LogisticRegression::predict";
        data.check_subset(operation, "rows", rows)?;
        self.check_shape(operation, data)?;
        let mut logits = vec![0.0; data.classes];
        Ok(rows
            .iter()
            .map(|&row| {
                self.logits(data.row(row), &mut logits);
                best_class(&logits)
            })
            .collect())
    }

    /// Share of the rows whose most probable class is their label.
    ///
    /// # Errors
    /// As for [`Self::predict`].
    pub fn accuracy(&self, data: &LabelledRows<'_>, rows: &[usize]) -> Result<f64, MetricsError> {
        let operation = "LogisticRegression::accuracy";
        data.check_subset(operation, "rows", rows)?;
        self.check_shape(operation, data)?;
        Ok(self.share_correct(data, rows))
    }

    /// Mean cross entropy over the rows, without the penalty:
    /// `-mean_i log softmax(W x_i + b)[label_i]`, in nats.
    ///
    /// # Errors
    /// As for [`Self::predict`].
    pub fn loss(&self, data: &LabelledRows<'_>, rows: &[usize]) -> Result<f64, MetricsError> {
        let operation = "LogisticRegression::loss";
        data.check_subset(operation, "rows", rows)?;
        self.check_shape(operation, data)?;
        let mut logits = vec![0.0; data.classes];
        let sum: f64 = rows
            .iter()
            .map(|&row| {
                self.logits(data.row(row), &mut logits);
                softmax(&mut logits);
                -f64::from(logits[data.labels[row] as usize]).ln()
            })
            .sum();
        Ok(sum / rows.len() as f64)
    }

    fn share_correct(&self, data: &LabelledRows<'_>, rows: &[usize]) -> f64 {
        let mut logits = vec![0.0; data.classes];
        let correct = rows
            .iter()
            .filter(|&&row| {
                self.logits(data.row(row), &mut logits);
                best_class(&logits) == data.labels[row]
            })
            .count();
        correct as f64 / rows.len() as f64
    }

    fn logits(&self, x: &[f32], logits: &mut [f32]) {
        let weights = self.weight.chunks_exact(x.len());
        for ((logit, weight), bias) in logits.iter_mut().zip(weights).zip(&self.bias) {
            *logit = bias + dot_f32(weight, x);
        }
    }

    fn check_shape(
        &self,
        operation: &'static str,
        data: &LabelledRows<'_>,
    ) -> Result<(), MetricsError> {
        for (argument, found, expected) in [
            ("weight", self.weight.len(), data.classes * data.dim),
            ("bias", self.bias.len(), data.classes),
        ] {
            if found != expected {
                return Err(MetricsError::Shape {
                    operation,
                    argument,
                    expected: expected.to_string(),
                    found,
                });
            }
        }
        Ok(())
    }

    fn check_finite(&self) -> Result<(), MetricsError> {
        match self.weight.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(index) => Err(MetricsError::NonFinite {
                operation: FIT,
                argument: "weight",
                index,
                value: f64::from(self.weight[index]),
            }),
        }
    }
}

/// Counts rounds without improvement.
struct Patience {
    best: f64,
    failures: usize,
    tenacity: usize,
    reset: bool,
}

impl Patience {
    fn new(config: &LogisticRegressionConfig) -> Self {
        Self {
            // Below every accuracy, so that the first round improves.
            best: -1.0,
            failures: 0,
            tenacity: config.tenacity,
            reset: config.reset_patience,
        }
    }

    fn is_improvement(&mut self, accuracy: f64) -> bool {
        let improved = accuracy > self.best;
        if !improved {
            self.failures += 1;
        } else {
            self.best = accuracy;
            if self.reset {
                self.failures = 0;
            }
        }
        improved
    }

    fn is_exhausted(&self) -> bool {
        self.failures > self.tenacity
    }
}

/// A model in training, one step at a time: for replaying a given order of batches.
#[derive(Debug, Clone)]
pub struct Trainer {
    /// The weights so far.
    pub model: LogisticRegression,
    optimizer: Optimizer,
    learning_rate: f64,
    l2: f32,
    steps: i32,
    gradient: LogisticRegression,
    mean: LogisticRegression,
    squares: LogisticRegression,
    errors: Vec<f32>,
}

impl Trainer {
    /// Starts from given weights.
    pub fn new(
        model: LogisticRegression,
        optimizer: Optimizer,
        learning_rate: f64,
        l2: f64,
    ) -> Self {
        let zeros = LogisticRegression {
            weight: vec![0.0; model.weight.len()],
            bias: vec![0.0; model.bias.len()],
        };
        Self {
            errors: vec![0.0; model.bias.len()],
            model,
            optimizer,
            learning_rate,
            l2: l2 as f32,
            steps: 0,
            gradient: zeros.clone(),
            mean: zeros.clone(),
            squares: zeros,
        }
    }

    /// One step on the mean cross entropy of a batch of rows.
    ///
    /// # Errors
    /// [`MetricsError::Empty`] or [`MetricsError::OutOfRange`] for the batch;
    /// [`MetricsError::Shape`] if the model was made for another width or number of classes.
    pub fn step(&mut self, data: &LabelledRows<'_>, batch: &[usize]) -> Result<(), MetricsError> {
        let operation = "Trainer::step";
        data.check_subset(operation, "batch", batch)?;
        self.model.check_shape(operation, data)?;
        self.advance(data, batch);
        Ok(())
    }

    /// [`Self::step`] for a batch known to be sound.
    fn advance(&mut self, data: &LabelledRows<'_>, batch: &[usize]) {
        self.gradient.weight.fill(0.0);
        self.gradient.bias.fill(0.0);
        for &row in batch {
            let x = data.row(row);
            self.model.logits(x, &mut self.errors);
            softmax(&mut self.errors);
            self.errors[data.labels[row] as usize] -= 1.0;
            let gradients = self.gradient.weight.chunks_exact_mut(x.len());
            for ((gradient, bias), &error) in
                gradients.zip(&mut self.gradient.bias).zip(&self.errors)
            {
                for (gradient, x) in gradient.iter_mut().zip(x) {
                    *gradient += error * x;
                }
                *bias += error;
            }
        }
        self.steps = self.steps.saturating_add(1);
        let scale = 1.0 / batch.len() as f32;
        let update = Update::new(self.optimizer, self.learning_rate, self.steps);
        for (weights, gradients, means, squares) in [
            (
                &mut self.model.weight,
                &self.gradient.weight,
                &mut self.mean.weight,
                &mut self.squares.weight,
            ),
            (
                &mut self.model.bias,
                &self.gradient.bias,
                &mut self.mean.bias,
                &mut self.squares.bias,
            ),
        ] {
            let moments = means.iter_mut().zip(squares);
            for ((weight, gradient), (mean, square)) in
                weights.iter_mut().zip(gradients).zip(moments)
            {
                let gradient = gradient * scale + self.l2 * *weight;
                *weight -= update.apply(gradient, mean, square);
            }
        }
    }
}

/// The part of an update rule that is the same for all weights of a step.
enum Update {
    Adam { step: f32, root: f32 },
    RmsProp { step: f32 },
}

impl Update {
    fn new(optimizer: Optimizer, learning_rate: f64, steps: i32) -> Self {
        match optimizer {
            Optimizer::Adam => Self::Adam {
                step: (learning_rate / (1.0 - 0.9_f64.powi(steps))) as f32,
                root: (1.0 - 0.999_f64.powi(steps)).sqrt() as f32,
            },
            Optimizer::RmsProp => Self::RmsProp {
                step: learning_rate as f32,
            },
        }
    }

    /// What to take from a weight.
    #[inline]
    fn apply(&self, gradient: f32, mean: &mut f32, square: &mut f32) -> f32 {
        const EPS: f32 = 1e-8;
        match *self {
            Self::Adam { step, root } => {
                *mean += 0.1 * (gradient - *mean);
                *square = 0.999 * *square + 0.001 * gradient * gradient;
                step * *mean / (square.sqrt() / root + EPS)
            }
            Self::RmsProp { step } => {
                *square = 0.99 * *square + 0.01 * gradient * gradient;
                step * gradient / (square.sqrt() + EPS)
            }
        }
    }
}

/// `exp(z_c - max z) / sum_c exp(z_c - max z)`, in place.
fn softmax(logits: &mut [f32]) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for logit in logits.iter_mut() {
        *logit = (*logit - largest).exp();
        sum += *logit;
    }
    for logit in logits {
        *logit /= sum;
    }
}

fn best_class(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (class, &logit) in (0..).zip(logits) {
        if logit > best.1 {
            best = (class, logit);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    /// Rows around one corner for each class.
    fn clouds(
        rows: usize,
        dim: usize,
        classes: usize,
        spread: f32,
        seed: u64,
    ) -> (Vec<f32>, Vec<u32>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let labels: Vec<u32> = (0..rows).map(|row| (row % classes) as u32).collect();
        let features = labels
            .iter()
            .flat_map(|&label| {
                (0..dim)
                    .map(|at| {
                        let centre = if at % classes == label as usize {
                            1.0
                        } else {
                            -1.0
                        };
                        centre + rng.random_range(-spread..=spread)
                    })
                    .collect::<Vec<f32>>()
            })
            .collect();
        (features, labels)
    }

    /// The step as it stands in the formulas, in `f64`, one weight at a time.
    fn plain_step(
        state: &mut [Vec<[f64; 3]>],
        x: &[Vec<f64>],
        labels: &[usize],
        (optimizer, rate, l2, t): (Optimizer, f64, f64, i32),
    ) {
        let dim = x[0].len();
        let mut gradient = vec![vec![0.0; dim + 1]; state.len()];
        for (x, &label) in x.iter().zip(labels) {
            let z: Vec<f64> = state
                .iter()
                .map(|w| (0..dim).map(|j| w[j][0] * x[j]).sum::<f64>() + w[dim][0])
                .collect();
            let sum: f64 = z.iter().map(|z| z.exp()).sum();
            for (c, gradient) in gradient.iter_mut().enumerate() {
                let error = z[c].exp() / sum - f64::from(c == label);
                for j in 0..dim {
                    gradient[j] += error * x[j] / labels.len() as f64;
                }
                gradient[dim] += error / labels.len() as f64;
            }
        }
        for (row, gradient) in state.iter_mut().zip(&gradient) {
            for ([w, m, v], g) in row.iter_mut().zip(gradient) {
                let g = g + l2 * *w;
                match optimizer {
                    Optimizer::Adam => {
                        *m = 0.9 * *m + 0.1 * g;
                        *v = 0.999 * *v + 0.001 * g * g;
                        let root = (*v / (1.0 - 0.999_f64.powi(t))).sqrt();
                        *w -= rate * *m / (1.0 - 0.9_f64.powi(t)) / (root + 1e-8);
                    }
                    Optimizer::RmsProp => {
                        *v = 0.99 * *v + 0.01 * g * g;
                        *w -= rate * g / (v.sqrt() + 1e-8);
                    }
                }
            }
        }
    }

    #[test]
    fn steps_follow_the_formulas() {
        let (features, labels) = clouds(30, 17, 3, 2.0, 5);
        let data = LabelledRows::new(&features, 17, &labels, 3).unwrap();
        for (optimizer, rate) in [(Optimizer::Adam, 1e-2), (Optimizer::RmsProp, 1e-2)] {
            let l2 = 1e-2;
            let model = LogisticRegression::random(3, 17, &mut ChaCha8Rng::seed_from_u64(1));
            let mut state: Vec<Vec<[f64; 3]>> = (0..3)
                .map(|c| {
                    model.weight[c * 17..(c + 1) * 17]
                        .iter()
                        .chain([&model.bias[c]])
                        .map(|&w| [f64::from(w), 0.0, 0.0])
                        .collect()
                })
                .collect();
            let mut trainer = Trainer::new(model, optimizer, rate, l2);
            for t in 1..=20 {
                let batch: Vec<usize> = (0..7).map(|i| (t * 5 + i * 3) % 30).collect();
                trainer.step(&data, &batch).unwrap();
                let x: Vec<Vec<f64>> = batch
                    .iter()
                    .map(|&row| data.row(row).iter().map(|&v| f64::from(v)).collect())
                    .collect();
                let y: Vec<usize> = batch.iter().map(|&row| labels[row] as usize).collect();
                plain_step(&mut state, &x, &y, (optimizer, rate, l2, t as i32));
            }
            for (c, row) in state.iter().enumerate() {
                for (j, [expected, ..]) in row.iter().enumerate() {
                    let found = *trainer.model.weight[c * 17..(c + 1) * 17]
                        .get(j)
                        .unwrap_or(&trainer.model.bias[c]);
                    assert!(
                        (f64::from(found) - expected).abs() < 2e-5,
                        "{optimizer:?} {c} {j}: {found} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn patience_counts_as_in_senteval() {
        // One class in the development rows, always right: the first round is the only improvement.
        let (features, labels) = clouds(40, 4, 2, 0.1, 1);
        let data = LabelledRows::new(&features, 4, &labels, 2).unwrap();
        let all: Vec<usize> = (0..40).collect();
        let mut config = LogisticRegressionConfig {
            learning_rate: 0.1,
            batch_size: 4,
            ..LogisticRegressionConfig::thorough()
        };
        let fit = LogisticRegression::fit(&config, &data, &all, &all).unwrap();
        assert_eq!(fit.dev_accuracy, 1.0);
        // Round 1 improves, rounds 2 to 7 do not: six are more than a tenacity of five.
        assert_eq!(fit.rounds, 7);
        config.tenacity = 0;
        assert_eq!(
            LogisticRegression::fit(&config, &data, &all, &all)
                .unwrap()
                .rounds,
            2
        );
        // At most 200 passes before a round of 4: the last starts at 200.
        config.tenacity = 1000;
        assert_eq!(
            LogisticRegression::fit(&config, &data, &all, &all)
                .unwrap()
                .rounds,
            51
        );
    }

    #[test]
    fn an_improvement_resets_the_patience_only_on_request() {
        let rounds = |reset_patience| {
            let mut patience = Patience::new(&LogisticRegressionConfig {
                reset_patience,
                tenacity: 1,
                ..LogisticRegressionConfig::thorough()
            });
            [0.5, 0.5, 0.6, 0.4, 0.55, 0.7, 0.8]
                .iter()
                .take_while(|accuracy| {
                    patience.is_improvement(**accuracy);
                    !patience.is_exhausted()
                })
                .count()
        };
        // Rounds 2 and 4 fail; an equal accuracy is no improvement.
        assert_eq!(rounds(false), 3);
        // Round 3 forgives round 2, rounds 4 and 5 fail.
        assert_eq!(rounds(true), 4);
    }

    #[test]
    fn hostile_input_is_an_error() {
        assert!(matches!(
            LabelledRows::new(&[1.0, 2.0], 1, &[0], 2),
            Err(MetricsError::LengthMismatch { .. })
        ));
        assert!(matches!(
            LabelledRows::new(&[1.0], 1, &[2], 2),
            Err(MetricsError::OutOfRange { .. })
        ));
        assert!(matches!(
            LabelledRows::new(&[1.0], 1, &[0], 1),
            Err(MetricsError::Parameter { .. })
        ));
        assert!(matches!(
            LabelledRows::new(&[f32::NAN], 1, &[0], 2),
            Err(MetricsError::NonFinite { .. })
        ));
        let features = [1.0, 1e10, -1e10, 2.0];
        let data = LabelledRows::new(&features, 2, &[0, 1], 2).unwrap();
        let config = LogisticRegressionConfig::fast();
        let fit = |config: &LogisticRegressionConfig, train: &[usize], dev: &[usize]| {
            LogisticRegression::fit(config, &data, train, dev)
        };
        assert!(matches!(
            fit(&config, &[], &[0]),
            Err(MetricsError::Empty { .. })
        ));
        assert!(matches!(
            fit(&config, &[0], &[2]),
            Err(MetricsError::OutOfRange { .. })
        ));
        // Weights of 1e30 and features of 1e10 give infinite logits.
        let wild = LogisticRegressionConfig {
            learning_rate: 1e30,
            ..config
        };
        assert!(matches!(
            fit(&wild, &[0, 1], &[0]),
            Err(MetricsError::NonFinite {
                argument: "weight",
                ..
            })
        ));
        for wrong in [
            LogisticRegressionConfig {
                batch_size: 0,
                ..config
            },
            LogisticRegressionConfig {
                epoch_size: 0,
                ..config
            },
            LogisticRegressionConfig {
                learning_rate: f64::NAN,
                ..config
            },
            LogisticRegressionConfig { l2: -1.0, ..config },
        ] {
            assert!(matches!(
                fit(&wrong, &[0], &[0]),
                Err(MetricsError::Parameter { .. })
            ));
        }
        let narrow = LogisticRegression {
            weight: vec![0.0; 2],
            bias: vec![0.0; 2],
        };
        assert!(matches!(
            narrow.predict(&data, &[0]),
            Err(MetricsError::Shape { .. })
        ));
        assert!(matches!(
            narrow.loss(&data, &[0]),
            Err(MetricsError::Shape { .. })
        ));
        let mut trainer = Trainer::new(narrow, Optimizer::Adam, 1e-3, 0.0);
        assert!(matches!(
            trainer.step(&data, &[0]),
            Err(MetricsError::Shape { .. })
        ));
    }

    proptest! {
        #[test]
        fn training_lowers_the_loss(classes in 2_usize..5, dim in 1_usize..20, seed in 0_u64..1000) {
            let (features, labels) = clouds(40, dim.max(classes), classes, 1.0, seed);
            let data = LabelledRows::new(&features, dim.max(classes), &labels, classes).unwrap();
            let all: Vec<usize> = (0..40).collect();
            for config in [LogisticRegressionConfig::thorough(), LogisticRegressionConfig::fast()] {
                let config = LogisticRegressionConfig { seed, ..config };
                let first = LogisticRegression::random(classes, data.dim(), &mut ChaCha8Rng::seed_from_u64(seed));
                let mut trainer = Trainer::new(first.clone(), config.optimizer, config.learning_rate, config.l2);
                for _ in 0..10 {
                    trainer.step(&data, &all).unwrap();
                }
                prop_assert!(trainer.model.loss(&data, &all).unwrap() < first.loss(&data, &all).unwrap());
                let fit = LogisticRegression::fit(&config, &data, &all, &all).unwrap();
                prop_assert_eq!(fit.model.accuracy(&data, &all).unwrap(), fit.dev_accuracy);
                prop_assert_eq!(&fit, &LogisticRegression::fit(&config, &data, &all, &all).unwrap());
            }
        }

        #[test]
        fn classes_can_be_renamed(shift in 1_u32..3, seed in 0_u64..1000) {
            let (features, labels) = clouds(30, 5, 3, 2.0, seed);
            let renamed: Vec<u32> = labels.iter().map(|label| (label + shift) % 3).collect();
            let data = LabelledRows::new(&features, 5, &labels, 3).unwrap();
            let other = LabelledRows::new(&features, 5, &renamed, 3).unwrap();
            let first = LogisticRegression::random(3, 5, &mut ChaCha8Rng::seed_from_u64(seed));
            let turned = |model: &LogisticRegression| {
                let mut turned = model.clone();
                for class in 0..3 {
                    let to = (class + shift as usize) % 3;
                    turned.weight[to * 5..to * 5 + 5].copy_from_slice(&model.weight[class * 5..class * 5 + 5]);
                    turned.bias[to] = model.bias[class];
                }
                turned
            };
            let mut a = Trainer::new(first.clone(), Optimizer::Adam, 1e-2, 1e-3);
            let mut b = Trainer::new(turned(&first), Optimizer::Adam, 1e-2, 1e-3);
            for start in 0..12 {
                let batch: Vec<usize> = (start..start + 10).collect();
                a.step(&data, &batch).unwrap();
                b.step(&other, &batch).unwrap();
            }
            let expected = turned(&a.model);
            for (expected, found) in expected.weight.iter().zip(&b.model.weight) {
                // The sum of the softmax runs in another order.
                prop_assert!((expected - found).abs() < 1e-4, "{} {}", expected, found);
            }
        }
    }
}
