//! Scores of semantic textual similarity tasks.

use crate::correlation::{pearson, spearman};
use crate::error::MetricsError;

/// How the subsets of one task are joined into one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aggregation {
    /// Correlation over the concatenation of all subsets: what the published tables report.
    #[default]
    All,
    /// Plain mean of the correlations of the subsets.
    Mean,
    /// Mean of the correlations of the subsets, weighted by their numbers of pairs.
    WeightedMean,
}

impl Aggregation {
    /// Every form, in the order of [`StsCorrelation`]'s fields.
    pub const ALL: [Self; 3] = [Self::All, Self::Mean, Self::WeightedMean];

    /// The name used in result files: `all`, `mean`, `wmean`.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Mean => "mean",
            Self::WeightedMean => "wmean",
        }
    }
}

/// One subset of a task, for example `headlines` of STS15.
#[derive(Debug, Clone, Copy)]
pub struct StsSubset<'a> {
    /// Name for reports and errors.
    pub name: &'a str,
    /// Predicted similarities `[pairs]`, usually cosines; any monotone unit.
    pub predicted: &'a [f64],
    /// Human similarities `[pairs]`.
    pub gold: &'a [f64],
}

/// One kind of correlation over the subsets of a task.
///
/// A subset with a constant side has a NaN correlation, which makes `mean` and `wmean` NaN: report
/// it as missing.
#[derive(Debug, Clone, PartialEq)]
pub struct StsCorrelation {
    /// Over the concatenation of the subsets.
    pub all: f64,
    /// Plain mean over the subsets.
    pub mean: f64,
    /// Mean over the subsets weighted by their numbers of pairs.
    pub wmean: f64,
    /// The correlation of each subset, in input order.
    pub per_subset: Vec<f64>,
}

impl StsCorrelation {
    /// The number for one form of aggregation.
    pub fn get(&self, aggregation: Aggregation) -> f64 {
        match aggregation {
            Aggregation::All => self.all,
            Aggregation::Mean => self.mean,
            Aggregation::WeightedMean => self.wmean,
        }
    }
}

/// The scores of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct StsScores {
    /// Rank correlation, the reported measure.
    pub spearman: StsCorrelation,
    /// Product-moment correlation.
    pub pearson: StsCorrelation,
    /// Pairs over all subsets.
    pub pairs: usize,
}

/// Spearman and Pearson of a task, over all subsets and per subset.
///
/// With subsets of `n_s` pairs and correlation `r_s` each:
/// `all = r(concatenation)`, `mean = sum_s r_s / S`, `wmean = sum_s n_s r_s / sum_s n_s`.
///
/// `all` is not an average: a subset whose predictions sit on another level than the rest lowers
/// it even if every `r_s` is 1. A task without subsets (STS-B, SICK-R) is one subset; its three
/// numbers are equal.
///
/// # Errors
/// [`MetricsError::Empty`] without subsets; [`MetricsError::Subset`] naming the subset whose input
/// is empty, of unequal lengths, or not finite.
///
/// Source: the SentEval protocol as the SimCSE evaluation uses it.
///
/// ```
/// use metrics::{StsSubset, sts_scores};
///
/// let scores = sts_scores(&[
///     StsSubset { name: "news", predicted: &[0.1, 0.2, 0.3], gold: &[1.0, 2.0, 5.0] },
///     StsSubset { name: "forum", predicted: &[0.9, 0.8], gold: &[4.0, 3.0] },
/// ])?;
/// assert_eq!(scores.spearman.per_subset, [1.0, 1.0]);
/// assert!(scores.spearman.all < 1.0);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn sts_scores(subsets: &[StsSubset<'_>]) -> Result<StsScores, MetricsError> {
    type Correlation = fn(&[f64], &[f64]) -> Result<f64, MetricsError>;
    let operation = "sts_scores";
    if subsets.is_empty() {
        return Err(MetricsError::Empty {
            operation,
            argument: "subsets",
        });
    }
    let join = |side: fn(&StsSubset<'_>) -> Vec<f64>| -> Vec<f64> {
        subsets.iter().flat_map(side).collect()
    };
    let predicted = join(|subset| subset.predicted.to_vec());
    let gold = join(|subset| subset.gold.to_vec());
    let correlate = |correlation: Correlation| -> Result<StsCorrelation, MetricsError> {
        // Subsets first: their errors name the place, those of the concatenation could not.
        let mut per_subset = Vec::with_capacity(subsets.len());
        for subset in subsets {
            per_subset.push(
                correlation(subset.predicted, subset.gold).map_err(|source| {
                    MetricsError::Subset {
                        operation,
                        name: subset.name.to_owned(),
                        source: Box::new(source),
                    }
                })?,
            );
        }
        let weighted: f64 = per_subset
            .iter()
            .zip(subsets)
            .map(|(value, subset)| value * subset.gold.len() as f64)
            .sum();
        Ok(StsCorrelation {
            all: correlation(&predicted, &gold)?,
            mean: per_subset.iter().sum::<f64>() / subsets.len() as f64,
            wmean: weighted / gold.len() as f64,
            per_subset,
        })
    };
    Ok(StsScores {
        spearman: correlate(spearman)?,
        pearson: correlate(pearson)?,
        pairs: gold.len(),
    })
}

