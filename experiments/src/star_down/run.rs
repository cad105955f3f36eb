//! The run: seeds, phases, checkpoints, results.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use encoder::{BertModel, SentenceEncoder, WeightTensor};
use kernels::DeviceSpec;
use serde_json::{Value, json};
use training::{
    CheckpointStore, EventWriter, Interrupted, MetricsLog, NonFinite, Outcome, Progress, RunDir,
    RunManifest, RunOptions, RunnerMarks, Services, StopFlag, Streams, fixed_clock, load_module,
    peak_rss_mb, run_steps, save_module,
};

use super::config::{Objective, StarDownConfig};
use super::contrast::{self, Contrast};
use super::evaluate::{Evaluation, evaluate, tfidf_floor};
use super::prepare::Prepared;
use super::pretrain::{self, Pretrain};
use super::state::{RunState, START_FILE, Stage};
use crate::config::to_toml;
use crate::error::RunError;
use crate::report::{Curve, ReportInput, write_report};
use crate::result::{DataInfo, ResultFile, Row, StepTime, Timing, summarise};

/// What a program asks for.
pub struct Request<'a> {
    /// Settings, checked or not.
    pub config: StarDownConfig,
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

/// One phase of a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    TfIdf,
    Frozen,
    Pretrain,
    Train(Objective),
}

/// Report parts that only the last phase of the first seed has.
const REPORT_PARTS: &str = "report_parts.json";

/// Runs (or continues) the experiment and returns its results.
///
/// # Errors
///
/// Anything from bad input to a full disk; [`RunError::Interrupted`] after a signal, with everything
/// saved.
pub fn run(request: Request<'_>) -> Result<ResultFile, RunError> {
    let began = Instant::now();
    request.config.check()?;
    let spec: DeviceSpec = request.config.device.parse()?;
    let device = spec.open()?;
    let prepared = Prepared::new(&request.config, device)?;
    // An encoder that cannot be built is found before a directory is made for the run.
    prepared.encoder(&Streams::new(
        request.config.seeds.first().copied().unwrap_or(0),
    ))?;
    let manifest = manifest(&request, &prepared, spec);
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
    Session::new(request, prepared, dir, spec)?.run(began)
}

fn manifest(request: &Request<'_>, prepared: &Prepared, spec: DeviceSpec) -> RunManifest {
    let mut manifest = RunManifest::new(
        "star_down",
        request.config.seeds.first().copied().unwrap_or(0),
    );
    manifest.data = prepared.data_hashes.clone();
    manifest.model = prepared.model_hashes.clone();
    manifest.versions = BTreeMap::from([
        ("asterism".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("burn".to_owned(), "0.22.1".to_owned()),
    ]);
    manifest.device = spec.resolve().to_string();
    manifest.command = request.command.clone();
    manifest.threads = rayon::current_num_threads();
    manifest
}

struct Session<'a> {
    request: Request<'a>,
    prepared: Prepared,
    dir: RunDir,
    spec: DeviceSpec,
    phases: Vec<Phase>,
    store: CheckpointStore,
    metrics: MetricsLog,
    events: EventWriter,
    state: RunState,
    /// Backbone after pre-training, for the seed at work.
    start: Option<Vec<u8>>,
    /// Files of the checkpoint that the phase at work continues from.
    resumed: Option<training::CheckpointFiles>,
}

