//! Training data that we make: seeded template corpora.
//!
//! * [`chat`]: asking a chat model, with a budget;
//! * [`job`]: many calls in parallel, journaled, checked, resumable;
//! * [`simulation`]: companions of sentences in given relations, written by a model;
//! * [`rules`]: the same relations by hand-written rules, without a model;
//! * [`taxonomy`]: coarse and fine corpora from a short description of the categories;
//! * [`naming`]: names for categories from their texts, [`class_tf_idf`]: their keywords;
//! * [`template`]: a small sentence grammar with slots, alternatives and optional parts;
//! * [`mod@utterances`]: short messages to an assistant;
//! * [`pocket`]: the generator of the bundled Pocket set (8 coarse, 40 fine categories);
//! * [`vocabulary`]: a deterministic WordPiece vocabulary for a corpus.
//!
//! Everything is a pure function of a `u64` seed: the same seed gives the same bytes.

pub mod chat;
pub mod class_tf_idf;
pub mod job;
pub mod naming;
mod plain;
pub mod pocket;
pub mod rules;
pub mod simulation;
pub mod taxonomy;
pub mod template;
pub mod utterances;
pub mod vocabulary;

pub use class_tf_idf::{ClassTfIdf, Keyword};
pub use pocket::{PocketError, PocketSet};
pub use taxonomy::{Taxonomy, TaxonomyError, TaxonomyRules};
pub use template::{Grammar, Template, TemplateError};
pub use utterances::{UtteranceError, utterances};
pub use vocabulary::{VocabularyConfig, word_piece_vocabulary};
