//! Bodies of requests to every route that takes one, through the whole server but its sockets.
#![no_main]

use std::sync::{Arc, LazyLock};

use asterism_fuzz::catalogue;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use libfuzzer_sys::fuzz_target;
use server::{Config, Corpus, CorpusText, FakeEngine, Parts, Server, Taxonomy};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

const ROUTES: [&str; 9] = [
    "/v1/embeddings",
    "/embed",
    "/similarity",
    "/predict",
    "/search",
    "/categories/merge",
    "/categories/undo",
    "/categories/0/rename",
    "/categories/99999999999/rename",
];

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
});

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let parts = Parts {
        taxonomy: Some(Taxonomy::fixed(&catalogue()).expect("categories")),
        corpus: Some(
            Corpus::new(
                vec![CorpusText {
                    text: "lost my card".to_owned(),
                    coarse: None,
                    category: categories::CategoryId(0),
                }],
                vec![1.0, 0.0],
                2,
            )
            .expect("a corpus"),
        ),
        ..Parts::of_engine(Box::new(|| Ok(Arc::new(FakeEngine::new(2, 64)))))
    };
    let config = Config {
        addr: ([127, 0, 0, 1], 0).into(),
        ..Config::default()
    };
    RUNTIME
        .block_on(Server::bind(config, parts))
        .expect("a server")
});

static ROUTER: LazyLock<Router> = LazyLock::new(|| SERVER.router());

fuzz_target!(|content: &[u8]| {
    let Some((&choice, body)) = content.split_first() else {
        return;
    };
    let request = Request::post(ROUTES[usize::from(choice) % ROUTES.len()])
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("content-length", body.len())
        .body(Body::from(body.to_vec()))
        .expect("a request");
    // Made before: the server is bound in the same runtime.
    let router = ROUTER.clone();
    let (status, answer) = RUNTIME.block_on(async {
        let response = router.oneshot(request).await.expect("never fails");
        let status = response.status();
        (
            status,
            to_bytes(response.into_body(), 1 << 24)
                .await
                .expect("a body"),
        )
    });
    assert!(
        status.as_u16() < 500,
        "{status}: {}",
        String::from_utf8_lossy(&answer)
    );
    serde_json::from_slice::<serde_json::Value>(&answer).expect("JSON, also for errors");
});
