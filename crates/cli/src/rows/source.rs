//! Rows of any form, chunk by chunk.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use columnar::{Column, Reader, Table, Values};
use serde_json::Value;

use crate::error::CliError;
use crate::input::{Lines, MAX_LINE, Texts};
use crate::rows::form::InForm;

/// Bytes of text at which a chunk ends before it has all its rows.
const CHUNK_BYTES: usize = 32 << 20;

/// Name of the column of texts where nobody says another.
pub(crate) const TEXT: &str = "text";

/// Rows that are read, answered and written together.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    /// Row of the input that the first of these is, from 0.
    pub(crate) first_row: u64,
    /// One a row.
    pub(crate) texts: Vec<String>,
    /// One a row where a column of coarse labels was asked for, otherwise none.
    pub(crate) coarse: Vec<Option<String>>,
    /// All columns, where the input has columns.
    table: Option<Table>,
}

impl Chunk {
    /// One row.
    pub(crate) fn of(text: &str) -> Self {
        Self {
            texts: vec![text.to_owned()],
            ..Self::default()
        }
    }

    /// The coarse label of a row, if there is one.
    pub(crate) fn coarse(&self, row: usize) -> Option<&str> {
        self.coarse.get(row)?.as_deref()
    }
}

/// Columns that are read.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The texts.
    pub(crate) text: String,
    /// Their coarse labels.
    pub(crate) coarse: Option<String>,
}

impl Wanted {
    fn names(&self) -> Vec<&str> {
        [Some(&self.text), self.coarse.as_ref()]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect()
    }
}

/// Where rows come from.
pub(crate) struct Source {
    rows: Rows,
    wanted: Wanted,
    /// Rows handed out.
    row: u64,
    /// Bytes read from a file of text, and its size.
    position: Rc<Cell<u64>>,
    size: Option<u64>,
}

type BoxedLines = Lines<Box<dyn BufRead>>;

enum Rows {
    Texts(Texts),
    Tabs {
        lines: BoxedLines,
        places: Places,
    },
    Csv {
        reader: Box<csv::Reader<Limited<Box<dyn BufRead>>>>,
        places: Places,
        origin: String,
    },
    Json(BoxedLines),
    Columns(Box<Reader>),
}

/// Columns of a header.
struct Places {
    text: usize,
    coarse: Option<usize>,
    width: usize,
}

impl Places {
    fn find(header: &[String], wanted: &Wanted, origin: &str) -> Result<Self, CliError> {
        let place = |name: &str| {
            header
                .iter()
                .position(|known| known == name)
                .ok_or_else(|| CliError::Line {
                    origin: origin.to_owned(),
                    line: 1,
                    problem: format!("no column `{name}`; there are: {}", header.join(", ")),
                })
        };
        Ok(Self {
            text: place(&wanted.text)?,
            coarse: wanted.coarse.as_deref().map(place).transpose()?,
            width: header.len(),
        })
    }

    fn row<'a>(
        &self,
        cells: &[&'a str],
        bad: impl Fn(String) -> CliError,
    ) -> Result<(&'a str, Option<&'a str>), CliError> {
        let cell = |at: usize| cells.get(at).copied();
        match (cell(self.text), self.coarse.map(cell)) {
            (Some(text), coarse) if cells.len() == self.width => Ok((text, coarse.flatten())),
            _ => Err(bad(format!(
                "expected {} fields, found {}",
                self.width,
                cells.len()
            ))),
        }
    }
}

impl Source {
    /// Texts that stand for themselves.
    pub(crate) fn texts(texts: Texts) -> Self {
        Self::new(
            Rows::Texts(texts),
            Wanted {
                text: TEXT.to_owned(),
                coarse: None,
            },
        )
    }

    fn new(rows: Rows, wanted: Wanted) -> Self {
        Self {
            rows,
            wanted,
            row: 0,
            position: Rc::default(),
            size: None,
        }
    }

