//! `asterism serve`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use categories::{Catalogue, Category, CategoryId, NameSource, Status, Store};
use datasets::pocket::encoder_dir;
use encoder::{LoadOptions, SentenceEncoder, WeightTensor, write_safetensors};
use kernels::DeviceSpec;
use serde_json::{Value, json};

use crate::support::{PROTOTYPES, TestModel, asterism, failure, numbers};

const KEY: &str = "canary-key-0123456789";
const NAMES: [&str; 3] = ["loan", "lost parcel", "train ticket"];

/// A server; killed if a test fails before it is stopped.
struct Serving {
    child: Child,
    addr: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Serving {
    fn start(args: &[&str], key: Option<&str>) -> Self {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("asterism"));
        command
            .args(["serve", "--addr", "127.0.0.1:0", "--log", "json"])
            .args(["--drain-notice", "0"])
            .args(args)
            .env_remove("ASTERISM_API_KEY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(key) = key {
            command.env("ASTERISM_API_KEY", key);
        }
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let addr = line.trim_end().strip_prefix("http://").unwrap().to_owned();
        let serving = Self { child, addr };
        let start = Instant::now();
        while serving.send("GET", "/health/ready", "").0 != 200 {
            assert!(start.elapsed() < Duration::from_secs(60), "never ready");
            std::thread::sleep(Duration::from_millis(10));
        }
        serving
    }

    /// Status and body.
    fn send(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             authorization: Bearer {KEY}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let (status, text) = self.send("POST", path, &body.to_string());
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Stops as an operator does; exit code and log.
    #[cfg(unix)]
    fn terminate(mut self) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        let kill = std::process::Command::new("kill").arg(&id).status();
        assert!(kill.unwrap().success());
        let code = self.child.wait().unwrap().code();
        let mut log = String::new();
        let stderr = self.child.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        (code, log)
    }
}

fn pocket() -> SentenceEncoder {
    let device = DeviceSpec::default().open().unwrap();
    SentenceEncoder::load(&encoder_dir().unwrap(), &LoadOptions::default(), &device).unwrap()
}

fn assert_near(found: &[f32], want: &[f32]) {
    assert_eq!(found.len(), want.len());
    for (a, b) in found.iter().zip(want) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

/// A run directory with a category a prototype, made with the bundled encoder.
fn write_run(dir: &Path) {
    let model = pocket();
    let vectors = model.encode(&PROTOTYPES, 8).unwrap();
    model.save(&dir.join("model")).unwrap();
    let categories = (0..PROTOTYPES.len())
        .map(|index| Category {
            id: CategoryId(index as u32),
            name: NAMES[index].to_owned(),
            name_source: NameSource::Keywords,
            coarse: None,
            keywords: vec![],
            medoids: vec![PROTOTYPES[index].to_owned()],
            size: 1,
            coherence: 1.0,
            nearest: vec![],
            born: 1,
            status: Status::Active,
            centroid: vectors.row(index).to_vec(),
        })
        .collect();
    let sha256 = SentenceEncoder::weights_hash(&dir.join("model")).unwrap();
    let catalogue = Catalogue::new(vectors.dim, sha256, vec![], categories, None).unwrap();
    drop(Store::create(dir, catalogue).unwrap());
    let mut members = String::new();
    for (row, text) in PROTOTYPES.iter().enumerate() {
        let member = json!({
            "row": row, "text": text, "category": row, "cosine": 1.0, "split": "train",
        });
        members.push_str(&format!("{member}\n"));
    }
    std::fs::write(dir.join("members.jsonl"), members).unwrap();
    let shape = vec![vectors.rows(), vectors.dim];
    let values = vectors.values;
    let tensors = BTreeMap::from([("vectors".to_owned(), WeightTensor { shape, values })]);
    write_safetensors(&dir.join("vectors.safetensors"), &tensors, None).unwrap();
    let map = json!({
        "schema": "asterism/map/1", "rows": 3, "x": [0.0, 1.0, 2.0], "y": [0.0, 1.0, 0.0],
        "seed": 1,
    });
    std::fs::write(dir.join("map.json"), map.to_string()).unwrap();
}

#[test]
fn a_run_is_served_corrected_and_kept() {
    let run = tempfile::tempdir().unwrap();
    write_run(run.path());
    let path = run.path().to_str().unwrap();
    let serving = Serving::start(&["--run", path], Some(KEY));

    let texts = ["a text about a parcel", PROTOTYPES[1]];
    let want = pocket().encode(&texts, 8).unwrap();
    let found = serving.post("/v1/embeddings", &json!({"input": texts, "model": "m"}));
    for index in 0..2 {
        assert_near(
            &numbers(&found["data"][index]["embedding"]),
            want.row(index),
        );
    }
    // A batch gives what a text alone gives.
    let alone = serving.post("/embed", &json!({"inputs": texts[0]}));
    assert_near(&numbers(&alone[0]), want.row(0));
    let tokens = pocket()
        .token_ids(&texts, encoder::Prompt::Default)
        .unwrap();
    let count: usize = tokens.iter().map(Vec::len).sum();
    assert_eq!(found["usage"]["total_tokens"], count);

    let found = serving.post("/predict", &json!({"texts": PROTOTYPES}));
    for (index, name) in NAMES.iter().enumerate() {
        assert_eq!(&found["predictions"][index]["name"], name);
    }
    let found = serving.post("/search", &json!({"query": PROTOTYPES[2], "k": 1}));
    assert_eq!(found["results"][0]["row"], 2);
    serving.post(
        "/categories/1/rename",
        &json!({"name": "where is my parcel"}),
    );
    let found = serving.post("/predict", &json!({"texts": texts[1]}));
    assert_eq!(found["predictions"][0]["name"], "where is my parcel");
    let (status, page) = serving.send("GET", "/explorer", "");
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("where is my parcel"));

    // Texts of more tokens than the model takes are refused, and cut where that is asked for.
    let long = "parcel ".repeat(1000);
    let body = json!({"inputs": long}).to_string();
    assert_eq!(serving.send("POST", "/embed", &body).0, 413);
    let cut = serving.post("/embed", &json!({"inputs": long, "truncate": true}));
    assert_near(
        &numbers(&cut[0]),
        pocket().encode(&[&long], 1).unwrap().row(0),
    );

    #[cfg(unix)]
    {
        let (code, log) = serving.terminate();
        assert_eq!(code, Some(0), "{log}");
        assert!(
            log.lines()
                .all(|line| serde_json::from_str::<Value>(line).is_ok()),
            "{log}"
        );
        assert!(log.contains("\"route\":\"/predict\""), "{log}");
        assert!(!log.contains("parcel") && !log.contains("canary"), "{log}");
    }
    #[cfg(not(unix))]
    drop(serving);
    let again = Serving::start(&["--run", path], Some(KEY));
    let found = again.post("/predict", &json!({"texts": texts[1]}));
    assert_eq!(found["predictions"][0]["name"], "where is my parcel");
}

