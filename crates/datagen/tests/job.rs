//! Jobs against a local server, through the real client: kills, the limit of calls under way, keys.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use datagen::chat::{ApiKey, Budget, Call, ChatClient, ChatConfig, ChatRequest};
use datagen::job::{Checks, Job, JobConfig, JobError, JobSummary, Journal, Record, TextChecks};
use serde_json::Value;

#[path = "support/fault_server.rs"]
mod fault_server;
use fault_server::{FaultServer, Reply, Seen, completion};

const KEY_VARIABLE: &str = "DATAGEN_JOB_TEST_KEY";
const PLANTED: &str = "sk-planted-4f1b9c7e2d";

fn calls(count: usize) -> impl Iterator<Item = Call> {
    (0..count).map(|number| Call {
        id: format!("{number}/positive"),
        kind: "sts/positive".into(),
        source: format!("The dog number {number} runs."),
        request: ChatRequest {
            system: "Say it in other words.".into(),
            user: format!("The dog number {number} runs."),
            temperature: 1.0,
            max_tokens: 64,
            schema: None,
        },
    })
}

fn user_text(seen: &Seen) -> String {
    let body: Value = serde_json::from_str(&seen.body).unwrap();
    let messages = body["messages"].as_array().unwrap();
    messages.last().unwrap()["content"].as_str().unwrap().into()
}

/// A number from 0 to 99 that depends on the text (FNV-1a, upper bits).
fn spread(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 100
}

/// The text decides the answer, which is refused now and then; the seed of the request tells
/// attempts apart.
fn answer(seen: &Seen) -> String {
    let text = user_text(seen);
    let body: Value = serde_json::from_str(&seen.body).unwrap();
    let attempt = body["seed"].as_u64().unwrap();
    match spread(&format!("{text}{attempt}")) {
        0..=9 => text,
        10..=19 => String::from("As an AI, I must not."),
        20..=39 => format!("A repeated answer {}.", spread(&text) % 7),
        _ => format!("In other words {attempt}: {text}"),
    }
}

fn client(url: &str) -> ChatClient {
    let mut config = ChatConfig::new(url, "test-model");
    config.seed = Some(0);
    config.backoff = Duration::from_millis(1);
    let key = ApiKey::from_env(KEY_VARIABLE).ok();
    ChatClient::new(config, key, Arc::new(Budget::unlimited())).unwrap()
}

/// Runs the job and writes its answers, one a line.
fn job(
    url: &str,
    folder: &Path,
    count: usize,
    concurrency: usize,
) -> Result<JobSummary, Box<dyn std::error::Error>> {
    let journal = Journal::open(&folder.join("journal.jsonl"))?;
    let client = client(url);
    let checks = TextChecks::default();
    let config = JobConfig {
        concurrency,
        ..JobConfig::default()
    };
    let mut lines = String::new();
    let summary = Job::new(&client, &journal)
        .config(config)
        .checks(Checks::Text(&checks))
        .run_each(calls(count), |call, answer| {
            lines += &format!("{} {}\n", call.id, answer.unwrap_or("-"));
            Ok(())
        })?;
    lines += &serde_json::to_string(&summary.report)?;
    lines += &serde_json::to_string(&summary.spent)?;
    fs::write(folder.join("out.txt"), lines)?;
    Ok(summary)
}

const CHILD_URL: &str = "DATAGEN_JOB_TEST_URL";
const CHILD_FOLDER: &str = "DATAGEN_JOB_TEST_FOLDER";
const CALLS: usize = 150;
const WORKERS: usize = 6;

fn start_child(url: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "a_killed_job_loses_nothing_and_asks_nothing_twice",
            "--exact",
        ])
        .env(CHILD_URL, url)
        .env(CHILD_FOLDER, folder)
        .env(KEY_VARIABLE, PLANTED)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Whole lines of the journal; the bytes of a torn last one are left out.
