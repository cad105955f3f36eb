//! Who may ask, and what nobody gets to see.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use server::{Config, Parts, Server, StartError};

use crate::support::{Gate, KEY, Request, Run, Running, config, engine, inputs, with_key};

#[tokio::test]
async fn other_addresses_need_a_key() {
    let parts = || Parts::of_engine(engine(&Gate::default()));
    let open = |config: Config| Config {
        addr: ([0, 0, 0, 0], 0).into(),
        ..config
    };
    let error = Server::bind(open(config()), parts()).await.err().unwrap();
    assert!(matches!(error, StartError::KeyRequired { .. }));
    assert!(error.to_string().contains("ASTERISM_API_KEY"), "{error}");
    assert!(Server::bind(open(with_key()), parts()).await.is_ok());
}

#[tokio::test]
async fn the_key_opens_everything_and_its_absence_nothing_but_health() {
    let run = Run::new();
    let server = Running::start(with_key(), run.parts(&Gate::default())).await;
    let document = Request::new("GET", "/openapi.json").header("x-api-key", KEY);
    let document = document.send(server.addr).await.ok();
    let mut paths: Vec<&str> = document["paths"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    paths.push("/no/such/path");
    for path in paths {
        let open = path.starts_with("/health/");
        for method in ["GET", "POST", "DELETE"] {
            let status = Request::new(method, path).send(server.addr).await.status;
            assert_eq!(status != 401, open, "{method} {path} {status}");
        }
    }
    let basic = |password: &str| STANDARD.encode(format!("any:{password}"));
    for (name, value, status) in [
        ("authorization", format!("Bearer {KEY}"), 200),
        ("authorization", format!("bearer {KEY}"), 200),
        ("authorization", format!("Basic {}", basic(KEY)), 200),
        ("x-api-key", KEY.to_owned(), 200),
        ("authorization", format!("Bearer {KEY}x"), 401),
        ("authorization", format!("Bearer {}", &KEY[1..]), 401),
        ("authorization", format!("Basic {}", basic("x")), 401),
        ("authorization", KEY.to_owned(), 401),
        ("authorization", "Bearer ".to_owned(), 401),
        ("x-api-key", String::new(), 401),
    ] {
        let request = Request::new("GET", "/info").header(name, &value);
        assert_eq!(
            request.send(server.addr).await.status,
            status,
            "{name}: {value}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn names_of_other_sites_are_refused_on_loopback() {
    let settings = Config {
        allowed_hosts: vec!["asterism.internal".to_owned()],
        ..config()
    };
    let server = Running::start(settings, Parts::of_engine(engine(&Gate::default()))).await;
    let port = server.addr.port();
    for (host, fine) in [
        ("localhost".to_owned(), true),
        (format!("localhost:{port}"), true),
        (format!("127.0.0.1:{port}"), true),
        ("[::1]:80".to_owned(), true),
        ("LOCALHOST".to_owned(), true),
        ("Asterism.Internal".to_owned(), true),
        ("attacker.example".to_owned(), false),
        (format!("attacker.example:{port}"), false),
        ("localhost.attacker.example".to_owned(), false),
        ("127.0.0.1.attacker.example".to_owned(), false),
        ("10.0.0.1".to_owned(), false),
        (String::new(), false),
    ] {
        let request = Request::new("GET", "/info").header("host", &host);
        let status = request.send(server.addr).await.status;
        assert_eq!(status, if fine { 200 } else { 403 }, "{host}");
    }
    server.stop().await;
}

#[tokio::test]
async fn pages_of_other_sites_get_nothing_and_change_nothing() {
    let run = Run::new();
    let server = Running::start(config(), run.parts(&Gate::default())).await;
    let undo = Request::post("/categories/undo", &json!({}));
    for origin in [
        "http://attacker.example",
        "null",
        "http://localhost:1",
        "https://",
    ] {
        let reply = undo
            .clone()
            .header("origin", origin)
            .send(server.addr)
            .await;
        assert_eq!(reply.status, 403, "{origin}");
        assert!(reply.header("access-control-allow-origin").is_none());
    }
    // The server's own page.
    let own = undo.clone().header("origin", "http://localhost");
    assert_eq!(own.send(server.addr).await.status, 409);
    // A form of another site cannot send JSON without asking first, and asking is not answered.
    let form = undo.header("content-type", "text/plain");
    assert_eq!(form.send(server.addr).await.status, 415);
    let preflight = Request::new("OPTIONS", "/categories/undo");
    assert_eq!(preflight.send(server.addr).await.status, 405);
    server.stop().await;
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn neither_key_nor_texts_are_logged_or_sent() {
    // For the whole process: what the other tests cause to be logged must not show the key either.
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let config = with_key();
    assert!(!format!("{config:?}").contains("canary"));
    let run = Run::new();
    let server = Running::start(config, run.parts(&Gate::default())).await;
    let mut sent = Vec::new();
    for (path, body) in [
        ("/embed", inputs("canary text")),
        ("/embed", inputs("canary boom")),
        ("/embed", json!({"inputs": 3, "canary": 1})),
        ("/predict", json!({"texts": "canary", "coarse": "canary"})),
        ("/search", json!({"query": "canary"})),
        ("/canary", json!({})),
        ("/embed?canary=1", inputs("canary")),
    ] {
        let request = Request::post(path, &body).header("x-api-key", KEY);
        let reply = request.clone().send(server.addr).await;
        // The coarse class that was asked for is named; texts and the key are not.
        if reply.status != 422 {
            sent.extend(reply.body);
        }
        let reply = request
            .header("x-api-key", "canary")
            .send(server.addr)
            .await;
        assert_eq!(reply.status, 401);
        sent.extend(reply.body);
    }
    let figures = Request::new("GET", "/metrics").header("x-api-key", KEY);
    sent.extend(figures.send(server.addr).await.body);
    server.stop().await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let sent = String::from_utf8(sent).unwrap();
    assert!(log.contains("route=\"/embed\" status=200"), "{log}");
    assert!(log.contains("route=\"unmatched\" status=404"), "{log}");
    assert!(sent.contains("asterism_requests_total"));
    for text in [log, sent] {
        assert!(!text.contains("canary"), "{text}");
    }
}
