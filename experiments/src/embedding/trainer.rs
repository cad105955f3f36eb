//! The training step of every sentence-embedding method, and the choice of the best encoder.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Instant;

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Device, Tensor, TensorData};
use encoder::{BertModel, Embeddings, Pooling, SentenceEncoder, TokenBatch, encode_ids};
use serde::{Deserialize, Serialize};
use training::{
    AdamW, AdamWConfig, CheckpointFiles, CheckpointParts, DeferredTensors, Examined,
    LinearSchedule, NonFinite, PathPredicate, Streams, accumulated_backward, cached_backward,
    examine, from_safetensors, load_module, stream,
};

use super::dev_set::{DevScore, DevSet};
use super::freeze::freeze;
use super::text_table::TextTable;
use crate::error::RunError;
use crate::guard::Statistics;
use crate::session::{Session, Span, Stage, Stepped, Watch, file_of};

/// Everything with a gradient: the encoder and what a method has beside it.
#[derive(Module, Debug)]
pub(crate) struct SentenceModel<H: Module + ModuleDisplay> {
    pub(crate) backbone: BertModel,
    pub(crate) head: H,
}

/// Number of rows of a part of a batch, its texts and what belongs to them.
pub(crate) type Part<B> = (usize, (Vec<usize>, B));

/// What makes up a batch and what its loss is.
pub(crate) trait Method {
    /// Parameters beside the encoder.
    type Head: Module + ModuleDisplay;
    /// What the loss needs beside the vectors.
    type Batch;

    /// Steps in all, where they are known beforehand.
    fn steps(&self) -> Option<u64> {
        None
    }

    /// Texts of a step, as indices into the table, and what belongs to them.
    fn batch(&mut self, step: u64) -> Result<(Vec<usize>, Self::Batch), RunError>;

    /// Rows of the batch of a step, by kind.
    fn rows(&self, step: u64) -> Result<BTreeMap<String, Vec<usize>>, RunError>;

    /// The loss over the vectors of the batch's texts, in their order: `[1]`.
    fn loss(
        &self,
        head: &Self::Head,
        vectors: Tensor<2>,
        batch: &Self::Batch,
    ) -> Result<Tensor<1>, RunError>;

    /// A batch in at most `parts` parts, each with the number of its rows, where the loss is a mean over
    /// rows that do not know of each other and there is no auxiliary term; none where rows are compared.
    fn split(
        &self,
        _texts: &[usize],
        _batch: &Self::Batch,
        _parts: usize,
    ) -> Option<Vec<Part<Self::Batch>>> {
        None
    }

    /// A further term of the loss over the token ids of a part of the batch, by name. Terms of several
    /// parts are averaged with the numbers of their texts as weights.
    fn auxiliary(
        &self,
        _model: &SentenceModel<Self::Head>,
        _ids: &[&[u32]],
        _part: u64,
        _step: u64,
    ) -> Result<Option<(&'static str, Tensor<1>)>, RunError> {
        Ok(None)
    }

    /// Further figures for the log at every look at the development set, after `done` steps, by name.
    fn look(
        &self,
        _model: &SentenceModel<Self::Head>,
        _done: u64,
    ) -> Result<BTreeMap<String, f64>, RunError> {
        Ok(BTreeMap::new())
    }
}

/// Parts of a batch whose gradients are added up, for means over rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accumulation {
    /// Parts that each device computes one after the other; 0 and 1: one.
    pub(crate) steps: usize,
    /// Devices with a replica of the model, beside the main one.
    pub(crate) replicas: Vec<Device>,
}

impl Accumulation {
    /// Parts of a batch.
    fn parts(&self) -> usize {
        self.steps.max(1).saturating_mul(1 + self.replicas.len())
    }
}

/// How a step gets its vectors.
pub(crate) enum Encoding {
    /// Through the encoder, which learns.
    Train,
    /// Through the encoder with dropout; only the head learns.
    Frozen,
    /// From vectors made once, without dropout; only the head learns.
    Cached(Embeddings),
}