fn whole_lines(folder: &Path) -> Vec<String> {
    let bytes = fs::read(folder.join("journal.jsonl")).unwrap_or_default();
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    let whole = &bytes[..end.map_or(0, |end| end + 1)];
    String::from_utf8(whole.to_vec())
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn records(lines: &[String]) -> Vec<Record> {
    let parse = |line: &String| serde_json::from_str(line).unwrap();
    lines.iter().map(parse).collect()
}

/// What was asked, each question once.
fn questions(server: &FaultServer) -> BTreeSet<String> {
    server.log().into_iter().map(|seen| seen.body).collect()
}

#[test]
fn a_killed_job_loses_nothing_and_asks_nothing_twice() {
    if let (Ok(url), Ok(folder)) = (std::env::var(CHILD_URL), std::env::var(CHILD_FOLDER)) {
        job(&url, Path::new(&folder), CALLS, WORKERS).unwrap();
        return;
    }
    let server = FaultServer::start(|seen| {
        std::thread::sleep(Duration::from_millis(2 + spread(&seen.body) / 8));
        Reply::ok(completion(&answer(seen)))
    });
    let url = server.url("/v1");
    let dir = tempfile::tempdir().unwrap();
    let mut before: Vec<String> = Vec::new();
    let mut kills = 0;
    while kills < 20 {
        let mut child = start_child(&url, dir.path());
        // After some more answers, and then at any moment of the next few.
        let (seen, wait) = (server.hits(), spread(&format!("kill {kills}")));
        let deadline = Instant::now() + Duration::from_secs(60);
        while server.hits() < seen + (wait % 9) as usize {
            assert!(Instant::now() < deadline, "the job makes no calls");
            if child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(wait * 97));
        // SIGKILL on Unix.
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        let lines = whole_lines(dir.path());
        // What was once in the journal stays as it was.
        assert_eq!(lines[..before.len()], before[..]);
        // Only what was under way at a kill may have been asked in vain.
        assert!(server.hits() <= lines.len() + kills * WORKERS);
        before = lines;
    }
    assert!(!dir.path().join("out.txt").exists(), "killed too late");
    assert!(before.len() > 20, "killed too early");
    let interrupted = server.hits();
    assert!(start_child(&url, dir.path()).wait().unwrap().success());

    let lines = whole_lines(dir.path());
    let records = records(&lines);
    let keys: BTreeSet<_> = records.iter().map(|record| record.key).collect();
    assert_eq!(keys.len(), records.len(), "an answer is there twice");
    assert_eq!(questions(&server).len(), records.len());
    assert!(server.hits() <= records.len() + kills * WORKERS);
    assert!(server.hits() > interrupted);

    let undisturbed = tempfile::tempdir().unwrap();
    assert!(
        start_child(&url, undisturbed.path())
            .wait()
            .unwrap()
            .success()
    );
    let read = |dir: &Path| fs::read_to_string(dir.join("out.txt")).unwrap();
    assert_eq!(read(dir.path()), read(undisturbed.path()));
    let sorted = |lines: Vec<String>| lines.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(
        sorted(lines),
        sorted(whole_lines(undisturbed.path())),
        "the same answers in another order"
    );
    // The key was sent, and it is nowhere.
    let sent = server.log();
    let bearer = format!("Bearer {PLANTED}");
    assert!(
        sent.iter()
            .all(|seen| seen.header("authorization") == Some(&bearer))
    );
    for folder in [dir.path(), undisturbed.path()] {
        assert_without_key(folder);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn assert_without_key(folder: &Path) {
    for path in files(folder) {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains(PLANTED), "{}", path.display());
    }
}

#[test]
fn a_thousand_calls_keep_to_the_limit_of_32_and_reach_it() {
    let arrived = AtomicUsize::new(0);
    let server = FaultServer::start(move |seen| {
        // The first 32 are held until all are there, and then for long enough to see one too many.
        if arrived.fetch_add(1, Ordering::SeqCst) < 32 {
            let deadline = Instant::now() + Duration::from_secs(30);
            while arrived.load(Ordering::SeqCst) < 32 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Reply::ok(completion(&format!("In other words: {}", user_text(seen))))
    });
    let dir = tempfile::tempdir().unwrap();
    let summary = job(&server.url("/v1"), dir.path(), 1000, 32).unwrap();
    assert_eq!(summary.report.accepted, 1000);
    assert_eq!((summary.asked, server.hits()), (1000, 1000));
    assert_eq!(server.most_open(), 32);
    assert_eq!(summary.spent.tokens(), 15_000);
    assert_eq!(whole_lines(dir.path()).len(), 1000);
}

#[test]
fn a_refused_key_stops_the_job_and_is_not_shown() {
    let server = FaultServer::start(|seen| {
        if seen.hit <= 5 {
            return Reply::ok(completion(&answer(seen)));
        }
        let shown = seen.header("authorization").unwrap_or_default().to_owned();
        let body = format!(r#"{{"error":{{"message":"bad credentials {shown}"}}}}"#);
        Reply::new(401, &[], body)
    });
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    fs::write(&key, PLANTED).unwrap();
    #[cfg(unix)]
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut config = ChatConfig::new(server.url("/v1"), "test-model");
    config.seed = Some(0);
    let client = ChatClient::new(
        config,
        Some(ApiKey::from_file(&key).unwrap()),
        Arc::new(Budget::unlimited()),
    )
    .unwrap();
    fs::remove_file(key).unwrap();
    let journal = Journal::open(&dir.path().join("journal.jsonl")).unwrap();
    let config = JobConfig {
        concurrency: 2,
        ..JobConfig::default()
    };
    let error = Job::new(&client, &journal)
        .config(config)
        .run(calls(100))
        .unwrap_err();
    assert!(matches!(error, JobError::Fatal { .. }), "{error}");
    let shown = format!("{error} {error:?} {client:?} {journal:?}");
    assert!(shown.contains("401") && !shown.contains(PLANTED), "{shown}");
    assert_eq!(journal.spent().calls, 5);
    assert!(server.hits() <= 8);
    assert_without_key(dir.path());
}

#[test]
fn a_server_that_repeats_the_key_does_not_get_it_into_the_journal() {
    let server = FaultServer::start(|seen| {
        let shown = seen.header("authorization").unwrap_or_default();
        Reply::ok(completion(&format!("You sent {shown} and more")))
    });
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "body_of_the_child_that_hears_its_key",
            "--exact",
            "--nocapture",
        ])
        .env(CHILD_URL, server.url("/v1"))
        .env(CHILD_FOLDER, dir.path())
        .env(KEY_VARIABLE, PLANTED)
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(server.hits() > 0);
    for stream in [output.stdout, output.stderr] {
        assert!(!String::from_utf8_lossy(&stream).contains(PLANTED));
    }
    assert!(!whole_lines(dir.path()).is_empty());
    assert_without_key(dir.path());
}

/// Does something only as a child of the test above.
#[test]
fn body_of_the_child_that_hears_its_key() {
    let (Ok(url), Ok(folder)) = (std::env::var(CHILD_URL), std::env::var(CHILD_FOLDER)) else {
        return;
    };
    let summary = job(&url, Path::new(&folder), 4, 2).unwrap();
    println!("{summary:?} {}", summary.report);
}

/// Statuses that pass and resets in between change nothing.
#[test]
fn a_flaky_server_gives_the_same_answers() {
    let steady = FaultServer::start(|seen| Reply::ok(completion(&answer(seen))));
    let known: Mutex<BTreeSet<String>> = Mutex::default();
    let flaky = FaultServer::start(move |seen| {
        let first = known.lock().unwrap().insert(seen.body.clone());
        match spread(&seen.body) % 4 {
            0 if first => Reply::new(429, &[("Retry-After", "0")], "slow down"),
            1 if first => Reply::new(503, &[], "later"),
            2 if first => Reply::Reset,
            _ => Reply::ok(completion(&answer(seen))),
        }
    });
    let run = |server: &FaultServer| {
        let dir = tempfile::tempdir().unwrap();
        job(&server.url("/v1"), dir.path(), 60, 4).unwrap();
        fs::read_to_string(dir.path().join("out.txt")).unwrap()
    };
    assert_eq!(run(&steady), run(&flaky));
    assert!(flaky.hits() > steady.hits());
}
