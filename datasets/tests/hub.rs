//! Models from a small local hub, good and hostile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../crates/datagen/tests/support/fault_server.rs"]
mod fault_server;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use datasets::fetch::FetchStatus;
use datasets::hash::sha256_hex;
use datasets::hub::{FetchedModel, SOURCE_FILE, Source};
use datasets::{FetchError, FetchOptions, HubError, HubRequest, fetch_model, plan_model};
use fault_server::{FaultServer, Reply, Seen};
use serde_json::{Value, json};
use tempfile::TempDir;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const WEIGHTS: &[u8] = b"weights";

/// Files of the hub's model; those that are no model files must never be asked for.
fn files() -> Vec<(&'static str, &'static [u8])> {
    vec![
        (".gitattributes", b"x"),
        ("1_Pooling/config.json", b"{\"pooling\": 1}"),
        ("README.md", b"# A model"),
        ("config.json", b"{}"),
        ("model.safetensors", WEIGHTS),
        ("modules.json", b"[]"),
        ("onnx/model.onnx", b"onnx"),
        ("pytorch_model.bin", b"pickle"),
        ("tokenizer.json", b"{\"a\": 1}"),
    ]
}

fn listing() -> Value {
    let siblings: Vec<Value> = files()
        .into_iter()
        .map(|(name, content)| match name {
            "model.safetensors" => json!({
                "rfilename": name, "size": content.len(), "blobId": "00",
                "lfs": {"sha256": sha256_hex(content), "size": content.len(), "pointerSize": 130},
            }),
            _ => json!({"rfilename": name, "size": content.len(), "blobId": "00"}),
        })
        .collect();
    json!({"_id": "x", "id": "owner/name", "sha": COMMIT, "private": false, "siblings": siblings})
}

fn content(path: &str) -> Option<&'static [u8]> {
    let name = path.strip_prefix(&format!("/owner/name/resolve/{COMMIT}/"))?;
    let found = files().into_iter().find(|(known, _)| *known == name);
    found.map(|(_, content)| content)
}

/// What an honest hub answers.
fn honest(seen: &Seen) -> Reply {
    if let Some(rest) = seen.path.strip_prefix("/api/models/owner/name/revision/") {
        return match rest.split_once('?').unwrap() {
            ("main" | "v1" | COMMIT, "blobs=true") => Reply::ok(listing().to_string()),
            _ => Reply::new(404, &[], "{\"error\": \"Revision not found\"}"),
        };
    }
    match content(&seen.path) {
        Some(content) => Reply::ok(content),
        None => Reply::new(404, &[], ""),
    }
}

/// An honest hub but for the requests that `odd` answers.
fn hub(odd: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> FaultServer {
    FaultServer::start(move |seen| odd(seen).unwrap_or_else(|| honest(seen)))
}

/// A hub with another listing.
fn hub_listing(listing: Value) -> FaultServer {
    hub(move |seen| {
        let asked = seen.path.starts_with("/api/");
        asked.then(|| Reply::ok(listing.to_string()))
    })
}

fn request(server: &FaultServer) -> HubRequest {
    HubRequest {
        hub: server.url(""),
        options: FetchOptions {
            backoff: Duration::from_millis(1),
            total_timeout: Duration::from_secs(20),
            max_tries: 3,
            max_file_bytes: 1000,
            ..FetchOptions::default()
        },
        ..HubRequest::new("owner/name")
    }
}

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
        }
    }

    fn model(&self) -> PathBuf {
        self.dir.path().join("deep/model")
    }

    fn fetch(&self, request: &HubRequest) -> Result<FetchedModel, HubError> {
        fetch_model(request, &self.model(), &mut |_| {})
    }
}

/// Fetches into an empty place and checks that a failure leaves no directory of that name.
fn failure(request: &HubRequest) -> HubError {
    let place = Place::new();
    let error = place.fetch(request).unwrap_err();
    assert!(!place.model().exists());
    error
}

fn names_below(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                names.push(path.strip_prefix(dir).unwrap().display().to_string());
            }
        }
    }
    names.sort();
    names
}

