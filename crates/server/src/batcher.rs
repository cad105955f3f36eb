//! Requests become batches: one thread owns the model, texts wait in a bounded queue, and a batch
//! takes as many of them, in order, as the token budget allows.
//!
//! A text is never held back to wait for company: the batch starts as soon as the model is free,
//! with whatever waits by then. The texts of one request may be spread over several batches, so
//! that one text and a list of texts meet the same limit.
//!
//! Admission: a request that finds nobody waiting is always taken. Otherwise it is refused if the
//! texts would not fit into the queue, or if the tokens ahead of it would take longer, at the speed
//! measured so far, than `max_wait` and than eight requests of the usual size. The second bound makes
//! the rule independent of the model: at half load one request in a hundred waits for about three
//! others, so waiting for eight keeps latency under any load within three times that of half load,
//! and a handful of clients is not refused because the model is slow.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::engine::{Engine, EngineError, EngineSource, ModelInfo, caught};
use crate::error::{ApiError, Kind, StartError};
use crate::health::{Health, ModelState};
use crate::metrics::Metrics;

/// Shortest and longest pause before a failed engine is made again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Share that the batches before keep in the measured speed.
const MEMORY: f64 = 0.9;

/// Requests of the usual size that may always be ahead of a new one.
const AHEAD: f64 = 8.0;

/// Longest time in `Retry-After`, in seconds.
const LONGEST_RETRY: f64 = 60.0;

/// Vectors of a request, and where its time went.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) vectors: Vec<Vec<f32>>,
    /// From the arrival to the first batch.
    pub(crate) waited: Duration,
    /// In batches.
    pub(crate) computed: Duration,
}

/// Texts of a request that are not computed yet, and the vectors that are.
struct Job {
    rows: Vec<Vec<u32>>,
    /// Rows before this one are in `done` or in the batch being computed.
    next: usize,
    done: Vec<Vec<f32>>,
    queued: Instant,
    waited: Option<Duration>,
    computed: Duration,
    reply: oneshot::Sender<Result<Answer, ApiError>>,
}

impl Job {
    fn rest(&self) -> &[Vec<u32>] {
        self.rows.get(self.next..).unwrap_or_default()
    }
}

/// Rows of a batch: a job and which of its rows.
struct Slice {
    job: Job,
    from: usize,
}

impl Slice {
    fn rows(&self) -> &[Vec<u32>] {
        self.job
            .rows
            .get(self.from..self.job.next)
            .unwrap_or_default()
    }
}

struct Queue {
    jobs: VecDeque<Job>,
    /// Texts and tokens that are in no batch yet.
    texts: usize,
    tokens: usize,
    /// Tokens of the batch being computed, and since when.
    running: Option<(usize, Instant)>,
    /// Decaying sums of tokens computed and of the seconds they took.
    speed: (f64, f64),
    /// Decaying mean of the tokens of a request; 0 before the first.
    request_tokens: f64,
    closed: bool,
}

impl Queue {
    fn tokens_per_second(&self) -> f64 {
        self.speed.0 / self.speed.1.max(1e-9)
    }

    /// Seconds until the model would turn to a text that arrives now.
    fn wait(&self) -> f64 {
        let speed = self.tokens_per_second().max(1e-9);
        let running = self.running.map_or(0.0, |(tokens, since)| {
            (tokens as f64 / speed - since.elapsed().as_secs_f64()).max(0.0)
        });
        running + self.tokens as f64 / speed
    }

    /// Longest of these waits that a request is taken with, in seconds.
    fn longest_wait(&self, max_wait: Duration) -> f64 {
        let usual = self.request_tokens / self.tokens_per_second().max(1e-9);
        max_wait.as_secs_f64().max(AHEAD * usual)
    }

    /// Takes a request into the mean of their sizes.
    fn note_size(&mut self, tokens: usize) {
        let tokens = tokens as f64;
        self.request_tokens = match self.request_tokens {
            0.0 => tokens,
            mean => MEMORY * mean + (1.0 - MEMORY) * tokens,
        };
    }
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    engine: RwLock<Arc<dyn Engine>>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    max_batch_tokens: usize,
    queue_texts: usize,
    max_wait: Duration,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A panic while it was held would have been in code of this file, between consistent
        // states.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sizes of the queue and of batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    pub(crate) max_batch_tokens: usize,
    pub(crate) queue_texts: usize,
    pub(crate) max_wait: Duration,
}

