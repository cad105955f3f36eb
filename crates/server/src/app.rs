//! What all routes share: the model, categories, texts, limits and figures.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderName, HeaderValue};
use tokio::sync::Semaphore;

use crate::batcher::{BatchLimits, Batcher};
use crate::config::Config;
use crate::corpus::Corpus;
use crate::engine::{EngineSource, Tokenized, caught};
use crate::error::{ApiError, Kind, StartError};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::openapi;
use crate::taxonomy::Taxonomy;

/// Makes the page of the explorer, anew for every request.
pub type PageSource = Box<dyn Fn() -> Result<String, Box<dyn Error + Send + Sync>> + Send + Sync>;

/// What a server answers with.
pub struct Parts {
    /// The model.
    pub engine: EngineSource,
    /// Categories, if there are any.
    pub taxonomy: Option<Taxonomy>,
    /// Texts to search, if there are any.
    pub corpus: Option<Corpus>,
    /// Page of the explorer, if there is one.
    pub page: Option<PageSource>,
}

impl Parts {
    /// A model and nothing else.
    pub fn of_engine(engine: EngineSource) -> Self {
        Self {
            engine,
            taxonomy: None,
            corpus: None,
            page: None,
        }
    }
}

/// Characters of a request up to which its texts are tokenised on the spot: below a millisecond.
const AT_ONCE: usize = 4096;

/// State of a server.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) batcher: Batcher,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) taxonomy: Option<Arc<Taxonomy>>,
    pub(crate) corpus: Option<Arc<Corpus>>,
    pub(crate) page: Option<Arc<PageSource>>,
    /// Places for requests with a body.
    pub(crate) places: Arc<Semaphore>,
    /// Places for work that would hold up other requests, such as tokenising long texts.
    heavy: Arc<Semaphore>,
    /// The OpenAPI document.
    pub(crate) openapi: String,
    /// The page about the routes.
    pub(crate) docs: openapi::DocsPage,
}

/// Vectors of texts, what they cost and where the time went.
pub(crate) struct Embedded {
    pub(crate) vectors: Vec<Vec<f32>>,
    pub(crate) tokens: usize,
    tokenized: Duration,
    waited: Duration,
    computed: Duration,
}

impl Embedded {
    /// The header `Server-Timing`, in milliseconds.
    pub(crate) fn timing(&self) -> [(HeaderName, HeaderValue); 1] {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let text = format!(
            "tokenize;dur={:.3}, queue;dur={:.3}, model;dur={:.3}",
            ms(self.tokenized),
            ms(self.waited),
            ms(self.computed)
        );
        // Digits and separators only.
        let value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        [(HeaderName::from_static("server-timing"), value)]
    }
}