fn counts(done: &FetchedModel) -> (usize, usize) {
    let count = |wanted| done.status.values().filter(|how| **how == wanted).count();
    (
        count(FetchStatus::Downloaded),
        count(FetchStatus::AlreadyVerified),
    )
}

#[test]
fn a_model_is_fetched_pinned_and_verified() {
    let server = hub(|_| None);
    let place = Place::new();
    let mut seen = Vec::new();
    let done = fetch_model(&request(&server), &place.model(), &mut |p| {
        seen.push((p.file.to_owned(), p.received, p.total));
    })
    .unwrap();
    assert_eq!(counts(&done), (6, 0));
    assert_eq!(
        names_below(&place.model()),
        [
            "1_Pooling/config.json",
            "README.md",
            SOURCE_FILE,
            "config.json",
            "model.safetensors",
            "modules.json",
            "tokenizer.json"
        ]
    );
    assert_eq!(
        fs::read(place.model().join("model.safetensors")).unwrap(),
        WEIGHTS
    );
    assert!(seen.contains(&("model.safetensors".to_owned(), 7, 7)));
    let source = Source::read(&place.model()).unwrap().unwrap();
    assert_eq!(source, done.source);
    assert_eq!(
        (source.revision.as_str(), source.commit.as_str()),
        ("main", COMMIT)
    );
    assert_eq!(
        source.files["model.safetensors"].sha256,
        sha256_hex(WEIGHTS)
    );
    // Files were asked for by commit, not by branch.
    for seen in server.log().iter().skip(1) {
        assert!(seen.path.contains(COMMIT), "{}", seen.path);
    }

    // Verified without a request, also where nobody could answer one.
    let asked = server.log().len();
    let again = place.fetch(&request(&server)).unwrap();
    assert_eq!((counts(&again), again.source), ((0, 6), source));
    let offline = HubRequest {
        offline: true,
        ..HubRequest::new("owner/name")
    };
    assert_eq!(counts(&place.fetch(&offline).unwrap()), (0, 6));
    assert_eq!(server.log().len(), asked);
    // A branch that still stands for the commit is fine.
    let named = HubRequest {
        revision: Some("v1".to_owned()),
        ..request(&server)
    };
    place.fetch(&named).unwrap();
    assert_eq!(server.log().len(), asked + 1);
    assert!(!place.dir.path().join("deep/model.unfinished").exists());
}

#[test]
fn a_changed_file_is_an_error_and_a_missing_one_comes_back() {
    let server = hub(|_| None);
    let place = Place::new();
    place.fetch(&request(&server)).unwrap();
    let weights = place.model().join("model.safetensors");
    fs::write(&weights, b"Weights").unwrap();
    for offline in [false, true] {
        let error = place
            .fetch(&HubRequest {
                offline,
                ..request(&server)
            })
            .unwrap_err();
        assert!(
            matches!(&error, HubError::Changed { path, found, .. }
                if *path == weights && *found == sha256_hex(b"Weights")),
            "{error}"
        );
    }
    assert_eq!(fs::read(&weights).unwrap(), b"Weights");
    fs::remove_file(&weights).unwrap();
    let offline = HubRequest {
        offline: true,
        ..request(&server)
    };
    let error = place.fetch(&offline).unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }), "{error}");
    assert_eq!(counts(&place.fetch(&request(&server)).unwrap()), (1, 5));
    assert_eq!(fs::read(&weights).unwrap(), WEIGHTS);

    // What comes back must be what was pinned, whatever the hub says now.
    fs::remove_file(&weights).unwrap();
    let other = hub(|seen| {
        seen.path
            .ends_with("/model.safetensors")
            .then(|| Reply::ok("Weights"))
    });
    let error = place.fetch(&request(&other)).unwrap_err();
    assert!(
        matches!(&error, HubError::Fetch(FetchError::WrongHash { .. })),
        "{error}"
    );
    assert!(!weights.exists());
}

