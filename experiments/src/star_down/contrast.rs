//! Stage 2: a neighbour policy and an objective over the memory bank, with the coarse cross entropy.
//!
//! ```text
//! at the start of an epoch
//!     bank[i] = unit(encoder(x_i)) for every training text; the policy renews its lists
//! for each batch I
//!     X = random token replacement of the tokens of I, seen by both encoders
//!     q = unit(online(X));  m = unit(momentum(X)) without graph and without dropout
//!     loss = objective(q, bank, lists of I) + coarse_weight * CE(head(online(X)), coarse labels)
//!     bank[I] = m;  clip, AdamW, schedule;  momentum <- EMA of the online backbone
//! ```
//!
//! The objective sees the bank as it was before the batch is written. Source: `down.py` of the
//! released DOWN and STAR code.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use clustering::{Centroids, KMeansParams};
use encoder::{BertModel, Pooling, SentenceEncoder, TextTokenizer, TokenBatch, unit_rows};
use losses::{
    BankInfoNce, BankInfoNceConfig, CoarseCrossEntropy, InputNormalization, NORM_EPS,
    NeighbourTargets, l2_normalize,
};
use ndarray::ArrayView2;
use queue::{
    Clusters, MemoryBank, NeighbourPolicy, PolicyState, RefreshContext, momentum_copy,
    update_momentum,
};
use training::{
    AdamW, CheckpointFiles, CheckpointParts, DeferredTensors, Examined, LinearSchedule, NonFinite,
    Plan, Streams, examine, from_safetensors, load_module, shuffle, stream,
};

use super::augment::replace_tokens;
use super::config::{Objective, StarDownConfig};
use super::model::{CoarseHead, ContrastModel};
use super::prepare::Prepared;
use super::pretrain::adamw;
use crate::error::RunError;
use crate::guard::Statistics;
use crate::session::{Stage, Stepped, file_of};

/// Key of this stage in the random streams. DOWN and STAR share it: from the same start they see the
/// same batches, views and dropout seeds, so that a difference comes from the objective.
const STAGE: u64 = 2;

/// What changes while training.
pub(crate) struct ContrastState {
    pub(crate) model: ContrastModel,
    momentum: BertModel,
    optimizer: AdamW,
    bank: Option<MemoryBank>,
    policy: Box<dyn NeighbourPolicy>,
}

/// The stage: fixed inputs and caches.
pub(crate) struct Contrast<'a> {
    prepared: &'a Prepared,
    config: &'a StarDownConfig,
    objective: Objective,
    tokenizer: TextTokenizer,
    pooling: Pooling,
    streams: Streams,
    seed: u64,
    schedule: LinearSchedule,
    info_nce: BankInfoNce,
    /// Seconds of the refill before the step at work, if it had one.
    refill_s: Option<f64>,
    order: Option<(u64, Vec<usize>)>,
}

/// Steps of one epoch; the last, short batch is kept.
pub(crate) fn steps_per_epoch(n: usize, config: &StarDownConfig) -> u64 {
    n.div_ceil(config.batch_size) as u64
}

impl<'a> Contrast<'a> {
    pub(crate) fn new(
        prepared: &'a Prepared,
        config: &'a StarDownConfig,
        objective: Objective,
        encoder: &SentenceEncoder,
        seed: u64,
    ) -> Result<Self, RunError> {
        let plan = Plan {
            rows: prepared.data.train.len() as u64,
            batch: config.batch_size as u64,
            epochs: config.train.epochs,
            schedule_epochs: config.train.schedule_epochs,
        };
        Ok(Self {
            schedule: LinearSchedule::planned(config.lr, &plan, config.optimizer.warmup)?,
            info_nce: BankInfoNceConfig::new()
                .with_temperature(config.train.tau)
                .with_weight_normalization(config.weight_normalization()?)
                .with_normalize_inputs(InputNormalization::None)
                .init()?,
            tokenizer: encoder.tokenizer.clone(),
            pooling: encoder.pooling,
            streams: Streams::new(seed),
            prepared,
            config,
            objective,
            seed,
            refill_s: None,
            order: None,
        })
    }

