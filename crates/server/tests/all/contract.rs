//! Every row of the published API occurs, with the documented status and shape.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use categories::LOG_FILE;
use serde_json::{Value, json};
use server::{Config, Limits};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::{
    Gate, KEY, Reply, Request, Run, Running, TestEngine, config, exchange, inputs, with_key,
};

/// One server a circumstance.
struct Servers {
    /// With a run and a key.
    full: Running,
    /// Nothing but a model.
    bare: Running,
    /// A page that cannot be made, files that are gone, and bodies have to arrive at once.
    broken: Running,
    /// Holds its only place for a request with a body.
    busy: Running,
    /// Never gets beyond the warm-up.
    cold: Running,
    gates: [Gate; 2],
    _runs: [Run; 4],
}

impl Servers {
    async fn start() -> Self {
        let runs = [Run::new(), Run::new(), Run::new(), Run::new()];
        let limits = |requests, read_timeout| Limits {
            requests,
            read_timeout,
            ..Limits::default()
        };
        let full = Running::start(with_key(), runs[0].parts(&Gate::default())).await;
        let mut parts = runs[3].parts(&Gate::default());
        parts.page = Some(Box::new(|| Err("no page".into())));
        let hasty = Config {
            limits: limits(256, Duration::from_millis(50)),
            ..config()
        };
        let broken = Running::start(hasty, parts).await;
        let edit = good("POST", "/categories/{id}/rename").body(br#"{"name": "to be undone"}"#);
        assert_eq!(edit.send(broken.addr).await.status, 200);
        std::fs::remove_file(runs[3].dir.path().join(LOG_FILE)).unwrap();
        let busy_gate = Gate::default();
        let narrow = Config {
            limits: limits(1, Duration::from_secs(10)),
            ..config()
        };
        let busy = Running::start(narrow, runs[1].parts(&busy_gate)).await;
        let addr = busy.addr;
        tokio::spawn(async move { Request::post("/embed", &inputs("hold")).send(addr).await });
        busy_gate.reached().await;
        let cold_gate = Gate::default();
        let mut parts = runs[2].parts(&cold_gate);
        let gate = cold_gate.clone();
        parts.engine = Box::new(move || {
            let mut engine = TestEngine::new(&gate);
            engine.hold_all = true;
            Ok(Arc::new(engine))
        });
        let cold = Running::start_cold(config(), parts).await;
        Self {
            full,
            bare: Running::bare().await,
            broken,
            busy,
            cold,
            gates: [busy_gate, cold_gate],
            _runs: runs,
        }
    }

    async fn stop(self) {
        for gate in &self.gates {
            gate.open();
        }
        for server in [self.full, self.bare, self.broken, self.busy, self.cold] {
            server.stop().await;
        }
    }
}

/// A request that a server with everything answers.
fn good(method: &str, path: &str) -> Request {
    let body = match path {
        "/v1/embeddings" => json!({"input": "a", "model": "m"}),
        "/embed" => inputs("a"),
        "/similarity" => json!({"inputs": {"source_sentence": "a", "sentences": ["b"]}}),
        "/predict" => json!({"texts": ["lost my card"]}),
        "/search" => json!({"query": "card", "k": 2}),
        "/categories/{id}/rename" => json!({"name": "another name"}),
        "/categories/merge" => json!({"ids": [0, 2], "name": "cards"}),
        "/categories/undo" => json!({}),
        _ => Value::Null,
    };
    let path = path.replace("{id}", "1");
    let request = match method {
        "POST" => Request::post(&path, &body),
        method => Request::new(method, &path),
    };
    request.header("x-api-key", KEY)
}

/// Produces a documented row.
async fn produce(servers: &Servers, method: &str, path: &str, status: u16) -> Reply {
    let request = good(method, path);
    let full = servers.full.addr;
    match status {
        200 => {
            if path == "/categories/undo" {
                let edit = good("POST", "/categories/{id}/rename");
                let edit = edit.body(br#"{"name": "to be undone"}"#);
                assert_eq!(edit.send(full).await.status, 200);
            }
            request.send(full).await
        }
        400 => request.body(b"{\"a\": ").send(full).await,
        401 => request.header("x-api-key", "wrong").send(full).await,
        403 => request.header("host", "attacker.example").send(full).await,
        404 if path.contains("{id}") => {
            let missing = Request {
                path: path.replace("{id}", "77"),
                ..request
            };
            missing.send(full).await
        }
        404 => request.send(servers.bare.addr).await,
        405 => {
            let method = "DELETE".to_owned();
            Request { method, ..request }.send(full).await
        }
        408 => {
            // One byte of the body is missing.
            let mut bytes = request.header("connection", "keep-alive").bytes();
            bytes.pop();
            exchange(servers.broken.addr, &bytes).await
        }
        409 => {
            let body = match path {
                // The name of another, twice; nothing to undo.
                "/categories/{id}/rename" => json!({"name": "lost card"}),
                "/categories/merge" => json!({"ids": [0, 1], "name": "stolen card"}),
                _ => json!({}),
            };
            let body = body.to_string();
            // Its categories were never edited.
            request.body(body.as_bytes()).send(servers.cold.addr).await
        }
        413 => {
            let body = vec![b' '; Limits::default().body_bytes + 1];
            request.body(&body).send(full).await
        }
        415 => {
            request
                .header("content-type", "text/plain")
                .send(full)
                .await
        }
        422 => request.body(b"[]").send(full).await,
        429 => request.send(servers.busy.addr).await,
        431 => {
            request
                .header("x-filler", &"x".repeat(17_000))
                .send(full)
                .await
        }
        500 if path == "/explorer" || path.starts_with("/categories") => {
            request.send(servers.broken.addr).await
        }
        500 => {
            let body = String::from_utf8(request.body.clone()).unwrap();
            let body = body
                .replace("\"a\"", "\"boom\"")
                .replace("lost my card", "boom")
                .replace("\"card\"", "\"boom\"");
            assert!(body.contains("boom"), "{path}");
            let reply = request.body(body.as_bytes()).send(full).await;
            // The model is made anew.
            servers.full.ready().await;
            reply
        }
        503 => request.send(servers.cold.addr).await,
        _ => panic!("{method} {path}: no way known to produce {status}"),
    }
}

fn check_error(path: &str, status: u16, reply: &Reply) {
    let body = reply.json();
    let word = if path.starts_with("/v1/") {
        let error = &body["error"];
        assert!(
            error["message"].is_string() && error["type"].is_string(),
            "{body}"
        );
        assert_eq!(error["param"], Value::Null);
        error["code"].clone()
    } else {
        assert!(body["error"].is_string(), "{body}");
        body["error_type"].clone()
    };
    let want = match status {
        400 => "invalid_json",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        405 => "method_not_allowed",
        408 => "timeout",
        409 => "conflict",
        413 => "too_large",
        415 => "unsupported_media_type",
        422 => "invalid_request",
        429 => "overloaded",
        431 => "head_too_large",
        500 => "internal",
        503 => "unavailable",
        _ => panic!("{status} is not an error of ours"),
    };
    assert_eq!(word, want, "{path} {status}");
    let waits = reply.header("retry-after").map(str::parse::<u64>);
    assert_eq!(
        waits.is_some(),
        [429, 503].contains(&status),
        "{path} {status}"
    );
    assert!(waits.is_none_or(|seconds| (1..=60).contains(&seconds.unwrap())));
    assert_eq!(reply.header("www-authenticate").is_some(), status == 401);
    assert_eq!(reply.header("allow").is_some(), status == 405, "{path}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_documented_status_is_the_returned_one() {
    let servers = Servers::start().await;
    let document = good("GET", "/openapi.json").send(servers.full.addr).await;
    let document = document.ok();
    let mut seen = BTreeSet::new();
    let mut rows = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase();
            // Edits change what later rows see, so the row that succeeds comes last.
            let responses = operation["responses"].as_object().unwrap();
            let mut statuses: Vec<u16> = responses.keys().map(|key| key.parse().unwrap()).collect();
            statuses.sort_by_key(|status| (*status == 200, *status));
            for status in statuses {
                let reply = produce(&servers, &method, path, status).await;
                assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
                // A refusal of the stream itself has no more than a body.
                if status != 431 {
                    assert!(reply.header("x-request-id").is_some());
                    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
                    assert!(reply.header("content-security-policy").is_some());
                }
                assert!(reply.header("access-control-allow-origin").is_none());
                let media = reply.header("content-type").unwrap();
                let content = responses[&status.to_string()]["content"]
                    .as_object()
                    .unwrap();
                assert!(
                    content
                        .keys()
                        .any(|known| media.starts_with(known.as_str())),
                    "{method} {path} {status}: {media}"
                );
                if status != 200 && status != 431 {
                    check_error(path, status, &reply);
                }
                seen.insert(status);
                rows += 1;
            }
        }
    }
    let all = [
        200, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 431, 500, 503,
    ];
    assert_eq!(seen, BTreeSet::from(all));
    assert!(rows > 150, "{rows}");
    servers.stop().await;
}

#[tokio::test]
async fn the_document_names_every_schema_it_uses() {
    let server = Running::bare().await;
    let document = server.get("/openapi.json").await.ok();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document.to_string();
    let uses: BTreeSet<&str> = text
        .split("#/components/schemas/")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(uses.len() > 10);
    for name in uses {
        assert!(schemas.contains_key(name), "{name}");
    }
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    server.stop().await;
}

#[tokio::test]
async fn unknown_paths_are_not_found_in_the_shape_of_their_side() {
    let server = Running::bare().await;
    for path in ["/", "/nothing", "/v1", "/v1/nothing", "/embed/", "/%00"] {
        let reply = server.get(path).await;
        assert_eq!(reply.status, 404, "{path}");
        check_error(&format!("{path}/"), 404, &reply);
    }
    // Not HTTP at all.
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream
        .write_all(b"\x16\x03\x01\x02\x00\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(Reply::read(&mut stream).await.status, 400);
    server.stop().await;
}
