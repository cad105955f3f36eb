use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use assert_cmd::Command;
use categories::{
    Calibration, Catalogue, Category, CategoryId, Edit, NameSource, Status, Store, Threshold,
};
use columnar::{Column, Format, Reader, Table, Values, Writer, read_columns};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{PROTOTYPES, TestModel, asterism, failure, json_lines, success};

fn predict(model: &TestModel) -> Command {
    let mut command = asterism();
    command.arg("predict").arg("--model").arg(model.path());
    command
}

#[test]
fn each_prototype_finds_its_own_category() {
    let model = TestModel::with_categories();
    let found = success(predict(&model).write_stdin(PROTOTYPES.join("\n")));
    let expected: String = [
        "0\tloan\tlibrary\t1.0000\t",
        "1\tlost\ttransport\t1.0000\t",
        "2\t-\ttransport\t1.0000\t",
    ]
    .iter()
    .zip(PROTOTYPES)
    .map(|(answer, text)| format!("{answer}{text}\n"))
    .collect();
    assert_eq!(found, expected);
    let batched = success(
        predict(&model)
            .args(["--batch-size", "3"])
            .write_stdin(PROTOTYPES.join("\n")),
    );
    assert_eq!(batched, expected);
}

#[test]
fn json_has_null_where_there_is_no_name() {
    let model = TestModel::with_categories();
    let found = json_lines(&success(predict(&model).arg("--json").args(PROTOTYPES)));
    assert_eq!(found.len(), 3);
    for (id, (row, text)) in found.iter().zip(PROTOTYPES).enumerate() {
        assert_eq!(row["id"], id);
        assert_eq!(row["text"], text);
        assert!((row["cosine"].as_f64().unwrap() - 1.0).abs() < 1e-5);
    }
    assert_eq!(found[0]["name"], "loan");
    assert!(found[2]["name"].is_null());
    assert_eq!(found[2]["coarse"], "transport");
}

#[test]
fn the_coarse_gate_restricts_the_answers() {
    let model = TestModel::with_categories();
    let gated = json_lines(&success(predict(&model).args([
        "--json",
        "--coarse-gate",
        "transport",
        PROTOTYPES[0],
    ])));
    assert_ne!(gated[0]["id"], 0);
    assert_eq!(gated[0]["coarse"], "transport");
    let error = failure(predict(&model).args(["--coarse-gate", "libary", "x"]), 2);
    assert!(error.contains("no coarse category `libary`"), "{error}");
    assert!(
        error.contains("library, transport") && error.contains("did you mean `library`"),
        "{error}"
    );
}

