//! Named columns of a table of any form, as they stand in the file.
//!
//! For programs whose user says which column is which: nothing is renamed, derived or left out
//! here. A value is text or a number (taken as it is written); empty ones and `null` are `None`.

use std::path::Path;

use crate::error::DatasetError;
use crate::records::{Layout, Object, column, for_each_object, for_each_record};
use crate::table::{Limits, TextFile, header_error, json_kind};

/// A column to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedColumn<'a> {
    /// Name in the header; key of JSON objects.
    pub name: &'a str,
    /// Whether a file without it is an error.
    pub required: bool,
}

/// Values of a column, one a row.
pub type ColumnValues = Vec<Option<String>>;

/// What [`load_text_columns`] read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextColumns {
    /// Line on which each row starts, from 1 with the header.
    pub lines: Vec<u64>,
    /// The columns in the order asked for; `None` for one that the file does not have.
    pub columns: Vec<Option<ColumnValues>>,
    /// SHA-256 of the bytes on disk.
    pub sha256: String,
    /// Size on disk in bytes (compressed if it is).
    pub bytes: u64,
}

/// Reads columns of a `.tsv` (no quoting), `.csv`, `.jsonl` or `.json` file, with or without `.gz`.
///
/// The objects of a JSON file may have different keys; a column is there if one of them has it.
///
/// # Errors
/// [`DatasetError`]: an unreadable file, one without rows, ragged rows, a required column that is
/// not there (the message lists those that are), a value that is neither text nor a number.
///
/// ```
/// use datasets::{Limits, WantedColumn, load_text_columns};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("notes.csv");
/// std::fs::write(&path, "id,note,area\n7,\"late, again\",parcels\n8,,cards\n")?;
/// let wanted = |name, required| WantedColumn { name, required };
/// let read = load_text_columns(&path, &[wanted("note", true), wanted("fine", false)], Limits::default())?;
/// assert_eq!(read.columns[0], Some(vec![Some("late, again".to_owned()), None]));
/// assert_eq!(read.columns[1], None);
/// assert_eq!(read.lines, [2, 3]);
/// let error = load_text_columns(&path, &[wanted("text", true)], Limits::default()).unwrap_err();
/// assert!(error.to_string().contains("id, note, area"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load_text_columns(
    path: &Path,
    wanted: &[WantedColumn<'_>],
    limits: Limits,
) -> Result<TextColumns, DatasetError> {
    let layout = Layout::of_table(path)?;
    let file = TextFile::read(path, limits)?;
    let mut lines = Vec::new();
    let mut columns: Vec<Option<ColumnValues>> = vec![None; wanted.len()];
    if layout == Layout::Json {
        json_columns(&file, wanted, &mut lines, &mut columns)?;
    } else {
        let header = |names: &[String]| {
            let places: Vec<Option<usize>> = wanted
                .iter()
                .map(|wanted| column(names, &[wanted.name]))
                .collect();
            check(
                &file,
                wanted,
                |at| places.get(at).is_some_and(Option::is_some),
                names,
            )?;
            Ok(places)
        };
        for_each_record(&file, layout, limits, header, |places, record| {
            lines.push(record.line);
            for (values, place) in columns.iter_mut().zip(places) {
                if let Some(place) = place {
                    let value = record.value(*place)?.map(str::to_owned);
                    values.get_or_insert_default().push(value);
                }
            }
            Ok(())
        })?;
    }
    Ok(TextColumns {
        lines,
        columns,
        sha256: file.sha256,
        bytes: file.bytes,
    })
}

/// Objects may differ in their keys, so a column counts as absent only after the last of them.
fn json_columns(
    file: &TextFile,
    wanted: &[WantedColumn<'_>],
    lines: &mut Vec<u64>,
    columns: &mut [Option<ColumnValues>],
) -> Result<(), DatasetError> {
    let mut names: Vec<String> = Vec::new();
    for_each_object(file, |line, _, object| {
        for (values, wanted) in columns.iter_mut().zip(wanted) {
            if object.contains_key(wanted.name) {
                let values = values.get_or_insert_default();
                values.resize(lines.len(), None);
                values.push(json_value(file, line, wanted.name, &object)?);
            }
        }
        names.extend(
            object
                .into_iter()
                .map(|(key, _)| key)
                .filter(|key| !names.contains(key))
                .collect::<Vec<_>>(),
        );
        lines.push(line);
        Ok(())
    })?;
    for values in columns.iter_mut().flatten() {
        values.resize(lines.len(), None);
    }
    check(
        file,
        wanted,
        |at| columns.get(at).is_some_and(Option::is_some),
        &names,
    )
}

fn json_value(
    file: &TextFile,
    line: u64,
    name: &str,
    object: &Object,
) -> Result<Option<String>, DatasetError> {
    use serde_json::Value;
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
        }
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        other => Err(DatasetError::Field {
            path: file.path.clone(),
            line,
            field: name.to_owned(),
            expected: "a string or a number",
            found: json_kind(other),
        }),
    }
}

