//! What a file of texts is for, judged by its name and its columns.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::DatasetError;
use crate::records::{Layout, column, for_each_record};
use crate::table::{Limits, TextFile};

/// Kinds of files that loaders of this crate read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// [`crate::load_sentences`]: sentences, pairs or triplets by position.
    Sentences,
    /// [`crate::load_ngcse`].
    Ngcse,
    /// [`crate::load_nli`].
    Nli,
    /// [`crate::load_scored`].
    Scored,
    /// [`crate::load_pairs`].
    Retrieval,
}

/// The kind of a file: `sentence` with `split` is NGCSE, `query` with `document` retrieval, two
/// sentences with a `score` are scored pairs, with a `label` or `gold_label` NLI, anything else
/// sentences.
///
/// # Errors
/// [`DatasetError`] if the file cannot be read record by record.
///
/// ```
/// use datasets::kind::{FileKind, file_kind};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("dev.tsv");
/// std::fs::write(&path, "label\tpremise\thypothesis\nneutral\tA.\tB.\n")?;
/// assert_eq!(file_kind(&path, Default::default())?, FileKind::Nli);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn file_kind(path: &Path, limits: Limits) -> Result<FileKind, DatasetError> {
    let layout = Layout::of(path)?;
    if layout == Layout::Lines {
        return Ok(FileKind::Sentences);
    }
    let file = TextFile::read(path, limits)?;
    let mut kind = FileKind::Sentences;
    let header = |names: &[String]| {
        let has = |accepted: &[&str]| column(names, accepted).is_some();
        let pair = has(&["premise", "sentence1"]) && has(&["hypothesis", "sentence2"]);
        kind = if layout == Layout::Json && has(&["sentence"]) && has(&["split"]) {
            FileKind::Ngcse
        } else if has(&["query"]) && has(&["document"]) {
            FileKind::Retrieval
        } else if pair && has(&["score"]) {
            FileKind::Scored
        } else if pair && has(&["label", "gold_label"]) {
            FileKind::Nli
        } else {
            FileKind::Sentences
        };
        Ok(())
    };
    match for_each_record(&file, layout, limits, header, |(), _| Ok(())) {
        // Its rows may differ in their keys; the loader of that format says which must not.
        Err(DatasetError::Field { .. }) if kind == FileKind::Ngcse => Ok(kind),
        other => other.map(|_| kind),
    }
}
