//! The routes.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use crate::app::App;
use crate::error::{ApiError, Kind};
use crate::guard::observe;

pub(crate) mod categories;
pub(crate) mod inference;
pub(crate) mod openai;
pub(crate) mod predict;
pub(crate) mod search;
pub(crate) mod system;

/// All routes behind the layer that every request passes.
pub(crate) fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/models", get(openai::models))
        .route("/embed", post(inference::embed))
        .route("/similarity", post(inference::similarity))
        .route("/predict", post(predict::predict))
        .route("/search", post(search::search))
        .route("/categories", get(categories::list))
        .route("/categories/merge", post(categories::merge))
        .route("/categories/undo", post(categories::undo))
        .route("/categories/{id}", get(categories::one))
        .route("/categories/{id}/rename", post(categories::rename))
        .route("/health/live", get(system::live))
        .route("/health/ready", get(system::ready))
        .route("/info", get(system::info))
        .route("/metrics", get(system::metrics))
        .route("/openapi.json", get(system::openapi))
        .route("/docs", get(system::docs))
        .route("/explorer", get(system::explorer))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(app), observe))
        .with_state(Arc::clone(app))
}

async fn unknown() -> ApiError {
    ApiError::new(Kind::NotFound, "no such path; /docs lists the routes")
}

async fn wrong_method(request: Request) -> ApiError {
    let message = format!("this path does not take {}", request.method());
    ApiError::new(Kind::Method, message)
}
