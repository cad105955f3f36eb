//! Experiments: one module per system, and what their programs share.
//!
//! * [`star_down`]: fine categories from coarse labels (STAR, DOWN, DNA, prototypes).
//! * [`conformance`]: golden files against the public functions of the crates.
//! * [`parity`]: one training step on several back-ends, compared.
//! * [`config`]: configuration files, `--set key=value`, and their checks.
//! * [`result`], [`report`]: `result.json`, `report.html` and plots.
//! * [`cli`], [`error`]: options and exit codes of the programs.

pub mod cli;
pub mod config;
pub mod conformance;
pub mod error;
pub mod parity;
pub mod report;
pub mod result;
pub mod star_down;
