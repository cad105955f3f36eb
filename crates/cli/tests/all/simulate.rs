use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use datasets::{NgcseOptions, load_ngcse};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{asterism, failure, success};

#[path = "../../../datagen/tests/support/fault_server.rs"]
pub(crate) mod fault_server;
use fault_server::{FaultServer, Reply, Seen, completion};

const PLANTED: &str = "sk-planted-93ab6d0c5e";

struct Place(TempDir);

impl Place {
    fn new(sentences: usize) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let lines: String = (0..sentences)
            .map(|n| format!("The brown dog number {n} runs across the field.\n"))
            .collect();
        std::fs::write(place.at("in.txt"), lines).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.at(name), text).unwrap();
        self.at(name)
    }

    /// `simulate` from in.txt to this file.
    fn simulate(&self, pattern: &str, out: &str) -> Command {
        let mut command = asterism();
        command.args(["datagen", "simulate", "--pattern", pattern, "--input"]);
        command
            .arg(self.at("in.txt"))
            .arg("--out")
            .arg(self.at(out));
        command
    }

    fn ask(&self, pattern: &str, out: &str, server: &FaultServer) -> Command {
        let mut command = self.simulate(pattern, out);
        let url = server.url("/v1");
        command.args(["--base-url", &url, "--model", "test-model"]);
        command
    }
}

/// Writes something else for every relation and refuses every seventh sentence once and for all.
fn model(seen: &Seen) -> Reply {
    let body: Value = serde_json::from_str(&seen.body).unwrap();
    let system = body["messages"][0]["content"].as_str().unwrap();
    let text = body["messages"][1]["content"].as_str().unwrap();
    let number: usize = text.split(' ').find_map(|word| word.parse().ok()).unwrap();
    if number % 7 == 6 {
        return Reply::ok(completion("I cannot assist with that."));
    }
    let tail = match system {
        s if s.contains("means the same") => "seen in another way",
        s if s.contains("only a part") => "seen in part",
        s if s.contains("another meaning") => "is asleep in a house",
        s if s.contains("follows from it") => "is moving",
        s if s.contains("contradicts it") => "stands still",
        _ => return Reply::new(400, &[], "unknown prompt"),
    };
    let answer = format!("Output: The dog number {number} {tail}.");
    Reply::ok(completion(&answer))
}

fn rows(path: &Path) -> datasets::NgcseRows {
    load_ngcse(path, &NgcseOptions::default()).unwrap()
}

#[test]
fn a_server_writes_rows_and_the_journal_writes_them_again() {
    let server = FaultServer::start(model);
    let place = Place::new(20);
    let output = place
        .ask("sts", "out.jsonl", &server)
        .args(["--key-env", "ASTERISM_TEST_KEY", "--price-in", "2.5"])
        .args(["--limit", "14", "--others", "3"])
        .env("ASTERISM_TEST_KEY", PLANTED)
        .assert()
        .success()
        .get_output()
        .clone();
    let out = place.at("out.jsonl");
    let data = rows(&out);
    assert_eq!(data.generated_keys, ["5", "4", "3"]);
    assert!(data.other_keys.is_empty());
    let report: Value = serde_json::from_str(&place.read("out.jsonl.report.json")).unwrap();
    let count = |name: &str| report["rows"][name].as_u64().unwrap();
    assert_eq!(count("generated") + count("incomplete"), 14);
    assert_eq!(count("other"), 3);
    assert_eq!(data.rows.len() as u64, count("generated") + 3);
    let row = &data.rows[0].texts;
    assert!(row[1].ends_with("seen in another way.") && row[1].starts_with("The dog"));
    assert!(row[3].ends_with("asleep in a house."), "{row:?}");
    // Refused three times in a row, for three relations each.
    let refused = &report["rejects"]["rejected"]["sts/negative"]["refusal"]["count"];
    assert_eq!(refused.as_u64().unwrap(), 3 * count("incomplete"));
    assert_eq!(report["model"], "test-model");
    assert_eq!(report["prompts"].as_object().unwrap().len(), 3);
    assert_eq!(
        report["spent"]["calls"].as_u64().unwrap(),
        server.hits() as u64
    );
    let cost = report["cost"].as_f64().unwrap();
    assert!((cost - server.hits() as f64 * 10.0 * 2.5e-6).abs() < 1e-9);

    // The key was sent and shown nowhere.
    let bearer = format!("Bearer {PLANTED}");
    for seen in server.log() {
        assert_eq!(seen.header("authorization"), Some(bearer.as_str()));
    }
    let mut texts = vec![output.stdout, output.stderr];
    for entry in std::fs::read_dir(place.0.path()).unwrap() {
        texts.push(std::fs::read(entry.unwrap().path()).unwrap());
    }
    assert_eq!(texts.len(), 2 + 5, "in, out, report, journal, lock");
    for text in texts {
        assert!(!String::from_utf8_lossy(&text).contains(PLANTED));
    }

    // Nothing is overwritten or asked again by accident.
    let (first, hits) = (place.read("out.jsonl"), server.hits());
    let again = |arguments: &[&str]| {
        let mut command = place.ask("sts", "out.jsonl", &server);
        command
            .args(["--limit", "14", "--others", "3"])
            .args(arguments);
        command
    };
    let error = failure(&mut again(&[]), 2);
    assert!(
        error.contains("exists") && error.contains("--force"),
        "{error}"
    );
    let error = failure(&mut again(&["--force"]), 2);
    assert!(error.contains("--resume"), "{error}");
    success(&mut again(&["--resume"]));
    assert_eq!(
        (place.read("out.jsonl"), server.hits()),
        (first.clone(), hits)
    );

    // From the journal alone.
    drop(server);
    let journal = place.at("out.jsonl.journal.jsonl");
    success(
        place
            .simulate("sts", "replayed.jsonl")
            .args([
                "--limit",
                "14",
                "--others",
                "3",
                "--source",
                "replay",
                "--journal",
            ])
            .arg(&journal),
    );
    assert_eq!(place.read("replayed.jsonl"), first);
}

