//! The `evaluate` program on a tiny random encoder and miniature files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// The error type is the programs' own; what a test closure returns is not moved around.
#![allow(clippy::result_large_err)]
#![cfg(feature = "flex")]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use datasets::{StsName, StsPart, load_sts_dir};
use encoder::{BertConfig, Embeddings, LoadOptions, Pooling, SentenceEncoder, TextTokenizer};
use experiments::evaluate::transfer_protocol::TransferSettings;
use experiments::evaluate::{Mode, Suite, evaluate, evaluate_sts, sts_dev};
use experiments::result::{EmbeddingRow, ResultFile, Row};
use metrics::{Aggregation, pearson, spearman};
use tempfile::TempDir;

const WORDS: [&str; 10] = [
    "a", "cat", "dog", "sat", "ran", "on", "mat", "far", "good", "bad",
];

const STS_HEADER: &str = "split\tsubset\tscore\tsentence1\tsentence2\n";

/// A folder with a model, similarity tasks and transfer tasks.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let mut pieces = vec!["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
        pieces.extend(WORDS);
        let tokenizer = TextTokenizer::from_word_pieces(&pieces).unwrap();
        let config = BertConfig::tiny(pieces.len());
        let device = burn::tensor::Device::flex();
        let mut encoder =
            SentenceEncoder::random(config, tokenizer, Pooling::Mean, 3, &device).unwrap();
        encoder.bert.pooler = None;
        encoder.save(&place.at("model")).unwrap();

        // Two subsets, an empty score, ties.
        place.write(
            "sts/sts13.tsv",
            &format!(
                "{STS_HEADER}\
                 test\tnews\t5.0\ta cat sat\ta cat sat on a mat\n\
                 test\tnews\t1.0\ta cat sat\ta dog ran far\n\
                 test\tnews\t\tgood\tbad\n\
                 test\tnews\t2.5\ta dog ran\ta cat ran\n\
                 test\tforum\t2.5\tgood dog\tbad dog\n\
                 test\tforum\t4.0\ta cat sat\tcat sat\n\
                 test\tforum\t0.0\tmat\tfar far far\n"
            ),
        );
        place.write(
            "sts/stsb.tsv",
            &format!(
                "{STS_HEADER}\
                 train\tx\t3.0\tcat\tdog\n\
                 dev\tx\t5.0\ta cat sat on a mat\tcat sat on mat\n\
                 dev\ty\t1.0\tgood\tfar\n\
                 dev\ty\t3.0\tgood dog\tgood cat\n\
                 test\tx\t4.8\ta dog ran\tdog ran far\n\
                 test\ty\t0.5\tbad mat\ta good cat sat\n\
                 test\ty\t2.0\tdog\tcat\n"
            ),
        );
        let reviews = |rows: usize| -> String {
            let rows = (0..rows).map(|row| {
                let (label, word) = if row % 2 == 0 {
                    (1, "good")
                } else {
                    (0, "bad")
                };
                format!(
                    "{label}\t{word} {} {}\n",
                    WORDS[row % 7],
                    WORDS[row / 7 % 7]
                )
            });
            rows.collect()
        };
        place.write("transfer/cr.tsv", &format!("label\ttext\n{}", reviews(60)));
        let pairs = |rows: usize| -> String {
            let rows = (0..rows).map(|row| {
                let (a, b) = (WORDS[row % 10], WORDS[(row + 3) % 10]);
                if row % 2 == 0 {
                    format!("1\t{a} {b}\t{a} {b} on\n")
                } else {
                    format!("0\t{a} {b}\tfar mat ran\n")
                }
            });
            rows.collect()
        };
        let header = "label\tsentence1\tsentence2\n";
        place.write("transfer/mrpc_train.tsv", &format!("{header}{}", pairs(40)));
        place.write("transfer/mrpc_test.tsv", &format!("{header}{}", pairs(20)));
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn encoder(&self) -> SentenceEncoder {
        let device = burn::tensor::Device::flex();
        SentenceEncoder::load(&self.at("model"), &LoadOptions::default(), &device).unwrap()
    }

    /// Exit code, standard output and standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_evaluate"))
            .current_dir(self.dir.path())
            .env("NO_COLOR", "1")
            .args(["--device", "flex"])
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// Runs with a result file and returns what was printed and its rows.
    fn rows(&self, arguments: &[&str]) -> (String, Vec<EmbeddingRow>) {
        let mut all = vec!["--model", "model", "--json", "result.json"];
        all.extend(arguments);
        let (code, out, err) = self.run(&all);
        assert_eq!(code, 0, "{err}");
        let file = ResultFile::read(&self.at("result.json")).unwrap();
        assert_eq!(file.experiment, "evaluate");
        let rows = file.rows.into_iter().map(|row| match row {
            Row::Embedding(row) => row,
            other => panic!("{other:?}"),
        });
        (out, rows.collect())
    }

    /// Exit code 2 and all the words in the message.
    fn refuses(&self, arguments: &[&str], words: &[&str]) {
        let (code, _, err) = self.run(arguments);
        assert_eq!(code, 2, "{err}");
        for word in words {
            assert!(err.contains(word), "no {word:?} in {err}");
        }
    }
}