impl<'a> Session<'a> {
    fn new(
        request: Request<'a>,
        prepared: Prepared,
        dir: RunDir,
        spec: DeviceSpec,
    ) -> Result<Self, RunError> {
        let store = CheckpointStore::new(dir.path());
        let checkpoint = if request.resume {
            store.latest()?
        } else {
            None
        };
        let (mut state, mut start, mut resumed) = (RunState::default(), None, None);
        let (mut lines, mut bytes) = (0, 0);
        if let Some(checkpoint) = checkpoint {
            let marks = RunnerMarks::of(&checkpoint)?;
            (lines, bytes) = (marks.metrics_lines, marks.events_bytes);
            state = RunState::of(&checkpoint)?;
            start = checkpoint.files.get(START_FILE).cloned();
            if state.local > 0 {
                resumed = Some(checkpoint.files);
            }
        }
        let metrics = MetricsLog::open(dir.metrics_path(), lines)?;
        // Wall-clock times would make a resumed run differ from an undisturbed one.
        let events = EventWriter::open(dir.events_path(), bytes, fixed_clock(0.0))?;
        let mut phases = Vec::new();
        for stage in &request.config.stages {
            match stage.as_str() {
                "tfidf" => phases.push(Phase::TfIdf),
                "frozen" => phases.push(Phase::Frozen),
                "pretrain" if request.config.pretrain.epochs > 0 => phases.push(Phase::Pretrain),
                "pretrain" => {}
                "train" if request.config.train.epochs > 0 => {
                    phases.extend(request.config.objectives()?.into_iter().map(Phase::Train));
                }
                "train" => {}
                "star" => phases.push(Phase::Train(Objective::Star)),
                _ => phases.push(Phase::Train(Objective::InfoNce)),
            }
        }
        Ok(Self {
            request,
            prepared,
            dir,
            spec,
            phases,
            store,
            metrics,
            events,
            state,
            start,
            resumed,
        })
    }

    fn config(&self) -> &StarDownConfig {
        &self.request.config
    }

    /// Steps a phase would take at most.
    fn planned_steps(&self, phase: Phase) -> u64 {
        let n = self.prepared.data.train.len();
        match phase {
            Phase::TfIdf | Phase::Frozen => 0,
            Phase::Pretrain => {
                pretrain::steps_per_epoch(n, self.config()) * self.config().pretrain.epochs
            }
            Phase::Train(_) => {
                contrast::steps_per_epoch(n, self.config()) * self.config().train.epochs
            }
        }
    }

    /// First global step of the phase at work. Every phase has its own stretch of one count, whether
    /// or not an earlier one stopped early, so that checkpoint names never clash.
    fn offset(&self) -> u64 {
        let seed: u64 = self
            .phases
            .iter()
            .map(|phase| self.planned_steps(*phase))
            .sum();
        let before: u64 = self.phases[..self.state.phase]
            .iter()
            .map(|phase| self.planned_steps(*phase))
            .sum();
        seed * self.state.seed as u64 + before
    }

    fn run(mut self, began: Instant) -> Result<ResultFile, RunError> {
        self.request
            .progress
            .message(&format!("{}", self.prepared.data.report));
        let seeds = self.config().seeds.clone();
        while self.state.seed < seeds.len() {
            let seed = seeds[self.state.seed];
            let streams = Streams::new(seed);
            let encoder = self.prepared.encoder(&streams)?;
            while self.state.phase < self.phases.len() {
                // Phases without steps never look at the request themselves.
                if let Some(interruption) = self.request.stop.requested() {
                    interrupted(
                        Outcome::Interrupted(interruption),
                        self.offset() + self.state.local,
                        &self.dir,
                    )?;
                }
                let phase = self.phases[self.state.phase];
                self.phase(phase, seed, &streams, &encoder)?;
                self.state.phase += 1;
                self.state.local = 0;
                self.state.early = None;
                self.state.stopped = false;
                self.state.partial = Default::default();
                self.save_boundary()?;
            }
            self.state.seed += 1;
            self.state.phase = 0;
            self.start = None;
            self.save_boundary()?;
        }
        self.finish(began)
    }

