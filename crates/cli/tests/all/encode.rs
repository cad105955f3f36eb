use std::path::Path;

use assert_cmd::Command;
use encoder::SentenceEncoder;
use encoder::{LoadOptions, Pooling, Precision, Prompt, QuantizedValues, Ranges, quantize};
use kernels::DeviceSpec;
use serde_json::Value;

use crate::support::{PROTOTYPES, TestModel, asterism, failure, json_lines, numbers, success};

fn encode(model: &TestModel) -> Command {
    let mut command = asterism();
    command.arg("encode").arg("--model").arg(model.path());
    command
}

/// Rows of tab-separated numbers.
fn rows(text: &str) -> Vec<Vec<f32>> {
    text.lines()
        .map(|line| line.split('\t').map(|n| n.parse().unwrap()).collect())
        .collect()
}

fn norm(row: &[f32]) -> f32 {
    row.iter().map(|x| x * x).sum::<f32>().sqrt()
}

fn assert_close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn arguments_file_and_standard_input_give_the_vectors_of_the_library() {
    let model = TestModel::plain();
    let expected = model.encoder.encode(&PROTOTYPES, 8).unwrap();
    let from_arguments = success(encode(&model).args(PROTOTYPES));
    let lines = PROTOTYPES.join("\n");
    let from_stdin = success(encode(&model).write_stdin(lines.clone()));
    let file = model.file(
        "texts.txt",
        format!("\u{feff}{}\r\n", PROTOTYPES.join("\r\n")).as_bytes(),
    );
    let from_file = success(encode(&model).arg("--file").arg(file));
    assert_eq!(from_arguments, from_stdin);
    assert_eq!(from_arguments, from_file);
    let found = rows(&from_arguments);
    assert_eq!(found.len(), 3);
    for (index, row) in found.iter().enumerate() {
        assert_close(row, expected.row(index));
    }
    let from_dash = success(encode(&model).args(["--file", "-"]).write_stdin(lines));
    assert_eq!(from_arguments, from_dash);
}

#[test]
fn json_lines_carry_text_and_vector_and_blank_lines_count() {
    let model = TestModel::plain();
    let found = json_lines(&success(
        encode(&model)
            .arg("--json")
            .write_stdin("a \"quoted\"\ttext\n\nlast"),
    ));
    let texts: Vec<&str> = found
        .iter()
        .map(|row| row["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["a \"quoted\"\ttext", "", "last"]);
    for row in &found {
        assert!((norm(&numbers(&row["vector"])) - 1.0).abs() < 1e-5);
    }
}

#[test]
fn options_change_length_pooling_and_cut_but_not_the_order() {
    let model = TestModel::plain();
    let text = PROTOTYPES[2];
    let of =
        |arguments: &[&str]| rows(&success(encode(&model).args(arguments).arg(text))).remove(0);
    let unit = of(&[]);
    let plain = of(&["--no-normalize"]);
    assert!((norm(&plain) - 1.0).abs() > 1e-3);
    let scaled: Vec<f32> = plain.iter().map(|x| x / norm(&plain)).collect();
    assert_close(&scaled, &unit);
    assert_eq!(
        of(&["--no-normalize", "--normalize"]),
        unit,
        "the last one counts"
    );
    assert_ne!(of(&["--pooling", "cls"]), unit);
    assert_ne!(of(&["--max-len", "4"]), unit);

    let many: Vec<String> = (0..9).map(|i| PROTOTYPES[..=i % 3].join(" ")).collect();
    let big = rows(&success(encode(&model).args(&many)));
    let small = rows(&success(
        encode(&model).args(["--batch-size", "2"]).args(&many),
    ));
    assert_eq!(big.len(), 9);
    for (a, b) in big.iter().zip(&small) {
        assert_close(a, b);
    }
}

/// The model as the command opens it.
fn reloaded(model: &TestModel, pooling: Option<Pooling>) -> SentenceEncoder {
    let options = LoadOptions {
        pooling,
        ..LoadOptions::default()
    };
    let device = DeviceSpec::default().open().unwrap();
    SentenceEncoder::load(model.path(), &options, &device).unwrap()
}

