//! Settings of a STAR-DOWN run. Defaults are those of the released code (`fcdc.md` 6 in words:
//! DOWN and STAR repositories); settings that depend on the data set are 0 or empty for "automatic".

use encoder::Pooling;
use losses::{
    BaseParameterization, Divergence, InputNormalization, KlForm, StarConfig, WeightNormalization,
};
use queue::{
    DnaParams, DnaPolicy, DownParams, DownPolicy, MemoryBankConfig, NeighbourFilter,
    NeighbourPolicy, PrototypeParams, PrototypePolicy, RowStorage,
};
use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::guard::GuardConfig;

/// Most epochs of a stage.
const MAX_EPOCHS: u64 = 1_000_000;
/// Longest text in tokens.
const MAX_LEN: usize = 1_000_000;

/// All settings of the experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StarDownConfig {
    /// Directory with `train.tsv` and `test.tsv`, or `pocket`.
    pub data: String,
    /// Model directory; `pocket` for the bundled encoder; `random` for a small one drawn from the seed.
    pub model: String,
    /// `flex`, `ndarray`, `wgpu[:i]`, `cuda[:i]` or `auto`.
    pub device: String,
    /// One complete run each.
    pub seeds: Vec<u64>,
    /// Stages to run, in order: `tfidf`, `frozen`, `pretrain`, then those of `train`.
    pub stages: Vec<String>,
    /// Fine categories; 0 takes the number of fine labels in the training data.
    pub n_fine: usize,
    /// Longest text in tokens; 0: CLINC 30, HWU64 10, WOS 200, else 32.
    pub max_len: usize,
    /// Rows a training step.
    pub batch_size: usize,
    /// Peak learning rate of both training stages.
    pub lr: f64,
    /// `cls`, `mean`, `avg_top2`, `avg_first_last`, `cls_mlp`, or empty for what the model says.
    pub pooling: String,
    /// Dropout of the encoder and the heads; below 0 keeps the model's own rate.
    pub dropout: f64,
    /// Log every step's loss and gradient norm to `metrics.jsonl`.
    pub trace: bool,
    /// JSON list of index lists: the batches of the training stages, in order.
    pub batch_order_file: String,
    /// `file`: rows are numbered as in the file, so that another order of the file is another run;
    /// `content`: by their content, so that every order of the file is the same run.
    pub row_order: String,
    /// Accept NaN and infinite weights.
    pub allow_non_finite: bool,
    /// Recompute the encoder's activations in the backward pass: same result, less memory, more time.
    pub gradient_checkpointing: bool,
    /// Products of the encoder's layers: `f32`, or `bf16`: operands rounded to bfloat16, sums in f32.
    pub precision: String,
    /// Optimiser.
    pub optimizer: OptimizerConfig,
    /// Numbers that are not finite, and statistics.
    pub guard: GuardConfig,
    /// Coarse pre-training.
    pub pretrain: PretrainConfig,
    /// Training with neighbours.
    pub train: TrainConfig,
    /// Evaluation.
    pub eval: EvalConfig,
    /// Size of the `random` model.
    pub random: RandomConfig,
    /// A checkpoint is also written whenever the steps of the run are a multiple of this; 0: after
    /// every epoch only.
    pub checkpoint_every: u64,
    /// Checkpoints kept.
    pub checkpoints_kept: usize,
}

/// AdamW and clipping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Decoupled weight decay; none on biases and layer norms.
    pub weight_decay: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// `after` (transformers 4.15) or `before` (PyTorch).
    pub decay_order: String,
    /// Largest global gradient norm; 0 switches clipping off.
    pub clip: f64,
    /// Share of the planned steps that warms up.
    pub warmup: f64,
}

/// Coarse pre-training (stage 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// At most this many epochs; 0 skips the stage.
    pub epochs: u64,
    /// Epochs the schedule is planned for; 0: those really run.
    pub schedule_epochs: u64,
    /// Masked language modelling beside the coarse cross entropy.
    pub mlm: bool,
    /// Share of ordinary tokens that is masked.
    pub mlm_probability: f64,
    /// Share of the training rows held out for early stopping.
    pub valid_fraction: f64,
    /// Epochs without a better validation accuracy after which to stop.
    pub patience: u64,
}

