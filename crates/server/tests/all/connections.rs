//! Slow, greedy and confused clients.

use std::time::Duration;

use serde_json::json;
use server::{Config, Limits, Parts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{
    Gate, PATIENCE, Reply, Request, Run, Running, config, engine, exchange, inputs,
};

async fn server(limits: Limits) -> Running {
    let settings = Config { limits, ..config() };
    Running::start(settings, Parts::of_engine(engine(&Gate::default()))).await
}

fn hasty() -> Limits {
    Limits {
        read_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(200),
        ..Limits::default()
    }
}

/// What comes until the connection ends; a reset is an error.
async fn to_the_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("the connection stays open")
        .expect("a reset");
    bytes
}

#[tokio::test]
async fn a_head_that_trickles_is_refused() {
    let server = server(hasty()).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream
        .write_all(b"GET /info HTTP/1.1\r\nhost: ")
        .await
        .unwrap();
    let mut trickle = TcpStream::connect(server.addr).await.unwrap();
    let (mut read, mut write) = trickle.split();
    // A byte now and then keeps nobody alive: what counts is the whole head.
    let bytes = async {
        for _ in 0..1000 {
            if write.write_all(b"x").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answer = async {
        let mut found = vec![0; 12];
        read.read_exact(&mut found).await.unwrap();
        found
    };
    let found = tokio::select! {
        found = answer => found,
        () = bytes => panic!("1000 bytes later, the head was still waited for"),
    };
    assert_eq!(found, b"HTTP/1.1 408");
    let reply = Reply::read(&mut stream).await;
    assert_eq!(reply.status, 408);
    assert_eq!(reply.json()["error_type"], "timeout");
    assert!(to_the_end(&mut stream).await.is_empty());
    let figures = server.get("/metrics").await.text();
    let line = "asterism_requests_total{route=\"unparsed\",method=\"\",status=\"408\"} 2";
    assert!(figures.contains(line), "{figures}");
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_refused() {
    let server = server(hasty()).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let mut bytes = Request::post("/embed", &inputs("abc")).bytes();
    bytes.truncate(bytes.len() - 3);
    stream.write_all(&bytes).await.unwrap();
    assert_eq!(Reply::read(&mut stream).await.status, 408);
    assert!(to_the_end(&mut stream).await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn silent_connections_are_closed() {
    let server = server(hasty()).await;
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    assert!(to_the_end(&mut silent).await.is_empty());
    // After a request too.
    let mut kept = TcpStream::connect(server.addr).await.unwrap();
    let request = Request::new("GET", "/health/live").header("connection", "keep-alive");
    kept.write_all(&request.bytes()).await.unwrap();
    assert_eq!(Reply::read(&mut kept).await.status, 200);
    assert!(to_the_end(&mut kept).await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let server = server(Limits::default()).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let request = Request::post("/embed", &inputs("a")).header("connection", "keep-alive");
    for _ in 0..20 {
        stream.write_all(&request.bytes()).await.unwrap();
        Reply::read(&mut stream).await.ok();
    }
    // A refused request does not end it either, if its body was read.
    let wrong = request.clone().body(b"{}");
    stream.write_all(&wrong.bytes()).await.unwrap();
    assert_eq!(Reply::read(&mut stream).await.status, 422);
    // Many large heads on one connection: the limit is for each.
    let large = request.header("x-filler", &"x".repeat(10_000));
    for _ in 0..5 {
        stream.write_all(&large.bytes()).await.unwrap();
        Reply::read(&mut stream).await.ok();
    }
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn a_large_head_is_refused_however_it_is_large() {
    let server = server(Limits::default()).await;
    let get = || Request::new("GET", "/info");
    let long = "x".repeat(17_000);
    let mut many = get();
    for index in 0..90 {
        many = many.header(&format!("x-{index}"), &"y".repeat(200));
    }
    for request in [
        get().header("x-filler", &long),
        Request::new("GET", &format!("/info?{long}")),
        many,
        get().header("x-filler", &"x".repeat(2_000_000)),
    ] {
        let reply = request.send(server.addr).await;
        assert_eq!(reply.status, 431);
        assert_eq!(reply.json()["error_type"], "head_too_large");
    }
    // Up to the limit, all is well.
    let fine = get().header("x-filler", &"x".repeat(16_000));
    fine.send(server.addr).await.ok();
    // A head without an end.
    let endless = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &[b'x'; 100_000]].concat();
    assert_eq!(exchange(server.addr, &endless).await.status, 431);
    server.stop().await;
}

#[tokio::test]
async fn a_large_body_is_refused_and_the_client_learns_why() {
    let run = Run::new();
    let server = Running::start(config(), run.parts(&Gate::default())).await;
    let limit = Limits::default().body_bytes;
    for path in [
        "/embed",
        "/v1/embeddings",
        "/predict",
        "/search",
        "/categories/undo",
    ] {
        // Twice the limit is more than the buffers of the system hold: closing early would reset.
        let reply = Request::post(path, &json!(0))
            .body(&vec![b'x'; 2 * limit])
            .send(server.addr)
            .await;
        assert_eq!(reply.status, 413, "{path}");
    }
    // Without an announced length.
    let mut request = Request::post("/embed", &json!(0)).header("transfer-encoding", "chunked");
    request.headers.retain(|(name, _)| name != "content-length");
    let mut chunk = format!("{limit:x}\r\n").into_bytes();
    chunk.extend(vec![b' '; limit]);
    request.body = [chunk.as_slice(), b"\r\n1\r\n \r\n0\r\n\r\n"].concat();
    assert_eq!(request.send(server.addr).await.status, 413);
    // Exactly at the limit, it is read, and found to be no JSON.
    let reply = Request::post("/embed", &json!(0))
        .body(&vec![b' '; limit])
        .send(server.addr)
        .await;
    assert_eq!(reply.status, 400);
    server.stop().await;
}

#[tokio::test]
async fn deep_and_broken_json_is_refused() {
    let server = server(Limits::default()).await;
    for body in [
        "[".repeat(1_000_000),
        format!(
            "{{\"inputs\": \"a\", \"x\": {}1{}}}",
            "[".repeat(32),
            "]".repeat(32)
        ),
        String::new(),
        "{\"inputs\": \"a\"".to_owned(),
        "{\"inputs\": \"\\ud800\"}".to_owned(),
        "{\"inputs\": \"a\"} trailing".to_owned(),
        "{\"inputs\": \"a\u{1}\"}".to_owned(),
        "NaN".to_owned(),
    ] {
        let reply = Request::post("/embed", &json!(0))
            .body(body.as_bytes())
            .send(server.addr)
            .await;
        let start: String = body.chars().take(40).collect();
        assert_eq!(reply.status, 400, "{start}");
        assert!(reply.body.len() < 2000);
    }
    let invalid = Request::post("/embed", &json!(0)).body(b"{\"inputs\": \"\xff\xfe\"}");
    assert_eq!(invalid.send(server.addr).await.status, 400);
    // A long wrong value is not sent back.
    let echo = Request::post(
        "/embed",
        &json!({"inputs": "a", "normalize": "x".repeat(100_000)}),
    );
    let reply = echo.send(server.addr).await;
    assert_eq!(reply.status, 422);
    assert!(reply.body.len() < 2000);
    server.stop().await;
}

#[tokio::test]
async fn more_connections_than_allowed_wait_for_their_turn() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let server = server(limits).await;
    let first = TcpStream::connect(server.addr).await.unwrap();
    let second = TcpStream::connect(server.addr).await.unwrap();
    let addr = server.addr;
    let third = tokio::spawn(async move { Request::new("GET", "/health/live").send(addr).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!third.is_finished());
    drop(first);
    assert_eq!(third.await.unwrap().status, 200);
    drop(second);
    server.stop().await;
}

#[tokio::test]
async fn idle_connections_do_not_keep_new_ones_out() {
    let limits = Limits {
        connections: 16,
        // Longer than anybody here waits.
        idle_timeout: PATIENCE * 10,
        ..Limits::default()
    };
    let server = server(limits).await;
    let mut kept = Vec::new();
    let mut closed = 0;
    for _ in 0..40 {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        let request = Request::new("GET", "/health/live").header("connection", "keep-alive");
        stream.write_all(&request.bytes()).await.unwrap();
        let reply = Reply::read(&mut stream).await;
        assert_eq!(reply.status, 200);
        if reply.header("connection") == Some("close") {
            assert!(to_the_end(&mut stream).await.is_empty());
            closed += 1;
        }
        kept.push(stream);
    }
    assert!(closed >= 40 - 16, "{closed}");
    assert!(closed < 40, "connections are kept while there is room");
    drop(kept);
    server.stop().await;
}
