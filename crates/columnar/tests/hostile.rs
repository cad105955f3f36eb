//! Files as they come from elsewhere: cut, damaged, lying about their sizes, or of another kind.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Cursor;
use std::path::PathBuf;

use columnar::{Column, ColumnarError, Format, Reader, Table, Values, Writer, read_columns};
use tempfile::TempDir;

const ROWS: usize = 300;

fn rows(from: usize, count: usize) -> Table {
    let texts = (from..from + count).map(|row| Some(format!("text {row}")));
    let coarse = (from..from + count).map(|row| (row % 7 != 0).then(|| format!("c{}", row % 3)));
    let ids = (from..from + count).map(|row| Some(row as i64));
    Table::new(vec![
        Column {
            name: "text".into(),
            values: Values::Text(texts.collect()),
        },
        Column {
            name: "coarse".into(),
            values: Values::Text(coarse.collect()),
        },
        Column {
            name: "id".into(),
            values: Values::Whole(ids.collect()),
        },
    ])
    .unwrap()
}

/// Three tables of 100 rows.
fn bytes(format: Format) -> Vec<u8> {
    let mut writer = Writer::new(format, Vec::new(), &rows(0, 0)).unwrap();
    for part in 0..3 {
        writer.write(&rows(part * 100, 100)).unwrap();
    }
    writer.finish().unwrap()
}

fn file(name: &str, content: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    (dir, path)
}

/// Everything in a file, as it would be used.
fn read(content: &[u8]) -> Result<Vec<Vec<String>>, ColumnarError> {
    let (_dir, path) = file("in", content);
    read_columns(&path, &["text"])
}

#[test]
fn what_is_written_is_read() {
    for format in [Format::Parquet, Format::Arrow] {
        let (_dir, path) = file("in", &bytes(format));
        for batch_rows in [1, 7, 100, 1000] {
            let mut reader = Reader::open(&path, batch_rows).unwrap();
            assert_eq!(reader.names(), ["text", "coarse", "id"]);
            let mut seen = 0;
            while let Some(table) = reader.next_table().unwrap() {
                assert!(table.rows() <= batch_rows);
                assert_eq!(table.first_row(), seen as u64);
                let same = rows(seen, table.rows());
                assert_eq!(table.texts("text").unwrap(), same.texts("text").unwrap());
                assert_eq!(
                    table.optional_texts("coarse").unwrap(),
                    same.optional_texts("coarse").unwrap()
                );
                seen += table.rows();
            }
            assert_eq!(seen, ROWS);
        }
    }
    let (_dir, path) = file("in", &bytes(Format::Parquet));
    assert_eq!(Reader::open(&path, 10).unwrap().rows(), Some(300));
}

#[test]
fn the_same_tables_give_the_same_bytes() {
    for format in [Format::Parquet, Format::Arrow] {
        assert_eq!(bytes(format), bytes(format));
    }
}

#[test]
fn columns_that_are_missing_null_or_numbers_are_named() {
    for format in [Format::Parquet, Format::Arrow] {
        let (_dir, path) = file("some.data", &bytes(format));
        let message = |column| {
            read_columns(&path, &["text", column])
                .unwrap_err()
                .to_string()
        };
        let start = path.display().to_string();
        assert_eq!(
            message("fine"),
            format!("{start}: no column `fine`; there are: text, coarse, id")
        );
        assert_eq!(
            message("id"),
            format!("{start}: column `id`: expected text, found Int64")
        );
        assert_eq!(
            message("coarse"),
            format!("{start}: column `coarse`, row 0 (the first is 0): expected text, found null")
        );
    }
}

