//! Records of text, TSV, CSV, JSON lines and JSON files, one after the other.
//!
//! What the columns mean is the business of the loader; here a record is its line, its place in the
//! file and its cells.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::path::Path;

use crate::error::DatasetError;
use crate::hash::StreamingSha256;
use crate::report::{Form, LineList, RowNote, RowsReport};
use crate::table::{Limits, TextFile, for_each_csv_record, json_kind, plain_name, ragged, shown};

/// How the bytes of a file are cut into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One text a line, no header.
    Lines,
    /// Fields between tabs, no quoting.
    Tabs {
        /// Whether the first line names the columns.
        header: bool,
    },
    /// CSV rules with this delimiter; the first record names the columns.
    Quoted {
        /// Comma or tab.
        delimiter: u8,
    },
    /// JSON objects: one a line, or a list of them.
    Json,
}

/// Endings that [`Layout::of`] knows, for messages.
const KNOWN: &str = ".txt, .tsv, .csv, .jsonl or .json";

impl Layout {
    /// The layout that a file name stands for. A `.csv` whose name contains `tsv` is separated by
    /// tabs, as in SimCSE; a `.tsv` has no quoting.
    pub(crate) fn of(path: &Path) -> Result<Self, DatasetError> {
        let name = plain_name(path);
        match name.rsplit_once('.') {
            Some((_, "txt")) => Ok(Self::Lines),
            Some((_, "tsv")) => Ok(Self::Tabs { header: true }),
            Some((stem, "csv")) => Ok(Self::Quoted {
                delimiter: if stem.contains("tsv") { b'\t' } else { b',' },
            }),
            Some((_, "jsonl" | "json")) => Ok(Self::Json),
            _ => Err(DatasetError::UnknownExtension {
                path: path.to_owned(),
                expected: KNOWN,
            }),
        }
    }

    /// The same for a file whose columns are named: a `.txt` is then a table with tabs.
    pub(crate) fn of_table(path: &Path) -> Result<Self, DatasetError> {
        Ok(match Self::of(path)? {
            Self::Lines => Self::Tabs { header: true },
            other => other,
        })
    }
}

/// One field of a record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell<'a> {
    /// Empty, `null` or absent.
    Missing,
    /// Text, or a number as it stands in a text format.
    Text(Cow<'a, str>),
    /// A JSON number.
    Number(String),
    /// Any other JSON value, in words.
    Other(&'static str),
}

/// One record.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    file: &'a TextFile,
    names: &'a [String],
    /// Line on which it starts.
    pub(crate) line: u64,
    /// Its bytes in the file, with the line end.
    pub(crate) span: Range<usize>,
    /// Its fields, in the order of the columns.
    pub(crate) cells: Vec<Cell<'a>>,
}

