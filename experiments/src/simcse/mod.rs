//! SimCSE: contrastive sentence embeddings, from plain sentences (a text is its own positive, under
//! another dropout mask) or from triplets with hard negatives.
//!
//! Source: Gao, Yao, Chen, "SimCSE: Simple Contrastive Learning of Sentence Embeddings", EMNLP 2021
//! (arXiv 2104.08821) and its released code.

mod config;
mod method;
mod program;
mod run;

pub use config::SimcseConfig;
pub use program::main_with;
pub use run::run;
