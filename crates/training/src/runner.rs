//! The training loop: a pure step per method, one thin loop around it.
//!
//! Everything a step needs is in its state and its batch, and every random number comes from a
//! stream keyed by the step; so the loop can stop after any step, save, and go on in another process
//! as if nothing had happened. What the loop adds to a checkpoint is [`RUNNER_FILE`]: how long
//! `metrics.jsonl` and the event file were.

use std::ops::Range;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, CheckpointParts, CheckpointStore};
use crate::error::{BoxError, Error, Result};
use crate::guard::{Fault, is_loss};
use crate::metrics_log::MetricsLog;
use crate::progress::{Progress, RESERVED, StepReport};
use crate::signals::{Busy, Interruption, StopFlag};
use crate::tensorboard::EventWriter;
use crate::timing::StepTimes;

/// File of a checkpoint that belongs to the loop.
pub const RUNNER_FILE: &str = "runner.json";

/// What a step came to.
#[derive(Debug)]
pub enum Step<S> {
    /// It is done.
    Done {
        /// State after the step.
        state: S,
        /// What to log.
        report: StepReport,
    },
    /// It was left out because of a number that is not finite; the run goes on.
    Skipped {
        /// State of before the step, but for what does not depend on its gradients.
        state: S,
        /// What to log; finite numbers only.
        report: StepReport,
        /// Which number.
        fault: Fault,
    },
    /// A number is not finite; the run is to end.
    Faulty {
        /// State of before the step.
        state: S,
        /// Which number.
        fault: Fault,
    },
    /// A request to stop came while something after the step proper was at work; the rest is done
    /// first when the run is continued.
    Halted {
        /// State from which [`Experiment::step`] of the same step goes on.
        state: S,
    },
}

/// A method that is trained step by step.
pub trait Experiment {
    /// Everything that changes from step to step: modules, optimiser, queue, early stopping.
    type State;
    /// Input of one step.
    type Batch;

    /// The batch of the step with this 0-based index: a function of index and state alone.
    ///
    /// # Errors
    /// The experiment's own; the loop ends with [`Error::Step`].
    fn batch(&mut self, state: &Self::State, step: u64) -> Result<Self::Batch, BoxError>;

    /// What a step needs beforehand that can be done again from the same state, such as refilling a
    /// memory bank. A request to stop that meets it right after a checkpoint does not wait for it.
    ///
    /// # Errors
    /// The experiment's own; the loop ends with [`Error::Step`].
    fn prepare(&mut self, _state: &mut Self::State, _step: u64) -> Result<(), BoxError> {
        Ok(())
    }

    /// One step. Nothing but state, batch and index may influence the result; `self` is mutable for
    /// caches only.
    ///
    /// # Errors
    /// The experiment's own; the loop ends with [`Error::Step`], or with the error itself if it is
    /// one of this crate.
    fn step(
        &mut self,
        state: Self::State,
        batch: Self::Batch,
        step: u64,
    ) -> Result<Step<Self::State>, BoxError>;

    /// The state as files of a checkpoint. Tensors are best handed over as
    /// [`DeferredTensors`](crate::DeferredTensors), which are in memory one at a time.
    ///
    /// # Errors
    /// The experiment's own; the loop ends with [`Error::Step`].
    fn save<'s>(&'s self, state: &'s Self::State) -> Result<CheckpointParts<'s>, BoxError>;
}

/// Which steps to run and when to save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// 0-based indices of the steps. A run of several stages gives each its own stretch of one
    /// count, so that checkpoint names never clash.
    pub steps: Range<u64>,
    /// Save whenever the number of steps done is a multiple of this; 0 saves only at the end and
    /// when stopped.
    pub checkpoint_every: u64,
    /// Checkpoints to keep, at least 1.
    pub keep_last: usize,
}

/// What the loop reports to.
pub struct Services<'a> {
    /// Terminal.
    pub progress: &'a mut dyn Progress,
    /// `metrics.jsonl`.
    pub metrics: Option<&'a mut MetricsLog>,
    /// TensorBoard.
    pub events: Option<&'a mut EventWriter>,
    /// Where to save; without it nothing is saved.
    pub checkpoints: Option<&'a CheckpointStore>,
    /// Request to stop.
    pub stop: &'a StopFlag,
}

