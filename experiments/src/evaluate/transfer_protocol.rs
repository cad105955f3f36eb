//! SentEval's protocol for transfer tasks: a linear classifier on frozen features, its L2 penalty
//! chosen by cross-validation.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::{
    Fit, LabelledRows, LogisticRegression, LogisticRegressionConfig, MetricsError, f1_score,
    label_accuracy, percent_rounded, stratified_folds,
};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// How classifiers are trained and chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct TransferSettings {
    /// Training; its `l2` is replaced by each value of the grid.
    pub classifier: LogisticRegressionConfig,
    /// Parts of every cross-validation.
    pub folds: usize,
    /// Penalties to choose from; the first of equally good ones wins.
    pub l2_grid: Vec<f64>,
    /// Share of the training rows that stops the final training early, where the task has no
    /// development rows of its own.
    pub holdout: f64,
}

impl TransferSettings {
    /// For figures to report: 10 folds, [`LogisticRegressionConfig::thorough`].
    pub fn thorough() -> Self {
        Self {
            classifier: LogisticRegressionConfig::thorough(),
            folds: 10,
            l2_grid: vec![1e-5, 1e-4, 1e-3, 1e-2],
            holdout: 0.05,
        }
    }

    /// For a quick look: 5 folds, [`LogisticRegressionConfig::fast`].
    pub fn fast() -> Self {
        Self {
            classifier: LogisticRegressionConfig::fast(),
            folds: 5,
            ..Self::thorough()
        }
    }
}

/// How the rows of a task are divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Division {
    /// No division given: nested cross-validation (MR, CR, SUBJ, MPQA).
    Nested,
    /// Training and test rows given: the penalty by cross-validation on the training rows (TREC,
    /// MRPC).
    TrainTest {
        /// Training rows.
        train: Range<usize>,
        /// Test rows.
        test: Range<usize>,
    },
    /// All three given: the penalty by the development rows (SST2).
    TrainDevTest {
        /// Training rows.
        train: Range<usize>,
        /// Development rows.
        dev: Range<usize>,
        /// Test rows.
        test: Range<usize>,
    },
}

/// Scores of one task, as fractions that are whole hundredths of a percent.
///
/// Rounding follows SentEval: the mean accuracy of each penalty and the test accuracy of each fold
/// are rounded to two decimals of a percent before they are compared or averaged, and so are the
/// means.
#[derive(Clone, Debug, PartialEq)]
pub struct TransferScore {
    /// Accuracy of the chosen penalty in its selection; for nested folds the mean over the outer
    /// ones. SentEval calls it devacc.
    pub dev_accuracy: f64,
    /// Scores on test rows; `None` if they were not asked for.
    pub test: Option<TestScore>,
    /// The penalty chosen, one for each outer fold.
    pub l2: Vec<f64>,
}

/// Scores on test rows.
#[derive(Clone, Debug, PartialEq)]
pub struct TestScore {
    /// Accuracy; for nested folds the mean over the outer ones.
    pub accuracy: f64,
    /// F1 of class 1, for two classes with given test rows; `None` where it is not defined.
    pub f1: Option<f64>,
    /// Accuracy of each outer fold; one for given test rows.
    pub folds: Vec<f64>,
}

