//! The error type of this crate.

use thiserror::Error;

/// Why a measure could not be computed.
///
/// Every variant names the operation, what it expected and what it found.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// An input that needs at least one value has none.
    #[error("{operation}: {argument} is empty, expected at least one value")]
    Empty {
        /// The function that was called.
        operation: &'static str,
        /// The argument at fault.
        argument: &'static str,
    },
    /// Two inputs that are read in pairs have different lengths.
    #[error(
        "{operation}: {left} has {left_len} values but {right} has {right_len}, expected equal lengths"
    )]
    LengthMismatch {
        /// The function that was called.
        operation: &'static str,
        /// Name of the first argument.
        left: &'static str,
        /// Length of the first argument.
        left_len: usize,
        /// Name of the second argument.
        right: &'static str,
        /// Length of the second argument.
        right_len: usize,
    },
    /// A NaN or an infinity where a finite number is needed.
    #[error("{operation}: {argument}[{index}] is {value}, expected a finite number")]
    NonFinite {
        /// The function that was called.
        operation: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// Position in the argument's slice.
        index: usize,
        /// The value found.
        value: f64,
    },
    /// A flat matrix whose length does not fit the stated shape.
    #[error("{operation}: {argument} has {found} values, expected {expected}")]
    Shape {
        /// The function that was called.
        operation: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// The length that the shape asks for.
        expected: String,
        /// The length found.
        found: usize,
    },
    /// A parameter outside its domain.
    #[error("{operation}: {parameter} is {found}, expected {expected}")]
    Parameter {
        /// The function that was called.
        operation: &'static str,
        /// The parameter at fault.
        parameter: &'static str,
        /// Its domain.
        expected: &'static str,
        /// The value found.
        found: String,
    },
    /// Fewer rows than the measure needs.
    #[error("{operation}: {argument} has {found} rows, expected at least {expected}")]
    TooFew {
        /// The function that was called.
        operation: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// The smallest number of rows that works.
        expected: usize,
        /// The number of rows found.
        found: usize,
    },
    /// An index that points past the end of what it refers to.
    #[error("{operation}: {argument}[{index}] is {found}, expected an index below {limit}")]
    OutOfRange {
        /// The function that was called.
        operation: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// Position in the argument's slice.
        index: usize,
        /// The value found.
        found: u64,
        /// The first value that is too large.
        limit: u64,
    },
    /// An input beyond the size for which the result is exact or the memory bounded.
    #[error("{operation}: {quantity} is {found}, expected at most {limit}")]
    TooLarge {
        /// The function that was called.
        operation: &'static str,
        /// What is too large.
        quantity: &'static str,
        /// The size found.
        found: u128,
        /// The largest size accepted.
        limit: u128,
    },
    /// Two traces that were not recorded at the same steps.
    #[error(
        "{operation}: point {index} is step {train} in the training trace but step {evaluation} in the evaluation trace, expected equal steps"
    )]
    StepMismatch {
        /// The function that was called.
        operation: &'static str,
        /// Position in both traces.
        index: usize,
        /// Step in the training trace.
        train: u64,
        /// Step in the evaluation trace.
        evaluation: u64,
    },
    /// A measure failed on one named subset of a task.
    #[error("{operation}: subset {name:?}")]
    Subset {
        /// The function that was called.
        operation: &'static str,
        /// The subset's name.
        name: String,
        /// What went wrong there.
        source: Box<MetricsError>,
    },
}

/// Fails unless both lengths agree and are above zero.
pub(crate) fn check_pair(
    operation: &'static str,
    left: (&'static str, usize),
    right: (&'static str, usize),
) -> Result<(), MetricsError> {
    if left.1 != right.1 {
        return Err(MetricsError::LengthMismatch {
            operation,
            left: left.0,
            left_len: left.1,
            right: right.0,
            right_len: right.1,
        });
    }
    if left.1 == 0 {
        return Err(MetricsError::Empty {
            operation,
            argument: left.0,
        });
    }
    Ok(())
}

/// Fails on the first NaN or infinity.
pub(crate) fn check_finite(
    operation: &'static str,
    argument: &'static str,
    values: &[f64],
) -> Result<(), MetricsError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(MetricsError::NonFinite {
            operation,
            argument,
            index,
            value: values[index],
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn messages_name_operation_expected_and_found() {
        let error = check_pair("pearson", ("x", 2), ("y", 3)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "pearson: x has 2 values but y has 3, expected equal lengths"
        );
        let error = check_pair("pearson", ("x", 0), ("y", 0)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "pearson: x is empty, expected at least one value"
        );
        let error = check_finite("pearson", "y", &[1.0, f64::NAN]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "pearson: y[1] is NaN, expected a finite number"
        );
    }
}
