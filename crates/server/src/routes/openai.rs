//! Routes as OpenAI has them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::inference::cut;
use crate::app::App;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::texts::Texts;

/// Request of `/v1/embeddings`. Unknown fields, such as `user`, are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct EmbeddingsRequest {
    /// A text or up to 32 texts; lists of token ids are refused.
    input: Texts,
    /// Any name: the server has one model, whose name is in the response.
    #[serde(default)]
    #[expect(dead_code, reason = "documented and checked to be a text, not used")]
    model: Option<String>,
    /// `float` (default) or `base64`, little-endian 32-bit floats.
    #[serde(default)]
    encoding_format: Encoding,
    /// Keep the first dimensions only, scaled to unit length again.
    #[serde(default)]
    dimensions: Option<usize>,
    /// Cut texts that are too long in place of refusing them; not part of OpenAI's API.
    #[serde(default)]
    truncate: bool,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encoding {
    /// A list of numbers.
    #[default]
    Float,
    /// Little-endian 32-bit floats in base64.
    Base64,
}

/// Response of `/v1/embeddings`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingsResponse {
    /// Always `list`.
    object: &'static str,
    /// One entry a text, in their order.
    data: Vec<Embedding>,
    /// Name of the model.
    model: String,
    /// Tokens.
    usage: Usage,
}

/// A vector.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Embedding {
    /// Always `embedding`.
    object: &'static str,
    /// Which text.
    index: usize,
    /// The vector in the encoding asked for.
    embedding: Vector,
}

/// A vector in one of the encodings.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Vector {
    /// `float`.
    Numbers(Vec<f32>),
    /// `base64`.
    Base64(String),
}

impl Vector {
    fn new(numbers: Vec<f32>, encoding: Encoding) -> Self {
        match encoding {
            Encoding::Float => Self::Numbers(numbers),
            Encoding::Base64 => {
                let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
                Self::Base64(STANDARD.encode(bytes))
            }
        }
    }
}

/// Tokens of a request, special tokens included.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// Vectors of texts, as OpenAI's API gives them.
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "vectors", request_body = EmbeddingsRequest,
    responses((status = 200, description = "Vectors", body = EmbeddingsResponse))
)]
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    body: JsonBody<EmbeddingsRequest, true>,
) -> Result<Response, ApiError> {
    let request = body.value;
    let dimensions = cut(&app, request.dimensions)?;
    let embedded = app.embed(request.input.0, request.truncate).await?;
    let timing = embedded.timing();
    let response = EmbeddingsResponse {
        object: "list",
        data: embedded
            .vectors
            .into_iter()
            .enumerate()
            .map(|(index, vector)| Embedding {
                object: "embedding",
                index,
                embedding: Vector::new(dimensions.apply(vector), request.encoding_format),
            })
            .collect(),
        model: app.batcher.info().id.clone(),
        usage: Usage {
            prompt_tokens: embedded.tokens,
            total_tokens: embedded.tokens,
        },
    };
    Ok((timing, Json(response)).into_response())
}

/// Response of `/v1/models`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelsResponse {
    /// Always `list`.
    object: &'static str,
    /// The one model of the server.
    data: Vec<Model>,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Model {
    id: String,
    /// Always `model`.
    object: &'static str,
    /// Always 0: not known.
    created: u64,
    /// Always `asterism`.
    owned_by: &'static str,
}

/// The model of the server.
#[utoipa::path(
    get, path = "/v1/models", tag = "vectors",
    responses((status = 200, description = "The model", body = ModelsResponse))
)]
pub(crate) async fn models(State(app): State<Arc<App>>) -> Json<ModelsResponse> {
    Json(ModelsResponse {
        object: "list",
        data: vec![Model {
            id: app.batcher.info().id.clone(),
            object: "model",
            created: 0,
            owned_by: "asterism",
        }],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    #[test]
    fn base64_is_little_endian_floats() {
        let Vector::Base64(text) = Vector::new(vec![1.0, -2.0], Encoding::Base64) else {
            panic!("not base64");
        };
        assert_eq!(text, "AACAPwAAAMA=");
    }
}
