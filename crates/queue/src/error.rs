//! The typed errors of this crate.

use thiserror::Error;

/// What every fallible function of this crate returns.
pub type Result<T, E = QueueError> = std::result::Result<T, E>;

/// Why an operation on a bank, a module or a neighbour list was refused.
///
/// Every variant names the operation, what it expected and what it found. Inputs are checked before
/// anything is changed, so a failed call leaves its object as it was.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum QueueError {
    /// A sample id does not exist.
    #[error("{operation}: expected an id below {rows}, found {id}")]
    IdOutOfRange {
        /// The operation that was asked for.
        operation: &'static str,
        /// The id that was given.
        id: usize,
        /// How many samples there are.
        rows: usize,
    },
    /// One update names the same slot twice, so its result would depend on an order.
    #[error("{operation}: expected distinct ids, found {id} more than once")]
    DuplicateId {
        /// The operation that was asked for.
        operation: &'static str,
        /// The repeated id.
        id: usize,
    },
    /// Lengths, shapes or element types do not fit together.
    #[error("{operation}: expected {what} {expected}, found {found}")]
    Shape {
        /// The operation that was asked for.
        operation: &'static str,
        /// What was measured.
        what: &'static str,
        /// The size that fits.
        expected: String,
        /// The size that was given.
        found: String,
    },
    /// A vector holds a NaN, an infinity, or values so large that a dot product overflows.
    #[error(
        "{operation}: expected finite values and dot products, found {value} at row {row}, column {column}"
    )]
    NotFinite {
        /// The operation that was asked for.
        operation: &'static str,
        /// The first offending row.
        row: usize,
        /// The first offending column of that row.
        column: usize,
        /// The offending value.
        value: f32,
    },
    /// A value is too large for a bank that stores its rows in f16.
    #[error(
        "{operation}: expected values below 65520 in magnitude for f16 storage, found {value} at row {row}, column {column}"
    )]
    TooLargeForHalf {
        /// The operation that was asked for.
        operation: &'static str,
        /// The first offending row.
        row: usize,
        /// The first offending column of that row.
        column: usize,
        /// The offending value.
        value: f32,
    },
    /// An index over unit vectors was given a row of another length.
    #[error("{operation}: expected rows of length 1, found length {norm} at row {row}")]
    NotUnit {
        /// The operation that was asked for.
        operation: &'static str,
        /// The first offending row.
        row: usize,
        /// Its Euclidean length.
        norm: f32,
    },
    /// A setting lies outside its range.
    #[error("{parameter}: expected {expected}, found {found}")]
    InvalidParameter {
        /// The setting.
        parameter: &'static str,
        /// The range it must lie in.
        expected: String,
        /// The value that was given.
        found: String,
    },
    /// More neighbours were asked for than there are samples.
    #[error(
        "nearest neighbours: expected lists of at most {rows} ids, one for each sample, found {wanted} (k + 1 where the sample itself is listed)"
    )]
    TooFewRows {
        /// Length of the lists that were asked for: k + 1 where the sample itself is listed, else k.
        wanted: usize,
        /// How many samples there are.
        rows: usize,
    },
    /// The momentum module and the online module are not built alike.
    #[error("update_momentum: parameter `{path}`: expected {expected}, found {found}")]
    ParameterMismatch {
        /// Path of the parameter inside the module.
        path: String,
        /// What the momentum module holds.
        expected: String,
        /// What the online module holds.
        found: String,
    },
    /// Targets were asked for before the first refresh.
    #[error("policy `{policy}`: expected a refresh before the first targets, found no lists")]
    NotRefreshed {
        /// The policy.
        policy: &'static str,
    },
    /// The policy needs cluster assignments and got none.
    #[error("policy `{policy}`: expected cluster assignments and centroids, found none")]
    MissingClusters {
        /// The policy.
        policy: &'static str,
    },
    /// Saved lists do not belong to this policy or are damaged.
    #[error("policy `{policy}`: cannot restore lists: expected {what} {expected}, found {found}")]
    State {
        /// The policy that was asked to restore.
        policy: &'static str,
        /// What was checked.
        what: &'static str,
        /// The value that fits.
        expected: String,
        /// The value in the saved lists.
        found: String,
    },
    /// The device could not deliver its data.
    #[error("{operation}: reading from the device failed: {message}")]
    Device {
        /// The operation that was asked for.
        operation: &'static str,
        /// The message of the backend.
        message: String,
    },
}

impl QueueError {
    pub(crate) fn shape(
        operation: &'static str,
        what: &'static str,
        expected: impl std::fmt::Debug,
        found: impl std::fmt::Debug,
    ) -> Self {
        Self::Shape {
            operation,
            what,
            expected: format!("{expected:?}"),
            found: format!("{found:?}"),
        }
    }

    pub(crate) fn parameter(
        parameter: &'static str,
        expected: impl Into<String>,
        found: impl std::fmt::Display,
    ) -> Self {
        Self::InvalidParameter {
            parameter,
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    pub(crate) fn device(operation: &'static str, error: impl std::fmt::Display) -> Self {
        Self::Device {
            operation,
            message: error.to_string(),
        }
    }
}