/// Fixed inputs of a training stage.
pub(crate) struct Trainer<'a, M: Method> {
    pub(crate) method: M,
    pub(crate) texts: &'a TextTable,
    pub(crate) dev: Option<&'a DevSet>,
    pub(crate) encoding: Encoding,
    pub(crate) pooling: Pooling,
    /// Pooling on the development set: that of the encoder as it will be used.
    pub(crate) dev_pooling: Pooling,
    pub(crate) device: Device,
    pub(crate) streams: Streams,
    /// Key of this stage in the random streams.
    pub(crate) key: u64,
    pub(crate) adamw: AdamWConfig,
    /// Parameters of the model (`backbone...`, `head...`) that do not learn.
    pub(crate) frozen: Option<PathPredicate>,
    pub(crate) max_norm: Option<f64>,
    pub(crate) schedule: LinearSchedule,
    /// Texts embedded at a time; 0: all of a batch.
    pub(crate) micro_batch: usize,
    /// Parts of a batch whose gradients are added up.
    pub(crate) accumulation: Accumulation,
    /// Factor of the gradient before clipping.
    pub(crate) gradient_scale: f64,
    /// Steps between two looks at the development set; 0: never. A shorter stage looks at its end.
    pub(crate) select_every: u64,
    pub(crate) eval_batch: usize,
    /// Best score to beat, from an earlier stage.
    pub(crate) score_to_beat: Option<f64>,
    /// Run's seed, for the log.
    pub(crate) seed: u64,
}

/// Best development score so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Best {
    score: Option<f64>,
    step: Option<u64>,
}

/// What changes from step to step.
pub(crate) struct TrainerState<H: Module + ModuleDisplay> {
    pub(crate) model: SentenceModel<H>,
    optimizer: AdamW,
    best: Best,
    /// The model with the best score.
    kept: Option<SentenceModel<H>>,
}

/// What has become of a model.
pub(crate) struct Trained<H: Module + ModuleDisplay> {
    /// The model to carry on with.
    pub(crate) model: SentenceModel<H>,
    /// Steps and development score it was chosen by, if it was.
    pub(crate) chosen: Option<(u64, f64)>,
    /// How it was chosen, in words; its evaluation follows.
    pub(crate) note: String,
}

impl<H: Module + ModuleDisplay> TrainerState<H> {
    /// The model to carry on with, and the steps and score it was chosen by; the last one if no
    /// development score was ever better than the one to beat.
    fn finish(self) -> (SentenceModel<H>, Option<(u64, f64)>) {
        let chosen = self.best.step.zip(self.best.score);
        (self.kept.unwrap_or(self.model), chosen)
    }
}