/// Training with neighbours (stage 2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Epochs; 0 skips the stage.
    pub epochs: u64,
    /// Epochs the schedule is planned for; 0: those really run.
    pub schedule_epochs: u64,
    /// `info_nce`, `star`, or `both` one after the other from the same start.
    pub objective: String,
    /// `down`, `dna`, `dna_compat` or `prototype`.
    pub policy: String,
    /// Neighbours beside the sample itself; 0: CLINC and HWU64 120, WOS 250, else N / K.
    pub topk: usize,
    /// Temperature.
    pub tau: f64,
    /// Weight of the divergence term.
    pub gamma: f64,
    /// Momentum of the second encoder.
    pub momentum: f64,
    /// Probability of replacing a token in the training view.
    pub rtr: f64,
    /// Base of the divergence weight.
    pub base: f64,
    /// `trainable_raw`, `trainable_log`, `trainable_gt1` or `fixed`.
    pub base_mode: String,
    /// `gaussian` or `softmax`.
    pub divergence: String,
    /// Dimensions of the Gaussian heads.
    pub gaussian_dim: usize,
    /// Added to every variance.
    pub var_floor: f64,
    /// Whether the heads learn from the bank side too.
    pub bank_head_grad: bool,
    /// Temperature of the softmax divergence.
    pub softmax_temperature: f64,
    /// Divergence term on or off.
    pub kl_term: bool,
    /// Weight `B^d` on or off.
    pub kl_guidance: bool,
    /// `row` or `none`.
    pub weight_normalization: String,
    /// Weight of the coarse cross entropy.
    pub coarse_weight: f64,
    /// Bases of the rank weights, one for every `decay_every` epochs.
    pub decay_bases: Vec<f64>,
    /// Epochs a base.
    pub decay_every: usize,
    /// `none` or `coarse`: which samples may be neighbours (DOWN).
    pub neighbor_filter: String,
    /// Leave the sample itself out of its positives (DOWN).
    pub exclude_self: bool,
    /// `online` or `momentum`: which encoder refills the bank at the start of an epoch.
    pub bank_refill: String,
    /// `f32` or `f16`: in which type the bank keeps its rows; f16 takes half of the memory.
    pub bank_storage: String,
}

/// Evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    /// Restarts of k-means on the test set.
    pub n_init: usize,
    /// Restarts of k-means on the training set, for centroid inference; 0: as `n_init`.
    pub centroid_n_init: usize,
    /// Rows an inference batch.
    pub batch_size: usize,
    /// Points of the t-SNE picture; 0 draws none.
    pub tsne_points: usize,
}

/// The encoder that `model = "random"` initialises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomConfig {
    /// Width.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Heads.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Standard deviation of the initial weights of the layers.
    pub init_std: f64,
    /// Standard deviation of the word table; 0: as `init_std`.
    pub word_std: f64,
    /// Standard deviation of the position and segment tables; 0: as `init_std`.
    pub position_std: f64,
}

