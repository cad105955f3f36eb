//! One try of a request against a local server, good and hostile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../datagen/tests/support/fault_server.rs"]
mod fault_server;

use std::time::Duration;

use fault_server::{FaultServer, Reply};
use web::{ApiKey, Client, Request, Rules, WebError};

fn client() -> Client {
    Client::new(Rules::default(), "web-test/1")
}

fn get(client: &Client, server: &FaultServer) -> Result<Vec<u8>, WebError> {
    client.send(&Request::get(&server.url("/a")))?.read(100)
}

fn failure(reply: Reply) -> WebError {
    let server = FaultServer::start(move |_| reply.clone());
    get(&client(), &server).unwrap_err()
}

#[test]
fn a_request_is_sent_and_read() {
    let server = FaultServer::start(|_| Reply::new(201, &[("Retry-After", "3")], "body"));
    let url = server.url("/a?b=1");
    let response = client().send(&Request::get(&url)).unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(response.retry_after(), Some(3));
    assert_eq!(response.content_length(), Some(4));
    assert_eq!(response.url().as_str(), url);
    assert_eq!(response.read(4).unwrap(), b"body");
    let post = Request::post_json(&url, b"[1]").authorization("Bearer secret");
    client().send(&post).unwrap();
    let log = server.log();
    assert_eq!(
        (log[0].method.as_str(), log[0].path.as_str()),
        ("GET", "/a?b=1")
    );
    assert_eq!(log[0].header("user-agent"), Some("web-test/1"));
    assert_eq!(log[0].header("authorization"), None);
    assert_eq!(
        (log[1].method.as_str(), log[1].body.as_str()),
        ("POST", "[1]")
    );
    assert_eq!(log[1].header("authorization"), Some("Bearer secret"));
    assert_eq!(format!("{post:?}"), format!("POST {url}"));
}

#[test]
fn pieces_come_in_order_and_may_fail() {
    let body = vec![b'x'; 300_000];
    let server = FaultServer::start({
        let body = body.clone();
        move |_| Reply::ok(&body)
    });
    let send = || client().send(&Request::get(&server.url("/"))).unwrap();
    let mut got = Vec::new();
    let total = send()
        .read_pieces(300_000, |piece| {
            got.extend_from_slice(piece);
            Ok::<(), WebError>(())
        })
        .unwrap();
    assert_eq!((total, got), (300_000, body));
    let own = WebError::Refused {
        url: String::new(),
        reason: "enough".to_owned(),
    };
    let stopped = send().read_pieces(300_000, |_| Err(own.clone()));
    assert_eq!(stopped, Err(own));
    assert_eq!(send().read_start(7), b"xxxxxxx");
}

