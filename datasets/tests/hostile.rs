//! One table of hostile files for every loader: byte order marks, CRLF, truncation at every byte, ragged
//! rows, unclosed quotes, deep nesting, lines of ten megabytes, a header alone. Every refusal names the
//! file, and the line where there is one.
//!
//! What is particular to one loader is tested beside its other tests, in `category.rs` and
//! `sentence_data.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use datasets::category::load_category_files;
use datasets::{
    CategoryFiles, DatasetError, Limits, LoadOptions, NgcseOptions, NliOptions, RowNeed,
    ScoredOptions, SentenceOptions, StsName, TransferName, load_ngcse, load_nli, load_pairs,
    load_scored, load_sentences, load_sts_task, load_texts, load_transfer_task,
};
use tempfile::TempDir;

/// The number of rows a file has.
type Load = fn(&Path) -> Result<usize, DatasetError>;

struct Loader {
    what: &'static str,
    /// Name of the file.
    name: &'static str,
    /// A good file of two rows.
    good: &'static str,
    load: Load,
}

fn category(path: &Path) -> Result<usize, DatasetError> {
    let files = CategoryFiles {
        name: "hostile".to_owned(),
        train: path.to_owned(),
        valid: None,
        test: path.to_owned(),
        coarse_map: None,
    };
    Ok(load_category_files(&files, &LoadOptions::default())?
        .train
        .len())
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap()
}

const LOADERS: [Loader; 13] = [
    Loader {
        what: "category, plain",
        name: "train.tsv",
        good: "text\tcoarse\tfine\none\ta\ta1\ntwo\tb\tb1\n",
        load: category,
    },
    Loader {
        what: "category, quoted",
        name: "train.tsv",
        good: "text\tlabel\none\ta_x\n\"two\"\tb_y\n",
        load: category,
    },
    Loader {
        what: "category, csv",
        name: "train.csv",
        good: "coarse,fine,text\na,a1,one\nb,b1,two\n",
        load: category,
    },
    Loader {
        what: "category, json lines",
        name: "train.jsonl",
        good: "{\"text\": \"one\", \"coarse\": \"a\"}\n{\"text\": \"two\", \"coarse\": \"b\"}\n",
        load: category,
    },
    Loader {
        what: "triplets, csv",
        name: "a.csv",
        good: "sent0,sent1,hard_neg\na,b,c\nd,e,f\n",
        load: |path| {
            let options = SentenceOptions {
                need: RowNeed::Sentences,
                limits: Limits::default(),
            };
            Ok(load_sentences(path, &options)?.len())
        },
    },
    Loader {
        what: "pairs",
        name: "a.tsv",
        good: "query\tdocument\na\tb\nc\td\n",
        load: |path| Ok(load_pairs(path, Limits::default())?.report.rows_kept),
    },
    Loader {
        what: "scored",
        name: "a.csv",
        good: "sentence1,sentence2,score\na,b,1.5\nc,d,5\n",
        load: |path| {
            Ok(load_scored(&[path.to_owned()], &ScoredOptions::default())?
                .pairs
                .len())
        },
    },
    Loader {
        what: "nli",
        name: "a.tsv",
        good: "label\tpremise\thypothesis\nneutral\ta\tb\nentailment\tc\td\n",
        load: |path| {
            Ok(load_nli(&[path.to_owned()], &NliOptions::default())?
                .pairs
                .len())
        },
    },
    Loader {
        what: "ngcse",
        name: "a.jsonl",
        good: "{\"sentence\": \"a\", \"split\": \"aigen\", \"5\": \"b\", \"0\": \"c\"}\n{\"sentence\": \"d\", \"split\": \"aigen\", \"5\": \"e\", \"0\": \"f\"}\n",
        load: |path| Ok(load_ngcse(path, &NgcseOptions::default())?.rows.len()),
    },
    Loader {
        what: "texts",
        name: "a.csv",
        good: "text,id\na,1\nb,2\n",
        load: |path| Ok(load_texts(path, None, Limits::default())?.rows.len()),
    },
    Loader {
        what: "sts",
        name: "stsb.tsv",
        good: "split\tsubset\tscore\tsentence1\tsentence2\ntest\ts\t1.5\ta\tb\ndev\ts\t5\tc\td\n",
        load: |path| {
            let task = load_sts_task(folder(path), StsName::StsB, Limits::default())?;
            Ok(task.splits.iter().map(|split| split.len()).sum())
        },
    },
    Loader {
        what: "transfer",
        name: "mr.tsv",
        good: "label\ttext\n1\ta\n0\tb\n",
        load: |path| {
            let task = load_transfer_task(folder(path), TransferName::Mr, Limits::default())?;
            Ok(task.parts().iter().map(|(_, rows)| rows.len()).sum())
        },
    },
    Loader {
        what: "transfer, pairs",
        name: "mrpc_test.tsv",
        good: "label\tsentence1\tsentence2\n1\ta\tb\n0\tc\td\n",
        load: |path| {
            std::fs::copy(path, folder(path).join("mrpc_train.tsv")).unwrap();
            let task = load_transfer_task(folder(path), TransferName::Mrpc, Limits::default())?;
            Ok(task
                .parts()
                .iter()
                .map(|(_, rows)| rows.len())
                .max()
                .unwrap_or(0))
        },
    },
];

