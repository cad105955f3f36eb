//! What the routes answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{
    DIM, Gate, MAX_TOKENS, NAMES, Run, Running, TEXTS, assert_near, config, inputs, numbers,
    vectors,
};

fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter().map(|value| value / norm).collect()
}

#[tokio::test]
async fn openai_vectors_in_both_encodings() {
    let server = Running::bare().await;
    let want = vectors(&["a b", "c"]);
    let body = json!({"input": ["a b", "c"], "model": "any", "user": "ignored", "unknown": {}});
    let reply = server.post("/v1/embeddings", &body).await;
    let timing = reply.header("server-timing").unwrap();
    assert!(
        timing.contains("queue;dur=") && timing.contains("model;dur="),
        "{timing}"
    );
    let found = reply.ok();
    assert_eq!(found["object"], "list");
    assert_eq!(found["model"], "fake");
    // Two words and one, each between two special tokens.
    assert_eq!(
        found["usage"],
        json!({"prompt_tokens": 7, "total_tokens": 7})
    );
    for (index, want) in want.iter().enumerate() {
        let entry = &found["data"][index];
        assert_eq!(entry["object"], "embedding");
        assert_eq!(entry["index"], index);
        assert_eq!(&numbers(&entry["embedding"]), want);
    }
    let body = json!({"input": "c", "encoding_format": "base64"});
    let found = server.post("/v1/embeddings", &body).await.ok();
    let bytes = STANDARD
        .decode(found["data"][0]["embedding"].as_str().unwrap())
        .unwrap();
    let floats: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    assert_eq!(floats, want[1]);
    server.stop().await;
}

#[tokio::test]
async fn fewer_dimensions_are_of_unit_length_again() {
    let server = Running::bare().await;
    let want = unit(&vectors(&["a"])[0][..5]);
    let found = server
        .post("/v1/embeddings", &json!({"input": "a", "dimensions": 5}))
        .await
        .ok();
    assert_near(&numbers(&found["data"][0]["embedding"]), &want);
    let found = server
        .post("/embed", &json!({"inputs": "a", "dimensions": 5}))
        .await
        .ok();
    assert_near(&numbers(&found[0]), &want);
    for dimensions in [0, DIM + 1] {
        let body = json!({"input": "a", "dimensions": dimensions});
        assert_eq!(server.post("/v1/embeddings", &body).await.status, 422);
    }
    server.stop().await;
}