    /// A checkpoint between phases: results so far, and the backbone the next ones start from.
    fn save_boundary(&mut self) -> Result<(), RunError> {
        self.metrics.sync()?;
        self.events.sync()?;
        let step = self.offset();
        let marks = RunnerMarks {
            step,
            metrics_lines: self.metrics.lines(),
            events_bytes: self.events.bytes(),
        };
        let mut files = self.state.files(self.start.as_deref())?;
        let text = serde_json::to_vec(&marks).map_err(|error| RunError::Data(error.to_string()))?;
        files.insert(training::RUNNER_FILE.to_owned(), text);
        self.store.save(step, &files)?;
        self.store.keep_last(self.config().checkpoints_kept)?;
        Ok(())
    }

    /// The encoder a training phase starts from: pre-trained if that phase ran, else as it came.
    fn start_encoder(&self, encoder: &SentenceEncoder) -> Result<SentenceEncoder, RunError> {
        let mut encoder = encoder.clone();
        if let Some(start) = &self.start {
            encoder.bert = load_module(
                encoder.bert,
                start,
                NonFinite::Allow,
                "start from pre-training",
            )?;
        }
        Ok(encoder)
    }

    fn phase(
        &mut self,
        phase: Phase,
        seed: u64,
        streams: &Streams,
        encoder: &SentenceEncoder,
    ) -> Result<(), RunError> {
        match phase {
            Phase::TfIdf => {
                let began = Instant::now();
                let rows = tfidf_floor(&self.prepared, self.config(), seed)?;
                self.conclude("tfidf", rows, began)?;
            }
            Phase::Frozen => {
                let bert = encoder.bert.clone();
                self.evaluate_and_conclude("frozen", &bert, seed, streams, encoder)?;
            }
            Phase::Pretrain => {
                let backbone = self.pretrain(seed, encoder)?;
                self.start = Some(save_module(&backbone)?);
                self.evaluate_and_conclude("pretrain", &backbone, seed, streams, encoder)?;
            }
            Phase::Train(objective) => {
                let started = self.start_encoder(encoder)?;
                let (backbone, tensors) = self.train(objective, seed, &started)?;
                let name = self.config().stage_name(objective);
                let evaluation =
                    self.evaluate_and_conclude(&name, &backbone, seed, streams, encoder)?;
                let last = self.state.phase + 1 == self.phases.len();
                if self.state.seed == 0 && last {
                    self.keep_model(encoder, backbone, tensors, &evaluation)?;
                }
            }
        }
        Ok(())
    }

    fn evaluate_and_conclude(
        &mut self,
        stage: &str,
        backbone: &BertModel,
        seed: u64,
        streams: &Streams,
        encoder: &SentenceEncoder,
    ) -> Result<Evaluation, RunError> {
        let began = Instant::now();
        self.request
            .progress
            .message(&format!("seed {seed}: {stage}: evaluating"));
        let evaluation = evaluate(
            &self.prepared,
            self.config(),
            backbone,
            encoder.pooling,
            stage,
            seed,
        )?;
        self.conclude(stage, evaluation.rows.clone(), began)?;
        if self.state.seed == 0 && self.state.phase + 1 == self.phases.len() {
            let parts = json!({
                "projection": evaluation.projection(&self.prepared, self.config(), streams)?.map(|p| json!({
                    "xy": p.xy, "coarse": p.coarse, "fine": p.fine, "found": p.found, "texts": p.texts,
                })),
                "categories": evaluation.categories(&self.prepared)?.into_iter().map(|c| json!({
                    "id": c.id, "size": c.size, "coarse_counts": c.coarse_counts, "examples": c.examples,
                })).collect::<Vec<_>>(),
            });
            self.dir.write(REPORT_PARTS, parts.to_string().as_bytes())?;
        }
        Ok(evaluation)
    }

