//! What the sentence-embedding experiments share: texts as ids, the training step, selection of the
//! checkpoint on a development set.
//!
//! A method (`Method`) says which texts make up a batch and what its loss is; `Trainer` embeds
//! them (in one pass, part by part with gradient caching, or by gradient accumulation on one or
//! several devices), updates the weights and keeps the encoder with the best development score.

mod base;
mod batch_order;
pub(crate) mod bundled;
mod dev_set;
pub(crate) mod freeze;
mod sentence_file;
pub(crate) mod settings;
mod text_table;
mod trainer;

pub(crate) use base::{Asked, Evaluation, Form, Outcome, Start, StartOptions, file_name, finish};
pub(crate) use batch_order::{BatchOrder, BatchRules};
pub(crate) use sentence_file::{SentenceFile, dropped_note};
pub use settings::{OptimizerConfig, SelectionConfig};
pub(crate) use text_table::{Column, TextTable};
pub(crate) use trainer::{
    Accumulation, Encoding, Method, Part, SentenceModel, Trainer, encode_table,
};