#[tokio::test]
async fn one_text_or_a_list() {
    let server = Running::bare().await;
    let want = vectors(&["a", "b"]);
    let found = server.post("/embed", &inputs("a")).await.ok();
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_near(&numbers(&found[0]), &want[0]);
    let body = json!({"inputs": ["a", "b"], "normalize": false, "truncation_direction": "Right"});
    let found = server.post("/embed", &body).await.ok();
    assert_near(&numbers(&found[1]), &want[1]);
    let models = server.get("/v1/models").await.ok();
    assert_eq!(models["data"][0]["id"], "fake");
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_request_is_named() {
    let server = Running::bare().await;
    for (path, body, words) in [
        (
            "/v1/embeddings",
            json!({"input": [1, 2]}),
            "token ids are not accepted",
        ),
        (
            "/v1/embeddings",
            json!({"input": [[1], [2]]}),
            "token ids are not accepted",
        ),
        (
            "/v1/embeddings",
            json!({"input": 3}),
            "a text or a list of texts",
        ),
        ("/v1/embeddings", json!({"input": []}), "at least one text"),
        (
            "/v1/embeddings",
            json!({"input": ["a", ""]}),
            "text 1 is empty",
        ),
        (
            "/v1/embeddings",
            json!({"model": "m"}),
            "missing field `input`",
        ),
        (
            "/v1/embeddings",
            json!({"input": "a", "model": 3}),
            "expected a string",
        ),
        (
            "/v1/embeddings",
            json!({"input": "a", "encoding_format": "int8"}),
            "unknown variant",
        ),
        (
            "/v1/embeddings",
            json!({"input": "a", "dimensions": -1}),
            "invalid value",
        ),
        (
            "/embed",
            json!({"inputs": null}),
            "a text or a list of texts",
        ),
        (
            "/embed",
            json!({"inputs": "a", "prompt_name": "query"}),
            "prompt_name",
        ),
        (
            "/embed",
            json!({"inputs": "a", "truncation_direction": "Left"}),
            "unknown variant",
        ),
        ("/similarity", json!({"inputs": "a"}), "expected struct"),
        (
            "/similarity",
            json!({"inputs": {"source_sentence": "a", "sentences": []}}),
            "sentences: expected at least one text",
        ),
        (
            "/similarity",
            json!({
                "inputs": {"source_sentence": "a", "sentences": ["b"]},
                "parameters": {"prompt_name": "x"},
            }),
            "prompt_name",
        ),
    ] {
        let reply = server.post(path, &body).await;
        assert_eq!(reply.status, 422, "{body}: {}", reply.text());
        assert!(reply.text().contains(words), "{body}: {}", reply.text());
    }
    server.stop().await;
}

#[tokio::test]
async fn limits_are_the_same_for_one_text_and_for_many() {
    let server = Running::bare().await;
    let long = vec!["w"; MAX_TOKENS - 1].join(" ");
    let fits = vec!["w"; MAX_TOKENS - 2].join(" ");
    let wide = "x".repeat(8193);
    let umlauts = "ü".repeat(8192);
    let many = vec!["a"; 33];
    for (texts, status) in [
        (json!(fits), 200),
        (json!(vec![fits.as_str(); 32]), 200),
        (json!(long), 413),
        (json!(["a", long]), 413),
        (json!(wide), 413),
        (json!(["a", wide]), 413),
        (json!(umlauts), 200),
        (json!(many), 413),
        (json!(many[..32]), 200),
    ] {
        for (path, field) in [("/v1/embeddings", "input"), ("/embed", "inputs")] {
            let reply = server.post(path, &json!({ field: texts })).await;
            assert_eq!(reply.status, status, "{path} {}", reply.text());
        }
    }
    let reply = server.post("/embed", &json!({"inputs": ["a", long]})).await;
    let text = reply.text();
    assert!(
        text.contains("text 1: the model takes 64 tokens, found 65"),
        "{text}"
    );
    // Cut at the limit, a text is the text that fits.
    let want = vectors(&[&long])[0].clone();
    for text in [&long, &format!("{long} and more")] {
        let body = json!({"inputs": text, "truncate": true});
        let found = server.post("/embed", &body).await.ok();
        assert_near(&numbers(&found[0]), &want);
        let body = json!({"input": text, "truncate": true});
        let found = server.post("/v1/embeddings", &body).await.ok();
        assert_near(&numbers(&found["data"][0]["embedding"]), &want);
        assert_eq!(found["usage"]["total_tokens"], MAX_TOKENS);
    }
    let body = json!({"inputs": wide, "truncate": true});
    let found = server.post("/embed", &body).await.ok();
    assert_near(&numbers(&found[0]), &vectors(&[&wide[..8192]])[0]);
    let sentences = vec!["a"; 32];
    let body = json!({"inputs": {"source_sentence": "a", "sentences": sentences}});
    assert_eq!(server.post("/similarity", &body).await.status, 413);
    server.stop().await;
}

#[tokio::test]
async fn similarities_are_cosines() {
    let server = Running::bare().await;
    let texts = ["card lost", "card found", "card lost"];
    let vectors = vectors(&texts);
    let cosine = |a: usize, b: usize| -> f32 {
        vectors[a].iter().zip(&vectors[b]).map(|(x, y)| x * y).sum()
    };
    let body = json!({"inputs": {"source_sentence": texts[0], "sentences": texts[1..]}});
    let found = server.post("/similarity", &body).await.ok();
    assert_near(&numbers(&found), &[cosine(0, 1), 1.0]);
    server.stop().await;
}

#[tokio::test]
async fn texts_get_their_category() {
    let run = Run::new();
    let server = Running::start(config(), run.parts(&Gate::default())).await;
    let found = server.post("/predict", &json!({"texts": TEXTS})).await.ok();
    assert_eq!(found["revision"], 1);
    for (index, name) in NAMES.iter().enumerate() {
        let prediction = &found["predictions"][index];
        assert_eq!(prediction["id"], index);
        assert_eq!(&prediction["name"], name);
        assert!((prediction["cosine"].as_f64().unwrap() - 1.0).abs() < 1e-5);
        let confidence = prediction["confidence"].as_f64().unwrap();
        assert!(confidence > 0.5 && confidence <= 1.0, "{prediction}");
        assert_eq!(prediction["unknown"], false);
        assert_ne!(prediction["runner_up"]["id"], index);
    }
    // Of the bank only.
    let body = json!({"texts": TEXTS[1], "coarse": "bank"});
    let found = server.post("/predict", &body).await.ok();
    assert_eq!(found["predictions"][0]["coarse"], "bank");
    let reply = server
        .post("/predict", &json!({"texts": "a", "coarse": "bnak"}))
        .await;
    assert_eq!(reply.status, 422);
    assert!(
        reply.text().contains("coarse classes: bank, library"),
        "{}",
        reply.text()
    );
    server.stop().await;
}

#[tokio::test]
async fn texts_of_the_run_are_found() {
    let run = Run::new();
    let server = Running::start(config(), run.parts(&Gate::default())).await;
    let body = json!({"query": TEXTS[2], "k": 2});
    let found = server.post("/search", &body).await.ok();
    let results = found["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    assert_eq!(results[0]["row"], 2);
    assert_eq!(results[0]["text"], TEXTS[2]);
    assert_eq!(results[0]["coarse"], "bank");
    assert_eq!(results[0]["category"], json!({"id": 2, "name": NAMES[2]}));
    assert!(results[0]["cosine"].as_f64() >= results[1]["cosine"].as_f64());
    let found = server.post("/search", &json!({"query": "card"})).await.ok();
    assert_eq!(found["results"].as_array().unwrap().len(), 3);
    for k in [0, 101] {
        let body = json!({"query": "card", "k": k});
        assert_eq!(server.post("/search", &body).await.status, 422);
    }
    server.stop().await;
}

#[tokio::test]
async fn the_server_describes_itself() {
    let run = Run::new();
    let server = Running::start(config(), run.parts(&Gate::default())).await;
    let info = server.get("/info").await.ok();
    for (key, want) in [
        ("model_id", json!("fake")),
        ("dimensions", json!(DIM)),
        ("max_input_length", json!(MAX_TOKENS)),
        ("max_client_batch_size", json!(32)),
        ("max_body_bytes", json!(2_097_152)),
        ("categories", json!(3)),
        ("revision", json!(1)),
        ("texts", json!(3)),
    ] {
        assert_eq!(info[key], want, "{key}");
    }
    let page = server.get("/docs").await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert!(page.text().contains("/v1/embeddings"));
    let page = server.get("/explorer").await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(page.text().contains("<title>map</title>"));
    let bare = Running::bare().await;
    let info = bare.get("/info").await.ok();
    assert_eq!(
        (&info["categories"], &info["texts"]),
        (&Value::Null, &Value::Null)
    );
    bare.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn figures_count_what_happened() {
    let server = Running::bare().await;
    for _ in 0..3 {
        server.post("/embed", &inputs("a b c")).await.ok();
    }
    server.post("/embed", &json!({})).await;
    server.get("/some/secret/path").await;
    let reply = server.get("/metrics").await;
    assert!(
        reply
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    let text = reply.text();
    for line in [
        "asterism_requests_total{route=\"/embed\",method=\"POST\",status=\"200\"} 3",
        "asterism_requests_total{route=\"/embed\",method=\"POST\",status=\"422\"} 1",
        "asterism_requests_total{route=\"unmatched\",method=\"GET\",status=\"404\"} 1",
        "asterism_request_duration_seconds_count{route=\"/embed\"} 4",
        "asterism_batch_tokens_sum 15.0",
        "asterism_batch_texts_count 3",
        "asterism_queue_texts 0",
        "asterism_requests_in_flight 1",
        "asterism_rejected_total 0",
        "asterism_ready 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("secret"), "{text}");
    server.stop().await;
}