impl Default for StarDownConfig {
    fn default() -> Self {
        Self {
            data: "pocket".into(),
            model: "pocket".into(),
            device: "auto".into(),
            seeds: vec![0, 1, 2],
            stages: ["tfidf", "frozen", "pretrain", "train"]
                .map(str::to_owned)
                .to_vec(),
            n_fine: 0,
            max_len: 0,
            batch_size: 64,
            lr: 5e-5,
            pooling: String::new(),
            dropout: -1.0,
            trace: true,
            batch_order_file: String::new(),
            row_order: "file".into(),
            allow_non_finite: false,
            gradient_checkpointing: false,
            precision: "f32".into(),
            optimizer: OptimizerConfig {
                weight_decay: 0.01,
                eps: 1e-6,
                decay_order: "after".into(),
                clip: 1.0,
                warmup: 0.1,
            },
            guard: GuardConfig::default(),
            pretrain: PretrainConfig {
                epochs: 100,
                schedule_epochs: 100,
                mlm: true,
                mlm_probability: 0.25,
                valid_fraction: 0.2,
                patience: 20,
            },
            train: TrainConfig {
                epochs: 25,
                schedule_epochs: 100,
                objective: "both".into(),
                policy: "down".into(),
                topk: 0,
                tau: 0.07,
                gamma: 0.05,
                momentum: 0.99,
                rtr: 0.25,
                base: 10.0,
                base_mode: "trainable_raw".into(),
                divergence: "gaussian".into(),
                gaussian_dim: 128,
                var_floor: 1e-8,
                bank_head_grad: true,
                softmax_temperature: 0.03,
                kl_term: true,
                kl_guidance: true,
                weight_normalization: "row".into(),
                coarse_weight: 1.0,
                decay_bases: vec![150.0, 10.0, 5.0, 2.0, 2.0],
                decay_every: 5,
                neighbor_filter: "none".into(),
                exclude_self: false,
                bank_refill: "online".into(),
                bank_storage: "f32".into(),
            },
            eval: EvalConfig {
                n_init: 20,
                centroid_n_init: 0,
                batch_size: 64,
                tsne_points: 2000,
            },
            random: RandomConfig {
                hidden: 128,
                layers: 2,
                heads: 4,
                intermediate: 256,
                init_std: 0.05,
                word_std: 0.0,
                position_std: 0.0,
            },
            checkpoint_every: 0,
            checkpoints_kept: 2,
        }
    }
}

/// What trains: name of the stage and the objective behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// Weighted InfoNCE over the bank (DOWN, DNA).
    InfoNce,
    /// STAR.
    Star,
}

fn one_of<T: Copy>(key: &str, found: &str, choices: &[(&str, T)]) -> Result<T, RunError> {
    choices
        .iter()
        .find(|(name, _)| *name == found)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            RunError::Config(format!(
                "{key}: expected one of {}, found `{found}`",
                names.join(", ")
            ))
        })
}

impl StarDownConfig {
    /// Whether rows are numbered by their content.
    pub(crate) fn rows_by_content(&self) -> Result<bool, RunError> {
        one_of(
            "row_order",
            &self.row_order,
            &[("file", false), ("content", true)],
        )
    }