/// Scores features on a task.
///
/// All trainings of a task run side by side in rayon's current pool; each uses one thread and the
/// seed of the settings, so the result does not depend on the number of threads. With `test` false
/// only the selection is done. `progress` is told trainings done and trainings in all; it is called
/// from several threads.
///
/// # Errors
/// [`MetricsError::Parameter`] for an empty grid or a holdout outside 0..1;
/// [`MetricsError::OutOfRange`] for a division past the rows; [`MetricsError::Empty`] for an empty
/// part; what [`stratified_folds`] and [`LogisticRegression::fit`] report.
///
/// Source: SentEval (Conneau and Kiela 2018, arXiv 1803.05449), released code. Folds, shuffles and
/// first weights come from ChaCha8 streams of the same seed 1111, not from NumPy's and PyTorch's
/// generators: figures agree within the noise of the folds.
pub fn score_features(
    data: &LabelledRows<'_>,
    division: &Division,
    settings: &TransferSettings,
    test: bool,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<TransferScore, MetricsError> {
    let operation = "score_features";
    if settings.l2_grid.is_empty() {
        return Err(MetricsError::Empty {
            operation,
            argument: "l2_grid",
        });
    }
    if !(settings.holdout > 0.0 && settings.holdout < 1.0) {
        return Err(MetricsError::Parameter {
            operation,
            parameter: "holdout",
            expected: "a number between 0 and 1",
            found: settings.holdout.to_string(),
        });
    }
    let part = |range: &Range<usize>| -> Result<Vec<usize>, MetricsError> {
        if range.end > data.rows() {
            return Err(MetricsError::OutOfRange {
                operation,
                argument: "division",
                index: 0,
                found: range.end as u64,
                limit: data.rows() as u64 + 1,
            });
        }
        Ok(range.clone().collect())
    };
    let problems = match division {
        Division::Nested => {
            let all: Vec<usize> = (0..data.rows()).collect();
            cross_validation(data, &all, settings)?
                .into_iter()
                .map(|(train, test)| Problem::with_folds(data, train, test, settings))
                .collect::<Result<_, _>>()?
        }
        Division::TrainTest { train, test } => {
            vec![Problem::with_folds(
                data,
                part(train)?,
                part(test)?,
                settings,
            )?]
        }
        Division::TrainDevTest { train, dev, test } => {
            let (train, dev) = (part(train)?, part(dev)?);
            vec![Problem {
                selection: vec![(train.clone(), dev.clone())],
                refit: (train, dev),
                test: part(test)?,
            }]
        }
    };
    let grid = &settings.l2_grid;
    let trainings: Vec<(usize, usize, usize)> = problems
        .iter()
        .enumerate()
        .flat_map(|(problem, parts)| {
            let folds = parts.selection.len();
            (0..grid.len()).flat_map(move |l2| (0..folds).map(move |fold| (problem, l2, fold)))
        })
        .collect();
    let refits = if test { problems.len() } else { 0 };
    let in_all = trainings.len() + refits;
    let done = AtomicUsize::new(0);
    let fit = |l2: f64, (train, dev): &Fold| -> Result<Fit, MetricsError> {
        let config = LogisticRegressionConfig {
            l2,
            ..settings.classifier
        };
        let fit = LogisticRegression::fit(&config, data, train, dev);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, in_all);
        fit
    };
    let accuracies: Vec<f64> = trainings
        .par_iter()
        .map(|&(problem, l2, fold)| {
            fit(grid[l2], &problems[problem].selection[fold]).map(|fit| fit.dev_accuracy)
        })
        .collect::<Result<_, _>>()?;
    let mut rest = accuracies.as_slice();
    let chosen: Vec<(f64, f64)> = problems
        .iter()
        .map(|problem| {
            let (own, after) = rest.split_at(grid.len() * problem.selection.len());
            rest = after;
            best_penalty(grid, own, problem.selection.len())
        })
        .collect();
    let test = if test {
        let predictions: Vec<Vec<u32>> = problems
            .par_iter()
            .zip(&chosen)
            .map(|(problem, &(l2, _))| fit(l2, &problem.refit)?.model.predict(data, &problem.test))
            .collect::<Result<_, _>>()?;
        Some(test_score(data, division, &problems, &predictions)?)
    } else {
        None
    };
    let dev: Vec<f64> = chosen.iter().map(|&(_, accuracy)| accuracy).collect();
    Ok(TransferScore {
        dev_accuracy: rounded_mean(&dev),
        test,
        l2: chosen.iter().map(|&(l2, _)| l2).collect(),
    })
}

/// Rows to train on and rows to score.
type Fold = (Vec<usize>, Vec<usize>);

/// One choice of a penalty and what follows from it.
struct Problem {
    /// Training and development rows of each fold.
    selection: Vec<Fold>,
    /// Training and development rows of the final training.
    refit: Fold,
    /// Rows to score.
    test: Vec<usize>,
}