impl Record<'_> {
    /// Text of a column, `None` where it is missing.
    pub(crate) fn text(&self, column: usize) -> Result<Option<&str>, DatasetError> {
        let found = match self.cells.get(column) {
            None | Some(Cell::Missing) => return Ok(None),
            Some(Cell::Text(text)) => return Ok(Some(text)),
            Some(Cell::Number(_)) => "a number",
            Some(Cell::Other(kind)) => kind,
        };
        Err(self.field_error(column, "a string", found))
    }

    /// Text of a column that must be there and hold more than white space.
    pub(crate) fn required_text(&self, column: usize) -> Result<&str, DatasetError> {
        match self.text(column)? {
            Some(text) if !text.trim().is_empty() => Ok(text),
            _ => Err(DatasetError::EmptyText {
                path: self.file.path.clone(),
                line: self.line,
            }),
        }
    }

    /// A label or score as it is written, `None` where it is missing or white space.
    pub(crate) fn value(&self, column: usize) -> Result<Option<&str>, DatasetError> {
        match self.cells.get(column) {
            None | Some(Cell::Missing) => Ok(None),
            Some(Cell::Text(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
            Some(Cell::Number(number)) => Ok(Some(number)),
            Some(Cell::Other(kind)) => Err(self.field_error(column, "a string or a number", kind)),
        }
    }

    /// The score of a column between `min` and `max`, `None` where it is missing.
    pub(crate) fn score(
        &self,
        column: usize,
        (min, max): (f64, f64),
    ) -> Result<Option<f64>, DatasetError> {
        let value = self.value(column)?;
        value
            .map(|text| parse_score(&self.file.path, self.line, text, (min, max)))
            .transpose()
    }

    fn field_error(
        &self,
        column: usize,
        expected: &'static str,
        found: &'static str,
    ) -> DatasetError {
        let field = self.names.get(column).cloned();
        DatasetError::Field {
            path: self.file.path.clone(),
            line: self.line,
            field: field.unwrap_or_else(|| (column + 1).to_string()),
            expected,
            found,
        }
    }
}

/// A score between `min` and `max`; NaN and infinities are outside every range.
pub(crate) fn parse_score(
    path: &Path,
    line: u64,
    text: &str,
    (min, max): (f64, f64),
) -> Result<f64, DatasetError> {
    let score: f64 = text.parse().map_err(|_| DatasetError::BadScore {
        path: path.to_owned(),
        line,
        found: shown(text),
    })?;
    if !(min..=max).contains(&score) {
        return Err(DatasetError::ScoreRange {
            path: path.to_owned(),
            line,
            found: score,
            min,
            max,
        });
    }
    Ok(score)
}

/// The error of a label that the task does not have.
pub(crate) fn bad_label(path: &Path, line: u64, found: &str, expected: &str) -> DatasetError {
    DatasetError::BadLabel {
        path: path.to_owned(),
        line,
        found: shown(found),
        expected: expected.to_owned(),
    }
}

/// Position of the first of `accepted` among the column names.
pub(crate) fn column(names: &[String], accepted: &[&str]) -> Option<usize> {
    accepted
        .iter()
        .find_map(|wanted| names.iter().position(|name| name == wanted))
}

/// The column that says which split a row belongs to.
pub(crate) fn split_of(names: &[String]) -> Option<usize> {
    column(names, &["split"])
}

/// Takes the rows of one split, or all.
#[derive(Debug)]
pub(crate) struct PartFilter<'a> {
    wanted: Option<&'a str>,
    taken: usize,
    left: usize,
    /// Splits seen; `None` if the file has no split column.
    seen: Option<BTreeSet<String>>,
}

impl<'a> PartFilter<'a> {
    pub(crate) fn new(wanted: Option<&'a str>) -> Self {
        Self {
            wanted,
            taken: 0,
            left: 0,
            seen: None,
        }
    }

    /// Whether a row belongs to the split, given the position of the split column.
    pub(crate) fn takes(
        &mut self,
        record: &Record<'_>,
        split: Option<usize>,
    ) -> Result<bool, DatasetError> {
        let Some(wanted) = self.wanted else {
            return Ok(true);
        };
        let found = match split {
            Some(column) => record.value(column)?.unwrap_or_default(),
            None => {
                self.left += 1;
                return Ok(false);
            }
        };
        let seen = self.seen.get_or_insert_default();
        if !seen.contains(found) {
            seen.insert(found.to_owned());
        }
        let takes = found == wanted;
        self.taken += usize::from(takes);
        self.left += usize::from(!takes);
        Ok(takes)
    }

    /// An error if a split was asked for and no row belongs to it.
    pub(crate) fn check(&self, path: &Path) -> Result<(), DatasetError> {
        let Some(wanted) = self.wanted.filter(|_| self.taken == 0) else {
            return Ok(());
        };
        Err(DatasetError::NoSuchSplit {
            path: path.to_owned(),
            split: wanted.to_owned(),
            known: match &self.seen {
                None => "no split column".to_owned(),
                Some(seen) => shown(&seen.iter().cloned().collect::<Vec<_>>().join(", ")),
            },
        })
    }

