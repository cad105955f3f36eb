//! What every training experiment does around its steps: seeds, phases, checkpoints, timings.
//!
//! A run goes through its seeds; a seed goes through its phases (measure the untrained model, train,
//! measure again). After every phase, and wherever a training loop saves, a checkpoint holds the
//! position, the results so far and the files of the phase, so that an interrupted run goes on from
//! there as if nothing had happened.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use kernels::DeviceSpec;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use training::{
    BoxError, Checkpoint, CheckpointFiles, CheckpointParts, CheckpointStore, EventWriter,
    Experiment, Fault, FileContent, Interrupted, Interruption, MetricsLog, Outcome, Progress,
    RunDir, RunManifest, RunOptions, RunnerMarks, Services, Skips, Step, StepReport, StopFlag,
    fixed_clock, peak_rss_mb, run_steps,
};

use crate::config::to_toml;
use crate::error::RunError;
use crate::guard::{GuardConfig, Statistics};
use crate::report::{Curve, ReportInput, write_report};
use crate::result::{DataInfo, ResultFile, Row, StepTime, Timing, summarise};

/// File of a checkpoint with the position and the results so far.
const RUN_FILE: &str = "run.json";

/// What a program asks for.
pub struct Request<'a, C> {
    /// Settings, checked or not.
    pub config: C,
    /// Where to write; for a resumed run the directory to continue.
    pub out: PathBuf,
    /// Continue the run in `out`.
    pub resume: bool,
    /// Terminal.
    pub progress: Box<dyn Progress>,
    /// Request to stop.
    pub stop: &'a StopFlag,
    /// Command line, for the manifest.
    pub command: Vec<String>,
}

/// Where a run stands and what it has found so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct RunState {
    /// Index into the list of seeds.
    seed: usize,
    /// Index into the list of phases of a seed.
    phase: usize,
    /// Steps done in that phase.
    local: u64,
    /// Result rows of finished phases.
    rows: Vec<Row>,
    /// Timings of finished phases.
    timing: Vec<Timing>,
    /// Timing of the phase at work.
    partial: PartialTiming,
    /// Steps left out because of a number that is not finite.
    #[serde(default)]
    skips: Skips,
    /// The step at work, if only its look at something is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    half: Option<Half>,
}

/// What a step came to before it looked at anything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Half {
    lr: f64,
    values: BTreeMap<String, f64>,
    /// Why it was left out, if it was.
    fault: Option<Fault>,
}

/// Timing of a phase that may be interrupted and resumed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct PartialTiming {
    /// Milliseconds of every step.
    step_ms: Vec<f64>,
    /// Seconds of every epoch.
    epoch_s: Vec<f64>,
    /// Seconds of every refill of a memory bank, with its neighbour search.
    refill_s: Vec<f64>,
}

/// What one step of a [`Stage`] did.
pub(crate) struct Stepped<S> {
    /// State after the step.
    pub(crate) state: S,
    /// Learning rate of the step.
    pub(crate) lr: f64,
    /// Loss and whatever else was measured.
    pub(crate) values: BTreeMap<String, f64>,
    /// Milliseconds of the step itself, without what comes before or after it.
    pub(crate) ms: f64,
    /// Seconds of the refill of a memory bank before the step, if there was one.
    pub(crate) refill_s: Option<f64>,
    /// A number that is not finite; the state has not learned from the batch then.
    pub(crate) fault: Option<Fault>,
}

/// Lets go of work that can be done again when a signal has asked the run to stop.
pub(crate) struct Watch<'a>(pub(crate) &'a StopFlag);

impl Watch<'_> {
    /// Between two parts of the work.
    ///
    /// # Errors
    ///
    /// [`RunError::LetGo`] if the run is to stop.
    pub(crate) fn heed(&self) -> Result<(), RunError> {
        match self.0.requested() {
            Some(_) => Err(RunError::LetGo),
            None => Ok(()),
        }
    }
}

/// Training that goes step by step; steps count from 0 within the stage.
pub(crate) trait Stage {
    /// Everything that changes from step to step.
    type State;
    /// Input of one step.
    type Batch;

    /// What a step needs beforehand and what can be done again from the same state, such as a refill
    /// of a memory bank.
    fn prepare(&mut self, _state: &mut Self::State, _step: u64) -> Result<(), RunError> {
        Ok(())
    }

    /// The batch of a step: a function of index and state alone.
    fn batch(&mut self, state: &Self::State, step: u64) -> Result<Self::Batch, RunError>;

    /// One step: losses, gradients and, if [`training::examine`] finds them sound, an update. Nothing
    /// but state, batch and index may influence the result.
    fn step(
        &mut self,
        state: Self::State,
        batch: Self::Batch,
        step: u64,
        statistics: Statistics,
    ) -> Result<Stepped<Self::State>, RunError>;

