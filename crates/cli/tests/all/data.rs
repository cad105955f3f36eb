use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use datasets::hash::sha256_hex;
use serde_json::Value;

use crate::support::{asterism, failure, success};

#[test]
fn check_prints_the_report_of_the_bundled_set() {
    let text = success(asterism().args(["data", "check", "pocket"]));
    assert!(text.contains("8 coarse and 40 fine categories"), "{text}");
    let json: Value = serde_json::from_str(&success(
        asterism().args(["data", "check", "pocket", "--json"]),
    ))
    .unwrap();
    assert_eq!(json["n_fine"], 40);
    assert_eq!(json["files"][0]["rows_kept"], 2400);
}

#[test]
fn check_reads_folders_and_names_what_is_wrong_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let check = || {
        let mut command = asterism();
        command.args(["data", "check"]).arg(dir.path());
        command
    };
    let write = |name: &str, text: &[u8]| std::fs::write(dir.path().join(name), text).unwrap();
    let error = failure(&mut check(), 2);
    assert!(error.contains("no file for the `train` split"), "{error}");
    write(
        "train.csv",
        b"utterance,coarse\nbuy milk,home\nfly home,travel\n",
    );
    write("test.csv", b"utterance,coarse\n,home\ngo,travel\n");
    let error = failure(&mut check(), 2);
    assert!(error.contains("train.csv:1"), "{error}");
    let error = failure(check().args(["--text-column", "utterance"]), 2);
    assert!(error.contains("test.csv:2: the text is empty"), "{error}");
    let text = success(check().args(["--text-column", "utterance", "--skip-empty-text"]));
    assert!(text.contains("2 coarse and no fine categories"), "{text}");
    write("train.csv", b"utterance,coarse\nbuy \xff,home\n");
    let error = failure(check().args(["--text-column", "utterance"]), 2);
    assert!(error.contains("train.csv:2: invalid UTF-8"), "{error}");
    let error = failure(asterism().args(["data", "check", "no/such/dir"]), 2);
    assert!(error.contains("no/such/dir"), "{error}");
}

#[test]
fn check_tells_training_files_and_tasks_apart() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    let check = |path: &std::path::Path, more: &[&str]| {
        let mut command = asterism();
        command
            .args(["data", "check", "--json"])
            .arg(path)
            .args(more);
        command
    };
    let seen = |path: &std::path::Path, more: &[&str]| -> Value {
        serde_json::from_str(&success(&mut check(path, more))).unwrap()
    };
    let triplets = write("nli.csv", "sent0,sent1,hard_neg\na,b,c\nd,e,f\n");
    assert_eq!(seen(&triplets, &[])["files"][0]["rows_kept"], 2);
    assert_eq!(
        seen(&triplets, &["--kind", "triplets"])["files"][0]["rows_kept"],
        2
    );
    write(
        "sts/stsb.tsv",
        "split\tsubset\tscore\tsentence1\tsentence2\ndev\tx\t1\ta\tb\ntest\tx\t2\tc\td\n",
    );
    let tasks = seen(&dir.path().join("sts"), &[]);
    assert_eq!(tasks["parts"].as_array().unwrap().len(), 2, "{tasks}");
    assert_eq!(tasks["parts"][0]["task"], "STSB");

    let text = write("plain.txt", "one\ntwo\n");
    assert_eq!(seen(&text, &[])["files"][0]["rows_kept"], 2);
    let error = failure(&mut check(&text, &["--kind", "pairs"]), 2);
    assert!(error.contains("plain.txt"), "{error}");
    let broken = write("broken.csv", "a,b\nc,d\ne,f,g\n");
    let error = failure(&mut check(&broken, &["--kind", "sentences"]), 2);
    assert!(error.contains("broken.csv:3"), "{error}");
    failure(&mut check(&text, &["--kind", "poems"]), 2);
}

