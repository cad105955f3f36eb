//! Learning rate per step: linear warm-up, then linear decay.
//!
//! The step index is 0-based and belongs to the update about to be made: the first update of a
//! schedule with warm-up uses rate 0, update `warmup` uses the peak, update `total` (one past the
//! last) would use 0 again. This is how `get_linear_schedule_with_warmup` of the transformers
//! package behaves when its scheduler steps once per batch after the optimiser.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How long a schedule is, in the terms of the published code: planned over `schedule_epochs`
/// epochs, however many of them are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Training rows.
    pub rows: u64,
    /// Rows in a batch.
    pub batch: u64,
    /// Epochs really run.
    pub epochs: u64,
    /// Epochs the schedule is planned for; 0 means `epochs`. The published code always plans 100.
    pub schedule_epochs: u64,
}

impl Plan {
    /// `T = floor(rows / batch) * schedule_epochs`; the partial last batch of an epoch is not
    /// counted although it is trained on (as in the published code).
    ///
    /// # Errors
    /// [`Error::Setting`] for a batch of 0.
    pub fn total_steps(&self) -> Result<u64> {
        if self.batch == 0 {
            return Err(Error::Setting {
                operation: "plan the learning rate",
                field: "batch_size".into(),
                expected: "at least 1".into(),
                found: "0".into(),
            });
        }
        let epochs = match self.schedule_epochs {
            0 => self.epochs,
            n => n,
        };
        Ok((self.rows / self.batch).saturating_mul(epochs))
    }

    /// Steps of the epochs really run, partial last batches included.
    ///
    /// # Errors
    /// [`Error::Setting`] for a batch of 0.
    pub fn run_steps(&self) -> Result<u64> {
        self.total_steps()?;
        Ok(self.rows.div_ceil(self.batch).saturating_mul(self.epochs))
    }
}

/// Linear warm-up followed by linear decay.
///
/// ```text
/// lr(s) = peak * s / warmup                              for s < warmup
/// lr(s) = peak * max(0, total - s) / (total - warmup)    otherwise (divisor at least 1)
/// ```
///
/// ```
/// use training::LinearSchedule;
/// let schedule = LinearSchedule { peak: 1e-3, warmup_steps: 10, total_steps: 110 };
/// assert_eq!(schedule.lr(0), 0.0);
/// assert_eq!(schedule.lr(10), 1e-3);
/// assert_eq!(schedule.lr(60), 5e-4);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LinearSchedule {
    /// Highest rate.
    pub peak: f64,
    /// Steps of the rise.
    pub warmup_steps: u64,
    /// Step at which the rate is back at 0.
    pub total_steps: u64,
}

impl LinearSchedule {
    /// The published plan: warm-up over `floor(warmup_ratio * T)` steps, 0 at `T`, with `T` from
    /// [`Plan::total_steps`].
    ///
    /// ```
    /// use training::{LinearSchedule, Plan};
    /// let plan = Plan { rows: 18_000, batch: 64, epochs: 25, schedule_epochs: 100 };
    /// let schedule = LinearSchedule::planned(5e-5, &plan, 0.1)?;
    /// assert_eq!((schedule.warmup_steps, schedule.total_steps), (2810, 28_100));
    /// # Ok::<(), training::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Setting`] for a batch of 0, a negative or non-finite rate, or a ratio outside
    /// `0..=1`.
    pub fn planned(peak: f64, plan: &Plan, warmup_ratio: f64) -> Result<Self> {
        let setting = |field: &str, expected: &str, found: f64| Error::Setting {
            operation: "plan the learning rate",
            field: field.into(),
            expected: expected.into(),
            found: found.to_string(),
        };
        if !(peak.is_finite() && peak >= 0.0) {
            return Err(setting("lr", "a finite number of at least 0", peak));
        }
        if !(0.0..=1.0).contains(&warmup_ratio) {
            return Err(setting("warmup_ratio", "0 to 1", warmup_ratio));
        }
        let total_steps = plan.total_steps()?;
        Ok(Self {
            peak,
            warmup_steps: (warmup_ratio * total_steps as f64).floor() as u64,
            total_steps,
        })
    }

