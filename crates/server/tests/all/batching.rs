//! Batches, the queue, and what happens when the model fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use server::{Config, Engine, EngineError, FakeEngine, ModelInfo, Parts, Server, Tokenized};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::{
    DIM, Gate, MAX_TOKENS, Reply, Request, Running, assert_near, config, engine, eventually,
    inputs, numbers, vectors,
};

fn send(server: &Running, texts: &[&str]) -> tokio::task::JoinHandle<Reply> {
    let (addr, request) = (
        server.addr,
        Request::post("/embed", &json!({"inputs": texts})),
    );
    tokio::spawn(async move { request.send(addr).await })
}

async fn metric(server: &Running, name: &str) -> f64 {
    let text = server.get("/metrics").await.text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("{name} in {text}"));
    line.parse().unwrap()
}

/// Waits until so many texts are in the queue.
async fn queued(server: &Running, texts: f64) {
    for _ in 0..5000 {
        if metric(server, "asterism_queue_texts").await == texts {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("{texts} texts were never in the queue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_are_the_same_alone_and_in_any_company() {
    let gate = Gate::default();
    let settings = Config {
        max_batch_tokens: MAX_TOKENS,
        ..config()
    };
    let server = Running::start(settings, Parts::of_engine(engine(&gate))).await;
    let warm = gate.batches().len();
    let holding = send(&server, &["hold"]);
    gate.reached().await;
    // Of 3 to 18 tokens, in requests of different sizes, while the model is busy.
    let texts: Vec<String> = (1..17).map(|words| vec!["w"; words].join(" ")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let requests: Vec<_> = texts.chunks(5).map(|part| send(&server, part)).collect();
    queued(&server, texts.len() as f64).await;
    gate.open();
    let mut found = Vec::new();
    for request in requests {
        let reply = request.await.unwrap().ok();
        found.extend(reply.as_array().unwrap().iter().map(numbers));
    }
    holding.await.unwrap().ok();
    // Alone.
    for (text, found) in texts.iter().zip(&found) {
        let alone = server.post("/embed", &inputs(text)).await.ok();
        assert_eq!(&numbers(&alone[0]), found);
        assert_near(found, &vectors(&[text])[0]);
    }
    let batches = gate.batches();
    let crowd = &batches[warm + 1..batches.len() - texts.len()];
    let sizes: Vec<usize> = crowd.iter().map(|batch| batch.iter().sum()).collect();
    assert!(
        sizes.iter().all(|tokens| *tokens <= MAX_TOKENS),
        "{sizes:?}"
    );
    assert_eq!(crowd.iter().map(Vec::len).sum::<usize>(), texts.len());
    // 168 tokens in batches of 64: requests share batches and are spread over them.
    assert!(crowd.len() >= 3 && crowd.len() < 9, "{crowd:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_recovers() {
    let gate = Gate::default();
    let settings = Config {
        queue: 32,
        ..config()
    };
    let server = Running::start(settings, Parts::of_engine(engine(&gate))).await;
    let holding = send(&server, &["hold"]);
    gate.reached().await;
    let first = send(&server, &["a"; 20]);
    queued(&server, 20.0).await;
    // 20 and 13 do not fit, 20 and 12 do.
    let reply = send(&server, &["b"; 13]).await.unwrap();
    assert_eq!(reply.status, 429);
    assert_eq!(reply.json()["error_type"], "overloaded");
    assert!(reply.header("retry-after").is_some());
    let second = send(&server, &["b"; 12]);
    queued(&server, 32.0).await;
    assert_eq!(send(&server, &["c"]).await.unwrap().status, 429);
    assert_eq!(metric(&server, "asterism_rejected_total").await, 2.0);
    gate.open();
    for request in [holding, first, second] {
        request.await.unwrap().ok();
    }
    send(&server, &["c"]).await.unwrap().ok();
    assert_eq!(metric(&server, "asterism_queue_tokens").await, 0.0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_would_wait_too_long_is_refused() {
    let gate = Gate::default();
    let settings = Config {
        max_wait: Duration::ZERO,
        ..config()
    };
    let server = Running::start(settings, Parts::of_engine(engine(&gate))).await;
    let holding = send(&server, &["hold"]);
    gate.reached().await;
    // Requests of the usual size are taken as long as no more than eight are ahead.
    let mut taken = Vec::new();
    for count in 1..=8 {
        taken.push(send(&server, &["a"]));
        queued(&server, f64::from(count)).await;
    }
    let ninth = send(&server, &["a"]);
    let tenth = send(&server, &["a"]);
    let eleventh = send(&server, &["a"]);
    let refused = || async { metric(&server, "asterism_rejected_total").await };
    for _ in 0..5000 {
        if refused().await >= 2.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(refused().await >= 2.0);
    gate.open();
    holding.await.unwrap().ok();
    for request in taken {
        request.await.unwrap().ok();
    }
    let mut statuses = Vec::new();
    for late in [ninth, tenth, eleventh] {
        statuses.push(late.await.unwrap().status);
    }
    statuses.sort_unstable();
    assert!(statuses[1..] == [429, 429], "{statuses:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_texts_ahead_are_longer_to_wait_for() {
    let gate = Gate::default();
    let settings = Config {
        max_wait: Duration::ZERO,
        ..config()
    };
    let server = Running::start(settings, Parts::of_engine(engine(&gate))).await;
    for _ in 0..5 {
        send(&server, &["a"]).await.unwrap().ok();
    }
    let holding = send(&server, &["hold"]);
    gate.reached().await;
    // Whoever finds nobody waiting is taken, however much it is.
    let first = send(&server, &["a b c d e f g h i j"; 20]);
    queued(&server, 20.0).await;
    assert_eq!(send(&server, &["b"]).await.unwrap().status, 429);
    gate.open();
    holding.await.unwrap().ok();
    first.await.unwrap().ok();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_went_away_are_not_computed() {
    let gate = Gate::default();
    let server = Running::start(config(), Parts::of_engine(engine(&gate))).await;
    let warm = gate.batches().len();
    let holding = send(&server, &["hold"]);
    gate.reached().await;
    let mut gone = TcpStream::connect(server.addr).await.unwrap();
    let request = Request::post("/embed", &inputs("five words to be forgotten"));
    gone.write_all(&request.bytes()).await.unwrap();
    queued(&server, 1.0).await;
    drop(gone);
    let stays = send(&server, &["a"]);
    queued(&server, 2.0).await;
    // Until the server has noticed: this request and the two that are held.
    for _ in 0..5000 {
        if metric(&server, "asterism_requests_in_flight").await == 3.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    gate.open();
    holding.await.unwrap().ok();
    stays.await.unwrap().ok();
    assert_eq!(gate.batches()[warm..], [vec![3], vec![3]]);
    assert_eq!(metric(&server, "asterism_cancelled_total").await, 1.0);
    assert_eq!(metric(&server, "asterism_queue_tokens").await, 0.0);
    server.stop().await;
}

#[tokio::test]
async fn a_failing_batch_does_not_end_the_server() {
    let server = Running::bare().await;
    for word in ["refuse", "boom", "boom", "refuse"] {
        let reply = server.post("/embed", &inputs(word)).await;
        assert_eq!(reply.status, 500);
        assert!(!reply.text().contains("told"), "{}", reply.text());
        // The engine is made anew in between.
        for _ in 0..5000 {
            if server.get("/health/ready").await.status == 200 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        server.post("/embed", &inputs("a")).await.ok();
    }
    assert_eq!(metric(&server, "asterism_engine_failures_total").await, 4.0);
    server.stop().await;
}

/// An engine whose vectors are wrong in one of several ways.
struct Liar(FakeEngine, AtomicUsize);

impl Engine for Liar {
    fn info(&self) -> &ModelInfo {
        self.0.info()
    }

    fn tokenize(&self, texts: &[String]) -> Result<Vec<Tokenized>, EngineError> {
        self.0.tokenize(texts)
    }

    fn embed(&self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, EngineError> {
        let mut vectors = self.0.embed(rows)?;
        // The first two are the warm-up.
        match self.1.fetch_add(1, Ordering::Relaxed) {
            2 => vectors[0][1] = f32::NAN,
            3 => vectors[0].truncate(3),
            4 => vectors.clear(),
            _ => {}
        }
        Ok(vectors)
    }
}

#[tokio::test]
async fn vectors_that_are_none_are_not_sent() {
    let source = || {
        let liar = Liar(FakeEngine::new(DIM, MAX_TOKENS), AtomicUsize::new(0));
        Ok(Arc::new(liar) as Arc<dyn Engine>)
    };
    let server = Running::start(config(), Parts::of_engine(Box::new(source))).await;
    for status in [500, 500, 500, 200] {
        assert_eq!(server.post("/embed", &inputs("a")).await.status, status);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_cannot_be_made_again_leaves_the_server_unready() {
    let gate = Gate::default();
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let working = engine(&gate);
    let source = move || match count.fetch_add(1, Ordering::Relaxed) {
        1 => Err(EngineError("no memory".to_owned())),
        _ => working(),
    };
    let server = Running::start(config(), Parts::of_engine(Box::new(source))).await;
    let boom = send(&server, &["boom"]);
    assert_eq!(boom.await.unwrap().status, 500);
    eventually(|| made.load(Ordering::Relaxed) >= 2).await;
    let mut unready = 0;
    for _ in 0..5000 {
        let reply = server.get("/health/ready").await;
        if reply.status == 200 {
            break;
        }
        unready += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(unready > 0);
    assert_eq!(server.get("/health/live").await.status, 200);
    server.post("/embed", &inputs("a")).await.ok();
    assert_eq!(made.load(Ordering::Relaxed), 3);
    server.stop().await;
}

#[tokio::test]
async fn a_budget_below_the_longest_text_does_not_start() {
    let settings = Config {
        max_batch_tokens: MAX_TOKENS - 1,
        ..config()
    };
    let parts = Parts::of_engine(engine(&Gate::default()));
    let error = Server::bind(settings, parts).await.err().unwrap();
    assert!(
        error.to_string().contains("expected at least 64"),
        "{error}"
    );
}
