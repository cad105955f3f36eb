//! The chat client against a local server that misbehaves in every way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/fault_server.rs"]
mod fault_server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use datagen::chat::{
    Answer, AnswerSource, ApiKey, Budget, BudgetLimits, Call, ChatClient, ChatConfig, ChatError,
    ChatRequest, Spent, Usage,
};
use fault_server::{FaultServer, Reply, Seen, completion, completion_of};
use serde_json::{Value, json};

/// The middle of the planted key: also part of any half of it that might be shown.
const CANARY: &str = "planted";
const PLANTED: &str = "sk-planted-0123456789abcdef";

fn key() -> ApiKey {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, format!("{PLANTED}\n")).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    ApiKey::from_file(&path).unwrap()
}

fn quick(server: &FaultServer) -> ChatConfig {
    ChatConfig {
        backoff: Duration::from_millis(1),
        total_timeout: Duration::from_secs(20),
        max_tries: 3,
        ..ChatConfig::new(server.url("/v1"), "tiny")
    }
}

fn client(server: &FaultServer) -> ChatClient {
    ChatClient::new(quick(server), Some(key()), Arc::new(Budget::unlimited())).unwrap()
}

fn call(id: &str) -> Call {
    Call {
        id: id.to_owned(),
        kind: "nli/entailment".to_owned(),
        source: "A cat sleeps.".to_owned(),
        request: ChatRequest {
            system: "Say less.".to_owned(),
            user: "A cat sleeps.".to_owned(),
            temperature: 0.5,
            max_tokens: 20,
            schema: None,
        },
    }
}

fn structured_call(id: &str) -> Call {
    let mut call = call(id);
    call.request.schema = Some(json!({"type": "object", "required": ["name"]}));
    call
}

fn ask(client: &ChatClient) -> Result<Answer, ChatError> {
    client.answer(&call("0"), 0)
}

/// The one failure that a server with this reply leads to.
fn failure(reply: Reply) -> ChatError {
    let server = FaultServer::start(move |_| reply.clone());
    ask(&client(&server)).unwrap_err()
}

fn last(error: ChatError, expected_tries: u32) -> ChatError {
    match error {
        ChatError::GaveUp { tries, last } if tries == expected_tries => *last,
        other => panic!("{other}"),
    }
}

fn body(seen: &Seen) -> Value {
    serde_json::from_str(&seen.body).unwrap()
}

const COUNTED: Usage = Usage {
    prompt_tokens: 10,
    completion_tokens: 5,
};

/// What a lost answer to [`call`] counts: 3 + 4 + 8 tokens of the prompt and the longest answer.
const LOST: Usage = Usage {
    prompt_tokens: 15,
    completion_tokens: 20,
};

#[test]
fn a_request_has_the_form_of_the_protocol() {
    let server = FaultServer::start(|_| Reply::ok(completion("A cat rests.")));
    let config = ChatConfig {
        seed: Some(u32::MAX),
        ..quick(&server)
    };
    let client = ChatClient::new(config, Some(key()), Arc::new(Budget::unlimited())).unwrap();
    assert_eq!(client.name(), "tiny");
    let answer = client.answer(&call("0"), 1).unwrap();
    assert_eq!(answer.text, "A cat rests.");
    assert_eq!(answer.usage, COUNTED);
    let log = server.log();
    let [seen] = log.as_slice() else {
        panic!("{log:?}")
    };
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str()),
        ("POST", "/v1/chat/completions")
    );
    assert_eq!(
        seen.header("authorization"),
        Some(format!("Bearer {PLANTED}").as_str())
    );
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(
        body(seen),
        json!({
            "model": "tiny",
            "messages": [
                {"role": "system", "content": "Say less."},
                {"role": "user", "content": "A cat sleeps."},
            ],
            "temperature": 0.5,
            "max_tokens": 20,
            "seed": 0,
        })
    );
    let spent = client.budget().spent();
    assert_eq!(
        (spent.calls, spent.prompt_tokens, spent.completion_tokens),
        (1, 10, 5)
    );
}