/// The way to the thread with the model.
pub(crate) struct Batcher {
    shared: Arc<Shared>,
    info: ModelInfo,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Batcher {
    /// Makes the engine and starts its thread, which computes a warm-up batch first.
    pub(crate) fn start(
        source: EngineSource,
        limits: BatchLimits,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let engine = caught(&source)??;
        let info = engine.info().clone();
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                texts: 0,
                tokens: 0,
                running: None,
                speed: (0.0, 0.0),
                request_tokens: 0.0,
                closed: false,
            }),
            wake: Condvar::new(),
            engine: RwLock::new(engine),
            health,
            metrics,
            max_batch_tokens: limits.max_batch_tokens,
            queue_texts: limits.queue_texts,
            max_wait: limits.max_wait,
        });
        let worker = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("batches".to_owned())
            .spawn(move || worker.work(&source))
            .map_err(|source| StartError::System {
                what: "the thread of the model",
                source,
            })?;
        Ok(Self {
            shared,
            info,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// What the model is.
    pub(crate) fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The engine in use.
    pub(crate) fn engine(&self) -> Arc<dyn Engine> {
        self.shared.engine()
    }

    /// Refuses early what [`submit`](Self::submit) would refuse, before a text is looked at.
    pub(crate) fn admit(&self) -> Result<(), ApiError> {
        self.shared.admit(&self.shared.queue(), 1)
    }

    /// Vectors of rows of ids, in their order. Dropping the future withdraws what is not computed.
    pub(crate) async fn submit(&self, rows: Vec<Vec<u32>>) -> Result<Answer, ApiError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut queue = self.shared.queue();
            self.shared.admit(&queue, rows.len())?;
            let tokens = rows.iter().map(Vec::len).sum::<usize>();
            queue.texts += rows.len();
            queue.tokens += tokens;
            queue.note_size(tokens);
            queue.jobs.push_back(Job {
                next: 0,
                done: Vec::with_capacity(rows.len()),
                rows,
                queued: Instant::now(),
                waited: None,
                computed: Duration::ZERO,
                reply,
            });
            self.shared.show(&queue);
        }
        self.shared.wake.notify_one();
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(stopping()),
        }
    }

    /// Ends the thread after the batch being computed; what still waits is refused.
    pub(crate) fn close(&self) {
        self.shared.queue().closed = true;
        self.shared.wake.notify_all();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread of the model ended with a panic");
        }
    }
}

impl Drop for Batcher {
    /// The thread ends by itself; nobody waits for it here.
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.wake.notify_all();
    }
}

fn stopping() -> ApiError {
    ApiError::new(Kind::Unavailable, "the server is stopping").retry_after(1)
}

impl Shared {
    fn admit(&self, queue: &Queue, texts: usize) -> Result<(), ApiError> {
        if queue.closed {
            return Err(stopping());
        }
        if let Some(reason) = self.health.model_unready() {
            return Err(ApiError::new(Kind::Unavailable, reason).retry_after(1));
        }
        let wait = queue.wait();
        let full = queue.texts + texts > self.queue_texts;
        if queue.texts == 0 || (!full && wait <= queue.longest_wait(self.max_wait)) {
            return Ok(());
        }
        self.metrics.rejected.inc();
        let message = format!(
            "too many requests: {} texts wait for the model, about {:.0} ms",
            queue.texts,
            wait * 1000.0
        );
        // Whole seconds from 1 to 60; the cast cannot lose anything.
        let seconds = wait.ceil().clamp(1.0, LONGEST_RETRY) as u64;
        Err(ApiError::new(Kind::Overloaded, message).retry_after(seconds))
    }