    /// Books the results of a finished phase.
    fn conclude(
        &mut self,
        stage: &str,
        rows: Vec<crate::result::CategoryRow>,
        began: Instant,
    ) -> Result<(), RunError> {
        for row in &rows {
            let mut line = json!({"event": "evaluation"});
            if let (Value::Object(line), Ok(Value::Object(row))) =
                (&mut line, serde_json::to_value(row))
            {
                line.extend(row);
            }
            self.metrics.append(&line)?;
            if let Some(acc) = row.acc {
                let more = match (row.ari, row.nmi) {
                    (Some(ari), Some(nmi)) => {
                        format!("  ARI {:.2}  NMI {:.2}", 100.0 * ari, 100.0 * nmi)
                    }
                    _ => String::new(),
                };
                self.request.progress.message(&format!(
                    "seed {}: {stage}: {}: ACC {:.2}{more}",
                    row.seed,
                    row.inference,
                    100.0 * acc
                ));
            }
        }
        self.state.rows.extend(rows.into_iter().map(Row::Category));
        let partial = &self.state.partial;
        self.state.timing.push(Timing {
            stage: stage.to_owned(),
            steps: partial.step_ms.len() as u64,
            step_ms: spread(&partial.step_ms),
            epoch_s: partial.epoch_s.clone(),
            refill_s: partial.refill_s.clone(),
            evaluate_s: Some(began.elapsed().as_secs_f64()),
        });
        Ok(())
    }

    fn pretrain(&mut self, seed: u64, encoder: &SentenceEncoder) -> Result<BertModel, RunError> {
        let offset = self.offset();
        let total = self.planned_steps(Phase::Pretrain);
        let per_epoch = total / self.config().pretrain.epochs.max(1);
        let config = self.config().clone();
        let resumed = self.resumed.take();
        let mut stage = Pretrain::new(
            &self.prepared,
            &config,
            encoder,
            seed,
            offset,
            self.state.clone(),
        )?;
        let state = match &resumed {
            Some(files) => stage.resume(encoder, files)?,
            None => stage.start(encoder)?,
        };
        let epochs = Epochs {
            offset,
            local: self.state.local,
            total,
            per_epoch,
            keep_last: config.checkpoints_kept,
        };
        let mut services = Services {
            progress: self.request.progress.as_mut(),
            metrics: Some(&mut self.metrics),
            events: Some(&mut self.events),
            checkpoints: Some(&self.store),
            stop: self.request.stop,
        };
        let state = run_epochs(&mut stage, state, &epochs, &mut services, &self.dir)?;
        self.state = stage.run_state().clone();
        Ok(Pretrain::finish(state))
    }

    fn train(
        &mut self,
        objective: Objective,
        seed: u64,
        encoder: &SentenceEncoder,
    ) -> Result<(BertModel, BTreeMap<String, WeightTensor>), RunError> {
        let offset = self.offset();
        let total = self.planned_steps(Phase::Train(objective));
        let per_epoch = total / self.config().train.epochs.max(1);
        let config = self.config().clone();
        let resumed = self.resumed.take();
        let start = match &self.start {
            Some(start) => start.clone(),
            None => save_module(&encoder.bert)?,
        };
        let mut stage = Contrast::new(
            &self.prepared,
            &config,
            objective,
            encoder,
            start,
            seed,
            offset,
            self.state.clone(),
        )?;
        let state = match &resumed {
            Some(files) => stage.resume(encoder, files)?,
            None => stage.start(encoder)?,
        };
        let epochs = Epochs {
            offset,
            local: self.state.local,
            total,
            per_epoch,
            keep_last: config.checkpoints_kept,
        };
        let mut services = Services {
            progress: self.request.progress.as_mut(),
            metrics: Some(&mut self.metrics),
            events: Some(&mut self.events),
            checkpoints: Some(&self.store),
            stop: self.request.stop,
        };
        let state = run_epochs(&mut stage, state, &epochs, &mut services, &self.dir)?;
        self.state = stage.run_state().clone();
        let mut tensors = BTreeMap::new();
        for (prefix, module) in [
            ("coarse.", training::named_tensors(&state.model.coarse)?),
            (
                "star.",
                match &state.model.star {
                    Some(star) => training::named_tensors(star)?,
                    None => BTreeMap::new(),
                },
            ),
        ] {
            for (name, data) in module {
                let shape = data.shape().to_vec();
                let values = data.iter::<f32>().collect();
                tensors.insert(format!("{prefix}{name}"), WeightTensor { shape, values });
            }
        }
        Ok((state.model.backbone.valid(), tensors))
    }