    /// What comes after a step: a look at a development set and the like, with further values for the
    /// log. Between its parts it asks `watch`; if it is let go of, it comes again from the same state,
    /// so that state may change only at the end.
    fn look(
        &mut self,
        _state: &mut Self::State,
        _step: u64,
        _values: &mut BTreeMap<String, f64>,
        _watch: &Watch<'_>,
    ) -> Result<(), RunError> {
        Ok(())
    }

    /// Rows of the batch of a step by kind, counted from 0 in the order of the run.
    fn rows(
        &mut self,
        state: &Self::State,
        step: u64,
    ) -> Result<BTreeMap<String, Vec<usize>>, RunError>;

    /// The state as files of a checkpoint.
    fn save<'s>(&'s self, state: &'s Self::State) -> Result<CheckpointParts<'s>, RunError>;

    /// Whether the stage has decided to end before its planned steps.
    fn stopped(&self, _state: &Self::State) -> bool {
        false
    }
}

/// How long a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Steps in all.
    pub(crate) steps: u64,
    /// Steps of an epoch: after each a checkpoint is written.
    pub(crate) per_epoch: u64,
    /// A checkpoint also whenever the steps of the whole run are a multiple of this; 0: never.
    pub(crate) checkpoint_every: u64,
}

/// A phase of a seed.
pub(crate) trait Program {
    /// Steps each phase takes at most; 0 for phases without training.
    fn phases(&self) -> Vec<u64>;

    /// Does the phase with this index for this seed.
    fn phase(&mut self, session: &mut Session<'_>, phase: usize, seed: u64)
    -> Result<(), RunError>;
}

/// What a run is made with, beside its settings.
pub(crate) struct Opening<'o> {
    /// Name of the experiment, as in its results.
    pub(crate) experiment: &'static str,
    /// Seeds in their order.
    pub(crate) seeds: &'o [u64],
    /// Device that was asked for.
    pub(crate) device: DeviceSpec,
    /// SHA-256 of every data file, by name.
    pub(crate) data: &'o BTreeMap<String, String>,
    /// SHA-256 of the model's files, by name.
    pub(crate) model: &'o BTreeMap<String, String>,
    /// Checkpoints kept.
    pub(crate) checkpoints_kept: usize,
    /// What becomes of numbers that are not finite.
    pub(crate) guard: &'o GuardConfig,
}

/// An open run directory with everything that writes to it.
pub(crate) struct Session<'a> {
    pub(crate) dir: RunDir,
    pub(crate) progress: Box<dyn Progress>,
    manifest: RunManifest,
    /// Settings, for the results.
    config: Value,
    seeds: Vec<u64>,
    stop: &'a StopFlag,
    store: CheckpointStore,
    metrics: MetricsLog,
    events: EventWriter,
    state: RunState,
    /// Files that every checkpoint of the seed at work has from here on.
    carried: CheckpointFiles,
    /// Files of the checkpoint that the phase at work continues from.
    resumed: Option<CheckpointFiles>,
    checkpoints_kept: usize,
    guard: GuardConfig,
    /// First global step of the phase at work.
    offset: u64,
}