/// A fraction as a percentage with two decimals, as it stands in a printed table.
///
/// The exact binary value is rounded to the nearest hundredth, ties to even, which is what
/// C's and Python's `"%.2f"` print. NaN and infinities stay what they are.
///
/// ```
/// assert_eq!(metrics::percent_rounded(0.762549), 76.25);
/// assert!(metrics::percent_rounded(f64::NAN).is_nan());
/// ```
pub fn percent_rounded(fraction: f64) -> f64 {
    let percent = fraction * 100.0;
    // Text of an f64 always parses back; the fallback is for the type only.
    format!("{percent:.2}").parse().unwrap_or(percent)
}

/// The "Avg." column: the mean over tasks of percentages that were each rounded first.
///
/// `average = sum_t percent_rounded(value_t) / T`, in percent, itself not rounded. `values` are
/// fractions `[tasks]`, usually STS12 to STS16, STS-B and SICK-R. Rounding each task first is what
/// the published tables do; it can move the average by up to 0.005. A NaN (missing task) makes the
/// average NaN.
///
/// # Errors
/// [`MetricsError::Empty`].
///
/// ```
/// // 70.126 -> 70.13 and 80.126 -> 80.13
/// let average = metrics::average_of_tasks(&[0.70126, 0.80126])?;
/// assert!((average - 75.13).abs() < 1e-9);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn average_of_tasks(values: &[f64]) -> Result<f64, MetricsError> {
    average_of_tasks_by(TaskAverage::Rounded, values)
}

/// How tasks are averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TaskAverage {
    /// Each task rounded to two decimals of a percent first, as the published tables do.
    #[default]
    Rounded,
    /// The tasks as they are.
    Unrounded,
}