fn value(rows: &[EmbeddingRow], task: &str, split: &str, metric: &str, aggregation: &str) -> f64 {
    let mut found = rows.iter().filter(|row| {
        (row.task.as_str(), row.split.as_str()) == (task, split)
            && (row.metric.as_str(), row.aggregation.as_str()) == (metric, aggregation)
    });
    let row = found
        .next()
        .unwrap_or_else(|| panic!("{task} {split} {metric} {aggregation}"));
    assert!(found.next().is_none());
    row.value
}

/// Cosines text by text, each encoded alone.
fn cosines(encoder: &SentenceEncoder, pairs: &[(&str, &str)]) -> Vec<f64> {
    let vector = |text: &str| encoder.encode(&[text], 1).unwrap().values;
    pairs
        .iter()
        .map(|(a, b)| {
            let (a, b) = (vector(a), vector(b));
            let dot = |x: &[f32], y: &[f32]| -> f64 {
                x.iter()
                    .zip(y)
                    .map(|(x, y)| f64::from(*x) * f64::from(*y))
                    .sum()
            };
            dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
        })
        .collect()
}

#[test]
fn sts_agrees_with_one_text_at_a_time() {
    let place = Place::new();
    let (out, rows) = place.rows(&["--sts", "sts"]);
    let encoder = place.encoder();
    let news = [
        ("a cat sat", "a cat sat on a mat"),
        ("a cat sat", "a dog ran far"),
        ("a dog ran", "a cat ran"),
    ];
    let forum = [
        ("good dog", "bad dog"),
        ("a cat sat", "cat sat"),
        ("mat", "far far far"),
    ];
    let gold = [5.0, 1.0, 2.5, 2.5, 4.0, 0.0];
    let predicted = [cosines(&encoder, &news), cosines(&encoder, &forum)].concat();
    for (metric, correlation) in [
        ("spearman", spearman as fn(&[f64], &[f64]) -> _),
        ("pearson", pearson),
    ] {
        let each = [
            correlation(&predicted[..3], &gold[..3]).unwrap(),
            correlation(&predicted[3..], &gold[3..]).unwrap(),
        ];
        for (aggregation, expected) in [
            ("all", correlation(&predicted, &gold).unwrap()),
            ("mean", (each[0] + each[1]) / 2.0),
            ("wmean", (3.0 * each[0] + 3.0 * each[1]) / 6.0),
        ] {
            let found = value(&rows, "STS13", "test", metric, aggregation);
            assert!(
                (found - expected).abs() < 1e-5,
                "{metric} {aggregation}: {found} {expected}"
            );
        }
    }
    // The published table, with the tasks that are not there missing, and so their average.
    let line = out
        .lines()
        .find(|line| line.starts_with("| model "))
        .unwrap();
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let percent = 100.0 * value(&rows, "STS13", "test", "spearman", "all");
    assert_eq!(cells[3], format!("{percent:.2}"));
    assert_eq!((cells[2], cells[8]), ("-", "-"));
    assert!(out.contains("SimCSE-BERT-base (unsup), published"), "{out}");
    for metric in ["alignment", "uniformity", "average_cosine", "iso_score"] {
        assert!(
            value(&rows, "STSB", "test", metric, "all").is_finite(),
            "{metric}"
        );
    }
    // STS13 has 12 texts with a score, 9 of them distinct; STS-B has six others.
    assert!(out.contains("18 texts, 15 distinct"), "{out}");
}