    /// Writes `model/`: the encoder, its heads and the centroids of the training set.
    fn keep_model(
        &mut self,
        encoder: &SentenceEncoder,
        backbone: BertModel,
        mut tensors: BTreeMap<String, WeightTensor>,
        evaluation: &Evaluation,
    ) -> Result<(), RunError> {
        let mut model = encoder.clone();
        model.bert = backbone;
        model.normalize = true;
        let centroids = &evaluation.centroids;
        tensors.insert(
            "centroids".to_owned(),
            WeightTensor {
                shape: vec![centroids.k(), centroids.dim()],
                values: centroids.vectors().iter().copied().collect(),
            },
        );
        model.extension.tensors = tensors;
        let coarse = evaluation.centroid_coarse(&self.prepared)?;
        let examples = evaluation.centroid_examples(&self.prepared, 10)?;
        model.extension.json = serde_json::Map::from_iter([
            ("schema".to_owned(), json!("asterism/model/1")),
            ("coarse_names".to_owned(), json!(self.prepared.data.coarse_names)),
            (
                "categories".to_owned(),
                coarse
                    .iter()
                    .zip(&examples)
                    .enumerate()
                    .map(|(id, (coarse, examples))| json!({"id": id, "name": null, "coarse": coarse, "examples": examples}))
                    .collect(),
            ),
        ]);
        match model.save(&self.dir.path().join("model")) {
            Err(encoder::EncoderError::Config {
                field: "pooling",
                found,
                ..
            }) => {
                self.request.progress.message(&format!(
                    "model/ is not written: pooling {found} has no form in the sentence-transformers layout"
                ));
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn finish(mut self, began: Instant) -> Result<ResultFile, RunError> {
        let data = &self.prepared.data;
        let mut result = ResultFile::new(
            "star_down",
            DataInfo {
                name: data.name.clone(),
                train_rows: data.train.len(),
                test_rows: data.test.len(),
                n_coarse: data.coarse_names.len(),
                n_fine: self.prepared.k,
                sha256: self.prepared.data_hashes.clone(),
            },
        );
        result.device = self.spec.resolve().to_string();
        result.threads = rayon::current_num_threads();
        result.model = json!({
            "name": self.prepared.model_name, "source": self.config().model, "sha256": self.prepared.model_hashes,
            "max_len": self.prepared.max_len, "topk": self.prepared.topk,
        });
        result.config = serde_json::to_value(self.config()).unwrap_or(Value::Null);
        result.rows = self.state.rows.clone();
        result.summary = summarise(&result.rows);
        result.timing = self.state.timing.clone();
        result.peak_rss_mb = peak_rss_mb().unwrap_or(0.0);
        result.total_s = began.elapsed().as_secs_f64();
        result.write(&self.dir.path().join("result.json"))?;
        let input = self.report_input(&result)?;
        write_report(self.dir.path(), &input)?;
        self.request.progress.finish();
        Ok(result)
    }

    fn report_input(&self, result: &ResultFile) -> Result<ReportInput, RunError> {
        let mut input = ReportInput::new(result.clone());
        input.curves = curves(&self.dir.metrics_path())?;
        input.coarse_names = self.prepared.data.coarse_names.clone();
        input.fine_names = self.prepared.data.fine_names.clone();
        let Ok(text) = std::fs::read_to_string(self.dir.path().join(REPORT_PARTS)) else {
            return Ok(input);
        };
        let parts: Value = serde_json::from_str(&text)
            .map_err(|error| RunError::Data(format!("{REPORT_PARTS}: {error}")))?;
        let get = |value: &Value, key: &str| value.get(key).cloned().unwrap_or(Value::Null);
        let projection = get(&parts, "projection");
        if projection.is_object() {
            input.projection = Some(crate::report::Projection {
                xy: read(get(&projection, "xy"))?,
                coarse: read(get(&projection, "coarse"))?,
                fine: read(get(&projection, "fine"))?,
                found: read(get(&projection, "found"))?,
                texts: read(get(&projection, "texts"))?,
            });
        }
        for category in parts
            .get("categories")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            input.categories.push(crate::report::CategorySummary {
                id: read(get(category, "id"))?,
                name: None,
                size: read(get(category, "size"))?,
                coarse_counts: read(get(category, "coarse_counts"))?,
                examples: read(get(category, "examples"))?,
            });
        }
        Ok(input)
    }
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, RunError> {
    serde_json::from_value(value)
        .map_err(|error| RunError::Data(format!("{REPORT_PARTS}: {error}")))
}

/// The stretch of steps of a phase.
struct Epochs {
    /// First global step of the phase.
    offset: u64,
    /// Steps of it done before.
    local: u64,
    /// Its steps in all.
    total: u64,
    per_epoch: u64,
    keep_last: usize,
}

/// Runs a phase epoch by epoch, with a checkpoint after each, until its end, its own decision to stop,
/// or a signal.
fn run_epochs<S: Stage>(
    stage: &mut S,
    mut state: S::State,
    epochs: &Epochs,
    services: &mut Services<'_>,
    dir: &RunDir,
) -> Result<S::State, RunError> {
    let mut local = epochs.local;
    while local < epochs.total && !stage.stopped(&state) {
        let end = (local / epochs.per_epoch + 1) * epochs.per_epoch;
        let began = Instant::now();
        let options = RunOptions {
            steps: epochs.offset + local..epochs.offset + end,
            checkpoint_every: 0,
            keep_last: epochs.keep_last,
        };
        let done = run_steps(stage, state, &options, services)?;
        interrupted(done.outcome, done.step, dir)?;
        state = done.state;
        stage.end_epoch(&state, began.elapsed().as_secs_f64());
        local = done.step - epochs.offset;
    }
    Ok(state)
}

fn interrupted(outcome: Outcome, step: u64, dir: &RunDir) -> Result<(), RunError> {
    match outcome {
        Outcome::Finished => Ok(()),
        Outcome::Interrupted(interruption) => Err(RunError::Interrupted {
            interrupted: Interrupted { interruption, step },
            run_dir: dir.path().to_owned(),
        }),
    }
}

fn spread(times: &[f64]) -> Option<StepTime> {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(StepTime {
        min: *sorted.first()?,
        median: sorted[sorted.len() / 2],
        max: *sorted.last()?,
    })
}

/// Loss curves out of `metrics.jsonl`, one a stage, seed and kind.
fn curves(path: &Path) -> Result<Vec<Curve>, RunError> {
    let text = std::fs::read_to_string(path).map_err(|error| RunError::File {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    let mut curves: BTreeMap<(String, u64), Vec<(f64, f64)>> = BTreeMap::new();
    let mut first: BTreeMap<(String, u64), f64> = BTreeMap::new();
    for line in text.lines() {
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let (Some(stage), Some(step), Some(seed)) = (
            value.get("stage").and_then(Value::as_str),
            value.get("step").and_then(Value::as_f64),
            value.get("seed").and_then(Value::as_f64),
        ) else {
            continue;
        };
        let start = *first.entry((stage.to_owned(), seed as u64)).or_insert(step);
        for name in ["loss", "loss_fine", "loss_coarse", "loss_mlm"] {
            if let Some(loss) = value.get(name).and_then(Value::as_f64) {
                curves
                    .entry((format!("{name}/{stage}"), seed as u64))
                    .or_default()
                    .push((step - start, loss));
            }
        }
    }
    Ok(curves
        .into_iter()
        .map(|((name, seed), points)| Curve { name, seed, points })
        .collect())
}
