//! Some rows of named columns.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, Float32Array, Int8Array,
    Int64Array, RecordBatch, RecordBatchOptions, StringArray, UInt8Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};

use crate::error::ColumnarError;

/// A column to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its values, one a row.
    pub values: Values,
}

impl Column {
    /// The column without rows.
    pub fn emptied(mut self) -> Self {
        match &mut self.values {
            Values::Text(values) => values.clear(),
            Values::Whole(values) => values.clear(),
            Values::Real(values) => values.clear(),
            Values::Truth(values) => values.clear(),
            Values::Vectors { values, .. } => values.clear(),
            Values::SignedBytes { values, .. } => values.clear(),
            Values::UnsignedBytes { values, .. } => values.clear(),
        }
        self
    }
}

/// Values of a column. The Arrow types are those that Spark knows as well, which has no unsigned
/// integers.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Utf8.
    Text(Vec<Option<String>>),
    /// Int64.
    Whole(Vec<Option<i64>>),
    /// Float32.
    Real(Vec<Option<f32>>),
    /// Boolean.
    Truth(Vec<Option<bool>>),
    /// `FixedSizeList<Float32>`, `[rows * width]`.
    Vectors {
        /// Row after row.
        values: Vec<f32>,
        /// Numbers a row, at least 1.
        width: usize,
    },
    /// `FixedSizeList<Int8>`, `[rows * width]`.
    SignedBytes {
        /// Row after row.
        values: Vec<i8>,
        /// Numbers a row, at least 1.
        width: usize,
    },
    /// `FixedSizeList<UInt8>`, `[rows * width]`.
    UnsignedBytes {
        /// Row after row.
        values: Vec<u8>,
        /// Numbers a row, at least 1.
        width: usize,
    },
}

impl Values {
    fn array(self) -> Result<ArrayRef, ColumnarError> {
        Ok(match self {
            Self::Text(values) => Arc::new(StringArray::from(values)),
            Self::Whole(values) => Arc::new(Int64Array::from(values)),
            Self::Real(values) => Arc::new(Float32Array::from(values)),
            Self::Truth(values) => Arc::new(BooleanArray::from(values)),
            Self::Vectors { values, width } => lists(Arc::new(Float32Array::from(values)), width)?,
            Self::SignedBytes { values, width } => lists(Arc::new(Int8Array::from(values)), width)?,
            Self::UnsignedBytes { values, width } => {
                lists(Arc::new(UInt8Array::from(values)), width)?
            }
        })
    }
}

/// `values` cut into lists of `width`.
fn lists(values: ArrayRef, width: usize) -> Result<ArrayRef, ColumnarError> {
    let size = i32::try_from(width)
        .ok()
        .filter(|size| *size > 0 && values.len().is_multiple_of(width))
        .ok_or_else(|| {
            let count = values.len();
            ColumnarError::Encode(format!("{count} numbers are no rows of width {width}"))
        })?;
    let item = Arc::new(Field::new("item", values.data_type().clone(), false));
    let lists = FixedSizeListArray::try_new(item, size, values, None);
    Ok(Arc::new(lists.map_err(ColumnarError::write_arrow)?))
}

/// Rows that were read together, or are to be written together.
#[derive(Debug, Clone)]
pub struct Table {
    pub(crate) batch: RecordBatch,
    origin: Arc<str>,
    first_row: u64,
}

