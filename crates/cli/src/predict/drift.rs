//! `--drift FILE`: how the answers move away from the texts that the categories were found in.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use categories::CategoryId;
use categories::drift::{Drift, Window};
use serde::Serialize;

use crate::error::CliError;
use crate::rows::parts::write_whole;

/// Windows of so many rows, by the number of the window: row / size.
pub(super) type Windows = BTreeMap<u64, Window>;

/// The file and what belongs into it.
#[derive(Debug)]
pub(super) struct DriftFile {
    pub(super) path: PathBuf,
    /// Rows of a window.
    pub(super) size: u64,
    pub(super) revision: u64,
    pub(super) reference: Window,
    pub(super) windows: Windows,
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    categories_revision: u64,
    /// Rows of a window.
    window: u64,
    reference: Reference,
    whole: Option<Drift>,
    windows: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Reference {
    rows: u64,
    mean_cosine: f64,
}

#[derive(Serialize)]
struct Row<'a> {
    first_row: u64,
    #[serde(flatten)]
    drift: Drift,
    counts: &'a BTreeMap<CategoryId, u64>,
}

/// Adds the counts of one window to another.
fn add(to: &mut Window, from: &Window) {
    for (id, count) in &from.counts {
        *to.counts.entry(*id).or_default() += count;
    }
    to.unknown += from.unknown;
    to.cosine_sum += from.cosine_sum;
}

impl DriftFile {
    /// Adds windows of more rows.
    pub(super) fn add(&mut self, windows: &Windows) {
        for (number, window) in windows {
            add(self.windows.entry(*number).or_default(), window);
        }
    }

    /// Writes the file.
    pub(super) fn write(&self) -> Result<(), CliError> {
        let mut whole = Window::default();
        let mut rows = Vec::new();
        for (number, window) in &self.windows {
            add(&mut whole, window);
            rows.push(Row {
                first_row: number.saturating_mul(self.size),
                drift: window.drift(&self.reference)?,
                counts: &window.counts,
            });
        }
        let known = self.reference.rows();
        let report = Report {
            schema: "asterism/drift/1",
            categories_revision: self.revision,
            window: self.size,
            reference: Reference {
                rows: known,
                mean_cosine: self.reference.cosine_sum / known.max(1) as f64,
            },
            whole: match rows.is_empty() {
                true => None,
                false => Some(whole.drift(&self.reference)?),
            },
            windows: rows,
        };
        write_whole(&self.path, |out| {
            serde_json::to_writer_pretty(&mut *out, &report)?;
            writeln!(out)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn window(counts: &[(u32, u64)], unknown: u64, cosine: f64) -> Window {
        let known: u64 = counts.iter().map(|(_, count)| count).sum();
        Window {
            counts: counts.iter().map(|(id, n)| (CategoryId(*id), *n)).collect(),
            unknown,
            cosine_sum: cosine * known as f64,
        }
    }

    #[test]
    fn windows_add_up_and_are_compared_with_the_reference() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = DriftFile {
            path: dir.path().join("drift.json"),
            size: 10,
            revision: 3,
            reference: window(&[(0, 50), (1, 50)], 0, 0.8),
            windows: Windows::new(),
        };
        let read = |file: &DriftFile| -> Value {
            file.write().unwrap();
            serde_json::from_slice(&std::fs::read(&file.path).unwrap()).unwrap()
        };
        assert_eq!(read(&file)["whole"], Value::Null);
        file.add(&Windows::from([(2, window(&[(0, 2)], 1, 0.5))]));
        file.add(&Windows::from([
            (2, window(&[(0, 3), (1, 4)], 0, 0.9)),
            (3, window(&[(1, 5)], 0, 0.8)),
        ]));
        let found = read(&file);
        assert_eq!(found["reference"], json!({"rows": 100, "mean_cosine": 0.8}));
        let first = &found["windows"][0];
        assert_eq!(first["first_row"], 20);
        assert_eq!(
            (&first["rows"], &first["unknown_rate"]),
            (&json!(10), &json!(0.1))
        );
        assert_eq!(first["counts"], json!({"0": 5, "1": 4}));
        let shift = first["mean_cosine_shift"].as_f64().unwrap();
        assert!((shift - ((1.0 + 6.3) / 9.0 - 0.8)).abs() < 1e-12);
        // All in one of two equal categories.
        let second = &found["windows"][1];
        let divergence = second["jensen_shannon"].as_f64().unwrap();
        let expected = 1.5 - 0.75 * 3.0_f64.log2();
        assert!(
            (divergence - expected).abs() < 1e-12,
            "{divergence} {expected}"
        );
        assert_eq!(found["whole"]["rows"], 15);
    }
}
