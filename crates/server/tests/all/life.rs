//! From the warm-up to the last answer.

use std::sync::Arc;
use std::time::Duration;

use server::{Config, Outcome, Parts, Signal};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::{Gate, PATIENCE, Reply, Request, Running, TestEngine, config, engine, inputs};

fn hold(server: &Running) -> tokio::task::JoinHandle<Reply> {
    let addr = server.addr;
    tokio::spawn(async move { Request::post("/embed", &inputs("hold")).send(addr).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_only_after_the_warm_up() {
    let gate = Gate::default();
    let held = gate.clone();
    let source = move || {
        let mut engine = TestEngine::new(&held);
        engine.hold_all = true;
        Ok(Arc::new(engine) as Arc<dyn server::Engine>)
    };
    let server = Running::start_cold(config(), Parts::of_engine(Box::new(source))).await;
    gate.reached().await;
    assert_eq!(server.get("/health/live").await.status, 200);
    let reply = server.get("/health/ready").await;
    assert_eq!(reply.status, 503);
    assert!(reply.text().contains("warming up"), "{}", reply.text());
    let reply = server.post("/embed", &inputs("a")).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("retry-after"), Some("1"));
    gate.open();
    while server.get("/health/ready").await.status != 200 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    server.post("/embed", &inputs("a")).await.ok();
    assert_eq!(server.stop().await, Outcome::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_is_answered_after_the_signal() {
    let gate = Gate::default();
    let settings = Config {
        drain_notice: Duration::from_millis(300),
        ..config()
    };
    let server = Running::start(settings, Parts::of_engine(engine(&gate))).await;
    let held = hold(&server);
    gate.reached().await;
    let mut queued = Vec::new();
    for _ in 0..5 {
        let addr = server.addr;
        queued.push(tokio::spawn(async move {
            Request::post("/embed", &inputs("a")).send(addr).await
        }));
    }
    let mut kept = TcpStream::connect(server.addr).await.unwrap();
    let live = Request::new("GET", "/health/live").header("connection", "keep-alive");
    kept.write_all(&live.bytes()).await.unwrap();
    assert_eq!(Reply::read(&mut kept).await.status, 200);

    server.stop.send(Signal::Terminate).await.unwrap();
    // For a moment connections are still accepted, so that readiness can be seen to be gone.
    let reply = loop {
        let reply = server.get("/health/ready").await;
        if reply.status != 200 {
            break reply;
        }
    };
    assert_eq!(reply.status, 503);
    assert!(reply.text().contains("stopping"), "{}", reply.text());
    // A connection that was kept open is used once more, and told to close.
    kept.write_all(&live.bytes()).await.unwrap();
    let reply = Reply::read(&mut kept).await;
    assert_eq!(
        (reply.status, reply.header("connection")),
        (200, Some("close"))
    );

    let addr = server.addr;
    let closed = async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
    assert!(!held.is_finished());
    gate.open();
    held.await.unwrap().ok();
    for request in queued {
        request.await.unwrap().ok();
    }
    assert_eq!(server.task.await.unwrap(), Outcome::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_ends_the_wait() {
    let gate = Gate::default();
    let settings = Config {
        drain_deadline: Duration::from_millis(100),
        ..config()
    };
    let server = Running::start(settings, Parts::of_engine(engine(&gate))).await;
    let held = hold(&server);
    gate.reached().await;
    assert_eq!(server.stop().await, Outcome::Deadline(Signal::Terminate));
    gate.open();
    held.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_stops_at_once() {
    let gate = Gate::default();
    let server = Running::start(config(), Parts::of_engine(engine(&gate))).await;
    let held = hold(&server);
    gate.reached().await;
    server.stop.send(Signal::Terminate).await.unwrap();
    server.stop.send(Signal::Interrupt).await.unwrap();
    let outcome = tokio::time::timeout(PATIENCE, server.task).await.unwrap();
    assert_eq!(outcome.unwrap(), Outcome::Hurried(Signal::Interrupt));
    gate.open();
    held.abort();
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let server = Running::bare().await;
    let settings = Config {
        addr: server.addr,
        ..config()
    };
    let parts = Parts::of_engine(engine(&Gate::default()));
    let error = server::Server::bind(settings, parts).await.err().unwrap();
    assert!(
        error.to_string().contains(&server.addr.to_string()),
        "{error}"
    );
    server.stop().await;
}
