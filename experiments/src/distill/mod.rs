//! Distillation: a small encoder learns the sentence vectors of a large one. This is how the bundled
//! Pocket encoder is made.
//!
//! The student is a BERT of one layer whose word table comes from the teacher's vectors of the word
//! pieces, weighted by how rare they are, so that it agrees with the teacher to a good part before its
//! first step. It then learns the teacher's vectors, turned into its own fewer dimensions, and the
//! similarities within a batch.
//!
//! Sources: Sanh et al., "DistilBERT" (arXiv 1910.01108) and Reimers, Gurevych, "Making Monolingual
//! Sentence Embeddings Multilingual using Knowledge Distillation" (arXiv 2004.09813) for learning the
//! vectors; Arora, Liang, Ma, "A Simple but Tough-to-Beat Baseline for Sentence Embeddings" (ICLR 2017)
//! for the weights `a / (a + p(w))` of words; Tulkens, van Dongen, "Model2Vec" (2024) for word tables
//! made by a sentence encoder.

mod config;
mod corpus;
mod method;
mod program;
mod projection;
mod run;
mod student;
mod teacher;

pub use config::{DistillConfig, StartConfig, StudentConfig};
pub use corpus::{Corpus, CorpusOptions, Dropped, Held, Part, Source};
pub use program::main_with;
pub use run::run;