#[test]
fn a_directory_stays_at_its_model_and_commit() {
    let server = hub(|_| None);
    let place = Place::new();
    place.fetch(&request(&server)).unwrap();
    let moved = "f".repeat(40);
    let later = {
        let moved = moved.clone();
        hub(move |seen| {
            let mut listing = listing();
            listing["sha"] = json!(moved);
            let asked = seen.path.starts_with("/api/");
            asked.then(|| Reply::ok(listing.to_string()))
        })
    };
    // Not asked for, not moved.
    assert_eq!(place.fetch(&request(&later)).unwrap().source.commit, COMMIT);
    for revision in ["main", &moved] {
        let error = place
            .fetch(&HubRequest {
                revision: Some(revision.to_owned()),
                ..request(&later)
            })
            .unwrap_err();
        assert!(
            matches!(&error, HubError::OtherCommit { pinned, found, .. }
                if pinned == COMMIT && *found == moved),
            "{error}"
        );
    }
    let error = place
        .fetch(&HubRequest {
            model: "owner/other".to_owned(),
            ..request(&server)
        })
        .unwrap_err();
    assert!(matches!(error, HubError::OtherModel { .. }), "{error}");
}

#[test]
fn a_fetch_that_broke_off_goes_on() {
    let broken = hub(|seen| {
        seen.path
            .ends_with("/model.safetensors")
            .then(|| Reply::new(500, &[], ""))
    });
    let place = Place::new();
    let error = place.fetch(&request(&broken)).unwrap_err();
    assert!(
        matches!(error, HubError::Fetch(FetchError::GaveUp { tries: 3, .. })),
        "{error}"
    );
    assert!(!place.model().exists());
    let staging = place.dir.path().join("deep/model.unfinished");
    assert_eq!(
        names_below(&staging),
        [
            "1_Pooling/config.json",
            "README.md",
            SOURCE_FILE,
            "config.json"
        ]
    );
    // What was changed in between is not trusted.
    fs::write(staging.join("README.md"), "x").unwrap();
    let done = place.fetch(&request(&hub(|_| None))).unwrap();
    assert_eq!(counts(&done), (4, 2));
    assert!(!staging.exists());

    // Of another commit nothing is kept.
    let place = Place::new();
    place.fetch(&request(&broken)).unwrap_err();
    let mut listing = listing();
    listing["sha"] = json!("f".repeat(40));
    let other = hub(move |seen| {
        if seen.path.starts_with("/api/") {
            return Some(Reply::ok(listing.to_string()));
        }
        content(&seen.path.replace(&"f".repeat(40), COMMIT)).map(Reply::ok)
    });
    assert_eq!(counts(&place.fetch(&request(&other)).unwrap()), (6, 0));

    // A folder of somebody else is left alone.
    let place = Place::new();
    for name in ["deep/model.unfinished", "deep/model"] {
        let mine = place.dir.path().join(name).join("mine.txt");
        fs::create_dir_all(mine.parent().unwrap()).unwrap();
        fs::write(&mine, "x").unwrap();
        let error = place.fetch(&request(&hub(|_| None))).unwrap_err();
        assert!(matches!(error, HubError::NotEmpty { .. }), "{error}");
        assert!(mine.exists());
    }
}

#[test]
fn digests_of_the_caller_count() {
    let server = hub(|_| None);
    let with = |pairs: &[(&str, &[u8])]| HubRequest {
        sha256: pairs
            .iter()
            .map(|(name, content)| ((*name).to_owned(), sha256_hex(content)))
            .collect::<BTreeMap<_, _>>(),
        ..request(&server)
    };
    let place = Place::new();
    let good = with(&[("model.safetensors", WEIGHTS), ("config.json", b"{}")]);
    place.fetch(&good).unwrap();
    place.fetch(&good).unwrap();
    for bad in [
        with(&[("model.safetensors", b"other")]),
        with(&[("config.json", b"other")]),
    ] {
        for error in [failure(&bad), place.fetch(&bad).unwrap_err()] {
            assert!(
                matches!(error, HubError::Fetch(FetchError::WrongHash { .. })),
                "{error}"
            );
        }
    }
    let more = with(&[("vocab.txt", b"x")]);
    for error in [failure(&more), place.fetch(&more).unwrap_err()] {
        assert!(
            matches!(&error, HubError::Missing { file, .. } if file == "vocab.txt"),
            "{error}"
        );
    }
}

