//! Fine categories from coarse labels: coarse pre-training, then DOWN, DNA or prototypes as
//! neighbour policy under InfoNCE or STAR.
//!
//! ```text
//! tfidf     TF-IDF + k-means                          floor
//! frozen    encoder as it comes + k-means             floor
//! pretrain  coarse cross entropy (+ masked language modelling), early stopping
//! down      weighted InfoNCE over the bank            from the pre-trained encoder
//! star      the STAR objective                        from the same pre-trained encoder
//! ```
//!
//! Sources: STAR (arXiv 2406.13103) with its released code, DOWN and DNA with theirs. Where paper
//! and code differ the default follows the code; the book's method page has the table.

mod augment;
mod config;
mod contrast;
mod evaluate;
mod model;
mod prepare;
mod pretrain;
mod program;
mod run;

pub use config::{
    EvalConfig, Objective, OptimizerConfig, PretrainConfig, RandomConfig, StarDownConfig,
    TrainConfig,
};
pub use program::main_with;
pub use run::run;
