//! The run: untrained encoder, training, chosen encoder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use datasets::RowKeys;
use encoder::bert::{Linear, MlmHead};
use encoder::{Init, Pooling, SentenceEncoder};
use kernels::DeviceSpec;
use serde_json::json;
use training::{Streams, stream};

use super::config::SimcseConfig;
use super::method::{Masking, Simcse, SimcseHead};
use crate::embedding::{
    Accumulation, BatchOrder, BatchRules, Column, Encoding, Evaluation, Form, Outcome,
    SentenceFile, SentenceModel, Start, StartOptions, TextTable, Trainer, bundled, finish,
};
use crate::error::RunError;
use crate::result::ResultFile;
use crate::session::{Opening, Program, Request, Session};

/// Key of the training stage in the random streams.
const KEY: u64 = 1;

/// Runs (or continues) the experiment and returns its results.
///
/// # Errors
///
/// Anything from bad input to a full disk; [`RunError::Interrupted`] after a signal, with everything
/// saved.
pub fn run(request: Request<'_, SimcseConfig>) -> Result<ResultFile, RunError> {
    let began = Instant::now();
    let config = request.config.clone();
    config.check()?;
    let spec: DeviceSpec = config.device.parse()?;
    let device = spec.open()?;
    let prepared = Prepared::new(&config, &device)?;
    let mut program = SimcseRun { config, prepared };
    program.check()?;
    let (config, prepared) = (&program.config, &program.prepared);
    let opening = Opening {
        experiment: "simcse",
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
    facts["inference_pooling"] = json!(program.inference_pooling().to_string());
    facts["max_len"] = json!(program.config.max_len);
    let outcome = Outcome {
        data_name: prepared.name.clone(),
        train_rows: prepared.rows(),
        start: &prepared.start,
        facts,
    };
    finish(&mut session, outcome, began)
}

/// Everything that is the same for all seeds.
struct Prepared {
    start: Start,
    /// How texts become vectors in training.
    form: Form,
    device: Device,
    texts: TextTable,
    columns: Vec<Vec<usize>>,
    /// Texts of every row as keys, where no batch may hold one twice.
    keys: Option<RowKeys>,
    evaluation: Evaluation,
    name: String,
    hashes: BTreeMap<String, String>,
    /// What the loaders saw.
    notes: Vec<String>,
}

impl Prepared {
    fn new(config: &SimcseConfig, device: &Device) -> Result<Self, RunError> {
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
            config.eval_max_len,
            config.selection.batch_size,
        )?;
        let mut hashes = evaluation.hashes.clone();
        let mut notes = Vec::new();
        let (columns, name) = if config.data == "pocket" {
            (bundled::sentences()?, "pocket".to_owned())
        } else {
            let file = SentenceFile::load(
                Path::new(&config.data),
                &evaluation.leaks,
                config.drop_leaks,
            )?;
            notes.extend(file.notes);
            hashes.insert(file.name.clone(), file.sha256);
            (file.columns, file.name)
        };
        let keys = config.no_duplicates.then(|| {
            let mut keys = RowKeys::default();
            for row in 0..columns.first().map_or(0, Vec::len) {
                keys.push(columns.iter().map(|column| column[row].as_str()));
            }
            keys
        });
        let mut views: Vec<Column<'_>> = columns
            .iter()
            .map(|texts| Column {
                texts,
                template: form.template.as_ref(),
            })
            .collect();
        // A sentence alone is its own positive.
        if let [only] = views.as_slice() {
            views.push(*only);
        }
        if let [_, second] = views.as_mut_slice() {
            second.template = form.positive.as_ref();
        }
        let (texts, columns) = TextTable::new(&views, &start.encoder.tokenizer, config.max_len)?;
        let rows = columns.first().map_or(0, Vec::len);
        if rows < 2 {
            return Err(RunError::Data(format!(
                "{}: expected at least 2 rows to contrast, found {rows}",
                config.data
            )));
        }
        Ok(Self {
            start,
            form,
            device: device.clone(),
            texts,
            columns,
            keys,
            evaluation,
            name,
            hashes,
            notes,
        })
    }

    fn rows(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }
}

struct SimcseRun {
    config: SimcseConfig,
    prepared: Prepared,
}

impl SimcseRun {
    /// The pooling the trained encoder is used with.
    fn inference_pooling(&self) -> Pooling {
        match self.prepared.form.pooling {
            Pooling::ClsMlp if self.config.mlp_only_train => Pooling::Cls,
            pooling => pooling,
        }
    }

    /// Whether the MLP of `cls_mlp` starts anew.
    fn new_mlp(&self) -> bool {
        self.prepared.form.pooling == Pooling::ClsMlp && self.config.new_mlp
    }

    /// Refuses what would only fail once the run directory is there.
    fn check(&self) -> Result<(), RunError> {
        if !self.config.stages.iter().any(|stage| stage == "train") {
            return Ok(());
        }
        if !self.new_mlp() {
            self.prepared.start.check(&self.prepared.form)?;
        }
        let streams = Streams::new(0);
        self.masking(streams)?;
        let order = self.order(&streams)?;
        if self.config.batch_order_file.is_empty() || self.prepared.columns.len() > 2 {
            return Ok(());
        }
        for step in 0..order.steps() {
            if order.rows(step)?.len() < 2 {
                return Err(RunError::File {
                    path: PathBuf::from(&self.config.batch_order_file),
                    message: format!("batch {step}: expected at least 2 rows to contrast, found 1"),
                });
            }
        }
        Ok(())
    }

