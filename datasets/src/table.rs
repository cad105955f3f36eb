//! Files to rows: reading, decompression, encoding checks and the four forms.
//!
//! Labels are still strings here; [`crate::category`] turns them into ids.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::category::LoadOptions;
use crate::error::DatasetError;
use crate::hash::sha256_hex;
use crate::report::{Form, LineList};

/// Characters of a strange header or value that an error message repeats.
const SHOWN: usize = 80;

/// How much of a file a loader is willing to hold in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest line, and longest quoted field, in bytes.
    pub max_line_bytes: usize,
    /// Largest file in bytes, after decompression.
    pub max_file_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_line_bytes: 10_000_000,
            max_file_bytes: 2_000_000_000,
        }
    }
}

impl From<&LoadOptions> for Limits {
    fn from(options: &LoadOptions) -> Self {
        Self {
            max_line_bytes: options.max_line_bytes,
            max_file_bytes: options.max_file_bytes,
        }
    }
}

/// The kind of file by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    Tsv,
    Csv,
    JsonLines,
}

/// Endings of file names that [`extension`] knows.
pub(crate) const ENDINGS: [&str; 6] = ["tsv", "csv", "jsonl", "tsv.gz", "csv.gz", "jsonl.gz"];

/// The name of a file in lower case, without folder and `.gz`.
pub(crate) fn plain_name(path: &Path) -> String {
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    match name.strip_suffix(".gz") {
        Some(plain) => plain.to_owned(),
        None => name,
    }
}

fn extension(path: &Path) -> Result<Extension, DatasetError> {
    match plain_name(path).rsplit_once('.').map(|(_, ending)| ending) {
        Some("tsv") => Ok(Extension::Tsv),
        Some("csv") => Ok(Extension::Csv),
        Some("jsonl") => Ok(Extension::JsonLines),
        _ => Err(DatasetError::UnknownExtension {
            path: path.to_owned(),
            expected: ".tsv, .csv or .jsonl",
        }),
    }
}

/// A file as checked text.
#[derive(Debug)]
pub(crate) struct TextFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    pub(crate) byte_order_mark: bool,
    pub(crate) crlf: bool,
}

impl TextFile {
    /// Reads and checks a file; `.gz` is decompressed.
    pub(crate) fn read(path: &Path, limits: impl Into<Limits>) -> Result<Self, DatasetError> {
        let limits = limits.into();
        let too_large = || DatasetError::FileTooLarge {
            path: path.to_owned(),
            limit: limits.max_file_bytes,
        };
        let io = |operation| {
            move |source| DatasetError::Io {
                operation,
                path: path.to_owned(),
                source,
            }
        };
        let limit = limits.max_file_bytes.saturating_add(1);
        let mut raw = Vec::new();
        File::open(path)
            .map_err(io("open"))?
            .take(limit)
            .read_to_end(&mut raw)
            .map_err(io("read"))?;
        if raw.len() as u64 == limit {
            return Err(too_large());
        }
        let (bytes, sha256) = (raw.len() as u64, sha256_hex(&raw));
        if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("gz"))
        {
            let mut content = Vec::new();
            MultiGzDecoder::new(raw.as_slice())
                .take(limit)
                .read_to_end(&mut content)
                .map_err(|source| DatasetError::Compressed {
                    path: path.to_owned(),
                    source,
                })?;
            if content.len() as u64 == limit {
                return Err(too_large());
            }
            raw = content;
        }
        Self::check(path, raw, bytes, sha256, limits)
    }

    /// The same checks for bytes that are in memory already.
    pub(crate) fn from_static(
        path: &str,
        content: &'static str,
        options: &LoadOptions,
    ) -> Result<Self, DatasetError> {
        let raw = content.as_bytes().to_vec();
        let (bytes, sha256) = (raw.len() as u64, sha256_hex(&raw));
        Self::check(Path::new(path), raw, bytes, sha256, options.into())
    }

    fn check(
        path: &Path,
        mut raw: Vec<u8>,
        bytes: u64,
        sha256: String,
        limits: Limits,
    ) -> Result<Self, DatasetError> {
        let byte_order_mark = raw.starts_with(b"\xEF\xBB\xBF");
        if byte_order_mark {
            raw.drain(..3);
        }
        if raw.iter().all(u8::is_ascii_whitespace) {
            return Err(DatasetError::EmptyFile {
                path: path.to_owned(),
            });
        }
        let mut crlf = false;
        for (line, content) in (1_u64..).zip(raw.split(|byte| *byte == b'\n')) {
            crlf |= content.ends_with(b"\r");
            if content.len() > limits.max_line_bytes {
                return Err(DatasetError::LineTooLong {
                    path: path.to_owned(),
                    line,
                    found: content.len(),
                    limit: limits.max_line_bytes,
                });
            }
            if content.contains(&0) {
                return Err(DatasetError::NulByte {
                    path: path.to_owned(),
                    line,
                });
            }
            if let Err(error) = std::str::from_utf8(content) {
                return Err(DatasetError::InvalidUtf8 {
                    path: path.to_owned(),
                    line,
                    byte: error.valid_up_to(),
                });
            }
        }
        let text = String::from_utf8(raw).map_err(|error| DatasetError::InvalidUtf8 {
            path: path.to_owned(),
            line: 1,
            byte: error.utf8_error().valid_up_to(),
        })?;
        Ok(Self {
            path: path.to_owned(),
            text,
            bytes,
            sha256,
            byte_order_mark,
            crlf,
        })
    }
}