impl App {
    /// Checks that the parts fit each other and starts the model.
    pub(crate) fn new(config: Config, parts: Parts) -> Result<Self, StartError> {
        let health = Arc::new(Health::default());
        let metrics = Arc::new(Metrics::new());
        let limits = BatchLimits {
            max_batch_tokens: config.max_batch_tokens,
            queue_texts: config.queue,
            max_wait: config.max_wait,
        };
        let batcher = Batcher::start(
            parts.engine,
            limits,
            Arc::clone(&health),
            Arc::clone(&metrics),
        )?;
        let info = batcher.info();
        config.check(info.max_tokens)?;
        let dimensions = [
            ("categories", parts.taxonomy.as_ref().map(Taxonomy::dim)),
            (
                "vectors of the texts",
                parts.corpus.as_ref().map(Corpus::dim),
            ),
        ];
        for (what, found) in dimensions {
            if let Some(found) = found
                && found != info.dim
            {
                return Err(StartError::Dimensions {
                    what,
                    expected: info.dim,
                    found,
                });
            }
        }
        let document = openapi::document();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            openapi: openapi::json(&document),
            docs: openapi::DocsPage::new(&document),
            places: Arc::new(Semaphore::new(config.limits.requests)),
            heavy: Arc::new(Semaphore::new(cores)),
            taxonomy: parts.taxonomy.map(Arc::new),
            corpus: parts.corpus.map(Arc::new),
            page: parts.page.map(Arc::new),
            config,
            batcher,
            health,
            metrics,
        })
    }

    /// Vectors of texts that a client sent.
    pub(crate) async fn embed(
        self: &Arc<Self>,
        mut texts: Vec<String>,
        truncate: bool,
    ) -> Result<Embedded, ApiError> {
        let characters = self.check_texts(&mut texts, truncate)?;
        let start = Instant::now();
        let engine = self.batcher.engine();
        let tokenize = move || match caught(|| engine.tokenize(&texts)) {
            Ok(Ok(rows)) if rows.len() == texts.len() => Ok(rows),
            Ok(Err(error)) | Err(error) => {
                tracing::debug!(%error, "the tokenizer failed");
                Err(ApiError::new(
                    Kind::Internal,
                    "the tokenizer failed on a text",
                ))
            }
            Ok(Ok(_)) => Err(ApiError::new(Kind::Internal, "the tokenizer lost a text")),
        };
        let rows = if characters <= AT_ONCE {
            tokenize()?
        } else {
            self.heavy(tokenize).await??
        };
        let tokens = self.check_lengths(&rows, truncate)?;
        let tokenized = start.elapsed();
        let rows = rows.into_iter().map(|row| row.ids).collect();
        let answer = self.batcher.submit(rows).await?;
        Ok(Embedded {
            vectors: answer.vectors,
            tokens,
            tokenized,
            waited: answer.waited,
            computed: answer.computed,
        })
    }

    /// Runs blocking work beside the requests, a core's worth each at a time. A panic is an error.
    pub(crate) async fn heavy<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let failed = || ApiError::new(Kind::Internal, "the work failed");
        let place = Arc::clone(&self.heavy)
            .acquire_owned()
            .await
            .map_err(|_| failed())?;
        let work = move || {
            let outcome = work();
            drop(place);
            outcome
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| failed())
    }

    /// Checks the number of texts and of their characters, or cuts them; returns the characters.
    fn check_texts(&self, texts: &mut [String], truncate: bool) -> Result<usize, ApiError> {
        let limits = &self.config.limits;
        if texts.is_empty() {
            return Err(ApiError::new(Kind::Invalid, "expected at least one text"));
        }
        if texts.len() > limits.inputs {
            let (limit, found) = (limits.inputs, texts.len());
            let message = format!("expected at most {limit} texts, found {found}");
            return Err(ApiError::new(Kind::TooLarge, message));
        }
        let mut characters = 0;
        for (index, text) in texts.iter_mut().enumerate() {
            if text.is_empty() {
                let message = format!("text {index} is empty");
                return Err(ApiError::new(Kind::Invalid, message));
            }
            if let Some((end, _)) = text.char_indices().nth(limits.characters) {
                if !truncate {
                    let message = format!(
                        "text {index}: expected at most {} characters, found {}; \
                         \"truncate\": true cuts it",
                        limits.characters,
                        text.chars().count()
                    );
                    return Err(ApiError::new(Kind::TooLarge, message));
                }
                text.truncate(end);
            }
            characters += text.len();
        }
        Ok(characters)
    }

    /// Checks that nothing was cut without being asked for; returns the tokens.
    fn check_lengths(&self, rows: &[Tokenized], truncate: bool) -> Result<usize, ApiError> {
        let limit = self.batcher.info().max_tokens;
        let too_long = rows
            .iter()
            .enumerate()
            .find(|(_, row)| row.full_length > limit || row.ids.len() > limit);
        if let Some((index, row)) = too_long
            && (!truncate || row.ids.len() > limit)
        {
            let message = format!(
                "text {index}: the model takes {limit} tokens, found {}; \"truncate\": true cuts it",
                row.full_length
            );
            return Err(ApiError::new(Kind::TooLarge, message));
        }
        Ok(rows.iter().map(|row| row.ids.len()).sum())
    }
}
