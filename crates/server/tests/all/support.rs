//! A running server, an engine that can be held up, and a client without a library in between.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use categories::{Catalogue, Category, CategoryId, Keyword, NameSource, Status, Store};
use serde_json::{Value, json};
use server::{
    ApiKey, Config, Corpus, CorpusText, Engine, EngineError, EngineSource, FakeEngine, ModelInfo,
    Outcome, Parts, Server, Signal, Taxonomy, Tokenized,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Dimensions of the test engine.
pub(crate) const DIM: usize = 16;
/// Longest text of the test engine in tokens.
pub(crate) const MAX_TOKENS: usize = 64;
/// Key of the servers that have one.
pub(crate) const KEY: &str = "canary-key-0123456789";
/// Longest time that anything in a test may take; only a broken server needs it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Opens and closes the engine.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Default)]
struct GateState {
    open: bool,
    waiting: usize,
    /// Rows of every batch so far, the warm-up included.
    batches: Vec<Vec<usize>>,
}

impl Gate {
    pub(crate) fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }

    /// Waits until a batch is at the gate.
    pub(crate) async fn reached(&self) {
        eventually(|| self.0.0.lock().unwrap().waiting > 0).await;
    }

    /// Token counts of the rows of every batch.
    pub(crate) fn batches(&self) -> Vec<Vec<usize>> {
        self.0.0.lock().unwrap().batches.clone()
    }
}

/// Asks again and again, until it holds.
pub(crate) async fn eventually(mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "it never came to pass");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The fake engine behind a gate: a batch with the word `hold` waits until it is opened; `boom`
/// panics, `refuse` is an error.
pub(crate) struct TestEngine {
    fake: FakeEngine,
    gate: Gate,
    hold: u32,
    /// Holds the warm-up up too.
    pub(crate) hold_all: bool,
}

impl TestEngine {
    pub(crate) fn new(gate: &Gate) -> Self {
        let mut fake = FakeEngine::new(DIM, MAX_TOKENS);
        fake.panics_at = Some("boom".to_owned());
        fake.fails_at = Some("refuse".to_owned());
        let hold = fake.tokenize(&["hold".to_owned()]).unwrap()[0].ids[1];
        Self {
            fake,
            gate: gate.clone(),
            hold,
            hold_all: false,
        }
    }
}

impl Engine for TestEngine {
    fn info(&self) -> &ModelInfo {
        self.fake.info()
    }

    fn tokenize(&self, texts: &[String]) -> Result<Vec<Tokenized>, EngineError> {
        self.fake.tokenize(texts)
    }

    fn embed(&self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, EngineError> {
        let mut state = self.gate.0.0.lock().unwrap();
        state
            .batches
            .push(rows.iter().map(|row| row.len()).collect());
        if self.hold_all || rows.iter().any(|row| row.contains(&self.hold)) {
            state.waiting += 1;
            state = self
                .gate
                .0
                .1
                .wait_while(state, |state| !state.open)
                .unwrap();
            state.waiting -= 1;
        }
        drop(state);
        self.fake.embed(rows)
    }
}

/// Source of test engines.
pub(crate) fn engine(gate: &Gate) -> EngineSource {
    let gate = gate.clone();
    Box::new(move || Ok(Arc::new(TestEngine::new(&gate))))
}

/// Vectors as the engine gives them.
pub(crate) fn vectors(texts: &[&str]) -> Vec<Vec<f32>> {
    let engine = FakeEngine::new(DIM, MAX_TOKENS);
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    let tokenized = engine.tokenize(&texts).unwrap();
    let rows: Vec<&[u32]> = tokenized.iter().map(|row| row.ids.as_slice()).collect();
    engine.embed(&rows).unwrap()
}

/// Texts of the run, which are the centroids of its categories too.
pub(crate) const TEXTS: [&str; 3] = ["lost my card", "renew the book", "card is stolen"];
pub(crate) const NAMES: [&str; 3] = ["lost card", "renewal", "stolen card"];
pub(crate) const COARSE: [&str; 3] = ["bank", "library", "bank"];

/// A run directory with a category a text, and its parts.
pub(crate) struct Run {
    pub(crate) dir: TempDir,
    pub(crate) catalogue: Catalogue,
}

impl Run {
    pub(crate) fn new() -> Self {
        let categories = vectors(&TEXTS)
            .into_iter()
            .enumerate()
            .map(|(index, centroid)| Category {
                id: CategoryId(index as u32),
                name: NAMES[index].to_owned(),
                name_source: NameSource::Keywords,
                coarse: Some(COARSE[index].to_owned()),
                keywords: vec![Keyword {
                    term: NAMES[index].to_owned(),
                    weight: 1.5,
                }],
                medoids: vec![TEXTS[index].to_owned()],
                size: 1,
                coherence: 1.0,
                nearest: vec![],
                born: 1,
                status: Status::Active,
                centroid,
            })
            .collect();
        let coarse = vec!["bank".to_owned(), "library".to_owned()];
        let catalogue = Catalogue::new(DIM, "", coarse, categories, None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        drop(Store::create(dir.path(), catalogue.clone()).unwrap());
        Self { dir, catalogue }
    }

    /// Everything a server can have.
    pub(crate) fn parts(&self, gate: &Gate) -> Parts {
        let texts = TEXTS
            .iter()
            .zip(COARSE)
            .zip(0..)
            .map(|((text, coarse), id)| CorpusText {
                text: (*text).to_owned(),
                coarse: Some(coarse.to_owned()),
                category: CategoryId(id),
            })
            .collect();
        Parts {
            engine: engine(gate),
            taxonomy: Some(Taxonomy::editable(Store::open(self.dir.path()).unwrap()).unwrap()),
            corpus: Some(Corpus::new(texts, vectors(&TEXTS).concat(), DIM).unwrap()),
            page: Some(Box::new(|| {
                Ok("<!doctype html><title>map</title>".to_owned())
            })),
        }
    }
}

/// Settings for tests: a free port, no wait at the end.
pub(crate) fn config() -> Config {
    Config {
        addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        drain_notice: Duration::ZERO,
        drain_deadline: PATIENCE,
        ..Config::default()
    }
}

pub(crate) fn with_key() -> Config {
    Config {
        api_key: Some(ApiKey::new(KEY).unwrap()),
        ..config()
    }
}

/// A server in the background.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    pub(crate) stop: mpsc::Sender<Signal>,
    pub(crate) task: JoinHandle<Outcome>,
}

impl Running {
    /// Starts and waits for readiness.
    pub(crate) async fn start(config: Config, parts: Parts) -> Self {
        let running = Self::start_cold(config, parts).await;
        running.ready().await;
        running
    }

