//! Correcting categories while they are used.

use std::collections::BTreeSet;

use categories::Store;
use serde_json::{Value, json};
use server::{Parts, Taxonomy};

use crate::support::{Gate, NAMES, Request, Run, Running, TEXTS, config, engine};

async fn predicted(server: &Running, text: &str) -> Value {
    let found = server.post("/predict", &json!({"texts": text})).await.ok();
    found["predictions"][0].clone()
}

#[tokio::test]
async fn an_edit_is_seen_at_once_and_after_a_restart() {
    let run = Run::new();
    let server = Running::start(config(), run.parts(&Gate::default())).await;
    let list = server.get("/categories").await.ok();
    assert_eq!(list["revision"], 1);
    assert_eq!(list["editable"], true);
    assert_eq!(list["categories"][0]["name"], NAMES[0]);
    assert_eq!(list["categories"][0]["status"], "active");
    assert_eq!(list["categories"][0]["keywords"][0]["term"], NAMES[0]);
    assert!(list["categories"][0].get("centroid").is_none());

    let body = json!({"name": "card is gone <b>&</b>"});
    let renamed = server.post("/categories/0/rename", &body).await.ok();
    assert_eq!(renamed["revision"], 2);
    assert_eq!(renamed["category"]["name"], body["name"]);
    assert_eq!(renamed["category"]["name_source"], "human");
    assert_eq!(predicted(&server, TEXTS[0]).await["name"], body["name"]);

    let merged = server
        .post(
            "/categories/merge",
            &json!({"ids": [0, 2], "name": "cards"}),
        )
        .await
        .ok();
    assert_eq!(merged["category"]["id"], 3);
    for text in [TEXTS[0], TEXTS[2]] {
        let found = predicted(&server, text).await;
        assert_eq!((&found["id"], &found["name"]), (&json!(3), &json!("cards")));
    }
    let old = server.get("/categories/0").await.ok();
    assert_eq!(old["status"], json!({"merged": {"into": 3}}));
    // Texts of the run follow.
    let found = server
        .post("/search", &json!({"query": TEXTS[0], "k": 1}))
        .await
        .ok();
    assert_eq!(found["results"][0]["category"]["id"], 3);

    let undone = server.post("/categories/undo", &json!({})).await.ok();
    assert_eq!(undone["category"], Value::Null);
    assert_eq!(predicted(&server, TEXTS[0]).await["id"], 0);
    server.stop().await;

    let again = Running::start(config(), run.parts(&Gate::default())).await;
    assert_eq!(predicted(&again, TEXTS[0]).await["name"], body["name"]);
    again.stop().await;
    let store = Store::open(run.dir.path()).unwrap();
    assert_eq!(&store.replay().unwrap(), store.catalogue());
    assert_eq!(store.log().len(), 4);
}

#[tokio::test]
async fn an_edit_that_does_not_fit_changes_nothing() {
    let run = Run::new();
    let server = Running::start(config(), run.parts(&Gate::default())).await;
    for (path, body, status) in [
        ("/categories/0/rename", json!({"name": NAMES[1]}), 409),
        ("/categories/0/rename", json!({"name": ""}), 422),
        ("/categories/0/rename", json!({"name": 3}), 422),
        ("/categories/9/rename", json!({"name": "x"}), 404),
        ("/categories/x/rename", json!({"name": "x"}), 404),
        ("/categories/-1/rename", json!({"name": "x"}), 404),
        ("/categories/4294967296/rename", json!({"name": "x"}), 404),
        ("/categories/merge", json!({"ids": [0]}), 422),
        ("/categories/merge", json!({"ids": []}), 422),
        ("/categories/merge", json!({"ids": [0, 0]}), 422),
        ("/categories/merge", json!({"ids": [0, -1]}), 422),
        ("/categories/merge", json!({"ids": [0, 9]}), 404),
        ("/categories/undo", json!({}), 409),
        ("/categories/undo", json!([]), 422),
    ] {
        let reply = server.post(path, &body).await;
        assert_eq!(reply.status, status, "{path} {body}: {}", reply.text());
    }
    assert_eq!(server.get("/categories").await.ok()["revision"], 1);
    server.stop().await;
    assert_eq!(Store::open(run.dir.path()).unwrap().catalogue().revision, 1);
}

#[tokio::test]
async fn categories_of_a_model_cannot_be_edited() {
    let run = Run::new();
    let mut parts = Parts::of_engine(engine(&Gate::default()));
    parts.taxonomy = Some(Taxonomy::fixed(&run.catalogue).unwrap());
    let server = Running::start(config(), parts).await;
    assert_eq!(server.get("/categories").await.ok()["editable"], false);
    assert_eq!(predicted(&server, TEXTS[1]).await["name"], NAMES[1]);
    let reply = server
        .post("/categories/0/rename", &json!({"name": "x"}))
        .await;
    assert_eq!(reply.status, 409);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_edits_and_predictions_do_not_mix() {
    let run = Run::new();
    let server = Running::start(config(), run.parts(&Gate::default())).await;
    let addr = server.addr;
    let edits: Vec<_> = (0..24)
        .map(|number| {
            let path = format!("/categories/{}/rename", number % 3);
            let request = Request::post(&path, &json!({"name": format!("name {number}")}));
            tokio::spawn(async move { request.send(addr).await.ok() })
        })
        .collect();
    let readers: Vec<_> = (0..24)
        .map(|_| {
            let request = Request::post("/predict", &json!({"texts": TEXTS}));
            tokio::spawn(async move { request.send(addr).await.ok() })
        })
        .collect();
    let mut revisions = BTreeSet::new();
    for edit in edits {
        revisions.insert(edit.await.unwrap()["revision"].as_u64().unwrap());
    }
    // Every edit has a revision of its own.
    assert_eq!(revisions, (2..26).collect());
    let mut names = BTreeSet::new();
    for reader in readers {
        let found = reader.await.unwrap();
        let revision = found["revision"].as_u64().unwrap();
        let seen: Vec<String> = (0..3)
            .map(|at| {
                found["predictions"][at]["name"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        names.insert((revision, seen));
    }
    server.stop().await;
    // Whoever saw a revision saw all its names: those of the log at that revision.
    let store = Store::open(run.dir.path()).unwrap();
    assert_eq!(store.catalogue().revision, 25);
    let mut now: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    let mut at_revision = vec![now.clone()];
    for entry in &store.log()[1..] {
        if let categories::Event::Renamed { id, to, .. } = &entry.event {
            now[id.0 as usize] = to.clone();
        }
        at_revision.push(now.clone());
    }
    for (revision, seen) in names {
        assert_eq!(
            seen,
            at_revision[revision as usize - 1],
            "revision {revision}"
        );
    }
}