fn write(name: &str, content: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    (dir, path)
}

impl Loader {
    fn of(&self, content: &[u8]) -> Result<usize, DatasetError> {
        let (_dir, path) = write(self.name, content);
        (self.load)(&path)
    }

    /// The error of a content, which names the file and, unless it is about the whole file, a line.
    fn refuses(&self, content: &[u8]) -> String {
        let (_dir, path) = write(self.name, content);
        let said = match (self.load)(&path) {
            Ok(rows) => format!("taken with {rows} rows"),
            Err(error) => error.to_string(),
        };
        // The second half of a pair of files may be the one that is named.
        let stem = self.name.split(['_', '.']).next().unwrap();
        assert!(said.contains(stem), "{}: {said}", self.what);
        said
    }

    fn is_json(&self) -> bool {
        self.name.ends_with(".jsonl")
    }

    /// Whether the first line names columns.
    fn has_header(&self) -> bool {
        !self.is_json()
    }
}

#[test]
fn a_byte_order_mark_and_crlf_change_nothing() {
    for loader in &LOADERS {
        assert_eq!(
            loader.of(loader.good.as_bytes()).unwrap(),
            2,
            "{}",
            loader.what
        );
        let windows = format!("\u{feff}{}", loader.good.replace('\n', "\r\n"));
        assert_eq!(loader.of(windows.as_bytes()).unwrap(), 2, "{}", loader.what);
        let open = loader.good.trim_end();
        assert_eq!(loader.of(open.as_bytes()).unwrap(), 2, "{}", loader.what);
    }
}

