//! Batches in an order given by a file, to replay a run of another program.

use std::path::Path;

use crate::error::RunError;

/// Reads a JSON list of index lists into `rows` rows; an empty name stands for no file.
///
/// # Errors
///
/// A file that cannot be read, is no such list, has no batch, an empty one, one with an index twice,
/// or an index past the rows.
pub(crate) fn read(file: &str, rows: usize) -> Result<Option<Vec<Vec<usize>>>, RunError> {
    if file.is_empty() {
        return Ok(None);
    }
    let path = Path::new(file);
    let fail = |message: String| RunError::File {
        path: path.to_owned(),
        message,
    };
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    let order: Vec<Vec<usize>> = serde_json::from_str(&text)
        .map_err(|error| fail(format!("expected a JSON list of index lists: {error}")))?;
    if order.is_empty() {
        return Err(fail("expected at least one batch".into()));
    }
    for (batch, ids) in order.iter().enumerate() {
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        if ids.is_empty() || sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(fail(format!(
                "batch {batch}: expected distinct indices, at least one"
            )));
        }
        if let Some(id) = sorted.last().filter(|id| **id >= rows) {
            return Err(fail(format!(
                "batch {batch}: index {id}, expected below {rows}"
            )));
        }
    }
    Ok(Some(order))
}