#[test]
fn headers_of_the_hub_are_compared_before_the_body_counts() {
    let cases: [(&'static str, String, bool); 8] = [
        ("X-Repo-Commit", COMMIT.to_owned(), true),
        ("X-Repo-Commit", "f".repeat(40), false),
        ("X-Linked-Size", "8".to_owned(), true),
        ("X-Linked-Size", "9".to_owned(), false),
        (
            "X-Linked-Etag",
            format!("\"{}\"", sha256_hex(b"{\"a\": 1}")),
            true,
        ),
        (
            "X-Linked-Etag",
            format!("\"{}\"", sha256_hex(b"other")),
            false,
        ),
        ("ETag", format!("W/\"{}\"", sha256_hex(b"other")), false),
        // Git's digest says nothing about the bytes alone.
        ("ETag", format!("\"{}\"", "0".repeat(40)), true),
    ];
    for (name, value, good) in cases {
        // Also where a redirect leads elsewhere.
        let server = hub({
            let value = value.clone();
            move |seen| {
                if seen.path == "/elsewhere" {
                    return Some(Reply::ok("{\"a\": 1}"));
                }
                seen.path.ends_with("/tokenizer.json").then(|| {
                    let headers = [(name, value.as_str()), ("Location", "/elsewhere")];
                    Reply::new(302, &headers, "")
                })
            }
        });
        if good {
            Place::new().fetch(&request(&server)).unwrap();
            continue;
        }
        let error = failure(&request(&server));
        assert!(
            matches!(
                error,
                HubError::Fetch(
                    FetchError::Header { .. }
                        | FetchError::WrongSize { .. }
                        | FetchError::WrongHash { .. }
                )
            ),
            "{name} {value}: {error}"
        );
    }
}

#[test]
fn hostile_listings_are_refused() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut listing = listing();
        change(&mut listing);
        let server = hub_listing(listing);
        let error = failure(&request(&server));
        // Not a single file was asked for.
        assert_eq!(server.log().len(), 1);
        error
    };
    for name in [
        "../config.json",
        "a/../../x",
        "/etc/passwd",
        "a//b",
        "..",
        "C:/x",
        "a\\b",
        "a\nb",
        "",
    ] {
        let error = with(&|listing| {
            let siblings = listing["siblings"].as_array_mut().unwrap();
            siblings.push(json!({"rfilename": name}));
        });
        assert!(
            matches!(&error, HubError::Listing { problem, .. } if problem.contains("leaves")),
            "{name:?}: {error}"
        );
        assert!(!error.to_string().contains('\n'));
    }
    let error = with(&|listing| {
        let siblings = listing["siblings"].as_array_mut().unwrap();
        siblings.push(json!({"rfilename": "config.json"}));
    });
    assert!(error.to_string().contains("twice"), "{error}");
    for sha in [json!("main"), json!("../x"), json!(7), Value::Null] {
        let error = with(&|listing| listing["sha"] = sha.clone());
        assert!(matches!(error, HubError::Listing { .. }), "{error}");
    }
    let error = with(&|listing| {
        listing["siblings"][4]["lfs"]["size"] = json!(1001);
    });
    assert!(
        matches!(
            error,
            HubError::Fetch(FetchError::TooLarge { limit: 1000, .. })
        ),
        "{error}"
    );
    for listing in [
        json!([]),
        json!({"sha": COMMIT}),
        json!({"sha": COMMIT, "siblings": {}}),
    ] {
        let error = failure(&request(&hub_listing(listing)));
        assert!(matches!(error, HubError::Listing { .. }), "{error}");
    }
    let deep = format!(
        "{{\"sha\": \"{COMMIT}\", \"siblings\": [], \"x\": {}",
        "[".repeat(1_000_000)
    );
    for body in [deep, "{\"sha\": 1, \"sha\": 2}".to_owned(), String::new()] {
        let server = hub(move |_| Some(Reply::ok(&body)));
        let error = failure(&request(&server));
        assert!(matches!(error, HubError::Listing { .. }), "{error}");
    }
    let server = hub(|_| Some(Reply::without_length(vec![b' '; 9 << 20])));
    let error = failure(&request(&server));
    assert!(
        matches!(error, HubError::Fetch(FetchError::TooLarge { .. })),
        "{error}"
    );
}

