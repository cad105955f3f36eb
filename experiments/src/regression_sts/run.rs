//! The run: untrained encoder, stage 1 on labelled pairs, stage 2 on scored pairs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use datasets::leakage::LeakBy;
use datasets::{
    LabelQuantize, NliOptions, RowsReport, ScoredOptions, ScoredPair, StsName, StsPart, load_nli,
    load_scored,
};
use kernels::DeviceSpec;
use losses::{SiameseHead, SiameseHeadConfig};
use serde_json::json;
use training::{
    AdamWConfig, NonFinite, PathPredicate, Streams, from_safetensors, load_module, save_module,
    stream,
};

use super::config::{Objective, RegressionStsConfig, StageConfig};
use super::method::{Loss, Regression, RegressionHead};
use crate::embedding::{
    Accumulation, BatchOrder, BatchRules, Column, Encoding, Evaluation, Form, Outcome,
    SentenceModel, Start, StartOptions, TextTable, Trainer, bundled, encode_table, file_name,
    finish,
};
use crate::error::RunError;
use crate::result::ResultFile;
use crate::session::{Opening, Program, Request, Session};

/// Stage 1's model, for stage 2 of the same seed.
const NLI_MODEL: &str = "nli.safetensors";
/// Its best development score.
const NLI_SCORE: &str = "nli-score.json";

/// Runs (or continues) the experiment and returns its results.
///
/// # Errors
///
/// Anything from bad input to a full disk; [`RunError::Interrupted`] after a signal, with everything
/// saved.
pub fn run(request: Request<'_, RegressionStsConfig>) -> Result<ResultFile, RunError> {
    let began = Instant::now();
    let config = request.config.clone();
    config.check()?;
    let (spec, replicas) = config.placed()?;
    let device = spec.open()?;
    let replicas = replicas.into_iter().map(DeviceSpec::open);
    let replicas = replicas.collect::<Result<_, _>>()?;
    let prepared = Prepared::new(&config, &device, replicas)?;
    let mut program = RegressionRun { config, prepared };
    program.check()?;
    let (config, prepared) = (&program.config, &program.prepared);
    let opening = Opening {
        experiment: "regression_sts",
        seeds: &config.seeds,
        device: spec,
        data: &prepared.hashes,
        model: &prepared.start.hashes,
        checkpoints_kept: config.checkpoints_kept,
        guard: &config.guard,
    };
    let mut session = Session::open(request, &opening)?;
    session.say(&prepared.notes);
    session.run(&mut program)?;
    let prepared = &program.prepared;
    let mut facts = prepared.form.facts();
    facts["max_len"] = json!(program.config.max_len);
    let outcome = Outcome {
        data_name: prepared.name.clone(),
        train_rows: [&prepared.nli, &prepared.scored]
            .into_iter()
            .flatten()
            .map(|rows| rows.labels.len())
            .sum(),
        start: &prepared.start,
        facts,
    };
    finish(&mut session, outcome, began)
}

/// Labelled pairs of one stage.
struct Rows {
    texts: TextTable,
    columns: [Vec<usize>; 2],
    labels: Vec<f64>,
}

/// Everything that is the same for all seeds.
struct Prepared {
    start: Start,
    /// How texts become vectors in training.
    form: Form,
    device: Device,
    /// Devices beside it that share every batch.
    replicas: Vec<Device>,
    nli: Option<Rows>,
    scored: Option<Rows>,
    evaluation: Evaluation,
    name: String,
    hashes: BTreeMap<String, String>,
    /// What the loaders saw.
    notes: Vec<String>,
}

fn paths(list: &str) -> Vec<PathBuf> {
    list.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(PathBuf::from)
        .collect()
}

