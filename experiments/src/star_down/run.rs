//! The run: seeds, phases, checkpoints, results.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::module::Module;
use encoder::{BertModel, SentenceEncoder, WeightTensor};
use kernels::DeviceSpec;
use serde_json::{Value, json};
use training::{NonFinite, RunDir, Streams, load_module, save_module};

use super::config::{Objective, StarDownConfig};
use super::contrast::{self, Contrast};
use super::evaluate::{Evaluation, evaluate, tfidf_floor};
use super::prepare::Prepared;
use super::pretrain::{self, Pretrain};
use crate::error::RunError;
use crate::report::ReportInput;
use crate::result::{CategoryRow, DataInfo, ResultFile, Row};
use crate::session::{Opening, Program, Request, Session, Span, curves};

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
/// Pre-trained backbone that every training stage of a seed starts from.
const START: &str = "start.safetensors";

/// Runs (or continues) the experiment and returns its results.
///
/// # Errors
///
/// Anything from bad input to a full disk; [`RunError::Interrupted`] after a signal, with everything
/// saved.
pub fn run(request: Request<'_, StarDownConfig>) -> Result<ResultFile, RunError> {
    let began = Instant::now();
    let config = request.config.clone();
    config.check()?;
    let spec: DeviceSpec = config.device.parse()?;
    let device = spec.open()?;
    let prepared = Prepared::new(&config, device)?;
    let seed = config.seeds.first().copied().unwrap_or(0);
    // An encoder that cannot be built is found before a directory is made for the run.
    let encoder = prepared.encoder(&Streams::new(seed))?;
    let opening = Opening {
        experiment: "star_down",
        seeds: &config.seeds,
        device: spec,
        data: &prepared.data_hashes,
        model: &prepared.model_hashes,
        checkpoints_kept: config.checkpoints_kept,
        guard: &config.guard,
    };
    let mut session = Session::open(request, &opening)?;
    session.say(&[prepared.data.report.to_string()]);
    let mut run = StarDownRun {
        phases: phases(&config)?,
        encoder: (seed, encoder),
        config,
        prepared,
    };
    session.run(&mut run)?;
    run.finish(&mut session, began)
}

/// The phases that the stages of a configuration stand for.
fn phases(config: &StarDownConfig) -> Result<Vec<Phase>, RunError> {
    let mut phases = Vec::new();
    for stage in &config.stages {
        match stage.as_str() {
            "tfidf" => phases.push(Phase::TfIdf),
            "frozen" => phases.push(Phase::Frozen),
            "pretrain" if config.pretrain.epochs > 0 => phases.push(Phase::Pretrain),
            "pretrain" => {}
            "train" if config.train.epochs > 0 => {
                phases.extend(config.objectives()?.into_iter().map(Phase::Train));
            }
            "train" => {}
            "star" => phases.push(Phase::Train(Objective::Star)),
            _ => phases.push(Phase::Train(Objective::InfoNce)),
        }
    }
    Ok(phases)
}

struct StarDownRun {
    config: StarDownConfig,
    prepared: Prepared,
    phases: Vec<Phase>,
    /// Encoder of the seed at work.
    encoder: (u64, SentenceEncoder),
}

impl Program for StarDownRun {
    fn phases(&self) -> Vec<u64> {
        self.phases
            .iter()
            .map(|phase| self.span(*phase).steps)
            .collect()
    }

    fn phase(
        &mut self,
        session: &mut Session<'_>,
        phase: usize,
        seed: u64,
    ) -> Result<(), RunError> {
        if self.encoder.0 != seed {
            self.encoder = (seed, self.prepared.encoder(&Streams::new(seed))?);
        }
        let last = phase + 1 == self.phases.len();
        match self.phases.get(phase) {
            Some(phase) => self.work(session, *phase, last, seed),
            None => Ok(()),
        }
    }
}