    /// Rows of other splits were not read, as far as the report goes.
    pub(crate) fn apply(&self, mut scan: Scan) -> Scan {
        scan.rows_read -= self.left;
        scan
    }
}

/// What is known after the last record.
#[derive(Debug)]
pub(crate) struct Scan {
    form: Form,
    pub(crate) rows_read: usize,
    pub(crate) blank: LineList,
    multiline: LineList,
}

impl Scan {
    pub(crate) fn new(form: Form) -> Self {
        Self {
            form,
            rows_read: 0,
            blank: LineList::default(),
            multiline: LineList::default(),
        }
    }

    /// An error if nothing was read.
    fn some_rows(self, file: &TextFile) -> Result<Self, DatasetError> {
        if self.rows_read == 0 {
            return Err(DatasetError::NoRows {
                path: file.path.clone(),
                skipped: 0,
            });
        }
        Ok(self)
    }
}

/// Reads a file record by record. `header` turns the column names (none, for a layout without) into
/// whatever `visit` needs to understand a record. Ragged records are errors.
pub(crate) fn for_each_record<C>(
    file: &TextFile,
    layout: Layout,
    limits: Limits,
    mut header: impl FnMut(&[String]) -> Result<C, DatasetError>,
    mut visit: impl FnMut(&C, &Record<'_>) -> Result<(), DatasetError>,
) -> Result<Scan, DatasetError> {
    let mut scan = Scan::new(match layout {
        Layout::Lines => Form::Text,
        Layout::Tabs { .. } => Form::TsvPlain,
        Layout::Quoted { delimiter: b'\t' } => Form::TsvQuoted,
        Layout::Quoted { .. } => Form::Csv,
        Layout::Json => Form::JsonLines,
    });
    match layout {
        Layout::Lines => {
            let columns = header(&[])?;
            for (line, span, content) in lines(&file.text) {
                if content.trim().is_empty() {
                    scan.blank.push(line);
                    continue;
                }
                scan.rows_read += 1;
                let record = Record {
                    file,
                    names: &[],
                    line,
                    span,
                    cells: vec![Cell::Text(Cow::Borrowed(content))],
                };
                visit(&columns, &record)?;
            }
        }
        Layout::Tabs { header: named } => {
            let mut names = Vec::new();
            let mut width = None;
            let mut columns = if named { None } else { Some(header(&[])?) };
            for (line, span, content) in lines(&file.text) {
                if content.trim().is_empty() && !content.contains('\t') {
                    scan.blank.push(line);
                    continue;
                }
                let fields: Vec<&str> = content.split('\t').collect();
                let expected = *width.get_or_insert(fields.len());
                if fields.len() != expected {
                    return Err(ragged(file, line, expected, fields.len()));
                }
                let Some(columns) = &columns else {
                    names = fields.iter().map(|name| name.trim().to_owned()).collect();
                    columns = Some(header(&names)?);
                    continue;
                };
                scan.rows_read += 1;
                let record = Record {
                    file,
                    names: &names,
                    line,
                    span,
                    cells: fields.into_iter().map(text_cell).collect(),
                };
                visit(columns, &record)?;
            }
        }
        Layout::Quoted { delimiter } => {
            let mut known: Option<(Vec<String>, C)> = None;
            let max_field = limits.max_line_bytes;
            for_each_csv_record(file, delimiter, max_field, |line, span, record| {
                let Some((names, columns)) = &known else {
                    let names: Vec<String> =
                        record.iter().map(|name| name.trim().to_owned()).collect();
                    let columns = header(&names)?;
                    known = Some((names, columns));
                    return Ok(());
                };
                if record.len() != names.len() {
                    return Err(ragged(file, line, names.len(), record.len()));
                }
                if record.iter().any(|field| field.contains('\n')) {
                    scan.multiline.push(line);
                }
                scan.rows_read += 1;
                let record = Record {
                    file,
                    names,
                    line,
                    span,
                    cells: record.iter().map(text_cell).collect(),
                };
                visit(columns, &record)
            })?;
        }
        Layout::Json => return json_records(file, header, visit),
    }
    scan.some_rows(file)
}

fn text_cell(field: &str) -> Cell<'_> {
    if field.is_empty() {
        Cell::Missing
    } else {
        Cell::Text(Cow::Borrowed(field))
    }
}

