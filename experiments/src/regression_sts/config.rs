//! Settings of a regression STS run. Defaults are those of the released code for BERT-base with
//! Smooth K2.

use std::str::FromStr;

use kernels::DeviceSpec;
use losses::LeftClamp;
use serde::{Deserialize, Serialize};
use training::{LinearSchedule, Plan};

use crate::embedding::settings::{above_zero, at_least_zero, bad, pooling, positive};
use crate::embedding::{Asked, OptimizerConfig, SelectionConfig};
use crate::error::RunError;
use crate::guard::GuardConfig;

/// All settings of the experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegressionStsConfig {
    /// NLI files for stage 1, separated by commas; `pocket` for pairs made from the bundled set.
    pub data: String,
    /// Scored pairs for stage 2: an STS task file or files, separated by commas; `pocket`, or empty
    /// for the training split of STS-B and SICK-R in `sts`.
    pub scored: String,
    /// Directory with the STS tasks; empty: pairs made from the bundled set.
    pub sts: String,
    /// Model directory, or `pocket`.
    pub model: String,
    /// `flex`, `ndarray`, `wgpu[:i]`, `cuda[:i]` or `auto`.
    pub device: String,
    /// Devices that share every batch, each with a replica of the model; the first one has the optimiser
    /// and evaluates, and `device` is the same or `auto`. Empty: `device` alone.
    pub devices: Vec<String>,
    /// One complete run each.
    pub seeds: Vec<u64>,
    /// `start` (the encoder as it comes), `nli` (stage 1), `sts` (stage 2).
    pub stages: Vec<String>,
    /// Longest text in tokens.
    pub max_len: usize,
    /// Pooling: `mean`, `cls`, `cls_mlp`, `mask` (in the model's template, else that of NGCSE), or empty
    /// for what the model says.
    pub pooling: String,
    /// Dropout of the encoder; below 0 keeps the model's own rate.
    pub dropout: f64,
    /// Where negative predictions count as 0, with no gradient: `all`, `label_min_only` or `none`.
    pub left_clamp: String,
    /// What happens to scores that are not whole numbers: `truncate`, `round` or `none`.
    pub label_quantize: String,
    /// Leave out training rows that contain a pair or a text of the evaluation sets: `none`, `pairs`
    /// or `texts`.
    pub dedup_against_eval: String,
    /// `executed`: the schedule of the released code as it really ran on `loader_devices` devices;
    /// `textbook`: over the steps really run.
    pub schedule: String,
    /// Devices of the released run, which divide the executed schedule.
    pub loader_devices: usize,
    /// A row order that is drawn once and kept for all epochs, as the released code does.
    pub same_order_every_epoch: bool,
    /// Factor of the learning rate from each layer to the one below, in trained stages; 1: none.
    pub layer_decay: f64,
    /// Learning rate of the embedding tables: `full`, or `decayed` below the first layer.
    pub embedding_lr: String,
    /// Stage 2 keeps any first look at the development set instead of having to beat stage 1.
    pub faithful_select: bool,
    /// JSON list of index lists: the batches of the first training stage, in order.
    pub batch_order_file: String,
    /// Safetensors file with `weight` `[outputs, 3 hidden]` and `bias` `[outputs]`, as PyTorch stores a
    /// linear layer: the head that the first training stage begins with, to replay a run of another
    /// program. Empty: drawn.
    pub head_init_file: String,
    /// Recompute the encoder's activations in the backward pass.
    pub gradient_checkpointing: bool,
    /// Products of the encoder's layers: `f32`, or `bf16`: operands rounded to bfloat16, sums in f32.
    pub precision: String,
    /// Accept NaN and infinite weights.
    pub allow_non_finite: bool,
    /// Texts embedded at a time; 0: the whole batch.
    pub micro_batch: usize,
    /// Gradient accumulation: parts of a batch that each device computes one after the other.
    pub accumulate: usize,
    /// Stage 1.
    pub nli: StageConfig,
    /// Stage 2.
    pub stage2: StageConfig,
    /// Optimiser of both stages.
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

