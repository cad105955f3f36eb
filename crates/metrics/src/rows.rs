//! Row-major `f32` matrices given as flat slices.

use crate::error::MetricsError;

/// Norms below this count as this, as in PyTorch's `normalize`: a zero row stays zero.
const MIN_NORM: f64 = 1e-12;

/// Partial sums per dot product, so that the additions can run side by side.
const LANES: usize = 8;

/// Checks a flat `[rows, dim]` matrix of finite numbers and returns `rows`, at least 1.
pub(crate) fn check_rows(
    operation: &'static str,
    argument: &'static str,
    values: &[f32],
    dim: usize,
) -> Result<usize, MetricsError> {
    if dim == 0 {
        return Err(MetricsError::Parameter {
            operation,
            parameter: "dim",
            expected: "at least 1",
            found: dim.to_string(),
        });
    }
    if values.is_empty() {
        return Err(MetricsError::Empty {
            operation,
            argument,
        });
    }
    if !values.len().is_multiple_of(dim) {
        return Err(MetricsError::Shape {
            operation,
            argument,
            expected: format!("a multiple of dim = {dim}"),
            found: values.len(),
        });
    }
    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
        let value = f64::from(values[index]);
        return Err(MetricsError::NonFinite {
            operation,
            argument,
            index,
            value,
        });
    }
    Ok(values.len() / dim)
}

/// `row / max(||row||, 1e-12)` for each row, in `f64`.
pub(crate) fn normalised_rows(values: &[f32], dim: usize) -> Vec<f64> {
    let mut normalised = Vec::with_capacity(values.len());
    for row in values.chunks_exact(dim) {
        // The square of the largest f32 is about 1e77: no overflow in f64.
        let norm = row
            .iter()
            .map(|&value| f64::from(value).powi(2))
            .sum::<f64>()
            .sqrt();
        let norm = norm.max(MIN_NORM);
        normalised.extend(row.iter().map(|&value| f64::from(value) / norm));
    }
    normalised
}

/// Scalar product with a fixed order of additions.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f64>() + rest
}

/// Scalar product in `f32` with a fixed order of additions.
pub(crate) fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn rows_become_unit_vectors_and_zero_stays_zero() {
        let found = normalised_rows(&[3.0, 4.0, 0.0, 0.0, f32::MAX, f32::MAX], 2);
        let half = 0.5_f64.sqrt();
        for (found, expected) in found.iter().zip([0.6, 0.8, 0.0, 0.0, half, half]) {
            assert!((found - expected).abs() < 1e-15);
        }
    }

    #[test]
    fn hostile_shapes_are_errors() {
        assert_eq!(check_rows("f", "x", &[1.0; 6], 3), Ok(2));
        assert!(matches!(
            check_rows("f", "x", &[], 3),
            Err(MetricsError::Empty { .. })
        ));
        assert!(matches!(
            check_rows("f", "x", &[1.0], 0),
            Err(MetricsError::Parameter { .. })
        ));
        assert!(matches!(
            check_rows("f", "x", &[1.0; 5], 3),
            Err(MetricsError::Shape { found: 5, .. })
        ));
        assert!(matches!(
            check_rows("f", "x", &[1.0, 2.0, f32::NAN], 1),
            Err(MetricsError::NonFinite { index: 2, .. })
        ));
    }
}