    /// A fresh state from the pre-trained encoder.
    pub(crate) fn start(&self, encoder: &SentenceEncoder) -> Result<ContrastState, RunError> {
        let device = self.prepared.device.clone().autodiff();
        let hidden = encoder.config.hidden_size;
        let classes = self.prepared.data.coarse_names.len();
        let rate = if self.config.dropout >= 0.0 {
            self.config.dropout
        } else {
            0.1
        };
        let mut rng = self.streams.rng(stream::INIT, &[STAGE]);
        let star = match self.objective {
            Objective::InfoNce => None,
            Objective::Star => {
                let seed = self.streams.seed(stream::INIT, &[STAGE, 1]);
                Some(self.config.star(hidden)?.init(&device, seed)?)
            }
        };
        Ok(ContrastState {
            model: ContrastModel {
                backbone: encoder.bert.clone().train(),
                coarse: CoarseHead::new(hidden, classes, rate, &mut rng, &device),
                star,
            },
            momentum: momentum_copy(&encoder.bert.valid()),
            optimizer: AdamW::new(adamw(self.config)?)?,
            bank: None,
            policy: self.config.policy(self.prepared.topk)?,
        })
    }

    /// A state continued from a checkpoint.
    pub(crate) fn resume(
        &self,
        encoder: &SentenceEncoder,
        files: &CheckpointFiles,
    ) -> Result<ContrastState, RunError> {
        let mut state = self.start(encoder)?;
        let file = |name: &str| file_of(files, name);
        state.model = load_module(
            state.model,
            file("model.safetensors")?,
            NonFinite::Allow,
            "resume the model",
        )?;
        state.momentum = load_module(
            state.momentum,
            file("momentum.safetensors")?,
            NonFinite::Allow,
            "resume the momentum encoder",
        )?;
        state.optimizer.load_state(
            &state.model,
            from_safetensors(file("optimizer.safetensors")?, NonFinite::Allow)?,
        )?;
        let mut bank = from_safetensors(file("bank.safetensors")?, NonFinite::Allow)?;
        if let Some(data) = bank.remove("bank") {
            state.bank = Some(MemoryBank::from_data_with_config(
                data,
                &self.prepared.device,
                self.config.bank()?,
            )?);
        }
        let lists: PolicyState = serde_json::from_slice(file("policy.json")?)
            .map_err(|error| RunError::Data(format!("checkpoint: policy.json: {error}")))?;
        state.policy.restore(lists)?;
        Ok(state)
    }

    fn steps(&self) -> u64 {
        steps_per_epoch(self.prepared.data.train.len(), self.config)
    }