impl Prepared {
    fn new(
        config: &RegressionStsConfig,
        device: &Device,
        replicas: Vec<Device>,
    ) -> Result<Self, RunError> {
        let start = Start::load(
            &StartOptions {
                model: &config.model,
                dropout: config.dropout,
                allow_non_finite: config.allow_non_finite,
                gradient_checkpointing: config.gradient_checkpointing,
                precision: &config.precision,
                max_len: config.max_len,
            },
            device,
        )?;
        let form = start.form(&config.asked()?)?;
        let evaluation = Evaluation::new(
            &config.sts,
            &start.shaped(&form),
            config.max_len,
            config.selection.batch_size,
        )?;
        let mut prepared = Self {
            hashes: evaluation.hashes.clone(),
            name: String::new(),
            start,
            form,
            device: device.clone(),
            replicas,
            nli: None,
            scored: None,
            evaluation,
            notes: Vec::new(),
        };
        let wants = |name: &str| config.stages.iter().any(|stage| stage == name);
        if wants("nli") {
            let raw = prepared.read_nli(config)?;
            prepared.nli = Some(prepared.rows(raw, config, "stage 1")?);
        }
        if wants("sts") {
            let raw = prepared.read_scored(config)?;
            prepared.scored = Some(prepared.rows(raw, config, "stage 2")?);
        }
        Ok(prepared)
    }

    /// Keeps what was seen of files and their hashes.
    fn note(&mut self, reports: &[RowsReport]) {
        for report in reports {
            self.notes.push(report.to_string());
            let name = file_name(&report.path);
            self.hashes.insert(name, report.sha256.clone());
        }
    }

    fn read_nli(&mut self, config: &RegressionStsConfig) -> Result<Vec<ScoredPair>, RunError> {
        if config.data == "pocket" {
            self.name = "pocket".to_owned();
            return bundled::labelled_pairs();
        }
        let files = paths(&config.data);
        let rows = load_nli(&files, &NliOptions::default())?;
        self.note(&rows.reports);
        self.name = files
            .first()
            .map_or_else(String::new, |path| file_name(path));
        Ok(rows
            .pairs
            .into_iter()
            .map(|pair| ScoredPair {
                score: f64::from(pair.label.value()),
                first: pair.premise,
                second: pair.hypothesis,
            })
            .collect())
    }

    fn read_scored(&mut self, config: &RegressionStsConfig) -> Result<Vec<ScoredPair>, RunError> {
        let quantize = match config.label_quantize.as_str() {
            "round" => LabelQuantize::Round,
            "none" => LabelQuantize::None,
            _ => LabelQuantize::Truncate,
        };
        let bundled =
            config.scored == "pocket" || (config.scored.is_empty() && config.sts.is_empty());
        if bundled {
            return bundled::scored_pairs();
        }
        Ok(if config.scored.is_empty() {
            let tasks = self.evaluation.tasks();
            [StsName::StsB, StsName::SickR]
                .into_iter()
                .filter_map(|name| tasks.iter().find(|task| task.name == name))
                .filter_map(|task| task.split(StsPart::Train))
                .flat_map(|split| split.pairs().cloned())
                .map(|mut pair| {
                    pair.score = quantize.apply(pair.score);
                    pair
                })
                .collect()
        } else {
            let options = ScoredOptions {
                quantize,
                ..ScoredOptions::default()
            };
            let rows = load_scored(&paths(&config.scored), &options)?;
            self.note(&rows.reports);
            rows.pairs
        })
    }

    /// Leaves out what the evaluation sets contain and tokenises the rest.
    fn rows(
        &mut self,
        mut pairs: Vec<ScoredPair>,
        config: &RegressionStsConfig,
        stage: &str,
    ) -> Result<Rows, RunError> {
        let leaks = &self.evaluation.leaks;
        let leaked = |pair: &ScoredPair| match config.dedup_against_eval.as_str() {
            "pairs" => leaks.leaks(&[&pair.first, &pair.second], LeakBy::Pair),
            "texts" => leaks.leaks(&[&pair.first, &pair.second], LeakBy::Sentence),
            _ => false,
        };
        let before = pairs.len();
        pairs.retain(|pair| !leaked(pair));
        self.notes.push(format!(
            "{stage}: {} pairs, {} left out because an evaluation set has them (dedup_against_eval={})",
            pairs.len(),
            before - pairs.len(),
            config.dedup_against_eval
        ));
        if pairs.is_empty() {
            return Err(RunError::Data(format!(
                "{stage}: no pairs left to train on"
            )));
        }
        let first: Vec<String> = pairs.iter().map(|pair| pair.first.clone()).collect();
        let second: Vec<String> = pairs.iter().map(|pair| pair.second.clone()).collect();
        let labels = pairs.iter().map(|pair| pair.score).collect();
        let both = [&first, &second].map(|texts| Column {
            texts,
            template: self.form.template.as_ref(),
        });
        let (texts, columns) =
            TextTable::new(&both, &self.start.encoder.tokenizer, config.max_len)?;
        let columns: [Vec<usize>; 2] = columns
            .try_into()
            .map_err(|_| RunError::Data("two columns expected".to_owned()))?;
        Ok(Rows {
            texts,
            columns,
            labels,
        })
    }
}

