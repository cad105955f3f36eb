use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use assert_cmd::Command;
use serde_json::{Value, json};

use crate::support::{asterism, failure, success};

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../datagen/examples/taxonomy.toml")
}

fn corpus(taxonomy: &Path, out: &Path) -> Command {
    let mut command = asterism();
    command.args(["datagen", "corpus", "--taxonomy"]);
    command.arg(taxonomy).arg("--out").arg(out);
    command
}

fn name(input: &Path, out: &Path) -> Command {
    let mut command = asterism();
    command.args(["datagen", "name", "--input"]);
    command.arg(input).arg("--out").arg(out);
    command
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&read(path)).unwrap()
}

/// A chat server on this machine: `answer` makes the text of a reply from the user's message and the
/// number of the request.
struct Server {
    url: String,
    asked: Arc<AtomicU64>,
}

impl Server {
    fn new(answer: impl Fn(&str, u64) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicU64::new(0));
        let (answer, count) = (Arc::new(answer), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, count) = (answer.clone(), count.clone());
                std::thread::spawn(move || reply(stream, &*answer, &count));
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    fn options(&self) -> [&str; 4] {
        ["--base-url", &self.url, "--model", "tiny"]
    }
}

fn reply(stream: TcpStream, answer: &dyn Fn(&str, u64) -> String, count: &AtomicU64) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 0 && line.trim() != "" {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let request: Value = serde_json::from_slice(&body).ok()?;
    let user = request["messages"].as_array()?.last()?["content"].as_str()?;
    let text = answer(user, count.fetch_add(1, Ordering::SeqCst));
    let body = json!({
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5},
    })
    .to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = stream;
    stream.write_all((head + &body).as_bytes()).ok()
}

/// Line of the user's message with this beginning.
fn line<'a>(user: &'a str, beginning: &str) -> &'a str {
    let mut lines = user.lines();
    lines
        .find_map(|line| line.strip_prefix(beginning))
        .unwrap_or_default()
}

#[test]
fn a_corpus_of_rules_is_a_data_set() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("bakery");
    let paths = success(&mut corpus(&example(), &out));
    assert_eq!(paths.lines().count(), 3);
    let shown = success(asterism().args(["data", "check"]).arg(&out));
    assert!(
        shown.contains("bakery: 3 coarse and 9 fine categories"),
        "{shown}"
    );
    assert!(
        shown.contains("test rows also in train: 0 exactly, 0 without case"),
        "{shown}"
    );
    assert!(!dir.path().join("bakery.journal.jsonl").exists());

    let error = failure(&mut corpus(&example(), &out), 2);
    assert!(
        error.contains("train.tsv exists; nothing was changed"),
        "{error}"
    );
    let first = read(&out.join("train.tsv"));
    success(corpus(&example(), &out).arg("--force"));
    assert_eq!(read(&out.join("train.tsv")), first);
    success(corpus(&example(), &out).args(["--force", "--seed", "7", "-q"]));
    assert_ne!(read(&out.join("train.tsv")), first);
}

#[test]
fn bad_taxonomies_make_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("t.toml"), dir.path().join("out"));
    std::fs::write(&path, read(&example()).replace("keywords", "keyword")).unwrap();
    let error = failure(&mut corpus(&path, &out), 2);
    assert!(
        error.contains("t.toml:13: unknown key `keyword`; did you mean `keywords`?"),
        "{error}"
    );
    std::fs::write(&path, read(&example()).replace("\"English\"", "\"Dutch\"")).unwrap();
    let error = failure(&mut corpus(&path, &out), 2);
    assert!(
        error.contains("the taxonomy asks for `Dutch`") && error.contains("--base-url"),
        "{error}"
    );
    let error = failure(corpus(&example(), &out).args(["--test-share", "1"]), 2);
    assert!(error.contains("test_share = 1"), "{error}");
    let prompt = dir.path().join("p.txt");
    std::fs::write(&prompt, "one\n{{ two }}").unwrap();
    let error = failure(corpus(&example(), &out).arg("--prompt").arg(&prompt), 2);
    assert!(error.contains("prompt template: line 2: "), "{error}");
    assert!(!out.exists());
    let shown = success(corpus(&example(), &out).arg("--dry-run"));
    assert!(
        shown.contains("--- user, order_cake") && shown.contains("35 calls"),
        "{shown}"
    );
    assert!(!out.exists());
}