#[test]
fn models_that_cannot_be_used_are_told_apart() {
    let without = |gone: &[&str], more: &[&str]| {
        let mut listing = listing();
        let siblings = listing["siblings"].as_array_mut().unwrap();
        siblings.retain(|file| !gone.contains(&file["rfilename"].as_str().unwrap()));
        siblings.extend(more.iter().map(|name| json!({"rfilename": name})));
        failure(&request(&hub_listing(listing)))
    };
    let error = without(
        &["model.safetensors"],
        &[
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
        ],
    );
    assert!(matches!(error, HubError::Sharded { .. }), "{error}");
    let error = without(&["model.safetensors"], &[]);
    assert!(
        matches!(&error, HubError::NoSafetensors { found, .. } if found == "`onnx/model.onnx`"),
        "{error}"
    );
    let error = without(
        &["model.safetensors", "onnx/model.onnx", "pytorch_model.bin"],
        &[],
    );
    assert!(error.to_string().ends_with("found no weights"), "{error}");
    for file in ["config.json", "tokenizer.json"] {
        let error = without(&[file], &["vocab.json"]);
        assert!(
            matches!(&error, HubError::Missing { file: missing, .. } if missing == file),
            "{error}"
        );
    }
}

#[test]
fn hostile_files_are_refused() {
    let answer = |reply: Reply| {
        let server = hub(move |seen| {
            let weights = seen.path.ends_with("/model.safetensors");
            weights.then(|| reply.clone())
        });
        failure(&request(&server))
    };
    let hash = answer(Reply::ok("Weights"));
    assert!(
        matches!(&hash, HubError::Fetch(FetchError::WrongHash { found, .. })
            if *found == sha256_hex(b"Weights")),
        "{hash}"
    );
    for reply in [
        Reply::ok("weights and more"),
        Reply::without_length(vec![b'x'; 100_000]),
    ] {
        let error = answer(reply);
        assert!(
            matches!(
                error,
                HubError::Fetch(FetchError::WrongSize { expected: 7, .. })
            ),
            "{error}"
        );
    }
    let error = answer(Reply::new(404, &[], ""));
    assert!(
        matches!(
            error,
            HubError::Fetch(FetchError::Status { status: 404, .. })
        ),
        "{error}"
    );
    for target in [
        "https://10.0.0.1/x",
        "https://169.254.169.254/latest/meta-data",
        "http://192.168.1.1/",
        "file:///etc/passwd",
    ] {
        let error = answer(Reply::redirect(302, target));
        assert!(
            matches!(error, HubError::Fetch(FetchError::Refused { .. })),
            "{error}"
        );
    }

    // Without a size in the listing the general limit holds.
    let mut listing = listing();
    for file in listing["siblings"].as_array_mut().unwrap() {
        let file = file.as_object_mut().unwrap();
        file.remove("size");
        file.remove("lfs");
    }
    let honest = hub_listing(listing.clone());
    Place::new().fetch(&request(&honest)).unwrap();
    let server = hub(move |seen| {
        if seen.path.starts_with("/api/") {
            return Some(Reply::ok(listing.to_string()));
        }
        let weights = seen.path.ends_with("/model.safetensors");
        weights.then(|| Reply::without_length(vec![b'x'; 100_000]))
    });
    let error = failure(&request(&server));
    assert!(
        matches!(
            error,
            HubError::Fetch(FetchError::TooLarge { limit: 1000, .. })
        ),
        "{error}"
    );
}

