//! Parquet and Arrow IPC, table by table.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::{FileReader, StreamReader};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::ParquetMetaData;

use crate::error::ColumnarError;
use crate::table::{Table, names, text_column};

/// Rows of a [`read_columns`] batch.
const BATCH_ROWS: usize = 8192;

/// Bytes that the rows of one Parquet batch should stay below, by what the file says of their average
/// size.
const BATCH_BYTES: u64 = 64 << 20;

/// A file or stream of columns, of which one batch is in memory at a time.
pub struct Reader {
    source: Source,
    schema: SchemaRef,
    origin: Arc<str>,
    /// Rows handed out.
    row: u64,
    /// Rows in all, where the file says it.
    rows: Option<u64>,
    /// Most rows of a table; batches of a stream stay whole.
    batch_rows: usize,
    /// Rest of a batch that was too long.
    rest: Option<RecordBatch>,
}

enum Source {
    /// After an error: what a damaged file has to say further on means nothing.
    Ended,
    Parquet(ParquetRecordBatchReader),
    File(FileReader<BufReader<File>>),
    Stream(Box<StreamReader<BufReader<Box<dyn Read + Send>>>>),
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("origin", &self.origin)
            .field("row", &self.row)
            .finish_non_exhaustive()
    }
}

/// All rows of text columns of a file, one list a column in the order asked for.
///
/// # Errors
/// As [`Reader::open_columns`] and [`Table::texts`].
pub fn read_columns(path: &Path, columns: &[&str]) -> Result<Vec<Vec<String>>, ColumnarError> {
    let mut reader = Reader::open_columns(path, columns, BATCH_ROWS)?;
    let mut found = vec![Vec::new(); columns.len()];
    while let Some(table) = reader.next_table()? {
        for (texts, column) in found.iter_mut().zip(columns) {
            texts.extend(table.texts(column)?);
        }
    }
    Ok(found)
}

/// Names of the columns of a file.
///
/// # Errors
/// As [`Reader::open`].
pub fn column_names(path: &Path) -> Result<Vec<String>, ColumnarError> {
    Ok(Reader::open(path, BATCH_ROWS)?.names())
}

impl Reader {
    /// Opens a Parquet file, an Arrow IPC file, or a file with an Arrow IPC stream; its content says
    /// which. Tables have at most `batch_rows` rows, and fewer where the rows are very long.
    ///
    /// # Errors
    /// A file that cannot be read or is none of these.
    pub fn open(path: &Path, batch_rows: usize) -> Result<Self, ColumnarError> {
        Self::open_some(path, None, batch_rows)
    }

    /// As [`open`](Self::open), reading only these columns of text.
    ///
    /// # Errors
    /// Also a column that is missing or not text.
    pub fn open_columns(
        path: &Path,
        columns: &[&str],
        batch_rows: usize,
    ) -> Result<Self, ColumnarError> {
        Self::open_some(path, Some(columns), batch_rows)
    }

    fn open_some(
        path: &Path,
        columns: Option<&[&str]>,
        batch_rows: usize,
    ) -> Result<Self, ColumnarError> {
        let failed = |operation| {
            move |source| ColumnarError::File {
                operation,
                path: path.to_owned(),
                source,
            }
        };
        let origin: Arc<str> = path.display().to_string().into();
        let mut file = File::open(path).map_err(failed("open"))?;
        let mut start = Vec::new();
        Read::take(&mut file, 8)
            .read_to_end(&mut start)
            .map_err(failed("read"))?;
        file.rewind().map_err(failed("read"))?;
        let batch_rows = batch_rows.max(1);

        if start.starts_with(b"PAR1") {
            return Self::parquet(file, origin, columns, batch_rows);
        }
        let (source, schema) = if start.starts_with(b"ARROW1") {
            let mut reader = guarded(&origin, || FileReader::try_new_buffered(file, None))?;
            if let Some(columns) = columns {
                let places = places(&reader.schema(), columns, &origin)?;
                let file = BufReader::new(File::open(path).map_err(failed("open"))?);
                reader = guarded(&origin, || FileReader::try_new(file, Some(places)))?;
            }
            let schema = reader.schema();
            (Source::File(reader), schema)
        } else if start.starts_with(&[0xff; 4]) {
            let mut reader = Self::stream(file, &origin)?;
            if let Some(columns) = columns {
                places(&reader.schema, columns, &origin)?;
            }
            reader.batch_rows = batch_rows;
            return Ok(reader);
        } else {
            let found = if start.is_empty() {
                "nothing: the file is empty".to_owned()
            } else {
                format!("\"{}\"", start.escape_ascii())
            };
            return Err(ColumnarError::Magic {
                origin: origin.to_string(),
                found,
            });
        };
        Ok(Self {
            source,
            schema,
            origin,
            row: 0,
            rows: None,
            batch_rows,
            rest: None,
        })
    }