/// The manifest of a run on this machine.
fn manifest(opening: &Opening<'_>, command: Vec<String>) -> RunManifest {
    let seed = opening.seeds.first().copied().unwrap_or(0);
    let mut manifest = RunManifest::new(opening.experiment, seed);
    manifest.versions = BTreeMap::from([
        ("asterism".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("burn".to_owned(), "0.22.1".to_owned()),
    ]);
    manifest.data = opening.data.clone();
    manifest.model = opening.model.clone();
    manifest.device = opening.device.resolve().to_string();
    manifest.command = command;
    manifest.threads = rayon::current_num_threads();
    manifest
}

impl<'a> Session<'a> {
    /// Creates the run directory, or opens the one to continue.
    ///
    /// # Errors
    ///
    /// The directory cannot be made or read, or its data or model differ from today's.
    pub(crate) fn open<C: Serialize>(
        request: Request<'a, C>,
        opening: &Opening<'_>,
    ) -> Result<Self, RunError> {
        let manifest = manifest(opening, request.command);
        let dir = if request.resume {
            let (dir, old) = RunDir::open(&request.out)?;
            for (what, now, before) in [
                ("data", &manifest.data, &old.data),
                ("model", &manifest.model, &old.model),
            ] {
                if now != before {
                    return Err(RunError::Data(format!(
                        "{what} files differ from those the run was started with"
                    )));
                }
            }
            dir
        } else {
            RunDir::create(&request.out, &to_toml(&request.config)?, &manifest)?
        };
        request.stop.set_farewell(format!(
            "what was done is saved; continue with --resume {}",
            dir.path().display()
        ));
        let store = CheckpointStore::new(dir.path());
        let (mut state, mut carried, mut resumed) =
            (RunState::default(), CheckpointFiles::new(), None);
        let (mut lines, mut bytes) = (0, 0);
        if request.resume
            && let Some(checkpoint) = store.latest()?
        {
            let marks = RunnerMarks::of(&checkpoint)?;
            (lines, bytes) = (marks.metrics_lines, marks.events_bytes);
            state = read_state(&checkpoint)?;
            let (kept, own) = split_carried(checkpoint.files);
            carried = kept;
            resumed = (state.local > 0 || state.half.is_some()).then_some(own);
        }
        Ok(Self {
            metrics: MetricsLog::open(dir.metrics_path(), lines)?,
            // Wall-clock times would make a resumed run differ from an undisturbed one.
            events: EventWriter::open(dir.events_path(), bytes, fixed_clock(0.0))?,
            dir,
            progress: request.progress,
            manifest,
            config: serde_json::to_value(&request.config).unwrap_or(Value::Null),
            seeds: opening.seeds.to_vec(),
            stop: request.stop,
            store,
            state,
            carried,
            resumed,
            checkpoints_kept: opening.checkpoints_kept,
            guard: opening.guard.clone(),
            offset: 0,
        })
    }

    /// Goes through what is left of seeds and phases.
    ///
    /// # Errors
    ///
    /// Those of the phases; [`RunError::Interrupted`] after a signal, with everything saved.
    pub(crate) fn run<P: Program>(&mut self, program: &mut P) -> Result<(), RunError> {
        let phases = program.phases();
        let seed_steps: u64 = phases.iter().sum();
        self.offset =
            seed_steps * self.state.seed as u64 + phases.iter().take(self.state.phase).sum::<u64>();
        while let Some(seed) = self.seeds.get(self.state.seed).copied() {
            while self.state.phase < phases.len() {
                // Phases without steps never look at the request themselves.
                self.heed_signals()?;
                program.phase(self, self.state.phase, seed)?;
                self.state.phase += 1;
                self.state.local = 0;
                self.state.partial = PartialTiming::default();
                self.offset += phases[self.state.phase - 1];
                self.save_boundary()?;
            }
            self.state.seed += 1;
            self.state.phase = 0;
            self.carried.clear();
            self.save_boundary()?;
        }
        Ok(())
    }

    /// Ends the run if a signal has asked for it; what is done is saved already.
    pub(crate) fn heed_signals(&self) -> Result<(), RunError> {
        match self.stop.requested() {
            None => Ok(()),
            Some(interruption) => Err(self.interrupted(interruption)),
        }
    }

    fn interrupted(&self, interruption: Interruption) -> RunError {
        RunError::Interrupted {
            interrupted: Interrupted {
                interruption,
                step: self.offset + self.state.local,
            },
            run_dir: self.dir.path().to_owned(),
        }
    }

    /// Index of the seed at work.
    pub(crate) fn seed_index(&self) -> usize {
        self.state.seed
    }

    /// The seed at work; that of the last phase after the end.
    pub(crate) fn seed(&self) -> u64 {
        let at = self.state.seed.min(self.seeds.len().saturating_sub(1));
        self.seeds.get(at).copied().unwrap_or(0)
    }

    /// Tells the terminal what a person should know of the data.
    pub(crate) fn say<S: AsRef<str>>(&mut self, lines: &[S]) {
        for line in lines {
            self.progress.message(line.as_ref());
        }
    }

    /// What the phases done so far have found. The hashes of `data` are those the run was opened with.
    pub(crate) fn result(&self, data: DataInfo, model: Value, began: Instant) -> ResultFile {
        let data = DataInfo {
            sha256: self.manifest.data.clone(),
            ..data
        };
        let mut result = ResultFile::new(self.manifest.experiment.clone(), data);
        result.device = self.manifest.device.clone();
        result.threads = self.manifest.threads;
        result.model = model;
        result.config = self.config.clone();
        result.rows = self.state.rows.clone();
        result.summary = summarise(&result.rows);
        result.timing = self.state.timing.clone();
        result.skipped_steps = self.state.skips.total;
        result.peak_rss_mb = peak_rss_mb().unwrap_or(0.0);
        result.total_s = began.elapsed().as_secs_f64();
        result
    }

    /// Writes `result.json`, then the report of it, which `complete` may add to.
    ///
    /// # Errors
    ///
    /// Files that cannot be written; those of `complete`.
    pub(crate) fn publish(
        &mut self,
        result: &ResultFile,
        complete: impl FnOnce(&RunDir, &mut ReportInput) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        result.write(&self.dir.path().join("result.json"))?;
        let mut input = ReportInput::new(result.clone());
        complete(&self.dir, &mut input)?;
        write_report(self.dir.path(), &input)?;
        self.progress.finish();
        Ok(())
    }

    /// Keeps a file in every further checkpoint of this seed, for later phases.
    pub(crate) fn carry(&mut self, name: &str, bytes: Vec<u8>) {
        self.carried.insert(format!("{CARRIED}{name}"), bytes);
    }

    /// A file that an earlier phase of this seed has left with [`Session::carry`].
    pub(crate) fn carried(&self, name: &str) -> Option<&[u8]> {
        self.carried
            .get(&format!("{CARRIED}{name}"))
            .map(Vec::as_slice)
    }

    /// Whether the phase at work continues from a checkpoint that has not been taken yet.
    pub(crate) fn resumes(&self) -> bool {
        self.resumed.is_some()
    }

    /// Files of the checkpoint that the phase at work continues from, once.
    pub(crate) fn take_resumed(&mut self) -> Option<CheckpointFiles> {
        self.resumed.take()
    }

    /// Runs what is left of a stage, with a checkpoint after every epoch and on a signal.
    ///
    /// # Errors
    ///
    /// Those of the steps; [`RunError::Interrupted`] after a signal.
    pub(crate) fn train<S: Stage>(
        &mut self,
        name: &str,
        span: Span,
        stage: &mut S,
        mut state: S::State,
    ) -> Result<S::State, RunError> {
        let per_epoch = span.per_epoch.max(1);
        while self.state.local < span.steps && !stage.stopped(&state) {
            let local = self.state.local;
            let end = ((local / per_epoch + 1) * per_epoch).min(span.steps);
            let began = Instant::now();
            let mut running = Running {
                stage,
                name,
                span,
                offset: self.offset,
                run: self.state.clone(),
                carried: &self.carried,
                guard: &self.guard,
                watch: Watch(self.stop),
            };
            let options = RunOptions {
                steps: self.offset + local..self.offset + end,
                checkpoint_every: span.checkpoint_every,
                keep_last: self.checkpoints_kept,
            };
            let mut services = Services {
                progress: self.progress.as_mut(),
                metrics: Some(&mut self.metrics),
                events: Some(&mut self.events),
                checkpoints: Some(&self.store),
                stop: self.stop,
            };
            let done = run_steps(&mut running, state, &options, &mut services);
            self.state = running.run;
            let done = done.map_err(|error| self.stopped_by(error, name, per_epoch))?;
            if let Outcome::Interrupted(interruption) = done.outcome {
                return Err(self.interrupted(interruption));
            }
            state = done.state;
            self.state
                .partial
                .epoch_s
                .push(began.elapsed().as_secs_f64());
        }
        Ok(state)
    }

    /// A run that ends because of a number that is not finite leaves a file with the rows of the batch.
    fn stopped_by(&self, error: training::Error, stage: &str, per_epoch: u64) -> RunError {
        let training::Error::Faulty { step, fault } = &error else {
            return error.into();
        };
        let dump = Dump {
            schema: "asterism/non-finite/1",
            stage,
            seed: self.seed(),
            epoch: step.saturating_sub(self.offset) / per_epoch,
            step: *step,
            skipped_before: self.state.skips.in_a_row,
            fault,
        };
        let written = serde_json::to_vec_pretty(&dump)
            .map_err(|error| RunError::Data(format!("write {NON_FINITE}: {error}")))
            .and_then(|text| Ok(self.dir.write(NON_FINITE, &text)?));
        match written {
            Ok(dump) => RunError::NotFinite {
                error: Box::new(error),
                stage: stage.to_owned(),
                dump,
            },
            // A disk that is full as well: the number is what has to be known.
            Err(_) => error.into(),
        }
    }

    /// Books the results of a phase; `evaluating` is when its evaluation began.
    ///
    /// # Errors
    ///
    /// The log cannot be written.
    pub(crate) fn conclude(
        &mut self,
        stage: &str,
        rows: Vec<Row>,
        evaluating: Instant,
    ) -> Result<(), RunError> {
        for row in &rows {
            let mut line = json!({"event": "evaluation"});
            if let (Value::Object(line), Ok(Value::Object(row))) =
                (&mut line, serde_json::to_value(row))
            {
                line.extend(row);
            }
            self.metrics.append(&line)?;
        }
        self.state.rows.extend(rows);
        let partial = &self.state.partial;
        self.state.timing.push(Timing {
            stage: stage.to_owned(),
            steps: partial.step_ms.len() as u64,
            step_ms: spread(&partial.step_ms),
            epoch_s: partial.epoch_s.clone(),
            refill_s: partial.refill_s.clone(),
            evaluate_s: Some(evaluating.elapsed().as_secs_f64()),
        });
        Ok(())
    }

    /// A checkpoint between phases.
    fn save_boundary(&mut self) -> Result<(), RunError> {
        self.metrics.sync()?;
        self.events.sync()?;
        let marks = RunnerMarks {
            step: self.offset,
            metrics_lines: self.metrics.lines(),
            events_bytes: self.events.bytes(),
        };
        let mut files: CheckpointParts<'_> = borrowed(&self.carried).collect();
        files.insert(RUN_FILE.to_owned(), to_bytes(&self.state)?.into());
        files.insert(training::RUNNER_FILE.to_owned(), to_bytes(&marks)?.into());
        self.store.save(self.offset, &files)?;
        Ok(self.store.keep_last(self.checkpoints_kept)?)
    }
}

/// Prefix of the files that belong to the seed and not to a phase.
const CARRIED: &str = "seed-";

/// A checkpoint's files as those of the seed and those of the phase.
fn split_carried(files: CheckpointFiles) -> (CheckpointFiles, CheckpointFiles) {
    files
        .into_iter()
        .filter(|(name, _)| name != RUN_FILE && name != training::RUNNER_FILE)
        .partition(|(name, _)| name.starts_with(CARRIED))
}

/// Files of the seed, for one more checkpoint.
fn borrowed(files: &CheckpointFiles) -> impl Iterator<Item = (String, FileContent<'_>)> {
    files
        .iter()
        .map(|(name, bytes)| (name.clone(), bytes.as_slice().into()))
}

fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, RunError> {
    serde_json::to_vec(value).map_err(|error| RunError::Data(format!("write checkpoint: {error}")))
}

fn read_state(checkpoint: &Checkpoint) -> Result<RunState, RunError> {
    serde_json::from_slice(checkpoint.file(RUN_FILE)?).map_err(|error| {
        RunError::Data(format!(
            "checkpoint {}: {RUN_FILE}: {error}",
            checkpoint.step
        ))
    })
}

/// A file that a checkpoint must have.
pub(crate) fn file_of<'f>(files: &'f CheckpointFiles, name: &str) -> Result<&'f [u8], RunError> {
    files
        .get(name)
        .map(Vec::as_slice)
        .ok_or_else(|| RunError::Data(format!("checkpoint: file {name} is missing")))
}

