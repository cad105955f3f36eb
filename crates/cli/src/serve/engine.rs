//! A sentence encoder as the engine of a server.

use std::sync::Arc;

use burn::module::Module as _;
use encoder::{EncoderError, Prompt, SentenceEncoder, encode_ids};
use server::{Engine, EngineError, ModelInfo, Tokenized};

/// Tokenizer, transformer and pooling of a model directory.
pub(super) struct TextEngine {
    info: ModelInfo,
    model: SentenceEncoder,
    /// Put in front of every text.
    prompt: String,
    /// Tokens that are not of a text: special ones and the template.
    added: usize,
}

impl TextEngine {
    /// Prepares a model for inference.
    pub(super) fn new(
        mut model: SentenceEncoder,
        id: String,
        sha256: String,
    ) -> Result<Self, EncoderError> {
        model.check_pooling()?;
        model.bert = model.bert.valid();
        // Without texts, this says whether the model takes its prompt.
        model.token_ids::<&str>(&[], Prompt::Default)?;
        let added = model
            .token_ids(&[""], Prompt::None)?
            .first()
            .map_or(0, Vec::len);
        let template = model.template.as_ref().map_or(0, |known| known.added());
        let positions = model.config.max_position_embeddings;
        Ok(Self {
            info: ModelInfo {
                id,
                dim: model.dim(),
                max_tokens: positions.min(model.max_len + template),
                sha256: Some(sha256),
            },
            prompt: model.prompts.text(Prompt::Default)?.to_owned(),
            added,
            model,
        })
    }

    /// The model itself.
    pub(super) fn model(&self) -> &SentenceEncoder {
        &self.model
    }

    /// For [`server::EngineSource`].
    pub(super) fn shared(self) -> Arc<dyn Engine> {
        Arc::new(self)
    }

    fn tokenized(&self, texts: &[String]) -> Result<Vec<Tokenized>, EncoderError> {
        let rows = self.model.token_ids(texts, Prompt::Default)?;
        texts
            .iter()
            .zip(rows)
            .map(|(text, ids)| {
                // Only a text that fills the model can be a cut one.
                let full_length = if ids.len() < self.info.max_tokens {
                    ids.len()
                } else {
                    let text = format!("{}{text}", self.prompt);
                    self.model.tokenizer.pieces(&text)?.len() + self.added
                };
                Ok(Tokenized { ids, full_length })
            })
            .collect()
    }
}

impl Engine for TextEngine {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn tokenize(&self, texts: &[String]) -> Result<Vec<Tokenized>, EngineError> {
        self.tokenized(texts).map_err(failed)
    }

    fn embed(&self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, EngineError> {
        let model = &self.model;
        let vectors = encode_ids(
            &model.bert,
            model.pooling,
            model.normalize,
            rows,
            rows.len(),
            |_, _| {},
        )
        .map_err(failed)?;
        let rows = 0..vectors.rows();
        Ok(rows.map(|row| vectors.row(row).to_vec()).collect())
    }
}

fn failed(error: EncoderError) -> EngineError {
    EngineError(error.to_string())
}
