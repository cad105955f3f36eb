//! Downloads from a small local server, good and hostile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use datasets::fetch::{FetchStatus, ManifestFile};
use datasets::hash::sha256_hex;
use datasets::{FetchError, FetchOptions, Manifest, fetch};
use tempfile::TempDir;

/// Answers each request with the bytes that `answer(path, hit)` gives, `hit` counting from 1.
struct Server {
    port: u16,
    hits: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: impl Fn(&str, usize) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let hits = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (count, log) = (Arc::clone(&hits), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { break };
                let hit = count.fetch_add(1, Ordering::SeqCst) + 1;
                serve(stream, |path| {
                    log.lock().unwrap().push(path.to_owned());
                    answer(path, hit)
                });
            }
        });
        Self {
            port,
            hits,
            requests,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, answer: impl FnOnce(&str) -> Vec<u8>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    if reader.read_line(&mut first).is_err() {
        return;
    }
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
        line.clear();
    }
    let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
    let _ = stream.write_all(&answer(&path));
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn redirect(to: &str) -> Vec<u8> {
    reply("302 Found", &format!("Location: {to}\r\n"), b"")
}

const BODY: &[u8] = b"text\tlabel\nhello\tgreet_x\n";

fn manifest(url: String, body: &[u8]) -> Manifest {
    Manifest {
        name: "sample".into(),
        title: "t".into(),
        source: "s".into(),
        licence: "l".into(),
        files: vec![ManifestFile {
            path: "part/train.tsv".into(),
            url,
            bytes: body.len() as u64,
            sha256: sha256_hex(body),
        }],
    }
}

fn quick() -> FetchOptions {
    FetchOptions {
        backoff: Duration::from_millis(1),
        total_timeout: Duration::from_secs(20),
        max_tries: 3,
        ..FetchOptions::default()
    }
}

fn names_below(dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                out.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    out
}

/// Fetches and checks that a failure leaves nothing behind.
fn failure(manifest: &Manifest, options: &FetchOptions) -> FetchError {
    let dir = TempDir::new().unwrap();
    let error = fetch(manifest, dir.path(), options, &mut |_| {}).unwrap_err();
    assert_eq!(names_below(dir.path()), Vec::<String>::new());
    error
}

#[test]
fn good_file_is_verified_kept_and_not_fetched_again() {
    let server = Server::start(|_, _| reply("200 OK", "", BODY));
    let manifest = manifest(server.url("/f"), BODY);
    let dir = TempDir::new().unwrap();
    let mut seen = Vec::new();
    let done = fetch(&manifest, dir.path(), &quick(), &mut |p| {
        seen.push((
            p.file.to_owned(),
            p.index,
            p.files,
            p.attempt,
            p.received,
            p.total,
        ));
    })
    .unwrap();
    assert_eq!(done[0].status, FetchStatus::Downloaded);
    assert_eq!(
        done[0].path,
        manifest.directory(dir.path()).join("part/train.tsv")
    );
    assert_eq!(std::fs::read(&done[0].path).unwrap(), BODY);
    let total = BODY.len() as u64;
    assert_eq!(
        seen.first().unwrap(),
        &("part/train.tsv".to_owned(), 0, 1, 1, 0, total)
    );
    assert_eq!(seen.last().unwrap().4, total);

    let again = fetch(&manifest, dir.path(), &quick(), &mut |_| {
        panic!("no progress")
    })
    .unwrap();
    assert_eq!(again[0].status, FetchStatus::AlreadyVerified);
    assert_eq!(server.hits(), 1);
    assert_eq!(names_below(dir.path()), ["train.tsv"]);
}

#[test]
fn a_damaged_file_in_the_cache_is_replaced() {
    let server = Server::start(|_, _| reply("200 OK", "", BODY));
    let manifest = manifest(server.url("/f"), BODY);
    let dir = TempDir::new().unwrap();
    let target = manifest.directory(dir.path()).join("part/train.tsv");
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    std::fs::write(&target, vec![b'x'; BODY.len()]).unwrap();
    let done = fetch(&manifest, dir.path(), &quick(), &mut |_| {}).unwrap();
    assert_eq!(done[0].status, FetchStatus::Downloaded);
    assert_eq!(std::fs::read(target).unwrap(), BODY);
}

#[test]
fn wrong_hash_is_refused_without_another_try() {
    let server = Server::start(|_, _| reply("200 OK", "", BODY));
    let mut manifest = manifest(server.url("/f"), BODY);
    manifest.files[0].sha256 = sha256_hex(b"something else");
    let error = failure(&manifest, &quick());
    assert!(
        matches!(&error, FetchError::WrongHash { found, .. } if *found == sha256_hex(BODY)),
        "{error}"
    );
    assert_eq!(server.hits(), 1);
}