#[test]
fn bodies_have_a_limit_and_an_end() {
    let long = "x".repeat(101);
    let error = failure(Reply::ok(&long));
    assert!(
        matches!(
            error,
            WebError::TooLarge {
                limit: 100,
                found: 101,
                ..
            }
        ),
        "{error}"
    );
    let error = failure(Reply::without_length(&long));
    assert!(
        matches!(
            error,
            WebError::TooLarge {
                limit: 100,
                found: 101,
                ..
            }
        ),
        "{error}"
    );
    let error = failure(Reply::ok("12345").cut(2));
    assert!(
        matches!(
            error,
            WebError::Truncated {
                expected: Some(5),
                found: 3,
                ..
            }
        ),
        "{error}"
    );
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let error = failure(Reply::Raw(chunked.to_vec()));
    assert!(
        matches!(
            error,
            WebError::Truncated {
                expected: None,
                found: 3,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn what_was_never_sent_is_told_from_what_was_lost() {
    for reply in [Reply::Reset, Reply::Raw(b"no http\r\n\r\n".to_vec())] {
        let error = failure(reply);
        assert!(
            matches!(error, WebError::Transport { sent: true, .. }),
            "{error}"
        );
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}/");
    let error = client().send(&Request::get(&url)).unwrap_err();
    assert!(
        matches!(error, WebError::Transport { sent: false, .. }),
        "{error}"
    );
}

#[test]
fn time_is_limited_for_head_and_body_and_all_redirects_together() {
    let rules = Rules {
        total_timeout: Duration::from_millis(200),
        max_redirects: 1000,
        ..Rules::default()
    };
    let client = Client::new(rules, "web-test/1");
    let whole = Reply::ok("12345").bytes();
    for reply in [
        Reply::Stall(Vec::new()),
        Reply::Stall(whole[..whole.len() - 2].to_vec()),
        Reply::Drip(whole, Duration::from_millis(20)),
    ] {
        let server = FaultServer::start(move |_| reply.clone());
        let error = get(&client, &server).unwrap_err();
        assert!(
            matches!(error, WebError::Transport { sent: true, .. }),
            "{error}"
        );
    }
    let server = FaultServer::start(|_| {
        std::thread::sleep(Duration::from_millis(20));
        Reply::redirect(307, "/a")
    });
    let error = get(&client, &server).unwrap_err();
    assert!(matches!(error, WebError::Transport { .. }), "{error}");
    assert!(server.hits() < 20, "{}", server.hits());
}

#[test]
fn a_post_is_not_turned_into_a_get() {
    let server = FaultServer::start(|seen| match seen.path.as_str() {
        "/see-other" => Reply::redirect(303, "/b"),
        "/a" => Reply::redirect(302, "/b"),
        _ => Reply::ok(&seen.method),
    });
    let sent = |path: &str, post: bool| {
        let url = server.url(path);
        let request = if post {
            Request::post_json(&url, b"{}")
        } else {
            Request::get(&url)
        };
        client().send(&request).unwrap()
    };
    assert_eq!(sent("/a", true).read(9).unwrap(), b"POST");
    assert_eq!(sent("/a", false).read(9).unwrap(), b"GET");
    assert_eq!(sent("/see-other", false).read(9).unwrap(), b"GET");
    assert_eq!(sent("/see-other", true).status(), 303);
}

#[test]
fn an_authorization_that_is_no_header_is_refused_without_showing_it() {
    let server = FaultServer::start(|_| Reply::ok(""));
    let url = server.url("/");
    let request = Request::get(&url).authorization("Bearer planted\r\nX: y");
    let error = client().send(&request).unwrap_err();
    assert!(matches!(error, WebError::Refused { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("planted"));
    assert_eq!(server.hits(), 0);
}

#[test]
fn a_name_that_does_not_resolve_was_never_sent() {
    // A label of more than 63 characters is refused before any server of names is asked.
    let url = format!("https://{}.invalid/", "a".repeat(70));
    let error = client().send(&Request::get(&url)).unwrap_err();
    assert!(
        matches!(&error, WebError::Transport { sent: false, reason, .. }
            if reason.contains("does not resolve")),
        "{error}"
    );
}

#[test]
fn headers_of_the_asked_server_outlive_redirects() {
    let other = FaultServer::start(|_| {
        Reply::new(200, &[("X-Mark", "theirs"), ("X-More", "theirs")], "body")
    });
    let elsewhere = other.url("/");
    let server = FaultServer::start(move |seen| match seen.path.as_str() {
        "/plain" => Reply::new(302, &[("Location", "/marked")], ""),
        "/marked" => Reply::new(302, &[("Location", "/last"), ("X-Mark", "redirect")], ""),
        "/away" => Reply::new(302, &[("Location", &elsewhere), ("X-Mark", "away")], ""),
        "/bare" => Reply::redirect(302, &elsewhere),
        _ => Reply::new(200, &[("X-Mark", "last"), ("X-More", "last")], "body"),
    });
    for (path, mark, more) in [
        ("/last", Some("last"), Some("last")),
        ("/marked", Some("redirect"), Some("last")),
        ("/plain", Some("redirect"), Some("last")),
        ("/away", Some("away"), None),
        ("/bare", None, None),
    ] {
        let url = server.url(path);
        let response = client().send(&Request::get(&url)).unwrap();
        assert_eq!(response.header_of_asked("x-mark"), mark, "{path}");
        assert_eq!(response.header_of_asked("x-more"), more, "{path}");
        assert_eq!(response.read(4).unwrap(), b"body");
    }
}

#[test]
fn a_key_is_sent_and_not_shown() {
    let server = FaultServer::start(|_| Reply::ok("x"));
    let key = ApiKey::from_env("CARGO_PKG_NAME").unwrap();
    let url = server.url("/a");
    let request = Request::get(&url).bearer(&key);
    client().send(&request).unwrap();
    assert_eq!(server.log()[0].header("authorization"), Some("Bearer web"));
    assert_eq!(format!("{request:?}"), format!("GET {url}"));
}
