//! Running many calls: in parallel, journaled, checked, and the same whenever they are interrupted.
//!
//! * [`Job`]: the calls of an iterator over a source, answers in the order of the calls;
//! * [`Journal`]: what was answered, on disk, which is also the cache;
//! * [`TextChecks`], [`RejectReport`]: what an answer has to be, and what was refused;
//! * [`Replay`]: a journal as a source.
//!
//! What comes out depends on the answers alone: not on their order, on the number of threads or on
//! interruptions. For this a repeated text is refused in the order of the calls, the first one wins.

mod checks;
#[cfg(test)]
mod faults;
mod file;
mod journal;
pub mod language;
mod replay;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

pub use checks::{
    FailedCall, RejectExample, RejectGroup, RejectReason, RejectReport, Rejection, TextChecks,
};
pub use journal::{JOURNAL_VERSION, Journal, JournalError, Key, Opened, Record, digest};
pub use replay::{Replay, ReplayError};

use crate::chat::{AnswerSource, Call, ChatError, Spent, Usage};
use checks::Accepted;
use journal::Location;

/// Calls that may wait for an earlier one, for each worker. With fewer, one slow call would stop the
/// others; with more, more of them are in memory.
const AHEAD: usize = 64;

/// How often the stop flag is looked at while nothing comes in.
const POLL: Duration = Duration::from_millis(50);

/// How a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobConfig {
    /// Calls under way at the same time, from 1 to 1024.
    pub concurrency: usize,
    /// Further attempts after a refused answer.
    pub retries: u32,
    /// Calls that may fail one after the other before the job stops; 0 for any number.
    pub max_failures: u32,
}

impl Default for JobConfig {
    fn default() -> Self {
        Self {
            concurrency: 8,
            retries: 2,
            max_failures: 50,
        }
    }
}

/// A strict check that gives the text to keep or says what is wrong.
pub type Validator<'a> = dyn Fn(&Call, &str) -> Result<String, String> + Sync + 'a;

/// What an answer has to be.
#[derive(Clone, Copy)]
pub enum Checks<'a> {
    /// Anything.
    None,
    /// One sentence.
    Text(&'a TextChecks),
    /// What a function accepts, for instance an object of a schema.
    Valid(&'a Validator<'a>),
}

impl std::fmt::Debug for Checks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Text(checks) => f.debug_tuple("Text").field(checks).finish(),
            Self::Valid(_) => f.write_str("Valid"),
        }
    }
}

impl Checks<'_> {
    fn check(&self, call: &Call, attempt: u32, text: &str) -> Result<String, Rejection> {
        let checked = match self {
            Self::None => Ok(text.to_owned()),
            Self::Text(checks) => checks.check(&call.source, text),
            Self::Valid(validator) => {
                validator(call, text).map_err(|problem| (RejectReason::Invalid, problem))
            }
        };
        checked.map_err(|(reason, detail)| Rejection {
            attempt,
            reason,
            detail,
            text: text.to_owned(),
        })
    }

    fn unique(&self) -> bool {
        matches!(self, Self::Text(checks) if checks.unique)
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobProgress {
    /// Calls with an answer or given up. One whose text turns out to repeat an earlier call's is asked again
    /// and stays counted.
    pub done: u64,
    /// Calls there are, where the iterator knows.
    pub total: Option<u64>,
    /// Answers from the source in this run.
    pub asked: u64,
    /// Answers from the journal.
    pub cached: u64,
    /// Answers refused.
    pub rejected: u64,
    /// Calls without an answer.
    pub failed: u64,
    /// What the journal counts.
    pub spent: Spent,
    /// Since the start of this run.
    pub elapsed: Duration,
}

impl JobProgress {
    /// Answers from the source a second.
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 {
            self.asked as f64 / seconds
        } else {
            0.0
        }
    }

    /// Time left at this rate, if the rest of the calls has to be asked; refusals among them are
    /// expected to go on as before.
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.total?.saturating_sub(self.done) as f64;
        let answers = (self.asked + self.cached) as f64;
        let per_call = if self.done > 0 {
            (answers / self.done as f64).max(1.0)
        } else {
            1.0
        };
        Duration::try_from_secs_f64(left * per_call / self.rate()).ok()
    }
}

