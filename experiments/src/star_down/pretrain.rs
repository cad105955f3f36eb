//! Stage 1: coarse cross entropy on the pooled vector, with or without masked language modelling.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use encoder::bert::dropout;
use encoder::{BertModel, MlmHead, Pooling, SentenceEncoder, TextTokenizer, TokenBatch};
use losses::{CoarseCrossEntropy, MaskedLm};
use serde::{Deserialize, Serialize};
use training::{
    AdamW, AdamWConfig, CheckpointFiles, CheckpointParts, DeferredTensors, EarlyStopping,
    EarlyStoppingConfig, Examined, Goal, LinearSchedule, NonFinite, Plan, Streams, Verdict,
    examine, from_safetensors, load_module, shuffle, stream,
};

use super::config::StarDownConfig;
use super::model::{PretrainModel, uniform_linear};
use super::prepare::Prepared;
use crate::error::RunError;
use crate::guard::Statistics;
use crate::masking::mask_tokens;
use crate::session::{Stage, Stepped, Watch, file_of};

/// Key of this stage in the random streams.
const STAGE: u64 = 1;

/// What changes while pre-training.
pub(crate) struct PretrainState {
    pub(crate) model: PretrainModel,
    optimizer: AdamW,
    stopping: Stopping,
    /// Backbone of the best validation accuracy.
    best: Option<BertModel>,
}

/// Early stopping, as a file of the checkpoint.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Stopping {
    early: EarlyStopping,
    stopped: bool,
}

/// That file.
const STOPPING: &str = "early-stopping.json";

/// The stage: fixed inputs and caches.
pub(crate) struct Pretrain<'a> {
    prepared: &'a Prepared,
    config: &'a StarDownConfig,
    tokenizer: TextTokenizer,
    pooling: Pooling,
    streams: Streams,
    seed: u64,
    schedule: LinearSchedule,
    train_rows: Vec<usize>,
    valid_rows: Vec<usize>,
    order: Option<(u64, Vec<usize>, Vec<usize>)>,
}

/// Rows of the training and of the validation part.
fn split(n: usize, valid_fraction: f64, streams: &Streams) -> (Vec<usize>, Vec<usize>) {
    let mut rows = shuffle(n, &mut streams.rng(stream::SPLIT, &[STAGE]));
    let train = (((1.0 - valid_fraction) * n as f64).floor() as usize).clamp(1, n - 1);
    let valid = rows.split_off(train);
    (rows, valid)
}

/// Steps of one epoch.
pub(crate) fn steps_per_epoch(n: usize, config: &StarDownConfig) -> u64 {
    let train =
        (((1.0 - config.pretrain.valid_fraction) * n as f64).floor() as usize).clamp(1, n - 1);
    train.div_ceil(config.batch_size) as u64
}

impl<'a> Pretrain<'a> {
    pub(crate) fn new(
        prepared: &'a Prepared,
        config: &'a StarDownConfig,
        encoder: &SentenceEncoder,
        seed: u64,
    ) -> Result<Self, RunError> {
        let streams = Streams::new(seed);
        let n = prepared.data.train.len();
        let (train_rows, valid_rows) = split(n, config.pretrain.valid_fraction, &streams);
        // The published plan counts all training rows although an epoch only visits its part.
        let planned = if config.pretrain.schedule_epochs == 0 {
            train_rows.len()
        } else {
            n
        };
        let plan = Plan {
            rows: planned as u64,
            batch: config.batch_size as u64,
            epochs: config.pretrain.epochs,
            schedule_epochs: config.pretrain.schedule_epochs,
        };
        Ok(Self {
            schedule: LinearSchedule::planned(config.lr, &plan, config.optimizer.warmup)?,
            tokenizer: encoder.tokenizer.clone(),
            pooling: encoder.pooling,
            prepared,
            config,
            streams,
            seed,
            train_rows,
            valid_rows,
            order: None,
        })
    }