impl<M: Method> Trainer<'_, M> {
    /// Trains a model, from the checkpoint that the phase continues from if there is one.
    ///
    /// # Errors
    ///
    /// Those of the steps and the checkpoints; [`RunError::Interrupted`] after a signal.
    pub(crate) fn run(
        &mut self,
        session: &mut Session<'_>,
        stage: &str,
        span: Span,
        model: SentenceModel<M::Head>,
    ) -> Result<Trained<M::Head>, RunError> {
        // What stays if the score to beat is never beaten.
        let before = (self.score_to_beat.is_some() && self.select_every > 0).then(|| model.clone());
        let state = match session.take_resumed() {
            Some(files) => self.resume(model, &files)?,
            None => self.start(model)?,
        };
        let (trained, chosen) = session.train(stage, span, self, state)?.finish();
        let model = match (chosen, before) {
            (None, Some(before)) => before,
            _ => trained,
        };
        let note = self.note(chosen);
        Ok(Trained {
            model,
            chosen,
            note,
        })
    }

    /// How a model was chosen.
    fn note(&self, chosen: Option<(u64, f64)>) -> String {
        match (chosen, self.score_to_beat) {
            (Some((step, score)), _) => format!(
                "step {step} has the best development score, {:.2}; evaluating",
                100.0 * score
            ),
            _ if self.select_every == 0 => "evaluating the last encoder".to_owned(),
            (None, Some(score)) => format!(
                "never above the {:.2} of the stage before, whose encoder stays; evaluating",
                100.0 * score
            ),
            (None, None) => "no development score; evaluating the last encoder".to_owned(),
        }
    }

    /// A fresh state.
    fn start(&self, model: SentenceModel<M::Head>) -> Result<TrainerState<M::Head>, RunError> {
        let model = match &self.frozen {
            Some(frozen) => freeze(model, frozen),
            None => model,
        };
        Ok(TrainerState {
            model,
            optimizer: AdamW::new(self.adamw.clone())?,
            best: Best {
                score: self.score_to_beat,
                step: None,
            },
            kept: None,
        })
    }

    /// A state continued from a checkpoint; `model` gives the structure.
    fn resume(
        &self,
        model: SentenceModel<M::Head>,
        files: &CheckpointFiles,
    ) -> Result<TrainerState<M::Head>, RunError> {
        let mut state = self.start(model)?;
        let load = |model: &SentenceModel<M::Head>, name| -> Result<_, RunError> {
            Ok(load_module(
                model.clone(),
                file_of(files, name)?,
                NonFinite::Allow,
                "resume the model",
            )?)
        };
        if files.contains_key(BEST) {
            state.kept = Some(load(&state.model, BEST)?);
        }
        state.model = load(&state.model, MODEL)?;
        state.optimizer.load_state(
            &state.model,
            from_safetensors(file_of(files, OPTIMIZER)?, NonFinite::Allow)?,
        )?;
        state.best = serde_json::from_slice(file_of(files, SELECTION)?)
            .map_err(|error| RunError::Data(format!("checkpoint: {SELECTION}: {error}")))?;
        Ok(state)
    }

    /// Pooled vectors of token ids, with dropout drawn from the step and the part.
    fn embed(
        &self,
        backbone: &BertModel,
        device: &Device,
        ids: &[&[u32]],
        step: u64,
        part: u64,
    ) -> Result<Tensor<2>, RunError> {
        let device = device.clone().autodiff();
        device.seed(self.streams.seed(stream::DROPOUT, &[self.key, step, part]));
        let tokens = TokenBatch::new(ids, &device)?;
        Ok(SentenceEncoder::pool(backbone, self.pooling, &tokens)?)
    }

    /// Rows of the vectors made once.
    fn cached_rows(vectors: &Embeddings, indices: &[usize], device: &Device) -> Tensor<2> {
        let values: Vec<f32> = indices
            .iter()
            .flat_map(|at| vectors.row(*at).to_vec())
            .collect();
        let data = TensorData::new(values, [indices.len(), vectors.dim]);
        Tensor::from_data(data, device).autodiff()
    }

    /// Pooled vectors of texts on a device, as the encoding says.
    fn vectors(
        &self,
        backbone: &BertModel,
        device: &Device,
        indices: &[usize],
        step: u64,
        part: u64,
    ) -> Result<Tensor<2>, RunError> {
        let embed = || self.embed(backbone, device, &self.texts.rows(indices), step, part);
        Ok(match &self.encoding {
            Encoding::Cached(vectors) => Self::cached_rows(vectors, indices, device),
            Encoding::Frozen => embed()?.without_autodiff().autodiff(),
            Encoding::Train => embed()?,
        })
    }

    /// [`backward`](Self::backward) part by part, for means over rows.
    fn accumulate(
        &self,
        model: &SentenceModel<M::Head>,
        indices: &[usize],
        batch: &M::Batch,
        step: u64,
        statistics: Statistics,
    ) -> Result<(BTreeMap<String, f64>, burn::tensor::Gradients), RunError> {
        let parts = self
            .method
            .split(indices, batch, self.accumulation.parts())
            .ok_or_else(|| {
                RunError::Config(
                    "accumulate, devices: expected 1 and one, as the objective compares the rows of a \
                     batch"
                        .to_owned(),
                )
            })?;
        let mut seen = Vec::new();
        let done = accumulated_backward(
            model,
            &self.device,
            &self.accumulation.replicas,
            &parts,
            |model, device, at, (indices, batch)| {
                let vectors = self.vectors(&model.backbone, device, indices, step, at as u64)?;
                if statistics.wanted() {
                    seen.push(vectors.clone().without_autodiff());
                }
                let loss = self.method.loss(&model.head, vectors, batch)?;
                Ok::<_, RunError>(self.scaled(loss))
            },
        )?
        .ok_or_else(|| RunError::Data(format!("step {step}: a batch without rows")))?;
        let mut values = BTreeMap::new();
        if !seen.is_empty() {
            let here = |vectors: Tensor<2>| vectors.to_device(&self.device);
            let all = Tensor::cat(seen.into_iter().map(here).collect(), 0);
            statistics.vectors(&all, &mut values);
        }
        let loss = f64::from(done.loss.into_scalar::<f32>()) / self.gradient_scale;
        values.insert("loss".to_owned(), loss);
        Ok((values, done.gradients))
    }

    /// A loss whose gradient is to be taken.
    fn scaled(&self, loss: Tensor<1>) -> Tensor<1> {
        match self.gradient_scale {
            1.0 => loss,
            scale => loss.mul_scalar(scale),
        }
    }

    /// Loss terms by name and the gradient of their sum.
    fn backward(
        &self,
        model: &SentenceModel<M::Head>,
        indices: &[usize],
        batch: &M::Batch,
        step: u64,
        statistics: Statistics,
    ) -> Result<(BTreeMap<String, f64>, burn::tensor::Gradients), RunError> {
        if self.accumulation.parts() > 1 {
            return self.accumulate(model, indices, batch, step, statistics);
        }
        let value = |loss: &Tensor<1>| f64::from(loss.clone().into_scalar::<f32>());
        let activations = RefCell::new(BTreeMap::new());
        let mut values = BTreeMap::new();
        let ids = self.texts.rows(indices);
        let size = match self.micro_batch {
            0 => ids.len(),
            size => size,
        };
        let parts: Vec<&[&[u32]]> = ids.chunks(size.max(1)).collect();
        let head_only = |vectors: Tensor<2>| {
            statistics.vectors(&vectors, &mut activations.borrow_mut());
            self.method.loss(&model.head, vectors, batch)
        };
        let (loss, mut gradients) = match &self.encoding {
            Encoding::Train if parts.len() > 1 => {
                let cached = cached_backward(
                    model,
                    &parts,
                    |model, part, ids| {
                        self.embed(&model.backbone, &self.device, ids, step, part as u64)
                    },
                    |vectors| Ok::<_, RunError>(self.scaled(head_only(vectors)?)),
                )?;
                (value(&cached.loss) / self.gradient_scale, cached.gradients)
            }
            _ => {
                let backbone = &model.backbone;
                let vectors = self.vectors(backbone, &self.device, indices, step, 0)?;
                let loss = head_only(vectors)?;
                (value(&loss), self.scaled(loss).backward())
            }
        };
        let mut sum = loss;
        for (part, ids) in parts.iter().enumerate() {
            let Some((name, term)) = self.method.auxiliary(model, ids, part as u64, step)? else {
                continue;
            };
            let term = term.mul_scalar(ids.len() as f64 / indices.len() as f64);
            let worth = value(&term);
            *values.entry(name.to_owned()).or_default() += worth;
            sum += worth;
            training::add_gradients(model, &mut gradients, self.scaled(term).backward());
        }
        if !values.is_empty() {
            values.insert("loss_main".to_owned(), loss);
        }
        values.insert("loss".to_owned(), sum);
        values.append(&mut activations.borrow_mut());
        Ok((values, gradients))
    }

    /// Whether the development set is looked at after `done` steps.
    fn looks(&self, done: u64) -> bool {
        let every = self.select_every;
        let ends_before = self.method.steps() == Some(done) && done < every;
        every > 0 && (done.is_multiple_of(every) || ends_before)
    }

    /// Looks at the development set and keeps the model if it is strictly better.
    fn select(
        &self,
        state: &mut TrainerState<M::Head>,
        dev: &DevSet,
        done: u64,
        values: &mut BTreeMap<String, f64>,
        watch: &Watch<'_>,
    ) -> Result<(), RunError> {
        let backbone = state.model.backbone.valid();
        let between = || watch.heed();
        let score = dev.score(&backbone, self.dev_pooling, self.eval_batch, &between)?;
        values.extend(named(&score));
        values.extend(self.method.look(&state.model, done)?);
        if let Some(spearman) = score.spearman
            && state.best.score.is_none_or(|best| spearman > best)
        {
            state.best = Best {
                score: Some(spearman),
                step: Some(done),
            };
            state.kept = Some(state.model.clone());
        }
        Ok(())
    }
}