/// What a job did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSummary {
    /// What became of the calls.
    pub report: RejectReport,
    /// What all answers in the journal cost, those of earlier runs included.
    pub spent: Spent,
    /// Answers from the source in this run.
    pub asked: u64,
    /// Answers from the journal.
    pub cached: u64,
}

/// What a job did, with its answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobOutcome {
    /// Accepted answers in the order of the calls; `None` where there is none.
    pub answers: Vec<Option<String>>,
    /// What became of the calls.
    pub report: RejectReport,
    /// What all answers in the journal cost, those of earlier runs included.
    pub spent: Spent,
}

/// A job did not finish. What was answered is in the journal, so that the same job goes on from
/// there.
#[derive(Debug, Error)]
pub enum JobError {
    /// A setting that no job can have.
    #[error("job: {field} = {found}: expected {expected}")]
    Config {
        /// The setting.
        field: &'static str,
        /// Its value.
        found: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// Every further call would fail the same way.
    #[error("{error} (after {done} calls; what was answered is in the journal)")]
    Fatal {
        /// What happened.
        error: ChatError,
        /// Calls with an answer or given up.
        done: u64,
    },
    /// The stop flag was set.
    #[error("stopped after {done} calls; what was answered is in the journal")]
    Interrupted {
        /// Calls with an answer or given up.
        done: u64,
    },
    /// Too many calls failed one after the other.
    #[error(
        "{failures} calls failed one after the other, the last one with: {error} (after {done} \
         calls; what was answered is in the journal)"
    )]
    TooManyFailures {
        /// How many.
        failures: u32,
        /// The last failure.
        error: ChatError,
        /// Calls with an answer or given up.
        done: u64,
    },
    /// The source or a check panicked.
    #[error("the source `{answerer}` or a check of its answers panicked at the call `{id}`")]
    Panicked {
        /// Name of the source.
        answerer: String,
        /// Id of the call.
        id: String,
    },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The answers could not be handed on.
    #[error("cannot write the answers: {0}")]
    Sink(#[source] io::Error),
}

/// Many calls to one source.
///
/// ```
/// use datagen::chat::{Answer, AnswerSource, Call, ChatError, ChatRequest, Usage};
/// use datagen::job::{Job, Journal};
///
/// struct Echo;
/// impl AnswerSource for Echo {
///     fn name(&self) -> &str {
///         "echo"
///     }
///     fn answer(&self, call: &Call, _: u32) -> Result<Answer, ChatError> {
///         Ok(Answer { text: call.source.clone(), usage: Usage::default() })
///     }
/// }
///
/// let calls = (0..3).map(|number| Call {
///     id: number.to_string(),
///     kind: "echo".into(),
///     source: format!("text {number}"),
///     request: ChatRequest {
///         system: String::new(),
///         user: format!("text {number}"),
///         temperature: 0.0,
///         max_tokens: 8,
///         schema: None,
///     },
/// });
/// let journal = Journal::in_memory();
/// let outcome = Job::new(&Echo, &journal).run(calls)?;
/// assert_eq!(outcome.answers[2].as_deref(), Some("text 2"));
/// assert_eq!(outcome.spent.calls, 3);
/// # Ok::<(), datagen::job::JobError>(())
/// ```
pub struct Job<'a> {
    source: &'a dyn AnswerSource,
    journal: &'a Journal,
    config: JobConfig,
    checks: Checks<'a>,
    stop: Option<&'a AtomicBool>,
    progress: Box<dyn FnMut(&JobProgress) + 'a>,
}

impl std::fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("source", &self.source.name())
            .field("config", &self.config)
            .field("checks", &self.checks)
            .finish_non_exhaustive()
    }
}

impl<'a> Job<'a> {
    /// A job with default settings that accepts any answer.
    pub fn new(source: &'a dyn AnswerSource, journal: &'a Journal) -> Self {
        Self {
            source,
            journal,
            config: JobConfig::default(),
            checks: Checks::None,
            stop: None,
            progress: Box::new(|_| {}),
        }
    }

    /// With these settings.
    #[must_use]
    pub fn config(mut self, config: JobConfig) -> Self {
        self.config = config;
        self
    }

    /// With these checks.
    #[must_use]
    pub fn checks(mut self, checks: Checks<'a>) -> Self {
        self.checks = checks;
        self
    }

