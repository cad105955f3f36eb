//! Texts in, vectors out.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::batch::TokenBatch;
use crate::bert::{BertModel, MlmHead};
use crate::config::BertConfig;
use crate::error::EncoderError;
use crate::model_dir::{Carried, Extension};
use crate::pooling::{POOLER, Pooling};
use crate::prompts::{Prompt, Prompts};
use crate::template::Template;
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
    /// Longest text in tokens, special tokens included; a template comes on top.
    pub max_len: usize,
    /// What texts are wrapped in; the pooling `mask` needs one.
    pub template: Option<Template>,
    /// What may be put in front of texts.
    pub prompts: Prompts,
    /// Heads, centroids and names that the layout has no place for.
    pub extension: Extension,
    /// Dimensions that `encode` keeps.
    pub(crate) truncate_dim: Option<usize>,
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

    /// The first `dim` dimensions of every row, scaled to unit length again if asked for.
    ///
    /// # Errors
    ///
    /// `dim` is 0 or above the width.
    ///
    /// ```
    /// let vectors = encoder::Embeddings { values: vec![3.0, 4.0, 12.0], dim: 3 };
    /// assert_eq!(vectors.truncated(2, true).unwrap().values, [0.6, 0.8]);
    /// ```
    pub fn truncated(&self, dim: usize, normalize: bool) -> Result<Self, EncoderError> {
        check_truncation(dim, self.dim)?;
        let mut values = Vec::with_capacity(self.rows() * dim);
        for row in 0..self.rows() {
            let row = &self.row(row)[..dim];
            let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
            let norm = if normalize { norm.max(1e-12) } else { 1.0 };
            values.extend(row.iter().map(|value| value / norm));
        }
        Ok(Self { values, dim })
    }
}

/// A dimension that vectors can be cut to.
fn check_truncation(dim: usize, width: usize) -> Result<(), EncoderError> {
    if (1..=width).contains(&dim) {
        return Ok(());
    }
    Err(EncoderError::Config {
        origin: "vectors".to_owned(),
        field: "truncate_dim",
        found: dim.to_string(),
        expected: format!("1 to {width}"),
    })
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
            template: None,
            prompts: Prompts::default(),
            truncate_dim: None,
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

    /// Vectors of texts in their order, in batches of at most `batch_size` of similar length; the
    /// model's default prompt and template apply.
    ///
    /// # Errors
    ///
    /// A text cannot be tokenised, the pooling needs what is not there, or the model refuses a
    /// batch.
    pub fn encode<S: AsRef<str>>(
        &self,
        texts: &[S],
        batch_size: usize,
    ) -> Result<Embeddings, EncoderError> {
        self.encode_with(texts, batch_size, Prompt::Default)
    }

    /// As [`encode`](Self::encode) with another prompt.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode), and for a prompt that the model does not have.
    pub fn encode_with<S: AsRef<str>>(
        &self,
        texts: &[S],
        batch_size: usize,
        prompt: Prompt<'_>,
    ) -> Result<Embeddings, EncoderError> {
        self.check_pooling()?;
        let ids = self.token_ids(texts, prompt)?;
        let bert = self.bert.valid();
        let normalize = self.normalize && self.truncate_dim.is_none();
        let vectors = encode_ids(&bert, self.pooling, normalize, &ids, batch_size, |_, _| {})?;
        match self.truncate_dim {
            Some(dim) => vectors.truncated(dim, self.normalize),
            None => Ok(vectors),
        }
    }

    /// Token ids of texts as [`encode`](Self::encode) sees them: behind the prompt, cut to
    /// `max_len`, and wrapped in the template. Texts are cut further where the template would reach
    /// beyond the positions.
    ///
    /// # Errors
    ///
    /// A text cannot be tokenised, or the model has no such prompt.
    pub fn token_ids<S: AsRef<str>>(
        &self,
        texts: &[S],
        prompt: Prompt<'_>,
    ) -> Result<Vec<Vec<u32>>, EncoderError> {
        let prompt = self.prompts.text(prompt)?;
        let length = match &self.template {
            Some(template) => {
                let positions = self.config.max_position_embeddings;
                self.max_len.min(positions.saturating_sub(template.added()))
            }
            None => self.max_len,
        };
        let ids = if prompt.is_empty() {
            self.tokenizer.encode(texts, length)?
        } else {
            if self.carried.excludes_prompt {
                return Err(EncoderError::Config {
                    origin: "1_Pooling/config.json".to_owned(),
                    field: "include_prompt",
                    found: "false".to_owned(),
                    expected: "true where a prompt is used".to_owned(),
                });
            }
            let texts: Vec<String> = texts
                .iter()
                .map(|text| format!("{prompt}{}", text.as_ref()))
                .collect();
            self.tokenizer.encode(&texts, length)?
        };
        Ok(match &self.template {
            Some(template) => ids.iter().map(|ids| template.wrap(ids)).collect(),
            None => ids,
        })
    }

    /// Wraps every text from now on in a template, see [`Template::new`].
    ///
    /// # Errors
    ///
    /// The template does not fit the tokenizer.
    pub fn set_template(&mut self, text: &str) -> Result<(), EncoderError> {
        self.template = Some(Template::new(text, &self.tokenizer)?);
        Ok(())
    }

    /// Keeps the first `dim` dimensions of every vector of [`encode`](Self::encode) from now on
    /// (Matryoshka; Kusupati et al., arXiv 2205.13147), scaled to unit length again where the model
    /// normalises; `None`: all.
    ///
    /// # Errors
    ///
    /// `dim` is 0 or above the width of the model.
    pub fn set_truncate_dim(&mut self, dim: Option<usize>) -> Result<(), EncoderError> {
        if let Some(dim) = dim {
            check_truncation(dim, self.config.hidden_size)?;
        }
        self.truncate_dim = dim;
        Ok(())
    }

    /// Whether the weights and settings that the pooling needs are there.
    ///
    /// # Errors
    ///
    /// [`EncoderError::MissingHead`]: `cls_mlp` without a pooler, `mask` without a template.
    pub fn check_pooling(&self) -> Result<(), EncoderError> {
        match self.pooling {
            Pooling::ClsMlp if self.bert.pooler.is_none() => Err(self.pooling.missing(POOLER)),
            Pooling::Mask if self.template.is_none() => Err(self.pooling.missing("a template")),
            _ => Ok(()),
        }
    }

    /// Dimensions of the vectors of [`encode`](Self::encode).
    pub fn dim(&self) -> usize {
        self.truncate_dim.unwrap_or(self.config.hidden_size)
    }
}

