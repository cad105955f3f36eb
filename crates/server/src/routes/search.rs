//! Texts of the run.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::predict::name;
use crate::app::App;
use crate::body::JsonBody;
use crate::corpus::to_unit;
use crate::error::{ApiError, Kind};

/// Request of `/search`. Unknown fields are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct SearchRequest {
    /// What to look for.
    query: String,
    /// Number of results, 1 to 100.
    #[serde(default = "ten")]
    k: usize,
    /// Cut a query that is too long in place of refusing it.
    #[serde(default)]
    truncate: bool,
}

fn ten() -> usize {
    10
}

/// Response of `/search`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchResponse {
    /// Best first; equal cosines by row.
    results: Vec<Found>,
}

/// A text of the run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Found {
    /// Row in `members.jsonl`, from 0.
    row: usize,
    text: String,
    /// Broad label of the text, if it has one.
    coarse: Option<String>,
    /// Category of the text as the categories are now.
    category: Option<FoundCategory>,
    cosine: f32,
}

/// Category of a text found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FoundCategory {
    id: u32,
    name: String,
}

/// The texts of the run that are most similar to a query, by exact cosine.
#[utoipa::path(
    post, path = "/search", tag = "categories", request_body = SearchRequest,
    responses((status = 200, description = "Texts, best first", body = SearchResponse))
)]
pub(crate) async fn search(
    State(app): State<Arc<App>>,
    body: JsonBody<SearchRequest, true>,
) -> Result<Response, ApiError> {
    let request = body.value;
    let Some(corpus) = app.corpus.clone() else {
        let message = "the server has no texts to search; start it with --run RUN";
        return Err(ApiError::new(Kind::NotFound, message));
    };
    let most = app.config.limits.results;
    if !(1..=most).contains(&request.k) {
        let message = format!("k: expected 1 to {most}, found {}", request.k);
        return Err(ApiError::new(Kind::Invalid, message));
    }
    let mut embedded = app.embed(vec![request.query], request.truncate).await?;
    let timing = embedded.timing();
    let view = app.taxonomy.as_ref().map(|taxonomy| taxonomy.view());
    let Some(mut query) = embedded.vectors.pop() else {
        return Err(ApiError::new(Kind::Internal, "the model gave no vector"));
    };
    to_unit(&mut query);
    let scan = move || {
        let hits = corpus.nearest(&query, request.k);
        let found = hits.into_iter().filter_map(|hit| {
            let (text, vector) = corpus.row(hit.row)?;
            let category = view.as_ref().and_then(|view| {
                let id = view.catalogue.resolve(text.category, Some(vector))?;
                Some(FoundCategory {
                    id: id.0,
                    name: name(view, id),
                })
            });
            Some(Found {
                row: hit.row,
                text: text.text.clone(),
                coarse: text.coarse.clone(),
                category,
                cosine: hit.cosine.clamp(-1.0, 1.0),
            })
        });
        found.collect()
    };
    let results = app.heavy(scan).await?;
    Ok((timing, Json(SearchResponse { results })).into_response())
}
