//! When to trust an assignment: the cosine below which a text belongs to no known category, and the
//! temperature that turns cosines into a probability.

use serde::{Deserialize, Serialize};

use crate::error::{CategoryError, invalid};

/// Softmax temperature used before one is fitted.
pub const DEFAULT_TEMPERATURE: f32 = 0.05;

/// Share of the texts of known categories to keep, unless another is asked for.
pub const DEFAULT_KEEP: f64 = 0.95;

/// Temperatures tried by [`fit_temperature`].
const TEMPERATURES: [f64; 2] = [1e-3, 10.0];

/// When to trust an assignment, measured on held-out texts.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// A cosine below this means unknown.
    pub threshold: f32,
    /// The confidence is a softmax over cosines / temperature.
    pub temperature: f32,
    /// Share of the known texts at or above the threshold, 0 to 1.
    pub accepts_known: f64,
    /// Share of the unknown texts below the threshold, 0 to 1.
    pub rejects_unknown: f64,
    /// Probability that a known text has a larger cosine than an unknown one, ties count half.
    pub auroc: f64,
    /// Coarse classes whose texts played the unknown.
    pub held_out: Vec<String>,
    /// Known texts.
    pub n_known: usize,
    /// Unknown texts.
    pub n_unknown: usize,
}

impl Calibration {
    /// Puts a threshold and a temperature together.
    #[must_use]
    pub fn new(threshold: Threshold, temperature: f32, held_out: Vec<String>) -> Self {
        Self {
            threshold: threshold.threshold,
            temperature,
            accepts_known: threshold.accepts_known,
            rejects_unknown: threshold.rejects_unknown,
            auroc: threshold.auroc,
            held_out,
            n_known: threshold.n_known,
            n_unknown: threshold.n_unknown,
        }
    }
}

/// Result of [`calibrate`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Threshold {
    /// A cosine below this means unknown.
    pub threshold: f32,
    /// Share of the known texts at or above the threshold, 0 to 1.
    pub accepts_known: f64,
    /// Share of the unknown texts below the threshold, 0 to 1.
    pub rejects_unknown: f64,
    /// Probability that a known text has a larger cosine than an unknown one, ties count half.
    pub auroc: f64,
    /// Known texts.
    pub n_known: usize,
    /// Unknown texts.
    pub n_unknown: usize,
}

/// The largest threshold that keeps a share of the known texts, and what it does to unknown ones.
///
/// ```text
/// threshold       = max t  with  #{known >= t} >= keep * #known
/// rejects_unknown = #{unknown < threshold} / #unknown
/// auroc           = (#{k > u} + #{k = u} / 2) / (#known * #unknown)   over all pairs
/// ```
///
/// `known` and `unknown` are cosines to the nearest centroid: of held-out texts of the categories,
/// and of texts of classes that had no part in making them. `accepts_known` is measured on the
/// texts the threshold was chosen on.
///
/// # Errors
/// No known or no unknown cosine, a cosine that is not finite, `keep` outside (0, 1].
///
/// # Example
/// ```
/// let found = categories::calibrate(&[0.9, 0.8, 0.7, 0.4], &[0.1, 0.5], 0.75)?;
/// assert_eq!(found.threshold, 0.7);
/// assert_eq!((found.accepts_known, found.rejects_unknown), (0.75, 1.0));
/// assert_eq!(found.auroc, 7.0 / 8.0);
/// # Ok::<(), categories::CategoryError>(())
/// ```
pub fn calibrate(known: &[f32], unknown: &[f32], keep: f64) -> Result<Threshold, CategoryError> {
    if !(keep > 0.0 && keep <= 1.0) {
        return Err(invalid("keep", "a share above 0 and at most 1", keep));
    }
    let known = sorted("known", known)?;
    let unknown = sorted("unknown", unknown)?;
    let (n_known, n_unknown) = (known.len(), unknown.len());
    // Rounding must not ask for one text more than the share: 0.95 of 100 are 95.
    let kept = ((keep * n_known as f64 - 1e-9).ceil() as usize).clamp(1, n_known);
    let threshold = known[n_known - kept];
    let below = |sorted: &[f32], value: f32| sorted.partition_point(|&x| x < value);
    let not_above = |sorted: &[f32], value: f32| sorted.partition_point(|&x| x <= value);
    // Twice the pairs won, so that the halves of ties stay whole numbers.
    let wins: u128 = known
        .iter()
        .map(|&k| (below(&unknown, k) + not_above(&unknown, k)) as u128)
        .sum();
    Ok(Threshold {
        threshold,
        accepts_known: (n_known - below(&known, threshold)) as f64 / n_known as f64,
        rejects_unknown: below(&unknown, threshold) as f64 / n_unknown as f64,
        auroc: wins as f64 / (2.0 * n_known as f64 * n_unknown as f64),
        n_known,
        n_unknown,
    })
}