#[test]
fn a_server_writes_a_corpus_within_its_budget_and_never_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.toml");
    std::fs::write(
        &path,
        "texts = 12\n[[coarse]]\nname = 'c'\n\
         [[coarse.fine]]\nname = 'lost'\ndescription = 'a lost card'\n\
         [[coarse]]\nname = 'd'\n\
         [[coarse.fine]]\nname = 'late'\ndescription = 'a late parcel'\n",
    )
    .unwrap();
    let server = Server::new(|user, number| {
        let (category, set) = (line(user, "Category: "), line(user, "Set "));
        let set = set.split(':').next().unwrap_or_default();
        match number {
            // The first answer is no JSON.
            0 => "Of course!".to_owned(),
            _ => json!({
                "texts": (0..8).map(|n| format!("{category} number {n} of {set}")).collect::<Vec<_>>()
            })
            .to_string(),
        }
    });
    let out = dir.path().join("out");
    let ask = |out: &Path, more: &[&str]| {
        let mut command = corpus(&path, out);
        command
            .args(server.options())
            .args(["--concurrency", "1"])
            .args(more);
        command
    };
    let error = failure(&mut ask(&out, &["--max-calls", "3"]), 1);
    assert!(error.contains("the budget of 3 calls is spent"), "{error}");
    assert!(
        error.contains("--max-calls") && error.contains("--resume"),
        "{error}"
    );
    assert!(!out.join("train.tsv").exists());
    let error = failure(&mut ask(&out, &["--max-calls", "9"]), 2);
    assert!(error.contains("holds 3 answers already"), "{error}");
    success(&mut ask(&out, &["--max-calls", "9", "--resume"]));
    assert_eq!(server.asked(), 5);
    let report = json_of(&out.join("report.json"));
    assert_eq!(report["source"], "tiny");
    assert_eq!(report["spent"]["calls"], 5);
    assert_eq!(
        report["rounds"][0]["rejected"]["corpus"]["invalid"]["count"],
        1
    );
    let check = success(asterism().args(["data", "check"]).arg(&out));
    assert!(
        check.contains("out: 2 coarse and 2 fine categories"),
        "{check}"
    );

    let journal = dir.path().join("out.journal.jsonl");
    let again = dir.path().join("again");
    success(
        corpus(&path, &again)
            .args(["--source", "replay", "--journal"])
            .arg(&journal),
    );
    for name in ["train.tsv", "test.tsv"] {
        assert_eq!(read(&out.join(name)), read(&again.join(name)), "{name}");
    }
    assert_eq!(server.asked(), 5);
}

#[test]
fn a_server_of_garbage_leaves_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let server = Server::new(|_, _| "\u{fffd} \u{0} [[[".to_owned());
    let error = failure(
        corpus(&example(), &out).args(server.options()).args([
            "--more-rounds",
            "0",
            "--retries",
            "1",
        ]),
        1,
    );
    assert!(
        error.contains("category `order_cake`: 0 usable texts after 1 rounds"),
        "{error}"
    );
    assert_eq!(
        json_of(&out.join("report.json"))["rounds"][0]["given_up"],
        35
    );
    assert!(!out.join("train.tsv").exists());
    assert_eq!(server.asked(), 70);
}

const ROWS: &str = "text\tcategory\tcoarse\n\
    my card was stolen\t0\tbank\n\
    stolen card\t0\tbank\n\
    \"hello\t0\tpost\n\
    the late parcel\t1\tpost\n\
    nothing\t\tpost\n\
    parcel is late\t1\t\n";