impl std::fmt::Debug for Services<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services")
            .field("metrics", &self.metrics)
            .field("events", &self.events)
            .field("checkpoints", &self.checkpoints)
            .field("stop", &self.stop)
            .finish_non_exhaustive()
    }
}

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// Stopped on request after a whole step; what was done is saved.
    Interrupted(Interruption),
}

/// What the loop hands back.
#[derive(Debug)]
pub struct RunEnd<S> {
    /// State after the last step done.
    pub state: S,
    /// Steps done: the index the next step would have.
    pub step: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Time of each step, without saving and reporting.
    pub times: StepTimes,
}

/// The loop's own part of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerMarks {
    /// Steps done.
    pub step: u64,
    /// Lines of `metrics.jsonl`; see [`MetricsLog::open`].
    pub metrics_lines: u64,
    /// Bytes of the event file; see [`EventWriter::open`].
    pub events_bytes: u64,
}

impl RunnerMarks {
    /// Reads the marks of a checkpoint.
    ///
    /// # Errors
    /// [`Error::CheckpointFile`] if it has none, [`Error::Json`] if they do not parse.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        serde_json::from_slice(checkpoint.file(RUNNER_FILE)?).map_err(|source| Error::Json {
            operation: "read runner.json of the checkpoint",
            source,
        })
    }
}

/// Runs the steps of `options`, starting from `state`.
///
/// After each step the report goes to the terminal, to `metrics.jsonl` and, as `stage/name`, to
/// TensorBoard. A request to stop is honoured between steps: the state is saved and the loop ends.
/// The state is also saved at the end. While anything is unsaved, the stop flag is
/// [busy](StopFlag::busy).
///
/// A step with a number that is not finite either ends the run, with a checkpoint from before it, or
/// is left out; then `metrics.jsonl` has, after the step's report, a line
///
/// ```text
/// {"event":"skipped","stage":...,"step":...,"quantity":...,"tensor":...,"value":...,"rows":{...}}
/// ```
///
/// # Errors
/// [`Error::Faulty`] for [`Step::Faulty`]; [`Error::NotFiniteLoss`] with the step if a value named `loss` or `loss_...` is NaN or infinite
/// (nothing is logged or saved then: the last checkpoint is from before); [`Error::Step`] for errors
/// of the experiment; file errors of saving and logging.
pub fn run_steps<E: Experiment>(
    experiment: &mut E,
    state: E::State,
    options: &RunOptions,
    services: &mut Services<'_>,
) -> Result<RunEnd<E::State>> {
    let mut state = state;
    let mut times = StepTimes::default();
    let mut saved = options.steps.start;
    let mut outcome = Outcome::Finished;
    let mut done = options.steps.start;
    let mut unsaved: Option<Busy> = None;
    for step in options.steps.clone() {
        if let Some(interruption) = services.stop.requested() {
            outcome = Outcome::Interrupted(interruption);
            break;
        }
        let wrap = |source| step_error(step, source);
        experiment.prepare(&mut state, step).map_err(wrap)?;
        unsaved.get_or_insert_with(|| services.stop.busy());
        let began = Instant::now();
        let batch = experiment.batch(&state, step).map_err(wrap)?;
        let came_to = experiment.step(state, batch, step).map_err(wrap)?;
        times.push(began.elapsed());
        match came_to {
            Step::Done {
                state: next,
                report,
            } => {
                state = next;
                check(&report, step)?;
                log(&report, step, services)?;
            }
            Step::Skipped {
                state: next,
                report,
                fault,
            } => {
                state = next;
                check(&report, step)?;
                log(&report, step, services)?;
                if let Some(metrics) = services.metrics.as_deref_mut() {
                    metrics.append(&Skipped {
                        event: "skipped",
                        stage: &report.stage,
                        step,
                        fault: &fault,
                    })?;
                }
            }
            Step::Faulty {
                state: before,
                fault,
            } => {
                if done > saved {
                    save(experiment, &before, done, options, services)?;
                }
                return Err(Error::Faulty {
                    step,
                    fault: Box::new(fault),
                });
            }
            Step::Halted { state: half } => {
                // Only a request halts a step; were it gone, the next look would find none either.
                let interruption = services.stop.requested().unwrap_or(Interruption::Interrupt);
                save(experiment, &half, done, options, services)?;
                return Ok(RunEnd {
                    state: half,
                    step: done,
                    outcome: Outcome::Interrupted(interruption),
                    times,
                });
            }
        }
        done = step + 1;
        if options.checkpoint_every > 0 && done.is_multiple_of(options.checkpoint_every) {
            save(experiment, &state, done, options, services)?;
            saved = done;
            unsaved = None;
        }
    }
    if done > saved {
        save(experiment, &state, done, options, services)?;
    }
    drop(unsaved);
    Ok(RunEnd {
        state,
        step: done,
        outcome,
        times,
    })
}