#[test]
fn dev_scores_no_test_part() {
    let place = Place::new();
    let (out, rows) = place.rows(&[
        "--sts",
        "sts",
        "--transfer",
        "transfer",
        "--tasks",
        "sts,CR",
        "--mode",
        "dev",
    ]);
    assert!(rows.iter().all(|row| row.split == "dev"), "{rows:?}");
    assert!(rows.iter().all(|row| row.task != "STS13"));
    assert!(!out.contains("published"));
    let expected = sts_dev(
        &place.encoder(),
        &load_sts_dir(&place.at("sts"), Default::default()).unwrap()[1],
        8,
    )
    .unwrap()
    .unwrap();
    assert_eq!(value(&rows, "STSB", "dev", "spearman", "all"), expected);
    assert!(value(&rows, "CR", "dev", "accuracy", "all") > 0.5);
}

#[test]
fn transfer_tasks_have_accuracies_and_an_f1() {
    let place = Place::new();
    let arguments = ["--transfer", "transfer", "--mode", "fasttest"];
    let (out, rows) = place.rows(&arguments);
    // The classes differ by a word. Two rows stop the final training of CR, so it may stop early.
    for (task, least) in [("CR", 0.6), ("MRPC", 0.9)] {
        for (split, least) in [("test", least), ("dev", 0.9)] {
            let found = value(&rows, task, split, "accuracy", "all");
            assert!(found > least, "{task} {split}: {found}");
        }
    }
    assert!(value(&rows, "MRPC", "test", "f1", "all") > 0.8);
    assert_eq!(rows.len(), 5);
    assert!(out.contains("MRPC F1"), "{out}");
    // The same bits again.
    let again = place.rows(&arguments).1;
    assert_eq!(rows, again);
}

#[test]
fn own_pairs_are_scored_or_searched() {
    let place = Place::new();
    place.write(
        "mine.tsv",
        "score\tsentence1\tsentence2\n1\tcat\tcat\n0.5\tcat\tdog\n0\tcat\tfar mat\n",
    );
    place.write("faq.tsv", "good cat\tgood cat sat\nbad dog\tbad dog ran\n");
    let (out, rows) = place.rows(&["--pairs", "mine.tsv", "--pairs", "faq.tsv"]);
    assert!(value(&rows, "mine", "test", "spearman", "all").is_finite());
    assert!(out.contains("mine: 3 pairs, Spearman"), "{out}");
    let recall = value(&rows, "faq", "test", "recall@5", "all");
    assert_eq!(recall, 1.0);
    assert!(value(&rows, "faq", "test", "mrr", "all") >= 0.5);
    assert!(out.contains("faq: 2 queries over 2 documents"), "{out}");
}

#[test]
fn constant_gold_is_missing_and_never_zero() {
    let place = Place::new();
    let rows: String = (0..4)
        .map(|row| format!("3\t{}\t{}\n", WORDS[row], WORDS[row + 1]))
        .collect();
    place.write("flat.tsv", &format!("score\tsentence1\tsentence2\n{rows}"));
    let (out, rows) = place.rows(&["--pairs", "flat.tsv"]);
    assert!(out.contains("Spearman -, Pearson -"), "{out}");
    assert!(rows.iter().all(|row| row.value.is_nan()));
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(place.at("result.json")).unwrap()).unwrap();
    assert!(json["rows"][0]["value"].is_null());

    // One subset of two: the means are missing, all is there.
    place.write(
        "sts/sts13.tsv",
        &format!(
            "{STS_HEADER}test\ta\t3\tcat\tdog\ntest\ta\t3\tmat\tfar\n\
             test\tb\t1\tcat\tfar\ntest\tb\t2\tgood\tbad\n"
        ),
    );
    let (_, rows) = place.rows(&["--sts", "sts", "--tasks", "STS13"]);
    assert!(value(&rows, "STS13", "test", "spearman", "all").is_finite());
    assert!(value(&rows, "STS13", "test", "spearman", "mean").is_nan());
    assert!(value(&rows, "STS13", "test", "spearman", "wmean").is_nan());
}