    /// A fresh state from an encoder.
    pub(crate) fn start(&self, encoder: &SentenceEncoder) -> Result<PretrainState, RunError> {
        let device = self.prepared.device.clone().autodiff();
        let hidden = encoder.config.hidden_size;
        let mut rng = self.streams.rng(stream::INIT, &[STAGE]);
        let mlm = self.config.pretrain.mlm.then(|| {
            encoder.mlm_head.clone().map_or_else(
                || {
                    MlmHead::random(
                        &encoder.config,
                        self.streams.seed(stream::INIT, &[STAGE, 1]),
                        &device,
                    )
                },
                Module::train,
            )
        });
        let model = PretrainModel {
            backbone: encoder.bert.clone().train(),
            classifier: uniform_linear(
                hidden,
                self.prepared.data.coarse_names.len(),
                &mut rng,
                &device,
            ),
            mlm,
        };
        Ok(PretrainState {
            model,
            optimizer: AdamW::new(adamw(self.config)?)?,
            stopping: Stopping {
                early: EarlyStopping::new(EarlyStoppingConfig {
                    goal: Goal::Maximise,
                    patience: self.config.pretrain.patience,
                    decimals: Some(2),
                }),
                stopped: false,
            },
            best: None,
        })
    }

    /// A state continued from a checkpoint.
    pub(crate) fn resume(
        &self,
        encoder: &SentenceEncoder,
        files: &CheckpointFiles,
    ) -> Result<PretrainState, RunError> {
        let mut state = self.start(encoder)?;
        let file = |name: &str| file_of(files, name);
        state.model = load_module(
            state.model,
            file("model.safetensors")?,
            NonFinite::Allow,
            "resume the model",
        )?;
        state.optimizer.load_state(
            &state.model,
            from_safetensors(file("optimizer.safetensors")?, NonFinite::Allow)?,
        )?;
        if let Some(bytes) = files.get("best.safetensors") {
            state.best = Some(load_module(
                state.model.backbone.clone(),
                bytes,
                NonFinite::Allow,
                "resume the best encoder",
            )?);
        }
        state.stopping = serde_json::from_slice(file(STOPPING)?)
            .map_err(|error| RunError::Data(format!("checkpoint: {STOPPING}: {error}")))?;
        Ok(state)
    }

    /// The backbone to carry on with: the best one, or the last if none was ever validated.
    pub(crate) fn finish(state: PretrainState) -> BertModel {
        state.best.unwrap_or(state.model.backbone).valid()
    }

    fn steps(&self) -> u64 {
        self.train_rows.len().div_ceil(self.config.batch_size) as u64
    }

    /// Coarse accuracy on the held-out part, in percent.
    fn validate(&self, model: &PretrainModel, watch: &Watch<'_>) -> Result<f64, RunError> {
        let model = model.valid();
        let ids: Vec<&[u32]> = self
            .valid_rows
            .iter()
            .map(|row| self.prepared.train_ids[*row].as_slice())
            .collect();
        let vectors = encoder::try_encode_ids(
            &model.backbone,
            self.pooling,
            false,
            &ids,
            self.config.eval.batch_size,
            |_, _| watch.heed(),
        )?;
        let device = &self.prepared.device;
        let rows = Tensor::<2>::from_data(
            TensorData::new(vectors.values.clone(), [ids.len(), vectors.dim]),
            device,
        );
        let found: Vec<i64> = model
            .classifier
            .forward(rows)
            .argmax(1)
            .into_data()
            .iter::<i64>()
            .collect();
        let right = found
            .iter()
            .zip(&self.valid_rows)
            .filter(|(found, row)| **found == self.prepared.data.train.coarse[**row] as i64)
            .count();
        Ok(100.0 * right as f64 / self.valid_rows.len() as f64)
    }
}

/// Optimiser of both stages.
pub(crate) fn adamw(config: &StarDownConfig) -> Result<AdamWConfig, RunError> {
    Ok(AdamWConfig {
        eps: config.optimizer.eps,
        weight_decay: config.optimizer.weight_decay,
        decay_order: config.decay_order()?,
        ..AdamWConfig::default()
    })
}

