//! NGCSE's training format: JSON lines with a sentence and graded companions.
//!
//! Every object has `sentence`, the keys `5`, `4`, ... `0` (5 is closest in meaning) and `split`:
//! `aigen` for generated rows, `other` for the rest. An empty string or an absent key means that the
//! key is not used; `null` is a used key without a text and becomes one space. The texts of a row
//! are `sentence` followed by the used keys from 5 to 0; an `other` row with a sentence alone is
//! paired with itself.
//!
//! The released code takes the used keys of a split from its first row and assumes them for all.
//! Here every row is compared with that first row and a difference is an error;
//! [`NgcseOptions::lenient_keys`] restores the assumption (an absent text becomes one space, a
//! superfluous one is dropped) and reports the rows concerned.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::DatasetError;
use crate::records::{Layout, RowTally, bad_label, for_each_object};
use crate::report::RowsReport;
use crate::sentences::MISSING_NOTE;
use crate::table::{Limits, TextFile, json_kind};

/// Companion keys in the order of the texts of a row.
pub const KEYS: [&str; 6] = ["5", "4", "3", "2", "1", "0"];

/// The note on rows that [`NgcseOptions::lenient_keys`] let through.
pub const KEYS_NOTE: &str = "rows with other keys than the first of their split, made to fit";

/// Where a row comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NgcseSplit {
    /// Written by a language model.
    Generated,
    /// Anything else.
    Other,
}

impl NgcseSplit {
    fn name(self) -> &'static str {
        match self {
            Self::Generated => "aigen",
            Self::Other => "other",
        }
    }
}

/// How to read an NGCSE file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NgcseOptions {
    /// Makes rows fit the keys of the first row of their split instead of failing.
    pub lenient_keys: bool,
    /// Memory limits.
    pub limits: Limits,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NgcseRow {
    /// Where it comes from.
    pub split: NgcseSplit,
    /// The sentence and its companions; at least 2, the same number in every row of a split.
    pub texts: Vec<String>,
}

/// An NGCSE file.
#[derive(Debug, Clone, PartialEq)]
pub struct NgcseRows {
    /// Rows in file order.
    pub rows: Vec<NgcseRow>,
    /// Companion keys of the generated rows, from 5 to 0; empty without such rows.
    pub generated_keys: Vec<&'static str>,
    /// Companion keys of the other rows; empty for sentences alone.
    pub other_keys: Vec<&'static str>,
    /// What the loader saw.
    pub report: RowsReport,
}

/// Loads an NGCSE file (`.jsonl` or `.json`, also with `.gz`).
///
/// # Errors
/// [`DatasetError`]: an unreadable file, an object without sentence or split or with a field that is
/// none of the format's, rows of a split with different keys, a generated row without companion.
///
/// ```
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("hybrid.jsonl");
/// std::fs::write(&path, concat!(
///     r#"{"sentence": "A man runs.", "5": "A man moves.", "4": "Nobody runs.", "split": "aigen"}"#, "\n",
///     r#"{"sentence": "It rains.", "split": "other"}"#, "\n",
/// ))?;
/// let data = datasets::load_ngcse(&path, &datasets::NgcseOptions::default())?;
/// assert_eq!(data.generated_keys, ["5", "4"]);
/// assert_eq!(data.rows[1].texts, ["It rains.", "It rains."]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load_ngcse(path: &Path, options: &NgcseOptions) -> Result<NgcseRows, DatasetError> {
    if Layout::of(path)? != Layout::Json {
        return Err(DatasetError::UnknownExtension {
            path: path.to_owned(),
            expected: ".jsonl or .json",
        });
    }
    let file = TextFile::read(path, options.limits)?;
    let mut tally = RowTally::default();
    let mut rows = Vec::new();
    let (mut generated, mut other): (Option<Vec<&'static str>>, Option<Vec<&'static str>>) =
        (None, None);
    let scan = for_each_object(&file, |line, _, object| {
        let sentence = text(&file, line, "sentence", object.get("sentence"))?;
        if let Some(key) = object
            .keys()
            .find(|key| *key != "sentence" && *key != "split" && !KEYS.contains(&key.as_str()))
        {
            return Err(field(
                &file,
                line,
                key,
                "only sentence, 5 to 0 and split",
                object.get(key),
            ));
        }
        let split = match object.get("split") {
            Some(Value::String(name)) if name == "aigen" => NgcseSplit::Generated,
            Some(Value::String(name)) if name == "other" => NgcseSplit::Other,
            Some(Value::String(name)) => {
                return Err(bad_label(path, line, name, "`aigen` or `other`"));
            }
            value => return Err(field(&file, line, "split", "`aigen` or `other`", value)),
        };
        let used = used_keys(&object);
        let known = match split {
            NgcseSplit::Generated => &mut generated,
            NgcseSplit::Other => &mut other,
        };
        let expected = known.get_or_insert_with(|| used.clone());
        if split == NgcseSplit::Generated && expected.is_empty() {
            return Err(DatasetError::PairsNeeded {
                path: path.to_owned(),
                line,
                found: 1,
                needed: "generated pairs (sentence and at least one of the keys 5 to 0)",
            });
        }
        if used != *expected {
            if !options.lenient_keys {
                return Err(DatasetError::RowKeys {
                    path: path.to_owned(),
                    line,
                    split: split.name(),
                    expected: key_list(expected),
                    found: key_list(&used),
                });
            }
            tally.note(KEYS_NOTE, false, line);
        }
        let mut texts = vec![sentence.unwrap_or_else(|| " ".to_owned())];
        let mut missing = object.get("sentence") == Some(&Value::Null);
        for key in expected.iter() {
            let found = text(&file, line, key, object.get(*key))?;
            missing |= found.is_none();
            texts.push(found.unwrap_or_else(|| " ".to_owned()));
        }
        if missing {
            tally.note(MISSING_NOTE, false, line);
        }
        let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
        tally.keep(&borrowed, split.name());
        if let [only] = &texts[..] {
            texts.push(only.clone());
        }
        rows.push(NgcseRow { split, texts });
        Ok(())
    })?;
    Ok(NgcseRows {
        rows,
        generated_keys: generated.unwrap_or_default(),
        other_keys: other.unwrap_or_default(),
        report: tally.finish(file, scan)?,
    })
}

/// Keys whose value is neither absent nor an empty string.
fn used_keys(object: &Map<String, Value>) -> Vec<&'static str> {
    KEYS.into_iter()
        .filter(|key| match object.get(*key) {
            None => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
        })
        .collect()
}

fn key_list(keys: &[&str]) -> String {
    if keys.is_empty() {
        "none".to_owned()
    } else {
        keys.join(", ")
    }
}

/// A text, or `None` where it is `null`, empty or an absent companion. The sentence must be there.
fn text(
    file: &TextFile,
    line: u64,
    name: &str,
    value: Option<&Value>,
) -> Result<Option<String>, DatasetError> {
    match value {
        Some(Value::String(text)) if name == "sentence" && text.is_empty() => {
            Err(DatasetError::EmptyText {
                path: file.path.clone(),
                line,
            })
        }
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(Value::Null) => Ok(None),
        None if name != "sentence" => Ok(None),
        other => Err(field(file, line, name, "a string or null", other)),
    }
}

fn field(
    file: &TextFile,
    line: u64,
    name: &str,
    expected: &'static str,
    found: Option<&Value>,
) -> DatasetError {
    DatasetError::Field {
        path: file.path.clone(),
        line,
        field: name.to_owned(),
        expected,
        found: json_kind(found),
    }
}
