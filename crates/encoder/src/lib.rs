//! Sentence encoders: tokenizer, transformer, pooling, heads, and the model directory layout.
//!
//! [`SentenceEncoder`] is the door: it loads and saves sentence-transformers directories and turns
//! texts into vectors. Training code takes its parts: [`TextTokenizer`] for ids, [`TokenBatch`] for
//! padded tensors, [`BertModel`] as a burn module, [`Pooling`] for one vector a text, [`MlmHead`] for
//! masked positions.

mod batch;
pub mod bert;
mod config;
mod error;
mod init;
mod model_dir;
mod pooling;
mod sentence_encoder;
mod tokenizer;
mod weights;

pub use batch::TokenBatch;
pub use bert::{BertModel, HiddenStates, MlmHead};
pub use config::BertConfig;
pub use error::EncoderError;
pub use init::Init;
pub use model_dir::{Extension, LoadOptions};
pub use pooling::Pooling;
pub use sentence_encoder::{Embeddings, SentenceEncoder, encode_ids, unit_rows};
pub use tokenizer::TextTokenizer;
pub use weights::{WeightTensor, read_safetensors, write_safetensors};