#[test]
fn equal_texts_are_embedded_once() {
    let place = Place::new();
    let sts = load_sts_dir(&place.at("sts"), Default::default()).unwrap();
    let suite = Suite {
        sts,
        ..Suite::default()
    };
    let mut seen: Vec<String> = Vec::new();
    let evaluation = evaluate(
        &suite,
        Mode::Test,
        &TransferSettings::fast(),
        |texts| {
            seen.extend(texts.iter().map(|text| (*text).to_owned()));
            // Length and first letter as a vector: any function will do.
            let values = texts
                .iter()
                .flat_map(|text| [text.len() as f32, f32::from(text.as_bytes()[0])])
                .collect();
            Ok(Embeddings { values, dim: 2 })
        },
        &|_| {},
    )
    .unwrap();
    assert_eq!(evaluation.texts, seen.len());
    seen.sort();
    let before = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), before);
    // A pair left out for want of a score is not encoded.
    assert!(!seen.contains(&"good".to_owned()));
    assert_eq!(evaluation.sts.len(), 2);
}

#[test]
fn library_and_program_agree() {
    let place = Place::new();
    let tasks = load_sts_dir(&place.at("sts"), Default::default()).unwrap();
    let results = evaluate_sts(&place.encoder(), &tasks, StsPart::Test, 3).unwrap();
    let (_, rows) = place.rows(&["--sts", "sts"]);
    assert_eq!(results[0].task, StsName::Sts13.name());
    for result in &results {
        for aggregation in Aggregation::ALL {
            let found = value(&rows, &result.task, "test", "spearman", aggregation.name());
            assert!((found - result.scores.spearman.get(aggregation)).abs() < 1e-12);
        }
    }
}

#[test]
fn a_head_that_the_model_lacks_is_named() {
    let place = Place::new();
    place.refuses(
        &["--model", "model", "--sts", "sts", "--pooling", "cls_mlp"],
        &["cls_mlp", "pooler"],
    );
}

#[test]
fn texts_may_be_put_behind_a_prompt_or_into_a_template() {
    let place = Place::new();
    let pairs = [
        ("a cat sat", "a dog sat"),
        ("mat", "far dog"),
        ("good", "bad cat"),
    ];
    let file = |wrap: &dyn Fn(&str) -> String| -> String {
        let rows = pairs
            .iter()
            .zip([3, 1, 2])
            .map(|((a, b), score)| format!("{score}\t{}\t{}\n", wrap(a), wrap(b)));
        format!("score\tsentence1\tsentence2\n{}", rows.collect::<String>())
    };
    place.write("plain.tsv", &file(&|text| text.to_owned()));
    place.write("behind.tsv", &file(&|text| format!("on a mat {text}")));
    let pearson = |pairs: &str, more: &[&str]| {
        let (_, rows) = place.rows(&[&["--pairs", pairs], more].concat());
        let task = pairs.strip_suffix(".tsv").unwrap();
        value(&rows, task, "test", "pearson", "all")
    };
    let model = || -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(place.at("result.json")).unwrap()).unwrap()
    };
    let plain = pearson("plain.tsv", &[]);
    assert!(model()["model"].get("prompt").is_none());
    // A prompt is a text in front.
    let prompted = pearson("plain.tsv", &["--prompt", "on a mat "]);
    assert_eq!(model()["model"]["prompt"], "on a mat ");
    assert_eq!(prompted, pearson("behind.tsv", &[]));
    assert_ne!(prompted, plain);
    assert_eq!(pearson("plain.tsv", &["--prompt", ""]), plain);

    let template = "a \"{s}\" cat [MASK]";
    let found = pearson("plain.tsv", &["--template", template]);
    let result = model();
    assert_eq!(result["model"]["template"], template);
    assert_eq!(result["model"]["pooling"], "mask");
    let mut encoder = place.encoder();
    encoder.set_template(template).unwrap();
    encoder.pooling = Pooling::Mask;
    let expected = metrics::pearson(&cosines(&encoder, &pairs), &[3.0, 1.0, 2.0]).unwrap();
    assert!((found - expected).abs() < 1e-5, "{found} {expected}");

    let model = ["--model", "model", "--pairs", "plain.tsv"];
    for (more, words) in [
        (
            &["--prompt", "query"][..],
            &["--prompt", "no prompt `query`", "none"][..],
        ),
        (
            &["--template", template, "--pooling", "cls"],
            &["--template", "--pooling mask", "cls"],
        ),
        (
            &["--template", "no place [MASK]"],
            &["template", "no place"],
        ),
        (&["--pooling", "mask"], &["mask", "template"]),
        (
            &["--template", template, "--max-len", "60"],
            &["--max-len", "at most the 59 tokens", "60"],
        ),
    ] {
        place.refuses(&[&model, more].concat(), words);
    }
}

