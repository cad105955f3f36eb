//! A file of sentences to train on, compared with the texts of the evaluation.

use std::path::Path;

use datasets::leakage::LeakBy;
use datasets::{LeakIndex, SentenceOptions, load_sentences};

use super::file_name;
use crate::error::RunError;

/// Texts of a file with what is to be said of them.
pub(crate) struct SentenceFile {
    /// One to three columns: sentence, positive, hard negative.
    pub(crate) columns: Vec<Vec<String>>,
    /// Name of the file.
    pub(crate) name: String,
    /// SHA-256 of the file.
    pub(crate) sha256: String,
    /// What the loader saw, which evaluation texts occur, how many rows were dropped for it.
    pub(crate) notes: Vec<String>,
}

impl SentenceFile {
    /// Reads a file; with `drop_leaks` without the rows that share a text with an evaluation set.
    ///
    /// # Errors
    ///
    /// A file that cannot be read as sentences.
    pub(crate) fn load(path: &Path, leaks: &LeakIndex, drop_leaks: bool) -> Result<Self, RunError> {
        let mut rows = load_sentences(path, &SentenceOptions::default())?;
        let mut notes = vec![rows.report.to_string()];
        let texts = (0..rows.len()).filter_map(|row| rows.texts(row));
        notes.push(leaks.check(texts).to_string());
        if drop_leaks {
            let dropped = rows.retain(|texts| !leaks.leaks(texts, LeakBy::Sentence));
            notes.push(dropped_note(dropped));
        }
        Ok(Self {
            columns: rows.columns().to_vec(),
            name: file_name(path),
            sha256: rows.report.sha256.clone(),
            notes,
        })
    }
}

/// What a run says of rows it left out because of the evaluation.
pub(crate) fn dropped_note(dropped: usize) -> String {
    format!("{dropped} rows with a text of an evaluation set left out")
}