    fn show(&self, queue: &Queue) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.queue_texts.set(number(queue.texts));
        self.metrics.queue_tokens.set(number(queue.tokens));
        self.metrics
            .tokens_per_second
            .set(queue.tokens_per_second());
    }

    /// The thread: warms up, then computes batches until the queue is closed.
    fn work(&self, source: &EngineSource) {
        if let Err(error) = self.warm_up() {
            self.failed(&error);
            if !self.restart(source) {
                return;
            }
        }
        self.health.set_model(ModelState::Ready);
        while let Some(batch) = self.next_batch() {
            if !self.compute(batch) && !self.restart(source) {
                return;
            }
        }
    }

    fn failed(&self, error: &EngineError) {
        self.metrics.engine_failures.inc();
        // The text of a panic of a tokenizer or model may quote what it was given.
        tracing::error!("the model failed");
        tracing::debug!(%error, "the model failed");
    }

    /// Makes a new engine, again and again with longer pauses. `false`: the queue was closed.
    fn restart(&self, source: &EngineSource) -> bool {
        self.health.set_model(ModelState::Broken);
        let mut pause = PAUSES.0;
        loop {
            let made = caught(source).and_then(|engine| engine).and_then(|engine| {
                *self.engine.write().unwrap_or_else(PoisonError::into_inner) = engine;
                self.warm_up()
            });
            let Err(error) = made else {
                self.health.set_model(ModelState::Ready);
                tracing::info!("the model was restarted");
                return true;
            };
            self.failed(&error);
            let mut queue = self.queue();
            for job in queue.jobs.drain(..) {
                let error = ApiError::new(Kind::Unavailable, "the model failed");
                answer(job.reply, Err(error.retry_after(pause.as_secs().max(1))));
            }
            (queue.texts, queue.tokens) = (0, 0);
            self.show(&queue);
            let waited = self
                .wake
                .wait_timeout_while(queue, pause, |queue| !queue.closed)
                .unwrap_or_else(PoisonError::into_inner);
            if waited.0.closed {
                return false;
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Computes a long and a short text twice; the second time is the first measurement.
    fn warm_up(&self) -> Result<(), EngineError> {
        let engine = self.engine();
        let texts = ["warm up ".repeat(64), "warm up".to_owned()];
        let tokenized = caught(|| engine.tokenize(&texts))??;
        let rows: Vec<&[u32]> = tokenized.iter().map(|row| row.ids.as_slice()).collect();
        let mut took = Duration::ZERO;
        for _ in 0..2 {
            let start = Instant::now();
            embed(engine.as_ref(), &rows)?;
            took = start.elapsed();
        }
        let tokens: usize = rows.iter().map(|row| row.len()).sum();
        let mut queue = self.queue();
        queue.speed = (tokens as f64, took.as_secs_f64());
        self.show(&queue);
        Ok(())
    }

    /// Waits for work and takes what fits. `None`: closed.
    fn next_batch(&self) -> Option<Vec<Slice>> {
        let mut queue = self.queue();
        loop {
            if queue.closed {
                // Whoever still waits learns it from the dropped end of the channel.
                queue.jobs.clear();
                return None;
            }
            self.withdraw(&mut queue);
            if !queue.jobs.is_empty() {
                break;
            }
            queue = self
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let mut batch = Vec::new();
        let mut tokens = 0;
        while let Some(mut job) = queue.jobs.pop_front() {
            let from = job.next;
            let mut taken = 0;
            for row in job.rest() {
                // A first row beyond the budget would wait forever; the check at the start of the
                // server rules it out for engines that keep to their length.
                if tokens > 0 && tokens + row.len() > self.max_batch_tokens {
                    break;
                }
                tokens += row.len();
                taken += 1;
            }
            if taken == 0 && !job.rest().is_empty() {
                queue.jobs.push_front(job);
                break;
            }
            job.next += taken;
            let waited = *job.waited.get_or_insert(job.queued.elapsed());
            if from == 0 {
                self.metrics.wait_seconds.observe(waited.as_secs_f64());
            }
            queue.texts = queue.texts.saturating_sub(taken);
            let complete = job.rest().is_empty();
            batch.push(Slice { job, from });
            if !complete {
                break;
            }
        }
        queue.tokens = queue.tokens.saturating_sub(tokens);
        queue.running = Some((tokens, Instant::now()));
        self.show(&queue);
        Some(batch)
    }

    /// Drops the jobs whose clients are gone.
    fn withdraw(&self, queue: &mut Queue) {
        let (mut texts, mut tokens) = (0, 0);
        queue.jobs.retain(|job| {
            let gone = job.reply.is_closed();
            if gone {
                texts += job.rest().len();
                tokens += job.rest().iter().map(Vec::len).sum::<usize>();
                self.metrics.cancelled.inc();
            }
            !gone
        });
        queue.texts = queue.texts.saturating_sub(texts);
        queue.tokens = queue.tokens.saturating_sub(tokens);
        self.show(queue);
    }

    /// Computes a batch and answers the jobs that are complete. `false`: the engine panicked.
    fn compute(&self, batch: Vec<Slice>) -> bool {
        let engine = self.engine();
        let rows: Vec<&[u32]> = batch
            .iter()
            .flat_map(Slice::rows)
            .map(Vec::as_slice)
            .collect();
        let tokens: usize = rows.iter().map(|row| row.len()).sum();
        self.metrics.batch_tokens.observe(tokens as f64);
        self.metrics.batch_texts.observe(rows.len() as f64);
        let start = Instant::now();
        let outcome = caught(|| embed(engine.as_ref(), &rows));
        let took = start.elapsed();
        self.metrics.batch_seconds.observe(took.as_secs_f64());
        let mut queue = self.queue();
        queue.running = None;
        let (vectors, healthy) = match outcome {
            Ok(Ok(vectors)) => {
                queue.speed.0 = queue.speed.0 * MEMORY + tokens as f64;
                queue.speed.1 = queue.speed.1 * MEMORY + took.as_secs_f64();
                (Some(vectors), true)
            }
            Ok(Err(error)) => {
                self.failed(&error);
                (None, true)
            }
            Err(error) => {
                self.failed(&error);
                // Before anybody is answered: whoever waits for `ready` after this answer waits for
                // the engine that comes next.
                self.health.set_model(ModelState::Broken);
                (None, false)
            }
        };
        let Some(vectors) = vectors else {
            for Slice { job, .. } in batch {
                // The rest of a job that spans batches is not computed either.
                queue.texts = queue.texts.saturating_sub(job.rest().len());
                let rest = job.rest().iter().map(Vec::len).sum::<usize>();
                queue.tokens = queue.tokens.saturating_sub(rest);
                let error = ApiError::new(Kind::Internal, "the model failed on this batch");
                answer(job.reply, Err(error));
            }
            self.show(&queue);
            return healthy;
        };
        let mut vectors = vectors.into_iter();
        for slice in batch {
            let count = slice.rows().len();
            let mut job = slice.job;
            job.done.extend(vectors.by_ref().take(count));
            job.computed += took;
            if job.rest().is_empty() {
                let found = Answer {
                    vectors: job.done,
                    waited: job.waited.unwrap_or_default(),
                    computed: job.computed,
                };
                answer(job.reply, Ok(found));
            } else {
                // Only the last job of a batch can be incomplete.
                queue.jobs.push_front(job);
            }
        }
        self.show(&queue);
        true
    }
}

fn answer(reply: oneshot::Sender<Result<Answer, ApiError>>, outcome: Result<Answer, ApiError>) {
    // The client may have gone meanwhile; then nobody needs it.
    drop(reply.send(outcome));
}

/// Vectors of an engine, checked: what a client gets has the promised shape and only numbers.
fn embed(engine: &dyn Engine, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, EngineError> {
    let vectors = engine.embed(rows)?;
    let dim = engine.info().dim;
    let fits =
        |vector: &Vec<f32>| vector.len() == dim && vector.iter().all(|number| number.is_finite());
    if vectors.len() == rows.len() && vectors.iter().all(fits) {
        return Ok(vectors);
    }
    Err(EngineError(format!(
        "expected {} vectors of {dim} finite numbers, found {} with others",
        rows.len(),
        vectors.len()
    )))
}
