//! Regression STS: a siamese encoder whose head predicts a similarity class as a number, trained
//! with Translated ReLU or Smooth K2; in two stages, on NLI and then on scored pairs.
//!
//! Source: Zhang and Li, "Advancing Semantic Textual Similarity Modeling: A Regression Framework with
//! Translated ReLU and Smooth K2 Loss", EMNLP 2024 (arXiv 2406.05326) and its released code.

mod config;
mod method;
mod program;
mod run;

pub use config::{Objective, RegressionStsConfig, StageConfig};
pub use program::main_with;
pub use run::run;