impl Problem {
    /// Cross-validation on the training rows, a random part of them held out for the final training.
    fn with_folds(
        data: &LabelledRows<'_>,
        train: Vec<usize>,
        test: Vec<usize>,
        settings: &TransferSettings,
    ) -> Result<Self, MetricsError> {
        let selection = cross_validation(data, &train, settings)?;
        let mut order = train;
        let mut rng = ChaCha8Rng::seed_from_u64(settings.classifier.seed);
        order.shuffle(&mut rng);
        // At least one, so that tiny sets work.
        let held_out = ((settings.holdout * order.len() as f64) as usize).max(1);
        let rest = order.split_off(held_out.min(order.len()));
        Ok(Self {
            selection,
            refit: (rest, order),
            test,
        })
    }
}

/// Training and development rows of each stratified fold of `rows`.
fn cross_validation(
    data: &LabelledRows<'_>,
    rows: &[usize],
    settings: &TransferSettings,
) -> Result<Vec<Fold>, MetricsError> {
    let labels: Vec<u32> = rows.iter().map(|&row| data.labels()[row]).collect();
    let folds = stratified_folds(&labels, settings.folds, settings.classifier.seed)?;
    Ok(folds
        .into_iter()
        .map(|fold| {
            let mut inside = vec![false; rows.len()];
            for &place in &fold {
                inside[place] = true;
            }
            let side = |wanted: bool| {
                rows.iter()
                    .zip(&inside)
                    .filter(|(_, inside)| **inside == wanted)
                    .map(|(row, _)| *row)
                    .collect()
            };
            (side(false), side(true))
        })
        .collect())
}

/// The penalty with the best rounded mean accuracy, the first of equals, and that accuracy.
fn best_penalty(grid: &[f64], accuracies: &[f64], folds: usize) -> (f64, f64) {
    let mut best = (f64::NAN, f64::NEG_INFINITY);
    for (&l2, of_folds) in grid.iter().zip(accuracies.chunks_exact(folds)) {
        let mean = rounded_mean(of_folds);
        if mean > best.1 {
            best = (l2, mean);
        }
    }
    best
}

fn test_score(
    data: &LabelledRows<'_>,
    division: &Division,
    problems: &[Problem],
    predictions: &[Vec<u32>],
) -> Result<TestScore, MetricsError> {
    let mut folds = Vec::with_capacity(problems.len());
    let mut f1 = None;
    for (problem, predicted) in problems.iter().zip(predictions) {
        let gold: Vec<u32> = problem.test.iter().map(|&row| data.labels()[row]).collect();
        folds.push(rounded(label_accuracy(predicted, &gold)?));
        if *division != Division::Nested && data.classes() == 2 {
            f1 = Some(rounded(f1_score(predicted, &gold, &1)?)).filter(|f1| f1.is_finite());
        }
    }
    Ok(TestScore {
        accuracy: rounded_mean(&folds),
        f1,
        folds,
    })
}

fn rounded(fraction: f64) -> f64 {
    percent_rounded(fraction) / 100.0
}

