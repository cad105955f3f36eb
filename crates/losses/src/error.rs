//! What can be wrong with the parameters or the inputs of an objective.

use burn::tensor::{Tensor, TensorReadError};

/// Error of an objective: names the operation, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// A tensor does not have the shape that the operation needs.
    #[error("{op}: {what} has shape {found:?}, expected {expected}")]
    Shape {
        /// The operation that refused.
        op: &'static str,
        /// Which argument.
        what: &'static str,
        /// The shape it should have, in words.
        expected: String,
        /// The shape it has.
        found: Vec<usize>,
    },
    /// A hyper-parameter lies outside its range.
    #[error("{op}: parameter `{name}` is {found}, expected {expected}")]
    Parameter {
        /// The configuration that was checked.
        op: &'static str,
        /// Name of the field.
        name: &'static str,
        /// The allowed range, in words.
        expected: &'static str,
        /// The value given.
        found: f64,
    },
    /// There are too few or too many of something.
    #[error("{op}: {what}: found {found}, expected {expected}")]
    Count {
        /// The operation that refused.
        op: &'static str,
        /// What was counted.
        what: &'static str,
        /// The allowed numbers, in words.
        expected: String,
        /// The number found.
        found: usize,
    },
    /// Two options of a configuration exclude each other.
    #[error("{op}: found {found}, expected {expected}")]
    Options {
        /// The configuration that was checked.
        op: &'static str,
        /// What would be allowed.
        expected: &'static str,
        /// The combination given.
        found: &'static str,
    },
    /// One element of a tensor has a value that the operation cannot use.
    #[error("{op}: {what} at row {row}, column {column} is {found}, expected {expected}")]
    Value {
        /// The operation that refused.
        op: &'static str,
        /// Which argument.
        what: &'static str,
        /// Row of the first offending element.
        row: usize,
        /// Column of the first offending element.
        column: usize,
        /// The allowed values, in words.
        expected: String,
        /// The value found.
        found: f64,
    },
    /// A neighbour id points behind the end of the bank.
    #[error("{op}: neighbour id {found} does not exist, the bank has {rows} rows")]
    NeighbourOutOfBank {
        /// The operation that refused.
        op: &'static str,
        /// Rows of the bank.
        rows: usize,
        /// Largest id among the targets.
        found: usize,
    },
    /// The values of a tensor could not be copied to the host for checking.
    #[error("{op}: the values of {what} could not be read from the device")]
    Read {
        /// The operation that refused.
        op: &'static str,
        /// Which argument.
        what: &'static str,
        /// What the backend reported.
        #[source]
        source: TensorReadError,
    },
}

/// Refuses a hyper-parameter that is not finite or does not satisfy `accepted`.
pub(crate) fn check_parameter(
    op: &'static str,
    name: &'static str,
    found: f64,
    expected: &'static str,
    accepted: impl Fn(f64) -> bool,
) -> Result<(), LossError> {
    if found.is_finite() && accepted(found) {
        Ok(())
    } else {
        Err(LossError::Parameter {
            op,
            name,
            expected,
            found,
        })
    }
}

/// Refuses a shape other than `expected`.
pub(crate) fn check_shape(
    op: &'static str,
    what: &'static str,
    found: &[usize],
    expected: &[usize],
) -> Result<(), LossError> {
    if found == expected {
        Ok(())
    } else {
        Err(LossError::Shape {
            op,
            what,
            expected: format!("{expected:?}"),
            found: found.to_vec(),
        })
    }
}

/// Refuses a matrix without rows or without columns.
pub(crate) fn check_not_empty(
    op: &'static str,
    what: &'static str,
    found: [usize; 2],
) -> Result<(), LossError> {
    if found[0] > 0 && found[1] > 0 {
        Ok(())
    } else {
        Err(LossError::Shape {
            op,
            what,
            expected: "at least one row and one column".to_owned(),
            found: found.to_vec(),
        })
    }
}

/// Copies a vector to the host and refuses elements that are not finite.
pub(crate) fn read_finite(
    op: &'static str,
    what: &'static str,
    values: &Tensor<1>,
) -> Result<Vec<f32>, LossError> {
    let host = read(op, what, values)?;
    match host.iter().position(|value| !value.is_finite()) {
        None => Ok(host),
        Some(row) => Err(LossError::Value {
            op,
            what,
            row,
            column: 0,
            expected: "a finite number".to_owned(),
            found: f64::from(host[row]),
        }),
    }
}

/// Copies a tensor to the host.
pub(crate) fn read<const D: usize>(
    op: &'static str,
    what: &'static str,
    values: &Tensor<D>,
) -> Result<Vec<f32>, LossError> {
    let host = values.try_to_vec_as::<f32>();
    host.map_err(|source| LossError::Read { op, what, source })
}

/// Refuses a number of things below `least`.
pub(crate) fn check_count(
    op: &'static str,
    what: &'static str,
    found: usize,
    least: usize,
) -> Result<(), LossError> {
    if found >= least {
        Ok(())
    } else {
        Err(LossError::Count {
            op,
            what,
            expected: format!("at least {least}"),
            found,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn messages_name_operation_expected_and_found() {
        let shape = check_shape("star", "queries", &[2, 3], &[2, 4]);
        assert_eq!(
            shape.map_err(|e| e.to_string()),
            Err("star: queries has shape [2, 3], expected [2, 4]".to_owned())
        );
        let parameter = check_parameter("star", "temperature", -1.0, "> 0", |v| v > 0.0);
        assert_eq!(
            parameter.map_err(|e| e.to_string()),
            Err("star: parameter `temperature` is -1, expected > 0".to_owned())
        );
    }

    #[test]
    fn a_parameter_that_is_not_finite_is_refused_whatever_the_range() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(check_parameter("op", "x", value, "any", |_| true).is_err());
        }
    }

    #[test]
    fn a_matrix_without_rows_or_columns_is_refused() {
        assert!(check_not_empty("op", "x", [0, 3]).is_err());
        assert!(check_not_empty("op", "x", [3, 0]).is_err());
        assert!(check_not_empty("op", "x", [1, 1]).is_ok());
    }

    #[test]
    fn too_few_things_and_values_that_are_not_finite_are_refused() {
        assert!(check_count("op", "levels", 2, 2).is_ok());
        assert_eq!(
            check_count("op", "levels", 1, 2).unwrap_err().to_string(),
            "op: levels: found 1, expected at least 2"
        );
        let values = Tensor::<1>::from_floats([1.0, f32::INFINITY, f32::NAN], &Device::flex());
        assert_eq!(
            read_finite("op", "labels", &values)
                .unwrap_err()
                .to_string(),
            "op: labels at row 1, column 0 is inf, expected a finite number"
        );
    }
}