#[test]
fn prompts_go_in_front_of_every_text() {
    let mut model = TestModel::plain();
    let prompts = &mut model.encoder.prompts;
    for (name, text) in [("query", "library "), ("document", "train ")] {
        prompts.texts.insert(name.to_owned(), text.to_owned());
    }
    prompts.default = Some("document".to_owned());
    model.encoder.save(model.path()).unwrap();
    let of = |arguments: &[&str]| {
        rows(&success(
            encode(&model).args(arguments).args(&PROTOTYPES[..2]),
        ))
    };
    for (arguments, prompt) in [
        (&[][..], Prompt::Default),
        (&["--prompt", ""], Prompt::None),
        (&["--prompt", "query"], Prompt::Named("query")),
        (&["--prompt", "parcel: "], Prompt::Text("parcel: ")),
    ] {
        let expected = model
            .encoder
            .encode_with(&PROTOTYPES[..2], 8, prompt)
            .unwrap();
        for (index, row) in of(arguments).iter().enumerate() {
            assert_close(row, expected.row(index));
        }
    }
    assert_eq!(of(&[]), of(&["--prompt", "train "]));
    assert_ne!(of(&[]), of(&["--prompt", "query"]));

    let error = failure(encode(&model).args(["--prompt", "querry", "x"]), 2);
    assert!(
        error.contains("--prompt: no prompt `querry`; this model has: document, query"),
        "{error}"
    );
    let pooling = model.path().join("1_Pooling/config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&pooling).unwrap()).unwrap();
    config["include_prompt"] = Value::from(false);
    std::fs::write(&pooling, config.to_string()).unwrap();
    let error = failure(encode(&model).args(["--prompt", "query", "x"]), 2);
    assert!(
        error.contains("--prompt: ") && error.contains("include_prompt"),
        "{error}"
    );
    success(encode(&model).args(["--prompt", "", "x"]));
}

#[test]
fn a_template_is_put_around_every_text() {
    let model = TestModel::plain();
    let template = "the \"{s}\" train [MASK]";
    let mut wrapped = reloaded(&model, Some(Pooling::Mask));
    wrapped.set_template(template).unwrap();
    let expected = wrapped.encode(&PROTOTYPES, 8).unwrap();
    for more in [&[][..], &["--pooling", "mask"]] {
        let found = rows(&success(
            encode(&model)
                .args(["--template", template])
                .args(more)
                .args(PROTOTYPES),
        ));
        for (index, row) in found.iter().enumerate() {
            assert_close(row, expected.row(index));
        }
    }
    for (arguments, message) in [
        (
            &["--pooling", "mask"][..],
            "--pooling: mask needs --template TEXT",
        ),
        (
            &["--template", template, "--pooling", "mean"],
            "--template: goes with --pooling mask, found --pooling mean",
        ),
        (
            &["--template", "no place [MASK]"],
            "--template: expected {s} once, for the text, found `no place [MASK]`",
        ),
        (
            &["--template", "{s} without a mask"],
            "--template: expected the mask token at the end",
        ),
    ] {
        let error = failure(encode(&model).args(arguments).arg("x"), 2);
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn fewer_dimensions_have_unit_length_again() {
    let model = TestModel::plain();
    let expected = model
        .encoder
        .encode(&PROTOTYPES, 8)
        .unwrap()
        .truncated(20, true)
        .unwrap();
    let cut = |arguments: &[&str]| {
        rows(&success(
            encode(&model)
                .args(["--truncate-dim", "20"])
                .args(arguments)
                .args(PROTOTYPES),
        ))
    };
    for (index, row) in cut(&[]).iter().enumerate() {
        assert_close(row, expected.row(index));
    }
    let plain = rows(&success(
        encode(&model).arg("--no-normalize").args(PROTOTYPES),
    ));
    for (row, plain) in cut(&["--no-normalize"]).iter().zip(&plain) {
        assert_close(row, &plain[..20]);
    }
}

#[test]
fn vectors_come_in_bytes_and_bits() {
    let model = TestModel::plain();
    let typical: Vec<&str> = PROTOTYPES
        .into_iter()
        .chain(["the book", "is the ticket for my parcel", ""])
        .collect();
    let calibration = model.file("typical.txt", (typical.join("\n") + "\n").as_bytes());
    let calibration = calibration.to_str().unwrap();
    let texts = ["where is my ticket", "renew it", "library book"];
    let dim = 60;
    let cut = |texts: &[&str]| {
        let vectors = model.encoder.encode(texts, 8).unwrap();
        vectors.truncated(dim, true).unwrap()
    };
    let ranges = Ranges::of(&cut(&typical)).unwrap();
    for precision in Precision::ALL {
        let name = precision.to_string();
        let expected = quantize(&cut(&texts), precision, Some(&ranges)).unwrap();
        let command = || {
            let mut command = encode(&model);
            command.args(["--truncate-dim", "60", "--precision", &name]);
            if matches!(precision, Precision::Int8 | Precision::Uint8) {
                command.args(["--calibration", calibration]);
            }
            command.args(texts);
            command
        };
        let found = rows(&success(&mut command()));
        let (want, tolerance): (Vec<f32>, f32) = match expected.values {
            QuantizedValues::Float32(values) => (values, 1e-5),
            // A value at the edge of a step may fall on either side of it.
            QuantizedValues::Signed(values) if precision == Precision::Int8 => {
                (values.into_iter().map(f32::from).collect(), 1.0)
            }
            QuantizedValues::Unsigned(values) if precision == Precision::Uint8 => {
                (values.into_iter().map(f32::from).collect(), 1.0)
            }
            QuantizedValues::Signed(values) => (values.into_iter().map(f32::from).collect(), 0.0),
            QuantizedValues::Unsigned(values) => (values.into_iter().map(f32::from).collect(), 0.0),
        };
        assert_eq!(found.len(), texts.len());
        for (row, want) in found.iter().zip(want.chunks(expected.width)) {
            assert_eq!(row.len(), want.len(), "{name}");
            for (found, want) in row.iter().zip(want) {
                assert!((found - want).abs() <= tolerance, "{name}: {found} {want}");
            }
        }
        let json = json_lines(&success(command().arg("--json")));
        for ((line, row), text) in json.iter().zip(&found).zip(texts) {
            assert_eq!(line["text"], text);
            assert_eq!(&numbers(&line["vector"]), row, "{name}");
            assert_eq!(
                line["vector"][0].is_i64(),
                precision != Precision::Float32,
                "{name}"
            );
        }
    }
    let plain = success(encode(&model).args(texts));
    assert_eq!(
        plain,
        success(encode(&model).args(["--precision", "f32"]).args(texts))
    );
}

#[test]
fn bytes_of_a_text_do_not_depend_on_the_texts_beside_it() {
    let model = TestModel::plain();
    let calibration = model.file("typical.txt", PROTOTYPES.join("\n").as_bytes());
    let of = |texts: &[&str]| {
        success(
            encode(&model)
                .args(["--precision", "uint8", "--batch-size", "1"])
                .arg("--calibration")
                .arg(&calibration)
                .args(texts),
        )
    };
    let many: Vec<&str> = PROTOTYPES.into_iter().cycle().take(18).collect();
    let all = of(&many);
    assert_eq!(all.lines().count(), 18);
    for (at, text) in PROTOTYPES.iter().enumerate() {
        let alone = of(&[text]);
        for line in all.lines().skip(at).step_by(PROTOTYPES.len()) {
            assert_eq!(line, alone.trim_end());
        }
    }
}

#[test]
fn nothing_in_gives_nothing_out() {
    let model = TestModel::plain();
    assert_eq!(success(encode(&model).write_stdin("")), "");
    assert_eq!(success(encode(&model).arg("--json").write_stdin("")), "");
}

#[test]
fn text_that_is_not_utf8_is_named_by_line() {
    let model = TestModel::plain();
    let error = failure(encode(&model).write_stdin(&b"fine\nbro\xffken\n"[..]), 2);
    assert!(
        error.contains("standard input:2: invalid UTF-8 at byte 3"),
        "{error}"
    );
    let file = model.file("latin1.txt", b"\xe9t\xe9\n");
    let error = failure(encode(&model).arg("-f").arg(&file), 2);
    assert!(
        error.contains(&format!("{}:1: invalid UTF-8", file.display())),
        "{error}"
    );
}

#[test]
fn control_characters_and_long_texts_are_encoded() {
    let model = TestModel::plain();
    let long = "parcel ".repeat(10_000);
    let found = rows(&success(
        encode(&model).write_stdin(format!("\0\u{1b}[31m\u{202e}\n{long}\n")),
    ));
    assert_eq!(found.len(), 2);
    assert!(found.iter().flatten().all(|number| number.is_finite()));
}

#[test]
fn missing_models_and_files_are_named() {
    let model = TestModel::plain();
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    let error = failure(
        asterism()
            .arg("encode")
            .arg("--model")
            .arg(&absent)
            .arg("x"),
        2,
    );
    assert!(
        error.contains(&format!(
            "{}: not a model directory: it does not exist",
            absent.display()
        )),
        "{error}"
    );
    let error = failure(
        asterism()
            .arg("encode")
            .arg("--model")
            .arg(dir.path())
            .arg("x"),
        2,
    );
    assert!(error.contains("config.json is missing"), "{error}");
    let error = failure(encode(&model).arg("--file").arg(&absent), 2);
    assert!(
        error.contains(&format!("cannot open {}", absent.display())),
        "{error}"
    );
    let error = failure(encode(&model).arg("--file").arg(dir.path()), 2);
    assert!(
        error.contains(&format!("cannot read {}", dir.path().display())),
        "{error}"
    );

    std::fs::remove_file(model.path().join("model.safetensors")).unwrap();
    let error = failure(encode(&model).arg("x"), 2);
    assert!(error.contains("model.safetensors"), "{error}");
}

#[test]
fn a_run_directory_leads_to_its_model() {
    let run = tempfile::tempdir().unwrap();
    let model = TestModel::plain();
    model.encoder.save(&run.path().join("model")).unwrap();
    let error = failure(
        asterism()
            .arg("encode")
            .arg("--model")
            .arg(run.path())
            .arg("x"),
        2,
    );
    let inner = run.path().join("model").display().to_string();
    assert!(
        error.contains("run directory") && error.contains(&inner),
        "{error}"
    );
}

#[test]
fn bad_options_are_usage_errors() {
    let model = TestModel::plain();
    for (arguments, message) in [
        (&["--device", "gpu"][..], "unknown device `gpu`"),
        (
            &["--pooling", "max"],
            "cls, cls_mlp, mean, avg_top2, avg_first_last or mask",
        ),
        (&["--batch-size", "0"], "at least 1"),
        (&["--max-len", "2"], "at least 3"),
        (
            &["--max-len", "65"],
            "--max-len: expected at most the 64 positions",
        ),
        (&["--truncate-dim", "0"], "at least 1"),
        (
            &["--truncate-dim", "129"],
            "--truncate-dim: expected 1 to 128, found `129`",
        ),
        (
            &["--precision", "int4"],
            "f32, int8, uint8, binary or ubinary",
        ),
        (
            &["--precision", "int8"],
            "--precision: int8 needs --calibration FILE",
        ),
        (
            &["--calibration", "a", "--precision", "binary"],
            "--calibration: goes with --precision int8 or uint8 only",
        ),
        (
            &["--calibration", "no-such.txt", "--precision", "int8"],
            "cannot open no-such.txt",
        ),
        (&["--file", "a", "b"], "cannot be used with"),
        (&["--unknown"], "unexpected argument"),
    ] {
        let error = failure(encode(&model).args(arguments).arg("x"), 2);
        assert!(error.contains(message), "{error}");
    }
    let file = model.file("one.txt", b"one\n");
    let error = failure(
        encode(&model)
            .args(["--precision", "uint8", "x", "--calibration"])
            .arg(&file),
        2,
    );
    assert!(
        error.contains("--calibration: ") && error.contains("at least 2 texts, found 1"),
        "{error}"
    );
    failure(asterism().arg("no-such-command"), 2);
    failure(&mut asterism(), 2);
}

#[test]
fn a_head_that_is_missing_is_named() {
    let mut model = TestModel::plain();
    model.encoder.bert.pooler = None;
    model.encoder.save(model.path()).unwrap();
    let error = failure(encode(&model).args(["--pooling", "cls_mlp", "x"]), 2);
    assert!(
        error.contains("--pooling: pooling cls_mlp needs a pooler"),
        "{error}"
    );
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_left_out_of_the_build_names_its_feature() {
    let model = TestModel::plain();
    let error = failure(encode(&model).args(["--device", "cuda", "x"]), 2);
    assert!(error.contains("--features cuda"), "{error}");
}

/// As in `asterism encode ... | head -1`, with more output than a pipe holds.
#[cfg(unix)]
#[test]
fn a_reader_that_leaves_early_is_no_error() {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    let model = TestModel::plain();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("asterism"))
        .arg("encode")
        .arg("--model")
        .arg(model.path())
        .args(["--batch-size", "8"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        // The command stops reading at some point.
        let _ = input.write_all("renew the book\n".repeat(2_000).as_bytes());
    });
    let mut first = [0; 16];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn without_a_model_the_bundled_encoder_is_used() {
    let cache = tempfile::tempdir().unwrap();
    let lines = success(asterism().env("ASTERISM_DATA", cache.path()).args([
        "encode",
        "turn on the light",
        "switch the lamp on",
        "a train to Rome",
    ]));
    let vectors = rows(&lines);
    let cosine = |a: usize, b: usize| -> f32 {
        vectors[a].iter().zip(&vectors[b]).map(|(a, b)| a * b).sum()
    };
    assert!(
        cosine(0, 1) > cosine(0, 2) + 0.2,
        "{} {}",
        cosine(0, 1),
        cosine(0, 2)
    );
    // The files are kept, for the next time.
    assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 1);
}

#[test]
fn a_bundled_encoder_without_a_place_is_said_what_to_do_about() {
    // No folder can be made below a file, by nobody.
    let file = tempfile::NamedTempFile::new().unwrap();
    let run = |cache: &Path, temporary: &Path| {
        let mut command = asterism();
        command.env("ASTERISM_DATA", cache).env("TMPDIR", temporary);
        command.args(["encode", "a train to Rome"]);
        command
    };
    let below = file.path().join("below");
    let stderr = failure(&mut run(&below, &below), 2);
    let said = stderr.replace("\n  │ ", " ");
    assert!(
        said.contains("the bundled encoder cannot be unpacked: cannot create"),
        "{stderr}"
    );
    assert!(said.contains("set ASTERISM_DATA"), "{stderr}");
    let temporary = tempfile::tempdir().unwrap();
    success(&mut run(&below, temporary.path()));
}

#[test]
fn files_of_rows_give_the_vectors_of_their_texts() {
    let model = TestModel::plain();
    let expected = model.encoder.encode(&PROTOTYPES, 8).unwrap();
    let lines = PROTOTYPES.map(|text| format!("{{\"note\": \"{text}\", \"n\": 1}}\n"));
    let input = model.file("in.jsonl", lines.concat().as_bytes());
    let run = |name: &str, arguments: &[&str]| {
        let out = model.path().join(name);
        success(
            encode(&model)
                .args(["--text", "note", "--chunk", "2", "--in"])
                .arg(&input)
                .arg("--out")
                .arg(&out)
                .args(arguments),
        );
        out
    };
    let found = rows(&std::fs::read_to_string(run("out.tsv", &[])).unwrap());
    assert_eq!(found.len(), 3);
    for (index, row) in found.iter().enumerate() {
        assert_close(row, expected.row(index));
    }
    for name in ["out.parquet", "out.arrow"] {
        let out = run(name, &[]);
        assert_eq!(columnar::column_names(&out).unwrap(), ["note", "vector"]);
        let texts = columnar::read_columns(&out, &["note"]).unwrap();
        assert_eq!(texts[0], PROTOTYPES);
        let error = columnar::read_columns(&out, &["vector"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("FixedSizeList(128 x"), "{error}");
    }
    let bits = run("bits.parquet", &["--precision", "ubinary"]);
    let error = columnar::read_columns(&bits, &["vector"])
        .unwrap_err()
        .to_string();
    assert!(error.contains("FixedSizeList(16 x"), "{error}");
}
