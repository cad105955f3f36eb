//! Loading data of sentence embeddings: formats, reports, leaks, and hostile files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::path::{Path, PathBuf};

use datasets::kind::{FileKind, file_kind};
use datasets::leakage::{EvalSet, LeakBy, LeakIndex, TextRule, load_eval_sets, load_texts};
use datasets::ngcse::{KEYS_NOTE, NgcseSplit};
use datasets::nli::{NliLabel, NliNumbers, NliPair, TripletRule, UNLABELLED_NOTE, triplets};
use datasets::sentences::MISSING_NOTE;
use datasets::sts::UNSCORED_NOTE;
use datasets::transfer::{TransferData, TransferKind};
use datasets::{
    DatasetError, Form, LabelQuantize, Limits, NgcseOptions, NliOptions, RowNeed, RowsReport,
    ScoredOptions, SentenceOptions, SentenceRows, StsName, StsPart, TransferName, load_ngcse,
    load_nli, load_pairs, load_scored, load_sentences, load_sts_dir, load_sts_task,
    load_transfer_dir, load_transfer_task,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

/// A folder with these files; folders in their names are made.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

/// A folder with one file, and its path.
fn file(name: &str, content: &[u8]) -> (TempDir, PathBuf) {
    let dir = folder(&[(name, content)]);
    let path = dir.path().join(name);
    (dir, path)
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn sentences_with(name: &str, content: &[u8], need: RowNeed) -> Result<SentenceRows, DatasetError> {
    let (_dir, path) = file(name, content);
    let limits = Limits::default();
    load_sentences(&path, &SentenceOptions { need, limits })
}

fn sentences(name: &str, content: &[u8]) -> Result<SentenceRows, DatasetError> {
    sentences_with(name, content, RowNeed::Sentences)
}

/// What an error says after the folder.
fn said<T: std::fmt::Debug>(outcome: Result<T, DatasetError>) -> String {
    let text = outcome.unwrap_err().to_string();
    match text.rsplit_once('/') {
        Some((_, rest)) => rest.to_owned(),
        None => text,
    }
}

// Sentences.

#[test]
fn every_format_gives_the_same_triplets() {
    let json_lines = b"{\"x\": \"a\", \"y\": \"b, c\", \"z\": \"d\"}\n{\"x\": \"e\", \"y\": null, \"z\": \"f\"}\n";
    let list =
        b"[ {\"x\": \"a\",\n  \"y\": \"b, c\", \"z\": \"d\"}\n,\n{\"x\": \"e\", \"z\": \"f\"} ]\n";
    let csv = b"x,y,z\na,\"b, c\",d\ne,,f\n";
    let tsv = b"x\ty\tz\na\tb, c\td\ne\t\tf\n";
    let cases: [(&str, &[u8], Form); 6] = [
        ("a.csv", csv, Form::Csv),
        ("a.tsv", tsv, Form::TsvPlain),
        ("a.tsv.csv", tsv, Form::TsvQuoted),
        ("a.jsonl", json_lines, Form::JsonLines),
        ("b.json", json_lines, Form::JsonLines),
        ("a.json", list, Form::Json),
    ];
    for (name, content, form) in cases {
        for (name, content) in [
            (name.to_owned(), content.to_vec()),
            (format!("{name}.gz"), gzip(content)),
        ] {
            let rows = sentences_with(&name, &content, RowNeed::Triplets).unwrap();
            assert_eq!(rows.len(), 2, "{name}");
            assert_eq!(rows.texts(0).unwrap(), ["a", "b, c", "d"], "{name}");
            assert_eq!(rows.texts(1).unwrap(), ["e", " ", "f"], "{name}");
            assert_eq!(rows.texts(2), None);
            assert_eq!(rows.report.form, form, "{name}");
            assert_eq!(rows.report.noted(MISSING_NOTE), 1, "{name}");
            assert_eq!(rows.report.rows_skipped(), 0);
            assert_eq!(rows.report.sha256, datasets::hash::sha256_hex(&content));
        }
    }
}

#[test]
fn text_files_are_paired_with_themselves_and_keep_their_lines() {
    let content = b"\xEF\xBB\xBF one  two\r\n\r\n\"quoted\tand tabbed\r\nlast\r\nlast";
    let rows = sentences("wiki.txt", content).unwrap();
    assert_eq!(rows.columns().len(), 1);
    assert_eq!(rows.texts(0).unwrap(), [" one  two", " one  two"]);
    assert_eq!(rows.columns()[0][1], "\"quoted\tand tabbed");
    let report = &rows.report;
    assert_eq!((report.rows_read, report.rows_kept), (4, 4));
    assert_eq!((report.duplicates, report.self_pairs), (1, 0));
    assert_eq!(report.blank.first, [2]);
    assert!(report.byte_order_mark && report.crlf);
    let shown = report.to_string();
    for part in [
        "wiki.txt: 4 rows (0 skipped), text",
        "blank lines: 1 (line 2)",
        "CR LF",
        "byte order",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn a_text_file_is_not_a_pair_file() {
    let one = b"a\nb\n";
    for (name, need, what) in [
        ("a.txt", RowNeed::Pairs, "pairs"),
        ("a.csv", RowNeed::Pairs, "pairs"),
        ("a.tsv", RowNeed::Triplets, "triplets"),
    ] {
        let error = sentences_with(name, one, need).unwrap_err();
        assert!(
            matches!(error, DatasetError::PairsNeeded { line: 1, found: 1, needed, .. } if needed.contains(what)),
            "{error}"
        );
        assert!(error.to_string().contains("a text file where"), "{error}");
    }
    let error = sentences_with("a.csv", b"a,b\nc,d\n", RowNeed::Triplets).unwrap_err();
    assert!(
        matches!(error, DatasetError::ColumnCount { found: 2, .. }),
        "{error}"
    );
}

#[test]
fn wrong_column_counts_have_their_line() {
    assert_eq!(
        said(sentences("a.csv", b"a,b,c,d\n1,2,3,4\n")),
        "a.csv:1: 4 columns; expected 1 (sentence), 2 (anchor, positive) or 3 (anchor, positive, hard negative)"
    );
    assert!(said(sentences("a.csv", b"a,b\n1,2\n\n1,2,3\n")).starts_with("a.csv:4: 3 fields"));
    assert!(said(sentences("a.tsv", b"a\tb\n1\t2\n1\n")).starts_with("a.tsv:3: 1 fields"));
    assert!(said(sentences("a.csv", b"a,b\n1,\"2\n3,4\n")).starts_with("a.csv:2: a quoted field"));
    assert!(said(sentences("a.dat", b"a\n")).contains("unknown kind of file; expected .txt"));
    let extra = b"{\"a\": \"1\"}\n{\"a\": \"2\", \"b\": \"3\"}\n";
    assert!(said(sentences("a.jsonl", extra)).starts_with("a.jsonl:2: field `b`"));
    let number = b"{\"a\": \"1\"}\n{\"a\": 2}\n";
    assert!(
        said(sentences("a.jsonl", number))
            .contains("a.jsonl:2: field `a`: expected a string, found a number")
    );
}

#[test]
fn json_lists_are_checked_object_by_object() {
    for (content, line) in [
        ("[{\"a\": \"1\"}\n{\"a\": \"2\"}]", 2),
        ("[{\"a\": \"1\"},\n\n", 3),
        ("[\n{\"a\": \"1\"},\n{\"a\": }]", 3),
        ("[\n{\n\"a\": \"1\"\n},\n7]", 5),
        ("[{\"a\": \"1\"}]\n[", 2),
        ("[{\"a\": \"1\"", 1),
        ("[,]", 1),
    ] {
        let error = sentences("a.json", content.as_bytes()).unwrap_err();
        assert!(
            matches!(error, DatasetError::Json { line: found, .. } if found == line),
            "{content}: {error}"
        );
    }
    let empty = sentences("a.json", b"[]").unwrap_err();
    assert!(matches!(empty, DatasetError::NoRows { .. }), "{empty}");
}

#[test]
fn rows_can_be_left_out() {
    let mut rows = sentences("a.csv", b"x,y\n1,2\n3,3\n5,6\n").unwrap();
    assert_eq!(rows.report.self_pairs, 1);
    assert_eq!(rows.retain(|texts| texts[0] != texts[1]), 1);
    assert_eq!(rows.columns(), [vec!["1", "5"], vec!["2", "6"]]);
}

// NGCSE.

fn ngcse(content: &str, lenient_keys: bool) -> Result<datasets::NgcseRows, DatasetError> {
    let (_dir, path) = file("a.jsonl", content.as_bytes());
    let limits = Limits::default();
    load_ngcse(
        &path,
        &NgcseOptions {
            lenient_keys,
            limits,
        },
    )
}

#[test]
fn ngcse_rows_follow_the_keys_of_their_split() {
    let content = concat!(
        r#"{"sentence": "s", "5": "p", "4": "m", "3": null, "2": "", "1": "", "0": "", "split": "aigen"}"#,
        "\n",
        r#"{"split": "other", "sentence": "t", "5": ""}"#,
        "\n",
    );
    let data = ngcse(content, false).unwrap();
    assert_eq!(data.generated_keys, ["5", "4", "3"]);
    assert_eq!(data.other_keys, [""; 0]);
    assert_eq!(data.rows[0].split, NgcseSplit::Generated);
    assert_eq!(data.rows[0].texts, ["s", "p", "m", " "]);
    assert_eq!(data.rows[1].texts, ["t", "t"]);
    assert_eq!(data.report.noted(MISSING_NOTE), 1);
}

#[test]
fn ngcse_rows_with_other_keys_are_errors_unless_lenient() {
    let content = concat!(
        r#"{"sentence": "a", "5": "b", "split": "other"}"#,
        "\n\n",
        r#"{"sentence": "c", "4": "d", "split": "other"}"#,
        "\n",
    );
    assert!(
        said(ngcse(content, false))
            .contains("a.jsonl:3: a row of `other` uses the keys 4; the first one uses 5")
    );
    let data = ngcse(content, true).unwrap();
    assert_eq!(data.rows[1].texts, ["c", " "]);
    assert_eq!(data.report.noted(KEYS_NOTE), 1);
}

#[test]
fn ngcse_fields_are_checked() {
    for (content, part) in [
        (
            r#"{"sentence": "a", "split": "aigen"}"#,
            "a.jsonl:1: a text file where a file of generated pairs",
        ),
        (
            r#"{"sentence": "a", "split": "human"}"#,
            "a.jsonl:1: the label `human` is unknown",
        ),
        (r#"{"sentence": "a"}"#, "field `split`"),
        (r#"{"sentence": "", "split": "other"}"#, "the text is empty"),
        (r#"{"5": "a", "split": "other"}"#, "field `sentence`"),
        (
            r#"{"sentence": "a", "6": "b", "split": "other"}"#,
            "field `6`",
        ),
        (
            r#"{"sentence": "a", "5": 3, "split": "other"}"#,
            "field `5`: expected a string or null, found a number",
        ),
        (r#"["sentence"]"#, "expected an object"),
        (r#"{"sentence""#, "not a JSON object"),
    ] {
        let said = said(ngcse(content, true));
        assert!(said.contains(part), "{content}: {said}");
    }
    let (_dir, path) = file("a.csv", b"sentence\na\n");
    let error = load_ngcse(&path, &NgcseOptions::default()).unwrap_err();
    assert!(
        matches!(error, DatasetError::UnknownExtension { .. }),
        "{error}"
    );
}

// STS.

const STS_HEADER: &str = "split\tsubset\tscore\tsentence1\tsentence2\n";

fn sts(name: &str, rows: &str) -> Result<datasets::StsTask, DatasetError> {
    let content = format!("{STS_HEADER}{rows}");
    let (dir, _) = file(&format!("{name}.tsv"), content.as_bytes());
    Ok(load_sts_dir(dir.path(), Limits::default())?.remove(0))
}

/// Two subsets of one year, with a pair that has no score.
fn year() -> TempDir {
    folder(&[
        ("STS/STS14-en-test/STS.input.images.txt", b"a  b\tc\nd\te\n"),
        ("STS/STS14-en-test/STS.gs.images.txt", b"5\n\n"),
        ("STS/STS14-en-test/STS.input.deft-news.txt", b"f\tg\n"),
        ("STS/STS14-en-test/STS.gs.deft-news.txt", b"2.5\n"),
        ("STS/STS14-en-test/readme.txt", b"ignored"),
        ("STS/STS13-en-test/STS.input.FNWN.txt", b"a\tb\n"),
        ("STS/STS13-en-test/STS.gs.FNWN.txt", b"1\n"),
        ("STS/STS13-en-test/STS.input.SMT.txt", b"a\tb\n"),
        ("STS/STS13-en-test/STS.gs.SMT.txt", b"1\n"),
        (
            "STS/STSBenchmark/sts-dev.csv",
            b"main-news\tMSRpar\t2012\t1\t4.0\t\"open\tquote\tlicence\tmore\nmain-news\tMSRpar\t2012\t2\t0\tx\ty\n",
        ),
        (
            "SICK/SICK_trial.txt",
            b"pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n4\tA kid\tA man\t4.5\tNEUTRAL\n",
        ),
    ])
}

#[test]
fn the_layout_of_senteval_is_read() {
    let dir = year();
    let tasks = load_sts_dir(dir.path(), Limits::default()).unwrap();
    let names: Vec<&str> = tasks.iter().map(|task| task.name.name()).collect();
    assert_eq!(names, ["STS13", "STS14", "STSB", "SICKR"]);
    assert_eq!(tasks[0].split(StsPart::Test).unwrap().subsets.len(), 1);
    let test = tasks[1].split(StsPart::Test).unwrap();
    let subsets: Vec<(&str, usize)> = test
        .subsets
        .iter()
        .map(|subset| (subset.name.as_str(), subset.pairs.len()))
        .collect();
    assert_eq!(subsets, [("deft-news", 1), ("images", 1)]);
    assert_eq!(test.subsets[1].pairs[0].first, "a b");
    assert_eq!(tasks[1].reports[1].noted(UNSCORED_NOTE), 1);
    assert_eq!(tasks[1].reports[1].notes[0].lines.first, [2]);
    let dev = tasks[2].split(StsPart::Dev).unwrap();
    assert_eq!(dev.subsets[0].name, "main-news:MSRpar:2012");
    assert_eq!(dev.subsets[0].pairs[0].first, "\"open");
    assert_eq!(dev.subsets[0].pairs[0].second, "quote");
    let trial = tasks[3].split(StsPart::Dev).unwrap();
    assert_eq!(trial.pairs().next().unwrap().score, 4.5);

    // Also below the folder that the download script makes.
    let outer = tempfile::tempdir().unwrap();
    std::fs::create_dir(outer.path().join("data")).unwrap();
    std::fs::rename(dir.path(), outer.path().join("data/downstream")).unwrap();
    assert_eq!(load_sts_dir(outer.path(), Limits::default()).unwrap(), {
        let mut again = tasks.clone();
        for task in &mut again {
            for report in &mut task.reports {
                let rest = report.path.strip_prefix(dir.path()).unwrap();
                report.path = outer.path().join("data/downstream").join(rest);
            }
        }
        again
    });
}

#[test]
fn files_of_a_subset_must_fit() {
    let dir = year();
    let gs = dir.path().join("STS/STS14-en-test/STS.gs.images.txt");
    let load = || load_sts_task(dir.path(), StsName::Sts14, Limits::default());
    std::fs::write(&gs, "5\n4\n3\n").unwrap();
    assert!(said(load()).contains("has 2"));
    std::fs::write(&gs, "5\nfive\n").unwrap();
    assert_eq!(
        said(load()),
        "STS.gs.images.txt:2: the score `five` is not a number"
    );
    std::fs::remove_file(&gs).unwrap();
    assert!(matches!(load(), Err(DatasetError::Io { .. })));
    let input = dir.path().join("STS/STS14-en-test/STS.input.deft-news.txt");
    std::fs::write(&input, "a\tb\tc\n").unwrap();
    assert!(said(load()).contains("STS.input.deft-news.txt:1: 3 fields"));
}

#[test]
fn tables_keep_subsets_and_parts_apart() {
    let task = sts(
        "sts12",
        "test\tb\t1\tx\ty\ntrain\tb\t2\tx\ty\ntest\ta\t0\t\"x\t y  z \ntest\tb\t5\tp\tq\ntest\ta\t\tp\tq\n",
    )
    .unwrap();
    assert_eq!(task.splits.len(), 2);
    assert_eq!(task.splits[0].part, StsPart::Train);
    let test = task.split(StsPart::Test).unwrap();
    assert_eq!((test.len(), test.subsets.len()), (3, 2));
    assert_eq!(test.subsets[0].pairs[1].first, "p");
    assert_eq!(test.subsets[1].pairs[0].second, "y z");
    assert!(test.subsets[1].is_constant() && !test.subsets[0].is_constant());
    assert_eq!(task.reports[0].noted(UNSCORED_NOTE), 1);
}

#[test]
fn scores_are_checked() {
    for (name, score, part) in [
        (
            "sts12",
            "5.1",
            "sts12.tsv:2: the score 5.1 is outside 0 to 5",
        ),
        ("sts12", "-0.1", "outside 0 to 5"),
        ("sts12", "NaN", "the score NaN is outside 0 to 5"),
        ("sts12", "inf", "outside"),
        ("sts12", "4,5", "the score `4,5` is not a number"),
        ("sickr", "0.9", "the score 0.9 is outside 1 to 5"),
        ("sickr", "", "sickr.tsv:2: the pair has no score"),
        ("stsb", "", "stsb.tsv:2: the pair has no score"),
    ] {
        let said = said(sts(name, &format!("test\ts\t{score}\ta\tb\n")));
        assert!(said.contains(part), "{name} {score}: {said}");
    }
    assert!(said(sts("stsb", "exam\ts\t1\ta\tb\n")).contains("the label `exam` is unknown"));
    assert!(said(sts("stsb", "dev\ts\t1\t \tb\n")).contains("the text is empty"));
    assert!(matches!(
        sts("sts13", "test\ts\t\ta\tb\n"),
        Err(DatasetError::NoRows { skipped: 1, .. })
    ));
}

#[test]
fn missing_and_doubled_tasks_are_named() {
    let dir = folder(&[("sts12.tsv", b"x"), ("sts12.tsv.gz", b"x")]);
    let load = |name| load_sts_task(dir.path(), name, Limits::default());
    assert!(matches!(
        load(StsName::Sts12),
        Err(DatasetError::AmbiguousSplit { .. })
    ));
    for (name, file) in [
        (StsName::Sts16, "sts16.tsv"),
        (StsName::StsB, "stsb.tsv"),
        (StsName::SickR, "sickr.tsv"),
    ] {
        assert!(load(name).unwrap_err().to_string().contains(file));
    }
    let empty = tempfile::tempdir().unwrap();
    let error = load_sts_dir(empty.path(), Limits::default()).unwrap_err();
    assert!(matches!(error, DatasetError::MissingTask { .. }), "{error}");
    let (dir, _) = file("stsb.tsv", b"score\tsentence1\tsentence2\n1\ta\tb\n");
    let error = load_sts_dir(dir.path(), Limits::default()).unwrap_err();
    assert!(matches!(error, DatasetError::Header { .. }), "{error}");
}

// NLI and scored pairs.

fn nli(name: &str, content: &str, options: &NliOptions) -> Result<datasets::NliRows, DatasetError> {
    let (_dir, path) = file(name, content.as_bytes());
    load_nli(&[path], options)
}

#[test]
fn nli_files_are_merged_whatever_their_columns_are_called() {
    let dir = folder(&[
        (
            "a.tsv",
            b"label\tpremise\thypothesis\nentailment\t\"p\th\n-\tp\th\n",
        ),
        (
            "b.csv",
            b"genre,gold_label,sentence1,sentence2\nx,0,\"p, q\",h\n",
        ),
        (
            "c.jsonl",
            b"{\"gold_label\": 1.0, \"sentence1\": \"p\", \"sentence2\": \"h\", \"extra\": [1]}\n",
        ),
        (
            "d.txt",
            b"gold_label\tsentence1\tsentence2\ncontradiction\tp\th\n",
        ),
    ]);
    let paths: Vec<PathBuf> = ["a.tsv", "b.csv", "c.jsonl", "d.txt"]
        .map(|name| dir.path().join(name))
        .to_vec();
    let rows = load_nli(&paths, &NliOptions::default()).unwrap();
    assert_eq!(rows.counts(), [2, 1, 1]);
    assert_eq!(rows.reports[0].noted(UNLABELLED_NOTE), 1);
    assert_eq!(
        (rows.reports[0].rows_read, rows.reports[0].rows_kept),
        (2, 1)
    );
    assert_eq!(rows.pairs[0].premise, "\"p");
    assert_eq!(rows.pairs[1].premise, "p, q");
    let options = NliOptions {
        numbers: NliNumbers::Descending,
        ..NliOptions::default()
    };
    let rows = load_nli(&paths, &options).unwrap();
    assert_eq!(rows.counts(), [1, 1, 2]);
}

#[test]
fn nli_labels_and_splits_are_checked() {
    let header = "split\tlabel\tpremise\thypothesis\n";
    let content =
        format!("{header}train\tneutral\ta\tb\ntest\tneutral\tc\td\ntest\tentailment\te\tf\n");
    let options = |split: &str| NliOptions {
        split: Some(split.to_owned()),
        ..NliOptions::default()
    };
    let rows = nli("a.tsv", &content, &options("test")).unwrap();
    assert_eq!((rows.pairs.len(), rows.reports[0].rows_read), (2, 2));
    let error = said(nli("a.tsv", &content, &options("dev")));
    assert_eq!(
        error,
        "a.tsv: no row of the split `dev`; the file has test, train"
    );
    let plain = "label\tpremise\thypothesis\n7\ta\tb\n";
    assert!(said(nli("a.tsv", plain, &options("dev"))).contains("no split column"));
    for (label, part) in [
        ("7", "the label `7`"),
        ("1.5", "`1.5`"),
        ("maybe", "`maybe`"),
        ("nan", "`nan`"),
    ] {
        let content = format!("{header}x\t{label}\ta\tb\n");
        let said = said(nli("a.tsv", &content, &NliOptions::default()));
        assert!(
            said.starts_with("a.tsv:2:") && said.contains(part),
            "{said}"
        );
    }
    let error = nli(
        "a.tsv",
        "label\tpremise\nneutral\ta\n",
        &NliOptions::default(),
    );
    assert!(matches!(error, Err(DatasetError::Header { .. })));
    let error = nli(
        "a.tsv",
        &format!("{header}x\tneutral\ta\t\n"),
        &NliOptions::default(),
    );
    assert!(matches!(
        error,
        Err(DatasetError::EmptyText { line: 2, .. })
    ));
}

#[test]
fn triplets_take_one_or_every_entailment() {
    let pair = |premise: &str, label, hypothesis: &str| NliPair {
        label,
        premise: premise.to_owned(),
        hypothesis: hypothesis.to_owned(),
    };
    use NliLabel::{Contradiction as C, Entailment as E, Neutral as N};
    let pairs = [
        pair("q", E, "qe"),
        pair("p", E, "pe1"),
        pair("p", N, "pn"),
        pair("p", C, "pc1"),
        pair("p", C, "pc2"),
        pair("p", E, "pe2"),
        pair("r", C, "rc"),
    ];
    let first = triplets(&pairs, TripletRule::FirstOfEach);
    assert_eq!(first.len(), 1);
    assert_eq!(
        (first[0].positive.as_str(), first[0].hard_negative.as_str()),
        ("pe1", "pc1")
    );
    let every = |seed| triplets(&pairs, TripletRule::EveryEntailment { seed });
    assert_eq!(every(1), every(1));
    let positives: Vec<String> = every(1).into_iter().map(|t| t.positive).collect();
    assert_eq!(positives, ["pe1", "pe2"]);
    let mut negatives: Vec<String> = (0..50).flat_map(every).map(|t| t.hard_negative).collect();
    negatives.sort();
    negatives.dedup();
    assert_eq!(negatives, ["pc1", "pc2"]);
}

#[test]
fn scored_pairs_are_quantized_after_the_check() {
    let rows = "score,sentence1,sentence2\n3.8,a,b\n2.5,c,d\n3.5,e,f\n0,g,h\n";
    let (_dir, path) = file("a.csv", rows.as_bytes());
    let load = |quantize, range| {
        let options = ScoredOptions {
            quantize,
            range,
            ..ScoredOptions::default()
        };
        load_scored(std::slice::from_ref(&path), &options)
    };
    let scores = |quantize| -> Vec<f64> {
        let rows = load(quantize, (0.0, 5.0)).unwrap();
        rows.pairs.iter().map(|pair| pair.score).collect()
    };
    assert_eq!(scores(LabelQuantize::None), [3.8, 2.5, 3.5, 0.0]);
    assert_eq!(scores(LabelQuantize::Truncate), [3.0, 2.0, 3.0, 0.0]);
    assert_eq!(scores(LabelQuantize::Round), [4.0, 2.0, 4.0, 0.0]);
    assert_eq!(
        said(load(LabelQuantize::None, (1.0, 5.0))),
        "a.csv:5: the score 0 is outside 1 to 5"
    );
    // 3.8 would be cut to the allowed 3.
    assert!(said(load(LabelQuantize::Truncate, (0.0, 3.0))).starts_with("a.csv:2"));
}

#[test]
fn scored_pairs_without_a_score_are_errors() {
    for (name, content, part) in [
        (
            "a.csv",
            "score,sentence1,sentence2\n,a,b\n",
            "a.csv:2: the pair has no score",
        ),
        (
            "a.jsonl",
            "{\"score\": null, \"sentence1\": \"a\", \"sentence2\": \"b\"}\n",
            "a.jsonl:1: the pair has no score",
        ),
        (
            "a.jsonl",
            "{\"score\": [1], \"sentence1\": \"a\", \"sentence2\": \"b\"}\n",
            "found a list",
        ),
        (
            "a.tsv",
            "score\tsentence1\tsentence2\nnan\ta\tb\n",
            "the score NaN is outside",
        ),
        ("a.tsv", "sentence1\tsentence2\na\tb\n", "unknown header"),
        ("a.txt", "just\ntext\n", "unknown header"),
    ] {
        let (_dir, path) = file(name, content.as_bytes());
        let said = said(load_scored(&[path], &ScoredOptions::default()));
        assert!(said.contains(part), "{content}: {said}");
    }
}

// Transfer tasks and retrieval pairs.

#[test]
fn transfer_tasks_have_their_kinds_and_splits() {
    let dir = folder(&[
        ("mr.tsv", b"label\ttext\n1\t\"good  film\n0\tbad\n"),
        ("sst2_train.tsv.gz", &gzip(b"label\ttext\n1\ta\n")),
        ("sst2_dev.tsv", b"label\ttext\n0\tb\n"),
        ("sst2_test.tsv", b"label\ttext\n0\tc\n"),
        (
            "trec_train.tsv",
            b"label\ttext\nNUM:dist\thow far\nABBR\twhat\n",
        ),
        ("trec_test.tsv", b"label\ttext\nLOC\twhere\n"),
        ("mrpc_train.tsv", b"label\tsentence1\tsentence2\n1\ta\tb\n"),
        ("mrpc_test.tsv", b"label\tsentence1\tsentence2\n0\tc\td\n"),
    ]);
    let tasks = load_transfer_dir(dir.path(), Limits::default()).unwrap();
    let names: Vec<&str> = tasks.iter().map(|task| task.name.name()).collect();
    assert_eq!(names, ["MR", "SST2", "TREC", "MRPC"]);
    let TransferData::Folds(rows) = &tasks[0].data else {
        panic!("{:?}", tasks[0])
    };
    assert_eq!(rows.texts, ["\"good film", "bad"]);
    let parts = |task: usize| -> Vec<(&str, usize)> {
        let parts = tasks[task].parts();
        parts
            .iter()
            .map(|(name, rows)| (*name, rows.len()))
            .collect()
    };
    assert_eq!(parts(0), [("all", 2)]);
    assert_eq!(parts(1), [("train", 1), ("dev", 1), ("test", 1)]);
    assert_eq!(parts(2), [("train", 2), ("test", 1)]);
    let TransferData::Fixed { train, test, .. } = &tasks[2].data else {
        panic!("{:?}", tasks[2])
    };
    assert_eq!(
        (&train.labels[..], &test.labels[..]),
        (&[5, 0][..], &[4][..])
    );
    assert_eq!(tasks[3].name.kind(), TransferKind::Pair);
    assert_eq!(tasks[3].parts()[1].1.second.as_deref().unwrap(), ["d"]);
    assert_eq!(tasks[3].reports.len(), 2);

    std::fs::remove_file(dir.path().join("trec_test.tsv")).unwrap();
    let error = load_transfer_dir(dir.path(), Limits::default()).unwrap_err();
    assert!(error.to_string().contains("trec_test.tsv"), "{error}");
}

#[test]
fn transfer_files_are_checked() {
    for (content, part) in [
        (
            "label\ttext\n2\ta\n",
            "cr.tsv:2: the label `2` is unknown; expected 0, 1",
        ),
        ("label\ttext\n\ta\n", "the label `` is unknown"),
        ("label\ttext\n1\t\n", "cr.tsv:2: the text is empty"),
        ("label\ttext\n1\ta\tb\n", "cr.tsv:2: 3 fields"),
        ("label\tsentence\n1\ta\n", "unknown header"),
    ] {
        let (dir, _) = file("cr.tsv", content.as_bytes());
        let said = said(load_transfer_task(
            dir.path(),
            TransferName::Cr,
            Limits::default(),
        ));
        assert!(said.contains(part), "{content}: {said}");
    }
}

#[test]
fn retrieval_pairs_in_every_format() {
    let cases: [(&str, &[u8]); 5] = [
        ("a.tsv", b"q1\td1\nq2\td1\nq1\td2\nq1\td1\n"),
        ("a.txt", b"query\tdocument\nq1\td1\nq2\td1\nq1\td2\nq1\td1\n"),
        ("a.csv", b"document,query\nd1,q1\nd1,q2\nd2,q1\nd1,q1\n"),
        ("a.jsonl", b"{\"query\": \"q1\", \"document\": \"d1\"}\n{\"query\": \"q2\", \"document\": \"d1\"}\n{\"query\": \"q1\", \"document\": \"d2\"}\n{\"query\": \"q1\", \"document\": \"d1\"}\n"),
        ("a.tsv.gz", &gzip(b"q1\td1\nq2\td1\nq1\td2\nq1\td1\n")),
    ];
    for (name, content) in cases {
        let (_dir, path) = file(name, content);
        let pairs = load_pairs(&path, Limits::default()).unwrap();
        assert_eq!(pairs.queries, ["q1", "q2"], "{name}");
        assert_eq!(pairs.documents, ["d1", "d2"], "{name}");
        assert_eq!(pairs.relevant, [vec![0, 1], vec![0]], "{name}");
        assert_eq!(
            (pairs.report.rows_kept, pairs.report.duplicates),
            (4, 1),
            "{name}"
        );
    }
    for (name, content, part) in [
        (
            "a.txt",
            "just a text\nand more\n",
            "a.txt:1: a text file where a file of pairs (query",
        ),
        ("a.tsv", "a\tb\tc\n", "a.tsv:1: 3 columns; expected 2"),
        ("a.tsv", "a\tb\nc\n", "a.tsv:2: 1 fields"),
        ("a.tsv", "a\tb\n\td\n", "a.tsv:2: the text is empty"),
        ("a.tsv", "query\tdocument\n", "no usable rows"),
        ("a.csv", "query,answer\na,b\n", "unknown header"),
    ] {
        let (_dir, path) = file(name, content.as_bytes());
        let said = said(load_pairs(&path, Limits::default()));
        assert!(said.contains(part), "{content}: {said}");
    }
}

#[test]
fn kinds_are_told_by_the_columns() {
    for (name, content, kind) in [
        ("a.txt", "query\tdocument\n", FileKind::Sentences),
        (
            "a.csv",
            "sent0,sent1,hard_neg\na,b,c\n",
            FileKind::Sentences,
        ),
        ("a.tsv", "query\tdocument\na\tb\n", FileKind::Retrieval),
        (
            "a.csv",
            "gold_label,sentence1,sentence2\n0,a,b\n",
            FileKind::Nli,
        ),
        (
            "a.tsv",
            "split\tscore\tsentence1\tsentence2\ntest\t0\ta\tb\n",
            FileKind::Scored,
        ),
        (
            "a.jsonl",
            "{\"sentence\": \"a\", \"split\": \"other\"}\n{\"5\": \"x\"}\n",
            FileKind::Ngcse,
        ),
    ] {
        let (_dir, path) = file(name, content.as_bytes());
        assert_eq!(
            file_kind(&path, Limits::default()).unwrap(),
            kind,
            "{content}"
        );
    }
}

// Leaks.

fn set(name: &str, rows: &[&[&str]]) -> EvalSet {
    EvalSet {
        name: name.to_owned(),
        rows: rows
            .iter()
            .map(|row| row.iter().map(|text| (*text).to_owned()).collect())
            .collect(),
    }
}

#[test]
fn leaks_are_counted_on_both_sides() {
    let sets = [
        set(
            "one",
            &[
                &["A dog runs.", "It's fine !"],
                &["it 's FINE", "a dog runs"],
                &["A dog runs", "something else"],
                &["??", "!!"],
            ],
        ),
        set("two", &[&["cannot"], &["other"]]),
        set("none", &[]),
    ];
    let train: Vec<Vec<String>> = set(
        "train",
        &[
            &["a  dog runs", "new", "It's fine"],
            &["a dog runs", "a dog runs"],
            &["can not", "??"],
            &["..."],
        ],
    )
    .rows;
    let report = LeakIndex::new(&sets, TextRule::Words).check(&train);
    let counts = |at: usize| {
        let set = &report.sets[at];
        [
            set.rows,
            set.rows_with_pair,
            set.rows_with_sentence,
            set.train_with_pair,
            set.train_with_sentence,
        ]
    };
    assert_eq!(counts(0), [4, 2, 4, 1, 3]);
    assert_eq!(counts(1), [2, 0, 0, 0, 0]);
    assert_eq!(counts(2), [0; 5]);
    assert_eq!(
        (
            report.train_rows,
            report.train_with_pair,
            report.train_with_sentence
        ),
        (4, 1, 3)
    );
    let repeats: Vec<usize> = report.sets.iter().map(|set| set.repeats).collect();
    assert_eq!(repeats, [1, 0, 0]);
    assert!(report.leaks(LeakBy::Pair) && report.to_string().contains("one"));
    let letters = LeakIndex::new(&sets, TextRule::Letters).check(&train);
    assert_eq!(letters.sets[1].train_with_sentence, 1);
    let exact = LeakIndex::new(&sets, TextRule::Exact).check(&train);
    assert_eq!((exact.train_with_pair, exact.train_with_sentence), (0, 2));
}

#[test]
fn eval_sets_come_from_folders_and_files() {
    let table = format!("{STS_HEADER}train\ts\t1\ta\tb\ndev\ts\t1\tc\td\ntest\ts\t1\te\tf\n");
    let dir = folder(&[
        ("stsb.tsv", table.as_bytes()),
        ("mr.tsv", b"label\ttext\n1\tgood\n"),
        ("mrpc_train.tsv", b"label\tsentence1\tsentence2\n1\tg\th\n"),
        ("mrpc_test.tsv", b"label\tsentence1\tsentence2\n1\ti\tj\n"),
    ]);
    let load = |path: &Path, parts: &[StsPart]| load_eval_sets(path, parts, Limits::default());
    let sets = load(dir.path(), &[StsPart::Dev, StsPart::Test]).unwrap();
    let names: Vec<&str> = sets.iter().map(|set| set.name.as_str()).collect();
    assert_eq!(names, ["STSB dev", "STSB test", "MR all", "MRPC test"]);
    assert_eq!(sets[3].rows, [["i", "j"]]);
    assert_eq!(load(dir.path(), &[StsPart::Train]).unwrap().len(), 2);
    assert!(matches!(
        load(dir.path(), &[]),
        Err(DatasetError::MissingTask { .. })
    ));
    let sets = load(&dir.path().join("stsb.tsv"), &[]).unwrap();
    assert_eq!((sets[0].name.as_str(), sets[0].rows.len()), ("stsb.tsv", 3));
    assert_eq!(sets[0].rows[0], ["a", "b"]);
    // A broken task is an error, not an absent one.
    std::fs::remove_file(dir.path().join("mrpc_test.tsv")).unwrap();
    assert!(load(dir.path(), &[StsPart::Test]).is_err());
}

#[test]
fn texts_are_every_column_that_is_not_something_else() {
    let (_dir, path) = file(
        "a.csv",
        b"split,score,sentence1,Label,sentence2\ntrain,1,a,x,b\ntest,2,c,y,\n",
    );
    let rows = |split| load_texts(&path, split, Limits::default());
    assert_eq!(rows(None).unwrap().rows, [vec!["a", "b"], vec!["c"]]);
    assert_eq!(rows(Some("train")).unwrap().rows, [["a", "b"]]);
    assert!(matches!(
        rows(Some("dev")),
        Err(DatasetError::NoSuchSplit { .. })
    ));
    let (_dir, path) = file(
        "a.jsonl",
        b"{\"a\": \"x\", \"n\": 1, \"list\": [\"y\"], \"none\": null}\n",
    );
    let texts = load_texts(&path, None, Limits::default()).unwrap();
    assert_eq!(texts.rows, [["x"]]);
    let (_dir, path) = file("a.csv", b"split,score\ntrain,1\n");
    let error = load_texts(&path, None, Limits::default()).unwrap_err();
    assert!(
        matches!(error, DatasetError::ColumnCount { found: 0, .. }),
        "{error}"
    );
}

#[test]
fn files_are_written_again_without_the_leaking_rows() {
    let csv = "x,y\r\n\"a\n1\",b\r\nc,\"d\"\"\"\r\ne,f";
    let cases: [(&str, &str, &str); 3] = [
        ("a.csv", csv, "x,y\r\nc,\"d\"\"\"\ne,f\n"),
        ("a.tsv", "x\ty\n\na\tb\n\"c\td\n", "x\ty\n\n\"c\td\n"),
        (
            "a.jsonl",
            "{\"x\": \"a\"}\n{\"x\": \"c\"}\n",
            "{\"x\": \"c\"}\n",
        ),
    ];
    for (name, content, kept) in cases {
        let (dir, path) = file(name, content.as_bytes());
        let rows = load_texts(&path, None, Limits::default()).unwrap();
        let out = dir.path().join(format!("out-{name}"));
        let written = rows
            .write_filtered(&out, |texts| !texts[0].starts_with('a'))
            .unwrap();
        assert_eq!(std::fs::read_to_string(&out).unwrap(), kept, "{name}");
        assert_eq!(written, rows.rows.len() - 1);
        let packed = dir.path().join(format!("out-{name}.gz"));
        rows.write_filtered(&packed, |_| true).unwrap();
        let again = load_texts(&packed, None, Limits::default()).unwrap();
        assert_eq!(again.rows, rows.rows, "{name}");
    }
    let (dir, path) = file("a.json", b"[{\"x\": \"a\"}]");
    let rows = load_texts(&path, None, Limits::default()).unwrap();
    let error = rows
        .write_filtered(&dir.path().join("b.json"), |_| true)
        .unwrap_err();
    assert!(matches!(error, DatasetError::JsonList { .. }), "{error}");
}

// Hostile files, for every loader of a single file.

type Loader = fn(&Path, Limits) -> Result<Vec<RowsReport>, DatasetError>;

const LOADERS: [(&str, &str, Loader); 7] = [
    ("sentences", "a.txt", |path, limits| {
        let need = RowNeed::Sentences;
        Ok(vec![
            load_sentences(path, &SentenceOptions { need, limits })?.report,
        ])
    }),
    ("triplets", "a.csv", |path, limits| {
        let need = RowNeed::Sentences;
        Ok(vec![
            load_sentences(path, &SentenceOptions { need, limits })?.report,
        ])
    }),
    ("ngcse", "a.jsonl", |path, limits| {
        let lenient_keys = false;
        Ok(vec![
            load_ngcse(
                path,
                &NgcseOptions {
                    lenient_keys,
                    limits,
                },
            )?
            .report,
        ])
    }),
    ("nli", "a.tsv", |path, limits| {
        let options = NliOptions {
            limits,
            ..NliOptions::default()
        };
        Ok(load_nli(&[path.to_owned()], &options)?.reports)
    }),
    ("scored", "a.csv", |path, limits| {
        let options = ScoredOptions {
            limits,
            ..ScoredOptions::default()
        };
        Ok(load_scored(&[path.to_owned()], &options)?.reports)
    }),
    ("pairs", "a.tsv", |path, limits| {
        Ok(vec![load_pairs(path, limits)?.report])
    }),
    ("sts", "stsb.tsv", |path, limits| {
        Ok(load_sts_task(path.parent().unwrap(), StsName::StsB, limits)?.reports)
    }),
];

#[test]
fn no_loader_takes_hostile_bytes() {
    let long = vec![b'x'; 3000];
    let limits = Limits {
        max_line_bytes: 2000,
        ..Limits::default()
    };
    for (what, name, load) in LOADERS {
        let outcome = |content: &[u8]| {
            let (_dir, path) = file(name, content);
            load(&path, limits)
        };
        let error = outcome(b"").unwrap_err();
        assert!(
            matches!(error, DatasetError::EmptyFile { .. }),
            "{what}: {error}"
        );
        let error = outcome(b"\xEF\xBB\xBF\r\n \n").unwrap_err();
        assert!(
            matches!(error, DatasetError::EmptyFile { .. }),
            "{what}: {error}"
        );
        let error = outcome(b"ok\nbad \xff\n").unwrap_err();
        assert!(
            matches!(
                error,
                DatasetError::InvalidUtf8 {
                    line: 2,
                    byte: 4,
                    ..
                }
            ),
            "{what}: {error}"
        );
        let error = outcome(b"ok\nok\na\0b\n").unwrap_err();
        assert!(
            matches!(error, DatasetError::NulByte { line: 3, .. }),
            "{what}: {error}"
        );
        let error = outcome(&[b"ok\n", &long[..]].concat()).unwrap_err();
        assert!(
            matches!(
                error,
                DatasetError::LineTooLong {
                    line: 2,
                    found: 3000,
                    limit: 2000,
                    ..
                }
            ),
            "{what}: {error}"
        );
        let (dir, _) = file("other", b"");
        let error = load(&dir.path().join(name), limits).unwrap_err();
        assert!(
            matches!(
                error,
                DatasetError::Io { .. } | DatasetError::MissingTask { .. }
            ),
            "{what}: {error}"
        );
        let (_dir, path) = file(&format!("{name}.gz"), b"not gzip");
        let error = load(&path, limits).unwrap_err();
        assert!(
            matches!(error, DatasetError::Compressed { .. }),
            "{what}: {error}"
        );
    }
}

#[test]
fn a_line_of_ten_megabytes_is_within_the_default_limits_or_refused() {
    let mut content = vec![b'x'; 9_999_999];
    content.push(b'\n');
    assert_eq!(sentences("a.txt", &content).unwrap().len(), 1);
    let content = vec![b'x'; 10_000_001];
    let error = sentences("a.txt", &content).unwrap_err();
    assert!(
        matches!(error, DatasetError::LineTooLong { line: 1, .. }),
        "{error}"
    );
}

#[test]
fn a_header_alone_is_not_enough() {
    for (name, content) in [
        ("a.csv", "sent0,sent1\n"),
        ("a.tsv", "sent0\tsent1"),
        ("a.csv", "\"sent0\",\"sent1\"\r\n\r\n"),
    ] {
        let error = sentences(name, content.as_bytes()).unwrap_err();
        assert!(
            matches!(error, DatasetError::NoRows { .. }),
            "{name}: {error}"
        );
    }
    let options = NliOptions::default();
    let error = nli("a.tsv", "label\tpremise\thypothesis\n", &options).unwrap_err();
    assert!(matches!(error, DatasetError::NoRows { .. }), "{error}");
    let error = sts("stsb", "").unwrap_err();
    assert!(matches!(error, DatasetError::NoRows { .. }), "{error}");
}
