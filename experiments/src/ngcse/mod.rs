//! NGCSE: how hard is a training set to fit, and what comes of training on generated sentences with
//! graded similarity.
//!
//! A run trains one encoder for every setting ([`Setting`]) from the same start, looks at sentences held
//! out of each training set and at the development set on the way, and puts the relative fitting
//! difficulty of every setting beside the scores it reaches.
//!
//! Source: "Narrowing the Gap between Supervised and Unsupervised Sentence Representation Learning with
//! Large Language Model", AAAI 2024 (arXiv 2309.06453), its appendix and its released code.

mod composition;
mod config;
mod corpus;
mod corruption;
mod method;
mod probe;
mod program;
mod rules;
mod run;
mod setting;
mod trace;

pub use config::{NgcseConfig, RfdConfig, SWEEPABLE, SweepConfig};
pub use program::{NgcseArgs, main_with};
pub use run::run;
pub use setting::Setting;
pub use trace::{
    Difficulty, Look, Probed, TRACES_FILE, Trace, join_points, read_points, read_traces,
};