    /// Refills the bank and renews the lists.
    fn refill(&mut self, state: &mut ContrastState, epoch: u64) -> Result<(), RunError> {
        let began = Instant::now();
        let online;
        let encoder = if self.config.train.bank_refill == "momentum" {
            &state.momentum
        } else {
            online = state.model.backbone.valid();
            &online
        };
        let vectors = encoder::encode_ids(
            encoder,
            self.pooling,
            true,
            &self.prepared.train_ids,
            self.config.eval.batch_size,
            |_, _| {},
        )?;
        let n = vectors.rows();
        let rows = Tensor::<2>::from_data(
            TensorData::new(vectors.values.clone(), [n, vectors.dim]),
            &self.prepared.device,
        );
        match &mut state.bank {
            Some(bank) => bank.refill(rows)?,
            bank => *bank = Some(MemoryBank::with_config(rows, self.config.bank()?)?),
        }
        let clusters = if state.policy.needs_clusters() {
            let points = ArrayView2::from_shape((n, vectors.dim), &vectors.values)
                .map_err(|error| RunError::Data(error.to_string()))?;
            let found = KMeansParams::new(self.prepared.k)
                .n_init(1)
                .seed(self.streams.seed(stream::CLUSTERING, &[STAGE, epoch]))
                .fit(points)?;
            let centroids = Centroids::from_clusters(points, &found.labels, self.prepared.k)?;
            let means: Vec<f32> = centroids.vectors().iter().copied().collect();
            Some((found.labels, means))
        } else {
            None
        };
        let Some(bank) = &state.bank else {
            return Ok(());
        };
        state.policy.refresh(&RefreshContext {
            bank: if state.policy.needs_clusters() {
                bank.vectors()
            } else {
                bank.stored()
            },
            coarse: &self.prepared.data.train.coarse,
            refresh: epoch as usize,
            clusters: clusters.as_ref().map(|(assignments, centroids)| Clusters {
                assignments,
                centroids,
            }),
        })?;
        self.refill_s = Some(began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Share of listed neighbours with the query's fine label, for the log.
    fn neighbour_precision(&self, state: &ContrastState) -> Option<f64> {
        let fine = self.prepared.data.train.fine.as_ref()?;
        let lists = state.policy.state()?;
        let (mut right, mut all) = (0usize, 0usize);
        for row in 0..lists.len() {
            for id in lists.row(row).iter().filter(|id| **id as usize != row) {
                right += usize::from(fine[*id as usize] == fine[row]);
                all += 1;
            }
        }
        (all > 0).then(|| right as f64 / all as f64)
    }
}

impl Stage for Contrast<'_> {
    type State = ContrastState;
    type Batch = Vec<usize>;

    fn prepare(&mut self, state: &mut ContrastState, step: u64) -> Result<(), RunError> {
        if step.is_multiple_of(self.steps()) {
            self.refill(state, step / self.steps())?;
        }
        Ok(())
    }

    fn batch(&mut self, _: &ContrastState, step: u64) -> Result<Vec<usize>, RunError> {
        if let Some(order) = &self.prepared.batch_order {
            return Ok(order[step as usize % order.len()].clone());
        }
        let (epoch, index) = (step / self.steps(), (step % self.steps()) as usize);
        let n = self.prepared.data.train.len();
        if self.order.as_ref().is_none_or(|(of, _)| *of != epoch) {
            let order = shuffle(n, &mut self.streams.rng(stream::SHUFFLE, &[STAGE, epoch]));
            self.order = Some((epoch, order));
        }
        let size = self.config.batch_size;
        Ok(self
            .order
            .iter()
            .flat_map(|(_, order)| order.iter().skip(index * size).take(size).copied())
            .collect())
    }

    fn step(
        &mut self,
        mut state: ContrastState,
        ids: Vec<usize>,
        step: u64,
        statistics: Statistics,
    ) -> Result<Stepped<ContrastState>, RunError> {
        let epoch = step / self.steps();
        let mut values = BTreeMap::from([("seed".to_owned(), self.seed as f64)]);
        if step.is_multiple_of(self.steps())
            && let Some(precision) = self.neighbour_precision(&state)
        {
            values.insert("neighbour_precision".into(), precision);
        }
        let began = Instant::now();
        let device = self.prepared.device.clone().autodiff();
        device.seed(self.streams.seed(stream::DROPOUT, &[STAGE, step]));
        let mut rng = self.streams.rng(stream::AUGMENT, &[STAGE, step]);
        let rows: Vec<Vec<u32>> = ids
            .iter()
            .map(|row| {
                replace_tokens(
                    &self.prepared.train_ids[*row],
                    self.tokenizer.special_ids(),
                    self.tokenizer.vocab_size(),
                    self.config.train.rtr,
                    &mut rng,
                )
            })
            .collect();
        let tokens = TokenBatch::new(&rows, &device)?;
        let bank = state.bank.as_ref().ok_or_else(|| {
            RunError::Data("the bank is empty in the middle of an epoch".to_owned())
        })?;

        let pooled = SentenceEncoder::pool(&state.model.backbone, self.pooling, &tokens)?;
        statistics.vectors(&pooled, &mut values);
        let logits = state.model.coarse.forward(pooled.clone());
        let labels: Vec<i32> = ids
            .iter()
            .map(|row| self.prepared.data.train.coarse[*row] as i32)
            .collect();
        let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [ids.len()]), &device);
        let coarse = CoarseCrossEntropy.forward(logits, labels)?;
        values.insert(
            "loss_coarse".into(),
            coarse.clone().into_scalar::<f32>().into(),
        );

