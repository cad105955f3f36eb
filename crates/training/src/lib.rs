//! What every training run shares: optimiser, schedules, run directory, checkpoints, progress,
//! random streams.
//!
//! The parts are independent; [`run_steps`] is the thin loop that puts them together:
//!
//! | concept | where |
//! |---|---|
//! | named random streams, keyed by epoch and step | [`Streams`] |
//! | AdamW with parameter groups | [`AdamW`] |
//! | clipping by the global norm | [`global_norm`], [`clip()`] |
//! | a large in-batch objective in the memory of a small one | [`cached_backward`] |
//! | gradient accumulation, replicas on several devices | [`accumulated_backward`] |
//! | learning rate per step | [`Schedule`] |
//! | patience | [`EarlyStopping`] |
//! | numbers that are not finite | [`examine`], [`Fault`], [`Skips`] |
//! | statistics of activations | [`Activations`] |
//! | a module as named tensors, safetensors bytes | [`named_tensors`], [`load_named_tensors`] |
//! | checkpoints that are complete or absent | [`CheckpointStore`] |
//! | run directory, lock, `metrics.jsonl` | [`RunDir`], [`MetricsLog`] |
//! | file operations that a test can fail | [`FileLayer`], [`write_atomically`] |
//! | TensorBoard event file | [`EventWriter`] |
//! | SIGINT and SIGTERM | [`StopFlag`] |
//! | progress on the terminal | [`Progress`] |
//! | the loop | [`Experiment`], [`run_steps`] |
//! | step times, peak memory | [`StepTimes`], [`peak_rss_mb`] |
//!
//! Resuming needs no generator state: every random decision is drawn from a stream named by its
//! purpose and keyed by its epoch or step, so a run continued from a checkpoint sees the same
//! numbers as one that was never stopped.

mod adamw;
mod checkpoint;
mod clip;
#[cfg(feature = "tui")]
mod dashboard;
mod deferred_tensors;
mod early_stopping;
mod error;
#[cfg(test)]
mod faults;
mod file_layer;
mod grad_cache;
mod gradient_accumulation;
mod guard;
mod metrics_log;
mod module_state;
mod progress;
mod run_dir;
mod runner;
mod schedule;
mod signals;
mod streams;
mod tensorboard;
mod timing;

pub use adamw::{AdamW, AdamWConfig, PathPredicate};
pub use checkpoint::{
    Checkpoint, CheckpointContent, CheckpointFiles, CheckpointParts, CheckpointStore, FileContent,
    Rejected, in_memory, latest,
};
pub use clip::{Clip, clip, clip_scale, global_norm};
#[cfg(feature = "tui")]
pub use dashboard::Dashboard;
pub use deferred_tensors::DeferredTensors;
pub use early_stopping::{EarlyStopping, EarlyStoppingConfig, Goal, Verdict};
pub use error::{BoxError, CheckpointDefect, Error, FileOperation, Mismatch, Result};
pub use file_layer::{AppendFile, DiskLayer, FileLayer, write_atomically};
pub use grad_cache::{CachedBackward, add_gradients, cached_backward};
pub use gradient_accumulation::{AccumulatedBackward, accumulated_backward, row_parts};
pub use guard::{Activations, Examined, Fault, Quantity, Skips, examine};
pub use kernels::DecayOrder;
pub use metrics_log::MetricsLog;
pub use module_state::{
    NamedTensors, NonFinite, from_safetensors, load_module, load_named_tensors, named_tensors,
    save_module, to_safetensors,
};
pub use progress::{Plain, Progress, Quiet, StepReport, auto};
pub use run_dir::{RunDir, RunManifest};
pub use runner::{
    Experiment, Outcome, RUNNER_FILE, RunEnd, RunOptions, RunnerMarks, Services, Step, run_steps,
};
pub use schedule::{LinearSchedule, Plan, Schedule};
pub use signals::{Busy, Interrupted, Interruption, StopFlag};
pub use streams::{Streams, below, shuffle, stream};
pub use tensorboard::{Clock, EventWriter, fixed_clock, wall_clock};
pub use timing::{StepTimes, Summary, peak_rss_mb};