/// [`average_of_tasks`] with a choice: `100 * sum_t value_t / T` for
/// [`TaskAverage::Unrounded`], in percent.
///
/// # Errors
/// [`MetricsError::Empty`].
pub fn average_of_tasks_by(average: TaskAverage, values: &[f64]) -> Result<f64, MetricsError> {
    if values.is_empty() {
        return Err(MetricsError::Empty {
            operation: "average_of_tasks",
            argument: "values",
        });
    }
    let percent = |&value: &f64| match average {
        TaskAverage::Rounded => percent_rounded(value),
        TaskAverage::Unrounded => value * 100.0,
    };
    Ok(values.iter().map(percent).sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::error::Error;

    use proptest::prelude::*;

    use super::*;

    fn subset<'a>(name: &'a str, predicted: &'a [f64], gold: &'a [f64]) -> StsSubset<'a> {
        StsSubset {
            name,
            predicted,
            gold,
        }
    }

    #[test]
    fn worked_example() {
        // First subset: ranks 4 1 2 3 and 4 1 3 2: d = 0 0 -1 1, rho = 1 - 6*2 / (4*15) = 0.8.
        // Second: ranks 1 3 2 and 2 1 3: d = -1 2 -1, rho = 1 - 6*6 / (3*8) = -0.5.
        // mean = 0.15; wmean = (4*0.8 - 3*0.5) / 7 = 1.7 / 7.
        // Joined: predicted .9 .2 .5 .7 .3 .8 .6 -> ranks 7 1 3 5 2 6 4,
        // gold 5 1 4 2 2 1 3 -> ranks 7 1.5 6 3.5 3.5 1.5 5; centred (rank - 4):
        // 3 -3 -1 1 -2 2 0 and 3 -2.5 2 -.5 -.5 -2.5 1: products 9+7.5-2-.5+1-5+0 = 10,
        // squares 28 and 9+6.25+4+.25+.25+6.25+1 = 27: 10 / sqrt(756).
        let scores = sts_scores(&[
            subset("a", &[0.9, 0.2, 0.5, 0.7], &[5.0, 1.0, 4.0, 2.0]),
            subset("b", &[0.3, 0.8, 0.6], &[2.0, 1.0, 3.0]),
        ])
        .unwrap();
        assert_eq!(scores.pairs, 7);
        let expected = [10.0 / 756.0_f64.sqrt(), 0.15, 1.7 / 7.0];
        for (aggregation, expected) in Aggregation::ALL.into_iter().zip(expected) {
            let found = scores.spearman.get(aggregation);
            assert!(
                (found - expected).abs() < 1e-14,
                "{}: {found}",
                aggregation.name()
            );
        }
    }

    #[test]
    fn constant_subset_makes_the_means_missing() {
        let scores = sts_scores(&[
            subset("flat", &[0.5, 0.5], &[1.0, 2.0]),
            subset("fine", &[0.1, 0.9], &[1.0, 2.0]),
        ])
        .unwrap();
        assert!(scores.spearman.per_subset[0].is_nan());
        assert!(scores.spearman.mean.is_nan() && scores.spearman.wmean.is_nan());
        assert!(scores.spearman.all.is_finite());
    }

    #[test]
    fn errors_name_the_subset() {
        let error = sts_scores(&[
            subset("good", &[0.1, 0.2], &[1.0, 2.0]),
            subset("bad", &[0.1, f64::NAN], &[1.0, 2.0]),
        ])
        .unwrap_err();
        assert_eq!(error.to_string(), "sts_scores: subset \"bad\"");
        assert_eq!(
            error.source().unwrap().to_string(),
            "spearman: x[1] is NaN, expected a finite number"
        );
        // Two wrongs that would add up to equal totals are still found.
        let error = sts_scores(&[
            subset("short", &[0.1], &[1.0, 2.0]),
            subset("long", &[0.1, 0.2], &[1.0]),
        ])
        .unwrap_err();
        assert!(matches!(error, MetricsError::Subset { name, .. } if name == "short"));
        assert!(matches!(
            sts_scores(&[subset("none", &[], &[])]),
            Err(MetricsError::Subset { .. })
        ));
        assert!(matches!(sts_scores(&[]), Err(MetricsError::Empty { .. })));
    }

    #[test]
    fn tasks_are_rounded_before_they_are_averaged() {
        // 70.004 -> 70.00, 70.006 -> 70.01. Mean of seven: (4 * 70.00 + 3 * 70.01) / 7.
        let values = [
            0.70004, 0.70004, 0.70004, 0.70004, 0.70006, 0.70006, 0.70006,
        ];
        let average = average_of_tasks(&values).unwrap();
        assert!((average - (4.0 * 70.0 + 3.0 * 70.01) / 7.0).abs() < 1e-12);
        let unrounded = 100.0 * values.iter().sum::<f64>() / 7.0;
        assert!((average - unrounded).abs() > 5e-4);
        let found = average_of_tasks_by(TaskAverage::Unrounded, &values).unwrap();
        assert!((found - unrounded).abs() < 1e-12);
        // Exact ties go to the even hundredth: 0.125 % and 0.375 % are exact in binary.
        assert_eq!(percent_rounded(0.00125), 0.12);
        assert_eq!(percent_rounded(0.00375), 0.38);
        assert_eq!(percent_rounded(-0.5), -50.0);
        assert_eq!(percent_rounded(f64::INFINITY), f64::INFINITY);
        assert!(average_of_tasks(&[0.5, f64::NAN]).unwrap().is_nan());
        assert!(matches!(
            average_of_tasks(&[]),
            Err(MetricsError::Empty { .. })
        ));
    }

    proptest! {
        #[test]
        fn one_subset_has_three_equal_numbers(pairs in proptest::collection::vec((-1.0_f64..1.0, 0_u8..6), 2..40)) {
            let predicted: Vec<f64> = pairs.iter().map(|pair| pair.0).collect();
            let gold: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.1)).collect();
            let scores = sts_scores(&[subset("only", &predicted, &gold)]).unwrap();
            for correlation in [&scores.spearman, &scores.pearson] {
                prop_assert_eq!(correlation.all.to_bits(), correlation.per_subset[0].to_bits());
                prop_assert!(correlation.all.is_nan() || (correlation.all - correlation.wmean).abs() < 1e-15);
                prop_assert_eq!(correlation.all.to_bits(), correlation.mean.to_bits());
            }
        }

        #[test]
        fn averages_stay_within_half_a_hundredth(values in proptest::collection::vec(-1.0_f64..1.0, 1..20)) {
            let plain = 100.0 * values.iter().sum::<f64>() / values.len() as f64;
            prop_assert!((average_of_tasks(&values).unwrap() - plain).abs() <= 0.005 + 1e-9);
        }

        #[test]
        fn order_of_subsets_does_not_matter(sets in proptest::collection::vec(
            proptest::collection::vec((-1.0_f64..1.0, 0_u8..6), 3..12), 2..5,
        )) {
            let split: Vec<(Vec<f64>, Vec<f64>)> = sets
                .iter()
                .map(|set| set.iter().map(|&(p, g)| (p, f64::from(g))).unzip())
                .collect();
            let forward: Vec<_> = split.iter().map(|(p, g)| subset("s", p, g)).collect();
            let backward: Vec<_> = forward.iter().rev().copied().collect();
            let (a, b) = (sts_scores(&forward).unwrap(), sts_scores(&backward).unwrap());
            prop_assert_eq!(a.spearman.all.to_bits(), b.spearman.all.to_bits());
            for aggregation in Aggregation::ALL {
                for (a, b) in [(&a.spearman, &b.spearman), (&a.pearson, &b.pearson)] {
                    let (a, b) = (a.get(aggregation), b.get(aggregation));
                    prop_assert!((a - b).abs() < 1e-12 || (a.is_nan() && b.is_nan()));
                }
            }
        }
    }
}