    /// Opens a file, or standard input for `-`. Tables have at most `chunk` rows, except those of an
    /// Arrow stream from standard input, which stay as they were sent. All columns of a table are
    /// read if they are to be written again.
    pub(crate) fn open(
        path: &Path,
        form: InForm,
        wanted: Wanted,
        chunk: usize,
        all_columns: bool,
    ) -> Result<Self, CliError> {
        let standard_input = path == Path::new("-");
        if matches!(form, InForm::Parquet | InForm::Arrow) {
            let reader = match (standard_input, all_columns) {
                (true, _) if form == InForm::Parquet => {
                    return Err(CliError::Option {
                        option: "--in",
                        problem: "a Parquet file is read from its end; standard input has to be \
                                  an Arrow stream: --in-format arrow"
                            .to_owned(),
                    });
                }
                (true, _) => Reader::stream(io::stdin(), "standard input")?,
                (false, true) => Reader::open(path, chunk)?,
                (false, false) => Reader::open_columns(path, &wanted.names(), chunk)?,
            };
            // A column that is missing or no text shows before there is any output.
            for name in wanted.names() {
                reader.empty().optional_texts(name)?;
            }
            return Ok(Self::new(Rows::Columns(Box::new(reader)), wanted));
        }

        let position = Rc::new(Cell::new(0));
        let (reader, origin, size): (Box<dyn BufRead>, _, _) = if standard_input {
            let origin = "standard input".to_owned();
            (Box::new(io::stdin().lock()), origin, None)
        } else {
            let file = File::open(path).map_err(CliError::file("open", path))?;
            let size = file.metadata().map_err(CliError::file("read", path))?.len();
            let counted = Counted {
                inner: file,
                position: position.clone(),
            };
            let reader = BufReader::with_capacity(1 << 16, counted);
            (Box::new(reader), path.display().to_string(), Some(size))
        };
        let rows = match form {
            InForm::Csv => Self::csv(reader, origin, &wanted)?,
            InForm::Tsv => {
                let mut lines = Lines::new(reader, origin.clone());
                let header = lines.read()?.unwrap_or_default();
                let header: Vec<String> = header.split('\t').map(str::to_owned).collect();
                let places = Places::find(&header, &wanted, &origin)?;
                Rows::Tabs { lines, places }
            }
            InForm::Jsonl => Rows::Json(Lines::new(reader, origin)),
            InForm::Txt | InForm::Parquet | InForm::Arrow => {
                if let Some(coarse) = &wanted.coarse {
                    return Err(CliError::Option {
                        option: "--coarse",
                        problem: format!("{origin} has a text a line and no column `{coarse}`"),
                    });
                }
                Rows::Texts(Texts::Lines(Lines::new(reader, origin)))
            }
        };
        Ok(Self {
            position,
            size,
            ..Self::new(rows, wanted)
        })
    }

    fn csv(reader: Box<dyn BufRead>, origin: String, wanted: &Wanted) -> Result<Rows, CliError> {
        let limited = Limited {
            inner: reader,
            left: Rc::new(Cell::new(MAX_LINE)),
        };
        let mut reader = csv::ReaderBuilder::new().from_reader(limited);
        let header = reader
            .headers()
            .map_err(|error| csv_error(&origin, &error))?;
        let header: Vec<String> = header
            .iter()
            .enumerate()
            .map(|(at, name)| match at {
                0 => name.trim_start_matches('\u{feff}').to_owned(),
                _ => name.to_owned(),
            })
            .collect();
        let places = Places::find(&header, wanted, &origin)?;
        Ok(Rows::Csv {
            reader: Box::new(reader),
            places,
            origin,
        })
    }

    /// The next rows, at most `rows` and fewer where they are very long; none at the end.
    pub(crate) fn next(&mut self, rows: usize) -> Result<Option<Chunk>, CliError> {
        let chunk = if let Rows::Columns(reader) = &mut self.rows {
            match reader.next_table()? {
                None => return Ok(None),
                Some(table) => Chunk {
                    first_row: self.row,
                    texts: table.texts(&self.wanted.text)?,
                    coarse: match &self.wanted.coarse {
                        Some(column) => labels(table.optional_texts(column)?),
                        None => Vec::new(),
                    },
                    table: Some(table),
                },
            }
        } else {
            let mut chunk = Chunk {
                first_row: self.row,
                ..Chunk::default()
            };
            let mut bytes = 0;
            while chunk.texts.len() < rows && bytes < CHUNK_BYTES {
                let Some((text, coarse)) = self.next_row()? else {
                    break;
                };
                bytes += text.len();
                chunk.texts.push(text);
                if self.wanted.coarse.is_some() {
                    chunk.coarse.push(coarse.filter(|label| !label.is_empty()));
                }
            }
            if chunk.texts.is_empty() {
                return Ok(None);
            }
            chunk
        };
        self.row += chunk.texts.len() as u64;
        Ok(Some(chunk))
    }