/// One row with its labels as written. `coarse` is `None` where it follows from the fine label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) line: u64,
    pub(crate) text: String,
    pub(crate) coarse: Option<String>,
    pub(crate) fine: Option<String>,
}

/// The rows of a file.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) form: Form,
    pub(crate) rows: Vec<Row>,
    pub(crate) rows_read: usize,
    pub(crate) ragged: LineList,
    pub(crate) empty_text: LineList,
    pub(crate) blank: LineList,
    pub(crate) multiline: LineList,
}

/// Runs of white space as one space, ends trimmed: a text never holds a tab or a line break.
pub(crate) fn tidy(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What each column of a row means.
#[derive(Debug, Clone, Copy)]
struct Columns {
    text: usize,
    coarse: Option<usize>,
    fine: Option<usize>,
    width: usize,
}

impl Table {
    /// Reads the rows of a file in the form that its name and header say.
    pub(crate) fn parse(file: &TextFile, options: &LoadOptions) -> Result<Self, DatasetError> {
        let mut table = Self {
            form: Form::TsvPlain,
            rows: Vec::new(),
            rows_read: 0,
            ragged: LineList::default(),
            empty_text: LineList::default(),
            blank: LineList::default(),
            multiline: LineList::default(),
        };
        match extension(&file.path)? {
            Extension::Tsv => match file.text.lines().next().unwrap_or_default() {
                "text\tcoarse" => table.plain(file, options, 2)?,
                "text\tcoarse\tfine" => table.plain(file, options, 3)?,
                "text\tlabel" | "text\tcategory" => {
                    table.form = Form::TsvQuoted;
                    let columns = Columns {
                        text: 0,
                        coarse: None,
                        fine: Some(1),
                        width: 2,
                    };
                    table.quoted(file, options, b'\t', Some(columns))?;
                }
                other => {
                    return Err(header_error(
                        file,
                        "`text<TAB>coarse`, `text<TAB>coarse<TAB>fine`, `text<TAB>label` or `text<TAB>category`",
                        other,
                    ));
                }
            },
            Extension::Csv => {
                table.form = Form::Csv;
                table.quoted(file, options, b',', None)?;
            }
            Extension::JsonLines => {
                table.form = Form::JsonLines;
                table.json_lines(file, options)?;
            }
        }
        if table.rows.is_empty() {
            return Err(DatasetError::NoRows {
                path: file.path.clone(),
                skipped: table.ragged.count + table.empty_text.count,
            });
        }
        Ok(table)
    }

    /// Checks and keeps one row.
    fn push(
        &mut self,
        file: &TextFile,
        options: &LoadOptions,
        line: u64,
        text: &str,
        coarse: Option<&str>,
        fine: Option<&str>,
    ) -> Result<(), DatasetError> {
        let text = tidy(text);
        if text.is_empty() {
            if options.skip_empty_text {
                self.empty_text.push(line);
                return Ok(());
            }
            return Err(DatasetError::EmptyText {
                path: file.path.clone(),
                line,
            });
        }
        let label = |value: Option<&str>, level| match value.map(tidy) {
            Some(value) if value.is_empty() => Err(DatasetError::EmptyLabel {
                path: file.path.clone(),
                line,
                level,
            }),
            other => Ok(other),
        };
        let (coarse, fine) = (label(coarse, "coarse")?, label(fine, "fine")?);
        self.rows.push(Row {
            line,
            text,
            coarse,
            fine,
        });
        Ok(())
    }

    /// Form 1: fields are what stands between tabs, quotes included.
    fn plain(
        &mut self,
        file: &TextFile,
        options: &LoadOptions,
        width: usize,
    ) -> Result<(), DatasetError> {
        for (line, content) in (2_u64..).zip(file.text.lines().skip(1)) {
            if content.trim().is_empty() && !content.contains('\t') {
                self.blank.push(line);
                continue;
            }
            self.rows_read += 1;
            let mut fields = content.split('\t');
            let found = fields.clone().count();
            let (Some(text), Some(coarse)) = (fields.next(), fields.next()) else {
                return Err(ragged(file, line, width, found));
            };
            if found != width {
                return Err(ragged(file, line, width, found));
            }
            self.push(file, options, line, text, Some(coarse), fields.next())?;
        }
        Ok(())
    }

    /// Form 2 (`columns` given, header already known) and CSV (columns found by name).
    fn quoted(
        &mut self,
        file: &TextFile,
        options: &LoadOptions,
        delimiter: u8,
        columns: Option<Columns>,
    ) -> Result<(), DatasetError> {
        let strict = options.strict_tsv || columns.is_none();
        let mut columns = columns;
        let mut header_seen = false;
        let max_field = options.max_line_bytes;
        for_each_csv_record(file, delimiter, max_field, |line, _, record| {
            if !header_seen {
                header_seen = true;
                if columns.is_none() {
                    let names: Vec<&str> = record.iter().map(str::trim).collect();
                    columns = Some(csv_columns(file, options, &names)?);
                }
                return Ok(());
            }
            let Some(c) = columns else { return Ok(()) };
            self.rows_read += 1;
            if record.len() != c.width {
                if strict {
                    return Err(ragged(file, line, c.width, record.len()));
                }
                self.ragged.push(line);
                return Ok(());
            }
            if record.iter().any(|field| field.contains('\n')) {
                self.multiline.push(line);
            }
            let text = record.get(c.text).unwrap_or_default();
            let (coarse, fine) = (
                c.coarse.and_then(|i| record.get(i)),
                c.fine.and_then(|i| record.get(i)),
            );
            self.push(file, options, line, text, coarse, fine)
        })
    }

    fn json_lines(&mut self, file: &TextFile, options: &LoadOptions) -> Result<(), DatasetError> {
        // Whether there is a coarse field, and whether there is a fine one, is decided by row 1.
        let mut known: Option<(Option<String>, Option<String>)> = None;
        for (line, content) in (1_u64..).zip(file.text.lines()) {
            if content.trim().is_empty() {
                self.blank.push(line);
                continue;
            }
            self.rows_read += 1;
            let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(content)
                .map_err(|error| DatasetError::Json {
                    path: file.path.clone(),
                    line,
                    reason: error.to_string(),
                })?;
            let (coarse_field, fine_field) = match &known {
                Some(fields) => fields.clone(),
                None => {
                    let has = |name: &str| object.contains_key(name).then(|| name.to_owned());
                    let fields = match has(&options.coarse_column) {
                        Some(coarse) => (Some(coarse), has(&options.fine_column)),
                        None => {
                            let fine = [options.fine_column.as_str(), "label", "category"]
                                .into_iter()
                                .find_map(has);
                            if fine.is_none() {
                                return Err(field_error(file, line, &options.coarse_column, None));
                            }
                            (None, fine)
                        }
                    };
                    known = Some(fields.clone());
                    fields
                }
            };
            let get = |name: &str| match object.get(name) {
                Some(serde_json::Value::String(text)) => Ok(text.clone()),
                Some(serde_json::Value::Number(number)) if name != options.text_column => {
                    Ok(number.to_string())
                }
                other => Err(field_error(file, line, name, other)),
            };
            let text = get(&options.text_column)?;
            let coarse = coarse_field.as_deref().map(get).transpose()?;
            let fine = fine_field.as_deref().map(get).transpose()?;
            self.push(
                file,
                options,
                line,
                &text,
                coarse.as_deref(),
                fine.as_deref(),
            )?;
        }
        Ok(())
    }
}

/// Calls `visit` with the first line, the byte range and the fields of every record of a file with
/// CSV quoting; the header is a record like any other.
pub(crate) fn for_each_csv_record(
    file: &TextFile,
    delimiter: u8,
    max_field_bytes: usize,
    mut visit: impl FnMut(u64, Range<usize>, &csv::StringRecord) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    // The csv crate closes an open quote at the end of the input without a word. A last record
    // of our own shows whether that happened: an open quote swallows it.
    let sentinel = "\n\u{1}";
    let input = file.text.as_bytes().chain(sentinel.as_bytes());
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(input);
    let mut record = csv::StringRecord::new();
    let mut lines = LineCounter {
        text: &file.text,
        byte: 0,
        line: 1,
    };
    loop {
        let more = reader
            .read_record(&mut record)
            .map_err(|error| DatasetError::Io {
                operation: "parse",
                path: file.path.clone(),
                source: std::io::Error::other(error),
            })?;
        let start = record.position().map_or(0, csv::Position::byte);
        let (line, first_byte) = lines.advance(start);
        if !more || first_byte >= file.text.len() {
            return Ok(());
        }
        let end = usize::try_from(reader.position().byte()).unwrap_or(usize::MAX);
        if end > file.text.len() + 1 {
            return Err(DatasetError::UnclosedQuote {
                path: file.path.clone(),
                line,
            });
        }
        if let Some(field) = record.iter().find(|field| field.len() > max_field_bytes) {
            return Err(DatasetError::LineTooLong {
                path: file.path.clone(),
                line,
                found: field.len(),
                limit: max_field_bytes,
            });
        }
        visit(line, first_byte..end.min(file.text.len()), &record)?;
    }
}

/// Turns byte offsets into line numbers; offsets must not decrease.
struct LineCounter<'a> {
    text: &'a str,
    byte: usize,
    line: u64,
}

