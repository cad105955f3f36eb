//! Sentence encoders: tokenizer, transformer, pooling, heads, and the model directory layout.
//!
//! [`SentenceEncoder`] is the door: it loads and saves sentence-transformers directories and turns
//! texts into vectors. Training code takes its parts: [`TextTokenizer`] for ids, [`TokenBatch`] for
//! packed tensors, [`BertModel`] as a burn module, [`Pooling`] for one vector a text, [`MlmHead`]
//! for masked positions.
//!
//! [`BertModel`] and [`BertConfig`] stand for every [`Family`]: BERT, RoBERTa, DistilBERT, MPNet,
//! NomicBERT, Jina v2 and ModernBERT differ in names, in where positions enter and in the
//! feed-forward block.
//!
//! Around the vectors: [`Prompts`], [`Template`] (mask pooling), fewer dimensions
//! ([`SentenceEncoder::set_truncate_dim`]) and fewer bits ([`quantize()`]).

mod batch;
pub mod bert;
mod config;
mod error;
mod families;
mod half_precision;
mod init;
mod model_dir;
mod pooling;
mod prompts;
mod quantize;
mod sentence_encoder;
mod template;
mod tokenizer;
mod weights;
mod word_piece_trainer;

pub use batch::TokenBatch;
pub use bert::{BertModel, HiddenStates, MlmHead};
pub use config::BertConfig;
pub use error::EncoderError;
pub use families::Family;
pub use init::Init;
pub use model_dir::{Extension, LoadOptions};
pub use pooling::Pooling;
pub use prompts::{Prompt, Prompts};
pub use quantize::{Precision, QuantizedEmbeddings, QuantizedValues, Ranges, quantize};
pub use sentence_encoder::{Embeddings, SentenceEncoder, encode_ids, try_encode_ids, unit_rows};
pub use template::Template;
pub use tokenizer::TextTokenizer;
pub use weights::{WeightTensor, read_safetensors, write_safetensors};
pub use word_piece_trainer::WordPieceTraining;
