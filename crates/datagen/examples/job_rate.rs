//! How close a job comes to the time that latency alone would take, against a server in this process.
//!
//! ```text
//! cargo run --release -p datagen --example job_rate -- [CALLS] [CONCURRENCY] [LATENCY_MS]
//! ```
//!
//! Prints wall time, the ideal `latency * calls / concurrency`, the most calls under way at one time
//! and the memory of the process before and after (server included).

use std::sync::Arc;
use std::time::{Duration, Instant};

use datagen::chat::{Budget, Call, ChatClient, ChatConfig, ChatRequest};
use datagen::job::{Checks, Job, JobConfig, Journal, TextChecks};

#[path = "../tests/support/fault_server.rs"]
mod fault_server;
use fault_server::{FaultServer, Reply, completion};

/// Resident memory in MB, where the system says.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse());
    let calls: usize = numbers.next().transpose()?.unwrap_or(1000);
    let concurrency: usize = numbers.next().transpose()?.unwrap_or(32);
    let latency = Duration::from_millis(numbers.next().transpose()?.unwrap_or(200) as u64);
    let server = FaultServer::start(move |seen| {
        std::thread::sleep(latency);
        Reply::ok(completion(&format!("Answer number {}.", seen.hit)))
    });
    let config = ChatConfig::new(server.url("/v1"), "test-model");
    let client = ChatClient::new(config, None, Arc::new(Budget::unlimited()))?;
    let folder = tempfile::tempdir()?;
    let journal = Journal::open(&folder.path().join("journal.jsonl"))?;
    let asked = (0..calls).map(|number| Call {
        id: number.to_string(),
        kind: "sts/positive".into(),
        source: format!("The dog number {number} runs."),
        request: ChatRequest {
            system: "Say it in other words.".into(),
            user: format!("The dog number {number} runs."),
            temperature: 1.0,
            max_tokens: 64,
            schema: None,
        },
    });
    let checks = TextChecks::default();
    let settings = JobConfig {
        concurrency,
        ..JobConfig::default()
    };
    let before = resident();
    let began = Instant::now();
    let summary = Job::new(&client, &journal)
        .config(settings)
        .checks(Checks::Text(&checks))
        .run_each(asked, |_, _| Ok(()))?;
    let took = began.elapsed();
    let ideal = latency.mul_f64(summary.asked as f64 / concurrency as f64);
    println!(
        "{} calls, {concurrency} at a time, {} ms each: {:.2} s, ideal {:.2} s, ratio {:.3}",
        summary.asked,
        latency.as_millis(),
        took.as_secs_f64(),
        ideal.as_secs_f64(),
        took.as_secs_f64() / ideal.as_secs_f64(),
    );
    println!("most under way: {}", server.most_open());
    if let (Some(before), Some(after)) = (before, resident()) {
        println!("resident memory: {before} MB before, {after} MB after");
    }
    Ok(())
}