impl StarDownRun {
    /// Steps of a phase, and after how many of them an epoch ends.
    fn span(&self, phase: Phase) -> Span {
        let n = self.prepared.data.train.len();
        let (per_epoch, epochs) = match phase {
            Phase::TfIdf | Phase::Frozen => (0, 0),
            Phase::Pretrain => (
                pretrain::steps_per_epoch(n, &self.config),
                self.config.pretrain.epochs,
            ),
            Phase::Train(_) => (
                contrast::steps_per_epoch(n, &self.config),
                self.config.train.epochs,
            ),
        };
        Span {
            steps: per_epoch * epochs,
            per_epoch,
            checkpoint_every: self.config.checkpoint_every,
        }
    }

    /// The encoder a training phase starts from: pre-trained if that phase ran, else as it came.
    fn start_encoder(&self, session: &Session<'_>) -> Result<SentenceEncoder, RunError> {
        let mut encoder = self.encoder.1.clone();
        if let Some(start) = session.carried(START) {
            encoder.bert = load_module(
                encoder.bert,
                start,
                NonFinite::Allow,
                "start from pre-training",
            )?;
        }
        Ok(encoder)
    }

    fn work(
        &self,
        session: &mut Session<'_>,
        phase: Phase,
        last: bool,
        seed: u64,
    ) -> Result<(), RunError> {
        match phase {
            Phase::TfIdf => {
                let began = Instant::now();
                let rows = tfidf_floor(&self.prepared, &self.config, seed)?;
                conclude(session, "tfidf", rows, began)
            }
            Phase::Frozen => {
                let bert = &self.encoder.1.bert;
                self.evaluate(session, "frozen", bert, last, seed).map(drop)
            }
            Phase::Pretrain => {
                let backbone = self.pretrain(session, seed)?;
                session.carry(START, save_module(&backbone)?);
                self.evaluate(session, "pretrain", &backbone, last, seed)
                    .map(drop)
            }
            Phase::Train(objective) => {
                let (backbone, tensors) = self.train(session, objective, seed)?;
                let name = self.config.stage_name(objective);
                let evaluation = self.evaluate(session, &name, &backbone, last, seed)?;
                if session.seed_index() == 0 && last {
                    self.keep_model(session, backbone, tensors, &evaluation)?;
                }
                Ok(())
            }
        }
    }

    /// Scores a backbone; the last phase of the first seed also leaves its parts of the report.
    fn evaluate(
        &self,
        session: &mut Session<'_>,
        stage: &str,
        backbone: &BertModel,
        last: bool,
        seed: u64,
    ) -> Result<Evaluation, RunError> {
        let began = Instant::now();
        session
            .progress
            .message(&format!("seed {seed}: {stage}: evaluating"));
        let pooling = self.encoder.1.pooling;
        let evaluation = evaluate(&self.prepared, &self.config, backbone, pooling, stage, seed)?;
        conclude(session, stage, evaluation.rows.clone(), began)?;
        if session.seed_index() == 0 && last {
            let streams = Streams::new(seed);
            let parts = json!({
                "projection": evaluation.projection(&self.prepared, &self.config, &streams)?.map(|p| json!({
                    "xy": p.xy, "coarse": p.coarse, "fine": p.fine, "found": p.found, "texts": p.texts,
                })),
                "categories": evaluation.categories(&self.prepared)?.into_iter().map(|c| json!({
                    "id": c.id, "size": c.size, "coarse_counts": c.coarse_counts, "examples": c.examples,
                })).collect::<Vec<_>>(),
            });
            session
                .dir
                .write(REPORT_PARTS, parts.to_string().as_bytes())?;
        }
        Ok(evaluation)
    }

