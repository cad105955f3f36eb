//! The run: untrained encoder, then every setting from the same start.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use encoder::Init;
use kernels::DeviceSpec;
use serde_json::json;
use training::{Streams, shuffle, stream};

use super::composition::{Composition, MixedBatch};
use super::config::{NgcseConfig, Variant};
use super::corpus::{Corpus, TrainingTexts};
use super::method::{Anchor, NgcseHead, NgcseMethod};
use super::probe::{ProbeSet, Recorder};
use super::setting::Setting;
use super::trace::{Look, Probed, TRACES_FILE, Trace, put_trace, read_traces};
use crate::embedding::{
    Accumulation, Encoding, Evaluation, Form, SentenceModel, Start, StartOptions, Trainer, freeze,
};
use crate::error::RunError;
use crate::report::RfdReport;
use crate::result::{DataInfo, EmbeddingRow, ResultFile, Row, summarise};
use crate::session::{Opening, Program, Request, Session, Span, curves};

/// Key of the training in the random streams: the same for all settings, so that they start alike.
const KEY: u64 = 1;

/// Runs (or continues) the experiment and returns its results.
///
/// # Errors
///
/// Anything from bad input to a full disk; [`RunError::Interrupted`] after a signal, with everything
/// saved.
pub fn run(request: Request<'_, NgcseConfig>) -> Result<ResultFile, RunError> {
    let began = Instant::now();
    let config = request.config.clone();
    config.check()?;
    let spec: DeviceSpec = config.device.parse()?;
    let device = spec.open()?;
    let mut program = NgcseRun::new(config, &device)?;
    program.check()?;
    let opening = Opening {
        experiment: "ngcse",
        seeds: &program.config.seeds,
        device: spec,
        data: &program.hashes,
        model: &program.start.hashes,
        checkpoints_kept: program.config.checkpoints_kept,
        guard: &program.config.guard,
    };
    let mut session = Session::open(request, &opening)?;
    session.say(&program.corpus.notes);
    session.say(&program.probe_notes());
    session.run(&mut program)?;
    program.finish(&mut session, began)
}

struct NgcseRun {
    config: NgcseConfig,
    variants: Vec<Variant>,
    device: Device,
    start: Start,
    /// How texts become vectors.
    form: Form,
    evaluation: Evaluation,
    corpus: Corpus,
    texts: TrainingTexts,
    /// Held-out rows of every setting, and the development set; empty without probes.
    probes: BTreeMap<Setting, ProbeSet>,
    eval_probes: Option<ProbeSet>,
    hashes: BTreeMap<String, String>,
}

impl NgcseRun {
    fn new(config: NgcseConfig, device: &Device) -> Result<Self, RunError> {
        let variants = config.variants()?;
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
        start.check(&form)?;
        let shaped = start.shaped(&form);
        let evaluation = Evaluation::new(
            &config.sts,
            &shaped,
            config.eval_max_len,
            config.selection.batch_size,
        )?;
        let corpus = Corpus::load(&config, &evaluation.leaks)?;
        let mut settings: Vec<Setting> = variants.iter().map(|one| one.setting).collect();
        settings.dedup();
        let tokenizer = &start.encoder.tokenizer;
        let texts = corpus.training_texts(&settings, &form, tokenizer, config.max_len)?;
        let mut probes = BTreeMap::new();
        let mut eval_probes = None;
        if config.rfd.rows > 0 && config.selection.every > 0 {
            let positions = start.encoder.config.max_position_embeddings;
            for setting in settings {
                let set = corpus.probes(setting, &config, &form, tokenizer, positions)?;
                probes.insert(setting, set);
            }
            eval_probes = Some(ProbeSet::of_development_set(
                evaluation.tasks(),
                &shaped,
                config.rfd.rows,
                config.rfd.max_len,
            )?);
        }
        let mut hashes = evaluation.hashes.clone();
        hashes.extend(corpus.hashes.clone());
        Ok(Self {
            config,
            variants,
            device: device.clone(),
            start,
            form,
            evaluation,
            corpus,
            texts,
            probes,
            eval_probes,
            hashes,
        })
    }

    /// Refuses what would only fail once the run directory is there.
    fn check(&self) -> Result<(), RunError> {
        let layers = self.start.encoder.config.num_hidden_layers;
        if self.config.train_layers > layers as i64 {
            return Err(RunError::Config(format!(
                "train_layers: expected at most the {layers} layers of {}, found {}",
                self.config.model, self.config.train_layers
            )));
        }
        for variant in self.plan().into_iter().flatten() {
            let rows = self
                .corpus
                .training_rows(&self.texts, variant.setting, &variant.config);
            let (ordinary, generated) = (rows.ordinary_rows(), rows.generated_rows());
            if ordinary + generated < 2 || self.batches(variant, 0).0.is_empty() {
                let wait = variant.config.aigen_batch_size;
                return Err(RunError::Data(format!(
                    "{}: expected at least 2 rows to train on, {wait} (aigen_batch_size) where all are \
                     generated, found {ordinary} ordinary and {generated} generated rows",
                    variant.name
                )));
            }
        }
        Ok(())
    }