/// Lines with their numbers and byte ranges (line end included); the content is without line end.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (u64, Range<usize>, &str)> {
    let mut start = 0;
    (1_u64..)
        .zip(text.split_inclusive('\n'))
        .map(move |(line, content)| {
            let span = start..start + content.len();
            start = span.end;
            let content = content.strip_suffix('\n').unwrap_or(content);
            (line, span, content.strip_suffix('\r').unwrap_or(content))
        })
}

/// A JSON object.
pub(crate) type Object = serde_json::Map<String, serde_json::Value>;

/// Calls `visit` with every object of a file: one a line, or those of one list.
pub(crate) fn for_each_object(
    file: &TextFile,
    mut visit: impl FnMut(u64, Range<usize>, Object) -> Result<(), DatasetError>,
) -> Result<Scan, DatasetError> {
    let mut scan = Scan::new(Form::JsonLines);
    if file.text.trim_start().starts_with('[') {
        scan.form = Form::Json;
        json_list(file, |line, span, object| {
            scan.rows_read += 1;
            visit(line, span, object)
        })?;
    } else {
        for (line, span, content) in lines(&file.text) {
            if content.trim().is_empty() {
                scan.blank.push(line);
                continue;
            }
            scan.rows_read += 1;
            let object = serde_json::from_str(content)
                .map_err(|error| json_error(file, line, &error.to_string()))?;
            visit(line, span, object)?;
        }
    }
    scan.some_rows(file)
}