    /// Checks every value that can be checked without the data.
    ///
    /// # Errors
    ///
    /// [`RunError::Config`] naming the key, the value and what is allowed.
    pub fn check(&self) -> Result<(), RunError> {
        let range = |key: &str, value: f64, good: bool, expected: &str| {
            if good {
                Ok(())
            } else {
                Err(RunError::Config(format!(
                    "{key}: expected {expected}, found {value}"
                )))
            }
        };
        let t = &self.train;
        self.guard.check()?;
        if self.rows_by_content()? && !self.batch_order_file.is_empty() {
            return Err(RunError::Config(
                "row_order: expected `file` with batch_order_file, whose numbers are rows of the file, \
                 found `content`"
                    .to_owned(),
            ));
        }
        range(
            "batch_size",
            self.batch_size as f64,
            self.batch_size > 0,
            "at least 1",
        )?;
        range(
            "lr",
            self.lr,
            self.lr.is_finite() && self.lr > 0.0,
            "a number above 0",
        )?;
        range("dropout", self.dropout, self.dropout < 1.0, "below 1")?;
        range(
            "max_len",
            self.max_len as f64,
            self.max_len == 0 || (3..=MAX_LEN).contains(&self.max_len),
            "0, or 3 to 1000000",
        )?;
        range(
            "train.tau",
            t.tau,
            t.tau.is_finite() && t.tau > 0.0,
            "a number above 0",
        )?;
        range(
            "train.gamma",
            t.gamma,
            t.gamma.is_finite() && t.gamma >= 0.0,
            "a number of at least 0",
        )?;
        range(
            "train.momentum",
            t.momentum,
            (0.0..=1.0).contains(&t.momentum),
            "0 to 1",
        )?;
        range("train.rtr", t.rtr, (0.0..=1.0).contains(&t.rtr), "0 to 1")?;
        range(
            "train.coarse_weight",
            t.coarse_weight,
            t.coarse_weight.is_finite() && t.coarse_weight >= 0.0,
            "a number of at least 0",
        )?;
        let smallest = if t.base_mode == "trainable_gt1" {
            1.0
        } else {
            0.0
        };
        range(
            "train.base",
            t.base,
            t.base > smallest && t.base <= f64::from(f32::MAX),
            &format!("a number above {smallest}"),
        )?;
        range(
            "train.gaussian_dim",
            t.gaussian_dim as f64,
            t.gaussian_dim > 0,
            "at least 1",
        )?;
        range(
            "train.var_floor",
            t.var_floor,
            t.var_floor.is_finite() && t.var_floor >= 0.0,
            "a number of at least 0",
        )?;
        range(
            "train.softmax_temperature",
            t.softmax_temperature,
            t.softmax_temperature.is_finite() && t.softmax_temperature > 0.0,
            "a number above 0",
        )?;
        if t.decay_bases.is_empty()
            || !t
                .decay_bases
                .iter()
                .all(|base| base.is_finite() && *base >= 1.0)
        {
            return Err(RunError::Config(format!(
                "train.decay_bases: expected one or more numbers of at least 1, found {:?}",
                t.decay_bases
            )));
        }
        range(
            "train.decay_every",
            t.decay_every as f64,
            t.decay_every > 0,
            "at least 1",
        )?;
        let p = &self.pretrain;
        range(
            "pretrain.mlm_probability",
            p.mlm_probability,
            p.mlm_probability > 0.0 && p.mlm_probability < 1.0,
            "above 0, below 1",
        )?;
        range(
            "pretrain.valid_fraction",
            p.valid_fraction,
            p.valid_fraction > 0.0 && p.valid_fraction < 1.0,
            "above 0, below 1",
        )?;
        for (key, epochs) in [
            ("pretrain.epochs", p.epochs),
            ("pretrain.schedule_epochs", p.schedule_epochs),
            ("train.epochs", t.epochs),
            ("train.schedule_epochs", t.schedule_epochs),
        ] {
            // Keeps every count of steps far from overflow.
            range(key, epochs as f64, epochs <= MAX_EPOCHS, "at most 1000000")?;
        }
        let o = &self.optimizer;
        range(
            "optimizer.eps",
            o.eps,
            o.eps.is_finite() && o.eps > 0.0,
            "a number above 0",
        )?;
        range(
            "optimizer.weight_decay",
            o.weight_decay,
            o.weight_decay.is_finite() && o.weight_decay >= 0.0,
            "a number of at least 0",
        )?;
        range(
            "optimizer.warmup",
            self.optimizer.warmup,
            (0.0..=1.0).contains(&self.optimizer.warmup),
            "0 to 1",
        )?;
        range(
            "optimizer.clip",
            self.optimizer.clip,
            self.optimizer.clip.is_finite() && self.optimizer.clip >= 0.0,
            "a number of at least 0",
        )?;
        range(
            "eval.n_init",
            self.eval.n_init as f64,
            self.eval.n_init > 0,
            "at least 1",
        )?;
        range(
            "eval.batch_size",
            self.eval.batch_size as f64,
            self.eval.batch_size > 0,
            "at least 1",
        )?;
        for (key, value) in [
            ("random.init_std", self.random.init_std),
            ("random.word_std", self.random.word_std),
            ("random.position_std", self.random.position_std),
        ] {
            range(
                key,
                value,
                value.is_finite() && value >= 0.0,
                "a number of at least 0",
            )?;
        }
        range(
            "checkpoints_kept",
            self.checkpoints_kept as f64,
            self.checkpoints_kept > 0,
            "at least 1",
        )?;
        if self.seeds.is_empty() {
            return Err(RunError::Config("seeds: expected at least one".into()));
        }
        for stage in &self.stages {
            one_of(
                "stages",
                stage,
                &["tfidf", "frozen", "pretrain", "train", "down", "star"].map(|s| (s, ())),
            )?;
        }
        if !self.pooling.is_empty() {
            self.pooling.parse::<Pooling>()?;
        }
        self.objectives()?;
        self.decay_order()?;
        self.policy(1)?;
        self.star(1)?;
        one_of(
            "train.bank_refill",
            &t.bank_refill,
            &[("online", ()), ("momentum", ())],
        )?;
        self.bank().map(drop)
    }

