//! Routes as text-embeddings-inference has them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::JsonBody;
use crate::corpus::{dot, to_unit};
use crate::error::{ApiError, Kind};
use crate::texts::Texts;

/// What is done to a vector before it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut(Option<usize>);

impl Cut {
    pub(crate) fn apply(self, mut vector: Vec<f32>) -> Vec<f32> {
        if let Some(dimensions) = self.0 {
            vector.truncate(dimensions);
            to_unit(&mut vector);
        }
        vector
    }
}

/// Checks a number of dimensions that a client asks for.
pub(crate) fn cut(app: &App, dimensions: Option<usize>) -> Result<Cut, ApiError> {
    let dim = app.batcher.info().dim;
    match dimensions {
        Some(found) if !(1..=dim).contains(&found) => Err(ApiError::new(
            Kind::Invalid,
            format!("dimensions: expected 1 to {dim}, found {found}"),
        )),
        dimensions => Ok(Cut(dimensions)),
    }
}

/// Request of `/embed`. Unknown fields are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct EmbedRequest {
    /// A text or up to 32 texts.
    inputs: Texts,
    /// Scale vectors to unit length (default: true); false: as the model gives them.
    #[serde(default = "yes")]
    normalize: bool,
    /// Cut texts that are too long in place of refusing them.
    #[serde(default)]
    truncate: Option<bool>,
    /// Only `Right`, the end of the text, can be cut.
    #[serde(default)]
    #[expect(dead_code, reason = "only one value is accepted")]
    truncation_direction: Option<Direction>,
    /// Not available; anything but null is refused.
    #[serde(default)]
    prompt_name: Option<String>,
    /// Keep the first dimensions only, scaled to unit length again.
    #[serde(default)]
    dimensions: Option<usize>,
}

/// Which end of a text is cut.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub(crate) enum Direction {
    /// The end.
    #[serde(alias = "right")]
    Right,
}

fn yes() -> bool {
    true
}

/// Vectors of texts, as text-embeddings-inference gives them.
#[utoipa::path(
    post, path = "/embed", tag = "vectors", request_body = EmbedRequest,
    responses((status = 200, description = "One vector a text, in their order", body = Vec<Vec<f32>>))
)]
pub(crate) async fn embed(
    State(app): State<Arc<App>>,
    body: JsonBody<EmbedRequest, true>,
) -> Result<Response, ApiError> {
    let request = body.value;
    let dimensions = cut(&app, request.dimensions)?;
    no_prompt(request.prompt_name.as_ref())?;
    let truncate = request.truncate.unwrap_or(false);
    let embedded = app.embed(request.inputs.0, truncate).await?;
    let timing = embedded.timing();
    let finish = |vector: Vec<f32>| {
        let mut vector = dimensions.apply(vector);
        if request.normalize {
            to_unit(&mut vector);
        }
        vector
    };
    let vectors: Vec<Vec<f32>> = embedded.vectors.into_iter().map(finish).collect();
    Ok((timing, Json(vectors)).into_response())
}

/// A prompt that is silently left out would give other vectors than asked for.
fn no_prompt(name: Option<&String>) -> Result<(), ApiError> {
    match name {
        Some(_) => Err(ApiError::new(
            Kind::Invalid,
            "prompt_name: not available; put the prompt in front of the texts",
        )),
        None => Ok(()),
    }
}

/// Request of `/similarity`. Unknown fields are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct SimilarityRequest {
    inputs: SimilarityInputs,
    /// How texts are treated.
    #[serde(default)]
    parameters: Option<SimilarityParameters>,
}

/// Texts of a [`SimilarityRequest`].
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct SimilarityInputs {
    /// The text that all others are compared with.
    source_sentence: String,
    /// Up to 31 texts.
    sentences: Vec<String>,
}

/// Settings of a [`SimilarityRequest`].
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct SimilarityParameters {
    /// Cut texts that are too long in place of refusing them.
    #[serde(default)]
    truncate: Option<bool>,
    /// Only `Right`, the end of the text, can be cut.
    #[serde(default)]
    #[expect(dead_code, reason = "only one value is accepted")]
    truncation_direction: Option<Direction>,
    /// Not available; anything but null is refused.
    #[serde(default)]
    prompt_name: Option<String>,
}

/// Cosines between a text and others, as text-embeddings-inference gives them.
#[utoipa::path(
    post, path = "/similarity", tag = "vectors", request_body = SimilarityRequest,
    responses((status = 200, description = "One cosine a sentence, in their order", body = Vec<f32>))
)]
pub(crate) async fn similarity(
    State(app): State<Arc<App>>,
    body: JsonBody<SimilarityRequest, true>,
) -> Result<Response, ApiError> {
    let SimilarityRequest { inputs, parameters } = body.value;
    let parameters = parameters.unwrap_or_default();
    no_prompt(parameters.prompt_name.as_ref())?;
    if inputs.sentences.is_empty() {
        let message = "sentences: expected at least one text";
        return Err(ApiError::new(Kind::Invalid, message));
    }
    // The source is text 0 in errors, the sentences follow.
    let texts = [vec![inputs.source_sentence], inputs.sentences].concat();
    let truncate = parameters.truncate.unwrap_or(false);
    let mut embedded = app.embed(texts, truncate).await?;
    let timing = embedded.timing();
    for vector in &mut embedded.vectors {
        to_unit(vector);
    }
    let cosines: Vec<f32> = match embedded.vectors.split_first() {
        Some((source, others)) => others
            .iter()
            .map(|other| dot(source, other).clamp(-1.0, 1.0))
            .collect(),
        None => Vec::new(),
    };
    Ok((timing, Json(cosines)).into_response())
}
