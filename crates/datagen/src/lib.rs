//! Training data that we make: seeded template corpora.
//!
//! * [`template`]: a small sentence grammar with slots, alternatives and optional parts;
//! * [`mod@utterances`]: short messages to an assistant;
//! * [`pocket`]: the generator of the bundled Pocket set (8 coarse, 40 fine categories);
//! * [`vocabulary`]: a deterministic WordPiece vocabulary for a corpus.
//!
//! Everything is a pure function of a `u64` seed: the same seed gives the same bytes.

pub mod pocket;
pub mod template;
pub mod utterances;
pub mod vocabulary;

pub use pocket::{PocketError, PocketSet};
pub use template::{Grammar, Template, TemplateError};
pub use utterances::{UtteranceError, utterances};
pub use vocabulary::{VocabularyConfig, word_piece_vocabulary};
