//! Loading category data: the four forms, options, reports, and hostile files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use datasets::category::to_tsv;
use datasets::{
    CategoryDataset, CategoryFiles, CoarseSource, DatasetError, Form, LoadOptions, Warning,
    coarse_maps, load_category_dir, load_category_files,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tempfile::TempDir;

const TRAIN: &str = "text\tcoarse\tfine\none\ta\ta1\ntwo\tb\tb1\nthree\ta\ta2\n";
const TEST: &str = "text\tcoarse\tfine\nfour\tb\tb1\nfive\ta\ta2\nsix\ta\ta1\n";

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

fn load_with(
    files: &[(&str, &[u8])],
    options: &LoadOptions,
) -> Result<CategoryDataset, DatasetError> {
    load_category_dir(folder(files).path(), options)
}

fn load(files: &[(&str, &[u8])]) -> Result<CategoryDataset, DatasetError> {
    load_with(files, &LoadOptions::default())
}

/// A folder whose training file is `train` in form 1, beside a good test file.
fn train_error(train: &[u8]) -> DatasetError {
    load(&[("train.tsv", train), ("test.tsv", TEST.as_bytes())]).unwrap_err()
}

/// A form 2 data set with a given training file.
fn labelled(train: &str, options: &LoadOptions) -> Result<CategoryDataset, DatasetError> {
    load_with(
        &[
            ("train.tsv", train.as_bytes()),
            ("test.tsv", b"text\tlabel\nq\ta_x\n"),
        ],
        options,
    )
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

// ---------------------------------------------------------------- forms

#[test]
fn form_1_gives_sorted_ids_from_the_training_file() {
    let data = load(&[
        ("train.tsv", TRAIN.as_bytes()),
        ("test.tsv", TEST.as_bytes()),
    ])
    .unwrap();
    assert_eq!(data.coarse_names, ["a", "b"]);
    assert_eq!(data.fine_names.as_deref().unwrap(), ["a1", "a2", "b1"]);
    assert_eq!(data.train.texts, ["one", "two", "three"]);
    assert_eq!(data.train.coarse, [0, 1, 0]);
    assert_eq!(data.train.fine.as_deref().unwrap(), [0, 2, 1]);
    assert_eq!(data.test.fine.as_deref().unwrap(), [2, 1, 0]);
    assert_eq!(
        (data.n_coarse(), data.n_fine(), data.valid),
        (2, Some(3), None)
    );
    assert_eq!(data.report.coarse_rule, "coarse column");
}

#[test]
fn form_1_takes_quotes_as_they_are() {
    let train = b"text\tcoarse\n\"quoted\ta\nsay \"hi\" now\tb\n\"\"\ta\n";
    let data = load(&[
        ("train.tsv", train),
        ("test.tsv", b"text\tcoarse\n\"x\ta\n"),
    ])
    .unwrap();
    assert_eq!(data.train.texts, ["\"quoted", "say \"hi\" now", "\"\""]);
    assert_eq!((data.fine_names, data.train.fine), (None, None));
}

#[test]
fn form_2_honours_quotes_and_skips_and_reports_ragged_rows() {
    let train = "text\tlabel\nplain\ta_x\n\"with\ttab and \"\"quote\"\"\"\tb_y\nx\ty\ta_x\nonly text\n\n\
                 a mid\"dle\ta_z\n";
    let test = "text\tcategory\nq\tb_y\nbad\trow\there\n";
    let files: [(&str, &[u8]); 2] = [
        ("train.tsv", train.as_bytes()),
        ("test.tsv", test.as_bytes()),
    ];
    let data = load(&files).unwrap();
    assert_eq!(
        data.train.texts,
        ["plain", "with tab and \"quote\"", "a mid\"dle"]
    );
    assert_eq!(data.coarse_names, ["a", "b"]);
    assert_eq!(data.fine_names.as_deref().unwrap(), ["a_x", "a_z", "b_y"]);
    let report = data.report.file("train").unwrap();
    assert_eq!(report.form, Form::TsvQuoted);
    assert_eq!((report.rows_read, report.rows_kept), (5, 3));
    assert_eq!(
        (report.ragged.count, report.ragged.first.as_slice()),
        (2, &[4, 5][..])
    );
    assert_eq!(data.report.file("test").unwrap().ragged.first, [3]);

    let strict = LoadOptions {
        strict_tsv: true,
        ..LoadOptions::default()
    };
    let error = load_with(&files, &strict).unwrap_err();
    assert!(
        matches!(
            error,
            DatasetError::RaggedRow {
                line: 4,
                expected: 2,
                found: 3,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("train.tsv:4: 3 fields; expected 2")
    );
}

#[test]
fn form_2_line_numbers_survive_blank_lines_and_multi_line_fields() {
    let train = "text\tlabel\n\n\nfirst\ta_x\n\"two\nlines\"\tb_y\n\nragged\n";
    let data = labelled(train, &LoadOptions::default()).unwrap();
    assert_eq!(data.train.texts, ["first", "two lines"]);
    let report = data.report.file("train").unwrap();
    assert_eq!(report.ragged.first, [8]);
    assert_eq!(report.multiline.first, [5]);
    assert!(data.report.warnings.iter().any(|warning| matches!(
        warning,
        Warning::MultilineFields {
            rows: 1,
            first_line: 5,
            ..
        }
    )));
}

#[test]
fn csv_columns_are_found_by_name() {
    let train = "id,fine,text,coarse\n1,a1,\"hello, you\",a\n2,b1,bye,b\n";
    let test = "text,coarse,fine\nhm,a,a1\n";
    let data = load(&[
        ("train.csv", train.as_bytes()),
        ("test.csv", test.as_bytes()),
    ])
    .unwrap();
    assert_eq!(data.train.texts, ["hello, you", "bye"]);
    assert_eq!(data.report.file("train").unwrap().form, Form::Csv);

    let options = LoadOptions {
        text_column: "utterance".into(),
        coarse_column: "domain".into(),
        fine_column: "intent".into(),
        ..LoadOptions::default()
    };
    let train = "utterance,domain,intent\nx,d1,i1\ny,d2,i2\n";
    let data = load_with(
        &[
            ("train.csv", train.as_bytes()),
            ("test.csv", train.as_bytes()),
        ],
        &options,
    )
    .unwrap();
    assert_eq!(data.fine_names.unwrap(), ["i1", "i2"]);
}

#[test]
fn json_lines_take_strings_and_numeric_labels() {
    let train = "{\"text\": \"x\\ty\", \"coarse\": 2, \"fine\": \"f\", \"other\": [1]}\n\n\
                 {\"fine\": 7, \"coarse\": \"10\", \"text\": \"z\"}\n";
    let data = load(&[
        ("train.jsonl", train.as_bytes()),
        ("test.jsonl", train.as_bytes()),
    ])
    .unwrap();
    assert_eq!(data.coarse_names, ["10", "2"]);
    assert_eq!(data.fine_names.as_deref().unwrap(), ["7", "f"]);
    assert_eq!(data.train.texts, ["x y", "z"]);
    let report = data.report.file("train").unwrap();
    assert_eq!(
        (report.form, report.blank.count, report.rows_read),
        (Form::JsonLines, 1, 2)
    );
}

#[test]
fn csv_and_json_lines_with_one_label_derive_the_coarse_one() {
    let csv = "text,label\nx,a_1\ny,b_1\n";
    let json =
        "{\"text\": \"x\", \"category\": \"a_1\"}\n{\"text\": \"y\", \"category\": \"b_1\"}\n";
    let data = load(&[
        ("train.csv", csv.as_bytes()),
        ("test.jsonl", json.as_bytes()),
    ])
    .unwrap();
    assert_eq!(data.coarse_names, ["a", "b"]);
    assert_eq!(data.test.fine, data.train.fine);
}

#[test]
fn gzip_files_load_like_plain_ones() {
    let (train, test) = (gzip(TRAIN.as_bytes()), gzip(TEST.as_bytes()));
    let packed = load(&[("train.tsv.gz", &train), ("test.tsv.gz", &test)]).unwrap();
    let plain = load(&[
        ("train.tsv", TRAIN.as_bytes()),
        ("test.tsv", TEST.as_bytes()),
    ])
    .unwrap();
    assert_eq!((packed.train, packed.test), (plain.train, plain.test));
    let report = packed.report.file("train").unwrap();
    assert_eq!(report.bytes, train.len() as u64);
    assert_eq!(report.sha256, datasets::hash::sha256_hex(&train));
}

#[test]
fn a_validation_file_is_used_when_there_is_one() {
    let data = load(&[
        ("train.tsv", TRAIN.as_bytes()),
        ("valid.tsv", b"text\tcoarse\tfine\nv\tb\tb1\n"),
        ("test.tsv", TEST.as_bytes()),
    ])
    .unwrap();
    let valid = data.valid.unwrap();
    assert_eq!(
        (valid.texts.as_slice(), valid.coarse.as_slice()),
        (&["v".to_owned()][..], &[1][..])
    );
    let names: Vec<&str> = data.report.files.iter().map(|f| f.split.as_str()).collect();
    assert_eq!(names, ["train", "valid", "test"]);
}

#[test]
fn explicit_paths_need_no_particular_name() {
    let dir = folder(&[
        ("set_a.tsv", TRAIN.as_bytes()),
        ("set_b.tsv", TEST.as_bytes()),
    ]);
    let files = CategoryFiles {
        name: "mine".into(),
        train: dir.path().join("set_a.tsv"),
        valid: None,
        test: dir.path().join("set_b.tsv"),
        coarse_map: None,
    };
    let data = load_category_files(&files, &LoadOptions::default()).unwrap();
    assert_eq!((data.name.as_str(), data.test.len()), ("mine", 3));
}

// ---------------------------------------------------------------- coarse labels

#[test]
fn a_coarse_map_beside_the_file_is_used() {
    let data = load(&[
        ("train.tsv", b"text\tlabel\nx\tone\ny\ttwo\nz\tthree\n"),
        ("test.tsv", b"text\tlabel\nw\ttwo\n"),
        (
            "coarse_map.tsv",
            b"fine\tcoarse\tn_train\none\todd\t1\ntwo\teven\t1\nthree\todd\t1\n",
        ),
    ])
    .unwrap();
    assert_eq!(data.coarse_names, ["even", "odd"]);
    assert_eq!(data.train.coarse, [1, 0, 1]);
    assert!(data.report.coarse_rule.ends_with("coarse_map.tsv"));
}

#[test]
fn the_clinc_table_is_taken_when_all_labels_are_its_intents() {
    let mut text = String::from("text\tlabel\n");
    for (intent, _) in coarse_maps::clinc_intents() {
        text.push_str(&format!("about {intent}\t{intent}\n"));
    }
    let files: [(&str, &[u8]); 2] = [
        ("train.tsv", text.as_bytes()),
        ("test.tsv", text.as_bytes()),
    ];
    let data = load(&files).unwrap();
    assert_eq!((data.n_coarse(), data.n_fine()), (10, Some(150)));
    let prefixed = LoadOptions {
        coarse: CoarseSource::Prefix,
        ..LoadOptions::default()
    };
    assert!(load_with(&files, &prefixed).unwrap().n_coarse() > 50);
}

#[test]
fn a_few_clinc_names_are_no_evidence_unless_asked_for() {
    let train = "text\tlabel\nx\tpay_bill\ny\tpto_used\nz\tpto_request\n";
    let test = "text\tlabel\nq\tpto_used\n";
    let files: [(&str, &[u8]); 2] = [
        ("train.tsv", train.as_bytes()),
        ("test.tsv", test.as_bytes()),
    ];
    assert_eq!(load(&files).unwrap().coarse_names, ["pay", "pto"]);
    let clinc = LoadOptions {
        coarse: CoarseSource::Clinc,
        ..LoadOptions::default()
    };
    assert_eq!(
        load_with(&files, &clinc).unwrap().coarse_names,
        ["banking", "work"]
    );
}

#[test]
fn a_label_missing_from_the_map_is_an_error() {
    let map = BTreeMap::from([("a_x".to_owned(), "a".to_owned())]);
    let options = LoadOptions {
        coarse: CoarseSource::Map(map),
        ..LoadOptions::default()
    };
    let error = labelled("text\tlabel\nx\ta_x\ny\tb_y\n", &options).unwrap_err();
    assert!(
        matches!(&error, DatasetError::UnmappedLabel { line: 3, label, .. } if label == "b_y"),
        "{error}"
    );
}

#[test]
fn a_label_without_text_before_its_separator_is_an_error() {
    let error = labelled("text\tlabel\nx\ta_x\ny\t_y\n", &LoadOptions::default()).unwrap_err();
    assert!(
        matches!(
            error,
            DatasetError::EmptyLabel {
                line: 3,
                level: "coarse",
                ..
            }
        ),
        "{error}"
    );
}

fn map_error(map: &str) -> DatasetError {
    load(&[
        ("train.tsv", b"text\tlabel\nx\tone\ny\ttwo\n"),
        ("test.tsv", b"text\tlabel\nw\ttwo\n"),
        ("coarse_map.tsv", map.as_bytes()),
    ])
    .unwrap_err()
}

#[test]
fn a_contradictory_coarse_map_is_an_error() {
    let error = map_error("fine\tcoarse\none\ta\none\tb\n");
    assert!(
        matches!(error, DatasetError::ConflictingMap { line: 3, .. }),
        "{error}"
    );
}

#[test]
fn malformed_coarse_maps_are_errors() {
    assert!(matches!(
        map_error("coarse\tfine\na\tone\n"),
        DatasetError::Header { .. }
    ));
    assert!(matches!(
        map_error("fine\tcoarse\none\n"),
        DatasetError::RaggedRow {
            line: 2,
            expected: 2,
            found: 1,
            ..
        }
    ));
    assert!(matches!(
        map_error("fine\tcoarse\none\t \n"),
        DatasetError::EmptyLabel { line: 2, .. }
    ));
    assert!(matches!(map_error(""), DatasetError::EmptyFile { .. }));
}

// ---------------------------------------------------------------- hostile files

#[test]
fn hostile_ragged_row_in_form_1() {
    for (row, found) in [("short", 1), ("a\tb", 2), ("a\tb\tc\td", 4)] {
        let error = train_error(format!("text\tcoarse\tfine\nok\ta\ta1\n{row}\n").as_bytes());
        assert!(
            matches!(&error, DatasetError::RaggedRow { line: 3, expected: 3, found: f, path } if *f == found && path.ends_with("train.tsv")),
            "{error}"
        );
    }
}

#[test]
fn hostile_ragged_row_in_csv() {
    let error = load(&[
        ("train.csv", b"text,coarse\nx,a\ny,b,c\n"),
        ("test.csv", b"text,coarse\nx,a\n"),
    ])
    .unwrap_err();
    assert!(matches!(
        error,
        DatasetError::RaggedRow {
            line: 3,
            expected: 2,
            found: 3,
            ..
        }
    ));
}

#[test]
fn hostile_byte_order_mark() {
    let train = format!("\u{feff}{TRAIN}");
    let data = load(&[
        ("train.tsv", train.as_bytes()),
        ("test.tsv", TEST.as_bytes()),
    ])
    .unwrap();
    assert_eq!(data.train.texts[0], "one");
    assert!(data.report.file("train").unwrap().byte_order_mark);
    assert!(!data.report.file("test").unwrap().byte_order_mark);
}

#[test]
fn hostile_crlf_line_ends() {
    for name in ["tsv", "csv"] {
        let (train, test) = (TRAIN.replace('\n', "\r\n"), TEST.replace('\n', "\r\n"));
        let comma = |text: String| {
            if name == "csv" {
                text.replace('\t', ",")
            } else {
                text
            }
        };
        let (train, test) = (comma(train), comma(test));
        let data = load(&[
            (&format!("train.{name}"), train.as_bytes()),
            (&format!("test.{name}"), test.as_bytes()),
        ])
        .unwrap();
        assert_eq!(data.fine_names.as_deref().unwrap(), ["a1", "a2", "b1"]);
        assert_eq!(data.train.len(), 3);
        assert!(data.report.file("train").unwrap().crlf);
    }
}

#[test]
fn hostile_crlf_in_form_2_and_json_lines() {
    let train = "text\tlabel\r\nx\ta_x\r\n\r\nragged\r\ny\tb_y\r\n";
    let data = labelled(train, &LoadOptions::default()).unwrap();
    assert_eq!(data.fine_names.as_deref().unwrap(), ["a_x", "b_y"]);
    assert_eq!(data.report.file("train").unwrap().ragged.first, [4]);
    let json = "{\"text\":\"x\",\"coarse\":\"a\"}\r\n{\"text\":\"y\",\"coarse\":\"b\"}\r\n";
    let data = load(&[
        ("train.jsonl", json.as_bytes()),
        ("test.jsonl", json.as_bytes()),
    ])
    .unwrap();
    assert_eq!(data.coarse_names, ["a", "b"]);
}

#[test]
fn hostile_invalid_utf8() {
    let error = train_error(b"text\tcoarse\tfine\nok\ta\ta1\nab\xFFc\tb\tb1\n");
    assert!(
        matches!(
            error,
            DatasetError::InvalidUtf8 {
                line: 3,
                byte: 2,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .ends_with("train.tsv:3: invalid UTF-8 at byte 2 of the line")
    );
}

#[test]
fn hostile_utf16_file() {
    let utf16: Vec<u8> = "\u{feff}text\tcoarse\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert!(matches!(
        train_error(&utf16),
        DatasetError::NulByte { line: 1, .. } | DatasetError::InvalidUtf8 { line: 1, .. }
    ));
}

#[test]
fn hostile_nul_byte() {
    let error = train_error(b"text\tcoarse\tfine\nok\ta\ta1\na\0b\tb\tb1\n");
    assert!(
        matches!(error, DatasetError::NulByte { line: 3, .. }),
        "{error}"
    );
}

#[test]
fn hostile_unclosed_quote_in_form_2() {
    for end in ["", "\n", "\"\"\n", "\"\""] {
        let train = format!("text\tlabel\nx\ta_x\n\"never closed\tb_y\nz\ta_x{end}");
        let error = labelled(&train, &LoadOptions::default()).unwrap_err();
        assert!(
            matches!(error, DatasetError::UnclosedQuote { line: 3, .. }),
            "{end:?}: {error}"
        );
    }
}

#[test]
fn hostile_unclosed_quote_in_csv() {
    let error = load(&[
        ("train.csv", b"text,coarse\nx,a\ny,\"b\n"),
        ("test.csv", b"text,coarse\nx,a\n"),
    ])
    .unwrap_err();
    assert!(
        matches!(error, DatasetError::UnclosedQuote { line: 3, .. }),
        "{error}"
    );
    let error = load(&[("train.csv", b"text,\"coarse"), ("test.csv", b"x")]).unwrap_err();
    assert!(
        matches!(error, DatasetError::UnclosedQuote { line: 1, .. }),
        "{error}"
    );
}

#[test]
fn closed_quote_at_the_end_without_line_end_is_fine() {
    let data = labelled("text\tlabel\nx\tb_x\ny\t\"a_x\"", &LoadOptions::default()).unwrap();
    assert_eq!(data.train.len(), 2);
    assert_eq!(data.fine_names.unwrap(), ["a_x", "b_x"]);
}

#[test]
fn hostile_ten_megabyte_line() {
    let mut train = b"text\tcoarse\tfine\nok\ta\ta1\n".to_vec();
    train.extend(vec![b'x'; 10_000_001]);
    train.extend(b"\tb\tb1\n");
    let error = train_error(&train);
    assert!(
        matches!(
            error,
            DatasetError::LineTooLong {
                line: 3,
                limit: 10_000_000,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn hostile_quoted_field_longer_than_a_line_may_be() {
    let train = format!("text\tlabel\nx\ta_x\n\"{}\"\tb_y\n", "ab\n".repeat(40));
    let options = LoadOptions {
        max_line_bytes: 100,
        ..LoadOptions::default()
    };
    let error = labelled(&train, &options).unwrap_err();
    assert!(
        matches!(
            error,
            DatasetError::LineTooLong {
                line: 3,
                limit: 100,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn hostile_empty_file() {
    for content in ["", "\n\n", "  \r\n", "\u{feff}"] {
        let error = train_error(content.as_bytes());
        assert!(
            matches!(error, DatasetError::EmptyFile { .. }),
            "{content:?}: {error}"
        );
    }
}

#[test]
fn hostile_header_only() {
    for header in [
        "text\tcoarse\tfine\n",
        "text\tcoarse",
        "text\tlabel\n",
        "text\tlabel\n\n\nx\n",
    ] {
        let error = train_error(header.as_bytes());
        assert!(
            matches!(error, DatasetError::NoRows { .. }),
            "{header:?}: {error}"
        );
    }
    let error = load(&[("train.csv", b"text,coarse\n"), ("test.csv", b"x")]).unwrap_err();
    assert!(matches!(error, DatasetError::NoRows { .. }), "{error}");
}

#[test]
fn hostile_header_only_test_file() {
    let error = load(&[
        ("train.tsv", TRAIN.as_bytes()),
        ("test.tsv", b"text\tcoarse\tfine\n"),
    ])
    .unwrap_err();
    assert!(matches!(&error, DatasetError::NoRows { path, .. } if path.ends_with("test.tsv")));
}

#[test]
fn hostile_unknown_header() {
    for header in [
        "",
        "coarse\ttext",
        "Text\tCoarse",
        "text,coarse",
        "text\tcoarse\tfine\tmore",
        "text",
    ] {
        let error = train_error(format!("{header}\nx\ta\ta1\n").as_bytes());
        assert!(
            matches!(error, DatasetError::Header { .. }),
            "{header}: {error}"
        );
    }
    let long = train_error(format!("{}\nx\n", "é\t".repeat(500)).as_bytes()).to_string();
    assert!(long.len() < 600, "{long}");
}

#[test]
fn hostile_csv_headers() {
    for header in [
        "text",
        "coarse,fine",
        "text,text,coarse",
        "text,coarse,coarse",
        "text;coarse",
        "text,other",
    ] {
        let content = format!("{header}\nx,a\n");
        let error = load(&[("train.csv", content.as_bytes()), ("test.csv", b"x")]).unwrap_err();
        assert!(
            matches!(error, DatasetError::Header { .. }),
            "{header}: {error}"
        );
    }
    let same = LoadOptions {
        text_column: "coarse".into(),
        ..LoadOptions::default()
    };
    let error = load_with(
        &[("train.csv", b"coarse,fine\nx,a\n"), ("test.csv", b"x")],
        &same,
    )
    .unwrap_err();
    assert!(matches!(error, DatasetError::Header { .. }), "{error}");
}

#[test]
fn hostile_single_coarse_category() {
    let error = train_error(b"text\tcoarse\tfine\nx\ta\ta1\ny\ta\ta2\n");
    assert!(
        matches!(error, DatasetError::TooFewCoarse { found: 1, .. }),
        "{error}"
    );
}

#[test]
fn hostile_coarse_label_seen_only_in_test() {
    let test = b"text\tcoarse\tfine\nx\ta\ta1\ny\tz\ta1\n";
    let skip = LoadOptions {
        skip_unseen_fine: true,
        ..LoadOptions::default()
    };
    for options in [LoadOptions::default(), skip] {
        let error = load_with(
            &[("train.tsv", TRAIN.as_bytes()), ("test.tsv", test)],
            &options,
        )
        .unwrap_err();
        assert!(
            matches!(&error, DatasetError::UnknownLabel { line: 3, level: "coarse", label, path } if label == "z" && path.ends_with("test.tsv")),
            "{error}"
        );
    }
}

#[test]
fn hostile_fine_label_seen_only_in_test() {
    let test = b"text\tcoarse\tfine\nx\ta\ta1\ny\ta\tnew\n";
    let files: [(&str, &[u8]); 2] = [("train.tsv", TRAIN.as_bytes()), ("test.tsv", test)];
    let error = load(&files).unwrap_err();
    assert!(
        matches!(&error, DatasetError::UnknownLabel { line: 3, level: "fine", label, .. } if label == "new"),
        "{error}"
    );
    let skip = LoadOptions {
        skip_unseen_fine: true,
        ..LoadOptions::default()
    };
    let data = load_with(&files, &skip).unwrap();
    assert_eq!((data.test.len(), data.test.coarse.len()), (1, 1));
    let report = data.report.file("test").unwrap();
    assert_eq!(
        (report.unseen_fine.first.as_slice(), report.rows_skipped()),
        (&[3][..], 1)
    );
}

#[test]
fn hostile_test_file_without_any_known_fine_label() {
    let skip = LoadOptions {
        skip_unseen_fine: true,
        ..LoadOptions::default()
    };
    let error = load_with(
        &[
            ("train.tsv", TRAIN.as_bytes()),
            ("test.tsv", b"text\tcoarse\tfine\ny\ta\tnew\n"),
        ],
        &skip,
    )
    .unwrap_err();
    assert!(
        matches!(error, DatasetError::NoRows { skipped: 1, .. }),
        "{error}"
    );
}

#[test]
fn hostile_one_row_fine_category_is_a_warning() {
    let train = "text\tcoarse\tfine\no\ta\ta1\np\ta\ta1\nq\tb\tb1\n";
    let data = load(&[
        ("train.tsv", train.as_bytes()),
        ("test.tsv", b"text\tcoarse\tfine\nz\ta\ta1\n"),
    ])
    .unwrap();
    assert!(
        data.report
            .warnings
            .contains(&Warning::SingleRowFine { label: "b1".into() })
    );
    assert!(
        !data
            .report
            .warnings
            .contains(&Warning::SingleRowFine { label: "a1".into() })
    );
    for level in ["coarse", "fine"] {
        let label = if level == "fine" { "b1" } else { "b" };
        assert!(data.report.warnings.contains(&Warning::AbsentLabel {
            split: "test".into(),
            level: level.into(),
            label: label.into()
        }));
    }
}

#[test]
fn hostile_fine_category_under_two_coarse_ones_is_a_warning() {
    let train = "text\tcoarse\tfine\no\ta\tx\np\tb\tx\n";
    let data = load(&[
        ("train.tsv", train.as_bytes()),
        ("test.tsv", train.as_bytes()),
    ])
    .unwrap();
    assert!(data.report.warnings.contains(&Warning::SharedFine {
        label: "x".into(),
        coarse: vec!["a".into(), "b".into()]
    }));
}

#[test]
fn hostile_empty_text() {
    let train = "text\tcoarse\tfine\none\ta\ta1\n \u{a0}\tb\tb1\ntwo\tb\tb1\n";
    let error = train_error(train.as_bytes());
    assert!(
        matches!(error, DatasetError::EmptyText { line: 3, .. }),
        "{error}"
    );
    let skip = LoadOptions {
        skip_empty_text: true,
        ..LoadOptions::default()
    };
    let data = load_with(
        &[
            ("train.tsv", train.as_bytes()),
            ("test.tsv", b"text\tcoarse\tfine\nz\ta\ta1\n"),
        ],
        &skip,
    )
    .unwrap();
    assert_eq!(data.train.texts, ["one", "two"]);
    assert_eq!(data.report.file("train").unwrap().empty_text.first, [3]);
}

#[test]
fn hostile_empty_labels() {
    let error = train_error(b"text\tcoarse\tfine\none\t\ta1\n");
    assert!(
        matches!(
            error,
            DatasetError::EmptyLabel {
                line: 2,
                level: "coarse",
                ..
            }
        ),
        "{error}"
    );
    let error = train_error(b"text\tcoarse\tfine\none\ta\t \n");
    assert!(
        matches!(
            error,
            DatasetError::EmptyLabel {
                line: 2,
                level: "fine",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn hostile_json_lines() {
    let good = "{\"text\": \"x\", \"coarse\": \"a\"}\n";
    let error = |second: &str| {
        let content = format!("{good}{second}\n");
        load(&[
            ("train.jsonl", content.as_bytes()),
            ("test.jsonl", good.as_bytes()),
        ])
        .unwrap_err()
    };
    for line in [
        "{",
        "[]",
        "3",
        "null",
        "\"x\"",
        "{\"text\": \"x\"} trailing",
        &"[".repeat(100_000),
    ] {
        let error = error(line);
        assert!(
            matches!(error, DatasetError::Json { line: 2, .. }),
            "{error}"
        );
    }
    for (line, field) in [
        ("{}", "text"),
        ("{\"text\": 3, \"coarse\": \"a\"}", "text"),
        ("{\"text\": \"x\"}", "coarse"),
        ("{\"text\": \"x\", \"coarse\": null}", "coarse"),
        ("{\"text\": \"x\", \"coarse\": [\"a\"]}", "coarse"),
    ] {
        let error = error(line);
        assert!(
            matches!(&error, DatasetError::Field { line: 2, field: f, .. } if f == field),
            "{error}"
        );
    }
    let none = load(&[
        ("train.jsonl", b"{\"text\": \"x\"}\n"),
        ("test.jsonl", b"x"),
    ])
    .unwrap_err();
    assert!(
        matches!(none, DatasetError::Field { line: 1, .. }),
        "{none}"
    );
}

#[test]
fn hostile_gzip_files() {
    let packed = gzip(TRAIN.as_bytes());
    let error =
        |bytes: &[u8]| load(&[("train.tsv.gz", bytes), ("test.tsv", TEST.as_bytes())]).unwrap_err();
    assert!(matches!(
        error(&packed[..packed.len() - 9]),
        DatasetError::Compressed { .. }
    ));
    assert!(matches!(
        error(TRAIN.as_bytes()),
        DatasetError::Compressed { .. }
    ));
    let mut flipped = packed.clone();
    let last = flipped.len() - 5;
    flipped[last] ^= 1;
    assert!(matches!(error(&flipped), DatasetError::Compressed { .. }));
    // Without the ending the compressed bytes are taken as text; the header of gzip has NULs.
    assert!(matches!(
        train_error(&packed),
        DatasetError::NulByte { line: 1, .. }
    ));
}

#[test]
fn hostile_decompression_bomb() {
    let bomb = gzip(&vec![b' '; 5_000_000]);
    let options = LoadOptions {
        max_file_bytes: 1_000_000,
        ..LoadOptions::default()
    };
    let error = load_with(&[("train.tsv.gz", &bomb), ("test.tsv", b"x")], &options).unwrap_err();
    assert!(
        matches!(
            error,
            DatasetError::FileTooLarge {
                limit: 1_000_000,
                ..
            }
        ),
        "{error}"
    );
    let plain = vec![b'x'; 1_000_001];
    let error = load_with(&[("train.tsv", &plain), ("test.tsv", b"x")], &options).unwrap_err();
    assert!(
        matches!(error, DatasetError::FileTooLarge { .. }),
        "{error}"
    );
}

#[test]
fn hostile_folders() {
    let error =
        load_category_dir(Path::new("no-such-folder"), &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, DatasetError::Io { .. }), "{error}");
    let error = load(&[("train.tsv", TRAIN.as_bytes())]).unwrap_err();
    assert!(
        matches!(error, DatasetError::MissingSplit { split: "test", .. }),
        "{error}"
    );
    let error = load(&[
        ("train.tsv", TRAIN.as_bytes()),
        ("train.csv", b"x"),
        ("test.tsv", TEST.as_bytes()),
    ])
    .unwrap_err();
    assert!(
        matches!(error, DatasetError::AmbiguousSplit { split: "train", .. }),
        "{error}"
    );
    assert!(error.to_string().contains("train.tsv, train.csv"));
}

#[test]
fn hostile_file_names() {
    let dir = folder(&[("data.txt", TRAIN.as_bytes())]);
    let path = dir.path().join("data.txt");
    let files = |train: &Path| CategoryFiles {
        name: "x".into(),
        train: train.to_owned(),
        valid: None,
        test: train.to_owned(),
        coarse_map: None,
    };
    let error = load_category_files(&files(&path), &LoadOptions::default()).unwrap_err();
    assert!(
        matches!(error, DatasetError::UnknownExtension { .. }),
        "{error}"
    );
    let error = load_category_files(&files(dir.path()), &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, DatasetError::Io { .. }), "{error}");
}

// ---------------------------------------------------------------- fine labels in one split only

#[test]
fn fine_labels_of_the_test_file_alone_are_ignored_with_a_warning() {
    let data = load(&[
        ("train.tsv", b"text\tcoarse\nx\ta\ny\tb\n"),
        ("test.tsv", TEST.as_bytes()),
    ])
    .unwrap();
    assert_eq!((data.fine_names, data.test.fine), (None, None));
    assert!(data.report.warnings.contains(&Warning::FineIgnored {
        split: "test".into()
    }));
}

#[test]
fn a_test_file_without_fine_labels_is_a_warning() {
    let data = load(&[
        ("train.tsv", TRAIN.as_bytes()),
        ("test.tsv", b"text\tcoarse\nx\ta\n"),
    ])
    .unwrap();
    assert!(data.fine_names.is_some() && data.test.fine.is_none());
    assert!(data.report.warnings.contains(&Warning::FineMissing {
        split: "test".into()
    }));
}

// ---------------------------------------------------------------- report

#[test]
fn report_counts_duplicates_and_leakage_and_prints() {
    let train = "text\tcoarse\tfine\nsame\ta\ta1\nsame\ta\ta1\nclash\ta\ta1\nclash\ta\ta2\nHello, you\tb\tb1\n";
    let test = "text\tcoarse\tfine\nhello you\tb\tb1\nsame\ta\ta1\nnew\ta\ta2\n";
    let data = load(&[
        ("train.tsv", train.as_bytes()),
        ("test.tsv", test.as_bytes()),
    ])
    .unwrap();
    let report = &data.report;
    assert_eq!(
        (
            report.duplicates.texts,
            report.duplicates.extra_rows,
            report.duplicates.conflicting
        ),
        (2, 2, 1)
    );
    assert_eq!(
        (report.leakage[0].exact, report.leakage[0].normalised),
        (1, 2)
    );
    let printed = report.to_string();
    assert!(
        printed.contains("2 coarse and 3 fine categories"),
        "{printed}"
    );
    assert!(printed.contains("repeated training texts: 2 (2 extra rows), 1 with different labels"));
    assert!(printed.contains("test rows also in train: 1 exactly, 2 without case and punctuation"));
    assert!(printed.contains(&datasets::hash::sha256_hex(train.as_bytes())));
    let json = serde_json::to_value(report).unwrap();
    assert_eq!(json["files"][0]["rows_kept"], 5);
    assert_eq!(json["files"][0]["form"], "tsv-plain");
    assert_eq!(json["warnings"][0]["kind"], "single_row_fine");
}

// ---------------------------------------------------------------- properties

/// A slow, separate reading of CSV-quoted records: one character at a time.
fn slow_quoted(text: &str) -> Vec<Vec<String>> {
    let mut records = Vec::new();
    let mut record = vec![String::new()];
    let (mut quoted, mut started) = (false, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let field = record.last_mut().unwrap();
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            c if quoted => field.push(c),
            '"' if field.is_empty() && !started => {
                quoted = true;
                started = true;
            }
            '\t' => {
                record.push(String::new());
                started = false;
            }
            '\n' => {
                if record.len() > 1 || started || !record[0].is_empty() {
                    records.push(std::mem::take(&mut record));
                }
                record = vec![String::new()];
                started = false;
            }
            c => field.push(c),
        }
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn form_1_round_trips(
        rows in prop::collection::vec(("[\"a-c ,]{0,5}[\"a-c,]", 0_usize..3, 0_usize..2), 1..20)
    ) {
        let mut text = String::from("text\tcoarse\tfine\nx\tc0\tf00\ny\tc1\tf10\nz\tc2\tf20\n");
        for (sentence, coarse, fine) in &rows {
            let sentence = sentence.split_whitespace().collect::<Vec<_>>().join(" ");
            text.push_str(&format!("{sentence}\tc{coarse}\tf{coarse}{fine}\n"));
        }
        let data = load(&[("train.tsv", text.as_bytes()), ("test.tsv", text.as_bytes())]).unwrap();
        prop_assert_eq!(to_tsv(&data, &data.train), text);
        prop_assert_eq!(data.train.len(), rows.len() + 3);
        prop_assert!(data.coarse_names.windows(2).all(|w| w[0] < w[1]));
        prop_assert!(data.fine_names.unwrap().windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn form_2_agrees_with_a_slow_reader(
        fields in prop::collection::vec(prop::collection::vec("[ab]{1,3}|\"[ab\t]{1,4}(\"\"b)?\"|a\"b", 1..4), 0..12)
    ) {
        let mut text = String::from("text\tlabel\nx\ta_x\ny\tb_y\n");
        for row in &fields {
            text.push_str(&row.join("\t"));
            text.push('\n');
        }
        let tidy = |s: &str| s.split_whitespace().collect::<Vec<_>>().join(" ");
        let records = slow_quoted(&text);
        let kept: Vec<&Vec<String>> = records[1..].iter().filter(|r| r.len() == 2).collect();
        prop_assume!(kept.iter().all(|r| !tidy(&r[0]).is_empty() && !tidy(&r[1]).is_empty()));
        let data = labelled(&text, &LoadOptions::default()).unwrap();
        let expected: Vec<String> = kept.iter().map(|r| tidy(&r[0])).collect();
        prop_assert_eq!(&data.train.texts, &expected);
        let report = data.report.file("train").unwrap();
        prop_assert_eq!(report.ragged.count, records.len() - 1 - kept.len());
        prop_assert_eq!(report.rows_read, records.len() - 1);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), which in 0_usize..4) {
        let header: &[u8] =
            [&b"text\tcoarse\n"[..], b"text\tlabel\n", b"text,coarse\n", b""][which];
        let name = ["train.tsv", "train.tsv", "train.csv", "train.jsonl"][which];
        let content = [header, &bytes].concat();
        let _ = load(&[(name, &content), ("test.tsv", TEST.as_bytes())]);
    }

    #[test]
    fn arbitrary_tables_never_panic(body in "[ab\t\",\n\r{}:]{0,80}", which in 0_usize..4) {
        let header = ["text\tcoarse\n", "text\tlabel\n", "text,coarse\n", ""][which];
        let name = ["train.tsv", "train.tsv", "train.csv", "train.jsonl"][which];
        let content = format!("{header}{body}");
        let _ = load(&[(name, content.as_bytes()), ("test.tsv", TEST.as_bytes())]);
    }
}