/// The figures of a look at the development set, for the log.
fn named(score: &DevScore) -> impl Iterator<Item = (String, f64)> {
    [
        ("dev_spearman", score.spearman),
        ("dev_alignment", score.alignment),
        ("dev_uniformity", score.uniformity),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
}

const MODEL: &str = "model.safetensors";
const BEST: &str = "best.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const SELECTION: &str = "selection.json";

impl<M: Method> Stage for Trainer<'_, M> {
    type State = TrainerState<M::Head>;
    type Batch = (Vec<usize>, M::Batch);

    fn batch(&mut self, _: &Self::State, step: u64) -> Result<Self::Batch, RunError> {
        self.method.batch(step)
    }

    fn step(
        &mut self,
        mut state: Self::State,
        (indices, batch): Self::Batch,
        step: u64,
        statistics: Statistics,
    ) -> Result<Stepped<Self::State>, RunError> {
        let began = Instant::now();
        let (mut values, mut gradients) =
            self.backward(&state.model, &indices, &batch, step, statistics)?;
        let lr = self.schedule.lr(step);
        let fault = match examine(&state.model, &values, &gradients, self.max_norm, step)? {
            Examined::Sound(clipped) => {
                state.model =
                    state
                        .optimizer
                        .step(lr, state.model, &mut gradients, clipped.scale)?;
                values.insert("grad_norm".to_owned(), clipped.norm);
                None
            }
            Examined::Faulty(fault) => Some(fault),
        };
        drop(gradients);
        let ms = began.elapsed().as_secs_f64() * 1e3;
        values.insert("seed".to_owned(), self.seed as f64);
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
        state: &mut Self::State,
        step: u64,
        values: &mut BTreeMap<String, f64>,
        watch: &Watch<'_>,
    ) -> Result<(), RunError> {
        match self.dev {
            Some(dev) if self.looks(step + 1) => self.select(state, dev, step + 1, values, watch),
            _ => Ok(()),
        }
    }

    fn rows(
        &mut self,
        _: &Self::State,
        step: u64,
    ) -> Result<BTreeMap<String, Vec<usize>>, RunError> {
        self.method.rows(step)
    }

    fn save<'s>(&'s self, state: &'s Self::State) -> Result<CheckpointParts<'s>, RunError> {
        let best =
            serde_json::to_vec(&state.best).map_err(|error| RunError::Data(error.to_string()))?;
        let mut files = CheckpointParts::from([
            (
                MODEL.to_owned(),
                DeferredTensors::of_module(&state.model)?.into(),
            ),
            (
                OPTIMIZER.to_owned(),
                state.optimizer.deferred_state().into(),
            ),
            (SELECTION.to_owned(), best.into()),
        ]);
        if let Some(kept) = &state.kept {
            let kept = DeferredTensors::of_module(kept)?;
            files.insert(BEST.to_owned(), kept.into());
        }
        Ok(files)
    }
}