    fn order(&self, streams: &Streams) -> Result<BatchOrder, RunError> {
        BatchOrder::new(
            &BatchRules {
                size: self.config.batch_size,
                epochs: self.config.epochs,
                max_steps: self.config.max_steps,
                same_order: false,
                bucket_batches: self.config.bucket_batches,
                no_duplicates: self.prepared.keys.as_ref(),
                file: &self.config.batch_order_file,
                key: KEY,
            },
            &self.prepared.columns,
            &self.prepared.texts,
            streams,
        )
    }

    fn model(&self, streams: &Streams) -> Result<SentenceModel<SimcseHead>, RunError> {
        let encoder = &self.prepared.start.encoder;
        let device = self.prepared.device.clone().autodiff();
        let mut backbone = encoder.bert.clone().train();
        let hidden = backbone.hidden_size();
        if self.new_mlp() {
            let seed = streams.seed(stream::INIT, &[KEY]);
            let std = encoder.config.initializer_range;
            let mut init = Init::seeded(seed, std, &device);
            backbone.pooler = Some(Linear::new(hidden, hidden, &mut init));
        }
        let mlm = self.config.mlm.then(|| {
            encoder.mlm_head.clone().map_or_else(
                || {
                    let seed = streams.seed(stream::INIT, &[KEY, 1]);
                    MlmHead::random(&encoder.config, seed, &device)
                },
                Module::train,
            )
        });
        Ok(SentenceModel {
            backbone,
            head: SimcseHead { mlm },
        })
    }

    fn masking(&self, streams: Streams) -> Result<Option<Masking>, RunError> {
        if !self.config.mlm {
            return Ok(None);
        }
        let tokenizer = self.prepared.start.encoder.tokenizer.clone();
        let mask = tokenizer.mask_id().ok_or_else(|| {
            RunError::Config("mlm: the tokenizer has no mask token; set mlm=false".to_owned())
        })?;
        Ok(Some(Masking {
            tokenizer,
            mask,
            probability: self.config.mlm_probability,
            weight: self.config.mlm_weight,
            streams,
            device: self.prepared.device.clone(),
        }))
    }

    fn train(&self, session: &mut Session<'_>, seed: u64) -> Result<(), RunError> {
        let streams = Streams::new(seed);
        let order = self.order(&streams)?;
        let span = order.span(self.config.checkpoint_every);
        let mut trainer = Trainer {
            method: Simcse {
                columns: self.prepared.columns.clone(),
                batches: order,
                objective: self.config.info_nce().init()?,
                masking: self.masking(streams)?,
            },
            texts: &self.prepared.texts,
            dev: Some(&self.prepared.evaluation.dev),
            encoding: Encoding::Train,
            pooling: self.prepared.form.pooling,
            dev_pooling: self.inference_pooling(),
            device: self.prepared.device.clone(),
            streams,
            key: KEY,
            adamw: self.config.optimizer.adamw(),
            max_norm: self.config.optimizer.max_norm(),
            frozen: None,
            schedule: self.config.optimizer.linear(self.config.lr, span.steps),
            micro_batch: self.config.micro_batch,
            accumulation: Accumulation::default(),
            gradient_scale: self.config.ddp_grad_scale,
            select_every: self.config.selection.every,
            eval_batch: self.config.selection.batch_size,
            score_to_beat: None,
            seed,
        };
        let trained = trainer.run(session, "simcse", span, self.model(&streams)?)?;
        let encoder = self.encoder(trained.model);
        let evaluation = &self.prepared.evaluation;
        evaluation.measure(session, "simcse", &trained.note, &encoder)?;
        if session.seed_index() == 0 {
            encoder.save(&session.dir.path().join("model"))?;
        }
        Ok(())
    }

    /// The trained encoder as it is used and kept.
    fn encoder(&self, model: SentenceModel<SimcseHead>) -> SentenceEncoder {
        let form = &self.prepared.form;
        let mut encoder = self.prepared.start.trained(form, &model.backbone);
        encoder.pooling = self.inference_pooling();
        if encoder.pooling != form.pooling {
            // Trained as a head of the objective only: nothing should take it for a pooler.
            encoder.bert.pooler = None;
        }
        if let Some(head) = model.head.mlm {
            encoder.mlm_head = Some(head.valid());
        }
        encoder
    }
}

impl Program for SimcseRun {
    fn phases(&self) -> Vec<u64> {
        // Where no two rows of a batch may share a text, the order decides how many batches there are;
        // else every seed has as many.
        let seeds = match &self.prepared.keys {
            Some(_) => self.config.seeds.as_slice(),
            None => self.config.seeds.get(..1).unwrap_or_default(),
        };
        let steps = seeds
            .iter()
            .filter_map(|seed| Some(self.order(&Streams::new(*seed)).ok()?.steps()))
            .max()
            .unwrap_or(0);
        self.config
            .stages
            .iter()
            .map(|stage| if stage == "train" { steps } else { 0 })
            .collect()
    }

    fn phase(
        &mut self,
        session: &mut Session<'_>,
        phase: usize,
        seed: u64,
    ) -> Result<(), RunError> {
        match self.config.stages.get(phase).map(String::as_str) {
            Some(stage @ "start") => {
                let Prepared {
                    evaluation, start, ..
                } = &self.prepared;
                evaluation.measure(session, stage, "evaluating", &start.encoder)
            }
            _ => self.train(session, seed),
        }
    }
}