fn sorted(field: &str, cosines: &[f32]) -> Result<Vec<f32>, CategoryError> {
    if cosines.is_empty() {
        return Err(invalid(field, "at least one cosine", "none"));
    }
    if let Some((at, value)) = cosines.iter().enumerate().find(|(_, x)| !x.is_finite()) {
        return Err(invalid(format!("{field}[{at}]"), "a finite cosine", value));
    }
    // -0.0 becomes 0.0, so that sorting and comparing agree.
    let mut sorted: Vec<f32> = cosines.iter().map(|&x| x + 0.0).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    Ok(sorted)
}

/// The softmax temperature under which held-out texts are least surprising.
///
/// ```text
/// loss(T) = -(1/n) sum_i  log softmax(cosines_i / T)[truth_i]
/// ```
///
/// minimised by golden-section search over log T between 0.001 and 10; the loss is convex in 1/T,
/// so there is one minimum. Rows whose true category always wins push T to the lower end, rows that
/// say nothing push it to the upper end.
///
/// # Shapes
/// - `cosines`: `[truth.len(), categories]`, row-major; `truth`: the column of the true category
///
/// # Errors
/// Fewer than two categories, no row, a length that does not fit, a cosine that is not finite, a
/// true category that does not exist.
pub fn fit_temperature(
    cosines: &[f32],
    categories: usize,
    truth: &[usize],
) -> Result<f32, CategoryError> {
    if categories < 2 {
        return Err(invalid("categories", "at least 2", categories));
    }
    if truth.is_empty() {
        return Err(invalid("truth", "at least one row", "none"));
    }
    if truth.len().checked_mul(categories) != Some(cosines.len()) {
        let expected = format!("{} rows of {categories} values", truth.len());
        return Err(invalid("cosines", expected, cosines.len()));
    }
    if let Some((at, value)) = cosines.iter().enumerate().find(|(_, x)| !x.is_finite()) {
        let field = format!("cosines[{}][{}]", at / categories, at % categories);
        return Err(invalid(field, "a finite cosine", value));
    }
    if let Some((at, value)) = truth.iter().enumerate().find(|(_, t)| **t >= categories) {
        let expected = format!("a category below {categories}");
        return Err(invalid(format!("truth[{at}]"), expected, value));
    }
    let loss = |log_temperature: f64| {
        let beta = (-log_temperature).exp();
        let row = |(row, &truth): (&[f32], &usize)| {
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let above = |x: f32| beta * (f64::from(x) - f64::from(top));
            let sum: f64 = row.iter().map(|&x| above(x).exp()).sum();
            sum.ln() - above(row[truth])
        };
        cosines
            .chunks_exact(categories)
            .zip(truth)
            .map(row)
            .sum::<f64>()
    };
    let [low, high] = TEMPERATURES;
    Ok(golden_section(low.ln(), high.ln(), loss).exp() as f32)
}

