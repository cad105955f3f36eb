//! Word, position and segment embeddings.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use kernels::{EmbeddingTables, embedding_layer_norm};

use super::layer::LayerNorm;
use crate::batch::TokenBatch;
use crate::config::BertConfig;
use crate::init::Init;

/// A table of vectors, `[entries, hidden]`.
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[entries, hidden]`.
    pub weight: Param<Tensor<2>>,
}

/// `dropout(LN(word[id] + position[t] + segment[0]))`; the segment is always 0.
#[derive(Module, Debug)]
pub struct Embeddings {
    /// `[vocab, hidden]`.
    pub word_embeddings: Embedding,
    /// `[max_position, hidden]`.
    pub position_embeddings: Embedding,
    /// `[segments, hidden]`.
    pub token_type_embeddings: Embedding,
    /// Layer norm of the sum.
    pub layer_norm: LayerNorm,
    dropout: f64,
}

impl Embeddings {
    /// Tables of the sizes in `config`; the padding row of the word table is zero.
    pub fn new(config: &BertConfig, init: &mut Init) -> Self {
        let hidden = config.hidden_size;
        Self {
            word_embeddings: Embedding {
                weight: init.normal_with_zero_row(
                    [config.vocab_size, hidden],
                    config.pad_token_id as usize,
                ),
            },
            position_embeddings: Embedding {
                weight: init.normal([config.max_position_embeddings, hidden]),
            },
            token_type_embeddings: Embedding {
                weight: init.normal([config.type_vocab_size, hidden]),
            },
            layer_norm: LayerNorm::new(hidden, config.layer_norm_eps, init),
            dropout: config.hidden_dropout_prob,
        }
    }

    /// `[tokens, hidden]`.
    pub fn forward(&self, batch: &TokenBatch) -> Tensor<2> {
        let tables = EmbeddingTables {
            word: self.word_embeddings.weight.val(),
            position: self.position_embeddings.weight.val(),
            segment: self.token_type_embeddings.weight.val(),
        };
        embedding_layer_norm(
            tables,
            batch.ids.clone(),
            batch.positions.clone(),
            self.layer_norm.params(),
            self.dropout,
        )
    }
}