fn rounded_mean(values: &[f64]) -> f64 {
    rounded(values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use rand::RngExt;

    use super::*;

    /// Points around one corner for each class; `spread` 1 overlaps, 0.5 does not.
    fn clouds(rows: usize, classes: usize, spread: f32, seed: u64) -> (Vec<f32>, Vec<u32>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let labels: Vec<u32> = (0..rows).map(|row| (row % classes) as u32).collect();
        let features = labels
            .iter()
            .flat_map(|&label| (0..classes).map(move |at| (at, label)))
            .map(|(at, label)| f32::from(at == label as usize) + rng.random_range(-spread..=spread))
            .collect();
        (features, labels)
    }

    fn quick() -> TransferSettings {
        let mut settings = TransferSettings::fast();
        settings.folds = 3;
        settings.classifier.batch_size = 16;
        settings
    }

    const SILENT: &(dyn Fn(usize, usize) + Sync) = &|_, _| {};

    #[test]
    fn separable_classes_are_found_under_every_division() {
        let (features, labels) = clouds(120, 3, 0.3, 1);
        let data = LabelledRows::new(&features, 3, &labels, 3).unwrap();
        for division in [
            Division::Nested,
            Division::TrainTest {
                train: 0..80,
                test: 80..120,
            },
            Division::TrainDevTest {
                train: 0..60,
                dev: 60..80,
                test: 80..120,
            },
        ] {
            let score = score_features(&data, &division, &quick(), true, SILENT).unwrap();
            assert_eq!(score.dev_accuracy, 1.0, "{division:?}");
            let test = score.test.unwrap();
            assert_eq!(test.accuracy, 1.0, "{division:?}");
            assert_eq!(test.f1, None);
            // All penalties are equally good: the first wins.
            assert!(score.l2.iter().all(|l2| *l2 == 1e-5));
        }
    }

    #[test]
    fn noise_is_scored_at_chance_and_rows_of_the_test_never_train() {
        // Random labels: any leak of test rows into training would show as a score far above 1/2.
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let features: Vec<f32> = (0..160 * 40).map(|_| rng.random_range(-1.0..1.0)).collect();
        let mut labels: Vec<u32> = (0..160).map(|row| row % 2).collect();
        labels.shuffle(&mut rng);
        let data = LabelledRows::new(&features, 40, &labels, 2).unwrap();
        let score = score_features(&data, &Division::Nested, &quick(), true, SILENT).unwrap();
        let test = score.test.unwrap();
        assert!((0.3..0.65).contains(&test.accuracy), "{test:?}");
        assert_eq!(test.folds.len(), 3);
    }

    #[test]
    fn two_given_classes_have_an_f1() {
        let (features, labels) = clouds(90, 2, 0.9, 5);
        let data = LabelledRows::new(&features, 2, &labels, 2).unwrap();
        let division = Division::TrainTest {
            train: 0..60,
            test: 60..90,
        };
        let test = score_features(&data, &division, &quick(), true, SILENT)
            .unwrap()
            .test
            .unwrap();
        let f1 = test.f1.unwrap();
        assert!(f1 > 0.5 && f1 < 1.0 && f1 != test.accuracy, "{test:?}");
        // Whole hundredths of a percent.
        for value in [f1, test.accuracy] {
            assert!((value * 1e4 - (value * 1e4).round()).abs() < 1e-9);
        }
    }

    #[test]
    fn threads_do_not_change_the_result() {
        let (features, labels) = clouds(90, 3, 1.5, 9);
        let data = LabelledRows::new(&features, 3, &labels, 3).unwrap();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                score_features(&data, &Division::Nested, &quick(), true, SILENT).unwrap()
            })
        };
        assert_eq!(with(1), with(3));
    }

    #[test]
    fn progress_counts_every_training() {
        let (features, labels) = clouds(60, 2, 0.5, 2);
        let data = LabelledRows::new(&features, 2, &labels, 2).unwrap();
        let most = AtomicUsize::new(0);
        let count = |test| {
            most.store(0, Ordering::Relaxed);
            let progress = |done, all| {
                most.fetch_max(done, Ordering::Relaxed);
                assert!(done <= all);
            };
            score_features(&data, &Division::Nested, &quick(), test, &progress).unwrap();
            most.load(Ordering::Relaxed)
        };
        // 3 outer folds x 4 penalties x 3 inner folds, then 3 final trainings.
        assert_eq!(count(false), 36);
        assert_eq!(count(true), 39);
    }

    #[test]
    fn bad_settings_are_errors() {
        let (features, labels) = clouds(20, 2, 0.5, 2);
        let data = LabelledRows::new(&features, 2, &labels, 2).unwrap();
        let mut empty = quick();
        empty.l2_grid.clear();
        let mut all_held_out = quick();
        all_held_out.holdout = 1.0;
        let mut many = quick();
        many.folds = 11;
        for settings in [empty, all_held_out, many] {
            assert!(score_features(&data, &Division::Nested, &settings, true, SILENT).is_err());
        }
        for (train, test) in [(0..10, 10..21), (0..10, 10..10), (0..0, 0..10)] {
            let division = Division::TrainTest { train, test };
            assert!(score_features(&data, &division, &quick(), true, SILENT).is_err());
        }
    }
}
