//! Why a page cannot be made.

use thiserror::Error;

/// Error of [`Explorer::page`](crate::Explorer::page).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExplorerError {
    /// Nothing to show.
    #[error("explorer: expected at least one text, found none")]
    Empty,
    /// A place that is none.
    #[error("explorer: text {row}: expected finite coordinates, found ({x}, {y})")]
    NotFinite {
        /// Number of the text, from 0.
        row: usize,
        /// First coordinate.
        x: f32,
        /// Second coordinate.
        y: f32,
    },
    /// Two categories with one id.
    #[error("explorer: category {id} is there twice")]
    Twice {
        /// The id.
        id: u32,
    },
    /// A text in a category that is not in the list.
    #[error("explorer: text {row}: expected the id of a category in the list, found {id}")]
    UnknownCategory {
        /// Number of the text, from 0.
        row: usize,
        /// The id.
        id: u32,
    },
    /// A second run with another number of texts.
    #[error("explorer: comparison: expected {expected} entries, one a text, found {found}")]
    Comparison {
        /// Texts of the page.
        expected: usize,
        /// Entries of the comparison.
        found: usize,
    },
    /// A text in a category that the second run does not have.
    #[error("explorer: comparison: text {row}: expected a category of that run, found {id}")]
    UnknownCounterpart {
        /// Number of the text, from 0.
        row: usize,
        /// The id.
        id: u32,
    },
    /// The data cannot be written as JSON.
    #[error("explorer: {0}")]
    Json(#[from] serde_json::Error),
}