#[test]
fn wrong_announced_size_is_refused_before_the_body() {
    let server = Server::start(|_, _| reply("200 OK", "", &[BODY, b"more"].concat()));
    let error = failure(&manifest(server.url("/f"), BODY), &quick());
    let expected = BODY.len() as u64;
    assert!(
        matches!(error, FetchError::WrongSize { expected: e, found, .. } if e == expected && found == e + 4),
        "{error}"
    );
    assert_eq!(server.hits(), 1);
}

#[test]
fn an_endless_body_is_cut_off_at_the_declared_size() {
    let server = Server::start(|_, _| {
        let mut out = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
        out.extend(vec![b'x'; 2_000_000]);
        out
    });
    let error = failure(&manifest(server.url("/f"), BODY), &quick());
    assert!(
        matches!(error, FetchError::WrongSize { found, .. } if found < 1_000_000),
        "{error}"
    );
}

#[test]
fn truncated_body_is_tried_again_and_then_reported() {
    let short = || {
        let mut out = reply("200 OK", "", BODY);
        out.truncate(out.len() - 5);
        out
    };
    let server = Server::start(move |_, hit| {
        if hit < 3 {
            short()
        } else {
            reply("200 OK", "", BODY)
        }
    });
    let good = manifest(server.url("/f"), BODY);
    let dir = TempDir::new().unwrap();
    let mut attempts = Vec::new();
    fetch(&good, dir.path(), &quick(), &mut |p| {
        attempts.push(p.attempt)
    })
    .unwrap();
    assert_eq!(attempts.iter().max(), Some(&3));
    assert_eq!(names_below(dir.path()), ["train.tsv"]);

    let server = Server::start(move |_, _| short());
    let error = failure(&manifest(server.url("/f"), BODY), &quick());
    let FetchError::GaveUp { tries: 3, last } = error else {
        panic!("{error}")
    };
    let found = BODY.len() as u64 - 5;
    assert!(
        matches!(*last, FetchError::Truncated { found: f, .. } if f == found),
        "{last}"
    );
}

#[test]
fn truncated_body_without_announced_size_is_reported() {
    let server = Server::start(|_, _| {
        [
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".as_slice(),
            &BODY[..4],
        ]
        .concat()
    });
    let error = failure(&manifest(server.url("/f"), BODY), &quick());
    let FetchError::GaveUp { last, .. } = error else {
        panic!("{error}")
    };
    assert!(
        matches!(*last, FetchError::Truncated { found: 4, .. }),
        "{last}"
    );
}