/// Vectors of all texts of a table, not normalised, without dropout.
pub(crate) fn encode_table(
    backbone: &BertModel,
    pooling: Pooling,
    texts: &TextTable,
    batch_size: usize,
) -> Result<Embeddings, RunError> {
    Ok(encode_ids(
        &backbone.valid(),
        pooling,
        false,
        texts.all(),
        batch_size,
        |_, _| {},
    )?)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use burn::module::{ModuleVisitor, Param};
    use burn::tensor::Gradients;
    use datasets::ScoredPair;
    use encoder::bert::Linear;
    use encoder::{BertConfig, TextTokenizer};
    use training::{in_memory, named_tensors, row_parts, save_module};

    use super::super::freeze::below_top;
    use super::super::text_table::Column;
    use super::*;
    use crate::guard::GuardConfig;
    use training::StopFlag;

    #[derive(Module, Debug)]
    struct NoHead {
        none: Option<Linear>,
    }

    /// A loss that pulls all vectors towards 0.
    struct Shrink(u64);

    impl Method for Shrink {
        type Head = NoHead;
        type Batch = ();

        fn steps(&self) -> Option<u64> {
            Some(self.0)
        }

        fn batch(&mut self, step: u64) -> Result<(Vec<usize>, ()), RunError> {
            Ok((vec![step as usize % 3, 2], ()))
        }

        fn rows(&self, step: u64) -> Result<BTreeMap<String, Vec<usize>>, RunError> {
            Ok(BTreeMap::from([(
                "texts".to_owned(),
                vec![step as usize % 3, 2],
            )]))
        }

        fn loss(&self, _: &NoHead, vectors: Tensor<2>, (): &()) -> Result<Tensor<1>, RunError> {
            Ok(vectors.square().mean())
        }

        fn split(&self, texts: &[usize], (): &(), parts: usize) -> Option<Vec<Part<()>>> {
            let parts = row_parts(texts.len(), parts).into_iter();
            Some(
                parts
                    .map(|rows| (rows.len(), (texts[rows].to_vec(), ())))
                    .collect(),
            )
        }
    }

    fn encoder() -> SentenceEncoder {
        let pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"];
        let tokenizer = TextTokenizer::from_word_pieces(&pieces).unwrap();
        // Dropout draws from the generator of the process, which the tests share.
        let config = BertConfig {
            hidden_dropout_prob: 0.0,
            attention_probs_dropout_prob: 0.0,
            ..BertConfig::tiny(pieces.len())
        };
        SentenceEncoder::random(config, tokenizer, Pooling::Mean, 1, &Device::flex()).unwrap()
    }

    fn texts(encoder: &SentenceEncoder) -> TextTable {
        let texts = ["a b", "c", "b b a"].map(str::to_owned);
        let column = Column::plain(&texts);
        TextTable::new(&[column], &encoder.tokenizer, 8).unwrap().0
    }

    fn dev(encoder: &SentenceEncoder) -> DevSet {
        let pairs = [("a", "b c", 1.0), ("c a", "b", 2.0), ("a a b", "c", 4.0)];
        let pairs = pairs.map(|(first, second, score)| ScoredPair {
            first: first.to_owned(),
            second: second.to_owned(),
            score,
        });
        DevSet::new(&pairs, 4.0, encoder, 8).unwrap()
    }

    fn trainer<'a>(texts: &'a TextTable, dev: &'a DevSet, peak: f64) -> Trainer<'a, Shrink> {
        Trainer {
            method: Shrink(6),
            texts,
            dev: Some(dev),
            encoding: Encoding::Train,
            pooling: Pooling::Mean,
            dev_pooling: Pooling::Mean,
            device: Device::flex(),
            streams: Streams::new(0),
            key: 1,
            adamw: AdamWConfig::default(),
            frozen: None,
            max_norm: None,
            schedule: LinearSchedule {
                peak,
                warmup_steps: 0,
                total_steps: 6,
            },
            micro_batch: 0,
            accumulation: Accumulation::default(),
            gradient_scale: 1.0,
            select_every: 2,
            eval_batch: 2,
            score_to_beat: None,
            seed: 0,
        }
    }

    fn model(encoder: &SentenceEncoder) -> SentenceModel<NoHead> {
        SentenceModel {
            backbone: encoder.bert.clone().train(),
            head: NoHead { none: None },
        }
    }

    /// The files of a checkpoint.
    fn saved(trainer: &Trainer<'_, Shrink>, state: &TrainerState<NoHead>) -> CheckpointFiles {
        in_memory(&trainer.save(state).unwrap()).unwrap()
    }

    /// Steps in a range, with the figures of each.
    fn steps(
        trainer: &mut Trainer<'_, Shrink>,
        mut state: TrainerState<NoHead>,
        range: std::ops::Range<u64>,
    ) -> (TrainerState<NoHead>, Vec<BTreeMap<String, f64>>) {
        let mut values = Vec::new();
        let stop = StopFlag::new();
        let quiet = Statistics::of_step(&GuardConfig::default(), 0);
        for step in range {
            let batch = trainer.batch(&state, step).unwrap();
            let mut stepped = trainer.step(state, batch, step, quiet).unwrap();
            let looked = trainer.look(&mut stepped.state, step, &mut stepped.values, &Watch(&stop));
            looked.unwrap();
            state = stepped.state;
            values.push(stepped.values);
        }
        (state, values)
    }

    #[test]
    fn looks_at_multiples_or_at_the_end_of_a_shorter_stage() {
        let encoder = encoder();
        let (texts, dev) = (texts(&encoder), dev(&encoder));
        let mut trainer = trainer(&texts, &dev, 1e-3);
        let mut looks = |every| -> Vec<u64> {
            trainer.select_every = every;
            (1..=6).filter(|done| trainer.looks(*done)).collect()
        };
        assert_eq!(looks(0), [0; 0]);
        assert_eq!(looks(2), [2, 4, 6]);
        // What comes after the last multiple is not looked at, as in the released code.
        assert_eq!(looks(4), [4]);
        assert_eq!(looks(7), [6]);
    }

    #[test]
    fn of_equal_scores_the_first_is_kept() {
        let encoder = encoder();
        let (texts, dev) = (texts(&encoder), dev(&encoder));
        // Nothing moves, so that every look gives the same score.
        let mut still = trainer(&texts, &dev, 0.0);
        let state = still.start(model(&encoder)).unwrap();
        let (state, values) = steps(&mut still, state, 0..6);
        let score = values[1]["dev_spearman"];
        assert_eq!(values[5]["dev_spearman"], score);
        let (_, chosen) = state.finish();
        assert_eq!(chosen, Some((2, score)));
        // A score that has to be beaten is not beaten by itself.
        still.score_to_beat = Some(score);
        let state = still.start(model(&encoder)).unwrap();
        let (state, _) = steps(&mut still, state, 0..6);
        assert_eq!(state.finish().1, None);
    }

    #[test]
    fn a_saved_state_goes_on_as_if_nothing_had_happened() {
        let encoder = encoder();
        let (texts, dev) = (texts(&encoder), dev(&encoder));
        let mut trainer = trainer(&texts, &dev, 1e-2);
        for cut in [1, 2, 5] {
            let state = trainer.start(model(&encoder)).unwrap();
            let (state, mut values) = steps(&mut trainer, state, 0..cut);
            let files = saved(&trainer, &state);
            let (state, rest) = steps(&mut trainer, state, cut..6);
            values.extend(rest.clone());
            assert!(values[0]["loss"] > values[5]["loss"]);

            let resumed = trainer.resume(model(&encoder), &files).unwrap();
            let (resumed, again) = steps(&mut trainer, resumed, cut..6);
            assert_eq!(again, rest, "cut after {cut}");
            let (one, two) = (saved(&trainer, &state), saved(&trainer, &resumed));
            assert!(one == two, "cut after {cut}");
        }
    }

    #[test]
    fn frozen_parameters_stay_and_count_for_nothing() {
        let encoder = encoder();
        let (texts, dev) = (texts(&encoder), dev(&encoder));
        let first = save_module(&model(&encoder)).unwrap();
        let tensors = |bytes: &[u8]| from_safetensors(bytes, NonFinite::Refuse).unwrap();
        let layers = encoder.config.num_hidden_layers;
        assert_eq!(layers, 2);
        for top in [1, 2] {
            let frozen = below_top(layers, top);
            let mut trainer = trainer(&texts, &dev, 1e-2);
            trainer.frozen = Some(frozen.clone());
            let mut found = Vec::new();
            for micro_batch in [0, 1] {
                trainer.micro_batch = micro_batch;
                let state = trainer.start(model(&encoder)).unwrap();
                let (state, mut values) = steps(&mut trainer, state, 0..1);
                // A checkpoint keeps them frozen.
                let files = saved(&trainer, &state);
                let state = trainer.resume(model(&encoder), &files).unwrap();
                let (state, rest) = steps(&mut trainer, state, 1..6);
                values.extend(rest);
                assert!(values[0]["loss"] > values[5]["loss"]);
                let after = named_tensors(&state.model).unwrap();
                for (name, before) in tensors(&first) {
                    // Mean pooling has no use for the pooler.
                    let still = frozen.matches(&name) || name.contains("pooler");
                    assert_eq!(before == after[&name], still, "{name}");
                }
                let moments = tensors(&saved(&trainer, &state)[OPTIMIZER]);
                assert!(moments.keys().all(|name| !frozen.matches(&name[2..])));
                found.push(values[0]["grad_norm"]);
            }
            assert!((found[0] / found[1] - 1.0).abs() < 1e-4, "{found:?}");
            // The norm is that of the others alone.
            let mut norm = |frozen| {
                trainer.frozen = frozen;
                let state = trainer.start(model(&encoder)).unwrap();
                steps(&mut trainer, state, 0..1).1[0]["grad_norm"]
            };
            let all = norm(None);
            let others = PathPredicate::new("others", move |path| !frozen.matches(path));
            let of_frozen = norm(Some(others));
            assert!(of_frozen > 0.0);
            assert!((found[0].hypot(of_frozen) / all - 1.0).abs() < 1e-4);
        }
    }

    /// Gradients of all parameters, in order.
    struct Read<'g>(&'g Gradients, Vec<Vec<f32>>);

    impl ModuleVisitor for Read<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = param.val().grad(self.0) {
                self.1.push(gradient.into_data().iter::<f32>().collect());
            }
        }
    }

    fn largest(values: &[f32]) -> f32 {
        values.iter().fold(0.0, |most, value| most.max(value.abs()))
    }

    fn distance(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        let differences: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        largest(&differences)
    }

    #[test]
    fn parts_and_replicas_take_the_step_of_the_whole_batch() {
        let encoder = encoder();
        let (texts, dev) = (texts(&encoder), dev(&encoder));
        let mut trainer = trainer(&texts, &dev, 1e-2);
        // The gradient of a key's bias is 0 but for rounding, which AdamW would make a step of.
        trainer.adamw.eps = 1e-4;
        let every_step = GuardConfig {
            statistics_every: 1,
            ..GuardConfig::default()
        };
        let statistics = Statistics::of_step(&every_step, 0);
        let texts_of_batch = [0, 1, 2, 0, 1];
        let mut stepped = |steps, replicas| {
            trainer.accumulation = Accumulation {
                steps,
                replicas: vec![Device::flex(); replicas],
            };
            let model = model(&encoder);
            let (_, gradients) = trainer
                .backward(&model, &texts_of_batch, &(), 0, statistics)
                .unwrap();
            let mut read = Read(&gradients, Vec::new());
            model.visit(&mut read);
            let state = trainer.start(model).unwrap();
            let batch = (texts_of_batch.to_vec(), ());
            let done = trainer.step(state, batch, 0, statistics).unwrap();
            assert!(done.values.contains_key("vector_std"));
            let after: Vec<Vec<f32>> = named_tensors(&done.state.model)
                .unwrap()
                .values()
                .map(|tensor| tensor.iter::<f32>().collect())
                .collect();
            (done.values, read.1, after)
        };
        let whole = stepped(1, 0);
        let of_all = whole.1.iter().map(|one| largest(one)).fold(0.0, f32::max);
        for (steps, replicas) in [(2, 0), (3, 0), (9, 0), (1, 1), (2, 1), (1, 2)] {
            let found = stepped(steps, replicas);
            let name = format!("{steps} parts on each of 1 + {replicas}");
            assert!(found.0.keys().eq(whole.0.keys()), "{name}");
            for (key, value) in &whole.0 {
                let close = (found.0[key] - value).abs() <= 1e-5 * value.abs().max(1e-2);
                assert!(close, "{name}: {key} {} {value}", found.0[key]);
            }
            assert_eq!(found.1.len(), whole.1.len());
            for (found, expected) in found.1.iter().zip(&whole.1) {
                let tolerance = 1e-5 * largest(expected).max(1e-3 * of_all);
                assert!(distance(found, expected) <= tolerance, "{name}");
            }
            for (found, expected) in found.2.iter().zip(&whole.2) {
                let tolerance = 1e-5 * largest(expected).max(1e-2);
                assert!(distance(found, expected) <= tolerance, "{name}");
            }
            // Which device computes a part changes nothing.
            assert_eq!(stepped(steps * (1 + replicas), 0), found, "{name}");
        }
    }

    #[test]
    fn a_checkpoint_without_its_files_is_refused() {
        let encoder = encoder();
        let (texts, dev) = (texts(&encoder), dev(&encoder));
        let trainer = trainer(&texts, &dev, 1e-3);
        let state = trainer.start(model(&encoder)).unwrap();
        let files = saved(&trainer, &state);
        for name in [MODEL, OPTIMIZER, SELECTION] {
            let mut files = files.clone();
            files.remove(name);
            let error = trainer.resume(model(&encoder), &files).err().unwrap();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
