//! Scores of predicted labels against known ones, label by label.

use crate::error::{MetricsError, check_pair};

/// Share of rows whose predicted label is the known one.
///
/// `accuracy = |{i : predicted_i = gold_i}| / rows`. Unlike
/// [`clustering_accuracy`](crate::clustering_accuracy) nothing is matched first: the two sides use
/// the same labels.
///
/// # Errors
/// [`MetricsError::Empty`], [`MetricsError::LengthMismatch`].
///
/// ```
/// assert_eq!(metrics::label_accuracy(&["yes", "no"], &["yes", "yes"])?, 0.5);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn label_accuracy<T: PartialEq>(predicted: &[T], gold: &[T]) -> Result<f64, MetricsError> {
    check_pair(
        "label_accuracy",
        ("predicted", predicted.len()),
        ("gold", gold.len()),
    )?;
    let equal = predicted.iter().zip(gold).filter(|(p, g)| p == g).count();
    Ok(equal as f64 / gold.len() as f64)
}

/// F1 of one label: the harmonic mean of its precision and recall.
///
/// With `tp` rows where both sides are `positive`, `fp` where only the prediction is and `fn` where
/// only the known label is: `F1 = 2 tp / (2 tp + fp + fn)`, in `[0, 1]`.
///
/// NaN if neither side has the label: there is nothing to find and nothing was claimed.
///
/// # Errors
/// [`MetricsError::Empty`], [`MetricsError::LengthMismatch`].
///
/// ```
/// // One hit, one false alarm, one miss.
/// let f1 = metrics::f1_score(&[1, 1, 0, 0], &[1, 0, 1, 0], &1)?;
/// assert_eq!(f1, 0.5);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn f1_score<T: PartialEq>(
    predicted: &[T],
    gold: &[T],
    positive: &T,
) -> Result<f64, MetricsError> {
    check_pair(
        "f1_score",
        ("predicted", predicted.len()),
        ("gold", gold.len()),
    )?;
    let (mut both, mut one) = (0_u64, 0_u64);
    for (predicted, gold) in predicted.iter().zip(gold) {
        match (predicted == positive, gold == positive) {
            (true, true) => both += 1,
            (false, false) => {}
            _ => one += 1,
        }
    }
    // 0 / 0 is the documented NaN.
    Ok((2 * both) as f64 / (2 * both + one) as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn worked_example() {
        // tp 2, fp 1, fn 1, tn 1: accuracy 3/5, precision 2/3, recall 2/3.
        let (predicted, gold) = ([1, 1, 1, 0, 0], [1, 1, 0, 1, 0]);
        assert_eq!(label_accuracy(&predicted, &gold).unwrap(), 0.6);
        assert!((f1_score(&predicted, &gold, &1).unwrap() - 2.0 / 3.0).abs() < 1e-15);
        assert_eq!(f1_score(&predicted, &gold, &0).unwrap(), 0.5);
        assert!(f1_score(&predicted, &gold, &7).unwrap().is_nan());
    }

    #[test]
    fn hostile_input_is_an_error() {
        let none: [u8; 0] = [];
        assert!(matches!(
            label_accuracy(&none, &none),
            Err(MetricsError::Empty { .. })
        ));
        assert!(matches!(
            f1_score(&[1], &[1, 2], &1),
            Err(MetricsError::LengthMismatch { .. })
        ));
    }

    proptest! {
        #[test]
        fn f1_is_the_harmonic_mean(pairs in proptest::collection::vec((0_u8..2, 0_u8..2), 1..40)) {
            let (predicted, gold): (Vec<u8>, Vec<u8>) = pairs.into_iter().unzip();
            let count = |f: fn((u8, u8)) -> bool| predicted.iter().zip(&gold).filter(|(p, g)| f((**p, **g))).count() as f64;
            let hits = count(|pair| pair == (1, 1));
            let (claimed, known) = (count(|(p, _)| p == 1), count(|(_, g)| g == 1));
            let found = f1_score(&predicted, &gold, &1).unwrap();
            if claimed > 0.0 && known > 0.0 && hits > 0.0 {
                let (precision, recall) = (hits / claimed, hits / known);
                prop_assert!((found - 2.0 * precision * recall / (precision + recall)).abs() < 1e-12);
            } else {
                prop_assert_eq!(found.is_nan(), claimed + known == 0.0);
                prop_assert!(found.is_nan() || found == 0.0);
            }
            prop_assert_eq!(label_accuracy(&predicted, &gold).unwrap(), label_accuracy(&gold, &predicted).unwrap());
        }
    }
}