    /// What the probes look at.
    fn probe_notes(&self) -> Vec<String> {
        let eval = self.eval_probes.as_ref().map_or(0, ProbeSet::rows);
        let note = |(setting, set): (&Setting, &ProbeSet)| {
            let rows = set.rows();
            format!("{setting}: probes of {rows} held-out rows and {eval} development pairs")
        };
        self.probes.iter().map(note).collect()
    }

    /// What each phase trains; nothing where the encoder is measured as it comes.
    fn plan(&self) -> Vec<Option<&Variant>> {
        let mut plan: Vec<Option<&Variant>> = Vec::new();
        for stage in &self.config.stages {
            match stage.as_str() {
                "train" => plan.extend(self.variants.iter().map(Some)),
                _ => plan.push(None),
            }
        }
        plan
    }

    /// Batches of all steps, and steps of an epoch.
    fn batches(&self, variant: &Variant, seed: u64) -> (Vec<MixedBatch>, u64) {
        let config = &variant.config;
        let rows = self
            .corpus
            .training_rows(&self.texts, variant.setting, config);
        let ordinary = rows.ordinary_rows();
        let all = ordinary + rows.generated_rows();
        let streams = Streams::new(seed);
        let epochs = (0..config.epochs)
            .map(|epoch| shuffle(all, &mut streams.rng(stream::SHUFFLE, &[KEY, epoch])));
        let composition = Composition {
            group: config.batch_size,
            wait_for: config.aigen_batch_size,
        };
        let epochs = composition.batches(epochs, |row| row >= ordinary);
        let per_epoch = epochs.iter().map(Vec::len).max().unwrap_or(0) as u64;
        let mut batches: Vec<MixedBatch> = epochs.into_iter().flatten().collect();
        if config.max_steps > 0 {
            batches.truncate(usize::try_from(config.max_steps).unwrap_or(usize::MAX));
        }
        for row in batches.iter_mut().flat_map(|batch| &mut batch.generated) {
            *row -= ordinary;
        }
        (batches, per_epoch)
    }

    fn model(&self, streams: &Streams) -> SentenceModel<NgcseHead> {
        let backbone = self.start.encoder.bert.clone().train();
        let device = self.device.clone().autodiff();
        let seed = streams.seed(stream::INIT, &[KEY]);
        let mut init = Init::seeded(seed, self.config.head_std, &device);
        let head = NgcseHead::new(backbone.hidden_size(), self.config.head_dim, &mut init);
        SentenceModel { backbone, head }
    }

    fn recorder(&self, setting: Setting, streams: Streams) -> Option<Recorder> {
        Some(Recorder {
            train: self.probes.get(&setting)?.clone(),
            eval: self.eval_probes.clone()?,
            pooling: self.form.pooling,
            dropout: self.config.rfd.dropout,
            device: self.device.clone(),
            streams,
            key: KEY,
            batch_size: self.config.selection.batch_size,
        })
    }

    fn train(
        &self,
        session: &mut Session<'_>,
        variant: &Variant,
        seed: u64,
    ) -> Result<(), RunError> {
        let config = &variant.config;
        let streams = Streams::new(seed);
        let (batches, per_epoch) = self.batches(variant, seed);
        let span = Span {
            steps: batches.len() as u64,
            per_epoch: per_epoch.max(1),
            checkpoint_every: config.checkpoint_every,
        };
        let model = self.model(&streams);
        let recorder = self.recorder(variant.setting, streams);
        let layers = self.start.encoder.config.num_hidden_layers;
        let top = usize::try_from(config.train_layers).unwrap_or(layers);
        let mut trainer = Trainer {
            method: NgcseMethod {
                rows: self
                    .corpus
                    .training_rows(&self.texts, variant.setting, config),
                batches,
                objective: config.objective(variant.setting)?.init()?,
                anchor: Anchor::new(&model.backbone, config.l2_to_initial),
                recorder: recorder.as_ref(),
            },
            texts: &self.texts.texts,
            dev: Some(&self.evaluation.dev),
            encoding: Encoding::Train,
            pooling: self.form.pooling,
            dev_pooling: self.form.pooling,
            device: self.device.clone(),
            streams,
            key: KEY,
            adamw: config.optimizer.adamw(),
            max_norm: config.optimizer.max_norm(),
            frozen: config
                .freeze_embeddings
                .then(|| freeze::below_top(layers, top)),
            schedule: config.optimizer.linear(config.lr, span.steps),
            micro_batch: config.micro_batch,
            accumulation: Accumulation::default(),
            gradient_scale: 1.0,
            select_every: config.selection.every,
            eval_batch: config.selection.batch_size,
            score_to_beat: None,
            seed,
        };
        let trained = trainer.run(session, &variant.name, span, model)?;
        self.keep_trace(session, variant, seed, recorder.as_ref())?;
        let encoder = self.start.trained(&self.form, &trained.model.backbone);
        self.evaluation
            .measure(session, &variant.name, &trained.note, &encoder)?;
        let last = self
            .variants
            .last()
            .is_some_and(|last| last.name == variant.name);
        if session.seed_index() == 0 && last {
            encoder.save(&session.dir.path().join("model"))?;
        }
        Ok(())
    }

