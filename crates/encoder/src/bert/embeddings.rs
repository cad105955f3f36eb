//! Word, position and segment embeddings.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use kernels::{EmbeddingTables, embedding_layer_norm};

use super::layer::LayerNorm;
use crate::batch::TokenBatch;
use crate::config::BertConfig;
use crate::families::Architecture;
use crate::init::Init;

/// A table of vectors, `[entries, hidden]`.
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[entries, hidden]`.
    pub weight: Param<Tensor<2>>,
}

impl Embedding {
    /// A table of random rows, or one row of zeros that never changes.
    fn table(rows: Option<usize>, hidden: usize, init: &mut Init) -> Self {
        Self {
            weight: match rows {
                Some(rows) => init.normal([rows, hidden]),
                None => init.absent([1, hidden]),
            },
        }
    }
}

/// `dropout(LN(word[id] + position[t + offset] + segment[0]))`; the segment is always 0.
///
/// A table that a family lacks is one row of zeros that never changes.
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
    /// Whether positions have a table.
    positions: bool,
    /// Row of the position table that the first token reads.
    offset: usize,
}

impl Embeddings {
    /// BERT's tables of the sizes in `config`; the padding row of the word table is zero.
    pub fn new(config: &BertConfig, init: &mut Init) -> Self {
        Self::build(config, &Architecture::bert(config), init)
    }

    pub(crate) fn build(config: &BertConfig, architecture: &Architecture, init: &mut Init) -> Self {
        let hidden = config.hidden_size;
        let offset = architecture.positions.table_offset();
        Self {
            word_embeddings: Embedding {
                weight: init.normal_with_zero_row(
                    [config.vocab_size, hidden],
                    config.pad_token_id as usize,
                ),
            },
            position_embeddings: Embedding::table(
                offset.map(|offset| config.max_position_embeddings + offset),
                hidden,
                init,
            ),
            token_type_embeddings: Embedding::table(
                architecture.segments.then_some(config.type_vocab_size),
                hidden,
                init,
            ),
            layer_norm: LayerNorm::with_bias(
                architecture.norm_bias,
                hidden,
                config.layer_norm_eps,
                init,
            ),
            dropout: architecture.rates.embedding,
            positions: offset.is_some(),
            offset: offset.unwrap_or(0),
        }
    }

    /// Tokens that the position table has rows for; `None` without a table.
    pub(crate) fn longest(&self) -> Option<usize> {
        let [rows, _] = self.position_embeddings.weight.val().dims();
        self.positions.then(|| rows.saturating_sub(self.offset))
    }

    /// `[tokens, hidden]`.
    pub fn forward(&self, batch: &TokenBatch) -> Tensor<2> {
        let tables = EmbeddingTables {
            word: self.word_embeddings.weight.val(),
            position: self.position_embeddings.weight.val(),
            segment: self.token_type_embeddings.weight.val(),
        };
        let positions = match (self.positions, self.offset) {
            (false, _) => batch.positions.zeros_like(),
            (true, 0) => batch.positions.clone(),
            (true, offset) => batch.positions.clone().add_scalar(offset as i32),
        };
        embedding_layer_norm(
            tables,
            batch.ids.clone(),
            positions,
            self.layer_norm.params(),
            self.dropout,
        )
    }
}
