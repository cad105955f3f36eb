//! Degenerate numbers: the value each measure gives where its formula gives none, and that it is the
//! value of scikit-learn or SciPy.
//!
//! Expected values are those of SciPy 1.17.1 and scikit-learn 1.9.1:
//!
//! ```text
//! >>> from scipy.stats import pearsonr, spearmanr
//! >>> from sklearn.metrics import *
//! >>> spearmanr([1, 1, 1], [1, 2, 3])[0], pearsonr([1, 1, 1], [1, 2, 3])[0]      # nan nan
//! >>> spearmanr([1, 1, 1], [2, 2, 2])[0], pearsonr([1, 1, 1], [2, 2, 2])[0]      # nan nan
//! >>> spearmanr([1], [1])[0]                                                      # nan
//! >>> spearmanr([0, 5e-324, 0], [1, 2, 1])[0]                                     # 1.0
//! >>> v_measure_score([0, 0], [0, 1]), v_measure_score([0, 0], [0, 0])            # 0.0 1.0
//! >>> normalized_mutual_info_score([0, 0, 0], [0, 1, 2])                          # 0.0
//! >>> adjusted_rand_score([0, 0, 0], [0, 1, 2])                                   # 0.0
//! >>> f1_score([1, 1], [0, 0])                                                    # 0.0
//! >>> f1_score([0, 0], [0, 0], zero_division=float("nan"))                        # nan
//! ```
//!
//! NMI with the arithmetic mean is the V-measure. Where SciPy raises an exception (`pearsonr` of one
//! pair) or returns NaN for NaN, and where scikit-learn gives 1 for no rows at all, this crate differs
//! on purpose: an empty or non-finite input is an error, because the number would be reported.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use metrics::{
    LabelledRows, LogisticRegression, LogisticRegressionConfig, MetricsError, StsSubset,
    adjusted_rand_index, alignment, average_cosine, clustering_accuracy, f1_score, iso_score,
    neighbour_precision, normalized_mutual_information, pearson, purity, spearman, sts_scores,
    uniformity,
};

#[test]
fn constant_scores_have_no_correlation() {
    for (x, y) in [
        (vec![1.0; 3], vec![1.0, 2.0, 3.0]),
        (vec![1.0, 2.0, 3.0], vec![0.0; 3]),
        (vec![1.0; 3], vec![2.0; 3]),
        // One pair is constant on both sides.
        (vec![1.0], vec![1.0]),
        // The mean of a constant is not always that constant in floating point.
        (vec![0.1; 7], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]),
    ] {
        assert!(spearman(&x, &y).unwrap().is_nan(), "{x:?} {y:?}");
        assert!(pearson(&x, &y).unwrap().is_nan(), "{x:?} {y:?}");
    }
    // Not constant, by the smallest number there is.
    assert_eq!(spearman(&[0.0, 5e-324, 0.0], &[1.0, 2.0, 1.0]), Ok(1.0));
}

#[test]
fn fewer_than_two_points_are_a_value_or_an_error() {
    assert!(matches!(
        spearman(&[], &[]),
        Err(MetricsError::Empty { .. })
    ));
    assert!(spearman(&[3.0], &[4.0]).unwrap().is_nan());
    assert_eq!(clustering_accuracy(&[7], &[0]).unwrap().accuracy, 1.0);
    assert_eq!(normalized_mutual_information(&[7], &[0]), Ok(1.0));
    assert_eq!(adjusted_rand_index(&[7], &[0]), Ok(1.0));
    assert_eq!(purity(&[7], &[0]), Ok(1.0));
    // A mean over pairs of different rows needs two rows.
    assert!(uniformity(&[1.0, 0.0], 2).is_err());
    assert!(average_cosine(&[1.0, 0.0], 2).is_err());
    assert!(iso_score(&[1.0, 0.0], 2).is_err());
    assert_eq!(alignment(&[1.0, 0.0], &[1.0, 0.0], 2), Ok(0.0));
}