    /// Settings of the bank.
    pub(crate) fn bank(&self) -> Result<MemoryBankConfig, RunError> {
        let row_storage = one_of(
            "train.bank_storage",
            &self.train.bank_storage,
            &[("f32", RowStorage::F32), ("f16", RowStorage::F16)],
        )?;
        Ok(MemoryBankConfig { row_storage })
    }

    /// Objectives to train, in order.
    pub(crate) fn objectives(&self) -> Result<Vec<Objective>, RunError> {
        let all: &[Objective] = match one_of(
            "train.objective",
            &self.train.objective,
            &[("both", 0), ("info_nce", 1), ("star", 2)],
        )? {
            0 => &[Objective::InfoNce, Objective::Star],
            1 => &[Objective::InfoNce],
            _ => &[Objective::Star],
        };
        Ok(all.to_vec())
    }

    /// Name of the stage that trains `objective`: `down`, `star`, `dna`, `star_dna`, ...
    pub(crate) fn stage_name(&self, objective: Objective) -> String {
        match (objective, self.train.policy.as_str()) {
            (Objective::InfoNce, policy) => policy.to_owned(),
            (Objective::Star, "down") => "star".to_owned(),
            (Objective::Star, policy) => format!("star_{policy}"),
        }
    }

    pub(crate) fn decay_order(&self) -> Result<training::DecayOrder, RunError> {
        one_of(
            "optimizer.decay_order",
            &self.optimizer.decay_order,
            &[
                ("after", training::DecayOrder::AfterStep),
                ("before", training::DecayOrder::BeforeStep),
            ],
        )
    }

    pub(crate) fn weight_normalization(&self) -> Result<WeightNormalization, RunError> {
        one_of(
            "train.weight_normalization",
            &self.train.weight_normalization,
            &[
                ("row", WeightNormalization::Row),
                ("none", WeightNormalization::None),
            ],
        )
    }

    pub(crate) fn policy(&self, topk: usize) -> Result<Box<dyn NeighbourPolicy>, RunError> {
        let t = &self.train;
        Ok(match t.policy.as_str() {
            "down" => {
                let mut params = DownParams::new(topk);
                params.decay_bases = t.decay_bases.clone();
                params.decay_every = t.decay_every;
                params.neighbor_filter = one_of(
                    "train.neighbor_filter",
                    &t.neighbor_filter,
                    &[
                        ("none", NeighbourFilter::None),
                        ("coarse", NeighbourFilter::Coarse),
                    ],
                )?;
                params.exclude_self = t.exclude_self;
                Box::new(DownPolicy::new(params)?)
            }
            "dna" | "dna_compat" => {
                let mut params = DnaParams::new(topk);
                params.compat_negative_index = t.policy == "dna_compat";
                Box::new(DnaPolicy::new(params)?)
            }
            "prototype" => Box::new(PrototypePolicy::new(PrototypeParams {
                max_positives: topk,
                ..PrototypeParams::default()
            })?),
            other => {
                return Err(RunError::Config(format!(
                    "train.policy: expected one of down, dna, dna_compat, prototype, found `{other}`"
                )));
            }
        })
    }