        let queries = l2_normalize(pooled, NORM_EPS);
        let (target_ids, weights) = state
            .policy
            .targets(&ids, epoch as usize)?
            .to_tensors(&device);
        let targets = NeighbourTargets::new(target_ids, weights)?;
        let fine = match &state.model.star {
            None => self
                .info_nce
                .forward(queries, bank.vectors().autodiff(), &targets)?,
            Some(star) => {
                let output = star.forward(queries, bank.vectors().autodiff(), &targets)?;
                values.insert("loss_kl".into(), output.kl_term.into_scalar::<f32>().into());
                values.insert(
                    "loss_euclidean".into(),
                    output.euclidean_term.into_scalar::<f32>().into(),
                );
                output.loss
            }
        };
        values.insert("loss_fine".into(), fine.clone().into_scalar::<f32>().into());
        let loss = fine + coarse.mul_scalar(self.config.train.coarse_weight);
        values.insert("loss".into(), loss.clone().into_scalar::<f32>().into());

        // The momentum encoder of before this step; inference form, so no graph and no dropout.
        let plain = TokenBatch::new(&rows, &self.prepared.device)?;
        let momentum_rows =
            || SentenceEncoder::pool(&state.momentum, self.pooling, &plain).map(unit_rows);
        // Neither needs the other, and what one leaves of the cores is enough for parts of the other.
        let side_by_side = kernels::concurrent_passes(&self.prepared.device) > 1;
        let (mut grads, momentum_rows) = if side_by_side {
            rayon::join(|| loss.backward(), momentum_rows)
        } else {
            (loss.backward(), momentum_rows())
        };
        let momentum_rows = momentum_rows?;
        drop(targets);
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
                drop(grads);
                if let Some(bank) = &mut state.bank {
                    bank.update(&ids, momentum_rows)?;
                }
                state.momentum = update_momentum(
                    state.momentum,
                    &state.model.backbone,
                    self.config.train.momentum,
                )?;
                None
            }
            Examined::Faulty(fault) => Some(fault),
        };
        if let Some(star) = &state.model.star {
            values.insert("base".into(), star.base_value().into_scalar::<f32>().into());
        }
        Ok(Stepped {
            state,
            lr,
            values,
            ms: began.elapsed().as_secs_f64() * 1e3,
            refill_s: self.refill_s.take(),
            fault,
        })
    }

    fn rows(
        &mut self,
        state: &ContrastState,
        step: u64,
    ) -> Result<BTreeMap<String, Vec<usize>>, RunError> {
        let rows = self.batch(state, step)?;
        Ok(BTreeMap::from([("rows".to_owned(), rows)]))
    }

    fn save<'s>(&'s self, state: &'s ContrastState) -> Result<CheckpointParts<'s>, RunError> {
        let mut files = CheckpointParts::from([
            (
                "model.safetensors".to_owned(),
                DeferredTensors::of_module(&state.model)?.into(),
            ),
            (
                "momentum.safetensors".to_owned(),
                DeferredTensors::of_module(&state.momentum)?.into(),
            ),
            (
                "optimizer.safetensors".to_owned(),
                state.optimizer.deferred_state().into(),
            ),
        ]);
        let mut bank = training::NamedTensors::new();
        if let Some(rows) = &state.bank {
            bank.insert("bank".into(), rows.to_data()?);
        }
        let bank = DeferredTensors::from(bank);
        files.insert("bank.safetensors".to_owned(), bank.into());
        let policy = serde_json::to_vec(&state.policy.state())
            .map_err(|error| RunError::Data(format!("write policy.json: {error}")))?;
        files.insert("policy.json".to_owned(), policy.into());
        Ok(files)
    }
}