impl LineCounter<'_> {
    /// The line and offset of the first byte at or after `byte` that is not a line end: a record
    /// begins there, since the csv crate puts skipped blank lines into the record that follows.
    fn advance(&mut self, byte: u64) -> (u64, usize) {
        let target = usize::try_from(byte).unwrap_or(usize::MAX);
        for &b in self.text.as_bytes().iter().skip(self.byte) {
            if self.byte >= target && b != b'\n' && b != b'\r' {
                break;
            }
            self.byte += 1;
            self.line += u64::from(b == b'\n');
        }
        (self.line, self.byte)
    }
}

fn csv_columns(
    file: &TextFile,
    options: &LoadOptions,
    names: &[&str],
) -> Result<Columns, DatasetError> {
    let find = |name: &str| names.iter().position(|n| *n == name);
    let bad = || {
        let expected = format!(
            "columns `{}` and `{}` (with `{}` if known), or `{}` and one of `{}`, `label`, `category`, each once",
            options.text_column,
            options.coarse_column,
            options.fine_column,
            options.text_column,
            options.fine_column
        );
        header_error(file, &expected, &names.join(","))
    };
    let text = find(&options.text_column).ok_or_else(bad)?;
    let coarse = find(&options.coarse_column);
    let fine = match coarse {
        Some(_) => find(&options.fine_column),
        None => Some(
            [options.fine_column.as_str(), "label", "category"]
                .into_iter()
                .find_map(find)
                .ok_or_else(bad)?,
        ),
    };
    let mut used: Vec<usize> = [Some(text), coarse, fine].into_iter().flatten().collect();
    used.sort_unstable();
    let distinct = used.windows(2).all(|pair| pair.first() != pair.last());
    let once = used.iter().all(|&i| {
        names
            .get(i)
            .is_some_and(|name| names.iter().filter(|n| *n == name).count() == 1)
    });
    if !distinct || !once {
        return Err(bad());
    }
    Ok(Columns {
        text,
        coarse,
        fine,
        width: names.len(),
    })
}