    /// Adds what was logged of a training to `traces.csv`, behind a look at the encoder it started from.
    fn keep_trace(
        &self,
        session: &Session<'_>,
        variant: &Variant,
        seed: u64,
        recorder: Option<&Recorder>,
    ) -> Result<(), RunError> {
        let start = recorder.map(|recorder| recorder.look(&self.start.encoder.bert, 0));
        let mut looks = logged(&session.dir.metrics_path(), &variant.name, seed)?;
        looks.insert(
            0,
            Look {
                step: 0,
                probed: start.transpose()?,
                dev_spearman: None,
            },
        );
        let trace = Trace {
            setting: variant.name.clone(),
            seed,
            looks,
        };
        put_trace(&session.dir.path().join(TRACES_FILE), trace)
    }

    /// Writes `result.json` and `report.html`.
    fn finish(&self, session: &mut Session<'_>, began: Instant) -> Result<ResultFile, RunError> {
        let data = DataInfo {
            name: self.corpus.name.clone(),
            train_rows: self.corpus.rows(),
            ..DataInfo::default()
        };
        let start = &self.start;
        let mut model = json!({
            "name": start.name,
            "source": start.source,
            "sha256": start.hashes,
            "pooling": self.form.pooling.to_string(),
            "max_len": self.config.max_len,
        });
        if let Some(template) = &self.form.template {
            model["template"] = json!(template.text());
        }
        let mut result = session.result(data, model, began);
        let path = session.dir.path().join(TRACES_FILE);
        let traces = if path.exists() {
            read_traces(&path)?
        } else {
            Vec::new()
        };
        let task = match self.evaluation.tasks() {
            [] => "POCKET",
            _ => "STSB",
        };
        for trace in &traces {
            result
                .rows
                .extend(rows_of(trace, task, self.config.rfd.start_step));
        }
        result.summary = summarise(&result.rows);
        let rfd = (!traces.is_empty()).then(|| RfdReport {
            traces,
            start_step: self.config.rfd.start_step,
            comparable: task == "STSB",
        });
        session.publish(&result, |dir, report| {
            report.curves = curves(&dir.metrics_path(), |name| {
                name.starts_with("loss") || name.starts_with("dev_")
            })?;
            report.rfd = rfd;
            Ok(())
        })?;
        Ok(result)
    }
}

/// Looks of a training in the log, in their order.
fn logged(metrics: &Path, stage: &str, seed: u64) -> Result<Vec<Look>, RunError> {
    let mut looks: BTreeMap<u64, BTreeMap<String, f64>> = BTreeMap::new();
    let chosen = |name: &str| name.starts_with("rfd_") || name == "dev_spearman";
    for curve in curves(metrics, chosen)? {
        let Some(name) = curve.name.strip_suffix(&format!("/{stage}")) else {
            continue;
        };
        // Seeds are logged as floating-point numbers.
        if curve.seed != seed as f64 as u64 {
            continue;
        }
        for (step, value) in curve.points {
            // A line belongs to a step counted from 0; the look came after it.
            let values = looks.entry(step as u64 + 1).or_default();
            values.insert(name.to_owned(), value);
        }
    }
    Ok(looks
        .into_iter()
        .map(|(step, values)| Look {
            step,
            probed: Probed::from_named(|name| values.get(name).copied()),
            dev_spearman: values.get("dev_spearman").copied(),
        })
        .collect())
}

/// Result rows of a trace: what it comes to. Without a look that counts there is no difficulty.
fn rows_of(trace: &Trace, task: &str, start_step: u64) -> Vec<Row> {
    let found = trace
        .difficulty(start_step)
        .unwrap_or_else(|_| trace.scores());
    let row = |task: &str, metric: &str, aggregation: &str, value: Option<f64>| {
        Some(Row::Embedding(EmbeddingRow {
            stage: trace.setting.clone(),
            task: task.to_owned(),
            split: "dev".to_owned(),
            seed: Some(trace.seed),
            metric: metric.to_owned(),
            aggregation: aggregation.to_owned(),
            value: value?,
        }))
    };
    [
        row("RFD_a", "rfd", "mean", found.rfd_a),
        row("RFD_u", "rfd", "mean", found.rfd_u),
        row(task, "spearman", "top5", found.top5),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Program for NgcseRun {
    fn phases(&self) -> Vec<u64> {
        // How often generated rows alone fill a batch depends on the order.
        let steps = |variant: &Variant| {
            let seeds = self.config.seeds.iter();
            let steps = seeds.map(|seed| self.batches(variant, *seed).0.len() as u64);
            steps.max().unwrap_or(0)
        };
        let plan = self.plan().into_iter();
        plan.map(|phase| phase.map_or(0, steps)).collect()
    }

    fn phase(
        &mut self,
        session: &mut Session<'_>,
        phase: usize,
        seed: u64,
    ) -> Result<(), RunError> {
        match self.plan().get(phase).copied().flatten() {
            Some(variant) => self.train(session, variant, seed),
            None => self
                .evaluation
                .measure(session, "start", "evaluating", &self.start.encoder),
        }
    }
}