#[test]
fn the_order_asked_for_is_the_order_given() {
    let content = {
        let column = |name: &str, text: &str| Column {
            name: name.into(),
            values: Values::Text(vec![Some(text.into())]),
        };
        let table = Table::new(vec![column("a", "1"), column("b", "2"), column("c", "3")]).unwrap();
        let mut writer = Writer::new(Format::Parquet, Vec::new(), &table).unwrap();
        writer.write(&table).unwrap();
        writer.finish().unwrap()
    };
    let (_dir, path) = file("in", &content);
    assert_eq!(
        read_columns(&path, &["c", "a", "c"]).unwrap(),
        [["3"], ["1"], ["3"]]
    );
}

#[test]
fn other_files_are_told_by_their_start() {
    for (content, found) in [
        (&b""[..], "the file is empty"),
        (b"text\tcoarse\na\tb\n", "\"text\\tcoa\""),
        (b"PAR", "\"PAR\""),
        (b"PARE1234", "\"PARE1234\""),
        (b"\x89PNG\r\n", "\"\\x89PNG\\r\\n\""),
    ] {
        let error = read(content).unwrap_err();
        assert!(matches!(error, ColumnarError::Magic { .. }), "{error}");
        assert!(error.to_string().contains(found), "{error}");
    }
    let missing = read_columns(&PathBuf::from("no/such.parquet"), &["text"]).unwrap_err();
    let message = missing.to_string();
    assert!(
        message.starts_with("cannot open no/such.parquet"),
        "{message}"
    );
}

#[test]
fn a_parquet_file_is_refused_wherever_it_breaks_off() {
    let whole = bytes(Format::Parquet);
    for end in (4..whole.len()).step_by(13) {
        assert!(read(&whole[..end]).is_err(), "{end} bytes");
    }
}

/// The format allows a stream to end without its end mark, between two messages.
#[test]
fn a_stream_that_breaks_off_gives_whole_batches_or_an_error() {
    let whole = bytes(Format::Arrow);
    let mut refused = 0;
    for end in (0..whole.len()).step_by(13) {
        let cut = Cursor::new(whole[..end].to_vec());
        let read = Reader::stream(cut, "standard input").and_then(|mut reader| {
            let mut rows = 0;
            while let Some(table) = reader.next_table()? {
                rows += table.rows();
            }
            Ok(rows)
        });
        match read {
            Ok(rows) => assert_eq!(rows % 100, 0),
            Err(error) => {
                assert!(error.to_string().starts_with("standard input: "), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn huge_declared_sizes_are_refused_without_their_memory() {
    // Footer of 2 GiB in a file of some bytes.
    let mut parquet = b"PAR1....".to_vec();
    parquet.extend(0x7fff_ff00_u32.to_le_bytes());
    parquet.extend(b"PAR1");
    assert!(read(&parquet).is_err());

    // Metadata of 2 GiB, then a body of 2^62 bytes in a message that is there.
    let mut stream = vec![0xff; 4];
    stream.extend(0x7fff_ff00_u32.to_le_bytes());
    stream.extend([0; 64]);
    assert!(read(&stream).is_err());
    let whole = bytes(Format::Arrow);
    let (length, at) = body_length(&whole);
    let mut lying = whole.clone();
    lying[at..at + 8].copy_from_slice(&(1_u64 << 62).to_le_bytes());
    assert!(length > 0);
    assert!(read(&lying).is_err());
}

/// Length of the first record batch's body, and where the stream says it: found by the place where
/// its eight bytes stand.
fn body_length(stream: &[u8]) -> (u64, usize) {
    let word = |at: usize| u32::from_le_bytes(stream[at..at + 4].try_into().unwrap()) as usize;
    let schema_end = 8 + word(4);
    let start = schema_end + 8;
    let end = start + word(schema_end + 4);
    let next = stream[end..]
        .windows(4)
        .enumerate()
        .find(|(at, window)| at % 8 == 0 && *window == [0xff; 4])
        .unwrap()
        .0 as u64;
    let at = (start..end - 8)
        .find(|at| stream[*at..at + 8] == next.to_le_bytes())
        .unwrap();
    (next, at)
}
