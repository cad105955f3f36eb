//! Texts in, vectors out.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::batch::TokenBatch;
use crate::bert::{BertModel, MlmHead};
use crate::config::BertConfig;
use crate::error::EncoderError;
use crate::model_dir::{Carried, Extension};
use crate::pooling::Pooling;
use crate::tokenizer::TextTokenizer;

/// A tokenizer, a transformer and a pooling: everything a model directory holds.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use encoder::{BertConfig, Pooling, SentenceEncoder, TextTokenizer};
/// let pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world"];
/// let tokenizer = TextTokenizer::from_word_pieces(&pieces).unwrap();
/// let device = burn::tensor::Device::flex();
/// let encoder =
///     SentenceEncoder::random(BertConfig::tiny(7), tokenizer, Pooling::Mean, 0, &device).unwrap();
/// let vectors = encoder.encode(&["hello world", "hello"], 32).unwrap();
/// assert_eq!((vectors.rows(), vectors.dim), (2, 128));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SentenceEncoder {
    /// Sizes of the transformer.
    pub config: BertConfig,
    /// Text to ids.
    pub tokenizer: TextTokenizer,
    /// The transformer.
    pub bert: BertModel,
    /// Masked-language-model head, if the checkpoint has one.
    pub mlm_head: Option<MlmHead>,
    /// Hidden states to one vector.
    pub pooling: Pooling,
    /// Whether vectors are scaled to unit length.
    pub normalize: bool,
    /// Longest text in tokens, special tokens included.
    pub max_len: usize,
    /// Heads, centroids and names that the layout has no place for.
    pub extension: Extension,
    pub(crate) carried: Carried,
}

/// Row-major vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// `[rows * dim]`.
    pub values: Vec<f32>,
    /// Width of a row.
    pub dim: usize,
}

impl Embeddings {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.dim).unwrap_or(0)
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..(index + 1) * self.dim]
    }
}

impl SentenceEncoder {
    /// A randomly initialised encoder.
    ///
    /// # Errors
    ///
    /// The configuration is out of range or smaller than the vocabulary.
    pub fn random(
        config: BertConfig,
        tokenizer: TextTokenizer,
        pooling: Pooling,
        seed: u64,
        device: &Device,
    ) -> Result<Self, EncoderError> {
        if config.vocab_size < tokenizer.vocab_size() {
            return Err(EncoderError::Config {
                origin: "configuration".to_owned(),
                field: "vocab_size",
                found: config.vocab_size.to_string(),
                expected: format!("at least {}", tokenizer.vocab_size()),
            });
        }
        let bert = BertModel::random(&config, seed, device)?;
        Ok(Self {
            max_len: config.max_position_embeddings,
            bert,
            mlm_head: None,
            config,
            tokenizer,
            pooling,
            normalize: true,
            extension: Extension::default(),
            carried: Carried::default(),
        })
    }

    /// Pooled vectors of a batch, `[texts, hidden]`, not normalised; differentiable.
    ///
    /// # Errors
    ///
    /// The batch is too wide, or the pooling needs a pooler that is not there.
    pub fn pool(
        bert: &BertModel,
        pooling: Pooling,
        batch: &TokenBatch,
    ) -> Result<Tensor<2>, EncoderError> {
        let states = bert.forward(batch)?;
        pooling.forward(&states, batch, bert.pooler.as_ref())
    }

    /// Vectors of texts in their order, in batches of at most `batch_size` of similar length.
    ///
    /// # Errors
    ///
    /// A text cannot be tokenised, or the model refuses a batch.
    pub fn encode<S: AsRef<str>>(
        &self,
        texts: &[S],
        batch_size: usize,
    ) -> Result<Embeddings, EncoderError> {
        let ids = self.tokenizer.encode(texts, self.max_len)?;
        let bert = self.bert.valid();
        encode_ids(
            &bert,
            self.pooling,
            self.normalize,
            &ids,
            batch_size,
            |_, _| {},
        )
    }
}

/// Vectors of tokenised texts, in their order; texts of similar length share a batch of at most
/// `batch_size` texts and 4096 tokens.
///
/// `bert` should be the inference form of a model ([`Module::valid`]). `progress` receives rows
/// done and rows in all.
///
/// # Errors
///
/// The model refuses a batch.
pub fn encode_ids<R: AsRef<[u32]>>(
    bert: &BertModel,
    pooling: Pooling,
    normalize: bool,
    ids: &[R],
    batch_size: usize,
    mut progress: impl FnMut(usize, usize),
) -> Result<Embeddings, EncoderError> {
    let dim = bert.hidden_size();
    let device = bert.devices().first().cloned().unwrap_or_default().inner();
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(ids[*index].as_ref().len()));
    let mut values = vec![0.0; ids.len() * dim];
    let mut done = 0;
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(batch_rows(rest, ids, batch_size));
        rest = after;
        let rows: Vec<&[u32]> = chunk.iter().map(|index| ids[*index].as_ref()).collect();
        let batch = TokenBatch::new(&rows, &device)?;
        let vectors = SentenceEncoder::pool(bert, pooling, &batch)?;
        let vectors = if normalize {
            unit_rows(vectors)
        } else {
            vectors
        };
        let data = vectors.into_data();
        for (index, row) in chunk
            .iter()
            .zip(data.iter::<f32>().collect::<Vec<_>>().chunks(dim))
        {
            values[index * dim..(index + 1) * dim].copy_from_slice(row);
        }
        done += chunk.len();
        progress(done, ids.len());
    }
    Ok(Embeddings { values, dim })
}

/// Most tokens in a batch of [`encode_ids`], unless one text alone has more: enough for matrix products
/// at full rate, and the widest activation of MiniLM stays at 24 MiB.
const TOKEN_BUDGET: usize = 4096;

/// How many of `order` make up the next batch: at most `batch_size` rows and the token budget.
fn batch_rows<R: AsRef<[u32]>>(order: &[usize], ids: &[R], batch_size: usize) -> usize {
    let mut tokens = 0;
    order
        .iter()
        .take(batch_size)
        .take_while(|index| {
            tokens += ids[**index].as_ref().len();
            tokens <= TOKEN_BUDGET
        })
        .count()
        .max(1)
}

/// Rows scaled to unit length; norms below 1e-12 count as 1e-12.
pub fn unit_rows(rows: Tensor<2>) -> Tensor<2> {
    let norm = rows
        .clone()
        .powi_scalar(2)
        .sum_dim(1)
        .clamp_min(1e-24)
        .sqrt();
    rows / norm
}