#[test]
fn redirects_are_followed() {
    let server = Server::start(|path, _| match path {
        "/a/f" => redirect("../b/f?x=1"),
        "/b/f?x=1" => reply("200 OK", "", BODY),
        _ => reply("404 Not Found", "", b""),
    });
    let dir = TempDir::new().unwrap();
    fetch(
        &manifest(server.url("/a/f"), BODY),
        dir.path(),
        &quick(),
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(*server.requests.lock().unwrap(), ["/a/f", "/b/f?x=1"]);
}

#[test]
fn redirects_to_private_addresses_are_refused() {
    for target in [
        "https://10.0.0.1/f",
        "https://192.168.1.1/f",
        "https://169.254.169.254/latest/meta-data",
        "https://[fe80::1]/f",
        "https://[fd00::1]/f",
        "https://[::ffff:10.0.0.1]/f",
        "http://10.0.0.1/f",
        "//172.16.0.9/f",
    ] {
        let server = Server::start(move |_, _| redirect(target));
        let error = failure(&manifest(server.url("/f"), BODY), &quick());
        assert!(
            matches!(error, FetchError::Refused { .. }),
            "{target}: {error}"
        );
        assert_eq!(server.hits(), 1);
    }
}

#[test]
fn redirects_to_other_schemes_are_refused() {
    for target in [
        "http://example.org/f",
        "ftp://example.org/f",
        "file:///etc/passwd",
        "https://u:p@example.org/",
    ] {
        let server = Server::start(move |_, _| redirect(target));
        let error = failure(&manifest(server.url("/f"), BODY), &quick());
        assert!(
            matches!(error, FetchError::Refused { .. }),
            "{target}: {error}"
        );
    }
}

#[test]
fn redirects_off_the_list_of_hosts_are_refused() {
    let server = Server::start(|_, _| redirect("https://example.org/f"));
    let options = FetchOptions {
        allowed_hosts: Some(vec!["127.0.0.1".into()]),
        ..quick()
    };
    let error = failure(&manifest(server.url("/f"), BODY), &options);
    assert!(matches!(error, FetchError::Refused { .. }), "{error}");
}

#[test]
fn redirect_loops_end() {
    let server = Server::start(|_, _| redirect("/f"));
    let options = FetchOptions {
        max_redirects: 4,
        ..quick()
    };
    let error = failure(&manifest(server.url("/f"), BODY), &options);
    assert!(
        matches!(error, FetchError::TooManyRedirects { limit: 4, .. }),
        "{error}"
    );
    assert_eq!(server.hits(), 5);
}

#[test]
fn redirects_without_a_target_are_errors() {
    let server = Server::start(|_, _| reply("302 Found", "", b""));
    let error = failure(&manifest(server.url("/f"), BODY), &quick());
    assert!(
        matches!(error, FetchError::Status { status: 302, .. }),
        "{error}"
    );
}

#[test]
fn not_found_is_not_tried_again() {
    let server = Server::start(|_, _| reply("404 Not Found", "", b"gone"));
    let error = failure(&manifest(server.url("/f"), BODY), &quick());
    assert!(
        matches!(error, FetchError::Status { status: 404, .. }),
        "{error}"
    );
    assert_eq!(server.hits(), 1);
}

#[test]
fn a_server_error_is_tried_again() {
    let server = Server::start(|_, hit| match hit {
        1 => reply("500 Internal Server Error", "", b""),
        2 => reply("503 Service Unavailable", "Retry-After: 0\r\n", b""),
        _ => reply("200 OK", "", BODY),
    });
    let dir = TempDir::new().unwrap();
    fetch(
        &manifest(server.url("/f"), BODY),
        dir.path(),
        &quick(),
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(server.hits(), 3);
}

#[test]
fn lasting_server_errors_end_after_the_tries() {
    let server = Server::start(|_, _| reply("500 Internal Server Error", "", b""));
    let error = failure(&manifest(server.url("/f"), BODY), &quick());
    assert!(
        matches!(error, FetchError::GaveUp { tries: 3, .. }),
        "{error}"
    );
    assert_eq!(server.hits(), 3);
}

#[test]
fn a_server_that_asks_for_too_long_a_pause_ends_the_download() {
    let server = Server::start(|_, _| reply("429 Too Many Requests", "Retry-After: 3600\r\n", b""));
    let error = failure(&manifest(server.url("/f"), BODY), &quick());
    assert!(
        matches!(error, FetchError::GaveUp { tries: 1, .. }),
        "{error}"
    );
    assert_eq!(server.hits(), 1);
}

#[test]
fn garbage_and_huge_headers_are_errors() {
    let server = Server::start(|_, _| b"not http at all\r\n\r\n".to_vec());
    let error = failure(&manifest(server.url("/f"), BODY), &quick());
    assert!(matches!(error, FetchError::GaveUp { .. }), "{error}");
    let server = Server::start(|_, _| {
        reply(
            "200 OK",
            &format!("X-Long: {}\r\n", "a".repeat(100_000)),
            BODY,
        )
    });
    let error = failure(&manifest(server.url("/f"), BODY), &quick());
    assert!(matches!(error, FetchError::GaveUp { .. }), "{error}");
}

#[test]
fn a_server_that_never_answers_runs_into_the_time_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "http://127.0.0.1:{}/f",
        listener.local_addr().unwrap().port()
    );
    let options = FetchOptions {
        total_timeout: Duration::from_millis(200),
        max_tries: 1,
        ..quick()
    };
    let error = failure(&manifest(url, BODY), &options);
    assert!(
        matches!(error, FetchError::GaveUp { tries: 1, .. }),
        "{error}"
    );
    drop(listener);
}

#[test]
fn a_closed_port_is_a_transport_error() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let error = failure(
        &manifest(format!("http://127.0.0.1:{port}/f"), BODY),
        &quick(),
    );
    let FetchError::GaveUp { tries: 3, last } = error else {
        panic!("{error}")
    };
    assert!(matches!(*last, FetchError::Transport { .. }), "{last}");
}

#[test]
fn plain_http_to_other_hosts_is_refused_without_a_connection() {
    let error = failure(&manifest("http://example.org/f".into(), BODY), &quick());
    assert!(matches!(error, FetchError::Refused { .. }), "{error}");
}

#[test]
fn manifests_made_by_hand_are_checked_too() {
    let mut bad = manifest("https://example.org/f".into(), BODY);
    bad.files[0].path = "../../escape".into();
    assert!(matches!(
        failure(&bad, &quick()),
        FetchError::ManifestField { .. }
    ));
    let mut huge = manifest("https://example.org/f".into(), BODY);
    huge.files[0].bytes = u64::MAX;
    assert!(matches!(
        failure(&huge, &quick()),
        FetchError::ManifestField { .. }
    ));
}

#[cfg(unix)]
#[test]
fn symbolic_links_out_of_the_cache_are_not_followed() {
    let outside = TempDir::new().unwrap();
    let manifest = manifest("http://127.0.0.1:1/f".into(), BODY);
    for (link, is_folder) in [
        ("sample", true),
        ("sample/part", true),
        ("sample/part/train.tsv", false),
    ] {
        let dir = TempDir::new().unwrap();
        let at = dir.path().join(link);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        let to = if is_folder {
            outside.path().to_owned()
        } else {
            outside.path().join("x")
        };
        std::os::unix::fs::symlink(to, &at).unwrap();
        let error = fetch(&manifest, dir.path(), &quick(), &mut |_| {}).unwrap_err();
        assert!(
            matches!(error, FetchError::OutsideCache { .. }),
            "{link}: {error}"
        );
    }
    assert_eq!(names_below(outside.path()), Vec::<String>::new());
}