#[test]
fn leaks_are_counted_and_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let train = write(
        "train.csv",
        "sent0,sent1\nIt pours!,it rains\na dog,a cat\nit rains,it snows\n",
    );
    let tasks = write(
        "stsb.tsv",
        "split\tsubset\tscore\tsentence1\tsentence2\ntest\tx\t2\tIt rains.\tIt pours.\n",
    );
    let clean = dir.path().join("clean");
    let leaks = |more: &[&str]| {
        let mut command = asterism();
        command
            .args(["data", "leaks", "--train"])
            .arg(&train)
            .arg("--eval")
            .arg(dir.path())
            .args(more);
        command
    };
    let found: Value = serde_json::from_str(&success(&mut leaks(&["--json"]))).unwrap();
    assert_eq!(found[0]["leaks"]["train_with_pair"], 1, "{found}");
    assert_eq!(found[0]["leaks"]["train_with_sentence"], 2, "{found}");
    let text = success(leaks(&["--by", "sentence", "--clean"]).arg(&clean));
    assert!(text.contains("STSB"), "{text}");
    assert_eq!(
        std::fs::read_to_string(clean.join("train.csv")).unwrap(),
        "sent0,sent1\na dog,a cat\n"
    );
    let error = failure(leaks(&["--clean"]).arg(&clean), 2);
    assert!(error.contains("not empty"), "{error}");
    success(leaks(&["--force", "--clean"]).arg(&clean));
    let error = failure(&mut leaks(&["--force"]), 2);
    assert!(error.contains("--clean"), "{error}");
    let error = failure(
        asterism()
            .args(["data", "leaks", "--train", "no-such.csv", "--eval"])
            .arg(&tasks),
        2,
    );
    assert!(error.contains("no-such.csv"), "{error}");
    let error = failure(asterism().args(["data", "leaks", "--train", "a"]), 2);
    assert!(error.contains("--eval"), "{error}");
}

#[test]
fn list_names_every_set() {
    let text = success(asterism().args(["data", "list"]));
    let json: Value =
        serde_json::from_str(&success(asterism().args(["data", "list", "--json"]))).unwrap();
    let names: Vec<&str> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["pocket", "clinc", "hwu64"]);
    for name in names {
        assert!(text.contains(name), "{text}");
    }
    assert_eq!(json[2]["bytes"], 441_076 + 53_604);
}

#[test]
fn fetch_knows_its_names() {
    let error = failure(asterism().args(["data", "fetch", "banking"]), 2);
    assert!(
        error.contains("no manifest `banking`; known: clinc, hwu64"),
        "{error}"
    );
    failure(asterism().args(["data", "fetch"]), 2);
    let error = failure(
        asterism().args(["data", "fetch", "--manifest", "no-such.toml"]),
        2,
    );
    assert!(error.contains("cannot read no-such.toml"), "{error}");
}

/// Answers one request on a loopback port and returns the address.
fn serve_once(body: &'static [u8]) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(&stream).lines();
        while !lines.next().unwrap().unwrap().is_empty() {}
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        (&stream).write_all(head.as_bytes()).unwrap();
        (&stream).write_all(body).unwrap();
    });
    (format!("http://{address}/train.tsv"), server)
}

#[test]
fn fetch_downloads_once_and_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let body = b"text\tlabel\nhello\tgreet_hello\n";
    let manifest = |url: &str, sha256: &str| {
        let path = dir.path().join("set.toml");
        let text = format!(
            "name = \"own\"\ntitle = \"t\"\nsource = \"s\"\nlicence = \"l\"\n[[files]]\npath = \"train.tsv\"\nurl = \"{url}\"\nbytes = {}\nsha256 = \"{sha256}\"\n",
            body.len()
        );
        std::fs::write(&path, text).unwrap();
        let mut command = asterism();
        command
            .args(["data", "fetch", "--json", "--manifest"])
            .arg(path);
        command.arg("--to").arg(dir.path().join("cache"));
        command
    };
    let target = dir.path().join("cache").join("own").join("train.tsv");

    let (url, server) = serve_once(body);
    let error = failure(&mut manifest(&url, &"0".repeat(64)), 1);
    server.join().unwrap();
    assert!(error.contains("SHA-256"), "{error}");
    assert!(!target.exists());

    let (url, server) = serve_once(body);
    let json: Value =
        serde_json::from_str(&success(&mut manifest(&url, &sha256_hex(body)))).unwrap();
    server.join().unwrap();
    assert_eq!(json["files"][0]["status"], "downloaded");
    assert_eq!(std::fs::read(&target).unwrap(), body);

    // The server is gone by now.
    let json: Value =
        serde_json::from_str(&success(&mut manifest(&url, &sha256_hex(body)))).unwrap();
    assert_eq!(json["files"][0]["status"], "already there");
}