/// The next question is asked only after the answer to the last one has arrived.
#[test]
fn answers_come_before_the_next_question() {
    let model = TestModel::with_categories();
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("asterism"))
        .arg("predict")
        .arg("--model")
        .arg(model.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for (id, text) in PROTOTYPES.iter().enumerate() {
        writeln!(input, "{text}").unwrap();
        let answer = answers.next().unwrap().unwrap();
        assert!(answer.starts_with(&format!("{id}\t")), "{answer}");
    }
    drop(input);
    assert!(answers.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn answers_before_a_bad_line_are_kept() {
    let model = TestModel::with_categories();
    let mut command = predict(&model);
    let assert = command
        .write_stdin(&b"first\n\xc3\x28\nthird\n"[..])
        .assert()
        .code(2);
    let output = assert.get_output();
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("standard input:2: invalid UTF-8 at byte 0"),
        "{error}"
    );
}

#[test]
fn nothing_in_gives_nothing_out() {
    let model = TestModel::with_categories();
    assert_eq!(success(predict(&model).write_stdin("")), "");
}

#[test]
fn a_model_without_centroids_is_refused() {
    let model = TestModel::plain();
    let error = failure(predict(&model).arg("x"), 2);
    assert!(error.contains("the model has no centroids"), "{error}");
    assert!(error.contains("train star-down"), "{error}");
}

#[test]
fn a_broken_extension_is_refused_by_file_and_field() {
    let model = TestModel::with_categories();
    model.file(
        "asterism.json",
        br#"{"coarse_names": ["a"], "categories": []}"#,
    );
    let error = failure(predict(&model).arg("x"), 2);
    assert!(
        error.contains("asterism.json: categories: expected 3 entries"),
        "{error}"
    );
    model.file("asterism.json", b"[");
    let error = failure(predict(&model).arg("x"), 2);
    assert!(error.contains("asterism.json"), "{error}");
    model.file("asterism.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\xff");
    model.file("asterism.json", b"{}");
    let error = failure(predict(&model).arg("x"), 2);
    assert!(error.contains("asterism.safetensors"), "{error}");
}

#[test]
fn a_missing_model_and_an_unknown_device_are_refused() {
    let model = TestModel::with_categories();
    let error = failure(predict(&model).args(["--device", "tpu", "x"]), 2);
    assert!(error.contains("unknown device `tpu`"), "{error}");
    let error = failure(
        asterism().args(["predict", "--model", "no/such/dir", "x"]),
        2,
    );
    assert!(
        error.contains("no/such/dir: not a model directory"),
        "{error}"
    );
}

/// A run as `discover` leaves it: the model and its three categories, named, with a threshold that no
/// text but the prototypes reaches.
struct TestRun {
    model: TestModel,
    dir: TempDir,
}

impl TestRun {
    fn new() -> Self {
        let model = TestModel::with_categories();
        let dir = tempfile::tempdir().unwrap();
        let vectors = model.encoder.encode(&PROTOTYPES, 8).unwrap();
        let category = |id: usize, name: &str, coarse: &str| Category {
            id: CategoryId(id as u32),
            name: name.to_owned(),
            name_source: NameSource::Keywords,
            coarse: Some(coarse.to_owned()),
            keywords: Vec::new(),
            medoids: vec![PROTOTYPES[id].to_owned()],
            size: 10,
            coherence: 0.9,
            nearest: Vec::new(),
            born: 1,
            status: Status::Active,
            centroid: vectors.row(id).to_vec(),
        };
        let categories = vec![
            category(0, "loan", "library"),
            category(1, "lost", "transport"),
            category(2, "ticket", "transport"),
        ];
        let threshold = Threshold {
            threshold: 0.999,
            accepts_known: 0.95,
            rejects_unknown: 0.9,
            auroc: 0.95,
            n_known: 10,
            n_unknown: 10,
        };
        let calibration = Calibration::new(threshold, 0.1, vec!["other".to_owned()]);
        let coarse = vec!["library".to_owned(), "transport".to_owned()];
        let catalogue =
            Catalogue::new(vectors.dim, "", coarse, categories, Some(calibration)).unwrap();
        Store::create(dir.path(), catalogue).unwrap();
        model.encoder.save(&dir.path().join("model")).unwrap();
        Self { model, dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn predict(&self) -> Command {
        let mut command = asterism();
        command.arg("predict").arg("--run").arg(self.path());
        command
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        self.model.file(name, content)
    }
}

/// Texts of words that the model knows; some come more than once.
fn texts(count: usize) -> Vec<String> {
    let words: Vec<&str> = PROTOTYPES.iter().flat_map(|text| text.split(' ')).collect();
    (0..count)
        .map(|row| {
            let word = |at: usize| words[at % words.len()];
            let length = 1 + row % 9;
            let some: Vec<&str> = (0..length)
                .map(|at| word(row * 7 + at * (1 + row % 5)))
                .collect();
            some.join(" ")
        })
        .collect()
}

fn lines(texts: &[String]) -> Vec<u8> {
    (texts.join("\n") + "\n").into_bytes()
}

fn text_column(name: &str, texts: &[&str]) -> Column {
    Column {
        name: name.to_owned(),
        values: Values::Text(texts.iter().map(|text| Some((*text).to_owned())).collect()),
    }
}

fn columnar_bytes(format: Format, table: &Table) -> Vec<u8> {
    let mut writer = Writer::new(format, Vec::new(), table).unwrap();
    writer.write(table).unwrap();
    writer.finish().unwrap()
}

#[test]
fn a_run_answers_with_its_categories_as_they_are_now() {
    let run = TestRun::new();
    let expected = "0\tloan\tlibrary\t1.0000\t";
    let found = success(run.predict().arg(PROTOTYPES[0]));
    assert!(found.starts_with(expected), "{found}");
    assert!(
        found.ends_with(&format!("\tknown\t{}\n", PROTOTYPES[0])),
        "{found}"
    );

    let mut store = Store::open(run.path()).unwrap();
    store
        .apply(Edit::Rename {
            id: CategoryId(0),
            name: "borrowing".to_owned(),
            source: NameSource::Human,
        })
        .unwrap();
    store
        .apply(Edit::Merge {
            ids: vec![CategoryId(1), CategoryId(2)],
            name: Some("travel".to_owned()),
        })
        .unwrap();
    drop(store);
    let rows = json_lines(&success(run.predict().arg("--json").args(PROTOTYPES)));
    assert_eq!(
        (&rows[0]["id"], &rows[0]["name"]),
        (&json!(0), &json!("borrowing"))
    );
    assert_eq!(rows[0]["runner_up"]["name"], "travel");
    for row in &rows[1..] {
        assert_eq!((&row["id"], &row["name"]), (&json!(3), &json!("travel")));
        assert_eq!(row["coarse"], "transport");
        assert_eq!(row["runner_up"]["id"], 0);
    }
}

#[test]
fn what_is_unknown_follows_calibration_or_the_threshold_asked_for() {
    let run = TestRun::new();
    let flags = |arguments: &[&str]| -> Vec<Value> {
        let mut command = run.predict();
        command.arg("--json").args(arguments);
        let rows = json_lines(&success(command.args([PROTOTYPES[0], "monday"])));
        rows.iter().map(|row| row["unknown"].clone()).collect()
    };
    assert_eq!(flags(&[]), [false, true]);
    assert_eq!(flags(&["--unknown-below", "-1"]), [false, false]);
    assert_eq!(flags(&["--unknown-below", "1"])[1], true);
    let row = json_lines(&success(predict(&run.model).args(["--json", "monday"])));
    assert!(row[0]["unknown"].is_null());
    let confidence = row[0]["confidence"].as_f64().unwrap();
    assert!(confidence > 0.0 && confidence <= 1.0);
    let error = failure(predict(&run.model).args(["--unknown-below", "1.5", "x"]), 2);
    assert!(error.contains("from -1 to 1"), "{error}");
    let error = failure(predict(&run.model).args(["--pool", "p.jsonl", "x"]), 2);
    assert!(error.contains("--unknown-below X"), "{error}");
}

#[test]
fn a_folder_without_categories_is_no_run() {
    let model = TestModel::with_categories();
    let error = failure(
        asterism().args(["predict", "x", "--run"]).arg(model.path()),
        2,
    );
    assert!(error.contains("categories.json"), "{error}");
    let error = failure(predict(&model).args(["--run", "r", "x"]), 2);
    assert!(error.contains("cannot be used with"), "{error}");
}

#[test]
fn every_form_of_input_gives_the_same_answers() {
    let run = TestRun::new();
    let texts = texts(40);
    let plain: Vec<&str> = texts.iter().map(String::as_str).collect();
    let table = Table::new(vec![
        text_column("id", &vec!["7"; plain.len()]),
        text_column("note", &plain),
    ])
    .unwrap();
    let json: Vec<String> = texts
        .iter()
        .map(|text| json!({"note": text}).to_string())
        .collect();
    let rows = |separator: &str| -> Vec<u8> {
        let rows = texts.iter().map(|text| format!("7{separator}{text}"));
        let rows: Vec<String> = rows.collect();
        format!("id{separator}note\n{}\n", rows.join("\n")).into_bytes()
    };
    let expected = success(run.predict().arg("--json").args(&texts));
    assert_eq!(expected.lines().count(), 40);
    for (name, content) in [
        ("in.txt", lines(&texts)),
        ("in.tsv", rows("\t")),
        ("in.csv", rows(",")),
        ("in.jsonl", lines(&json)),
        ("in.parquet", columnar_bytes(Format::Parquet, &table)),
        ("in.arrow", columnar_bytes(Format::Arrow, &table)),
    ] {
        let path = run.file(name, &content);
        let found = success(
            run.predict()
                .args([
                    "--json",
                    "--batch-size",
                    "1",
                    "--chunk",
                    "16",
                    "--text",
                    "note",
                    "--in",
                ])
                .arg(&path),
        );
        assert_eq!(found, expected, "{name}");
    }
    let path = run.file("in.parquet", &columnar_bytes(Format::Parquet, &table));
    let error = failure(run.predict().arg("--in").arg(&path), 2);
    assert!(
        error.contains("no column `text`; there are: id, note"),
        "{error}"
    );
    let path = run.file("cut.parquet", b"PAR1");
    failure(run.predict().arg("--in").arg(&path), 2);
}

#[test]
fn a_column_of_coarse_labels_gates_each_row() {
    let run = TestRun::new();
    let input = format!(
        "text\tarea\n{0}\ttransport\n{0}\tlibrary\n{0}\t\n{0}\tspace\n",
        PROTOTYPES[0]
    );
    let path = run.file("in.tsv", input.as_bytes());
    let pool = run.model.path().join("pool.jsonl");
    let found = success(
        run.predict()
            .args(["--json", "--coarse", "area", "--in"])
            .arg(&path)
            .arg("--pool")
            .arg(&pool),
    );
    let rows = json_lines(&found);
    assert_eq!(rows[0]["coarse"], "transport");
    for (row, unknown) in rows[1..].iter().zip([false, false, true]) {
        assert_eq!((&row["id"], &row["unknown"]), (&json!(0), &json!(unknown)));
    }
    let pooled = json_lines(&fs::read_to_string(&pool).unwrap());
    assert_eq!(pooled.len(), 2);
    assert_eq!(pooled[1]["text"], PROTOTYPES[0]);
    assert_eq!(
        (&pooled[0]["coarse"], &pooled[1]["coarse"]),
        (&json!("transport"), &json!("space"))
    );
    let error = failure(
        run.predict()
            .args(["--json", "--in"])
            .arg(&path)
            .arg("--pool")
            .arg(&pool),
        2,
    );
    assert!(error.contains("exists; nothing was changed"), "{error}");
}

#[test]
fn columns_of_the_input_stay_and_answers_come_behind_them() {
    let run = TestRun::new();
    let table = Table::new(vec![
        text_column("text", &PROTOTYPES),
        Column {
            name: "key".to_owned(),
            values: Values::Whole(vec![Some(5), None, Some(-1)]),
        },
    ])
    .unwrap();
    let path = run.file("in.parquet", &columnar_bytes(Format::Parquet, &table));
    for form in ["parquet", "arrow"] {
        let out = run.model.path().join(format!("out.{form}"));
        let arguments = ["--chunk", "2", "--in"];
        success(
            run.predict()
                .args(arguments)
                .arg(&path)
                .arg("--out")
                .arg(&out),
        );
        let reader = Reader::open(&out, 100).unwrap();
        assert_eq!(
            reader.names(),
            [
                "text",
                "key",
                "category_id",
                "category",
                "category_coarse",
                "cosine",
                "confidence",
                "unknown",
                "runner_up_id",
                "runner_up",
                "runner_up_cosine"
            ]
        );
        let found = read_columns(&out, &["text", "category"]).unwrap();
        assert_eq!(found[0], PROTOTYPES);
        assert_eq!(found[1], ["loan", "lost", "ticket"]);
        // The answers are columns like any other: a second model needs other names.
        let error = failure(
            run.predict()
                .arg("--in")
                .arg(&out)
                .arg("--out")
                .arg(run.model.path().join("x.arrow")),
            2,
        );
        assert!(error.contains("`category_id`"), "{error}");
    }
}

/// The worker that Spark and Ray start: a batch in, a batch out, before the next is sent.
#[test]
fn an_arrow_stream_is_answered_batch_by_batch() {
    let run = TestRun::new();
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("asterism"))
        .arg("predict")
        .arg("--run")
        .arg(run.path())
        .args([
            "--in",
            "-",
            "--in-format",
            "arrow",
            "--out",
            "-",
            "--format",
            "arrow",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let batch = |texts: &[&str]| Table::new(vec![text_column("text", texts)]).unwrap();
    let mut input = Writer::new(Format::Arrow, child.stdin.take().unwrap(), &batch(&[])).unwrap();
    let mut answers = Reader::stream(child.stdout.take().unwrap(), "answers").unwrap();
    for texts in [&PROTOTYPES[..1], &[], &PROTOTYPES[1..]] {
        input.write(&batch(texts)).unwrap();
        let answer = answers.next_table().unwrap().unwrap();
        assert_eq!(answer.texts("text").unwrap(), texts);
        assert_eq!(answer.texts("category").unwrap().len(), texts.len());
    }
    drop(input.finish().unwrap());
    assert!(answers.next_table().unwrap().is_none());
    assert!(child.wait().unwrap().success());
}

/// A command that works through a file and leaves everything beside it.
struct Job<'a> {
    run: &'a TestRun,
    input: PathBuf,
    out: PathBuf,
}

impl Job<'_> {
    fn arguments(&self) -> Vec<std::ffi::OsString> {
        let mut arguments: Vec<std::ffi::OsString> = ["predict", "--chunk", "50", "--window", "70"]
            .map(Into::into)
            .to_vec();
        for (option, path) in [
            ("--run", self.run.path().to_owned()),
            ("--in", self.input.clone()),
            ("--out", self.out.clone()),
            ("--pool", self.beside("pool.jsonl")),
            ("--drift", self.beside("drift.json")),
        ] {
            arguments.extend([option.into(), path.into_os_string()]);
        }
        arguments
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.out.as_os_str().to_owned();
        name.push(".");
        name.push(ending);
        name.into()
    }

    fn parts(&self) -> usize {
        let Ok(entries) = fs::read_dir(self.beside("parts")) else {
            return 0;
        };
        let whole = |name: &str| name.starts_with("part-") && name.ends_with(".jsonl");
        entries
            .filter(|entry| whole(&entry.as_ref().unwrap().file_name().to_string_lossy()))
            .count()
    }

    fn spawn(&self) -> Child {
        std::process::Command::new(assert_cmd::cargo::cargo_bin!("asterism"))
            .args(self.arguments())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Starts the job and waits until it has made more parts, or has ended.
    fn start(&self, parts: usize) -> Child {
        let before = self.parts();
        let mut child = self.spawn();
        while child.try_wait().unwrap().is_none() && self.parts() < before + parts {
            std::thread::sleep(Duration::from_millis(1));
        }
        child
    }

    fn command(&self) -> Command {
        let mut command = asterism();
        command.args(self.arguments());
        command
    }

    /// Output, pool and drift.
    fn results(&self) -> [Vec<u8>; 3] {
        [
            self.out.clone(),
            self.beside("pool.jsonl"),
            self.beside("drift.json"),
        ]
        .map(|path| fs::read(path).unwrap())
    }
}

fn job<'a>(run: &'a TestRun, input: &Path, out: &str) -> Job<'a> {
    Job {
        run,
        input: input.to_owned(),
        out: run.model.path().join(out),
    }
}

#[test]
fn a_killed_run_goes_on_without_loss_or_duplicate() {
    let run = TestRun::new();
    let input = run.file("in.txt", &lines(&texts(2_000)));
    let whole = job(&run, &input, "whole.jsonl");
    success(&mut whole.command());
    let expected = whole.results();
    assert_eq!(expected[0].split(|byte| *byte == b'\n').count(), 2_001);

    let killed = job(&run, &input, "killed.jsonl");
    let mut kills = 0;
    for attempt in 0..8 {
        let mut child = killed.start(1 + attempt % 3);
        // Somewhere within a part.
        std::thread::sleep(Duration::from_micros(attempt as u64 * 1_700));
        child.kill().unwrap();
        // Without a code where the signal ended it.
        kills += usize::from(child.wait().unwrap().code().is_none());
    }
    assert!(kills >= 4, "{kills}");
    success(&mut killed.command());
    assert_eq!(killed.results(), expected);
    assert!(!killed.beside("parts").exists());
    let error = failure(&mut killed.command(), 2);
    assert!(error.contains("exists; nothing was changed"), "{error}");
    success(killed.command().arg("--force"));
    assert_eq!(killed.results(), expected);
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_run_after_a_whole_chunk() {
    let run = TestRun::new();
    let input = run.file("in.txt", &lines(&texts(3_000)));
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let stopped = job(&run, &input, &format!("out{code}.jsonl"));
        let mut child = stopped.start(2);
        let kill = std::process::Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(stopped.parts() >= 2 && !stopped.out.exists());
    }
}

#[test]
fn a_run_is_not_mixed_with_one_of_other_input_settings_or_categories() {
    let run = TestRun::new();
    let input = run.file("in.txt", &lines(&texts(2_000)));
    let job = job(&run, &input, "out.jsonl");
    let mut child = job.start(1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(job.parts() > 0);
    let refused = |command: &mut Command, message: &str| {
        let error = failure(command, 2);
        // Long messages are broken into lines.
        let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(error.contains(message), "{error}");
        assert!(error.contains("--restart"), "{error}");
    };
    refused(
        job.command().args(["--unknown-below", "0.5"]),
        "unknown_below was null and is 0.5",
    );
    refused(
        job.command().args(["--shard", "0/2"]),
        "shard was null and is [0,2]",
    );
    let original = fs::read(&input).unwrap();
    fs::write(&input, lines(&texts(1_999))).unwrap();
    refused(&mut job.command(), "input_sha256 was");
    fs::write(&input, &original).unwrap();
    let mut store = Store::open(run.path()).unwrap();
    store
        .apply(Edit::Rename {
            id: CategoryId(0),
            name: "other".to_owned(),
            source: NameSource::Human,
        })
        .unwrap();
    drop(store);
    refused(&mut job.command(), "categories_sha256 was");
    success(job.command().arg("--restart"));
    assert_eq!(job.results()[0].split(|byte| *byte == b'\n').count(), 2_001);
}

#[test]
fn shards_one_after_the_other_are_the_whole() {
    let run = TestRun::new();
    let input = run.file("in.txt", &lines(&texts(730)));
    for form in ["tsv", "jsonl"] {
        let output = |name: &str| run.model.path().join(format!("{name}.{form}"));
        let predict = |out: &Path, arguments: &[&str]| {
            success(
                run.predict()
                    .args(["--chunk", "100", "--in"])
                    .arg(&input)
                    .arg("--out")
                    .arg(out)
                    .args(arguments),
            );
            fs::read(out).unwrap()
        };
        let whole = predict(&output("whole"), &[]);
        let mut joined = Vec::new();
        for shard in ["0/3", "1/3", "2/3"] {
            joined.extend(predict(
                &output(&shard.replace('/', "-")),
                &["--shard", shard],
            ));
        }
        assert_eq!(joined, whole, "{form}");
    }
    let error = failure(
        run.predict()
            .args(["--in", "-", "--shard", "0/3", "--out"])
            .arg(run.model.path().join("x.tsv")),
        2,
    );
    assert!(error.contains("--shard: needs a file"), "{error}");
}

#[test]
fn drift_is_measured_in_windows_against_the_sizes_of_the_categories() {
    let run = TestRun::new();
    let thrice: Vec<String> = [0, 1, 2, 0, 0, 0]
        .map(|which: usize| PROTOTYPES[which].to_owned())
        .to_vec();
    let input = run.file("in.txt", &lines(&thrice));
    let drift = run.model.path().join("drift.json");
    success(
        run.predict()
            .args(["--window", "3", "--in"])
            .arg(&input)
            .arg("--drift")
            .arg(&drift),
    );
    let found: Value = serde_json::from_slice(&fs::read(&drift).unwrap()).unwrap();
    let windows = found["windows"].as_array().unwrap();
    assert_eq!(windows.len(), 2);
    assert!(windows[0]["jensen_shannon"].as_f64().unwrap() < 1e-9);
    // All in one of three equal categories.
    let (p, q) = (1.0_f64 / 3.0, 1.0_f64);
    let mean = f64::midpoint(p, q);
    let entropy = |share: f64| -share * share.log2();
    let expected = entropy(mean) + 2.0 * entropy(p / 2.0) - 3.0 * entropy(p) / 2.0;
    let divergence = windows[1]["jensen_shannon"].as_f64().unwrap();
    assert!(
        (divergence - expected).abs() < 1e-9,
        "{divergence} {expected}"
    );
    assert!((windows[1]["mean_cosine_shift"].as_f64().unwrap() - 0.1).abs() < 1e-4);
    assert_eq!(windows[1]["first_row"], 3);
    assert_eq!(found["whole"]["rows"], 6);
}

#[test]
fn an_empty_file_gives_an_empty_file() {
    let run = TestRun::new();
    let input = run.file("in.txt", b"");
    for (form, length) in [("jsonl", 0), ("tsv", 1)] {
        let out = run.model.path().join(format!("out.{form}"));
        success(run.predict().arg("--in").arg(&input).arg("--out").arg(&out));
        assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), length);
    }
    let out = run.model.path().join("out.parquet");
    success(run.predict().arg("--in").arg(&input).arg("--out").arg(&out));
    assert_eq!(
        read_columns(&out, &["category"]).unwrap(),
        [Vec::<String>::new()]
    );
}