/// Reads the head a run begins with; `shape` is that of the weight, `[outputs, 3 hidden]`.
///
/// # Errors
///
/// A file that cannot be read or lacks one of the two tensors, in this shape and finite.
fn read_head(path: &Path, shape: [usize; 2], device: &Device) -> Result<SiameseHead, RunError> {
    let fail = |message: String| RunError::File {
        path: path.to_owned(),
        message,
    };
    let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    let mut tensors =
        from_safetensors(&bytes, NonFinite::Refuse).map_err(|error| fail(error.to_string()))?;
    let mut take = |name: &str, shape: &[usize]| {
        let expected = || format!("expected a tensor `{name}` of shape {shape:?}");
        let data = tensors
            .remove(name)
            .ok_or_else(|| fail(format!("{}, found none", expected())))?;
        if data.shape().as_slice() != shape || data.dtype() != DType::F32 {
            return Err(fail(format!(
                "{} in f32, found {:?} in {:?}",
                expected(),
                data.shape().as_slice(),
                data.dtype()
            )));
        }
        Ok(data)
    };
    let weight = take("weight", &shape)?;
    let bias = take("bias", &shape[..1])?;
    let weight = Tensor::<2>::from_data(weight, device).transpose();
    Ok(SiameseHead::from_tensors(
        weight,
        Tensor::from_data(bias, device),
    )?)
}

struct RegressionRun {
    config: RegressionStsConfig,
    prepared: Prepared,
}

/// What tells the two training stages apart.
struct Stage<'r> {
    name: &'static str,
    key: u64,
    settings: &'r StageConfig,
    rows: &'r Rows,
}

