//! Health, figures, documents and pages.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::{ApiError, Kind};

/// Response of the health routes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthBody {
    /// `live` or `ready`.
    status: &'static str,
}

/// Whether the process answers; needs no key.
#[utoipa::path(
    get, path = "/health/live", tag = "operation",
    responses((status = 200, description = "The process answers", body = HealthBody))
)]
pub(crate) async fn live() -> Json<HealthBody> {
    Json(HealthBody { status: "live" })
}

/// Whether new requests should be sent here; needs no key. 503 before the warm-up batch, while a
/// failed model is made anew, and from the moment the server is told to stop.
#[utoipa::path(
    get, path = "/health/ready", tag = "operation",
    responses((status = 200, description = "New requests are welcome", body = HealthBody))
)]
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<Json<HealthBody>, ApiError> {
    match app.health.unready() {
        None => Ok(Json(HealthBody { status: "ready" })),
        Some(reason) => Err(ApiError::new(Kind::Unavailable, reason).retry_after(1)),
    }
}

/// Response of `/info`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InfoBody {
    /// Version of the server.
    version: &'static str,
    /// Name of the model.
    model_id: String,
    /// SHA-256 of the weights, if known.
    model_sha256: Option<String>,
    /// Dimensions of a vector.
    dimensions: usize,
    /// Longest text in tokens.
    max_input_length: usize,
    /// Most tokens computed at once.
    max_batch_tokens: usize,
    /// Most texts in a request.
    max_client_batch_size: usize,
    /// Most characters in a text.
    max_characters: usize,
    /// Most bytes in a body.
    max_body_bytes: usize,
    /// Active categories; null without a run.
    categories: Option<usize>,
    /// Revision of the categories; null without a run.
    revision: Option<u64>,
    /// Texts that can be searched; null without a run.
    texts: Option<usize>,
}

/// Model, limits and what is loaded.
#[utoipa::path(
    get, path = "/info", tag = "operation",
    responses((status = 200, description = "Model and limits", body = InfoBody))
)]
pub(crate) async fn info(State(app): State<Arc<App>>) -> Json<InfoBody> {
    let model = app.batcher.info().clone();
    let limits = &app.config.limits;
    let view = app.taxonomy.as_ref().map(|taxonomy| taxonomy.view());
    Json(InfoBody {
        version: env!("CARGO_PKG_VERSION"),
        model_id: model.id,
        model_sha256: model.sha256,
        dimensions: model.dim,
        max_input_length: model.max_tokens,
        max_batch_tokens: app.config.max_batch_tokens,
        max_client_batch_size: limits.inputs,
        max_characters: limits.characters,
        max_body_bytes: limits.body_bytes,
        categories: view.as_ref().map(|view| view.catalogue.active().count()),
        revision: view.as_ref().map(|view| view.catalogue.revision),
        texts: app.corpus.as_ref().map(|corpus| corpus.len()),
    })
}

/// Figures for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "OpenMetrics text", body = String,
        content_type = "application/openmetrics-text"))
)]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let ready = app.health.unready().is_none();
    app.metrics.ready.set(i64::from(ready));
    let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, media)], app.metrics.text()).into_response()
}

/// This description.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operation",
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
pub(crate) async fn openapi(State(app): State<Arc<App>>) -> Response {
    let media = "application/json";
    ([(header::CONTENT_TYPE, media)], app.openapi.clone()).into_response()
}

/// A page about the routes, without requests to elsewhere.
#[utoipa::path(
    get, path = "/docs", tag = "pages",
    responses((status = 200, description = "A page", body = String, content_type = "text/html"))
)]
pub(crate) async fn docs(State(app): State<Arc<App>>) -> Response {
    let policy = [(header::CONTENT_SECURITY_POLICY, app.docs.policy.clone())];
    (policy, Html(app.docs.html.clone())).into_response()
}

/// The explorer: map, categories and their correction.
#[utoipa::path(
    get, path = "/explorer", tag = "pages",
    responses((status = 200, description = "A page", body = String, content_type = "text/html"))
)]
pub(crate) async fn explorer(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let Some(page) = app.page.clone() else {
        let message = "the server has no run to explore; start it with --run RUN";
        return Err(ApiError::new(Kind::NotFound, message));
    };
    let html = app.heavy(move || page()).await?.map_err(|error| {
        tracing::error!(%error, "no page");
        ApiError::new(Kind::Internal, "the page cannot be made")
    })?;
    // The page brings a strict policy of its own, which has to name its scripts; this is what a
    // page cannot say itself.
    let policy = [(header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'")];
    Ok((policy, Html(html)).into_response())
}