#[test]
fn one_cluster_or_one_class_scores_zero_and_not_one() {
    let (one, each) = ([0, 0, 0], [0, 1, 2]);
    for (clusters, labels) in [(one, each), (each, one)] {
        assert_eq!(normalized_mutual_information(&clusters, &labels), Ok(0.0));
        assert_eq!(adjusted_rand_index(&clusters, &labels), Ok(0.0));
        assert_eq!(clustering_accuracy(&clusters, &labels).unwrap().matched, 1);
    }
    assert_eq!(normalized_mutual_information(&one, &one), Ok(1.0));
    assert_eq!(adjusted_rand_index(&one, &one), Ok(1.0));
}

#[test]
fn a_class_that_nobody_has_or_predicts() {
    assert_eq!(f1_score(&[0, 0], &[1, 1], &1), Ok(0.0));
    assert_eq!(f1_score(&[1, 1], &[0, 0], &1), Ok(0.0));
    assert!(f1_score(&[0, 0], &[0, 0], &1).unwrap().is_nan());
}

#[test]
fn zero_vectors_have_cosine_zero_with_everything() {
    // As sklearn.metrics.pairwise.cosine_similarity: [[0, 0]] against [[1, 0]] is [[0.]].
    assert_eq!(average_cosine(&[0.0, 0.0, 1.0, 0.0], 2), Ok(0.0));
    // Zero stays zero when rows are made unit vectors: ||0 - e||^2 = 1, ||e - e||^2 = 0.
    assert_eq!(alignment(&[0.0, 0.0], &[3.0, 0.0], 2), Ok(1.0));
    assert_eq!(alignment(&[0.0, 0.0], &[0.0, 0.0], 2), Ok(0.0));
    // log exp(-2 * 1)
    let found = uniformity(&[0.0, 0.0, 0.0, 5.0], 2).unwrap();
    assert!((found + 2.0).abs() < 1e-12, "{found}");
    assert_eq!(uniformity(&[0.0; 6], 2), Ok(0.0));
}

#[test]
fn numbers_that_are_not_finite_name_their_place() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for correlation in [spearman, pearson] {
            let error = correlation(&[1.0, 2.0, bad], &[1.0, 2.0, 3.0]).unwrap_err();
            assert!(error.to_string().contains("x[2] is"), "{error}");
        }
        let subset = StsSubset {
            name: "headlines",
            predicted: &[0.5, bad],
            gold: &[1.0, 2.0],
        };
        let error = sts_scores(&[subset]).unwrap_err().to_string();
        assert!(error.contains("headlines"), "{error}");
        let error = uniformity(&[1.0, 0.0, bad as f32, 1.0], 2).unwrap_err();
        assert!(matches!(error, MetricsError::NonFinite { index: 2, .. }));
    }
}

#[test]
fn a_classifier_of_one_class_is_refused() {
    // scikit-learn: "This solver needs samples of at least 2 classes in the data".
    assert!(LabelledRows::new(&[1.0, 2.0], 1, &[0, 0], 1).is_err());
    // Two classes of which only one occurs: learned, and it answers that one.
    let features = [1.0, 0.5, 2.0, 1.5];
    let data = LabelledRows::new(&features, 1, &[1; 4], 2).unwrap();
    let rows = [0, 1, 2, 3];
    let fit = LogisticRegression::fit(&LogisticRegressionConfig::fast(), &data, &rows, &rows);
    let accuracy = fit.unwrap().model.accuracy(&data, &rows);
    assert_eq!(accuracy, Ok(1.0));
}

#[test]
fn neighbour_lists_of_a_lone_row_and_of_lone_classes() {
    use metrics::SelfNeighbour::Exclude;
    // No neighbour at all, so no share of right ones.
    let none = neighbour_precision(&[0], 1, &[5], Exclude).unwrap();
    assert!(none.precision.is_nan() && none.rows == 0);
}