    /// Waits for readiness.
    pub(crate) async fn ready(&self) {
        let start = std::time::Instant::now();
        while self.get("/health/ready").await.status != 200 {
            assert!(start.elapsed() < PATIENCE, "never ready");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Starts without waiting for the warm-up.
    pub(crate) async fn start_cold(config: Config, parts: Parts) -> Self {
        let server = Server::bind(config, parts).await.unwrap();
        let addr = server.local_addr();
        let (stop, signals) = mpsc::channel(2);
        let task = tokio::spawn(server.run(signals));
        Self { addr, stop, task }
    }

    /// A server with nothing but the test engine.
    pub(crate) async fn bare() -> Self {
        Self::start(config(), Parts::of_engine(engine(&Gate::default()))).await
    }

    pub(crate) async fn stop(self) -> Outcome {
        self.stop.send(Signal::Terminate).await.unwrap();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        Request::new("GET", path).send(self.addr).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        Request::post(path, body).send(self.addr).await
    }
}

/// A request, sent as it is.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: vec![
                ("host".to_owned(), "localhost".to_owned()),
                ("connection".to_owned(), "close".to_owned()),
            ],
            body: Vec::new(),
        }
    }

    pub(crate) fn post(path: &str, body: &Value) -> Self {
        Self::new("POST", path)
            .header("content-type", "application/json")
            .body(body.to_string().as_bytes())
    }

    /// Sets a header in place of the one before.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        let length = body.len().to_string();
        self.header("content-length", &length)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }

    pub(crate) async fn send(&self, addr: SocketAddr) -> Reply {
        exchange(addr, &self.bytes()).await
    }
}

/// Sends bytes and reads to the end of the connection.
pub(crate) async fn exchange(addr: SocketAddr, bytes: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // The server may answer and stop reading before everything is sent.
    drop(stream.write_all(bytes).await);
    Reply::read(&mut stream).await
}

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Reads one response and leaves the connection open.
    pub(crate) async fn read(stream: &mut TcpStream) -> Self {
        let read = async {
            let mut bytes = Vec::new();
            loop {
                if let Some(reply) = Self::parse(&bytes) {
                    return reply;
                }
                let count = stream.read_buf(&mut bytes).await.expect("a reset");
                let text = String::from_utf8_lossy(&bytes);
                assert!(count > 0, "the connection ended after {text:?}");
            }
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("no reply")
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, _) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length: usize = headers
            .iter()
            .find(|(name, _)| name == "content-length")
            .map_or(0, |(_, value)| value.parse().unwrap());
        let body = bytes.get(head.len() + 4..)?;
        (body.len() >= length).then(|| Self {
            status,
            headers,
            body: body[..length].to_vec(),
        })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The body of a request that must succeed.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }
}

/// `{"input": text}` and the like.
pub(crate) fn inputs(text: &str) -> Value {
    json!({"inputs": text})
}

pub(crate) fn numbers(value: &Value) -> Vec<f32> {
    let list = value.as_array().unwrap().iter();
    list.map(|number| number.as_f64().unwrap() as f32).collect()
}

pub(crate) fn assert_near(found: &[f32], want: &[f32]) {
    assert_eq!(found.len(), want.len());
    for (a, b) in found.iter().zip(want) {
        assert!((a - b).abs() < 1e-5, "{found:?} {want:?}");
    }
}