#[test]
fn the_bundled_encoder_is_served_without_a_run() {
    let serving = Serving::start(&[], None);
    let found = serving.post("/embed", &json!({"inputs": PROTOTYPES}));
    assert_eq!(found.as_array().unwrap().len(), 3);
    let (status, body) = serving.send("POST", "/predict", "{\"texts\": \"a\"}");
    assert_eq!(status, 404);
    assert!(body.contains("--run"), "{body}");
    let (_, info) = serving.send("GET", "/info", "");
    assert!(info.contains("\"model_id\":\"pocket\""), "{info}");
    let addr = serving.addr.clone();
    let stderr = failure(asterism().args(["serve", "--addr", &addr]), 1);
    assert!(stderr.contains(&addr), "{stderr}");
}

#[test]
fn the_centroids_of_a_model_are_served() {
    let model = TestModel::with_categories();
    let path = model.path().to_str().unwrap();
    let serving = Serving::start(&["--model", path], None);
    let found = serving.post("/predict", &json!({"texts": PROTOTYPES}));
    // The last category has no name in the model.
    for (index, name) in ["loan", "lost", "category 2"].into_iter().enumerate() {
        assert_eq!(found["predictions"][index]["name"], name, "{found}");
        assert_eq!(found["predictions"][index]["id"], index, "{found}");
    }
    let (status, body) = serving.send("POST", "/categories/1/rename", "{\"name\": \"gone\"}");
    assert_eq!(status, 409, "{body}");
    assert!(body.contains("part of a model"), "{body}");
    let (status, body) = serving.send("POST", "/search", "{\"query\": \"parcel\"}");
    assert_eq!(status, 404, "{body}");
}

#[test]
fn what_would_not_be_safe_does_not_start() {
    let open = ["serve", "--addr", "0.0.0.0:0"];
    let mut command = asterism();
    command.args(open).env_remove("ASTERISM_API_KEY");
    let stderr = failure(&mut command, 2);
    assert!(stderr.contains("ASTERISM_API_KEY"), "{stderr}");
    let stderr = failure(asterism().args(open).env("ASTERISM_API_KEY", "canary"), 2);
    assert!(
        stderr.contains("16 to 4096") && !stderr.contains("canary"),
        "{stderr}"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, KEY).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut command = asterism();
        command.args(open).arg("--api-key-file").arg(&file);
        let stderr = failure(&mut command, 2);
        assert!(
            stderr.contains("chmod 600") && !stderr.contains(KEY),
            "{stderr}"
        );
    }
    let stderr = failure(
        asterism().args(["serve", "--addr", "127.0.0.1:0", "--max-batch-tokens", "3"]),
        2,
    );
    assert!(stderr.contains("token budget of a batch"), "{stderr}");
    let dir = tempfile::tempdir().unwrap();
    let stderr = failure(asterism().arg("serve").arg("--run").arg(dir.path()), 2);
    assert!(stderr.contains("model"), "{stderr}");
}