/// One of the two stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageConfig {
    /// `smooth_k2`, `translated_relu`, `mse`, `l1` or `cross_entropy`.
    pub loss: String,
    /// Slope (Translated ReLU) or curvature (Smooth K2).
    pub k: f64,
    /// Errors below this cost nothing.
    pub x0: f64,
    /// Peak learning rate.
    pub lr: f64,
    /// Rows an optimiser step.
    pub batch_size: usize,
    /// Passes over the data.
    pub epochs: u64,
    /// Steps at most; 0: no limit.
    pub max_steps: u64,
    /// Only the head learns.
    pub frozen: bool,
    /// With `frozen`: vectors made once without dropout, instead of anew with dropout in every step.
    pub cache_frozen: bool,
}

/// Objectives a stage can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// `k max(0, x - x0)^2`.
    SmoothK2,
    /// `k max(0, x - x0)`.
    TranslatedRelu,
    /// `x^2`.
    Mse,
    /// `x`.
    L1,
    /// Softmax over the classes.
    CrossEntropy,
}

impl FromStr for Objective {
    type Err = RunError;

    fn from_str(text: &str) -> Result<Self, RunError> {
        Ok(match text {
            "smooth_k2" => Self::SmoothK2,
            "translated_relu" => Self::TranslatedRelu,
            "mse" => Self::Mse,
            "l1" => Self::L1,
            "cross_entropy" => Self::CrossEntropy,
            other => {
                return Err(bad(
                    "loss",
                    "smooth_k2, translated_relu, mse, l1 or cross_entropy",
                    other,
                ));
            }
        })
    }
}

impl Default for RegressionStsConfig {
    fn default() -> Self {
        let stage = StageConfig {
            loss: "smooth_k2".into(),
            k: 2.0,
            x0: 0.25,
            lr: 5e-5,
            batch_size: 64,
            epochs: 1,
            max_steps: 0,
            frozen: false,
            cache_frozen: true,
        };
        Self {
            data: "pocket".into(),
            scored: String::new(),
            sts: String::new(),
            model: "pocket".into(),
            device: "auto".into(),
            devices: Vec::new(),
            seeds: vec![777],
            stages: vec!["start".into(), "nli".into(), "sts".into()],
            max_len: 256,
            pooling: "mean".into(),
            dropout: -1.0,
            left_clamp: "all".into(),
            label_quantize: "truncate".into(),
            dedup_against_eval: "pairs".into(),
            schedule: "executed".into(),
            loader_devices: 4,
            same_order_every_epoch: true,
            layer_decay: 0.95,
            embedding_lr: "full".into(),
            faithful_select: false,
            batch_order_file: String::new(),
            head_init_file: String::new(),
            gradient_checkpointing: false,
            precision: "f32".into(),
            allow_non_finite: false,
            micro_batch: 0,
            accumulate: 1,
            nli: stage.clone(),
            stage2: StageConfig {
                k: 3.5,
                x0: 0.2,
                epochs: 4,
                batch_size: 32,
                ..stage
            },
            optimizer: OptimizerConfig {
                weight_decay: 0.01,
                eps: 1e-8,
                clip: 10.0,
                warmup: 0.2,
            },
            guard: GuardConfig::default(),
            selection: SelectionConfig {
                every: 63,
                batch_size: 128,
            },
            checkpoint_every: 250,
            checkpoints_kept: 1,
        }
    }
}

impl RegressionStsConfig {
    /// What the bundled data and encoder are run with.
    pub fn bundled() -> Self {
        let mut config = Self {
            pooling: String::new(),
            schedule: "textbook".into(),
            max_len: 64,
            ..Self::default()
        };
        config.nli.lr = 2e-4;
        config.stage2.lr = 2e-4;
        config.selection.every = 10;
        config
    }