    /// Stops when the flag is set, after the calls under way. Give the same flag to the source if it
    /// can wait long.
    #[must_use]
    pub fn stop_on(mut self, stop: &'a AtomicBool) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Calls `progress` whenever answers came in, from the thread that runs the job.
    #[must_use]
    pub fn progress(mut self, progress: impl FnMut(&JobProgress) + 'a) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Runs the calls and collects their answers.
    ///
    /// # Errors
    /// [`JobError`].
    pub fn run(self, calls: impl IntoIterator<Item = Call>) -> Result<JobOutcome, JobError> {
        let mut answers = Vec::new();
        let summary = self.run_each(calls, |_, answer| {
            answers.push(answer.map(str::to_owned));
            Ok(())
        })?;
        Ok(JobOutcome {
            answers,
            report: summary.report,
            spent: summary.spent,
        })
    }

    /// Runs the calls and hands each with its answer to `sink`, in their order.
    ///
    /// Calls are taken from the iterator as they are needed: at most 64 for each worker are in
    /// memory. What grows with the number of calls are digests of 16 to 32 bytes in the index of the
    /// journal and the set of accepted texts, about 100 bytes a call.
    ///
    /// # Errors
    /// [`JobError`], also with an error of `sink`.
    pub fn run_each(
        mut self,
        calls: impl IntoIterator<Item = Call>,
        sink: impl FnMut(&Call, Option<&str>) -> io::Result<()>,
    ) -> Result<JobSummary, JobError> {
        let concurrency = self.config.concurrency;
        if !(1..=1024).contains(&concurrency) {
            return Err(JobError::Config {
                field: "concurrency",
                found: concurrency.to_string(),
                expected: "1 to 1024",
            });
        }
        let halt = AtomicBool::new(false);
        let (work, workers_end) = mpsc::channel();
        let workers_end = Mutex::new(workers_end);
        let (results, incoming) = mpsc::channel();
        let worker = Worker {
            source: self.source,
            journal: self.journal,
            checks: self.checks,
            halt: &halt,
        };
        let progress = std::mem::replace(&mut self.progress, Box::new(|_| {}));
        let outcome = std::thread::scope(|scope| {
            for _ in 0..concurrency {
                let results = results.clone();
                let (worker, work) = (&worker, &workers_end);
                scope.spawn(move || worker.run(work, &results));
            }
            drop(results);
            let calls = calls.into_iter();
            let mut run = Run {
                total: calls.size_hint().1.map(|total| total as u64),
                calls,
                calls_end: false,
                sink,
                job: &self,
                progress,
                halt: &halt,
                work,
                incoming,
                window: VecDeque::new(),
                first: 0,
                room: concurrency.saturating_mul(AHEAD),
                in_flight: HashMap::new(),
                accepted: Accepted::default(),
                report: RejectReport::default(),
                rejected: 0,
                shown: 0,
                asked: 0,
                cached: 0,
                failures: 0,
                error: None,
                began: Instant::now(),
            };
            let outcome = run.all();
            // Whatever ended the run, the workers finish what is under way and find no more.
            halt.store(true, Ordering::SeqCst);
            outcome.map(|()| JobSummary {
                spent: self.journal.spent(),
                report: run.report,
                asked: run.asked,
                cached: run.cached,
            })
        });
        // After an error workers may have finished calls that nobody took.
        let synced = self.journal.sync();
        let summary = outcome?;
        synced?;
        Ok(summary)
    }
}

/// A call that a worker is to make.
struct Work {
    slot: u64,
    key: Key,
    call: Arc<Call>,
    attempt: u32,
}

/// What came of it.
struct Done {
    slot: u64,
    key: Key,
    call: Arc<Call>,
    result: Got,
}

enum Got {
    /// In the journal.
    Answer {
        location: Location,
        usage: Usage,
        checked: Result<String, Rejection>,
    },
    Failed(ChatError),
    Journal(JournalError),
    Panicked,
    /// Not asked because the job stops.
    Skipped,
}

/// What every worker shares.
struct Worker<'a> {
    source: &'a dyn AnswerSource,
    journal: &'a Journal,
    checks: Checks<'a>,
    halt: &'a AtomicBool,
}

impl Worker<'_> {
    fn run(&self, work: &Mutex<Receiver<Work>>, results: &Sender<Done>) {
        loop {
            // One worker waits for the channel, the others for it.
            let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Work {
                slot,
                key,
                call,
                attempt,
            }) = next
            else {
                return;
            };
            let result = if self.halt.load(Ordering::SeqCst) {
                Got::Skipped
            } else {
                catch_unwind(AssertUnwindSafe(|| self.ask(&key, &call, attempt)))
                    .unwrap_or(Got::Panicked)
            };
            let stops = match &result {
                Got::Failed(error) => error.is_fatal(),
                Got::Journal(_) | Got::Panicked => true,
                Got::Answer { .. } | Got::Skipped => false,
            };
            if stops {
                // At once, so that the other workers start nothing that may cost.
                self.halt.store(true, Ordering::SeqCst);
            }
            let done = Done {
                slot,
                key,
                call,
                result,
            };
            if results.send(done).is_err() {
                return;
            }
        }
    }

    fn ask(&self, key: &Key, call: &Call, attempt: u32) -> Got {
        let (text, usage, problem) = match self.source.answer(call, attempt) {
            Ok(answer) => (answer.text, answer.usage, None),
            // Paid for: as much an answer as one that the checks refuse.
            Err(error) => match error.paid() {
                Some(usage) if !error.is_fatal() => (String::new(), usage, Some(error)),
                _ => return Got::Failed(error),
            },
        };
        // A check that panics must not lose the answer.
        let checked = match &problem {
            Some(error) => Ok(Err(Rejection {
                attempt,
                reason: unusable(error),
                detail: error.to_string(),
                text: String::new(),
            })),
            None => catch_unwind(AssertUnwindSafe(|| self.checks.check(call, attempt, &text))),
        };
        let record = Record {
            v: JOURNAL_VERSION,
            key: *key,
            id: call.id.clone(),
            kind: call.kind.clone(),
            source: self.source.name().to_owned(),
            attempt,
            prompt: digest(&call.request.system),
            text,
            usage,
            rejected: match &checked {
                Ok(Err(rejection)) => Some(rejection.reason),
                _ => None,
            },
            problem: problem.map(|error| error.to_string()),
        };
        match (self.journal.append(&record), checked) {
            (Ok(location), Ok(checked)) => Got::Answer {
                location,
                usage,
                checked,
            },
            (Err(error), _) => Got::Journal(error),
            (_, Err(_)) => Got::Panicked,
        }
    }
}