#[test]
fn rules_write_rows_without_a_network_and_the_same_for_a_seed() {
    let place = Place::new(0);
    let sentences = datasets::pocket().unwrap();
    let lines: String = sentences
        .train
        .texts
        .iter()
        .take(60)
        .map(|text| format!("{text}\n"))
        .collect();
    place.write("in.txt", &lines);
    for (pattern, keys) in [("sts", &["5", "4", "3"][..]), ("nli", &["5", "4"])] {
        let run = |out: &str, seed: &str| {
            success(
                place
                    .simulate(pattern, out)
                    .args(["--seed", seed, "--force"]),
            );
            place.read(out)
        };
        let (one, same) = (run("one.jsonl", "1"), run("same.jsonl", "1"));
        assert_eq!(one, same);
        assert_ne!(one, run("other.jsonl", "2"));
        let data = rows(&place.at("one.jsonl"));
        assert_eq!(data.generated_keys, keys);
        assert!(data.rows.len() > 30, "{}", data.rows.len());
    }
    assert!(!place.at("one.jsonl.journal.jsonl").exists());
}

/// Exit codes 130 and 143 with everything asked in the journal, then the same as undisturbed.
#[cfg(unix)]
#[test]
fn a_signal_ends_the_job_after_saving() {
    let server = FaultServer::start(|seen| {
        std::thread::sleep(Duration::from_millis(20));
        model(seen)
    });
    let place = Place::new(100);
    let start = |out: &str| {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("asterism"));
        command
            .args(["datagen", "simulate", "--pattern", "nli", "--quiet"])
            .args(["--model", "test-model", "--concurrency", "4", "--resume"])
            .args(["--base-url", &server.url("/v1"), "--input"])
            .arg(place.at("in.txt"))
            .arg("--out")
            .arg(place.at(out))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let wanted = server.hits() + 10;
        let child = start("out.jsonl");
        while server.hits() < wanted {
            std::thread::sleep(Duration::from_millis(5));
        }
        let id = child.id().to_string();
        let kill = std::process::Command::new("kill")
            .args([signal, &id])
            .status();
        assert!(kill.unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("--resume"), "{error}");
        assert!(!place.at("out.jsonl").exists() && !place.at("out.jsonl.part").exists());
        let lines = place.read("out.jsonl.journal.jsonl").lines().count();
        assert_eq!(lines, server.hits(), "an answer is missing");
    }
    assert!(start("out.jsonl").wait().unwrap().success());
    let hits = server.hits();
    assert!(start("other.jsonl").wait().unwrap().success());
    assert_eq!(server.hits(), 2 * hits);
    assert_eq!(place.read("out.jsonl"), place.read("other.jsonl"));
    let report = |name: &str| {
        let mut report: Value = serde_json::from_str(&place.read(name)).unwrap();
        report["output"]["file"] = Value::Null;
        report
    };
    assert_eq!(
        report("out.jsonl.report.json"),
        report("other.jsonl.report.json")
    );
}

#[test]
fn a_spent_budget_says_what_to_raise() {
    let server = FaultServer::start(model);
    let place = Place::new(5);
    let mut command = place.ask("nli", "out.jsonl", &server);
    let error = failure(command.args(["--max-calls", "4"]), 1);
    assert!(error.contains("budget of 4 calls"), "{error}");
    assert!(
        error.contains("raise --max-calls") && error.contains("--resume"),
        "{error}"
    );
    assert_eq!(server.hits(), 4);
    let mut command = place.ask("nli", "out.jsonl", &server);
    failure(command.args(["--max-calls", "4", "--resume"]), 1);
    assert_eq!(server.hits(), 4);
    let mut command = place.ask("nli", "out.jsonl", &server);
    success(command.args(["--max-calls", "10", "--resume"]));
    assert_eq!(server.hits(), 10);
    assert_eq!(rows(&place.at("out.jsonl")).generated_keys, ["5", "4"]);
}