    /// The main device and those of the other replicas.
    pub(crate) fn placed(&self) -> Result<(DeviceSpec, Vec<DeviceSpec>), RunError> {
        let device: DeviceSpec = self.device.parse()?;
        let specs = self.devices.iter().map(|name| name.parse());
        let mut specs: Vec<DeviceSpec> = specs.collect::<Result<_, _>>()?;
        if specs.is_empty() {
            return Ok((device, specs));
        }
        let main = specs.remove(0);
        if ![DeviceSpec::Auto, main].contains(&device) {
            let expected = format!("auto, or {main} as the first of devices");
            return Err(bad("device", &expected, device));
        }
        Ok((main, specs))
    }

    /// What the settings say about vectors.
    pub(crate) fn asked(&self) -> Result<Asked<'_>, RunError> {
        Ok(Asked {
            pooling: pooling(&self.pooling)?,
            max_len: self.max_len,
            ..Asked::default()
        })
    }

    /// Where negative predictions are clamped, with the smallest label of the data.
    pub(crate) fn left_clamp(&self, smallest: f64) -> Result<LeftClamp, RunError> {
        Ok(match self.left_clamp.as_str() {
            "all" => LeftClamp::All,
            "label_min_only" => LeftClamp::LabelMinOnly(smallest),
            "none" => LeftClamp::None,
            other => return Err(bad("left_clamp", "all, label_min_only or none", other)),
        })
    }

    /// Learning rate of a stage over `rows` rows that takes `steps` steps.
    ///
    /// As executed by the released code on `W` devices: the loader counts batches of
    /// `batch_size / W` rows, so the schedule is `W` times as long as the run.
    pub(crate) fn schedule(
        &self,
        stage: &StageConfig,
        rows: usize,
        steps: u64,
    ) -> Result<LinearSchedule, RunError> {
        if self.schedule == "executed" {
            let batch = (stage.batch_size / self.loader_devices.max(1)).max(1);
            let plan = Plan {
                rows: rows as u64,
                batch: batch as u64,
                epochs: stage.epochs,
                schedule_epochs: 0,
            };
            return Ok(LinearSchedule::planned(
                stage.lr,
                &plan,
                self.optimizer.warmup,
            )?);
        }
        Ok(self.optimizer.linear(stage.lr, steps))
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
        self.left_clamp(0.0)?;
        for (key, value, known) in [
            (
                "label_quantize",
                &self.label_quantize,
                &["truncate", "round", "none"][..],
            ),
            (
                "dedup_against_eval",
                &self.dedup_against_eval,
                &["none", "pairs", "texts"],
            ),
            ("schedule", &self.schedule, &["executed", "textbook"]),
            ("embedding_lr", &self.embedding_lr, &["full", "decayed"]),
        ] {
            if !known.contains(&value.as_str()) {
                return Err(bad(key, &known.join(", "), value));
            }
        }
        for stage in &self.stages {
            if !matches!(stage.as_str(), "start" | "nli" | "sts") {
                return Err(bad("stages", "start, nli or sts", stage));
            }
        }
        if self.data.trim().is_empty() {
            return Err(bad("data", "files, or pocket", "nothing"));
        }
        if self.seeds.is_empty() {
            return Err(bad("seeds", "at least one", "none"));
        }
        if self.max_len < 3 {
            return Err(bad("max_len", "at least 3", self.max_len));
        }
        if self.dropout >= 1.0 || self.dropout.is_nan() {
            return Err(bad("dropout", "below 1", self.dropout));
        }
        above_zero("layer_decay", self.layer_decay)?;
        positive("loader_devices", self.loader_devices as u64)?;
        positive("checkpoints_kept", self.checkpoints_kept as u64)?;
        positive("accumulate", self.accumulate as u64)?;
        let (_, replicas) = self.placed()?;
        if self.micro_batch > 0 && (self.accumulate > 1 || !replicas.is_empty()) {
            return Err(bad(
                "micro_batch",
                "0 with accumulate or devices, which divide the batch themselves",
                self.micro_batch,
            ));
        }
        for (name, stage) in [("nli", &self.nli), ("stage2", &self.stage2)] {
            stage.loss.parse::<Objective>()?;
            positive(&format!("{name}.batch_size"), stage.batch_size as u64)?;
            positive(&format!("{name}.epochs"), stage.epochs)?;
            above_zero(&format!("{name}.lr"), stage.lr)?;
            above_zero(&format!("{name}.k"), stage.k)?;
            at_least_zero(&format!("{name}.x0"), stage.x0)?;
        }
        if self.stage2.loss == "cross_entropy" && self.label_quantize == "none" {
            return Err(bad(
                "label_quantize",
                "truncate or round with stage2.loss=cross_entropy",
                "none",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_executed_schedule_is_that_of_the_released_run() {
        // 64,000 rows on 4 devices: length 4,000, warm-up 800, 1,000 steps run.
        let config = RegressionStsConfig::default();
        let schedule = config.schedule(&config.nli, 64_000, 1_000).unwrap();
        assert_eq!((schedule.total_steps, schedule.warmup_steps), (4_000, 800));
        let factor = |step| schedule.lr(step) / config.nli.lr;
        assert!((factor(400) - 0.5).abs() < 1e-12);
        assert!((factor(800) - 1.0).abs() < 1e-12);
        assert!((factor(1_000) - 0.9375).abs() < 1e-12);
    }

    #[test]
    fn the_textbook_schedule_ends_at_zero() {
        let config = RegressionStsConfig {
            schedule: "textbook".into(),
            ..RegressionStsConfig::default()
        };
        let schedule = config.schedule(&config.nli, 6_400, 100).unwrap();
        assert_eq!(schedule.warmup_steps, 20);
        assert_eq!(schedule.lr(100), 0.0);
    }

    #[test]
    fn the_first_of_several_devices_is_the_main_one() {
        let config = |device: &str, devices: &[&str]| RegressionStsConfig {
            device: device.into(),
            devices: devices.iter().map(|name| (*name).to_owned()).collect(),
            ..RegressionStsConfig::default()
        };
        let (flex, cuda) = (DeviceSpec::Flex, DeviceSpec::Cuda);
        for (device, devices, expected) in [
            ("flex", &[][..], (flex, vec![])),
            ("auto", &["cuda:1"], (cuda(1), vec![])),
            ("auto", &["cuda:0", "cuda:1"], (cuda(0), vec![cuda(1)])),
            ("cuda", &["cuda:0", "cuda:0"], (cuda(0), vec![cuda(0)])),
        ] {
            let config = config(device, devices);
            config.check().unwrap();
            assert_eq!(config.placed().unwrap(), expected);
        }
        let refused = |config: RegressionStsConfig, key: &str| {
            let error = config.check().unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
            assert_eq!(error.exit_code(), 2);
        };
        refused(config("cuda:1", &["cuda:0", "cuda:1"]), "device: expected");
        refused(config("auto", &["cuda:0", "gpu"]), "`gpu`");
        for (accumulate, micro_batch, devices, key) in [
            (0, 0, &[][..], "accumulate"),
            (2, 8, &[], "micro_batch"),
            (1, 8, &["flex", "flex"], "micro_batch"),
        ] {
            let config = RegressionStsConfig {
                accumulate,
                micro_batch,
                ..config("auto", devices)
            };
            refused(config, key);
        }
    }

    #[test]
    fn defaults_pass_and_bad_values_are_named() {
        RegressionStsConfig::default().check().unwrap();
        RegressionStsConfig::bundled().check().unwrap();
        let mut config = RegressionStsConfig::default();
        config.stage2.x0 = f64::NAN;
        assert!(
            config
                .check()
                .unwrap_err()
                .to_string()
                .contains("stage2.x0")
        );
        let config = RegressionStsConfig {
            left_clamp: "some".into(),
            ..RegressionStsConfig::default()
        };
        assert!(
            config
                .check()
                .unwrap_err()
                .to_string()
                .contains("left_clamp")
        );
    }
}