/// An error for the first required column that is not there.
fn check(
    file: &TextFile,
    wanted: &[WantedColumn<'_>],
    found: impl Fn(usize) -> bool,
    names: &[String],
) -> Result<(), DatasetError> {
    let missing = (0..)
        .zip(wanted)
        .find(|(at, wanted)| wanted.required && !found(*at));
    match missing {
        None => Ok(()),
        Some((_, wanted)) => {
            let expected = format!("a column `{}`", wanted.name);
            Err(header_error(file, &expected, &names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const COARSE: WantedColumn<'_> = WantedColumn {
        name: "coarse",
        required: false,
    };
    const TEXT: WantedColumn<'_> = WantedColumn {
        name: "text",
        required: true,
    };

    fn read(name: &str, content: &str) -> Result<TextColumns, DatasetError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        load_text_columns(&path, &[TEXT, COARSE], Limits::default())
    }

    fn some(values: &[&str]) -> Option<ColumnValues> {
        let value = |text: &&str| Some((*text).to_owned()).filter(|text| !text.is_empty());
        Some(values.iter().map(value).collect())
    }

    #[test]
    fn every_form_gives_the_same_columns() {
        for (name, content) in [
            ("a.tsv", "coarse\ttext\nx\t\"quoted\n\tb\n"),
            ("a.csv", "coarse,text\nx,\"\"\"quoted\"\n,b\n"),
            (
                "a.jsonl",
                "{\"coarse\":\"x\",\"text\":\"\\\"quoted\"}\n{\"text\":\"b\",\"more\":[1]}\n",
            ),
            (
                "a.json",
                "[{\"coarse\":\"x\",\"text\":\"\\\"quoted\"},\n{\"text\":\"b\",\"coarse\":null}]",
            ),
        ] {
            let read = read(name, content).unwrap();
            assert_eq!(
                read.columns,
                [some(&["\"quoted", "b"]), some(&["x", ""])],
                "{name}"
            );
            assert_eq!(read.lines.len(), 2);
            assert_eq!(read.sha256.len(), 64);
        }
    }

    #[test]
    fn a_key_that_only_later_objects_have_is_a_column() {
        let read = read(
            "a.jsonl",
            "{\"text\":\"a\"}\n\n{\"text\":\"b\",\"coarse\":5}\n{\"text\":\"c\"}\n",
        )
        .unwrap();
        assert_eq!(read.columns[1], some(&["", "5", ""]));
        assert_eq!(read.lines, [1, 3, 4]);
    }

    #[test]
    fn absent_columns_are_told_from_empty_ones() {
        let read = read("a.csv", "text\na\n").unwrap();
        assert_eq!(read.columns, [some(&["a"]), None]);
        for (name, content) in [
            ("a.tsv", "txt\tcoarse\na\tb\n"),
            ("a.jsonl", "{\"txt\":\"a\",\"coarse\":\"b\"}\n"),
        ] {
            let error = super::tests::read(name, content).unwrap_err().to_string();
            assert!(
                error.contains("txt, coarse") || error.contains("coarse, txt"),
                "{error}"
            );
            assert!(error.contains("a column `text`"), "{error}");
        }
    }

    #[test]
    fn what_is_neither_text_nor_number_names_line_and_field() {
        let error = read("a.jsonl", "{\"text\":\"a\"}\n{\"text\":[]}\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains(":2") && error.contains("text"), "{error}");
        assert!(read("a.csv", "").is_err());
        assert!(read("a.csv", "text\n").is_err());
        assert!(read("a.xyz", "text\na\n").is_err());
    }
}