impl RegressionRun {
    fn stage(&self, name: &str) -> Result<Stage<'_>, RunError> {
        let missing = || RunError::Data(format!("stage {name} has no data"));
        Ok(match name {
            "nli" => Stage {
                name: "nli",
                key: 1,
                settings: &self.config.nli,
                rows: self.prepared.nli.as_ref().ok_or_else(missing)?,
            },
            _ => Stage {
                name: "sts",
                key: 2,
                settings: &self.config.stage2,
                rows: self.prepared.scored.as_ref().ok_or_else(missing)?,
            },
        })
    }

    /// Refuses what would only fail once the run directory is there.
    fn check(&self) -> Result<(), RunError> {
        let streams = Streams::new(0);
        for name in self.config.stages.iter().filter(|name| *name != "start") {
            self.prepared.start.check(&self.prepared.form)?;
            let stage = self.stage(name)?;
            self.order(&stage, &streams)?;
            self.new_head(&stage, &streams)?;
        }
        Ok(())
    }

    /// Whether what another program left is replayed in a stage: in the first one that trains.
    fn replays(&self, stage: &Stage<'_>) -> bool {
        let first = self.config.stages.iter().find(|name| *name != "start");
        first.is_some_and(|name| name == stage.name)
    }

    fn order(&self, stage: &Stage<'_>, streams: &Streams) -> Result<BatchOrder, RunError> {
        BatchOrder::new(
            &BatchRules {
                size: stage.settings.batch_size,
                epochs: stage.settings.epochs,
                max_steps: stage.settings.max_steps,
                same_order: self.config.same_order_every_epoch,
                bucket_batches: 0,
                no_duplicates: None,
                file: if self.replays(stage) {
                    &self.config.batch_order_file
                } else {
                    ""
                },
                key: stage.key,
            },
            &stage.rows.columns,
            &stage.rows.texts,
            streams,
        )
    }

    fn steps(&self, name: &str) -> u64 {
        self.stage(name)
            .and_then(|stage| self.order(&stage, &Streams::new(0)))
            .map_or(0, |order| order.steps())
    }

    /// Learning rates by depth: each layer has `layer_decay` times the rate of the one above.
    fn adamw(&self, settings: &StageConfig) -> AdamWConfig {
        let mut adamw = self.config.optimizer.adamw();
        let decay = self.config.layer_decay;
        if decay == 1.0 || settings.frozen {
            return adamw;
        }
        let layers = self.prepared.start.encoder.config.num_hidden_layers;
        for layer in 0..layers {
            let below_top = i32::try_from(layers - 1 - layer).unwrap_or(i32::MAX);
            let prefix = format!("backbone.layers.{layer}");
            let factor = decay.powi(below_top);
            adamw
                .lr_multipliers
                .push((PathPredicate::below(&prefix), factor));
        }
        if self.config.embedding_lr == "decayed" {
            let factor = decay.powi(i32::try_from(layers).unwrap_or(i32::MAX));
            let tables = PathPredicate::below("backbone.embeddings");
            adamw.lr_multipliers.push((tables, factor));
        }
        adamw
    }

    /// Numbers that the head of a stage gives for a pair.
    fn outputs(stage: &Stage<'_>) -> Result<usize, RunError> {
        let largest = stage.rows.labels.iter().copied().fold(0.0, f64::max);
        Ok(match stage.settings.loss.parse()? {
            Objective::CrossEntropy => largest as usize + 1,
            _ => 1,
        })
    }

    /// A head that no stage has trained.
    fn new_head(&self, stage: &Stage<'_>, streams: &Streams) -> Result<RegressionHead, RunError> {
        let device = self.prepared.device.clone().autodiff();
        let hidden = self.prepared.start.encoder.bert.hidden_size();
        let outputs = Self::outputs(stage)?;
        let file = Path::new(&self.config.head_init_file);
        let siamese = if self.replays(stage) && !self.config.head_init_file.is_empty() {
            read_head(file, [outputs, 3 * hidden], &device)?
        } else {
            let seed = streams.seed(stream::INIT, &[stage.key]);
            SiameseHeadConfig::new(hidden)
                .with_outputs(outputs)
                .init(&device, seed)?
        };
        Ok(RegressionHead { siamese })
    }

    /// The encoder with a new head, or the model of stage 1.
    fn model(
        &self,
        session: &Session<'_>,
        stage: &Stage<'_>,
        streams: &Streams,
    ) -> Result<SentenceModel<RegressionHead>, RunError> {
        let encoder = &self.prepared.start.encoder;
        let backbone = encoder.bert.clone().train();
        let head = self.new_head(stage, streams)?;
        let Some(bytes) = (stage.name == "sts")
            .then(|| session.carried(NLI_MODEL))
            .flatten()
        else {
            return Ok(SentenceModel { backbone, head });
        };
        let before = self.stage("nli")?;
        let model = load_module(
            SentenceModel {
                backbone,
                head: self.new_head(&before, streams)?,
            },
            bytes,
            NonFinite::Allow,
            "start from stage 1",
        )?;
        if Self::outputs(&before)? == Self::outputs(stage)? {
            return Ok(model);
        }
        Ok(SentenceModel {
            backbone: model.backbone,
            head,
        })
    }

    fn train(&self, session: &mut Session<'_>, name: &str, seed: u64) -> Result<(), RunError> {
        let stage = self.stage(name)?;
        let streams = Streams::new(seed);
        let order = self.order(&stage, &streams)?;
        let span = order.span(self.config.checkpoint_every);
        let rows = stage.rows.labels.len();
        let schedule = self.config.schedule(stage.settings, rows, span.steps)?;
        let pooling = self.prepared.form.pooling;
        let model = self.model(session, &stage, &streams)?;
        let settings = stage.settings;
        let batch_size = self.config.selection.batch_size;
        let encoding = match (settings.frozen, settings.cache_frozen) {
            (false, _) => Encoding::Train,
            (true, false) => Encoding::Frozen,
            (true, true) => {
                let message = format!("seed {seed}: {name}: encoding the texts once");
                session.progress.message(&message);
                Encoding::Cached(encode_table(
                    &model.backbone,
                    pooling,
                    &stage.rows.texts,
                    batch_size,
                )?)
            }
        };
        // A frozen encoder has the same development score all along.
        let select_every = if settings.frozen {
            0
        } else {
            self.config.selection.every
        };
        let score_to_beat = if self.config.faithful_select {
            None
        } else {
            session
                .carried(NLI_SCORE)
                .and_then(|bytes| serde_json::from_slice(bytes).ok())
        };
        let smallest = stage
            .rows
            .labels
            .iter()
            .copied()
            .fold(f64::INFINITY, f64::min);
        let mut trainer = Trainer {
            method: Regression {
                columns: stage.rows.columns.clone(),
                labels: stage.rows.labels.clone(),
                batches: order,
                loss: Loss::new(settings, self.config.left_clamp(smallest)?)?,
            },
            texts: &stage.rows.texts,
            dev: Some(&self.prepared.evaluation.dev),
            encoding,
            pooling,
            dev_pooling: pooling,
            device: self.prepared.device.clone(),
            streams,
            key: stage.key,
            adamw: self.adamw(settings),
            frozen: None,
            max_norm: self.config.optimizer.max_norm(),
            schedule,
            micro_batch: self.config.micro_batch,
            accumulation: Accumulation {
                steps: self.config.accumulate,
                replicas: self.prepared.replicas.clone(),
            },
            gradient_scale: 1.0,
            select_every,
            eval_batch: batch_size,
            score_to_beat,
            seed,
        };
        let trained = trainer.run(session, stage.name, span, model)?;
        let (kept, chosen) = (trained.model, trained.chosen);
        let Prepared {
            start,
            form,
            evaluation,
            ..
        } = &self.prepared;
        let encoder = start.trained(form, &kept.backbone);
        evaluation.measure(session, stage.name, &trained.note, &encoder)?;
        if stage.name == "nli" {
            session.carry(NLI_MODEL, save_module(&kept)?);
            let score = match chosen {
                Some((_, score)) => Some(score),
                // The score that a frozen encoder has had all along is what stage 2 has to beat.
                None if settings.frozen && self.config.selection.every > 0 => {
                    let dev = &evaluation.dev;
                    dev.score(&encoder.bert, pooling, batch_size, &|| Ok(()))?
                        .spearman
                }
                None => None,
            };
            if let Some(score) = score {
                let bytes = serde_json::to_vec(&score)
                    .map_err(|error| RunError::Data(error.to_string()))?;
                session.carry(NLI_SCORE, bytes);
            }
        }
        let last = self.config.stages.last().is_some_and(|last| last == name);
        if session.seed_index() == 0 && last {
            encoder.save(&session.dir.path().join("model"))?;
        }
        Ok(())
    }
}

impl Program for RegressionRun {
    fn phases(&self) -> Vec<u64> {
        self.config
            .stages
            .iter()
            .map(|name| match name.as_str() {
                "start" => 0,
                training => self.steps(training),
            })
            .collect()
    }

    fn phase(
        &mut self,
        session: &mut Session<'_>,
        phase: usize,
        seed: u64,
    ) -> Result<(), RunError> {
        match self.config.stages.get(phase).map(String::as_str) {
            Some(name @ ("nli" | "sts")) => self.train(session, name, seed),
            _ => {
                let Prepared {
                    evaluation, start, ..
                } = &self.prepared;
                evaluation.measure(session, "start", "evaluating", &start.encoder)
            }
        }
    }
}