/// The line of a step that was left out.
#[derive(Serialize)]
struct Skipped<'a> {
    event: &'static str,
    stage: &'a str,
    step: u64,
    #[serde(flatten)]
    fault: &'a Fault,
}

/// An error of this crate stays what it is; others get the step.
fn step_error(step: u64, source: BoxError) -> Error {
    match source.downcast::<Error>() {
        Ok(own) => *own,
        Err(source) => Error::Step { step, source },
    }
}

fn check(report: &StepReport, step: u64) -> Result<()> {
    for (name, value) in &report.values {
        if RESERVED.contains(&name.as_str()) {
            return Err(Error::Setting {
                operation: "report a step",
                field: "values".into(),
                expected: format!("names other than {RESERVED:?}"),
                found: name.clone(),
            });
        }
        if is_loss(name) && !value.is_finite() {
            return Err(Error::NotFiniteLoss {
                step,
                name: name.clone(),
                value: *value,
            });
        }
    }
    Ok(())
}

fn log(report: &StepReport, step: u64, services: &mut Services<'_>) -> Result<()> {
    services.progress.report(report);
    if let Some(metrics) = services.metrics.as_deref_mut() {
        metrics.append(report)?;
    }
    if let Some(events) = services.events.as_deref_mut() {
        let lr = std::iter::once(("lr", report.lr));
        let tagged: Vec<(String, f64)> = report
            .values
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .chain(lr)
            .map(|(name, value)| (format!("{}/{name}", report.stage), value))
            .collect();
        events.scalars(
            step,
            tagged.iter().map(|(tag, value)| (tag.as_str(), *value)),
        )?;
    }
    Ok(())
}