#[test]
fn names_of_keywords_come_with_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let (input, out) = (dir.path().join("rows.tsv"), dir.path().join("names.json"));
    std::fs::write(&input, ROWS).unwrap();
    let printed = success(&mut name(&input, &out));
    assert_eq!(printed.trim(), out.display().to_string());
    let names = json_of(&out);
    assert_eq!(names["source"], "keywords");
    let first = &names["categories"][0];
    assert_eq!(
        (&first["id"], &first["name"]),
        (&json!("0"), &json!("stolen card"))
    );
    assert_eq!(
        (&first["source"], &first["coarse"]),
        (&json!("keyword"), &json!("bank"))
    );
    assert_eq!(first["evidence"][2], json!({"row": 2, "text": "\"hello"}));
    assert_eq!(names["categories"][1]["name"], "late parcel");
    assert_eq!(names["categories"][1]["evidence"][1]["row"], 5);

    let error = failure(&mut name(&input, &out), 2);
    assert!(error.contains("names.json exists"), "{error}");
    let taken = dir.path().join("taken.txt");
    std::fs::write(&taken, "Late Parcel\n\n").unwrap();
    success(name(&input, &out).args(["--force", "--taken"]).arg(&taken));
    assert_ne!(json_of(&out)["categories"][1]["name"], "late parcel");

    let lines = dir.path().join("rows.jsonl");
    std::fs::write(
        &lines,
        "{\"t\":\"a stolen card\",\"k\":7}\n\n{\"t\":\"x\",\"k\":null}\n",
    )
    .unwrap();
    let columns = ["--text-column", "t", "--category-column", "k"];
    success(name(&lines, &out).arg("--force").args(columns));
    assert_eq!(
        json_of(&out)["categories"],
        json!([{
            "id": "7", "name": "stolen card", "source": "keyword", "keywords": ["card", "stolen"],
            "evidence": [{"row": 0, "text": "a stolen card"}], "size": 1,
        }])
    );
}

#[test]
fn bad_rows_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("names.json");
    for (file, content, expected) in [
        (
            "a.tsv",
            "text\tlabel\n",
            "a.tsv:1: no column `category`; the columns are: text, label",
        ),
        ("a.tsv", "text\tcategory\n", "a.tsv:1: the file has no rows"),
        ("a.tsv", "", "a.tsv:1: no column `text`"),
        (
            "a.tsv",
            "text\tcategory\na\tb\tc\n",
            "a.tsv:2: expected 2 fields, found 3",
        ),
        ("a.jsonl", "[]\n", "a.jsonl:1: no JSON object"),
        (
            "a.jsonl",
            "{\"text\":\"a\"}\n",
            "a.jsonl:1: no field `category`; the fields are: text",
        ),
        (
            "a.jsonl",
            "\n{\"text\":1,\"category\":1}\n",
            "a.jsonl:2: `text`: expected a text",
        ),
        (
            "a.jsonl",
            "{\"text\":\"a\",\"category\":[]}\n",
            "a.jsonl:1: `category`: expected a text or a number",
        ),
        ("a.csv", "text,category\n", "expected a .tsv or .jsonl file"),
    ] {
        let path = dir.path().join(file);
        std::fs::write(&path, content).unwrap();
        let error = failure(&mut name(&path, &out), 2);
        assert!(error.contains(expected), "{content}: {error}");
    }
    assert!(!out.exists());
}

#[test]
fn a_server_names_and_what_it_said_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (input, out) = (dir.path().join("rows.tsv"), dir.path().join("names.json"));
    std::fs::write(&input, ROWS).unwrap();
    let server = Server::new(|user, _| {
        let name = match user.contains("give another one: ") {
            true => "Delay",
            false => "Trouble",
        };
        json!({"name": name, "reason": "so"}).to_string()
    });
    success(name(&input, &out).args(server.options()));
    let names = json_of(&out);
    let of = |at: usize| names["categories"][at]["name"].as_str().unwrap().to_owned();
    assert_eq!((of(0), of(1)), ("Trouble".to_owned(), "Delay".to_owned()));
    assert_eq!(names["categories"][1]["source"], "model");
    assert_eq!(server.asked(), 3);
    let first = read(&out);
    success(name(&input, &out).args(server.options()).arg("--resume"));
    assert_eq!(read(&out), first);
    assert_eq!(server.asked(), 3);
}