/// The reason for a paid answer without a text to use.
fn unusable(error: &ChatError) -> RejectReason {
    match error {
        ChatError::Declined { .. } => RejectReason::Refusal,
        ChatError::CutOff { .. } => RejectReason::CutOff,
        ChatError::NoText { .. } => RejectReason::Empty,
        ChatError::GaveUp { last, .. } => unusable(last),
        _ => RejectReason::Unusable,
    }
}

/// A call that is not handed on yet.
struct Entry {
    call: Arc<Call>,
    attempt: u32,
    state: State,
    rejections: Vec<Rejection>,
}

enum State {
    /// Asked, or not to be asked any more because the job stops.
    Waiting,
    /// Accepted but for the calls before it.
    Candidate(String),
    /// Refused at every attempt.
    GivenUp,
    /// No answer.
    Failed(ChatError),
}

/// The thread that decides: hands out work, keeps the order, counts.
struct Run<'r, 'a, I, S> {
    calls: I,
    calls_end: bool,
    total: Option<u64>,
    sink: S,
    job: &'r Job<'a>,
    progress: Box<dyn FnMut(&JobProgress) + 'a>,
    halt: &'r AtomicBool,
    work: Sender<Work>,
    incoming: Receiver<Done>,
    /// Calls from number `first` on.
    window: VecDeque<Entry>,
    first: u64,
    /// Longest window.
    room: usize,
    /// Calls that wait for an answer under way.
    in_flight: HashMap<Key, Vec<u64>>,
    accepted: Accepted,
    report: RejectReport,
    rejected: u64,
    /// Calls that were shown as done.
    shown: u64,
    asked: u64,
    cached: u64,
    /// One after the other.
    failures: u32,
    /// The first reason to stop.
    error: Option<JobError>,
    began: Instant,
}

