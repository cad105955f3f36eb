#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use proptest::prelude::*;

use super::*;
use crate::chat::{Answer, ChatRequest};

/// Answers with a function, counts what it is asked.
pub(super) struct Scripted<F> {
    answer: F,
    asked: Mutex<BTreeMap<(String, u32), u32>>,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

impl<F: Fn(&Call, u32) -> Result<Answer, ChatError> + Sync> Scripted<F> {
    pub(super) fn new(answer: F) -> Self {
        Self {
            answer,
            asked: Mutex::default(),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        }
    }

    fn asked(&self) -> u32 {
        self.asked.lock().unwrap().values().sum()
    }
}

impl<F: Fn(&Call, u32) -> Result<Answer, ChatError> + Sync> AnswerSource for Scripted<F> {
    fn name(&self) -> &str {
        "scripted"
    }

    fn answer(&self, call: &Call, attempt: u32) -> Result<Answer, ChatError> {
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        *self
            .asked
            .lock()
            .unwrap()
            .entry((call.id.clone(), attempt))
            .or_default() += 1;
        let answer = (self.answer)(call, attempt);
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        answer
    }
}

pub(super) fn call(id: usize, text: &str) -> Call {
    Call {
        id: id.to_string(),
        kind: "test".into(),
        source: text.into(),
        request: ChatRequest {
            system: "Do it.".into(),
            user: text.into(),
            temperature: 1.0,
            max_tokens: 10,
            schema: None,
        },
    }
}

pub(super) fn calls(count: usize) -> Vec<Call> {
    (0..count)
        .map(|n| call(n, &format!("This is sentence {n}.")))
        .collect()
}

pub(super) fn say(text: impl Into<String>) -> Result<Answer, ChatError> {
    Ok(Answer {
        text: text.into(),
        usage: Usage {
            prompt_tokens: 5,
            completion_tokens: 2,
        },
    })
}

fn transport() -> ChatError {
    ChatError::Transport {
        url: "http://localhost".into(),
        reason: "gone".into(),
    }
}

/// A number that looks random and depends on nothing but its inputs.
fn mix(id: &str, attempt: u32) -> u64 {
    let digits = digest(&format!("{id} {attempt}"));
    u64::from_str_radix(&digits[..12], 16).unwrap()
}

/// An answer that is refused now and then, and often a repeat.
pub(super) fn mixed(call: &Call, attempt: u32) -> String {
    match mix(&call.id, attempt) % 5 {
        0 => String::new(),
        1 => call.source.clone(),
        n => format!("Answer {} of kind {n}.", mix(&call.id, attempt) % 40),
    }
}

pub(super) fn config(concurrency: usize) -> JobConfig {
    JobConfig {
        concurrency,
        ..JobConfig::default()
    }
}

#[test]
fn answers_come_in_the_order_of_the_calls_with_any_number_of_workers() {
    let expected: Vec<_> = (0..100).map(|n| Some(format!("answer {n}"))).collect();
    for concurrency in [1, 3, 16] {
        let source = Scripted::new(|call: &Call, _| {
            std::thread::sleep(Duration::from_micros(mix(&call.id, 0) % 2000));
            say(format!("answer {}", call.id))
        });
        let journal = Journal::in_memory();
        let job = Job::new(&source, &journal).config(config(concurrency));
        let outcome = job.run(calls(100)).unwrap();
        assert_eq!(outcome.answers, expected);
        assert_eq!(outcome.report.accepted, 100);
        assert_eq!(outcome.spent.tokens(), 700);
        assert!(source.most.load(Ordering::SeqCst) <= concurrency);
    }
}

/// What the rules of the job come to when calls are made one after the other.
fn by_hand(calls: &[Call], retries: u32) -> Vec<Option<String>> {
    let checks = TextChecks::default();
    let mut accepted = Accepted::default();
    calls
        .iter()
        .map(|call| {
            (0..=retries).find_map(|attempt| {
                let text = checks.check(&call.source, &mixed(call, attempt)).ok()?;
                accepted.take(call, &text).ok().map(|()| text)
            })
        })
        .collect()
}

#[test]
fn refused_answers_are_asked_again_and_repeats_lose_in_the_order_of_the_calls() {
    let calls = calls(120);
    let expected = by_hand(&calls, 2);
    let mut reports = Vec::new();
    for concurrency in [1, 7] {
        let source = Scripted::new(|call: &Call, attempt| {
            std::thread::sleep(Duration::from_micros(mix(&call.id, attempt) % 1000));
            say(mixed(call, attempt))
        });
        let journal = Journal::in_memory();
        let checks = TextChecks::default();
        let outcome = Job::new(&source, &journal)
            .config(config(concurrency))
            .checks(Checks::Text(&checks))
            .run(calls.clone())
            .unwrap();
        assert_eq!(outcome.answers, expected);
        reports.push(outcome.report);
    }
    assert_eq!(reports[0], reports[1]);
    let report = &reports[0];
    assert!(expected.contains(&None));
    assert_eq!(report.accepted + report.given_up, 120);
    for reason in [
        RejectReason::Empty,
        RejectReason::Copy,
        RejectReason::Duplicate,
    ] {
        assert!(report.count(reason) > 0, "{report}");
    }
}

#[test]
fn equal_calls_are_asked_once() {
    let source = Scripted::new(|_: &Call, attempt| {
        std::thread::sleep(Duration::from_millis(2));
        say(format!("Answer {attempt}."))
    });
    let equal: Vec<Call> = (0..50).map(|n| call(n, "The same sentence.")).collect();
    let journal = Journal::in_memory();
    let outcome = Job::new(&source, &journal).run(equal.clone()).unwrap();
    assert_eq!(source.asked(), 1);
    assert_eq!(outcome.spent.calls, 1);
    assert!(
        outcome
            .answers
            .iter()
            .all(|a| a.as_deref() == Some("Answer 0."))
    );
    // Where texts have to differ, each further attempt is asked once for all of them.
    let checks = TextChecks::default();
    let outcome = Job::new(&source, &journal)
        .checks(Checks::Text(&checks))
        .run(equal)
        .unwrap();
    assert_eq!(source.asked(), 3);
    let answers: Vec<_> = outcome.answers.iter().flatten().collect();
    assert_eq!(answers, ["Answer 0.", "Answer 1.", "Answer 2."]);
    assert_eq!(outcome.report.given_up, 47);
}

#[test]
fn a_job_without_a_journal_comes_to_the_same() {
    let run = |journal: &Journal| {
        let source = Scripted::new(|call: &Call, attempt| say(mixed(call, attempt)));
        let checks = TextChecks::default();
        let mut repeated = calls(60);
        repeated.extend(calls(60));
        Job::new(&source, journal)
            .checks(Checks::Text(&checks))
            .run(repeated)
            .unwrap()
    };
    let (with, without) = (run(&Journal::in_memory()), run(&Journal::nowhere()));
    assert_eq!(with.answers, without.answers);
    assert_eq!(with.report, without.report);
    assert!(without.spent.calls >= with.spent.calls);
}

#[test]
fn calls_are_taken_as_they_are_needed() {
    let source = Scripted::new(|call: &Call, _| say(&call.source));
    let journal = Journal::in_memory();
    let taken = AtomicU64::new(0);
    let many = (0..20_000).map(|n| {
        taken.fetch_add(1, Ordering::SeqCst);
        call(n, &n.to_string())
    });
    let mut done = 0;
    let mut ahead = 0;
    let summary = Job::new(&source, &journal)
        .config(config(4))
        .run_each(many, |call, answer| {
            assert_eq!(answer, Some(call.source.as_str()));
            ahead = ahead.max(taken.load(Ordering::SeqCst) - done);
            done += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!((done, summary.asked), (20_000, 20_000));
    assert!(ahead <= 4 * AHEAD as u64, "{ahead}");
}

#[test]
fn a_fatal_error_stops_the_job_and_the_rest_is_asked_later() {
    let allowed = AtomicU64::new(10);
    let source = Scripted::new(|call: &Call, _| {
        let left = allowed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_err() {
            return Err(ChatError::Budget {
                unit: "calls",
                limit: 10,
                spent: 10,
                asked: 1,
            });
        }
        say(format!("answer {}", call.id))
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let mut runs = 0;
    let outcome = loop {
        runs += 1;
        let journal = Journal::open(&path).unwrap();
        match Job::new(&source, &journal).run(calls(35)) {
            Ok(outcome) => break outcome,
            Err(JobError::Fatal { error, done }) => {
                assert!(matches!(error, ChatError::Budget { .. }));
                assert!(done <= 10 * runs);
                assert_eq!(journal.spent().calls, 10 * runs);
                allowed.store(10, Ordering::SeqCst);
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(runs, 4);
    assert_eq!(outcome.report.accepted, 35);
    let asked = source.asked.lock().unwrap();
    // Refused by the budget or answered, but never answered twice.
    assert_eq!(outcome.spent.calls, 35);
    assert_eq!(asked.len(), 35);
}

#[test]
fn failed_calls_are_left_out_and_asked_again_by_the_next_run() {
    let broken = AtomicBool::new(true);
    let source = Scripted::new(|call: &Call, _| {
        if broken.load(Ordering::SeqCst) && call.id == "3" {
            return Err(transport());
        }
        say(format!("answer {}", call.id))
    });
    let journal = Journal::in_memory();
    let outcome = Job::new(&source, &journal).run(calls(6)).unwrap();
    assert_eq!(outcome.answers[3], None);
    assert_eq!((outcome.report.accepted, outcome.report.failed), (5, 1));
    assert_eq!(outcome.report.failures[0].id, "3");
    broken.store(false, Ordering::SeqCst);
    let outcome = Job::new(&source, &journal).run(calls(6)).unwrap();
    assert_eq!(outcome.answers[3].as_deref(), Some("answer 3"));
    assert_eq!(source.asked(), 7);
}

#[test]
fn many_failures_in_a_row_stop_the_job() {
    let source = Scripted::new(|_: &Call, _| Err::<Answer, _>(transport()));
    let journal = Journal::in_memory();
    let config = JobConfig {
        max_failures: 5,
        concurrency: 2,
        ..JobConfig::default()
    };
    let error = Job::new(&source, &journal)
        .config(config)
        .run(calls(1000))
        .unwrap_err();
    assert!(matches!(error, JobError::TooManyFailures { failures, .. } if failures >= 5));
    assert!(source.asked() < 1000);
    let config = JobConfig {
        max_failures: 0,
        ..config
    };
    let outcome = Job::new(&source, &journal)
        .config(config)
        .run(calls(60))
        .unwrap();
    assert_eq!(outcome.report.failed, 60);
}

#[test]
fn paid_answers_without_a_text_are_journaled_and_asked_again() {
    let source = Scripted::new(|call: &Call, attempt| {
        let usage = Usage {
            prompt_tokens: 1,
            completion_tokens: 1,
        };
        let model = "m".to_owned();
        match (call.id.as_str(), attempt) {
            ("0", 0) => Err(ChatError::CutOff {
                model,
                limit: 3,
                start: "a".into(),
                usage,
            }),
            ("1", 0) => Err(ChatError::Declined {
                model,
                reason: "no".into(),
                usage,
            }),
            ("2", 0) => Err(ChatError::GaveUp {
                tries: 2,
                last: Box::new(ChatError::NoChoices { model, usage }),
            }),
            _ => say(format!("Answer {}.", call.id)),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let run = |source: &dyn AnswerSource| {
        let journal = Journal::open(&path).unwrap();
        let checks = TextChecks::default();
        Job::new(source, &journal)
            .checks(Checks::Text(&checks))
            .run(calls(4))
            .unwrap()
    };
    let first = run(&source);
    assert_eq!(first.spent.calls, 7);
    for reason in [
        RejectReason::CutOff,
        RejectReason::Refusal,
        RejectReason::Unusable,
    ] {
        assert_eq!(first.report.count(reason), 1, "{}", first.report);
    }
    assert_eq!(run(&source), first);
    assert_eq!(source.asked(), 7);
    // A replay of the journal comes to the same answers and reasons.
    let replay = Replay::open(&[&path], None).unwrap();
    let journal = Journal::in_memory();
    let checks = TextChecks::default();
    let replayed = Job::new(&replay, &journal)
        .checks(Checks::Text(&checks))
        .run(calls(4))
        .unwrap();
    assert_eq!(replayed.answers, first.answers);
    for reason in RejectReason::ALL {
        assert_eq!(
            replayed.report.count(reason),
            first.report.count(reason),
            "{reason}"
        );
    }
}

#[test]
fn a_replay_has_no_other_answers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let source = Scripted::new(|call: &Call, _| say(&call.source));
    Job::new(&source, &Journal::open(&path).unwrap())
        .run(calls(2))
        .unwrap();
    let replay = Replay::open(&[&path], Some("scripted")).unwrap();
    assert_eq!(replay.name(), "scripted");
    let error = replay.answer(&calls(3)[2], 0).unwrap_err();
    assert!(matches!(&error, ChatError::NoAnswer { .. }) && !error.is_fatal());
    assert!(error.to_string().contains("`2`, attempt 0"), "{error}");
    assert!(replay.answer(&calls(1)[0], 1).is_err());
    assert_eq!(
        replay.answer(&calls(1)[0], 0).unwrap().usage,
        Usage::default()
    );
    let error = Replay::open(&[&path], Some("other")).unwrap_err();
    assert!(error.to_string().contains("`scripted`"), "{error}");
    let empty = dir.path().join("empty.jsonl");
    std::fs::write(&empty, "").unwrap();
    assert!(Replay::open(&[&empty], None).is_err());
}

#[test]
fn a_stopped_job_keeps_what_it_has() {
    let stop = AtomicBool::new(false);
    let count = AtomicU64::new(0);
    let source = Scripted::new(|call: &Call, _| {
        if count.fetch_add(1, Ordering::SeqCst) == 20 {
            stop.store(true, Ordering::SeqCst);
        }
        std::thread::sleep(Duration::from_millis(1));
        say(&call.source)
    });
    let journal = Journal::in_memory();
    let error = Job::new(&source, &journal)
        .config(config(4))
        .stop_on(&stop)
        .run(calls(100_000))
        .unwrap_err();
    assert!(matches!(error, JobError::Interrupted { .. }), "{error}");
    // Everything that was asked is in the journal.
    assert_eq!(journal.spent().calls, u64::from(source.asked()));
    assert!(source.asked() < 10_000);
    stop.store(false, Ordering::SeqCst);
    let outcome = Job::new(&source, &journal).run(calls(200)).unwrap();
    assert_eq!(outcome.report.accepted, 200);
    assert!(source.asked.lock().unwrap().values().all(|n| *n == 1));
}

#[test]
fn panics_become_errors_and_lose_no_answer() {
    let source = Scripted::new(|call: &Call, _| {
        assert!(call.id != "5", "planned");
        say(&call.source)
    });
    let journal = Journal::in_memory();
    let error = Job::new(&source, &journal).run(calls(1000)).unwrap_err();
    assert!(
        matches!(&error, JobError::Panicked { id, .. } if id == "5"),
        "{error}"
    );
    let validator = |_: &Call, text: &str| -> Result<String, String> {
        assert!(!text.contains('3'), "planned");
        Ok(text.to_owned())
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let journal = Journal::open(&path).unwrap();
    let source = Scripted::new(|call: &Call, _| say(&call.source));
    let job = Job::new(&source, &journal).checks(Checks::Valid(&validator));
    assert!(matches!(job.run(calls(10)), Err(JobError::Panicked { .. })));
    drop(journal);
    let journal = Journal::open(&path).unwrap();
    assert_eq!(journal.opened().answers, u64::from(source.asked()));
}

#[test]
fn validators_decide_and_give_the_text() {
    let validator = |_: &Call, text: &str| match text.strip_prefix("ok ") {
        Some(rest) => Ok(rest.to_owned()),
        None => Err("no ok".to_owned()),
    };
    let source = Scripted::new(|call: &Call, attempt| {
        say(if attempt == 0 && call.id == "1" {
            "bad".to_owned()
        } else {
            format!("ok {}", call.id)
        })
    });
    let journal = Journal::in_memory();
    let outcome = Job::new(&source, &journal)
        .checks(Checks::Valid(&validator))
        .run(calls(3))
        .unwrap();
    let answers: Vec<_> = outcome.answers.iter().flatten().collect();
    assert_eq!(answers, ["0", "1", "2"]);
    assert_eq!(outcome.report.count(RejectReason::Invalid), 1);
}

#[test]
fn errors_of_the_sink_and_of_settings_are_typed() {
    let source = Scripted::new(|call: &Call, _| say(&call.source));
    let journal = Journal::in_memory();
    let error = Job::new(&source, &journal)
        .run_each(calls(50), |call, _| match call.id.as_str() {
            "7" => Err(io::Error::other("disk full")),
            _ => Ok(()),
        })
        .unwrap_err();
    assert!(matches!(error, JobError::Sink(_)));
    for concurrency in [0, 1025] {
        let job = Job::new(&source, &journal).config(config(concurrency));
        assert!(matches!(job.run(calls(1)), Err(JobError::Config { .. })));
    }
    let outcome = Job::new(&source, &journal).run(Vec::new()).unwrap();
    assert_eq!(outcome.report, RejectReport::default());
}

#[test]
fn progress_ends_at_the_total_and_never_goes_back() {
    let source = Scripted::new(|call: &Call, attempt| say(mixed(call, attempt)));
    let journal = Journal::in_memory();
    let checks = TextChecks::default();
    let seen = Mutex::new(Vec::new());
    Job::new(&source, &journal)
        .checks(Checks::Text(&checks))
        .progress(|progress| seen.lock().unwrap().push(*progress))
        .run(calls(60))
        .unwrap();
    let seen = seen.into_inner().unwrap();
    assert!(seen.windows(2).all(|two| {
        two[0].done <= two[1].done
            && two[0].asked <= two[1].asked
            && two[0].spent.calls <= two[1].spent.calls
    }));
    let last = seen.last().unwrap();
    assert_eq!((last.done, last.total), (60, Some(60)));
    assert_eq!(last.asked, u64::from(source.asked()));
    assert!(last.rejected > 0 && last.rate() > 0.0);
    assert_eq!(last.remaining(), Some(Duration::ZERO));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Wherever a job is interrupted, and however often, it comes to the same answers and report.
    #[test]
    fn interruptions_do_not_show(
        count in 1_usize..60,
        concurrency in 1_usize..6,
        stops in prop::collection::vec(1_u64..40, 0..4),
    ) {
        let undisturbed = {
            let source = Scripted::new(|call: &Call, attempt| say(mixed(call, attempt)));
            let checks = TextChecks::default();
            Job::new(&source, &Journal::in_memory())
                .checks(Checks::Text(&checks))
                .run(calls(count))
                .unwrap()
        };
        let checks = TextChecks::default();
        let left = AtomicU64::new(0);
        let source = Scripted::new(|call: &Call, attempt| {
            let some = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            match some {
                Ok(_) => say(mixed(call, attempt)),
                Err(_) => Err(ChatError::Stopped),
            }
        });
        let journal = Journal::in_memory();
        let mut end = None;
        for allowed in stops.into_iter().chain([u64::MAX]) {
            left.store(allowed, Ordering::SeqCst);
            let job = Job::new(&source, &journal)
                .config(config(concurrency))
                .checks(Checks::Text(&checks));
            match job.run(calls(count)) {
                Ok(outcome) => end = Some(outcome),
                Err(JobError::Interrupted { .. }) => {}
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
        prop_assert_eq!(end.unwrap(), undisturbed);
    }
}
