//! BERT (Devlin et al., arXiv 1810.04805): post-layer-norm transformer with exact GELU and absolute
//! positions.
//!
//! Activations stay two-dimensional, `[batch * width, hidden]`, around every linear layer: burn's
//! generic linear multiplies a three-dimensional input batch element by batch element and reads the
//! weight anew for each, which made a training step 2.6 times slower.

mod attention;
mod embeddings;
mod layer;
mod mlm_head;
mod model;

pub use attention::SelfAttention;
pub use embeddings::{Embedding, Embeddings};
pub use layer::{EncoderLayer, LayerNorm, Linear, dropout};
pub use mlm_head::MlmHead;
pub use model::{BertModel, HiddenStates};
