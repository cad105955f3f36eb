//! Early stopping: end after `patience` evaluations without strict improvement.

use serde::{Deserialize, Serialize};

/// Whether larger or smaller is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Accuracy, correlation.
    Maximise,
    /// Loss.
    Minimise,
}

/// Settings of [`EarlyStopping`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlyStoppingConfig {
    /// Whether larger or smaller is better.
    pub goal: Goal,
    /// Evaluations without improvement after which to stop; 0 never stops.
    pub patience: u64,
    /// Decimals the metric is rounded to before it is compared; `None` compares it as it is. The
    /// published pre-training rounds a percentage to 2 decimals, so tiny gains do not count.
    pub decimals: Option<u32>,
}

/// What an evaluation means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Strictly better than everything before: keep this state.
    Improved,
    /// Not better; `left` more such evaluations and the run stops.
    Waiting {
        /// Evaluations left, `None` if the run never stops early.
        left: Option<u64>,
    },
    /// Patience is used up.
    Stop,
}

/// Tracks the best value. Serialisable, so that a checkpoint can hold it.
///
/// ```
/// use training::{EarlyStopping, EarlyStoppingConfig, Goal, Verdict};
/// let config = EarlyStoppingConfig { goal: Goal::Maximise, patience: 2, decimals: Some(2) };
/// let mut stopping = EarlyStopping::new(config);
/// assert_eq!(stopping.observe(0, 91.5), Verdict::Improved);
/// assert_eq!(stopping.observe(1, 91.504), Verdict::Waiting { left: Some(1) });
/// assert_eq!(stopping.observe(2, 90.0), Verdict::Stop);
/// assert_eq!(stopping.best(), Some((0, 91.5)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    config: EarlyStoppingConfig,
    best: Option<(u64, f64)>,
    without_improvement: u64,
}

impl EarlyStopping {
    /// Nothing seen yet.
    pub const fn new(config: EarlyStoppingConfig) -> Self {
        Self {
            config,
            best: None,
            without_improvement: 0,
        }
    }

    /// Takes the metric of one evaluation at `position` (an epoch or step). Only a strictly better
    /// value counts; NaN is never better.
    pub fn observe(&mut self, position: u64, metric: f64) -> Verdict {
        let metric = self.round(metric);
        let better = match (self.best, self.config.goal) {
            (None, _) => !metric.is_nan(),
            (Some((_, best)), Goal::Maximise) => metric > best,
            (Some((_, best)), Goal::Minimise) => metric < best,
        };
        if better {
            self.best = Some((position, metric));
            self.without_improvement = 0;
            return Verdict::Improved;
        }
        self.without_improvement = self.without_improvement.saturating_add(1);
        match self.config.patience {
            0 => Verdict::Waiting { left: None },
            patience if self.without_improvement >= patience => Verdict::Stop,
            patience => Verdict::Waiting {
                left: Some(patience - self.without_improvement),
            },
        }
    }

    /// Position and (rounded) value of the best evaluation.
    pub const fn best(&self) -> Option<(u64, f64)> {
        self.best
    }

    fn round(&self, metric: f64) -> f64 {
        match self.config.decimals {
            None => metric,
            Some(decimals) => {
                let scale = 10f64.powi(decimals.min(15) as i32);
                (metric * scale).round() / scale
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn stopping(goal: Goal, patience: u64, decimals: Option<u32>) -> EarlyStopping {
        EarlyStopping::new(EarlyStoppingConfig {
            goal,
            patience,
            decimals,
        })
    }

    #[test]
    fn equal_is_not_better() {
        let mut s = stopping(Goal::Maximise, 1, None);
        assert_eq!(s.observe(0, 1.0), Verdict::Improved);
        assert_eq!(s.observe(1, 1.0), Verdict::Stop);
    }

    #[test]
    fn improvement_restores_patience() {
        let mut s = stopping(Goal::Minimise, 2, None);
        assert_eq!(s.observe(0, 1.0), Verdict::Improved);
        assert_eq!(s.observe(1, 2.0), Verdict::Waiting { left: Some(1) });
        assert_eq!(s.observe(2, 0.5), Verdict::Improved);
        assert_eq!(s.observe(3, 0.6), Verdict::Waiting { left: Some(1) });
        assert_eq!(s.observe(4, 0.7), Verdict::Stop);
        assert_eq!(s.best(), Some((2, 0.5)));
    }

    #[test]
    fn rounding_hides_small_gains() {
        let mut s = stopping(Goal::Maximise, 5, Some(2));
        assert_eq!(s.observe(0, 80.001), Verdict::Improved);
        assert_eq!(s.observe(1, 80.0049), Verdict::Waiting { left: Some(4) });
        assert_eq!(s.observe(2, 80.006), Verdict::Improved);
    }

    #[test]
    fn nan_never_improves() {
        let mut s = stopping(Goal::Maximise, 0, None);
        assert_eq!(s.observe(0, f64::NAN), Verdict::Waiting { left: None });
        assert_eq!(s.best(), None);
        assert_eq!(s.observe(1, -5.0), Verdict::Improved);
        assert_eq!(s.observe(2, f64::NAN), Verdict::Waiting { left: None });
        assert_eq!(s.best(), Some((1, -5.0)));
    }

    #[test]
    fn survives_a_checkpoint() {
        let mut s = stopping(Goal::Maximise, 2, Some(4));
        s.observe(0, 0.1);
        s.observe(1, 0.05);
        let text = serde_json::to_string(&s).unwrap();
        let mut back: EarlyStopping = serde_json::from_str(&text).unwrap();
        assert_eq!(back, s);
        assert_eq!(back.observe(2, 0.0), Verdict::Stop);
    }
}
