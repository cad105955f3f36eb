//! Experiments: one module per system, and what their programs share.
//!
//! * [`star_down`]: fine categories from coarse labels (STAR, DOWN, DNA, prototypes).
//! * [`conformance`]: golden files against the public functions of the crates.
//! * [`config`]: configuration files, `--set key=value`, and their checks.
//! * [`result`], [`report`]: `result.json`, `report.html` and plots.

pub mod conformance;
pub mod report;
pub mod result;