fn save<E: Experiment>(
    experiment: &E,
    state: &E::State,
    done: u64,
    options: &RunOptions,
    services: &Services<'_>,
) -> Result<()> {
    let Some(store) = services.checkpoints else {
        return Ok(());
    };
    let mut marks = RunnerMarks {
        step: done,
        metrics_lines: 0,
        events_bytes: 0,
    };
    // What the marks count must be on the disk before the checkpoint is.
    if let Some(metrics) = services.metrics.as_deref() {
        metrics.sync()?;
        marks.metrics_lines = metrics.lines();
    }
    if let Some(events) = services.events.as_deref() {
        events.sync()?;
        marks.events_bytes = events.bytes();
    }
    let mut files = experiment
        .save(state)
        .map_err(|source| step_error(done, source))?;
    let text = serde_json::to_vec(&marks).map_err(|source| Error::Json {
        operation: "write runner.json of the checkpoint",
        source,
    })?;
    if files.insert(RUNNER_FILE.to_owned(), text.into()).is_some() {
        return Err(Error::CheckpointFileName {
            name: RUNNER_FILE.to_owned(),
        });
    }
    store.save(done, &files)?;
    store.keep_last(options.keep_last)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use burn::module::{Module, Param};
    use burn::tensor::{Device, Tensor, TensorData};
    use rand::Rng;

    use super::*;
    use crate::faults::{FAULTS, Failing};
    use crate::{
        AdamW, AdamWConfig, DeferredTensors, DiskLayer, Examined, FileLayer, LinearSchedule,
        NonFinite, Quiet, RunDir, RunManifest, Streams, clip, examine, fixed_clock,
        from_safetensors, load_module, shuffle, stream,
    };

    #[derive(Module, Debug)]
    struct Line {
        w: Param<Tensor<2>>,
        bias: Param<Tensor<1>>,
    }

    struct State {
        model: Line,
        optimiser: AdamW,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Disturbance {
        None,
        /// The step after this many fails, as if the process had been killed in it.
        Crash(u64),
        /// A signal arrives during this step.
        Signal(u64),
        /// This step's loss is NaN, and nobody but the loop looks.
        Nan(u64),
        /// This step is faulty.
        Faulty(u64),
        /// This step is left out.
        Skip(u64),
        /// A signal halts this step when only a look is missing.
        Halt(u64),
    }

    struct Regression {
        streams: Streams,
        device: Device,
        schedule: LinearSchedule,
        disturbance: Disturbance,
        stop: StopFlag,
        /// Report of the step at work, which is done but for a look at something.
        half: Option<StepReport>,
    }

    const STEPS: u64 = 11;
    const RESULT: &[u8] = b"{\"steps\":11}\n";
    const ROWS: usize = 12;
    const BATCH: u64 = 4;

    impl Regression {
        fn new(disturbance: Disturbance) -> Self {
            Self {
                streams: Streams::new(11),
                device: Device::flex().autodiff(),
                schedule: LinearSchedule {
                    peak: 0.05,
                    warmup_steps: 2,
                    total_steps: STEPS,
                },
                disturbance,
                stop: StopFlag::new(),
                half: None,
            }
        }

        fn model(&self) -> Line {
            Line {
                w: Param::from_data([[0.5f32], [-0.25], [1.0]], &self.device),
                bias: Param::from_data([0.1f32], &self.device),
            }
        }

        fn start(&self) -> State {
            State {
                model: self.model(),
                optimiser: AdamW::new(AdamWConfig::transformers()).unwrap(),
            }
        }

        fn fault(&self) -> Fault {
            let device = Device::flex().autodiff();
            let model = self.model();
            let weight = Tensor::<2>::from_data([[1.0f32], [f32::NAN], [0.0]], &device);
            let grads = (model.w.val() * weight).sum().backward();
            match examine(&model, &BTreeMap::new(), &grads, None, 0).unwrap() {
                Examined::Faulty(fault) => {
                    fault.with_rows(BTreeMap::from([("rows".into(), vec![4, 1])]))
                }
                Examined::Sound(_) => panic!("NaN was not found"),
            }
        }

        fn restore(&mut self, checkpoint: &Checkpoint) -> State {
            self.half = checkpoint
                .files
                .get("half.json")
                .map(|bytes| serde_json::from_slice(bytes).unwrap());
            let model = checkpoint.file("model.safetensors").unwrap();
            let model = load_module(self.model(), model, NonFinite::Refuse, "restore").unwrap();
            let mut optimiser = AdamW::new(AdamWConfig::transformers()).unwrap();
            let state = checkpoint.file("optimiser.safetensors").unwrap();
            let state = from_safetensors(state, NonFinite::Refuse).unwrap();
            optimiser.load_state(&model, state).unwrap();
            State { model, optimiser }
        }
    }

    impl Experiment for Regression {
        type State = State;
        type Batch = (Tensor<2>, Tensor<2>);

        fn batch(&mut self, _: &State, step: u64) -> Result<Self::Batch, BoxError> {
            let per_epoch = ROWS as u64 / BATCH;
            let (epoch, place) = (step / per_epoch, step % per_epoch);
            let order = shuffle(ROWS, &mut self.streams.rng(stream::SHUFFLE, &[epoch]));
            let rows = order.chunks(BATCH as usize).nth(place as usize).unwrap();
            let (mut x, mut y) = (Vec::new(), Vec::new());
            for &row in rows {
                let mut noise = self.streams.rng(stream::AUGMENT, &[step, row as u64]);
                let mut sum = 0.0;
                for column in 0..3 {
                    let value = (row * 3 + column) as f32 / 20.0
                        + noise.next_u32() as f32 / u32::MAX as f32;
                    x.push(value);
                    sum += value * (column as f32 - 0.7);
                }
                y.push(sum);
            }
            let n = rows.len();
            Ok((
                Tensor::from_data(TensorData::new(x, [n, 3]), &self.device),
                Tensor::from_data(TensorData::new(y, [n, 1]), &self.device),
            ))
        }

        fn step(
            &mut self,
            state: State,
            (x, y): Self::Batch,
            step: u64,
        ) -> Result<Step<State>, BoxError> {
            if let Some(report) = self.half.take() {
                return Ok(Step::Done { state, report });
            }
            let mut report = StepReport {
                stage: "line".into(),
                epoch: step / 3,
                step,
                total_steps: STEPS,
                lr: self.schedule.lr(step),
                values: BTreeMap::new(),
            };
            match self.disturbance {
                Disturbance::Crash(at) if at == step => return Err("killed".into()),
                Disturbance::Signal(at) if at == step => {
                    self.stop.request(Interruption::Terminate);
                }
                Disturbance::Faulty(at) if at == step => {
                    let fault = self.fault();
                    return Ok(Step::Faulty { state, fault });
                }
                Disturbance::Skip(at) if at == step => {
                    report.values.insert("skipped".into(), 1.0);
                    let fault = self.fault();
                    return Ok(Step::Skipped {
                        state,
                        report,
                        fault,
                    });
                }
                _ => {}
            }
            let State {
                model,
                mut optimiser,
            } = state;
            let error = x.matmul(model.w.val()) + model.bias.val().unsqueeze::<2>() - y;
            let loss = (error.clone() * error).mean();
            let mut value = f64::from(loss.clone().into_scalar::<f32>());
            if self.disturbance == Disturbance::Nan(step) {
                value = f64::NAN;
            }
            let mut grads = loss.backward();
            let clipped = clip(&model, &grads, Some(1.0), step)?;
            let model = optimiser.step(report.lr, model, &mut grads, clipped.scale)?;
            report.values.insert("loss".into(), value);
            report.values.insert("grad_norm".into(), clipped.norm);
            let state = State { model, optimiser };
            if self.disturbance == Disturbance::Halt(step) {
                self.half = Some(report);
                self.stop.request(Interruption::Interrupt);
                return Ok(Step::Halted { state });
            }
            Ok(Step::Done { state, report })
        }

        fn save<'s>(&'s self, state: &'s State) -> Result<CheckpointParts<'s>, BoxError> {
            let model = DeferredTensors::of_module(&state.model)?;
            let mut files = CheckpointParts::from([
                ("model.safetensors".into(), model.into()),
                (
                    "optimiser.safetensors".into(),
                    state.optimiser.deferred_state().into(),
                ),
            ]);
            if let Some(report) = &self.half {
                files.insert("half.json".into(), serde_json::to_vec(report)?.into());
            }
            Ok(files)
        }
    }

    /// One session in a run directory: a new run, or the continuation of what is there.
    fn session(path: &Path, experiment: &mut Regression) -> Result<RunEnd<State>> {
        session_on(Arc::new(DiskLayer), path, experiment)
    }

    /// The same through another file layer; a finished run leaves `result.json`.
    fn session_on(
        layer: Arc<dyn FileLayer>,
        path: &Path,
        experiment: &mut Regression,
    ) -> Result<RunEnd<State>> {
        let run = match RunDir::open_with(layer.clone(), path) {
            Ok((run, _)) => run,
            Err(Error::NotARun { .. }) => {
                let manifest = RunManifest::new("line", 11);
                RunDir::create_with(layer.clone(), path, "steps = 11\n", &manifest)?
            }
            Err(error) => return Err(error),
        };
        let store = CheckpointStore::with_layer(run.path(), layer.clone());
        let (state, marks) = match store.latest()? {
            Some(found) => (experiment.restore(&found), RunnerMarks::of(&found)?),
            None => (
                experiment.start(),
                RunnerMarks {
                    step: 0,
                    metrics_lines: 0,
                    events_bytes: 0,
                },
            ),
        };
        let mut metrics = MetricsLog::open_with(&*layer, run.metrics_path(), marks.metrics_lines)?;
        let mut events = EventWriter::open_with(
            &*layer,
            run.events_path(),
            marks.events_bytes,
            fixed_clock(0.0),
        )?;
        let stop = experiment.stop.clone();
        let options = RunOptions {
            steps: marks.step..STEPS,
            checkpoint_every: 4,
            keep_last: 1,
        };
        let end = run_steps(
            experiment,
            state,
            &options,
            &mut Services {
                progress: &mut Quiet,
                metrics: Some(&mut metrics),
                events: Some(&mut events),
                checkpoints: Some(&store),
                stop: &stop,
            },
        )?;
        if end.outcome == Outcome::Finished {
            run.write("result.json", RESULT)?;
        }
        Ok(end)
    }

    /// All bytes a run leaves behind that must not depend on how often it was stopped.
    fn traces(path: &Path) -> Vec<(String, Vec<u8>)> {
        let checkpoint = crate::latest(path).unwrap().unwrap();
        assert_eq!(checkpoint.step, STEPS);
        let mut out: Vec<(String, Vec<u8>)> = checkpoint.files.into_iter().collect();
        for name in [
            "metrics.jsonl",
            "events/events.out.tfevents.0.asterism",
            "result.json",
            "config.toml",
            "manifest.json",
        ] {
            out.push((name.into(), fs::read(path.join(name)).unwrap()));
        }
        out
    }

    fn undisturbed() -> Vec<(String, Vec<u8>)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        let end = session(&path, &mut Regression::new(Disturbance::None)).unwrap();
        assert_eq!((end.outcome, end.step), (Outcome::Finished, STEPS));
        assert_eq!(end.times.len(), STEPS as usize);
        traces(&path)
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let first = undisturbed();
        assert_eq!(first, undisturbed());
        let (_, metrics) = first.iter().find(|(n, _)| n == "metrics.jsonl").unwrap();
        let metrics = String::from_utf8(metrics.clone()).unwrap();
        assert_eq!(metrics.lines().count(), STEPS as usize);
    }

    #[test]
    fn a_run_killed_in_any_step_ends_with_the_same_bytes() {
        let expected = undisturbed();
        for at in 0..STEPS {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("run");
            let killed = session(&path, &mut Regression::new(Disturbance::Crash(at)));
            assert!(
                matches!(&killed, Err(Error::Step { step, source }) if *step == at && source.to_string() == "killed")
            );
            let end = session(&path, &mut Regression::new(Disturbance::None)).unwrap();
            assert_eq!(end.outcome, Outcome::Finished);
            assert_eq!(end.times.len() as u64, STEPS - at / 4 * 4);
            assert_eq!(traces(&path), expected, "killed in step {at}");
        }
    }

    #[test]
    fn a_signal_in_any_step_saves_that_step() {
        let expected = undisturbed();
        for at in 0..STEPS {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("run");
            let end = session(&path, &mut Regression::new(Disturbance::Signal(at))).unwrap();
            assert_eq!(end.step, at + 1);
            let last = at + 1 == STEPS;
            let stopped = Outcome::Interrupted(Interruption::Terminate);
            assert_eq!(end.outcome, if last { Outcome::Finished } else { stopped });
            assert_eq!(crate::latest(&path).unwrap().unwrap().step, at + 1);
            let end = session(&path, &mut Regression::new(Disturbance::None)).unwrap();
            assert_eq!(end.times.len() as u64, STEPS - at - 1);
            assert_eq!(traces(&path), expected, "signal in step {at}");
        }
    }

    #[test]
    fn a_signal_during_a_look_saves_the_step_and_the_look_comes_first() {
        let expected = undisturbed();
        for at in 0..STEPS {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("run");
            let end = session(&path, &mut Regression::new(Disturbance::Halt(at))).unwrap();
            assert_eq!(end.outcome, Outcome::Interrupted(Interruption::Interrupt));
            assert_eq!(end.step, at, "its line is not logged yet");
            let kept = crate::latest(&path).unwrap().unwrap();
            assert!(kept.files.contains_key("half.json") && kept.step == at);
            let end = session(&path, &mut Regression::new(Disturbance::None)).unwrap();
            assert_eq!(end.outcome, Outcome::Finished);
            assert_eq!(traces(&path), expected, "halted in step {at}");
        }
    }

    /// A whole run with the k-th file operation failing, for every k until none fails: directory,
    /// settings, manifest, logs, checkpoints, result. What was complete stays, and the run goes on
    /// to the same end.
    #[test]
    fn no_fault_in_any_file_of_a_run_loses_anything() {
        let expected = undisturbed();
        let mut injected = 0;
        for fault in FAULTS {
            for at in 0.. {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("run");
                let layer = Arc::new(Failing::new(fault, at));
                let mut experiment = Regression::new(Disturbance::None);
                let broken = session_on(layer.clone(), &path, &mut experiment).map(drop);
                if let Err(error) = &broken {
                    fault.check(error);
                }
                // A file that is replaced is never seen in part.
                for (name, whole) in &expected {
                    let there = fs::read(path.join(name)).ok();
                    if ["config.toml", "manifest.json", "result.json"].contains(&name.as_str()) {
                        assert!(there.is_none_or(|bytes| bytes == *whole), "{fault:?} {at}");
                    }
                }
                let mut sound = Regression::new(Disturbance::None);
                session_on(Arc::new(Failing::never()), &path, &mut sound).unwrap();
                assert_eq!(traces(&path), expected, "{fault:?} {at}");
                assert_eq!(leftovers(&path), Vec::<String>::new(), "{fault:?} {at}");
                if !layer.reached() {
                    broken.unwrap();
                    break;
                }
                injected += 1;
            }
        }
        assert!(injected > 400, "{injected}");
    }

    /// Names in a run directory of what was begun and not completed.
    fn leftovers(path: &Path) -> Vec<String> {
        let layer = DiskLayer;
        let mut names = layer.list(path).unwrap();
        names.extend(layer.list(&path.join("checkpoints")).unwrap());
        names.retain(|name| name.starts_with('.') || name.ends_with(".tmp"));
        names
    }

    #[test]
    fn a_faulty_step_ends_the_run_with_everything_before_it_saved() {
        let expected = undisturbed();
        for at in 0..STEPS {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("run");
            let faulty = session(&path, &mut Regression::new(Disturbance::Faulty(at)));
            let error = faulty.err().unwrap();
            let text = format!(
                "step {at}: the gradient of `w` is NaN at element 1, expected a finite number; \
                 batch: rows 4 1"
            );
            assert_eq!(error.to_string(), text);
            assert!(matches!(error, Error::Faulty { step, .. } if step == at));
            let kept = crate::latest(&path).unwrap();
            assert_eq!(kept.map(|kept| kept.step), (at > 0).then_some(at));
            session(&path, &mut Regression::new(Disturbance::None)).unwrap();
            assert_eq!(traces(&path), expected, "faulty in step {at}");
        }
    }

    #[test]
    fn a_step_left_out_is_logged_with_its_rows_and_survives_a_kill() {
        let skipped = |crash: bool| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("run");
            if crash {
                let mut killed = Regression::new(Disturbance::Crash(6));
                assert!(session(&path, &mut killed).is_err());
            }
            session(&path, &mut Regression::new(Disturbance::Skip(5))).unwrap();
            traces(&path)
        };
        let found = skipped(false);
        assert_eq!(found, skipped(true));
        let (_, metrics) = found.iter().find(|(n, _)| n == "metrics.jsonl").unwrap();
        let lines: Vec<serde_json::Value> = metrics
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(lines.len() as u64, STEPS + 1);
        assert_eq!(
            (&lines[5]["step"], &lines[5]["skipped"]),
            (&5.into(), &1.0.into())
        );
        assert_eq!(lines[5].get("loss"), None);
        let wanted = serde_json::json!({
            "event": "skipped", "stage": "line", "step": 5, "quantity": "gradient", "tensor": "w",
            "value": "NaN", "element": 1, "rows": {"rows": [4, 1]},
        });
        assert_eq!(lines[6], wanted);
        // The weights of before are those of after.
        assert_ne!(found, undisturbed());
    }

    const CHILD: &str = "TRAINING_KILL_TEST";
    /// Number of kills, to run the test longer than usual.
    const KILLS: &str = "TRAINING_KILLS";

    /// Real processes, really killed: in the middle of a step, a write, a rename. How far each gets
    /// depends on the machine, what must come out does not.
    #[cfg(unix)]
    #[test]
    fn killed_processes_leave_nothing_to_clear_up() {
        use std::process::{Command, Stdio};
        use std::time::Duration;

        if let Some(path) = std::env::var_os(CHILD) {
            session(Path::new(&path), &mut Regression::new(Disturbance::None)).unwrap();
            return;
        }
        let expected = undisturbed();
        let kills = std::env::var(KILLS).map_or(10, |n| n.parse().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        let mut rng = Streams::new(1).rng("test", &[]);
        for kill in 0..kills {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "runner::tests::killed_processes_leave_nothing_to_clear_up",
                    "--exact",
                ])
                .env(CHILD, &path)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(crate::below(120, &mut rng)));
            let _ = child.kill();
            let status = child.wait().unwrap();
            // Killed or finished, but never failed.
            assert!(status.success() || status.code().is_none(), "{status}");
            if status.success() || kill + 1 == kills {
                session(&path, &mut Regression::new(Disturbance::None)).unwrap();
                assert_eq!(traces(&path), expected);
                fs::remove_dir_all(&path).unwrap();
            }
        }
    }

    #[test]
    fn a_nan_loss_stops_with_the_step_and_leaves_the_last_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        let refused = session(&path, &mut Regression::new(Disturbance::Nan(6)));
        assert!(
            matches!(&refused, Err(Error::NotFiniteLoss { step: 6, name, .. }) if name == "loss")
        );
        assert_eq!(crate::latest(&path).unwrap().unwrap().step, 4);
        let metrics = fs::read_to_string(path.join("metrics.jsonl")).unwrap();
        assert_eq!(metrics.lines().count(), 6);
    }

    /// Counts steps; its report and files are whatever the test says.
    struct Counter {
        name: &'static str,
        file: &'static str,
    }

    impl Experiment for Counter {
        type State = u64;
        type Batch = u64;
        fn batch(&mut self, state: &u64, step: u64) -> Result<u64, BoxError> {
            assert_eq!(*state, step);
            Ok(step)
        }
        fn step(&mut self, state: u64, _: u64, step: u64) -> Result<Step<u64>, BoxError> {
            let mut report = crate::progress::tests::report("count", step, 5);
            report.values = BTreeMap::from([(self.name.into(), f64::NAN)]);
            let state = state + 1;
            Ok(Step::Done { state, report })
        }
        fn save(&self, _: &u64) -> Result<CheckpointParts<'_>, BoxError> {
            Ok(CheckpointParts::from([(self.file.into(), vec![].into())]))
        }
    }

    fn count(
        name: &'static str,
        file: &'static str,
        store: Option<&CheckpointStore>,
        stop: &StopFlag,
    ) -> Result<RunEnd<u64>> {
        let options = RunOptions {
            steps: 2..5,
            checkpoint_every: 0,
            keep_last: 1,
        };
        run_steps(
            &mut Counter { name, file },
            2,
            &options,
            &mut Services {
                progress: &mut Quiet,
                metrics: None,
                events: None,
                checkpoints: store,
                stop,
            },
        )
    }

    #[test]
    fn works_without_any_service() {
        let end = count("accuracy", "state", None, &StopFlag::new()).unwrap();
        assert_eq!((end.state, end.step), (5, 5));
    }

    #[test]
    fn stopped_before_the_first_step_saves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(dir.path());
        let stop = StopFlag::new();
        stop.request(Interruption::Interrupt);
        let end = count("accuracy", "state", Some(&store), &stop).unwrap();
        assert_eq!(end.outcome, Outcome::Interrupted(Interruption::Interrupt));
        assert_eq!(end.step, 2);
        assert_eq!(store.steps().unwrap(), Vec::<u64>::new());
    }

    #[test]
    fn names_of_the_loop_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(dir.path());
        let stop = StopFlag::new();
        let refused = count("step", "state", Some(&store), &stop);
        assert!(matches!(refused, Err(Error::Setting { .. })));
        let refused = count("accuracy", RUNNER_FILE, Some(&store), &stop);
        assert!(matches!(refused, Err(Error::CheckpointFileName { .. })));
        let refused = count("loss_kl", "state", Some(&store), &stop);
        assert!(matches!(refused, Err(Error::NotFiniteLoss { step: 2, .. })));
    }
}