/// Indices and masks of a step.
pub(crate) struct PretrainBatch {
    coarse: Vec<usize>,
    mlm: Vec<usize>,
}

impl Stage for Pretrain<'_> {
    type State = PretrainState;
    type Batch = PretrainBatch;

    fn batch(&mut self, _: &PretrainState, step: u64) -> Result<PretrainBatch, RunError> {
        let (epoch, index) = (step / self.steps(), (step % self.steps()) as usize);
        if self.order.as_ref().is_none_or(|(of, _, _)| *of != epoch) {
            let n = self.train_rows.len();
            self.order = Some((
                epoch,
                shuffle(n, &mut self.streams.rng(stream::SHUFFLE, &[STAGE, epoch])),
                shuffle(
                    n,
                    &mut self.streams.rng(stream::MLM_SHUFFLE, &[STAGE, epoch]),
                ),
            ));
        }
        let (_, coarse, mlm) = self
            .order
            .get_or_insert_with(|| (epoch, Vec::new(), Vec::new()));
        let size = self.config.batch_size;
        let pick = |order: &[usize]| -> Vec<usize> {
            order
                .iter()
                .skip(index * size)
                .take(size)
                .map(|at| self.train_rows[*at])
                .collect()
        };
        Ok(PretrainBatch {
            coarse: pick(coarse),
            mlm: pick(mlm),
        })
    }

    fn step(
        &mut self,
        mut state: PretrainState,
        batch: PretrainBatch,
        step: u64,
        statistics: Statistics,
    ) -> Result<Stepped<PretrainState>, RunError> {
        let began = Instant::now();
        let device = self.prepared.device.clone().autodiff();
        device.seed(self.streams.seed(stream::DROPOUT, &[STAGE, step]));
        let mut values = BTreeMap::from([("seed".to_owned(), self.seed as f64)]);

        let rows: Vec<Vec<u32>> = batch
            .coarse
            .iter()
            .map(|row| self.prepared.train_ids[*row].clone())
            .collect();
        let tokens = TokenBatch::new(&rows, &device)?;
        let pooled = SentenceEncoder::pool(&state.model.backbone, self.pooling, &tokens)?;
        statistics.vectors(&pooled, &mut values);
        let logits = state
            .model
            .classifier
            .forward(dropout(pooled, self.head_dropout()));
        let labels: Vec<i32> = batch
            .coarse
            .iter()
            .map(|row| self.prepared.data.train.coarse[*row] as i32)
            .collect();
        let labels =
            Tensor::<1, Int>::from_data(TensorData::new(labels, [batch.coarse.len()]), &device);
        let mut loss = CoarseCrossEntropy.forward(logits, labels)?;
        values.insert(
            "loss_coarse".into(),
            loss.clone().into_scalar::<f32>().into(),
        );

        if let Some(head) = &state.model.mlm {
            let mut rng = self.streams.rng(stream::MLM_MASK, &[STAGE, step]);
            let mask = self.tokenizer.mask_id().ok_or_else(|| {
                RunError::Config(
                    "pretrain.mlm: the tokenizer has no mask token; set it to false".to_owned(),
                )
            })?;
            let masked: Vec<_> = batch
                .mlm
                .iter()
                .map(|row| {
                    mask_tokens(
                        &self.prepared.train_ids[*row],
                        self.tokenizer.special_ids(),
                        self.tokenizer.vocab_size(),
                        mask,
                        self.config.pretrain.mlm_probability,
                        &mut rng,
                    )
                })
                .collect();
            let rows: Vec<Vec<u32>> = masked.iter().map(|text| text.ids.clone()).collect();
            let tokens = TokenBatch::new(&rows, &device)?;
            let (positions, originals): (Vec<i32>, Vec<i32>) = masked
                .iter()
                .enumerate()
                .flat_map(|(row, text)| {
                    text.selected
                        .iter()
                        .map(|(at, id)| (tokens.row(row, *at), *id))
                        .collect::<Vec<_>>()
                })
                .map(|(at, id)| (at as i32, id as i32))
                .unzip();
            if !positions.is_empty() {
                let count = positions.len();
                let states = state.model.backbone.forward(&tokens)?;
                let positions =
                    Tensor::<1, Int>::from_data(TensorData::new(positions, [count]), &device);
                let targets =
                    Tensor::<1, Int>::from_data(TensorData::new(originals, [count]), &device);
                let table = state.model.backbone.embeddings.word_embeddings.weight.val();
                let logits = head.forward(states.last, positions, table);
                let mlm = MaskedLm.forward(logits, targets)?;
                values.insert("loss_mlm".into(), mlm.clone().into_scalar::<f32>().into());
                loss = loss + mlm;
            }
        }
        values.insert("loss".into(), loss.clone().into_scalar::<f32>().into());

        let mut grads = loss.backward();
        let limit = (self.config.optimizer.clip > 0.0).then_some(self.config.optimizer.clip);
        let lr = self.schedule.lr(step);
        let fault = match examine(&state.model, &values, &grads, limit, step)? {
            Examined::Sound(clipped) => {
                statistics.norm(clipped.norm, &mut values);
                if self.config.trace {
                    values.insert("grad_norm".into(), clipped.norm);
                }
                state.model = state
                    .optimizer
                    .step(lr, state.model, &mut grads, clipped.scale)?;
                None
            }
            Examined::Faulty(fault) => Some(fault),
        };
        let ms = began.elapsed().as_secs_f64() * 1e3;
        Ok(Stepped {
            state,
            lr,
            values,
            ms,
            refill_s: None,
            fault,
        })
    }

    fn look(
        &mut self,
        state: &mut PretrainState,
        step: u64,
        values: &mut BTreeMap<String, f64>,
        watch: &Watch<'_>,
    ) -> Result<(), RunError> {
        if !(step + 1).is_multiple_of(self.steps()) {
            return Ok(());
        }
        let accuracy = self.validate(&state.model, watch)?;
        values.insert("valid_accuracy".into(), accuracy);
        match state.stopping.early.observe(step / self.steps(), accuracy) {
            Verdict::Improved => state.best = Some(state.model.backbone.clone()),
            Verdict::Waiting { .. } => {}
            Verdict::Stop => state.stopping.stopped = true,
        }
        Ok(())
    }

    fn rows(
        &mut self,
        state: &PretrainState,
        step: u64,
    ) -> Result<BTreeMap<String, Vec<usize>>, RunError> {
        let batch = self.batch(state, step)?;
        let mut rows = BTreeMap::from([("coarse".to_owned(), batch.coarse)]);
        if state.model.mlm.is_some() {
            rows.insert("mlm".to_owned(), batch.mlm);
        }
        Ok(rows)
    }

    fn save<'s>(&'s self, state: &'s PretrainState) -> Result<CheckpointParts<'s>, RunError> {
        let stopping = serde_json::to_vec(&state.stopping)
            .map_err(|error| RunError::Data(format!("write {STOPPING}: {error}")))?;
        let mut files = CheckpointParts::from([
            (STOPPING.to_owned(), stopping.into()),
            (
                "model.safetensors".to_owned(),
                DeferredTensors::of_module(&state.model)?.into(),
            ),
            (
                "optimizer.safetensors".to_owned(),
                state.optimizer.deferred_state().into(),
            ),
        ]);
        if let Some(best) = &state.best {
            let best = DeferredTensors::of_module(best)?;
            files.insert("best.safetensors".to_owned(), best.into());
        }
        Ok(files)
    }

    fn stopped(&self, state: &PretrainState) -> bool {
        state.stopping.stopped
    }
}

impl Pretrain<'_> {
    fn head_dropout(&self) -> f64 {
        if self.config.dropout >= 0.0 {
            self.config.dropout
        } else {
            0.1
        }
    }
}