    fn next_row(&mut self) -> Result<Option<(String, Option<String>)>, CliError> {
        let owned = |(text, coarse): (&str, Option<&str>)| {
            Some((text.to_owned(), coarse.map(str::to_owned)))
        };
        match &mut self.rows {
            Rows::Columns(_) => Ok(None),
            Rows::Texts(texts) => Ok(texts.next()?.map(|text| (text, None))),
            Rows::Tabs { lines, places } => {
                let Some(line) = lines.read()? else {
                    return Ok(None);
                };
                let cells: Vec<&str> = line.split('\t').collect();
                places.row(&cells, |problem| lines.bad(problem)).map(owned)
            }
            Rows::Csv {
                reader,
                places,
                origin,
            } => {
                reader.get_ref().left.set(MAX_LINE);
                let mut record = csv::StringRecord::new();
                let more = reader
                    .read_record(&mut record)
                    .map_err(|error| csv_error(origin, &error))?;
                if !more {
                    return Ok(None);
                }
                let cells: Vec<&str> = record.iter().collect();
                let line = record.position().map_or(0, csv::Position::line);
                let bad = |problem| CliError::Line {
                    origin: origin.clone(),
                    line,
                    problem,
                };
                places.row(&cells, bad).map(owned)
            }
            Rows::Json(lines) => {
                let Some(line) = lines.read()? else {
                    return Ok(None);
                };
                json_row(&line, &self.wanted)
                    .map(Some)
                    .map_err(|problem| lines.bad(problem))
            }
        }
    }

    /// What is written beside the answers about a chunk of this source: all columns where it has
    /// columns, otherwise texts and coarse labels under the names of their columns.
    pub(crate) fn table(&self, chunk: &Chunk) -> Result<Table, CliError> {
        if let Some(table) = &chunk.table {
            return Ok(table.clone());
        }
        let texts = chunk.texts.iter().cloned().map(Some).collect();
        let mut columns = vec![Column {
            name: self.wanted.text.clone(),
            values: Values::Text(texts),
        }];
        if let Some(name) = &self.wanted.coarse {
            columns.push(Column {
                name: name.clone(),
                values: Values::Text(chunk.coarse.clone()),
            });
        }
        Ok(Table::new(columns)?)
    }

    /// [`table`](Self::table) of no rows.
    pub(crate) fn empty_table(&self) -> Result<Table, CliError> {
        match &self.rows {
            Rows::Columns(reader) => Ok(reader.empty()),
            _ => self.table(&Chunk::default()),
        }
    }

    /// How much of the input was read, 0 to 1, where that is known.
    pub(crate) fn fraction(&self) -> Option<f64> {
        let (done, all) = match (&self.rows, self.size) {
            (Rows::Columns(reader), _) => (self.row, reader.rows()?),
            (_, Some(size)) => (self.position.get(), size),
            (_, None) => return None,
        };
        (all > 0).then(|| (done as f64 / all as f64).min(1.0))
    }
}

/// An empty label is no label.
fn labels(labels: Vec<Option<String>>) -> Vec<Option<String>> {
    let labels = labels.into_iter();
    labels
        .map(|label| label.filter(|label| !label.is_empty()))
        .collect()
}

