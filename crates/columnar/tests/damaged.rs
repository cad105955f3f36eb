//! Bytes that were changed on the way.
#![allow(clippy::unwrap_used)]

use columnar::{Column, Format, Table, Values, Writer, read_columns};

/// A hundred texts in two tables.
fn bytes(format: Format) -> Vec<u8> {
    let table = |from: usize| {
        let texts = (from..from + 50).map(|row| Some(format!("text {}", row % 9)));
        let values = Values::Text(texts.collect());
        let name = "text".to_owned();
        Table::new(vec![Column { name, values }]).unwrap()
    };
    let mut writer = Writer::new(format, Vec::new(), &table(0)).unwrap();
    for from in [0, 50] {
        writer.write(&table(from)).unwrap();
    }
    writer.finish().unwrap()
}

/// Flips bytes all over; whatever comes out, the process lives. Alone in its program, since the hook is everybody's.
#[test]
fn damaged_bytes_are_an_answer_or_an_error() {
    // The libraries below may panic; that is caught, but its backtraces would take most of the time.
    std::panic::set_hook(Box::new(|_| {}));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in");
    for format in [Format::Parquet, Format::Arrow] {
        let whole = bytes(format);
        let mut state = 1_u64;
        let mut next = |below: usize| {
            // Numerical Recipes' linear congruential generator.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut refused = 0;
        for _ in 0..600 {
            let mut bytes = whole.clone();
            for _ in 0..=next(4) {
                let at = next(bytes.len());
                bytes[at] = next(256) as u8;
            }
            std::fs::write(&path, bytes).unwrap();
            refused += usize::from(read_columns(&path, &["text"]).is_err());
        }
        assert!(refused > 40, "{refused}");
    }
}
