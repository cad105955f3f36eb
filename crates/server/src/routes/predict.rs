//! Categories of texts.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use categories::{CategoryError, CategoryId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::body::JsonBody;
use crate::error::{ApiError, Kind};
use crate::taxonomy::{Taxonomy, View};
use crate::texts::Texts;

/// Request of `/predict`. Unknown fields are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PredictRequest {
    /// A text or up to 32 texts.
    texts: Texts,
    /// Consider only the categories of this coarse class.
    #[serde(default)]
    coarse: Option<String>,
    /// Cut texts that are too long in place of refusing them.
    #[serde(default)]
    truncate: bool,
}

/// Response of `/predict`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PredictResponse {
    /// Revision of the categories that all predictions of this response come from.
    revision: u64,
    /// One a text, in their order.
    predictions: Vec<Prediction>,
}

/// The category of a text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Prediction {
    /// Never changes its meaning.
    id: u32,
    /// Name at this revision.
    name: String,
    /// Coarse class of the category, if it has one.
    coarse: Option<String>,
    /// Cosine between the text and the centroid.
    cosine: f32,
    /// Share of the category in a softmax over the cosines, 0 to 1.
    confidence: f32,
    /// The text is farther from every centroid than texts of known categories are; always false
    /// where the run was not calibrated.
    unknown: bool,
    /// The next category.
    runner_up: Option<RunnerUp>,
}

/// The next category of a text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunnerUp {
    id: u32,
    name: String,
    cosine: f32,
}

/// The categories of a server, if it has any.
pub(crate) fn taxonomy(app: &App) -> Result<&Arc<Taxonomy>, ApiError> {
    app.taxonomy.as_ref().ok_or_else(|| {
        let message = "the server has no categories; start it with --run RUN";
        ApiError::new(Kind::NotFound, message)
    })
}

/// Name of a category, or nothing for an id that does not exist.
pub(crate) fn name(view: &View, id: CategoryId) -> String {
    view.catalogue
        .get(id)
        .map(|category| category.name.clone())
        .unwrap_or_default()
}

/// The nearest category of each text, with confidence and a sign for texts that fit none.
#[utoipa::path(
    post, path = "/predict", tag = "categories", request_body = PredictRequest,
    responses((status = 200, description = "Predictions", body = PredictResponse))
)]
pub(crate) async fn predict(
    State(app): State<Arc<App>>,
    body: JsonBody<PredictRequest, true>,
) -> Result<Response, ApiError> {
    let request = body.value;
    let view = taxonomy(&app)?.view();
    let unusable = |error: CategoryError| {
        tracing::error!(%error, "no prediction");
        ApiError::new(Kind::Internal, "the categories cannot be used")
    };
    let gate = match &request.coarse {
        Some(name) => Some(view.assigner.gate(name).map_err(|error| {
            let known = view.catalogue.coarse_names.join(", ");
            let message = format!("coarse: {error} (coarse classes: {known})");
            ApiError::new(Kind::Invalid, message)
        })?),
        None => None,
    };
    let embedded = app.embed(request.texts.0, request.truncate).await?;
    let timing = embedded.timing();
    let mut predictions = Vec::with_capacity(embedded.vectors.len());
    for vector in &embedded.vectors {
        let found = match gate {
            Some(gate) => view.assigner.assign_in(vector, gate),
            None => view.assigner.assign(vector),
        }
        .map_err(unusable)?;
        predictions.push(Prediction {
            id: found.id.0,
            name: name(&view, found.id),
            coarse: view
                .catalogue
                .get(found.id)
                .and_then(|category| category.coarse.clone()),
            cosine: found.cosine,
            confidence: found.confidence,
            unknown: found.unknown,
            runner_up: found.runner_up.map(|next| RunnerUp {
                id: next.id.0,
                name: name(&view, next.id),
                cosine: next.cosine,
            }),
        });
    }
    let response = PredictResponse {
        revision: view.catalogue.revision,
        predictions,
    };
    Ok((timing, Json(response)).into_response())
}