#[test]
fn bad_scores_name_file_and_line() {
    let place = Place::new();
    for (score, words) in [
        ("NaN", ["bad.tsv:3", "NaN"]),
        ("high", ["bad.tsv:3", "high"]),
    ] {
        place.write(
            "bad.tsv",
            &format!("score\tsentence1\tsentence2\n1\ta\tcat\n{score}\ta\tdog\n"),
        );
        place.refuses(&["--model", "model", "--pairs", "bad.tsv"], &words);
    }
    place.write("sts/stsb.tsv", &format!("{STS_HEADER}test\tx\t7\ta\tcat\n"));
    place.refuses(&["--model", "model", "--sts", "sts"], &["stsb.tsv:2", "7"]);
}

#[test]
fn a_text_file_is_no_file_of_pairs() {
    let place = Place::new();
    place.write("lines.txt", "a cat sat\na dog ran\n");
    place.refuses(
        &["--model", "model", "--pairs", "lines.txt"],
        &["lines.txt:1", "pairs"],
    );
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let place = Place::new();
    let model = ["--model", "model"];
    place.refuses(
        &["--model", "model", "--tasks", "STS12"],
        &["nothing to choose from", "--sts"],
    );
    place.refuses(
        &["--model", "nowhere", "--sts", "sts"],
        &["nowhere", "model directory"],
    );
    for (more, words) in [
        (vec!["--sts", "nowhere"], vec!["nowhere", "STS"]),
        (vec!["--transfer", "sts"], vec!["sts", "mr.tsv"]),
        (
            vec!["--sts", "sts", "--tasks", "STS12"],
            vec!["STS12", "sts12.tsv"],
        ),
        (
            vec!["--transfer", "transfer", "--tasks", "TREC"],
            vec!["TREC", "trec_train"],
        ),
        (
            vec!["--sts", "sts", "--tasks", "MR"],
            vec!["--tasks MR", "--transfer"],
        ),
        (
            vec!["--sts", "sts", "--tasks", "STSX"],
            vec!["STSX", "did you mean `STS"],
        ),
        (
            vec!["--sts", "sts", "--max-len", "100000"],
            vec!["--max-len", "100000"],
        ),
        (
            vec!["--sts", "sts", "--max-len", "2"],
            vec!["--max-len", "whole number from 3"],
        ),
        (
            vec!["--sts", "sts", "--json", "none/result.json"],
            vec!["none/result.json", "no folder"],
        ),
        (
            vec!["--sts", "sts", "--mode", "train"],
            vec!["--mode", "fasttest"],
        ),
        (
            vec!["--sts", "sts", "--batch-size", "0"],
            vec!["--batch-size"],
        ),
    ] {
        place.refuses(&[&model, &more[..]].concat(), &words);
    }
    assert!(!Path::new("result.json").exists());
}
