//! Relative fitting difficulty of a training set.

use crate::compensated_sum::compensated_sum;
use crate::error::{MetricsError, check_pair};

/// First step that counts by default: step 0 is the model before training.
pub const RFD_START_STEP: u64 = 125;

/// What one checkpoint looked like on one set of sentences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TracePoint {
    /// Optimiser steps done.
    pub step: u64,
    /// [`crate::alignment`] of the positive pairs.
    pub alignment: f64,
    /// [`crate::uniformity`] of the sentences.
    pub uniformity: f64,
}

/// The result of [`relative_fitting_difficulty`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RelativeFittingDifficulty {
    /// `RFD_a`: mean of training minus evaluation alignment.
    pub alignment: f64,
    /// `RFD_u`: mean of training minus evaluation uniformity.
    pub uniformity: f64,
    /// Number of checkpoints that counted.
    pub steps: usize,
}

/// Relative fitting difficulty (RFD): how much harder the training data is to fit than the
/// evaluation data, over a whole run.
///
/// `RFD_a = mean_{t >= start} (align_train(t) - align_eval(t))`, `RFD_u` likewise with uniformity.
/// Larger means harder to fit.
///
/// `train` and `eval` are `[checkpoints]`, recorded at the same steps in the same order; pass
/// [`RFD_START_STEP`] to leave out the untrained model, 0 to count it. Points before `start_step`
/// are not looked at beyond their step.
///
/// # Errors
/// [`MetricsError::Empty`] for empty traces or if no step reaches `start_step`;
/// [`MetricsError::LengthMismatch`]; [`MetricsError::StepMismatch`];
/// [`MetricsError::NonFinite`] with the index of the checkpoint.
///
/// Source: the NGCSE paper and the script that draws its figure 1.
///
/// ```
/// use metrics::{TracePoint, relative_fitting_difficulty};
///
/// let at = |step, alignment| TracePoint { step, alignment, uniformity: -2.0 };
/// let train = [at(0, 0.9), at(125, 0.5), at(250, 0.3)];
/// let eval = [at(0, 0.1), at(125, 0.25), at(250, 0.25)];
/// let rfd = relative_fitting_difficulty(&train, &eval, 125)?;
/// assert!((rfd.alignment - 0.15).abs() < 1e-12);
/// assert_eq!(rfd.steps, 2);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn relative_fitting_difficulty(
    train: &[TracePoint],
    eval: &[TracePoint],
    start_step: u64,
) -> Result<RelativeFittingDifficulty, MetricsError> {
    let operation = "relative_fitting_difficulty";
    check_pair(operation, ("train", train.len()), ("eval", eval.len()))?;
    let mut differences = Vec::with_capacity(train.len());
    for (index, (train, eval)) in train.iter().zip(eval).enumerate() {
        if train.step != eval.step {
            return Err(MetricsError::StepMismatch {
                operation,
                index,
                train: train.step,
                evaluation: eval.step,
            });
        }
        if train.step < start_step {
            continue;
        }
        for (argument, value) in [
            ("train alignment", train.alignment),
            ("train uniformity", train.uniformity),
            ("eval alignment", eval.alignment),
            ("eval uniformity", eval.uniformity),
        ] {
            if !value.is_finite() {
                return Err(MetricsError::NonFinite {
                    operation,
                    argument,
                    index,
                    value,
                });
            }
        }
        differences.push((
            train.alignment - eval.alignment,
            train.uniformity - eval.uniformity,
        ));
    }
    let steps = differences.len();
    if steps == 0 {
        return Err(MetricsError::Empty {
            operation,
            argument: "the part of the traces from start_step on",
        });
    }
    let n = steps as f64;
    Ok(RelativeFittingDifficulty {
        alignment: compensated_sum(differences.iter().map(|pair| pair.0)) / n,
        uniformity: compensated_sum(differences.iter().map(|pair| pair.1)) / n,
        steps,
    })
}

