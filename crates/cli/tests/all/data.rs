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
