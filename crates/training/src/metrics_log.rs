//! `metrics.jsonl`: one JSON object per logged step.
//!
//! A checkpoint records how many lines there were; resuming shortens the file to that count, so a
//! resumed run ends with the same file as one that was never stopped. For that to hold byte by byte
//! nothing that depends on the clock may be logged: times belong into `result.json`.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, FileOperation, Result, file_error};
use crate::file_layer::{AppendFile, DiskLayer, FileLayer};

/// Appends lines to `metrics.jsonl`.
pub struct MetricsLog {
    path: PathBuf,
    file: Box<dyn AppendFile>,
    lines: u64,
}

impl std::fmt::Debug for MetricsLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetricsLog")
            .field("path", &self.path)
            .field("lines", &self.lines)
            .finish_non_exhaustive()
    }
}

impl MetricsLog {
    /// Opens the file for the continuation after `lines` lines (0 for a new run); anything behind
    /// them is cut off, an unfinished last line included.
    ///
    /// # Errors
    /// [`Error::MetricsTooShort`] if the file has fewer complete lines, [`Error::File`] otherwise.
    pub fn open(path: impl Into<PathBuf>, lines: u64) -> Result<Self> {
        Self::open_with(&DiskLayer, path, lines)
    }

    /// The same through another file layer.
    ///
    /// # Errors
    /// As there.
    pub fn open_with(layer: &dyn FileLayer, path: impl Into<PathBuf>, lines: u64) -> Result<Self> {
        let path = path.into();
        let keep = match lines {
            0 => 0,
            _ => length_of(layer, &path, lines)?,
        };
        let file = layer
            .append_after(&path, keep)
            .map_err(file_error(FileOperation::Append, &path))?;
        Ok(Self { path, file, lines })
    }

    /// Appends one object as a line, in one write.
    ///
    /// # Errors
    /// [`Error::Json`] if the value has no JSON form, [`Error::File`] if it cannot be written.
    pub fn append<T: Serialize>(&mut self, value: &T) -> Result<()> {
        let mut line = serde_json::to_vec(value).map_err(|source| Error::Json {
            operation: "write a line of metrics",
            source,
        })?;
        line.push(b'\n');
        self.file
            .append(&line)
            .map_err(file_error(FileOperation::Write, &self.path))?;
        self.lines += 1;
        Ok(())
    }

    /// Lines written so far, those of earlier sessions included.
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    /// Flushes to the disk. A checkpoint that counts these lines must come after.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn sync(&self) -> Result<()> {
        self.file
            .sync()
            .map_err(file_error(FileOperation::Sync, &self.path))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Bytes of the first `lines` lines.
fn length_of(layer: &dyn FileLayer, path: &Path, lines: u64) -> Result<u64> {
    let bytes = match layer.read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(file_error(FileOperation::Read, path))?,
    };
    let (mut found, mut keep) = (0, 0);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if found == lines || line.last() != Some(&b'\n') {
            break;
        }
        found += 1;
        keep += line.len() as u64;
    }
    if found < lines {
        return Err(Error::MetricsTooShort {
            path: path.to_owned(),
            expected: lines,
            found,
        });
    }
    Ok(keep)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_resumed_log_equals_an_undisturbed_one() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let line = |i: u64| json!({"step": i, "loss": 1.0 / (i + 1) as f64});
        let mut straight = MetricsLog::open(&a, 0).unwrap();
        (0..6).for_each(|i| straight.append(&line(i)).unwrap());

        let mut killed = MetricsLog::open(&b, 0).unwrap();
        (0..5).for_each(|i| killed.append(&line(i)).unwrap());
        drop(killed);
        // Killed in the middle of a line, checkpoint after line 3.
        let mut bytes = fs::read(&b).unwrap();
        bytes.truncate(bytes.len() - 3);
        fs::write(&b, bytes).unwrap();
        let mut resumed = MetricsLog::open(&b, 3).unwrap();
        assert_eq!(resumed.lines(), 3);
        (3..6).for_each(|i| resumed.append(&line(i)).unwrap());
        resumed.sync().unwrap();
        assert_eq!(resumed.lines(), 6);
        assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    }

    #[test]
    fn a_lost_line_is_an_error_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        fs::write(&path, "{}\n{}\n{\"unfinished").unwrap();
        let refused = MetricsLog::open(&path, 3);
        assert!(matches!(
            refused,
            Err(Error::MetricsTooShort {
                expected: 3,
                found: 2,
                ..
            })
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n{}\n{\"unfinished");
    }

    #[test]
    fn an_absent_directory_is_a_typed_error() {
        let dir = tempfile::tempdir().unwrap();
        let refused = MetricsLog::open(dir.path().join("no/where"), 0);
        assert!(matches!(refused, Err(Error::File { .. })));
    }
}