pub(crate) fn ragged(file: &TextFile, line: u64, expected: usize, found: usize) -> DatasetError {
    DatasetError::RaggedRow {
        path: file.path.clone(),
        line,
        expected,
        found,
    }
}

pub(crate) fn header_error(file: &TextFile, expected: &str, found: &str) -> DatasetError {
    DatasetError::Header {
        path: file.path.clone(),
        expected: expected.to_owned(),
        found: shown(found),
    }
}

/// The beginning of a value, made fit for an error message.
pub(crate) fn shown(value: &str) -> String {
    let start: String = value.chars().take(SHOWN).collect();
    let dots = if value.chars().nth(SHOWN).is_some() {
        "..."
    } else {
        ""
    };
    format!("{}{dots}", start.escape_debug())
}

fn field_error(
    file: &TextFile,
    line: u64,
    field: &str,
    found: Option<&serde_json::Value>,
) -> DatasetError {
    DatasetError::Field {
        path: file.path.clone(),
        line,
        field: field.to_owned(),
        expected: "a string (a label may be a number)",
        found: json_kind(found),
    }
}

/// What a JSON value is, in words.
pub(crate) fn json_kind(value: Option<&serde_json::Value>) -> &'static str {
    use serde_json::Value;
    match value {
        None => "nothing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a string",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    }
}
