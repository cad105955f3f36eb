//! A small local HTTP server that misbehaves on demand. Standard library only, so that the tests of
//! several crates include this file with `#[path]`.

#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Position among the requests to this server, from 1.
    pub hit: usize,
    /// `GET`, `POST`.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body as text.
    pub body: String,
}

impl Seen {
    /// Value of a header, `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Writes these bytes, which include the head, and closes the connection.
    Raw(Vec<u8>),
    /// Writes these bytes one by one with a pause after each.
    Drip(Vec<u8>, Duration),
    /// Writes these bytes and then nothing more, but keeps the connection open.
    Stall(Vec<u8>),
    /// Closes the connection with unread input, which resets it.
    Reset,
}

impl Reply {
    /// A complete answer.
    pub fn new(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut head = format!(
            "HTTP/1.1 {status} Status\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        Self::Raw([head.as_bytes(), b"\r\n", body].concat())
    }

    /// Status 200 with a body.
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::new(200, &[], body)
    }

    /// A redirect.
    pub fn redirect(status: u16, to: &str) -> Self {
        Self::new(status, &[("Location", to)], "")
    }

    /// Status 200 with a body whose end is not announced.
    pub fn without_length(body: impl AsRef<[u8]>) -> Self {
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        Self::Raw([head, body.as_ref()].concat())
    }

    /// The same answer without its last bytes.
    pub fn cut(self, bytes: usize) -> Self {
        let Self::Raw(mut raw) = self else {
            panic!("only a whole answer can be cut")
        };
        raw.truncate(raw.len() - bytes);
        Self::Raw(raw)
    }

    /// The bytes of a whole answer.
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Raw(raw) | Self::Drip(raw, _) | Self::Stall(raw) => raw,
            Self::Reset => Vec::new(),
        }
    }
}

/// The body of a chat completion, with `content` in quotes already, and a usage of 10 and 5 tokens.
pub fn completion_of(content: &str) -> String {
    format!(
        r#"{{"id":"1","object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant","content":{content}}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}}}"#
    )
}

/// The body of a chat completion with a text without characters that JSON escapes.
pub fn completion(text: &str) -> String {
    completion_of(&format!("\"{text}\""))
}

/// The server. It ends when this is dropped.
pub struct FaultServer {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    stop: AtomicBool,
    hits: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
    log: Mutex<Vec<Seen>>,
}

impl FaultServer {
    /// Starts a server on a free port of the loopback interface, with a thread for each connection.
    pub fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            hits: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
            log: Mutex::new(Vec::new()),
        });
        let answer = Arc::new(answer);
        let for_loop = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if for_loop.stop.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let (shared, answer) = (Arc::clone(&for_loop), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &shared, &*answer));
            }
        });
        Self { port, shared }
    }

    /// `http://127.0.0.1:port` and a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Requests seen.
    pub fn hits(&self) -> usize {
        self.shared.hits.load(Ordering::SeqCst)
    }

    /// The most requests that were under way at one time.
    pub fn most_open(&self) -> usize {
        self.shared.most_open.load(Ordering::SeqCst)
    }

    /// The requests, in order of arrival.
    pub fn log(&self) -> Vec<Seen> {
        self.shared.log.lock().unwrap().clone()
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then looks at the flag.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(mut stream: TcpStream, shared: &Shared, answer: &dyn Fn(&Seen) -> Reply) {
    let Some(mut seen) = read_request(&mut stream) else {
        return;
    };
    let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
    shared.most_open.fetch_max(open, Ordering::SeqCst);
    {
        let mut log = shared.log.lock().unwrap();
        seen.hit = shared.hits.fetch_add(1, Ordering::SeqCst) + 1;
        log.push(seen.clone());
    }
    let reply = answer(&seen);
    // Before the answer goes out: a client that has it may ask again at once.
    shared.open.fetch_sub(1, Ordering::SeqCst);
    if matches!(reply, Reply::Reset) {
        return;
    }
    let _ = stream.read(&mut [0]);
    match reply {
        Reply::Reset => {}
        Reply::Raw(bytes) => {
            let _ = stream.write_all(&bytes);
        }
        Reply::Drip(bytes, pause) => {
            for byte in bytes {
                if shared.stop.load(Ordering::SeqCst) || stream.write_all(&[byte]).is_err() {
                    break;
                }
                std::thread::sleep(pause);
            }
        }
        Reply::Stall(bytes) => {
            let _ = stream.write_all(&bytes);
            while !shared.stop.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Reads a request but leaves its last byte in the socket, for [`Reply::Reset`].
fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut head = Vec::new();
    let mut byte = [0_u8];
    // The empty line before the body ends the head; its last byte stays if there is no body.
    while !head.ends_with(b"\r\n\r") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .and_then(|(_, value)| value.parse::<usize>().ok())
        .unwrap_or(0);
    let mut body = vec![0_u8; length];
    if let Some((last, start)) = body.split_last_mut() {
        // The end of the head, now that more comes.
        stream.read_exact(&mut byte).ok()?;
        stream.read_exact(start).ok()?;
        let mut one = [0_u8];
        if stream.peek(&mut one).ok()? == 0 {
            return None;
        }
        *last = one[0];
    }
    Some(Seen {
        hit: 0,
        method,
        path,
        headers,
        body: String::from_utf8(body).ok()?,
    })
}
