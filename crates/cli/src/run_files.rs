//! Files of a run directory that `asterism discover` wrote: texts, vectors, map.
//!
//! | file | reader | content |
//! |---|---|---|
//! | `members.jsonl` | [`Members`] | one object a text, in the order of the input |
//! | `vectors.safetensors` | [`Vectors`] | `vectors` `[texts, dim]`, unit length |
//! | `map.json` | [`MapFile`] | two coordinates a text |
//!
//! The catalogue `categories.json` is read by the crate `categories`.

use std::io;
use std::path::{Path, PathBuf};

use encoder::read_safetensors;
pub(crate) use experiments::discover::{MAP, MEMBERS, Member, VECTORS};
use serde::Deserialize;

use crate::error::CliError;
use crate::input::Texts;

/// Value of `schema` in [`MAP`].
const MAP_SCHEMA: &str = "asterism/map/1";
/// Largest difference of a vector's squared length from 1.
const UNIT_TOLERANCE: f64 = 1e-3;
/// Lines that are read at once.
const LINES: usize = 4096;

/// The texts of a run.
#[derive(Debug)]
pub(crate) struct Members {
    /// One a line, row by row.
    pub(crate) rows: Vec<Member>,
}

impl Members {
    /// Reads `members.jsonl` of the run directory `dir`.
    ///
    /// # Errors
    /// [`CliError::NoRun`] without the file, [`CliError::Line`] for a line that is no member or out of
    /// order, [`CliError::Extension`] for a file without lines.
    pub(crate) fn read(dir: &Path) -> Result<Self, CliError> {
        let path = dir.join(MEMBERS);
        let mut lines = Texts::from_file(&path).map_err(absent(dir, MEMBERS))?;
        let mut rows: Vec<Member> = Vec::new();
        loop {
            let group = lines.take(LINES)?;
            if group.is_empty() {
                break;
            }
            for line in group {
                let number = rows.len();
                let bad = |problem: String| CliError::Line {
                    origin: path.display().to_string(),
                    line: number as u64 + 1,
                    problem,
                };
                let member: Member =
                    serde_json::from_str(&line).map_err(|error| bad(error.to_string()))?;
                if member.row != number {
                    return Err(bad(format!("row: expected {number}, found {}", member.row)));
                }
                rows.push(member);
            }
        }
        if rows.is_empty() {
            return Err(CliError::Extension {
                path,
                field: "lines".to_owned(),
                expected: "at least one text".to_owned(),
                found: "an empty file".to_owned(),
            });
        }
        Ok(Self { rows })
    }

    /// How many texts there are; never 0.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}

/// The vectors of the texts of a run.
#[derive(Debug)]
pub(crate) struct Vectors {
    /// Width of a vector.
    pub(crate) dim: usize,
    values: Vec<f32>,
}

impl Vectors {
    /// Reads `vectors.safetensors` of the run directory `dir`, which has `rows` texts.
    ///
    /// # Errors
    /// [`CliError::NoRun`] without the file; [`CliError::Encoder`] for one that is not safetensors or
    /// has values that are not finite; [`CliError::Extension`] for another shape than `[rows, dim]` and
    /// for vectors that are not of unit length.
    pub(crate) fn read(dir: &Path, rows: usize) -> Result<Self, CliError> {
        let path = dir.join(VECTORS);
        if !path.is_file() {
            return Err(no_run(dir, VECTORS));
        }
        let wrong = |field: &str, expected: String, found: String| CliError::Extension {
            path: path.clone(),
            field: field.to_owned(),
            expected,
            found,
        };
        let mut tensors = read_safetensors(&path, false)?;
        let Some(tensor) = tensors.remove("vectors") else {
            let names: Vec<String> = tensors.into_keys().collect();
            return Err(wrong(
                "tensors",
                "`vectors`".to_owned(),
                if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                },
            ));
        };
        let dim = match tensor.shape.as_slice() {
            [found, dim] if *found == rows && *dim > 0 => *dim,
            shape => {
                return Err(wrong(
                    "vectors",
                    format!("shape [{rows}, dim], one row a line of {MEMBERS}"),
                    format!("{shape:?}"),
                ));
            }
        };
        for (row, vector) in tensor.values.chunks_exact(dim).enumerate() {
            let squared: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            if (squared - 1.0).abs() > UNIT_TOLERANCE {
                return Err(wrong(
                    &format!("vectors[{row}]"),
                    "length 1".to_owned(),
                    format!("{:.4}", squared.sqrt()),
                ));
            }
        }
        Ok(Self {
            dim,
            values: tensor.values,
        })
    }

    /// Vector of a text.
    pub(crate) fn row(&self, row: usize) -> Option<&[f32]> {
        self.values.chunks_exact(self.dim).nth(row)
    }

    /// Gives up all values, row after row.
    pub(crate) fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// All values, row after row.
    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }
}

/// Places of the texts of a run in the plane.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct MapFile {
    schema: String,
    rows: usize,
    /// First coordinates.
    pub(crate) x: Vec<f32>,
    /// Second coordinates.
    pub(crate) y: Vec<f32>,
}

impl MapFile {
    /// Reads `map.json` of the run directory `dir`; none where there is no such file.
    ///
    /// # Errors
    /// The file cannot be read, or is no map; a number beyond f32 is none either.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, CliError> {
        let path = dir.join(MAP);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CliError::file("read", path)(error)),
        };
        let wrong = |field: &str, expected: String, found: String| CliError::Extension {
            path: path.clone(),
            field: field.to_owned(),
            expected,
            found,
        };
        let map: Self = serde_json::from_str(&text)
            .map_err(|error| wrong("JSON", "a map".to_owned(), error.to_string()))?;
        if map.schema != MAP_SCHEMA {
            return Err(wrong("schema", MAP_SCHEMA.to_owned(), map.schema));
        }
        for (name, values) in [("x", &map.x), ("y", &map.y)] {
            if values.len() != map.rows {
                return Err(wrong(
                    name,
                    format!("{} numbers", map.rows),
                    values.len().to_string(),
                ));
            }
        }
        Ok(Some(map))
    }

    /// Whether it has a place for every one of `rows` texts. It has not after an update that brought
    /// texts.
    pub(crate) fn fits(&self, rows: usize) -> bool {
        self.rows == rows
    }
}