/// File with the number that ended a run and the rows it came from.
const NON_FINITE: &str = "non-finite.json";

/// Its content.
#[derive(Serialize)]
struct Dump<'d> {
    schema: &'static str,
    stage: &'d str,
    seed: u64,
    epoch: u64,
    step: u64,
    /// Steps left out right before it.
    skipped_before: u64,
    #[serde(flatten)]
    fault: &'d Fault,
}

/// A stage as the loop of `training` sees it: steps counted over the whole run, and checkpoints that
/// hold the run's position beside the stage's own files.
struct Running<'s, S: Stage> {
    stage: &'s mut S,
    name: &'s str,
    span: Span,
    offset: u64,
    run: RunState,
    carried: &'s CheckpointFiles,
    guard: &'s GuardConfig,
    watch: Watch<'s>,
}

impl<S: Stage> Experiment for Running<'_, S> {
    type State = S::State;
    type Batch = S::Batch;

    fn prepare(&mut self, state: &mut S::State, step: u64) -> Result<(), BoxError> {
        if self.run.half.is_some() {
            return Ok(());
        }
        self.stage.prepare(state, step - self.offset).map_err(boxed)
    }

    fn batch(&mut self, state: &S::State, step: u64) -> Result<S::Batch, BoxError> {
        self.stage.batch(state, step - self.offset).map_err(boxed)
    }

    fn step(
        &mut self,
        state: S::State,
        batch: S::Batch,
        step: u64,
    ) -> Result<Step<S::State>, BoxError> {
        let local = step - self.offset;
        let (mut state, half) = match self.run.half.take() {
            Some(half) => (state, half),
            None => {
                let statistics = Statistics::of_step(self.guard, local);
                let stepped = self.stage.step(state, batch, local, statistics);
                let Stepped {
                    state,
                    lr,
                    mut values,
                    ms,
                    refill_s,
                    fault,
                } = stepped.map_err(boxed)?;
                let fault = match fault {
                    None => {
                        self.run.skips.done();
                        None
                    }
                    Some(fault) => {
                        let rows = self.stage.rows(&state, local).map_err(boxed)?;
                        let fault = fault.with_rows(rows);
                        if !self.run.skips.skip(self.guard.most_skips()) {
                            return Ok(Step::Faulty { state, fault });
                        }
                        values.retain(|_, value| value.is_finite());
                        values.insert("skipped".to_owned(), self.run.skips.total as f64);
                        Some(fault)
                    }
                };
                self.run.partial.step_ms.push(ms);
                self.run.partial.refill_s.extend(refill_s);
                (state, Half { lr, values, fault })
            }
        };
        let mut values = half.values.clone();
        match self.stage.look(&mut state, local, &mut values, &self.watch) {
            Err(RunError::LetGo) => {
                self.run.half = Some(half);
                return Ok(Step::Halted { state });
            }
            looked => looked.map_err(boxed)?,
        }
        self.run.local = local + 1;
        let report = StepReport {
            stage: self.name.to_owned(),
            epoch: local / self.span.per_epoch.max(1),
            step,
            total_steps: self.offset + self.span.steps,
            lr: half.lr,
            values,
        };
        Ok(match half.fault {
            None => Step::Done { state, report },
            Some(fault) => Step::Skipped {
                state,
                report,
                fault,
            },
        })
    }

    fn save<'s>(&'s self, state: &'s S::State) -> Result<CheckpointParts<'s>, BoxError> {
        let mut files = self.stage.save(state).map_err(boxed)?;
        files.extend(borrowed(self.carried));
        let run = to_bytes(&self.run).map_err(boxed)?;
        files.insert(RUN_FILE.to_owned(), run.into());
        Ok(files)
    }
}

