//! Experiments: one module per system, and what their programs share.
//!
//! * [`star_down`]: fine categories from coarse labels (STAR, DOWN, DNA, prototypes).
//! * [`discover`]: named fine categories from texts with broad labels, as a run directory.
//! * [`simcse`]: contrastive sentence embeddings, unsupervised and supervised.
//! * [`regression_sts`]: siamese regression with Translated ReLU and Smooth K2, in two stages.
//! * [`ngcse`]: training on generated sentences; how hard training sets are to fit.
//! * [`distill`]: a small encoder taught by a large one (the Pocket encoder).
//! * [`embedding`]: what these two share.
//! * [`conformance`]: golden files against the public functions of the crates.
//! * [`parity`]: one training step on several back-ends, compared.
//! * [`config`]: configuration files, `--set key=value`, and their checks.
//! * [`result`], [`report`]: `result.json`, `report.html` and plots.
//! * [`guard`]: what becomes of numbers that are not finite.
//! * [`session`]: seeds, phases and checkpoints of a run.
//! * [`cli`], [`error`]: options and exit codes of the programs.

mod batch_file;
pub mod cli;
pub mod config;
pub mod conformance;
pub mod discover;
pub mod distill;
pub mod embedding;
pub mod error;
pub mod evaluate;
pub mod guard;
mod masking;
pub mod ngcse;
pub mod parity;
pub mod regression_sts;
pub mod report;
pub mod result;
pub mod session;
pub mod simcse;
pub mod star_down;
