//! Settings of a SimCSE run. Defaults are those of the released code for unsupervised BERT-base.

use losses::InfoNceConfig;
use serde::{Deserialize, Serialize};

use crate::embedding::settings::{above_zero, at_least_zero, bad, pooling, positive};
use crate::embedding::{Asked, OptimizerConfig, SelectionConfig};
use crate::error::RunError;
use crate::guard::GuardConfig;

/// All settings of the experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimcseConfig {
    /// Training file (txt, csv, tsv, json lines; also gzipped), or `pocket`. One column: a sentence is
    /// its own positive; two: anchor and positive; three: and a hard negative.
    pub data: String,
    /// Directory with the STS tasks; empty: pairs made from the bundled set.
    pub sts: String,
    /// Model directory, or `pocket`.
    pub model: String,
    /// `flex`, `ndarray`, `wgpu[:i]`, `cuda[:i]` or `auto`.
    pub device: String,
    /// One complete run each.
    pub seeds: Vec<u64>,
    /// `start` (the encoder as it comes) and `train`.
    pub stages: Vec<String>,
    /// Longest text in training, in tokens.
    pub max_len: usize,
    /// Longest text in evaluation, in tokens; 0: what the model allows.
    pub eval_max_len: usize,
    /// Rows a training step.
    pub batch_size: usize,
    /// Texts embedded at a time; 0: the whole batch. Anything else gives the same gradient in less
    /// memory (gradient caching).
    pub micro_batch: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Passes over the data.
    pub epochs: u64,
    /// Steps at most; 0: no limit. The schedule is planned for what is really run.
    pub max_steps: u64,
    /// Pooling in training: `cls_mlp` (SimCSE's `cls`), `cls`, `mean`, `mask`, or empty for what the
    /// model says.
    pub pooling: String,
    /// With `mask`: the sentence around every text, `{s}` for the text, the mask token at the end.
    /// Empty: the model's own, else that of NGCSE.
    pub template: String,
    /// The same for positives of files without hard negatives. Empty: NGCSE's second one where
    /// `template` is NGCSE's, else the same.
    pub template_positive: String,
    /// Start the MLP of `cls_mlp` anew instead of using the checkpoint's pooler.
    pub new_mlp: bool,
    /// Leave the MLP out once trained, so that the pooling is `cls`.
    pub mlp_only_train: bool,
    /// Dropout of the encoder; below 0 keeps the model's own rate.
    pub dropout: f64,
    /// Temperature of the cosine similarities.
    pub temperature: f64,
    /// Added to the logit of an anchor's own hard negative.
    pub hard_negative_weight: f64,
    /// Mean of both directions, anchor to positive and back.
    pub symmetric: bool,
    /// The other anchors as further negatives.
    pub include_anchors: bool,
    /// Masked language modelling beside the objective.
    pub mlm: bool,
    /// Its weight.
    pub mlm_weight: f64,
    /// Share of ordinary tokens that is masked.
    pub mlm_probability: f64,
    /// Factor of the gradient before clipping; `1 / W` gives what `W` devices of the released code give.
    pub ddp_grad_scale: f64,
    /// No two rows of a batch share a text.
    pub no_duplicates: bool,
    /// Sort rows by length within this many batches, which spares little here because nothing is
    /// padded; 0: off.
    pub bucket_batches: usize,
    /// Leave out training rows that contain a text of the evaluation sets.
    pub drop_leaks: bool,
    /// JSON list of index lists: the batches, in order.
    pub batch_order_file: String,
    /// Recompute the encoder's activations in the backward pass.
    pub gradient_checkpointing: bool,
    /// Products of the encoder's layers: `f32`, or `bf16`: operands rounded to bfloat16, sums in f32.
    pub precision: String,
    /// Accept NaN and infinite weights.
    pub allow_non_finite: bool,
    /// Optimiser.
    pub optimizer: OptimizerConfig,
    /// Numbers that are not finite, and statistics.
    pub guard: GuardConfig,
    /// Choice of the checkpoint on the development set.
    pub selection: SelectionConfig,
    /// A checkpoint also every so many steps; 0: after each epoch only.
    pub checkpoint_every: u64,
    /// Checkpoints kept.
    pub checkpoints_kept: usize,
}

