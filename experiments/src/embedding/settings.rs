//! Settings that the sentence-embedding experiments have in common.

use burn::tensor::Device;
use encoder::Pooling;
use kernels::Precision;
use serde::{Deserialize, Serialize};
use training::{AdamWConfig, DecayOrder, LinearSchedule};

use crate::error::RunError;

/// AdamW and clipping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Decoupled weight decay; none on biases and layer norms.
    pub weight_decay: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Largest global gradient norm; 0 switches clipping off.
    pub clip: f64,
    /// Share of the schedule that warms up.
    pub warmup: f64,
}

impl OptimizerConfig {
    /// The optimiser's own form of the settings.
    pub(crate) fn adamw(&self) -> AdamWConfig {
        AdamWConfig {
            eps: self.eps,
            weight_decay: self.weight_decay,
            decay_order: DecayOrder::BeforeStep,
            ..AdamWConfig::default()
        }
    }

    /// The learning rate over `steps` steps: a share of them warms up to `lr`, the last one would be 0.
    pub(crate) fn linear(&self, lr: f64, steps: u64) -> LinearSchedule {
        LinearSchedule {
            peak: lr,
            warmup_steps: (self.warmup * steps as f64).floor() as u64,
            total_steps: steps,
        }
    }

    /// Largest norm, if there is one.
    pub(crate) fn max_norm(&self) -> Option<f64> {
        (self.clip > 0.0).then_some(self.clip)
    }

    pub(crate) fn check(&self) -> Result<(), RunError> {
        at_least_zero("optimizer.weight_decay", self.weight_decay)?;
        at_least_zero("optimizer.clip", self.clip)?;
        if !(self.eps.is_finite() && self.eps > 0.0) {
            return Err(bad("optimizer.eps", "a finite number above 0", self.eps));
        }
        if !(0.0..=1.0).contains(&self.warmup) {
            return Err(bad("optimizer.warmup", "0 to 1", self.warmup));
        }
        Ok(())
    }
}

/// Which encoder of a run is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectionConfig {
    /// Steps between two looks at the development set; 0: never, the last encoder is kept.
    pub every: u64,
    /// Texts a batch when evaluating.
    pub batch_size: usize,
}

impl SelectionConfig {
    pub(crate) fn check(&self) -> Result<(), RunError> {
        positive("selection.batch_size", self.batch_size as u64)
    }
}

/// The pooling a setting asks for; none if it is empty.
pub(crate) fn pooling(name: &str) -> Result<Option<Pooling>, RunError> {
    if name.is_empty() {
        return Ok(None);
    }
    Ok(Some(name.parse()?))
}

/// The precision a setting asks for, if the device has it.
pub(crate) fn precision(name: &str, device: &Device) -> Result<Precision, RunError> {
    let precision: Precision = name
        .parse()
        .map_err(|_| bad("precision", "f32 or bf16", name))?;
    if !precision.works_on(device) {
        return Err(bad("precision", "f32 on a device without bfloat16", name));
    }
    Ok(precision)
}

/// The error of a setting that is out of range.
pub(crate) fn bad(key: &str, expected: &str, found: impl std::fmt::Display) -> RunError {
    RunError::Config(format!("{key}: expected {expected}, found {found}"))
}

pub(crate) fn positive(key: &str, value: u64) -> Result<(), RunError> {
    if value == 0 {
        return Err(bad(key, "at least 1", value));
    }
    Ok(())
}

pub(crate) fn at_least_zero(key: &str, value: f64) -> Result<(), RunError> {
    if !(value.is_finite() && value >= 0.0) {
        return Err(bad(key, "a finite number of at least 0", value));
    }
    Ok(())
}

pub(crate) fn above_zero(key: &str, value: f64) -> Result<(), RunError> {
    if !(value.is_finite() && value > 0.0) {
        return Err(bad(key, "a finite number above 0", value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OPTIMIZER: OptimizerConfig = OptimizerConfig {
        weight_decay: 0.01,
        eps: 1e-8,
        clip: 1.0,
        warmup: 0.1,
    };

    #[test]
    #[cfg(feature = "flex")]
    fn a_precision_that_the_device_lacks_or_that_does_not_exist_is_refused() {
        let device = Device::flex();
        assert_eq!(precision("bf16", &device).unwrap(), Precision::Bf16);
        let error = precision("fp8", &device).unwrap_err().to_string();
        assert!(
            error.contains("precision: expected f32 or bf16, found fp8"),
            "{error}"
        );
        #[cfg(feature = "ndarray")]
        assert!(precision("bf16", &Device::ndarray()).is_err());
    }

    #[test]
    fn values_out_of_range_are_named() {
        OPTIMIZER.check().unwrap();
        for (key, config) in [
            (
                "weight_decay",
                OptimizerConfig {
                    weight_decay: -1.0,
                    ..OPTIMIZER
                },
            ),
            (
                "eps",
                OptimizerConfig {
                    eps: 0.0,
                    ..OPTIMIZER
                },
            ),
            (
                "clip",
                OptimizerConfig {
                    clip: f64::NAN,
                    ..OPTIMIZER
                },
            ),
            (
                "warmup",
                OptimizerConfig {
                    warmup: 1.5,
                    ..OPTIMIZER
                },
            ),
        ] {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(&format!("optimizer.{key}")), "{error}");
        }
    }

    #[test]
    fn no_clipping_at_zero() {
        assert_eq!(OPTIMIZER.max_norm(), Some(1.0));
        let off = OptimizerConfig {
            clip: 0.0,
            ..OPTIMIZER
        };
        assert_eq!(off.max_norm(), None);
    }

    #[test]
    fn the_schedule_warms_up_for_its_share_of_the_steps() {
        let schedule = OPTIMIZER.linear(2.0, 25);
        assert_eq!((schedule.warmup_steps, schedule.total_steps), (2, 25));
        assert_eq!((schedule.lr(2), schedule.lr(25)), (2.0, 0.0));
    }

    #[test]
    fn no_name_asks_for_no_pooling() {
        assert_eq!(pooling("").unwrap(), None);
        assert_eq!(pooling("mask").unwrap(), Some(Pooling::Mask));
        assert!(pooling("max").is_err());
    }

    #[test]
    fn decay_comes_before_the_step_as_in_torch() {
        let adamw = OPTIMIZER.adamw();
        assert_eq!((adamw.eps, adamw.weight_decay), (1e-8, 0.01));
        assert_eq!(adamw.decay_order, DecayOrder::BeforeStep);
    }
}