#[test]
fn revisions_and_requests_are_checked() {
    let server = hub(|_| None);
    let with = |revision: &str| HubRequest {
        revision: Some(revision.to_owned()),
        ..request(&server)
    };
    for revision in ["main", "v1", COMMIT] {
        let plan = plan_model(&with(revision)).unwrap();
        assert_eq!(
            (plan.commit.as_str(), plan.revision.as_str()),
            (COMMIT, revision)
        );
        assert_eq!(plan.files.len(), 6);
        assert_eq!(plan.files[3].sha256, Some(sha256_hex(WEIGHTS)));
    }
    let error = failure(&with("refs/pr/1"));
    assert!(
        matches!(
            error,
            HubError::Fetch(FetchError::Status { status: 404, .. })
        ),
        "{error}"
    );
    let last = server.log().last().unwrap().path.clone();
    assert!(last.contains("/revision/refs%2Fpr%2F1?"), "{last}");
    // A commit must be what it says.
    let lying = hub_listing(listing());
    let error = failure(&HubRequest {
        revision: Some("f".repeat(40)),
        ..request(&lying)
    });
    assert!(matches!(error, HubError::Listing { .. }), "{error}");

    let before = server.log().len();
    let bad = |change: &dyn Fn(&mut HubRequest), wanted: &str| {
        let mut request = request(&server);
        change(&mut request);
        let error = failure(&request);
        assert!(
            matches!(&error, HubError::Request { field, .. } if *field == wanted),
            "{error}"
        );
    };
    bad(&|r| r.model = "../etc".to_owned(), "model");
    bad(&|r| r.model = "a/b/c".to_owned(), "model");
    bad(&|r| r.revision = Some("a/../b".to_owned()), "revision");
    bad(&|r| r.hub = "no address".to_owned(), "hub");
    bad(&|r| r.hub += "?x=1", "hub");
    let error = failure(&HubRequest {
        hub: "http://192.168.0.1/".to_owned(),
        ..request(&server)
    });
    assert!(
        matches!(error, HubError::Fetch(FetchError::Refused { .. })),
        "{error}"
    );
    let error = failure(&HubRequest {
        offline: true,
        ..request(&server)
    });
    assert!(matches!(error, HubError::Offline { .. }), "{error}");
    assert_eq!(server.log().len(), before);
}

#[test]
fn the_key_goes_to_the_hub_alone() {
    let other = FaultServer::start(|_| Reply::ok(WEIGHTS));
    let elsewhere = other.url("/weights");
    let server = hub(move |seen| {
        let weights = seen.path.ends_with("/model.safetensors");
        weights.then(|| Reply::redirect(302, &elsewhere))
    });
    let request = HubRequest {
        // Set for every test run by cargo; its value has the form of a key.
        key: Some(web::ApiKey::from_env("CARGO_PKG_NAME").unwrap()),
        ..request(&server)
    };
    assert!(!format!("{request:?}").contains("Bearer"));
    Place::new().fetch(&request).unwrap();
    for seen in server.log() {
        assert_eq!(seen.header("authorization"), Some("Bearer datasets"));
    }
    assert_eq!(other.log()[0].header("authorization"), None);
}

#[test]
fn a_hostile_pin_is_refused() {
    let server = hub(|_| None);
    let place = Place::new();
    place.fetch(&request(&server)).unwrap();
    let path = place.model().join(SOURCE_FILE);
    let good: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let change = |change: &dyn Fn(&mut Value)| {
        let mut pin = good.clone();
        change(&mut pin);
        fs::write(&path, pin.to_string()).unwrap();
        place.fetch(&request(&server)).unwrap_err()
    };
    for error in [
        change(&|pin| pin["files"]["../x"] = pin["files"]["config.json"].clone()),
        change(&|pin| pin["files"]["pytorch_model.bin"] = pin["files"]["config.json"].clone()),
        change(&|pin| pin["files"]["config.json"]["sha256"] = json!("x")),
        change(&|pin| pin["commit"] = json!("../../x")),
        change(&|pin| pin["model"] = json!("a/../b")),
        change(&|pin| pin["schema"] = json!("asterism/source/2")),
        change(&|pin| pin["more"] = json!(1)),
        change(&|pin| *pin = json!([])),
    ] {
        assert!(
            matches!(&error, HubError::Source { path: found, .. } if *found == path),
            "{error}"
        );
    }
    for text in [
        "",
        "{\"schema\": \"a\", \"schema\": \"a\"}",
        &"[".repeat(1_000_000),
    ] {
        fs::write(&path, text).unwrap();
        let error = place.fetch(&request(&server)).unwrap_err();
        assert!(matches!(error, HubError::Source { .. }), "{error}");
    }
}
