//! Where a run stands: what a checkpoint holds beside the modules.

use serde::{Deserialize, Serialize};
use training::{Checkpoint, CheckpointFiles, EarlyStopping, Experiment};

use crate::error::RunError;
use crate::result::{Row, Timing};

/// File of a checkpoint with this state.
pub(crate) const RUN_FILE: &str = "run.json";
/// Pre-trained backbone that every training stage of a seed starts from.
pub(crate) const START_FILE: &str = "start.safetensors";

/// Position and results so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunState {
    /// Index into the list of seeds.
    pub(crate) seed: usize,
    /// Index into the list of phases of a seed.
    pub(crate) phase: usize,
    /// Steps done in that phase.
    pub(crate) local: u64,
    /// Early stopping of pre-training.
    pub(crate) early: Option<EarlyStopping>,
    /// Whether pre-training has stopped early.
    pub(crate) stopped: bool,
    /// Result rows of finished phases.
    pub(crate) rows: Vec<Row>,
    /// Timings of finished phases.
    pub(crate) timing: Vec<Timing>,
    /// Timing of the phase at work.
    pub(crate) partial: PartialTiming,
}

/// A training phase that runs epoch by epoch.
pub(crate) trait Stage: Experiment {
    /// Adds what the loop measured, so that the next checkpoint carries it.
    fn end_epoch(&mut self, state: &Self::State, seconds: f64);

    /// Whether the phase has decided to end before its planned steps.
    fn stopped(&self, _state: &Self::State) -> bool {
        false
    }
}

/// Timing of a phase that may be interrupted and resumed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PartialTiming {
    /// Milliseconds of every step.
    pub(crate) step_ms: Vec<f64>,
    /// Seconds of every epoch, refill and validation included.
    pub(crate) epoch_s: Vec<f64>,
    /// Seconds of every bank refill with its neighbour search.
    pub(crate) refill_s: Vec<f64>,
}

impl RunState {
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, RunError> {
        serde_json::to_vec(self)
            .map_err(|error| RunError::Data(format!("write {RUN_FILE}: {error}")))
    }

    pub(crate) fn of(checkpoint: &Checkpoint) -> Result<Self, RunError> {
        serde_json::from_slice(checkpoint.file(RUN_FILE)?).map_err(|error| {
            RunError::Data(format!(
                "checkpoint {}: {RUN_FILE}: {error}",
                checkpoint.step
            ))
        })
    }

    /// The files every checkpoint has.
    pub(crate) fn files(&self, start: Option<&[u8]>) -> Result<CheckpointFiles, RunError> {
        let mut files = CheckpointFiles::from([(RUN_FILE.to_owned(), self.to_bytes()?)]);
        if let Some(start) = start {
            files.insert(START_FILE.to_owned(), start.to_vec());
        }
        Ok(files)
    }
}