    fn parquet(
        file: File,
        origin: Arc<str>,
        columns: Option<&[&str]>,
        batch_rows: usize,
    ) -> Result<Self, ColumnarError> {
        let mut builder = guarded(&origin, || ParquetRecordBatchReaderBuilder::try_new(file))?;
        if let Some(columns) = columns {
            let places = places(builder.schema(), columns, &origin)?;
            let mask = ProjectionMask::roots(builder.parquet_schema(), places);
            builder = builder.with_projection(mask);
        }
        let metadata = builder.metadata();
        let rows = count_rows(metadata).ok_or_else(|| {
            ColumnarError::broken(
                &origin,
                "the rows of the row groups are not those of the file",
            )
        })?;
        let longest = metadata
            .row_groups()
            .iter()
            .map(|group| {
                let bytes = u64::try_from(group.total_byte_size()).unwrap_or(0);
                bytes / u64::try_from(group.num_rows()).unwrap_or(1).max(1)
            })
            .max()
            .unwrap_or(0);
        let fitting = usize::try_from(BATCH_BYTES / longest.max(1)).unwrap_or(usize::MAX);
        let builder = builder.with_batch_size(batch_rows.min(fitting).max(1));
        let reader = guarded(&origin, || builder.build())?;
        let schema = arrow::array::RecordBatchReader::schema(&reader);
        Ok(Self {
            source: Source::Parquet(reader),
            schema,
            origin,
            row: 0,
            rows: Some(rows),
            batch_rows,
            rest: None,
        })
    }

    /// Reads an Arrow IPC stream, for instance standard input; `origin` is named in errors. Returns
    /// when the names of the columns have arrived. A table is a record batch of the stream, so that
    /// one may be answered before the next is sent.
    ///
    /// # Errors
    /// Something else than an Arrow IPC stream.
    pub fn stream(source: impl Read + Send + 'static, origin: &str) -> Result<Self, ColumnarError> {
        let source: Box<dyn Read + Send> = Box::new(source);
        let reader = guarded(origin, || StreamReader::try_new_buffered(source, None))?;
        Ok(Self {
            schema: reader.schema(),
            source: Source::Stream(Box::new(reader)),
            origin: origin.into(),
            row: 0,
            rows: None,
            batch_rows: usize::MAX,
            rest: None,
        })
    }

    /// Names of the columns.
    pub fn names(&self) -> Vec<String> {
        names(&self.schema)
    }

    /// Number of rows in all, where the file says it.
    pub fn rows(&self) -> Option<u64> {
        self.rows
    }

    /// A table of these columns without rows.
    pub fn empty(&self) -> Table {
        Table::of(
            RecordBatch::new_empty(self.schema.clone()),
            self.origin.clone(),
            0,
        )
    }

    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// A file or stream that breaks off or breaks its format.
    pub fn next_table(&mut self) -> Result<Option<Table>, ColumnarError> {
        let batch = match self.rest.take() {
            Some(rest) => rest,
            None => {
                let source = &mut self.source;
                let next = guarded(&self.origin, || match source {
                    Source::Ended => Ok(None),
                    Source::Parquet(reader) => reader.next().transpose(),
                    Source::File(reader) => reader.next().transpose(),
                    Source::Stream(reader) => reader.next().transpose(),
                });
                if next.is_err() {
                    self.source = Source::Ended;
                }
                match next? {
                    None => return Ok(None),
                    Some(batch) => batch,
                }
            }
        };
        let rows = batch.num_rows();
        let batch = if rows > self.batch_rows {
            self.rest = Some(batch.slice(self.batch_rows, rows - self.batch_rows));
            batch.slice(0, self.batch_rows)
        } else {
            batch
        };
        let first = self.row;
        self.row += batch.num_rows() as u64;
        Ok(Some(Table::of(batch, self.origin.clone(), first)))
    }
}

/// Rows of a Parquet file, if its parts agree on them.
fn count_rows(metadata: &ParquetMetaData) -> Option<u64> {
    let mut sum = 0_u64;
    for group in metadata.row_groups() {
        sum = sum.checked_add(u64::try_from(group.num_rows()).ok()?)?;
    }
    let said = u64::try_from(metadata.file_metadata().num_rows()).ok()?;
    (sum == said).then_some(sum)
}

/// Calls a reader of the formats' libraries. They check what they read, but not all of it: on some
/// damaged files a sum overflows or an index is out of range, and that is an error like any other.
fn guarded<T, E: ToString>(
    origin: &str,
    read: impl FnOnce() -> Result<T, E>,
) -> Result<T, ColumnarError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(outcome) => outcome.map_err(|error| ColumnarError::broken(origin, error)),
        Err(_) => Err(ColumnarError::broken(
            origin,
            "the data contradict themselves",
        )),
    }
}

/// Places of columns of text, in the order of the file.
fn places(schema: &SchemaRef, columns: &[&str], origin: &str) -> Result<Vec<usize>, ColumnarError> {
    let mut places = columns
        .iter()
        .map(|column| text_column(schema, column, origin).map(|(place, _)| place))
        .collect::<Result<Vec<_>, _>>()?;
    places.sort_unstable();
    places.dedup();
    Ok(places)
}