    pub(crate) fn star(&self, hidden: usize) -> Result<StarConfig, RunError> {
        let t = &self.train;
        let divergence = one_of(
            "train.divergence",
            &t.divergence,
            &[
                (
                    "gaussian",
                    Divergence::Gaussian {
                        dim: t.gaussian_dim,
                        var_floor: t.var_floor,
                        bank_head_grad: t.bank_head_grad,
                    },
                ),
                (
                    "softmax",
                    Divergence::Softmax {
                        temperature: t.softmax_temperature,
                        form: KlForm::Mean,
                    },
                ),
            ],
        )?;
        let base = one_of(
            "train.base_mode",
            &t.base_mode,
            &[
                ("trainable_raw", BaseParameterization::TrainableRaw(t.base)),
                ("trainable_log", BaseParameterization::TrainableLog(t.base)),
                (
                    "trainable_gt1",
                    BaseParameterization::TrainableGreaterThanOne(t.base),
                ),
                ("fixed", BaseParameterization::Fixed(t.base)),
            ],
        )?;
        Ok(StarConfig::new(hidden)
            .with_temperature(t.tau)
            .with_gamma(t.gamma)
            .with_divergence(divergence)
            .with_base(base)
            .with_weight_normalization(self.weight_normalization()?)
            .with_kl_guidance(t.kl_guidance)
            .with_kl_term(t.kl_term)
            .with_normalize_inputs(InputNormalization::None))
    }
}

impl StarDownConfig {
    /// Settings for the bundled data with the model that `self` names: `configs/pocket.toml` for the
    /// bundled encoder, `configs/pocket_random.toml` for one drawn from the seed; nothing for others.
    ///
    /// # Errors
    ///
    /// None in practice: the files are compiled in and the tests read them.
    pub fn bundled(&self) -> Result<Option<Self>, RunError> {
        let (text, origin) = match (self.data.as_str(), self.model.as_str()) {
            ("pocket", "pocket") => (
                include_str!("../../configs/pocket.toml"),
                "configs/pocket.toml",
            ),
            ("pocket", "random") => (
                include_str!("../../configs/pocket_random.toml"),
                "configs/pocket_random.toml",
            ),
            _ => return Ok(None),
        };
        let file: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| RunError::Config(error.to_string()))?;
        crate::config::overlay(&Self::default(), file, origin).map(Some)
    }

    /// Settings of the run without arguments.
    ///
    /// # Errors
    ///
    /// As [`StarDownConfig::bundled`].
    pub fn pocket() -> Result<Self, RunError> {
        Ok(Self::default().bundled()?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bundled_settings_resolve() {
        StarDownConfig::pocket().unwrap().check().unwrap();
        StarDownConfig::default().check().unwrap();
    }

    #[test]
    fn bad_values_name_their_key() {
        type Spoil = fn(&mut StarDownConfig);
        let cases: [(&str, Spoil); 18] = [
            ("train.tau", |c| c.train.tau = 0.0),
            ("train.gamma", |c| c.train.gamma = f64::NAN),
            ("train.base", |c| c.train.base = 0.0),
            ("train.base", |c| {
                c.train.base = 1.0;
                c.train.base_mode = "trainable_gt1".into();
            }),
            ("train.gaussian_dim", |c| c.train.gaussian_dim = 0),
            ("train.softmax_temperature", |c| {
                c.train.softmax_temperature = 0.0
            }),
            ("train.decay_bases", |c| c.train.decay_bases.clear()),
            ("train.decay_bases", |c| c.train.decay_bases = vec![0.5]),
            ("train.epochs", |c| c.train.epochs = u64::MAX),
            ("optimizer.eps", |c| c.optimizer.eps = 0.0),
            ("train.policy", |c| c.train.policy = "up".into()),
            ("train.objective", |c| c.train.objective = "moon".into()),
            ("train.base_mode", |c| c.train.base_mode = "free".into()),
            ("stages", |c| c.stages = vec!["sleep".into()]),
            ("batch_size", |c| c.batch_size = 0),
            ("optimizer.decay_order", |c| {
                c.optimizer.decay_order = "never".into()
            }),
            ("seeds", |c| c.seeds.clear()),
            ("pooling", |c| c.pooling = "max".into()),
        ];
        for (key, spoil) in cases {
            let mut config = StarDownConfig::default();
            spoil(&mut config);
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn every_pair_of_policy_and_objective_has_a_stage() {
        let mut config = StarDownConfig::default();
        let mut names = std::collections::BTreeSet::new();
        for policy in ["down", "dna", "dna_compat", "prototype"] {
            config.train.policy = policy.into();
            for objective in [Objective::InfoNce, Objective::Star] {
                names.insert(config.stage_name(objective));
            }
        }
        assert_eq!(names.len(), 8);
    }
}
