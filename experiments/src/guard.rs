//! The numerical guard of a run: what becomes of a step with a number that is not finite, and how
//! often activations are looked at.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use training::Activations;

use crate::error::RunError;

/// Settings `guard.*`, the same for every experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardConfig {
    /// `stop`: a loss or gradient that is not finite ends the run; `skip`: its step is left out.
    pub non_finite: String,
    /// Steps left out one after the other before the run ends all the same.
    pub max_skips: u64,
    /// Statistics of the sentence vectors and the gradient norm are logged every so many steps; 0:
    /// never.
    pub statistics_every: u64,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            non_finite: "stop".into(),
            max_skips: 10,
            statistics_every: 0,
        }
    }
}

impl GuardConfig {
    /// Refuses values that mean nothing.
    ///
    /// # Errors
    /// [`RunError::Config`] naming the key.
    pub fn check(&self) -> Result<(), RunError> {
        if !["stop", "skip"].contains(&self.non_finite.as_str()) {
            return Err(RunError::Config(format!(
                "guard.non_finite: expected one of stop, skip, found `{}`",
                self.non_finite
            )));
        }
        if self.max_skips == 0 {
            return Err(RunError::Config(
                "guard.max_skips: expected at least 1, found 0; non_finite=stop leaves out none"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Steps that may be left out one after the other.
    pub(crate) fn most_skips(&self) -> u64 {
        match self.non_finite.as_str() {
            "skip" => self.max_skips,
            _ => 0,
        }
    }
}

/// What a step is asked to log beside its losses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statistics {
    wanted: bool,
}

impl Statistics {
    /// What is asked of the step with this index within its stage.
    pub(crate) fn of_step(config: &GuardConfig, step: u64) -> Self {
        let every = config.statistics_every;
        Self {
            wanted: every > 0 && step.is_multiple_of(every),
        }
    }

    /// Whether anything is asked.
    pub(crate) fn wanted(self) -> bool {
        self.wanted
    }

    /// Logs `vector_mean`, `vector_std` and `vector_max` of sentence vectors `[rows, dim]`.
    pub(crate) fn vectors(self, vectors: &Tensor<2>, values: &mut BTreeMap<String, f64>) {
        if self.wanted
            && let Some(found) = Activations::of(vectors)
        {
            values.extend(found.named("vector"));
        }
    }

    /// Logs `grad_norm`.
    pub(crate) fn norm(self, norm: f64, values: &mut BTreeMap<String, f64>) {
        if self.wanted {
            values.insert("grad_norm".to_owned(), norm);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn settings_are_checked_and_say_how_many_steps_may_be_left_out() {
        let stop = GuardConfig::default();
        stop.check().unwrap();
        assert_eq!(stop.most_skips(), 0);
        let skip = GuardConfig {
            non_finite: "skip".into(),
            max_skips: 3,
            ..stop.clone()
        };
        skip.check().unwrap();
        assert_eq!(skip.most_skips(), 3);
        for (key, bad) in [
            (
                "guard.non_finite",
                GuardConfig {
                    non_finite: "ignore".into(),
                    ..stop.clone()
                },
            ),
            (
                "guard.max_skips",
                GuardConfig {
                    max_skips: 0,
                    ..skip
                },
            ),
        ] {
            let error = bad.check().unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn statistics_come_every_so_many_steps_or_never() {
        let wanted = |every| -> Vec<u64> {
            let config = GuardConfig {
                statistics_every: every,
                ..GuardConfig::default()
            };
            let asked = |step: &u64| Statistics::of_step(&config, *step).wanted;
            (0..6).filter(asked).collect()
        };
        assert_eq!(wanted(0), [0; 0]);
        assert_eq!(wanted(1), [0, 1, 2, 3, 4, 5]);
        assert_eq!(wanted(4), [0, 4]);
    }
}