impl<I, S> Run<'_, '_, I, S>
where
    I: Iterator<Item = Call>,
    S: FnMut(&Call, Option<&str>) -> io::Result<()>,
{
    fn all(&mut self) -> Result<(), JobError> {
        loop {
            self.look_at_the_stop_flag();
            let moved = self.fill()? | self.hand_on()?;
            if moved {
                self.show();
            }
            let nothing_left = self.calls_end && self.window.is_empty();
            if self.in_flight.is_empty() {
                if nothing_left || self.error.is_some() {
                    break;
                }
            } else if self.receive(if moved { Duration::ZERO } else { POLL })? {
                self.show();
            }
        }
        match self.error.take() {
            // The flag came too late to matter.
            Some(JobError::Interrupted { .. }) if self.window.is_empty() && self.calls_end => {
                Ok(())
            }
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Calls handed on, and those that only wait for an earlier one.
    fn done(&self) -> u64 {
        let waits = |entry: &&Entry| !matches!(entry.state, State::Waiting);
        self.first + self.window.iter().filter(waits).count() as u64
    }

    /// Keeps the first reason to stop.
    fn stop(&mut self, error: JobError) {
        self.halt.store(true, Ordering::SeqCst);
        self.error.get_or_insert(error);
    }

    fn look_at_the_stop_flag(&mut self) {
        if self.error.is_none()
            && self
                .job
                .stop
                .is_some_and(|stop| stop.load(Ordering::SeqCst))
        {
            self.stop(JobError::Interrupted { done: self.done() });
        }
    }

    fn show(&mut self) {
        self.shown = self.shown.max(self.done());
        let progress = JobProgress {
            done: self.shown,
            total: self.total,
            asked: self.asked,
            cached: self.cached,
            rejected: self.rejected,
            failed: self.report.failed,
            spent: self.job.journal.spent(),
            elapsed: self.began.elapsed(),
        };
        (self.progress)(&progress);
    }

    /// Takes calls while there is room.
    fn fill(&mut self) -> Result<bool, JobError> {
        let before = self.window.len();
        while self.window.len() < self.room && !self.calls_end && self.error.is_none() {
            let Some(call) = self.calls.next() else {
                self.calls_end = true;
                break;
            };
            self.window.push_back(Entry {
                call: Arc::new(call),
                attempt: 0,
                state: State::Waiting,
                rejections: Vec::new(),
            });
            self.ask(self.first + self.window.len() as u64 - 1)?;
        }
        Ok(self.window.len() > before)
    }

    fn entry(&mut self, slot: u64) -> Option<&mut Entry> {
        let place = slot.checked_sub(self.first)?;
        self.window.get_mut(usize::try_from(place).ok()?)
    }

    /// Gets the answer to the attempt that a call is at: from the journal, together with an equal
    /// call, or from a worker.
    fn ask(&mut self, slot: u64) -> Result<(), JobError> {
        let (job, retries) = (self.job, self.job.config.retries);
        loop {
            let Some(entry) = self.entry(slot) else {
                return Ok(());
            };
            if entry.attempt > retries {
                entry.state = State::GivenUp;
                return Ok(());
            }
            entry.state = State::Waiting;
            let (call, attempt) = (entry.call.clone(), entry.attempt);
            let key = Key::new(job.source.name(), &call, attempt);
            if let Some(record) = job.journal.get(&key)? {
                self.cached += 1;
                let checked = recorded(&job.checks, &call, attempt, record);
                if self.judge(slot, checked) {
                    continue;
                }
                return Ok(());
            }
            if self.error.is_some() {
                return Ok(());
            }
            if let Some(slots) = self.in_flight.get_mut(&key) {
                slots.push(slot);
                return Ok(());
            }
            self.in_flight.insert(key, vec![slot]);
            let work = Work {
                slot,
                key,
                call,
                attempt,
            };
            if self.work.send(work).is_err() {
                // No worker is left, which only a panic of theirs can bring about.
                self.in_flight.remove(&key);
                let id = self.entry(slot).map(|entry| entry.call.id.clone());
                self.stop(JobError::Panicked {
                    answerer: self.job.source.name().to_owned(),
                    id: id.unwrap_or_default(),
                });
            }
            return Ok(());
        }
    }

    /// Notes what the checks say; true if the next attempt is to be made.
    fn judge(&mut self, slot: u64, checked: Result<String, Rejection>) -> bool {
        let Some(entry) = self.entry(slot) else {
            return false;
        };
        match checked {
            Ok(text) => {
                entry.state = State::Candidate(text);
                false
            }
            Err(rejection) => {
                entry.rejections.push(rejection);
                entry.attempt = entry.attempt.saturating_add(1);
                self.rejected += 1;
                true
            }
        }
    }

    /// Hands calls on that are done, in their order.
    fn hand_on(&mut self) -> Result<bool, JobError> {
        let before = self.first;
        while let Some(entry) = self.window.front_mut() {
            let answer = match &mut entry.state {
                State::Waiting => break,
                State::Candidate(text) => {
                    let text = std::mem::take(text);
                    let taken = match self.job.checks.unique() {
                        true => self.accepted.take(&entry.call, &text),
                        false => Ok(()),
                    };
                    if let Err(detail) = taken {
                        let rejection = Rejection {
                            attempt: entry.attempt,
                            reason: RejectReason::Duplicate,
                            detail: detail.to_owned(),
                            text,
                        };
                        self.judge(self.first, Err(rejection));
                        self.ask(self.first)?;
                        continue;
                    }
                    self.report.accepted += 1;
                    Some(text)
                }
                State::GivenUp => {
                    self.report.given_up += 1;
                    None
                }
                State::Failed(error) => {
                    self.report.add_failure(&entry.call, error.to_string());
                    None
                }
            };
            self.report.calls += 1;
            for rejection in &entry.rejections {
                self.report.add(&entry.call, rejection);
            }
            (self.sink)(&entry.call, answer.as_deref()).map_err(|error| {
                self.halt.store(true, Ordering::SeqCst);
                JobError::Sink(error)
            })?;
            self.window.pop_front();
            self.first += 1;
        }
        Ok(self.first > before)
    }

    /// Takes what the workers have done, waiting at most this long for the first of it.
    fn receive(&mut self, wait: Duration) -> Result<bool, JobError> {
        let mut all = Vec::new();
        match self.incoming.recv_timeout(wait) {
            Ok(done) => all.push(done),
            Err(RecvTimeoutError::Timeout) => return Ok(false),
            // All workers are gone: whoever waits for one waits in vain.
            Err(RecvTimeoutError::Disconnected) => {
                self.in_flight.clear();
                return Ok(false);
            }
        }
        all.extend(self.incoming.try_iter());
        // One flush for all of them; only then they count.
        if all
            .iter()
            .any(|done| matches!(done.result, Got::Answer { .. }))
        {
            self.job.journal.sync()?;
        }
        for done in all {
            self.take(done)?;
        }
        Ok(true)
    }

    fn take(&mut self, done: Done) -> Result<(), JobError> {
        let slots = self.in_flight.remove(&done.key).unwrap_or_default();
        match done.result {
            Got::Answer {
                location,
                usage,
                checked,
            } => {
                self.failures = 0;
                self.asked += 1;
                self.job.journal.publish(&done.key, location, usage);
                let mut checked = Some(checked);
                for slot in slots {
                    let own = checked.take_if(|_| slot == done.slot);
                    // Equal calls read the answer from the journal.
                    if own.is_none_or(|checked| self.judge(slot, checked)) {
                        self.ask(slot)?;
                    }
                }
            }
            Got::Skipped => {}
            Got::Failed(ChatError::Stopped) => {
                self.stop(JobError::Interrupted { done: self.done() });
            }
            Got::Failed(error) if error.is_fatal() => self.stop(JobError::Fatal {
                error,
                done: self.done(),
            }),
            Got::Failed(error) => {
                self.failures = self.failures.saturating_add(1);
                let limit = self.job.config.max_failures;
                if limit > 0 && self.failures >= limit {
                    self.stop(JobError::TooManyFailures {
                        failures: self.failures,
                        error: error.clone(),
                        done: self.done(),
                    });
                }
                for slot in slots {
                    if let Some(entry) = self.entry(slot) {
                        entry.state = State::Failed(error.clone());
                    }
                }
            }
            Got::Journal(error) => self.stop(JobError::Journal(error)),
            Got::Panicked => self.stop(JobError::Panicked {
                answerer: self.job.source.name().to_owned(),
                id: done.call.id.clone(),
            }),
        }
        Ok(())
    }
}

/// What the checks say of an answer in the journal.
fn recorded(
    checks: &Checks<'_>,
    call: &Call,
    attempt: u32,
    record: Record,
) -> Result<String, Rejection> {
    match record.problem {
        None => checks.check(call, attempt, &record.text),
        Some(detail) => Err(Rejection {
            attempt,
            reason: record.rejected.unwrap_or(RejectReason::Unusable),
            detail,
            text: record.text,
        }),
    }
}