    fn pretrain(&self, session: &mut Session<'_>, seed: u64) -> Result<BertModel, RunError> {
        let encoder = &self.encoder.1;
        let mut stage = Pretrain::new(&self.prepared, &self.config, encoder, seed)?;
        let state = match session.take_resumed() {
            Some(files) => stage.resume(encoder, &files)?,
            None => stage.start(encoder)?,
        };
        let span = self.span(Phase::Pretrain);
        let state = session.train("pretrain", span, &mut stage, state)?;
        Ok(Pretrain::finish(state))
    }

    fn train(
        &self,
        session: &mut Session<'_>,
        objective: Objective,
        seed: u64,
    ) -> Result<(BertModel, BTreeMap<String, WeightTensor>), RunError> {
        let encoder = self.start_encoder(session)?;
        let mut stage = Contrast::new(&self.prepared, &self.config, objective, &encoder, seed)?;
        let state = match session.take_resumed() {
            Some(files) => stage.resume(&encoder, &files)?,
            None => stage.start(&encoder)?,
        };
        let name = self.config.stage_name(objective);
        let span = self.span(Phase::Train(objective));
        let state = session.train(&name, span, &mut stage, state)?;
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
        &self,
        session: &mut Session<'_>,
        backbone: BertModel,
        mut tensors: BTreeMap<String, WeightTensor>,
        evaluation: &Evaluation,
    ) -> Result<(), RunError> {
        let mut model = self.encoder.1.clone();
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
        match model.save(&session.dir.path().join("model")) {
            Err(encoder::EncoderError::Config {
                field: "pooling",
                found,
                ..
            }) => {
                session.progress.message(&format!(
                    "model/ is not written: pooling {found} has no form in the sentence-transformers layout"
                ));
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn finish(&self, session: &mut Session<'_>, began: Instant) -> Result<ResultFile, RunError> {
        let data = &self.prepared.data;
        let info = DataInfo {
            name: data.name.clone(),
            train_rows: data.train.len(),
            test_rows: data.test.len(),
            n_coarse: data.coarse_names.len(),
            n_fine: self.prepared.k,
            ..DataInfo::default()
        };
        let model = json!({
            "name": self.prepared.model_name, "source": self.config.model, "sha256": self.prepared.model_hashes,
            "max_len": self.prepared.max_len, "topk": self.prepared.topk,
        });
        let result = session.result(info, model, began);
        session.publish(&result, |dir, report| self.complete(dir, report))?;
        Ok(result)
    }

    /// Adds to the report what `result.json` has no place for.
    fn complete(&self, dir: &RunDir, input: &mut ReportInput) -> Result<(), RunError> {
        input.curves = curves(&dir.metrics_path(), |name| LOSSES.contains(&name))?;
        input.coarse_names = self.prepared.data.coarse_names.clone();
        input.fine_names = self.prepared.data.fine_names.clone();
        let Ok(text) = std::fs::read_to_string(dir.path().join(REPORT_PARTS)) else {
            return Ok(());
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
        Ok(())
    }
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, RunError> {
    serde_json::from_value(value)
        .map_err(|error| RunError::Data(format!("{REPORT_PARTS}: {error}")))
}

/// Curves that a report shows.
const LOSSES: [&str; 4] = ["loss", "loss_fine", "loss_coarse", "loss_mlm"];

/// Says and books the results of a finished phase.
fn conclude(
    session: &mut Session<'_>,
    stage: &str,
    rows: Vec<CategoryRow>,
    began: Instant,
) -> Result<(), RunError> {
    for row in &rows {
        if let Some(acc) = row.acc {
            let more = match (row.ari, row.nmi) {
                (Some(ari), Some(nmi)) => {
                    format!("  ARI {:.2}  NMI {:.2}", 100.0 * ari, 100.0 * nmi)
                }
                _ => String::new(),
            };
            session.progress.message(&format!(
                "seed {}: {stage}: {}: ACC {:.2}{more}",
                row.seed,
                row.inference,
                100.0 * acc
            ));
        }
    }
    session.conclude(stage, rows.into_iter().map(Row::Category).collect(), began)
}