#[test]
fn no_key_and_no_system_text_are_left_out() {
    let server = FaultServer::start(|_| Reply::ok(completion("x")));
    let client = ChatClient::new(quick(&server), None, Arc::new(Budget::unlimited())).unwrap();
    let mut call = call("0");
    call.request.system.clear();
    client.answer(&call, 0).unwrap();
    let seen = &server.log()[0];
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(body(seen)["messages"].as_array().unwrap().len(), 1);
    assert_eq!(body(seen).get("seed"), None);
}

#[test]
fn base_urls_are_checked() {
    let new = |base: &str, key: Option<ApiKey>, allow_private| {
        let config = ChatConfig {
            allow_private,
            ..ChatConfig::new(base, "tiny")
        };
        ChatClient::new(config, key, Arc::new(Budget::unlimited())).map(drop)
    };
    for base in [
        "http://127.0.0.1:1/v1",
        "http://127.0.0.1:1/v1/",
        "http://localhost:1",
        "http://[::1]:1/v1/chat/completions",
    ] {
        new(base, None, false).unwrap();
    }
    new("https://models.example.org/v1", Some(key()), false).unwrap();
    new("https://192.168.0.7/v1", None, true).unwrap();
    for base in [
        "http://models.example.org/v1",
        "https://192.168.0.7/v1",
        "https://user:pw@models.example.org/v1",
        "models.example.org",
        "",
    ] {
        let error = new(base, Some(key()), false).unwrap_err();
        assert!(matches!(error, ChatError::Refused { .. }), "{error}");
        assert!(
            error.is_fatal() && !error.to_string().contains("pw@"),
            "{error}"
        );
    }
    for (base, key) in [
        ("https://models.example.org/v1", None),
        ("https://models.example.org/v1?a=b", Some(key())),
        ("https://models.example.org/v1#a", Some(key())),
    ] {
        let error = new(base, key, false).unwrap_err();
        assert!(
            matches!(
                error,
                ChatError::Config {
                    field: "base_url",
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn bad_settings_are_named() {
    let standard = ChatConfig::new("http://127.0.0.1:1", "tiny");
    for (config, name) in [
        (
            ChatConfig {
                model: " ".into(),
                ..standard.clone()
            },
            "model",
        ),
        (
            ChatConfig {
                model: "a\nb".into(),
                ..standard.clone()
            },
            "model",
        ),
        (
            ChatConfig {
                max_tries: 0,
                ..standard.clone()
            },
            "max_tries",
        ),
        (
            ChatConfig {
                total_timeout: Duration::ZERO,
                ..standard.clone()
            },
            "total_timeout",
        ),
    ] {
        let error = ChatClient::new(config, None, Arc::new(Budget::unlimited())).unwrap_err();
        assert!(
            matches!(error, ChatError::Config { field, .. } if field == name),
            "{error}"
        );
    }
    let client = ChatClient::new(standard, None, Arc::new(Budget::unlimited())).unwrap();
    for temperature in [f64::NAN, f64::INFINITY, -1.0] {
        let mut call = call("0");
        call.request.temperature = temperature;
        let error = client.answer(&call, 0).unwrap_err();
        assert!(
            matches!(
                error,
                ChatError::Config {
                    field: "temperature",
                    ..
                }
            ),
            "{error}"
        );
    }
    assert_eq!(client.budget().spent(), Spent::default());
}

#[test]
fn passing_failures_are_tried_again() {
    type Failure = fn() -> Reply;
    let failures: [(&str, Failure); 8] = [
        ("429", || Reply::new(429, &[], "slow down")),
        ("429 with seconds", || {
            Reply::new(429, &[("Retry-After", "0")], "")
        }),
        ("429 with a date", || {
            Reply::new(429, &[("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT")], "")
        }),
        ("500", || Reply::new(500, &[], "<html>oops")),
        ("503", || Reply::new(503, &[], "")),
        ("cut body", || Reply::ok(completion("x")).cut(9)),
        ("cut body of unknown length", || {
            Reply::without_length(completion("x")).cut(9)
        }),
        ("reset", || Reply::Reset),
    ];
    for (name, fail) in failures {
        let server = FaultServer::start(move |seen| {
            if seen.hit < 3 {
                fail()
            } else {
                Reply::ok(completion("at last"))
            }
        });
        let client = client(&server);
        assert_eq!(ask(&client).unwrap().text, "at last", "{name}");
        assert_eq!(server.hits(), 3, "{name}");
        // Each try counts; what was lost on the way counts in full, an error status nothing.
        let lost = match name {
            "cut body" | "cut body of unknown length" | "reset" => 2,
            _ => 0,
        };
        let spent = client.budget().spent();
        assert_eq!(spent.calls, 3, "{name}");
        assert_eq!(
            spent.prompt_tokens,
            lost * LOST.prompt_tokens + 10,
            "{name}"
        );
        assert_eq!(
            spent.completion_tokens,
            lost * LOST.completion_tokens + 5,
            "{name}"
        );
    }
}

#[test]
fn lasting_failures_end_after_the_tries() {
    for status in [408, 429, 500, 502, 503, 504] {
        let server = FaultServer::start(move |_| Reply::new(status, &[], r#"{"error":"busy"}"#));
        let client = client(&server);
        let error = ask(&client).unwrap_err();
        assert!(!error.is_fatal() && error.paid().is_none(), "{error}");
        let last = last(error, 3);
        assert!(
            matches!(&last, ChatError::Status { status: s, reason, .. } if *s == status && reason == "busy"),
            "{last}"
        );
        assert_eq!((server.hits(), client.budget().spent().calls), (3, 3));
    }
}

#[test]
fn retry_after_is_obeyed_up_to_a_limit() {
    for wish in [
        "61",
        "99999999999999999999",
        "Fri, 31 Dec 9999 23:59:59 GMT",
    ] {
        let server = FaultServer::start(move |_| Reply::new(429, &[("Retry-After", wish)], ""));
        let last = last(ask(&client(&server)).unwrap_err(), 1);
        assert!(last.to_string().contains("asks for a pause of"), "{last}");
        assert_eq!(server.hits(), 1);
    }
    let server = FaultServer::start(|seen| match seen.hit {
        1 => Reply::new(503, &[("Retry-After", "1")], ""),
        _ => Reply::ok(completion("x")),
    });
    let start = std::time::Instant::now();
    ask(&client(&server)).unwrap();
    // A lower bound alone: the pause asked for is far above the client's own of 1 ms.
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn servers_that_never_finish_run_into_the_time_limit() {
    let whole = || Reply::ok(completion("x")).bytes();
    let head = Reply::ok(completion("x")).bytes()[..20].to_vec();
    let body = Reply::ok(completion("x")).bytes()[..90].to_vec();
    for reply in [
        Reply::Stall(Vec::new()),
        Reply::Stall(head),
        Reply::Stall(body),
        Reply::Drip(whole(), Duration::from_millis(20)),
    ] {
        let server = FaultServer::start(move |_| reply.clone());
        let config = ChatConfig {
            total_timeout: Duration::from_millis(150),
            max_tries: 2,
            ..quick(&server)
        };
        let client = ChatClient::new(config, None, Arc::new(Budget::unlimited())).unwrap();
        let last = last(ask(&client).unwrap_err(), 2);
        assert!(matches!(last, ChatError::Transport { .. }), "{last}");
        let spent = client.budget().spent();
        assert_eq!(spent.completion_tokens, 2 * LOST.completion_tokens);
    }
}

#[test]
fn a_closed_port_costs_calls_but_no_tokens() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let config = ChatConfig {
        backoff: Duration::from_millis(1),
        ..ChatConfig::new(format!("http://127.0.0.1:{port}/v1"), "tiny")
    };
    let client = ChatClient::new(config, None, Arc::new(Budget::unlimited())).unwrap();
    let last = last(ask(&client).unwrap_err(), 5);
    assert!(matches!(last, ChatError::Transport { .. }), "{last}");
    let spent = client.budget().spent();
    assert_eq!((spent.calls, spent.tokens()), (5, 0));
}

#[test]
fn refused_keys_and_unknown_models_are_fatal() {
    let refused = |status, client: fn(&FaultServer) -> ChatClient| {
        let server = FaultServer::start(move |_| {
            Reply::new(
                status,
                &[],
                r#"{"error": {"message": "no entry", "code": 1}}"#,
            )
        });
        let error = ask(&client(&server)).unwrap_err();
        assert!(error.is_fatal(), "{error}");
        assert_eq!(server.hits(), 1);
        error.to_string()
    };
    for status in [401, 403] {
        let text = refused(status, client);
        assert!(
            text.contains("no entry; check that the key is right"),
            "{text}"
        );
        let text = refused(status, |server| {
            ChatClient::new(quick(server), None, Arc::new(Budget::unlimited())).unwrap()
        });
        assert!(text.contains("give an API key"), "{text}");
    }
    let text = refused(404, client);
    assert!(
        text.contains("`tiny`") && text.contains("/v1/chat/completions"),
        "{text}"
    );
    assert!(refused(402, client).contains("needs credit"));

    let quota = failure(Reply::new(
        429,
        &[],
        r#"{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}"#,
    ));
    assert!(
        matches!(quota, ChatError::NoCredit { status: 429, .. }),
        "{quota}"
    );
}

#[test]
fn a_refused_request_fails_alone() {
    for status in [400, 405, 409, 413, 422] {
        let server = FaultServer::start(move |_| Reply::new(status, &[], "too\nlong \u{1b}[2J"));
        let error = ask(&client(&server)).unwrap_err();
        assert!(!error.is_fatal(), "{error}");
        assert!(
            matches!(&error, ChatError::Rejected { status: s, reason, .. }
                if *s == status && reason == r"too\nlong \u{1b}[2J"),
            "{error}"
        );
        assert_eq!(server.hits(), 1);
    }
    let error = failure(Reply::new(400, &[], "é".repeat(10_000)));
    assert!(error.to_string().chars().count() < 500, "{error}");
}

#[test]
fn bodies_that_are_no_completion_are_typed_errors() {
    let with = |from: &str, to: &str| {
        let whole = completion("x");
        assert!(whole.contains(from));
        Reply::ok(whole.replace(from, to))
    };
    let garbled = [
        Reply::ok("not json"),
        Reply::ok("<html></html>"),
        Reply::ok("[1, 2]"),
        Reply::ok("7"),
        Reply::ok("{}"),
        Reply::ok(r#"{"error": {"message": "overloaded"}}"#),
        Reply::ok(completion("x").replace("choices", "choice")),
        Reply::ok([b"{\"choices\": [\"\xff\xfe\"]}".as_slice()].concat()),
        Reply::ok("[".repeat(100_000)),
        with("\"message\"", "\"delta\""),
        with("\"x\"", "[1]"),
    ];
    for reply in garbled {
        let server = FaultServer::start(move |_| reply.clone());
        let client = client(&server);
        let error = ask(&client).unwrap_err();
        assert!(matches!(error, ChatError::Garbled { .. }), "{error}");
        assert!(!error.is_fatal() && error.paid().is_some(), "{error}");
        assert_eq!((server.hits(), client.budget().spent().calls), (1, 1));
    }
    let empty = last(failure(Reply::ok("")), 3);
    assert!(
        matches!(empty, ChatError::Truncated { found: 0, .. }),
        "{empty}"
    );
}

#[test]
fn completions_without_text_are_typed_errors() {
    let of = |choice: Value| {
        let body = json!({
            "choices": [choice],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        });
        let error = failure(Reply::ok(body.to_string()));
        assert_eq!(error.paid(), Some(COUNTED), "{error}");
        assert!(!error.is_fatal(), "{error}");
        error
    };
    let none = failure(Reply::ok(r#"{"choices": []}"#));
    assert!(matches!(none, ChatError::NoChoices { .. }), "{none}");
    let null = of(json!({"message": {"content": null}, "finish_reason": "stop"}));
    assert!(matches!(&null, ChatError::NoText { finish_reason, .. } if finish_reason == "stop"));
    let absent = of(json!({"message": {}}));
    assert!(matches!(&absent, ChatError::NoText { finish_reason, .. } if finish_reason == "none"));
    for content in [Value::Null, json!("")] {
        let tool = of(json!({"message": {"content": content, "tool_calls": [{"id": "1"}]}}));
        assert!(matches!(tool, ChatError::ToolCall { .. }), "{tool}");
    }
    let refusal = of(json!({"message": {"content": null, "refusal": "I will not"}}));
    assert!(matches!(&refusal, ChatError::Declined { reason, .. } if reason == "I will not"));
    let filter = of(json!({"message": {"content": "x"}, "finish_reason": "content_filter"}));
    assert!(matches!(filter, ChatError::Declined { .. }), "{filter}");
    let long = of(json!({"message": {"content": "and so"}, "finish_reason": "length"}));
    assert!(
        matches!(&long, ChatError::CutOff { limit: 20, start, .. } if start == "and so"),
        "{long}"
    );
    // Text is text, whatever stands beside it; an empty one is for the checks to judge.
    let server = FaultServer::start(|seen| {
        let message = match seen.hit {
            1 => json!({"content": "yes", "tool_calls": [{"id": "1"}]}),
            _ => json!({"content": "", "tool_calls": [], "refusal": null}),
        };
        Reply::ok(json!({"choices": [{"message": message}]}).to_string())
    });
    let client = client(&server);
    assert_eq!(ask(&client).unwrap().text, "yes");
    assert_eq!(ask(&client).unwrap().text, "");
}

#[test]
fn usage_is_estimated_where_the_server_does_not_count() {
    for (usage, expected) in [
        (Value::Null, (15, 2)),
        (json!({"prompt_tokens": 3}), (3, 2)),
        (
            json!({"prompt_tokens": -1, "completion_tokens": "7"}),
            (15, 2),
        ),
        (
            json!({"prompt_tokens": 1.5, "completion_tokens": 0}),
            (15, 0),
        ),
    ] {
        let body = json!({"choices": [{"message": {"content": "12345"}}], "usage": usage});
        let server = FaultServer::start(move |_| Reply::ok(body.to_string()));
        let usage = ask(&client(&server)).unwrap().usage;
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), expected);
    }
}

#[test]
fn huge_bodies_are_cut_off() {
    for reply in [
        Reply::ok(completion(&"x".repeat(5000))),
        Reply::without_length(completion(&"x".repeat(5000))),
    ] {
        let server = FaultServer::start(move |_| reply.clone());
        let config = ChatConfig {
            max_answer_bytes: 4000,
            ..quick(&server)
        };
        let client = ChatClient::new(config, None, Arc::new(Budget::unlimited())).unwrap();
        let error = ask(&client).unwrap_err();
        assert!(
            matches!(
                error,
                ChatError::TooLarge {
                    limit: 4000,
                    usage: LOST,
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(server.hits(), 1);
    }
    let huge = Reply::new(200, &[("X-Long", &"a".repeat(100_000))], completion("x"));
    assert!(matches!(
        last(failure(huge), 3),
        ChatError::Transport { .. }
    ));
}

#[test]
fn redirects_keep_the_body_and_on_the_same_server_the_key() {
    for status in [301, 302, 307, 308] {
        let server = FaultServer::start(move |seen| match seen.path.as_str() {
            "/v1/chat/completions" => Reply::redirect(status, "/v2/ask"),
            _ => Reply::ok(completion("x")),
        });
        ask(&client(&server)).unwrap();
        let log = server.log();
        assert_eq!(log[1].path, "/v2/ask");
        assert_eq!(log[1].method, "POST");
        assert_eq!(log[0].body, log[1].body);
        assert!(
            log.iter()
                .all(|seen| seen.header("authorization").is_some())
        );
    }
    let see_other = failure(Reply::redirect(303, "/v2/ask"));
    assert!(
        matches!(see_other, ChatError::Status { status: 303, .. }),
        "{see_other}"
    );
    let nowhere = failure(Reply::new(307, &[], ""));
    assert!(
        matches!(nowhere, ChatError::Status { status: 307, .. }),
        "{nowhere}"
    );
}

#[test]
fn a_redirect_to_another_server_does_not_carry_the_key() {
    let home = Arc::new(std::sync::OnceLock::<String>::new());
    let back = Arc::clone(&home);
    let other = FaultServer::start(move |_| Reply::redirect(307, back.get().unwrap()));
    let to = other.url("/elsewhere");
    let server = FaultServer::start(move |seen| match seen.path.as_str() {
        "/v1/chat/completions" => Reply::redirect(307, &to),
        _ => Reply::ok(completion("x")),
    });
    home.set(server.url("/back")).unwrap();
    ask(&client(&server)).unwrap();
    assert_eq!(other.log()[0].header("authorization"), None);
    assert!(other.log()[0].body.contains("A cat sleeps."));
    let log = server.log();
    assert!(log[0].header("authorization").is_some());
    assert_eq!(
        (log[1].path.as_str(), log[1].header("authorization")),
        ("/back", None)
    );
}

#[test]
fn redirects_to_addresses_that_are_not_allowed_are_refused() {
    for target in [
        "https://10.0.0.1/v1",
        "https://169.254.169.254/latest/meta-data",
        "https://[fd00::1]/v1",
        "https://[::ffff:192.168.0.1]/v1",
        "http://models.example.org/v1",
        "http://192.168.0.1/v1",
        "file:///etc/passwd",
        "https://user:pw@models.example.org/v1",
        "https://[bad",
    ] {
        let server = FaultServer::start(move |_| Reply::redirect(307, target));
        let error = ask(&client(&server)).unwrap_err();
        assert!(
            matches!(error, ChatError::Refused { .. }),
            "{target}: {error}"
        );
        assert!(error.is_fatal());
        assert_eq!(server.hits(), 1);
    }
    let server = FaultServer::start(|_| Reply::redirect(307, "https://models.example.org/v1"));
    let config = ChatConfig {
        allowed_hosts: Some(vec!["127.0.0.1".to_owned()]),
        ..quick(&server)
    };
    let client = ChatClient::new(config, None, Arc::new(Budget::unlimited())).unwrap();
    let error = ask(&client).unwrap_err();
    assert!(
        error.to_string().contains("list of allowed hosts"),
        "{error}"
    );
}

#[test]
fn redirect_loops_end() {
    let server = FaultServer::start(|_| Reply::redirect(308, "/v1/chat/completions"));
    let error = ask(&client(&server)).unwrap_err();
    assert!(
        matches!(error, ChatError::TooManyRedirects { limit: 3, .. }),
        "{error}"
    );
    assert_eq!(server.hits(), 4);
}

#[test]
fn a_schema_is_sent_and_a_refusal_is_remembered() {
    let server = FaultServer::start(|_| Reply::ok(completion_of(r#""{\"name\": 1}""#)));
    let able = client(&server);
    let answer = able.answer(&structured_call("0"), 0).unwrap();
    assert_eq!(answer.text, r#"{"name": 1}"#);
    assert_eq!(
        body(&server.log()[0])["response_format"],
        json!({"type": "json_schema", "json_schema": {
            "name": "nli_entailment", "strict": true,
            "schema": {"type": "object", "required": ["name"]},
        }})
    );
    for (status, reason) in [
        (400, "response_format is not supported"),
        (400, "unknown field json_schema"),
        (422, "unprocessable"),
    ] {
        let server = FaultServer::start(move |seen| {
            if body(seen).get("response_format").is_some() {
                Reply::new(status, &[], json!({"detail": reason}).to_string())
            } else {
                Reply::ok(completion("x"))
            }
        });
        let client = client(&server);
        for id in ["0", "1"] {
            client.answer(&structured_call(id), 0).unwrap();
        }
        assert_eq!((server.hits(), client.budget().spent().calls), (3, 3));
        let system = body(&server.log()[2])["messages"][0]["content"].clone();
        let system = system.as_str().unwrap();
        assert!(
            system.starts_with("Say less.\n\nAnswer with one JSON value"),
            "{system}"
        );
        assert!(
            system.ends_with(r#"{"type":"object","required":["name"]}"#),
            "{system}"
        );
    }
}

#[test]
fn other_refusals_of_structured_calls_are_not_remembered() {
    let server = FaultServer::start(|seen| match seen.hit {
        1 | 2 => Reply::new(422, &[], "prompt too long"),
        3 => Reply::new(400, &[], "prompt too long"),
        _ => Reply::ok(completion("x")),
    });
    let client = client(&server);
    for _ in 0..2 {
        let error = client.answer(&structured_call("0"), 0).unwrap_err();
        assert!(matches!(error, ChatError::Rejected { .. }), "{error}");
    }
    client.answer(&structured_call("0"), 0).unwrap();
    let log = server.log();
    let with: Vec<bool> = log
        .iter()
        .map(|seen| body(seen).get("response_format").is_some())
        .collect();
    assert_eq!(with, [true, false, true, true]);
}

#[test]
fn a_server_that_wants_the_newer_name_of_the_limit_gets_it() {
    let server = FaultServer::start(|seen| {
        let body = body(seen);
        match (body.get("max_tokens"), body.get("response_format")) {
            (Some(_), _) => Reply::new(400, &[], "use 'max_completion_tokens' instead"),
            (None, Some(_)) => Reply::new(400, &[], "no response_format please"),
            (None, None) => Reply::ok(completion("x")),
        }
    });
    let client = client(&server);
    client.answer(&structured_call("0"), 0).unwrap();
    client.answer(&structured_call("1"), 0).unwrap();
    let log = server.log();
    assert_eq!(log.len(), 4);
    assert_eq!(body(&log[3])["max_completion_tokens"], 20);
}

#[test]
fn the_budget_is_checked_before_each_try() {
    let server = FaultServer::start(|_| Reply::new(500, &[], ""));
    let limited = |max_calls, max_tokens| {
        let budget = Budget::new(BudgetLimits {
            max_calls,
            max_tokens,
        });
        ChatClient::new(quick(&server), None, Arc::new(budget)).unwrap()
    };
    let error = ask(&limited(Some(2), None)).unwrap_err();
    assert!(
        matches!(
            error,
            ChatError::Budget {
                unit: "calls",
                limit: 2,
                spent: 2,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(server.hits(), 2);
    let error = ask(&limited(None, Some(100))).unwrap_err();
    assert!(
        matches!(error, ChatError::Budget { unit: "tokens", .. }),
        "{error}"
    );
    assert_eq!(server.hits(), 2);
}

#[test]
fn a_raised_flag_ends_pauses_and_sends_nothing_more() {
    let stop = Arc::new(AtomicBool::new(false));
    let raise = Arc::clone(&stop);
    let server = FaultServer::start(move |_| {
        raise.store(true, Ordering::SeqCst);
        Reply::new(503, &[("Retry-After", "30")], "")
    });
    let client = client(&server).stopped_by(stop);
    assert_eq!(ask(&client), Err(ChatError::Stopped));
    assert_eq!(ask(&client), Err(ChatError::Stopped));
    assert_eq!((server.hits(), client.budget().spent().calls), (1, 1));
}

/// Answers of every kind by a server that repeats the key wherever it can.
#[test]
fn a_planted_key_is_never_shown() {
    let echo = format!("invalid key {PLANTED} of Bearer {PLANTED}");
    let quoted = json!(echo).to_string();
    let mut replies: Vec<Reply> = [400, 401, 402, 403, 404, 409, 422, 429, 500, 503, 302]
        .into_iter()
        .flat_map(|status| {
            [
                Reply::new(status, &[("Retry-After", PLANTED)], &echo),
                Reply::new(status, &[], json!({"error": {"message": echo}}).to_string()),
                Reply::new(status, &[], json!({"error": {"who": echo}}).to_string()),
                // The limit of what is shown falls into the key.
                Reply::new(status, &[], format!("{}{echo}", "x".repeat(280))),
            ]
        })
        .collect();
    for target in [
        format!("https://10.0.0.1/{PLANTED}"),
        format!("/{PLANTED}"),
        format!("https://{PLANTED}"),
        format!("https://[{PLANTED}"),
        format!("https://{PLANTED}@10.0.0.1/"),
    ] {
        replies.push(Reply::redirect(307, &target));
    }
    let choice = |choice: Value| Reply::ok(json!({"choices": [choice]}).to_string());
    replies.extend([
        Reply::ok(&echo),
        Reply::ok(&quoted),
        Reply::ok(completion_of(&quoted)),
        Reply::ok(completion_of(&quoted)).cut(30),
        Reply::ok(json!({"error": {"message": echo}}).to_string()),
        choice(json!({"message": {"content": echo}, "finish_reason": "length"})),
        choice(json!({"message": {"content": null}, "finish_reason": PLANTED})),
        choice(json!({"message": {"refusal": echo}})),
        Reply::Raw(format!("{echo}\r\n\r\n").into_bytes()),
        Reply::Raw(format!("HTTP/1.1 {echo}\r\n\r\n").into_bytes()),
        Reply::Raw(format!("HTTP/1.1 200 OK\r\n{echo}\r\n\r\n").into_bytes()),
    ]);
    for reply in replies {
        let name = format!("{reply:?}");
        let server = FaultServer::start(move |_| reply.clone());
        let client = client(&server);
        let outcome = client.answer(&structured_call("0"), 0);
        let mut shown = format!("{outcome:?} {client:?} {:?}", client.budget());
        if let Err(error) = outcome {
            shown += &error.to_string();
        }
        assert!(!shown.contains(CANARY), "{shown}\n{name}");
    }
}

#[test]
fn thousand_calls_of_many_threads_keep_exactly_to_the_budget() {
    const CALLS: usize = 1000;
    const THREADS: usize = 32;
    // Every fifth request fails; the others cost 15 tokens each.
    let run = |limits: BudgetLimits| {
        let server = FaultServer::start(|seen| match seen.hit % 5 {
            0 => Reply::new(503, &[], ""),
            _ => Reply::ok(completion("x")),
        });
        let budget = Arc::new(Budget::new(limits));
        let config = ChatConfig {
            max_tries: 50,
            max_pause: Duration::from_millis(1),
            ..quick(&server)
        };
        let client = ChatClient::new(config, Some(key()), Arc::clone(&budget)).unwrap();
        let (next, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        if number >= CALLS {
                            break;
                        }
                        match client.answer(&call(&number.to_string()), 0) {
                            Ok(_) => drop(answered.fetch_add(1, Ordering::SeqCst)),
                            Err(error) => {
                                assert!(matches!(error, ChatError::Budget { .. }), "{error}");
                            }
                        }
                    }
                });
            }
        });
        assert!(server.most_open() <= THREADS);
        let (answered, spent) = (answered.into_inner(), budget.spent());
        assert_eq!(spent.calls, server.hits() as u64);
        assert_eq!(spent.calls as usize - answered, server.hits() / 5);
        assert_eq!(spent.tokens(), 15 * answered as u64);
        (answered, spent)
    };
    // Room for every call: 1,249 requests of which 249 fail, and 1 more.
    let (answered, spent) = run(BudgetLimits {
        max_calls: Some(1250),
        max_tokens: Some(15 * CALLS as u64 + 1000),
    });
    assert_eq!((answered, spent.calls), (CALLS, 1249));
    let (answered, spent) = run(BudgetLimits {
        max_calls: Some(700),
        max_tokens: None,
    });
    assert_eq!((answered, spent.calls), (560, 700));
    // Tokens: requests are sent as long as the longest answer would still fit.
    let (_, spent) = run(BudgetLimits {
        max_calls: None,
        max_tokens: Some(6000),
    });
    assert!(
        spent.tokens() <= 6000 && spent.tokens() > 6000 - 300,
        "{spent:?}"
    );
}