/// For `map_err`: a file that is not there means that this is not such a run.
fn absent(dir: &Path, file: &'static str) -> impl FnOnce(CliError) -> CliError {
    let dir: PathBuf = dir.to_owned();
    move |error| match error {
        CliError::File { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            no_run(&dir, file)
        }
        error => error,
    }
}

fn no_run(dir: &Path, missing: &'static str) -> CliError {
    CliError::NoRun {
        path: dir.to_owned(),
        missing,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use categories::CategoryId;
    use encoder::{WeightTensor, write_safetensors};

    use super::*;

    const LINE: &str =
        r#"{"row":0,"text":"a","coarse":"c","category":3,"cosine":0.5,"fine":"f","split":"train"}"#;

    fn run(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        dir
    }

    fn vectors(name: &str, shape: &[usize], values: &[f32]) -> tempfile::TempDir {
        let dir = run(&[]);
        let tensor = WeightTensor {
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        let tensors = BTreeMap::from([(name.to_owned(), tensor)]);
        write_safetensors(&dir.path().join(VECTORS), &tensors, None).unwrap();
        dir
    }

    #[test]
    fn members_come_in_order_and_may_lack_labels() {
        let second = r#"{"row":1,"text":"b","category":0,"cosine":1,"split":"update-1"}"#;
        let dir = run(&[(MEMBERS, &format!("{LINE}\n{second}\n"))]);
        let members = Members::read(dir.path()).unwrap();
        assert_eq!(members.len(), 2);
        let [first, second] = &members.rows[..] else {
            unreachable!()
        };
        assert_eq!(
            (first.category, first.fine.as_deref()),
            (CategoryId(3), Some("f"))
        );
        assert_eq!((&second.coarse, &second.fine), (&None, &None));
        assert_eq!(second.split, "update-1");
    }

    #[test]
    fn broken_members_are_named_with_their_line() {
        let dir = run(&[]);
        let error = Members::read(dir.path()).unwrap_err();
        assert!(
            error.to_string().contains("has no members.jsonl"),
            "{error}"
        );
        for (content, message) in [
            (String::new(), "lines: expected at least one text"),
            (format!("{LINE}\n{LINE}\n"), ":2: row: expected 1, found 0"),
            (format!("{LINE}\n{{\n"), ":2: EOF"),
            (
                LINE.replace("\"text\":\"a\",", ""),
                ":1: missing field `text`",
            ),
            (LINE.replace(":3,", ":-3,"), ":1: invalid value"),
        ] {
            let dir = run(&[(MEMBERS, &content)]);
            let error = Members::read(dir.path()).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn vectors_are_unit_rows_one_a_text() {
        let dir = vectors("vectors", &[2, 2], &[1.0, 0.0, 0.6, 0.8]);
        let read = Vectors::read(dir.path(), 2).unwrap();
        assert_eq!((read.dim, read.row(1)), (2, Some(&[0.6, 0.8][..])));
        assert_eq!((read.row(2), read.values().len()), (None, 4));
        let error = Vectors::read(dir.path(), 3).unwrap_err().to_string();
        assert!(error.contains("expected shape [3, dim]"), "{error}");

        let dir = vectors("vectors", &[1, 2], &[1.0, 0.1]);
        let error = Vectors::read(dir.path(), 1).unwrap_err().to_string();
        assert!(
            error.contains("vectors[0]: expected length 1, found 1.0050"),
            "{error}"
        );
        let dir = vectors("other", &[1, 1], &[1.0]);
        let error = Vectors::read(dir.path(), 1).unwrap_err().to_string();
        assert!(error.contains("expected `vectors`, found other"), "{error}");
        let dir = vectors("vectors", &[1, 1], &[f32::NAN]);
        assert!(Vectors::read(dir.path(), 1).is_err());
        let dir = run(&[(VECTORS, "no")]);
        assert!(Vectors::read(dir.path(), 1).is_err());
        let error = Vectors::read(run(&[]).path(), 1).unwrap_err();
        assert!(matches!(error, CliError::NoRun { .. }), "{error}");
    }

    #[test]
    fn a_map_is_optional_but_must_be_one() {
        assert_eq!(MapFile::read(run(&[]).path()).unwrap(), None);
        let good = r#"{"schema":"asterism/map/1","rows":2,"x":[0,1],"y":[2,3.5],"seed":4}"#;
        let map = MapFile::read(run(&[(MAP, good)]).path()).unwrap().unwrap();
        assert_eq!((&map.x[..], &map.y[..]), (&[0.0, 1.0][..], &[2.0, 3.5][..]));
        assert!(map.fits(2) && !map.fits(3));
        for (content, message) in [
            ("{", "JSON: expected a map"),
            (
                &good.replace("map/1", "map/2"),
                "schema: expected asterism/map/1, found asterism/map/2",
            ),
            (
                &good.replace("[0,1]", "[0]"),
                "x: expected 2 numbers, found 1",
            ),
            (
                &good.replace("3.5", "1e99"),
                "JSON: expected a map, found number out of range",
            ),
        ] {
            let error = MapFile::read(run(&[(MAP, content)]).path())
                .unwrap_err()
                .to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