/// Where a function with one valley is smallest, to 1e-6.
fn golden_section(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    let ratio = (5.0_f64.sqrt() - 1.0) / 2.0;
    let (mut left, mut right) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut at_left, mut at_right) = (f(left), f(right));
    while high - low > 1e-6 {
        if at_left <= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - ratio * (high - low);
            at_left = f(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + ratio * (high - low);
            at_right = f(right);
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use approx::assert_relative_eq;
    use proptest::prelude::*;

    use super::*;

    fn hundredths(x: f64) -> f32 {
        ((x * 100.0).round() / 100.0) as f32
    }

    // k = np.round(np.cos(np.arange(40) * 0.7) * 0.3 + 0.6, 2)
    // u = np.round(np.sin(np.arange(25) * 1.3) * 0.3 + 0.45, 2)
    // roc_auc_score(np.r_[np.ones(40), np.zeros(25)], np.r_[k, u])
    // t = np.sort(k)[::-1][36 - 1]; (k >= t).mean(), (u < t).mean()
    #[test]
    fn the_area_is_that_of_scikit_learn() {
        let known: Vec<f32> = (0..40)
            .map(|i| hundredths((f64::from(i) * 0.7).cos() * 0.3 + 0.6))
            .collect();
        let unknown: Vec<f32> = (0..25)
            .map(|i| hundredths((f64::from(i) * 1.3).sin() * 0.3 + 0.45))
            .collect();
        let found = calibrate(&known, &unknown, 0.9).unwrap();
        assert_eq!(found.auroc, 0.6995);
        assert_eq!((found.threshold, found.accepts_known), (0.32, 0.95));
        assert_eq!((found.n_known, found.n_unknown), (40, 25));
        assert_eq!(found.rejects_unknown, 0.32);
    }

    // x = np.round(np.sin(np.arange(120) * 2.1 + 1) * 0.5 + 0.2, 2).reshape(30, 4)
    // L = lambda t: np.mean(logsumexp(x / np.exp(t), axis=1) - x[np.arange(30), truth] / np.exp(t))
    // np.exp(scipy.optimize.minimize_scalar(L, bounds=(log(1e-3), log(10)), method="bounded").x)
    #[test]
    fn the_temperature_is_that_of_scipy() {
        let cosines: Vec<f32> = (0..120)
            .map(|i| hundredths((f64::from(i) * 2.1 + 1.0).sin() * 0.5 + 0.2))
            .collect();
        let truth = [
            0, 2, 1, 0, 2, 2, 3, 2, 1, 0, 3, 1, 0, 2, 1, 1, 2, 1, 0, 2, 2, 0, 2, 1, 0, 3, 1, 0, 2,
            1,
        ];
        let found = fit_temperature(&cosines, 4, &truth).unwrap();
        assert_relative_eq!(found, 0.277_790_5, max_relative = 1e-4);
    }

    #[test]
    fn rows_without_doubt_and_rows_without_content_end_at_the_limits() {
        let certain = fit_temperature(&[0.9, 0.1, 0.1, 0.9], 2, &[0, 1]).unwrap();
        assert_relative_eq!(certain, 1e-3, max_relative = 1e-3);
        let wrong = fit_temperature(&[0.9, 0.1, 0.1, 0.9], 2, &[1, 0]).unwrap();
        assert_relative_eq!(wrong, 10.0, max_relative = 1e-3);
    }

    #[test]
    fn what_cannot_be_measured_is_named() {
        let message = |result: Result<Threshold, CategoryError>| result.unwrap_err().to_string();
        assert_eq!(
            message(calibrate(&[], &[0.1], 0.9)),
            "known: expected at least one cosine, found none"
        );
        assert_eq!(
            message(calibrate(&[0.1], &[0.3, f32::NAN], 0.9)),
            "unknown[1]: expected a finite cosine, found NaN"
        );
        for keep in [0.0, -1.0, 1.5, f64::NAN] {
            assert!(message(calibrate(&[0.1], &[0.1], keep)).starts_with("keep: "));
        }
        let message =
            |cosines: &[f32], k, truth: &[usize]| fit_temperature(cosines, k, truth).unwrap_err();
        for (error, field) in [
            (message(&[0.1], 1, &[0]), "categories"),
            (message(&[], 2, &[]), "truth"),
            (message(&[0.1, 0.2, 0.3], 2, &[0]), "cosines"),
            (message(&[0.1, f32::INFINITY], 2, &[0]), "cosines[0][1]"),
            (message(&[0.1, 0.2], 2, &[2]), "truth[0]"),
        ] {
            assert!(
                error.to_string().starts_with(&format!("{field}: ")),
                "{error}"
            );
        }
    }

    proptest! {
        /// Every pair, one by one.
        #[test]
        fn threshold_and_area_are_what_counting_gives(
            known in prop::collection::vec((-10_i8..=10).prop_map(|x| f32::from(x) / 10.0), 1..30),
            unknown in prop::collection::vec((-10_i8..=10).prop_map(|x| f32::from(x) / 10.0), 1..30),
            percent in 1_usize..=100,
        ) {
            let found = calibrate(&known, &unknown, percent as f64 / 100.0).unwrap();
            let accepted = |t: f32| known.iter().filter(|x| **x >= t).count();
            let enough = |t: f32| 100 * accepted(t) >= percent * known.len();
            prop_assert!(enough(found.threshold));
            prop_assert!(known.iter().all(|&t| t <= found.threshold || !enough(t)));
            prop_assert_eq!(found.accepts_known, accepted(found.threshold) as f64 / known.len() as f64);
            let mut wins = 0;
            for k in &known {
                for u in &unknown {
                    wins += if k > u { 2 } else { i32::from(k == u) };
                }
            }
            let pairs = (2 * known.len() * unknown.len()) as f64;
            prop_assert_eq!(found.auroc, f64::from(wins) / pairs);
        }
    }
}