impl Default for SimcseConfig {
    fn default() -> Self {
        Self {
            data: "pocket".into(),
            sts: String::new(),
            model: "pocket".into(),
            device: "auto".into(),
            seeds: vec![42],
            stages: vec!["start".into(), "train".into()],
            max_len: 32,
            eval_max_len: 0,
            batch_size: 64,
            micro_batch: 0,
            lr: 3e-5,
            epochs: 1,
            max_steps: 0,
            pooling: "cls_mlp".into(),
            template: String::new(),
            template_positive: String::new(),
            new_mlp: true,
            mlp_only_train: true,
            dropout: -1.0,
            temperature: 0.05,
            hard_negative_weight: 0.0,
            symmetric: false,
            include_anchors: false,
            mlm: false,
            mlm_weight: 0.1,
            mlm_probability: 0.15,
            ddp_grad_scale: 1.0,
            no_duplicates: false,
            bucket_batches: 0,
            drop_leaks: false,
            batch_order_file: String::new(),
            gradient_checkpointing: false,
            precision: "f32".into(),
            allow_non_finite: false,
            optimizer: OptimizerConfig {
                weight_decay: 0.0,
                eps: 1e-8,
                clip: 1.0,
                warmup: 0.0,
            },
            guard: GuardConfig::default(),
            selection: SelectionConfig {
                every: 125,
                batch_size: 128,
            },
            checkpoint_every: 250,
            checkpoints_kept: 1,
        }
    }
}

impl SimcseConfig {
    /// What the bundled data and encoder are run with.
    pub fn bundled() -> Self {
        Self {
            pooling: String::new(),
            lr: 1e-4,
            epochs: 2,
            selection: SelectionConfig {
                every: 10,
                batch_size: 128,
            },
            ..Self::default()
        }
    }

    /// The objective.
    pub(crate) fn info_nce(&self) -> InfoNceConfig {
        InfoNceConfig::new()
            .with_temperature(self.temperature)
            .with_hard_negative_weight(self.hard_negative_weight)
            .with_symmetric(self.symmetric)
            .with_include_anchors(self.include_anchors)
    }

    /// What the settings say about vectors.
    pub(crate) fn asked(&self) -> Result<Asked<'_>, RunError> {
        Ok(Asked {
            pooling: pooling(&self.pooling)?,
            template: &self.template,
            positive: &self.template_positive,
            max_len: self.max_len,
        })
    }

    /// Refuses values that no run can have.
    ///
    /// # Errors
    ///
    /// [`RunError::Config`] with key, expectation and value.
    pub fn check(&self) -> Result<(), RunError> {
        self.optimizer.check()?;
        self.guard.check()?;
        self.selection.check()?;
        self.asked()?;
        if self.seeds.is_empty() {
            return Err(bad("seeds", "at least one", "none"));
        }
        for stage in &self.stages {
            if !matches!(stage.as_str(), "start" | "train") {
                return Err(bad("stages", "start or train", stage));
            }
        }
        if self.data.trim().is_empty() {
            return Err(bad("data", "a file, or pocket", "nothing"));
        }
        if self.batch_size < 2 {
            return Err(bad(
                "batch_size",
                "at least 2, for there are no negatives in a batch of one",
                self.batch_size,
            ));
        }
        if self.max_len < 3 {
            return Err(bad("max_len", "at least 3", self.max_len));
        }
        positive("epochs", self.epochs)?;
        positive("checkpoints_kept", self.checkpoints_kept as u64)?;
        above_zero("lr", self.lr)?;
        above_zero("temperature", self.temperature)?;
        if !self.hard_negative_weight.is_finite() {
            return Err(bad(
                "hard_negative_weight",
                "a finite number",
                self.hard_negative_weight,
            ));
        }
        self.info_nce().init()?;
        above_zero("ddp_grad_scale", self.ddp_grad_scale)?;
        at_least_zero("mlm_weight", self.mlm_weight)?;
        if !(self.mlm_probability > 0.0 && self.mlm_probability < 1.0) {
            return Err(bad(
                "mlm_probability",
                "above 0 and below 1",
                self.mlm_probability,
            ));
        }
        if self.dropout >= 1.0 || self.dropout.is_nan() {
            return Err(bad("dropout", "below 1", self.dropout));
        }
        Ok(())
    }
}
