//! What computes vectors, seen from the server.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

/// What a server says about its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// Name for clients, such as `pocket` or the name of the model directory.
    pub id: String,
    /// Dimensions of a vector.
    pub dim: usize,
    /// Longest text in tokens, special tokens included.
    pub max_tokens: usize,
    /// SHA-256 of the weights in hexadecimal, if known.
    pub sha256: Option<String>,
}

/// A text as the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokenized {
    /// At most [`ModelInfo::max_tokens`] ids.
    pub ids: Vec<u32>,
    /// Number of tokens before the text was cut; equal to `ids.len()` where nothing was.
    pub full_length: usize,
}

/// Why an engine gave no answer. The text goes to the log, not to clients.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct EngineError(pub String);

/// Turns texts into vectors. Methods are called from several threads, [`embed`](Self::embed) from
/// one at a time.
pub trait Engine: Send + Sync {
    /// What the model is.
    fn info(&self) -> &ModelInfo;

    /// Token ids of texts, in their order, cut to the length of the model.
    ///
    /// # Errors
    ///
    /// The tokenizer fails on a text.
    fn tokenize(&self, texts: &[String]) -> Result<Vec<Tokenized>, EngineError>;

    /// One vector of [`ModelInfo::dim`] numbers a row of ids, in their order. The vector of a row
    /// does not depend on the other rows.
    ///
    /// # Errors
    ///
    /// The model refuses the batch.
    fn embed(&self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, EngineError>;
}

/// Makes an engine; called again when the one before panicked.
pub type EngineSource = Box<dyn Fn() -> Result<Arc<dyn Engine>, EngineError> + Send>;

/// Runs `call`; a panic becomes an error.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, EngineError> {
    panic::catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a message".to_owned());
        EngineError(text)
    })
}

/// An engine without a model, for tests of a server and of its clients: a token a byte group
/// between spaces, vectors from a hash of the ids, and a delay a token.
///
/// ```
/// use server::{Engine as _, FakeEngine};
/// let engine = FakeEngine::new(4, 16);
/// let rows = engine.tokenize(&["two words".to_owned()]).unwrap();
/// assert_eq!(rows[0].ids.len(), 4); // two words between two special tokens
/// let vectors = engine.embed(&[&rows[0].ids]).unwrap();
/// assert_eq!(vectors[0].len(), 4);
/// ```
pub struct FakeEngine {
    info: ModelInfo,
    /// Time that a token takes in [`Engine::embed`].
    pub delay_per_token: Duration,
    /// A batch with this word panics.
    pub panics_at: Option<String>,
    /// A batch with this word is refused.
    pub fails_at: Option<String>,
}

impl FakeEngine {
    /// Vectors of `dim` numbers, texts of at most `max_tokens` tokens.
    pub fn new(dim: usize, max_tokens: usize) -> Self {
        Self {
            info: ModelInfo {
                id: "fake".to_owned(),
                dim,
                max_tokens,
                sha256: None,
            },
            delay_per_token: Duration::ZERO,
            panics_at: None,
            fails_at: None,
        }
    }

    fn has(rows: &[&[u32]], word: Option<&String>) -> bool {
        word.is_some_and(|word| rows.iter().any(|row| row.contains(&hash(word.bytes()))))
    }
}

impl fmt::Debug for FakeEngine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("FakeEngine")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl Engine for FakeEngine {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn tokenize(&self, texts: &[String]) -> Result<Vec<Tokenized>, EngineError> {
        let tokenize = |text: &String| {
            let mut ids = vec![1];
            ids.extend(text.split_whitespace().map(|word| hash(word.bytes())));
            ids.push(2);
            let full_length = ids.len();
            ids.truncate(self.info.max_tokens);
            Tokenized { ids, full_length }
        };
        Ok(texts.iter().map(tokenize).collect())
    }

    #[allow(clippy::panic)] // asked for by `panics_at`
    fn embed(&self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, EngineError> {
        let tokens: usize = rows.iter().map(|row| row.len()).sum();
        if !self.delay_per_token.is_zero() {
            let times = u32::try_from(tokens).unwrap_or(u32::MAX);
            std::thread::sleep(self.delay_per_token.saturating_mul(times));
        }
        if Self::has(rows, self.panics_at.as_ref()) {
            panic!("the fake engine was told to panic");
        }
        if Self::has(rows, self.fails_at.as_ref()) {
            return Err(EngineError("the fake engine was told to fail".to_owned()));
        }
        Ok(rows
            .iter()
            .map(|row| unit_vector(row, self.info.dim))
            .collect())
    }
}

/// FNV-1a.
fn hash(bytes: impl IntoIterator<Item = u8>) -> u32 {
    bytes.into_iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// Of unit length: texts with many words in common are near each other.
fn unit_vector(row: &[u32], dim: usize) -> Vec<f32> {
    let mut vector = vec![0.0_f32; dim];
    for id in row {
        for (at, slot) in (0_u32..).zip(vector.iter_mut()) {
            let bits = hash(id.to_le_bytes().into_iter().chain(at.to_le_bytes()));
            // High bits: the low ones of this hash follow the last byte.
            *slot += f32::from(u16::try_from(bits >> 16).unwrap_or(0)) / 32768.0 - 1.0;
        }
    }
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    let norm = norm.max(f32::MIN_POSITIVE);
    for value in &mut vector {
        *value /= norm;
    }
    vector
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_text() {
        assert_eq!(caught(|| 3).unwrap(), 3);
        let error = caught(|| panic!("one {}", 1)).unwrap_err();
        assert_eq!(error, EngineError("one 1".to_owned()));
        let error = caught(|| panic::panic_any(7_u8)).unwrap_err();
        assert!(error.0.contains("without a message"));
    }

    #[test]
    fn the_fake_cuts_texts_and_keeps_their_length() {
        let engine = FakeEngine::new(3, 4);
        let rows = engine.tokenize(&["a b c d".to_owned()]).unwrap();
        assert_eq!((rows[0].ids.len(), rows[0].full_length), (4, 6));
        let vectors = engine.embed(&[&rows[0].ids]).unwrap();
        let norm: f32 = vectors[0].iter().map(|value| value * value).sum();
        assert!((norm - 1.0).abs() < 1e-5, "{norm}");
    }
}