    /// Rate of the update with this 0-based index.
    pub fn lr(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * step as f64 / self.warmup_steps as f64;
        }
        let span = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        self.peak * self.total_steps.saturating_sub(step) as f64 / span as f64
    }
}

/// The schedules on offer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// The same rate at every step.
    Constant {
        /// The rate.
        lr: f64,
    },
    /// Linear warm-up and decay.
    Linear(LinearSchedule),
}

impl Schedule {
    /// Rate of the update with this 0-based index.
    pub fn lr(&self, step: u64) -> f64 {
        match self {
            Self::Constant { lr } => *lr,
            Self::Linear(schedule) => schedule.lr(step),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    // Made by shared tooling with `make_golden.py --seed 7` (formulas in f64).
    const GOLDEN: &str = include_str!("../tests/golden/schedule.json");

    #[test]
    fn golden() {
        let golden: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let schedule = LinearSchedule {
                peak: case["params"]["lr"].as_f64().unwrap(),
                warmup_steps: case["params"]["warmup_steps"].as_u64().unwrap(),
                total_steps: case["params"]["total_steps"].as_u64().unwrap(),
            };
            let steps = case["inputs"]["step"]["data"].as_array().unwrap();
            let expected = case["expected"]["lr"]["data"].as_array().unwrap();
            assert_eq!(steps.len(), expected.len());
            for (step, lr) in steps.iter().zip(expected) {
                let (step, lr) = (step.as_u64().unwrap(), lr.as_f64().unwrap());
                let got = schedule.lr(step);
                assert!(
                    (got - lr).abs() <= 1e-12 + 1e-6 * schedule.peak,
                    "{} step {step}: {got} against {lr}",
                    case["name"]
                );
            }
        }
    }

    #[test]
    fn published_plan_keeps_most_of_the_rate() {
        // 25 epochs of 282 batches end at step 7050; (28100 - 7050) / 25290 = 0.832 of the peak.
        let plan = Plan {
            rows: 18_000,
            batch: 64,
            epochs: 25,
            schedule_epochs: 100,
        };
        assert_eq!(plan.run_steps().unwrap(), 25 * 282);
        let schedule = LinearSchedule::planned(1.0, &plan, 0.1).unwrap();
        assert!((schedule.lr(7050) - 0.8323).abs() < 1e-4);
        assert_eq!(schedule.lr(0), 0.0);
    }

    #[test]
    fn zero_schedule_epochs_means_the_epochs_run() {
        let plan = Plan {
            rows: 100,
            batch: 10,
            epochs: 3,
            schedule_epochs: 0,
        };
        assert_eq!(plan.total_steps().unwrap(), 30);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let plan = |batch| Plan {
            rows: 10,
            batch,
            epochs: 1,
            schedule_epochs: 0,
        };
        for (lr, batch, ratio) in [
            (1.0, 0, 0.1),
            (f64::NAN, 1, 0.1),
            (-1.0, 1, 0.1),
            (1.0, 1, 1.5),
            (1.0, 1, f64::NAN),
        ] {
            let refused = LinearSchedule::planned(lr, &plan(batch), ratio);
            assert!(matches!(refused, Err(Error::Setting { .. })), "{refused:?}");
        }
    }

    #[test]
    fn constant_is_constant() {
        assert_eq!(Schedule::Constant { lr: 0.5 }.lr(0), 0.5);
        assert_eq!(Schedule::Constant { lr: 0.5 }.lr(u64::MAX), 0.5);
    }

    proptest! {
        #[test]
        fn rises_then_falls(warmup in 0u64..50, more in 0u64..50, step in 0u64..120) {
            let schedule = LinearSchedule { peak: 2.0, warmup_steps: warmup, total_steps: warmup + more };
            let (now, next) = (schedule.lr(step), schedule.lr(step + 1));
            prop_assert!((0.0..=2.0).contains(&now));
            if step + 1 < warmup { prop_assert!(next > now); }
            if step >= warmup { prop_assert!(next <= now); }
            if step >= warmup + more { prop_assert_eq!(now, 0.0); }
        }
    }
}