/// Objects as records. The columns are the keys of the first object, in its order; a key that only
/// later objects have is an error, an absent one a missing field.
fn json_records<C>(
    file: &TextFile,
    mut header: impl FnMut(&[String]) -> Result<C, DatasetError>,
    mut visit: impl FnMut(&C, &Record<'_>) -> Result<(), DatasetError>,
) -> Result<Scan, DatasetError> {
    let mut known: Option<(Vec<String>, C)> = None;
    for_each_object(file, |line, span, object| {
        let (names, columns) = match &mut known {
            Some(known) => known,
            none => {
                let names: Vec<String> = object.keys().cloned().collect();
                let columns = header(&names)?;
                none.insert((names, columns))
            }
        };
        if let Some(key) = object.keys().find(|key| !names.contains(key)) {
            return Err(DatasetError::Field {
                path: file.path.clone(),
                line,
                field: key.clone(),
                expected: "no field beyond those of the first object",
                found: json_kind(object.get(key)),
            });
        }
        let record = Record {
            file,
            names,
            line,
            span,
            cells: names
                .iter()
                .map(|name| json_cell(object.get(name)))
                .collect(),
        };
        visit(columns, &record)
    })
}

fn json_error(file: &TextFile, line: u64, reason: &str) -> DatasetError {
    DatasetError::Json {
        path: file.path.clone(),
        line,
        reason: reason.to_owned(),
    }
}

/// The objects of a JSON list, one at a time so that each has a line.
fn json_list(
    file: &TextFile,
    mut take: impl FnMut(u64, Range<usize>, Object) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    let text = file.text.as_str();
    let bytes = text.as_bytes();
    let (mut at, mut line) = (0, 1_u64);
    let mut skip_space = |at: &mut usize| {
        while let Some(byte) = bytes.get(*at).filter(|byte| byte.is_ascii_whitespace()) {
            line += u64::from(*byte == b'\n');
            *at += 1;
        }
        (line, bytes.get(*at).copied())
    };
    let (_, _) = skip_space(&mut at);
    at += 1; // the opening bracket
    let mut first = true;
    loop {
        let (line, mut next) = skip_space(&mut at);
        let mut line = line;
        match next {
            Some(b']') => break,
            Some(b',') if !first => {
                at += 1;
                (line, next) = skip_space(&mut at);
            }
            _ if first => {}
            _ => {
                return Err(json_error(
                    file,
                    line,
                    "expected `,` or `]` after an object",
                ));
            }
        }
        first = false;
        if next != Some(b'{') {
            return Err(json_error(file, line, "expected an object in the list"));
        }
        let rest = text.get(at..).unwrap_or_default();
        let mut objects = serde_json::Deserializer::from_str(rest).into_iter::<Object>();
        let object = match objects.next() {
            Some(Ok(object)) => object,
            Some(Err(error)) => return Err(json_error(file, line, &error.to_string())),
            None => return Err(json_error(file, line, "the list is not closed")),
        };
        let end = at + objects.byte_offset();
        take(line, at..end, object)?;
        // The lines inside the object.
        let mut inside = at;
        while inside < end {
            let (_, _) = skip_space(&mut inside);
            inside += usize::from(inside < end);
        }
        at = end;
    }
    at += 1; // the closing bracket
    match skip_space(&mut at) {
        (_, None) => Ok(()),
        (line, Some(_)) => Err(json_error(file, line, "text after the list")),
    }
}

fn json_cell<'a>(value: Option<&serde_json::Value>) -> Cell<'a> {
    use serde_json::Value;
    match value {
        None | Some(Value::Null) => Cell::Missing,
        Some(Value::String(text)) if text.is_empty() => Cell::Missing,
        Some(Value::String(text)) => Cell::Text(Cow::Owned(text.clone())),
        Some(Value::Number(number)) => Cell::Number(number.to_string()),
        other => Cell::Other(json_kind(other)),
    }
}

/// Collects what a [`RowsReport`] says while rows are kept, and builds it.
#[derive(Debug, Default)]
pub(crate) struct RowTally {
    seen: HashSet<[u8; 16]>,
    kept: usize,
    duplicates: usize,
    self_pairs: usize,
    notes: Vec<RowNote>,
}

impl RowTally {
    /// Notes a row that is kept: its texts and what else tells rows apart.
    pub(crate) fn keep(&mut self, texts: &[&str], label: &str) {
        self.kept += 1;
        self.duplicates += usize::from(!self.seen.insert(row_key(texts, label)));
        let mut rest = texts;
        while let Some((text, others)) = rest.split_first() {
            if others.contains(text) {
                self.self_pairs += 1;
                break;
            }
            rest = others;
        }
    }

    /// Notes a row that is skipped or repaired.
    pub(crate) fn note(&mut self, what: &'static str, skipped: bool, line: u64) {
        if let Some(note) = self.notes.iter_mut().find(|note| note.what == what) {
            note.lines.push(line);
            return;
        }
        let mut lines = LineList::default();
        lines.push(line);
        self.notes.push(RowNote {
            what,
            skipped,
            lines,
        });
    }

    /// The report; an error if no row was kept.
    pub(crate) fn finish(self, file: TextFile, scan: Scan) -> Result<RowsReport, DatasetError> {
        let report = RowsReport {
            path: file.path,
            form: scan.form,
            bytes: file.bytes,
            sha256: file.sha256,
            rows_read: scan.rows_read,
            rows_kept: self.kept,
            notes: self.notes,
            blank: scan.blank,
            multiline: scan.multiline,
            duplicates: self.duplicates,
            self_pairs: self.self_pairs,
            byte_order_mark: file.byte_order_mark,
            crlf: file.crlf,
        };
        if report.rows_kept == 0 {
            return Err(DatasetError::NoRows {
                skipped: report.rows_skipped(),
                path: report.path,
            });
        }
        Ok(report)
    }
}

/// The first 128 bits of a digest of several strings; lengths keep their borders apart.
fn row_key(texts: &[&str], label: &str) -> [u8; 16] {
    let mut hash = StreamingSha256::default();
    for text in texts.iter().chain([&label]) {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.first_bytes()
}