/// Errors of `training` stay what they are, so that the loop can tell them apart.
fn boxed(error: RunError) -> BoxError {
    match error {
        RunError::Training(error) => Box::new(error),
        other => Box::new(other),
    }
}

/// Minimum, median and maximum.
pub(crate) fn spread(times: &[f64]) -> Option<StepTime> {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(StepTime {
        min: *sorted.first()?,
        median: sorted[sorted.len() / 2],
        max: *sorted.last()?,
    })
}

/// Curves of `metrics.jsonl` by name, stage and seed, for every value whose name `chosen` accepts;
/// steps count from the first of the stage.
pub(crate) fn curves(path: &Path, chosen: impl Fn(&str) -> bool) -> Result<Vec<Curve>, RunError> {
    let text = std::fs::read_to_string(path).map_err(|error| RunError::File {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    let mut curves: BTreeMap<(String, u64), Vec<(f64, f64)>> = BTreeMap::new();
    let mut first: BTreeMap<(String, u64), f64> = BTreeMap::new();
    for line in text.lines() {
        let Ok(Value::Object(line)) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let (Some(stage), Some(step), Some(seed)) = (
            line.get("stage").and_then(Value::as_str),
            line.get("step").and_then(Value::as_f64),
            line.get("seed").and_then(Value::as_f64),
        ) else {
            continue;
        };
        let start = *first.entry((stage.to_owned(), seed as u64)).or_insert(step);
        for (name, value) in line.iter().filter(|(name, _)| chosen(name)) {
            if let Some(value) = value.as_f64() {
                curves
                    .entry((format!("{name}/{stage}"), seed as u64))
                    .or_default()
                    .push((step - start, value));
            }
        }
    }
    Ok(curves
        .into_iter()
        .map(|((name, seed), points)| Curve { name, seed, points })
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn spread_of_times() {
        assert!(spread(&[]).is_none());
        let found = spread(&[3.0, 1.0, 2.0, 9.0, 4.0]).unwrap();
        assert_eq!((found.min, found.median, found.max), (1.0, 3.0, 9.0));
    }

    #[test]
    fn files_of_the_seed_and_of_the_phase_are_told_apart() {
        let names = ["seed-nli", "model", RUN_FILE, training::RUNNER_FILE];
        let files: CheckpointFiles = names
            .iter()
            .map(|name| ((*name).to_owned(), name.as_bytes().to_vec()))
            .collect();
        let (carried, own) = split_carried(files);
        assert_eq!(carried.keys().collect::<Vec<_>>(), ["seed-nli"]);
        assert_eq!(own.keys().collect::<Vec<_>>(), ["model"]);
        assert_eq!(file_of(&own, "model").unwrap(), b"model");
        let error = file_of(&own, "optimizer").unwrap_err().to_string();
        assert!(error.contains("optimizer"), "{error}");
    }

    #[test]
    fn the_position_survives_a_checkpoint_to_the_last_digit() {
        let state = RunState {
            seed: 1,
            phase: 2,
            local: 3,
            partial: PartialTiming {
                step_ms: vec![0.1 + 0.2, 1.0 / 3.0],
                ..PartialTiming::default()
            },
            ..RunState::default()
        };
        let bytes = to_bytes(&state).unwrap();
        assert_eq!(serde_json::from_slice::<RunState>(&bytes).unwrap(), state);
    }

    /// Adds up the indices of its steps; some of them are faulty, and one looks at something.
    struct Adding<'a> {
        faulty: &'a [u64],
        looks_at: Option<u64>,
        /// Asked to stop in the middle of that look.
        stop: Option<&'a StopFlag>,
    }

    const STEPS: u64 = 8;

    impl Stage for Adding<'_> {
        type State = u64;
        type Batch = u64;

        fn batch(&mut self, _: &u64, step: u64) -> Result<u64, RunError> {
            Ok(step)
        }

        fn step(
            &mut self,
            mut state: u64,
            batch: u64,
            step: u64,
            _: Statistics,
        ) -> Result<Stepped<u64>, RunError> {
            let faulty = self.faulty.contains(&step);
            let fault = faulty.then(|| {
                let fault = r#"{"quantity":"loss","tensor":"loss_a","value":"NaN","rows":{}}"#;
                serde_json::from_str(fault).unwrap()
            });
            if !faulty {
                state += batch;
            }
            let loss = if faulty { f64::NAN } else { state as f64 };
            Ok(Stepped {
                state,
                lr: 0.5,
                values: BTreeMap::from([("loss".to_owned(), loss)]),
                ms: 1.0,
                refill_s: None,
                fault,
            })
        }

        fn look(
            &mut self,
            state: &mut u64,
            step: u64,
            values: &mut BTreeMap<String, f64>,
            watch: &Watch<'_>,
        ) -> Result<(), RunError> {
            if self.looks_at == Some(step) {
                values.insert("half_a_look".to_owned(), 1.0);
                if let Some(stop) = self.stop {
                    stop.request(Interruption::Terminate);
                }
                watch.heed()?;
                *state += 1000;
                values.remove("half_a_look");
                values.insert("looked".to_owned(), *state as f64);
            }
            Ok(())
        }

        fn rows(&mut self, _: &u64, step: u64) -> Result<BTreeMap<String, Vec<usize>>, RunError> {
            Ok(BTreeMap::from([("rows".to_owned(), vec![step as usize])]))
        }

        fn save(&self, state: &u64) -> Result<CheckpointParts<'_>, RunError> {
            Ok(CheckpointParts::from([(
                "sum".to_owned(),
                to_bytes(state)?.into(),
            )]))
        }
    }

    impl Program for Adding<'_> {
        fn phases(&self) -> Vec<u64> {
            vec![STEPS]
        }

        fn phase(&mut self, session: &mut Session<'_>, _: usize, _: u64) -> Result<(), RunError> {
            let state = match session.take_resumed() {
                Some(files) => serde_json::from_slice(file_of(&files, "sum")?).unwrap(),
                None => 0,
            };
            let span = Span {
                steps: STEPS,
                per_epoch: 4,
                checkpoint_every: 3,
            };
            let sum = session.train("adding", span, self, state)?;
            session.carry("sum", sum.to_string().into_bytes());
            session.conclude("adding", Vec::new(), Instant::now())
        }
    }

    /// One session in `out`, new or continued; its results.
    fn session(
        out: &Path,
        guard: &GuardConfig,
        stop: &StopFlag,
        mut adding: Adding<'_>,
    ) -> Result<ResultFile, RunError> {
        let nothing = BTreeMap::new();
        let opening = Opening {
            experiment: "adding",
            seeds: &[0],
            device: DeviceSpec::default(),
            data: &nothing,
            model: &nothing,
            checkpoints_kept: 2,
            guard,
        };
        let request = Request {
            config: BTreeMap::from([("guard", guard)]),
            out: out.to_owned(),
            resume: out.join("manifest.json").exists(),
            progress: Box::new(training::Quiet),
            stop,
            command: Vec::new(),
        };
        let mut session = Session::open(request, &opening)?;
        session.run(&mut adding)?;
        Ok(session.result(DataInfo::default(), Value::Null, Instant::now()))
    }

    const SOUND: Adding<'_> = Adding {
        faulty: &[],
        looks_at: None,
        stop: None,
    };

    fn skip(max_skips: u64) -> GuardConfig {
        GuardConfig {
            non_finite: "skip".to_owned(),
            max_skips,
            ..GuardConfig::default()
        }
    }

    fn log(out: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_faulty_step_stops_the_run_saved_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let (stop, guard) = (StopFlag::new(), GuardConfig::default());
        let faulty = Adding {
            faulty: &[5],
            ..SOUND
        };
        let error = session(&out, &guard, &stop, faulty).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        let text = error.to_string();
        let told =
            "stage adding: step 5: `loss_a` is NaN, expected a finite number; batch: rows 5;";
        assert!(
            text.starts_with(told) && text.contains(NON_FINITE),
            "{text}"
        );
        let dump: Value =
            serde_json::from_slice(&std::fs::read(out.join(NON_FINITE)).unwrap()).unwrap();
        let wanted = json!({
            "schema": "asterism/non-finite/1", "stage": "adding", "seed": 0, "epoch": 1, "step": 5,
            "skipped_before": 0, "quantity": "loss", "tensor": "loss_a", "value": "NaN",
            "rows": {"rows": [5]},
        });
        assert_eq!(dump, wanted);
        let kept = CheckpointStore::new(&out).latest().unwrap().unwrap();
        assert_eq!((kept.step, kept.file("sum").unwrap()), (5, &b"10"[..]));
        // With the cause gone it goes on from there.
        let result = session(&out, &guard, &stop, SOUND).unwrap();
        assert_eq!(result.skipped_steps, 0);
        assert_eq!(log(&out)[7]["loss"], 28.0);
    }

    #[test]
    fn faulty_steps_are_left_out_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let stop = StopFlag::new();
        let faulty = || Adding {
            faulty: &[1, 2, 6],
            ..SOUND
        };
        let result = session(&out, &skip(2), &stop, faulty()).unwrap();
        assert_eq!(result.skipped_steps, 3);
        assert_eq!(result.timing[0].steps, STEPS);
        let log = log(&out);
        assert_eq!(log.len(), 8 + 3);
        let skips: Vec<&Value> = log
            .iter()
            .filter(|line| line["event"] == "skipped")
            .collect();
        assert_eq!(skips[2]["rows"], json!({"rows": [6]}));
        assert_eq!(
            (&log[8]["skipped"], log[8].get("loss")),
            (&json!(3.0), None)
        );
        assert_eq!(log[10]["loss"], json!(28.0 - 1.0 - 2.0 - 6.0));
        // Two in a row are one too many.
        let out = dir.path().join("strict");
        let error = session(&out, &skip(1), &stop, faulty()).unwrap_err();
        assert!(error.to_string().contains("step 2: `loss_a`"), "{error}");
        let dump = std::fs::read_to_string(out.join(NON_FINITE)).unwrap();
        assert!(dump.contains("\"skipped_before\": 1"), "{dump}");
        // The count outlives the process.
        let again = session(&out, &skip(1), &stop, faulty()).unwrap_err();
        assert!(again.to_string().contains("step 2: "), "{again}");
    }

    #[test]
    fn a_look_that_is_let_go_of_comes_again_and_the_step_does_not() {
        let dir = tempfile::tempdir().unwrap();
        fn looking(stop: Option<&StopFlag>) -> Adding<'_> {
            Adding {
                looks_at: Some(4),
                stop,
                ..SOUND
            }
        }
        for guard in [GuardConfig::default(), skip(1)] {
            let faulty: &[u64] = if guard.most_skips() > 0 { &[4] } else { &[] };
            let (a, b) = (dir.path().join("a"), dir.path().join("b"));
            let calm = StopFlag::new();
            let adding = Adding {
                faulty,
                ..looking(None)
            };
            session(&a, &guard, &calm, adding).unwrap();
            let stop = StopFlag::new();
            let adding = Adding {
                faulty,
                ..looking(Some(&stop))
            };
            let error = session(&b, &guard, &stop, adding).unwrap_err();
            assert_eq!(error.exit_code(), 143);
            let kept = CheckpointStore::new(&b).latest().unwrap().unwrap();
            let state = read_state(&kept).unwrap();
            assert_eq!((state.local, state.half.is_some()), (4, true));
            let adding = Adding {
                faulty,
                ..looking(None)
            };
            let result = session(&b, &guard, &calm, adding).unwrap();
            assert_eq!(result.skipped_steps, faulty.len() as u64);
            assert_eq!(log(&a), log(&b));
            let bytes = |run: &Path| {
                let kept = CheckpointStore::new(run).latest().unwrap().unwrap();
                kept.file(training::RUNNER_FILE).unwrap().to_vec()
            };
            assert_eq!(bytes(&a), bytes(&b));
            std::fs::remove_dir_all(&a).unwrap();
            std::fs::remove_dir_all(&b).unwrap();
        }
    }

    #[test]
    fn a_kill_at_the_end_of_a_seed_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let (stop, guard) = (StopFlag::new(), GuardConfig::default());
        session(&out, &guard, &stop, SOUND).unwrap();
        let store = CheckpointStore::new(&out);
        let whole = store.latest().unwrap().unwrap();
        // As it is after the last phase, before the seed is over.
        let state = RunState {
            seed: 0,
            phase: 1,
            ..read_state(&whole).unwrap()
        };
        let mut files = whole.files.clone();
        files.insert(RUN_FILE.to_owned(), to_bytes(&state).unwrap());
        files.insert("seed-sum".to_owned(), b"28".to_vec());
        store.save(whole.step, &files).unwrap();
        session(&out, &guard, &stop, SOUND).unwrap();
        let again = store.latest().unwrap().unwrap();
        assert_eq!((again.step, again.files), (whole.step, whole.files));
    }

    #[test]
    fn a_watch_lets_go_once_a_signal_has_come() {
        let stop = StopFlag::new();
        assert!(Watch(&stop).heed().is_ok());
        stop.request(Interruption::Interrupt);
        assert!(matches!(Watch(&stop).heed(), Err(RunError::LetGo)));
    }

    #[test]
    fn curves_start_at_the_first_step_of_their_stage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let text = concat!(
            "{\"event\":\"evaluation\",\"stage\":\"a\",\"value\":1}\n",
            "{\"stage\":\"a\",\"step\":0,\"seed\":7.0,\"loss\":2.0,\"lr\":0.1}\n",
            "not json\n",
            "{\"stage\":\"a\",\"step\":1,\"seed\":7.0,\"loss\":1.0,\"dev_x\":null}\n",
            "{\"stage\":\"b\",\"step\":2,\"seed\":7.0,\"loss\":5.0}\n",
            "{\"stage\":\"b\",\"step\":4,\"seed\":7.0,\"loss\":4.0,\"dev_x\":0.5}\n",
        );
        std::fs::write(&path, text).unwrap();
        let found = curves(&path, |name| name == "loss" || name == "dev_x").unwrap();
        let wanted = [
            ("dev_x/b", vec![(2.0, 0.5)]),
            ("loss/a", vec![(0.0, 2.0), (1.0, 1.0)]),
            ("loss/b", vec![(0.0, 5.0), (2.0, 4.0)]),
        ];
        assert_eq!(found.len(), wanted.len());
        for (curve, (name, points)) in found.iter().zip(wanted) {
            assert_eq!((curve.name.as_str(), curve.seed), (name, 7));
            assert_eq!(curve.points, points);
        }
        assert!(curves(&dir.path().join("none"), |_| true).is_err());
    }
}