fn json_row(line: &str, wanted: &Wanted) -> Result<(String, Option<String>), String> {
    let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let Value::Object(mut object) = value else {
        return Err("expected an object".to_owned());
    };
    let mut text = |key: &str| match object.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{key}`: expected text, found something else")),
    };
    let coarse = wanted.coarse.as_deref().map(&mut text).transpose()?;
    match text(&wanted.text)? {
        Some(found) => Ok((found, coarse.flatten())),
        None => Err(format!("`{}`: expected text, found nothing", wanted.text)),
    }
}

fn csv_error(origin: &str, error: &csv::Error) -> CliError {
    let line = error.position().map_or(0, csv::Position::line);
    CliError::Line {
        origin: origin.to_owned(),
        line,
        problem: match error.kind() {
            csv::ErrorKind::UnequalLengths {
                expected_len, len, ..
            } => format!("expected {expected_len} fields, found {len}"),
            csv::ErrorKind::Utf8 { err, .. } => format!("invalid UTF-8 in field {}", err.field()),
            _ => error.to_string(),
        },
    }
}

/// Counts the bytes that pass.
struct Counted<R> {
    inner: R,
    position: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.position.set(self.position.get() + read as u64);
        Ok(read)
    }
}

/// Keeps a quote that is never closed from reading a whole file into one record.
struct Limited<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 {
            let problem = format!("a record is longer than {MAX_LINE} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        let read = self.inner.read(buffer)?;
        self.left.set(self.left.get().saturating_sub(read as u64));
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wanted(coarse: Option<&str>) -> Wanted {
        Wanted {
            text: "note".to_owned(),
            coarse: coarse.map(str::to_owned),
        }
    }

    /// All rows of a file of this content, in chunks of 2.
    fn rows(
        form: InForm,
        content: &str,
        coarse: Option<&str>,
    ) -> Result<Vec<(String, Option<String>)>, CliError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in");
        std::fs::write(&path, content).unwrap();
        let mut source = Source::open(&path, form, wanted(coarse), 2, false)?;
        let mut found = Vec::new();
        while let Some(chunk) = source.next(2)? {
            assert_eq!(chunk.first_row, found.len() as u64);
            for (row, text) in chunk.texts.iter().enumerate() {
                found.push((text.clone(), chunk.coarse(row).map(str::to_owned)));
            }
        }
        assert_eq!(source.fraction(), Some(1.0));
        Ok(found)
    }

    #[test]
    fn every_text_form_gives_the_same_rows() {
        let expected = [("a \"b\"", Some("x")), ("c,d", None), ("", Some("y"))]
            .map(|(text, coarse)| (text.to_owned(), coarse.map(str::to_owned)));
        for (form, content) in [
            (
                InForm::Tsv,
                "\u{feff}id\tnote\tarea\r\n1\ta \"b\"\tx\r\n2\tc,d\t\r\n3\t\ty\r\n",
            ),
            (
                InForm::Csv,
                "\u{feff}note,area\n\"a \"\"b\"\"\",x\n\"c,d\",\n,y\n",
            ),
            (
                InForm::Jsonl,
                "{\"note\": \"a \\\"b\\\"\", \"area\": \"x\"}\n{\"area\": null, \"note\": \"c,d\"}\n\
                 {\"more\": [1], \"note\": \"\", \"area\": \"y\"}",
            ),
        ] {
            assert_eq!(rows(form, content, Some("area")).unwrap(), expected);
            assert!(
                rows(form, content, None)
                    .unwrap()
                    .iter()
                    .all(|row| row.1.is_none())
            );
        }
    }

    #[test]
    fn lines_are_named_in_errors() {
        for (form, content, message) in [
            (InForm::Tsv, "", "in:1: no column `note`; there are: "),
            (
                InForm::Tsv,
                "text\n",
                "in:1: no column `note`; there are: text",
            ),
            (
                InForm::Tsv,
                "note\ta\nx\ty\nx\n",
                "in:3: expected 2 fields, found 1",
            ),
            (
                InForm::Csv,
                "note,a\nx,y\nx\n",
                "in:3: expected 2 fields, found 1",
            ),
            (
                InForm::Csv,
                "a,b\n",
                "in:1: no column `note`; there are: a, b",
            ),
            (
                InForm::Jsonl,
                "{\"note\": \"a\"}\n[]\n",
                "in:2: expected an object",
            ),
            (
                InForm::Jsonl,
                "{\"note\": 1}\n",
                "in:1: `note`: expected text, found something",
            ),
            (
                InForm::Jsonl,
                "{\"n\": 1}\n",
                "in:1: `note`: expected text, found nothing",
            ),
            (InForm::Jsonl, "\n", "in:1: EOF"),
            (InForm::Parquet, "note", "expected a Parquet file"),
        ] {
            let error = rows(form, content, None).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
        let error = rows(InForm::Txt, "a\n", Some("area")).unwrap_err();
        assert!(error.to_string().contains("no column `area`"), "{error}");
    }

    #[test]
    fn a_quote_that_is_never_closed_is_refused() {
        let content = format!("note\na\n\"{}", "x\n".repeat(MAX_LINE as usize));
        let error = rows(InForm::Csv, &content, None).unwrap_err();
        assert!(error.to_string().contains("longer than"), "{error}");
    }

    #[test]
    fn very_long_texts_make_short_chunks() {
        let line = "x".repeat(MAX_LINE as usize - 1) + "\n";
        let mut source = Source::texts(Texts::Lines(Lines::new(
            Box::new(io::Cursor::new(line.repeat(40))),
            "test".to_owned(),
        )));
        let first = source.next(100).unwrap().unwrap();
        assert_eq!(first.texts.len(), 33);
        let second = source.next(100).unwrap().unwrap();
        assert_eq!((second.first_row, second.texts.len()), (33, 7));
    }
}