#[test]
fn a_dry_run_shows_a_prompt_of_each_relation_and_the_calls() {
    let place = Place::new(12);
    let demos: String = (0..5)
        .map(|n| format!("The premise is {n} here,Something follows {n},Nothing follows {n}\n"))
        .collect();
    let demos = place.write("nli.csv", &format!("sent0,sent1,hard_neg\n{demos}"));
    let text = success(
        place
            .simulate("nli", "out.jsonl")
            .args(["--dry-run", "--price-out", "1", "--demos"])
            .arg(&demos),
    );
    for part in [
        "--- nli/entailment, system",
        "--- nli/contradiction, user",
        "Premise: The premise is ",
        "Hypothesis: Nothing follows ",
        "The brown dog number 0 runs",
        "24 calls for 12 sentences; at most 72",
        "prompt tokens",
        "at these prices",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!place.at("out.jsonl").exists());
    let scored: String = (0..=50)
        .map(|n| {
            let score = f64::from(n) / 10.0;
            format!(
                "train\t{score}\tThe short text {n}.\tThe other text {n} is much longer here.\n"
            )
        })
        .collect();
    let test = "test\t5\tA test pair is here.\tThis is a test pair.\n".repeat(100);
    let scored = place.write(
        "sts.tsv",
        &format!("split\tscore\tsentence1\tsentence2\n{test}{scored}"),
    );
    let mut command = place.simulate("sts", "out.jsonl");
    let text = success(command.args(["--dry-run", "--demos"]).arg(&scored));
    assert_eq!(text.matches("Sentence 1: The ").count(), 9, "{text}");
    let mut command = place.simulate("nli", "out.jsonl");
    let error = failure(command.args(["--dry-run", "--demos"]).arg(&scored), 2);
    assert!(
        error.contains("--demos") && error.contains("sts.tsv"),
        "{error}"
    );
}

#[test]
fn prompts_are_files_to_edit() {
    let place = Place::new(1);
    let folder = place.at("prompts");
    let write = || {
        let mut command = asterism();
        command.args(["datagen", "prompts", "--out"]).arg(&folder);
        command
    };
    assert_eq!(success(&mut write()).lines().count(), 5);
    assert!(failure(&mut write(), 2).contains("exists"));
    let dry = |pattern| {
        let mut command = place.simulate(pattern, "out.jsonl");
        command.args(["--dry-run", "--prompts"]).arg(&folder);
        command
    };
    std::fs::write(folder.join("sts_positive.txt"), "My own prompt.").unwrap();
    assert!(success(&mut dry("sts")).contains("\nMy own prompt.\n"));
    std::fs::write(folder.join("sts_positive.txt"), "one\n{{ sentence }}").unwrap();
    let error = failure(&mut dry("sts"), 2);
    assert!(
        error.contains("sts_positive.txt:2: unknown variable `sentence`"),
        "{error}"
    );
    success(&mut dry("nli"));
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let place = Place::new(1);
    for (arguments, part) in [
        (
            &["--source", "rules", "--base-url", "http://localhost:1"][..],
            "--base-url",
        ),
        (&["--key-env", "X"], "--key-env"),
        (&["--source", "server", "--model", "m"], "--base-url"),
        (&["--base-url", "http://localhost:1/v1"], "--model"),
        (
            &["--base-url", "http://example.org/v1", "--model", "m"],
            "plain http",
        ),
        (
            &[
                "--base-url",
                "https://localhost:1/v1",
                "--model",
                "m",
                "--key-env",
                "NOT_SET",
            ],
            "NOT_SET",
        ),
        (&["--source", "replay"], "out.jsonl.journal.jsonl"),
        (&["--others", "1"], "--limit"),
        (&["--temperature", "NaN"], "temperature"),
        (&["--price-in=-1"], "a price is"),
        (&["--concurrency", "0"], "concurrency"),
    ] {
        let error = failure(place.simulate("sts", "out.jsonl").args(arguments), 2);
        assert!(error.contains(part), "{arguments:?}: {error}");
        let mut left: Vec<_> = std::fs::read_dir(place.0.path()).unwrap().collect();
        assert_eq!(left.pop().unwrap().unwrap().file_name(), "in.txt");
        assert!(left.is_empty(), "{arguments:?} left files behind");
    }
    let mut command = asterism();
    command.args([
        "datagen",
        "simulate",
        "--pattern",
        "sts",
        "--input",
        "none.txt",
        "--out",
    ]);
    let error = failure(command.arg(place.at("out.jsonl")), 2);
    assert!(error.contains("none.txt"), "{error}");
}