#[test]
fn a_file_cut_at_every_byte_is_an_error_or_whole_rows() {
    for loader in &LOADERS {
        let good = loader.good.as_bytes();
        for length in 0..good.len() {
            if let Ok(rows) = loader.of(&good[..length]) {
                assert!(
                    (1..=2).contains(&rows),
                    "{} at {length}: {rows}",
                    loader.what
                );
            }
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_line() {
    for loader in &LOADERS {
        for bad in [&b"\xff"[..], b"\xc3\x28", b"\xed\xa0\x80", b"\0"] {
            let mut content = loader.good.as_bytes().to_vec();
            content.splice(content.len() - 2..content.len() - 2, bad.iter().copied());
            let line = loader.good.lines().count();
            let said = loader.refuses(&content);
            assert!(
                said.contains(&format!(":{line}:")),
                "{}: {said}",
                loader.what
            );
        }
    }
}

#[test]
fn empty_files_and_headers_alone_are_refused() {
    for loader in &LOADERS {
        for empty in ["", "\n", "\u{feff}", " \r\n\t\r\n"] {
            loader.refuses(empty.as_bytes());
        }
        if loader.has_header() {
            let header = loader.good.lines().next().unwrap();
            for end in ["", "\n", "\r\n\r\n"] {
                loader.refuses(format!("{header}{end}").as_bytes());
            }
        }
    }
}

#[test]
fn ragged_rows_are_refused_or_reported_but_never_guessed() {
    for loader in LOADERS.iter().filter(|loader| !loader.is_json()) {
        let separator = if loader.name.ends_with(".csv") {
            ","
        } else {
            "\t"
        };
        let last = loader.good.trim_end().rsplit('\n').next().unwrap();
        let fields: Vec<&str> = last.split(separator).collect();
        for row in [
            fields[..fields.len() - 1].join(separator),
            format!("{last}{separator}more"),
        ] {
            let content = format!("{}{row}\n", loader.good);
            match loader.of(content.as_bytes()) {
                // The quoted form skips and reports such a row.
                Ok(rows) => assert_eq!(rows, 2, "{}: {row:?} became a row", loader.what),
                Err(error) => {
                    let line = loader.good.lines().count() + 1;
                    let said = error.to_string();
                    assert!(
                        said.contains(&format!(":{line}:")),
                        "{}: {said}",
                        loader.what
                    );
                }
            }
        }
    }
}

#[test]
fn a_quote_that_never_closes_is_refused() {
    for loader in LOADERS
        .iter()
        .filter(|loader| loader.name.ends_with(".csv"))
    {
        let content = format!("{}\"open,b,c\nd,e,f\n", loader.good);
        let said = loader.refuses(content.as_bytes());
        let line = loader.good.lines().count() + 1;
        assert!(
            said.contains(&format!(":{line}:")),
            "{}: {said}",
            loader.what
        );
    }
}

#[test]
fn a_line_of_ten_megabytes_is_refused_before_it_is_parsed() {
    for what in ["category, plain", "category, csv", "category, json lines"] {
        let loader = LOADERS.iter().find(|loader| loader.what == what).unwrap();
        let mut content = loader.good.as_bytes().to_vec();
        content.extend(std::iter::repeat_n(b'x', 10_000_001));
        let said = loader.refuses(&content);
        let line = loader.good.lines().count() + 1;
        assert!(said.contains(&format!(":{line}:")), "{what}: {said}");
        assert!(said.len() < 400, "{what}: the line is in the message");
    }
}

#[test]
fn json_nested_a_hundred_thousand_deep_is_refused() {
    for loader in LOADERS.iter().filter(|loader| loader.is_json()) {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = open.repeat(100_000) + "1" + &close.repeat(100_000);
            let content = format!("{}{{\"text\": {deep}}}\n", loader.good);
            let said = loader.refuses(content.as_bytes());
            assert!(said.contains(":3:"), "{}: {said}", loader.what);
        }
    }
}

#[test]
fn scores_that_are_no_number_in_range_are_refused() {
    for (what, good) in [("scored", "5"), ("sts", "5")] {
        let loader = LOADERS.iter().find(|loader| loader.what == what).unwrap();
        for bad in [
            "NaN", "-nan", "inf", "-inf", "5.000001", "-1e-9", "1e400", "", "0x5", "4,5",
        ] {
            let content = match what {
                "scored" => loader.good.replace("c,d,5", &format!("c,d,\"{bad}\"")),
                _ => loader
                    .good
                    .replace(&format!("dev\ts\t{good}\t"), &format!("dev\ts\t{bad}\t")),
            };
            assert_ne!(content, loader.good);
            let said = loader.refuses(content.as_bytes());
            let line = loader.good.lines().count();
            assert!(
                said.contains(&format!(":{line}:")),
                "{what} {bad:?}: {said}"
            );
        }
    }
}