impl Table {
    /// A table of columns of equal length, at least one.
    ///
    /// # Errors
    /// Two columns of one name or of different length, a width that does not divide its numbers.
    pub fn new(columns: Vec<Column>) -> Result<Self, ColumnarError> {
        let mut columns = columns.into_iter();
        let (fields, arrays, rows) = match columns.next() {
            None => (Vec::new(), Vec::new(), 0),
            Some(first) => {
                let (field, array) = field(first)?;
                let rows = array.len();
                (vec![Arc::new(field)], vec![array], rows)
            }
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new_with_options(schema, arrays, &options)
            .map_err(ColumnarError::write_arrow)?;
        Self::of(batch, "table".into(), 0).with(columns.collect())
    }

    pub(crate) fn of(batch: RecordBatch, origin: Arc<str>, first_row: u64) -> Self {
        Self {
            batch,
            origin,
            first_row,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// Row of the file or stream that the first row of this table was; 0 for a new table.
    pub fn first_row(&self) -> u64 {
        self.first_row
    }

    /// Names of the columns.
    pub fn names(&self) -> Vec<String> {
        names(self.batch.schema_ref())
    }

    /// The texts of a column: strings in any of Arrow's layouts, or a dictionary of them.
    ///
    /// # Errors
    /// The column is missing, holds something else, or has a null.
    pub fn texts(&self, column: &str) -> Result<Vec<String>, ColumnarError> {
        let texts = self.optional_texts(column)?;
        let rows = self.first_row..;
        rows.zip(texts)
            .map(|(row, text)| {
                text.ok_or_else(|| ColumnarError::Null {
                    origin: self.origin.to_string(),
                    column: column.to_owned(),
                    row,
                })
            })
            .collect()
    }

    /// As [`texts`](Self::texts), with `None` for nulls.
    ///
    /// # Errors
    /// The column is missing or holds something else.
    pub fn optional_texts(&self, column: &str) -> Result<Vec<Option<String>>, ColumnarError> {
        let (index, data_type) = text_column(self.batch.schema_ref(), column, &self.origin)?;
        let array = self.batch.column(index);
        let plain = |array: &ArrayRef| {
            cast(array, &DataType::LargeUtf8)
                .map_err(|error| ColumnarError::broken(&self.origin, error))
        };
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Ok(match data_type {
            DataType::Utf8 => array.as_string::<i32>().iter().map(owned).collect(),
            DataType::LargeUtf8 => array.as_string::<i64>().iter().map(owned).collect(),
            DataType::Utf8View => array.as_string_view().iter().map(owned).collect(),
            _ => plain(array)?.as_string::<i64>().iter().map(owned).collect(),
        })
    }

    /// The table with more columns at the end.
    ///
    /// # Errors
    /// A name that is already there, a length other than that of the table.
    pub fn with(self, columns: Vec<Column>) -> Result<Self, ColumnarError> {
        let schema = self.batch.schema();
        let mut fields = schema.fields().to_vec();
        let mut arrays = self.batch.columns().to_vec();
        let rows = self.rows();
        for column in columns {
            if fields.iter().any(|field| *field.name() == column.name) {
                return Err(ColumnarError::Clash {
                    column: column.name,
                });
            }
            let (field, array) = field(column)?;
            if array.len() != rows {
                return Err(ColumnarError::Length {
                    column: field.name().clone(),
                    expected: rows,
                    found: array.len(),
                });
            }
            fields.push(Arc::new(field));
            arrays.push(array);
        }
        let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options)
            .map_err(ColumnarError::write_arrow)?;
        Ok(Self { batch, ..self })
    }
}

fn field(column: Column) -> Result<(Field, ArrayRef), ColumnarError> {
    let array = column.values.array()?;
    let field = Field::new(column.name, array.data_type().clone(), true);
    Ok((field, array))
}

pub(crate) fn names(schema: &Schema) -> Vec<String> {
    let fields = schema.fields().iter();
    fields.map(|field| field.name().clone()).collect()
}

/// Place and type of a column of text.
pub(crate) fn text_column<'a>(
    schema: &'a Schema,
    column: &str,
    origin: &str,
) -> Result<(usize, &'a DataType), ColumnarError> {
    let (index, field) =
        schema
            .column_with_name(column)
            .ok_or_else(|| ColumnarError::MissingColumn {
                origin: origin.to_owned(),
                column: column.to_owned(),
                found: names(schema).join(", "),
            })?;
    let data_type = field.data_type();
    let is_text = |of: &DataType| {
        matches!(
            of,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        )
    };
    match data_type {
        DataType::Dictionary(_, values) if is_text(values) => Ok((index, data_type)),
        plain if is_text(plain) => Ok((index, data_type)),
        other => Err(ColumnarError::NotText {
            origin: origin.to_owned(),
            column: column.to_owned(),
            found: other.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{DictionaryArray, LargeStringArray, StringViewArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn text(name: &str, values: &[Option<&str>]) -> Column {
        let values = values.iter().map(|v| v.map(str::to_owned)).collect();
        Column {
            name: name.to_owned(),
            values: Values::Text(values),
        }
    }

    #[test]
    fn every_layout_of_text_is_read() {
        let plain = ["a", "", "a"];
        let dictionary: DictionaryArray<Int32Type> = plain.into_iter().collect();
        let arrays: [ArrayRef; 4] = [
            Arc::new(StringArray::from(plain.to_vec())),
            Arc::new(LargeStringArray::from(plain.to_vec())),
            Arc::new(StringViewArray::from(plain.to_vec())),
            Arc::new(dictionary),
        ];
        for array in arrays {
            let batch = RecordBatch::try_from_iter([("t", array)]).unwrap();
            let table = Table::of(batch, "x".into(), 0);
            assert_eq!(table.texts("t").unwrap(), plain);
        }
    }

    #[test]
    fn nulls_are_named_by_their_row_in_the_file() {
        let mut table = Table::new(vec![text("t", &[Some("a"), None])]).unwrap();
        assert_eq!(
            table.optional_texts("t").unwrap(),
            [Some("a".to_owned()), None]
        );
        table = Table::of(table.batch, "in.parquet".into(), 40);
        assert_eq!(
            table.texts("t").unwrap_err().to_string(),
            "in.parquet: column `t`, row 41 (the first is 0): expected text, found null"
        );
    }

    #[test]
    fn names_and_lengths_must_fit() {
        let table = Table::new(vec![text("t", &[Some("a"), None])]).unwrap();
        let with = |column| table.clone().with(vec![column]).unwrap_err().to_string();
        assert!(with(text("t", &[None, None])).contains("two columns of the name `t`"));
        assert!(with(text("u", &[None])).contains("expected 2 rows, found 1"));
        for width in [0, 2] {
            let values = vec![0.0; 3];
            let column = Column {
                name: "v".into(),
                values: Values::Vectors { values, width },
            };
            assert!(with(column).contains(&format!("3 numbers are no rows of width {width}")));
        }
        let column = Column {
            name: "n".into(),
            values: Values::Whole(vec![Some(1), None]),
        };
        let more = table.with(vec![column]).unwrap();
        assert_eq!(
            (more.rows(), more.names()),
            (2, vec!["t".into(), "n".into()])
        );
        assert_eq!(
            more.texts("n").unwrap_err().to_string(),
            "table: column `n`: expected text, found Int64"
        );
        assert_eq!(
            more.texts("x").unwrap_err().to_string(),
            "table: no column `x`; there are: t, n"
        );
    }
}
