//! Parquet files and Arrow streams: text columns in, rows of answers out.
//!
//! | | in | out |
//! |---|---|---|
//! | Parquet | row groups one after the other, snappy, zstd or not compressed | a row group a [`Table`], zstd |
//! | Arrow IPC stream | a record batch a [`Table`], not compressed | the same |
//! | Arrow IPC file (also called Feather 2) | as a stream | - |
//!
//! A [`Reader`] holds one batch at a time, so files may be larger than the memory. Columns that this
//! crate has no use for travel through a [`Table`] untouched.
//!
//! ```
//! use columnar::{Column, Format, Reader, Table, Values, Writer};
//!
//! let texts = ["where is my card", "hello"].map(|text| Some(text.to_owned())).to_vec();
//! let table = Table::new(vec![Column { name: "text".into(), values: Values::Text(texts) }])?;
//! let mut writer = Writer::new(Format::Arrow, Vec::new(), &table)?;
//! writer.write(&table)?;
//! let bytes = writer.finish()?;
//!
//! let mut reader = Reader::stream(std::io::Cursor::new(bytes), "example")?;
//! let read = reader.next_table()?.unwrap();
//! assert_eq!(read.texts("text")?, ["where is my card", "hello"]);
//! assert!(reader.next_table()?.is_none());
//! # Ok::<(), columnar::ColumnarError>(())
//! ```

mod error;
mod reader;
mod table;
mod writer;

pub use error::ColumnarError;
pub use reader::{Reader, column_names, read_columns};
pub use table::{Column, Table, Values};
pub use writer::{Format, Writer};