/// Vectors of tokenised texts, in their order; texts of similar length share a batch of at most
/// `batch_size` texts and 4096 tokens. Several batches are computed at the same time where
/// [`kernels::concurrent_passes`] says so; a batch gives the same bytes whatever runs beside it.
///
/// `bert` should be the inference form of a model ([`Module::valid`]). `progress` receives rows
/// done and rows in all.
///
/// # Errors
///
/// The model refuses a batch.
pub fn encode_ids<R: AsRef<[u32]> + Sync>(
    bert: &BertModel,
    pooling: Pooling,
    normalize: bool,
    ids: &[R],
    batch_size: usize,
    mut progress: impl FnMut(usize, usize),
) -> Result<Embeddings, EncoderError> {
    try_encode_ids(bert, pooling, normalize, ids, batch_size, |done, all| {
        progress(done, all);
        Ok(())
    })
}

/// [`encode_ids`] that may be left between two batches: an error of `progress` ends it.
///
/// # Errors
///
/// The model refuses a batch; whatever `progress` gives.
pub fn try_encode_ids<R: AsRef<[u32]> + Sync, E: From<EncoderError>>(
    bert: &BertModel,
    pooling: Pooling,
    normalize: bool,
    ids: &[R],
    batch_size: usize,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<Embeddings, E> {
    let dim = bert.hidden_size();
    let home = bert.devices().first().cloned().unwrap_or_default();
    let device = home.clone().inner();
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(ids[*index].as_ref().len()));
    let mut batches = Vec::new();
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        let (batch, after) = rest.split_at(batch_rows(rest, ids, batch_size));
        batches.push(batch);
        rest = after;
    }
    let compute = |batch: &[usize]| -> Result<Vec<f32>, EncoderError> {
        let rows: Vec<&[u32]> = batch.iter().map(|index| ids[*index].as_ref()).collect();
        let batch = TokenBatch::new(&rows, &device)?;
        let vectors = SentenceEncoder::pool(bert, pooling, &batch)?;
        let vectors = if normalize {
            unit_rows(vectors)
        } else {
            vectors
        };
        Ok(vectors.into_data().iter::<f32>().collect())
    };

    let mut values = vec![0.0; ids.len() * dim];
    let mut done = 0;
    let mut take = |batch: &[usize], vectors: Vec<f32>| -> Result<(), E> {
        for (index, row) in batch.iter().zip(vectors.chunks(dim)) {
            values[index * dim..(index + 1) * dim].copy_from_slice(row);
        }
        done += batch.len();
        progress(done, ids.len())
    };
    let threads = kernels::concurrent_passes(&home).min(batches.len());
    if threads <= 1 {
        for batch in batches {
            take(batch, compute(batch)?)?;
        }
        return Ok(Embeddings { values, dim });
    }
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::sync_channel(threads);
    thread::scope(|scope| {
        // Moved in, so that it is gone, and the threads stop, as soon as this loop is left.
        let results = results;
        for _ in 0..threads {
            let (sender, next, batches, compute) = (sender.clone(), &next, &batches, &compute);
            scope.spawn(move || {
                while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let vectors = catch_unwind(AssertUnwindSafe(|| compute(batch)));
                    if sender.send((*batch, vectors)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (batch, vectors) in results {
            match vectors {
                Ok(vectors) => take(batch, vectors?)?,
                // As if it had happened here.
                Err(panic) => resume_unwind(panic),
            }
        }
        Ok::<(), E>(())
    })?;
    Ok(Embeddings { values, dim })
}

/// Most tokens in a batch of [`encode_ids`], unless one text alone has more: enough for matrix
/// products at full rate, and the widest activation of MiniLM stays at 24 MiB.
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

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn tiny() -> (BertModel, Vec<Vec<u32>>) {
        let device = Device::flex();
        let bert = BertModel::random(&BertConfig::tiny(50), 1, &device).unwrap();
        // Lengths of 1 to 19, several of each, in no order.
        let rows = (0..90_u32).map(|row| {
            let length = 1 + row * 7 % 19;
            (0..length).map(|at| (row + at * at) % 50).collect()
        });
        (bert, rows.collect())
    }

    #[test]
    fn batches_side_by_side_give_the_bytes_of_a_batch_alone() {
        let (bert, rows) = tiny();
        let mut seen = Vec::new();
        let all = encode_ids(&bert, Pooling::Mean, true, &rows, 4, |done, all| {
            seen.push((done, all));
        })
        .unwrap();
        assert!(
            seen.is_sorted() && seen.last() == Some(&(90, 90)),
            "{seen:?}"
        );
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|row| std::cmp::Reverse(rows[*row].len()));
        for batch in order.chunks(4) {
            let ids: Vec<&[u32]> = batch.iter().map(|row| rows[*row].as_slice()).collect();
            let alone = encode_ids(&bert, Pooling::Mean, true, &ids, 4, |_, _| {}).unwrap();
            for (at, row) in batch.iter().enumerate() {
                assert_eq!(alone.row(at), all.row(*row));
            }
        }
    }

    #[test]
    fn the_loop_can_be_left_between_batches() {
        #[derive(Debug, thiserror::Error)]
        enum Left {
            #[error("enough")]
            Enough,
            #[error(transparent)]
            Encoder(#[from] EncoderError),
        }
        let (bert, rows) = tiny();
        let mut calls = 0;
        let left = try_encode_ids(&bert, Pooling::Mean, true, &rows, 4, |_, _| {
            calls += 1;
            if calls == 3 {
                Err(Left::Enough)
            } else {
                Ok(())
            }
        });
        assert!(matches!(left, Err(Left::Enough)));
        assert_eq!(calls, 3);
    }

    #[test]
    fn what_the_model_refuses_ends_the_loop() {
        let (bert, mut rows) = tiny();
        rows[40] = Vec::new();
        let found = encode_ids(&bert, Pooling::Mean, true, &rows, 4, |_, _| {});
        assert!(found.is_err());
    }
}
