//! The error of every operation in this crate.

use thiserror::Error;

/// What can be wrong with points, parameters or labels.
///
/// Every variant names the operation, what it expected and what it found.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ClusteringError {
    /// There are no rows or no columns.
    #[error(
        "{operation}: expected at least one row and one column, found {rows} rows and {dim} columns"
    )]
    Empty {
        /// The operation that was asked for.
        operation: &'static str,
        /// Number of rows found.
        rows: usize,
        /// Number of columns found.
        dim: usize,
    },
    /// An entry is NaN or infinite.
    #[error("{operation}: expected finite numbers, found {value} at row {row}, column {column}")]
    NonFinite {
        /// The operation that was asked for.
        operation: &'static str,
        /// Row of the first such entry.
        row: usize,
        /// Column of the first such entry.
        column: usize,
        /// The entry.
        value: f32,
    },
    /// More clusters than rows were asked for.
    #[error(
        "{operation}: expected at most as many clusters as rows, found {k} clusters for {rows} rows"
    )]
    TooManyClusters {
        /// The operation that was asked for.
        operation: &'static str,
        /// Number of clusters asked for.
        k: usize,
        /// Number of rows found.
        rows: usize,
    },
    /// The operation needs more rows.
    #[error("{operation}: expected at least {needed} rows, found {found}")]
    TooFewRows {
        /// The operation that was asked for.
        operation: &'static str,
        /// Rows needed.
        needed: usize,
        /// Rows found.
        found: usize,
    },
    /// A parameter is outside its range.
    #[error("{operation}: parameter `{parameter}` must be {expected}, found {found}")]
    InvalidParameter {
        /// The operation that was asked for.
        operation: &'static str,
        /// Name of the parameter.
        parameter: &'static str,
        /// The allowed range in words.
        expected: &'static str,
        /// The value found.
        found: String,
    },
    /// Two inputs that belong together have different lengths.
    #[error("{operation}: expected {expected} {what}, found {found}")]
    LengthMismatch {
        /// The operation that was asked for.
        operation: &'static str,
        /// What was counted.
        what: &'static str,
        /// Number expected.
        expected: usize,
        /// Number found.
        found: usize,
    },
    /// A vector has the wrong number of entries.
    #[error("{operation}: expected vectors of dimension {expected}, found {found}")]
    DimensionMismatch {
        /// The operation that was asked for.
        operation: &'static str,
        /// Dimension expected.
        expected: usize,
        /// Dimension found.
        found: usize,
    },
    /// A label or candidate id is not below the number of clusters.
    #[error("{operation}: expected ids below {k}, found {id} at position {position}")]
    IdOutOfRange {
        /// The operation that was asked for.
        operation: &'static str,
        /// Number of clusters.
        k: usize,
        /// The id found.
        id: usize,
        /// Where it was found.
        position: usize,
    },
    /// The algorithm ran but could not produce a result on these points.
    #[error("{operation}: no result on {rows} points of dimension {dim}: {reason}")]
    NoResult {
        /// The operation that was asked for.
        operation: &'static str,
        /// Number of points.
        rows: usize,
        /// Their dimension.
        dim: usize,
        /// Why, in the words of the algorithm.
        reason: String,
    },
}

impl ClusteringError {
    /// True if a parameter, not the data, has to be changed.
    pub fn is_parameter(&self) -> bool {
        matches!(
            self,
            Self::InvalidParameter { .. } | Self::TooManyClusters { .. }
        )
    }
}

/// Shorthand for a parameter outside its range.
pub(crate) fn invalid(
    operation: &'static str,
    parameter: &'static str,
    expected: &'static str,
    found: impl ToString,
) -> ClusteringError {
    ClusteringError::InvalidParameter {
        operation,
        parameter,
        expected,
        found: found.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_operation_expected_and_found() {
        let error = invalid("k-means", "k", "at least 1", 0);
        assert_eq!(
            error.to_string(),
            "k-means: parameter `k` must be at least 1, found 0"
        );
        assert!(error.is_parameter());
        let error = ClusteringError::NonFinite {
            operation: "pca",
            row: 3,
            column: 1,
            value: f32::INFINITY,
        };
        assert_eq!(
            error.to_string(),
            "pca: expected finite numbers, found inf at row 3, column 1"
        );
        assert!(!error.is_parameter());
    }

    #[test]
    fn errors_cross_threads() {
        fn check<T: Send + Sync + Unpin + 'static>() {}
        check::<ClusteringError>();
    }
}
