//! Tables to a Parquet file or an Arrow IPC stream.

use std::io::Write;

use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::error::ColumnarError;
use crate::table::{Table, names};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A Parquet file, zstd.
    Parquet,
    /// An Arrow IPC stream, not compressed.
    Arrow,
}

/// Writes tables of the same columns. The same tables give the same bytes.
pub struct Writer<W: Write + Send> {
    sink: Sink<W>,
    schema: SchemaRef,
}

enum Sink<W: Write + Send> {
    Parquet(Box<ArrowWriter<W>>),
    Arrow(Box<StreamWriter<W>>),
}

impl<W: Write + Send> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl<W: Write + Send> Writer<W> {
    /// Starts a file or stream with the columns of `like`; its rows are not written.
    ///
    /// # Errors
    /// The output refuses the start, or Parquet has no type for a column.
    pub fn new(format: Format, out: W, like: &Table) -> Result<Self, ColumnarError> {
        let schema = like.batch.schema();
        let sink = match format {
            Format::Parquet => {
                let level = ZstdLevel::try_new(1).map_err(ColumnarError::write_parquet)?;
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(level))
                    .build();
                let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties))
                    .map_err(ColumnarError::write_parquet)?;
                Sink::Parquet(Box::new(writer))
            }
            Format::Arrow => {
                let writer =
                    StreamWriter::try_new(out, &schema).map_err(ColumnarError::write_arrow)?;
                Sink::Arrow(Box::new(writer))
            }
        };
        Ok(Self { sink, schema })
    }

    /// Writes a table: a row group, or a record batch.
    ///
    /// # Errors
    /// Other columns than at the start, or the output refuses.
    pub fn write(&mut self, table: &Table) -> Result<(), ColumnarError> {
        let found = table.batch.schema();
        if found.fields() != self.schema.fields() {
            let shown = |schema: &SchemaRef| names(schema).join(", ");
            return Err(ColumnarError::Schema {
                expected: shown(&self.schema),
                found: shown(&found),
            });
        }
        match &mut self.sink {
            Sink::Parquet(writer) => writer
                .write(&table.batch)
                .and_then(|()| writer.flush())
                .map_err(ColumnarError::write_parquet),
            Sink::Arrow(writer) => writer
                .write(&table.batch)
                .map_err(ColumnarError::write_arrow),
        }
    }

    /// Hands what is written so far to the reader of the output.
    ///
    /// # Errors
    /// The output refuses.
    pub fn flush(&mut self) -> Result<(), ColumnarError> {
        match &mut self.sink {
            Sink::Parquet(writer) => writer.inner_mut().flush().map_err(ColumnarError::Write),
            Sink::Arrow(writer) => writer.flush().map_err(ColumnarError::write_arrow),
        }
    }

    /// Writes the end.
    ///
    /// # Errors
    /// The output refuses.
    pub fn finish(self) -> Result<W, ColumnarError> {
        match self.sink {
            Sink::Parquet(writer) => writer.into_inner().map_err(ColumnarError::write_parquet),
            Sink::Arrow(mut writer) => {
                writer.finish().map_err(ColumnarError::write_arrow)?;
                writer.into_inner().map_err(ColumnarError::write_arrow)
            }
        }
    }
}