/// Mean of the `count` largest values: the score that RFD is compared with, over the best 5
/// evaluations of a run.
///
/// `values` is `[evaluations]`, in any order; if there are fewer than `count`, all are used.
///
/// # Errors
/// [`MetricsError::Empty`]; [`MetricsError::NonFinite`]; [`MetricsError::Parameter`] for
/// `count = 0`.
///
/// ```
/// assert_eq!(metrics::mean_of_best(&[70.0, 80.0, 75.0, 82.0], 2)?, 81.0);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn mean_of_best(values: &[f64], count: usize) -> Result<f64, MetricsError> {
    let operation = "mean_of_best";
    if count == 0 {
        return Err(MetricsError::Parameter {
            operation,
            parameter: "count",
            expected: "at least 1",
            found: count.to_string(),
        });
    }
    if values.is_empty() {
        return Err(MetricsError::Empty {
            operation,
            argument: "values",
        });
    }
    crate::error::check_finite(operation, "values", values)?;
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    sorted.truncate(count);
    let n = sorted.len() as f64;
    Ok(compensated_sum(sorted) / n)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    /// Alignment and uniformity on the training side, then on the evaluation side.
    type Row = (f64, f64, f64, f64);

    fn trace(points: &[(u64, f64, f64)]) -> Vec<TracePoint> {
        points
            .iter()
            .map(|&(step, alignment, uniformity)| TracePoint {
                step,
                alignment,
                uniformity,
            })
            .collect()
    }

    #[test]
    fn worked_example() {
        // From step 125: alignment (0.5 - 0.25) + (0.25 - 0.5) + (0.75 - 0.5) = 0.25, / 3;
        // uniformity (-2 + 2.5) + (-2.5 + 2) + (-1 + 2) = 1, / 3.
        let train = trace(&[
            (0, 9.0, 9.0),
            (125, 0.5, -2.0),
            (250, 0.25, -2.5),
            (375, 0.75, -1.0),
        ]);
        let eval = trace(&[
            (0, 0.0, 0.0),
            (125, 0.25, -2.5),
            (250, 0.5, -2.0),
            (375, 0.5, -2.0),
        ]);
        let rfd = relative_fitting_difficulty(&train, &eval, RFD_START_STEP).unwrap();
        assert_eq!(rfd.alignment, 0.25 / 3.0);
        assert_eq!(rfd.uniformity, 1.0 / 3.0);
        assert_eq!(rfd.steps, 3);
        // With step 0: 9.25 / 4.
        assert_eq!(
            relative_fitting_difficulty(&train, &eval, 0)
                .unwrap()
                .alignment,
            9.25 / 4.0
        );
    }

    #[test]
    fn hostile_input_is_an_error() {
        let one = trace(&[(125, 0.1, -1.0)]);
        let rfd = relative_fitting_difficulty;
        assert!(matches!(rfd(&[], &[], 0), Err(MetricsError::Empty { .. })));
        assert!(matches!(
            rfd(&one, &[], 0),
            Err(MetricsError::LengthMismatch { .. })
        ));
        assert!(matches!(
            rfd(&one, &one, 126),
            Err(MetricsError::Empty { .. })
        ));
        assert!(matches!(
            rfd(&one, &trace(&[(250, 0.1, -1.0)]), 0),
            Err(MetricsError::StepMismatch {
                index: 0,
                train: 125,
                evaluation: 250,
                ..
            })
        ));
        let bad = trace(&[(0, f64::NAN, 0.0), (125, 0.1, f64::NAN)]);
        let good = trace(&[(0, 0.0, 0.0), (125, 0.1, 0.0)]);
        assert!(matches!(
            rfd(&good, &bad, 125),
            Err(MetricsError::NonFinite {
                argument: "eval uniformity",
                index: 1,
                ..
            })
        ));
        // What is left out may be missing.
        let late = trace(&[(0, f64::NAN, f64::NAN), (125, 0.1, 0.0)]);
        assert_eq!(rfd(&late, &good, 125).unwrap().alignment, 0.0);
    }

    #[test]
    fn best_values() {
        assert_eq!(mean_of_best(&[1.0, 3.0], 5).unwrap(), 2.0);
        assert_eq!(mean_of_best(&[-1.0, -3.0, -2.0], 1).unwrap(), -1.0);
        assert!(matches!(
            mean_of_best(&[], 5),
            Err(MetricsError::Empty { .. })
        ));
        assert!(matches!(
            mean_of_best(&[1.0], 0),
            Err(MetricsError::Parameter { .. })
        ));
        assert!(matches!(
            mean_of_best(&[1.0, f64::NAN], 1),
            Err(MetricsError::NonFinite { index: 1, .. })
        ));
    }

    proptest! {
        #[test]
        fn swapping_the_sides_changes_the_sign(
            points in proptest::collection::vec((0.0_f64..1.0, -3.0_f64..0.0, 0.0_f64..1.0, -3.0_f64..0.0), 1..30),
        ) {
            let side = |pick: fn(&Row) -> (f64, f64)| -> Vec<TracePoint> {
                points.iter().enumerate().map(|(index, point)| {
                    let (alignment, uniformity) = pick(point);
                    TracePoint { step: 125 * index as u64, alignment, uniformity }
                }).collect()
            };
            let (train, eval) = (side(|p| (p.0, p.1)), side(|p| (p.2, p.3)));
            let forward = relative_fitting_difficulty(&train, &eval, 0).unwrap();
            let backward = relative_fitting_difficulty(&eval, &train, 0).unwrap();
            prop_assert_eq!(forward.alignment, -backward.alignment);
            prop_assert_eq!(forward.uniformity, -backward.uniformity);
            // The mean of differences is the difference of means.
            let mean = |trace: &[TracePoint]| {
                trace.iter().map(|point| point.alignment).sum::<f64>() / trace.len() as f64
            };
            prop_assert!((forward.alignment - (mean(&train) - mean(&eval))).abs() < 1e-12);
            prop_assert_eq!(relative_fitting_difficulty(&train, &train, 0).unwrap().alignment, 0.0);
        }
    }
}
