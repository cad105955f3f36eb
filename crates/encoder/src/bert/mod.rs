//! The transformer: BERT (Devlin et al., arXiv 1810.04805), post-layer-norm with exact GELU and
//! absolute positions, and the arrangements by which the other families ([`Family`](crate::Family))
//! differ from it.
//!
//! Activations are two-dimensional, `[tokens, hidden]`, and hold real tokens only: the texts of a
//! batch lie one behind the other, and attention runs per text. The parts of a layer are the fused
//! operations of the `kernels` crate, which other back-ends than flex compose from burn's own.

mod attention;
mod embeddings;
mod layer;
mod mlm_head;
mod model;
mod positions;

pub use attention::SelfAttention;
pub use embeddings::{Embedding, Embeddings};
pub use kernels::dropout;
pub use layer::{EncoderLayer, LayerNorm, Linear};
pub use mlm_head::MlmHead;
pub use model::{BertModel, HiddenStates};
